/* Collection. Everything is decided and forgotten (rows, blob names) under the exclusive side of
 * the collection lock; folders of forgotten snapshots are removed after it. What a killed prune
 * leaves are folders without a row, which the next one removes. */
#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"
#include "store/internal.h"

#include <dirent.h>

struct prune {
    struct store *s;
    const struct prune_options *o;
    struct prune_result res;
    struct map keep;
    uint64_t oldest, now, total;
    struct strv snaps, trees; /* forgotten: folders to remove */
};

static void mark(void *m, const char *what) {
    struct prune *p = m;
    map_sets(&p->keep, what, p);
}

static bool kept(const struct prune *p, const char *prefix, const char *id) {
    char what[320];
    snprintf(what, sizeof what, "%s%s", prefix, id);
    return map_gets(&p->keep, id) || map_gets(&p->keep, what);
}

/* Young by the clock of the oldest living lease, or used lately. */
static bool spared(const struct prune *p, uint64_t made, uint64_t used) {
    return made >= p->oldest || (p->o->older_ns && used + p->o->older_ns > p->now) ||
           (p->o->keep_bytes && p->total <= p->o->keep_bytes);
}

static void count(struct prune *p, uint64_t bytes, uint64_t *what) {
    p->res.bytes += bytes;
    *what += 1;
    p->total -= MIN(p->total, bytes);
}

struct entry {
    char id[33], key[129];
    uint64_t size, made, used;
    bool current;
};

static uint64_t folder_size(int dir, const char *id) {
    uint64_t bytes = 0, files = 0;
    (void)fs_size_tree(dir, id, &bytes, &files);
    return bytes;
}

/* All rows of a table; malloc. */
static struct entry *rows(struct store *s, bool trees, size_t *ret_n) {
    struct entry *v = NULL;
    size_t n = 0, cap = 0;
    {
        DB_SCOPE(s);
        sqlite3_stmt *st = db_stmt(s, trees ? SQL_TREE_ALL : SQL_SNAP_ALL);
        while (st && sqlite3_step(st) == SQLITE_ROW) {
            GROW(v, cap, n + 1);
            struct entry *x = &v[n++];
            memset(x, 0, sizeof *x);
            column_copy(st, 0, x->id, sizeof x->id);
            if (trees) {
                x->made = x->used = (uint64_t)sqlite3_column_int64(st, 1);
                x->current = sqlite3_column_int(st, 2) != 0;
            } else {
                column_copy(st, 1, x->key, sizeof x->key);
                x->size = (uint64_t)sqlite3_column_int64(st, 2);
                x->made = (uint64_t)sqlite3_column_int64(st, 3);
                x->used = (uint64_t)sqlite3_column_int64(st, 4);
            }
        }
        if (st)
            sqlite3_reset(st);
    }
    for (size_t i = 0; i < n; i++)
        if (!v[i].size)
            v[i].size = folder_size(trees ? s->tree : s->snap, v[i].id);
    *ret_n = n;
    return v;
}

static int forget(struct prune *p, enum sql which, const char *id) {
    DB_SCOPE(p->s);
    sqlite3_stmt *st = db_stmt(p->s, which);
    if (!st)
        return -EIO;
    bind_text(st, 1, id);
    return db_run(p->s, which);
}

static int prune_rows(struct prune *p, const struct entry *v, size_t n, bool trees) {
    for (size_t i = 0; i < n; i++) {
        const struct entry *x = &v[i];
        if (kept(p, trees ? "tree:" : "snap:", x->id) || (!trees && map_gets(&p->keep, x->key)) ||
            (trees && x->current && !p->o->all) || spared(p, x->made, x->used))
            continue;
        if (!p->o->dry_run) {
            int r = forget(p, trees ? SQL_TREE_DEL : SQL_SNAP_DEL, x->id);
            if (r < 0)
                return r;
            strv_add(trees ? &p->trees : &p->snaps, x->id);
        }
        count(p, x->size, trees ? &p->res.trees : &p->res.snaps);
    }
    return 0;
}

/* Folders that no row names: left by a kill. */
static void orphans(struct prune *p, int dir, enum sql all, const char *prefix, struct strv *out) {
    _cleanup_map_ struct map have = {0};
    {
        DB_SCOPE(p->s);
        sqlite3_stmt *st = db_stmt(p->s, all);
        int k = SQLITE_ERROR;
        while (st && (k = sqlite3_step(st)) == SQLITE_ROW)
            map_sets(&have, (const char *)sqlite3_column_text(st, 0), p);
        if (st)
            sqlite3_reset(st);
        if (k != SQLITE_DONE)
            return;
    }
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        fd_close(fd);
        return;
    }
    for (struct dirent *en; (en = readdir(d));) {
        struct stat st;
        if (startswith(en->d_name, ".dead-") && !p->o->dry_run) {
            strv_add(out, en->d_name);
            continue;
        }
        if (!id_valid(en->d_name) || map_gets(&have, en->d_name) || kept(p, prefix, en->d_name) ||
            fstatat(dir, en->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            (uint64_t)st.st_ctime * 1000000000u >= p->oldest || p->o->dry_run)
            continue;
        p->res.bytes += folder_size(dir, en->d_name);
        strv_add(out, en->d_name);
    }
    closedir(d);
}

typedef int (*blob_fn)(int dir, const char *name, const struct stat *st, void *arg);

static int each_blob(struct store *s, blob_fn fn, void *arg) {
    int top = openat(s->blobs, "sha256", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = top < 0 ? NULL : fdopendir(top);
    if (!d) {
        int r = -errno;
        fd_close(top);
        return r;
    }
    int r = 0;
    for (struct dirent *en; r == 0 && (en = readdir(d));) {
        if (en->d_name[0] == '.')
            continue;
        int fd = openat(dirfd(d), en->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *sub = fd < 0 ? NULL : fdopendir(fd);
        if (!sub) {
            fd_close(fd);
            continue;
        }
        for (struct dirent *b; r == 0 && (b = readdir(sub));) {
            struct stat st;
            if (strlen(b->d_name) == 64 &&
                fstatat(dirfd(sub), b->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                r = fn(dirfd(sub), b->d_name, &st, arg);
        }
        closedir(sub);
    }
    closedir(d);
    return r;
}

/* Blobs that nothing keeps, to be removed oldest first. */
struct loose {
    char name[65];
    uint64_t size, made;
};
struct loose_list {
    struct prune *p;
    struct loose *v;
    size_t n, cap;
};

static int find_loose(int dir, const char *name, const struct stat *st, void *arg) {
    struct loose_list *x = arg;
    if (kept(x->p, "sha256:", name))
        return 0;
    GROW(x->v, x->cap, x->n + 1);
    struct loose *l = &x->v[x->n++];
    snprintf(l->name, sizeof l->name, "%s", name);
    l->size = (uint64_t)st->st_size;
    l->made = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
    return 0;
}

static int by_age(const void *a, const void *b) {
    const struct loose *x = a, *y = b;
    return x->made < y->made ? -1 : x->made > y->made;
}

static int prune_blobs(struct prune *p) {
    struct loose_list x = {.p = p};
    int r = each_blob(p->s, find_loose, &x);
    if (x.n)
        qsort(x.v, x.n, sizeof *x.v, by_age);
    for (size_t i = 0; r == 0 && i < x.n; i++) {
        const struct loose *l = &x.v[i];
        char path[80];
        /* The file system's clock ticks behind the wall clock. */
        if (spared(p, l->made + 1000000000u, l->made))
            continue;
        snprintf(path, sizeof path, "sha256/%.2s/%s", l->name, l->name);
        if (!p->o->dry_run && unlinkat(p->s->blobs, path, 0) < 0) {
            r = errno == ENOENT ? 0 : -errno;
            continue;
        }
        count(p, l->size, &p->res.blobs);
    }
    free(x.v);
    return r;
}

static int sum_blob(int dir, const char *name, const struct stat *st, void *arg) {
    struct store_usage *u = arg;
    u->blobs++;
    u->blob_bytes += (uint64_t)st->st_size;
    return 0;
}

static int prune_all(struct prune *p, reach_fn reach, void *arg, struct err *e) {
    size_t n_snaps = 0, n_trees = 0;
    struct store_usage u = {0};
    int r = leases_used(p->s, &p->keep, &p->oldest);
    if (r == 0 && reach)
        r = reach(p->s, mark, p, arg);
    /* Without knowing what is reachable nothing is removed. */
    if (r < 0)
        return err_errno(e, r, "cannot tell what is in use");
    _cleanup_free_ struct entry *snaps = rows(p->s, false, &n_snaps);
    _cleanup_free_ struct entry *trees = rows(p->s, true, &n_trees);
    r = each_blob(p->s, sum_blob, &u);
    p->total = u.blob_bytes;
    for (size_t i = 0; i < n_snaps; i++)
        p->total += snaps[i].size;
    for (size_t i = 0; i < n_trees; i++)
        p->total += trees[i].size;
    if (r == 0)
        r = prune_rows(p, trees, n_trees, true);
    if (r == 0)
        r = prune_rows(p, snaps, n_snaps, false);
    if (r == 0)
        r = prune_blobs(p);
    if (r < 0)
        return err_errno(e, r, "prune %s", p->s->path);
    orphans(p, p->s->snap, SQL_SNAP_ALL, "snap:", &p->snaps);
    orphans(p, p->s->tree, SQL_TREE_ALL, "tree:", &p->trees);
    return 0;
}

int store_prune(struct store *s, const struct prune_options *o, reach_fn reach, void *arg,
                struct prune_result *ret, struct err *e) {
    struct prune p = {.s = s, .o = o, .now = now_real()};
    int gc = gc_exclusive(s);
    if (gc < 0)
        return err_errno(e, gc, "lock %s", s->path);
    int r = prune_all(&p, reach, arg, e);
    gc_release(s, gc);
    for (size_t i = 0; i < p.snaps.n; i++)
        store_rmtree(s, s->snap, p.snaps.v[i]);
    for (size_t i = 0; i < p.trees.n; i++)
        store_rmtree(s, s->tree, p.trees.v[i]);
    strv_done(&p.snaps);
    strv_done(&p.trees);
    map_done(&p.keep);
    p.res.left = p.total;
    if (r == 0 && ret)
        *ret = p.res;
    return r;
}

int store_usage(struct store *s, struct store_usage *ret, struct err *e) {
    struct store_usage u = {0};
    size_t n = 0;
    int r = each_blob(s, sum_blob, &u);
    if (r < 0)
        return err_errno(e, r, "look at %s", s->path);
    for (int trees = 0; trees < 2; trees++) {
        _cleanup_free_ struct entry *v = rows(s, trees, &n);
        for (size_t i = 0; i < n; i++)
            *(trees ? &u.tree_bytes : &u.snap_bytes) += v[i].size;
        *(trees ? &u.trees : &u.snaps) = n;
    }
    *ret = u;
    return 0;
}
