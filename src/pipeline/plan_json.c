/* The plan as JSON; docs/plan-json.md says what each key means. What the file does not say is left
 * out, except for ids and lists that a reader always wants. A text is {"value": …, "line", "col"}
 * or, with an expression in it, {"expr": "…${{ x }}…", "line", "col"}. */
#include "core/json.h"
#include "expr/expr.h"
#include "pipeline/plan.h"

#include <math.h>

static void put_at(struct json_w *w, struct span at) {
    jw_kint(w, "line", at.line);
    jw_kint(w, "col", at.col);
}

static void put_text(struct json_w *w, const struct text *t) {
    double d;
    jw_obj(w);
    jw_key(w, t->expr ? "expr" : "value");
    if (!t->expr && t->type == TEXT_BOOL)
        jw_bool(w, streq(t->s, "true"));
    else if (!t->expr && t->type == TEXT_NULL)
        jw_null(w);
    else if (!t->expr && t->type == TEXT_NUMBER && isfinite(d = val_parse_number(sv_n(t->s, t->n))))
        jw_double(w, d);
    else
        jw_sv(w, sv_n(t->s, t->n));
    put_at(w, t->at);
    jw_end_obj(w);
}

static void k_text(struct json_w *w, const char *key, const struct text *t) {
    if (!t->s)
        return;
    jw_key(w, key);
    put_text(w, t);
}

static void k_list(struct json_w *w, const char *key, const struct text_list *l) {
    if (l->whole.s) {
        k_text(w, key, &l->whole);
        return;
    }
    if (!l->n)
        return;
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < l->n; i++)
        put_text(w, &l->items[i]);
    jw_end_arr(w);
}

/* Keys need not be unique or plain (${{ insert }}): a list of pairs. */
static void k_map(struct json_w *w, const char *key, const struct text_map *m) {
    if (m->whole.s) {
        k_text(w, key, &m->whole);
        return;
    }
    if (!m->n)
        return;
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < m->n; i++) {
        jw_obj(w);
        jw_key(w, "key");
        put_text(w, &m->items[i].key);
        if (m->items[i].value.s)
            k_text(w, "value", &m->items[i].value);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static void k_strs(struct json_w *w, const char *key, const char *const *items, size_t n) {
    if (!n)
        return;
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < n; i++)
        jw_str(w, items[i]);
    jw_end_arr(w);
}

/* --- the file's own tree ---------------------------------------------------------------------- */

static void put_scalar(struct json_w *w, const struct yaml_node *n) {
    double d = 0;
    bool b = false;
    enum yaml_type t = yaml_scalar_type(n, &d, &b);
    bool str = n->tag && endswith(n->tag, ":str");
    jw_key(w, "value");
    if (str || t == YAML_T_STRING || ((t == YAML_T_FLOAT || t == YAML_T_INT) && !isfinite(d)))
        jw_sv(w, n->text);
    else if (t == YAML_T_NULL)
        jw_null(w);
    else if (t == YAML_T_BOOL)
        jw_bool(w, b);
    else
        jw_double(w, d);
    if (!str && t == YAML_T_FLOAT && !isfinite(d))
        jw_kstr(w, "number", isnan(d) ? "NaN" : d < 0 ? "-Infinity" : "Infinity");
}

static void put_tree(struct json_w *w, const struct yaml_node *n) {
    if (w->depth > 55) { /* the writer's limit */
        jw_null(w);
        return;
    }
    jw_obj(w);
    if (n->kind == YAML_SCALAR) {
        put_scalar(w, n);
    } else {
        jw_key(w, n->kind == YAML_SEQ ? "seq" : "map");
        jw_arr(w);
        for (size_t i = 0; i < n->n; i++) {
            if (n->kind == YAML_MAP)
                put_tree(w, n->keys[i]);
            put_tree(w, n->items[i]);
        }
        jw_end_arr(w);
    }
    put_at(w, n->at);
    jw_end_obj(w);
}

static void k_tree(struct json_w *w, const char *key, plan_tree n) {
    if (!n)
        return;
    jw_key(w, key);
    put_tree(w, n);
}

/* --- parts ------------------------------------------------------------------------------------ */

static void k_permissions(struct json_w *w, const struct plan_permissions *p) {
    if (!p->given)
        return;
    jw_key(w, "permissions");
    if (p->all) {
        jw_str(w, p->all);
        return;
    }
    jw_obj(w);
    for (size_t i = 0; i < p->n; i++)
        if (p->items[i].value.s)
            jw_kstr(w, p->items[i].key.s, p->items[i].value.s);
    jw_end_obj(w);
}

static void k_concurrency(struct json_w *w, const struct plan_concurrency *c) {
    if (!c->group.s)
        return;
    jw_key(w, "concurrency");
    jw_obj(w);
    k_text(w, "group", &c->group);
    k_text(w, "cancelInProgress", &c->cancel_in_progress);
    k_text(w, "queue", &c->queue);
    jw_end_obj(w);
}

static void put_container(struct json_w *w, const struct plan_container *c) {
    jw_obj(w);
    if (c->id)
        jw_kstr(w, "id", c->id);
    k_text(w, "whole", &c->whole);
    k_text(w, "image", &c->image);
    k_map(w, "env", &c->env);
    k_list(w, "ports", &c->ports);
    k_list(w, "volumes", &c->volumes);
    k_text(w, "options", &c->options);
    k_text(w, "username", &c->username);
    k_text(w, "password", &c->password);
    k_text(w, "entrypoint", &c->entrypoint);
    k_text(w, "command", &c->command);
    if (c->memory)
        jw_kint(w, "memory", (int64_t)c->memory);
    if (c->docker_service)
        jw_kbool(w, "docker", true);
    put_at(w, c->at);
    jw_end_obj(w);
}

static void k_filter(struct json_w *w, const char *key, const struct plan_filter *f) {
    if (f->given)
        k_strs(w, key, f->items, f->n);
}

static void put_input(struct json_w *w, const struct plan_input *in) {
    static const char *const types[] = {"string", "boolean", "number", "choice", "environment"};
    jw_obj(w);
    jw_kstr(w, "name", in->name);
    jw_kstr(w, "type", types[in->type]);
    jw_kbool(w, "required", in->required);
    if (in->description)
        jw_kstr(w, "description", in->description);
    k_text(w, "default", &in->dflt);
    k_strs(w, "options", in->options, in->n_options);
    put_at(w, in->at);
    jw_end_obj(w);
}

static void k_inputs(struct json_w *w, const char *key, const struct plan_input *in, size_t n) {
    if (!n)
        return;
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < n; i++)
        put_input(w, &in[i]);
    jw_end_arr(w);
}

static void put_trigger(struct json_w *w, const struct plan_trigger *t) {
    jw_obj(w);
    jw_kstr(w, "event", t->event);
    k_filter(w, "types", &t->types);
    k_filter(w, "branches", &t->branches);
    k_filter(w, "branchesIgnore", &t->branches_ignore);
    k_filter(w, "tags", &t->tags);
    k_filter(w, "tagsIgnore", &t->tags_ignore);
    k_filter(w, "paths", &t->paths);
    k_filter(w, "pathsIgnore", &t->paths_ignore);
    k_filter(w, "workflows", &t->workflows);
    k_filter(w, "names", &t->names);
    k_filter(w, "versions", &t->versions);
    if (t->n_cron) {
        jw_key(w, "schedule");
        jw_arr(w);
        for (size_t i = 0; i < t->n_cron; i++) {
            jw_obj(w);
            k_text(w, "cron", &t->cron[i].cron);
            k_text(w, "timezone", &t->cron[i].timezone);
            jw_end_obj(w);
        }
        jw_end_arr(w);
    }
    k_inputs(w, "inputs", t->inputs, t->n_inputs);
    k_inputs(w, "secrets", t->secrets, t->n_secrets);
    k_map(w, "outputs", &t->outputs);
    put_at(w, t->at);
    jw_end_obj(w);
}

/* --- jobs and steps --------------------------------------------------------------------------- */

/* The condition as it is evaluated: one expression, with the success() that is implied. */
static void k_condition(struct json_w *w, const struct text *t) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct expr *x;
    struct sv s = sv_trim(sv_n(t->s ? t->s : "", t->n));
    if (sv_starts(s, "${{") && sv_ends(s, "}}") && sv_find(sv_sub(s, 3, s.n), SV("${{")) < 0)
        s = sv_trim(sv_sub(s, 3, s.n - 5));
    if (s.n == 0)
        buf_adds(&b, "success()");
    else if (expr_parse(&a, s, NULL, &x, NULL) == 0 && expr_calls_status(x))
        buf_addsv(&b, s);
    else
        buf_addf(&b, "success() && (" SV_FMT ")", SV_ARG(s));
    jw_kstr(w, "condition", buf_str(&b));
}

static void put_step(struct json_w *w, const struct plan_step *s) {
    static const char *const kinds[] = {"run", "uses", "wait", "wait-all", "cancel", "parallel"};
    jw_obj(w);
    jw_kstr(w, "id", s->id);
    if (s->id_generated)
        jw_kbool(w, "idGenerated", true);
    jw_kstr(w, "kind", kinds[s->kind]);
    k_text(w, "name", &s->name);
    k_text(w, "if", &s->if_);
    k_condition(w, &s->if_);
    k_text(w, "run", &s->run);
    k_text(w, "uses", &s->uses);
    k_map(w, "with", &s->with);
    k_map(w, "env", &s->env);
    k_text(w, "shell", &s->shell);
    k_text(w, "workingDirectory", &s->working_directory);
    k_text(w, "continueOnError", &s->continue_on_error);
    k_text(w, "timeoutMinutes", &s->timeout_minutes);
    if (s->background)
        jw_kbool(w, "background", true);
    k_list(w, "targets", &s->targets);
    if (s->after_script)
        jw_kbool(w, "afterScript", true);
    if (s->n_children) {
        jw_key(w, "steps");
        jw_arr(w);
        for (size_t i = 0; i < s->n_children; i++)
            put_step(w, &s->children[i]);
        jw_end_arr(w);
    }
    put_at(w, s->at);
    jw_end_obj(w);
}

static void k_bitbucket(struct json_w *w, const struct plan_bitbucket *bb) {
    static const char *const on_fail[] = {"fail", "ignore", "retry"};
    jw_key(w, "bitbucket");
    jw_obj(w);
    jw_kint(w, "size", bb->size);
    jw_kbool(w, "manual", bb->manual);
    if (bb->deployment)
        jw_kstr(w, "deployment", bb->deployment);
    if (bb->parallel_count >= 0) {
        jw_kint(w, "parallelStep", bb->parallel_index);
        jw_kint(w, "parallelStepCount", bb->parallel_count);
    }
    if (bb->n_caches) {
        jw_key(w, "caches");
        jw_arr(w);
        for (size_t i = 0; i < bb->n_caches; i++) {
            jw_obj(w);
            jw_kstr(w, "name", bb->caches[i].name);
            jw_kstr(w, "path", bb->caches[i].path);
            k_strs(w, "keyFiles", bb->caches[i].key_files, bb->caches[i].n_key_files);
            jw_end_obj(w);
        }
        jw_end_arr(w);
    }
    for (size_t i = 0; i < bb->n_artifacts; i++) {
        const struct plan_artifact *x = &bb->artifacts[i];
        if (i == 0) {
            jw_key(w, "artifacts");
            jw_arr(w);
        }
        jw_obj(w);
        jw_kstr(w, "name", x->name);
        k_strs(w, "paths", x->paths, x->n_paths);
        jw_kstr(w, "type", x->type);
        jw_kstr(w, "captureOn", x->capture_on);
        jw_end_obj(w);
        if (i + 1 == bb->n_artifacts)
            jw_end_arr(w);
    }
    k_strs(w, "includePaths", bb->include_paths, bb->n_include);
    k_strs(w, "excludePaths", bb->exclude_paths, bb->n_exclude);
    k_strs(w, "outputVariables", bb->output_variables, bb->n_output_variables);
    jw_kstr(w, "onFail", on_fail[MAX(bb->on_fail, 0)]);
    jw_end_obj(w);
}

static void k_call(struct json_w *w, const struct plan_call *c) {
    jw_key(w, "call");
    jw_obj(w);
    k_text(w, "uses", &c->uses);
    k_map(w, "with", &c->with);
    k_map(w, "secrets", &c->secrets);
    jw_kbool(w, "inheritSecrets", c->inherit_secrets);
    jw_end_obj(w);
}

static void k_defaults(struct json_w *w, const struct text *shell, const struct text *dir) {
    k_text(w, "defaultShell", shell);
    k_text(w, "defaultWorkingDirectory", dir);
}

static void put_job(struct json_w *w, const struct plan_job *j) {
    jw_obj(w);
    jw_kstr(w, "id", j->id);
    k_text(w, "name", &j->name);
    k_list(w, "needs", &j->needs);
    k_text(w, "if", &j->if_);
    k_condition(w, &j->if_);
    k_list(w, "runsOn", &j->runs_on);
    k_text(w, "runsOnGroup", &j->runs_on_group);
    k_text(w, "strategy", &j->strategy_whole);
    k_tree(w, "matrix", j->matrix);
    k_text(w, "failFast", &j->fail_fast);
    k_text(w, "maxParallel", &j->max_parallel);
    k_text(w, "timeoutMinutes", &j->timeout_minutes);
    k_text(w, "cancelTimeoutMinutes", &j->cancel_timeout_minutes);
    k_text(w, "continueOnError", &j->continue_on_error);
    k_text(w, "environment", &j->environment.name);
    k_text(w, "environmentUrl", &j->environment.url);
    k_concurrency(w, &j->concurrency);
    k_permissions(w, &j->permissions);
    k_map(w, "env", &j->env);
    k_defaults(w, &j->default_shell, &j->default_working_directory);
    k_map(w, "outputs", &j->outputs);
    if (j->container.image.s || j->container.whole.s) {
        jw_key(w, "container");
        put_container(w, &j->container);
    }
    k_text(w, "servicesWhole", &j->services_whole);
    if (j->n_services) {
        jw_key(w, "services");
        jw_arr(w);
        for (size_t i = 0; i < j->n_services; i++)
            put_container(w, &j->services[i]);
        jw_end_arr(w);
    }
    if (j->call)
        k_call(w, j->call);
    jw_key(w, "steps");
    jw_arr(w);
    for (size_t i = 0; i < j->n_steps; i++)
        put_step(w, &j->steps[i]);
    jw_end_arr(w);
    if (j->bb)
        k_bitbucket(w, j->bb);
    put_at(w, j->at);
    jw_end_obj(w);
}

void plan_put(const struct plan *p, struct json_w *w, bool source) {
    jw_obj(w);
    jw_kstr(w, "file", p->file);
    jw_kstr(w, "dialect", p->dialect == DIALECT_GITHUB ? "github" : "bitbucket");
    k_text(w, "name", &p->name);
    k_text(w, "description", &p->description);
    k_text(w, "runName", &p->run_name);
    jw_key(w, "on");
    jw_arr(w);
    for (size_t i = 0; i < p->n_triggers; i++)
        put_trigger(w, &p->triggers[i]);
    jw_end_arr(w);
    k_map(w, "env", &p->env);
    k_defaults(w, &p->default_shell, &p->default_working_directory);
    k_permissions(w, &p->permissions);
    k_concurrency(w, &p->concurrency);
    jw_key(w, "jobs");
    jw_arr(w);
    for (size_t i = 0; i < p->n_jobs; i++)
        put_job(w, &p->jobs[i]);
    jw_end_arr(w);
    if (source)
        k_tree(w, "source", p->root);
    jw_end_obj(w);
}

void plan_to_json(const struct plan *p, struct buf *b, unsigned indent) {
    struct json_w w;
    jw_init(&w, b, indent);
    plan_put(p, &w, false);
}
