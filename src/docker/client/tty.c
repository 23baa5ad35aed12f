/* Joining a terminal (or pipes) with a container: stdin to the hijacked connection with
 * half-close at its end, the answer to stdout and stderr; raw bytes with a terminal, 8-byte frames
 * {stream, 0, 0, 0, length BE32} without. Signals come through a signalfd. */
#include "docker/client/client.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>

static struct termios saved;
static bool raw_on;

static void tty_restore(void) {
    if (raw_on)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
    raw_on = false;
}

static void tty_raw(void) {
    struct termios t;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved) < 0)
        return;
    t = saved;
    cfmakeraw(&t);
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &t) == 0 && !raw_on) {
        raw_on = true;
        atexit(tty_restore);
    }
}

void tty_size(uint16_t *rows, uint16_t *cols) {
    struct winsize ws;
    *rows = *cols = 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 || ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) == 0) {
        *rows = ws.ws_row;
        *cols = ws.ws_col;
    }
}

static void post(const char *path) {
    _cleanup_api_ struct api c = {.fd = -1};
    struct api_req rq = {.method = "POST", .path = path};
    (void)api_open(&c, &rq, NULL);
}

static void send_size(const char *path) {
    uint16_t rows, cols;
    tty_size(&rows, &cols);
    if (!rows)
        return;
    _cleanup_free_ char *p = xasprintf("%s?h=%u&w=%u", path, rows, cols);
    post(p);
}

static const char *signal_short(int signo) {
    const char *n = sigabbrev_np(signo);
    return n ? n : "KILL";
}

/* Frames: state kept over reads. */
struct demux {
    uint8_t head[8];
    size_t have;
    uint32_t left;
    int fd;
};

static int demux_feed(struct demux *d, const char *p, size_t n) {
    while (n) {
        if (d->have < 8) {
            size_t take = MIN(8 - d->have, n);
            memcpy(d->head + d->have, p, take);
            d->have += take;
            p += take;
            n -= take;
            if (d->have < 8)
                return 0;
            if (d->head[0] > 3 || d->head[1] || d->head[2] || d->head[3])
                return -EPROTO;
            d->fd = d->head[0] == 2 || d->head[0] == 3 ? STDERR_FILENO : STDOUT_FILENO;
            d->left = (uint32_t)d->head[4] << 24 | (uint32_t)d->head[5] << 16 | (uint32_t)d->head[6] << 8 | d->head[7];
        }
        size_t take = MIN(d->left, n);
        int r = fd_write_all(d->fd, p, take);
        if (r < 0)
            return r;
        p += take;
        n -= take;
        d->left -= (uint32_t)take;
        if (!d->left)
            d->have = 0;
    }
    return 0;
}

int stream_body(struct api *c, bool raw, struct err *e) {
    _cleanup_free_ char *block = xmalloc(64 << 10);
    struct demux d = {0};
    ssize_t n;
    while ((n = api_read(c, block, 64 << 10, e)) > 0) {
        int r = raw ? fd_write_all(STDOUT_FILENO, block, (size_t)n) : demux_feed(&d, block, (size_t)n);
        if (r == -EPIPE)
            return 0;
        if (r < 0)
            return err_errno(e, r, "output");
    }
    return (int)n;
}

/* What is known of our signals during a stream. */
static int signals_open(bool proxy) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    static const int all[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    for (size_t i = 0; proxy && i < ELEMENTS(all); i++)
        sigaddset(&set, all[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void handle_signal(int sfd, const struct stream_opts *o) {
    struct signalfd_siginfo si;
    if (read(sfd, &si, sizeof(si)) != sizeof(si))
        return;
    if (si.ssi_signo == SIGWINCH) {
        if (o->tty && o->resize_path)
            send_size(o->resize_path);
    } else if (o->kill_path) {
        _cleanup_free_ char *p = xasprintf("%s?signal=%s", o->kill_path, signal_short((int)si.ssi_signo));
        post(p);
    }
}

int stream_run(struct api *c, const struct stream_opts *o, struct err *e) {
    _cleanup_close_ int sfd = signals_open(o->kill_path != NULL);
    _cleanup_free_ char *block = xmalloc(64 << 10);
    struct demux d = {0};
    bool in = o->in, in_now = false;
    int r = 0;
    if (o->tty && in)
        tty_raw();
    if (o->tty && o->resize_path)
        send_size(o->resize_path);
    if (!in)
        shutdown(c->fd, SHUT_WR);
    /* A file or /dev/null as stdin cannot be polled for; poll says it is always readable. */
    for (;;) {
        struct pollfd p[3] = {{c->fd, POLLIN, 0}, {in ? STDIN_FILENO : -1, POLLIN, 0}, {sfd, POLLIN, 0}};
        if (!api_pending(c) && poll(p, 3, -1) < 0) {
            if (errno == EINTR)
                continue;
            r = err_errno(e, -errno, "poll");
            break;
        }
        if (p[2].revents)
            handle_signal(sfd, o);
        if (api_pending(c) || p[0].revents) {
            ssize_t n = api_read(c, block, 64 << 10, NULL);
            if (n <= 0)
                break;
            r = o->tty ? fd_write_all(STDOUT_FILENO, block, (size_t)n) : demux_feed(&d, block, (size_t)n);
            if (r < 0) {
                r = err_errno(e, r, "output");
                break;
            }
        }
        in_now = in && (p[1].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL));
        if (in_now) {
            ssize_t n = read(STDIN_FILENO, block, 64 << 10);
            if (n < 0 && (errno == EINTR || errno == EAGAIN))
                continue;
            if (n <= 0 || fd_write_all(c->fd, block, (size_t)n) < 0) {
                in = false;
                shutdown(c->fd, SHUT_WR);
            }
        }
    }
    tty_restore();
    return r;
}
