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
    char *strings[] = {op->method, op->name, op->ref, op->repo, op->digest, op->mount, op->content_type, op->artifact_type, op->last, op->from, op->credentials};
    for (size_t i = 0; i < ELEMENTS(strings); i++)
        free(strings[i]);
    strv_done(&op->headers);
    strv_done(&op->tags);
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
    if (op->name && !op->repo)
        op->repo = op->r->mirror ? reg_mirror_repo(op->r->mirror, op->name) : rr_repo(op->r->s, op->name);
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
    struct rr_found found;
    if (op->r->mirror && reg_mirror_manifest(op))
        return;
    int r = rr_resolve(op->r->s, op->repo, op->ref, &found);
    if (r == 1) {
        op->out.max = MANIFEST_MAX;
        struct err e = {0};
        r = blob_read(op->r->s, found.blob, &op->out, &e);
        if (r < 0) {
            store_error(op, r, &e);
        } else {
            op->status = 200;
            op->out_type = "";
            op_header(op, "Content-Type", "%s", found.media);
            op_header(op, "Docker-Content-Digest", "%s", found.digest);
            op_header(op, "ETag", "\"%s\"", found.digest);
        }
        free(found.media);
        return;
    }
    op_error(op, 404, "MANIFEST_UNKNOWN", "no manifest %s in %s", op->ref, op->name);
}

static bool tag_ok(const char *t) {
    size_t n = strspn(t, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return n > 0 && n <= 128 && !t[n] && t[0] != '.' && t[0] != '-';
}

static uint64_t total_size(const struct manifest *m, size_t own) {
    uint64_t n = own + (m->kind == MANIFEST_IMAGE ? m->config.size : 0);
    for (size_t i = 0; i < m->n; i++)
        n += MIN(m->entries[i].size, UINT64_MAX - n);
    return n;
}

/* What the manifest is called: by the digest it was sent under, else by its sha256. false: another one. */
static bool own_digest(struct op *op, char blob[DIGEST_LEN + 1], char digest[DIGEST_ANY_LEN + 1]) {
    const char *ref = digest_valid_any(sv_from(op->ref)) ? op->ref : op->digest;
    uint8_t raw[64];
    size_t n = 0;
    digest_of(op->body.p ? op->body.p : "", op->body.n, blob);
    snprintf(digest, DIGEST_ANY_LEN + 1, "%s", blob);
    if (!ref)
        return true;
    if (!digest_valid(sv_from(ref))) {
        (void)digest_any("sha512", op->body.p ? op->body.p : "", op->body.n, raw, &n);
        memcpy(digest, "sha512:", 8);
        for (size_t i = 0; i < n; i++)
            snprintf(digest + 7 + 2 * i, 3, "%02x", raw[i]);
    }
    return streq(digest, ref);
}

static void put_manifest(struct op *op) {
    _cleanup_arena_ struct arena a = {0};
    struct store *s = op->r->s;
    struct manifest m;
    struct err e = {0};
    char blob[DIGEST_LEN + 1], digest[DIGEST_ANY_LEN + 1];
    bool by_digest = digest_valid_any(sv_from(op->ref));
    if (manifest_parse_kept(&a, buf_sv(&op->body), &m, &e) < 0) {
        op_error(op, 400, "MANIFEST_INVALID", "%s", e.msg);
        return;
    }
    if (!own_digest(op, blob, digest)) {
        op_error(op, 400, "DIGEST_INVALID", "the manifest is %s", digest);
        return;
    }
    const char *sent = op->content_type;
    if (m.said_type && sent && (strstr(sent, "manifest") || strstr(sent, "index")) && !streq(m.said_type, sent)) {
        op_error(op, 400, "MANIFEST_INVALID", "sent as %s, it says that it is %s", sent, m.said_type);
        return;
    }
    if (!m.said_type && sent && *sent)
        m.media_type = sent;
    _cleanup_free_ char *from = rr_repo(s, op->name);
    const char *gone = rr_link_all(s, op->name, from, &m, &e);
    if (gone) {
        op_error(op, e.kind ? 500 : 404, "MANIFEST_BLOB_UNKNOWN", "%s is not here", gone);
        return;
    }
    int r = rr_link(s, op->name, digest, blob, &e); /* until its record is there */
    if (r == 0)
        r = blob_put(s, buf_sv(&op->body), NULL, &e);
    if (!by_digest)
        strv_add(&op->tags, op->ref);
    struct rr_put put = {.repo = op->name, .digest = digest, .blob = blob, .m = &m, .size = op->body.n,
                         .total = total_size(&m, op->body.n), .tags = (const char *const *)op->tags.v, .n_tags = op->tags.n};
    if (r == 0)
        r = rr_put(s, &put, &e);
    if (r < 0) {
        store_error(op, r, &e);
        return;
    }
    op->status = 201;
    op_header(op, "Location", "/v2/%s/manifests/%s", op->name, digest);
    op_header(op, "Docker-Content-Digest", "%s", digest);
    for (size_t i = by_digest ? 0 : op->tags.n; i < op->tags.n; i++)
        op_header(op, "OCI-Tag", "%s", op->tags.v[i]);
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
    uint64_t size = 0;
    char blob[DIGEST_LEN + 1];
    int fd = -ENOENT;
    if (op->r->mirror && reg_mirror_blob(op))
        return;
    if (rr_blob(op->r->s, op->repo, op->ref, blob) == 1)
        fd = blob_open(op->r->s, blob, &size, NULL); /* open, it outlives a collection */
    if (fd < 0) {
        op_error(op, 404, "BLOB_UNKNOWN", "no blob %s in %s", op->ref, op->name);
        return;
    }
    op_header(op, "Docker-Content-Digest", "%s", op->ref);
    op_header(op, "Accept-Ranges", "bytes");
    op_header(op, "ETag", "\"%s\"", op->ref);
    op->out_type = "application/octet-stream";
    op->status = 200;
    op->fd_size = size;
    if (op->range_last) { /* the last so many bytes */
        op->range_from = size - MIN(size, op->range_last);
        op->range_to = UINT64_MAX;
    }
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

static void delete_blob(struct op *op) {
    int r = rr_unlink(op->r->s, op->repo, op->ref);
    if (r == 1)
        op->status = 202;
    else if (r == 0)
        op_error(op, 404, "BLOB_UNKNOWN", "no blob %s in %s", op->ref, op->name);
    else
        store_error(op, r, NULL);
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
        if (!strv_contains(&repos, op->repo) && !rr_has_blobs(op->r->s, op->repo)) {
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

enum { REFERRERS_PAGE = 500 };
struct referrer_list {
    struct op *op;
    struct json_w w;
    struct strv seen;
    bool more;
};

static bool add_referrer(void *arg, const char *digest, const char *media, const char *type, uint64_t size) {
    struct referrer_list *x = arg;
    struct rr_found found;
    if (x->op->artifact_type && !streq(x->op->artifact_type, type))
        return true;
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX), notes = BUF_MAX(MANIFEST_MAX);
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    if (rr_resolve(x->op->r->s, x->op->repo, digest, &found) == 1) {
        if (blob_read(x->op->r->s, found.blob, &text, NULL) == 0 && json_parse(&a, buf_sv(&text), &j, NULL) == 0 &&
            json_get(j, "annotations")) {
            struct json_w w;
            jw_init(&w, &notes, 0);
            jw_json(&w, json_get(j, "annotations"));
        }
        free(found.media);
    }
    if (x->seen.n >= REFERRERS_PAGE || (x->seen.n && x->op->out.n + notes.n > MANIFEST_MAX - 4096)) {
        x->more = true;
        return false;
    }
    strv_add(&x->seen, digest);
    jw_obj(&x->w);
    jw_kstr(&x->w, "mediaType", media);
    jw_key(&x->w, "size");
    jw_uint(&x->w, size);
    jw_kstr(&x->w, "digest", digest);
    if (*type)
        jw_kstr(&x->w, "artifactType", type);
    if (notes.n) {
        jw_key(&x->w, "annotations");
        jw_raw(&x->w, buf_sv(&notes));
    }
    jw_end_obj(&x->w);
    return true;
}

/* What clients noted in an index under a tag made of the digest, when they found no referrers API
 * (distribution-spec, "Referrers Tag Schema"). */
static void add_tagged_referrers(struct referrer_list *x) {
    struct op *op = x->op;
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX);
    struct rr_found found;
    struct manifest m;
    char tag[129];
    snprintf(tag, sizeof tag, "%.6s-%.64s", op->ref, op->ref + 7);
    if (rr_resolve(op->r->s, op->repo, tag, &found) != 1)
        return;
    free(found.media);
    if (blob_read(op->r->s, found.blob, &text, NULL) < 0 || manifest_parse_kept(&a, buf_sv(&text), &m, NULL) < 0 ||
        m.kind != MANIFEST_INDEX)
        return;
    for (size_t i = 0; i < m.n; i++) {
        const struct descriptor *d = &m.entries[i];
        if (!strv_contains(&x->seen, d->digest) &&
            !add_referrer(x, d->digest, d->media_type, d->artifact_type ? d->artifact_type : "", d->size))
            return;
    }
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
    rr_referrers(op->r->s, op->repo, op->ref, op->last, add_referrer, &x);
    if (!x.more && !op->last)
        add_tagged_referrers(&x);
    jw_end_arr(&x.w);
    jw_end_obj(&x.w);
    op->status = 200;
    op->out_type = MEDIA_OCI_INDEX;
    if (x.more)
        op_header(op, "Link", "</v2/%s/referrers/%s?last=%s>; rel=\"next\"", op->name, op->ref, x.seen.v[x.seen.n - 1]);
    if (op->artifact_type)
        op_header(op, "OCI-Filters-Applied", "artifactType");
    strv_done(&x.seen);
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

static char *query(struct httpd_req *rq, const char *key) { return xstrdup(httpd_query(rq, key)); }

static void read_range(struct op *op, const char *h) {
    const char *p = h ? startswith(h, "bytes=") : NULL;
    struct sv spec = p ? sv_from(p) : SV_NULL;
    ssize_t dash = p ? sv_chr(spec, '-') : -1;
    if (dash < 0 || sv_chr(spec, ',') >= 0)
        return; /* anything else is ignored, as it may be: the whole is sent */
    struct sv to = sv_sub(spec, (size_t)dash + 1, spec.n);
    op->range_to = UINT64_MAX;
    if (dash == 0)
        op->has_range = sv_u64(to, INT64_MAX, &op->range_last) == 0 && op->range_last;
    else
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
    op->from = query(rq, "from");
    for (const char *tag; op->tags.n < TAGS_MAX && (tag = httpd_query_n(rq, "tag", op->tags.n));)
        strv_add(&op->tags, tag);
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

static void refuse(struct op *op, int status, const char *code, const char *text) {
    op_error(op, status, code, "%s", text);
    op_answer(op);
}

static bool tags_ok(const struct op *op) {
    for (size_t i = 0; i < op->tags.n; i++)
        if (!tag_ok(op->tags.v[i]))
            return false;
    return true;
}

/* As route(). */
static bool handle_manifest(struct op *op, bool read) {
    const char *length = httpd_header(op->rq, "content-length");
    uint64_t n;
    if (!digest_valid_any(sv_from(op->ref)) && !tag_ok(op->ref)) {
        refuse(op, read ? 404 : 400, read ? "MANIFEST_UNKNOWN" : "TAG_INVALID", "not a tag or a digest");
    } else if (!is(op, "PUT")) {
        op->run = read ? get_manifest : is(op, "DELETE") ? delete_manifest : NULL;
        return false;
    } else if ((op->content_type && strlen(op->content_type) > 255) || !tags_ok(op)) {
        refuse(op, 400, "MANIFEST_INVALID", "the content's type or a tag is not valid");
    } else if (length && (sv_u64(sv_from(length), UINT64_MAX, &n) < 0 || n > MANIFEST_MAX)) {
        refuse(op, 413, "SIZE_INVALID", "a manifest may have 4 MiB");
    } else {
        op->run = put_manifest;
        httpd_collect(op->rq, MANIFEST_MAX, have_manifest, op);
    }
    return true;
}

/* Sets op->run (NULL: not supported); or true: the request is answered some other way, op may be gone. */
static bool route(struct op *op, bool read) {
    switch (op->route) {
    case R_BASE:
        op->run = read ? base_answer : NULL;
        return false;
    case R_CATALOG:
        op->run = read ? list_repos : NULL;
        return false;
    case R_TAGS:
        op->run = read ? list_tags : NULL;
        return false;
    case R_REFERRERS:
        if (!digest_valid_any(sv_from(op->ref))) {
            refuse(op, 400, "DIGEST_INVALID", "not a digest");
            return true;
        }
        op->run = read ? list_referrers : NULL;
        return false;
    case R_MANIFEST:
        return handle_manifest(op, read);
    case R_BLOB:
        if (!digest_valid_any(sv_from(op->ref))) {
            refuse(op, 400, "DIGEST_INVALID", "not a sha256 or sha512 digest");
            return true;
        }
        op->run = read ? get_blob : is(op, "DELETE") ? delete_blob : NULL;
        return false;
    case R_UPLOAD_START:
        if (!is(op, "POST"))
            return false;
        upload_begin(op);
        return true;
    case R_UPLOAD:
        upload_handle(op);
        return true;
    case R_NONE:
        break;
    }
    refuse(op, 404, "NAME_UNKNOWN", "no such page");
    return true;
}

static void admitted(struct op *op) {
    bool read = is(op, "GET") || is(op, "HEAD");
    if (op->name && !name_ok(op->name)) {
        refuse(op, read ? 404 : 400, "NAME_INVALID", "not the name of a repository");
    } else if ((op->r->read_only || op->r->mirror) && !read) {
        refuse(op, 405, "UNSUPPORTED", op->r->mirror ? "this registry mirrors another one and takes no changes" : "this registry is read-only");
    } else if (!route(op, read)) {
        if (op->run)
            op_start(op);
        else
            refuse(op, 405, "UNSUPPORTED", "the method is not supported here");
    }
}

static void denied(struct op *op) {
    op_header(op, "WWW-Authenticate", "Basic realm=\"slipway\", charset=\"UTF-8\"");
    refuse(op, 401, "UNAUTHORIZED", "authentication required");
}

static void auth_work(void *arg) {
    struct op *op = arg;
    op->admitted = reg_auth_check(op->r->auth, op->credentials);
}

static void auth_done(struct loop *l, void *arg) {
    struct op *op = arg;
    explicit_bzero(op->credentials, strlen(op->credentials));
    if (!op->rq)
        op_answer(op); /* the client did not wait */
    else if (op->admitted)
        admitted(op);
    else
        denied(op);
}

void registry_handle(struct httpd_req *rq, void *arg) {
    struct registry *r = arg;
    struct op *op = op_new(r, rq);
    const char *h = httpd_header(rq, "authorization");
    bool read = is(op, "GET") || is(op, "HEAD");
    int known = !r->auth || (!h && r->anonymous_pull && read && op->route != R_BASE) ? 1 : reg_auth_known(r->auth, h);
    if (known == -EAGAIN) {
        op->credentials = xstrdup(h);
        loop_work(r->l, auth_work, auth_done, op);
    } else if (known == 1) {
        admitted(op);
    } else {
        denied(op);
    }
}

int registry_new(struct registry **ret, struct store *s, struct loop *l, const struct registry_options *o, struct err *e) {
    struct registry *r = xcalloc(1, sizeof *r);
    int q = 0;
    r->s = s;
    r->l = l;
    r->max_blob = o && o->max_blob ? o->max_blob : BLOB_MAX;
    if (o) {
        r->read_only = o->read_only;
        r->anonymous_pull = o->anonymous_pull;
        if (o->basic_user || o->htpasswd)
            q = reg_auth_new(&r->auth, o, e);
        if (q == 0 && o->mirror_of)
            q = reg_mirror_new(&r->mirror, o->mirror_of, o->conf, e);
    }
    if (q < 0) {
        registry_free(r);
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
    reg_mirror_free(r->mirror);
    reg_auth_free(r->auth);
    free(r);
}
