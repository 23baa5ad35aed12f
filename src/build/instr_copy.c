/* COPY and ADD: what an instruction names, as a step of the graph. */
#include "build/eval.h"
#include "build/lint.h"
#include "build/netsrc.h"

static int copy_flags(struct build *b, struct stage *st, const struct df_instr *in, struct vertex *v) {
    struct copy_spec *c = &v->copy;
    c->chown = eval_flag(b, st, in, "chown");
    c->chmod = eval_flag(b, st, in, "chmod");
    if (c->chown && !*c->chown)
        c->chown = NULL;
    if (c->chmod && !*c->chmod)
        c->chmod = NULL;
    uint32_t mode;
    if (c->chmod && chmod_parse(c->chmod, 0, false, &mode) < 0) {
        eval_error(b, in->at, "octal (0755) or symbolic (u+x)", "--chmod=%s", c->chmod);
        return -EBADMSG;
    }
    const char *link = df_flag(in, "link"), *parents = df_flag(in, "parents"), *unpack = df_flag(in, "unpack");
    v->link = link && !streq(link, "false");
    c->parents = parents && !streq(parents, "false");
    c->unpack = in->op == DF_ADD && !(unpack && streq(unpack, "false"));
    const char **ex = ARENA_ARRAY(&b->arena, const char *, in->n_flags + 1);
    size_t n = 0;
    for (size_t i = 0; i < in->n_flags; i++)
        if (streq(in->flags[i].name, "exclude") &&
            !(ex[n++] = stage_expand(b, st, (struct df_word){in->flags[i].value, in->flags[i].at})))
            return -EBADMSG;
    c->exclude = ex;
    return 0;
}

static const char *heredoc_value(struct build *b, struct stage *st, const struct df_heredoc *h, struct span at, struct sv *ret) {
    struct sv text = df_heredoc_text(&b->arena, h);
    if (!h->expand) {
        *ret = text;
        return "";
    }
    struct stage_vars arg = {b, st, at};
    struct expand x = {.escape = '\\', .get = stage_vars_get, .unset = stage_vars_unset, .arg = &arg, .raw_quotes = true};
    struct err e = {0};
    char *out;
    if (expand_word(&b->arena, &x, text, &out, &e) < 0) {
        eval_error(b, at, NULL, "heredoc %s: %s", h->name, e.msg);
        return NULL;
    }
    *ret = sv_from(out);
    return out;
}

/* Only where no pattern takes anything in again: then a match is certain. */
static void copy_ignored(struct build *b, const struct df_instr *in, const char *src, struct span at) {
    if (!b->ignore.n || b->ignore.negations)
        return;
    _cleanup_free_ char *clean = path_clean(src);
    const char *rel = clean;
    bool root = streq(clean, ".") || streq(clean, "/") || !*clean;
    while (*rel == '/')
        rel++;
    if (root ? ignore_match(&b->ignore, "\x01") : ignore_match(&b->ignore, rel))
        eval_warn(b, at, "CopyIgnoredFile", "Attempting to %s file \"%s\" that is excluded by .dockerignore",
                  in->op == DF_ADD ? "Add" : "Copy", clean);
}

static const char *flagged_remote(const struct df_instr *in) {
    const char *git = df_flag(in, "keep-git-dir");
    return df_flag(in, "checksum") ? "checksum" : git && strcasecmp(git, "false") != 0 ? "keep-git-dir" : NULL;
}

/* A source from the network is a step of its own: what it names is fetched before the graph runs. */
static int remote_source(struct build *b, struct stage *st, const struct df_instr *in, const char *text, struct span at) {
    struct netsrc *rm = netsrc_add(b, text, at);
    const char *keep = df_flag(in, "keep-git-dir"), *sum = eval_flag(b, st, in, "checksum");
    if (!rm)
        return -EBADMSG;
    if (keep)
        rm->keep_git_dir = strcasecmp(keep, "false") != 0;
    if (sum && *sum) {
        if (rm->checksum && !startswith(sum, rm->checksum) && !startswith(rm->checksum, sum)) {
            eval_error(b, at, NULL, "checksum mismatch: \"%s\" in the source and --checksum=%s", rm->checksum, sum);
            return -EBADMSG;
        }
        rm->checksum = sum;
    }
    if (netsrc_checksum_ok(rm) < 0) {
        eval_error(b, in->at, rm->kind == NETSRC_GIT ? "the commit's hash" : "sha256:… of the file", "invalid checksum \"%s\"", rm->checksum);
        return -EBADMSG;
    }
    GROW(b->pending, b->cap_pending, b->n_pending + 1);
    b->pending[b->n_pending++] = rm;
    return 0;
}

static int copy_sources(struct build *b, struct stage *st, const struct df_instr *in, struct vertex *v) {
    const char **src = ARENA_ARRAY(&b->arena, const char *, in->n_words);
    struct copy_inline *inl = ARENA_ARRAY(&b->arena, struct copy_inline, in->n_heredocs + 1);
    size_t n = 0, n_inl = 0;
    for (size_t i = 0; i + 1 < in->n_words; i++) {
        const struct df_heredoc *h = NULL;
        for (size_t k = 0; k < in->n_heredocs && !h; k++)
            if (streq(in->heredocs[k].token, in->words[i].s))
                h = &in->heredocs[k];
        if (h) {
            inl[n_inl].name = h->name;
            if (strchr(h->name, '/') || !heredoc_value(b, st, h, in->at, &inl[n_inl++].data))
                return -EBADMSG;
            continue;
        }
        char *s = stage_expand(b, st, in->words[i]);
        if (!s)
            return -EBADMSG;
        enum netsrc_kind kind = netsrc_kind(s);
        if (kind && in->op == DF_COPY) {
            eval_error(b, in->words[i].at, "ADD fetches from the network", "source can't be a %s for COPY", kind == NETSRC_GIT ? "git ref" : "URL");
            return -EBADMSG;
        }
        if (kind) {
            if (remote_source(b, st, in, s, in->words[i].at) < 0)
                return -EBADMSG;
            continue;
        }
        if (flagged_remote(in)) {
            eval_error(b, in->words[i].at, NULL, "--%s is only for sources from the network, not for \"%s\"", flagged_remote(in), s);
            return -EBADMSG;
        }
        src[n++] = s;
        if (!df_flag(in, "from"))
            copy_ignored(b, in, s, in->words[i].at);
    }
    v->copy.sources = src;
    v->copy.inlines = inl;
    v->copy.n_inlines = n_inl;
    return 0;
}

/* The steps of an ADD that takes from the network: one for each such source. */
static void remote_steps(struct build *b, struct stage *st, const struct df_instr *in, const struct vertex *like, const char *dest) {
    for (size_t i = 0; i < b->n_pending; i++) {
        struct netsrc *rm = b->pending[i];
        struct vertex *v = graph_vertex(b, V_COPY, st, in, arena_printf(&b->arena, "ADD %s %s", rm->text, dest));
        unsigned number = v->number;
        v->copy = like->copy;
        v->link = like->link;
        v->copy.n_inlines = 0;
        v->copy.keep_owner = false;
        v->remote = rm;
        v->from_context = true;
        v->number = number;
        const char *unpack = df_flag(in, "unpack");
        v->copy.unpack = rm->kind == NETSRC_HTTP && unpack && strcasecmp(unpack, "false") != 0;
        const char **src = ARENA_ARRAY(&b->arena, const char *, 2);
        src[0] = rm->kind == NETSRC_GIT ? "/" : "/*"; /* the only file; its name is known when it is here */
        v->copy.sources = src;
        eval_history(b, st, v, "ADD %s %s", rm->text, dest);
        st->last = v;
    }
    b->n_pending = 0;
}

int eval_copy(struct build *b, struct stage *st, const struct df_instr *in, struct err *e) {
    struct vertex plan = {0}, *v = &plan;
    const char *from = df_flag(in, "from");
    b->n_pending = 0;
    int r = copy_flags(b, st, in, v);
    if (r == 0)
        r = copy_sources(b, st, in, v);
    size_t n_remote = b->n_pending;
    char *dest = r == 0 ? stage_expand(b, st, in->words[in->n_words - 1]) : NULL;
    if (!dest)
        return -EBADMSG;
    bool folder = endswith(dest, "/") || endswith(dest, "/.") || streq(dest, ".") || !*dest;
    if (in->n_words > 2 && !folder) {
        eval_error(b, in->words[in->n_words - 1].at, NULL, "with more than one source the destination must end with a /");
        return -EBADMSG;
    }
    _cleanup_free_ char *abs = eval_in_workdir(st, dest);
    v->copy.dest = arena_printf(&b->arena, "%s%s", abs, folder && !endswith(abs, "/") ? "/" : "");
    v->copy.keep_owner = from != NULL;
    if (n_remote)
        remote_steps(b, st, in, v, dest);
    if (!v->copy.sources[0] && !v->copy.n_inlines && n_remote)
        return 0;
    v = graph_vertex(b, V_COPY, st, in, NULL);
    v->copy = plan.copy;
    v->link = plan.link;
    if (from) {
        const char *dollar = strchr(from, '$');
        if (dollar && dollar[1]) {
            eval_error(b, in->at, "define a stage of that name: FROM $NAME AS name (with a global ARG)", "variable expansion is not supported for --from");
            return -EBADMSG;
        }
        if (!*from) {
            eval_error(b, in->at, NULL, "--from without a name");
            return -EBADMSG;
        }
        r = eval_from(b, st, from, in->at, &v->from, e);
        if (r < 0)
            return r;
        if (v->from)
            graph_edge(b, v, v->from);
    } else if (v->copy.sources[0]) {
        v->from_context = true;
        b->needs_context = true;
    }
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    for (size_t i = 0; v->copy.sources[i]; i++)
        buf_addf(&t, "%s ", v->copy.sources[i]);
    for (size_t i = 0; i < v->copy.n_inlines; i++)
        buf_addf(&t, "<<%s ", v->copy.inlines[i].name);
    eval_history(b, st, v, "%s %s%s%s%s%s%s%s", df_op_name(in->op), v->copy.chown ? "--chown=" : "",
                 v->copy.chown ? v->copy.chown : "", v->copy.chown ? " " : "", v->copy.chmod ? "--chmod=" : "",
                 v->copy.chmod ? v->copy.chmod : "", v->copy.chmod ? " " : "",
                 arena_printf(&b->arena, "%s%s", buf_str(&t), dest));
    st->last = v;
    return 0;
}

