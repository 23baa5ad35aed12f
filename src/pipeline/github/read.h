#pragma once
/* Shared by the parts of the reader: read.c (the table), scalar.c (values and expressions), check.c
 * (what the table cannot say). */
#include "expr/expr.h"
#include "pipeline/github/schema.h"
#include "pipeline/plan.h"

struct reader {
    struct plan *plan;
    struct arena *a, scratch;
    struct diags *d;
    struct github_limits lim;
    size_t errors;
    bool fatal; /* nothing more can be said about the file */
};
void read_error(struct reader *r, struct span at, const char *code, const char *fmt, ...)
    _printf_(4, 5);
enum scalar_kind { S_NULL, S_BOOL, S_NUMBER, S_STRING, S_EXPR, S_INSERT };
struct scalar {
    enum scalar_kind kind;
    bool flag;
    struct sv s; /* as a string; of an expression the whole text */
    const struct yaml_node *node;
};
/* names: the N_* that an expression may name. */
struct scalar scalar_read(struct reader *r, const struct yaml_node *n, unsigned names);
/* Whether it is what the definition wants; reports it when not. */
bool scalar_fits(struct reader *r, const struct scalar *s, const struct def *d, unsigned names);
void scalar_unexpected(struct reader *r, const struct scalar *s);
/* Checks a condition that is an expression without ${{ }}. */
void scalar_condition(struct reader *r, const struct scalar *s, unsigned names);
struct text scalar_text(const struct scalar *s);

/* Ids, needs, cycles, containers, filters, …; completes the plan (kinds of steps, generated ids).
 */
void check_plan(struct reader *r);
