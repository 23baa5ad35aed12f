#include "base/http_parse.h"

#include <strings.h>

enum { CHUNK_LINE_MAX = 256, TRAILERS_MAX = 8 << 10 };
enum chunk_state { SIZE, EXT, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LINE, TRAILER_LF, LAST_LF, DONE };

static bool token_char(unsigned char c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool token(struct sv s) {
    for (size_t i = 0; i < s.n; i++)
        if (!token_char((unsigned char)s.p[i]))
            return false;
    return s.n > 0;
}

ssize_t http_head_end(const char *p, size_t n, size_t from) {
    size_t i = from > 3 ? from - 3 : 0;
    while (i < n) {
        const char *lf = memchr(p + i, '\n', n - i);
        if (!lf)
            return 0;
        i = (size_t)(lf - p);
        if (i == 0 || p[i - 1] != '\r')
            return -1;
        if (i >= 3 && p[i - 2] == '\n' && p[i - 3] == '\r')
            return (ssize_t)i + 1;
        i++;
    }
    return 0;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

char *http_unescape(struct arena *a, struct sv s, bool plus) {
    char *out = arena_alloc(a, s.n + 1);
    size_t k = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            int hi = i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
            int lo = i + 2 < s.n ? hex_digit(s.p[i + 2]) : -1;
            if (hi < 0 || lo < 0)
                return NULL;
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (!c)
            return NULL;
        out[k++] = c;
    }
    return out;
}

static int parse_target(struct arena *a, struct sv target, struct http_head *h) {
    if (target.n > HTTP_TARGET_MAX)
        return 414;
    for (size_t i = 0; i < target.n; i++)
        if ((unsigned char)target.p[i] <= 0x20 || target.p[i] == 0x7f || target.p[i] == '#')
            return 400;
    if (sv_starts(target, "http://") || sv_starts(target, "https://")) { /* absolute form */
        struct sv rest = sv_sub(target, 7 + (target.p[4] == 's'), target.n);
        ssize_t slash = sv_chr(rest, '/');
        target = slash < 0 ? SV("/") : sv_sub(rest, (size_t)slash, rest.n);
    }
    if (!target.n || (target.p[0] != '/' && !sv_eqs(target, "*")))
        return 400;
    ssize_t q = sv_chr(target, '?');
    struct sv path = q < 0 ? target : sv_sub(target, 0, (size_t)q);
    struct sv query = q < 0 ? SV("") : sv_sub(target, (size_t)q + 1, target.n);
    h->raw_path = arena_strndup(a, path.p, path.n);
    h->query = arena_strndup(a, query.p, query.n);
    h->path = http_unescape(a, path, false);
    return h->path ? 0 : 400;
}

static int parse_request_line(struct arena *a, struct sv line, struct http_head *h) {
    ssize_t s1 = sv_chr(line, ' '), s2 = sv_rchr(line, ' ');
    if (s1 <= 0 || s2 <= s1)
        return 400;
    struct sv method = sv_sub(line, 0, (size_t)s1), version = sv_sub(line, (size_t)s2 + 1, line.n);
    if (!token(method) || method.n > 32)
        return 400;
    if (version.n != 8 || !sv_starts(version, "HTTP/") || version.p[6] != '.')
        return 400;
    if (!sv_eqs(version, "HTTP/1.1") && !sv_eqs(version, "HTTP/1.0"))
        return 505;
    h->minor = (unsigned)(version.p[7] - '0');
    h->method = arena_strndup(a, method.p, method.n);
    return parse_target(a, sv_sub(line, (size_t)s1 + 1, (size_t)(s2 - s1 - 1)), h);
}

static int parse_field(struct arena *a, struct sv line, struct http_head *h) {
    ssize_t colon = sv_chr(line, ':');
    if (colon <= 0)
        return 400;
    struct sv name = sv_sub(line, 0, (size_t)colon), value = sv_sub(line, (size_t)colon + 1, line.n);
    if (!token(name))
        return 400;
    while (value.n && (value.p[0] == ' ' || value.p[0] == '\t'))
        value = sv_sub(value, 1, value.n);
    while (value.n && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
        value.n--;
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return 400;
    }
    if (h->n_fields == HTTP_HEADERS_MAX)
        return 431;
    char *low = arena_strndup(a, name.p, name.n);
    for (char *p = low; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 32);
    h->fields[h->n_fields++] = (struct http_field){low, arena_strndup(a, value.p, value.n)};
    return 0;
}

const char *http_head_get(const struct http_head *h, const char *name) {
    for (size_t i = 0; i < h->n_fields; i++)
        if (strcasecmp(h->fields[i].name, name) == 0)
            return h->fields[i].value;
    return NULL;
}

static bool list_has(const char *list, const char *word) {
    struct sv rest = sv_from(list), item;
    while (sv_split(&rest, ',', &item))
        if (sv_ieqs(sv_trim(item), word))
            return true;
    return false;
}

static unsigned count(const struct http_head *h, const char *name) {
    unsigned n = 0;
    for (size_t i = 0; i < h->n_fields; i++)
        n += streq(h->fields[i].name, name);
    return n;
}

/* What the fields say about the connection and the body. */
static int parse_framing(struct http_head *h) {
    const char *te = http_head_get(h, "transfer-encoding"), *cl = http_head_get(h, "content-length");
    unsigned hosts = count(h, "host");
    if (hosts > 1 || (h->minor == 1 && hosts == 0))
        return 400;
    if (te) {
        if (cl || h->minor == 0 || count(h, "transfer-encoding") > 1)
            return 400;
        if (strcasecmp(te, "chunked") != 0)
            return 501;
        h->framing = HTTP_CHUNKED;
    } else if (cl) {
        if (count(h, "content-length") > 1 || sv_u64(sv_from(cl), INT64_MAX, &h->length) < 0)
            return 400;
        h->framing = h->length ? HTTP_LENGTH : HTTP_NO_BODY;
    }
    h->keep_alive = h->minor == 1;
    for (size_t i = 0; i < h->n_fields; i++) {
        if (!streq(h->fields[i].name, "connection"))
            continue;
        if (list_has(h->fields[i].value, "close"))
            h->keep_alive = false;
        if (list_has(h->fields[i].value, "upgrade")) {
            const char *u = http_head_get(h, "upgrade");
            if (u && token(sv_from(u)))
                h->upgrade = u;
        }
    }
    const char *expect = http_head_get(h, "expect");
    if (expect && strcasecmp(expect, "100-continue") != 0)
        return 417;
    h->expect_continue = expect && h->minor == 1 && h->framing != HTTP_NO_BODY;
    return 0;
}

int http_head_parse(struct arena *a, struct sv head, struct http_head *ret) {
    struct http_head *h = ret;
    memset(h, 0, sizeof *h);
    if (sv_starts(head, "\r\n")) /* one empty line before is tolerated (RFC 9112, 2.2) */
        head = sv_sub(head, 2, head.n);
    bool first = true;
    while (head.n) {
        const char *lf = memchr(head.p, '\n', head.n);
        if (!lf || lf == head.p || lf[-1] != '\r')
            return 400;
        struct sv line = sv_n(head.p, (size_t)(lf - head.p) - 1);
        head = sv_sub(head, (size_t)(lf - head.p) + 1, head.n);
        if (memchr(line.p, '\r', line.n) || memchr(line.p, 0, line.n))
            return 400;
        if (!line.n)
            return first || head.n ? 400 : parse_framing(h);
        int r = first ? parse_request_line(a, line, h) : parse_field(a, line, h);
        if (r)
            return r;
        first = false;
    }
    return 400;
}

void http_body_init(struct http_body *b, const struct http_head *h) {
    *b = (struct http_body){.framing = h->framing, .left = h->length};
    if (b->framing == HTTP_NO_BODY)
        b->state = DONE;
}

/* One byte of chunk framing. */
static int chunk_byte(struct http_body *b, char c) {
    switch ((enum chunk_state)b->state) {
    case SIZE: {
        int d = hex_digit(c);
        if (d >= 0 && b->digits < 15) {
            b->left = b->left << 4 | (uint64_t)d;
            b->digits++;
        } else if (!b->digits || d >= 0) {
            return -EBADMSG;
        } else if (c == '\r') {
            b->state = SIZE_LF;
        } else if (c == ';' || c == ' ' || c == '\t') {
            b->state = EXT;
        } else {
            return -EBADMSG;
        }
        return 0;
    }
    case EXT:
        if (c == '\r')
            b->state = SIZE_LF;
        else if (((unsigned char)c < 0x20 && c != '\t') || ++b->line > CHUNK_LINE_MAX)
            return -EBADMSG;
        return 0;
    case SIZE_LF:
        b->state = b->left ? DATA : TRAILER;
        b->line = 0;
        b->digits = 0;
        return c == '\n' ? 0 : -EBADMSG;
    case DATA_CR:
        b->state = DATA_LF;
        return c == '\r' ? 0 : -EBADMSG;
    case DATA_LF:
        b->state = SIZE;
        return c == '\n' ? 0 : -EBADMSG;
    case TRAILER: /* at the start of a line */
        b->state = c == '\r' ? LAST_LF : TRAILER_LINE;
        return ++b->trailers > TRAILERS_MAX || c == '\n' || c == 0 ? -EBADMSG : 0;
    case TRAILER_LINE:
        if (c == '\r')
            b->state = TRAILER_LF;
        return ++b->trailers > TRAILERS_MAX || c == '\n' || c == 0 ? -EBADMSG : 0;
    case TRAILER_LF:
        b->state = TRAILER;
        return c == '\n' ? 0 : -EBADMSG;
    case LAST_LF:
        b->state = DONE;
        return c == '\n' ? 0 : -EBADMSG;
    default:
        return -EBADMSG;
    }
}

int http_body_decode(struct http_body *b, const char *p, size_t n, size_t *ret_used, struct sv *ret_data) {
    *ret_used = 0;
    *ret_data = SV_NULL;
    if (b->framing == HTTP_LENGTH && b->state != DONE) {
        size_t k = (size_t)MIN((uint64_t)n, b->left);
        *ret_used = k;
        *ret_data = sv_n(p, k);
        b->left -= k;
        if (!b->left)
            b->state = DONE;
        return b->left == 0;
    }
    size_t i = 0;
    while (i < n && b->state != DONE) {
        if (b->state == DATA) {
            size_t k = (size_t)MIN((uint64_t)(n - i), b->left);
            *ret_data = sv_n(p + i, k);
            *ret_used = i + k;
            b->left -= k;
            if (!b->left)
                b->state = DATA_CR;
            return 0;
        }
        int r = chunk_byte(b, p[i++]);
        if (r < 0)
            return r;
    }
    *ret_used = i;
    return b->state == DONE;
}
