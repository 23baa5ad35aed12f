/* Copying one tree into the upper folder of a layer.
 *
 * Three folders walk side by side: the source, the upper (made when it is not there) and what lies
 * below, only to know what is replaced. A file whose owner and mode stay as they are is hard-linked
 * (store folders are immutable), else cloned where the disk can, else copied. */
#include "build/copy_int.h"
#include "core/fs.h"

#include <dirent.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#define PLAIN (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
#define MAX_DEPTH 300 /* four descriptors for each level */

struct level {
    int src, up, lo; /* lo = -1: nothing below */
    bool fresh;      /* up was made by us: nothing of it has to go */
};

static int fail(struct err *e, int r, const char *rel) { return err_errno(e, r, "/%s", rel); }

static void note_time(struct copy_job *j, struct timespec t) {
    if (t.tv_sec > j->newest.tv_sec || (t.tv_sec == j->newest.tv_sec && t.tv_nsec > j->newest.tv_nsec))
        j->newest = t;
}

static void wanted_owner(const struct copy_job *j, const struct stat *st, uint32_t *uid, uint32_t *gid) {
    *uid = j->has_owner ? j->uid : j->keep_owner || j->moving ? st->st_uid : 0;
    *gid = j->has_owner ? j->gid : j->keep_owner || j->moving ? st->st_gid : 0;
}

static uint32_t wanted_mode(const struct copy_job *j, const struct stat *st) {
    uint32_t mode = st->st_mode & 07777;
    if (j->chmod)
        (void)chmod_parse(j->chmod, mode, S_ISDIR(st->st_mode), &mode);
    return mode;
}

static const char *link_seen(struct copy_job *j, const struct stat *st, const char *rel) {
    for (size_t i = 0; i < j->n_links; i++)
        if (j->links[i].ino == st->st_ino && j->links[i].dev == st->st_dev)
            return j->links[i].path;
    if (j->n_links < 10000) {
        GROW(j->links, j->cap_links, j->n_links + 1);
        j->links[j->n_links++] = (struct copy_link){st->st_dev, st->st_ino, xstrdup(rel)};
    }
    return NULL;
}

static int file_data(struct copy_job *j, int from, int to, uint64_t size) {
    if (size == 0)
        return 0;
    if (ioctl(to, FICLONE, from) == 0) {
        j->bytes += size;
        return 0;
    }
    uint64_t n = 0;
    int r = fd_copy(from, to, UINT64_MAX, &n);
    j->bytes += n;
    return r;
}

static int put_file(struct copy_job *j, const struct level *l, const char *sname, const char *dname,
                    const struct stat *st, const char *rel) {
    uint32_t uid, gid, mode = wanted_mode(j, st);
    wanted_owner(j, st, &uid, &gid);
    bool same = uid == st->st_uid && gid == st->st_gid && mode == (st->st_mode & 07777);
    if (same && !j->no_link) {
        if (linkat(l->src, sname, l->up, dname, 0) == 0)
            return 0;
        if (errno == EXDEV || errno == EPERM)
            j->no_link = true;
        else if (errno != EMLINK)
            return -errno;
    }
    if (st->st_nlink > 1 && j->keep_owner) {
        const char *first = link_seen(j, st, rel);
        if (first) {
            _cleanup_close_ int fd = fs_open_in(j->dst.up, first, O_PATH | O_NOFOLLOW, 0, PLAIN);
            char path[64];
            snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
            if (fd >= 0 && linkat(AT_FDCWD, path, l->up, dname, AT_SYMLINK_FOLLOW) == 0)
                return 0;
        }
    }
    _cleanup_close_ int from = openat(l->src, sname, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (from < 0)
        return -errno;
    _cleanup_close_ int to = openat(l->up, dname, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return -errno;
    int r = file_data(j, from, to, (uint64_t)st->st_size);
    if (r < 0)
        return r;
    if (fchown(to, uid, gid) < 0 || fchmod(to, mode) < 0)
        return -errno;
    view_copy_xattrs(from, to);
    struct timespec ts[2] = {st->st_mtim, st->st_mtim};
    return futimens(to, ts) < 0 ? -errno : 0;
}

static int put_other(struct copy_job *j, const struct level *l, const char *sname, const char *dname,
                     const struct stat *st) {
    uint32_t uid, gid;
    wanted_owner(j, st, &uid, &gid);
    if (S_ISLNK(st->st_mode)) {
        char target[4097];
        ssize_t n = readlinkat(l->src, sname, target, sizeof target - 1);
        if (n < 0)
            return -errno;
        target[n] = 0;
        if (symlinkat(target, l->up, dname) < 0)
            return -errno;
    } else if (S_ISFIFO(st->st_mode)) {
        if (mkfifoat(l->up, dname, wanted_mode(j, st)) < 0 || fchmodat(l->up, dname, wanted_mode(j, st), 0) < 0)
            return -errno;
    } else if (S_ISSOCK(st->st_mode) || (S_ISCHR(st->st_mode) && st->st_rdev == 0)) {
        return 0; /* no use in an image; a whiteout */
    } else if (mknodat(l->up, dname, st->st_mode, st->st_rdev) < 0) {
        return -errno;
    }
    if (fchownat(l->up, dname, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    struct timespec ts[2] = {st->st_mtim, st->st_mtim};
    return utimensat(l->up, dname, ts, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int put_entry(struct copy_job *j, const struct level *l, const char *sname, const char *dname,
                     struct buf *rel, struct buf *inner, unsigned depth, struct err *e);

/* Opens the folder dname in the upper, made when it is not there. */
static int dir_enter(const struct level *l, const char *dname, bool replace, struct level *in) {
    struct stat st;
    in->fresh = false;
    in->up = in->lo = -1;
    if (fstatat(l->up, dname, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!S_ISDIR(st.st_mode)) {
            if (!replace)
                return -ENOTDIR;
            if (unlinkat(l->up, dname, 0) < 0)
                return -errno;
            in->fresh = true;
        }
    } else if (errno != ENOENT) {
        return -errno;
    } else {
        in->fresh = true;
    }
    if (in->fresh) {
        if (mkdirat(l->up, dname, 0700) < 0)
            return -errno;
    }
    if (l->lo >= 0 && fstatat(l->lo, dname, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        !(S_ISCHR(st.st_mode) && st.st_rdev == 0)) {
        if (!S_ISDIR(st.st_mode) && !replace)
            return -ENOTDIR;
        if (S_ISDIR(st.st_mode))
            in->lo = openat(l->lo, dname, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    in->up = openat(l->up, dname, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return in->up < 0 ? -errno : 0;
}

static int dir_contents(struct copy_job *j, struct level *in, struct buf *rel, struct buf *inner,
                        unsigned depth, struct err *e) {
    int dup = openat(in->src, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dup < 0 ? NULL : fdopendir(dup);
    if (!d)
        return fail(e, -errno, buf_str(rel));
    int r = 0;
    for (struct dirent *de; r >= 0 && (de = readdir(d));) {
        if (streq(de->d_name, ".") || streq(de->d_name, ".."))
            continue;
        size_t rn = rel->n, in_n = inner->n;
        buf_addf(rel, "%s%s", rel->n ? "/" : "", de->d_name);
        buf_addf(inner, "%s%s", inner->n ? "/" : "", de->d_name);
        if (!buf_ok(rel) || !buf_ok(inner))
            r = err_set(e, ERR_LIMIT, -ENAMETOOLONG, "a path is too long");
        else
            r = put_entry(j, in, de->d_name, de->d_name, rel, inner, depth, e);
        buf_cut(rel, rn, rel->n - rn);
        buf_cut(inner, in_n, inner->n - in_n);
    }
    closedir(d);
    return r;
}

static int put_dir(struct copy_job *j, const struct level *l, const char *sname, const char *dname,
                   const struct stat *st, struct buf *rel, struct buf *inner, unsigned depth, struct err *e) {
    _cleanup_close_ int src = openat(l->src, sname, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (src < 0)
        return fail(e, -errno, buf_str(rel));
    struct level in = {.src = src};
    int r = dir_enter(l, dname, j->moving, &in);
    if (r == -ENOTDIR)
        r = err_set(e, ERR_FAILED, r, "cannot copy a folder over /%s, which is not one", buf_str(rel));
    else if (r < 0)
        r = fail(e, r, buf_str(rel));
    else
        r = dir_contents(j, &in, rel, inner, depth + 1, e);
    if (r >= 0) {
        uint32_t uid, gid;
        wanted_owner(j, st, &uid, &gid);
        struct timespec ts[2] = {st->st_mtim, st->st_mtim};
        view_copy_xattrs(src, in.up);
        if (fchown(in.up, uid, gid) < 0 || fchmod(in.up, wanted_mode(j, st)) < 0 || futimens(in.up, ts) < 0)
            r = fail(e, -errno, buf_str(rel));
    }
    fd_close(in.up);
    fd_close(in.lo);
    return r;
}

static int put_entry(struct copy_job *j, const struct level *l, const char *sname, const char *dname,
                     struct buf *rel, struct buf *inner, unsigned depth, struct err *e) {
    struct stat st, old;
    if (depth > MAX_DEPTH)
        return err_set(e, ERR_LIMIT, -ELOOP, "/%s: more than %d folders deep", buf_str(rel), MAX_DEPTH);
    if (fstatat(l->src, sname, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(e, -errno, buf_str(rel));
    bool excluded = j->exclude.n && ignore_match(&j->exclude, buf_str(inner));
    if (excluded && !(S_ISDIR(st.st_mode) && ignore_may_contain(&j->exclude, buf_str(inner))))
        return 0;
    note_time(j, st.st_mtim);
    if (S_ISDIR(st.st_mode))
        return put_dir(j, l, sname, dname, &st, rel, inner, depth, e);
    /* What is unpacked takes the place of what is there, whatever it is; a COPY is told. */
    if (!j->moving && l->lo >= 0 && fstatat(l->lo, dname, &old, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(old.st_mode))
        return err_set(e, ERR_FAILED, -EISDIR, "cannot replace the folder /%s with a file", buf_str(rel));
    if (!l->fresh && unlinkat(l->up, dname, 0) < 0 && errno != ENOENT) {
        if (errno != EISDIR)
            return fail(e, -errno, buf_str(rel));
        int gone = j->moving ? fs_rmtree(l->up, dname) : -EISDIR;
        if (!j->moving)
            return err_set(e, ERR_FAILED, -EISDIR, "cannot replace the folder /%s with a file", buf_str(rel));
        if (gone < 0)
            return fail(e, gone, buf_str(rel));
    }
    j->files++;
    int r = S_ISREG(st.st_mode) ? put_file(j, l, sname, dname, &st, buf_str(rel))
                                : put_other(j, l, sname, dname, &st);
    return r < 0 ? fail(e, r, buf_str(rel)) : 0;
}

static int open_plain(int root, const char *canon, int flags) {
    return root < 0 ? -ENOENT : fs_open_in(root, *canon ? canon : ".", flags, 0, PLAIN);
}

/* Parents of a canonical path: "" for the root. */
static char *parent_of(const char *canon) {
    char *d = path_dir(canon);
    if (streq(d, ".") || streq(d, "/"))
        d[0] = 0;
    return d;
}

int copy_put(struct copy_job *j, const struct view *src, const char *path, const char *dest, struct err *e) {
    _cleanup_free_ char *sdir = parent_of(path), *ddir = parent_of(dest);
    struct view_owner o = {j->has_owner ? j->uid : 0, j->has_owner ? j->gid : 0};
    int r = view_mkdirs(&j->dst, ddir, &o, &j->times, e);
    if (r < 0)
        return r;
    _cleanup_close_ int sfd = open_plain(src->lo, sdir, O_RDONLY | O_DIRECTORY);
    _cleanup_close_ int up = open_plain(j->dst.up, ddir, O_RDONLY | O_DIRECTORY);
    _cleanup_close_ int lo = open_plain(j->dst.lo, ddir, O_PATH | O_DIRECTORY);
    if (sfd < 0 || up < 0)
        return fail(e, sfd < 0 ? sfd : up, dest);
    struct level l = {.src = sfd, .up = up, .lo = lo < 0 ? -1 : lo};
    _cleanup_buf_ struct buf rel = BUF_MAX(16384), inner = BUF_MAX(16384);
    buf_adds(&rel, dest);
    buf_adds(&inner, path_base(path));
    return put_entry(j, &l, path_base(path), path_base(dest), &rel, &inner, 0, e);
}

int copy_put_contents(struct copy_job *j, const struct view *src, const char *path, const char *dest,
                      struct err *e) {
    struct view_owner o = {j->has_owner ? j->uid : 0, j->has_owner ? j->gid : 0};
    struct stat st, old;
    bool existed = !*dest || view_stat(&j->dst, dest, &old, NULL) == 0;
    int r = view_mkdirs(&j->dst, dest, &o, &j->times, e);
    if (r < 0)
        return r;
    _cleanup_close_ int sfd = open_plain(src->lo, path, O_RDONLY | O_DIRECTORY);
    _cleanup_close_ int up = open_plain(j->dst.up, dest, O_RDONLY | O_DIRECTORY);
    _cleanup_close_ int lo = open_plain(j->dst.lo, dest, O_PATH | O_DIRECTORY);
    if (sfd < 0 || up < 0 || fstat(sfd, &st) < 0)
        return fail(e, sfd < 0 ? sfd : up < 0 ? up : -errno, dest);
    struct level l = {.src = sfd, .up = up, .lo = lo < 0 ? -1 : lo};
    _cleanup_buf_ struct buf rel = BUF_MAX(16384), inner = BUF_MAX(16384);
    buf_adds(&rel, dest);
    r = dir_contents(j, &l, &rel, &inner, 1, e);
    if (r < 0 || existed)
        return r;
    /* A destination that is new looks like the source. */
    uint32_t uid, gid;
    wanted_owner(j, &st, &uid, &gid);
    struct timespec ts[2] = {st.st_mtim, st.st_mtim};
    note_time(j, st.st_mtim);
    view_copy_xattrs(sfd, up);
    if (fchown(up, uid, gid) < 0 || fchmod(up, wanted_mode(j, &st)) < 0 || futimens(up, ts) < 0)
        return fail(e, -errno, dest);
    for (size_t i = 0; i < j->times.n; i++)
        if (streq(j->times.items[i].path, dest)) {
            j->times.items[i].at = st.st_mtim;
            j->times.items[i].made = false;
        }
    return 0;
}
