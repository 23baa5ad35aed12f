#pragma once
/* Configuration: ~/.config/slipway/config.yml, then .slipway.yml of the repository, which wins. Both
 * take the same keys, but what gives a repository power over the user's machine or accounts
 * (allow-push, deploy.allow, insecure registries, a label mapped to `host`) is only taken from the user's own file
 * or the command line; in a repository's file it is a warning. Unknown keys are errors with a place.
 *
 *   platforms: {LABEL: IMAGE | host}          as -P
 *   runner-images: {LABEL: IMAGE | ./Dockerfile}
 *   registry:
 *     mirrors: {docker.io: https://mirror.example | oci:DIR}
 *     insecure: [HOST:PORT]
 *     allow-push: [HOST]
 *   standins: auto | never                    stand-in images where no registry answers
 *   env: {K: V}     vars: {K: V}              as --env, --var
 *   parallel: N     offline: BOOL     pull: missing | always | never
 *   host-env: BOOL                            CA bundle and proxy variables reach jobs (true)
 *   limits: {memory: 4g, cpus: 2, pids: 4096} of a job
 *   python: {source: URL}                     python-build-standalone releases
 *   actions: {mirror: DIR | URL}              source/remote.h; DIR relative to the repository
 *   node: {source: URL | npm | PATH}          the node of JavaScript actions: run/nodefetch.h
 *   environments: {protected: [NAME]}         a job asks before it goes on; both files count
 *   deploy: {allow: [GLOB], actions: [OWNER/REPO], commands: [NAME WORD]}   what is held back (allow: user only)
 *   check: {labels: [LABEL], ignore: {CODE: REASON, "GLOB CODE": REASON}}
 *   log-max: SIZE                             stored output of a job */
#include "core/err.h"
#include "core/str.h"

struct config {
    struct strv protected;                 /* environments that ask */
    struct strv deploy_allow, deploy_actions, deploy_commands;
    struct strv platforms, runner_images;  /* "LABEL=…" */
    struct strv mirrors;                   /* "REGISTRY=…" */
    struct strv insecure, allow_push;
    struct strv check_labels, check_ignore; /* of own runners; "[GLOB ]CODE=REASON" */
    struct strv env, vars;                 /* "K=V" */
    bool standins_never, offline, no_host_env;
    int64_t parallel;
    char *pull;                            /* or NULL */
    uint64_t memory, pids, log_max;
    double cpus;
    char *python_source, *actions_mirror, *node_source;
};
/* repo_dir NULL: the user's file only. A file that is absent is fine. */
int config_load(struct config *ret, const char *repo_dir, struct diags *d);
void config_done(struct config *c);
