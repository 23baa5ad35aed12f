/* Blobs: blobs/sha256/ab/<hex>, written to an unnamed file (O_TMPFILE; a named one in blobs/tmp
 * where the file system has none), hashed on the way, synced, then linked under their digest. A
 * resumable download is a named file in blobs/partial, locked by its writer. */
#include "core/fs.h"
#include "core/loop.h"
#include "store/internal.h"

#include <sys/file.h>

struct blob_writer {
    struct store *s;
    int fd;
    char *name; /* below blobs/, NULL: unnamed */
    bool partial;
    struct sha256 *hash;
    uint64_t n;
    int failed;
};

static void blob_path(const char *digest, char out[80]) {
    const char *hex = digest_hex(digest);
    snprintf(out, 80, "sha256/%.2s/%s", hex, hex);
}

static struct blob_writer *writer_new(struct store *s, int fd, char *name) {
    struct blob_writer *w = xcalloc(1, sizeof *w);
    w->s = s;
    w->fd = fd;
    w->name = name;
    w->hash = sha256_new();
    return w;
}

static void writer_free(struct blob_writer *w) {
    sha256_free(w->hash);
    fd_close(w->fd);
    free(w->name);
    free(w);
}

int blob_begin(struct store *s, struct blob_writer **ret, struct err *e) {
    _cleanup_free_ char *name = NULL;
    int fd = openat(s->blobs, "tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && errno != ENOSPC && errno != EDQUOT && errno != EMFILE && errno != EROFS) {
        char id[17];
        random_id(id, 16);
        name = xasprintf("tmp/%s", id);
        fd = openat(s->blobs, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0)
            (void)flock(fd, LOCK_EX | LOCK_NB);
    }
    if (fd < 0)
        return err_errno(e, -errno, "cannot write to %s/blobs", s->path);
    *ret = writer_new(s, fd, TAKE(name));
    return 0;
}

int blob_write(struct blob_writer *w, const void *p, size_t n) {
    if (w->failed)
        return w->failed;
    int r = fd_write_all(w->fd, p, n);
    if (r < 0)
        return w->failed = r;
    sha256_update(w->hash, p, n);
    w->n += n;
    return 0;
}

uint64_t blob_written(const struct blob_writer *w) {
    return w->n;
}

void blob_abort(struct blob_writer *w) {
    if (!w)
        return;
    if (w->name && !w->partial)
        unlinkat(w->s->blobs, w->name, 0);
    writer_free(w);
}

/* Gives the file its name; one that is there already is the same bytes and only made younger. */
static int publish(struct blob_writer *w, const char *digest) {
    char path[80], dir[16], self[64];
    blob_path(digest, path);
    snprintf(dir, sizeof dir, "%.9s", path);
    if (mkdirat(w->s->blobs, dir, 0700) == 0) { /* the folder's own name must survive, too */
        _cleanup_close_ int top = openat(w->s->blobs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (top < 0 || fsync(top) < 0)
            return -errno;
    } else if (errno != EEXIST)
        return -errno;
    if (fchmod(w->fd, 0444) < 0 || fdatasync(w->fd) < 0)
        return -errno;
    int r = gc_enter(w->s);
    if (r < 0)
        return r;
    if (w->name) {
        r = renameat(w->s->blobs, w->name, w->s->blobs, path) < 0 ? -errno : 0;
    } else {
        snprintf(self, sizeof self, "/proc/self/fd/%d", w->fd);
        r = linkat(AT_FDCWD, self, w->s->blobs, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
        if (r == -EEXIST)
            r = utimensat(w->s->blobs, path, NULL, 0) < 0 ? -errno : 0;
    }
    gc_leave(w->s);
    if (r == 0) { /* the name too must survive */
        _cleanup_close_ int fd = openat(w->s->blobs, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
            r = -errno;
    }
    return r;
}

int blob_commit(struct blob_writer *w, const char *expect, char digest[DIGEST_LEN + 1],
                struct err *e) {
    uint8_t raw[32];
    char found[DIGEST_LEN + 1];
    int r = w->failed;
    if (r < 0) {
        err_errno(e, r, "cannot write to %s/blobs", w->s->path);
        blob_abort(w);
        return r;
    }
    sha256_final(w->hash, raw);
    digest_format(raw, found);
    if (expect && !streq(expect, found)) {
        if (w->partial)
            unlinkat(w->s->blobs, w->name, 0);
        blob_abort(w);
        return err_set(e, ERR_NET, -EBADMSG, "content is %s, not %s as announced", found, expect);
    }
    r = publish(w, found);
    if (r < 0) {
        err_errno(e, r, "cannot write to %s/blobs", w->s->path);
        blob_abort(w);
        return r;
    }
    if (digest)
        memcpy(digest, found, sizeof found);
    writer_free(w);
    return 0;
}

int blob_put(struct store *s, struct sv data, char digest[DIGEST_LEN + 1], struct err *e) {
    struct blob_writer *w;
    char d[DIGEST_LEN + 1];
    digest_of(data.p, data.n, d);
    if (blob_has(s, d)) {
        if (digest)
            memcpy(digest, d, sizeof d);
        return 0;
    }
    int r = blob_begin(s, &w, e);
    if (r < 0)
        return r;
    (void)blob_write(w, data.p, data.n); /* the commit tells */
    return blob_commit(w, d, digest, e);
}

bool blob_has(struct store *s, const char *digest) {
    char path[80];
    if (!digest_valid(sv_from(digest)))
        return false;
    blob_path(digest, path);
    if (gc_enter(s) < 0)
        return false;
    /* Made younger, so that a collection that is about to begin keeps it. */
    bool has = utimensat(s->blobs, path, NULL, 0) == 0;
    gc_leave(s);
    return has;
}

int blob_open(struct store *s, const char *digest, uint64_t *ret_size, struct err *e) {
    char path[80];
    struct stat st;
    if (!digest_valid(sv_from(digest)))
        return err_set(e, ERR_USER, -EINVAL, "not a digest: %.80s", digest);
    blob_path(digest, path);
    _cleanup_close_ int fd = openat(s->blobs, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        int r = -errno;
        return r == -ENOENT ? err_set(e, ERR_NOTFOUND, r, "%s is not in the store", digest)
                            : err_errno(e, r, "open blob %s", digest);
    }
    if (ret_size)
        *ret_size = (uint64_t)st.st_size;
    return TAKE_FD(fd);
}

int blob_read(struct store *s, const char *digest, struct buf *b, struct err *e) {
    _cleanup_close_ int fd = blob_open(s, digest, NULL, e);
    if (fd < 0)
        return fd;
    int r = fs_read_fd(fd, b);
    return r < 0 ? err_errno(e, r, "read blob %s", digest) : 0;
}

int blob_resume(struct store *s, const char *digest, struct blob_writer **ret, uint64_t *ret_have,
                struct err *e) {
    struct stat a, b;
    if (!digest_valid(sv_from(digest)))
        return err_set(e, ERR_USER, -EINVAL, "not a digest: %.80s", digest);
    _cleanup_free_ char *name = xasprintf("partial/%s", digest_hex(digest));
    _cleanup_close_ int fd = -1;
    for (;;) {
        fd = lock_file(s->blobs, name, true, true);
        if (fd < 0)
            return err_errno(e, fd, "cannot write to %s/blobs", s->path);
        if (fstat(fd, &a) == 0 && fstatat(s->blobs, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
            a.st_ino == b.st_ino)
            break;
        fd = fd_close(fd); /* another process finished or removed it while we waited */
        if (blob_has(s, digest))
            return -EEXIST;
    }
    if (blob_has(s, digest)) {
        unlinkat(s->blobs, name, 0);
        return -EEXIST;
    }
    struct blob_writer *w = writer_new(s, TAKE_FD(fd), TAKE(name));
    w->partial = true;
    char chunk[65536];
    ssize_t k;
    while ((k = read(w->fd, chunk, sizeof chunk)) > 0) {
        sha256_update(w->hash, chunk, (size_t)k);
        w->n += (uint64_t)k;
    }
    if (k < 0) {
        int r = err_errno(e, -errno, "read %s/blobs", s->path);
        writer_free(w);
        return r;
    }
    *ret = w;
    *ret_have = w->n;
    return 0;
}
