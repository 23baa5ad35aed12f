/* One folder on v2, one per controller on v1. The parent is our own group where we may make groups
 * in it. On v2 a group with processes cannot hand controllers down (cgroups(7), "no internal
 * processes"), so there the search goes up: as root to the root of the tree, as an ordinary user to
 * the highest group that is ours (systemd's delegated user@.service). */
#include "box/cgroup.h"
#include "core/fs.h"

#include <fcntl.h>
#include <sys/stat.h>

#define V2_MAX_UP 16

enum { MEMORY, CPU, PIDS, CPUACCT, N_CONTROLLERS };
static const char *const controllers[N_CONTROLLERS] = {"memory", "cpu", "pids", "cpuacct"};

struct cgroup {
    bool v2;
    char *path[N_CONTROLLERS]; /* v2: [0] only; v1: NULL where there is none; may be equal */
};

struct mounts {
    char *v1[N_CONTROLLERS]; /* mount points */
    char *v2;
};

static void mounts_done(struct mounts *m) {
    for (size_t i = 0; i < N_CONTROLLERS; i++)
        free(m->v1[i]);
    free(m->v2);
}

static bool has_option(struct sv options, const char *name) {
    struct sv o;
    while (options.p && sv_split(&options, ',', &o))
        if (sv_eqs(o, name))
            return true;
    return false;
}

/* mountinfo(5): "… mountpoint … - type source superoptions" */
static void mounts_read(struct mounts *m) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    struct sv rest, line;
    memset(m, 0, sizeof *m);
    if (fs_read(AT_FDCWD, "/proc/self/mountinfo", &b, NULL) < 0)
        return;
    rest = buf_sv(&b);
    while (sv_line(&rest, &line)) {
        struct sv f[16], field, fields = line;
        size_t n = 0, dash = 0;
        while (n < ELEMENTS(f) && sv_split(&fields, ' ', &field)) {
            if (sv_eqs(field, "-"))
                dash = n;
            f[n++] = field;
        }
        if (!dash || dash + 3 >= n || n < 5)
            continue;
        if (sv_eqs(f[dash + 1], "cgroup2") && !m->v2)
            m->v2 = sv_dup(f[4]);
        for (size_t i = 0; i < N_CONTROLLERS && sv_eqs(f[dash + 1], "cgroup"); i++)
            if (!m->v1[i] && has_option(f[dash + 3], controllers[i]))
                m->v1[i] = sv_dup(f[4]);
    }
}

/* proc(5), /proc/PID/cgroup: "ID:controllers:path"; v2 is "0::path". */
static char *own_group(const char *controller) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct sv rest, line;
    if (fs_read(AT_FDCWD, "/proc/self/cgroup", &b, NULL) < 0)
        return NULL;
    rest = buf_sv(&b);
    while (sv_line(&rest, &line)) {
        struct sv id, names;
        if (!sv_split(&line, ':', &id) || !sv_split(&line, ':', &names))
            continue;
        if (controller ? has_option(names, controller) : sv_eqs(id, "0"))
            return sv_dup(line);
    }
    return NULL;
}

enum cgroup_mode cgroup_mode(void) {
    struct mounts m;
    mounts_read(&m);
    bool v1 = m.v1[MEMORY] || m.v1[CPU] || m.v1[PIDS];
    enum cgroup_mode r = v1 && m.v2 ? CGROUP_HYBRID
                         : v1       ? CGROUP_V1
                         : m.v2     ? CGROUP_V2
                                    : CGROUP_NONE;
    mounts_done(&m);
    return r;
}

const char *cgroup_mode_name(enum cgroup_mode m) {
    static const char *const names[] = {"none", "v1", "hybrid (v1 controllers)", "v2"};
    return names[m];
}

static int write_text(const char *dir, const char *file, const char *text) {
    _cleanup_free_ char *path = xasprintf("%s/%s", dir, file);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int write_u64(const char *dir, const char *file, uint64_t v) {
    char t[32];
    snprintf(t, sizeof t, "%llu", (unsigned long long)v);
    return write_text(dir, file, t);
}

static void missed(char missing[64], const char *name) {
    size_t n = strlen(missing);
    snprintf(missing + n, 64 - n, "%s%s", n ? ", " : "", name);
}

/* --- v2 ------------------------------------------------------------------------------------- */

static bool hands_down(const char *dir) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    _cleanup_free_ char *path = xasprintf("%s/cgroup.subtree_control", dir);
    if (access(dir, W_OK) < 0)
        return false;
    (void)write_text(dir, "cgroup.subtree_control", "+memory");
    (void)write_text(dir, "cgroup.subtree_control", "+cpu");
    (void)write_text(dir, "cgroup.subtree_control", "+pids");
    return fs_read(AT_FDCWD, path, &b, NULL) == 0 && sv_find(buf_sv(&b), SV("memory")) >= 0;
}

static char *v2_parent(const char *mount) {
    _cleanup_free_ char *own = own_group(NULL);
    if (!own)
        return NULL;
    char *dir = xasprintf("%s%s", mount, streq(own, "/") ? "" : own), *best = NULL;
    for (int i = 0; i < V2_MAX_UP && strlen(dir) >= strlen(mount); i++) {
        if (access(dir, W_OK) < 0)
            break; /* above what is ours */
        if (hands_down(dir)) {
            best = xstrdup(dir);
            break;
        }
        char *slash = strrchr(dir, '/');
        if (!slash || strlen(dir) == strlen(mount))
            break;
        *slash = 0;
    }
    free(dir);
    return best;
}

static void v2_limits(const char *dir, const struct box_limits *l, char missing[64]) {
    char t[64];
    if (l->memory) {
        if (write_u64(dir, "memory.max", l->memory) < 0)
            missed(missing, "memory");
        (void)write_text(dir, "memory.swap.max", "0");
        (void)write_text(dir, "memory.oom.group", "0");
    }
    if (l->nano_cpus) {
        snprintf(t, sizeof t, "%llu 100000",
                 (unsigned long long)MAX(l->nano_cpus / 10000, 1000ull));
        if (write_text(dir, "cpu.max", t) < 0)
            missed(missing, "cpu");
    }
    if (l->pids && write_u64(dir, "pids.max", l->pids) < 0)
        missed(missing, "pids");
}

/* --- v1 ------------------------------------------------------------------------------------- */

static void v1_limits(struct cgroup *c, const struct box_limits *l, char missing[64]) {
    if (l->memory &&
        (!c->path[MEMORY] || write_u64(c->path[MEMORY], "memory.limit_in_bytes", l->memory) < 0))
        missed(missing, "memory");
    else if (l->memory)
        (void)write_u64(c->path[MEMORY], "memory.memsw.limit_in_bytes", l->memory);
    if (l->nano_cpus &&
        (!c->path[CPU] || write_u64(c->path[CPU], "cpu.cfs_period_us", 100000) < 0 ||
         write_u64(c->path[CPU], "cpu.cfs_quota_us", MAX(l->nano_cpus / 10000, 1000ull)) < 0))
        missed(missing, "cpu");
    if (l->pids && (!c->path[PIDS] || write_u64(c->path[PIDS], "pids.max", l->pids) < 0))
        missed(missing, "pids");
}

static int make_group(struct lease *l, const char *path) {
    _cleanup_free_ char *note = xasprintf("cgroup:%s", path);
    int r = lease_use(l, note); /* before it is there */
    if (r < 0)
        return r;
    return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

int cgroup_new(struct lease *l, const char *name, const struct box_limits *limits,
               struct cgroup **ret, char missing[64]) {
    struct mounts m;
    struct cgroup *c = xcalloc(1, sizeof *c);
    _cleanup_free_ char *leaf = xasprintf("slipway-%s-%s", lease_id(l), name);
    int r = -EOPNOTSUPP;
    missing[0] = 0;
    mounts_read(&m);
    if (m.v1[MEMORY] || m.v1[CPU] || m.v1[PIDS]) {
        for (size_t i = 0; i < N_CONTROLLERS; i++) {
            _cleanup_free_ char *own = m.v1[i] ? own_group(controllers[i]) : NULL;
            if (!own)
                continue;
            char *path = xasprintf("%s%s/%s", m.v1[i], streq(own, "/") ? "" : own, leaf);
            if (make_group(l, path) < 0) {
                free(path);
                continue;
            }
            c->path[i] = path;
            r = 0;
        }
        if (r == 0)
            v1_limits(c, limits, missing);
    } else if (m.v2) {
        _cleanup_free_ char *parent = v2_parent(m.v2);
        c->v2 = true;
        if (parent) {
            c->path[0] = xasprintf("%s/%s", parent, leaf);
            r = make_group(l, c->path[0]);
            if (r == 0)
                v2_limits(c->path[0], limits, missing);
        }
    }
    mounts_done(&m);
    if (r < 0) {
        cgroup_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

int cgroup_add(struct cgroup *c, pid_t pid) {
    int r = 0;
    for (size_t i = 0; i < N_CONTROLLERS && r == 0; i++)
        if (c->path[i])
            r = write_u64(c->path[i], "cgroup.procs", (uint64_t)pid);
    return r;
}

static bool read_u64(const char *dir, const char *file, const char *key, uint64_t *ret) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    if (!dir)
        return false;
    _cleanup_free_ char *path = xasprintf("%s/%s", dir, file);
    if (fs_read(AT_FDCWD, path, &b, NULL) < 0)
        return false;
    struct sv rest = buf_sv(&b), line;
    while (sv_line(&rest, &line)) {
        struct sv word = line;
        if (key && (!sv_split(&line, ' ', &word) || !sv_eqs(word, key)))
            continue;
        return sv_u64(sv_trim(line), UINT64_MAX, ret) == 0;
    }
    return false;
}

int cgroup_stats(struct cgroup *c, struct box_stats *ret) {
    uint64_t v;
    if (c->v2) {
        const char *d = c->path[0];
        (void)read_u64(d, "memory.current", NULL, &ret->memory);
        (void)read_u64(d, "memory.max", NULL, &ret->memory_limit); /* "max" is no number: 0 */
        if (read_u64(d, "cpu.stat", "usage_usec", &v))
            ret->cpu_ns = v * 1000;
        (void)read_u64(d, "pids.current", NULL, &ret->pids);
        return 0;
    }
    (void)read_u64(c->path[MEMORY], "memory.usage_in_bytes", NULL, &ret->memory);
    if (read_u64(c->path[MEMORY], "memory.limit_in_bytes", NULL, &v) && v < 1ull << 60)
        ret->memory_limit = v;
    (void)read_u64(c->path[CPUACCT], "cpuacct.usage", NULL, &ret->cpu_ns);
    (void)read_u64(c->path[PIDS], "pids.current", NULL, &ret->pids);
    return 0;
}

void cgroup_free(struct cgroup *c) {
    if (!c)
        return;
    for (size_t i = 0; i < N_CONTROLLERS; i++) {
        /* The last process may still be on its way out. */
        for (int turn = 0; c->path[i] && rmdir(c->path[i]) < 0 && errno == EBUSY && turn < 100;
             turn++)
            usleep(2000);
        free(c->path[i]);
    }
    free(c);
}
