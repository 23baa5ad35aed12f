#pragma once
/* Command-line flags as docker's client reads them (spf13/pflag): --name=value, --name value,
 * -n value, -nvalue, -n=value, grouped boolean shorthands (-it), "--" ends the flags. Uses core/
 * alone: the embedded client and the engine's reader of "docker create options" share it. */
#include "core/err.h"
#include "core/str.h"

enum flag_kind {
    FLAG_BOOL,     /* dst: bool */
    FLAG_STR,      /* dst: const char * (points into argv) */
    FLAG_LIST,     /* dst: struct strv */
    FLAG_INT,      /* dst: int64_t */
    FLAG_SKIP,     /* a boolean that changes nothing here */
    FLAG_SKIP_STR, /* the same with a value */
    FLAG_NOTYET,   /* a boolean that slipway does not have yet: an error that says so */
    FLAG_NOTYET_STR,
};
struct flag {
    const char *name; /* without the dashes; NULL: shorthand only */
    char sh;          /* shorthand, or 0 */
    enum flag_kind kind;
    void *dst;
    bool *given; /* set when the flag was there, or NULL */
};
struct flag_set {
    const struct flag *flags;
    size_t n;
    bool interspersed; /* flags may follow positional arguments */
    bool last_may_lack_value; /* a value missing at the end is "" (docker login -u x -p) */
};
/* Reads argv[0..argc). Positional arguments are added to rest. ERR_USER with docker's own words:
 * "unknown flag: --x". help is set by --help (and then the rest is not read). */
int flags_parse(const struct flag_set *set, int argc, char **argv, struct strv *rest, bool *help,
                struct err *e);
/* Splits a string of options as a shell would (quotes, backslashes; no expansion). */
int words_split(const char *s, struct strv *ret, struct err *e);
/* "512m", "1g", "2048" -> bytes (binary units, as docker's units.RAMInBytes). */
int ram_parse(const char *s, uint64_t *ret);
/* Go's time.ParseDuration: "1h2m3.5s", "500ms", "0"; nanoseconds. */
int duration_parse(const char *s, uint64_t *ret);
