/* Images by name and by id: the records of image.h. An image counts as there only when its
 * configuration and every layer is; what a crash took is simply not found, and pulled again. */
#include "core/loop.h"
#include "core/map.h"
#include "image/image.h"

#define DANGLING_NS (3600ull * 1000000000)

void image_free(struct image *i) {
    if (!i)
        return;
    image_config_done(&i->config);
    strv_done(&i->layers);
    free(i->standin_note);
    free(i->name);
    free(i);
}

void image_freep(struct image **i) {
    image_free(*i);
}

static int record(struct store *s, const char *ns, const char *key, struct arena *a,
                  struct json **ret) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    int r = rec_get(s, ns, key, &b);
    if (r != 1)
        return r;
    r = json_parse(a, arena_sv(a, buf_sv(&b)), ret, NULL);
    return r < 0 ? r : 1;
}

/* --- reading -----------------------------------------------------------------------------------
 */

/* Leases and looks for one thing; -ENOENT when it is gone. */
static int hold_snap(struct store *s, struct lease *l, const char *id, struct snap_info *ret) {
    char what[48];
    snprintf(what, sizeof what, "snap:%.32s", id);
    int r = l ? lease_use(l, what) : 0;
    if (r == 0)
        r = snap_get(s, id, ret);
    return r == 1 ? 0 : r == 0 ? -ENOENT : r;
}

static int load(struct store *s, struct lease *l, const char *id, struct image **ret,
                struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf text = BUF_MAX(8u << 20);
    _cleanup_image_ struct image *i = NULL;
    struct json *j;
    int r = record(s, "img", id, &a, &j);
    if (r <= 0)
        return r < 0 ? err_errno(e, r, "read the record of image %s", id) : 0;
    i = xcalloc(1, sizeof *i);
    snprintf(i->id, sizeof i->id, "%s", id);
    snprintf(i->manifest, sizeof i->manifest, "%s", json_get_str(j, "manifest", ""));
    i->standin = json_get_bool(j, "standin", false);
    i->standin_note = xstrdup(json_get_str(j, "note", NULL));
    if (l && (r = lease_use(l, id)) < 0)
        return err_errno(e, r, "lease image %s", id);
    if (l && i->manifest[0] && (r = lease_use(l, i->manifest)) < 0)
        return err_errno(e, r, "lease image %s", id);
    const struct json *layers = json_get(j, "layers");
    for (size_t k = 0; layers && k < layers->n; k++) {
        struct snap_info info;
        const char *snap = json_str(layers->items[k], "");
        r = hold_snap(s, l, snap, &info);
        if (r == -ENOENT)
            return 0;
        if (r < 0)
            return err_errno(e, r, "look for a layer of image %s", id);
        strv_add(&i->layers, snap);
        i->size += info.size;
    }
    r = blob_read(s, id, &text, NULL);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return err_errno(e, r, "read the configuration of image %s", id);
    r = image_config_parse(buf_sv(&text), &i->config, e);
    if (r < 0)
        return err_wrap(e, r, "image %s", id);
    *ret = TAKE(i);
    return 1;
}

static bool is_hex(const char *s, size_t min) {
    size_t n = strspn(s, "0123456789abcdef");
    return n >= min && n <= 64 && !s[n];
}

struct prefix {
    char id[DIGEST_LEN + 1];
    int n;
};

static int prefix_hit(const char *key, struct sv json, void *arg) {
    struct prefix *p = arg;
    if (p->n++ == 0)
        snprintf(p->id, sizeof p->id, "%s", key);
    return 0;
}

/* "sha256:<hex>", "<hex>" or a prefix of it: 1 and the id. */
static int by_id(struct store *s, const char *name, char id[DIGEST_LEN + 1], struct err *e) {
    const char *hex = startswith(name, "sha256:");
    hex = hex ? hex : name;
    if (!is_hex(hex, 2))
        return 0;
    struct prefix p = {.n = 0};
    _cleanup_free_ char *key = xasprintf("sha256:%s", hex);
    int r = rec_each(s, "img", key, prefix_hit, &p);
    if (r < 0)
        return err_errno(e, r, "read the records of images");
    if (p.n > 1)
        return err_set(e, ERR_USER, -EEXIST, "%s is the beginning of %d images' ids", name, p.n);
    if (p.n)
        memcpy(id, p.id, sizeof p.id);
    return p.n;
}

struct by_digest {
    struct store *s;
    const char *digest;
    char id[DIGEST_LEN + 1];
    char name[700];
};

static int digest_hit(const char *ref, const char *id, struct sv json, void *arg) {
    struct by_digest *b = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    if (record(b->s, "img", id, &a, &j) != 1 || !streq(json_get_str(j, "manifest", ""), b->digest))
        return 0;
    snprintf(b->id, sizeof b->id, "%s", id);
    snprintf(b->name, sizeof b->name, "%s", ref);
    return 1;
}

struct each {
    image_each_fn fn;
    void *arg;
    bool ids;
};

static int each_one(const char *key, struct sv text, void *arg) {
    struct each *x = arg;
    if (x->ids)
        return x->fn(NULL, key, text, x->arg);
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    if (json_parse(&a, text, &j, NULL) < 0)
        return 0;
    return x->fn(key, json_get_str(j, "id", ""), text, x->arg);
}

static int each_prefix(struct store *s, const char *prefix, image_each_fn fn, void *arg) {
    struct each x = {fn, arg, false};
    return rec_each(s, "image", prefix, each_one, &x);
}

int image_each(struct store *s, image_each_fn fn, void *arg) {
    return each_prefix(s, NULL, fn, arg);
}

int image_each_id(struct store *s, image_each_fn fn, void *arg) {
    struct each x = {fn, arg, true};
    return rec_each(s, "img", NULL, each_one, &x);
}

/* A reference: 1, its full name and the image's id. */
static int by_ref(struct store *s, const char *name, char id[DIGEST_LEN + 1], struct buf *full) {
    struct image_ref ref;
    if (ref_parse(name, &ref, NULL) < 0)
        return 0;
    ref_format(&ref, full);
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    int r = record(s, "image", buf_str(full), &a, &j);
    if (r == 1)
        snprintf(id, DIGEST_LEN + 1, "%s", json_get_str(j, "id", ""));
    if (r || !ref.digest[0])
        return r;
    /* Pulled under a tag, asked for by digest. */
    struct by_digest b = {.s = s, .digest = ref.digest};
    _cleanup_free_ char *prefix = xasprintf("%s/%s", ref.registry, ref.path);
    r = each_prefix(s, prefix, digest_hit, &b);
    if (r == 1)
        memcpy(id, b.id, sizeof b.id);
    return r;
}

int image_find(struct store *s, struct lease *l, const char *name, struct image **ret,
               struct err *e) {
    char id[DIGEST_LEN + 1];
    _cleanup_buf_ struct buf full = BUF_SMALL;
    int r = by_ref(s, name, id, &full);
    if (r < 0)
        return err_errno(e, r, "read the records of images");
    bool named = r == 1;
    if (r == 0)
        r = by_id(s, name, id, e);
    if (r <= 0)
        return r;
    r = load(s, l, id, ret, e);
    if (r == 1 && named)
        (*ret)->name = buf_take(&full);
    return r;
}

/* --- writing -----------------------------------------------------------------------------------
 */

int image_register(struct store *s, const char *id, const char *manifest,
                   const struct strv *layer_snaps, const char *standin_note, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    struct json_w w;
    if (!blob_has(s, id))
        return err_set(e, ERR_INTERNAL, -ENOENT, "the configuration %s is not in the store", id);
    jw_init(&w, &b, 0);
    jw_obj(&w);
    if (manifest && manifest[0])
        jw_kstr(&w, "manifest", manifest);
    jw_key(&w, "layers");
    jw_arr(&w);
    for (size_t i = 0; i < layer_snaps->n; i++) {
        struct snap_info info;
        if (snap_get(s, layer_snaps->v[i], &info) != 1)
            return err_set(e, ERR_INTERNAL, -ENOENT, "layer %s is not in the store",
                           layer_snaps->v[i]);
        jw_str(&w, layer_snaps->v[i]);
    }
    jw_end_arr(&w);
    if (standin_note) {
        jw_kbool(&w, "standin", true);
        jw_kstr(&w, "note", standin_note);
    }
    jw_key(&w, "made");
    jw_uint(&w, now_real());
    jw_end_obj(&w);
    return rec_put(s, "img", id, buf_sv(&b), e);
}

int image_add(struct store *s, const struct image_config *c, const struct strv *layer_snaps,
              char id[DIGEST_LEN + 1], struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(8u << 20);
    char digest[DIGEST_LEN + 1];
    if (c->diff_ids.n != layer_snaps->n)
        return err_set(e, ERR_INTERNAL, -EINVAL, "an image of %zu layers with %zu snapshots",
                       c->diff_ids.n, layer_snaps->n);
    image_config_format(c, &b);
    if (!buf_ok(&b))
        return err_set(e, ERR_LIMIT, -EFBIG, "the image's configuration is too large");
    int r = blob_put(s, buf_sv(&b), digest, e);
    if (r == 0)
        r = image_register(s, digest, NULL, layer_snaps, NULL, e);
    if (r == 0)
        memcpy(id, digest, sizeof digest);
    return r;
}

int image_tag(struct store *s, const char *id, const char *name, struct err *e) {
    struct image_ref ref;
    _cleanup_buf_ struct buf full = BUF_SMALL, b = BUF_SMALL;
    struct json_w w;
    int r = ref_parse(name, &ref, e);
    if (r < 0)
        return r;
    r = rec_get(s, "img", id, NULL);
    if (r != 1)
        return r < 0 ? err_errno(e, r, "read the records of images")
                     : err_set(e, ERR_NOTFOUND, -ENOENT, "no such image: %s", id);
    ref_format(&ref, &full);
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "id", id);
    jw_key(&w, "made");
    jw_uint(&w, now_real());
    jw_end_obj(&w);
    return rec_put(s, "image", buf_str(&full), buf_sv(&b), e);
}

static int full_name(const char *name, struct buf *full, struct err *e) {
    struct image_ref ref;
    int r = ref_parse(name, &ref, e);
    if (r == 0)
        ref_format(&ref, full);
    return r;
}

int image_untag(struct store *s, const char *name, struct err *e) {
    _cleanup_buf_ struct buf full = BUF_SMALL;
    int r = full_name(name, &full, e);
    if (r < 0)
        return r;
    r = rec_del(s, "image", buf_str(&full));
    return r == -ENOENT ? err_set(e, ERR_NOTFOUND, r, "no such image: %s", name)
           : r < 0      ? err_errno(e, r, "untag %s", name)
                        : 0;
}

struct refs {
    const char *id;
    struct strv names;
};

static int refs_of(const char *ref, const char *id, struct sv json, void *arg) {
    struct refs *x = arg;
    if (streq(id, x->id))
        strv_add(&x->names, ref);
    return 0;
}

static void say(struct strv *said, const char *what, const char *name) {
    if (said)
        strv_addf(said, "%s: %s", what, name);
}

int image_remove(struct store *s, const char *name, bool force, struct strv *said, struct err *e) {
    char id[DIGEST_LEN + 1];
    _cleanup_buf_ struct buf full = BUF_SMALL;
    struct refs x = {.id = id};
    int r = by_ref(s, name, id, &full);
    bool named = r == 1;
    if (r == 0)
        r = by_id(s, name, id, e);
    if (r < 0)
        return err_wrap(e, r, "%s", name);
    if (r == 0)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "no such image: %s", name);
    r = image_each(s, refs_of, &x);
    if (r == 0 && !named && x.names.n > 1 && !force) {
        r = err_set(e, ERR_CONFLICT, -EBUSY, "%s has %zu names", name, x.names.n);
        err_hint(e, r, "name one of them, or use --force");
    }
    bool last = !named || x.names.n <= 1;
    for (size_t i = 0; i < x.names.n && r == 0; i++) {
        if (named && !streq(x.names.v[i], buf_str(&full)))
            continue;
        r = rec_del(s, "image", x.names.v[i]);
        if (r == 0)
            say(said, "Untagged", x.names.v[i]);
    }
    if (r == 0 && last) {
        r = rec_del(s, "img", id);
        if (r == 0)
            say(said, "Deleted", id);
    }
    strv_done(&x.names);
    return r < 0 && e && !e->msg[0] ? err_errno(e, r, "remove %s", name) : r;
}

/* --- what is reachable -------------------------------------------------------------------------
 */

struct marker {
    struct store *s;
    void (*mark)(void *m, const char *what);
    void *m;
    struct strv named;
};

struct marking {
    struct store *s;
    void (*mark)(void *m, const char *what);
    void *m;
    struct map seen; /* an index that names another one a thousand times costs one reading of it */
};

static void mark_manifest(struct marking *k, const char *digest, unsigned depth) {
    _cleanup_buf_ struct buf b = BUF_MAX(8u << 20);
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    if (map_gets(&k->seen, digest))
        return;
    map_sets(&k->seen, digest, k);
    k->mark(k->m, digest);
    if (blob_read(k->s, digest, &b, NULL) < 0 || json_parse(&a, buf_sv(&b), &j, NULL) < 0)
        return;
    const char *config = json_str(json_path(j, "config.digest"), NULL);
    if (config)
        k->mark(k->m, config);
    const struct json *lists[2] = {json_get(j, "layers"), json_get(j, "manifests")};
    for (size_t l = 0; l < 2; l++)
        for (size_t i = 0; lists[l] && i < lists[l]->n; i++) {
            const char *d = json_get_str(lists[l]->items[i], "digest", NULL);
            if (d && l == 0)
                k->mark(k->m, d);
            else if (d && depth < 16)
                mark_manifest(k, d, depth + 1);
        }
}

void image_mark_manifest(struct store *s, const char *digest,
                         void (*mark)(void *m, const char *what), void *m) {
    struct marking k = {s, mark, m, {0}};
    mark_manifest(&k, digest, 0);
    map_done(&k.seen);
}

static int collect_name(const char *ref, const char *id, struct sv json, void *arg) {
    struct marker *x = arg;
    strv_add(&x->named, id);
    return 0;
}

/* What a layer was unpacked from, and what was compressed for an export. */
static void mark_exports(struct marker *x, const char *diff_id) {
    static const char *const kinds[] = {"pulled", "gzip", "zstd"};
    for (size_t i = 0; i < ELEMENTS(kinds); i++) {
        _cleanup_arena_ struct arena a = {0};
        _cleanup_free_ char *key = xasprintf("%s:%s", diff_id, kinds[i]);
        struct json *j;
        if (record(x->s, "layerblob", key, &a, &j) == 1)
            x->mark(x->m, json_get_str(j, "digest", ""));
    }
}

static int mark_image(const char *ref, const char *id, struct sv text, void *arg) {
    struct marker *x = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    if (json_parse(&a, text, &j, NULL) < 0)
        return -EUCLEAN;
    if (!strv_contains(&x->named, id) &&
        (uint64_t)json_get_int(j, "made", 0) + DANGLING_NS < now_real())
        return 0;
    x->mark(x->m, id);
    const char *manifest = json_get_str(j, "manifest", NULL);
    if (manifest)
        image_mark_manifest(x->s, manifest, x->mark, x->m);
    const struct json *layers = json_get(j, "layers");
    for (size_t i = 0; layers && i < layers->n; i++) {
        struct snap_info info;
        const char *snap = json_str(layers->items[i], "");
        x->mark(x->m, snap);
        if (snap_get(x->s, snap, &info) == 1 && info.diff_id[0])
            mark_exports(x, info.diff_id);
    }
    return 0;
}

int image_reach(struct store *s, void (*mark)(void *m, const char *what), void *m, void *arg) {
    struct marker x = {.s = s, .mark = mark, .m = m};
    int r = image_each(s, collect_name, &x);
    if (r == 0)
        r = image_each_id(s, mark_image, &x);
    strv_done(&x.named);
    return r;
}

static int forget_one(const char *ref, const char *id, struct sv json, void *arg) {
    struct store *s = arg;
    int fd = blob_open(s, id, NULL, NULL);
    if (fd == -ENOENT)
        (void)rec_del(s, "img", id);
    fd_close(fd);
    return 0;
}

void image_forget_gone(struct store *s) {
    (void)image_each_id(s, forget_one, s);
}
