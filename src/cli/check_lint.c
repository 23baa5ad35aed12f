#include "cli/check_lint.h"

#include "core/fs.h"
#include "pipeline/github/lint_actions.h"

/* --- actions ------------------------------------------------------------------------------------ */

static const struct action_meta *remember(struct check_lint *c, const char *name,
                                          const struct action_meta *m) {
    GROW(c->actions, c->cap, c->n + 1);
    c->actions[c->n++] = (struct check_action){xstrdup(name), m};
    return m;
}

static const struct check_action *seen(const struct check_lint *c, const char *name) {
    for (size_t i = 0; i < c->n; i++)
        if (streq(c->actions[i].name, name))
            return &c->actions[i];
    return NULL;
}

/* ./path: the repository's own; it may also come from a checkout into a folder, so what is not there
 * is not known. */
static const struct action_meta *local_action(struct check_lint *c, const struct plan *from,
                                              const char *uses) {
    static const char *const names[] = {"action.yml", "action.yaml"};
    _cleanup_free_ char *dir = called_repository(c->called, from->file);
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        _cleanup_free_ char *folder = path_join(dir, uses + 2), *file = path_join(folder, names[i]);
        const struct check_action *a = seen(c, file);
        _cleanup_buf_ struct buf text = BUF_MAX(1u << 20);
        if (a)
            return a->meta;
        if (fs_read(AT_FDCWD, file, &text, NULL) >= 0)
            return remember(c, file, action_meta_read(&c->arena, span_file(file), buf_sv(&text)));
    }
    return NULL;
}

static const struct action_meta *remote_action(struct check_lint *c, const char *uses) {
    const struct github_action *action = pins_action(c->pins, uses);
    const struct check_action *known = action ? seen(c, uses) : NULL;
    if (!action || known)
        return known ? known->meta : NULL;
    return remember(c, uses, action_meta_of(&c->arena, action));
}

static const struct action_meta *find_action(void *arg, const struct plan *from, const char *uses) {
    struct check_lint *c = arg;
    bool local = startswith(uses, "./") || startswith(uses, "$/");
    if (!local && !c->pins->active)
        return NULL;
    pthread_mutex_lock(&c->lock);
    const struct action_meta *m =
        local ? local_action(c, from, uses) : remote_action(c, uses);
    pthread_mutex_unlock(&c->lock);
    return m;
}

const struct plan *check_called(void *arg, const struct plan *from, const struct text *uses,
                                struct diags *d) {
    struct check_lint *c = arg;
    pthread_mutex_lock(&c->lock);
    const struct plan *p = called_load(c->called, from, uses, d);
    pthread_mutex_unlock(&c->lock);
    return p;
}

/* Its errors were told when calls were checked. */
static const struct plan *find_called(void *arg, const struct plan *from, const struct text *uses) {
    struct diags d = {0};
    const struct plan *p = check_called(arg, from, uses, &d);
    diags_done(&d);
    return p;
}

/* --- configuration ------------------------------------------------------------------------------ */

void check_lint_init(struct check_lint *c, const struct config *conf, struct diags *d) {
    c->conf = conf;
    for (size_t i = 0; i < c->conf->check_ignore.n; i++) {
        struct sv reason = sv_from(c->conf->check_ignore.v[i]), key;
        sv_split(&reason, '=', &key);
        ssize_t blank = sv_rchr(key, ' ');
        _cleanup_free_ char *code = sv_dup(blank < 0 ? key : sv_sub(key, (size_t)blank + 1, key.n));
        if (!lint_explain(code))
            diags_add(d, DIAG_WARNING, (struct span){.file = ".slipway.yml"}, "ignore-reason", NULL,
                      "check.ignore: there is no finding with the code \"%s\"", code);
        else if (!sv_trim(reason).n)
            diags_add(d, DIAG_WARNING, (struct span){.file = ".slipway.yml"}, "ignore-reason", NULL,
                      "check.ignore: %s has no reason", code);
    }
}

void check_lint_done(struct check_lint *c) {
    for (size_t i = 0; i < c->n; i++)
        free(c->actions[i].name);
    free(c->actions);
    arena_done(&c->arena);
}

static bool ignored(const struct check_lint *c, const struct diag *x, const char *file) {
    for (size_t i = 0; x->code && i < c->conf->check_ignore.n; i++) {
        struct sv reason = sv_from(c->conf->check_ignore.v[i]), key;
        sv_split(&reason, '=', &key);
        ssize_t blank = sv_rchr(key, ' ');
        struct sv code = blank < 0 ? key : sv_sub(key, (size_t)blank + 1, key.n);
        _cleanup_free_ char *glob = blank < 0 ? NULL : sv_dup(sv_trim(sv_sub(key, 0, (size_t)blank)));
        if (sv_eqs(code, x->code) && sv_trim(reason).n &&
            (!glob || github_glob(glob, file) || github_glob(glob, path_base(file))))
            return true;
    }
    return false;
}

void check_lint(struct check_lint *c, const struct plan *p, struct diags *d) {
    struct diags found = {0};
    const struct lint_options o = {.no_audit = c->no_audit,
                                   .labels = (const char *const *)c->conf->check_labels.v,
                                   .action = find_action,
                                   .called = find_called,
                                   .arg = c};
    github_lint(p, &o, &found);
    for (size_t i = 0; i < found.n; i++) {
        const struct diag *x = &found.items[i];
        if (!ignored(c, x, p->file))
            diags_add(d, x->level, x->at, x->code, x->hint, "%s", x->msg);
    }
    diags_done(&found);
}

/* --- explanations ------------------------------------------------------------------------------- */

int check_explain(const char *code) {
    const struct lint_rule *one = lint_explain(code);
    if (one) {
        printf("%s: %s%s\n\nwhy:  %s\nmend: %s\n\nto let it pass: # slipway: ignore[%s] REASON\n",
               one->code, one->title, one->audit ? " (security)" : "", one->why, one->mend, one->code);
        return 0;
    }
    if (!streq(code, "all")) {
        fprintf(stderr, "slipway: there is no finding with the code \"%s\" (--explain all lists them)\n",
                code);
        return 2;
    }
    size_t n;
    const struct lint_rule *rules = lint_rules(&n);
    for (size_t i = 0; i < n; i++)
        printf("%-24s %s\n", rules[i].code, rules[i].title);
    return 0;
}
