/* The HTTP server's connections. Each is a small state machine driven by epoll:
 *
 *   HEAD      bytes are gathered until the empty line, then the handler is called
 *   EXCHANGE  the handler (or somebody later) answers; the body is read only when it was asked
 *             for, and only as fast as it is taken (httpd_body.c), so memory stays bounded
 *   DISCARD   the answer is complete, a rest of the body that nobody read is dropped
 *   LINGER    we have said all and closed our side; what still comes is dropped for a moment, so
 *             that the client sees the answer instead of a reset
 *
 * Nothing is freed while code of the connection is on the stack: conn_kill() marks and closes, the
 * memory goes from a posted function (conn_reap), after workers that hold it have come back. A
 * request outlives its connection when its handler has taken it along (rq->c is NULL then). */
#include "base/httpd_internal.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#define SECOND 1000000000ull
#define HEAD_TIMEOUT (30 * SECOND)
#define IDLE_TIMEOUT (180 * SECOND)
#define BODY_TIMEOUT (300 * SECOND)
#define LINGER_TIMEOUT (2 * SECOND)

/* --- bytes in and out ---------------------------------------------------------------------- */

static ssize_t tls_result(struct conn *c, int r) {
    int why = SSL_get_error(c->ssl, r);
    c->want_write = why == SSL_ERROR_WANT_WRITE;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return -EAGAIN;
    return why == SSL_ERROR_ZERO_RETURN ? 0 : -ECONNRESET;
}

static ssize_t conn_recv(struct conn *c, void *p, size_t n) {
    if (c->ssl) {
        ERR_clear_error();
        int r = SSL_read(c->ssl, p, (int)MIN(n, (size_t)1 << 30));
        return r > 0 ? r : tls_result(c, r);
    }
    ssize_t r;
    do
        r = recv(c->fd, p, n, 0);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static ssize_t conn_send(struct conn *c, const void *p, size_t n) {
    if (c->ssl) {
        ERR_clear_error();
        int r = SSL_write(c->ssl, p, (int)MIN(n, (size_t)1 << 30));
        ssize_t k = r > 0 ? r : tls_result(c, r);
        return k == 0 ? -EPIPE : k;
    }
    ssize_t r;
    do
        r = send(c->fd, p, n, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

void conn_touch(struct conn *c) {
    uint64_t wait = c->state == CONN_LINGER                              ? LINGER_TIMEOUT
                    : c->state == CONN_HEAD && (c->in_n || c->handshaking) ? HEAD_TIMEOUT
                    : c->state == CONN_HEAD                              ? IDLE_TIMEOUT
                                                                         : BODY_TIMEOUT;
    c->deadline_ns = now_mono() + wait;
}

static void chunk_drop(struct conn *c) {
    struct out_chunk *o = c->out;
    c->out = o->next;
    if (!c->out)
        c->out_tail = &c->out;
    fd_close(o->fd);
    free(o->p);
    free(o);
}

static struct out_chunk *chunk_new(struct conn *c) {
    struct out_chunk *o = xcalloc(1, sizeof *o);
    o->fd = -1;
    *c->out_tail = o;
    c->out_tail = &o->next;
    return o;
}

void out_add(struct conn *c, const void *p, size_t n) {
    if (!n)
        return;
    struct out_chunk *last = c->out ? (struct out_chunk *)c->out_tail : NULL; /* next comes first */
    if (!last || last->fd >= 0 || last->cap - last->n < n) {
        last = chunk_new(c);
        last->cap = MAX(n, (size_t)16 << 10);
        last->p = xmalloc(last->cap);
    }
    memcpy(last->p + last->n, p, n);
    last->n += n;
    c->queued += n;
}

void out_add_fd(struct conn *c, int fd, uint64_t off, uint64_t n) {
    struct out_chunk *o = chunk_new(c);
    o->fd = fd;
    o->off = off;
    o->left = n;
}

static ssize_t send_file(struct conn *c, struct out_chunk *o) {
    off_t off = (off_t)o->off;
    ssize_t r;
    if (!c->ssl) {
        do
            r = sendfile(c->fd, o->fd, &off, (size_t)MIN(o->left, (uint64_t)4 << 20));
        while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : r == 0 ? -EIO : r;
    }
    if (!o->p)
        o->p = xmalloc(64 << 10); /* SSL_write must be tried again with the same bytes */
    r = pread(o->fd, o->p, (size_t)MIN(o->left, (uint64_t)64 << 10), off);
    if (r <= 0)
        return r < 0 ? -errno : -EIO;
    return conn_send(c, o->p, (size_t)r);
}

int conn_flush(struct conn *c) {
    bool moved = false;
    while (c->out && !c->dying && !c->handshaking) {
        struct out_chunk *o = c->out;
        if (o->fd >= 0 ? o->left == 0 : o->at == o->n) {
            chunk_drop(c);
            continue;
        }
        ssize_t r = o->fd >= 0 ? send_file(c, o) : conn_send(c, o->p + o->at, o->n - o->at);
        if (r == -EAGAIN)
            break;
        if (r < 0) {
            conn_kill(c);
            return (int)r;
        }
        moved = true;
        if (o->fd >= 0) {
            o->off += (uint64_t)r;
            o->left -= (uint64_t)r;
        } else {
            o->at += (size_t)r;
            c->queued -= (size_t)r;
        }
    }
    if (moved)
        conn_touch(c);
    return c->dying ? -EPIPE : 0;
}

/* --- life and death ------------------------------------------------------------------------ */

void rq_free(struct httpd_req *rq) {
    arena_done(&rq->a);
    buf_done(&rq->collected);
    strv_done(&rq->extra);
    free(rq->params);
    free(rq->stage);
    free(rq);
}

static void conn_free(struct conn *c) {
    while (c->out)
        chunk_drop(c);
    fd_close(c->spool_fd);
    free(c->in);
    free(c);
}

/* The exchange of a connection that is gone: tells who waits for it, once (whoever is told frees
 * what belongs to the exchange, so a second word would come to freed memory). */
static void orphan(struct conn *c) {
    struct httpd_req *rq = TAKE(c->rq);
    if (!rq)
        return;
    rq->c = NULL;
    bool body = rq->use == BODY_COLLECT || rq->use == BODY_SPOOL, told = body || rq->abort;
    if (body)
        body_abort(rq);
    else if (rq->abort)
        rq->abort(rq, rq->abort_arg);
    if (told)
        rq_free(rq);
    /* else: freed when its owner finishes it */
}

void conn_gone(struct conn *c) {
    orphan(c);
    conn_free(c);
}

static void conn_reap(struct loop *l, void *arg) {
    struct conn *c = arg;
    c->posted = false;
    if (!c->workers) /* else the last of them reaps */
        conn_gone(c);
}

static void conn_unlink(struct conn *c) {
    struct httpd *h = c->h;
    if (!h)
        return;
    if (c->prev)
        c->prev->next = c->next;
    else
        h->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    h->n--;
    if (h->paused && h->n < CONNS_MAX) {
        h->paused = false;
        loop_io_set(h->accept, EPOLLIN);
    }
}

/* Closes without looking at memory. */
static void conn_shut(struct conn *c) {
    loop_remove(c->io);
    c->io = NULL;
    if (c->ssl) {
        if (!c->handshaking)
            SSL_shutdown(c->ssl);
        ERR_clear_error();
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    c->fd = fd_close(c->fd);
}

void conn_kill(struct conn *c) {
    if (c->dying)
        return;
    c->dying = true;
    struct loop *l = c->h->l;
    conn_shut(c);
    conn_unlink(c);
    c->posted = true;
    loop_post(l, conn_reap, c);
}

void conn_release(struct conn *c) {
    loop_remove(c->io);
    c->io = NULL;
    c->fd = -1;
    conn_kill(c);
}

/* The exchange is complete as far as the handler is concerned. */
void exchange_over(struct httpd_req *rq) {
    struct conn *c = rq->c;
    if (!c) {
        rq_free(rq);
        return;
    }
    c->rq = NULL;
    rq_free(rq);
    if (c->expects && !c->body_done)
        c->close_after = true; /* told nothing, the client may send the body or not */
    c->state = CONN_DISCARD;
    c->discarded = 0;
    conn_kick(c);
}

/* --- processing ---------------------------------------------------------------------------- */

static void consume(struct conn *c, size_t n) {
    c->in_at += n;
    c->in_n -= n;
    if (!c->in_n)
        c->in_at = 0;
}

static void process_head(struct conn *c) {
    const char *p = c->in + c->in_at;
    ssize_t end = http_head_end(p, c->in_n, c->scanned);
    c->scanned = c->in_n;
    if (end == 0 && c->in_n < HTTP_HEAD_MAX)
        return;
    c->scanned = 0;
    if (end <= 0 || end > HTTP_HEAD_MAX) {
        reply_status(c, end < 0 ? 400 : 431);
        return;
    }
    struct httpd_req *rq = xcalloc(1, sizeof *rq);
    int status = http_head_parse(&rq->a, sv_n(p, (size_t)end), &rq->head);
    if (status) {
        rq_free(rq);
        reply_status(c, status);
        return;
    }
    consume(c, (size_t)end);
    rq->c = c;
    rq->server_arg = c->h->arg;
    rq->peer_pid = c->peer_pid;
    c->rq = rq;
    c->keep = rq->head.keep_alive;
    c->close_after = false;
    c->expects = rq->head.expect_continue;
    http_body_init(&c->body, &rq->head);
    c->body_done = rq->head.framing == HTTP_NO_BODY;
    c->state = CONN_EXCHANGE;
    conn_touch(c);
    c->h->fn(rq, c->h->arg);
}

static void linger(struct conn *c) {
    c->state = CONN_LINGER;
    conn_touch(c);
    if (c->ssl || shutdown(c->fd, SHUT_WR) < 0)
        conn_kill(c);
}

static void process_discard(struct conn *c) {
    while (!c->body_done && !c->close_after && c->in_n) {
        size_t used;
        struct sv data;
        int r = http_body_decode(&c->body, c->in + c->in_at, c->in_n, &used, &data);
        if (r < 0 || (c->discarded += used) > DISCARD_MAX) {
            c->close_after = true;
            break;
        }
        c->body_done = r == 1;
        consume(c, used);
    }
    bool give_up = c->close_after || (!c->body_done && c->body.framing == HTTP_LENGTH && c->body.left > DISCARD_MAX);
    if (c->out || (!c->body_done && !give_up))
        return;
    if (give_up || !c->keep) {
        if (c->body_done && !c->in_n)
            conn_kill(c); /* nothing unread: a plain close loses nothing */
        else
            linger(c);
        return;
    }
    c->state = CONN_HEAD;
    conn_touch(c);
    if (!c->in_n) {
        free(c->in);
        c->in = NULL;
        c->in_cap = c->in_at = 0;
    }
}

/* Goes on until nothing more can be done with what is there. */
static void conn_process(struct conn *c) {
    if (c->in_process)
        return; /* a callback of ours came back here; the loop below sees what changed */
    c->in_process = true;
    for (;;) {
        enum conn_state before = c->state;
        size_t had = c->in_n;
        bool had_out = c->out != NULL;
        const struct httpd_req *rq = c->rq;
        if (c->dying)
            break;
        if (c->state == CONN_HEAD && c->in_n)
            process_head(c);
        else if (c->state == CONN_EXCHANGE && body_wanted(c))
            body_step(c);
        else if (c->state == CONN_DISCARD)
            process_discard(c);
        else if (c->state == CONN_LINGER)
            consume(c, c->in_n);
        if (!c->dying && c->out)
            conn_flush(c);
        if (c->dying || (c->state == before && c->in_n == had && c->rq == rq && had_out == (c->out != NULL)))
            break;
    }
    c->in_process = false;
}

static bool wants_read(const struct conn *c) {
    switch (c->state) {
    case CONN_HEAD:
    case CONN_LINGER:
        return true;
    case CONN_DISCARD:
        return !c->body_done && !c->close_after;
    case CONN_EXCHANGE:
        return !c->body_done && body_wanted(c);
    }
    return false;
}

void conn_arm(struct conn *c) {
    if (c->dying || !c->io)
        return;
    uint32_t ev = 0;
    if (c->handshaking) {
        ev = c->want_write ? EPOLLOUT : EPOLLIN;
    } else {
        if (wants_read(c))
            ev |= EPOLLIN;
        else if (c->state == CONN_EXCHANGE && c->body_done)
            ev |= EPOLLRDHUP;
        if (c->out)
            ev |= EPOLLOUT;
    }
    if (ev != c->events) {
        c->events = ev;
        loop_io_set(c->io, ev);
    }
}

static bool room(struct conn *c) {
    size_t want = c->state == CONN_HEAD ? (size_t)16 << 10 : (size_t)READ_BLOCK;
    if (c->in_at && c->in_n)
        memmove(c->in, c->in + c->in_at, c->in_n);
    c->in_at = 0;
    if (c->state == CONN_HEAD && c->in_n + 4096 > want)
        want = HTTP_HEAD_MAX + 4096;
    if (c->in_cap < want) {
        c->in = xrealloc(c->in, want);
        c->in_cap = want;
    }
    return c->in_n < c->in_cap;
}

static void conn_pump(struct conn *c) {
    for (unsigned i = 0; !c->dying && wants_read(c) && (i < 32 || c->ssl); i++) {
        if (!room(c))
            break;
        ssize_t n = conn_recv(c, c->in + c->in_n, c->in_cap - c->in_n);
        if (n == -EAGAIN)
            break;
        if (n <= 0) {
            conn_kill(c);
            return;
        }
        c->in_n += (size_t)n;
        if (c->state == CONN_EXCHANGE || (c->state == CONN_HEAD && c->in_n == (size_t)n))
            conn_touch(c);
        conn_process(c);
    }
}

void conn_kick(struct conn *c) {
    if (c->in_process || c->dying)
        return;
    conn_process(c);
    conn_pump(c); /* TLS may hold bytes that epoll does not know of */
    conn_arm(c);
}

static void handshake(struct conn *c) {
    ERR_clear_error();
    int r = SSL_accept(c->ssl);
    if (r == 1) {
        c->handshaking = c->want_write = false;
        return;
    }
    if (tls_result(c, r) != -EAGAIN)
        conn_kill(c);
}

static void maybe_drain(struct conn *c) {
    struct httpd_req *rq = c->rq;
    if (rq && rq->waiting_drain && c->queued <= OUT_LOW && rq->drain) {
        rq->waiting_drain = false;
        rq->drain(rq, rq->drain_arg);
    }
}

static void on_io(struct loop *l, int fd, uint32_t events, void *arg) {
    struct conn *c = arg;
    if (c->dying)
        return;
    if (c->handshaking)
        handshake(c);
    if (!c->dying && (events & EPOLLOUT) && !c->handshaking) {
        conn_flush(c);
        if (!c->dying)
            maybe_drain(c);
    }
    if (!c->dying && !c->handshaking) {
        conn_process(c);
        conn_pump(c);
    }
    bool gone = (events & (EPOLLHUP | EPOLLERR)) || ((events & EPOLLRDHUP) && c->state == CONN_EXCHANGE && c->body_done);
    if (!c->dying && gone)
        conn_kill(c);
    conn_arm(c);
}

static void on_accept(struct loop *l, int fd, uint32_t events, void *arg) {
    struct httpd *h = arg;
    for (unsigned i = 0; i < 64; i++) {
        if (h->n >= CONNS_MAX) {
            h->paused = true;
            loop_io_set(h->accept, 0);
            return;
        }
        int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (s < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            h->paused = true; /* else the waiting client would be told all the time */
            loop_io_set(h->accept, 0);
        }
        if (s < 0)
            return;
        struct conn *c = xcalloc(1, sizeof *c);
        c->h = h;
        c->fd = s;
        c->spool_fd = -1;
        c->out_tail = &c->out;
        struct ucred cred;
        socklen_t n = sizeof cred;
        if (getsockopt(s, SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0 && cred.pid > 0)
            c->peer_pid = cred.pid;
        if (h->tls) {
            c->ssl = SSL_new(h->tls);
            c->handshaking = true;
            SSL_set_fd(c->ssl, s);
            SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        }
        c->next = h->conns;
        if (h->conns)
            h->conns->prev = c;
        h->conns = c;
        h->n++;
        c->events = EPOLLIN;
        c->io = loop_io(l, s, EPOLLIN, on_io, c);
        conn_touch(c);
    }
}

static void on_tick(struct loop *l, void *arg) {
    struct httpd *h = arg;
    uint64_t now = now_mono();
    for (struct conn *c = h->conns, *next; c; c = next) {
        next = c->next;
        /* A handler may take as long as it likes; a client that owes us bytes may not. */
        bool owes = c->state != CONN_EXCHANGE || c->out || (body_wanted(c) && !c->rq->writing);
        if (owes && now > c->deadline_ns)
            conn_kill(c);
    }
    if (h->paused && h->n < CONNS_MAX) { /* descriptors may be there again */
        h->paused = false;
        loop_io_set(h->accept, EPOLLIN);
    }
}

int httpd_new(struct httpd **ret, struct loop *l, int listen_fd, httpd_handler_fn fn, void *arg) {
    struct sigaction sa;
    if (sigaction(SIGPIPE, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN); /* sendfile and SSL_write know no MSG_NOSIGNAL */
    struct httpd *h = xcalloc(1, sizeof *h);
    h->l = l;
    h->fd = listen_fd;
    h->fn = fn;
    h->arg = arg;
    int flags = fcntl(listen_fd, F_GETFL);
    if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        int r = -errno;
        free(h);
        return r;
    }
    h->accept = loop_io(l, listen_fd, EPOLLIN, on_accept, h);
    h->tick = loop_timer(l, SECOND, SECOND, on_tick, h);
    *ret = h;
    return 0;
}

void httpd_free(struct httpd *h) {
    if (!h)
        return;
    loop_remove(h->accept);
    loop_remove(h->tick);
    while (h->conns) {
        struct conn *c = h->conns;
        conn_kill(c);
        while (atomic_load(&c->pouring))
            usleep(500);
        orphan(c); /* now, not from the loop: who waits may be about to go as well */
        c->h = NULL;
    }
    fd_close(h->fd);
    SSL_CTX_free(h->tls);
    free(h);
}
