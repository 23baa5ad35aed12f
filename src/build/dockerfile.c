/* Reading a Dockerfile, line by line.
 *
 * A physical line that ends in the escape character goes on in the next one; comments and blank
 * lines inside such a continuation are dropped. The joined text is a logical line (df_line), with
 * a list of segments that map its offsets back to line and column. instruction.c reads one logical
 * line; when the instruction names heredocs, their bodies are the physical lines that follow. */
#include "build/dockerfile_int.h"
#include "build/lint.h"

#define MAX_TEXT (1u << 20)
#define MAX_INSTRS 10000u
#define MAX_LOGICAL (256u << 10)

struct lines {
    struct sv rest; /* unread */
    uint32_t no;    /* number of the next line */
};

static bool next_line(struct lines *l, struct sv *ret, struct sv *ret_raw) {
    if (!l->rest.n)
        return false;
    ssize_t at = sv_chr(l->rest, '\n');
    size_t n = at < 0 ? l->rest.n : (size_t)at + 1;
    struct sv raw = sv_n(l->rest.p, n);
    struct sv line = raw;
    if (line.n && line.p[line.n - 1] == '\n')
        line.n--;
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    l->rest.p += n;
    l->rest.n -= n;
    l->no++;
    *ret = line;
    if (ret_raw)
        *ret_raw = raw;
    return true;
}

struct span df_at(const struct df_parser *p, const char *where, size_t n) {
    const struct df_line *l = p->line;
    struct span at = {.file = l->file};
    size_t off = where >= l->text.p && where <= l->text.p + l->text.n ? (size_t)(where - l->text.p) : 0;
    for (size_t i = l->n_segs; i-- > 0;) {
        if (l->segs[i].off <= off) {
            at.line = l->segs[i].line;
            at.col = l->segs[i].col + (uint32_t)(off - l->segs[i].off);
            break;
        }
    }
    if (n) {
        at.end_line = at.line;
        at.end_col = at.col + (uint32_t)n;
    }
    return at;
}

static void report(struct df_parser *p, enum diag_level level, const char *where, size_t n,
                   const char *code, const char *hint, const char *fmt, va_list ap) {
    char msg[600];
    vsnprintf(msg, sizeof msg, fmt, ap);
    diags_add(p->d, level, df_at(p, where, n), code, hint, "%s", msg);
}

void df_error(struct df_parser *p, const char *where, size_t n, const char *hint, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    report(p, DIAG_ERROR, where, n, NULL, hint, fmt, ap);
    va_end(ap);
}

static struct sv ltrim(struct sv s) {
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\v' || s.p[0] == '\f' || s.p[0] == '\r'))
        s.p++, s.n--;
    return s;
}

static bool is_comment(struct sv line) {
    line = ltrim(line);
    return line.n && line.p[0] == '#';
}

/* --- directives ---------------------------------------------------------------------------- */

/* docker/dockerfile at any version, also by way of a mirror ("mirror.example/docker/dockerfile:1");
 * what stands behind a blank are its options. */
static bool syntax_known(struct sv v) {
    static const char *const names[] = {"docker/dockerfile", "docker/dockerfile-upstream"};
    struct sv name = v;
    ssize_t at = sv_chr(name, ' ');
    if (at >= 0)
        name.n = (size_t)at;
    at = sv_chr(name, '@');
    if (at >= 0)
        name.n = (size_t)at;
    at = sv_rchr(name, ':');
    if (at >= 0 && sv_chr(sv_n(name.p + at, name.n - (size_t)at), '/') < 0)
        name.n = (size_t)at;
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        size_t n = strlen(names[i]);
        if (sv_eqs(name, names[i]) || (name.n > n + 1 && sv_eqs(sv_sub(name, name.n - n, name.n), names[i]) && name.p[name.n - n - 1] == '/'))
            return true;
    }
    return false;
}

/* "# key = value" → true. */
static bool directive_split(struct sv line, struct sv *key, struct sv *value) {
    line = ltrim(line);
    if (!line.n || line.p[0] != '#')
        return false;
    line = ltrim(sv_sub(line, 1, line.n));
    size_t n = 0;
    while (n < line.n && ((line.p[n] | 32) >= 'a' && (line.p[n] | 32) <= 'z'))
        n++;
    if (!n)
        return false;
    *key = sv_n(line.p, n);
    line = ltrim(sv_sub(line, n, line.n));
    if (!line.n || line.p[0] != '=')
        return false;
    *value = sv_trim(sv_sub(line, 1, line.n));
    return value->n > 0;
}

static void directives(struct dockerfile *f, struct lines *l, struct diags *d) {
    bool seen_escape = false;
    for (;;) {
        struct lines before = *l;
        struct sv line, key, value;
        if (!next_line(l, &line, NULL))
            return;
        if (!directive_split(line, &key, &value)) {
            *l = before;
            return;
        }
        struct span at = {.file = f->file, .line = before.no, .col = (uint32_t)(value.p - line.p) + 1,
                          .end_line = before.no, .end_col = (uint32_t)(value.p + value.n - line.p) + 1};
        bool dup = false;
        if (sv_ieqs(key, "escape")) {
            dup = seen_escape;
            seen_escape = true;
            if (value.n == 1 && (value.p[0] == '\\' || value.p[0] == '`'))
                f->escape = value.p[0];
            else
                diags_add(d, DIAG_ERROR, at, NULL, "only \\ and ` can be the escape character",
                          "wrong escape directive");
        } else if (sv_ieqs(key, "syntax")) {
            dup = f->syntax != NULL;
            f->syntax = arena_strndup(&f->arena, value.p, value.n);
            if (!syntax_known(value))
                diags_add(d, DIAG_ERROR, at, NULL,
                          "slipway has the docker/dockerfile front end built in and never fetches another",
                          "unknown front end " SV_FMT, SV_ARG(sv_sub(value, 0, 200)));
        } else if (sv_ieqs(key, "check")) {
            dup = f->check != NULL;
            f->check = arena_strndup(&f->arena, value.p, value.n);
        } else {
            *l = before;
            return;
        }
        if (dup)
            diags_add(d, DIAG_ERROR, at, NULL, NULL, "only one " SV_FMT " directive can be used", SV_ARG(key));
    }
}

/* --- logical lines ------------------------------------------------------------------------- */

static void seg_add(struct df_line *l, size_t off, uint32_t line, uint32_t col) {
    GROW(l->segs, l->cap_segs, l->n_segs + 1);
    l->segs[l->n_segs++] = (struct df_seg){off, line, col};
}

/* Cuts the continuation character and the blanks behind it. */
static bool continues(struct sv *line, char escape) {
    size_t n = line->n;
    while (n && (line->p[n - 1] == ' ' || line->p[n - 1] == '\t'))
        n--;
    if (!n || line->p[n - 1] != escape || (n > 1 && line->p[n - 2] == escape))
        return false;
    line->n = n - 1;
    return true;
}

/* An empty comment parts those before it from what follows. */
static void comment_add(struct df_parser *p, struct sv text) {
    if (!text.n) {
        strv_done(&p->comments);
        p->comments = (struct strv){0};
    } else if (p->comments.n < 1000) {
        strv_addn(&p->comments, text.p, text.n);
    }
}

static void comments_take(struct df_parser *p, struct df_instr *in) {
    if (p->comments.n) {
        const char **v = ARENA_ARRAY(&p->f->arena, const char *, p->comments.n + 1);
        for (size_t i = 0; i < p->comments.n; i++)
            v[i] = arena_strdup(&p->f->arena, p->comments.v[i]);
        in->comments = v;
    }
    strv_done(&p->comments);
    p->comments = (struct strv){0};
}

/* 1 = a line in *out (segs and buffer reused), 0 = end. */
static int logical_line(struct df_parser *p, struct lines *l, struct buf *b, struct df_line *out) {
    struct sv line;
    uint32_t no;
    out->n_segs = 0;
    for (;;) {
        no = l->no;
        if (!next_line(l, &line, NULL))
            return 0;
        struct sv t = ltrim(line);
        if (t.n && t.p[0] == '#')
            comment_add(p, sv_trim(sv_sub(t, 1, t.n)));
        if (t.n && t.p[0] != '#') {
            seg_add(out, 0, no, (uint32_t)(t.p - line.p) + 1);
            line = t;
            break;
        }
    }
    buf_reset(b);
    bool more = continues(&line, p->f->escape), blank_seen = false;
    buf_addsv(b, line);
    uint32_t blank_no = 0;
    while (more) {
        no = l->no;
        if (!next_line(l, &line, NULL))
            break;
        if (is_comment(line))
            continue;
        if (!ltrim(line).n) {
            if (!blank_seen)
                blank_no = no;
            blank_seen = true;
            continue;
        }
        if (blank_seen && blank_no) {
            diags_add(p->d, DIAG_WARNING, (struct span){.file = p->f->file, .line = blank_no, .col = 1},
                      "NoEmptyContinuation", NULL, "Empty continuation line");
            blank_no = 0;
        }
        more = continues(&line, p->f->escape);
        seg_add(out, b->n, no, 1);
        buf_addsv(b, line);
    }
    out->end_line = l->no;
    out->file = p->f->file;
    if (!buf_ok(b)) {
        diags_add(p->d, DIAG_ERROR, (struct span){.file = p->f->file, .line = out->segs[0].line, .col = 1},
                  NULL, NULL, "instruction longer than %u bytes", MAX_LOGICAL);
        b->failed = false;
        buf_reset(b);
        return 1;
    }
    out->text = sv_rtrim(arena_sv(&p->f->arena, buf_sv(b)));
    return 1;
}

/* --- heredocs ------------------------------------------------------------------------------ */

static struct sv strip_tabs(struct sv s) {
    while (s.n && s.p[0] == '\t')
        s.p++, s.n--;
    return s;
}

static int read_heredocs(struct df_parser *p, struct lines *l, struct df_instr *in) {
    for (size_t i = 0; i < in->n_heredocs; i++) {
        struct df_heredoc *h = &in->heredocs[i];
        const char *start = l->rest.p;
        size_t n = 0;
        for (;;) {
            struct sv line, raw;
            if (!next_line(l, &line, &raw)) {
                diags_add(p->d, DIAG_ERROR, in->at, NULL, "end it with a line that holds the word alone",
                          "heredoc \"%s\" is not terminated", h->name);
                return -EBADMSG;
            }
            if (sv_eqs(h->chomp ? strip_tabs(line) : line, h->name))
                break;
            n += raw.n;
        }
        h->data = arena_sv(&p->f->arena, sv_n(start ? start : "", n));
    }
    return 0;
}

struct sv df_heredoc_text(struct arena *a, const struct df_heredoc *h) {
    if (!h->chomp)
        return h->data;
    char *out = arena_strndup(a, h->data.p, h->data.n);
    size_t n = 0;
    bool bol = true;
    for (size_t i = 0; i < h->data.n; i++) {
        char c = h->data.p[i];
        if (bol && c == '\t')
            continue;
        out[n++] = c;
        bol = c == '\n';
    }
    out[n] = 0;
    return sv_n(out, n);
}

/* --- file ---------------------------------------------------------------------------------- */

const char *df_flag(const struct df_instr *in, const char *name) {
    for (size_t i = 0; i < in->n_flags; i++)
        if (streq(in->flags[i].name, name))
            return in->flags[i].value ? in->flags[i].value : "";
    return NULL;
}

int dockerfile_stage(const struct dockerfile *f, const char *name, size_t before) {
    before = MIN(before, f->n_stages);
    for (size_t i = before; i-- > 0;)
        if (f->stages[i].name && strcasecmp(f->stages[i].name, name) == 0)
            return (int)i;
    uint64_t n;
    if (sv_u64(sv_from(name), 100000, &n) == 0 && n < before)
        return (int)n;
    return -1;
}

static void stage_begin(struct df_parser *p, struct df_instr *in) {
    struct dockerfile *f = p->f;
    GROW(f->stages, f->cap_stages, f->n_stages + 1);
    struct df_stage *s = &f->stages[f->n_stages];
    *s = (struct df_stage){.base = in->words[0], .at = in->at, .from = in, .index = (unsigned)f->n_stages};
    s->platform = df_flag(in, "platform");
    if (in->n_words == 3) {
        const char *name = in->words[2].s;
        char *low = arena_strdup(&f->arena, name);
        bool bad = !((low[0] | 32) >= 'a' && (low[0] | 32) <= 'z');
        for (char *c = low; *c; c++) {
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c | 32);
            bad |= !((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-' || *c == '_' || *c == '.');
        }
        struct span at = in->words[2].at;
        if (bad)
            diags_add(p->d, DIAG_ERROR, at, NULL, "letters, digits, '-', '_' and '.', beginning with a letter",
                      "invalid name for a stage: \"%s\"", name);
        s->name = low;
    }
    f->n_stages++;
}

static void instr_add(struct df_parser *p, struct df_instr *in) {
    struct dockerfile *f = p->f;
    if (in->op == DF_FROM) {
        stage_begin(p, in);
        return;
    }
    if (f->n_stages) {
        struct df_stage *s = &f->stages[f->n_stages - 1];
        GROW(s->instrs, s->cap_instrs, s->n_instrs + 1);
        s->instrs[s->n_instrs++] = in;
    } else if (in->op == DF_ARG) {
        GROW(f->globals, f->cap_globals, f->n_globals + 1);
        f->globals[f->n_globals++] = in;
    } else {
        diags_add(p->d, DIAG_ERROR, in->at, NULL, "begin with FROM (only ARG may stand before it)",
                  "no build stage yet");
    }
}

int dockerfile_parse(const char *file, struct sv text, struct dockerfile **ret, struct diags *d) {
    struct dockerfile *f = xcalloc(1, sizeof *f);
    size_t errors_before = d->errors;
    *ret = f;
    f->file = span_file(file);
    f->escape = '\\';
    if (text.n > MAX_TEXT || memchr(text.p ? text.p : "", 0, text.n)) {
        diags_add(d, DIAG_ERROR, (struct span){.file = f->file}, NULL, NULL,
                  text.n > MAX_TEXT ? "larger than 1 MiB" : "holds a NUL byte: not a text file");
        return -EBADMSG;
    }
    f->source = arena_sv(&f->arena, text);
    struct lines l = {f->source, 1};
    if (sv_starts(l.rest, "\xEF\xBB\xBF"))
        l.rest = sv_sub(l.rest, 3, l.rest.n);
    directives(f, &l, d);

    _cleanup_buf_ struct buf b = BUF_MAX(MAX_LOGICAL);
    struct df_line line = {0};
    struct df_parser p = {.f = f, .d = d, .line = &line};
    while (logical_line(&p, &l, &b, &line) > 0) {
        if (++p.n_instrs > MAX_INSTRS) {
            diags_add(d, DIAG_ERROR, df_at(&p, line.text.p, 0), NULL, NULL, "more than %u instructions", MAX_INSTRS);
            break;
        }
        if (!line.text.n)
            continue;
        struct df_instr *in = df_instr_read(&p, false);
        if (!in) {
            strv_done(&p.comments);
            p.comments = (struct strv){0};
            continue;
        }
        comments_take(&p, in);
        struct df_instr *owner = df_heredoc_owner(in);
        if (owner && read_heredocs(&p, &l, owner) < 0)
            break;
        in->end_line = l.no - 1;
        instr_add(&p, in);
    }
    free(line.segs);
    strv_done(&p.comments);
    if (d->errors == errors_before)
        lint_file(f, d);
    if (!f->n_stages && d->errors == errors_before)
        diags_add(d, DIAG_ERROR, (struct span){.file = f->file, .line = 1, .col = 1}, NULL, NULL,
                  p.n_instrs ? "there is no FROM" : "the file is empty");
    return d->errors > errors_before ? -EBADMSG : 0;
}

int dockerfile_parse_one(struct dockerfile *f, const char *where, struct sv text, struct df_instr **ret,
                         struct diags *d) {
    if (text.n > MAX_LOGICAL || memchr(text.p ? text.p : "", 0, text.n))
        return -EBADMSG;
    size_t errors_before = d->errors;
    text = arena_sv(&f->arena, text);
    ssize_t nl = sv_chr(text, '\n');
    struct sv first = nl < 0 ? text : sv_n(text.p, (size_t)nl);
    struct df_seg seg = {0, 1, 1};
    struct df_line line = {.text = sv_trim(first), .segs = &seg, .n_segs = 1, .file = span_file(where)};
    struct df_parser p = {.f = f, .d = d, .line = &line};
    struct df_instr *in = line.text.n ? df_instr_read(&p, true) : NULL;
    struct df_instr *owner = in ? df_heredoc_owner(in) : NULL;
    struct lines l = {nl < 0 ? sv_n("", 0) : sv_sub(text, (size_t)nl + 1, text.n), 2};
    if (owner && read_heredocs(&p, &l, owner) < 0)
        in = NULL;
    if (!in || d->errors > errors_before)
        return -EBADMSG;
    *ret = in;
    return 0;
}

void dockerfile_free(struct dockerfile *f) {
    if (!f)
        return;
    for (size_t i = 0; i < f->n_stages; i++)
        free(f->stages[i].instrs);
    free(f->stages);
    free(f->globals);
    arena_done(&f->arena);
    free(f);
}
void dockerfile_freep(struct dockerfile **f) { dockerfile_free(*f); }
