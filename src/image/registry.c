/* The embedded registry's records, and what captures and finds images there without HTTP. */
#include "image/registry_internal.h"

#include "core/loop.h"
#include "core/map.h"

#define NS RR_NS
#define NS_BLOB RR_NS_BLOB

static int get(struct store *s, const char *ns, const char *key, struct arena *a, struct json **ret) {
    _cleanup_buf_ struct buf b = BUF_MAX(256u << 10);
    int r = rec_get(s, ns, key, &b);
    if (r == 1 && json_parse(a, arena_sv(a, buf_sv(&b)), ret, NULL) < 0)
        return 0;
    return r;
}

int rr_resolve(struct store *s, const char *repo, const char *ref, struct rr_found *ret) {
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    struct rr_found found = {0};
    int r;
    if (digest_valid_any(sv_from(ref))) {
        snprintf(found.digest, sizeof found.digest, "%s", ref);
    } else {
        _cleanup_free_ char *key = xasprintf("%s:%s", repo, ref);
        r = get(s, NS, key, &a, &j);
        if (r != 1)
            return r;
        const char *d = json_get_str(j, "manifest", "");
        if (!digest_valid_any(sv_from(d)))
            return 0;
        snprintf(found.digest, sizeof found.digest, "%s", d);
    }
    _cleanup_free_ char *key = xasprintf("%s@%s", repo, found.digest);
    r = get(s, NS, key, &a, &j);
    if (r != 1)
        return r;
    const char *blob = json_get_str(j, "blob", found.digest);
    if (!digest_valid(sv_from(blob)) || !blob_has(s, blob))
        return 0;
    snprintf(found.blob, sizeof found.blob, "%s", blob);
    found.media = xstrdup(json_get_str(j, "media", MEDIA_OCI_MANIFEST));
    *ret = found;
    return 1;
}

static int put_manifest_record(struct store *s, const struct rr_put *p, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(64u << 10);
    _cleanup_free_ char *key = xasprintf("%s@%s", p->repo, p->digest);
    const struct manifest *m = p->m;
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "media", m->media_type);
    jw_key(&w, "size");
    jw_uint(&w, p->size);
    const char *type = m->artifact_type ? m->artifact_type : m->kind == MANIFEST_IMAGE ? m->config.media_type : NULL;
    if (type && *type)
        jw_kstr(&w, "type", type);
    if (m->has_subject)
        jw_kstr(&w, "subject", m->subject.digest);
    if (!streq(p->blob, p->digest))
        jw_kstr(&w, "blob", p->blob);
    jw_key(&w, "time");
    jw_uint(&w, now_real());
    jw_end_obj(&w);
    return buf_ok(&b) ? rec_put(s, NS, key, buf_sv(&b), e) : err_set(e, ERR_LIMIT, -EFBIG, "the manifest's types are too long");
}

int rr_put(struct store *s, const struct rr_put *p, struct err *e) {
    int r = put_manifest_record(s, p, e);
    for (size_t i = 0; r == 0 && i < p->n_tags; i++) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        struct json_w w;
        _cleanup_free_ char *key = xasprintf("%s:%s", p->repo, p->tags[i]);
        jw_init(&w, &b, 0);
        jw_obj(&w);
        jw_kstr(&w, "manifest", p->digest);
        jw_key(&w, "size");
        jw_uint(&w, p->total);
        if (p->run_id)
            jw_kstr(&w, "run", p->run_id);
        jw_key(&w, "time");
        jw_uint(&w, now_real());
        jw_end_obj(&w);
        r = rec_put(s, NS, key, buf_sv(&b), e);
    }
    return r;
}

struct collect {
    struct strv keys;
    const char *digest;
};

static int collect_key(const char *key, struct sv json, void *arg) {
    struct collect *c = arg;
    if (c->digest) {
        _cleanup_arena_ struct arena a = {0};
        struct json *j;
        if (json_parse(&a, json, &j, NULL) < 0 || !streq(json_get_str(j, "manifest", ""), c->digest))
            return 0;
    }
    strv_add(&c->keys, key);
    return 0;
}

int rr_delete(struct store *s, const char *repo, const char *ref) {
    bool by_digest = digest_valid_any(sv_from(ref));
    _cleanup_free_ char *key = xasprintf("%s%c%s", repo, by_digest ? '@' : ':', ref);
    int r = rec_get(s, NS, key, NULL);
    if (r != 1)
        return r;
    if (by_digest) {
        struct collect c = {.digest = ref};
        _cleanup_free_ char *prefix = xasprintf("%s:", repo);
        rec_each(s, NS, prefix, collect_key, &c);
        for (size_t i = 0; i < c.keys.n; i++)
            rec_del(s, NS, c.keys.v[i]);
        strv_done(&c.keys);
    }
    r = rec_del(s, NS, key);
    return r < 0 ? r : 1;
}

void rr_tags(struct store *s, const char *repo, struct strv *ret) {
    struct collect c = {0};
    _cleanup_free_ char *prefix = xasprintf("%s:", repo);
    rec_each(s, NS, prefix, collect_key, &c);
    for (size_t i = 0; i < c.keys.n; i++) { /* not those of "localhost:5000/app" for "localhost" */
        const char *tag = c.keys.v[i] + strlen(prefix);
        if (!strchr(tag, '/') && !strchr(tag, '@'))
            strv_add(ret, tag);
    }
    strv_sort(ret);
    strv_done(&c.keys);
}

void rr_repos(struct store *s, struct strv *ret) {
    struct collect c = {0};
    _cleanup_map_ struct map seen = {0};
    rec_each(s, NS, NULL, collect_key, &c);
    for (size_t i = 0; i < c.keys.n; i++) {
        const char *at = strrchr(c.keys.v[i], '@');
        if (!at)
            continue; /* each tag has a manifest's record beside it */
        struct sv repo = sv_n(c.keys.v[i], (size_t)(at - c.keys.v[i]));
        if (map_has(&seen, repo))
            continue;
        map_set(&seen, repo, ret);
        strv_addn(ret, repo.p, repo.n);
    }
    strv_sort(ret);
    strv_done(&c.keys);
}

static bool has_repo(struct store *s, const char *name) {
    struct collect c = {0};
    _cleanup_free_ char *prefix = xasprintf("%s@", name);
    rec_each(s, NS, prefix, collect_key, &c);
    bool has = c.keys.n > 0;
    strv_done(&c.keys);
    return has;
}

char *rr_repo(struct store *s, const char *name) {
    if (has_repo(s, name))
        return xstrdup(name);
    const char *const before[] = {"docker.io/", "docker.io/library/"};
    for (size_t i = 0; i < ELEMENTS(before); i++) {
        char *full = xasprintf("%s%s", before[i], name);
        if (has_repo(s, full))
            return full;
        free(full);
    }
    _cleanup_strv_ struct strv repos = {0};
    _cleanup_free_ char *end = xasprintf("/%s", name);
    const char *only = NULL;
    rr_repos(s, &repos);
    for (size_t i = 0; i < repos.n; i++) {
        if (!endswith(repos.v[i], end))
            continue;
        if (only)
            return xstrdup(name); /* ambiguous */
        only = repos.v[i];
    }
    return xstrdup(only ? only : name);
}

struct referrers {
    const char *subject, *after;
    size_t skip;
    rr_referrer_fn fn;
    void *arg;
};

static int one_referrer(const char *key, struct sv json, void *arg) {
    struct referrers *x = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    const char *digest = key + x->skip;
    if ((x->after && strcmp(digest, x->after) <= 0) || json_parse(&a, json, &j, NULL) < 0 ||
        !streq(json_get_str(j, "subject", ""), x->subject))
        return 0;
    return !x->fn(x->arg, digest, json_get_str(j, "media", ""), json_get_str(j, "type", ""), (uint64_t)json_get_int(j, "size", 0));
}

void rr_referrers(struct store *s, const char *repo, const char *subject, const char *after, rr_referrer_fn fn, void *arg) {
    _cleanup_free_ char *prefix = xasprintf("%s@", repo);
    struct referrers x = {subject, after, strlen(prefix), fn, arg};
    rec_each(s, NS, prefix, one_referrer, &x);
}

/* --- blobs of repositories ----------------------------------------------------------------- */

const char *rr_stored(const struct json *j, const char *key) {
    const char *at = strrchr(key, '@');
    const char *d = json_get_str(j, "blob", at ? at + 1 : "");
    return digest_valid(sv_from(d)) ? d : NULL;
}

int rr_link(struct store *s, const char *repo, const char *digest, const char *blob, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    _cleanup_free_ char *key = xasprintf("%s@%s", repo, digest);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_key(&w, "time");
    jw_uint(&w, now_real());
    if (blob && !streq(blob, digest))
        jw_kstr(&w, "blob", blob);
    jw_end_obj(&w);
    return rec_put(s, NS_BLOB, key, buf_sv(&b), e);
}

int rr_unlink(struct store *s, const char *repo, const char *digest) {
    _cleanup_free_ char *key = xasprintf("%s@%s", repo, digest);
    int r = rec_get(s, NS_BLOB, key, NULL);
    if (r != 1)
        return r;
    r = rec_del(s, NS_BLOB, key);
    return r < 0 ? r : 1;
}

int rr_blob(struct store *s, const char *repo, const char *digest, char blob[DIGEST_LEN + 1]) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_free_ char *key = xasprintf("%s@%s", repo, digest);
    struct json *j;
    int r = get(s, NS_BLOB, key, &a, &j);
    const char *d = r == 1 ? rr_stored(j, key) : NULL;
    if (!d || !blob_has(s, d))
        return r < 0 ? r : 0;
    memcpy(blob, d, DIGEST_LEN + 1);
    return 1;
}

static int any_key(const char *key, struct sv json, void *arg) { return 1; }

bool rr_has_blobs(struct store *s, const char *repo) {
    _cleanup_free_ char *prefix = xasprintf("%s@", repo);
    return rec_each(s, NS_BLOB, prefix, any_key, NULL) == 1;
}

struct anywhere {
    const char *digest;
    char blob[DIGEST_LEN + 1];
};

static int same_digest(const char *key, struct sv json, void *arg) {
    struct anywhere *x = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    const char *at = strrchr(key, '@');
    const char *d = at && streq(at + 1, x->digest) && json_parse(&a, json, &j, NULL) == 0 ? rr_stored(j, key) : NULL;
    if (d)
        memcpy(x->blob, d, sizeof x->blob);
    return d != NULL;
}

int rr_blob_anywhere(struct store *s, const char *digest, char blob[DIGEST_LEN + 1]) {
    struct anywhere x = {.digest = digest};
    int r = rec_each(s, NS_BLOB, NULL, same_digest, &x);
    if (r != 1 || !blob_has(s, x.blob))
        return r < 0 ? r : 0;
    memcpy(blob, x.blob, sizeof x.blob);
    return 1;
}

const char *rr_link_all(struct store *s, const char *repo, const char *from, const struct manifest *m, struct err *e) {
    if (m->kind == MANIFEST_INDEX)
        return NULL; /* may be sparse */
    for (size_t i = 0; i <= m->n; i++) {
        const struct descriptor *d = i < m->n ? &m->entries[i] : &m->config;
        char blob[DIGEST_LEN + 1];
        if (d->foreign)
            continue;
        int r = rr_blob(s, repo, d->digest, blob);
        if (r == 0 && from && !streq(from, repo))
            r = rr_blob(s, from, d->digest, blob);
        if (r < 0)
            err_errno(e, r, "look for %.19s", d->digest);
        if (r == 1 && rr_link(s, repo, d->digest, blob, e) < 0)
            r = -EIO;
        /* Once more: a collection may have come between. */
        if (r != 1 || !blob_has(s, blob))
            return d->digest;
    }
    return NULL;
}

/* --- captures ------------------------------------------------------------------------------ */

static void repo_name(const struct image_ref *ref, struct buf *b) { buf_addf(b, "%s/%s", ref->registry, ref->path); }

int registry_capture(struct store *s, struct lease *l, const char *id, const char *name, const char *run_id,
                     char digest[DIGEST_LEN + 1], uint64_t *ret_size, struct err *e) {
    struct image_ref ref;
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX), repo = BUF_SMALL, b = BUF_SMALL;
    _cleanup_arena_ struct arena a = {0};
    struct manifest m;
    char found[DIGEST_LEN + 1];
    uint64_t total = 0;
    int r = ref_parse(name, &ref, e);
    if (r == 0 && ref.digest[0])
        r = err_set(e, ERR_USER, -EINVAL, "push %s: an image is pushed by tag, not by digest", name);
    if (r == 0)
        r = image_export(s, l, id, false, NULL, found, &text, &total, e);
    if (r == 0)
        r = manifest_parse(&a, buf_sv(&text), &m, e);
    if (r < 0)
        return err_wrap(e, r, "capture %s", name);
    repo_name(&ref, &repo);
    for (size_t i = 0; r == 0 && i <= m.n; i++) /* the lease holds them meanwhile */
        r = rr_link(s, buf_str(&repo), i < m.n ? m.entries[i].digest : m.config.digest, NULL, e);
    const char *tag = ref.tag;
    struct rr_put put = {.repo = buf_str(&repo), .digest = found, .blob = found, .m = &m, .size = text.n,
                         .total = total, .run_id = run_id, .tags = &tag, .n_tags = 1};
    if (r == 0)
        r = rr_put(s, &put, e);
    if (r == 0 && run_id) {
        _cleanup_free_ char *key = xasprintf("%s %s:%s", run_id, buf_str(&repo), ref.tag);
        buf_addf(&b, "{\"manifest\":\"%s\"}", found);
        r = rec_put(s, "captured", key, buf_sv(&b), e);
    }
    if (r < 0)
        return err_wrap(e, r, "capture %s", name);
    memcpy(digest, found, sizeof found);
    if (ret_size)
        *ret_size = total;
    return 0;
}

/* 1: digest of the manifest that the reference means, of that run or of any (NULL). */
static int captured(struct store *s, const struct image_ref *ref, const char *run_id, char digest[DIGEST_LEN + 1]) {
    _cleanup_buf_ struct buf repo = BUF_SMALL;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    repo_name(ref, &repo);
    if (ref->digest[0] || !run_id) {
        struct rr_found found;
        int q = rr_resolve(s, buf_str(&repo), ref->digest[0] ? ref->digest : ref->tag, &found);
        if (q == 1) {
            memcpy(digest, found.blob, DIGEST_LEN + 1);
            free(found.media);
        }
        return q;
    }
    _cleanup_free_ char *key = xasprintf("%s %s:%s", run_id, buf_str(&repo), ref->tag);
    int r = get(s, "captured", key, &a, &j);
    if (r != 1)
        return r;
    const char *d = json_get_str(j, "manifest", "");
    if (!digest_valid(sv_from(d)) || !blob_has(s, d))
        return 0;
    memcpy(digest, d, DIGEST_LEN + 1);
    return 1;
}

int registry_find(struct store *s, struct lease *l, const struct image_ref *ref, const char *run_id, struct image **ret, struct err *e) {
    char digest[DIGEST_LEN + 1];
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX), full = BUF_SMALL;
    _cleanup_arena_ struct arena a = {0};
    struct manifest m;
    int r = captured(s, ref, run_id, digest);
    if (r != 1)
        return r < 0 ? err_errno(e, r, "look for captured images") : 0;
    ref_format(ref, &full);
    r = blob_read(s, digest, &text, e);
    if (r == 0)
        r = manifest_parse(&a, buf_sv(&text), &m, e);
    if (r == 0 && m.kind == MANIFEST_IMAGE)
        r = image_find(s, l, m.config.digest, ret, e);
    if (r == 0) /* pushed by somebody else's client: only blobs are here */
        r = image_from_store(s, l, ref, digest, ret, e);
    if (r == 1 && !(*ret)->name)
        (*ret)->name = buf_take(&full);
    return r < 0 ? err_wrap(e, r, "captured image %s", buf_str(&full)) : r;
}

struct each {
    registry_each_fn fn;
    void *arg;
};

static int each_tag(const char *key, struct sv json, void *arg) {
    struct each *x = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    if (strchr(key, '@') || json_parse(&a, json, &j, NULL) < 0)
        return 0;
    return x->fn(key, json_get_str(j, "manifest", ""), (uint64_t)json_get_int(j, "size", 0), json_get_str(j, "run", NULL), x->arg);
}

int registry_each(struct store *s, registry_each_fn fn, void *arg) {
    struct each x = {fn, arg};
    return rec_each(s, NS, NULL, each_tag, &x);
}
