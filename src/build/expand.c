/* A recursive scanner over one word. process() reads until a stop character or the end; a `$` calls
 * dollar(), which may call process() again for the word of an operator. Patterns of # % and / keep
 * their escapes until they are matched. */
#include "build/expand.h"

#define MAX_RESULT (1u << 20)
#define MAX_DEPTH 64
#define MAX_MATCH_WORK 50000000u

struct scan {
    const struct expand *x;
    const char *p, *end;
    struct err *e;
    unsigned depth;
    bool raw_escapes;
    struct strv *words; /* splitting: finished words, or NULL */
    bool in_word;
};

static int process(struct scan *s, int stop, struct buf *out);

static int fail(struct scan *s, const char *msg) { return err_set(s->e, ERR_USER, -EINVAL, "%s", msg); }

static void word_end(struct scan *s, struct buf *out) {
    if (s->in_word && out->n) {
        strv_addn(s->words, buf_str(out), out->n);
        buf_reset(out);
    }
    s->in_word = false;
}

/* Text of a value: splits at its blanks when words are wanted (outside quotes only). */
static void put_value(struct scan *s, struct buf *out, struct sv v, bool quoted) {
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        if (s->words && !quoted && (c == ' ' || c == '\t' || c == '\n')) {
            word_end(s, out);
        } else {
            buf_addc(out, c);
            s->in_word = true;
        }
    }
}

static struct sv name_read(struct scan *s) {
    const char *b = s->p;
    if (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
            s->p++;
    } else if (s->p < s->end && strchr("@*#?-$!", *s->p) && *s->p) {
        s->p++;
    } else {
        while (s->p < s->end && (((*s->p | 32) >= 'a' && (*s->p | 32) <= 'z') || (*s->p >= '0' && *s->p <= '9') ||
                                 *s->p == '_' || (unsigned char)*s->p >= 0x80))
            s->p++;
    }
    return sv_n(b, (size_t)(s->p - b));
}

/* --- patterns ------------------------------------------------------------------------------ */

struct pattern {
    unsigned char *c;
    unsigned char *kind; /* 0 literal, 1 '?', 2 '*' */
    size_t n;
};

/* The escape of patterns is \\ whatever the file's is, and stands before * ? \\ } / only. */
static int pattern_read(struct pattern *pt, struct sv s) {
    pt->c = xmalloc(s.n + 1);
    pt->kind = xmalloc(s.n + 1);
    pt->n = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char k = 0, c = (unsigned char)s.p[i];
        if (s.p[i] == '\\') {
            if (i + 1 >= s.n || !strchr("*?\\}/", s.p[i + 1]))
                return -EINVAL;
            c = (unsigned char)s.p[++i];
        } else if (s.p[i] == '*') {
            k = 2;
        } else if (s.p[i] == '?') {
            k = 1;
        }
        pt->c[pt->n] = c;
        pt->kind[pt->n++] = k;
    }
    return 0;
}

static void pattern_done(struct pattern *pt) {
    free(pt->c);
    free(pt->kind);
}

/* Lengths of v's prefixes that match: shortest and longest, -1 when none. reverse matches suffixes
 * with the pattern read backwards. */
static void pattern_prefix(const struct pattern *pt, struct sv v, bool reverse, ssize_t *shortest, ssize_t *longest) {
    _cleanup_free_ char *on = xcalloc(pt->n + 1, 1), *next = xcalloc(pt->n + 1, 1);
    *shortest = *longest = -1;
    on[0] = 1;
    for (size_t at = 0;; at++) {
        for (size_t i = 0; i < pt->n; i++)
            if (on[i] && pt->kind[reverse ? pt->n - 1 - i : i] == 2)
                on[i + 1] = 1;
        if (on[pt->n]) {
            if (*shortest < 0)
                *shortest = (ssize_t)at;
            *longest = (ssize_t)at;
        }
        if (at == v.n)
            return;
        unsigned char c = (unsigned char)v.p[reverse ? v.n - 1 - at : at];
        memset(next, 0, pt->n + 1);
        bool any = false;
        for (size_t i = 0; i < pt->n; i++) {
            size_t k = reverse ? pt->n - 1 - i : i;
            if (!on[i])
                continue;
            if (pt->kind[k] == 2)
                next[i] = 1, any = true;
            else if (pt->kind[k] == 1 || pt->c[k] == c)
                next[i + 1] = 1, any = true;
        }
        memcpy(on, next, pt->n + 1);
        if (!any)
            return;
    }
}

static int replace(struct scan *s, struct sv v, struct sv pat, struct sv with, bool all, struct buf *out) {
    struct pattern pt;
    if ((uint64_t)v.n * v.n * (pat.n + 1) > MAX_MATCH_WORK)
        return fail(s, "value too long for this pattern");
    if (pattern_read(&pt, pat) < 0) {
        pattern_done(&pt);
        return fail(s, "invalid escape in the pattern of a substitution");
    }
    /* A pattern that matches nothing matches before every character and at the end, but not where a
     * match has just ended. */
    bool done = false, after = false;
    for (size_t i = 0; i <= v.n;) {
        ssize_t lo = -1, hi = -1;
        if (!done)
            pattern_prefix(&pt, sv_n(v.p + i, v.n - i), false, &lo, &hi);
        if (hi > 0 || (hi == 0 && !after)) {
            buf_addsv(out, with);
            done = !all;
        }
        after = hi > 0;
        if (hi > 0)
            i += (size_t)hi;
        else if (i < v.n) /* one character */
            do
                buf_addc(out, v.p[i++]);
            while (i < v.n && ((unsigned char)v.p[i] & 0xC0) == 0x80);
        else
            break;
    }
    pattern_done(&pt);
    return 0;
}

/* --- ${…} ---------------------------------------------------------------------------------- */

static int operand(struct scan *s, int stop, bool raw, struct buf *out) {
    bool raw_saved = s->raw_escapes;
    struct strv *words_saved = s->words;
    bool in_saved = s->in_word;
    s->raw_escapes = raw;
    s->words = NULL;
    int r = process(s, stop, out);
    s->raw_escapes = raw_saved;
    s->words = words_saved;
    s->in_word = in_saved;
    if (r < 0)
        return r;
    if (s->p >= s->end)
        return fail(s, stop == '}' ? "missing '}' in substitution" : "missing '/' in ${");
    s->p++;
    return 0;
}

static int op_strip(struct scan *s, char op, struct sv v, struct buf *out) {
    bool longest = s->p < s->end && *s->p == op;
    s->p += longest;
    _cleanup_buf_ struct buf pat = BUF_MAX(MAX_RESULT);
    int r = operand(s, '}', true, &pat);
    if (r < 0)
        return r;
    if ((uint64_t)v.n * (pat.n + 1) > MAX_MATCH_WORK)
        return fail(s, "value too long for this pattern");
    struct pattern pt;
    if (pattern_read(&pt, buf_sv(&pat)) < 0) {
        pattern_done(&pt);
        return fail(s, "invalid escape in the pattern of a substitution");
    }
    ssize_t lo, hi;
    pattern_prefix(&pt, v, op == '%', &lo, &hi);
    pattern_done(&pt);
    size_t cut = lo < 0 ? 0 : (size_t)(longest ? hi : lo);
    if (op == '#')
        buf_add(out, v.p + cut, v.n - cut);
    else
        buf_add(out, v.p, v.n - cut);
    return 0;
}

static int op_replace(struct scan *s, struct sv v, struct buf *out) {
    bool all = s->p < s->end && *s->p == '/';
    s->p += all;
    _cleanup_buf_ struct buf pat = BUF_MAX(MAX_RESULT), with = BUF_MAX(MAX_RESULT);
    int r = operand(s, '/', true, &pat);
    if (r < 0 || (r = operand(s, '}', false, &with)) < 0)
        return r;
    return replace(s, v, buf_sv(&pat), buf_sv(&with), all, out);
}

static int op_default(struct scan *s, char op, bool colon, struct sv name, const char *value, struct buf *out) {
    _cleanup_buf_ struct buf word = BUF_MAX(MAX_RESULT);
    int r = operand(s, '}', false, &word);
    if (r < 0)
        return r;
    bool have = value && (!colon || *value);
    switch (op) {
    case '-':
        buf_adds(out, have ? value : buf_str(&word));
        return 0;
    case '+':
        if (have)
            buf_addsv(out, buf_sv(&word));
        return 0;
    default:
        if (!have)
            return err_set(s->e, ERR_USER, -EINVAL, SV_FMT ": %s", SV_ARG(name),
                           word.n ? buf_str(&word) : colon ? "is not allowed to be empty" : "is not allowed to be unset");
        buf_adds(out, value);
        return 0;
    }
}

static int braces(struct scan *s, struct buf *out) {
    s->p++;
    if (s->p < s->end && strchr("{}:", *s->p))
        return fail(s, "bad substitution in ${");
    struct sv name = name_read(s);
    if (s->p >= s->end)
        return fail(s, "missing '}' in ${");
    const char *value = s->x->get(s->x->arg, name);
    struct sv v = sv_from(value ? value : "");
    char c = *s->p++;
    bool colon = c == ':';
    if (colon) {
        if (s->p >= s->end)
            return fail(s, "missing '}' in ${");
        c = *s->p++;
    }
    if (!value && s->x->unset)
        s->x->unset(s->x->arg, name);
    if (c == '-' || c == '+' || c == '?')
        return op_default(s, c, colon, name, value, out);
    if (!colon && c == '}') {
        buf_addsv(out, v);
        return 0;
    }
    if (!colon && (c == '#' || c == '%'))
        return op_strip(s, c, v, out);
    if (!colon && c == '/')
        return op_replace(s, v, out);
    char msg[80];
    snprintf(msg, sizeof msg, "unsupported modifier (%s%c) in substitution", colon ? ":" : "", c);
    return fail(s, msg);
}

static int dollar(struct scan *s, struct buf *out, bool quoted) {
    s->p++;
    if (s->p < s->end && *s->p == '{') {
        if (++s->depth > MAX_DEPTH)
            return fail(s, "too deeply nested");
        _cleanup_buf_ struct buf v = BUF_MAX(MAX_RESULT);
        int r = braces(s, &v);
        s->depth--;
        if (r < 0)
            return r;
        if (!buf_ok(&v))
            return fail(s, "result too long");
        put_value(s, out, buf_sv(&v), quoted);
        return 0;
    }
    struct sv name = name_read(s);
    if (!name.n) {
        put_value(s, out, SV("$"), true);
        return 0;
    }
    const char *value = s->x->get(s->x->arg, name);
    if (!value && s->x->unset)
        s->x->unset(s->x->arg, name);
    put_value(s, out, sv_from(value ? value : ""), quoted);
    return 0;
}

static int single_quoted(struct scan *s, struct buf *out) {
    const char *b = s->p++;
    while (s->p < s->end && *s->p != '\'')
        s->p++;
    if (s->p >= s->end)
        return fail(s, "unexpected end of statement while looking for the matching single quote");
    s->p++;
    s->in_word = true;
    buf_add(out, b + 1, (size_t)(s->p - b - 2));
    return 0;
}

static int double_quoted(struct scan *s, struct buf *out) {
    s->p++;
    s->in_word = true;
    while (s->p < s->end) {
        char c = *s->p;
        if (c == '"') {
            s->p++;
            return 0;
        }
        if (c == '$') {
            int r = dollar(s, out, true);
            if (r < 0)
                return r;
            continue;
        }
        if (c == s->x->escape && s->p + 1 < s->end) {
            char n = s->p[1];
            if (s->raw_escapes || !(n == '"' || n == '$' || n == s->x->escape))
                buf_addc(out, c);
            if (n == '"' || n == '$' || n == s->x->escape) {
                buf_addc(out, n);
                s->p += 2;
            } else {
                s->p++;
            }
            continue;
        }
        buf_addc(out, c);
        s->p++;
    }
    return fail(s, "unexpected end of statement while looking for the matching double quote");
}

static int process(struct scan *s, int stop, struct buf *out) {
    while (s->p < s->end) {
        char c = *s->p;
        int r = 0;
        if (stop && c == stop)
            return 0;
        if (!s->x->raw_quotes && c == '\'') {
            r = single_quoted(s, out);
        } else if (!s->x->raw_quotes && c == '"') {
            r = double_quoted(s, out);
        } else if (c == '$') {
            r = dollar(s, out, false);
        } else if (s->words && (c == ' ' || c == '\t')) {
            word_end(s, out);
            s->p++;
        } else if (c == s->x->escape) {
            s->p++;
            if (s->p >= s->end)
                break;
            if (s->raw_escapes || (s->x->raw_quotes && *s->p != '$' && *s->p != c))
                buf_addc(out, c);
            buf_addc(out, *s->p++);
            s->in_word = true;
        } else {
            buf_addc(out, c);
            s->in_word = true;
            s->p++;
        }
        if (r < 0)
            return r;
        if (!buf_ok(out))
            return fail(s, "result too long");
    }
    return 0;
}

int expand_word(struct arena *a, const struct expand *x, struct sv word, char **ret, struct err *e) {
    if (!memchr(word.p ? word.p : "", '$', word.n) && !memchr(word.p ? word.p : "", x->escape, word.n) &&
        !memchr(word.p ? word.p : "", '"', word.n) && !memchr(word.p ? word.p : "", '\'', word.n)) {
        *ret = arena_strndup(a, word.p ? word.p : "", word.n);
        return 0;
    }
    struct scan s = {.x = x, .p = word.p, .end = word.p + word.n, .e = e};
    _cleanup_buf_ struct buf out = BUF_MAX(MAX_RESULT);
    int r = process(&s, 0, &out);
    if (r < 0)
        return r;
    *ret = arena_strndup(a, buf_str(&out), out.n);
    return 0;
}

int expand_words(struct arena *a, const struct expand *x, struct sv word, struct strv *ret, struct err *e) {
    struct strv words = {0};
    struct scan s = {.x = x, .p = word.p, .end = word.p + word.n, .e = e, .words = &words};
    _cleanup_buf_ struct buf out = BUF_MAX(MAX_RESULT);
    int r = process(&s, 0, &out);
    if (r < 0) {
        strv_done(&words);
        return r;
    }
    word_end(&s, &out);
    strv_extend(ret, (const char *const *)words.v);
    strv_done(&words);
    return 0;
}
