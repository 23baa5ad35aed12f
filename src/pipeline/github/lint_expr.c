/* Types of expressions. Every expression that the reader met is walked once, bottom up, in the
 * file's order; what each part can be follows from the contexts, which for `steps`, `needs`,
 * `matrix` and `inputs` are made from the file. What is not known is anything, and anything fits
 * everywhere, so that nothing is said that is not sure. */
#include "core/json.h"
#include "pipeline/github/lint.h"
#include "pipeline/github/read.h"

struct infer {
    struct lint *l;
    const struct plan_expr *e;
};

struct span lint_place(const struct plan_expr *e, const struct expr_node *n) {
    return scalar_place(e->node, e->offset + n->at, e->offset + n->end);
}

#define WARN(in, node, code, ...) lint_warn((in)->l, lint_place((in)->e, node), code, NULL, __VA_ARGS__)

/* --- contexts made from the file ---------------------------------------------------------------- */

static const struct ty *outputs_of_action(struct lint *l, const struct plan_step *s) {
    const struct action_meta *m = s->kind == STEP_USES && s->uses.s ? lint_action(l, s->uses.s) : NULL;
    if (!m || m->any_outputs)
        return &ty_strings;
    struct ty *t = ty_object(&l->a, m->n_outputs);
    for (size_t i = 0; i < m->n_outputs; i++)
        ty_add(t, m->outputs[i], &ty_string);
    return t;
}

static size_t count_steps(const struct plan_step *s, size_t n) {
    size_t all = n;
    for (size_t i = 0; i < n; i++)
        all += count_steps(s[i].children, s[i].n_children);
    return all;
}

static void add_steps(struct lint *l, const struct plan_step *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct ty *t = ty_object(&l->a, 3);
        ty_add(t, "outputs", outputs_of_action(l, &s[i]));
        ty_add(t, "conclusion", &ty_string);
        ty_add(t, "outcome", &ty_string);
        l->step_order[l->steps->n] = &s[i];
        ty_add(l->steps, s[i].id, t);
        add_steps(l, s[i].children, s[i].n_children);
    }
}

/* Those before the step at hand; for outputs, a job's url and the like: all. */
static const struct ty *steps_type(struct lint *l, const struct plan_expr *e) {
    if (!e->job)
        return &ty_anything;
    if (!l->steps) {
        size_t n = count_steps(e->job->steps, e->job->n_steps);
        l->steps = ty_object(&l->a, n);
        l->step_order = ARENA_ARRAY(&l->a, const struct plan_step *, n);
        add_steps(l, e->job->steps, e->job->n_steps);
    }
    struct ty *view = ARENA_NEW(&l->a, struct ty);
    *view = *l->steps;
    for (size_t i = 0; e->step && i < l->steps->n; i++)
        if (l->step_order[i] == e->step)
            view->n = i;
    return view;
}

static const struct ty *job_result(struct lint *l, const struct plan_job *j) {
    struct ty *t = ty_object(&l->a, 2);
    const struct ty *outputs = &ty_strings;
    if (!j->call) {
        struct ty *o = ty_object(&l->a, j->outputs.n);
        for (size_t i = 0; i < j->outputs.n; i++)
            ty_add(o, j->outputs.items[i].key.s, &ty_string);
        if (!j->outputs.whole.s)
            outputs = o;
    } else {
        const struct plan *called = lint_called(l, &j->call->uses);
        const struct plan_trigger *on = called ? plan_trigger_find(called, "workflow_call") : NULL;
        if (on) {
            struct ty *o = ty_object(&l->a, on->outputs.n);
            for (size_t i = 0; i < on->outputs.n; i++)
                ty_add(o, arena_strdup(&l->a, on->outputs.items[i].key.s), &ty_string);
            outputs = o;
        }
    }
    ty_add(t, "outputs", outputs);
    ty_add(t, "result", &ty_string);
    return t;
}

static const struct ty *needs_type(struct lint *l, const struct plan_job *j) {
    struct ty *t = ty_object(&l->a, j->needs.n);
    for (size_t i = 0; i < j->needs.n; i++) {
        const struct plan_job *need = plan_job_find(l->p, j->needs.items[i].s);
        if (need)
            ty_add(t, need->id, job_result(l, need));
    }
    return t;
}

static const struct ty *jobs_type(struct lint *l) {
    struct ty *t = ty_object(&l->a, l->p->n_jobs);
    for (size_t i = 0; i < l->p->n_jobs; i++)
        ty_add(t, l->p->jobs[i].id, job_result(l, &l->p->jobs[i]));
    return t;
}

/* The rows, and what include adds to them. */
static const struct ty *matrix_type(struct lint *l, const struct plan_job *j) {
    if (j->strategy_whole.s)
        return &ty_anything;
    if (!j->matrix)
        return ty_object(&l->a, 0);
    if (j->matrix->kind != YAML_MAP)
        return &ty_anything;
    const struct ty *t = ty_object(&l->a, 0);
    for (size_t i = 0; i < j->matrix->n; i++) {
        const struct yaml_node *k = j->matrix->keys[i], *v = j->matrix->items[i];
        if (k->kind != YAML_SCALAR || sv_find(k->text, SV("${{")) >= 0)
            return &ty_anything;
        if (yaml_is(k, "exclude"))
            continue;
        const struct ty *of = ty_of_yaml(&l->a, v), *add = NULL;
        if (yaml_is(k, "include")) {
            if (of->kind != TY_ARRAY || (of->elem->kind != TY_OBJECT && v->n))
                return &ty_anything;
            add = of->elem->kind == TY_OBJECT ? of->elem : NULL;
        } else {
            struct ty *row = ty_object(&l->a, 1);
            ty_add(row, k->text.p, of->kind == TY_ARRAY ? of->elem : &ty_any);
            add = row;
        }
        t = add ? ty_union(&l->a, t, add) : t;
    }
    return t;
}

static const struct ty *input_type(const struct plan_input *in) {
    return in->type == INPUT_BOOLEAN  ? &ty_bool
           : in->type == INPUT_NUMBER ? &ty_number
                                      : &ty_string;
}

static const struct ty *inputs_type(struct lint *l) {
    const struct ty *t = ty_object(&l->a, 0);
    for (size_t i = 0; i < l->p->n_triggers; i++) {
        const struct plan_trigger *on = &l->p->triggers[i];
        struct ty *own = ty_object(&l->a, on->n_inputs);
        for (size_t k = 0; k < on->n_inputs; k++)
            ty_add(own, on->inputs[k].name, input_type(&on->inputs[k]));
        t = ty_union(&l->a, t, own);
    }
    return t;
}

/* A workflow that is only ever called, and that lists its secrets, has no others. */
static const struct ty *secrets_type(struct lint *l) {
    const struct plan_trigger *on = plan_trigger_find(l->p, "workflow_call");
    if (!on || l->p->n_triggers != 1 || !on->n_secrets)
        return &ty_strings;
    struct ty *t = ty_object(&l->a, on->n_secrets + 3);
    ty_add(t, "GITHUB_TOKEN", &ty_string);
    ty_add(t, "ACTIONS_STEP_DEBUG", &ty_string);
    ty_add(t, "ACTIONS_RUNNER_DEBUG", &ty_string);
    for (size_t i = 0; i < on->n_secrets; i++)
        ty_add(t, on->secrets[i].name, &ty_string);
    return t;
}

static const struct ty *context_type(struct infer *in, struct sv name) {
    struct lint *l = in->l;
    const struct plan_job *j = in->e->job;
    if (sv_ieqs(name, "steps"))
        return steps_type(l, in->e);
    if (sv_ieqs(name, "needs"))
        return !j ? &ty_anything : l->needs ? l->needs : (l->needs = needs_type(l, j));
    if (sv_ieqs(name, "matrix"))
        return !j ? &ty_anything : l->matrix ? l->matrix : (l->matrix = matrix_type(l, j));
    if (sv_ieqs(name, "inputs"))
        return l->inputs ? l->inputs : (l->inputs = inputs_type(l));
    if (sv_ieqs(name, "secrets"))
        return l->secrets ? l->secrets : (l->secrets = secrets_type(l));
    if (sv_ieqs(name, "jobs"))
        return l->jobs ? l->jobs : (l->jobs = jobs_type(l));
    const struct ty *t = ty_context(name);
    return t ? t : &ty_any;
}

/* --- parts of an expression ---------------------------------------------------------------------- */

static const struct ty *infer(struct infer *in, const struct expr_node *n);

static bool is_context(const struct expr_node *n, const char *name) {
    return n->kind == NODE_CONTEXT && sv_ieqs(n->name, name);
}

/* The words for a name that is not there, by what it was looked for in. */
static void unknown_property(struct infer *in, const struct expr_node *n, const struct ty *of,
                             struct sv name) {
    const struct expr_node *from = n->kids[0];
    _cleanup_buf_ struct buf known = BUF_SMALL;
    ty_list(of, &known);
    struct sv whole = node_text(in->e->x, from);
    const char *list = buf_str(&known);
    if (is_context(from, "steps")) {
        for (size_t i = of->n; in->l->steps && i < in->l->steps->n; i++) {
            if (sv_ieqs(name, in->l->steps->props[i].name)) {
                WARN(in, n, "step-order", "step \"" SV_FMT "\" runs later: it has no result here",
                     SV_ARG(name));
                return;
            }
        }
        WARN(in, n, "unknown-step", "no step of this job before this one has the id \"" SV_FMT "\"",
             SV_ARG(name));
        return;
    }
    if (is_context(from, "needs")) {
        bool job = plan_job_find(in->l->p, arena_strndup(&in->l->a, name.p, name.n)) != NULL;
        WARN(in, n, "unknown-need",
             job ? "job \"" SV_FMT "\" is not in this job's `needs` (%s)"
                 : "there is no job \"" SV_FMT "\" in `needs` (%s)",
             SV_ARG(name), list);
        return;
    }
    if (is_context(from, "inputs"))
        WARN(in, n, "unknown-input", "no input \"" SV_FMT "\" is declared (there are: %s)",
             SV_ARG(name), list);
    else if (is_context(from, "matrix"))
        WARN(in, n, "unknown-matrix", "the matrix has no \"" SV_FMT "\" (it has: %s)", SV_ARG(name),
             list);
    else if (is_context(from, "secrets"))
        WARN(in, n, "unknown-secret",
             "no secret \"" SV_FMT "\" is declared in `on.workflow_call` (there are: %s)",
             SV_ARG(name), list);
    else if (sv_ends(whole, ".outputs"))
        WARN(in, n, "unknown-output", SV_FMT " has no \"" SV_FMT "\" (it has: %s)", SV_ARG(whole),
             SV_ARG(name), list);
    else
        WARN(in, n, "unknown-property", SV_FMT " has no \"" SV_FMT "\" (it has: %s)", SV_ARG(whole),
             SV_ARG(name), list);
}

/* github.event.inputs: those of the dispatch, all of them texts. */
static const struct ty *event_property(struct infer *in, const struct expr_node *n) {
    const struct plan_trigger *on = plan_trigger_find(in->l->p, "workflow_dispatch");
    const struct expr_node *event = n->kids[0];
    if (!on || !sv_ieqs(n->name, "inputs") || event->kind != NODE_INDEX ||
        !sv_ieqs(event->name, "event") || !is_context(event->kids[0], "github"))
        return NULL;
    if (!in->l->dispatch) {
        struct ty *t = ty_object(&in->l->a, on->n_inputs);
        for (size_t i = 0; i < on->n_inputs; i++)
            ty_add(t, on->inputs[i].name, &ty_string);
        in->l->dispatch = t;
    }
    return in->l->dispatch;
}

static const struct ty *property(struct infer *in, const struct expr_node *n, const struct ty *of,
                                 struct sv name) {
    if (of->kind == TY_OBJECT) {
        const struct ty *special = event_property(in, n), *t = special ? special : ty_prop(of, name);
        if (!t)
            unknown_property(in, n, of, name);
        return t ? t : &ty_any;
    }
    if (of->kind == TY_ARRAY && of->filtered) {
        const struct ty *elem = of->elem;
        if (elem->kind == TY_OBJECT && !(elem = ty_prop(elem, name)))
            unknown_property(in, n, of->elem, name);
        return ty_array(&in->l->a, elem && of->elem->kind == TY_OBJECT ? elem : &ty_any, true);
    }
    if (of->kind != TY_ANY)
        WARN(in, n, "not-an-object", SV_FMT " is %s %s: it has no property \"" SV_FMT "\"",
             SV_ARG(node_text(in->e->x, n->kids[0])), of->kind == TY_ARRAY ? "an" : "a", ty_name(of),
             SV_ARG(name));
    return &ty_any;
}

static const struct ty *star(struct infer *in, const struct expr_node *n, const struct ty *of) {
    struct arena *a = &in->l->a;
    if (of->kind == TY_ARRAY)
        return ty_array(a, of->elem, true);
    if (of->kind == TY_OBJECT) {
        const struct ty *t = of->elem;
        for (size_t i = 0; i < of->n; i++)
            t = t ? ty_union(a, t, of->props[i].type) : of->props[i].type;
        return ty_array(a, t ? t : &ty_any, true);
    }
    if (of->kind != TY_ANY)
        WARN(in, n, "not-an-object", "`.*` of a %s gives nothing", ty_name(of));
    return ty_array(a, &ty_any, true);
}

static const struct ty *index_type(struct infer *in, const struct expr_node *n) {
    const struct expr_node *by = n->kids[1];
    const struct ty *of = infer(in, n->kids[0]);
    if (by->kind == NODE_STAR)
        return star(in, n, of);
    if (n->name.n)
        return property(in, n, of, n->name);
    const struct ty *t = infer(in, by);
    if (by->kind == NODE_LITERAL && by->value->kind == VAL_STRING && of->kind != TY_ARRAY)
        return property(in, n, of, by->value->str);
    if (of->kind == TY_ARRAY) {
        if (t->kind != TY_ANY && t->kind != TY_NUMBER)
            WARN(in, by, "index-type", "an array is indexed by a number, not by a %s", ty_name(t));
        return of->filtered ? &ty_any : of->elem;
    }
    if (of->kind == TY_OBJECT) {
        /* job.services.db.ports[5432] is how it is written */
        bool ports = sv_ends(node_text(in->e->x, n->kids[0]), ".ports");
        if (t->kind != TY_ANY && t->kind != TY_STRING && !(ports && t->kind == TY_NUMBER))
            WARN(in, by, "index-type", "a property is named by a string, not by a %s", ty_name(t));
        return of->elem && !of->n ? of->elem : &ty_any;
    }
    if (of->kind != TY_ANY)
        WARN(in, n, "not-an-object", SV_FMT " is a %s: it cannot be indexed",
             SV_ARG(node_text(in->e->x, n->kids[0])), ty_name(of));
    return &ty_any;
}

/* --- calls ---------------------------------------------------------------------------------------- */

/* Which placeholders {0} to {63} the format has. */
static uint64_t placeholders(struct sv f) {
    uint64_t set = 0;
    for (size_t i = 0; i < f.n; i++) {
        if (f.p[i] != '{')
            continue;
        if (i + 1 < f.n && f.p[i + 1] == '{') {
            i++;
            continue;
        }
        size_t end = i + 1, k = 0;
        while (end < f.n && f.p[end] >= '0' && f.p[end] <= '9' && k < 64)
            k = k * 10 + (size_t)(f.p[end++] - '0');
        if (end > i + 1 && end < f.n && f.p[end] == '}' && k < 64)
            set |= UINT64_C(1) << k;
    }
    return set;
}

static void check_format(struct infer *in, const struct expr_node *n) {
    const struct expr_node *f = n->kids[0];
    if (f->kind != NODE_LITERAL || f->value->kind != VAL_STRING)
        return;
    uint64_t used = placeholders(f->value->str);
    for (size_t i = 0; i < 64; i++) {
        bool has = used & UINT64_C(1) << i;
        if (has && i + 1 >= n->n)
            WARN(in, n, "format-args", "the format asks for {%zu}, and there are only %zu arguments", i,
                 n->n - 1);
        else if (!has && i + 1 < n->n)
            WARN(in, n->kids[i + 1], "format-args", "the format has no {%zu}: this argument is not used",
                 i);
    }
}

static const struct ty *from_json(struct infer *in, const struct expr_node *n) {
    const struct expr_node *text = n->kids[0];
    if (text->kind != NODE_LITERAL || text->value->kind != VAL_STRING)
        return &ty_any;
    struct json *j = NULL;
    struct err e = {0};
    if (json_parse(&in->l->a, text->value->str, &j, &e) < 0) {
        WARN(in, text, "bad-json", "fromJSON of what is no JSON: %s", e.msg);
        return &ty_any;
    }
    return ty_of_json(&in->l->a, j);
}

static void want_text(struct infer *in, const struct expr_node *n, const struct ty *t,
                      struct sv function) {
    if (t->kind == TY_OBJECT || t->kind == TY_ARRAY)
        WARN(in, n, "argument-type", SV_FMT " wants a string here, and this is an %s",
             SV_ARG(function), ty_name(t));
}

static const struct ty *call(struct infer *in, const struct expr_node *n) {
    const struct ty *t[3] = {&ty_any, &ty_any, &ty_any};
    const struct ty *any = NULL;
    for (size_t i = 0; i < n->n; i++) {
        const struct ty *x = infer(in, n->kids[i]);
        if (i < 3)
            t[i] = x;
        if (n->fn == FN_CASE && (i % 2 || i + 1 == n->n))
            any = any ? ty_union(&in->l->a, any, x) : x;
    }
    switch (n->fn) {
    case FN_CONTAINS:
        if (t[0]->kind == TY_OBJECT)
            WARN(in, n->kids[0], "argument-type",
                 "contains wants a string or an array here, and this is an object");
        else if (t[0]->kind != TY_ARRAY && t[0]->kind != TY_ANY)
            want_text(in, n->kids[1], t[1], n->name);
        return &ty_bool;
    case FN_STARTSWITH:
    case FN_ENDSWITH:
        want_text(in, n->kids[0], t[0], n->name);
        want_text(in, n->kids[1], t[1], n->name);
        return &ty_bool;
    case FN_FORMAT:
        want_text(in, n->kids[0], t[0], n->name);
        check_format(in, n);
        return &ty_string;
    case FN_JOIN:
        if (t[0]->kind == TY_OBJECT)
            WARN(in, n->kids[0], "argument-type", "join wants an array here, and this is an object");
        if (n->n > 1)
            want_text(in, n->kids[1], t[1], n->name);
        return &ty_string;
    case FN_FROMJSON:
        want_text(in, n->kids[0], t[0], n->name);
        return from_json(in, n);
    case FN_TOJSON:
        return &ty_string;
    case FN_CASE:
        return any ? any : &ty_any;
    case FN_NONE:
        break;
    }
    if (!sv_ieqs(n->name, "hashFiles"))
        return &ty_bool; /* success, failure, always, cancelled */
    for (size_t i = 0; i < n->n && i < 3; i++)
        want_text(in, n->kids[i], t[i], n->name);
    return &ty_string;
}

/* --- operators ------------------------------------------------------------------------------------ */

static bool composite(const struct ty *t) {
    return t->kind == TY_OBJECT || t->kind == TY_ARRAY;
}

/* A text that is no number never equals a boolean or a number. */
static const struct expr_node *hopeless_text(const struct expr_node *text, const struct ty *other) {
    if (text->kind != NODE_LITERAL || text->value->kind != VAL_STRING ||
        (other->kind != TY_BOOL && other->kind != TY_NUMBER))
        return NULL;
    double d = val_parse_number(text->value->str);
    return d != d ? text : NULL;
}

static const struct ty *compare(struct infer *in, const struct expr_node *n) {
    const struct ty *x = infer(in, n->kids[0]), *y = infer(in, n->kids[1]);
    bool equality = n->kind == NODE_EQ || n->kind == NODE_NE, wrong = false;
    if (x->kind == TY_ANY || y->kind == TY_ANY)
        return &ty_bool;
    if (!equality)
        wrong = composite(x) || composite(y) || x->kind == TY_NULL || y->kind == TY_NULL ||
                x->kind == TY_BOOL || y->kind == TY_BOOL;
    else if (x->kind != TY_NULL && y->kind != TY_NULL)
        wrong = x->kind != y->kind && (composite(x) || composite(y));
    if (wrong) {
        WARN(in, n, "comparison", "%s and %s cannot be compared with each other in this way: it is always %s",
             ty_name(x), ty_name(y), n->kind == NODE_NE ? "true" : "false");
        return &ty_bool;
    }
    const struct expr_node *text = equality ? hopeless_text(n->kids[0], y) : NULL;
    if (equality && !text)
        text = hopeless_text(n->kids[1], x);
    if (text)
        WARN(in, n, "comparison",
             "a %s never equals the text " SV_FMT ": this is always %s",
             ty_name(text == n->kids[0] ? y : x), SV_ARG(node_text(in->e->x, text)),
             n->kind == NODE_NE ? "true" : "false");
    return &ty_bool;
}

/* a && b gives a where that is false: of what can be false there, only null, booleans, numbers and
 * empty texts. a || b gives a where that is true. */
static const struct ty *logical(struct infer *in, const struct expr_node *n) {
    const struct ty *all = NULL;
    for (size_t i = 0; i < n->n; i++) {
        const struct ty *t = infer(in, n->kids[i]);
        bool last = i + 1 == n->n;
        if (!last && n->kind == NODE_AND && composite(t))
            continue; /* always true */
        const struct expr_node *and = n->kids[i];
        while (and->kind == NODE_GROUP)
            and = and->kids[0];
        if (!last && n->kind == NODE_OR && and->kind == NODE_AND) { /* x && a || b */
            struct diags none = {0}, *told = in->l->d;
            in->l->d = &none; /* it was looked at already */
            t = infer(in, and->kids[and->n - 1]);
            in->l->d = told;
            diags_done(&none);
        }
        all = all ? ty_union(&in->l->a, all, t) : t;
    }
    return all;
}

static const struct ty *infer(struct infer *in, const struct expr_node *n) {
    switch (n->kind) {
    case NODE_LITERAL:
        switch (n->value->kind) {
        case VAL_NULL:
            return &ty_null;
        case VAL_BOOL:
            return &ty_bool;
        case VAL_NUMBER:
            return &ty_number;
        case VAL_STRING:
            return &ty_string;
        case VAL_ARRAY:
        case VAL_OBJECT:
            break;
        }
        return &ty_any;
    case NODE_CONTEXT:
        return context_type(in, n->name);
    case NODE_INDEX:
        return index_type(in, n);
    case NODE_STAR:
        return &ty_any;
    case NODE_CALL:
        return call(in, n);
    case NODE_NOT:
        infer(in, n->kids[0]);
        return &ty_bool;
    case NODE_AND:
    case NODE_OR:
        return logical(in, n);
    case NODE_EQ:
    case NODE_NE:
    case NODE_LT:
    case NODE_LE:
    case NODE_GT:
    case NODE_GE:
        return compare(in, n);
    case NODE_GROUP:
        return infer(in, n->kids[0]);
    }
    return &ty_any;
}

/* --- where it stands ------------------------------------------------------------------------------ */

static bool constant(const struct expr_node *n) {
    if (n->kind == NODE_CONTEXT || (n->kind == NODE_CALL && n->fn == FN_NONE))
        return false;
    for (size_t i = 0; i < n->n; i++)
        if (!constant(n->kids[i]))
            return false;
    return true;
}

/* What has to come out, where the value is one expression. */
static const struct wanted {
    const char *key;
    bool named; /* the value of a free key below it */
    unsigned kinds;
} wanted[] = {
    {"timeout-minutes", false, 1u << TY_NUMBER}, {"cancel-timeout-minutes", false, 1u << TY_NUMBER},
    {"max-parallel", false, 1u << TY_NUMBER},    {"continue-on-error", false, 1u << TY_BOOL},
    {"fail-fast", false, 1u << TY_BOOL},         {"cancel-in-progress", false, 1u << TY_BOOL},
    {"matrix", false, 1u << TY_OBJECT},          {"matrix", true, 1u << TY_ARRAY},
    {"include", false, 1u << TY_ARRAY | 1u << TY_OBJECT},
    {"exclude", false, 1u << TY_ARRAY | 1u << TY_OBJECT},
    {"services", false, 1u << TY_OBJECT},        {"env", false, 1u << TY_OBJECT},
    {"with", false, 1u << TY_OBJECT},            {"strategy", false, 1u << TY_OBJECT}};
/* Texts: lists and objects would be written as "Array" and "Object" there. */
static const char *const texts[] = {"run", "name", "run-name", "shell", "working-directory", "env",
                                    "with", "group", "image", "options", "url", "outputs", "value",
                                    NULL};

static bool alone(const struct plan_expr *e) {
    struct sv t = e->node->text, before = sv_trim(sv_sub(t, 0, e->offset)),
              after = sv_sub(t, e->offset + e->x->text.n, t.n);
    size_t blanks = 0;
    while (blanks < after.n && strchr(" \t\r\n", after.p[blanks]))
        blanks++;
    return sv_eqs(before, "${{") && *t.p == '$' && sv_eqs(sv_sub(after, blanks, after.n), "}}");
}

/* The default of an input has the input's type. */
static void check_default(struct infer *in, const struct ty *t) {
    const struct plan_trigger *on = plan_trigger_find(in->l->p, "workflow_call");
    for (size_t i = 0; on && in->e->name && i < on->n_inputs; i++) {
        const struct ty *want = input_type(&on->inputs[i]);
        if (streq(on->inputs[i].name, in->e->name) && want->kind != TY_STRING && t->kind != want->kind)
            WARN(in, in->e->x->root, "value-type", "input \"%s\" is a %s, and this is a %s",
                 in->e->name, ty_name(want), ty_name(t));
    }
}

static void check_place(struct infer *in, const struct ty *t) {
    const struct plan_expr *e = in->e;
    const struct expr_node *root = e->x->root;
    if (!e->key)
        return;
    if (!alone(e)) {
        if (composite(t) || t->kind == TY_NULL)
            WARN(in, root, "object-in-text", "an %s put into a text is written as \"%s\"",
                 t->kind == TY_NULL ? "empty value" : ty_name(t),
                 t->kind == TY_NULL ? "" : t->kind == TY_ARRAY ? "Array" : "Object");
        return;
    }
    if (t->kind == TY_ANY)
        return;
    if (e->key && streq(e->key, "default") && !e->job) {
        check_default(in, t);
        return;
    }
    for (size_t i = 0; e->key && i < ELEMENTS(wanted); i++) {
        if (!streq(wanted[i].key, e->key) || wanted[i].named != (e->name != NULL))
            continue;
        bool row = wanted[i].named && (wanted[i].kinds & 1u << TY_ARRAY);
        if (row && composite(t))
            return; /* an item of a row may be anything */
        if (!(wanted[i].kinds & 1u << t->kind) && !row)
            WARN(in, root, "value-type", "`%s` wants %s, and this is a %s", e->key,
                 wanted[i].kinds & 1u << TY_NUMBER ? "a number"
                 : wanted[i].kinds & 1u << TY_BOOL ? "a boolean"
                 : wanted[i].kinds & 1u << TY_ARRAY ? "an array" : "an object",
                 ty_name(t));
        return;
    }
    for (const char *const *k = texts; e->key && *k; k++)
        if (streq(*k, e->key) && composite(t))
            WARN(in, root, "object-in-text", "an %s put into a text is written as \"%s\"", ty_name(t),
                 t->kind == TY_ARRAY ? "Array" : "Object");
}

static void check_condition(struct infer *in) {
    const struct plan_expr *e = in->e;
    struct sv t = e->node->text;
    if (sv_find(t, SV("${{")) >= 0 && !alone(e)) {
        if (e->offset < 4 || sv_find(sv_sub(t, 0, e->offset - 3), SV("${{")) < 0) /* the first */
            lint_warn(in->l, e->node->at, "always-true", NULL,
                      "what stands outside of ${{ }} makes this a text, which is always true");
    } else if (e->x->root && constant(e->x->root)) {
        WARN(in, e->x->root, "constant-condition", "this condition is the same in every run");
    }
}

void lint_exprs(struct lint *l) {
    const struct plan_job *job = NULL;
    for (size_t i = 0; i < l->p->n_exprs; i++) {
        const struct plan_expr *e = &l->p->exprs[i];
        if (!e->x->root)
            continue;
        if (e->job != job) {
            job = e->job;
            l->needs = l->matrix = NULL;
            l->steps = NULL;
        }
        struct infer in = {l, e};
        const struct ty *t = infer(&in, e->x->root);
        if (e->key && streq(e->key, "if"))
            check_condition(&in);
        else
            check_place(&in, t);
    }
}
