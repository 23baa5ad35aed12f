/* box-init: the first process of every box.
 *
 * One thread, one poll: the control socket (requests), the life socket (held open by the
 * supervisor), and a signalfd. EOF on either socket means that nobody is there any more: init
 * exits, and with it, as the first process of the pid namespace, everything in the box.
 *
 * Whatever could block on something inside the box (opening a FIFO, walking a network mount) is
 * done in a forked child; init itself only forks, reaps, mounts and answers. It is not dumpable,
 * so nothing in the box can look into it or borrow its descriptors. */
#include "init.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct init_state init_state = {.rootfd = -1};

/* Commands that run, with the reply socket on which their end is told. */
static struct running {
    pid_t pid;
    int sock;
} *running;
static size_t n_running, cap_running;

int reply_send(int sock, uint32_t kind, int32_t value, int errnum, const char *text, int fd) {
    struct box_rep m = {.kind = kind, .value = value, .errnum = errnum};
    if (text)
        snprintf(m.text, sizeof m.text, "%s", text);
    struct iovec iov = {&m, sizeof m};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } ctl;
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    memset(&ctl, 0, sizeof ctl);
    if (fd >= 0) {
        h.msg_control = ctl.space;
        h.msg_controllen = sizeof ctl.space;
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t k;
    do
        k = sendmsg(sock, &h, MSG_NOSIGNAL);
    while (k < 0 && errno == EINTR);
    return k < 0 ? -errno : 0;
}

static void request_done(struct request *q) {
    for (size_t i = 0; i < q->n_fds; i++)
        close(q->fds[i]);
    free(q->strings);
    free(q->argv);
    free(q->env);
    memset(q, 0, sizeof *q);
}

/* Splits the strings; -EINVAL when they are not what the header says. */
static int request_strings(struct request *q) {
    const struct box_req *h = &q->h;
    size_t at = 0, want = (size_t)h->n_argv + h->n_env + 2;
    if (want > BOX_PAYLOAD_MAX / 2 || (q->len && q->strings[q->len - 1] != 0))
        return -EINVAL;
    q->argv = xcalloc((size_t)h->n_argv + 1, sizeof *q->argv);
    q->env = xcalloc((size_t)h->n_env + 8, sizeof *q->env); /* room for HOME and the like */
    q->str1 = q->str2 = "";
    for (size_t i = 0; i < want && at < q->len; i++) {
        char *s = q->strings + at;
        at += strlen(s) + 1;
        if (i < h->n_argv)
            q->argv[i] = s;
        else if (i < (size_t)h->n_argv + h->n_env)
            q->env[i - h->n_argv] = s;
        else if (i == want - 2)
            q->str1 = s;
        else
            q->str2 = s;
    }
    if (h->n_argv && !q->argv[h->n_argv - 1])
        return -EINVAL;
    if (h->n_env && !q->env[h->n_env - 1])
        return -EINVAL;
    return 0;
}

static int read_memfd(int fd, void *p, size_t n) {
    size_t at = 0;
    while (at < n) {
        ssize_t k = pread(fd, (char *)p + at, n - at, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -EIO;
        at += (size_t)k;
    }
    return 0;
}

/* 1 = a request, 0 = EOF, negative = a bad one (dropped) or an error. */
static int request_read(int sock, struct request *q) {
    static char data[sizeof(struct box_req) + BOX_INLINE];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(BOX_MAX_FDS * sizeof(int))];
    } ctl;
    struct iovec iov = {data, sizeof data};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.space,
                       .msg_controllen = sizeof ctl.space};
    memset(q, 0, sizeof *q);
    ssize_t k = recvmsg(sock, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (k <= 0)
        return k == 0 ? 0 : errno == ECONNRESET ? 0 : -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(q->fds, CMSG_DATA(c), MIN(n, (size_t)BOX_MAX_FDS) * sizeof(int));
        q->n_fds = MIN(n, (size_t)BOX_MAX_FDS);
    }
    if ((size_t)k < sizeof q->h)
        return -EBADMSG;
    memcpy(&q->h, data, sizeof q->h);
    if (q->h.magic != BOX_MAGIC || q->n_fds < 1 || q->h.len > BOX_PAYLOAD_MAX)
        return -EBADMSG;
    q->len = q->h.len;
    q->strings = xmalloc(q->len + 1);
    q->strings[q->len] = 0;
    if (q->h.flags & BOX_F_MEMFD) {
        if (q->n_fds < 2)
            return -EBADMSG;
        int r = read_memfd(q->fds[q->n_fds - 1], q->strings, q->len);
        close(q->fds[--q->n_fds]);
        if (r < 0)
            return r;
    } else if ((size_t)k - sizeof q->h == q->len) {
        memcpy(q->strings, data + sizeof q->h, q->len);
    } else {
        return -EBADMSG;
    }
    return request_strings(q) < 0 ? -EBADMSG : 1;
}

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

int kill_group(pid_t pid, int signo) {
    enum { MAX_PIDS = 65536 };
    static struct {
        pid_t pid, ppid, session;
        bool hit;
    } *list;
    size_t n = 0;
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
        list[n].hit = p == pid || list[n].session == pid;
        n++;
    }
    closedir(d);
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < n; i++) {
            if (list[i].hit)
                continue;
            for (size_t j = 0; j < n; j++)
                if (list[j].hit && list[j].pid == list[i].ppid) {
                    list[i].hit = more = true;
                    break;
                }
        }
    }
    int r = -ESRCH;
    for (size_t i = 0; i < n; i++)
        if (list[i].hit && kill(list[i].pid, signo) == 0)
            r = 0;
    return r;
}

static void hello(struct request *q) {
    struct stat st;
    int r = 0;
    if (q->n_fds > 1 && fstat(q->fds[1], &st) == 0 && st.st_size > 0 && st.st_size < (1 << 20)) {
        init_state.seccomp_len = (size_t)st.st_size;
        init_state.seccomp = xmalloc(init_state.seccomp_len);
        r = read_memfd(q->fds[1], init_state.seccomp, init_state.seccomp_len);
    }
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
        pid = fork();
        if (pid == 0)
            _exit(files_handle(q) < 0);
        if (pid < 0)
            reply_done(q->fds[0], -errno);
        break;
    case BOX_MOUNT:
    case BOX_TMPFS:
    case BOX_UMOUNT:
    case BOX_ROOT_RO:
        mounts_handle(q);
        break;
    case BOX_SIGNAL: {
        pid = (pid_t)q->h.num[0];
        int r = pid <= 1 ? -EINVAL
                : q->h.flags & BOX_F_GROUP ? kill_group(pid, (int)q->h.num[1])
                : kill(pid, (int)q->h.num[1]) < 0 ? -errno : 0;
        reply_done(q->fds[0], r);
        break;
    }
    case BOX_KILLALL:
        reply_done(q->fds[0], kill(-1, (int)q->h.num[0]) < 0 && errno != ESRCH ? -errno : 0);
        break;
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
    init_state.rootfd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(void) {
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
