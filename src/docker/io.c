/* Output of containers to their readers, hijacked connections, and stdin.
 *
 * A container's output goes into its log and nowhere else; whoever wants it (logs, attach) is a
 * follower that reads the log from an offset, as fast as its client takes it. So nothing grows in
 * memory. An attached client that is slow slows the container: the reader of its output pauses
 * when an attached follower is more than LAG behind (engine.c's output_ready). */
#include "docker/impl.h"

#include <sys/epoll.h>
#include <sys/socket.h>

enum { LAG_RESUME = 2 << 20, OUT_FULL = 256 << 10, IN_FULL = 256 << 10 };

static void put_frame(struct buf *b, bool frames, int stream, size_t n) {
    if (!frames)
        return;
    uint8_t h[8] = {(uint8_t)stream, 0, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    buf_add(b, h, sizeof(h));
}

/* One line (or part of one) of a record for this follower. */
static void emit_part(struct follower *f, struct buf *out, const struct log_record *h, struct sv part) {
    bool ends = part.n && part.p[part.n - 1] == '\n';
    if (f->skip) {
        if (ends)
            f->skip--;
        return;
    }
    char stamp[40] = "";
    if (f->stamps && !f->mid[h->stream]) {
        char t[32];
        format_time(h->ns, t); /* "2026-01-02T03:04:05.678Z": nine digits are docker's */
        snprintf(stamp, sizeof(stamp), "%.19s.%09lluZ ", t, (unsigned long long)(h->ns % 1000000000));
    }
    put_frame(out, f->frames, h->stream, strlen(stamp) + part.n);
    buf_adds(out, stamp);
    buf_addsv(out, part);
    f->mid[h->stream] = !ends;
}

static void emit(struct follower *f, struct buf *out, const struct log_record *h, const char *p) {
    struct sv rest = sv_n(p, h->len);
    if (h->stream > 2 || !f->want[h->stream] || (f->since && h->ns < f->since))
        return;
    if (!f->stamps && !f->skip) { /* the common case: as it is */
        put_frame(out, f->frames, h->stream, rest.n);
        buf_addsv(out, rest);
        return;
    }
    while (rest.n) {
        ssize_t nl = sv_chr(rest, '\n');
        size_t n = nl < 0 ? rest.n : (size_t)nl + 1;
        emit_part(f, out, h, sv_sub(rest, 0, n));
        rest = sv_sub(rest, n, rest.n);
    }
}

static void resume_output(struct ctr *c) {
    if (!c->paused)
        return;
    for (struct follower *f = c->followers; f; f = f->next)
        if (f->attach && f->off + LAG_RESUME < clog_end(&c->log))
            return;
    c->paused = false;
    if (c->state == CTR_RUNNING && !c->removed)
        ctr_listen(c, true);
}

void follower_pump(struct follower *f) {
    struct ctr *c = f->c;
    char *block = xmalloc(LOG_CHUNK);
    struct buf out = BUF_MAX(1u << 20);
    bool done = false;
    while (!f->blocked && !done) {
        struct log_record h;
        int r = clog_read(&c->log, &f->off, &h, block);
        if (r <= 0) {
            done = r < 0 || !f->follow || c->removed || (c->state != CTR_RUNNING && !f->until_started);
            break;
        }
        if (f->until && h.ns > f->until) {
            done = true;
            break;
        }
        buf_reset(&out);
        emit(f, &out, &h, block);
        if (out.n && f->write(f->arg, buf_sv(&out)) > 0)
            f->blocked = true;
    }
    buf_done(&out);
    free(block);
    if (f->attach)
        resume_output(c);
    if (done) {
        void (*end)(void *arg) = f->end;
        void *arg = f->arg;
        follower_remove(f);
        end(arg);
    }
}

void follower_add(struct ctr *c, struct follower *f) {
    f->c = c;
    ctr_ref(c);
    f->next = c->followers;
    c->followers = f;
}

void follower_remove(struct follower *f) {
    if (!f->c)
        return;
    struct ctr *c = f->c;
    for (struct follower **at = &c->followers; *at; at = &(*at)->next)
        if (*at == f) {
            *at = f->next;
            break;
        }
    f->c = NULL;
    resume_output(c);
    ctr_unref(c);
}

uint64_t log_count_lines(struct ctr *c, const bool want[3]) {
    char *block = xmalloc(LOG_CHUNK);
    struct log_record h;
    uint64_t off = 0, lines = 0;
    bool mid = false;
    while (clog_read(&c->log, &off, &h, block) > 0) {
        if (h.stream > 2 || !want[h.stream])
            continue;
        for (const char *p = block, *end = block + h.len; p < end;) {
            const char *nl = memchr(p, '\n', (size_t)(end - p));
            mid = !nl;
            lines += nl != NULL;
            p = nl ? nl + 1 : end;
        }
    }
    free(block);
    return lines + mid;
}

/* --- connections ---------------------------------------------------------------------------- */

static void conn_events(struct conn *c) {
    if (!c->src)
        return;
    uint32_t ev = 0;
    if (!c->read_off && !c->eof && !c->closing)
        ev |= EPOLLIN;
    if (c->out.n > c->out_at)
        ev |= EPOLLOUT;
    loop_io_set(c->src, ev);
}

static void conn_free(struct conn *c) {
    loop_remove(c->src);
    fd_close(c->fd);
    buf_done(&c->out);
    free(c);
}

static void conn_dead(struct conn *c) {
    if (c->dead)
        return;
    c->dead = true;
    loop_remove(c->src);
    c->src = NULL;
    if (c->closing)
        conn_free(c);
    else if (c->gone)
        c->gone(c->arg);
}

/* False when the connection is dead. */
static bool conn_flush(struct conn *c) {
    while (c->out.n > c->out_at) {
        ssize_t n = send(c->fd, c->out.p + c->out_at, c->out.n - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (n < 0)
            return false;
        c->out_at += (size_t)n;
    }
    buf_reset(&c->out);
    c->out_at = 0;
    return true;
}

static void conn_ready(struct loop *l, int fd, uint32_t events, void *arg) {
    struct conn *c = arg;
    if (events & EPOLLOUT) {
        if (!conn_flush(c)) {
            conn_dead(c);
            return;
        }
        if (!c->out.n) {
            if (c->closing) {
                shutdown(c->fd, SHUT_RDWR);
                conn_free(c);
                return;
            }
            conn_events(c);
            if (c->drained)
                c->drained(c->arg);
            return; /* c may be gone */
        }
    }
    if (events & EPOLLIN) {
        char block[64 << 10];
        ssize_t n = recv(c->fd, block, sizeof(block), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            c->eof = true;
            conn_events(c);
            if (n < 0)
                conn_dead(c);
            else
                c->data(c->arg, NULL, 0);
            return;
        }
        c->data(c->arg, block, (size_t)n);
        return;
    }
    if (events & (EPOLLHUP | EPOLLERR))
        conn_dead(c);
}

struct conn *conn_new(struct loop *l, int fd) {
    struct conn *c = xcalloc(1, sizeof(*c));
    c->l = l;
    c->fd = fd;
    c->out = BUF_MAX(64u << 20);
    return c;
}

void conn_start(struct conn *c, struct buf *early) {
    c->src = loop_io(c->l, c->fd, EPOLLIN, conn_ready, c);
    conn_events(c);
    if (early && early->n)
        c->data(c->arg, early->p, early->n);
}

int conn_write(struct conn *c, struct sv data) {
    if (c->dead)
        return 0;
    if (c->out.n == c->out_at) {
        while (data.n) {
            ssize_t n = send(c->fd, data.p, data.n, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                break; /* a dead peer is seen by the loop */
            data = sv_sub(data, (size_t)n, data.n);
        }
    }
    if (data.n)
        buf_addsv(&c->out, data);
    conn_events(c);
    return c->out.n - c->out_at > OUT_FULL;
}

void conn_frame(struct conn *c, bool frames, int stream, struct sv data, int *full) {
    struct buf b = BUF_MAX(1u << 20);
    put_frame(&b, frames, stream, data.n);
    buf_addsv(&b, data);
    *full = conn_write(c, buf_sv(&b));
    buf_done(&b);
}

void conn_pause(struct conn *c, bool pause) {
    c->read_off = pause;
    conn_events(c);
}

void conn_close(struct conn *c) {
    if (c->closing)
        return;
    c->closing = true;
    c->data = NULL;
    if (c->dead || c->out.n == c->out_at) {
        if (!c->dead)
            shutdown(c->fd, SHUT_RDWR);
        conn_free(c);
        return;
    }
    conn_events(c);
}

/* --- stdin ---------------------------------------------------------------------------------- */

static void feeder_ready(struct loop *l, int fd, uint32_t events, void *arg);

static void feeder_flush(struct feeder *f) {
    while (f->fd >= 0 && f->q.n) {
        ssize_t n = write(f->fd, f->q.p, f->q.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) { /* nobody reads any more */
            buf_reset(&f->q);
            f->eof = true;
            break;
        }
        buf_cut(&f->q, 0, (size_t)n);
    }
    if (f->fd >= 0 && f->eof && !f->q.n) {
        loop_remove(f->src);
        f->src = NULL;
        f->fd = fd_close(f->fd);
    } else if (f->src)
        loop_io_set(f->src, f->q.n ? EPOLLOUT : 0);
}

static void feeder_ready(struct loop *l, int fd, uint32_t events, void *arg) {
    struct feeder *f = arg;
    if (events & EPOLLERR) {
        buf_reset(&f->q);
        f->eof = true;
    }
    feeder_flush(f);
    if (f->q.n < IN_FULL / 2 && f->room)
        f->room(f->arg);
}

void feeder_set(struct feeder *f, struct loop *l, int fd) {
    f->l = l;
    f->fd = fd;
    f->src = loop_io(l, fd, 0, feeder_ready, f);
    feeder_flush(f);
}

bool feeder_put(struct feeder *f, const char *p, size_t n) {
    if (f->eof)
        return true;
    if (!f->q.max)
        f->q = BUF_MAX(4u << 20);
    buf_add(&f->q, p, n);
    feeder_flush(f);
    return f->q.n < IN_FULL;
}

void feeder_eof(struct feeder *f) {
    f->eof = true;
    feeder_flush(f);
}

void feeder_close(struct feeder *f) {
    loop_remove(f->src);
    f->src = NULL;
    f->fd = fd_close(f->fd);
    buf_done(&f->q);
    f->eof = false;
    f->room = NULL;
}
