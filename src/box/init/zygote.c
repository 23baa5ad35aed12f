/* Installing the system call filter costs 2 ms (the kernel compiles it and tries it on every call
 * number), as much as a whole shell. So it is installed once, in a process of init's own, the
 * zygote, from which further commands are forked with it in place: as init's children
 * (CLONE_PARENT), so that init reaps them as any other.
 *
 * It holds its socket and the root, nothing else. Root in the box can kill or stop it: init then
 * starts the command itself, as it does for whatever needs calls that the filter refuses. */
#include "box/init/init.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define PATIENCE_MS 2000

static int zygote = -1; /* init's end of its socket */
static pid_t zygote_pid;

static _noreturn_ void serve(int sock) {
    int lo = MIN(sock, init_state.rootfd), hi = MAX(sock, init_state.rootfd);
    if (lo > 3)
        syscall(SYS_close_range, 3u, (unsigned)lo - 1, 0u);
    if (hi > lo + 1)
        syscall(SYS_close_range, (unsigned)lo + 1, (unsigned)hi - 1, 0u);
    syscall(SYS_close_range, (unsigned)hi + 1, ~0u, 0u);
    if (filter_install() < 0)
        _exit(1);
    for (;;) {
        struct pollfd p = {.fd = sock, .events = POLLIN};
        struct request q;
        if (poll(&p, 1, -1) < 0 && errno != EINTR)
            _exit(1);
        int r = request_read(sock, &q);
        if (r == 0)
            _exit(0);
        if (r > 0) {
            long pid = syscall(SYS_clone, SIGCHLD | CLONE_PARENT, 0, 0, 0, 0);
            if (pid == 0)
                exec_child(&q, true);
            reply_send(sock, BOX_PID, pid < 0 ? -errno : (int32_t)pid, 0, NULL, -1);
        } else if (r != -EAGAIN) {
            reply_send(sock, BOX_PID, r, 0, NULL, -1);
        }
        request_done(&q);
    }
}

static int start(void) {
    int s[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        serve(s[1]);
    close(s[1]);
    if (pid < 0) {
        close(s[0]);
        return -EAGAIN;
    }
    zygote_pid = pid;
    zygote = s[0];
    return 0;
}

static void drop(void) {
    kill(zygote_pid, SIGKILL); /* not reaped yet, else nothing was lost: init alone reaps */
    zygote = fd_close(zygote);
}

void zygote_ended(pid_t pid) {
    if (zygote >= 0 && pid == zygote_pid)
        zygote = fd_close(zygote);
}

pid_t zygote_start(struct request *q) {
    struct box_rep m;
    if (!init_state.seccomp_len ||
        (q->h.flags & (BOX_F_PIDNS | BOX_F_JOIN | BOX_F_PRIVILEGED | BOX_F_TTY | BOX_F_MEMFD)))
        return 0;
    if (zygote < 0 && start() < 0)
        return 0;
    struct pollfd p = {.fd = zygote, .events = POLLIN};
    if (request_forward(zygote, q) < 0 || poll(&p, 1, PATIENCE_MS) <= 0 ||
        reply_recv(zygote, &m, NULL, MSG_DONTWAIT) < 0) {
        drop();
        return 0;
    }
    return m.value;
}
