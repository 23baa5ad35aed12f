#pragma once
/* The server behind results.h, independent of a job: inside run/ and for tests. All requests but blobs
 * are carried out by a worker of the loop (they touch the disk); one after another is not promised. */
#include "core/json.h"
#include "core/loop.h"
#include "store/store.h"

struct results;
struct results_options {
    struct store *store;
    struct loop *loop;         /* running on a thread of its own */
    int listen_fd;             /* taken over, also on failure */
    const char *url;           /* "http://10.0.2.100:41234": how the job reaches listen_fd */
    int scratch;               /* folder for uploads in progress, on the store's disk; duplicated */
    const char *run_id;        /* artifacts go below runs/<run_id> */
    const char *repo;          /* caches belong to it: "owner/name" */
    const char *ref;           /* the cache scope that is written, and read first; NULL: none is written */
    const char *read_refs[3];  /* further scopes, in order; NULL-terminated unless full */
    uint64_t cache_max;        /* bytes a repository's caches may take; 0 = 10 GiB */
    uint64_t blob_max;         /* bytes of one upload; 0 = 10 GiB */
    int64_t retention_days;    /* of artifacts; 0 = 90 */
};
int results_new(struct results **ret, const struct results_options *o, struct err *e);
void results_free(struct results *s); /* from a thread that is not the loop's; waits for work in flight */
const char *results_token(const struct results *s);
const char *results_url(const struct results *s);
