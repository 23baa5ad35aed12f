#include "cli/relay.h"

#include "core/fs.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

void relay_size(uint16_t *rows, uint16_t *cols) {
    struct winsize ws = {0};
    if (ioctl(0, TIOCGWINSZ, &ws) < 0 || !ws.ws_row)
        ws = (struct winsize){.ws_row = 24, .ws_col = 80};
    *rows = ws.ws_row;
    *cols = ws.ws_col;
}

static bool pass(int from, int to) {
    char b[16384];
    ssize_t n = read(from, b, sizeof b);
    return n > 0 ? fd_write_all(to, b, (size_t)n) >= 0 : n < 0 && (errno == EINTR || errno == EAGAIN);
}

void relay_terminal(int master, int end_fd) {
    struct termios old, raw;
    struct winsize have = {0}, now;
    bool tty = tcgetattr(0, &old) == 0;
    if (tty) {
        raw = old;
        cfmakeraw(&raw);
        tcsetattr(0, TCSADRAIN, &raw);
    }
    struct pollfd p[3] = {{0, POLLIN, 0}, {master, POLLIN, 0}, {end_fd, POLLIN, 0}};
    for (;;) {
        if (ioctl(0, TIOCGWINSZ, &now) == 0 && (now.ws_row != have.ws_row || now.ws_col != have.ws_col)) {
            have = now;
            ioctl(master, TIOCSWINSZ, &now);
        }
        int n = poll(p, 3, 300);
        if (n < 0 && errno != EINTR)
            break;
        if (n <= 0)
            continue;
        if (p[1].revents && !pass(master, 1))
            break;
        if (p[2].revents && !(p[1].revents & POLLIN))
            break;
        if (p[0].revents && !pass(0, master))
            p[0].fd = -1;
    }
    if (tty)
        tcsetattr(0, TCSADRAIN, &old);
}
