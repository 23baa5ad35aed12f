/* Images as one tree of files: exported, shown, imported. */
#include "base/compress.h"
#include "core/loop.h"
#include "core/proc.h"
#include "image/layer.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>

/* argv of the helper: where the snapshots are, layers top first, then the command. As root the helper,
 * whose ids are others, may not walk to the store: it is given a mount. The descriptor for it. */
static int view_argv(struct store *s, struct keeper *k, const struct image *i, char *const *command, struct strv *argv, struct err *e) {
    int fd = openat(store_dirfd(s), "snap", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, -errno, "open the store's snapshots");
    strv_add(argv, "image-view");
    int m = keeper_idmap(k)->root ? (int)syscall(SYS_open_tree, fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC) : -1;
    if (m >= 0) {
        struct mount_attr private = {.propagation = MS_PRIVATE};
        close(fd);
        fd = m;
        strv_add(argv, "mount");
        if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &private, sizeof private) < 0) {
            int r = err_errno(e, -errno, "open the store's snapshots");
            close(fd);
            return r;
        }
    } else {
        strv_addf(argv, "%s/snap", store_path(s));
    }
    for (size_t n = i->layers.n; n-- > 0;)
        strv_add(argv, i->layers.v[n]);
    if (command) {
        strv_add(argv, "--");
        strv_extend(argv, (const char *const *)command);
    }
    return fd;
}

int image_flatten(struct store *s, const struct image *i, int out_fd, struct err *e) {
    _cleanup_strv_ struct strv argv = {0};
    struct keeper *k;
    int r = store_keeper(s, &k, e);
    _cleanup_close_ int snaps = r < 0 ? r : view_argv(s, k, i, NULL, &argv, e);
    return snaps < 0 ? snaps : ns_run(k, (const char *const *)argv.v, (int[]){snaps, out_fd}, 2, NULL, e);
}

int image_view(struct store *s, const struct image *i, char *const *command, struct err *e) {
    _cleanup_strv_ struct strv argv = {0};
    struct keeper *k;
    pid_t pid;
    int r = store_keeper(s, &k, e);
    _cleanup_close_ int snaps = r < 0 ? r : view_argv(s, k, i, command, &argv, e);
    r = snaps < 0 ? snaps : ns_spawn(k, (const char *const *)argv.v, 0, 1, 2, (int[]){snaps}, 1, &pid, e);
    return r < 0 ? r : proc_wait(pid);
}

static int hash_blob(struct store *s, const char *blob, char diff_id[DIGEST_LEN + 1], struct err *e) {
    struct decoder *d;
    static const size_t size = 256u << 10;
    _cleanup_close_ int fd = blob_open(s, blob, NULL, e);
    int r = fd < 0 ? fd : decoder_new(&d, fd, 0, e);
    if (r < 0)
        return r;
    _cleanup_free_ char *chunk = xmalloc(size);
    struct sha256 *h = sha256_new();
    uint8_t raw[32];
    ssize_t n;
    while ((n = decoder_read(d, chunk, size)) > 0)
        sha256_update(h, chunk, (size_t)n);
    decoder_free(d);
    sha256_final(h, raw);
    sha256_free(h);
    digest_format(raw, diff_id);
    return n < 0 ? err_set(e, ERR_USER, (int)n, "the archive is damaged: %s", strerror((int)-n)) : 0;
}

static int take_blob(struct store *s, struct lease *l, int fd, char digest[DIGEST_LEN + 1], struct err *e) {
    struct blob_writer *w;
    static const size_t size = 256u << 10;
    _cleanup_free_ char *chunk = xmalloc(size);
    int r = blob_begin(s, &w, e);
    if (r < 0)
        return r;
    for (;;) {
        ssize_t n = read(fd, chunk, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            r = err_errno(e, -errno, "read the archive");
            blob_abort(w);
            return r;
        }
        if (n == 0)
            break;
        (void)blob_write(w, chunk, (size_t)n); /* the commit tells */
    }
    r = blob_commit(w, NULL, digest, e);
    return r == 0 && (r = lease_use(l, digest)) < 0 ? err_errno(e, r, "lease a blob") : r;
}

int image_import(struct store *s, struct lease *l, int in_fd, struct image_config *c, const char *comment,
                 char id[DIGEST_LEN + 1], struct err *e) {
    char blob[DIGEST_LEN + 1], diff_id[DIGEST_LEN + 1], now[32];
    _cleanup_strv_ struct strv snaps = {0};
    struct snap_info info;
    int r = take_blob(s, l, in_fd, blob, e);
    if (r == 0)
        r = hash_blob(s, blob, diff_id, e);
    if (r == 0)
        r = layer_unpack(s, l, blob, diff_id, &info, NULL, e);
    if (r < 0)
        return err_wrap(e, r, "import");
    strv_add(&snaps, info.id);
    strv_done(&c->diff_ids);
    strv_add(&c->diff_ids, diff_id);
    format_time(now_real(), now);
    if (!c->created)
        c->created = xstrdup(now);
    c->history = xcalloc(1, sizeof *c->history);
    c->n_history = 1;
    c->history[0].created = xstrdup(c->created);
    c->history[0].comment = xstrdup(comment);
    r = image_add(s, c, &snaps, id, e);
    return r < 0 ? err_wrap(e, r, "import") : 0;
}
