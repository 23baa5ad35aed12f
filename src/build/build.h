#pragma once
/* Building an image from a Dockerfile. dockerfile.h reads, graph.h makes one graph of all stages,
 * solve.h runs it (independent vertices in parallel), cache.h keys each step by content.
 * build_image blocks; call it on a worker. */
#include "image/image.h"
#include "store/store.h"

enum build_event_kind { BUILD_STEP_START, BUILD_STEP_CACHED, BUILD_STEP_DONE, BUILD_STEP_FAILED, BUILD_LOG, BUILD_WARNING, BUILD_PROGRESS, BUILD_STEP_WOULD };
struct build_event {
    enum build_event_kind kind;
    unsigned vertex;        /* number of the step */
    const char *name;       /* "[web 2/7] RUN pip install …" */
    struct sv log; int stream;
    const char *why;        /* cache: why it was or was not cached */
    uint64_t dur_ns, done, total;
    int code;
    struct span at;
};
struct build_ssh { const char *id, *socket; }; /* an agent's socket on this machine */
struct build_secret { const char *id; const char *file; const char *env_value; };
/* What is asked for: an image, or only what the Dockerfile says. Then nothing is fetched or run;
 * a base image that is not here is taken as unknown. */
enum build_call { BUILD_CALL_BUILD, BUILD_CALL_CHECK, BUILD_CALL_OUTLINE, BUILD_CALL_TARGETS };
struct build_context { /* --build-context */
    const char *name;
    const char *image;  /* a reference, or: */
    int dirfd;          /* a folder */
    const char *folder; /* key for its stat index (absolute path) */
};
struct cache_out; /* cache_io.h */
struct build_request {
    enum build_call call;
    bool call_json;             /* OUTLINE, TARGETS: as JSON */
    struct buf *call_out;       /* their text; CHECK: the report. Its warnings are in the diagnostics */
    int context_fd;             /* dirfd of a folder, or -1 */
    const char *context_tree;   /* or a tree snapshot id already in the store, or NULL */
    const char *context_name;   /* key for the stat index (absolute path) */
    const char *dockerfile;     /* path relative to the context; NULL = Dockerfile */
    struct sv dockerfile_text;  /* or its text (p != NULL) */
    struct sv ignore_text;      /* its own ignore file (p != NULL), when it lies outside the context */
    const char *const *build_args;  /* "K=V" or "K" (from env), NULL-terminated or NULL */
    const char *const *labels;      /* "K=V" */
    const char *const *tags;        /* references to record */
    const char *target;
    const struct build_context *contexts;
    size_t n_contexts;
    bool allow_host_network, allow_insecure; /* --allow */
    const char *const *no_cache_filter;
    const char *const *add_hosts;
    const struct build_secret *secrets; size_t n_secrets;
    const struct build_ssh *ssh; size_t n_ssh;
    uint64_t shm_size;          /* 0 = default */
    struct cache_out *cache_out; /* filled with the steps' results, for --cache-to; or NULL */
    bool cache_inline;          /* the image carries them itself (type=inline) */
    bool explain_only;          /* probe and tell; nothing is run */
    bool no_cache, pull, host_network, no_network;
    const char *platform;       /* "linux/arm64"; NULL = this machine's */
    unsigned parallel;          /* 0 = cores */
    int64_t source_date_epoch;  /* <0: none */
    struct box_net *net;        /* RUN joins it (a job's), or NULL: one of the build's own when first needed */
    const struct pull_options *pulls;
    const char *const *env_passthrough; /* "K=V" given to RUN, never in image or key (proxies, CA bundle variables) */
    const char *ca_bundle;      /* host path mounted read-only at the paths programs look at, or NULL */
    void (*event)(void *arg, const struct build_event *ev); /* from any thread, one at a time */
    void *arg;
    const volatile int *cancel;
};
struct build_result { char id[DIGEST_LEN + 1]; unsigned steps, cached; uint64_t dur_ns; };
/* Errors in the Dockerfile go to d (all of one pass) and give -EBADMSG. */
int build_image(struct store *s, struct lease *l, const struct build_request *rq, struct build_result *ret, struct diags *d, struct err *e);
