/* The filters of an event are tried one after the other, cheapest first; all must agree. */
#include "pipeline/trigger.h"

#include "pipeline/github/schema.h"

static void add_items(struct buf *b, const char *const *items, size_t n) {
    for (size_t i = 0; i < n && i < 8; i++)
        buf_addf(b, "%s%s", i ? ", " : "", items[i]);
    if (n > 8)
        buf_addf(b, ", and %zu more", n - 8);
}

static bool refuse(struct trigger_verdict *v, const char *filter, struct span at, const char *fmt,
                   ...) _printf_(4, 5);
static bool refuse(struct trigger_verdict *v, const char *filter, struct span at, const char *fmt,
                   ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(v->why, sizeof v->why, fmt, ap);
    va_end(ap);
    v->runs = false;
    v->filter = filter;
    v->at = at;
    return false;
}

static bool refuse_list(struct trigger_verdict *v, const char *filter, const struct plan_filter *f,
                        const char *verb, const char *what) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    add_items(&b, f->items, f->n);
    return refuse(v, filter, f->at, "`%s` (%s) %s %s", filter, buf_str(&b), verb, what);
}

static bool contains(const char *const *list, size_t n, const char *s) {
    for (size_t i = 0; i < n; i++)
        if (streq(list[i], s))
            return true;
    return false;
}

static bool types_agree(const struct plan_trigger *t, const struct trigger_event *ev,
                        struct trigger_verdict *v) {
    if (!ev->type)
        return true;
    if (t->types.given)
        return contains(t->types.items, t->types.n, ev->type) ||
               refuse_list(v, "types", &t->types, "does not have", ev->type);
    const char *const *dflt = schema_default_types(t->event);
    size_t n = 0;
    while (dflt && dflt[n])
        n++;
    if (!dflt || contains(dflt, n, ev->type))
        return true;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    add_items(&b, dflt, n);
    return refuse(v, "types", t->at, "without `types`, %s runs for %s only, not for %s", t->event,
                  buf_str(&b), ev->type);
}

/* x and x-ignore against one name. */
static bool name_agrees(const struct plan_filter *with, const struct plan_filter *without,
                        const char *label, const char *ignore_label, const char *name,
                        struct trigger_verdict *v) {
    if (with->given && !github_patterns(with, name))
        return refuse_list(v, label, with, "does not match", name);
    if (without->given && github_patterns(without, name))
        return refuse_list(v, ignore_label, without, "matches", name);
    return true;
}

static bool given(const struct plan_filter *a, const struct plan_filter *b) {
    return a->given || b->given;
}

/* Filters for the one kind of ref shut out the other. */
static bool push_ref_agrees(const struct plan_trigger *t, const struct trigger_event *ev,
                            struct trigger_verdict *v) {
    bool branches = given(&t->branches, &t->branches_ignore),
         tags = given(&t->tags, &t->tags_ignore);
    if (ev->tag) {
        if (branches && !tags)
            return refuse(v, "tags", t->at,
                          "push has filters for branches only, and this is the tag %s", ev->tag);
        return name_agrees(&t->tags, &t->tags_ignore, "tags", "tags-ignore", ev->tag, v);
    }
    if (tags && !branches)
        return refuse(v, "branches", t->at,
                      "push has filters for tags only, and this is the branch %s",
                      ev->branch ? ev->branch : "(none)");
    return !ev->branch || name_agrees(&t->branches, &t->branches_ignore, "branches",
                                      "branches-ignore", ev->branch, v);
}

static bool paths_agree(const struct plan_trigger *t, const struct trigger_event *ev,
                        struct trigger_verdict *v) {
    if (!ev->paths || ev->tag || !given(&t->paths, &t->paths_ignore))
        return true;
    for (size_t i = 0; i < ev->n_paths; i++) {
        if (t->paths.given ? github_patterns(&t->paths, ev->paths[i])
                           : !github_patterns(&t->paths_ignore, ev->paths[i]))
            return true;
    }
    _cleanup_buf_ struct buf b = BUF_SMALL;
    add_items(&b, ev->paths, ev->n_paths);
    if (!ev->n_paths)
        buf_adds(&b, "no file changed");
    if (t->paths.given)
        return refuse_list(v, "paths", &t->paths,
                           "matches none of the changed files:", buf_str(&b));
    return refuse_list(v, "paths-ignore", &t->paths_ignore,
                       "covers all changed files:", buf_str(&b));
}

static bool workflows_agree(const struct plan_trigger *t, const struct trigger_event *ev,
                            struct trigger_verdict *v) {
    return !t->workflows.given || !ev->workflow || github_patterns(&t->workflows, ev->workflow) ||
           refuse_list(v, "workflows", &t->workflows, "does not have", ev->workflow);
}

struct trigger_verdict trigger_match(const struct plan *p, const struct trigger_event *ev) {
    struct trigger_verdict v = {.runs = true};
    if (p->dialect != DIALECT_GITHUB)
        return v; /* a Bitbucket plan was selected for its event when it was read */
    const struct plan_trigger *t = plan_trigger_find(p, ev->name);
    if (!t) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        for (size_t i = 0; i < p->n_triggers; i++)
            buf_addf(&b, "%s%s", i ? ", " : "", p->triggers[i].event);
        refuse(&v, "on", p->n_triggers ? p->triggers[0].at : (struct span){.file = p->file},
               "it runs on %s, not on %s", p->n_triggers ? buf_str(&b) : "no event", ev->name);
        return v;
    }
    bool push = streq(ev->name, "push");
    const char *branch = streq(ev->name, "workflow_run") ? ev->branch : ev->base_branch;
    if (types_agree(t, ev, &v) && workflows_agree(t, ev, &v) &&
        (push ? push_ref_agrees(t, ev, &v)
              : !branch || name_agrees(&t->branches, &t->branches_ignore, "branches",
                                       "branches-ignore", branch, &v)))
        paths_agree(t, ev, &v);
    return v;
}
