/* Manifests and blobs of a registry. A blob goes straight into the store's resumable file of its
 * digest; when the connection breaks the next try asks for the rest. */
#include "image/remote.h"

enum { BLOB_TRIES = 6 };

int remote_manifest(struct remote *r, const char *tag_or_digest, struct buf *ret, char digest[DIGEST_LEN + 1], struct err *e) {
    _cleanup_http_ struct http_resp resp = {0};
    _cleanup_free_ char *url = xasprintf("/v2/%s/manifests/%s", remote_path(r), tag_or_digest);
    struct http_req rq = {.max_body = MANIFEST_MAX,
                          .headers = {{"Accept", MEDIA_OCI_INDEX ", " MEDIA_DOCKER_LIST ", " MEDIA_OCI_MANIFEST ", " MEDIA_DOCKER_MANIFEST}},
                          .n_headers = 1};
    int q = remote_do(r, &rq, url, &resp, e);
    if (q < 0)
        return q;
    if (resp.status != 200)
        return remote_error(r, &resp, e, "manifest");
    char found[DIGEST_LEN + 1];
    digest_of(resp.body.p ? resp.body.p : "", resp.body.n, found);
    const char *said = http_header(&resp, "docker-content-digest");
    bool by_digest = digest_valid(sv_from(tag_or_digest));
    if (by_digest && !streq(found, tag_or_digest))
        return err_set(e, ERR_NET, -EBADMSG, "%s sent another manifest than was asked for (%s)", remote_host(r), found);
    if (said && digest_valid(sv_from(said)) && !streq(said, found))
        return err_set(e, ERR_NET, -EBADMSG, "the manifest from %s is damaged: it is %s, announced as %s", remote_host(r), found, said);
    buf_reset(ret);
    buf_addsv(ret, buf_sv(&resp.body));
    if (!buf_ok(ret))
        return err_set(e, ERR_LIMIT, -EFBIG, "the manifest is too large");
    memcpy(digest, found, sizeof found);
    return 0;
}

int remote_blob_size(struct remote *r, const char *digest, uint64_t *ret, struct err *e) {
    _cleanup_http_ struct http_resp resp = {0};
    _cleanup_free_ char *url = xasprintf("/v2/%s/blobs/%s", remote_path(r), digest);
    struct http_req rq = {.method = "HEAD"};
    int q = remote_do(r, &rq, url, &resp, e);
    if (q < 0)
        return q;
    if (resp.status != 200)
        return remote_error(r, &resp, e, "blob");
    const char *length = http_header(&resp, "content-length");
    if (!length || sv_u64(sv_from(length), INT64_MAX, ret) < 0)
        return err_set(e, ERR_NET, -EBADMSG, "%s does not say how large %.19s is", remote_host(r), digest);
    return 0;
}

struct download {
    struct blob_writer *w;
    uint64_t size;
    const char *digest;
    const struct image_progress *p;
};

static void say(const struct download *d) {
    if (d->p && d->p->fn)
        d->p->fn(d->p->arg, d->digest, "downloading", blob_written(d->w), d->size);
}

static int on_data(void *arg, const void *p, size_t n) {
    struct download *d = arg;
    if (n > d->size - blob_written(d->w))
        return -EFBIG;
    int r = blob_write(d->w, p, n);
    say(d);
    return r;
}

/* One try. 1: done, -EAGAIN: a broken connection that may go on from here. */
static int attempt(struct remote *r, struct store *s, struct download *d, struct err *e) {
    _cleanup_http_ struct http_resp resp = {0};
    _cleanup_free_ char *url = xasprintf("/v2/%s/blobs/%s", remote_path(r), d->digest);
    uint64_t have;
    int q = blob_resume(s, d->digest, &d->w, &have, e);
    if (q == -EEXIST)
        return 1;
    if (q < 0)
        return q;
    if (have > d->size) { /* rubbish: the commit finds that and removes it */
        blob_commit(d->w, d->digest, NULL, NULL);
        return -EAGAIN;
    }
    if (have == d->size && have > 0)
        return blob_commit(d->w, d->digest, NULL, e) < 0 ? -EAGAIN : 1;
    struct http_req rq = {.write = on_data, .write_arg = d, .range_from = have};
    q = remote_do(r, &rq, url, &resp, e);
    if (q == 0 && resp.status == 416) { /* it will not continue: from the start */
        blob_commit(d->w, d->digest, NULL, NULL);
        return -EAGAIN;
    }
    if (q == 0 && resp.status / 100 != 2)
        q = remote_error(r, &resp, e, "blob");
    if (q < 0) {
        bool more = q == -ECONNRESET || q == -ETIMEDOUT || q == -EIO;
        blob_abort(d->w);
        return more ? -EAGAIN : q;
    }
    q = blob_commit(d->w, d->digest, NULL, e);
    return q < 0 ? q : 1;
}

int remote_blob(struct remote *r, struct store *s, const char *digest, uint64_t size, const struct image_progress *p, struct err *e) {
    struct download d = {.size = size, .digest = digest, .p = p};
    struct err last = {0};
    if (blob_has(s, digest))
        return 0;
    for (unsigned i = 0; i < BLOB_TRIES; i++) {
        struct err now = {0};
        int q = attempt(r, s, &d, &now);
        if (q == 1)
            return 0;
        if (now.kind != ERR_NONE)
            last = now;
        if (q != -EAGAIN) {
            if (q == -EFBIG && last.kind == ERR_LIMIT)
                err_set(&last, ERR_NET, -EFBIG, "%s sent more than the %llu bytes that the manifest says", remote_host(r), (unsigned long long)size);
            if (e)
                *e = last;
            return err_wrap(e, q, "%.19s", digest);
        }
        if (i)
            usleep(300000u << MIN(i, 3u));
    }
    if (last.kind == ERR_NONE)
        err_set(&last, ERR_NET, -EIO, "the download does not get on");
    if (e)
        *e = last;
    return err_wrap(e, -EIO, "%.19s", digest);
}
