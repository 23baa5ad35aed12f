/* Patterns are cleaned once and matched by a small backtracking matcher that works path component
 * by path component, so that its cost is bounded: `**` is the only thing that spans a slash. */
#include "build/ignore.h"
#include "core/fs.h"

#define MAX_TEXT (1u << 20)
#define MAX_PATTERNS 10000u
#define MAX_PATTERN 4096u

struct ignore_pattern {
    char *text; /* cleaned, without '!' and leading '/' */
    bool negated;
    uint32_t line;
};

/* [class] at p (behind '['): does c match? *ret_end is behind ']'. -1 = malformed. */
static int class_match(const char *p, const char *end, unsigned char c, const char **ret_end) {
    bool negated = p < end && *p == '^', hit = false, first = true;
    p += negated;
    for (;;) {
        if (p >= end)
            return -1;
        if (*p == ']' && !first)
            break;
        first = false;
        unsigned char lo, hi;
        if (*p == '\\' && ++p >= end)
            return -1;
        if (*p == '-')
            return -1;
        lo = hi = (unsigned char)*p++;
        if (p + 1 < end && *p == '-' && p[1] != ']') {
            p++;
            if (*p == '\\' && ++p >= end)
                return -1;
            hi = (unsigned char)*p++;
        }
        if (lo <= c && c <= hi)
            hit = true;
    }
    *ret_end = p + 1;
    return hit != negated;
}

/* One component without slashes. Star backtracking is linear here: the last star decides. */
static bool component_match(struct sv pat, struct sv s) {
    const char *p = pat.p, *pe = pat.p + pat.n, *t = s.p, *te = s.p + s.n;
    const char *star = NULL, *mark = NULL;
    while (t < te || p < pe) {
        if (p < pe && *p == '*') {
            while (p < pe && *p == '*')
                p++;
            star = p;
            mark = t;
            continue;
        }
        if (p < pe && t < te) {
            const char *next = p + 1;
            bool ok;
            if (*p == '?') {
                ok = true;
            } else if (*p == '[') {
                int m = class_match(p + 1, pe, (unsigned char)*t, &next);
                if (m < 0)
                    return false;
                ok = m > 0;
            } else if (*p == '\\' && p + 1 < pe) {
                ok = p[1] == *t;
                next = p + 2;
            } else {
                ok = *p == *t;
            }
            if (ok) {
                p = next;
                t++;
                continue;
            }
        }
        if (!star || mark >= te)
            return false;
        p = star;
        t = ++mark;
    }
    return true;
}

#define MAX_PARTS 512
struct parts {
    struct sv v[MAX_PARTS];
    size_t n;
    bool over;
};

static void split(struct sv s, struct parts *out) {
    struct sv part;
    out->n = 0;
    out->over = false;
    while (sv_split(&s, '/', &part)) {
        if (out->n == MAX_PARTS) {
            out->over = true;
            return;
        }
        out->v[out->n++] = part;
    }
}

/* A component that is "**", or "**" glued to more text ("**.go" spans folders as well). */
static bool parts_match(const struct parts *pat, const struct parts *path, bool prefix_only) {
    /* on[j]: the pattern's first i components match the path's first j. */
    bool on[MAX_PARTS + 1] = {true}, next[MAX_PARTS + 1];
    for (size_t i = 0; i < pat->n; i++) {
        struct sv c = pat->v[i];
        memset(next, 0, sizeof next);
        if (prefix_only && on[path->n])
            return true; /* the path is used up: more of the pattern may match below it */
        bool deep = sv_starts(c, "**");
        bool last = i + 1 == pat->n;
        for (size_t j = 0; j <= path->n; j++) {
            if (!on[j])
                continue;
            if (deep && c.n == 2) {
                for (size_t k = last ? j + 1 : j; k <= path->n; k++)
                    next[k] = true;
                if (last && prefix_only)
                    return true;
            } else if (deep) {
                struct sv tail = sv_sub(c, 1, c.n); /* "*rest" */
                for (size_t k = j; k < path->n; k++)
                    if (component_match(tail, path->v[k]))
                        next[k + 1] = true;
                if (prefix_only)
                    return true;
            } else if (j < path->n && component_match(c, path->v[j])) {
                next[j + 1] = true;
            }
        }
        memcpy(on, next, sizeof next);
    }
    return on[path->n];
}

static bool pattern_check(const char *s) {
    for (const char *p = s; *p; p++) {
        if (*p == '\\') {
            if (!*++p)
                return false;
        } else if (*p == '[') {
            const char *end;
            if (class_match(p + 1, s + strlen(s), 'x', &end) < 0)
                return false;
            p = end - 1;
        }
    }
    return true;
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
        if (!pattern_check(s)) {
            diags_add(d, DIAG_ERROR, at, NULL, NULL, "syntax error in pattern \"%s\"", raw);
            continue;
        }
        if (!*s || streq(s, "."))
            continue; /* "." and "/" leave nothing out, as docker has it */
        GROW(g->items, g->cap, g->n + 1);
        g->items[g->n++] = (struct ignore_pattern){xstrdup(s), negated, no};
        g->negations |= negated;
    }
    return d->errors > errors ? -EBADMSG : 0;
}

void ignore_done(struct ignore *g) {
    for (size_t i = 0; i < g->n; i++)
        free(g->items[i].text);
    free(g->items);
    *g = (struct ignore){0};
}

bool ignore_match(const struct ignore *g, const char *rel) {
    if (!g->n)
        return false;
    struct parts path, pat;
    split(sv_from(rel), &path);
    if (path.over)
        return false;
    bool out = false;
    for (size_t i = 0; i < g->n; i++) {
        const struct ignore_pattern *p = &g->items[i];
        if (p->negated != out)
            continue; /* cannot change anything */
        split(sv_from(p->text), &pat);
        if (pat.over)
            continue;
        struct parts up = path;
        bool hit = false;
        for (; up.n && !hit; up.n--)
            hit = parts_match(&pat, &up, false);
        if (hit)
            out = !p->negated;
    }
    return out;
}

bool ignore_may_contain(const struct ignore *g, const char *rel_dir) {
    if (!g->negations)
        return false;
    struct parts path, pat;
    split(sv_from(rel_dir), &path);
    for (size_t i = 0; i < g->n && !path.over; i++) {
        if (!g->items[i].negated)
            continue;
        split(sv_from(g->items[i].text), &pat);
        if (!pat.over && parts_match(&pat, &path, true))
            return true;
    }
    return path.over;
}

bool ignore_glob(const char *pattern, struct sv path) {
    struct parts a, b;
    split(sv_from(pattern), &a);
    split(path, &b);
    return !a.over && !b.over && parts_match(&a, &b, false);
}

bool ignore_has_glob(const char *s) {
    for (; *s; s++)
        if (*s == '*' || *s == '?' || *s == '[' || *s == '\\')
            return true;
    return false;
}
