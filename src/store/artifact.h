#pragma once
/* Artifacts of runs: runs/<run>/artifacts/<id>.data, and <id>.json that describes it (written last).
 * An artifact is one file: a zip, or (newer clients may) any file. They go with their run, or when their
 * time is over. A name is there once in a run. Blocking (a lock per run for changes); thread-safe. */
#include "core/arena.h"
#include "store/store.h"

struct artifact {
    uint64_t id;                /* unique in the store */
    const char *name, *mime;    /* "application/zip" */
    const char *digest;         /* "sha256:…" of the file */
    const char *repo;           /* "owner/name" of the run; "" when not told */
    uint64_t size;
    int64_t created, expires;   /* seconds, wall clock */
};
/* As the published client checks it: no " : < > | * ? \ / nor control characters, 1 to 256 bytes. */
bool artifact_name_ok(struct sv name);
/* Publishes the file `tmp` of dirfd (same file system; renamed away). a->id and created are filled in.
 * -EEXIST: the name is taken (replace: then the old one goes). */
int artifact_put(struct store *s, const char *run, struct artifact *a, int dirfd, const char *tmp, bool replace, struct err *e);
/* By age, oldest first; non-zero from fn ends it. Those whose time is over are not told. */
typedef int (*artifact_fn)(const struct artifact *a, void *arg);
int artifact_each(struct store *s, const char *run, artifact_fn fn, void *arg);
int artifact_find(struct store *s, const char *run, const char *name, struct arena *a, struct artifact *ret); /* 1, 0, -errno */
int artifact_open(struct store *s, const char *run, uint64_t id, uint64_t *ret_size);
int artifact_remove(struct store *s, const char *run, const char *name, uint64_t *ret_id); /* -ENOENT */
/* Those of all runs whose time is over. */
int artifact_expire(struct store *s, bool dry, uint64_t *ret_n, uint64_t *ret_bytes);
/* All runs: for system df. */
int artifact_usage(struct store *s, uint64_t *ret_n, uint64_t *ret_bytes);
