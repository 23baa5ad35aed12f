#pragma once
/* Inside image/: a snapshot's tar as a stream, and the helper operations of layers. */
#include "base/compress.h"
#include "image/image.h"

/* Gives the tar of a snapshot to sink, on the calling thread, while a helper makes it. */
int layer_stream(struct store *s, const char *snap_id, sink_fn sink, void *arg, struct err *e);
/* The exact bytes of a layer, uncompressed: from the blob it was unpacked from when that is still
 * there, else made from the snapshot; verified against the diff id. */
int layer_content(struct store *s, const char *snap_id, sink_fn sink, void *arg, struct err *e);
/* The blob of a layer: kind "pulled" (what it was unpacked from), "gzip" or "zstd" (made here).
 * Records "layerblob": "<diff id>:<kind>". 1 found and in the store, 0 not. */
struct layer_blob {
    char digest[DIGEST_LEN + 1];
    uint64_t size;
    enum codec codec;
};
int layer_blob_get(struct store *s, struct lease *l, const char *diff_id, const char *kind,
                   struct layer_blob *ret);
int layer_blob_put(struct store *s, const char *diff_id, const char *kind,
                   const struct layer_blob *b, struct err *e);
