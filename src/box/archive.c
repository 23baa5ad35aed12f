/* Tar streams out of and into a box (`docker cp`): the helper op "box-tar". It is the namespace's
 * root with the box's root folder as descriptor 3 and resolves every name inside it, so it sees
 * the box's own mounts and cannot be led out of them.
 *   box-tar get PATH   the tree at PATH to stdout, under its base name
 *   box-tar put PATH   stdin into the folder PATH
 * What changes while it is read: a file that shrinks is an error, one that grows is cut. */
#include "base/tar.h"
#include "box/impl.h"
#include "box/ops.h"
#include "core/fs.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define ROOT_FD 3
#define MAX_DEPTH 256

static int out_write(void *arg, const void *p, size_t n) {
    return fd_write_all(1, p, n);
}

static ssize_t in_read(void *arg, void *p, size_t n) {
    ssize_t k;
    do
        k = read(0, p, n);
    while (k < 0 && errno == EINTR);
    return k < 0 ? -errno : k;
}

/* --- out ------------------------------------------------------------------------------------ */

static int get_entry(struct tar_writer *t, int dir, const char *name, const char *path, int depth,
                     struct err *e);

static int get_dir(struct tar_writer *t, int dir, const char *name, const char *path, int depth,
                   struct err *e) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    int r = 0;
    if (!d) {
        r = err_errno(e, -errno, "read %s", path);
        fd_close(fd);
        return r;
    }
    for (struct dirent *de; r == 0 && (de = readdir(d));) {
        if (streq(de->d_name, ".") || streq(de->d_name, ".."))
            continue;
        _cleanup_free_ char *sub = xasprintf("%s/%s", path, de->d_name);
        r = get_entry(t, dirfd(d), de->d_name, sub, depth + 1, e);
    }
    closedir(d);
    return r;
}

static int get_entry(struct tar_writer *t, int dir, const char *name, const char *path, int depth,
                     struct err *e) {
    struct stat st;
    char link[4096];
    _cleanup_close_ int fd = -1;
    unsigned char caps[64];
    if (depth > MAX_DEPTH)
        return err_set(e, ERR_LIMIT, -ELOOP, "%s: folders nested too deeply", path);
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(e, -errno, "%s", path); /* gone meanwhile */
    struct tar_entry en = {.path = path,
                           .mode = st.st_mode & 07777,
                           .uid = st.st_uid,
                           .gid = st.st_gid,
                           .mtime = st.st_mtim.tv_sec,
                           .mtime_ns = (uint32_t)st.st_mtim.tv_nsec};
    switch (st.st_mode & S_IFMT) {
    case S_IFREG:
        en.type = TAR_FILE;
        fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
            return err_errno(e, fd < 0 ? -errno : -ESTALE, "open %s", path);
        en.size = (uint64_t)st.st_size;
        ssize_t k = fgetxattr(fd, "security.capability", caps, sizeof caps);
        if (k > 0)
            en.xattrs[en.n_xattrs++] =
                (struct tar_xattr){"security.capability", sv_n((char *)caps, (size_t)k)};
        break;
    case S_IFDIR:
        en.type = TAR_DIR;
        break;
    case S_IFLNK: {
        ssize_t n = readlinkat(dir, name, link, sizeof link - 1);
        if (n < 0)
            return err_errno(e, -errno, "%s", path);
        link[n] = 0;
        en.type = TAR_SYMLINK;
        en.link = link;
        break;
    }
    case S_IFIFO:
        en.type = TAR_FIFO;
        break;
    default:
        return 0; /* sockets and devices do not travel */
    }
    int r = tar_put(t, &en);
    if (r == 0 && fd >= 0)
        r = tar_put_fd(t, fd, en.size);
    if (r < 0)
        return err_errno(e, r, "%s", path);
    return en.type == TAR_DIR ? get_dir(t, dir, name, path, depth, e) : 0;
}

static int get(const char *path, struct err *e) {
    _cleanup_free_ char *clean = path_clean(path);
    const char *name = ".";
    _cleanup_close_ int dir = streq(clean, "/") || streq(clean, ".")
                                  ? fcntl(ROOT_FD, F_DUPFD_CLOEXEC, 3)
                                  : fs_parent_in(ROOT_FD, clean, false, &name);
    struct stat st;
    if (dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set(e, ERR_NOTFOUND, dir < 0 ? dir : -errno, "%s: no such file in the box",
                       path);
    struct tar_writer *t = tar_writer_new(out_write, NULL);
    int r = get_entry(t, dir, name, name, 0, e);
    if (r == 0)
        r = tar_end(t);
    tar_writer_free(t);
    return r;
}

/* --- in ------------------------------------------------------------------------------------- */

static int put_data(struct tar_reader *t, int fd) {
    static char data[1 << 16];
    for (;;) {
        ssize_t k = tar_data(t, data, sizeof data);
        if (k <= 0)
            return (int)k;
        int r = fd_write_all(fd, data, (size_t)k);
        if (r < 0)
            return r;
    }
}

static int put_attrs(int dir, const char *name, const struct tar_entry *en) {
    struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT},
                             {.tv_sec = en->mtime, .tv_nsec = (long)en->mtime_ns}};
    if (en->uid >= ID_COUNT || en->gid >= ID_COUNT)
        return -EOVERFLOW;
    if (fchownat(dir, name, (uid_t)en->uid, (gid_t)en->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (en->type != TAR_SYMLINK && fchmodat(dir, name, en->mode & 07777, 0) < 0)
        return -errno;
    return utimensat(dir, name, ts, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int put_entry(struct tar_reader *t, const char *dest, const struct tar_entry *en) {
    _cleanup_free_ char *rel = path_clean(en->path),
                        *full = path_join(dest, startswith(rel, "/") ? rel + 1 : rel);
    const char *name;
    struct stat st;
    int r = 0;
    if (startswith(rel, "..") && (rel[2] == 0 || rel[2] == '/'))
        return -EINVAL;
    if (streq(rel, ".") || streq(rel, "/"))
        return 0;
    _cleanup_close_ int dir = fs_parent_in(ROOT_FD, full, true, &name);
    if (dir < 0)
        return dir;
    bool there = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && !(S_ISDIR(st.st_mode) && en->type == TAR_DIR)) {
        if (S_ISDIR(st.st_mode))
            return -EISDIR; /* as docker refuses it */
        if (unlinkat(dir, name, 0) < 0)
            return -errno;
    }
    switch (en->type) {
    case TAR_DIR:
        if (!there && mkdirat(dir, name, 0700) < 0)
            return -errno;
        break;
    case TAR_FILE: {
        _cleanup_close_ int fd =
            openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            return -errno;
        r = put_data(t, fd);
        break;
    }
    case TAR_SYMLINK:
        if (symlinkat(en->link, dir, name) < 0)
            return -errno;
        break;
    case TAR_HARDLINK: {
        _cleanup_free_ char *old = path_join(dest, en->link[0] == '/' ? en->link + 1 : en->link);
        const char *old_name;
        _cleanup_close_ int from = fs_parent_in(ROOT_FD, old, false, &old_name);
        if (from < 0 || linkat(from, old_name, dir, name, 0) < 0)
            return from < 0 ? from : -errno;
        return 0;
    }
    case TAR_FIFO:
        if (mkfifoat(dir, name, 0600) < 0)
            return -errno;
        break;
    default:
        return 0; /* devices cannot be made in a user namespace */
    }
    return r < 0 ? r : put_attrs(dir, name, en);
}

static int put(const char *path, struct err *e) {
    const struct tar_entry *en;
    _cleanup_close_ int dir = fs_open_in(ROOT_FD, path, O_PATH | O_DIRECTORY, 0, 0);
    if (dir < 0)
        return err_set(e, ERR_NOTFOUND, dir, "%s in the box: %s", path, strerror(-dir));
    struct tar_reader *t = tar_reader_new(in_read, NULL);
    int r;
    while ((r = tar_next(t, &en, e)) > 0) {
        r = put_entry(t, path, en);
        if (r < 0) {
            err_errno(e, r, "%s", en->path);
            break;
        }
    }
    tar_reader_free(t);
    return r;
}

int op_box_tar(int argc, char **argv) {
    struct err e = {0};
    if (argc != 3)
        return 2;
    fcntl(ROOT_FD, F_SETFD, FD_CLOEXEC);
    int r = streq(argv[1], "get") ? get(argv[2], &e) : put(argv[2], &e);
    return r < 0 ? ns_fail(&e) : 0;
}

/* --- from the main process ------------------------------------------------------------------ */

static int archive(struct box *b, const char *verb, const char *path, int in, int out,
                   struct err *e) {
    int pe[2];
    pid_t pid;
    _cleanup_buf_ struct buf said = BUF_SMALL;
    _cleanup_close_ int root = box_open(b, "/", O_PATH | O_DIRECTORY, 0, e);
    if (root < 0)
        return root;
    if (pipe2(pe, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    const char *argv[] = {"box-tar", verb, path, NULL};
    int r = ns_spawn(b->keeper, argv, in, out, pe[1], &root, 1, &pid, e);
    close(pe[1]);
    if (r == 0) {
        (void)fs_read_fd(pe[0], &said);
        int status = proc_wait(pid);
        r = status == 0 ? 0 : ns_helper_error("box-tar", status, buf_sv(&said), e);
    }
    close(pe[0]);
    return r;
}

int box_get_tar(struct box *b, const char *path, int out_fd, struct err *e) {
    return archive(b, "get", path, -1, out_fd, e);
}

int box_put_tar(struct box *b, const char *path, int in_fd, struct err *e) {
    return archive(b, "put", path, in_fd, -1, e);
}
