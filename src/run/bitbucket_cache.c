/* `caches` of Bitbucket steps: one tar per repository and cache, below jobcache/ of the store, packed
 * and unpacked by the job's own tar inside its box. As at Bitbucket a cache is saved by a step that
 * succeeds and has none yet; one without key files is made anew after a week, one with key files has
 * their digest in its name. At most 1 GiB each. Docker's layers need none: the store keeps them. */
#include "core/fs.h"
#include "run/jobx.h"
#include "store/jobcache.h"

#define CACHE_MAX (1ull << 30)
#define WEEK (7ll * 86400)

static int folder(struct jobx *x, bool make) {
    _cleanup_free_ char *top = jobcache_path(x->rq->store, x->run->repo_name, ctx_id(x->run->repository)), *path = path_join(top, "bitbucket");
    if (make && fs_mkdirs(AT_FDCWD, path, 0700) < 0)
        return -errno;
    _cleanup_close_ int dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        jobcache_used(dir);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Globs for a shell: nothing but wildcards keeps a meaning. */
static void add_pattern(struct buf *b, const char *p) {
    buf_addc(b, ' ');
    for (; *p; p++) {
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("*?/._-", *p)))
            buf_addc(b, '\\');
        buf_addc(b, *p);
    }
}

/* "NAME.tar", with key files "NAME-<digest>.tar"; NULL when they cannot be read. */
static char *file_of(struct jobx *x, const struct plan_cache *c) {
    _cleanup_buf_ struct buf name = BUF_SMALL, script = BUF_MAX(1u << 16), out = BUF_SMALL;
    for (const char *p = c->name; *p && name.n < 100; p++)
        buf_addc(&name, (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-' ? *p : '_');
    if (!c->n_key_files)
        return xasprintf("%s-%08x.tar", buf_str(&name), ctx_id(c->name));
    buf_addf(&script, "cd \"$1\"; [ -z \"$BASH_VERSION\" ] || shopt -s globstar nullglob\nfor f in");
    for (size_t i = 0; i < c->n_key_files; i++)
        add_pattern(&script, c->key_files[i]);
    buf_addf(&script, "; do [ -f \"$f\" ] && cat -- \"$f\"; done | sha256sum");
    const char *argv[] = {x->has_bash ? "/bin/bash" : "/bin/sh", "-c", buf_str(&script), "sh", x->workspace, NULL};
    struct err e = {0};
    if (jobx_capture(x, argv, x->user, &out, &e) != 0 || out.n < 64 || strspn(buf_str(&out), "0123456789abcdef") != 64)
        return NULL;
    return xasprintf("%s-%08x-%.64s.tar", buf_str(&name), ctx_id(c->name), buf_str(&out));
}

/* Where the cache lies in the job. */
static char *place_of(struct jobx *x, const char *path) {
    static const char *const home[] = {"~/", "$HOME/", "${HOME}/"}, *const clone[] = {"$BITBUCKET_CLONE_DIR/", "${BITBUCKET_CLONE_DIR}/"};
    for (size_t i = 0; i < ELEMENTS(home); i++)
        if (startswith(path, home[i]))
            return path_join(x->home, startswith(path, home[i]));
    for (size_t i = 0; i < ELEMENTS(clone); i++)
        if (startswith(path, clone[i]))
            return path_join(x->workspace, startswith(path, clone[i]));
    return path_join(x->workspace, path);
}

static bool fresh(int dir, const char *name, const struct plan_cache *c) {
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (c->n_key_files || time(NULL) - st.st_mtime < WEEK);
}

static void restore_one(struct jobx *x, int dir, const struct plan_cache *c) {
    _cleanup_free_ char *name = file_of(x, c), *place = place_of(x, c->path), *inside = path_join(x->temp, "cache-in.tar");
    if (!name || !fresh(dir, name, c)) {
        jobx_note(x, LEVEL_NOTICE, "cache %s: none yet", c->name);
        return;
    }
    _cleanup_close_ int from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int to = openat(x->temp_fd, "cache-in.tar", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    uint64_t n = 0;
    _cleanup_buf_ struct buf out = BUF_SMALL;
    struct err e = {0};
    const char *argv[] = {"/bin/sh", "-ec", "mkdir -p \"$1\" && tar -xf \"$2\" -C \"$1\"", "sh", place, inside, NULL};
    if (from < 0 || to < 0 || fd_copy(from, to, UINT64_MAX, &n) < 0)
        jobx_note(x, LEVEL_WARNING, "cache %s cannot be read: %s", c->name, strerror(errno));
    else if (jobx_capture(x, argv, x->user, &out, &e) != 0)
        jobx_note(x, LEVEL_WARNING, "cache %s could not be unpacked: %s", c->name, e.msg[0] ? e.msg : buf_str(&out));
    else
        jobx_note(x, LEVEL_NOTICE, "cache %s: %llu KiB restored", c->name, (unsigned long long)(n >> 10));
    unlinkat(x->temp_fd, "cache-in.tar", 0);
}

void bitbucket_caches_restore(struct jobx *x) {
    const struct plan_bitbucket *bb = x->pj->bb;
    if (!bb || !bb->n_caches || x->rq->clean)
        return;
    _cleanup_close_ int dir = folder(x, true);
    for (size_t i = 0; i < bb->n_caches; i++) {
        if (!bb->caches[i].path)
            jobx_note(x, LEVEL_NOTICE, "cache %s: layers are always kept here", bb->caches[i].name);
        else if (dir < 0)
            jobx_note(x, LEVEL_WARNING, "cache %s cannot be used: %s", bb->caches[i].name, strerror(-dir));
        else
            restore_one(x, dir, &bb->caches[i]);
    }
}

static void save_one(struct jobx *x, int dir, const struct plan_cache *c) {
    _cleanup_free_ char *name = file_of(x, c), *place = place_of(x, c->path), *inside = path_join(x->temp, "cache-out.tar");
    if (!name) {
        jobx_note(x, LEVEL_WARNING, "cache %s is not saved: its key files cannot be read", c->name);
        return;
    }
    if (fresh(dir, name, c))
        return;
    char tmp[32] = ".new-", key[9];
    random_id(key, 8);
    memcpy(tmp + 5, key, sizeof key);
    _cleanup_buf_ struct buf out = BUF_SMALL;
    struct err e = {0};
    const char *argv[] = {"/bin/sh", "-ec", "[ -d \"$1\" ] || exit 0; tar -cf \"$2\" -C \"$1\" .", "sh", place, inside, NULL};
    if (jobx_capture(x, argv, x->user, &out, &e) != 0) {
        jobx_note(x, LEVEL_WARNING, "cache %s could not be packed: %s", c->name, e.msg[0] ? e.msg : buf_str(&out));
        unlinkat(x->temp_fd, "cache-out.tar", 0);
        return;
    }
    _cleanup_close_ int from = openat(x->temp_fd, "cache-out.tar", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    uint64_t n = 0;
    if (from < 0 || fstat(from, &st) < 0 || !S_ISREG(st.st_mode)) {
        jobx_note(x, LEVEL_NOTICE, "cache %s: %s is not there, nothing to save", c->name, place);
    } else if ((uint64_t)st.st_size > CACHE_MAX) {
        jobx_note(x, LEVEL_WARNING, "cache %s is not saved: %llu MiB are more than 1024", c->name, (unsigned long long)st.st_size >> 20);
    } else {
        _cleanup_close_ int to = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (to < 0 || fd_copy(from, to, CACHE_MAX, &n) < 0 || renameat(dir, tmp, dir, name) < 0) {
            jobx_note(x, LEVEL_WARNING, "cache %s could not be saved: %s", c->name, strerror(errno));
            unlinkat(dir, tmp, 0);
        } else
            jobx_note(x, LEVEL_NOTICE, "cache %s: %llu KiB saved", c->name, (unsigned long long)(n >> 10));
    }
    unlinkat(x->temp_fd, "cache-out.tar", 0);
}

void bitbucket_caches_save(struct jobx *x) {
    const struct plan_bitbucket *bb = x->pj->bb;
    if (!bb || !bb->n_caches || x->rq->clean)
        return;
    _cleanup_close_ int dir = folder(x, true);
    for (size_t i = 0; dir >= 0 && i < bb->n_caches; i++)
        if (bb->caches[i].path)
            save_one(x, dir, &bb->caches[i]);
    (void)jobcache_prune(x->rq->store, 0, 0, false, false, NULL);
}
