#pragma once
/* Actions as published: found and read (action_load.c), their stages run (action_run.c and one file
 * for each kind). A run has one commit per reference; a job has its own copy of an action's files,
 * in the folder of work, as a hosted runner has it (_actions/OWNER/REPO/REF). */
#include "pipeline/github/action.h"
#include "run/stepx.h"
#include "source/remote.h"

#define ACTION_DEPTH 10 /* of composite actions in composite actions */

struct action {
    const char *uses;        /* as the file has it */
    const char *repo, *ref, *sha; /* NULL: local, or an image */
    const struct github_action *def; /* NULL: uses is docker://image */
    const char *image;       /* docker:// or, once built or named, of a docker action */
    const char *dir;         /* the action's folder in the job's place */
    bool owned;              /* def is this one's own (local actions) */
    struct action *next;
};
enum action_stage { STAGE_PRE, STAGE_MAIN, STAGE_POST };

/* --- action_load.c --------------------------------------------------------------------------- */
/* Everything that the job's steps use is fetched, read and laid out, actions of composite actions
 * included. Local ones ("./") wait for a checkout. */
int actions_prepare(struct jobx *x, struct err *e);
/* Of a step whose action lies in the workspace; at the moment when the step runs. */
int action_local(struct jobx *x, struct step *s, struct err *e);
void actions_done(struct jobx *x);

/* --- fetched.c: of the run, under run.action_mu ----------------------------------------------- */
struct fetched_def {
    char *path;
    struct github_action *def;
    struct fetched_def *next;
};
struct fetched {
    char *repo, *ref;
    struct remote_at at;
    char *files;              /* folder on this disk */
    struct fetched_def *defs;
    struct fetched *next;
};

void fetched_free(struct fetched *list);
/* How remote repositories are found in this run. */
void run_remote(const struct run *r, struct remote_conf *ret);

/* --- action_run.c ---------------------------------------------------------------------------- */
int action_main(struct jobx *x, struct step *s, struct ctx *c, const struct value *own, double minutes, struct err *e);
void actions_pre(struct jobx *x);  /* all pre steps, before the first main one */
void actions_post(struct jobx *x); /* all post steps that are due */
/* A native action's work at the job's end; cond: an expression ("success()"), NULL = always. `with` is kept. */
void action_post_native(struct jobx *x, struct step *s, const struct value *with, native_post_fn fn, const char *cond);
/* INPUT_*, STATE_*, and what tells an action where it is. */
void action_env(struct jobx *x, struct step *s, const struct value *own, struct strv *ret);
/* Runs one process of the step's with its file commands, and concludes. */
int action_exec(struct jobx *x, struct step *s, const char *const *argv, struct strv *env, const char *cwd, double minutes, struct err *e);

/* --- one file each --------------------------------------------------------------------------- */
int action_node(struct jobx *x, struct step *s, enum action_stage stage, double minutes, struct err *e);
int action_composite(struct jobx *x, struct step *s, double minutes, struct err *e);
int action_docker(struct jobx *x, struct step *s, enum action_stage stage, double minutes, struct err *e);

/* --- action_python.c ------------------------------------------------------------------------- */
/* Puts the Pythons that setup-python's inputs name into the job's tool cache, where the published
 * action looks first, as a hosted runner has them there. What cannot be had is left to it. */
void python_offer(struct jobx *x, struct step *s, const struct value *with);

/* --- node.c ---------------------------------------------------------------------------------- */
/* A node program for actions that want this major version: *ret is its path in the job's place,
 * the job's. Brought by slipway (fetched once, kept in the cache), else the image's own. */
int node_find(struct jobx *x, unsigned major, const char **ret, struct err *e);
