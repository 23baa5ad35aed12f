/* cp: CONTAINER:PATH is read as an archive and unpacked here, or the other way round. The cases
 * of existing and absent destinations, and of a source ending in "/.", are docker's. */
#include "docker/client/tarball.h"

struct path_stat {
    bool exists, dir;
};

static int remote_stat(const char *ctr, const char *path, struct path_stat *ret, struct err *e) {
    _cleanup_buf_ struct buf p = BUF_MAX(64u << 10), text = BUF_MAX(64u << 10);
    _cleanup_arena_ struct arena a = {0};
    _cleanup_api_ struct api c;
    struct json *j = NULL;
    buf_adds(&p, "/containers/");
    path_add(&p, ctr);
    buf_adds(&p, "/archive");
    query_add(&p, "path", path);
    struct api_req rq = {.method = "HEAD", .path = buf_str(&p)};
    int r = api_open(&c, &rq, e);
    if (r < 0)
        return r;
    *ret = (struct path_stat){0};
    if (c.status == 404)
        return 0;
    const char *st = api_header(&c, "x-docker-container-path-stat");
    if (c.status >= 400 || !st)
        return err_set(e, ERR_FAILED, -EREMOTEIO, "Error response from daemon: cannot stat %s (status %d)", path, c.status);
    ret->exists = true;
    if (base64_decode(sv_from(st), &text) >= 0 && json_parse(&a, buf_sv(&text), &j, NULL) >= 0)
        ret->dir = ((uint64_t)json_get_int(j, "mode", 0) & 0x80000000u) != 0; /* Go's os.ModeDir */
    return 0;
}

static void archive_path(struct buf *b, const char *ctr, const char *path) {
    buf_adds(b, "/containers/");
    path_add(b, ctr);
    buf_adds(b, "/archive");
    query_add(b, "path", path);
}

static bool ends_dot(const char *p) { return streq(p, ".") || endswith(p, "/."); }

static int copy_out(const char *ctr, const char *src, const char *dst, bool keep_owner, struct err *e) {
    struct path_stat from;
    int r = remote_stat(ctr, src, &from, e);
    if (r < 0)
        return r;
    if (!from.exists)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "Error response from daemon: Could not find the file %s in container %s", src, ctr);
    _cleanup_buf_ struct buf p = BUF_MAX(64u << 10);
    _cleanup_free_ char *clean = path_clean(src), *dir = NULL, *top = NULL;
    archive_path(&p, ctr, clean); /* "/." would make "." the top of the archive */
    _cleanup_api_ struct api c;
    struct api_req rq = {.method = "GET", .path = buf_str(&p)};
    if ((r = api_open(&c, &rq, e)) < 0 || (c.status >= 400 && (r = api_fail(&c, e)) < 0))
        return r;
    if (streq(dst, "-")) {
        char block[16 << 10];
        ssize_t n;
        while ((n = api_read(&c, block, sizeof(block), e)) > 0)
            if ((r = fd_write_all(STDOUT_FILENO, block, (size_t)n)) < 0)
                return err_errno(e, r, "stdout");
        return (int)n;
    }
    struct stat st;
    bool there = stat(dst, &st) == 0, is_dir = there && S_ISDIR(st.st_mode);
    if (is_dir) {
        dir = xstrdup(dst);
        top = xstrdup(from.dir && ends_dot(src) ? "" : streq(path_base(clean), "") ? "" : path_base(clean));
    } else if (there && from.dir)
        return err_set(e, ERR_USER, -ENOTDIR, "cannot copy directory");
    else if (!there && endswith(dst, "/") && !from.dir)
        return err_set(e, ERR_USER, -ENOENT, "no such directory");
    else {
        _cleanup_free_ char *d = path_clean(dst);
        dir = path_dir(d);
        top = xstrdup(path_base(d));
    }
    _cleanup_close_ int fd = open(*dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, ERR_USER, -errno, "invalid output path: directory \"%s\" does not exist", dir);
    return tarball_extract(&c, fd, top, keep_owner, e);
}

struct upload {
    int dirfd;
    const char *path, *as;
    struct err *e;
};

static int upload_body(void *arg, int (*put)(void *to, const void *p, size_t n), void *to) {
    struct upload *u = arg;
    struct tarball t = {put, to};
    int r = tarball_add(&t, AT_FDCWD, u->path, u->as, NULL, NULL, u->e);
    return r < 0 ? r : tarball_end(&t);
}

static int copy_in(const char *src, const char *ctr, const char *dst, struct err *e) {
    struct path_stat to;
    struct stat st;
    int r = remote_stat(ctr, dst, &to, e);
    if (r < 0)
        return r;
    _cleanup_buf_ struct buf p = BUF_MAX(64u << 10);
    _cleanup_api_ struct api c = {.fd = -1};
    if (streq(src, "-")) {
        if (!to.exists || !to.dir)
            return err_set(e, ERR_USER, -ENOTDIR, "destination \"%s:%s\" must be a directory", ctr, dst);
        archive_path(&p, ctr, dst);
        int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        struct api_req rq = {.method = "PUT", .path = buf_str(&p), .body_fd = in, .content_type = "application/x-tar"};
        r = api_open(&c, &rq, e);
        close(in);
        return r >= 0 && c.status >= 400 ? api_fail(&c, e) : r;
    }
    if (lstat(src, &st) < 0)
        return err_set(e, ERR_NOTFOUND, -errno, "lstat %s: no such file or directory", src);
    bool dir = S_ISDIR(st.st_mode);
    _cleanup_free_ char *abs = NULL, *clean = path_clean(dst), *parent = NULL, *as = NULL;
    if (!dir && endswith(src, "/"))
        return err_set(e, ERR_USER, -ENOTDIR, "%s: not a directory", src);
    _cleanup_free_ char *cwd = getcwd(NULL, 0);
    abs = path_join(cwd ? cwd : "/", src);
    if (to.exists && to.dir) {
        parent = xstrdup(clean);
        as = xstrdup(dir && ends_dot(src) ? "" : path_base(abs));
    } else if (to.exists && dir)
        return err_set(e, ERR_USER, -ENOTDIR, "cannot copy directory");
    else if (!to.exists && !dir && endswith(dst, "/"))
        return err_set(e, ERR_USER, -ENOENT, "no such directory");
    else {
        parent = path_dir(clean);
        as = xstrdup(path_base(clean));
    }
    archive_path(&p, ctr, *parent ? parent : "/");
    struct err ue = {0};
    struct upload u = {AT_FDCWD, abs, as, &ue};
    struct api_req rq = {.method = "PUT", .path = buf_str(&p), .body_fn = upload_body, .body_arg = &u,
                         .content_type = "application/x-tar"};
    query_add(&p, "noOverwriteDirNonDir", "true");
    rq.path = buf_str(&p);
    r = api_open(&c, &rq, e);
    if (ue.msg[0]) {
        *e = ue;
        return -EIO;
    }
    return r >= 0 && c.status >= 400 ? api_fail(&c, e) : r;
}

/* "CONTAINER:PATH"; NULL when it is a path of ours ("./a:b" and "/a:b" are). */
static char *cut_container(const char *s, const char **path) {
    const char *colon = strchr(s, ':');
    if (*s == '/' || *s == '.' || !colon)
        return NULL;
    *path = colon + 1;
    return xstrndup(s, (size_t)(colon - s));
}

int cmd_cp(int argc, char **argv) {
    bool archive = false, follow = false, quiet = false;
    const struct flag flags[] = {{"archive", 'a', FLAG_BOOL, &archive}, {"follow-link", 'L', FLAG_BOOL, &follow},
                                 {"quiet", 'q', FLAG_BOOL, &quiet}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-", flags, argc, argv, &rest, 2, 2);
    if (r >= 0)
        return r;
    struct err e = {0};
    const char *from = NULL, *to = NULL;
    _cleanup_free_ char *src = cut_container(rest.v[0], &from), *dst = cut_container(rest.v[1], &to);
    if (src && dst) {
        fprintf(stderr, "copying between containers is not supported\n");
        return 1;
    }
    if (!src && !dst) {
        fprintf(stderr, "must specify at least one container source\n");
        return 1;
    }
    if (src)
        r = copy_out(src, from, rest.v[1], archive, &e);
    else {
        _cleanup_free_ char *real = follow && !streq(rest.v[0], "-") ? realpath(rest.v[0], NULL) : NULL;
        r = copy_in(real ? real : rest.v[0], dst, to, &e);
    }
    return r < 0 ? fail_print(&e) : 0;
}
