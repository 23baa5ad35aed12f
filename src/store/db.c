/* SQLite: one connection per store handle, serialised by a mutex; WAL, so that readers of other
 * processes do not wait; synchronous=NORMAL, so that a commit costs microseconds and a crash of
 * the machine can lose the newest records but never the file's integrity. What a record points to
 * is on disk before it, or marked as fresh (snap.c). */
#include "store/internal.h"

#define SCHEMA 1

static const char *const sql[SQL_N] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_REC_PUT] = "INSERT INTO rec(ns, key, json) VALUES(?1, ?2, ?3) "
                    "ON CONFLICT(ns, key) DO UPDATE SET json = ?3",
    [SQL_REC_GET] = "SELECT json FROM rec WHERE ns = ?1 AND key = ?2",
    [SQL_REC_DEL] = "DELETE FROM rec WHERE ns = ?1 AND key = ?2",
    [SQL_REC_EACH] = "SELECT key, json FROM rec WHERE ns = ?1 AND key >= ?2 AND "
                     "substr(key, 1, length(?2)) = ?2 ORDER BY key",
    [SQL_COUNTER] = "INSERT INTO counter(name, value) VALUES(?1, 1) "
                    "ON CONFLICT(name) DO UPDATE SET value = value + 1 RETURNING value",
    [SQL_SNAP_ADD] = "INSERT INTO snap(id, key, diff_id, size, files, boot, made, used) "
                     "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) ON CONFLICT(key) DO NOTHING",
    [SQL_SNAP_BY_KEY] = "SELECT id, key, diff_id, size, files, used FROM snap WHERE key = ?1",
    [SQL_SNAP_BY_ID] = "SELECT id, key, diff_id, size, files, used FROM snap WHERE id = ?1",
    [SQL_SNAP_DIFF] = "UPDATE snap SET diff_id = ?2, size = ?3 WHERE id = ?1",
    [SQL_SNAP_TOUCH] = "UPDATE snap SET used = ?2 WHERE id = ?1",
    [SQL_SNAP_DEL] = "DELETE FROM snap WHERE id = ?1",
    [SQL_SNAP_ALL] = "SELECT id, key, size, made, used FROM snap ORDER BY used",
    [SQL_SNAP_FRESH] = "SELECT count(*) FROM snap WHERE boot <> '' AND made < ?1",
    [SQL_SNAP_SYNCED] = "UPDATE snap SET boot = '' WHERE boot <> '' AND made < ?1",
    [SQL_TREE_ADD] = "INSERT INTO tree(id, name, current, made) VALUES(?1, ?2, 1, ?3)",
    [SQL_TREE_BY_NAME] = "SELECT id FROM tree WHERE name = ?1 AND current = 1",
    [SQL_TREE_BY_ID] = "SELECT id FROM tree WHERE id = ?1",
    [SQL_TREE_OLD] = "SELECT id FROM tree WHERE current = 0",
    [SQL_TREE_DEL] = "DELETE FROM tree WHERE id = ?1",
    [SQL_TREE_ALL] = "SELECT id, made, current FROM tree ORDER BY made",
    [SQL_TREE_SUPERSEDE] = "UPDATE tree SET current = 0 WHERE name = ?1",
    [SQL_TREE_TOUCH] = "UPDATE tree SET made = ?2 WHERE id = ?1",
};

static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS rec(ns TEXT NOT NULL, key TEXT NOT NULL, json TEXT NOT NULL,"
    " PRIMARY KEY(ns, key)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT "
    "ROWID;"
    "CREATE TABLE IF NOT EXISTS snap(id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE,"
    " diff_id TEXT NOT NULL, size INTEGER NOT NULL, files INTEGER NOT NULL, boot TEXT NOT NULL,"
    " made INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS tree(id TEXT PRIMARY KEY, name TEXT NOT NULL,"
    " current INTEGER NOT NULL, made INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS tree_name ON tree(name, current);"
    "PRAGMA user_version = 1;"
    "COMMIT;";

void db_lock_done(pthread_mutex_t **m) {
    pthread_mutex_unlock(*m);
}

int db_error(struct store *s, struct err *e, const char *what) {
    int code = s->db ? sqlite3_errcode(s->db) & 0xff : SQLITE_NOMEM;
    int r = code == SQLITE_FULL                               ? -ENOSPC
            : code == SQLITE_READONLY                         ? -EROFS
            : code == SQLITE_BUSY || code == SQLITE_LOCKED    ? -EBUSY
            : code == SQLITE_PERM || code == SQLITE_CANTOPEN  ? -EACCES
            : code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? -EUCLEAN
                                                              : -EIO;
    err_set(e,
            code == SQLITE_FULL || code == SQLITE_READONLY || r == -EACCES ? ERR_ENV : ERR_INTERNAL,
            r, "%s: records.db: %s", what, s->db ? sqlite3_errmsg(s->db) : "out of memory");
    if (r == -EUCLEAN)
        err_hint(e, r, "the records of this store are damaged: move %s away and start anew",
                 s->path);
    return r;
}

static int version(struct store *s) {
    sqlite3_stmt *st = NULL;
    int v = -1;
    if (sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        v = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    return v;
}

/* Snapshots of an earlier boot of the machine whose files were never synced: see snap.c. Asked
 * first, since a delete that finds nothing would still take the write lock. */
static int drop_unsynced(struct store *s, struct err *e) {
    bool any = false;
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(s->db, "SELECT 1 FROM snap WHERE boot <> '' AND boot <> ?1 LIMIT 1", -1,
                           &st, NULL) == SQLITE_OK) {
        bind_text(st, 1, s->boot);
        any = sqlite3_step(st) == SQLITE_ROW;
    }
    sqlite3_finalize(st);
    if (!any)
        return 0;
    if (sqlite3_prepare_v2(s->db, "DELETE FROM snap WHERE boot <> '' AND boot <> ?1", -1, &st,
                           NULL) == SQLITE_OK)
        bind_text(st, 1, s->boot);
    int k = st ? sqlite3_step(st) : SQLITE_ERROR;
    sqlite3_finalize(st);
    return k == SQLITE_DONE ? 0 : db_error(s, e, "recover");
}

int db_open(struct store *s, struct err *e) {
    _cleanup_free_ char *path = xasprintf("%s/records.db", s->path);
    if (sqlite3_open_v2(path, &s->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                            SQLITE_OPEN_PRIVATECACHE,
                        NULL) != SQLITE_OK)
        return db_error(s, e, "open");
    sqlite3_busy_timeout(s->db, 60000);
    sqlite3_extended_result_codes(s->db, 1);
    /* The last process to close would move the journal into the database and sync both, at the end
     * of each command; the next writer does that now and then anyway. */
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    int v = version(s);
    if (v > SCHEMA) {
        err_set(e, ERR_ENV, -EPROTO, "%s was made by a newer slipway (records version %d)", s->path,
                v);
        return err_hint(e, -EPROTO, "use that slipway, or another folder through SLIPWAY_STATE");
    }
    if (v < 0)
        return db_error(s, e, "open");
    /* The journal mode is kept in the file: asked for once. */
    if (v < SCHEMA &&
        (sqlite3_exec(s->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL) != SQLITE_OK ||
         sqlite3_exec(s->db, schema, NULL, NULL, NULL) != SQLITE_OK))
        return db_error(s, e, "prepare");
    if (sqlite3_exec(s->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL) != SQLITE_OK)
        return db_error(s, e, "prepare");
    return drop_unsynced(s, e);
}

void db_close(struct store *s) {
    for (size_t i = 0; i < SQL_N; i++)
        sqlite3_finalize(s->stmts[i]);
    sqlite3_close(s->db);
}

sqlite3_stmt *db_stmt(struct store *s, enum sql which) {
    if (!s->stmts[which]) {
        if (sqlite3_prepare_v3(s->db, sql[which], -1, SQLITE_PREPARE_PERSISTENT, &s->stmts[which],
                               NULL) != SQLITE_OK)
            return NULL;
    } else {
        sqlite3_reset(s->stmts[which]);
        sqlite3_clear_bindings(s->stmts[which]);
    }
    return s->stmts[which];
}

int db_run(struct store *s, enum sql which) {
    sqlite3_stmt *st = s->stmts[which];
    int k = sqlite3_step(st);
    while (k == SQLITE_ROW)
        k = sqlite3_step(st);
    int r = k == SQLITE_DONE ? 0 : db_error(s, NULL, "write");
    sqlite3_reset(st);
    return r;
}

int db_begin(struct store *s) {
    return db_stmt(s, SQL_BEGIN) ? db_run(s, SQL_BEGIN) : -EIO;
}

int db_end(struct store *s, bool ok) {
    enum sql which = ok ? SQL_COMMIT : SQL_ROLLBACK;
    int r = db_stmt(s, which) ? db_run(s, which) : -EIO;
    if (ok && r < 0 && db_stmt(s, SQL_ROLLBACK))
        db_run(s, SQL_ROLLBACK);
    return r;
}

void bind_text(sqlite3_stmt *st, int i, const char *text) {
    sqlite3_bind_text(st, i, text ? text : "", -1, SQLITE_TRANSIENT);
}

void bind_sv(sqlite3_stmt *st, int i, struct sv v) {
    sqlite3_bind_text(st, i, v.p ? v.p : "", (int)v.n, SQLITE_TRANSIENT);
}

void column_copy(sqlite3_stmt *st, int i, char *to, size_t size) {
    const char *t = (const char *)sqlite3_column_text(st, i);
    snprintf(to, size, "%s", t ? t : "");
}

/* --- records --------------------------------------------------------------------------------- */

int rec_put(struct store *s, const char *ns, const char *key, struct sv json, struct err *e) {
    if (json.n > (64u << 20))
        return err_set(e, ERR_LIMIT, -EFBIG, "record %s/%s is too large", ns, key);
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, SQL_REC_PUT);
    if (!st)
        return db_error(s, e, "record");
    bind_text(st, 1, ns);
    bind_text(st, 2, key);
    bind_sv(st, 3, json);
    int r = db_run(s, SQL_REC_PUT);
    return r < 0 ? db_error(s, e, "record") : 0;
}

int rec_get(struct store *s, const char *ns, const char *key, struct buf *json) {
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, SQL_REC_GET);
    if (!st)
        return db_error(s, NULL, "record");
    bind_text(st, 1, ns);
    bind_text(st, 2, key);
    int k = sqlite3_step(st), r = k == SQLITE_ROW    ? 1
                                  : k == SQLITE_DONE ? 0
                                                     : db_error(s, NULL, "record");
    if (r == 1 && json)
        buf_add(json, sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
    sqlite3_reset(st);
    return r == 1 && json && !buf_ok(json) ? -EFBIG : r;
}

int rec_del(struct store *s, const char *ns, const char *key) {
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, SQL_REC_DEL);
    if (!st)
        return db_error(s, NULL, "record");
    bind_text(st, 1, ns);
    bind_text(st, 2, key);
    int r = db_run(s, SQL_REC_DEL);
    return r < 0 ? r : sqlite3_changes(s->db) ? 0 : -ENOENT;
}

struct row {
    char *key, *json;
    size_t json_n;
};

/* All rows first, so that the callback may use the store. */
int rec_each(struct store *s, const char *ns, const char *prefix, rec_fn fn, void *arg) {
    struct row *rows = NULL;
    size_t n = 0, cap = 0;
    int r = 0;
    {
        DB_SCOPE(s);
        sqlite3_stmt *st = db_stmt(s, SQL_REC_EACH);
        if (!st)
            return db_error(s, NULL, "records");
        bind_text(st, 1, ns);
        bind_text(st, 2, prefix);
        int k;
        while ((k = sqlite3_step(st)) == SQLITE_ROW) {
            GROW(rows, cap, n + 1);
            size_t len = (size_t)sqlite3_column_bytes(st, 1);
            rows[n].key = xstrdup((const char *)sqlite3_column_text(st, 0));
            rows[n].json = xmalloc(len + 1);
            memcpy(rows[n].json, sqlite3_column_text(st, 1), len);
            rows[n].json[len] = 0;
            rows[n++].json_n = len;
        }
        if (k != SQLITE_DONE)
            r = db_error(s, NULL, "records");
        sqlite3_reset(st);
    }
    for (size_t i = 0; i < n; i++) {
        if (r == 0)
            r = fn(rows[i].key, sv_n(rows[i].json, rows[i].json_n), arg);
        free(rows[i].key);
        free(rows[i].json);
    }
    free(rows);
    return r;
}

int store_counter(struct store *s, const char *name, uint64_t *ret, struct err *e) {
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, SQL_COUNTER);
    if (!st)
        return db_error(s, e, "counter");
    bind_text(st, 1, name);
    if (sqlite3_step(st) != SQLITE_ROW) {
        int r = db_error(s, e, "counter");
        sqlite3_reset(st);
        return r;
    }
    uint64_t v = (uint64_t)sqlite3_column_int64(st, 0);
    int r = db_run(s, SQL_COUNTER); /* to its end: only then it is committed */
    if (r < 0)
        return db_error(s, e, "counter");
    *ret = v;
    return 0;
}
