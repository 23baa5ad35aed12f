#pragma once
/* What the parts of a step share: steps.c, step_*.c and actions. Inside run/ only. */
#include "run/jobx.h"
#include "run/shell.h"

#define MINUTE (60ull * 1000000000ull)

/* --- step_talk.c ----------------------------------------------------------------------------- */
void step_set_state(struct strv *s, struct sv key, struct sv value);
void step_set_output(struct jobx *x, struct step *s, struct sv key, struct sv value);
/* False for names that a step cannot give itself through GITHUB_ENV. */
bool step_set_env(struct jobx *x, struct sv key, struct sv value);

/* --- step_files.c ---------------------------------------------------------------------------- */
/* A file of the steps' user. */
int step_file(struct jobx *x, int dir, const char *name, mode_t mode, struct sv text, struct err *e);
/* The files of one process, named after `key`; their variables go to env. */
int step_files_make(struct jobx *x, const char *key, struct strv *env, struct err *e);
/* What x->cur wrote into them; they are removed. */
void step_files_take(struct jobx *x, const char *key);

/* --- step_script.c --------------------------------------------------------------------------- */
int step_script(struct jobx *x, struct step *s, struct ctx *c, const struct value *own, double minutes, struct err *e);
/* The outcome of a process that has ended so; says why when it is none of success. */
void step_conclude(struct jobx *x, struct step *s, int code, enum exec_end end, double minutes);

/* --- shell.c --------------------------------------------------------------------------------- */
/* A step is about to start, or has failed: stops where --break asks for it, notes for --keep. */
enum run_go step_stop(struct jobx *x, struct step *s, const struct value *own, bool failed);

/* --- step_match.c ---------------------------------------------------------------------------- */
void step_matchers_command(struct jobx *x, const struct wcommand *c);
/* Adds the problem matchers of a document, as an action of ours does. */
void step_matchers_text(struct jobx *x, struct sv json);
/* Holds them against lines that were printed. */
void step_match(struct jobx *x, struct sv lines);
/* When a process that starts now in the current scope has to end: 0 = no limit but the job's. */
uint64_t step_deadline(struct jobx *x, double minutes);

/* --- steps.c --------------------------------------------------------------------------------- */
/* One step of x->scope, from its condition to its result. */
void step_one(struct jobx *x, struct step *s);
/* The same without a look at `background`. */
void step_body(struct jobx *x, struct step *s);
/* The `steps` context of the current scope. */
const struct value *steps_value(struct jobx *x, struct arena *a);
/* Steps of a plan as a scope's, below `up` (NULL: the job's own). */
void scope_fill(struct jobx *x, struct scope *sc, const struct plan_step *steps, size_t n);
struct scope *scope_new(struct jobx *x, struct step *owner, const struct action *action);
/* The context of a step with this `env` added (may be NULL). */
void step_ctx_env(struct jobx *x, struct ctx *c, struct arena *a, const struct value *env);
/* The environment of a process of step s. */
void step_env(struct jobx *x, struct step *s, const struct value *own, struct strv *ret);
/* Gives the post step its turn: told as a step of its own. */
void step_extra(struct jobx *x, struct step *s, const char *word, const struct text *cond,
                int (*fn)(struct jobx *x, struct step *s, struct err *e));

/* --- background.c ---------------------------------------------------------------------------- */
int background_start(struct jobx *x, struct step *s, struct err *e);
bool background_hidden(const struct step *s); /* not waited for yet: nothing of it is seen */
int background_wait(struct jobx *x, struct step *s);
int background_cancel(struct jobx *x, struct step *s);
int background_parallel(struct jobx *x, struct step *s, struct err *e);
void background_end(struct jobx *x);  /* waits for all that are left */
void background_done(struct jobx *x); /* after the job's outputs */
