#include "store/artifact.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/loop.h"

#include <dirent.h>
#include <time.h>

bool artifact_name_ok(struct sv name) {
    if (!name.n || name.n > 256 || sv_eqs(name, ".") || sv_eqs(name, ".."))
        return false;
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] < ' ' || strchr("\":<>|*?\\/", name.p[i]))
            return false;
    return true;
}

static int folder(struct store *s, const char *run, bool make) {
    char path[64];
    if (!*run || strspn(run, "0123456789") != strlen(run) || strlen(run) > 20)
        return -EINVAL;
    snprintf(path, sizeof path, "runs/%s/artifacts", run);
    int r = make ? fs_mkdirs(store_dirfd(s), path, 0700) : 0;
    int fd = r < 0 ? r : openat(store_dirfd(s), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 && r >= 0 ? -errno : fd;
}

static void file_name(uint64_t id, const char *ext, char out[40]) { snprintf(out, 40, "%llu.%s", (unsigned long long)id, ext); }

static int read_one(int dir, uint64_t id, struct arena *a, struct artifact *ret) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    char file[40];
    struct json *j;
    file_name(id, "json", file);
    int r = fs_read(dir, file, &b, NULL);
    if (r < 0)
        return r;
    if (json_parse(a, arena_sv(a, buf_sv(&b)), &j, NULL) < 0)
        return -EBADMSG;
    *ret = (struct artifact){.id = id,
                             .name = json_get_str(j, "name", ""),
                             .mime = json_get_str(j, "mime", "application/zip"),
                             .digest = json_get_str(j, "digest", ""),
                             .repo = json_get_str(j, "repo", ""),
                             .size = (uint64_t)json_get_int(j, "size", 0),
                             .created = json_get_int(j, "created", 0),
                             .expires = json_get_int(j, "expires", 0)};
    return artifact_name_ok(sv_from(ret->name)) ? 0 : -EBADMSG;
}

static int cmp_id(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static size_t list_ids(int dir, uint64_t **ret) {
    size_t n = 0, cap = 0;
    uint64_t *ids = NULL, id;
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    for (struct dirent *en; d && (en = readdir(d));) {
        struct sv name = sv_from(en->d_name);
        if (!sv_ends(name, ".json") || sv_u64(sv_sub(name, 0, name.n - 5), UINT64_MAX, &id) < 0)
            continue;
        GROW(ids, cap, n + 1);
        ids[n++] = id;
    }
    if (d)
        closedir(d);
    if (n)
        qsort(ids, n, sizeof *ids, cmp_id);
    *ret = ids;
    return n;
}

static int each(int dir, bool expired_too, artifact_fn fn, void *arg) {
    _cleanup_free_ uint64_t *ids = NULL;
    size_t n = list_ids(dir, &ids);
    int64_t now = time(NULL);
    int r = 0;
    for (size_t i = 0; i < n && r == 0; i++) {
        _cleanup_arena_ struct arena a = {0};
        struct artifact one;
        if (read_one(dir, ids[i], &a, &one) == 0 && (expired_too || !one.expires || one.expires > now))
            r = fn(&one, arg);
    }
    return r;
}

int artifact_each(struct store *s, const char *run, artifact_fn fn, void *arg) {
    _cleanup_close_ int dir = folder(s, run, false);
    return dir == -ENOENT ? 0 : dir < 0 ? dir : each(dir, false, fn, arg);
}

struct by_name {
    const char *name;
    struct arena *a;
    struct artifact *ret;
};
static int match_name(const struct artifact *x, void *arg) {
    struct by_name *b = arg;
    if (!streq(x->name, b->name))
        return 0;
    if (b->ret) {
        *b->ret = *x;
        b->ret->name = arena_strdup(b->a, x->name);
        b->ret->mime = arena_strdup(b->a, x->mime);
        b->ret->digest = arena_strdup(b->a, x->digest);
        b->ret->repo = arena_strdup(b->a, x->repo);
    }
    return 1;
}

int artifact_find(struct store *s, const char *run, const char *name, struct arena *a, struct artifact *ret) {
    return artifact_each(s, run, match_name, &(struct by_name){name, a, ret});
}

int artifact_open(struct store *s, const char *run, uint64_t id, uint64_t *ret_size) {
    char file[40];
    struct stat st;
    _cleanup_close_ int dir = folder(s, run, false);
    if (dir < 0)
        return dir;
    file_name(id, "data", file);
    _cleanup_close_ int fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (ret_size)
        *ret_size = (uint64_t)st.st_size;
    return TAKE_FD(fd);
}

static void drop(int dir, uint64_t id) {
    char file[40];
    file_name(id, "json", file);
    unlinkat(dir, file, 0);
    file_name(id, "data", file);
    unlinkat(dir, file, 0);
}

static int remove_named(int dir, const char *name, uint64_t *ret_id) {
    _cleanup_arena_ struct arena a = {0};
    struct artifact old;
    int r = each(dir, true, match_name, &(struct by_name){name, &a, &old});
    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    drop(dir, old.id);
    if (ret_id)
        *ret_id = old.id;
    return 0;
}

int artifact_remove(struct store *s, const char *run, const char *name, uint64_t *ret_id) {
    _cleanup_close_ int dir = folder(s, run, false);
    _cleanup_close_ int lock = dir < 0 ? dir : lock_file(dir, "lock", true, true);
    return lock < 0 ? lock : remove_named(dir, name, ret_id);
}

int artifact_put(struct store *s, const char *run, struct artifact *a, int dirfd, const char *tmp, bool replace, struct err *e) {
    char file[40];
    if (!artifact_name_ok(sv_from(a->name)))
        return err_set(e, ERR_USER, -EINVAL, "the artifact name is not valid: %s", a->name);
    int r = store_counter(s, "artifact", &a->id, e);
    if (r < 0)
        return r;
    _cleanup_close_ int dir = folder(s, run, true);
    if (dir < 0)
        return err_errno(e, dir, "the run's artifacts");
    _cleanup_close_ int lock = lock_file(dir, "lock", true, true);
    if (lock < 0)
        return err_errno(e, lock, "the run's artifacts");
    bool there = each(dir, false, match_name, &(struct by_name){.name = a->name}) == 1;
    if (there && !replace)
        return err_set(e, ERR_CONFLICT, -EEXIST, "an artifact with this name already exists on the workflow run");
    (void)remove_named(dir, a->name, NULL);
    file_name(a->id, "data", file);
    if (renameat(dirfd, tmp, dir, file) < 0)
        return err_errno(e, -errno, "keep the artifact");
    a->created = time(NULL);
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kint(&w, "id", (int64_t)a->id);
    jw_kstr(&w, "name", a->name);
    jw_kstr(&w, "mime", a->mime ? a->mime : "application/zip");
    jw_kstr(&w, "digest", a->digest ? a->digest : "");
    jw_kstr(&w, "repo", a->repo ? a->repo : "");
    jw_kint(&w, "size", (int64_t)a->size);
    jw_kint(&w, "created", a->created);
    jw_kint(&w, "expires", a->expires);
    jw_end_obj(&w);
    char json[40];
    file_name(a->id, "json", json);
    r = fs_write(dir, json, buf_sv(&b), 0600, false, e);
    if (r < 0)
        unlinkat(dir, file, 0);
    return r;
}

/* --- over all runs ----------------------------------------------------------------------------------- */

struct all {
    uint64_t n, bytes;
    bool expired_only, remove;
    int dir;
    int64_t now;
};
static int count(const struct artifact *a, void *arg) {
    struct all *x = arg;
    if (x->expired_only && (!a->expires || a->expires > x->now))
        return 0;
    x->n++;
    x->bytes += a->size;
    if (x->remove)
        drop(x->dir, a->id);
    return 0;
}

static int over_runs(struct store *s, struct all *x) {
    int fd = openat(store_dirfd(s), "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    x->now = time(NULL);
    for (struct dirent *en; d && (en = readdir(d));) {
        if (en->d_name[0] < '0' || en->d_name[0] > '9')
            continue;
        _cleanup_close_ int dir = folder(s, en->d_name, false);
        _cleanup_close_ int lock = dir >= 0 && x->remove ? lock_file(dir, "lock", true, true) : -1;
        x->dir = dir;
        if (dir >= 0)
            (void)each(dir, true, count, x);
    }
    if (d)
        closedir(d);
    return 0;
}

int artifact_expire(struct store *s, bool dry, uint64_t *ret_n, uint64_t *ret_bytes) {
    struct all x = {.expired_only = true, .remove = !dry};
    int r = over_runs(s, &x);
    *ret_n = x.n;
    *ret_bytes = x.bytes;
    return r;
}

int artifact_usage(struct store *s, uint64_t *ret_n, uint64_t *ret_bytes) {
    struct all x = {0};
    int r = over_runs(s, &x);
    *ret_n = x.n;
    *ret_bytes = x.bytes;
    return r;
}
