/* Background steps, their waits, and parallel blocks. A background step runs on a thread of its own
 * with its own view of the job: a copy of the jobx with pipes, arena, environment and lists of its
 * own, and the steps as they were when it started. What it has changed reaches the job when it is
 * waited for, on the job's own thread: its result and outputs, GITHUB_ENV and GITHUB_PATH, post
 * steps. At most ten run at once; all that are left are waited for before the post steps. */
#include "run/action.h"

#include "core/fs.h"
#include "run/held.h"
#include "run/matchers.h"
#include "run/place.h"
#include "run/results.h"

#include <pthread.h>

#define AT_ONCE 10

struct background {
    struct jobx *x;            /* its view */
    struct step *step;
    pthread_t thread;
    bool joined, started;
    atomic_int abort;
    struct arena arena;
    struct strv env_before;
    size_t path_before;
    struct action *actions_before;
    struct scope *scopes_before;
    struct backgrounds *all;
    struct background *next;
};
struct backgrounds {
    pthread_mutex_t mu;
    pthread_cond_t free;
    unsigned running;
    struct background *list;   /* newest first */
};

static struct backgrounds *all_of(struct jobx *x) {
    if (!x->backgrounds) {
        x->backgrounds = xcalloc(1, sizeof *x->backgrounds);
        pthread_mutex_init(&x->backgrounds->mu, NULL);
        pthread_cond_init(&x->backgrounds->free, NULL);
    }
    return x->backgrounds;
}

static void copy_list(struct strv *to, const struct strv *from) {
    *to = (struct strv){0};
    for (size_t i = 0; i < from->n; i++)
        strv_add(to, from->v[i]);
}

/* The job as it is now, for the step alone. */
static int view(struct jobx *x, struct background *b, struct err *e) {
    struct jobx *v = b->x = xmalloc(sizeof *v);
    *v = *x;
    v->a = &b->arena;
    v->is_background = true;
    v->abort = &b->abort;
    copy_list(&v->env, &x->env);
    copy_list(&v->path, &x->path);
    copy_list(&b->env_before, &x->env);
    b->path_before = x->path.n;
    b->actions_before = x->actions;
    b->scopes_before = x->scopes;
    v->top.status = x->top.status;
    v->scope = &v->top;
    v->steps_then = steps_value(x, &b->arena);
    v->posts = NULL;
    v->late = NULL;
    v->host_procs = NULL;
    v->backgrounds = NULL;
    v->matchers = NULL;
    v->held_dir = NULL; /* what was held back is read when it is waited for */
    v->cur = NULL;
    v->out_r = v->out_w = -1;
    v->out = NULL;
    return job_pipes(v, e);
}

static void *body(void *arg) {
    struct background *b = arg;
    struct backgrounds *all = b->all;
    pthread_mutex_lock(&all->mu);
    while (all->running >= AT_ONCE)
        pthread_cond_wait(&all->free, &all->mu);
    all->running++;
    pthread_mutex_unlock(&all->mu);
    step_body(b->x, b->step);
    pthread_mutex_lock(&all->mu);
    all->running--;
    pthread_cond_signal(&all->free);
    pthread_mutex_unlock(&all->mu);
    return NULL;
}

/* What threads would race for is made before: the services, node. */
static int make_ready(struct jobx *x, struct step *s, struct err *e) {
    _cleanup_strv_ struct strv env = {0};
    const char *node;
    if (s->ps->kind != STEP_USES)
        return 0;
    int r = results_env(x, &env, e);
    return r < 0 ? r : s->native ? 0 : node_find(x, 24, &node, e);
}

int background_start(struct jobx *x, struct step *s, struct err *e) {
    struct backgrounds *all = all_of(x);
    struct background *b = xcalloc(1, sizeof *b);
    int r = make_ready(x, s, e);
    b->step = s;
    b->all = all;
    b->next = all->list;
    all->list = b;
    s->back = b;
    if (r < 0 || (r = view(x, b, e)) < 0)
        return r;
    if ((r = -pthread_create(&b->thread, NULL, body, b)) < 0)
        return err_errno(e, r, "a thread for %s", s->id);
    b->started = true;
    return 0;
}

/* --- joining -------------------------------------------------------------------------------------- */

static void take_env(struct jobx *x, const struct background *b) {
    for (size_t i = 0; i < b->x->env.n; i++) {
        struct sv v, k = env_split(b->x->env.v[i], &v);
        _cleanup_free_ char *key = sv_dup(k);
        const char *was = strv_env_get(&b->env_before, key);
        if (!was || !streq(was, v.p))
            strv_env_set(&x->env, key, v.p);
    }
    for (size_t i = b->path_before; i < b->x->path.n; i++)
        strv_add(&x->path, b->x->path.v[i]);
}

/* New heads of a list that grew on both sides, put before the job's. */
#define TAKE_LIST(type, field, before)                                                             \
    do {                                                                                           \
        type *head_ = v->field, **end_ = &head_;                                                   \
        while (*end_ && *end_ != (before))                                                         \
            end_ = &(*end_)->next;                                                                 \
        *end_ = x->field;                                                                          \
        x->field = head_;                                                                          \
    } while (0)

static void take_lists(struct jobx *x, const struct background *b) {
    struct jobx *v = b->x;
    TAKE_LIST(struct action, actions, b->actions_before);
    TAKE_LIST(struct scope, scopes, b->scopes_before);
    TAKE_LIST(struct post, posts, (struct post *)NULL);
    TAKE_LIST(struct late, late, (struct late *)NULL);
    host_take(x, v);
}

static void join(struct jobx *x, struct background *b) {
    if (b->joined)
        return;
    b->joined = true;
    if (!b->started)
        return;
    pthread_join(b->thread, NULL);
    struct step *cur = x->cur;
    x->cur = b->step;
    held_take(x);
    x->cur = cur;
    take_env(x, b);
    take_lists(x, b);
    output_free(b->x->out);
    fd_close(b->x->out_r);
    fd_close(b->x->out_w);
    matchers_free(b->x->matchers);
    strv_done(&b->x->env);
    strv_done(&b->x->path);
    b->x->out = NULL;
}

bool background_hidden(const struct step *s) { return s->back && !s->back->joined; }

static struct step *find(struct jobx *x, const char *id) {
    for (size_t i = 0; i < x->top.n; i++)
        if (strcasecmp(x->top.steps[i].id, id) == 0)
            return &x->top.steps[i];
    return NULL;
}

static bool failed(const struct step *s) { return s->back && s->conclusion == OUT_FAILURE; }

/* wait, wait-all, parallel: fails when one of them has. */
static void joined(struct jobx *x, struct step *s, struct step *target, bool *bad) {
    if (!target->back || target->back->joined)
        return;
    join(x, target->back);
    if (!failed(target))
        return;
    *bad = true;
    _cleanup_free_ char *t = xasprintf("The background step '%s' has failed.", target->title ? target->title : target->id);
    jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR, .text = sv_from(t)});
}

int background_wait(struct jobx *x, struct step *s) {
    bool bad = false;
    for (size_t i = 0; s->ps->kind == STEP_WAIT && i < s->ps->targets.n; i++) {
        struct step *t = find(x, s->ps->targets.items[i].s);
        if (t)
            joined(x, s, t, &bad);
    }
    for (size_t i = 0; s->ps->kind == STEP_WAIT_ALL && i < x->top.n; i++)
        joined(x, s, &x->top.steps[i], &bad);
    s->outcome = bad ? OUT_FAILURE : OUT_SUCCESS;
    s->code = bad;
    return 0;
}

int background_cancel(struct jobx *x, struct step *s) {
    for (size_t i = 0; i < s->ps->targets.n; i++) {
        struct step *t = find(x, s->ps->targets.items[i].s);
        if (!t || !t->back || t->back->joined)
            continue;
        atomic_store(&t->back->abort, 1);
        join(x, t->back);
    }
    s->outcome = OUT_SUCCESS;
    return 0;
}

int background_parallel(struct jobx *x, struct step *s, struct err *e) {
    bool bad = false;
    int r = 0;
    for (size_t i = 0; i < s->n_kids && r >= 0; i++)
        r = background_start(x, &s->kids[i], e);
    for (size_t i = 0; i < s->n_kids; i++)
        joined(x, s, &s->kids[i], &bad);
    s->outcome = bad ? OUT_FAILURE : OUT_SUCCESS;
    s->code = bad;
    return r;
}

void background_end(struct jobx *x) {
    for (size_t i = 0; x->backgrounds && i < x->top.n; i++) {
        struct step *s = &x->top.steps[i];
        if (!s->back || s->back->joined)
            continue;
        join(x, s->back);
        if (!failed(s))
            continue;
        x->status = x->top.status = OUT_FAILURE;
        if (!x->leg->reason)
            leg_fail(x->leg, OUT_FAILURE, "%s", s->title ? s->title : s->id);
    }
}

void background_done(struct jobx *x) {
    struct backgrounds *all = x->backgrounds;
    if (!all)
        return;
    background_end(x);
    while (all->list) {
        struct background *b = all->list;
        all->list = b->next;
        strv_done(&b->env_before);
        arena_done(&b->arena);
        free(b->x);
        free(b);
    }
    pthread_mutex_destroy(&all->mu);
    pthread_cond_destroy(&all->free);
    free(all);
    x->backgrounds = NULL;
}
