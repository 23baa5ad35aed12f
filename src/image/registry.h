#pragma once
/* The embedded registry (OCI distribution-spec v1.1), on the store's blobs. Repositories and tags
 * are records "registry": "NAME:TAG" -> {manifest, size, run}, "NAME@DIGEST" -> {media, size, type,
 * subject, blob}; "registryblob": "NAME@DIGEST" -> {time, blob}; "captured": "RUN NAME:TAG" -> {manifest}. Blobs are the store's, shared by all
 * repositories. Pushes captured in a run land here under their
 * full name (docker.io/team/app). Served on an httpd by registry_handle; repository paths are the
 * full name ("docker.io/team/app"), and unambiguous short ones too. */
#include "base/httpd.h"
#include "image/image.h"

struct registry;
struct registry_options {
    bool read_only;
    const char *basic_user, *basic_pass; /* one user, or */
    const char *htpasswd;                /* a file of them; read again when it changes */
    bool anonymous_pull;                 /* who only reads is not asked */
    const char *mirror_of;               /* a registry: what is not here is fetched from it; takes no pushes */
    const struct registry_conf *conf;    /* for mirror_of; outlives the registry */
    uint64_t max_blob;                   /* 0 = 64 GiB */
};
int registry_new(struct registry **ret, struct store *s, struct loop *l, const struct registry_options *o, struct err *e);
void registry_free(struct registry *r);
/* A httpd handler; arg is the registry. Everything below /v2/. */
void registry_handle(struct httpd_req *rq, void *arg);
/* Puts an image of the store under a name (a captured push): exports it, records the tag. */
int registry_capture(struct store *s, struct lease *l, const char *id, const char *ref, const char *run_id, char digest[DIGEST_LEN + 1], uint64_t *ret_size, struct err *e);
/* The image captured under that name, when there is one (1), as an image of the store. */
int registry_find(struct store *s, struct lease *l, const struct image_ref *ref, const char *run_id, struct image **ret, struct err *e);
typedef int (*registry_each_fn)(const char *ref, const char *digest, uint64_t size, const char *run_id, void *arg);
int registry_each(struct store *s, registry_each_fn fn, void *arg);
/* Removes a name ("app:tag", "app@sha256:…", or "app": all of it) from the registry; its blobs go
 * with the next prune. Gives what went. -ENOENT. */
int registry_remove(struct store *s, const char *name, struct strv *ret_said, struct err *e);
/* Forgets manifests that have no tag, that no index names and that refer to nothing that is kept,
 * older than older_ns. */
int registry_untagged(struct store *s, uint64_t older_ns, bool dry_run, struct strv *ret_said, struct err *e);
/* After a prune: forgets links to blobs that are gone. */
void registry_forget_gone(struct store *s);
/* For store_prune: marks what the registry's tags and manifests hold. */
int registry_reach(struct store *s, void (*mark)(void *m, const char *what), void *m, void *arg);
