#include "run/dockmeta_text.h"

#include "core/fs.h"
#include "core/proc.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <time.h>

/* --- comma-separated values ------------------------------------------------------------------------------ */

static int stray_quote(const struct strv *out, struct sv field, struct err *e) {
    return err_set(e, ERR_CONFIG, -EINVAL, "Invalid Opening Quote: a quote is found on field %zu at line 1, value is \"" SV_FMT "\"", out->n, SV_ARG(field));
}

int meta_csv(struct sv line, bool relaxed, struct strv *out, struct err *e) {
    size_t i = 0;
    for (;;) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        size_t start = i;
        while (i < line.n && (line.p[i] == ' ' || line.p[i] == '\t'))
            i++;
        if (i < line.n && line.p[i] == '"') {
            for (i++; i < line.n; i++) {
                if (line.p[i] != '"')
                    buf_addc(&b, line.p[i]);
                else if (i + 1 < line.n && line.p[i + 1] == '"')
                    buf_addc(&b, line.p[i++]);
                else
                    break;
            }
            if (i == line.n)
                return err_set(e, ERR_CONFIG, -EINVAL, "Quote Not Closed: the parsing is finished with an opening quote at line 1");
            i++;
            while (i < line.n && line.p[i] != ',')
                buf_addc(&b, line.p[i++]);
        } else {
            i = start;
            while (i < line.n && line.p[i] != ',') {
                if (line.p[i] == '"' && !relaxed)
                    return stray_quote(out, buf_sv(&b), e);
                buf_addc(&b, line.p[i++]);
            }
        }
        struct sv t = sv_trim(buf_sv(&b));
        strv_addn(out, t.p, t.n);
        if (i >= line.n)
            return 0;
        i++;
    }
}

/* --- templates ---------------------------------------------------------------------------------------------- */

static void html(struct sv s, struct buf *out) {
    for (size_t i = 0; i < s.n; i++) {
        switch (s.p[i]) {
        case '&': buf_adds(out, "&amp;"); break;
        case '<': buf_adds(out, "&lt;"); break;
        case '>': buf_adds(out, "&gt;"); break;
        case '"': buf_adds(out, "&quot;"); break;
        case '\'': buf_adds(out, "&#x27;"); break;
        case '`': buf_adds(out, "&#x60;"); break;
        case '=': buf_adds(out, "&#x3D;"); break;
        default: buf_addc(out, s.p[i]);
        }
    }
}

/* A quoted string or a bare word at the head of *s. */
static bool token(struct sv *s, struct buf *out) {
    *s = sv_trim(*s);
    if (!s->n)
        return false;
    size_t i = 0;
    if (s->p[0] == '"' || s->p[0] == '\'') {
        for (i = 1; i < s->n && s->p[i] != s->p[0]; i++)
            buf_addc(out, s->p[i]);
        if (i == s->n)
            return false;
        i++;
    } else {
        for (; i < s->n && s->p[i] != ' ' && s->p[i] != '='; i++)
            buf_addc(out, s->p[i]);
    }
    *s = sv_sub(*s, i, s->n);
    return i > 0;
}

static int mustache(struct sv inner, bool escape, meta_name_fn fn, void *arg, struct buf *out, struct err *e) {
    _cleanup_buf_ struct buf name = BUF_SMALL, param = BUF_SMALL, zone = BUF_SMALL, value = BUF_SMALL;
    bool has_param = false, has_zone = false;
    struct sv rest = sv_trim(inner);
    if (!token(&rest, &name))
        return err_set(e, ERR_CONFIG, -EINVAL, "Parse error: an expression between {{ and }} is expected");
    while ((rest = sv_trim(rest)).n) {
        _cleanup_buf_ struct buf t = BUF_SMALL;
        if (!token(&rest, &t))
            return err_set(e, ERR_CONFIG, -EINVAL, "Parse error in {{" SV_FMT "}}", SV_ARG(inner));
        if (rest.n && rest.p[0] == '=') {
            rest = sv_sub(rest, 1, rest.n);
            buf_reset(&zone);
            if (!sv_eqs(buf_sv(&t), "tz"))
                return err_set(e, ERR_CONFIG, -EINVAL, "Unknown %s attribute", buf_str(&t));
            if (!token(&rest, &zone))
                return err_set(e, ERR_CONFIG, -EINVAL, "Parse error in {{" SV_FMT "}}", SV_ARG(inner));
            has_zone = true;
        } else if (!has_param) {
            buf_addsv(&param, buf_sv(&t));
            has_param = true;
        }
    }
    int r = fn(arg, buf_sv(&name), has_param ? buf_str(&param) : NULL, has_zone ? buf_str(&zone) : NULL, &value, e);
    if (r < 0)
        return r;
    if (escape)
        html(buf_sv(&value), out);
    else
        buf_addsv(out, buf_sv(&value));
    return 0;
}

int meta_template(struct sv text, meta_name_fn fn, void *arg, struct buf *out, struct err *e) {
    while (text.n) {
        ssize_t at = sv_find(text, SV("{{"));
        if (at < 0) {
            buf_addsv(out, text);
            break;
        }
        if (at > 0 && text.p[at - 1] == '\\') { /* \{{ is text */
            buf_addsv(out, sv_sub(text, 0, (size_t)at - 1));
            buf_adds(out, "{{");
            text = sv_sub(text, (size_t)at + 2, text.n);
            continue;
        }
        buf_addsv(out, sv_sub(text, 0, (size_t)at));
        text = sv_sub(text, (size_t)at + 2, text.n);
        bool triple = text.n && text.p[0] == '{', plain = triple || (text.n && text.p[0] == '&');
        if (plain)
            text = sv_sub(text, 1, text.n);
        ssize_t end = sv_find(text, triple ? SV("}}}") : SV("}}"));
        if (end < 0)
            return err_set(e, ERR_CONFIG, -EINVAL, "Parse error: {{ is not closed");
        struct sv inner = sv_sub(text, 0, (size_t)end);
        if (inner.n && strchr("#/^!>", inner.p[0])) {
            if (inner.p[0] != '!')
                return err_set(e, ERR_CONFIG, -ENOSYS, "blocks in templates ({{" SV_FMT "}}) are not there yet", SV_ARG(inner));
        } else {
            int r = mustache(inner, !plain, fn, arg, out, e);
            if (r < 0)
                return r;
        }
        text = sv_sub(text, (size_t)end + (triple ? 3 : 2), text.n);
    }
    return buf_ok(out) ? 0 : err_set(e, ERR_LIMIT, -EFBIG, "a template gives too much text");
}

bool meta_is_raw(struct sv t) {
    if (!sv_starts(t, "{{") || !sv_ends(t, "}}") || t.n < 5)
        return false;
    return sv_eqs(sv_trim(sv_sub(t, 2, t.n - 4)), "raw");
}

/* --- times --------------------------------------------------------------------------------------------------- */

static const char *const months[] = {"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"};
static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};

/* Seconds east of UTC in a zone at a time: asked of date(1), which has the system's zones. */
static long zone_offset(int64_t s, const char *tz) {
    if (!tz || !*tz || sv_ieqs(sv_from(tz), "utc") || strstr(tz, ".."))
        return 0;
    _cleanup_free_ char *file = xasprintf("/usr/share/zoneinfo/%s", tz), *env = xasprintf("TZ=%s", tz), *at = xasprintf("@%lld", (long long)s);
    if (!fs_exists(AT_FDCWD, file))
        return 0;
    const char *argv[] = {"date", "-d", at, "+%z", NULL}, *envp[] = {env, "PATH=/usr/bin:/bin", "LC_ALL=C", NULL};
    struct proc_spec ps = {.argv = argv, .envp = envp};
    _cleanup_buf_ struct buf out = BUF_SMALL;
    int sign, h, m;
    char c;
    if (proc_run(&ps, SV(""), &out, NULL, 5000, NULL) != 0 || sscanf(buf_str(&out), "%c%2d%2d", &c, &h, &m) != 3)
        return 0;
    sign = c == '-' ? -1 : 1;
    return sign * (h * 3600L + m * 60L);
}

static const char *ordinal(int n) { return n % 100 / 10 == 1 ? "th" : n % 10 == 1 ? "st" : n % 10 == 2 ? "nd" : n % 10 == 3 ? "rd" : "th"; }

static int iso_week(const struct tm *t, int *ret_year) {
    char w[8];
    strftime(w, sizeof w, "%G", t);
    *ret_year = atoi(w);
    strftime(w, sizeof w, "%V", t);
    return atoi(w);
}

/* Weeks begin on Sunday and the first holds January 1st (moment's English). */
static int local_week(const struct tm *t, int *ret_year) {
    int first = (t->tm_wday - t->tm_yday % 7 + 7) % 7; /* weekday of January 1st */
    int week = (t->tm_yday + first) / 7 + 1, year = t->tm_year + 1900;
    bool leap = (year % 4 == 0 && year % 100) || year % 400 == 0;
    int next = (t->tm_wday + (365 + leap) - t->tm_yday) % 7; /* of the next one */
    if (t->tm_yday + (7 - t->tm_wday) > 364 + leap && (365 + leap) - t->tm_yday <= next) {
        week = 1;
        year++;
    }
    *ret_year = year;
    return week;
}

struct when {
    struct tm t;
    int64_t ns, s;
    long off;
};

static void put_zone(struct buf *b, long off, const char *sep) {
    long m = off < 0 ? -off : off;
    buf_addf(b, "%c%02ld%s%02ld", off < 0 ? '-' : '+', m / 3600, sep, m / 60 % 60);
}

static void put_token(struct buf *b, struct sv f, const struct when *w) {
    const struct tm *t = &w->t;
    int y = t->tm_year + 1900, h12 = t->tm_hour % 12 ? t->tm_hour % 12 : 12, wy;
#define IS(x) sv_eqs(f, x)
    if (IS("YYYY")) buf_addf(b, "%04d", y);
    else if (IS("YY")) buf_addf(b, "%02d", y % 100);
    else if (IS("Y")) buf_addf(b, "%d", y);
    else if (IS("Q")) buf_addf(b, "%d", t->tm_mon / 3 + 1);
    else if (IS("MMMM")) buf_adds(b, months[t->tm_mon]);
    else if (IS("MMM")) buf_addf(b, "%.3s", months[t->tm_mon]);
    else if (IS("MM")) buf_addf(b, "%02d", t->tm_mon + 1);
    else if (IS("Mo")) buf_addf(b, "%d%s", t->tm_mon + 1, ordinal(t->tm_mon + 1));
    else if (IS("M")) buf_addf(b, "%d", t->tm_mon + 1);
    else if (IS("DDDD")) buf_addf(b, "%03d", t->tm_yday + 1);
    else if (IS("DDD")) buf_addf(b, "%d", t->tm_yday + 1);
    else if (IS("DD")) buf_addf(b, "%02d", t->tm_mday);
    else if (IS("Do")) buf_addf(b, "%d%s", t->tm_mday, ordinal(t->tm_mday));
    else if (IS("D")) buf_addf(b, "%d", t->tm_mday);
    else if (IS("dddd")) buf_adds(b, days[t->tm_wday]);
    else if (IS("ddd")) buf_addf(b, "%.3s", days[t->tm_wday]);
    else if (IS("dd")) buf_addf(b, "%.2s", days[t->tm_wday]);
    else if (IS("d") || IS("e")) buf_addf(b, "%d", t->tm_wday);
    else if (IS("E")) buf_addf(b, "%d", t->tm_wday ? t->tm_wday : 7);
    else if (IS("HH")) buf_addf(b, "%02d", t->tm_hour);
    else if (IS("H")) buf_addf(b, "%d", t->tm_hour);
    else if (IS("hh")) buf_addf(b, "%02d", h12);
    else if (IS("h")) buf_addf(b, "%d", h12);
    else if (IS("kk")) buf_addf(b, "%02d", t->tm_hour ? t->tm_hour : 24);
    else if (IS("k")) buf_addf(b, "%d", t->tm_hour ? t->tm_hour : 24);
    else if (IS("mm")) buf_addf(b, "%02d", t->tm_min);
    else if (IS("m")) buf_addf(b, "%d", t->tm_min);
    else if (IS("ss")) buf_addf(b, "%02d", t->tm_sec);
    else if (IS("s")) buf_addf(b, "%d", t->tm_sec);
    else if (IS("SSS")) buf_addf(b, "%03d", (int)(w->ns / 1000000));
    else if (IS("SS")) buf_addf(b, "%02d", (int)(w->ns / 10000000));
    else if (IS("S")) buf_addf(b, "%d", (int)(w->ns / 100000000));
    else if (IS("A")) buf_adds(b, t->tm_hour < 12 ? "AM" : "PM");
    else if (IS("a")) buf_adds(b, t->tm_hour < 12 ? "am" : "pm");
    else if (IS("X")) buf_addf(b, "%lld", (long long)w->s);
    else if (IS("x")) buf_addf(b, "%lld", (long long)(w->s * 1000 + w->ns / 1000000));
    else if (IS("ZZ")) put_zone(b, w->off, "");
    else if (IS("Z")) put_zone(b, w->off, ":");
    else if (IS("WW")) buf_addf(b, "%02d", iso_week(t, &wy));
    else if (IS("W")) buf_addf(b, "%d", iso_week(t, &wy));
    else if (IS("ww")) buf_addf(b, "%02d", local_week(t, &wy));
    else if (IS("w")) buf_addf(b, "%d", local_week(t, &wy));
    else if (IS("GGGG")) { iso_week(t, &wy); buf_addf(b, "%d", wy); }
    else if (IS("gggg")) { local_week(t, &wy); buf_addf(b, "%d", wy); }
    else buf_addsv(b, f);
#undef IS
}

int meta_date(int64_t ns, const char *format, const char *tz, struct buf *out, struct err *e) {
    static const char *const tokens[] = {"YYYY", "MMMM", "DDDD", "dddd", "GGGG", "gggg", "MMM", "DDD", "ddd", "SSS", "YY", "MM", "Mo", "DD", "Do", "dd",
                                         "HH", "hh", "kk", "mm", "ss", "SS", "ZZ", "WW", "ww", "Y", "Q", "M", "D", "d", "e", "E", "H", "h", "k", "m", "s", "S",
                                         "A", "a", "X", "x", "Z", "W", "w"};
    struct when w = {.s = ns / 1000000000, .ns = ns % 1000000000};
    if (!format)
        return err_set(e, ERR_CONFIG, -EINVAL, "a date needs a format: {{date 'YYYYMMDD'}}");
    w.off = zone_offset(w.s, tz);
    time_t local = (time_t)(w.s + w.off);
    gmtime_r(&local, &w.t);
    struct sv f = sv_from(format);
    while (f.n) {
        if (f.p[0] == '[') {
            ssize_t end = sv_chr(f, ']');
            if (end > 0) {
                buf_addsv(out, sv_sub(f, 1, (size_t)end - 1));
                f = sv_sub(f, (size_t)end + 1, f.n);
                continue;
            }
        }
        size_t n = 1;
        for (size_t i = 0; i < ELEMENTS(tokens); i++)
            if (sv_starts(f, tokens[i])) {
                n = strlen(tokens[i]);
                break;
            }
        put_token(out, sv_sub(f, 0, n), &w);
        f = sv_sub(f, n, f.n);
    }
    return 0;
}

/* --- versions -------------------------------------------------------------------------------------------------- */

static char *group(struct arena *a, pcre2_match_data *m, const char *text, uint32_t n) {
    PCRE2_SIZE *v = pcre2_get_ovector_pointer(m);
    if (n >= pcre2_get_ovector_count(m) || v[2 * n] == PCRE2_UNSET)
        return NULL;
    return arena_strndup(a, text + v[2 * n], v[2 * n + 1] - v[2 * n]);
}

/* 1 match (*ret to be freed), 0, -EINVAL. */
static int match(const char *pattern, uint32_t options, const char *text, pcre2_match_data **ret) {
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options | PCRE2_DOLLAR_ENDONLY, &code, &at, NULL);
    pcre2_match_context *mc = pcre2_match_context_create(NULL);
    if (!re || !mc) {
        pcre2_code_free(re);
        pcre2_match_context_free(mc);
        return -EINVAL;
    }
    pcre2_set_match_limit(mc, 1000000);
    pcre2_set_depth_limit(mc, 10000);
    *ret = pcre2_match_data_create_from_pattern(re, NULL);
    int r = pcre2_match(re, (PCRE2_SPTR)text, strlen(text), 0, 0, *ret, mc);
    pcre2_code_free(re);
    pcre2_match_context_free(mc);
    if (r > 0)
        return 1;
    pcre2_match_data_free(*ret);
    *ret = NULL;
    return 0;
}

int meta_match(struct arena *a, const char *pattern, const char *flags, const char *text, unsigned n, const char **ret, bool *ret_group) {
    uint32_t o = 0;
    pcre2_match_data *m;
    o |= strchr(flags, 'i') ? PCRE2_CASELESS : 0;
    o |= strchr(flags, 'm') ? PCRE2_MULTILINE : 0;
    o |= strchr(flags, 's') ? PCRE2_DOTALL : 0;
    o |= strchr(flags, 'u') ? PCRE2_UTF : 0;
    int r = match(pattern, o, text, &m);
    if (r <= 0)
        return r;
    *ret = group(a, m, text, n);
    *ret_group = *ret != NULL;
    pcre2_match_data_free(m);
    return 1;
}

bool meta_semver(struct arena *a, const char *text, struct meta_version *ret) {
    static const char re[] = "^v?(0|[1-9]\\d{0,15})\\.(0|[1-9]\\d{0,15})\\.(0|[1-9]\\d{0,15})"
                             "(?:-((?:0|[1-9]\\d*|\\d*[a-zA-Z-][a-zA-Z0-9-]*)(?:\\.(?:0|[1-9]\\d*|\\d*[a-zA-Z-][a-zA-Z0-9-]*))*))?"
                             "(?:\\+[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?$";
    struct sv t = sv_trim(sv_from(text));
    const char *s = arena_strndup(a, t.p, t.n);
    pcre2_match_data *m;
    if (t.n > 256 || match(re, 0, s, &m) != 1)
        return false;
    *ret = (struct meta_version){.raw = text, .major = group(a, m, s, 1), .minor = group(a, m, s, 2), .patch = group(a, m, s, 3)};
    const char *pre = group(a, m, s, 4);
    pcre2_match_data_free(m);
    ret->pre = pre != NULL;
    ret->version = arena_printf(a, "%s.%s.%s%s%s", ret->major, ret->minor, ret->patch, pre ? "-" : "", pre ? pre : "");
    char *list = arena_strdup(a, pre ? pre : "");
    for (char *p = list; *p; p++)
        if (*p == '.')
            *p = ',';
    ret->prerelease = list;
    return true;
}

/* "007" -> "7" */
static const char *number(struct arena *a, const char *s) {
    if (!s || !*s)
        return "0";
    while (*s == '0' && s[1])
        s++;
    return arena_strdup(a, s);
}

bool meta_pep440(struct arena *a, const char *text, struct meta_version *ret) {
    static const char re[] = "^\\s*v?(?:(\\d+)!)?(\\d+(?:\\.\\d+)*)"
                             "(?:[-_.]?(alpha|a|beta|b|preview|pre|c|rc)[-_.]?(\\d+)?)?"
                             "((?:-(\\d+))|(?:[-_.]?(?:post|rev|r)[-_.]?(\\d+)?))?"
                             "([-_.]?dev[-_.]?(\\d+)?)?"
                             "(?:\\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?\\s*$";
    pcre2_match_data *m;
    if (strlen(text) > 512 || match(re, PCRE2_CASELESS, text, &m) != 1)
        return false;
    _cleanup_buf_ struct buf v = BUF_SMALL;
    char *g[11];
    for (uint32_t i = 1; i <= 10; i++)
        g[i] = group(a, m, text, i);
    pcre2_match_data_free(m);
    const char *part[3] = {"0", "0", "0"};
    if (g[1] && strcmp(number(a, g[1]), "0"))
        buf_addf(&v, "%s!", number(a, g[1]));
    struct sv rest = sv_from(g[2]), one;
    for (size_t i = 0; sv_split(&rest, '.', &one); i++) {
        const char *n = number(a, arena_strndup(a, one.p, one.n));
        buf_addf(&v, "%s%s", i ? "." : "", n);
        if (i < 3)
            part[i] = n;
    }
    if (g[3]) {
        char c = (char)(g[3][0] | 32);
        buf_addf(&v, "%s%s", c == 'a' ? "a" : c == 'b' ? "b" : "rc", number(a, g[4]));
    }
    if (g[5])
        buf_addf(&v, ".post%s", number(a, g[6] ? g[6] : g[7]));
    if (g[8])
        buf_addf(&v, ".dev%s", number(a, g[9]));
    if (g[10]) {
        buf_addc(&v, '+');
        for (const char *p = g[10]; *p; p++)
            buf_addc(&v, *p == '-' || *p == '_' ? '.' : *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p);
    }
    *ret = (struct meta_version){.raw = text, .version = arena_strndup(a, v.p, v.n), .major = part[0], .minor = part[1], .patch = part[2],
                                 .pre = g[3] || g[8], .post = g[5] != NULL, .dev = g[8] != NULL};
    return true;
}

int meta_locale_cmp(const char *a, const char *b) {
    static const char order[] = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789";
    for (size_t i = 0;; i++) {
        int w[2];
        for (int k = 0; k < 2; k++) {
            unsigned char c = (unsigned char)(k ? b : a)[i];
            const char *p = c ? strchr(order, c) : NULL;
            w[k] = !c ? 0 : p ? (int)(p - order) + 1 : c >= 'A' && c <= 'Z' ? 100 + c + 32 : 100 + c;
        }
        if (w[0] != w[1])
            return w[0] - w[1];
        if (!w[0])
            break;
    }
    for (; *a && *a == *b; a++, b++)
        ;
    return *a == *b ? 0 : *a > *b ? -1 : 1; /* lower case first */
}
