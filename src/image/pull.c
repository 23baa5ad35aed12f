/* Getting an image: what is here already, then mirrors, then the registry, then a stand-in.
 *
 * From whichever source: manifest, (of an index the entry for this platform,) configuration, then
 * the layers, each by a worker of its own: downloaded into the store, verified, unpacked into the
 * snapshot of its diff id. A layer whose snapshot is there is not downloaded. Only when everything
 * is there is the image registered and named, so a pull that was killed leaves nothing that counts.
 * One pull of a name at a time (a lock across processes): the second finds what the first made. */
#include "image/layout.h"
#include "image/remote.h"

#include "core/fs.h"
#include "core/loop.h"

#include <pthread.h>

enum { WORKERS = 4, INDEX_DEPTH = 3, CONFIG_MAX = 8 << 20 };

/* Where an image comes from: one of the three is set. */
struct source {
    struct remote *remote;
    struct layout *layout;
    const char *local; /* a manifest that is in the store */
    bool any; /* layout: a stand-in's, whatever its name */
};

struct pull {
    struct store *s;
    struct lease *l;
    const struct pull_options *o;
    const struct image_ref *ref;
    const char *full;
    struct source *src;
    char top[DIGEST_LEN + 1]; /* of the manifest or index that the name led to */
    struct arena a;
    struct manifest m;
    struct image_config config;
    char id[DIGEST_LEN + 1];
    /* layers */
    struct snap_info *snaps;
    pthread_mutex_t lock;
    size_t next;
    int failed;
    struct err err;
};

static const char *or_else(const char *s, const char *dflt) { return s && *s ? s : dflt; }

static int get_manifest(struct pull *p, const char *digest, struct buf *b, char found[DIGEST_LEN + 1], struct err *e) {
    if (p->src->local) {
        memcpy(found, digest ? digest : p->src->local, DIGEST_LEN + 1);
        return blob_read(p->s, found, b, e);
    }
    if (p->src->layout) {
        struct image_ref ref = *p->ref;
        if (digest) {
            memcpy(found, digest, DIGEST_LEN + 1);
            return layout_read(p->src->layout, digest, b, e);
        }
        return layout_manifest(p->src->layout, &ref, p->src->any, b, found, e);
    }
    return remote_manifest(p->src->remote, digest ? digest : p->ref->digest[0] ? p->ref->digest : p->ref->tag, b, found, e);
}

static int copy_blob(struct pull *p, const char *digest, uint64_t size, struct err *e) {
    char block[65536];
    struct blob_writer *w;
    if (blob_has(p->s, digest))
        return 0;
    _cleanup_close_ int fd = layout_blob(p->src->layout, digest, e);
    int r = fd < 0 ? fd : blob_begin(p->s, &w, e);
    if (r < 0)
        return r;
    for (ssize_t n; (n = read(fd, block, sizeof block)) != 0;) {
        if (n < 0 && errno == EINTR)
            continue;
        r = n < 0 ? -errno : blob_write(w, block, (size_t)n);
        if (r < 0) {
            blob_abort(w);
            return err_errno(e, r, "copy %.19s", digest);
        }
        if (p->o->progress && p->o->progress->fn)
            p->o->progress->fn(p->o->progress->arg, digest, "copying", blob_written(w), size);
    }
    return blob_commit(w, digest, NULL, e);
}

static int get_blob(struct pull *p, const struct descriptor *d, struct err *e) {
    int r = lease_use(p->l, d->digest);
    if (r < 0)
        return err_errno(e, r, "lease");
    if (p->src->local)
        return blob_has(p->s, d->digest) ? 0 : err_set(e, ERR_NOTFOUND, -ENOENT, "blob %s is not in the store", d->digest);
    return p->src->layout ? copy_blob(p, d->digest, d->size, e) : remote_blob(p->src->remote, p->s, d->digest, d->size, p->o->progress, e);
}

/* From the name to the manifest of one image, through indexes. */
static int find_manifest(struct pull *p, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(MANIFEST_MAX);
    const char *os = or_else(p->o->os, "linux"), *arch = or_else(p->o->arch, platform_arch());
    const char *variant = p->o->variant ? p->o->variant : p->o->arch ? NULL : platform_variant();
    char digest[DIGEST_LEN + 1];
    const char *want = NULL;
    for (unsigned depth = 0;; depth++) {
        int r = get_manifest(p, want, &b, digest, e);
        if (r < 0)
            return r;
        if (depth == 0)
            memcpy(p->top, digest, sizeof digest);
        r = manifest_parse(&p->a, arena_sv(&p->a, buf_sv(&b)), &p->m, e);
        if (r == 0 && (r = lease_use(p->l, digest)) < 0)
            err_errno(e, r, "lease");
        if (r == 0)
            r = blob_put(p->s, buf_sv(&b), NULL, e);
        if (r < 0)
            return r;
        if (p->m.kind == MANIFEST_IMAGE)
            return manifest_check_image(&p->m, e);
        if (depth == INDEX_DEPTH)
            return err_set(e, ERR_LIMIT, -ELOOP, "indexes within indexes, more than %d deep", INDEX_DEPTH);
        const struct descriptor *d = manifest_pick(&p->m, os, arch, variant);
        if (!d) {
            _cleanup_buf_ struct buf have = BUF_SMALL;
            manifest_platforms(&p->m, &have);
            return err_set(e, ERR_NOTFOUND, -ENOENT, "there is no image for %s/%s%s%s, only for %s", os, arch,
                           variant ? "/" : "", or_else(variant, ""), or_else(buf_str(&have), "nothing"));
        }
        want = d->digest;
    }
}

static int find_config(struct pull *p, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(CONFIG_MAX);
    if (p->m.config.size > CONFIG_MAX)
        return err_set(e, ERR_LIMIT, -EFBIG, "the image's configuration is larger than 8 MiB");
    int r = get_blob(p, &p->m.config, e);
    if (r == 0)
        r = blob_read(p->s, p->m.config.digest, &b, e);
    if (r == 0)
        r = image_config_parse(buf_sv(&b), &p->config, e);
    if (r < 0)
        return r;
    memcpy(p->id, p->m.config.digest, sizeof p->id);
    if (p->config.diff_ids.n != p->m.n)
        return err_set(e, ERR_NET, -EBADMSG, "the image is malformed: %zu layers, but %zu diff ids", p->m.n, p->config.diff_ids.n);
    if (p->o->label && !strv_env_get(&p->config.labels, p->o->label))
        return err_set(e, ERR_NOTFOUND, -ENOENT, "the image has no label %s", p->o->label);
    const char *os = or_else(p->o->os, "linux"), *arch = or_else(p->o->arch, platform_arch());
    if (p->o->any_platform)
        return 0;
    if ((p->config.os && !streq(p->config.os, os)) || (p->config.architecture && !streq(p->config.architecture, arch)))
        return err_set(e, ERR_NOTFOUND, -ENOENT, "the image is for %s/%s, not for %s/%s", or_else(p->config.os, "?"),
                       or_else(p->config.architecture, "?"), os, arch);
    return 0;
}

/* Tells a later export that this blob is the compressed form of the layer. */
static void remember_blob(struct pull *p, const struct descriptor *d, const char *diff_id) {
    unsigned char magic[4] = {0};
    _cleanup_close_ int fd = blob_open(p->s, d->digest, NULL, NULL);
    if (fd < 0 || pread(fd, magic, 4, 0) != 4)
        return;
    const char *codec = magic[0] == 0x1f && magic[1] == 0x8b ? "gzip" : magic[0] == 0x28 && magic[1] == 0xb5 ? "zstd" : NULL;
    if (!codec)
        return;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    _cleanup_free_ char *key = xasprintf("%s:%s", diff_id, codec);
    if (rec_get(p->s, "layerblob", key, NULL) == 1)
        return;
    buf_addf(&b, "{\"digest\":\"%s\",\"size\":%llu}", d->digest, (unsigned long long)d->size);
    rec_put(p->s, "layerblob", key, buf_sv(&b), NULL);
    if (!p->src->remote)
        return;
    struct json_w w; /* where it can be mounted from when it is pushed */
    buf_reset(&b);
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "base", remote_base(p->src->remote));
    jw_kstr(&w, "path", remote_path(p->src->remote));
    jw_end_obj(&w);
    rec_put(p->s, "blobfrom", d->digest, buf_sv(&b), NULL);
}

static int get_layer(struct pull *p, size_t i, struct err *e) {
    const struct descriptor *d = &p->m.entries[i];
    const char *diff_id = p->config.diff_ids.v[i];
    _cleanup_close_ int lock = store_key_lock(p->s, diff_id);
    int r = snap_find(p->s, p->l, diff_id, &p->snaps[i]);
    if (r < 0)
        return err_errno(e, r, "look for layer %.19s", diff_id);
    if (r == 1)
        return 0;
    r = get_blob(p, d, e);
    if (r == 0)
        r = layer_unpack(p->s, p->l, d->digest, diff_id, &p->snaps[i], p->o->progress, e);
    if (r == 0)
        remember_blob(p, d, diff_id);
    return r;
}

/* The first layer with the same content is the one that is fetched. */
static size_t first_of(const struct pull *p, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (streq(p->config.diff_ids.v[k], p->config.diff_ids.v[i]))
            return k;
    return i;
}

static void *layer_worker(void *arg) {
    struct pull *p = arg;
    for (;;) {
        pthread_mutex_lock(&p->lock);
        size_t i = p->next;
        bool stop = p->failed || i >= p->m.n || (p->o->cancel && *p->o->cancel);
        p->next += !stop;
        pthread_mutex_unlock(&p->lock);
        if (stop)
            return NULL;
        if (first_of(p, i) != i)
            continue;
        struct err e = {0};
        int r = get_layer(p, i, &e);
        if (r < 0) {
            pthread_mutex_lock(&p->lock);
            if (!p->failed) {
                p->failed = r;
                p->err = e;
            }
            pthread_mutex_unlock(&p->lock);
        }
    }
}

static int get_layers(struct pull *p, struct strv *ret, struct err *e) {
    pthread_t threads[WORKERS];
    size_t n = 0;
    p->snaps = xcalloc(p->m.n, sizeof *p->snaps);
    struct keeper *k;
    int r = store_keeper(p->s, &k, e); /* before there are threads that want it at once */
    if (r < 0)
        return r;
    while (n + 1 < MIN(p->m.n, (size_t)WORKERS) && pthread_create(&threads[n], NULL, layer_worker, p) == 0)
        n++;
    layer_worker(p);
    for (size_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    if (p->failed) {
        if (e)
            *e = p->err;
        return p->failed;
    }
    if (p->o->cancel && *p->o->cancel)
        return err_set(e, ERR_CANCELLED, -ECANCELED, "cancelled");
    for (size_t i = 0; i < p->m.n; i++)
        strv_add(ret, p->snaps[first_of(p, i)].id);
    return 0;
}

/* Stand-ins carry a label, whichever way they came; what is different about one, or NULL. */
static const char *standin_note(const struct pull *p) {
    const char *mark = strv_env_get(&p->config.labels, "io.slipway.standin");
    if (!mark || !streq(mark, "true"))
        return NULL;
    const char *said = p->src->layout ? layout_difference(p->src->layout, p->top, p->ref) : NULL;
    if (!said)
        said = strv_env_get(&p->config.labels, "io.slipway.standin.difference");
    return said && *said ? said : "made from Debian's packages";
}

/* The whole of one source. */
static int pull_from(struct pull *base, struct source *src, struct err *e) {
    struct pull p = *base;
    _cleanup_strv_ struct strv snaps = {0};
    p.src = src;
    pthread_mutex_init(&p.lock, NULL);
    int r = find_manifest(&p, e);
    if (r == 0)
        r = find_config(&p, e);
    if (r == 0)
        r = get_layers(&p, &snaps, e);
    if (r == 0)
        r = image_register(p.s, p.id, p.top, &snaps, standin_note(&p), e);
    if (r == 0 && p.full)
        r = image_tag(p.s, p.id, p.full, e);
    memcpy(base->id, p.id, sizeof p.id);
    pthread_mutex_destroy(&p.lock);
    image_config_done(&p.config);
    arena_done(&p.a);
    free(p.snaps);
    return r;
}

static int from_remote(struct pull *p, const char *mirror, struct err *e) {
    struct source src = {0};
    struct remote_options ro = {.conf = p->o->conf, .registry = p->ref->registry, .path = p->ref->path, .mirror = mirror,
                                .username = mirror ? NULL : p->o->username, .password = mirror ? NULL : p->o->password,
                                .cancel = p->o->cancel, .hasty = p->o->hasty};
    int r = remote_new(&src.remote, &ro, e);
    if (r < 0)
        return r;
    r = pull_from(p, &src, e);
    remote_free(src.remote);
    return r;
}

static int from_layout(struct pull *p, const char *dir, bool any, struct err *e) {
    struct source src = {.any = any};
    int r = layout_open(&src.layout, dir, e);
    if (r < 0)
        return r;
    r = pull_from(p, &src, e);
    layout_free(src.layout);
    return r;
}

static int from_standin(struct pull *p, struct err *e) {
    _cleanup_free_ char *dir = NULL;
    int r = p->o->standin(p->o->standin_arg, p->full, p->o->progress, p->o->cancel, &dir, e);
    return r == 1 ? from_layout(p, dir, true, e) : r < 0 ? r : -ENOENT;
}

static bool hard(int r) { return r == -ECANCELED || r == -ENOSPC || r == -EROFS || r == -EDQUOT || r == -EMFILE; }

/* Mirrors in the order of the configuration, then the registry, then a stand-in. */
static int fetch(struct pull *p, struct err *e) {
    const struct registry_conf *c = p->o->conf;
    struct err first = {0};
    int r = -ENOENT;
    bool answered = false;
    for (size_t i = 0; c && i < c->n_mirrors; i++) {
        const char *mirror = c->mirrors[i].mirror, *dir = startswith(mirror, "oci:");
        struct err now = {0};
        if (!streq0(c->mirrors[i].registry, p->ref->registry) || (c->offline && !dir))
            continue;
        r = dir ? from_layout(p, dir, false, &now) : from_remote(p, mirror, &now);
        if (r == 0 || hard(r)) {
            if (e)
                *e = now;
            return r;
        }
    }
    if (c && c->offline) {
        err_set(&first, ERR_NOTFOUND, -ENOENT, "not here, and there is no network (--offline)");
    } else {
        r = from_remote(p, NULL, &first);
        answered = !remote_unreachable(&first);
    }
    if (c && c->offline)
        r = -ENOENT;
    if (r < 0 && !answered && !hard(r) && p->o->standin) {
        struct err now = {0};
        int q = from_standin(p, &now);
        if (q == 0)
            return 0;
        if (now.kind != ERR_NONE) /* say both: why it was needed, and why there is none */
            err_hint(&first, r, "no stand-in either: %.400s", now.msg);
    }
    if (r < 0 && e)
        *e = first;
    return r;
}

int image_get(struct store *s, struct lease *l, const char *name, const struct pull_options *o, struct image **ret, struct err *e) {
    struct image_ref ref;
    _cleanup_buf_ struct buf full = BUF_SMALL;
    bool by_id = startswith(name, "sha256:") != NULL;
    int r;
    if (by_id || o->policy == PULL_NEVER) {
        r = image_find(s, l, name, ret, e);
        return r == 1 ? 0 : r < 0 ? r : err_set(e, ERR_NOTFOUND, -ENOENT, "no such image here: %s", name);
    }
    r = ref_parse(name, &ref, e);
    if (r < 0)
        return r;
    if (o->captured && (r = o->captured(o->captured_arg, &ref, ret)) != 0)
        return r == 1 ? 0 : err_errno(e, r, "%s", name);
    if (o->policy == PULL_MISSING && (r = image_find(s, l, name, ret, e)) != 0)
        return r == 1 ? 0 : r;
    ref_format(&ref, &full);
    _cleanup_free_ char *key = xasprintf("pull:%s", buf_str(&full));
    _cleanup_close_ int lock = store_key_lock(s, key);
    if (lock < 0)
        return err_errno(e, lock, "lock of %s", name);
    if (o->policy == PULL_MISSING && (r = image_find(s, l, name, ret, e)) != 0)
        return r == 1 ? 0 : r;
    struct pull p = {.s = s, .l = l, .o = o, .ref = &ref, .full = buf_str(&full)};
    r = fetch(&p, e);
    if (r < 0)
        return err_wrap(e, r, "pull %s", name);
    r = image_find(s, l, buf_str(&full), ret, e);
    return r == 1 ? 0 : r < 0 ? r : err_set(e, ERR_INTERNAL, -ENOENT, "%s is not there after its pull", name);
}

int image_from_store(struct store *s, struct lease *l, const struct image_ref *ref, const char *manifest, struct image **ret, struct err *e) {
    struct pull_options o = {0};
    struct source src = {.local = manifest};
    struct pull p = {.s = s, .l = l, .o = &o, .ref = ref};
    int r = pull_from(&p, &src, e);
    return r < 0 ? r : image_find(s, l, p.id, ret, e);
}
