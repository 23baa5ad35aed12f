/* The order of things: expressions, values, security; then the comments that suppress findings:
 *
 *   # slipway: ignore[CODE, CODE] the reason
 *
 * at the end of the line of the finding, or alone on the line above it (on a step's first line: for
 * the whole step is not meant; one line only). Without a reason, or with an unknown code, the
 * comment itself is a finding and suppresses nothing. */
#include "pipeline/github/lint.h"

void lint_warn(struct lint *l, struct span at, const char *code, const char *hint, const char *fmt,
               ...) {
    char msg[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    const struct lint_rule *rule = lint_explain(code);
    if (rule && rule->audit && l->o->no_audit)
        return;
    diags_add(l->d, DIAG_WARNING, at, code, hint ? hint : rule ? rule->mend : NULL, "%s", msg);
}

const struct action_meta *lint_action(struct lint *l, const char *uses) {
    const struct action_meta *m =
        l->o->action ? l->o->action(l->o->arg, l->p, uses) : NULL;
    return m ? m : lint_known_action(uses);
}

const struct plan *lint_called(struct lint *l, const struct text *uses) {
    return l->o->called ? l->o->called(l->o->arg, l->p, uses) : NULL;
}

bool uses_is(const struct text *uses, const char *name) {
    size_t n = strlen(name);
    return uses->s && strncasecmp(uses->s, name, n) == 0 &&
           (uses->s[n] == '@' || uses->s[n] == '/');
}

static void each_step(struct lint *l, const struct plan_job *j, const struct plan_step *s, size_t n,
                      void (*fn)(struct lint *l, const struct plan_job *j,
                                 const struct plan_step *s)) {
    for (size_t i = 0; i < n; i++) {
        fn(l, j, &s[i]);
        each_step(l, j, s[i].children, s[i].n_children, fn);
    }
}

void lint_steps(struct lint *l, const struct plan_job *j,
                void (*fn)(struct lint *l, const struct plan_job *j, const struct plan_step *s)) {
    each_step(l, j, j->steps, j->n_steps, fn);
}

/* --- comments ----------------------------------------------------------------------------------- */

struct suppression {
    uint32_t line;  /* whose findings it is for */
    struct sv codes;
};

/* Reads "slipway: ignore[…] reason" out of a line's comment. */
static void read_comment(struct lint *l, struct sv line, uint32_t number, struct suppression *list,
                         size_t *n) {
    static const char word[] = "slipway: ignore[";
    ssize_t at = sv_find(line, sv_from(word));
    ssize_t hash = at > 0 ? sv_rchr(sv_sub(line, 0, (size_t)at), '#') : -1;
    if (hash < 0)
        return;
    struct sv rest = sv_sub(line, (size_t)at + strlen(word), line.n), codes, one;
    struct span place = {.file = l->p->file, .line = number, .col = (uint32_t)hash + 1,
                         .end_line = number, .end_col = (uint32_t)line.n + 1};
    if (!sv_split(&rest, ']', &codes) || !rest.p || !sv_trim(rest).n) {
        lint_warn(l, place, "ignore-reason", NULL, "a finding is ignored without a reason");
        return;
    }
    for (struct sv left = codes; sv_split(&left, ',', &one);) {
        char code[64];
        one = sv_trim(one);
        snprintf(code, sizeof code, "%.*s", (int)MIN(one.n, sizeof code - 1), one.p);
        if (!lint_explain(code))
            lint_warn(l, place, "ignore-reason", "slipway check --explain lists the codes",
                      "there is no finding with the code \"%s\"", code);
    }
    bool own_line = sv_trim(sv_sub(line, 0, (size_t)hash)).n == 0;
    list[(*n)++] = (struct suppression){number + own_line, codes};
}

static bool suppressed(const struct diag *d, const struct suppression *list, size_t n) {
    uint32_t line = d->focus.line ? d->focus.line : d->at.line;
    for (size_t i = 0; i < n; i++) {
        struct sv codes = list[i].codes, one;
        if (list[i].line != line && list[i].line != d->at.line)
            continue;
        while (sv_split(&codes, ',', &one))
            if (sv_eqs(sv_trim(one), d->code))
                return true;
    }
    return false;
}

static void suppress(struct lint *l, size_t first) {
    struct sv text = l->p->source, line;
    if (sv_find(text, SV("slipway: ignore[")) < 0)
        return;
    size_t n = 0, lines = 1;
    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    struct suppression *list = ARENA_ARRAY(&l->a, struct suppression, lines);
    for (uint32_t number = 1; sv_line(&text, &line); number++)
        read_comment(l, line, number, list, &n);
    size_t kept = first;
    for (size_t i = first; i < l->d->n; i++) {
        struct diag x = l->d->items[i];
        if (!suppressed(&x, list, n)) {
            l->d->items[kept++] = x;
            continue;
        }
        free(x.code);
        free(x.msg);
        free(x.hint);
        l->d->warnings--;
    }
    l->d->n = kept;
}

void github_lint(const struct plan *p, const struct lint_options *o, struct diags *d) {
    static const struct lint_options none;
    struct lint l = {.p = p, .o = o ? o : &none, .d = d};
    size_t first = d->n;
    lint_exprs(&l);
    lint_values(&l);
    if (!l.o->no_audit)
        audit_plan(&l);
    suppress(&l, first);
    if (d->n > first) {
        struct diags found = {.items = d->items + first, .n = d->n - first};
        diags_sort(&found);
    }
    arena_done(&l.a);
}
