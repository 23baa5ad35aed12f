#pragma once
/* Expressions of a plan evaluated in a place of the run: contexts, status functions, hashFiles. */
#include "expr/expr.h"
#include "run/state.h"

struct ctx {
    struct arena *a;      /* results go here */
    struct value *root;   /* name -> context */
    /* Status functions. At a step: the job's status so far; at a job: the results of all jobs that
     * it needs, directly or not. */
    const struct job *job;
    bool in_step;
    enum outcome status;  /* of the job so far */
    bool cancelled;
    /* sha256 over the files of the workspace that match; "" when there is none. NULL: not here. */
    int (*hash_files)(void *arg, const char *const *patterns, size_t n, bool follow, struct buf *out, struct err *e);
    void *hash_arg;
};
void ctx_init(struct ctx *c, struct arena *a);
void ctx_set(struct ctx *c, const char *name, const struct value *v);

/* All: errors have the text's position and are ERR_CONFIG. An absent text gives the default. */
int ctx_value(struct ctx *c, const struct text *t, const struct value **ret, struct err *e);
int ctx_string(struct ctx *c, const struct text *t, const char *dflt, struct sv *ret, struct err *e);
int ctx_bool(struct ctx *c, const struct text *t, bool dflt, bool *ret, struct err *e);
int ctx_number(struct ctx *c, const struct text *t, double dflt, double *ret, struct err *e);
/* An `if`: success() && unless it names a status function itself. Absent: success(). */
int ctx_if(struct ctx *c, const struct text *t, bool *ret, struct err *e);
/* Values of the result are strings, unless `raw`. */
int ctx_map(struct ctx *c, const struct text_map *m, bool raw, struct value **ret, struct err *e);
int ctx_list(struct ctx *c, const struct text_list *l, struct strv *ret, struct err *e);
/* A free-form tree: scalars typed as YAML has them, templates evaluated. */
int ctx_tree(struct ctx *c, plan_tree t, const struct value **ret, struct err *e);

bool ctx_success(const struct ctx *c);
bool ctx_failure(const struct ctx *c);

/* Building blocks. */
const struct value *ctx_from_env(struct arena *a, const struct strv *env);   /* {"K": "V"} */
const struct value *ctx_needs(struct arena *a, const struct job *job);
const struct value *ctx_github(struct flow *f, struct arena *a);             /* of a flow */
const struct value *ctx_secrets(struct flow *f, struct arena *a);
/* What job-level keys may name: github, inputs, vars, needs. */
void ctx_job(struct ctx *c, struct job *job);
/* …and strategy, matrix of a leg (for name, runs-on, env and so on also secrets). */
void ctx_leg(struct ctx *c, struct leg *leg);
/* Secrets of a leg: its workflow's, then those of its environment. */
const struct value *ctx_leg_secrets(struct leg *leg, struct arena *a);
/* Sets the pairs of "ENV/K=V" items that are of this environment. */
void env_overlay(struct strv *to, const struct strv *of, const char *environment);
uint32_t ctx_id(const char *name); /* a stable number for what has none here (repository_id, …) */
