#include "test.h"

#include "base/tar.h"

#include <fcntl.h>
#include <sys/wait.h>

struct mem {
    struct buf b;
    size_t at;
    size_t step; /* most bytes per read, 0 = all */
};
static int put(void *arg, const void *p, size_t n) {
    struct mem *m = arg;
    buf_add(&m->b, p, n);
    return 0;
}
static ssize_t get(void *arg, void *p, size_t n) {
    struct mem *m = arg;
    n = MIN(n, m->b.n - m->at);
    if (m->step)
        n = MIN(n, m->step);
    if (n)
        memcpy(p, m->b.p + m->at, n);
    m->at += n;
    return (ssize_t)n;
}

static char long_path[3001], mid_path[200];

static void write_all(struct mem *m) {
    memset(long_path, 'l', 3000);
    memset(mid_path, 'd', 120);
    memcpy(mid_path + 120, "/name", 6);
    m->b = BUF_LARGE;
    struct tar_writer *t = tar_writer_new(put, m);
    struct tar_entry d = {.type = TAR_DIR, .path = "usr/bin", .mode = 0755, .mtime = 1700000000};
    CHECK_INT(tar_put(t, &d), 0);
    struct tar_entry f = {.type = TAR_FILE, .path = "usr/bin/x", .mode = 04755, .uid = 1000, .gid = 70000,
                          .size = 5, .mtime = 1, .mtime_ns = 500000000};
    f.xattrs[0] = (struct tar_xattr){"user.b", SV("a=b\nc\0d")};
    f.xattrs[1] = (struct tar_xattr){"security.capability", SV("\1\0\0\2")};
    f.n_xattrs = 2;
    CHECK_INT(tar_put(t, &f), 0);
    CHECK_INT(tar_put_data(t, "he", 2), 0);
    CHECK_INT(tar_put_data(t, "llo", 3), 0);
    struct tar_entry s = {.type = TAR_SYMLINK, .path = long_path, .link = long_path, .mode = 0777,
                          .uid = 4000000000u, .mtime = -2, .mtime_ns = 250000000};
    CHECK_INT(tar_put(t, &s), 0);
    struct tar_entry h = {.type = TAR_HARDLINK, .path = mid_path, .link = "usr/bin/x"};
    CHECK_INT(tar_put(t, &h), 0);
    struct tar_entry c = {.type = TAR_CHAR, .path = "dev/null", .dev_major = 1, .dev_minor = 3, .mode = 0666};
    CHECK_INT(tar_put(t, &c), 0);
    struct tar_entry u = {.type = TAR_FIFO, .path = "caf\xc3\xa9"};
    CHECK_INT(tar_put(t, &u), 0);
    CHECK_INT(tar_end(t), 0);
    tar_writer_free(t);
}

static void read_back(size_t step) {
    struct mem m = {0};
    write_all(&m);
    m.step = step;
    CHECK_INT(m.b.n % 512, 0);
    struct tar_reader *t = tar_reader_new(get, &m);
    const struct tar_entry *en = NULL;
    struct err e = {0};
    CHECK_INT(tar_next(t, &en, &e), 1);
    CHECK_STR(en->path, "usr/bin/");
    CHECK_INT(en->type, TAR_DIR);
    CHECK_INT(en->mtime, 1700000000);
    CHECK_INT(tar_next(t, &en, &e), 1);
    CHECK_STR(en->path, "usr/bin/x");
    CHECK_INT(en->mode, 04755);
    CHECK_INT(en->gid, 70000);
    CHECK_INT(en->size, 5);
    CHECK_INT(en->mtime, 1);
    CHECK_INT(en->mtime_ns, 500000000);
    CHECK_INT(en->n_xattrs, 2);
    CHECK_STR(en->xattrs[0].name, "security.capability");
    CHECK(sv_eq(en->xattrs[0].value, SV("\1\0\0\2")));
    CHECK(sv_eq(en->xattrs[1].value, SV("a=b\nc\0d")));
    char data[16];
    size_t n = 0;
    for (ssize_t r; (r = tar_data(t, data + n, sizeof data - n)) > 0;)
        n += (size_t)r;
    CHECK_INT(n, 5);
    CHECK(memcmp(data, "hello", 5) == 0);
    CHECK_INT(tar_next(t, &en, &e), 1);
    CHECK_STR(en->path, long_path);
    CHECK_STR(en->link, long_path);
    CHECK_INT(en->uid, 4000000000u);
    CHECK_INT(en->mtime, -2);
    CHECK_INT(en->mtime_ns, 250000000);
    CHECK_INT(en->n_xattrs, 0);
    CHECK_INT(tar_next(t, &en, &e), 1);
    CHECK_STR(en->path, mid_path);
    CHECK_STR(en->link, "usr/bin/x");
    CHECK_INT(en->type, TAR_HARDLINK);
    CHECK_INT(tar_next(t, &en, &e), 1);
    CHECK_INT(en->dev_major, 1);
    CHECK_INT(en->dev_minor, 3);
    CHECK_INT(tar_next(t, &en, &e), 1);
    CHECK_STR(en->path, "caf\xc3\xa9");
    CHECK_INT(tar_next(t, &en, &e), 0);
    CHECK_INT(tar_next(t, &en, &e), 0);
    tar_reader_free(t);
    buf_done(&m.b);
}

TEST(round_trip) {
    read_back(0);
    read_back(1);
    read_back(511);
}

TEST(deterministic) {
    struct mem a = {0}, b = {0};
    write_all(&a);
    write_all(&b);
    CHECK(sv_eq(buf_sv(&a.b), buf_sv(&b.b)));
    buf_done(&a.b);
    buf_done(&b.b);
}

TEST(skips_data_not_read) {
    struct mem m = {.b = BUF_LARGE};
    struct tar_writer *w = tar_writer_new(put, &m);
    char *big = calloc(1, 300000);
    struct tar_entry f = {.type = TAR_FILE, .path = "a", .size = 300000};
    CHECK_INT(tar_put(w, &f), 0);
    CHECK_INT(tar_put_data(w, big, 300000), 0);
    f.path = "b";
    f.size = 0;
    CHECK_INT(tar_put(w, &f), 0);
    CHECK_INT(tar_end(w), 0);
    tar_writer_free(w);
    struct tar_reader *t = tar_reader_new(get, &m);
    const struct tar_entry *en;
    CHECK_INT(tar_next(t, &en, NULL), 1);
    CHECK_INT(tar_data(t, big, 10), 10);
    CHECK_INT(tar_next(t, &en, NULL), 1);
    CHECK_STR(en->path, "b");
    CHECK_INT(tar_next(t, &en, NULL), 0);
    tar_reader_free(t);
    free(big);
    buf_done(&m.b);
}

TEST(truncated_everywhere) {
    struct mem m = {0};
    write_all(&m);
    size_t whole = m.b.n;
    for (size_t cut = 1; cut < whole - 1024; cut += 97) {
        struct mem part = {.b = m.b};
        part.b.n = cut;
        struct tar_reader *t = tar_reader_new(get, &part);
        const struct tar_entry *en;
        struct err e = {0};
        int r;
        while ((r = tar_next(t, &en, &e)) == 1)
            ;
        CHECK(r < 0 || cut % 512 == 0);
        if (r < 0)
            CHECK(e.msg[0]);
        tar_reader_free(t);
    }
    buf_done(&m.b);
}

TEST(writer_counts_bytes) {
    struct mem m = {.b = BUF_LARGE};
    struct tar_writer *w = tar_writer_new(put, &m);
    struct tar_entry f = {.type = TAR_FILE, .path = "a", .size = 3};
    CHECK_INT(tar_put(w, &f), 0);
    CHECK_INT(tar_put_data(w, "ab", 2), 0);
    CHECK(tar_put(w, &f) < 0);
    tar_writer_free(w);
    w = tar_writer_new(put, &m);
    CHECK_INT(tar_put(w, &f), 0);
    CHECK(tar_put_data(w, "abcd", 4) < 0);
    tar_writer_free(w);
    buf_done(&m.b);
}

/* GNU tar's own archive, with a long name and a sparse one. */
static int read_file(const char *path, struct err *e, struct buf *names) {
    struct mem m = {.b = BUF_LARGE};
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    char block[4096];
    for (size_t n; f && (n = fread(block, 1, sizeof block, f)) > 0;)
        buf_add(&m.b, block, n);
    if (f)
        fclose(f);
    struct tar_reader *t = tar_reader_new(get, &m);
    const struct tar_entry *en;
    int r;
    while ((r = tar_next(t, &en, e)) == 1)
        buf_addf(names, "%s;", en->path);
    tar_reader_free(t);
    buf_done(&m.b);
    return r;
}

TEST(gnu_tar_formats) {
    char dir[] = "/tmp/test_tar.XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    char cmd[2048];
    snprintf(cmd, sizeof cmd,
             "cd %s && n=$(printf %%0150d 7) && mkdir d && echo hi >d/$n && ln -s $n$n d/l && ln d/$n d/h && "
             "for f in gnu ustar pax v7; do tar --sort=name --format=$f -cf $f.tar d 2>/dev/null; done; "
             "truncate -s 1M s && tar -S -cf sparse.tar s && tar -S --format=pax -cf sparsep.tar s", dir);
    CHECK_INT(system(cmd), 0);
    for (const char *const *f = (const char *const[]){"gnu", "pax", NULL}; *f; f++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s.tar", dir, *f);
        _cleanup_buf_ struct buf names = BUF_SMALL;
        struct err e = {0};
        CHECK_INT(read_file(path, &e, &names), 0);
        CHECK(startswith(buf_str(&names), "d/;d/0000") != NULL);
        CHECK(strstr(buf_str(&names), "07;d/h;d/l;") != NULL);
    }
    for (const char *const *f = (const char *const[]){"sparse", "sparsep", NULL}; *f; f++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s.tar", dir, *f);
        _cleanup_buf_ struct buf names = BUF_SMALL;
        struct err e = {0};
        CHECK(read_file(path, &e, &names) < 0);
        CHECK(strstr(e.msg, "sparse") != NULL);
    }
    /* and GNU tar reads ours */
    struct mem m = {0};
    write_all(&m);
    snprintf(cmd, sizeof cmd, "cd %s && tar -tvf - >list 2>err && grep -q 'usr/bin/x' list && ! test -s err; r=$?; rm -rf %s; exit $r", dir, dir);
    FILE *p = popen(cmd, "w");
    fwrite(m.b.p, 1, m.b.n, p);
    CHECK_INT(pclose(p), 0);
    buf_done(&m.b);
}

TEST(rejects_garbage) {
    struct mem m = {.b = BUF_LARGE};
    for (int i = 0; i < 2048; i++)
        buf_addc(&m.b, (char)('a' + i % 26));
    struct tar_reader *t = tar_reader_new(get, &m);
    const struct tar_entry *en;
    struct err e = {0};
    CHECK(tar_next(t, &en, &e) < 0);
    CHECK(strstr(e.msg, "not a tar archive") != NULL);
    CHECK(tar_next(t, &en, &e) < 0);
    tar_reader_free(t);
    buf_done(&m.b);
}
