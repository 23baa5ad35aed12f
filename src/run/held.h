#pragma once
/* Nothing leaves by accident: actions and commands that deploy, release, notify or upload are held
 * back unless the run was allowed to (run_request.allow_deploy). Actions are known by a table
 * (held_table.c) and by the configuration; commands by small programs of their names in front of
 * PATH, which tell what they were asked for and end with 0. A job in which something was held back
 * is "held": neither success nor failure. This guards against accidents, not against intent. */
#include "run/jobx.h"

struct held_rule { const char *pattern, *what; };
extern const struct held_rule held_actions[]; /* glob of "owner/repo" or "owner/repo/path"; ends with NULL */
extern const struct held_rule held_commands[]; /* "NAME", "NAME word|word …"; "always", "named", NULL: held.c */

/* What this action would do out there, or NULL when it may run. */
const char *held_action(const struct run_request *rq, const char *uses);
/* Is the step's action held back? Then it was told and the step is concluded. */
bool step_held(struct jobx *x, struct step *s, struct ctx *c);
/* The programs that stand in for commands: their folder, which the box gets mounted at x->held_dir
 * when it is made; then, when it can be looked into, what is in it. */
int held_prepare(struct jobx *x, struct err *e);
int held_setup(struct jobx *x, struct err *e);
/* Before a script runs: those that it names. */
void held_expect(struct jobx *x, struct sv script);
/* After a process: what it was held back from, told as x->cur's. */
void held_take(struct jobx *x);
