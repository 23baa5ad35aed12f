/* Rules are kept in a table; those about the file's text are one function each over its stages. */
#include "build/lint.h"

#define DOCS "https://docs.docker.com/go/dockerfile/rule/"

static const struct lint_rule rules[] = {
    {"StageNameCasing", "Stage names should be lowercase", DOCS "stage-name-casing/", false},
    {"FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword", DOCS "from-as-casing/", false},
    {"NoEmptyContinuation", "Empty continuation lines will become errors in a future release", DOCS "no-empty-continuation/", false},
    {"ConsistentInstructionCasing", "All commands within the Dockerfile should use the same casing (either upper or lower)",
     DOCS "consistent-instruction-casing/", false},
    {"DuplicateStageName", "Stage names should be unique", DOCS "duplicate-stage-name/", false},
    {"ReservedStageName", "Reserved words should not be used as stage names", DOCS "reserved-stage-name/", false},
    {"JSONArgsRecommended", "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
     DOCS "json-args-recommended/", false},
    {"MaintainerDeprecated", "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
     DOCS "maintainer-deprecated/", false},
    {"UndefinedArgInFrom", "FROM command must use declared ARGs", DOCS "undefined-arg-in-from/", false},
    {"WorkdirRelativePath",
     "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
     DOCS "workdir-relative-path/", false},
    {"UndefinedVar", "Variables should be defined before their use", DOCS "undefined-var/", false},
    {"MultipleInstructionsDisallowed", "Multiple instructions of the same type should not be used in the same stage",
     DOCS "multiple-instructions-disallowed/", false},
    {"LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used", DOCS "legacy-key-value-format/", false},
    {"InvalidBaseImagePlatform", "Base image platform does not match expected target platform", "", false},
    {"RedundantTargetPlatform", "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
     DOCS "redundant-target-platform/", false},
    {"SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands", DOCS "secrets-used-in-arg-or-env/", false},
    {"InvalidDefaultArgInFrom", "Default value for global ARG results in an empty or invalid base image name",
     DOCS "invalid-default-arg-in-from/", false},
    {"FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value",
     DOCS "from-platform-flag-const-disallowed/", false},
    {"CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore", DOCS "copy-ignored-file/", false},
    {"InvalidDefinitionDescription",
     "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be "
     "a description comment, add an empty line or comment between the instruction and the comment.",
     DOCS "invalid-definition-description/", true},
    {"ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase", DOCS "expose-proto-casing/", false},
    {"ExposeInvalidFormat",
     "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
     DOCS "expose-invalid-format/", false},
};

const struct lint_rule *lint_rule(const char *name) {
    for (size_t i = 0; name && i < ELEMENTS(rules); i++)
        if (streq(rules[i].name, name))
            return &rules[i];
    return NULL;
}

static void warn(struct diags *d, struct span at, const char *rule, const char *fmt, ...) _printf_(4, 5);
static void warn(struct diags *d, struct span at, const char *rule, const char *fmt, ...) {
    char msg[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    diags_add(d, DIAG_WARNING, at, rule, NULL, "%s", msg);
}

/* --- names ---------------------------------------------------------------------------------- */

#define SUGGEST_MAX 64u

static unsigned distance(struct sv a, struct sv b) {
    unsigned row[SUGGEST_MAX + 1];
    for (unsigned k = 0; k <= b.n; k++)
        row[k] = k;
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned diag = row[0];
        row[0] = i;
        for (unsigned k = 1; k <= b.n; k++) {
            unsigned up = row[k], best = diag + (a.p[i - 1] != b.p[k - 1]);
            best = MIN(best, up + 1);
            row[k] = MIN(best, row[k - 1] + 1);
            diag = up;
        }
    }
    return row[b.n];
}

const char *lint_suggest(struct sv name, const char *const *names) {
    const char *best = NULL;
    unsigned least = 3;
    for (; names && *names; names++) {
        struct sv n = sv_from(*names);
        if (sv_eq(n, name))
            return NULL;
        if (n.n > SUGGEST_MAX || name.n > SUGGEST_MAX)
            continue;
        unsigned d = distance(name, n);
        if (d < least) {
            least = d;
            best = *names;
        }
    }
    return best;
}

/* One of the words as a part of the name between underscores. */
static bool has_part(const char *name, const char *const *words) {
    struct sv rest = sv_from(name), part;
    while (sv_split(&rest, '_', &part))
        for (const char *const *w = words; *w; w++)
            if (sv_ieqs(part, *w))
                return true;
    return false;
}

bool lint_secret_name(const char *name) {
    static const char *const secret[] = {"apikey", "auth", "credential", "credentials", "key", "password", "pword",
                                         "passwd", "secret", "token", NULL};
    static const char *const harmless[] = {"public", "file", "version", NULL};
    return has_part(name, secret) && !has_part(name, harmless);
}

/* --- casing --------------------------------------------------------------------------------- */

static bool any_between(struct sv s, char from, char to) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= from && s.p[i] <= to)
            return true;
    return false;
}
static bool is_lower(struct sv s) { return !any_between(s, 'A', 'Z'); }
static bool is_upper(struct sv s) { return !any_between(s, 'a', 'z'); }

static void casing_one(const struct df_instr *in, bool lower, struct diags *d) {
    if (lower ? !is_lower(in->keyword) : !is_upper(in->keyword))
        warn(d, in->at, "ConsistentInstructionCasing", "Command '" SV_FMT "' should match the case of the command majority (%s)",
             SV_ARG(in->keyword), lower ? "lowercase" : "uppercase");
}

static void casing(const struct dockerfile *f, struct diags *d) {
    size_t lower = 0, upper = 0;
    for (size_t i = 0; i < f->n_stages; i++) {
        const struct df_stage *st = &f->stages[i];
        for (size_t k = 0; k <= st->n_instrs; k++) {
            struct sv key = k ? st->instrs[k - 1]->keyword : st->from->keyword;
            if (is_lower(key))
                lower++;
            else if (is_upper(key))
                upper++;
        }
    }
    for (size_t i = 0; i < f->n_stages; i++) {
        casing_one(f->stages[i].from, lower > upper, d);
        for (size_t k = 0; k < f->stages[i].n_instrs; k++)
            casing_one(f->stages[i].instrs[k], lower > upper, d);
    }
}

/* --- stages and instructions ---------------------------------------------------------------- */

static void described(const struct df_instr *in, const char *what, const char *const *names, size_t n, struct diags *d) {
    if (!in->comments || !n)
        return;
    const char *last = NULL;
    for (size_t i = 0; in->comments[i]; i++)
        last = in->comments[i];
    struct sv first = sv_n(last, strcspn(last, " "));
    for (size_t i = 0; i < n; i++)
        if (sv_eqs(first, names[i]))
            return;
    warn(d, in->at, "InvalidDefinitionDescription", "Comment for %s should follow the format: `# %s <description>`", what,
         n > 1 ? "<arg_key>" : names[0]);
}

static void described_arg(const struct df_instr *in, struct diags *d) {
    const char *names[64];
    size_t n = MIN(in->n_pairs, ELEMENTS(names));
    for (size_t i = 0; i < n; i++)
        names[i] = in->pairs[i].key;
    described(in, "ARG", names, n, d);
}

static void stage_names(const struct dockerfile *f, size_t i, struct diags *d) {
    const struct df_stage *st = &f->stages[i];
    const struct df_instr *from = st->from;
    if (from->n_words != 3)
        return;
    struct sv as = sv_from(from->words[1].s), name = sv_from(from->words[2].s);
    if (!is_lower(name))
        warn(d, from->words[2].at, "StageNameCasing", "Stage name '" SV_FMT "' should be lowercase", SV_ARG(name));
    bool lower = is_lower(from->keyword), upper = is_upper(from->keyword);
    if ((lower || upper) && (lower ? !is_lower(as) : !is_upper(as)))
        warn(d, from->words[1].at, "FromAsCasing", "'" SV_FMT "' and '" SV_FMT "' keywords' casing do not match", SV_ARG(as),
             SV_ARG(from->keyword));
    described(from, "FROM", &st->name, 1, d);
    if (streq(st->name, "scratch") || streq(st->name, "context"))
        warn(d, from->words[2].at, "ReservedStageName", "Stage name should not use the same name as reserved stage \"%s\"", st->name);
    for (size_t k = 0; k < i; k++)
        if (streq0(f->stages[k].name, st->name)) {
            warn(d, from->words[2].at, "DuplicateStageName", "Duplicate stage name \"%s\", stage names should be unique", st->name);
            break;
        }
}

static void instr(const struct df_stage *st, size_t i, struct diags *d) {
    const struct df_instr *in = st->instrs[i];
    const char *op = df_op_name(in->op);
    switch (in->op) {
    case DF_MAINTAINER:
        warn(d, in->at, "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label");
        break;
    case DF_ARG:
        described_arg(in, d);
        /* fall through */
    case DF_ENV:
        for (size_t k = 0; k < in->n_pairs; k++)
            if (lint_secret_name(in->pairs[k].key))
                warn(d, in->pairs[k].at, "SecretsUsedInArgOrEnv",
                     "Do not use ARG or ENV instructions for sensitive data (%s \"%s\")", op, in->pairs[k].key);
        /* fall through */
    case DF_LABEL:
        if (in->legacy)
            warn(d, in->at, "LegacyKeyValueFormat", "\"" SV_FMT " key=value\" should be used instead of legacy \"" SV_FMT " key value\" format",
                 SV_ARG(in->keyword), SV_ARG(in->keyword));
        break;
    case DF_CMD:
    case DF_ENTRYPOINT:
    case DF_HEALTHCHECK:
        for (size_t k = i + 1; k < st->n_instrs; k++)
            if (st->instrs[k]->op == in->op) { /* this one is not used */
                struct sv by = st->instrs[k]->keyword;
                warn(d, in->at, "MultipleInstructionsDisallowed",
                     "Multiple " SV_FMT " instructions should not be used in the same stage because only the last one will be used", SV_ARG(by));
                break;
            }
        break;
    default:
        break;
    }
}

void lint_file(const struct dockerfile *f, struct diags *d) {
    for (size_t i = 0; i < f->n_globals; i++)
        described_arg(f->globals[i], d);
    for (size_t i = 0; i < f->n_stages; i++)
        stage_names(f, i, d);
    casing(f, d);
    for (size_t i = 0; i < f->n_stages; i++)
        for (size_t k = 0; k < f->stages[i].n_instrs; k++)
            instr(&f->stages[i], k, d);
}

/* --- what is skipped ------------------------------------------------------------------------ */

struct config {
    bool skip_all, experimental_all, error;
    struct sv skip, experimental; /* lists with commas */
};

/* "skip=A,B;error=true;experimental=all". */
static int config_read(struct sv text, struct config *c) {
    struct sv part;
    text = sv_trim(text);
    while (text.n && sv_split(&text, ';', &part)) {
        ssize_t eq = sv_chr(part, '=');
        if (eq < 0)
            return -EINVAL;
        struct sv key = sv_trim(sv_n(part.p, (size_t)eq)), value = sv_trim(sv_sub(part, (size_t)eq + 1, part.n));
        if (sv_eqs(key, "skip")) {
            c->skip_all |= sv_eqs(value, "all");
            c->skip = value;
        } else if (sv_eqs(key, "experimental")) {
            c->experimental_all |= sv_eqs(value, "all");
            c->experimental = value;
        } else if (sv_eqs(key, "error")) {
            c->error = sv_ieqs(value, "true") || sv_eqs(value, "1") || sv_ieqs(value, "t");
            if (!c->error && !sv_ieqs(value, "false") && !sv_eqs(value, "0") && !sv_ieqs(value, "f"))
                return -EINVAL;
        } else {
            return -EINVAL;
        }
    }
    return 0;
}

static bool listed(struct sv list, const char *name) {
    struct sv part;
    while (list.n && sv_split(&list, ',', &part))
        if (sv_eqs(sv_trim(part), name))
            return true;
    return false;
}

static bool skipped(const struct config *c, const struct lint_rule *r, const char *code) {
    if (r && r->experimental)
        return !c->experimental_all && !listed(c->experimental, code);
    return c->skip_all || listed(c->skip, code);
}

/* The instruction that covers a line. */
static const struct df_instr *instr_at(const struct dockerfile *f, struct span at) {
    const struct df_instr *best = NULL;
    if (!at.line || !streq0(at.file, f->file))
        return NULL;
    for (size_t i = 0; i < f->n_globals; i++)
        if (f->globals[i]->at.line <= at.line)
            best = f->globals[i];
    for (size_t i = 0; i < f->n_stages; i++) {
        if (f->stages[i].at.line <= at.line)
            best = f->stages[i].from;
        for (size_t k = 0; k < f->stages[i].n_instrs; k++)
            if (f->stages[i].instrs[k]->at.line <= at.line)
                best = f->stages[i].instrs[k];
    }
    return best;
}

/* A "# check=skip=…" right above the instruction. */
static bool skipped_by_comment(const struct dockerfile *f, const struct diag *w, const struct lint_rule *r) {
    const struct df_instr *in = instr_at(f, w->at);
    for (size_t i = 0; in && in->comments && in->comments[i]; i++) {
        struct sv c = sv_from(in->comments[i]);
        if (!sv_starts(c, "check"))
            continue;
        c = sv_trim(sv_sub(c, 5, c.n));
        struct config own = {0};
        if (!c.n || c.p[0] != '=')
            continue;
        c = sv_trim(sv_sub(c, 1, c.n));
        c.n = MIN(c.n, strcspn(c.p, " "));
        if (config_read(c, &own) < 0)
            return false;
        return !(r && r->experimental) && skipped(&own, r, w->code);
    }
    return false;
}

int lint_filter(const struct dockerfile *f, const char *option, struct diags *d, size_t from) {
    struct config c = {0};
    const char *text = option ? option : f->check ? f->check : "";
    if (config_read(sv_from(text), &c) < 0) {
        diags_add(d, DIAG_ERROR, (struct span){.file = f->file, .line = 1, .col = 1}, NULL, "skip=RULE,…;error=true;experimental=RULE,…",
                  "invalid check option \"%s\"", text);
        return -EBADMSG;
    }
    _cleanup_buf_ struct buf left = BUF_SMALL;
    size_t to = from;
    for (size_t i = from; i < d->n; i++) {
        struct diag *w = &d->items[i];
        const struct lint_rule *r = w->level == DIAG_WARNING ? lint_rule(w->code) : NULL;
        if (r && (skipped(&c, r, w->code) || skipped_by_comment(f, w, r))) {
            free(w->msg);
            free(w->code);
            free(w->hint);
            d->warnings--;
            continue;
        }
        if (r && !strstr(buf_str(&left), w->code))
            buf_addf(&left, "%s%s", left.n ? ", " : "", w->code);
        d->items[to++] = *w;
    }
    d->n = to;
    if (!c.error || !left.n)
        return 0;
    diags_add(d, DIAG_ERROR, (struct span){.file = f->file, .line = 1, .col = 1}, NULL, NULL, "lint violation found for rules: %s", buf_str(&left));
    return -EBADMSG;
}
