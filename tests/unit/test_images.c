/* Names, export, save and load. */
#include "test.h"

#include "base/compress.h"
#include "core/fs.h"
#include "image/image.h"
#include "image/ns.h"
#include "ns_hook.h"
#include "store/ns.h"
#include "tarmake.h"

#include <sys/stat.h>

static const struct ns_op ops[] = {{"store-mkdir", ns_store_mkdir, false},
                                   {"store-rm", ns_store_rm, false},
                                   {"layer-unpack", ns_layer_unpack, false},
                                   {"layer-tar", ns_layer_tar, false}};
NS_HOOK(ops)

static char top[64];
static struct err e;

struct place {
    struct store *s;
    struct lease *l;
};

static struct place place(const char *name) {
    struct place p;
    char path[100];
    if (!top[0]) {
        snprintf(top, sizeof top, "/tmp/test-images-XXXXXX");
        if (!mkdtemp(top))
            abort();
    }
    snprintf(path, sizeof path, "%s/%s", top, name);
    struct store_options o = {.path = path, .allow_single_id = true};
    CHECK_INT(store_open(&p.s, &o, &e), 0);
    CHECK_INT(lease_new(p.s, "t", &p.l, &e), 0);
    return p;
}

static void leave(struct place p) {
    struct prune_options o = {.all = true};
    lease_free(p.l);
    CHECK_INT(store_prune(p.s, &o, NULL, NULL, NULL, &e), 0);
    store_close(p.s);
}

static void clear(void) {
    CHECK_INT(fs_rmtree(AT_FDCWD, top), 0);
    top[0] = 0;
}

static int add_blob(void *arg, const void *p, size_t n) {
    return blob_write(arg, p, n);
}

/* A layer as it would be pulled: gzip by another level than ours. */
static void pulled_layer(struct place p, const char *file, const char *text,
                         struct snap_info *info) {
    struct tarmake t;
    struct blob_writer *w;
    struct compressor *z;
    char blob[DIGEST_LEN + 1], diff[DIGEST_LEN + 1];
    tm_begin(&t);
    tm_dir(&t, "./");
    tm_file(&t, file, text);
    tm_end(&t);
    digest_of(t.b.p, t.b.n, diff);
    CHECK_INT(blob_begin(p.s, &w, &e), 0);
    CHECK_INT(compress_new(&z, CODEC_GZIP, 3, 1, add_blob, w), 0);
    CHECK_INT(compress_write(z, t.b.p, t.b.n), 0);
    CHECK_INT(compress_end(z), 0);
    compress_free(z);
    CHECK_INT(blob_commit(w, NULL, blob, &e), 0);
    CHECK_INT(layer_unpack(p.s, p.l, blob, diff, info, NULL, &e), 0);
    buf_done(&t.b);
}

/* Two layers: one pulled, one made here. */
static void make_image(struct place p, char id[DIGEST_LEN + 1]) {
    struct image_config c = {0};
    struct strv snaps = {0};
    struct snap_info base, built = {.key = "step"};
    char snap[33], diff[DIGEST_LEN + 1];
    pulled_layer(p, "etc/base", "base", &base);
    CHECK_INT(snap_begin(p.s, p.l, snap, NULL, &e), 0);
    CHECK_INT(snap_commit(p.s, p.l, snap, &built, &built, &e), 0);
    CHECK_INT(layer_diff_id(p.s, built.id, diff, NULL, &e), 0);
    c.os = xstrdup("linux");
    c.architecture = xstrdup("amd64");
    strv_add(&c.env, "PATH=/bin");
    strv_add(&c.diff_ids, base.diff_id);
    strv_add(&c.diff_ids, diff);
    strv_add(&snaps, base.id);
    strv_add(&snaps, built.id);
    e = (struct err){0};
    if (image_add(p.s, &c, &snaps, id, &e) < 0)
        fprintf(stderr, "image_add: %s\n", e.msg);
    strv_done(&snaps);
    image_config_done(&c);
}

static bool finds(struct place p, const char *name, const char *id) {
    _cleanup_image_ struct image *i = NULL;
    e = (struct err){0};
    int r = image_find(p.s, p.l, name, &i, &e);
    if (r < 0)
        fprintf(stderr, "find %s: %s\n", name, e.msg);
    return r == 1 && strcmp(i->id, id) == 0;
}

TEST(names) {
    struct place p = place("a");
    char id[DIGEST_LEN + 1];
    struct strv said = {0};
    make_image(p, id);
    CHECK(finds(p, id, id));
    CHECK(!finds(p, "app", id));
    CHECK_INT(image_tag(p.s, id, "app", &e), 0);
    CHECK_INT(image_tag(p.s, id, "ghcr.io/team/app:v1", &e), 0);
    CHECK(image_tag(p.s, id, "BAD/Name:", &e) < 0);
    CHECK(image_tag(p.s, "sha256:00", "x", &e) < 0);
    CHECK(finds(p, "app", id));
    CHECK(finds(p, "docker.io/library/app:latest", id));
    CHECK(finds(p, "ghcr.io/team/app:v1", id));
    CHECK(!finds(p, "ghcr.io/team/app", id));
    char prefix[16];
    snprintf(prefix, sizeof prefix, "%.12s", id + 7);
    CHECK(finds(p, prefix, id));
    CHECK_INT(image_remove(p.s, prefix, false, &said, &e), -EBUSY);
    CHECK_INT(image_remove(p.s, "app", false, &said, &e), 0);
    CHECK_INT(said.n, 1);
    CHECK(finds(p, id, id));
    CHECK_INT(image_untag(p.s, "nothing", &e), -ENOENT);
    CHECK_INT(image_remove(p.s, "ghcr.io/team/app:v1", false, &said, &e), 0);
    CHECK_INT(said.n, 3);
    CHECK(!finds(p, id, id));
    CHECK_INT(image_remove(p.s, "app", false, &said, &e), -ENOENT);
    strv_done(&said);
    leave(p);
    clear();
}

TEST(prune_keeps_images) {
    struct place p = place("a");
    char id[DIGEST_LEN + 1], m1[DIGEST_LEN + 1], m2[DIGEST_LEN + 1];
    struct prune_options o = {.all = true};
    struct prune_result res;
    make_image(p, id);
    CHECK_INT(image_tag(p.s, id, "app", &e), 0);
    CHECK_INT(image_export(p.s, p.l, id, false, NULL, m1, NULL, NULL, &e), 0);
    lease_free(p.l);
    usleep(2100000);
    CHECK_INT(store_prune(p.s, &o, image_reach, NULL, &res, &e), 0);
    CHECK_INT(res.snaps, 0);
    CHECK_INT(res.blobs, 1); /* the manifest, which is made again */
    CHECK_INT(lease_new(p.s, "t", &p.l, &e), 0);
    CHECK(finds(p, "app", id));
    CHECK_INT(image_export(p.s, p.l, id, false, NULL, m2, NULL, NULL, &e), 0);
    CHECK_STR(m1, m2);
    leave(p);
    clear();
}

TEST(export_save_load) {
    struct place p = place("a");
    char id[DIGEST_LEN + 1], m1[DIGEST_LEN + 1], m2[DIGEST_LEN + 1], mz[DIGEST_LEN + 1];
    struct buf text = BUF_LARGE;
    uint64_t total = 0;
    make_image(p, id);
    CHECK_INT(image_tag(p.s, id, "ghcr.io/team/app:v1", &e), 0);
    CHECK_INT(image_export(p.s, p.l, id, false, NULL, m1, &text, &total, &e), 0);
    CHECK(total > text.n && text.n > 300);
    CHECK_INT(image_export(p.s, p.l, id, false, NULL, m2, NULL, NULL, &e), 0);
    CHECK_STR(m1, m2);
    CHECK_INT(image_export(p.s, p.l, id, true, NULL, mz, NULL, NULL, &e), 0);
    CHECK(strcmp(m1, mz) != 0);
    buf_done(&text);
    for (int oci = 0; oci < 2; oci++) {
        char path[100];
        snprintf(path, sizeof path, "%s/out.tar", top);
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        static const char *const refs[] = {"ghcr.io/team/app:v1"};
        e = (struct err){0};
        CHECK_INT(image_save(p.s, p.l, refs, 1, oci, fd, &e), 0);
        if (e.msg[0])
            fprintf(stderr, "save: %s\n", e.msg);
        lseek(fd, 0, SEEK_SET);
        struct place q = place(oci ? "oci" : "docker");
        struct strv names = {0};
        CHECK_INT(image_load(q.s, q.l, fd, &names, &e), 0);
        if (e.msg[0])
            fprintf(stderr, "load: %s\n", e.msg);
        CHECK_INT(names.n, 1);
        CHECK_STR(names.n ? names.v[0] : "", "ghcr.io/team/app:v1");
        CHECK(finds(q, "ghcr.io/team/app:v1", id));
        CHECK_INT(image_export(q.s, q.l, id, false, NULL, m2, NULL, NULL, &e), 0);
        if (oci)
            CHECK_STR(m1, m2);
        strv_done(&names);
        leave(q);
        /* cut anywhere: an error, never half an image */
        struct stat st;
        fstat(fd, &st);
        for (off_t at = 100; at < st.st_size - 1024; at += st.st_size / 9) {
            struct place c = place("cut");
            int cut = openat(AT_FDCWD, top, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
            uint64_t n;
            lseek(fd, 0, SEEK_SET);
            CHECK_INT(fd_copy(fd, cut, (uint64_t)at, &n), 0);
            lseek(cut, 0, SEEK_SET);
            CHECK(image_load(c.s, c.l, cut, NULL, &e) < 0);
            CHECK(!finds(c, "ghcr.io/team/app:v1", id));
            close(cut);
            leave(c);
        }
        close(fd);
    }
    leave(p);
    clear();
}
