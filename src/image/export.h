#pragma once
/* Inside image/: manifests of images made here. */
#include "base/compress.h"
#include "image/image.h"

struct export_layer {
    char digest[DIGEST_LEN + 1];
    uint64_t size;
    enum codec codec;
};
/* The OCI manifest; layers: as many as i has. */
void export_manifest(const struct image *i, const struct export_layer *layers, uint64_t config_size,
                     struct buf *b);
