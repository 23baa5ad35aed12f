#pragma once
/* Unpacking a layer's tar into a folder that will be an overlay's lower: OCI whiteouts become
 * overlay's own (user.overlay.opaque, 0/0 devices). Every path is resolved inside `root` by
 * openat2; an entry that names a place outside, or has "..", is refused with the layer. Device
 * nodes are left out (a user namespace cannot make them, and no box may have them). Source: OCI
 * image-spec v1.1, layer.md. */
#include "base/tar.h"

struct extract_options {
    bool no_chown;      /* a single id: owners cannot be kept */
    uint64_t max_bytes; /* of all files; 0 = none */
};
struct extract_stats {
    uint64_t files, bytes, devices; /* entries made, bytes written, device nodes left out */
};
/* Reads t to its end. root is a folder's descriptor. */
int layer_extract(struct tar_reader *t, int root, const struct extract_options *o,
                  struct extract_stats *ret, struct err *e);
