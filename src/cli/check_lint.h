#pragma once
/* What `slipway check` adds to GitHub's own errors: the linter with the actions and workflows that
 * were found, and what .slipway.yml lets pass. */
#include "cli/called.h"
#include "cli/pins.h"
#include "pipeline/lint.h"

struct check_lint {
    struct called *called;
    struct pins *pins;         /* actions of other repositories */
    const struct config *conf;
    bool no_audit;
    struct arena arena;
    struct check_action {
        char *name; /* file or `uses` */
        const struct action_meta *meta;
    } *actions;
    size_t n, cap;
};
/* What is wrong with check.ignore goes to d. */
void check_lint_init(struct check_lint *c, const struct config *conf, struct diags *d);
void check_lint_done(struct check_lint *c);
void check_lint(struct check_lint *c, const struct plan *p, struct diags *d);
/* Prints what a code means, or lists all; exit code. */
int check_explain(const char *code);
