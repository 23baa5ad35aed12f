#pragma once
/* Variable expansion as Dockerfiles have it: $x ${x} ${x:-w} ${x-w} ${x:+w} ${x+w} ${x:?w} ${x?w}
 * ${x#p} ${x##p} ${x%p} ${x%%p} ${x/p/w} ${x//p/w}; patterns have * and ? only. Quotes and escapes
 * are taken off. Source: https://docs.docker.com/reference/dockerfile/#environment-replacement */
#include "core/arena.h"
#include "core/err.h"

struct expand {
    char escape; /* '\\' or '`' */
    /* Value of a name, or NULL when it is not set. */
    const char *(*get)(void *arg, struct sv name);
    /* Told of names that are not set (may be NULL). */
    void (*unset)(void *arg, struct sv name);
    void *arg;
    bool raw_quotes; /* heredoc text: quotes stay as they are */
};
/* One word. Result in a. Limits: 1 MiB of result, depth 64. ERR_USER kinds with a cause. */
int expand_word(struct arena *a, const struct expand *x, struct sv word, char **ret, struct err *e);
/* The same, split at unquoted blanks (also those that come from values). */
int expand_words(struct arena *a, const struct expand *x, struct sv word, struct strv *ret, struct err *e);
