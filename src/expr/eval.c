/* Evaluation walks the tree; operands of && and || only as far as needed. Values of contexts are
 * shared, never copied.
 *
 * Memory is counted as the runner counts it: a node's result costs two bytes a character or a
 * fixed amount, the results of its operands are forgotten once it has its own. Nothing is freed
 * before the arena is, so what the whole evaluation took from the arena is limited too. */
#include "expr/eval.h"

#include <math.h>

enum { MEMORY_DEFAULT = 10 << 20, ARENA_FACTOR = 16 };

const struct value *eval_memory(struct eval *ev) {
    static const char what[] = "The maximum allowed memory size was exceeded";
    expr_fail(ev->xe, EXPR_EVALUATION, "%s while evaluating the following expression: " SV_FMT,
              what, SV_ARG(ev->expr->text));
    if (ev->xe)
        ev->xe->brief = sizeof what - 1;
    return NULL;
}

const struct value *eval_take(struct eval *ev, struct buf *b) {
    const struct value *v = buf_ok(b) ? val_string(ev->arena, buf_sv(b)) : eval_memory(ev);
    buf_done(b);
    return v;
}

static void trace(struct eval *ev, struct sv text, const struct value *v) {
    if (ev->env && ev->env->trace)
        ev->env->trace(ev->env->trace_arg, ev->depth, text, v);
}

void eval_coerced(struct eval *ev, const struct value *v, const struct value *as) {
    if (!ev->env || !ev->env->trace || v->kind == as->kind)
        return;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    val_to_json(v, &b, 0);
    buf_addf(&b, " as %s", val_kind_name(as->kind));
    ev->depth++;
    trace(ev, buf_sv(&b), as);
    ev->depth--;
}

/* --- properties ------------------------------------------------------------------------------- */

struct index {
    bool star, has_key, has_pos;
    struct sv key;
    double pos;
};

static struct index index_of(struct eval *ev, const struct value *v) {
    struct index ix = {0};
    if (v->kind < VAL_ARRAY) {
        ix.has_key = true;
        ix.key = val_to_string(ev->arena, v);
    }
    double d = val_to_number(v);
    if (isfinite(d) && d >= 0) {
        ix.has_pos = true;
        ix.pos = floor(d);
    }
    return ix;
}

/* One step into v; NULL when there is nothing. */
static const struct value *step(const struct value *v, const struct index *ix) {
    if (v->kind == VAL_OBJECT)
        return ix->has_key ? val_get(v, ix->key) : NULL;
    if (v->kind == VAL_ARRAY && ix->has_pos && ix->pos < (double)v->n)
        return v->items[(size_t)ix->pos];
    return NULL;
}

static bool push_all(struct eval *ev, struct value *to, const struct value *from) {
    if (from->kind != VAL_ARRAY && from->kind != VAL_OBJECT)
        return true;
    for (size_t i = 0; i < from->n; i++)
        val_push(ev->arena, to, from->items[i]);
    return to->n * sizeof(void *) <= ev->max;
}

static const struct value *eval_index(struct eval *ev, const struct expr_node *n) {
    struct index ix = {.star = n->kids[1]->kind == NODE_STAR};
    if (!ix.star) {
        const struct value *by = n->name.p ? n->kids[1]->value : eval_node(ev, n->kids[1]);
        if (!by)
            return NULL;
        ix = index_of(ev, by);
    }
    const struct value *v = eval_node(ev, n->kids[0]);
    if (!v)
        return NULL;
    if (!ix.star && !v->filtered) {
        v = step(v, &ix);
        return v ? v : &val_null;
    }
    /* A star makes a filtered array; an index into one filters it further. */
    struct value *out = val_array(ev->arena);
    out->filtered = true;
    if (!v->filtered) {
        if (!push_all(ev, out, v))
            return eval_memory(ev);
        return out;
    }
    for (size_t i = 0; i < v->n; i++) {
        if (ix.star) {
            if (!push_all(ev, out, v->items[i]))
                return eval_memory(ev);
            continue;
        }
        const struct value *item = step(v->items[i], &ix);
        if (item)
            val_push(ev->arena, out, item);
    }
    return out;
}

/* --- operators -------------------------------------------------------------------------------- */

static bool is_binary(const struct expr_node *n) {
    return n->kind >= NODE_EQ && n->kind <= NODE_GE;
}

static bool compare(struct eval *ev, enum node_kind op, const struct value *a,
                    const struct value *b) {
    if (a->kind != b->kind && a->kind < VAL_ARRAY && b->kind < VAL_ARRAY && ev->env &&
        ev->env->trace) {
        eval_coerced(ev, a, val_number(ev->arena, val_to_number(a)));
        eval_coerced(ev, b, val_number(ev->arena, val_to_number(b)));
    }
    switch (op) {
    case NODE_EQ:
        return val_equal(a, b);
    case NODE_NE:
        return !val_equal(a, b);
    case NODE_LT:
        return val_less(a, b);
    case NODE_LE:
        return val_equal(a, b) || val_less(a, b);
    case NODE_GT:
        return val_less(b, a);
    case NODE_GE:
        return val_equal(a, b) || val_less(b, a);
    default:
        return false;
    }
}

/* a == b == c is ((a == b) == c), and as long as the expression: walked without recursion. */
static const struct value *eval_binary(struct eval *ev, const struct expr_node *n) {
    size_t depth = 0;
    for (const struct expr_node *x = n; is_binary(x); x = x->kids[0])
        depth++;
    const struct expr_node **spine = ARENA_ARRAY(ev->arena, const struct expr_node *, depth);
    const struct expr_node *x = n;
    for (size_t i = depth; i-- > 0; x = x->kids[0])
        spine[i] = x;
    const struct value *left = eval_node(ev, x);
    for (size_t i = 0; left && i < depth; i++) {
        const struct value *right = eval_node(ev, spine[i]->kids[1]);
        if (!right)
            return NULL;
        left = val_bool(compare(ev, spine[i]->kind, left, right));
        if (i + 1 < depth)
            trace(ev, node_text(ev->expr, spine[i]), left);
    }
    return left;
}

static const struct value *eval_chain(struct eval *ev, const struct expr_node *n) {
    const struct value *v = &val_null;
    for (size_t i = 0; i < n->n; i++) {
        v = eval_node(ev, n->kids[i]);
        if (!v || val_truthy(v) == (n->kind == NODE_OR))
            break;
    }
    return v;
}

static const struct value *dispatch(struct eval *ev, const struct expr_node *n) {
    switch (n->kind) {
    case NODE_LITERAL:
        return n->value;
    case NODE_CONTEXT: {
        const struct value *v = ev->env ? val_get(ev->env->contexts, n->name) : NULL;
        return v ? v : &val_null;
    }
    case NODE_INDEX:
        return eval_index(ev, n);
    case NODE_CALL:
        return eval_call(ev, n);
    case NODE_NOT: {
        const struct value *v = eval_node(ev, n->kids[0]);
        return v ? val_bool(!val_truthy(v)) : NULL;
    }
    case NODE_AND:
    case NODE_OR:
        return eval_chain(ev, n);
    case NODE_GROUP:
        return eval_node(ev, n->kids[0]);
    case NODE_STAR:
        return &val_null; /* only inside an index, which looks at it itself */
    default:
        return eval_binary(ev, n);
    }
}

const struct value *eval_node(struct eval *ev, const struct expr_node *n) {
    size_t before = ev->used;
    ev->depth++;
    const struct value *v = dispatch(ev, n);
    ev->depth--;
    if (!v)
        return NULL;
    ev->used = before + (v->kind == VAL_STRING ? MEM_STRING + 2 * v->str.n : MEM_OBJECT);
    if (ev->used > ev->max || (ev->arena->used - ev->arena_start) / ARENA_FACTOR > ev->max)
        return eval_memory(ev);
    if (n->kind != NODE_LITERAL && n->kind != NODE_GROUP)
        trace(ev, node_text(ev->expr, n), v);
    return v;
}

int expr_eval(struct arena *a, const struct expr *x, const struct expr_env *env,
              const struct value **ret, struct expr_error *xe) {
    struct eval ev = {.arena = a,
                      .expr = x,
                      .env = env,
                      .xe = xe,
                      .arena_start = a->used,
                      .max = env && env->max_memory ? env->max_memory : MEMORY_DEFAULT};
    const struct value *v = x->root ? eval_node(&ev, x->root) : &val_null;
    if (!v)
        return -EINVAL;
    *ret = v;
    return 0;
}

int expr_run(struct arena *a, struct sv text, const struct expr_env *env, const struct value **ret,
             struct expr_error *xe) {
    struct expr *x;
    int r = expr_parse(a, text, NULL, &x, xe);
    return r < 0 ? r : expr_eval(a, x, env, ret, xe);
}

/* --- looking without evaluating --------------------------------------------------------------- */

typedef void (*uses_fn)(void *arg, struct sv name, struct sv property);

static void uses(const struct expr_node *n, uses_fn fn, void *arg) {
    while (is_binary(n)) { /* see eval_binary */
        uses(n->kids[1], fn, arg);
        n = n->kids[0];
    }
    if (n->kind == NODE_CONTEXT) {
        fn(arg, n->name, SV(""));
        return;
    }
    if (n->kind == NODE_CALL)
        fn(arg, n->name, SV_NULL);
    if (n->kind == NODE_INDEX && n->kids[0]->kind == NODE_CONTEXT) {
        const struct expr_node *by = n->kids[1];
        bool known = by->kind == NODE_LITERAL && by->value->kind == VAL_STRING;
        fn(arg, n->kids[0]->name, known ? by->value->str : SV(""));
        if (!known)
            uses(by, fn, arg);
        return;
    }
    for (size_t i = 0; i < n->n; i++)
        uses(n->kids[i], fn, arg);
}

void expr_uses(const struct expr *x, uses_fn fn, void *arg) {
    if (x->root)
        uses(x->root, fn, arg);
}

static void find_status(void *arg, struct sv name, struct sv property) {
    if (!property.p && (sv_ieqs(name, "success") || sv_ieqs(name, "failure") ||
                        sv_ieqs(name, "always") || sv_ieqs(name, "cancelled")))
        *(bool *)arg = true;
}

bool expr_calls_status(const struct expr *x) {
    bool found = false;
    expr_uses(x, find_status, &found);
    return found;
}
