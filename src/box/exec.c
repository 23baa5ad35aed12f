/* Commands in a box, from the main process: see proto.h for what goes over the reply socket. */
#include "box/impl.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

struct box_proc {
    struct box *box;
    int sock, tty;
    int pid;
    bool ended;
    int status; /* as a shell has it, or -EPIPE */
    int noexec; /* errno of a failed exec */
    char text[500];
};

/* Takes one message in; 1 when the process has ended, 0 when something else came, -EAGAIN. */
static int take(struct box_proc *p, int flags) {
    struct box_rep m;
    int fd = -1;
    int r = reply_recv(p->sock, &m, &fd, flags);
    if (r == -EAGAIN)
        return r;
    if (r < 0) {
        p->ended = true;
        p->status = -EPIPE;
        return 1;
    }
    switch (m.kind) {
    case BOX_PID:
        p->pid = m.value;
        break;
    case BOX_READY:
        p->tty = fd;
        fd = -1;
        break;
    case BOX_NOEXEC:
        p->noexec = m.errnum;
        snprintf(p->text, sizeof p->text, "%s", m.text);
        break;
    case BOX_EXIT:
        p->ended = true;
        p->status = WIFEXITED(m.value) ? WEXITSTATUS(m.value) : 128 + WTERMSIG(m.value);
        break;
    default:
        break;
    }
    fd_close(fd);
    return p->ended;
}

/* Until the child is about to exec, and its id is known: init tells that one, the child the other,
 * in any order. */
static int ready_wait(struct box_proc *p, const struct box_exec *x, struct err *e) {
    for (bool ready = false; !ready || !p->pid;) {
        struct box_rep m;
        int fd = -1;
        int r = reply_recv(p->sock, &m, &fd, 0);
        if (r < 0)
            return err_set(e, ERR_INTERNAL, -EPIPE, "box %s died while starting %s", p->box->name,
                           x->argv[0]);
        if (m.kind == BOX_PID) {
            p->pid = m.value;
        } else if (m.kind == BOX_READY) {
            p->tty = fd;
            fd = -1;
            ready = true;
        } else if (m.kind == BOX_NOEXEC) {
            p->noexec = m.errnum;
            snprintf(p->text, sizeof p->text, "%s", m.text);
        } else if (m.kind == BOX_FAILED) {
            enum err_kind kind = m.errnum == ENOENT || m.errnum == EACCES || m.errnum == ENOTDIR
                                     ? ERR_USER
                                     : ERR_INTERNAL;
            r = m.errnum ? -m.errnum : -EIO;
            return err_set(e, kind, r, "%s: %s", m.text, strerror(m.errnum));
        } else if (m.kind == BOX_EXIT) {
            return err_set(e, ERR_INTERNAL, -EPIPE, "%s was killed before it started", x->argv[0]);
        }
        fd_close(fd);
    }
    return 0;
}

/* /dev/stdout and /dev/stderr are opened by path, which asks for the pipe's own permissions; its
 * owner is nobody in the box. Only who has the descriptor finds that path. */
static void reopenable(int fd) {
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && (st.st_mode & 0666) != 0666)
        (void)fchmod(fd, 0666);
}

#define NOT_EXECUTED "exec: \""

bool box_exec_missing(const struct err *e) { return startswith(e->msg, NOT_EXECUTED) != NULL; }

/* The descriptor closes with the exec, or with the end of a process that has told BOX_NOEXEC. */
static int exec_wait(struct box_proc *p, int fd, const char *name, struct err *e) {
    char c;
    while (read(fd, &c, 1) < 0 && errno == EINTR)
        ;
    while (!p->ended && !p->noexec && take(p, MSG_DONTWAIT) != -EAGAIN)
        ;
    if (p->noexec == ENOENT)
        return err_set(e, ERR_USER, -ENOENT, NOT_EXECUTED "%s\": %s", name,
                       strchr(name, '/') ? "no such file or directory" : "executable file not found in $PATH");
    if (p->noexec)
        return err_set(e, ERR_USER, -p->noexec, NOT_EXECUTED "%s\": %s", name,
                       p->noexec == EACCES ? "permission denied" : strerror(p->noexec));
    return 0;
}

int box_exec(struct box *b, const struct box_exec *x, struct box_proc **ret, struct err *e) {
    static const uint32_t flag[3] = {BOX_F_IN, BOX_F_OUT, BOX_F_ERR};
    const int given[3] = {x->in, x->out, x->err};
    struct box_req h = {.kind = BOX_EXEC,
                        .num = {x->rows, x->cols, x->nice_oom, x->join},
                        .caps = x->privileged ? UINT64_MAX : b->caps};
    int fds[4], started[2] = {-1, -1};
    size_t n = 0;
    if (!x->argv || !x->argv[0])
        return err_set(e, ERR_USER, -EINVAL, "no command");
    for (size_t i = 0; i < 3 && !x->tty; i++)
        if (given[i] >= 0) {
            h.flags |= flag[i];
            fds[n++] = given[i];
            reopenable(given[i]);
        }
    h.flags |= (x->tty ? BOX_F_TTY : 0) | (x->new_pidns ? BOX_F_PIDNS : 0) |
               (x->privileged || b->privileged ? BOX_F_PRIVILEGED : 0) |
               (x->make_cwd ? BOX_F_MAKE_CWD : 0) | (x->join ? BOX_F_JOIN : 0);
    if (x->wait_exec) {
        if (pipe2(started, O_CLOEXEC) < 0)
            return err_errno(e, -errno, "pipe");
        h.flags |= BOX_F_STARTED;
        fds[n++] = started[1];
    }
    _cleanup_close_ int began = started[0];
    int sock = request_send(b->ctl, &h, x->argv, x->envp, x->cwd, x->user, fds, n);
    fd_close(started[1]);
    if (sock < 0)
        return sock == -EPIPE ? err_set(e, ERR_INTERNAL, sock, "box %s has ended", b->name)
                              : err_errno(e, sock, "start %s in box %s", x->argv[0], b->name);
    struct box_proc *p = xcalloc(1, sizeof *p);
    p->box = b;
    p->sock = sock;
    p->tty = -1;
    int r = ready_wait(p, x, e);
    if (r >= 0 && x->wait_exec)
        r = exec_wait(p, began, x->argv[0], e);
    if (r < 0) {
        box_proc_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

int box_proc_status_fd(const struct box_proc *p) {
    return p->sock;
}
int box_proc_tty_fd(const struct box_proc *p) {
    return p->tty;
}
int box_proc_pid(const struct box_proc *p) {
    return p->pid;
}

int box_proc_wait(struct box_proc *p, struct err *e) {
    while (!p->ended)
        (void)take(p, 0);
    if (p->status == -EPIPE)
        return err_set(e, ERR_INTERNAL, -EPIPE, "the box ended before its process told a status");
    if (p->noexec) {
        if (p->noexec == ENOENT)
            err_set(e, ERR_USER, -ENOENT, "%s: command not found", p->text);
        else
            err_set(e, ERR_USER, -p->noexec, "%s: %s", p->text, strerror(p->noexec));
    }
    return p->status;
}

int box_proc_try(struct box_proc *p) {
    while (!p->ended)
        if (take(p, MSG_DONTWAIT) == -EAGAIN)
            return -EAGAIN;
    return p->status;
}

int box_proc_signal(struct box_proc *p, int signo, bool group) {
    struct box_req h = {
        .kind = BOX_SIGNAL, .flags = group ? BOX_F_GROUP : 0, .num = {p->pid, signo}};
    if (p->ended && !group)
        return -ESRCH;
    return request_ask(p->box->ctl, &h, NULL, NULL, NULL, 0, NULL);
}

int box_proc_resize(struct box_proc *p, uint16_t rows, uint16_t cols) {
    struct winsize ws = {.ws_row = rows, .ws_col = cols};
    if (p->tty < 0)
        return -ENOTTY;
    return ioctl(p->tty, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}

void box_proc_free(struct box_proc *p) {
    if (!p)
        return;
    fd_close(p->sock);
    fd_close(p->tty);
    free(p);
}
