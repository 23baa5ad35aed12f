/* What both dialects share: the plan's life and look-ups. Its JSON is plan_json.c's. */
#include "pipeline/plan.h"

#include "core/map.h"
#include "expr/expr.h"

void plan_free(struct plan *p) {
    if (!p)
        return;
    free(p->exprs);
    struct arena a = p->arena; /* most of the plan lies in it */
    arena_done(&a);
    free(p);
}

void plan_freep(struct plan **p) {
    plan_free(*p);
}

const struct plan_job *plan_job_find(const struct plan *p, const char *id) {
    for (size_t i = 0; id && i < p->n_jobs; i++)
        if (p->jobs[i].id && strcasecmp(p->jobs[i].id, id) == 0)
            return &p->jobs[i];
    return NULL;
}

const struct plan_trigger *plan_trigger_find(const struct plan *p, const char *event) {
    for (size_t i = 0; event && i < p->n_triggers; i++)
        if (streq(p->triggers[i].event, event))
            return &p->triggers[i];
    return NULL;
}

/* --- names of secrets and variables ----------------------------------------------------------- */

struct names {
    struct arena arena;
    struct map seen; /* "secrets.NAME" */
    struct span at;
    void (*fn)(void *arg, const char *context, const char *name, struct span at);
    void *arg;
};

static void note_use(void *arg, struct sv name, struct sv property) {
    struct names *n = arg;
    const char *context = sv_ieqs(name, "secrets") ? "secrets"
                          : sv_ieqs(name, "vars")  ? "vars"
                                                   : NULL;
    if (!context || !property.n)
        return;
    const char *key = arena_printf(&n->arena, "%s." SV_FMT, context, SV_ARG(property));
    if (map_gets(&n->seen, key))
        return;
    map_sets(&n->seen, key, n);
    n->fn(n->arg, context, strchr(key, '.') + 1, n->at);
}

static int note_expr(void *arg, struct sv x, size_t offset) {
    struct names *n = arg;
    struct expr *parsed;
    if (expr_parse(&n->arena, x, NULL, &parsed, NULL) == 0)
        expr_uses(parsed, note_use, n);
    return 0;
}

/* Every scalar of the file, in order: the plan's own texts are among them. `condition`: an
 * expression without ${{ }}. */
static void note_tree(struct names *n, const struct yaml_node *node, bool condition) {
    if (node->kind == YAML_SCALAR) {
        n->at = node->at;
        if (sv_find(node->text, SV("${{")) >= 0)
            template_each(node->text, note_expr, n, NULL);
        else if (condition)
            note_expr(n, sv_trim(node->text), 0);
        return;
    }
    for (size_t i = 0; i < node->n; i++)
        note_tree(n, node->items[i], node->kind == YAML_MAP && yaml_is(node->keys[i], "if"));
}

void plan_names(const struct plan *p,
                void (*fn)(void *arg, const char *context, const char *name, struct span at),
                void *arg) {
    struct names n = {.fn = fn, .arg = arg, .seen = {.nocase = true}};
    if (p->dialect == DIALECT_GITHUB && p->root)
        note_tree(&n, p->root, false);
    map_done(&n.seen);
    arena_done(&n.arena);
}
