/* A workflow's verdict is the trigger's own. Jobs are looked at in the order of their needs: a
 * condition is evaluated with what is known before a run (github, inputs, vars); of the jobs that it
 * needs the result is known only when they do not run, else they are taken to have succeeded, and
 * their outputs are empty. */
#include "cli/why_not.h"

#include "core/fs.h"
#include "expr/ast.h"
#include "pipeline/trigger.h"
#include "run/payload.h"

struct why {
    struct git_info git;
    struct payload payload;
    struct arena arena;
    const char *event;
    const struct strv *inputs, *vars;
    struct json *given;
};

int why_new(struct why **ret, const struct why_options *o, struct err *e) {
    struct why *w = xcalloc(1, sizeof *w);
    w->event = o->event ? o->event : "push";
    w->inputs = &o->inputs;
    w->vars = &o->vars;
    int r = git_info_read(".", &w->git, e);
    if (r >= 0 && o->payload) {
        _cleanup_buf_ struct buf b = BUF_LARGE;
        r = fs_read(AT_FDCWD, o->payload, &b, e);
        if (r >= 0)
            r = json_parse(&w->arena, arena_sv(&w->arena, buf_sv(&b)), &w->given, e);
        if (r < 0)
            err_wrap(e, r, "%s", o->payload);
    }
    struct payload_input in = {.event = w->event, .action = o->action, .ref = o->ref, .base = o->base,
                               .given = w->given, .inputs = &o->inputs};
    if (r >= 0)
        r = payload_make(&w->payload, w->git.worktree ? w->git.worktree : ".", &w->git, &in, e);
    if (r < 0) {
        if (e && e->kind != ERR_ENV)
            e->kind = ERR_USER;
        why_free(w);
        return r;
    }
    *ret = w;
    return 0;
}

void why_free(struct why *w) {
    if (!w)
        return;
    payload_done(&w->payload);
    git_info_done(&w->git);
    arena_done(&w->arena);
    free(w);
}

/* --- what was found ------------------------------------------------------------------------------- */

struct step { /* one part of a condition */
    unsigned depth;
    const char *text, *value;
};
struct finding {
    const char *id, *reason; /* reason NULL: it runs */
    struct span at;
    struct step *steps;
    size_t n, cap;
    const char *error;
};
struct pattern {
    const char *pattern, *text;
    bool matches;
};
struct verdict {
    struct trigger_verdict v;
    struct pattern *patterns;
    size_t n_patterns;
    struct finding *jobs;
};

/* --- the workflow --------------------------------------------------------------------------------- */

static const struct plan_filter *filter_of(const struct plan_trigger *t, const char *name) {
    const struct {
        const char *name;
        const struct plan_filter *f;
    } all[] = {{"branches", &t->branches}, {"branches-ignore", &t->branches_ignore}, {"tags", &t->tags},
               {"tags-ignore", &t->tags_ignore}, {"paths", &t->paths}, {"paths-ignore", &t->paths_ignore},
               {"workflows", &t->workflows}};
    for (size_t i = 0; name && i < ELEMENTS(all); i++)
        if (streq(all[i].name, name))
            return all[i].f;
    return NULL;
}

/* Every pattern of the filter that refused against every text it was held against. */
static void list_patterns(struct why *w, const struct plan *p, struct verdict *v) {
    enum { MAX_TEXTS = 20 };
    const struct plan_trigger *t = plan_trigger_find(p, w->event);
    const struct plan_filter *f = t ? filter_of(t, v->v.filter) : NULL;
    const struct payload *pl = &w->payload;
    if (!f || !f->n)
        return;
    const char *one = startswith(v->v.filter, "tags")                   ? pl->tag
                      : startswith(v->v.filter, "workflows") ? payload_workflow(pl)
                      : payload_base_branch(pl)              ? payload_base_branch(pl)
                                                             : pl->branch;
    bool paths = startswith(v->v.filter, "paths") != NULL;
    size_t n = paths ? MIN(pl->changed.n, (size_t)MAX_TEXTS) : one ? 1 : 0;
    v->patterns = ARENA_ARRAY(&w->arena, struct pattern, n * f->n + 1);
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < f->n; i++) {
            const char *pattern = f->items[i], *bare = pattern + (*pattern == '!');
            const char *text = paths ? pl->changed.v[k] : one;
            v->patterns[v->n_patterns++] = (struct pattern){pattern, text, github_glob(bare, text)};
        }
}

/* --- jobs ----------------------------------------------------------------------------------------- */

static const struct value *object_of(struct arena *a, const struct strv *pairs) {
    struct value *o = val_object(a);
    for (size_t i = 0; pairs && i < pairs->n; i++) {
        const char *eq = strchr(pairs->v[i], '=');
        if (eq)
            val_set(a, o, sv_n(pairs->v[i], (size_t)(eq - pairs->v[i])), val_str(a, eq + 1));
    }
    return o;
}

static const struct value *typed_input(struct arena *a, const struct plan_input *in, const char *s) {
    if (in->type == INPUT_BOOLEAN)
        return val_bool(s && streq(s, "true"));
    if (in->type == INPUT_NUMBER)
        return val_number(a, s ? val_parse_number(sv_from(s)) : 0);
    return val_str(a, s ? s : "");
}

/* Given values and defaults, in their types. */
static const struct value *inputs_of(struct why *w, const struct plan *p) {
    struct arena *a = &w->arena;
    const struct plan_trigger *t = plan_trigger_find(p, w->event);
    struct value *o = val_object(a);
    for (size_t i = 0; t && i < t->n_inputs; i++) {
        const struct plan_input *in = &t->inputs[i];
        const struct value *given = val_gets(object_of(a, w->inputs), in->name);
        const char *s = given ? given->str.p : in->dflt.s;
        val_sets(a, o, in->name, typed_input(a, in, s));
    }
    return o;
}

static const struct value *github_of(struct why *w, const struct plan *p) {
    struct arena *a = &w->arena;
    const struct run_event *ev = &w->payload.event;
    struct value *g = val_object(a);
    const char *short_ref = ev->ref, *rest;
    if ((rest = startswith(ev->ref, "refs/heads/")) || (rest = startswith(ev->ref, "refs/tags/")) ||
        (rest = startswith(ev->ref, "refs/pull/")))
        short_ref = rest;
    const char *slash = strchr(ev->repository, '/');
    val_set_str(a, g, "event_name", ev->name);
    val_sets(a, g, "event", ev->payload);
    val_set_str(a, g, "ref", ev->ref);
    val_set_str(a, g, "ref_name", short_ref);
    val_set_str(a, g, "ref_type", w->payload.tag ? "tag" : "branch");
    val_sets(a, g, "ref_protected", &val_false);
    val_set_str(a, g, "sha", ev->sha);
    val_set_str(a, g, "base_ref", ev->base_ref ? ev->base_ref : "");
    val_set_str(a, g, "head_ref", ev->head_ref ? ev->head_ref : "");
    val_set_str(a, g, "actor", ev->actor);
    val_set_str(a, g, "triggering_actor", ev->actor);
    val_set_str(a, g, "repository", ev->repository);
    val_set_str(a, g, "repository_owner", arena_strndup(a, ev->repository, slash ? (size_t)(slash - ev->repository) : 0));
    val_set_str(a, g, "server_url", ev->server_url);
    val_set_str(a, g, "workflow", p->name.s && *p->name.s ? p->name.s : p->file);
    return g;
}


static int status_fn(void *arg, struct arena *a, const struct value **args, size_t n, const struct value **ret,
                     struct expr_error *xe) {
    (void)a, (void)args, (void)n, (void)xe;
    *ret = val_bool(*(const bool *)arg);
    return 0;
}

struct trace {
    struct why *w;
    struct finding *f;
};

static void note(void *arg, unsigned depth, struct sv text, const struct value *v) {
    struct trace *t = arg;
    enum { MAX_STEPS = 200 };
    if (t->f->n == MAX_STEPS)
        return;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    val_to_json(v, &b, 0);
    GROW(t->f->steps, t->f->cap, t->f->n + 1);
    t->f->steps[t->f->n++] = (struct step){
        depth, arena_strndup(&t->w->arena, text.p, text.n),
        b.n > 200 ? arena_printf(&t->w->arena, "%.200s…", buf_str(&b)) : arena_strdup(&t->w->arena, buf_str(&b))};
}

static const struct finding *finding_of(const struct plan *p, const struct verdict *v, const char *id) {
    const struct plan_job *j = plan_job_find(p, id);
    return j ? &v->jobs[j - p->jobs] : NULL;
}

/* The condition as it stands, without ${{ }}; "" where there is none. */
static struct sv condition_of(const struct text *t) {
    struct sv s = sv_trim(sv_n(t->s ? t->s : "", t->s ? t->n : 0));
    if (sv_starts(s, "${{") && sv_ends(s, "}}") && sv_find(sv_sub(s, 3, s.n), SV("${{")) < 0)
        s = sv_trim(sv_sub(s, 3, s.n - 5));
    return s;
}

static void look_at_job(struct why *w, const struct plan *p, struct verdict *v, const struct plan_job *j,
                        const struct value *contexts) {
    struct finding *f = &v->jobs[j - p->jobs];
    struct arena *a = &w->arena;
    const char *stopped = NULL;
    struct value *needs = val_object(a), *root = val_object(a);
    for (size_t i = 0; i < j->needs.n; i++) {
        const struct finding *need = finding_of(p, v, j->needs.items[i].s);
        struct value *one = val_object(a);
        val_set_str(a, one, "result", need && need->reason ? "skipped" : "success");
        val_sets(a, one, "outputs", val_object(a));
        val_sets(a, needs, j->needs.items[i].s, one);
        if (need && need->reason && !stopped)
            stopped = need->id;
    }
    for (size_t i = 0; i < contexts->n; i++)
        val_set(a, root, contexts->keys[i], contexts->items[i]);
    val_sets(a, root, "needs", needs);
    struct sv text = condition_of(&j->if_);
    static const bool yes = true, no = false;
    bool success = !stopped;
    struct trace t = {w, f};
    struct expr_env env = {
        .contexts = root,
        .funcs = {{"success", status_fn, &success}, {"failure", status_fn, (void *)&no},
                  {"always", status_fn, (void *)&yes}, {"cancelled", status_fn, (void *)&no}},
        .n_funcs = 4, .trace = note, .trace_arg = &t};
    struct expr_error xe = {0};
    struct expr *x = NULL;
    const struct value *result = &val_true;
    f->at = j->if_.s ? j->if_.at : j->at;
    if (text.n && (expr_parse(a, text, NULL, &x, &xe) < 0 || expr_eval(a, x, &env, &result, &xe) < 0)) {
        f->error = arena_strdup(a, xe.msg);
        return;
    }
    bool status = x && expr_calls_status(x);
    if (stopped && !status)
        f->reason = arena_printf(a, "it needs %s, which does not run", stopped);
    else if (!val_truthy(result))
        f->reason = "its condition is false";
}

static void look(struct why *w, const struct plan *p, struct verdict *v) {
    const struct plan_trigger *on = plan_trigger_find(p, w->event);
    if (on && (on->paths.given || on->paths_ignore.given))
        payload_changed(&w->payload);
    static const char *const none[] = {NULL};
    const struct payload *pl = &w->payload;
    struct trigger_event ev = {
        .name = w->event, .type = pl->action, .branch = pl->branch, .tag = pl->tag,
        .base_branch = payload_base_branch(pl), .workflow = payload_workflow(pl),
        .paths = !pl->changed_known ? NULL : pl->changed.n ? (const char *const *)pl->changed.v : none,
        .n_paths = pl->changed_known ? pl->changed.n : 0};
    v->v = trigger_match(p, &ev);
    v->jobs = ARENA_ARRAY(&w->arena, struct finding, p->n_jobs + 1);
    for (size_t i = 0; i < p->n_jobs; i++)
        v->jobs[i].id = p->jobs[i].id;
    if (!v->v.runs) {
        list_patterns(w, p, v);
        return;
    }
    if (p->dialect != DIALECT_GITHUB)
        return;
    struct value *contexts = val_object(&w->arena);
    val_sets(&w->arena, contexts, "github", github_of(w, p));
    val_sets(&w->arena, contexts, "inputs", inputs_of(w, p));
    val_sets(&w->arena, contexts, "vars", object_of(&w->arena, w->vars));
    /* Jobs after those that they need; a plan without errors has no cycles, a wrong one ends too. */
    bool *done = ARENA_ARRAY(&w->arena, bool, p->n_jobs + 1);
    for (size_t round = 0; round < p->n_jobs; round++)
        for (size_t i = 0; i < p->n_jobs; i++) {
            const struct plan_job *j = &p->jobs[i];
            bool ready = !done[i];
            for (size_t k = 0; ready && k < j->needs.n; k++) {
                const struct plan_job *need = plan_job_find(p, j->needs.items[k].s);
                ready = !need || done[need - p->jobs];
            }
            if (ready) {
                look_at_job(w, p, v, j, contexts);
                done[i] = true;
            }
        }
}

static void verdict_done(struct verdict *v, size_t n_jobs) {
    for (size_t i = 0; v->jobs && i < n_jobs; i++)
        free(v->jobs[i].steps);
}

/* --- telling it ----------------------------------------------------------------------------------- */

static void print_steps(const struct finding *f) {
    for (size_t i = 0; i < f->n; i++)
        if (*f->steps[i].value != '{') /* whole contexts: too much to read */
            printf("      %*s%s => %s\n", (int)(2 * f->steps[i].depth), "", f->steps[i].text, f->steps[i].value);
}

void why_print(struct why *w, const struct plan *p) {
    struct verdict v = {0};
    look(w, p, &v);
    if (!v.v.runs) {
        printf("%s does not run on %s: %s", p->file, w->event, v.v.why);
        if (v.v.at.line)
            printf(" (line %u)", v.v.at.line);
        puts("");
        for (size_t i = 0; i < v.n_patterns; i++)
            printf("    %s: %s %s\n", v.patterns[i].pattern,
                   !v.patterns[i].matches            ? "does not match"
                   : *v.patterns[i].pattern == '!' ? "takes away"
                                                     : "matches",
                   v.patterns[i].text);
    } else {
        size_t kept = 0;
        for (size_t i = 0; i < p->n_jobs; i++)
            kept += v.jobs[i].reason || v.jobs[i].error;
        printf("%s runs on %s%s\n", p->file, w->event, kept ? ", but:" : "");
        for (size_t i = 0; i < p->n_jobs; i++) {
            const struct finding *f = &v.jobs[i];
            if (f->error)
                printf("  job %s (line %u): %s\n", f->id, f->at.line, f->error);
            else if (f->reason)
                printf("  job %s does not run (line %u): %s\n", f->id, f->at.line, f->reason);
            if (f->error || f->reason)
                print_steps(f);
        }
    }
    verdict_done(&v, p->n_jobs);
}

static void put_finding(struct json_w *jw, const struct finding *f) {
    jw_obj(jw);
    jw_kstr(jw, "id", f->id);
    if (f->error)
        jw_kstr(jw, "error", f->error);
    else
        jw_kbool(jw, "runs", !f->reason);
    if (f->reason)
        jw_kstr(jw, "reason", f->reason);
    jw_kint(jw, "line", f->at.line);
    jw_kint(jw, "col", f->at.col);
    jw_key(jw, "trace");
    jw_arr(jw);
    for (size_t i = 0; i < f->n; i++) {
        jw_obj(jw);
        jw_kint(jw, "depth", f->steps[i].depth);
        jw_kstr(jw, "expr", f->steps[i].text);
        jw_kstr(jw, "value", f->steps[i].value);
        jw_end_obj(jw);
    }
    jw_end_arr(jw);
    jw_end_obj(jw);
}

void why_put(struct why *w, const struct plan *p, struct json_w *jw) {
    struct verdict v = {0};
    look(w, p, &v);
    jw_obj(jw);
    jw_kstr(jw, "file", p->file);
    jw_kstr(jw, "event", w->event);
    jw_kbool(jw, "runs", v.v.runs);
    if (!v.v.runs) {
        jw_kstr(jw, "filter", v.v.filter);
        jw_kstr(jw, "reason", v.v.why);
        jw_kint(jw, "line", v.v.at.line);
        jw_kint(jw, "col", v.v.at.col);
        jw_key(jw, "patterns");
        jw_arr(jw);
        for (size_t i = 0; i < v.n_patterns; i++) {
            jw_obj(jw);
            jw_kstr(jw, "pattern", v.patterns[i].pattern);
            jw_kstr(jw, "text", v.patterns[i].text);
            jw_kbool(jw, "matches", v.patterns[i].matches);
            jw_end_obj(jw);
        }
        jw_end_arr(jw);
    }
    jw_key(jw, "jobs");
    jw_arr(jw);
    for (size_t i = 0; v.v.runs && i < p->n_jobs; i++)
        put_finding(jw, &v.jobs[i]);
    jw_end_arr(jw);
    jw_end_obj(jw);
    verdict_done(&v, p->n_jobs);
}
