#include "box/doctor.h"
#include "box/cgroup.h"
#include "box/impl.h"
#include "core/fs.h"
#include "core/loop.h"
#include "core/proc.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

struct doctor {
    struct doctor_check *list;
    size_t n;
    struct store *store;
    struct lease *lease;
};

static void add(struct doctor *d, const char *name, enum doctor_status st, const char *fix,
                const char *fmt, ...) _printf_(5, 6);
static void add(struct doctor *d, const char *name, enum doctor_status st, const char *fix,
                const char *fmt, ...) {
    if (d->n >= DOCTOR_MAX)
        return;
    struct doctor_check *c = &d->list[d->n++];
    va_list ap;
    c->name = name;
    c->status = st;
    snprintf(c->fix, sizeof c->fix, "%s", fix ? fix : "");
    va_start(ap, fmt);
    vsnprintf(c->detail, sizeof c->detail, fmt, ap);
    va_end(ap);
}

static void add_err(struct doctor *d, const char *name, enum doctor_status st,
                    const struct err *e) {
    add(d, name, st, e->hint, "%s", e->msg);
}

static void kernel(struct doctor *d) {
    struct utsname u;
    unsigned major = 0, minor = 0;
    if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
        add(d, "kernel", DOCTOR_WARN, NULL, "its version cannot be read");
    else if (major < 5 || (major == 5 && minor < 12))
        add(d, "kernel", DOCTOR_FAIL, NULL, "Linux %s; 5.12 or newer is needed", u.release);
    else
        add(d, "kernel", DOCTOR_OK, NULL, "Linux %s", u.release);
}

static bool user_namespace(struct doctor *d) {
    struct idmap map;
    struct err e = {0};
    struct keeper *k;
    if (idmap_find(&map, false, &e) < 0) {
        add_err(d, "subordinate ids", DOCTOR_FAIL, &e);
        return false;
    }
    add(d, "subordinate ids", DOCTOR_OK, NULL, "%s",
        map.root ? "root: a range of its own" : "from /etc/subuid and /etc/subgid");
    if (keeper_new(&k, &map, &e) < 0) {
        add_err(d, "user namespaces", DOCTOR_FAIL, &e);
        return false;
    }
    keeper_free(k);
    add(d, "user namespaces", DOCTOR_OK, NULL, "can be made");
    return true;
}

/* Boxes are started by ourselves unless another runtime was asked for. */
static void runtime(struct doctor *d) {
    const char *configured = getenv("SLIPWAY_OCI_RUNTIME");
    if (!configured || !*configured) {
        add(d, "OCI runtime", DOCTOR_OK, NULL, "not needed (SLIPWAY_OCI_RUNTIME names one to be used)");
        return;
    }
    _cleanup_free_ char *path = proc_find(configured);
    if (path)
        add(d, "OCI runtime", DOCTOR_OK, NULL, "%s", path);
    else
        add(d, "OCI runtime", DOCTOR_FAIL, "sudo apt-get install crun", "SLIPWAY_OCI_RUNTIME names no program: %s",
            configured);
}

static void network(struct doctor *d) {
    struct err e = {0};
    struct box_net *n = NULL;
    struct stat st;
    if (stat("/dev/net/tun", &st) < 0) {
        add(d, "network", DOCTOR_FAIL, "sudo modprobe tun", "/dev/net/tun is not there");
        return;
    }
    uint64_t t = now_mono();
    int r = net_new(d->store, d->lease, NULL, &n, &e);
    if (r == 0)
        r = net_wait(n, &e);
    if (r < 0)
        add_err(d, "network", DOCTOR_FAIL, &e);
    else
        add(d, "network", DOCTOR_OK, NULL,
            "%s, ready in %u ms (user-mode: neither ip_forward nor the host's FORWARD "
            "rules matter)",
            net_mode_name(n), (unsigned)((now_mono() - t) / 1000000));
    net_free(n);
}

static void box(struct doctor *d) {
    struct err e = {0};
    struct box *b = NULL;
    struct statfs fs;
    char id[33];
    if (snap_begin(d->store, d->lease, id, NULL, &e) < 0) {
        add_err(d, "box", DOCTOR_FAIL, &e);
        return;
    }
    const char *layers[] = {id};
    struct box_spec spec = {.name = "doctor", .layers = layers, .n_layers = 1};
    uint64_t t = now_mono();
    if (box_create(d->store, d->lease, &spec, &b, &e) < 0)
        add_err(d, "box", DOCTOR_FAIL, &e);
    else
        add(d, "box", DOCTOR_OK, NULL, "starts in %u ms", (unsigned)((now_mono() - t) / 1000000));
    box_destroy(b);
    snap_abort(d->store, id);
    if (fstatfs(store_dirfd(d->store), &fs) == 0 && fs.f_type == OVERLAYFS_SUPER_MAGIC)
        add(d, "overlay", DOCTOR_WARN, "set SLIPWAY_STATE to a folder on a volume",
            "%s lies on an overlay (a container's own disk), which cannot hold another one's "
            "upper layer: what boxes write is kept in memory",
            store_path(d->store));
}

static void limits(struct doctor *d) {
    struct box_limits l = {.memory = 1ull << 30, .nano_cpus = 1000000000, .pids = 1000};
    struct cgroup *c = NULL;
    char missing[64];
    const char *mode = cgroup_mode_name(cgroup_mode());
    int r = cgroup_new(d->lease, "doctor", &l, &c, missing);
    if (r == 0 && !missing[0])
        add(d, "limits", DOCTOR_OK, NULL, "cgroup %s: memory, cpu and processes can be limited",
            mode);
    else if (r == 0)
        add(d, "limits", DOCTOR_WARN, NULL, "cgroup %s: these cannot be limited here: %s", mode,
            missing);
    else
        add(d, "limits", DOCTOR_WARN,
            geteuid() == 0 ? NULL
                           : "systemd-run --user --scope slipway … (where systemd delegates)",
            "cgroup %s, but none can be made here: only the number of processes is limited", mode);
    cgroup_free(c);
}

static void disk(struct doctor *d) {
    struct statvfs v;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    if (fstatvfs(store_dirfd(d->store), &v) < 0)
        return;
    uint64_t free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    buf_add_size(&b, free_bytes);
    enum doctor_status st = free_bytes < 1ull << 30   ? DOCTOR_FAIL
                            : free_bytes < 5ull << 30 ? DOCTOR_WARN
                                                      : DOCTOR_OK;
    add(d, "disk", st, st == DOCTOR_OK ? NULL : "slipway prune", "%s free in %s", buf_str(&b),
        store_path(d->store));
}

static void programs(struct doctor *d) {
    _cleanup_free_ char *git = proc_find("git");
    if (git)
        add(d, "git", DOCTOR_OK, NULL, "%s", git);
    else
        add(d, "git", DOCTOR_FAIL, "sudo apt-get install git", "is not there");
}

size_t doctor_run(struct store *s, const struct err *why, struct doctor_check ret[DOCTOR_MAX]) {
    struct doctor d = {.list = ret, .store = s};
    struct err e = {0};
    kernel(&d);
    runtime(&d);
    programs(&d);
    bool ns = user_namespace(&d);
    if (!s) {
        add_err(&d, "store", DOCTOR_FAIL, why);
        return d.n;
    }
    disk(&d);
    if (lease_new(s, "doctor", &d.lease, &e) < 0) {
        add_err(&d, "store", DOCTOR_FAIL, &e);
        return d.n;
    }
    if (ns) {
        box(&d);
        network(&d);
    }
    limits(&d);
    lease_free(d.lease);
    return d.n;
}
