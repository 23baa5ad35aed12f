/* The node that runs JavaScript actions. A hosted runner brings its own and does not look at the
 * image's; so does slipway: one release for all (an action that asks for an older one runs on it),
 * bound read-only into the job's place. Where none can be fetched the image's own is taken, when it
 * is new enough. */
#include "run/action.h"

#include "core/fs.h"
#include "run/nodefetch.h"
#include "run/place.h"

#define TARGET "/__e/node"
#define RANGE "24.x"

static bool in_box(struct jobx *x, const char *path) {
    int fd = box_open(x->box, path, O_RDONLY | O_NONBLOCK, 0, NULL);
    fd_close(fd);
    return fd >= 0;
}

static bool is_musl(struct jobx *x) {
#if defined(__aarch64__)
    return !x->host && in_box(x, "/lib/ld-musl-aarch64.so.1") && !in_box(x, "/lib/ld-linux-aarch64.so.1");
#else
    return !x->host && in_box(x, "/lib/ld-musl-x86_64.so.1") && !in_box(x, "/lib64/ld-linux-x86-64.so.2");
#endif
}

static void on_progress(void *arg, uint64_t done, uint64_t total) {
    jobx_emit(arg, &(struct event){.kind = EV_PROGRESS, .name = "node", .text = SV("fetching node"), .done = done, .total = total});
}

/* A prefix, or a program, on this disk. */
static char *installed(const char *source) {
    _cleanup_free_ char *in = path_join(source, "bin/node");
    return xstrdup(fs_exists(AT_FDCWD, in) ? in : source);
}

static int bound(struct jobx *x, const char *program, const char **ret, struct err *e) {
    if (x->host) {
        *ret = arena_strdup(x->a, program);
        return 0;
    }
    struct box_mount m = {.kind = BOX_BIND, .target = TARGET, .source_fd = open(program, O_PATH | O_CLOEXEC), .readonly = true, .nosuid = true};
    int r = m.source_fd < 0 ? err_errno(e, -errno, "%s", program) : box_mount(x->box, &m, e);
    fd_close(m.source_fd);
    if (r >= 0)
        *ret = TARGET;
    return r;
}

/* The image's own, when it is at least this new. */
static bool own(struct jobx *x, unsigned major, const char **ret, struct buf *looked) {
    static const char script[] = "p=$(command -v node) && v=$(\"$p\" --version) && echo \"$v $p\"";
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    _cleanup_buf_ struct buf out = BUF_SMALL;
    struct sv rest, version;
    uint64_t have = 0;
    if (jobx_capture(x, argv, NULL, &out, NULL) != 0)
        return false;
    rest = sv_trim(buf_sv(&out));
    if (!sv_split(&rest, ' ', &version) || version.n < 2 || *version.p != 'v')
        return false;
    struct sv number = sv_sub(version, 1, SIZE_MAX), first;
    sv_split(&number, '.', &first);
    if (sv_u64(first, 1000, &have) < 0)
        return false;
    buf_addf(looked, "; the image has " SV_FMT, SV_ARG(version));
    if (have < major)
        return false;
    *ret = arena_strndup(x->a, rest.p, rest.n);
    return true;
}

static int find(struct jobx *x, unsigned major, const char **ret, struct err *e) {
    const char *source = x->rq->node_source;
    struct err why = {0};
    int r;
    if (source && *source == '/') {
        _cleanup_free_ char *program = installed(source);
        return bound(x, program, ret, e);
    }
    struct node_want w = {.source = source, .range = RANGE, .musl = is_musl(x), .offline = x->rq->offline,
                          .cancel = (const volatile int *)(const volatile void *)&x->leg->cancel, .progress = on_progress, .arg = x};
    _cleanup_free_ char *prefix = NULL, *version = NULL;
    pthread_mutex_lock(&x->run->node_mu);
    r = node_fetch(&w, &prefix, &version, &why);
    pthread_mutex_unlock(&x->run->node_mu);
    if (r >= 0) {
        _cleanup_free_ char *program = path_join(prefix, "bin/node");
        return bound(x, program, ret, e);
    }
    _cleanup_buf_ struct buf looked = BUF_SMALL;
    if (own(x, major, ret, &looked))
        return 0;
    err_set(e, ERR_NOTFOUND, -ENOENT, "there is no node for JavaScript actions: %s%s", why.msg, buf_str(&looked));
    return err_hint(e, -ENOENT, "node.source in the configuration: a URL like https://nodejs.org/dist, npm, or the path of an installed one");
}

int node_find(struct jobx *x, unsigned major, const char **ret, struct err *e) {
    unsigned kind = major > 20, want = kind ? 24 : 20;
    if (!x->node[kind]) {
        const char *path;
        int r = find(x, want, &path, e);
        if (r < 0)
            return r;
        x->node[kind] = path;
        if (!streq(path, TARGET) || kind)
            x->node[0] = path;
        if (streq(path, TARGET))
            x->node[0] = x->node[1] = path;
    }
    *ret = x->node[kind];
    return 0;
}
