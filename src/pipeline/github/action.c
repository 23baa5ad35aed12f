/* The reader of action.yml: the table does the walk (read.c), here is what it cannot say: which keys
 * belong to which `using`. */
#include "pipeline/github/action.h"

#include "core/map.h"
#include "pipeline/github/read.h"

void github_action_free(struct github_action *a) {
    if (!a)
        return;
    plan_free(a->base);
    free(a);
}

const struct action_input *github_action_input(const struct github_action *a, struct sv name) {
    for (size_t i = 0; i < a->n_inputs; i++)
        if (sv_ieqs(name, a->inputs[i].name))
            return &a->inputs[i];
    return NULL;
}

static struct span where(const struct github_action *a, const struct text *t) {
    return t->s ? t->at : a->runs_at.line ? a->runs_at : (struct span){.file = a->base->file};
}

static void need(struct reader *r, const struct github_action *a, const struct text *t, const char *key) {
    if (!t->s || !t->n)
        read_error(r, where(a, &a->using), "required", "Required property is missing: %s (runs.using is '%s')", key, a->using.s);
}

static void foreign(struct reader *r, const struct github_action *a, const struct text *t, const char *key) {
    if (t->s)
        read_error(r, t->at, "value", "Unexpected value '%s': not with runs.using '%s'", key, a->using.s);
}

static void check_node(struct reader *r, const struct github_action *a) {
    need(r, a, &a->main, "main");
    const struct text *pre_if = &a->pre_if, *post_if = &a->post_if;
    if (pre_if->s && !a->pre.s)
        diags_add(r->d, DIAG_WARNING, pre_if->at, "value", NULL, "pre-if without pre");
    if (post_if->s && !a->post.s)
        diags_add(r->d, DIAG_WARNING, post_if->at, "value", NULL, "post-if without post");
    foreign(r, a, &a->image, "image");
    foreign(r, a, &a->entrypoint, "entrypoint");
    foreign(r, a, &a->pre_entrypoint, "pre-entrypoint");
    foreign(r, a, &a->post_entrypoint, "post-entrypoint");
    if (a->steps)
        read_error(r, a->steps[0].at, "value", "Unexpected value 'steps': not with runs.using '%s'", a->using.s);
}

static void check_docker(struct reader *r, const struct github_action *a) {
    need(r, a, &a->image, "image");
    foreign(r, a, &a->main, "main");
    foreign(r, a, &a->pre, "pre");
    foreign(r, a, &a->post, "post");
}

static void check_composite(struct reader *r, struct github_action *a, const struct yaml_node *runs) {
    const struct yaml_node *steps = yaml_get(runs, "steps");
    if (!steps)
        read_error(r, where(a, &a->using), "required", "Required property is missing: steps (runs.using is 'composite')");
    foreign(r, a, &a->main, "main");
    foreign(r, a, &a->image, "image");
    check_action_steps(r, a->steps, a->n_steps, steps);
}

static void check(struct reader *r, struct github_action *a, const struct yaml_node *root) {
    static const char *const nodes[] = {"node12", "node16", "node20", "node24"};
    const struct yaml_node *runs = yaml_get(root, "runs");
    const char *using = a->using.s;
    if (!runs || !using)
        return; /* told by the table */
    for (size_t i = 0; i < ELEMENTS(nodes); i++)
        if (strcasecmp(using, nodes[i]) == 0) {
            a->kind = ACTION_NODE;
            a->node = 12 + 4 * (unsigned)i;
            check_node(r, a);
            return;
        }
    if (strcasecmp(using, "docker") == 0) {
        a->kind = ACTION_DOCKER;
        check_docker(r, a);
    } else if (strcasecmp(using, "composite") == 0) {
        a->kind = ACTION_COMPOSITE;
        check_composite(r, a, runs);
    } else {
        read_error(r, a->using.at, "value", "'using: %s' is not supported, use 'docker', 'composite', 'node12', 'node16', 'node20' or 'node24' instead.", using);
    }
}

int github_action_read(const char *file, struct sv text, struct github_action **ret, struct diags *d) {
    size_t before = d->errors, first = d->n;
    struct github_action *a = xcalloc(1, sizeof *a);
    struct plan *p = a->base = xcalloc(1, sizeof *p);
    p->dialect = DIALECT_GITHUB;
    p->file = span_file(file);
    p->source = arena_sv(&p->arena, text);
    struct reader r = {.plan = p, .a = &p->arena, .d = d};
    const struct yaml_node *root = read_document(&r, a, D_ACTION);
    if (root && !r.fatal)
        check(&r, a, root);
    else if (!root && d->errors == before)
        read_error(&r, (struct span){.file = p->file}, "value", "The action's file is empty: it needs `runs`");
    check_conditions(&r, first);
    diags_done(&r.conditions);
    arena_done(&r.scratch);
    if (d->errors > before) {
        github_action_free(a);
        return -EBADMSG;
    }
    *ret = a;
    return 0;
}
