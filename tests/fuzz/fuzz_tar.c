/* The tar reader on any bytes; what it accepts the writer must take and give back equal. */
#include "base/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *p;
    size_t n;
};
static ssize_t rd(void *arg, void *p, size_t n) {
    struct input *in = arg;
    n = MIN(n, in->n);
    if (n)
        memcpy(p, in->p, n);
    in->p += n;
    in->n -= n;
    return (ssize_t)n;
}
static int wr(void *arg, const void *p, size_t n) {
    buf_add(arg, p, n);
    return buf_ok(arg) ? 0 : -EFBIG;
}

static void again(const struct tar_entry *en) {
    struct buf b = BUF_MAX(4u << 20);
    struct tar_writer *w = tar_writer_new(wr, &b);
    struct tar_entry copy = *en;
    copy.size = 0;
    copy.dev_major &= 0xfff;
    copy.dev_minor &= 0xfff;
    if (tar_put(w, &copy) == 0 && tar_end(w) == 0) {
        struct input in = {(const uint8_t *)b.p, b.n};
        struct tar_reader *t = tar_reader_new(rd, &in);
        const struct tar_entry *back;
        assert(tar_next(t, &back, NULL) == 1);
        assert(strncmp(back->path, en->path, strlen(en->path)) == 0);
        assert(back->mtime == en->mtime && back->mtime_ns == en->mtime_ns && back->uid == en->uid);
        assert(back->n_xattrs == en->n_xattrs);
        tar_reader_free(t);
    }
    tar_writer_free(w);
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct tar_reader *t = tar_reader_new(rd, &in);
    const struct tar_entry *en;
    struct err e;
    char block[1000];
    while (tar_next(t, &en, &e) == 1) {
        again(en);
        while (tar_data(t, block, sizeof block) > 0)
            ;
    }
    tar_reader_free(t);
    return 0;
}
