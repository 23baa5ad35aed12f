#include "test.h"

#include "base/compress.h"
#include "core/fs.h"
#include "image/extract.h"
#include "image/image.h"
#include "image/ns.h"
#include "ns_hook.h"
#include "store/ns.h"
#include "tarmake.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static const struct ns_op ops[] = {{"store-mkdir", ns_store_mkdir, false},
                                   {"store-rm", ns_store_rm, false},
                                   {"layer-unpack", ns_layer_unpack, false},
                                   {"layer-tar", ns_layer_tar, false}};
NS_HOOK(ops)

static char top[64];
static struct err e;
static struct store *s;
static struct lease *l;

static void begin(void) {
    char path[100];
    snprintf(top, sizeof top, "/tmp/test-layer-XXXXXX");
    if (!mkdtemp(top))
        abort();
    snprintf(path, sizeof path, "%s/store", top);
    struct store_options o = {.path = path, .allow_single_id = true};
    CHECK_INT(store_open(&s, &o, &e), 0);
    CHECK_INT(lease_new(s, "t", &l, &e), 0);
}

static void end(void) {
    lease_free(l);
    struct prune_options o = {.all = true};
    usleep(10000);
    CHECK_INT(store_prune(s, &o, NULL, NULL, NULL, &e), 0); /* removes what only helpers can */
    store_close(s);
    CHECK_INT(fs_rmtree(AT_FDCWD, top), 0);
}

static int add_blob(void *arg, const void *p, size_t n) {
    return blob_write(arg, p, n);
}

/* Puts the archive into the store, compressed. */
static void layer_blob(struct sv tar, enum codec c, char blob[DIGEST_LEN + 1],
                       char diff[DIGEST_LEN + 1]) {
    struct blob_writer *w;
    struct compressor *z;
    digest_of(tar.p, tar.n, diff);
    CHECK_INT(blob_begin(s, &w, &e), 0);
    CHECK_INT(compress_new(&z, c, 1, 1, add_blob, w), 0);
    CHECK_INT(compress_write(z, tar.p, tar.n), 0);
    CHECK_INT(compress_end(z), 0);
    compress_free(z);
    CHECK_INT(blob_commit(w, NULL, blob, &e), 0);
}

static int unpack(struct tarmake *t, struct snap_info *info) {
    char blob[DIGEST_LEN + 1], diff[DIGEST_LEN + 1];
    tm_end(t);
    layer_blob(buf_sv(&t->b), CODEC_GZIP, blob, diff);
    buf_done(&t->b);
    e = (struct err){0};
    return layer_unpack(s, l, blob, diff, info, NULL, &e);
}

static ssize_t decode(void *arg, void *p, size_t n) {
    return decoder_read(arg, p, n);
}

/* As seen inside the namespace: the tar of the snapshot, read again into lines. */
static void listing(const char *id, struct buf *out) {
    char path[] = "/tmp/test-layer-tar-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    unlink(path);
    if (layer_tar(s, id, -1, fd, &e) < 0)
        fprintf(stderr, "layer_tar: %s\n", e.msg);
    lseek(fd, 0, SEEK_SET);
    struct decoder *d;
    const struct tar_entry *en;
    CHECK_INT(decoder_new(&d, fd, 0, &e), 0);
    struct tar_reader *t = tar_reader_new(decode, d);
    while (tar_next(t, &en, &e) == 1) {
        char data[64] = "";
        buf_addf(out, "%d %s %o %llu", (int)en->type, en->path, en->mode,
                 (unsigned long long)en->uid);
        if (en->link[0])
            buf_addf(out, " -> %s", en->link);
        ssize_t n = tar_data(t, data, sizeof data - 1);
        if (n > 0)
            buf_addf(out, " \"%.*s\"", (int)n, data);
        for (size_t i = 0; i < en->n_xattrs; i++)
            buf_addf(out, " %s=%.*s", en->xattrs[i].name, SV_ARG(en->xattrs[i].value));
        buf_addc(out, '\n');
    }
    tar_reader_free(t);
    decoder_free(d);
    close(fd);
}

TEST(round_trip) {
    struct tarmake t;
    struct snap_info info, again;
    struct buf out = BUF_LARGE;
    begin();
    tm_begin(&t);
    tm_dir(&t, "./");
    tm_dir(&t, "./etc/");
    tm_entry(&t, TAR_FILE, "./etc/shadow", NULL, 0640, 0, "secret");
    tm_entry(&t, TAR_FILE, "usr/bin/sudo", NULL, 04755, 0, "elf");
    tm_entry(&t, TAR_DIR, "home/user/", NULL, 0750, 1000, NULL);
    tm_entry(&t, TAR_FILE, "home/user/f", NULL, 0600, 1000, "x");
    tm_entry(&t, TAR_HARDLINK, "home/user/g", "home/user/f", 0600, 1000, NULL);
    tm_link(&t, "bin", "usr/bin");
    tm_file(&t, "bin/through-link", "inside");
    tm_file(&t, "tmp/x", "t");
    tm_file(&t, "etc/.wh.gone", "");
    tm_file(&t, "var/.wh..wh..opq", "");
    tm_file(&t, "var/new", "n");
    tm_entry(&t, TAR_FIFO, "pipe", NULL, 0644, 0, NULL);
    tm_file(&t, "etc/shadow2", "");
    CHECK_INT(unpack(&t, &info), 0);
    if (e.msg[0])
        fprintf(stderr, "%s\n", e.msg);
    listing(info.id, &out);
    struct keeper *k;
    CHECK_INT(store_keeper(s, &k, &e), 0);
    if (!keeper_idmap(k)->single)
        CHECK_STR(buf_str(&out),
                  "2 bin 777 0 -> usr/bin\n"
                  "5 etc/ 755 0\n0 etc/.wh.gone 644 0\n0 etc/shadow 640 0 \"secret\"\n"
                  "0 etc/shadow2 644 0\n"
                  "5 home/ 755 0\n5 home/user/ 750 1000\n0 home/user/f 600 1000 \"x\"\n"
                  "1 home/user/g 600 1000 -> home/user/f\n"
                  "6 pipe 644 0\n5 tmp/ 1777 0\n0 tmp/x 644 0 \"t\"\n"
                  "5 usr/ 755 0\n5 usr/bin/ 755 0\n0 usr/bin/sudo 4755 0 \"elf\"\n"
                  "0 usr/bin/through-link 644 0 \"inside\"\n"
                  "5 var/ 755 0\n0 var/.wh..wh..opq 644 0\n0 var/new 644 0 \"n\"\n");
    buf_done(&out);
    CHECK_INT(snap_find(s, l, info.diff_id, &again), 1);
    CHECK_STR(again.id, info.id);
    char d1[DIGEST_LEN + 1];
    uint64_t size = 0;
    CHECK_INT(layer_diff_id(s, info.id, d1, &size, &e), 0);
    CHECK_STR(d1, info.diff_id); /* known: not computed from the folder */
    end();
}

/* Each of these must be refused, and nothing appear outside of the snapshot. */
static const struct hostile {
    const char *what;
    int type1;
    const char *path1, *link1;
    int type2;
    const char *path2, *link2;
} hostile[] = {
    {"dotdot", TAR_FILE, "../../evil", NULL, -1, NULL, NULL},
    {"dotdot inside", TAR_FILE, "a/../../evil", NULL, -1, NULL, NULL},
    {"hard link out", TAR_HARDLINK, "x", "../../../../etc/passwd", -1, NULL, NULL},
    {"hard link to what is not there", TAR_HARDLINK, "x", "/etc/passwd", -1, NULL, NULL},
    {"hard link through a link", TAR_SYMLINK, "l", "/etc", TAR_HARDLINK, "x", "l/passwd"},
    {"file in a file", TAR_FILE, "f", NULL, TAR_FILE, "f/x", NULL},
    {"loop of links", TAR_SYMLINK, "l", "l", TAR_FILE, "l/x", NULL},
    {"root is a link", TAR_SYMLINK, "/", "/etc", -1, NULL, NULL},
    {"file through a dangling link", TAR_SYMLINK, "l", "/nowhere", TAR_FILE, "l/x", NULL},
    {"hides the root", TAR_FILE, ".wh...", NULL, -1, NULL, NULL},
    {"hides itself", TAR_FILE, "d/.wh..", NULL, -1, NULL, NULL},
    {"hard link to a hidden name", TAR_FILE, ".wh.x", NULL, TAR_HARDLINK, "y", "x"},
};

TEST(hostile_refused) {
    begin();
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        const struct hostile *h = &hostile[i];
        struct tarmake t;
        struct snap_info info;
        tm_begin(&t);
        tm_entry(&t, (enum tar_type)h->type1, h->path1, h->link1, 0644, 0, NULL);
        if (h->path2)
            tm_entry(&t, (enum tar_type)h->type2, h->path2, h->link2, 0644, 0, NULL);
        int r = unpack(&t, &info);
        if (r >= 0)
            fprintf(stderr, "accepted: %s\n", h->what);
        CHECK(r < 0);
        CHECK(e.msg[0]);
    }
    CHECK(!fs_exists(AT_FDCWD, "/evil"));
    end();
}

/* Links that point outside are fine as long as what goes through them stays inside. */
TEST(hostile_contained) {
    struct tarmake t;
    struct snap_info info;
    struct buf out = BUF_LARGE;
    char canary[100];
    begin();
    snprintf(canary, sizeof canary, "%s/canary", top);
    tm_begin(&t);
    tm_dir(&t, top);
    tm_link(&t, "out", top);
    tm_file(&t, "out/canary", "captured"); /* goes to <root>/tmp/… */
    tm_link(&t, "up", "../../../../../../..");
    tm_file(&t, "up/top", "t");
    tm_entry(&t, TAR_CHAR, "dev/mem", NULL, 0666, 0, NULL);
    tm_entry(&t, TAR_BLOCK, "dev/sda", NULL, 0666, 0, NULL);
    tm_dir(&t, "d");
    tm_file(&t, "d/f", "1");
    tm_link(&t, "d", "/etc"); /* a folder becomes a link */
    tm_link(&t, "e", "/etc");
    tm_dir(&t, "e"); /* a link becomes a folder */
    tm_file(&t, "e/passwd", "mine");
    tm_file(&t, ".wh.h", "");
    tm_dir(&t, "h"); /* hidden below and made anew: opaque */
    CHECK_INT(unpack(&t, &info), 0);
    if (e.msg[0])
        fprintf(stderr, "%s\n", e.msg);
    CHECK(!fs_exists(AT_FDCWD, canary));
    listing(info.id, &out);
    CHECK(strstr(buf_str(&out), "0 top 644 0 \"t\"\n"));
    CHECK(strstr(buf_str(&out), "canary 644 0 \"captured\"\n"));
    CHECK(strstr(buf_str(&out), "2 d 777 0 -> /etc\n"));
    CHECK(strstr(buf_str(&out), "0 e/passwd 644 0 \"mine\"\n"));
    CHECK(strstr(buf_str(&out), "5 h/ 755 0\n0 h/.wh..wh..opq 644 0\n"));
    CHECK(!strstr(buf_str(&out), "dev/mem"));
    CHECK(!strstr(buf_str(&out), "d/f"));
    buf_done(&out);
    end();
}

TEST(damaged) {
    struct tarmake t;
    struct snap_info info;
    char blob[DIGEST_LEN + 1], diff[DIGEST_LEN + 1], cut[DIGEST_LEN + 1];
    begin();
    tm_begin(&t);
    tm_file(&t, "f", "some content");
    tm_end(&t);
    layer_blob(buf_sv(&t.b), CODEC_ZSTD, blob, diff);
    /* not what the image says */
    char other[DIGEST_LEN + 1];
    digest_of("x", 1, other);
    CHECK_INT(layer_unpack(s, l, blob, other, &info, NULL, &e), -EBADMSG);
    CHECK_INT(e.kind, ERR_NET);
    /* cut short */
    struct buf z = BUF_LARGE;
    CHECK_INT(blob_read(s, blob, &z, &e), 0);
    CHECK_INT(blob_put(s, sv_n(z.p, z.n / 2), cut, &e), 0);
    CHECK(layer_unpack(s, l, cut, diff, &info, NULL, &e) < 0);
    CHECK_INT(blob_put(s, SV("not a layer at all"), cut, &e), 0);
    CHECK(layer_unpack(s, l, cut, diff, &info, NULL, &e) < 0);
    CHECK_INT(layer_unpack(s, l, blob, diff, &info, NULL, &e), 0);
    CHECK_INT(info.size, t.b.n);
    buf_done(&z);
    buf_done(&t.b);
    end();
}

/* A built layer: its diff id is the digest of its tar, the same each time. */
TEST(diff_id) {
    char id[33], d1[DIGEST_LEN + 1], d2[DIGEST_LEN + 1], path[] = "/tmp/test-layer-tar-XXXXXX";
    struct snap_info info = {.key = "built"};
    uint64_t size, fsize;
    begin();
    CHECK_INT(snap_begin(s, l, id, NULL, &e), 0);
    struct keeper *k;
    CHECK_INT(store_keeper(s, &k, &e), 0);
    if (keeper_idmap(k)->root || keeper_idmap(k)->single) {
        _cleanup_close_ int fs = openat(store_dirfd(s), "snap", O_PATH | O_CLOEXEC);
        char f[64];
        for (int i = 0; i < 50; i++) {
            snprintf(f, sizeof f, "%s/fs/file-%d", id, (i * 7919) % 50);
            CHECK_INT(fs_write(fs, f, sv_from(f), 0644, false, &e), 0);
        }
    }
    CHECK_INT(snap_commit(s, l, id, &info, NULL, &e), 0);
    CHECK_INT(layer_diff_id(s, id, d1, &size, &e), 0);
    int fd = mkostemp(path, O_CLOEXEC);
    unlink(path);
    CHECK_INT(layer_tar(s, id, -1, fd, &e), 0);
    lseek(fd, 0, SEEK_SET);
    CHECK_INT(digest_of_fd(fd, d2, &fsize), 0);
    CHECK_STR(d1, d2);
    CHECK_INT(size, fsize);
    CHECK_INT(snap_get(s, id, &info), 1);
    CHECK_STR(info.diff_id, d1);
    close(fd);
    end();
}

/* The disk runs full in the middle: an error that says so, and no half layer. Needs root. */
TEST(full_disk) {
    char mnt[] = "/tmp/test-layer-full-XXXXXX", path[80], blob[DIGEST_LEN + 1],
         diff[DIGEST_LEN + 1];
    struct snap_info info;
    struct tarmake t;
    if (geteuid() != 0 || !mkdtemp(mnt))
        return;
    if (mount("full", mnt, "tmpfs", 0, "size=4m") < 0) {
        rmdir(mnt);
        return;
    }
    snprintf(path, sizeof path, "%s/s", mnt);
    struct store_options o = {.path = path, .allow_single_id = true};
    CHECK_INT(store_open(&s, &o, &e), 0);
    CHECK_INT(lease_new(s, "t", &l, &e), 0);
    char *big = calloc(1, 8u << 20);
    memset(big, 'x', (8u << 20) - 1);
    tm_begin(&t);
    tm_file(&t, "small", "x");
    tm_file(&t, "big", big);
    tm_end(&t);
    layer_blob(buf_sv(&t.b), CODEC_GZIP, blob, diff);
    e = (struct err){0};
    CHECK_INT(layer_unpack(s, l, blob, diff, &info, NULL, &e), -ENOSPC);
    CHECK_INT(e.kind, ERR_ENV);
    CHECK_INT(snap_find(s, l, diff, &info), 0);
    lease_free(l);
    store_close(s);
    snprintf(path, sizeof path, "%s/s/snap", mnt);
    uint64_t bytes, files = 0;
    CHECK_INT(fs_size_tree(AT_FDCWD, path, &bytes, &files), 0);
    CHECK_INT(files, 0);
    buf_done(&t.b);
    free(big);
    CHECK_INT(umount(mnt), 0);
    rmdir(mnt);
}
