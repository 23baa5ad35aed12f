#pragma once
/* The store: blobs by digest, snapshots by key, tree snapshots, records in SQLite, leases.
 *
 * On disk (under dir_state() unless given):
 *   blobs/sha256/ab/<hex>        immutable, verified when written
 *   snap/<id>/fs                 one layer's tree, owners in the store's id mapping (base/userns.h)
 *   tree/<id>/                   tree snapshots of host folders
 *   scratch/<lease>/             private folder of a lease, swept when the lease is dead
 *   lease/<id>                   a file, flock'ed by its process for as long as it lives
 *   records.db                   SQLite, WAL
 * Rules: writes go to a temporary name, are synced and renamed; a record is written only after
 * what it points to; whoever uses something holds a lease; a lease is a lock that dies with its
 * process, so collection and recovery need no clean shutdown. Thread-safe. Several processes may
 * have the same store open. */
#include "base/digest.h"
#include "base/userns.h"
#include "core/err.h"

struct store;
struct lease;
struct store_options {
    const char *path;       /* NULL = dir_state() */
    bool allow_single_id;
};
int store_open(struct store **ret, const struct store_options *o, struct err *e);
void store_close(struct store *s);
int store_dirfd(const struct store *s);
const char *store_path(const struct store *s);
/* The keeper of this process, started on first use. */
int store_keeper(struct store *s, struct keeper **ret, struct err *e);

/* --- leases -------------------------------------------------------------------------------- */
int lease_new(struct store *s, const char *what, struct lease **ret, struct err *e);
void lease_free(struct lease *l); /* removes scratch, then the lease */
#define _cleanup_lease_ _cleanup_(lease_freep)
void lease_freep(struct lease **l);
const char *lease_id(const struct lease *l);
int lease_scratch(struct lease *l, struct err *e); /* O_PATH-able dirfd, owned by the lease */
char *lease_scratch_path(struct lease *l);         /* malloc; absolute */
/* Marks something as used while the lease lives: a blob ("sha256:…"), "snap:ID", "tree:ID", or
 * "cgroup:/sys/fs/cgroup/…/slipway-…" (a cgroup folder that whoever finds the lease dead kills and
 * removes). Mark first, then look whether it is there. */
int lease_use(struct lease *l, const char *what);
/* Sweeps what dead leases left (scratch, cgroup folders named slipway-<lease>, nft entries are
 * told to `fn`). Called by every command that opens the store for work; cheap when none is dead. */
typedef void (*lease_dead_fn)(const char *id, void *arg);
int store_sweep(struct store *s, lease_dead_fn fn, void *arg, struct err *e);

/* --- blobs --------------------------------------------------------------------------------- */
struct blob_writer;
int blob_begin(struct store *s, struct blob_writer **ret, struct err *e);
int blob_write(struct blob_writer *w, const void *p, size_t n);
uint64_t blob_written(const struct blob_writer *w);
/* Verifies against `expect` when given (ERR_NET kind on mismatch), syncs, renames. Frees w, also
 * on failure. digest may be NULL. */
int blob_commit(struct blob_writer *w, const char *expect, char digest[DIGEST_LEN + 1], struct err *e);
void blob_abort(struct blob_writer *w); /* NULL is fine */
int blob_put(struct store *s, struct sv data, char digest[DIGEST_LEN + 1], struct err *e);
bool blob_has(struct store *s, const char *digest);
int blob_open(struct store *s, const char *digest, uint64_t *ret_size, struct err *e); /* fd */
int blob_read(struct store *s, const char *digest, struct buf *b, struct err *e);
/* A partial download that survives: opens (creating) the resumable file of a digest, waiting for
 * another process that has it; commit verifies the whole file, abort keeps it for the next time.
 * -EEXIST (e untouched): the blob is there by now. */
int blob_resume(struct store *s, const char *digest, struct blob_writer **ret, uint64_t *ret_have, struct err *e);

/* --- snapshots ----------------------------------------------------------------------------- */
/* A snapshot is an immutable layer tree: an overlay lower or upper that was committed. Its key is
 * what it was made from (a diffID for an unpacked layer, a cache key for a build step). */
struct snap_info {
    char id[33];
    char key[129];
    char diff_id[DIGEST_LEN + 1]; /* "" when not computed yet */
    uint64_t size, files;
};
/* A new, private snapshot folder with fs/ and work/ (for an overlay's upper), owned by the id
 * map's 0:0, mode 0755. Returned as an O_PATH|O_DIRECTORY descriptor of snap/<id>. */
int snap_begin(struct store *s, struct lease *l, char id[33], int *ret_dirfd, struct err *e);
/* Publishes it under key. When the key is there already the new one is dropped and *ret is the
 * old, which l holds from then on (so that two equal steps at once converge). Costs no sync: until a later sweep has synced
 * it, a snapshot counts for this boot of the machine only (a crash of the machine forgets it). */
int snap_commit(struct store *s, struct lease *l, const char *id, const struct snap_info *info, struct snap_info *ret, struct err *e);
void snap_abort(struct store *s, const char *id); /* removes from inside the namespace */
int snap_find(struct store *s, struct lease *l, const char *key, struct snap_info *ret); /* 1, 0, -errno */
int snap_get(struct store *s, const char *id, struct snap_info *ret);
int snap_set_diff_id(struct store *s, const char *id, const char *diff_id, uint64_t size, struct err *e);
int snap_open(struct store *s, const char *id); /* O_PATH dirfd of snap/<id>/fs */
/* A lock on a key, across processes, for work that should be done once. Blocks. */
int store_key_lock(struct store *s, const char *key); /* fd to close */

/* --- tree snapshots ------------------------------------------------------------------------ */
/* A frozen copy of a host folder, updated through a stat index (size, mtime, ctime, inode, mode):
 * unchanged files are shared (hardlink inside the store; reflink where the disk can), changed ones
 * copied. Owners become uid:gid of the id map (for an ordinary user always the
 * caller, who is 1001 inside). Set-uid bits are dropped. `name` keys the index (one per folder and filter).
 * wanted(rel path, is_dir, arg): 0 skip (a folder: with all below), 1 take. Special files are
 * skipped and counted. Content digests of files are cached in the index. */
typedef int (*tree_filter_fn)(const char *rel, bool is_dir, void *arg);
struct tree_stats { uint64_t files, copied, bytes_copied, skipped_special; };
struct tree_options {
    const char *name;
    uint32_t uid, gid;
    tree_filter_fn wanted;
    void *arg;
    const char *const *paths; /* when given: exactly these relative paths (as git lists them) */
    size_t n_paths;
    bool digests;             /* take the digests of what is copied on the way: they will be asked for */
};
/* Gives a lower-layer folder tree/<id>/fs as *ret_id; leased by l. */
int tree_update(struct store *s, struct lease *l, int src_dirfd, const struct tree_options *o,
                char ret_id[33], struct tree_stats *stats, struct err *e);
int tree_open(struct store *s, const char *id); /* O_PATH dirfd of tree/<id>/fs */
/* sha256 of a file of the tree, from the index when unchanged. */
int tree_digest(struct store *s, const char *id, const char *rel, char digest[DIGEST_LEN + 1], struct err *e);

/* --- records ------------------------------------------------------------------------------- */
/* Small JSON documents in name spaces ("image", "run", "container", …). Transactional. */
int rec_put(struct store *s, const char *ns, const char *key, struct sv json, struct err *e);
int rec_get(struct store *s, const char *ns, const char *key, struct buf *json); /* 1, 0, -errno */
int rec_del(struct store *s, const char *ns, const char *key);
typedef int (*rec_fn)(const char *key, struct sv json, void *arg); /* non-zero stops */
int rec_each(struct store *s, const char *ns, const char *prefix, rec_fn fn, void *arg);
/* A counter per name, unique and rising across processes; first is 1. */
int store_counter(struct store *s, const char *name, uint64_t *ret, struct err *e);

/* --- housekeeping -------------------------------------------------------------------------- */
struct prune_options { bool all; uint64_t keep_bytes; uint64_t older_ns; bool dry_run; };
struct prune_result { uint64_t bytes, blobs, snaps, trees; uint64_t left; /* bytes of what is there still */ };
/* Kept: what `reach` marks (blobs by digest, snapshots by id or by key: given by image/ and
 * build/), what living leases use, and what is younger than the oldest living lease. Of the rest
 * older_ns keeps what was used in that time; keep_bytes stops once the store is that small, least
 * recently used first; all also drops tree snapshots that are current. NULL reach: everything that
 * is not leased goes. */
typedef int (*reach_fn)(struct store *s, void (*mark)(void *m, const char *digest_or_snap), void *m, void *arg);
int store_prune(struct store *s, const struct prune_options *o, reach_fn reach, void *arg,
                struct prune_result *ret, struct err *e);
struct store_usage { uint64_t blobs, blob_bytes, snaps, snap_bytes, trees, tree_bytes; };
int store_usage(struct store *s, struct store_usage *ret, struct err *e);
