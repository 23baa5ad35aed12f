/* One process in the job's place (box or host), watched to its end. A single poll over the job's output pipe, the
 * process's status descriptor and the leg's cancel descriptor; output is read as fast as it can be
 * passed on, so that a slow reader slows the step and memory never grows.
 *
 * The pipe belongs to the job and not to the step: what a step leaves running in the background
 * keeps a reader, as it has on a hosted runner. When the process has ended, what the pipe holds at
 * that moment is read, and no more. A cancel goes SIGINT, 7.5 s, SIGTERM, 2.5 s, SIGKILL, each to
 * the whole session; a second cancel is SIGKILL at once. */
#include "run/held.h"
#include "run/place.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>

#define SEC 1000000000ull

struct ending {
    int stage;             /* 0 not yet, 1 SIGINT sent, 2 SIGTERM, 3 SIGKILL */
    uint64_t next_ns;      /* when the next stage is due */
    enum exec_end why;
};

static void escalate(const struct place *pl, struct place_proc *p, struct ending *en, int stage) {
    static const int sig[] = {0, SIGINT, SIGTERM, SIGKILL};
    static const uint64_t wait[] = {0, 7 * SEC + SEC / 2, 2 * SEC + SEC / 2, SEC};
    if (stage > 3)
        stage = 3;
    en->stage = stage;
    en->next_ns = now_mono() + wait[stage];
    pl->signal(p, sig[stage], true);
}

static void check_ends(struct jobx *x, struct place_proc *p, struct ending *en, uint64_t deadline) {
    int cancel = atomic_load(&x->leg->cancel);
    uint64_t now = now_mono();
    if (x->abort && !cancel)
        cancel = atomic_load(x->abort);
    else if (cancel && !x->cancel_end_ns)
        x->cancel_end_ns = now + x->cancel_ns;
    if (cancel == 1 && x->cancel_end_ns && now >= x->cancel_end_ns) { /* its always() steps have had their time */
        atomic_store(&x->leg->cancel, 2);
        cancel = 2;
    }
    if (cancel > x->cancel_seen && en->stage == 0) {
        en->why = EXEC_CANCELLED;
        escalate(x->place, p, en, cancel > 1 ? 3 : 1);
    } else if (cancel > 1 && x->cancel_seen < 2 && en->stage < 3) {
        en->why = EXEC_CANCELLED;
        escalate(x->place, p, en, 3);
    } else if (deadline && now >= deadline && en->stage == 0) {
        en->why = EXEC_TIMEOUT;
        escalate(x->place, p, en, 1);
    } else if (en->stage && now >= en->next_ns) {
        escalate(x->place, p, en, en->stage + 1);
    }
}

/* With background steps several threads wait for one cancel, and only one of them is woken by it. */
#define LOOK_MS 100

static int wait_ms(const struct jobx *x, const struct ending *en, uint64_t deadline) {
    uint64_t until = en->stage ? en->next_ns : deadline;
    if (x->cancel_end_ns && en->stage < 3)
        until = until ? MIN(until, x->cancel_end_ns) : x->cancel_end_ns;
    if (x->is_background || x->backgrounds)
        until = until ? MIN(until, now_mono() + LOOK_MS * 1000000ull) : now_mono() + LOOK_MS * 1000000ull;
    if (!until)
        return -1;
    uint64_t now = now_mono();
    if (until <= now)
        return 0;
    uint64_t ms = (until - now) / 1000000 + 1;
    return ms > 3600000 ? 3600000 : (int)ms;
}

static void drain(struct jobx *x) {
    int left = 0;
    if (ioctl(x->out_r, FIONREAD, &left) < 0)
        return;
    while (left > 0) {
        ssize_t r = output_read(x->out, x->out_r);
        if (r <= 0)
            return;
        left -= (int)r;
    }
}

static void watch(struct jobx *x, struct place_proc *p, struct ending *en, uint64_t deadline) {
    check_ends(x, p, en, deadline);
    struct pollfd fds[3] = {{x->out_r, POLLIN, 0}, {x->place->status_fd(p), POLLIN, 0}, {x->leg->cancel_fd, POLLIN, 0}};
    for (;;) {
        int r = poll(fds, 3, wait_ms(x, en, deadline));
        if (r < 0 && errno != EINTR)
            return;
        if (r > 0 && fds[0].revents)
            output_read(x->out, x->out_r);
        if (r > 0 && fds[2].revents) {
            uint64_t n;
            ssize_t k = read(x->leg->cancel_fd, &n, sizeof n);
            (void)k;
        }
        if (r > 0 && fds[1].revents) {
            drain(x);
            return;
        }
        check_ends(x, p, en, deadline);
    }
}

int jobx_exec(struct jobx *x, const struct exec_spec *s, int *ret_code, enum exec_end *ret_end, struct err *e) {
    struct box_exec be = {.argv = s->argv, .envp = s->envp, .cwd = s->cwd, .make_cwd = s->cwd && streq(s->cwd, x->workspace),
                          .user = s->user, .in = -1, .out = x->out_w, .err = x->out_w};
    struct place_proc *p = NULL;
    struct ending en = {0};
    uint64_t deadline = s->deadline_ns;
    if (x->deadline_ns && (!deadline || x->deadline_ns < deadline))
        deadline = x->deadline_ns;
    int r = x->place->start(x, &be, &p, e);
    if (r < 0)
        return r;
    watch(x, p, &en, deadline);
    r = x->place->wait(p, e);
    x->place->free(p);
    held_take(x);
    if (r < 0)
        return err_wrap(e, r, "the step's end is not known");
    *ret_code = r;
    *ret_end = en.why;
    return 0;
}

int jobx_capture(struct jobx *x, const char *const *argv, const char *user, struct buf *out, struct err *e) {
    int fd[2];
    if (pipe2(fd, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    _cleanup_strv_ struct strv env = {0};
    jobx_env(x, NULL, &env);
    struct box_exec be = {.argv = argv, .envp = (const char *const *)env.v, .cwd = "/", .user = user, .in = -1, .out = fd[1], .err = fd[1]};
    struct place_proc *p = NULL;
    int r = x->place->start(x, &be, &p, e);
    close(fd[1]);
    if (r >= 0) {
        struct pollfd fds[2] = {{fd[0], POLLIN, 0}, {x->place->status_fd(p), POLLIN, 0}};
        uint64_t end = now_mono() + 120 * SEC;
        char b[16384];
        for (;;) {
            int n = poll(fds, 2, 1000);
            if (n > 0 && (fds[0].revents & POLLIN)) {
                ssize_t k = read(fd[0], b, sizeof b);
                if (k > 0 && out)
                    buf_add(out, b, (size_t)k);
                continue;
            }
            if (n > 0 && fds[1].revents)
                break;
            if (now_mono() > end || atomic_load(&x->leg->cancel) > 1)
                x->place->signal(p, SIGKILL, true);
            if (n > 0 && fds[0].revents) /* closed early: only the status is left */
                fds[0].fd = -1;
        }
        r = x->place->wait(p, e);
        x->place->free(p);
    }
    close(fd[0]);
    return r;
}
