/* Each TCP connection is two sockets and a buffer per direction. A side is watched for reading
 * while the buffer that it fills is empty and for writing while the one that it drains is not, so
 * a slow receiver stops the sender, and memory stays bounded. The end of one direction is passed
 * on as a half-close; when both have ended, or one fails, the pair goes. */
#include "box/proxy.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#define MAX_CONNECTIONS 2048
#define MAX_PEERS 512
#define BUFFER 65536
#define UDP_IDLE_NS (60ull * 1000000000ull)

struct half {
    int fd;
    struct loop_source *src;
    uint32_t watched;
    char *buf; /* read from this side, to be written to the other */
    size_t at, n;
    bool eof, closed; /* nothing more to read; told to the other side */
};
struct conn {
    struct proxy *proxy;
    struct half side[2];
    struct conn *next, *prev;
};
struct peer {
    struct sockaddr_storage from;
    socklen_t len;
    int fd;
    struct loop_source *src;
    uint64_t used;
    struct proxy *proxy;
    struct peer *next;
};
struct proxy {
    struct loop *loop;
    int fd;
    struct loop_source *src, *timer; /* TCP: timer while there are no descriptors to accept with */
    proxy_connect_fn connect;
    void *arg;
    struct conn *conns;
    struct peer *peers;
    size_t n;
    struct sockaddr_in target;
};

static void conn_free(struct conn *c) {
    struct proxy *p = c->proxy;
    for (int i = 0; i < 2; i++) {
        loop_remove(c->side[i].src);
        fd_close(c->side[i].fd);
        free(c->side[i].buf);
    }
    if (c->prev)
        c->prev->next = c->next;
    else
        p->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    free(c);
    if (p->n-- == MAX_CONNECTIONS)
        loop_io_set(p->src, EPOLLIN);
}

static void watch(struct conn *c) {
    for (int i = 0; i < 2; i++) {
        struct half *h = &c->side[i], *o = &c->side[!i];
        uint32_t want = (!h->eof && !h->n ? EPOLLIN : 0u) | (o->n ? EPOLLOUT : 0u);
        if (want != h->watched) {
            loop_io_set(h->src, want);
            h->watched = want;
        }
    }
}

/* Moves what can be moved from side i to the other; negative when the pair must go. */
static int pump(struct conn *c, int i) {
    struct half *h = &c->side[i], *o = &c->side[!i];
    for (int turns = 0; turns < 8; turns++) {
        if (!h->n && !h->eof) {
            ssize_t k = recv(h->fd, h->buf, BUFFER, MSG_DONTWAIT);
            if (k < 0 && (errno == EAGAIN || errno == EINTR))
                break;
            if (k < 0)
                return -errno;
            h->at = 0;
            h->n = (size_t)k;
            h->eof = k == 0;
        }
        if (h->n) {
            ssize_t k = send(o->fd, h->buf + h->at, h->n, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (k < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN))
                break;
            if (k < 0)
                return -errno;
            h->at += (size_t)k;
            h->n -= (size_t)k;
            if (h->n)
                break;
        }
        if (h->eof)
            break;
    }
    if (h->eof && !h->n && !h->closed) {
        shutdown(o->fd, SHUT_WR);
        h->closed = true;
    }
    return c->side[0].closed && c->side[1].closed ? -EPIPE : 0;
}

/* The other side shall see a failure as one: a reset, not an orderly end. */
static void reset(int fd) {
    struct linger lin = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &lin, sizeof lin);
}

static void on_io(struct loop *l, int fd, uint32_t events, void *arg) {
    struct conn *c = arg;
    int i = c->side[1].fd == fd;
    struct half *h = &c->side[i];
    if (events & EPOLLERR) {
        reset(c->side[!i].fd);
        conn_free(c);
        return;
    }
    if (((events & (EPOLLIN | EPOLLHUP)) && pump(c, i) < 0) ||
        ((events & EPOLLOUT) && pump(c, !i) < 0)) {
        conn_free(c);
        return;
    }
    if ((events & EPOLLHUP) && h->eof) {
        /* Over in both directions, and it would be reported for ever: what it sent is delivered. */
        if (!h->n) {
            conn_free(c);
            return;
        }
        loop_remove(h->src);
        h->src = NULL;
    }
    watch(c);
}

static void accept_again(struct loop *l, void *arg) {
    struct proxy *p = arg;
    p->timer = NULL;
    loop_io_set(p->src, EPOLLIN);
}

static void on_accept(struct loop *l, int fd, uint32_t events, void *arg) {
    struct proxy *p = arg;
    int in = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (in < 0 && !p->timer && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
        loop_io_set(p->src, 0);
        p->timer = loop_timer(l, 100000000, 0, accept_again, p);
    }
    if (in < 0)
        return;
    int out = p->connect(p->arg);
    if (out < 0) {
        reset(in);
        close(in);
        return;
    }
    int one = 1;
    setsockopt(in, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof one);
    setsockopt(out, IPPROTO_TCP, 1, &one, sizeof one);
    struct conn *c = xcalloc(1, sizeof *c);
    c->proxy = p;
    c->side[0].fd = in;
    c->side[1].fd = out;
    c->next = p->conns;
    if (c->next)
        c->next->prev = c;
    p->conns = c;
    for (int i = 0; i < 2; i++) {
        struct half *h = &c->side[i];
        h->buf = xmalloc(BUFFER);
        h->watched = EPOLLIN;
        h->src = loop_io(l, h->fd, EPOLLIN, on_io, c);
    }
    if (++p->n == MAX_CONNECTIONS)
        loop_io_set(p->src, 0);
}

struct proxy *proxy_tcp(struct loop *l, int listen_fd, proxy_connect_fn fn, void *arg) {
    struct proxy *p = xcalloc(1, sizeof *p);
    p->loop = l;
    p->fd = listen_fd;
    p->connect = fn;
    p->arg = arg;
    p->src = loop_io(l, listen_fd, EPOLLIN, on_accept, p);
    return p;
}

/* --- UDP ------------------------------------------------------------------------------------ */

static void peer_free(struct proxy *p, struct peer **at) {
    struct peer *q = *at;
    *at = q->next;
    loop_remove(q->src);
    fd_close(q->fd);
    free(q);
    p->n--;
}

static void on_reply(struct loop *l, int fd, uint32_t events, void *arg) {
    struct peer *q = arg;
    char data[65536];
    for (int i = 0; i < 32; i++) {
        ssize_t k = recv(fd, data, sizeof data, MSG_DONTWAIT);
        if (k < 0)
            return;
        q->used = now_mono();
        (void)!sendto(q->proxy->fd, data, (size_t)k, MSG_DONTWAIT | MSG_NOSIGNAL,
                      (struct sockaddr *)&q->from, q->len);
    }
}

static struct peer *peer_get(struct proxy *p, const struct sockaddr_storage *from, socklen_t len) {
    for (struct peer *q = p->peers; q; q = q->next)
        if (q->len == len && memcmp(&q->from, from, len) == 0)
            return q;
    if (p->n >= MAX_PEERS)
        return NULL;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&p->target, sizeof p->target) < 0) {
        fd_close(fd);
        return NULL;
    }
    struct peer *q = xcalloc(1, sizeof *q);
    q->from = *from;
    q->len = len;
    q->fd = fd;
    q->proxy = p;
    q->src = loop_io(p->loop, fd, EPOLLIN, on_reply, q);
    q->next = p->peers;
    p->peers = q;
    p->n++;
    return q;
}

static void on_datagram(struct loop *l, int fd, uint32_t events, void *arg) {
    struct proxy *p = arg;
    char data[65536];
    for (int i = 0; i < 32; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        memset(&from, 0, sizeof from);
        ssize_t k = recvfrom(fd, data, sizeof data, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
        if (k < 0)
            return;
        struct peer *q = peer_get(p, &from, len);
        if (!q)
            continue;
        q->used = now_mono();
        (void)!send(q->fd, data, (size_t)k, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

static void on_idle(struct loop *l, void *arg) {
    struct proxy *p = arg;
    uint64_t now = now_mono();
    for (struct peer **at = &p->peers; *at;)
        if (now - (*at)->used > UDP_IDLE_NS)
            peer_free(p, at);
        else
            at = &(*at)->next;
}

struct proxy *proxy_udp(struct loop *l, int fd, const struct sockaddr_in *target) {
    struct proxy *p = xcalloc(1, sizeof *p);
    p->loop = l;
    p->fd = fd;
    p->target = *target;
    p->src = loop_io(l, fd, EPOLLIN, on_datagram, p);
    p->timer = loop_timer(l, UDP_IDLE_NS, UDP_IDLE_NS, on_idle, p);
    return p;
}

void proxy_free(struct proxy *p) {
    if (!p)
        return;
    while (p->conns)
        conn_free(p->conns);
    while (p->peers)
        peer_free(p, &p->peers);
    loop_remove(p->src);
    loop_remove(p->timer);
    fd_close(p->fd);
    free(p);
}
