/* How it works.
 *
 * Namespaces live as long as a descriptor of them is open, so the keeper needs no process: a
 * short-lived child (our binary re-executed, since unshare(CLONE_NEWUSER) wants a single thread)
 * makes the user, mount and cgroup namespaces, the parent writes the mapping, the child sends the
 * three descriptors over a socket and is gone. When the last process that holds them ends, however
 * it ends, the kernel drops the namespaces and all mounts in them.
 *
 * A helper is our binary again, or a small static program with the same ns_main. It gets, behind the caller's descriptors, the life pipe and the
 * three namespaces, joins them (user first: that gives every capability over the others) and
 * becomes 0:0. Its death with the spawning process is arranged without a thread and without
 * PDEATHSIG (which fires when the spawning *thread* ends): the helper opens the read end of the
 * life pipe anew, so that the open file description is its own, and has the kernel send it SIGKILL
 * (O_ASYNC, F_SETSIG) when the last write end, which only the spawner has, is closed. */
#include "base/userns.h"
#include "core/fs.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

struct keeper {
    struct idmap map;
    int userns, mntns, cgroupns;
    int life_r, life_w;
};

/* --- starting our own binary ---------------------------------------------------------------- */

/* Descriptors behind the caller's own, in this order. */
enum { FD_LIFE, FD_USER, FD_MNT, FD_CGROUP, N_OWN_FDS };

static const void *static_image;
static size_t static_size;
static const char *const *static_ops;
static int static_fd = -1; /* the image as a file in memory; -2: cannot be run here */

void ns_static_image(const void *image, size_t n, const char *const *ops) {
    static_image = image;
    static_size = n;
    static_ops = ops;
}

static void static_make(void) {
    int fd = memfd_create("slipway-helper", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && fd_write_all(fd, static_image, static_size) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
        /* High, out of the way of the descriptors that helpers get. */
        static_fd = fcntl(fd, F_DUPFD_CLOEXEC, 500);
    fd_close(fd);
    if (static_fd < 0)
        static_fd = -2;
}

/* "/proc/self/fd/N" of the static program when it has this operation. */
static bool static_path(const char *op, char path[64]) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    bool has = false;
    for (const char *const *o = static_ops; o && *o; o++)
        has |= streq(*o, op);
    if (!has)
        return false;
    pthread_once(&once, static_make);
    snprintf(path, 64, "/proc/self/fd/%d", static_fd);
    return static_fd >= 0;
}

/* Spawns argv (ours) with fds[i] as descriptor i; -1 = /dev/null (2: inherited). A session of its
 * own, since Ctrl-C at the terminal is for the command, not for its helpers. */
static int spawn_self(const char *const *argv, const int *fds, size_t n_fds, pid_t *ret_pid) {
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t all, none;
    pid_t pid = -1;
    int *high = xcalloc(n_fds, sizeof *high);
    int r = 0;

    posix_spawn_file_actions_init(&fa);
    posix_spawnattr_init(&at);
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(&at, &all);
    posix_spawnattr_setsigmask(&at, &none);
    posix_spawnattr_setflags(&at,
                             POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
    for (size_t i = 0; i < n_fds; i++)
        high[i] = -1;
    for (size_t i = 0; i < n_fds && r == 0; i++) {
        int from = fds[i] < 0 && i == 2 ? 2 : fds[i];
        if (from < 0) {
            posix_spawn_file_actions_addopen(&fa, (int)i, "/dev/null", O_RDWR, 0);
            continue;
        }
        /* Above every target, so that no dup2 overwrites a source. */
        high[i] = fcntl(from, F_DUPFD_CLOEXEC, (int)n_fds);
        if (high[i] < 0)
            r = -errno;
        else
            posix_spawn_file_actions_adddup2(&fa, high[i], (int)i);
    }
    char path[64];
    if (r == 0 && static_path(argv[3], path) &&
        posix_spawn(&pid, path, &fa, &at, (char *const *)(uintptr_t)argv, environ) != 0) {
        static_fd = -2; /* vm.memfd_noexec, or a stricter module */
        pid = -1;
    }
    if (r == 0 && pid < 0)
        r = -posix_spawn(&pid, proc_self(), &fa, &at, (char *const *)(uintptr_t)argv, environ);
    for (size_t i = 0; i < n_fds; i++)
        fd_close(high[i]);
    free(high);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&at);
    if (r == 0)
        *ret_pid = pid;
    return r;
}

static void reap(pid_t pid) {
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* --- the keeper ----------------------------------------------------------------------------- */

struct keeper_msg {
    char stage; /* 'u' unshared, 'm' mapped, 'r' ready (with descriptors); capital: failed */
    int errnum;
};

static int send_msg(int sock, char stage, int errnum, const int *fds, size_t n) {
    struct keeper_msg m = {stage, errnum};
    struct iovec iov = {&m, sizeof m};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(3 * sizeof(int))];
    } ctl;
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    memset(&ctl, 0, sizeof ctl);
    if (n) {
        h.msg_control = ctl.space;
        h.msg_controllen = CMSG_SPACE(n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    }
    ssize_t k;
    do
        k = sendmsg(sock, &h, MSG_NOSIGNAL);
    while (k < 0 && errno == EINTR);
    return k < 0 ? -errno : 0;
}

/* Up to three descriptors into fds (unset ones stay). -EPIPE when the other side is gone. */
static int recv_msg(int sock, struct keeper_msg *m, int fds[3]) {
    struct iovec iov = {m, sizeof *m};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(3 * sizeof(int))];
    } ctl;
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    memset(&ctl, 0, sizeof ctl);
    h.msg_control = ctl.space;
    h.msg_controllen = sizeof ctl.space;
    ssize_t k;
    do
        k = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
    while (k < 0 && errno == EINTR);
    if (k != sizeof *m)
        return k < 0 ? -errno : -EPIPE;
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && fds) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), MIN(n, (size_t)3) * sizeof(int));
    }
    return 0;
}

static int become_root(void) {
    if (setgroups(0, NULL) < 0 && errno != EPERM) /* EPERM: single id, setgroups is denied */
        return -errno;
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return -errno;
    return 0;
}

/* crun refuses hybrid hosts, so the cgroup2 tree of our own cgroup namespace is put over whatever
 * is on /sys/fs/cgroup. A host without cgroup2, or with one that may not be seen, keeps its own. */
static void mount_cgroup2(void) {
    unsigned long f = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (mount("cgroup2", "/sys/fs/cgroup", "cgroup2", f, NULL) < 0)
        (void)mount("cgroup2", "/sys/fs/cgroup", "cgroup2", f | MS_RDONLY, NULL);
}

static int keeper_main(int sock) {
    static const char *const names[3] = {"/proc/self/ns/user", "/proc/self/ns/mnt",
                                         "/proc/self/ns/cgroup"};
    struct keeper_msg m = {0};
    int fds[3], r;
    if (unshare(CLONE_NEWUSER) < 0)
        return send_msg(sock, 'U', errno, NULL, 0), 1;
    if (send_msg(sock, 'u', 0, NULL, 0) < 0 || recv_msg(sock, &m, NULL) < 0 || m.stage != 'm')
        return 1;
    r = become_root();
    if (r < 0)
        return send_msg(sock, 'I', -r, NULL, 0), 1;
    if (unshare(CLONE_NEWNS | CLONE_NEWCGROUP) < 0)
        return send_msg(sock, 'N', errno, NULL, 0), 1;
    /* Slave: what the host unmounts goes here too and keeps no disk busy; nothing goes out. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return send_msg(sock, 'P', errno, NULL, 0), 1;
    mount_cgroup2();
    for (size_t i = 0; i < 3; i++) {
        fds[i] = open(names[i], O_RDONLY | O_CLOEXEC);
        if (fds[i] < 0)
            return send_msg(sock, 'O', errno, NULL, 0), 1;
    }
    return send_msg(sock, 'r', 0, fds, 3) < 0;
}

static int write_proc(pid_t pid, const char *name, struct sv text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    /* The kernel takes the whole map in one write. */
    ssize_t k = write(fd, text.p, text.n);
    return k < 0 ? -errno : (size_t)k == text.n ? 0 : -EIO;
}

static int map_direct(const struct idmap *m, pid_t pid, struct err *e) {
    _cleanup_buf_ struct buf u = BUF_SMALL, g = BUF_SMALL;
    for (size_t i = 0; i < m->n_uid; i++)
        buf_addf(&u, "%u %u %u\n", m->uid[i].inside, m->uid[i].outside, m->uid[i].count);
    for (size_t i = 0; i < m->n_gid; i++)
        buf_addf(&g, "%u %u %u\n", m->gid[i].inside, m->gid[i].outside, m->gid[i].count);
    int r = m->single ? write_proc(pid, "setgroups", SV("deny")) : 0;
    if (r == -ENOENT)
        r = 0;
    if (r == 0)
        r = write_proc(pid, "uid_map", buf_sv(&u));
    if (r == 0)
        r = write_proc(pid, "gid_map", buf_sv(&g));
    if (r < 0)
        return err_set(e, ERR_ENV, r, "cannot map user ids: %s", strerror(-r));
    return 0;
}

static int mapper_start(const char *program, const struct idrange *rg, size_t n, pid_t target,
                        int errfd, pid_t *ret) {
    _cleanup_free_ char *path = proc_find(program);
    _cleanup_strv_ struct strv argv = {0};
    struct proc_spec ps = {.fds = {{2, errfd}}, .n_fds = 1};
    if (!path)
        return -ENOENT;
    strv_add(&argv, path);
    strv_addf(&argv, "%d", (int)target);
    for (size_t i = 0; i < n; i++) {
        strv_addf(&argv, "%u", rg[i].inside);
        strv_addf(&argv, "%u", rg[i].outside);
        strv_addf(&argv, "%u", rg[i].count);
    }
    ps.argv = (const char *const *)argv.v;
    return proc_spawn(&ps, ret, NULL);
}

/* newuidmap and newgidmap at once: each costs 2 ms. */
static int map_setuid(const struct idmap *m, pid_t pid, struct err *e) {
    int p[2], r, ru = -1, rg = -1;
    pid_t pu = -1, pg = -1;
    _cleanup_buf_ struct buf said = BUF_SMALL;
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    r = mapper_start("newuidmap", m->uid, m->n_uid, pid, p[1], &pu);
    if (r == 0)
        r = mapper_start("newgidmap", m->gid, m->n_gid, pid, p[1], &pg);
    close(p[1]);
    char tmp[512];
    for (ssize_t k; (k = read(p[0], tmp, sizeof tmp)) > 0;)
        buf_add(&said, tmp, (size_t)k);
    close(p[0]);
    if (pu > 0)
        ru = proc_wait(pu);
    if (pg > 0)
        rg = proc_wait(pg);
    if (r < 0) {
        err_set(e, ERR_ENV, r, "cannot start newuidmap: %s", strerror(-r));
        return err_hint(e, r, "sudo apt-get install uidmap");
    }
    if (ru == 0 && rg == 0)
        return 0;
    struct sv rest = buf_sv(&said), line = SV_NULL;
    sv_line(&rest, &line);
    err_set(e, ERR_ENV, -EPERM, "%s refused the subordinate ids: " SV_FMT,
            ru ? "newuidmap" : "newgidmap", SV_ARG(line));
    return err_hint(e, -EPERM,
                    "newuidmap and newgidmap need their setuid bit or capabilities "
                    "(sudo apt-get install --reinstall uidmap) and a range in "
                    "/etc/subuid and /etc/subgid");
}

static int keeper_error(char stage, int errnum, struct err *e) {
    int r = -(errnum ? errnum : EIO);
    if (stage == 'U') {
        err_set(e, ERR_ENV, r, "this host lets nobody here make a user namespace: %s",
                strerror(-r));
        if (fs_exists(AT_FDCWD, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"))
            return err_hint(e, r, "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0");
        if (errnum == ENOSPC)
            return err_hint(e, r, "sudo sysctl user.max_user_namespaces=15000");
        return err_hint(e, r,
                        "sudo sysctl kernel.unprivileged_userns_clone=1 (in a container: "
                        "start it with --security-opt seccomp=unconfined)");
    }
    err_set(e, ERR_ENV, r, "cannot prepare the user namespace (step %c): %s", stage, strerror(-r));
    if (fs_exists(AT_FDCWD, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"))
        err_hint(e, r, "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0");
    return r;
}

static int keeper_handshake(struct keeper *k, pid_t pid, int sock, struct err *e) {
    struct keeper_msg msg = {0};
    int fds[3] = {-1, -1, -1};
    int r = recv_msg(sock, &msg, NULL);
    if (r < 0 || msg.stage != 'u')
        return keeper_error(r < 0 ? '?' : msg.stage, r < 0 ? -r : msg.errnum, e);
    r = k->map.root || k->map.single ? map_direct(&k->map, pid, e) : map_setuid(&k->map, pid, e);
    if (r < 0)
        return r;
    r = send_msg(sock, 'm', 0, NULL, 0);
    if (r == 0)
        r = recv_msg(sock, &msg, fds);
    k->userns = fds[0];
    k->mntns = fds[1];
    k->cgroupns = fds[2];
    if (r < 0 || msg.stage != 'r')
        return keeper_error(r < 0 ? '?' : msg.stage, r < 0 ? -r : msg.errnum, e);
    return fds[2] < 0 ? err_set(e, ERR_INTERNAL, -EIO, "the keeper sent no namespaces") : 0;
}

int keeper_new(struct keeper **ret, const struct idmap *m, struct err *e) {
    static const char *const argv[] = {"slipway", "__ns", "0", "keeper", NULL};
    int sock[2], life[2], r;
    pid_t pid = -1;
    struct keeper *k = xcalloc(1, sizeof *k);
    *k = (struct keeper){
        .map = *m, .userns = -1, .mntns = -1, .cgroupns = -1, .life_r = -1, .life_w = -1};
    if (pipe2(life, O_CLOEXEC) < 0) {
        r = err_errno(e, -errno, "pipe");
        keeper_free(k);
        return r;
    }
    k->life_r = life[0];
    k->life_w = life[1];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0) {
        r = err_errno(e, -errno, "socketpair");
        keeper_free(k);
        return r;
    }
    r = spawn_self(argv, (int[]){-1, -1, -1, sock[1]}, 4, &pid);
    close(sock[1]);
    if (r < 0) {
        err_errno(e, r, "cannot start the keeper of the user namespace");
    } else {
        r = keeper_handshake(k, pid, sock[0], e);
        if (r < 0) {
            kill(pid, SIGKILL);
            reap(pid);
        }
    }
    close(sock[0]);
    if (r < 0) {
        keeper_free(k);
        return r;
    }
    /* Not waited for before: it ends while the caller goes on, and is a zombie for a moment. */
    reap(pid);
    *ret = k;
    return 0;
}

void keeper_free(struct keeper *k) {
    if (!k)
        return;
    fd_close(k->life_w);
    fd_close(k->life_r);
    fd_close(k->userns);
    fd_close(k->mntns);
    fd_close(k->cgroupns);
    free(k);
}

const struct idmap *keeper_idmap(const struct keeper *k) {
    return &k->map;
}
int keeper_userns_fd(const struct keeper *k) {
    return k->userns;
}
int keeper_mntns_fd(const struct keeper *k) {
    return k->mntns;
}
int keeper_cgroupns_fd(const struct keeper *k) {
    return k->cgroupns;
}

/* --- helpers -------------------------------------------------------------------------------- */

/* After the last change of identity: the kernel compares the owner that F_SETOWN noted. */
static int die_with(int life) {
    int flags = fcntl(life, F_GETFL);
    struct pollfd p = {.fd = life, .events = POLLIN};
    if (flags < 0 || fcntl(life, F_SETSIG, SIGKILL) < 0 || fcntl(life, F_SETOWN, getpid()) < 0 ||
        fcntl(life, F_SETFL, flags | O_ASYNC) < 0)
        return -errno;
    return poll(&p, 1, 0) > 0 ? -EPIPE : 0; /* gone already */
}

static int say(const char *what, int errnum) {
    struct err e = {0};
    err_set(&e, ERR_ENV, -errnum, "%s: %s", what, strerror(errnum));
    return ns_fail(&e);
}

static int helper_join(int base, bool own_mntns) {
    char path[64];
    int r;
    snprintf(path, sizeof path, "/proc/self/fd/%d", base + FD_LIFE);
    int life = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (life < 0)
        return say("life pipe", errno);
    if (setns(base + FD_USER, CLONE_NEWUSER) < 0)
        return say("cannot join the user namespace", errno);
    if (setns(base + FD_CGROUP, CLONE_NEWCGROUP) < 0 || setns(base + FD_MNT, CLONE_NEWNS) < 0)
        return say("cannot join the mount namespace", errno);
    r = become_root();
    if (r < 0)
        return say("cannot become the namespace's root", -r);
    for (int i = 0; i < N_OWN_FDS; i++)
        close(base + i);
    r = die_with(life);
    if (r < 0)
        return say("life pipe", -r);
    if (own_mntns && unshare(CLONE_NEWNS) < 0)
        return say("cannot make a mount namespace", errno);
    umask(022);
    return 0;
}

int ns_main(const struct ns_op *ops, size_t n, int argc, char **argv) {
    int rc = 2;
    if (argc < 4) {
        fprintf(stderr, "slipway __ns is for slipway itself\n");
        return 2;
    }
    if (streq(argv[3], "keeper"))
        _exit(keeper_main(3));
    int base = atoi(argv[2]);
    if (base < 3 || base > 1000)
        return 2;
    for (size_t i = 0; i < n; i++) {
        if (!streq(ops[i].name, argv[3]))
            continue;
        rc = helper_join(base, ops[i].own_mntns);
        if (rc == 0)
            rc = ops[i].fn(argc - 3, argv + 3);
        fflush(stdout);
        fflush(stderr);
        /* Not exit(): nothing registered there is wanted in a helper. */
        _exit(rc);
    }
    fprintf(stderr, "no operation %s\n", argv[3]);
    return rc;
}

int ns_fail(const struct err *e) {
    /* One line, cut at \1: the message may hold a name from an archive, which must not become a line
     * or a hint of its own. */
    struct err plain = *e;
    for (char *p = plain.msg; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = '?';
    fprintf(stderr, "\n\1%d\1%d\1%s\1%s\n", (int)e->kind, e->errnum, plain.msg, e->hint);
    return 1;
}

int ns_spawn(struct keeper *k, const char *const *argv, int in, int out, int errfd, const int *fds,
             size_t n_fds, pid_t *ret_pid, struct err *e) {
    _cleanup_free_ int *all = xcalloc(3 + n_fds + N_OWN_FDS, sizeof *all);
    _cleanup_strv_ struct strv av = {0};
    strv_add(&av, "slipway");
    strv_add(&av, "__ns");
    strv_addf(&av, "%zu", n_fds + 3);
    strv_extend(&av, argv);
    all[0] = in;
    all[1] = out;
    all[2] = errfd;
    for (size_t i = 0; i < n_fds; i++)
        all[3 + i] = fds[i];
    int *own = all + 3 + n_fds;
    own[FD_LIFE] = k->life_r;
    own[FD_USER] = k->userns;
    own[FD_MNT] = k->mntns;
    own[FD_CGROUP] = k->cgroupns;
    int r = spawn_self((const char *const *)av.v, all, 3 + n_fds + N_OWN_FDS, ret_pid);
    if (r < 0)
        return err_errno(e, r, "cannot start a helper (%s)", argv[0]);
    return 0;
}

static bool pull(int fd, struct buf *b) {
    char tmp[16384];
    ssize_t k = read(fd, tmp, sizeof tmp);
    if (k < 0)
        return errno == EINTR || errno == EAGAIN;
    if (k > 0 && b) {
        size_t room = b->max > b->n ? b->max - b->n : 0;
        buf_add(b, tmp, MIN((size_t)k, room));
    }
    return k > 0;
}

/* What the helper said last: a record of ns_fail, or plain text. */
int ns_helper_error(const char *op, int status, struct sv said, struct err *e) {
    struct sv last = SV_NULL, line, f[4];
    uint64_t kind = 0, num = 0;
    while (sv_line(&said, &line))
        if (sv_trim(line).n)
            last = line;
    if (last.n && last.p[0] == '\1') {
        struct sv rest = sv_sub(last, 1, last.n);
        size_t k = 0;
        while (k < 4 && sv_split(&rest, '\1', &f[k]))
            k++;
        if (k == 4 && sv_u64(f[0], ERR_INTERNAL, &kind) == 0 && sv_u64(f[1], 4095, &num) == 0) {
            int r = num ? -(int)num : -EIO;
            err_set(e, (enum err_kind)kind, r, SV_FMT, SV_ARG(f[2]));
            if (f[3].n)
                err_hint(e, r, SV_FMT, SV_ARG(f[3]));
            return r;
        }
    }
    last = sv_trim(last);
    if (!last.n)
        return err_set(e, ERR_INTERNAL, -EIO, "helper %s ended with %d", op, status);
    return err_set(e, ERR_INTERNAL, -EIO, "%s: " SV_FMT, op, SV_ARG(last));
}

/* Reads what the helper says, out and err, to the end of both. */
static int drain(pid_t pid, int out_fd, struct buf *out, int err_fd, struct buf *said,
                 ns_tick_fn tick, void *arg) {
    struct pollfd p[2] = {{.fd = err_fd, .events = POLLIN}, {.fd = out_fd, .events = POLLIN}};
    int r = 0;
    while (p[0].fd >= 0 || p[1].fd >= 0) {
        int k = poll(p, 2, tick ? 100 : -1);
        if (k < 0 && errno != EINTR)
            return -errno;
        if (k == 0 && tick && r == 0 && (r = tick(arg)) < 0)
            kill(pid, SIGKILL);
        if (k <= 0)
            continue;
        if (p[0].fd >= 0 && p[0].revents) {
            if (said->n > said->max / 2) /* the last line is what matters */
                buf_cut(said, 0, said->n / 2);
            if (!pull(p[0].fd, said))
                p[0].fd = -1;
        }
        if (p[1].fd >= 0 && p[1].revents && !pull(p[1].fd, out))
            p[1].fd = -1;
    }
    return r;
}

int ns_wait(pid_t pid, const char *op, int errpipe, struct err *e) {
    _cleanup_buf_ struct buf said = BUF_SMALL;
    (void)drain(pid, -1, NULL, errpipe, &said, NULL, NULL);
    close(errpipe);
    int status = proc_wait(pid);
    return status == 0 ? 0 : ns_helper_error(op, status, buf_sv(&said), e);
}

int ns_run_tick(struct keeper *k, const char *const *argv, const int *fds, size_t n_fds,
                struct buf *out, ns_tick_fn tick, void *arg, struct err *e) {
    int po[2] = {-1, -1}, pe[2];
    _cleanup_buf_ struct buf said = BUF_SMALL;
    pid_t pid;
    if (pipe2(pe, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    if (out && pipe2(po, O_CLOEXEC) < 0) {
        int r = -errno;
        close(pe[0]);
        close(pe[1]);
        return err_errno(e, r, "pipe");
    }
    int r = ns_spawn(k, argv, -1, po[1], pe[1], fds, n_fds, &pid, e);
    fd_close(po[1]);
    close(pe[1]);
    int ticked = r < 0 ? 0 : drain(pid, po[0], out, pe[0], &said, tick, arg);
    fd_close(po[0]);
    close(pe[0]);
    if (r < 0)
        return r;
    int status = proc_wait(pid);
    if (ticked < 0)
        return err_set(e, ERR_CANCELLED, ticked, "%s was cancelled", argv[0]);
    return status == 0 ? 0 : ns_helper_error(argv[0], status, buf_sv(&said), e);
}

int ns_run(struct keeper *k, const char *const *argv, const int *fds, size_t n_fds, struct buf *out,
           struct err *e) {
    return ns_run_tick(k, argv, fds, n_fds, out, NULL, NULL, e);
}
