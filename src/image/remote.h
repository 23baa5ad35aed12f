#pragma once
/* A repository of a registry, over HTTP: addresses, authentication, retries. Thread-safe: blobs of
 * one image are transferred by several workers. Internal to image/.
 *
 * What may go where: credentials go to the registry's own origin, and to its token server when that
 * is reached by https and belongs to the same site (host, or the last two labels of it, are equal;
 * registry.redhat.io with sso.redhat.com is known). Plain http only for loopback and registries that
 * the configuration names as insecure, or a mirror given with http://. */
#include "base/http.h"
#include "image/auth.h"
#include "image/manifest.h"

struct remote;
struct remote_options {
    const struct registry_conf *conf;
    const char *registry;       /* "docker.io" */
    const char *path;           /* repository */
    const char *mirror;         /* URL of a mirror of it, or NULL */
    bool push;
    bool hasty; /* until the registry has answered once: one try, 5 s to connect, 10 s without a byte */
    const char *username, *password; /* instead of the configured ones, or NULL */
    const volatile int *cancel;
};
int remote_new(struct remote **ret, const struct remote_options *o, struct err *e);
void remote_free(struct remote *r);
const char *remote_host(const struct remote *r); /* for messages */
const char *remote_base(const struct remote *r); /* "https://registry-1.docker.io" */
const char *remote_path(const struct remote *r);
/* A further repository to ask read access for. */
void remote_mount_from(struct remote *r, const char *path);
/* A request to `url`: relative ("/v2/…") or absolute (an upload's Location; credentials only when
 * it is the registry's own origin). Sets url, credentials and cancel in rq; tries again on 401
 * (once, with a token) when the body can be sent again, and on 429, 5xx and broken connections
 * (thrice, with growing pauses) unless the body is a reader (an upload's owner begins it anew) or
 * some of the answer was written already. */
int remote_do(struct remote *r, struct http_req *rq, const char *url, struct http_resp *ret, struct err *e);
/* The registry's own words about a failed request as an error ("denied: …"). */
int remote_error(const struct remote *r, const struct http_resp *resp, struct err *e, const char *what);
/* Reads the manifest of a tag or digest; verifies a digest. -ENOENT with ERR_NOTFOUND on 404. */
int remote_manifest(struct remote *r, const char *tag_or_digest, struct buf *ret, char digest[DIGEST_LEN + 1], struct err *e);
/* Downloads a blob into the store (nothing to do when it is there), resuming what an earlier try
 * left, and verifies it. */
int remote_blob(struct remote *r, struct store *s, const char *digest, uint64_t size, const struct image_progress *p, struct err *e);
/* How large a blob is there (HEAD). -ENOENT with ERR_NOTFOUND on 404. */
int remote_blob_size(struct remote *r, const char *digest, uint64_t *ret, struct err *e);
/* True when the last failure was that nobody answered (no HTTP status at all). */
bool remote_unreachable(const struct err *e);
