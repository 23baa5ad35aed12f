#pragma once
/* `run --break` and `run --keep` on this side. */
#include "cli/ui.h"
#include "run/shell.h"

/* run_request.on_stop; arg is the ui. Shells of several jobs come one after another. */
enum run_go run_debug_stop(void *arg, const struct run_stop *at);
/* Asks whether a job may go on into a protected environment: 1 or 0. */
int run_debug_approve(struct ui *u, const char *job, const char *environment);
extern volatile int run_debug_interrupted; /* set by the signal handler */

/* --keep: from here on a child is the run; the parent ends with the run's exit code, while the
 * child stays for the kept jobs. In the child: a descriptor for keep_end; -1: no child. */
int keep_begin(void);
/* Tells the parent; serves the kept jobs, if there are any, before it returns. */
void keep_end(struct run *r, int back, int code);
