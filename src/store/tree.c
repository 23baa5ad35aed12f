/* Tree snapshots: generations of a host folder's content, tree/<id>/{fs,index}.
 *
 * An update looks at every file (scan.c), compares with the last generation's index and then
 *   - gives the last generation again, when nothing changed;
 *   - changes it in place under a new id, when no living lease uses it: the cost is that of the
 *     changes. Its row is deleted first, so that a killed update leaves nothing that counts;
 *   - else makes a new generation, in which unchanged files are hard links to the old one's.
 * A file inside a generation is never written again, only unlinked: another generation may share
 * it. Content comes by reflink where the disk can, else by copy_file_range.
 *
 * Trees belong to the calling user's side: no helper is needed. As root they are chowned to the
 * mapped owner; an ordinary user's files are the caller's, who is `runner` inside. */
#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"
#include "store/index.h"

#include <dirent.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>

#define BENEATH (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

struct update {
    struct scan sc;
    int src, fs, prev_fs; /* prev_fs: to link from, or -1 */
    struct tree_index *prev;
    bool chown, no_clone;
    uint32_t uid, gid;
    struct sha256 *hash; /* with o->digests */
    char *chunk;
    struct err *e;
};

static struct timespec ts_of(uint64_t ns) {
    return (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
}

static mode_t kept_mode(uint32_t mode) {
    return S_ISDIR(mode) ? mode & 07777 & ~(mode_t)S_ISUID : mode & 0777;
}

static bool same(const struct index_rec *a, const struct index_rec *b) {
    if (S_ISDIR(a->mode) || S_ISDIR(b->mode))
        return a->mode == b->mode;
    return a->ino && a->ino == b->ino && a->dev == b->dev && a->size == b->size &&
           a->mtime == b->mtime && a->ctime == b->ctime && a->mode == b->mode;
}

/* --- one entry ---------------------------------------------------------------------------------
 */

#define CHUNK (256u << 10)

/* Copies and hashes: what is written to a disk is hashed meanwhile. */
static int copy_hashed(struct update *u, int from, int to, uint64_t *done, uint8_t raw[32]) {
    if (!u->chunk)
        u->chunk = xmalloc(CHUNK);
    if (!u->hash)
        u->hash = sha256_new();
    int r = 0;
    for (;;) {
        ssize_t k = fd_read_full(from, u->chunk, CHUNK);
        if (k <= 0) {
            r = (int)k;
            break;
        }
        sha256_update(u->hash, u->chunk, (size_t)k);
        if ((r = fd_write_all(to, u->chunk, (size_t)k)) < 0)
            break;
        *done += (uint64_t)k;
        if ((size_t)k < CHUNK)
            break;
    }
    sha256_final(u->hash, raw); /* in any case: ready for the next file */
    return r;
}

static int copy_small(int from, int to, uint64_t size, uint64_t *done) {
    char chunk[65536];
    ssize_t k = fd_read_full(from, chunk, (size_t)MIN(size + 1, sizeof chunk));
    if (k < 0)
        return (int)k;
    *done = (uint64_t)k;
    return fd_write_all(to, chunk, (size_t)k);
}

/* The file's bytes into `to`, which is empty. 1 when it changed meanwhile. */
static int copy_bytes(struct update *u, int from, int to, struct index_rec *r) {
    struct stat a, b;
    uint64_t done = 0;
    uint8_t raw[32];
    bool hashed = false;
    int k;
    if (fstat(from, &a) < 0)
        return -errno;
    if (!S_ISREG(a.st_mode))
        return 1;
    if (!u->no_clone && a.st_size > 0) {
        if (ioctl(to, FICLONE, from) == 0)
            done = (uint64_t)a.st_size;
        else if (errno == EOPNOTSUPP || errno == EXDEV || errno == ENOTTY || errno == ENOSYS)
            u->no_clone = true;
    }
    if (!done && a.st_size > 0) {
        hashed = u->sc.o->digests;
        k = hashed                ? copy_hashed(u, from, to, &done, raw)
            : a.st_size < 65536 ? copy_small(from, to, (uint64_t)a.st_size, &done)
                              : fd_copy(from, to, UINT64_MAX, &done);
        if (k < 0)
            return k;
    }
    if (fstat(from, &b) < 0)
        return -errno;
    rec_stat(r, &b, u->sc.start_ns);
    if (done != (uint64_t)b.st_size || a.st_ctim.tv_sec != b.st_ctim.tv_sec ||
        a.st_ctim.tv_nsec != b.st_ctim.tv_nsec)
        return 1;
    if (hashed)
        index_set_digest(r, raw);
    u->sc.stats.copied++;
    u->sc.stats.bytes_copied += done;
    return 0;
}

static int copy_file(struct update *u, struct index_rec *r, const char *path) {
    int k = 1;
    r->check = 0;
    for (unsigned tries = 0; k == 1; tries++) {
        _cleanup_close_ int from =
            fs_open_in(u->src, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, BENEATH);
        if (from < 0)
            return err_set(u->e, ERR_USER, from, "cannot read %s: %s", path, strerror(-from));
        _cleanup_close_ int to =
            fs_open_in(u->fs, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, BENEATH);
        if (to < 0)
            return err_errno(u->e, to, "copy %s", path);
        k = copy_bytes(u, from, to, r);
        if (k == 1 && tries < 3) {
            unlinkat(u->fs, path, 0);
            continue;
        }
        if (k == 1)
            return err_set(u->e, ERR_CONFLICT, -EBUSY, "%s changes while it is read", path);
        struct timespec t[2] = {ts_of(r->mtime), ts_of(r->mtime)};
        if (k == 0 && ((u->chown && fchown(to, u->uid, u->gid) < 0) ||
                       fchmod(to, kept_mode(r->mode)) < 0 || futimens(to, t) < 0))
            k = -errno;
    }
    return k < 0 ? err_errno(u->e, k, "copy %s", path) : 0;
}

static int copy_link(struct update *u, const struct index_rec *r, const char *path) {
    char target[4097];
    ssize_t n = -1;
    {
        _cleanup_close_ int fd = fs_open_in(u->src, path, O_PATH | O_NOFOLLOW, 0,
                                            RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
        if (fd >= 0)
            n = readlinkat(fd, "", target, sizeof target - 1);
    }
    if (n < 0)
        return err_errno(u->e, -errno, "read the link %s", path);
    target[n] = 0;
    struct timespec t[2] = {ts_of(r->mtime), ts_of(r->mtime)};
    if (symlinkat(target, u->fs, path) < 0 ||
        (u->chown && fchownat(u->fs, path, u->uid, u->gid, AT_SYMLINK_NOFOLLOW) < 0) ||
        utimensat(u->fs, path, t, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(u->e, -errno, "copy the link %s", path);
    u->sc.stats.copied++;
    return 0;
}

static int make_dir(struct update *u, const char *path) {
    if (mkdirat(u->fs, path, 0700) < 0 ||
        (u->chown && fchownat(u->fs, path, u->uid, u->gid, 0) < 0))
        return err_errno(u->e, -errno, "make the folder %s", path);
    return 0;
}

static int make_entry(struct update *u, struct index_rec *r, const char *path) {
    return S_ISDIR(r->mode)   ? make_dir(u, path)
           : S_ISLNK(r->mode) ? copy_link(u, r, path)
                              : copy_file(u, r, path);
}

static void keep_digest(struct index_rec *r, const struct index_rec *old) {
    memcpy(r->digest, old->digest, sizeof r->digest);
    r->check = old->check;
}

/* Modes and times of folders, innermost first, once their content stands. */
static int finish_dirs(struct update *u) {
    for (size_t i = u->sc.n; i-- > 0;) {
        const struct index_rec *r = &u->sc.recs[i];
        struct timespec t[2] = {ts_of(r->mtime), ts_of(r->mtime)};
        const char *path = scan_path(&u->sc, r);
        if (S_ISDIR(r->mode) &&
            (fchmodat(u->fs, path, kept_mode(r->mode), 0) < 0 || utimensat(u->fs, path, t, 0) < 0))
            return err_errno(u->e, -errno, "make the folder %s", path);
    }
    return 0;
}

static struct index_rec *old_of(const struct update *u, const struct index_rec *r) {
    return u->prev ? index_find(u->prev, sv_n(scan_path(&u->sc, r), r->path_len)) : NULL;
}

/* --- whole generations -------------------------------------------------------------------------
 */

static int fill_new(struct update *u) {
    for (size_t i = 0; i < u->sc.n; i++) {
        struct index_rec *r = &u->sc.recs[i];
        const struct index_rec *old = u->prev_fs >= 0 ? old_of(u, r) : NULL;
        const char *path = scan_path(&u->sc, r);
        if (old && !S_ISDIR(r->mode) && same(r, old) &&
            linkat(u->prev_fs, path, u->fs, path, 0) == 0) {
            keep_digest(r, old);
            continue;
        }
        int k = make_entry(u, r, path);
        if (k < 0)
            return k;
    }
    return finish_dirs(u);
}

static int change_in_place(struct update *u) {
    const struct tree_index *p = u->prev;
    uint8_t *keep =
        xcalloc(p->head->n, 1); /* 1: stays as it is, 2: stays, a folder of another mode */
    int r = 0;
    for (size_t i = 0; i < u->sc.n; i++) {
        struct index_rec *n = &u->sc.recs[i], *old = old_of(u, n);
        if (old && same(n, old)) {
            keep[old - p->recs] = 1;
            if (!S_ISDIR(n->mode))
                keep_digest(n, old);
        } else if (old && S_ISDIR(n->mode) && S_ISDIR(old->mode)) {
            keep[old - p->recs] = 2;
        }
    }
    for (size_t i = p->head->n; i-- > 0 && r == 0;) {
        const char *path = p->strings + p->recs[i].path;
        /* Written in the index with a NUL behind. */
        if (!keep[i] && unlinkat(u->fs, path, S_ISDIR(p->recs[i].mode) ? AT_REMOVEDIR : 0) < 0)
            r = -errno;
        else if (keep[i] && S_ISDIR(p->recs[i].mode) && (p->recs[i].mode & 0700) != 0700 &&
                 fchmodat(u->fs, path, 0700, 0) < 0)
            r = -errno;
    }
    for (size_t i = 0; i < u->sc.n && r == 0; i++) {
        struct index_rec *n = &u->sc.recs[i], *old = old_of(u, n);
        if (!old || !keep[old - p->recs])
            r = make_entry(u, n, scan_path(&u->sc, n));
    }
    free(keep);
    return r < 0 ? r : finish_dirs(u);
}

static bool unchanged(const struct update *u) {
    if (!u->prev || u->prev->head->n != u->sc.n)
        return false;
    for (size_t i = 0; i < u->sc.n; i++) {
        const struct index_rec *old = old_of(u, &u->sc.recs[i]);
        if (!old || !same(&u->sc.recs[i], old))
            return false;
    }
    return true;
}

/* --- records -----------------------------------------------------------------------------------
 */

static int row_of(struct store *s, enum sql which, const char *by, char id[33]) {
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, which);
    if (!st)
        return db_error(s, NULL, "tree");
    bind_text(st, 1, by);
    int k = sqlite3_step(st);
    if (k == SQLITE_ROW && id)
        column_copy(st, 0, id, 33);
    sqlite3_reset(st);
    return k == SQLITE_ROW ? 1 : k == SQLITE_DONE ? 0 : db_error(s, NULL, "tree");
}

static int row_drop(struct store *s, const char *id) {
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, SQL_TREE_DEL);
    if (!st)
        return db_error(s, NULL, "tree");
    bind_text(st, 1, id);
    return db_run(s, SQL_TREE_DEL);
}

static int row_publish(struct store *s, const char *id, const char *name, struct err *e) {
    DB_SCOPE(s);
    int r = db_begin(s);
    if (r < 0)
        return db_error(s, e, "tree");
    sqlite3_stmt *st = db_stmt(s, SQL_TREE_SUPERSEDE);
    bind_text(st, 1, name);
    r = st ? db_run(s, SQL_TREE_SUPERSEDE) : -EIO;
    if (r == 0 && (st = db_stmt(s, SQL_TREE_ADD))) {
        bind_text(st, 1, id);
        bind_text(st, 2, name);
        sqlite3_bind_int64(st, 3, (int64_t)now_real());
        r = db_run(s, SQL_TREE_ADD);
    }
    if (r < 0)
        db_error(s, e, "tree");
    int k = db_end(s, r == 0);
    return r < 0 ? r : k < 0 ? db_error(s, e, "tree") : 0;
}

static int use(struct lease *l, const char *id) {
    char what[40];
    snprintf(what, sizeof what, "tree:%s", id);
    return lease_use(l, what);
}

/* Forgets a generation that no living lease uses. True: it is ours alone now. */
static bool claim(struct store *s, const char *id) {
    _cleanup_map_ struct map used = {0};
    char what[40];
    uint64_t oldest;
    snprintf(what, sizeof what, "tree:%s", id);
    int gc = gc_exclusive(s);
    if (gc < 0)
        return false;
    bool ours = leases_used(s, &used, &oldest) == 0 && oldest && !map_gets(&used, what) &&
                row_drop(s, id) == 0;
    gc_release(s, gc);
    return ours;
}

/* --- the update --------------------------------------------------------------------------------
 */

static int open_generation(struct store *s, const char *id, struct err *e) {
    int fd = openat(s->tree, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(e, -errno, "open a tree in %s", s->path) : fd;
}

static int new_generation(struct store *s, struct update *u, const char *id, int *ret_dir) {
    if (mkdirat(s->tree, id, 0711) < 0)
        return err_errno(u->e, -errno, "make a tree in %s", s->path);
    _cleanup_close_ int dir = open_generation(s, id, u->e);
    if (dir < 0)
        return dir;
    struct stat st;
    if (fchmod(dir, 0711) < 0 || mkdirat(dir, "fs", 0755) < 0 || fstat(u->src, &st) < 0 ||
        fchmodat(dir, "fs", (st.st_mode & 0777) | 0700, 0) < 0 ||
        (u->chown && fchownat(dir, "fs", u->uid, u->gid, 0) < 0))
        return err_errno(u->e, -errno, "make a tree in %s", s->path);
    u->fs = openat(dir, "fs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (u->fs < 0)
        return err_errno(u->e, -errno, "make a tree in %s", s->path);
    int r = fill_new(u);
    *ret_dir = TAKE_FD(dir);
    return r;
}

static int reuse_generation(struct store *s, struct update *u, const char *prev, const char *id,
                            int *ret_dir) {
    if (renameat(s->tree, prev, s->tree, id) < 0)
        return -errno;
    _cleanup_close_ int dir = open_generation(s, id, NULL);
    if (dir < 0)
        return dir;
    u->fs = openat(dir, "fs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = u->fs < 0 ? -errno : change_in_place(u);
    *ret_dir = TAKE_FD(dir);
    return r;
}

static int make_generation(struct store *s, struct lease *l, struct update *u, const char *prev,
                           char id[33]) {
    _cleanup_close_ int dir = -1;
    struct tree_stats before = u->sc.stats;
    random_id(id, 32);
    int r = use(l, id);
    if (r < 0)
        return err_errno(u->e, r, "cannot write the lease");
    if (u->prev && claim(s, prev)) {
        r = reuse_generation(s, u, prev, id, &dir);
        if (r < 0) {
            /* Begun anew, from the source alone; what was wrong shows again if it matters. */
            store_rmtree(s, s->tree, id);
            store_rmtree(s, s->tree, prev);
            u->fs = fd_close(u->fs);
            dir = fd_close(dir);
            u->prev = (index_free(u->prev), NULL);
            u->sc.stats = before;
            if (u->e)
                *u->e = (struct err){0};
        }
    }
    if (u->fs < 0) {
        u->prev_fs = u->prev ? tree_open(s, prev) : -1;
        r = new_generation(s, u, id, &dir);
    }
    if (r == 0) {
        struct index_head h = {.uid = u->uid, .gid = u->gid, .n = u->sc.n};
        memcpy(h.boot, s->boot, sizeof h.boot);
        r = index_write(dir, &h, u->sc.recs, &u->sc.strings);
        if (r < 0)
            err_errno(u->e, r, "write the index in %s", s->path);
    }
    if (r < 0)
        store_rmtree(s, s->tree, id);
    return r;
}

static int do_update(struct store *s, struct lease *l, struct update *u, char ret_id[33]) {
    char prev[33] = "", id[33];
    int r = row_of(s, SQL_TREE_BY_NAME, u->sc.o->name, prev);
    if (r < 0)
        return err_set(u->e, ERR_INTERNAL, r, "cannot read the store's records");
    if (r == 1) {
        u->prev = index_load(s, prev);
        if (u->prev && (u->prev->head->uid != u->uid || u->prev->head->gid != u->gid ||
                        memcmp(u->prev->head->boot, s->boot, sizeof s->boot) != 0))
            u->prev = (index_free(u->prev), NULL);
    }
    r = tree_scan(&u->sc, u->src);
    if (r < 0)
        return r;
    if (unchanged(u)) {
        /* Marked first, then looked for: a collection may have come between. */
        r = use(l, prev);
        if (r < 0)
            return err_errno(u->e, r, "cannot write the lease");
        if (row_of(s, SQL_TREE_BY_ID, prev, NULL) == 1) {
            memcpy(ret_id, prev, 33);
            return 0;
        }
        u->prev = (index_free(u->prev), NULL);
    }
    r = make_generation(s, l, u, prev, id);
    if (r == 0) {
        r = row_publish(s, id, u->sc.o->name, u->e);
        if (r < 0)
            store_rmtree(s, s->tree, id);
    }
    if (r == 0)
        memcpy(ret_id, id, sizeof id);
    return r;
}

int tree_update(struct store *s, struct lease *l, int src_dirfd, const struct tree_options *o,
                char ret_id[33], struct tree_stats *stats, struct err *e) {
    const struct idmap *m;
    int r = store_map(s, &m, e);
    if (r < 0)
        return r;
    _cleanup_free_ char *key = xasprintf("tree:%s", o->name);
    _cleanup_close_ int lock = store_key_lock(s, key);
    if (lock < 0)
        return err_errno(e, lock, "lock the store");
    struct update u = {.sc = {.s = s, .o = o, .e = e},
                       .src = src_dirfd,
                       .fs = -1,
                       .prev_fs = -1,
                       .e = e,
                       .chown = m->root,
                       .uid = geteuid(),
                       .gid = getegid()};
    if (m->root) {
        u.uid = idmap_uid_out(m, o->uid);
        u.gid = idmap_gid_out(m, o->gid);
        if (u.uid == UINT32_MAX || u.gid == UINT32_MAX)
            return err_set(e, ERR_INTERNAL, -EINVAL, "owner %u:%u is not in the mapping", o->uid,
                           o->gid);
    }
    r = do_update(s, l, &u, ret_id);
    if (r == 0 && stats)
        *stats = u.sc.stats;
    index_free(u.prev);
    if (u.hash)
        sha256_free(u.hash);
    free(u.chunk);
    fd_close(u.fs);
    fd_close(u.prev_fs);
    scan_done(&u.sc);
    return r;
}

/* Removing a generation takes longer than a job takes to start: it gets a name that means "to be
 * removed", and a thread that nobody waits for removes those. What it does not get done before the
 * process ends, the next sweep's does. */
static void *remove_dead(void *arg) {
    int dir = (int)(intptr_t)arg;
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *en; d && (en = readdir(d));)
        if (startswith(en->d_name, ".dead-"))
            (void)fs_rmtree(dir, en->d_name);
    if (d)
        closedir(d);
    else
        fd_close(fd);
    close(dir);
    return NULL;
}

static bool any_dead(int dir) {
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    bool any = false;
    for (struct dirent *en; d && !any && (en = readdir(d));)
        any = startswith(en->d_name, ".dead-") != NULL;
    if (d)
        closedir(d);
    else
        fd_close(fd);
    return any;
}

void trees_drop_old(struct store *s) {
    struct strv ids = {0};
    {
        DB_SCOPE(s);
        sqlite3_stmt *st = db_stmt(s, SQL_TREE_OLD);
        while (st && sqlite3_step(st) == SQLITE_ROW)
            strv_add(&ids, (const char *)sqlite3_column_text(st, 0));
        if (st)
            sqlite3_reset(st);
    }
    for (size_t i = 0; i < ids.n; i++)
        if (id_valid(ids.v[i]) && claim(s, ids.v[i])) {
            char dead[48];
            snprintf(dead, sizeof dead, ".dead-%s", ids.v[i]);
            (void)renameat(s->tree, ids.v[i], s->tree, dead);
        }
    strv_done(&ids);
    if (!any_dead(s->tree))
        return;
    pthread_t th;
    int dir = fcntl(s->tree, F_DUPFD_CLOEXEC, 3);
    if (dir >= 0 && pthread_create(&th, NULL, remove_dead, (void *)(intptr_t)dir) == 0)
        pthread_detach(th);
    else
        fd_close(dir);
}

/* --- digests -----------------------------------------------------------------------------------
 */

#define LOADED_MAX 8

/* lock is held. */
static struct tree_index *loaded(struct store *s, const char *id) {
    struct tree_index **at = &s->trees;
    for (size_t n = 0; *at; at = &(*at)->next, n++) {
        struct tree_index *x = *at;
        if (streq(x->id, id)) {
            *at = x->next;
            x->next = s->trees;
            return s->trees = x;
        }
        if (n == LOADED_MAX && !x->next) {
            *at = NULL;
            index_free(x);
            break;
        }
    }
    struct tree_index *x = index_load(s, id);
    if (x) {
        x->next = s->trees;
        s->trees = x;
    }
    return x;
}

void tree_indexes_free(struct store *s) {
    while (s->trees) {
        struct tree_index *x = s->trees;
        s->trees = x->next;
        index_free(x);
    }
}

/* 1 known, 0 not yet. */
static int digest_known(struct store *s, const char *id, const char *rel, uint8_t raw[32],
                        struct err *e) {
    MUTEX_SCOPE(&s->lock);
    const struct tree_index *x = loaded(s, id);
    const struct index_rec *r = x ? index_find(x, sv_from(rel)) : NULL;
    if (!x || !r)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "%s is not in the tree", rel);
    if (!S_ISREG(r->mode))
        return err_set(e, ERR_USER, -EINVAL, "%s is not a file", rel);
    if (!index_has_digest(r))
        return 0;
    memcpy(raw, r->digest, 32);
    return 1;
}

int tree_digest(struct store *s, const char *id, const char *rel, char digest[DIGEST_LEN + 1],
                struct err *e) {
    uint8_t raw[32];
    if (!id_valid(id))
        return err_set(e, ERR_INTERNAL, -EINVAL, "not a tree: %.40s", id);
    int r = digest_known(s, id, rel, raw, e);
    if (r < 0)
        return r;
    if (r == 0) {
        char text[DIGEST_LEN + 1];
        _cleanup_close_ int dir = tree_open(s, id);
        _cleanup_close_ int fd =
            dir < 0 ? dir : fs_open_in(dir, rel, O_RDONLY | O_NOFOLLOW, 0, BENEATH);
        r = fd < 0 ? fd : digest_of_fd(fd, text, NULL);
        if (r < 0)
            return err_errno(e, r, "read %s", rel);
        for (size_t i = 0; i < 32; i++) {
            unsigned v = 0;
            sscanf(digest_hex(text) + 2 * i, "%2x", &v);
            raw[i] = (uint8_t)v;
        }
        MUTEX_SCOPE(&s->lock);
        struct tree_index *x = loaded(s, id);
        struct index_rec *rec = x ? index_find(x, sv_from(rel)) : NULL;
        if (rec)
            index_set_digest(rec, raw);
    }
    digest_format(raw, digest);
    return 0;
}
