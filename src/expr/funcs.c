/* The built-in functions; the number of arguments was checked by the parser. Functions beyond them
 * are call-backs of the environment. */
#include "expr/eval.h"
#include "expr/fold.h"

static bool primitive(const struct value *v) {
    return v->kind < VAL_ARRAY;
}

static struct sv text(struct eval *ev, const struct value *v) {
    if (v->kind != VAL_STRING && ev->env && ev->env->trace)
        eval_coerced(ev, v, val_string(ev->arena, val_to_string(ev->arena, v)));
    return val_to_string(ev->arena, v);
}

static const struct value *fn_contains(struct eval *ev, const struct value **args) {
    const struct value *in = args[0], *item = args[1];
    if (in->kind == VAL_ARRAY) {
        for (size_t i = 0; i < in->n; i++)
            if (val_equal(item, in->items[i]))
                return &val_true;
        return &val_false;
    }
    if (!primitive(in) || !primitive(item))
        return &val_false;
    return val_bool(fold_contains(text(ev, in), text(ev, item)));
}

static const struct value *fn_affix(struct eval *ev, const struct value **args,
                                    bool (*test)(struct sv, struct sv)) {
    if (!primitive(args[0]) || !primitive(args[1]))
        return &val_false;
    return val_bool(test(text(ev, args[0]), text(ev, args[1])));
}

static const struct value *fn_join(struct eval *ev, const struct value **args, size_t n) {
    if (primitive(args[0]))
        return val_string(ev->arena, text(ev, args[0]));
    struct buf b = eval_buf(ev);
    struct sv sep = n > 1 && primitive(args[1]) ? text(ev, args[1]) : SV(",");
    for (size_t i = 0; args[0]->kind == VAL_ARRAY && i < args[0]->n && buf_ok(&b); i++) {
        if (i)
            buf_addsv(&b, sep);
        buf_addsv(&b, val_to_string(ev->arena, args[0]->items[i]));
    }
    return eval_take(ev, &b);
}

static const struct value *bad_format(struct eval *ev, const char *why, struct sv f) {
    expr_fail(ev->xe, EXPR_EVALUATION, "The following format string %s: " SV_FMT, why, SV_ARG(f));
    return NULL;
}

/* Reads "{N}" at f[i] == '{'. Returns the offset after it, or 0. */
static size_t read_placeholder(struct sv f, size_t i, size_t *ret_arg) {
    size_t arg = 0, from = ++i;
    for (; i < f.n && f.p[i] >= '0' && f.p[i] <= '9'; i++)
        arg = MIN(arg * 10 + (size_t)(f.p[i] - '0'), (size_t)100000);
    if (i == from || i == f.n || f.p[i] != '}')
        return 0;
    *ret_arg = arg;
    return i + 1;
}

static const struct value *fn_format(struct eval *ev, const struct value **args, size_t n) {
    struct sv f = text(ev, args[0]);
    struct buf b = eval_buf(ev);
    for (size_t i = 0; i < f.n && buf_ok(&b);) {
        size_t run = i;
        while (run < f.n && f.p[run] != '{' && f.p[run] != '}')
            run++;
        buf_add(&b, f.p + i, run - i);
        if (run == f.n)
            break;
        i = run;
        if (i + 1 < f.n && f.p[i + 1] == f.p[i]) { /* doubled: one of them */
            buf_addc(&b, f.p[i]);
            i += 2;
            continue;
        }
        size_t arg, after = f.p[i] == '{' ? read_placeholder(f, i, &arg) : 0;
        if (!after) {
            buf_done(&b);
            return bad_format(ev, "is invalid", f);
        }
        if (arg + 1 >= n) {
            buf_done(&b);
            return bad_format(ev, "references more arguments than were supplied", f);
        }
        buf_addsv(&b, text(ev, args[arg + 1]));
        i = after;
    }
    return eval_take(ev, &b);
}

static size_t weigh(const struct json *j) {
    size_t bytes = MEM_OBJECT + 2 * j->text.n;
    for (size_t i = 0; i < j->n; i++)
        bytes += weigh(j->items[i]) + (j->keys ? MEM_STRING + 2 * j->keys[i].n : 0);
    return bytes;
}

static const struct value *fn_fromjson(struct eval *ev, const struct value **args) {
    struct sv in = text(ev, args[0]);
    struct json *j;
    struct err e = {0};
    if (sv_trim(in).n == 0) {
        expr_fail(ev->xe, EXPR_EVALUATION,
                  "Error parsing JSON when evaluating fromJson: empty input");
        return NULL;
    }
    if (json_parse(ev->arena, in, &j, &e) < 0) {
        expr_fail(ev->xe, EXPR_EVALUATION, "Error parsing JSON when evaluating fromJson: %s",
                  e.msg);
        return NULL;
    }
    if (weigh(j) > ev->max)
        return eval_memory(ev);
    return val_from_json(ev->arena, j);
}

/* Only as far as needed: a later predicate may not even be a boolean. */
static const struct value *fn_case(struct eval *ev, const struct expr_node *n) {
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        const struct value *is = eval_node(ev, n->kids[i]);
        if (!is)
            return NULL;
        if (is->kind != VAL_BOOL) {
            expr_fail(ev->xe, EXPR_EVALUATION, "case predicate must evaluate to a boolean value");
            return NULL;
        }
        if (is->boolean)
            return eval_node(ev, n->kids[i + 1]);
    }
    return eval_node(ev, n->kids[n->n - 1]);
}

static const struct value *call_back(struct eval *ev, const struct expr_node *n,
                                     const struct value **args) {
    const struct value *v = NULL;
    for (size_t i = 0; ev->env && i < ev->env->n_funcs; i++) {
        const struct expr_func *f = &ev->env->funcs[i];
        if (!sv_ieqs(n->name, f->name))
            continue;
        struct expr_error xe = {0};
        if (f->fn(f->arg, ev->arena, args, n->n, &v, &xe) < 0 || !v) {
            expr_fail(ev->xe, EXPR_EVALUATION, "%s", *xe.msg ? xe.msg : f->name);
            return NULL;
        }
        return v;
    }
    expr_fail_at(ev->xe, EXPR_EVALUATION, "Unrecognized function", ev->expr->text, n->at,
                 n->at + (uint32_t)n->name.n);
    return NULL;
}

const struct value *eval_call(struct eval *ev, const struct expr_node *n) {
    if (n->fn == FN_CASE)
        return fn_case(ev, n);
    const struct value *few[4], **args = few;
    if (n->n > ELEMENTS(few))
        args = ARENA_ARRAY(ev->arena, const struct value *, n->n);
    for (size_t i = 0; i < n->n; i++) {
        args[i] = eval_node(ev, n->kids[i]);
        if (!args[i])
            return NULL;
    }
    switch (n->fn) {
    case FN_CONTAINS:
        return fn_contains(ev, args);
    case FN_STARTSWITH:
        return fn_affix(ev, args, fold_starts);
    case FN_ENDSWITH:
        return fn_affix(ev, args, fold_ends);
    case FN_FORMAT:
        return fn_format(ev, args, n->n);
    case FN_JOIN:
        return fn_join(ev, args, n->n);
    case FN_FROMJSON:
        return fn_fromjson(ev, args);
    case FN_TOJSON: {
        struct buf b = eval_buf(ev);
        val_to_json(args[0], &b, 2);
        return eval_take(ev, &b);
    }
    default:
        return call_back(ev, n, args);
    }
}
