/* Composite actions: their steps in a scope of their own. The action's inputs are the scope's
 * `inputs`, the env of the step that uses it is around theirs, their results count only there: the
 * step fails when one of them did. Source: actions/runner CompositeActionHandler. */
#include "run/action.h"

static int outputs(struct jobx *x, struct step *s, struct err *e) {
    const struct github_action *def = s->action->def;
    _cleanup_arena_ struct arena a = {0};
    struct ctx c;
    step_ctx(x, &c, &a);
    for (size_t i = 0; i < def->n_outputs; i++) {
        struct sv v;
        if (!def->outputs[i].value.s)
            continue;
        int r = ctx_string(&c, &def->outputs[i].value, "", &v, e);
        if (r < 0)
            return r;
        step_set_output(x, s, sv_n(def->outputs[i].key.s, def->outputs[i].key.n), v);
    }
    return 0;
}

int action_composite(struct jobx *x, struct step *s, double minutes, struct err *e) {
    struct scope *outer = x->scope, *sc = s->sub;
    sc->inputs = s->inputs;
    sc->env = s->own;
    sc->status = OUT_SUCCESS;
    sc->deadline_ns = step_deadline(x, minutes);
    x->scope = sc;
    for (size_t i = 0; i < sc->n; i++)
        step_one(x, &sc->steps[i]);
    x->cur = NULL;
    int r = outputs(x, s, e);
    x->scope = outer;
    x->cur = s;
    bool cancelled = atomic_load(&x->leg->cancel) > 0;
    s->outcome = sc->status == OUT_FAILURE ? OUT_FAILURE : cancelled ? OUT_CANCELLED : OUT_SUCCESS;
    if (s->outcome == OUT_FAILURE)
        s->code = 1;
    return r;
}
