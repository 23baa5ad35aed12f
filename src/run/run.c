/* A run from outside: its identity, its thread for the event loop, cancelling, its result. The
 * scheduler (sched.c) runs on the caller's thread; each running job has a thread; one further
 * thread owns the event loop on which the jobs' docker engines serve and on which a cancel (counted
 * by a signal handler, announced through an eventfd) is turned into wake-ups. */
#include "core/fs.h"
#include "run/action.h"
#include "run/again.h"
#include "run/conc.h"
#include "run/contexts.h"
#include "run/matrix.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

static const char *zero_sha = "0000000000000000000000000000000000000000";

/* Names reach paths and variables: keep them to what a forge allows. */
static void tame(char *s) {
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
              strchr("-_./", *s)))
            *s = '-';
}

static void identify(struct run *r) {
    const struct run_request *rq = r->rq;
    const struct run_event *ev = &rq->event;
    const struct git_info *g = rq->git;
    /* Who and where is told by the request (payload_make); alone, a run is nobody's. */
    r->repository = ev->repository && strchr(ev->repository, '/') ? xstrdup(ev->repository) : xasprintf("local/%s", *path_base(rq->dir) ? path_base(rq->dir) : "repository");
    tame(r->repository);
    char *slash = strrchr(r->repository, '/');
    r->owner = xstrndup(r->repository, (size_t)(slash - r->repository));
    r->repo_name = xstrdup(slash[1] && !streq(slash + 1, "..") && !streq(slash + 1, ".") ? slash + 1 : "repository");
    if (ev->ref)
        r->ref = xstrdup(ev->ref);
    else if (g && g->branch)
        r->ref = xasprintf("refs/heads/%s", g->branch);
    else if (g && g->tag)
        r->ref = xasprintf("refs/tags/%s", g->tag);
    else
        r->ref = xasprintf("refs/heads/%s", g && g->default_branch ? g->default_branch : "main");
    const char *n;
    if ((n = startswith(r->ref, "refs/heads/")) || (n = startswith(r->ref, "refs/tags/")) ||
        (n = startswith(r->ref, "refs/pull/")))
        r->ref_name = xstrdup(n);
    else
        r->ref_name = xstrdup(r->ref);
    r->sha = xstrdup(ev->sha ? ev->sha : g && g->head_sha ? g->head_sha : zero_sha);
    r->actor = xstrdup(ev->actor && *ev->actor ? ev->actor : "slipway");
    for (char *p = r->actor; *p; p++)
        if (*p == ' ' || (unsigned char)*p < ' ')
            *p = '-';
}

static void add_secrets(struct run *r) {
    char raw[41];
    random_id(raw, 36);
    const char *given = r->rq->github_token ? r->rq->github_token : strv_env_get(&r->rq->secrets, "GITHUB_TOKEN");
    r->token = given && *given ? xstrdup(given) : xasprintf("slp_%s", raw);
    masker_add(r->rq->masker, sv_from(r->token));
    const struct strv *lists[] = {&r->rq->secrets, &r->rq->env_secrets};
    for (size_t l = 0; l < 2; l++)
        for (size_t i = 0; i < lists[l]->n; i++) {
            struct sv v;
            env_split(lists[l]->v[i], &v);
            if (v.n)
                masker_add(r->rq->masker, v);
        }
}

static int top_flows(struct run *r, struct err *e) {
    const struct run_request *rq = r->rq;
    for (size_t i = 0; i < rq->n_plans; i++) {
        struct flow *f;
        int x = flow_new(r, rq->plans[i], NULL, NULL, &f, e);
        if (x < 0)
            return x;
        if (rq->n_plans > 1) {
            free(f->prefix);
            f->prefix = xasprintf("%s / ", f->title);
        }
        f->workflow_ref = arena_printf(&r->arena, "%s/%s@%s", r->repository, rq->plans[i]->file, r->ref);
        for (size_t k = 0; k < rq->secrets.n; k++)
            strv_add(&f->secrets, rq->secrets.v[k]);
        if (!strv_env_get(&f->secrets, "GITHUB_TOKEN"))
            strv_env_set(&f->secrets, "GITHUB_TOKEN", r->token);
        /* Inputs of a dispatch, typed as declared. */
        struct value *in = val_object(&r->arena);
        const struct plan_trigger *t = plan_trigger_find(rq->plans[i], rq->event.name ? rq->event.name : "push");
        if (!t)
            t = plan_trigger_find(rq->plans[i], "workflow_dispatch");
        for (size_t k = 0; t && k < t->n_inputs; k++) {
            const struct plan_input *p = &t->inputs[k];
            const char *given = strv_env_get(&rq->inputs, p->name);
            const struct value *told = given || !rq->event.payload ? NULL : val_gets(val_gets(rq->event.payload, "inputs"), p->name);
            if (told && told->kind != VAL_NULL)
                given = val_to_string(&r->arena, told).p;
            struct sv s = given ? sv_from(given) : p->dflt.s ? sv_n(p->dflt.s, p->dflt.n) : SV("");
            const struct value *v = val_string(&r->arena, s);
            if (p->type == INPUT_BOOLEAN)
                v = val_bool(sv_ieqs(s, "true"));
            else if (p->type == INPUT_NUMBER)
                v = val_number(&r->arena, s.n ? val_to_number(v) : 0);
            val_sets(&r->arena, in, p->name, v);
        }
        f->inputs = in;
        f->github = ctx_github(f, &r->arena);
    }
    r->n_top = r->n_flows;
    return 0;
}

static int number(struct run *r, struct err *e) {
    uint64_t id = 0;
    int x;
    r->attempt = 1;
    if (!r->rq->store) { /* unit tests */
        memcpy(r->id, "1", 2);
        r->number = 1;
        return 0;
    }
    if (r->rq->again)
        return again_load(r, r->rq->again, e);
    if ((x = store_counter(r->rq->store, "run", &id, e)) < 0)
        return x;
    snprintf(r->id, sizeof r->id, "%llu", (unsigned long long)id);
    _cleanup_free_ char *name = xasprintf("number:%s:%s", r->repository,
                                          r->rq->n_plans && r->rq->plans[0]->dialect == DIALECT_GITHUB
                                              ? r->rq->plans[0]->file : "bitbucket");
    return store_counter(r->rq->store, name, &r->number, e);
}

static void on_cancel(struct loop *l, int fd, uint32_t events, void *arg) {
    uint64_t n;
    ssize_t x = read(fd, &n, sizeof n);
    (void)x;
    sched_cancel(arg);
}

static void on_groups(struct loop *l, int fd, uint32_t events, void *arg) {
    char b[4096];
    while (read(fd, b, sizeof b) > 0)
        ;
    sched_groups(arg);
}

/* Does anything of it ask for a concurrency group? Called workflows included. */
static bool has_groups(const struct run *r) {
    for (size_t i = 0; i < r->rq->n_plans + r->n_origins; i++) {
        const struct plan *p = i < r->rq->n_plans ? r->rq->plans[i] : r->origins[i - r->rq->n_plans]->plan;
        for (size_t k = 0; p && k < p->n_jobs; k++)
            if (p->jobs[k].concurrency.group.s || (p->jobs[k].bb && p->jobs[k].bb->concurrency_group))
                return true;
        if (p && p->concurrency.group.s)
            return true;
    }
    return false;
}

int run_new(struct run **ret, const struct run_request *rq, struct diags *d, struct err *e) {
    struct run *r = xcalloc(1, sizeof *r);
    int x;
    r->rq = rq;
    pthread_mutex_init(&r->mu, NULL);
    pthread_mutex_init(&r->tree_mu, NULL);
    pthread_mutex_init(&r->image_mu, NULL);
    pthread_mutex_init(&r->action_mu, NULL);
    pthread_mutex_init(&r->node_mu, NULL);
    pthread_cond_init(&r->cond, NULL);
    r->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    r->limit = rq->parallel ? rq->parallel : cores > 0 ? (unsigned)cores : 1;
    r->body = job_body;
    identify(r);
    if (r->cancel_fd < 0)
        x = err_errno(e, -errno, "eventfd");
    else if ((x = number(r, e)) >= 0 && (x = lock_load(&r->lock, rq->dir, e)) >= 0 && (x = calls_load(r, d)) >= 0) {
        add_secrets(r);
        x = top_flows(r, e);
    }
    if (x < 0) {
        run_free(r);
        return x;
    }
    *ret = r;
    return 0;
}

const char *run_id(const struct run *r) { return r->id; }

struct missing {
    const struct run *r;
    struct map seen;
    void (*fn)(void *arg, const char *context, const char *name, struct span at);
    void *arg;
    bool no_secrets;
};
static void missing_one(void *arg, const char *context, const char *name, struct span at) {
    struct missing *m = arg;
    bool secret = sv_ieqs(sv_from(context), "secrets");
    const struct strv *have = secret ? &m->r->rq->secrets : &m->r->rq->vars, *more = secret ? &m->r->rq->env_secrets : &m->r->rq->env_vars;
    for (size_t i = 0; i < more->n; i++) {
        struct sv v;
        const char *slash = strchr(more->v[i], '/');
        if (slash && sv_ieqs(env_split(slash + 1, &v), name))
            return;
    }
    if ((secret && (m->no_secrets || sv_ieqs(sv_from(name), "GITHUB_TOKEN"))) || !*name)
        return;
    for (size_t i = 0; i < have->n; i++) {
        struct sv v;
        if (sv_ieqs(env_split(have->v[i], &v), name))
            return;
    }
    _cleanup_free_ char *key = xasprintf("%s.%s", context, name);
    if (map_has(&m->seen, sv_from(key)))
        return;
    map_sets(&m->seen, key, m);
    m->fn(m->arg, context, name, at);
}

void run_missing(const struct run *r, void (*fn)(void *arg, const char *context, const char *name, struct span at), void *arg) {
    struct missing m = {.r = r, .fn = fn, .arg = arg, .seen = {.nocase = true}};
    bool inherits = false;
    for (size_t i = 0; i < r->rq->n_plans; i++) {
        const struct plan *p = r->rq->plans[i];
        plan_names(p, missing_one, &m);
        for (size_t k = 0; k < p->n_jobs; k++)
            inherits |= p->jobs[k].call && p->jobs[k].call->inherit_secrets;
    }
    /* A called workflow's secrets are what its caller passes, which was looked at above. */
    m.no_secrets = !inherits;
    for (size_t i = 0; i < r->n_origins; i++)
        if (r->origins[i]->plan)
            plan_names(r->origins[i]->plan, missing_one, &m);
    map_done(&m.seen);
}

static void describe_plan(struct run *r, const struct origin *from, const struct plan *p, struct json_w *w, unsigned depth) {
    for (size_t i = 0; i < p->n_jobs; i++) {
        const struct plan_job *j = &p->jobs[i];
        _cleanup_arena_ struct arena a = {0};
        jw_obj(w);
        jw_kstr(w, "id", j->id);
        jw_kstr(w, "name", j->name.s ? j->name.s : j->id);
        jw_kstr(w, "file", p->file);
        jw_kint(w, "line", j->at.line);
        jw_key(w, "needs");
        jw_arr(w);
        for (size_t k = 0; k < j->needs.n; k++)
            jw_str(w, j->needs.items[k].s);
        jw_end_arr(w);
        if (j->if_.s)
            jw_kstr(w, "if", j->if_.s);
        const struct value *mv;
        struct matrix m = {0};
        struct ctx c;
        ctx_init(&c, &a);
        ctx_set(&c, "github", r->flows[0]->github);
        ctx_set(&c, "inputs", r->flows[0]->inputs);
        ctx_set(&c, "vars", ctx_from_env(&a, &r->rq->vars));
        if (j->matrix && ctx_tree(&c, j->matrix, &mv, NULL) >= 0 && matrix_expand(&a, mv, &m, NULL) >= 0) {
            matrix_filter(&a, &m, &r->rq->matrix);
            jw_key(w, "legs");
            jw_arr(w);
            for (size_t k = 0; k < m.n; k++) {
                _cleanup_buf_ struct buf b = BUF_SMALL;
                matrix_label(m.legs[k], &b);
                jw_str(w, buf_str(&b));
            }
            jw_end_arr(w);
        }
        if (j->call) {
            const struct origin *o = calls_find(r, from, j->call->uses.s);
            jw_kstr(w, "uses", j->call->uses.s);
            if (o && o->plan && depth < 8) {
                jw_key(w, "jobs");
                jw_arr(w);
                describe_plan(r, o, o->plan, w, depth + 1);
                jw_end_arr(w);
            }
        }
        jw_end_obj(w);
    }
}

void run_describe(struct run *r, struct buf *json) {
    struct json_w w;
    jw_init(&w, json, 2);
    jw_arr(&w);
    for (size_t i = 0; i < r->rq->n_plans; i++)
        describe_plan(r, NULL, r->rq->plans[i], &w, 0);
    jw_end_arr(&w);
}

static void *loop_main(void *arg) {
    loop_run(arg);
    return NULL;
}
static void loop_end(struct loop *l, void *arg) { loop_stop(l, 0); }

static void count(const struct run *r, struct run_result *res) {
    for (size_t i = 0; i < r->n_flows; i++)
        for (size_t k = 0; k < r->flows[i]->n_jobs; k++) {
            const struct job *j = &r->flows[i]->jobs[k];
            for (size_t l = 0; l < j->n_legs; l++) {
                if (j->pj->call && j->legs[l]->sub)
                    continue; /* its own jobs are counted */
                res->jobs++;
                res->failed += j->legs[l]->outcome == OUT_FAILURE;
                res->skipped += j->legs[l]->outcome == OUT_SKIPPED;
                res->unavailable += j->legs[l]->outcome == OUT_UNAVAILABLE;
            }
        }
    res->captured = atomic_load(&r->captured);
}

static void conclude(struct run *r, struct run_result *res) {
    bool failed = false, unavailable = false, held = false, was_cancelled = atomic_load(&r->cancel) > 0, ran = false;
    count(r, res);
    for (size_t i = 0; i < r->n_top; i++) {
        enum outcome o = r->flows[i]->result;
        failed |= o == OUT_FAILURE || o == OUT_NONE;
        unavailable |= o == OUT_UNAVAILABLE;
        held |= o == OUT_HELD;
        was_cancelled |= o == OUT_CANCELLED;
        ran |= o == OUT_SUCCESS;
    }
    if (was_cancelled) {
        res->outcome = OUT_CANCELLED;
        res->exit_code = 130;
    } else if (failed) {
        res->outcome = OUT_FAILURE;
        res->exit_code = r->host_failed ? 3 : 1;
    } else if (unavailable) {
        res->outcome = OUT_UNAVAILABLE;
        res->exit_code = 1;
    } else if (held) {
        res->outcome = OUT_HELD;
        res->exit_code = 4;
    } else {
        res->outcome = ran ? OUT_SUCCESS : OUT_SKIPPED;
        res->exit_code = 0;
    }
}

/* The store's namespaces are made while the first job is being thought about. */
static void *warm(void *arg) {
    struct keeper *k;
    (void)store_keeper(arg, &k, NULL); /* whoever needs it gets the error */
    return NULL;
}

/* run-name of the first workflow, else its name. */
static const char *run_title(struct run *r) {
    struct flow *f = r->n_top ? r->flows[0] : NULL;
    struct ctx c;
    struct sv name = SV_NULL;
    if (!f)
        return "";
    ctx_init(&c, &r->arena);
    ctx_set(&c, "github", f->github);
    ctx_set(&c, "inputs", f->inputs);
    ctx_set(&c, "vars", ctx_from_env(c.a, &r->rq->vars));
    if (f->plan->run_name.s && ctx_string(&c, &f->plan->run_name, "", &name, NULL) >= 0 && sv_trim(name).n)
        return arena_sv(&r->arena, sv_trim(name)).p;
    return f->title;
}

int run_execute(struct run *r, struct run_result *ret, struct err *e) {
    int x;
    struct run_result res = {0};
    const struct run_request *rq = r->rq;
    uint64_t t0 = now_mono();
    if ((x = loop_new(&r->loop)) < 0)
        return err_errno(e, x, "event loop");
    if (rq->store && (x = lease_new(rq->store, "run", &r->lease, e)) < 0)
        return x;
    loop_io(r->loop, r->cancel_fd, EPOLLIN, on_cancel, r);
    _cleanup_close_ int groups = -1;
    if (rq->store && has_groups(r)) {
        if ((groups = conc_watch(rq->store, e)) < 0)
            return groups;
        loop_io(r->loop, groups, EPOLLIN, on_groups, r);
    }
    if ((x = pthread_create(&r->loop_thread, NULL, loop_main, r->loop)))
        return err_errno(e, -x, "thread");
    pthread_t keeper;
    bool warming = rq->store && pthread_create(&keeper, NULL, warm, rq->store) == 0;
    const char *title = run_title(r);
    events_emit(rq->events, &(struct event){.kind = EV_RUN_START, .run = r->id, .text = sv_from(title)});
    sched_run(r);
    if (warming)
        pthread_join(keeper, NULL);
    loop_post(r->loop, loop_end, NULL);
    pthread_join(r->loop_thread, NULL);
    conclude(r, &res);
    again_save(r);
    events_emit(rq->events, &(struct event){.kind = EV_RUN_END, .run = r->id, .outcome = res.outcome,
                                            .code = res.exit_code, .dur_ns = now_mono() - t0});
    *ret = res;
    return 0;
}

void run_cancel(struct run *r) {
    int saved = errno;
    uint64_t one = 1;
    atomic_fetch_add(&r->cancel, 1);
    ssize_t x = write(r->cancel_fd, &one, sizeof one);
    (void)x;
    errno = saved;
}

static void origin_free(struct origin *o) {
    plan_free(o->plan);
    free(o->key);
    free(o->dir);
    free(o->sha);
    free(o->repo);
    free(o->ref);
    free(o->path);
    free(o);
}

/* Their engines end with the help of the loop. */
static void end_kept(struct run *r) {
    bool loop = r->kept && pthread_create(&r->loop_thread, NULL, loop_main, r->loop) == 0;
    while (r->kept)
        r->end_first_kept(r);
    if (loop) {
        loop_post(r->loop, loop_end, NULL);
        pthread_join(r->loop_thread, NULL);
    }
}

void run_free(struct run *r) {
    if (!r)
        return;
    end_kept(r);
    for (size_t i = 0; i < r->n_flows; i++)
        flow_free(r->flows[i]);
    free(r->flows);
    for (size_t i = 0; i < r->n_origins; i++)
        origin_free(r->origins[i]);
    free(r->origins);
    map_done(&r->names);
    free(r->client);
    lock_done(&r->lock);
    fetched_free(r->fetched);
    pthread_mutex_destroy(&r->action_mu);
    pthread_mutex_destroy(&r->node_mu);
    pthread_mutex_destroy(&r->tree_mu);
    pthread_mutex_destroy(&r->image_mu);
    if (r->loop)
        loop_free(r->loop);
    lease_free(r->lease);
    fd_close(r->cancel_fd);
    if (r->token)
        explicit_bzero(r->token, strlen(r->token));
    free(r->token);
    free(r->repository);
    free(r->owner);
    free(r->repo_name);
    free(r->ref);
    free(r->ref_name);
    free(r->sha);
    free(r->actor);
    arena_done(&r->arena);
    pthread_cond_destroy(&r->cond);
    pthread_mutex_destroy(&r->mu);
    free(r);
}
