#include "build/context.h"
#include "base/compress.h"
#include "base/tar.h"
#include "core/fs.h"

static ssize_t decode(void *arg, void *p, size_t n) { return decoder_read(arg, p, n); }

static int put_entry(struct tar_reader *t, int dir, const struct tar_entry *en, struct err *e) {
    const char *last = NULL, *path = en->path;
    while (*path == '/' || (path[0] == '.' && path[1] == '/'))
        path += *path == '/' ? 1 : 2;
    _cleanup_free_ char *clean = path_clean(path);
    if (!*clean || streq(clean, ".") || streq(clean, "/"))
        return 0;
    if (en->type == TAR_DIR) {
        int r = fs_mkdirs_in(dir, clean, 0755);
        _cleanup_close_ int fd = r < 0 ? -1 : fs_open_in(dir, clean, O_RDONLY | O_DIRECTORY, 0, 0);
        if (fd >= 0)
            (void)!fchmod(fd, (en->mode & 07777) | 0700);
        return r < 0 ? err_errno(e, r, "%s", clean) : 0;
    }
    _cleanup_close_ int parent = fs_parent_in(dir, clean, true, &last);
    if (parent < 0)
        return err_errno(e, parent, "%s", clean);
    /* A later entry of the same name wins, as does one over a file that was there before. */
    if (unlinkat(parent, last, 0) < 0 && errno == EISDIR)
        return err_set(e, ERR_USER, -EISDIR, "%s: is a folder and a file", clean);
    struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = en->mtime, .tv_nsec = en->mtime_ns}};
    if (en->type == TAR_SYMLINK) {
        if (symlinkat(en->link, parent, last) < 0)
            return err_errno(e, -errno, "%s", clean);
        (void)utimensat(parent, last, ts, AT_SYMLINK_NOFOLLOW);
        return 0;
    }
    if (en->type == TAR_HARDLINK) {
        const char *from = NULL;
        _cleanup_free_ char *target = path_clean(en->link);
        _cleanup_close_ int fp = fs_parent_in(dir, target, false, &from);
        if (fp < 0 || linkat(fp, from, parent, last, 0) < 0)
            return err_errno(e, fp < 0 ? fp : -errno, "%s", clean);
        return 0;
    }
    if (en->type != TAR_FILE)
        return 0; /* devices and pipes are never part of a context */
    _cleanup_close_ int fd = openat(parent, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, -errno, "%s", clean);
    _cleanup_free_ char *block = xmalloc(64 << 10);
    ssize_t n;
    while ((n = tar_data(t, block, 64 << 10)) > 0) {
        int r = fd_write_all(fd, block, (size_t)n);
        if (r < 0)
            return err_errno(e, r, "%s", clean);
    }
    if (n < 0)
        return err_errno(e, (int)n, "%s", clean);
    (void)!fchmod(fd, en->mode & 07777);
    (void)futimens(fd, ts);
    return 0;
}

int context_unpack(int fd, int dir, struct err *e) {
    struct decoder *d = NULL;
    int r = decoder_new(&d, fd, 64ull << 30, e);
    if (r < 0)
        return err_wrap(e, r, "the context");
    struct tar_reader *t = tar_reader_new(decode, d);
    const struct tar_entry *en;
    while ((r = tar_next(t, &en, e)) > 0)
        if ((r = put_entry(t, dir, en, e)) < 0)
            break;
    tar_reader_free(t);
    decoder_free(d);
    return r < 0 ? err_wrap(e, r, "the context") : 0;
}

bool context_is_tar(struct sv b) {
    static const struct sv magics[] = {{"\x1f\x8b", 2}, {"\xFD" "7zXZ", 5}, {"BZh", 3}, {"\x28\xB5\x2F\xFD", 4}};
    for (size_t i = 0; i < ELEMENTS(magics); i++)
        if (b.n >= magics[i].n && memcmp(b.p, magics[i].p, magics[i].n) == 0)
            return true;
    return b.n > 262 && memcmp(b.p + 257, "ustar", 5) == 0;
}
