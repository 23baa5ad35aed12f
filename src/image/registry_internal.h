#pragma once
/* What the parts of the embedded registry share: records (registry.c), routes and answers
 * (registry_http.c), uploads (registry_upload.c). */
#include "image/manifest.h"
#include "image/registry.h"

enum { UPLOADS_MAX = 256, TAGS_MAX = 64 };
#define BLOB_MAX (64ull << 30)

/* --- records ------------------------------------------------------------------------------- */
#define RR_NS "registry"
#define RR_NS_BLOB "registryblob"
/* The blob of the store that a record (of a manifest or a blob, by its key) stands for, or NULL. */
const char *rr_stored(const struct json *j, const char *key);
/* A manifest of a repository: how it is called there and which blob of the store it is. */
struct rr_found {
    char digest[DIGEST_ANY_LEN + 1];
    char blob[DIGEST_LEN + 1];
    char *media; /* malloc */
};
/* 1, 0, -errno. ref: a tag or a digest. */
int rr_resolve(struct store *s, const char *repo, const char *ref, struct rr_found *ret);
/* Records a manifest whose blob is in the store, and its tags. */
struct rr_put {
    const char *repo;
    const char *digest; /* as it was pushed */
    const char *blob;   /* in the store */
    const struct manifest *m;
    uint64_t size, total;
    const char *run_id; /* or NULL */
    const char *const *tags;
    size_t n_tags;
};
int rr_put(struct store *s, const struct rr_put *p, struct err *e);
/* 1: it was there. By digest: its tags go too. */
int rr_delete(struct store *s, const char *repo, const char *ref);
/* The repository that a request's name means: itself, or the only one that ends in it. malloc. */
char *rr_repo(struct store *s, const char *name);
void rr_tags(struct store *s, const char *repo, struct strv *ret);
void rr_repos(struct store *s, struct strv *ret); /* sorted, each once */
/* Referrers in the order of their digests, those after `after` (NULL: all), until fn says false. */
typedef bool (*rr_referrer_fn)(void *arg, const char *digest, const char *media, const char *type, uint64_t size);
void rr_referrers(struct store *s, const char *repo, const char *subject, const char *after, rr_referrer_fn fn, void *arg);

/* Blobs of a repository: "registryblob": "REPO@DIGEST" -> {time, blob}. Link first, then look whether
 * the blob is there: a collection keeps what was linked a day ago or later, and what a manifest of
 * the repository names. blob: the sha256 of a sha512, else NULL. */
int rr_link(struct store *s, const char *repo, const char *digest, const char *blob, struct err *e);
int rr_unlink(struct store *s, const char *repo, const char *digest); /* 1: it was there */
/* 1: it is one of the repository's, and in the store. */
int rr_blob(struct store *s, const char *repo, const char *digest, char blob[DIGEST_LEN + 1]);
bool rr_has_blobs(struct store *s, const char *repo);
int rr_blob_anywhere(struct store *s, const char *digest, char blob[DIGEST_LEN + 1]);
/* Links all that a manifest names. Digest of one that is not there (in m's memory), or NULL. from: a
 * further repository to take blobs of, or NULL. */
const char *rr_link_all(struct store *s, const char *repo, const char *from, const struct manifest *m, struct err *e);

/* --- requests ------------------------------------------------------------------------------ */
struct upload;
struct registry {
    struct store *s;
    struct loop *l;
    bool read_only, anonymous_pull;
    struct reg_auth *auth; /* NULL: everybody may */
    struct reg_mirror *mirror; /* of an upstream, or NULL */
    uint64_t max_blob;
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
    char *digest, *mount, *from, *content_type, *artifact_type, *last;
    struct strv tags;
    char *credentials; /* that are being checked */
    bool admitted;
    uint64_t limit;
    bool has_limit;
    uint64_t range_from, range_to, range_last; /* to: UINT64_MAX = open; last: only so many, from the end */
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

/* registry_auth.c: who may. */
int reg_auth_new(struct reg_auth **ret, const struct registry_options *o, struct err *e);
void reg_auth_free(struct reg_auth *a);
/* 1 yes, 0 no, -EAGAIN: to be computed, by reg_auth_check on a worker. */
int reg_auth_known(struct reg_auth *a, const char *header);
bool reg_auth_check(struct reg_auth *a, const char *header);

/* registry_mirror.c: a pull-through mirror; on a worker. Both answer, or leave the answer to what is
 * here already (false). */
int reg_mirror_new(struct reg_mirror **ret, const char *upstream, const struct registry_conf *conf, struct err *e);
void reg_mirror_free(struct reg_mirror *m);
/* The repository that a request's name means. malloc. */
char *reg_mirror_repo(const struct reg_mirror *m, const char *name);
bool reg_mirror_manifest(struct op *op);
bool reg_mirror_blob(struct op *op);

/* registry_upload.c; on the loop's thread. Each answers the request in the end. */
void upload_begin(struct op *op);
void upload_handle(struct op *op);
void uploads_free(struct registry *r);
