/* The twirp methods: artifacts v4 and cache v2. Requests come with the names of the protocol files
 * (workflow_run_backend_id), or, from older clients, in lower camel case; answers are given in the
 * former, which every client reads. 64-bit numbers are strings, as protobuf's JSON has them. */
#include "run/results_internal.h"

#include "base/digest.h"
#include "store/acache.h"
#include "store/artifact.h"

#include <time.h>

static const struct json *field(struct call *c, const char *snake) {
    char camel[64];
    size_t n = 0;
    const struct json *j = json_get(c->j, snake);
    if (j)
        return j;
    for (const char *p = snake; *p && n + 1 < sizeof camel; p++) {
        if (*p == '_' && p[1] >= 'a' && p[1] <= 'z')
            camel[n++] = (char)(*++p - 32);
        else
            camel[n++] = *p;
    }
    camel[n] = 0;
    return json_get(c->j, camel);
}
static const char *text(struct call *c, const char *name) { return json_str(field(c, name), ""); }
/* A wrapped value is itself in protobuf's JSON. */
static uint64_t number(struct call *c, const char *name, uint64_t dflt) {
    const struct json *j = field(c, name);
    uint64_t v;
    if (!j)
        return dflt;
    return sv_u64(j->kind == JSON_NUMBER ? j->text : json_sv(j), INT64_MAX, &v) < 0 ? dflt : v;
}

static void begin(struct call *c, struct json_w *w, bool ok) {
    jw_init(w, &c->out, 0);
    jw_obj(w);
    jw_kbool(w, "ok", ok);
}
static void num_str(struct json_w *w, const char *key, uint64_t v) {
    char t[24];
    snprintf(t, sizeof t, "%llu", (unsigned long long)v);
    jw_kstr(w, key, t);
}

/* --- artifacts ------------------------------------------------------------------------------------- */

/* Requests are about this run; another run's artifacts are not to be had with this token. */
static bool own_run(struct call *c) {
    const char *run = text(c, "workflow_run_backend_id");
    if (streq(run, c->s->run_backend))
        return true;
    call_fail(c, *run ? 403 : 400, *run ? "permission_denied" : "invalid_argument", "workflow_run_backend_id is not this run's");
    return false;
}

static int64_t parse_time(const char *t) {
    struct tm tm = {0};
    const char *end = strptime(t, "%Y-%m-%dT%H:%M:%S", &tm);
    return end ? (int64_t)timegm(&tm) : 0;
}

static void create_artifact(struct call *c) {
    const char *name = text(c, "name");
    _cleanup_buf_ struct buf url = BUF_SMALL;
    struct json_w w;
    if (!own_run(c))
        return;
    if (!artifact_name_ok(sv_from(name))) {
        call_fail(c, 400, "invalid_argument", "the artifact name is not valid: %s", name);
        return;
    }
    if (artifact_find(c->s->o.store, c->s->run_id, name, &c->a, NULL) == 1) {
        call_fail(c, 409, "already_exists", "an artifact with this name already exists on the workflow run");
        return;
    }
    struct upload *u = upload_new(c, UP_ARTIFACT, name, NULL);
    if (!u)
        return;
    int64_t now = time(NULL), most = now + 400 * 86400, until = parse_time(text(c, "expires_at"));
    const char *mime = text(c, "mime_type");
    u->expires = until > now ? MIN(until, most) : now + c->s->o.retention_days * 86400;
    u->mime = xstrdup(*mime && strlen(mime) < 100 ? mime : "application/zip");
    signed_url(c->s, &url, "up", u->tmp, "w");
    begin(c, &w, true);
    jw_kstr(&w, "signed_upload_url", buf_str(&url));
    jw_end_obj(&w);
}

static int take(struct call *c, enum upload_kind kind, const char *name, const char *version, uint64_t size, struct upload **ret) {
    pthread_mutex_lock(&c->s->mu);
    struct upload *u = upload_find(c->s, kind, name, version);
    int r = u ? upload_finish(u, size) : -ENOENT;
    pthread_mutex_unlock(&c->s->mu);
    if (r == -ENOENT)
        call_fail(c, 404, "not_found", "there is no such upload");
    else if (r == -EBUSY)
        call_fail(c, 409, "failed_precondition", "the upload is still being written");
    else if (r < 0) {
        pthread_mutex_lock(&c->s->mu);
        upload_forget(c->s, u);
        pthread_mutex_unlock(&c->s->mu);
        call_fail(c, 400, "invalid_argument", r == -EINVAL ? "the size is not that of the uploaded bytes" : "nothing was uploaded");
    }
    *ret = u;
    return r;
}

static void forget(struct call *c, struct upload *u) {
    pthread_mutex_lock(&c->s->mu);
    upload_forget(c->s, u);
    pthread_mutex_unlock(&c->s->mu);
}

static void finalize_artifact(struct call *c) {
    const char *name = text(c, "name"), *hash = text(c, "hash");
    char digest[DIGEST_LEN + 1];
    struct upload *u;
    struct json_w w;
    struct err e = {0};
    uint64_t size = 0;
    if (!own_run(c) || take(c, UP_ARTIFACT, name, NULL, number(c, "size", UINT64_MAX), &u) < 0)
        return;
    int r = lseek(u->fd, 0, SEEK_SET) < 0 ? -errno : digest_of_fd(u->fd, digest, &size);
    if (r < 0 || size != u->size)
        call_fail(c, 500, "internal", "the uploaded bytes cannot be read");
    else if (*hash && !streq(hash, digest))
        call_fail(c, 400, "invalid_argument", "the bytes are %s, the client's were %s", digest, hash);
    else {
        struct artifact a = {.name = u->name, .mime = u->mime, .digest = digest, .repo = c->s->repo, .size = u->size, .expires = u->expires};
        r = artifact_put(c->s->o.store, c->s->run_id, &a, c->s->o.scratch, u->tmp, false, &e);
        if (r < 0)
            call_fail(c, r == -EEXIST ? 409 : 500, r == -EEXIST ? "already_exists" : "internal", "%s", e.msg);
        else {
            begin(c, &w, true);
            num_str(&w, "artifact_id", a.id);
            jw_end_obj(&w);
        }
    }
    forget(c, u);
}

struct listing {
    struct call *c;
    struct json_w w;
    const char *name;
    uint64_t id;
};
static int list_one(const struct artifact *a, void *arg) {
    struct listing *l = arg;
    char when[32];
    if ((l->name && !streq(l->name, a->name)) || (l->id && l->id != a->id))
        return 0;
    jw_obj(&l->w);
    jw_kstr(&l->w, "workflow_run_backend_id", l->c->s->run_backend);
    jw_kstr(&l->w, "workflow_job_run_backend_id", l->c->s->job_backend);
    num_str(&l->w, "database_id", a->id);
    jw_kstr(&l->w, "name", a->name);
    num_str(&l->w, "size", a->size);
    format_time((uint64_t)a->created * 1000000000u, when);
    jw_kstr(&l->w, "created_at", when);
    jw_kstr(&l->w, "digest", a->digest);
    jw_end_obj(&l->w);
    return 0;
}

static void list_artifacts(struct call *c) {
    if (!own_run(c))
        return;
    const char *name = text(c, "name_filter");
    struct listing l = {.c = c, .name = *name ? name : NULL, .id = number(c, "id_filter", 0)};
    jw_init(&l.w, &c->out, 0);
    jw_obj(&l.w);
    jw_key(&l.w, "artifacts");
    jw_arr(&l.w);
    int r = artifact_each(c->s->o.store, c->s->run_id, list_one, &l);
    jw_end_arr(&l.w);
    jw_end_obj(&l.w);
    if (r < 0)
        call_fail(c, 500, "internal", "the run's artifacts: %s", strerror(-r));
}

static void artifact_url(struct call *c) {
    const char *name = text(c, "name");
    _cleanup_buf_ struct buf url = BUF_SMALL;
    struct artifact a;
    struct json_w w;
    char id[32];
    if (!own_run(c))
        return;
    if (artifact_find(c->s->o.store, c->s->run_id, name, &c->a, &a) != 1) {
        call_fail(c, 404, "not_found", "artifact not found: %s", name);
        return;
    }
    bool zip = streq(a.mime, "application/zip");
    snprintf(id, sizeof id, "%llu%s", (unsigned long long)a.id, zip ? ".zip" : "");
    signed_url(c->s, &url, "artifact", id, "r");
    buf_adds(&url, "&rsct=");
    buf_add_urlencoded(&url, sv_from(a.mime));
    buf_adds(&url, "&rscd=attachment%3B%20filename%3D%22");
    buf_add_urlencoded(&url, sv_from(name));
    buf_adds(&url, zip ? ".zip%22" : "%22");
    jw_init(&w, &c->out, 0);
    jw_obj(&w);
    jw_kstr(&w, "signed_url", buf_str(&url));
    jw_end_obj(&w);
}

static void delete_artifact(struct call *c) {
    uint64_t id;
    struct json_w w;
    if (!own_run(c))
        return;
    if (artifact_remove(c->s->o.store, c->s->run_id, text(c, "name"), &id) < 0) {
        call_fail(c, 404, "not_found", "artifact not found: %s", text(c, "name"));
        return;
    }
    begin(c, &w, true);
    num_str(&w, "artifact_id", id);
    jw_end_obj(&w);
}

/* --- caches ---------------------------------------------------------------------------------------- */

static void create_entry(struct call *c) {
    struct results *s = c->s;
    const char *key = text(c, "key"), *version = text(c, "version");
    _cleanup_buf_ struct buf url = BUF_SMALL;
    struct json_w w;
    if (!acache_key_ok(sv_from(key)) || !*version || strlen(version) > 512) {
        call_fail(c, 400, "invalid_argument", "a cache needs a key of at most 512 characters, without commas, and a version");
        return;
    }
    if (!s->ref) {
        call_fail(c, 403, "permission_denied", "cache write denied: this event may only read caches");
        return;
    }
    pthread_mutex_lock(&s->mu);
    bool busy = upload_find(s, UP_CACHE, key, version) != NULL;
    pthread_mutex_unlock(&s->mu);
    if (busy || acache_has(s->o.store, &(struct acache_name){s->repo, s->ref, version, key})) {
        call_fail(c, 409, "already_exists", "cache entry with the same key, version, and scope already exists");
        return;
    }
    struct upload *u = upload_new(c, UP_CACHE, key, version);
    if (!u)
        return;
    signed_url(s, &url, "up", u->tmp, "w");
    begin(c, &w, true);
    jw_kstr(&w, "signed_upload_url", buf_str(&url));
    jw_end_obj(&w);
}

static void finalize_entry(struct call *c) {
    struct results *s = c->s;
    struct upload *u;
    struct json_w w;
    struct err e = {0};
    uint64_t id;
    if (take(c, UP_CACHE, text(c, "key"), text(c, "version"), number(c, "size_bytes", UINT64_MAX), &u) < 0)
        return;
    int r = acache_put(s->o.store, &(struct acache_name){s->repo, s->ref, u->version, u->name}, s->o.scratch, u->tmp, s->o.cache_max, &id, &e);
    if (r < 0)
        call_fail(c, r == -EEXIST ? 409 : 500, r == -EEXIST ? "already_exists" : "internal", "%s", e.msg);
    else {
        begin(c, &w, true);
        num_str(&w, "entry_id", id);
        jw_end_obj(&w);
    }
    forget(c, u);
}

size_t results_scopes(const struct results *s, const char *refs[4]) {
    size_t n = 0;
    if (s->ref)
        refs[n++] = s->ref;
    for (size_t i = 0; i < 3 && s->read_refs[i]; i++)
        refs[n++] = s->read_refs[i];
    return n;
}

static void entry_url(struct call *c) {
    struct results *s = c->s;
    const struct json *more = field(c, "restore_keys");
    const char *keys[11], *refs[4], *version = text(c, "version");
    size_t n = 0;
    struct acache_entry en;
    struct json_w w;
    keys[n++] = text(c, "key");
    for (size_t i = 0; more && more->kind == JSON_ARRAY && i < more->n && n < ELEMENTS(keys); i++)
        keys[n++] = json_str(more->items[i], "");
    if (n > 10) {
        call_fail(c, 400, "invalid_argument", "keys are limited to a maximum of 10");
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (!acache_key_ok(sv_from(keys[i]))) {
            call_fail(c, 400, "invalid_argument", "a key has 1 to 512 characters, without commas");
            return;
        }
    int r = acache_find(s->o.store, s->repo, refs, results_scopes(s, refs), keys, n, version, &c->a, &en);
    _cleanup_close_ int fd = r == 1 ? acache_open(s->o.store, &en, NULL) : -1;
    if (r < 0) {
        call_fail(c, 500, "internal", "the caches: %s", strerror(-r));
        return;
    }
    begin(c, &w, fd >= 0);
    if (fd >= 0) {
        _cleanup_buf_ struct buf url = BUF_SMALL;
        char id[24];
        snprintf(id, sizeof id, "%llu", (unsigned long long)en.id);
        signed_url(s, &url, "cache", id, "r");
        jw_kstr(&w, "signed_download_url", buf_str(&url));
        jw_kstr(&w, "matched_key", en.name.key);
    }
    jw_end_obj(&w);
}

/* --- routes ---------------------------------------------------------------------------------------- */

void results_twirp(struct call *c) {
    static const struct { const char *name; void (*fn)(struct call *c); } methods[] = {
        {"ArtifactService/CreateArtifact", create_artifact},
        {"ArtifactService/FinalizeArtifact", finalize_artifact},
        {"ArtifactService/ListArtifacts", list_artifacts},
        {"ArtifactService/GetSignedArtifactURL", artifact_url},
        {"ArtifactService/DeleteArtifact", delete_artifact},
        {"CacheService/CreateCacheEntry", create_entry},
        {"CacheService/FinalizeCacheEntryUpload", finalize_entry},
        {"CacheService/GetCacheEntryDownloadURL", entry_url},
    };
    const char *name = startswith(c->path, "/twirp/github.actions.results.api.v1.");
    for (size_t i = 0; name && i < ELEMENTS(methods); i++) {
        if (!streq(name, methods[i].name))
            continue;
        if (!c->j)
            call_fail(c, 400, "malformed", "the body is not a JSON object");
        else
            methods[i].fn(c);
        return;
    }
    call_fail(c, 404, "bad_route", "no handler for path %s", c->path);
}
