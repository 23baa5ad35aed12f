/* slipway logs: shows an earlier run from its stored events, as it looked without a terminal. */
#include "cli/markdown.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "cli/ui.h"
#include "core/arena.h"
#include "core/fs.h"
#include "core/loop.h"
#include "source/git.h"

#include <dirent.h>

/* Was the run of runs/ID one of the repository at `folder`? */
static bool of_folder(const char *dir, const char *id, const char *folder) {
    _cleanup_free_ char *path = xasprintf("%s/%s/folder", dir, id);
    _cleanup_buf_ struct buf b = BUF_SMALL;
    return fs_read(AT_FDCWD, path, &b, NULL) >= 0 && streq(buf_str(&b), folder);
}

/* The newest run of the repository at `folder`, or of all (NULL). */
static int newest(const char *dir, const char *folder, char ret[32]) {
    DIR *d = opendir(dir);
    uint64_t best = 0, v;
    if (!d)
        return -ENOENT;
    for (struct dirent *en; (en = readdir(d));)
        if (sv_u64(sv_from(en->d_name), UINT64_MAX, &v) == 0 && v > best && (!folder || of_folder(dir, en->d_name, folder)))
            best = v;
    closedir(d);
    if (!best)
        return -ENOENT;
    snprintf(ret, 32, "%llu", (unsigned long long)best);
    return 0;
}

/* The run that is meant without a number: of the repository we are in, outside of one of all. */
static int find_newest(const char *dir, char ret[32], struct err *e) {
    struct git_info git = {0};
    bool inside = git_info_read(".", &git, NULL) >= 0 && !git.bare_repo_missing;
    int r = newest(dir, inside ? git.worktree : NULL, ret);
    if (r < 0 && inside && newest(dir, NULL, ret) == 0) {
        err_set(e, ERR_NOTFOUND, r, "no run of %s is kept", git.worktree);
        err_hint(e, r, "slipway logs --list shows those of other repositories");
    } else if (r < 0)
        err_set(e, ERR_NOTFOUND, r, "no run is kept");
    git_info_done(&git);
    return r;
}

static int list(const char *dir) {
    DIR *d = opendir(dir);
    _cleanup_strv_ struct strv ids = {0};
    for (struct dirent *en; d && (en = readdir(d));)
        if (en->d_name[0] >= '0' && en->d_name[0] <= '9')
            strv_add(&ids, en->d_name);
    if (d)
        closedir(d);
    strv_sort(&ids);
    for (size_t i = 0; i < ids.n; i++) {
        _cleanup_free_ char *path = xasprintf("%s/%s/events.jsonl", dir, ids.v[i]);
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        _cleanup_arena_ struct arena a = {0};
        struct event first = {0}, ev;
        char *line = NULL;
        size_t cap = 0;
        ssize_t n;
        enum outcome out = OUT_NONE;
        while (f && (n = getline(&line, &cap, f)) > 0) {
            if (!strstr(line, "\"event\":\"run_"))
                continue;
            if (event_from_json(&a, sv_n(line, (size_t)n), &ev, NULL) < 0)
                continue;
            if (ev.kind == EV_RUN_START)
                first = ev;
            else if (ev.kind == EV_RUN_END)
                out = ev.outcome;
        }
        free(line);
        char time[32] = "";
        if (first.real_ns)
            format_time(first.real_ns, time);
        printf("%-8s %-20.19s %-12s " SV_FMT "\n", ids.v[i], time, out ? outcome_name(out) : "not finished", SV_ARG(first.text));
    }
    return 0;
}

static int show(FILE *f, const char *job, bool json) {
    struct ui_options o = {.mode = json ? UI_JSON : UI_PLAIN, .verbose = true, .colour = term_colour(1), .out = stdout, .width = term_width(1)};
    struct ui *u = ui_new(&o);
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    bool any = false;
    while ((n = getline(&line, &cap, f)) > 0) {
        _cleanup_arena_ struct arena a = {0};
        struct event ev;
        if (event_from_json(&a, sv_n(line, (size_t)n), &ev, NULL) < 0)
            continue; /* a line cut by a kill */
        if (job && ev.job && !streq(ev.job, job) && !startswith(ev.job, job))
            continue;
        any = any || (job && ev.job);
        ui_sink(&ev, u);
    }
    free(line);
    if (!json)
        ui_finish(u);
    ui_free(u);
    return job && !any ? -ENOENT : 0;
}

/* The summaries that steps wrote, each under the name of its job. */
static int summaries(FILE *f, const char *job) {
    _cleanup_free_ char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    bool colour = term_colour(1), any = false;
    while ((n = getline(&line, &cap, f)) > 0) {
        _cleanup_arena_ struct arena a = {0};
        _cleanup_buf_ struct buf b = BUF_MAX(16u << 20);
        struct event ev;
        if (!strstr(line, "\"event\":\"summary\"") || event_from_json(&a, sv_n(line, (size_t)n), &ev, NULL) < 0)
            continue;
        if (job && ev.job && !startswith(ev.job, job))
            continue;
        markdown_show(ev.text, colour, &b);
        printf("%s%s%s%s\n\n%s", any ? "\n" : "", colour ? "\033[7m " : "", ev.job ? ev.job : "", colour ? " \033[0m" : ":", buf_str(&b));
        any = true;
    }
    return any ? 0 : -ENOENT;
}

int cmd_logs(int argc, char **argv);
int cmd_logs(int argc, char **argv) {
    const char *job = NULL;
    bool json = false, all = false, summary = false;
    const struct opt items[] = {
        {'j', "job", OPT_STR, &job, "JOB", "only this job"},
        {'l', "list", OPT_FLAG, &all, NULL, "list the runs that are kept"},
        {0, "summary", OPT_FLAG, &summary, NULL, "the summaries that steps wrote ($GITHUB_STEP_SUMMARY)"},
        {0, "json", OPT_FLAG, &json, NULL, "events as JSON lines"},
    };
    struct opts o = {.usage = "logs [RUN]", .about = "Shows an earlier run; without RUN the last one of this repository (outside of one: of all).", .items = items, .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_free_ char *state = dir_state(), *dir = path_join(state, "runs");
    if (all)
        return list(dir);
    char id[32];
    uint64_t v;
    if (n && sv_u64(sv_from(argv[1]), UINT64_MAX, &v) < 0) {
        err_set(&e, ERR_USER, -EINVAL, "%s: not the number of a run", argv[1]);
        return cli_fail(&e);
    }
    if (n)
        snprintf(id, sizeof id, "%llu", (unsigned long long)v);
    else if (find_newest(dir, id, &e) < 0)
        return cli_fail(&e);
    _cleanup_free_ char *path = xasprintf("%s/%s/events.jsonl", dir, id);
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    if (!f) {
        err_set(&e, ERR_NOTFOUND, -ENOENT, "no run %s is kept", id);
        err_hint(&e, -ENOENT, "slipway logs --list");
        return cli_fail(&e);
    }
    if (summary) {
        if (summaries(f, job) == 0)
            return 0;
        err_set(&e, ERR_NOTFOUND, -ENOENT, "no step of run %s wrote a summary", id);
        return cli_fail(&e);
    }
    if (show(f, job, json) < 0) {
        err_set(&e, ERR_NOTFOUND, -ENOENT, "run %s has no job %s", id, job);
        return cli_fail(&e);
    }
    return 0;
}
