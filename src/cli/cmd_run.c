/* slipway run: from options to a request, from a request to a run. The order: what there is (git,
 * configuration), what happened (payload), what it starts (selection), what is missing, the run. */
#include "base/hostenv.h"
#include "cli/context.h"
#include "cli/kvfile.h"
#include "cli/debug.h"
#include "cli/dispatch.h"
#include "cli/opts.h"
#include "cli/report.h"
#include "cli/select.h"
#include "cli/term.h"
#include "cli/ui.h"
#include "cli/watch.h"
#include "core/fs.h"
#include "core/loop.h"
#include "run/run.h"
#include "source/remote.h"

#include <dirent.h>
#include <signal.h>

struct run_opts {
    struct strv jobs, secrets, vars, env, inputs, matrix, platforms, allow_push_to, breaks, approve, reports, local;
    const char *workflow, *dir, *actor, *secret_file, *var_file, *env_file, *input_file, *payload_file;
    const char *repository, *ref, *base, *dialect, *changed_from, *pull, *actions_mirror, *github_token;
    bool list, dry, verbose, quiet, bind, pull_flag, offline, clean, keep, json, allow_push, allow_deploy, timings, summary, failed, watch, with_ignored, skip_unavailable;
    bool event_given;
    bool force, no_host_env, no_native;
    int64_t parallel;
    uint64_t memory;
};

/* Everything that one run holds, freed together. */
struct run_cmd {
    struct run_opts o;
    char *dir; /* top of the work tree */
    bool debug;              /* ACTIONS_STEP_DEBUG or ACTIONS_RUNNER_DEBUG */
    const struct json *last; /* --failed: the record of the run before */
    struct git_info git;
    struct payload payload;
    struct selection sel;
    struct cli_ctx ctx;
    struct masker *masker;
    struct events *events;
    struct ui *ui;
    struct log_sink *log;
    struct report *report;
    struct run_request rq;
    struct run *run;
    struct arena arena;
    int log_dir;
};

static struct run *volatile running; /* for the signal handler */
static void on_signal(int signo) {
    struct run *r = running;
    run_debug_interrupted = 1;
    if (r)
        run_cancel(r);
    else
        _exit(130);
}

static void opts_done(struct run_opts *o) {
    struct strv *lists[] = {&o->jobs, &o->secrets, &o->vars, &o->env, &o->inputs, &o->matrix, &o->platforms, &o->allow_push_to, &o->breaks, &o->approve, &o->reports, &o->local};
    for (size_t i = 0; i < ELEMENTS(lists); i++)
        strv_done(lists[i]);
}

static void done(struct run_cmd *c) {
    running = NULL;
    run_free(c->run);
    ui_free(c->ui);
    log_sink_free(c->log);
    report_free(c->report);
    fd_close(c->log_dir);
    events_free(c->events);
    masker_free(c->masker);
    select_done(&c->sel);
    payload_done(&c->payload);
    cli_close(&c->ctx);
    git_info_done(&c->git);
    struct strv *lists[] = {&c->rq.secrets, &c->rq.vars, &c->rq.inputs, &c->rq.env, &c->rq.jobs, &c->rq.matrix,
                            &c->rq.platforms, &c->rq.runner_images, &c->rq.allow_push, &c->rq.local_repositories,
                            &c->rq.env_secrets, &c->rq.env_vars, &c->rq.protected, &c->rq.deploy_allow, &c->rq.deploy_actions, &c->rq.deploy_commands};
    for (size_t i = 0; i < ELEMENTS(lists); i++)
        strv_done(lists[i]);
    opts_done(&c->o);
    arena_done(&c->arena);
    free(c->dir);
}

/* file < option; a default file name may be absent. */
static int pairs(struct strv *to, const char *dir, const char *file, const char *dflt, const struct strv *args, bool ask, struct err *e) {
    _cleanup_free_ char *path = file ? xstrdup(file) : path_join(dir, dflt);
    int r = kv_file(path, file != NULL, to, e);
    for (size_t i = 0; r >= 0 && i < args->n; i++)
        r = kv_arg(args->v[i], ask, to, e);
    return r;
}

/* Of environments: files ".secrets.NAME" and ".vars.NAME" beside the general ones, then options
 * "NAME/K=V", which are moved out of `all`. */
static int environments(struct strv *all, struct strv *to, const char *dir, const char *prefix, struct err *e) {
    _cleanup_strv_ struct strv rest = {0};
    DIR *d = opendir(dir);
    int r = 0;
    for (struct dirent *de; d && r >= 0 && (de = readdir(d));) {
        const char *name = startswith(de->d_name, prefix);
        if (!name || !*name)
            continue;
        _cleanup_strv_ struct strv one = {0};
        _cleanup_free_ char *path = path_join(dir, de->d_name);
        r = kv_file(path, false, &one, e);
        for (size_t i = 0; i < one.n; i++)
            strv_addf(to, "%s/%s", name, one.v[i]);
    }
    if (d)
        closedir(d);
    for (size_t i = 0; i < all->n; i++) {
        const char *eq = strchr(all->v[i], '='), *slash = strchr(all->v[i], '/');
        strv_add(slash && eq && slash < eq ? to : &rest, all->v[i]);
    }
    struct strv t = *all;
    *all = rest;
    rest = t;
    return r;
}

/* The switches of debug logging may be secrets or variables; as secrets they hide nothing. */
static bool take_debug(struct strv *secrets, const struct strv *vars) {
    static const char *const names[] = {"ACTIONS_STEP_DEBUG", "ACTIONS_RUNNER_DEBUG"};
    bool on = false;
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        const char *s = strv_env_get(secrets, names[i]), *v = strv_env_get(vars, names[i]);
        on |= (s && sv_ieqs(sv_from(s), "true")) || (v && sv_ieqs(sv_from(v), "true"));
        strv_env_unset(secrets, names[i]);
    }
    return on;
}

static int gather(struct run_cmd *c, struct err *e) {
    struct run_opts *o = &c->o;
    struct config *conf = &c->ctx.conf;
    int r = pairs(&c->rq.secrets, c->dir, o->secret_file, ".secrets", &o->secrets, true, e);
    strv_extend(&c->rq.vars, (const char *const *)conf->vars.v);
    if (r >= 0)
        r = pairs(&c->rq.vars, c->dir, o->var_file, ".vars", &o->vars, false, e);
    strv_extend(&c->rq.env, (const char *const *)conf->env.v);
    /* .env of a project is Django's, not the run's: only a file that was named counts */
    if (r >= 0 && o->env_file)
        r = kv_file(o->env_file, true, &c->rq.env, e);
    for (size_t i = 0; r >= 0 && i < o->env.n; i++)
        r = kv_arg(o->env.v[i], false, &c->rq.env, e);
    r = r < 0 ? r : environments(&c->rq.secrets, &c->rq.env_secrets, c->dir, ".secrets.", e);
    r = r < 0 ? r : environments(&c->rq.vars, &c->rq.env_vars, c->dir, ".vars.", e);
    c->debug = take_debug(&c->rq.secrets, &c->rq.vars);
    if (r >= 0)
        r = pairs(&c->rq.inputs, c->dir, o->input_file, ".input", &o->inputs, false, e);
    return r;
}

static int read_payload(struct run_cmd *c, const char *event, struct err *e) {
    struct json *given = NULL;
    if (c->o.payload_file) {
        _cleanup_buf_ struct buf text = BUF_MAX(16u << 20);
        int r = fs_read(AT_FDCWD, c->o.payload_file, &text, e);
        if (r >= 0)
            r = json_parse(&c->arena, buf_sv(&text), &given, e);
        if (r < 0)
            return err_wrap(e, r, "-e %s", c->o.payload_file);
    }
    struct payload_input in = {.event = event, .ref = c->o.ref, .base = c->o.base, .repository = c->o.repository,
                               .actor = c->o.actor, .given = given, .inputs = &c->rq.inputs};
    return payload_make(&c->payload, c->dir, &c->git, &in, e);
}

static void note_missing(void *arg, const char *context, const char *name, struct span at) {
    struct run_cmd *c = arg;
    bool secret = streq(context, "secrets");
    events_emit(c->events, &(struct event){.kind = EV_NOTE, .run = run_id(c->run), .level = LEVEL_WARNING, .at = at,
                                           .text = sv_from(arena_printf(&c->arena, "%s.%s was not given and is empty: %s %s=VALUE",
                                                                        context, name, secret ? "-s" : "--var", name))});
}

/* An option's folder is meant from here, a configuration's from the repository. */
static const char *mirror_of(struct run_cmd *c) {
    const char *m = c->o.actions_mirror ? c->o.actions_mirror : c->ctx.conf.actions_mirror;
    if (!m || !*m || strstr(m, "://") || *m == '/')
        return m;
    _cleanup_free_ char *here = c->o.actions_mirror ? realpath(m, NULL) : path_join(c->dir, m);
    return here ? arena_strdup(&c->arena, here) : m;
}

static int approve(void *arg, const char *job, const char *environment) {
    struct run_cmd *c = arg;
    for (size_t i = 0; i < c->o.approve.n; i++)
        if (sv_ieqs(sv_from(c->o.approve.v[i]), environment))
            return 1;
    return !c->o.json && isatty(0) && isatty(1) ? run_debug_approve(c->ui, job, environment) : 0;
}

static void fill_request(struct run_cmd *c) {
    struct run_opts *o = &c->o;
    struct config *conf = &c->ctx.conf;
    struct run_request *q = &c->rq;
    q->plans = (const struct plan *const *)c->sel.plans;
    q->n_plans = c->sel.n;
    q->event = c->payload.event;
    q->dir = c->dir;
    q->git = &c->git;
    strv_extend(&q->jobs, (const char *const *)o->jobs.v);
    strv_extend(&q->matrix, (const char *const *)o->matrix.v);
    strv_extend(&q->platforms, (const char *const *)conf->platforms.v);
    strv_extend(&q->platforms, (const char *const *)o->platforms.v);
    strv_extend(&q->runner_images, (const char *const *)conf->runner_images.v);
    strv_extend(&q->allow_push, (const char *const *)conf->allow_push.v);
    if (o->allow_push)
        strv_add(&q->allow_push, "*");
    q->allow_deploy = o->allow_deploy;
    strv_extend(&q->deploy_allow, (const char *const *)conf->deploy_allow.v);
    strv_extend(&q->deploy_actions, (const char *const *)conf->deploy_actions.v);
    strv_extend(&q->deploy_commands, (const char *const *)conf->deploy_commands.v);
    q->github_token = o->github_token;
    strv_extend(&q->protected, (const char *const *)conf->protected.v);
    q->debug = c->debug;
    q->approve = approve;
    q->again = c->last ? json_get_str(c->last, "id", NULL) : NULL;
    q->select = arena_printf(&c->arena, "%s", c->o.workflow ? c->o.workflow : "");
    q->approve_arg = c;
    q->bind = o->bind;
    q->clean = o->clean;
    q->with_ignored = o->with_ignored;
    q->keep = o->keep;
    q->breaks = o->breaks;
    q->on_stop = run_debug_stop;
    q->on_stop_arg = c->ui;
    q->offline = o->offline || conf->offline;
    q->skip_unavailable = o->skip_unavailable;
    q->no_host_env = o->no_host_env || conf->no_host_env;
    q->parallel = (unsigned)(o->parallel ? o->parallel : conf->parallel);
    q->limits.memory = o->memory ? o->memory : conf->memory;
    q->limits.nano_cpus = (uint64_t)(conf->cpus * 1e9);
    q->limits.pids = (uint32_t)conf->pids;
    q->pulls = &c->ctx.pulls;
    q->python_source = conf->python_source;
    q->actions_mirror = mirror_of(c);
    strv_extend(&q->local_repositories, (const char *const *)o->local.v);
    q->no_native = o->no_native;
    q->node_source = conf->node_source;
    q->store = c->ctx.store;
    q->events = c->events;
    q->masker = c->masker;
    if (q->offline)
        c->ctx.registry.offline = true;
    if (o->pull_flag)
        c->ctx.pulls.policy = PULL_ALWAYS;
}

/* Secrets are masked in everything that is said from here on. */
static void start_events(struct run_cmd *c) {
    c->masker = masker_new();
    for (size_t i = 0; i < c->rq.secrets.n; i++)
        masker_add(c->masker, sv_from(strchr(c->rq.secrets.v[i], '=') + 1));
    c->events = events_new(c->masker);
    struct ui_options u = {.mode = c->o.json ? UI_JSON : term_is_tty(1) ? UI_LIVE : UI_PLAIN, .verbose = c->o.verbose,
                           .quiet = c->o.quiet, .colour = term_colour(1), .out = stdout, .width = term_width(1)};
    c->ui = ui_new(&u);
    events_sink(c->events, ui_sink, c->ui);
    c->report = report_new();
    events_sink(c->events, report_sink, c->report);
}

static int start_log(struct run_cmd *c, struct err *e) {
    _cleanup_free_ char *rel = xasprintf("runs/%s", run_id(c->run));
    int dirfd = store_dirfd(c->ctx.store);
    int r = fs_mkdirs(dirfd, rel, 0700);
    if (r < 0)
        return err_errno(e, r, "%s/%s", store_path(c->ctx.store), rel);
    c->log_dir = openat(dirfd, rel, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->log_dir < 0)
        return err_errno(e, -errno, "%s", rel);
    (void)fs_write(c->log_dir, "folder", sv_from(c->dir), 0600, false, NULL); /* whose run: slipway logs */
    r = log_sink_new(&c->log, c->log_dir, c->ctx.conf.log_max, e);
    if (r == 0)
        events_sink(c->events, log_sink_event, c->log);
    return r;
}

static int nothing(struct run_cmd *c, const char *event) {
    fprintf(stderr, "slipway: nothing here runs on %s", event);
    if (c->payload.branch)
        fprintf(stderr, " of branch %s", c->payload.branch);
    else if (c->payload.tag)
        fprintf(stderr, " of tag %s", c->payload.tag);
    fprintf(stderr, "\n%s", buf_str(&c->sel.why));
    return 2;
}

static int list_plans(struct run_cmd *c) {
    printf("%-24s %-28s %s\n", "workflow", "job", "file");
    for (size_t i = 0; i < c->sel.n; i++)
        for (size_t k = 0; k < c->sel.plans[i]->n_jobs; k++) {
            const struct plan *p = c->sel.plans[i];
            printf("%-24s %-28s %s:%u\n", p->name.s ? p->name.s : p->file, p->jobs[k].id, p->file, p->jobs[k].at.line);
        }
    return 0;
}

static int dry_run(struct run_cmd *c) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    run_describe(c->run, &b);
    puts(buf_str(&b));
    return 0;
}

/* What is shown and written when all is over. A report that cannot be written is an error. */
static int after(struct run_cmd *c, int code) {
    struct err e = {0};
    _cleanup_buf_ struct buf md = BUF_MAX(16u << 20), text = BUF_MAX(32u << 20);
    const struct strv *none = report_no_tests(c->report);
    for (size_t i = 0; !c->o.json && i < none->n; i++)
        printf("%sno test ran: %s\n", i ? "" : "\n", none->v[i]);
    if (c->o.timings && !c->o.json)
        report_timings(c->report, stdout, term_width(1), term_colour(1));
    report_summaries(c->report, &md);
    if (md.n && c->log_dir >= 0)
        (void)fs_write(c->log_dir, "summary.md", buf_sv(&md), 0600, false, NULL);
    if (md.n && c->o.summary && !c->o.json) {
        _cleanup_buf_ struct buf shown = BUF_MAX(32u << 20);
        report_render(buf_sv(&md), term_colour(1), &shown);
        ui_clean(buf_sv(&shown), term_colour(1), &text);
        printf("\n%s", buf_str(&text));
    }
    for (size_t i = 0; i < c->o.reports.n; i++)
        if (report_write(c->report, c->o.reports.v[i], &e) < 0)
            code = code ? code : 1, cli_fail(&e);
    return code;
}

static int execute(struct run_cmd *c, struct err *e) {
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct run_result res = {0};
    running = c->run;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    run_missing(c->run, note_missing, c);
    int r = run_execute(c->run, &res, e);
    ui_finish(c->ui);
    return r < 0 ? cli_fail(e) : after(c, res.exit_code);
}

/* --failed: what the last run of this repository was; >= 0: the exit code with which to end. */
static int last_run(struct run_cmd *c, const char **event) {
    _cleanup_buf_ struct buf b = BUF_MAX(16u << 20);
    struct json *j = NULL;
    struct err e = {0};
    if (run_last(c->ctx.store, c->dir, &b) <= 0 || json_parse(&c->arena, buf_sv(&b), &j, NULL) < 0) {
        err_set(&e, ERR_USER, -ENOENT, "--failed: there is no earlier run of %s", c->dir);
        return cli_fail(&e);
    }
    if (!json_get_int(j, "bad", 0)) {
        printf("no job of run %s failed\n", json_get_str(j, "id", ""));
        return 0;
    }
    c->last = j;
    if (!c->o.event_given)
        *event = json_get_str(j, "event", "push");
    const char *select = json_get_str(j, "select", "");
    if (!c->o.workflow && *select)
        c->o.workflow = select;
    return -1;
}

static int run(struct run_cmd *c, const char *event) {
    struct err e = {0};
    struct diags d = {0};
    int code = cli_begin(&c->ctx, &(struct cli_ctx_options){.repo_dir = c->dir, .what = "run"});
    if (code >= 0)
        return code;
    if (c->o.failed && (code = last_run(c, &event)) >= 0)
        return code;
    const char *custom = startswith(event, "custom:");
    int r = gather(c, &e);
    if (r >= 0)
        r = read_payload(c, custom ? "push" : event, &e);
    if (r < 0)
        return cli_fail(&e);
    if (c->o.changed_from) {
        _cleanup_buf_ struct buf list = BUF_LARGE;
        if (fs_read(AT_FDCWD, c->o.changed_from, &list, &e) < 0)
            return cli_fail(&e);
        payload_set_changed(&c->payload, buf_sv(&list));
    }
    struct select_options so = {.dir = c->dir, .path = c->o.workflow, .dialect = c->o.dialect, .event = custom ? "push" : event,
                                .custom = custom, .force = c->o.force};
    r = select_plans(&c->sel, &so, &c->payload, &d, &e);
    cli_diags(&d, NULL, 0);
    diags_done(&d);
    if (r == -EBADMSG && e.kind == ERR_NONE)
        return 2;
    if (r < 0)
        return cli_fail(&e);
    if (!c->sel.n)
        return nothing(c, event);
    if (c->o.list)
        return list_plans(c);
    if (streq(event, "workflow_dispatch") &&
        dispatch_inputs((const struct plan *const *)c->sel.plans, c->sel.n, &c->rq.inputs, c->payload.event.payload,
                        isatty(0) && isatty(1) && !c->o.json && !c->o.dry, &e) < 0)
        return cli_fail(&e);
    start_events(c);
    fill_request(c);
    r = run_new(&c->run, &c->rq, &d, &e);
    cli_diags(&d, NULL, 0);
    diags_done(&d);
    if (r < 0)
        return r == -EBADMSG && e.kind == ERR_NONE ? 2 : cli_fail(&e);
    if (c->o.dry)
        return dry_run(c);
    r = start_log(c, &e);
    return r < 0 ? cli_fail(&e) : execute(c, &e);
}

int cmd_run(int argc, char **argv);
int cmd_run(int argc, char **argv) {
    struct run_cmd c = {.log_dir = -1, .sel = {.why = BUF_LARGE}};
    struct run_opts *o = &c.o;
    const struct opt items[] = {
        {0, NULL, OPT_GROUP, NULL, NULL, "what to run"},
        {'W', "workflows", OPT_STR, &o->workflow, "PATH", "a workflow file or folder (.github/workflows)"},
        {'j', "job", OPT_LIST, &o->jobs, "ID", "only this job and what it needs"},
        {0, "matrix", OPT_LIST, &o->matrix, "KEY:VALUE", "only matrix legs with this value"},
        {0, "dialect", OPT_STR, &o->dialect, "NAME", "github or bitbucket, where both exist"},
        {'l', "list", OPT_FLAG, &o->list, NULL, "list the jobs, run nothing"},
        {'n', "dryrun", OPT_FLAG, &o->dry, NULL, "show what would run, run nothing"},
        {0, "changed-from", OPT_STR, &o->changed_from, "FILE", NULL},
        {0, "failed", OPT_FLAG, &o->failed, NULL, "the failed jobs of the last run again; the good ones keep their outputs"},
        {0, "watch", OPT_FLAG, &o->watch, NULL, "run again when files change, cancelling what is stale"},
        {0, "force", OPT_FLAG, &o->force, NULL, "branch, tag and path filters do not count"},
        {'C', "directory", OPT_STR, &o->dir, "DIR", "the repository (.)"},
        {0, NULL, OPT_GROUP, NULL, NULL, "what happened"},
        {'a', "actor", OPT_STR, &o->actor, "NAME", "who did it (git's user.name)"},
        {'e', "eventpath", OPT_STR, &o->payload_file, "FILE", "JSON payload of the event"},
        {0, "ref", OPT_STR, &o->ref, "REF", "branch or tag to simulate"},
        {0, "base", OPT_STR, &o->base, "BRANCH", "base of a pull request"},
        {0, "repository", OPT_STR, &o->repository, "OWNER/NAME", "where the remotes do not tell"},
        {0, NULL, OPT_GROUP, NULL, NULL, "values"},
        {'s', "secret", OPT_LIST, &o->secrets, "K[=V]", "a secret (ENV/K: of an environment); without a value from the environment or asked for"},
        {0, "secret-file", OPT_STR, &o->secret_file, "FILE", "secrets (.secrets)"},
        {0, "var", OPT_LIST, &o->vars, "K=V", "a variable"},
        {0, "var-file", OPT_STR, &o->var_file, "FILE", "variables (.vars)"},
        {0, "env", OPT_LIST, &o->env, "K=V", "environment of all steps"},
        {0, "env-file", OPT_STR, &o->env_file, "FILE", "the same from a file"},
        {0, "input", OPT_LIST, &o->inputs, "K=V", "an input of workflow_dispatch"},
        {0, "input-file", OPT_STR, &o->input_file, "FILE", "inputs (.input)"},
        {0, NULL, OPT_GROUP, NULL, NULL, "how"},
        {'P', "platform", OPT_LIST, &o->platforms, "LABEL=IMAGE", "the image of a label; `host`: no isolation"},
        {'b', "bind", OPT_FLAG, &o->bind, NULL, "jobs write to the work tree itself"},
        {0, "clean", OPT_FLAG, &o->clean, NULL, "a clean checkout of the commit, no download caches"},
        {0, "with-ignored", OPT_FLAG, &o->with_ignored, NULL, "the work tree with what git ignores"},
        {0, "pull", OPT_FLAG, &o->pull_flag, NULL, "ask registries for newer images"},
        {0, "offline", OPT_FLAG, &o->offline, NULL, "no registry, no fetch; what is cached only"},
        {0, "allow-push", OPT_FLAG, &o->allow_push, NULL, "image pushes really leave"},
        {0, "allow-deploy", OPT_FLAG, &o->allow_deploy, NULL, "what deploys, releases, notifies or uploads really does"},
        {0, "approve", OPT_LIST, &o->approve, "NAME", "jobs of this protected environment go on"},
        {0, "github-token", OPT_STR, &o->github_token, "TOKEN", "a real token instead of the run's own"},
        {0, "skip-unavailable", OPT_FLAG, &o->skip_unavailable, NULL, "jobs whose runner cannot be had here do not fail the run"},
        {0, "actions-mirror", OPT_STR, &o->actions_mirror, "DIR|URL", "OWNER/REPO.git repositories of actions and workflows"},
        {0, "local-repository", OPT_LIST, &o->local, "REPO=DIR", "OWNER/REPO@REF=DIR: a folder instead of that repository"},
        {0, "no-native", OPT_FLAG, &o->no_native, NULL, "every action as published, none of slipway's own versions"},
        {0, "keep", OPT_FLAG, &o->keep, NULL, "failed jobs keep their boxes: slipway shell"},
        {0, "break", OPT_LIST, &o->breaks, "STEP", "a shell before this step (id, number, name), or `on-failure`"},
        {0, "no-host-env", OPT_FLAG, &o->no_host_env, NULL, "neither the host's CA bundle nor its proxies reach jobs"},
        {0, "parallel", OPT_INT, &o->parallel, "N", "jobs at once (cores)"},
        {0, "memory", OPT_SIZE, &o->memory, "SIZE", "memory of a job"},
        {0, NULL, OPT_GROUP, NULL, NULL, "what is shown"},
        {'v', "verbose", OPT_FLAG, &o->verbose, NULL, "all output as it comes"},
        {0, "timings", OPT_FLAG, &o->timings, NULL, "a timeline of the jobs, with the critical path"},
        {0, "summary", OPT_FLAG, &o->summary, NULL, "the summaries of the steps, rendered"},
        {0, "report", OPT_LIST, &o->reports, "KIND=FILE", "junit=, json= or md=FILE"},
        {'q', "quiet", OPT_FLAG, &o->quiet, NULL, "failures and the summary only"},
        {0, "json", OPT_FLAG, &o->json, NULL, "events as JSON lines"},
    };
    struct opts spec = {.usage = "run [options] [EVENT]",
                        .about = "Runs the workflows (or the Bitbucket pipeline) that EVENT starts; the default is a push of\n"
                                 "the checked-out branch. Bitbucket: custom:NAME runs a custom pipeline.",
                        .items = items, .n = ELEMENTS(items)};
    /* As given: the parser moves arguments about. */
    char **given = ARENA_ARRAY(&c.arena, char *, argc + 1);
    int given_argc = argc;
    memcpy(given, argv, (size_t)argc * sizeof *given);
    int n, r = opts_begin(&spec, argc, argv, &n);
    struct err e = {0};
    if (r < 0 && o->breaks.n && (!isatty(0) || !isatty(1))) {
        err_set(&e, ERR_USER, -ENOTTY, "--break needs a terminal");
        err_hint(&e, -ENOTTY, "--keep and slipway shell work without one");
        r = cli_fail(&e);
    }
    for (size_t i = 0; r < 0 && i < o->reports.n; i++)
        if (!report_spec_ok(o->reports.v[i])) {
            err_set(&e, ERR_USER, -EINVAL, "--report %s: junit=FILE, json=FILE or md=FILE is expected", o->reports.v[i]);
            r = cli_fail(&e);
        }
    if (r < 0 && o->watch && (o->keep || o->breaks.n || o->failed)) {
        err_set(&e, ERR_USER, -EINVAL, "--watch goes neither with --keep, --break nor --failed");
        r = cli_fail(&e);
    }
    if (r < 0 && o->watch) {
        if (git_info_read(o->dir ? o->dir : ".", &c.git, &e) >= 0 && !c.git.bare_repo_missing)
            r = watch_loop(c.git.worktree, given_argc, given);
        else {
            err_set(&e, ERR_USER, -EINVAL, "--watch needs a git repository");
            r = cli_fail(&e);
        }
    }
    int back = r < 0 && o->keep ? keep_begin() : -1;
    for (size_t i = 0; r < 0 && i < o->local.n; i++)
        if (remote_local_option(o->local.v[i], &e) < 0)
            r = cli_fail(&e);
    if (r < 0 && n > 1) {
        err_set(&e, ERR_USER, -EINVAL, "one event at a time: %s, %s", argv[1], argv[2]);
        r = cli_fail(&e);
    }
    if (r < 0 && git_info_read(o->dir ? o->dir : ".", &c.git, &e) < 0)
        r = cli_fail(&e);
    if (r < 0) {
        c.dir = xstrdup(c.git.worktree);
        o->event_given = n > 0;
        r = run(&c, n ? argv[1] : "push");
    }
    if (back >= 0)
        keep_end(c.run, back, r);
    done(&c);
    return r;
}
