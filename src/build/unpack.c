/* ADD of an archive: unpacked into a folder of its own first (in the layer's work folder), with every
 * path resolved inside it, then put in place like any other tree. So nothing in an archive can
 * reach the image through a link that the archive or the image holds. */
#include "build/copy_int.h"
#include "base/compress.h"
#include "base/tar.h"
#include "core/fs.h"
#include "core/proc.h"

#include <linux/openat2.h>
#include <sys/sysmacros.h>

#define PLAIN (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
#define MAX_UNPACKED (64ull << 30)
#define MAX_ENTRIES 2000000u

struct source {
    int fd;
    struct decoder *d;
    pid_t pid; /* xz, bzip2 */
};

static ssize_t source_read(void *arg, void *p, size_t n) {
    struct source *s = arg;
    if (s->d)
        return decoder_read(s->d, p, n);
    ssize_t k;
    do
        k = read(s->fd, p, n);
    while (k < 0 && errno == EINTR);
    return k < 0 ? -errno : k;
}

/* 1 = may be an archive, 0 = is none. */
static int source_open(struct source *s, int fd, struct err *e) {
    unsigned char m[512] = {0};
    ssize_t n = pread(fd, m, sizeof m, 0);
    const char *program = NULL;
    s->fd = -1;
    if (n < 4)
        return 0;
    if (memcmp(m, "BZh", 3) == 0)
        program = "bzip2";
    else if (memcmp(m, "\xFD"
                       "7zXZ",
                    5) == 0)
        program = "xz";
    if (!program) {
        s->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        bool packed = (m[0] == 0x1f && m[1] == 0x8b) || memcmp(m, "\x28\xB5\x2F\xFD", 4) == 0;
        if (!packed && n < 512)
            return 0;
        return packed && decoder_new(&s->d, s->fd, MAX_UNPACKED, e) < 0 ? 0 : 1;
    }
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    struct proc_spec ps = {.argv = (const char *const[]){program, "-dc", NULL}, .fds = {{0, fd}, {1, p[1]}}, .n_fds = 2};
    int r = proc_spawn(&ps, &s->pid, e);
    close(p[1]);
    s->fd = p[0];
    if (r < 0)
        return err_wrap(e, r, "unpacking needs the program %s", program);
    return 1;
}

static void source_close(struct source *s) {
    decoder_free(s->d);
    fd_close(s->fd);
    if (s->pid > 0)
        (void)proc_wait(s->pid);
}

struct dir_meta {
    char *path;
    uint32_t mode;
    struct timespec at;
};
struct unpack {
    int root;
    struct dir_meta *dirs;
    size_t n_dirs, cap_dirs;
    unsigned entries;
};

static int entry_file(struct tar_reader *t, const struct tar_entry *en, int dir, const char *name) {
    _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    char *chunk = xmalloc(256u << 10);
    int r = 0;
    for (;;) {
        ssize_t n = tar_data(t, chunk, 256u << 10);
        if (n <= 0) {
            r = (int)n;
            break;
        }
        if ((r = fd_write_all(fd, chunk, (size_t)n)) < 0)
            break;
    }
    free(chunk);
    if (r < 0)
        return r;
    if (fchown(fd, (uid_t)en->uid, (gid_t)en->gid) < 0 || fchmod(fd, en->mode & 07777) < 0)
        return -errno;
    struct timespec ts[2] = {{en->mtime, (long)en->mtime_ns}, {en->mtime, (long)en->mtime_ns}};
    return futimens(fd, ts) < 0 ? -errno : 0;
}

static int entry_link(struct unpack *u, const struct tar_entry *en, int dir, const char *name) {
    const char *target;
    _cleanup_close_ int from = fs_parent_in(u->root, en->link, false, &target);
    if (from < 0)
        return from;
    return linkat(from, target, dir, name, 0) < 0 ? -errno : 0;
}

static int entry_dir(struct unpack *u, const struct tar_entry *en, int dir, const char *name, const char *path) {
    if (mkdirat(dir, name, 0700) < 0) {
        struct stat st;
        if (errno != EEXIST)
            return -errno;
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
            return -ENOTDIR;
    }
    if (fchownat(dir, name, (uid_t)en->uid, (gid_t)en->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    GROW(u->dirs, u->cap_dirs, u->n_dirs + 1);
    u->dirs[u->n_dirs++] = (struct dir_meta){xstrdup(path), en->mode & 07777, {en->mtime, (long)en->mtime_ns}};
    return 0;
}

static int entry_put(struct unpack *u, struct tar_reader *t, const struct tar_entry *en, struct err *e) {
    const char *path = en->path, *name;
    while (*path == '/')
        path++;
    _cleanup_free_ char *clean = path_clean(path);
    if (streq(clean, ".") || streq(clean, ""))
        return 0;
    if (streq(clean, "..") || startswith(clean, "../"))
        return err_set(e, ERR_LIMIT, -EPERM, "the archive names a path outside: %s", en->path);
    if (en->uid > 65535 || en->gid > 65535)
        return err_set(e, ERR_LIMIT, -EINVAL, "%s: owner %llu:%llu, ids above 65535 are not there", en->path,
                       (unsigned long long)en->uid, (unsigned long long)en->gid);
    _cleanup_close_ int dir = fs_parent_in(u->root, clean, true, &name);
    if (dir < 0)
        return err_errno(e, dir, "%s", en->path);
    if (en->type != TAR_DIR && unlinkat(dir, name, 0) < 0 && errno != ENOENT)
        return err_errno(e, -errno, "%s", en->path);
    int r = 0;
    switch (en->type) {
    case TAR_DIR:
        r = entry_dir(u, en, dir, name, clean);
        break;
    case TAR_FILE:
        r = entry_file(t, en, dir, name);
        break;
    case TAR_HARDLINK:
        r = entry_link(u, en, dir, name);
        break;
    case TAR_SYMLINK:
        r = symlinkat(en->link, dir, name) < 0 || fchownat(dir, name, (uid_t)en->uid, (gid_t)en->gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
        break;
    case TAR_FIFO:
        r = mkfifoat(dir, name, en->mode & 07777) < 0 ? -errno : 0;
        break;
    case TAR_CHAR:
    case TAR_BLOCK:
        break; /* devices are left out, as every rootless builder does */
    }
    if (r == 0 && en->type == TAR_SYMLINK) {
        struct timespec ts[2] = {{en->mtime, (long)en->mtime_ns}, {en->mtime, (long)en->mtime_ns}};
        (void)utimensat(dir, name, ts, AT_SYMLINK_NOFOLLOW);
    }
    return r < 0 ? err_errno(e, r, "%s", en->path) : 0;
}

static void unpack_done(struct unpack *u) {
    for (size_t i = u->n_dirs; i-- > 0;) {
        _cleanup_close_ int fd = fs_open_in(u->root, u->dirs[i].path, O_RDONLY | O_DIRECTORY, 0, PLAIN);
        struct timespec ts[2] = {u->dirs[i].at, u->dirs[i].at};
        if (fd >= 0) {
            (void)fchmod(fd, u->dirs[i].mode);
            (void)futimens(fd, ts);
        }
        free(u->dirs[i].path);
    }
    free(u->dirs);
}

/* A new folder for one archive. */
static int stage_open(struct copy_job *j, char name[32], struct err *e) {
    static unsigned counter;
    snprintf(name, 32, "unpack-%u", counter++);
    if (mkdirat(j->stage, name, 0755) < 0)
        return err_errno(e, -errno, "make a folder to unpack in");
    int fd = openat(j->stage, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, -errno, "open a folder to unpack in") : fd;
}

int copy_unpack(struct copy_job *j, const char *path, const char *dest, struct err *e) {
    _cleanup_close_ int fd = fs_open_in(j->src.lo, path, O_RDONLY | O_NONBLOCK, 0, PLAIN);
    if (fd < 0)
        return err_errno(e, fd, "/%s", path);
    struct source s = {.fd = -1};
    struct err ignored = {0};
    const struct tar_entry *en;
    struct unpack u = {.root = -1};
    char name[32] = "";
    int r = source_open(&s, fd, e);
    struct tar_reader *t = r > 0 ? tar_reader_new(source_read, &s) : NULL;
    int next = t ? tar_next(t, &en, &ignored) : -EINVAL;
    if (r <= 0 || next < 0) { /* not an archive: copied as it is */
        r = r < 0 ? r : 0;
    } else {
        u.root = r = stage_open(j, name, e);
        for (; r >= 0 && next > 0; next = r < 0 ? r : tar_next(t, &en, e)) {
            if (++u.entries > MAX_ENTRIES)
                r = err_set(e, ERR_LIMIT, -E2BIG, "more than %u entries", MAX_ENTRIES);
            else
                r = entry_put(&u, t, en, e);
        }
        if (r >= 0 && next < 0)
            r = next;
        unpack_done(&u);
        if (r >= 0) {
            struct view v = {-1, u.root};
            bool no_link = j->no_link;
            j->moving = true;
            j->no_link = false;
            r = copy_put_contents(j, &v, "", dest, e);
            j->moving = false;
            j->no_link = no_link;
        }
        if (r < 0)
            err_wrap(e, r, "unpacking /%s", path);
        r = r < 0 ? r : 1;
    }
    tar_reader_free(t);
    source_close(&s);
    fd_close(u.root);
    if (name[0])
        (void)fs_rmtree(j->stage, name);
    return r;
}
