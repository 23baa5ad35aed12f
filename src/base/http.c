/* The HTTP client: one easy handle per request, borrowed from a pool that keeps connections alive.
 * libcurl's own redirect following and authentication stay off: each hop is a request made here,
 * so that what may be sent to which origin is decided in one place (same_origin). An origin is
 * scheme, host and port as libcurl's own URL parser sees them, the one that connects. */
#include "base/http.h"

#include "base/http_curl.h"

#include <strings.h>

enum {
    MAX_HOPS = 10,
    MAX_HEADERS = 200,
    MAX_HEADER_BYTES = 256 << 10,
    ERROR_BODY = 64 << 10,
    DEFAULT_BODY = 16 << 20,
};

struct call {
    const struct curl_api *c;
    CURL *h;
    const struct http_req *rq;
    struct http_resp *resp;
    size_t header_bytes;
    long status;
    bool body_seen;
    bool discard;     /* a redirect's body */
    uint64_t skip;    /* the server ignored the range */
    int failed;       /* of a callback */
    bool send_auth, send_body;
    const char *method;
    char errbuf[CURL_ERROR_SIZE];
    struct curl_slist *headers;
};

/* What may be shown of a URL: no credentials, no query (signed addresses carry secrets). */
static void shown(const char *url, char *out, size_t n) {
    const char *host = strstr(url, "://");
    size_t scheme = host ? (size_t)(host + 3 - url) : 0;
    host = url + scheme;
    size_t len = strcspn(host, "?#"), auth = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', auth);
    if (at) {
        len -= (size_t)(at + 1 - host);
        host = at + 1;
    }
    snprintf(out, n, "%.*s%.*s", (int)scheme, url, (int)len, host);
}

static bool clean(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

static bool credential_header(const char *name) {
    return strcasecmp(name, "authorization") == 0 || strcasecmp(name, "cookie") == 0 ||
           strcasecmp(name, "proxy-authorization") == 0 || strcasecmp(name, "x-registry-auth") == 0;
}

struct origin {
    char scheme[16], host[300], port[16];
};

static int origin_of(const struct curl_api *c, const char *url, struct origin *o) {
    CURLU *u = c->url();
    char *part = NULL;
    int r = u && c->url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK ? 0 : -EINVAL;
    const struct {
        CURLUPart part;
        char *to;
        size_t n;
    } want[] = {{CURLUPART_SCHEME, o->scheme, sizeof o->scheme},
                {CURLUPART_HOST, o->host, sizeof o->host},
                {CURLUPART_PORT, o->port, sizeof o->port}};
    for (size_t i = 0; r == 0 && i < ELEMENTS(want); i++) {
        if (c->url_get(u, want[i].part, &part, CURLU_DEFAULT_PORT) != CURLUE_OK ||
            (size_t)snprintf(want[i].to, want[i].n, "%s", part) >= want[i].n)
            r = -EINVAL;
        if (part)
            c->free(part);
        part = NULL;
    }
    if (u)
        c->url_cleanup(u);
    if (r == 0 && strcasecmp(o->scheme, "http") != 0 && strcasecmp(o->scheme, "https") != 0)
        r = -EPROTONOSUPPORT;
    return r;
}

static bool same_origin(const struct origin *a, const struct origin *b) {
    return strcasecmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 && streq(a->port, b->port);
}

static bool loopback(const char *host) {
    return strcasecmp(host, "localhost") == 0 || startswith(host, "127.") || streq(host, "[::1]");
}

static size_t on_header(char *p, size_t size, size_t count, void *arg) {
    struct call *k = arg;
    struct sv line = sv_rtrim(sv_n(p, size * count));
    k->header_bytes += size * count;
    if (k->header_bytes > MAX_HEADER_BYTES || k->resp->headers.n >= MAX_HEADERS) {
        k->failed = -EMSGSIZE;
        return 0;
    }
    if (sv_starts(line, "HTTP/")) { /* a new answer (after 100 Continue) */
        strv_done(&k->resp->headers);
        return size * count;
    }
    ssize_t colon = sv_chr(line, ':');
    if (colon <= 0)
        return size * count;
    struct sv name = sv_sub(line, 0, (size_t)colon), value = sv_trim(sv_sub(line, (size_t)colon + 1, line.n));
    _cleanup_buf_ struct buf b = BUF_MAX(MAX_HEADER_BYTES);
    for (size_t i = 0; i < name.n; i++)
        buf_addc(&b, name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] + 32) : name.p[i]);
    buf_adds(&b, ": ");
    buf_addsv(&b, value);
    strv_addn(&k->resp->headers, buf_str(&b), b.n);
    return size * count;
}

/* Where the answer's body goes, known once its head is there. */
static int first_byte(struct call *k) {
    const struct http_req *rq = k->rq;
    k->c->easy_getinfo(k->h, CURLINFO_RESPONSE_CODE, &k->status);
    k->body_seen = true;
    if (!rq->range_from || !rq->write)
        return 0;
    if (k->status == 200) {
        k->skip = rq->range_from;
    } else if (k->status == 206) {
        const char *range = http_header(k->resp, "content-range");
        const char *from = range ? startswith(range, "bytes ") : NULL;
        uint64_t at;
        struct sv digits = from ? sv_n(from, strcspn(from, "-")) : SV_NULL;
        if (!from || sv_u64(digits, UINT64_MAX, &at) < 0 || at != rq->range_from)
            return -EBADMSG;
    }
    return 0;
}

static size_t on_body(char *p, size_t size, size_t count, void *arg) {
    struct call *k = arg;
    size_t n = size * count, all = n;
    if (!k->body_seen && (k->failed = first_byte(k)) < 0)
        return 0;
    if (k->discard || (k->status >= 300 && k->status < 400 && !k->rq->no_redirect))
        return all;
    if (k->rq->write && k->status >= 200 && k->status < 300) {
        size_t drop = (size_t)MIN((uint64_t)n, k->skip);
        k->skip -= drop;
        p += drop;
        n -= drop;
        int r = n ? k->rq->write(k->rq->write_arg, p, n) : 0;
        if (r < 0)
            k->failed = r;
        return r < 0 ? 0 : all;
    }
    struct buf *b = &k->resp->body;
    if (n > b->max - b->n) {
        if (k->status < 400) {
            k->failed = -EFBIG;
            return 0;
        }
        n = b->max - b->n; /* enough of an error's text */
    }
    buf_add(b, p, n);
    return all;
}

static size_t on_read(char *p, size_t size, size_t count, void *arg) {
    struct call *k = arg;
    ssize_t r = k->rq->read(k->rq->read_arg, p, size * count);
    if (r < 0) {
        k->failed = (int)r;
        return CURL_READFUNC_ABORT;
    }
    return (size_t)r;
}

static int on_seek(void *arg, curl_off_t offset, int origin) {
    struct call *k = arg;
    if (offset != 0 || origin != SEEK_SET || !k->rq->rewind)
        return CURL_SEEKFUNC_CANTSEEK;
    return k->rq->rewind(k->rq->read_arg) < 0 ? CURL_SEEKFUNC_FAIL : CURL_SEEKFUNC_OK;
}

static int on_progress(void *arg, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow) {
    struct call *k = arg;
    const struct http_req *rq = k->rq;
    if (rq->cancel && *rq->cancel) {
        k->failed = -ECANCELED;
        return 1;
    }
    if (rq->progress) {
        bool up = rq->read || rq->body.n;
        rq->progress(rq->progress_arg, (uint64_t)(up ? ulnow : dlnow), (uint64_t)(up ? ultotal : dltotal));
    }
    return 0;
}

static void add_header(struct call *k, const char *name, const char *value) {
    _cleanup_free_ char *line = xasprintf(*value ? "%s: %s" : "%s;%s", name, value);
    k->headers = k->c->slist_append(k->headers, line);
    explicit_bzero(line, strlen(line));
}

static int set_headers(struct call *k, struct err *e) {
    const struct http_req *rq = k->rq;
    for (size_t i = 0; i < rq->n_headers; i++) {
        const struct http_header *h = &rq->headers[i];
        if (!clean(h->name) || !clean(h->value) || strpbrk(h->name, ": "))
            return err_set(e, ERR_USER, -EINVAL, "a request header has characters that are not allowed");
        if (k->send_auth || !credential_header(h->name))
            add_header(k, h->name, h->value);
    }
    if (!k->send_auth)
        return 0;
    if (rq->bearer) {
        if (!clean(rq->bearer))
            return err_set(e, ERR_AUTH, -EINVAL, "the token has characters that are not allowed");
        _cleanup_free_ char *v = xasprintf("Bearer %s", rq->bearer);
        add_header(k, "Authorization", v);
        explicit_bzero(v, strlen(v));
    } else if (rq->basic_user) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        _cleanup_free_ char *pair = xasprintf("%s:%s", rq->basic_user, rq->basic_pass ? rq->basic_pass : "");
        buf_adds(&b, "Basic ");
        buf_add_base64(&b, pair, strlen(pair));
        add_header(k, "Authorization", buf_str(&b));
        explicit_bzero(pair, strlen(pair));
        explicit_bzero(b.p, b.n);
    }
    return 0;
}

#define SET(opt, value) k->c->easy_setopt(k->h, opt, value)

static void set_body(struct call *k) {
    const struct http_req *rq = k->rq;
    const char *m = k->method;
    if (streq(m, "HEAD")) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (k->send_body && rq->read) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_READFUNCTION, on_read);
        SET(CURLOPT_READDATA, k);
        SET(CURLOPT_SEEKFUNCTION, on_seek);
        SET(CURLOPT_SEEKDATA, k);
        SET(CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
        SET(CURLOPT_INFILESIZE_LARGE, rq->body_size == UINT64_MAX ? (curl_off_t)-1 : (curl_off_t)rq->body_size);
        SET(CURLOPT_CUSTOMREQUEST, m);
    } else if (k->send_body && (rq->body.n || streq(m, "POST") || streq(m, "PUT") || streq(m, "PATCH"))) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.n);
        SET(CURLOPT_POSTFIELDS, rq->body.n ? rq->body.p : "");
        SET(CURLOPT_CUSTOMREQUEST, m);
        bool typed = false;
        for (size_t i = 0; i < rq->n_headers; i++)
            typed = typed || strcasecmp(rq->headers[i].name, "content-type") == 0;
        if (!typed) /* not the form type that POST implies */
            k->headers = k->c->slist_append(k->headers, "Content-Type:");
    } else if (streq(m, "GET")) {
        SET(CURLOPT_HTTPGET, 1L);
    } else {
        SET(CURLOPT_CUSTOMREQUEST, m);
    }
}

static const char *env(const char *name) {
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static void set_network(struct call *k, const struct origin *o) {
    const struct http_req *rq = k->rq;
    const char *v;
    if ((v = env("CURL_CA_BUNDLE")) || (v = env("SSL_CERT_FILE")))
        SET(CURLOPT_CAINFO, v);
    if ((v = env("SSL_CERT_DIR")))
        SET(CURLOPT_CAPATH, v);
    if (rq->insecure_tls) {
        SET(CURLOPT_SSL_VERIFYPEER, 0L);
        SET(CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (loopback(o->host))
        SET(CURLOPT_PROXY, ""); /* as Go's clients: loopback is never behind a proxy */
    else if (strcasecmp(o->scheme, "http") == 0 && !env("http_proxy") && (v = env("HTTP_PROXY")))
        SET(CURLOPT_PROXY, v);
    if (rq->unix_socket)
        SET(CURLOPT_UNIX_SOCKET_PATH, rq->unix_socket);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(rq->connect_timeout_ms ? rq->connect_timeout_ms : 20000));
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, (long)((rq->stall_timeout_ms ? rq->stall_timeout_ms : 60000) + 999) / 1000);
}

static void set_transfer(struct call *k, const char *url) {
    SET(CURLOPT_URL, url);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https"); /* checked in origin_of too */
    SET(CURLOPT_ERRORBUFFER, k->errbuf);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, k);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, k);
    SET(CURLOPT_BUFFERSIZE, 256L << 10);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, k);
    SET(CURLOPT_USERAGENT, "slipway/" SLIPWAY_VERSION);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_MAXCONNECTS, 4L);
}

/* What libcurl says, as one of ours. */
static int transport_error(struct call *k, CURLcode code, const char *url, struct err *e) {
    char at[300];
    shown(url, at, sizeof at);
    if (k->failed == -ECANCELED)
        return err_set(e, ERR_CANCELLED, -ECANCELED, "cancelled");
    if (k->failed == -EFBIG)
        return err_set(e, ERR_LIMIT, -EFBIG, "%s: the answer is larger than allowed", at);
    if (k->failed == -EMSGSIZE)
        return err_set(e, ERR_LIMIT, -EMSGSIZE, "%s: the answer's head is larger than allowed", at);
    if (k->failed == -EBADMSG)
        return err_set(e, ERR_NET, -EBADMSG, "%s: the server answered with another range than asked", at);
    if (k->failed < 0) {
        if (!e || e->kind == ERR_NONE) /* else the callback's own text stands */
            err_errno(e, k->failed, "%s", at);
        return k->failed;
    }
    int r = -EIO;
    const char *hint = NULL;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        r = -EHOSTUNREACH;
        break;
    case CURLE_COULDNT_CONNECT:
        r = -ECONNREFUSED;
        break;
    case CURLE_OPERATION_TIMEDOUT:
        r = -ETIMEDOUT;
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
        r = -EPROTO;
        hint = "behind a TLS proxy, name its CA bundle in SSL_CERT_FILE";
        break;
    case CURLE_SSL_CONNECT_ERROR:
        r = -EPROTO;
        break;
    case CURLE_RECV_ERROR:
        r = strstr(k->errbuf, "CONNECT tunnel failed") || strstr(k->errbuf, "from proxy") ? -EHOSTUNREACH : -ECONNRESET;
        break;
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        r = -ECONNRESET;
        break;
    default:
        break;
    }
    err_set(e, ERR_NET, r, "%s: %s", at, k->errbuf[0] ? k->errbuf : k->c->easy_strerror(code));
    return hint ? err_hint(e, r, "%s", hint) : r;
}

/* One request and its answer. */
static int hop(struct call *k, const char *url, const struct origin *o, char **ret_location, struct err *e) {
    strv_done(&k->resp->headers);
    buf_reset(&k->resp->body);
    k->header_bytes = 0;
    k->status = 0;
    k->body_seen = false;
    k->errbuf[0] = 0;
    k->skip = 0;
    k->h = curl_borrow(k->c);
    if (!k->h)
        return err_set(e, ERR_ENV, -ENOMEM, "libcurl: out of memory");
    int r = set_headers(k, e);
    if (r == 0) {
        set_transfer(k, url);
        set_network(k, o);
        set_body(k);
        char range[32];
        if (k->rq->range_from) {
            snprintf(range, sizeof range, "%llu-", (unsigned long long)k->rq->range_from);
            SET(CURLOPT_RANGE, range);
        }
        SET(CURLOPT_HTTPHEADER, k->headers);
        CURLcode code = k->c->easy_perform(k->h);
        if (code != CURLE_OK) {
            r = transport_error(k, code, url, e);
        } else {
            char *location = NULL;
            k->c->easy_getinfo(k->h, CURLINFO_RESPONSE_CODE, &k->status);
            k->c->easy_getinfo(k->h, CURLINFO_REDIRECT_URL, &location);
            if (location && k->status >= 300 && k->status < 400 && !k->rq->no_redirect)
                *ret_location = xstrdup(location);
        }
    }
    k->c->slist_free_all(k->headers);
    k->headers = NULL;
    curl_return(k->c, k->h);
    k->h = NULL;
    return r;
}

/* Decides what the next hop may have: credentials only for the first origin, never a downgrade. */
static int prepare_redirect(struct call *k, const struct origin *first, const struct origin *from,
                            const char *url, struct origin *to, struct err *e) {
    char at[300];
    shown(url, at, sizeof at);
    if (origin_of(k->c, url, to) < 0)
        return err_set(e, ERR_NET, -EPROTO, "redirected to an address that is not valid: %s", at);
    if (strcasecmp(from->scheme, "https") == 0 && strcasecmp(to->scheme, "http") == 0 && !k->rq->insecure_tls)
        return err_set(e, ERR_NET, -EPROTO, "redirected from https to %s: refused", at);
    k->send_auth = k->send_auth && same_origin(first, to);
    bool get = streq(k->method, "GET") || streq(k->method, "HEAD");
    if (k->status <= 303 && !get) {
        k->method = "GET";
        k->send_body = false;
    }
    if (k->send_body && k->rq->read) {
        if (!k->rq->rewind || k->rq->rewind(k->rq->read_arg) < 0)
            return err_set(e, ERR_NET, -EPROTO, "redirected to %s in the middle of an upload", at);
    }
    return 0;
}

int http_do(const struct http_req *rq, struct http_resp *ret, struct err *e) {
    const struct curl_api *c;
    int r = curl_load(&c, e);
    if (r < 0)
        return r;
    struct http_resp resp = {0};
    resp.body.max = rq->write ? ERROR_BODY : rq->max_body ? (size_t)rq->max_body : (size_t)DEFAULT_BODY;
    struct call k = {.c = c, .rq = rq, .resp = &resp, .method = rq->method ? rq->method : "GET",
                     .send_auth = true, .send_body = true};
    struct origin first, from, to;
    _cleanup_free_ char *url = xstrdup(rq->url);
    if (!clean(url) || strchr(url, ' ') || origin_of(c, url, &first) < 0)
        return err_set(e, ERR_USER, -EINVAL, "not a web address: %.200s", clean(url) ? url : "(control characters)");
    from = first;
    for (unsigned hops = 0; r == 0; hops++) {
        _cleanup_free_ char *location = NULL;
        r = hop(&k, url, &from, &location, e);
        if (r < 0 || !location)
            break;
        if (hops == MAX_HOPS) {
            r = err_set(e, ERR_NET, -ELOOP, "more than %d redirects", MAX_HOPS);
            break;
        }
        r = prepare_redirect(&k, &first, &from, location, &to, e);
        free(url);
        url = TAKE(location);
        from = to;
    }
    if (r < 0) {
        http_resp_done(&resp);
        return r;
    }
    resp.status = (int)k.status;
    resp.final_url = TAKE(url);
    *ret = resp;
    return 0;
}

const char *http_header(const struct http_resp *r, const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < r->headers.n; i++)
        if (strncasecmp(r->headers.v[i], name, n) == 0 && r->headers.v[i][n] == ':')
            return r->headers.v[i] + n + 2;
    return NULL;
}

void http_resp_done(struct http_resp *r) {
    strv_done(&r->headers);
    buf_done(&r->body);
    free(r->final_url);
    memset(r, 0, sizeof *r);
}
