#pragma once
/* The Docker Engine API (1.44, 1.24 and up accepted) on slipway's own parts: containers are boxes,
 * images are the store's, builds are build/'s. One engine per job (scoped: only its containers,
 * network, mounts as the job sees them) or one for `slipway docker` outside. */
#include "base/httpd.h"
#include "box/box.h"
#include "box/net.h"
#include "build/build.h"
#include "image/image.h"

struct engine;
struct engine_options {
    const char *name;            /* job name, for messages */
    struct store *store;
    struct lease *lease;
    struct loop *loop;           /* serves on it */
    bool loop_elsewhere;         /* another thread runs the loop for as long as the engine lives */
    struct box_net *net;
    bool own_net;                /* net is NULL: makes one of its own when the first container needs it */
    struct box *job;             /* whose paths -v means; NULL = the host's (outside a job) */
    const struct pull_options *pulls;
    const char *const *env_passthrough; const char *ca_bundle; /* as for builds */
    /* A push: asked once per push. Return 1: capture it (done by the engine through
     * registry_capture), 0: send it, negative: refuse with e. */
    int (*may_push)(void *arg, const struct image_ref *ref, struct err *e);
    /* Told of a captured or sent push. */
    void (*pushed)(void *arg, const char *ref, const char *digest, uint64_t size, bool captured);
    /* A login: 1 = pretend (captured), 0 = verify with the registry. warn is shown to the client. */
    int (*may_login)(void *arg, const char *registry, const char *user, const char *pass, struct buf *warn);
    void *arg;
    const char *run_id;
    const char *auth_file;       /* where login keeps the job's credentials */
    bool keep_volumes;           /* named volumes outlive it: records of the store */
    struct box_limits limits;    /* of containers, together bounded by the job's */
};
int engine_new(struct engine **ret, const struct engine_options *o, struct err *e);
/* Listens on a unix socket path (host side; it is mounted into the job). */
int engine_listen(struct engine *g, const char *socket_path, struct err *e);
/* 1 when it keeps nothing: no container, volume, network, nor work under way. */
int engine_idle(struct engine *g);
void engine_set_job(struct engine *g, struct box *job);
/* From any thread: stops and removes everything of it. */
void engine_free(struct engine *g);

/* Services of a job go through the same containers, so that `docker ps` shows them. Blocking. */
struct engine_container_spec {
    const char *name, *image;
    const char *const *env;      /* "K=V" */
    const char *const *ports;    /* "5432:5432", "80", "80/udp" */
    const char *const *volumes;
    const char *options;         /* docker create options, as in a workflow */
    const char *const *aliases;
    const char *const *cmd, *const *entrypoint; /* or NULL */
    const char *username, *password;
    const struct image_progress *progress; /* of its image, or NULL */
};
int engine_start(struct engine *g, const struct engine_container_spec *c, char id[65], struct err *e);
/* "starting", "healthy", "unhealthy", "none"; *ret_running false once it has ended. */
const char *engine_health(struct engine *g, const char *id, bool *ret_running);
int engine_port(struct engine *g, const char *id, uint16_t target, const char *proto); /* published port or -ENOENT */
const char *engine_ip(struct engine *g, const char *id);
int engine_logs(struct engine *g, const char *id, struct buf *out);
int engine_stop(struct engine *g, const char *id);
