#include "core/fs.h"

#include "core/loop.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

int fs_read_fd(int fd, struct buf *b) {
    for (;;) {
        size_t chunk = MIN((size_t)65536, b->max > b->n ? b->max - b->n : 0);
        if (!chunk) {
            char one;
            ssize_t r = read(fd, &one, 1);
            if (r < 0 && errno == EINTR)
                continue;
            return r < 0 ? -errno : r ? -EFBIG : 0;
        }
        if (!buf_reserve(b, chunk))
            return -EFBIG;
        ssize_t r = read(fd, b->p + b->n, chunk);
        if (r < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (!r) {
            b->p[b->n] = 0;
            return 0;
        }
        b->n += (size_t)r;
        b->p[b->n] = 0;
    }
}

int fs_read(int dirfd, const char *path, struct buf *b, struct err *e) {
    _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, -errno, "open %s", path);
    int r = fs_read_fd(fd, b);
    return r < 0 ? err_errno(e, r, "read %s", path) : 0;
}

int fd_write_all(int fd, const void *p, size_t n) {
    const char *at = p;
    while (n) {
        ssize_t r = write(fd, at, n);
        if (r < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        at += r;
        n -= (size_t)r;
    }
    return 0;
}

ssize_t fd_read_full(int fd, void *p, size_t n) {
    size_t have = 0;
    while (have < n) {
        ssize_t r = read(fd, (char *)p + have, n - have);
        if (r < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (!r)
            break;
        have += (size_t)r;
    }
    return (ssize_t)have;
}

int fd_copy(int from, int to, uint64_t max, uint64_t *ret_copied) {
    uint64_t done = 0;
    int how = 0; /* copy_file_range, then sendfile, then read and write */
    int r = 0;
    while (done < max) {
        size_t n = (size_t)MIN(max - done, (uint64_t)1 << 30);
        ssize_t k;
        if (how == 0)
            k = copy_file_range(from, NULL, to, NULL, n, 0);
        else if (how == 1)
            k = sendfile(to, from, NULL, n);
        else {
            char chunk[65536];
            k = read(from, chunk, MIN(n, sizeof chunk));
            if (k > 0 && (r = fd_write_all(to, chunk, (size_t)k)) < 0)
                break;
        }
        if (k < 0) {
            if (errno == EINTR)
                continue;
            if (how < 2 && (errno == EINVAL || errno == EXDEV || errno == ENOSYS ||
                            errno == EOPNOTSUPP || errno == EBADF)) {
                how++;
                continue;
            }
            r = -errno;
            break;
        }
        if (!k) {
            /* Some file systems (procfs) answer 0 to copy_file_range although there is data. */
            if (how == 0 && !done) {
                how = 1;
                continue;
            }
            break;
        }
        done += (uint64_t)k;
    }
    if (ret_copied)
        *ret_copied = done;
    return r;
}

int fs_write(int dirfd, const char *path, struct sv data, mode_t mode, bool sync, struct err *e) {
    char id[17];
    random_id(id, 16);
    _cleanup_free_ char *tmp = xasprintf("%s.%s.tmp", path, id);
    _cleanup_close_ int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(e, -errno, "create %s", path);
    int r = fd_write_all(fd, data.p, data.n);
    if (r >= 0 && sync && fdatasync(fd) < 0)
        r = -errno;
    if (r >= 0 && renameat(dirfd, tmp, dirfd, path) < 0)
        r = -errno;
    if (r < 0) {
        unlinkat(dirfd, tmp, 0);
        return err_errno(e, r, "write %s", path);
    }
    return 0;
}

int fs_append(int dirfd, const char *path, struct sv data, mode_t mode) {
    _cleanup_close_ int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, mode);
    return fd < 0 ? -errno : fd_write_all(fd, data.p, data.n);
}

int fs_mkdirs(int dirfd, const char *path, mode_t mode) {
    if (mkdirat(dirfd, path, mode) == 0)
        return 0;
    if (errno == EEXIST) {
        struct stat st;
        if (fstatat(dirfd, path, &st, 0) < 0)
            return -errno;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    }
    if (errno != ENOENT)
        return -errno;
    _cleanup_free_ char *parent = path_dir(path);
    if (streq(parent, path) || streq(parent, "."))
        return -ENOENT;
    int r = fs_mkdirs(dirfd, parent, mode);
    if (r < 0)
        return r;
    return mkdirat(dirfd, path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

/* Recursion by descriptor, depth-limited by the number of descriptors: past that, deep trees are
 * handled by moving a subfolder up. */
static int rmtree_fd(int fd, dev_t dev, unsigned depth) {
    DIR *d = fdopendir(fd);
    if (!d) {
        int r = -errno;
        close(fd);
        return r;
    }
    int r = 0;
    for (struct dirent *en; (errno = 0, en = readdir(d));) {
        if (streq(en->d_name, ".") || streq(en->d_name, ".."))
            continue;
        if (en->d_type != DT_DIR && (unlinkat(dirfd(d), en->d_name, 0) == 0 || errno == ENOENT))
            continue; /* ENOENT here and below: somebody else removes it too */
        if (en->d_type != DT_DIR && errno != EISDIR && errno != EPERM) {
            r = r ? r : -errno;
            continue;
        }
        if (depth > 200) {
            r = r ? r : -ELOOP;
            continue;
        }
        int sub = openat(dirfd(d), en->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub < 0 && errno == EACCES && fchmodat(dirfd(d), en->d_name, 0700, 0) == 0)
            sub = openat(dirfd(d), en->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;
        if (sub < 0) {
            r = r || errno == ENOENT ? r : -errno;
            continue;
        }
        if (fstat(sub, &st) < 0 || st.st_dev != dev) {
            close(sub);
            r = r ? r : -EXDEV;
            continue;
        }
        int k = rmtree_fd(sub, dev, depth + 1);
        if (k >= 0 && unlinkat(dirfd(d), en->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            k = -errno;
        if (k == -EACCES && fchmod(dirfd(d), 0700) == 0) /* a folder without write permission */
            k = unlinkat(dirfd(d), en->d_name, AT_REMOVEDIR) < 0 ? -errno : 0;
        r = r ? r : k;
    }
    closedir(d);
    return r;
}

/* A tree deeper than the descriptors allow: folders at the limit are moved to the top first. */
static int flatten_deep(int top, const char *name) {
    _cleanup_close_ int at = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (at < 0)
        return -errno;
    for (unsigned depth = 0;; depth++) {
        int dup_fd = fcntl(at, F_DUPFD_CLOEXEC, 3);
        DIR *d = fdopendir(dup_fd);
        if (!d) {
            close(dup_fd);
            return -errno;
        }
        char sub[256] = "";
        for (struct dirent *en; (en = readdir(d));)
            if (en->d_type == DT_DIR && !streq(en->d_name, ".") && !streq(en->d_name, "..")) {
                snprintf(sub, sizeof sub, "%s", en->d_name);
                break;
            }
        if (!sub[0]) {
            closedir(d);
            return 0;
        }
        if (depth == 150) {
            char fresh[40] = "slipway-rm-";
            random_id(fresh + 11, 16);
            int r = renameat(dirfd(d), sub, top, fresh) < 0 ? -errno : fs_rmtree(top, fresh);
            closedir(d);
            return r;
        }
        int next = openat(dirfd(d), sub, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        closedir(d);
        if (next < 0)
            return -errno;
        close(at);
        at = next;
    }
}

int fs_rmtree(int dir, const char *name) {
    for (unsigned tries = 0;; tries++) {
        if (unlinkat(dir, name, 0) == 0)
            return 0;
        if (errno != EISDIR && errno != EPERM)
            return errno == ENOENT ? 0 : -errno;
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0)
            fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return errno == ENOENT ? 0 : -errno;
        struct stat st;
        if (fstat(fd, &st) < 0) {
            close(fd);
            return -errno;
        }
        int r = rmtree_fd(fd, st.st_dev, 0);
        if (r == -ELOOP && tries < 100 && flatten_deep(dir, name) >= 0)
            continue;
        if (r < 0)
            return r;
        return unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
    }
}

bool fs_exists(int dirfd, const char *path) {
    return faccessat(dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int size_fd(int fd, unsigned depth, uint64_t *bytes, uint64_t *files) {
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return -errno;
    }
    for (struct dirent *en; (en = readdir(d));) {
        struct stat st;
        if (streq(en->d_name, ".") || streq(en->d_name, "..") ||
            fstatat(dirfd(d), en->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        *files += 1;
        *bytes += (uint64_t)st.st_blocks * 512;
        if (S_ISDIR(st.st_mode) && depth < 200) {
            int sub = openat(dirfd(d), en->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (sub >= 0)
                size_fd(sub, depth + 1, bytes, files);
        }
    }
    closedir(d);
    return 0;
}

int fs_size_tree(int dir, const char *path, uint64_t *ret_bytes, uint64_t *ret_files) {
    uint64_t bytes = 0, files = 0;
    int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = size_fd(fd, 0, &bytes, &files);
    if (ret_bytes)
        *ret_bytes = bytes;
    if (ret_files)
        *ret_files = files;
    return r;
}

/* --- inside a root --------------------------------------------------------------------------- */

int fs_open_in(int root, const char *path, int flags, mode_t mode, uint64_t how_resolve) {
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
        .resolve = how_resolve ? how_resolve : RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    /* EAGAIN: a rename or a mount, anywhere on the host, raced with the resolution of "..". Trying
     * again is what the manual says; on a busy host that can be needed often. */
    for (int i = 0; i < 1000; i++) {
        if (i >= 16)
            sched_yield();
        int fd = (int)syscall(SYS_openat2, root, path[0] ? path : ".", &how, sizeof how);
        if (fd >= 0)
            return fd;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return -EAGAIN;
}

int fs_parent_in(int root, const char *path, bool create, const char **ret_name) {
    const char *end = path + strlen(path);
    while (end > path && end[-1] == '/')
        end--;
    const char *name = end;
    while (name > path && name[-1] != '/')
        name--;
    if (name == end || (end - name == 1 && name[0] == '.') || (end - name == 2 && !strncmp(name, "..", 2)))
        return -EINVAL;
    if (*end) /* the caller gets a NUL-terminated name that points into its path */
        return -EINVAL;
    _cleanup_free_ char *dir = xstrndup(path, (size_t)(name - path));
    if (create) {
        int r = fs_mkdirs_in(root, dir, 0755);
        if (r < 0)
            return r;
    }
    int fd = fs_open_in(root, dir, O_PATH | O_DIRECTORY, 0, 0);
    if (fd >= 0)
        *ret_name = name;
    return fd;
}

int fs_mkdirs_in(int root, const char *path, mode_t mode) {
    _cleanup_free_ char *clean = path_clean(path);
    _cleanup_buf_ struct buf done = BUF_MAX(65536);
    struct sv rest = sv_from(clean), part;
    while (sv_split(&rest, '/', &part)) {
        if (!part.n || sv_eqs(part, "."))
            continue;
        _cleanup_close_ int parent = fs_open_in(root, buf_str(&done), O_PATH | O_DIRECTORY, 0, 0);
        if (parent < 0)
            return parent;
        if (done.n)
            buf_addc(&done, '/');
        buf_addsv(&done, part);
        if (!buf_ok(&done))
            return -ENAMETOOLONG;
        _cleanup_free_ char *name = sv_dup(part);
        if (!streq(name, "..") && mkdirat(parent, name, mode) < 0 && errno != EEXIST)
            return -errno;
        int fd = fs_open_in(root, buf_str(&done), O_PATH | O_DIRECTORY, 0, 0);
        if (fd < 0)
            return fd;
        close(fd);
    }
    return 0;
}

/* --- paths ------------------------------------------------------------------------------------ */

char *path_clean(const char *path) {
    bool absolute = path[0] == '/';
    size_t n = strlen(path);
    char *out = xmalloc(n + 3);
    size_t len = 0, floor = 0; /* floor: end of the leading "../"s that cannot be taken back */
    if (absolute)
        out[len++] = '/';
    floor = len;
    struct sv rest = {path, n}, part;
    while (sv_split(&rest, '/', &part)) {
        if (!part.n || sv_eqs(part, "."))
            continue;
        if (sv_eqs(part, "..")) {
            if (len > floor) {
                while (len > floor && out[len - 1] != '/')
                    len--;
                if (len > floor)
                    len--; /* the slash */
                continue;
            }
            if (absolute)
                continue;
        }
        if (len && out[len - 1] != '/')
            out[len++] = '/';
        memcpy(out + len, part.p, part.n);
        len += part.n;
        if (sv_eqs(part, ".."))
            floor = len;
    }
    if (!len)
        out[len++] = '.';
    out[len] = 0;
    return out;
}

char *path_join(const char *a, const char *b) {
    if (b[0] == '/' || !a[0])
        return path_clean(b);
    _cleanup_free_ char *both = xasprintf("%s/%s", a, b);
    return path_clean(both);
}

const char *path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *path_dir(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        return xstrdup(".");
    while (slash > path && slash[-1] == '/')
        slash--;
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

int lock_file(int dirfd, const char *path, bool exclusive, bool wait) {
    _cleanup_close_ int fd = openat(dirfd, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int op = (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB);
    while (flock(fd, op) < 0)
        if (errno != EINTR)
            return -errno;
    return TAKE_FD(fd);
}

/* --- folders of this user ------------------------------------------------------------------------ */

static char *user_dir(const char *override, const char *xdg, const char *home_rel, const char *root_dir) {
    const char *v = getenv(override);
    if (v && v[0] == '/')
        return path_clean(v);
    if (root_dir && geteuid() == 0)
        return xstrdup(root_dir);
    v = getenv(xdg);
    if (v && v[0] == '/')
        return path_join(v, "slipway");
    const char *home = getenv("HOME");
    _cleanup_free_ char *base = path_join(home && home[0] == '/' ? home : "/", home_rel);
    return path_join(base, "slipway");
}
char *dir_config(void) {
    return user_dir("SLIPWAY_CONFIG", "XDG_CONFIG_HOME", ".config", NULL);
}
char *dir_state(void) {
    return user_dir("SLIPWAY_STATE", "XDG_DATA_HOME", ".local/share", "/var/lib/slipway");
}
char *dir_cache(void) {
    return user_dir("SLIPWAY_CACHE", "XDG_CACHE_HOME", ".cache", "/var/cache/slipway");
}

char *share_path(const char *rel) {
    const char *env = getenv("SLIPWAY_SHARE");
    if (env) {
        char *p = path_join(env, rel);
        if (fs_exists(AT_FDCWD, p))
            return p;
        free(p);
    }
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = 0;
        _cleanup_free_ char *bin = path_dir(self);
        static const char *const beside[] = {"../share", "../share/slipway"}; /* build/, PREFIX/bin */
        for (size_t i = 0; i < ELEMENTS(beside); i++) {
            _cleanup_free_ char *dir = path_join(bin, beside[i]);
            char *p = path_join(dir, rel);
            if (fs_exists(AT_FDCWD, p))
                return p;
            free(p);
        }
    }
    char *p = path_join(SLIPWAY_SHARE, rel);
    if (fs_exists(AT_FDCWD, p))
        return p;
    free(p);
    return NULL;
}
