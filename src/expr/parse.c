/* Recursive descent, lowest precedence first: ||, &&, == and !=, the comparisons, !, property
 * access, calls. Chains of || and of && are one node with many operands. Depth is counted as
 * GitHub counts it: every sub-expression in parentheses, brackets or arguments, every !, every
 * property, and once for a chain of && or ||; so recursion is bounded by EXPR_MAX_DEPTH. */
#include "expr/ast.h"
#include "expr/fold.h"

struct parser {
    struct arena *arena;
    struct sv text;
    struct token *tokens;
    size_t at;
    unsigned depth;
    const struct expr_names *names;
    struct expr_error *xe;
};

static const struct {
    const char *name;
    enum builtin fn;
    size_t min, max;
} builtins[] = {
    {"case", FN_CASE, 3, SIZE_MAX},      {"contains", FN_CONTAINS, 2, 2},
    {"endsWith", FN_ENDSWITH, 2, 2},     {"format", FN_FORMAT, 1, 255},
    {"fromJSON", FN_FROMJSON, 1, 1},     {"join", FN_JOIN, 1, 2},
    {"startsWith", FN_STARTSWITH, 2, 2}, {"toJSON", FN_TOJSON, 1, 1},
};

static struct expr_node *expression(struct parser *p);

static const struct token *peek(const struct parser *p) {
    return &p->tokens[p->at];
}

static bool check(const struct parser *p, enum token_kind k) {
    return peek(p)->kind == k;
}

static bool match(struct parser *p, enum token_kind k) {
    if (!check(p, k))
        return false;
    p->at++;
    return true;
}

static struct sv raw(const struct parser *p, const struct token *t) {
    return sv_sub(p->text, t->at, t->end - t->at);
}

static struct expr_node *fail(struct parser *p, const char *what, const struct token *t) {
    expr_fail_at(p->xe, EXPR_PARSING, what, p->text, t->at, t->end);
    return NULL;
}

/* At the end the token before it is named. */
static struct expr_node *unexpected(struct parser *p) {
    if (check(p, TOK_EOF))
        return fail(p, "Unexpected end of expression", p->at ? peek(p) - 1 : peek(p));
    return fail(p, "Unexpected symbol", peek(p));
}

static bool deeper(struct parser *p) {
    if (++p->depth <= EXPR_MAX_DEPTH)
        return true;
    expr_fail(p->xe, EXPR_PARSING, "Exceeded max expression depth %d", EXPR_MAX_DEPTH);
    return false;
}

static struct expr_node *node(struct parser *p, enum node_kind kind, uint32_t at, size_t kids) {
    struct expr_node *n = ARENA_NEW(p->arena, struct expr_node);
    n->kind = kind;
    n->at = at;
    n->end = p->tokens[p->at ? p->at - 1 : 0].end;
    n->kids = kids ? ARENA_ARRAY(p->arena, struct expr_node *, kids) : NULL;
    n->n = kids;
    return n;
}

static struct expr_node *literal(struct parser *p, const struct token *t) {
    const struct value *v = &val_null;
    switch (t->kind) {
    case TOK_TRUE:
        v = &val_true;
        break;
    case TOK_FALSE:
        v = &val_false;
        break;
    case TOK_NUMBER:
        v = val_number(p->arena, t->number);
        break;
    case TOK_STRING: {
        char *s = arena_alloc(p->arena, t->end - t->at), *o = s;
        for (uint32_t i = t->at + 1; i < t->end - 1; i++) {
            *o++ = p->text.p[i];
            if (p->text.p[i] == '\'') /* two stand for one */
                i++;
        }
        struct value *str = ARENA_NEW(p->arena, struct value);
        str->kind = VAL_STRING;
        str->str = sv_n(s, (size_t)(o - s));
        v = str;
        break;
    }
    default:
        break;
    }
    struct expr_node *n = node(p, NODE_LITERAL, t->at, 0);
    n->value = v;
    return n;
}

static struct expr_node *primary(struct parser *p) {
    const struct token *t = peek(p);
    switch (t->kind) {
    case TOK_TRUE:
    case TOK_FALSE:
    case TOK_NULL:
    case TOK_NUMBER:
    case TOK_STRING:
        p->at++;
        return literal(p, t);
    case TOK_LPAREN: {
        p->at++;
        struct expr_node *inner = expression(p);
        if (!inner)
            return NULL;
        if (!match(p, TOK_RPAREN))
            return unexpected(p);
        struct expr_node *n = node(p, NODE_GROUP, t->at, 1);
        n->kids[0] = inner;
        return n;
    }
    default:
        return unexpected(p);
    }
}

/* Compares a name with the listed one, which may go on with "(min,max)". */
static bool listed(const char *const *list, struct sv name, size_t *ret_min, size_t *ret_max) {
    for (; *list; list++) {
        size_t n = strcspn(*list, "(");
        if (!fold_eq(sv_n(*list, n), name))
            continue;
        *ret_min = 0;
        *ret_max = SIZE_MAX;
        if ((*list)[n]) {
            char *end;
            *ret_min = strtoul(*list + n + 1, &end, 10);
            *ret_max =
                *end == ',' ? (end[1] == 'M' ? SIZE_MAX : strtoul(end + 1, NULL, 10)) : *ret_min;
        }
        return true;
    }
    return false;
}

static bool check_call(struct parser *p, const struct token *t, size_t n, enum builtin *ret_fn) {
    size_t min = 0, max = SIZE_MAX;
    struct sv name = raw(p, t);
    *ret_fn = FN_NONE;
    for (size_t i = 0; i < ELEMENTS(builtins); i++) {
        if (sv_ieqs(name, builtins[i].name)) {
            *ret_fn = builtins[i].fn;
            min = builtins[i].min;
            max = builtins[i].max;
        }
    }
    const char *what = NULL;
    if (*ret_fn == FN_NONE && p->names && p->names->functions &&
        !listed(p->names->functions, name, &min, &max))
        what = "Unrecognized function";
    else if (n < min)
        what = "Too few parameters supplied";
    else if (n > max)
        what = "Too many parameters supplied";
    else if (*ret_fn == FN_CASE && n % 2 == 0)
        what = "Even number of parameters supplied, requires an odd number of parameters";
    if (!what)
        return true;
    fail(p, what, t);
    if (p->xe) /* the implementations differ in what follows */
        p->xe->brief = *what == 'U'
                           ? (size_t)(strstr(p->xe->msg, " within expression") - p->xe->msg)
                           : strlen(what) + 2;
    return false;
}

static struct expr_node *call(struct parser *p, const struct token *name) {
    struct expr_node **args = NULL;
    size_t n = 0, cap = 0;
    while (!match(p, TOK_RPAREN)) {
        struct expr_node *arg = expression(p);
        if (!arg)
            return NULL;
        if (n == cap) {
            cap = cap ? cap * 2 : 4;
            struct expr_node **more = ARENA_ARRAY(p->arena, struct expr_node *, cap);
            if (n)
                memcpy(more, args, n * sizeof(*args));
            args = more;
        }
        args[n++] = arg;
        if (!check(p, TOK_RPAREN) && !match(p, TOK_COMMA))
            return unexpected(p);
    }
    enum builtin fn;
    if (!check_call(p, name, n, &fn))
        return NULL;
    struct expr_node *c = node(p, NODE_CALL, name->at, 0);
    c->fn = fn;
    c->name = raw(p, name);
    c->kids = args;
    c->n = n;
    return c;
}

static struct expr_node *name_or_primary(struct parser *p) {
    if (!check(p, TOK_NAME))
        return primary(p);
    const struct token *t = &p->tokens[p->at++];
    if (match(p, TOK_LPAREN))
        return call(p, t);
    size_t min, max;
    if (p->names && p->names->contexts && !listed(p->names->contexts, raw(p, t), &min, &max))
        return fail(p, "Unrecognized named-value", t);
    struct expr_node *n = node(p, NODE_CONTEXT, t->at, 0);
    n->name = raw(p, t);
    return n;
}

/* What follows a '.' or stands between brackets. */
static struct expr_node *property(struct parser *p, bool dot) {
    const struct token *t = peek(p);
    if (match(p, TOK_STAR))
        return node(p, NODE_STAR, t->at, 0);
    if (!dot)
        return expression(p);
    if (!match(p, TOK_NAME))
        return unexpected(p);
    struct expr_node *n = node(p, NODE_LITERAL, t->at, 0);
    n->value = val_string(p->arena, raw(p, t));
    n->name = raw(p, t);
    return n;
}

static struct expr_node *postfix(struct parser *p) {
    struct expr_node *n = name_or_primary(p);
    if (!n || n->kind == NODE_LITERAL)
        return n;
    unsigned depth = p->depth;
    for (;;) {
        bool dot = match(p, TOK_DOT);
        if (!dot && !match(p, TOK_LBRACKET))
            break;
        if (dot && !deeper(p))
            return NULL;
        struct expr_node *index = property(p, dot);
        if (!index)
            return NULL;
        if (!dot) {
            if (!match(p, TOK_RBRACKET))
                return unexpected(p);
            if (!deeper(p))
                return NULL;
        }
        struct expr_node *x = node(p, NODE_INDEX, n->at, 2);
        x->kids[0] = n;
        x->kids[1] = index;
        if (dot)
            x->name = index->name;
        n = x;
    }
    p->depth = depth;
    return n;
}

static struct expr_node *unary(struct parser *p) {
    const struct token *t = peek(p);
    if (!match(p, TOK_NOT))
        return postfix(p);
    if (!deeper(p))
        return NULL;
    struct expr_node *inner = unary(p);
    p->depth--;
    if (!inner)
        return NULL;
    struct expr_node *n = node(p, NODE_NOT, t->at, 1);
    n->kids[0] = inner;
    return n;
}

static enum node_kind binary_kind(enum token_kind k, bool equality) {
    switch (k) {
    case TOK_EQ:
        return equality ? NODE_EQ : NODE_LITERAL;
    case TOK_NE:
        return equality ? NODE_NE : NODE_LITERAL;
    case TOK_LT:
        return equality ? NODE_LITERAL : NODE_LT;
    case TOK_LE:
        return equality ? NODE_LITERAL : NODE_LE;
    case TOK_GT:
        return equality ? NODE_LITERAL : NODE_GT;
    case TOK_GE:
        return equality ? NODE_LITERAL : NODE_GE;
    default:
        return NODE_LITERAL; /* none */
    }
}

static struct expr_node *binary(struct parser *p, bool equality) {
    struct expr_node *left = equality ? binary(p, false) : unary(p);
    enum node_kind kind;
    while (left && (kind = binary_kind(peek(p)->kind, equality)) != NODE_LITERAL) {
        p->at++;
        struct expr_node *right = equality ? binary(p, false) : unary(p);
        if (!right)
            return NULL;
        struct expr_node *n = node(p, kind, left->at, 2);
        n->kids[0] = left;
        n->kids[1] = right;
        left = n;
    }
    return left;
}

static struct expr_node *chain(struct parser *p, enum token_kind op) {
    struct expr_node *first = op == TOK_OR ? chain(p, TOK_AND) : binary(p, true);
    if (!first || !check(p, op))
        return first;
    if (!deeper(p))
        return NULL;
    struct expr_node **kids = NULL, *kid = first;
    size_t n = 0, cap = 0;
    for (;;) {
        if (n == cap) {
            cap = cap ? cap * 2 : 4;
            struct expr_node **more = ARENA_ARRAY(p->arena, struct expr_node *, cap);
            if (n)
                memcpy(more, kids, n * sizeof(*kids));
            kids = more;
        }
        kids[n++] = kid;
        if (!match(p, op))
            break;
        kid = op == TOK_OR ? chain(p, TOK_AND) : binary(p, true);
        if (!kid)
            return NULL;
    }
    p->depth--;
    struct expr_node *c = node(p, op == TOK_OR ? NODE_OR : NODE_AND, first->at, 0);
    c->kids = kids;
    c->n = n;
    return c;
}

static struct expr_node *expression(struct parser *p) {
    if (!deeper(p))
        return NULL;
    struct expr_node *n = chain(p, TOK_OR);
    p->depth--;
    return n;
}

int expr_parse(struct arena *a, struct sv text, const struct expr_names *names, struct expr **ret,
               struct expr_error *xe) {
    struct parser p = {.arena = a, .text = text, .names = names, .xe = xe};
    size_t n;
    int r = expr_lex(a, text, &p.tokens, &n, xe);
    if (r < 0)
        return r;
    struct expr *x = ARENA_NEW(a, struct expr);
    x->text = text;
    if (!check(&p, TOK_EOF)) {
        x->root = expression(&p);
        if (x->root && !check(&p, TOK_EOF))
            x->root = unexpected(&p);
        if (!x->root)
            return -EINVAL;
    }
    *ret = x;
    return 0;
}
