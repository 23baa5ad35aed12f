#include "run/contexts.h"

#include "base/digest.h"

void ctx_init(struct ctx *c, struct arena *a) {
    memset(c, 0, sizeof *c);
    c->a = a;
    c->root = val_object(a);
    c->status = OUT_SUCCESS;
}

void ctx_set(struct ctx *c, const char *name, const struct value *v) {
    val_sets(c->a, c->root, name, v ? v : &val_null);
}

/* --- status functions ---------------------------------------------------------------------- */

struct needs_seen { bool failed, cancelled, not_success; };

static void look(const struct job *j, struct needs_seen *s, unsigned depth) {
    for (size_t i = 0; i < j->n_needs && depth < 512; i++) {
        const struct job *n = j->needs[i];
        s->failed |= n->result == OUT_FAILURE;
        s->cancelled |= n->result == OUT_CANCELLED;
        s->not_success |= n->result != OUT_SUCCESS && !n->passed_over;
        look(n, s, depth + 1);
    }
}

bool ctx_success(const struct ctx *c) {
    if (c->in_step)
        return c->status == OUT_SUCCESS && !c->cancelled;
    struct needs_seen s = {0};
    if (c->job)
        look(c->job, &s, 0);
    return !s.not_success && !c->cancelled;
}

bool ctx_failure(const struct ctx *c) {
    if (c->in_step)
        return c->status == OUT_FAILURE && !c->cancelled;
    struct needs_seen s = {0};
    if (c->job)
        look(c->job, &s, 0);
    return s.failed && !c->cancelled;
}

static int fn_success(void *arg, struct arena *a, const struct value **args, size_t n,
                      const struct value **ret, struct expr_error *xe) {
    *ret = val_bool(ctx_success(arg));
    return 0;
}
static int fn_failure(void *arg, struct arena *a, const struct value **args, size_t n,
                      const struct value **ret, struct expr_error *xe) {
    *ret = val_bool(ctx_failure(arg));
    return 0;
}
static int fn_always(void *arg, struct arena *a, const struct value **args, size_t n,
                     const struct value **ret, struct expr_error *xe) {
    *ret = &val_true;
    return 0;
}
static int fn_cancelled(void *arg, struct arena *a, const struct value **args, size_t n,
                        const struct value **ret, struct expr_error *xe) {
    const struct ctx *c = arg;
    *ret = val_bool(c->cancelled);
    return 0;
}

static int fn_hash_files(void *arg, struct arena *a, const struct value **args, size_t n,
                         const struct value **ret, struct expr_error *xe) {
    struct ctx *c = arg;
    const char *patterns[256];
    size_t np = 0;
    bool follow = false;
    for (size_t i = 0; i < n; i++) {
        struct sv s = val_to_string(a, args[i]), line;
        if (i == 0 && sv_eqs(s, "--follow-symbolic-links")) {
            follow = true;
            continue;
        }
        while (sv_line(&s, &line)) {
            line = sv_trim(line);
            if (line.n && *line.p != '#' && np < ELEMENTS(patterns))
                patterns[np++] = arena_strndup(a, line.p, line.n);
        }
    }
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct err e = {0};
    if (!c->hash_files || c->hash_files(c->hash_arg, patterns, np, follow, &b, &e) < 0) {
        xe->kind = EXPR_EVALUATION;
        snprintf(xe->msg, sizeof xe->msg, "hashFiles: %.500s",
                 c->hash_files ? e.msg : "files are only there while a job's steps run");
        return -EINVAL;
    }
    *ret = val_string(a, buf_sv(&b));
    return 0;
}

static struct expr_env env_of(struct ctx *c) {
    struct expr_env env = {.contexts = c->root,
                           .funcs = {{"success", fn_success, c},
                                     {"failure", fn_failure, c},
                                     {"always", fn_always, c},
                                     {"cancelled", fn_cancelled, c},
                                     {"hashFiles", fn_hash_files, c}},
                           .n_funcs = 5};
    return env;
}

/* --- evaluation ---------------------------------------------------------------------------- */

static int expr_failed(struct err *e, const struct text *t, const struct expr_error *xe) {
    err_set(e, ERR_CONFIG, -EINVAL, "%s", xe->msg[0] ? xe->msg : "the expression cannot be evaluated");
    return err_at(e, -EINVAL, t->at);
}

int ctx_value(struct ctx *c, const struct text *t, const struct value **ret, struct err *e) {
    if (!t->s) {
        *ret = &val_null;
        return 0;
    }
    if (!t->expr) {
        *ret = val_string(c->a, sv_n(t->s, t->n));
        return 0;
    }
    struct expr_env env = env_of(c);
    struct expr_error xe = {0};
    if (template_eval(c->a, sv_n(t->s, t->n), &env, ret, &xe) < 0)
        return expr_failed(e, t, &xe);
    return 0;
}

int ctx_string(struct ctx *c, const struct text *t, const char *dflt, struct sv *ret, struct err *e) {
    const struct value *v;
    if (!t->s) {
        *ret = sv_from(dflt);
        return 0;
    }
    int r = ctx_value(c, t, &v, e);
    if (r < 0)
        return r;
    *ret = val_to_string(c->a, v);
    return 0;
}

int ctx_bool(struct ctx *c, const struct text *t, bool dflt, bool *ret, struct err *e) {
    const struct value *v;
    int r = ctx_value(c, t, &v, e);
    if (r < 0)
        return r;
    if (v->kind == VAL_NULL)
        *ret = dflt;
    else if (v->kind == VAL_STRING) {
        struct sv s = sv_trim(v->str);
        if (sv_ieqs(s, "true"))
            *ret = true;
        else if (sv_ieqs(s, "false") || !s.n)
            *ret = false;
        else {
            err_set(e, ERR_CONFIG, -EINVAL, "expected true or false, not \"" SV_FMT "\"", SV_ARG(s));
            return err_at(e, -EINVAL, t->at);
        }
    } else
        *ret = val_truthy(v);
    return 0;
}

int ctx_number(struct ctx *c, const struct text *t, double dflt, double *ret, struct err *e) {
    const struct value *v;
    int r = ctx_value(c, t, &v, e);
    if (r < 0)
        return r;
    if (v->kind == VAL_NULL) {
        *ret = dflt;
        return 0;
    }
    double d = val_to_number(v);
    if (!(d >= -1e15 && d <= 1e15)) {
        err_set(e, ERR_CONFIG, -EINVAL, "expected a number");
        return err_at(e, -EINVAL, t->at);
    }
    *ret = d;
    return 0;
}

struct status_look {
    struct arena *a;
    bool calls;
};
static int find_status(void *arg, struct sv x, size_t offset) {
    struct status_look *s = arg;
    struct expr *parsed;
    struct expr_error xe = {0};
    if (expr_parse(s->a, x, NULL, &parsed, &xe) == 0)
        s->calls |= expr_calls_status(parsed);
    return 0;
}

int ctx_if(struct ctx *c, const struct text *t, bool *ret, struct err *e) {
    struct sv s = t->s ? sv_trim(sv_n(t->s, t->n)) : SV_NULL;
    if (!s.n) {
        *ret = ctx_success(c);
        return 0;
    }
    struct status_look look_ = {.a = c->a};
    struct expr_env env = env_of(c);
    struct expr_error xe = {0};
    const struct value *v;
    if (template_has_expr(s)) {
        if (template_each(s, find_status, &look_, &xe) < 0)
            return expr_failed(e, t, &xe);
        if (!look_.calls && !ctx_success(c)) {
            *ret = false;
            return 0;
        }
        if (template_eval(c->a, s, &env, &v, &xe) < 0)
            return expr_failed(e, t, &xe);
    } else {
        struct expr *x;
        if (expr_parse(c->a, s, NULL, &x, &xe) < 0)
            return expr_failed(e, t, &xe);
        if (!expr_calls_status(x) && !ctx_success(c)) {
            *ret = false;
            return 0;
        }
        if (expr_eval(c->a, x, &env, &v, &xe) < 0)
            return expr_failed(e, t, &xe);
    }
    *ret = val_truthy(v);
    return 0;
}

int ctx_map(struct ctx *c, const struct text_map *m, bool raw, struct value **ret, struct err *e) {
    struct value *out = val_object(c->a);
    const struct value *v;
    int r;
    if (m->whole.s) {
        if ((r = ctx_value(c, &m->whole, &v, e)) < 0)
            return r;
        if (v->kind == VAL_OBJECT) {
            for (size_t i = 0; i < v->n; i++)
                val_set(c->a, out, v->keys[i],
                        raw ? v->items[i] : val_string(c->a, val_to_string(c->a, v->items[i])));
        } else if (v->kind != VAL_NULL && !(v->kind == VAL_STRING && !v->str.n)) {
            err_set(e, ERR_CONFIG, -EINVAL, "the expression must give a mapping");
            return err_at(e, -EINVAL, m->whole.at);
        }
    }
    for (size_t i = 0; i < m->n; i++) {
        struct sv key;
        if ((r = ctx_string(c, &m->items[i].key, "", &key, e)) < 0 ||
            (r = ctx_value(c, &m->items[i].value, &v, e)) < 0)
            return r;
        val_set(c->a, out, key, raw ? v : val_string(c->a, val_to_string(c->a, v)));
    }
    *ret = out;
    return 0;
}

int ctx_list(struct ctx *c, const struct text_list *l, struct strv *ret, struct err *e) {
    const struct value *v;
    int r;
    if (l->whole.s) {
        if ((r = ctx_value(c, &l->whole, &v, e)) < 0)
            return r;
        if (v->kind != VAL_ARRAY) {
            struct sv s = val_to_string(c->a, v);
            if (s.n)
                strv_addn(ret, s.p, s.n);
        } else {
            for (size_t i = 0; i < v->n; i++) {
                struct sv s = val_to_string(c->a, v->items[i]);
                strv_addn(ret, s.p, s.n);
            }
        }
    }
    for (size_t i = 0; i < l->n; i++) {
        struct sv s;
        if ((r = ctx_string(c, &l->items[i], "", &s, e)) < 0)
            return r;
        strv_addn(ret, s.p, s.n);
    }
    return 0;
}

static int tree_scalar(struct ctx *c, plan_tree t, const struct value **ret, struct err *e) {
    if (template_has_expr(t->text)) {
        struct text x = {.s = t->text.p, .n = t->text.n, .expr = true, .at = t->at};
        return ctx_value(c, &x, ret, e);
    }
    double num = 0;
    bool yes = false;
    switch (yaml_scalar_type(t, &num, &yes)) {
    case YAML_T_NULL:
        *ret = &val_null;
        break;
    case YAML_T_BOOL:
        *ret = val_bool(yes);
        break;
    case YAML_T_INT:
    case YAML_T_FLOAT:
        *ret = val_number(c->a, num);
        break;
    case YAML_T_STRING:
        *ret = val_string(c->a, t->text);
        break;
    }
    return 0;
}

static bool is_insert(struct sv key) {
    if (!sv_starts(key, "${{") || !sv_ends(key, "}}") || key.n < 5)
        return false;
    return sv_eqs(sv_trim(sv_sub(key, 3, key.n - 5)), "insert");
}

static int tree(struct ctx *c, plan_tree t, const struct value **ret, unsigned depth, struct err *e) {
    int r;
    if (depth > 50)
        return err_set(e, ERR_CONFIG, -ELOOP, "too deep");
    if (t->kind == YAML_SCALAR)
        return tree_scalar(c, t, ret, e);
    if (t->kind == YAML_SEQ) {
        struct value *list = val_array(c->a);
        for (size_t i = 0; i < t->n; i++) {
            const struct value *v;
            if ((r = tree(c, t->items[i], &v, depth + 1, e)) < 0)
                return r;
            /* An expression that gives a list stands for its items. */
            bool splice = v->kind == VAL_ARRAY && t->items[i]->kind == YAML_SCALAR;
            for (size_t k = 0; splice && k < v->n; k++)
                val_push(c->a, list, v->items[k]);
            if (!splice)
                val_push(c->a, list, v);
        }
        *ret = list;
        return 0;
    }
    struct value *map = val_object(c->a);
    for (size_t i = 0; i < t->n; i++) {
        const struct value *k, *v;
        bool insert = is_insert(t->keys[i]->text);
        if ((!insert && (r = tree_scalar(c, t->keys[i], &k, e)) < 0) ||
            (r = tree(c, t->items[i], &v, depth + 1, e)) < 0)
            return r;
        if (insert) { /* the mapping's pairs, in place */
            if (v->kind != VAL_OBJECT) {
                err_set(e, ERR_CONFIG, -EINVAL, "the value of ${{ insert }} must be a mapping");
                return err_at(e, -EINVAL, t->keys[i]->at);
            }
            for (size_t n = 0; n < v->n; n++)
                val_set(c->a, map, v->keys[n], v->items[n]);
            continue;
        }
        struct sv key = t->keys[i]->text;
        if (template_has_expr(key))
            key = val_to_string(c->a, k);
        val_set(c->a, map, key, v);
    }
    *ret = map;
    return 0;
}

int ctx_tree(struct ctx *c, plan_tree t, const struct value **ret, struct err *e) {
    if (!t) {
        *ret = &val_null;
        return 0;
    }
    return tree(c, t, ret, 0, e);
}

/* --- contexts ------------------------------------------------------------------------------ */

const struct value *ctx_from_env(struct arena *a, const struct strv *env) {
    struct value *o = val_object(a);
    for (size_t i = 0; i < env->n; i++) {
        struct sv value, key = env_split(env->v[i], &value);
        val_set(a, o, key, val_string(a, value));
    }
    return o;
}

const struct value *ctx_needs(struct arena *a, const struct job *job) {
    struct value *o = val_object(a);
    for (size_t i = 0; i < job->n_needs; i++) {
        const struct job *n = job->needs[i];
        struct value *one = val_object(a);
        val_sets(a, one, "result", val_str(a, outcome_name(n->result == OUT_HELD ? OUT_SKIPPED : n->result)));
        val_sets(a, one, "outputs", n->outputs ? n->outputs : val_object(a));
        val_sets(a, o, n->pj->id, one);
    }
    return o;
}

const struct value *ctx_secrets(struct flow *f, struct arena *a) {
    struct value *o = val_object(a);
    for (size_t i = 0; i < f->secrets.n; i++) {
        struct sv value, key = env_split(f->secrets.v[i], &value);
        val_set(a, o, key, val_string(a, value));
    }
    return o;
}

uint32_t ctx_id(const char *name) {
    uint8_t raw[32];
    sha256_bytes(name, strlen(name), raw);
    return ((uint32_t)raw[0] << 20 | (uint32_t)raw[1] << 12 | (uint32_t)raw[2] << 4 | raw[3] >> 4) + 1;
}

const struct value *ctx_github(struct flow *f, struct arena *a) {
    struct run *r = f->run;
    const struct run_event *ev = &r->rq->event;
    const char *server = ev->server_url ? ev->server_url : "https://github.com";
    bool hosted = streq(server, "https://github.com");
    bool tag = startswith(r->ref, "refs/tags/") != NULL;
    struct value *g = val_object(a);
    val_set_str(a, g, "token", r->token);
    val_set_str(a, g, "ref", r->ref);
    val_set_str(a, g, "sha", r->sha);
    val_set_str(a, g, "repository", r->repository);
    val_set_str(a, g, "repository_owner", r->owner);
    val_set_str(a, g, "repository_id", arena_printf(a, "%u", ctx_id(r->repository)));
    val_set_str(a, g, "repository_owner_id", arena_printf(a, "%u", ctx_id(r->owner)));
    val_set_str(a, g, "repositoryUrl", arena_printf(a, "git://%s/%s.git", strstr(server, "//") ? strstr(server, "//") + 2 : server, r->repository));
    val_set_str(a, g, "repository_visibility", "private");
    val_set_str(a, g, "run_id", r->id);
    val_set_str(a, g, "run_number", arena_printf(a, "%llu", (unsigned long long)r->number));
    val_set_str(a, g, "run_attempt", arena_printf(a, "%u", MAX(r->attempt, 1u)));
    val_set_str(a, g, "retention_days", "90");
    val_set_str(a, g, "artifact_cache_size_limit", "10");
    val_set_str(a, g, "actor", r->actor);
    val_set_str(a, g, "actor_id", arena_printf(a, "%u", ctx_id(r->actor)));
    val_set_str(a, g, "triggering_actor", r->actor);
    val_set_str(a, g, "workflow", f->title);
    val_set_str(a, g, "head_ref", ev->head_ref ? ev->head_ref : "");
    val_set_str(a, g, "base_ref", ev->base_ref ? ev->base_ref : "");
    val_set_str(a, g, "event_name", ev->name ? ev->name : "push");
    val_sets(a, g, "event", ev->payload ? ev->payload : val_object(a));
    val_set_str(a, g, "server_url", server);
    val_set_str(a, g, "api_url", hosted ? "https://api.github.com" : arena_printf(a, "%s/api/v3", server));
    val_set_str(a, g, "graphql_url", hosted ? "https://api.github.com/graphql" : arena_printf(a, "%s/api/graphql", server));
    val_set_str(a, g, "ref_name", r->ref_name);
    val_sets(a, g, "ref_protected", &val_false);
    val_set_str(a, g, "ref_type", tag ? "tag" : "branch");
    val_set_str(a, g, "secret_source", f->secrets.n > 1 ? "Actions" : "None");
    val_set_str(a, g, "workflow_ref", f->workflow_ref);
    val_set_str(a, g, "workflow_sha", f->origin && f->origin->sha ? f->origin->sha : r->sha);
    return g;
}

void ctx_job(struct ctx *c, struct job *job) {
    struct flow *f = job->flow;
    c->job = job;
    ctx_set(c, "github", f->github);
    ctx_set(c, "inputs", f->inputs);
    ctx_set(c, "vars", ctx_from_env(c->a, &f->run->rq->vars));
    ctx_set(c, "needs", ctx_needs(c->a, job));
}

void ctx_leg(struct ctx *c, struct leg *leg) {
    struct job *j = leg->job;
    ctx_job(c, j);
    struct value *s = val_object(c->a);
    val_sets(c->a, s, "fail-fast", val_bool(j->fail_fast));
    val_sets(c->a, s, "job-index", val_number(c->a, leg->index));
    val_sets(c->a, s, "job-total", val_number(c->a, (double)(j->n_legs ? j->n_legs : 1)));
    val_sets(c->a, s, "max-parallel", val_number(c->a, j->max_parallel ? j->max_parallel : (double)(j->n_legs ? j->n_legs : 1)));
    ctx_set(c, "strategy", s);
    ctx_set(c, "matrix", leg->matrix);
    if (leg->environment && leg->run->rq->env_vars.n) {
        _cleanup_strv_ struct strv vars = {0};
        strv_extend(&vars, (const char *const *)leg->run->rq->vars.v);
        env_overlay(&vars, &leg->run->rq->env_vars, leg->environment);
        ctx_set(c, "vars", ctx_from_env(c->a, &vars));
    }
}

void env_overlay(struct strv *to, const struct strv *of, const char *environment) {
    size_t n = strlen(environment);
    for (size_t i = 0; i < of->n; i++) {
        if (strncasecmp(of->v[i], environment, n) != 0 || of->v[i][n] != '/')
            continue;
        struct sv v, k = env_split(of->v[i] + n + 1, &v);
        _cleanup_free_ char *key = sv_dup(k);
        strv_env_set(to, key, v.p);
    }
}

const struct value *ctx_leg_secrets(struct leg *leg, struct arena *a) {
    if (!leg->environment || !leg->run->rq->env_secrets.n)
        return ctx_secrets(leg->flow, a);
    _cleanup_strv_ struct strv all = {0};
    strv_extend(&all, (const char *const *)leg->flow->secrets.v);
    env_overlay(&all, &leg->run->rq->env_secrets, leg->environment);
    return ctx_from_env(a, &all);
}
