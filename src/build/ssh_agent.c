/* RUN --mount=type=ssh: a socket of ours is bound into the box; each connection to it is joined with
 * one to the user's agent. The agent's own socket cannot be bound: inside, nobody is its owner. One
 * thread for all connections, ended through a pipe. */
#include "build/eval.h"
#include "core/fs.h"
#include "core/loop.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MAX_PAIRS 32

struct ssh_proxy {
    const char *socket; /* the agent's */
    int listen, wake[2], dir;
    char name[40];
    pthread_t thread;
    bool started;
    int pairs[MAX_PAIRS][2];
    size_t n;
};

static void pair_close(struct ssh_proxy *p, size_t i) {
    close(p->pairs[i][0]);
    close(p->pairs[i][1]);
    p->n--;
    memmove(p->pairs[i], p->pairs[p->n], sizeof p->pairs[i]);
}

static void pair_open(struct ssh_proxy *p) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int in = accept4(p->listen, NULL, NULL, SOCK_CLOEXEC);
    if (in < 0)
        return;
    int out = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", p->socket);
    if (p->n == MAX_PAIRS || out < 0 || connect(out, (struct sockaddr *)&to, sizeof to) < 0) {
        close(in);
        fd_close(out);
        return;
    }
    p->pairs[p->n][0] = in;
    p->pairs[p->n++][1] = out;
}

/* Messages of an agent are small and answered one by one: a blocking write is short. */
static bool pump(int from, int to) {
    char block[16384];
    ssize_t n = read(from, block, sizeof block);
    return n > 0 && fd_write_all(to, block, (size_t)n) >= 0;
}

static void *proxy_main(void *arg) {
    struct ssh_proxy *p = arg;
    for (;;) {
        struct pollfd pf[2 + 2 * MAX_PAIRS] = {{p->wake[0], POLLIN, 0}, {p->listen, POLLIN, 0}};
        size_t n = p->n;
        for (size_t i = 0; i < 2 * n; i++)
            pf[2 + i] = (struct pollfd){p->pairs[i / 2][i % 2], POLLIN, 0};
        if (poll(pf, 2 + 2 * n, -1) < 0 && errno != EINTR)
            break;
        if (pf[0].revents)
            break;
        for (size_t i = n; i-- > 0;) {
            short a = pf[2 + 2 * i].revents, b = pf[3 + 2 * i].revents;
            if ((a && !pump(p->pairs[i][0], p->pairs[i][1])) || (b && !pump(p->pairs[i][1], p->pairs[i][0])))
                pair_close(p, i);
        }
        if (pf[1].revents)
            pair_open(p);
    }
    while (p->n)
        pair_close(p, 0);
    return NULL;
}

void ssh_proxy_free(struct ssh_proxy *p) {
    if (!p)
        return;
    if (p->started) {
        (void)!write(p->wake[1], "x", 1);
        pthread_join(p->thread, NULL);
    }
    fd_close(p->listen);
    fd_close(p->wake[0]);
    fd_close(p->wake[1]);
    if (p->name[0])
        (void)unlinkat(p->dir, p->name, 0);
    free(p);
}

int ssh_proxy_new(struct build *b, const char *socket_path, struct ssh_proxy **ret, int *ret_fd, struct err *e) {
    struct ssh_proxy *p = xcalloc(1, sizeof *p);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char id[17];
    *p = (struct ssh_proxy){.socket = socket_path, .listen = -1, .wake = {-1, -1}};
    int r = p->dir = lease_scratch(b->l, e), fd = -1;
    if (r >= 0) {
        random_id(id, 16);
        snprintf(p->name, sizeof p->name, "ssh-%s", id);
        snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d/%s", p->dir, p->name);
        p->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        /* Any user of the box may ask; nobody else reaches the folder it lies in. */
        if (strlen(socket_path) >= sizeof at.sun_path || p->listen < 0 || bind(p->listen, (struct sockaddr *)&at, sizeof at) < 0 ||
            chmod(at.sun_path, 0666) < 0 || listen(p->listen, 16) < 0 || pipe2(p->wake, O_CLOEXEC) < 0)
            r = err_errno(e, errno ? -errno : -ENAMETOOLONG, "socket for the ssh agent");
    }
    if (r >= 0) {
        fd = openat(p->dir, p->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        r = fd < 0 ? err_errno(e, -errno, "socket for the ssh agent") : 0;
    }
    if (r >= 0 && pthread_create(&p->thread, NULL, proxy_main, p) != 0)
        r = err_errno(e, -EAGAIN, "thread");
    if (r < 0) {
        fd_close(fd);
        ssh_proxy_free(p);
        return r;
    }
    p->started = true;
    *ret = p;
    *ret_fd = fd;
    return 0;
}
