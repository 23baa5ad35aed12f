#pragma once
/* tar for the client: writing a folder or file (ustar, pax for long names), and extracting what
 * the engine sends for `docker cp`, inside one destination folder. */
#include "docker/client/client.h"

typedef int (*tar_put_fn)(void *to, const void *p, size_t n);
struct tarball {
    tar_put_fn put;
    void *to;
};
/* Writes path (a folder with all below, or one file) under the name `as`; skip (may be NULL) says
 * which relative paths are left out. */
int tarball_add(struct tarball *t, int dirfd, const char *path, const char *as,
                bool (*skip)(void *arg, const char *rel), void *arg, struct err *e);
int tarball_text(struct tarball *t, const char *as, struct sv text);
int tarball_end(struct tarball *t);
/* Extracts from an open answer into dirfd. The first part of every name is replaced by `top`
 * ("" drops it). */
int tarball_extract(struct api *c, int dirfd, const char *top, bool keep_owner, struct err *e);
