#pragma once
/* Download caches of pip, npm and apt, kept per user and repository between runs. A job sees a
 * frozen copy (tree snapshot) below a scratch layer of its own; what it has downloaded is merged
 * when it is over: plain files that were not there yet, by rename. All three tools verify what they
 * take from their caches (hashes of the index, integrity fields, signed lists), and no other
 * repository's jobs can write here. */
#include "run/jobx.h"

/* Mounts what there is; the merge is done at the job's end. Never fails the job. */
void dlcache_setup(struct jobx *x);
