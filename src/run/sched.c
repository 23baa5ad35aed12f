/* The scheduler. It runs on the caller's thread and holds run.mu all the time but while it waits.
 * Each round it moves every job as far as it can go: a waiting job whose needs are done is decided
 * (its `if`, its matrix), a decided one starts legs while there is room, finished legs are merged
 * into their job, finished jobs into their flow, a finished called flow into the leg that called
 * it. When nothing moves it waits for a leg's thread or for a cancel.
 *
 * A leg with steps has a thread of its own (its work blocks) and counts against the limit; a leg
 * that calls a workflow has none. A job thus starts as soon as its own needs allow, whatever other
 * jobs do. */
#include "run/again.h"
#include "run/conc.h"
#include "run/contexts.h"
#include "run/groups.h"
#include "run/matrix.h"

#include <sys/eventfd.h>

static void emit_leg(struct leg *leg, enum event_kind kind, const struct event *more) {
    struct event ev = *more;
    ev.kind = kind;
    ev.run = leg->run->id;
    ev.job = leg->name;
    events_emit(leg->run->rq->events, &ev);
}

void leg_fail(struct leg *leg, enum outcome o, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    struct buf b = BUF_SMALL;
    buf_addv(&b, fmt, ap);
    va_end(ap);
    leg->outcome = o;
    if (!leg->reason)
        leg->reason = buf_take(&b);
    else
        buf_done(&b);
}

static void leg_cancel(struct leg *leg, int how) {
    if (atomic_load(&leg->cancel) < how) {
        atomic_store(&leg->cancel, how);
        uint64_t one = 1;
        ssize_t w = write(leg->cancel_fd, &one, sizeof one);
        (void)w;
    }
    if (leg->sub)
        for (size_t i = 0; i < leg->sub->n_jobs; i++)
            for (size_t k = 0; k < leg->sub->jobs[i].n_legs; k++)
                if (leg->sub->jobs[i].legs[k]->state < LEG_FINISHED)
                    leg_cancel(leg->sub->jobs[i].legs[k], how);
}

static bool flow_cancelled(const struct flow *f) {
    for (; f; f = f->caller)
        if (f->cancelled || (f->leg && atomic_load(&f->leg->cancel)))
            return true;
    return false;
}

static bool cancelled(const struct job *j) {
    return atomic_load(&j->flow->run->cancel) || flow_cancelled(j->flow);
}

/* --- names --------------------------------------------------------------------------------- */

static char *unique_name(struct run *r, const char *want) {
    char *name = xasprintf("%.300s", want);
    for (unsigned i = 2; map_has(&r->names, sv_from(name)); i++) {
        free(name);
        name = xasprintf("%.300s #%u", want, i);
    }
    map_sets(&r->names, name, r);
    return name;
}

static char *leg_title(struct ctx *c, struct leg *leg, struct err *e) {
    const struct plan_job *pj = leg->job->pj;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct sv own = SV_NULL;
    buf_adds(&b, leg->flow->prefix);
    if (ctx_string(c, &pj->name, "", &own, e) < 0)
        own = SV_NULL;
    if (own.n)
        buf_addsv(&b, own);
    else
        buf_adds(&b, pj->id);
    if (!(own.n && pj->name.expr) && leg->matrix->kind == VAL_OBJECT && leg->matrix->n) {
        buf_adds(&b, " (");
        matrix_label(leg->matrix, &b);
        buf_addc(&b, ')');
    }
    for (size_t i = 0; i < b.n; i++)
        if ((unsigned char)b.p[i] < ' ')
            b.p[i] = ' ';
    return unique_name(leg->run, buf_str(&b));
}

/* Told with the names of the legs that it waited for, one a line: of its own needs, or of those of
 * the job that calls its workflow. */
static void queued(struct leg *leg) {
    _cleanup_buf_ struct buf b = BUF_MAX(256u << 10);
    const struct job *j = leg->job;
    while (!j->n_needs && j->flow->leg)
        j = j->flow->leg->job;
    for (size_t i = 0; i < j->n_needs; i++)
        for (size_t k = 0; k < j->needs[i]->n_legs; k++)
            buf_addf(&b, "%s%s", b.n ? "\n" : "", j->needs[i]->legs[k]->name);
    emit_leg(leg, EV_JOB_QUEUED, &(struct event){.text = sv_from(leg->name), .detail = b.n ? buf_str(&b) : NULL});
}

/* --- deciding a job ------------------------------------------------------------------------ */

static struct leg *leg_add(struct job *j, const struct value *matrix, unsigned index) {
    struct leg *leg = xcalloc(1, sizeof *leg);
    leg->run = j->flow->run;
    leg->flow = j->flow;
    leg->job = j;
    leg->index = index;
    leg->matrix = matrix ? val_clone(&leg->arena, matrix) : &val_null;
    leg->born = atomic_load(&leg->run->cancel);
    leg->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    j->legs = xrealloc(j->legs, (j->n_legs + 1) * sizeof *j->legs);
    j->legs[j->n_legs++] = leg;
    return leg;
}

/* A leg that never starts: skipped, or in error before it could. */
static void leg_over(struct leg *leg, enum outcome o, const char *why) {
    leg->outcome = leg->result = o;
    if (why && !leg->reason)
        leg->reason = xstrdup(why);
    leg->state = LEG_DONE;
    conc_free(leg->conc);
    leg->conc = NULL;
    emit_leg(leg, EV_JOB_END, &(struct event){.outcome = o, .detail = leg->reason});
}

static void job_single(struct job *j, enum outcome o, const struct err *why) {
    struct leg *leg = leg_add(j, NULL, 0);
    struct ctx c;
    ctx_init(&c, &leg->arena);
    ctx_leg(&c, leg);
    leg->name = leg_title(&c, leg, NULL);
    queued(leg);
    if (why && why->msg[0] && o != OUT_HELD)
        emit_leg(leg, EV_ANNOTATION, &(struct event){.level = LEVEL_ERROR, .text = sv_from(why->msg), .at = why->at});
    leg_over(leg, o, why && why->msg[0] ? why->msg : NULL);
    j->state = JOB_LEGS;
}

/* Skipped for a reason that is no error. */
static void leg_skip(struct job *j, const char *why) {
    struct leg *leg = leg_add(j, NULL, 0);
    struct ctx c;
    ctx_init(&c, &leg->arena);
    ctx_leg(&c, leg);
    leg->name = leg_title(&c, leg, NULL);
    queued(leg);
    leg_over(leg, OUT_SKIPPED, why);
    j->state = JOB_LEGS;
}

static int strategy(struct job *j, struct ctx *c, struct matrix *m, struct err *e) {
    const struct plan_job *pj = j->pj;
    const struct value *whole = &val_null, *mv = &val_null, *v;
    double max = 0;
    int r;
    j->fail_fast = true;
    if (pj->strategy_whole.s && (r = ctx_value(c, &pj->strategy_whole, &whole, e)) < 0)
        return r;
    if (whole->kind == VAL_OBJECT) {
        if ((v = val_gets(whole, "fail-fast")))
            j->fail_fast = val_truthy(v);
        if ((v = val_gets(whole, "max-parallel")))
            max = val_to_number(v);
        if ((v = val_gets(whole, "matrix")))
            mv = v;
    }
    if ((r = ctx_bool(c, &pj->fail_fast, j->fail_fast, &j->fail_fast, e)) < 0 ||
        (r = ctx_number(c, &pj->max_parallel, max, &max, e)) < 0)
        return r;
    j->max_parallel = max >= 1 && max < 1e6 ? (unsigned)max : 0;
    if (pj->matrix && (r = ctx_tree(c, pj->matrix, &mv, e)) < 0)
        return r;
    if (mv->kind == VAL_NULL)
        return 0;
    if ((r = matrix_expand(c->a, mv, m, e)) < 0)
        return err_at(e, r, pj->matrix ? pj->matrix->at : pj->at);
    return 1;
}

/* condition.changesets: a changed path that is included (or nothing is asked for) and not excluded. */
static bool changes_wanted(const struct plan_bitbucket *bb, const struct strv *changed) {
    for (size_t i = 0; i < changed->n; i++) {
        bool in = !bb->n_include, out = false;
        for (size_t k = 0; k < bb->n_include && !in; k++)
            in = bitbucket_glob(bb->include_paths[k], changed->v[i]);
        for (size_t k = 0; k < bb->n_exclude && !out; k++)
            out = bitbucket_glob(bb->exclude_paths[k], changed->v[i]);
        if (in && !out)
            return true;
    }
    return false;
}

/* Matrix legs share the job's outputs: the last one to finish wins. */
static void merge_outputs(struct leg *leg) {
    struct job *j = leg->job;
    struct run *r = leg->run;
    if (!leg->outputs)
        return;
    struct value *o = val_object(&r->arena);
    for (size_t i = 0; j->outputs && i < j->outputs->n; i++)
        val_set(&r->arena, o, j->outputs->keys[i], j->outputs->items[i]);
    for (size_t i = 0; i < leg->outputs->n; i++)
        val_set(&r->arena, o, leg->outputs->keys[i], val_clone(&r->arena, leg->outputs->items[i]));
    j->outputs = o;
}

/* What it needs, directly or not, and was held back. */
static const struct job *held_need(const struct job *j, unsigned depth) {
    const struct job *h = NULL;
    for (size_t i = 0; i < j->n_needs && !h && depth < 512; i++)
        h = j->needs[i]->result == OUT_HELD ? j->needs[i] : held_need(j->needs[i], depth + 1);
    return h;
}

/* The environment's name decides which variables and secrets the leg has. */
static void set_environment(struct ctx *c, struct leg *leg, struct err *e) {
    struct sv name;
    const struct plan_job *pj = leg->job->pj;
    if (pj->bb && pj->bb->deployment)
        leg->environment = arena_strdup(&leg->arena, pj->bb->deployment);
    else if (ctx_string(c, &pj->environment.name, "", &name, e) >= 0 && name.n)
        leg->environment = arena_strndup(&leg->arena, name.p, name.n);
}

static void decide(struct job *j) {
    struct run *r = j->flow->run;
    _cleanup_arena_ struct arena a = {0};
    struct ctx c;
    struct err e = {0};
    bool go = false;
    ctx_init(&c, &a);
    ctx_job(&c, j);
    c.cancelled = cancelled(j);
    if (j->flow->never) {
        err_set(&e, ERR_CANCELLED, -ECANCELED, "%s", j->flow->never);
        job_single(j, j->selected ? OUT_CANCELLED : OUT_SKIPPED, &e);
        return;
    }
    if (!j->selected) {
        job_single(j, OUT_SKIPPED, NULL);
        return;
    }
    if (ctx_if(&c, &j->pj->if_, &go, &e) < 0) {
        job_single(j, OUT_FAILURE, &e);
        return;
    }
    const struct job *h = go || c.cancelled ? NULL : held_need(j, 0);
    if (h) {
        err_set(&e, ERR_HELD, -EAGAIN, "waits for \"%s\", which was held back", h->pj->id);
        job_single(j, OUT_HELD, &e);
        return;
    }
    if (!go) {
        job_single(j, c.cancelled ? OUT_CANCELLED : OUT_SKIPPED, NULL);
        return;
    }
    struct matrix m = {0};
    int has = strategy(j, &c, &m, &e);
    if (has < 0) {
        job_single(j, OUT_FAILURE, &e);
        return;
    }
    if (has) {
        matrix_filter(&a, &m, &r->rq->matrix);
        if (!m.n) {
            job_single(j, OUT_SKIPPED, NULL);
            return;
        }
    }
    size_t n = has ? m.n : 1;
    const struct plan_bitbucket *bb = j->pj->bb;
    if (bb && (bb->n_include || bb->n_exclude) && r->rq->event.changed && !changes_wanted(bb, r->rq->event.changed)) {
        j->passed_over = true;
        leg_skip(j, "condition.changesets: no changed path is of interest");
        return;
    }
    /* A step that waits for a person is held back, unless it was asked for by name. */
    if (j->pj->bb && j->pj->bb->manual && !strv_contains(&r->rq->jobs, j->pj->id)) {
        err_set(&e, ERR_HELD, -EAGAIN, "trigger: manual; -j %s runs it", j->pj->id);
        job_single(j, OUT_HELD, &e);
        return;
    }
    for (size_t i = 0; i < n; i++)
        leg_add(j, has ? m.legs[i] : NULL, (unsigned)i);
    for (size_t i = 0; i < n; i++) {
        struct leg *leg = j->legs[i];
        struct ctx lc;
        ctx_init(&lc, &leg->arena);
        ctx_leg(&lc, leg);
        set_environment(&lc, leg, &e);
        ctx_leg(&lc, leg);
        leg->name = leg_title(&lc, leg, &e);
        queued(leg);
        if (ctx_bool(&lc, &j->pj->continue_on_error, false, &leg->continue_on_error, &e) < 0)
            leg->continue_on_error = false;
        if (j->pj->bb && j->pj->bb->on_fail == 1)
            leg->continue_on_error = true;
        if (again_leg(leg)) {
            merge_outputs(leg);
            leg_over(leg, OUT_SUCCESS, "kept from the attempt before");
        }
    }
    j->state = JOB_LEGS;
}

/* --- legs ---------------------------------------------------------------------------------- */

static void *leg_main(void *arg) {
    struct leg *leg = arg;
    struct run *r = leg->run;
    r->body(leg);
    pthread_mutex_lock(&r->mu);
    leg->state = LEG_FINISHED;
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->mu);
    return NULL;
}

static int call_inputs(struct leg *leg, const struct plan *plan, struct ctx *c, struct flow *sub, struct err *e) {
    struct value *given, *inputs = val_object(&leg->run->arena);
    struct arena *ra = &leg->run->arena;
    const struct plan_trigger *t = plan_trigger_find(plan, "workflow_call");
    int r = ctx_map(c, &leg->job->pj->call->with, true, &given, e);
    if (r < 0)
        return r;
    for (size_t i = 0; t && i < t->n_inputs; i++) {
        const struct plan_input *in = &t->inputs[i];
        const struct value *v = val_gets(given, in->name);
        if (!v && (r = ctx_value(c, &in->dflt, &v, e)) < 0)
            return r;
        if (in->type == INPUT_BOOLEAN)
            v = val_bool(v->kind == VAL_STRING ? sv_ieqs(v->str, "true") : val_truthy(v));
        else if (in->type == INPUT_NUMBER)
            v = val_number(ra, val_to_number(v) == val_to_number(v) ? val_to_number(v) : 0);
        else
            v = val_string(ra, val_to_string(c->a, v));
        val_sets(ra, inputs, in->name, val_clone(ra, v));
    }
    sub->inputs = inputs;
    return 0;
}

static int call_secrets(struct leg *leg, struct ctx *c, struct flow *sub, struct err *e) {
    const struct plan_call *call = leg->job->pj->call;
    struct value *given;
    if (call->inherit_secrets) {
        for (size_t i = 0; i < leg->flow->secrets.n; i++)
            strv_add(&sub->secrets, leg->flow->secrets.v[i]);
        return 0;
    }
    int r = ctx_map(c, &call->secrets, false, &given, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < given->n; i++) {
        strv_addf(&sub->secrets, SV_FMT "=" SV_FMT, SV_ARG(given->keys[i]), SV_ARG(given->items[i]->str));
        masker_add(leg->run->rq->masker, given->items[i]->str);
    }
    strv_env_set(&sub->secrets, "GITHUB_TOKEN", leg->run->token);
    return 0;
}

static void start_call(struct leg *leg) {
    struct err e = {0};
    struct ctx c;
    leg->state = LEG_RUNNING;
    leg->started_ns = now_mono();
    ctx_init(&c, &leg->arena);
    ctx_leg(&c, leg);
    ctx_set(&c, "secrets", ctx_secrets(leg->flow, c.a));
    const struct origin *o = calls_find(leg->run, leg->flow->origin, leg->job->pj->call->uses.s);
    struct flow *sub = NULL;
    int r = -ENOENT;
    if (!o)
        err_set(&e, ERR_INTERNAL, r, "the called workflow was not read");
    else
        r = flow_new(leg->run, o->plan, o, leg, &sub, &e);
    if (r >= 0)
        r = call_inputs(leg, o->plan, &c, sub, &e);
    if (r >= 0)
        r = call_secrets(leg, &c, sub, &e);
    if (r < 0) {
        if (sub)
            sub->done = true; /* kept in the list, with nothing started */
        emit_leg(leg, EV_ANNOTATION, &(struct event){.level = LEVEL_ERROR, .text = sv_from(e.msg), .at = e.at});
        leg_fail(leg, OUT_FAILURE, "%s", e.msg);
        leg->state = LEG_FINISHED;
        return;
    }
    sub->github = ctx_github(sub, &leg->run->arena);
    leg->sub = sub;
}

static bool start_legs(struct job *j) {
    struct run *r = j->flow->run;
    bool moved = false;
    for (size_t i = 0; i < j->n_legs; i++) {
        struct leg *leg = j->legs[i];
        if (leg->state != LEG_QUEUED)
            continue;
        if (atomic_load(&leg->cancel) || (cancelled(j) && !j->pj->if_.s)) {
            leg_over(leg, OUT_CANCELLED, NULL);
            moved = true;
            continue;
        }
        if ((j->max_parallel && j->running >= j->max_parallel) || (!j->pj->call && r->running >= r->limit))
            break;
        char *over = NULL;
        enum group_state g = group_leg(leg, &over);
        if (g == GROUP_WAIT)
            continue;
        moved = true;
        if (g == GROUP_OVER) {
            leg->reason = over;
            emit_leg(leg, EV_ANNOTATION, &(struct event){.level = LEVEL_ERROR, .text = sv_from(over)});
            leg_over(leg, OUT_CANCELLED, NULL);
            continue;
        }
        j->running++;
        if (j->pj->call) {
            start_call(leg);
            continue;
        }
        r->running++;
        leg->state = LEG_RUNNING;
        leg->started_ns = now_mono();
        int x = pthread_create(&leg->thread, NULL, leg_main, leg);
        leg->has_thread = x == 0;
        if (x) {
            leg_fail(leg, OUT_FAILURE, "no thread: %s", strerror(x));
            leg->state = LEG_FINISHED;
        }
    }
    return moved;
}

/* Bitbucket's fail-fast: the other steps of a parallel group end. */
static void stop_group(struct job *j) {
    const struct plan_bitbucket *bb = j->pj->bb;
    struct flow *f = j->flow;
    if (!bb || !bb->fail_fast || bb->parallel_index < 0)
        return;
    size_t first = (size_t)(j - f->jobs) - (size_t)bb->parallel_index;
    for (size_t i = first; i < f->n_jobs && i < first + (size_t)bb->parallel_count; i++)
        for (size_t k = 0; k < f->jobs[i].n_legs; k++)
            if (f->jobs[i].legs[k]->state < LEG_FINISHED) {
                free(f->jobs[i].legs[k]->cancel_why);
                f->jobs[i].legs[k]->cancel_why = xasprintf("fail-fast: \"%s\" failed", j->pj->id);
                leg_cancel(f->jobs[i].legs[k], 1);
            }
}

static void finish_leg(struct leg *leg) {
    struct job *j = leg->job;
    struct run *r = leg->run;
    if (leg->has_thread) {
        pthread_mutex_unlock(&r->mu);
        pthread_join(leg->thread, NULL);
        pthread_mutex_lock(&r->mu);
        leg->has_thread = false;
    }
    j->running--;
    if (!j->pj->call)
        r->running--;
    if (leg->host_failed)
        r->host_failed = true;
    if (leg->outcome == OUT_NONE)
        leg->outcome = OUT_FAILURE; /* unknown is a failure */
    if (leg->outcome == OUT_CANCELLED && leg->cancel_why && !leg->reason)
        leg->reason = xstrdup(leg->cancel_why);
    leg->result = leg->outcome == OUT_FAILURE && leg->continue_on_error ? OUT_SUCCESS : leg->outcome;
    leg->state = LEG_DONE;
    conc_free(leg->conc);
    leg->conc = NULL;
    merge_outputs(leg);
    emit_leg(leg, EV_JOB_END,
             &(struct event){.outcome = leg->outcome, .detail = leg->reason, .dur_ns = now_mono() - leg->started_ns});
    if (leg->result == OUT_FAILURE)
        stop_group(j);
    if (leg->result == OUT_FAILURE && j->fail_fast)
        for (size_t i = 0; i < j->n_legs; i++)
            if (j->legs[i]->state < LEG_FINISHED)
                leg_cancel(j->legs[i], 1);
}

static enum outcome worse(enum outcome a, enum outcome b) {
    static const int rank[] = {[OUT_NONE] = 0, [OUT_SKIPPED] = 1, [OUT_SUCCESS] = 2, [OUT_UNAVAILABLE] = 3,
                               [OUT_HELD] = 4, [OUT_CANCELLED] = 5, [OUT_FAILURE] = 6};
    return rank[a] >= rank[b] ? a : b;
}

static bool finish_job(struct job *j) {
    enum outcome o = OUT_NONE;
    for (size_t i = 0; i < j->n_legs; i++) {
        if (j->legs[i]->state != LEG_DONE)
            return false;
        enum outcome x = j->legs[i]->result;
        if (x == OUT_UNAVAILABLE && j->flow->run->rq->skip_unavailable)
            x = OUT_SKIPPED;
        o = worse(o, x);
    }
    j->result = o;
    if (!j->outputs)
        j->outputs = val_object(&j->flow->run->arena);
    j->state = JOB_DONE;
    return true;
}

/* outputs of a called workflow, from the `jobs` context. */
static void call_outputs(struct flow *f) {
    struct leg *leg = f->leg;
    const struct plan_trigger *t = plan_trigger_find(f->plan, "workflow_call");
    if (!t || !t->outputs.n)
        return;
    struct ctx c;
    struct err e = {0};
    ctx_init(&c, &leg->arena);
    struct value *jobs = val_object(c.a), *out = val_object(c.a);
    for (size_t i = 0; i < f->n_jobs; i++) {
        struct value *one = val_object(c.a);
        val_sets(c.a, one, "result", val_str(c.a, outcome_name(f->jobs[i].result)));
        val_sets(c.a, one, "outputs", f->jobs[i].outputs);
        val_sets(c.a, jobs, f->jobs[i].pj->id, one);
    }
    ctx_set(&c, "github", f->github);
    ctx_set(&c, "inputs", f->inputs);
    ctx_set(&c, "vars", ctx_from_env(c.a, &f->run->rq->vars));
    ctx_set(&c, "jobs", jobs);
    for (size_t i = 0; i < t->outputs.n; i++) {
        struct sv v;
        if (ctx_string(&c, &t->outputs.items[i].value, "", &v, &e) < 0) {
            emit_leg(leg, EV_ANNOTATION, &(struct event){.level = LEVEL_ERROR, .text = sv_from(e.msg), .at = e.at});
            leg_fail(leg, OUT_FAILURE, "%s", e.msg);
            return;
        }
        if (mask_has(f->run->rq->masker, v))
            continue;
        val_set(c.a, out, sv_n(t->outputs.items[i].key.s, t->outputs.items[i].key.n), val_string(c.a, v));
    }
    leg->outputs = out;
}

static bool finish_flow(struct flow *f) {
    enum outcome o = OUT_NONE;
    for (size_t i = 0; i < f->n_jobs; i++) {
        if (f->jobs[i].state != JOB_DONE)
            return false;
        o = worse(o, f->jobs[i].result);
    }
    f->result = o == OUT_NONE ? OUT_SKIPPED : o;
    f->done = true;
    conc_free(f->conc);
    f->conc = NULL;
    if (f->leg && f->leg->state == LEG_RUNNING) {
        f->leg->outcome = f->result;
        call_outputs(f);
        f->leg->state = LEG_FINISHED;
    }
    return true;
}

static bool step_job(struct job *j) {
    bool moved = false;
    if (j->state == JOB_WAIT) {
        for (size_t i = 0; i < j->n_needs; i++)
            if (j->needs[i]->state != JOB_DONE)
                return false;
        decide(j);
        moved = true;
    }
    if (j->state != JOB_LEGS)
        return moved;
    moved |= start_legs(j);
    for (size_t i = 0; i < j->n_legs; i++)
        if (j->legs[i]->state == LEG_FINISHED) {
            finish_leg(j->legs[i]);
            moved = true;
        }
    return finish_job(j) || moved;
}

/* False while it waits for its concurrency group. */
static bool flow_may_go(struct flow *f) {
    char *over = NULL;
    if (f->never || f->conc_go || atomic_load(&f->run->cancel) || flow_cancelled(f))
        return true;
    enum group_state g = group_flow(f, &over);
    if (g == GROUP_OVER) {
        f->never = arena_strdup(&f->run->arena, over);
        free(over);
    }
    return g != GROUP_WAIT;
}

static void cancel_one(struct leg *leg, const char *why) {
    if (!leg->cancel_why)
        leg->cancel_why = xstrdup(why);
    emit_leg(leg, EV_ANNOTATION, &(struct event){.level = LEVEL_ERROR, .text = sv_from(why)});
    leg_cancel(leg, 1);
}

static void cancel_flow(struct flow *f, const char *why) {
    f->cancelled = true;
    for (size_t k = 0; k < f->n_jobs; k++)
        for (size_t l = 0; l < f->jobs[k].n_legs; l++)
            if (f->jobs[k].legs[l]->state < LEG_FINISHED)
                cancel_one(f->jobs[k].legs[l], why);
}

void sched_groups(struct run *r) {
    pthread_mutex_lock(&r->mu);
    groups_look(r, cancel_flow, cancel_one);
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->mu);
}

void sched_run(struct run *r) {
    pthread_mutex_lock(&r->mu);
    for (;;) {
        bool moved = false, done = true;
        for (size_t i = 0; i < r->n_flows; i++) {
            struct flow *f = r->flows[i];
            if (f->done)
                continue;
            if (!flow_may_go(f)) {
                done = false;
                continue;
            }
            for (size_t k = 0; k < f->n_jobs; k++)
                moved |= step_job(&f->jobs[k]);
            moved |= finish_flow(f);
            done &= f->done;
        }
        if (done)
            break;
        if (!moved)
            pthread_cond_wait(&r->cond, &r->mu);
    }
    pthread_mutex_unlock(&r->mu);
}

void sched_cancel(struct run *r) {
    int how = MIN(atomic_load(&r->cancel), 2);
    pthread_mutex_lock(&r->mu);
    for (size_t i = 0; i < r->n_flows; i++)
        for (size_t k = 0; k < r->flows[i]->n_jobs; k++) {
            struct job *j = &r->flows[i]->jobs[k];
            for (size_t l = 0; l < j->n_legs; l++)
                if (j->legs[l]->state < LEG_FINISHED && j->legs[l]->born < how)
                    leg_cancel(j->legs[l], how);
        }
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->mu);
}

/* --- flows --------------------------------------------------------------------------------- */

static void select_job(struct job *j) {
    if (j->selected)
        return;
    j->selected = true;
    for (size_t i = 0; i < j->n_needs; i++)
        select_job(j->needs[i]);
}

static int link_needs(struct flow *f, struct err *e) {
    for (size_t i = 0; i < f->n_jobs; i++) {
        struct job *j = &f->jobs[i];
        const struct text_list *l = &j->pj->needs;
        j->needs = xcalloc(l->n + 1, sizeof *j->needs);
        for (size_t k = 0; k < l->n; k++) {
            struct job *need = NULL;
            for (size_t m = 0; m < f->n_jobs; m++)
                if (sv_ieqs(sv_from(f->jobs[m].pj->id), l->items[k].s))
                    need = &f->jobs[m];
            if (!need) {
                err_set(e, ERR_CONFIG, -EINVAL, "job \"%s\" needs \"%s\", which is not there", j->pj->id, l->items[k].s);
                return err_at(e, -EINVAL, l->items[k].at);
            }
            j->needs[j->n_needs++] = need;
        }
    }
    return 0;
}

int flow_new(struct run *r, const struct plan *plan, const struct origin *origin, struct leg *leg,
             struct flow **ret, struct err *e) {
    struct flow *f = xcalloc(1, sizeof *f);
    f->run = r;
    f->plan = plan;
    f->origin = origin;
    f->leg = leg;
    f->caller = leg ? leg->flow : NULL;
    f->depth = leg ? leg->flow->depth + 1 : 1;
    f->n_jobs = plan->n_jobs;
    f->jobs = xcalloc(plan->n_jobs, sizeof *f->jobs);
    f->inputs = val_object(&r->arena);
    GROW(r->flows, r->cap_flows, r->n_flows + 1);
    r->flows[r->n_flows++] = f;
    const char *title = plan->name.s && plan->name.n ? plan->name.s : plan->file;
    if (leg) {
        f->prefix = xasprintf("%s / ", leg->name);
        f->title = leg->flow->title;
        f->workflow_ref = leg->flow->workflow_ref;
    } else {
        f->prefix = xstrdup("");
        f->title = arena_strdup(&r->arena, title);
    }
    for (size_t i = 0; i < f->n_jobs; i++) {
        f->jobs[i].flow = f;
        f->jobs[i].pj = &plan->jobs[i];
    }
    int x = link_needs(f, e);
    if (x < 0)
        return x;
    bool any = r->rq->jobs.n == 0 || leg;
    for (size_t i = 0; i < f->n_jobs; i++)
        if (any || strv_contains(&r->rq->jobs, f->jobs[i].pj->id))
            select_job(&f->jobs[i]);
    *ret = f;
    return 0;
}

static void leg_free(struct leg *leg) {
    arena_done(&leg->arena);
    conc_free(leg->conc);
    fd_close(leg->cancel_fd);
    free(leg->name);
    free(leg->reason);
    free(leg->cancel_why);
    free(leg);
}

void flow_free(struct flow *f) {
    if (!f)
        return;
    for (size_t i = 0; i < f->n_jobs; i++) {
        for (size_t k = 0; k < f->jobs[i].n_legs; k++)
            leg_free(f->jobs[i].legs[k]);
        free(f->jobs[i].legs);
        free(f->jobs[i].needs);
    }
    free(f->jobs);
    conc_free(f->conc);
    free(f->prefix);
    strv_done(&f->secrets);
    free(f);
}
