/* Text with ${{ }}. A quote inside an expression hides braces: "${{ '}}' }}" is one expression. */
#include "expr/ast.h"

bool template_has_expr(struct sv text) {
    return text.n && memchr(text.p, '$', text.n) && sv_find(text, SV("${{")) >= 0;
}

/* Finds the next expression at or after `at`: its first byte and the one past it, without the
 * braces. 1 = found, 0 = none, negative = not closed. */
static int next_expr(struct sv t, size_t at, size_t *ret_open, size_t *ret_from, size_t *ret_end,
                     struct expr_error *xe) {
    ssize_t open = sv_find(sv_sub(t, at, t.n), SV("${{"));
    if (open < 0)
        return 0;
    size_t from = at + (size_t)open + 3;
    bool quoted = false;
    for (size_t i = from; i < t.n; i++) {
        if (t.p[i] == '\'') {
            quoted = !quoted;
        } else if (!quoted && t.p[i] == '}' && i > from && t.p[i - 1] == '}') {
            *ret_open = from - 3;
            *ret_from = from;
            *ret_end = i - 1;
            return 1;
        }
    }
    expr_fail(xe, EXPR_LEXING,
              "The expression is not closed. An unescaped ${{ sequence was found, "
              "but the closing }} sequence was not found.");
    if (xe) {
        xe->offset = from - 3;
        xe->length = t.n - xe->offset;
    }
    return -EINVAL;
}

/* The expression without the white space around it. */
static struct sv inner(struct sv t, size_t from, size_t end) {
    return sv_trim(sv_sub(t, from, end - from));
}

static int expected(struct expr_error *xe, size_t open, size_t end) {
    expr_fail(xe, EXPR_PARSING, "An expression was expected");
    if (xe) {
        xe->offset = open;
        xe->length = end + 2 - open;
    }
    return -EINVAL;
}

int template_each(struct sv text, int (*fn)(void *arg, struct sv expr, size_t offset), void *arg,
                  struct expr_error *xe) {
    size_t open, from, end;
    for (size_t at = 0;; at = end + 2) {
        int r = next_expr(text, at, &open, &from, &end, xe);
        if (r <= 0)
            return r;
        struct sv x = inner(text, from, end);
        if (x.n == 0)
            return expected(xe, open, end);
        r = fn(arg, x, (size_t)(x.p - text.p));
        if (r < 0)
            return r;
    }
}

static int run_one(struct arena *a, struct sv text, struct sv x, const struct expr_env *env,
                   const struct value **ret, struct expr_error *xe) {
    int r = expr_run(a, x, env, ret, xe);
    if (r < 0 && xe)
        xe->offset += (size_t)(x.p - text.p);
    return r;
}

int template_eval(struct arena *a, struct sv text, const struct expr_env *env,
                  const struct value **ret, struct expr_error *xe) {
    size_t open, from, end, at = 0;
    size_t max = env && env->max_memory ? env->max_memory : 10u << 20;
    _cleanup_buf_ struct buf b = BUF_MAX(max);
    for (;; at = end + 2) {
        int r = next_expr(text, at, &open, &from, &end, xe);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        struct sv x = inner(text, from, end);
        const struct value *v;
        if (x.n == 0)
            return expected(xe, open, end);
        r = run_one(a, text, x, env, &v, xe);
        if (r < 0)
            return r;
        if (open == 0 && end + 2 == text.n) {
            *ret = v;
            return 0;
        }
        buf_add(&b, text.p + at, open - at);
        buf_addsv(&b, val_to_string(a, v));
    }
    buf_add(&b, text.p + at, text.n - at);
    if (!buf_ok(&b))
        return expr_fail(xe, EXPR_EVALUATION, "The maximum allowed memory size was exceeded");
    *ret = val_string(a, buf_sv(&b));
    return 0;
}
