/* How it works.
 *
 * One clone makes all namespaces; the child waits until we have written its id mappings (the
 * identity over the ids of the store's namespace) and then builds its world with the capabilities
 * that it has in its own user namespace only, in this order:
 *
 *   root      bound onto itself: the mounts that came from outside are locked together, and
 *             pivot_root wants one that is not
 *   /proc     of the new pid namespace, parts of it hidden or read-only
 *   /dev      a tmpfs with the host's harmless devices bound into it, devpts, shm, mqueue
 *   /sys      the supervisor's sysfs, read-only
 *   then pivot_root, so that nothing of the host's mounts is left, and exec of the init
 *
 * Targets in the image are resolved inside its root (openat2) and mounted on by descriptor, so that
 * a link in the image leads nowhere else. The init's program is executed from a descriptor and is
 * no file of the box. */
#include "box/start.h"
#include "box/box.h"
#include "box/proto.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* --- the specification as text -------------------------------------------------------------- */

static void item(struct buf *out, const char *key, const char *value) {
    buf_add(out, key, strlen(key) + 1);
    buf_add(out, value, strlen(value) + 1);
}

static void ranges_format(struct buf *out, const char *key, const struct idrange *rg, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char t[64];
        snprintf(t, sizeof t, "%u %u", rg[i].inside, rg[i].count);
        item(out, key, t);
    }
}

void start_format(const struct box_spec *spec, const struct idmap *map, struct buf *out) {
    char t[32];
    item(out, "hostname", spec->hostname && *spec->hostname ? spec->hostname : "box");
    snprintf(t, sizeof t, "%llu", (unsigned long long)(spec->limits.shm ? spec->limits.shm : 64ull << 20));
    item(out, "shm", t);
    if (spec->privileged)
        item(out, "privileged", "");
    if (map->single)
        item(out, "single", "");
    ranges_format(out, "uid", map->uid, map->n_uid);
    ranges_format(out, "gid", map->gid, map->n_gid);
    for (size_t i = 0; i < spec->n_devices; i++)
        item(out, "device", spec->devices[i].path);
}

static bool range_parse(const char *v, struct idrange *rg, size_t *n) {
    if (*n == 8 || sscanf(v, "%u %u", &rg[*n].inside, &rg[*n].count) != 2)
        return false;
    rg[*n].outside = rg[*n].inside;
    (*n)++;
    return true;
}

int start_parse(char *text, size_t n, struct start_spec *ret) {
    struct start_spec s = {0};
    bool ok = n > 0 && text[n - 1] == 0;
    for (char *p = text, *end = text + n; ok && p < end;) {
        char *key = p, *v = key + strlen(key) + 1;
        if (v >= end)
            return -EBADMSG;
        p = v + strlen(v) + 1;
        if (streq(key, "hostname"))
            s.hostname = v;
        else if (streq(key, "shm"))
            s.shm = strtoull(v, NULL, 10);
        else if (streq(key, "privileged"))
            s.privileged = true;
        else if (streq(key, "single"))
            s.map.single = true;
        else if (streq(key, "uid"))
            ok = range_parse(v, s.map.uid, &s.map.n_uid);
        else if (streq(key, "gid"))
            ok = range_parse(v, s.map.gid, &s.map.n_gid);
        else if (streq(key, "device") && s.n_devices < ELEMENTS(s.devices))
            s.devices[s.n_devices++] = v;
        else
            ok = false;
    }
    if (!ok || !s.hostname || !s.map.n_uid || !s.map.n_gid)
        return -EBADMSG;
    *ret = s;
    return 0;
}

/* --- in the child --------------------------------------------------------------------------- */

struct said {
    int errnum;
    char text[200];
};

struct child {
    const struct start_spec *s;
    const struct start_how *how;
    int root; /* O_PATH of the new root */
};

static _noreturn_ void fail(const struct child *c, const char *what, const char *arg) {
    struct said m = {.errnum = errno};
    snprintf(m.text, sizeof m.text, "%s%s%s", what, arg ? " " : "", arg ? arg : "");
    ssize_t k = write(c->how->said, &m, sizeof m);
    (void)k;
    _exit(1);
}

static int open_in(int dir, const char *path, int flags) {
    struct open_how how = {.flags = (uint64_t)(flags | O_PATH | O_CLOEXEC),
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/* A folder of the image to mount on. An image need not have it. It is no link: what a job replaces later
 * must not be what the init finds under the name. */
static int point(const struct child *c, const char *name) {
    int fd = open_in(c->root, name, O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT && mkdirat(c->root, name, 0755) == 0)
        fd = open_in(c->root, name, O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0)
        fail(c, "the image's folder", name);
    return fd;
}

/* Mounts a new file system on fd, which stays what it was: below the mount. */
static void mount_on(const struct child *c, int fd, const char *source, const char *type, unsigned long flags,
                     const char *data) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (mount(source, path, type, flags, data) < 0)
        fail(c, "mount", source);
}

/* A copy of the mount of dir/path (dir itself when path is ""), not yet attached. */
static int copy_of(int dir, const char *path, bool recursive, uint64_t attrs) {
    struct mount_attr a = {.attr_set = attrs, .propagation = MS_PRIVATE};
    unsigned rec = recursive ? AT_RECURSIVE : 0u;
    int fd = (int)syscall(SYS_open_tree, dir, path,
                          (unsigned)OPEN_TREE_CLONE | (unsigned)OPEN_TREE_CLOEXEC | (unsigned)AT_EMPTY_PATH | rec);
    if (fd >= 0 && syscall(SYS_mount_setattr, fd, "", (unsigned)AT_EMPTY_PATH | rec, &a, sizeof a) < 0) {
        int e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static int attach(int tree, int target) {
    return (int)syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* What docker hides (OCI maskedPaths) and makes read-only; most of it is on few hosts only. */
static const char *const hidden[] = {"asound",        "acpi",       "kcore",       "keys",       "latency_stats",
                                     "timer_list",    "timer_stats", "sched_debug", "scsi"};
static const char *const hidden_sys[] = {"firmware", "devices/virtual/powercap"};
static const char *const frozen[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};

static void hide(const struct child *c, int at, const char *name, int null) {
    struct stat st;
    int fd = open_in(at, name, O_NOFOLLOW);
    if (fd < 0)
        return; /* not there */
    if (fstat(fd, &st) < 0)
        fail(c, "hide", name);
    if (S_ISDIR(st.st_mode)) {
        mount_on(c, fd, "tmpfs", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0k,nr_inodes=2");
    } else {
        int tree = copy_of(null, "", false, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
        if (tree < 0 || attach(tree, fd) < 0)
            fail(c, "hide", name);
        close(tree);
    }
    close(fd);
}

static void freeze(const struct child *c, int at, const char *name) {
    int fd = open_in(at, name, O_NOFOLLOW);
    if (fd < 0)
        return;
    int tree = copy_of(fd, "", true,
                       MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (tree < 0 || attach(tree, fd) < 0)
        fail(c, "make read-only", name);
    close(tree);
    close(fd);
}

static void proc_make(const struct child *c, int null) {
    int fd = point(c, "proc");
    mount_on(c, fd, "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    close(fd);
    if (c->s->privileged)
        return;
    fd = point(c, "proc");
    for (size_t i = 0; i < ELEMENTS(hidden); i++)
        hide(c, fd, hidden[i], null);
    for (size_t i = 0; i < ELEMENTS(frozen); i++)
        freeze(c, fd, frozen[i]);
    close(fd);
}

static void sys_make(const struct child *c, int null) {
    bool writable = c->s->privileged;
    int tree = copy_of(AT_FDCWD, c->how->sys, true,
                       (writable ? 0 : MOUNT_ATTR_RDONLY) | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                           MOUNT_ATTR_NOEXEC);
    int fd = point(c, "sys");
    if (tree < 0 || attach(tree, fd) < 0)
        fail(c, "mount", "/sys");
    close(tree);
    close(fd);
    if (writable)
        return;
    fd = point(c, "sys");
    for (size_t i = 0; i < ELEMENTS(hidden_sys); i++)
        hide(c, fd, hidden_sys[i], null);
    close(fd);
}

/* path: below the host's /dev, and the box's. */
static void device(const struct child *c, int dev, const char *path) {
    char part[256], full[300];
    size_t n = strlen(path);
    if (n >= sizeof part)
        fail(c, "the name of device", path);
    for (size_t i = 1; i < n; i++)
        if (path[i] == '/') {
            memcpy(part, path, i);
            part[i] = 0;
            (void)mkdirat(dev, part, 0755);
        }
    snprintf(full, sizeof full, "/dev/%s", path);
    int tree = copy_of(AT_FDCWD, full, false, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    int fd = openat(dev, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (tree < 0 || fd < 0 || syscall(SYS_move_mount, tree, "", dev, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        fail(c, "device", full);
    close(fd);
    close(tree);
}

static void dev_sub(const struct child *c, int dev, const char *name, const char *type, unsigned long flags,
                    const char *data) {
    int fd = mkdirat(dev, name, 0755) < 0 ? -1 : openat(dev, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        fail(c, "make", name);
    mount_on(c, fd, name, type, flags, data);
    close(fd);
}

static void dev_make(const struct child *c) {
    static const char *const devices[] = {"null", "zero", "full", "tty", "random", "urandom"};
    static const char *const links[][2] = {{"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"},
                                           {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
                                           {"/proc/kcore", "core"},       {"pts/ptmx", "ptmx"}};
    char shm[64];
    int fd = point(c, "dev");
    mount_on(c, fd, "tmpfs", "tmpfs", MS_NOSUID, "mode=755,size=65536k");
    close(fd);
    fd = point(c, "dev");
    for (size_t i = 0; i < ELEMENTS(devices); i++)
        device(c, fd, devices[i]);
    for (size_t i = 0; i < c->s->n_devices; i++)
        if (startswith(c->s->devices[i], "/dev/"))
            device(c, fd, c->s->devices[i] + 5);
    for (size_t i = 0; i < ELEMENTS(links); i++)
        if (symlinkat(links[i][0], fd, links[i][1]) < 0)
            fail(c, "make", links[i][1]);
    /* Group 5 is tty; a single id knows no such group. */
    dev_sub(c, fd, "pts", "devpts", MS_NOSUID | MS_NOEXEC,
            c->s->map.single ? "newinstance,ptmxmode=0666,mode=0620" : "newinstance,ptmxmode=0666,mode=0620,gid=5");
    snprintf(shm, sizeof shm, "mode=1777,size=%llu", (unsigned long long)c->s->shm);
    dev_sub(c, fd, "shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, shm);
    dev_sub(c, fd, "mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    close(fd);
}

static void root_enter(struct child *c) {
    if (mount(c->how->root, c->how->root, NULL, MS_BIND | MS_REC, NULL) < 0)
        fail(c, "bind the root", NULL);
    c->root = open(c->how->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (c->root < 0)
        fail(c, "open the root", NULL);
}

static void root_pivot(const struct child *c) {
    if (fchdir(c->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        fail(c, "change the root", NULL);
    /* The old root lies over the new one now, and "." is it. */
    if (mount(NULL, ".", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        fail(c, "leave the old root", NULL);
}

static _noreturn_ void run(const struct child *c) {
    static char name[] = "slipway-init", path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    char *const argv[] = {name, NULL}, *const envp[] = {path, NULL};
    int control = fcntl(c->how->control, F_DUPFD_CLOEXEC, 10), life = fcntl(c->how->life, F_DUPFD_CLOEXEC, 10),
        program = fcntl(c->how->program, F_DUPFD_CLOEXEC, 10);
    int said = fcntl(c->how->said, F_DUPFD_CLOEXEC, 10);
    struct start_how how = {.said = said};
    struct child last = {.how = &how};
    if (control < 0 || life < 0 || program < 0 || said < 0)
        fail(c, "copy descriptors", NULL);
    if (dup2(control, BOX_FD_CONTROL) < 0 || dup2(life, BOX_FD_LIFE) < 0 ||
        syscall(SYS_close_range, (unsigned)BOX_FD_LIFE + 1, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) < 0)
        fail(&last, "set descriptors", NULL);
    syscall(SYS_execveat, program, "", argv, envp, AT_EMPTY_PATH);
    fail(&last, "execute the init", NULL);
}

static _noreturn_ void child(const struct start_spec *s, const struct start_how *how, int go) {
    struct child c = {.s = s, .how = how, .root = -1};
    char byte;
    if (read(go, &byte, 1) != 1)
        _exit(1); /* we were given up */
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        fail(&c, "become the box's root", NULL);
    if (sethostname(s->hostname, MIN(strlen(s->hostname), (size_t)64)) < 0)
        fail(&c, "set the host name", NULL);
    /* Keys of the user's session are not the box's. */
    (void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        fail(&c, "make the mounts private", NULL);
    root_enter(&c);
    dev_make(&c);
    int null = open_in(c.root, "dev/null", O_NOFOLLOW);
    if (null < 0)
        fail(&c, "open", "/dev/null");
    proc_make(&c, null);
    sys_make(&c, null);
    close(null);
    root_pivot(&c);
    run(&c);
}

/* --- in the supervisor ---------------------------------------------------------------------- */

static int map_write(pid_t pid, const char *name, const struct idrange *rg, size_t n) {
    char path[64], text[512];
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%u %u %u\n", rg[i].inside, rg[i].inside, rg[i].count);
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, at) != (ssize_t)at)
        return -errno;
    return 0;
}

int start_init(const struct start_spec *s, const struct start_how *how, pid_t *ret, const char **what) {
    int go[2], r;
    if (pipe2(go, O_CLOEXEC) < 0) {
        *what = "make a pipe";
        return -errno;
    }
    /* Else /proc/PID of the child, whose memory is a copy of ours, would not be ours to write. */
    prctl(PR_SET_DUMPABLE, 1);
    long pid = syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS,
                       0, 0, 0, 0);
    if (pid == 0) {
        close(go[1]);
        child(s, how, go[0]);
    }
    r = pid < 0 ? -errno : 0;
    close(go[0]);
    prctl(PR_SET_DUMPABLE, 0);
    *what = "make the box's namespaces";
    if (r == 0) {
        *what = "map the box's ids";
        r = map_write((pid_t)pid, "uid_map", s->map.uid, s->map.n_uid);
    }
    if (r == 0)
        r = map_write((pid_t)pid, "gid_map", s->map.gid, s->map.n_gid);
    if (r == 0 && write(go[1], "", 1) != 1)
        r = -errno;
    close(go[1]); /* without the byte the child ends */
    if (r == 0)
        *ret = (pid_t)pid;
    return r;
}

int start_failed(int fd, char text[200]) {
    struct said m;
    if (read(fd, &m, sizeof m) != (ssize_t)sizeof m)
        return 0;
    memcpy(text, m.text, 200);
    text[199] = 0;
    return m.errnum;
}
