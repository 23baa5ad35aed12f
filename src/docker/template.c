/* The text is cut once into a tree of nodes (text, output, if, range, with); what stands inside
 * an action is kept as text and evaluated by a small recursive-descent reader whenever the node
 * is executed. Values are JSON nodes in the caller's arena; NULL is nil. */
#include "docker/template.h"

#include <ctype.h>

enum { MAX_DEPTH = 40, MAX_ARGS = 16, MAX_VARS = 32, MAX_OUT = 64 << 20 };
enum node_kind { N_TEXT, N_OUT, N_IF, N_RANGE, N_WITH };
struct node {
    enum node_kind kind;
    struct sv text; /* the text, or the expression */
    struct node *body, *other, *next;
};
struct var {
    struct sv name;
    const struct json *v;
};
struct tmpl {
    struct arena *a;
    struct buf *out;
    struct err *e;
    struct var vars[MAX_VARS];
    size_t n_vars;
    unsigned depth;
    uint64_t steps;
};
struct cursor {
    const char *p, *end;
};
typedef const struct json *val;

static int fail(struct tmpl *t, const char *fmt, ...) _printf_(2, 3);
static int fail(struct tmpl *t, const char *fmt, ...) {
    char msg[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    return err_set(t->e, ERR_USER, -EINVAL, "template parsing error: template: %s", msg);
}

/* --- cutting ------------------------------------------------------------------------------- */

struct cut {
    struct tmpl *t;
    const char *p, *end;
    struct sv action; /* of the last action read */
    bool trim_next;
};

static struct sv keyword(struct sv *s) {
    size_t i = 0;
    while (i < s->n && (isalpha((unsigned char)s->p[i])))
        i++;
    struct sv k = sv_sub(*s, 0, i);
    return k;
}

/* The end of an action: "}}" outside quotes. NULL when it is not closed. */
static const char *action_end(const char *p, const char *end) {
    char q = 0;
    for (; p < end; p++) {
        if (q) {
            if (*p == '\\' && q == '"' && p + 1 < end)
                p++;
            else if (*p == q)
                q = 0;
        } else if (*p == '"' || *p == '`' || *p == '\'')
            q = *p;
        else if (p + 1 < end && p[0] == '}' && p[1] == '}')
            return p;
    }
    return NULL;
}

static struct node *new_node(struct cut *c, enum node_kind kind, struct sv text) {
    struct node *n = ARENA_NEW(c->t->a, struct node);
    n->kind = kind;
    n->text = text;
    return n;
}

static int cut_list(struct cut *c, struct node **ret, struct sv *ret_stop, unsigned depth);

/* if/range/with: the body, then else parts, up to end. "else if X" is an if inside the else. */
static int cut_block(struct cut *c, struct node *n, unsigned depth) {
    struct sv stop;
    int r = cut_list(c, &n->body, &stop, depth + 1);
    if (r < 0)
        return r;
    if (sv_eqs(stop, "end"))
        return 0;
    struct sv after = sv_trim(sv_sub(stop, 4, stop.n));
    if (!after.n) {
        r = cut_list(c, &n->other, &stop, depth + 1);
        if (r >= 0 && !sv_eqs(stop, "end"))
            return fail(c->t, "expected end; found {{" SV_FMT "}}", SV_ARG(stop));
        return r;
    }
    struct sv k = keyword(&after);
    if (!sv_eqs(k, "if") && !sv_eqs(k, "with"))
        return fail(c->t, "unexpected <" SV_FMT "> in else", SV_ARG(after));
    n->other = new_node(c, sv_eqs(k, "if") ? N_IF : N_WITH, sv_trim(sv_sub(after, k.n, after.n)));
    return depth > MAX_DEPTH ? fail(c->t, "nested too deeply") : cut_block(c, n->other, depth + 1);
}

/* Nodes up to an "end" or "else" (given in ret_stop) or the end of the text (p = NULL there). */
static int cut_list(struct cut *c, struct node **ret, struct sv *ret_stop, unsigned depth) {
    struct node **tail = ret;
    if (depth > MAX_DEPTH)
        return fail(c->t, "nested too deeply");
    while (c->p < c->end) {
        const char *open = memmem(c->p, (size_t)(c->end - c->p), "{{", 2);
        struct sv text = sv_n(c->p, (size_t)((open ? open : c->end) - c->p));
        if (c->trim_next)
            while (text.n && isspace((unsigned char)*text.p))
                text = sv_sub(text, 1, text.n);
        c->trim_next = false;
        if (open && open + 3 < c->end && open[2] == '-' && isspace((unsigned char)open[3]))
            text = sv_rtrim(text);
        if (text.n) {
            *tail = new_node(c, N_TEXT, text);
            tail = &(*tail)->next;
        }
        if (!open) {
            c->p = c->end;
            break;
        }
        const char *close = action_end(open + 2, c->end);
        if (!close)
            return fail(c->t, "unclosed action");
        struct sv act = sv_n(open + 2, (size_t)(close - open - 2));
        c->p = close + 2;
        if (act.n > 1 && act.p[0] == '-' && isspace((unsigned char)act.p[1]))
            act = sv_sub(act, 1, act.n);
        if (act.n > 1 && act.p[act.n - 1] == '-' && isspace((unsigned char)act.p[act.n - 2])) {
            act = sv_sub(act, 0, act.n - 1);
            c->trim_next = true;
        }
        act = sv_trim(act);
        if (sv_starts(act, "/*") && sv_ends(act, "*/"))
            continue;
        struct sv k = keyword(&act);
        if (sv_eqs(act, "end") || sv_eqs(k, "else")) {
            *ret_stop = act;
            return 0;
        }
        if (sv_eqs(k, "define") || sv_eqs(k, "template") || sv_eqs(k, "block") || sv_eqs(k, "break") ||
            sv_eqs(k, "continue"))
            return err_set(c->t->e, ERR_USER, -ENOTSUP, "not yet: {{" SV_FMT "}} in --format", SV_ARG(k));
        enum node_kind kind = sv_eqs(k, "if") ? N_IF : sv_eqs(k, "range") ? N_RANGE
                              : sv_eqs(k, "with") ? N_WITH : N_OUT;
        struct sv expr = kind == N_OUT ? act : sv_trim(sv_sub(act, k.n, act.n));
        if (!expr.n)
            return fail(c->t, "missing value for command");
        *tail = new_node(c, kind, expr);
        if (kind != N_OUT) {
            int r = cut_block(c, *tail, depth);
            if (r < 0)
                return r;
        }
        tail = &(*tail)->next;
    }
    *ret_stop = SV_NULL;
    return depth ? fail(c->t, "unexpected EOF") : 0;
}

/* --- values -------------------------------------------------------------------------------- */

static val v_str(struct tmpl *t, struct sv s) {
    struct json *j = ARENA_NEW(t->a, struct json);
    j->kind = JSON_STRING;
    j->text = arena_sv(t->a, s);
    return j;
}

static val v_num(struct tmpl *t, double d) {
    struct json *j = ARENA_NEW(t->a, struct json);
    j->kind = JSON_NUMBER;
    j->number = d;
    char *s = arena_printf(t->a, "%.17g", d);
    j->text = sv_from(s);
    return j;
}

static val v_bool(struct tmpl *t, bool b) {
    struct json *j = ARENA_NEW(t->a, struct json);
    j->kind = JSON_BOOL;
    j->boolean = b;
    return j;
}

static bool truth(val v) {
    if (!v)
        return false;
    switch (v->kind) {
    case JSON_NULL: return false;
    case JSON_BOOL: return v->boolean;
    case JSON_NUMBER: return v->number != 0;
    case JSON_STRING: return v->text.n != 0;
    case JSON_ARRAY:
    case JSON_OBJECT: return v->n != 0;
    }
    return false;
}

static int by_key(const void *x, const void *y, void *arg) {
    const struct json *o = arg;
    return sv_cmp(o->keys[*(const size_t *)x], o->keys[*(const size_t *)y]);
}

/* The order of an object's keys as Go walks a map: sorted. */
static size_t *sorted(struct tmpl *t, val o) {
    size_t *ix = ARENA_ARRAY(t->a, size_t, o->n + 1);
    for (size_t i = 0; i < o->n; i++)
        ix[i] = i;
    qsort_r(ix, o->n, sizeof(*ix), by_key, (void *)o);
    return ix;
}

/* As Go's fmt %v. */
static void show(struct tmpl *t, struct buf *b, val v, bool top, unsigned depth) {
    if (!v || v->kind == JSON_NULL) {
        buf_adds(b, top ? "<no value>" : "<nil>");
        return;
    }
    switch (v->kind) {
    case JSON_NULL: break;
    case JSON_BOOL: buf_adds(b, v->boolean ? "true" : "false"); break;
    case JSON_NUMBER:
    case JSON_STRING: buf_addsv(b, v->text); break;
    case JSON_ARRAY:
        buf_addc(b, '[');
        for (size_t i = 0; i < v->n && depth < MAX_DEPTH; i++) {
            if (i)
                buf_addc(b, ' ');
            show(t, b, v->items[i], false, depth + 1);
        }
        buf_addc(b, ']');
        break;
    case JSON_OBJECT: {
        size_t *ix = sorted(t, v);
        buf_adds(b, "map[");
        for (size_t i = 0; i < v->n && depth < MAX_DEPTH; i++) {
            if (i)
                buf_addc(b, ' ');
            buf_addsv(b, v->keys[ix[i]]);
            buf_addc(b, ':');
            show(t, b, v->items[ix[i]], false, depth + 1);
        }
        buf_addc(b, ']');
        break;
    }
    }
}

static struct sv shown(struct tmpl *t, val v) {
    if (v && v->kind == JSON_STRING)
        return v->text;
    _cleanup_buf_ struct buf b = BUF_MAX(MAX_OUT);
    show(t, &b, v, false, 0);
    return arena_sv(t->a, buf_sv(&b));
}

static val lookup(val o, struct sv key) {
    if (!o || o->kind != JSON_OBJECT)
        return NULL;
    for (size_t i = o->n; i > 0; i--)
        if (sv_eq(o->keys[i - 1], key))
            return o->items[i - 1];
    return NULL;
}

static int field(struct tmpl *t, val o, struct sv name, val *ret) {
    if (!o || o->kind == JSON_NULL)
        return fail(t, ":1: executing \"\" at <." SV_FMT ">: nil pointer evaluating interface {}." SV_FMT,
                    SV_ARG(name), SV_ARG(name));
    if (o->kind != JSON_OBJECT)
        return fail(t, ":1: executing \"\" at <." SV_FMT ">: can't evaluate field " SV_FMT " in type %s",
                    SV_ARG(name), SV_ARG(name),
                    o->kind == JSON_ARRAY ? "[]interface {}" : o->kind == JSON_STRING ? "string"
                    : o->kind == JSON_BOOL ? "bool" : "float64");
    *ret = lookup(o, name);
    return 0;
}

/* --- functions ----------------------------------------------------------------------------- */

static int compare(val x, val y, int *ret) {
    if (!x || !y || x->kind != y->kind)
        return -EINVAL;
    if (x->kind == JSON_NUMBER)
        *ret = x->number < y->number ? -1 : x->number > y->number;
    else if (x->kind == JSON_STRING)
        *ret = sv_cmp(x->text, y->text);
    else if (x->kind == JSON_BOOL)
        *ret = (int)x->boolean - (int)y->boolean;
    else
        return -EINVAL;
    return 0;
}

static int sv_bytes_cmp(val x, val y) {
    int c = 1;
    if ((!x || x->kind == JSON_NULL) && (!y || y->kind == JSON_NULL))
        return 0;
    return compare(x, y, &c) < 0 ? 1 : c;
}

static int call_printf(struct tmpl *t, val *args, size_t n, struct buf *b) {
    if (!n || !args[0] || args[0]->kind != JSON_STRING)
        return fail(t, "printf: a format is needed");
    struct sv f = args[0]->text;
    size_t next = 1;
    for (size_t i = 0; i < f.n; i++) {
        if (f.p[i] != '%') {
            buf_addc(b, f.p[i]);
            continue;
        }
        bool left = false, zero = false;
        size_t width = 0, prec = SIZE_MAX;
        for (i++; i < f.n && strchr("-0+ #", f.p[i]); i++) {
            left |= f.p[i] == '-';
            zero |= f.p[i] == '0';
        }
        for (; i < f.n && isdigit((unsigned char)f.p[i]) && width < 10000; i++)
            width = width * 10 + (size_t)(f.p[i] - '0');
        if (i < f.n && f.p[i] == '.')
            for (i++, prec = 0; i < f.n && isdigit((unsigned char)f.p[i]) && prec < 10000; i++)
                prec = prec * 10 + (size_t)(f.p[i] - '0');
        if (i >= f.n)
            break;
        if (f.p[i] == '%') {
            buf_addc(b, '%');
            continue;
        }
        if (!strchr("svdqtxfg", f.p[i]))
            return err_set(t->e, ERR_USER, -ENOTSUP, "not yet: printf's %%%c in --format", f.p[i]);
        if (next >= n) {
            buf_addf(b, "%%!%c(MISSING)", f.p[i]);
            continue;
        }
        val v = args[next++];
        struct sv s;
        if (f.p[i] == 'q') {
            _cleanup_buf_ struct buf q = BUF_MAX(MAX_OUT);
            json_escape(&q, shown(t, v));
            s = arena_sv(t->a, buf_sv(&q));
        } else if (v && v->kind == JSON_NUMBER && f.p[i] == 'x')
            s = sv_from(arena_printf(t->a, "%llx", (unsigned long long)v->number));
        else if (v && v->kind == JSON_NUMBER && (f.p[i] == 'f' || f.p[i] == 'g'))
            s = sv_from(arena_printf(t->a, "%.*f", (int)(prec == SIZE_MAX ? 6 : prec), v->number));
        else
            s = sv_sub(shown(t, v), 0, f.p[i] == 's' ? prec : SIZE_MAX);
        for (size_t k = s.n; !left && k < width; k++)
            buf_addc(b, zero ? '0' : ' ');
        buf_addsv(b, s);
        for (size_t k = s.n; left && k < width; k++)
            buf_addc(b, ' ');
    }
    return 0;
}

static int call_index(struct tmpl *t, val *args, size_t n, val *ret) {
    val v = n ? args[0] : NULL;
    for (size_t i = 1; i < n; i++) {
        if (!v || v->kind == JSON_NULL)
            return fail(t, ":1: executing \"\" at <index>: error calling index: index of untyped nil");
        if (v->kind == JSON_OBJECT && args[i] && args[i]->kind == JSON_STRING)
            v = lookup(v, args[i]->text);
        else if ((v->kind == JSON_ARRAY || v->kind == JSON_STRING) && args[i] && args[i]->kind == JSON_NUMBER) {
            double ix = args[i]->number;
            size_t len = v->kind == JSON_ARRAY ? v->n : v->text.n;
            if (!(ix >= 0 && ix < (double)len))
                return fail(t, ":1: executing \"\" at <index>: error calling index: reflect: slice index out of range");
            v = v->kind == JSON_ARRAY ? v->items[(size_t)ix] : v_num(t, (unsigned char)v->text.p[(size_t)ix]);
        } else
            return fail(t, ":1: executing \"\" at <index>: error calling index: cannot index this value");
    }
    *ret = v;
    return 0;
}

static int call_text(struct tmpl *t, struct sv name, val *args, size_t n, val *ret) {
    _cleanup_buf_ struct buf b = BUF_MAX(MAX_OUT);
    if (sv_eqs(name, "json")) {
        struct json_w w;
        jw_init(&w, &b, 0);
        if (n && args[0])
            jw_json(&w, args[0]);
        else
            jw_null(&w);
    } else if (sv_eqs(name, "printf")) {
        int r = call_printf(t, args, n, &b);
        if (r < 0)
            return r;
    } else if (sv_eqs(name, "print") || sv_eqs(name, "println")) {
        for (size_t i = 0; i < n; i++) {
            if (i && (name.n == 7 || (args[i] && args[i]->kind != JSON_STRING && args[i - 1] &&
                                      args[i - 1]->kind != JSON_STRING)))
                buf_addc(&b, ' ');
            show(t, &b, args[i], false, 0);
        }
        if (name.n == 7)
            buf_addc(&b, '\n');
    } else if (sv_eqs(name, "join")) {
        if (n != 2 || (args[0] && args[0]->kind != JSON_ARRAY && args[0]->kind != JSON_NULL))
            return fail(t, "join: a list and a separator are needed");
        for (size_t i = 0; args[0] && i < args[0]->n; i++) {
            if (i)
                buf_addsv(&b, shown(t, args[1]));
            show(t, &b, args[0]->items[i], false, 0);
        }
    } else {
        struct sv s = n ? shown(t, args[0]) : SV_NULL;
        bool up = true;
        for (size_t i = 0; i < s.n; i++) {
            int ch = (unsigned char)s.p[i];
            int out = sv_eqs(name, "lower") ? tolower(ch) : sv_eqs(name, "upper") || up ? toupper(ch) : ch;
            up = isspace(ch);
            buf_addc(&b, (char)out);
        }
    }
    *ret = v_str(t, buf_sv(&b));
    return 0;
}

static int call_list(struct tmpl *t, struct sv name, val *args, size_t n, val *ret) {
    if (sv_eqs(name, "split")) {
        if (n != 2)
            return fail(t, "split: a string and a separator are needed");
        struct sv s = shown(t, args[0]), sep = shown(t, args[1]);
        struct json *j = ARENA_NEW(t->a, struct json);
        j->kind = JSON_ARRAY;
        j->items = ARENA_ARRAY(t->a, struct json *, s.n + 2);
        for (;;) {
            ssize_t at = sep.n ? sv_find(s, sep) : (s.n > 1 ? 1 : -1);
            j->items[j->n++] = (struct json *)v_str(t, at < 0 ? s : sv_sub(s, 0, (size_t)at));
            if (at < 0)
                break;
            s = sv_sub(s, (size_t)at + sep.n, s.n);
        }
        *ret = j;
        return 0;
    }
    if (sv_eqs(name, "slice")) {
        double lo = n > 1 && args[1] ? args[1]->number : 0;
        val v = n ? args[0] : NULL;
        size_t len = !v ? 0 : v->kind == JSON_STRING ? v->text.n : v->n;
        double hi = n > 2 && args[2] ? args[2]->number : (double)len;
        if (!v || !(lo >= 0 && lo <= hi && hi <= (double)len))
            return fail(t, "error calling slice: index out of range");
        if (v->kind == JSON_STRING)
            *ret = v_str(t, sv_sub(v->text, (size_t)lo, (size_t)(hi - lo)));
        else {
            struct json *j = ARENA_NEW(t->a, struct json);
            j->kind = JSON_ARRAY;
            j->items = v->items + (size_t)lo;
            j->n = (size_t)(hi - lo);
            *ret = j;
        }
        return 0;
    }
    /* truncate STRING N */
    struct sv s = n ? shown(t, args[0]) : SV_NULL;
    double max = n > 1 && args[1] ? args[1]->number : 0;
    *ret = v_str(t, sv_sub(s, 0, max >= (double)s.n ? s.n : max > 0 ? (size_t)max : 0));
    return 0;
}

static int call(struct tmpl *t, struct sv name, val *args, size_t n, val *ret) {
    static const char *const texts[] = {"json", "printf", "print", "println", "join", "lower", "upper", "title"};
    for (size_t i = 0; i < ELEMENTS(texts); i++)
        if (sv_eqs(name, texts[i]))
            return call_text(t, name, args, n, ret);
    if (sv_eqs(name, "split") || sv_eqs(name, "slice") || sv_eqs(name, "truncate"))
        return call_list(t, name, args, n, ret);
    if (sv_eqs(name, "index"))
        return call_index(t, args, n, ret);
    if (sv_eqs(name, "len")) {
        if (!n || !args[0] || (args[0]->kind != JSON_STRING && args[0]->kind != JSON_ARRAY && args[0]->kind != JSON_OBJECT))
            return fail(t, ":1: executing \"\" at <len>: error calling len: len of nil pointer");
        *ret = v_num(t, (double)(args[0]->kind == JSON_STRING ? args[0]->text.n : args[0]->n));
        return 0;
    }
    if (sv_eqs(name, "not")) {
        *ret = v_bool(t, !truth(n ? args[0] : NULL));
        return 0;
    }
    if (sv_eqs(name, "and") || sv_eqs(name, "or")) {
        for (size_t i = 0; i < n; i++) {
            *ret = args[i];
            if (truth(args[i]) == (name.n == 2))
                return 0;
        }
        return n ? 0 : fail(t, "wrong number of args for " SV_FMT, SV_ARG(name));
    }
    static const char *const cmps[] = {"eq", "ne", "lt", "le", "gt", "ge"};
    for (size_t i = 0; i < ELEMENTS(cmps); i++) {
        if (!sv_eqs(name, cmps[i]))
            continue;
        if (n < 2)
            return fail(t, "wrong number of args for %s", cmps[i]);
        int c = 0;
        if (i < 2) {
            bool eq = false;
            for (size_t k = 1; k < n; k++)
                eq |= sv_bytes_cmp(args[0], args[k]) == 0;
            *ret = v_bool(t, eq == (i == 0));
            return 0;
        }
        if (compare(args[0], args[1], &c) < 0)
            return fail(t, "error calling %s: incompatible types for comparison", cmps[i]);
        *ret = v_bool(t, i == 2 ? c < 0 : i == 3 ? c <= 0 : i == 4 ? c > 0 : c >= 0);
        return 0;
    }
    return fail(t, ":1: function \"" SV_FMT "\" not defined", SV_ARG(name));
}

/* --- expressions --------------------------------------------------------------------------- */

static int pipeline(struct tmpl *t, struct cursor *c, val dot, bool inside, val *ret);

static void blanks(struct cursor *c) {
    while (c->p < c->end && isspace((unsigned char)*c->p))
        c->p++;
}

static struct sv ident(struct cursor *c) {
    const char *from = c->p;
    while (c->p < c->end && (isalnum((unsigned char)*c->p) || *c->p == '_' || (unsigned char)*c->p >= 0x80))
        c->p++;
    return sv_n(from, (size_t)(c->p - from));
}

static int chain(struct tmpl *t, struct cursor *c, val v, val *ret) {
    while (c->p + 1 < c->end && *c->p == '.' && (isalpha((unsigned char)c->p[1]) || c->p[1] == '_')) {
        c->p++;
        struct sv name = ident(c);
        int r = field(t, v, name, &v);
        if (r < 0)
            return r;
    }
    *ret = v;
    return 0;
}

static int string_literal(struct tmpl *t, struct cursor *c, val *ret) {
    char q = *c->p;
    const char *from = c->p++;
    while (c->p < c->end && *c->p != q)
        c->p += q == '"' && *c->p == '\\' && c->p + 1 < c->end ? 2 : 1;
    if (c->p >= c->end)
        return fail(t, "unterminated quoted string");
    c->p++;
    struct sv raw = sv_n(from, (size_t)(c->p - from));
    if (q == '`') {
        *ret = v_str(t, sv_sub(raw, 1, raw.n - 2));
        return 0;
    }
    struct json *j;
    if (json_parse(t->a, raw, &j, NULL) < 0 || j->kind != JSON_STRING)
        return fail(t, "bad string " SV_FMT, SV_ARG(raw));
    *ret = j;
    return 0;
}

static struct var *find_var(struct tmpl *t, struct sv name) {
    for (size_t i = t->n_vars; i > 0; i--)
        if (sv_eq(t->vars[i - 1].name, name))
            return &t->vars[i - 1];
    return NULL;
}

/* One operand. 1: read, 0: none here. */
static int operand(struct tmpl *t, struct cursor *c, val dot, val *ret) {
    blanks(c);
    if (c->p >= c->end || *c->p == '|' || *c->p == ')')
        return 0;
    int r;
    char ch = *c->p;
    if (ch == '(') {
        c->p++;
        val v;
        if (++t->depth > MAX_DEPTH)
            return fail(t, "nested too deeply");
        r = pipeline(t, c, dot, true, &v);
        t->depth--;
        if (r < 0)
            return r;
        c->p++; /* ')', checked by pipeline */
        r = chain(t, c, v, ret);
    } else if (ch == '.') {
        if (c->p + 1 < c->end && (isalpha((unsigned char)c->p[1]) || c->p[1] == '_'))
            r = chain(t, c, dot, ret);
        else {
            c->p++;
            *ret = dot;
            r = 0;
        }
    } else if (ch == '$') {
        c->p++;
        struct sv name = ident(c);
        struct var *v = find_var(t, name);
        if (!v)
            return fail(t, "undefined variable \"$" SV_FMT "\"", SV_ARG(name));
        r = chain(t, c, v->v, ret);
    } else if (ch == '"' || ch == '`')
        r = string_literal(t, c, ret);
    else if (isdigit((unsigned char)ch) || ch == '-' || ch == '+') {
        char num[64], *end;
        size_t n = MIN((size_t)(c->end - c->p), sizeof(num) - 1);
        memcpy(num, c->p, n);
        num[n] = 0;
        double d = strtod(num, &end);
        if (end == num)
            return fail(t, "bad number syntax: \"%s\"", num);
        c->p += end - num;
        *ret = v_num(t, d);
        r = 0;
    } else if (isalpha((unsigned char)ch) || ch == '_') {
        struct sv name = ident(c);
        if (sv_eqs(name, "true") || sv_eqs(name, "false"))
            *ret = v_bool(t, name.n == 4);
        else if (sv_eqs(name, "nil"))
            *ret = NULL;
        else /* a function without arguments, as an operand */
            return call(t, name, NULL, 0, ret) < 0 ? -EINVAL : 1;
        r = 0;
    } else
        return fail(t, "unexpected \"%c\" in operand", ch);
    if (r < 0)
        return r;
    if (c->p < c->end && !isspace((unsigned char)*c->p) && *c->p != ')' && *c->p != '|' && *c->p != ',')
        return fail(t, "unexpected \"%c\" in operand", *c->p);
    return 1;
}

/* One command of a pipeline; last is what the command before gave. */
static int command(struct tmpl *t, struct cursor *c, val dot, bool piped, val last, val *ret) {
    val args[MAX_ARGS];
    size_t n = 0;
    blanks(c);
    struct sv fn = SV_NULL;
    const char *start = c->p;
    if (c->p < c->end && (isalpha((unsigned char)*c->p) || *c->p == '_')) {
        fn = ident(c);
        if (sv_eqs(fn, "true") || sv_eqs(fn, "false") || sv_eqs(fn, "nil")) {
            fn = SV_NULL;
            c->p = start;
        }
    }
    /* .Label "x" is a method of docker's rows: the one that takes an argument. */
    bool label = !fn.p && c->end - c->p > 6 && memcmp(c->p, ".Label", 6) == 0 && isspace((unsigned char)c->p[6]);
    if (label)
        c->p += 6;
    for (;;) {
        val v = NULL;
        int r = operand(t, c, dot, &v);
        if (r < 0)
            return r;
        if (!r)
            break;
        if (n + 1 >= MAX_ARGS)
            return fail(t, "too many arguments");
        args[n++] = v;
    }
    if (piped && !fn.p)
        return fail(t, n ? "can't give argument to non-function" : "missing value for command");
    if (piped)
        args[n++] = last;
    if (fn.p)
        return call(t, fn, args, n, ret);
    if (label) {
        val all = lookup(dot, SV("Labels"));
        struct sv want = n ? shown(t, args[0]) : SV_NULL, rest = all ? shown(t, all) : SV_NULL, item;
        *ret = v_str(t, SV(""));
        while (all && sv_split(&rest, ',', &item)) {
            struct sv v = item, k;
            sv_split(&v, '=', &k);
            if (sv_eq(k, want))
                *ret = v_str(t, v.p ? v : SV(""));
        }
        return 0;
    }
    if (!n)
        return fail(t, "missing value for command");
    if (n > 1)
        return fail(t, ":1: executing \"\" at <" SV_FMT ">: can't give argument to non-function",
                    (int)MIN(c->end - start, 60), start);
    *ret = args[0];
    return 0;
}

static int pipeline(struct tmpl *t, struct cursor *c, val dot, bool inside, val *ret) {
    val v = NULL;
    bool piped = false;
    for (;;) {
        int r = command(t, c, dot, piped, v, &v);
        if (r < 0)
            return r;
        blanks(c);
        if (c->p >= c->end) {
            if (inside)
                return fail(t, "unclosed left paren");
            break;
        }
        if (*c->p == ')') {
            if (!inside)
                return fail(t, "unexpected right paren");
            break;
        }
        if (*c->p != '|')
            return fail(t, "unexpected \"%c\" in command", *c->p);
        c->p++;
        piped = true;
    }
    *ret = v;
    return 0;
}

/* "$a, $b := " or "$a = " in front of a pipeline. */
struct decl {
    struct sv names[2];
    size_t n;
    bool assign;
};

static void declarations(struct cursor *c, struct decl *d) {
    struct cursor k = *c;
    memset(d, 0, sizeof(*d));
    struct sv names[2];
    size_t n = 0;
    blanks(&k);
    while (n < 2 && k.p < k.end && *k.p == '$') {
        k.p++;
        names[n++] = ident(&k);
        blanks(&k);
        if (k.p < k.end && *k.p == ',') {
            k.p++;
            blanks(&k);
        } else
            break;
    }
    if (!n || k.p >= k.end)
        return;
    bool def = k.p + 1 < k.end && k.p[0] == ':' && k.p[1] == '=';
    if (!def && *k.p != '=')
        return;
    k.p += def ? 2 : 1;
    d->n = n;
    d->assign = !def;
    memcpy(d->names, names, sizeof(names));
    *c = k;
}

static int set_var(struct tmpl *t, struct sv name, val v, bool assign) {
    if (assign) {
        struct var *old = find_var(t, name);
        if (!old)
            return fail(t, "undefined variable \"$" SV_FMT "\"", SV_ARG(name));
        old->v = v;
        return 0;
    }
    if (t->n_vars >= MAX_VARS)
        return fail(t, "too many variables");
    t->vars[t->n_vars++] = (struct var){name, v};
    return 0;
}

static int evaluate(struct tmpl *t, struct sv expr, val dot, struct decl *d, val *ret) {
    struct cursor c = {expr.p, expr.p + expr.n};
    declarations(&c, d);
    return pipeline(t, &c, dot, false, ret);
}

static int execute(struct tmpl *t, const struct node *list, val dot, unsigned depth);

static int run_range(struct tmpl *t, const struct node *n, val over, const struct decl *d, val dot, unsigned depth) {
    size_t count = over && (over->kind == JSON_ARRAY || over->kind == JSON_OBJECT) ? over->n : 0;
    if (over && !count && over->kind != JSON_ARRAY && over->kind != JSON_OBJECT && over->kind != JSON_NULL)
        return fail(t, ":1: executing \"\" at <" SV_FMT ">: range can't iterate over it", SV_ARG(n->text));
    if (!count)
        return execute(t, n->other, dot, depth + 1);
    size_t *ix = over->kind == JSON_OBJECT ? sorted(t, over) : NULL;
    size_t vars = t->n_vars;
    int r = 0;
    for (size_t i = 0; i < count && r >= 0; i++) {
        val item = over->items[ix ? ix[i] : i];
        t->n_vars = vars;
        if (d->n == 2) {
            r = set_var(t, d->names[0], ix ? v_str(t, over->keys[ix[i]]) : v_num(t, (double)i), d->assign);
            if (r >= 0)
                r = set_var(t, d->names[1], item, d->assign);
        } else if (d->n == 1)
            r = set_var(t, d->names[0], item, d->assign);
        if (r >= 0)
            r = execute(t, n->body, item, depth + 1);
    }
    t->n_vars = vars;
    return r;
}

static int execute(struct tmpl *t, const struct node *list, val dot, unsigned depth) {
    if (depth > MAX_DEPTH)
        return fail(t, "nested too deeply");
    for (const struct node *n = list; n; n = n->next) {
        if (++t->steps > 10000000)
            return fail(t, "too much to execute");
        if (n->kind == N_TEXT) {
            buf_addsv(t->out, n->text);
            continue;
        }
        struct decl d;
        val v = NULL;
        size_t vars = t->n_vars;
        int r = evaluate(t, n->text, dot, &d, &v);
        if (r < 0)
            return r;
        if (n->kind == N_RANGE) {
            r = run_range(t, n, v, &d, dot, depth);
        } else {
            for (size_t i = 0; i < d.n && r >= 0; i++)
                r = set_var(t, d.names[i], v, d.assign);
            if (r >= 0 && n->kind == N_OUT) {
                if (!d.n)
                    show(t, t->out, v, true, 0);
                continue;
            }
            if (r >= 0)
                r = truth(v) ? execute(t, n->body, n->kind == N_WITH ? v : dot, depth + 1)
                             : execute(t, n->other, dot, depth + 1);
        }
        t->n_vars = vars;
        if (r < 0)
            return r;
    }
    return 0;
}

int template_run(struct arena *a, const char *text, const struct json *data, struct buf *out, struct err *e) {
    struct tmpl t = {.a = a, .out = out, .e = e};
    struct cut c = {.t = &t, .p = text, .end = text + strlen(text)};
    struct node *list = NULL;
    struct sv stop;
    int r = cut_list(&c, &list, &stop, 0);
    if (r < 0)
        return r;
    if (stop.p)
        return fail(&t, "unexpected {{" SV_FMT "}}", SV_ARG(stop));
    t.vars[t.n_vars++] = (struct var){SV(""), data};
    r = execute(&t, list, data, 0);
    if (r >= 0 && !buf_ok(out))
        return err_set(e, ERR_LIMIT, -E2BIG, "template: too much output");
    return r;
}

/* --- tables -------------------------------------------------------------------------------- */

static size_t width_of(struct sv s) { /* code points: names are hardly ever wide */
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

void table_print(FILE *f, struct sv text) {
    size_t widths[64] = {0};
    struct sv rest = text, line, cell;
    while (sv_line(&rest, &line)) {
        size_t col = 0;
        while (sv_split(&line, '\t', &cell) && col < ELEMENTS(widths)) {
            if (line.p) { /* the last cell of a row is not part of a column */
                size_t w = width_of(cell) + 3;
                widths[col] = MAX(widths[col], MAX(w, (size_t)10));
            }
            col++;
        }
    }
    rest = text;
    while (sv_line(&rest, &line)) {
        size_t col = 0;
        while (sv_split(&line, '\t', &cell)) {
            fwrite(cell.p, 1, cell.n, f);
            if (line.p && col < ELEMENTS(widths))
                for (size_t w = width_of(cell); w < widths[col]; w++)
                    fputc(' ', f);
            col++;
        }
        fputc('\n', f);
    }
}
