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
    struct diags conditions; /* found while reading, told with what check.c finds */
    size_t errors;
    /* Where the walk is, for the expressions that it meets. */
    const struct plan_job *job;
    const struct plan_step *step;
    const char *key, *name;
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
/* Place of bytes from..to of a scalar's text, or the scalar's own where it cannot be told. */
struct span scalar_place(const struct yaml_node *n, size_t from, size_t to);

/* Reads the plan's source (r->lim: 0 = GitHub's) along a definition into `base`. The root, or NULL
 * when there is none. */
const struct yaml_node *read_document(struct reader *r, void *base, enum def_id id);

/* Ids and kinds of the steps of a composite action. */
/* Tells r->conditions, in the file's order with what was found from d->items[first] on. */
void check_conditions(struct reader *r, size_t first);
void check_action_steps(struct reader *r, struct plan_step *steps, size_t n, const struct yaml_node *seq);
/* Ids, needs, cycles, containers, filters, …; completes the plan (kinds of steps, generated ids).
 */
void check_plan(struct reader *r);

/* --- values.c: values that are more than their type ------------------------------------------- */
void check_runner_group(struct reader *r, const struct text *t);
void check_container(struct reader *r, const struct plan_container *c, const struct yaml_node *n,
                     bool service);
void check_matrix(struct reader *r, const struct yaml_node *matrix);
void check_concurrency(struct reader *r, const struct plan_concurrency *c);
void check_snapshot(struct reader *r, const struct yaml_node *n);
void check_call_uses(struct reader *r, const struct text *t);
void check_step_uses(struct reader *r, const struct text *t);
/* n: the input's mapping, or NULL. Also sets in->type. */
void check_input(struct reader *r, struct plan_input *in, const struct yaml_node *n, bool call);
/* Owner and repository of "owner/repo[/path]@ref"; false when it is not of that form. */
bool uses_repository(struct sv uses, struct sv *ret_owner, struct sv *ret_repo);
