/* The registry's routes. A request is taken apart on the loop's thread (struct op), carried out by
 * a blocking function on a worker (the store may sync and hash), and answered back on the loop.
 * Bodies of manifests are collected; blobs go through upload sessions (registry_upload.c).
 * Source: OCI distribution-spec v1.1; error codes as in its table. */
#include "image/registry_internal.h"

#include <stdarg.h>
#include <strings.h>

/* --- answers ------------------------------------------------------------------------------- */

void op_error(struct op *op, int status, const char *code, const char *fmt, ...) {
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct json_w w;
    buf_reset(&op->out);
    jw_init(&w, &op->out, 0);
    jw_obj(&w);
    jw_key(&w, "errors");
    jw_arr(&w);
    jw_obj(&w);
    jw_kstr(&w, "code", code);
    jw_kstr(&w, "message", text);
    jw_end_obj(&w);
    jw_end_arr(&w);
    jw_end_obj(&w);
    op->status = status;
    op->out_type = "application/json";
}

void op_header(struct op *op, const char *name, const char *fmt, ...) {
    char value[1500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(value, sizeof value, fmt, ap);
    va_end(ap);
    strv_addf(&op->headers, "%s: %s", name, value);
}

static void op_free(struct op *op) {
    char *strings[] = {op->method, op->name, op->ref, op->repo, op->digest, op->mount, op->content_type, op->artifact_type, op->last};
    for (size_t i = 0; i < ELEMENTS(strings); i++)
        free(strings[i]);
    strv_done(&op->headers);
    buf_done(&op->body);
    buf_done(&op->out);
    fd_close(op->fd);
    free(op);
}

void op_answer(struct op *op) {
    struct httpd_req *rq = op->rq;
    if (rq) {
        httpd_on_abort(rq, NULL, NULL);
        httpd_add_header(rq, "Docker-Distribution-Api-Version", "registry/2.0");
        httpd_add_header(rq, "X-Content-Type-Options", "nosniff");
        for (size_t i = 0; i < op->headers.n; i++) {
            char *colon = strchr(op->headers.v[i], ':');
            *colon = 0;
            httpd_add_header(rq, op->headers.v[i], colon + 2);
        }
        int fd = op->fd;
        op->fd = -1;
        if (fd >= 0)
            httpd_reply_fd(rq, op->status, op->out_type, fd, op->fd_off, op->fd_size);
        else
            httpd_reply(rq, op->status, op->out_type, buf_sv(&op->out));
    }
    op->r->n_ops--;
    op_free(op);
}

static void op_work(void *arg) {
    struct op *op = arg;
    op->run(op);
}

static void op_done(struct loop *l, void *arg) { op_answer(arg); }

void op_start(struct op *op) { loop_work(op->r->l, op_work, op_done, op); }

static void on_abort(struct httpd_req *rq, void *arg) { ((struct op *)arg)->rq = NULL; }

static void store_error(struct op *op, int r, const struct err *e) {
    op_error(op, r == -ENOSPC ? 507 : 500, "UNKNOWN", "%s", e && e->msg[0] ? e->msg : strerror(-r));
}

/* --- manifests ----------------------------------------------------------------------------- */

static void get_manifest(struct op *op) {
    char digest[DIGEST_LEN + 1];
    _cleanup_free_ char *media = NULL;
    int r = rr_resolve(op->r->s, op->repo, op->ref, digest, &media);
    if (r == 1) {
        op->out.max = MANIFEST_MAX;
        struct err e = {0};
        r = blob_read(op->r->s, digest, &op->out, &e);
        if (r < 0) {
            store_error(op, r, &e);
            return;
        }
        op->status = 200;
        op->out_type = "";
        op_header(op, "Content-Type", "%s", media);
        op_header(op, "Docker-Content-Digest", "%s", digest);
        op_header(op, "ETag", "\"%s\"", digest);
        return;
    }
    op_error(op, 404, "MANIFEST_UNKNOWN", "no manifest %s in %s", op->ref, op->name);
}

static bool tag_ok(const char *t) {
    size_t n = strspn(t, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return n > 0 && n <= 128 && !t[n] && t[0] != '.' && t[0] != '-';
}

/* Everything that the manifest names must be here. */
static const char *missing_blob(struct op *op, const struct manifest *m) {
    if (m->kind == MANIFEST_INDEX)
        return NULL; /* may be sparse */
    for (size_t i = 0; i <= m->n; i++) {
        const char *d = i < m->n ? m->entries[i].digest : m->config.digest;
        lease_use(op->r->lease, d);
        if (!blob_has(op->r->s, d))
            return d;
    }
    return NULL;
}

static uint64_t total_size(const struct manifest *m, size_t own) {
    uint64_t n = own + (m->kind == MANIFEST_IMAGE ? m->config.size : 0);
    for (size_t i = 0; i < m->n; i++)
        n += MIN(m->entries[i].size, UINT64_MAX - n);
    return n;
}

static void put_manifest(struct op *op) {
    _cleanup_arena_ struct arena a = {0};
    struct manifest m;
    struct err e = {0};
    char digest[DIGEST_LEN + 1];
    bool by_digest = digest_valid(sv_from(op->ref));
    if (manifest_parse(&a, buf_sv(&op->body), &m, &e) < 0) {
        op_error(op, 400, "MANIFEST_INVALID", "%s", e.msg);
        return;
    }
    digest_of(op->body.p ? op->body.p : "", op->body.n, digest);
    if (by_digest && !streq(digest, op->ref)) {
        op_error(op, 400, "DIGEST_INVALID", "the manifest is %s", digest);
        return;
    }
    if (op->content_type && *op->content_type)
        m.media_type = op->content_type;
    const char *gone = missing_blob(op, &m);
    if (gone) {
        op_error(op, 404, "MANIFEST_BLOB_UNKNOWN", "%s is not here", gone);
        return;
    }
    lease_use(op->r->lease, digest);
    int r = blob_put(op->r->s, buf_sv(&op->body), NULL, &e);
    if (r == 0)
        r = rr_put(op->r->s, op->name, by_digest ? NULL : op->ref, digest, &m, op->body.n, total_size(&m, op->body.n), NULL, &e);
    if (r < 0) {
        store_error(op, r, &e);
        return;
    }
    op->status = 201;
    op_header(op, "Location", "/v2/%s/manifests/%s", op->name, digest);
    op_header(op, "Docker-Content-Digest", "%s", digest);
    if (m.has_subject)
        op_header(op, "OCI-Subject", "%s", m.subject.digest);
}

static void delete_manifest(struct op *op) {
    int r = rr_delete(op->r->s, op->repo, op->ref);
    if (r == 1)
        op->status = 202;
    else if (r == 0)
        op_error(op, 404, "MANIFEST_UNKNOWN", "no manifest %s in %s", op->ref, op->name);
    else
        store_error(op, r, NULL);
}

/* --- blobs --------------------------------------------------------------------------------- */

static void get_blob(struct op *op) {
    uint64_t size;
    lease_use(op->r->lease, op->ref);
    int fd = blob_open(op->r->s, op->ref, &size, NULL);
    if (fd < 0) {
        op_error(op, 404, "BLOB_UNKNOWN", "no blob %s", op->ref);
        return;
    }
    op_header(op, "Docker-Content-Digest", "%s", op->ref);
    op_header(op, "Accept-Ranges", "bytes");
    op->out_type = "application/octet-stream";
    op->status = 200;
    op->fd_size = size;
    if (op->has_range) {
        uint64_t to = MIN(op->range_to, size ? size - 1 : 0);
        if (op->range_from >= size || to < op->range_from) {
            close(fd);
            op_header(op, "Content-Range", "bytes */%llu", (unsigned long long)size);
            op_error(op, 416, "SIZE_INVALID", "the range is outside of the blob");
            return;
        }
        op->status = 206;
        op->fd_off = op->range_from;
        op->fd_size = to - op->range_from + 1;
        op_header(op, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)op->range_from, (unsigned long long)to,
                  (unsigned long long)size);
    }
    op->fd = fd;
}

/* --- lists --------------------------------------------------------------------------------- */

static void put_page(struct op *op, const char *key, const char *name, struct strv *items) {
    struct json_w w;
    size_t from = 0, n = items->n;
    if (op->last)
        while (from < n && strcmp(items->v[from], op->last) <= 0)
            from++;
    size_t count = op->has_limit ? (size_t)MIN(op->limit, (uint64_t)(n - from)) : n - from;
    jw_init(&w, &op->out, 0);
    jw_obj(&w);
    if (name)
        jw_kstr(&w, "name", name);
    jw_key(&w, key);
    jw_arr(&w);
    for (size_t i = from; i < from + count; i++)
        jw_str(&w, items->v[i]);
    jw_end_arr(&w);
    jw_end_obj(&w);
    if (count && from + count < n)
        op_header(op, "Link", "</v2/%s%s%s?n=%llu&last=%s>; rel=\"next\"", name ? name : "", name ? "/" : "",
                  name ? "tags/list" : "_catalog", (unsigned long long)op->limit, items->v[from + count - 1]);
    op->status = 200;
    op->out_type = "application/json";
}

static void list_tags(struct op *op) {
    _cleanup_strv_ struct strv tags = {0}, repos = {0};
    rr_tags(op->r->s, op->repo, &tags);
    if (!tags.n) {
        rr_repos(op->r->s, &repos);
        if (!strv_contains(&repos, op->repo)) {
            op_error(op, 404, "NAME_UNKNOWN", "no repository %s", op->name);
            return;
        }
    }
    put_page(op, "tags", op->name, &tags);
}

static void list_repos(struct op *op) {
    _cleanup_strv_ struct strv repos = {0};
    rr_repos(op->r->s, &repos);
    put_page(op, "repositories", NULL, &repos);
}

struct referrer_list {
    struct op *op;
    struct json_w w;
};

static void add_referrer(void *arg, const char *digest, const char *media, const char *type, uint64_t size) {
    struct referrer_list *x = arg;
    if (x->op->artifact_type && !streq(x->op->artifact_type, type))
        return;
    jw_obj(&x->w);
    jw_kstr(&x->w, "mediaType", media);
    jw_key(&x->w, "size");
    jw_uint(&x->w, size);
    jw_kstr(&x->w, "digest", digest);
    if (*type)
        jw_kstr(&x->w, "artifactType", type);
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX);
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    if (blob_read(x->op->r->s, digest, &text, NULL) == 0 && json_parse(&a, buf_sv(&text), &j, NULL) == 0 &&
        json_get(j, "annotations")) {
        jw_key(&x->w, "annotations");
        jw_json(&x->w, json_get(j, "annotations"));
    }
    jw_end_obj(&x->w);
}

static void list_referrers(struct op *op) {
    struct referrer_list x = {.op = op};
    op->out.max = MANIFEST_MAX;
    jw_init(&x.w, &op->out, 0);
    jw_obj(&x.w);
    jw_kint(&x.w, "schemaVersion", 2);
    jw_kstr(&x.w, "mediaType", MEDIA_OCI_INDEX);
    jw_key(&x.w, "manifests");
    jw_arr(&x.w);
    rr_referrers(op->r->s, op->repo, op->ref, add_referrer, &x);
    jw_end_arr(&x.w);
    jw_end_obj(&x.w);
    op->status = 200;
    op->out_type = MEDIA_OCI_INDEX;
    if (op->artifact_type)
        op_header(op, "OCI-Filters-Applied", "artifactType");
}

static void base_answer(struct op *op) {
    buf_adds(&op->out, "{}");
    op->out_type = "application/json";
    op->status = 200;
}

/* --- routing ------------------------------------------------------------------------------- */

static bool name_ok(const char *s) {
    size_t n = strlen(s);
    if (!n || n > 255 || strstr(s, "..") || strstr(s, "//") || s[0] == '/' || s[n - 1] == '/')
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789._-/:[]") == n;
}

/* "/v2/<name>/<word>/<rest>": cut at the last "/word/". */
static bool cut(struct op *op, const char *path, const char *word, enum route route) {
    const char *at = NULL;
    for (const char *p = path; (p = strstr(p, word)); p++)
        at = p;
    if (!at)
        return false;
    op->name = xstrndup(path, (size_t)(at - path));
    op->ref = xstrdup(at + strlen(word));
    op->route = route;
    return true;
}

static void find_route(struct op *op, const char *full) {
    const char *path = startswith(full, "/v2/");
    op->route = R_NONE;
    if (streq(full, "/v2") || streq(full, "/v2/")) {
        op->route = R_BASE;
        return;
    }
    if (!path)
        return;
    if (streq(path, "_catalog")) {
        op->route = R_CATALOG;
        return;
    }
    if (endswith(path, "/tags/list")) {
        op->name = xstrndup(path, strlen(path) - 10);
        op->route = R_TAGS;
    } else if (endswith(path, "/blobs/uploads/") || endswith(path, "/blobs/uploads")) {
        op->name = xstrndup(path, (size_t)(strstr(path, "/blobs/uploads") - path));
        op->route = R_UPLOAD_START;
    } else if (!cut(op, path, "/blobs/uploads/", R_UPLOAD) && !cut(op, path, "/blobs/", R_BLOB) &&
               !cut(op, path, "/manifests/", R_MANIFEST)) {
        cut(op, path, "/referrers/", R_REFERRERS);
    }
    if (op->ref && strchr(op->ref, '/'))
        op->route = R_NONE;
}

static bool authorized(const struct registry *r, const struct httpd_req *rq) {
    const char *h = httpd_header(rq, "authorization");
    if (!r->auth)
        return true;
    if (!h || strncasecmp(h, "Basic ", 6) != 0)
        return false;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    if (base64_decode(sv_trim(sv_from(h + 6)), &b) < 0)
        return false;
    /* The digests are compared, so that time tells nothing about the password. */
    uint8_t x[32], y[32];
    sha256_bytes(b.p ? b.p : "", b.n, x);
    sha256_bytes(r->auth, strlen(r->auth), y);
    uint8_t diff = 0;
    for (size_t i = 0; i < 32; i++)
        diff |= (uint8_t)(x[i] ^ y[i]);
    return diff == 0;
}

static char *query(struct httpd_req *rq, const char *key) { return xstrdup(httpd_query(rq, key)); }

static void read_range(struct op *op, const char *h) {
    const char *p = h ? startswith(h, "bytes=") : NULL;
    struct sv spec = p ? sv_from(p) : SV_NULL;
    ssize_t dash = p ? sv_chr(spec, '-') : -1;
    if (dash <= 0 || sv_chr(spec, ',') >= 0)
        return; /* anything else is ignored, as it may be: the whole is sent */
    struct sv to = sv_sub(spec, (size_t)dash + 1, spec.n);
    op->range_to = UINT64_MAX;
    op->has_range = sv_u64(sv_sub(spec, 0, (size_t)dash), INT64_MAX, &op->range_from) == 0 &&
                    (!to.n || sv_u64(to, INT64_MAX, &op->range_to) == 0);
}

static struct op *op_new(struct registry *r, struct httpd_req *rq) {
    struct op *op = xcalloc(1, sizeof *op);
    const char *n = httpd_query(rq, "n");
    op->r = r;
    op->rq = rq;
    op->fd = -1;
    op->out.max = 1u << 20;
    op->method = xstrdup(httpd_method(rq));
    op->digest = query(rq, "digest");
    op->mount = query(rq, "mount");
    op->last = query(rq, "last");
    op->artifact_type = query(rq, "artifactType");
    op->has_limit = n && sv_u64(sv_from(n), 1000000, &op->limit) == 0;
    const char *type = httpd_header(rq, "content-type");
    op->content_type = type ? xstrndup(type, strcspn(type, "; \t")) : NULL;
    read_range(op, httpd_header(rq, "range"));
    find_route(op, httpd_path(rq));
    httpd_on_abort(rq, on_abort, op);
    r->n_ops++;
    return op;
}

static void have_manifest(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct op *op = arg;
    if (!ok) {
        httpd_on_abort(rq, NULL, NULL);
        op->rq = NULL;
        op_answer(op);
        return;
    }
    op->body.max = MANIFEST_MAX;
    buf_addsv(&op->body, body);
    op_start(op);
}

static bool is(const struct op *op, const char *method) { return streq(op->method, method); }

static void dispatch(struct op *op) {
    bool read = is(op, "GET") || is(op, "HEAD");
    struct store *s = op->r->s;
    if (op->name && op->route != R_MANIFEST && op->route != R_UPLOAD && op->route != R_UPLOAD_START)
        op->repo = rr_repo(s, op->name);
    switch (op->route) {
    case R_BASE:
        op->run = read ? base_answer : NULL;
        break;
    case R_CATALOG:
        op->run = read ? list_repos : NULL;
        break;
    case R_TAGS:
        op->run = read ? list_tags : NULL;
        break;
    case R_REFERRERS:
        if (!digest_valid(sv_from(op->ref))) {
            op_error(op, 400, "DIGEST_INVALID", "not a digest");
            op_answer(op);
            return;
        }
        op->run = read ? list_referrers : NULL;
        break;
    case R_MANIFEST:
        if (!digest_valid(sv_from(op->ref)) && !tag_ok(op->ref)) {
            op_error(op, read ? 404 : 400, read ? "MANIFEST_UNKNOWN" : "TAG_INVALID", "not a tag or a digest");
            op_answer(op);
            return;
        }
        op->repo = is(op, "PUT") ? NULL : rr_repo(s, op->name);
        op->run = read ? get_manifest : is(op, "DELETE") ? delete_manifest : NULL;
        if (is(op, "PUT")) {
            op->run = put_manifest;
            httpd_collect(op->rq, MANIFEST_MAX, have_manifest, op);
            return;
        }
        break;
    case R_BLOB:
        if (!digest_valid(sv_from(op->ref))) {
            op_error(op, 400, "DIGEST_INVALID", "not a sha256 digest");
            op_answer(op);
            return;
        }
        op->run = read ? get_blob : NULL; /* blobs are the store's: not deleted from here */
        break;
    case R_UPLOAD_START:
        if (is(op, "POST")) {
            upload_begin(op);
            return;
        }
        break;
    case R_UPLOAD:
        upload_handle(op);
        return;
    case R_NONE:
        op_error(op, 404, "NAME_UNKNOWN", "no such page");
        op_answer(op);
        return;
    }
    if (op->run) {
        op_start(op);
        return;
    }
    op_error(op, 405, "UNSUPPORTED", "%s is not supported here", op->method);
    op_answer(op);
}

void registry_handle(struct httpd_req *rq, void *arg) {
    struct registry *r = arg;
    struct op *op = op_new(r, rq);
    if (!authorized(r, rq)) {
        op_header(op, "WWW-Authenticate", "Basic realm=\"slipway\"");
        op_error(op, 401, "UNAUTHORIZED", "authentication required");
        op_answer(op);
    } else if (op->name && !name_ok(op->name)) {
        bool read = is(op, "GET") || is(op, "HEAD");
        op_error(op, read ? 404 : 400, "NAME_INVALID", "not the name of a repository");
        op_answer(op);
    } else if (r->read_only && !is(op, "GET") && !is(op, "HEAD")) {
        op_error(op, 405, "UNSUPPORTED", "this registry is read-only");
        op_answer(op);
    } else {
        dispatch(op);
    }
}

int registry_new(struct registry **ret, struct store *s, struct loop *l, const struct registry_options *o, struct err *e) {
    struct registry *r = xcalloc(1, sizeof *r);
    r->s = s;
    r->l = l;
    r->read_only = o && o->read_only;
    if (o && o->basic_user)
        r->auth = xasprintf("%s:%s", o->basic_user, o->basic_pass ? o->basic_pass : "");
    int q = lease_new(s, "registry", &r->lease, e);
    if (q < 0) {
        free(r->auth);
        free(r);
        return q;
    }
    *ret = r;
    return 0;
}

/* The httpd that served it is gone by now; what still runs on workers is waited for. */
void registry_free(struct registry *r) {
    if (!r)
        return;
    while (r->n_ops)
        loop_once(r->l, 100);
    uploads_free(r);
    lease_free(r->lease);
    if (r->auth)
        explicit_bzero(r->auth, strlen(r->auth));
    free(r->auth);
    free(r);
}
