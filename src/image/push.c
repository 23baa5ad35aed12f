/* Sending an image: its manifest is made (image_export), then every blob that the registry does not
 * have is sent by one of several workers, then the manifest. A blob is asked for first (HEAD), then
 * mounted from the repository it was pulled from when that is on the same registry, else uploaded: a
 * small one by a PUT, a large one by a PATCH and a PUT that ends it. When the connection of a PATCH
 * breaks, the registry is asked how far it got and gets the rest; where it does not know, the upload
 * is begun anew. Pauses between tries grow. Source: OCI distribution-spec v1.1, "Push". */
#include "image/push.h"

#include "core/loop.h"

#include <pthread.h>

enum { UPLOAD_TRIES = 5, MAX_WORKERS = 16, ONE_PUT = 1 << 20 };
#define SECOND 1000000000ull

struct push {
    struct store *s;
    struct remote *r, *from; /* from: blobs that are not in the store come from there, or NULL */
    struct lease *l;         /* with from */
    const struct push_options *o;
    char *mount_from;
    struct arena a;
    struct manifest m;
    const struct descriptor **blobs;
    size_t n_blobs;
    pthread_mutex_t lock;
    size_t next;
    uint64_t sent;
    int failed;
    struct err err;
};

struct upload {
    struct push *p;
    const struct descriptor *d;
    int fd;
    uint64_t begin, at; /* of this request, and where it is */
    char *location;     /* of the session, or NULL */
    bool fresh;         /* which has just begun */
};

static void say(const struct push *p, const char *digest, const char *what, uint64_t done, uint64_t total) {
    if (p->o->progress && p->o->progress->fn)
        p->o->progress->fn(p->o->progress->arg, digest, what, done, total);
}

static ssize_t on_read(void *arg, void *buf, size_t n) {
    struct upload *u = arg;
    ssize_t r;
    n = (size_t)MIN((uint64_t)n, u->d->size - u->at);
    do
        r = n ? pread(u->fd, buf, n, (off_t)u->at) : 0;
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    u->at += (uint64_t)r;
    say(u->p, u->d->digest, "pushing", u->at, u->d->size);
    return r;
}

static int on_rewind(void *arg) {
    struct upload *u = arg;
    u->at = u->begin;
    return 0;
}

static int exists(struct push *p, const struct descriptor *d, struct err *e) {
    _cleanup_http_ struct http_resp resp = {0};
    _cleanup_free_ char *url = xasprintf("/v2/%s/blobs/%s", remote_path(p->r), d->digest);
    struct http_req rq = {.method = "HEAD"};
    int q = remote_do(p->r, &rq, url, &resp, e);
    return q < 0 ? q : resp.status == 200;
}

/* Where to send it: what the registry said, made absolute where it must be. Registries behind a
 * TLS proxy say http:// of themselves. */
static char *upload_address(const struct push *p, const char *location, struct err *e) {
    const char *base = remote_base(p->r), *host = strstr(base, "://") + 3;
    const char *plain = startswith(location, "http://");
    bool secure = startswith(base, "https://") != NULL;
    size_t n = strlen(host);
    _cleanup_free_ char *url = NULL;
    if (plain && secure && strncmp(plain, host, n) == 0 && (plain[n] == '/' || plain[n] == ':'))
        url = xasprintf("https://%s", plain);
    else
        url = xstrdup(location);
    if (secure && startswith(url, "http://")) {
        err_set(e, ERR_NET, -EPROTO, "%s wants the upload sent to %.*s without TLS: refused", remote_host(p->r),
                (int)strcspn(url + 7, "/?"), url + 7);
        return NULL;
    }
    return TAKE(url);
}

/* Every answer of a session names where it goes on. */
static int take_location(struct push *p, struct upload *u, const struct http_resp *resp, struct err *e) {
    const char *location = http_header(resp, "location");
    if (resp->status != 202 && resp->status != 204)
        return remote_error(p->r, resp, e, "upload");
    if (!location)
        return u->location ? 0 : err_set(e, ERR_NET, -EBADMSG, "%s does not say where to upload to", remote_host(p->r));
    char *url = upload_address(p, location, e);
    if (!url)
        return -EPROTO;
    free(u->location);
    u->location = url;
    return 0;
}

/* Begins an upload. 1: mounted, nothing to send. */
static int begin(struct push *p, struct upload *u, struct err *e) {
    _cleanup_http_ struct http_resp resp = {0};
    _cleanup_buf_ struct buf url = BUF_SMALL;
    buf_addf(&url, "/v2/%s/blobs/uploads/", remote_path(p->r));
    if (p->mount_from) {
        buf_addf(&url, "?mount=%s&from=", u->d->digest);
        buf_add_urlencoded(&url, sv_from(p->mount_from));
    }
    struct http_req rq = {.method = "POST"};
    int q = remote_do(p->r, &rq, buf_str(&url), &resp, e);
    if (q < 0)
        return q;
    u->begin = 0;
    return resp.status == 201 ? 1 : take_location(p, u, &resp, e);
}

/* How far a session got whose connection broke. 0: to be begun anew. */
static int where_now(struct push *p, struct upload *u) {
    _cleanup_http_ struct http_resp resp = {0};
    struct http_req rq = {.method = "GET"};
    const char *range;
    uint64_t last;
    if (remote_do(p->r, &rq, u->location, &resp, NULL) < 0 || take_location(p, u, &resp, NULL) < 0 ||
        !(range = http_header(&resp, "range")))
        return 0;
    struct sv r = sv_from(range);
    if (sv_starts(r, "bytes="))
        r = sv_sub(r, 6, r.n);
    ssize_t dash = sv_chr(r, '-');
    if (dash < 0 || sv_u64(sv_sub(r, (size_t)dash + 1, r.n), INT64_MAX, &last) < 0 || last == 0 || last >= u->d->size)
        return 0; /* "0-0" may be one byte or none */
    u->begin = last + 1;
    say(p, u->d->digest, "resuming", u->begin, u->d->size);
    return 1;
}

/* Sends what there is from u->begin on, by method to url. */
static int send_rest(struct push *p, struct upload *u, const char *method, const char *url, struct http_resp *resp, struct err *e) {
    char range[64];
    struct http_req rq = {.method = method, .read = on_read, .read_arg = u, .rewind = on_rewind, .body_size = u->d->size - u->begin,
                          .headers = {{"Content-Type", "application/octet-stream"}}, .n_headers = 1, .stall_timeout_ms = 120000};
    if (u->begin) {
        snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)u->begin, (unsigned long long)u->d->size - 1);
        rq.headers[rq.n_headers++] = (struct http_header){"Content-Range", range};
    }
    u->at = u->begin;
    return remote_do(p->r, &rq, url, resp, e);
}

static int finish(struct push *p, struct upload *u, bool whole, struct err *e) {
    _cleanup_http_ struct http_resp resp = {0};
    _cleanup_free_ char *url = xasprintf("%s%cdigest=%s", u->location, strchr(u->location, '?') ? '&' : '?', u->d->digest);
    struct http_req empty = {.method = "PUT"};
    int q = whole ? send_rest(p, u, "PUT", url, &resp, e) : remote_do(p->r, &empty, url, &resp, e);
    if (q < 0)
        return q;
    return resp.status / 100 == 2 ? 0 : remote_error(p->r, &resp, e, "upload");
}

static int upload_once(struct push *p, struct upload *u, struct err *e) {
    _cleanup_http_ struct http_resp resp = {0};
    bool whole = u->d->size <= ONE_PUT, ready = u->location && (u->fresh || where_now(p, u));
    int q = 0;
    u->fresh = false;
    if (!ready) {
        free(u->location);
        u->location = NULL;
        q = begin(p, u, e);
    }
    if (q != 0) {
        if (q == 1)
            say(p, u->d->digest, "mounted", u->d->size, u->d->size);
        return q;
    }
    if (!whole && u->begin < u->d->size) {
        q = send_rest(p, u, "PATCH", u->location, &resp, e);
        if (q == 0 && (resp.status == 404 || resp.status == 416)) { /* it lost its place */
            free(u->location);
            u->location = NULL;
            return err_set(e, ERR_NET, -EAGAIN, "%s lost the upload's place (%d)", remote_host(p->r), resp.status);
        }
        if (q == 0)
            q = take_location(p, u, &resp, e);
        if (q < 0)
            return q;
    }
    q = finish(p, u, whole, e);
    if (q < 0 && q != -ECONNRESET && q != -ETIMEDOUT && q != -EIO) {
        free(u->location); /* the registry has seen it to its end, and did not like it */
        u->location = NULL;
    }
    if (q < 0)
        return q;
    pthread_mutex_lock(&p->lock);
    p->sent += u->d->size;
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static int upload_open(struct push *p, struct upload *u, struct err *e) {
    uint64_t size;
    if (p->from) {
        int q = lease_use(p->l, u->d->digest);
        q = q < 0 ? err_errno(e, q, "lease") : remote_blob(p->from, p->s, u->d->digest, u->d->size, p->o->progress, e);
        if (q < 0)
            return q;
    }
    u->fd = blob_open(p->s, u->d->digest, &size, e);
    if (u->fd < 0 || size == u->d->size)
        return u->fd;
    return err_set(e, ERR_INTERNAL, -EIO, "blob %.19s has %llu bytes, the manifest says %llu", u->d->digest,
                   (unsigned long long)size, (unsigned long long)u->d->size);
}

static bool may_pass(int q) {
    return q == -ECONNRESET || q == -ETIMEDOUT || q == -EREMOTEIO || q == -EAGAIN || q == -EIO || q == -ECONNREFUSED;
}

static bool cancelled(const struct push *p) { return p->o->cancel && *p->o->cancel; }

static int push_blob(struct push *p, const struct descriptor *d, struct err *e) {
    int q = exists(p, d, e);
    if (q == 1)
        say(p, d->digest, "exists", d->size, d->size);
    if (q != 0)
        return q < 0 ? err_wrap(e, q, "%.19s", d->digest) : 0;
    struct upload u = {.p = p, .d = d, .fd = -1};
    if (p->mount_from && p->from && (q = begin(p, &u, e)) != 0) { /* a mount spares the way through here */
        free(u.location);
        if (q == 1)
            say(p, d->digest, "mounted", d->size, d->size);
        return q < 0 ? err_wrap(e, q, "%.19s", d->digest) : 0;
    }
    u.fresh = u.location != NULL;
    q = upload_open(p, &u, e);
    for (unsigned i = 0; q >= 0; i++) {
        struct err now = {0};
        q = upload_once(p, &u, &now);
        if (q >= 0)
            break;
        if (!may_pass(q) || i + 1 == UPLOAD_TRIES || cancelled(p)) {
            if (e)
                *e = now;
            break;
        }
        q = 0;
        say(p, d->digest, "retrying", 0, d->size);
        uint64_t until = now_mono() + (SECOND / 2 << i);
        while (now_mono() < until && !cancelled(p))
            usleep(50000);
    }
    free(u.location);
    fd_close(u.fd);
    return q < 0 ? err_wrap(e, q, "%.19s", d->digest) : 0;
}

static void *blob_worker(void *arg) {
    struct push *p = arg;
    for (;;) {
        pthread_mutex_lock(&p->lock);
        size_t i = p->next;
        bool stop = p->failed || i >= p->n_blobs || cancelled(p);
        p->next += !stop;
        pthread_mutex_unlock(&p->lock);
        if (stop)
            return NULL;
        struct err e = {0};
        int q = push_blob(p, p->blobs[i], &e);
        if (q < 0) {
            pthread_mutex_lock(&p->lock);
            if (!p->failed) {
                p->failed = q;
                p->err = e;
            }
            pthread_mutex_unlock(&p->lock);
        }
    }
}

static void list_blobs(struct push *p) {
    p->blobs = ARENA_ARRAY(&p->a, const struct descriptor *, p->m.n + 1);
    for (size_t i = 0; i <= p->m.n; i++) {
        const struct descriptor *d = i < p->m.n ? &p->m.entries[i] : &p->m.config;
        bool twice = false;
        for (size_t k = 0; k < p->n_blobs; k++)
            twice = twice || streq(p->blobs[k]->digest, d->digest);
        if (!twice && !d->foreign)
            p->blobs[p->n_blobs++] = d;
    }
}

/* A repository of this registry that one of the layers was pulled from. */
static void find_mount(struct push *p) {
    for (size_t i = 0; i < p->n_blobs && !p->mount_from; i++) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        _cleanup_arena_ struct arena a = {0};
        struct json *j;
        if (rec_get(p->s, "blobfrom", p->blobs[i]->digest, &b) != 1 || json_parse(&a, buf_sv(&b), &j, NULL) < 0)
            continue;
        const char *path = json_get_str(j, "path", "");
        if (streq(json_get_str(j, "base", ""), remote_base(p->r)) && *path && !streq(path, remote_path(p->r)))
            p->mount_from = xstrdup(path);
    }
    if (p->mount_from)
        remote_mount_from(p->r, p->mount_from);
}

static int push_blobs(struct push *p, struct err *e) {
    pthread_t threads[MAX_WORKERS];
    size_t n = 0, want = MIN(p->o->parallel ? p->o->parallel : 4u, (unsigned)MAX_WORKERS);
    while (n + 1 < MIN(p->n_blobs, want) && pthread_create(&threads[n], NULL, blob_worker, p) == 0)
        n++;
    blob_worker(p);
    for (size_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    if (p->failed && e)
        *e = p->err;
    if (!p->failed && cancelled(p))
        return err_set(e, ERR_CANCELLED, -ECANCELED, "cancelled");
    return p->failed;
}

int push_text(struct remote *r, struct sv text, const char *media, const char *ref, const char *digest, bool *ret_knows_subject,
              struct err *e) {
    _cleanup_http_ struct http_resp resp = {0};
    _cleanup_free_ char *url = xasprintf("/v2/%s/manifests/%s", remote_path(r), ref);
    struct http_req rq = {.method = "PUT", .body = text, .headers = {{"Content-Type", media}}, .n_headers = 1};
    int q = remote_do(r, &rq, url, &resp, e);
    if (q < 0)
        return q;
    if (resp.status / 100 != 2)
        return remote_error(r, &resp, e, "manifest");
    const char *said = http_header(&resp, "docker-content-digest");
    if (said && digest_valid(sv_from(said)) && !streq(said, digest))
        return err_set(e, ERR_NET, -EBADMSG, "%s stored another manifest (%s) than was sent", remote_host(r), said);
    if (ret_knows_subject)
        *ret_knows_subject = http_header(&resp, "oci-subject") != NULL;
    return 0;
}

/* Is this very image there under its tag? Then so is all that it names. */
static bool there_already(struct push *p, const char *tag, const char *digest) {
    _cleanup_http_ struct http_resp resp = {0};
    _cleanup_free_ char *url = xasprintf("/v2/%s/manifests/%s", remote_path(p->r), tag);
    struct http_req rq = {.method = "HEAD", .headers = {{"Accept", p->m.media_type}}, .n_headers = 1};
    if (remote_do(p->r, &rq, url, &resp, NULL) < 0 || resp.status != 200)
        return false;
    const char *said = http_header(&resp, "docker-content-digest");
    return said && streq(said, digest);
}

static int push_manifest(struct push *p, struct sv text, const char *tag, const char *digest, struct err *e) {
    return push_text(p->r, text, p->m.media_type, tag, digest, NULL, e);
}

int push_blobs_of(const struct push_blobs *b, const struct manifest *m, uint64_t *ret_sent, struct err *e) {
    struct push p = {.s = b->s, .l = b->l, .r = b->to, .from = b->from, .o = b->o, .m = *m,
                     .mount_from = xstrdup(b->mount_from)};
    pthread_mutex_init(&p.lock, NULL);
    list_blobs(&p);
    int q = push_blobs(&p, e);
    pthread_mutex_destroy(&p.lock);
    free(p.mount_from);
    arena_done(&p.a);
    if (q == 0 && ret_sent)
        *ret_sent += p.sent;
    return q;
}

static int push_all(struct push *p, const struct image_ref *ref, struct sv text, const char *digest, struct err *e) {
    struct remote_options ro = {.conf = p->o->conf, .registry = ref->registry, .path = ref->path, .push = true, .cancel = p->o->cancel};
    int q = manifest_parse(&p->a, text, &p->m, e);
    if (q == 0)
        q = remote_new(&p->r, &ro, e);
    if (q < 0)
        return q;
    if (there_already(p, ref->tag, digest))
        return 0;
    list_blobs(p);
    find_mount(p);
    q = push_blobs(p, e);
    if (q == 0)
        q = push_manifest(p, text, ref->tag, digest, e);
    return q;
}

int image_push(struct store *s, struct lease *l, const char *id, const char *name, const struct push_options *o,
               char digest[DIGEST_LEN + 1], uint64_t *ret_sent, struct err *e) {
    struct image_ref ref;
    struct push p = {.s = s, .o = o};
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX);
    char found[DIGEST_LEN + 1];
    int q = ref_parse(name, &ref, e);
    if (q < 0)
        return q;
    if (ref.digest[0])
        return err_set(e, ERR_USER, -EINVAL, "push %s: an image is pushed by tag, not by digest", name);
    if (o->conf && o->conf->offline)
        return err_set(e, ERR_NET, -ENETDOWN, "push %s: there is no network (--offline)", name);
    q = image_export(s, l, id, o->zstd, o->progress, found, &text, NULL, e);
    if (q < 0)
        return err_wrap(e, q, "push %s", name);
    pthread_mutex_init(&p.lock, NULL);
    q = push_all(&p, &ref, buf_sv(&text), found, e);
    pthread_mutex_destroy(&p.lock);
    remote_free(p.r);
    free(p.mount_from);
    arena_done(&p.a);
    if (q < 0)
        return err_wrap(e, q, "push %s", name);
    memcpy(digest, found, sizeof found);
    if (ret_sent)
        *ret_sent = p.sent;
    return 0;
}

int registry_login(const char *auth_file, const char *registry, const char *user, const char *pass, bool verify,
                   const struct registry_conf *conf, struct err *e) {
    if (!user || !*user || !pass || !*pass)
        return err_set(e, ERR_USER, -EINVAL, "login %s: a user name and a password are needed", registry);
    if (verify) {
        struct remote *r;
        _cleanup_http_ struct http_resp resp = {0};
        struct remote_options ro = {.conf = conf, .registry = registry, .username = user, .password = pass};
        struct http_req rq = {.no_redirect = true};
        int q = remote_new(&r, &ro, e);
        if (q == 0) {
            q = remote_do(r, &rq, "/v2/", &resp, e);
            if (q == 0 && resp.status != 200) {
                q = remote_error(r, &resp, e, "login");
                if (e && e->kind == ERR_AUTH)
                    err_set(e, ERR_AUTH, q, "%s refused the user name or the password", registry);
            }
            remote_free(r);
        }
        if (q < 0)
            return err_wrap(e, q, "login %s", registry);
    }
    return credential_store(auth_file, registry, user, pass, e);
}

/* --- several platforms ---------------------------------------------------------------------- */

/* One image of the index: its blobs, and its manifest under its digest. */
static int push_part(const struct push *like, struct store *s, struct lease *l, const char *id, const struct image_ref *ref,
                     struct json_w *w, struct err *e) {
    struct push p = {.s = s, .o = like->o};
    struct image_ref by_digest = *ref;
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX);
    _cleanup_image_ struct image *img = NULL;
    char digest[DIGEST_LEN + 1];
    int q = image_export(s, l, id, p.o->zstd, p.o->progress, digest, &text, NULL, e);
    if (q >= 0 && image_find(s, l, id, &img, e) <= 0)
        q = err_set(e, ERR_NOTFOUND, -ENOENT, "no such image here: %s", id);
    if (q < 0)
        return q;
    snprintf(by_digest.tag, sizeof by_digest.tag, "%s", digest);
    pthread_mutex_init(&p.lock, NULL);
    q = push_all(&p, &by_digest, buf_sv(&text), digest, e);
    pthread_mutex_destroy(&p.lock);
    jw_obj(w);
    jw_kstr(w, "mediaType", p.m.media_type ? p.m.media_type : MEDIA_OCI_MANIFEST);
    jw_kstr(w, "digest", digest);
    jw_kint(w, "size", (int64_t)text.n);
    jw_key(w, "platform");
    jw_obj(w);
    jw_kstr(w, "architecture", img->config.architecture ? img->config.architecture : "unknown");
    jw_kstr(w, "os", img->config.os ? img->config.os : "linux");
    if (img->config.variant)
        jw_kstr(w, "variant", img->config.variant);
    jw_end_obj(w);
    jw_end_obj(w);
    remote_free(p.r);
    free(p.mount_from);
    arena_done(&p.a);
    return q < 0 ? q : 0;
}

int image_push_index(struct store *s, struct lease *l, const char *const *ids, size_t n, const char *name, const struct push_options *o,
                     char digest[DIGEST_LEN + 1], struct err *e) {
    struct image_ref ref;
    struct push p = {.s = s, .o = o};
    _cleanup_buf_ struct buf t = BUF_MAX(MANIFEST_MAX);
    struct json_w w;
    int q = ref_parse(name, &ref, e);
    if (q < 0)
        return q;
    if (ref.digest[0])
        return err_set(e, ERR_USER, -EINVAL, "push %s: an image is pushed by tag, not by digest", name);
    if (o->conf && o->conf->offline)
        return err_set(e, ERR_NET, -ENETDOWN, "push %s: there is no network (--offline)", name);
    jw_init(&w, &t, 0);
    jw_obj(&w);
    jw_kint(&w, "schemaVersion", 2);
    jw_kstr(&w, "mediaType", MEDIA_OCI_INDEX);
    jw_key(&w, "manifests");
    jw_arr(&w);
    for (size_t i = 0; i < n && q >= 0; i++)
        q = push_part(&p, s, l, ids[i], &ref, &w, e);
    jw_end_arr(&w);
    jw_end_obj(&w);
    if (q < 0)
        return q;
    char found[DIGEST_LEN + 1];
    digest_of(t.p, t.n, found);
    struct remote_options ro = {.conf = o->conf, .registry = ref.registry, .path = ref.path, .push = true, .cancel = o->cancel};
    q = manifest_parse(&p.a, buf_sv(&t), &p.m, e);
    if (q >= 0)
        q = remote_new(&p.r, &ro, e);
    if (q >= 0)
        q = push_manifest(&p, buf_sv(&t), ref.tag, found, e);
    remote_free(p.r);
    arena_done(&p.a);
    if (q < 0)
        return q;
    memcpy(digest, found, sizeof found);
    return 0;
}
