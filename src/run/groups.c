/* A claim is made when a workflow or a leg could start otherwise, is looked at in each round of the
 * scheduler while it waits (conc_watch wakes it), and given back when the work is over. */
#include "run/groups.h"

#include "run/conc.h"
#include "run/contexts.h"

static char *replaced(const char *group) {
    return xasprintf("Canceling since a higher priority waiting request for '%s' exists", group);
}

/* The group of a claim that waits for itself: an ancestor of this run holds it. */
static const char *holder_above(const struct flow *f, const char *group) {
    for (; f; f = f->caller) {
        if (conc_same(f->conc, group))
            return f->leg ? f->leg->name : "top level workflow";
        if (f->leg && conc_same(f->leg->conc, group))
            return f->leg->name;
    }
    return NULL;
}

static int claim(struct run *r, const struct flow *above, const struct plan_concurrency *pc, struct ctx *c, const char *who,
                 struct conc **ret, struct err *e) {
    struct sv group, queue;
    struct conc_spec spec = {.repository = r->repository};
    int x;
    if ((x = ctx_string(c, &pc->group, "", &group, e)) < 0 || (x = ctx_bool(c, &pc->cancel_in_progress, false, &spec.cancel_in_progress, e)) < 0 ||
        (x = ctx_string(c, &pc->queue, "", &queue, e)) < 0)
        return x;
    if (!sv_trim(group).n)
        return 0;
    spec.group = arena_strndup(c->a, group.p, group.n);
    spec.keep_all = sv_eqs(queue, "max");
    const char *holder = holder_above(above, spec.group);
    if (holder) {
        err_set(e, ERR_CONFIG, -EDEADLK, "Canceling since a deadlock for concurrency group '%s' was detected between '%s' and '%s'", spec.group, holder, who);
        return err_at(e, -EDEADLK, pc->at);
    }
    return conc_claim(ret, r->rq->store, &spec, e);
}

static enum group_state state_of(struct conc *c, char **ret_reason) {
    if (!c)
        return GROUP_GO;
    switch (conc_look(c)) {
    case CONC_WAIT:
        return GROUP_WAIT;
    case CONC_REPLACED:
        *ret_reason = replaced(conc_group(c));
        return GROUP_OVER;
    case CONC_HELD:
    case CONC_CANCELLED:
        break;
    }
    return GROUP_GO;
}

static void say_waits(struct run *r, const char *job, const struct conc *c) {
    events_note(r->rq->events, r->id, job, LEVEL_NOTICE, "waits for the concurrency group \"%s\"", conc_group(c));
}

enum group_state group_flow(struct flow *f, char **ret_reason) {
    struct run *r = f->run;
    bool first = !f->conc_asked;
    if (f->conc_go || !r->rq->store || !f->plan->concurrency.group.s)
        return GROUP_GO;
    if (first) {
        _cleanup_arena_ struct arena a = {0};
        struct ctx c;
        struct err e = {0};
        f->conc_asked = true;
        ctx_init(&c, &a);
        ctx_set(&c, "github", f->github);
        ctx_set(&c, "inputs", f->inputs);
        ctx_set(&c, "vars", ctx_from_env(&a, &r->rq->vars));
        const struct flow *above = f->caller ? f->caller : NULL;
        if (claim(r, above, &f->plan->concurrency, &c, f->leg ? f->leg->name : f->title, &f->conc, &e) < 0) {
            *ret_reason = xstrdup(e.msg);
            return GROUP_OVER;
        }
        if (f->leg && f->leg->conc && f->conc && conc_same(f->leg->conc, conc_group(f->conc))) {
            *ret_reason = xasprintf("Canceling since a deadlock for concurrency group '%s' was detected between the workflow and the job that calls it", conc_group(f->conc));
            return GROUP_OVER;
        }
    }
    enum group_state s = state_of(f->conc, ret_reason);
    f->conc_go = s == GROUP_GO;
    if (first && s == GROUP_WAIT)
        say_waits(r, f->leg ? f->leg->name : NULL, f->conc);
    return s;
}

enum group_state group_leg(struct leg *leg, char **ret_reason) {
    struct run *r = leg->run;
    const struct plan_job *pj = leg->job->pj;
    const char *of_bb = pj->bb ? pj->bb->concurrency_group : NULL;
    bool first = !leg->conc_asked;
    if (!r->rq->store || (!pj->concurrency.group.s && !of_bb))
        return GROUP_GO;
    if (first) {
        struct ctx c;
        struct err e = {0};
        int x;
        leg->conc_asked = true;
        ctx_init(&c, &leg->arena);
        ctx_leg(&c, leg);
        if (of_bb) {
            struct conc_spec spec = {.repository = r->repository, .group = of_bb, .keep_all = true};
            x = conc_claim(&leg->conc, r->rq->store, &spec, &e);
        } else
            x = claim(r, leg->flow, &pj->concurrency, &c, leg->name, &leg->conc, &e);
        if (x < 0) {
            *ret_reason = xstrdup(e.msg);
            return GROUP_OVER;
        }
    }
    enum group_state s = state_of(leg->conc, ret_reason);
    if (first && s == GROUP_WAIT)
        say_waits(r, leg->name, leg->conc);
    return s;
}

void groups_look(struct run *r, void (*cancel_flow)(struct flow *f, const char *why), void (*cancel_leg)(struct leg *leg, const char *why)) {
    for (size_t i = 0; i < r->n_flows; i++) {
        struct flow *f = r->flows[i];
        if (f->conc && f->conc_go && !f->done && !f->cancelled && conc_look(f->conc) == CONC_CANCELLED) {
            _cleanup_free_ char *why = replaced(conc_group(f->conc));
            cancel_flow(f, why);
        }
        for (size_t k = 0; k < f->n_jobs; k++)
            for (size_t l = 0; l < f->jobs[k].n_legs; l++) {
                struct leg *leg = f->jobs[k].legs[l];
                if (!leg->conc || leg->state != LEG_RUNNING || atomic_load(&leg->cancel) || conc_look(leg->conc) != CONC_CANCELLED)
                    continue;
                _cleanup_free_ char *why = replaced(conc_group(leg->conc));
                cancel_leg(leg, why);
            }
    }
}
