/* Making an image's blobs. A pulled image has them; a built one's own layers are compressed here,
 * once per layer and codec (records "layerblob"), those of its base are the blobs they were
 * unpacked from. The same bytes each time: the codec works in fixed blocks, the manifest has a
 * fixed form. */
#include "image/export.h"
#include "image/layer.h"
#include "image/manifest.h"

static const char *layer_media(enum codec c) {
    return c == CODEC_GZIP   ? "application/vnd.oci.image.layer.v1.tar+gzip"
           : c == CODEC_ZSTD ? "application/vnd.oci.image.layer.v1.tar+zstd"
                             : "application/vnd.oci.image.layer.v1.tar";
}

void export_manifest(const struct image *i, const struct export_layer *layers, uint64_t config_size,
                     struct buf *b) {
    struct json_w w;
    jw_init(&w, b, 0);
    jw_obj(&w);
    jw_key(&w, "schemaVersion");
    jw_int(&w, 2);
    jw_kstr(&w, "mediaType", MEDIA_OCI_MANIFEST);
    jw_key(&w, "config");
    jw_obj(&w);
    jw_kstr(&w, "mediaType", MEDIA_OCI_CONFIG);
    jw_kstr(&w, "digest", i->id);
    jw_kint(&w, "size", (int64_t)config_size);
    jw_end_obj(&w);
    jw_key(&w, "layers");
    jw_arr(&w);
    for (size_t k = 0; k < i->layers.n; k++) {
        jw_obj(&w);
        jw_kstr(&w, "mediaType", layer_media(layers[k].codec));
        jw_kstr(&w, "digest", layers[k].digest);
        jw_kint(&w, "size", (int64_t)layers[k].size);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
}

/* --- compressing -------------------------------------------------------------------------------
 */

struct packing {
    struct compressor *c;
    struct blob_writer *w;
    const struct image_progress *p;
    const char *diff_id;
    uint64_t done, total, told;
};

static int pack_in(void *arg, const void *p, size_t n) {
    struct packing *x = arg;
    x->done += n;
    if (x->p && x->p->fn && x->done - x->told > (4u << 20)) {
        x->told = x->done;
        x->p->fn(x->p->arg, x->diff_id, "compressing", x->done, MAX(x->total, x->done + 1));
    }
    return compress_write(x->c, p, n);
}

static int pack_out(void *arg, const void *p, size_t n) {
    struct packing *x = arg;
    return blob_write(x->w, p, n);
}

static int pack(struct store *s, const char *snap, const struct snap_info *info, enum codec codec,
                const struct image_progress *p, struct layer_blob *ret, struct err *e) {
    struct packing x = {.p = p, .diff_id = info->diff_id, .total = info->size};
    int r = blob_begin(s, &x.w, e);
    if (r < 0)
        return r;
    r = compress_new(&x.c, codec, codec == CODEC_GZIP ? 1 : 3, 0, pack_out, &x);
    if (r < 0) {
        blob_abort(x.w);
        return err_errno(e, r, "compress");
    }
    r = layer_content(s, snap, pack_in, &x, e);
    if (r == 0 && (r = compress_end(x.c)) < 0)
        err_errno(e, r, "compress layer %s", info->diff_id);
    compress_free(x.c);
    if (r < 0) {
        blob_abort(x.w);
        return r;
    }
    ret->size = blob_written(x.w);
    ret->codec = codec;
    r = blob_commit(x.w, NULL, ret->digest, e);
    if (r == 0 && p && p->fn)
        p->fn(p->arg, info->diff_id, "compressing", x.done, x.done);
    return r;
}

static int ready(struct store *s, struct lease *l, const char *diff_id, const char *kind,
                 struct layer_blob *ret) {
    int r = layer_blob_get(s, l, diff_id, "pulled", ret);
    if (r == 1 && ret->codec != CODEC_NONE)
        return 1;
    return r < 0 ? r : layer_blob_get(s, l, diff_id, kind, ret);
}

static int compressed(struct store *s, struct lease *l, const char *snap, bool zstd,
                      const struct image_progress *p, struct layer_blob *ret, struct err *e) {
    const char *kind = zstd ? "zstd" : "gzip";
    struct snap_info info;
    char diff_id[DIGEST_LEN + 1];
    int r = layer_diff_id(s, snap, diff_id, NULL, e);
    if (r < 0)
        return r;
    r = ready(s, l, diff_id, kind, ret);
    if (r == 0) {
        _cleanup_free_ char *key = xasprintf("pack:%s:%s", diff_id, kind);
        _cleanup_close_ int lock = store_key_lock(s, key);
        if (lock < 0)
            return err_errno(e, lock, "lock layer %s", diff_id);
        r = ready(s, l, diff_id, kind, ret);
        if (r == 0) {
            r = snap_get(s, snap, &info);
            if (r != 1)
                return err_set(e, ERR_NOTFOUND, -ENOENT, "no layer %s", snap);
            r = pack(s, snap, &info, zstd ? CODEC_ZSTD : CODEC_GZIP, p, ret, e);
            if (r == 0 && (r = lease_use(l, ret->digest)) < 0)
                err_errno(e, r, "lease a blob");
            if (r == 0)
                r = layer_blob_put(s, diff_id, kind, ret, e);
            return r;
        }
    }
    return r < 0 ? err_errno(e, r, "look for the blob of layer %s", diff_id) : 0;
}

/* --- the image ---------------------------------------------------------------------------------
 */

/* Of the index that an image was pulled by, its own manifest: 1. */
static int own_of_index(struct store *s, struct lease *l, const struct image *i, struct arena *a, struct manifest *m, struct buf *text) {
    const struct manifest index = *m;
    for (size_t k = 0; k < index.n; k++) {
        buf_reset(text);
        if (lease_use(l, index.entries[k].digest) == 0 && blob_has(s, index.entries[k].digest) && blob_read(s, index.entries[k].digest, text, NULL) == 0 &&
            manifest_parse(a, arena_sv(a, buf_sv(text)), m, NULL) == 0 && m->kind == MANIFEST_IMAGE &&
            streq(m->config.digest, i->id))
            return 1;
    }
    return 0;
}

/* A pulled image whose blobs are all there still: as it was. */
static int as_pulled(struct store *s, struct lease *l, const struct image *i, struct buf *text,
                     uint64_t *total, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct manifest m;
    if (!i->manifest[0] || blob_read(s, i->manifest, text, NULL) < 0)
        return 0;
    int r = manifest_parse(&a, buf_sv(text), &m, e);
    if (r == 0 && m.kind == MANIFEST_INDEX)
        r = own_of_index(s, l, i, &a, &m, text);
    else if (r == 0)
        r = 1;
    if (r <= 0)
        return r;
    *total = text->n + m.config.size;
    for (size_t k = 0; k < m.n; k++) {
        r = lease_use(l, m.entries[k].digest);
        if (r < 0)
            return err_errno(e, r, "lease a blob");
        if (!blob_has(s, m.entries[k].digest))
            return 0;
        *total += m.entries[k].size;
    }
    return 1;
}

static uint64_t blob_size(struct store *s, const char *digest) {
    uint64_t size = 0;
    int fd = blob_open(s, digest, &size, NULL);
    fd_close(fd);
    return size;
}

static int make(struct store *s, struct lease *l, const struct image *i, bool zstd,
                const struct image_progress *p, struct buf *text, uint64_t *total, struct err *e) {
    _cleanup_free_ struct export_layer *layers = xcalloc(i->layers.n + 1, sizeof *layers);
    uint64_t config = blob_size(s, i->id);
    *total = config;
    for (size_t k = 0; k < i->layers.n; k++) {
        struct layer_blob b;
        int r = compressed(s, l, i->layers.v[k], zstd, p, &b, e);
        if (r < 0)
            return r;
        memcpy(layers[k].digest, b.digest, sizeof b.digest);
        layers[k].size = b.size;
        layers[k].codec = b.codec;
        *total += b.size;
    }
    export_manifest(i, layers, config, text);
    *total += text->n;
    return buf_ok(text) ? 0 : err_set(e, ERR_LIMIT, -EFBIG, "the manifest is too large");
}

int image_export(struct store *s, struct lease *l, const char *id, bool zstd,
                 const struct image_progress *p, char manifest[DIGEST_LEN + 1],
                 struct buf *ret_manifest, uint64_t *ret_total, struct err *e) {
    _cleanup_image_ struct image *i = NULL;
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX);
    char digest[DIGEST_LEN + 1];
    uint64_t total = 0;
    int r = image_find(s, l, id, &i, e);
    if (r <= 0)
        return r < 0 ? r : err_set(e, ERR_NOTFOUND, -ENOENT, "no such image: %s", id);
    r = as_pulled(s, l, i, &text, &total, e);
    if (r == 0) {
        buf_reset(&text);
        r = make(s, l, i, zstd, p, &text, &total, e);
    }
    if (r < 0)
        return err_wrap(e, r, "export %s", id);
    digest_of(text.p, text.n, digest);
    r = lease_use(l, digest);
    if (r < 0)
        return err_errno(e, r, "lease a blob");
    r = blob_put(s, buf_sv(&text), digest, e);
    if (r < 0)
        return r;
    memcpy(manifest, digest, sizeof digest);
    if (ret_manifest)
        buf_addsv(ret_manifest, buf_sv(&text));
    if (ret_total)
        *ret_total = total;
    return 0;
}
