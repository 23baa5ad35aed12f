#pragma once
/* Regular expressions (PCRE2, whose dialect holds that of JavaScript as problem matchers use it).
 * Patterns and subjects may be hostile: matching is bounded in steps and memory, a subject need
 * not be valid UTF-8. */
#include "core/err.h"
#include "core/str.h"

struct regex;
int regex_new(struct regex **ret, const char *pattern, struct err *e); /* ERR_CONFIG: does not compile */
void regex_free(struct regex *re);
unsigned regex_groups(const struct regex *re); /* capturing groups */
/* 1 and groups[0..n) (p NULL: took no part), 0 no match, -ELOOP the bound was reached. */
int regex_match(struct regex *re, struct sv s, struct sv *groups, size_t n);
