/* exec: a command in a running container, its streams joined directly with one hijacked
 * connection. A client that goes away leaves the command running with its output thrown away, as
 * docker does. */
#include "docker/impl.h"

#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

struct exec_inst {
    struct engine *g;
    char id[65];
    struct ctr *c;
    struct box *box; /* while it is being started */
    int pid1;        /* the container's process then */
    struct strv argv, env;
    char *user, *workdir;
    bool tty, in, out, err, privileged, detach;
    enum { EXEC_NEW, EXEC_STARTING, EXEC_RUNNING, EXEC_ENDED } state;
    int code, refs;
    bool code_known;
    /* running */
    struct box_proc *proc;
    int fd[3];
    struct loop_source *src[3], *proc_src, *grace;
    struct feeder feed;
    struct conn *conn;
    struct httpd_req *rq;
    uint16_t rows, cols;
    bool proc_ended, paused;
    struct loop_source *unread; /* the client has not read the answer's head yet */
    int patience;
    int r;
    struct err e;
};

static void exec_unref(struct exec_inst *x) {
    if (--x->refs > 0)
        return;
    strv_done(&x->argv);
    strv_done(&x->env);
    free(x->user);
    free(x->workdir);
    ctr_unref(x->c);
    free(x);
}

static void drop_streams(struct exec_inst *x) {
    loop_remove(x->proc_src);
    loop_remove(x->grace);
    loop_remove(x->unread);
    x->proc_src = x->grace = x->unread = NULL;
    for (int i = 1; i < 3; i++) {
        loop_remove(x->src[i]);
        x->src[i] = NULL;
        x->fd[i] = fd_close(x->fd[i]);
    }
    feeder_close(&x->feed);
    if (x->proc)
        box_proc_free(TAKE(x->proc));
    if (x->conn)
        conn_close(TAKE(x->conn));
}

static void exec_event(struct exec_inst *x, const char *action) { ctr_event(x->c, action); }

static void exec_ended(struct exec_inst *x) {
    pthread_mutex_lock(&x->g->mu);
    x->state = EXEC_ENDED;
    pthread_mutex_unlock(&x->g->mu);
    exec_event(x, "exec_die");
    drop_streams(x);
}

static void maybe_ended(struct exec_inst *x) {
    if (x->proc_ended && x->fd[1] < 0 && x->fd[2] < 0 && x->state == EXEC_RUNNING)
        exec_ended(x);
}

static void grace_over(struct loop *l, void *arg) {
    struct exec_inst *x = arg;
    if (x->state == EXEC_RUNNING)
        exec_ended(x);
}

static void proc_ready(struct loop *l, int fd, uint32_t events, void *arg) {
    struct exec_inst *x = arg;
    struct err e = {0};
    int r = box_proc_try(x->proc);
    if (r == -EAGAIN)
        return;
    r = box_proc_wait(x->proc, &e);
    loop_remove(x->proc_src);
    x->proc_src = NULL;
    x->proc_ended = true;
    x->code_known = r >= 0;
    x->code = r < 0 ? 137 : r;
    x->grace = loop_timer(x->g->loop, 1000000000ull, 0, grace_over, x);
    maybe_ended(x);
}

static void output_ready(struct loop *l, int fd, uint32_t events, void *arg);

/* Not by an empty set of events: the end of the writer would be told all the same, all the time. */
static void listen_to_output(struct exec_inst *x, bool on) {
    for (int i = 1; i < 3; i++) {
        if (on && !x->src[i] && x->fd[i] >= 0)
            x->src[i] = loop_io(x->g->loop, x->fd[i], EPOLLIN, output_ready, x);
        else if (!on) {
            loop_remove(x->src[i]);
            x->src[i] = NULL;
        }
    }
}

static void look_again(struct loop *l, void *arg) {
    struct exec_inst *x = arg;
    x->unread = NULL;
    if (!x->paused)
        listen_to_output(x, true);
}

/* docker-py reads the head through a buffer that it throws away, with whatever came along. So output
 * waits, up to 0.8 seconds, until the head has been read. */
static bool head_unread(struct exec_inst *x) {
    int n = 0;
    if (!x->conn || x->patience >= 400)
        return false;
    if (ioctl(x->conn->fd, SIOCOUTQ, &n) < 0 || n == 0) {
        x->patience = 400;
        return false;
    }
    x->patience++;
    listen_to_output(x, false);
    if (!x->unread)
        x->unread = loop_timer(x->g->loop, 2000000, 0, look_again, x);
    return true;
}

static void output_ready(struct loop *l, int fd, uint32_t events, void *arg) {
    struct exec_inst *x = arg;
    char block[64 << 10];
    int which = fd == x->fd[1] ? 1 : 2, full = 0;
    if (head_unread(x))
        return;
    ssize_t n = read(fd, block, sizeof(block));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        loop_remove(x->src[which]);
        x->src[which] = NULL;
        x->fd[which] = fd_close(fd);
        maybe_ended(x);
        return;
    }
    if (x->conn && (which == 1 ? x->out : x->err))
        conn_frame(x->conn, !x->tty, which, sv_n(block, (size_t)n), &full);
    if (full) {
        x->paused = true;
        listen_to_output(x, false);
    }
}

static void conn_drained(void *arg) {
    struct exec_inst *x = arg;
    if (!x->paused)
        return;
    x->paused = false;
    if (!x->unread)
        listen_to_output(x, true);
}

static void feed_room(void *arg) {
    struct exec_inst *x = arg;
    if (x->conn)
        conn_pause(x->conn, false);
}

static void conn_data(void *arg, const char *p, size_t n) {
    struct exec_inst *x = arg;
    if (!x->in)
        return;
    if (!n) {
        if (!x->tty)
            feeder_eof(&x->feed);
    } else if (!feeder_put(&x->feed, p, n))
        conn_pause(x->conn, true);
}

static void conn_gone(void *arg) {
    struct exec_inst *x = arg;
    if (x->conn)
        conn_close(TAKE(x->conn));
    if (x->in && !x->tty)
        feeder_eof(&x->feed);
    conn_drained(x);
}

/* --- start ---------------------------------------------------------------------------------- */

static void start_work(void *arg) {
    struct exec_inst *x = arg;
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
    bool pipes = !x->tty && !x->detach;
    x->r = 0;
    if (pipes && ((x->in && pipe2(in, O_CLOEXEC) < 0) || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0))
        x->r = err_errno(&x->e, -errno, "pipe");
    const struct box_exec bx = {
        .argv = (const char *const *)x->argv.v, .envp = (const char *const *)x->env.v, .cwd = x->workdir ? x->workdir : "/",
        .user = x->user, .tty = x->tty, .rows = x->rows ? x->rows : 24, .cols = x->cols ? x->cols : 80, .in = in[0],
        .out = out[1], .err = err[1], .privileged = x->privileged || x->c->privileged, .join = x->pid1, .wait_exec = true,
    };
    if (x->r >= 0)
        x->r = box_exec(x->box, &bx, &x->proc, &x->e);
    fd_close(in[0]);
    fd_close(out[1]);
    fd_close(err[1]);
    if (x->r < 0) {
        fd_close(in[1]);
        fd_close(out[0]);
        fd_close(err[0]);
        return;
    }
    x->fd[0] = in[1];
    x->fd[1] = out[0];
    x->fd[2] = err[0];
    if (x->tty) {
        x->fd[1] = fcntl(box_proc_tty_fd(x->proc), F_DUPFD_CLOEXEC, 3);
        x->fd[0] = x->in ? fcntl(box_proc_tty_fd(x->proc), F_DUPFD_CLOEXEC, 3) : -1;
    }
    for (int i = 0; i < 3; i++)
        if (x->fd[i] >= 0)
            (void)fcntl(x->fd[i], F_SETFL, fcntl(x->fd[i], F_GETFL) | O_NONBLOCK);
}

/* The streams of a command that runs. */
static void begin(struct exec_inst *x) {
    struct loop *l = x->g->loop;
    x->state = EXEC_RUNNING;
    for (int i = 1; i < 3; i++)
        if (x->fd[i] >= 0)
            x->src[i] = loop_io(l, x->fd[i], EPOLLIN, output_ready, x);
    x->feed.room = feed_room;
    x->feed.arg = x;
    if (x->fd[0] >= 0)
        feeder_set(&x->feed, l, TAKE_FD(x->fd[0]));
    x->proc_src = loop_io(l, box_proc_status_fd(x->proc), EPOLLIN, proc_ready, x);
    if (box_proc_try(x->proc) != -EAGAIN)
        proc_ready(l, -1, 0, x);
}

/* Before the command is started, as docker does: clients that read the head through a buffer (and
 * docker-py throws that buffer away) would lose output that comes with it. */
static void take_connection(struct exec_inst *x, struct httpd_req *rq) {
    struct buf early = BUF_MAX(1u << 20);
    int fd = -1;
    if (httpd_hijack(rq, x->tty ? "application/vnd.docker.raw-stream" : "application/vnd.docker.multiplexed-stream", &fd, &early) < 0) {
        reply_err(rq, 500, "the connection cannot be taken over");
        return;
    }
    x->conn = conn_new(x->g->loop, fd);
    x->conn->arg = x;
    x->conn->data = conn_data;
    x->conn->drained = conn_drained;
    x->conn->gone = conn_gone;
    conn_start(x->conn, &early);
    buf_done(&early);
}

static void start_done(struct loop *l, void *arg) {
    struct exec_inst *x = arg;
    struct httpd_req *rq = TAKE(x->rq);
    ctr_box_done(x->c, TAKE(x->box));
    if (x->r < 0) {
        x->state = EXEC_ENDED;
        x->code = x->r == -ENOENT ? 127 : 126;
        x->code_known = true;
        if (rq)
            reply_errp(rq, &x->e);
        if (x->conn) {
            _cleanup_buf_ struct buf b = BUF_MAX(4096);
            int full;
            buf_addf(&b, "OCI runtime exec failed: exec failed: unable to start container process: %s: unknown\r\n", x->e.msg);
            conn_frame(x->conn, !x->tty, 1, buf_sv(&b), &full);
        }
        drop_streams(x);
        exec_unref(x);
        return;
    }
    exec_event(x, "exec_start");
    if (rq)
        httpd_reply(rq, 200, "application/json", SV(""));
    if (x->state == EXEC_STARTING)
        begin(x);
    else /* the container went away meanwhile */
        drop_streams(x);
    exec_unref(x); /* the map's reference stays */
}

static void exec_drop(struct exec_inst **x) { exec_unref(*x); }

static void start_abort(struct httpd_req *rq, void *arg) { ((struct exec_inst *)arg)->rq = NULL; }

static void start_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct exec_inst *x = arg;
    _cleanup_arena_ struct arena a = {0};
    _cleanup_(exec_drop) struct exec_inst *held = x; /* taken by exec_handle: its container may have
                                                        been removed while the body came in */
    struct json *j = NULL;
    (void)held;
    if (!ok)
        return;
    char *copy = arena_strndup(&a, body.p ? body.p : "", body.n);
    if (sv_trim(body).n && json_parse(&a, sv_n(copy, body.n), &j, NULL) < 0) {
        reply_err(rq, 400, "invalid JSON");
        return;
    }
    if (x->state != EXEC_NEW) {
        reply_err(rq, 409, "Error: Exec command %s has already run", x->id);
        return;
    }
    if (x->c->state != CTR_RUNNING) {
        reply_err(rq, 409, "container %s is not running", x->c->id);
        return;
    }
    x->detach = json_get_bool(j, "Detach", false);
    const struct json *size = json_get(j, "ConsoleSize");
    if (size && size->kind == JSON_ARRAY && size->n == 2) {
        x->rows = (uint16_t)json_int(size->items[0], 0);
        x->cols = (uint16_t)json_int(size->items[1], 0);
    }
    x->state = EXEC_STARTING;
    x->refs++;
    if (x->detach) {
        x->rq = rq;
        httpd_on_abort(rq, start_abort, x);
    } else
        take_connection(x, rq);
    x->box = ctr_box_use(x->c);
    x->pid1 = x->c->pid;
    engine_job(x->g, start_work, start_done, x);
}

/* --- requests ------------------------------------------------------------------------------- */

struct making {
    struct engine *g;
    struct ctr *c;
};

static void create_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct making *m = arg;
    struct ctr *c = m->c;
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    char *copy = arena_strndup(&a, body.p ? body.p : "", body.n);
    struct engine *g = m->g;
    free(m);
    if (!ok)
        goto out;
    if (json_parse(&a, sv_n(copy, body.n), &j, NULL) < 0 || !j || j->kind != JSON_OBJECT) {
        reply_err(rq, 400, "invalid JSON");
        goto out;
    }
    const struct json *cmd = json_get(j, "Cmd"), *env = json_get(j, "Env");
    if (!cmd || cmd->kind != JSON_ARRAY || !cmd->n) {
        reply_err(rq, 400, "No exec command specified");
        goto out;
    }
    struct exec_inst *x = xcalloc(1, sizeof(*x));
    x->g = g;
    x->refs = 1;
    x->c = c;
    ctr_ref(c);
    x->fd[0] = x->fd[1] = x->fd[2] = -1;
    x->feed.fd = -1;
    random_id(x->id, 64);
    for (size_t i = 0; i < cmd->n; i++)
        strv_add(&x->argv, json_str(cmd->items[i], ""));
    strv_extend(&x->env, (const char *const *)c->env.v);
    for (size_t i = 0; env && env->kind == JSON_ARRAY && i < env->n; i++) {
        const char *kv = json_str(env->items[i], ""), *eq = strchr(kv, '=');
        if (!eq || eq == kv)
            continue;
        _cleanup_free_ char *k = xstrndup(kv, (size_t)(eq - kv));
        strv_env_set(&x->env, k, eq + 1);
    }
    x->tty = json_get_bool(j, "Tty", false);
    if (!strv_env_get(&x->env, "HOSTNAME"))
        strv_env_set(&x->env, "HOSTNAME", c->hostname);
    if (x->tty && !strv_env_get(&x->env, "TERM"))
        strv_env_set(&x->env, "TERM", "xterm");
    const char *user = json_get_str(j, "User", ""), *dir = json_get_str(j, "WorkingDir", "");
    x->user = *user ? xstrdup(user) : xstrdup(c->user);
    x->workdir = *dir ? xstrdup(dir) : xstrdup(c->workdir);
    x->in = json_get_bool(j, "AttachStdin", false);
    x->out = json_get_bool(j, "AttachStdout", false);
    x->err = json_get_bool(j, "AttachStderr", false);
    x->privileged = json_get_bool(j, "Privileged", false);
    map_sets(&g->execs, x->id, x);
    struct buf b = BUF_MAX(4096);
    buf_addf(&b, "{\"Id\":\"%s\"}", x->id);
    httpd_reply_json(rq, 201, &b);
    buf_done(&b);
out:
    ctr_unref(c);
}

void exec_create(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    if (c->state != CTR_RUNNING) {
        reply_err(rq, 409, "container %s is not running", c->id);
        return;
    }
    if (c->frozen) {
        reply_err(rq, 409, "Container %s is paused, unpause the container before exec", c->id);
        return;
    }
    struct making *m = xcalloc(1, sizeof(*m));
    *m = (struct making){g, c};
    ctr_ref(c);
    httpd_collect(rq, 4u << 20, create_body, m);
}

static void inspect(struct httpd_req *rq, struct exec_inst *x) {
    struct buf b = BUF_MAX(4u << 20);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "ID", x->id);
    jw_kbool(&w, "Running", x->state == EXEC_RUNNING || x->state == EXEC_STARTING);
    jw_key(&w, "ExitCode");
    if (x->state == EXEC_ENDED)
        jw_int(&w, x->code);
    else
        jw_null(&w);
    jw_key(&w, "ProcessConfig");
    jw_obj(&w);
    jw_kbool(&w, "tty", x->tty);
    jw_kstr(&w, "entrypoint", x->argv.v[0]);
    jw_key(&w, "arguments");
    jw_arr(&w);
    for (size_t i = 1; i < x->argv.n; i++)
        jw_str(&w, x->argv.v[i]);
    jw_end_arr(&w);
    jw_kbool(&w, "privileged", x->privileged);
    if (x->user)
        jw_kstr(&w, "user", x->user);
    jw_end_obj(&w);
    jw_kbool(&w, "OpenStdin", x->in);
    jw_kbool(&w, "OpenStderr", x->err);
    jw_kbool(&w, "OpenStdout", x->out);
    jw_kbool(&w, "CanRemove", x->state == EXEC_ENDED);
    jw_kstr(&w, "ContainerID", x->c->id);
    jw_kstr(&w, "DetachKeys", "");
    jw_kint(&w, "Pid", x->state == EXEC_RUNNING && x->proc ? MAX(box_proc_pid(x->proc), 1) : 0);
    jw_end_obj(&w);
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
}

void exec_handle(struct engine *g, struct httpd_req *rq, const char *rest) {
    const char *slash = strchr(rest, '/'), *m = httpd_method(rq);
    _cleanup_free_ char *id = xstrndup(rest, slash ? (size_t)(slash - rest) : strlen(rest));
    struct exec_inst *x = map_gets(&g->execs, id);
    const char *verb = slash ? slash + 1 : "";
    if (!x)
        reply_err(rq, 404, "No such exec instance: %s", id);
    else if (streq(verb, "json") && streq(m, "GET"))
        inspect(rq, x);
    else if (streq(verb, "start") && streq(m, "POST")) {
        x->refs++;
        httpd_collect(rq, 1u << 20, start_body, x);
    } else if (streq(verb, "resize") && streq(m, "POST")) {
        const char *h = httpd_query(rq, "h"), *w = httpd_query(rq, "w");
        if (h && w) {
            x->rows = (uint16_t)strtoul(h, NULL, 10);
            x->cols = (uint16_t)strtoul(w, NULL, 10);
            if (x->proc && x->tty)
                (void)box_proc_resize(x->proc, x->rows, x->cols);
        }
        httpd_reply(rq, 200, "text/plain", SV(""));
    } else
        reply_err(rq, 501, "not yet: %s exec/%s", m, verb);
}

void exec_free_all(struct engine *g, struct ctr *c) {
    for (size_t i = 0; i < g->execs.n; i++) {
        if (g->execs.entries[i].dead)
            continue;
        struct exec_inst *x = g->execs.entries[i].value;
        if (c && x->c != c)
            continue;
        if (x->state == EXEC_STARTING)
            x->state = EXEC_ENDED; /* start_done sees it */
        if (x->state == EXEC_RUNNING) {
            x->state = EXEC_ENDED;
            x->code = 137;
            drop_streams(x);
        }
        map_remove(&g->execs, sv_from(x->id));
        exec_unref(x);
    }
}

void exec_ids_json(struct engine *g, struct ctr *c, struct json_w *w) {
    bool any = false;
    jw_key(w, "ExecIDs");
    MAP_FOREACH(&g->execs, en) {
        struct exec_inst *x = en->value;
        if (x->c != c || x->state != EXEC_RUNNING)
            continue;
        if (!any)
            jw_arr(w);
        any = true;
        jw_str(w, x->id);
    }
    if (any)
        jw_end_arr(w);
    else
        jw_null(w);
}
