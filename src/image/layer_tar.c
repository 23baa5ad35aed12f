/* A snapshot's tar, as a helper inside the user namespace, where owners are the container's. The
 * same bytes for the same tree: entries sorted by name, a folder before what is in it, in each
 * folder what it hides first; times in whole seconds, no names of users, no access times. Files
 * with several links: the first carries the data. Source: OCI image-spec v1.1, layer.md. */
#include "base/tar.h"
#include "base/userns.h"
#include "core/fs.h"
#include "core/map.h"
#include "image/ns.h"

#include <dirent.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define MAX_DEPTH 300
#define OUT_SIZE (512u << 10)
#define XATTR_MAX (64u << 10)

struct maker {
    struct tar_writer *w;
    int64_t clamp;
    struct map links; /* dev and inode -> path */
    char *out;
    size_t n;
    struct err e;
    struct buf xattr_text;
};

static int flush(struct maker *m) {
    int r = fd_write_all(4, m->out, m->n);
    m->n = 0;
    return r;
}

static int sink(void *arg, const void *p, size_t n) {
    struct maker *m = arg;
    if (m->n + n > OUT_SIZE) {
        int r = flush(m);
        if (r < 0)
            return r;
    }
    if (n >= OUT_SIZE)
        return fd_write_all(4, p, n);
    memcpy(m->out + m->n, p, n);
    m->n += n;
    return 0;
}

static int failed(struct maker *m, int r, const char *path) {
    return err_errno(&m->e, r, "read %s of a layer", path);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* --- extended attributes -----------------------------------------------------------------------
 */

static bool wanted_xattr(const char *name) {
    return (startswith(name, "user.") && !startswith(name, "user.overlay.")) ||
           streq(name, "security.capability");
}

/* Into en->xattrs, sorted; names and values lie in m->xattr_text. */
static int xattrs(struct maker *m, int fd, struct tar_entry *en) {
    char names[16384];
    size_t at[ELEMENTS(en->xattrs)][3];
    ssize_t n = flistxattr(fd, names, sizeof names);
    if (n < 0)
        return errno == ENOTSUP ? 0 : -errno;
    _cleanup_free_ char **v = xcalloc((size_t)n + 1, sizeof *v);
    size_t count = 0;
    for (char *p = names; p < names + n; p += strlen(p) + 1)
        if (wanted_xattr(p))
            v[count++] = p;
    if (count > ELEMENTS(en->xattrs))
        return -E2BIG;
    if (count)
        qsort(v, count, sizeof *v, by_name);
    buf_reset(&m->xattr_text);
    for (size_t i = 0; i < count; i++) {
        static char value[XATTR_MAX];
        ssize_t k = fgetxattr(fd, v[i], value, sizeof value);
        if (k < 0)
            return -errno;
        at[i][0] = m->xattr_text.n;
        buf_add(&m->xattr_text, v[i], strlen(v[i]) + 1);
        at[i][1] = m->xattr_text.n;
        at[i][2] = (size_t)k;
        buf_add(&m->xattr_text, value, (size_t)k);
    }
    if (!buf_ok(&m->xattr_text))
        return -E2BIG;
    for (size_t i = 0; i < count; i++)
        en->xattrs[i] =
            (struct tar_xattr){m->xattr_text.p + at[i][0], {m->xattr_text.p + at[i][1], at[i][2]}};
    en->n_xattrs = count;
    return 0;
}

static bool is_opaque(int fd) {
    char v[4];
    return fgetxattr(fd, "user.overlay.opaque", v, sizeof v) == 1 && v[0] == 'y';
}

/* --- entries -----------------------------------------------------------------------------------
 */

static void head(const struct maker *m, struct tar_entry *en, const char *path,
                 const struct stat *st) {
    *en = (struct tar_entry){.path = path,
                             .link = "",
                             .mode = st->st_mode & 07777,
                             .uid = st->st_uid,
                             .gid = st->st_gid,
                             .mtime = st->st_mtim.tv_sec};
    if (m->clamp >= 0 && en->mtime > m->clamp)
        en->mtime = m->clamp;
}

static int put(struct maker *m, const struct tar_entry *en) {
    int r = tar_put(m->w, en);
    return r < 0 ? failed(m, r, en->path) : 0;
}

static int put_file(struct maker *m, int dir, const char *name, const char *path,
                    const struct stat *st) {
    struct tar_entry en;
    head(m, &en, path, st);
    if (st->st_nlink > 1) {
        struct {
            uint64_t dev, ino;
        } id = {(uint64_t)st->st_dev, (uint64_t)st->st_ino};
        struct sv key = {(const char *)&id, sizeof id};
        const char *first = map_get(&m->links, key);
        if (first) {
            en.type = TAR_HARDLINK;
            en.link = first;
            return put(m, &en);
        }
        map_set(&m->links, key, xstrdup(path));
    }
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
    if (fd < 0)
        fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? -errno : xattrs(m, fd, &en);
    if (r < 0)
        return failed(m, r, path);
    en.type = TAR_FILE;
    en.size = (uint64_t)st->st_size;
    r = put(m, &en);
    if (r == 0 && en.size && (r = tar_put_fd(m->w, fd, en.size)) < 0)
        r = failed(m, r, path);
    return r;
}

static int put_link(struct maker *m, int dir, const char *name, const char *path,
                    const struct stat *st) {
    struct tar_entry en;
    char target[4097];
    ssize_t n = readlinkat(dir, name, target, sizeof target - 1);
    if (n < 0)
        return failed(m, -errno, path);
    target[n] = 0;
    head(m, &en, path, st);
    en.type = TAR_SYMLINK;
    en.mode = 0777;
    en.link = target;
    return put(m, &en);
}

/* What hides a name of the layers below: an empty file, always the same. */
static int put_whiteout(struct maker *m, const char *dir, const char *name) {
    _cleanup_free_ char *path =
        dir[0] ? xasprintf("%s/.wh.%s", dir, name) : xasprintf(".wh.%s", name);
    struct tar_entry en = {.type = TAR_FILE, .path = path, .link = "", .mode = 0644};
    return put(m, &en);
}

static int put_dir(struct maker *m, int dir, const char *name, struct buf *path,
                   const struct stat *st, unsigned depth);

static int put_entry(struct maker *m, int dir, const char *name, struct buf *path, unsigned depth) {
    struct stat st;
    struct tar_entry en;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(m, -errno, buf_str(path));
    switch (st.st_mode & S_IFMT) {
    case S_IFDIR:
        return put_dir(m, dir, name, path, &st, depth);
    case S_IFREG:
        return put_file(m, dir, name, buf_str(path), &st);
    case S_IFLNK:
        return put_link(m, dir, name, buf_str(path), &st);
    case S_IFSOCK:
        return 0;
    default:
        head(m, &en, buf_str(path), &st);
        en.type = S_ISFIFO(st.st_mode) ? TAR_FIFO : S_ISCHR(st.st_mode) ? TAR_CHAR : TAR_BLOCK;
        en.dev_major = major(st.st_rdev);
        en.dev_minor = minor(st.st_rdev);
        return put(m, &en);
    }
}

/* The names of a folder: what it hides, and the rest. */
static int names_of(int fd, struct strv *hidden, struct strv *names) {
    int dup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    DIR *d = dup_fd < 0 ? NULL : fdopendir(dup_fd);
    if (!d) {
        int r = -errno;
        fd_close(dup_fd);
        return r;
    }
    struct dirent *en;
    int r = 0;
    errno = 0;
    while (r == 0 && (en = readdir(d))) {
        struct stat st;
        if (streq(en->d_name, ".") || streq(en->d_name, ".."))
            continue;
        if (en->d_type == DT_CHR || en->d_type == DT_UNKNOWN) {
            if (fstatat(fd, en->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                r = -errno;
                break;
            }
            if (S_ISCHR(st.st_mode) && st.st_rdev == 0) {
                strv_add(hidden, en->d_name);
                continue;
            }
        }
        strv_add(names, en->d_name);
        errno = 0;
    }
    r = r ? r : -errno;
    closedir(d);
    if (hidden->n)
        qsort(hidden->v, hidden->n, sizeof *hidden->v, by_name);
    if (names->n)
        qsort(names->v, names->n, sizeof *names->v, by_name);
    return r;
}

static int put_children(struct maker *m, int fd, struct buf *path, unsigned depth) {
    _cleanup_strv_ struct strv hidden = {0}, names = {0};
    size_t base = path->n;
    int r = names_of(fd, &hidden, &names);
    if (r < 0)
        return failed(m, r, buf_str(path));
    if (base && is_opaque(fd))
        r = put_whiteout(m, buf_str(path), ".wh..opq");
    for (size_t i = 0; i < hidden.n && r == 0; i++)
        r = put_whiteout(m, buf_str(path), hidden.v[i]);
    for (size_t i = 0; i < names.n && r == 0; i++) {
        /* A file of that name would hide another where the layer is unpacked. */
        if (startswith(names.v[i], ".wh."))
            return err_set(&m->e, ERR_USER, -EINVAL, "a layer cannot hold a file named %s",
                           names.v[i]);
        if (base)
            buf_addc(path, '/');
        buf_adds(path, names.v[i]);
        if (!buf_ok(path))
            return err_set(&m->e, ERR_LIMIT, -ENAMETOOLONG, "a path in the layer is too long");
        r = put_entry(m, fd, names.v[i], path, depth);
        buf_cut(path, base, path->n - base);
    }
    return r;
}

static int put_dir(struct maker *m, int dir, const char *name, struct buf *path,
                   const struct stat *st, unsigned depth) {
    struct tar_entry en;
    if (depth >= MAX_DEPTH)
        return err_set(&m->e, ERR_LIMIT, -ELOOP, "folders in the layer are nested too deeply");
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_free_ char *slash = xasprintf("%s/", buf_str(path));
    head(m, &en, slash, st);
    en.type = TAR_DIR;
    int r = fd < 0 ? -errno : xattrs(m, fd, &en);
    if (r < 0)
        return failed(m, r, buf_str(path));
    r = put(m, &en);
    return r < 0 ? r : put_children(m, fd, path, depth + 1);
}

int ns_layer_tar(int argc, char **argv) {
    struct maker m = {.clamp = argc > 1 ? atoll(argv[1]) : -1,
                      .links = {.free_value = free},
                      .xattr_text = BUF_MAX(1u << 20)};
    struct buf path = BUF_MAX(65536);
    m.out = xmalloc(OUT_SIZE);
    m.w = tar_writer_new(sink, &m);
    int fd = openat(3, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? failed(&m, -errno, "/") : put_children(&m, fd, &path, 0);
    if (r == 0 && ((r = tar_end(m.w)) < 0 || (r = flush(&m)) < 0))
        err_errno(&m.e, r, "write the layer");
    return r < 0 ? ns_fail(&m.e) : 0; /* the process ends: nothing is freed */
}
