/* Files of a box and mounts into it, from the main process. */
#include "box/impl.h"
#include "core/fs.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int box_open(struct box *b, const char *path, int flags, mode_t mode, struct err *e) {
    struct box_req h = {.kind = BOX_OPEN, .num = {flags & ~O_CLOEXEC, mode}};
    int fd = -1;
    int r = request_ask(b->ctl, &h, path, NULL, NULL, 0, &fd);
    if (r < 0)
        return err_set(e, r == -ENOENT ? ERR_NOTFOUND : ERR_INTERNAL, r, "%s in box %s: %s", path,
                       b->name, strerror(-r));
    return fd;
}

int box_mkdirs(struct box *b, const char *path, mode_t mode, uint32_t uid, uint32_t gid,
               struct err *e) {
    struct box_req h = {.kind = BOX_MKDIRS, .num = {mode, uid, gid}};
    int r = request_ask(b->ctl, &h, path, NULL, NULL, 0, NULL);
    return r < 0 ? err_errno(e, r, "make %s in box %s", path, b->name) : 0;
}

int box_write_file(struct box *b, const char *path, struct sv data, mode_t mode, uint32_t uid,
                   uint32_t gid, struct err *e) {
    struct box_req h = {.kind = BOX_WRITE, .num = {mode, uid, gid}};
    int r;
    _cleanup_close_ int mem = memfd_with("file", data.p, data.n);
    if (mem < 0)
        return err_errno(e, mem, "write %s", path);
    r = request_ask(b->ctl, &h, path, NULL, &mem, 1, NULL);
    return r < 0 ? err_errno(e, r, "write %s in box %s", path, b->name) : 0;
}

int box_probe(struct box *b, const char *const *paths, size_t n, char *ret, struct err *e) {
    struct box_req h = {.kind = BOX_PROBE};
    struct box_rep m;
    if (n > BOX_PROBE_MAX)
        return err_set(e, ERR_INTERNAL, -E2BIG, "too many paths at once");
    _cleanup_free_ const char **argv = xcalloc(n + 1, sizeof *argv);
    memcpy(argv, paths, n * sizeof *argv);
    _cleanup_close_ int sock = request_send(b->ctl, &h, argv, NULL, NULL, NULL, NULL, 0);
    int r = sock < 0 ? sock : reply_recv(sock, &m, NULL, 0);
    if (r >= 0 && (m.value < 0 || strlen(m.text) != n))
        r = m.value < 0 ? m.value : -EBADMSG;
    if (r < 0)
        return err_errno(e, r, "look into box %s", b->name);
    memcpy(ret, m.text, n);
    return 0;
}

int box_read_file(struct box *b, const char *path, struct buf *out, struct err *e) {
    struct stat st;
    _cleanup_close_ int fd = box_open(b, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, e);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_USER, -EINVAL, "%s in box %s is not a regular file", path, b->name);
    int r = fs_read_fd(fd, out);
    return r < 0 ? err_errno(e, r, "read %s in box %s", path, b->name) : 0;
}

int box_open_tree(struct box *b, const char *path, struct err *e) {
    struct box_req h = {.kind = BOX_OPEN_TREE};
    int fd = -1;
    int r = request_ask(b->ctl, &h, path, NULL, NULL, 0, &fd);
    return r < 0 ? err_errno(e, r, "%s in box %s", path, b->name) : fd;
}

/* --- mounts --------------------------------------------------------------------------------- */

static void stub_add(struct box *b, const char *target, int made) {
    pthread_mutex_lock(&b->lock);
    GROW(b->stubs, b->cap_stubs, b->n_stubs + 1);
    b->stubs[b->n_stubs++] = (struct stub){xstrdup(target), made};
    pthread_mutex_unlock(&b->lock);
}

static int attached(struct box *b, const char *target, int r, struct err *e) {
    if (r < 0)
        return err_set(e, ERR_INTERNAL, r, "mount on %s in box %s: %s", target, b->name,
                       strerror(-r));
    stub_add(b, target, r);
    return 0;
}

static int attach(struct box *b, const char *target, int tree, struct box_req *h, const char *opt,
                  struct err *e) {
    if (!b->starting)
        return attached(b, target, request_ask(b->ctl, h, target, opt, &tree, tree >= 0, NULL), e);
    int sock = request_send(b->ctl, h, NULL, NULL, target, opt, &tree, tree >= 0);
    if (sock < 0)
        return attached(b, target, sock, e);
    GROW(b->deferred, b->cap_deferred, b->n_deferred + 1);
    b->deferred[b->n_deferred++] = (struct deferred){sock, xstrdup(target)};
    return 0;
}

int box_attach_collect(struct box *b, struct err *e) {
    int r = 0;
    for (size_t i = 0; i < b->n_deferred; i++) {
        struct deferred *d = &b->deferred[i];
        struct box_rep m;
        if (r == 0) {
            r = reply_recv(d->sock, &m, NULL, 0);
            r = attached(b, d->target, r < 0 ? r : m.value, e);
        }
        fd_close(d->sock);
        free(d->target);
    }
    b->n_deferred = 0;
    free(b->deferred);
    b->deferred = NULL;
    b->cap_deferred = 0;
    return r;
}

int box_attach(struct box *b, const char *target, int tree, uint32_t flags, struct err *e) {
    struct box_req h = {.kind = BOX_MOUNT, .flags = flags};
    return attach(b, target, tree, &h, NULL, e);
}

/* Until it is killed; with its parent, whose descriptors it holds copies of. */
static int idle(void *arg) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == *(pid_t *)arg)
        (void)pause();
    return 0;
}

/* A user namespace whose mapping, on a mount, shows the files of `owner` as the box's runner, and
 * the other way round. The box's other ids stay what they are, subordinate ones on disk too, as
 * for an ordinary user: were they the host's own, the box's root could leave set-uid files of the
 * host's root in the tree. Owners that are not mapped show as nobody and cannot be written. */
static void idmap_userns(const struct idmap *map, uint32_t owner, bool uid_not_gid,
                         struct buf *text) {
    uint32_t runner = uid_not_gid ? idmap_uid_out(map, ID_RUNNER) : idmap_gid_out(map, ID_RUNNER);
    const struct idrange *rg = uid_not_gid ? map->uid : map->gid;
    size_t n = uid_not_gid ? map->n_uid : map->n_gid;
    /* "inside" is the id on disk, "outside" what the kernel sees: the box's id for runner. */
    buf_addf(text, "%u %u 1\n", owner, runner);
    for (size_t i = 0; i < n; i++) {
        uint32_t hi = rg[i].outside + rg[i].count;
        for (uint32_t at = rg[i].outside; at < hi;) {
            if (at == owner || at == runner) {
                at++;
                continue;
            }
            uint32_t end = hi;
            if (owner > at)
                end = MIN(end, owner);
            if (runner > at)
                end = MIN(end, runner);
            buf_addf(text, "%u %u %u\n", at, at, end - at);
            at = end;
        }
        if (owner != runner && owner >= rg[i].outside && owner < hi)
            buf_addf(text, "%u %u 1\n", runner, owner); /* the swap's other half */
    }
}

static int write_map(pid_t pid, const char *name, struct buf *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t k = write(fd, text->p, text->n);
    int r = k < 0 ? -errno : 0;
    fd_close(fd);
    return r;
}

/* As root: the mount shows `st`'s owner as runner. Needs the file system's support. */
static int mount_idmap(struct box *b, int tree, const struct stat *st) {
    const struct idmap *map = keeper_idmap(b->keeper);
    _cleanup_buf_ struct buf u = BUF_SMALL, g = BUF_SMALL;
    _cleanup_free_ char *stack = xmalloc(16384);
    char path[64];
    pid_t self = getpid();
    idmap_userns(map, st->st_uid, true, &u);
    idmap_userns(map, st->st_gid, false, &g);
    pid_t pid = clone(idle, stack + 16384, CLONE_NEWUSER | CLONE_VM | SIGCHLD, &self);
    if (pid < 0)
        return -errno;
    int r = write_map(pid, "uid_map", &u);
    if (r == 0)
        r = write_map(pid, "gid_map", &g);
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    _cleanup_close_ int ns = r == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (r == 0 && ns < 0)
        r = -errno;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (r < 0)
        return r;
    struct mount_attr a = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)ns};
    return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof a) < 0
               ? -errno
               : 0;
}

/* A detached mount of what source_fd is: a descriptor of open_tree as it is; a plain one of the
 * host through the supervisor, by path, or as root by ourselves. */
static int bind_tree(struct box *b, const struct box_mount *m, struct err *e) {
    char link[64], path[4096];
    struct stat st, there;
    int r, fd = -1;
    if (fstat(m->source_fd, &st) < 0)
        return err_errno(e, -errno, "source of %s", m->target);
    snprintf(link, sizeof link, "/proc/self/fd/%d", m->source_fd);
    ssize_t k = readlink(link, path, sizeof path - 1);
    path[k > 0 ? k : 0] = 0;
    /* A detached mount has no path here (it reads as "/" or one that is not it). */
    if (k <= 0 || stat(path, &there) < 0 || there.st_dev != st.st_dev ||
        there.st_ino != st.st_ino) {
        fd = fcntl(m->source_fd, F_DUPFD_CLOEXEC, 3);
        return fd < 0 ? err_errno(e, -errno, "source of %s", m->target) : fd;
    }
    const struct idmap *map = keeper_idmap(b->keeper);
    if (map->root) {
        fd = (int)syscall(SYS_open_tree, m->source_fd, "",
                          AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (fd >= 0) {
            struct mount_attr a = {.propagation = MS_PRIVATE};
            r = syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof a) < 0
                    ? -errno
                    : 0;
            if (r == 0 && m->idmap)
                r = mount_idmap(b, fd, &st);
            if (r == 0)
                return fd;
            fd = fd_close(fd);
            return err_errno(e, r, "map the owners of %s", path);
        }
    }
    r = sup_ask(b, SUP_BIND, 0, NULL, path, m->source_fd, &fd, e);
    if (r < 0)
        return err_set(e, ERR_INTERNAL, r, "bind %s: %s", path, strerror(-r));
    return fd;
}

static int overlay_tree(struct box *b, const struct box_mount *m, struct err *e) {
    _cleanup_strv_ struct strv lowers = {0};
    _cleanup_free_ char *upper = m->upper_snap ? xasprintf("snap:%s", m->upper_snap) : xstrdup("");
    int fd = -1;
    int r = lower_names(m->lowers, m->n_lowers, &lowers, e);
    if (r == 0)
        r = sup_ask(b, SUP_OVERLAY, 0, (const char *const *)lowers.v, upper, -1, &fd, e);
    if (r < 0)
        return err_set(e, ERR_INTERNAL, r, "overlay for %s: %s", m->target, strerror(-r));
    return fd;
}

int box_mount(struct box *b, const struct box_mount *m, struct err *e) {
    struct box_req h = {.kind = m->kind == BOX_TMPFS ? BOX_NEW_TMPFS : BOX_MOUNT,
                        .flags = (m->readonly ? BOX_F_RDONLY : 0) | (m->nosuid ? BOX_F_NOSUID : 0) |
                                 (m->noexec ? BOX_F_NOEXEC : 0) | (m->nodev ? BOX_F_NODEV : 0),
                        .num = {m->mode, m->uid, m->gid}};
    char opt[160] = "";
    _cleanup_close_ int tree = -1;
    if (!m->target || m->target[0] != '/')
        return err_set(e, ERR_USER, -EINVAL, "a mount's target must be an absolute path: %s",
                       m->target ? m->target : "(none)");
    if (m->kind == BOX_TMPFS) {
        size_t n = (size_t)snprintf(opt, sizeof opt, "mode=%o,uid=%u,gid=%u",
                                    m->mode ? m->mode & 07777 : 01777, m->uid, m->gid);
        if (m->size)
            snprintf(opt + n, sizeof opt - n, ",size=%llu", (unsigned long long)m->size);
    } else {
        tree = m->kind == BOX_BIND ? bind_tree(b, m, e) : overlay_tree(b, m, e);
        if (tree < 0)
            return tree;
    }
    return attach(b, m->target, tree, &h, opt, e);
}

int box_umount(struct box *b, const char *target, struct err *e) {
    struct box_req h = {.kind = BOX_UMOUNT};
    int r = request_ask(b->ctl, &h, target, NULL, NULL, 0, NULL);
    return r < 0 ? err_errno(e, r, "unmount %s in box %s", target, b->name) : 0;
}
