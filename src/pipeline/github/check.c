/* What the schema's table cannot say: ids, needs and cycles, containers without an image, filters
 * that exclude each other. Also completes the plan: kinds of steps, generated ids, types of inputs.
 * Words are GitHub's. */
#include "core/map.h"
#include "pipeline/github/cron.h"
#include "pipeline/github/read.h"

#include <math.h>

enum { MAX_ID = 100, MAX_TEXT = 21000 };

/* --- ids -------------------------------------------------------------------------------------- */

static bool alpha(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool id_char(char c) {
    return alpha(c) || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static void check_id(struct reader *r, const char *id, struct span at, struct map *known) {
    size_t n = strlen(id);
    bool ok = n > 0 && n < MAX_ID && (alpha(*id) || *id == '_');
    for (size_t i = 0; i < n; i++)
        ok = ok && id_char(id[i]);
    if (!ok)
        read_error(r, at, "id",
                   "The identifier '%s' is invalid. IDs may only contain alphanumeric characters, "
                   "'_', and '-'. IDs must start with a letter or '_' and and must be less than %d "
                   "characters.",
                   id, MAX_ID);
    else if (startswith(id, "__"))
        read_error(r, at, "id",
                   "The identifier '%s' is invalid. IDs starting with '__' are reserved.", id);
    else if (map_gets(known, id))
        read_error(r, at, "id",
                   "The identifier '%s' may not be used more than once within the same scope.", id);
    else
        map_sets(known, id, (void *)id);
}

/* What an id is generated from. */
static struct sv id_stem(struct arena *a, const struct plan_step *s) {
    switch (s->kind) {
    case STEP_WAIT:
        return SV("wait");
    case STEP_WAIT_ALL:
        return SV("wait-all");
    case STEP_CANCEL:
        return SV("cancel");
    case STEP_PARALLEL:
        return SV("parallel");
    case STEP_RUN:
        return SV("run");
    case STEP_USES:
        break;
    }
    struct sv uses = {s->uses.s, s->uses.n}, head;
    if (sv_starts(uses, "docker://"))
        return sv_sub(uses, 9, uses.n);
    if (sv_starts(uses, "./") || sv_starts(uses, ".\\"))
        return SV("self");
    struct sv owner = SV_NULL, repo = SV_NULL, path;
    ssize_t at = sv_chr(uses, '@');
    if (at < 0 || (size_t)at + 1 == uses.n ||
        sv_chr(sv_sub(uses, (size_t)at + 1, uses.n), '@') >= 0)
        return SV("run");
    path = sv_sub(uses, 0, (size_t)at);
    while (sv_split(&path, '/', &head)) {
        if (!head.n)
            continue;
        if (!owner.p)
            owner = head;
        else if (!repo.p)
            repo = head;
    }
    if (!repo.p)
        return SV("run");
    return sv_from(arena_printf(a, SV_FMT "/" SV_FMT, SV_ARG(owner), SV_ARG(repo)));
}

static void generate_id(struct reader *r, struct plan_step *s, struct map *known) {
    struct sv stem = id_stem(&r->scratch, s);
    char base[MAX_ID + 3] = "__", id[MAX_ID + 16];
    size_t n = 2;
    for (size_t i = 0; i < stem.n && n < MAX_ID; i++)
        base[n++] = id_char(stem.p[i]) ? stem.p[i] : '_';
    base[n] = 0;
    snprintf(id, sizeof id, "%s", base);
    for (unsigned k = 2; map_gets(known, id); k++) {
        char suffix[16];
        int len = snprintf(suffix, sizeof suffix, "_%u", k);
        snprintf(id, sizeof id, "%.*s%s", (int)MIN(n, (size_t)(MAX_ID - len)), base, suffix);
    }
    s->id = arena_strdup(r->a, id);
    s->id_generated = true;
    map_sets(known, s->id, (void *)s->id);
}

/* --- steps ------------------------------------------------------------------------------------ */

static const struct yaml_node *step_key(const struct yaml_node *step, const char *key) {
    const struct yaml_node *n = yaml_get(step, key);
    return n ? n : step;
}

static void check_target(struct reader *r, const struct plan_step *s, struct text t,
                         struct map *known) {
    if (!t.s)
        return; /* no text: told by the reader already */
    if (startswith(t.s, "__"))
        read_error(r, t.at, "id",
                   "The identifier '%s' is invalid. IDs starting with '__' are reserved.", t.s);
    else if (s->id && strcasecmp(t.s, s->id) == 0)
        read_error(r, t.at, "id", "Step '%s' cannot reference itself", s->id);
    else if (!map_gets(known, t.s))
        read_error(r, t.at, "id", "Step references unknown step ID '%s'", t.s);
}

static void set_kind(struct reader *r, struct plan_step *s) {
    if (s->run.s)
        s->kind = STEP_RUN;
    else if (s->uses.s)
        s->kind = STEP_USES;
    else if (s->children)
        s->kind = STEP_PARALLEL;
    else if (s->cancel.s)
        s->kind = STEP_CANCEL;
    else if (s->wait_all.s)
        s->kind = STEP_WAIT_ALL;
    else if (s->targets.n)
        s->kind = STEP_WAIT;
    if (s->kind == STEP_CANCEL)
        s->targets = (struct text_list){.items = &s->cancel, .n = 1};
    if (s->kind == STEP_WAIT_ALL && streq(s->wait_all.s, "false"))
        read_error(r, s->wait_all.at, "value", "The value of 'wait-all' must be true or omitted");
    if (s->run.n > MAX_TEXT)
        read_error(r, s->run.at, "limit", "Exceeded max expression length %d", MAX_TEXT);
}

static void name_steps(struct reader *r, struct plan_step *steps, size_t n,
                       const struct yaml_node *seq, struct map *known) {
    for (size_t i = 0; i < n; i++) {
        struct plan_step *s = &steps[i];
        const struct yaml_node *node = seq && i < seq->n ? seq->items[i] : NULL;
        set_kind(r, s);
        if (s->id && node)
            check_id(r, s->id, step_key(node, "id")->at, known);
        for (size_t k = 0; k < s->targets.n; k++)
            check_target(r, s, s->targets.items[k], known);
        if (s->children)
            name_steps(r, s->children, s->n_children, node ? yaml_get(node, "parallel") : NULL,
                       known);
    }
}

static void generate_ids(struct reader *r, struct plan_step *steps, size_t n, struct map *known) {
    for (size_t i = 0; i < n; i++) {
        if (!steps[i].id)
            generate_id(r, &steps[i], known);
        generate_ids(r, steps[i].children, steps[i].n_children, known);
    }
}

/* --- jobs ------------------------------------------------------------------------------------- */

static void check_runner_group(struct reader *r, const struct text *t) {
    if (!t->s || t->expr)
        return;
    const char *slash = strchr(t->s, '/');
    if (!slash)
        return;
    struct sv prefix = {t->s, (size_t)(slash - t->s)};
    bool known = sv_eqs(prefix, "org") || sv_eqs(prefix, "organization") || sv_eqs(prefix, "ent") ||
                 sv_eqs(prefix, "enterprise");
    if (strchr(slash + 1, '/') || !known)
        read_error(r, t->at, "value",
                   "Invalid runs-on group name '%s'. Please use 'organization/' or 'enterprise/' "
                   "prefix to target a single runner group.",
                   t->s);
    else if (!slash[1])
        read_error(r, t->at, "value", "Invalid runs-on group name '%s'.", t->s);
}

static bool any_expr(const struct yaml_node *n) {
    if (n->kind == YAML_SCALAR)
        return sv_find(n->text, SV("${{")) >= 0;
    for (size_t i = 0; i < n->n; i++)
        if (any_expr(n->items[i]))
            return true;
    return false;
}

static void check_container(struct reader *r, const struct plan_container *c,
                            const struct yaml_node *n) {
    if (n && n->kind == YAML_MAP && !c->image.s && !any_expr(n))
        read_error(r, n->at, "value", "Container image cannot be empty");
}

static void check_matrix(struct reader *r, const struct yaml_node *matrix) {
    if (!matrix || matrix->kind != YAML_MAP)
        return;
    for (size_t i = 0; i < matrix->n; i++) {
        const struct yaml_node *v = matrix->items[i];
        bool filter = yaml_is(matrix->keys[i], "include") || yaml_is(matrix->keys[i], "exclude");
        if (!filter && v->kind == YAML_SEQ && v->n == 0)
            read_error(r, v->at, "value", "Matrix vector '" SV_FMT "' does not contain any values",
                       SV_ARG(matrix->keys[i]->text));
    }
}

/* ./.github/workflows/FILE or OWNER/REPO/.github/workflows/FILE@REF */
static void check_uses(struct reader *r, const struct text *t) {
    struct sv uses = {t->s, t->n}, owner, repo;
    const char *why = NULL;
    ssize_t at = sv_chr(uses, '@');
    if (sv_starts(uses, "./")) {
        if (at >= 0)
            why = "cannot specify version when calling local workflows";
        else if (!sv_starts(uses, "./.github/workflows/"))
            why = "references to workflows must be rooted in '.github/workflows'";
    } else if (at < 0 || (size_t)at + 1 == uses.n) {
        why = "no version specified";
    } else {
        struct sv path = sv_sub(uses, 0, (size_t)at);
        if (!sv_split(&path, '/', &owner) || !sv_split(&path, '/', &repo) || !owner.n || !repo.n ||
            !path.n)
            why =
                "references to workflows must be prefixed with format 'owner/repository/' or './'";
        else if (!sv_starts(path, ".github/workflows/"))
            why = "references to workflows must be rooted in '.github/workflows'";
    }
    if (why)
        read_error(r, t->at, "call", "invalid value workflow reference: %s", why);
}

static void finish_job(struct reader *r, struct plan_job *j, const struct yaml_node *node,
                       struct map *known) {
    check_id(r, j->id, j->at, known);
    check_runner_group(r, &j->runs_on_group);
    check_container(r, &j->container, yaml_get(node, "container"));
    const struct yaml_node *services = yaml_get(node, "services");
    for (size_t i = 0; i < j->n_services; i++)
        check_container(r, &j->services[i], yaml_get(services, j->services[i].id));
    check_matrix(r, j->matrix);
    if (j->calling.uses.s) {
        check_uses(r, &j->calling.uses);
        j->call = &j->calling;
        struct text *whole = &j->calling.secrets.whole;
        if (whole->s && !whole->expr) {
            j->calling.inherit_secrets = true;
            *whole = (struct text){0};
        }
    }
    _cleanup_map_ struct map steps = {.nocase = true};
    name_steps(r, j->steps, j->n_steps, yaml_get(node, "steps"), &steps);
    generate_ids(r, j->steps, j->n_steps, &steps);
}

/* Jobs are taken away as their needs are met; what is left needs something that never comes. */
static void check_needs(struct reader *r, const struct yaml_node *jobs) {
    struct plan *p = r->plan;
    bool *done = ARENA_ARRAY(&r->scratch, bool, p->n_jobs);
    bool moved = true, first = true, any = false;
    while (moved) {
        moved = false;
        for (size_t i = 0; i < p->n_jobs; i++) {
            const struct plan_job *j = &p->jobs[i];
            bool ready = !done[i];
            for (size_t k = 0; ready && k < j->needs.n; k++) {
                const struct plan_job *need = plan_job_find(p, j->needs.items[k].s);
                ready = need && done[need - p->jobs];
            }
            if (ready)
                done[i] = moved = true;
        }
        if (first)
            any = moved;
        first = false;
    }
    if (!any) {
        bool unknown = false;
        for (size_t i = 0; i < p->n_jobs; i++)
            for (size_t k = 0; k < p->jobs[i].needs.n; k++)
                unknown = unknown || !plan_job_find(p, p->jobs[i].needs.items[k].s);
        if (!unknown) {
            read_error(r, jobs ? jobs->at : (struct span){.file = p->file}, "needs",
                       "The workflow must contain at least one job with no dependencies.");
            return;
        }
    }
    for (size_t i = 0; i < p->n_jobs; i++) {
        const struct plan_job *j = &p->jobs[i];
        for (size_t k = 0; !done[i] && k < j->needs.n; k++) {
            const struct text *t = &j->needs.items[k];
            const struct plan_job *need = plan_job_find(p, t->s);
            if (!need)
                read_error(r, t->at, "needs", "Job '%s' depends on unknown job '%s'.", j->id, t->s);
            else if (!done[need - p->jobs])
                read_error(
                    r, t->at, "needs",
                    "Job '%s' depends on job '%s' which creates a cycle in the dependency graph.",
                    j->id, t->s);
        }
    }
}

/* --- on --------------------------------------------------------------------------------------- */

static void check_pair(struct reader *r, const struct plan_filter *with,
                       const struct plan_filter *without, const char *name) {
    if (with->given && without->given)
        read_error(r, without->at, "filter",
                   "you may only define one of `%s` and `%s-ignore` for a single event", name,
                   name);
    for (size_t i = 0; i < with->n; i++)
        if (with->items[i][0] != '!')
            return;
    if (with->given && with->n)
        read_error(r, with->at, "filter",
                   "`%s` has only patterns that exclude (with `!`): it needs one that includes, or "
                   "use `%s-ignore`",
                   name, name);
}

static void set_input_type(struct plan_input *in) {
    static const char *const names[] = {[INPUT_STRING] = "string",
                                        [INPUT_BOOLEAN] = "boolean",
                                        [INPUT_NUMBER] = "number",
                                        [INPUT_CHOICE] = "choice",
                                        [INPUT_ENVIRONMENT] = "environment"};
    for (size_t i = 0; in->type_text.s && i < ELEMENTS(names); i++)
        if (streq(names[i], in->type_text.s))
            in->type = (enum plan_input_type)i;
}

static void check_input(struct reader *r, struct plan_input *in, bool call) {
    set_input_type(in);
    const struct text *d = &in->dflt;
    if (!d->s || d->expr)
        return;
    bool boolean = streq(d->s, "true") || streq(d->s, "false"), ok = true;
    if (in->type == INPUT_BOOLEAN)
        ok = boolean;
    else if (in->type == INPUT_NUMBER)
        ok = !isnan(val_parse_number(sv_from(d->s)));
    if (!ok)
        read_error(r, d->at, "value", "Unexpected value '%s'", d->s);
    if (in->type == INPUT_CHOICE && !call) {
        for (size_t i = 0; i < in->n_options; i++)
            if (streq(in->options[i], d->s))
                return;
        read_error(r, d->at, "value", "Input '%s': the default '%s' is not one of its options",
                   in->name, d->s);
    }
}

static void check_trigger(struct reader *r, struct plan_trigger *t) {
    check_pair(r, &t->branches, &t->branches_ignore, "branches");
    check_pair(r, &t->tags, &t->tags_ignore, "tags");
    check_pair(r, &t->paths, &t->paths_ignore, "paths");
    for (size_t i = 0; i < t->n_cron; i++)
        if (t->cron[i].cron.s && !cron_valid(t->cron[i].cron.s))
            read_error(
                r, t->cron[i].cron.at, "cron",
                "Invalid cron expression. Expected format: '* * * * *' (minute hour day month "
                "weekday)");
    bool call = streq(t->event, "workflow_call");
    for (size_t i = 0; i < t->n_inputs; i++)
        check_input(r, &t->inputs[i], call);
}

/* The set-up of a mapping that several readers keep: no alternative to `all` in plain text. */
static void finish_permissions(struct plan_permissions *p) {
    if (p->all_text.s) {
        p->all = p->all_text.s;
        p->given = true;
    }
}

void check_plan(struct reader *r) {
    struct plan *p = r->plan;
    const struct yaml_node *jobs = yaml_get(p->root, "jobs");
    _cleanup_map_ struct map ids = {.nocase = true};
    finish_permissions(&p->permissions);
    for (size_t i = 0; i < p->n_triggers; i++)
        check_trigger(r, &p->triggers[i]);
    for (size_t i = 0; i < p->n_jobs; i++) {
        struct plan_job *j = &p->jobs[i];
        finish_permissions(&j->permissions);
        finish_job(r, j, yaml_get(jobs, j->id), &ids);
    }
    if (p->n_jobs)
        check_needs(r, jobs);
}
