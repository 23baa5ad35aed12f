#pragma once
/* What `slipway check` adds to GitHub's own errors: the linter with the actions and workflows that
 * were found, and what .slipway.yml lets pass. */
#include "cli/called.h"
#include "cli/pins.h"
#include "pipeline/lint.h"

#include <pthread.h>

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
    pthread_mutex_t lock; /* around what files share: called workflows, actions */
};
/* What is wrong with check.ignore goes to d. */
void check_lint_init(struct check_lint *c, const struct config *conf, struct diags *d);
void check_lint_done(struct check_lint *c);
/* A called workflow (github_load_fn); arg is the struct check_lint. From any thread. */
const struct plan *check_called(void *arg, const struct plan *from, const struct text *uses,
                                struct diags *d);
/* From any thread. */
void check_lint(struct check_lint *c, const struct plan *p, struct diags *d);
/* Prints what a code means, or lists all; exit code. */
int check_explain(const char *code);
