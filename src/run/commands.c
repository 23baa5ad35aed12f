#include "run/commands.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

static const char *const known[] = {"add-mask", "add-matcher", "add-path",   "debug",
                                    "echo",     "endgroup",    "error",      "group",
                                    "notice",   "remove-matcher", "save-state", "set-env",
                                    "set-output", "stop-commands", "warning"};

bool wcommand_known(struct sv name) {
    for (size_t i = 0; i < ELEMENTS(known); i++)
        if (sv_ieqs(name, known[i]))
            return true;
    return false;
}

/* Sequences that stand for a character; "%25" comes last, so that "%250A" gives "%0A". */
struct escape { const char *seq; char c; };
static const struct escape esc_data[] = {{"%0D", '\r'}, {"%0A", '\n'}, {"%25", '%'}};
static const struct escape esc_prop[] = {
    {"%0D", '\r'}, {"%0A", '\n'}, {"%3A", ':'}, {"%2C", ','}, {"%25", '%'}};
static const struct escape esc_old[] = {
    {"%3B", ';'}, {"%0D", '\r'}, {"%0A", '\n'}, {"%5D", ']'}, {"%25", '%'}};

/* One pass gives the same as the runner's successive replacements with %25 last: a sequence that
 * only arises from an unescaped % is never looked at again. */
static struct sv unescape(struct arena *a, struct sv in, const struct escape *t, size_t nt) {
    if (sv_chr(in, '%') < 0)
        return arena_sv(a, in);
    char *out = arena_alloc(a, in.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < in.n;) {
        size_t k = 0;
        if (in.p[i] == '%' && i + 3 <= in.n)
            for (; k < nt && memcmp(in.p + i, t[k].seq, 3) != 0; k++)
                ;
        else
            k = nt;
        if (k < nt) {
            out[n++] = t[k].c;
            i += 3;
        } else {
            out[n++] = in.p[i++];
        }
    }
    return sv_n(out, n);
}

static void parse_props(struct arena *a, struct sv text, char sep, const struct escape *t, size_t nt,
                        struct wcommand *c) {
    struct sv part;
    while (sv_split(&text, sep, &part)) {
        struct sv rest = part, key;
        if (sv_chr(part, '=') < 0 || !sv_split(&rest, '=', &key) || !rest.n)
            continue;
        if (c->n_props == ELEMENTS(c->props))
            return;
        c->props[c->n_props].key = arena_sv(a, sv_trim(key));
        c->props[c->n_props++].value = unescape(a, rest, t, nt);
    }
}

static struct sv ltrim(struct sv s) {
    while (s.n && (*s.p == ' ' || *s.p == '\t' || *s.p == '\r' || *s.p == '\v' || *s.p == '\f')) {
        s.p++;
        s.n--;
    }
    return s;
}

static bool parse_head(struct arena *a, struct sv head, char sep, const struct escape *t, size_t nt,
                       struct wcommand *c) {
    ssize_t sp = sv_chr(head, ' ');
    c->name = sp < 0 ? head : sv_sub(head, 0, (size_t)sp);
    if (!wcommand_known(c->name))
        return false;
    c->name = arena_sv(a, c->name);
    if (sp >= 0)
        parse_props(a, ltrim(sv_sub(head, (size_t)sp + 1, SIZE_MAX)), sep, t, nt, c);
    return true;
}

bool wcommand_parse(struct arena *a, struct sv line, struct wcommand *ret) {
    memset(ret, 0, sizeof *ret);
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    struct sv s = ltrim(line);
    if (sv_starts(s, "::")) {
        struct sv rest = sv_sub(s, 2, SIZE_MAX);
        ssize_t end = sv_find(rest, SV("::"));
        if (end > 0 && parse_head(a, sv_sub(rest, 0, (size_t)end), ',', esc_prop, ELEMENTS(esc_prop), ret)) {
            ret->data = unescape(a, sv_sub(rest, (size_t)end + 2, SIZE_MAX), esc_data, ELEMENTS(esc_data));
            return true;
        }
        memset(ret, 0, sizeof *ret);
    }
    ssize_t at = sv_find(line, SV("##["));
    if (at < 0)
        return false;
    struct sv rest = sv_sub(line, (size_t)at + 3, SIZE_MAX);
    ssize_t end = sv_chr(rest, ']');
    if (end <= 0 || !parse_head(a, sv_sub(rest, 0, (size_t)end), ';', esc_old, ELEMENTS(esc_old), ret))
        return false;
    ret->data = unescape(a, sv_sub(rest, (size_t)end + 1, SIZE_MAX), esc_old, ELEMENTS(esc_old));
    return true;
}

struct sv wcommand_prop(const struct wcommand *c, const char *key) {
    for (size_t i = 0; i < c->n_props; i++)
        if (sv_ieqs(c->props[i].key, key))
            return c->props[i].value;
    return SV_NULL;
}

size_t wcommand_scan(const char *p, size_t n, size_t from) {
    size_t i = from;
#ifdef __SSE2__
    const __m128i colon = _mm_set1_epi8(':'), hash = _mm_set1_epi8('#');
    for (; i + 17 <= n; i += 16) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(p + i + 1));
        __m128i hit = _mm_or_si128(_mm_and_si128(_mm_cmpeq_epi8(a, colon), _mm_cmpeq_epi8(b, colon)),
                                   _mm_and_si128(_mm_cmpeq_epi8(a, hash), _mm_cmpeq_epi8(b, hash)));
        unsigned bits = (unsigned)_mm_movemask_epi8(hit);
        while (bits) {
            size_t at = i + (size_t)__builtin_ctz(bits);
            if (p[at] == ':' || (at + 2 < n && p[at + 2] == '['))
                return at;
            bits &= bits - 1;
        }
    }
#endif
    for (; i + 1 < n; i++)
        if ((p[i] == ':' && p[i + 1] == ':') ||
            (p[i] == '#' && p[i + 1] == '#' && i + 2 < n && p[i + 2] == '['))
            return i;
    return n;
}
