/* The network's own process (helper op "net"): it holds a job's network namespace and does what
 * has to be done in it.
 *
 *   job's namespace: lo, br0 (ADDRESS.100) with
 *     tap0    the way out: slirp4netns answers there as gateway (.2) and resolver (.3)
 *     vN      one end per box with an address of its own (.101 and up), whose default route is
 *             the gateway: it is all one link, so neither NAT nor ip_forward is needed
 *   published ports: sockets in the job's namespace, carried to the box by proxy.c
 *   /etc/hosts: one file in a tmpfs of this process, mounted into every box of the network
 *
 * A second process (the outer one) is forked before the namespace is made and stays in the host's:
 * it starts slirp4netns when we are an ordinary user (as root the main process does, because
 * /dev/net/tun may be root's alone), and connects to the host's loopback for the few ports that
 * were asked for; nothing else of the host's loopback can be reached. It dies with us (PDEATHSIG),
 * we die with the main process (base/userns.h), slirp4netns sees the end of its exit pipe. */
#include "box/impl.h"
#include "box/netd.h"
#include "box/netlink.h"
#include "box/ops.h"
#include "box/proxy.h"
#include "core/fs.h"
#include "core/proc.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MTU 65520u
#define MAX_PUBLISHED 512
#define HOSTS_MAX (1u << 20)

struct published {
    struct proxy *proxy;
    struct sockaddr_in target;
    uint16_t port;
    bool udp, host;
    uint16_t host_port; /* NET_EXPOSE: connect there, through the outer process */
};
struct name {
    char ip[48], *line;
};
struct netd {
    struct loop *loop;
    int sock, ns, nl, outer;
    uint32_t net; /* the /24, host byte order */
    int bridge;
    char where[64]; /* folder of the tmpfs */
    struct published *pub[MAX_PUBLISHED];
    struct name *names;
    size_t n_names, cap_names;
    bool used[256];
    unsigned next_ip, next_veth;
    int ready; /* pipe of slirp4netns, -1 when it has spoken */
    struct loop_source *ready_src;
    char failed[200];
    int waiting[64];
    size_t n_waiting;
};

static void address(const struct netd *d, unsigned last, char out[16]) {
    struct in_addr a = {htonl(d->net | last)};
    inet_ntop(AF_INET, &a, out, 16);
}

/* --- slirp4netns ---------------------------------------------------------------------------- */

void slirp_argv(const char *argv[24], const char *program, const char *cidr, char option[64]) {
    size_t n = 0;
    snprintf(option, 64, "--cidr=%s", cidr);
    argv[n++] = program;
    argv[n++] = "--mtu=65520";
    argv[n++] = "--ready-fd=3";
    argv[n++] = "--exit-fd=4";
    argv[n++] = "--disable-host-loopback";
    argv[n++] = "--enable-sandbox";
    argv[n++] = "--enable-seccomp";
    argv[n++] = option;
    argv[n++] = "--netns-type=path";
    argv[n++] = "/proc/self/fd/5";
    argv[n++] = "tap0";
    argv[n] = NULL;
}

/* --- the outer process ---------------------------------------------------------------------- */

static int connect_loopback(uint16_t port) {
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        int r = -errno;
        fd_close(fd);
        return r;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* fds: [1] the namespace, [2] ready pipe. str1 = program, str2 = CIDR. */
static int slirp_start(struct request *q) {
    int exit_pipe[2];
    pid_t pid;
    if (q->n_fds < 3 || pipe2(exit_pipe, O_CLOEXEC) < 0)
        return -errno;
    struct proc_spec ps;
    const char *argv[24];
    char option[64];
    slirp_argv(argv, q->str1, q->str2, option);
    ps = (struct proc_spec){
        .argv = argv, .fds = {{3, q->fds[2]}, {4, exit_pipe[0]}, {5, q->fds[1]}}, .n_fds = 3};
    int r = proc_spawn(&ps, &pid, NULL);
    close(exit_pipe[0]); /* the write end stays open for as long as we live */
    return r;
}

static _noreturn_ void outer(int sock) {
    struct request q;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "slipway-net-out");
    signal(SIGCHLD, SIG_IGN);
    if (getppid() == 1)
        _exit(0);
    for (;;) {
        struct pollfd p = {.fd = sock, .events = POLLIN};
        if (poll(&p, 1, -1) < 0 && errno != EINTR)
            _exit(1);
        int r = request_read(sock, &q);
        if (r == 0)
            _exit(0);
        if (r > 0 && q.h.kind == NET_EXPOSE) {
            int fd = connect_loopback((uint16_t)q.h.num[0]);
            if (fd < 0)
                reply_done(q.fds[0], fd);
            else
                reply_send(q.fds[0], BOX_DONE, 0, 0, NULL, fd);
            fd_close(fd);
        } else if (r > 0) {
            reply_done(q.fds[0], slirp_start(&q));
        }
        request_done(&q);
    }
}

/* --- set-up --------------------------------------------------------------------------------- */

/* The first of some /24s that none of the host's routes touches. Read in the host's namespace. */
static uint32_t subnet_choose(void) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    (void)fs_read(AT_FDCWD, "/proc/net/route", &b, NULL);
    for (unsigned i = 0; i < 512; i++) {
        uint32_t net = i < 200   ? 10u << 24 | (2 + i) << 8 /* 10.0.2.0 and up */
                       : i < 400 ? 172u << 24 | 29u << 16 | (i - 200) << 8
                                 : 192u << 24 | 168u << 16 | (i - 400 + 100) << 8;
        struct sv rest = buf_sv(&b), line;
        bool clash = false;
        while (sv_line(&rest, &line)) {
            char name[32], copy[256];
            unsigned dst, gw, flags, ref, use, metric, mask;
            snprintf(copy, sizeof copy, SV_FMT, SV_ARG(line));
            if (sscanf(copy, "%31s %x %x %x %u %u %u %x", name, &dst, &gw, &flags, &ref, &use,
                       &metric, &mask) != 8 ||
                !mask)
                continue;
            uint32_t m = ntohl(mask), both = m & 0xffffff00u;
            clash |= (ntohl(dst) & both) == (net & both);
        }
        if (!clash)
            return net;
    }
    return 10u << 24 | 2 << 8;
}

static void sysctl(const char *name, const char *value) {
    _cleanup_free_ char *path = xasprintf("/proc/sys/net/%s", name);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)fd_write_all(fd, value, strlen(value));
}

/* In a fresh namespace: of ours, so these change nothing of the host. As docker sets them: a box's
 * root has no capability over the namespace, but may bind port 80 and ping. */
static int namespace_init(int nl) {
    sysctl("ipv4/ip_unprivileged_port_start", "0");
    sysctl("ipv4/ping_group_range", "0 65535");
    return nl_link_set(nl, 1 /* lo is always 1 */, true, 0, 0);
}

static int hosts_file(struct netd *d) {
    static const char *const places[] = {"/tmp", "/mnt", "/run", "/var/tmp"};
    static const char text[] = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
                               "fe00::0\tip6-localnet\nff02::1\tip6-allnodes\n"
                               "ff02::2\tip6-allrouters\n";
    char path[80];
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    for (size_t i = 0; i < ELEMENTS(places) && !d->where[0]; i++)
        if (mount("tmpfs", places[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                  "mode=711,size=4m") == 0)
            snprintf(d->where, sizeof d->where, "%s", places[i]);
    if (!d->where[0])
        return -errno;
    snprintf(path, sizeof path, "%s/hosts", d->where);
    return fs_append(AT_FDCWD, path, sv_n(text, sizeof text - 1), 0644);
}

static void waiters_answer(struct netd *d) {
    while (d->n_waiting) {
        int s = d->waiting[--d->n_waiting];
        reply_send(s, BOX_DONE, d->failed[0] ? -EIO : 0, 0, d->failed, -1);
        close(s);
    }
}

/* slirp4netns has made tap0 (or died, then the pipe has ended). */
static void on_ready(struct loop *l, int fd, uint32_t events, void *arg) {
    struct netd *d = arg;
    char c;
    ssize_t k = read(fd, &c, 1);
    if (k < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    loop_remove(d->ready_src);
    d->ready = fd_close(d->ready);
    int tap = k == 1 ? nl_index(d->nl, "tap0") : -ENODEV;
    int r = tap < 0 ? tap : nl_link_set(d->nl, tap, true, d->bridge, MTU);
    if (r == 0)
        r = nl_route_default(d->nl, d->net | 2);
    if (r < 0)
        snprintf(d->failed, sizeof d->failed, "slirp4netns did not come up: %s",
                 k == 1 ? strerror(-r) : "it ended (is /dev/net/tun there and writable?)");
    waiters_answer(d);
}

static int start_way_out(struct netd *d, const char *mode, const char *program) {
    int p[2];
    char cidr[32];
    if (streq(mode, "none")) {
        d->ready = -1;
        return 0;
    }
    if (streq(mode, "given")) {
        d->ready = 4;
    } else {
        if (pipe2(p, O_CLOEXEC) < 0)
            return -errno;
        address(d, 0, cidr);
        strncat(cidr, "/24", sizeof cidr - strlen(cidr) - 1);
        struct box_req h = {.kind = NET_WAIT};
        int fds[2] = {d->ns, p[1]};
        int r = request_ask(d->outer, &h, program, cidr, fds, 2, NULL);
        close(p[1]);
        if (r < 0) {
            close(p[0]);
            return r;
        }
        d->ready = p[0];
    }
    fcntl(d->ready, F_SETFL, O_NONBLOCK);
    d->ready_src = loop_io(d->loop, d->ready, EPOLLIN, on_ready, d);
    return 0;
}

/* --- names ---------------------------------------------------------------------------------- */

static int hosts_open(struct netd *d, int flags) {
    char path[80];
    snprintf(path, sizeof path, "%s/hosts", d->where);
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

/* In place (boxes have the file mounted), and keeping what steps wrote into it. */
static int name_add(struct netd *d, const char *ip, const char *name) {
    struct in_addr a4;
    struct in6_addr a6;
    if ((inet_pton(AF_INET, ip, &a4) != 1 && inet_pton(AF_INET6, ip, &a6) != 1) || !*name ||
        strlen(name) > 253 || strpbrk(name, " \t\r\n#") || d->n_names >= 1024)
        return -EINVAL;
    struct name n = {.line = xasprintf("%s\t%s\n", ip, name)};
    snprintf(n.ip, sizeof n.ip, "%s", ip);
    _cleanup_close_ int fd = hosts_open(d, O_WRONLY | O_APPEND);
    int r = fd < 0 ? fd : fd_write_all(fd, n.line, strlen(n.line));
    if (r < 0) {
        free(n.line);
        return r;
    }
    GROW(d->names, d->cap_names, d->n_names + 1);
    d->names[d->n_names++] = n;
    return 0;
}

static int name_del(struct netd *d, const char *ip) {
    _cleanup_buf_ struct buf b = BUF_MAX(HOSTS_MAX);
    _cleanup_close_ int fd = hosts_open(d, O_RDWR);
    int r = fd < 0 ? fd : fs_read_fd(fd, &b);
    if (r < 0)
        return r;
    for (size_t i = 0; i < d->n_names;) {
        struct name *n = &d->names[i];
        if (!streq(n->ip, ip)) {
            i++;
            continue;
        }
        ssize_t at = sv_find(buf_sv(&b), sv_from(n->line));
        if (at >= 0)
            buf_cut(&b, (size_t)at, strlen(n->line));
        free(n->line);
        d->names[i] = d->names[--d->n_names];
    }
    if (pwrite(fd, b.p, b.n, 0) != (ssize_t)b.n || ftruncate(fd, (off_t)b.n) < 0)
        return -EIO;
    return 0;
}

/* --- boxes with an address of their own ----------------------------------------------------- */

/* A new namespace, with us in it for a moment only. */
static int namespace_new(struct netd *d, int *ret_nl) {
    int r = 0, ns = -1, nl = -1;
    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    nl = nl_open();
    r = ns < 0 ? -errno : nl < 0 ? nl : namespace_init(nl);
    if (setns(d->ns, CLONE_NEWNET) < 0)
        _exit(1); /* nothing can be done in the wrong namespace */
    if (r < 0) {
        fd_close(ns);
        fd_close(nl);
        return r;
    }
    *ret_nl = nl;
    return ns;
}

static int attach(struct netd *d, char *const *names, char ip[16]) {
    char veth[16];
    unsigned last = 0;
    for (unsigned i = 0; i < 154 && !last; i++) { /* .101 to .254, round robin: caches forget */
        unsigned k = 101 + (d->next_ip + i) % 154;
        if (!d->used[k])
            last = k;
    }
    if (!last)
        return -EADDRNOTAVAIL;
    d->next_ip = last - 101 + 1;
    _cleanup_close_ int nl = -1;
    int ns = namespace_new(d, &nl);
    if (ns < 0)
        return ns;
    snprintf(veth, sizeof veth, "v%u", d->next_veth++);
    int r = nl_veth_add(d->nl, veth, "eth0", ns, d->bridge, MTU);
    int inner = r < 0 ? r : nl_index(nl, "eth0");
    if (inner >= 0)
        r = nl_addr_add(nl, inner, d->net | last, 24);
    if (inner >= 0 && r == 0)
        r = nl_link_set(nl, inner, true, 0, 0);
    if (inner >= 0 && r == 0)
        r = nl_route_default(nl, d->net | 2);
    if (inner < 0 || r < 0) {
        close(ns);
        return inner < 0 ? inner : r;
    }
    d->used[last] = true;
    address(d, last, ip);
    for (; *names; names++)
        (void)name_add(d, ip, *names);
    return ns;
}

static int detach(struct netd *d, const char *ip) {
    struct in_addr a;
    if (inet_pton(AF_INET, ip, &a) != 1 || (ntohl(a.s_addr) & 0xffffff00u) != d->net)
        return -EINVAL;
    unsigned last = ntohl(a.s_addr) & 255;
    if (!d->used[last])
        return -ENOENT;
    (void)name_del(d, ip);
    /* The link goes with the box's namespace; to delete it here would wait for the kernel (20 ms).
     */
    d->used[last] = false;
    return 0;
}

/* --- published ports ------------------------------------------------------------------------ */

static int connect_target(void *arg) {
    struct published *u = arg;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&u->target, sizeof u->target) < 0 && errno != EINPROGRESS) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

static int outer_sock = -1;

static int connect_outer(void *arg) {
    struct published *u = arg;
    struct box_req h = {.kind = NET_EXPOSE, .num = {u->host_port}};
    int fd = -1;
    int r = request_ask(outer_sock, &h, NULL, NULL, NULL, 0, &fd);
    return r < 0 ? r : fd;
}

/* Bound to [::]:port, which takes 127.0.0.1, ::1 and every other address of the namespace. */
static int bind_any(bool udp, uint16_t *port) {
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(*port)};
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(*port)};
    int type = (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
    int one = 1, zero = 0;
    int fd = socket(AF_INET6, type, 0);
    bool six = fd >= 0;
    if (!six)
        fd = socket(AF_INET, type, 0);
    if (fd < 0)
        return -errno;
    if (six)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (!udp)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    socklen_t len = six ? sizeof a6 : sizeof a4;
    struct sockaddr *sa = six ? (struct sockaddr *)&a6 : (struct sockaddr *)&a4;
    if (bind(fd, sa, len) < 0 || (!udp && listen(fd, 512) < 0) || getsockname(fd, sa, &len) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    *port = ntohs(six ? a6.sin6_port : a4.sin_port);
    return fd;
}

static struct published **slot(struct netd *d) {
    for (size_t i = 0; i < MAX_PUBLISHED; i++)
        if (!d->pub[i])
            return &d->pub[i];
    return NULL;
}

/* fd: a socket of the host's, or -1. Returns the port. */
static int publish(struct netd *d, const char *ip, uint16_t target, uint16_t port, bool udp,
                   int fd) {
    struct published **at = slot(d);
    struct published u = {.target = {.sin_family = AF_INET, .sin_port = htons(target)},
                          .port = port,
                          .udp = udp,
                          .host = fd >= 0};
    if (!at || inet_pton(AF_INET, ip, &u.target.sin_addr) != 1) {
        fd_close(fd);
        return at ? -EINVAL : -ENOSPC;
    }
    if (fd < 0)
        fd = bind_any(udp, &u.port);
    if (fd < 0)
        return fd;
    *at = xcalloc(1, sizeof **at);
    **at = u;
    (*at)->proxy =
        udp ? proxy_udp(d->loop, fd, &u.target) : proxy_tcp(d->loop, fd, connect_target, *at);
    return u.port;
}

static int unpublish(struct netd *d, uint16_t port, bool udp, bool host) {
    for (size_t i = 0; i < MAX_PUBLISHED; i++) {
        struct published *u = d->pub[i];
        if (!u || u->port != port || u->udp != udp || u->host != host || u->host_port)
            continue;
        proxy_free(u->proxy);
        free(u);
        d->pub[i] = NULL;
        return 0;
    }
    return -ENOENT;
}

static int listen_at(uint32_t addr, uint16_t port) {
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(addr)}};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 512) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

static int port_of(int fd) {
    struct sockaddr_in a = {0};
    socklen_t len = sizeof a;
    return getsockname(fd, (struct sockaddr *)&a, &len) < 0 ? 0 : ntohs(a.sin_port);
}

static int expose(struct netd *d, uint16_t host_port, bool localhost_too) {
    uint32_t addrs[2] = {d->net | 100, INADDR_LOOPBACK};
    for (size_t i = 0; i < MAX_PUBLISHED; i++)
        if (d->pub[i] && d->pub[i]->host_port == host_port)
            return 0;
    for (int i = 0; i < (localhost_too ? 2 : 1); i++) {
        struct published **at = slot(d);
        int fd = at ? listen_at(addrs[i], host_port) : -ENOSPC;
        if (fd < 0)
            return fd;
        *at = xcalloc(1, sizeof **at);
        **at = (struct published){.port = host_port, .host_port = host_port};
        (*at)->proxy = proxy_tcp(d->loop, fd, connect_outer, *at);
    }
    return 0;
}

/* --- requests ------------------------------------------------------------------------------- */

static void handle(struct netd *d, struct request *q) {
    char ip[16] = "", path[80];
    bool udp = streq(q->str2, "udp");
    int r = 0, fd = -1;
    switch (q->h.kind) {
    case NET_WAIT:
        if (d->ready >= 0 && d->n_waiting < ELEMENTS(d->waiting)) {
            d->waiting[d->n_waiting++] = q->fds[0];
            q->fds[0] = -1;
        } else {
            reply_send(q->fds[0], BOX_DONE, d->failed[0] ? -EIO : 0, 0, d->failed, -1);
        }
        return;
    case NET_ATTACH:
        r = fd = attach(d, q->argv, ip);
        break;
    case NET_DETACH:
        r = detach(d, q->str1);
        break;
    case NET_PUBLISH: {
        int given = q->n_fds > 1 ? fcntl(q->fds[1], F_DUPFD_CLOEXEC, 3) : -1;
        r = publish(d, q->str1, (uint16_t)q->h.num[0], (uint16_t)q->h.num[1], udp, given);
        reply_done(q->fds[0], r);
        return;
    }
    case NET_UNPUBLISH:
        r = unpublish(d, (uint16_t)q->h.num[0], udp, q->h.num[1]);
        break;
    case NET_NAME_ADD:
        r = name_add(d, q->str1, q->str2);
        break;
    case NET_NAME_DEL:
        r = name_del(d, q->str1);
        break;
    case NET_HOSTS:
        snprintf(path, sizeof path, "%s/hosts", d->where);
        r = fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (r < 0)
            r = -errno;
        break;
    case NET_LISTEN:
        r = fd = listen_at(d->net | 100, 0);
        if (fd >= 0) {
            reply_send(q->fds[0], BOX_DONE, port_of(fd), 0, ip, fd);
            close(fd);
            return;
        }
        break;
    case NET_EXPOSE:
        r = expose(d, (uint16_t)q->h.num[0], q->h.num[1]);
        break;
    default:
        r = -ENOSYS;
    }
    reply_send(q->fds[0], BOX_DONE, r < 0 ? r : 0, 0, ip, fd);
    fd_close(fd);
}

static void on_request(struct loop *l, int fd, uint32_t events, void *arg) {
    struct request q;
    int r = request_read(fd, &q);
    if (r == 0)
        _exit(0);
    if (r > 0)
        handle(arg, &q);
    request_done(&q);
}

static int failed(int r, const char *what) {
    reply_send(3, BOX_FAILED, 0, -r, what, -1);
    return 1;
}

int op_net(int argc, char **argv) {
    struct netd d = {.sock = 3, .ns = -1, .ready = -1};
    int pair[2], r;
    char text[100], ip[16], gw[16], dns[16];
    if (argc < 3)
        return 2;
    fcntl(3, F_SETFD, FD_CLOEXEC);
    if (streq(argv[1], "given"))
        fcntl(4, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_NAME, "slipway-net");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return failed(-errno, "make a socket pair");
    d.net = subnet_choose();
    pid_t pid = fork();
    if (pid < 0)
        return failed(-errno, "fork");
    if (pid == 0) {
        close(pair[0]);
        close(3);
        outer(pair[1]);
    }
    close(pair[1]);
    d.outer = outer_sock = pair[0];
    if (unshare(CLONE_NEWNET) < 0)
        return failed(-errno, "make a network namespace");
    d.ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    address(&d, 100, ip);
    address(&d, 2, gw);
    address(&d, 3, dns);
    snprintf(text, sizeof text, "%s %s %s", ip, gw, dns);
    reply_send(3, BOX_READY, 0, 0, text, d.ns);
    if (d.ns < 0 || loop_new(&d.loop) < 0)
        return failed(-errno, "prepare");
    r = start_way_out(&d, argv[1], argv[2]);
    if (r < 0)
        return failed(r, "start slirp4netns");
    d.nl = nl_open();
    r = d.nl < 0 ? d.nl : namespace_init(d.nl);
    if (r == 0)
        r = nl_bridge_add(d.nl, "br0");
    d.bridge = r < 0 ? r : nl_index(d.nl, "br0");
    r = d.bridge < 0 ? d.bridge : nl_addr_add(d.nl, d.bridge, d.net | 100, 24);
    if (r == 0)
        r = hosts_file(&d);
    if (r < 0)
        return failed(r, "set up the network namespace");
    loop_io(d.loop, 3, EPOLLIN, on_request, &d);
    return loop_run(d.loop);
}
