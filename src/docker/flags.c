#include "docker/flags.h"

static const struct flag *by_name(const struct flag_set *s, const char *name, size_t n) {
    for (size_t i = 0; i < s->n; i++)
        if (s->flags[i].name && strlen(s->flags[i].name) == n &&
            memcmp(s->flags[i].name, name, n) == 0)
            return &s->flags[i];
    return NULL;
}

static const struct flag *by_short(const struct flag_set *s, char c) {
    for (size_t i = 0; i < s->n; i++)
        if (s->flags[i].sh == c)
            return &s->flags[i];
    return NULL;
}

static bool is_bool(const struct flag *f) {
    return f->kind == FLAG_BOOL || f->kind == FLAG_SKIP || f->kind == FLAG_NOTYET;
}

static int parse_bool(const char *s, bool *ret) {
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < ELEMENTS(yes); i++) {
        if (streq(s, yes[i])) {
            *ret = true;
            return 0;
        }
        if (streq(s, no[i])) {
            *ret = false;
            return 0;
        }
    }
    return -EINVAL;
}

static int store(const struct flag *f, const char *shown, const char *value, struct err *e) {
    bool b = true;
    if (is_bool(f) && value && parse_bool(value, &b) < 0)
        return err_set(e, ERR_USER, -EINVAL,
                       "invalid argument \"%s\" for \"%s\" flag: strconv.ParseBool: parsing \"%s\": "
                       "invalid syntax", value, shown, value);
    if (f->given)
        *f->given = true;
    switch (f->kind) {
    case FLAG_BOOL: *(bool *)f->dst = b; break;
    case FLAG_STR: *(const char **)f->dst = value; break;
    case FLAG_LIST: strv_add(f->dst, value); break;
    case FLAG_INT: {
        char *end;
        errno = 0;
        long long v = strtoll(value, &end, 10);
        if (errno || end == value || *end)
            return err_set(e, ERR_USER, -EINVAL, "invalid argument \"%s\" for \"%s\" flag: not a number",
                           value, shown);
        *(int64_t *)f->dst = v;
        break;
    }
    case FLAG_SKIP:
    case FLAG_SKIP_STR: break;
    case FLAG_NOTYET:
        if (!b)
            break;
        return err_set(e, ERR_USER, -ENOTSUP, "not yet: %s", shown);
    case FLAG_NOTYET_STR: return err_set(e, ERR_USER, -ENOTSUP, "not yet: %s %s", shown, value);
    }
    return 0;
}

/* One argument "-abc": each letter a boolean, until one takes the rest (or the next argument). */
static int parse_short(const struct flag_set *set, int argc, char **argv, int *i, bool *help,
                       struct err *e) {
    const char *arg = argv[*i];
    for (const char *p = arg + 1; *p; p++) {
        const struct flag *f = by_short(set, *p);
        if (!f) {
            if (*p == 'h') {
                *help = true;
                return 0;
            }
            return err_set(e, ERR_USER, -EINVAL, "unknown shorthand flag: '%c' in %s", *p, arg);
        }
        char shown[160];
        if (f->name)
            snprintf(shown, sizeof(shown), "-%c, --%s", *p, f->name);
        else
            snprintf(shown, sizeof(shown), "-%c", *p);
        if (is_bool(f)) {
            bool eq = p[1] == '=';
            int r = store(f, shown, eq ? p + 2 : NULL, e);
            if (r < 0 || eq)
                return r;
            continue;
        }
        const char *value = p[1] == '=' ? p + 2 : p + 1;
        if (!p[1]) {
            if (*i + 1 < argc)
                value = argv[++*i];
            else if (set->last_may_lack_value)
                value = "";
            else
                return err_set(e, ERR_USER, -EINVAL, "flag needs an argument: '%c' in %s", *p, arg);
        }
        return store(f, shown, value, e);
    }
    return 0;
}

static int parse_long(const struct flag_set *set, int argc, char **argv, int *i, bool *help,
                      struct err *e) {
    const char *name = argv[*i] + 2, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    const struct flag *f = by_name(set, name, n);
    if (!f) {
        if (n == 4 && memcmp(name, "help", 4) == 0) {
            *help = true;
            return 0;
        }
        return err_set(e, ERR_USER, -EINVAL, "unknown flag: --%.*s", (int)n, name);
    }
    char shown[160];
    snprintf(shown, sizeof(shown), "--%s", f->name);
    if (is_bool(f))
        return store(f, shown, eq ? eq + 1 : NULL, e);
    const char *value = eq ? eq + 1 : NULL;
    if (!value) {
        if (*i + 1 < argc)
            value = argv[++*i];
        else if (set->last_may_lack_value)
            value = "";
        else
            return err_set(e, ERR_USER, -EINVAL, "flag needs an argument: --%s", f->name);
    }
    return store(f, shown, value, e);
}

int flags_parse(const struct flag_set *set, int argc, char **argv, struct strv *rest, bool *help,
                struct err *e) {
    bool h = false;
    for (int i = 0; i < argc && !h; i++) {
        const char *a = argv[i];
        int r = 0;
        if (streq(a, "--")) {
            for (i++; i < argc; i++)
                strv_add(rest, argv[i]);
            break;
        }
        if (a[0] == '-' && a[1] == '-')
            r = parse_long(set, argc, argv, &i, &h, e);
        else if (a[0] == '-' && a[1])
            r = parse_short(set, argc, argv, &i, &h, e);
        else {
            if (!set->interspersed) {
                for (; i < argc; i++)
                    strv_add(rest, argv[i]);
                break;
            }
            strv_add(rest, a);
        }
        if (r < 0)
            return r;
    }
    if (help)
        *help = h;
    return 0;
}

int words_split(const char *s, struct strv *ret, struct err *e) {
    _cleanup_buf_ struct buf word = BUF_MAX(256u << 10);
    bool in_word = false;
    char quote = 0;
    for (const char *p = s; *p; p++) {
        if (quote) {
            if (*p == quote)
                quote = 0;
            else if (quote == '"' && *p == '\\' && p[1] && strchr("\"\\$`\n", p[1])) {
                if (*++p != '\n')
                    buf_addc(&word, *p);
            } else
                buf_addc(&word, *p);
            continue;
        }
        if (strchr(" \t\r\n", *p)) {
            if (in_word)
                strv_addn(ret, word.p ? word.p : "", word.n);
            buf_reset(&word);
            in_word = false;
            continue;
        }
        in_word = true;
        if (*p == '\'' || *p == '"')
            quote = *p;
        else if (*p == '\\' && p[1]) {
            if (*++p != '\n')
                buf_addc(&word, *p);
        } else
            buf_addc(&word, *p);
    }
    if (quote)
        return err_set(e, ERR_CONFIG, -EINVAL, "options: a %c is not closed: %s", quote, s);
    if (!buf_ok(&word))
        return err_set(e, ERR_LIMIT, -E2BIG, "options: too long");
    if (in_word)
        strv_addn(ret, word.p ? word.p : "", word.n);
    return 0;
}

int ram_parse(const char *s, uint64_t *ret) {
    char *end;
    if (!(*s >= '0' && *s <= '9'))
        return -EINVAL;
    errno = 0;
    double v = strtod(s, &end);
    if (errno || end == s || v < 0)
        return -EINVAL;
    while (*end == ' ')
        end++;
    double unit = 1;
    switch (*end) {
    case 'k': case 'K': unit = 1024.0; end++; break;
    case 'm': case 'M': unit = 1024.0 * 1024; end++; break;
    case 'g': case 'G': unit = 1024.0 * 1024 * 1024; end++; break;
    case 't': case 'T': unit = 1024.0 * 1024 * 1024 * 1024; end++; break;
    case 'p': case 'P': unit = 1024.0 * 1024 * 1024 * 1024 * 1024; end++; break;
    default: break;
    }
    if (*end == 'i' || *end == 'I')
        end++;
    if (*end == 'b' || *end == 'B')
        end++;
    if (*end || v * unit >= 9e18)
        return -EINVAL;
    *ret = (uint64_t)(v * unit);
    return 0;
}

int duration_parse(const char *s, uint64_t *ret) {
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"µs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    if (streq(s, "0")) {
        *ret = 0;
        return 0;
    }
    if (*s == '+')
        s++;
    if (!*s)
        return -EINVAL;
    double total = 0;
    while (*s) {
        char *end;
        if (!(*s >= '0' && *s <= '9') && *s != '.')
            return -EINVAL;
        double v = strtod(s, &end);
        if (end == s)
            return -EINVAL;
        size_t n = 0;
        while (end[n] && !(end[n] >= '0' && end[n] <= '9') && end[n] != '.')
            n++;
        double unit = 0;
        for (size_t i = 0; i < ELEMENTS(units); i++)
            if (strlen(units[i].name) == n && memcmp(units[i].name, end, n) == 0)
                unit = units[i].ns;
        if (unit == 0)
            return -EINVAL;
        total += v * unit;
        s = end + n;
    }
    if (total >= 9.2e18)
        return -ERANGE;
    *ret = (uint64_t)total;
    return 0;
}
