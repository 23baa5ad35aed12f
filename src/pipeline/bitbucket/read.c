/* bitbucket-pipelines.yml into a plan, for one ref: the table of schema.c checks the whole file,
 * then the pipeline that the ref selects is laid out. Each step becomes a job; jobs of a chain need
 * the one before, jobs of a parallel group all need what stands before the group and are all needed
 * by what follows. Stages only add properties to their steps. */
#include "core/map.h"
#include "pipeline/bitbucket/schema.h"
#include "pipeline/plan.h"

#include <stdarg.h>

enum { MAX_STEPS = 100, MAX_SERVICES = 5, MEMORY_SERVICE = 1024, MEMORY_MIN = 128 };

struct reader {
    struct plan *plan;
    struct arena *a;
    struct diags *d;
    const struct yaml_node *root, *definitions;
    struct map ids;
    size_t cap;
};
/* What a stage and a group give to their steps. */
struct around {
    const struct yaml_node *stage;
    bool first_of_stage;
    bool fail_fast;
    int index, count; /* of a parallel group; -1 */
};

static void error(struct reader *r, const struct yaml_node *n, const char *code, const char *fmt, ...)
    _printf_(4, 5);
static void error(struct reader *r, const struct yaml_node *n, const char *code, const char *fmt, ...) {
    char msg[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    diags_add(r->d, DIAG_ERROR, n->at, code, NULL, "%s", msg);
}

/* --- values ----------------------------------------------------------------------------------- */

static struct text text_of(const struct yaml_node *n) {
    if (!n || n->kind != YAML_SCALAR || yaml_scalar_type(n, NULL, NULL) == YAML_T_NULL)
        return (struct text){0};
    return (struct text){n->text.p, n->text.n, false, n->at};
}

static struct text made_text(struct reader *r, const char *s, struct span at) {
    return (struct text){s, strlen(s), false, at};
}

static const char *str_of(const struct yaml_node *n) {
    return text_of(n).s;
}

static bool flag_of(const struct yaml_node *n, bool dflt) {
    bool b = dflt;
    return n && yaml_scalar_type(n, NULL, &b) == YAML_T_BOOL ? b : dflt;
}

static long number_of(const struct yaml_node *n, long dflt) {
    double v = 0;
    enum yaml_type t = n ? yaml_scalar_type(n, &v, NULL) : YAML_T_NULL;
    if ((t != YAML_T_INT && t != YAML_T_FLOAT) || v != v)
        return dflt;
    return v < -1e9 ? -1000000000 : v > 1e9 ? 1000000000 : (long)v;
}

/* A list of strings, or one. */
static const char **strings_of(struct reader *r, const struct yaml_node *n, size_t *ret_n) {
    *ret_n = 0;
    if (!n)
        return NULL;
    size_t n_items = n->kind == YAML_SEQ ? n->n : 1;
    const char **items = ARENA_ARRAY(r->a, const char *, n_items);
    for (size_t i = 0; i < n_items; i++) {
        const char *s = str_of(n->kind == YAML_SEQ ? n->items[i] : n);
        if (s)
            items[(*ret_n)++] = s;
    }
    return items;
}

static struct text_map map_of(struct reader *r, const struct yaml_node *n) {
    struct text_map m = {0};
    if (!n || n->kind != YAML_MAP)
        return m;
    m.items = ARENA_ARRAY(r->a, struct text_pair, n->n);
    for (size_t i = 0; i < n->n; i++) {
        struct text v = text_of(n->items[i]);
        if (!v.s)
            v = made_text(r, "", n->items[i]->at);
        m.items[m.n++] = (struct text_pair){text_of(n->keys[i]), v};
    }
    return m;
}

/* --- images and services ---------------------------------------------------------------------- */

static void read_image(struct reader *r, const struct yaml_node *n, struct plan_container *c,
                       uint32_t *ret_user) {
    if (!n)
        return;
    c->at = n->at;
    if (n->kind == YAML_SCALAR) {
        c->image = text_of(n);
        return;
    }
    c->image = text_of(yaml_get(n, "name"));
    c->username = text_of(yaml_get(n, "username"));
    c->password = text_of(yaml_get(n, "password"));
    const struct yaml_node *user = yaml_get(n, "run-as-user");
    if (user && ret_user)
        *ret_user = (uint32_t)number_of(user, 0);
    if (!c->image.s)
        error(r, n, "image", "an image needs a name");
}

static void read_service(struct reader *r, const char *name, const struct yaml_node *at,
                         struct plan_container *c) {
    const struct yaml_node *def = yaml_get(yaml_get(r->definitions, "services"), name);
    c->id = name;
    c->at = at->at;
    bool docker = streq(name, "docker") || (def && yaml_is(yaml_get(def, "type"), "docker"));
    long memory = number_of(def ? yaml_get(def, "memory") : NULL, MEMORY_SERVICE);
    c->docker_service = docker;
    c->memory = (uint64_t)memory << 20;
    if (memory < MEMORY_MIN || memory > 1 << 20)
        error(r, yaml_get(def, "memory"), "memory", "the memory of a service must be at least %d MB", MEMORY_MIN);
    if (!def) {
        if (!docker)
            error(r, at, "service", "there is no service \"%s\" in definitions.services", name);
        return;
    }
    read_image(r, yaml_get(def, "image"), c, NULL);
    if (!c->username.s)
        c->username = text_of(yaml_get(def, "username"));
    if (!c->password.s)
        c->password = text_of(yaml_get(def, "password"));
    const struct yaml_node *vars = yaml_get(def, "variables");
    c->env = map_of(r, vars ? vars : yaml_get(def, "environment"));
    if (!c->image.s && !docker)
        error(r, def, "service", "the service \"%s\" needs an image", name);
}

static bool listed(const struct yaml_node *list, const char *name) {
    for (size_t i = 0; list && i < list->n; i++)
        if (yaml_is(list->items[i], name))
            return true;
    return false;
}

static void read_services(struct reader *r, const struct yaml_node *step, struct plan_job *j) {
    const struct yaml_node *list = yaml_get(step, "services");
    const struct yaml_node *docker = yaml_get(yaml_get(r->root, "options"), "docker");
    size_t n = list ? list->n : 0;
    bool add = flag_of(docker, false) && !listed(list, "docker");
    if (n > MAX_SERVICES)
        error(r, list, "service", "a step may have at most %d services", MAX_SERVICES);
    j->services = ARENA_ARRAY(r->a, struct plan_container, n + 1);
    for (size_t i = 0; i < n; i++) {
        const char *name = str_of(list->items[i]);
        if (name)
            read_service(r, name, list->items[i], &j->services[j->n_services++]);
    }
    if (add)
        read_service(r, "docker", docker, &j->services[j->n_services++]);
}

static void read_caches(struct reader *r, const struct yaml_node *list, struct plan_bitbucket *bb) {
    static const struct {
        const char *name, *path;
    } known[] = {{"composer", "~/.composer/cache"}, {"docker", NULL}, {"dotnetcore", "~/.nuget/packages"},
                 {"gradle", "~/.gradle/caches"}, {"ivy2", "~/.ivy2/cache"}, {"maven", "~/.m2/repository"},
                 {"node", "node_modules"}, {"pip", "~/.cache/pip"}, {"sbt", "~/.sbt"}};
    const struct yaml_node *defs = yaml_get(r->definitions, "caches");
    if (!list)
        return;
    bb->caches = ARENA_ARRAY(r->a, struct plan_cache, list->n);
    for (size_t i = 0; i < list->n; i++) {
        const char *name = str_of(list->items[i]);
        if (!name)
            continue;
        struct plan_cache c = {.name = name};
        const struct yaml_node *def = yaml_get(defs, name);
        bool found = def != NULL;
        if (def && def->kind == YAML_MAP) {
            c.path = str_of(yaml_get(def, "path"));
            c.key_files = strings_of(r, yaml_get(yaml_get(def, "key"), "files"), &c.n_key_files);
            if (!c.path)
                error(r, def, "cache", "the cache \"%s\" needs a path", name);
        } else if (def) {
            c.path = str_of(def);
        }
        for (size_t k = 0; !found && k < ELEMENTS(known); k++) {
            if (!streq(known[k].name, name))
                continue;
            found = true;
            c.path = known[k].path;
        }
        if (!found)
            error(r, list->items[i], "cache", "there is no cache \"%s\": neither a predefined one nor in definitions.caches", name);
        bb->caches[bb->n_caches++] = c;
    }
}

/* --- artifacts and conditions ----------------------------------------------------------------- */

static void read_artifacts(struct reader *r, const struct yaml_node *n, struct plan_bitbucket *bb) {
    if (!n)
        return;
    const struct yaml_node *uploads = n->kind == YAML_MAP ? yaml_get(n, "upload") : NULL;
    const struct yaml_node *paths = n->kind == YAML_MAP ? yaml_get(n, "paths") : n;
    bb->artifacts = ARENA_ARRAY(r->a, struct plan_artifact, (uploads ? uploads->n : 0) + 1);
    if (paths) {
        struct plan_artifact *x = &bb->artifacts[bb->n_artifacts++];
        x->paths = strings_of(r, paths, &x->n_paths);
        x->capture_on = "success";
        x->type = "shared";
    }
    for (size_t i = 0; uploads && i < uploads->n; i++) {
        const struct yaml_node *u = uploads->items[i];
        struct plan_artifact *x = &bb->artifacts[bb->n_artifacts++];
        const char *type = str_of(yaml_get(u, "type")), *on = str_of(yaml_get(u, "capture-on"));
        x->name = str_of(yaml_get(u, "name"));
        x->paths = strings_of(r, yaml_get(u, "paths"), &x->n_paths);
        x->ignore = strings_of(r, yaml_get(u, "ignore-paths"), &x->n_ignore);
        x->type = type ? type : "shared";
        x->capture_on = on ? on : "success";
        x->depth = (int)number_of(yaml_get(u, "depth"), 0);
        if (!x->n_paths && !streq(x->type, "test-reports"))
            error(r, u, "artifact", "an upload needs paths");
    }
    const struct yaml_node *download = n->kind == YAML_MAP ? yaml_get(n, "download") : NULL;
    if (download && download->kind == YAML_SEQ)
        bb->artifacts_download = strings_of(r, download, &bb->n_artifacts_download);
    else
        bb->artifacts_download_none = !flag_of(download, true);
}

static void read_condition(struct reader *r, const struct yaml_node *n, struct plan_bitbucket *bb) {
    const struct yaml_node *c = yaml_get(n, "changesets");
    if (!c)
        return;
    bb->include_paths = strings_of(r, yaml_get(c, "includePaths"), &bb->n_include);
    bb->exclude_paths = strings_of(r, yaml_get(c, "excludePaths"), &bb->n_exclude);
    if (!bb->n_include && !bb->n_exclude)
        error(r, c, "condition", "changesets needs includePaths or excludePaths");
}

static void read_on_fail(struct reader *r, const struct yaml_node *n, struct plan_bitbucket *bb) {
    static const char *const names[] = {"fail", "ignore", "retry"};
    const char *s = n ? str_of(yaml_get(n, "strategy")) : NULL;
    const struct yaml_node *count = n ? yaml_get(n, "count") : NULL;
    if (!n)
        return;
    if (!count)
        count = yaml_get(n, "max-retries");
    bb->on_fail = -1;
    for (int i = 0; s && i < 3; i++)
        if (streq(names[i], s))
            bb->on_fail = i;
    long retries = number_of(count, 1);
    if (bb->on_fail < 0)
        error(r, n, "on-fail", "the strategy must be one of fail, ignore, retry");
    else if (retries < 1 || retries > 10)
        error(r, count, "on-fail", "the number of retries must be from 1 to 10");
    else
        bb->retry_count = (unsigned)retries;
}

/* --- scripts ---------------------------------------------------------------------------------- */

/* "atlassian/x:1" is published as bitbucketpipelines/x:1. */
static const char *pipe_image(struct reader *r, const char *pipe) {
    const char *rest = startswith(pipe, "docker://");
    if (rest)
        return pipe;
    rest = startswith(pipe, "atlassian/");
    return rest ? arena_printf(r->a, "docker://bitbucketpipelines/%s", rest)
                : arena_printf(r->a, "pipe://%s", pipe);
}

/* A list becomes NAME_0, NAME_1, … and NAME_COUNT. */
static struct text_map pipe_variables(struct reader *r, const struct yaml_node *n) {
    struct text_map m = {0};
    if (!n || n->kind != YAML_MAP)
        return m;
    size_t total = 0;
    for (size_t i = 0; i < n->n; i++)
        total += n->items[i]->kind == YAML_SEQ ? n->items[i]->n + 1 : 1;
    m.items = ARENA_ARRAY(r->a, struct text_pair, total);
    for (size_t i = 0; i < n->n; i++) {
        const struct yaml_node *v = n->items[i];
        struct text key = text_of(n->keys[i]);
        if (v->kind == YAML_MAP || !key.s) {
            error(r, v, "pipe", "a variable of a pipe is a text or a list of texts");
            continue;
        }
        for (size_t k = 0; v->kind == YAML_SEQ && k < v->n; k++) {
            struct text item = text_of(v->items[k]);
            m.items[m.n++] = (struct text_pair){
                made_text(r, arena_printf(r->a, "%s_%zu", key.s, k), v->items[k]->at),
                item.s ? item : made_text(r, "", v->items[k]->at)};
        }
        if (v->kind == YAML_SEQ)
            m.items[m.n++] = (struct text_pair){made_text(r, arena_printf(r->a, "%s_COUNT", key.s), v->at),
                                                made_text(r, arena_printf(r->a, "%zu", v->n), v->at)};
        else
            m.items[m.n++] = (struct text_pair){key, text_of(v).s ? text_of(v) : made_text(r, "", v->at)};
    }
    return m;
}

static struct plan_step *new_step(struct reader *r, struct plan_job *j, struct span at, bool after) {
    struct plan_step *s = &j->steps[j->n_steps++];
    s->at = at;
    s->after_script = after;
    s->id = arena_printf(r->a, "__%s_%zu", after ? "after" : "script", j->n_steps);
    s->id_generated = true;
    if (after)
        s->if_ = made_text(r, "always()", at);
    return s;
}

/* The commands from..to as one script. */
static void add_commands(struct reader *r, struct plan_job *j, const struct yaml_node *list, size_t from,
                         size_t to, bool after) {
    if (from == to)
        return;
    _cleanup_buf_ struct buf b = BUF_LARGE;
    for (size_t i = from; i < to; i++) {
        buf_addsv(&b, list->items[i]->text);
        if (!b.n || b.p[b.n - 1] != '\n')
            buf_addc(&b, '\n');
    }
    struct plan_step *s = new_step(r, j, list->items[from]->at, after);
    struct sv text = arena_sv(r->a, buf_sv(&b));
    s->kind = STEP_RUN;
    s->run = (struct text){text.p, text.n, false, list->items[from]->at};
    s->name = made_text(r, after ? "after-script" : "script", s->at);
}

static void read_script(struct reader *r, struct plan_job *j, const struct yaml_node *list, bool after) {
    size_t from = 0;
    for (size_t i = 0; list && i < list->n; i++) {
        const struct yaml_node *x = list->items[i];
        if (x->kind != YAML_MAP)
            continue;
        add_commands(r, j, list, from, i, after);
        from = i + 1;
        const char *pipe = str_of(yaml_get(x, "pipe"));
        if (!pipe) {
            error(r, x, "script", "a mapping in a script must be a pipe; quote a command that has \": \" in it");
            continue;
        }
        struct plan_step *s = new_step(r, j, x->at, after);
        const char *name = str_of(yaml_get(x, "name"));
        s->kind = STEP_USES;
        s->uses = made_text(r, pipe_image(r, pipe), x->at);
        s->name = made_text(r, name ? name : arena_printf(r->a, "pipe %s", pipe), x->at);
        s->env = pipe_variables(r, yaml_get(x, "variables"));
    }
    if (list)
        add_commands(r, j, list, from, list->n, after);
}

/* --- steps ------------------------------------------------------------------------------------ */

static const char *make_id(struct reader *r, const char *name, size_t number) {
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
    const char *stem = n ? arena_strdup(r->a, slug) : arena_printf(r->a, "step-%zu", number), *id = stem;
    for (unsigned k = 2; map_gets(&r->ids, id); k++)
        id = arena_printf(r->a, "%s-%u", stem, k);
    map_sets(&r->ids, id, (void *)id);
    return id;
}

static void read_clone(const struct yaml_node *n, struct plan_bitbucket *bb) {
    if (!n)
        return;
    const struct yaml_node *depth = yaml_get(n, "depth");
    bb->clone_disabled = !flag_of(yaml_get(n, "enabled"), !bb->clone_disabled);
    bb->clone_lfs = flag_of(yaml_get(n, "lfs"), bb->clone_lfs);
    if (depth)
        bb->clone_depth = yaml_is(depth, "full") ? -1 : (int)number_of(depth, 0);
}

static void read_properties(struct reader *r, const struct yaml_node *n, struct plan_job *j,
                            const struct around *in) {
    struct plan_bitbucket *bb = j->bb;
    const struct yaml_node *options = yaml_get(r->root, "options"), *v;
    const struct yaml_node *stage = in->stage;
    bb->run_as_user = UINT32_MAX;
    bb->parallel_index = in->index;
    bb->parallel_count = in->count;
    bb->fail_fast = flag_of(yaml_get(n, "fail-fast"), in->fail_fast);
    bb->oidc = flag_of(yaml_get(n, "oidc"), false);
    v = yaml_get(n, "image");
    read_image(r, v ? v : yaml_get(r->root, "image"), &j->container, &bb->run_as_user);
    v = yaml_get(n, "size");
    v = v ? v : yaml_get(options, "size");
    bb->size = v ? (unsigned)atoi(v->text.p) : 1;
    v = yaml_get(n, "max-time");
    j->timeout_minutes = text_of(v ? v : yaml_get(options, "max-time"));
    v = yaml_get(n, "trigger");
    v = !v && stage && in->first_of_stage ? yaml_get(stage, "trigger") : v;
    bb->manual = yaml_is(v, "manual");
    v = yaml_get(n, "deployment");
    v = v ? v : yaml_get(n, "environment");
    v = !v && stage ? yaml_get(stage, "deployment") : v;
    v = !v && stage ? yaml_get(stage, "environment") : v;
    bb->deployment = str_of(v);
    j->environment.name = text_of(v);
    v = yaml_get(n, "concurrency-group");
    bb->concurrency_group = str_of(v);
    v = yaml_get(n, "condition");
    read_condition(r, !v && stage ? yaml_get(stage, "condition") : v, bb);
    read_clone(yaml_get(r->root, "clone"), bb);
    read_clone(yaml_get(n, "clone"), bb);
    read_caches(r, yaml_get(n, "caches"), bb);
    read_artifacts(r, yaml_get(n, "artifacts"), bb);
    read_on_fail(r, yaml_get(n, "on-fail"), bb);
    bb->output_variables = strings_of(r, yaml_get(n, "output-variables"), &bb->n_output_variables);
    v = yaml_get(n, "runs-on");
    size_t labels;
    const char **names = strings_of(r, v, &labels);
    j->runs_on.items = ARENA_ARRAY(r->a, struct text, labels);
    for (size_t i = 0; i < labels; i++)
        j->runs_on.items[j->runs_on.n++] = made_text(r, names[i], v->at);
}

static void read_step(struct reader *r, const struct yaml_node *n, const struct text_list *needs,
                      const struct around *in) {
    struct plan *p = r->plan;
    if (n->kind != YAML_MAP)
        return;
    if (p->n_jobs == MAX_STEPS) {
        error(r, n, "limit", "a pipeline may have at most %d steps", MAX_STEPS);
        return;
    }
    struct plan_job *j = &p->jobs[p->n_jobs++];
    const char *name = str_of(yaml_get(n, "name"));
    const struct yaml_node *script = yaml_get(n, "script"), *after = yaml_get(n, "after-script");
    j->id = make_id(r, name, p->n_jobs);
    j->at = n->at;
    j->name = name ? text_of(yaml_get(n, "name")) : made_text(r, arena_printf(r->a, "Step %zu", p->n_jobs), n->at);
    j->needs = *needs;
    j->bb = ARENA_NEW(r->a, struct plan_bitbucket);
    read_properties(r, n, j, in);
    read_services(r, n, j);
    if (yaml_is(yaml_get(n, "type"), "pipeline")) {
        error(r, n, "child-pipeline", "steps that start a child pipeline: not yet");
        return;
    }
    if (!script || script->kind != YAML_SEQ || !script->n) {
        error(r, script ? script : n, "script", "a step needs a script with at least one command");
        return;
    }
    j->steps = ARENA_ARRAY(r->a, struct plan_step, 2 * (script->n + (after ? after->n : 0)) + 2);
    read_script(r, j, script, false);
    read_script(r, j, after && after->kind == YAML_SEQ ? after : NULL, true);
}

/* The jobs from..to as what the next ones need. */
static struct text_list needs_of(struct reader *r, size_t from, size_t to) {
    struct text_list l = {.items = ARENA_ARRAY(r->a, struct text, to - from)};
    for (size_t i = from; i < to; i++)
        l.items[l.n++] = made_text(r, r->plan->jobs[i].id, r->plan->jobs[i].at);
    return l;
}

static void read_items(struct reader *r, const struct yaml_node *list, struct text_list *needs,
                       const struct yaml_node *stage);

static void read_parallel(struct reader *r, const struct yaml_node *n, struct text_list *needs,
                          const struct yaml_node *stage) {
    const struct yaml_node *steps = n->kind == YAML_MAP ? yaml_get(n, "steps") : n;
    size_t from = r->plan->n_jobs;
    if (!steps || steps->kind != YAML_SEQ || !steps->n) {
        error(r, n, "parallel", "a parallel group needs steps");
        return;
    }
    for (size_t i = 0; i < steps->n; i++) {
        const struct yaml_node *step = yaml_get(steps->items[i], "step");
        struct around in = {stage, false, flag_of(yaml_get(n, "fail-fast"), false), (int)i, (int)steps->n};
        if (step)
            read_step(r, step, needs, &in);
        else
            error(r, steps->items[i], "parallel", "a parallel group holds steps only");
    }
    if (r->plan->n_jobs > from)
        *needs = needs_of(r, from, r->plan->n_jobs);
}

static void read_items(struct reader *r, const struct yaml_node *list, struct text_list *needs,
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
                error(r, n, "stage", "a stage needs steps");
            read_items(r, yaml_get(n, "steps"), needs, n);
        } else if (yaml_get(x, "variables") && i > 0) {
            error(r, x, "variables", "variables stand before the first step");
        }
    }
}

static void read_variables(struct reader *r, const struct yaml_node *list) {
    struct plan_trigger *t = ARENA_NEW(r->a, struct plan_trigger);
    t->event = "custom";
    t->at = list->at;
    r->plan->triggers = t;
    r->plan->n_triggers = 1;
    t->inputs = ARENA_ARRAY(r->a, struct plan_input, list->n);
    for (size_t i = 0; list->kind == YAML_SEQ && i < list->n; i++) {
        const struct yaml_node *v = list->items[i];
        struct plan_input *in = &t->inputs[t->n_inputs++];
        in->name = str_of(yaml_get(v, "name"));
        in->at = v->at;
        in->description = str_of(yaml_get(v, "description"));
        in->dflt = text_of(yaml_get(v, "default"));
        in->options = strings_of(r, yaml_get(v, "allowed-values"), &in->n_options);
        in->type = in->n_options ? INPUT_CHOICE : INPUT_STRING;
        in->required = !in->dflt.s;
        if (!in->name) {
            error(r, v, "variables", "a variable needs a name");
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
    case BB_PUSH_TAG: return by_pattern(yaml_get(pipelines, "tags"), ref);
    case BB_PULL_REQUEST: return by_pattern(yaml_get(pipelines, "pull-requests"), ref);
    case BB_CUSTOM: return yaml_get(yaml_get(pipelines, "custom"), ref);
    }
    return NULL;
}

static int parse(struct reader *r, const char *file, struct sv text) {
    struct yaml_limits lim = {.merge = true};
    struct yaml_node *root = NULL;
    size_t before = r->d->errors;
    if (yaml_parse(r->a, file, text, &lim, &root, r->d) < 0)
        return -EBADMSG;
    if (!root || root->kind != YAML_MAP) {
        diags_add(r->d, DIAG_ERROR, root ? root->at : (struct span){.file = span_file(file)}, "value", NULL,
                  "the file needs a mapping with `pipelines`");
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
    struct reader r = {.plan = p, .a = &p->arena, .d = d};
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
        error(&r, n, "import", "imported pipelines: not yet");
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
        error(&r, n, "value", "the pipeline has no steps");
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

static void check_pipeline(struct reader *r, const struct yaml_node *n) {
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
        error(r, n, "value", "the pipeline has no steps");
    map_done(&r->ids);
    r->ids = (struct map){0};
}

int bitbucket_check(const char *file, struct sv text, struct diags *d) {
    struct diags found = {.max = 10000};
    _cleanup_plan_ struct plan *p = xcalloc(1, sizeof *p);
    struct reader r = {.plan = p, .a = &p->arena, .d = &found};
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
    struct reader r = {.a = &a, .d = d};
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
