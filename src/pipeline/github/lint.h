#pragma once
/* Shared by the parts of the linter: lint.c (the walk, comments), lint_expr.c (types of
 * expressions), lint_rules.c (values), audit.c (security). */
#include "expr/ast.h"
#include "pipeline/github/types.h"
#include "pipeline/lint.h"

struct lint {
    const struct plan *p;
    const struct lint_options *o;
    struct diags *d;
    struct arena a;
    /* The contexts of the job at hand; NULL: not made yet. */
    const struct plan_job *job;
    const struct ty *needs, *matrix, *inputs, *secrets, *jobs, *dispatch;
    struct ty *steps;                    /* of the whole job, in order */
    const struct plan_step **step_order; /* which each of them is */
};
/* hint NULL: the rule's own mend. */
void lint_warn(struct lint *l, struct span at, const char *code, const char *hint, const char *fmt,
               ...) _printf_(5, 6);
const struct action_meta *lint_action(struct lint *l, const char *uses);
const struct plan *lint_called(struct lint *l, const struct text *uses);

/* The place of a part of an expression. */
struct span lint_place(const struct plan_expr *e, const struct expr_node *n);
/* What text of an outsider the expression's value can hold ("github.event.issue.title"), or NULL. */
const char *audit_untrusted(struct lint *l, const struct expr_node *n);

void lint_exprs(struct lint *l);
void lint_values(struct lint *l);
void audit_plan(struct lint *l);
/* Whether the action `name` ("owner/repo") is what `uses` names. */
bool uses_is(const struct text *uses, const char *name);
/* Calls fn for each step of a job, those of parallel groups too. */
void lint_steps(struct lint *l, const struct plan_job *j,
                void (*fn)(struct lint *l, const struct plan_job *j, const struct plan_step *s));
