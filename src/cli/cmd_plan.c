/* slipway plan: what the pipeline files say, without running anything. */
#include "cli/commands.h"
#include "cli/opts.h"
#include "cli/pipeline_files.h"
#include "cli/plan_legs.h"
#include "cli/term.h"
#include "cli/why_not.h"
#include "core/json.h"

/* Reads one file into plans; a Bitbucket file for a branch. Prints what is wrong. */
static int read_plan(const char *file, const struct bitbucket_select *sel, struct plan **ret) {
    struct err e = {0};
    _cleanup_buf_ struct buf text = {0};
    if (pipeline_text(file, &text, &e) < 0)
        return cli_fail(&e);
    struct diags d = {0};
    int r = pipeline_dialect(file, buf_sv(&text)) == DIALECT_BITBUCKET
                ? bitbucket_read(file, buf_sv(&text), sel, ret, &d)
                : github_read(file, buf_sv(&text), NULL, ret, &d);
    cli_diags(&d, buf_str(&text), text.n);
    diags_done(&d);
    if (r == -ENOENT) {
        err_set(&e, ERR_USER, r, "%s: no pipeline for %s", file, sel->ref);
        return cli_fail(&e);
    }
    return r < 0 ? 1 : 0; /* what could be read is shown all the same */
}

static void print_list(const char *before, const struct text_list *l) {
    if (l->whole.s)
        printf("%s%s", before, l->whole.s);
    for (size_t i = 0; i < l->n; i++)
        printf("%s%s", i ? ", " : before, l->items[i].s);
}

/* One line of a text, cut. */
static void print_line(const char *s) {
    const char *nl = strchr(s, '\n');
    int n = nl ? (int)(nl - s) : (int)strlen(s);
    printf("%.*s%s", n > 90 ? 90 : n, s, n > 90 || (nl && nl[1]) ? " …" : "");
}

static void print_steps(const struct plan_step *steps, size_t n, int indent) {
    static const char *const kinds[] = {"run",          "uses",   "wait for",
                                        "wait for all", "cancel", "parallel"};
    for (size_t i = 0; i < n; i++) {
        const struct plan_step *s = &steps[i];
        printf("%*s%2zu. ", indent, "", i + 1);
        if (s->name.s) {
            print_line(s->name.s);
            printf(": ");
        }
        printf("%s ", kinds[s->kind]);
        if (s->run.s || s->uses.s)
            print_line(s->run.s ? s->run.s : s->uses.s);
        print_list("", &s->targets);
        if (s->if_.s)
            printf("  [if %s]", s->if_.s);
        puts("");
        print_steps(s->children, s->n_children, indent + 4);
    }
}

static void print_job(const struct plan_job *j) {
    printf("  job %s", j->id);
    if (j->name.s)
        printf(" \"%s\"", j->name.s);
    print_list("  on ", &j->runs_on);
    if (j->container.image.s)
        printf("  in %s", j->container.image.s);
    print_list("  after ", &j->needs);
    size_t legs = j->matrix ? plan_legs_count(j) : 0;
    if (legs)
        printf("  matrix of %zu", legs);
    else if (j->matrix)
        printf("  matrix");
    if (j->if_.s)
        printf("  [if %s]", j->if_.s);
    puts("");
    for (size_t i = 0; i < j->n_services; i++)
        printf("      service %s: %s\n", j->services[i].id,
               j->services[i].image.s ? j->services[i].image.s : "(its own)");
    if (j->call)
        printf("      calls %s\n", j->call->uses.s);
    print_steps(j->steps, j->n_steps, 6);
}

static void print_plan(const struct plan *p) {
    printf("%s", p->file);
    if (p->name.s)
        printf(" \"%s\"", p->name.s);
    for (size_t i = 0; i < p->n_triggers; i++)
        printf("%s%s", i ? ", " : "  on ", p->triggers[i].event);
    puts("");
    for (size_t i = 0; i < p->n_jobs; i++)
        print_job(&p->jobs[i]);
}

struct plan_options {
    struct bitbucket_select sel;
    bool json, source, why_not;
};

static void put_list(struct json_w *w, const char *key, const struct strv *files, struct plan **plans,
                     struct why *why) {
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < files->n; i++) {
        if (plans[i] && why)
            why_put(why, plans[i], w);
        else if (plans[i])
            plan_legs_put(plans[i], w);
    }
    jw_end_arr(w);
}

static void print_json(const struct plan_options *o, const struct strv *files, struct plan **plans,
                       struct why *why) {
    _cleanup_buf_ struct buf out = BUF_MAX(1u << 30);
    struct json_w w;
    jw_init(&w, &out, 2);
    jw_obj(&w);
    jw_kint(&w, "version", 1);
    jw_key(&w, "plans");
    jw_arr(&w);
    for (size_t i = 0; i < files->n; i++)
        if (plans[i])
            plan_put(plans[i], &w, o->source);
    jw_end_arr(&w);
    put_list(&w, "matrices", files, plans, NULL);
    if (why)
        put_list(&w, "whyNot", files, plans, why);
    jw_end_obj(&w);
    puts(buf_str(&out));
}

static int plan_all(const struct strv *files, const struct plan_options *o, struct why *why) {
    struct plan **plans = xcalloc(files->n + 1, sizeof *plans);
    int worst = 0;
    for (size_t i = 0; i < files->n; i++) {
        int r = read_plan(files->v[i], &o->sel, &plans[i]);
        worst = MAX(worst, r);
    }
    if (o->json)
        print_json(o, files, plans, why);
    for (size_t i = 0; i < files->n; i++) {
        if (plans[i] && !o->json && why)
            why_print(why, plans[i]);
        else if (plans[i] && !o->json)
            print_plan(plans[i]);
        plan_free(plans[i]);
    }
    free(plans);
    return worst;
}

int cmd_plan(int argc, char **argv);
int cmd_plan(int argc, char **argv) {
    struct plan_options opt = {0};
    struct why_options wo = {0};
    const char *branch = NULL, *tag = NULL, *pr = NULL, *custom = NULL;
    const struct opt items[] = {
        {0, "json", OPT_FLAG, &opt.json, NULL, "the whole plan as JSON (docs/plan-json.md)"},
        {0, "source", OPT_FLAG, &opt.source, NULL,
         "with --json: also each file's values as they stand, with places"},
        {0, NULL, OPT_GROUP, NULL, NULL, "What an event starts"},
        {0, "why-not", OPT_FLAG, &opt.why_not, NULL,
         "which workflows and jobs do not run, and why, step by step"},
        {0, "event", OPT_STR, &wo.event, "NAME", "the event (push)"},
        {0, "activity", OPT_STR, &wo.action, "TYPE", "its activity type"},
        {0, "ref", OPT_STR, &wo.ref, "REF", "branch, tag or full ref (what is checked out)"},
        {0, "base", OPT_STR, &wo.base, "BRANCH", "that a pull request goes into (the default branch)"},
        {'e', "eventpath", OPT_STR, &wo.payload, "FILE", "payload, as JSON"},
        {0, "input", OPT_LIST, &wo.inputs, "K=V", "of workflow_dispatch"},
        {0, "var", OPT_LIST, &wo.vars, "K=V", "for the vars context"},
        {0, NULL, OPT_GROUP, NULL, NULL, "Which pipeline of a bitbucket-pipelines.yml"},
        {0, "branch", OPT_STR, &branch, "NAME", "of a push to this branch (main)"},
        {0, "tag", OPT_STR, &tag, "NAME", "of a push of this tag"},
        {0, "pull-request", OPT_STR, &pr, "BRANCH", "of a pull request from this branch"},
        {0, "custom", OPT_STR, &custom, "NAME", "a custom one"},
    };
    const struct opts o = {.usage = "plan [options] [FILE…]",
                           .about = "Prints the jobs and steps of workflow files and "
                                    "bitbucket-pipelines.yml, without running\n"
                                    "them. Without files: those of the repository.",
                           .items = items,
                           .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_strv_ struct strv files = {0};
    if (pipeline_files(n, argv + 1, &files, &e) < 0)
        return cli_fail(&e);
    opt.sel = (struct bitbucket_select){BB_PUSH_BRANCH, branch ? branch : "main"};
    if (tag)
        opt.sel = (struct bitbucket_select){BB_PUSH_TAG, tag};
    else if (pr)
        opt.sel = (struct bitbucket_select){BB_PULL_REQUEST, pr};
    else if (custom)
        opt.sel = (struct bitbucket_select){BB_CUSTOM, custom};
    struct why *why = NULL;
    opt.why_not = opt.why_not || wo.event;
    r = opt.why_not && why_new(&why, &wo, &e) < 0 ? cli_fail(&e) : plan_all(&files, &opt, why);
    why_free(why);
    strv_done(&wo.inputs);
    strv_done(&wo.vars);
    return r;
}
