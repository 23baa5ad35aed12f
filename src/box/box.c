/* Making and ending a box, from the main process.
 *
 * The supervisor is spawned with everything it needs; while it mounts the root and starts the init,
 * the first message to the init and the requests for further mounts are already queued
 * in their sockets. What the supervisor cannot do it says on its socket; otherwise the init's
 * first answer means that the box lives. */
#include "box/cgroup.h"
#include "box/impl.h"
#include "box/ops.h"
#include "box/start.h"
#include "core/fs.h"
#include "core/loop.h"
#include "core/proc.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define START_TIMEOUT_MS 30000
#define END_TIMEOUT_MS 20000
#define NPROC_DEFAULT 8192 /* stops a fork bomb where no cgroup does */

int sup_ask(struct box *b, uint32_t kind, uint32_t flags, const char *const *argv, const char *str1,
            int fd, int *ret_fd, struct err *e) {
    struct box_req h = {.kind = kind, .flags = flags};
    struct box_rep m;
    _cleanup_close_ int sock = request_send(b->sup, &h, argv, NULL, str1, NULL, &fd, fd >= 0);
    int r = sock < 0 ? sock : reply_recv(sock, &m, ret_fd, 0);
    if (r == -EPIPE)
        return err_set(e, ERR_INTERNAL, r, "the supervisor of box %s is gone", b->name);
    return r < 0 ? err_errno(e, r, "ask the supervisor of box %s", b->name) : m.value;
}

/* --- making it ------------------------------------------------------------------------------ */

static int scratch_make(struct box *b, struct err *e) {
    static atomic_uint counter;
    const struct idmap *map = keeper_idmap(b->keeper);
    b->scratch = lease_scratch(b->lease, e);
    if (b->scratch < 0)
        return b->scratch;
    _cleanup_free_ char *base = lease_scratch_path(b->lease);
    char id[9];
    random_id(id, 8);
    snprintf(b->dirname, sizeof b->dirname, "box-%u-%s", atomic_fetch_add(&counter, 1u), id);
    b->dir = xasprintf("%s/%s", base, b->dirname);
    if (mkdirat(b->scratch, b->dirname, 0711) < 0)
        return err_errno(e, -errno, "make %s", b->dir);
    /* The supervisor writes there as the namespace's root; as an ordinary user it may, since our
     * own id is mapped; the host's root is not. */
    if (map->root && fchownat(b->scratch, b->dirname, idmap_uid_out(map, 0), idmap_gid_out(map, 0),
                              AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, -errno, "give %s to the box", b->dir);
    return 0;
}

int lower_names(const char *const *ids, size_t n, struct strv *out, struct err *e) {
    for (size_t i = 0; i < n; i++) {
        const char *id, *tree = startswith(ids[i], "tree:");
        id = tree ? tree : startswith(ids[i], "snap:");
        id = id ? id : ids[i];
        if (!*id || strspn(id, "0123456789abcdef") != strlen(id))
            return err_set(e, ERR_INTERNAL, -EINVAL, "not a snapshot: %s", ids[i]);
        if (tree)
            strv_addf(out, "../tree/%s/fs", id);
        else
            strv_addf(out, "%s/fs", id);
    }
    return 0;
}

/* As root the store's folder lets nobody pass, not even the namespace's root, so the supervisor
 * gets mounts of what it needs. Without CAP_SYS_ADMIN (root in a container) it goes by path. */
static int store_mounts(struct box *b, int fds[3], struct err *e) {
    static const char *const names[] = {"snap", "tree"};
    for (int i = 0; i < 3; i++) {
        int dir = i < 2 ? openat(store_dirfd(b->store), names[i], O_PATH | O_DIRECTORY | O_CLOEXEC)
                        : b->scratch;
        int fd = (int)syscall(SYS_open_tree, dir, "",
                              AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        int r = fd < 0 ? -errno : 0;
        struct mount_attr a = {.propagation = MS_PRIVATE};
        if (r == 0 && syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &a, sizeof a) < 0)
            r = -errno;
        if (i < 2)
            fd_close(dir);
        if (r < 0) {
            fd_close(fd);
            for (int k = 0; k < i; k++)
                fds[k] = fd_close(fds[k]);
            return r == -EPERM ? 0 : err_errno(e, r, "open the store's folders");
        }
        fds[i] = fd;
    }
    return 1;
}

/* Some folder that every host has, to hide under a tmpfs in the supervisor's own mounts. */
static const char *cover_place(void) {
    static const char *const places[] = {"/mnt", "/media", "/srv", "/opt", "/tmp"};
    struct stat st;
    for (size_t i = 0; i < ELEMENTS(places); i++)
        if (lstat(places[i], &st) == 0 && S_ISDIR(st.st_mode))
            return places[i];
    return "/tmp";
}

static int supervisor_start(struct box *b, const struct box_spec *spec, int netns, struct err *e) {
    int sup[2] = {-1, -1}, ctl[2] = {-1, -1};
    _cleanup_strv_ struct strv argv = {0};
    const char *configured = getenv("SLIPWAY_OCI_RUNTIME");
    bool own = !configured || !*configured;
    _cleanup_free_ char *runtime = own ? xstrdup("") : proc_find(configured);
    _cleanup_buf_ struct buf config = BUF_MAX(1u << 20);
    char run[4096];
    int fds[7] = {-1, -1, -1, -1, -1, -1, -1}, stores[3] = {-1, -1, -1}, r, given = 0;
    const char *where = cover_place();
    if (!runtime) {
        err_set(e, ERR_ENV, -ENOENT, "SLIPWAY_OCI_RUNTIME names no program");
        return err_hint(e, -ENOENT, "sudo apt-get install crun");
    }
    if (keeper_idmap(b->keeper)->root) {
        given = store_mounts(b, stores, e);
        if (given < 0)
            return given;
    }
    _cleanup_free_ char *dir =
        given ? xasprintf("%s/scratch/%s", where, b->dirname) : xstrdup(b->dir);
    snprintf(run, sizeof run, "%s/run", dir);
    if (own)
        start_format(spec, keeper_idmap(b->keeper), &config);
    else
        box_config(spec, keeper_idmap(b->keeper), run, &config);
    strv_add(&argv, "box");
    strv_add(&argv, dir);
    strv_addf(&argv, "%s/snap", given ? where : store_path(b->store));
    if (spec->upper_snap[0])
        strv_addf(&argv, "snap:%s", spec->upper_snap);
    else
        strv_add(&argv, "");
    strv_addf(&argv, "%s%s%s", given ? "m" : "",
              spec->volatile_upper || !spec->upper_snap[0] ? "v" : "",
              netns >= 0       ? "n"
              : spec->host_net ? ""
                               : "l");
    strv_add(&argv, runtime);
    strv_add(&argv, where);
    r = lower_names(spec->layers, spec->n_layers, &argv, e);
    _cleanup_close_ int config_fd = r < 0 ? r : memfd_with("config.json", config.p, config.n);
    if (r == 0 && config_fd < 0)
        r = err_errno(e, config_fd, "make a memfd");
    if (r == 0 && (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sup) < 0 ||
                   socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ctl) < 0))
        r = err_errno(e, -errno, "make a socket");
    b->sup = sup[0];
    b->ctl = ctl[0];
    size_t n = 0;
    fds[n++] = sup[1];
    fds[n++] = ctl[1];
    fds[n++] = config_fd;
    if (netns >= 0)
        fds[n++] = netns;
    for (int i = 0; i < 3 && given; i++)
        fds[n++] = stores[i];
    if (r == 0)
        r = ns_spawn(b->keeper, (const char *const *)argv.v, -1, -1, -1, fds, n, &b->sup_pid, e);
    for (int i = 0; i < 3; i++)
        fd_close(stores[i]);
    fd_close(sup[1]);
    fd_close(ctl[1]);
    return r;
}

static int hello_send(struct box *b, const struct box_spec *spec, struct err *e) {
    struct box_req h = {.kind = BOX_HELLO, .caps = b->caps};
    int bpf = spec->privileged ? -1 : seccomp_fd(e);
    if (bpf < 0 && !spec->privileged)
        return bpf;
    h.num[0] = spec->limits.pids ? spec->limits.pids : NPROC_DEFAULT;
    int sock = request_send(b->ctl, &h, NULL, NULL, NULL, NULL, &bpf, bpf >= 0);
    return sock < 0 ? err_errno(e, sock, "speak to the box") : sock;
}

static bool gone(int r) { return r == -EPIPE || r == -ECONNRESET; }

/* Waits for both: the init's answer (hello -1: not; -EPIPE: it is dead), and the supervisor's word of
 * its process id. */
static int started_wait(struct box *b, int hello, struct err *e) {
    bool answered = hello < 0, died = gone(hello); /* then the supervisor says why */
    while (!answered || !b->init_pid || died) {
        struct pollfd p[2] = {{.fd = b->sup, .events = POLLIN},
                              {.fd = answered ? -1 : hello, .events = POLLIN}};
        struct box_rep m;
        int n = poll(p, 2, START_TIMEOUT_MS);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, ERR_INTERNAL, -ETIMEDOUT, "box %s does not start", b->name);
        if (p[0].revents) {
            int r = reply_recv(b->sup, &m, NULL, 0);
            if (r < 0 || (died && m.kind == BOX_DONE))
                return err_set(e, ERR_INTERNAL, -EPIPE, "the %s of box %s died", died ? "init" : "supervisor", b->name);
            if (m.kind == BOX_FAILED)
                return err_set(e, ERR_ENV, m.errnum ? -m.errnum : -EIO, "box %s: %s: %s", b->name,
                               m.text, strerror(m.errnum));
            if (m.kind == BOX_PID)
                b->init_pid = m.value;
        }
        if (p[1].revents) {
            int r = reply_recv(hello, &m, NULL, 0);
            if (gone(r)) {
                answered = died = true;
                continue;
            }
            if (r < 0 || m.value < 0)
                return err_set(e, ERR_INTERNAL, r < 0 ? r : m.value, "the init of box %s died",
                               b->name);
            answered = true;
        }
    }
    return 0;
}

static int file_into(struct box *b, const char *target, const char *name, const char *text,
                     struct err *e) {
    int fd = -1;
    int r = sup_ask(b, SUP_FILE, 0, (const char *const[]){text, NULL}, name, -1, &fd, e);
    if (r < 0)
        return err_wrap(e, r, "%s", target);
    r = box_attach(b, target, fd, 0, e);
    fd_close(fd);
    return r;
}

/* /etc/hosts, /etc/resolv.conf, /etc/hostname: mounted over what the image has. */
static int etc_files(struct box *b, const struct box_spec *spec, struct err *e) {
    _cleanup_buf_ struct buf t = BUF_SMALL;
    const char *host = spec->hostname && *spec->hostname ? spec->hostname : "box";
    int r;
    buf_addf(&t, "%s\n", host);
    r = file_into(b, "/etc/hostname", "hostname", buf_str(&t), e);
    buf_reset(&t);
    if (r < 0)
        return r;
    if (spec->net) {
        int fd = net_hosts_mount(spec->net, e);
        r = fd < 0 ? fd : box_attach(b, "/etc/hosts", fd, 0, e);
        fd_close(fd);
    } else {
        buf_addf(&t, "127.0.0.1 localhost %s\n::1 localhost ip6-localhost ip6-loopback\n", host);
        for (const char *const *h = spec->hosts; h && *h; h++) {
            const char *colon = strchr(*h, ':'); /* "name:ip" */
            if (colon)
                buf_addf(&t, "%s %.*s\n", colon + 1, (int)(colon - *h), *h);
        }
        r = file_into(b, "/etc/hosts", "hosts", buf_str(&t), e);
        buf_reset(&t);
    }
    if (r < 0)
        return r;
    for (const char *const *d = spec->dns; d && *d; d++)
        buf_addf(&t, "nameserver %s\n", *d);
    if (!t.n && spec->net)
        buf_adds(&t, net_resolv(spec->net));
    if (!t.n && spec->host_net) {
        (void)fs_read(AT_FDCWD, "/etc/resolv.conf", &t, NULL);
    }
    return file_into(b, "/etc/resolv.conf", "resolv.conf", buf_str(&t), e);
}

static int network(struct box *b, const struct box_spec *spec, int *ret_ns, struct err *e) {
    *ret_ns = -1;
    if (!spec->net || spec->host_net)
        return 0;
    for (const char *const *h = spec->hosts; h && *h; h++) {
        const char *colon = strchr(*h, ':');
        _cleanup_free_ char *name = colon ? xstrndup(*h, (size_t)(colon - *h)) : NULL;
        if (name)
            net_name_add(spec->net, colon + 1, name);
    }
    _cleanup_free_ char *joined = xasprintf("%s,%s", spec->hostname ? spec->hostname : "",
                                            spec->net_name ? spec->net_name : "");
    if (spec->net_own_ip)
        return net_attach(spec->net, joined, b->ip, ret_ns, e);
    net_names_of_job(spec->net, joined);
    int fd = fcntl(net_ns_fd(spec->net), F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return err_errno(e, -errno, "network of box %s", b->name);
    *ret_ns = fd;
    return 0;
}

/* Memory and CPU need a cgroup; processes have RLIMIT_NPROC in the box's user namespace else. */
static int limits(struct box *b, const struct box_spec *spec, struct err *e) {
    char missing[64];
    if (!spec->limits.memory && !spec->limits.nano_cpus)
        return 0;
    int r = cgroup_new(b->lease, b->dirname, &spec->limits, &b->cgroup, missing);
    if (r == -EOPNOTSUPP || r == -EACCES || r == -EROFS || r == -EPERM)
        return 0; /* this host cannot: `slipway doctor` says so */
    b->memory_limit = spec->limits.memory;
    return r < 0 ? err_errno(e, r, "make a cgroup for box %s", b->name) : 0;
}

/* The keyboards and screens of people: a box of an ordinary user has that user's own id among its own, and
 * would read what is typed on the host. Serial lines are none. */
static bool is_terminal(const struct stat *st) {
    unsigned n = major(st->st_rdev);
    return S_ISCHR(st->st_mode) && ((n >= 136 && n <= 143) || n == 5 || n == 7 || (n == 4 && minor(st->st_rdev) < 64));
}

/* They are bound by path from the host, so a path that is not a device's would be a way to the
 * host's files. */
static int devices_check(const struct box_spec *spec, struct err *e) {
    struct stat st;
    for (size_t i = 0; i < spec->n_devices; i++) {
        const char *p = spec->devices[i].path;
        if (!startswith(p, "/dev/") || strstr(p, "/../") || endswith(p, "/.."))
            return err_set(e, ERR_USER, -EINVAL, "%s is not a device: it must lie below /dev", p);
        if (lstat(p, &st) < 0)
            return err_set(e, ERR_USER, -errno, "device %s: %s", p, strerror(errno));
        if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
            return err_set(e, ERR_USER, -EINVAL, "%s is not a device", p);
        if (is_terminal(&st))
            return err_set(e, ERR_USER, -EPERM, "%s is a terminal of this host, which no box gets", p);
    }
    return 0;
}

static int build(struct box *b, const struct box_spec *spec, struct err *e) {
    _cleanup_close_ int netns = -1, hello = -1;
    int r = caps_parse(spec->cap_add, spec->cap_drop, spec->privileged, &b->caps, e);
    if (r == 0)
        r = devices_check(spec, e);
    if (r == 0)
        r = store_keeper(b->store, &b->keeper, e);
    if (r == 0)
        r = scratch_make(b, e);
    if (r == 0)
        r = limits(b, spec, e);
    if (r == 0)
        r = network(b, spec, &netns, e);
    if (r == 0)
        r = supervisor_start(b, spec, netns, e);
    if (r < 0)
        return r;
    /* With a cgroup the init must be in it before it goes on. */
    if (b->cgroup)
        r = started_wait(b, -1, e);
    if (r == 0 && b->cgroup && (r = cgroup_add(b->cgroup, b->init_pid)) < 0)
        err_errno(e, r, "put box %s into its cgroup", b->name);
    if (r < 0)
        return r;
    hello = hello_send(b, spec, e);
    if (hello < 0)
        return gone(hello) ? started_wait(b, hello, e) : hello;
    /* While the runtime starts: mounts are made, and asked for ahead. */
    struct err first = {0};
    b->starting = true;
    int m = etc_files(b, spec, &first);
    for (size_t i = 0; i < spec->n_mounts && m == 0; i++)
        m = box_mount(b, &spec->mounts[i], &first);
    b->starting = false;
    r = started_wait(b, hello, e);
    if (r == 0 && m < 0) { /* it lives, so that is the error; else the supervisor knows better */
        if (e)
            *e = first;
        r = m;
    }
    if (r == 0)
        r = box_attach_collect(b, e);
    if (r == 0 && spec->net && !spec->host_net)
        r = net_wait(spec->net, e);
    if (r == 0 && spec->readonly_root) {
        struct box_req h = {.kind = BOX_ROOT_RO};
        r = request_ask(b->ctl, &h, NULL, NULL, NULL, 0, NULL);
        if (r < 0)
            err_errno(e, r, "make the root read-only");
    }
    return r;
}

int box_create(struct store *s, struct lease *l, const struct box_spec *spec, struct box **ret,
               struct err *e) {
    box_helper_use();
    if (!spec->n_layers)
        return err_set(e, ERR_INTERNAL, -EINVAL, "a box needs a root");
    struct box *b = xcalloc(1, sizeof *b);
    b->store = s;
    b->lease = l;
    b->name = xstrdup(spec->name ? spec->name : "box");
    b->ctl = b->sup = b->scratch = -1;
    pthread_mutex_init(&b->lock, NULL);
    b->snap_upper = spec->upper_snap[0];
    b->privileged = spec->privileged;
    b->net = spec->net;
    int r = build(b, spec, e);
    if (r < 0) {
        box_destroy(b);
        return r;
    }
    *ret = b;
    return 0;
}

/* --- ending it ------------------------------------------------------------------------------ */

/* The layer shall not hold what was only made as a place to mount on. */
static void stubs_remove(struct box *b) {
    box_kill_all(b, SIGKILL);
    while (b->n_stubs) {
        struct stub *st = &b->stubs[--b->n_stubs];
        struct box_req h = {.kind = BOX_UMOUNT, .flags = BOX_F_STUB, .num = {st->made}};
        (void)request_ask(b->ctl, &h, st->target, NULL, NULL, 0, NULL);
        free(st->target);
    }
}

/* Until every process of the box is gone. */
static void supervisor_end(struct box *b) {
    struct pollfd p = {.fd = b->sup, .events = POLLIN};
    struct box_rep m = {0};
    if (b->sup_pid <= 0)
        return;
    shutdown(b->sup, SHUT_WR);
    for (;;) {
        int n = poll(&p, 1, END_TIMEOUT_MS);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            kill(b->sup_pid, SIGKILL);
            break;
        }
        if (reply_recv(b->sup, &m, NULL, MSG_DONTWAIT) < 0 || m.kind == BOX_DONE)
            break;
    }
    proc_leave(b->sup_pid); /* it has said BOX_DONE and still cleans up */
}

void box_destroy(struct box *b) {
    if (!b)
        return;
    for (size_t i = 0; i < b->n_deferred; i++) { /* of a start that failed */
        fd_close(b->deferred[i].sock);
        free(b->deferred[i].target);
    }
    free(b->deferred);
    if (b->snap_upper && b->init_pid)
        stubs_remove(b);
    b->ctl = fd_close(b->ctl); /* the init ends, and everything with it */
    supervisor_end(b);
    b->sup = fd_close(b->sup);
    cgroup_free(b->cgroup);
    if (b->ip[0] && b->net)
        net_detach(b->net, b->ip);
    if (b->sup_pid <= 0 && b->scratch >= 0 && b->dirname[0])
        unlinkat(b->scratch, b->dirname, AT_REMOVEDIR);
    for (size_t i = 0; i < b->n_stubs; i++)
        free(b->stubs[i].target);
    free(b->stubs);
    pthread_mutex_destroy(&b->lock);
    free(b->name);
    free(b->dir);
    free(b);
}

int box_upper(struct box *b, struct strv *stubs, struct err *e) {
    _cleanup_free_ char *at = xasprintf("%s/root/fs", b->dirname);
    if (b->snap_upper)
        return err_set(e, ERR_INTERNAL, -EINVAL, "the upper layer is a snapshot of its own");
    int fd = openat(b->scratch, at, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, -errno, "open what %s wrote", b->name);
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; stubs && i < b->n_stubs; i++) {
        _cleanup_free_ char *path = xstrdup(b->stubs[i].target);
        for (int made = b->stubs[i].made; made > 0; made--) {
            strv_add(stubs, *path == '/' ? path + 1 : path);
            char *slash = strrchr(path, '/');
            if (!slash)
                break;
            *slash = 0;
        }
    }
    pthread_mutex_unlock(&b->lock);
    return fd;
}

pid_t box_supervisor_pid(const struct box *b) {
    return b->sup_pid;
}
int box_alive_fd(const struct box *b) {
    return b->ctl;
}
const char *box_ip(const struct box *b) {
    return b->ip[0] ? b->ip : NULL;
}

int box_kill_all(struct box *b, int signo) {
    struct box_req h = {.kind = BOX_KILLALL, .num = {signo}};
    return request_ask(b->ctl, &h, NULL, NULL, NULL, 0, NULL);
}
