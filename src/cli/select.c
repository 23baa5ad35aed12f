#include "cli/select.h"

#include "core/fs.h"
#include "pipeline/trigger.h"

#include <dirent.h>

static void add(struct plan ***v, size_t *n, size_t *cap, struct plan *p) {
    GROW(*v, *cap, *n + 1);
    (*v)[(*n)++] = p;
}

/* The workflow files of a folder, sorted; a file gives itself. */
static int list_files(const char *path, struct strv *ret, struct err *e) {
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(e, -errno, "%s", path);
    if (!S_ISDIR(st.st_mode)) {
        strv_add(ret, path);
        return 0;
    }
    DIR *d = opendir(path);
    if (!d)
        return err_errno(e, -errno, "%s", path);
    for (struct dirent *en; (en = readdir(d));)
        if (en->d_name[0] != '.' && (endswith(en->d_name, ".yml") || endswith(en->d_name, ".yaml")))
            strv_addf(ret, "%s/%s", path, en->d_name);
    closedir(d);
    strv_sort(ret);
    return 0;
}

/* Shown relative to the work tree where it lies below it. */
static const char *shown(const char *dir, const char *path) {
    const char *rest = startswith(path, dir);
    return rest && *rest == '/' ? rest + 1 : path;
}

static struct trigger_event event_of(const struct select_options *o, const struct payload *p) {
    static const char *const none[] = {NULL};
    bool known = p->changed_known;
    return (struct trigger_event){.name = o->event, .type = p->action, .branch = p->branch, .tag = p->tag, .base_branch = payload_base_branch(p), .workflow = payload_workflow(p),
                                  .paths = !known ? NULL : p->changed.n ? (const char *const *)p->changed.v : none,
                                  .n_paths = known ? p->changed.n : 0};
}

static void say_why(struct selection *s, const struct select_options *o, const struct plan *p, const char *why) {
    buf_addf(&s->why, "  %s: %s\n", p->file, why);
    const struct plan_trigger *same = plan_trigger_find(p, o->event);
    const char *event = same ? o->event : NULL;
    for (size_t i = 0; !event && i < p->n_triggers; i++)
        if (!streq(p->triggers[i].event, "workflow_call"))
            event = p->triggers[i].event;
    if (plan_trigger_find(p, "workflow_dispatch"))
        event = "workflow_dispatch";
    if (!event) {
        buf_adds(&s->why, "    it is only called by other workflows\n");
        return;
    }
    bool filtered = streq(event, o->event);
    buf_addf(&s->why, "    to run it all the same: slipway run %s -W %s%s\n", event, p->file, filtered ? " --force" : "");
}

static bool path_filters(const struct plan *plan, const char *event) {
    const struct plan_trigger *t = plan_trigger_find(plan, event);
    return t && (t->paths.given || t->paths_ignore.given);
}

static int select_github(struct selection *s, const struct select_options *o, struct payload *p, const struct strv *files, struct diags *d, struct err *e) {
    for (size_t i = 0; i < files->n; i++) {
        _cleanup_buf_ struct buf text = BUF_MAX(1100u << 10);
        int r = fs_read(AT_FDCWD, files->v[i], &text, e);
        if (r < 0)
            return r;
        struct plan *plan = NULL;
        github_read(span_file(shown(o->dir, files->v[i])), buf_sv(&text), NULL, &plan, d);
        if (!plan)
            continue;
        if (path_filters(plan, o->event))
            payload_changed(p);
        struct trigger_event ev = event_of(o, p);
        struct trigger_verdict v = trigger_match(plan, &ev);
        if (v.runs || (o->force && plan_trigger_find(plan, o->event))) {
            add(&s->plans, &s->n, &s->cap, plan);
        } else {
            say_why(s, o, plan, v.why);
            add(&s->others, &s->n_others, &s->cap_others, plan);
        }
    }
    return d->errors ? -EBADMSG : 0;
}

static int select_bitbucket(struct selection *s, const struct select_options *o, struct payload *p, const char *file, struct diags *d, struct err *e) {
    _cleanup_buf_ struct buf text = BUF_MAX(1100u << 10);
    int r = fs_read(AT_FDCWD, file, &text, e);
    if (r < 0)
        return r;
    struct bitbucket_select sel = {BB_PUSH_BRANCH, p->branch};
    if (o->custom)
        sel = (struct bitbucket_select){BB_CUSTOM, o->custom};
    else if (startswith(o->event, "pull"))
        sel = (struct bitbucket_select){BB_PULL_REQUEST, p->event.head_ref};
    else if (p->tag)
        sel = (struct bitbucket_select){BB_PUSH_TAG, p->tag};
    struct plan *plan = NULL;
    const char *name = span_file(shown(o->dir, file));
    r = bitbucket_read(name, buf_sv(&text), &sel, &plan, d);
    if (d->errors)
        return -EBADMSG;
    if (plan) {
        for (size_t i = 0; i < plan->n_jobs; i++)
            if (plan->jobs[i].bb && (plan->jobs[i].bb->n_include || plan->jobs[i].bb->n_exclude))
                payload_changed(p);
        add(&s->plans, &s->n, &s->cap, plan);
        return 0;
    }
    _cleanup_strv_ struct strv names = {0};
    if (r < 0 && r != -ENOENT)
        return err_wrap(e, r, "%s", name);
    bitbucket_list(name, buf_sv(&text), &names, d);
    buf_addf(&s->why, "  %s: no pipeline for %s %s; there is:", name, o->custom ? "custom" : o->event, sel.ref ? sel.ref : "");
    for (size_t i = 0; i < names.n; i++)
        buf_addf(&s->why, "%s %s", i ? "," : "", names.v[i]);
    buf_adds(&s->why, "\n    to run one all the same: slipway run --ref BRANCH, or slipway run custom:NAME\n");
    return 0;
}

int select_plans(struct selection *ret, const struct select_options *o, struct payload *p, struct diags *d, struct err *e) {
    struct selection s = {.why = BUF_LARGE};
    _cleanup_free_ char *gh = path_join(o->dir, ".github/workflows"), *bb = path_join(o->dir, "bitbucket-pipelines.yml");
    _cleanup_free_ char *given = o->path ? path_join(o->dir, o->path) : NULL;
    if (given && !fs_exists(AT_FDCWD, given) && fs_exists(AT_FDCWD, o->path)) { /* relative to where we are */
        free(given);
        given = realpath(o->path, NULL);
    }
    bool bitbucket = o->dialect ? streq(o->dialect, "bitbucket")
                                : given ? strstr(path_base(given), "bitbucket") != NULL : !fs_exists(AT_FDCWD, gh) && fs_exists(AT_FDCWD, bb);
    _cleanup_strv_ struct strv files = {0};
    int r;
    s.dialect = bitbucket ? DIALECT_BITBUCKET : DIALECT_GITHUB;
    const char *what = given ? given : bitbucket ? bb : gh;
    if (!fs_exists(AT_FDCWD, what)) {
        err_set(e, ERR_USER, -ENOENT, given ? "%s: no such file" : "no pipeline here: %s does not exist", what);
        return given ? -ENOENT : err_hint(e, -ENOENT, "slipway looks for .github/workflows/*.yml, then bitbucket-pipelines.yml; -W names another file");
    }
    if (bitbucket) {
        r = select_bitbucket(&s, o, p, what, d, e);
    } else {
        r = list_files(what, &files, e);
        if (r == 0)
            r = select_github(&s, o, p, &files, d, e);
    }
    if (r < 0)
        select_done(&s);
    else
        *ret = s;
    return r;
}

void select_done(struct selection *s) {
    for (size_t i = 0; i < s->n; i++)
        plan_free(s->plans[i]);
    for (size_t i = 0; i < s->n_others; i++)
        plan_free(s->others[i]);
    free(s->plans);
    free(s->others);
    buf_done(&s->why);
    *s = (struct selection){.why = BUF_LARGE};
}
