#pragma once
/* What the parts of the HTTP server share. A connection is read by httpd.c, its bodies by
 * httpd_body.c, its answers are made by httpd_reply.c. */
#include "base/http_parse.h"
#include "base/httpd.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

enum {
    OUT_HIGH = 1 << 20,     /* httpd_write says "wait" past this */
    OUT_LOW = 256 << 10,    /* … and the drain callback comes below this */
    READ_BLOCK = 256 << 10, /* of a body that is being read */
    DISCARD_MAX = 1 << 20,  /* of a body nobody read, before the connection is given up */
    CONNS_MAX = 1000,
};

struct out_chunk {
    struct out_chunk *next;
    char *p; /* or fd */
    size_t n, at, cap;
    int fd;
    uint64_t off, left;
};

enum conn_state { CONN_HEAD, CONN_EXCHANGE, CONN_DISCARD, CONN_LINGER };
struct conn {
    struct httpd *h; /* NULL once the server is gone */
    struct conn *prev, *next;
    int fd;
    struct loop_source *io;
    uint32_t events;
    SSL *ssl;
    bool handshaking, want_write;
    enum conn_state state;
    char *in;
    size_t in_at, in_n, in_cap, scanned;
    struct out_chunk *out, **out_tail;
    size_t queued;
    struct httpd_req *rq;
    struct http_body body; /* of the exchange, also while its rest is discarded */
    bool body_done, keep, close_after, dying, in_process, posted;
    bool expects;     /* 100 Continue is due when the body is first wanted */
    unsigned workers; /* jobs in flight that hold this connection */
    uint64_t discarded, deadline_ns;
    int peer_pid;
    atomic_bool pouring; /* a sink's call is queued or runs */
    int spool_fd; /* our own descriptor of what a body is spooled into */
};

enum body_use { BODY_UNUSED, BODY_COLLECT, BODY_SPOOL, BODY_TAKEN };
struct httpd_req {
    struct conn *c; /* NULL when the client is gone */
    struct arena a;
    struct http_head head;
    void *server_arg;
    struct http_field *params;
    size_t n_params;
    bool params_read;
    int peer_pid;
    /* body */
    enum body_use use;
    struct buf collected;
    uint64_t max, spooled;
    char *stage;
    size_t stage_n;
    httpd_sink_fn sink; /* instead of a descriptor */
    void *sink_arg;
    bool writing; /* a worker is */
    httpd_body_fn body_fn;
    httpd_spool_fn spool_fn;
    void *body_arg;
    /* answer */
    struct strv extra;
    bool started, chunked, no_body, has_length, waiting_drain;
    int status;
    void (*drain)(struct httpd_req *, void *);
    void *drain_arg;
    void (*abort)(struct httpd_req *, void *);
    void *abort_arg;
};

struct httpd {
    struct loop *l;
    int fd;
    struct loop_source *accept, *tick;
    bool paused;
    httpd_handler_fn fn;
    void *arg;
    SSL_CTX *tls;
    struct conn *conns;
    size_t n;
};

/* httpd.c */
void conn_kill(struct conn *c); /* the connection is gone; the rest happens from the loop */
void conn_kick(struct conn *c); /* go on with it: something changed outside its own processing */
void conn_arm(struct conn *c);
int conn_flush(struct conn *c); /* writes what it can; negative: killed */
void out_add(struct conn *c, const void *p, size_t n);
void out_add_fd(struct conn *c, int fd, uint64_t off, uint64_t n);
void exchange_over(struct httpd_req *rq); /* frees rq; the connection goes on */
void rq_free(struct httpd_req *rq);
void conn_touch(struct conn *c);
void conn_gone(struct conn *c); /* frees a killed connection that no worker holds */
void conn_release(struct conn *c); /* hijacked: forgets the descriptor, then as conn_kill */
/* httpd_body.c */
bool body_wanted(const struct conn *c);
void body_step(struct conn *c); /* takes what is in c->in */
void body_abort(struct httpd_req *rq);
/* httpd_reply.c */
void reply_status(struct conn *c, int status); /* an error before there is an exchange */
