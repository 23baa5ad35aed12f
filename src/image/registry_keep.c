/* What the embedded registry holds on to, and letting go of it. Blobs and manifests are the store's:
 * a collection (store_prune) keeps what registry_reach marks, here only records are removed. */
#include "image/registry_internal.h"

#include "core/loop.h"
#include "core/map.h"

#define LINK_NS (86400ull * 1000000000)

struct keeping {
    struct store *s;
    void (*mark)(void *m, const char *what);
    void *m;
};

static int mark_link(const char *key, struct sv json, void *arg) {
    struct keeping *k = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    if (json_parse(&a, json, &j, NULL) < 0)
        return -EUCLEAN;
    const char *d = rr_stored(j, key);
    if (d && (uint64_t)json_get_int(j, "time", 0) + LINK_NS > now_real())
        k->mark(k->m, d);
    return 0;
}

/* What a manifest names by other digests than the store's. (Within a collection: no blob_has.) */
static void mark_linked(struct keeping *k, const char *repo, const char *digest) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf b = BUF_SMALL;
    _cleanup_free_ char *key = xasprintf("%s@%s", repo, digest);
    struct json *j;
    if (digest_valid(sv_from(digest)) || rec_get(k->s, RR_NS_BLOB, key, &b) != 1 || json_parse(&a, buf_sv(&b), &j, NULL) < 0)
        return;
    const char *blob = rr_stored(j, key);
    if (blob)
        k->mark(k->m, blob);
}

static int mark_manifest(const char *key, struct sv json, void *arg) {
    struct keeping *k = arg;
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX);
    struct json *j;
    struct manifest m;
    const char *at = strrchr(key, '@');
    if (!at)
        return 0;
    if (json_parse(&a, json, &j, NULL) < 0)
        return -EUCLEAN;
    const char *blob = rr_stored(j, key);
    if (!blob)
        return 0;
    image_mark_manifest(k->s, blob, k->mark, k->m);
    if (blob_read(k->s, blob, &text, NULL) < 0 || sv_find(buf_sv(&text), SV("sha512:")) < 0 ||
        manifest_parse_kept(&a, buf_sv(&text), &m, NULL) < 0 || m.kind != MANIFEST_IMAGE)
        return 0;
    _cleanup_free_ char *repo = xstrndup(key, (size_t)(at - key));
    for (size_t i = 0; i <= m.n; i++)
        mark_linked(k, repo, i < m.n ? m.entries[i].digest : m.config.digest);
    return 0;
}

int registry_reach(struct store *s, void (*mark)(void *m, const char *what), void *m, void *arg) {
    struct keeping k = {s, mark, m};
    int r = rec_each(s, RR_NS, NULL, mark_manifest, &k);
    if (r == 0)
        r = rec_each(s, RR_NS_BLOB, NULL, mark_link, &k);
    return r;
}

static int forget_link(const char *key, struct sv json, void *arg) {
    struct store *s = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    const char *d = json_parse(&a, json, &j, NULL) == 0 ? rr_stored(j, key) : NULL;
    int fd = d ? blob_open(s, d, NULL, NULL) : -ENOENT;
    if (fd == -ENOENT)
        (void)rec_del(s, RR_NS_BLOB, key);
    fd_close(fd);
    return 0;
}

void registry_forget_gone(struct store *s) { (void)rec_each(s, RR_NS_BLOB, NULL, forget_link, s); }

/* --- letting go ---------------------------------------------------------------------------- */

static int all_keys(const char *key, struct sv json, void *arg) {
    strv_add(arg, key);
    return 0;
}

/* Takes "app", "app:tag", "app@digest" apart; malloc, in place. */
static char *split_name(char *name) {
    char *at = strchr(name, '@'), *slash = strrchr(name, '/');
    char *colon = strrchr(slash ? slash : name, ':');
    char *cut = at ? at : colon;
    if (!cut)
        return NULL;
    *cut = 0;
    return cut + 1;
}

static int remove_repo(struct store *s, const char *repo, struct strv *said) {
    _cleanup_strv_ struct strv keys = {0}, blobs = {0}, tags = {0};
    _cleanup_free_ char *manifests = xasprintf("%s@", repo);
    rr_tags(s, repo, &tags);
    for (size_t i = 0; i < tags.n; i++)
        strv_addf(&keys, "%s:%s", repo, tags.v[i]);
    int r = rec_each(s, RR_NS, manifests, all_keys, &keys);
    if (r == 0)
        r = rec_each(s, RR_NS_BLOB, manifests, all_keys, &blobs);
    for (size_t i = 0; r == 0 && i < keys.n; i++) {
        r = rec_del(s, RR_NS, keys.v[i]);
        if (r == 0)
            strv_add(said, keys.v[i]);
    }
    for (size_t i = 0; r == 0 && i < blobs.n; i++)
        r = rec_del(s, RR_NS_BLOB, blobs.v[i]);
    return r < 0 ? r : (int)MIN(keys.n + blobs.n, (size_t)1);
}

int registry_remove(struct store *s, const char *name, struct strv *said, struct err *e) {
    _cleanup_free_ char *text = xstrdup(name);
    const char *ref = split_name(text);
    _cleanup_free_ char *repo = rr_repo(s, text);
    int r = ref ? rr_delete(s, repo, ref) : remove_repo(s, repo, said);
    if (r == 0)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "the registry has no %s", name);
    if (r < 0)
        return err_errno(e, r, "remove %s", name);
    if (ref)
        strv_addf(said, "%s%c%s", repo, strchr(ref, ':') ? '@' : ':', ref);
    return 0;
}

struct untagged {
    struct store *s;
    struct strv keys;   /* of manifests */
    struct map kept;    /* "REPO@DIGEST" */
    uint64_t before_ns;
};

static void keep_below(struct untagged *x, const char *key, unsigned depth) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX), record = BUF_MAX(256u << 10);
    struct json *j;
    struct manifest m;
    const char *at = strrchr(key, '@');
    if (!at || map_gets(&x->kept, key) || rec_get(x->s, RR_NS, key, &record) != 1 ||
        json_parse(&a, buf_sv(&record), &j, NULL) < 0)
        return;
    map_sets(&x->kept, key, x);
    const char *blob = rr_stored(j, key);
    if (!blob || depth > 16 || blob_read(x->s, blob, &text, NULL) < 0 ||
        manifest_parse_kept(&a, buf_sv(&text), &m, NULL) < 0 || m.kind != MANIFEST_INDEX)
        return;
    for (size_t i = 0; i < m.n; i++) {
        _cleanup_free_ char *child = xasprintf("%.*s@%s", (int)(at - key), key, m.entries[i].digest);
        keep_below(x, child, depth + 1);
    }
}

static int sort_record(const char *key, struct sv json, void *arg) {
    struct untagged *x = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    const char *at = strrchr(key, '@'), *colon = strrchr(key, ':');
    if (json_parse(&a, json, &j, NULL) < 0)
        return -EUCLEAN;
    if (at) {
        strv_add(&x->keys, key);
        if ((uint64_t)json_get_int(j, "time", 0) > x->before_ns)
            keep_below(x, key, 0);
    } else if (colon) {
        _cleanup_free_ char *child = xasprintf("%.*s@%s", (int)(colon - key), key, json_get_str(j, "manifest", ""));
        keep_below(x, child, 0);
    }
    return 0;
}

/* Those that refer to something that is kept are kept, and what these name. true: one more is. */
static bool keep_referrers(struct untagged *x) {
    bool more = false;
    for (size_t i = 0; i < x->keys.n; i++) {
        const char *key = x->keys.v[i], *at = strrchr(key, '@');
        _cleanup_arena_ struct arena a = {0};
        _cleanup_buf_ struct buf record = BUF_MAX(256u << 10);
        struct json *j;
        if (map_gets(&x->kept, key) || rec_get(x->s, RR_NS, key, &record) != 1 || json_parse(&a, buf_sv(&record), &j, NULL) < 0)
            continue;
        _cleanup_free_ char *subject = xasprintf("%.*s@%s", (int)(at - key), key, json_get_str(j, "subject", ""));
        if (!map_gets(&x->kept, subject))
            continue;
        keep_below(x, key, 0);
        more = true;
    }
    return more;
}

int registry_untagged(struct store *s, uint64_t older_ns, bool dry_run, struct strv *said, struct err *e) {
    struct untagged x = {.s = s};
    uint64_t now = now_real();
    x.before_ns = now > older_ns ? now - older_ns : 0;
    int r = rec_each(s, RR_NS, NULL, sort_record, &x);
    while (r == 0 && keep_referrers(&x))
        ;
    for (size_t i = 0; r == 0 && i < x.keys.n; i++) {
        if (map_gets(&x.kept, x.keys.v[i]))
            continue;
        strv_add(said, x.keys.v[i]);
        if (!dry_run)
            r = rec_del(s, RR_NS, x.keys.v[i]);
    }
    strv_done(&x.keys);
    map_done(&x.kept);
    return r < 0 ? err_errno(e, r, "the registry's records") : 0;
}
