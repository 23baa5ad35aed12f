/* An OCI layout as a folder instead of an archive: the archive goes through a pipe, and its files into
 * the folder, or out of it. */
#include "base/tar.h"
#include "core/fs.h"
#include "image/image.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>

struct side {
    struct store *s;
    struct lease *l;
    const char *const *refs;
    size_t n;
    int fd, dir, r;
    struct err e;
};

static ssize_t from_pipe(void *arg, void *p, size_t n) {
    ssize_t k;
    do
        k = read(*(int *)arg, p, n);
    while (k < 0 && errno == EINTR);
    return k < 0 ? -errno : k;
}

static int to_pipe(void *arg, const void *p, size_t n) { return fd_write_all(*(int *)arg, p, n); }

/* --- saving -------------------------------------------------------------------------------- */

static void *save_side(void *arg) {
    struct side *x = arg;
    x->r = image_save(x->s, x->l, x->refs, x->n, true, x->fd, &x->e);
    close(x->fd);
    return NULL;
}

static int put_file(int dir, struct tar_reader *t, const struct tar_entry *en, struct err *e) {
    static const size_t size = 256u << 10;
    _cleanup_free_ char *parent = path_dir(en->path), *chunk = xmalloc(size);
    int r = fs_mkdirs(dir, parent, 0755);
    _cleanup_close_ int fd = r < 0 ? r : openat(dir, en->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_errno(e, r < 0 ? r : -errno, "create %s", en->path);
    ssize_t k;
    while ((k = tar_data(t, chunk, size)) > 0)
        if ((r = fd_write_all(fd, chunk, (size_t)k)) < 0)
            return err_errno(e, r, "write %s", en->path);
    return k < 0 ? err_errno(e, (int)k, "write %s", en->path) : 0;
}

int image_save_layout(struct store *s, struct lease *l, const char *const *refs, size_t n, const char *path, struct err *e) {
    struct side x = {.s = s, .l = l, .refs = refs, .n = n};
    const struct tar_entry *en;
    pthread_t th;
    int p[2], r = fs_mkdirs(AT_FDCWD, path, 0755);
    _cleanup_close_ int dir = r < 0 ? r : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_errno(e, r < 0 ? r : -errno, "create %s", path);
    if (fs_exists(dir, "index.json") || fs_exists(dir, "blobs"))
        return err_set(e, ERR_CONFLICT, -EEXIST, "%s is a layout already", path);
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    x.fd = p[1];
    if ((r = -pthread_create(&th, NULL, save_side, &x)) < 0) {
        close(p[0]);
        close(p[1]);
        return err_errno(e, r, "start a thread");
    }
    struct tar_reader *t = tar_reader_new(from_pipe, &p[0]);
    while ((r = tar_next(t, &en, e)) == 1 && (en->type != TAR_FILE || (r = put_file(dir, t, en, e)) == 0))
        ;
    tar_reader_free(t);
    close(p[0]);
    pthread_join(th, NULL);
    if (x.r < 0 && x.e.errnum != EPIPE) {
        if (e)
            *e = x.e;
        r = x.r;
    }
    return r;
}

/* --- loading ------------------------------------------------------------------------------- */

static int send_file(struct tar_writer *w, int dir, const char *path, struct err *e) {
    struct stat st;
    _cleanup_close_ int fd = fs_open_in(dir, path, O_RDONLY | O_CLOEXEC, 0, 0);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(e, ERR_USER, fd < 0 ? fd : -errno, "%s: %s", path, strerror(fd < 0 ? -fd : errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_USER, -EINVAL, "%s is not a file", path);
    struct tar_entry en = {.type = TAR_FILE, .path = path, .link = "", .mode = 0644, .size = (uint64_t)st.st_size};
    int r = tar_put(w, &en);
    return r < 0 ? r : tar_put_fd(w, fd, en.size);
}

static int send_blobs(struct tar_writer *w, int dir, struct err *e) {
    int fd = fs_open_in(dir, "blobs/sha256", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    int r = d ? 0 : err_set(e, ERR_USER, -ENOENT, "no blobs/sha256: not an OCI layout");
    if (!d)
        fd_close(fd);
    for (struct dirent *en; d && r == 0 && (en = readdir(d));) {
        char path[100];
        if (strlen(en->d_name) != 64)
            continue; /* what somebody is writing still */
        snprintf(path, sizeof path, "blobs/sha256/%.64s", en->d_name);
        r = send_file(w, dir, path, e);
    }
    if (d)
        closedir(d);
    return r;
}

static void *load_side(void *arg) {
    struct side *x = arg;
    struct tar_writer *w = tar_writer_new(to_pipe, &x->fd);
    x->r = send_file(w, x->dir, "index.json", &x->e);
    if (x->r == 0)
        x->r = send_blobs(w, x->dir, &x->e);
    if (x->r == 0)
        x->r = tar_end(w);
    tar_writer_free(w);
    close(x->fd);
    return NULL;
}

int image_load_layout(struct store *s, struct lease *l, const char *path, struct strv *ret_names, struct err *e) {
    struct side x = {.s = s, .l = l};
    pthread_t th;
    int p[2];
    _cleanup_close_ int dir = x.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "open %s", path);
    x.fd = p[1];
    int r = -pthread_create(&th, NULL, load_side, &x);
    if (r < 0) {
        close(p[0]);
        close(p[1]);
        return err_errno(e, r, "start a thread");
    }
    r = image_load(s, l, p[0], ret_names, e);
    close(p[0]);
    pthread_join(th, NULL);
    if (x.r < 0 && x.e.kind != ERR_NONE) {
        if (e)
            *e = x.e;
        return err_wrap(e, x.r, "load %s", path);
    }
    return r;
}
