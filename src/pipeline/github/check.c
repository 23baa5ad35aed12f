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
    struct sv uses = {s->uses.s, s->uses.n};
    if (sv_starts(uses, "docker://"))
        return sv_sub(uses, 9, uses.n);
    if (sv_starts(uses, "./") || sv_starts(uses, ".\\") || sv_starts(uses, "$/"))
        return SV("self");
    struct sv owner, repo;
    if (!uses_repository(uses, &owner, &repo))
        return SV("run");
    return sv_from(arena_printf(a, SV_FMT "/" SV_FMT, SV_ARG(owner), SV_ARG(repo)));
}

/* Numbers count on from the last of the same stem. */
static void generate_id(struct reader *r, struct plan_step *s, struct map *known,
                        struct map *counters) {
    enum { MAX_ATTEMPTS = 1000 };
    struct sv stem = id_stem(&r->scratch, s);
    char base[MAX_ID + 3] = "__", id[MAX_ID + 16];
    size_t n = 2;
    for (size_t i = 0; i < stem.n && n < MAX_ID; i++)
        base[n++] = id_char(stem.p[i]) ? stem.p[i] : '_';
    base[n] = 0;
    memcpy(id, base, n + 1);
    uintptr_t k = (uintptr_t)map_gets(counters, base);
    for (k = k ? k : 1; k > 1 || map_gets(known, id); k++) {
        char suffix[24];
        int len = snprintf(suffix, sizeof suffix, "_%zu", (size_t)k);
        snprintf(id, sizeof id, "%.*s%s", (int)MIN(n, (size_t)(MAX_ID - len)), base, suffix);
        if (k > 1 && !map_gets(known, id))
            break;
    }
    if (k == MAX_ATTEMPTS)
        read_error(r, s->at, "id", "Unable to create a unique name");
    map_sets(counters, base, (void *)(k + 1));
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
        read_error(r, s->wait_all.at, "wait", "The value of 'wait-all' must be true or omitted");
    if (s->run.n > MAX_TEXT)
        read_error(r, s->run.at, "limit", "Exceeded max expression length %d", MAX_TEXT);
}

/* Only plain steps run side by side. */
static void check_child(struct reader *r, const struct plan_step *s,
                        const struct yaml_node *group) {
    struct span at = group ? group->at : s->at;
    static const char *const words[] = {[STEP_WAIT] = "wait",
                                        [STEP_WAIT_ALL] = "wait-all",
                                        [STEP_CANCEL] = "cancel"};
    if (s->background)
        read_error(r, at, "parallel",
                   "'background' is not allowed inside a parallel block. Steps in a parallel block "
                   "are automatically run as background steps.");
    if (s->kind == STEP_PARALLEL)
        read_error(r, at, "parallel", "Nested 'parallel' blocks are not allowed.");
    else if (s->kind < ELEMENTS(words) && words[s->kind])
        read_error(r, at, "parallel", "'%s' is not allowed inside a parallel block.",
                   words[s->kind]);
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
        check_step_uses(r, &s->uses);
        if (s->children)
            name_steps(r, s->children, s->n_children, node ? yaml_get(node, "parallel") : NULL,
                       known);
        for (size_t k = 0; k < s->n_children; k++)
            check_child(r, &s->children[k], node);
    }
}

static void generate_ids(struct reader *r, struct plan_step *steps, size_t n, struct map *known,
                         struct map *counters) {
    for (size_t i = 0; i < n; i++) {
        if (!steps[i].id)
            generate_id(r, &steps[i], known, counters);
        generate_ids(r, steps[i].children, steps[i].n_children, known, counters);
    }
}

void check_action_steps(struct reader *r, struct plan_step *steps, size_t n, const struct yaml_node *seq) {
    _cleanup_map_ struct map known = {.nocase = true}, counters = {0};
    name_steps(r, steps, n, seq, &known);
    generate_ids(r, steps, n, &known, &counters);
}

/* --- jobs ------------------------------------------------------------------------------------- */

static void finish_job(struct reader *r, struct plan_job *j, const struct yaml_node *node,
                       struct map *known) {
    check_id(r, j->id, j->at, known);
    check_runner_group(r, &j->runs_on_group);
    check_concurrency(r, &j->concurrency);
    check_snapshot(r, j->snapshot);
    check_container(r, &j->container, yaml_get(node, "container"), false);
    const struct yaml_node *services = yaml_get(node, "services");
    for (size_t i = 0; i < j->n_services; i++)
        check_container(r, &j->services[i], yaml_get(services, j->services[i].id), true);
    check_matrix(r, j->matrix);
    if (j->calling.uses.s) {
        check_call_uses(r, &j->calling.uses);
        j->call = &j->calling;
        struct text *whole = &j->calling.secrets.whole;
        if (whole->s && !whole->expr) {
            j->calling.inherit_secrets = true;
            *whole = (struct text){0};
        }
    }
    _cleanup_map_ struct map steps = {.nocase = true}, counters = {0};
    name_steps(r, j->steps, j->n_steps, yaml_get(node, "steps"), &steps);
    generate_ids(r, j->steps, j->n_steps, &steps, &counters);
}

/* For each need of each job in turn which job it is; NULL: none. */
static const struct plan_job **resolve_needs(struct reader *r) {
    struct plan *p = r->plan;
    _cleanup_map_ struct map ids = {.nocase = true};
    size_t n = 0;
    for (size_t i = 0; i < p->n_jobs; i++) {
        n += p->jobs[i].needs.n;
        if (!map_gets(&ids, p->jobs[i].id))
            map_sets(&ids, p->jobs[i].id, &p->jobs[i]);
    }
    const struct plan_job **all = ARENA_ARRAY(&r->scratch, const struct plan_job *, n + 1), **next = all;
    for (size_t i = 0; i < p->n_jobs; i++)
        for (size_t k = 0; k < p->jobs[i].needs.n; k++)
            *next++ = map_gets(&ids, p->jobs[i].needs.items[k].s);
    return all;
}

/* Jobs are taken away as their needs are met; what is left needs something that never comes. */
static void check_needs(struct reader *r, const struct yaml_node *jobs) {
    struct plan *p = r->plan;
    bool *done = ARENA_ARRAY(&r->scratch, bool, p->n_jobs);
    const struct plan_job **all = resolve_needs(r), **need;
    bool moved = true, first = true, any = false, unknown = false;
    while (moved) {
        moved = false;
        need = all;
        for (size_t i = 0; i < p->n_jobs; i++) {
            bool ready = !done[i];
            for (size_t k = 0; k < p->jobs[i].needs.n; k++, need++) {
                ready = ready && *need && done[*need - p->jobs];
                unknown = unknown || !*need;
            }
            if (ready)
                done[i] = moved = true;
        }
        if (first)
            any = moved;
        first = false;
    }
    if (!any && !unknown) {
        read_error(r, jobs ? jobs->at : (struct span){.file = p->file}, "needs",
                   "The workflow must contain at least one job with no dependencies.");
        return;
    }
    need = all;
    for (size_t i = 0; i < p->n_jobs; i++) {
        const struct plan_job *j = &p->jobs[i];
        for (size_t k = 0; k < j->needs.n; k++, need++) {
            const struct text *t = &j->needs.items[k];
            if (done[i])
                continue;
            if (!*need)
                read_error(r, t->at, "needs", "Job '%s' depends on unknown job '%s'.", j->id, t->s);
            else if (!done[*need - p->jobs])
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
    const struct yaml_node *on = yaml_get(r->plan->root, "on");
    const struct yaml_node *event = on ? yaml_get(on, t->event) : NULL;
    const struct yaml_node *inputs = event ? yaml_get(event, "inputs") : NULL;
    for (size_t i = 0; i < t->n_inputs; i++)
        check_input(r, &t->inputs[i], inputs ? yaml_get(inputs, t->inputs[i].name) : NULL, call);
}

/* The set-up of a mapping that several readers keep: no alternative to `all` in plain text. */
static void finish_permissions(struct plan_permissions *p) {
    if (p->all_text.s) {
        p->all = p->all_text.s;
        p->given = true;
    }
}

/* What was found from `first` on in the file's order, conditions included. */
void check_conditions(struct reader *r, size_t first) {
    for (size_t i = 0; i < r->conditions.n; i++) {
        const struct diag *x = &r->conditions.items[i];
        diags_add(r->d, x->level, x->at, x->code, x->hint, "%s", x->msg);
        r->d->items[r->d->n - 1].focus = x->focus;
    }
    if (r->d->n > first) {
        struct diags found = {.items = r->d->items + first, .n = r->d->n - first};
        diags_sort(&found);
    }
}

void check_plan(struct reader *r) {
    struct plan *p = r->plan;
    size_t first = r->d->n;
    const struct yaml_node *jobs = yaml_get(p->root, "jobs");
    _cleanup_map_ struct map ids = {.nocase = true};
    finish_permissions(&p->permissions);
    check_concurrency(r, &p->concurrency);
    for (size_t i = 0; i < p->n_triggers; i++)
        check_trigger(r, &p->triggers[i]);
    for (size_t i = 0; i < p->n_jobs; i++) {
        struct plan_job *j = &p->jobs[i];
        finish_permissions(&j->permissions);
        finish_job(r, j, yaml_get(jobs, j->id), &ids);
    }
    check_conditions(r, first); /* what concerns all jobs comes last */
    if (p->n_jobs)
        check_needs(r, jobs);
}
