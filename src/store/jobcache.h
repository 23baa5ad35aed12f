#pragma once
/* Download caches of jobs (pip, npm, apt) and Bitbucket's caches: jobcache/<repository>/… of the store,
 * plain files that only add up. Who reads or writes a repository's folder holds its `lock`
 * (lock_file). Nothing here is needed: what goes is downloaded or made again. Blocking. */
#include "store/store.h"

#define JOBCACHE_MAX_BYTES (8ull << 30)                  /* of all repositories together */
#define JOBCACHE_MAX_AGE_NS (30ull * 86400 * 1000000000) /* of a repository that nobody used */

struct jobcache_usage {
    uint64_t files, bytes;
};
/* The folder of a repository; malloc. */
char *jobcache_path(struct store *s, const char *repo_name, uint32_t repo_id);
/* That a job uses it now: counts for its age. dirfd is the repository's folder. */
void jobcache_used(int dirfd);
int jobcache_usage(struct store *s, struct jobcache_usage *ret);
/* Removes repositories unused for max_age_ns (0 = the default), then the files that came first until
 * max_bytes (0 = the default) are left; all: everything. What another process holds stays. */
int jobcache_prune(struct store *s, uint64_t max_bytes, uint64_t max_age_ns, bool all, bool dry, struct jobcache_usage *ret);
