#pragma once
/* Between the files of the results server: results.c (requests, tokens), results_twirp.c and
 * results_old.c (methods), results_blob.c (uploads and downloads). */
#include "base/httpd.h"
#include "core/arena.h"
#include "run/resultsrv.h"

#include <pthread.h>

#define URL_LIFE (6ull * 3600) /* seconds a signed URL is good for */
#define BODY_MAX (1u << 20)    /* of a request that is no blob */
#define BLOCKS_MAX 50000u
#define UPLOADS_MAX 500u       /* unfinished and finished ones of one job */
#define FILES_MAX_V3 20000u    /* files of artifacts of older clients */

struct part {
    char *id;                  /* of a block; NULL: a range of the older interfaces */
    uint64_t at, size;
    bool done;
};
enum upload_kind { UP_ARTIFACT, UP_CACHE, UP_FILE };
struct upload {
    uint64_t no;               /* cache v1's cacheId */
    enum upload_kind kind;
    char *name, *version;      /* artifact; or the cache's key and version */
    char *mime;
    int64_t expires;           /* seconds, artifacts */
    char tmp[40];              /* file in scratch */
    int fd;
    struct part *parts;
    size_t n_parts, cap_parts;
    uint64_t end;              /* of the space given out so far */
    uint64_t size;             /* once committed */
    bool committed, finished, gzip;
    unsigned writers;
    struct upload *next;
};
struct results {
    struct results_options o;
    struct httpd *http;
    char *url, *token, *repo, *ref, *read_refs[3], *run_id;
    char run_backend[40], job_backend[40];
    uint8_t key[32];
    pthread_mutex_t mu;        /* the list of uploads and their parts; the counter below */
    pthread_cond_t cond;
    struct upload *uploads;
    size_t n_uploads, n_files;
    uint64_t next_no;
    unsigned flying;           /* calls that a worker has */
};

/* A request that a worker answers. */
struct call {
    struct results *s;
    struct httpd_req *rq;
    struct arena a;
    const char *method, *path;
    struct sv body;
    const struct json *j;      /* the body, an object, where there is one */
    void (*fn)(struct call *c);
    int status;                /* 0 = 200 */
    struct buf out;            /* JSON */
    int fd;                    /* or a file, */
    uint64_t offset, size;     /* … from here, that much */
    const char *mime, *disposition, *range;
    const char *q[4];          /* parts of the query, results_old.c */
};
/* Fails with a twirp error (code as twirp names it) or, for the older interfaces, a {message}. */
void call_fail(struct call *c, int status, const char *code, const char *fmt, ...) _printf_(4, 5);

struct call *call_new(struct results *s, struct httpd_req *rq, void (*fn)(struct call *c));
void call_go(struct call *c);                     /* to a worker, then answered */
void call_collect(struct call *c, size_t max);    /* the same, with the body first */
bool results_token_ok(struct results *s, struct httpd_req *rq); /* else answered */
/* "URL/blob/<what>/<id>?…sig=…"; perm is "r" or "w". */
void signed_url(struct results *s, struct buf *b, const char *what, const char *id, const char *perm);
bool results_signed(struct results *s, struct httpd_req *rq, const char *what, const char *id, const char *perm); /* else answered */

/* results_twirp.c */
/* The cache scopes that are read, in order. */
size_t results_scopes(const struct results *s, const char *refs[4]);
void results_twirp(struct call *c);
/* results_old.c: _apis/artifactcache and _apis/pipelines. */
void results_old(struct call *c);
void results_old_query(struct call *c);           /* on the loop: keeps what the worker needs of the URL */
/* A PUT or PATCH of bytes to the older interfaces: true when it was one (answered, or later). */
bool results_old_bytes(struct results *s, struct httpd_req *rq);

/* "Content-Range: bytes A-B/…" */
bool results_content_range(struct httpd_req *rq, uint64_t *from, uint64_t *n);
/* results_v3.c: artifacts of older clients; as the three above, and one entry of one. */
bool results_v3_bytes(struct results *s, struct httpd_req *rq);
bool results_v3(struct call *c);
void results_v3_item(struct call *c, const char *item);

/* --- results_blob.c: uploads. The list and what is in it is under mu. ------------------------------- */
void results_blob(struct results *s, struct httpd_req *rq); /* /blob/… */
/* A new upload with an empty file; NULL when there are too many or no file can be made. Locks. */
struct upload *upload_make(struct results *s, enum upload_kind kind, const char *name, const char *version);
/* The same; NULL with a failed call when that cannot be. Locks. */
struct upload *upload_new(struct call *c, enum upload_kind kind, const char *name, const char *version);
/* The newest that is not finished. */
struct upload *upload_find(struct results *s, enum upload_kind kind, const char *name, const char *version);
struct upload *upload_by_no(struct results *s, uint64_t no);
/* The request's body goes to `at` of the upload's file (UINT64_MAX: after what is there) as a part; then
 * `status` is answered. It is of `size` bytes (UINT64_MAX: as Content-Length says, which must be there).
 * `whole`: it is all of the upload. Locks; always answers. */
void upload_pour(struct results *s, struct httpd_req *rq, struct upload *u, const char *block, uint64_t at, uint64_t size, bool whole, int status);
/* Do the parts (ranges) cover exactly `size` bytes? Then it is committed. -EINVAL, -EBUSY. */
int upload_commit_ranges(struct results *s, struct upload *u, uint64_t size);
/* The committed upload becomes `finished` and its file is the caller's: no more writes. -EBUSY while
 * somebody writes, -ENODATA when nothing was committed, -EINVAL when `size` (UINT64_MAX: any) is another. */
int upload_finish(struct upload *u, uint64_t size);
void upload_forget(struct results *s, struct upload *u); /* its file goes, if it is still there */
void uploads_done(struct results *s);
/* <BlockList><Latest>ID</Latest>…</BlockList>, also Committed and Uncommitted, into ids (base64 text as it
 * stands). -EINVAL, -EFBIG. For tests too. */
int block_list_read(struct sv xml, struct arena *a, struct sv **ret_ids, size_t *ret_n);
