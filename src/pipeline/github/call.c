/* The tree of calls is walked with what the caller may hand down: the permissions of its token. A
 * called workflow may ask for less, never for more; where the caller says nothing at any level and
 * the repository's default is not known, nothing is compared. */
#include "pipeline/github/call.h"

enum { MAX_NESTED = 3 };
enum level { LEVEL_NO, LEVEL_READ, LEVEL_WRITE_ACCESS };

/* The first ones make up read-all and write-all, in the order in which GitHub lists them. */
static const char *const scopes[] = {"actions",       "checks",
                                     "contents",      "deployments",
                                     "discussions",   "issues",
                                     "packages",      "pages",
                                     "pull-requests", "repository-projects",
                                     "statuses",      "security-events",
                                     "id-token",      "artifact-metadata",
                                     "attestations",  "copilot-requests",
                                     "models",        "vulnerability-alerts",
                                     "code-quality",  "drives"};
enum { N_SCOPES = ELEMENTS(scopes), N_LISTED = 13 };

struct allowed {
    bool known;
    enum level level[N_SCOPES];
};

static enum level level_of(const char *s) {
    return s && streq(s, "write")  ? LEVEL_WRITE_ACCESS
           : s && streq(s, "read") ? LEVEL_READ
                                   : LEVEL_NO;
}

/* `listed`: what the short forms ask for; else what they allow. */
static struct allowed permissions_of(const struct plan_permissions *p, bool listed) {
    struct allowed a = {.known = true};
    for (size_t i = 0; p->all && i < (listed ? N_LISTED : N_SCOPES); i++)
        a.level[i] = streq(p->all, "write-all") ? LEVEL_WRITE_ACCESS : LEVEL_READ;
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < N_SCOPES; k++)
            if (p->items[i].key.s && streq(scopes[k], p->items[i].key.s))
                a.level[k] = level_of(p->items[i].value.s);
    return a;
}

static void add_scope(struct buf *b, size_t scope, enum level level) {
    static const char *const names[] = {"none", "read", "write"};
    buf_addf(b, "%s%s: %s", b->n ? ", " : "", scopes[scope], names[level]);
}

struct walk {
    const struct github_limits *lim;
    github_load_fn load;
    void *arg;
    struct diags *d;
    size_t jobs;
    bool too_deep;
};

/* `who` asks for p; the call was made by `job`. */
static void compare(struct walk *w, const struct plan_job *job, const char *who,
                    const struct plan_permissions *p, const struct allowed *max) {
    _cleanup_buf_ struct buf asked = BUF_SMALL, granted = BUF_SMALL;
    struct allowed want = permissions_of(p, true);
    if (!p->given || !max->known)
        return;
    for (size_t i = 0; i < N_SCOPES; i++) {
        if (want.level[i] <= max->level[i])
            continue;
        add_scope(&asked, i, want.level[i]);
        add_scope(&granted, i, max->level[i]);
    }
    if (asked.n)
        diags_add(w->d, DIAG_ERROR, job->at, "permissions", NULL,
                  "Error calling workflow '%s'. %s is requesting '%s', but is only allowed '%s'.",
                  job->call->uses.s, who, buf_str(&asked), buf_str(&granted));
}

static void check_permissions(struct walk *w, const struct plan_job *job, const struct plan *called,
                              const struct allowed *max) {
    _cleanup_buf_ struct buf who = BUF_SMALL;
    buf_addf(&who, "The workflow '%s'", job->call->uses.s);
    compare(w, job, buf_str(&who), &called->permissions, max);
    for (size_t i = 0; i < called->n_jobs; i++) {
        const struct plan_job *j = &called->jobs[i];
        buf_reset(&who);
        buf_addf(&who, "The nested job '%s'", j->name.s && *j->name.s ? j->name.s : j->id);
        compare(w, job, buf_str(&who), &j->permissions, max);
    }
}

static void walk_plan(struct walk *w, const struct plan *p, const struct allowed *inherited,
                      size_t depth) {
    size_t limit = w->lim->max_nested_depth ? w->lim->max_nested_depth : MAX_NESTED;
    struct allowed own = p->permissions.given ? permissions_of(&p->permissions, false) : *inherited;
    w->jobs += p->n_jobs;
    for (size_t i = 0; i < p->n_jobs; i++) {
        const struct plan_job *j = &p->jobs[i];
        if (!j->call || !w->load)
            continue;
        if (depth >= limit) {
            if (!w->too_deep)
                diags_add(w->d, DIAG_ERROR, (struct span){.file = p->file}, "nesting", NULL,
                          "Nested reusable workflow depth exceeded %zu.", limit);
            w->too_deep = true;
            continue;
        }
        const struct plan *called = w->load(w->arg, p, &j->call->uses, w->d);
        if (!called)
            continue;
        struct allowed max = j->permissions.given ? permissions_of(&j->permissions, false) : own;
        github_check_call(j, called, w->d);
        check_permissions(w, j, called, &max);
        walk_plan(w, called, &max, depth + 1);
    }
}

void github_check_calls(const struct plan *p, const struct github_limits *lim, github_load_fn load,
                        void *arg, struct diags *d) {
    static const struct github_limits none;
    struct walk w = {lim ? lim : &none, load, arg, d, 0, false};
    struct allowed dflt = {.known = w.lim->policy != POLICY_UNKNOWN};
    for (size_t i = 0; i < N_SCOPES; i++) {
        bool read = streq(scopes[i], "contents") || streq(scopes[i], "packages");
        dflt.level[i] = w.lim->policy == POLICY_WRITE ? LEVEL_WRITE_ACCESS
                        : read                        ? LEVEL_READ
                                                      : LEVEL_NO;
    }
    walk_plan(&w, p, &dflt, 0);
    if (w.lim->max_job_limit && w.jobs > w.lim->max_job_limit)
        diags_add(d, DIAG_ERROR, (struct span){.file = p->file}, "job-limit", NULL,
                  "The workflow may not contain more than %zu jobs", w.lim->max_job_limit);
}

/* --- one call --------------------------------------------------------------------------------- */

static const struct plan_input *declared(const struct plan_input *in, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(in[i].name, name) == 0)
            return &in[i];
    return NULL;
}

static bool passed(const struct text_map *m, const char *name) {
    for (size_t i = 0; i < m->n; i++)
        if (strcasecmp(m->items[i].key.s, name) == 0 || m->items[i].key.expr)
            return true;
    return m->whole.s != NULL;
}

/* A literal of the wrong type; expressions are known when they run. */
static void check_value(const struct plan_input *in, const struct text *v, struct diags *d) {
    bool ok = v->expr || !v->s ||
              (in->type == INPUT_BOOLEAN  ? v->type == TEXT_BOOL
               : in->type == INPUT_NUMBER ? v->type == TEXT_NUMBER
                                          : true);
    if (!ok)
        diags_add(d, DIAG_ERROR, v->at, "call", NULL, "Unexpected value '%s'", v->s);
}

static void check_inputs(const struct plan_call *c, const struct plan_trigger *t, struct diags *d) {
    for (size_t i = 0; i < t->n_inputs; i++)
        if (t->inputs[i].required && !passed(&c->with, t->inputs[i].name))
            diags_add(d, DIAG_ERROR, c->uses.at, "call", NULL,
                      "Input %s is required, but not provided while calling.", t->inputs[i].name);
    for (size_t i = 0; i < c->with.n; i++) {
        const struct text_pair *p = &c->with.items[i];
        const struct plan_input *in = declared(t->inputs, t->n_inputs, p->key.s);
        if (in)
            check_value(in, &p->value, d);
        else if (!p->key.expr)
            diags_add(d, DIAG_ERROR, p->value.at, "call", NULL,
                      "Invalid input, %s is not defined in the referenced workflow.", p->key.s);
    }
}

static void check_secrets(const struct plan_call *c, const struct plan_trigger *t,
                          struct diags *d) {
    for (size_t i = 0; i < t->n_secrets; i++)
        if (t->secrets[i].required && !passed(&c->secrets, t->secrets[i].name))
            diags_add(d, DIAG_ERROR, c->uses.at, "call", NULL,
                      "Secret %s is required, but not provided while calling.", t->secrets[i].name);
    for (size_t i = 0; i < c->secrets.n; i++) {
        const struct text_pair *p = &c->secrets.items[i];
        if (!p->key.expr && !declared(t->secrets, t->n_secrets, p->key.s))
            diags_add(d, DIAG_ERROR, p->value.at, "call", NULL,
                      "Invalid secret, %s is not defined in the referenced workflow.", p->key.s);
    }
}

void github_check_call(const struct plan_job *job, const struct plan *called, struct diags *d) {
    const struct plan_call *c = job->call;
    const struct plan_trigger *t = plan_trigger_find(called, "workflow_call");
    if (!t) {
        diags_add(
            d, DIAG_ERROR, c->uses.at, "call", "add \"workflow_call:\" to its \"on\"",
            "error parsing called workflow \"%s\": workflow is not reusable as it is missing a "
            "`on.workflow_call` trigger",
            c->uses.s);
        return;
    }
    check_inputs(c, t, d);
    if (!c->inherit_secrets)
        check_secrets(c, t, d);
}
