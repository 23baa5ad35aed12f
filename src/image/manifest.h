#pragma once
/* Manifests and indexes, parsed from hostile JSON: OCI image-spec v1.1 and Docker's schema 2.
 * Limits: 4 MiB, 512 layers, 1,000 entries of an index. Foreign layers (with urls) are refused;
 * schema 1 is too. */
#include "base/digest.h"
#include "core/arena.h"
#include "core/json.h"

enum { MANIFEST_MAX = 4 << 20, MANIFEST_LAYERS = 512, INDEX_ENTRIES = 1000 };
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"

struct descriptor {
    const char *media_type, *digest, *artifact_type;
    uint64_t size;
    bool foreign; /* its content is elsewhere (manifest_parse_kept only) */
    const char *os, *arch, *variant; /* of an index's entry, or NULL */
    const struct json *annotations;
};
enum manifest_kind { MANIFEST_IMAGE, MANIFEST_INDEX };
struct manifest {
    enum manifest_kind kind;
    const char *media_type; /* as it says itself, or by its shape */
    const char *said_type;  /* as it says itself, or NULL */
    const char *artifact_type;
    struct descriptor config;   /* image */
    struct descriptor *entries; /* layers, or the index's manifests */
    size_t n;
    bool has_subject;
    struct descriptor subject;
    const struct json *annotations;
};
/* Strings live in a. Artifacts, whose config is not an image's, parse too. */
int manifest_parse(struct arena *a, struct sv text, struct manifest *ret, struct err *e);
/* As one who only keeps it sees it: foreign layers and sha512 digests are fine. Its digests may be
 * DIGEST_ANY_LEN long. */
int manifest_parse_kept(struct arena *a, struct sv text, struct manifest *ret, struct err *e);
/* Whether its layers and config can be an image here; else why not. */
int manifest_check_image(const struct manifest *m, struct err *e);
/* The entry for a platform: exact variant first, then the best one that runs here. NULL: none. */
const struct descriptor *manifest_pick(const struct manifest *index, const char *os, const char *arch, const char *variant);
/* "linux/amd64, linux/arm64" for messages. */
void manifest_platforms(const struct manifest *index, struct buf *b);
/* Go's names for this machine. */
const char *platform_arch(void);
const char *platform_variant(void); /* or NULL */
