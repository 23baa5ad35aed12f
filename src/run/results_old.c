/* The older interface of caches (v1): reserve, ranges of bytes, commit, look-up.
 * Source: github.com/actions/toolkit, packages/cache/src/internal/cacheHttpClient.ts. */
#include "run/results_internal.h"

#include "store/acache.h"

#define CACHES "/_apis/artifactcache/caches"

void results_old_query(struct call *c) {
    static const char *const names[] = {"keys", "version", "artifactName", "itemPath"};
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        const char *v = httpd_query(c->rq, names[i]);
        c->q[i] = v ? arena_strdup(&c->a, v) : NULL;
    }
}

/* "bytes A-B/…" */
bool results_content_range(struct httpd_req *rq, uint64_t *from, uint64_t *n) {
    const char *p = httpd_header(rq, "content-range");
    uint64_t a, b;
    p = p ? startswith(p, "bytes ") : NULL;
    const char *dash = p ? strchr(p, '-') : NULL, *slash = dash ? strchr(dash, '/') : NULL;
    if (!slash || sv_u64(sv_n(p, (size_t)(dash - p)), INT64_MAX, &a) < 0 || sv_u64(sv_n(dash + 1, (size_t)(slash - dash - 1)), INT64_MAX - 1, &b) < 0 || b < a)
        return false;
    *from = a;
    *n = b - a + 1;
    return true;
}

bool results_old_bytes(struct results *s, struct httpd_req *rq) {
    const char *rest = startswith(httpd_path(rq), CACHES "/");
    uint64_t no, at, n, len;
    if (!rest || !streq(httpd_method(rq), "PATCH"))
        return results_v3_bytes(s, rq);
    const char *length = httpd_header(rq, "content-length");
    struct upload *u = NULL;
    if (sv_u64(sv_from(rest), UINT64_MAX, &no) >= 0) {
        pthread_mutex_lock(&s->mu);
        u = upload_by_no(s, no);
        pthread_mutex_unlock(&s->mu);
    }
    if (!u || u->kind != UP_CACHE)
        httpd_reply(rq, 404, "application/json", SV("{\"message\":\"no cache with this number is being written\"}"));
    else if (!results_content_range(rq, &at, &n) || (length && (sv_u64(sv_from(length), INT64_MAX, &len) < 0 || len != n)))
        httpd_reply(rq, 400, "application/json", SV("{\"message\":\"Content-Range does not fit the body\"}"));
    else
        upload_pour(s, rq, u, NULL, at, n, false, 204);
    return true;
}

static void reserve(struct call *c) {
    struct results *s = c->s;
    const char *key = json_get_str(c->j, "key", ""), *version = json_get_str(c->j, "version", "");
    struct json_w w;
    if (!acache_key_ok(sv_from(key)) || !*version || strlen(version) > 512)
        call_fail(c, 400, "invalid_argument", "a cache needs a key of at most 512 characters, without commas, and a version");
    else if (json_get_int(c->j, "cacheSize", 0) > (int64_t)s->o.blob_max)
        call_fail(c, 400, "invalid_argument", "Cache size of %lld bytes is over the limit", (long long)json_get_int(c->j, "cacheSize", 0));
    else if (!s->ref)
        call_fail(c, 403, "permission_denied", "cache write denied: this event may only read caches");
    else {
        pthread_mutex_lock(&s->mu);
        bool busy = upload_find(s, UP_CACHE, key, version) != NULL;
        pthread_mutex_unlock(&s->mu);
        if (busy || acache_has(s->o.store, &(struct acache_name){s->repo, s->ref, version, key})) {
            call_fail(c, 409, "already_exists", "Cache already exists. Scope: %s, Key: %s, Version: %s", s->ref, key, version);
            return;
        }
        struct upload *u = upload_new(c, UP_CACHE, key, version);
        if (!u)
            return;
        c->status = 201;
        jw_init(&w, &c->out, 0);
        jw_obj(&w);
        jw_kint(&w, "cacheId", (int64_t)u->no);
        jw_end_obj(&w);
    }
}

static void commit(struct call *c, uint64_t no) {
    struct results *s = c->s;
    int64_t size = json_get_int(c->j, "size", -1);
    struct err e = {0};
    pthread_mutex_lock(&s->mu);
    struct upload *u = upload_by_no(s, no);
    int r = !u || u->kind != UP_CACHE ? -ENOENT : size < 0 ? -EINVAL : upload_commit_ranges(s, u, (uint64_t)size);
    if (r >= 0)
        r = upload_finish(u, (uint64_t)size);
    pthread_mutex_unlock(&s->mu);
    if (r < 0) {
        call_fail(c, r == -ENOENT ? 404 : r == -EBUSY ? 409 : 400, "invalid_argument", "%s",
                  r == -ENOENT ? "no cache with this number is being written" : r == -EBUSY ? "it is still being written" : "the bytes are not all there");
        return;
    }
    r = acache_put(s->o.store, &(struct acache_name){s->repo, s->ref, u->version, u->name}, s->o.scratch, u->tmp, s->o.cache_max, NULL, &e);
    pthread_mutex_lock(&s->mu);
    upload_forget(s, u);
    pthread_mutex_unlock(&s->mu);
    c->status = 204;
    if (r < 0)
        call_fail(c, r == -EEXIST ? 409 : 500, "internal", "%s", e.msg);
}

static void look_up(struct call *c) {
    struct results *s = c->s;
    const char *keys[10], *refs[4], *version = c->q[1] ? c->q[1] : "";
    struct sv rest = sv_from(c->q[0]), one;
    struct acache_entry en;
    struct json_w w;
    size_t n = 0;
    char when[32];
    while (sv_split(&rest, ',', &one)) {
        if (n == ELEMENTS(keys) || !acache_key_ok(one)) {
            call_fail(c, 400, "invalid_argument", "there are 1 to 10 keys of 1 to 512 characters");
            return;
        }
        keys[n++] = arena_strndup(&c->a, one.p, one.n);
    }
    int r = n ? acache_find(s->o.store, s->repo, refs, results_scopes(s, refs), keys, n, version, &c->a, &en) : 0;
    _cleanup_close_ int fd = r == 1 ? acache_open(s->o.store, &en, NULL) : -1;
    if (fd < 0) {
        c->status = 204;
        return;
    }
    _cleanup_buf_ struct buf url = BUF_SMALL;
    char id[24];
    snprintf(id, sizeof id, "%llu", (unsigned long long)en.id);
    signed_url(s, &url, "cache", id, "r");
    format_time((uint64_t)en.created_ns, when);
    jw_init(&w, &c->out, 0);
    jw_obj(&w);
    jw_kstr(&w, "archiveLocation", buf_str(&url));
    jw_kstr(&w, "cacheKey", en.name.key);
    jw_kstr(&w, "cacheVersion", en.name.version);
    jw_kstr(&w, "scope", en.name.ref);
    jw_kstr(&w, "creationTime", when);
    jw_end_obj(&w);
}

void results_old(struct call *c) {
    const char *rest = startswith(c->path, CACHES);
    uint64_t no;
    if (streq(c->path, "/_apis/artifactcache/cache") && streq(c->method, "GET"))
        look_up(c);
    else if (rest && !*rest && streq(c->method, "POST"))
        reserve(c);
    else if (rest && *rest == '/' && streq(c->method, "POST") && sv_u64(sv_from(rest + 1), UINT64_MAX, &no) >= 0)
        commit(c, no);
    else if (!results_v3(c))
        call_fail(c, 404, "not_found", "there is no %s %s here", c->method, c->path);
}
