/* The keeper of one command on the host. It starts the command in a session of its own and is the
 * subreaper of all that comes of it, so that whatever becomes a daemon stays its descendant. What
 * it knows goes over the socket: the end of the command at once. It stays for what still runs in
 * the background, until slipway closes the socket, by itself or because it was killed: then every
 * descendant is stopped, so that nothing can multiply, and killed. */
#include "run/host_step.h"
#include "core/err.h"
#include "core/fs.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONTROL 3
#define TEXT 4
#define ROUNDS 200 /* of killing; then what cannot be killed (another user's) is left */

void host_step_text(struct buf *b, const char *const *argv, const char *const *envp) {
    uint32_t n[2] = {0, 0};
    for (; argv[n[0]]; n[0]++) {}
    for (; envp && envp[n[1]]; n[1]++) {}
    buf_add(b, n, sizeof n);
    for (size_t i = 0; i < n[0]; i++)
        buf_add(b, argv[i], strlen(argv[i]) + 1);
    for (size_t i = 0; i < n[1]; i++)
        buf_add(b, envp[i], strlen(envp[i]) + 1);
}

static char **strings(char **at, char *end, uint32_t n) {
    char **v = xcalloc((size_t)n + 1, sizeof *v);
    for (uint32_t i = 0; i < n; i++) {
        char *nul = memchr(*at, 0, (size_t)(end - *at));
        if (!nul) {
            free(v);
            return NULL;
        }
        v[i] = *at;
        *at = nul + 1;
    }
    return v;
}

/* --- who comes of it ----------------------------------------------------------------------------- */

struct task { pid_t pid, parent, session; bool ours; };
struct tasks { struct task *v; size_t n, cap; };

static void read_task(struct tasks *ts, int proc, const char *name) {
    char path[64], line[512];
    snprintf(path, sizeof path, "%.20s/stat", name);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
    fd_close(fd);
    if (n <= 0)
        return;
    line[n] = 0;
    const char *p = strrchr(line, ')'); /* the name before it may hold anything */
    char state;
    int parent, group, session;
    if (!p || sscanf(p + 1, " %c %d %d %d", &state, &parent, &group, &session) != 4)
        return;
    if (ts->n == ts->cap) {
        ts->cap = ts->cap ? ts->cap * 2 : 256;
        ts->v = xrealloc(ts->v, ts->cap * sizeof *ts->v);
    }
    ts->v[ts->n++] = (struct task){(pid_t)atol(name), parent, session, false};
}

static int by_pid(const void *a, const void *b) {
    pid_t x = ((const struct task *)a)->pid, y = ((const struct task *)b)->pid;
    return (x > y) - (x < y);
}

static void read_tasks(struct tasks *ts) {
    DIR *d = opendir("/proc");
    ts->n = 0;
    for (struct dirent *en; d && (en = readdir(d));)
        if (en->d_name[0] >= '1' && en->d_name[0] <= '9')
            read_task(ts, dirfd(d), en->d_name);
    if (d)
        closedir(d);
    qsort(ts->v, ts->n, sizeof *ts->v, by_pid);
    /* Parents mostly come first; go round until nobody new is found. */
    pid_t self = getpid();
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < ts->n; i++) {
            struct task *t = &ts->v[i], key = {.pid = t->parent}, *parent = NULL;
            if (!t->ours && t->parent != self)
                parent = bsearch(&key, ts->v, ts->n, sizeof *ts->v, by_pid);
            if (!t->ours && (t->parent == self || (parent && parent->ours)))
                t->ours = more = true;
        }
    }
}

/* How many there are. session: 0 = all that comes of us. */
static size_t sweep(struct tasks *ts, int signo, pid_t session) {
    size_t n = 0;
    read_tasks(ts);
    for (size_t i = 0; i < ts->n; i++)
        if (ts->v[i].ours && (!session || ts->v[i].session == session)) {
            kill(ts->v[i].pid, signo);
            n++;
        }
    return n;
}

static void reap(pid_t command, int *ret_status) {
    int st;
    for (pid_t p; (p = waitpid(-1, &st, WNOHANG)) > 0;)
        if (p == command)
            *ret_status = st;
}

static void kill_all(struct tasks *ts) {
    int ignored;
    for (int i = 0; i < ROUNDS; i++) {
        size_t before = 0, now;
        for (int k = 0; k < 20 && (now = sweep(ts, SIGSTOP, 0)) != before; k++)
            before = now;
        sweep(ts, SIGKILL, 0);
        reap(0, &ignored);
        if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
            return;
        poll(NULL, 0, i < 10 ? 2 : 20);
    }
}

/* --- the command --------------------------------------------------------------------------------- */

static void child(char **argv, char **envp, int err_fd) {
    sigset_t none;
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    environ = envp;
    execvp(argv[0], argv); /* in the PATH that the step has */
    int32_t err = errno;
    dprintf(2, "slipway: %s: %s\n", argv[0], strerror(err));
    ssize_t k = write(err_fd, &err, sizeof err);
    (void)k;
    _exit(127);
}

static pid_t start(char **argv, char **envp, int32_t *ret_error) {
    int fd[2];
    *ret_error = 0;
    if (pipe2(fd, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork(); /* a small process without threads */
    if (pid == 0)
        child(argv, envp, fd[1]);
    close(fd[1]);
    if (pid > 0) {
        int32_t err;
        if (read(fd[0], &err, sizeof err) == sizeof err)
            *ret_error = err;
    }
    close(fd[0]);
    return pid < 0 ? -errno : pid;
}

static bool has_ended(pid_t command, int *status, int32_t error, bool *told) {
    if (!*told && *status != -1) {
        struct host_step_end end = {WIFEXITED(*status) ? WEXITSTATUS(*status) : 128 + WTERMSIG(*status), error};
        if (error)
            end.code = error == ENOENT ? 127 : 126;
        ssize_t k = send(CONTROL, &end, sizeof end, MSG_NOSIGNAL);
        (void)k;
        *told = true;
    }
    return *told && waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

static void serve(pid_t command, int32_t error, int sig) {
    struct tasks ts = {0};
    struct pollfd fds[2] = {{CONTROL, POLLIN, 0}, {sig, POLLIN, 0}};
    int status = -1;
    bool told = false;
    for (;;) {
        reap(command, &status);
        if (has_ended(command, &status, error, &told))
            break;
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents) {
            struct signalfd_siginfo si;
            ssize_t k = read(sig, &si, sizeof si);
            (void)k;
        }
        if (!fds[0].revents)
            continue;
        struct host_step_signal m;
        ssize_t n = recv(CONTROL, &m, sizeof m, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n != sizeof m)
            break;
        if (m.group)
            sweep(&ts, m.signo, command);
        else if (status == -1)
            kill(command, m.signo);
    }
    kill_all(&ts);
    free(ts.v);
}

int host_step_main(void) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    uint32_t n[2];
    sigset_t set;
    fcntl(CONTROL, F_SETFD, FD_CLOEXEC);
    fcntl(TEXT, F_SETFD, FD_CLOEXEC);
    if (lseek(TEXT, 0, SEEK_SET) < 0 || fs_read_fd(TEXT, &b) < 0 || b.n < sizeof n)
        return 2;
    close(TEXT);
    memcpy(n, b.p, sizeof n);
    char *at = b.p + sizeof n, *end = b.p + b.n;
    if (!n[0] || n[0] > b.n || n[1] > b.n)
        return 2;
    char **argv = strings(&at, end, n[0]), **envp = argv ? strings(&at, end, n[1]) : NULL;
    if (!envp)
        return 2;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    int sig = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (sig < 0 || null < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return 2;
    int32_t error;
    pid_t pid = start(argv, envp, &error);
    if (pid < 0)
        return 2;
    for (int i = 0; i < 3; i++) /* the command's alone from now on */
        dup2(null, i);
    serve(pid, error, sig);
    free(argv);
    free(envp);
    return 0;
}
