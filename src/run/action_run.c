/* The stages of an action: inputs from `with` and the defaults of action.yml, main, and the pre and
 * post steps around the job's. A post step is due as soon as a stage of its action has started; post
 * steps run last one first, those of a composite action's actions included. Source: actions/runner
 * ActionRunner, its handlers, and RegisterPostJobStep. */
#include "run/action.h"

#include "core/fs.h"

/* --- inputs ------------------------------------------------------------------------------------- */

static void unexpected(struct jobx *x, const struct action *act, const struct value *with) {
    _cleanup_buf_ struct buf bad = BUF_SMALL, good = BUF_SMALL;
    const struct github_action *def = act->def;
    for (size_t i = 0; i < with->n; i++) {
        struct sv k = with->keys[i];
        bool docker = def->kind == ACTION_DOCKER && (sv_ieqs(k, "entrypoint") || sv_ieqs(k, "args"));
        if (!docker && !github_action_input(def, k))
            buf_addf(&bad, "%s'" SV_FMT "'", bad.n ? ", " : "", SV_ARG(k));
    }
    for (size_t i = 0; i < def->n_inputs; i++)
        buf_addf(&good, "%s'%s'", i ? ", " : "", def->inputs[i].name);
    if (def->kind == ACTION_DOCKER)
        buf_addf(&good, "%s'entryPoint', 'args'", good.n ? ", " : "");
    if (bad.n) {
        _cleanup_free_ char *t = xasprintf("Unexpected input(s) %s, valid inputs are [%s]", buf_str(&bad), buf_str(&good));
        jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_WARNING, .text = sv_from(t)});
    }
}

static void deprecated(struct jobx *x, const struct action *act, const struct value *with) {
    for (size_t i = 0; i < act->def->n_inputs; i++) {
        const struct action_input *in = &act->def->inputs[i];
        if (!in->deprecation || !val_gets(with, in->name))
            continue;
        _cleanup_free_ char *t = xasprintf("Input '%s' has been deprecated with message: %s", in->name, in->deprecation);
        jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_WARNING, .text = sv_from(t)});
    }
}

/* What was given, then the defaults of what was not; kept for the post step. */
static int inputs(struct jobx *x, struct step *s, struct ctx *c, struct err *e) {
    struct value *with, *all = val_object(x->a);
    const struct github_action *def = s->action->def;
    int r = ctx_map(c, &s->ps->with, false, &with, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < with->n; i++)
        val_set(x->a, all, arena_sv(x->a, with->keys[i]), val_string(x->a, with->items[i]->str));
    for (size_t i = 0; def && i < def->n_inputs; i++) {
        const struct action_input *in = &def->inputs[i];
        struct sv v;
        if (val_gets(all, in->name))
            continue;
        if (!in->dflt.s && def->kind != ACTION_COMPOSITE)
            continue;
        if ((r = ctx_string(c, &in->dflt, "", &v, e)) < 0)
            return r;
        val_set(x->a, all, sv_from(in->name), val_string(x->a, v));
    }
    if (def && !s->inputs) { /* told once, by the first stage */
        unexpected(x, s->action, with);
        deprecated(x, s->action, with);
    }
    s->inputs = all;
    return 0;
}

void action_env(struct jobx *x, struct step *s, const struct value *own, struct strv *ret) {
    step_env(x, s, own, ret);
    for (size_t i = 0; s->inputs && i < s->inputs->n; i++) {
        struct sv k = s->inputs->keys[i];
        _cleanup_free_ char *name = xasprintf("INPUT_" SV_FMT, SV_ARG(k)), *value = sv_dup(s->inputs->items[i]->str);
        for (char *p = name + 6; *p; p++)
            *p = *p == ' ' ? '_' : *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
        if (!strchr(name, '='))
            strv_env_set(ret, name, value);
    }
    for (size_t i = 0; i < s->state.n; i++) {
        struct sv v, k = env_split(s->state.v[i], &v);
        _cleanup_free_ char *name = xasprintf("STATE_" SV_FMT, SV_ARG(k));
        strv_env_set(ret, name, v.p);
    }
}

int action_exec(struct jobx *x, struct step *s, const char *const *argv, struct strv *env, const char *cwd, double minutes, struct err *e) {
    char key[33];
    random_id(key, 32);
    int code = 1, r = step_files_make(x, key, env, e);
    if (r < 0)
        return r;
    struct exec_spec es = {.argv = argv, .envp = (const char *const *)env->v, .cwd = cwd, .user = x->user, .deadline_ns = step_deadline(x, minutes)};
    enum exec_end end = EXEC_EXITED;
    r = jobx_exec(x, &es, &code, &end, e);
    output_end(x->out);
    step_files_take(x, key);
    if (r >= 0)
        step_conclude(x, s, code, end, minutes);
    return r;
}

/* --- post ----------------------------------------------------------------------------------------- */

static bool has_stage(const struct action *a, enum action_stage stage) {
    const struct github_action *d = a ? a->def : NULL;
    if (!d)
        return false;
    const struct text *t = stage == STAGE_PRE ? (d->kind == ACTION_NODE ? &d->pre : &d->pre_entrypoint)
                                              : (d->kind == ACTION_NODE ? &d->post : &d->post_entrypoint);
    return d->kind != ACTION_COMPOSITE && t->s && t->n;
}

static void post_push(struct jobx *x, struct step *s) {
    s->posted = true;
    struct post *p = xcalloc(1, sizeof *p);
    p->step = s;
    p->next = x->posts;
    x->posts = p;
}

static void post_due(struct jobx *x, struct step *s) {
    if (!s->posted && has_stage(s->action, STAGE_POST))
        post_push(x, s);
}

void action_post_native(struct jobx *x, struct step *s, const struct value *with, native_post_fn fn, const char *cond) {
    s->inputs = val_clone(x->a, with);
    s->native_post = fn;
    if (cond)
        s->post_cond = (struct text){.s = cond, .n = strlen(cond)};
    if (!s->posted)
        post_push(x, s);
}

static int stage(struct jobx *x, struct step *s, enum action_stage st, double minutes, struct err *e) {
    const struct github_action *def = s->action->def;
    if (def && def->kind == ACTION_NODE)
        return action_node(x, s, st, minutes, e);
    if (def && def->kind == ACTION_COMPOSITE)
        return action_composite(x, s, minutes, e);
    return action_docker(x, s, st, minutes, e);
}

static int run_pre(struct jobx *x, struct step *s, struct err *e) { return stage(x, s, STAGE_PRE, 0, e); }
static int run_post(struct jobx *x, struct step *s, struct err *e) {
    if (!s->native_post)
        return stage(x, s, STAGE_POST, 0, e);
    int r = s->native_post(x, s, e);
    output_end(x->out);
    s->outcome = r < 0 || s->code ? OUT_FAILURE : OUT_SUCCESS;
    return r;
}

void actions_post(struct jobx *x) {
    while (x->posts) {
        struct post *p = x->posts;
        x->posts = p->next;
        step_extra(x, p->step, "Post", p->step->native_post ? &p->step->post_cond : &p->step->action->def->post_if, run_post);
        free(p);
    }
}

/* --- main ------------------------------------------------------------------------------------------ */

static int native(struct jobx *x, struct step *s, struct ctx *c, struct err *e) {
    struct value *with;
    int r = ctx_map(c, &s->ps->with, false, &with, e);
    if (r < 0)
        return r;
    struct value *in = val_object(c->a); /* inputs: names without regard to case, values trimmed */
    for (size_t i = 0; i < with->n; i++)
        val_set(c->a, in, with->keys[i], val_string(c->a, sv_trim(with->items[i]->str)));
    r = s->native(x, s, in, e);
    output_end(x->out);
    if (r >= 0 && s->outcome == OUT_CANCELLED)
        return 0; /* concluded by the process that it ran */
    if (r >= 0)
        s->outcome = s->code ? OUT_FAILURE : OUT_SUCCESS;
    else if (atomic_load(&x->leg->cancel) > x->cancel_seen) {
        s->outcome = OUT_CANCELLED;
        return 0;
    }
    return r;
}

int action_main(struct jobx *x, struct step *s, struct ctx *c, const struct value *own, double minutes, struct err *e) {
    int r;
    if (s->native)
        return native(x, s, c, e);
    if (!s->action && (r = action_local(x, s, e)) < 0)
        return e && e->at.line ? r : err_at(e, r, s->ps->uses.at);
    if ((r = inputs(x, s, c, e)) < 0)
        return r;
    s->own = own ? val_clone(x->a, own) : NULL;
    post_due(x, s);
    return stage(x, s, STAGE_MAIN, minutes, e);
}

/* --- pre -------------------------------------------------------------------------------------------- */

static bool any_pre(const struct step *s) {
    if (has_stage(s->action, STAGE_PRE))
        return true;
    for (size_t i = 0; s->sub && i < s->sub->n; i++)
        if (any_pre(&s->sub->steps[i]))
            return true;
    return false;
}

/* A pre step sees what can be known before the first step: its own env and inputs. */
static void pre_one(struct jobx *x, struct step *s) {
    _cleanup_arena_ struct arena a = {0};
    struct ctx c;
    struct err e = {0};
    struct value *own = NULL;
    if (!any_pre(s))
        return;
    x->cur = s;
    x->scope = s->scope;
    step_ctx(x, &c, &a);
    int r = ctx_map(&c, &s->ps->env, false, &own, &e);
    if (r >= 0) {
        step_ctx_env(x, &c, &a, own);
        r = inputs(x, s, &c, &e);
    }
    x->scope = &x->top;
    if (r < 0) {
        jobx_error(x, &e);
        x->status = x->top.status = OUT_FAILURE;
        return;
    }
    s->own = val_clone(x->a, own);
    if (s->sub) {
        s->sub->inputs = s->inputs;
        s->sub->env = s->own;
        for (size_t i = 0; i < s->sub->n; i++)
            pre_one(x, &s->sub->steps[i]);
        return;
    }
    post_due(x, s);
    step_extra(x, s, "Pre", &s->action->def->pre_if, run_pre);
}

void actions_pre(struct jobx *x) {
    for (size_t i = 0; i < x->top.n; i++)
        pre_one(x, &x->top.steps[i]);
}
