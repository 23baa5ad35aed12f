/* Layers from outside the user namespace: helpers do the work (layer_ns.c, layer_tar.c), this
 * side has the records. */
#include "image/layer.h"
#include "core/fs.h"

#include <signal.h>

static const char *const codec_names[] = {"none", "gzip", "zstd"};

int layer_blob_get(struct store *s, struct lease *l, const char *diff_id, const char *kind,
                   struct layer_blob *ret) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf b = BUF_SMALL;
    _cleanup_free_ char *key = xasprintf("%s:%s", diff_id, kind);
    struct layer_blob out = {.codec = CODEC_NONE};
    struct json *j;
    int r = rec_get(s, "layerblob", key, &b);
    if (r <= 0)
        return r;
    r = json_parse(&a, buf_sv(&b), &j, NULL);
    if (r < 0)
        return r;
    const char *digest = json_get_str(j, "digest", ""), *codec = json_get_str(j, "codec", kind);
    if (!digest_valid(sv_from(digest)))
        return 0;
    if (l && (r = lease_use(l, digest)) < 0)
        return r;
    if (!blob_has(s, digest))
        return 0;
    memcpy(out.digest, digest, sizeof out.digest);
    out.size = (uint64_t)json_get_int(j, "size", 0);
    for (size_t i = 0; i < ELEMENTS(codec_names); i++)
        if (streq(codec, codec_names[i]))
            out.codec = (enum codec)i;
    *ret = out;
    return 1;
}

int layer_blob_put(struct store *s, const char *diff_id, const char *kind,
                   const struct layer_blob *b, struct err *e) {
    _cleanup_buf_ struct buf text = BUF_SMALL;
    _cleanup_free_ char *key = xasprintf("%s:%s", diff_id, kind);
    struct json_w w;
    jw_init(&w, &text, 0);
    jw_obj(&w);
    jw_kstr(&w, "digest", b->digest);
    jw_kint(&w, "size", (int64_t)b->size);
    jw_kstr(&w, "codec", codec_names[b->codec]);
    jw_end_obj(&w);
    return rec_put(s, "layerblob", key, buf_sv(&text), e);
}

struct watch {
    int fd;
    const char *id;
    uint64_t total;
    const struct image_progress *p;
};

/* The helper reads through the same open file, so its place is known here. */
static int tick(void *arg) {
    struct watch *w = arg;
    off_t at = lseek(w->fd, 0, SEEK_CUR);
    if (w->p && w->p->fn && at >= 0)
        w->p->fn(w->p->arg, w->id, "unpacking", (uint64_t)at, w->total);
    return 0;
}

static int run_unpack(struct store *s, int blob, int fs, struct watch *w, struct snap_info *info,
                      struct err *e) {
    struct keeper *k;
    _cleanup_buf_ struct buf out = BUF_SMALL;
    unsigned long long size, files, devices;
    char digest[80];
    int r = store_keeper(s, &k, e);
    if (r < 0)
        return r;
    const char *const argv[] = {"layer-unpack", keeper_idmap(k)->single ? "single" : "all", NULL};
    r = ns_run_tick(k, argv, (int[]){blob, fs}, 2, &out, tick, w, e);
    if (r < 0)
        return r;
    if (sscanf(buf_str(&out), "%79s %llu %llu %llu", digest, &size, &files, &devices) != 4 ||
        !digest_valid(sv_from(digest)))
        return err_set(e, ERR_INTERNAL, -EIO, "layer-unpack said \"%.100s\"", buf_str(&out));
    memcpy(info->diff_id, digest, DIGEST_LEN + 1);
    info->size = size;
    info->files = files;
    return 0;
}

/* A layer's tar cannot always be made again byte for byte from its files, so what it came from is
 * remembered: a push of an image built on it sends that. */
static int remember_blob(struct store *s, int fd, const char *blob, const char *diff_id,
                         uint64_t size, struct err *e) {
    struct layer_blob b = {.size = size, .codec = CODEC_NONE};
    uint8_t magic[4] = {0};
    if (pread(fd, magic, sizeof magic, 0) < 0)
        return err_errno(e, -errno, "read blob %s", blob);
    if (magic[0] == 0x1f && magic[1] == 0x8b)
        b.codec = CODEC_GZIP;
    else if (memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0)
        b.codec = CODEC_ZSTD;
    snprintf(b.digest, sizeof b.digest, "%s", blob);
    return layer_blob_put(s, diff_id, "pulled", &b, e);
}

static int unpack_new(struct store *s, struct lease *l, const char *blob, const char *diff_id,
                      struct snap_info *ret, const struct image_progress *p, struct err *e) {
    struct snap_info info = {0};
    struct watch w = {.id = diff_id, .p = p};
    char id[33];
    _cleanup_close_ int in = blob_open(s, blob, &w.total, e);
    if (in < 0)
        return in;
    w.fd = in;
    int r = snap_begin(s, l, id, NULL, e);
    if (r < 0)
        return r;
    _cleanup_close_ int fs = snap_open(s, id);
    r = fs < 0 ? err_errno(e, fs, "open a snapshot") : run_unpack(s, in, fs, &w, &info, e);
    if (r == 0 && !streq(info.diff_id, diff_id))
        r = err_set(e, ERR_NET, -EBADMSG, "unpacked, the layer is %s, not %s as its image says",
                    info.diff_id, diff_id);
    if (r == 0)
        r = remember_blob(s, in, blob, diff_id, w.total, e);
    if (r == 0) {
        snprintf(info.key, sizeof info.key, "%s", diff_id);
        r = snap_commit(s, l, id, &info, ret, e);
    }
    if (r < 0)
        snap_abort(s, id);
    else if (p && p->fn)
        p->fn(p->arg, diff_id, "unpacking", w.total, w.total);
    return r;
}

int layer_unpack(struct store *s, struct lease *l, const char *blob, const char *diff_id,
                 struct snap_info *ret, const struct image_progress *p, struct err *e) {
    if (!digest_valid(sv_from(diff_id)))
        return err_set(e, ERR_NET, -EINVAL, "not a diff id: %.80s", diff_id);
    int r = snap_find(s, l, diff_id, ret);
    if (r == 0) {
        /* One process unpacks, others wait for it. */
        _cleanup_free_ char *key = xasprintf("layer:%s", diff_id);
        _cleanup_close_ int lock = store_key_lock(s, key);
        if (lock < 0)
            return err_errno(e, lock, "lock layer %s", diff_id);
        r = snap_find(s, l, diff_id, ret);
        if (r == 0)
            r = unpack_new(s, l, blob, diff_id, ret, p, e);
        else if (r < 0)
            err_errno(e, r, "look for layer %s", diff_id);
    } else if (r < 0) {
        err_errno(e, r, "look for layer %s", diff_id);
    }
    return r < 0 ? err_wrap(e, r, "layer %.19s", diff_id) : 0;
}

/* A build with SOURCE_DATE_EPOCH: no time in the layer is later. */
static void clamp_text(struct store *s, const char *snap_id, char out[24]) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    uint64_t v;
    bool set = rec_get(s, "snap-clamp", snap_id, &b) == 1 && sv_u64(buf_sv(&b), INT64_MAX, &v) == 0;
    if (set)
        snprintf(out, 24, "%llu", (unsigned long long)v);
    else
        snprintf(out, 24, "-1");
}

int layer_tar(struct store *s, const char *snap_id, int64_t clamp_mtime, int out_fd,
              struct err *e) {
    struct keeper *k;
    char clamp[24];
    int r = store_keeper(s, &k, e);
    if (r < 0)
        return r;
    _cleanup_close_ int fs = snap_open(s, snap_id);
    if (fs < 0)
        return err_errno(e, fs, "open layer %s", snap_id);
    if (clamp_mtime < 0)
        clamp_text(s, snap_id, clamp);
    else
        snprintf(clamp, sizeof clamp, "%lld", (long long)clamp_mtime);
    const char *const argv[] = {"layer-tar", clamp, NULL};
    return ns_run(k, argv, (int[]){fs, out_fd}, 2, NULL, e);
}

int layer_tar_of(struct store *s, int fs_dirfd, int out_fd, struct err *e) {
    struct keeper *k;
    static const char *const argv[] = {"layer-tar", "-1", NULL};
    int r = store_keeper(s, &k, e);
    return r < 0 ? r : ns_run(k, argv, (int[]){fs_dirfd, out_fd}, 2, NULL, e);
}

int layer_stream(struct store *s, const char *snap_id, sink_fn sink, void *arg, struct err *e) {
    char clamp[24];
    const char *const argv[] = {"layer-tar", clamp, NULL};
    clamp_text(s, snap_id, clamp);
    struct keeper *k;
    int data[2], errs[2];
    pid_t pid;
    int r = store_keeper(s, &k, e);
    if (r < 0)
        return r;
    _cleanup_close_ int fs = snap_open(s, snap_id);
    if (fs < 0)
        return err_errno(e, fs, "open layer %s", snap_id);
    if (pipe2(data, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    if (pipe2(errs, O_CLOEXEC) < 0) {
        r = -errno;
        close(data[0]);
        close(data[1]);
        return err_errno(e, r, "pipe");
    }
    (void)fcntl(data[1], F_SETPIPE_SZ, 1 << 20);
    r = ns_spawn(k, argv, -1, -1, errs[1], (int[]){fs, data[1]}, 2, &pid, e);
    close(data[1]);
    close(errs[1]);
    if (r < 0) {
        close(data[0]);
        close(errs[0]);
        return r;
    }
    size_t size = 256u << 10;
    _cleanup_free_ char *chunk = xmalloc(size);
    ssize_t n;
    while (r == 0 && (n = read(data[0], chunk, size)) != 0) {
        if (n < 0 && errno != EINTR)
            r = err_errno(e, -errno, "read layer %s", snap_id);
        else if (n > 0 && (r = sink(arg, chunk, (size_t)n)) < 0)
            err_errno(e, r, "layer %s", snap_id);
    }
    if (r < 0)
        kill(pid, SIGKILL);
    close(data[0]);
    /* An end of the stream is only believed when the helper ended well. */
    int k2 = ns_wait(pid, argv[0], errs[0], r < 0 ? NULL : e);
    return r < 0 ? r : k2;
}

struct hashing {
    struct sha256 *h;
    uint64_t n;
};

static int hash_sink(void *arg, const void *p, size_t n) {
    struct hashing *x = arg;
    sha256_update(x->h, p, n);
    x->n += n;
    return 0;
}

int layer_diff_id(struct store *s, const char *snap_id, char diff_id[DIGEST_LEN + 1],
                  uint64_t *ret_size, struct err *e) {
    struct snap_info info;
    int r = snap_get(s, snap_id, &info);
    if (r <= 0)
        return r < 0 ? err_errno(e, r, "look for layer %s", snap_id)
                     : err_set(e, ERR_NOTFOUND, -ENOENT, "no layer %s", snap_id);
    if (!info.diff_id[0]) {
        struct hashing x = {.h = sha256_new()};
        uint8_t raw[32];
        r = layer_stream(s, snap_id, hash_sink, &x, e);
        sha256_final(x.h, raw);
        sha256_free(x.h);
        if (r < 0)
            return r;
        digest_format(raw, info.diff_id);
        info.size = x.n;
        r = snap_set_diff_id(s, snap_id, info.diff_id, x.n, e);
        if (r < 0)
            return r;
    }
    memcpy(diff_id, info.diff_id, DIGEST_LEN + 1);
    if (ret_size)
        *ret_size = info.size;
    return 0;
}

struct checking {
    struct sha256 *h;
    sink_fn sink;
    void *arg;
};

static int check_sink(void *arg, const void *p, size_t n) {
    struct checking *x = arg;
    sha256_update(x->h, p, n);
    return x->sink(x->arg, p, n);
}

static int from_blob(struct store *s, const char *blob, struct checking *x, struct err *e) {
    struct decoder *d;
    size_t size = 256u << 10;
    _cleanup_close_ int fd = blob_open(s, blob, NULL, e);
    int r = fd < 0 ? fd : decoder_new(&d, fd, 0, e);
    if (r < 0)
        return r;
    _cleanup_free_ char *chunk = xmalloc(size);
    ssize_t n;
    while ((n = decoder_read(d, chunk, size)) > 0 && (r = check_sink(x, chunk, (size_t)n)) == 0)
        ;
    decoder_free(d);
    if (r == 0 && n < 0)
        r = (int)n;
    return r < 0 ? err_errno(e, r, "read blob %s", blob) : 0;
}

int layer_content(struct store *s, const char *snap_id, sink_fn sink, void *arg, struct err *e) {
    struct checking x = {.sink = sink, .arg = arg};
    struct layer_blob b;
    char diff_id[DIGEST_LEN + 1], found[DIGEST_LEN + 1];
    uint8_t raw[32];
    int r = layer_diff_id(s, snap_id, diff_id, NULL, e);
    if (r < 0)
        return r;
    x.h = sha256_new();
    r = layer_blob_get(s, NULL, diff_id, "pulled", &b);
    if (r < 0)
        err_errno(e, r, "look for the blob of layer %s", diff_id);
    else
        r = r == 1 ? from_blob(s, b.digest, &x, e) : layer_stream(s, snap_id, check_sink, &x, e);
    sha256_final(x.h, raw);
    sha256_free(x.h);
    digest_format(raw, found);
    if (r == 0 && !streq(found, diff_id)) {
        r = err_set(e, ERR_INTERNAL, -EBADMSG, "layer %s comes out as %s", diff_id, found);
        err_hint(e, r, "pull the image that it came from again");
    }
    return r;
}
