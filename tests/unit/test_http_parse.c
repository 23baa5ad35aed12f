#include "test.h"

#include "base/http_parse.h"

static struct arena a;
static struct http_head h;

static int parse(const char *text) {
    arena_done(&a);
    memset(&a, 0, sizeof a);
    size_t n = strlen(text);
    ssize_t end = http_head_end(text, n, 0);
    if (end < 0)
        return 400;
    return http_head_parse(&a, sv_n(text, end ? (size_t)end : n), &h);
}
#define H "Host: x\r\n"

TEST(good_heads) {
    CHECK_INT(parse("GET /v2/a%2Fb?x=1 HTTP/1.1\r\n" H "X-Y:  v \r\n\r\n"), 0);
    CHECK_STR(h.method, "GET");
    CHECK_STR(h.path, "/v2/a/b");
    CHECK_STR(h.raw_path, "/v2/a%2Fb");
    CHECK_STR(h.query, "x=1");
    CHECK_STR(http_head_get(&h, "X-y"), "v");
    CHECK(h.keep_alive && h.framing == HTTP_NO_BODY);
    CHECK_INT(parse("GET / HTTP/1.0\r\n\r\n"), 0);
    CHECK(!h.keep_alive);
    CHECK_INT(parse("POST / HTTP/1.1\r\n" H "Connection: Upgrade, close\r\nUpgrade: tcp\r\n\r\n"), 0);
    CHECK_STR(h.upgrade, "tcp");
    CHECK(!h.keep_alive);
    CHECK_INT(parse("GET http://y/p HTTP/1.1\r\n" H "\r\n"), 0);
    CHECK_STR(h.path, "/p");
}

TEST(bad_heads) {
    static const struct { const char *text; int status; } t[] = {
        {"GET / HTTP/1.1\r\n\r\n", 400}, /* no Host */
        {"GET / HTTP/1.1\r\n" H H "\r\n", 400},
        {"GET  / HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /\tx HTTP/1.1\r\n" H "\r\n", 400},
        {"GET / HTTP/2.0\r\n" H "\r\n", 505},
        {"GET / http/1.1\r\n" H "\r\n", 400},
        {"G(T / HTTP/1.1\r\n" H "\r\n", 400},
        {"GET x HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /%zz HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /%00 HTTP/1.1\r\n" H "\r\n", 400},
        {"GET / HTTP/1.1\n" H "\r\n", 400},
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H " folded\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "A: b\rc\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "A: \x01\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: +1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Expect: magic\r\n\r\n", 417},
        {"\r\n\r\n", 400},
    };
    for (size_t i = 0; i < ELEMENTS(t); i++)
        CHECK_INT(parse(t[i].text), t[i].status);
    _cleanup_buf_ struct buf b = BUF_LARGE;
    buf_adds(&b, "GET /");
    for (int i = 0; i < 9000; i++)
        buf_addc(&b, 'a');
    buf_adds(&b, " HTTP/1.1\r\n" H "\r\n");
    CHECK_INT(parse(buf_str(&b)), 414);
    buf_reset(&b);
    buf_adds(&b, "GET / HTTP/1.1\r\n" H);
    for (int i = 0; i < 100; i++)
        buf_adds(&b, "A: b\r\n");
    buf_adds(&b, "\r\n");
    CHECK_INT(parse(buf_str(&b)), 431);
}

TEST(incomplete) {
    CHECK_INT(http_head_end("GET / HTTP/1.1\r\n", 16, 0), 0);
    CHECK_INT(http_head_end("GET / HTTP/1.1\r\n\r\nbody", 22, 16), 18);
}

static int chunked(const char *text, struct buf *out) {
    struct http_head head = {.framing = HTTP_CHUNKED};
    struct http_body b;
    http_body_init(&b, &head);
    size_t n = strlen(text), at = 0, used;
    int r = 0;
    while (at < n && r == 0) {
        struct sv piece;
        r = http_body_decode(&b, text + at, n - at, &used, &piece);
        if (r >= 0)
            buf_addsv(out, piece);
        at += used;
    }
    return r;
}

TEST(chunks) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    CHECK_INT(chunked("5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nT: v\r\n\r\n", &b), 1);
    CHECK_STR(buf_str(&b), "hello!");
    CHECK_INT(chunked("5\r\nhello", &b), 0);
    CHECK_INT(chunked("\r\n", &b), -EBADMSG);
    CHECK_INT(chunked("5\nhello\r\n", &b), -EBADMSG);
    CHECK_INT(chunked("2\r\nhello\r\n", &b), -EBADMSG);
    CHECK_INT(chunked("-1\r\n", &b), -EBADMSG);
    CHECK_INT(chunked("0x5\r\n", &b), -EBADMSG);
    CHECK_INT(chunked("1111111111111111\r\n", &b), -EBADMSG);
}
