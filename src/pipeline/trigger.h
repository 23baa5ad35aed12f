#pragma once
/* Does an event start a workflow? A pure function of the plan and the event; when not, it says
 * which filter refused, as text for the user. Source: GitHub's documentation of `on`. */
#include "pipeline/plan.h"

struct trigger_event {
    const char *name;         /* "push", "pull_request", … */
    const char *type;         /* activity type, or NULL: any */
    const char *branch;       /* push: the branch; workflow_run: the branch of that run */
    const char *tag;          /* push of a tag */
    const char *base_branch;  /* pull_request, merge_group: the branch that it goes into */
    const char *workflow;     /* workflow_run: name of the workflow that ran */
    const char *const *paths; /* changed files, from the repository's root; NULL: not known */
    size_t n_paths;
};
struct trigger_verdict {
    bool runs;
    const char
        *filter; /* "on", "types", "branches", "tags", "paths", … that refused; NULL when it runs */
    struct span at; /* of that filter */
    char why[600];  /* "`branches` (main) does not match feature/x" */
};
struct trigger_verdict trigger_match(const struct plan *p, const struct trigger_event *ev);
