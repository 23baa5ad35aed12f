/* Snapshots: snap/<id>/fs, one layer's tree each; the row in the database is what publishes one.
 *
 * Syncing a build step's files would cost more than the step. So a new row carries the id of this
 * boot of the machine: a killed process loses nothing (the page cache outlives it), and after a
 * crash of the machine rows of an earlier boot that were never synced are forgotten, not trusted.
 * Rows older than a minute are synced together (by then the kernel has written most of it) and
 * lose their mark. No command waits for that, which can take a busy disk a minute: a process that
 * is left behind syncs and leaves a note of what it covered, and the next command reads the note. */
#include "core/fs.h"
#include "core/loop.h"
#include "store/internal.h"

#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SYNC_AFTER_NS (60ull * 1000000000)
#define TOUCH_AFTER_NS (600ull * 1000000000)

int snap_begin(struct store *s, struct lease *l, char id[33], int *ret_dirfd, struct err *e) {
    static const char *const subs[] = {"fs", "work", NULL};
    char fresh[33], what[40];
    random_id(fresh, 32);
    snprintf(what, sizeof what, "snap:%s", fresh);
    int r = lease_use(l, what);
    if (r < 0)
        return err_errno(e, r, "cannot write the lease");
    r = store_mkdir_mapped(s, s->snap, fresh, subs, e);
    if (r == 0 && ret_dirfd) {
        int fd = openat(s->snap, fresh, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            r = err_errno(e, -errno, "open snapshot");
        else
            *ret_dirfd = fd;
    }
    if (r < 0) {
        store_rmtree(s, s->snap, fresh);
        return r;
    }
    memcpy(id, fresh, sizeof fresh);
    return 0;
}

void snap_abort(struct store *s, const char *id) {
    if (id_valid(id))
        store_rmtree(s, s->snap, id);
}

static void row(sqlite3_stmt *st, struct snap_info *ret) {
    memset(ret, 0, sizeof *ret);
    column_copy(st, 0, ret->id, sizeof ret->id);
    column_copy(st, 1, ret->key, sizeof ret->key);
    column_copy(st, 2, ret->diff_id, sizeof ret->diff_id);
    ret->size = (uint64_t)sqlite3_column_int64(st, 3);
    ret->files = (uint64_t)sqlite3_column_int64(st, 4);
}

/* 1, 0 or -errno; db_lock is held. */
static int lookup(struct store *s, enum sql which, const char *by, struct snap_info *ret) {
    sqlite3_stmt *st = db_stmt(s, which);
    if (!st)
        return db_error(s, NULL, "snapshot");
    bind_text(st, 1, by);
    int k = sqlite3_step(st);
    int r = k == SQLITE_ROW ? 1 : k == SQLITE_DONE ? 0 : db_error(s, NULL, "snapshot");
    uint64_t used = 0, now = now_real();
    if (r == 1) {
        row(st, ret);
        used = (uint64_t)sqlite3_column_int64(st, 5);
    }
    sqlite3_reset(st);
    if (r == 1 && used + TOUCH_AFTER_NS < now && (st = db_stmt(s, SQL_SNAP_TOUCH))) {
        bind_text(st, 1, ret->id);
        sqlite3_bind_int64(st, 2, (int64_t)now);
        (void)db_run(s, SQL_SNAP_TOUCH); /* only for the order of a later prune */
    }
    return r;
}

int snap_get(struct store *s, const char *id, struct snap_info *ret) {
    struct snap_info info;
    if (!id_valid(id))
        return 0;
    DB_SCOPE(s);
    int r = lookup(s, SQL_SNAP_BY_ID, id, &info);
    if (r == 1)
        *ret = info;
    return r;
}

int snap_find(struct store *s, struct lease *l, const char *key, struct snap_info *ret) {
    struct snap_info info;
    char what[40];
    int r = gc_enter(s);
    if (r < 0)
        return r;
    {
        DB_SCOPE(s);
        r = lookup(s, SQL_SNAP_BY_KEY, key, &info);
    }
    if (r == 1 && l) {
        snprintf(what, sizeof what, "snap:%s", info.id);
        int k = lease_use(l, what);
        if (k < 0)
            r = k;
    }
    gc_leave(s);
    if (r == 1)
        *ret = info;
    return r;
}

static int add_row(struct store *s, const char *id, const struct snap_info *info,
                   struct snap_info *found, struct err *e) {
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, SQL_SNAP_ADD);
    if (!st)
        return db_error(s, e, "snapshot");
    bind_text(st, 1, id);
    bind_text(st, 2, info->key);
    bind_text(st, 3, info->diff_id);
    sqlite3_bind_int64(st, 4, (int64_t)info->size);
    sqlite3_bind_int64(st, 5, (int64_t)info->files);
    bind_text(st, 6, s->boot);
    sqlite3_bind_int64(st, 7, (int64_t)now_real());
    int r = db_run(s, SQL_SNAP_ADD);
    if (r < 0)
        return db_error(s, e, "snapshot");
    r = lookup(s, SQL_SNAP_BY_KEY, info->key, found);
    return r < 0 ? db_error(s, e, "snapshot") : r == 0 ? -EAGAIN : 0;
}

int snap_commit(struct store *s, struct lease *l, const char *id, const struct snap_info *info,
                struct snap_info *ret, struct err *e) {
    struct snap_info found;
    char what[40];
    if (!id_valid(id) || !info->key[0] || !fs_exists(s->snap, id))
        return err_set(e, ERR_INTERNAL, -EINVAL, "snapshot %s cannot be published", id);
    int r = gc_enter(s);
    if (r < 0)
        return err_errno(e, r, "lock the store");
    r = add_row(s, id, info, &found, e);
    if (r == 0 && l && !streq(found.id, id)) { /* another's: before a collection may come in */
        snprintf(what, sizeof what, "snap:%s", found.id);
        if ((r = lease_use(l, what)) < 0)
            err_errno(e, r, "hold snapshot %s", found.id);
    }
    gc_leave(s);
    if (r < 0)
        return r;
    if (!streq(found.id, id))
        snap_abort(s, id);
    if (ret)
        *ret = found;
    return 0;
}

int snap_set_diff_id(struct store *s, const char *id, const char *diff_id, uint64_t size,
                     struct err *e) {
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, SQL_SNAP_DIFF);
    if (!st)
        return db_error(s, e, "snapshot");
    bind_text(st, 1, id);
    bind_text(st, 2, diff_id);
    sqlite3_bind_int64(st, 3, (int64_t)size);
    int r = db_run(s, SQL_SNAP_DIFF);
    if (r < 0)
        return db_error(s, e, "snapshot");
    return sqlite3_changes(s->db) ? 0 : err_set(e, ERR_NOTFOUND, -ENOENT, "no snapshot %s", id);
}

static int open_fs(int dirfd, const char *id) {
    char path[40];
    if (!id_valid(id))
        return -EINVAL;
    snprintf(path, sizeof path, "%s/fs", id);
    int fd = openat(dirfd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int snap_open(struct store *s, const char *id) {
    return open_fs(s->snap, id);
}

int tree_open(struct store *s, const char *id) {
    return open_fs(s->tree, id);
}

static int64_t fresh_before(struct store *s, uint64_t before) {
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, SQL_SNAP_FRESH);
    if (!st)
        return 0;
    sqlite3_bind_int64(st, 1, (int64_t)before);
    int64_t n = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    return n;
}

#define NOTE "synced"

/* It shall not look like the command that it is left of, whose arguments and environment it has. */
static void unname(void) {
    char text[1024];
    _cleanup_close_ int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t k = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[k > 0 ? k : 0] = 0;
    unsigned long at[4] = {0};
    char *p = strrchr(text, ')');
    for (unsigned field = 3; p && field <= 51 && (p = strchr(p, ' ')); field++, p++)
        if (field >= 48)
            at[field - 48] = strtoul(p + 1, NULL, 10);
    for (int i = 0; i < 4; i += 2)
        if (at[i] && at[i + 1] > at[i])
            memset((void *)at[i], 0, at[i + 1] - at[i]);
    prctl(PR_SET_NAME, "slipway-sync");
}

/* In a process that has nothing of ours but these: neither pipes that somebody reads to their end
 * nor leases. One of them at a time. */
static _noreturn_ void sync_apart(int dir, uint64_t before) {
    char text[32];
    int keep = dup2(dir, 3) == 3 ? 3 : -1;
    syscall(SYS_close_range, 0u, 2u, 0u);
    syscall(SYS_close_range, 4u, ~0u, 0u);
    setsid();
    unname();
    int lock = openat(keep, "sync.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0 || syncfs(keep) < 0)
        _exit(1);
    int n = snprintf(text, sizeof text, "%llu\n", (unsigned long long)before);
    int fd = openat(keep, NOTE ".tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    _exit(fd < 0 || write(fd, text, (size_t)n) != n || renameat(keep, NOTE ".tmp", keep, NOTE) < 0);
}

/* What the last one has covered; 0: nothing new. */
static uint64_t note_take(struct store *s) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    uint64_t covered = 0;
    if (fs_read(s->dir, NOTE, &b, NULL) < 0)
        return 0;
    unlinkat(s->dir, NOTE, 0);
    return sv_u64(sv_trim(buf_sv(&b)), now_real(), &covered) == 0 ? covered : 0;
}

static void snaps_synced(struct store *s, uint64_t before) {
    DB_SCOPE(s);
    sqlite3_stmt *st = db_stmt(s, SQL_SNAP_SYNCED);
    if (!st)
        return;
    sqlite3_bind_int64(st, 1, (int64_t)before);
    (void)db_run(s, SQL_SNAP_SYNCED);
}

void snaps_sync_old(struct store *s) {
    uint64_t before = now_real() - SYNC_AFTER_NS, covered = note_take(s);
    if (covered)
        snaps_synced(s, covered);
    if (fresh_before(s, before) == 0)
        return;
    /* Twice, so that it is nobody's child. */
    pid_t pid = fork();
    if (pid == 0) {
        if (fork() == 0)
            sync_apart(s->dir, before);
        _exit(0);
    }
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
}
