#include "cli/opts.h"

#include "cli/term.h"

static const struct opt *find_long(const struct opts *o, struct sv name) {
    for (size_t i = 0; i < o->n; i++)
        if (o->items[i].name && sv_eqs(name, o->items[i].name))
            return &o->items[i];
    return NULL;
}
static const struct opt *find_short(const struct opts *o, char c) {
    for (size_t i = 0; i < o->n; i++)
        if (o->items[i].short_name == c)
            return &o->items[i];
    return NULL;
}
static bool takes_value(const struct opt *x) {
    return x->kind == OPT_IGNORE ? x->arg != NULL : x->kind != OPT_FLAG;
}

int parse_size(const char *s, uint64_t *ret) {
    char *end;
    errno = 0;
    double v = strtod(s, &end);
    if (end == s || v < 0 || errno)
        return -EINVAL;
    uint64_t unit = 1;
    static const char units[] = "kmgtp";
    const char *k = *end ? strchr(units, *end | 32) : NULL;
    if (k) {
        unit = 1ull << (10 * (k - units + 1));
        end++;
        if (*end == 'i')
            end++;
    }
    if (*end == 'b' || *end == 'B')
        end++;
    if (*end || v * (double)unit > 9e18)
        return -EINVAL;
    *ret = (uint64_t)(v * (double)unit);
    return 0;
}

int parse_age(const char *s, uint64_t *ret) {
    uint64_t v;
    size_t n = strlen(s);
    if (n < 2 || sv_u64(sv_n(s, n - 1), 100000, &v) < 0)
        return -EINVAL;
    uint64_t unit = s[n - 1] == 'd' ? 86400 : s[n - 1] == 'h' ? 3600 : s[n - 1] == 'm' ? 60 : 0;
    *ret = v * unit * 1000000000u;
    return unit ? 0 : -EINVAL;
}

static int set(const struct opt *x, const char *name, const char *value, bool no, struct err *e) {
    char *end;
    switch (x->kind) {
    case OPT_FLAG:
        *(bool *)x->to = !no;
        break;
    case OPT_STR:
        *(const char **)x->to = value;
        break;
    case OPT_LIST:
        strv_add(x->to, value);
        break;
    case OPT_INT:
        errno = 0;
        *(int64_t *)x->to = strtoll(value, &end, 10);
        if (errno || *end || end == value)
            return err_set(e, ERR_USER, -EINVAL, "%s: \"%s\" is not a number", name, value);
        break;
    case OPT_SIZE:
        if (parse_size(value, x->to) < 0)
            return err_set(e, ERR_USER, -EINVAL, "%s: \"%s\" is not a size (512m, 2g)", name, value);
        break;
    case OPT_IGNORE:
    case OPT_GROUP:
        break;
    }
    return 0;
}

static size_t distance(struct sv a, const char *b) {
    size_t n = strlen(b), row[64];
    if (n >= ELEMENTS(row) || a.n >= ELEMENTS(row))
        return 99;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        size_t diag = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t up = row[j];
            row[j] = MIN(MIN(row[j] + 1, row[j - 1] + 1), diag + (a.p[i - 1] != b[j - 1]));
            diag = up;
        }
    }
    return row[n];
}

static int unknown(const struct opts *o, struct sv name, const char *dashes, struct err *e) {
    const char *best = NULL;
    size_t least = 3;
    for (size_t i = 0; i < o->n; i++)
        if (o->items[i].name && o->items[i].help && distance(name, o->items[i].name) < least) {
            least = distance(name, o->items[i].name);
            best = o->items[i].name;
        }
    err_set(e, ERR_USER, -EINVAL, "no such option: %s" SV_FMT, dashes, SV_ARG(name));
    if (best)
        return err_hint(e, -EINVAL, "did you mean --%s?", best);
    struct sv rest = sv_from(o->usage), cmd;
    sv_split(&rest, ' ', &cmd);
    return err_hint(e, -EINVAL, "slipway " SV_FMT " --help lists them", SV_ARG(cmd));
}

static void help(const struct opts *o) {
    printf("usage: slipway %s\n", o->usage);
    if (o->about)
        printf("\n%s\n", o->about);
    bool head = false;
    for (size_t i = 0; i < o->n; i++) {
        const struct opt *x = &o->items[i];
        if (!x->help)
            continue;
        if (x->kind == OPT_GROUP) {
            printf("\n%s:\n", x->help);
            head = true;
            continue;
        }
        if (!head)
            printf("\noptions:\n");
        head = true;
        char left[80];
        snprintf(left, sizeof left, "  %c%c%s %s%s%s%s", x->short_name ? '-' : ' ',
                 x->short_name ? x->short_name : ' ', x->short_name && x->name ? "," : " ",
                 x->name ? "--" : "", x->name ? x->name : "", takes_value(x) ? " " : "",
                 takes_value(x) ? (x->arg ? x->arg : "VALUE") : "");
        if (strlen(left) > 30)
            printf("%s\n%32s%s\n", left, "", x->help);
        else
            printf("%-32s%s\n", left, x->help);
    }
}

int opts_parse(const struct opts *o, int argc, char **argv, int *ret_n, struct err *e) {
    int n = 0, r;
    for (int i = 1; i < argc; i++) {
        char *a = argv[i];
        if (a[0] != '-' || !a[1]) {
            argv[++n] = a;
            if (o->stop_at_first) {
                while (++i < argc)
                    argv[++n] = argv[i];
                break;
            }
            continue;
        }
        if (streq(a, "--")) {
            while (++i < argc)
                argv[++n] = argv[i];
            break;
        }
        if (streq(a, "--help") || (streq(a, "-h") && !find_short(o, 'h'))) {
            help(o);
            return 1;
        }
        if (a[1] == '-') {
            struct sv rest = sv_from(a + 2), name;
            bool has = sv_chr(rest, '=') >= 0;
            sv_split(&rest, '=', &name);
            const struct opt *x = find_long(o, name);
            bool no = false;
            if (!x && sv_starts(name, "no-")) {
                x = find_long(o, sv_sub(name, 3, SIZE_MAX));
                no = x && x->kind == OPT_FLAG;
                if (!no)
                    x = NULL;
            }
            if (!x)
                return unknown(o, name, "--", e);
            const char *value = NULL;
            if (x->kind == OPT_FLAG && has) {
                no = sv_eqs(rest, "false") || sv_eqs(rest, "0");
            } else if (takes_value(x)) {
                value = has ? rest.p : ++i < argc ? argv[i] : NULL;
                if (!value)
                    return err_set(e, ERR_USER, -EINVAL, "%s needs a value", a);
            }
            if ((r = set(x, a, value, no, e)) < 0)
                return r;
            continue;
        }
        for (char *c = a + 1; *c; c++) {
            const struct opt *x = find_short(o, *c);
            if (!x)
                return unknown(o, sv_n(c, 1), "-", e);
            if (!takes_value(x)) {
                if ((r = set(x, a, NULL, false, e)) < 0)
                    return r;
                continue;
            }
            const char *value = c[1] == '=' ? c + 2 : c[1] ? c + 1 : ++i < argc ? argv[i] : NULL;
            if (!value)
                return err_set(e, ERR_USER, -EINVAL, "-%c needs a value", *c);
            if ((r = set(x, a, value, false, e)) < 0)
                return r;
            break;
        }
    }
    argv[n + 1] = NULL;
    *ret_n = n;
    return 0;
}

int opts_begin(const struct opts *o, int argc, char **argv, int *ret_n) {
    struct err e = {0};
    int r = opts_parse(o, argc, argv, ret_n, &e);
    if (r == 1)
        return 0;
    if (r < 0)
        return cli_fail(&e);
    return -1;
}
