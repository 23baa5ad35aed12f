/* Starting a command in the box: fork (or clone with a pid and mount namespace of its own), then
 * in the child, in this order, because each step needs a privilege that a later one drops: session
 * and terminal, /proc, user, folder, limits, bounding set, seccomp, ids, capabilities, exec.
 *
 * The seccomp program is installed while CAP_SYS_ADMIN is still there, so no_new_privs is not
 * needed and sudo works. */
#include "box/init/init.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static _noreturn_ void fail(int sock, int errnum, const char *what, const char *arg) {
    char text[200];
    snprintf(text, sizeof text, "%s%s%s", what, arg ? " " : "", arg ? arg : "");
    reply_send(sock, BOX_FAILED, 0, errnum, text, -1);
    _exit(125);
}

static const char *env_get(char **env, const char *key) {
    size_t n = strlen(key);
    for (; *env; env++)
        if (strncmp(*env, key, n) == 0 && (*env)[n] == '=')
            return *env + n + 1;
    return NULL;
}

static void env_default(char **env, const char *key, const char *value) {
    if (env_get(env, key))
        return;
    while (*env)
        env++;
    *env = xasprintf("%s=%s", key, value); /* request_strings left room */
}

/* A terminal in the box's own devpts. Gives the slave; *ret_master is for the caller. */
static int tty_open(int sock, uint16_t rows, uint16_t cols, uid_t uid, int *ret_master) {
    int unlock = 0;
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0)
        fail(sock, errno, "open a terminal", NULL);
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
        fail(sock, errno, "unlock a terminal", NULL);
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        fail(sock, errno, "open a terminal's other end", NULL);
    struct winsize ws = {.ws_row = rows, .ws_col = cols};
    if (rows && cols)
        ioctl(master, TIOCSWINSZ, &ws);
    if (fchown(slave, uid, (gid_t)-1) < 0)
        fail(sock, errno, "give the terminal to the user", NULL);
    *ret_master = master;
    return slave;
}

static void stdio(struct request *q, int slave) {
    static const uint32_t flag[3] = {BOX_F_IN, BOX_F_OUT, BOX_F_ERR};
    size_t next = 1;
    int fds[3];
    for (size_t i = 0; i < 3; i++) {
        fds[i] = slave;
        if (slave < 0)
            fds[i] = (q->h.flags & flag[i]) && next < q->n_fds ? q->fds[next++] : -1;
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i] < 0 ? null : fds[i], i) < 0)
            fail(q->fds[0], errno, "set standard descriptors", NULL);
}

static void caps_set(uint64_t caps) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {
        {.effective = (uint32_t)caps, .permitted = (uint32_t)caps},
        {.effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32)}};
    if (syscall(SYS_capset, &h, d) < 0)
        _exit(125);
}

int filter_install(void) {
    struct sock_fprog f = {
        .len = (unsigned short)(init_state.seccomp_len / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)(void *)init_state.seccomp};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &f) < 0 ? -errno : 0;
}

static void restrict_self(struct request *q, const struct user_info *u, bool filtered) {
    int sock = q->fds[0];
    bool privileged = q->h.flags & BOX_F_PRIVILEGED;
    uint64_t caps = privileged ? UINT64_MAX : q->h.caps ? q->h.caps : init_state.caps;
    for (int c = 0; c < 64; c++)
        if ((init_state.all_caps & ~caps & (1ull << c)) && prctl(PR_CAPBSET_DROP, c) < 0)
            fail(sock, errno, "drop capabilities", NULL);
    caps &= init_state.all_caps;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (!privileged && !filtered && init_state.seccomp_len) {
        int r = filter_install();
        if (r < 0)
            fail(sock, -r, "install the system call filter", NULL);
    }
    /* EPERM: a namespace of a single id, where setgroups is denied. */
    if (setgroups(u->n_groups, u->groups) < 0 && errno != EPERM)
        fail(sock, errno, "set groups", NULL);
    if (setresgid(u->gid, u->gid, u->gid) < 0)
        fail(sock, errno, "set the group id", NULL);
    if (setresuid(u->uid, u->uid, u->uid) < 0)
        fail(sock, errno, "set the user id", NULL);
    caps_set(u->uid == 0 ? caps : 0);
}

static void limits(void) {
    struct rlimit rl;
    if (init_state.nproc && getrlimit(RLIMIT_NPROC, &rl) == 0) {
        rl.rlim_cur = rl.rlim_max = MIN((rlim_t)init_state.nproc, rl.rlim_max);
        setrlimit(RLIMIT_NPROC, &rl);
    }
    if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
        rl.rlim_cur = MIN((rlim_t)65536, rl.rlim_max); /* as hosted runners have it */
        setrlimit(RLIMIT_NOFILE, &rl);
    }
}

static void oom_score(uint32_t v) {
    char t[16];
    int n = snprintf(t, sizeof t, "%u", MIN(v, 1000u));
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t k = write(fd, t, (size_t)n);
        (void)k;
        close(fd);
    }
}

/* Returns only when nothing could be executed; errno as execvp would give it. */
static int exec_path(char **argv, char **env) {
    const char *path = env_get(env, "PATH");
    int best = ENOENT;
    if (strchr(argv[0], '/')) {
        execve(argv[0], argv, env);
        return errno;
    }
    if (!*argv[0])
        return ENOENT;
    for (const char *p = path ? path : DEFAULT_PATH; p;) {
        const char *end = strchrnul(p, ':');
        char full[4096];
        int n = end == p
                    ? snprintf(full, sizeof full, "./%s", argv[0])
                    : snprintf(full, sizeof full, "%.*s/%s", (int)MIN(end - p, 4000), p, argv[0]);
        if (n > 0 && (size_t)n < sizeof full) {
            execve(full, argv, env);
            if (errno == EACCES)
                best = EACCES;
            else if (errno != ENOENT && errno != ENOTDIR)
                return errno;
        }
        p = *end ? end + 1 : NULL;
    }
    return best;
}

/* The process whose namespaces are joined, as a descriptor: inside, its number is another one. Its
 * pid namespace has been joined by the fork already. */
static int joined = -1;

static void join_mounts(struct request *q) {
    if (setns(joined, CLONE_NEWNS) < 0 || chdir("/") < 0)
        fail(q->fds[0], errno, "join the container's process", NULL);
    close(joined);
}

void exec_child(struct request *q, bool filtered) {
    struct user_info u;
    int sock = q->fds[0], master = -1, slave = -1;
    setsid();
    if (q->h.flags & BOX_F_JOIN)
        join_mounts(q);
    if (q->h.flags & BOX_F_PIDNS) {
        if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
            fail(sock, errno, "make mounts private", NULL);
        int r = proc_mount(q->h.flags & BOX_F_PRIVILEGED);
        if (r < 0)
            fail(sock, -r, "mount /proc", NULL);
    }
    if (user_find(q->str2, &u) < 0)
        fail(sock, ENOENT, "no such user or group in this image:", q->str2);
    if (q->h.flags & BOX_F_TTY) {
        slave = tty_open(sock, (uint16_t)q->h.num[0], (uint16_t)q->h.num[1], u.uid, &master);
        ioctl(slave, TIOCSCTTY, 0);
    }
    const char *cwd = *q->str1 ? q->str1 : "/";
    if (q->h.flags & BOX_F_MAKE_CWD) {
        int made = 0, fd = mkdirs_in(cwd, 0755, 0, 0, &made);
        if (fd < 0)
            fail(sock, -fd, "make the folder", cwd);
        close(fd);
    }
    if (chdir(cwd) < 0)
        fail(sock, errno, "change to the folder", cwd);
    env_default(q->env, "PATH", DEFAULT_PATH);
    env_default(q->env, "HOME", u.home);
    if (slave >= 0)
        env_default(q->env, "TERM", "xterm");
    if (q->h.num[2] > 0)
        oom_score((uint32_t)q->h.num[2]);
    limits();
    stdio(q, slave);
    restrict_self(q, &u, filtered);

    sigset_t none;
    sigemptyset(&none);
    reply_send(sock, BOX_READY, 0, 0, NULL, master);
    if (master >= 0)
        close(master);
    syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int r = exec_path(q->argv, q->env);
    reply_send(sock, BOX_NOEXEC, 0, r, q->argv[0], -1);
    _exit(r == ENOENT || r == ENOTDIR ? 127 : 126);
}

/* A child of ours in another process' pid namespace: what we say about our children's namespace is
 * taken back after the fork. */
static pid_t fork_joined(struct request *q) {
    int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    int fd = own < 0 ? -1 : (int)syscall(SYS_pidfd_open, (pid_t)q->h.num[3], 0);
    pid_t pid = -1;
    if (fd >= 0 && setns(fd, CLONE_NEWPID) == 0) {
        joined = fd;
        pid = fork();
        if (pid == 0)
            exec_child(q, false);
        int saved = errno;
        while (setns(own, CLONE_NEWPID) < 0 && errno == EINTR)
            ;
        errno = saved;
    }
    int r = pid < 0 ? -errno : pid;
    fd_close(fd);
    fd_close(own);
    return r;
}

pid_t exec_start(struct request *q) {
    if (!q->h.n_argv) {
        reply_send(q->fds[0], BOX_FAILED, 0, EINVAL, "no command", -1);
        return -EINVAL;
    }
    long pid = q->h.flags & BOX_F_JOIN ? fork_joined(q) : zygote_start(q);
    /* Else a raw clone: as fork, with namespaces. */
    long flags = SIGCHLD | (q->h.flags & BOX_F_PIDNS ? CLONE_NEWPID | CLONE_NEWNS : 0);
    if (pid == 0) {
        pid = flags == SIGCHLD ? fork() : syscall(SYS_clone, flags, 0, 0, 0, 0);
        if (pid == 0)
            exec_child(q, false);
        pid = pid < 0 ? -errno : pid;
    }
    if (pid < 0) {
        int r = (int)pid;
        reply_send(q->fds[0], BOX_FAILED, 0, -r, "start a process", -1);
        return r;
    }
    reply_send(q->fds[0], BOX_PID, (int32_t)pid, 0, NULL, -1);
    return (pid_t)pid;
}
