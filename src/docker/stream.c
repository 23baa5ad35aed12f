/* An answer of JSON lines (build, pull, push, load) that a worker writes and the loop sends. What
 * waits is bounded: a writer waits while the client is slow. */
#include "docker/impl.h"

enum { WAITING_MAX = 1 << 20 };

struct stream {
    struct engine *g;
    struct httpd_req *rq;
    pthread_mutex_t mu;
    pthread_cond_t room;
    struct buf b;
    bool posted, gone, full;
    volatile int cancel;
    uint64_t last_progress;
};

static void stream_abort(struct httpd_req *rq, void *arg) {
    struct stream *s = arg;
    pthread_mutex_lock(&s->mu);
    s->gone = true;
    s->cancel = 1;
    s->rq = NULL;
    pthread_cond_broadcast(&s->room);
    pthread_mutex_unlock(&s->mu);
}

static void stream_flush(struct loop *l, void *arg) {
    struct stream *s = arg;
    pthread_mutex_lock(&s->mu);
    s->posted = false;
    if (!s->gone && s->b.n && !s->full) {
        if (httpd_write(s->rq, buf_sv(&s->b)) > 0)
            s->full = true;
        buf_reset(&s->b);
        pthread_cond_broadcast(&s->room);
    }
    pthread_mutex_unlock(&s->mu);
}

static void stream_drain(struct httpd_req *rq, void *arg) {
    struct stream *s = arg;
    s->full = false;
    stream_flush(s->g->loop, s);
}

struct stream *stream_new(struct engine *g, struct httpd_req *rq) {
    struct stream *s = xcalloc(1, sizeof(*s));
    s->g = g;
    s->rq = rq;
    s->b = BUF_MAX(16u << 20);
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->room, NULL);
    httpd_add_header(rq, "Content-Type", "application/json");
    httpd_on_abort(rq, stream_abort, s);
    httpd_on_drain(rq, stream_drain, s);
    httpd_start(rq, 200);
    return s;
}

void stream_line(struct stream *s, struct sv json) {
    pthread_mutex_lock(&s->mu);
    while (s->b.n > WAITING_MAX && !s->gone && !s->g->stopping)
        pthread_cond_wait(&s->room, &s->mu);
    if (!s->gone) {
        buf_addsv(&s->b, json);
        buf_adds(&s->b, "\r\n");
        if (!s->posted) {
            s->posted = true;
            loop_post(s->g->loop, stream_flush, s);
        }
    }
    pthread_mutex_unlock(&s->mu);
}

static void text_line(struct stream *s, const char *key, const char *id, const char *text) {
    struct buf b = BUF_MAX(4u << 20);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, key, text);
    if (id)
        jw_kstr(&w, "id", id);
    jw_end_obj(&w);
    stream_line(s, buf_sv(&b));
    buf_done(&b);
}

void stream_status(struct stream *s, const char *id, const char *fmt, ...) {
    char text[2000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    text_line(s, "status", id, text);
}

void stream_text(struct stream *s, const char *fmt, ...) {
    struct buf b = BUF_MAX(1u << 20);
    va_list ap;
    va_start(ap, fmt);
    buf_addv(&b, fmt, ap);
    va_end(ap);
    text_line(s, "stream", NULL, buf_str(&b));
    buf_done(&b);
}

void stream_error(struct stream *s, const struct err *e) {
    struct buf b = BUF_MAX(64u << 10), text = BUF_MAX(16u << 10);
    struct json_w w;
    buf_adds(&text, e->msg[0] ? e->msg : "unknown error");
    if (e->hint[0])
        buf_addf(&text, " (%s)", e->hint);
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_key(&w, "errorDetail");
    jw_obj(&w);
    jw_kstr(&w, "message", buf_str(&text));
    jw_end_obj(&w);
    jw_kstr(&w, "error", buf_str(&text));
    jw_end_obj(&w);
    stream_line(s, buf_sv(&b));
    buf_done(&b);
    buf_done(&text);
}

const volatile int *stream_cancel(struct stream *s) { return &s->cancel; }

static void stream_free(struct loop *l, void *arg) {
    struct stream *s = arg;
    pthread_cond_destroy(&s->room);
    pthread_mutex_destroy(&s->mu);
    buf_done(&s->b);
    free(s);
}

void stream_end(struct stream *s) {
    s->full = false;
    stream_flush(s->g->loop, s);
    if (!s->gone)
        httpd_finish(s->rq);
    s->gone = true;
    loop_post(s->g->loop, stream_free, s); /* after a flush that was posted */
}

/* {"status":"Downloading","progressDetail":{"current":…,"total":…},"id":…}, at most ten a second
 * for what only counts. */
void stream_progress(void *arg, const char *id, const char *what, uint64_t done, uint64_t total) {
    struct stream *s = arg;
    uint64_t now = now_mono();
    bool counts = total && done < total;
    if (counts && now - s->last_progress < 100000000)
        return;
    if (counts)
        s->last_progress = now;
    struct buf b = BUF_MAX(64u << 10);
    struct json_w w;
    char short_id[13];
    const char *hex = !id || strchr(id, '/') ? NULL : startswith(id, "sha256:") ? id + 7 : id;
    snprintf(short_id, sizeof(short_id), "%s", hex ? hex : "");
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "status", what);
    jw_key(&w, "progressDetail");
    jw_obj(&w);
    if (counts) {
        jw_kint(&w, "current", (int64_t)done);
        jw_kint(&w, "total", (int64_t)total);
    }
    jw_end_obj(&w);
    if (hex)
        jw_kstr(&w, "id", short_id);
    jw_end_obj(&w);
    stream_line(s, buf_sv(&b));
    buf_done(&b);
}

int header_auth(struct httpd_req *rq, const char *header, struct arena *a, const char **user, const char **pass) {
    const char *h = httpd_header(rq, header);
    struct buf b = BUF_MAX(256u << 10);
    struct json *j = NULL;
    int r = 0;
    if (h && *h && base64_decode(sv_from(h), &b) >= 0) {
        char *copy = arena_strndup(a, b.p ? b.p : "", b.n);
        if (json_parse(a, sv_n(copy, b.n), &j, NULL) >= 0) {
            *user = json_get_str(j, "username", NULL);
            *pass = json_get_str(j, "password", NULL);
            r = *user && **user;
        }
    }
    buf_done(&b);
    return r;
}
