/* Values that GitHub accepts and that cannot be meant: labels, shells, patterns, matrices, inputs of
 * actions, commands that are gone. */
#include "pipeline/github/cron.h"
#include "pipeline/github/glob.h"
#include "pipeline/github/lint.h"
#include "pipeline/github/read.h"

#include <math.h>
#include <sys/stat.h>

enum { MAX_DISPATCH_INPUTS = 25, SHORTEST_CRON = 5 };

static bool listed(const char *const *list, const char *s) {
    for (; *list; list++)
        if (strcasecmp(*list, s) == 0)
            return true;
    return false;
}

static bool literal(const struct text *t) {
    return t->s && !t->expr;
}

/* --- events ------------------------------------------------------------------------------------- */

static void check_patterns(struct lint *l, const struct yaml_node *event, const char *key,
                           bool ref) {
    const struct yaml_node *n = event ? yaml_get(event, key) : NULL;
    size_t count = !n ? 0 : n->kind == YAML_SEQ ? n->n : 1;
    for (size_t i = 0; i < count; i++) {
        const struct yaml_node *item = n->kind == YAML_SEQ ? n->items[i] : n;
        size_t at = 0;
        const char *why =
            item->kind == YAML_SCALAR ? glob_problem(item->text.p, ref, &at) : NULL;
        if (why)
            lint_warn(l, scalar_place(item, at, at + 1), "glob", NULL, "pattern \"" SV_FMT "\": %s",
                      SV_ARG(item->text), why);
    }
}

static void check_cron(struct lint *l, const struct plan_cron *c) {
    if (literal(&c->cron) && cron_valid(c->cron.s) && cron_shortest(c->cron.s) < SHORTEST_CRON)
        lint_warn(l, c->cron.at, "cron-too-often", NULL,
                  "schedules run at most every %d minutes, this one asks for every %u",
                  SHORTEST_CRON, cron_shortest(c->cron.s));
    struct stat st;
    if (!literal(&c->timezone) || stat("/usr/share/zoneinfo/Europe", &st) < 0)
        return;
    char path[200];
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", c->timezone.s);
    if (strstr(c->timezone.s, "..") || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        lint_warn(l, c->timezone.at, "timezone", NULL, "there is no time zone \"%s\"",
                  c->timezone.s);
}

static void check_inputs(struct lint *l, const struct plan_trigger *t) {
    bool call = streq(t->event, "workflow_call");
    for (size_t i = 0; i < t->n_inputs; i++) {
        const struct plan_input *in = &t->inputs[i];
        if (call && in->required && in->dflt.s)
            lint_warn(l, in->dflt.at, "default-unused", NULL,
                      "input \"%s\" is required: its default is never used", in->name);
        for (size_t k = 0; k < in->n_options; k++)
            for (size_t m = 0; m < k; m++)
                if (streq(in->options[k], in->options[m]))
                    lint_warn(l, in->at, "duplicate-option", NULL,
                              "input \"%s\" has the option \"%s\" twice", in->name, in->options[k]);
    }
    if (!call && t->n_inputs > MAX_DISPATCH_INPUTS)
        lint_warn(l, t->at, "too-many-inputs", NULL,
                  "workflow_dispatch takes at most %d inputs, these are %zu", MAX_DISPATCH_INPUTS,
                  t->n_inputs);
}

/* Lists without items: filters that let nothing pass, labels that no runner has. */
static void check_lists(struct lint *l, const struct yaml_node *map) {
    static const char *const lists[] = {"branches", "tags", "paths", "types", "workflows", "names",
                                        "versions", "runs-on", "labels", "exclude", NULL};
    for (size_t i = 0; map && map->kind == YAML_MAP && i < map->n; i++)
        if (map->keys[i]->kind == YAML_SCALAR && map->items[i]->kind == YAML_SEQ &&
            !map->items[i]->n && listed(lists, map->keys[i]->text.p))
            lint_warn(l, map->items[i]->at, "empty-list", NULL, "`" SV_FMT "` is an empty list",
                      SV_ARG(map->keys[i]->text));
}

static void check_events(struct lint *l) {
    const struct yaml_node *on = l->p->root ? yaml_get(l->p->root, "on") : NULL;
    for (size_t i = 0; i < l->p->n_triggers; i++) {
        const struct plan_trigger *t = &l->p->triggers[i];
        const struct yaml_node *event = on && on->kind == YAML_MAP ? yaml_get(on, t->event) : NULL;
        if (event && event->kind != YAML_MAP)
            event = NULL;
        static const char *const refs[] = {"branches", "branches-ignore", "tags", "tags-ignore"};
        for (size_t k = 0; k < ELEMENTS(refs); k++)
            check_patterns(l, event, refs[k], true);
        check_patterns(l, event, "paths", false);
        check_patterns(l, event, "paths-ignore", false);
        check_patterns(l, event, "names", false);
        check_patterns(l, event, "versions", false);
        check_lists(l, event);
        if (streq(t->event, "schedule") && !t->n_cron)
            lint_warn(l, t->at, "empty-list", NULL, "schedule has no times: it never runs");
        for (size_t k = 0; k < t->n_cron; k++)
            check_cron(l, &t->cron[k]);
        check_inputs(l, t);
    }
}

/* --- runners and shells --------------------------------------------------------------------------- */

enum os { OS_UNKNOWN, OS_LINUX, OS_MACOS, OS_WINDOWS };
static const char *const hosted[] = {
    "ubuntu-latest", "ubuntu-slim", "ubuntu-26.04", "ubuntu-24.04", "ubuntu-22.04", "ubuntu-26.04-arm",
    "ubuntu-24.04-arm", "ubuntu-22.04-arm", "windows-latest", "windows-2025", "windows-2025-vs2026",
    "windows-2022", "windows-11-arm", "windows-11-vs2026-arm", "macos-latest", "macos-latest-large",
    "macos-latest-xlarge", "macos-26", "macos-26-intel", "macos-26-large", "macos-26-xlarge",
    "macos-15", "macos-15-intel", "macos-15-large", "macos-15-xlarge", "macos-14", "macos-14-large",
    "macos-14-xlarge", "self-hosted", "x64", "x86", "arm", "arm64", "linux", "macos", "windows", NULL};
static const char *const retired[] = {
    "ubuntu-16.04", "ubuntu-18.04", "ubuntu-20.04", "windows-2016", "windows-2019", "macos-10.15",
    "macos-11", "macos-12", "macos-12-large", "macos-12-xl", "macos-12-xlarge", "macos-13",
    "macos-13-large", "macos-13-xl", "macos-13-xlarge", NULL};

static enum os label_os(const char *s) {
    return strncasecmp(s, "ubuntu", 6) == 0 || strncasecmp(s, "linux", 5) == 0 ? OS_LINUX
           : strncasecmp(s, "macos", 5) == 0                                   ? OS_MACOS
           : strncasecmp(s, "windows", 7) == 0                                 ? OS_WINDOWS
                                                                               : OS_UNKNOWN;
}

/* Larger runners have names of their makers' choice; most tell their size. */
static bool larger(const char *s) {
    return strstr(s, "core") || strstr(s, "cpu") || strstr(s, "large") || strstr(s, "gpu") ||
           strstr(s, "-arm") || strstr(s, "gb") || strstr(s, "xl") || strstr(s, "x64");
}

static void check_label(struct lint *l, const char *label, struct span at) {
    for (const char *const *own = l->o->labels; own && *own; own++)
        if (github_glob(*own, label))
            return;
    if (listed(hosted, label))
        return;
    if (listed(retired, label))
        lint_warn(l, at, "runner-label", "use a newer one, or ubuntu-latest",
                  "GitHub has no runner \"%s\" any more", label);
    else if (label_os(label) != OS_UNKNOWN && !larger(label))
        lint_warn(l, at, "runner-label", NULL, "no hosted runner is known as \"%s\"", label);
}

/* Labels that come from the matrix are looked at where they stand there. */
static void check_matrix_labels(struct lint *l, const struct plan_job *j, const struct text *t) {
    struct sv x = {t->s, t->n};
    if (!j->matrix || j->matrix->kind != YAML_MAP || !sv_starts(x, "${{") || !sv_ends(x, "}}"))
        return;
    x = sv_trim(sv_sub(x, 3, x.n - 5));
    if (!sv_starts(x, "matrix."))
        return;
    x = sv_sub(x, 7, x.n);
    for (size_t i = 0; i < j->matrix->n; i++) {
        const struct yaml_node *k = j->matrix->keys[i], *v = j->matrix->items[i];
        bool include = yaml_is(k, "include"), row = k->kind == YAML_SCALAR && sv_eq(k->text, x);
        for (size_t m = 0; (include || row) && v->kind == YAML_SEQ && m < v->n; m++) {
            const struct yaml_node *item = v->items[m];
            char name[100];
            snprintf(name, sizeof name, SV_FMT, SV_ARG(x));
            if (include)
                item = item->kind == YAML_MAP ? yaml_get(item, name) : NULL;
            if (item && item->kind == YAML_SCALAR && sv_find(item->text, SV("${{")) < 0)
                check_label(l, item->text.p, item->at);
        }
    }
}

static enum os check_runner(struct lint *l, const struct plan_job *j) {
    enum os os = OS_UNKNOWN;
    const struct text *first = NULL;
    bool own = j->runs_on_group.s != NULL;
    for (size_t i = 0; i < j->runs_on.n; i++)
        own = own || (literal(&j->runs_on.items[i]) && streq(j->runs_on.items[i].s, "self-hosted"));
    if (j->runs_on.whole.s)
        check_matrix_labels(l, j, &j->runs_on.whole);
    for (size_t i = 0; i < j->runs_on.n; i++) {
        const struct text *t = &j->runs_on.items[i];
        if (!literal(t)) {
            check_matrix_labels(l, j, t);
            continue;
        }
        if (!own)
            check_label(l, t->s, t->at);
        enum os this = label_os(t->s);
        if (first && this != OS_UNKNOWN && this != os)
            lint_warn(l, t->at, "runner-conflict", NULL,
                      "no runner is both \"%s\" and \"%s\": a job runs where all labels are", first->s,
                      t->s);
        if (this != OS_UNKNOWN && !first) {
            os = this;
            first = t;
        }
    }
    return os;
}

static void check_shell(struct lint *l, const struct text *t, enum os os) {
    static const char *const everywhere[] = {"bash", "pwsh", "python", NULL};
    static const char *const unix_only[] = {"sh", NULL};
    static const char *const windows_only[] = {"cmd", "powershell", NULL};
    if (!literal(t) || strstr(t->s, "{0}") || listed(everywhere, t->s))
        return;
    if (listed(unix_only, t->s)) {
        if (os == OS_WINDOWS)
            lint_warn(l, t->at, "shell-name", NULL, "Windows runners have no shell \"%s\"", t->s);
    } else if (listed(windows_only, t->s)) {
        if (os == OS_LINUX || os == OS_MACOS)
            lint_warn(l, t->at, "shell-name", NULL, "only Windows runners have the shell \"%s\"",
                      t->s);
    } else {
        lint_warn(l, t->at, "shell-name", NULL,
                  "\"%s\" is no shell that GitHub knows, and has no {0} for the script's file", t->s);
    }
}

/* --- jobs ----------------------------------------------------------------------------------------- */

static bool same_value(const struct yaml_node *x, const struct yaml_node *y, unsigned depth) {
    if (x->kind != y->kind || depth > 8)
        return false;
    if (x->kind == YAML_SCALAR)
        return sv_eq(x->text, y->text) && sv_find(x->text, SV("${{")) < 0 &&
               yaml_scalar_type(x, NULL, NULL) == yaml_scalar_type(y, NULL, NULL);
    if (x->n != y->n)
        return false;
    for (size_t i = 0; i < x->n; i++)
        if (!same_value(x->items[i], y->items[i], depth + 1) ||
            (x->kind == YAML_MAP && !same_value(x->keys[i], y->keys[i], depth + 1)))
            return false;
    return true;
}

static bool has_expr(const struct yaml_node *n, unsigned depth) {
    if (n->kind == YAML_SCALAR)
        return sv_find(n->text, SV("${{")) >= 0;
    for (size_t i = 0; i < n->n && depth < 50; i++)
        if (has_expr(n->items[i], depth + 1) ||
            (n->kind == YAML_MAP && has_expr(n->keys[i], depth + 1)))
            return true;
    return false;
}

/* An exclude compares by value: objects by their listed keys. */
static bool covers(const struct yaml_node *part, const struct yaml_node *whole, unsigned depth) {
    if (part->kind != whole->kind || depth > 8)
        return false;
    if (part->kind == YAML_SCALAR)
        return strcasecmp(part->text.p, whole->text.p) == 0;
    if (part->kind == YAML_SEQ && part->n != whole->n)
        return false;
    for (size_t i = 0; i < part->n; i++) {
        const struct yaml_node *other =
            part->kind == YAML_SEQ ? whole->items[i] : yaml_get(whole, part->keys[i]->text.p);
        if (!other || !covers(part->items[i], other, depth + 1))
            return false;
    }
    return true;
}

static void check_exclude(struct lint *l, const struct yaml_node *matrix,
                          const struct yaml_node *exclude) {
    for (size_t i = 0; exclude->kind == YAML_SEQ && i < exclude->n; i++) {
        const struct yaml_node *e = exclude->items[i];
        for (size_t k = 0; e->kind == YAML_MAP && k < e->n; k++) {
            if (e->keys[k]->kind != YAML_SCALAR || has_expr(e->keys[k], 0))
                continue;
            const struct yaml_node *row = yaml_get(matrix, e->keys[k]->text.p);
            if (!row || yaml_is(e->keys[k], "include")) {
                lint_warn(l, e->keys[k]->at, "exclude-unknown", NULL,
                          "the matrix has no \"" SV_FMT "\" to exclude by",
                          SV_ARG(e->keys[k]->text));
                continue;
            }
            bool found = row->kind != YAML_SEQ || has_expr(row, 0) || has_expr(e->items[k], 0);
            for (size_t m = 0; !found && m < row->n; m++)
                found = covers(e->items[k], row->items[m], 0);
            if (!found)
                lint_warn(l, e->items[k]->at, "exclude-unknown", NULL,
                          "\"" SV_FMT "\" of the matrix never has this value: nothing is excluded",
                          SV_ARG(e->keys[k]->text));
        }
    }
}

static void lint_matrix(struct lint *l, const struct yaml_node *matrix) {
    if (!matrix || matrix->kind != YAML_MAP)
        return;
    bool dynamic = false;
    for (size_t i = 0; i < matrix->n; i++) {
        const struct yaml_node *k = matrix->keys[i], *v = matrix->items[i];
        dynamic = dynamic || has_expr(k, 0);
        if (yaml_is(k, "include") || yaml_is(k, "exclude") || v->kind != YAML_SEQ || v->n > 256)
            continue;
        for (size_t a = 1; a < v->n; a++)
            for (size_t b = 0; b < a; b++)
                if (same_value(v->items[a], v->items[b], 0)) {
                    lint_warn(l, v->items[a]->at, "duplicate-matrix", NULL,
                              "\"" SV_FMT "\" has this value twice: the same job runs twice",
                              SV_ARG(k->text));
                    break;
                }
    }
    const struct yaml_node *exclude = yaml_get(matrix, "exclude");
    if (exclude && !dynamic)
        check_exclude(l, matrix, exclude);
}

static void check_env(struct lint *l, const struct text_map *m) {
    for (size_t i = 0; i < m->n; i++)
        if (!m->items[i].key.expr && strpbrk(m->items[i].key.s, "&= "))
            lint_warn(l, m->items[i].key.at, "env-name", NULL,
                      "\"%s\" is no name of an environment variable", m->items[i].key.s);
}

static void check_images(struct lint *l, const struct text *t) {
    const char *colon = literal(t) ? strrchr(t->s, ':') : NULL;
    if (colon && !colon[1])
        lint_warn(l, t->at, "docker-tag", NULL, "the tag of \"%s\" is empty", t->s);
}

static void check_number(struct lint *l, const struct text *t, const char *key, double least,
                         bool whole) {
    if (!literal(t))
        return;
    double d = val_parse_number(sv_from(t->s));
    if (d < least || (whole && d != floor(d)))
        lint_warn(l, t->at, "number-range", NULL, "`%s` is %s", key,
                  whole ? "a whole number from 1 on" : "a number above 0");
}

/* --- steps ---------------------------------------------------------------------------------------- */

static void check_commands(struct lint *l, const struct plan_step *s) {
    static const struct {
        const char *command, *instead;
    } gone[] = {{"::set-output ", "echo \"NAME=VALUE\" >> \"$GITHUB_OUTPUT\""},
                {"::save-state ", "echo \"NAME=VALUE\" >> \"$GITHUB_STATE\""},
                {"::set-env ", "echo \"NAME=VALUE\" >> \"$GITHUB_ENV\""},
                {"::add-path::", "echo \"FOLDER\" >> \"$GITHUB_PATH\""}};
    for (size_t i = 0; s->run.s && i < ELEMENTS(gone); i++) {
        struct sv text = {s->run.s, s->run.n}, line;
        while (sv_line(&text, &line)) {
            ssize_t at = sv_find(line, sv_from(gone[i].command));
            struct sv before = at > 0 ? sv_trim(sv_sub(line, 0, (size_t)at)) : SV_NULL;
            if (at < 0 || sv_starts(before, "#"))
                continue;
            lint_warn(l, s->run.at, "deprecated-command", gone[i].instead,
                      "the command %s is gone", gone[i].command);
            break;
        }
    }
}

static const struct text_pair *find_with(const struct text_map *m, const char *name) {
    for (size_t i = 0; i < m->n; i++)
        if (strcasecmp(m->items[i].key.s, name) == 0)
            return &m->items[i];
    return NULL;
}

static bool docker_key(const struct action_meta *m, const char *name) {
    return m->docker && (strcasecmp(name, "args") == 0 || strcasecmp(name, "entrypoint") == 0);
}

static void check_action(struct lint *l, const struct plan_step *s) {
    static const struct {
        const char *name;
        unsigned first_good;
    } old[] = {{"actions/checkout", 4}, {"actions/setup-node", 4}, {"actions/setup-python", 5},
               {"actions/setup-go", 5}, {"actions/setup-java", 4}, {"actions/setup-dotnet", 4},
               {"actions/cache", 4}, {"actions/upload-artifact", 4}, {"actions/download-artifact", 4},
               {"actions/github-script", 7}, {"actions/stale", 9}, {"actions/labeler", 5},
               {"docker/login-action", 3}, {"docker/setup-buildx-action", 3},
               {"docker/setup-qemu-action", 3}, {"docker/metadata-action", 5},
               {"docker/build-push-action", 5}, {"codecov/codecov-action", 4},
               {"github/codeql-action", 3}, {"golangci/golangci-lint-action", 4},
               {"softprops/action-gh-release", 2}, {"peaceiris/actions-gh-pages", 4},
               {"actions/configure-pages", 4}, {"actions/deploy-pages", 4},
               {"goreleaser/goreleaser-action", 5}, {"pnpm/action-setup", 3},
               {"dorny/paths-filter", 3}, {"pre-commit/action", 3}};
    const char *version = strrchr(s->uses.s, '@');
    for (size_t i = 0; version && version[1] == 'v' && i < ELEMENTS(old); i++)
        if (uses_is(&s->uses, old[i].name) && version[2] >= '1' && version[2] <= '9' &&
            !version[2 + strspn(version + 2, "0123456789.")] &&
            strtoul(version + 2, NULL, 10) < old[i].first_good)
            lint_warn(l, s->uses.at, "outdated-action", NULL,
                      "%s runs on a Node that GitHub no longer has: v%u and later do not", s->uses.s,
                      old[i].first_good);
    const struct action_meta *m = lint_action(l, s->uses.s);
    if (!m || s->with.whole.s)
        return;
    if (m->problem) {
        lint_warn(l, s->uses.at, "bad-action", NULL, "%s: %s", s->uses.s, m->problem);
        return;
    }
    bool dynamic = false;
    for (size_t i = 0; i < s->with.n; i++) {
        const struct text_pair *w = &s->with.items[i];
        const struct known_input *in = NULL;
        dynamic = dynamic || w->key.expr;
        for (size_t k = 0; k < m->n_inputs && !in; k++)
            if (strcasecmp(m->inputs[k].name, w->key.s) == 0)
                in = &m->inputs[k];
        if (!in && !w->key.expr && !docker_key(m, w->key.s)) {
            _cleanup_buf_ struct buf b = BUF_SMALL;
            for (size_t k = 0; k < m->n_inputs && k < 16; k++)
                buf_addf(&b, "%s%s", k ? ", " : "", m->inputs[k].name);
            lint_warn(l, w->key.at, "unknown-action-input", NULL, "%s has no input \"%s\" (it has: %s)",
                      s->uses.s, w->key.s, m->n_inputs ? buf_str(&b) : "none");
        } else if (in && in->deprecated) {
            lint_warn(l, w->key.at, "deprecated-input", NULL, "input \"%s\" of %s is deprecated: %s",
                      w->key.s, s->uses.s, in->deprecated);
        }
    }
    for (size_t k = 0; k < m->n_inputs && !dynamic; k++)
        if (m->inputs[k].required && !m->inputs[k].has_default &&
            !find_with(&s->with, m->inputs[k].name))
            lint_warn(l, s->uses.at, "missing-action-input", NULL, "%s needs the input \"%s\"",
                      s->uses.s, m->inputs[k].name);
}

static bool hex(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strchr("0123456789abcdefABCDEF", s[i]))
            return false;
    return true;
}

static void check_step(struct lint *l, const struct plan_job *j, const struct plan_step *s) {
    (void)j;
    check_env(l, &s->env);
    check_number(l, &s->timeout_minutes, "timeout-minutes", 1e-9, false);
    check_commands(l, s);
    if (!literal(&s->uses))
        return;
    const char *ref = strrchr(s->uses.s, '@');
    const char *image = startswith(s->uses.s, "docker://");
    if (image && *image && image[strlen(image) - 1] == ':')
        check_images(l, &s->uses);
    if (image)
        return;
    if (ref && strlen(ref + 1) >= 7 && strlen(ref + 1) < 40 && hex(ref + 1, strlen(ref + 1)))
        lint_warn(l, s->uses.at, "short-sha", NULL, "\"%s\" is a part of a commit's id", ref + 1);
    check_action(l, s);
}

static void check_job(struct lint *l, const struct plan_job *j) {
    enum os os = check_runner(l, j);
    const struct yaml_node *jobs = yaml_get(l->p->root, "jobs"),
                           *node = jobs ? yaml_get(jobs, j->id) : NULL,
                           *runs_on = node ? yaml_get(node, "runs-on") : NULL;
    check_lists(l, node);
    check_lists(l, runs_on);
    check_lists(l, j->matrix);
    check_number(l, &j->timeout_minutes, "timeout-minutes", 1e-9, false);
    check_number(l, &j->max_parallel, "max-parallel", 1, true);
    for (size_t i = 0; i < j->needs.n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcasecmp(j->needs.items[i].s, j->needs.items[k].s) == 0)
                lint_warn(l, j->needs.items[i].at, "duplicate-need", NULL,
                          "\"%s\" stands in `needs` twice", j->needs.items[i].s);
    lint_matrix(l, j->matrix);
    check_env(l, &j->env);
    check_env(l, &j->container.env);
    check_images(l, &j->container.image);
    for (size_t i = 0; i < j->n_services; i++) {
        check_images(l, &j->services[i].image);
        check_env(l, &j->services[i].env);
    }
    check_shell(l, &j->default_shell, os);
    if (!j->default_shell.s)
        check_shell(l, &l->p->default_shell, os);
    for (size_t i = 0; i < j->n_steps; i++)
        check_shell(l, &j->steps[i].shell, os);
    const struct text *group = &j->concurrency.group, *whole = &l->p->concurrency.group;
    if (literal(group) && literal(whole) && streq(group->s, whole->s))
        lint_warn(l, group->at, "concurrency-deadlock", NULL,
                  "the whole workflow is in the group \"%s\" already: the job waits for its own run",
                  group->s);
    lint_steps(l, j, check_step);
}

void lint_values(struct lint *l) {
    check_events(l);
    check_env(l, &l->p->env);
    for (size_t i = 0; i < l->p->n_jobs; i++)
        check_job(l, &l->p->jobs[i]);
}
