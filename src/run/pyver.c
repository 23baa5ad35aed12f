#include "run/pyver.h"

static bool digit(char c) { return c >= '0' && c <= '9'; }

static bool number(struct sv *s, unsigned *ret) {
    unsigned n = 0;
    size_t i = 0;
    for (; i < s->n && digit(s->p[i]) && i < 6; i++)
        n = n * 10 + (unsigned)(s->p[i] - '0');
    if (!i)
        return false;
    *ret = n;
    *s = sv_sub(*s, i, SIZE_MAX);
    return true;
}

/* A version whose parts may be left out or be x: `parts` says how many were numbers. */
static bool partial(struct sv s, struct pyver *v, unsigned *parts) {
    memset(v, 0, sizeof *v);
    *parts = 0;
    s = sv_trim(s);
    if (s.n && (*s.p == 'v' || *s.p == '='))
        s = sv_sub(s, 1, SIZE_MAX);
    if (!s.n)
        return true;
    unsigned *to[3] = {&v->major, &v->minor, &v->patch};
    bool wild = false;
    for (unsigned i = 0; i < 3; i++) {
        if (s.n && (*s.p == 'x' || *s.p == 'X' || *s.p == '*')) {
            wild = true;
            s = sv_sub(s, 1, SIZE_MAX);
        } else {
            unsigned n;
            if (!number(&s, &n))
                return false;
            if (!wild) {
                *to[i] = n;
                *parts = i + 1;
            }
        }
        if (!s.n || *s.p != '.' || i == 2)
            break;
        s = sv_sub(s, 1, SIZE_MAX);
    }
    if (!s.n)
        return true;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) { /* "-rc.1" and "rc1" are one */
        char c = s.p[i];
        if (c == '-' || c == '.')
            continue;
        if (c == '+')
            break;
        if (!digit(c) && !((c | 32) >= 'a' && (c | 32) <= 'z'))
            return false;
        if (n + 1 < sizeof v->pre)
            v->pre[n++] = (char)(digit(c) ? c : (c | 32));
    }
    if (streq(v->pre, "alpha") || startswith(v->pre, "alpha")) {
        memmove(v->pre + 1, v->pre + 5, strlen(v->pre + 5) + 1);
    } else if (startswith(v->pre, "beta")) {
        memmove(v->pre + 1, v->pre + 4, strlen(v->pre + 4) + 1);
    }
    return true;
}

bool pyver_parse(struct sv s, struct pyver *ret) {
    struct pyver v;
    unsigned parts;
    if (!partial(s, &v, &parts) || !parts)
        return false;
    *ret = v;
    return true;
}

static int cmp_pre(const char *a, const char *b) {
    if (!*a || !*b)
        return !*a && !*b ? 0 : !*a ? 1 : -1; /* a release is above its pre-releases */
    while (*a && *b) {
        if (digit(*a) && digit(*b)) {
            long x = strtol(a, (char **)&a, 10), y = strtol(b, (char **)&b, 10);
            if (x != y)
                return x < y ? -1 : 1;
        } else if (*a != *b) {
            return *a < *b ? -1 : 1;
        } else {
            a++, b++;
        }
    }
    return *a ? 1 : *b ? -1 : 0;
}

int pyver_cmp(const struct pyver *a, const struct pyver *b) {
    if (a->major != b->major)
        return a->major < b->major ? -1 : 1;
    if (a->minor != b->minor)
        return a->minor < b->minor ? -1 : 1;
    if (a->patch != b->patch)
        return a->patch < b->patch ? -1 : 1;
    return cmp_pre(a->pre, b->pre);
}

/* [low, high): what a partial version stands for. */
static void bounds(const struct pyver *v, unsigned parts, struct pyver *low, struct pyver *high) {
    *low = *high = *v;
    high->pre[0] = 0;
    if (parts == 0) {
        memset(low, 0, sizeof *low);
        high->major = 1u << 30;
    } else if (parts == 1) {
        high->major++, high->minor = high->patch = 0;
    } else if (parts == 2) {
        high->minor++, high->patch = 0;
    } else if (v->pre[0]) {
        memcpy(high->pre, v->pre, sizeof high->pre); /* exact */
    } else {
        high->patch++;
    }
}

static int comparator(struct sv c, const struct pyver *v, bool *named_pre) {
    char op = '=';
    bool eq = false;
    if (c.n && strchr("<>~^!", *c.p)) {
        op = *c.p;
        c = sv_sub(c, 1, SIZE_MAX);
        if (c.n && (*c.p == '=' || (op == '~' && *c.p == '>'))) {
            eq = *c.p == '=';
            c = sv_sub(c, 1, SIZE_MAX);
        }
    }
    while (op == '=' && c.n && *c.p == '=') /* "==3.11.*" */
        c = sv_sub(c, 1, SIZE_MAX);
    struct pyver want, low, high;
    unsigned parts;
    if (!partial(c, &want, &parts))
        return -EINVAL;
    if (want.pre[0])
        *named_pre = true;
    bounds(&want, parts, &low, &high);
    struct pyver bare = *v; /* 3.12.0rc1 is below 3.12, and inside no range that ends there */
    int cl = pyver_cmp(&bare, &low), ch = pyver_cmp(&bare, &high);
    switch (op) {
    case '<':
        return eq ? (parts == 3 ? cl <= 0 : ch < 0) : cl < 0;
    case '>':
        return eq ? cl >= 0 : parts == 3 ? cl > 0 : ch >= 0;
    case '~':
        if (parts == 3)
            high = (struct pyver){want.major, want.minor + 1, 0, "a0"};
        else if (eq && parts == 2) /* "~=3.11" of PEP 440 */
            high = (struct pyver){want.major + 1, 0, 0, "a0"};
        return cl >= 0 && pyver_cmp(v, &high) < 0;
    case '^':
        if (parts)
            high = want.major ? (struct pyver){want.major + 1, 0, 0, ""}
                              : (struct pyver){0, want.minor + 1, 0, ""};
        return cl >= 0 && pyver_cmp(v, &high) < 0;
    case '!':
        return !(parts == 3 ? cl == 0 : cl >= 0 && ch < 0);
    default:
        return parts == 3 ? cl == 0 : cl >= 0 && ch < 0;
    }
}

/* Comparators divided by blanks: all must hold. "a - b" is a hyphen range. */
static int all_of(struct sv s, const struct pyver *v, bool *named_pre) {
    ssize_t dash = sv_find(s, SV(" - "));
    if (dash >= 0) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        buf_adds(&b, ">=");
        buf_addsv(&b, sv_trim(sv_sub(s, 0, (size_t)dash)));
        buf_adds(&b, " <=");
        buf_addsv(&b, sv_trim(sv_sub(s, (size_t)dash + 3, SIZE_MAX)));
        return sv_find(buf_sv(&b), SV(" - ")) >= 0 ? -EINVAL : all_of(buf_sv(&b), v, named_pre);
    }
    int ok = 1;
    for (size_t i = 0; i < s.n;) {
        while (i < s.n && (s.p[i] == ' ' || s.p[i] == ','))
            i++;
        size_t from = i;
        while (i < s.n && strchr("<>=~^!", s.p[i])) /* "> 3.9" has a blank after the operator */
            i++;
        while (i < s.n && s.p[i] == ' ' && i > from)
            i++;
        while (i < s.n && s.p[i] != ' ' && s.p[i] != ',')
            i++;
        if (i == from)
            break;
        char word[64];
        size_t n = 0;
        for (size_t k = from; k < i; k++)
            if (s.p[k] != ' ' && n + 1 < sizeof word)
                word[n++] = s.p[k];
        int r = comparator(sv_n(word, n), v, named_pre);
        if (r < 0)
            return r;
        ok &= r;
    }
    return ok;
}

int pyver_match(struct sv range, const struct pyver *v, bool allow_pre) {
    range = sv_trim(range);
    if (!range.n)
        return -EINVAL;
    if (sv_ends(range, "-dev")) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        buf_addf(&b, "~" SV_FMT ".0-0", (int)(range.n - 4), range.p);
        return pyver_match(buf_sv(&b), v, true);
    }
    int any = 0;
    for (;;) {
        ssize_t bar = sv_find(range, SV("||"));
        bool named_pre = false;
        int r = all_of(bar < 0 ? range : sv_sub(range, 0, (size_t)bar), v, &named_pre);
        if (r < 0)
            return r;
        if (r && (!v->pre[0] || allow_pre || named_pre))
            any = 1;
        if (bar < 0)
            return any;
        range = sv_sub(range, (size_t)bar + 2, SIZE_MAX);
    }
}

void pyver_format(const struct pyver *v, struct buf *b) {
    buf_addf(b, "%u.%u.%u%s", v->major, v->minor, v->patch, v->pre);
}
