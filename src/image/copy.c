/* From registry to registry: a manifest and all below it (an index's images, for all platforms), then what
 * refers to it (signatures, SBOMs), each under its own digest, so that nothing changes on the way. Blobs
 * that the other side lacks are mounted where both are on one registry, else they go through the store,
 * where a copy that broke goes on. Where a registry has no referrers API, the tag that the specification
 * names instead is read and kept. */
#include "image/push.h"

#include "core/map.h"

enum { DEPTH = 8, REFERRERS_MAX = 1000 };

struct copy {
    struct push_blobs b;
    const struct image_copy_options *o;
    struct map done; /* digests of manifests */
    struct image_copied res;
};

static int copy_one(struct copy *c, const char *ref, const char *tag, unsigned depth, char ret_digest[DIGEST_LEN + 1], struct err *e);

/* --- referrers ----------------------------------------------------------------------------- */

static int get(struct remote *r, const char *url, struct http_resp *resp) {
    struct http_req rq = {.max_body = MANIFEST_MAX, .headers = {{"Accept", MEDIA_OCI_INDEX}}, .n_headers = 1};
    int q = remote_do(r, &rq, url, resp, NULL);
    return q < 0 ? q : resp->status == 200;
}

/* The index of what refers to a digest: 1, or 0 when there is none. */
static int referrers(struct remote *r, const char *digest, struct arena *a, struct manifest *ret) {
    _cleanup_http_ struct http_resp resp = {0}, tagged = {0};
    _cleanup_free_ char *api = xasprintf("/v2/%s/referrers/%s", remote_path(r), digest),
                        *tag = xasprintf("/v2/%s/manifests/sha256-%s", remote_path(r), digest_hex(digest));
    struct http_resp *got = &resp;
    int q = get(r, api, &resp);
    if (q == 0)
        q = get(r, tag, got = &tagged);
    if (q != 1 || manifest_parse_kept(a, arena_sv(a, buf_sv(&got->body)), ret, NULL) < 0 || ret->kind != MANIFEST_INDEX)
        return q < 0 ? q : 0;
    return 1;
}

static void put_entry(struct json_w *w, const struct descriptor *d) {
    jw_obj(w);
    jw_kstr(w, "mediaType", d->media_type);
    jw_kstr(w, "digest", d->digest);
    jw_kint(w, "size", (int64_t)d->size);
    if (d->artifact_type)
        jw_kstr(w, "artifactType", d->artifact_type);
    if (d->annotations) {
        jw_key(w, "annotations");
        jw_json(w, d->annotations);
    }
    jw_end_obj(w);
}

/* For a registry without the API: adds to the index under the tag made of the subject's digest. */
static int note_referrer(struct copy *c, const char *subject, const struct descriptor *d, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf b = BUF_MAX(MANIFEST_MAX);
    _cleanup_free_ char *tag = xasprintf("sha256-%s", digest_hex(subject));
    struct manifest old = {0};
    struct json_w w;
    char digest[DIGEST_LEN + 1];
    int have = referrers(c->b.to, subject, &a, &old);
    if (have < 0)
        return err_errno(e, have, "referrers of %.19s", subject);
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kint(&w, "schemaVersion", 2);
    jw_kstr(&w, "mediaType", MEDIA_OCI_INDEX);
    jw_key(&w, "manifests");
    jw_arr(&w);
    for (size_t i = 0; have && i < old.n; i++) {
        if (streq(old.entries[i].digest, d->digest))
            return 0;
        put_entry(&w, &old.entries[i]);
    }
    put_entry(&w, d);
    jw_end_arr(&w);
    jw_end_obj(&w);
    if (!buf_ok(&b))
        return err_set(e, ERR_LIMIT, -EFBIG, "too many referrers of %.19s", subject);
    digest_of(b.p, b.n, digest);
    return push_text(c->b.to, buf_sv(&b), MEDIA_OCI_INDEX, tag, digest, NULL, e);
}

static int copy_referrers(struct copy *c, const char *subject, unsigned depth, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct manifest list;
    int q = referrers(c->b.from, subject, &a, &list);
    if (q != 1)
        return q < 0 ? err_errno(e, q, "referrers of %.19s", subject) : 0;
    if (list.n > REFERRERS_MAX)
        return err_set(e, ERR_LIMIT, -EFBIG, "%.19s has more than %d referrers", subject, REFERRERS_MAX);
    for (size_t i = 0; q >= 0 && i < list.n; i++) {
        if (map_gets(&c->done, list.entries[i].digest))
            continue;
        char digest[DIGEST_LEN + 1];
        q = copy_one(c, list.entries[i].digest, NULL, depth + 1, digest, e);
        if (q == 0) /* 1: the registry noted it itself */
            q = note_referrer(c, subject, &list.entries[i], e);
    }
    return q < 0 ? q : 0;
}

/* --- manifests ----------------------------------------------------------------------------- */

static int check(const struct manifest *m, struct err *e) {
    for (size_t i = 0; i <= m->n; i++) {
        const char *d = i < m->n ? m->entries[i].digest : m->kind == MANIFEST_IMAGE ? m->config.digest : NULL;
        if (d && !digest_valid(sv_from(d)))
            return err_set(e, ERR_USER, -ENOTSUP, "images with sha512 digests: not yet");
    }
    return 0;
}

/* 1: the registry says that it keeps referrers. */
static int copy_one(struct copy *c, const char *ref, const char *tag, unsigned depth, char ret_digest[DIGEST_LEN + 1], struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX);
    struct manifest m;
    char digest[DIGEST_LEN + 1];
    bool knows = false;
    if (depth > DEPTH)
        return err_set(e, ERR_LIMIT, -ELOOP, "indexes and referrers more than %d deep", DEPTH);
    if (!digest_valid(sv_from(ref)) && strchr(ref, ':'))
        return err_set(e, ERR_USER, -ENOTSUP, "images with sha512 digests: not yet");
    int q = remote_manifest(c->b.from, ref, &text, digest, e);
    if (q == 0)
        q = manifest_parse_kept(&a, buf_sv(&text), &m, e);
    if (q == 0)
        q = check(&m, e);
    if (q < 0)
        return q;
    memcpy(ret_digest, digest, sizeof digest);
    if (m.kind == MANIFEST_INDEX && depth == 0 && c->o->arch) {
        const struct descriptor *d = manifest_pick(&m, c->o->os, c->o->arch, c->o->variant);
        if (!d)
            return err_set(e, ERR_NOTFOUND, -ENOENT, "there is no image for %s/%s", c->o->os, c->o->arch);
        return copy_one(c, d->digest, tag, 1, ret_digest, e);
    }
    if (map_sets(&c->done, digest, c) && !tag)
        return 1; /* an index that names it twice */
    for (size_t i = 0; q >= 0 && m.kind == MANIFEST_INDEX && i < m.n; i++) {
        char child[DIGEST_LEN + 1];
        q = copy_one(c, m.entries[i].digest, NULL, depth + 1, child, e);
    }
    if (q >= 0 && m.kind == MANIFEST_IMAGE)
        q = push_blobs_of(&c->b, &m, &c->res.sent, e);
    if (q >= 0)
        q = push_text(c->b.to, buf_sv(&text), m.media_type, tag ? tag : digest, digest, &knows, e);
    if (q < 0)
        return q;
    c->res.manifests++;
    if (c->o->referrers && (q = copy_referrers(c, digest, depth, e)) < 0)
        return q;
    return knows;
}

int image_copy(struct store *s, struct lease *l, const char *src, const char *dst, const struct image_copy_options *o,
               struct image_copied *ret, struct err *e) {
    struct image_ref from, to;
    struct push_options po = {.conf = o->conf, .progress = o->progress, .cancel = o->cancel, .parallel = o->parallel};
    struct copy c = {.b = {.s = s, .l = l, .o = &po}, .o = o};
    int q = ref_parse(src, &from, e);
    if (q == 0)
        q = ref_parse(dst, &to, e);
    if (q == 0 && to.digest[0])
        q = err_set(e, ERR_USER, -EINVAL, "copy to a tag, not to a digest");
    if (q == 0 && o->conf && o->conf->offline)
        q = err_set(e, ERR_NET, -ENETDOWN, "there is no network (--offline)");
    struct remote_options ro = {.conf = o->conf, .cancel = o->cancel};
    ro.registry = from.registry;
    ro.path = from.path;
    if (q == 0)
        q = remote_new(&c.b.from, &ro, e);
    ro.registry = to.registry;
    ro.path = to.path;
    ro.push = true;
    if (q == 0)
        q = remote_new(&c.b.to, &ro, e);
    if (q == 0 && streq(remote_base(c.b.from), remote_base(c.b.to)) && !streq(from.path, to.path)) {
        c.b.mount_from = from.path;
        remote_mount_from(c.b.to, from.path);
    }
    if (q == 0)
        q = copy_one(&c, from.digest[0] ? from.digest : from.tag, to.tag, 0, c.res.digest, e);
    remote_free(c.b.from);
    remote_free(c.b.to);
    map_done(&c.done);
    if (q < 0)
        return err_wrap(e, q, "copy %s to %s", src, dst);
    if (ret)
        *ret = c.res;
    return 0;
}
