/* Looking at a source folder: every entry with its stat, nothing read. Either a walk (sorted, a
 * folder before what is in it) or a given list of paths, whose parents are added. */
#include "store/index.h"
#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"

#include <dirent.h>
#include <linux/openat2.h>

#define MAX_DEPTH 200
#define MAX_ENTRIES 8000000u

static uint64_t ts(struct timespec t) {
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A file that changed so shortly before the scan that a later change could carry the same time
 * (the kernel's clock ticks at 4 to 10 ms; some file systems know seconds only) is never taken as
 * unchanged. */
void rec_stat(struct index_rec *r, const struct stat *st, uint64_t start_ns) {
    uint64_t margin =
        st->st_ctim.tv_nsec == 0 && st->st_mtim.tv_nsec == 0 ? 2000000000u : 20000000u;
    r->size = (uint64_t)st->st_size;
    r->mtime = ts(st->st_mtim);
    r->ctime = ts(st->st_ctim);
    r->ino = r->ctime + margin >= start_ns ? 0 : (uint64_t)st->st_ino;
    r->dev = (uint64_t)st->st_dev;
    r->mode = st->st_mode;
}

static int add(struct scan *sc, struct sv path, const struct stat *st) {
    if (sc->n >= MAX_ENTRIES)
        return err_set(sc->e, ERR_LIMIT, -EFBIG, "more than %u files", MAX_ENTRIES);
    GROW(sc->recs, sc->cap, sc->n + 1);
    struct index_rec *r = &sc->recs[sc->n];
    memset(r, 0, sizeof *r);
    rec_stat(r, st, sc->start_ns);
    r->path = (uint32_t)sc->strings.n;
    r->path_len = (uint32_t)path.n;
    buf_addsv(&sc->strings, path);
    buf_addc(&sc->strings, 0);
    if (!buf_ok(&sc->strings))
        return err_set(sc->e, ERR_LIMIT, -EFBIG, "too many files");
    sc->n++;
    if (!S_ISDIR(st->st_mode))
        sc->stats.files++;
    return 0;
}

static bool special(const struct stat *st) {
    return !S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && !S_ISLNK(st->st_mode);
}

static bool wanted(const struct scan *sc, const char *rel, bool is_dir) {
    return !sc->o->wanted || sc->o->wanted(rel, is_dir, sc->o->arg);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names of a folder, sorted. Takes fd. */
static int names_of(int fd, struct strv *names, int *ret_dirfd) {
    int keep = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    DIR *d = keep < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int r = -errno;
        fd_close(keep);
        close(fd);
        return r;
    }
    struct dirent *en;
    errno = 0;
    while ((en = readdir(d)))
        if (!streq(en->d_name, ".") && !streq(en->d_name, ".."))
            strv_add(names, en->d_name);
    int r = -errno;
    closedir(d);
    if (r < 0) {
        close(keep);
        return r;
    }
    if (names->n)
        qsort(names->v, names->n, sizeof *names->v, by_name);
    *ret_dirfd = keep;
    return 0;
}

static int walk(struct scan *sc, int fd, struct buf *rel, unsigned depth) {
    _cleanup_strv_ struct strv names = {0};
    _cleanup_close_ int dir = -1;
    size_t base = rel->n;
    int r = names_of(fd, &names, &dir);
    if (r < 0)
        return err_set(sc->e, ERR_USER, r, "cannot read %s: %s", base ? buf_str(rel) : "the folder",
                       strerror(-r));
    for (size_t i = 0; i < names.n && r == 0; i++) {
        struct stat st;
        if (base)
            buf_addc(rel, '/');
        buf_adds(rel, names.v[i]);
        if (!buf_ok(rel))
            return err_set(sc->e, ERR_LIMIT, -ENAMETOOLONG, "a path is too long");
        if (fstatat(dir, names.v[i], &st, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno != ENOENT)
                r = err_set(sc->e, ERR_USER, -errno, "cannot look at %s: %s", buf_str(rel),
                            strerror(errno));
        } else if (!wanted(sc, buf_str(rel), S_ISDIR(st.st_mode))) {
            ;
        } else if (special(&st)) {
            sc->stats.skipped_special++;
        } else {
            r = add(sc, buf_sv(rel), &st);
            if (r == 0 && S_ISDIR(st.st_mode)) {
                int sub = openat(dir, names.v[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (sub < 0 || depth >= MAX_DEPTH) {
                    int k = sub < 0 ? -errno : -ELOOP;
                    fd_close(sub);
                    r = err_set(sc->e, ERR_USER, k, "cannot read %s: %s", buf_str(rel),
                                strerror(-k));
                } else {
                    r = walk(sc, sub, rel, depth + 1);
                }
            }
        }
        buf_cut(rel, base, rel->n - base);
    }
    return r;
}

/* --- a given list ------------------------------------------------------------------------------
 */

struct list {
    struct scan *sc;
    int src, dir;   /* dir: of `dir_name` */
    char *dir_name; /* "" = src itself */
    struct map seen;
};

static bool plain(const char *path) {
    struct sv rest = sv_from(path), part;
    if (!path[0])
        return false;
    while (sv_split(&rest, '/', &part))
        if (!part.n || sv_eqs(part, ".") || sv_eqs(part, ".."))
            return false;
    return true;
}

static int open_beneath(int src, const char *path, int flags) {
    return fs_open_in(src, path, flags, 0,
                      RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

/* Records the folders above an entry that were not there yet. 1 when one of them is gone (or is
 * no folder any more): then the entry is gone too. */
static int parents(struct list *l, struct sv dir) {
    for (size_t i = 1; i <= dir.n; i++) {
        if (i < dir.n && dir.p[i] != '/')
            continue;
        struct sv part = sv_sub(dir, 0, i);
        if (map_has(&l->seen, part))
            continue;
        _cleanup_free_ char *name = sv_dup(part);
        struct stat st;
        _cleanup_close_ int fd = open_beneath(l->src, name, O_PATH | O_DIRECTORY);
        if (fd < 0)
            return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 1 : fd;
        if (fstat(fd, &st) < 0)
            return -errno;
        map_set(&l->seen, part, l);
        int r = add(l->sc, part, &st);
        if (r < 0)
            return r;
    }
    return 0;
}

static int list_one(struct list *l, const char *path) {
    struct stat st;
    if (!plain(path))
        return err_set(l->sc->e, ERR_USER, -EINVAL, "not a path inside the folder: %s", path);
    struct sv whole = sv_from(path);
    ssize_t slash = sv_rchr(whole, '/');
    struct sv dir = sv_sub(whole, 0, slash < 0 ? 0 : (size_t)slash);
    if (map_has(&l->seen, whole) || !wanted(l->sc, path, false))
        return 0;
    if (!l->dir_name || !sv_eqs(dir, l->dir_name)) {
        int r = parents(l, dir);
        if (r)
            return r < 0
                       ? err_set(l->sc->e, ERR_USER, r, "cannot look at %s: %s", path, strerror(-r))
                       : 0;
        free(l->dir_name);
        l->dir_name = sv_dup(dir);
        fd_close(l->dir);
        l->dir = open_beneath(l->src, dir.n ? l->dir_name : ".", O_PATH | O_DIRECTORY);
        if (l->dir < 0) {
            l->dir_name = (free(l->dir_name), NULL);
            return 0;
        }
    }
    if (fstatat(l->dir, path + (dir.n ? dir.n + 1 : 0), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0
                               : err_set(l->sc->e, ERR_USER, -errno, "cannot look at %s: %s", path,
                                         strerror(errno));
    if (special(&st)) {
        l->sc->stats.skipped_special++;
        return 0;
    }
    map_set(&l->seen, whole, l);
    return add(l->sc, whole, &st);
}

int tree_scan(struct scan *sc, int src) {
    int r = 0;
    sc->strings = BUF_MAX(1u << 30);
    sc->start_ns = now_real();
    if (sc->o->paths) {
        struct list l = {.sc = sc, .src = src, .dir = -1};
        for (size_t i = 0; i < sc->o->n_paths && r == 0; i++)
            r = list_one(&l, sc->o->paths[i]);
        fd_close(l.dir);
        free(l.dir_name);
        map_done(&l.seen);
        return r;
    }
    _cleanup_buf_ struct buf rel = BUF_MAX(16384);
    int fd = openat(src, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(sc->e, ERR_USER, -errno, "cannot read the folder: %s", strerror(errno));
    return walk(sc, fd, &rel, 0);
}

void scan_done(struct scan *sc) {
    free(sc->recs);
    buf_done(&sc->strings);
}
