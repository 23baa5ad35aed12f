/* The request head and body framing on any bytes: whole, and fed in pieces (the same result). */
#include "base/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int body(const struct http_head *h, const char *p, size_t n, size_t step, struct buf *out) {
    struct http_body b;
    http_body_init(&b, h);
    size_t at = 0;
    int r = h->framing == HTTP_NO_BODY;
    while (r == 0 && at < n) {
        size_t used;
        struct sv piece;
        size_t k = MIN(step, n - at);
        while (k && r == 0) {
            r = http_body_decode(&b, p + at, k, &used, &piece);
            if (r < 0)
                return r;
            assert(used <= k && piece.n <= used);
            buf_addsv(out, piece);
            assert(used > 0);
            at += used;
            k -= used;
        }
    }
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *p = (const char *)data;
    ssize_t end = http_head_end(p, size, 0);
    if (end <= 0)
        return 0;
    struct arena a = {0};
    struct http_head h;
    int status = http_head_parse(&a, sv_n(p, (size_t)end), &h);
    assert(status == 0 || (status >= 400 && status < 600));
    if (status == 0) {
        assert(strlen(h.path) <= strlen(h.raw_path) && h.n_fields <= HTTP_HEADERS_MAX);
        struct buf x = BUF_LARGE, y = BUF_LARGE;
        int r1 = body(&h, p + end, size - (size_t)end, size, &x);
        int r2 = body(&h, p + end, size - (size_t)end, 1, &y);
        assert(r1 == r2 && sv_eq(buf_sv(&x), buf_sv(&y)));
        buf_done(&x);
        buf_done(&y);
    }
    arena_done(&a);
    return 0;
}
