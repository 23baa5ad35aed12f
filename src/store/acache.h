#pragma once
/* Caches of actions: immutable archives by repository, ref (the scope), version and key.
 *
 * A file acache/<id> of the store and a record that points to it. What is found: for each ref in turn
 * the exact first key, then for each key what begins with it, newest first. Entries that nobody used for
 * a time go, and the least recently used ones when a repository has too many bytes. Blocking (a lock
 * across processes for changes); thread-safe. Source: docs.github.com, "Dependency caching reference". */
#include "core/arena.h"
#include "store/store.h"

#define ACACHE_MAX_BYTES (10ull << 30) /* of a repository, unless told otherwise */
#define ACACHE_MAX_AGE_NS (7ull * 86400 * 1000000000)
#define ACACHE_KEY_MAX 512u

struct acache_name {
    const char *repo, *ref, *version, *key;
};
struct acache_entry {
    struct acache_name name;
    uint64_t id, size;
    int64_t created_ns, used_ns; /* wall clock */
};
/* Keys are at most 512 bytes without commas and control characters. */
bool acache_key_ok(struct sv key);
/* 1 = found (strings in a), 0 = none, negative errno. */
int acache_find(struct store *s, const char *repo, const char *const *refs, size_t n_refs, const char *const *keys, size_t n_keys,
                const char *version, struct arena *a, struct acache_entry *ret);
bool acache_has(struct store *s, const struct acache_name *name);
/* The archive, and marks it as used. -ENOENT: it went meanwhile. */
int acache_open(struct store *s, const struct acache_entry *en, uint64_t *ret_size);
int acache_open_id(struct store *s, uint64_t id, uint64_t *ret_size);
/* Publishes the whole file `tmp` of dirfd (same file system; renamed away). -EEXIST: there is one, tmp
 * stays. Then makes room: max_bytes 0 = ACACHE_MAX_BYTES. */
int acache_put(struct store *s, const struct acache_name *name, int dirfd, const char *tmp, uint64_t max_bytes, uint64_t *ret_id, struct err *e);
/* All entries of a repository (NULL: of all); a non-zero result of fn ends it and is returned. */
typedef int (*acache_fn)(const struct acache_entry *en, void *arg);
int acache_each(struct store *s, const char *repo, acache_fn fn, void *arg);
int acache_remove(struct store *s, const struct acache_entry *en);
/* Of each repository by size, of all by age; and files without a record. */
struct acache_pruned { uint64_t entries, bytes; };
int acache_prune(struct store *s, uint64_t max_bytes, uint64_t max_age_ns, bool all, bool dry, struct acache_pruned *ret);
