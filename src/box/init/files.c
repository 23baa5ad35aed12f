/* Files of the box for the main process: everything is resolved with openat2 inside the box's
 * root. These run in a forked child, since an open can block. */
#include "box/init/init.h"

#include "core/fs.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int open_in(int dir, const char *path, int flags, mode_t mode) {
    return fs_open_in(dir, path, flags, mode & 07777, 0);
}

/* One part below the root at a time, each resolved anew from the root (a part may be a symlink). */
int mkdirs_in(const char *path, mode_t mode, uid_t uid, gid_t gid, int *ret_made) {
    char part[4096];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return -ENAMETOOLONG;
    int at = open_in(init_state.rootfd, ".", O_PATH | O_DIRECTORY, 0);
    for (size_t i = 0; i < n && at >= 0;) {
        while (path[i] == '/')
            i++;
        size_t end = i;
        while (end < n && path[end] != '/')
            end++;
        if (end == i)
            break;
        memcpy(part, path, end);
        part[end] = 0;
        int next = open_in(init_state.rootfd, part, O_PATH | O_DIRECTORY, 0);
        if (next == -ENOENT) {
            const char *name = part + i;
            if (mkdirat(at, name, 0700) < 0 && errno != EEXIST) {
                next = -errno;
            } else {
                next = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (next < 0)
                    next = -errno;
                else if (fchownat(at, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ||
                         fchmodat(at, name, mode & 07777, 0) < 0)
                    next = (close(next), -errno);
                else
                    (*ret_made)++;
            }
        }
        close(at);
        at = next;
        i = end;
    }
    return at;
}

/* A FIFO that a step has put there must not hang whoever opens it: never a blocking open. */
static int open_file(const char *path, int flags, mode_t mode) {
    struct stat st;
    if (flags & O_PATH)
        return open_in(init_state.rootfd, path, flags, mode);
    int fd = open_in(init_state.rootfd, path, flags | O_NONBLOCK | O_NOCTTY, mode);
    if (fd >= 0 && !(flags & O_NONBLOCK) && fstat(fd, &st) == 0 &&
        (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        fcntl(fd, F_SETFL, flags & (O_APPEND | O_DIRECT | O_NOATIME));
    return fd;
}

static int open_tree_of(const char *path) {
    int fd = open_in(init_state.rootfd, path, O_PATH, 0);
    if (fd < 0)
        return fd;
    long tree = syscall(SYS_open_tree, fd, "",
                        AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    int r = tree < 0 ? -errno : (int)tree;
    close(fd);
    if (r >= 0) {
        /* Not a peer of this box's mounts: what is mounted there shall not turn up here. */
        struct mount_attr a = {.propagation = MS_PRIVATE};
        if (syscall(SYS_mount_setattr, r, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof a) < 0)
            r = (close(r), -errno);
    }
    return r;
}

/* A new file beside the old one, then a rename: a program that reads never sees half of it. */
static int write_file(struct request *q) {
    char dir[4096], tmp[64], chunk[65536];
    size_t n = strlen(q->str1);
    int made = 0, r = 0;
    if (q->n_fds < 2 || n == 0 || n >= sizeof dir || q->str1[n - 1] == '/')
        return -EINVAL;
    memcpy(dir, q->str1, n + 1);
    char *slash = strrchr(dir, '/');
    const char *name = slash ? q->str1 + (slash - dir) + 1 : q->str1;
    if (slash)
        *slash = 0;
    int at =
        mkdirs_in(slash && *dir ? dir : "/", 0755, (uid_t)q->h.num[1], (gid_t)q->h.num[2], &made);
    if (at < 0)
        return at;
    snprintf(tmp, sizeof tmp, ".slipway-%d", (int)getpid());
    int fd = openat(at, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return close(at), -errno;
    for (off_t off = 0; r == 0;) {
        ssize_t k = pread(q->fds[1], chunk, sizeof chunk, off);
        if (k <= 0) {
            r = k < 0 ? -errno : 0;
            break;
        }
        for (ssize_t done = 0; done < k && r == 0;) {
            ssize_t w = write(fd, chunk + done, (size_t)(k - done));
            if (w < 0)
                r = -errno;
            else
                done += w;
        }
        off += k;
    }
    if (r == 0 && (fchown(fd, (uid_t)q->h.num[1], (gid_t)q->h.num[2]) < 0 ||
                   fchmod(fd, (mode_t)q->h.num[0] & 07777) < 0 || renameat(at, tmp, at, name) < 0))
        r = -errno;
    if (r < 0)
        unlinkat(at, tmp, 0);
    close(fd);
    close(at);
    return r;
}

void probe_handle(struct request *q) {
    char text[500] = "";
    size_t n = MIN((size_t)q->h.n_argv, sizeof text - 1);
    for (size_t i = 0; i < n; i++) {
        int fd = open_in(init_state.rootfd, q->argv[i], O_PATH, 0);
        text[i] = fd < 0 ? '0' : '1';
        fd_close(fd);
    }
    reply_send(q->fds[0], BOX_DONE, 0, 0, text, -1);
}

int files_handle(struct request *q) {
    int made = 0, fd = -1;
    switch (q->h.kind) {
    case BOX_OPEN:
        fd = open_file(q->str1, (int)q->h.num[0], (mode_t)q->h.num[1]);
        break;
    case BOX_MKDIRS:
        fd = mkdirs_in(q->str1, (mode_t)q->h.num[0], (uid_t)q->h.num[1], (gid_t)q->h.num[2], &made);
        if (fd >= 0)
            return close(fd), reply_done(q->fds[0], made);
        break;
    case BOX_OPEN_TREE:
        fd = open_tree_of(q->str1);
        break;
    case BOX_WRITE:
        return reply_done(q->fds[0], write_file(q));
    default:
        fd = -ENOSYS;
    }
    if (fd < 0)
        return reply_done(q->fds[0], fd);
    return reply_send(q->fds[0], BOX_DONE, 0, 0, NULL, fd);
}
