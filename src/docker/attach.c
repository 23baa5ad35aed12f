/* logs (an answer in parts) and attach (a hijacked connection): two followers of the same log. */
#include "docker/impl.h"

/* --- logs ----------------------------------------------------------------------------------- */

struct logs {
    struct follower f;
    struct httpd_req *rq;
};

static int logs_write(void *arg, struct sv data) { return httpd_write(((struct logs *)arg)->rq, data); }

static void logs_end(void *arg) {
    struct logs *l = arg;
    httpd_finish(l->rq);
    free(l);
}

static void logs_abort(struct httpd_req *rq, void *arg) {
    struct logs *l = arg;
    follower_remove(&l->f);
    free(l);
}

static void logs_drain(struct httpd_req *rq, void *arg) {
    struct logs *l = arg;
    l->f.blocked = false;
    follower_pump(&l->f);
}

/* "1700000000.123456789", or RFC 3339. */
static uint64_t time_ns(const char *s) {
    uint64_t sec = 0, ns = 0;
    if (!s || !*s || streq(s, "0"))
        return 0;
    size_t n = strspn(s, "0123456789");
    if (s[n] && s[n] != '.')
        return 0;
    if (sv_u64(sv_n(s, n), UINT64_MAX / 1000000000, &sec) < 0)
        return 0;
    if (s[n] == '.') {
        char frac[10] = "000000000";
        memcpy(frac, s + n + 1, MIN(strspn(s + n + 1, "0123456789"), (size_t)9));
        ns = strtoull(frac, NULL, 10);
    }
    return sec * 1000000000 + ns;
}

void ctr_logs(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    bool out = query_bool(rq, "stdout", false), err = query_bool(rq, "stderr", false);
    const char *tail = httpd_query(rq, "tail");
    uint64_t n;
    if (!out && !err) {
        reply_err(rq, 400, "Bad parameters: you must choose at least one stream");
        return;
    }
    struct logs *l = xcalloc(1, sizeof(*l));
    l->rq = rq;
    l->f = (struct follower){.c = c, .want = {false, out, err}, .stamps = query_bool(rq, "timestamps", false),
                             .follow = query_bool(rq, "follow", false), .frames = !c->tty,
                             .since = time_ns(httpd_query(rq, "since")), .until = time_ns(httpd_query(rq, "until")),
                             .write = logs_write, .end = logs_end, .arg = l};
    if (tail && sv_u64(sv_from(tail), UINT64_MAX, &n) >= 0) {
        uint64_t all = log_count_lines(c, l->f.want);
        l->f.skip = all > n ? all - n : 0;
    }
    httpd_add_header(rq, "Content-Type", c->tty ? "application/vnd.docker.raw-stream" : "application/vnd.docker.multiplexed-stream");
    httpd_start(rq, 200);
    httpd_on_abort(rq, logs_abort, l);
    httpd_on_drain(rq, logs_drain, l);
    follower_add(c, &l->f);
    follower_pump(&l->f);
}

/* --- attach --------------------------------------------------------------------------------- */

struct attached {
    struct follower f;
    struct conn *conn;
    struct ctr *c;
    bool in, following;
};

static void attached_free(struct attached *a) {
    if (a->following)
        follower_remove(&a->f);
    if (a->c->in.arg == a) {
        a->c->in.room = NULL;
        a->c->in.arg = NULL;
    }
    conn_close(a->conn);
    ctr_unref(a->c);
    free(a);
}

static int attached_write(void *arg, struct sv data) { return conn_write(((struct attached *)arg)->conn, data); }

static void attached_end(void *arg) { /* the run is over */
    struct attached *a = arg;
    a->following = false;
    attached_free(a);
}

static void attached_drained(void *arg) {
    struct attached *a = arg;
    a->f.blocked = false;
    if (a->following)
        follower_pump(&a->f);
}

static void attached_room(void *arg) { conn_pause(((struct attached *)arg)->conn, false); }

static void attached_data(void *arg, const char *p, size_t n) {
    struct attached *a = arg;
    if (!a->in)
        return;
    if (!n) {
        if (a->c->stdin_once || !a->c->tty)
            feeder_eof(&a->c->in);
        return;
    }
    a->c->in.room = attached_room;
    a->c->in.arg = a;
    if (!feeder_put(&a->c->in, p, n))
        conn_pause(a->conn, true);
}

static void attached_gone(void *arg) { attached_free(arg); }

void ctr_attach(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    bool in = query_bool(rq, "stdin", false), out = query_bool(rq, "stdout", false), err = query_bool(rq, "stderr", false);
    bool stream = query_bool(rq, "stream", false), logs = query_bool(rq, "logs", false);
    struct buf early = BUF_MAX(1u << 20);
    int fd = -1;
    int r = httpd_hijack(rq, c->tty ? "application/vnd.docker.raw-stream" : "application/vnd.docker.multiplexed-stream", &fd, &early);
    if (r < 0) {
        reply_err(rq, 500, "the connection cannot be taken over");
        return;
    }
    struct attached *a = xcalloc(1, sizeof(*a));
    a->c = c;
    ctr_ref(c);
    a->in = in && c->open_stdin;
    a->conn = conn_new(g->loop, fd);
    a->conn->arg = a;
    a->conn->data = attached_data;
    a->conn->drained = attached_drained;
    a->conn->gone = attached_gone;
    a->f = (struct follower){.c = c, .want = {false, out, err}, .follow = stream, .frames = !c->tty, .attach = true,
                             .until_started = c->state != CTR_RUNNING, .off = logs ? 0 : clog_end(&c->log),
                             .write = attached_write, .end = attached_end, .arg = a};
    a->following = true;
    conn_start(a->conn, &early);
    buf_done(&early);
    follower_add(c, &a->f);
    follower_pump(&a->f);
}
