/* libyaml's events into a tree. Open collections are a stack of frames (never recursion); a frame
 * becomes a node when it closes. Each frame counts the nodes and the height of what is below it
 * with aliases expanded, so that an alias costs what it stands for ("billion laughs") before
 * anybody walks the tree.
 *
 * libyaml counts positions in characters, we in bytes: a cursor walks the text along with the
 * events (they come almost in order), so a long line costs no more than many short ones. */
#include "base/yaml.h"

#include "core/map.h"

#include <yaml.h>

enum { MAX_BYTES = 1 << 20, MAX_DEPTH = 64, MAX_NODES = 1000000, MAX_DOCS = 1000 };

struct frame {
    struct yaml_node *node;
    struct yaml_node **kids; /* map: key, value, key, … */
    size_t n, cap;
    size_t weight, height;
    char *anchor;
};
struct anchor {
    struct yaml_node *node;
    size_t weight, height;
    bool open;
};
struct reader {
    struct arena *a;
    struct diags *d;
    const char *file;
    struct sv text;
    struct yaml_limits lim;
    yaml_parser_t parser;
    struct frame *stack;
    size_t depth, cap;
    struct map anchors;
    size_t nodes;
    size_t cur_char, cur_byte; /* the cursor */
    size_t line, line_start;   /* of the cursor: counted from 0, and where it begins */
    bool plain;                /* ASCII with plain line ends: libyaml's positions are ours */
    struct yaml_node *root;
    bool failed;
};

static bool continues(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

/* Moves the cursor to the character with that index. */
static void seek_to(struct reader *r, size_t index) {
    if (r->plain) { /* no need to count */
        r->cur_char = r->cur_byte = MIN(index, r->text.n);
        return;
    }
    const char *p = r->text.p;
    while (r->cur_char < index && r->cur_byte < r->text.n) {
        if (p[r->cur_byte] == '\n') {
            r->line++;
            r->line_start = r->cur_byte + 1;
        }
        r->cur_byte++;
        while (r->cur_byte < r->text.n && continues(p[r->cur_byte]))
            r->cur_byte++;
        r->cur_char++;
    }
    bool crossed = false;
    while (r->cur_char > index && r->cur_byte > 0) {
        r->cur_byte--;
        while (r->cur_byte > 0 && continues(p[r->cur_byte]))
            r->cur_byte--;
        if (p[r->cur_byte] == '\n') {
            r->line--;
            crossed = true;
        }
        r->cur_char--;
    }
    if (crossed) {
        r->line_start = r->cur_byte;
        while (r->line_start > 0 && p[r->line_start - 1] != '\n')
            r->line_start--;
    }
}

static void mark_pos(struct reader *r, const yaml_mark_t *m, uint32_t *line, uint32_t *col) {
    if (r->plain) {
        *line = (uint32_t)(m->line + 1);
        *col = (uint32_t)(m->column + 1);
        return;
    }
    seek_to(r, m->index);
    *line = (uint32_t)(r->line + 1);
    *col = (uint32_t)(r->cur_byte - r->line_start + 1);
}

static struct span span_of(struct reader *r, const yaml_mark_t *from, const yaml_mark_t *to) {
    struct span s = {.file = r->file};
    mark_pos(r, from, &s.line, &s.col);
    if (to)
        mark_pos(r, to, &s.end_line, &s.end_col);
    return s;
}

static void fail(struct reader *r, struct span at, const char *code, const char *hint, const char *what) {
    r->failed = true;
    diags_add(r->d, DIAG_ERROR, at, code, hint, "%s", what);
}

static void syntax_error(struct reader *r) {
    yaml_parser_t *p = &r->parser;
    const char *problem = p->problem ? p->problem : "not valid YAML";
    if (p->error == YAML_READER_ERROR) { /* problem_offset counts bytes */
        struct span at = {.file = r->file, .line = 1};
        size_t off = MIN(p->problem_offset, r->text.n), start = 0;
        for (size_t i = 0; i < off; i++)
            if (r->text.p[i] == '\n') {
                at.line++;
                start = i + 1;
            }
        at.col = (uint32_t)(off - start + 1);
        fail(r, at, "yaml", NULL, problem);
        return;
    }
    struct span at = span_of(r, &p->problem_mark, NULL);
    char text[400];
    const char *hint = NULL;
    if (p->context)
        snprintf(text, sizeof text, "%s %s (line %zu)", problem, p->context, p->context_mark.line + 1);
    else
        snprintf(text, sizeof text, "%s", problem);
    if (strstr(problem, "cannot start any token")) {
        seek_to(r, p->problem_mark.index);
        if (r->cur_byte < r->text.n && r->text.p[r->cur_byte] == '\t')
            hint = "indent with spaces: YAML does not allow tabs there";
        else
            hint = "put quotes around a value that begins with this character";
    } else if (strstr(problem, "mapping values are not allowed")) {
        hint = "put quotes around a value that has ': ' in it, or check the indentation";
    }
    fail(r, at, "yaml", hint, text);
}

/* First content line of a block scalar and the columns that its indentation takes. */
static void block_content(struct reader *r, struct yaml_node *n, const yaml_mark_t *start) {
    seek_to(r, start->index);
    const char *p = r->text.p;
    size_t i = r->cur_byte, end = r->text.n;
    while (i < end && p[i] != '|' && p[i] != '>' && p[i] != '\n') /* past anchor and tag */
        i++;
    while (i < end && p[i] != '\n')
        i++;
    n->content_line = n->at.line + 1;
    struct sv text = n->text, line;
    size_t own = 0; /* spaces that belong to the first line with text in it */
    while (sv_line(&text, &line))
        if (line.n) {
            while (own < line.n && line.p[own] == ' ')
                own++;
            break;
        }
    while (i < end) {
        size_t from = ++i;
        while (i < end && p[i] == ' ')
            i++;
        if (i < end && p[i] != '\n' && p[i] != '\r') {
            n->content_indent = (uint32_t)(i - from > own ? i - from - own : 0);
            return;
        }
        while (i < end && p[i] != '\n')
            i++;
    }
}

static bool too_many(struct reader *r, size_t more, struct span at) {
    if (more > r->lim.max_nodes - r->nodes) {
        fail(r, at, "yaml-limit", NULL, "too many values (aliases expanded)");
        return true;
    }
    r->nodes += more;
    return false;
}

static void set_anchor(struct reader *r, const char *name, struct yaml_node *n, size_t weight,
                       size_t height, bool open) {
    struct anchor *a = map_gets(&r->anchors, name);
    if (!a) {
        a = xcalloc(1, sizeof *a);
        map_sets(&r->anchors, name, a);
    }
    *a = (struct anchor){n, weight, height, open};
}

/* A finished node goes into the open collection, or becomes the document. */
static void attach(struct reader *r, struct yaml_node *n, size_t weight, size_t height) {
    if (!r->depth) {
        r->root = n;
        return;
    }
    struct frame *f = &r->stack[r->depth - 1];
    GROW(f->kids, f->cap, f->n + 1);
    f->kids[f->n++] = n;
    f->weight += weight;
    f->height = MAX(f->height, height + 1);
}

static const char *tag_of(struct reader *r, const yaml_char_t *tag) {
    return tag ? arena_strdup(r->a, (const char *)tag) : NULL;
}

static void on_scalar(struct reader *r, yaml_event_t *ev) {
    static const enum yaml_style styles[] = {
        [YAML_ANY_SCALAR_STYLE] = YAML_PLAIN,           [YAML_PLAIN_SCALAR_STYLE] = YAML_PLAIN,
        [YAML_SINGLE_QUOTED_SCALAR_STYLE] = YAML_SINGLE, [YAML_DOUBLE_QUOTED_SCALAR_STYLE] = YAML_DOUBLE,
        [YAML_LITERAL_SCALAR_STYLE] = YAML_LITERAL,     [YAML_FOLDED_SCALAR_STYLE] = YAML_FOLDED};
    struct span at = span_of(r, &ev->start_mark, &ev->end_mark);
    if (too_many(r, 1, at))
        return;
    struct yaml_node *n = ARENA_NEW(r->a, struct yaml_node);
    n->kind = YAML_SCALAR;
    n->style = styles[ev->data.scalar.style];
    n->at = at;
    n->tag = tag_of(r, ev->data.scalar.tag);
    n->text.n = ev->data.scalar.length;
    n->text.p = arena_strndup(r->a, (const char *)ev->data.scalar.value, n->text.n);
    if (n->style == YAML_LITERAL || n->style == YAML_FOLDED)
        block_content(r, n, &ev->start_mark);
    if (ev->data.scalar.anchor)
        set_anchor(r, (const char *)ev->data.scalar.anchor, n, 1, 1, false);
    attach(r, n, 1, 1);
}

static void on_alias(struct reader *r, yaml_event_t *ev) {
    struct span at = span_of(r, &ev->start_mark, &ev->end_mark);
    const char *name = (const char *)ev->data.alias.anchor;
    const struct anchor *a = map_gets(&r->anchors, name);
    if (!a) {
        r->failed = true;
        diags_add(r->d, DIAG_ERROR, at, "yaml", "an anchor stands before its aliases",
                  "Unknown anchor '%s'", name);
        return;
    }
    if (a->open) {
        fail(r, at, "yaml", NULL, "an alias inside its own anchor");
        return;
    }
    if (r->depth + a->height > r->lim.max_depth) {
        fail(r, at, "yaml-limit", NULL, "nested too deeply");
        return;
    }
    if (too_many(r, a->weight, at))
        return;
    struct yaml_node *n = ARENA_NEW(r->a, struct yaml_node);
    *n = *a->node;
    n->from_alias = true;
    attach(r, n, a->weight, a->height);
}

static void on_open(struct reader *r, yaml_event_t *ev, enum yaml_kind kind) {
    struct span at = span_of(r, &ev->start_mark, &ev->end_mark);
    bool map = kind == YAML_MAP;
    const yaml_char_t *anchor = map ? ev->data.mapping_start.anchor : ev->data.sequence_start.anchor;
    if (r->depth >= r->lim.max_depth) {
        fail(r, at, "yaml-limit", NULL, "nested too deeply");
        return;
    }
    if (too_many(r, 1, at))
        return;
    struct yaml_node *n = ARENA_NEW(r->a, struct yaml_node);
    n->kind = kind;
    n->at = at;
    n->tag = tag_of(r, map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag);
    GROW(r->stack, r->cap, r->depth + 1);
    r->stack[r->depth++] = (struct frame){.node = n, .weight = 1, .height = 1};
    if (anchor) {
        r->stack[r->depth - 1].anchor = xstrdup((const char *)anchor);
        set_anchor(r, (const char *)anchor, n, 1, 1, true);
    }
}

static void duplicate(struct reader *r, const struct yaml_node *key, const struct yaml_node *first) {
    diags_add(r->d, DIAG_ERROR, key->at, "yaml-duplicate-key", NULL,
              "the key \"%.*s\" is given twice (first in line %u)", (int)MIN(key->text.n, (size_t)80),
              key->text.p, first->at.line);
    r->failed = true;
}

static bool is_merge(const struct yaml_node *k) {
    return k->kind == YAML_SCALAR && k->style == YAML_PLAIN && sv_eqs(k->text, "<<");
}

/* Reports keys that occur twice. `seen` gets the scalar keys. */
static void check_keys(struct reader *r, const struct yaml_node *n, struct map *seen) {
    for (size_t i = 0; i < n->n; i++) {
        struct yaml_node *k = n->keys[i];
        if (k->kind != YAML_SCALAR || (r->lim.merge && is_merge(k)))
            continue;
        struct yaml_node *first = map_set(seen, k->text, k);
        if (first && !r->lim.keep_duplicates)
            duplicate(r, k, first);
    }
}

/* Appends the keys of `from` that the mapping does not have. */
static bool merge_one(struct reader *r, struct frame *f, const struct yaml_node *from, struct map *seen) {
    if (from->kind != YAML_MAP) {
        fail(r, from->at, "yaml", NULL, "\"<<\" wants a mapping or a list of mappings");
        return false;
    }
    for (size_t i = 0; i < from->n; i++) {
        struct yaml_node *k = from->keys[i];
        if (k->kind != YAML_SCALAR || map_has(seen, k->text))
            continue;
        if (too_many(r, 2, from->at))
            return false;
        map_set(seen, k->text, k);
        GROW(f->kids, f->cap, f->n + 2);
        f->kids[f->n++] = k;
        f->kids[f->n++] = from->items[i];
        f->weight += 2; /* what is below was counted with the alias */
    }
    return true;
}

static void fill_map(struct reader *r, struct frame *f) {
    struct yaml_node *n = f->node;
    n->n = f->n / 2;
    n->keys = ARENA_ARRAY(r->a, struct yaml_node *, n->n);
    n->items = ARENA_ARRAY(r->a, struct yaml_node *, n->n);
    for (size_t i = 0; i < n->n; i++) {
        n->keys[i] = f->kids[2 * i];
        n->items[i] = f->kids[2 * i + 1];
    }
}

static void merge_keys(struct reader *r, struct frame *f, struct map *seen) {
    size_t old = f->n, kept = 0;
    for (size_t i = 0; i + 1 < old; i += 2) {
        if (!is_merge(f->kids[i]))
            continue;
        const struct yaml_node *v = f->kids[i + 1];
        if (v->kind == YAML_SEQ) {
            for (size_t j = 0; j < v->n; j++)
                if (!merge_one(r, f, v->items[j], seen))
                    return;
        } else if (!merge_one(r, f, v, seen)) {
            return;
        }
    }
    for (size_t i = 0; i + 1 < f->n; i += 2)
        if (!is_merge(f->kids[i])) {
            f->kids[kept++] = f->kids[i];
            f->kids[kept++] = f->kids[i + 1];
        }
    if (kept != f->n) {
        f->n = kept;
        fill_map(r, f);
    }
}

static void on_close(struct reader *r, yaml_event_t *ev) {
    struct frame *f = &r->stack[r->depth - 1];
    struct yaml_node *n = f->node;
    struct yaml_node *last = f->n ? f->kids[f->n - 1] : NULL;
    bool flow = ev->end_mark.index > ev->start_mark.index;
    if (flow) {
        mark_pos(r, &ev->end_mark, &n->at.end_line, &n->at.end_col);
    } else if (last && !last->from_alias) {
        n->at.end_line = last->at.end_line;
        n->at.end_col = last->at.end_col;
    }
    if (n->kind == YAML_SEQ) {
        n->n = f->n;
        n->items = ARENA_ARRAY(r->a, struct yaml_node *, f->n);
        if (f->n)
            memcpy(n->items, f->kids, f->n * sizeof *f->kids);
    } else {
        _cleanup_map_ struct map seen = {0};
        fill_map(r, f);
        check_keys(r, n, &seen);
        if (r->lim.merge)
            merge_keys(r, f, &seen);
    }
    size_t weight = f->weight, height = f->height;
    if (f->anchor)
        set_anchor(r, f->anchor, n, weight, height, false);
    free(f->anchor);
    free(f->kids);
    r->depth--;
    attach(r, n, weight, height);
}

static void on_event(struct reader *r, yaml_event_t *ev) {
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        on_scalar(r, ev);
        break;
    case YAML_ALIAS_EVENT:
        on_alias(r, ev);
        break;
    case YAML_SEQUENCE_START_EVENT:
        on_open(r, ev, YAML_SEQ);
        break;
    case YAML_MAPPING_START_EVENT:
        on_open(r, ev, YAML_MAP);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        on_close(r, ev);
        break;
    default:
        break;
    }
}

static void reader_done(struct reader *r) {
    for (size_t i = 0; i < r->depth; i++) {
        free(r->stack[i].kids);
        free(r->stack[i].anchor);
    }
    free(r->stack);
    map_done(&r->anchors);
    yaml_parser_delete(&r->parser);
}

int yaml_parse_all(struct arena *a, const char *file, struct sv text, const struct yaml_limits *lim,
                   struct yaml_node ***ret_docs, size_t *ret_n, struct diags *d) {
    struct reader r = {.a = a, .d = d, .file = span_file(file), .lim = lim ? *lim : (struct yaml_limits){0}};
    r.lim.max_bytes = r.lim.max_bytes ? r.lim.max_bytes : MAX_BYTES;
    r.lim.max_depth = r.lim.max_depth ? r.lim.max_depth : MAX_DEPTH;
    r.lim.max_nodes = r.lim.max_nodes ? r.lim.max_nodes : MAX_NODES;
    r.anchors.free_value = free;
    struct yaml_node **docs = NULL;
    size_t n = 0, cap = 0;
    if (text.n > r.lim.max_bytes) {
        diags_add(d, DIAG_ERROR, (struct span){.file = r.file}, "yaml-limit", NULL,
                  "the file is larger than %zu bytes", r.lim.max_bytes);
        return -EBADMSG;
    }
    if (sv_starts(text, "\xef\xbb\xbf"))
        text = sv_sub(text, 3, text.n);
    r.text = text;
    r.plain = true;
    for (size_t i = 0; i < text.n && r.plain; i++)
        r.plain = (unsigned char)text.p[i] < 128 && text.p[i] != '\r';
    if (!yaml_parser_initialize(&r.parser))
        abort();
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text.p ? text.p : ""), text.n);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    for (bool end = false; !end && !r.failed;) {
        yaml_event_t ev;
        if (!yaml_parser_parse(&r.parser, &ev)) {
            syntax_error(&r);
            break;
        }
        end = ev.type == YAML_STREAM_END_EVENT;
        if (ev.type == YAML_DOCUMENT_START_EVENT) {
            map_done(&r.anchors);
            r.anchors = (struct map){.free_value = free};
        } else if (ev.type == YAML_DOCUMENT_END_EVENT && r.root) {
            GROW(docs, cap, n + 1);
            docs[n++] = TAKE(r.root);
            if (n > MAX_DOCS)
                fail(&r, span_of(&r, &ev.start_mark, NULL), "yaml-limit", NULL, "too many documents");
        } else {
            on_event(&r, &ev);
        }
        yaml_event_delete(&ev);
    }
    bool failed = r.failed;
    reader_done(&r);
    if (!failed) {
        *ret_docs = ARENA_ARRAY(a, struct yaml_node *, n);
        if (n)
            memcpy(*ret_docs, docs, n * sizeof *docs);
        *ret_n = n;
    }
    free(docs);
    return failed ? -EBADMSG : 0;
}

int yaml_parse(struct arena *a, const char *file, struct sv text, const struct yaml_limits *lim,
               struct yaml_node **ret, struct diags *d) {
    struct yaml_node **docs;
    size_t n;
    int r = yaml_parse_all(a, file, text, lim, &docs, &n, d);
    if (r < 0)
        return r;
    if (n > 1) {
        diags_add(d, DIAG_ERROR, docs[1]->at, "yaml", NULL, "a second document in the file (\"---\")");
        return -EBADMSG;
    }
    *ret = n ? docs[0] : NULL;
    return 0;
}

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key) {
    if (!map || map->kind != YAML_MAP)
        return NULL;
    for (size_t i = 0; i < map->n; i++)
        if (yaml_is(map->keys[i], key))
            return map->items[i];
    return NULL;
}

bool yaml_is(const struct yaml_node *n, const char *scalar_text) {
    return n && n->kind == YAML_SCALAR && sv_eqs(n->text, scalar_text);
}
