#pragma once
/* Shared by the parts of the reader: read.c (the table), check.c (what the table cannot say). */
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
void read_error(struct reader *r, struct span at, const char *code, const char *fmt, ...) _printf_(4, 5);
/* Ids, needs, cycles, containers, filters, …; completes the plan (kinds of steps, generated ids). */
void check_plan(struct reader *r);
