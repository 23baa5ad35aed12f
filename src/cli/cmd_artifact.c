/* slipway artifact ls, get: what runs left behind. */
#include "base/zip.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/fs.h"
#include "core/json.h"
#include "core/loop.h"
#include "store/artifact.h"

#include <dirent.h>
#include <sys/stat.h>

int cmd_artifact(int argc, char **argv);

static bool is_run(const char *s) { return *s && strspn(s, "0123456789") == strlen(s) && strlen(s) < 20; }

static int one(const struct artifact *a, void *arg) { return 1; }

/* The newest run with artifacts. */
static int newest(struct store *s, char ret[32]) {
    int fd = openat(store_dirfd(s), "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    uint64_t best = 0, v;
    if (!d) {
        fd_close(fd);
        return -ENOENT;
    }
    for (struct dirent *en; (en = readdir(d));)
        if (sv_u64(sv_from(en->d_name), UINT64_MAX, &v) == 0 && v > best && artifact_each(s, en->d_name, one, NULL) == 1)
            best = v;
    closedir(d);
    snprintf(ret, 32, "%llu", (unsigned long long)best);
    return best ? 0 : -ENOENT;
}

static int no_run(struct err *e) {
    err_set(e, ERR_NOTFOUND, -ENOENT, "no run with artifacts is kept");
    return err_hint(e, -ENOENT, "artifacts are kept for 90 days, and as long as their run is (slipway prune --keep-runs)");
}

struct list {
    struct json_w *w;
    unsigned n;
};
static int list_one(const struct artifact *a, void *arg) {
    struct list *l = arg;
    char when[32], until[32] = "";
    format_time((uint64_t)a->created * 1000000000u, when);
    if (a->expires)
        format_time((uint64_t)a->expires * 1000000000u, until);
    l->n++;
    if (l->w) {
        jw_obj(l->w);
        jw_kint(l->w, "id", (int64_t)a->id);
        jw_kstr(l->w, "name", a->name);
        jw_kint(l->w, "size", (int64_t)a->size);
        jw_kstr(l->w, "type", a->mime);
        jw_kstr(l->w, "digest", a->digest);
        jw_kstr(l->w, "created", when);
        jw_kstr(l->w, "expires", until);
        jw_end_obj(l->w);
        return 0;
    }
    _cleanup_buf_ struct buf size = BUF_SMALL;
    buf_add_size(&size, a->size);
    printf("%-8llu %10s  %.19s  %.10s  %s\n", (unsigned long long)a->id, buf_str(&size), when, until, a->name);
    return 0;
}

static int ls(int argc, char **argv) {
    bool json = false;
    const struct opt items[] = {{0, "json", OPT_FLAG, &json, NULL, "as JSON"}};
    const struct opts o = {"artifact ls [RUN]", "Lists the artifacts of a run; without RUN of the last one that has any.", items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    char run[32];
    int n, k = opts_begin(&o, argc, argv, &n), r = 0;
    if (k >= 0)
        return k;
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "artifact", .no_lease = true})) >= 0)
        return k;
    _cleanup_buf_ struct buf b = BUF_LARGE;
    struct json_w w;
    struct list l = {json ? &w : NULL, 0};
    jw_init(&w, &b, 2);
    jw_arr(&w);
    if (n > 1 || (n && !is_run(argv[1])))
        r = err_set(&e, ERR_USER, -EINVAL, "%s: not the number of a run", argv[n > 1 ? 2 : 1]);
    else if (!n)
        r = newest(c.store, run) < 0 ? json ? -ENODATA : no_run(&e) : 0;
    else
        snprintf(run, sizeof run, "%s", argv[1]);
    if (r == 0 && (r = artifact_each(c.store, run, list_one, &l)) < 0)
        err_errno(&e, r, "run %s", run);
    jw_end_arr(&w);
    if (json && (r == 0 || r == -ENODATA)) {
        puts(buf_str(&b));
        r = 0;
    } else if (r == 0 && !l.n)
        printf("run %s has no artifacts\n", run);
    cli_close(&c);
    return r < 0 ? cli_fail(&e) : 0;
}

/* --- get ---------------------------------------------------------------------------------------------- */

static int to_fd(void *arg, const void *p, size_t n) { return fd_write_all(*(int *)arg, p, n); }

/* Into a folder of the user's; nothing in the archive can lead out of it. */
static int unpack(int fd, const char *dir, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct zip z;
    int r = fs_mkdirs(AT_FDCWD, dir, 0777);
    _cleanup_close_ int root = r < 0 ? r : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(e, r < 0 ? r : -errno, "%s", dir);
    r = zip_open(&z, fd, NULL, &a, e);
    for (size_t i = 0; r >= 0 && i < z.n; i++) {
        const struct zip_entry *en = &z.entries[i];
        const char *name;
        if (!zip_name_ok(en->name))
            return err_set(e, ERR_USER, -EINVAL, "the artifact holds \"%s\", which leads out of its folder", en->name);
        if (en->dir) {
            if ((r = fs_mkdirs_in(root, en->name, 0777)) < 0)
                err_errno(e, r, "%s", en->name);
            continue;
        }
        _cleanup_close_ int parent = fs_parent_in(root, en->name, true, &name);
        _cleanup_close_ int out = parent < 0 ? parent : openat(parent, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (out < 0)
            return err_errno(e, parent < 0 ? parent : -errno, "%s/%s", dir, en->name);
        r = zip_read(&z, en, to_fd, &out, e);
    }
    return r;
}

static int copy_out(int fd, const char *path, struct err *e) {
    uint64_t n;
    _cleanup_close_ int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int r = out < 0 ? -errno : fd_copy(fd, out, UINT64_MAX, &n);
    return r < 0 ? err_errno(e, r, "%s", path) : 0;
}

struct get {
    struct store *s;
    const char *run, *want, *dir, *zip;
    unsigned n;
    struct err *e;
};
static int get_one(const struct artifact *a, void *arg) {
    struct get *g = arg;
    bool zip = streq(a->mime, "application/zip");
    if (g->want && !streq(g->want, a->name))
        return 0;
    g->n++;
    _cleanup_close_ int fd = artifact_open(g->s, g->run, a->id, NULL);
    if (fd < 0)
        return err_errno(g->e, fd, "artifact %s", a->name);
    _cleanup_free_ char *own = g->want ? xstrdup(g->dir) : path_join(g->dir, a->name), *file = path_join(own, a->name);
    int r = g->zip ? copy_out(fd, g->zip, g->e) : zip ? unpack(fd, own, g->e) : 0;
    if (r >= 0 && !zip && !g->zip && (r = fs_mkdirs(AT_FDCWD, own, 0777)) >= 0)
        r = copy_out(fd, file, g->e);
    if (r < 0)
        return err_wrap(g->e, r, "artifact %s", a->name);
    printf("%s: %s\n", a->name, g->zip ? g->zip : zip ? own : file);
    return 0;
}

static int get(int argc, char **argv) {
    const char *dir = ".", *zip = NULL;
    const struct opt items[] = {{'d', "dir", OPT_STR, &dir, "DIR", "where to (here); several go into folders of their names"},
                                {0, "zip", OPT_STR, &zip, "FILE", "the archive itself, not unpacked"}};
    const struct opts o = {"artifact get [RUN] [NAME]", "Unpacks the artifacts of a run, or the one of that name; without RUN of the last\nrun that has any.", items,
                           ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    char run[32] = "";
    int n, k = opts_begin(&o, argc, argv, &n), r = 0;
    if (k >= 0)
        return k;
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "artifact", .no_lease = true})) >= 0)
        return k;
    bool first = n >= 1 && is_run(argv[1]);
    struct get g = {.s = c.store, .want = n > first ? argv[1 + first] : NULL, .dir = dir, .zip = zip, .e = &e};
    if (n > 2 || (n == 2 && !first))
        r = err_set(&e, ERR_USER, -EINVAL, "artifact get takes a run and a name");
    else if (zip && !g.want)
        r = err_set(&e, ERR_USER, -EINVAL, "--zip needs the name of one artifact");
    else if (first)
        snprintf(run, sizeof run, "%s", argv[1]);
    else if (newest(c.store, run) < 0)
        r = no_run(&e);
    g.run = run;
    if (r == 0 && (r = artifact_each(c.store, run, get_one, &g)) == 0 && !g.n) {
        r = err_set(&e, ERR_NOTFOUND, -ENOENT, g.want ? "run %s has no artifact %s" : "run %s has no artifacts", run, g.want);
        err_hint(&e, r, "slipway artifact ls %s", run);
    }
    cli_close(&c);
    return r < 0 ? cli_fail(&e) : 0;
}

int cmd_artifact(int argc, char **argv) {
    struct err e = {0};
    const char *name = argc > 1 ? argv[1] : "--help";
    if (streq(name, "ls") || streq(name, "list"))
        return ls(argc - 1, argv + 1);
    if (streq(name, "get"))
        return get(argc - 1, argv + 1);
    if (streq(name, "--help") || streq(name, "-h")) {
        puts("usage: slipway artifact COMMAND\n\n  ls [RUN]           the artifacts of a run\n  get [RUN] [NAME]   unpack them");
        return argc > 1 ? 0 : 2;
    }
    err_set(&e, ERR_USER, -EINVAL, "no such command: artifact %s", name);
    return cli_fail(&e);
}
