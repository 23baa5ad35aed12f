#include "run/shell.h"

#include "core/fs.h"
#include "run/place.h"
#include "run/stepx.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MESSAGE_MAX (64u << 10)

/* --- a shell ----------------------------------------------------------------------------------- */

struct run_shell {
    struct box_proc *proc;
    int tty;
};

int run_shell_open(const struct run_stop *at, const char *const *argv, uint16_t rows, uint16_t cols, const int *fds, struct run_shell **ret,
                   int *ret_tty, struct err *e) {
    static const char *const bash[] = {"bash", NULL}, *const sh[] = {"sh", NULL};
    struct jobx *x = at->x;
    if (x->host || !x->box)
        return err_set(e, ERR_USER, -EINVAL, "a job on the host has no box to look into");
    _cleanup_strv_ struct strv env = {0};
    strv_extend(&env, (const char *const *)at->env->v);
    const char *term = getenv("TERM");
    if (!fds)
        strv_env_set(&env, "TERM", term && *term ? term : "xterm");
    struct box_exec be = {.argv = argv ? argv : x->has_bash ? bash : sh, .envp = (const char *const *)env.v, .cwd = at->cwd, .make_cwd = true,
                          .user = x->user, .tty = !fds, .rows = rows, .cols = cols, .in = fds ? fds[0] : -1, .out = fds ? fds[1] : -1, .err = fds ? fds[2] : -1};
    struct run_shell *s = xcalloc(1, sizeof *s);
    int r = box_exec(x->box, &be, &s->proc, e);
    if (r < 0) {
        free(s);
        return r;
    }
    s->tty = fds ? -1 : box_proc_tty_fd(s->proc);
    *ret = s;
    *ret_tty = s->tty;
    return 0;
}

int run_shell_fd(const struct run_shell *s) { return box_proc_status_fd(s->proc); }

int run_shell_end(struct run_shell *s) {
    int code = box_proc_try(s->proc);
    if (code == -EAGAIN) {
        box_proc_signal(s->proc, SIGHUP, true);
        box_proc_signal(s->proc, SIGKILL, true);
        code = box_proc_wait(s->proc, NULL);
    }
    box_proc_free(s->proc);
    free(s);
    return code;
}

/* --- where a step stops ------------------------------------------------------------------------ */

static bool named(const struct step *s, const char *want) {
    char no[16];
    snprintf(no, sizeof no, "%u", s->no);
    return streq(want, no) || (s->id && !s->ps->id_generated && sv_ieqs(sv_from(s->id), want)) || sv_ieqs(sv_from(s->title), want) ||
           (s->ps->name.s && sv_ieqs(sv_from(s->ps->name.s), want));
}

static bool wanted(const struct jobx *x, const struct step *s, bool failed) {
    for (size_t i = 0; i < x->rq->breaks.n; i++) {
        const char *b = x->rq->breaks.v[i];
        if (failed ? streq(b, "on-failure") : named(s, b))
            return true;
    }
    return false;
}

static void environment(struct jobx *x, struct step *s, const struct value *own, struct strv *env, char **cwd) {
    struct ctx c;
    _cleanup_arena_ struct arena a = {0};
    struct sv dir = SV_NULL;
    const struct plan *plan = x->leg->flow->plan;
    const struct text *wd = s->ps->working_directory.s ? &s->ps->working_directory
                            : s->ps->kind != STEP_RUN ? NULL
                            : x->pj->default_working_directory.s ? &x->pj->default_working_directory : &plan->default_working_directory;
    step_env(x, s, own, env);
    step_ctx(x, &c, &a);
    if (wd && ctx_string(&c, wd, "", &dir, NULL) < 0)
        dir = SV_NULL;
    *cwd = path_join(x->workspace, dir.n ? dir.p : ".");
}

enum run_go step_stop(struct jobx *x, struct step *s, const struct value *own, bool failed) {
    bool ask = x->rq->on_stop && wanted(x, s, failed), keep = failed && x->rq->keep;
    if (x->scope->owner || x->host || (!ask && !keep))
        return RUN_GO_ON;
    _cleanup_strv_ struct strv env = {0};
    _cleanup_free_ char *cwd = NULL;
    environment(x, s, own, &env, &cwd);
    struct run_stop at = {x->leg->name, s->title, s->no, failed, x, &env, cwd};
    enum run_go go = ask ? x->rq->on_stop(x->rq->on_stop_arg, &at) : RUN_GO_ON;
    if (go == RUN_STOP)
        run_cancel(x->run);
    if (go == RUN_REPEAT || !keep)
        return go;
    strv_done(&x->kept_env);
    strv_extend(&x->kept_env, (const char *const *)env.v);
    x->kept_cwd = arena_strdup(x->a, cwd);
    x->kept_step = arena_strdup(x->a, s->title);
    return go;
}

/* --- messages ---------------------------------------------------------------------------------- */

int kept_send(int sock, struct sv json, const int *fds, size_t n) {
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(3 * sizeof(int))];
    } c = {0};
    struct iovec iov = {(void *)(uintptr_t)json.p, json.n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n) {
        m.msg_control = c.space;
        m.msg_controllen = CMSG_SPACE(n * sizeof(int));
        c.h = (struct cmsghdr){.cmsg_len = CMSG_LEN(n * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&c.h), fds, n * sizeof(int));
    }
    ssize_t r = sendmsg(sock, &m, MSG_NOSIGNAL);
    return r < 0 ? -errno : 0;
}

ssize_t kept_receive(int sock, struct buf *json, int fds[3], size_t *ret_n) {
    char text[4096];
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(3 * sizeof(int))];
    } c;
    struct iovec iov = {text, sizeof text};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.space, .msg_controllen = sizeof c.space};
    ssize_t r = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
    *ret_n = 0;
    if (r < 0)
        return -errno;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
            *ret_n = MIN((h->cmsg_len - CMSG_LEN(0)) / sizeof(int), (size_t)3);
            memcpy(fds, CMSG_DATA(h), *ret_n * sizeof(int));
        }
    buf_reset(json);
    buf_add(json, text, (size_t)r);
    return r;
}

char *run_kept_socket(struct store *s, const char *run_id) { return xasprintf("%s/%s/%s", store_path(s), KEPT_DIR, run_id); }

/* --- serving kept jobs ------------------------------------------------------------------------- */

struct server {
    struct run *r;
    struct loop_source *idle;
    uint64_t idle_ns;
    atomic_uint open;
};
struct client {
    struct server *srv;
    int sock;
};

unsigned run_kept(const struct run *r, void (*fn)(void *arg, const char *job, const char *step), void *arg) {
    unsigned n = 0;
    for (struct jobx *x = r->kept; x; x = x->next_kept, n++)
        if (fn)
            fn(arg, x->leg->name, x->kept_step);
    return n;
}

static void list(struct run *r, struct json_w *w) {
    jw_obj(w);
    jw_kstr(w, "run", r->id);
    jw_kstr(w, "dir", r->rq->dir);
    jw_key(w, "jobs");
    jw_arr(w);
    for (struct jobx *x = r->kept; x; x = x->next_kept) {
        jw_obj(w);
        jw_kstr(w, "name", x->leg->name);
        jw_kstr(w, "id", x->pj->id);
        jw_kstr(w, "step", x->kept_step);
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_end_obj(w);
}

static struct jobx *kept_find(struct run *r, const char *name) {
    for (struct jobx *x = r->kept; x; x = x->next_kept)
        if (!name || streq(x->leg->name, name) || streq(x->pj->id, name))
            return x;
    return NULL;
}

static void reply_code(int sock, int code, const struct err *e) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kint(&w, "code", code);
    if (e && e->msg[0])
        jw_kstr(&w, "error", e->msg);
    jw_end_obj(&w);
    kept_send(sock, buf_sv(&b), NULL, 0);
}

static void shell(struct client *c, const struct json *q, int *fds, size_t n_fds) {
    struct err e = {0};
    struct jobx *x = kept_find(c->srv->r, json_get_str(q, "job", NULL));
    const struct json *cmd = json_get(q, "argv");
    const char *argv[64] = {NULL};
    struct run_shell *s;
    int tty;
    for (size_t i = 0; cmd && cmd->kind == JSON_ARRAY && i < cmd->n && i < ELEMENTS(argv) - 1; i++)
        argv[i] = json_str(cmd->items[i], "");
    if (!x) {
        err_set(&e, ERR_NOTFOUND, -ENOENT, "no such job is kept");
        reply_code(c->sock, 2, &e);
        return;
    }
    struct run_stop at = {.x = x, .env = &x->kept_env, .cwd = x->kept_cwd ? x->kept_cwd : x->workspace};
    if (run_shell_open(&at, argv[0] ? argv : NULL, (uint16_t)json_get_int(q, "rows", 24), (uint16_t)json_get_int(q, "cols", 80), n_fds == 3 ? fds : NULL, &s,
                       &tty, &e) < 0) {
        reply_code(c->sock, 1, &e);
        return;
    }
    if (tty >= 0)
        kept_send(c->sock, SV("{}"), &tty, 1);
    for (size_t i = 0; i < n_fds; i++) /* the end of its output is the process's own */
        fds[i] = fd_close(fds[i]);
    struct pollfd p[2] = {{run_shell_fd(s), POLLIN, 0}, {c->sock, POLLIN | POLLRDHUP, 0}};
    while (poll(p, 2, -1) < 0 && errno == EINTR)
        ;
    reply_code(c->sock, run_shell_end(s), NULL);
}

static void stop_loop(struct loop *l, void *arg) { loop_stop(l, 0); }

static void *client_main(void *arg) {
    struct client *c = arg;
    _cleanup_buf_ struct buf text = BUF_MAX(MESSAGE_MAX), out = BUF_MAX(MESSAGE_MAX);
    _cleanup_arena_ struct arena a = {0};
    struct json *q = NULL;
    int fds[3] = {-1, -1, -1};
    size_t n = 0;
    if (kept_receive(c->sock, &text, fds, &n) > 0 && json_parse(&a, buf_sv(&text), &q, NULL) >= 0) {
        const char *op = json_get_str(q, "op", "");
        if (streq(op, "shell"))
            shell(c, q, fds, n);
        else if (streq(op, "end")) {
            reply_code(c->sock, 0, NULL);
            loop_post(c->srv->r->loop, stop_loop, NULL);
        } else {
            struct json_w w;
            jw_init(&w, &out, 0);
            list(c->srv->r, &w);
            kept_send(c->sock, buf_sv(&out), NULL, 0);
        }
    }
    for (size_t i = 0; i < 3; i++)
        fd_close(fds[i]);
    fd_close(c->sock);
    atomic_fetch_sub(&c->srv->open, 1);
    free(c);
    return NULL;
}

static void on_client(struct loop *l, int fd, uint32_t events, void *arg) {
    struct server *s = arg;
    int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    pthread_t t;
    if (sock < 0)
        return;
    struct client *c = xcalloc(1, sizeof *c);
    *c = (struct client){s, sock};
    atomic_fetch_add(&s->open, 1);
    loop_timer_set(s->idle, s->idle_ns);
    if (pthread_create(&t, NULL, client_main, c) == 0)
        pthread_detach(t);
    else {
        atomic_fetch_sub(&s->open, 1);
        close(sock);
        free(c);
    }
}

static void on_idle(struct loop *l, void *arg) {
    struct server *s = arg;
    if (atomic_load(&s->open))
        loop_timer_set(s->idle, s->idle_ns);
    else
        loop_stop(l, 0);
}

int run_keep_serve(struct run *r, uint64_t idle_ns, void (*ready)(void *arg), void *arg, struct err *e) {
    struct server s = {.r = r, .idle_ns = idle_ns};
    _cleanup_free_ char *path = run_kept_socket(r->rq->store, r->id);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sa.sun_path)
        return err_set(e, ERR_ENV, -ENAMETOOLONG, "%s is too long for a socket", path);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    int x = fs_mkdirs(store_dirfd(r->rq->store), KEPT_DIR, 0700);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    if (x < 0 || fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, 8) < 0)
        return err_errno(e, x < 0 ? x : -errno, "%s", path);
    struct loop_source *io = loop_io(r->loop, fd, EPOLLIN, on_client, &s);
    s.idle = loop_timer(r->loop, idle_ns, 0, on_idle, &s);
    ready(arg);
    loop_run(r->loop);
    loop_remove(io);
    loop_remove(s.idle);
    unlink(path);
    for (int i = 0; i < 50 && atomic_load(&s.open); i++) /* threads that say goodbye */
        usleep(20000);
    return 0;
}
