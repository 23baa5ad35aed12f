#pragma once
/* The stat index of a tree snapshot: tree/<id>/index. A head, fixed records in the order of the
 * walk (a folder before what is in it), then the paths. Mapped shared, so that digests computed
 * later are kept; each carries a check value, since a crash may tear it. Only this machine reads
 * it: native byte order. */
#include "store/internal.h"

#include <sys/stat.h>

struct index_head {
    char magic[8];
    char boot[40]; /* an index of an earlier boot is not trusted: its files were never synced */
    uint32_t uid, gid;
    uint64_t n, strings;
};
struct index_rec {
    uint64_t size, mtime, ctime, ino, dev; /* ino 0: changed too recently to be trusted */
    uint32_t mode, path, path_len, check;
    uint8_t digest[32];
};
struct tree_index {
    struct tree_index *next;
    char id[33];
    uint8_t *map;
    size_t map_size;
    const struct index_head *head;
    struct index_rec *recs;
    const char *strings;
    uint32_t *hash;
    size_t hash_cap;
};
/* tree/<id>/index; NULL when there is none or it is not whole. */
struct tree_index *index_load(struct store *s, const char *id);
void index_free(struct tree_index *x);
struct index_rec *index_find(const struct tree_index *x, struct sv path);
static inline struct sv index_path(const struct tree_index *x, const struct index_rec *r) {
    return (struct sv){x->strings + r->path, r->path_len};
}
int index_write(int tree_dirfd, const struct index_head *head, const struct index_rec *recs,
                const struct buf *strings);
bool index_has_digest(const struct index_rec *r);
void index_set_digest(struct index_rec *r, const uint8_t raw[32]);

/* The scan (scan.c): what is in the source now. */
struct scan {
    struct store *s;
    const struct tree_options *o;
    struct index_rec *recs;
    size_t n, cap;
    struct buf strings; /* paths, each with a NUL */
    uint64_t start_ns;  /* wall clock before the first stat */
    struct tree_stats stats;
    struct err *e;
};
int tree_scan(struct scan *sc, int src_dirfd);
void scan_done(struct scan *sc);
void rec_stat(struct index_rec *r, const struct stat *st, uint64_t start_ns);
static inline const char *scan_path(const struct scan *sc, const struct index_rec *r) {
    return sc->strings.p + r->path;
}
