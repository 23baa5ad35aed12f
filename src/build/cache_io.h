#pragma once
/* The build cache in and out of a store, as an image: its layers are the results of steps, its label
 * "io.slipway.cache" says which key each of them answers. Any registry and any OCI tool can hold it. */
#include "build/build.h"

#define CACHE_LABEL "io.slipway.cache"

/* What a build leaves to be exported: filled by build_image when build_request.cache_out is set. */
struct cache_out {
    struct strv snaps; /* snapshot ids, each once, in the order of the steps */
    struct strv records; /* JSON objects: {"key":…,"result":…,"created":…,"layer":N} or "empty":true */
};
void cache_out_done(struct cache_out *o);
/* Makes the image; gives its id. */
int cache_export(struct store *s, struct lease *l, const struct cache_out *o, char id[DIGEST_LEN + 1], struct err *e);
/* Takes over what an image's label says; *ret_n = records that are new. An image without it: 0. */
int cache_import(struct store *s, struct lease *l, const struct image *img, size_t *ret_n, struct err *e);
