#pragma once
/* Types of expressions, for checks: what a value of a workflow can be before it is known. An
 * object is strict (no other properties than those listed) or has a type for the rest. Types are
 * immutable and live in the arena they were made in, or for ever. */
#include "core/arena.h"
#include "core/json.h"
#include "pipeline/plan.h"

enum ty_kind { TY_ANY, TY_NULL, TY_BOOL, TY_NUMBER, TY_STRING, TY_ARRAY, TY_OBJECT };
struct ty {
    enum ty_kind kind;
    bool filtered;         /* an array made by .* */
    const struct ty *elem; /* array: its items; object: other properties; NULL: strict */
    const struct ty_prop {
        const char *name;
        const struct ty *type;
    } *props;
    size_t n;
};
extern const struct ty ty_any, ty_null, ty_bool, ty_number, ty_string, ty_strings, ty_anything;

/* ty_strings: an object of strings; ty_anything: an object of anything. */
struct ty *ty_object(struct arena *a, size_t cap); /* strict, empty; ty_add fills it */
void ty_add(struct ty *object, const char *name, const struct ty *type);
const struct ty *ty_array(struct arena *a, const struct ty *elem, bool filtered);
/* The type of a property, or NULL when a strict object has none. Names know no case. */
const struct ty *ty_prop(const struct ty *object, struct sv name);
/* What is one or the other. */
const struct ty *ty_union(struct arena *a, const struct ty *x, const struct ty *y);
const struct ty *ty_of_json(struct arena *a, const struct json *j);
const struct ty *ty_of_yaml(struct arena *a, const struct yaml_node *n);
const char *ty_name(const struct ty *t); /* "string", "array", … */
/* "a, b, c and 2 more": the names of a strict object. */
void ty_list(const struct ty *object, struct buf *b);

/* The contexts that look the same everywhere. NULL: not one of those. */
const struct ty *ty_context(struct sv name);
