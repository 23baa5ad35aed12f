/* bitbucket-pipelines.yml into a plan, for one ref: the table of schema.c checks the whole file,
 * then the pipeline that the ref selects is laid out. Each step becomes a job; jobs of a chain need
 * the one before, jobs of a parallel group all need what stands before the group and are all needed
 * by what follows. Stages only add properties to their steps. */
#include "pipeline/bitbucket/read.h"

#include "pipeline/bitbucket/schema.h"

enum { MAX_STEPS = 100 };

/* What a stage and a group give to their steps. */
struct around {
    const struct yaml_node *stage;
    bool first_of_stage;
    bool fail_fast;
    int index, count; /* of a parallel group; -1 */
};

/* --- steps ------------------------------------------------------------------------------------ */

static const char *make_id(struct bb_reader *r, const char *name, size_t number) {
    char slug[60];
    size_t n = 0;
    for (const char *c = name ? name : ""; *c && n < sizeof slug - 1; c++) {
        bool ok = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9');
        if (*c >= 'A' && *c <= 'Z')
            slug[n++] = (char)(*c | 32);
        else if (ok)
            slug[n++] = *c;
        else if (n && slug[n - 1] != '-')
            slug[n++] = '-';
    }
    while (n && slug[n - 1] == '-')
        n--;
    slug[n] = 0;
    const char *stem = n ? arena_strdup(r->a, slug) : arena_printf(r->a, "step-%zu", number),
               *id = stem;
    for (unsigned k = 2; map_gets(&r->ids, id); k++)
        id = arena_printf(r->a, "%s-%u", stem, k);
    map_sets(&r->ids, id, (void *)id);
    return id;
}

static void read_clone(const struct yaml_node *n, struct plan_bitbucket *bb) {
    if (!n)
        return;
    const struct yaml_node *depth = yaml_get(n, "depth");
    bb->clone_disabled = !bb_flag(yaml_get(n, "enabled"), !bb->clone_disabled);
    bb->clone_lfs = bb_flag(yaml_get(n, "lfs"), bb->clone_lfs);
    if (depth)
        bb->clone_depth = yaml_is(depth, "full") ? -1 : (int)bb_number(depth, 0);
}

static void read_properties(struct bb_reader *r, const struct yaml_node *n, struct plan_job *j,
                            const struct around *in) {
    struct plan_bitbucket *bb = j->bb;
    const struct yaml_node *options = yaml_get(r->root, "options"), *v;
    const struct yaml_node *stage = in->stage;
    bb->run_as_user = UINT32_MAX;
    bb->parallel_index = in->index;
    bb->parallel_count = in->count;
    bb->fail_fast = bb_flag(yaml_get(n, "fail-fast"), in->fail_fast);
    bb->oidc = bb_flag(yaml_get(n, "oidc"), false);
    v = yaml_get(n, "image");
    bb_image(r, v ? v : yaml_get(r->root, "image"), &j->container, &bb->run_as_user);
    v = yaml_get(n, "size");
    v = v ? v : yaml_get(options, "size");
    bb->size = v ? (unsigned)atoi(v->text.p) : 1;
    v = yaml_get(n, "max-time");
    j->timeout_minutes = bb_text(v ? v : yaml_get(options, "max-time"));
    v = yaml_get(n, "trigger");
    v = !v && stage && in->first_of_stage ? yaml_get(stage, "trigger") : v;
    bb->manual = yaml_is(v, "manual");
    v = yaml_get(n, "deployment");
    v = v ? v : yaml_get(n, "environment");
    v = !v && stage ? yaml_get(stage, "deployment") : v;
    v = !v && stage ? yaml_get(stage, "environment") : v;
    bb->deployment = bb_str(v);
    j->environment.name = bb_text(v);
    v = yaml_get(n, "concurrency-group");
    bb->concurrency_group = bb_str(v);
    v = yaml_get(n, "condition");
    bb_condition(r, !v && stage ? yaml_get(stage, "condition") : v, bb);
    read_clone(yaml_get(r->root, "clone"), bb);
    read_clone(yaml_get(n, "clone"), bb);
    bb_caches(r, yaml_get(n, "caches"), bb);
    bb_artifacts(r, yaml_get(n, "artifacts"), bb);
    bb_on_fail(r, yaml_get(n, "on-fail"), bb);
    bb->output_variables = bb_strings(r, yaml_get(n, "output-variables"), &bb->n_output_variables);
    v = yaml_get(n, "runs-on");
    size_t labels;
    const char **names = bb_strings(r, v, &labels);
    j->runs_on.items = ARENA_ARRAY(r->a, struct text, labels);
    for (size_t i = 0; i < labels; i++)
        j->runs_on.items[j->runs_on.n++] = bb_made(r, names[i], v->at);
}

static void read_step(struct bb_reader *r, const struct yaml_node *n, const struct text_list *needs,
                      const struct around *in) {
    struct plan *p = r->plan;
    if (n->kind != YAML_MAP)
        return;
    if (p->n_jobs == MAX_STEPS) {
        bb_error(r, n, "limit", "a pipeline may have at most %d steps", MAX_STEPS);
        return;
    }
    struct plan_job *j = &p->jobs[p->n_jobs++];
    const char *name = bb_str(yaml_get(n, "name"));
    const struct yaml_node *script = yaml_get(n, "script"), *after = yaml_get(n, "after-script");
    j->id = make_id(r, name, p->n_jobs);
    j->at = n->at;
    j->name = name ? bb_text(yaml_get(n, "name"))
                   : bb_made(r, arena_printf(r->a, "Step %zu", p->n_jobs), n->at);
    j->needs = *needs;
    j->bb = ARENA_NEW(r->a, struct plan_bitbucket);
    read_properties(r, n, j, in);
    bb_services(r, n, j);
    if (yaml_is(yaml_get(n, "type"), "pipeline")) {
        bb_error(r, n, "child-pipeline", "steps that start a child pipeline: not yet");
        return;
    }
    if (!script || script->kind != YAML_SEQ || !script->n) {
        bb_error(r, script ? script : n, "script",
                 "a step needs a script with at least one command");
        return;
    }
    j->steps = ARENA_ARRAY(r->a, struct plan_step, 2 * (script->n + (after ? after->n : 0)) + 2);
    bb_script(r, j, script, false);
    bb_script(r, j, after && after->kind == YAML_SEQ ? after : NULL, true);
}

/* The jobs from..to as what the next ones need. */
static struct text_list needs_of(struct bb_reader *r, size_t from, size_t to) {
    struct text_list l = {.items = ARENA_ARRAY(r->a, struct text, to - from)};
    for (size_t i = from; i < to; i++)
        l.items[l.n++] = bb_made(r, r->plan->jobs[i].id, r->plan->jobs[i].at);
    return l;
}

static void read_items(struct bb_reader *r, const struct yaml_node *list, struct text_list *needs,
                       const struct yaml_node *stage);

static void read_parallel(struct bb_reader *r, const struct yaml_node *n, struct text_list *needs,
                          const struct yaml_node *stage) {
    const struct yaml_node *steps = n->kind == YAML_MAP ? yaml_get(n, "steps") : n;
    size_t from = r->plan->n_jobs;
    if (!steps || steps->kind != YAML_SEQ || !steps->n) {
        bb_error(r, n, "parallel", "a parallel group needs steps");
        return;
    }
    for (size_t i = 0; i < steps->n; i++) {
        const struct yaml_node *step = yaml_get(steps->items[i], "step");
        struct around in = {stage, false, bb_flag(yaml_get(n, "fail-fast"), false), (int)i,
                            (int)steps->n};
        if (step)
            read_step(r, step, needs, &in);
        else
            bb_error(r, steps->items[i], "parallel", "a parallel group holds steps only");
    }
    if (r->plan->n_jobs > from)
        *needs = needs_of(r, from, r->plan->n_jobs);
}

static void read_items(struct bb_reader *r, const struct yaml_node *list, struct text_list *needs,
                       const struct yaml_node *stage) {
    if (!list || list->kind != YAML_SEQ)
        return;
    for (size_t i = 0; i < list->n; i++) {
        const struct yaml_node *x = list->items[i], *n;
        size_t from = r->plan->n_jobs;
        if ((n = yaml_get(x, "step"))) {
            struct around in = {stage, i == 0, false, -1, -1};
            read_step(r, n, needs, &in);
            if (r->plan->n_jobs > from)
                *needs = needs_of(r, from, r->plan->n_jobs);
        } else if ((n = yaml_get(x, "parallel"))) {
            read_parallel(r, n, needs, stage);
        } else if ((n = yaml_get(x, "stage")) && !stage) {
            if (!yaml_get(n, "steps"))
                bb_error(r, n, "stage", "a stage needs steps");
            read_items(r, yaml_get(n, "steps"), needs, n);
        } else if (yaml_get(x, "variables") && i > 0) {
            bb_error(r, x, "variables", "variables stand before the first step");
        }
    }
}

static void read_variables(struct bb_reader *r, const struct yaml_node *list) {
    struct plan_trigger *t = ARENA_NEW(r->a, struct plan_trigger);
    t->event = "custom";
    t->at = list->at;
    r->plan->triggers = t;
    r->plan->n_triggers = 1;
    t->inputs = ARENA_ARRAY(r->a, struct plan_input, list->n);
    for (size_t i = 0; list->kind == YAML_SEQ && i < list->n; i++) {
        const struct yaml_node *v = list->items[i];
        struct plan_input *in = &t->inputs[t->n_inputs++];
        in->name = bb_str(yaml_get(v, "name"));
        in->at = v->at;
        in->description = bb_str(yaml_get(v, "description"));
        in->dflt = bb_text(yaml_get(v, "default"));
        in->options = bb_strings(r, yaml_get(v, "allowed-values"), &in->n_options);
        in->type = in->n_options ? INPUT_CHOICE : INPUT_STRING;
        in->required = !in->dflt.s;
        if (!in->name) {
            bb_error(r, v, "variables", "a variable needs a name");
            in->name = "";
        }
    }
}

/* Mappings below that have a key `step`: an upper bound for the jobs. */
static size_t count_steps(const struct yaml_node *n) {
    size_t count = n->kind == YAML_MAP && yaml_get(n, "step") != NULL;
    for (size_t i = 0; n->kind != YAML_SCALAR && i < n->n && count < MAX_STEPS; i++)
        count += count_steps(n->items[i]);
    return MIN(count, (size_t)MAX_STEPS);
}

/* --- selection -------------------------------------------------------------------------------- */

static size_t weight(const char *pattern) {
    size_t n = 0;
    for (; *pattern; pattern++)
        n += *pattern != '*' && *pattern != '?' && *pattern != '{' && *pattern != '}';
    return n;
}

/* An exact name wins, then the pattern that says most. */
static const struct yaml_node *by_pattern(const struct yaml_node *map, const char *ref) {
    const struct yaml_node *best = NULL;
    size_t most = 0;
    for (size_t i = 0; map && map->kind == YAML_MAP && i < map->n; i++) {
        const char *key = map->keys[i]->text.p;
        if (map->keys[i]->kind != YAML_SCALAR)
            continue;
        if (streq(key, ref))
            return map->items[i];
        if (bitbucket_glob(key, ref) && (!best || weight(key) > most)) {
            best = map->items[i];
            most = weight(key);
        }
    }
    return best;
}

static const struct yaml_node *select_pipeline(const struct yaml_node *pipelines,
                                               const struct bitbucket_select *sel) {
    const char *ref = sel->ref ? sel->ref : "";
    const struct yaml_node *n;
    switch (sel->trigger) {
    case BB_PUSH_BRANCH:
        n = by_pattern(yaml_get(pipelines, "branches"), ref);
        return n ? n : yaml_get(pipelines, "default");
    case BB_PUSH_TAG:
        return by_pattern(yaml_get(pipelines, "tags"), ref);
    case BB_PULL_REQUEST:
        return by_pattern(yaml_get(pipelines, "pull-requests"), ref);
    case BB_CUSTOM:
        return yaml_get(yaml_get(pipelines, "custom"), ref);
    }
    return NULL;
}

static int parse(struct bb_reader *r, const char *file, struct sv text) {
    struct yaml_limits lim = {.merge = true};
    struct yaml_node *root = NULL;
    size_t before = r->d->errors;
    if (yaml_parse(r->a, file, text, &lim, &root, r->d) < 0)
        return -EBADMSG;
    if (!root || root->kind != YAML_MAP) {
        diags_add(r->d, DIAG_ERROR, root ? root->at : (struct span){.file = span_file(file)},
                  "value", NULL, "the file needs a mapping with `pipelines`");
        return -EBADMSG;
    }
    r->root = root;
    r->definitions = yaml_get(root, "definitions");
    bb_check(root, B_FILE, r->d);
    if (!yaml_get(root, "pipelines"))
        diags_add(r->d, DIAG_ERROR, root->at, "value", NULL, "the file has no `pipelines`");
    return r->d->errors > before ? -EBADMSG : 0;
}

int bitbucket_read(const char *file, struct sv text, const struct bitbucket_select *sel,
                   struct plan **ret, struct diags *d) {
    _cleanup_plan_ struct plan *p = xcalloc(1, sizeof *p);
    struct bb_reader r = {.plan = p, .a = &p->arena, .d = d};
    size_t before = d->errors;
    p->dialect = DIALECT_BITBUCKET;
    p->file = span_file(file);
    p->source = arena_sv(&p->arena, text);
    *ret = NULL;
    if (parse(&r, file, p->source) < 0 && !r.root)
        return -EBADMSG;
    p->root = r.root;
    const struct yaml_node *n = select_pipeline(yaml_get(r.root, "pipelines"), sel);
    if (!n)
        return d->errors > before ? -EBADMSG : -ENOENT;
    if (n->kind == YAML_MAP) {
        bb_error(&r, n, "import", "imported pipelines: not yet");
        return -EBADMSG;
    }
    struct text_list needs = {0};
    const struct yaml_node *first = n->kind == YAML_SEQ && n->n ? n->items[0] : NULL;
    const struct yaml_node *variables = first ? yaml_get(first, "variables") : NULL;
    p->jobs = ARENA_ARRAY(r.a, struct plan_job, count_steps(n) + 1);
    if (variables && sel->trigger == BB_CUSTOM)
        read_variables(&r, variables);
    read_items(&r, n, &needs, NULL);
    map_done(&r.ids);
    if (!p->n_jobs && d->errors == before)
        bb_error(&r, n, "value", "the pipeline has no steps");
    if (d->errors > before)
        return -EBADMSG;
    *ret = TAKE(p);
    return 0;
}

/* Reports of a step that several pipelines share come again: each is kept once. */
static void add_once(struct diags *to, const struct diags *from) {
    for (size_t i = 0; i < from->n; i++) {
        const struct diag *x = &from->items[i];
        bool known = false;
        for (size_t k = 0; !known && k < to->n; k++)
            known = to->items[k].at.line == x->at.line && to->items[k].at.col == x->at.col &&
                    streq(to->items[k].msg, x->msg);
        if (!known)
            diags_add(to, x->level, x->at, x->code, x->hint, "%s", x->msg);
    }
}

static void check_pipeline(struct bb_reader *r, const struct yaml_node *n) {
    if (n->kind != YAML_SEQ)
        return;
    struct text_list needs = {0};
    r->plan->n_jobs = 0;
    r->plan->jobs = ARENA_ARRAY(r->a, struct plan_job, count_steps(n) + 1);
    const struct yaml_node *variables = n->n ? yaml_get(n->items[0], "variables") : NULL;
    if (variables)
        read_variables(r, variables);
    read_items(r, n, &needs, NULL);
    if (!r->plan->n_jobs)
        bb_error(r, n, "value", "the pipeline has no steps");
    map_done(&r->ids);
    r->ids = (struct map){0};
}

int bitbucket_check(const char *file, struct sv text, struct diags *d) {
    struct diags found = {.max = 10000};
    _cleanup_plan_ struct plan *p = xcalloc(1, sizeof *p);
    struct bb_reader r = {.plan = p, .a = &p->arena, .d = &found};
    size_t before = d->errors;
    parse(&r, file, arena_sv(r.a, text));
    const struct yaml_node *pipelines = r.root ? yaml_get(r.root, "pipelines") : NULL;
    for (size_t i = 0; pipelines && pipelines->kind == YAML_MAP && i < pipelines->n; i++) {
        const struct yaml_node *n = pipelines->items[i];
        if (yaml_is(pipelines->keys[i], "default"))
            check_pipeline(&r, n);
        for (size_t k = 0; n->kind == YAML_MAP && k < n->n; k++)
            check_pipeline(&r, n->items[k]);
    }
    diags_sort(&found);
    add_once(d, &found);
    diags_done(&found);
    return d->errors > before ? -EBADMSG : 0;
}

int bitbucket_list(const char *file, struct sv text, struct strv *ret_names, struct diags *d) {
    static const char *const kinds[] = {"branches", "tags", "pull-requests", "custom"};
    _cleanup_arena_ struct arena a = {0};
    struct bb_reader r = {.a = &a, .d = d};
    if (parse(&r, file, arena_sv(&a, text)) < 0)
        return -EBADMSG;
    const struct yaml_node *pipelines = yaml_get(r.root, "pipelines");
    if (yaml_get(pipelines, "default"))
        strv_add(ret_names, "default");
    for (size_t i = 0; i < ELEMENTS(kinds); i++) {
        const struct yaml_node *m = yaml_get(pipelines, kinds[i]);
        _cleanup_buf_ struct buf b = BUF_SMALL;
        for (size_t k = 0; m && m->kind == YAML_MAP && k < m->n; k++)
            buf_addf(&b, "%s" SV_FMT, k ? ", " : "", SV_ARG(m->keys[k]->text));
        if (b.n)
            strv_addf(ret_names, "%s: %s", kinds[i], buf_str(&b));
    }
    return 0;
}
