/* slipway check: every error of the files in one pass, for a person or as JSON, SARIF or workflow
 * commands. The JSON and the exit codes are part of the interface (docs/check.md). */
#include "cli/commands.h"
#include "cli/opts.h"
#include "cli/pipeline_files.h"
#include "cli/term.h"
#include "core/json.h"

enum format { FORMAT_TEXT, FORMAT_JSON, FORMAT_SARIF, FORMAT_GITHUB };

struct checked {
    const char *file;
    struct buf text;
    struct diags diags;
};

static int set_limit(struct github_limits *lim, const char *arg, struct err *e) {
    const struct {
        const char *name;
        size_t *to;
    } limits[] = {{"max-depth", &lim->max_depth},
                  {"max-file-size", &lim->max_file_size},
                  {"max-result-size", &lim->max_result_size},
                  {"max-job-limit", &lim->max_job_limit},
                  {"max-nested-reusable-workflows-depth", &lim->max_nested_depth}};
    const char *eq = strchr(arg, '=');
    for (size_t i = 0; eq && i < ELEMENTS(limits); i++) {
        uint64_t v;
        if (strncmp(arg, limits[i].name, (size_t)(eq - arg)) != 0 || limits[i].name[eq - arg])
            continue;
        if (sv_u64(sv_from(eq + 1), 1u << 30, &v) < 0 || v == 0)
            return err_set(e, ERR_USER, -EINVAL, "--limit %s: \"%s\" is not a number from 1 on", limits[i].name, eq + 1);
        *limits[i].to = v;
        return 0;
    }
    err_set(e, ERR_USER, -EINVAL, "--limit %s: there is no such limit", arg);
    return err_hint(e, -EINVAL, "max-depth=N, max-file-size=N, max-result-size=N, max-job-limit=N, "
                                "max-nested-reusable-workflows-depth=N");
}

static int check_file(struct checked *c, const struct github_limits *lim, struct err *e) {
    int r = pipeline_text(c->file, &c->text, e);
    if (r < 0)
        return r;
    if (pipeline_dialect(c->file, buf_sv(&c->text)) == DIALECT_BITBUCKET) {
        bitbucket_check(c->file, buf_sv(&c->text), &c->diags);
    } else {
        struct plan *p = NULL;
        github_read(c->file, buf_sv(&c->text), lim, &p, &c->diags);
        plan_free(p);
    }
    diags_sort(&c->diags);
    return 0;
}

/* --- forms of output -------------------------------------------------------------------------- */

static void put_diags(struct json_w *w, const char *key, const struct diags *d, bool errors) {
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < d->n; i++) {
        const struct diag *x = &d->items[i];
        if ((x->level == DIAG_ERROR) != errors)
            continue;
        jw_obj(w);
        jw_kint(w, "line", x->at.line);
        jw_kint(w, "col", x->at.col);
        jw_kint(w, "endLine", x->at.end_line ? x->at.end_line : x->at.line);
        jw_kint(w, "endCol", x->at.end_col ? x->at.end_col : x->at.col);
        if (x->focus.line) {
            jw_key(w, "focus");
            jw_obj(w);
            jw_kint(w, "line", x->focus.line);
            jw_kint(w, "col", x->focus.col);
            jw_kint(w, "endLine", x->focus.end_line);
            jw_kint(w, "endCol", x->focus.end_col);
            jw_end_obj(w);
        }
        jw_kstr(w, "code", x->code);
        jw_kstr(w, "message", x->msg);
        jw_kstr(w, "hint", x->hint);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static void print_json(const struct checked *files, size_t n, struct buf *b) {
    struct json_w w;
    jw_init(&w, b, 2);
    jw_obj(&w);
    jw_key(&w, "files");
    jw_arr(&w);
    for (size_t i = 0; i < n; i++) {
        jw_obj(&w);
        jw_kstr(&w, "file", files[i].file);
        put_diags(&w, "errors", &files[i].diags, true);
        put_diags(&w, "warnings", &files[i].diags, false);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
    buf_addc(b, '\n');
}

static const char *const level_names[] = {"error", "warning", "note"};

static struct span shown(const struct diag *d) {
    return d->focus.line ? d->focus : d->at;
}

static void put_result(struct json_w *w, const char *file, const struct diag *d) {
    struct span at = shown(d);
    jw_obj(w);
    jw_kstr(w, "ruleId", d->code);
    jw_kstr(w, "level", level_names[d->level]);
    jw_key(w, "message");
    jw_obj(w);
    jw_kstr(w, "text", d->msg);
    jw_end_obj(w);
    jw_key(w, "locations");
    jw_arr(w);
    jw_obj(w);
    jw_key(w, "physicalLocation");
    jw_obj(w);
    jw_key(w, "artifactLocation");
    jw_obj(w);
    jw_kstr(w, "uri", file);
    jw_end_obj(w);
    if (at.line) {
        jw_key(w, "region");
        jw_obj(w);
        jw_kint(w, "startLine", at.line);
        jw_kint(w, "startColumn", MAX(at.col, 1u));
        if (at.end_line) {
            jw_kint(w, "endLine", at.end_line);
            jw_kint(w, "endColumn", MAX(at.end_col, 1u));
        }
        jw_end_obj(w);
    }
    jw_end_obj(w);
    jw_end_obj(w);
    jw_end_arr(w);
    jw_end_obj(w);
}

static void print_sarif(const struct checked *files, size_t n, struct buf *b) {
    struct json_w w;
    jw_init(&w, b, 2);
    jw_obj(&w);
    jw_kstr(&w, "$schema", "https://json.schemastore.org/sarif-2.1.0.json");
    jw_kstr(&w, "version", "2.1.0");
    jw_key(&w, "runs");
    jw_arr(&w);
    jw_obj(&w);
    jw_key(&w, "tool");
    jw_obj(&w);
    jw_key(&w, "driver");
    jw_obj(&w);
    jw_kstr(&w, "name", "slipway");
    jw_kstr(&w, "version", SLIPWAY_VERSION);
    jw_end_obj(&w);
    jw_end_obj(&w);
    jw_key(&w, "results");
    jw_arr(&w);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < files[i].diags.n; k++)
            put_result(&w, files[i].file, &files[i].diags.items[k]);
    jw_end_arr(&w);
    jw_end_obj(&w);
    jw_end_arr(&w);
    jw_end_obj(&w);
    buf_addc(b, '\n');
}

static void escape_command(struct buf *b, const char *s, bool property) {
    for (; s && *s; s++) {
        if (*s == '%' || *s == '\n' || *s == '\r' || (property && (*s == ':' || *s == ',')))
            buf_addf(b, "%%%02X", (unsigned)(unsigned char)*s);
        else
            buf_addc(b, *s);
    }
}

static void print_commands(const struct checked *files, size_t n, struct buf *b) {
    static const char *const names[] = {"error", "warning", "notice"};
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < files[i].diags.n; k++) {
            const struct diag *d = &files[i].diags.items[k];
            struct span at = shown(d);
            buf_addf(b, "::%s file=", names[d->level]);
            escape_command(b, files[i].file, true);
            if (at.line)
                buf_addf(b, ",line=%u,col=%u", at.line, at.col);
            if (at.line && at.end_line)
                buf_addf(b, ",endLine=%u,endColumn=%u", at.end_line, at.end_col);
            buf_adds(b, ",title=");
            escape_command(b, d->code, true);
            buf_adds(b, "::");
            escape_command(b, d->msg, false);
            buf_addc(b, '\n');
        }
    }
}

static void print_text(const struct checked *files, size_t n, size_t errors, size_t warnings) {
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < files[i].diags.n; k++)
            diag_print(stdout, &files[i].diags.items[k], files[i].text.p ? files[i].text.p : "",
                       files[i].text.n, term_colour(STDOUT_FILENO));
    printf("%zu file%s checked: ", n, n == 1 ? "" : "s");
    if (errors)
        printf("%zu error%s", errors, errors == 1 ? "" : "s");
    else
        printf("no errors");
    if (warnings)
        printf(", %zu warning%s", warnings, warnings == 1 ? "" : "s");
    puts("");
}

static int parse_format(const char *s) {
    static const char *const names[] = {"text", "json", "sarif", "github"};
    for (size_t i = 0; i < ELEMENTS(names); i++)
        if (streq(names[i], s))
            return (int)i;
    return -1;
}

static int check_all(const struct strv *names, int format, const struct github_limits *lim) {
    struct checked *files = xcalloc(names->n + 1, sizeof *files);
    struct err e = {0};
    size_t errors = 0, warnings = 0, n = 0;
    int r = 0;
    for (; n < names->n && r >= 0; n++) {
        files[n].file = names->v[n];
        r = check_file(&files[n], lim, &e);
        errors += files[n].diags.errors;
        warnings += files[n].diags.warnings;
    }
    _cleanup_buf_ struct buf out = BUF_MAX(1u << 30);
    if (r >= 0 && format == FORMAT_JSON)
        print_json(files, n, &out);
    else if (r >= 0 && format == FORMAT_SARIF)
        print_sarif(files, n, &out);
    else if (r >= 0 && format == FORMAT_GITHUB)
        print_commands(files, n, &out);
    else if (r >= 0)
        print_text(files, n, errors, warnings);
    fputs(buf_str(&out), stdout);
    for (size_t i = 0; i < n; i++) {
        buf_done(&files[i].text);
        diags_done(&files[i].diags);
    }
    free(files);
    if (r < 0)
        return cli_fail(&e);
    return errors ? 1 : 0;
}

int cmd_check(int argc, char **argv);
int cmd_check(int argc, char **argv) {
    const char *format = "text", *policy = NULL;
    _cleanup_strv_ struct strv limits = {0}, files = {0};
    const struct opt items[] = {
        {'f', "format", OPT_STR, &format, "FORM", "text, json, sarif, or github (workflow commands)"},
        {0, "limit", OPT_LIST, &limits, "NAME=N", "change one of GitHub's limits: max-depth, max-file-size, max-result-size,\nmax-job-limit, max-nested-reusable-workflows-depth"},
        {0, "permissions-policy", OPT_STR, &policy, "POLICY", "the repository's default token: limited-read or write"},
    };
    const struct opts o = {
        .usage = "check [options] [FILE…]",
        .about = "Finds every error in workflow files and bitbucket-pipelines.yml, without running them.\n"
                 "Without files: those of the repository. Exit code 0 without errors, 1 with, 2 usage.",
        .items = items, .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    struct github_limits lim = {0};
    int form = parse_format(format);
    if (form < 0) {
        err_set(&e, ERR_USER, -EINVAL, "--format %s: text, json, sarif or github", format);
        return cli_fail(&e);
    }
    for (size_t i = 0; i < limits.n; i++)
        if (set_limit(&lim, limits.v[i], &e) < 0)
            return cli_fail(&e);
    lim.policy_write = policy && streq(policy, "write");
    if (policy && !lim.policy_write && !streq(policy, "limited-read")) {
        err_set(&e, ERR_USER, -EINVAL, "--permissions-policy %s: limited-read or write", policy);
        return cli_fail(&e);
    }
    if (pipeline_files(n, argv + 1, &files, &e) < 0)
        return cli_fail(&e);
    return check_all(&files, form, &lim);
}
