#pragma once
/* The build cache: a step's key is the hash of named fields (everything that its result depends on),
 * so that two keys can be compared and the difference told. Keys are versioned: a change of what a
 * step does raises CACHE_VERSION.
 *
 * Records: "cache" KEY -> {created, empty, snaps: [key of the resulting snapshot]}; "build-last"
 * -> the fields of each step of the last build of a Dockerfile; "build-files" DIGEST -> the files
 * behind a content digest; "build-memo" -> content digests of sources seen before. */
#include "build/copy.h"

#define CACHE_VERSION 1

struct cache_key {
    struct strv fields; /* "name=value" */
    char id[DIGEST_LEN + 1];
};
void cache_key_add(struct cache_key *k, const char *name, struct sv value); /* long values as digests */
void cache_key_addf(struct cache_key *k, const char *name, const char *fmt, ...) _printf_(3, 4);
void cache_key_end(struct cache_key *k);
void cache_key_done(struct cache_key *k);

struct cache_hit {
    struct snap_info snap; /* its key is what later steps build on; id "" when empty */
    char result[129]; /* what later steps' keys name; "" = the snapshot's own key */
    bool empty;
    int64_t created; /* seconds */
};
/* 1 hit (its snapshot is leased), 0 none, negative errno. */
int cache_get(struct store *s, struct lease *l, const char *id, struct cache_hit *ret);
/* Records a result: the key of its snapshot, committed before (the step's own key unless the cache
 * was not to be used), or NULL when the step changed nothing. */
int cache_put(struct store *s, const char *id, const char *snap_key, int64_t created, struct err *e);

/* The same for a result that came from elsewhere: later steps' keys name `result`, not the snapshot. */
int cache_put_as(struct store *s, const char *id, const char *snap_key, const char *result, int64_t created, struct err *e);

/* Drops what only explains or speeds up (notes of earlier builds), for a prune of everything. */
void cache_forget_notes(struct store *s);

/* Digest of what a COPY would take; its files are kept for later comparison. */
void cache_content(struct store *s, const struct copy_list *l, char digest[DIGEST_LEN + 1]);
/* Small facts by key ("what these sources of this tree come to"). 1, 0, -errno. */
int cache_memo_get(struct store *s, const char *key, char digest[DIGEST_LEN + 1]);
void cache_memo_put(struct store *s, const char *key, const char *digest);

#define CACHE_WHY_BASE "the base image changed"
#define CACHE_WHY_PARENT "a step before it changed"
/* The last build of the same Dockerfile, to tell why a step was not cached. */
struct cache_last;
struct cache_last *cache_last_new(struct store *s, const char *name);
/* One phrase: "first build of this step", "app/views.py changed", "FOO changed". ret ends up in a
 * buffer of the caller. place = the step's name within the Dockerfile. Thread-safe. */
void cache_why(struct cache_last *l, const char *place, const struct cache_key *k, char *ret, size_t size);
/* Notes the fields of a step of this build. Thread-safe. */
void cache_note(struct cache_last *l, const char *place, const struct cache_key *k);
void cache_last_save(struct cache_last *l); /* when anything differs from the last time */
void cache_last_free(struct cache_last *l);
