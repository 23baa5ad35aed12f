/* Scalars of a workflow file: their type as GitHub's YAML has it, and the expressions in them,
 * which may name only what the schema allows at that key. An expression that cannot be parsed is
 * reported and the text is then taken for plain text, as GitHub does. */
#include "expr/ast.h"
#include "pipeline/github/read.h"

#include <math.h>

/* --- expressions ------------------------------------------------------------------------------ */

/* The names that a mask stands for, as the parser wants them. */
struct name_lists {
    const char *contexts[N_CONTEXTS + 1], *functions[6];
    struct expr_names names;
};

static void list_names(unsigned mask, struct name_lists *l) {
    size_t n = 0, f = 0;
    for (unsigned i = 0; i < N_CONTEXTS; i++)
        if (mask & 1u << i)
            l->contexts[n++] = schema_contexts[i];
    l->contexts[n] = NULL;
    if (mask & (N_JOB_STATUS | N_STEP_STATUS)) {
        l->functions[f++] = "always(0,0)";
        l->functions[f++] = "cancelled(0,0)";
        l->functions[f++] = mask & N_JOB_STATUS ? "success(0,MAX)" : "success(0,0)";
        l->functions[f++] = mask & N_JOB_STATUS ? "failure(0,MAX)" : "failure(0,0)";
    }
    if (mask & N_HASHFILES)
        l->functions[f++] = "hashFiles(1,255)";
    l->functions[f] = NULL;
    l->names = (struct expr_names){l->contexts, l->functions};
}

/* Place of bytes from..to of a scalar's text, where it can be told: in block scalars and in plain
 * or quoted ones of one line that hold no escapes. */
struct span scalar_place(const struct yaml_node *n, size_t from, size_t to) {
    struct span s = n->at;
    struct sv before = sv_sub(n->text, 0, from);
    if (n->style == YAML_LITERAL && n->content_line) {
        uint32_t lines = 0;
        ssize_t nl;
        size_t start = 0;
        while ((nl = sv_chr(sv_sub(before, start, before.n), '\n')) >= 0) {
            lines++;
            start += (size_t)nl + 1;
        }
        s.line = s.end_line = n->content_line + lines;
        s.col = (uint32_t)(from - start) + n->content_indent + 1;
        s.end_col = s.col + (uint32_t)(to - from);
        return s;
    }
    uint32_t quote = n->style == YAML_SINGLE || n->style == YAML_DOUBLE;
    if (n->style == YAML_FOLDED || s.line != s.end_line ||
        s.end_col - s.col != n->text.n + 2 * quote)
        return n->at;
    s.col += (uint32_t)from + quote;
    s.end_col = s.col + (uint32_t)(to - from);
    return s;
}

static void expr_failed(struct reader *r, struct diags *d, const struct yaml_node *n,
                        const char *code, size_t offset, size_t length,
                        const struct expr_error *xe) {
    size_t at = offset + xe->offset, len = xe->length ? xe->length : length;
    r->errors++;
    diags_add(d, DIAG_ERROR, n->at, code, NULL, "%s", xe->msg);
    if (d->n)
        d->items[d->n - 1].focus = scalar_place(n, at, at + len);
}

static void record(struct reader *r, const struct yaml_node *n, size_t offset,
                   const struct expr *x) {
    struct plan *p = r->plan;
    GROW(p->exprs, p->exprs_cap, p->n_exprs + 1);
    p->exprs[p->n_exprs++] = (struct plan_expr){n, offset, x, r->job, r->step, r->key, r->name};
}

struct expr_walk {
    struct reader *r;
    const struct yaml_node *node;
    unsigned names;
    bool failed, insert;
    size_t count;
    struct sv x; /* the last one */
    struct expr *last;
};

/* `insert` and nothing else, or an error when something follows it. */
static bool directive(struct expr_walk *w, struct sv x) {
    if (!sv_starts(x, "insert") || (x.n > 6 && x.p[6] != ' ' && x.p[6] != '\t' && x.p[6] != '\n'))
        return false;
    w->insert = true;
    if (x.n > 6) {
        size_t words = 0;
        struct sv rest = sv_sub(x, 7, x.n), word;
        while (sv_split(&rest, ' ', &word))
            words += word.n > 0;
        read_error(w->r, w->node->at, "expression",
                   "Exactly 0 parameter(s) were expected following the directive 'insert'. Actual "
                   "parameter count: %zu",
                   words);
        w->failed = true;
    }
    return true;
}

static int check_one(void *arg, struct sv x, size_t offset) {
    struct expr_walk *w = arg;
    w->count++;
    w->x = x;
    if (directive(w, x))
        return 0;
    struct name_lists lists;
    struct expr_error xe = {0};
    list_names(w->names, &lists);
    if (expr_parse(w->r->a, x, &lists.names, &w->last, &xe) < 0) {
        expr_failed(w->r, w->r->d, w->node, "expression", offset, x.n, &xe);
        w->failed = true;
    } else {
        record(w->r, w->node, offset, w->last);
    }
    return 0;
}

/* Checks the expressions of a string. True when it is to be taken for one. */
static bool check_exprs(struct reader *r, struct scalar *s, unsigned names) {
    struct expr_walk w = {.r = r, .node = s->node, .names = names};
    struct expr_error xe = {0};
    if (template_each(s->s, check_one, &w, &xe) < 0) {
        xe.offset = 0;
        xe.length = s->s.n;
        expr_failed(r, r->d, s->node, "expression", 0, s->s.n, &xe);
        return false;
    }
    if (w.failed)
        return false;
    struct sv all = SV_NULL; /* when it is one expression and nothing else */
    if (w.count == 1 && s->s.n >= 5 && sv_starts(s->s, "${{") && sv_ends(s->s, "}}"))
        all = sv_trim(sv_sub(s->s, 3, s->s.n - 5));
    bool alone = all.p && all.p == w.x.p && all.n == w.x.n;
    if (w.insert) {
        if (!alone) {
            read_error(r, s->node->at, "expression",
                       "The directive 'insert' is not allowed in this context. Directives are not "
                       "supported for expressions that are embedded within a string. Directives "
                       "are only supported when the entire value is an expression.");
            return false;
        }
        s->kind = S_INSERT;
        return true;
    }
    /* ${{ 'text' }} is that text: the way to write what looks like an expression. */
    const struct expr_node *root = w.last ? w.last->root : NULL;
    if (alone && root && root->kind == NODE_LITERAL && root->value->kind == VAL_STRING) {
        s->s = arena_sv(r->a, root->value->str);
        return true;
    }
    s->kind = S_EXPR;
    return true;
}

/* --- scalars ---------------------------------------------------------------------------------- */

static const char *const core_tags[] = {"tag:yaml.org,2002:null", "tag:yaml.org,2002:bool",
                                        "tag:yaml.org,2002:int",  "tag:yaml.org,2002:float",
                                        "tag:yaml.org,2002:str",  NULL};

/* The type that a tag asks for. False: reported. */
static bool tagged_type(struct reader *r, const struct yaml_node *n, enum yaml_type *type) {
    static const enum yaml_type types[] = {YAML_T_NULL, YAML_T_BOOL, YAML_T_INT, YAML_T_FLOAT,
                                           YAML_T_STRING};
    struct span file = {.file = n->at.file};
    size_t i = 0;
    while (core_tags[i] && !streq(core_tags[i], n->tag))
        i++;
    if (streq(n->tag, "!")) {
        *type = YAML_T_STRING;
        return true;
    }
    if (!core_tags[i]) {
        read_error(r, file, "yaml-tag", "Unexpected tag '%s'", n->tag);
        r->fatal = true;
        return false;
    }
    bool fits = types[i] == *type || types[i] == YAML_T_STRING ||
                (types[i] == YAML_T_FLOAT && *type == YAML_T_INT);
    if (!fits) {
        read_error(r, file, "yaml-tag",
                   "The value '%.*s' on line %u and column %u is invalid for the type '%s'",
                   (int)MIN(n->text.n, (size_t)100), n->text.p, n->at.line, n->at.col, n->tag);
        r->fatal = true;
        return false;
    }
    *type = types[i];
    return true;
}

static struct sv number_text(struct reader *r, double d) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    val_format_number(d, &b);
    return arena_sv(r->a, buf_sv(&b));
}

struct scalar scalar_read(struct reader *r, const struct yaml_node *n, unsigned names) {
    struct scalar s = {S_STRING, false, n->text, n};
    double num = 0;
    enum yaml_type type = yaml_scalar_type(n, &num, &s.flag);
    if (n->tag && !tagged_type(r, n, &type))
        return s;
    switch (type) {
    case YAML_T_NULL:
        s.kind = S_NULL;
        s.s = SV("");
        return s;
    case YAML_T_BOOL:
        s.kind = S_BOOL;
        s.s = s.flag ? SV("true") : SV("false");
        return s;
    case YAML_T_INT:
    case YAML_T_FLOAT:
        s.kind = S_NUMBER;
        s.s = number_text(r, num);
        return s;
    case YAML_T_STRING:
        break;
    }
    if (template_has_expr(s.s))
        check_exprs(r, &s, names);
    return s;
}

static bool string_fits(const struct def *d, struct sv s) {
    if (!(d->types & T_STRING) || ((d->types & T_NONEMPTY) && s.n == 0))
        return false;
    if (!d->values)
        return true;
    for (const char *const *v = d->values; *v; v++)
        if (sv_eqs(s, *v))
            return true;
    return false;
}

void scalar_unexpected(struct reader *r, const struct scalar *s) {
    read_error(r, s->node->at, "value", "Unexpected value '%.*s'", (int)MIN(s->s.n, (size_t)1000),
               s->s.p);
}

/* Whether the scalar fits the definition; reports it when not. */
bool scalar_fits(struct reader *r, const struct scalar *s, const struct def *d, unsigned names) {
    if (s->kind == S_EXPR) {
        if (names)
            return true;
        read_error(r, s->node->at, "expression",
                   "A template expression is not allowed in this context");
        return false;
    }
    bool ok = (s->kind == S_NULL && d->types & T_NULL) ||
              (s->kind == S_BOOL && d->types & T_BOOL) ||
              (s->kind == S_NUMBER && d->types & T_NUMBER) ||
              (s->kind != S_INSERT && string_fits(d, s->s));
    if (!ok)
        scalar_unexpected(r, s);
    return ok;
}

/* A condition is an expression as it stands. */
void scalar_condition(struct reader *r, const struct scalar *s, unsigned names) {
    struct sv x = sv_trim(s->s);
    if (s->kind == S_EXPR || x.n == 0 || template_has_expr(s->s))
        return;
    struct name_lists lists;
    struct expr_error xe = {0};
    struct expr *parsed;
    list_names(names, &lists);
    if (expr_parse(r->a, x, &lists.names, &parsed, &xe) < 0)
        expr_failed(r, &r->conditions, s->node, "condition", (size_t)(x.p - s->s.p), x.n, &xe);
    else
        record(r, s->node, (size_t)(x.p - s->s.p), parsed);
}

struct text scalar_text(const struct scalar *s) {
    static const enum text_type types[] = {[S_NULL] = TEXT_NULL,
                                           [S_BOOL] = TEXT_BOOL,
                                           [S_NUMBER] = TEXT_NUMBER,
                                           [S_INSERT] = TEXT_STRING};
    return (struct text){s->s.p, s->s.n, s->kind == S_EXPR || s->kind == S_INSERT, s->node->at,
                         types[s->kind]};
}
