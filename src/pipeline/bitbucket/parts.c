/* The parts of a Bitbucket step: image, services, caches, artifacts, conditions, scripts and pipes.
 */
#include "pipeline/bitbucket/read.h"

#include <stdarg.h>

enum { MAX_SERVICES = 5, MEMORY_SERVICE = 1024, MEMORY_MIN = 128 };

void bb_error(struct bb_reader *r, const struct yaml_node *n, const char *code, const char *fmt,
              ...) {
    char msg[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    diags_add(r->d, DIAG_ERROR, n->at, code, NULL, "%s", msg);
}

/* --- values ----------------------------------------------------------------------------------- */

struct text bb_text(const struct yaml_node *n) {
    if (!n || n->kind != YAML_SCALAR || yaml_scalar_type(n, NULL, NULL) == YAML_T_NULL)
        return (struct text){0};
    return (struct text){n->text.p, n->text.n, false, n->at};
}

struct text bb_made(struct bb_reader *r, const char *s, struct span at) {
    return (struct text){s, strlen(s), false, at};
}

const char *bb_str(const struct yaml_node *n) {
    return bb_text(n).s;
}

bool bb_flag(const struct yaml_node *n, bool dflt) {
    bool b = dflt;
    return n && yaml_scalar_type(n, NULL, &b) == YAML_T_BOOL ? b : dflt;
}

long bb_number(const struct yaml_node *n, long dflt) {
    double v = 0;
    enum yaml_type t = n ? yaml_scalar_type(n, &v, NULL) : YAML_T_NULL;
    if ((t != YAML_T_INT && t != YAML_T_FLOAT) || v != v)
        return dflt;
    return v < -1e9 ? -1000000000 : v > 1e9 ? 1000000000 : (long)v;
}

/* A list of strings, or one. */
const char **bb_strings(struct bb_reader *r, const struct yaml_node *n, size_t *ret_n) {
    *ret_n = 0;
    if (!n)
        return NULL;
    size_t n_items = n->kind == YAML_SEQ ? n->n : 1;
    const char **items = ARENA_ARRAY(r->a, const char *, n_items);
    for (size_t i = 0; i < n_items; i++) {
        const char *s = bb_str(n->kind == YAML_SEQ ? n->items[i] : n);
        if (s)
            items[(*ret_n)++] = s;
    }
    return items;
}

static struct text_map map_of(struct bb_reader *r, const struct yaml_node *n) {
    struct text_map m = {0};
    if (!n || n->kind != YAML_MAP)
        return m;
    m.items = ARENA_ARRAY(r->a, struct text_pair, n->n);
    for (size_t i = 0; i < n->n; i++) {
        struct text v = bb_text(n->items[i]);
        if (!v.s)
            v = bb_made(r, "", n->items[i]->at);
        m.items[m.n++] = (struct text_pair){bb_text(n->keys[i]), v};
    }
    return m;
}

/* --- images and services ---------------------------------------------------------------------- */

void bb_image(struct bb_reader *r, const struct yaml_node *n, struct plan_container *c,
              uint32_t *ret_user) {
    if (!n)
        return;
    c->at = n->at;
    if (n->kind == YAML_SCALAR) {
        c->image = bb_text(n);
        return;
    }
    c->image = bb_text(yaml_get(n, "name"));
    c->username = bb_text(yaml_get(n, "username"));
    c->password = bb_text(yaml_get(n, "password"));
    const struct yaml_node *user = yaml_get(n, "run-as-user");
    if (user && ret_user)
        *ret_user = (uint32_t)bb_number(user, 0);
    if (!c->image.s)
        bb_error(r, n, "image", "an image needs a name");
}

static void read_service(struct bb_reader *r, const char *name, const struct yaml_node *at,
                         struct plan_container *c) {
    const struct yaml_node *def = yaml_get(yaml_get(r->definitions, "services"), name);
    c->id = name;
    c->at = at->at;
    bool docker = streq(name, "docker") || (def && yaml_is(yaml_get(def, "type"), "docker"));
    long memory = bb_number(def ? yaml_get(def, "memory") : NULL, MEMORY_SERVICE);
    c->docker_service = docker;
    c->memory = (uint64_t)memory << 20;
    if (memory < MEMORY_MIN || memory > 1 << 20)
        bb_error(r, yaml_get(def, "memory"), "memory",
                 "the memory of a service must be at least %d MB", MEMORY_MIN);
    if (!def) {
        if (!docker)
            bb_error(r, at, "service", "there is no service \"%s\" in definitions.services", name);
        return;
    }
    bb_image(r, yaml_get(def, "image"), c, NULL);
    if (!c->username.s)
        c->username = bb_text(yaml_get(def, "username"));
    if (!c->password.s)
        c->password = bb_text(yaml_get(def, "password"));
    const struct yaml_node *vars = yaml_get(def, "variables");
    c->env = map_of(r, vars ? vars : yaml_get(def, "environment"));
    if (!c->image.s && !docker)
        bb_error(r, def, "service", "the service \"%s\" needs an image", name);
}

static bool listed(const struct yaml_node *list, const char *name) {
    for (size_t i = 0; list && i < list->n; i++)
        if (yaml_is(list->items[i], name))
            return true;
    return false;
}

void bb_services(struct bb_reader *r, const struct yaml_node *step, struct plan_job *j) {
    const struct yaml_node *list = yaml_get(step, "services");
    const struct yaml_node *docker = yaml_get(yaml_get(r->root, "options"), "docker");
    size_t n = list ? list->n : 0;
    bool add = bb_flag(docker, false) && !listed(list, "docker");
    if (n > MAX_SERVICES)
        bb_error(r, list, "service", "a step may have at most %d services", MAX_SERVICES);
    j->services = ARENA_ARRAY(r->a, struct plan_container, n + 1);
    for (size_t i = 0; i < n; i++) {
        const char *name = bb_str(list->items[i]);
        if (name)
            read_service(r, name, list->items[i], &j->services[j->n_services++]);
    }
    if (add)
        read_service(r, "docker", docker, &j->services[j->n_services++]);
}

void bb_caches(struct bb_reader *r, const struct yaml_node *list, struct plan_bitbucket *bb) {
    static const struct {
        const char *name, *path;
    } known[] = {{"composer", "~/.composer/cache"},
                 {"docker", NULL},
                 {"dotnetcore", "~/.nuget/packages"},
                 {"gradle", "~/.gradle/caches"},
                 {"ivy2", "~/.ivy2/cache"},
                 {"maven", "~/.m2/repository"},
                 {"node", "node_modules"},
                 {"pip", "~/.cache/pip"},
                 {"sbt", "~/.sbt"}};
    const struct yaml_node *defs = yaml_get(r->definitions, "caches");
    if (!list)
        return;
    bb->caches = ARENA_ARRAY(r->a, struct plan_cache, list->n);
    for (size_t i = 0; i < list->n; i++) {
        const char *name = bb_str(list->items[i]);
        if (!name)
            continue;
        struct plan_cache c = {.name = name};
        const struct yaml_node *def = yaml_get(defs, name);
        bool found = def != NULL;
        if (def && def->kind == YAML_MAP) {
            c.path = bb_str(yaml_get(def, "path"));
            c.key_files = bb_strings(r, yaml_get(yaml_get(def, "key"), "files"), &c.n_key_files);
            if (!c.path)
                bb_error(r, def, "cache", "the cache \"%s\" needs a path", name);
        } else if (def) {
            c.path = bb_str(def);
        }
        for (size_t k = 0; !found && k < ELEMENTS(known); k++) {
            if (!streq(known[k].name, name))
                continue;
            found = true;
            c.path = known[k].path;
        }
        if (!found)
            bb_error(r, list->items[i], "cache",
                     "there is no cache \"%s\": neither a predefined one nor in definitions.caches",
                     name);
        bb->caches[bb->n_caches++] = c;
    }
}

/* --- artifacts and conditions ----------------------------------------------------------------- */

void bb_artifacts(struct bb_reader *r, const struct yaml_node *n, struct plan_bitbucket *bb) {
    if (!n)
        return;
    const struct yaml_node *uploads = n->kind == YAML_MAP ? yaml_get(n, "upload") : NULL;
    const struct yaml_node *paths = n->kind == YAML_MAP ? yaml_get(n, "paths") : n;
    bb->artifacts = ARENA_ARRAY(r->a, struct plan_artifact, (uploads ? uploads->n : 0) + 1);
    if (paths) {
        struct plan_artifact *x = &bb->artifacts[bb->n_artifacts++];
        x->paths = bb_strings(r, paths, &x->n_paths);
        x->capture_on = "success";
        x->type = "shared";
    }
    for (size_t i = 0; uploads && i < uploads->n; i++) {
        const struct yaml_node *u = uploads->items[i];
        struct plan_artifact *x = &bb->artifacts[bb->n_artifacts++];
        const char *type = bb_str(yaml_get(u, "type")), *on = bb_str(yaml_get(u, "capture-on"));
        x->name = bb_str(yaml_get(u, "name"));
        x->paths = bb_strings(r, yaml_get(u, "paths"), &x->n_paths);
        x->ignore = bb_strings(r, yaml_get(u, "ignore-paths"), &x->n_ignore);
        x->type = type ? type : "shared";
        x->capture_on = on ? on : "success";
        x->depth = (int)bb_number(yaml_get(u, "depth"), 0);
        if (!x->n_paths && !streq(x->type, "test-reports"))
            bb_error(r, u, "artifact", "an upload needs paths");
    }
    const struct yaml_node *download = n->kind == YAML_MAP ? yaml_get(n, "download") : NULL;
    if (download && download->kind == YAML_SEQ)
        bb->artifacts_download = bb_strings(r, download, &bb->n_artifacts_download);
    else
        bb->artifacts_download_none = !bb_flag(download, true);
}

void bb_condition(struct bb_reader *r, const struct yaml_node *n, struct plan_bitbucket *bb) {
    const struct yaml_node *c = yaml_get(n, "changesets");
    if (!c)
        return;
    bb->include_paths = bb_strings(r, yaml_get(c, "includePaths"), &bb->n_include);
    bb->exclude_paths = bb_strings(r, yaml_get(c, "excludePaths"), &bb->n_exclude);
    if (!bb->n_include && !bb->n_exclude)
        bb_error(r, c, "condition", "changesets needs includePaths or excludePaths");
}

void bb_on_fail(struct bb_reader *r, const struct yaml_node *n, struct plan_bitbucket *bb) {
    static const char *const names[] = {"fail", "ignore", "retry"};
    const char *s = n ? bb_str(yaml_get(n, "strategy")) : NULL;
    const struct yaml_node *count = n ? yaml_get(n, "count") : NULL;
    if (!n)
        return;
    if (!count)
        count = yaml_get(n, "max-retries");
    bb->on_fail = -1;
    for (int i = 0; s && i < 3; i++)
        if (streq(names[i], s))
            bb->on_fail = i;
    long retries = bb_number(count, 1);
    if (bb->on_fail < 0)
        bb_error(r, n, "on-fail", "the strategy must be one of fail, ignore, retry");
    else if (retries < 1 || retries > 10)
        bb_error(r, count, "on-fail", "the number of retries must be from 1 to 10");
    else
        bb->retry_count = (unsigned)retries;
}

/* --- scripts ---------------------------------------------------------------------------------- */

/* "atlassian/x:1" is published as bitbucketpipelines/x:1. */
static const char *pipe_image(struct bb_reader *r, const char *pipe) {
    const char *rest = startswith(pipe, "docker://");
    if (rest)
        return pipe;
    rest = startswith(pipe, "atlassian/");
    return rest ? arena_printf(r->a, "docker://bitbucketpipelines/%s", rest)
                : arena_printf(r->a, "pipe://%s", pipe);
}

/* A list becomes NAME_0, NAME_1, … and NAME_COUNT. */
static struct text_map pipe_variables(struct bb_reader *r, const struct yaml_node *n) {
    struct text_map m = {0};
    if (!n || n->kind != YAML_MAP)
        return m;
    size_t total = 0;
    for (size_t i = 0; i < n->n; i++)
        total += n->items[i]->kind == YAML_SEQ ? n->items[i]->n + 1 : 1;
    m.items = ARENA_ARRAY(r->a, struct text_pair, total);
    for (size_t i = 0; i < n->n; i++) {
        const struct yaml_node *v = n->items[i];
        struct text key = bb_text(n->keys[i]);
        if (v->kind == YAML_MAP || !key.s) {
            bb_error(r, v, "pipe", "a variable of a pipe is a text or a list of texts");
            continue;
        }
        for (size_t k = 0; v->kind == YAML_SEQ && k < v->n; k++) {
            struct text item = bb_text(v->items[k]);
            m.items[m.n++] = (struct text_pair){
                bb_made(r, arena_printf(r->a, "%s_%zu", key.s, k), v->items[k]->at),
                item.s ? item : bb_made(r, "", v->items[k]->at)};
        }
        if (v->kind == YAML_SEQ)
            m.items[m.n++] =
                (struct text_pair){bb_made(r, arena_printf(r->a, "%s_COUNT", key.s), v->at),
                                   bb_made(r, arena_printf(r->a, "%zu", v->n), v->at)};
        else
            m.items[m.n++] =
                (struct text_pair){key, bb_text(v).s ? bb_text(v) : bb_made(r, "", v->at)};
    }
    return m;
}

static struct plan_step *new_step(struct bb_reader *r, struct plan_job *j, struct span at,
                                  bool after) {
    struct plan_step *s = &j->steps[j->n_steps++];
    s->at = at;
    s->after_script = after;
    s->id = arena_printf(r->a, "__%s_%zu", after ? "after" : "script", j->n_steps);
    s->id_generated = true;
    if (after)
        s->if_ = bb_made(r, "always()", at);
    return s;
}

/* The commands from..to as one script. */
static void add_commands(struct bb_reader *r, struct plan_job *j, const struct yaml_node *list,
                         size_t from, size_t to, bool after) {
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
    s->name = bb_made(r, after ? "after-script" : "script", s->at);
}

void bb_script(struct bb_reader *r, struct plan_job *j, const struct yaml_node *list, bool after) {
    size_t from = 0;
    for (size_t i = 0; list && i < list->n; i++) {
        const struct yaml_node *x = list->items[i];
        if (x->kind != YAML_MAP)
            continue;
        add_commands(r, j, list, from, i, after);
        from = i + 1;
        const char *pipe = bb_str(yaml_get(x, "pipe"));
        if (!pipe) {
            bb_error(r, x, "script",
                     "a mapping in a script must be a pipe; quote a command that has \": \" in it");
            continue;
        }
        struct plan_step *s = new_step(r, j, x->at, after);
        const char *name = bb_str(yaml_get(x, "name"));
        s->kind = STEP_USES;
        s->uses = bb_made(r, pipe_image(r, pipe), x->at);
        s->name = bb_made(r, name ? name : arena_printf(r->a, "pipe %s", pipe), x->at);
        s->env = pipe_variables(r, yaml_get(x, "variables"));
    }
    if (list)
        add_commands(r, j, list, from, list->n, after);
}
