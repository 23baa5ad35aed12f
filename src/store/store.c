/* Opening a store, its mapping, its keeper, locks, and the two things that need the mapping for
 * ordinary users: folders owned by the namespace's root, and removing what boxes left. */
#include "store/internal.h"
#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"
#include "store/ns.h"

#include <sys/file.h>

bool id_valid(const char *id) {
    return strlen(id) == 32 && strspn(id, "0123456789abcdef") == 32;
}

static int open_dir(struct store *s, const char *name, mode_t mode, int *ret, struct err *e) {
    /* The mode whatever the umask. */
    if (mkdirat(s->dir, name, mode) == 0 ? fchmodat(s->dir, name, mode, 0) < 0 : errno != EEXIST)
        return err_errno(e, -errno, "create %s/%s", s->path, name);
    *ret = openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret < 0 ? err_errno(e, -errno, "open %s/%s", s->path, name) : 0;
}

static int open_dirs(struct store *s, struct err *e) {
    int sub = -1;
    int r = fs_mkdirs(AT_FDCWD, s->path, 0700);
    if (r < 0)
        return err_errno(e, r, "create %s", s->path);
    s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (s->dir < 0 || fstat(s->dir, &st) < 0)
        return err_errno(e, -errno, "open %s", s->path);
    if (st.st_uid != geteuid()) {
        err_set(e, ERR_ENV, -EPERM, "%s belongs to another user", s->path);
        return err_hint(e, -EPERM, "set SLIPWAY_STATE to a folder of your own");
    }
    /* Nobody else may pass: what lies below is readable for the namespace's root. */
    if ((st.st_mode & 077) && fchmod(s->dir, 0700) < 0)
        return err_errno(e, -errno, "chmod %s", s->path);
    if ((r = open_dir(s, "blobs", 0700, &s->blobs, e)) < 0 ||
        (r = open_dir(s, "snap", 0711, &s->snap, e)) < 0 ||
        (r = open_dir(s, "tree", 0711, &s->tree, e)) < 0 ||
        (r = open_dir(s, "scratch", 0711, &s->scratch, e)) < 0 ||
        (r = open_dir(s, "lease", 0700, &s->lease, e)) < 0 ||
        (r = open_dir(s, "lock", 0700, &s->locks, e)) < 0)
        return r;
    static const char *const subs[] = {"blobs/sha256", "blobs/tmp", "blobs/partial"};
    for (size_t i = 0; i < ELEMENTS(subs); i++) {
        if ((r = open_dir(s, subs[i], 0700, &sub, e)) < 0)
            return r;
        close(sub);
    }
    s->gc = openat(s->dir, "gc.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return s->gc < 0 ? err_errno(e, -errno, "open %s/gc.lock", s->path) : 0;
}

static void read_boot(struct store *s) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    if (fs_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &b, NULL) == 0)
        snprintf(s->boot, sizeof s->boot, SV_FMT, SV_ARG(sv_trim(buf_sv(&b))));
    else
        snprintf(s->boot, sizeof s->boot, "unknown");
}

int store_open(struct store **ret, const struct store_options *o, struct err *e) {
    struct store *s = xcalloc(1, sizeof *s);
    s->dir = s->blobs = s->snap = s->tree = s->scratch = s->lease = s->locks = s->gc = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->gc_mutex, NULL);
    pthread_mutex_init(&s->db_lock, NULL);
    s->path = o && o->path ? path_clean(o->path) : dir_state();
    s->allow_single = o && o->allow_single_id;
    read_boot(s);
    int r = open_dirs(s, e);
    if (r == 0) {
        /* One process makes the schema. */
        _cleanup_close_ int fd = lock_file(s->dir, "open.lock", true, true);
        r = db_open(s, e);
    }
    if (r < 0) {
        store_close(s);
        return err_wrap(e, r, "store");
    }
    *ret = s;
    return 0;
}

void store_close(struct store *s) {
    if (!s)
        return;
    db_close(s);
    tree_indexes_free(s);
    keeper_free(s->keeper);
    int *fds[] = {&s->dir,     &s->blobs, &s->snap,  &s->tree,
                  &s->scratch, &s->lease, &s->locks, &s->gc};
    for (size_t i = 0; i < ELEMENTS(fds); i++)
        fd_close(*fds[i]);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->gc_mutex);
    pthread_mutex_destroy(&s->db_lock);
    free(s->path);
    free(s);
}

int store_dirfd(const struct store *s) {
    return s->dir;
}

const char *store_path(const struct store *s) {
    return s->path;
}

/* --- mapping and keeper ----------------------------------------------------------------------- */

/* The mapping is written down when the store first uses one: "uid inside outside count" lines. A
 * store whose files belong to other ids than the user has now is not used with the new ones. */
static void map_format(const struct idmap *m, struct buf *b) {
    buf_addf(b, "%s\n", m->single ? "single" : m->root ? "root" : "user");
    for (size_t i = 0; i < m->n_uid; i++)
        buf_addf(b, "uid %u %u %u\n", m->uid[i].inside, m->uid[i].outside, m->uid[i].count);
    for (size_t i = 0; i < m->n_gid; i++)
        buf_addf(b, "gid %u %u %u\n", m->gid[i].inside, m->gid[i].outside, m->gid[i].count);
}

static bool map_parse(struct sv text, struct idmap *m) {
    struct sv line;
    memset(m, 0, sizeof *m);
    if (!sv_line(&text, &line))
        return false;
    m->single = sv_eqs(line, "single");
    m->root = sv_eqs(line, "root");
    while (sv_line(&text, &line)) {
        char one[80], kind[4];
        struct idrange rg;
        if (!line.n)
            continue;
        snprintf(one, sizeof one, SV_FMT, SV_ARG(sv_sub(line, 0, 79)));
        if (sscanf(one, "%3s %u %u %u", kind, &rg.inside, &rg.outside, &rg.count) != 4)
            return false;
        bool u = streq(kind, "uid");
        size_t *n = u ? &m->n_uid : &m->n_gid;
        if (*n == ELEMENTS(m->uid))
            return false;
        (u ? m->uid : m->gid)[(*n)++] = rg;
    }
    return m->n_uid && m->n_gid;
}

static int map_load(struct store *s, struct err *e) {
    _cleanup_buf_ struct buf was = BUF_SMALL, now = BUF_SMALL;
    struct idmap found, old;
    int have = fs_read(s->dir, "idmap", &was, NULL);
    bool old_ok = have == 0 && map_parse(buf_sv(&was), &old);
    /* Root may map what it likes: the store's own word stands. */
    if (old_ok && old.root && geteuid() == 0) {
        s->map = old;
        return 0;
    }
    int r = idmap_find(&found, s->allow_single, e);
    if (r < 0)
        return r;
    map_format(&found, &now);
    if (old_ok && !sv_eq(buf_sv(&was), buf_sv(&now))) {
        err_set(e, ERR_ENV, -EPERM,
                "the files in %s belong to other subordinate ids than yours now", s->path);
        return err_hint(e, -EPERM,
                        "put the old ranges back into /etc/subuid and /etc/subgid, or set "
                        "SLIPWAY_STATE to a new folder");
    }
    if (!old_ok) {
        r = fs_write(s->dir, "idmap", buf_sv(&now), 0600, true, e);
        if (r < 0)
            return r;
    }
    s->map = found;
    return 0;
}

static int map_locked(struct store *s, struct err *e) {
    if (s->have_map)
        return 0;
    int r = map_load(s, e);
    s->have_map = r == 0;
    return r;
}

int store_map(struct store *s, const struct idmap **ret, struct err *e) {
    MUTEX_SCOPE(&s->lock);
    int r = map_locked(s, e);
    if (r == 0)
        *ret = &s->map;
    return r;
}

int store_keeper(struct store *s, struct keeper **ret, struct err *e) {
    MUTEX_SCOPE(&s->lock);
    int r = map_locked(s, e);
    if (r == 0 && !s->keeper)
        r = keeper_new(&s->keeper, &s->map, e);
    if (r == 0)
        *ret = s->keeper;
    return r;
}

int store_mkdir_mapped(struct store *s, int dirfd, const char *name, const char *const *subs,
                       struct err *e) {
    const struct idmap *m;
    int r = store_map(s, &m, e);
    if (r < 0)
        return r;
    if (mkdirat(dirfd, name, 0711) < 0)
        return err_errno(e, -errno, "create a folder in %s", s->path);
    _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0711) < 0)
        return err_errno(e, -errno, "create a folder in %s", s->path);
    if (!m->root && !m->single) {
        struct keeper *k;
        _cleanup_strv_ struct strv argv = {0};
        r = store_keeper(s, &k, e);
        strv_add(&argv, "store-mkdir");
        strv_extend(&argv, subs);
        return r < 0 ? r : ns_run(k, (const char *const *)argv.v, &fd, 1, NULL, e);
    }
    for (; *subs; subs++)
        if (mkdirat(fd, *subs, 0755) < 0 || fchmodat(fd, *subs, 0755, 0) < 0 ||
            (m->root && fchownat(fd, *subs, idmap_uid_out(m, 0), idmap_gid_out(m, 0), 0) < 0))
            return err_errno(e, -errno, "create a folder in %s", s->path);
    return 0;
}

int store_rmtree(struct store *s, int dirfd, const char *name) {
    const char *const argv[] = {"store-rm", name, NULL};
    struct keeper *k;
    int r = 0;
    /* More than once: a box's supervisor may be removing the same. */
    for (int turn = 0; turn < 3; turn++) {
        r = fs_rmtree(dirfd, name);
        if (r >= 0)
            return r;
        r = store_keeper(s, &k, NULL);
        if (r == 0)
            r = ns_run(k, argv, &dirfd, 1, NULL, NULL);
        if (r >= 0)
            return r;
    }
    return r;
}

/* --- helper operations ------------------------------------------------------------------------ */

int ns_store_mkdir(int argc, char **argv) {
    struct err e = {0};
    for (int i = 1; i < argc; i++)
        if (mkdirat(3, argv[i], 0755) < 0) {
            err_errno(&e, -errno, "create a folder in the store");
            return ns_fail(&e);
        }
    return 0;
}

int ns_store_rm(int argc, char **argv) {
    struct err e = {0};
    if (argc != 2 || strchr(argv[1], '/') || argv[1][0] == '.')
        return 2;
    int r = fs_rmtree(3, argv[1]);
    if (r < 0) {
        err_errno(&e, r, "remove %s", argv[1]);
        return ns_fail(&e);
    }
    return 0;
}

/* --- locks ------------------------------------------------------------------------------------ */

static int lock_fd(int fd, int op) {
    while (flock(fd, op) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static bool gc_is_mine(const struct store *s) {
    return s->gc_owned && pthread_equal(s->gc_owner, pthread_self());
}

/* One shared lock for all threads of the process: flock knows descriptions, not threads. */
int gc_enter(struct store *s) {
    if (gc_is_mine(s))
        return 0;
    MUTEX_SCOPE(&s->gc_mutex);
    int r = s->gc_users ? 0 : lock_fd(s->gc, LOCK_SH);
    if (r == 0)
        s->gc_users++;
    return r;
}

void gc_leave(struct store *s) {
    if (gc_is_mine(s))
        return;
    MUTEX_SCOPE(&s->gc_mutex);
    if (--s->gc_users == 0)
        (void)flock(s->gc, LOCK_UN);
}

int gc_exclusive(struct store *s) {
    int fd = lock_file(s->dir, "gc.lock", true, true);
    if (fd >= 0) {
        s->gc_owner = pthread_self();
        s->gc_owned = true;
    }
    return fd;
}

void gc_release(struct store *s, int fd) {
    s->gc_owned = false;
    close(fd);
}

int store_key_lock(struct store *s, const char *key) {
    uint8_t raw[32];
    char name[33];
    sha256_bytes(key, strlen(key), raw);
    for (size_t i = 0; i < 16; i++)
        snprintf(name + 2 * i, 3, "%02x", raw[i]);
    for (;;) {
        struct stat a, b;
        _cleanup_close_ int fd = lock_file(s->locks, name, true, true);
        if (fd < 0)
            return fd;
        /* A sweep may have removed the file while we waited for it. */
        if (fstat(fd, &a) == 0 && fstatat(s->locks, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
            a.st_ino == b.st_ino && a.st_dev == b.st_dev)
            return TAKE_FD(fd);
    }
}
