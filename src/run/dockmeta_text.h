#pragma once
/* Texts of docker/metadata-action: records of comma-separated values, templates, versions. */
#include "core/arena.h"
#include "core/err.h"
#include "core/str.h"

/* One line of comma-separated fields, "…" around a field, "" inside for a quote. A quote
 * inside a field that does not begin with one is an error unless `relaxed`. */
int meta_csv(struct sv line, bool relaxed, struct strv *out, struct err *e);

/* A template: text with {{name}}, {{name 'argument' tz='Zone'}}, {{{name}}}. fn gives the value of a name
 * (NULL: empty); `args` is the first argument or NULL. What {{ }} gives is escaped for HTML, as handlebars
 * does. */
typedef int (*meta_name_fn)(void *arg, struct sv name, const char *param, const char *tz, struct buf *out, struct err *e);
int meta_template(struct sv text, meta_name_fn fn, void *arg, struct buf *out, struct err *e);
bool meta_is_raw(struct sv text); /* nothing but {{raw}} */
/* moment's format of a time in a zone ("UTC" when NULL or unknown). */
int meta_date(int64_t ns, const char *format, const char *tz, struct buf *out, struct err *e);

struct meta_version {
    const char *raw, *version, *major, *minor, *patch, *prerelease; /* normalised, without build */
    bool pre, post, dev;
};
bool meta_semver(struct arena *a, const char *text, struct meta_version *ret);
bool meta_pep440(struct arena *a, const char *text, struct meta_version *ret);
/* A JavaScript regular expression (nearly: PCRE2) against text; group `n` in a, NULL when there is none.
 * 1 match, 0 none, -EINVAL a bad pattern. flags: "i", "m", "s", "u". */
int meta_match(struct arena *a, const char *pattern, const char *flags, const char *text, unsigned group, const char **ret, bool *ret_group);
/* As localeCompare orders. */
int meta_locale_cmp(const char *a, const char *b);
