#include "core/json.h"

#include <math.h>

#define MAX_DEPTH 128

struct parser {
    struct arena *a;
    const char *p, *end, *start, *line_start;
    uint32_t line;
    unsigned depth;
    struct err *e;
};

static int fail(struct parser *s, const char *what) {
    struct span at = {NULL, s->line, (uint32_t)(s->p - s->line_start) + 1, 0, 0};
    err_set(s->e, ERR_USER, -EBADMSG, "JSON, line %u column %u: %s", at.line, at.col, what);
    return err_at(s->e, -EBADMSG, at);
}

static void skip(struct parser *s) {
    while (s->p < s->end) {
        if (*s->p == '\n') {
            s->line++;
            s->line_start = s->p + 1;
        } else if (*s->p != ' ' && *s->p != '\t' && *s->p != '\r') {
            return;
        }
        s->p++;
    }
}

static int hex4(struct parser *s, uint32_t *ret) {
    if (s->end - s->p < 4)
        return fail(s, "short \\u escape");
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = s->p[i];
        uint32_t d;
        if (c >= '0' && c <= '9')
            d = (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            d = (uint32_t)((c | 32) - 'a') + 10;
        else
            return fail(s, "bad \\u escape");
        v = v << 4 | d;
    }
    s->p += 4;
    *ret = v;
    return 0;
}

static size_t put_utf8(char *to, uint32_t c) {
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 63));
        to[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 63));
    to[2] = (char)(0x80 | (c >> 6 & 63));
    to[3] = (char)(0x80 | (c & 63));
    return 4;
}

static int escape(struct parser *s, char *to, size_t *n) {
    static const char from[] = "\"\\/bfnrt", is[] = "\"\\/\b\f\n\r\t";
    if (s->p == s->end)
        return fail(s, "string without an end");
    char c = *s->p++;
    const char *k = c ? strchr(from, c) : NULL;
    if (k) {
        to[(*n)++] = is[k - from];
        return 0;
    }
    if (c != 'u')
        return fail(s, "bad escape");
    uint32_t v = 0, low = 0;
    int r = hex4(s, &v);
    if (r < 0)
        return r;
    if (v >= 0xd800 && v < 0xdc00 && s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u') {
        const char *back = s->p;
        s->p += 2;
        if ((r = hex4(s, &low)) < 0)
            return r;
        if (low >= 0xdc00 && low < 0xe000)
            v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
        else
            s->p = back;
    }
    if (v >= 0xd800 && v < 0xe000)
        v = 0xfffd;
    *n += put_utf8(to + *n, v);
    return 0;
}

static int string(struct parser *s, struct sv *ret) {
    s->p++;
    const char *q = s->p;
    while (q < s->end && *q != '"' && *q != '\\' && (unsigned char)*q >= 32)
        q++;
    if (q < s->end && *q == '"') { /* nothing to decode */
        *ret = arena_sv(s->a, sv_n(s->p, (size_t)(q - s->p)));
        s->p = q + 1;
        return 0;
    }
    size_t room = 0; /* find the end: the decoded text is never longer */
    for (q = s->p; q < s->end && *q != '"'; q++) {
        if (*q == '\\')
            q++;
        room += 2;
    }
    char *to = arena_alloc(s->a, room + 5);
    size_t n = 0;
    for (;;) {
        if (s->p >= s->end)
            return fail(s, "string without an end");
        unsigned char c = (unsigned char)*s->p++;
        if (c == '"')
            break;
        if (c < 32)
            return s->p--, fail(s, "control character in a string");
        if (c == '\\') {
            int r = escape(s, to, &n);
            if (r < 0)
                return r;
        } else {
            to[n++] = (char)c;
        }
    }
    to[n] = 0;
    *ret = (struct sv){to, n};
    return 0;
}

static int number(struct parser *s, struct json *j) {
    const char *b = s->p;
    if (*s->p == '-')
        s->p++;
    const char *digits = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    if (s->p == digits || (*digits == '0' && s->p - digits > 1))
        return s->p = b, fail(s, "bad number");
    if (s->p < s->end && *s->p == '.') {
        const char *f = ++s->p;
        while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
            s->p++;
        if (s->p == f)
            return s->p = b, fail(s, "bad number");
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        const char *x = s->p;
        while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
            s->p++;
        if (s->p == x)
            return s->p = b, fail(s, "bad number");
    }
    j->kind = JSON_NUMBER;
    j->text = arena_sv(s->a, sv_n(b, (size_t)(s->p - b)));
    j->number = strtod(j->text.p, NULL);
    return 0;
}

static int value(struct parser *s, struct json **ret);

static int members(struct parser *s, struct json *j, bool object) {
    char close = object ? '}' : ']';
    size_t cap = 0, kcap = 0;
    struct json **items = NULL; /* malloced while growing, moved into the arena at the end */
    struct sv *keys = NULL;
    int r = 0;
    s->p++;
    if (++s->depth > MAX_DEPTH)
        return fail(s, "nested too deeply");
    skip(s);
    if (s->p < s->end && *s->p == close) {
        s->p++;
        s->depth--;
        return 0;
    }
    for (;;) {
        skip(s);
        if (object) {
            if (s->p >= s->end || *s->p != '"') {
                r = fail(s, "expected a key");
                break;
            }
            GROW(keys, kcap, j->n + 1);
            if ((r = string(s, &keys[j->n])) < 0)
                break;
            skip(s);
            if (s->p >= s->end || *s->p != ':') {
                r = fail(s, "expected ':'");
                break;
            }
            s->p++;
        }
        GROW(items, cap, j->n + 1);
        if ((r = value(s, &items[j->n])) < 0)
            break;
        j->n++;
        skip(s);
        if (s->p >= s->end) {
            r = fail(s, "unexpected end");
            break;
        }
        char c = *s->p;
        if (c != ',' && c != close) {
            r = fail(s, object ? "expected ',' or '}'" : "expected ',' or ']'");
            break;
        }
        s->p++;
        if (c == close)
            break;
    }
    if (r == 0) {
        j->items = ARENA_ARRAY(s->a, struct json *, j->n);
        memcpy(j->items, items, j->n * sizeof *items);
        if (object) {
            j->keys = ARENA_ARRAY(s->a, struct sv, j->n);
            memcpy(j->keys, keys, j->n * sizeof *keys);
        }
    }
    free(items);
    free(keys);
    s->depth--;
    return r;
}

static int value(struct parser *s, struct json **ret) {
    skip(s);
    if (s->p >= s->end)
        return fail(s, "unexpected end");
    struct json *j = ARENA_NEW(s->a, struct json);
    j->line = s->line;
    j->col = (uint32_t)(s->p - s->line_start) + 1;
    size_t left = (size_t)(s->end - s->p);
    int r = 0;
    switch (*s->p) {
    case '{':
        j->kind = JSON_OBJECT;
        r = members(s, j, true);
        break;
    case '[':
        j->kind = JSON_ARRAY;
        r = members(s, j, false);
        break;
    case '"':
        j->kind = JSON_STRING;
        r = string(s, &j->text);
        break;
    default:
        if (left >= 4 && !memcmp(s->p, "true", 4)) {
            j->kind = JSON_BOOL;
            j->boolean = true;
            s->p += 4;
        } else if (left >= 5 && !memcmp(s->p, "false", 5)) {
            j->kind = JSON_BOOL;
            s->p += 5;
        } else if (left >= 4 && !memcmp(s->p, "null", 4)) {
            s->p += 4;
        } else if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9')) {
            r = number(s, j);
        } else {
            r = fail(s, "unexpected character");
        }
    }
    if (r == 0)
        *ret = j;
    return r;
}

int json_parse(struct arena *a, struct sv text, struct json **ret, struct err *e) {
    const char *p = text.p ? text.p : "";
    struct parser s = {a, p, p + text.n, p, p, 1, 0, e};
    if (text.n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
        s.p += 3;
    struct json *j = NULL;
    int r = value(&s, &j);
    if (r < 0)
        return r;
    skip(&s);
    if (s.p != s.end)
        return fail(&s, "something follows the value");
    *ret = j;
    return 0;
}

/* --- access ------------------------------------------------------------------------------------ */

const struct json *json_get(const struct json *o, const char *key) {
    if (!o || o->kind != JSON_OBJECT)
        return NULL;
    for (size_t i = o->n; i-- > 0;)
        if (sv_eqs(o->keys[i], key))
            return o->items[i];
    return NULL;
}
const struct json *json_path(const struct json *o, const char *dotted) {
    struct sv rest = sv_from(dotted), part;
    while (o && sv_split(&rest, '.', &part)) {
        char key[128];
        if (part.n >= sizeof key)
            return NULL;
        memcpy(key, part.p, part.n);
        key[part.n] = 0;
        o = json_get(o, key);
    }
    return o;
}
struct sv json_sv(const struct json *j) {
    return j && j->kind == JSON_STRING ? j->text : SV_NULL;
}
const char *json_str(const struct json *j, const char *dflt) {
    if (!j || j->kind != JSON_STRING || strlen(j->text.p) != j->text.n)
        return dflt;
    return j->text.p;
}
const char *json_get_str(const struct json *o, const char *key, const char *dflt) {
    return json_str(json_get(o, key), dflt);
}
int64_t json_int(const struct json *j, int64_t dflt) {
    if (!j || j->kind != JSON_NUMBER)
        return dflt;
    errno = 0;
    char *end;
    long long v = strtoll(j->text.p, &end, 10);
    if (!*end && !errno)
        return v;
    return j->number >= -9e18 && j->number <= 9e18 ? (int64_t)j->number : dflt;
}
int64_t json_get_int(const struct json *o, const char *key, int64_t dflt) {
    return json_int(json_get(o, key), dflt);
}
bool json_bool(const struct json *j, bool dflt) {
    return j && j->kind == JSON_BOOL ? j->boolean : dflt;
}
bool json_get_bool(const struct json *o, const char *key, bool dflt) {
    return json_bool(json_get(o, key), dflt);
}

/* --- writer -------------------------------------------------------------------------------------- */

/* Length of the valid UTF-8 sequence at p, or 0. */
static size_t utf8_len(const unsigned char *p, size_t n) {
    size_t len = *p < 0x80 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
    return len <= n && utf8_valid(sv_n((const char *)p, len)) ? len : 0;
}

void json_escape(struct buf *b, struct sv s) {
    buf_addc(b, '"');
    size_t from = 0;
    for (size_t i = 0; i < s.n;) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 32 && c != '"' && c != '\\' && c < 0x7f) {
            i++;
            continue;
        }
        size_t len = c >= 0x80 ? utf8_len((const unsigned char *)s.p + i, s.n - i) : 0;
        if (len) {
            i += len;
            continue;
        }
        buf_add(b, s.p + from, i - from);
        static const char raw[] = "\"\\\n\r\t\b\f", esc[] = "\"\\nrtbf";
        const char *k = c ? strchr(raw, c) : NULL;
        if (k) {
            char two[2] = {'\\', esc[k - raw]};
            buf_add(b, two, 2);
        } else if (c >= 0x80) {
            buf_adds(b, "\xef\xbf\xbd");
        } else {
            buf_addf(b, "\\u%04x", c);
        }
        from = ++i;
    }
    buf_add(b, s.p + from, s.n - from);
    buf_addc(b, '"');
}

void jw_init(struct json_w *w, struct buf *b, unsigned indent) {
    *w = (struct json_w){.b = b, .indent = indent};
}
static void newline(struct json_w *w) {
    if (!w->indent)
        return;
    buf_addc(w->b, '\n');
    for (unsigned i = 0; i < w->indent * w->depth; i++)
        buf_addc(w->b, ' ');
}
static void before(struct json_w *w) {
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->comma[w->depth])
        buf_addc(w->b, ',');
    w->comma[w->depth] = true;
    if (w->depth)
        newline(w);
}
static void open_(struct json_w *w, char c) {
    before(w);
    buf_addc(w->b, c);
    assert(w->depth < 64);
    w->comma[++w->depth] = false;
}
static void close_(struct json_w *w, char c) {
    assert(w->depth);
    bool any = w->comma[w->depth];
    w->depth--;
    if (any)
        newline(w);
    buf_addc(w->b, c);
}
void jw_obj(struct json_w *w) { open_(w, '{'); }
void jw_end_obj(struct json_w *w) { close_(w, '}'); }
void jw_arr(struct json_w *w) { open_(w, '['); }
void jw_end_arr(struct json_w *w) { close_(w, ']'); }
void jw_keysv(struct json_w *w, struct sv key) {
    before(w);
    json_escape(w->b, key);
    buf_adds(w->b, w->indent ? ": " : ":");
    w->after_key = true;
}
void jw_key(struct json_w *w, const char *key) { jw_keysv(w, sv_from(key)); }
void jw_sv(struct json_w *w, struct sv s) {
    before(w);
    json_escape(w->b, s);
}
void jw_str(struct json_w *w, const char *s) {
    if (s)
        jw_sv(w, sv_from(s));
    else
        jw_null(w);
}
void jw_int(struct json_w *w, int64_t v) {
    before(w);
    buf_addf(w->b, "%lld", (long long)v);
}
void jw_uint(struct json_w *w, uint64_t v) {
    before(w);
    buf_addf(w->b, "%llu", (unsigned long long)v);
}
void jw_double(struct json_w *w, double v) {
    before(w);
    if (!isfinite(v)) {
        buf_adds(w->b, "null");
        return;
    }
    char t[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(t, sizeof t, "%.*g", digits, v);
        if (strtod(t, NULL) == v)
            break;
    }
    buf_adds(w->b, t);
}
void jw_bool(struct json_w *w, bool v) {
    before(w);
    buf_adds(w->b, v ? "true" : "false");
}
void jw_null(struct json_w *w) {
    before(w);
    buf_adds(w->b, "null");
}
void jw_raw(struct json_w *w, struct sv json) {
    before(w);
    buf_addsv(w->b, json);
}
void jw_json(struct json_w *w, const struct json *j) {
    switch (j ? j->kind : JSON_NULL) {
    case JSON_NULL:
        jw_null(w);
        break;
    case JSON_BOOL:
        jw_bool(w, j->boolean);
        break;
    case JSON_NUMBER:
        jw_raw(w, j->text);
        break;
    case JSON_STRING:
        jw_sv(w, j->text);
        break;
    case JSON_ARRAY:
        jw_arr(w);
        for (size_t i = 0; i < j->n; i++)
            jw_json(w, j->items[i]);
        jw_end_arr(w);
        break;
    case JSON_OBJECT:
        jw_obj(w);
        for (size_t i = 0; i < j->n; i++) {
            jw_keysv(w, j->keys[i]);
            jw_json(w, j->items[i]);
        }
        jw_end_obj(w);
        break;
    }
}
void jw_kstr(struct json_w *w, const char *key, const char *s) {
    jw_key(w, key);
    jw_str(w, s);
}
void jw_kint(struct json_w *w, const char *key, int64_t v) {
    jw_key(w, key);
    jw_int(w, v);
}
void jw_kbool(struct json_w *w, const char *key, bool v) {
    jw_key(w, key);
    jw_bool(w, v);
}
