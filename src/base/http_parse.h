#pragma once
/* The strict HTTP/1.1 request head and body framing (RFC 9112), without any I/O: used by the
 * server and the fuzzer. What is ambiguous is refused (400): bare LF, white space around names,
 * folded lines, both or several of Content-Length and Transfer-Encoding. */
#include "core/arena.h"

enum { HTTP_HEAD_MAX = 64 << 10, HTTP_HEADERS_MAX = 100, HTTP_TARGET_MAX = 8 << 10 };
enum http_framing { HTTP_NO_BODY, HTTP_LENGTH, HTTP_CHUNKED };
struct http_field {
    const char *name; /* lower-cased */
    const char *value;
};
struct http_head {
    const char *method, *raw_path, *path, *query; /* raw_path without the query; query may be "" */
    unsigned minor;                               /* HTTP/1.minor */
    struct http_field fields[HTTP_HEADERS_MAX];
    size_t n_fields;
    enum http_framing framing;
    uint64_t length;
    bool keep_alive, expect_continue;
    const char *upgrade; /* or NULL */
};
/* Length of the head in p (with its empty line), 0 = not complete, -1 = a bare LF in it. `from`:
 * how much was looked at before. */
ssize_t http_head_end(const char *p, size_t n, size_t from);
/* head includes the empty line. 0, or the status to refuse with. Strings live in a. */
int http_head_parse(struct arena *a, struct sv head, struct http_head *ret);
const char *http_head_get(const struct http_head *h, const char *name);
/* Percent-decodes; plus: '+' is a space. NULL for a bad escape or a NUL. */
char *http_unescape(struct arena *a, struct sv s, bool plus);

/* Decodes a body. Each call takes some of p[0..n): *ret_used says how much, *ret_data is the next
 * piece of content (inside p, may be empty). 1 = the body is complete, 0 = go on, -EBADMSG. */
struct http_body {
    enum http_framing framing;
    uint64_t left;
    int state;
    size_t line; /* bytes of the current chunk or trailer line */
    unsigned digits;
    size_t trailers;
};
void http_body_init(struct http_body *b, const struct http_head *h);
int http_body_decode(struct http_body *b, const char *p, size_t n, size_t *ret_used, struct sv *ret_data);
