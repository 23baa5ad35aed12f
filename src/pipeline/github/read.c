/* Walks a workflow file along the schema's table: checks every value and puts it into the plan in
 * the same step. A slot (a row of the table) and a base (the struct that the row's offset counts
 * from) say where a value goes; without a base the value is only checked.
 *
 * All errors of the file are reported, each at the value that it is about, with GitHub's words. An
 * expression that cannot be parsed is reported and then taken for plain text, as GitHub does. What
 * the table cannot say (ids, needs, cycles, …) is check.c's. */
#include "pipeline/github/read.h"

#include "expr/fold.h"

enum { MAX_FILE = 1 << 20, MAX_DEPTH = 50, MAX_RESULT = 10 << 20 };

static void read_value(struct reader *r, const struct yaml_node *n, enum def_id id, unsigned names,
                       const struct prop *slot, void *base);

void read_error(struct reader *r, struct span at, const char *code, const char *fmt, ...) {
    char msg[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    r->errors++;
    diags_add(r->d, DIAG_ERROR, at, code, NULL, "%s", msg);
}

/* --- storing ---------------------------------------------------------------------------------- */

static void *at_offset(void *base, size_t offset) {
    return (char *)base + offset;
}

static void *new_item(struct reader *r, void *slot, const struct item_shape *shape, size_t cap) {
    struct array {
        char *items;
        size_t n;
    } *a = slot;
    if (!a->items)
        a->items = arena_alloc(r->a, shape->size * (cap ? cap : 1));
    return a->items + shape->size * a->n++;
}

static void name_item(struct reader *r, void *item, const struct item_shape *shape,
                      const struct scalar *key, struct span at) {
    if (shape->id != SIZE_MAX) /* a value that was refused has no name, but is never NULL */
        *(const char **)at_offset(item, shape->id) = key ? key->s.p : "";
    if (key && shape->key != SIZE_MAX)
        *(struct text *)at_offset(item, shape->key) = scalar_text(key);
    if (shape->at != SIZE_MAX)
        *(struct span *)at_offset(item, shape->at) = at;
}

static void store_scalar(struct reader *r, const struct scalar *s, const struct def *d,
                         const struct prop *slot, void *base) {
    void *to = at_offset(base, slot->offset);
    struct text t = scalar_text(s);
    static const unsigned kept[] = {[TEXT_STRING] = T_STRING,
                                    [TEXT_BOOL] = T_BOOL,
                                    [TEXT_NUMBER] = T_NUMBER,
                                    [TEXT_NULL] = T_NULL};
    if (!(d->types & kept[t.type])) /* it was taken as a string */
        t.type = TEXT_STRING;
    switch (slot->fill) {
    case FILL_TEXT:
        *(struct text *)to = t;
        break;
    case FILL_STR:
        *(const char **)to = s->s.p;
        break;
    case FILL_FLAG:
        *(bool *)to = s->kind == S_BOOL && s->flag;
        break;
    case FILL_MAP:
        ((struct text_map *)to)->whole = t;
        break;
    case FILL_TREE:
        *(plan_tree *)to = s->node;
        break;
    case FILL_LIST: {
        struct text_list *l = to;
        if (t.expr) {
            l->whole = t;
        } else {
            l->items = ARENA_NEW(r->a, struct text);
            l->items[0] = t;
            l->n = 1;
        }
        break;
    }
    case FILL_FILTER: {
        struct plan_filter *f = to;
        f->items = ARENA_NEW(r->a, const char *);
        f->items[0] = s->s.p;
        f->n = 1;
        f->given = true;
        f->at = s->node->at;
        break;
    }
    case FILL_INSIDE:
    case FILL_ITEMS: {
        void *in = slot->fill == FILL_INSIDE ? to : base;
        size_t where = t.expr ? d->whole : d->literal;
        if (where)
            *(struct text *)at_offset(in, where - 1) = t;
        else if (slot->fill == FILL_ITEMS && s->kind == S_STRING && d->shape)
            name_item(r, new_item(r, to, d->shape, 1), d->shape, s, s->node->at);
        if (slot->fill == FILL_INSIDE && d->at)
            *(struct span *)at_offset(in, d->at - 1) = s->node->at;
        break;
    }
    case FILL_STRS:
    case FILL_NONE:
        break;
    }
}

/* --- sequences and mappings ------------------------------------------------------------------- */

static void read_seq(struct reader *r, const struct yaml_node *n, enum def_id id, unsigned names,
                     const struct prop *slot, void *base) {
    const struct def *d = &schema[id];
    struct prop item_slot = {0};
    struct text *texts = NULL;
    void *to = base ? at_offset(base, slot->offset) : NULL;
    enum fill fill = base ? slot->fill : FILL_NONE;
    if (fill == FILL_LIST || fill == FILL_FILTER || fill == FILL_STRS) {
        texts = ARENA_ARRAY(r->a, struct text, n->n);
        item_slot.fill = FILL_TEXT;
    } else if (fill == FILL_TREE) {
        *(plan_tree *)to = n;
    } else if (fill == FILL_ITEMS && d->shape) {
        item_slot.fill = FILL_INSIDE;
    }
    for (size_t i = 0; i < n->n; i++) {
        const struct yaml_node *item = n->items[i];
        void *in = texts ? &texts[i] : NULL;
        if (item_slot.fill == FILL_INSIDE) {
            in = new_item(r, to, d->shape, n->n);
            struct scalar key = {S_STRING, false, item->text, item};
            name_item(r, in, d->shape, item->kind == YAML_SCALAR ? &key : NULL, item->at);
        }
        const struct plan_step *step = r->step;
        if (id == D_STEPS)
            r->step = in;
        if (d->item == D_NONE && item->kind == YAML_SEQ)
            read_error(r, item->at, "value", "A sequence was not expected");
        else
            read_value(r, item, d->item == D_NONE ? id : d->item, names, &item_slot, in);
        r->step = step;
    }
    size_t n_texts = 0; /* without those that were refused */
    for (size_t i = 0; texts && i < n->n; i++)
        if (texts[i].s)
            texts[n_texts++] = texts[i];
    if (fill == FILL_LIST) {
        *(struct text_list *)to = (struct text_list){.items = texts, .n = n_texts};
    } else if (texts) {
        const char **strs = ARENA_ARRAY(r->a, const char *, n_texts);
        for (size_t i = 0; i < n_texts; i++)
            strs[i] = texts[i].s;
        if (fill == FILL_FILTER)
            *(struct plan_filter *)to = (struct plan_filter){strs, n_texts, true, n->at};
        else
            *(struct strs {
                const char **items;
                size_t n;
            } *)to = (struct strs){strs, n_texts};
    }
}

/* A mapping being read: which definitions are still possible, which keys were seen. */
struct mapping {
    const struct def *defs[ELEMENTS(schema[0].one_of)];
    size_t n_defs;
    const struct yaml_node *node;
    struct sv *keys; /* seen so far */
    size_t n_keys;
    bool has_expr;
};

static bool seen(const struct mapping *m, struct sv key) {
    for (size_t i = 0; i < m->n_keys; i++)
        if (m->keys[i].n == key.n && strncasecmp(m->keys[i].p, key.p, key.n) == 0)
            return true;
    return false;
}

/* The row of a key; definitions that do not have it are ruled out when another has. */
static const struct prop *choose(struct mapping *m, struct sv key) {
    const struct prop *found = NULL;
    const struct def *left[ELEMENTS(m->defs)];
    size_t n = 0;
    for (size_t i = 0; i < m->n_defs; i++) {
        const struct prop *p = schema_prop(m->defs[i], key.p, key.n);
        if (!p)
            continue;
        if (!found)
            found = p;
        left[n++] = m->defs[i];
    }
    if (found) {
        memcpy(m->defs, left, n * sizeof *left);
        m->n_defs = n;
    }
    return found;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names what would tell the definitions apart. The common two only: the rest are rare. */
static void not_enough(struct reader *r, const struct mapping *m) {
    const char *names[64];
    size_t n = 0;
    for (size_t i = 0; i < 2; i++) {
        for (const struct prop *p = m->defs[i]->props; p->key; p++) {
            bool other = schema_prop(m->defs[!i], p->key, strlen(p->key)) != NULL;
            if (!other && n < ELEMENTS(names))
                names[n++] = p->key;
        }
    }
    qsort(names, n, sizeof *names, by_name);
    _cleanup_buf_ struct buf b = BUF_SMALL;
    for (size_t i = 0; i < n; i++)
        buf_addf(&b, "%s%s", i ? ", " : "", names[i]);
    read_error(
        r, m->node->at, "value",
        "There's not enough info to determine what you meant. Add one of these properties: %s",
        buf_str(&b));
}

static void check_required(struct reader *r, const struct mapping *m) {
    if (r->fatal)
        return;
    if (m->n_defs > 1) {
        not_enough(r, m);
        return;
    }
    for (const struct prop *p = m->defs[0]->props; p && p->key && !m->has_expr; p++)
        if (p->required && !seen(m, sv_from(p->key)))
            read_error(r, m->node->at, "required", "Required property is missing: %s", p->key);
}

/* Where the value of a key goes. */
struct target {
    struct prop slot;
    void *base;
};

static struct target target_of(struct reader *r, const struct def *d, const struct mapping *m,
                               const struct prop *row, const struct scalar *key,
                               const struct yaml_node *value, const struct prop *slot, void *base) {
    struct target t = {{0}, NULL};
    if (!base)
        return t;
    void *to = at_offset(base, slot->offset);
    if (slot->fill == FILL_ITEMS && d->shape) {
        void *item = new_item(r, to, d->shape, m->node->n);
        name_item(r, item, d->shape, key, key->node->at);
        t.base = item;
        t.slot.fill = FILL_INSIDE;
        if (row)
            t.slot = *row;
    } else if (slot->fill == FILL_MAP) {
        struct text_map *map = to;
        if (!map->items)
            map->items = ARENA_ARRAY(r->a, struct text_pair, m->node->n);
        struct text_pair *p = &map->items[map->n++];
        p->key = scalar_text(key);
        p->value = (struct text){.s = "", .at = value->at};
        t.base = p;
        t.slot = (struct prop){.fill = FILL_TEXT, .offset = offsetof(struct text_pair, value)};
    } else if (row) { /* FILL_INSIDE, or a form of a list that is a mapping: rows of the struct */
        t.base = slot->fill == FILL_INSIDE ? to : base;
        t.slot = *row;
    }
    return t;
}

static void read_pair(struct reader *r, struct mapping *m, const struct def *d, size_t i,
                      unsigned names, const struct prop *slot, void *base) {
    const struct yaml_node *k = m->node->keys[i], *v = m->node->items[i];
    if (k->kind != YAML_SCALAR) {
        read_error(r, k->at, "value", "A %s was not expected",
                   k->kind == YAML_MAP ? "mapping" : "sequence");
        return;
    }
    const char *outer_key = r->key, *outer_name = r->name;
    r->key = NULL; /* what stands in a key is a name, not a value */
    struct scalar key = scalar_read(r, k, names);
    r->key = outer_key;
    if (key.kind == S_EXPR || key.kind == S_INSERT) {
        m->has_expr = true;
        if (!names) {
            read_error(r, k->at, "expression",
                       "A template expression is not allowed in this context");
            return;
        }
        struct target t = target_of(r, d, m, NULL, &key, v, slot, base);
        read_value(r, v, D_ANYTHING, names, &t.slot, t.base);
        return;
    }
    if (key.s.n) {
        if (seen(m, key.s)) {
            read_error(r, k->at, "duplicate", "'" SV_FMT "' is already defined", SV_ARG(key.s));
            return;
        }
        m->keys[m->n_keys++] = key.s;
    }
    const struct prop *row = choose(m, key.s);
    if (!row && d->loose == D_NONE) {
        scalar_unexpected(r, &key);
        return;
    }
    if (!row && key.s.n == 0 && d->loose != D_ANYTHING) { /* names must not be empty */
        scalar_unexpected(r, &key);
        read_value(r, v, d->loose, names, &(struct prop){0}, NULL);
        return;
    }
    struct target t = target_of(r, d, m, row, &key, v, slot, base);
    const struct plan_job *job = r->job;
    if (d == &schema[D_JOBS])
        r->job = t.base;
    if (row) {
        r->key = row->key;
        if (row->def != D_CALL_INPUT_DEFAULT) /* which knows its input by it */
            r->name = NULL;
    } else {
        r->name = key.s.p;
    }
    read_value(r, v, row ? row->def : d->loose, names, &t.slot, t.base);
    r->job = job;
    r->key = outer_key;
    r->name = outer_name;
}

static void fill_permissions(struct reader *r, const struct yaml_node *n,
                             struct plan_permissions *p) {
    p->given = true;
    p->items = ARENA_ARRAY(r->a, struct text_pair, n->n);
    for (size_t i = 0; i < n->n; i++) {
        if (n->keys[i]->kind != YAML_SCALAR || n->items[i]->kind != YAML_SCALAR)
            continue;
        p->items[p->n].key =
            (struct text){n->keys[i]->text.p, n->keys[i]->text.n, false, n->keys[i]->at};
        p->items[p->n++].value =
            (struct text){n->items[i]->text.p, n->items[i]->text.n, false, n->items[i]->at};
    }
}

static void read_map(struct reader *r, const struct yaml_node *n, enum def_id id, unsigned names,
                     const struct prop *slot, void *base) {
    const struct def *d = &schema[id];
    struct mapping m = {.node = n, .keys = ARENA_ARRAY(&r->scratch, struct sv, n->n + 1)};
    if (d->one_of[0]) {
        while (m.n_defs < ELEMENTS(d->one_of) && d->one_of[m.n_defs]) {
            m.defs[m.n_defs] = &schema[d->one_of[m.n_defs]];
            m.n_defs++;
        }
    } else {
        m.defs[m.n_defs++] = d;
    }
    if (base && slot->fill == FILL_INSIDE && d->at)
        *(struct span *)at_offset(base, slot->offset + d->at - 1) = n->at;
    if (base && slot->fill == FILL_TREE) {
        *(plan_tree *)at_offset(base, slot->offset) = n;
        base = NULL;
    }
    if (base && id == D_PERMISSIONS)
        fill_permissions(r, n, at_offset(base, slot->offset));
    for (size_t i = 0; i < n->n && !r->fatal; i++)
        read_pair(r, &m, d, i, names, slot, base);
    check_required(r, &m);
}

static void read_value(struct reader *r, const struct yaml_node *n, enum def_id id, unsigned names,
                       const struct prop *slot, void *base) {
    const struct def *d = &schema[id];
    if (r->fatal)
        return;
    names |= d->names;
    switch (n->kind) {
    case YAML_SCALAR: {
        struct scalar s = scalar_read(r, n, names);
        if (r->fatal || !scalar_fits(r, &s, d, names))
            return;
        if (d->condition)
            scalar_condition(r, &s, names);
        if (base)
            store_scalar(r, &s, d, slot, base);
        return;
    }
    case YAML_SEQ:
        if (d->types & T_SEQ)
            read_seq(r, n, id, names, slot, base);
        else
            read_error(r, n->at, "value", "A sequence was not expected");
        return;
    case YAML_MAP:
        if (d->types & T_MAP)
            read_map(r, n, id, names, slot, base);
        else
            read_error(r, n->at, "value", "A mapping was not expected");
        return;
    }
}

/* --- size ------------------------------------------------------------------------------------- */

/* What the file takes as GitHub counts it: so much for each value, two bytes a character. */
static size_t weigh(const struct yaml_node *n) {
    enum { VALUE = 24, STRING = 26 };
    size_t bytes = VALUE;
    if (n->kind == YAML_SCALAR) {
        struct sv s = n->text;
        enum yaml_type t = yaml_scalar_type(n, NULL, NULL);
        if (sv_starts(s, "${{") && sv_ends(s, "}}") && s.n >= 5)
            s = sv_trim(sv_sub(s, 3, s.n - 5));
        return t == YAML_T_STRING ? bytes + STRING + 2 * utf16_len(s) : bytes;
    }
    for (size_t i = 0; i < n->n; i++)
        bytes += weigh(n->items[i]) + (n->kind == YAML_MAP ? weigh(n->keys[i]) : 0);
    return bytes;
}

/* Without anchors a file has no more values than bytes. */
static bool surely_small(const struct reader *r) {
    struct sv rest = r->plan->source;
    if (rest.n > r->lim.max_result_size / 64)
        return false;
    for (const char *p; (p = memchr(rest.p, '&', rest.n)); rest = sv_sub(rest, (size_t)(p - rest.p) + 1, rest.n))
        if (p == r->plan->source.p || strchr(" \t\n[{,:-", p[-1]))
            if (p[1] != '&' && p[1] != ' ')
                return false;
    return true;
}

static void check_size(struct reader *r, const struct yaml_node *root) {
    if (surely_small(r))
        return;
    size_t bytes = weigh(root) + 26 + 2 * utf16_len(sv_from(r->plan->file));
    if (bytes <= r->lim.max_result_size)
        return;
    read_error(r, (struct span){.file = r->plan->file}, "limit", "Maximum object size exceeded");
    r->fatal = true;
}

/* --- the file --------------------------------------------------------------------------------- */

/* The YAML reader's own diagnostics, with GitHub's words where it has them. */
static int parse_yaml(struct reader *r, struct sv text, struct yaml_node **ret) {
    struct yaml_limits lim = {
        .max_bytes = r->lim.max_file_size, .max_depth = r->lim.max_depth, .keep_duplicates = true};
    struct diags found = {0};
    int rc = yaml_parse(r->a, r->plan->file, text, &lim, ret, &found);
    for (size_t i = 0; i < found.n; i++) {
        const struct diag *x = &found.items[i];
        if (streq0(x->code, "yaml-limit") && strstr(x->msg, "nested"))
            read_error(r, (struct span){.file = r->plan->file}, "limit",
                       "Maximum object depth exceeded");
        else if (streq0(x->code, "yaml-limit"))
            read_error(r, (struct span){.file = r->plan->file}, "limit",
                       "Maximum object size exceeded");
        else
            diags_add(r->d, x->level, x->at, x->code, x->hint, "%s", x->msg);
    }
    diags_done(&found);
    return rc;
}

const struct yaml_node *read_document(struct reader *r, void *base, enum def_id id) {
    static const struct prop top = {.fill = FILL_INSIDE};
    struct plan *p = r->plan;
    struct yaml_node *root = NULL;
    r->lim.max_depth = r->lim.max_depth ? r->lim.max_depth : MAX_DEPTH;
    r->lim.max_file_size = r->lim.max_file_size ? r->lim.max_file_size : MAX_FILE;
    r->lim.max_result_size = r->lim.max_result_size ? r->lim.max_result_size : MAX_RESULT;
    if (p->source.n > r->lim.max_file_size) {
        read_error(r, (struct span){.file = p->file}, "limit", "The maximum file size of %zu characters has been exceeded",
                   r->lim.max_file_size);
        return NULL;
    }
    if (parse_yaml(r, p->source, &root) < 0 || !root)
        return NULL;
    p->root = root;
    check_size(r, root);
    read_value(r, root, id, 0, &top, base);
    return root;
}

int github_read(const char *file, struct sv text, const struct github_limits *lim,
                struct plan **ret, struct diags *d) {
    size_t before = d->errors;
    struct plan *p = xcalloc(1, sizeof *p);
    p->dialect = DIALECT_GITHUB;
    p->file = span_file(file);
    p->source = arena_sv(&p->arena, text);
    struct reader r = {
        .plan = p, .a = &p->arena, .d = d, .lim = lim ? *lim : (struct github_limits){0}};
    const struct yaml_node *root = read_document(&r, p, D_WORKFLOW);
    if (root && !r.fatal)
        check_plan(&r);
    else if (!root && d->errors == before)
        read_error(&r, (struct span){.file = p->file}, "value", "The workflow is empty: it needs `on` and `jobs`");
    diags_done(&r.conditions);
    arena_done(&r.scratch);
    if (d->errors > before && (r.fatal || !p->n_jobs)) {
        plan_free(p);
        p = NULL;
    }
    *ret = p;
    return d->errors > before ? -EBADMSG : 0;
}
