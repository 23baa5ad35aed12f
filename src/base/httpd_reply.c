/* Answers. All bytes go through the connection's queue (out_add), which is written at once as far
 * as the socket takes it and else by the loop; httpd_write tells the writer when to pause. */
#include "base/httpd_internal.h"

#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

static const char *reason(int status) {
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {101, "UPGRADED"}, {200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"},
        {206, "Partial Content"}, {301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"},
        {304, "Not Modified"}, {307, "Temporary Redirect"}, {308, "Permanent Redirect"},
        {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"},
        {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"},
        {411, "Length Required"}, {412, "Precondition Failed"}, {413, "Content Too Large"},
        {414, "URI Too Long"}, {415, "Unsupported Media Type"}, {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"}, {422, "Unprocessable Content"}, {426, "Upgrade Required"},
        {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"}, {501, "Not Implemented"}, {502, "Bad Gateway"},
        {503, "Service Unavailable"}, {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < ELEMENTS(known); i++)
        if (known[i].status == status)
            return known[i].text;
    return "Status";
}

static bool clean(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

static void add_date(struct buf *b) {
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm t;
    time_t now = time(NULL);
    gmtime_r(&now, &t);
    buf_addf(b, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[t.tm_wday], t.tm_mday, months[t.tm_mon],
             t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
}

static bool alive(const struct httpd_req *rq) { return rq->c && !rq->c->dying; }

/* Status line and fields, without the empty line. */
static void head(struct httpd_req *rq, struct buf *b, int status) {
    buf_addf(b, "HTTP/1.1 %d %s\r\n", status, reason(status));
    add_date(b);
    for (size_t i = 0; i < rq->extra.n; i++)
        buf_addf(b, "%s\r\n", rq->extra.v[i]);
}

static void end_head(struct httpd_req *rq, struct buf *b) {
    struct conn *c = rq->c;
    bool unread = !c->body_done && c->body.framing == HTTP_LENGTH && c->body.left > DISCARD_MAX;
    if (c->close_after || unread || (c->expects && !c->body_done))
        c->keep = false;
    if (!c->keep)
        buf_adds(b, "Connection: close\r\n");
    buf_adds(b, "\r\n");
    out_add(c, b->p, b->n);
}

void httpd_add_header(struct httpd_req *rq, const char *name, const char *value) {
    if (rq->started || !clean(name) || !clean(value))
        return; /* a value with a line break in it would be a header of its own: leave it out */
    if (strcasecmp(name, "content-length") == 0)
        rq->has_length = true;
    strv_addf(&rq->extra, "%s: %s", name, value);
}

static bool bodyless(const struct httpd_req *rq, int status) {
    return streq(rq->head.method, "HEAD") || status == 204 || status == 304 || status < 200;
}

void httpd_reply(struct httpd_req *rq, int status, const char *content_type, struct sv body) {
    if (!alive(rq)) {
        exchange_over(rq);
        return;
    }
    _cleanup_buf_ struct buf b = BUF_MAX(256u << 10);
    if (content_type && *content_type)
        httpd_add_header(rq, "Content-Type", content_type);
    head(rq, &b, status);
    if (!rq->has_length && status != 204 && status >= 200)
        buf_addf(&b, "Content-Length: %zu\r\n", body.n);
    end_head(rq, &b);
    if (!bodyless(rq, status))
        out_add(rq->c, body.p, body.n);
    exchange_over(rq);
}

void httpd_reply_json(struct httpd_req *rq, int status, struct buf *json) {
    httpd_reply(rq, status, "application/json", buf_sv(json));
}

void httpd_reply_fd(struct httpd_req *rq, int status, const char *content_type, int fd, uint64_t offset,
                    uint64_t size) {
    if (!alive(rq)) {
        fd_close(fd);
        exchange_over(rq);
        return;
    }
    _cleanup_buf_ struct buf b = BUF_MAX(256u << 10);
    if (content_type && *content_type)
        httpd_add_header(rq, "Content-Type", content_type);
    head(rq, &b, status);
    buf_addf(&b, "Content-Length: %llu\r\n", (unsigned long long)size);
    end_head(rq, &b);
    if (bodyless(rq, status))
        fd_close(fd);
    else
        out_add_fd(rq->c, fd, offset, size);
    exchange_over(rq);
}

void httpd_start(struct httpd_req *rq, int status) {
    if (rq->started)
        return;
    rq->started = true;
    rq->status = status;
    rq->no_body = bodyless(rq, status);
    if (!alive(rq))
        return;
    struct conn *c = rq->c;
    _cleanup_buf_ struct buf b = BUF_MAX(256u << 10);
    head(rq, &b, status);
    if (!rq->has_length && !rq->no_body) {
        if (rq->head.minor == 1) {
            rq->chunked = true;
            buf_adds(&b, "Transfer-Encoding: chunked\r\n");
        } else {
            c->keep = false; /* its end is the connection's */
        }
    }
    end_head(rq, &b);
    conn_flush(c);
    conn_arm(c);
}

int httpd_write(struct httpd_req *rq, struct sv data) {
    if (!rq->started)
        httpd_start(rq, 200);
    if (!alive(rq))
        return -EPIPE;
    if (!data.n || rq->no_body)
        return 0;
    struct conn *c = rq->c;
    if (rq->chunked) {
        char size[24];
        int n = snprintf(size, sizeof size, "%zx\r\n", data.n);
        out_add(c, size, (size_t)n);
        out_add(c, data.p, data.n);
        out_add(c, "\r\n", 2);
    } else {
        out_add(c, data.p, data.n);
    }
    int r = conn_flush(c);
    conn_arm(c);
    if (r < 0)
        return -EPIPE;
    if (c->queued > OUT_HIGH)
        rq->waiting_drain = true;
    return rq->waiting_drain;
}

void httpd_on_drain(struct httpd_req *rq, void (*fn)(struct httpd_req *rq, void *arg), void *arg) {
    rq->drain = fn;
    rq->drain_arg = arg;
}

void httpd_on_abort(struct httpd_req *rq, void (*fn)(struct httpd_req *rq, void *arg), void *arg) {
    rq->abort = fn;
    rq->abort_arg = arg;
}

void httpd_finish(struct httpd_req *rq) {
    if (!rq->started)
        httpd_start(rq, 200);
    if (alive(rq) && rq->chunked)
        out_add(rq->c, "0\r\n\r\n", 5);
    exchange_over(rq);
}

void reply_status(struct conn *c, int status) {
    char text[256];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
                     status, reason(status), strlen(reason(status)) + 1, reason(status));
    out_add(c, text, (size_t)n);
    c->state = CONN_DISCARD;
    c->body_done = false;
    c->close_after = true;
}

int httpd_hijack(struct httpd_req *rq, const char *content_type, int *ret_fd, struct buf *ret_early) {
    struct conn *c = rq->c;
    if (!alive(rq))
        return -EPIPE;
    if (c->ssl)
        return -EOPNOTSUPP;
    if (rq->started || c->out || rq->use == BODY_COLLECT || rq->use == BODY_SPOOL)
        return -EBUSY;
    _cleanup_buf_ struct buf b = BUF_MAX(256u << 10);
    if (rq->head.upgrade) {
        buf_addf(&b, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: %s\r\n", rq->head.upgrade);
    } else {
        buf_adds(&b, "HTTP/1.1 200 OK\r\n");
    }
    if (content_type)
        buf_addf(&b, "Content-Type: %s\r\n", content_type);
    buf_adds(&b, "\r\n");
    for (size_t at = 0; at < b.n;) {
        ssize_t n = send(c->fd, b.p + at, b.n - at, MSG_NOSIGNAL);
        if (n > 0) {
            at += (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = c->fd, .events = POLLOUT};
            if (poll(&p, 1, 1000) <= 0)
                return -EPIPE;
        } else if (errno != EINTR) {
            return -EPIPE;
        }
    }
    if (ret_early)
        buf_add(ret_early, c->in + c->in_at, c->in_n);
    *ret_fd = c->fd;
    c->rq = NULL;
    rq_free(rq);
    conn_release(c);
    return 0;
}

/* --- what the request says ----------------------------------------------------------------- */

const char *httpd_method(const struct httpd_req *rq) { return rq->head.method; }
const char *httpd_path(const struct httpd_req *rq) { return rq->head.path; }
const char *httpd_raw_path(const struct httpd_req *rq) { return rq->head.raw_path; }
const char *httpd_header(const struct httpd_req *rq, const char *name) { return http_head_get(&rq->head, name); }
void *httpd_server_arg(const struct httpd_req *rq) { return rq->server_arg; }
int httpd_peer_pid(const struct httpd_req *rq) { return rq->peer_pid; }

static void read_params(struct httpd_req *rq) {
    size_t cap = 0;
    struct sv rest = sv_from(rq->head.query), item;
    rq->params_read = true;
    while (sv_split(&rest, '&', &item)) {
        if (!item.n)
            continue;
        ssize_t eq = sv_chr(item, '=');
        struct sv key = eq < 0 ? item : sv_sub(item, 0, (size_t)eq);
        struct sv value = eq < 0 ? SV("") : sv_sub(item, (size_t)eq + 1, item.n);
        const char *k = http_unescape(&rq->a, key, true), *v = http_unescape(&rq->a, value, true);
        if (!k || !v)
            continue; /* as Go's servers: what does not decode is not there */
        GROW(rq->params, cap, rq->n_params + 1);
        rq->params[rq->n_params++] = (struct http_field){k, v};
    }
}

const char *httpd_query_n(struct httpd_req *rq, const char *key, size_t i) {
    if (!rq->params_read)
        read_params(rq);
    for (size_t k = 0; k < rq->n_params; k++)
        if (streq(rq->params[k].name, key) && i-- == 0)
            return rq->params[k].value;
    return NULL;
}

const char *httpd_query(struct httpd_req *rq, const char *key) { return httpd_query_n(rq, key, 0); }
