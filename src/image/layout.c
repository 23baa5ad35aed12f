#include "image/layout.h"

#include "core/fs.h"

struct layout {
    int fd;
    char *dir;
    struct buf text;
    struct arena a;
    struct manifest index;
};

void layout_free(struct layout *l) {
    if (!l)
        return;
    fd_close(l->fd);
    free(l->dir);
    buf_done(&l->text);
    arena_done(&l->a);
    free(l);
}

static int read_in(struct layout *l, const char *path, struct buf *ret) {
    _cleanup_close_ int fd = fs_open_in(l->fd, path, O_RDONLY | O_CLOEXEC, 0, 0);
    return fd < 0 ? fd : fs_read_fd(fd, ret);
}

int layout_open(struct layout **ret, const char *dir, struct err *e) {
    struct layout *l = xcalloc(1, sizeof *l);
    l->text.max = MANIFEST_MAX;
    l->dir = xstrdup(dir);
    l->fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = l->fd < 0 ? -errno : read_in(l, "index.json", &l->text);
    if (r < 0)
        err_set(e, r == -ENOENT || r == -ENOTDIR ? ERR_NOTFOUND : ERR_ENV, r, "%s is not an OCI layout: %s", dir, strerror(-r));
    if (r >= 0) {
        r = manifest_parse(&l->a, buf_sv(&l->text), &l->index, e);
        if (r == 0 && l->index.kind != MANIFEST_INDEX)
            r = err_set(e, ERR_USER, -EBADMSG, "index.json is not an index");
        if (r < 0)
            err_wrap(e, r, "%s", dir);
    }
    if (r < 0) {
        layout_free(l);
        return r;
    }
    *ret = l;
    return 0;
}

static bool named(const struct descriptor *d, const struct image_ref *ref) {
    const char *name = json_get_str(d->annotations, "org.opencontainers.image.ref.name", NULL);
    const char *full = json_get_str(d->annotations, "io.containerd.image.name", NULL);
    _cleanup_buf_ struct buf want = BUF_SMALL, familiar = BUF_SMALL;
    struct image_ref bare = *ref;
    bare.digest[0] = 0;
    ref_format(&bare, &want);
    ref_familiar(&bare, &familiar);
    return (full && streq(full, buf_str(&want))) ||
           (name && (streq(name, buf_str(&want)) || streq(name, buf_str(&familiar))));
}

static const struct descriptor *find(const struct layout *l, const struct image_ref *ref, bool any) {
    const struct descriptor *list = l->index.entries;
    for (size_t i = 0; i < l->index.n; i++)
        if (ref->digest[0] ? streq(list[i].digest, ref->digest) : named(&list[i], ref))
            return &list[i];
    if (any && l->index.n == 1)
        return &list[0];
    for (size_t i = 0; any && i < l->index.n; i++) {
        const char *name = json_get_str(list[i].annotations, "org.opencontainers.image.ref.name", NULL);
        if (name && streq(name, ref->tag))
            return &list[i];
    }
    return NULL;
}

int layout_manifest(struct layout *l, const struct image_ref *ref, bool any, struct buf *ret, char digest[DIGEST_LEN + 1], struct err *e) {
    const struct descriptor *d = find(l, ref, any);
    if (!d)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "no such image in the layout %s", l->dir);
    int r = layout_read(l, d->digest, ret, e);
    if (r == 0)
        memcpy(digest, d->digest, DIGEST_LEN + 1);
    return r;
}

const char *layout_difference(const struct layout *l, const char *digest, const struct image_ref *ref) {
    const char *any = NULL;
    for (size_t i = 0; i < l->index.n; i++) {
        const struct descriptor *d = &l->index.entries[i];
        const char *text = json_get_str(d->annotations, "io.slipway.standin.difference", NULL);
        if (!text || !streq(d->digest, digest))
            continue;
        if (named(d, ref))
            return text;
        any = text;
    }
    return any;
}

int layout_blob(struct layout *l, const char *digest, struct err *e) {
    char path[100];
    snprintf(path, sizeof path, "blobs/sha256/%s", digest_hex(digest));
    int fd = fs_open_in(l->fd, path, O_RDONLY | O_CLOEXEC, 0, 0);
    return fd < 0 ? err_set(e, ERR_NOTFOUND, fd, "%s/%s: %s", l->dir, path, strerror(-fd)) : fd;
}

int layout_read(struct layout *l, const char *digest, struct buf *ret, struct err *e) {
    _cleanup_close_ int fd = layout_blob(l, digest, e);
    char found[DIGEST_LEN + 1];
    if (fd < 0)
        return fd;
    buf_reset(ret);
    int r = fs_read_fd(fd, ret);
    if (r < 0)
        return err_errno(e, r, "%s", digest);
    digest_of(ret->p ? ret->p : "", ret->n, found);
    if (!streq(found, digest))
        return err_set(e, ERR_USER, -EBADMSG, "%s: the file of %.19s is damaged", l->dir, digest);
    return 0;
}
