/* A matcher of one pattern looks at each line alone. One of several goes from pattern to pattern as
 * lines match; a line that does not match starts it again from the first; what an earlier pattern
 * has found fills what the last one leaves open. `loop` at the last pattern keeps the state, so that
 * each further line that matches is an issue of its own. A line that is an issue of one matcher
 * resets the others. */
#include "run/matchers.h"

#include "base/regex.h"
#include "core/json.h"

#define GROUPS 32
#define PATTERNS 20

enum field { F_FILE, F_FROM, F_LINE, F_COL, F_SEVERITY, F_CODE, F_MESSAGE, F_N };
static const char *const field_name[F_N] = {"file", "fromPath", "line", "column", "severity", "code", "message"};

struct pattern {
    struct regex *re;
    unsigned group[F_N]; /* 0 = none */
    bool loop;
};
struct matcher {
    char *owner, *severity, *from_path;
    struct pattern patterns[PATTERNS];
    size_t n;
    size_t next;                 /* pattern that the next line is held against */
    char *found[F_N];            /* by the patterns before it */
    struct matcher *below;
};
struct matchers {
    struct matcher *top; /* newest first: it is asked first */
    char *last[F_N];
};

struct matchers *matchers_new(void) { return xcalloc(1, sizeof(struct matchers)); }
bool matchers_empty(const struct matchers *m) { return !m->top; }

static void forget(char *found[F_N]) {
    for (int i = 0; i < F_N; i++) {
        free(found[i]);
        found[i] = NULL;
    }
}

static void reset(struct matcher *t) {
    t->next = 0;
    forget(t->found);
}

static void matcher_free(struct matcher *t) {
    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++)
        regex_free(t->patterns[i].re);
    forget(t->found);
    free(t->owner);
    free(t->severity);
    free(t->from_path);
    free(t);
}

void matchers_free(struct matchers *m) {
    while (m && m->top) {
        struct matcher *t = m->top;
        m->top = t->below;
        matcher_free(t);
    }
    if (m)
        forget(m->last);
    free(m);
}

void matchers_remove(struct matchers *m, struct sv owner) {
    for (struct matcher **p = &m->top; *p;) {
        if (sv_ieqs(owner, (*p)->owner)) {
            struct matcher *t = *p;
            *p = t->below;
            matcher_free(t);
        } else
            p = &(*p)->below;
    }
}

/* --- reading ----------------------------------------------------------------------------------- */

static int bad(struct err *e, const char *owner, const char *what) {
    return err_set(e, ERR_CONFIG, -EINVAL, "problem matcher '%.100s': %s", owner, what);
}

static int read_pattern(struct matcher *t, const struct json *j, bool last, struct err *e) {
    struct pattern *p = &t->patterns[t->n];
    int r = regex_new(&p->re, json_get_str(j, "regexp", ""), e);
    if (r < 0)
        return err_wrap(e, r, "problem matcher '%.100s'", t->owner);
    t->n++;
    if (!*json_get_str(j, "regexp", ""))
        return bad(e, t->owner, "a pattern has no regexp");
    p->loop = json_get_bool(j, "loop", false);
    for (int i = 0; i < F_N; i++) {
        int64_t g = json_get_int(j, field_name[i], 0);
        if (g < 0 || g >= GROUPS || g > regex_groups(p->re))
            return err_set(e, ERR_CONFIG, -EINVAL, "problem matcher '%.100s': %s is group %lld, which the regexp does not have", t->owner, field_name[i], (long long)g);
        p->group[i] = (unsigned)g;
    }
    if (p->loop && (!last || t->n == 1))
        return bad(e, t->owner, t->n == 1 ? "a single pattern cannot loop" : "only the last pattern can loop");
    if (p->loop && !p->group[F_MESSAGE])
        return bad(e, t->owner, "a pattern that loops must have a message");
    return 0;
}

static int read_one(struct matcher *t, const struct json *j, struct err *e) {
    const struct json *list = json_get(j, "pattern");
    bool message = false;
    t->owner = xstrdup(json_get_str(j, "owner", ""));
    t->severity = xstrdup(json_get_str(j, "severity", ""));
    t->from_path = xstrdup(json_get_str(j, "fromPath", ""));
    if (!*t->owner)
        return bad(e, "", "it has no owner");
    if (!list || list->kind != JSON_ARRAY || !list->n || list->n > PATTERNS)
        return bad(e, t->owner, "it has no pattern, or too many");
    for (size_t i = 0; i < list->n; i++) {
        int r = read_pattern(t, list->items[i], i + 1 == list->n, e);
        if (r < 0)
            return r;
        message |= t->patterns[i].group[F_MESSAGE] != 0;
    }
    return message ? 0 : bad(e, t->owner, "no pattern has a message");
}

static int document(struct arena *a, struct sv text, const struct json **ret, struct err *e) {
    struct json *j;
    if (sv_starts(text, "\xef\xbb\xbf"))
        text = sv_sub(text, 3, SIZE_MAX);
    int r = json_parse(a, text, &j, e);
    if (r < 0)
        return err_wrap(e, r, "problem matcher");
    *ret = json_get(j, "problemMatcher");
    if (!*ret || (*ret)->kind != JSON_ARRAY)
        return err_set(e, ERR_CONFIG, -EINVAL, "problem matcher: the document has no list \"problemMatcher\"");
    return 0;
}

int matchers_add(struct matchers *m, struct sv text, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    const struct json *list;
    struct matcher *fresh = NULL;
    int r = document(&a, text, &list, e);
    for (size_t i = 0; r >= 0 && i < list->n; i++) {
        struct matcher *t = xcalloc(1, sizeof *t);
        t->below = fresh;
        fresh = t;
        r = read_one(t, list->items[i], e);
    }
    while (fresh) {
        struct matcher *t = fresh;
        fresh = t->below;
        if (r < 0) {
            matcher_free(t);
            continue;
        }
        matchers_remove(m, sv_from(t->owner));
        t->below = m->top;
        m->top = t;
    }
    return r;
}

int matchers_owners(struct sv text, struct strv *ret, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    const struct json *list;
    int r = document(&a, text, &list, e);
    for (size_t i = 0; r >= 0 && i < list->n; i++)
        strv_add(ret, json_get_str(list->items[i], "owner", ""));
    return r;
}

/* --- matching ---------------------------------------------------------------------------------- */

static void keep(char *to[F_N], const struct pattern *p, const struct sv *groups) {
    for (int i = 0; i < F_N; i++) {
        if (!p->group[i])
            continue;
        struct sv v = sv_trim(groups[p->group[i]]);
        if (!v.n)
            continue;
        free(to[i]);
        to[i] = sv_dup(v);
    }
}

/* 1: an issue, whose fields are in m->last. */
static bool try_line(struct matchers *m, struct matcher *t, struct sv line) {
    struct sv groups[GROUPS];
    for (int again = 0; again < 2; again++) {
        struct pattern *p = &t->patterns[t->next];
        if (regex_match(p->re, line, groups, GROUPS) != 1) {
            bool begun = t->next > 0;
            reset(t);
            if (begun)
                continue; /* it may be the first line of the next one */
            return false;
        }
        if (t->next + 1 < t->n) {
            keep(t->found, p, groups);
            t->next++;
            return false;
        }
        forget(m->last);
        for (int i = 0; i < F_N; i++)
            m->last[i] = t->found[i] ? xstrdup(t->found[i]) : NULL;
        keep(m->last, p, groups);
        if (!p->loop)
            reset(t);
        return true;
    }
    return false;
}

static uint32_t number(const char *s) {
    uint64_t n = 0;
    return s && sv_u64(sv_from(s), UINT32_MAX, &n) >= 0 ? (uint32_t)n : 0;
}

static const char *severity(const char *s) {
    static const char *const names[] = {"error", "warning", "notice"};
    if (!s || !*s)
        return "error";
    for (size_t i = 0; i < ELEMENTS(names); i++)
        if (sv_ieqs(sv_from(s), names[i]))
            return names[i];
    return NULL; /* another word: the line is no issue */
}

bool matchers_line(struct matchers *m, struct sv line, struct issue *ret) {
    for (struct matcher *t = m->top; t; t = t->below) {
        if (!try_line(m, t, line))
            continue;
        for (struct matcher *o = m->top; o; o = o->below)
            if (o != t)
                reset(o);
        const char *sev = severity(m->last[F_SEVERITY] ? m->last[F_SEVERITY] : t->severity);
        if (!sev || !m->last[F_MESSAGE])
            return false;
        *ret = (struct issue){.severity = sev, .message = sv_from(m->last[F_MESSAGE]), .file = sv_from(m->last[F_FILE]),
                              .from_path = sv_from(m->last[F_FROM] ? m->last[F_FROM] : *t->from_path ? t->from_path : NULL),
                              .code = sv_from(m->last[F_CODE]), .line = number(m->last[F_LINE]), .col = number(m->last[F_COL])};
        return true;
    }
    return false;
}

void matchers_plain(struct sv in, struct buf *out) {
    buf_reset(out);
    for (size_t i = 0; i < in.n; i++) {
        size_t k = i + 2;
        if (in.p[i] != '\033' || i + 1 >= in.n || in.p[i + 1] != '[') {
            buf_addc(out, in.p[i]);
            continue;
        }
        while (k < in.n && ((in.p[k] >= '0' && in.p[k] <= '9') || in.p[k] == ';'))
            k++;
        i = k < in.n && in.p[k] == 'm' ? k : k - 1;
    }
}
