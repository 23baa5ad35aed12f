#pragma once
/* Between cmd_build.c (options, the build), build_input.c (contexts) and build_output.c (what becomes
 * of the result). */
#include "build/build.h"
#include "cli/context.h"

struct build_args {
    struct strv tags, build_args, labels, annotations, no_cache_filter, add_hosts, secrets, ssh, contexts, outputs,
        cache_from, cache_to, allow, ulimits, attests;
    const char *file, *target, *platform, *progress, *iidfile, *metadata, *network, *call, *provenance, *sbom;
    bool check, no_cache, pull, push, load, quiet, explain, explain_only, debug;
    int64_t parallel;
    uint64_t shm_size;
};

/* The build context and the Dockerfile. */
struct build_input {
    int context;      /* dirfd, or -1 */
    char *name;       /* key of its stat index: absolute path, "-", or the URL */
    char *dockerfile; /* as build_request has it */
    struct buf text, ignore;
    bool has_ignore;
    struct build_context *named;
    size_t n_named;
    struct strv strings;
};
/* path: a folder, "-" (a Dockerfile or an archive on stdin), a git or HTTP URL. */
int build_input_open(struct cli_ctx *c, struct build_input *in, const char *path, const struct build_args *a,
                     const volatile int *cancel, struct err *e);
void build_input_done(struct build_input *in);

/* --output, read: "type=local,dest=out". */
enum build_output_kind { OUT_IMAGE, OUT_REGISTRY, OUT_LOCAL, OUT_TAR, OUT_OCI, OUT_DOCKER, OUT_CACHEONLY };
struct build_output {
    enum build_output_kind kind;
    const char *dest; /* file, folder, "-" */
    bool push, zstd;
};
struct build_outputs {
    struct build_output items[16];
    size_t n;
    struct strv strings, names; /* names: of name=… */
};
int build_outputs_read(const struct build_args *a, struct build_outputs *ret, struct err *e);
void build_outputs_done(struct build_outputs *o);
/* Several images: one for each platform, in the order of --platform. */
struct build_made {
    char platform[96];
    struct build_result res;
};
/* Writes what was asked for. *digest (of the manifest or index that was pushed), or "". */
int build_outputs_write(struct cli_ctx *c, const struct build_args *a, const struct build_outputs *o, const struct build_made *made,
                        size_t n, const volatile int *cancel, char digest[DIGEST_LEN + 1], struct err *e);
/* --metadata-file. */
int build_metadata_write(struct cli_ctx *c, const struct build_args *a, const struct build_made *made, size_t n, const char *digest,
                         struct err *e);

/* --cache-from: what cannot be had is only warned about. */
int build_cache_read(struct cli_ctx *c, const struct build_args *a, const volatile int *cancel, struct err *e);
/* --cache-to, read: 1 = an export is asked for, 0 = none; *ret_inline. */
int build_cache_wanted(const struct build_args *a, bool *ret_inline, struct err *e);
struct cache_out;
int build_cache_write(struct cli_ctx *c, const struct build_args *a, const struct cache_out *o, const volatile int *cancel, struct err *e);
/* Unpacks the tar that `make` writes into a folder (made when it is not there). */
int build_folder_from_tar(const char *dest, int (*make)(void *arg, int fd, struct err *e), void *arg, struct err *e);
