/* What one logical line of a Dockerfile means: keyword, flags, then arguments in the form that the
 * keyword asks for. Every slice points into the logical line, so that a position can be given for
 * any of them. */
#include "build/dockerfile_int.h"
#include "core/json.h"

#define MAX_WORDS 10000u

static const char *const op_names[DF_OP_COUNT] = {
    [DF_FROM] = "FROM", [DF_ARG] = "ARG", [DF_ENV] = "ENV", [DF_RUN] = "RUN", [DF_COPY] = "COPY",
    [DF_ADD] = "ADD", [DF_WORKDIR] = "WORKDIR", [DF_USER] = "USER", [DF_EXPOSE] = "EXPOSE",
    [DF_VOLUME] = "VOLUME", [DF_LABEL] = "LABEL", [DF_CMD] = "CMD", [DF_ENTRYPOINT] = "ENTRYPOINT",
    [DF_HEALTHCHECK] = "HEALTHCHECK", [DF_SHELL] = "SHELL", [DF_STOPSIGNAL] = "STOPSIGNAL",
    [DF_ONBUILD] = "ONBUILD", [DF_MAINTAINER] = "MAINTAINER"};

const char *df_op_name(enum df_op op) { return op < DF_OP_COUNT ? op_names[op] : "?"; }

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r' || c == '\n'; }

static struct sv skip_blanks(struct sv s) {
    while (s.n && blank(s.p[0]))
        s.p++, s.n--;
    return s;
}

static struct sv word_plain(struct sv s) {
    size_t n = 0;
    while (n < s.n && !blank(s.p[n]))
        n++;
    return sv_n(s.p, n);
}

/* A word that ends at a blank outside quotes; quotes and escapes stay in it. */
static struct sv word_quoted(struct sv s, char escape) {
    char quote = 0;
    size_t i = 0;
    for (; i < s.n; i++) {
        char c = s.p[i];
        if (c == escape && quote != '\'' && i + 1 < s.n) {
            i++;
        } else if (quote) {
            if (c == quote)
                quote = 0;
        } else if (c == '\'' || c == '"') {
            quote = c;
        } else if (blank(c)) {
            break;
        }
    }
    return sv_n(s.p, MIN(i, s.n));
}

static struct df_word *word_add(struct df_parser *p, struct df_instr *in, struct sv s, size_t *cap) {
    struct arena *a = &p->f->arena;
    if (in->n_words + 1 > *cap) {
        size_t want = *cap ? *cap * 2 : 4;
        struct df_word *w = ARENA_ARRAY(a, struct df_word, want);
        if (in->n_words)
            memcpy(w, in->words, in->n_words * sizeof *w);
        in->words = w;
        *cap = want;
    }
    struct df_word *w = &in->words[in->n_words++];
    w->s = arena_strndup(a, s.p, s.n);
    w->at = df_at(p, s.p, s.n);
    return w;
}

static void words_split(struct df_parser *p, struct df_instr *in, struct sv rest, bool quoted) {
    size_t cap = 0;
    for (rest = skip_blanks(rest); rest.n && in->n_words < MAX_WORDS; rest = skip_blanks(rest)) {
        struct sv w = quoted ? word_quoted(rest, p->f->escape) : word_plain(rest);
        word_add(p, in, w, &cap);
        rest = sv_sub(rest, w.n, rest.n);
    }
}

/* 1 = JSON form read, 0 = not one, -EBADMSG = an array of other things (reported). */
static int words_json(struct df_parser *p, struct df_instr *in, struct sv rest) {
    if (!rest.n || rest.p[0] != '[')
        return 0;
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    if (json_parse(&a, rest, &j, NULL) < 0 || !j || j->kind != JSON_ARRAY)
        return 0;
    for (size_t i = 0; i < j->n; i++) {
        if (j->items[i]->kind != JSON_STRING || memchr(j->items[i]->text.p ? j->items[i]->text.p : "", 0, j->items[i]->text.n)) {
            df_error(p, rest.p, rest.n, "quote every item", "the JSON form takes an array of strings only");
            return -EBADMSG;
        }
    }
    in->words = ARENA_ARRAY(&p->f->arena, struct df_word, j->n ? j->n : 1);
    for (size_t i = 0; i < j->n; i++)
        in->words[i] = (struct df_word){arena_strndup(&p->f->arena, j->items[i]->text.p, j->items[i]->text.n),
                                        df_at(p, rest.p, rest.n)};
    in->n_words = j->n;
    in->json = true;
    return 1;
}

/* Flags before the arguments; rest is moved behind them. */
static int flags_read(struct df_parser *p, struct df_instr *in, struct sv *rest) {
    size_t cap = 0;
    for (;;) {
        struct sv s = skip_blanks(*rest);
        if (!sv_starts(s, "--")) {
            *rest = s;
            return 0;
        }
        struct sv w = word_quoted(s, p->f->escape);
        *rest = sv_sub(s, w.n, s.n);
        if (w.n == 2) {
            *rest = skip_blanks(*rest);
            return 0;
        }
        /* Quotes go, an escape keeps the next character. */
        char *clean = arena_alloc(&p->f->arena, w.n + 1);
        size_t n = 0;
        char quote = 0;
        for (size_t i = 2; i < w.n; i++) {
            char c = w.p[i];
            if (c == p->f->escape && i + 1 < w.n)
                clean[n++] = w.p[++i];
            else if (quote && c == quote)
                quote = 0;
            else if (!quote && (c == '"' || c == '\''))
                quote = c;
            else
                clean[n++] = c;
        }
        clean[n] = 0;
        if (in->n_flags + 1 > cap) {
            size_t want = cap ? cap * 2 : 4;
            struct df_flag *f = ARENA_ARRAY(&p->f->arena, struct df_flag, want);
            if (in->n_flags)
                memcpy(f, in->flags, in->n_flags * sizeof *f);
            in->flags = f;
            cap = want;
        }
        struct df_flag *f = &in->flags[in->n_flags++];
        f->at = df_at(p, w.p, w.n);
        f->name = clean;
        char *eq = strchr(clean, '=');
        if (eq) {
            *eq = 0;
            f->value = eq + 1;
        }
        if (in->n_flags > 1000)
            return -EBADMSG;
    }
}

/* Flags that a keyword knows: names, ":" = takes a value, "*" = may be repeated. */
static const char *const op_flags[DF_OP_COUNT] = {
    [DF_FROM] = "platform:", [DF_RUN] = "mount:* network: security: device:*",
    [DF_COPY] = "from: chown: chmod: link parents exclude:*",
    [DF_ADD] = "chown: chmod: link checksum: unpack keep-git-dir exclude:*",
    [DF_HEALTHCHECK] = "interval: timeout: start-period: start-interval: retries:"};

static void flags_check(struct df_parser *p, struct df_instr *in) {
    const char *known = op_flags[in->op];
    for (size_t i = 0; i < in->n_flags; i++) {
        struct df_flag *f = &in->flags[i];
        size_t n = strlen(f->name);
        bool ok = false, takes = false, many = false;
        for (const char *k = known; k && *k;) {
            size_t kn = strcspn(k, " :*");
            size_t full = strcspn(k, " ");
            if (kn == n && memcmp(k, f->name, n) == 0) {
                ok = true;
                takes = memchr(k, ':', full) != NULL;
                many = memchr(k, '*', full) != NULL;
            }
            k += full + (k[full] == ' ');
        }
        if (!ok)
            diags_add(p->d, DIAG_ERROR, f->at, NULL, NULL, "%s has no flag --%s", df_op_name(in->op), f->name);
        else if (takes && !f->value)
            diags_add(p->d, DIAG_ERROR, f->at, NULL, NULL, "--%s needs a value (--%s=…)", f->name, f->name);
        else if (!takes && f->value && !streq(f->value, "true") && !streq(f->value, "false"))
            diags_add(p->d, DIAG_ERROR, f->at, NULL, NULL, "--%s is true or false", f->name);
        for (size_t k = 0; ok && !many && k < i; k++)
            if (streq(in->flags[k].name, f->name))
                diags_add(p->d, DIAG_ERROR, f->at, NULL, NULL, "--%s given twice", f->name);
    }
}

/* --- heredocs ------------------------------------------------------------------------------ */

struct df_instr *df_heredoc_owner(struct df_instr *in) {
    while (in->op == DF_ONBUILD && in->sub)
        in = (struct df_instr *)in->sub;
    return in->n_heredocs ? in : NULL;
}

static void heredoc_add(struct df_parser *p, struct df_instr *in, struct sv token, struct sv digits, bool chomp,
                        struct sv word) {
    struct arena *a = &p->f->arena;
    char *name = arena_alloc(a, word.n + 1);
    size_t n = 0;
    bool quoted = false;
    char quote = 0;
    for (size_t i = 0; i < word.n; i++) {
        char c = word.p[i];
        if (quote && c == quote) {
            quote = 0;
        } else if (!quote && (c == '"' || c == '\'')) {
            quote = c;
            quoted = true;
        } else if (!quote && c == '\\' && i + 1 < word.n) {
            quoted = true;
            name[n++] = word.p[++i];
        } else {
            name[n++] = c;
        }
    }
    if (!n || quote)
        return;
    struct df_heredoc *h = ARENA_ARRAY(a, struct df_heredoc, in->n_heredocs + 1);
    if (in->n_heredocs)
        memcpy(h, in->heredocs, in->n_heredocs * sizeof *h);
    uint64_t fd = 0;
    (void)sv_u64(digits, 1000, &fd);
    h[in->n_heredocs++] = (struct df_heredoc){.name = name, .data = SV(""), .expand = !quoted, .chomp = chomp,
                                               .fd = (unsigned)fd, .token = arena_strndup(a, token.p, token.n)};
    in->heredocs = h;
}

/* Finds [digits]<<[-]WORD at the start of words outside quotes. */
static void heredocs_find(struct df_parser *p, struct df_instr *in, struct sv rest) {
    while ((rest = skip_blanks(rest)).n) {
        struct sv w = word_quoted(rest, p->f->escape);
        rest = sv_sub(rest, w.n, rest.n);
        size_t d = 0;
        while (d < w.n && w.p[d] >= '0' && w.p[d] <= '9')
            d++;
        if (w.n < d + 2 || w.p[d] != '<' || w.p[d + 1] != '<')
            continue;
        size_t at = d + 2;
        bool chomp = at < w.n && w.p[at] == '-';
        at += chomp;
        struct sv name = sv_sub(w, at, w.n);
        struct sv token = w;
        if (!name.n && in->op == DF_RUN) { /* "<< EOF", as shells take it */
            struct sv next = skip_blanks(rest);
            name = word_quoted(next, p->f->escape);
            rest = sv_sub(next, name.n, next.n);
        }
        size_t stop = 0;
        while (stop < name.n && !strchr("<>|;&()", name.p[stop]))
            stop++;
        if (stop < name.n && name.p[stop] == '<')
            continue;
        name.n = stop;
        if (name.n && in->n_heredocs < 100)
            heredoc_add(p, in, token, sv_n(w.p, d), chomp, name);
    }
}

/* --- one function per form ----------------------------------------------------------------- */

static int read_pairs(struct df_parser *p, struct df_instr *in, struct sv rest, const char *keyword) {
    struct arena *a = &p->f->arena;
    words_split(p, in, rest, true);
    if (!in->n_words) {
        df_error(p, p->line->text.p, strlen(keyword), NULL, "%s needs at least one argument", keyword);
        return -EBADMSG;
    }
    in->pairs = ARENA_ARRAY(a, struct df_pair, in->n_words);
    if (in->op != DF_ARG && !strchr(in->words[0].s, '=')) {
        struct sv key = word_plain(rest), value = skip_blanks(sv_sub(rest, key.n, rest.n));
        if (!value.n) {
            df_error(p, rest.p, rest.n, NULL, "%s needs a name and a value", keyword);
            return -EBADMSG;
        }
        in->legacy = true;
        in->pairs[0] = (struct df_pair){in->words[0].s, arena_strndup(a, value.p, value.n), in->words[0].at};
        in->n_pairs = 1;
        return 0;
    }
    for (size_t i = 0; i < in->n_words; i++) {
        const char *w = in->words[i].s, *eq = strchr(w, '=');
        struct df_pair *pr = &in->pairs[in->n_pairs];
        if (eq == w) {
            diags_add(p->d, DIAG_ERROR, in->words[i].at, NULL, NULL, "%s with an empty name", keyword);
            return -EBADMSG;
        }
        if (!eq && in->op != DF_ARG) {
            diags_add(p->d, DIAG_ERROR, in->words[i].at, NULL, "quote values that hold blanks: name=\"a b\"",
                      "no = in \"%s\": it must be name=value", w);
            return -EBADMSG;
        }
        pr->at = in->words[i].at;
        pr->key = eq ? arena_strndup(a, w, (size_t)(eq - w)) : w;
        pr->value = eq ? eq + 1 : NULL;
        in->n_pairs++;
    }
    return 0;
}

static int read_command(struct df_parser *p, struct df_instr *in, struct sv rest) {
    int r = words_json(p, in, rest);
    if (r)
        return r < 0 ? r : 0;
    size_t cap = 0;
    if (rest.n)
        word_add(p, in, rest, &cap);
    return 0;
}

static int read_copy(struct df_parser *p, struct df_instr *in, struct sv rest) {
    int r = words_json(p, in, rest);
    if (r < 0)
        return r;
    if (!r) {
        heredocs_find(p, in, rest);
        words_split(p, in, rest, in->n_heredocs > 0);
    }
    if (in->n_words < 2) {
        df_error(p, p->line->text.p, strlen(df_op_name(in->op)), NULL,
                 "%s needs at least one source and a destination", df_op_name(in->op));
        return -EBADMSG;
    }
    return 0;
}

static int health_duration(struct df_parser *p, struct df_instr *in, const char *flag, uint64_t *ret) {
    const char *v = df_flag(in, flag);
    if (!v)
        return 0;
    uint64_t ns;
    if (df_duration(sv_from(v), &ns) < 0 || (ns && ns < 1000000u)) {
        diags_add(p->d, DIAG_ERROR, in->at, NULL, "such as 30s, 1m30s; at least 1ms", "--%s=%s is no duration", flag, v);
        return -EBADMSG;
    }
    *ret = ns;
    return 0;
}

static int read_health(struct df_parser *p, struct df_instr *in, struct sv rest) {
    struct sv kind = word_plain(rest);
    struct sv args = skip_blanks(sv_sub(rest, kind.n, rest.n));
    if (sv_ieqs(kind, "NONE")) {
        in->health.none = true;
        if (args.n || in->n_flags)
            df_error(p, rest.p, rest.n, NULL, "HEALTHCHECK NONE takes nothing more");
        return 0;
    }
    if (!sv_ieqs(kind, "CMD")) {
        df_error(p, rest.p, kind.n, NULL, "HEALTHCHECK takes CMD or NONE, not \"" SV_FMT "\"", SV_ARG(sv_sub(kind, 0, 80)));
        return -EBADMSG;
    }
    int r = read_command(p, in, args);
    if (r == 0 && !in->n_words) {
        df_error(p, rest.p, kind.n, NULL, "HEALTHCHECK CMD without a command");
        r = -EBADMSG;
    }
    if (r < 0 || (r = health_duration(p, in, "interval", &in->health.interval_ns)) < 0 ||
        (r = health_duration(p, in, "timeout", &in->health.timeout_ns)) < 0 ||
        (r = health_duration(p, in, "start-period", &in->health.start_period_ns)) < 0 ||
        (r = health_duration(p, in, "start-interval", &in->health.start_interval_ns)) < 0)
        return r;
    const char *n = df_flag(in, "retries");
    uint64_t retries = 0;
    if (n && sv_u64(sv_from(n), 1000000, &retries) < 0) {
        diags_add(p->d, DIAG_ERROR, in->at, NULL, NULL, "--retries=%s is no number", n);
        return -EBADMSG;
    }
    in->health.retries = (int)retries;
    return 0;
}

static int read_onbuild(struct df_parser *p, struct df_instr *in, struct sv rest, bool nested) {
    if (!rest.n) {
        df_error(p, p->line->text.p, 7, NULL, "ONBUILD needs an instruction");
        return -EBADMSG;
    }
    if (nested) {
        df_error(p, rest.p, rest.n, NULL, "ONBUILD inside ONBUILD is not allowed");
        return -EBADMSG;
    }
    struct df_line whole = *p->line, part = whole;
    part.text = rest;
    /* Offsets of segments count from the whole line's start. */
    size_t off = (size_t)(rest.p - whole.text.p);
    struct df_seg *segs = ARENA_ARRAY(&p->f->arena, struct df_seg, whole.n_segs);
    size_t n = 0;
    for (size_t i = 0; i < whole.n_segs; i++) {
        struct df_seg s = whole.segs[i];
        bool last_before = s.off <= off && (i + 1 == whole.n_segs || whole.segs[i + 1].off > off);
        if (last_before)
            segs[n++] = (struct df_seg){0, s.line, s.col + (uint32_t)(off - s.off)};
        else if (s.off > off)
            segs[n++] = (struct df_seg){s.off - off, s.line, s.col};
    }
    part.segs = segs;
    part.n_segs = n;
    struct df_parser sub = *p;
    sub.line = &part;
    struct df_instr *s = df_instr_read(&sub, true);
    if (!s)
        return -EBADMSG;
    if (s->op == DF_FROM || s->op == DF_MAINTAINER || s->op == DF_ONBUILD) {
        df_error(p, rest.p, rest.n, NULL, "%s is not allowed as an ONBUILD trigger", df_op_name(s->op));
        return -EBADMSG;
    }
    in->sub = s;
    in->onbuild_text = arena_strndup(&p->f->arena, rest.p, rest.n);
    return 0;
}

static int read_from(struct df_parser *p, struct df_instr *in, struct sv rest) {
    words_split(p, in, rest, false);
    if (in->n_words != 1 && in->n_words != 3) {
        df_error(p, rest.n ? rest.p : p->line->text.p, rest.n, NULL, "FROM takes a base and, with AS, a name: FROM base [AS name]");
        return -EBADMSG;
    }
    if (in->n_words == 3) {
        if (strcasecmp(in->words[1].s, "as") != 0) {
            diags_add(p->d, DIAG_ERROR, in->words[1].at, NULL, NULL, "\"AS\" expected, not \"%s\"", in->words[1].s);
            return -EBADMSG;
        }
    }
    return 0;
}

static int read_words(struct df_parser *p, struct df_instr *in, struct sv rest, size_t min, size_t max) {
    const char *name = df_op_name(in->op);
    words_split(p, in, rest, false);
    if (in->n_words < min || in->n_words > max) {
        df_error(p, rest.n ? rest.p : p->line->text.p, rest.n ? rest.n : strlen(name), NULL,
                 max == 1 ? "%s takes exactly one argument" : "%s needs at least one argument", name);
        return -EBADMSG;
    }
    return 0;
}

/* The whole rest as one word. */
static int read_rest(struct df_parser *p, struct df_instr *in, struct sv rest) {
    size_t cap = 0;
    if (!rest.n) {
        df_error(p, p->line->text.p, strlen(df_op_name(in->op)), NULL, "%s needs an argument", df_op_name(in->op));
        return -EBADMSG;
    }
    word_add(p, in, rest, &cap);
    return 0;
}

/* What can be said of RUN's flags before anything is expanded. */
static int run_flags(struct df_parser *p, struct df_instr *in) {
    size_t before = p->d->errors;
    for (size_t i = 0; i < in->n_flags; i++) {
        const struct df_flag *f = &in->flags[i];
        const char *v = f->value ? f->value : "";
        if (streq(f->name, "network") && !streq(v, "default") && !streq(v, "none") && !streq(v, "host"))
            diags_add(p->d, DIAG_ERROR, f->at, NULL, "default, none or host", "invalid network mode \"%s\"", v);
        if (streq(f->name, "security") && !streq(v, "sandbox") && !streq(v, "insecure"))
            diags_add(p->d, DIAG_ERROR, f->at, NULL, "sandbox or insecure", "security \"%s\" is not valid", v);
        const char *from = streq(f->name, "mount") ? strstr(v, "from=") : NULL;
        if (from && (from == v || from[-1] == ',')) {
            const char *dollar = memchr(from, '$', strcspn(from, ","));
            if (dollar && dollar[1] && dollar[1] != ',')
                diags_add(p->d, DIAG_ERROR, f->at, NULL, "define an alias stage instead: FROM $NAME AS alias",
                          "'from' doesn't support variable expansion");
        }
    }
    return p->d->errors > before ? -EBADMSG : 0;
}

static int read_args(struct df_parser *p, struct df_instr *in, struct sv rest, bool in_onbuild) {
    const char *name = df_op_name(in->op);
    int r;
    switch (in->op) {
    case DF_FROM:
        return read_from(p, in, rest);
    case DF_ARG:
    case DF_ENV:
    case DF_LABEL:
        return read_pairs(p, in, rest, name);
    case DF_RUN:
        if (run_flags(p, in) < 0)
            return -EBADMSG;
        if (!in->n_flags || rest.n)
            r = read_command(p, in, rest);
        else
            r = 0;
        if (r == 0 && !in->n_words) {
            df_error(p, p->line->text.p, 3, NULL, "RUN without a command");
            return -EBADMSG;
        }
        if (r == 0 && !in->json)
            heredocs_find(p, in, rest);
        return r;
    case DF_CMD:
    case DF_ENTRYPOINT:
        return read_command(p, in, rest);
    case DF_COPY:
    case DF_ADD:
        return read_copy(p, in, rest);
    case DF_SHELL:
        r = words_json(p, in, rest);
        if (r == 0 || (r > 0 && !in->n_words)) {
            df_error(p, rest.n ? rest.p : p->line->text.p, rest.n, "SHELL [\"/bin/bash\", \"-c\"]", "SHELL takes the JSON form only");
            return -EBADMSG;
        }
        return r < 0 ? r : 0;
    case DF_VOLUME:
        r = words_json(p, in, rest);
        if (r)
            return r < 0 ? r : in->n_words ? 0 : read_rest(p, in, SV(""));
        return read_words(p, in, rest, 1, SIZE_MAX);
    case DF_EXPOSE:
        return read_words(p, in, rest, 1, SIZE_MAX);
    case DF_WORKDIR:
    case DF_USER:
    case DF_STOPSIGNAL:
        return read_rest(p, in, rest);
    case DF_HEALTHCHECK:
        return read_health(p, in, rest);
    case DF_ONBUILD:
        return read_onbuild(p, in, rest, in_onbuild);
    case DF_MAINTAINER:
        return read_rest(p, in, rest);
    case DF_OP_COUNT:
        break;
    }
    return -EBADMSG;
}

/* Keyword by edit distance, for a hint. */
static const char *op_near(struct sv w) {
    for (size_t op = 0; op < DF_OP_COUNT; op++) {
        const char *n = op_names[op];
        size_t len = strlen(n), same = 0;
        if (w.n + 1 < len || w.n > len + 1 || len < 3)
            continue;
        unsigned count[26] = {0};
        for (size_t i = 0; i < len; i++)
            count[n[i] - 'A']++;
        for (size_t i = 0; i < w.n; i++) {
            int c = (w.p[i] | 32) - 'a';
            if (c >= 0 && c < 26 && count[c]) {
                count[c]--;
                same++;
            }
        }
        if (same + 1 >= len)
            return n;
    }
    return NULL;
}

struct df_instr *df_instr_read(struct df_parser *p, bool in_onbuild) {
    struct sv text = p->line->text;
    struct sv key = word_plain(text);
    struct arena *a = &p->f->arena;
    enum df_op op = DF_FROM;
    while (op < DF_OP_COUNT && !sv_ieqs(key, op_names[op]))
        op++;
    if (op == DF_OP_COUNT) {
        const char *near = op_near(key);
        char hint[64];
        snprintf(hint, sizeof hint, "did you mean %s?", near ? near : "");
        df_error(p, key.p, key.n, near ? hint : NULL, "unknown instruction: " SV_FMT, SV_ARG(sv_sub(key, 0, 80)));
        return NULL;
    }
    struct df_instr *in = ARENA_NEW(a, struct df_instr);
    in->op = op;
    in->keyword = key;
    in->at = df_at(p, text.p, key.n);
    struct sv rest = skip_blanks(sv_sub(text, key.n, text.n));
    struct sv all = rest;
    if (flags_read(p, in, &rest) < 0)
        return NULL;
    size_t before = p->d->errors;
    flags_check(p, in);
    in->text = arena_printf(a, "%s%s%.*s", op_names[op], all.n ? " " : "", SV_ARG(all));
    in->rest = arena_strndup(a, rest.p ? rest.p : "", rest.n);
    if (read_args(p, in, rest, in_onbuild) < 0)
        return NULL;
    return p->d->errors > before ? NULL : in;
}

int df_duration(struct sv s, uint64_t *ret_ns) {
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"\xC2\xB5s", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    if (sv_eqs(s, "0")) {
        *ret_ns = 0;
        return 0;
    }
    if (!s.n || s.n > 60)
        return -EINVAL;
    double total = 0;
    while (s.n) {
        double v = 0, scale = 1;
        size_t i = 0;
        bool dot = false, digit = false;
        for (; i < s.n && ((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] == '.' && !dot)); i++) {
            if (s.p[i] == '.') {
                dot = true;
                continue;
            }
            digit = true;
            v = v * 10 + (s.p[i] - '0');
            scale *= dot ? 10 : 1;
        }
        if (!digit)
            return -EINVAL;
        size_t u = i;
        while (u < s.n && s.p[u] != '.' && (s.p[u] < '0' || s.p[u] > '9'))
            u++;
        size_t k = 0;
        while (k < ELEMENTS(units) && !sv_eqs(sv_n(s.p + i, u - i), units[k].unit))
            k++;
        if (k == ELEMENTS(units))
            return -EINVAL;
        total += v / scale * units[k].ns;
        s = sv_sub(s, u, s.n);
    }
    if (total > 9e18)
        return -EINVAL;
    *ret_ns = (uint64_t)total;
    return 0;
}
