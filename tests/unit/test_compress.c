#include "test.h"

#include "base/compress.h"
#include "core/fs.h"

#include <fcntl.h>
#include <sys/mman.h>

static int add(void *arg, const void *p, size_t n) {
    buf_add(arg, p, n);
    return 0;
}

static char *sample(size_t n) {
    char *p = malloc(n + 1);
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (char)(i % 5000 < 4000 ? 'a' + (char)(x >> 30) : (char)(x >> 24));
    }
    return p;
}

static void squeeze(enum codec c, unsigned threads, const char *p, size_t n, struct buf *out) {
    struct compressor *z = NULL;
    CHECK_INT(compress_new(&z, c, 0, threads, add, out), 0);
    for (size_t at = 0, step = 1; at < n; at += step, step = step * 3 + 7)
        CHECK_INT(compress_write(z, p + at, MIN(step, n - at)), 0);
    CHECK_INT(compress_end(z), 0);
    compress_free(z);
}

static int memfd(struct sv data) {
    int fd = memfd_create("x", MFD_CLOEXEC);
    CHECK(fd_write_all(fd, data.p, data.n) == 0);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static int expand(struct sv data, uint64_t max, enum codec want, size_t step, struct buf *out) {
    int fd = memfd(data);
    struct decoder *d = NULL;
    struct err e = {0};
    int r = decoder_new(&d, fd, max, &e);
    if (r < 0) {
        close(fd);
        return r;
    }
    CHECK_INT(decoder_codec(d), want);
    char *block = malloc(step);
    ssize_t n;
    while ((n = decoder_read(d, block, step)) > 0)
        buf_add(out, block, (size_t)n);
    free(block);
    decoder_free(d);
    close(fd);
    return (int)n;
}

TEST(round_trips) {
    static const size_t sizes[] = {0, 1, 100, 65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5300000};
    char *p = sample(5300000);
    for (enum codec c = CODEC_NONE; c <= CODEC_ZSTD; c++)
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
            struct buf out = BUF_LARGE, one = BUF_LARGE, back = BUF_LARGE;
            squeeze(c, 3, p, sizes[i], &out);
            squeeze(c, 1, p, sizes[i], &one);
            CHECK(sv_eq(buf_sv(&out), buf_sv(&one))); /* whatever the threads */
            CHECK_INT(expand(buf_sv(&out), 0, c, 70000, &back), 0);
            CHECK_INT(back.n, sizes[i]);
            CHECK(sv_eq(buf_sv(&back), sv_n(p, sizes[i])));
            buf_done(&out);
            buf_done(&one);
            buf_done(&back);
        }
    free(p);
}

TEST(small_reads) {
    char *p = sample(300000);
    for (enum codec c = CODEC_NONE; c <= CODEC_ZSTD; c++) {
        struct buf out = BUF_LARGE, back = BUF_LARGE;
        squeeze(c, 0, p, 300000, &out);
        CHECK_INT(expand(buf_sv(&out), 0, c, 13, &back), 0);
        CHECK(sv_eq(buf_sv(&back), sv_n(p, 300000)));
        buf_done(&out);
        buf_done(&back);
    }
    free(p);
}

TEST(bounds_the_decoded_size) {
    char *p = calloc(1, 4 << 20);
    for (enum codec c = CODEC_NONE; c <= CODEC_ZSTD; c++) {
        struct buf out = BUF_LARGE, back = BUF_LARGE;
        squeeze(c, 2, p, 4 << 20, &out);
        CHECK_INT(expand(buf_sv(&out), 1 << 20, c, 4096, &back), -EFBIG);
        CHECK(back.n <= 1 << 20);
        buf_reset(&back);
        CHECK_INT(expand(buf_sv(&out), 4 << 20, c, 4096, &back), 0);
        buf_done(&out);
        buf_done(&back);
    }
    free(p);
}

TEST(damage_is_found) {
    char *p = sample(200000);
    for (enum codec c = CODEC_GZIP; c <= CODEC_ZSTD; c++) {
        struct buf out = BUF_LARGE;
        squeeze(c, 1, p, 200000, &out);
        for (size_t cut = 20; cut < out.n; cut += 9973) {
            struct buf back = BUF_LARGE;
            CHECK(expand(sv_n(out.p, cut), 0, c, 65536, &back) < 0);
            buf_done(&back);
        }
        struct buf back = BUF_LARGE;
        CHECK(expand(sv_n(out.p, out.n - 1), 0, c, 65536, &back) < 0);
        buf_reset(&back);
        for (size_t at = 12; at < out.n; at += 7919) {
            out.p[at] ^= 0x10;
            CHECK(expand(buf_sv(&out), 0, c, 65536, &back) < 0);
            out.p[at] ^= 0x10;
            buf_reset(&back);
        }
        buf_add(&out, "trailing", 8);
        CHECK(expand(buf_sv(&out), 0, c, 65536, &back) < 0);
        buf_done(&out);
        buf_done(&back);
    }
    free(p);
}

TEST(several_members) {
    for (enum codec c = CODEC_GZIP; c <= CODEC_ZSTD; c++) {
        struct buf out = BUF_LARGE, back = BUF_LARGE;
        squeeze(c, 1, "hello ", 6, &out);
        squeeze(c, 1, "", 0, &out);
        squeeze(c, 1, "world", 5, &out);
        if (c == CODEC_GZIP)
            buf_add(&out, "\0\0\0\0", 4);
        CHECK_INT(expand(buf_sv(&out), 0, c, 100, &back), 0);
        CHECK_STR(buf_str(&back), "hello world");
        buf_done(&out);
        buf_done(&back);
    }
}

TEST(other_programs_read_it) {
    char *p = sample(3000000);
    const char *const tools[] = {NULL, "gzip -dc", "zstd -dcq"};
    for (enum codec c = CODEC_GZIP; c <= CODEC_ZSTD; c++) {
        struct buf out = BUF_LARGE;
        squeeze(c, 2, p, 3000000, &out);
        char in[64], cmd[256];
        snprintf(in, sizeof in, "/tmp/test_compress.%d.bin", getpid());
        CHECK_INT(fs_write(AT_FDCWD, in, buf_sv(&out), 0600, false, NULL), 0);
        snprintf(cmd, sizeof cmd, "%s <%s 2>&1", tools[c], in);
        FILE *f = popen(cmd, "r");
        char *back = malloc(3000001);
        CHECK_INT(fread(back, 1, 3000001, f), 3000000);
        CHECK_INT(pclose(f), 0);
        CHECK(memcmp(p, back, 3000000) == 0);
        free(back);
        unlink(in);
        buf_done(&out);
    }
    free(p);
}

static int refuse(void *arg, const void *p, size_t n) { return -ENOSPC; }
TEST(sink_error_stops) {
    char *p = sample(4 << 20);
    struct compressor *z;
    CHECK_INT(compress_new(&z, CODEC_GZIP, 1, 2, refuse, NULL), 0);
    int r = compress_write(z, p, 4 << 20);
    CHECK(r == 0 || r == -ENOSPC);
    CHECK_INT(compress_end(z), -ENOSPC);
    compress_free(z);
    free(p);
}

TEST(unknown_formats) {
    struct buf b = BUF_SMALL;
    CHECK_INT(expand(SV("\xfd" "7zXZ\0abc"), 0, CODEC_NONE, 10, &b), -ENOTSUP);
    CHECK_INT(expand(SV("BZh91AY&SY"), 0, CODEC_NONE, 10, &b), -ENOTSUP);
    CHECK_INT(expand(SV("\x1f"), 0, CODEC_NONE, 10, &b), 0);
    CHECK_INT(b.n, 1);
    CHECK_INT(expand(SV("\x1f\x8b"), 0, CODEC_GZIP, 10, &b), -EBADMSG);
    buf_done(&b);
}
