/* All files are listed with their size and the time at which they came (ctime: a rename or a link by
 * a new snapshot sets it, so what is in use looks young), and removed oldest first. Each removal holds
 * the repository's lock, so that no job sees half a cache. */
#include "store/jobcache.h"

#include "core/fs.h"
#include "core/loop.h"

#include <dirent.h>
#include <sys/file.h>

enum { DEPTH_MAX = 40 };

struct item {
    char *path; /* below jobcache/ */
    uint64_t size, ns;
};
struct list {
    struct item *v;
    size_t n, cap;
    uint64_t bytes;
};

char *jobcache_path(struct store *s, const char *repo_name, uint32_t repo_id) {
    return xasprintf("%s/jobcache/%s-%08x", store_path(s), repo_name, repo_id);
}

void jobcache_used(int dirfd) {
    int fd = openat(dirfd, "lock", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0)
        (void)futimens(fd, NULL);
    fd_close(fd);
}

static int top(struct store *s) {
    int fd = openat(store_dirfd(s), "jobcache", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static void list_done(struct list *l) {
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].path);
    free(l->v);
}

/* Every file below `path` but the locks. */
static void collect(int at, const char *name, const char *path, unsigned depth, struct list *l) {
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        fd_close(fd);
        return;
    }
    for (struct dirent *en; (en = readdir(d));) {
        struct stat st;
        if (streq(en->d_name, ".") || streq(en->d_name, "..") || fstatat(fd, en->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        _cleanup_free_ char *sub = path_join(path, en->d_name);
        if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
            collect(fd, en->d_name, sub, depth + 1, l);
        else if (!S_ISDIR(st.st_mode) && !(depth == 1 && streq(en->d_name, "lock"))) {
            GROW(l->v, l->cap, l->n + 1);
            l->bytes += (uint64_t)st.st_blocks * 512;
            l->v[l->n++] = (struct item){TAKE(sub), (uint64_t)st.st_blocks * 512,
                                         (uint64_t)st.st_ctim.tv_sec * 1000000000u + (uint64_t)st.st_ctim.tv_nsec};
        }
    }
    closedir(d);
}

int jobcache_usage(struct store *s, struct jobcache_usage *ret) {
    struct list l = {0};
    _cleanup_close_ int dir = top(s);
    *ret = (struct jobcache_usage){0};
    if (dir < 0)
        return dir == -ENOENT ? 0 : dir;
    collect(dir, ".", "", 0, &l);
    *ret = (struct jobcache_usage){l.n, l.bytes};
    list_done(&l);
    return 0;
}

static int by_age(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    return x->ns < y->ns ? -1 : x->ns > y->ns;
}

/* The lock of the repository that the path begins with; -errno when somebody has it. */
static int lock_of(int dir, const char *path) {
    _cleanup_free_ char *name = xasprintf("%.*s/lock", (int)strcspn(path, "/"), path);
    return lock_file(dir, name, true, false);
}

/* Whole repositories that nobody used. */
static void prune_old(int dir, uint64_t age, bool all, bool dry, struct jobcache_usage *ret) {
    int fd = fcntl(dir, F_DUPFD_CLOEXEC, 3);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return;
    rewinddir(d);
    for (struct dirent *en; (en = readdir(d));) {
        struct stat st;
        struct list l = {0};
        if (en->d_name[0] == '.')
            continue;
        _cleanup_free_ char *file = path_join(en->d_name, "lock");
        _cleanup_close_ int lock = lock_of(dir, en->d_name);
        if (lock < 0 || fstat(lock, &st) < 0)
            continue;
        uint64_t used = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
        if (!all && used + age > now_real())
            continue;
        collect(dir, en->d_name, en->d_name, 1, &l);
        ret->files += l.n;
        ret->bytes += l.bytes;
        list_done(&l);
        if (!dry)
            (void)fs_rmtree(dir, en->d_name);
    }
    closedir(d);
}

int jobcache_prune(struct store *s, uint64_t max_bytes, uint64_t max_age_ns, bool all, bool dry, struct jobcache_usage *ret) {
    struct list l = {0};
    struct jobcache_usage res = {0};
    _cleanup_close_ int dir = top(s);
    if (ret)
        *ret = res;
    if (dir < 0)
        return dir == -ENOENT ? 0 : dir;
    prune_old(dir, max_age_ns ? max_age_ns : JOBCACHE_MAX_AGE_NS, all, dry, &res);
    if (!all) {
        collect(dir, ".", "", 0, &l);
        qsort(l.v, l.n, sizeof *l.v, by_age);
        uint64_t left = l.bytes - (dry ? MIN(l.bytes, res.bytes) : 0), most = max_bytes ? max_bytes : JOBCACHE_MAX_BYTES;
        for (size_t i = 0; i < l.n && left > most; i++) {
            _cleanup_close_ int lock = lock_of(dir, l.v[i].path);
            if (lock < 0 || (!dry && unlinkat(dir, l.v[i].path, 0) < 0))
                continue;
            left -= l.v[i].size;
            res.files++;
            res.bytes += l.v[i].size;
        }
        list_done(&l);
    }
    if (ret)
        *ret = res;
    return 0;
}
