/* Patterns are cleaned and cut into tokens once; matching runs all ways through the tokens at the same
 * time (a set of states), so that its cost is bounded by pattern times path whatever they hold. */
#include "build/ignore.h"
#include "core/fs.h"

#define MAX_TEXT (1u << 20)
#define MAX_PATTERNS 10000u
#define MAX_PATTERN 4096u

enum token_kind {
    TOKEN_CHAR,
    TOKEN_ANY,   /* ? */
    TOKEN_STAR,  /* *: anything but a slash */
    TOKEN_CLASS, /* [a-z]; s and n are its inside */
    TOKEN_DEEP,  /* "**" before more: nothing, or folders up to a slash */
    TOKEN_ALL,   /* "**" at the end, or before plain text at the beginning: anything */
};
struct token {
    enum token_kind kind;
    uint32_t c;
    const char *s;
    uint32_t n;
};
struct ignore_pattern {
    char *text; /* cleaned, without '!' and leading '/' */
    struct token *tokens;
    size_t n;
    bool negated;
    uint32_t line;
};

/* The next character; a byte that is no UTF-8 stands for itself. */
static uint32_t rune(const char **p, const char *end) {
    const unsigned char *s = (const unsigned char *)*p;
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : s[0] >= 0xC2 ? 2 : 1;
    uint32_t c = s[0];
    if (n > 1 && (size_t)(end - *p) >= n) {
        c &= 0x7Fu >> n;
        for (size_t i = 1; i < n; i++) {
            if ((s[i] & 0xC0) != 0x80) {
                n = 1;
                c = s[0];
                break;
            }
            c = c << 6 | (s[i] & 0x3Fu);
        }
    } else {
        n = 1;
    }
    *p += n;
    return c;
}

/* One end of a range. */
static int class_end(const char **p, const char *end, uint32_t *ret) {
    if (*p >= end || **p == '-' || **p == ']')
        return -EINVAL;
    if (**p == '\\' && ++*p >= end)
        return -EINVAL;
    *ret = rune(p, end);
    return *p < end ? 0 : -EINVAL; /* a ] has to follow */
}

/* The class whose inside begins at p: does c match? *ret_end is behind ']'. -1 = malformed. */
static int class_match(const char *p, const char *end, uint32_t c, const char **ret_end) {
    bool negated = p < end && *p == '^', hit = false;
    p += negated;
    for (bool first = true;; first = false) {
        uint32_t lo, hi;
        if (p < end && *p == ']' && !first)
            break;
        if (class_end(&p, end, &lo) < 0)
            return -1;
        hi = lo;
        if (*p == '-') {
            p++;
            if (class_end(&p, end, &hi) < 0)
                return -1;
        }
        hit |= lo <= c && c <= hi;
    }
    *ret_end = p + 1;
    return hit != negated;
}

static void pattern_done(struct ignore_pattern *pt) {
    free(pt->text);
    free(pt->tokens);
}

static void token_add(struct ignore_pattern *pt, size_t *cap, struct token t) {
    GROW(pt->tokens, *cap, pt->n + 1);
    pt->tokens[pt->n++] = t;
}

/* "**" at the beginning with nothing special behind it matches any path that ends so. */
static bool plain_text(const char *s) { return !strpbrk(s, "*?[]\\"); }

static int pattern_compile(struct ignore_pattern *pt) {
    const char *p = pt->text, *end = p + strlen(p), *behind;
    size_t cap = 0;
    while (p < end) {
        struct token t = {.kind = TOKEN_CHAR};
        if (*p == '*' && p[1] == '*') {
            bool first = p == pt->text, slash = p[2] == '/';
            p += 2 + slash;
            t.kind = p == end || (first && !slash && plain_text(p)) ? TOKEN_ALL : TOKEN_DEEP;
        } else if (*p == '*') {
            t.kind = TOKEN_STAR;
            p++;
        } else if (*p == '?') {
            t.kind = TOKEN_ANY;
            p++;
        } else if (*p == '[') {
            if (class_match(p + 1, end, 'x', &behind) < 0)
                return -EINVAL;
            t = (struct token){.kind = TOKEN_CLASS, .s = p + 1, .n = (uint32_t)(behind - p - 1)};
            p = behind;
        } else {
            if (*p == '\\' && p + 1 < end) /* one at the very end stands for itself */
                p++;
            t.c = rune(&p, end);
        }
        token_add(pt, &cap, t);
    }
    return 0;
}

/* States: on[i] = the first i tokens are matched; in[i] = inside token i's "**", before its slash. */
static void skip_empty(const struct ignore_pattern *pt, bool *on) {
    for (size_t i = 0; i < pt->n; i++)
        if (on[i] && (pt->tokens[i].kind == TOKEN_STAR || pt->tokens[i].kind == TOKEN_DEEP || pt->tokens[i].kind == TOKEN_ALL))
            on[i + 1] = true;
}

static bool token_takes(const struct token *t, uint32_t c) {
    const char *behind;
    switch (t->kind) {
    case TOKEN_CHAR:
        return t->c == c;
    case TOKEN_ANY:
        return c != '/';
    case TOKEN_CLASS:
        return class_match(t->s, t->s + t->n, c, &behind) > 0;
    default:
        return false;
    }
}

/* Is the path matched (bit 0), or its folder at one of its slashes (bit 1); may more text after it
 * still match (bit 2)? */
enum { MATCH_WHOLE = 1, MATCH_PARENT = 2, MATCH_MORE = 4 };
static unsigned pattern_run(const struct ignore_pattern *pt, struct sv path) {
    size_t size = pt->n + 1;
    bool small[4 * 256], *mem = size <= 256 ? small : xmalloc(4 * size);
    bool *on = mem, *in = mem + size, *on2 = mem + 2 * size, *in2 = mem + 3 * size;
    unsigned result = 0;
    memset(mem, 0, 4 * size);
    on[0] = true;
    skip_empty(pt, on);
    for (const char *p = path.p, *end = path.p + path.n; p < end;) {
        bool any = false;
        if (*p == '/' && on[pt->n])
            result |= MATCH_PARENT;
        uint32_t c = rune(&p, end);
        memset(on2, 0, size);
        memset(in2, 0, size);
        for (size_t i = 0; i < pt->n; i++) {
            const struct token *t = &pt->tokens[i];
            if (t->kind == TOKEN_DEEP && (on[i] || in[i])) {
                in2[i] = any = true;
                if (c == '/')
                    on2[i + 1] = true;
            } else if (on[i] && ((t->kind == TOKEN_STAR && c != '/') || t->kind == TOKEN_ALL)) {
                on2[i] = any = true;
            } else if (on[i] && token_takes(t, c)) {
                on2[i + 1] = any = true;
            }
        }
        bool *swap = on;
        on = on2;
        on2 = swap;
        swap = in;
        in = in2;
        in2 = swap;
        skip_empty(pt, on);
        if (!any)
            break;
    }
    if (on[pt->n])
        result |= MATCH_WHOLE;
    for (size_t i = 0; i < pt->n; i++)
        if (on[i] || in[i])
            result |= MATCH_MORE;
    if (mem != small)
        free(mem);
    return result;
}

int ignore_parse(struct ignore *g, const char *file, struct sv text, struct diags *d) {
    size_t errors = d->errors;
    if (sv_starts(text, "\xEF\xBB\xBF"))
        text = sv_sub(text, 3, text.n);
    struct sv line;
    if (text.n > MAX_TEXT) {
        diags_add(d, DIAG_ERROR, (struct span){.file = span_file(file)}, NULL, NULL, "larger than 1 MiB");
        return -EBADMSG;
    }
    for (uint32_t no = 1; sv_line(&text, &line); no++) {
        struct span at = {.file = span_file(file), .line = no, .col = 1};
        if (line.n && line.p[0] == '#')
            continue;
        struct sv t = sv_trim(line);
        bool negated = t.n && t.p[0] == '!';
        if (negated)
            t = sv_trim(sv_sub(t, 1, t.n));
        if (!t.n) {
            if (negated)
                diags_add(d, DIAG_ERROR, at, NULL, NULL, "\"!\" without a pattern");
            continue;
        }
        if (t.n > MAX_PATTERN || memchr(t.p, 0, t.n) || g->n >= MAX_PATTERNS) {
            diags_add(d, DIAG_ERROR, at, NULL, NULL, "pattern too long, or too many of them");
            continue;
        }
        _cleanup_free_ char *raw = sv_dup(t);
        _cleanup_free_ char *clean = path_clean(raw);
        const char *s = clean;
        while (*s == '/')
            s++;
        if (!*s || streq(s, ".")) { /* "." and "/" leave nothing out, as docker has it */
            if (!*s && negated)
                diags_add(d, DIAG_ERROR, at, NULL, NULL, "illegal exclusion pattern: \"!\"");
            continue;
        }
        struct ignore_pattern pt = {.text = xstrdup(s), .negated = negated, .line = no};
        if (pattern_compile(&pt) < 0) {
            diags_add(d, DIAG_ERROR, at, NULL, NULL, "syntax error in pattern \"%s\"", raw);
            pattern_done(&pt);
            continue;
        }
        GROW(g->items, g->cap, g->n + 1);
        g->items[g->n++] = pt;
        g->negations |= negated;
    }
    return d->errors > errors ? -EBADMSG : 0;
}

void ignore_done(struct ignore *g) {
    for (size_t i = 0; i < g->n; i++)
        pattern_done(&g->items[i]);
    free(g->items);
    *g = (struct ignore){0};
}

bool ignore_match(const struct ignore *g, const char *rel) {
    bool out = false;
    for (size_t i = 0; i < g->n; i++) {
        const struct ignore_pattern *p = &g->items[i];
        if (p->negated == out && (pattern_run(p, sv_from(rel)) & (MATCH_WHOLE | MATCH_PARENT)))
            out = !p->negated;
    }
    return out;
}

bool ignore_may_contain(const struct ignore *g, const char *rel_dir) {
    if (!g->negations)
        return false;
    _cleanup_free_ char *below = xasprintf("%s/", rel_dir);
    for (size_t i = 0; i < g->n; i++)
        if (g->items[i].negated && (pattern_run(&g->items[i], sv_from(below)) & (MATCH_MORE | MATCH_PARENT)))
            return true;
    return false;
}

bool ignore_glob(const char *pattern, struct sv path) {
    struct ignore_pattern pt = {.text = xstrdup(pattern)};
    bool hit = pattern_compile(&pt) >= 0 && (pattern_run(&pt, path) & MATCH_WHOLE);
    pattern_done(&pt);
    return hit;
}

bool ignore_has_glob(const char *s) {
    for (; *s; s++)
        if (*s == '*' || *s == '?' || *s == '[' || *s == '\\')
            return true;
    return false;
}
