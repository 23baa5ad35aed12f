/* The steps of a job, one after another: environment, `if`, name, the work, the result. A step
 * stands in a scope (jobx.h): the job's, or that of a composite action, whose steps are run by the
 * same functions with that scope as the current one. */
#include "run/action.h"
#include "run/held.h"

/* --- contexts ------------------------------------------------------------------------------ */

const struct value *steps_value(struct jobx *x, struct arena *a) {
    if (x->steps_then && !x->scope->owner)
        return x->steps_then;
    struct value *o = val_object(a);
    for (size_t i = 0; i < x->scope->n; i++) {
        struct step *s = &x->scope->steps[i];
        if (s == x->cur || !s->id || s->ps->id_generated || background_hidden(s) || s->outcome == OUT_NONE)
            continue;
        struct value *one = val_object(a);
        val_sets(a, one, "outputs", s->outputs);
        val_set_str(a, one, "outcome", outcome_name(s->outcome));
        val_set_str(a, one, "conclusion", outcome_name(s->conclusion));
        val_sets(a, o, s->id, one);
    }
    return o;
}

static const char *status_name(const struct jobx *x, enum outcome status) {
    if (atomic_load(&x->leg->cancel))
        return "cancelled";
    return status == OUT_FAILURE ? "failure" : "success";
}

static void github_of_action(struct arena *a, struct value *g, const struct action *act) {
    val_set_str(a, g, "action_path", act->dir ? act->dir : "");
    val_set_str(a, g, "action_repository", act->repo ? act->repo : "");
    val_set_str(a, g, "action_ref", act->ref ? act->ref : "");
}

void step_ctx(struct jobx *x, struct ctx *c, struct arena *a) {
    ctx_init(c, a);
    ctx_leg(c, x->leg);
    c->in_step = true;
    c->hash_files = step_hash_files;
    c->hash_arg = x;
    c->status = x->scope->status;
    c->cancelled = atomic_load(&x->leg->cancel) > 0;
    struct value *g = val_object(a);
    for (size_t i = 0; i < x->github->n; i++)
        val_set(a, g, x->github->keys[i], x->github->items[i]);
    val_set_str(a, g, "action", x->cur ? x->cur->id : "");
    val_set_str(a, g, "action_status", status_name(x, x->scope->status));
    if (x->scope->action)
        github_of_action(a, g, x->scope->action);
    ctx_set(c, "github", g);
    struct value *job = val_object(a);
    val_set_str(a, job, "status", status_name(x, x->status));
    for (size_t i = 0; x->job_ctx && i < x->job_ctx->n; i++)
        val_set(a, job, x->job_ctx->keys[i], x->job_ctx->items[i]);
    ctx_set(c, "job", job);
    ctx_set(c, "runner", x->runner);
    ctx_set(c, "secrets", x->secrets);
    if (x->scope->inputs)
        ctx_set(c, "inputs", x->scope->inputs);
    step_ctx_env(x, c, a, x->scope->env);
    ctx_set(c, "steps", steps_value(x, a));
}

void step_ctx_env(struct jobx *x, struct ctx *c, struct arena *a, const struct value *env) {
    const struct value *have = ctx_from_env(a, &x->env);
    if (!env || !env->n) {
        ctx_set(c, "env", have);
        return;
    }
    struct value *all = val_object(a);
    for (size_t i = 0; i < have->n; i++)
        val_set(a, all, have->keys[i], have->items[i]);
    for (size_t i = 0; i < env->n; i++)
        val_set(a, all, env->keys[i], env->items[i]);
    ctx_set(c, "env", all);
}

void step_env(struct jobx *x, struct step *s, const struct value *own, struct strv *ret) {
    jobx_env(x, own, ret);
    if (x->bitbucket)
        return;
    strv_env_set(ret, "GITHUB_ACTION", s->id);
    const struct action *act = s->action && !s->sub ? s->action : x->scope->action;
    if (x->scope->action)
        strv_env_set(ret, "GITHUB_ACTION_PATH", x->scope->action->dir);
    strv_env_set(ret, "GITHUB_ACTION_REPOSITORY", act && act->repo ? act->repo : "");
    strv_env_set(ret, "GITHUB_ACTION_REF", act && act->ref ? act->ref : "");
}

/* --- native actions -------------------------------------------------------------------------- */

native_fn native_find(const char *uses) {
    static const struct { const char *name; native_fn fn; } table[] = {
        {"actions/checkout@", action_checkout},
        {"actions/setup-python@", action_setup_python},
        {"actions/setup-node@", action_setup_node},
        {"actions/cache@", action_cache},
        {"actions/cache/restore@", action_cache_restore},
        {"actions/cache/save@", action_cache_save},
        {"actions/upload-artifact@", action_upload_artifact},
        {"actions/upload-artifact/merge@", action_merge_artifacts},
        {"actions/download-artifact@", action_download_artifact},
        {"docker/login-action@", action_docker_login},
        {"docker/setup-buildx-action@", action_setup_buildx},
        {"docker/setup-qemu-action@", action_setup_qemu},
        {"docker/metadata-action@", action_docker_metadata},
        {"docker/build-push-action@", action_build_push},
    };
    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (strncasecmp(uses, table[i].name, strlen(table[i].name)) == 0)
            return table[i].fn;
    return NULL;
}

/* --- one step ------------------------------------------------------------------------------ */

static char *title_of(struct ctx *c, const struct plan_step *ps) {
    static const char *const kinds[] = {[STEP_WAIT] = "Wait for background steps", [STEP_WAIT_ALL] = "Wait for all background steps",
                                        [STEP_CANCEL] = "Cancel background step", [STEP_PARALLEL] = "Run in parallel"};
    struct sv s = SV_NULL;
    if (ps->name.s && ctx_string(c, &ps->name, "", &s, NULL) >= 0 && s.n)
        return xstrndup(s.p, MIN(s.n, 300u));
    if (ps->kind == STEP_USES)
        return xasprintf("Run %s", ps->uses.s);
    if (ps->kind != STEP_RUN)
        return xstrdup(kinds[ps->kind]);
    if (ctx_string(c, &ps->run, "", &s, NULL) < 0)
        s = sv_n(ps->run.s, ps->run.n);
    struct sv rest = sv_trim(s), line = SV_NULL;
    sv_line(&rest, &line);
    return xasprintf("Run " SV_FMT, (int)MIN(line.n, 200u), line.p);
}

/* A step of an action is a group of the step that uses it. */
static void told(struct jobx *x, const struct step *s) {
    if (x->scope->owner)
        jobx_emit(x, &(struct event){.kind = EV_GROUP, .text = sv_from(s->title)});
    else
        jobx_emit(x, &(struct event){.kind = EV_STEP_START, .text = sv_from(s->title), .at = s->ps->at});
}

static void told_end(struct jobx *x, const struct step *s, uint64_t dur) {
    if (x->scope->owner)
        jobx_emit(x, &(struct event){.kind = EV_GROUP});
    else
        jobx_emit(x, &(struct event){.kind = EV_STEP_END, .name = s->title, .code = s->code,
                                     .outcome = s->held && s->outcome != OUT_FAILURE ? OUT_HELD : s->outcome,
                                     .detail = s->conclusion != s->outcome ? outcome_name(s->conclusion) : NULL, .dur_ns = dur});
}

static void skip(struct jobx *x, struct step *s, enum outcome o) {
    s->outcome = s->conclusion = o;
    if (!x->scope->owner)
        told_end(x, s, 0);
}

static void failed(struct jobx *x, struct step *s) {
    x->scope->status = OUT_FAILURE;
    if (x->scope->owner)
        return;
    x->status = OUT_FAILURE;
    if (!x->is_background && !x->leg->reason) /* else told when it is waited for */
        leg_fail(x->leg, OUT_FAILURE, "%s", s->title);
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
    if (s->conclusion == OUT_FAILURE)
        failed(x, s);
    told_end(x, s, now_mono() - t0);
}

static int work(struct jobx *x, struct step *s, struct ctx *c, const struct value *own, double minutes, struct err *e) {
    switch (s->ps->kind) {
    case STEP_RUN:
        return step_script(x, s, c, own, minutes, e);
    case STEP_USES:
        return step_held(x, s, c) ? 0 : action_main(x, s, c, own, minutes, e);
    case STEP_WAIT:
    case STEP_WAIT_ALL:
        return background_wait(x, s);
    case STEP_CANCEL:
        return background_cancel(x, s);
    case STEP_PARALLEL:
        return background_parallel(x, s, e);
    }
    return err_set(e, ERR_INTERNAL, -EINVAL, "a step of no kind");
}

/* The step's env over that of the scope. */
static int own_env(struct jobx *x, struct step *s, struct ctx *c, const struct value **ret, struct err *e) {
    struct value *own;
    int r = ctx_map(c, &s->ps->env, false, &own, e);
    if (r < 0)
        return r;
    if (!x->scope->env) {
        *ret = own;
        return 0;
    }
    struct value *all = val_object(c->a);
    const struct value *parts[] = {x->scope->env, own};
    for (size_t p = 0; p < 2; p++)
        for (size_t i = 0; i < parts[p]->n; i++)
            val_set(c->a, all, parts[p]->keys[i], parts[p]->items[i]);
    *ret = all;
    return 0;
}

void step_one(struct jobx *x, struct step *s) {
    struct err e = {0};
    if (!s->ps->background) {
        step_body(x, s);
        return;
    }
    x->cur = s;
    if (background_start(x, s, &e) < 0) {
        jobx_error(x, &e);
        s->outcome = s->conclusion = OUT_FAILURE;
        failed(x, s);
    }
    x->cur = NULL;
}

void step_body(struct jobx *x, struct step *s) {
    const struct plan_step *ps = s->ps;
    _cleanup_arena_ struct arena a = {0};
    struct ctx c;
    struct err e = {0}, env_err = {0};
    const struct value *own = NULL;
    bool go = false;
    double minutes = 0;
    uint64_t t0 = now_mono();
    x->cur = s;
    x->commands_echo = false;
    x->cancel_seen = MIN(atomic_load(&x->leg->cancel), 1);
    step_ctx(x, &c, &a);
    int r_env = own_env(x, s, &c, &own, &env_err);
    if (r_env >= 0)
        step_ctx_env(x, &c, &a, own);
    free(s->title);
    s->title = title_of(&c, ps);
    if (atomic_load(&x->leg->cancel) > 1) {
        skip(x, s, OUT_CANCELLED);
        return;
    }
    int r = ctx_if(&c, &ps->if_, &go, &e);
    if (r >= 0 && !go) {
        skip(x, s, OUT_SKIPPED);
        return;
    }
    told(x, s);
    if (r >= 0 && (r = r_env) < 0)
        e = env_err;
    if (r >= 0)
        r = ctx_number(&c, &ps->timeout_minutes, 0, &minutes, &e);
    enum run_go go_on = r >= 0 ? step_stop(x, s, own, false) : RUN_GO_ON;
    do {
        s->outcome = OUT_NONE;
        s->code = 0;
        if (go_on == RUN_STOP)
            s->outcome = OUT_CANCELLED;
        else if (r >= 0)
            r = work(x, s, &c, own, minutes, &e);
        x->cur = s;
        if (r < 0) {
            s->outcome = OUT_FAILURE;
            s->code = s->code ? s->code : 1;
            jobx_error(x, &e);
        }
        go_on = s->outcome == OUT_FAILURE ? step_stop(x, s, own, true) : RUN_GO_ON;
        r = 0;
    } while (go_on == RUN_REPEAT);
    finish(x, s, &c, t0);
}

void step_extra(struct jobx *x, struct step *s, const char *word, const struct text *cond,
                int (*fn)(struct jobx *x, struct step *s, struct err *e)) {
    _cleanup_arena_ struct arena a = {0};
    struct step extra = {.ps = s->ps, .no = ++x->last_no, .id = s->id, .scope = s->scope, .action = s->action,
                         .inputs = s->inputs, .own = s->own, .native_post = s->native_post, .outputs = val_object(&a), .state = s->state};
    struct scope *scope = x->scope;
    struct ctx c;
    struct err e = {0};
    bool go = true;
    uint64_t t0 = now_mono();
    const char *title = s->title ? s->title : s->ps->name.s && !s->ps->name.expr ? s->ps->name.s : NULL;
    extra.title = title ? xasprintf("%s %s", word, title) : xasprintf("%s Run %s", word, s->ps->uses.s);
    x->cur = &extra;
    x->scope = s->scope;
    x->commands_echo = false;
    x->cancel_seen = MIN(atomic_load(&x->leg->cancel), 1);
    step_ctx(x, &c, &a);
    step_ctx_env(x, &c, &a, s->own);
    c.status = x->status;
    int r = cond && cond->s ? ctx_if(&c, cond, &go, &e) : 0;
    x->scope = &x->top;
    if (atomic_load(&x->leg->cancel) > 1) {
        skip(x, &extra, OUT_CANCELLED);
    } else if (r >= 0 && !go) {
        skip(x, &extra, OUT_SKIPPED);
    } else {
        told(x, &extra);
        x->scope = s->scope;
        if (r >= 0)
            r = fn(x, &extra, &e);
        x->scope = &x->top;
        if (r < 0) {
            extra.outcome = OUT_FAILURE;
            extra.code = extra.code ? extra.code : 1;
            jobx_error(x, &e);
        }
        finish(x, &extra, &c, t0);
    }
    s->state = extra.state; /* a pre step's is its main's */
    free(extra.title);
    x->scope = scope;
    x->cur = NULL;
}

/* --- scopes ---------------------------------------------------------------------------------- */

static void fill_one(struct jobx *x, struct scope *sc, const struct plan_step *ps, bool kid) {
    struct step *s = &sc->steps[sc->n++];
    s->ps = ps;
    s->kid = kid;
    s->no = sc->owner ? sc->owner->no : ++x->last_no;
    s->id = ps->id ? ps->id : "__run";
    s->outputs = val_object(x->a);
    s->scope = sc;
    s->kids = sc->steps + sc->n;
    s->n_kids = ps->n_children;
    for (size_t i = 0; i < ps->n_children; i++)
        fill_one(x, sc, &ps->children[i], true);
}

static size_t count(const struct plan_step *steps, size_t n) {
    size_t all = n;
    for (size_t i = 0; i < n; i++)
        all += count(steps[i].children, steps[i].n_children);
    return all;
}

void scope_fill(struct jobx *x, struct scope *sc, const struct plan_step *steps, size_t n) {
    sc->steps = xcalloc(count(steps, n) + 1, sizeof *sc->steps);
    sc->n = 0;
    sc->status = OUT_SUCCESS;
    for (size_t i = 0; i < n; i++)
        fill_one(x, sc, &steps[i], false);
}

struct scope *scope_new(struct jobx *x, struct step *owner, const struct action *action) {
    struct scope *sc = xcalloc(1, sizeof *sc);
    sc->up = owner->scope;
    sc->owner = owner;
    sc->action = action;
    sc->next = x->scopes;
    x->scopes = sc;
    scope_fill(x, sc, action->def->steps, action->def->n_steps);
    return sc;
}

static void scope_clear(struct scope *sc) {
    for (size_t i = 0; i < sc->n; i++) {
        strv_done(&sc->steps[i].state);
        free(sc->steps[i].title);
    }
    free(sc->steps);
}

void steps_done(struct jobx *x) {
    while (x->posts) {
        struct post *p = x->posts;
        x->posts = p->next;
        free(p);
    }
    while (x->scopes) {
        struct scope *sc = x->scopes;
        x->scopes = sc->next;
        scope_clear(sc);
        free(sc);
    }
    scope_clear(&x->top);
}

/* --- the job's -------------------------------------------------------------------------------- */

void steps_prepare(struct jobx *x) {
    x->scope = &x->top;
    scope_fill(x, &x->top, x->pj->steps, x->pj->n_steps);
}

void steps_run(struct jobx *x) {
    actions_pre(x);
    for (size_t i = 0; i < x->top.n; i++)
        if (!x->top.steps[i].kid)
            step_one(x, &x->top.steps[i]);
    background_end(x);
    actions_post(x);
    x->cur = NULL;
}
