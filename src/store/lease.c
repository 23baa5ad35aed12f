/* A lease is a file under lease/ that its process holds flock'ed; each line of it names something
 * that the lease uses ("snap:ID", "tree:ID", "sha256:…", "cgroup:PATH"). The kernel drops the lock
 * with the process, so whoever gets it may clear up what the file names and remove it.
 *
 * The file is locked under a name with a dot before it gets its own, so that no sweep sees it
 * unlocked. A lock by a sweep of this same process conflicts too: flock belongs to the open file
 * description. */
#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"
#include "store/internal.h"

#include <dirent.h>
#include <sys/file.h>

struct lease {
    struct store *s;
    char id[33];
    int fd, scratch;
    pthread_mutex_t lock;
    struct map used; /* what was written already */
};

int lease_new(struct store *s, const char *what, struct lease **ret, struct err *e) {
    struct lease *l = xcalloc(1, sizeof *l);
    char tmp[40];
    l->s = s;
    l->scratch = -1;
    pthread_mutex_init(&l->lock, NULL);
    random_id(l->id, 16);
    snprintf(tmp, sizeof tmp, ".%s", l->id);
    int r = 0;
    l->fd = openat(s->lease, tmp, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (l->fd < 0)
        r = -errno;
    /* Waits: a sweep that has just seen the file may hold it for a moment, to find that it is
     * young. */
    while (r == 0 && flock(l->fd, LOCK_EX) < 0)
        r = errno == EINTR ? 0 : -errno;
    if (r == 0) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        buf_addf(&b, "# %d %llu %s\n", (int)getpid(), (unsigned long long)now_real(),
                 what ? what : "");
        r = fd_write_all(l->fd, buf_str(&b), b.n);
    }
    if (r == 0 && renameat(s->lease, tmp, s->lease, l->id) < 0)
        r = -errno;
    if (r < 0) {
        if (l->fd >= 0) {
            unlinkat(s->lease, tmp, 0);
            close(l->fd);
        }
        pthread_mutex_destroy(&l->lock);
        free(l);
        return err_errno(e, r, "cannot make a lease in %s", s->path);
    }
    *ret = l;
    return 0;
}

const char *lease_id(const struct lease *l) {
    return l->id;
}

char *lease_scratch_path(struct lease *l) {
    return xasprintf("%s/scratch/%s", l->s->path, l->id);
}

/* As root the folder belongs to the namespace's root, so that helpers can write there. */
int lease_scratch(struct lease *l, struct err *e) {
    MUTEX_SCOPE(&l->lock);
    if (l->scratch >= 0)
        return l->scratch;
    const struct idmap *m;
    int r = store_map(l->s, &m, e);
    if (r < 0)
        return r;
    if (mkdirat(l->s->scratch, l->id, 0711) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "create scratch in %s", l->s->path);
    _cleanup_close_ int fd = openat(l->s->scratch, l->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0711) < 0 ||
        (m->root && fchown(fd, idmap_uid_out(m, 0), idmap_gid_out(m, 0)) < 0))
        return err_errno(e, -errno, "create scratch in %s", l->s->path);
    l->scratch = TAKE_FD(fd);
    return l->scratch;
}

int lease_use(struct lease *l, const char *what) {
    if (strchr(what, '\n'))
        return -EINVAL;
    MUTEX_SCOPE(&l->lock);
    if (map_gets(&l->used, what))
        return 0;
    _cleanup_free_ char *line = xasprintf("%s\n", what);
    int r = gc_enter(l->s);
    if (r < 0)
        return r;
    r = fd_write_all(l->fd, line, strlen(line)); /* O_APPEND */
    gc_leave(l->s);
    if (r == 0)
        map_sets(&l->used, what, l);
    return r;
}

/* --- sweeping ----------------------------------------------------------------------------------
 */

/* Ends what lives in a cgroup of ours and removes it, with those below. */
static void drop_cgroup(const char *path, unsigned depth) {
    if (!strstr(path, "/slipway-") || strstr(path, "..") || !startswith(path, "/sys/fs/cgroup/"))
        return;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    int kill_fd = openat(fd, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (kill_fd >= 0) {
        (void)!write(kill_fd, "1", 1);
        close(kill_fd);
    }
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return;
    }
    for (struct dirent *en; depth < 8 && (en = readdir(d));)
        if (en->d_type == DT_DIR && en->d_name[0] != '.') {
            _cleanup_free_ char *sub = xasprintf("%s/%s", path, en->d_name);
            drop_cgroup(sub, depth + 1);
        }
    closedir(d);
    /* A killed process leaves its cgroup a moment later. */
    for (int i = 0; rmdir(path) < 0 && errno == EBUSY && i < 20; i++)
        usleep(5000);
}

static bool known(struct store *s, enum sql by_id, const char *id) {
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, by_id);
    if (!st)
        return true;
    bind_text(st, 1, id);
    int k = sqlite3_step(st);
    sqlite3_reset(st);
    return k != SQLITE_DONE; /* what cannot be looked up is not removed */
}

/* What a lease of which we hold the lock leaves: unpublished snapshots and trees, scratch. */
/* Negative when something is left. */
static int drop_left(struct store *s, const char *id, int fd) {
    _cleanup_buf_ struct buf b = BUF_MAX(16u << 20);
    struct sv rest, line;
    if (lseek(fd, 0, SEEK_SET) < 0 || fs_read_fd(fd, &b) < 0)
        buf_reset(&b);
    rest = buf_sv(&b);
    while (sv_line(&rest, &line)) {
        _cleanup_free_ char *l = sv_dup(line);
        const char *what;
        if ((what = startswith(l, "snap:")) && id_valid(what)) {
            if (!known(s, SQL_SNAP_BY_ID, what))
                store_rmtree(s, s->snap, what);
        } else if ((what = startswith(l, "tree:")) && id_valid(what)) {
            if (!known(s, SQL_TREE_BY_ID, what))
                store_rmtree(s, s->tree, what);
        } else if ((what = startswith(l, "cgroup:"))) {
            drop_cgroup(what, 0);
        }
    }
    return fs_exists(s->scratch, id) ? store_rmtree(s, s->scratch, id) : 0;
}

void lease_free(struct lease *l) {
    if (!l)
        return;
    l->scratch = fd_close(l->scratch);
    if (drop_left(l->s, l->id, l->fd) >= 0)
        unlinkat(l->s->lease, l->id, 0); /* else the next sweep finds it dead */
    close(l->fd);
    map_done(&l->used);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void lease_freep(struct lease **l) {
    lease_free(*l);
}

typedef void (*lease_fn)(struct store *s, const char *id, int fd, bool dead, void *arg);

/* Every lease; the dead ones are held locked during the call and removed after it. */
static int each_lease(struct store *s, lease_fn fn, void *arg) {
    int dup_fd = openat(s->lease, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dup_fd < 0 ? NULL : fdopendir(dup_fd);
    if (!d) {
        int r = -errno;
        fd_close(dup_fd);
        return r;
    }
    for (struct dirent *en; (en = readdir(d));) {
        const char *id = en->d_name + (en->d_name[0] == '.');
        struct stat a, b;
        if (strlen(id) != 16 || strspn(id, "0123456789abcdef") != 16)
            continue;
        _cleanup_close_ int fd = openat(s->lease, en->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &a) < 0)
            continue;
        bool dead = flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (dead && fstatat(s->lease, en->d_name, &b, AT_SYMLINK_NOFOLLOW) < 0)
            continue; /* ended, or got its name, meanwhile */
        if (dead && en->d_name[0] == '.' && now_real() / 1000000000 < (uint64_t)a.st_mtime + 60)
            continue; /* may be about to be locked */
        if (en->d_name[0] != '.')
            fn(s, id, fd, dead, arg);
        if (dead)
            unlinkat(s->lease, en->d_name, 0);
    }
    closedir(d);
    return 0;
}

struct sweep {
    lease_dead_fn fn;
    void *arg;
};

static void sweep_one(struct store *s, const char *id, int fd, bool dead, void *arg) {
    struct sweep *sw = arg;
    if (!dead)
        return;
    if (sw->fn)
        sw->fn(id, sw->arg);
    drop_left(s, id, fd);
}

static void sweep_locks(struct store *s) {
    int dup_fd = openat(s->locks, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dup_fd < 0 ? NULL : fdopendir(dup_fd);
    if (!d) {
        fd_close(dup_fd);
        return;
    }
    for (struct dirent *en; (en = readdir(d));) {
        if (en->d_name[0] == '.')
            continue;
        _cleanup_close_ int fd = lock_file(s->locks, en->d_name, true, false);
        if (fd >= 0)
            unlinkat(s->locks, en->d_name, 0);
    }
    closedir(d);
}

/* Partial and temporary blobs that nobody writes any more. */
static void sweep_blobs(struct store *s, const char *name, unsigned max_age_s) {
    int fd = openat(s->blobs, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        fd_close(fd);
        return;
    }
    for (struct dirent *en; (en = readdir(d));) {
        struct stat st;
        if (en->d_name[0] == '.' || fstatat(dirfd(d), en->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            (uint64_t)st.st_mtime + max_age_s > now_real() / 1000000000)
            continue;
        _cleanup_close_ int lock = openat(dirfd(d), en->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
            unlinkat(dirfd(d), en->d_name, 0);
    }
    closedir(d);
}

int store_sweep(struct store *s, lease_dead_fn fn, void *arg, struct err *e) {
    struct sweep sw = {fn, arg};
    int r = each_lease(s, sweep_one, &sw);
    if (r < 0)
        return err_errno(e, r, "sweep %s", s->path);
    sweep_locks(s);
    sweep_blobs(s, "tmp", 3600);
    sweep_blobs(s, "partial", 7 * 86400);
    snaps_sync_old(s);
    trees_drop_old(s);
    return 0;
}

struct collect {
    struct map *used;
    uint64_t oldest;
};

static void collect_one(struct store *s, const char *id, int fd, bool dead, void *arg) {
    struct collect *c = arg;
    _cleanup_buf_ struct buf b = BUF_MAX(64u << 20);
    struct sv rest, line;
    if (dead) {
        drop_left(s, id, fd);
        return;
    }
    if (lseek(fd, 0, SEEK_SET) < 0 || fs_read_fd(fd, &b) < 0)
        c->oldest = 0; /* unknown: keep everything */
    rest = buf_sv(&b);
    while (sv_line(&rest, &line)) {
        unsigned long long at;
        char head[64];
        if (sv_starts(line, "# ")) {
            snprintf(head, sizeof head, SV_FMT, SV_ARG(sv_sub(line, 0, 63)));
            if (sscanf(head, "# %*d %llu", &at) == 1)
                c->oldest = MIN(c->oldest, at);
        } else if (line.n) {
            map_set(c->used, line, c);
        }
    }
}

int leases_used(struct store *s, struct map *used, uint64_t *oldest_real_ns) {
    struct collect c = {used, now_real()};
    int r = each_lease(s, collect_one, &c);
    *oldest_real_ns = c.oldest;
    return r;
}
