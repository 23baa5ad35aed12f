/* Uploads and downloads of the results server.
 *
 * An upload is one file in the job's scratch. Each block gets its own space at the end of it when its
 * request arrives and is written there as it comes (no block is ever in memory); when the list of blocks
 * is committed and their order is that of their places, which it nearly always is, the file is done as it
 * stands, else it is put into order by the kernel. Finishing moves the file into the store.
 * Source: learn.microsoft.com, "Put Block", "Put Block List", "Put Blob" (what the clients use of it). */
#include "run/results_internal.h"

#include "core/fs.h"
#include "core/map.h"
#include "store/acache.h"
#include "store/artifact.h"

/* --- the list -------------------------------------------------------------------------------------- */

struct upload *upload_make(struct results *s, enum upload_kind kind, const char *name, const char *version) {
    struct upload *u = xcalloc(1, sizeof *u);
    bool file = kind == UP_FILE;
    random_id(u->tmp, 32);
    u->fd = openat(s->o.scratch, u->tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    pthread_mutex_lock(&s->mu);
    if (u->fd < 0 || (file ? s->n_files >= FILES_MAX_V3 : s->n_uploads >= UPLOADS_MAX)) {
        pthread_mutex_unlock(&s->mu);
        if (u->fd >= 0)
            unlinkat(s->o.scratch, u->tmp, 0);
        fd_close(u->fd);
        free(u);
        return NULL;
    }
    u->kind = kind;
    u->name = xstrdup(name);
    u->version = xstrdup(version);
    u->no = ++s->next_no;
    u->next = s->uploads;
    s->uploads = u;
    ++*(file ? &s->n_files : &s->n_uploads);
    pthread_mutex_unlock(&s->mu);
    return u;
}

struct upload *upload_new(struct call *c, enum upload_kind kind, const char *name, const char *version) {
    struct upload *u = upload_make(c->s, kind, name, version);
    if (!u)
        call_fail(c, 429, "resource_exhausted", "a job may have %u uploads", UPLOADS_MAX);
    return u;
}

struct upload *upload_find(struct results *s, enum upload_kind kind, const char *name, const char *version) {
    for (struct upload *u = s->uploads; u; u = u->next)
        if (!u->finished && u->kind == kind && streq(u->name, name) && streq0(u->version, version))
            return u;
    return NULL;
}

struct upload *upload_by_no(struct results *s, uint64_t no) {
    for (struct upload *u = s->uploads; u; u = u->next)
        if (!u->finished && u->no == no)
            return u;
    return NULL;
}

static struct upload *by_tmp(struct results *s, const char *tmp) {
    for (struct upload *u = s->uploads; u; u = u->next)
        if (!u->finished && streq(u->tmp, tmp))
            return u;
    return NULL;
}

static void parts_drop(struct upload *u) {
    for (size_t i = 0; i < u->n_parts; i++)
        free(u->parts[i].id);
    free(u->parts);
    u->parts = NULL;
    u->n_parts = u->cap_parts = 0;
}

void upload_forget(struct results *s, struct upload *u) {
    u->finished = true;
    unlinkat(s->o.scratch, u->tmp, 0);
    if (!u->writers)
        u->fd = fd_close(u->fd);
}

void uploads_done(struct results *s) {
    while (s->uploads) {
        struct upload *u = s->uploads;
        s->uploads = u->next;
        unlinkat(s->o.scratch, u->tmp, 0);
        fd_close(u->fd);
        parts_drop(u);
        free(u->name);
        free(u->version);
        free(u->mime);
        free(u);
    }
}

int upload_finish(struct upload *u, uint64_t size) {
    if (u->writers)
        return -EBUSY;
    if (!u->committed)
        return -ENODATA;
    if (size != UINT64_MAX && size != u->size)
        return -EINVAL;
    u->finished = true;
    return 0;
}

static int by_place(const void *pa, const void *pb) {
    const struct part *a = pa, *b = pb;
    return a->at < b->at ? -1 : a->at > b->at;
}

/* Files of older clients are many: theirs are open only while they are written. */
static int upload_open(struct results *s, struct upload *u) {
    if (u->fd < 0)
        u->fd = openat(s->o.scratch, u->tmp, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    return u->fd;
}

int upload_commit_ranges(struct results *s, struct upload *u, uint64_t size) {
    uint64_t have = 0;
    if (u->writers)
        return -EBUSY;
    if (u->n_parts)
        qsort(u->parts, u->n_parts, sizeof *u->parts, by_place);
    for (size_t i = 0; i < u->n_parts; i++) {
        if (!u->parts[i].done)
            continue;
        if (u->parts[i].at > have)
            return -EINVAL;
        have = MAX(have, u->parts[i].at + u->parts[i].size);
    }
    if (have != size)
        return -EINVAL;
    u->size = size;
    u->committed = true;
    int r = upload_open(s, u) < 0 || ftruncate(u->fd, (off_t)size) < 0 ? -errno : 0;
    if (u->kind == UP_FILE)
        u->fd = fd_close(u->fd);
    return r;
}

/* --- bytes that come ------------------------------------------------------------------------------- */

struct pour {
    struct results *s;
    struct upload *u;
    size_t part;
    int fd, status;
    uint64_t at, got, size;
    bool whole;
};

static int pour_sink(void *arg, const void *p, size_t n) {
    struct pour *w = arg;
    const char *b = p;
    while (n) {
        ssize_t k = pwrite(w->fd, b, n, (off_t)(w->at + w->got));
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        b += k;
        n -= (size_t)k;
        w->got += (uint64_t)k;
    }
    return 0;
}

static void blob_ok(struct httpd_req *rq, int status) {
    char id[33], etag[40];
    random_id(id, 32);
    snprintf(etag, sizeof etag, "\"0x%.16s\"", id);
    httpd_add_header(rq, "x-ms-request-id", id);
    httpd_add_header(rq, "x-ms-version", "2021-12-02");
    httpd_add_header(rq, "ETag", etag);
    httpd_reply(rq, status, NULL, SV(""));
}

static void blob_fail(struct httpd_req *rq, int status, const char *code, const char *text) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    buf_addf(&b, "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, text);
    httpd_add_header(rq, "x-ms-error-code", code);
    httpd_reply(rq, status, "application/xml", buf_sv(&b));
}

static void pour_done(struct httpd_req *rq, int r, uint64_t size, void *arg) {
    struct pour *w = arg;
    struct upload *u = w->u;
    pthread_mutex_lock(&w->s->mu);
    struct part *p = &u->parts[w->part];
    bool whole = r >= 0 && w->got == w->size;
    p->done = whole;
    for (size_t i = 0; whole && p->id && i < u->n_parts; i++) /* a block that was sent again */
        if (&u->parts[i] != p && u->parts[i].id && streq(u->parts[i].id, p->id))
            u->parts[i].done = false;
    if (whole && w->whole) {
        u->size = w->size;
        u->committed = true;
    }
    if (!--u->writers && (u->finished || u->kind == UP_FILE))
        u->fd = fd_close(u->fd);
    pthread_mutex_unlock(&w->s->mu);
    if (r != -EFBIG && r != -EBADMSG && r != -ECONNRESET) {
        if (whole)
            blob_ok(rq, w->status);
        else
            blob_fail(rq, r == -ENOSPC || r == -EDQUOT ? 507 : 500, "InternalError", r == -ENOSPC ? "the disk is full" : "the bytes could not be written");
    }
    free(w);
}

void upload_pour(struct results *s, struct httpd_req *rq, struct upload *u, const char *block, uint64_t at, uint64_t size, bool whole, int status) {
    const char *len = httpd_header(rq, "content-length"); /* a ranged body may be chunked */
    if (size == UINT64_MAX && (!len || sv_u64(sv_from(len), INT64_MAX, &size) < 0)) {
        blob_fail(rq, 411, "MissingContentLengthHeader", "an upload says how long it is");
        return;
    }
    pthread_mutex_lock(&s->mu);
    const char *why = NULL;
    int code = 409;
    if (u->finished || upload_open(s, u) < 0)
        why = "the upload is finished";
    else if (u->n_parts >= BLOCKS_MAX)
        why = "an upload has at most 50000 blocks";
    else if (whole && u->writers)
        why = "somebody else writes it";
    if (!why && whole) {
        parts_drop(u);
        u->committed = false;
        u->end = 0;
        if (ftruncate(u->fd, 0) < 0)
            why = "its file cannot be emptied";
    }
    if (at == UINT64_MAX)
        at = u->end;
    if (!why && (size > s->o.blob_max || at > s->o.blob_max - size)) {
        why = "the upload is larger than is allowed";
        code = 413;
    }
    if (why) {
        pthread_mutex_unlock(&s->mu);
        blob_fail(rq, code, code == 413 ? "RequestBodyTooLarge" : "InvalidOperation", why);
        return;
    }
    GROW(u->parts, u->cap_parts, u->n_parts + 1);
    u->parts[u->n_parts++] = (struct part){.id = xstrdup(block), .at = at, .size = size};
    u->end = MAX(u->end, at + size);
    u->writers++;
    struct pour *w = xcalloc(1, sizeof *w);
    *w = (struct pour){.s = s, .u = u, .part = u->n_parts - 1, .fd = u->fd, .status = status, .at = at, .size = size, .whole = whole};
    pthread_mutex_unlock(&s->mu);
    httpd_pour(rq, pour_sink, w, size, pour_done, w);
}

/* --- the list of blocks ------------------------------------------------------------------------------ */

/* The text of a tag `<Name>text</Name>` at the head of *rest. 1 = one, 0 = something else. */
static int tag_text(struct sv *rest, struct sv name, struct sv *ret) {
    if (rest->n < name.n + 2 || rest->p[0] != '<' || memcmp(rest->p + 1, name.p, name.n) || rest->p[name.n + 1] != '>')
        return 0;
    struct sv t = sv_sub(*rest, name.n + 2, rest->n);
    ssize_t end = sv_chr(t, '<');
    if (end < 0 || t.n < (size_t)end + name.n + 3 || t.p[end + 1] != '/' || memcmp(t.p + end + 2, name.p, name.n) ||
        t.p[(size_t)end + 2 + name.n] != '>')
        return -EINVAL;
    *ret = sv_trim(sv_sub(t, 0, (size_t)end));
    *rest = sv_sub(t, (size_t)end + name.n + 3, t.n);
    return 1;
}

int block_list_read(struct sv xml, struct arena *a, struct sv **ret_ids, size_t *ret_n) {
    static const struct { const char *p; size_t n; } names[] = {{"Latest", 6}, {"Uncommitted", 11}, {"Committed", 9}};
    size_t n = 0, most = 0;
    for (size_t i = 0; i + 1 < xml.n; i++)
        most += xml.p[i] == '<' && xml.p[i + 1] == '/';
    if (most > BLOCKS_MAX + 1)
        return -EFBIG;
    struct sv *ids = ARENA_ARRAY(a, struct sv, most + 1), rest = sv_trim(xml);
    if (sv_starts(rest, "\xef\xbb\xbf"))
        rest = sv_sub(rest, 3, rest.n);
    if (sv_starts(rest, "<?xml")) {
        ssize_t end = sv_find(rest, SV("?>"));
        if (end < 0)
            return -EINVAL;
        rest = sv_trim(sv_sub(rest, (size_t)end + 2, rest.n));
    }
    if (sv_starts(rest, "<BlockList/>") || sv_starts(rest, "<BlockList />")) {
        *ret_ids = ids;
        *ret_n = 0;
        return 0;
    }
    if (!sv_starts(rest, "<BlockList>"))
        return -EINVAL;
    rest = sv_trim(sv_sub(rest, 11, rest.n));
    while (!sv_starts(rest, "</BlockList>")) {
        int r = 0;
        for (size_t i = 0; i < ELEMENTS(names) && r == 0; i++)
            r = tag_text(&rest, sv_n(names[i].p, names[i].n), &ids[n]);
        if (r <= 0 || n >= most || !ids[n].n || ids[n].n > 128)
            return -EINVAL;
        n++;
        rest = sv_trim(rest);
    }
    if (sv_trim(sv_sub(rest, 12, rest.n)).n)
        return -EINVAL;
    *ret_ids = ids;
    *ret_n = n;
    return 0;
}

static int copy_range(int from, uint64_t at, int to, uint64_t n) {
    char b[65536];
    off_t off = (off_t)at;
    while (n) {
        ssize_t k = copy_file_range(from, &off, to, NULL, n, 0);
        if (k < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
            k = pread(from, b, MIN(n, sizeof b), off);
            int r = k > 0 ? fd_write_all(to, b, (size_t)k) : 0;
            if (r < 0)
                return r;
            off += k > 0 ? k : 0;
        }
        if (k <= 0)
            return k < 0 ? -errno : -EIO;
        n -= (uint64_t)k;
    }
    return 0;
}

/* Under mu: the blocks in the order of the list become the file. */
static int commit_blocks(struct results *s, struct upload *u, const struct sv *ids, size_t n) {
    _cleanup_map_ struct map have = {0};
    uint64_t size = 0;
    bool in_order = true;
    if (u->writers)
        return -EBUSY;
    for (size_t i = 0; i < u->n_parts; i++)
        if (u->parts[i].id && u->parts[i].done)
            map_set(&have, sv_from(u->parts[i].id), &u->parts[i]);
    for (size_t i = 0; i < n; i++) {
        const struct part *p = map_get(&have, ids[i]);
        if (!p)
            return -ENOENT;
        in_order &= p->at == size;
        if (p->size > s->o.blob_max - size)
            return -EFBIG;
        size += p->size;
    }
    if (!in_order) {
        char tmp[40];
        random_id(tmp, 32);
        int fd = openat(s->o.scratch, tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), r = fd < 0 ? -errno : 0;
        for (size_t i = 0; i < n && r >= 0; i++) {
            const struct part *p = map_get(&have, ids[i]);
            r = copy_range(u->fd, p->at, fd, p->size);
        }
        if (r >= 0 && renameat(s->o.scratch, tmp, s->o.scratch, u->tmp) < 0)
            r = -errno;
        if (r < 0) {
            if (fd >= 0)
                unlinkat(s->o.scratch, tmp, 0);
            fd_close(fd);
            return r;
        }
        close(u->fd);
        u->fd = fd;
        parts_drop(u); /* their places are no more */
    } else if (ftruncate(u->fd, (off_t)size) < 0)
        return -errno;
    u->size = u->end = size;
    u->committed = true;
    return 0;
}

static void commit_call(struct call *c) {
    struct sv *ids;
    size_t n;
    int r = block_list_read(c->body, &c->a, &ids, &n);
    if (r >= 0) {
        pthread_mutex_lock(&c->s->mu);
        struct upload *u = by_tmp(c->s, c->q[0]);
        r = u ? commit_blocks(c->s, u, ids, n) : -ESTALE;
        pthread_mutex_unlock(&c->s->mu);
    }
    c->status = 201;
    if (r < 0)
        call_fail(c, r == -ENOSPC ? 507 : r == -EIO ? 500 : r == -EBUSY || r == -ESTALE ? 409 : 400,
                  r == -ENOENT ? "InvalidBlockList" : "InvalidOperation", "the list of blocks: %s", strerror(-r));
}

/* --- downloads --------------------------------------------------------------------------------------- */

static void download_call(struct call *c) {
    uint64_t id;
    struct sv no = sv_from(c->q[1]);
    if (streq(c->q[0], "item")) {
        results_v3_item(c, c->q[1]);
        return;
    }
    if (sv_ends(no, ".zip"))
        no.n -= 4;
    if (sv_u64(no, UINT64_MAX, &id) < 0) {
        call_fail(c, 404, "not_found", "there is no such blob");
        return;
    }
    c->fd = streq(c->q[0], "cache") ? acache_open_id(c->s->o.store, id, &c->size) : artifact_open(c->s->o.store, c->s->run_id, id, &c->size);
    if (c->fd < 0) {
        c->fd = -1;
        call_fail(c, 404, "not_found", "it is gone");
        return;
    }
    c->mime = streq(c->q[0], "cache") ? "application/octet-stream" : c->q[2];
}

static void download(struct results *s, struct httpd_req *rq, const char *what, const char *id) {
    if (!results_signed(s, rq, what, id, "r"))
        return;
    struct call *c = call_new(s, rq, download_call);
    const char *mime = httpd_query(rq, "rsct"), *disposition = httpd_query(rq, "rscd");
    c->q[0] = arena_strdup(&c->a, what);
    c->q[1] = arena_strdup(&c->a, id);
    c->q[2] = arena_strdup(&c->a, mime ? mime : "application/zip");
    c->disposition = disposition ? arena_strdup(&c->a, disposition) : NULL;
    call_go(c);
}

void results_blob(struct results *s, struct httpd_req *rq) {
    const char *path = httpd_path(rq) + strlen("/blob/"), *method = httpd_method(rq), *slash = strchr(path, '/');
    const char *comp = httpd_query(rq, "comp"), *id = slash ? slash + 1 : "";
    bool up = startswith(path, "up/") != NULL;
    if (!up && (streq(method, "GET") || streq(method, "HEAD")) && slash && !strchr(id, '/')) {
        char what[16];
        snprintf(what, sizeof what, "%.*s", (int)(slash - path), path);
        if (streq(what, "cache") || streq(what, "artifact") || streq(what, "item")) {
            download(s, rq, what, id);
            return;
        }
    }
    if (!up || !streq(method, "PUT")) {
        blob_fail(rq, 404, "ResourceNotFound", "there is no such blob");
        return;
    }
    if (!results_signed(s, rq, "up", id, "w"))
        return;
    pthread_mutex_lock(&s->mu);
    struct upload *u = by_tmp(s, id);
    pthread_mutex_unlock(&s->mu);
    if (!u)
        blob_fail(rq, 404, "BlobNotFound", "the upload is over, or never began");
    else if (comp && streq(comp, "block")) {
        const char *block = httpd_query(rq, "blockid");
        if (!block || !*block || strlen(block) > 128)
            blob_fail(rq, 400, "InvalidQueryParameterValue", "blockid");
        else
            upload_pour(s, rq, u, block, UINT64_MAX, UINT64_MAX, false, 201);
    } else if (comp && streq(comp, "blocklist")) {
        struct call *c = call_new(s, rq, commit_call);
        c->q[0] = arena_strdup(&c->a, id);
        call_collect(c, 12u << 20);
    } else if (comp) {
        blob_fail(rq, 400, "InvalidQueryParameterValue", "only blocks, lists of blocks and whole blobs");
    } else {
        upload_pour(s, rq, u, NULL, 0, UINT64_MAX, true, 201);
    }
}
