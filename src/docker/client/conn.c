/* One HTTP/1.1 connection per request over a unix socket (or TCP to a numeric address: a static
 * program has no resolver). Answers are read with a bound on the head; bodies by length, in
 * chunks, or to the end. */
#include "docker/client/client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char *chosen_host;

void api_host(const char *host) { chosen_host = host; }

const char *api_host_name(void) {
    if (chosen_host && *chosen_host)
        return chosen_host;
    const char *h = getenv("DOCKER_HOST");
    return h && *h ? h : "unix:///var/run/docker.sock";
}

static int connect_unix(const char *path, struct err *e) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sa.sun_path))
        return err_set(e, ERR_USER, -ENAMETOOLONG, "the path of the socket is too long: %s", path);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(e, -errno, "socket");
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        if (errno == EACCES)
            return err_set(e, ERR_USER, -EACCES, "permission denied while trying to connect to the Docker daemon "
                           "socket at %s", api_host_name());
        return err_set(e, ERR_NET, -errno, "Cannot connect to the Docker daemon at %s. Is the docker daemon "
                       "running?", api_host_name());
    }
    return TAKE_FD(fd);
}

static int connect_tcp(const char *at, struct err *e) {
    const char *colon = strrchr(at, ':');
    struct sockaddr_in sa = {.sin_family = AF_INET};
    char ip[64];
    snprintf(ip, sizeof(ip), "%.*s", (int)(colon ? colon - at : (ssize_t)strlen(at)), at);
    uint64_t port = 2375;
    if (colon) {
        size_t n = strspn(colon + 1, "0123456789");
        if (sv_u64(sv_n(colon + 1, n), 65535, &port) < 0)
            return err_set(e, ERR_USER, -EINVAL, "bad port in %s", api_host_name());
    }
    if (inet_pton(AF_INET, streq(ip, "localhost") ? "127.0.0.1" : ip, &sa.sin_addr) != 1)
        return err_set(e, ERR_USER, -ENOTSUP, "not yet: a docker host by name (%s); use its address", ip);
    sa.sin_port = htons((uint16_t)port);
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return err_set(e, ERR_NET, -errno, "Cannot connect to the Docker daemon at %s. Is the docker daemon "
                       "running?", api_host_name());
    return TAKE_FD(fd);
}

static int api_connect(struct err *e) {
    const char *h = api_host_name(), *rest;
    if ((rest = startswith(h, "unix://")))
        return connect_unix(rest, e);
    if ((rest = startswith(h, "tcp://")) || (rest = startswith(h, "http://")))
        return connect_tcp(rest, e);
    if (h[0] == '/')
        return connect_unix(h, e);
    return err_set(e, ERR_USER, -ENOTSUP, "not yet: docker host %s (unix:// and tcp:// only)", h);
}

static int put_chunk(void *to, const void *p, size_t n) {
    int fd = *(int *)to;
    char head[24];
    int len = snprintf(head, sizeof(head), "%zx\r\n", n);
    if (!n)
        return 0;
    int r = fd_write_all(fd, head, (size_t)len);
    if (r >= 0)
        r = fd_write_all(fd, p, n);
    if (r >= 0)
        r = fd_write_all(fd, "\r\n", 2);
    return r;
}

static int send_body(int fd, const struct api_req *rq) {
    int r = 0;
    if (rq->body.p)
        return fd_write_all(fd, rq->body.p, rq->body.n);
    if (rq->body_fn)
        r = rq->body_fn(rq->body_arg, put_chunk, &fd);
    else if (rq->body_fd > 0) {
        _cleanup_free_ char *block = xmalloc(64 << 10);
        for (;;) {
            ssize_t n = read(rq->body_fd, block, 64 << 10);
            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0) {
                r = n < 0 ? -errno : 0;
                break;
            }
            if ((r = put_chunk(&fd, block, (size_t)n)) < 0)
                break;
        }
    } else
        return 0;
    return r < 0 ? r : fd_write_all(fd, "0\r\n\r\n", 5);
}

static int fill(struct api *c) {
    if (c->in_at == c->in.n) {
        buf_reset(&c->in);
        c->in_at = 0;
    }
    if (!buf_reserve(&c->in, 64 << 10))
        return -EMSGSIZE;
    ssize_t n;
    do
        n = read(c->fd, c->in.p + c->in.n, 64 << 10);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    c->in.n += (size_t)n;
    return n > 0;
}

/* One line of the head, without its end. */
static int head_line(struct api *c, struct sv *ret) {
    for (;;) {
        char *at = c->in.p ? c->in.p + c->in_at : NULL;
        char *nl = at ? memchr(at, '\n', c->in.n - c->in_at) : NULL;
        if (nl) {
            *ret = sv_rtrim(sv_n(at, (size_t)(nl - at)));
            c->in_at += (size_t)(nl - at) + 1;
            return 0;
        }
        if (c->in.n - c->in_at > (64u << 10))
            return -EMSGSIZE;
        int r = fill(c);
        if (r <= 0)
            return r < 0 ? r : -ECONNRESET;
    }
}

static int read_head(struct api *c, struct err *e) {
    struct sv line;
again:;
    int r = head_line(c, &line);
    uint64_t status = 0;
    if (r < 0)
        return err_set(e, ERR_NET, r, "error during connect: %s closed the connection", api_host_name());
    if (!sv_starts(line, "HTTP/1.") || line.n < 12 || sv_u64(sv_sub(line, 9, 3), 999, &status) < 0)
        return err_set(e, ERR_NET, -EPROTO, "error during connect: %s does not speak HTTP", api_host_name());
    c->status = (int)status;
    c->left = UINT64_MAX;
    for (;;) {
        if ((r = head_line(c, &line)) < 0)
            return err_set(e, ERR_NET, r, "error during connect: %s: the answer ends early", api_host_name());
        if (!line.n)
            break;
        struct sv value = line, name;
        sv_split(&value, ':', &name);
        _cleanup_free_ char *low = sv_dup(name);
        for (char *p = low; *p; p++)
            *p = (char)tolower((unsigned char)*p);
        value = sv_trim(value);
        strv_addf(&c->headers, "%s: " SV_FMT, low, SV_ARG(value));
        if (streq(low, "transfer-encoding") && sv_ieqs(value, "chunked"))
            c->chunked = true;
        else if (streq(low, "content-length") && sv_u64(value, UINT64_MAX - 1, &c->left) < 0)
            return err_set(e, ERR_NET, -EPROTO, "error during connect: bad Content-Length");
        if (c->headers.n > 200)
            return err_set(e, ERR_NET, -EPROTO, "error during connect: too many headers");
    }
    if (c->status == 100) {
        strv_done(&c->headers);
        c->headers = (struct strv){0};
        goto again;
    }
    if (c->chunked)
        c->left = 0;
    if (c->status == 204 || c->status == 304)
        c->ended = true;
    return 0;
}

int api_open(struct api *c, const struct api_req *rq, struct err *e) {
    *c = (struct api){.fd = -1, .in = BUF_MAX(1u << 20)};
    _cleanup_buf_ struct buf head = BUF_MAX(1u << 20);
    c->fd = api_connect(e);
    if (c->fd < 0)
        return c->fd;
    bool raw = rq->body_fd > 0 || rq->body_fn;
    buf_addf(&head, "%s " API "%s HTTP/1.1\r\nHost: docker\r\nUser-Agent: slipway-docker/" SLIPWAY_VERSION "\r\n",
             rq->method, rq->path);
    if (rq->hijack)
        buf_adds(&head, "Connection: Upgrade\r\nUpgrade: tcp\r\n");
    else
        buf_adds(&head, "Connection: close\r\n");
    if (raw)
        buf_addf(&head, "Transfer-Encoding: chunked\r\n");
    else if (rq->body.p || !streq(rq->method, "GET"))
        buf_addf(&head, "Content-Length: %zu\r\n", rq->body.n);
    if (rq->body.n || raw)
        buf_addf(&head, "Content-Type: %s\r\n", rq->content_type ? rq->content_type : "application/json");
    for (size_t i = 0; i < rq->n_headers; i++)
        buf_addf(&head, "%s: %s\r\n", rq->headers[i].name, rq->headers[i].value);
    buf_adds(&head, "\r\n");
    if (!buf_ok(&head))
        return err_set(e, ERR_USER, -E2BIG, "the request is too long");
    int r = fd_write_all(c->fd, head.p, head.n);
    if (r >= 0)
        r = send_body(c->fd, rq);
    if (r < 0 && r != -EPIPE && r != -ECONNRESET) /* a refusal may have come before the body's end */
        return err_errno(e, r, "sending to %s", api_host_name());
    r = read_head(c, e);
    if (r >= 0 && streq(rq->method, "HEAD"))
        c->ended = true;
    return r;
}

bool api_pending(const struct api *c) { return c->in_at < c->in.n; }

ssize_t api_read(struct api *c, void *p, size_t n, struct err *e) {
    if (c->ended || !n)
        return 0;
    if (c->chunked && c->left == 0) {
        struct sv line;
        int r = head_line(c, &line);
        if (r >= 0 && !line.n) /* the end of the chunk before */
            r = head_line(c, &line);
        if (r < 0)
            return err_set(e, ERR_NET, r, "the answer ends early");
        uint64_t size = 0;
        size_t i = 0;
        for (; i < line.n && isxdigit((unsigned char)line.p[i]) && i < 15; i++)
            size = size * 16 + (uint64_t)(isdigit((unsigned char)line.p[i]) ? line.p[i] - '0'
                                                                           : tolower(line.p[i]) - 'a' + 10);
        if (!i)
            return err_set(e, ERR_NET, -EPROTO, "bad chunk in the answer");
        if (!size) {
            c->ended = true;
            return 0;
        }
        c->left = size;
    }
    if (!c->left) {
        c->ended = true;
        return 0;
    }
    if (!api_pending(c)) {
        int r = fill(c);
        if (r < 0)
            return err_errno(e, r, "reading from %s", api_host_name());
        if (!r) {
            c->ended = true;
            return c->left == UINT64_MAX ? 0 : err_set(e, ERR_NET, -ECONNRESET, "unexpected EOF");
        }
    }
    size_t have = MIN(MIN(n, c->in.n - c->in_at), c->left);
    memcpy(p, c->in.p + c->in_at, have);
    c->in_at += have;
    if (c->left != UINT64_MAX)
        c->left -= have;
    return (ssize_t)have;
}

const char *api_header(const struct api *c, const char *name) {
    for (size_t i = 0; i < c->headers.n; i++) {
        const char *v = startswith(c->headers.v[i], name);
        if (v && v[0] == ':' && v[1] == ' ')
            return v + 2;
    }
    return NULL;
}

void api_done(struct api *c) {
    c->fd = fd_close(c->fd);
    strv_done(&c->headers);
    buf_done(&c->in);
}

static int read_all(struct api *c, struct buf *b, struct err *e) {
    char block[16 << 10];
    ssize_t n;
    while ((n = api_read(c, block, sizeof(block), e)) > 0)
        buf_add(b, block, (size_t)n);
    if (n < 0)
        return (int)n;
    return buf_ok(b) ? 0 : err_set(e, ERR_LIMIT, -EFBIG, "the answer is too large");
}

int api_fail(struct api *c, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    if (read_all(c, &b, NULL) >= 0 && json_parse(&a, buf_sv(&b), &j, NULL) >= 0 && json_get_str(j, "message", NULL))
        return err_set(e, ERR_FAILED, -EREMOTEIO, "Error response from daemon: %s", json_get_str(j, "message", ""));
    struct sv t = sv_trim(buf_sv(&b));
    return err_set(e, ERR_FAILED, -EREMOTEIO, "Error response from daemon: " SV_FMT " (status %d)",
                   (int)MIN(t.n, 400), t.p, c->status);
}

int api_json(struct arena *a, const char *method, const char *path, struct sv body, struct json **ret,
             int *status, struct err *e) {
    _cleanup_api_ struct api c;
    struct api_req rq = {.method = method, .path = path, .body = body};
    int r = api_open(&c, &rq, e);
    if (r < 0)
        return r;
    if (status)
        *status = c.status;
    if (c.status >= 400)
        return api_fail(&c, e);
    _cleanup_buf_ struct buf b = BUF_MAX(256u << 20);
    if ((r = read_all(&c, &b, e)) < 0)
        return r;
    struct json *j = NULL;
    if (sv_trim(buf_sv(&b)).n && ret) {
        char *copy = arena_strndup(a, b.p, b.n);
        if ((r = json_parse(a, sv_n(copy, b.n), &j, e)) < 0)
            return err_wrap(e, r, "the answer of %s", api_host_name());
    }
    if (ret)
        *ret = j;
    return 0;
}

void query_add(struct buf *b, const char *key, const char *value) {
    if (!value)
        return;
    buf_addc(b, b->p && memchr(b->p, '?', b->n) ? '&' : '?');
    buf_adds(b, key);
    buf_addc(b, '=');
    buf_add_urlencoded(b, sv_from(value));
}

void path_add(struct buf *b, const char *name) {
    struct sv rest = sv_from(name), part;
    bool first = true;
    while (sv_split(&rest, '/', &part)) {
        if (!first)
            buf_addc(b, '/');
        buf_add_urlencoded(b, part);
        first = false;
    }
}

/* --- progress ------------------------------------------------------------------------------ */

static int progress_line(struct arena *a, struct sv line, struct progress_sink *ps, struct err *e) {
    struct json *j;
    if (!sv_trim(line).n)
        return 0;
    if (json_parse(a, line, &j, NULL) < 0)
        return err_set(e, ERR_NET, -EPROTO, "the answer is not JSON: " SV_FMT, (int)MIN(line.n, 200), line.p);
    const char *error = json_str(json_path(j, "errorDetail.message"), json_get_str(j, "error", NULL));
    if (error)
        return err_set(e, ERR_FAILED, (int)-MAX(json_int(json_path(j, "errorDetail.code"), EREMOTEIO), 1), "%s", error);
    const struct json *aux = json_get(j, "aux");
    if (aux) {
        snprintf(ps->id, sizeof(ps->id), "%s", json_get_str(aux, "ID", ps->id));
        snprintf(ps->digest, sizeof(ps->digest), "%s", json_get_str(aux, "Digest", ps->digest));
    }
    if (ps->quiet)
        return 0;
    struct sv stream = json_sv(json_get(j, "stream"));
    if (stream.p) {
        fwrite(stream.p, 1, stream.n, ps->out);
    } else if (json_get_str(j, "status", NULL)) {
        /* Without a terminal docker leaves out the lines that only count. */
        if (json_get(json_get(j, "progressDetail"), "current"))
            return 0;
        const char *id = json_get_str(j, "id", NULL);
        fprintf(ps->out, "%s%s%s\n", id ? id : "", id ? ": " : "", json_get_str(j, "status", ""));
    }
    fflush(ps->out);
    return 0;
}

int api_progress(struct api *c, struct progress_sink *ps, struct err *e) {
    if (c->status >= 400)
        return api_fail(c, e);
    _cleanup_buf_ struct buf b = BUF_MAX(16u << 20);
    char block[16 << 10];
    ssize_t n;
    for (;;) {
        n = api_read(c, block, sizeof(block), e);
        if (n < 0)
            return (int)n;
        buf_add(&b, block, (size_t)n);
        if (!buf_ok(&b))
            return err_set(e, ERR_LIMIT, -EFBIG, "a line of the answer is too long");
        size_t used = 0;
        for (;;) {
            char *nl = b.n > used ? memchr(b.p + used, '\n', b.n - used) : NULL;
            if (!nl && (n || used >= b.n))
                break;
            size_t end = nl ? (size_t)(nl - b.p) : b.n;
            _cleanup_arena_ struct arena a = {0};
            int r = progress_line(&a, sv_n(b.p + used, end - used), ps, e);
            if (r < 0)
                return r;
            used = end + 1;
        }
        if (used)
            buf_cut(&b, 0, MIN(used, b.n));
        if (!n)
            return 0;
    }
}
