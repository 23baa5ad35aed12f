#include "run/files_internal.h"

#include "base/digest.h"
#include "base/userns.h"
#include "base/zip.h"
#include "core/fs.h"
#include "core/json.h"
#include "run/jobx.h"

#include <sys/mman.h>

bool files_below(const char *path, const char *top) {
    const char *rest = startswith(path, top);
    return streq(top, "/") || (rest && (*rest == '/' || !*rest));
}

/* --- lists and digests -------------------------------------------------------------------------------- */

struct listing {
    struct files_job *j;
    struct buf b;
};
static int list_one(void *arg, const char *path, const struct stat *st) {
    struct listing *l = arg;
    l->j->ret->files++;
    if (S_ISREG(st->st_mode))
        l->j->ret->bytes += (uint64_t)st->st_size;
    buf_addf(&l->b, "%s\n", path);
    return 0;
}

static int list(struct files_job *j) {
    struct listing l = {j, BUF_MAX(1u << 20)};
    int r = globs_walk(j->g, j->root, list_one, &l, j->e);
    if (r >= 0)
        j->ret->list = arena_sv(j->a, buf_sv(&l.b));
    buf_done(&l.b);
    return r;
}

struct digesting {
    struct files_job *j;
    struct sha256 *all;
};
static int digest_one(void *arg, const char *path, const struct stat *st) {
    struct digesting *d = arg;
    char text[DIGEST_LEN + 1];
    uint8_t raw[32];
    uint64_t size;
    struct stat real;
    if (!files_below(path, d->j->rq->cwd) || S_ISDIR(st->st_mode))
        return 0;
    _cleanup_close_ int fd = fs_open_in(d->j->root, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, 0);
    int r = fd < 0 ? fd : fstat(fd, &real) < 0 ? -errno : 0;
    if (r >= 0 && !S_ISREG(real.st_mode)) /* where a link leads to */
        return 0;
    if (r >= 0)
        r = digest_of_fd(fd, text, &size);
    if (r < 0)
        return err_errno(d->j->e, r, "%s", path);
    for (size_t i = 0; i < 32; i++) {
        char hex[3] = {digest_hex(text)[2 * i], digest_hex(text)[2 * i + 1], 0};
        raw[i] = (uint8_t)strtoul(hex, NULL, 16);
    }
    sha256_update(d->all, raw, sizeof raw);
    d->j->ret->files++;
    d->j->ret->bytes += size;
    return 0;
}

static int digest(struct files_job *j) {
    struct digesting d = {j, sha256_new()};
    uint8_t raw[32];
    _cleanup_buf_ struct buf hex = BUF_SMALL;
    int r = globs_walk(j->g, j->root, digest_one, &d, j->e);
    sha256_final(d.all, raw);
    sha256_free(d.all);
    if (j->ret->files)
        buf_add_hex(&hex, raw, sizeof raw);
    j->ret->digest = arena_strdup(j->a, buf_str(&hex));
    return r;
}

/* --- zip ---------------------------------------------------------------------------------------------- */

struct zipping {
    struct files_job *j;
    struct zip_writer *w;
    struct strv paths;
};

static int zip_collect(void *arg, const char *path, const struct stat *st) {
    struct zipping *z = arg;
    if (S_ISREG(st->st_mode))
        strv_add(&z->paths, path);
    return 0;
}

/* The folder that names in the archive are relative to: that of a single named file, else what the
 * searches have in common. Source: actions/upload-artifact, src/shared/search.ts. */
static const char *zip_root(const struct zipping *z) {
    struct files_job *j = z->j;
    const char *const *roots;
    size_t n = globs_roots(j->g, &roots);
    if (n == 1) {
        _cleanup_free_ char *dir = path_dir(roots[0]);
        bool itself = z->paths.n == 1 && streq(z->paths.v[0], roots[0]);
        return arena_strdup(j->a, itself ? dir : roots[0]);
    }
    char *top = arena_strdup(j->a, n ? roots[0] : "/");
    for (size_t i = 1; i < n; i++)
        while (!files_below(roots[i], top)) {
            char *slash = strrchr(top, '/');
            if (slash == top || !slash)
                return "/";
            *slash = 0;
        }
    return top;
}

static int zip_name_check(const char *name, struct err *e) {
    static const struct { const char *c, *text; } bad[] = {{"\"", "Double quote \""}, {":", "Colon :"}, {"<", "Less than <"}, {">", "Greater than >"},
                                                          {"|", "Vertical bar |"}, {"*", "Asterisk *"}, {"?", "Question mark ?"},
                                                          {"\r", "Carriage return \\r"}, {"\n", "Line feed \\n"}};
    for (size_t i = 0; i < ELEMENTS(bad); i++)
        if (strchr(name, bad[i].c[0])) {
            err_set(e, ERR_USER, -EINVAL, "The path for one of the files in artifact is not valid: /%s. Contains the following character:  %s", name, bad[i].text);
            return err_hint(e, -EINVAL, "some file systems cannot hold such a name; rename the file or pack it into an archive first");
        }
    return 0;
}

static int zip_one(struct zipping *z, const char *path, const char *top) {
    struct files_job *j = z->j;
    const char *name = path + (streq(top, "/") ? 1 : strlen(top) + 1);
    struct stat st;
    int r = zip_name_check(name, j->e);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = fs_open_in(j->root, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, 0);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(j->e, fd < 0 ? fd : -errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return 0;
    if ((j->ret->bytes += (uint64_t)st.st_size) > (j->rq->max ? j->rq->max : FILES_MAX))
        return err_set(j->e, ERR_LIMIT, -EFBIG, "the files are more than an artifact may hold");
    j->ret->files++;
    return zip_add(z->w, name, fd, st.st_mtim.tv_sec, j->e);
}

static int zip(struct files_job *j) {
    struct zipping z = {.j = j};
    char text[DIGEST_LEN + 1];
    int r = globs_walk(j->g, j->root, zip_collect, &z, j->e);
    if (r >= 0 && z.paths.n) {
        const char *top = j->ret->root = zip_root(&z);
        r = zip_writer_new(&z.w, j->fd, j->rq->level);
        if (r < 0)
            err_errno(j->e, r, "the zip archive");
        for (size_t i = 0; i < z.paths.n && r >= 0; i++)
            r = zip_one(&z, z.paths.v[i], top);
        if (r >= 0)
            r = zip_end(z.w, &j->ret->size, text, j->e);
        if (r >= 0)
            j->ret->digest = arena_strdup(j->a, text);
        zip_writer_free(z.w);
    }
    strv_done(&z.paths);
    return r;
}

/* --- unpacking ------------------------------------------------------------------------------------------ */

static int own(const struct files_job *j, int dir, const char *name) {
    return j->uid == UINT32_MAX || fchownat(dir, name, j->uid, j->gid, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
}

/* Opens a folder, making what is missing of it. */
static int make_dirs(struct files_job *j, const char *path, uint32_t mode) {
    int fd = fs_open_in(j->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0);
    if (fd != -ENOENT || streq(path, "/"))
        return fd;
    _cleanup_free_ char *up = path_dir(path);
    const char *name = path_base(path);
    _cleanup_close_ int parent = make_dirs(j, up, 0755);
    if (parent < 0)
        return parent;
    if (mkdirat(parent, name, mode) < 0 && errno != EEXIST)
        return -errno;
    int r = own(j, parent, name);
    return r < 0 ? r : fs_open_in(j->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0);
}

int files_mkdir(struct files_out *o, const char *path, uint32_t mode) {
    int fd = make_dirs(o->j, path, mode);
    fd_close(fd);
    return fd < 0 ? fd : 0;
}

int files_parent(struct files_out *o, const char *path, const char **ret_name) {
    const char *name = path_base(path);
    size_t n = (size_t)(name - path);
    if (!*name || n == 0)
        return -EINVAL;
    *ret_name = name;
    if (o->path && strlen(o->path) == n && memcmp(o->path, path, n) == 0)
        return o->dir;
    _cleanup_free_ char *dir = n > 1 ? xstrndup(path, n - 1) : xstrdup("/");
    int fd = make_dirs(o->j, dir, 0755);
    if (fd < 0)
        return fd;
    fd_close(o->dir);
    free(o->path);
    o->dir = fd;
    o->path = xstrndup(path, n);
    return fd;
}

int files_create(struct files_out *o, const char *path, uint32_t mode) {
    const char *name;
    int dir = files_parent(o, path, &name);
    if (dir < 0)
        return dir;
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST && unlinkat(dir, name, 0) == 0)
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    if (o->j->uid != UINT32_MAX && fchown(fd, o->j->uid, o->j->gid) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

void files_out_done(struct files_out *o) {
    fd_close(o->dir);
    free(o->path);
}

static int write_piece(void *arg, const void *p, size_t n) { return fd_write_all(*(int *)arg, p, n); }

static int unzip_one(struct files_out *o, const struct zip *z, const struct zip_entry *en) {
    struct files_job *j = o->j;
    if (!zip_name_ok(en->name) || (en->mode && !S_ISREG(en->mode) && !S_ISDIR(en->mode) && (en->mode & S_IFMT)))
        return err_set(j->e, ERR_USER, -EINVAL, "the archive holds \"%s\", which is no plain file below where it is unpacked", en->name);
    _cleanup_free_ char *path = path_join(j->rq->dest, en->name);
    int r;
    if (en->dir) {
        r = files_mkdir(o, path, 0755);
        return r < 0 ? err_errno(j->e, r, "%s", path) : 0;
    }
    _cleanup_close_ int fd = files_create(o, path, 0644);
    if (fd < 0)
        return err_errno(j->e, fd, "%s", path);
    r = zip_read(z, en, write_piece, &fd, j->e);
    j->ret->files++;
    j->ret->bytes += en->size;
    return r;
}

static int unzip(struct files_job *j) {
    struct files_out o = {.j = j, .dir = -1};
    struct zip_limits l = {.bytes = j->rq->max};
    struct zip z;
    int r = zip_open(&z, j->fd, &l, j->a, j->e);
    if (r >= 0 && (r = files_mkdir(&o, j->rq->dest, 0755)) < 0)
        err_errno(j->e, r, "%s", j->rq->dest);
    for (size_t i = 0; r >= 0 && i < z.n; i++)
        r = unzip_one(&o, &z, &z.entries[i]);
    files_out_done(&o);
    return r;
}

/* --- the request ---------------------------------------------------------------------------------------- */

/* "name", "uid", "uid:gid" as the root's passwd has it. */
static int find_owner(struct files_job *j, const char *owner) {
    uint64_t u, g;
    struct sv rest = sv_from(owner), id, line;
    j->uid = j->gid = UINT32_MAX;
    if (!owner || !sv_split(&rest, ':', &id))
        return 0;
    if (sv_u64(id, UINT32_MAX - 1, &u) >= 0) {
        j->uid = (uint32_t)u;
        j->gid = rest.p && sv_u64(rest, UINT32_MAX - 1, &g) >= 0 ? (uint32_t)g : (uint32_t)u;
        return 0;
    }
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    _cleanup_close_ int fd = fs_open_in(j->root, "/etc/passwd", O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, 0);
    if (fd >= 0)
        (void)fs_read_fd(fd, &b);
    struct sv text = buf_sv(&b);
    while (sv_line(&text, &line)) {
        struct sv f[4], left = line;
        size_t n = 0;
        while (n < 4 && sv_split(&left, ':', &f[n]))
            n++;
        if (n == 4 && sv_eq(f[0], id) && sv_u64(f[2], UINT32_MAX - 1, &u) >= 0 && sv_u64(f[3], UINT32_MAX - 1, &g) >= 0) {
            j->uid = (uint32_t)u;
            j->gid = (uint32_t)g;
            return 0;
        }
    }
    return err_set(j->e, ERR_NOTFOUND, -ENOENT, "the image has no user %s", owner);
}

int files_work(const struct files_req *rq, int root, int fd, struct arena *a, struct files_ret *ret, struct err *e) {
    static int (*const fn[])(struct files_job *) = {[FILES_LIST] = list, [FILES_DIGEST] = digest, [FILES_ZIP] = zip,
                                                    [FILES_UNZIP] = unzip, [FILES_TAR] = files_tar, [FILES_UNTAR] = files_untar};
    struct files_job j = {.rq = rq, .root = root, .fd = fd, .a = a, .ret = ret, .e = e};
    *ret = (struct files_ret){.digest = "", .root = ""};
    int r = find_owner(&j, rq->owner);
    if (r >= 0 && rq->patterns)
        r = globs_new(&j.g, sv_from(rq->patterns), rq->cwd, rq->home, rq->flags, e);
    if (r >= 0 && !j.g && rq->what != FILES_UNZIP)
        r = err_set(e, ERR_INTERNAL, -EINVAL, "no patterns");
    if (r >= 0)
        r = fn[rq->what](&j);
    globs_free(j.g);
    return r;
}

/* --- by a helper ------------------------------------------------------------------------------------------ */

static void request_write(const struct files_req *rq, struct buf *b) {
    struct json_w w;
    jw_init(&w, b, 0);
    jw_obj(&w);
    jw_kint(&w, "what", rq->what);
    jw_kint(&w, "flags", rq->flags);
    jw_kint(&w, "level", rq->level);
    jw_kint(&w, "max", (int64_t)rq->max);
    jw_kstr(&w, "patterns", rq->patterns);
    jw_kstr(&w, "cwd", rq->cwd);
    jw_kstr(&w, "home", rq->home);
    jw_kstr(&w, "dest", rq->dest);
    jw_kstr(&w, "owner", rq->owner);
    jw_end_obj(&w);
}

int ns_files(int argc, char **argv) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf b = BUF_MAX(8u << 20), out = BUF_MAX(16u << 20);
    struct err e = {0};
    struct json *j;
    struct json_w w;
    struct files_ret ret;
    if (fs_read_fd(3, &b) < 0 || json_parse(&a, buf_sv(&b), &j, &e) < 0)
        return ns_fail(&e);
    struct files_req rq = {.what = (enum files_what)json_get_int(j, "what", 0), .flags = (unsigned)json_get_int(j, "flags", 0),
                           .level = (int)json_get_int(j, "level", 0), .max = (uint64_t)json_get_int(j, "max", 0),
                           .patterns = json_get_str(j, "patterns", NULL), .cwd = json_get_str(j, "cwd", "/"), .home = json_get_str(j, "home", "/"),
                           .dest = json_get_str(j, "dest", "/"), .owner = json_get_str(j, "owner", NULL)};
    if (files_work(&rq, 4, 5, &a, &ret, &e) < 0)
        return ns_fail(&e);
    jw_init(&w, &out, 0);
    jw_obj(&w);
    jw_kint(&w, "files", (int64_t)ret.files);
    jw_kint(&w, "bytes", (int64_t)ret.bytes);
    jw_kint(&w, "size", (int64_t)ret.size);
    jw_kstr(&w, "digest", ret.digest);
    jw_kstr(&w, "root", ret.root);
    jw_key(&w, "list");
    jw_sv(&w, ret.list);
    jw_end_obj(&w);
    return fd_write_all(1, out.p, out.n) < 0;
}

static int stop_when_cancelled(void *arg) {
    struct jobx *x = arg;
    return atomic_load(&x->leg->cancel) > x->cancel_seen ? -ECANCELED : 0;
}

int files_do(struct jobx *x, const struct files_req *rq, int fd, struct arena *a, struct files_ret *ret, struct err *e) {
    struct keeper *k;
    struct json *j;
    int r;
    if (x->host) {
        struct files_req own = *rq;
        own.owner = NULL;
        _cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return root < 0 ? err_errno(e, -errno, "/") : files_work(&own, root, fd, a, ret, e);
    }
    _cleanup_buf_ struct buf b = BUF_MAX(8u << 20), out = BUF_MAX(16u << 20);
    request_write(rq, &b);
    if (!buf_ok(&b))
        return err_set(e, ERR_LIMIT, -E2BIG, "too many patterns");
    _cleanup_close_ int mem = memfd_create("files", MFD_CLOEXEC);
    if (mem < 0 || (r = fd_write_all(mem, b.p, b.n)) < 0 || lseek(mem, 0, SEEK_SET) < 0)
        return err_errno(e, -errno, "memfd");
    _cleanup_close_ int root = box_open(x->box, "/", O_RDONLY | O_DIRECTORY, 0, e);
    if (root < 0)
        return root;
    if ((r = store_keeper(x->rq->store, &k, e)) < 0)
        return r;
    int fds[3] = {mem, root, fd >= 0 ? fd : mem};
    if ((r = ns_run_tick(k, (const char *const[]){"files", NULL}, fds, 3, &out, stop_when_cancelled, x, e)) < 0)
        return r;
    if (json_parse(a, arena_sv(a, buf_sv(&out)), &j, e) < 0)
        return err_set(e, ERR_INTERNAL, -EBADMSG, "the helper spoke nonsense");
    *ret = (struct files_ret){.files = (uint64_t)json_get_int(j, "files", 0), .bytes = (uint64_t)json_get_int(j, "bytes", 0),
                              .size = (uint64_t)json_get_int(j, "size", 0), .digest = json_get_str(j, "digest", ""),
                              .root = json_get_str(j, "root", ""), .list = json_sv(json_get(j, "list"))};
    return 0;
}

int step_hash_files(void *arg, const char *const *patterns, size_t n, bool follow, struct buf *out, struct err *e) {
    struct jobx *x = arg;
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf lines = BUF_MAX(1u << 20);
    struct files_ret ret;
    if (!x->box && !x->host)
        return err_set(e, ERR_CONFIG, -EINVAL, "files are only there while a job's steps run");
    for (size_t i = 0; i < n; i++)
        buf_addf(&lines, "%s\n", patterns[i]);
    struct files_req rq = {.what = FILES_DIGEST, .flags = follow ? 0 : GLOB_NO_FOLLOW, .patterns = buf_str(&lines), .cwd = x->workspace, .home = x->home};
    int r = files_do(x, &rq, -1, &a, &ret, e);
    if (r >= 0)
        buf_adds(out, ret.digest);
    return r;
}
