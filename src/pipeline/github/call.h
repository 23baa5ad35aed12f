#pragma once
/* Calls of workflows: whether what a job passes is what the called workflow wants, how deep calls
 * are nested, what permissions are handed down. Words are GitHub's. */
#include "pipeline/plan.h"

/* Inputs and secrets of one call. */
void github_check_call(const struct plan_job *job, const struct plan *called, struct diags *d);

/* Gives the plan that `uses` names, called from `from`; the loader keeps it. NULL: not to be had
 * here, or wrong (then the loader said so in d). */
typedef const struct plan *(*github_load_fn)(void *arg, const struct plan *from,
                                             const struct text *uses, struct diags *d);
/* All calls of a plan and those below, permissions and the number of jobs included. load may be
 * NULL: called workflows are not looked at. */
void github_check_calls(const struct plan *p, const struct github_limits *lim, github_load_fn load,
                        void *arg, struct diags *d);
