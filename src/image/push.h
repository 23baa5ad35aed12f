#pragma once
/* Inside image/: the parts of a push that copying uses too. */
#include "image/remote.h"

struct push_blobs {
    struct store *s;
    struct lease *l;
    struct remote *to, *from; /* what the store does not have is fetched from there */
    const char *mount_from;   /* a repository of `to`'s registry that may have the blobs, or NULL */
    const struct push_options *o;
};
/* The blobs of an image's manifest that are not there yet, several at once. *ret_sent is added to. */
int push_blobs_of(const struct push_blobs *b, const struct manifest *m, uint64_t *ret_sent, struct err *e);
/* A manifest under a tag or its digest. *ret_knows_subject: the registry keeps referrers itself. */
int push_text(struct remote *r, struct sv text, const char *media, const char *ref, const char *digest, bool *ret_knows_subject,
              struct err *e);
