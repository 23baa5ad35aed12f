#pragma once
/* Concurrency groups of workflows and of jobs (matrix legs): asked for by the scheduler before it
 * starts one. Under run.mu. */
#include "run/state.h"

enum group_state { GROUP_GO, GROUP_WAIT, GROUP_OVER /* replaced by a newer one, or in error: reason is set */ };
/* `tell` gets what is to be said while it waits, once (NULL: nothing new). */
enum group_state group_flow(struct flow *f, char **ret_reason);
enum group_state group_leg(struct leg *leg, char **ret_reason);
/* Cancels what runs and is no longer wanted in its group. */
void groups_look(struct run *r, void (*cancel_flow)(struct flow *f, const char *why), void (*cancel_leg)(struct leg *leg, const char *why));
