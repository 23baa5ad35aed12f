/* slipway check: every error of the files in one pass, for a person or as JSON, SARIF or workflow
 * commands. The JSON and the exit codes are part of the interface (docs/check.md). */
#include "cli/called.h"
#include "cli/check_lint.h"
#include "cli/commands.h"
#include "cli/opts.h"
#include "cli/pins.h"
#include "cli/pipeline_files.h"
#include "cli/term.h"
#include "core/json.h"

#include <malloc.h>
#include <stdatomic.h>

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
            return err_set(e, ERR_USER, -EINVAL, "--limit %s: \"%s\" is not a number from 1 on",
                           limits[i].name, eq + 1);
        *limits[i].to = v;
        return 0;
    }
    err_set(e, ERR_USER, -EINVAL, "--limit %s: there is no such limit", arg);
    return err_hint(e, -EINVAL,
                    "max-depth=N, max-file-size=N, max-result-size=N, max-job-limit=N, "
                    "max-nested-reusable-workflows-depth=N");
}

static int check_file(struct checked *c, struct check_lint *lint, struct err *e) {
    const struct github_limits *lim = &lint->called->lim;
    int r = pipeline_text(c->file, &c->text, e);
    if (r == -EFBIG) {
        diags_add(&c->diags, DIAG_ERROR, (struct span){.file = c->file}, "limit", NULL,
                  "The maximum file size of %zu characters has been exceeded",
                  lim->max_file_size ? lim->max_file_size : (size_t)1 << 20);
        return 0;
    }
    if (r < 0)
        return r;
    if (pipeline_dialect(c->file, buf_sv(&c->text)) == DIALECT_BITBUCKET) {
        bitbucket_check(c->file, buf_sv(&c->text), &c->diags);
        return 0;
    }
    _cleanup_plan_ struct plan *p = NULL;
    /* What a file passes to the workflows that it calls is looked at once the file is right. */
    if (github_read(c->file, buf_sv(&c->text), lim, &p, &c->diags) == 0) {
        github_check_calls(p, lim, check_called, lint, &c->diags);
        if (lint->pins->active) {
            pthread_mutex_lock(&lint->lock);
            pins_plan(lint->pins, p, &c->diags);
            pthread_mutex_unlock(&lint->lock);
        }
    }
    if (p)
        check_lint(lint, p, &c->diags);
    return 0;
}

/* --- many files, on all processors ---------------------------------------------------------------- */

enum { MAX_THREADS = 8, FILES_PER_THREAD = 16 };
struct batch {
    struct checked *files;
    struct err *errors;
    int *results;
    size_t n;
    _Atomic size_t next;
    struct check_lint *lint;
};

static void *check_batch(void *arg) {
    struct batch *b = arg;
    for (size_t i; (i = b->next++) < b->n;)
        b->results[i] = check_file(&b->files[i], b->lint, &b->errors[i]);
    return NULL;
}

static void run_batch(struct batch *b) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t threads = MIN(MIN((size_t)MAX(cpus, 1L), (size_t)MAX_THREADS), b->n / FILES_PER_THREAD + 1);
    pthread_t ids[MAX_THREADS];
    size_t n = 0;
    /* Memory that files leave is for the next ones: giving it back and asking again takes longer
     * than reading them. */
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    while (n + 1 < threads && pthread_create(&ids[n], NULL, check_batch, b) == 0)
        n++;
    check_batch(b);
    for (size_t i = 0; i < n; i++)
        pthread_join(ids[i], NULL);
}

static bool has(const struct diags *d, const struct diag *x) {
    for (size_t i = 0; i < d->n; i++)
        if (d->items[i].at.line == x->at.line && d->items[i].at.col == x->at.col &&
            streq(d->items[i].msg, x->msg))
            return true;
    return false;
}

/* All files with their diagnostics: those that were named, then those called that have errors. A
 * called file is read for each caller and perhaps for itself: each error is told once. */
struct result {
    struct checked *files;
    size_t n, cap, errors, warnings;
};

/* Names are interned: they are the same when their pointers are. */
static struct checked *result_file(struct result *r, const char *file) {
    for (size_t i = 0; i < r->n; i++)
        if (r->files[i].file == file)
            return &r->files[i];
    GROW(r->files, r->cap, r->n + 1);
    r->files[r->n] = (struct checked){.file = file};
    return &r->files[r->n++];
}

static void take_diags(struct result *r, struct checked *from) {
    for (size_t i = 0; i < from->diags.n; i++) {
        const struct diag *x = &from->diags.items[i];
        struct checked *to = result_file(r, x->at.file ? span_file(x->at.file) : from->file);
        if (has(&to->diags, x))
            continue;
        diags_add(&to->diags, x->level, x->at, x->code, x->hint, "%s", x->msg);
        to->diags.items[to->diags.n - 1].focus = x->focus;
        r->errors += x->level == DIAG_ERROR;
        r->warnings += x->level == DIAG_WARNING;
    }
}

static void result_done(struct result *r) {
    for (size_t i = 0; i < r->n; i++) {
        buf_done(&r->files[i].text);
        diags_done(&r->files[i].diags);
    }
    free(r->files);
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
            diag_print(stdout, &files[i].diags.items[k], files[i].text.p, files[i].text.n,
                       term_colour(STDOUT_FILENO));
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

static int check_all(const struct strv *names, int format, struct check_lint *lint,
                     struct pins *pins, bool strict) {
    struct result res = {0};
    struct err e = {0};
    int r = 0;
    for (size_t i = 0; i < names->n; i++)
        result_file(&res, span_file(names->v[i]));
    size_t n = res.n;
    struct batch b = {.files = xcalloc(n, sizeof *b.files), .errors = xcalloc(n, sizeof *b.errors),
                      .results = xcalloc(n, sizeof *b.results), .n = n, .lint = lint};
    for (size_t i = 0; i < n; i++)
        b.files[i].file = res.files[i].file;
    run_batch(&b);
    for (size_t i = 0; i < n; i++) {
        if (b.results[i] < 0 && r >= 0) {
            r = b.results[i];
            e = b.errors[i];
        }
        take_diags(&res, &b.files[i]);
        res.files[i].text = b.files[i].text;
        diags_done(&b.files[i].diags);
    }
    free(b.files);
    free(b.errors);
    free(b.results);
    /* Machines get the order in which GitHub finds things, people that of the file. */
    for (size_t i = 0; i < res.n && format != FORMAT_JSON; i++)
        diags_sort(&res.files[i].diags);
    _cleanup_buf_ struct buf out = BUF_MAX(1u << 30);
    if (r >= 0 && format == FORMAT_JSON)
        print_json(res.files, res.n, &out);
    else if (r >= 0 && format == FORMAT_SARIF)
        print_sarif(res.files, res.n, &out);
    else if (r >= 0 && format == FORMAT_GITHUB)
        print_commands(res.files, res.n, &out);
    else if (r >= 0)
        print_text(res.files, res.n, res.errors, res.warnings);
    fputs(buf_str(&out), stdout);
    if (r >= 0 && !res.errors)
        r = pins_end(pins, format == FORMAT_TEXT ? stdout : stderr, &e);
    result_done(&res);
    if (r < 0)
        return cli_fail(&e);
    return res.errors || (strict && res.warnings) ? 1 : 0;
}

int cmd_check(int argc, char **argv);
int cmd_check(int argc, char **argv) {
    const char *format = "text", *policy = NULL, *explain = NULL;
    bool strict = false;
    _cleanup_strv_ struct strv limits = {0}, files = {0}, repositories = {0};
    _cleanup_(called_done) struct called called = {0};
    _cleanup_(pins_done) struct pins pins = {0};
    _cleanup_(check_lint_done) struct check_lint lint = {
        .called = &called, .pins = &pins, .lock = PTHREAD_MUTEX_INITIALIZER};
    const char *mirror = NULL;
    bool update = false, fetch = false, offline = false;
    const struct opt items[] = {
        {0, "actions-mirror", OPT_STR, &mirror, "DIR|URL",
         "OWNER/REPO.git repositories of actions and workflows"},
        {0, "explain", OPT_STR, &explain, "CODE", "what a finding means; \"all\" lists the codes"},
        {'f', "format", OPT_STR, &format, "FORM",
         "text, json, sarif, or github (workflow commands)"},
        {0, "limit", OPT_LIST, &limits, "NAME=N",
         "change one of GitHub's limits: max-depth, max-file-size, "
         "max-result-size,\nmax-job-limit, max-nested-reusable-workflows-depth"},
        {0, "local-repository", OPT_LIST, &repositories, "REPO=DIR",
         "OWNER/REPO@REF=DIR: a folder instead of that repository"},
        {0, "fetch", OPT_FLAG, &fetch, NULL, "actions and workflows that are not at hand are fetched"},
        {0, "offline", OPT_FLAG, &offline, NULL, "nothing is fetched, for the lock file either"},
        {0, "update-lock", OPT_FLAG, &update, NULL,
         "write .slipway.lock: the commit of each `uses`"},
        {0, "no-audit", OPT_FLAG, &lint.no_audit, NULL, "leave out what concerns security"},
        {0, "strict", OPT_FLAG, &strict, NULL, "end with 1 for warnings too"},
        {0, "permissions-policy", OPT_STR, &policy, "POLICY",
         "the repository's default token: limited-read or write"},
    };
    const struct opts o = {
        .usage = "check [options] [FILE…]",
        .about =
            "Finds every error in workflow files and bitbucket-pipelines.yml, without running "
            "them.\n"
            "Without files: those of the repository. Exit code 0 without errors, 1 with, 2 usage.",
        .items = items,
        .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    if (explain)
        return check_explain(explain);
    struct err e = {0};
    int form = parse_format(format);
    if (form < 0) {
        err_set(&e, ERR_USER, -EINVAL, "--format %s: text, json, sarif or github", format);
        return cli_fail(&e);
    }
    for (size_t i = 0; i < limits.n; i++)
        if (set_limit(&called.lim, limits.v[i], &e) < 0)
            return cli_fail(&e);
    for (size_t i = 0; i < repositories.n; i++)
        if (called_option(&called, repositories.v[i], &e) < 0)
            return cli_fail(&e);
    if (policy)
        called.lim.policy = streq(policy, "write") ? POLICY_WRITE : POLICY_LIMITED_READ;
    if (policy && called.lim.policy == POLICY_LIMITED_READ && !streq(policy, "limited-read")) {
        err_set(&e, ERR_USER, -EINVAL, "--permissions-policy %s: limited-read or write", policy);
        return cli_fail(&e);
    }
    if (pipeline_files(n, argv + 1, &files, &e) < 0)
        return cli_fail(&e);
    struct diags d = {0};
    r = pins_begin(&pins, mirror, &called.repositories, update, fetch, offline, &d, &e);
    if (r >= 0)
        check_lint_init(&lint, &pins.file, &d);
    cli_diags(&d, NULL, 0);
    bool bad = d.errors > 0;
    diags_done(&d);
    if (r < 0)
        return cli_fail(&e);
    called.remote = pins.active ? &pins.conf : NULL;
    return bad ? 2 : check_all(&files, form, &lint, &pins, strict);
}
