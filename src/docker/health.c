/* Health checks, with docker's semantics (moby daemon/health.go): the first probe after one
 * interval (start-interval within the start period), a failure within the start period does not
 * count until a first success, `retries` failures in a row make it unhealthy, one success healthy,
 * the last five results are kept.
 *
 * One thing is faster: until the first success there are probes between the regular ones, at 100
 * ms, 200 ms, 400 ms and so on. Their failures are forgotten; their success counts. So a service is
 * healthy when it is, not at the next multiple of ten seconds. */
#include "docker/impl.h"

#include <signal.h>
#include <sys/epoll.h>

#define EARLY_FIRST 100000000ull
#define SECOND 1000000000ull

struct probe {
    struct ctr *c;
    struct box *box; /* while it is being started */
    int pid1;        /* the container's process then */
    struct box_proc *proc;
    struct loop_source *src, *out_src, *timer;
    int out, r;
    bool early, ended, timed_out, dropped;
    uint64_t start;
    int code;
    struct buf text;
    struct err e;
};

void health_init(struct ctr *c, const struct json *given, const struct image_health *image) {
    struct health *h = &c->health;
    const struct json *test = json_get(given, "Test");
    if (test && test->kind == JSON_ARRAY && test->n) {
        for (size_t i = 0; i < test->n; i++)
            strv_add(&h->test, json_str(test->items[i], ""));
    } else if (image->given)
        strv_extend(&h->test, (const char *const *)image->test.v);
    h->interval = (uint64_t)MAX(json_get_int(given, "Interval", 0), 0);
    h->timeout = (uint64_t)MAX(json_get_int(given, "Timeout", 0), 0);
    h->start_period = (uint64_t)MAX(json_get_int(given, "StartPeriod", 0), 0);
    h->start_interval = (uint64_t)MAX(json_get_int(given, "StartInterval", 0), 0);
    h->retries = (int)MAX(json_get_int(given, "Retries", 0), 0);
    if (!h->interval)
        h->interval = image->interval_ns ? image->interval_ns : 30 * SECOND;
    if (!h->timeout)
        h->timeout = image->timeout_ns ? image->timeout_ns : 30 * SECOND;
    if (!h->start_period)
        h->start_period = image->start_period_ns;
    if (!h->start_interval)
        h->start_interval = image->start_interval_ns ? image->start_interval_ns : 5 * SECOND;
    if (!h->retries)
        h->retries = image->retries > 0 ? image->retries : 3;
    h->on = h->test.n > 1 || (h->test.n == 1 && !streq(h->test.v[0], "NONE") && !streq(h->test.v[0], "CMD"));
    if (h->test.n && streq(h->test.v[0], "NONE"))
        h->on = false;
}

static void schedule(struct ctr *c);

static void set_status(struct ctr *c, int status) {
    struct health *h = &c->health;
    if ((int)h->status == status)
        return;
    pthread_mutex_lock(&c->g->mu);
    h->status = status;
    pthread_cond_broadcast(&c->g->changed);
    pthread_mutex_unlock(&c->g->mu);
    ctr_event(c, status == HEALTH_HEALTHY ? "health_status: healthy" : status == HEALTH_UNHEALTHY ? "health_status: unhealthy"
                                                                                               : "health_status: starting");
}

static void note(struct health *h, const struct probe *p) {
    if (h->n_log == ELEMENTS(h->log)) {
        free(h->log[0].output);
        memmove(h->log, h->log + 1, sizeof(h->log) - sizeof(h->log[0]));
        h->n_log--;
    }
    struct sv t = buf_sv(&p->text);
    _cleanup_free_ char *timeout = p->timed_out ? xasprintf("Health check exceeded timeout (%llus)", (unsigned long long)(h->timeout / SECOND)) : NULL;
    h->log[h->n_log++] = (struct health_log){p->start, now_real(), p->code, timeout ? TAKE(timeout) : sv_dup(t)};
}

static void judge(struct ctr *c, struct probe *p) {
    struct health *h = &c->health;
    bool ok = p->code == 0;
    if (p->early && !ok)
        return;
    note(h, p);
    if (ok) {
        h->streak = 0;
        h->ok_once = true;
        set_status(c, HEALTH_HEALTHY);
        return;
    }
    bool grace = !h->ok_once && now_real() < c->started + h->start_period;
    if (grace)
        return;
    if (++h->streak >= h->retries)
        set_status(c, HEALTH_UNHEALTHY);
}

static void probe_free(struct probe *p) {
    loop_remove(p->src);
    loop_remove(p->out_src);
    loop_remove(p->timer);
    fd_close(p->out);
    if (p->proc)
        box_proc_free(p->proc);
    buf_done(&p->text);
    ctr_unref(p->c);
    free(p);
}

static void probe_done(struct probe *p) {
    struct ctr *c = p->c;
    if (!p->dropped) {
        c->health.probe = NULL;
        if (c->state == CTR_RUNNING) {
            judge(c, p);
            schedule(c);
        }
    }
    probe_free(p);
}

static void probe_output(struct loop *l, int fd, uint32_t events, void *arg) {
    struct probe *p = arg;
    char block[4096];
    ssize_t n = read(fd, block, sizeof(block));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        loop_remove(p->out_src);
        p->out_src = NULL;
        return;
    }
    size_t room = p->text.max - p->text.n;
    buf_add(&p->text, block, MIN((size_t)n, room));
}

static void probe_ended(struct loop *l, int fd, uint32_t events, void *arg) {
    struct probe *p = arg;
    if (box_proc_try(p->proc) == -EAGAIN)
        return;
    int r = box_proc_wait(p->proc, NULL);
    p->code = p->timed_out || r < 0 ? -1 : r;
    if (p->out_src)
        probe_output(l, p->out, EPOLLIN, p);
    probe_done(p);
}

static void probe_timeout(struct loop *l, void *arg) {
    struct probe *p = arg;
    p->timer = NULL; /* it has fired: the loop frees it */
    p->timed_out = true;
    (void)box_proc_signal(p->proc, SIGKILL, true);
}

static void probe_work(void *arg) {
    struct probe *p = arg;
    struct ctr *c = p->c;
    struct strv argv = {0};
    const struct strv *t = &c->health.test;
    int fd[2];
    if (streq(t->v[0], "CMD"))
        strv_extend(&argv, (const char *const *)t->v + 1);
    else if (streq(t->v[0], "CMD-SHELL")) {
        if (c->shell.n)
            strv_extend(&argv, (const char *const *)c->shell.v);
        else {
            strv_add(&argv, "/bin/sh");
            strv_add(&argv, "-c");
        }
        strv_add(&argv, t->n > 1 ? t->v[1] : "");
    } else
        strv_extend(&argv, (const char *const *)t->v);
    if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0) {
        p->r = -errno;
        strv_done(&argv);
        return;
    }
    (void)fcntl(fd[1], F_SETFL, 0);
    const struct box_exec x = {.argv = (const char *const *)argv.v, .envp = (const char *const *)c->env.v,
                               .cwd = c->workdir ? c->workdir : "/", .user = c->user, .in = -1, .out = fd[1], .err = fd[1],
                               .join = p->pid1};
    p->r = box_exec(p->box, &x, &p->proc, &p->e);
    close(fd[1]);
    p->out = fd[0];
    strv_done(&argv);
}

static void probe_started(struct loop *l, void *arg) {
    struct probe *p = arg;
    ctr_box_done(p->c, TAKE(p->box));
    if (p->r < 0 || p->dropped) {
        p->code = -1;
        buf_adds(&p->text, p->e.msg);
        probe_done(p);
        return;
    }
    p->timer = loop_timer(l, p->c->health.timeout, 0, probe_timeout, p);
    p->out_src = loop_io(l, p->out, EPOLLIN, probe_output, p);
    p->src = loop_io(l, box_proc_status_fd(p->proc), EPOLLIN, probe_ended, p);
    if (box_proc_try(p->proc) != -EAGAIN)
        probe_ended(l, -1, 0, p);
}

static void probe_begin(struct loop *l, void *arg) {
    struct ctr *c = arg;
    loop_remove(c->health.timer);
    c->health.timer = NULL;
    if (c->state != CTR_RUNNING || !c->box)
        return;
    struct probe *p = xcalloc(1, sizeof(*p));
    p->c = c;
    ctr_ref(c);
    p->out = -1;
    p->early = c->health.early;
    p->start = now_real();
    p->text = BUF_MAX(4096);
    c->health.probe = p;
    p->box = ctr_box_use(c);
    p->pid1 = c->pid;
    engine_job(c->g, probe_work, probe_started, p);
}

/* When the next probe is due: the regular one, or an early one if that comes before. */
static void schedule(struct ctr *c) {
    struct health *h = &c->health;
    bool starting = !h->ok_once && now_real() < c->started + h->start_period;
    uint64_t step = starting ? MIN(h->start_interval, h->interval) : h->interval;
    uint64_t now = now_mono(), after = step;
    h->early = false;
    if (!h->ok_once && h->streak == 0) {
        if (!h->next_regular || h->next_regular <= now)
            h->next_regular = now + step;
        after = h->next_regular - now;
        if (h->early_delay < after) {
            after = h->early_delay;
            h->early = true;
            h->early_delay *= 2;
        }
    }
    h->timer = loop_timer(c->g->loop, MAX(after, 1000000ull), 0, probe_begin, c);
}

void health_start(struct ctr *c) {
    struct health *h = &c->health;
    if (!h->on)
        return;
    h->streak = 0;
    h->ok_once = false;
    h->early_delay = EARLY_FIRST;
    h->next_regular = 0;
    pthread_mutex_lock(&c->g->mu);
    h->status = HEALTH_STARTING;
    pthread_mutex_unlock(&c->g->mu);
    schedule(c);
}

void health_stop(struct ctr *c) {
    loop_remove(c->health.timer);
    c->health.timer = NULL;
    if (c->health.probe) { /* it ends with the box, which it must not touch any more */
        c->health.probe->dropped = true;
        loop_remove(c->health.probe->timer);
        c->health.probe->timer = NULL;
        c->health.probe = NULL;
    }
    if (c->health.on && c->health.status != HEALTH_NONE) {
        pthread_mutex_lock(&c->g->mu);
        c->health.status = HEALTH_UNHEALTHY;
        pthread_mutex_unlock(&c->g->mu);
    }
}

void health_done(struct ctr *c) {
    for (size_t i = 0; i < c->health.n_log; i++)
        free(c->health.log[i].output);
    strv_done(&c->health.test);
}
