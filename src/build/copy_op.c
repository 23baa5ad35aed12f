/* The helper operations behind COPY, ADD and WORKDIR. "build-copy" does the work, "build-list" only
 * tells what it would copy, for the cache key. Both read the same specification. */
#include "build/copy_int.h"
#include "core/fs.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/resource.h>

#define PLAIN (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

/* --- the specification ---------------------------------------------------------------------- */

static void strings(const struct json *j, struct strv *out) {
    for (size_t i = 0; j && i < j->n; i++)
        strv_add(out, json_str(j->items[i], ""));
}

struct spec {
    struct arena a;
    struct json *j;
    struct strv layers, src_layers;
    const char *where;
};

/* Where overlays are mounted, and the store's folders when they come as detached mounts: below a
 * tmpfs that hides some folder of the host's, for us alone. */
static int places(struct spec *s, struct err *e) {
    static const char *const dirs[] = {"snap", "tree", "below", "src"};
    bool given = json_get_bool(s->j, "mounts", false);
    const char *store = given ? s->where : json_get_str(s->j, "store", "/nonexistent");
    char path[300];
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_errno(e, -errno, "make the mounts private");
    if (mount("tmpfs", s->where, "tmpfs", MS_NOSUID | MS_NODEV, "mode=711,size=1m") < 0)
        return err_errno(e, -errno, "mount a tmpfs on %s", s->where);
    for (size_t i = 0; i < ELEMENTS(dirs); i++) {
        snprintf(path, sizeof path, "%s/%s", s->where, dirs[i]);
        if (mkdir(path, 0711) < 0)
            return err_errno(e, -errno, "make %s", path);
        if (given && i < 2 && syscall(SYS_move_mount, COPY_FD_SNAPS + (int)i, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
            return err_errno(e, -errno, "attach the store's folder %s", dirs[i]);
    }
    return chdir(store) < 0 ? err_errno(e, -errno, "enter %s", store) : 0;
}

/* One folder comes opened; several are mounted as one; none is none. */
static int layers_open(struct spec *s, const struct strv *ids, int given, const char *name, int *ret, struct err *e) {
    char path[300];
    *ret = -1;
    if (!ids->n)
        return 0;
    if (ids->n == 1) {
        *ret = given;
        return 0;
    }
    snprintf(path, sizeof path, "%s/%s", s->where, name);
    *ret = view_mount((const char *const *)ids->v, ids->n, path, e);
    return *ret < 0 ? *ret : 0;
}

static int spec_read(struct spec *s, struct copy_job *j, struct err *e) {
    _cleanup_buf_ struct buf text = BUF_MAX(64u << 20);
    int r = fs_read_fd(COPY_FD_SPEC, &text);
    if (r == 0)
        r = json_parse(&s->a, arena_sv(&s->a, buf_sv(&text)), &s->j, e);
    if (r < 0)
        return err_wrap(e, r, "specification");
    const struct json *o = s->j;
    struct rlimit nofile;
    if (getrlimit(RLIMIT_NOFILE, &nofile) == 0) {
        nofile.rlim_cur = nofile.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &nofile);
    }
    strings(json_get(o, "layers"), &s->layers);
    strings(json_get(o, "src_layers"), &s->src_layers);
    strings(json_get(o, "sources"), &j->sources);
    _cleanup_strv_ struct strv ex = {0};
    strings(json_get(o, "exclude"), &ex);
    r = exclude_parse(&j->exclude, (const char *const *)ex.v, e);
    if (r < 0)
        return r;
    s->where = json_get_str(o, "where", "/mnt");
    j->inlines = json_get(o, "inlines");
    j->dest = json_get_str(o, "dest", NULL);
    j->mkdir = json_get_str(o, "mkdir", NULL);
    j->chmod = json_get_str(o, "chmod", NULL);
    j->keep_owner = json_get_bool(o, "keep_owner", false);
    j->unpack = json_get_bool(o, "unpack", false);
    j->parents = json_get_bool(o, "parents", false);
    j->mtime = json_get_int(o, "mtime", 0);
    j->stage = COPY_FD_STAGE;
    j->dst = (struct view){COPY_FD_UPPER, -1};
    j->src = (struct view){-1, -1};
    uint32_t mode;
    if (j->chmod && chmod_parse(j->chmod, 0, false, &mode) < 0)
        return err_set(e, ERR_USER, -EINVAL, "--chmod=%s is neither octal nor symbolic", j->chmod);
    if (s->layers.n > 1 || s->src_layers.n > 1)
        r = places(s, e);
    if (r == 0)
        r = layers_open(s, &s->layers, COPY_FD_BELOW, "below", &j->dst.lo, e);
    if (r == 0)
        r = layers_open(s, &s->src_layers, COPY_FD_SRC, "src", &j->src.lo, e);
    const char *chown_text = json_get_str(o, "chown", NULL);
    if (r == 0 && chown_text) {
        j->has_owner = true;
        r = view_owner_parse(&j->dst, chown_text, &j->uid, &j->gid, e);
    }
    return r;
}

/* --- copying -------------------------------------------------------------------------------- */

static bool ends_in_folder(const char *dest) {
    return endswith(dest, "/") || endswith(dest, "/.") || streq(dest, ".") || !*dest;
}

/* Where a file goes: into dest when that is (or must be) a folder. */
static int file_target(struct copy_job *j, const char *base, char **ret, struct err *e) {
    _cleanup_free_ char *canon = NULL;
    struct stat st;
    int r = view_resolve(&j->dst, j->dest, true, &canon);
    if (r < 0)
        return err_errno(e, r, "%s", j->dest);
    bool dir = ends_in_folder(j->dest) || !*canon ||
               (view_stat(&j->dst, canon, &st, NULL) == 0 && S_ISDIR(st.st_mode));
    *ret = dir ? xasprintf("%s%s%s", canon, *canon ? "/" : "", base) : TAKE(canon);
    return 0;
}

static int put_match(struct copy_job *j, const struct copy_match *m, struct err *e) {
    _cleanup_free_ char *canon = NULL;
    if (j->parents) {
        /* What stands behind "/./" (or all of it) is kept below the destination. */
        const char *keep = m->shown;
        _cleanup_free_ char *to = xasprintf("%s/%s", j->dest, keep);
        int r = view_resolve(&j->dst, to, true, &canon);
        if (r < 0)
            return err_errno(e, r, "%s", to);
        return m->is_dir ? copy_put_contents(j, &j->src, m->path, canon, e)
                         : copy_put(j, &j->src, m->path, canon, e);
    }
    if (m->is_dir) {
        int r = view_resolve(&j->dst, j->dest, true, &canon);
        if (r < 0)
            return err_errno(e, r, "%s", j->dest);
        return copy_put_contents(j, &j->src, m->path, canon, e);
    }
    if (j->exclude.n && ignore_match(&j->exclude, m->shown))
        return 0;
    if (j->unpack) {
        int r = view_resolve(&j->dst, j->dest, true, &canon);
        if (r < 0)
            return err_errno(e, r, "%s", j->dest);
        r = copy_unpack(j, m->path, canon, e);
        if (r != 0)
            return r;
    }
    _cleanup_free_ char *to = NULL;
    int r = file_target(j, path_base(m->shown), &to, e);
    return r < 0 ? r : copy_put(j, &j->src, m->path, to, e);
}

static int put_inlines(struct copy_job *j, struct err *e) {
    for (size_t i = 0; j->inlines && i < j->inlines->n; i++) {
        const struct json *it = j->inlines->items[i];
        _cleanup_buf_ struct buf data = BUF_MAX(4u << 20);
        _cleanup_free_ char *to = NULL;
        const char *name = json_get_str(it, "name", "x");
        if (base64_decode(json_sv(json_get(it, "data")), &data) < 0 || strchr(name, '/'))
            return err_set(e, ERR_USER, -EINVAL, "heredoc %s", name);
        int r = file_target(j, name, &to, e);
        if (r < 0)
            return r;
        _cleanup_free_ char *dir = path_dir(to);
        struct view_owner o = {j->uid, j->gid};
        const char *parent = streq(dir, ".") || streq(dir, "/") ? "" : dir;
        r = view_mkdirs(&j->dst, parent, &o, &j->times, e);
        if (r < 0)
            return r;
        struct stat st;
        if (view_stat(&j->dst, to, &st, NULL) == 0 && S_ISDIR(st.st_mode))
            return err_set(e, ERR_FAILED, -EISDIR, "cannot replace the folder /%s with a file", to);
        _cleanup_close_ int up = fs_open_in(j->dst.up, *parent ? parent : ".", O_PATH | O_DIRECTORY, 0, PLAIN);
        if (up >= 0)
            (void)unlinkat(up, path_base(to), 0);
        _cleanup_close_ int fd = up < 0 ? -1 : openat(up, path_base(to), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        uint32_t mode = 0644;
        if (j->chmod)
            (void)chmod_parse(j->chmod, mode, false, &mode);
        struct timespec ts[2] = {{j->mtime, 0}, {j->mtime, 0}};
        if (fd < 0 || fd_write_all(fd, data.p ? data.p : "", data.n) < 0 || fchown(fd, j->uid, j->gid) < 0 ||
            fchmod(fd, mode) < 0 || futimens(fd, ts) < 0)
            return err_errno(e, -errno, "/%s", to);
        j->files++;
        j->newest = ts[0];
    }
    return 0;
}

static bool folder_empty(int fd) {
    int dup = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dup < 0 ? NULL : fdopendir(dup);
    bool empty = true;
    for (struct dirent *de; d && (de = readdir(d));)
        if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
            empty = false;
    if (d)
        closedir(d);
    return d && empty;
}

static int work(struct copy_job *j, struct err *e) {
    int r = 0;
    if (j->mkdir) {
        _cleanup_free_ char *canon = NULL;
        struct view_owner o = {j->uid, j->gid};
        struct stat st;
        r = view_resolve(&j->dst, j->mkdir, true, &canon);
        if (r < 0)
            return err_errno(e, r, "%s", j->mkdir);
        j->newest.tv_sec = j->mtime;
        /* A folder that is there already needs no layer. */
        if (view_stat(&j->dst, canon, &st, NULL) == 0 && S_ISDIR(st.st_mode))
            return 0;
        r = view_mkdirs(&j->dst, canon, &o, &j->times, e);
        uint32_t mode;
        if (r >= 0 && j->chmod && chmod_parse(j->chmod, 0755, true, &mode) == 0) {
            _cleanup_close_ int made = fs_open_in(j->dst.up, canon, O_RDONLY | O_DIRECTORY, 0, PLAIN);
            r = made < 0 || fchmod(made, mode) < 0 ? err_errno(e, -errno, "%s", j->mkdir) : 0;
        }
        return r;
    }
    for (size_t i = 0; i < j->sources.n && r >= 0; i++) {
        struct copy_matches m = {0};
        r = copy_match(j, j->sources.v[i], &m, e);
        if (r >= 0 && m.n > 1 && !ends_in_folder(j->dest) && !j->parents) {
            _cleanup_free_ char *canon = NULL;
            struct stat st;
            if (view_resolve(&j->dst, j->dest, true, &canon) < 0 || view_stat(&j->dst, canon, &st, NULL) < 0 ||
                !S_ISDIR(st.st_mode))
                r = err_set(e, ERR_USER, -ENOTDIR, "%s matches %zu files: the destination must end with a /",
                            j->sources.v[i], m.n);
        }
        for (size_t k = 0; k < m.n && r >= 0; k++)
            r = put_match(j, &m.items[k], e);
        copy_matches_done(&m);
    }
    return r < 0 ? r : put_inlines(j, e);
}

static void job_done(struct spec *s, struct copy_job *j) {
    for (size_t i = 0; i < j->n_links; i++)
        free(j->links[i].path);
    free(j->links);
    strv_done(&j->sources);
    strv_done(&s->layers);
    strv_done(&s->src_layers);
    ignore_done(&j->exclude);
    buf_done(&j->list);
    arena_done(&s->a);
}

int ns_build_copy(int argc, char **argv) {
    struct spec s = {{0}};
    struct copy_job j = {{0}};
    struct err e = {0};
    for (int fd = COPY_FD_SPEC; fd < COPY_FD_END; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    int r = spec_read(&s, &j, &e);
    if (r == 0) {
        r = work(&j, &e);
        view_times_apply(&j.dst, &j.times, j.newest);
    }
    if (r >= 0)
        printf("{\"files\":%llu,\"bytes\":%llu,\"empty\":%s}\n", (unsigned long long)j.files,
               (unsigned long long)j.bytes, folder_empty(j.dst.up) ? "true" : "false");
    job_done(&s, &j);
    return r < 0 ? ns_fail(&e) : 0;
}

/* Only tells what would be copied, for the cache key. */
int ns_build_list(int argc, char **argv) {
    struct spec s = {{0}};
    struct copy_job j = {.list = BUF_MAX(COPY_LIST_MAX)};
    struct err e = {0};
    for (int fd = COPY_FD_SPEC; fd < COPY_FD_END; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    int r = spec_read(&s, &j, &e);
    if (r == 0)
        r = copy_list_all(&j, json_get_bool(s.j, "digests", false), &e);
    if (r >= 0)
        r = fd_write_all(1, j.list.p ? j.list.p : "", j.list.n);
    job_done(&s, &j);
    return r < 0 ? ns_fail(&e) : 0;
}
