/* Mounts into the living box: a detached mount comes from outside (a bind, an overlay) or is made
 * here (tmpfs), and is moved onto its target, which is resolved inside the root and made when it
 * is not there. How many parts were made is told, so that they can be taken away again. */
#include "box/init/init.h"

#include "core/fs.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int open_path(const char *path, int flags) {
    return fs_open_in(init_state.rootfd, path, flags | O_PATH, 0, 0);
}

/* The folder that holds path's last part; *ret_name points into buf. */
static int parent_of(const char *path, char buf[4096], const char **ret_name, int *ret_made) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 0 || n >= 4096)
        return -EINVAL;
    memcpy(buf, path, n);
    buf[n] = 0;
    char *slash = strrchr(buf, '/');
    const char *name = slash ? slash + 1 : buf;
    if (!*name || streq(name, ".") || streq(name, ".."))
        return -EINVAL;
    *ret_name = name;
    if (!slash)
        return mkdirs_in("/", 0755, 0, 0, ret_made);
    *slash = 0;
    return mkdirs_in(buf, 0755, 0, 0, ret_made);
}

/* Where path leads when its last part is a link, perhaps to nothing yet (an image's
 * /etc/resolv.conf often is). *path is left as it is when it is none. */
static int last_links(const char **path, char to[4096]) {
    char dir[4096], link[4096], next[4096];
    for (int turns = 0; turns < 16; turns++) {
        size_t n = strlen(*path);
        while (n > 1 && (*path)[n - 1] == '/')
            n--;
        if (n == 0 || n >= sizeof dir)
            return -ENAMETOOLONG;
        memcpy(dir, *path, n);
        dir[n] = 0;
        char *slash = strrchr(dir, '/');
        const char *name = slash ? slash + 1 : dir;
        if (slash)
            *slash = 0;
        int at = open_path(slash && *dir ? dir : "/", O_DIRECTORY);
        if (at < 0)
            return 0;
        ssize_t k = *name ? readlinkat(at, name, link, sizeof link - 1) : -1;
        close(at);
        if (k < 0)
            return 0;
        link[k] = 0;
        int len = link[0] == '/' ? snprintf(next, sizeof next, "%s", link)
                                 : snprintf(next, sizeof next, "%s/%s", slash ? dir : "", link);
        if (len >= (int)sizeof next)
            return -ENAMETOOLONG;
        memcpy(to, next, sizeof next);
        *path = to;
    }
    return -ELOOP;
}

static int target_open(const char *path, bool dir, const struct box_req *h, int *ret_made) {
    char buf[4096], led[4096];
    const char *name;
    mode_t mode = h->num[0] ? (mode_t)h->num[0] & 07777 : dir ? 0755 : 0644;
    int fd = open_path(path, 0);
    if (fd != -ENOENT)
        return fd;
    int l = last_links(&path, led);
    if (l < 0)
        return l;
    if (dir)
        return mkdirs_in(path, mode, (uid_t)h->num[1], (gid_t)h->num[2], ret_made);
    int at = parent_of(path, buf, &name, ret_made);
    if (at < 0)
        return at;
    int f = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    int r = f < 0 ? -errno : 0;
    if (f >= 0) {
        if (fchown(f, (uid_t)h->num[1], (gid_t)h->num[2]) < 0)
            r = -errno;
        close(f);
        (*ret_made)++;
    }
    close(at);
    return r < 0 ? r : open_path(path, 0);
}

static uint64_t attrs(uint32_t flags) {
    return (flags & BOX_F_RDONLY ? MOUNT_ATTR_RDONLY : 0) |
           (flags & BOX_F_NOSUID ? MOUNT_ATTR_NOSUID : 0) |
           (flags & BOX_F_NODEV ? MOUNT_ATTR_NODEV : 0) |
           (flags & BOX_F_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
}

/* Moves a detached mount onto path. Returns the number of parts made. */
static int attach(int tree, const char *path, const struct box_req *h) {
    struct stat st;
    struct mount_attr a = {.attr_set = attrs(h->flags)};
    int made = 0, r = 0;
    if (fstat(tree, &st) < 0)
        return -errno;
    if (a.attr_set &&
        syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof a) < 0)
        return -errno;
    int target = target_open(path, S_ISDIR(st.st_mode), h, &made);
    if (target < 0)
        return target;
    if (syscall(SYS_move_mount, tree, "", target, "",
                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        r = -errno;
    close(target);
    return r < 0 ? r : made;
}

/* options: "key=value,key=value" as the file system wants them. */
static int tmpfs_new(char *options) {
    long fs = syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0)
        return -errno;
    for (char *o; (o = strsep(&options, ","));) {
        char *eq = strchr(o, '=');
        if (!eq)
            continue;
        *eq = 0;
        if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, o, eq + 1, 0) < 0)
            goto fail;
    }
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        goto fail;
    long m = syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    if (m < 0)
        goto fail;
    close((int)fs);
    return (int)m;
fail:;
    int r = -errno;
    close((int)fs);
    return r;
}

/* Detaches the mount; with BOX_F_STUB the num[0] last parts of the path, which were made for it,
 * are removed as long as they are empty. */
static int detach(struct request *q) {
    char buf[4096], led[4096];
    const char *path = q->str1;
    int r = last_links(&path, led);
    int fd = r < 0 ? r : open_path(path, O_NOFOLLOW);
    if (fd < 0)
        return fd;
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (umount2(self, MNT_DETACH) < 0)
        r = -errno;
    close(fd);
    if (r < 0 || !(q->h.flags & BOX_F_STUB))
        return r;
    snprintf(buf, sizeof buf, "%s", path);
    for (int64_t i = 0; i < q->h.num[0]; i++) {
        size_t n = strlen(buf);
        while (n > 1 && buf[n - 1] == '/')
            buf[--n] = 0;
        char *slash = strrchr(buf, '/');
        if (!slash || !slash[1])
            break;
        *slash = 0;
        int at = open_path(*buf ? buf : "/", O_DIRECTORY);
        struct stat st;
        if (at < 0)
            break;
        bool gone = fstatat(at, slash + 1, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                    (S_ISDIR(st.st_mode) ? unlinkat(at, slash + 1, AT_REMOVEDIR) == 0
                                         : S_ISREG(st.st_mode) && st.st_size == 0 &&
                                               unlinkat(at, slash + 1, 0) == 0);
        close(at);
        if (!gone)
            break;
    }
    return 0;
}

int mounts_handle(struct request *q) {
    int r;
    switch (q->h.kind) {
    case BOX_MOUNT:
        r = q->n_fds < 2 ? -EBADF : attach(q->fds[1], q->str1, &q->h);
        break;
    case BOX_NEW_TMPFS: {
        int m = tmpfs_new((char *)(uintptr_t)q->str2);
        r = m < 0 ? m : attach(m, q->str1, &q->h);
        if (m >= 0)
            close(m);
        break;
    }
    case BOX_UMOUNT:
        r = detach(q);
        break;
    case BOX_ROOT_RO: {
        struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY};
        r = syscall(SYS_mount_setattr, init_state.rootfd, "", AT_EMPTY_PATH, &a, sizeof a) < 0
                ? -errno
                : 0;
        break;
    }
    default:
        r = -ENOSYS;
    }
    return reply_done(q->fds[0], r);
}

/* What docker hides (OCI maskedPaths) and makes read-only. */
static const char *const hidden[] = {"acpi",        "asound",        "kcore",
                                     "keys",        "latency_stats", "timer_list",
                                     "timer_stats", "sched_debug",   "scsi"};
static const char *const frozen[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};

int proc_mount(bool privileged) {
    char path[64];
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return -errno;
    if (privileged)
        return 0;
    for (size_t i = 0; i < ELEMENTS(hidden); i++) {
        struct stat st;
        snprintf(path, sizeof path, "/proc/%s", hidden[i]);
        if (stat(path, &st) < 0)
            continue;
        int r = S_ISDIR(st.st_mode) ? mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0")
                                    : mount("/dev/null", path, NULL, MS_BIND, NULL);
        if (r < 0)
            return -errno;
    }
    for (size_t i = 0; i < ELEMENTS(frozen); i++) {
        snprintf(path, sizeof path, "/proc/%s", frozen[i]);
        if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0) {
            if (errno == ENOENT)
                continue;
            return -errno;
        }
        if (mount(NULL, path, NULL,
                  MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
            return -errno;
    }
    return 0;
}
