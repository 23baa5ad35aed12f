#pragma once
/* HTTP/1.1 server on the event loop, strict (RFC 9112): unix and TCP sockets, keep-alive, chunked
 * both ways, large uploads by credit, hijack (101 UPGRADED or raw 200) for Docker clients.
 *
 * Handlers run on the loop thread. A handler either answers at once, or takes the request along
 * (the exchange stays valid until httpd_finish or the abort callback) and answers later from the
 * loop thread; blocking work goes to loop_work. Limits: request head 64 KiB, 100 headers, target
 * 8 KiB; body unlimited unless max_body is set by the handler. */
#include "core/err.h"
#include "core/loop.h"
#include "core/str.h"

struct httpd;
struct httpd_req; /* one exchange */

typedef void (*httpd_handler_fn)(struct httpd_req *rq, void *arg);
/* Serves on a listening socket (taken over). `arg` is given to each handler call. */
int httpd_new(struct httpd **ret, struct loop *l, int listen_fd, httpd_handler_fn fn, void *arg);
void httpd_free(struct httpd *h); /* closes all connections; aborts are called */
/* TLS for TCP listeners, PEM files. */
int httpd_tls(struct httpd *h, const char *cert, const char *key, struct err *e);
int listen_unix(const char *path, mode_t mode, struct err *e);
int listen_tcp(const char *addr, uint16_t port, uint16_t *ret_port, struct err *e);

const char *httpd_method(const struct httpd_req *rq);
const char *httpd_path(const struct httpd_req *rq);  /* percent-decoded, no query; never holds NUL */
const char *httpd_raw_path(const struct httpd_req *rq);
const char *httpd_query(struct httpd_req *rq, const char *key); /* decoded; NULL when absent, "" when empty */
/* i-th value of a repeated query key; NULL past the end. */
const char *httpd_query_n(struct httpd_req *rq, const char *key, size_t i);
const char *httpd_header(const struct httpd_req *rq, const char *name);
void *httpd_server_arg(const struct httpd_req *rq);
int httpd_peer_pid(const struct httpd_req *rq); /* SO_PEERCRED of a unix client, or 0 */

/* Request body. Whole: collected up to max, then fn. ok=false: past max (413 is sent), malformed
 * (400 is sent) or the client is gone; the exchange is over with that call, do not answer. */
typedef void (*httpd_body_fn)(struct httpd_req *rq, struct sv body, bool ok, void *arg);
void httpd_collect(struct httpd_req *rq, size_t max, httpd_body_fn fn, void *arg);
/* Into a descriptor (a temporary file or pipe; duplicated) by a worker; done with the byte count or
 * -errno. After -EFBIG, -EBADMSG and -ECONNRESET the exchange is over, after others fn answers. */
typedef void (*httpd_spool_fn)(struct httpd_req *rq, int r, uint64_t size, void *arg);
void httpd_spool(struct httpd_req *rq, int fd, uint64_t max, httpd_spool_fn fn, void *arg);
/* The same into a function that a worker calls with block after block (never two at once). It must
 * not block for long: httpd_free waits for the call that runs. */
typedef int (*httpd_sink_fn)(void *arg, const void *p, size_t n); /* negative errno ends it */
void httpd_pour(struct httpd_req *rq, httpd_sink_fn sink, void *sink_arg, uint64_t max, httpd_spool_fn fn, void *arg);

/* Answer. Either at once: */
void httpd_reply(struct httpd_req *rq, int status, const char *content_type, struct sv body);
void httpd_reply_json(struct httpd_req *rq, int status, struct buf *json);
void httpd_reply_fd(struct httpd_req *rq, int status, const char *content_type, int fd /* taken */,
                    uint64_t offset, uint64_t size); /* sendfile; HEAD sends no body */
/* or in parts: head (chunked when no Content-Length header was added), writes, finish. Head is
 * flushed at once. Writes queue; when more than `high` bytes wait, *_write returns 1 and the drain
 * callback tells when to go on: sources stop reading meanwhile. */
void httpd_add_header(struct httpd_req *rq, const char *name, const char *value);
void httpd_start(struct httpd_req *rq, int status);
int httpd_write(struct httpd_req *rq, struct sv data);
void httpd_on_drain(struct httpd_req *rq, void (*fn)(struct httpd_req *rq, void *arg), void *arg);
void httpd_finish(struct httpd_req *rq);
/* Called when the client goes away before httpd_finish, but not while the body's fn is still to come:
 * then that one is told instead. The exchange is dead afterwards. Who takes a request along without this may still finish it
 * later: the answer then goes nowhere. */
void httpd_on_abort(struct httpd_req *rq, void (*fn)(struct httpd_req *rq, void *arg), void *arg);
/* Takes the connection: writes 101 (when the client sent Upgrade) or a raw 200 head with
 * content_type, gives the non-blocking descriptor and what was read past the head (caller frees).
 * The exchange is finished by it. TLS connections cannot be hijacked (-EOPNOTSUPP). */
int httpd_hijack(struct httpd_req *rq, const char *content_type, int *ret_fd, struct buf *ret_early);
