/* --call: what can be told without building. check: the warnings; outline and targets: what a
 * Dockerfile offers, from its text and the comments that stand above stages and arguments ("# NAME
 * what it is for"). Texts and JSON are laid out as docker buildx build prints them. */
#include "build/eval.h"
#include "build/lint.h"
#include "core/json.h"

/* --- check ---------------------------------------------------------------------------------- */

/* Some lines around one. */
static void source_lines(struct buf *out, const struct dockerfile *f, uint32_t first, uint32_t last) {
    struct sv rest = f->source, line;
    uint32_t lines = 1;
    for (size_t i = 0; i < f->source.n; i++)
        lines += f->source.p[i] == '\n';
    if (!first || first > lines)
        return;
    last = MIN(MAX(last, first), lines);
    uint32_t from = first, to = last;
    for (unsigned pad = 0, want = first == last ? 4 : 2; pad < want; pad++) {
        if (from > 1) {
            from--;
            pad++;
        }
        if (to != lines) {
            to++;
            pad++;
        }
    }
    buf_addf(out, "%s:%u\n--------------------\n", f->file, first);
    for (uint32_t no = 1; no <= to; no++) {
        if (!sv_line(&rest, &line))
            line = SV("");
        if (no >= from)
            buf_addf(out, " %3u | %s " SV_FMT "\n", no, no >= first && no <= last ? ">>>" : "   ", SV_ARG(line));
    }
    buf_adds(out, "--------------------\n");
}

static void check_json(const struct dockerfile *f, const struct diags *d, size_t from, struct buf *out) {
    struct json_w w;
    jw_init(&w, out, 2);
    jw_obj(&w);
    jw_key(&w, "warnings");
    jw_arr(&w);
    for (size_t i = from; i < d->n; i++) {
        const struct diag *dg = &d->items[i];
        const struct lint_rule *r = dg->level == DIAG_WARNING ? lint_rule(dg->code) : NULL;
        if (!r)
            continue;
        jw_obj(&w);
        jw_kstr(&w, "ruleName", r->name);
        jw_kstr(&w, "description", r->about);
        if (*r->url)
            jw_kstr(&w, "url", r->url);
        jw_kstr(&w, "detail", dg->msg);
        jw_key(&w, "location");
        jw_obj(&w);
        jw_key(&w, "ranges");
        jw_arr(&w);
        jw_obj(&w);
        for (unsigned k = 0; k < 2; k++) {
            jw_key(&w, k ? "end" : "start");
            jw_obj(&w);
            jw_kint(&w, "line", dg->at.line);
            jw_kint(&w, "character", k ? dg->at.end_col : dg->at.col);
            jw_end_obj(&w);
        }
        jw_end_obj(&w);
        jw_end_arr(&w);
        jw_end_obj(&w);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
    buf_addc(out, '\n');
}

void build_check(struct build *b, size_t from, struct buf *out) {
    struct diags *d = b->d;
    size_t n = 0;
    diags_sort(d);
    for (size_t i = from; i < d->n; i++)
        n += d->items[i].level == DIAG_WARNING && lint_rule(d->items[i].code);
    if (b->rq->call_json) {
        check_json(b->df, d, from, out);
        return;
    }
    if (n)
        buf_addf(out, "Check complete, %zu warning%s been found!\n", n, n == 1 ? " has" : "s have");
    else
        buf_adds(out, "Check complete, no warnings found.\n");
    for (size_t i = from; i < d->n; i++) {
        const struct diag *dg = &d->items[i];
        const struct lint_rule *r = dg->level == DIAG_WARNING ? lint_rule(dg->code) : NULL;
        if (!r)
            continue;
        buf_addf(out, "\nWARNING: %s%s%s\n%s\n", r->name, *r->url ? " - " : "", r->url, dg->msg);
        source_lines(out, b->df, dg->at.line, dg->at.end_line);
    }
}

/* --- outline and targets -------------------------------------------------------------------- */

/* What the comment above an instruction says of a name. */
static const char *described(const struct df_instr *in, const char *name) {
    const char *last = NULL;
    for (size_t i = 0; in && in->comments && in->comments[i]; i++)
        last = in->comments[i];
    const char *rest = last && name ? startswith(last, name) : NULL;
    return rest && *rest == ' ' ? rest + strspn(rest, " ") : "";
}

static void row(struct buf *out, const char *a, const char *b, const char *c) {
    if (c)
        buf_addf(out, "%-20s %-20s %s\n", a, b, c);
    else
        buf_addf(out, "%-20s %s\n", a, b);
    while (out->n > 1 && out->p[out->n - 2] == ' ') { /* no blanks at the end of a line */
        buf_cut(out, out->n - 2, 1);
    }
}

void build_targets(struct build *b, struct buf *out) {
    struct json_w w;
    jw_init(&w, out, 2);
    if (b->rq->call_json) {
        jw_obj(&w);
        jw_key(&w, "targets");
        jw_arr(&w);
    } else {
        row(out, "TARGET", "DESCRIPTION", NULL);
    }
    for (size_t i = 0; i < b->df->n_stages; i++) {
        const struct df_stage *st = &b->df->stages[i];
        const char *about = described(st->from, st->name);
        bool dflt = i + 1 == b->df->n_stages;
        if (!b->rq->call_json) {
            _cleanup_free_ char *name = xasprintf("%s%s", st->name ? st->name : "", dflt ? st->name ? " (default)" : "(default)" : "");
            if (st->name || dflt)
                row(out, name, about, NULL);
            continue;
        }
        jw_obj(&w);
        if (st->name)
            jw_kstr(&w, "name", st->name);
        if (*about)
            jw_kstr(&w, "description", about);
        if (dflt)
            jw_kbool(&w, "default", true);
        jw_kstr(&w, "base", st->base.s);
        if (st->platform)
            jw_kstr(&w, "platform", st->platform);
        jw_end_obj(&w);
    }
    if (b->rq->call_json) {
        jw_end_arr(&w);
        jw_end_obj(&w);
        buf_addc(out, '\n');
    }
}

struct item {
    const char *name, *value, *about;
    bool required;
};
struct items {
    struct item *v;
    size_t n, cap;
};

static void add(struct items *l, const char *name, const char *value, const char *about, bool required) {
    for (size_t i = 0; i < l->n; i++)
        if (streq(l->v[i].name, name)) {
            l->v[i].required |= required;
            return;
        }
    GROW(l->v, l->cap, l->n + 1);
    l->v[l->n++] = (struct item){name, value ? value : "", about, required};
}

static int by_name(const void *a, const void *b) { return strcmp(((const struct item *)a)->name, ((const struct item *)b)->name); }

static void put(struct build *b, struct json_w *w, struct buf *out, struct items *l, const char *key, const char *title,
                const char *second) {
    if (l->n)
        qsort(l->v, l->n, sizeof *l->v, by_name);
    if (b->rq->call_json) {
        jw_key(w, key);
        jw_arr(w);
        for (size_t i = 0; i < l->n; i++) {
            jw_obj(w);
            jw_kstr(w, "name", l->v[i].name);
            if (*l->v[i].about)
                jw_kstr(w, "description", l->v[i].about);
            if (*l->v[i].value)
                jw_kstr(w, "value", l->v[i].value);
            if (l->v[i].required)
                jw_kbool(w, "required", true);
            jw_end_obj(w);
        }
        jw_end_arr(w);
    } else if (l->n) {
        buf_addc(out, '\n');
        row(out, title, second, streq(key, "args") ? "DESCRIPTION" : NULL);
        for (size_t i = 0; i < l->n; i++)
            row(out, l->v[i].name, streq(key, "args") || streq(key, "cache") ? l->v[i].value : l->v[i].required ? "true" : "",
                streq(key, "args") ? l->v[i].about : NULL);
    }
    free(l->v);
}

void build_outline(struct build *b, unsigned target, struct buf *out) {
    struct items args = {0}, secrets = {0}, ssh = {0}, caches = {0};
    for (unsigned i = 0; i < b->df->n_stages; i++) {
        struct stage *st = &b->stages[i];
        if (!st->needed)
            continue;
        for (size_t k = 0; k < st->df->n_instrs; k++) {
            const struct df_instr *in = st->df->instrs[k];
            for (size_t p = 0; in->op == DF_ARG && p < in->n_pairs; p++)
                add(&args, in->pairs[p].key, map_gets(&st->args, in->pairs[p].key), described(in, in->pairs[p].key), false);
        }
    }
    for (size_t k = 0; k < b->df->n_globals; k++)
        for (size_t p = 0; p < b->df->globals[k]->n_pairs; p++) {
            const char *key = b->df->globals[k]->pairs[p].key;
            add(&args, key, map_gets(&b->globals, key), described(b->df->globals[k], key), false);
        }
    for (size_t i = 0; i < b->n_vertices; i++)
        for (size_t k = 0; k < b->vertices[i]->n_mounts; k++) {
            const struct run_mount *m = &b->vertices[i]->mounts[k];
            if (m->kind == MOUNT_SECRET)
                add(&secrets, m->id, NULL, "", m->required);
            else if (m->kind == MOUNT_SSH)
                add(&ssh, m->id, NULL, "", m->required);
            else if (m->kind == MOUNT_CACHE)
                add(&caches, m->id, m->target, "", false);
        }
    const struct df_stage *st = &b->df->stages[target];
    const char *about = described(st->from, st->name);
    struct json_w w;
    jw_init(&w, out, 2);
    if (b->rq->call_json) {
        jw_obj(&w);
        if (st->name)
            jw_kstr(&w, "name", st->name);
        if (*about)
            jw_kstr(&w, "description", about);
    } else {
        if (st->name)
            row(out, "TARGET:", st->name, NULL);
        if (*about)
            row(out, "DESCRIPTION:", about, NULL);
    }
    put(b, &w, out, &args, "args", "BUILD ARG", "VALUE");
    put(b, &w, out, &secrets, "secrets", "SECRET", "REQUIRED");
    put(b, &w, out, &ssh, "ssh", "SSH", "REQUIRED");
    put(b, &w, out, &caches, "cache", "CACHE MOUNT", "TARGET");
    if (b->rq->call_json) {
        jw_end_obj(&w);
        buf_addc(out, '\n');
    }
}
