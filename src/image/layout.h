#pragma once
/* Reading an OCI image layout (image-spec v1.1, image-layout.md): a mirror on disk, a stand-in.
 * Internal to image/. */
#include "image/manifest.h"
#include "image/ref.h"

struct layout;
int layout_open(struct layout **ret, const char *dir, struct err *e);
void layout_free(struct layout *l);
/* The manifest (or index) of a name: an entry whose ref.name annotation is the full, the familiar
 * reference or the tag alone; by digest; with `any`, the only entry that there is. -ENOENT. */
int layout_manifest(struct layout *l, const struct image_ref *ref, bool any, struct buf *ret, char digest[DIGEST_LEN + 1], struct err *e);
/* What the index says is different about a stand-in ("io.slipway.standin.difference"), or NULL. */
const char *layout_difference(const struct layout *l, const char *digest, const struct image_ref *ref);
/* A blob of it, at most MANIFEST_MAX or into a descriptor. */
int layout_read(struct layout *l, const char *digest, struct buf *ret, struct err *e);
int layout_blob(struct layout *l, const char *digest, struct err *e); /* fd */
