#pragma once
/* Workflow commands: "::name key=value,key=value::data" and the older "##[name key=value;]data".
 * Source: actions/runner ActionCommand. */
#include "core/arena.h"
#include "core/str.h"

struct wcommand {
    struct sv name;
    struct { struct sv key, value; } props[16]; /* values unescaped */
    size_t n_props;
    struct sv data;      /* unescaped */
};
/* Is this line (without its newline) one of the known commands? Strings live in a. */
bool wcommand_parse(struct arena *a, struct sv line, struct wcommand *ret);
struct sv wcommand_prop(const struct wcommand *c, const char *key); /* p NULL when absent */
bool wcommand_known(struct sv name);
/* Offset of the first "::" or "##[" at or after `from`; n when there is none. */
size_t wcommand_scan(const char *p, size_t n, size_t from);
