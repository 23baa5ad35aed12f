#pragma once
/* What files an image has, layer upon layer, without mounting it: each file with the layer that it
 * comes from, what each layer costs and what of it later layers take away again, and the packages that
 * the distribution's and Python's own records name. Read from the layers' tars; nothing is unpacked. */
#include "core/map.h"
#include "image/image.h"

enum { FILES_DIGESTS = 1, FILES_PACKAGES = 2 };

struct image_file {
    char type; /* 'f', 'd', 'l', 'p', 'c', 'b', 'h' (a further name of a file: link) */
    uint32_t mode, layer;
    uint64_t uid, gid, size;
    uint8_t digest[32]; /* of a file's content, with FILES_DIGESTS */
    char *link;
    char *path; /* without a slash in front */
    /* internal */
    struct map *children;
    struct buf *text;
};
struct layer_cost {
    uint64_t bytes, files;           /* as the layer has them */
    uint64_t lost_bytes, lost_files; /* of these, what a later layer deletes or replaces */
    uint64_t whiteouts;
};
struct image_files {
    struct image_file *root;
    struct image_file **v; /* sorted by path */
    size_t n;
    struct layer_cost *layers;
    size_t n_layers;
    struct strv packages; /* "deb openssl 3.0.11-1", sorted: kind, name, version */
};
int image_files_read(struct store *s, const struct image *i, unsigned what, struct image_files *ret, struct err *e);
void image_files_done(struct image_files *f);
#define _cleanup_files_ _cleanup_(image_files_done)
