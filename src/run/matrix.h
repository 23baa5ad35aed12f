#pragma once
/* strategy.matrix: the legs of a job. Ordered cross product (the first key varies slowest), then
 * exclude (partial match), then include (merged into each original combination whose own keys it
 * does not overwrite, else a combination of its own). Source: GitHub's workflow syntax reference,
 * "jobs.<job_id>.strategy.matrix". */
#include "core/err.h"
#include "expr/value.h"

#define MATRIX_MAX 256u
struct matrix {
    const struct value **legs; /* objects, in the arena */
    size_t n;
};
/* `v` is the evaluated matrix, an object. Without any vector and include: no legs (n = 0). Errors:
 * ERR_CONFIG, with GitHub's wording where it is known. */
int matrix_expand(struct arena *a, const struct value *v, struct matrix *ret, struct err *e);
/* Keeps only legs that agree with filters "key:value"; of one key any value will do; a key that
 * the leg lacks keeps it. */
void matrix_filter(struct arena *a, struct matrix *m, const struct strv *filters);
/* "3.11, ubuntu-latest": what stands in parentheses after a job's name. */
void matrix_label(const struct value *leg, struct buf *b);
