#pragma once
/* One graph of all stages. A vertex is a step with a file system as its result: a base image, a RUN,
 * a COPY or ADD, a WORKDIR. Its edges are what it needs: the step before it, and what it copies
 * from. Only stages that the target needs become vertices. Instructions that change the
 * configuration alone are evaluated while the graph is made (eval.c) and have no vertex. */
#include "build/build.h"
#include "build/cache.h"
#include "build/dockerfile.h"
#include "build/ignore.h"
#include "core/arena.h"
#include "core/map.h"

#include <pthread.h>

struct platform {
    char text[96], os[32], arch[32], variant[16]; /* "linux/arm64/v8" */
};
/* "linux/arm64", "arm64", "linux/arm/v7", "x86_64"; what is missing is Linux. -EINVAL. */
int platform_parse(const char *text, struct platform *ret);

enum vertex_kind { V_BASE, V_RUN, V_COPY, V_WORKDIR };
enum vertex_state { V_WAITING, V_PROBED, V_RUNNING, V_DONE, V_FAILED };

enum run_mount_kind { MOUNT_BIND, MOUNT_CACHE, MOUNT_TMPFS, MOUNT_SECRET, MOUNT_SSH };
struct netsrc; /* remote.h */
/* A folder that --build-context names: "COPY . /" into an empty file system, from its own tree. */
struct named_context {
    const char *name;
    const struct build_context *given;
    char tree[33];
    struct vertex *v;
};

struct run_mount {
    enum run_mount_kind kind;
    const char *target, *source, *id, *env;
    struct vertex *from;  /* bind, cache: a stage or an image; NULL: the context, or nothing */
    bool from_context, readonly, required;
    enum { SHARE_SHARED, SHARE_PRIVATE, SHARE_LOCKED } sharing;
    uint32_t mode, uid, gid;
    uint64_t size;
};

struct vertex {
    enum vertex_kind kind;
    enum vertex_state state;
    unsigned number;    /* from 1 */
    const char *name;   /* "[web 2/7] RUN pip install" */
    const char *place;  /* "web 2": the same step in another build of this Dockerfile */
    struct span at;
    struct vertex *parent;  /* NULL: an empty file system */
    struct vertex **deps;   /* parent included */
    size_t n_deps;
    bool on_target;         /* its layer is one of the resulting image */

    struct image *image;    /* V_BASE */
    bool unknown;           /* V_BASE of a check: not here, and nothing was fetched */
    const char *ref;        /* V_BASE */

    /* V_COPY, V_WORKDIR */
    struct vertex *from;    /* COPY --from */
    struct netsrc *remote;          /* from_context: this instead of the build's context */
    struct named_context *context;  /* the same */
    bool from_context, link;
    struct copy_spec copy;  /* without layers, upper */

    /* V_RUN */
    const char *const *argv;    /* as executed */
    const char *script, *script_path; /* heredoc with a shebang */
    struct strv env;
    const char *cwd, *user, *network;
    bool insecure;              /* --security=insecure */
    struct run_mount *mounts;
    size_t n_mounts;

    bool no_cache;
    /* Result */
    struct cache_key key;
    char result[129];       /* what steps after it build on: its snapshot's key */
    char content[DIGEST_LEN + 1]; /* of what is copied */
    char snap[33];          /* "" when the step changed nothing */
    char diff_id[DIGEST_LEN + 1];
    bool cached;
    int64_t created;
    char why[256];
};

/* What an instruction leaves in the history. */
struct step_history {
    const char *created_by;
    struct vertex *v; /* NULL: configuration only */
};
struct stage {
    const struct df_stage *df;
    enum { STAGE_NEW, STAGE_BUSY, STAGE_READY } state;
    struct image_config config;
    struct vertex *last;
    struct map args;     /* name -> value (arena) or NULL when declared without */
    struct strv arg_order;
    struct step_history *history;
    size_t n_history, cap_history;
    size_t base_history; /* entries of config.history that came with the base */
    struct platform platform;
    bool cmd_set, workdir_set, unknown_base;
    unsigned steps, step; /* vertices of this stage, and where we are */
    bool needed;
};

struct build {
    struct store *s;
    struct lease *l;
    const struct build_request *rq;
    struct diags *d;
    struct arena arena;
    struct dockerfile *df;
    const char *df_name;
    struct ignore ignore;
    struct sv ignore_text;
    struct map globals;      /* name -> value */
    struct map global_defaults; /* as if no build argument was given */
    struct map build_args;   /* name -> value */
    struct map args_used;
    struct stage *stages;
    struct vertex **vertices;
    size_t n_vertices, cap_vertices;
    struct map images;       /* reference -> base vertex (FROM and --from) */
    bool needs_context;
    struct netsrc **remotes; /* sources from the network */
    size_t n_remotes, cap_remotes;
    struct netsrc **pending; /* those of the instruction that is being evaluated */
    size_t n_pending, cap_pending;
    struct named_context *contexts;
    char tree[33];           /* the context's tree snapshot */
    char stubs[33];          /* run.c; event_lock */
    struct cache_last *last;
    int64_t epoch;           /* SOURCE_DATE_EPOCH in seconds, <0: none */
    struct platform platform, native; /* of the result, of this machine */

    pthread_mutex_t lock, event_lock;
    pthread_cond_t cond;
    unsigned changes;        /* counts finished vertices; lock */
    volatile int stop;       /* an error, or cancelled */
    struct err err;
    int error;
    struct box_net *net;     /* of the build's own */
    bool net_made;
    unsigned cached;
};

/* graph.c */
int graph_target(struct build *b, struct err *e);      /* index of the target stage */
void graph_needed(struct build *b, unsigned target);   /* marks the stages that are needed */
int graph_images(struct build *b, struct err *e);      /* finds or pulls their base images, in parallel */
struct vertex *graph_vertex(struct build *b, enum vertex_kind kind, struct stage *st, const struct df_instr *in, const char *text);
/* One that belongs to no stage. */
struct vertex *graph_source(struct build *b, enum vertex_kind kind, const char *name, struct span at);
void graph_edge(struct build *b, struct vertex *v, struct vertex *to);
/* Layer ids of a vertex's file system, top first. */
void graph_layers(const struct vertex *v, struct strv *out);
struct vertex *graph_image(struct build *b, const char *ref, const struct platform *p, struct span at, struct err *e);
/* FROM's base and platform, expanded; they tell nothing (eval_stage does). NULL, -EBADMSG. */
const char *graph_base_ref(struct build *b, const struct df_stage *st);
int graph_stage_platform(struct build *b, const struct df_stage *st, bool quiet, struct platform *ret);

/* eval.c: the stage's instructions to vertices, configuration and history; also what it is built
 * from. Errors go to b->d. */
int eval_stage(struct build *b, unsigned index, struct err *e);
int eval_globals(struct build *b);
/* run_mounts.c: --mount flags. */
int eval_mounts(struct build *b, struct stage *st, struct vertex *v, const struct df_instr *in, struct err *e);

/* call.c: the warnings, what a target takes, which targets there are (text or JSON). */
void build_check(struct build *b, size_t from, struct buf *out);
void build_outline(struct build *b, unsigned target, struct buf *out);
void build_targets(struct build *b, struct buf *out);

/* ssh_agent.c: a socket (O_PATH descriptor, the caller's) behind which the user's agent answers. */
struct ssh_proxy;
int ssh_proxy_new(struct build *b, const char *socket_path, struct ssh_proxy **ret, int *ret_fd, struct err *e);
void ssh_proxy_free(struct ssh_proxy *p);

/* sources.c: freezes what the steps copy from: the context, named folders, what comes from the
 * network. */
int sources_load(struct build *b, struct err *e);
/* The tree snapshot behind a vertex with from_context, or behind a RUN's mount (NULL vertex). */
const char *source_tree(const struct build *b, const struct vertex *v);
/* The named context that stands for a stage or an image: 1 and a vertex, 0 = there is none. */
int source_named(struct build *b, const char *name, const struct platform *p, struct span at, struct vertex **ret, struct err *e);

/* solve.c */
int solve(struct build *b, struct err *e);
bool build_cancelled(const struct build *b);
void build_emit(struct build *b, struct build_event *ev);

/* run.c: the RUN of a vertex into the snapshot `upper`. *ret_empty: it changed nothing. */
int run_step(struct build *b, struct vertex *v, const char *upper, struct err *e);
