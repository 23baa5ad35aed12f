/* Source of the contexts: "Contexts reference" of GitHub's documentation. */
#include "pipeline/github/types.h"

const struct ty ty_any = {.kind = TY_ANY}, ty_null = {.kind = TY_NULL}, ty_bool = {.kind = TY_BOOL},
                ty_number = {.kind = TY_NUMBER}, ty_string = {.kind = TY_STRING},
                ty_strings = {.kind = TY_OBJECT, .elem = &ty_string},
                ty_anything = {.kind = TY_OBJECT, .elem = &ty_any};

struct ty *ty_object(struct arena *a, size_t cap) {
    struct ty *t = ARENA_NEW(a, struct ty);
    t->kind = TY_OBJECT;
    t->props = ARENA_ARRAY(a, struct ty_prop, cap ? cap : 1);
    return t;
}

void ty_add(struct ty *t, const char *name, const struct ty *type) {
    struct ty_prop *props = (struct ty_prop *)t->props; /* made by ty_object: not const */
    props[t->n++] = (struct ty_prop){name, type};
}

const struct ty *ty_array(struct arena *a, const struct ty *elem, bool filtered) {
    struct ty *t = ARENA_NEW(a, struct ty);
    *t = (struct ty){.kind = TY_ARRAY, .filtered = filtered, .elem = elem};
    return t;
}

const struct ty *ty_prop(const struct ty *t, struct sv name) {
    for (size_t i = 0; i < t->n; i++)
        if (strlen(t->props[i].name) == name.n &&
            strncasecmp(t->props[i].name, name.p, name.n) == 0)
            return t->props[i].type;
    return t->elem;
}

static const struct ty *union_of(struct arena *a, const struct ty *x, const struct ty *y,
                                 unsigned depth) {
    if (x == y)
        return x;
    if (x->kind != y->kind || depth > 8)
        return &ty_any;
    if (x->kind == TY_ARRAY)
        return ty_array(a, union_of(a, x->elem, y->elem, depth + 1), x->filtered && y->filtered);
    if (x->kind != TY_OBJECT)
        return x;
    struct ty *t = ty_object(a, x->n + y->n);
    for (size_t i = 0; i < x->n; i++) {
        const struct ty *other = ty_prop(y, sv_from(x->props[i].name));
        ty_add(t, x->props[i].name,
               other ? union_of(a, x->props[i].type, other, depth + 1) : x->props[i].type);
    }
    for (size_t i = 0; i < y->n; i++)
        if (!ty_prop(t, sv_from(y->props[i].name)))
            ty_add(t, y->props[i].name, y->props[i].type);
    if (x->elem || y->elem)
        t->elem = x->elem && y->elem ? union_of(a, x->elem, y->elem, depth + 1) : &ty_any;
    return t;
}

const struct ty *ty_union(struct arena *a, const struct ty *x, const struct ty *y) {
    return union_of(a, x, y, 0);
}

static const struct ty *of_json(struct arena *a, const struct json *j, unsigned depth) {
    if (depth > 8)
        return &ty_any;
    switch (j->kind) {
    case JSON_NULL:
        return &ty_null;
    case JSON_BOOL:
        return &ty_bool;
    case JSON_NUMBER:
        return &ty_number;
    case JSON_STRING:
        return &ty_string;
    case JSON_ARRAY: {
        const struct ty *elem = NULL;
        for (size_t i = 0; i < j->n; i++) {
            const struct ty *t = of_json(a, j->items[i], depth + 1);
            elem = elem ? ty_union(a, elem, t) : t;
        }
        return ty_array(a, elem ? elem : &ty_any, false);
    }
    case JSON_OBJECT:
        break;
    }
    struct ty *t = ty_object(a, j->n);
    for (size_t i = 0; i < j->n; i++)
        ty_add(t, arena_strndup(a, j->keys[i].p, j->keys[i].n), of_json(a, j->items[i], depth + 1));
    return t;
}

const struct ty *ty_of_json(struct arena *a, const struct json *j) {
    return of_json(a, j, 0);
}

static const struct ty *of_yaml(struct arena *a, const struct yaml_node *n, unsigned depth) {
    if (depth > 8)
        return &ty_any;
    if (n->kind == YAML_SCALAR) {
        if (sv_find(n->text, SV("${{")) >= 0)
            return &ty_any;
        switch (yaml_scalar_type(n, NULL, NULL)) {
        case YAML_T_NULL:
            return &ty_null;
        case YAML_T_BOOL:
            return &ty_bool;
        case YAML_T_INT:
        case YAML_T_FLOAT:
            return &ty_number;
        case YAML_T_STRING:
            return &ty_string;
        }
    }
    if (n->kind == YAML_SEQ) {
        const struct ty *elem = NULL;
        for (size_t i = 0; i < n->n; i++) {
            const struct ty *t = of_yaml(a, n->items[i], depth + 1);
            elem = elem ? ty_union(a, elem, t) : t;
        }
        return ty_array(a, elem ? elem : &ty_any, false);
    }
    struct ty *t = ty_object(a, n->n);
    for (size_t i = 0; i < n->n; i++) {
        if (n->keys[i]->kind != YAML_SCALAR || sv_find(n->keys[i]->text, SV("${{")) >= 0)
            return &ty_anything;
        ty_add(t, n->keys[i]->text.p, of_yaml(a, n->items[i], depth + 1));
    }
    return t;
}

const struct ty *ty_of_yaml(struct arena *a, const struct yaml_node *n) {
    return of_yaml(a, n, 0);
}

const char *ty_name(const struct ty *t) {
    static const char *const names[] = {"any", "null", "boolean", "number", "string", "array", "object"};
    return names[t->kind];
}

void ty_list(const struct ty *t, struct buf *b) {
    enum { SHOWN = 12 };
    if (!t->n)
        buf_adds(b, "none");
    for (size_t i = 0; i < t->n && i < SHOWN; i++)
        buf_addf(b, "%s%s", i ? ", " : "", t->props[i].name);
    if (t->n > SHOWN)
        buf_addf(b, " and %zu more", t->n - SHOWN);
}

/* --- contexts ----------------------------------------------------------------------------------- */

#define S(name) {name, &ty_string}
static const struct ty_prop github_props[] = {
    S("action"), S("action_path"), S("action_ref"), S("action_repository"), S("action_status"),
    S("actor"), S("actor_id"), S("api_url"), S("artifact_cache_size_limit"), S("base_ref"), S("env"),
    {"event", &ty_anything}, S("event_name"), S("event_path"), S("graphql_url"), S("head_ref"),
    S("host_workspace"), S("job"), S("job_workflow_sha"), S("output"), S("path"), S("ref"),
    S("ref_name"), {"ref_protected", &ty_bool}, S("ref_type"), S("repository"), S("repository_id"),
    S("repository_owner"), S("repository_owner_id"), S("repository_visibility"), S("repositoryUrl"),
    S("retention_days"), S("run_attempt"), S("run_id"), S("run_number"), S("secret_source"),
    S("server_url"), S("sha"), S("state"), S("step_summary"), S("token"), S("triggering_actor"),
    S("workflow"), S("workflow_ref"), S("workflow_sha"), S("workspace")};
static const struct ty_prop container_props[] = {S("id"), S("network")};
static const struct ty container = {.kind = TY_OBJECT, .props = container_props, .n = 2};
static const struct ty_prop service_props[] = {S("id"), S("network"), {"ports", &ty_strings}};
static const struct ty service = {.kind = TY_OBJECT, .props = service_props, .n = 3},
                       services = {.kind = TY_OBJECT, .elem = &service};
static const struct ty_prop job_props[] = {
    S("status"), {"check_run_id", &ty_number}, {"container", &container}, {"services", &services},
    S("workflow_ref"), S("workflow_sha"), S("workflow_repository"), S("workflow_file_path")};
static const struct ty_prop runner_props[] = {S("name"), S("os"), S("arch"), S("temp"),
                                              S("tool_cache"), S("debug"), S("environment"),
                                              S("workspace"), S("perflog")};
static const struct ty_prop strategy_props[] = {{"fail-fast", &ty_bool}, {"job-index", &ty_number},
                                                {"job-total", &ty_number},
                                                {"max-parallel", &ty_number}};
#undef S

const struct ty *ty_context(struct sv name) {
    static const struct {
        const char *name;
        struct ty type;
    } all[] = {
        {"github", {.kind = TY_OBJECT, .props = github_props, .n = ELEMENTS(github_props)}},
        {"job", {.kind = TY_OBJECT, .props = job_props, .n = ELEMENTS(job_props)}},
        {"runner", {.kind = TY_OBJECT, .props = runner_props, .n = ELEMENTS(runner_props)}},
        {"strategy", {.kind = TY_OBJECT, .props = strategy_props, .n = ELEMENTS(strategy_props)}},
        {"env", {.kind = TY_OBJECT, .elem = &ty_string}},
        {"vars", {.kind = TY_OBJECT, .elem = &ty_string}},
        {"secrets", {.kind = TY_OBJECT, .elem = &ty_string}}};
    for (size_t i = 0; i < ELEMENTS(all); i++)
        if (sv_ieqs(name, all[i].name))
            return &all[i].type;
    return NULL;
}
