/* The core schema's view of a plain scalar (YAML 1.2.2, 10.3.2), by hand: strtod would also take
 * "nan", "infinity" and hexadecimal floats, and depends on the locale. */
#include "base/yaml.h"

#include <math.h>

static bool one_of(struct sv t, const char *a, const char *b, const char *c) {
    return sv_eqs(t, a) || sv_eqs(t, b) || sv_eqs(t, c);
}

static bool digits(const char **p, const char *end) {
    const char *from = *p;
    while (*p < end && **p >= '0' && **p <= '9')
        (*p)++;
    return *p > from;
}

static bool radix(struct sv t, unsigned base, double *num) {
    double v = 0;
    if (!t.n)
        return false;
    for (size_t i = 0; i < t.n; i++) {
        char c = t.p[i];
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                            : 99;
        if (d >= base)
            return false;
        v = v * base + d;
    }
    *num = v;
    return true;
}

/* [-+]? ( [0-9]+ | ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? ) */
static enum yaml_type number(struct sv t, double *num) {
    const char *p = t.p, *end = t.p + t.n;
    enum yaml_type type = YAML_T_INT;
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    bool whole = digits(&p, end);
    if (p < end && *p == '.') {
        p++;
        type = YAML_T_FLOAT;
        if (!digits(&p, end) && !whole)
            return YAML_T_STRING;
    } else if (!whole) {
        return YAML_T_STRING;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        type = YAML_T_FLOAT;
        if (p < end && (*p == '-' || *p == '+'))
            p++;
        if (!digits(&p, end))
            return YAML_T_STRING;
    }
    if (p != end || t.n > 400)
        return YAML_T_STRING;
    char text[401]; /* the grammar is checked; the C locale is set for numbers */
    memcpy(text, t.p, t.n);
    text[t.n] = 0;
    *num = strtod(text, NULL);
    return type;
}

enum yaml_type yaml_scalar_type(const struct yaml_node *n, double *ret_num, bool *ret_bool) {
    if (!n || n->kind != YAML_SCALAR || n->style != YAML_PLAIN)
        return YAML_T_STRING;
    if (n->tag && (streq(n->tag, "!") || streq(n->tag, "tag:yaml.org,2002:str")))
        return YAML_T_STRING;
    struct sv t = n->text;
    double num = 0;
    enum yaml_type type = YAML_T_STRING;
    if (t.n == 0 || sv_eqs(t, "~") || one_of(t, "null", "Null", "NULL"))
        return YAML_T_NULL;
    bool yes = one_of(t, "true", "True", "TRUE");
    if (yes || one_of(t, "false", "False", "FALSE")) {
        if (ret_bool)
            *ret_bool = yes;
        return YAML_T_BOOL;
    }
    struct sv u = t.p[0] == '+' || t.p[0] == '-' ? sv_sub(t, 1, t.n) : t;
    if (one_of(u, ".inf", ".Inf", ".INF")) {
        num = t.p[0] == '-' ? -INFINITY : INFINITY;
        type = YAML_T_FLOAT;
    } else if (one_of(t, ".nan", ".NaN", ".NAN")) {
        num = NAN;
        type = YAML_T_FLOAT;
    } else if ((sv_starts(t, "0x") && radix(sv_sub(t, 2, t.n), 16, &num)) ||
               (sv_starts(t, "0o") && radix(sv_sub(t, 2, t.n), 8, &num))) {
        type = YAML_T_INT;
    } else {
        type = number(t, &num);
    }
    if (ret_num && type != YAML_T_STRING)
        *ret_num = num;
    return type;
}
