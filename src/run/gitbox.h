#pragma once
/* git as a job sees it. The workspace has a real .git, made from the user's repository without its
 * configuration (which may hold credentials): HEAD, refs and an index of its own; the objects are
 * the user's, mounted read-only and named as an alternate. "origin" is a bare repository in the
 * job's scratch with the user's branches and tags: fetches work without a network, and what the job
 * pushes stays there and is told at the end of the job. */
#include "run/jobx.h"

/* Makes `origin` and what git needs in the box; once per job. */
int gitbox_setup(struct jobx *x, struct err *e);
/* The same for a checkout that is not slipway's own: git itself, wherever it runs in the job, finds
 * this repository at `origin`. */
int gitbox_published(struct jobx *x, struct err *e);
/* Puts a .git into the folder `target` of the box. depth 0: whole history and all refs. */
int gitbox_worktree(struct jobx *x, const char *target, int depth, struct err *e);
/* Lines for the local configuration that lead a remote of this repository to `origin`. */
void gitbox_remote(struct jobx *x, struct buf *config);
