#pragma once
/* action.yml: the metadata of an action. Read along the same table as a workflow, with all errors in
 * one pass; what the runner takes loosely (unknown keys beside inputs, outputs and runs) is taken so
 * here. Source: GitHub's documentation "Metadata syntax", action_yaml.json of actions/runner. */
#include "pipeline/plan.h"

enum action_kind { ACTION_NODE, ACTION_DOCKER, ACTION_COMPOSITE };
struct action_input {
    const char *name;
    struct span at;
    const char *description, *deprecation; /* or NULL */
    struct text required, dflt;            /* dflt.s NULL: none */
};
struct github_action {
    struct plan *base;          /* its arena holds everything; file and source */
    struct text name, description;
    struct action_input *inputs; size_t n_inputs;
    struct text_pair *outputs; size_t n_outputs; /* value.s NULL: not composite */
    enum action_kind kind;
    unsigned node;              /* 12, 16, 20, 24 */
    struct span runs_at;
    struct text using, main, pre, post, pre_if, post_if;
    struct text image, entrypoint, pre_entrypoint, post_entrypoint;
    struct text_list args;
    struct text_map env;
    struct plan_step *steps; size_t n_steps;
};
/* 0, or -EBADMSG when d has errors (*ret NULL then). */
int github_action_read(const char *file, struct sv text, struct github_action **ret, struct diags *d);
void github_action_free(struct github_action *a);
const struct action_input *github_action_input(const struct github_action *a, struct sv name); /* any case; or NULL */
