/* The results server: listens, asks for the token, hands each request to a worker, answers.
 *
 * The token has the shape of a JWT, since clients read the ids of the run and of the job out of its
 * `scp` claim; what counts is that it is, byte for byte, the one that was made for this job. Blobs carry
 * no token: their URLs hold an expiry and a signature made with a key that nobody else has. */
#include "run/results_internal.h"

#include "base/digest.h"
#include "core/fs.h"

#include <openssl/crypto.h>
#include <time.h>

/* --- tokens ---------------------------------------------------------------------------------------- */

static void add_json64(struct buf *b, struct buf *json) {
    buf_add_base64url(b, json->p, json->n);
    buf_reset(json);
}

static char *token_make(struct results *s) {
    _cleanup_buf_ struct buf b = BUF_SMALL, j = BUF_SMALL;
    uint8_t sig[32];
    struct json_w w;
    buf_adds(&j, "{\"typ\":\"JWT\",\"alg\":\"HS256\"}");
    add_json64(&b, &j);
    buf_addc(&b, '.');
    jw_init(&w, &j, 0);
    jw_obj(&w);
    jw_key(&w, "scp");
    _cleanup_free_ char *scp = xasprintf("Actions.Results:%s:%s Actions.UploadArtifacts:%s", s->run_backend, s->job_backend, s->run_id);
    jw_str(&w, scp);
    jw_kstr(&w, "iss", "slipway");
    jw_kstr(&w, "jti", s->job_backend);
    jw_kint(&w, "iat", time(NULL));
    jw_kint(&w, "exp", time(NULL) + 86400);
    jw_end_obj(&w);
    add_json64(&b, &j);
    hmac_sha256(sv_n((const char *)s->key, sizeof s->key), buf_sv(&b), sig);
    buf_addc(&b, '.');
    buf_add_base64url(&b, sig, sizeof sig);
    return buf_take(&b);
}

static bool same(const char *a, const char *b) {
    size_t n = strlen(a);
    return n == strlen(b) && CRYPTO_memcmp(a, b, n) == 0;
}

bool results_token_ok(struct results *s, struct httpd_req *rq) {
    const char *h = httpd_header(rq, "authorization");
    const char *t = h && strncasecmp(h, "bearer ", 7) == 0 ? h + 7 : NULL;
    if (t && same(t, s->token))
        return true;
    httpd_reply(rq, t ? 403 : 401, "application/json",
                t ? SV("{\"code\":\"permission_denied\",\"msg\":\"this is not the token of this job\",\"message\":\"this is not the token of this job\"}")
                  : SV("{\"code\":\"unauthenticated\",\"msg\":\"a request needs the job's token\",\"message\":\"a request needs the job's token\"}"));
    return false;
}

static void sign(struct results *s, const char *what, const char *id, const char *perm, const char *until, char out[65]) {
    _cleanup_buf_ struct buf m = BUF_SMALL, hex = BUF_SMALL;
    uint8_t raw[32];
    buf_addf(&m, "%s\n%s\n%s\n%s", what, id, perm, until);
    hmac_sha256(sv_n((const char *)s->key, sizeof s->key), buf_sv(&m), raw);
    buf_add_hex(&hex, raw, sizeof raw);
    memcpy(out, buf_str(&hex), 65);
}

void signed_url(struct results *s, struct buf *b, const char *what, const char *id, const char *perm) {
    char until[24], sig[65];
    snprintf(until, sizeof until, "%lld", (long long)(time(NULL) + (int64_t)URL_LIFE));
    sign(s, what, id, perm, until, sig);
    buf_addf(b, "%s/blob/%s/%s?sp=%s&se=%s&sig=%s", s->url, what, id, perm, until, sig);
}

/* Is the request's URL one of ours, for this and not too old? */
static bool signature_ok(struct results *s, struct httpd_req *rq, const char *what, const char *id, const char *perm) {
    const char *sp = httpd_query(rq, "sp"), *se = httpd_query(rq, "se"), *sig = httpd_query(rq, "sig");
    char want[65];
    uint64_t until;
    if (!sp || !se || !sig || !streq(sp, perm) || sv_u64(sv_from(se), INT64_MAX, &until) < 0 || (int64_t)until < time(NULL))
        return false;
    sign(s, what, id, perm, se, want);
    return same(sig, want);
}
bool results_signed(struct results *s, struct httpd_req *rq, const char *what, const char *id, const char *perm) {
    if (signature_ok(s, rq, what, id, perm))
        return true;
    httpd_reply(rq, 403, "application/xml",
                SV("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>AuthenticationFailed</Code><Message>the signature is not this job's, or too old</Message></Error>"));
    return false;
}

/* --- calls ----------------------------------------------------------------------------------------- */

void call_fail(struct call *c, int status, const char *code, const char *fmt, ...) {
    _cleanup_buf_ struct buf t = BUF_SMALL;
    struct json_w w;
    va_list ap;
    va_start(ap, fmt);
    buf_addv(&t, fmt, ap);
    va_end(ap);
    c->status = status;
    c->fd = fd_close(c->fd);
    buf_reset(&c->out);
    jw_init(&w, &c->out, 0);
    jw_obj(&w);
    jw_kstr(&w, "code", code);
    jw_kstr(&w, "msg", buf_str(&t));
    jw_kstr(&w, "message", buf_str(&t));
    jw_end_obj(&w);
}

static void call_free(struct call *c) {
    fd_close(c->fd);
    buf_done(&c->out);
    arena_done(&c->a);
    free(c);
}

static void call_work(void *arg) {
    struct call *c = arg;
    struct json *j = NULL;
    if (c->body.n && json_parse(&c->a, c->body, &j, NULL) >= 0 && j->kind == JSON_OBJECT)
        c->j = j;
    c->fn(c);
}

/* "bytes=A-B", "bytes=A-", "bytes=-N"; one range. False: not one that can be had. */
static bool range_of(const char *text, uint64_t size, uint64_t *from, uint64_t *n) {
    const char *p = text ? startswith(text, "bytes=") : NULL;
    const char *dash = p ? strchr(p, '-') : NULL;
    uint64_t a = 0, b = size ? size - 1 : 0;
    if (!dash)
        return false;
    if (dash == p) {
        if (sv_u64(sv_from(dash + 1), UINT64_MAX, &b) < 0 || !b || !size)
            return false;
        a = b >= size ? 0 : size - b;
        b = size - 1;
    } else if (sv_u64(sv_n(p, (size_t)(dash - p)), UINT64_MAX, &a) < 0 || (dash[1] && sv_u64(sv_from(dash + 1), UINT64_MAX, &b) < 0) || a >= size || b < a) {
        return false;
    }
    *from = a;
    *n = MIN(b, size - 1) - a + 1;
    return true;
}

static void answer_file(struct call *c) {
    uint64_t from = 0, n = c->size;
    char text[80];
    int status = 200;
    httpd_add_header(c->rq, "Accept-Ranges", "bytes");
    if (c->disposition)
        httpd_add_header(c->rq, "Content-Disposition", c->disposition);
    if (c->range) {
        if (!range_of(c->range, c->size, &from, &n)) {
            snprintf(text, sizeof text, "bytes */%llu", (unsigned long long)c->size);
            httpd_add_header(c->rq, "Content-Range", text);
            httpd_reply(c->rq, 416, "text/plain", SV(""));
            return;
        }
        snprintf(text, sizeof text, "bytes %llu-%llu/%llu", (unsigned long long)from, (unsigned long long)(from + n - 1), (unsigned long long)c->size);
        httpd_add_header(c->rq, "Content-Range", text);
        status = 206;
    }
    httpd_reply_fd(c->rq, status, c->mime ? c->mime : "application/octet-stream", TAKE_FD(c->fd), c->offset + from, n);
}

static void call_done(struct loop *l, void *arg) {
    struct call *c = arg;
    struct results *s = c->s;
    if (c->fd >= 0)
        answer_file(c);
    else if (!buf_ok(&c->out))
        httpd_reply(c->rq, 500, "application/json", SV("{\"code\":\"internal\",\"msg\":\"the answer is too long\"}"));
    else if (!c->out.n)
        httpd_reply(c->rq, c->status ? c->status : 200, NULL, SV(""));
    else
        httpd_reply(c->rq, c->status ? c->status : 200, "application/json", buf_sv(&c->out));
    call_free(c);
    pthread_mutex_lock(&s->mu);
    s->flying--;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->mu);
}

struct call *call_new(struct results *s, struct httpd_req *rq, void (*fn)(struct call *c)) {
    struct call *c = xcalloc(1, sizeof *c);
    c->s = s;
    c->rq = rq;
    c->fn = fn;
    c->fd = -1;
    c->out = BUF_MAX(16u << 20);
    c->method = arena_strdup(&c->a, httpd_method(rq));
    c->path = arena_strdup(&c->a, httpd_path(rq));
    c->range = httpd_header(rq, "range") ? arena_strdup(&c->a, httpd_header(rq, "range")) : NULL;
    return c;
}

void call_go(struct call *c) {
    pthread_mutex_lock(&c->s->mu);
    c->s->flying++;
    pthread_mutex_unlock(&c->s->mu);
    loop_work(c->s->o.loop, call_work, call_done, c);
}

static void call_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct call *c = arg;
    if (!ok) { /* answered already */
        call_free(c);
        return;
    }
    c->body = arena_sv(&c->a, body);
    call_go(c);
}

void call_collect(struct call *c, size_t max) { httpd_collect(c->rq, max, call_body, c); }

/* --- requests --------------------------------------------------------------------------------------- */

static void handle(struct httpd_req *rq, void *arg) {
    struct results *s = arg;
    const char *path = httpd_path(rq);
    if (startswith(path, "/blob/")) {
        results_blob(s, rq);
        return;
    }
    if (!results_token_ok(s, rq))
        return;
    if (results_old_bytes(s, rq))
        return;
    if (startswith(path, "/twirp/")) {
        if (!streq(httpd_method(rq), "POST"))
            httpd_reply(rq, 405, "application/json", SV("{\"code\":\"bad_route\",\"msg\":\"twirp is POST only\"}"));
        else
            call_collect(call_new(s, rq, results_twirp), BODY_MAX);
    } else if (startswith(path, "/_apis/")) {
        struct call *c = call_new(s, rq, results_old);
        results_old_query(c);
        call_collect(c, BODY_MAX);
    } else {
        httpd_reply(rq, 404, "application/json", SV("{\"code\":\"bad_route\",\"msg\":\"there is no such service here\"}"));
    }
}

/* --- life ------------------------------------------------------------------------------------------- */

struct on_loop {
    struct results *s;
    int r;
    bool done, end;
};
static void on_loop_run(struct loop *l, void *arg) {
    struct on_loop *o = arg;
    struct results *s = o->s;
    if (o->end) {
        httpd_free(s->http);
        s->http = NULL;
    } else {
        o->r = httpd_new(&s->http, s->o.loop, s->o.listen_fd, handle, s);
    }
    pthread_mutex_lock(&s->mu);
    o->done = true;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->mu);
}
static int on_loop(struct results *s, bool end) {
    struct on_loop o = {.s = s, .end = end};
    loop_post(s->o.loop, on_loop_run, &o);
    pthread_mutex_lock(&s->mu);
    while (!o.done)
        pthread_cond_wait(&s->cond, &s->mu);
    pthread_mutex_unlock(&s->mu);
    return o.r;
}

static void backend_id(char out[40], const char *seed) {
    uint8_t raw[32];
    char hex[65];
    if (seed)
        sha256_bytes(seed, strlen(seed), raw);
    else
        random_bytes(raw, sizeof raw);
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", raw[i]);
    snprintf(out, 40, "%.8s-%.4s-4%.3s-a%.3s-%.12s", hex, hex + 8, hex + 13, hex + 17, hex + 20);
}

int results_new(struct results **ret, const struct results_options *o, struct err *e) {
    struct results *s = xcalloc(1, sizeof *s);
    s->o = *o;
    s->o.cache_max = o->cache_max ? o->cache_max : 10ull << 30;
    s->o.blob_max = o->blob_max ? o->blob_max : 10ull << 30;
    s->o.retention_days = o->retention_days ? o->retention_days : 90;
    s->url = xstrdup(o->url);
    s->repo = xstrdup(o->repo);
    s->ref = xstrdup(o->ref);
    s->run_id = xstrdup(o->run_id);
    for (int i = 0; i < 3; i++)
        s->read_refs[i] = xstrdup(o->read_refs[i]);
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->cond, NULL);
    random_bytes(s->key, sizeof s->key);
    _cleanup_free_ char *seed = xasprintf("slipway run %s %s", o->run_id, o->repo);
    backend_id(s->run_backend, seed);
    backend_id(s->job_backend, NULL);
    s->token = token_make(s);
    s->o.scratch = fcntl(o->scratch, F_DUPFD_CLOEXEC, 3);
    int r = s->o.scratch < 0 ? -errno : on_loop(s, false);
    if (r < 0) {
        results_free(s);
        return err_errno(e, r, "the job's services");
    }
    *ret = s;
    return 0;
}

const char *results_token(const struct results *s) { return s->token; }
const char *results_url(const struct results *s) { return s->url; }

void results_free(struct results *s) {
    if (!s)
        return;
    if (s->http)
        on_loop(s, true);
    pthread_mutex_lock(&s->mu);
    while (s->flying)
        pthread_cond_wait(&s->cond, &s->mu);
    pthread_mutex_unlock(&s->mu);
    uploads_done(s);
    fd_close(s->o.scratch);
    pthread_mutex_destroy(&s->mu);
    pthread_cond_destroy(&s->cond);
    explicit_bzero(s->key, sizeof s->key);
    free(s->token);
    free(s->url);
    free(s->repo);
    free(s->ref);
    free(s->run_id);
    for (int i = 0; i < 3; i++)
        free(s->read_refs[i]);
    free(s);
}
