/* Children by posix_spawn. Descriptors: all of ours are O_CLOEXEC, so a child gets what is dup'ed
 * into it by file actions and nothing else. */
#include "core/proc.h"

#include "core/fs.h"
#include "core/loop.h"

#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

char *proc_find(const char *program) {
    if (strchr(program, '/'))
        return access(program, X_OK) == 0 ? xstrdup(program) : NULL;
    const char *path = getenv("PATH");
    _cleanup_free_ char *all = xasprintf("%s:/usr/local/sbin:/usr/sbin:/sbin", path ? path : "/usr/bin:/bin");
    struct sv rest = sv_from(all), dir;
    while (sv_split(&rest, ':', &dir)) {
        if (!dir.n)
            continue;
        char *p = xasprintf(SV_FMT "/%s", SV_ARG(dir), program);
        struct stat st;
        if (stat(p, &st) == 0 && S_ISREG(st.st_mode) && access(p, X_OK) == 0)
            return p;
        free(p);
    }
    return NULL;
}

const char *proc_self(void) {
    return "/proc/self/exe";
}

int proc_pidfd(pid_t pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

int proc_spawn(const struct proc_spec *s, pid_t *ret_pid, struct err *e) {
    _cleanup_free_ char *program = proc_find(s->argv[0]);
    if (!program)
        return err_set(e, ERR_ENV, -ENOENT, "%s: no such program", s->argv[0]);
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    posix_spawn_file_actions_init(&fa);
    posix_spawnattr_init(&at);
    /* dup2 in two steps through high numbers, so that sources are not overwritten by targets; a
     * dup2 onto itself would keep O_CLOEXEC. */
    int high[ELEMENTS(s->fds)];
    size_t n_high = 0;
    int r = 0;
    bool given[3] = {false, false, false};
    for (size_t i = 0; i < s->n_fds && r == 0; i++) {
        high[i] = fcntl(s->fds[i].parent, F_DUPFD_CLOEXEC, 100);
        if (high[i] < 0) {
            r = -errno;
            break;
        }
        n_high++;
        posix_spawn_file_actions_adddup2(&fa, high[i], s->fds[i].child);
        if (s->fds[i].child < 3)
            given[s->fds[i].child] = true;
    }
    for (int i = 0; i < 3 && !s->inherit_stdio; i++)
        if (!given[i])
            posix_spawn_file_actions_addopen(&fa, i, "/dev/null", i ? O_WRONLY : O_RDONLY, 0);
    if (s->cwd)
        posix_spawn_file_actions_addchdir_np(&fa, s->cwd);
    else if (s->cwd_fd > 0)
        posix_spawn_file_actions_addfchdir_np(&fa, s->cwd_fd);
    sigset_t none, dfl;
    sigemptyset(&none);
    sigfillset(&dfl);
    sigdelset(&dfl, SIGKILL);
    sigdelset(&dfl, SIGSTOP);
    posix_spawnattr_setsigmask(&at, &none);
    posix_spawnattr_setsigdefault(&at, &dfl);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (s->new_session)
        flags |= POSIX_SPAWN_SETSID;
    posix_spawnattr_setflags(&at, flags);
    pid_t pid = -1;
    if (r == 0)
        r = -posix_spawn(&pid, program, &fa, &at, (char *const *)(uintptr_t)s->argv,
                         s->envp ? (char *const *)(uintptr_t)s->envp : environ);
    for (size_t i = 0; i < n_high; i++)
        close(high[i]);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&at);
    if (r < 0)
        return err_errno(e, r, "start %s", s->argv[0]);
    *ret_pid = pid;
    return 0;
}

static int status_of(int st) {
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

int proc_wait(pid_t pid) {
    int st;
    while (waitpid(pid, &st, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return status_of(st);
}

static int pipe_pair(int p[2]) {
    return pipe2(p, O_CLOEXEC) < 0 ? -errno : 0;
}

/* Reads what is there; what does not fit is dropped, so that the child never blocks on us. */
static bool drain(int fd, struct buf *b) {
    char chunk[65536];
    ssize_t r = read(fd, chunk, sizeof chunk);
    if (r < 0)
        return errno == EINTR || errno == EAGAIN;
    if (!r)
        return false;
    if (b) {
        size_t room = b->max > b->n ? b->max - b->n : 0;
        buf_add(b, chunk, MIN((size_t)r, room));
    }
    return true;
}

int proc_run(const struct proc_spec *s, struct sv in, struct buf *out, struct buf *errout,
             int timeout_ms, struct err *e) {
    struct proc_spec x = *s;
    int pin[2] = {-1, -1}, pout[2] = {-1, -1}, perr[2] = {-1, -1};
    int r = 0;
    if (in.n && (r = pipe_pair(pin)) == 0)
        x.fds[x.n_fds++] = (struct proc_fd){0, pin[0]};
    if (r == 0 && out && (r = pipe_pair(pout)) == 0)
        x.fds[x.n_fds++] = (struct proc_fd){1, pout[1]};
    if (r == 0 && errout && (r = pipe_pair(perr)) == 0)
        x.fds[x.n_fds++] = (struct proc_fd){2, perr[1]};
    pid_t pid = -1;
    if (r < 0)
        err_errno(e, r, "pipe");
    else
        r = proc_spawn(&x, &pid, e);
    pin[0] = fd_close(pin[0]);
    pout[1] = fd_close(pout[1]);
    perr[1] = fd_close(perr[1]);
    if (r < 0) {
        fd_close(pin[1]);
        fd_close(pout[0]);
        fd_close(perr[0]);
        return r;
    }
    /* The end is the end of the child, not of its pipes: a daemon it left may hold those open. */
    _cleanup_close_ int pidfd = proc_pidfd(pid);
    uint64_t end = timeout_ms > 0 ? now_mono() + (uint64_t)timeout_ms * 1000000u : 0;
    size_t sent = 0;
    bool timed_out = false, ended = false;
    if (pin[1] >= 0)
        fcntl(pin[1], F_SETFL, O_NONBLOCK);
    while (!ended || pout[0] >= 0 || perr[0] >= 0) {
        struct pollfd p[4] = {{pin[1], POLLOUT, 0}, {pout[0], POLLIN, 0}, {perr[0], POLLIN, 0},
                              {ended ? -1 : pidfd, POLLIN, 0}};
        int wait_ms = ended ? 0 : -1;
        if (end && !ended) {
            uint64_t now = now_mono();
            wait_ms = now >= end ? 0 : (int)((end - now) / 1000000u) + 1;
        }
        int k = poll(p, 4, wait_ms);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            if (!ended && end) {
                timed_out = true;
                kill(pid, SIGKILL);
                end = 0;
                continue;
            }
            break;
        }
        if (p[0].revents) {
            ssize_t w = write(pin[1], in.p + sent, in.n - sent);
            if (w > 0)
                sent += (size_t)w;
            if ((w < 0 && errno != EAGAIN && errno != EINTR) || sent == in.n)
                pin[1] = fd_close(pin[1]);
        }
        if (p[1].revents && !drain(pout[0], out))
            pout[0] = fd_close(pout[0]);
        if (p[2].revents && !drain(perr[0], errout))
            perr[0] = fd_close(perr[0]);
        if (p[3].revents)
            ended = true;
    }
    fd_close(pin[1]);
    fd_close(pout[0]);
    fd_close(perr[0]);
    r = proc_wait(pid);
    if (timed_out)
        return err_set(e, ERR_FAILED, -ETIMEDOUT, "%s: no end after %d ms", s->argv[0], timeout_ms);
    return r;
}

int proc_output(struct buf *out, struct err *e, const char *argv0, ...) {
    const char *argv[64];
    size_t n = 0;
    argv[n++] = argv0;
    va_list ap;
    va_start(ap, argv0);
    while (n < ELEMENTS(argv) - 1 && (argv[n] = va_arg(ap, const char *)))
        n++;
    va_end(ap);
    argv[n] = NULL;
    _cleanup_buf_ struct buf text = BUF_SMALL;
    struct proc_spec s = {.argv = argv};
    int r = proc_run(&s, SV_NULL, out, &text, 0, e);
    if (r < 0)
        return r;
    if (r > 0) {
        struct sv last = sv_trim(buf_sv(&text));
        ssize_t nl = sv_rchr(last, '\n');
        if (nl >= 0)
            last = sv_sub(last, (size_t)nl + 1, SIZE_MAX);
        return err_set(e, ERR_FAILED, -ECHILD, "%s: exit %d%s" SV_FMT, argv0, r, last.n ? ": " : "",
                       SV_ARG(last));
    }
    if (out && out->n) {
        out->n = sv_rtrim(buf_sv(out)).n;
        out->p[out->n] = 0;
    }
    return 0;
}

static struct {
    pthread_mutex_t lock;
    pid_t *pids;
    size_t n, cap;
} left = {.lock = PTHREAD_MUTEX_INITIALIZER};

void proc_leave(pid_t pid) {
    pthread_mutex_lock(&left.lock);
    if (pid > 0) {
        GROW(left.pids, left.cap, left.n + 1);
        left.pids[left.n++] = pid;
    }
    for (size_t i = 0; i < left.n;)
        if (waitpid(left.pids[i], NULL, WNOHANG) != 0)
            left.pids[i] = left.pids[--left.n];
        else
            i++;
    pthread_mutex_unlock(&left.lock);
}
