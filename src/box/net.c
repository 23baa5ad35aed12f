/* A job's network, from the main process: chooses the way out, starts the helper (netd.c) and asks
 * it for things. The helper's start, the namespace and slirp4netns overlap with the making of the
 * first box: the namespace is waited for when a box needs it, the way out at the end of that box's
 * start. */
#include "box/impl.h"
#include "box/netd.h"
#include "core/fs.h"
#include "core/proc.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct box_net {
    struct keeper *keeper;
    int sock, ns, exit_w;
    pid_t pid, slirp;
    enum net_mode mode;
    char ip[48], gateway[48], dns[48], resolv[4096];
    bool ready;
    pthread_mutex_t lock;
};

static int ask(struct box_net *n, uint32_t kind, const int64_t num[4], const char *const *argv,
               const char *str1, const char *str2, int fd, struct box_rep *m, int *ret_fd) {
    struct box_req h = {.kind = kind};
    if (num)
        memcpy(h.num, num, sizeof h.num);
    _cleanup_close_ int s = request_send(n->sock, &h, argv, NULL, str1, str2, &fd, fd >= 0);
    int r = s < 0 ? s : reply_recv(s, m, ret_fd, 0);
    return r < 0 ? r : m->value;
}
#define NUM(...) ((const int64_t[4]){__VA_ARGS__})

static int lost(int r, struct err *e, const char *what) {
    if (r == -EPIPE)
        return err_set(e, ERR_INTERNAL, r, "%s: the network's process has ended", what);
    return err_errno(e, r, "%s", what);
}

/* --- the way out ---------------------------------------------------------------------------- */

/* Can the namespace's root, who is nobody on the host, open it? */
static bool tun_for_all(void) {
    struct stat st;
    return stat("/dev/net/tun", &st) == 0 && (st.st_mode & 06) == 06;
}

/* As root: in the host's namespaces and as the host's root (which its sandbox gives up), because
 * /dev/net/tun may be root's alone. It ends when the write end of its exit pipe closes. */
static int slirp_as_root(struct box_net *n, const char *program, int ready_w, struct err *e) {
    int p[2];
    const char *argv[24];
    char cidr[64], option[64];
    snprintf(cidr, sizeof cidr, "%s", n->ip);
    char *dot = strrchr(cidr, '.');
    if (!dot)
        return err_set(e, ERR_INTERNAL, -EINVAL, "network address %s", n->ip);
    snprintf(dot, sizeof cidr - (size_t)(dot - cidr), ".0/24");
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    slirp_argv(argv, program, cidr, option);
    struct proc_spec ps = {.argv = argv,
                           .fds = {{3, ready_w}, {4, p[0]}, {5, n->ns}},
                           .n_fds = 3,
                           .new_session = true};
    int r = proc_spawn(&ps, &n->slirp, e);
    close(p[0]);
    n->exit_w = p[1];
    return r;
}

/* search and options of the host's, with our resolver. */
static void resolv_make(struct box_net *n) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    struct sv rest, line;
    size_t at = (size_t)snprintf(n->resolv, sizeof n->resolv, "nameserver %s\n", n->dns);
    (void)fs_read(AT_FDCWD, "/etc/resolv.conf", &b, NULL);
    rest = buf_sv(&b);
    while (sv_line(&rest, &line)) {
        line = sv_trim(line);
        if ((!sv_starts(line, "search ") && !sv_starts(line, "options ")) ||
            line.n + at + 2 > sizeof n->resolv)
            continue;
        at += (size_t)snprintf(n->resolv + at, sizeof n->resolv - at, SV_FMT "\n", SV_ARG(line));
    }
}

/* A proxy on the host's loopback must be one on the job's too. */
static void proxies_expose(struct box_net *n) {
    static const char *const names[] = {"http_proxy",  "https_proxy", "HTTP_PROXY",
                                        "HTTPS_PROXY", "all_proxy",   "ALL_PROXY"};
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        const char *v = getenv(names[i]), *p = v ? strstr(v, "://") : NULL;
        char host[64] = "";
        unsigned port = 0;
        struct box_rep m;
        p = p ? p + 3 : v;
        const char *at = p ? strrchr(p, '@') : NULL;
        if (at)
            p = at + 1;
        if (!p || sscanf(p, "%63[^:/]:%u", host, &port) != 2 || port == 0 || port > 65535)
            continue;
        if (streq(host, "localhost") || startswith(host, "127."))
            (void)ask(n, NET_EXPOSE, NUM(port, 1), NULL, NULL, NULL, -1, &m, NULL);
    }
}

static int mode_choose(enum net_mode want, char **ret_program, enum net_mode *ret, struct err *e) {
    *ret_program = NULL;
    *ret = NET_ISOLATED;
    if (want == NET_ISOLATED)
        return 0;
    if (want == NET_VETH || want == NET_PASTA)
        return err_set(e, ERR_USER, -ENOSYS, "network mode %s: not yet",
                       want == NET_VETH ? "veth" : "pasta");
    *ret_program = proc_find("slirp4netns");
    if (!*ret_program) {
        err_set(e, ERR_ENV, -ENOENT, "slirp4netns is not installed");
        return err_hint(e, -ENOENT, "sudo apt-get install slirp4netns");
    }
    if (geteuid() != 0 && !tun_for_all()) {
        err_set(e, ERR_ENV, -EACCES, "/dev/net/tun is not there or not for everybody");
        return err_hint(e, -EACCES, "sudo modprobe tun && sudo chmod 666 /dev/net/tun");
    }
    *ret = NET_SLIRP;
    return 0;
}

/* --- making and ending ---------------------------------------------------------------------- */

static int first_word(struct box_net *n, struct err *e) {
    struct box_rep m;
    struct pollfd p = {.fd = n->sock, .events = POLLIN};
    while (poll(&p, 1, 30000) < 0 && errno == EINTR)
        ;
    int r = reply_recv(n->sock, &m, &n->ns, MSG_DONTWAIT);
    if (r < 0)
        return err_set(e, ERR_INTERNAL, r, "the network's process did not start");
    if (m.kind == BOX_FAILED)
        return err_set(e, ERR_ENV, m.errnum ? -m.errnum : -EIO, "network: %s: %s", m.text,
                       strerror(m.errnum));
    if (n->ns < 0 || sscanf(m.text, "%47s %47s %47s", n->ip, n->gateway, n->dns) != 3)
        return err_set(e, ERR_INTERNAL, -EBADMSG, "the network's process spoke nonsense");
    return 0;
}

int net_new(struct store *s, struct lease *l, const struct net_options *o, struct box_net **ret,
            struct err *e) {
    struct box_net *n = xcalloc(1, sizeof *n);
    int pair[2] = {-1, -1}, ready[2] = {-1, -1}, r;
    _cleanup_free_ char *program = NULL;
    pthread_mutex_init(&n->lock, NULL);
    n->sock = n->ns = n->exit_w = -1;
    r = mode_choose(o ? o->mode : NET_AUTO, &program, &n->mode, e);
    if (r == 0)
        r = store_keeper(s, &n->keeper, e);
    bool as_root = r == 0 && n->mode == NET_SLIRP && geteuid() == 0;
    if (r == 0 && (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
                   (as_root && pipe2(ready, O_CLOEXEC) < 0)))
        r = err_errno(e, -errno, "make a socket");
    if (r == 0) {
        const char *argv[] = {"net",
                              n->mode == NET_ISOLATED ? "none"
                              : as_root               ? "given"
                                                      : "slirp",
                              program ? program : "", NULL};
        int fds[2] = {pair[1], ready[0]};
        n->sock = pair[0];
        pair[0] = -1;
        r = ns_spawn(n->keeper, argv, -1, -1, -1, fds, as_root ? 2 : 1, &n->pid, e);
    }
    fd_close(pair[0]);
    fd_close(pair[1]);
    fd_close(ready[0]);
    if (r == 0)
        r = first_word(n, e);
    if (r == 0 && as_root)
        r = slirp_as_root(n, program, ready[1], e);
    fd_close(ready[1]);
    if (r < 0) {
        net_free(n);
        return r;
    }
    if (n->mode == NET_ISOLATED)
        snprintf(n->resolv, sizeof n->resolv, "# no network\n");
    else
        resolv_make(n);
    proxies_expose(n);
    *ret = n;
    return 0;
}

static void end_process(pid_t pid, int timeout_ms) {
    if (pid <= 0)
        return;
    int fd = proc_pidfd(pid);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (fd >= 0 && poll(&p, 1, timeout_ms) == 0)
        kill(pid, SIGKILL);
    fd_close(fd);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

void net_end(struct box_net *n) {
    n->sock = fd_close(n->sock);
    n->exit_w = fd_close(n->exit_w);
    n->ns = fd_close(n->ns);
}

void net_free(struct box_net *n) {
    if (!n)
        return;
    net_end(n);
    end_process(n->pid, 2000);
    /* Its tap takes the kernel 10 ms to take down; nothing of it is wanted again. */
    if (n->slirp > 0)
        kill(n->slirp, SIGKILL);
    proc_leave(n->slirp);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

int net_wait(struct box_net *n, struct err *e) {
    struct box_rep m;
    if (__atomic_load_n(&n->ready, __ATOMIC_ACQUIRE))
        return 0;
    int r = ask(n, NET_WAIT, NULL, NULL, NULL, NULL, -1, &m, NULL);
    if (r == -EIO)
        return err_set(e, ERR_ENV, r, "network: %s", m.text);
    if (r < 0)
        return lost(r, e, "network");
    __atomic_store_n(&n->ready, true, __ATOMIC_RELEASE);
    return 0;
}

const char *net_mode_name(const struct box_net *n) {
    return n->mode == NET_ISOLATED ? "isolated" : "slirp4netns";
}
const char *net_gateway(const struct box_net *n) {
    return n->ip;
}
int net_ns_fd(struct box_net *n) {
    return n->ns;
}
const char *net_resolv(struct box_net *n) {
    return n->resolv;
}

int net_hosts_mount(struct box_net *n, struct err *e) {
    struct box_rep m;
    int fd = -1;
    int r = ask(n, NET_HOSTS, NULL, NULL, NULL, NULL, -1, &m, &fd);
    return r < 0 ? lost(r, e, "hosts file") : fd;
}

/* --- names, addresses, ports ---------------------------------------------------------------- */

static void split_names(const char *names, struct strv *out) {
    struct sv rest = sv_from(names), one;
    while (rest.p && sv_split(&rest, ',', &one)) {
        one = sv_trim(one);
        if (one.n)
            strv_addn(out, one.p, one.n);
    }
}

int net_attach(struct box_net *n, const char *names, char ip[48], int *ret_fd, struct err *e) {
    _cleanup_strv_ struct strv list = {0};
    struct box_rep m;
    split_names(names, &list);
    int r = ask(n, NET_ATTACH, NULL, (const char *const *)list.v, NULL, NULL, -1, &m, ret_fd);
    if (r == -EADDRNOTAVAIL)
        return err_set(e, ERR_LIMIT, r, "no address is left in the job's network");
    if (r < 0)
        return lost(r, e, "join the job's network");
    snprintf(ip, 48, "%.47s", m.text);
    return 0;
}

void net_names_of_job(struct box_net *n, const char *names) {
    _cleanup_strv_ struct strv list = {0};
    split_names(names, &list);
    for (size_t i = 0; i < list.n; i++)
        (void)net_name_add(n, n->ip, list.v[i]);
}

void net_detach(struct box_net *n, const char *ip) {
    struct box_rep m;
    (void)ask(n, NET_DETACH, NULL, NULL, ip, NULL, -1, &m, NULL);
}

int net_name_add(struct box_net *n, const char *ip, const char *name) {
    struct box_rep m;
    return ask(n, NET_NAME_ADD, NULL, NULL, ip, name, -1, &m, NULL);
}

int net_name_del(struct box_net *n, const char *ip) {
    struct box_rep m;
    return ask(n, NET_NAME_DEL, NULL, NULL, ip, NULL, -1, &m, NULL);
}

int net_publish(struct box_net *n, const char *ip, uint16_t target, uint16_t *port,
                const char *proto, struct err *e) {
    struct box_rep m;
    int r = ask(n, NET_PUBLISH, NUM(target, *port), NULL, ip, proto, -1, &m, NULL);
    if (r == -EADDRINUSE)
        return err_set(e, ERR_CONFLICT, r, "port %u/%s is in use in the job", *port, proto);
    if (r < 0)
        return lost(r, e, "publish a port");
    *port = (uint16_t)r;
    return 0;
}

int net_unpublish(struct box_net *n, uint16_t port, const char *proto) {
    struct box_rep m;
    return ask(n, NET_UNPUBLISH, NUM(port, 0), NULL, NULL, proto, -1, &m, NULL);
}

int net_unpublish_host(struct box_net *n, uint16_t port, const char *proto) {
    struct box_rep m;
    return ask(n, NET_UNPUBLISH, NUM(port, 1), NULL, NULL, proto, -1, &m, NULL);
}

int net_expose_host(struct box_net *n, uint16_t host_port, bool localhost_too, struct err *e) {
    struct box_rep m;
    int r = ask(n, NET_EXPOSE, NUM(host_port, localhost_too), NULL, NULL, NULL, -1, &m, NULL);
    return r < 0 ? lost(r, e, "make a port of the host reachable") : 0;
}

int net_listen(struct box_net *n, uint16_t *ret_port, struct err *e) {
    struct box_rep m;
    int fd = -1;
    int r = ask(n, NET_LISTEN, NULL, NULL, NULL, NULL, -1, &m, &fd);
    if (r <= 0 || fd < 0) {
        fd_close(fd);
        return lost(r < 0 ? r : -EBADMSG, e, "listen in the job's network");
    }
    *ret_port = (uint16_t)r;
    return fd;
}

/* The socket is the host's, made here; the network's process carries what comes. */
static int host_socket(const char *host_ip, uint16_t *port, bool udp) {
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(*port)};
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(*port)};
    bool any = !host_ip || !*host_ip, six = any;
    int one = 1, zero = 0;
    if (!any && inet_pton(AF_INET6, host_ip, &a6.sin6_addr) == 1)
        six = true;
    else if (!any && inet_pton(AF_INET, host_ip, &a4.sin_addr) != 1)
        return -EINVAL;
    int type = (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
    int fd = socket(six ? AF_INET6 : AF_INET, type, 0);
    if (fd < 0 && any) {
        six = false;
        fd = socket(AF_INET, type, 0);
    }
    if (fd < 0)
        return -errno;
    if (six && any)
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

int net_publish_host(struct box_net *n, const char *host_ip, const char *ip, uint16_t target,
                     uint16_t *port, const char *proto, struct err *e) {
    struct box_rep m;
    uint16_t p = *port;
    _cleanup_close_ int fd = host_socket(host_ip, &p, streq(proto, "udp"));
    if (fd == -EADDRINUSE)
        return err_set(e, ERR_CONFLICT, fd, "port %u/%s is in use on this host", *port, proto);
    if (fd < 0)
        return err_errno(e, fd, "listen on port %u of the host", *port);
    int r = ask(n, NET_PUBLISH, NUM(target, p), NULL, ip, proto, fd, &m, NULL);
    if (r < 0)
        return lost(r, e, "publish a port of the host");
    *port = p;
    return 0;
}
