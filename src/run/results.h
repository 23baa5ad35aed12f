#pragma once
/* The services that a job's actions talk to, as GitHub's runner offers them: results (artifacts v4 and
 * cache v2, twirp with JSON), the older cache and artifact interfaces, and blobs behind signed URLs.
 *
 * One server per job, on an address of the job's own network (every box of the job reaches it: steps,
 * container jobs, docker actions); a job on the host has it on 127.0.0.1. It is started by the first
 * step that needs it, so that a job without actions pays nothing. Each request carries the job's own
 * token, else 401; with another job's it is 403. Blobs are reached by URLs that are signed for this job.
 *
 * Sources: github.com/actions/toolkit (packages artifact and cache: generated protocol and clients),
 * actions/runner's Actions.Results scope. */
#include "core/err.h"
#include "core/str.h"

struct jobx;

/* Adds to `env` what a step that runs an action gets (never a `run` step):
 *   ACTIONS_RUNTIME_URL, ACTIONS_RUNTIME_TOKEN, ACTIONS_RESULTS_URL, ACTIONS_CACHE_URL,
 *   ACTIONS_CACHE_SERVICE_V2, and the server's address in NO_PROXY and no_proxy (which must have their
 *   final value in `env` by then). `env` replaces: call it after jobx_env. Blocks for the start of the
 * service (about 1 ms); from the leg's thread. */
int results_env(struct jobx *x, struct strv *env, struct err *e);
/* Ends the service: connections are closed, uploads that nobody finished are forgotten. Before the
 * job's network goes. Nothing to do is fine. */
void results_stop(struct jobx *x);
/* The cache scopes of the job: the ref that is written and read first, and up to three more. */
void results_scope(struct jobx *x, const char **ret_ref, const char *read[3]);
