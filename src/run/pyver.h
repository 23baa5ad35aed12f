#pragma once
/* Python versions and the ranges that actions/setup-python takes: exact ("3.11.4"), partial
 * ("3.11", "3"), x-ranges ("3.x"), comparators (">=3.9 <3.12"), "~3.10", "^3.9", hyphen ranges
 * ("3.9 - 3.11"), alternatives ("||"), "3.13-dev". Source: node-semver's range grammar. */
#include "core/str.h"

struct pyver {
    unsigned major, minor, patch;
    char pre[16]; /* "", "a1", "b2", "rc1" */
};
/* "3.11.4", "3.12.0rc1", "3.12.0-rc.1"; missing parts are 0. False when it is no version. */
bool pyver_parse(struct sv s, struct pyver *ret);
int pyver_cmp(const struct pyver *a, const struct pyver *b);
/* Does v satisfy the range? -EINVAL when the range cannot be read. A pre-release satisfies only
 * when allow_pre, or when the range itself names a pre-release. */
int pyver_match(struct sv range, const struct pyver *v, bool allow_pre);
void pyver_format(const struct pyver *v, struct buf *b);
