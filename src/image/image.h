#pragma once
/* Images of the store: configuration, manifest, names. An image is known by its config digest
 * (docker's image id). Records: "image": full reference -> {id, made}; "img": id -> {manifest,
 * layers, standin, note, made}; "layerblob": "<diff id>:pulled|gzip|zstd" -> a blob. A built image has layers as snapshots whose blobs are made (and compressed) only when pushed or
 * saved. Source: OCI image-spec v1.1, Docker image manifest v2 schema 2. */
#include "core/json.h"
#include "image/ref.h"
#include "store/store.h"

struct image_health { struct strv test; uint64_t interval_ns, timeout_ns, start_period_ns, start_interval_ns; int retries; bool given; };
struct image_history { char *created, *created_by, *comment, *author; bool empty_layer; };
struct image_config {
    char *os, *architecture, *variant, *created, *author;
    struct strv env, cmd, entrypoint, shell, onbuild, exposed, volumes;
    bool has_cmd, has_entrypoint, has_shell, args_escaped;
    char *user, *workdir, *stopsignal;
    struct strv labels; /* "key=value" */
    struct image_health health;
    struct strv diff_ids; /* bottom first */
    struct image_history *history; size_t n_history;
};
void image_config_done(struct image_config *c);
void image_config_copy(struct image_config *to, const struct image_config *from);
int image_config_parse(struct sv json, struct image_config *ret, struct err *e);
void image_config_format(const struct image_config *c, struct buf *b); /* canonical, deterministic */

struct image {
    char id[DIGEST_LEN + 1];       /* config digest */
    char manifest[DIGEST_LEN + 1]; /* of the manifest pulled, or "" for a built one */
    struct image_config config;
    struct strv layers;            /* snapshot ids, bottom first, as many as diff_ids */
    bool standin;
    char *standin_note;            /* the difference, or NULL */
    uint64_t size;                 /* uncompressed, all layers */
    char *name;                    /* the full reference it was found by, or NULL */
};
void image_free(struct image *i);
void image_freep(struct image **i);
#define _cleanup_image_ _cleanup_(image_freep)

/* Local look-up by reference, id or unique id prefix. 1 found, 0 not. Its snapshots are leased. */
int image_find(struct store *s, struct lease *l, const char *name, struct image **ret, struct err *e);
/* Registers an image made here: config and its layers' snapshots (bottom first, diff ids set in
 * the config). Gives its id. */
int image_add(struct store *s, const struct image_config *c, const struct strv *layer_snaps, char id[DIGEST_LEN + 1], struct err *e);
/* The same for an image that has its configuration already as a blob of the store (pulled, loaded):
 * id is that blob's digest, its bytes stay as they are. manifest: digest of the manifest blob, or
 * NULL; standin_note: NULL, or the difference of a stand-in. */
int image_register(struct store *s, const char *id, const char *manifest, const struct strv *layer_snaps, const char *standin_note, struct err *e);
int image_tag(struct store *s, const char *id, const char *ref, struct err *e);
int image_untag(struct store *s, const char *ref, struct err *e); /* -ENOENT */
typedef int (*image_each_fn)(const char *ref, const char *id, struct sv record_json, void *arg);
int image_each(struct store *s, image_each_fn fn, void *arg);
/* Every image, named or not, by id; ref is NULL. */
int image_each_id(struct store *s, image_each_fn fn, void *arg);
/* Docker's rules: a name is untagged, the image goes with its last name; by id only with one name
 * unless forced. ret_said: "Untagged: …", "Deleted: …". What it held goes with the next prune. */
int image_remove(struct store *s, const char *name_or_id, bool force, struct strv *ret_said, struct err *e);
/* For store_prune: marks what named images (and unnamed ones of the last hour) hold. */
int image_reach(struct store *s, void (*mark)(void *m, const char *what), void *m, void *arg);
/* Marks a manifest (or index) and all that it names, as far as it is in the store. */
void image_mark_manifest(struct store *s, const char *digest, void (*mark)(void *m, const char *what), void *m);
/* After a prune: forgets the records of images whose configuration is gone. */
void image_forget_gone(struct store *s);

/* Layers (helpers inside the store's namespace do the work). */
struct image_progress { void (*fn)(void *arg, const char *id, const char *what, uint64_t done, uint64_t total); void *arg; };
/* Unpacks a layer blob (any codec) into a snapshot with key = diff_id; verifies the diff id. */
int layer_unpack(struct store *s, struct lease *l, const char *blob, const char *diff_id, struct snap_info *ret, const struct image_progress *p, struct err *e);
/* The tar of a snapshot (OCI whiteouts, sorted, deterministic) to fd. Opaque folders and whiteouts
 * from overlay's user.overlay.* xattrs and 0/0 devices. */
int layer_tar(struct store *s, const char *snap_id, int64_t clamp_mtime /* <0: none */, int out_fd, struct err *e);
/* The same of a folder that is an overlay's upper layer (box_upper). */
int layer_tar_of(struct store *s, int fs_dirfd, int out_fd, struct err *e);
/* diff id and size of a snapshot: hashes layer_tar without storing it, once. */
int layer_diff_id(struct store *s, const char *snap_id, char diff_id[DIGEST_LEN + 1], uint64_t *ret_size, struct err *e);

/* --- remote -------------------------------------------------------------------------------- */
/* What the user configured for registries. Immutable. */
struct registry_conf {
    struct { const char *registry, *mirror; } mirrors[16]; size_t n_mirrors; /* mirror: URL, or oci:DIR layout */
    const char *insecure[16]; size_t n_insecure;
    const char *auth_file;   /* extra docker config.json (a job's), or NULL; then ~/.docker/config.json */
    bool no_user_auth;
    bool offline;
    const char *capture_root; /* blobs captured in this run are in the store: see registry.h */
};
enum pull_policy { PULL_MISSING, PULL_ALWAYS, PULL_NEVER };
struct pull_options {
    enum pull_policy policy;
    const char *os, *arch, *variant; /* NULL = this machine's */
    const struct registry_conf *conf;
    const char *username, *password; /* of the workflow, or NULL */
    const struct image_progress *progress;
    const volatile int *cancel;
    bool hasty;        /* who does not answer the first request at once is given up: for what one can do without */
    bool any_platform; /* an image is taken whatever its configuration says it is for; of an index still arch's */
    const char *label; /* an image without this label is not found, and its layers are not fetched; or NULL */
    /* Asked for a name before any registry: images captured in this run. 1 = found (ret set). */
    int (*captured)(void *arg, const struct image_ref *ref, struct image **ret);
    void *captured_arg;
    /* Asked when no registry answered: makes a stand-in and gives the OCI layout that has it.
     * 1 = made. NULL = never. */
    int (*standin)(void *arg, const char *ref, const struct image_progress *progress, const volatile int *cancel /* or NULL; not 0: give up, -ECANCELED */,
                   char **ret_layout, struct err *e);
    void *standin_arg;
};
/* Finds locally or pulls; all layers unpacked. */
int image_get(struct store *s, struct lease *l, const char *ref, const struct pull_options *o, struct image **ret, struct err *e);
/* An image whose manifest and blobs are in the store already (pushed to the embedded registry):
 * unpacks, registers. 1. */
int image_from_store(struct store *s, struct lease *l, const struct image_ref *ref, const char *manifest, struct image **ret, struct err *e);
struct push_options {
    const struct registry_conf *conf;
    const struct image_progress *progress;
    const volatile int *cancel;
    unsigned parallel; /* 0 = 4 */
    bool zstd;
};
int image_push(struct store *s, struct lease *l, const char *id, const char *ref, const struct push_options *o, char digest[DIGEST_LEN + 1], uint64_t *ret_sent, struct err *e);
/* Pushes several images, one for each platform, and an index of them under the name. */
int image_push_index(struct store *s, struct lease *l, const char *const *ids, size_t n, const char *name, const struct push_options *o, char digest[DIGEST_LEN + 1], struct err *e);
/* Makes the blobs (compressed layers, config, manifest) in the store and gives the manifest's
 * digest and text; the same bytes each time. Cached by diff id. */
int image_export(struct store *s, struct lease *l, const char *id, bool zstd, const struct image_progress *p, char manifest[DIGEST_LEN + 1], struct buf *ret_manifest, uint64_t *ret_total, struct err *e);
/* Copies an image between registries as it is: all platforms (or one), with what refers to it. */
struct image_copy_options {
    const struct registry_conf *conf;
    const struct image_progress *progress;
    const volatile int *cancel;
    unsigned parallel; /* 0 = 4 */
    const char *os, *arch, *variant; /* arch NULL = all platforms */
    bool referrers;
};
struct image_copied { char digest[DIGEST_LEN + 1]; uint64_t manifests, sent; };
int image_copy(struct store *s, struct lease *l, const char *src, const char *dst, const struct image_copy_options *o, struct image_copied *ret, struct err *e);
/* docker load / save, oci layouts. */
int image_save(struct store *s, struct lease *l, const char *const *refs, size_t n, bool oci, int out_fd, struct err *e);
int image_load(struct store *s, struct lease *l, int in_fd, struct strv *ret_names, struct err *e);
/* The same with an OCI layout folder; saving makes it. */
int image_save_layout(struct store *s, struct lease *l, const char *const *refs, size_t n, const char *path, struct err *e);
int image_load_layout(struct store *s, struct lease *l, const char *path, struct strv *ret_names, struct err *e);
/* The image as one tree: written to out_fd as a tar, or (argv given) shown read-only to a command
 * that runs in the store's user namespace, with $SLIPWAY_MOUNT as its folder; its exit code. */
int image_flatten(struct store *s, const struct image *i, int out_fd, struct err *e);
int image_view(struct store *s, const struct image *i, char *const *argv, struct err *e);
/* An image of one layer from a tar (of any codec) of its files. c: its configuration, layers and
 * history are set here. */
int image_import(struct store *s, struct lease *l, int in_fd, struct image_config *c, const char *comment, char id[DIGEST_LEN + 1], struct err *e);
/* Credentials: docker's config.json (auths, credHelpers, credsStore). */
int registry_login(const char *auth_file, const char *registry, const char *user, const char *pass, bool verify, const struct registry_conf *conf, struct err *e);
int registry_logout(const char *auth_file, const char *registry, struct err *e);
