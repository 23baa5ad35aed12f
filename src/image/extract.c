/* How paths are kept inside. An entry's name is cleaned lexically (leading "/" and "./" go, ".."
 * is an error); its parent folder is opened with openat2(RESOLVE_IN_ROOT), so links in it, of
 * whatever kind and number, end inside the layer; then only the last component is touched, by
 * *at() calls that do not follow links, in a folder of which we hold the descriptor. The last
 * parent is remembered, which saves the resolution for most entries; it is forgotten when a link
 * was made, since a path can mean another place then.
 *
 * What an earlier entry made is replaced by a later one, except folder by folder. Folders' times
 * are set at the end, since filling them changes them. */
#include "image/extract.h"
#include "core/fs.h"

#include <linux/openat2.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define OPAQUE "user.overlay.opaque"
#define MAX_DEPTH 256
#define DIRS_MEMORY (256u << 20) /* of the names of folders, kept to the end for their times */

struct dir_time {
    char *path;
    struct timespec t;
};
struct extract {
    struct tar_reader *t;
    int root;
    const struct extract_options *o;
    struct extract_stats st;
    struct err *e;
    int parent; /* of parent_path, -1 = none remembered */
    char *parent_path;
    struct dir_time *dirs;
    size_t n_dirs, cap_dirs, dirs_bytes;
    char *chunk;
};
#define CHUNK (256u << 10)

static void forget_parent(struct extract *x) {
    x->parent = fd_close(x->parent);
    free(x->parent_path);
    x->parent_path = NULL;
}

static int bad(struct extract *x, const char *path, const char *what) {
    return err_set(x->e, ERR_LIMIT, -EINVAL, "layer entry \"%.200s\" %s", path, what);
}

static int failed(struct extract *x, int r, const char *path) {
    return err_errno(x->e, r, "unpack %.300s", path);
}

/* The name inside the layer, without slashes at its ends; "" is the root itself. */
static int clean(struct extract *x, const char *path, struct buf *out) {
    struct sv rest = sv_from(path), part;
    unsigned depth = 0;
    while (sv_split(&rest, '/', &part)) {
        if (!part.n || sv_eqs(part, "."))
            continue;
        if (sv_eqs(part, ".."))
            return bad(x, path, "names a place outside the layer");
        if (part.n > 255 || ++depth > MAX_DEPTH)
            return bad(x, path, "has too long a name");
        if (out->n)
            buf_addc(out, '/');
        buf_addsv(out, part);
    }
    return buf_ok(out) ? 0 : bad(x, path, "has too long a name");
}

/* A folder that the layer implies without having an entry for it. Overlay shows the upper folder's
 * owner and mode, so those that are not 0755 everywhere keep what they have everywhere. */
static mode_t implied_mode(const char *path) {
    return streq(path, "tmp") || streq(path, "var/tmp") ? 01777 : streq(path, "root") ? 0700 : 0755;
}

static bool is_whiteout(const struct stat *st) {
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static int set_opaque(int fd) {
    return fsetxattr(fd, OPAQUE, "y", 1, 0) < 0 ? -errno : 0;
}

/* A folder that this layer hides (by a whiteout that came first) and has files in all the same. */
static int hidden_parent(int at, const char *name) {
    struct stat st;
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (!is_whiteout(&st))
        return 0;
    if (unlinkat(at, name, 0) < 0 || mkdirat(at, name, 0755) < 0)
        return -errno;
    _cleanup_close_ int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? -errno : set_opaque(fd);
    return r < 0 ? r : 1;
}

static int make_parents(struct extract *x, const char *dir) {
    _cleanup_buf_ struct buf done = BUF_MAX(8192);
    struct sv rest = sv_from(dir), part;
    while (sv_split(&rest, '/', &part)) {
        _cleanup_free_ char *name = sv_dup(part);
        _cleanup_close_ int at = fs_open_in(x->root, buf_str(&done), O_PATH | O_DIRECTORY, 0, 0);
        if (at < 0)
            return at;
        if (done.n)
            buf_addc(&done, '/');
        buf_addsv(&done, part);
        int r = mkdirat(at, name, 0755) == 0 ? 1 : errno == EEXIST ? hidden_parent(at, name) : -errno;
        if (r < 0)
            return r;
        if (r == 1 && fchmodat(at, name, implied_mode(buf_str(&done)), 0) < 0)
            return -errno;
    }
    return 0;
}

/* The folder of `path` (cleaned), made when it is not there; *ret_name its last component. The
 * descriptor stays ours. */
static int parent_of(struct extract *x, const char *path, const char **ret_name) {
    const char *name = path_base(path);
    size_t n = name == path ? 0 : (size_t)(name - path) - 1;
    *ret_name = name;
    if (x->parent >= 0 && strlen(x->parent_path) == n && memcmp(x->parent_path, path, n) == 0)
        return x->parent;
    _cleanup_free_ char *dir = xstrndup(path, n);
    int fd = fs_open_in(x->root, dir, O_PATH | O_DIRECTORY, 0, 0);
    if (fd == -ENOENT || fd == -ENOTDIR) {
        int r = make_parents(x, dir);
        if (r < 0)
            return r;
        fd = fs_open_in(x->root, dir, O_PATH | O_DIRECTORY, 0, 0);
    }
    if (fd < 0)
        return fd;
    forget_parent(x);
    x->parent = fd;
    x->parent_path = TAKE(dir);
    return fd;
}

/* Takes away what an earlier entry put there. 1 when it was a whiteout. */
static int make_room(struct extract *x, int at, const char *name) {
    struct stat st;
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    int r = S_ISDIR(st.st_mode) ? fs_rmtree(at, name) : unlinkat(at, name, 0) < 0 ? -errno : 0;
    return r < 0 ? r : is_whiteout(&st);
}

/* --- metadata ----------------------------------------------------------------------------------
 */

static struct timespec time_of(const struct tar_entry *en) {
    return (struct timespec){en->mtime, en->mtime_ns};
}

static int owner(struct extract *x, int at, const char *name, int fd, const struct tar_entry *en) {
    if (x->o->no_chown)
        return 0;
    if (en->uid > 65535 || en->gid > 65535)
        return bad(x, en->path, "has an owner outside of 0 to 65535");
    uid_t u = (uid_t)en->uid;
    gid_t g = (gid_t)en->gid;
    int r = fd >= 0 ? fchown(fd, u, g) : fchownat(at, name, u, g, AT_SYMLINK_NOFOLLOW);
    return r < 0 ? failed(x, -errno, en->path) : 0;
}

/* Overlay's own attributes and those of the host's security modules are not a layer's business. */
static bool wanted_xattr(const char *name) {
    return (startswith(name, "user.") && !startswith(name, "user.overlay.")) ||
           streq(name, "security.capability") || startswith(name, "system.posix_acl_");
}

static int xattrs(struct extract *x, int fd, const struct tar_entry *en) {
    for (size_t i = 0; i < en->n_xattrs; i++) {
        const struct tar_xattr *a = &en->xattrs[i];
        if (!wanted_xattr(a->name) || fsetxattr(fd, a->name, a->value.p, a->value.n, 0) == 0)
            continue;
        /* A capability that got lost would show late and far away. */
        if (errno != ENOTSUP && !(x->o->no_chown && errno == EPERM))
            return failed(x, -errno, en->path);
    }
    return 0;
}

/* --- the kinds of entries ----------------------------------------------------------------------
 */

static int write_data(struct extract *x, int fd, const struct tar_entry *en) {
    uint64_t done = 0;
    for (;;) {
        ssize_t k = tar_data(x->t, x->chunk, CHUNK);
        if (k < 0)
            return err_set(x->e, ERR_NET, (int)k, "the layer is damaged at %.200s", en->path);
        if (k == 0)
            break;
        done += (uint64_t)k;
        x->st.bytes += (uint64_t)k;
        if (x->o->max_bytes && x->st.bytes > x->o->max_bytes)
            return err_set(x->e, ERR_LIMIT, -EFBIG, "the layer is larger than %llu bytes",
                           (unsigned long long)x->o->max_bytes);
        int r = fd_write_all(fd, x->chunk, (size_t)k);
        if (r < 0)
            return failed(x, r, en->path);
    }
    return done == en->size
               ? 0
               : err_set(x->e, ERR_NET, -EBADMSG, "the layer is damaged at %.200s", en->path);
}

static int make_file(struct extract *x, int at, const char *name, const struct tar_entry *en) {
    struct timespec t[2] = {time_of(en), time_of(en)};
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    _cleanup_close_ int fd = openat(at, name, flags, 0600);
    if (fd < 0 && errno == EEXIST) {
        int r = make_room(x, at, name);
        if (r < 0)
            return failed(x, r, en->path);
        fd = openat(at, name, flags, 0600);
    }
    if (fd < 0)
        return failed(x, -errno, en->path);
    int r = write_data(x, fd, en);
    if (r == 0)
        r = owner(x, -1, NULL, fd, en);
    if (r == 0)
        r = xattrs(x, fd, en);
    /* After the owner, whose change takes set-uid bits away. */
    if (r == 0 && (fchmod(fd, en->mode & 07777) < 0 || futimens(fd, t) < 0))
        r = failed(x, -errno, en->path);
    return r;
}

/* The same folder again and again is one entry as long as nothing comes between. */
static int keep_time(struct extract *x, const char *path, const struct tar_entry *en) {
    if (x->n_dirs && streq(x->dirs[x->n_dirs - 1].path, path)) {
        x->dirs[x->n_dirs - 1].t = time_of(en);
        return 0;
    }
    x->dirs_bytes += strlen(path) + 1 + sizeof *x->dirs;
    if (x->dirs_bytes > DIRS_MEMORY)
        return bad(x, path, "is one of too many folders");
    GROW(x->dirs, x->cap_dirs, x->n_dirs + 1);
    x->dirs[x->n_dirs++] = (struct dir_time){xstrdup(path), time_of(en)};
    return 0;
}

static int make_dir(struct extract *x, int at, const char *name, const char *path,
                    const struct tar_entry *en) {
    int was_whiteout = 0;
    struct stat st;
    if (mkdirat(at, name, 0700) < 0) {
        if (errno != EEXIST || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return failed(x, -errno, en->path);
        if (!S_ISDIR(st.st_mode)) {
            was_whiteout = make_room(x, at, name);
            if (was_whiteout < 0 || mkdirat(at, name, 0700) < 0)
                return failed(x, was_whiteout < 0 ? was_whiteout : -errno, en->path);
        }
    }
    _cleanup_close_ int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return failed(x, -errno, en->path);
    int r = owner(x, -1, NULL, fd, en);
    if (r == 0)
        r = xattrs(x, fd, en);
    if (r < 0)
        return r;
    if (fchmod(fd, en->mode & 07777) < 0)
        return failed(x, -errno, en->path);
    if (was_whiteout && (r = set_opaque(fd)) < 0)
        return failed(x, r, en->path);
    return keep_time(x, path, en);
}

static int make_symlink(struct extract *x, int at, const char *name, const struct tar_entry *en) {
    struct timespec t[2] = {time_of(en), time_of(en)};
    int r = make_room(x, at, name);
    if (r < 0)
        return failed(x, r, en->path);
    if (!en->link[0])
        return bad(x, en->path, "is a link to nothing");
    if (symlinkat(en->link, at, name) < 0)
        return failed(x, -errno, en->path);
    r = owner(x, at, name, -1, en);
    if (r == 0 && utimensat(at, name, t, AT_SYMLINK_NOFOLLOW) < 0)
        r = failed(x, -errno, en->path);
    return r;
}

/* A further name says the same of the file as the first one did, as a rule; else the last one counts, as
 * it does for docker and buildah. */
static int adjust_linked(struct extract *x, int at, const char *name, const struct tar_entry *en, const struct stat *st) {
    bool owned = x->o->no_chown || (st->st_uid == en->uid && st->st_gid == en->gid);
    struct timespec t[2] = {time_of(en), time_of(en)};
    if (owned && (st->st_mode & 07777) == (en->mode & 07777))
        return 0;
    _cleanup_close_ int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return failed(x, -errno, en->path);
    int r = owned ? 0 : owner(x, -1, NULL, fd, en);
    if (r == 0 && !owned) /* the change took them */
        r = xattrs(x, fd, en);
    if (r == 0 && (fchmod(fd, en->mode & 07777) < 0 || futimens(fd, t) < 0))
        r = failed(x, -errno, en->path);
    return r;
}

static int make_hardlink(struct extract *x, int at, const char *name, const char *path,
                         const struct tar_entry *en) {
    _cleanup_buf_ struct buf target = BUF_MAX(8192);
    struct stat st;
    int r = clean(x, en->link, &target);
    if (r < 0)
        return r;
    if (!target.n)
        return bad(x, en->path, "is a link to the root");
    if (streq(buf_str(&target), path))
        return 0; /* to itself: seen in the wild */
    const char *tname = path_base(buf_str(&target));
    _cleanup_free_ char *dir = path_dir(buf_str(&target));
    _cleanup_close_ int to = fs_open_in(x->root, dir, O_PATH | O_DIRECTORY, 0, 0);
    if (to < 0 || fstatat(to, tname, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return bad(x, en->path, "is a link to a file that is not in the layer");
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return bad(x, en->path, "is a link to something that is no file");
    r = make_room(x, at, name);
    if (r < 0)
        return failed(x, r, en->path);
    if (linkat(to, tname, at, name, 0) < 0)
        return errno == ENOENT ? bad(x, en->path, "is a link to a file that is not in the layer")
                               : failed(x, -errno, en->path);
    return S_ISREG(st.st_mode) ? adjust_linked(x, at, name, en, &st) : 0;
}

static int make_fifo(struct extract *x, int at, const char *name, const struct tar_entry *en) {
    struct timespec t[2] = {time_of(en), time_of(en)};
    int r = make_room(x, at, name);
    if (r < 0 || mknodat(at, name, S_IFIFO | 0600, 0) < 0)
        return failed(x, r < 0 ? r : -errno, en->path);
    r = owner(x, at, name, -1, en);
    if (r == 0 && (fchmodat(at, name, en->mode & 07777, 0) < 0 ||
                   utimensat(at, name, t, AT_SYMLINK_NOFOLLOW) < 0))
        r = failed(x, -errno, en->path);
    return r;
}

/* --- whiteouts ---------------------------------------------------------------------------------
 */

static int opaque_dir(struct extract *x, int at, const char *name, const char *path) {
    _cleanup_close_ int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? -errno : set_opaque(fd);
    return r < 0 ? failed(x, r, path) : 0;
}

/* ".wh.NAME" hides NAME of the layers below, never what this layer has itself: a folder of this
 * layer under the hidden name becomes opaque instead. */
static int whiteout(struct extract *x, int at, const char *name, const char *path) {
    struct stat st;
    if (streq(name, "") || streq(name, ".") || streq(name, ".."))
        return bad(x, path, "hides no file");
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return S_ISDIR(st.st_mode) ? opaque_dir(x, at, name, path) : 0;
    if (mknodat(at, name, S_IFCHR, makedev(0, 0)) < 0)
        return failed(x, -errno, path);
    return 0;
}

/* --- all together ------------------------------------------------------------------------------
 */

static int root_entry(struct extract *x, const struct tar_entry *en) {
    if (en->type != TAR_DIR)
        return bad(x, en->path, "is the root and no folder");
    _cleanup_close_ int fd = openat(x->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return failed(x, -errno, "/");
    int r = owner(x, -1, NULL, fd, en);
    if (r == 0 && fchmod(fd, en->mode & 07777) < 0)
        r = failed(x, -errno, "/");
    return r < 0 ? r : keep_time(x, ".", en);
}

static int entry(struct extract *x, const struct tar_entry *en) {
    _cleanup_buf_ struct buf b = BUF_MAX(8192);
    const char *name, *hidden;
    int r = clean(x, en->path, &b);
    if (r < 0)
        return r;
    if (!b.n)
        return root_entry(x, en);
    const char *path = buf_str(&b);
    int at = parent_of(x, path, &name);
    if (at < 0)
        return at == -ENOTDIR || at == -ELOOP || at == -ENOENT
                   ? bad(x, en->path, "lies in something that is no folder")
                   : failed(x, at, en->path);
    if (streq(name, ".wh..wh..opq")) {
        r = opaque_dir(x, at, ".", en->path);
    } else if (startswith(name, ".wh..wh.")) {
        r = 0; /* notes of an old aufs */
    } else if ((hidden = startswith(name, ".wh."))) {
        r = whiteout(x, at, hidden, en->path);
    } else {
        x->st.files++;
        switch (en->type) {
        case TAR_FILE:
            r = make_file(x, at, name, en);
            break;
        case TAR_DIR:
            r = make_dir(x, at, name, path, en);
            break;
        case TAR_SYMLINK:
            r = make_symlink(x, at, name, en);
            break;
        case TAR_HARDLINK:
            r = make_hardlink(x, at, name, path, en);
            break;
        case TAR_FIFO:
            r = make_fifo(x, at, name, en);
            break;
        case TAR_CHAR:
        case TAR_BLOCK:
            x->st.files--;
            x->st.devices++;
            break;
        }
    }
    return r;
}

static void finish_dirs(struct extract *x) {
    for (size_t i = x->n_dirs; i-- > 0;) {
        struct timespec t[2] = {x->dirs[i].t, x->dirs[i].t};
        /* One that was replaced later by something else is passed over. */
        int fd = fs_open_in(x->root, x->dirs[i].path, O_RDONLY | O_DIRECTORY, 0,
                            RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
        if (fd >= 0) {
            (void)futimens(fd, t);
            close(fd);
        }
        free(x->dirs[i].path);
    }
    free(x->dirs);
}

int layer_extract(struct tar_reader *t, int root, const struct extract_options *o,
                  struct extract_stats *ret, struct err *e) {
    struct extract x = {.t = t, .root = root, .o = o, .e = e, .parent = -1};
    const struct tar_entry *en;
    int r;
    x.chunk = xmalloc(CHUNK);
    while ((r = tar_next(t, &en, e)) == 1) {
        r = entry(&x, en);
        if (r < 0)
            break;
        if (en->type != TAR_FILE && en->type != TAR_HARDLINK && en->type != TAR_DIR)
            forget_parent(&x);
    }
    forget_parent(&x);
    finish_dirs(&x);
    free(x.chunk);
    if (r == 0 && ret)
        *ret = x.st;
    return r;
}
