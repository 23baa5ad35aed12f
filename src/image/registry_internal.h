#pragma once
/* What the parts of the embedded registry share: records (registry.c), routes and answers
 * (registry_http.c), uploads (registry_upload.c). */
#include "image/manifest.h"
#include "image/registry.h"

enum { UPLOADS_MAX = 256 };

/* --- records ------------------------------------------------------------------------------- */
struct tag_record {
    char manifest[DIGEST_LEN + 1];
    uint64_t size;
};
/* 1, 0, -errno. ref: a tag or a digest. media (malloc) may be NULL. */
int rr_resolve(struct store *s, const char *repo, const char *ref, char digest[DIGEST_LEN + 1], char **ret_media);
/* Records a manifest whose blob is in the store, and its tag (NULL: none). */
int rr_put(struct store *s, const char *repo, const char *tag, const char *digest, const struct manifest *m, uint64_t size, uint64_t total, const char *run_id, struct err *e);
/* 1: it was there. By digest: its tags go too. */
int rr_delete(struct store *s, const char *repo, const char *ref);
/* The repository that a request's name means: itself, or the only one that ends in it. malloc. */
char *rr_repo(struct store *s, const char *name);
void rr_tags(struct store *s, const char *repo, struct strv *ret);
void rr_repos(struct store *s, struct strv *ret); /* sorted, each once */
typedef void (*rr_referrer_fn)(void *arg, const char *digest, const char *media, const char *type, uint64_t size);
void rr_referrers(struct store *s, const char *repo, const char *subject, rr_referrer_fn fn, void *arg);

/* --- requests ------------------------------------------------------------------------------ */
struct upload;
struct registry {
    struct store *s;
    struct lease *lease;
    struct loop *l;
    bool read_only;
    char *auth; /* "user:password", or NULL */
    struct upload *uploads;
    size_t n_uploads, n_ops;
    bool closing;
};

enum route { R_BASE, R_CATALOG, R_TAGS, R_MANIFEST, R_BLOB, R_UPLOAD_START, R_UPLOAD, R_REFERRERS, R_NONE };
/* One request: parsed on the loop, carried out on a worker, answered on the loop. */
struct op {
    struct registry *r;
    struct httpd_req *rq; /* NULL once the client is gone */
    enum route route;
    char *method, *name, *ref; /* ref: tag, digest, upload id */
    char *repo;
    /* of the request */
    char *digest, *mount, *content_type, *artifact_type, *last;
    uint64_t limit;
    bool has_limit;
    uint64_t range_from, range_to; /* to: UINT64_MAX = open */
    bool has_range;
    struct buf body;
    struct upload *up;
    bool leave_up; /* the session is not to be released: it is gone */
    void (*run)(struct op *op);
    /* of the answer */
    int status;
    struct strv headers; /* "Name: value" */
    struct buf out;
    const char *out_type;
    int fd;
    uint64_t fd_off, fd_size;
};
void op_error(struct op *op, int status, const char *code, const char *fmt, ...) _printf_(4, 5);
void op_header(struct op *op, const char *name, const char *fmt, ...) _printf_(3, 4);
void op_start(struct op *op);  /* to a worker; answers afterwards */
void op_answer(struct op *op); /* at once; frees */

/* registry_upload.c; on the loop's thread. Each answers the request in the end. */
void upload_begin(struct op *op);
void upload_handle(struct op *op);
void uploads_free(struct registry *r);
