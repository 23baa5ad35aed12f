/* box-init: the first process of every box.
 *
 * One thread, one poll: the control socket (requests), the life socket (held open by the
 * supervisor), and a signalfd. EOF on either socket means that nobody is there any more: init
 * exits, and with it, as the first process of the pid namespace, everything in the box.
 *
 * Whatever could block on something inside the box (opening a FIFO, walking a network mount) is
 * done in a forked child; init itself only forks, reaps, mounts and answers. It is not dumpable,
 * so nothing in the box can look into it or borrow its descriptors. */
#include "box/init/init.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct init_state init_state = {.rootfd = -1};

/* Commands that run, with the reply socket on which their end is told. */
static struct running {
    pid_t pid;
    int sock;
} * running;
static size_t n_running, cap_running;

/* Reads "/proc/PID/stat": parent and session. */
static int proc_stat(pid_t pid, pid_t *ppid, pid_t *session) {
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t k = read(fd, text, sizeof text - 1);
    close(fd);
    if (k <= 0)
        return -ESRCH;
    text[k] = 0;
    char *p = strrchr(text, ')'); /* the name may hold anything */
    int pp = 0, pg = 0, se = 0;
    char state;
    if (!p || sscanf(p + 1, " %c %d %d %d", &state, &pp, &pg, &se) != 4)
        return -ESRCH;
    *ppid = pp;
    *session = se;
    return 0;
}

struct seen {
    pid_t pid, ppid, session;
    signed char hit; /* -1 not known yet */
};

static int by_pid(const void *a, const void *b) {
    pid_t x = ((const struct seen *)a)->pid, y = ((const struct seen *)b)->pid;
    return x < y ? -1 : x > y;
}

/* Is it below one that is hit? Every process on the way learns the answer, so that all together
 * cost one walk each (a fork bomb is thousands deep). */
static bool descends(struct seen *list, size_t n, struct seen *s) {
    struct seen *at = s;
    size_t steps = 0;
    while (at && at->hit < 0 && steps++ < n) {
        struct seen key = {.pid = at->ppid};
        at = bsearch(&key, list, n, sizeof *list, by_pid);
    }
    signed char hit = at && at->hit > 0;
    for (at = s, steps = 0; at && at->hit < 0 && steps++ < n;) {
        struct seen key = {.pid = at->ppid};
        at->hit = hit;
        at = bsearch(&key, list, n, sizeof *list, by_pid);
    }
    return hit;
}

int kill_group(pid_t pid, int signo) {
    enum { MAX_PIDS = 65536 };
    static struct seen *list;
    size_t n = 0;
    int r = -ESRCH;
    if (!list)
        list = xcalloc(MAX_PIDS, sizeof *list);
    DIR *d = opendir("/proc");
    if (!d)
        return kill(pid, signo) < 0 ? -errno : 0;
    for (struct dirent *de; (de = readdir(d)) && n < MAX_PIDS;) {
        int p = atoi(de->d_name);
        if (p <= 1 || proc_stat(p, &list[n].ppid, &list[n].session) < 0)
            continue;
        list[n].pid = p;
        list[n].hit = p == pid || list[n].session == pid ? 1 : -1;
        n++;
    }
    closedir(d);
    qsort(list, n, sizeof *list, by_pid);
    for (size_t i = 0; i < n; i++)
        if (descends(list, n, &list[i]) && kill(list[i].pid, signo) == 0)
            r = 0;
    return r;
}

static void hello(struct request *q) {
    struct stat st;
    int r = 0;
    if (q->n_fds > 1 && fstat(q->fds[1], &st) == 0 && st.st_size > 0 && st.st_size < (1 << 20)) {
        init_state.seccomp_len = (size_t)st.st_size;
        init_state.seccomp = xmalloc(init_state.seccomp_len);
        if (pread(q->fds[1], init_state.seccomp, init_state.seccomp_len, 0) !=
            (ssize_t)init_state.seccomp_len)
            r = -EIO;
    }
    /* Now, and not at the start: the main process has put us into the box's cgroup by then, which
     * becomes the root of what the box sees. */
    if (unshare(CLONE_NEWCGROUP) == 0)
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              NULL);
    init_state.caps = q->h.caps;
    init_state.nproc = (uint64_t)q->h.num[0];
    reply_done(q->fds[0], r);
}

static void handle(struct request *q) {
    pid_t pid;
    switch (q->h.kind) {
    case BOX_HELLO:
        hello(q);
        break;
    case BOX_EXEC:
        pid = exec_start(q);
        if (pid > 0) {
            GROW(running, cap_running, n_running + 1);
            running[n_running++] = (struct running){pid, q->fds[0]};
            q->fds[0] = -1;
        }
        break;
    case BOX_OPEN:
    case BOX_MKDIRS:
    case BOX_OPEN_TREE:
    case BOX_WRITE:
        pid = fork();
        if (pid == 0)
            _exit(files_handle(q) < 0);
        if (pid < 0)
            reply_done(q->fds[0], -errno);
        break;
    case BOX_MOUNT:
    case BOX_NEW_TMPFS:
    case BOX_UMOUNT:
    case BOX_ROOT_RO:
        mounts_handle(q);
        break;
    case BOX_SIGNAL: {
        pid = (pid_t)q->h.num[0];
        int r = pid <= 1                          ? -EINVAL
                : q->h.flags & BOX_F_GROUP        ? kill_group(pid, (int)q->h.num[1])
                : kill(pid, (int)q->h.num[1]) < 0 ? -errno
                                                  : 0;
        reply_done(q->fds[0], r);
        break;
    }
    case BOX_KILLALL:
        reply_done(q->fds[0], kill(-1, (int)q->h.num[0]) < 0 && errno != ESRCH ? -errno : 0);
        break;
    case BOX_PROBE:
        probe_handle(q);
        break;
    case BOX_STATS: {
        char text[200] = "";
        int r = stats_text(text, sizeof text);
        reply_send(q->fds[0], BOX_DONE, r, 0, text, -1);
        break;
    }
    default:
        reply_done(q->fds[0], -ENOSYS);
    }
}

static void reap(void) {
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return;
        zygote_ended(pid);
        for (size_t i = 0; i < n_running; i++) {
            if (running[i].pid != pid)
                continue;
            reply_send(running[i].sock, BOX_EXIT, status, 0, NULL, -1);
            close(running[i].sock);
            running[i] = running[--n_running];
            break;
        }
    }
}

static int start(void) {
    sigset_t all;
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NAME, "slipway-init");
    fcntl(BOX_FD_CONTROL, F_SETFD, FD_CLOEXEC);
    fcntl(BOX_FD_LIFE, F_SETFD, FD_CLOEXEC);
    umask(022);
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3 && null >= 0; i++)
        dup2(null, i);
    if (null > 2)
        close(null);
    /* Commands with a pid namespace of their own have a mount namespace too; what is mounted here
     * later shall reach them. */
    mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL);
    umount2("/dev/.slipway-init", MNT_DETACH);
    unlink("/dev/.slipway-init");
    for (int c = 0; c < 64; c++)
        if (prctl(PR_CAPBSET_READ, c) == 1)
            init_state.all_caps |= 1ull << c;
    /* Commands inherit these; init itself blocks all and reads them from a descriptor. */
    for (int s = 1; s < 65; s++)
        if (s != SIGKILL && s != SIGSTOP)
            signal(s, SIG_DFL);
    init_state.rootfd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
}

int init_run(void) {
    int sig = start();
    if (sig < 0)
        return 1;
    for (;;) {
        struct pollfd p[3] = {{.fd = BOX_FD_CONTROL, .events = POLLIN},
                              {.fd = BOX_FD_LIFE, .events = POLLIN},
                              {.fd = sig, .events = POLLIN}};
        if (poll(p, 3, -1) < 0 && errno != EINTR)
            return 1;
        if (p[1].revents)
            return 0; /* the supervisor is gone */
        if (p[2].revents) {
            struct signalfd_siginfo si;
            while (read(sig, &si, sizeof si) == (ssize_t)sizeof si)
                if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT || si.ssi_signo == SIGHUP ||
                    si.ssi_signo == SIGQUIT || si.ssi_signo == SIGUSR1 || si.ssi_signo == SIGUSR2)
                    kill(-1, (int)si.ssi_signo);
            reap();
        }
        if (p[0].revents) {
            struct request q;
            int r = request_read(BOX_FD_CONTROL, &q);
            if (r == 0)
                return 0; /* the main process is gone */
            if (r > 0)
                handle(&q);
            request_done(&q);
        }
    }
}
