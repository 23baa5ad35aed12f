/* The steps of a job, one after another: environment, `if`, name, the work, the result. */
#include "run/stepx.h"

/* --- contexts ------------------------------------------------------------------------------ */

static const struct value *steps_value(struct jobx *x, struct arena *a) {
    struct value *o = val_object(a);
    for (size_t i = 0; i < x->n_steps; i++) {
        struct step *s = &x->steps[i];
        if (s == x->cur || !s->id || s->ps->id_generated || s->outcome == OUT_NONE)
            continue;
        struct value *one = val_object(a);
        val_sets(a, one, "outputs", s->outputs);
        val_set_str(a, one, "outcome", outcome_name(s->outcome));
        val_set_str(a, one, "conclusion", outcome_name(s->conclusion));
        val_sets(a, o, s->id, one);
    }
    return o;
}

static const char *status_name(const struct jobx *x) {
    if (atomic_load(&x->leg->cancel))
        return "cancelled";
    return x->status == OUT_FAILURE ? "failure" : "success";
}

void step_ctx(struct jobx *x, struct ctx *c, struct arena *a) {
    ctx_init(c, a);
    ctx_leg(c, x->leg);
    c->in_step = true;
    c->status = x->status;
    c->cancelled = atomic_load(&x->leg->cancel) > 0;
    struct value *g = val_object(a);
    for (size_t i = 0; i < x->github->n; i++)
        val_set(a, g, x->github->keys[i], x->github->items[i]);
    val_set_str(a, g, "action", x->cur ? x->cur->id : "");
    val_set_str(a, g, "action_status", status_name(x));
    ctx_set(c, "github", g);
    struct value *job = val_object(a);
    val_set_str(a, job, "status", status_name(x));
    for (size_t i = 0; x->job_ctx && i < x->job_ctx->n; i++)
        val_set(a, job, x->job_ctx->keys[i], x->job_ctx->items[i]);
    ctx_set(c, "job", job);
    ctx_set(c, "runner", x->runner);
    ctx_set(c, "secrets", x->secrets);
    ctx_set(c, "env", ctx_from_env(a, &x->env));
    ctx_set(c, "steps", steps_value(x, a));
}
/* --- uses ---------------------------------------------------------------------------------- */

native_fn native_find(const char *uses) {
    static const struct { const char *name; native_fn fn; } table[] = {
        {"actions/checkout@", action_checkout},
        {"actions/setup-python@", action_setup_python},
    };
    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (strncasecmp(uses, table[i].name, strlen(table[i].name)) == 0)
            return table[i].fn;
    return NULL;
}

static int run_action(struct jobx *x, struct step *s, struct ctx *c, struct err *e) {
    struct value *with;
    native_fn fn = native_find(s->ps->uses.s);
    if (!fn) {
        err_set(e, ERR_FAILED, -ENOSYS, "the action %s is not there yet: so far actions/checkout and actions/setup-python are", s->ps->uses.s);
        return err_at(e, -ENOSYS, s->ps->uses.at);
    }
    int r = ctx_map(c, &s->ps->with, false, &with, e);
    if (r < 0)
        return r;
    struct value *in = val_object(c->a); /* inputs: names without regard to case, values trimmed */
    for (size_t i = 0; i < with->n; i++)
        val_set(c->a, in, with->keys[i], val_string(c->a, sv_trim(with->items[i]->str)));
    r = fn(x, s, in, e);
    output_end(x->out);
    if (r >= 0)
        s->outcome = s->code ? OUT_FAILURE : OUT_SUCCESS;
    else if (atomic_load(&x->leg->cancel) > x->cancel_seen) {
        s->outcome = OUT_CANCELLED;
        return 0;
    }
    return r;
}

/* --- one step ------------------------------------------------------------------------------ */

static char *title_of(struct ctx *c, const struct plan_step *ps) {
    struct sv s = SV_NULL;
    if (ps->name.s && ctx_string(c, &ps->name, "", &s, NULL) >= 0 && s.n)
        return xstrndup(s.p, MIN(s.n, 300u));
    if (ps->kind == STEP_USES)
        return xasprintf("Run %s", ps->uses.s);
    if (ctx_string(c, &ps->run, "", &s, NULL) < 0)
        s = sv_n(ps->run.s, ps->run.n);
    struct sv rest = sv_trim(s), line = SV_NULL;
    sv_line(&rest, &line);
    return xasprintf("Run " SV_FMT, (int)MIN(line.n, 200u), line.p);
}

static void skip(struct jobx *x, struct step *s, enum outcome o) {
    s->outcome = s->conclusion = o;
    jobx_emit(x, &(struct event){.kind = EV_STEP_END, .outcome = o, .name = s->title});
}

static void finish(struct jobx *x, struct step *s, struct ctx *c, uint64_t t0) {
    struct err e = {0};
    bool cont = false;
    if (s->outcome == OUT_SUCCESS && s->failed_by_command)
        s->outcome = OUT_FAILURE;
    s->conclusion = s->outcome;
    if (s->outcome == OUT_FAILURE) {
        if (ctx_bool(c, &s->ps->continue_on_error, false, &cont, &e) < 0)
            jobx_error(x, &e);
        if (cont)
            s->conclusion = OUT_SUCCESS;
    }
    if (s->conclusion == OUT_FAILURE) {
        x->status = OUT_FAILURE;
        if (!x->leg->reason)
            leg_fail(x->leg, OUT_FAILURE, "%s", s->title);
    }
    jobx_emit(x, &(struct event){.kind = EV_STEP_END, .outcome = s->outcome, .name = s->title, .code = s->code,
                                 .detail = s->conclusion != s->outcome ? outcome_name(s->conclusion) : NULL,
                                 .dur_ns = now_mono() - t0});
}

static void one_step(struct jobx *x, struct step *s) {
    const struct plan_step *ps = s->ps;
    _cleanup_arena_ struct arena a = {0};
    struct ctx c;
    struct err e = {0};
    struct value *own = NULL;
    bool go = false;
    double minutes = 0;
    uint64_t t0 = now_mono();
    x->cur = s;
    x->commands_echo = false;
    x->cancel_seen = MIN(atomic_load(&x->leg->cancel), 1);
    step_ctx(x, &c, &a);
    int r = ctx_map(&c, &ps->env, false, &own, &e);
    if (r >= 0 && own->n) {
        struct value *env = val_object(&a);
        const struct value *have = val_gets(c.root, "env");
        for (size_t i = 0; i < have->n; i++)
            val_set(&a, env, have->keys[i], have->items[i]);
        for (size_t i = 0; i < own->n; i++)
            val_set(&a, env, own->keys[i], own->items[i]);
        ctx_set(&c, "env", env);
    }
    struct err env_err = e;
    int r_env = r;
    s->title = title_of(&c, ps);
    if (atomic_load(&x->leg->cancel) > 1) {
        skip(x, s, OUT_CANCELLED);
        return;
    }
    r = ctx_if(&c, &ps->if_, &go, &e);
    if (r >= 0 && !go) {
        skip(x, s, OUT_SKIPPED);
        return;
    }
    jobx_emit(x, &(struct event){.kind = EV_STEP_START, .text = sv_from(s->title), .at = ps->at});
    if (r >= 0 && (r = r_env) < 0)
        e = env_err;
    if (r >= 0)
        r = ctx_number(&c, &ps->timeout_minutes, 0, &minutes, &e);
    if (r >= 0) {
        if (ps->kind == STEP_RUN)
            r = step_script(x, s, &c, own, minutes, &e);
        else if (ps->kind == STEP_USES)
            r = run_action(x, s, &c, &e);
        else {
            err_set(&e, ERR_FAILED, -ENOSYS, "background, wait, cancel and parallel steps are not there yet");
            r = err_at(&e, -ENOSYS, ps->at);
        }
    }
    if (r < 0) {
        s->outcome = OUT_FAILURE;
        s->code = s->code ? s->code : 1;
        jobx_error(x, &e);
    }
    finish(x, s, &c, t0);
}

void steps_run(struct jobx *x) {
    x->steps = xcalloc(x->pj->n_steps + 1, sizeof *x->steps);
    x->n_steps = x->pj->n_steps;
    for (size_t i = 0; i < x->n_steps; i++) {
        struct step *s = &x->steps[i];
        s->ps = &x->pj->steps[i];
        s->no = (unsigned)i + 1;
        s->id = s->ps->id ? s->ps->id : "__run";
        s->outputs = val_object(x->a);
    }
    for (size_t i = 0; i < x->n_steps; i++)
        one_step(x, &x->steps[i]);
    x->cur = NULL;
}
