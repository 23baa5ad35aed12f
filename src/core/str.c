#include "core/str.h"

bool sv_eq(struct sv a, struct sv b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
bool sv_eqs(struct sv a, const char *s) {
    if (a.n && a.p[0] != *s) /* most often the first character tells */
        return false;
    return sv_eq(a, sv_from(s));
}
static unsigned char lower(unsigned char c) {
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}
bool sv_ieqs(struct sv a, const char *s) {
    size_t n = strlen(s);
    if (a.n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (lower((unsigned char)a.p[i]) != lower((unsigned char)s[i]))
            return false;
    return true;
}
int sv_cmp(struct sv a, struct sv b) {
    size_t n = MIN(a.n, b.n);
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}
bool sv_starts(struct sv a, const char *prefix) {
    size_t n = strlen(prefix);
    return a.n >= n && memcmp(a.p, prefix, n) == 0;
}
bool sv_ends(struct sv a, const char *suffix) {
    size_t n = strlen(suffix);
    return a.n >= n && memcmp(a.p + a.n - n, suffix, n) == 0;
}
static bool blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}
struct sv sv_rtrim(struct sv a) {
    while (a.n && blank(a.p[a.n - 1]))
        a.n--;
    return a;
}
struct sv sv_trim(struct sv a) {
    a = sv_rtrim(a);
    while (a.n && blank(a.p[0]))
        a.p++, a.n--;
    return a;
}
struct sv sv_sub(struct sv a, size_t from, size_t n) {
    if (from > a.n)
        from = a.n;
    if (!a.p) /* NULL + 0 is undefined */
        return a;
    return (struct sv){a.p + from, MIN(n, a.n - from)};
}
ssize_t sv_find(struct sv a, struct sv needle) {
    if (!needle.n)
        return 0;
    if (a.n < needle.n)
        return -1;
    const char *p = memmem(a.p, a.n, needle.p, needle.n);
    return p ? p - a.p : -1;
}
ssize_t sv_chr(struct sv a, char c) {
    const char *p = a.n ? memchr(a.p, c, a.n) : NULL;
    return p ? p - a.p : -1;
}
ssize_t sv_rchr(struct sv a, char c) {
    const char *p = a.n ? memrchr(a.p, c, a.n) : NULL;
    return p ? p - a.p : -1;
}
bool sv_split(struct sv *rest, char c, struct sv *ret_head) {
    if (!rest->p)
        return false;
    ssize_t i = sv_chr(*rest, c);
    if (i < 0) {
        *ret_head = *rest;
        *rest = SV_NULL;
    } else {
        *ret_head = (struct sv){rest->p, (size_t)i};
        *rest = (struct sv){rest->p + i + 1, rest->n - (size_t)i - 1};
    }
    return true;
}
bool sv_line(struct sv *rest, struct sv *ret_line) {
    if (!rest->p || !rest->n)
        return false;
    sv_split(rest, '\n', ret_line);
    if (ret_line->n && ret_line->p[ret_line->n - 1] == '\r')
        ret_line->n--;
    return true;
}
char *sv_dup(struct sv a) {
    char *p = xmalloc(a.n + 1);
    if (a.n)
        memcpy(p, a.p, a.n);
    p[a.n] = 0;
    return p;
}
int sv_u64(struct sv a, uint64_t max, uint64_t *ret) {
    uint64_t v = 0;
    if (!a.n)
        return -EINVAL;
    for (size_t i = 0; i < a.n; i++) {
        if (a.p[i] < '0' || a.p[i] > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(a.p[i] - '0'), &v))
            return -ERANGE;
    }
    if (v > max)
        return -ERANGE;
    *ret = v;
    return 0;
}

/* --- buf ----------------------------------------------------------------------------------- */

void buf_done(struct buf *b) {
    int saved = errno;
    free(b->p);
    *b = (struct buf){.max = b->max};
    errno = saved;
}
void buf_reset(struct buf *b) {
    b->n = 0;
    b->failed = false;
    if (b->p)
        b->p[0] = 0;
}
bool buf_reserve(struct buf *b, size_t more) {
    assert(b->max);
    if (b->failed)
        return false;
    if (more > b->max || b->n > b->max - more) {
        b->failed = true;
        return false;
    }
    size_t want = b->n + more + 1;
    if (want > b->cap) {
        size_t cap = MAX(b->cap * 2, (size_t)64);
        if (cap < want)
            cap = want;
        b->p = xrealloc(b->p, cap);
        b->cap = cap;
    }
    return true;
}
void buf_add(struct buf *b, const void *p, size_t n) {
    if (!buf_reserve(b, n))
        return;
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}
void buf_addsv(struct buf *b, struct sv v) {
    buf_add(b, v.p, v.n);
}
void buf_adds(struct buf *b, const char *s) {
    buf_add(b, s, strlen(s));
}
void buf_addc(struct buf *b, char c) {
    buf_add(b, &c, 1);
}
void buf_addv(struct buf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    char small[256];
    int n = vsnprintf(small, sizeof small, fmt, ap);
    if (n >= 0 && (size_t)n < sizeof small) {
        buf_add(b, small, (size_t)n);
    } else if (n >= 0 && buf_reserve(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}
void buf_addf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_addv(b, fmt, ap);
    va_end(ap);
}
void buf_cut(struct buf *b, size_t from, size_t n) {
    assert(from <= b->n && n <= b->n - from);
    if (!n)
        return;
    memmove(b->p + from, b->p + from + n, b->n - from - n);
    b->n -= n;
    b->p[b->n] = 0;
}
const char *buf_str(struct buf *b) {
    return b->p ? b->p : "";
}
char *buf_take(struct buf *b) {
    char *p = b->p ? b->p : xcalloc(1, 1);
    *b = (struct buf){.max = b->max};
    return p;
}

/* --- strv ---------------------------------------------------------------------------------- */

void strv_take(struct strv *s, char *item) {
    GROW(s->v, s->cap, s->n + 2);
    s->v[s->n++] = item;
    s->v[s->n] = NULL;
}
void strv_add(struct strv *s, const char *item) {
    strv_take(s, xstrdup(item));
}
void strv_addn(struct strv *s, const char *item, size_t n) {
    strv_take(s, xstrndup(item, n));
}
void strv_addf(struct strv *s, const char *fmt, ...) {
    va_list ap;
    char *p = NULL;
    va_start(ap, fmt);
    if (vasprintf(&p, fmt, ap) < 0)
        abort();
    va_end(ap);
    strv_take(s, p);
}
void strv_extend(struct strv *s, const char *const *items) {
    for (; items && *items; items++)
        strv_add(s, *items);
}
bool strv_contains(const struct strv *s, const char *item) {
    for (size_t i = 0; i < s->n; i++)
        if (streq(s->v[i], item))
            return true;
    return false;
}
static int cmp_str(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}
void strv_sort(struct strv *s) {
    if (s->n > 1)
        qsort(s->v, s->n, sizeof *s->v, cmp_str);
}
void strv_done(struct strv *s) {
    int saved = errno;
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    *s = (struct strv){0};
    errno = saved;
}
static ssize_t env_index(const struct strv *s, const char *key) {
    size_t n = strlen(key);
    for (size_t i = 0; i < s->n; i++)
        if (strncmp(s->v[i], key, n) == 0 && s->v[i][n] == '=')
            return (ssize_t)i;
    return -1;
}
const char *strv_env_get(const struct strv *s, const char *key) {
    ssize_t i = env_index(s, key);
    return i < 0 ? NULL : s->v[i] + strlen(key) + 1;
}
void strv_env_set(struct strv *s, const char *key, const char *value) {
    char *item = xasprintf("%s=%s", key, value);
    ssize_t i = env_index(s, key);
    if (i < 0) {
        strv_take(s, item);
    } else {
        free(s->v[i]);
        s->v[i] = item;
    }
}
void strv_env_unset(struct strv *s, const char *key) {
    ssize_t i = env_index(s, key);
    if (i < 0)
        return;
    free(s->v[i]);
    memmove(s->v + i, s->v + i + 1, (s->n - (size_t)i) * sizeof *s->v);
    s->n--;
}

/* --- text forms ---------------------------------------------------------------------------- */

void buf_add_hex(struct buf *b, const void *p, size_t n) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *u = p;
    for (size_t i = 0; i < n; i++) {
        buf_addc(b, digits[u[i] >> 4]);
        buf_addc(b, digits[u[i] & 15]);
    }
}

static void add_base64(struct buf *b, const uint8_t *u, size_t n, const char *abc, bool pad) {
    for (size_t i = 0; i < n; i += 3) {
        size_t m = MIN(n - i, (size_t)3);
        uint32_t v = (uint32_t)u[i] << 16;
        if (m > 1)
            v |= (uint32_t)u[i + 1] << 8;
        if (m > 2)
            v |= u[i + 2];
        char q[4] = {abc[v >> 18], abc[v >> 12 & 63], abc[v >> 6 & 63], abc[v & 63]};
        if (pad)
            for (size_t k = m + 1; k < 4; k++)
                q[k] = '=';
        buf_add(b, q, pad ? 4 : m + 1);
    }
}
void buf_add_base64(struct buf *b, const void *p, size_t n) {
    add_base64(b, p, n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", true);
}
void buf_add_base64url(struct buf *b, const void *p, size_t n) {
    add_base64(b, p, n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", false);
}
static int base64_digit(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}
int base64_decode(struct sv in, struct buf *out) {
    uint32_t v = 0;
    unsigned bits = 0;
    size_t i = 0;
    for (; i < in.n && in.p[i] != '='; i++) {
        if (in.p[i] == '\n' || in.p[i] == '\r')
            continue;
        int d = base64_digit(in.p[i]);
        if (d < 0)
            return -EINVAL;
        v = v << 6 | (uint32_t)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            buf_addc(out, (char)(v >> bits & 255));
        }
    }
    for (; i < in.n; i++)
        if (in.p[i] != '=' && in.p[i] != '\n' && in.p[i] != '\r')
            return -EINVAL;
    if (bits == 6)
        return -EINVAL;
    return buf_ok(out) ? 0 : -EFBIG;
}
void buf_add_urlencoded(struct buf *b, struct sv v) {
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~';
        if (plain)
            buf_addc(b, c);
        else
            buf_addf(b, "%%%02X", (unsigned char)c);
    }
}

bool utf8_valid(struct sv v) {
    const unsigned char *p = (const unsigned char *)v.p, *end = p + v.n;
    while (p < end) {
        if (*p < 0x80) {
            p++;
            continue;
        }
        unsigned need;
        uint32_t c, least;
        if (*p >= 0xc2 && *p <= 0xdf)
            need = 1, c = *p & 0x1f, least = 0x80;
        else if (*p >= 0xe0 && *p <= 0xef)
            need = 2, c = *p & 0x0f, least = 0x800;
        else if (*p >= 0xf0 && *p <= 0xf4)
            need = 3, c = *p & 0x07, least = 0x10000;
        else
            return false;
        if ((size_t)(end - p) <= need)
            return false;
        for (unsigned i = 1; i <= need; i++) {
            if ((p[i] & 0xc0) != 0x80)
                return false;
            c = c << 6 | (p[i] & 0x3f);
        }
        if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return false;
        p += need + 1;
    }
    return true;
}

void buf_add_size(struct buf *b, uint64_t bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 999.5 && u + 1 < ELEMENTS(units))
        v /= 1000, u++;
    if (u == 0)
        buf_addf(b, "%u B", (unsigned)bytes);
    else
        buf_addf(b, v < 9.95 ? "%.1f %s" : "%.0f %s", v, units[u]);
}
void buf_add_duration(struct buf *b, uint64_t ns) {
    uint64_t ms = ns / 1000000;
    if (ms < 1000)
        buf_addf(b, "%u ms", (unsigned)ms);
    else if (ms < 60000)
        buf_addf(b, "%.1f s", (double)ms / 1000);
    else if (ms < 3600000)
        buf_addf(b, "%um %02us", (unsigned)(ms / 60000), (unsigned)(ms / 1000 % 60));
    else
        buf_addf(b, "%uh %02um", (unsigned)(ms / 3600000), (unsigned)(ms / 60000 % 60));
}
