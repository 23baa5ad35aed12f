#pragma once
/* What the files of store/ share. Nothing outside includes it. */
#include "core/map.h"
#include "store/store.h"

#include <pthread.h>
#include <sqlite3.h>

struct store {
    char *path;
    bool allow_single;
    int dir, blobs, snap, tree, scratch, lease, locks; /* O_RDONLY|O_DIRECTORY */
    int gc;                                            /* lock file: see gc_enter */
    pthread_mutex_t gc_mutex;                          /* gc_users */
    unsigned gc_users;
    pthread_t gc_owner; /* the thread in gc_exclusive, when gc_owned */
    _Atomic bool gc_owned;
    pthread_mutex_t lock; /* keeper, map, trees */
    bool have_map;
    struct idmap map;
    struct keeper *keeper;
    struct tree_index *trees; /* loaded for tree_digest, newest first */
    pthread_mutex_t db_lock;
    sqlite3 *db;
    sqlite3_stmt *stmts[32]; /* by enum sql; prepared on first use */
    char boot[40];           /* this boot of the machine */
};

/* Collection against use: who looks something up and then marks it used in its lease does both
 * between gc_enter and gc_leave (shared, across processes); prune decides and forgets under
 * gc_exclusive, in which gc_enter by the same thread is nothing. */
int gc_enter(struct store *s);
void gc_leave(struct store *s);
int gc_exclusive(struct store *s); /* a descriptor for gc_release */
void gc_release(struct store *s, int fd);

/* --- database (db.c). Every use holds db_lock: DB_SCOPE. --- */
enum sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_REC_PUT,
    SQL_REC_GET,
    SQL_REC_DEL,
    SQL_REC_EACH,
    SQL_COUNTER,
    SQL_SNAP_ADD,
    SQL_SNAP_BY_KEY,
    SQL_SNAP_BY_ID,
    SQL_SNAP_DIFF,
    SQL_SNAP_TOUCH,
    SQL_SNAP_DEL,
    SQL_SNAP_ALL,
    SQL_SNAP_FRESH,
    SQL_SNAP_SYNCED,
    SQL_TREE_ADD,
    SQL_TREE_BY_NAME,
    SQL_TREE_BY_ID,
    SQL_TREE_OLD,
    SQL_TREE_DEL,
    SQL_TREE_ALL,
    SQL_TREE_SUPERSEDE,
    SQL_TREE_TOUCH,
    SQL_N
};
int db_open(struct store *s, struct err *e);
void db_close(struct store *s);
/* The statement, reset, with its bindings cleared; NULL when it cannot be had (db_error). */
sqlite3_stmt *db_stmt(struct store *s, enum sql which);
int db_run(struct store *s, enum sql which); /* step to the end of one without results */
/* The negative errno of what SQLite said last; sets e. */
int db_error(struct store *s, struct err *e, const char *what);
int db_begin(struct store *s);
int db_end(struct store *s, bool ok); /* commit or roll back */
void db_lock_done(pthread_mutex_t **m);
static inline pthread_mutex_t *mutex_take(pthread_mutex_t *m) {
    pthread_mutex_lock(m);
    return m;
}
#define MUTEX_SCOPE(m) _cleanup_(db_lock_done) _unused_ pthread_mutex_t *scope_ = mutex_take(m)
#define DB_SCOPE(s) MUTEX_SCOPE(&(s)->db_lock)
void bind_text(sqlite3_stmt *st, int i, const char *text);
void bind_sv(sqlite3_stmt *st, int i, struct sv v);
void column_copy(sqlite3_stmt *st, int i, char *to, size_t size);

/* --- the rest --- */
/* The mapping of this store (also written down in it: its files have those owners). */
int store_map(struct store *s, const struct idmap **ret, struct err *e);
/* Makes dir/name (mode 0711) with the given subfolders, 0755, owned by 0:0 of the mapping. */
int store_mkdir_mapped(struct store *s, int dirfd, const char *name, const char *const *subs,
                       struct err *e);
/* Removes dir/name; from inside the user namespace when it must be. */
int store_rmtree(struct store *s, int dirfd, const char *name);
/* What living leases use; read under gc_exclusive. `oldest` = when the oldest began, or now. */
int leases_used(struct store *s, struct map *used, uint64_t *oldest_real_ns);
bool id_valid(const char *id); /* 32 lower-case hex digits */
/* Superseded trees that nobody uses, and what a crash of the machine left of unsynced snapshots. */
void trees_drop_old(struct store *s);
void snaps_sync_old(struct store *s);
void tree_indexes_free(struct store *s);
