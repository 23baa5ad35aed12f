#pragma once
/* Case folding of the expression language: each character by its simple upper-case mapping
 * (Unicode 14), the dotless i excepted, which is nobody's lower case. Texts are UTF-8; a byte that
 * is not part of a valid sequence stands for itself and equals only itself. Order is that of
 * UTF-16 code units, as .NET's OrdinalIgnoreCase and JavaScript have it. */
#include "core/str.h"

/* The next code point (from 0x110000 on: an invalid byte), unfolded; *p < end. */
uint32_t utf8_next(const char **p, const char *end);
uint32_t fold_upper(uint32_t cp);
int fold_cmp(struct sv a, struct sv b);
bool fold_eq(struct sv a, struct sv b);
bool fold_starts(struct sv s, struct sv prefix);
bool fold_ends(struct sv s, struct sv suffix);
bool fold_contains(struct sv s, struct sv part); /* linear time */
uint64_t fold_hash(struct sv s, uint64_t seed);
size_t utf16_len(struct sv s); /* in code units */
