/* Paths are walked by name: the part that is resolved already is canonical (no symlinks in it), so
 * each look-up is one openat2 from a root that refuses symlinks. The upper is asked first. */
#include "build/view.h"
#include "core/fs.h"

#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#define MAX_LINKS 40
#define ID_LIMIT 65535u /* what the mapping of the store has */
#define PLAIN (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

/* --- layers -------------------------------------------------------------------------------- */

int view_layer_path(const char *id, struct buf *b) {
    const char *tree = startswith(id, "tree:"), *snap = startswith(id, "snap:");
    const char *name = tree ? tree : snap ? snap : id;
    if (!*name || strspn(name, "0123456789abcdef") != strlen(name))
        return -EINVAL;
    buf_addf(b, "%s/%s/fs", tree ? "tree" : "snap", name);
    return 0;
}

static int fs_set(int fs, unsigned cmd, const char *key, const char *value) {
    return syscall(SYS_fsconfig, fs, cmd, key, value, 0) < 0 ? -errno : 0;
}

/* Through fsconfig, which has no limit on the whole ("lowerdir+": kernel 6.7). */
static int overlay_many(const char *const *paths, size_t n, const char *at) {
    _cleanup_close_ int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    int r = fs < 0 ? -errno : 0;
    for (size_t i = 0; i < n && r == 0; i++)
        r = fs_set(fs, FSCONFIG_SET_STRING, "lowerdir+", paths[i]);
    if (r == 0)
        r = fs_set(fs, FSCONFIG_SET_FLAG, "userxattr", NULL);
    if (r == 0)
        r = fs_set(fs, FSCONFIG_CMD_CREATE, NULL, NULL);
    if (r < 0)
        return r;
    _cleanup_close_ int m = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
    if (m < 0 || syscall(SYS_move_mount, m, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return -errno;
    return 0;
}

int view_mount(const char *const *ids, size_t n, const char *at, struct err *e) {
    _cleanup_strv_ struct strv paths = {0};
    _cleanup_buf_ struct buf opt = BUF_MAX(1u << 20);
    buf_adds(&opt, "lowerdir=");
    for (size_t i = 0; i < n; i++) {
        _cleanup_buf_ struct buf p = BUF_SMALL;
        if (view_layer_path(ids[i], &p) < 0)
            return err_set(e, ERR_INTERNAL, -EINVAL, "not a layer: %s", ids[i]);
        strv_add(&paths, buf_str(&p));
        buf_addf(&opt, "%s%s", i ? ":" : "", buf_str(&p));
    }
    buf_adds(&opt, ",userxattr");
    int r;
    if (opt.n >= 4000)
        r = overlay_many((const char *const *)paths.v, n, at);
    else
        r = mount("overlay", at, "overlay", MS_RDONLY, buf_str(&opt)) < 0 ? -errno : 0;
    if (r < 0)
        return err_errno(e, r, "cannot mount %zu layers", n);
    int fd = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, -errno, "cannot open %s", at) : fd;
}

/* --- look-up -------------------------------------------------------------------------------- */

static int stat_in(int root, const char *canon, struct stat *ret) {
    if (root < 0)
        return -ENOENT;
    int fd = fs_open_in(root, canon, O_PATH | O_NOFOLLOW, 0, PLAIN);
    if (fd < 0)
        return fd;
    int r = fstat(fd, ret) < 0 ? -errno : 0;
    close(fd);
    return r;
}

int view_stat(const struct view *v, const char *canon, struct stat *ret, bool *ret_in_up) {
    int r = stat_in(v->up, canon, ret);
    if (ret_in_up)
        *ret_in_up = r == 0;
    if (r == 0)
        return 0;
    /* A file above hides the folder of the same name below. */
    if (r == -ENOTDIR || r == -ELOOP)
        return -ENOTDIR;
    if (r != -ENOENT)
        return r;
    r = stat_in(v->lo, canon, ret);
    if (r == 0 && S_ISCHR(ret->st_mode) && ret->st_rdev == 0)
        return -ENOENT; /* a whiteout, seen in a single layer */
    return r == -ELOOP ? -ENOTDIR : r;
}

static int link_read(const struct view *v, const char *canon, bool in_up, char *out, size_t size) {
    _cleanup_close_ int fd = fs_open_in(in_up ? v->up : v->lo, canon, O_PATH | O_NOFOLLOW, 0, PLAIN);
    if (fd < 0)
        return fd;
    ssize_t n = readlinkat(fd, "", out, size - 1);
    if (n < 0)
        return -errno;
    out[n] = 0;
    return 0;
}

static void pop(struct buf *b) {
    ssize_t at = sv_rchr(buf_sv(b), '/');
    size_t keep = at < 0 ? 0 : (size_t)at;
    buf_cut(b, keep, b->n - keep);
}

int view_resolve(const struct view *v, const char *path, bool follow_last, char **ret) {
    _cleanup_buf_ struct buf done = BUF_MAX(16384), todo = BUF_MAX(65536);
    unsigned links = 0;
    bool missing = false;
    buf_adds(&todo, path);
    while (todo.n) {
        size_t n = strcspn(buf_str(&todo), "/");
        char name[256];
        if (n > 255)
            return -ENAMETOOLONG;
        memcpy(name, todo.p, n);
        name[n] = 0;
        size_t skip = n;
        while (skip < todo.n && todo.p[skip] == '/')
            skip++;
        buf_cut(&todo, 0, skip);
        if (!n || streq(name, "."))
            continue;
        if (streq(name, "..")) {
            pop(&done);
            missing = false;
            continue;
        }
        size_t before = done.n;
        buf_addf(&done, "%s%s", done.n ? "/" : "", name);
        if (!buf_ok(&done))
            return -ENAMETOOLONG;
        struct stat st;
        bool in_up;
        if (missing)
            continue;
        int r = view_stat(v, buf_str(&done), &st, &in_up);
        if (r == -ENOENT) {
            missing = true;
            continue;
        }
        if (r < 0)
            return r;
        if (!S_ISLNK(st.st_mode) || (!todo.n && !follow_last))
            continue;
        if (++links > MAX_LINKS)
            return -ELOOP;
        char target[4096];
        r = link_read(v, buf_str(&done), in_up, target, sizeof target);
        if (r < 0)
            return r;
        if (target[0] == '/')
            buf_reset(&done);
        else
            buf_cut(&done, before, done.n - before);
        _cleanup_buf_ struct buf next = BUF_MAX(65536);
        buf_addf(&next, "%s/%s", target, buf_str(&todo));
        if (!buf_ok(&next))
            return -ENAMETOOLONG;
        buf_reset(&todo);
        buf_addsv(&todo, buf_sv(&next));
        while (todo.n && todo.p[todo.n - 1] == '/')
            buf_cut(&todo, todo.n - 1, 1);
    }
    *ret = buf_take(&done);
    return 0;
}

/* --- making folders ------------------------------------------------------------------------- */

void view_copy_xattrs(int from, int to) {
    char names[16384], value[65536], path[2][64];
    snprintf(path[0], sizeof path[0], "/proc/self/fd/%d", from);
    snprintf(path[1], sizeof path[1], "/proc/self/fd/%d", to);
    ssize_t n = listxattr(path[0], names, sizeof names);
    for (ssize_t i = 0; i < n; i += (ssize_t)strlen(names + i) + 1) {
        const char *k = names + i;
        bool wanted = streq(k, "security.capability") ||
                      (startswith(k, "user.") && !startswith(k, "user.overlay."));
        ssize_t len = wanted ? getxattr(path[0], k, value, sizeof value) : -1;
        if (len >= 0)
            (void)setxattr(path[1], k, value, (size_t)len, 0); /* best effort, as docker does it */
    }
}

static void times_add(struct view_times *t, const char *path, struct timespec at, bool made) {
    GROW(t->items, t->cap, t->n + 1);
    t->items[t->n].path = xstrdup(path);
    t->items[t->n].made = made;
    t->items[t->n++].at = at;
}

void view_times_apply(const struct view *v, struct view_times *t, struct timespec made) {
    for (size_t i = t->n; i-- > 0;) {
        int fd = fs_open_in(v->up, t->items[i].path, O_RDONLY | O_DIRECTORY, 0, PLAIN);
        if (fd >= 0) {
            struct timespec at = t->items[i].made ? made : t->items[i].at;
            struct timespec ts[2] = {at, at};
            (void)futimens(fd, ts);
            close(fd);
        }
        free(t->items[i].path);
    }
    free(t->items);
    *t = (struct view_times){0};
}

static int mkdir_one(const struct view *v, const char *canon, const struct view_owner *o,
                     struct view_times *t, struct err *e) {
    struct stat st;
    bool in_up;
    int r = view_stat(v, canon, &st, &in_up);
    if (r == 0 && !S_ISDIR(st.st_mode))
        return err_set(e, ERR_FAILED, -ENOTDIR, "/%s is not a folder", canon);
    if (r < 0 && r != -ENOENT)
        return err_errno(e, r, "/%s", canon);
    if (r == 0 && in_up)
        return 0;
    bool below = r == 0;
    const char *name = path_base(canon);
    _cleanup_free_ char *dir = path_dir(canon);
    _cleanup_close_ int parent = fs_open_in(v->up, streq(dir, ".") || streq(dir, "/") ? "." : dir,
                                            O_PATH | O_DIRECTORY, 0, PLAIN);
    if (parent < 0)
        return err_errno(e, parent, "/%s", canon);
    if (mkdirat(parent, name, 0700) < 0)
        return err_errno(e, -errno, "make /%s", canon);
    _cleanup_close_ int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, -errno, "/%s", canon);
    if (below) {
        _cleanup_close_ int from = fs_open_in(v->lo, canon, O_RDONLY | O_DIRECTORY, 0, PLAIN);
        if (from >= 0)
            view_copy_xattrs(from, fd);
    }
    if (fchown(fd, below ? st.st_uid : o->uid, below ? st.st_gid : o->gid) < 0 ||
        fchmod(fd, below ? st.st_mode & 07777 : 0755) < 0)
        return err_errno(e, -errno, "owner of /%s", canon);
    times_add(t, canon, st.st_mtim, !below);
    return 0;
}

int view_mkdirs(const struct view *v, const char *canon, const struct view_owner *o,
                struct view_times *t, struct err *e) {
    _cleanup_buf_ struct buf at = BUF_MAX(16384);
    struct sv rest = sv_from(canon), part;
    while (sv_split(&rest, '/', &part)) {
        if (!part.n)
            continue;
        buf_addf(&at, "%s" SV_FMT, at.n ? "/" : "", SV_ARG(part));
        int r = mkdir_one(v, buf_str(&at), o, t, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* --- owners --------------------------------------------------------------------------------- */

/* Field `want` (an id) of the line of `file` whose name is `name`. */
static int account_find(const struct view *v, const char *file, struct sv name, size_t want,
                        uint32_t *ret) {
    _cleanup_buf_ struct buf text = BUF_MAX(4u << 20);
    _cleanup_free_ char *canon = NULL;
    struct stat st;
    bool in_up;
    int r = view_resolve(v, file, true, &canon);
    if (r == 0)
        r = view_stat(v, canon, &st, &in_up);
    if (r < 0)
        return r;
    if (!S_ISREG(st.st_mode))
        return -ENOENT;
    _cleanup_close_ int fd = fs_open_in(in_up ? v->up : v->lo, canon, O_RDONLY | O_NONBLOCK, 0, PLAIN);
    r = fd < 0 ? fd : fs_read_fd(fd, &text);
    if (r < 0)
        return r;
    struct sv rest = buf_sv(&text), line;
    while (sv_line(&rest, &line)) {
        struct sv f[4] = {{0}}, part;
        size_t n = 0;
        while (n < 4 && sv_split(&line, ':', &part))
            f[n++] = part;
        uint64_t id;
        if (n > want && sv_eq(f[0], name) && sv_u64(f[want], UINT32_MAX - 1, &id) == 0) {
            *ret = (uint32_t)id;
            return 0;
        }
    }
    return -ENOENT;
}

int view_owner_parse(const struct view *v, const char *text, uint32_t *ret_uid, uint32_t *ret_gid,
                     struct err *e) {
    struct sv user = sv_from(text), group = SV_NULL;
    ssize_t at = sv_chr(user, ':');
    if (at >= 0) {
        group = sv_sub(user, (size_t)at + 1, user.n);
        user.n = (size_t)at;
    }
    uint64_t n;
    uint32_t uid = 0, gid = 0;
    if (user.n && sv_u64(user, ID_LIMIT, &n) == 0) {
        uid = gid = (uint32_t)n;
    } else if (user.n) {
        if (account_find(v, "etc/passwd", user, 2, &uid) < 0)
            return err_set(e, ERR_USER, -ENOENT, "no user \"" SV_FMT "\" in the image", SV_ARG(user));
        /* A name without a group means the user's own group. */
        if (account_find(v, "etc/passwd", user, 3, &gid) < 0)
            gid = uid;
    }
    if (group.n && sv_u64(group, ID_LIMIT, &n) == 0) {
        gid = (uint32_t)n;
    } else if (group.n && account_find(v, "etc/group", group, 2, &gid) < 0) {
        return err_set(e, ERR_USER, -ENOENT, "no group \"" SV_FMT "\" in the image", SV_ARG(group));
    }
    *ret_uid = uid;
    *ret_gid = gid;
    return 0;
}
