/* Request bodies. They are read only for somebody who wants them: collected into memory up to a
 * limit, or spooled into a descriptor by a worker. Of a spooled body one block at a time is on its
 * way: while the worker writes it, nothing is read from the socket, which is all the flow control
 * that is needed. The worker's job owns its block and uses a descriptor of the connection's own,
 * so that neither goes away under it when the client does. */
#include "base/httpd_internal.h"

#include "core/fs.h"

#include <fcntl.h>

struct spool_job {
    struct conn *c;
    char *p;
    size_t n;
    int fd, r;
    httpd_sink_fn sink;
    void *sink_arg;
};

bool body_wanted(const struct conn *c) {
    return c->rq && !c->rq->writing && (c->rq->use == BODY_COLLECT || c->rq->use == BODY_SPOOL);
}

static void say_continue(struct conn *c) {
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (!c->expects)
        return;
    c->expects = false;
    if (!c->body_done && !c->in_n)
        out_add(c, line, sizeof line - 1);
}

/* The body is wrong or too large: answers that, tells the consumer, ends the exchange. */
static void refuse(struct httpd_req *rq, int status, int why) {
    struct conn *c = rq->c;
    c->close_after = true;
    enum body_use use = rq->use;
    rq->use = BODY_TAKEN;
    if (use == BODY_COLLECT)
        rq->body_fn(rq, SV_NULL, false, rq->body_arg);
    else
        rq->spool_fn(rq, why, rq->spooled, rq->body_arg);
    if (c->rq == rq) /* "was sent": the callback must not have answered */
        httpd_reply(rq, status, "text/plain", status == 413 ? SV("the request's body is too large\n") : SV("the request's body is malformed\n"));
}

void body_abort(struct httpd_req *rq) {
    enum body_use use = rq->use;
    rq->use = BODY_TAKEN;
    if (use == BODY_COLLECT)
        rq->body_fn(rq, SV_NULL, false, rq->body_arg);
    else if (use == BODY_SPOOL)
        rq->spool_fn(rq, -ECONNRESET, rq->spooled, rq->body_arg);
}

static void spool_end(struct httpd_req *rq, int r) {
    struct conn *c = rq->c;
    c->spool_fd = fd_close(c->spool_fd);
    rq->use = BODY_TAKEN;
    rq->spool_fn(rq, r, rq->spooled, rq->body_arg);
}

static void spool_write(void *arg) {
    struct spool_job *j = arg;
    if (!j->sink) {
        j->r = fd_write_all(j->fd, j->p, j->n);
        return;
    }
    j->r = j->sink(j->sink_arg, j->p, j->n);
    atomic_store(&j->c->pouring, false);
}

static void spool_written(struct loop *l, void *arg) {
    struct spool_job *j = arg;
    struct conn *c = j->c;
    c->workers--;
    int r = j->r;
    size_t n = j->n;
    free(j->p);
    free(j);
    if (c->dying) {
        if (!c->workers && !c->posted)
            conn_gone(c);
        return;
    }
    struct httpd_req *rq = c->rq;
    rq->writing = false;
    rq->spooled += n;
    conn_touch(c);
    if (r < 0)
        spool_end(rq, r);
    conn_kick(c);
}

static void spool_start(struct httpd_req *rq) {
    struct conn *c = rq->c;
    struct spool_job *j = xcalloc(1, sizeof *j);
    j->c = c;
    j->p = TAKE(rq->stage);
    j->n = rq->stage_n;
    j->fd = c->spool_fd;
    j->sink = rq->sink;
    j->sink_arg = rq->sink_arg;
    if (j->sink)
        atomic_store(&c->pouring, true);
    rq->stage_n = 0;
    rq->writing = true;
    c->workers++;
    loop_work(c->h->l, spool_write, spool_written, j);
}

static int take(struct httpd_req *rq, struct sv data) {
    if (rq->use == BODY_COLLECT) {
        if (data.n > rq->max - rq->collected.n)
            return -EFBIG;
        buf_addsv(&rq->collected, data);
        return 0;
    }
    if (data.n > rq->max - rq->spooled - rq->stage_n)
        return -EFBIG;
    if (!rq->stage)
        rq->stage = xmalloc(READ_BLOCK);
    memcpy(rq->stage + rq->stage_n, data.p, data.n);
    rq->stage_n += data.n;
    return 0;
}

void body_step(struct conn *c) {
    struct httpd_req *rq = c->rq;
    while (!c->body_done && c->in_n) {
        size_t used, n = c->in_n;
        struct sv data;
        if (rq->use == BODY_SPOOL) {
            if (rq->stage_n == READ_BLOCK)
                break;
            n = MIN(n, (size_t)READ_BLOCK - rq->stage_n);
        }
        int r = http_body_decode(&c->body, c->in + c->in_at, n, &used, &data);
        if (r < 0) {
            refuse(rq, 400, -EBADMSG);
            return;
        }
        int t = data.n ? take(rq, data) : 0;
        c->in_at += used;
        c->in_n -= used;
        if (!c->in_n)
            c->in_at = 0;
        c->body_done = r == 1;
        if (t < 0) {
            refuse(rq, 413, t);
            return;
        }
    }
    if (rq->use == BODY_SPOOL) {
        if (rq->stage_n)
            spool_start(rq);
        else if (c->body_done)
            spool_end(rq, 0);
    } else if (c->body_done) {
        rq->use = BODY_TAKEN;
        rq->body_fn(rq, buf_sv(&rq->collected), true, rq->body_arg);
    }
}

/* By its own Content-Length: refused before the client sends it. */
static bool too_large(const struct httpd_req *rq) {
    const struct conn *c = rq->c;
    return !c->body_done && c->body.framing == HTTP_LENGTH && c->body.left > rq->max;
}

static bool begin(struct httpd_req *rq, enum body_use use, uint64_t max) {
    assert(rq->use == BODY_UNUSED);
    rq->use = use;
    rq->max = max;
    if (!rq->c || rq->c->dying)
        return false; /* its end comes from the loop, or came */
    if (!too_large(rq))
        say_continue(rq->c);
    return true;
}

void httpd_collect(struct httpd_req *rq, size_t max, httpd_body_fn fn, void *arg) {
    rq->body_fn = fn;
    rq->body_arg = arg;
    rq->collected.max = max;
    if (!begin(rq, BODY_COLLECT, max)) {
        if (!rq->c)
            body_abort(rq);
        return;
    }
    if (too_large(rq))
        refuse(rq, 413, -EFBIG);
    else
        conn_kick(rq->c);
}

void httpd_spool(struct httpd_req *rq, int fd, uint64_t max, httpd_spool_fn fn, void *arg) {
    rq->spool_fn = fn;
    rq->body_arg = arg;
    if (!begin(rq, BODY_SPOOL, max)) {
        if (!rq->c)
            body_abort(rq);
        return;
    }
    struct conn *c = rq->c;
    c->spool_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (c->spool_fd < 0) {
        rq->use = BODY_TAKEN;
        fn(rq, -errno, 0, arg);
        return;
    }
    if (too_large(rq))
        refuse(rq, 413, -EFBIG);
    else
        conn_kick(c);
}

void httpd_pour(struct httpd_req *rq, httpd_sink_fn sink, void *sink_arg, uint64_t max, httpd_spool_fn fn, void *arg) {
    rq->spool_fn = fn;
    rq->body_arg = arg;
    rq->sink = sink;
    rq->sink_arg = sink_arg;
    if (!begin(rq, BODY_SPOOL, max)) {
        if (!rq->c)
            body_abort(rq);
        return;
    }
    if (too_large(rq))
        refuse(rq, 413, -EFBIG);
    else
        conn_kick(rq->c);
}
