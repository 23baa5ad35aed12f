/* Upload sessions: a blob that is being written each; what comes in is hashed and written once, by a
 * worker. One request at a time per session. The last one (PUT with a digest) commits the blob.
 * What is unfinished has no name on the disk, so nothing of it outlives the process. */
#include "image/registry_internal.h"

#include "core/loop.h"

#define IDLE_NS (3600ull * 1000000000)

struct upload {
    struct upload *next;
    struct registry *r;
    char id[33];
    char *name;
    struct blob_writer *w; /* NULL once committed */
    bool busy, gone; /* gone: deleted while busy */
    uint64_t used_ns;
};

static void upload_free(struct upload *u) {
    blob_abort(u->w);
    free(u->name);
    free(u);
}

static void unlink_upload(struct upload *u) {
    for (struct upload **p = &u->r->uploads; *p; p = &(*p)->next)
        if (*p == u) {
            *p = u->next;
            u->r->n_uploads--;
            break;
        }
}

void uploads_free(struct registry *r) {
    while (r->uploads) {
        struct upload *u = r->uploads;
        unlink_upload(u);
        upload_free(u);
    }
}

static void sweep(struct registry *r) {
    uint64_t now = now_mono();
    for (struct upload *u = r->uploads, *next; u; u = next) {
        next = u->next;
        if (!u->busy && now - u->used_ns > IDLE_NS) {
            unlink_upload(u);
            upload_free(u);
        }
    }
}

static struct upload *upload_new(struct op *op) {
    struct registry *r = op->r;
    struct err e = {0};
    sweep(r);
    if (r->n_uploads >= UPLOADS_MAX) {
        op_error(op, 429, "TOOMANYREQUESTS", "too many unfinished uploads");
        return NULL;
    }
    struct blob_writer *w;
    if (blob_begin(r->s, &w, &e) < 0) {
        op_error(op, 500, "UNKNOWN", "%s", e.msg);
        return NULL;
    }
    struct upload *u = xcalloc(1, sizeof *u);
    u->r = r;
    u->w = w;
    u->name = xstrdup(op->name);
    u->used_ns = now_mono();
    random_id(u->id, 32);
    u->next = r->uploads;
    r->uploads = u;
    r->n_uploads++;
    return u;
}

static void progress_headers(struct op *op, const struct upload *u) {
    uint64_t size = blob_written(u->w);
    op_header(op, "Location", "/v2/%s/blobs/uploads/%s", u->name, u->id);
    op_header(op, "Range", "0-%llu", (unsigned long long)(size ? size - 1 : 0));
    op_header(op, "Docker-Upload-Uuid", "%s", u->id);
}

static void release(struct op *op) {
    struct upload *u = op->up;
    op->up = NULL;
    if (!u)
        return;
    u->busy = false;
    u->used_ns = now_mono();
    if (u->gone || op->leave_up) {
        unlink_upload(u);
        upload_free(u);
    }
}

/* --- the end of an upload, on a worker ----------------------------------------------------- */

/* A digest that is not the store's: computed from the blob that is there by now. */
static int verify_other(struct op *op, const char *blob, struct err *e) {
    char found[DIGEST_ANY_LEN + 1];
    _cleanup_close_ int fd = blob_open(op->r->s, blob, NULL, e);
    int r = fd < 0 ? fd : digest_of_fd_like(fd, op->digest, found);
    if (r < 0)
        return r;
    return streq(found, op->digest) ? 0 : err_set(e, ERR_NET, -EBADMSG, "content is %.30s…, not %.30s… as announced", found, op->digest);
}

static void commit(struct op *op) {
    struct upload *u = op->up;
    struct err e = {0};
    char found[DIGEST_LEN + 1] = "";
    bool own = digest_valid(sv_from(op->digest));
    int r = own ? rr_link(op->r->s, op->name, op->digest, NULL, &e) : 0;
    if (r == 0)
        r = blob_commit(TAKE(u->w), own ? op->digest : NULL, found, &e);
    if (r == 0 && !own && (r = verify_other(op, found, &e)) == 0) {
        r = rr_link(op->r->s, op->name, op->digest, found, &e);
        if (r == 0 && !blob_has(op->r->s, found))
            r = err_set(&e, ERR_INTERNAL, -EAGAIN, "collected before it was noted; send it again");
    }
    if (r == -EBADMSG) {
        op_error(op, 400, "DIGEST_INVALID", "%s", e.msg);
    } else if (r < 0) {
        op_error(op, r == -ENOSPC ? 507 : 500, "UNKNOWN", "%s", e.msg[0] ? e.msg : strerror(-r));
    } else {
        op->status = 201;
        op_header(op, "Location", "/v2/%s/blobs/%s", op->name, op->digest);
        op_header(op, "Docker-Content-Digest", "%s", op->digest);
    }
    op->leave_up = true; /* done, or spoilt */
}

static void commit_done(struct loop *l, void *arg) {
    struct op *op = arg;
    release(op);
    op_answer(op);
}

static void commit_work(void *arg) { commit(arg); }

/* --- bodies -------------------------------------------------------------------------------- */

static void spooled(struct httpd_req *rq, int r, uint64_t size, void *arg) {
    struct op *op = arg;
    struct upload *u = op->up;
    if (r < 0) {
        /* What arrived before the break stays: the client may ask and go on. */
        if (r == -ECONNRESET || r == -EFBIG || r == -EBADMSG) { /* the exchange is over */
            httpd_on_abort(rq, NULL, NULL);
            op->rq = NULL;
        }
        op_error(op, r == -ENOSPC ? 507 : 500, "BLOB_UPLOAD_INVALID", "%s", strerror(-r));
        op->leave_up = op->rq != NULL; /* it could not be written: spoilt */
        release(op);
        op_answer(op);
        return;
    }
    if (op->digest) {
        loop_work(op->r->l, commit_work, commit_done, op);
        return;
    }
    progress_headers(op, u);
    op->status = 202;
    release(op);
    op_answer(op);
}

static int on_block(void *arg, const void *p, size_t n) {
    struct upload *u = arg;
    return blob_write(u->w, p, n);
}

static void take_body(struct op *op) {
    op->up->busy = true;
    uint64_t have = blob_written(op->up->w), max = op->r->max_blob;
    httpd_pour(op->rq, on_block, op->up, max - MIN(max, have), spooled, op);
}

/* --- requests ------------------------------------------------------------------------------ */

static bool digest_given(struct op *op) {
    if (digest_valid_any(sv_from(op->digest)))
        return true;
    op_error(op, 400, "DIGEST_INVALID", "not a sha256 or sha512 digest");
    return false;
}

/* Blobs of another repository, or (without `from`) of any that has it. On a worker. */
static void mount(struct op *op) {
    struct store *s = op->r->s;
    struct err e = {0};
    char blob[DIGEST_LEN + 1];
    _cleanup_free_ char *from = op->from ? rr_repo(s, op->from) : NULL;
    int r = op->from ? rr_blob(s, from, op->mount, blob) : rr_blob_anywhere(s, op->mount, blob);
    if (r == 1)
        r = rr_link(s, op->name, op->mount, blob, &e) < 0 ? -EIO : blob_has(s, blob);
    op->status = 0;
    if (r == 1) {
        op->status = 201;
        op_header(op, "Location", "/v2/%s/blobs/%s", op->name, op->mount);
        op_header(op, "Docker-Content-Digest", "%s", op->mount);
    }
}

static void begin(struct op *op) {
    if ((op->digest && !digest_given(op)) || !(op->up = upload_new(op))) {
        op_answer(op);
        return;
    }
    if (op->digest) { /* all in one */
        take_body(op);
        return;
    }
    progress_headers(op, op->up);
    op->up = NULL;
    op->status = 202;
    op_answer(op);
}

static void mount_work(void *arg) { mount(arg); }

static void mount_done(struct loop *l, void *arg) {
    struct op *op = arg;
    if (op->status || !op->rq)
        op_answer(op);
    else
        begin(op); /* not there: to be sent */
}

void upload_begin(struct op *op) {
    if (op->mount && digest_valid_any(sv_from(op->mount)))
        loop_work(op->r->l, mount_work, mount_done, op);
    else
        begin(op);
}

/* "a-b" must begin where the last chunk ended. */
static bool in_order(struct op *op, const struct upload *u) {
    const char *h = httpd_header(op->rq, "content-range");
    uint64_t from, to;
    if (!h)
        return true;
    struct sv spec = sv_from(startswith(h, "bytes ") ? h + 6 : h);
    ssize_t dash = sv_chr(spec, '-');
    return dash > 0 && sv_u64(sv_sub(spec, 0, (size_t)dash), INT64_MAX, &from) == 0 &&
           sv_u64(sv_sub(spec, (size_t)dash + 1, spec.n), INT64_MAX, &to) == 0 && from == blob_written(u->w) && to >= from;
}

static struct upload *find(struct op *op) {
    for (struct upload *u = op->r->uploads; u; u = u->next)
        if (!u->gone && streq(u->id, op->ref) && streq(u->name, op->name))
            return u;
    return NULL;
}

void upload_handle(struct op *op) {
    struct upload *u = find(op);
    bool patch = streq(op->method, "PATCH"), put = streq(op->method, "PUT");
    if (!u) {
        op_error(op, 404, "BLOB_UPLOAD_UNKNOWN", "no such upload");
    } else if (streq(op->method, "DELETE")) {
        op->status = 204;
        u->gone = true;
        if (!u->busy) {
            unlink_upload(u);
            upload_free(u);
        }
    } else if (u->busy) {
        op_error(op, 409, "BLOB_UPLOAD_INVALID", "this upload is busy with another request");
    } else if (streq(op->method, "GET")) {
        op->status = 204;
        progress_headers(op, u);
    } else if (!patch && !put) {
        op_error(op, 405, "UNSUPPORTED", "%s is not supported here", op->method);
    } else if (!in_order(op, u)) {
        progress_headers(op, u);
        op_error(op, 416, "BLOB_UPLOAD_INVALID", "the chunk does not begin where the last one ended");
    } else if (put && !op->digest) {
        op_error(op, 400, "DIGEST_INVALID", "a digest is needed");
    } else if (!put || digest_given(op)) {
        if (patch) {
            free(op->digest);
            op->digest = NULL;
        }
        op->up = u;
        take_body(op);
        return;
    }
    op_answer(op);
}
