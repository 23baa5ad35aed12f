/* Archives: `save` writes one that is an OCI layout and, unless asked for that alone, a
 * docker-archive too (manifest.json, layers uncompressed, as docker's own since version 25).
 * `load` reads both, and docker's older form (HEX.json, HEX/layer.tar, links between them), from a
 * pipe: every file becomes a blob at once, what the archive means is looked at when it has been
 * read. Compressed archives are read too. Sources: OCI image-spec v1.1 image-layout.md, Docker
 * image spec v1.2. */
#include "core/fs.h"
#include "core/map.h"
#include "image/export.h"
#include "image/layer.h"
#include "image/manifest.h"
#include "base/tar.h"

#define MAX_FILES 100000u

/* --- saving ------------------------------------------------------------------------------------
 */

struct save {
    struct store *s;
    struct lease *l;
    int fd;
    bool oci;
    struct tar_writer *w;
    struct map written; /* paths */
    struct json_w index, docker;
    struct buf index_text, docker_text;
    struct err *e;
};

static int out(void *arg, const void *p, size_t n) {
    return fd_write_all(*(int *)arg, p, n);
}

static int entry(struct save *v, const char *path, uint64_t size) {
    struct tar_entry en = {.type = TAR_FILE, .path = path, .link = "", .mode = 0644, .size = size};
    int r = tar_put(v->w, &en);
    return r < 0 ? err_errno(v->e, r, "write the archive") : 0;
}

static int put_text(struct save *v, const char *path, struct sv text) {
    int r = entry(v, path, text.n);
    if (r == 0 && (r = tar_put_data(v->w, text.p, text.n)) < 0)
        err_errno(v->e, r, "write the archive");
    return r;
}

/* True once per path. */
static bool first(struct save *v, const char *path) {
    return !map_sets(&v->written, path, v);
}

static int put_blob(struct save *v, const char *digest) {
    uint64_t size;
    _cleanup_free_ char *path = xasprintf("blobs/sha256/%s", digest_hex(digest));
    if (!first(v, path))
        return 0;
    _cleanup_close_ int fd = blob_open(v->s, digest, &size, v->e);
    int r = fd < 0 ? fd : entry(v, path, size);
    if (r == 0 && (r = tar_put_fd(v->w, fd, size)) < 0)
        err_errno(v->e, r, "write the archive");
    return r;
}

static int put_data(void *arg, const void *p, size_t n) {
    struct save *v = arg;
    return tar_put_data(v->w, p, n);
}

/* A layer, uncompressed, under its diff id. */
static int put_layer(struct save *v, const char *snap, struct export_layer *ret) {
    int r = layer_diff_id(v->s, snap, ret->digest, &ret->size, v->e);
    if (r < 0)
        return r;
    ret->codec = CODEC_NONE;
    _cleanup_free_ char *path = xasprintf("blobs/sha256/%s", digest_hex(ret->digest));
    if (!first(v, path))
        return 0;
    r = entry(v, path, ret->size);
    return r < 0 ? r : layer_content(v->s, snap, put_data, v, v->e);
}

static void index_entry(struct save *v, const char *digest, uint64_t size, const char *ref) {
    struct json_w *w = &v->index;
    jw_obj(w);
    jw_kstr(w, "mediaType", MEDIA_OCI_MANIFEST);
    jw_kstr(w, "digest", digest);
    jw_kint(w, "size", (int64_t)size);
    if (ref) {
        struct image_ref r;
        jw_key(w, "annotations");
        jw_obj(w);
        jw_kstr(w, "io.containerd.image.name", ref);
        if (ref_parse(ref, &r, NULL) == 0 && r.tag[0])
            jw_kstr(w, "org.opencontainers.image.ref.name", r.tag);
        jw_end_obj(w);
    }
    jw_end_obj(w);
}

static void docker_entry(struct save *v, const struct image *i, const struct export_layer *layers) {
    struct json_w *w = &v->docker;
    jw_obj(w);
    _cleanup_free_ char *config = xasprintf("blobs/sha256/%s", digest_hex(i->id));
    jw_kstr(w, "Config", config);
    jw_key(w, "RepoTags");
    jw_arr(w);
    struct image_ref ref;
    if (i->name && ref_parse(i->name, &ref, NULL) == 0 && ref.tag[0]) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        ref.digest[0] = 0;
        ref_familiar(&ref, &b);
        jw_str(w, buf_str(&b));
    }
    jw_end_arr(w);
    jw_key(w, "Layers");
    jw_arr(w);
    for (size_t k = 0; k < i->layers.n; k++) {
        _cleanup_free_ char *path = xasprintf("blobs/sha256/%s", digest_hex(layers[k].digest));
        jw_str(w, path);
    }
    jw_end_arr(w);
    jw_end_obj(w);
}

static int save_oci(struct save *v, const struct image *i) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX);
    char digest[DIGEST_LEN + 1];
    struct manifest m;
    int r = image_export(v->s, v->l, i->id, false, NULL, digest, &text, NULL, v->e);
    if (r == 0)
        r = manifest_parse(&a, buf_sv(&text), &m, v->e);
    if (r == 0)
        r = put_blob(v, m.config.digest);
    for (size_t k = 0; r == 0 && k < m.n; k++)
        r = put_blob(v, m.entries[k].digest);
    if (r == 0)
        r = put_blob(v, digest);
    if (r == 0)
        index_entry(v, digest, text.n, i->name);
    return r;
}

static int save_docker(struct save *v, const struct image *i) {
    _cleanup_free_ struct export_layer *layers = xcalloc(i->layers.n + 1, sizeof *layers);
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX);
    char digest[DIGEST_LEN + 1];
    uint64_t config;
    int r = put_blob(v, i->id), fd = blob_open(v->s, i->id, &config, v->e);
    if (fd < 0)
        return fd;
    close(fd);
    for (size_t k = 0; r == 0 && k < i->layers.n; k++)
        r = put_layer(v, i->layers.v[k], &layers[k]);
    if (r < 0)
        return r;
    export_manifest(i, layers, config, &text);
    if (!buf_ok(&text))
        return err_set(v->e, ERR_LIMIT, -EFBIG, "the manifest is too large");
    digest_of(text.p, text.n, digest);
    _cleanup_free_ char *path = xasprintf("blobs/sha256/%s", digest_hex(digest));
    if (first(v, path))
        r = put_text(v, path, buf_sv(&text));
    index_entry(v, digest, text.n, i->name);
    docker_entry(v, i, layers);
    return r;
}

static int save_all(struct save *v, const char *const *refs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        _cleanup_image_ struct image *im = NULL;
        int r = image_find(v->s, v->l, refs[i], &im, v->e);
        if (r == 0)
            r = err_set(v->e, ERR_NOTFOUND, -ENOENT, "no such image: %s", refs[i]);
        if (r > 0)
            r = v->oci ? save_oci(v, im) : save_docker(v, im);
        if (r < 0)
            return err_wrap(v->e, r, "save %s", refs[i]);
    }
    jw_end_arr(&v->index);
    jw_end_obj(&v->index);
    jw_end_arr(&v->docker);
    int r = put_text(v, "index.json", buf_sv(&v->index_text));
    if (r == 0 && !v->oci)
        r = put_text(v, "manifest.json", buf_sv(&v->docker_text));
    if (r == 0)
        r = put_text(v, "oci-layout", SV("{\"imageLayoutVersion\":\"1.0.0\"}"));
    if (r == 0 && (r = tar_end(v->w)) < 0)
        err_errno(v->e, r, "write the archive");
    return r;
}

int image_save(struct store *s, struct lease *l, const char *const *refs, size_t n, bool oci,
               int out_fd, struct err *e) {
    struct save v = {.s = s,
                     .l = l,
                     .fd = out_fd,
                     .oci = oci,
                     .e = e,
                     .index_text = BUF_MAX(16u << 20),
                     .docker_text = BUF_MAX(16u << 20)};
    v.w = tar_writer_new(out, &v.fd);
    jw_init(&v.index, &v.index_text, 0);
    jw_obj(&v.index);
    jw_key(&v.index, "schemaVersion");
    jw_int(&v.index, 2);
    jw_kstr(&v.index, "mediaType", MEDIA_OCI_INDEX);
    jw_key(&v.index, "manifests");
    jw_arr(&v.index);
    jw_init(&v.docker, &v.docker_text, 0);
    jw_arr(&v.docker);
    int r = save_all(&v, refs, n);
    tar_writer_free(v.w);
    map_done(&v.written);
    buf_done(&v.index_text);
    buf_done(&v.docker_text);
    return r;
}

/* --- loading -----------------------------------------------------------------------------------
 */

struct file {
    char digest[DIGEST_LEN + 1];
    char *link; /* cleaned path, instead of a digest */
};
struct loading {
    struct store *s;
    struct lease *l;
    struct map files; /* cleaned path -> struct file */
    struct strv *names;
    struct err *e;
};

static void file_free(void *p) {
    struct file *f = p;
    free(f->link);
    free(f);
}

static const char *file_digest(const struct loading *v, const char *path) {
    _cleanup_free_ char *clean = path_clean(path);
    const struct file *f = map_gets(&v->files, clean);
    for (int i = 0; f && f->link && i < 8; i++)
        f = map_gets(&v->files, f->link);
    return f && !f->link ? f->digest : NULL;
}

static int take_file(struct loading *v, struct tar_reader *t, const char *path, struct file *f) {
    static const size_t size = 256u << 10;
    struct blob_writer *w;
    const char *hex = startswith(path, "blobs/sha256/");
    char expect[DIGEST_LEN + 1] = "";
    ssize_t k;
    int r = blob_begin(v->s, &w, v->e);
    if (r < 0)
        return r;
    _cleanup_free_ char *chunk = xmalloc(size);
    while ((k = tar_data(t, chunk, size)) > 0)
        (void)blob_write(w, chunk, (size_t)k); /* the commit tells */
    if (k < 0) {
        blob_abort(w);
        return err_set(v->e, ERR_USER, (int)k, "the archive is damaged at %.200s", path);
    }
    if (hex) {
        snprintf(expect, sizeof expect, "sha256:%s", hex);
        if (!digest_valid(sv_from(expect))) {
            blob_abort(w);
            return err_set(v->e, ERR_USER, -EINVAL, "the archive has a blob named %.100s", hex);
        }
    }
    r = blob_commit(w, hex ? expect : NULL, f->digest, v->e);
    if (r == 0 && (r = lease_use(v->l, f->digest)) < 0)
        err_errno(v->e, r, "lease a blob");
    return r < 0 ? err_wrap(v->e, r, "%.200s", path) : 0;
}

static ssize_t decode(void *arg, void *p, size_t n) {
    return decoder_read(arg, p, n);
}

static int read_archive(struct loading *v, int fd) {
    struct decoder *d;
    const struct tar_entry *en;
    int r = decoder_new(&d, fd, 0, v->e);
    if (r < 0)
        return r;
    struct tar_reader *t = tar_reader_new(decode, d);
    while ((r = tar_next(t, &en, v->e)) == 1) {
        if (en->type != TAR_FILE && en->type != TAR_SYMLINK && en->type != TAR_HARDLINK)
            continue;
        if (v->files.n >= MAX_FILES) {
            r = err_set(v->e, ERR_LIMIT, -EFBIG, "the archive has more than %u files", MAX_FILES);
            break;
        }
        struct file *f = xcalloc(1, sizeof *f);
        _cleanup_free_ char *path = path_clean(en->path);
        if (en->type == TAR_SYMLINK) {
            _cleanup_free_ char *dir = path_dir(path);
            f->link = path_join(dir, en->link);
        } else if (en->type == TAR_HARDLINK) {
            f->link = path_clean(en->link);
        } else if ((r = take_file(v, t, path, f)) < 0) {
            file_free(f);
            break;
        }
        struct file *old = map_sets(&v->files, path, f);
        if (old)
            file_free(old);
    }
    tar_reader_free(t);
    decoder_free(d);
    return r;
}

static int read_json(struct loading *v, const char *path, struct arena *a, struct json **ret) {
    _cleanup_buf_ struct buf b = BUF_MAX(MANIFEST_MAX);
    const char *digest = file_digest(v, path);
    int r = digest ? blob_read(v->s, digest, &b, v->e)
                   : err_set(v->e, ERR_USER, -ENOENT, "the archive has no %.200s", path);
    if (r == 0)
        r = json_parse(a, arena_sv(a, buf_sv(&b)), ret, v->e);
    return r < 0 ? err_wrap(v->e, r, "%.200s", path) : 0;
}

/* Config and layers are blobs by now. */
static int register_image(struct loading *v, const char *config, const char *manifest,
                          const char *const *layers, size_t n) {
    _cleanup_buf_ struct buf text = BUF_MAX(8u << 20);
    _cleanup_strv_ struct strv snaps = {0};
    struct image_config c = {0};
    int r = blob_read(v->s, config, &text, v->e);
    if (r == 0)
        r = image_config_parse(buf_sv(&text), &c, v->e);
    if (r == 0 && c.diff_ids.n != n)
        r = err_set(v->e, ERR_USER, -EINVAL, "the image names %zu layers, the archive %zu",
                    c.diff_ids.n, n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct snap_info info;
        r = layer_unpack(v->s, v->l, layers[i], c.diff_ids.v[i], &info, NULL, v->e);
        if (r == 0)
            strv_add(&snaps, info.id);
    }
    if (r == 0)
        r = image_register(v->s, config, manifest, &snaps, NULL, v->e);
    image_config_done(&c);
    return r;
}

static int name_image(struct loading *v, const char *id, const char *ref) {
    int r = ref ? image_tag(v->s, id, ref, v->e) : 0;
    if (r == 0 && v->names)
        strv_add(v->names, ref ? ref : id);
    return r;
}

static int load_docker(struct loading *v) {
    _cleanup_arena_ struct arena a = {0};
    struct json *list;
    int r = read_json(v, "manifest.json", &a, &list);
    if (r == 0 && (list->kind != JSON_ARRAY || !list->n))
        r = err_set(v->e, ERR_USER, -EINVAL, "manifest.json names no image");
    for (size_t i = 0; r == 0 && i < list->n; i++) {
        const struct json *layers = json_get(list->items[i], "Layers"),
                          *tags = json_get(list->items[i], "RepoTags");
        const char *config = file_digest(v, json_get_str(list->items[i], "Config", ""));
        size_t n = layers ? layers->n : 0;
        const char **digests = ARENA_ARRAY(&a, const char *, n + 1);
        if (!config || n > MANIFEST_LAYERS)
            return err_set(v->e, ERR_USER, -EINVAL,
                           "the archive has no configuration for its image");
        for (size_t k = 0; k < n; k++)
            if (!(digests[k] = file_digest(v, json_str(layers->items[k], ""))))
                return err_set(v->e, ERR_USER, -ENOENT, "the archive lacks the layer %.200s",
                               json_str(layers->items[k], "?"));
        r = register_image(v, config, NULL, digests, n);
        if (r == 0 && (!tags || !tags->n))
            r = name_image(v, config, NULL);
        for (size_t k = 0; r == 0 && tags && k < tags->n; k++)
            r = name_image(v, config, json_str(tags->items[k], NULL));
    }
    return r;
}

/* The manifest for this machine below a descriptor. */
static int pick(struct loading *v, struct arena *a, const char *digest, struct manifest *m,
                char found[DIGEST_LEN + 1]) {
    for (int depth = 0; depth < 4; depth++) {
        struct buf b = BUF_MAX(MANIFEST_MAX);
        int r = blob_read(v->s, digest, &b, v->e);
        if (r == 0)
            r = manifest_parse(a, arena_sv(a, buf_sv(&b)), m, v->e);
        buf_done(&b);
        if (r < 0)
            return r;
        if (m->kind == MANIFEST_IMAGE) {
            snprintf(found, DIGEST_LEN + 1, "%s", digest);
            return manifest_check_image(m, v->e);
        }
        const struct descriptor *d = manifest_pick(m, "linux", platform_arch(), platform_variant());
        if (!d)
            return err_set(v->e, ERR_NOTFOUND, -ENOENT, "the archive has no image for linux/%s",
                           platform_arch());
        digest = d->digest;
    }
    return err_set(v->e, ERR_LIMIT, -ELOOP, "indexes in the archive are nested too deeply");
}

static const char *annotation(const struct descriptor *d, const char *key) {
    return json_str(json_get(d->annotations, key), NULL);
}

static int load_oci(struct loading *v) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf b = BUF_MAX(MANIFEST_MAX);
    struct manifest index;
    const char *at = file_digest(v, "index.json");
    int r = at ? blob_read(v->s, at, &b, v->e)
               : err_set(v->e, ERR_USER, -EINVAL, "neither an OCI layout nor a docker archive");
    if (r == 0)
        r = manifest_parse(&a, buf_sv(&b), &index, v->e);
    if (r == 0 && (index.kind != MANIFEST_INDEX || !index.n))
        r = err_set(v->e, ERR_USER, -EINVAL, "index.json names no image");
    for (size_t i = 0; r == 0 && i < index.n; i++) {
        struct manifest m;
        char digest[DIGEST_LEN + 1];
        r = pick(v, &a, index.entries[i].digest, &m, digest);
        if (r < 0)
            break;
        const char **digests = ARENA_ARRAY(&a, const char *, m.n + 1);
        for (size_t k = 0; k < m.n; k++)
            digests[k] = m.entries[k].digest;
        r = register_image(v, m.config.digest, digest, digests, m.n);
        const char *name = annotation(&index.entries[i], "io.containerd.image.name");
        if (!name) /* a whole reference at times, a bare tag at others */
            name = annotation(&index.entries[i], "org.opencontainers.image.ref.name");
        if (name && !strpbrk(name, ":/"))
            name = NULL;
        if (r == 0)
            r = name_image(v, m.config.digest, name);
    }
    return r;
}

int image_load(struct store *s, struct lease *l, int in_fd, struct strv *ret_names, struct err *e) {
    struct loading v = {
        .s = s, .l = l, .names = ret_names, .e = e, .files = {.free_value = file_free}};
    int r = read_archive(&v, in_fd);
    if (r == 0)
        r = file_digest(&v, "manifest.json") ? load_docker(&v) : load_oci(&v);
    map_done(&v.files);
    return r < 0 ? err_wrap(e, r, "load") : 0;
}
