/* The calls of engine.h for a job's services: the same containers, made and started from another
 * thread. */
#include "docker/impl.h"

#include "docker/createopts.h"
#include "docker/flags.h"

#include <signal.h>

struct sync {
    struct engine *g;
    struct ctr *c;
    struct started *s;
    const char *id;
    int r;
    struct err *e;
};

/* Kept until it runs: it is known to clients from here on. */
static void do_publish(void *arg) {
    struct sync *y = arg;
    y->r = ctr_publish(y->g, y->c, y->e);
    if (y->r < 0)
        return;
    ctr_ref(y->c);
    y->c->busy = true;
}

static void do_started(void *arg) {
    struct sync *y = arg;
    y->c->busy = false;
    if (y->r < 0)
        ctr_start_failed(y->c, y->e, 128);
    else
        ctr_start_done(y->c, y->s);
    ctr_unref(y->c);
}

static void do_unref(void *arg) { ctr_unref(((struct sync *)arg)->c); }

/* Options and the workflow's own fields as one create body. */
static int service_body(const struct engine_container_spec *s, struct buf *body, struct strv *words, struct create_opts *o, struct err *e) {
    int r = s->options ? words_split(s->options, words, e) : 0;
    if (r >= 0)
        r = create_opts_parse(o, CREATE_SERVICE, (int)words->n, words->v, NULL, e);
    if (r < 0)
        return r;
    /* The workflow's env, ports and volumes come first; options may add to them. */
    struct strv env = {0};
    strv_extend(&env, s->env);
    for (size_t i = 0; i < o->env.n; i++)
        strv_add(&env, o->env.v[i]);
    strv_done(&o->env);
    o->env = env;
    for (const char *const *p = s->ports; p && *p; p++)
        strv_add(&o->publish, *p);
    for (const char *const *p = s->volumes; p && *p; p++)
        strv_add(&o->volumes, *p);
    for (const char *const *p = s->aliases; p && *p; p++)
        strv_add(&o->aliases, *p);
    for (const char *const *p = s->cmd; p && *p; p++)
        strv_add(&o->cmd, *p);
    o->network = NULL; /* the job's, whatever was asked for */
    o->image = s->image;
    o->detach = true;
    return create_opts_body(o, body, e);
}

/* An entrypoint of several words cannot be said in options: it replaces the body's. */
static void with_entrypoint(const char *const *entrypoint, struct buf *body) {
    struct buf b = BUF_MAX(16u << 20);
    struct json_w w;
    if (!entrypoint || !body->n)
        return;
    jw_init(&w, &b, 0);
    jw_arr(&w);
    for (; *entrypoint; entrypoint++)
        jw_str(&w, *entrypoint);
    jw_end_arr(&w);
    buf_cut(body, body->n - 1, 1);
    buf_adds(body, ",\"Entrypoint\":");
    buf_addsv(body, buf_sv(&b));
    buf_addc(body, '}');
    buf_done(&b);
}

static int pull(struct engine *g, const struct engine_container_spec *s, struct err *e) {
    struct pull_options o = g->pulls;
    _cleanup_image_ struct image *im = NULL;
    o.progress = s->progress;
    if (s->username) {
        o.username = s->username;
        o.password = s->password;
    }
    return image_get(g->o.store, g->o.lease, s->image, &o, &im, e);
}

int engine_start(struct engine *g, const struct engine_container_spec *s, char id[65], struct err *e) {
    struct create_opts o = {0};
    _cleanup_buf_ struct buf body = BUF_MAX(8u << 20);
    _cleanup_strv_ struct strv words = {0}, warnings = {0};
    struct ctr *c = NULL;
    struct started st;
    int status = 0, r = service_body(s, &body, &words, &o, e);
    const char *name = o.name ? o.name : s->name;
    if (r >= 0)
        with_entrypoint(s->entrypoint, &body);
    if (r >= 0)
        r = pull(g, s, e);
    if (r >= 0)
        r = ctr_create(g, buf_sv(&body), name, &warnings, &c, &status, e);
    create_opts_done(&o);
    if (r < 0)
        return err_wrap(e, r, "container %s", s->name ? s->name : s->image);
    c->service = true;
    struct sync y = {g, c, &st, NULL, 0, e};
    engine_call(g, do_publish, &y);
    if (y.r < 0) {
        engine_call(g, do_unref, &y);
        return y.r;
    }
    snprintf(id, 65, "%s", c->id);
    y.r = ctr_start_work(c, &st, e);
    if (y.r < 0)
        err_wrap(e, y.r, "container %s", c->name);
    engine_call(g, do_started, &y);
    return y.r;
}

static struct ctr *by_id(struct engine *g, const char *id) { return map_gets(&g->ctrs, id); }

const char *engine_health(struct engine *g, const char *id, bool *ret_running) {
    pthread_mutex_lock(&g->mu);
    struct ctr *c = by_id(g, id);
    const char *h = c ? health_name(c) : "none";
    if (ret_running)
        *ret_running = c && c->state == CTR_RUNNING;
    pthread_mutex_unlock(&g->mu);
    return h;
}

int engine_port(struct engine *g, const char *id, uint16_t target, const char *proto) {
    int r = -ENOENT;
    pthread_mutex_lock(&g->mu);
    struct ctr *c = by_id(g, id);
    for (size_t i = 0; c && i < c->n_ports; i++)
        if (c->ports[i].target == target && streq(c->ports[i].proto, proto ? proto : "tcp") && c->ports[i].got)
            r = c->ports[i].got;
    pthread_mutex_unlock(&g->mu);
    return r;
}

const char *engine_ip(struct engine *g, const char *id) {
    pthread_mutex_lock(&g->mu);
    struct ctr *c = by_id(g, id);
    const char *ip = c && c->box ? box_ip(c->box) : NULL;
    pthread_mutex_unlock(&g->mu);
    return ip;
}

struct log_call {
    struct engine *g;
    const char *id;
    struct buf *out;
    int r;
};

static void do_logs(void *arg) {
    struct log_call *l = arg;
    struct ctr *c = by_id(l->g, l->id);
    struct log_record h;
    uint64_t off = 0;
    char *block;
    l->r = c ? 0 : -ENOENT;
    if (!c)
        return;
    block = xmalloc(LOG_CHUNK);
    while (buf_ok(l->out) && clog_read(&c->log, &off, &h, block) > 0)
        buf_add(l->out, block, h.len);
    free(block);
}

int engine_logs(struct engine *g, const char *id, struct buf *out) {
    struct log_call l = {g, id, out, 0};
    engine_call(g, do_logs, &l);
    return l.r;
}

static void do_signal(void *arg) {
    struct sync *y = arg;
    struct ctr *c = by_id(y->g, y->id);
    y->r = c ? 0 : -ENOENT;
    if (!c || c->state != CTR_RUNNING)
        return;
    int signo = y->c ? SIGKILL : c->stop_signal ? signal_parse(c->stop_signal) : SIGTERM;
    ctr_kill_now(c, signo);
}

/* Waits until it has ended; false after the time. */
static bool wait_ended(struct engine *g, const char *id, int seconds) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += seconds;
    pthread_mutex_lock(&g->mu);
    struct ctr *c;
    int r = 0;
    while ((c = by_id(g, id)) && c->state == CTR_RUNNING && r == 0)
        r = pthread_cond_timedwait(&g->changed, &g->mu, &at);
    bool ended = !c || c->state != CTR_RUNNING;
    pthread_mutex_unlock(&g->mu);
    return ended;
}

int engine_stop(struct engine *g, const char *id) {
    struct sync y = {.g = g, .id = id};
    engine_call(g, do_signal, &y);
    if (y.r < 0 || wait_ended(g, id, 10))
        return y.r;
    y.c = (struct ctr *)g; /* not NULL: kill */
    engine_call(g, do_signal, &y);
    return wait_ended(g, id, 5) ? 0 : -ETIMEDOUT;
}
