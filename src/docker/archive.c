/* GET, HEAD and PUT of containers/ID/archive (docker cp). The streams go through an unlinked file
 * of the scratch folder: the helper in the box never waits for a client. */
#include "base/tar.h"
#include "docker/impl.h"

struct arc {
    struct engine *g;
    struct httpd_req *rq;
    struct ctr *c;
    struct box *box;
    char *path;
    int fd, r;
    bool dot; /* the path ended in "/.": "." is the top of the archive */
    uint64_t size;
    struct err e;
};

static void arc_abort(struct httpd_req *rq, void *arg) { ((struct arc *)arg)->rq = NULL; }

static void arc_free(struct arc *x) {
    fd_close(x->fd);
    ctr_box_done(x->c, x->box);
    ctr_unref(x->c);
    free(x->path);
    free(x);
}

int engine_scratch(struct engine *g, struct err *e) {
    char name[32] = "arc-";
    int dir = lease_scratch(g->o.lease, e);
    if (dir < 0)
        return dir;
    random_id(name + 4, 20);
    int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, -errno, "a scratch file");
    unlinkat(dir, name, 0);
    return fd;
}

/* Go's os.FileMode. */
static uint32_t go_mode(mode_t m) {
    uint32_t r = m & 0777;
    if (S_ISDIR(m))
        r |= 1u << 31;
    if (S_ISLNK(m))
        r |= 1u << 27;
    if (S_ISBLK(m))
        r |= 1u << 26;
    if (S_ISCHR(m))
        r |= 1u << 26 | 1u << 21;
    if (S_ISFIFO(m))
        r |= 1u << 25;
    if (S_ISSOCK(m))
        r |= 1u << 24;
    if (m & S_ISUID)
        r |= 1u << 23;
    if (m & S_ISGID)
        r |= 1u << 22;
    if (m & S_ISVTX)
        r |= 1u << 20;
    return r;
}

/* The header of a path; -ENOENT when it is not there. */
static int stat_header(struct ctr *c, const char *path, struct buf *b64, struct err *e) {
    struct stat st;
    char link[4097] = "", when[32];
    _cleanup_free_ char *clean = path_clean(path), *abs = path_join("/", clean);
    bool follow = endswith(path, "/") || endswith(path, "/.");
    _cleanup_close_ int fd = box_open(c->box, abs, O_PATH | (follow ? 0 : O_NOFOLLOW), 0, e);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "stat %s", path);
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(fd, "", link, sizeof(link) - 1);
        link[MAX(n, 0)] = 0;
    }
    struct buf b = BUF_MAX(64u << 10);
    struct json_w w;
    format_time((uint64_t)st.st_mtim.tv_sec * 1000000000ull + (uint64_t)st.st_mtim.tv_nsec, when);
    const char *name = path_base(abs);
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "name", *name ? name : "/");
    jw_kint(&w, "size", st.st_size);
    jw_kint(&w, "mode", go_mode(st.st_mode));
    jw_kstr(&w, "mtime", when);
    jw_kstr(&w, "linkTarget", link);
    jw_end_obj(&w);
    buf_add_base64(b64, b.p, b.n);
    buf_done(&b);
    return 0;
}

static ssize_t fd_source(void *arg, void *p, size_t n) {
    ssize_t k;
    do
        k = read(*(int *)arg, p, n);
    while (k < 0 && errno == EINTR);
    return k < 0 ? -errno : k;
}

static int fd_sink(void *arg, const void *p, size_t n) { return fd_write_all(*(int *)arg, p, n); }

static char *dotted(const char *path) {
    const char *slash = strchr(path, '/');
    return xasprintf("./%s", slash ? slash + 1 : "");
}

/* The same archive with "." instead of its top folder. */
static int rename_top(struct arc *x) {
    _cleanup_close_ int from = x->fd;
    char block[16 << 10];
    x->fd = engine_scratch(x->g, &x->e);
    if (x->fd < 0)
        return x->fd;
    if (lseek(from, 0, SEEK_SET) < 0)
        return err_errno(&x->e, -errno, "a scratch file");
    struct tar_reader *t = tar_reader_new(fd_source, &from);
    struct tar_writer *w = tar_writer_new(fd_sink, &x->fd);
    const struct tar_entry *en;
    int r;
    while ((r = tar_next(t, &en, &x->e)) > 0) {
        struct tar_entry copy = *en;
        _cleanup_free_ char *name = dotted(en->path), *link = en->type == TAR_HARDLINK ? dotted(en->link) : NULL;
        ssize_t n = 0;
        copy.path = name;
        if (link)
            copy.link = link;
        r = tar_put(w, &copy);
        while (r >= 0 && (n = tar_data(t, block, sizeof(block))) > 0)
            r = tar_put_data(w, block, (size_t)n);
        if (r < 0 || n < 0) {
            r = err_errno(&x->e, r < 0 ? r : (int)n, "copy out of the container");
            break;
        }
    }
    if (r >= 0)
        r = tar_end(w);
    tar_reader_free(t);
    tar_writer_free(w);
    return r;
}

static void get_work(void *arg) {
    struct arc *x = arg;
    struct stat st;
    x->fd = x->r = engine_scratch(x->g, &x->e);
    if (x->r >= 0)
        x->r = box_get_tar(x->box, x->path, x->fd, &x->e);
    if (x->r >= 0 && x->dot)
        x->r = rename_top(x);
    if (x->r >= 0 && fstat(x->fd, &st) == 0)
        x->size = (uint64_t)st.st_size;
}

static void get_done(struct loop *l, void *arg) {
    struct arc *x = arg;
    if (x->rq && x->r < 0)
        reply_errp(x->rq, &x->e);
    else if (x->rq)
        httpd_reply_fd(x->rq, 200, "application/x-tar", TAKE_FD(x->fd), 0, x->size);
    arc_free(x);
}

static void put_work(void *arg) {
    struct arc *x = arg;
    if (lseek(x->fd, 0, SEEK_SET) < 0)
        x->r = err_errno(&x->e, -errno, "a scratch file");
    else
        x->r = box_put_tar(x->box, x->path, x->fd, &x->e);
}

static void put_done(struct loop *l, void *arg) {
    struct arc *x = arg;
    if (x->rq && x->r < 0)
        reply_errp(x->rq, &x->e);
    else if (x->rq)
        httpd_reply(x->rq, 200, NULL, SV(""));
    arc_free(x);
}

static void put_spooled(struct httpd_req *rq, int r, uint64_t size, void *arg) {
    struct arc *x = arg;
    if (r < 0) {
        if (x->rq && r != -ECONNRESET && r != -EFBIG)
            reply_err(x->rq, 500, "reading the archive: %s", strerror(-r));
        arc_free(x);
        return;
    }
    x->box = ctr_box_use(x->c);
    if (!x->box) { /* removed while the archive came in */
        x->rq = NULL;
        reply_err(rq, 404, "No such container: %s", x->c->id);
        arc_free(x);
        return;
    }
    engine_job(x->g, put_work, put_done, x);
}

void ctr_archive(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    const char *path = httpd_query(rq, "path"), *m = httpd_method(rq);
    struct err e = {0};
    _cleanup_buf_ struct buf h = BUF_MAX(128u << 10);
    if (!path || !*path) {
        reply_err(rq, 400, "missing path");
        return;
    }
    if (!c->box) {
        reply_err(rq, 409, "container %s is being removed", c->name);
        return;
    }
    bool get = streq(m, "GET"), put = streq(m, "PUT");
    if (!get && !put && !streq(m, "HEAD")) {
        reply_not_yet(rq, "this method of containers/archive");
        return;
    }
    int r = stat_header(c, path, &h, &e);
    if (r < 0) {
        if (r == -ENOENT || r == -ENOTDIR)
            reply_err(rq, 404, "Could not find the file %s in container %s", path, c->name);
        else
            reply_errp(rq, &e);
        return;
    }
    if (streq(m, "HEAD")) {
        httpd_add_header(rq, "X-Docker-Container-Path-Stat", buf_str(&h));
        httpd_reply(rq, 200, "application/json", SV(""));
        return;
    }
    struct arc *x = xcalloc(1, sizeof(*x));
    x->g = g;
    x->rq = rq;
    x->c = c;
    ctr_ref(c);
    x->fd = -1;
    _cleanup_free_ char *clean = path_clean(path);
    x->path = path_join("/", clean);
    x->dot = endswith(path, "/.") && !streq(x->path, "/");
    httpd_on_abort(rq, arc_abort, x);
    if (get) {
        x->box = ctr_box_use(c);
        httpd_add_header(rq, "X-Docker-Container-Path-Stat", buf_str(&h));
        engine_job(g, get_work, get_done, x);
        return;
    }
    x->fd = engine_scratch(g, &e);
    if (x->fd < 0) {
        x->rq = NULL;
        reply_errp(rq, &e);
        arc_free(x);
        return;
    }
    httpd_spool(rq, x->fd, UINT64_MAX, put_spooled, x);
}
