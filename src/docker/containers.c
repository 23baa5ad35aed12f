/* The life of containers on the loop's thread: output, the end of the process, waiting, removing;
 * and the requests about them. */
#include "docker/impl.h"

#include <signal.h>
#include <sys/epoll.h>

enum { LAG_PAUSE = 8 << 20 };
#define GRACE_NS 1000000000ull /* for output held open by a process that outlived the main one */

/* --- look-up -------------------------------------------------------------------------------- */

struct ctr *ctr_find(struct engine *g, const char *name) {
    struct ctr *found = NULL;
    size_t n = strlen(name);
    if (*name == '/')
        name++;
    struct ctr *c = map_gets(&g->ctrs, name);
    if (c)
        return c;
    MAP_FOREACH(&g->ctrs, en) {
        c = en->value;
        if (streq(c->name, name))
            return c;
        if (n >= 1 && n < 64 && strncmp(c->id, name, n) == 0) {
            if (found)
                return NULL; /* not unique */
            found = c;
        }
    }
    return found;
}

int signal_parse(const char *s) {
    uint64_t v;
    if (sv_u64(sv_from(s), 64, &v) >= 0)
        return v ? (int)v : -EINVAL;
    if (strncasecmp(s, "SIG", 3) == 0)
        s += 3;
    for (int i = 1; i < 32; i++) {
        const char *n = sigabbrev_np(i);
        if (n && strcasecmp(n, s) == 0)
            return i;
    }
    if (strncasecmp(s, "RTMIN+", 6) == 0 && sv_u64(sv_from(s + 6), 30, &v) >= 0)
        return 34 + (int)v;
    return -EINVAL;
}

int ctr_publish(struct engine *g, struct ctr *c, struct err *e) {
    MAP_FOREACH(&g->ctrs, en) {
        struct ctr *o = en->value;
        if (streq(o->name, c->name))
            return err_set(e, ERR_CONFLICT, -EEXIST, "Conflict. The container name \"/%s\" is already in use by container \"%s\". You "
                           "have to remove (or rename) that container to be able to reuse that name.", c->name, o->id);
    }
    pthread_mutex_lock(&g->mu);
    map_sets(&g->ctrs, c->id, c);
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mu);
    ctr_event(c, "create");
    return 0;
}

/* --- waiting -------------------------------------------------------------------------------- */

void ctr_wait(struct ctr *c, struct waiter *w) {
    if ((w->cond == WAIT_NOT_RUNNING && c->state != CTR_RUNNING) || c->removed) {
        w->fn(w->arg, c->exit_code);
        return;
    }
    w->next = c->waiters;
    c->waiters = w;
}

void ctr_unwait(struct ctr *c, struct waiter *w) {
    for (struct waiter **at = &c->waiters; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            return;
        }
}

static void wake(struct ctr *c, bool removed) {
    struct waiter *all = c->waiters, *keep = NULL;
    c->waiters = NULL;
    while (all) {
        struct waiter *w = all;
        all = w->next;
        if (w->cond == WAIT_REMOVED && !removed) {
            w->next = keep;
            keep = w;
        } else
            w->fn(w->arg, c->exit_code);
    }
    while (keep) {
        struct waiter *w = keep;
        keep = w->next;
        w->next = c->waiters;
        c->waiters = w;
    }
}

/* --- the process's end ---------------------------------------------------------------------- */

/* Nobody answers for it any more: its names and ports go, and what it left running. */
struct cleanup {
    struct ctr *c;
    struct port_map ports[64];
    size_t n;
};

static void cleanup_work(void *arg) {
    struct cleanup *k = arg;
    for (size_t i = 0; i < k->n; i++)
        if (k->ports[i].got)
            ctr_unpublish(k->c->g, &k->ports[i]);
    (void)box_kill_all(k->c->box, SIGKILL);
}

static void cleanup_done(struct loop *l, void *arg) {
    struct cleanup *k = arg;
    struct ctr *c = k->c;
    c->busy = false;
    if (c->auto_remove && !c->removed)
        ctr_remove(c, NULL, NULL);
    ctr_unref(c);
    free(k);
}

void ctr_exited(struct ctr *c) {
    struct engine *g = c->g;
    struct cleanup *k = xcalloc(1, sizeof(*k));
    k->c = c;
    memcpy(k->ports, c->ports, sizeof(k->ports));
    k->n = c->n_ports;
    health_stop(c);
    loop_remove(c->grace);
    loop_remove(c->proc_src);
    c->grace = c->proc_src = NULL;
    for (int i = 1; i < 3; i++) {
        loop_remove(c->out_src[i]);
        c->out_src[i] = NULL;
        c->out_fd[i] = fd_close(c->out_fd[i]);
    }
    feeder_close(&c->in);
    c->in.fd = -1;
    pthread_mutex_lock(&g->mu);
    if (c->proc)
        box_proc_free(TAKE(c->proc));
    c->state = CTR_EXITED;
    c->frozen = false;
    c->finished = now_real();
    c->pid = 0;
    for (size_t i = 0; i < c->n_ports; i++)
        c->ports[i].got = 0;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mu);
    ctr_event(c, "die");
    for (struct follower *f = c->followers, *next; f; f = next) {
        next = f->next;
        if (!f->blocked)
            follower_pump(f);
    }
    c->busy = true;
    ctr_ref(c);
    wake(c, false);
    engine_job(g, cleanup_work, cleanup_done, k);
}

static void maybe_exited(struct ctr *c) {
    if (c->proc_ended && c->out_fd[1] < 0 && c->out_fd[2] < 0 && c->state == CTR_RUNNING)
        ctr_exited(c);
}

static void grace_over(struct loop *l, void *arg) {
    struct ctr *c = arg;
    loop_remove(c->grace);
    c->grace = NULL;
    if (c->state == CTR_RUNNING && c->proc_ended)
        ctr_exited(c);
}

static void proc_ready(struct loop *l, int fd, uint32_t events, void *arg) {
    struct ctr *c = arg;
    struct err e = {0};
    int r = box_proc_try(c->proc);
    if (r == -EAGAIN)
        return;
    r = box_proc_wait(c->proc, &e);
    loop_remove(c->proc_src);
    c->proc_src = NULL;
    pthread_mutex_lock(&c->g->mu);
    c->proc_ended = true;
    c->exit_code = r < 0 ? 255 : r;
    if (e.msg[0]) {
        snprintf(c->error, sizeof(c->error), "%s", e.msg);
        (void)clog_append(&c->log, c->tty ? 1 : 2, now_real(), c->error, strlen(c->error));
        (void)clog_append(&c->log, c->tty ? 1 : 2, now_real(), "\n", 1);
    }
    pthread_mutex_unlock(&c->g->mu);
    c->grace = loop_timer(c->g->loop, GRACE_NS, 0, grace_over, c);
    maybe_exited(c);
}

static void output_ready(struct loop *l, int fd, uint32_t events, void *arg) {
    struct ctr *c = arg;
    char block[LOG_CHUNK];
    int which = fd == c->out_fd[1] ? 1 : 2;
    ssize_t n = read(fd, block, sizeof(block));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* EIO: the terminal's other end is closed */
        loop_remove(c->out_src[which]);
        c->out_src[which] = NULL;
        c->out_fd[which] = fd_close(fd);
        maybe_exited(c);
        return;
    }
    (void)clog_append(&c->log, which, now_real(), block, (size_t)n);
    for (struct follower *f = c->followers, *next; f; f = next) {
        next = f->next;
        if (!f->blocked)
            follower_pump(f);
        else if (f->attach && f->off + LAG_PAUSE < clog_end(&c->log))
            c->paused = true;
    }
    if (c->paused)
        ctr_listen(c, false);
}

/* Not by an empty set of events: the end of the writer would be told all the same, all the time. */
void ctr_listen(struct ctr *c, bool on) {
    for (int i = 1; i < 3; i++) {
        if (on && !c->out_src[i] && c->out_fd[i] >= 0)
            c->out_src[i] = loop_io(c->g->loop, c->out_fd[i], EPOLLIN, output_ready, c);
        else if (!on) {
            loop_remove(c->out_src[i]);
            c->out_src[i] = NULL;
        }
    }
}

void ctr_start_done(struct ctr *c, struct started *s) {
    struct engine *g = c->g;
    pthread_mutex_lock(&g->mu);
    c->proc = s->proc;
    c->pid = box_proc_pid(s->proc);
    memcpy(c->ports, s->ports, sizeof(c->ports));
    c->out_fd[1] = s->fd[1];
    c->out_fd[2] = s->fd[2];
    c->state = CTR_RUNNING;
    c->proc_ended = false;
    c->error[0] = 0;
    c->exit_code = 0;
    c->started = now_real();
    c->finished = 0;
    c->paused = false;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mu);
    for (struct follower *f = c->followers; f; f = f->next)
        f->until_started = false;
    ctr_listen(c, true);
    if (s->fd[0] >= 0)
        feeder_set(&c->in, g->loop, s->fd[0]);
    c->proc_src = loop_io(g->loop, box_proc_status_fd(c->proc), EPOLLIN, proc_ready, c);
    ctr_event(c, "start");
    health_start(c);
    if (box_proc_try(c->proc) != -EAGAIN) /* read already with an earlier message */
        proc_ready(g->loop, -1, 0, c);
}

void ctr_start_failed(struct ctr *c, const struct err *e, int code) {
    pthread_mutex_lock(&c->g->mu);
    snprintf(c->error, sizeof(c->error), "%s", e->msg);
    c->exit_code = code;
    pthread_mutex_unlock(&c->g->mu);
    for (struct follower *f = c->followers, *next; f; f = next) {
        next = f->next;
        f->until_started = false;
        if (!f->blocked)
            follower_pump(f);
    }
    if (c->auto_remove && !c->removed)
        ctr_remove(c, NULL, NULL);
}

void ctr_kill_now(struct ctr *c, int signo) {
    if (!c->proc || c->proc_ended)
        return;
    (void)box_proc_signal(c->proc, signo, signo == SIGKILL);
    if (c->frozen) { /* so that it can end by it */
        (void)box_kill_all(c->box, SIGCONT);
        c->frozen = false;
    }
}

/* --- removing ------------------------------------------------------------------------------- */

struct removal {
    struct ctr *c;
    struct box *box;
    void (*fn)(void *arg);
    void *arg;
};

static void remove_work(void *arg) {
    struct removal *r = arg;
    if (r->box)
        box_destroy(r->box);
}

static void remove_done(struct loop *l, void *arg) {
    struct removal *r = arg;
    struct ctr *c = r->c;
    ctr_event(c, "destroy");
    wake(c, true);
    if (r->fn)
        r->fn(r->arg);
    for (struct follower *f = c->followers, *next; f; f = next) {
        next = f->next;
        if (!f->blocked)
            follower_pump(f);
    }
    ctr_unref(c); /* the map's */
    free(r);
}

void ctr_remove(struct ctr *c, void (*fn)(void *arg), void *arg) {
    struct engine *g = c->g;
    exec_free_all(g, c);
    pthread_mutex_lock(&g->mu);
    c->removed = true;
    map_remove(&g->ctrs, sv_from(c->id));
    struct removal *r = xcalloc(1, sizeof(*r));
    *r = (struct removal){c, TAKE(c->box), fn, arg};
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mu);
    if (c->box_users)
        c->removal = r;
    else
        engine_job(g, remove_work, remove_done, r);
}

struct box *ctr_box_use(struct ctr *c) {
    if (c->box)
        c->box_users++;
    return c->box;
}

void ctr_box_done(struct ctr *c, struct box *used) {
    if (used && --c->box_users == 0 && c->removal)
        engine_job(c->g, remove_work, remove_done, TAKE(c->removal));
}

/* --- requests ------------------------------------------------------------------------------- */

/* One request that is answered later. */
struct op {
    struct engine *g;
    struct httpd_req *rq; /* NULL once the client has gone */
    struct ctr *c;
    struct buf body;
    char *name;
    struct strv warnings;
    struct started started;
    struct waiter w;
    struct loop_source *timer;
    int r, status, signo;
    bool then_start, waiting, headed, force;
    struct err e;
};

static void op_abort(struct httpd_req *rq, void *arg) {
    struct op *o = arg;
    o->rq = NULL;
    if (o->waiting) {
        ctr_unwait(o->c, &o->w);
        loop_remove(o->timer);
        ctr_unref(o->c);
        strv_done(&o->warnings);
        free(o->name);
        free(o);
    }
}

static struct op *op_new(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    struct op *o = xcalloc(1, sizeof(*o));
    o->g = g;
    o->rq = rq;
    o->c = c;
    if (c)
        ctr_ref(c);
    httpd_on_abort(rq, op_abort, o);
    return o;
}

static void op_free(struct op *o) {
    loop_remove(o->timer);
    if (o->c)
        ctr_unref(o->c);
    buf_done(&o->body);
    strv_done(&o->warnings);
    free(o->name);
    free(o);
}

static void create_work(void *arg) {
    struct op *o = arg;
    o->r = ctr_create(o->g, buf_sv(&o->body), o->name, &o->warnings, &o->c, &o->status, &o->e);
}

static void create_done(struct loop *l, void *arg) {
    struct op *o = arg;
    if (o->r >= 0 && (!o->rq || (o->r = ctr_publish(o->g, o->c, &o->e)) < 0)) {
        o->status = 409;
        struct removal *r = xcalloc(1, sizeof(*r)); /* its box goes on a worker */
        *r = (struct removal){o->c, TAKE(o->c->box), NULL, NULL};
        o->c = NULL;
        r->c->removed = true;
        engine_job(o->g, remove_work, remove_done, r);
    }
    if (o->rq && o->r < 0)
        reply_err(o->rq, o->status, "%s", o->e.msg);
    else if (o->rq) {
        struct buf b = BUF_MAX(64u << 10);
        struct json_w w;
        jw_init(&w, &b, 0);
        jw_obj(&w);
        jw_kstr(&w, "Id", o->c->id);
        jw_key(&w, "Warnings");
        jw_arr(&w);
        for (size_t i = 0; i < o->warnings.n; i++)
            jw_str(&w, o->warnings.v[i]);
        jw_end_arr(&w);
        jw_end_obj(&w);
        httpd_reply_json(o->rq, 201, &b);
        buf_done(&b);
        ctr_ref(o->c); /* the map keeps one, op_free gives one back */
    }
    op_free(o);
}

static void create_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct op *o = arg;
    if (!ok) {
        op_free(o);
        return;
    }
    o->body = BUF_MAX(16u << 20);
    buf_addsv(&o->body, body);
    engine_job(o->g, create_work, create_done, o);
}

static void handle_create(struct engine *g, struct httpd_req *rq) {
    const char *name = httpd_query(rq, "name");
    if (name && *name && ctr_find(g, name) && streq(ctr_find(g, name)->name, *name == '/' ? name + 1 : name)) {
        reply_err(rq, 409, "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to remove (or "
                  "rename) that container to be able to reuse that name.", name, ctr_find(g, name)->id);
        return;
    }
    struct op *o = op_new(g, rq, NULL);
    o->name = xstrdup(name);
    httpd_collect(rq, 8u << 20, create_body, o);
}

static void start_work(void *arg) {
    struct op *o = arg;
    o->r = ctr_start_work(o->c, &o->started, &o->e);
}

/* What docker's client looks for in the message decides its exit code. */
static void start_error(struct op *o, int *code) {
    struct err e = o->e;
    *code = 128;
    if (!box_exec_missing(&e))
        return;
    *code = o->r == -ENOENT ? 127 : 126;
    err_set(&o->e, ERR_USER, o->r, "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to "
            "start container process: %s: unknown", e.msg);
}

static void start_done(struct loop *l, void *arg) {
    struct op *o = arg;
    o->c->busy = false;
    if (o->r < 0) {
        int code;
        start_error(o, &code);
        ctr_start_failed(o->c, &o->e, code);
        if (o->rq)
            reply_errp(o->rq, &o->e);
    } else {
        ctr_start_done(o->c, &o->started);
        if (o->rq)
            reply_empty(o->rq, 204);
    }
    op_free(o);
}

static void begin_start(struct op *o) {
    o->c->busy = true;
    engine_job(o->g, start_work, start_done, o);
}

static void start_poll(struct loop *l, void *arg) {
    struct op *o = arg;
    if (o->c->busy && !o->c->removed)
        return;
    loop_remove(o->timer);
    o->timer = NULL;
    if (!o->c->removed && o->c->state != CTR_RUNNING) {
        begin_start(o);
        return;
    }
    if (o->rq && o->c->removed)
        reply_err(o->rq, 404, "No such container: %s", o->c->id);
    else if (o->rq)
        reply_empty(o->rq, 304);
    op_free(o);
}

static void handle_start(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    if (c->state == CTR_RUNNING) {
        reply_empty(rq, 304);
        return;
    }
    struct op *o = op_new(g, rq, c);
    if (c->busy) /* the clean-up of the run before, or another start */
        o->timer = loop_timer(g->loop, 1000000, 1000000, start_poll, o);
    else
        begin_start(o);
}

/* --- stop and restart: asynchronous, on the container's waiters ------------------------------ */

static void stop_answer(struct op *o);

static void stop_ended(void *arg, int code) {
    struct op *o = arg;
    o->waiting = false;
    loop_remove(o->timer);
    o->timer = NULL;
    stop_answer(o);
}

static void stop_timeout(struct loop *l, void *arg) {
    struct op *o = arg;
    loop_remove(o->timer);
    o->timer = NULL;
    ctr_kill_now(o->c, SIGKILL);
}

static void stop_answer(struct op *o) {
    if (o->then_start && !o->c->removed) {
        if (o->c->busy)
            o->timer = loop_timer(o->g->loop, 1000000, 1000000, start_poll, o);
        else
            begin_start(o);
        return;
    }
    if (o->rq)
        reply_empty(o->rq, 204);
    op_free(o);
}

static void handle_stop(struct engine *g, struct httpd_req *rq, struct ctr *c, bool restart) {
    const char *t = httpd_query(rq, "t"), *sig = httpd_query(rq, "signal");
    int signo = sig && *sig ? signal_parse(sig) : c->stop_signal ? signal_parse(c->stop_signal) : SIGTERM;
    long seconds = t && *t ? strtol(t, NULL, 10) : c->stop_timeout;
    if (signo < 0) {
        reply_err(rq, 400, "invalid signal: %s", sig ? sig : "");
        return;
    }
    if (c->state != CTR_RUNNING && !restart) {
        reply_empty(rq, 304);
        return;
    }
    struct op *o = op_new(g, rq, c);
    o->then_start = restart;
    if (c->state != CTR_RUNNING) {
        stop_answer(o);
        return;
    }
    c->manual_stop = now_mono();
    ctr_event(c, "kill");
    o->waiting = true;
    o->w = (struct waiter){.cond = WAIT_NEXT_EXIT, .fn = stop_ended, .arg = o};
    ctr_wait(c, &o->w);
    if (seconds == 0)
        ctr_kill_now(c, SIGKILL);
    else {
        ctr_kill_now(c, signo);
        if (seconds > 0)
            o->timer = loop_timer(g->loop, (uint64_t)seconds * 1000000000ull, 0, stop_timeout, o);
    }
}

static void handle_kill(struct httpd_req *rq, struct ctr *c) {
    const char *sig = httpd_query(rq, "signal");
    int signo = sig && *sig ? signal_parse(sig) : SIGKILL;
    if (signo < 0) {
        reply_err(rq, 400, "Invalid signal: %s", sig);
        return;
    }
    if (c->state != CTR_RUNNING) {
        reply_err(rq, 409, "Cannot kill container: %s: Container %s is not running", c->name, c->id);
        return;
    }
    ctr_kill_now(c, signo);
    ctr_event(c, "kill");
    reply_empty(rq, 204);
}

/* --- wait: the head is sent at once, so that the client can go on to start -------------------- */

static void wait_ended(void *arg, int code) {
    struct op *o = arg;
    struct buf b = BUF_MAX(4096);
    o->waiting = false;
    buf_addf(&b, "{\"StatusCode\":%d}\n", code);
    httpd_write(o->rq, buf_sv(&b));
    httpd_finish(o->rq);
    buf_done(&b);
    op_free(o);
}

static void handle_wait(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    const char *cond = httpd_query(rq, "condition");
    struct op *o = op_new(g, rq, c);
    o->w = (struct waiter){.cond = WAIT_NOT_RUNNING, .fn = wait_ended, .arg = o};
    if (cond && streq(cond, "next-exit"))
        o->w.cond = WAIT_NEXT_EXIT;
    else if (cond && streq(cond, "removed"))
        o->w.cond = WAIT_REMOVED;
    httpd_add_header(rq, "Content-Type", "application/json");
    httpd_start(rq, 200);
    o->waiting = true;
    ctr_wait(c, &o->w);
}

/* --- remove --------------------------------------------------------------------------------- */

static void removed(void *arg) {
    struct op *o = arg;
    if (o->rq)
        reply_empty(o->rq, 204);
    op_free(o);
}

static void remove_ended(void *arg, int code);

static void remove_poll(struct loop *l, void *arg) {
    struct op *o = arg;
    if (o->c->removed) { /* --rm was faster */
        removed(o);
        return;
    }
    if (o->c->busy)
        return;
    loop_remove(o->timer);
    o->timer = NULL;
    ctr_remove(o->c, removed, o);
}

static void remove_begin(struct op *o) {
    if (o->c->busy || o->c->removed)
        o->timer = loop_timer(o->g->loop, 1000000, 1000000, remove_poll, o);
    else
        ctr_remove(o->c, removed, o);
}

static void remove_ended(void *arg, int code) {
    struct op *o = arg;
    o->waiting = false;
    remove_begin(o);
}

static void handle_remove(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    bool force = query_bool(rq, "force", false);
    if (query_bool(rq, "link", false)) {
        reply_not_yet(rq, "--link");
        return;
    }
    if (c->state == CTR_RUNNING && !force) {
        reply_err(rq, 409, "You cannot remove a running container %s. Stop the container before attempting removal or force remove", c->id);
        return;
    }
    struct op *o = op_new(g, rq, c);
    if (c->state == CTR_RUNNING) {
        o->w = (struct waiter){.cond = WAIT_NEXT_EXIT, .fn = remove_ended, .arg = o};
        o->waiting = true;
        ctr_wait(c, &o->w);
        ctr_kill_now(c, SIGKILL);
        return;
    }
    remove_begin(o);
}

static void handle_prune(struct engine *g, struct httpd_req *rq) {
    struct buf b = BUF_MAX(4u << 20);
    struct json_w w;
    struct strv ids = {0};
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_key(&w, "ContainersDeleted");
    jw_arr(&w);
    MAP_FOREACH(&g->ctrs, en) {
        struct ctr *c = en->value;
        if (c->state == CTR_RUNNING || c->busy || c->service)
            continue;
        jw_str(&w, c->id);
        strv_add(&ids, c->id);
    }
    jw_end_arr(&w);
    jw_kint(&w, "SpaceReclaimed", 0);
    jw_end_obj(&w);
    for (size_t i = 0; i < ids.n; i++)
        ctr_remove(map_gets(&g->ctrs, ids.v[i]), NULL, NULL);
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
    strv_done(&ids);
}

/* --- list and the rest ---------------------------------------------------------------------- */

static bool fit_status(const char *v, void *arg) {
    const struct ctr *c = arg;
    return streq(v, c->frozen ? "paused" : ctr_state_name(c->state));
}
static bool fit_name(const char *v, void *arg) { return strstr(((struct ctr *)arg)->name, *v == '/' ? v + 1 : v) != NULL; }
static bool fit_id(const char *v, void *arg) { return startswith(((struct ctr *)arg)->id, v) != NULL; }
static bool fit_health(const char *v, void *arg) { return streq(v, health_name(arg)); }
static bool fit_network(const char *v, void *arg) { return streq(v, ((struct ctr *)arg)->network); }
static bool fit_exited(const char *v, void *arg) {
    struct ctr *c = arg;
    return c->state == CTR_EXITED && atoi(v) == c->exit_code;
}
static bool fit_ancestor(const char *v, void *arg) {
    struct ctr *c = arg;
    const char *hex = digest_hex(c->image_id);
    size_t n = strlen(c->image_name);
    return streq(v, c->image_name) || streq(v, c->image_id) || (strlen(v) >= 4 && startswith(hex, v)) ||
           (strncmp(v, c->image_name, strlen(v)) == 0 && strlen(v) < n && c->image_name[strlen(v)] == ':');
}

static bool shown(struct ctr *c, const struct json *f) {
    return filter_has(f, "status", fit_status, c) && filter_has(f, "name", fit_name, c) && filter_has(f, "id", fit_id, c) &&
           filter_has(f, "health", fit_health, c) && filter_has(f, "network", fit_network, c) &&
           filter_has(f, "exited", fit_exited, c) && filter_has(f, "ancestor", fit_ancestor, c) && filter_labels(f, &c->labels);
}

static void handle_list(struct engine *g, struct httpd_req *rq) {
    _cleanup_arena_ struct arena a = {0};
    const struct json *f = query_filters(rq, &a);
    const char *lim = httpd_query(rq, "limit");
    long limit = lim && *lim ? strtol(lim, NULL, 10) : 0;
    bool all = query_bool(rq, "all", false) || limit > 0 || json_get(f, "status") || json_get(f, "exited");
    struct buf b = BUF_MAX(64u << 20);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_arr(&w);
    long n = 0;
    for (size_t i = g->ctrs.n; i > 0; i--) { /* the newest first */
        if (g->ctrs.entries[i - 1].dead)
            continue;
        struct ctr *c = g->ctrs.entries[i - 1].value;
        if ((!all && c->state != CTR_RUNNING) || !shown(c, f) || (limit > 0 && n >= limit))
            continue;
        ctr_list_json(c, &w);
        n++;
    }
    jw_end_arr(&w);
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
}

static void handle_inspect(struct httpd_req *rq, struct ctr *c) {
    struct buf b = BUF_MAX(16u << 20);
    struct json_w w;
    jw_init(&w, &b, 0);
    ctr_inspect_json(c, &w);
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
}

static void handle_rename(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    const char *name = httpd_query(rq, "name");
    if (!name || !*name) {
        reply_err(rq, 400, "Neither old nor new names may be empty");
        return;
    }
    if (*name == '/')
        name++;
    struct ctr *o = ctr_find(g, name);
    if (o && streq(o->name, name)) {
        reply_err(rq, 409, "Conflict. The container name \"/%s\" is already in use by container \"%s\".", name, o->id);
        return;
    }
    pthread_mutex_lock(&g->mu);
    free(c->name);
    c->name = xstrdup(name);
    pthread_mutex_unlock(&g->mu);
    if (g->o.net && c->box && box_ip(c->box))
        (void)net_name_add(g->o.net, box_ip(c->box), name);
    reply_empty(rq, 204);
}

static void handle_resize(struct httpd_req *rq, struct ctr *c) {
    const char *h = httpd_query(rq, "h"), *w = httpd_query(rq, "w");
    if (c->state != CTR_RUNNING || !c->proc)
        reply_err(rq, 409, "Container %s is not running", c->id);
    else {
        if (c->tty && h && w)
            (void)box_proc_resize(c->proc, (uint16_t)strtoul(h, NULL, 10), (uint16_t)strtoul(w, NULL, 10));
        httpd_reply(rq, 200, "text/plain", SV(""));
    }
}

static void handle_one(struct engine *g, struct httpd_req *rq, struct ctr *c, const char *m, const char *verb) {
    bool get = streq(m, "GET"), post = streq(m, "POST");
    if (!*verb && streq(m, "DELETE"))
        handle_remove(g, rq, c);
    else if (streq(verb, "json") && get)
        handle_inspect(rq, c);
    else if (streq(verb, "start") && post)
        handle_start(g, rq, c);
    else if (streq(verb, "stop") && post)
        handle_stop(g, rq, c, false);
    else if (streq(verb, "restart") && post)
        handle_stop(g, rq, c, true);
    else if (streq(verb, "kill") && post)
        handle_kill(rq, c);
    else if (streq(verb, "wait") && post)
        handle_wait(g, rq, c);
    else if (streq(verb, "logs") && get)
        ctr_logs(g, rq, c);
    else if (streq(verb, "attach") && post)
        ctr_attach(g, rq, c);
    else if (streq(verb, "resize") && post)
        handle_resize(rq, c);
    else if (streq(verb, "rename") && post)
        handle_rename(g, rq, c);
    else if (streq(verb, "exec") && post)
        exec_create(g, rq, c);
    else if (streq(verb, "top") && get)
        ctr_top(g, rq, c);
    else if (streq(verb, "changes") && get)
        ctr_changes(g, rq, c);
    else if (streq(verb, "export") && get)
        ctr_export(g, rq, c);
    else if (streq(verb, "stats") && get)
        ctr_stats(g, rq, c);
    else if ((streq(verb, "pause") || streq(verb, "unpause")) && post)
        ctr_pause(g, rq, c, *verb == 'p');
    else if (streq(verb, "update") && post)
        ctr_update(g, rq, c);
    else if (streq(verb, "archive"))
        ctr_archive(g, rq, c);
    else
        reply_err(rq, 501, "not yet: %s containers/%s", m, verb);
}

void containers_handle(struct engine *g, struct httpd_req *rq, const char *rest) {
    const char *m = httpd_method(rq), *slash = strchr(rest, '/');
    if (streq(rest, "json") && streq(m, "GET"))
        handle_list(g, rq);
    else if (streq(rest, "create") && streq(m, "POST"))
        handle_create(g, rq);
    else if (streq(rest, "prune") && streq(m, "POST"))
        handle_prune(g, rq);
    else if (!*rest)
        reply_err(rq, 404, "page not found");
    else {
        _cleanup_free_ char *id = xstrndup(rest, slash ? (size_t)(slash - rest) : strlen(rest));
        struct ctr *c = ctr_find(g, id);
        if (!c)
            reply_err(rq, 404, "No such container: %s", id);
        else
            handle_one(g, rq, c, m, slash ? slash + 1 : "");
    }
}
