/* Artifacts as clients of version 1 to 3 send them: one file after another into a container, in ranges,
 * perhaps packed with gzip; when the client says that the artifact is complete they become a zip like all
 * others (what was there under the name before stays in it). Downloads list the zip's entries and fetch
 * them one by one. Source: github.com/actions/toolkit, packages/artifact v1 src/internal. */
#include "run/results_internal.h"

#include "base/compress.h"
#include "base/zip.h"
#include "core/fs.h"
#include "core/map.h"
#include "store/artifact.h"

#include <time.h>

#define CONTAINERS "/_apis/resources/Containers/"

/* --- files that come -------------------------------------------------------------------------------------- */

bool results_v3_bytes(struct results *s, struct httpd_req *rq) {
    const char *item = httpd_query(rq, "itemPath"), *enc = httpd_header(rq, "content-encoding");
    uint64_t at, n;
    if (!startswith(httpd_path(rq), CONTAINERS) || !streq(httpd_method(rq), "PUT"))
        return false;
    _cleanup_free_ char *path = xstrdup(item ? item : "");
    for (char *p = path; *p; p++)
        if (*p == '\\')
            *p = '/';
    char *slash = strchr(path, '/');
    if (!slash || !zip_name_ok(path) || !artifact_name_ok(sv_n(path, (size_t)(slash - path))) || !slash[1]) {
        httpd_reply(rq, 400, "application/json", SV("{\"message\":\"itemPath is not a file of an artifact\"}"));
        return true;
    }
    if (!results_content_range(rq, &at, &n)) {
        httpd_reply(rq, 400, "application/json", SV("{\"message\":\"Content-Range is missing\"}"));
        return true;
    }
    _cleanup_free_ char *name = xstrndup(path, (size_t)(slash - path));
    pthread_mutex_lock(&s->mu);
    struct upload *u = upload_find(s, UP_FILE, path, name);
    pthread_mutex_unlock(&s->mu);
    if (!u)
        u = upload_make(s, UP_FILE, path, name);
    if (!u)
        httpd_reply(rq, 429, "application/json", SV("{\"message\":\"too many files\"}"));
    else {
        pthread_mutex_lock(&s->mu);
        u->gzip |= enc && streq(enc, "gzip");
        pthread_mutex_unlock(&s->mu);
        upload_pour(s, rq, u, NULL, at, n, false, 200);
    }
    return true;
}

/* --- becoming a zip --------------------------------------------------------------------------------------- */

struct packing {
    struct call *c;
    struct zip_writer *w;
    struct map names;
    char tmp[40];
    int fd;
};

static int tmp_file(struct results *s, char name[40]) {
    random_id(name, 32);
    int fd = openat(s->o.scratch, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}
/* One that is gone when it is closed. */
static int nameless(struct results *s) {
    char name[40];
    int fd = tmp_file(s, name);
    if (fd >= 0)
        unlinkat(s->o.scratch, name, 0);
    return fd;
}

static int gunzip(struct results *s, int fd) {
    struct decoder *d;
    char b[65536];
    ssize_t n;
    int out = nameless(s), r = out < 0 ? out : decoder_new(&d, fd, s->o.blob_max, NULL);
    if (r < 0)
        return r;
    while ((n = decoder_read(d, b, sizeof b)) > 0 && (r = fd_write_all(out, b, (size_t)n)) >= 0)
        ;
    decoder_free(d);
    if (n < 0 || r < 0 || lseek(out, 0, SEEK_SET) < 0) {
        close(out);
        return n < 0 ? (int)n : r < 0 ? r : -errno;
    }
    return out;
}

static int add_upload(struct packing *p, struct upload *u, struct err *e) {
    struct results *s = p->c->s;
    const char *name = strchr(u->name, '/') + 1;
    _cleanup_close_ int fd = openat(s->o.scratch, u->tmp, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int plain = fd >= 0 && u->gzip ? gunzip(s, fd) : -1;
    if (fd < 0 || (u->gzip && plain < 0))
        return err_errno(e, fd < 0 ? -errno : plain, "%s", name);
    map_sets(&p->names, name, p);
    return zip_add(p->w, name, u->gzip ? plain : fd, time(NULL), e);
}

static int to_fd(void *arg, const void *p, size_t n) { return fd_write_all(*(int *)arg, p, n); }

/* What was there before and was not sent again. */
static int add_old(struct packing *p, uint64_t id, struct err *e) {
    struct results *s = p->c->s;
    struct zip z;
    _cleanup_close_ int old = artifact_open(s->o.store, s->run_id, id, NULL);
    int r = old < 0 ? old : zip_open(&z, old, NULL, &p->c->a, e);
    for (size_t i = 0; r >= 0 && i < z.n; i++) {
        if (z.entries[i].dir || map_has(&p->names, sv_from(z.entries[i].name)))
            continue;
        _cleanup_close_ int one = nameless(s);
        if ((r = one) >= 0 && (r = zip_read(&z, &z.entries[i], to_fd, &one, e)) >= 0 && lseek(one, 0, SEEK_SET) == 0)
            r = zip_add(p->w, z.entries[i].name, one, z.entries[i].mtime, e);
    }
    return r;
}

static int pack(struct packing *p, struct upload **v, size_t n, const char *name, struct err *e) {
    struct results *s = p->c->s;
    struct artifact old, a = {.name = name, .mime = "application/zip", .repo = s->repo, .expires = time(NULL) + s->o.retention_days * 86400};
    char digest[DIGEST_LEN + 1];
    int r = p->fd = tmp_file(s, p->tmp);
    if (r >= 0)
        r = zip_writer_new(&p->w, p->fd, 6);
    for (size_t i = 0; i < n && r >= 0; i++)
        r = add_upload(p, v[i], e);
    if (r >= 0 && artifact_find(s->o.store, s->run_id, name, &p->c->a, &old) == 1)
        r = add_old(p, old.id, e);
    if (r >= 0 && (r = zip_end(p->w, &a.size, digest, e)) >= 0) {
        a.digest = digest;
        r = artifact_put(s->o.store, s->run_id, &a, s->o.scratch, p->tmp, true, e);
    }
    zip_writer_free(p->w);
    map_done(&p->names);
    if (p->fd >= 0)
        unlinkat(s->o.scratch, p->tmp, 0);
    fd_close(p->fd);
    return r;
}

/* The artifact is complete: every file of it that was sent. */
static void finish(struct call *c, const char *name) {
    struct results *s = c->s;
    struct upload **v = NULL;
    size_t n = 0, cap = 0;
    struct packing p = {.c = c, .fd = -1};
    struct err e = {0};
    int r = 0;
    pthread_mutex_lock(&s->mu);
    for (struct upload *u = s->uploads; u; u = u->next)
        if (u->kind == UP_FILE && !u->finished && streq(u->version, name)) {
            GROW(v, cap, n + 1);
            v[n++] = u;
            if ((r = r < 0 ? r : upload_commit_ranges(s, u, u->end)) >= 0)
                u->finished = true;
        }
    pthread_mutex_unlock(&s->mu);
    if (r < 0)
        call_fail(c, 400, "invalid_argument", "not all bytes of the artifact have come");
    else if ((r = pack(&p, v, n, name, &e)) < 0)
        call_fail(c, 500, "internal", "%s", e.msg[0] ? e.msg : strerror(-r));
    else
        buf_adds(&c->out, "{}");
    pthread_mutex_lock(&s->mu);
    for (size_t i = 0; i < n; i++)
        upload_forget(s, v[i]);
    pthread_mutex_unlock(&s->mu);
    free(v);
}

/* --- listing ------------------------------------------------------------------------------------------------ */

static void describe(struct json_w *w, const struct results *s, uint64_t id, const char *name, int64_t size) {
    _cleanup_free_ char *url = xasprintf("%s" CONTAINERS "%llu", s->url, (unsigned long long)id);
    jw_obj(w);
    jw_kint(w, "containerId", (int64_t)id);
    jw_kint(w, "size", size);
    jw_key(w, "signedContent");
    jw_null(w);
    jw_kstr(w, "fileContainerResourceUrl", url);
    jw_kstr(w, "type", "actions_storage");
    jw_kstr(w, "name", name);
    jw_kstr(w, "url", url);
    jw_end_obj(w);
}

struct listing {
    struct call *c;
    struct json_w w;
    const char *name;
    size_t n;
};
static int list_one(const struct artifact *a, void *arg) {
    struct listing *l = arg;
    if (!streq(a->mime, "application/zip") || (l->name && !streq(l->name, a->name)))
        return 0;
    describe(&l->w, l->c->s, a->id, a->name, (int64_t)a->size);
    l->n++;
    return 0;
}

static void list(struct call *c) {
    struct listing l = {.c = c, .name = c->q[2]};
    jw_init(&l.w, &c->out, 0);
    jw_obj(&l.w);
    jw_key(&l.w, "value");
    jw_arr(&l.w);
    (void)artifact_each(c->s->o.store, c->s->run_id, list_one, &l);
    jw_end_arr(&l.w);
    jw_kint(&l.w, "count", (int64_t)l.n);
    jw_end_obj(&l.w);
}

static void items(struct call *c, uint64_t id) {
    struct results *s = c->s;
    struct zip z;
    struct json_w w;
    size_t n = 0;
    _cleanup_close_ int fd = artifact_open(s->o.store, s->run_id, id, NULL);
    if (fd < 0 || zip_open(&z, fd, NULL, &c->a, NULL) < 0 || !c->q[3]) {
        call_fail(c, 404, "not_found", "there is no such artifact");
        return;
    }
    jw_init(&w, &c->out, 0);
    jw_obj(&w);
    jw_key(&w, "value");
    jw_arr(&w);
    for (size_t i = 0; i < z.n; i++) {
        _cleanup_buf_ struct buf url = BUF_SMALL;
        char item[64];
        if (z.entries[i].dir)
            continue;
        snprintf(item, sizeof item, "%llu-%zu", (unsigned long long)id, i);
        signed_url(s, &url, "item", item, "r");
        jw_obj(&w);
        jw_kint(&w, "containerId", (int64_t)id);
        _cleanup_free_ char *path = xasprintf("%s/%s", c->q[3], z.entries[i].name);
        jw_kstr(&w, "path", path);
        jw_kstr(&w, "itemType", "file");
        jw_kstr(&w, "status", "created");
        jw_kint(&w, "fileLength", (int64_t)z.entries[i].size);
        jw_kstr(&w, "contentLocation", buf_str(&url));
        jw_end_obj(&w);
        n++;
    }
    jw_end_arr(&w);
    jw_kint(&w, "count", (int64_t)n);
    jw_end_obj(&w);
}

/* One entry, unpacked for this request. */
void results_v3_item(struct call *c, const char *item) {
    struct results *s = c->s;
    const char *dash = strchr(item, '-');
    uint64_t id, i;
    struct zip z;
    if (!dash || sv_u64(sv_n(item, (size_t)(dash - item)), UINT64_MAX, &id) < 0 || sv_u64(sv_from(dash + 1), UINT64_MAX, &i) < 0) {
        call_fail(c, 404, "not_found", "there is no such item");
        return;
    }
    _cleanup_close_ int fd = artifact_open(s->o.store, s->run_id, id, NULL);
    if (fd < 0 || zip_open(&z, fd, NULL, &c->a, NULL) < 0 || i >= z.n) {
        call_fail(c, 404, "not_found", "there is no such item");
        return;
    }
    int out = nameless(s);
    if (out < 0 || zip_read(&z, &z.entries[i], to_fd, &out, NULL) < 0) {
        fd_close(out);
        call_fail(c, 500, "internal", "the item cannot be read");
        return;
    }
    c->fd = out;
    c->size = z.entries[i].size;
    c->mime = "application/octet-stream";
}

static void create(struct call *c) {
    const char *name = json_get_str(c->j, "Name", json_get_str(c->j, "name", ""));
    struct json_w w;
    if (!artifact_name_ok(sv_from(name))) {
        call_fail(c, 400, "invalid_argument", "the artifact name is not valid: %s", name);
        return;
    }
    pthread_mutex_lock(&c->s->mu);
    uint64_t no = ++c->s->next_no;
    pthread_mutex_unlock(&c->s->mu);
    c->status = 201;
    jw_init(&w, &c->out, 0);
    describe(&w, c->s, no, name, -1);
}

/* True: the path is one of ours. */
bool results_v3(struct call *c) {
    const char *rest = startswith(c->path, "/_apis/pipelines/workflows/"), *slash = rest ? strchr(rest, '/') : NULL;
    uint64_t id;
    if ((rest = startswith(c->path, CONTAINERS))) {
        if (!streq(c->method, "GET") || sv_u64(sv_from(rest), UINT64_MAX, &id) < 0)
            return false;
        items(c, id);
        return true;
    }
    if (!slash || !streq(slash, "/artifacts"))
        return false;
    const char *run = startswith(c->path, "/_apis/pipelines/workflows/");
    if (strlen(c->s->run_id) != (size_t)(slash - run) || memcmp(run, c->s->run_id, (size_t)(slash - run)))
        call_fail(c, 403, "permission_denied", "artifacts of another run are not to be had");
    else if (streq(c->method, "POST"))
        create(c);
    else if (streq(c->method, "GET"))
        list(c);
    else if (streq(c->method, "PATCH") && c->q[2])
        finish(c, c->q[2]);
    else
        return false;
    return true;
}
