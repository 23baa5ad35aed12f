#pragma once
/* What is right for GitHub and yet wrong: values that cannot be what an expression takes them for,
 * names that nobody sets, patterns that never match, and what an attacker could use. Findings are
 * warnings with a code; lint_explain tells why each matters and how to mend it. */
#include "pipeline/plan.h"

/* What is known of an action: its inputs and outputs. */
struct known_input {
    const char *name, *deprecated; /* its message, or NULL */
    bool required, has_default;
};
struct action_meta {
    const struct known_input *inputs;
    size_t n_inputs;
    const char *const *outputs;
    size_t n_outputs;
    bool any_outputs; /* not all are known */
    bool docker;      /* takes args and entrypoint */
    const char *problem; /* why it cannot be used, or NULL */
};
struct lint_options {
    bool no_audit; /* leave out what concerns security */
    const char *const *labels; /* of self-hosted runners; NULL-terminated, globs */
    /* The action that `uses` names; NULL: not known. */
    const struct action_meta *(*action)(void *arg, const struct plan *from, const char *uses);
    /* The workflow that `uses` names; NULL: not known. */
    const struct plan *(*called)(void *arg, const struct plan *from, const struct text *uses);
    void *arg;
};
/* The plan is one that was read without errors, from a file whose text is p->source. Findings that
 * a comment of the file suppresses are left out. */
void github_lint(const struct plan *p, const struct lint_options *o, struct diags *d);

struct lint_rule {
    const char *code, *title, *why, *mend;
    bool audit;
};
const struct lint_rule *lint_explain(const char *code); /* NULL: no such code */
const struct lint_rule *lint_rules(size_t *ret_n);

/* Actions that are known without looking: by the name and the version of `uses`. */
const struct action_meta *lint_known_action(const char *uses);
