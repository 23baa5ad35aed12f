/* Jobs in the order in which they were queued, their steps as they start. What a test runner says
 * when it has run nothing is looked for in the output, of long pieces only in the last part. */
#include "cli/report.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/loop.h"
#include "core/map.h"

#define LOOK_MAX (64u << 10)
#define SUMMARY_ALL (16u << 20)

struct rstep {
    char *name, *errors;
    uint32_t no;
    uint64_t start, dur;
    enum outcome outcome;
    int code;
};
struct rjob {
    char *id, *name, *root, *why, *needs; /* needs: names, one a line */
    enum outcome outcome;
    uint64_t start, end;
    struct rstep *steps;
    size_t n, cap;
};
struct report {
    struct rjob **jobs;
    size_t n, cap;
    struct map by_id;
    char *run, *title;
    enum outcome outcome;
    uint64_t start, end;
    struct strv held, captured, no_tests;
    struct buf summaries;
};

struct report *report_new(void) {
    struct report *r = xcalloc(1, sizeof *r);
    r->summaries = BUF_MAX(SUMMARY_ALL);
    return r;
}

void report_free(struct report *r) {
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++) {
        struct rjob *j = r->jobs[i];
        for (size_t k = 0; k < j->n; k++) {
            free(j->steps[k].name);
            free(j->steps[k].errors);
        }
        free(j->steps);
        free(j->id);
        free(j->name);
        free(j->root);
        free(j->why);
        free(j->needs);
        free(j);
    }
    free(r->jobs);
    map_done(&r->by_id);
    strv_done(&r->held);
    strv_done(&r->captured);
    strv_done(&r->no_tests);
    buf_done(&r->summaries);
    free(r->run);
    free(r->title);
    free(r);
}

const struct strv *report_no_tests(const struct report *r) { return &r->no_tests; }

/* --- collecting -------------------------------------------------------------------------------- */

static struct rjob *job_of(struct report *r, const char *id) {
    if (!id)
        return NULL;
    struct rjob *j = map_gets(&r->by_id, id);
    if (!j) {
        j = xcalloc(1, sizeof *j);
        j->id = xstrdup(id);
        j->name = xstrdup(id);
        GROW(r->jobs, r->cap, r->n + 1);
        r->jobs[r->n++] = j;
        map_sets(&r->by_id, id, j);
    }
    return j;
}

static struct rstep *step_of(struct rjob *j, uint32_t no) {
    for (size_t i = j ? j->n : 0; i-- > 0;)
        if (j->steps[i].no == no)
            return &j->steps[i];
    return NULL;
}

static void put(char **to, struct sv v) {
    free(*to);
    *to = sv_dup(v);
}

static void step_start(struct rjob *j, const struct event *ev) {
    GROW(j->steps, j->cap, j->n + 1);
    j->steps[j->n++] = (struct rstep){.name = sv_dup(ev->text), .no = ev->step, .start = ev->real_ns};
}

static void step_end(struct rjob *j, const struct event *ev) {
    struct rstep *s = step_of(j, ev->step);
    if (!s) { /* skipped: it never started */
        step_start(j, &(struct event){.text = sv_from(ev->name ? ev->name : ""), .step = ev->step, .real_ns = ev->real_ns});
        s = &j->steps[j->n - 1];
    }
    s->outcome = ev->outcome;
    s->dur = ev->dur_ns;
    s->code = ev->code;
}

static void error(struct rjob *j, const struct event *ev) {
    struct rstep *s = step_of(j, ev->step);
    if (!s || ev->level != LEVEL_ERROR || (s->errors && strlen(s->errors) > 8000))
        return;
    char *old = s->errors;
    s->errors = xasprintf("%s%s" SV_FMT, old ? old : "", old ? "\n" : "", (int)MIN(ev->text.n, 2000u), ev->text.p);
    free(old);
}

static void no_tests(struct report *r, struct rjob *j, const struct event *ev) {
    static const char *const said[] = {"no tests ran in", "collected 0 items", "Ran 0 tests in", "NO TESTS RAN", "No tests found", "0 passing ("};
    struct sv t = ev->text.n > LOOK_MAX ? sv_sub(ev->text, ev->text.n - LOOK_MAX / 8, SIZE_MAX) : ev->text;
    for (size_t i = 0; i < ELEMENTS(said); i++) {
        ssize_t at = sv_find(t, sv_from(said[i]));
        if (at < 0)
            continue;
        struct rstep *s = step_of(j, ev->step);
        _cleanup_free_ char *text = xasprintf("%s › %s: %s", j->name, s ? s->name : "", said[i]), *head = xasprintf("%s › %s:", j->name, s ? s->name : "");
        for (size_t k = 0; k < r->no_tests.n; k++)
            if (startswith(r->no_tests.v[k], head))
                return;
        strv_add(&r->no_tests, text);
        return;
    }
}

void report_sink(const struct event *ev, void *arg) {
    struct report *r = arg;
    struct rjob *j = job_of(r, ev->job);
    switch (ev->kind) {
    case EV_RUN_START:
        r->start = ev->real_ns;
        r->run = xstrdup(ev->run ? ev->run : "");
        put(&r->title, ev->text);
        break;
    case EV_RUN_END:
        r->end = ev->real_ns;
        r->outcome = ev->outcome;
        break;
    case EV_JOB_QUEUED:
        put(&j->name, ev->text);
        put(&j->needs, sv_from(ev->detail ? ev->detail : ""));
        break;
    case EV_JOB_START:
        j->start = ev->real_ns;
        put(&j->root, sv_from(ev->detail ? ev->detail : ""));
        break;
    case EV_JOB_END:
        j->outcome = ev->outcome;
        j->end = ev->real_ns;
        j->start = ev->dur_ns && ev->dur_ns < ev->real_ns ? ev->real_ns - ev->dur_ns : j->start ? j->start : ev->real_ns;
        if (ev->detail)
            put(&j->why, sv_from(ev->detail));
        break;
    case EV_STEP_START:
        step_start(j, ev);
        break;
    case EV_STEP_END:
        step_end(j, ev);
        break;
    case EV_ANNOTATION:
        if (j)
            error(j, ev);
        break;
    case EV_OUTPUT:
        if (j)
            no_tests(r, j, ev);
        break;
    case EV_HELD:
        strv_addf(&r->held, "%s: %s (%s)", j ? j->name : "", ev->name ? ev->name : "", ev->detail ? ev->detail : "");
        break;
    case EV_CAPTURED:
        strv_addf(&r->captured, "%s %s", ev->name ? ev->name : "", ev->detail ? ev->detail : "");
        break;
    case EV_SUMMARY:
        buf_addsv(&r->summaries, ev->text);
        if (ev->text.n && ev->text.p[ev->text.n - 1] != '\n')
            buf_addc(&r->summaries, '\n');
        break;
    default:
        break;
    }
}

/* --- reports ----------------------------------------------------------------------------------- */

static void xml(struct buf *b, const char *s) {
    for (; s && *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '<')
            buf_adds(b, "&lt;");
        else if (c == '>')
            buf_adds(b, "&gt;");
        else if (c == '&')
            buf_adds(b, "&amp;");
        else if (c == '"')
            buf_adds(b, "&quot;");
        else if (c >= ' ' || c == '\n' || c == '\t')
            buf_addc(b, (char)c);
    }
}

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static void junit_case(struct buf *b, const struct rjob *j, const char *name, enum outcome o, uint64_t dur, const char *why) {
    buf_adds(b, "    <testcase classname=\"");
    xml(b, j->name);
    buf_adds(b, "\" name=\"");
    xml(b, name);
    buf_addf(b, "\" time=\"%.3f\"", seconds(dur));
    if (o == OUT_SUCCESS) {
        buf_adds(b, "/>\n");
        return;
    }
    buf_addf(b, "><%s message=\"", o == OUT_FAILURE ? "failure" : o == OUT_CANCELLED ? "error" : "skipped");
    xml(b, why && *why ? why : outcome_name(o));
    buf_addf(b, "\"/></testcase>\n");
}

static void junit(const struct report *r, struct buf *b) {
    buf_addf(b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"");
    xml(b, r->title);
    buf_addf(b, "\" time=\"%.3f\">\n", seconds(r->end - r->start));
    for (size_t i = 0; i < r->n; i++) {
        const struct rjob *j = r->jobs[i];
        size_t failed = 0, skipped = 0, errors = 0;
        bool alone = !j->n; /* a job without steps is a case itself */
        for (size_t k = 0; k < j->n; k++) {
            failed += j->steps[k].outcome == OUT_FAILURE;
            errors += j->steps[k].outcome == OUT_CANCELLED;
            skipped += j->steps[k].outcome != OUT_FAILURE && j->steps[k].outcome != OUT_SUCCESS && j->steps[k].outcome != OUT_CANCELLED;
        }
        /* What went wrong outside of a step must not vanish. */
        bool own = alone || (j->outcome == OUT_FAILURE && !failed);
        if (own) {
            failed += j->outcome == OUT_FAILURE;
            errors += j->outcome == OUT_CANCELLED;
            skipped += j->outcome != OUT_FAILURE && j->outcome != OUT_SUCCESS && j->outcome != OUT_CANCELLED;
        }
        buf_adds(b, "  <testsuite name=\"");
        xml(b, j->name);
        buf_addf(b, "\" tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" skipped=\"%zu\" time=\"%.3f\">\n", j->n + own, failed, errors, skipped, seconds(j->end - j->start));
        for (size_t k = 0; k < j->n; k++)
            junit_case(b, j, j->steps[k].name, j->steps[k].outcome, j->steps[k].dur, j->steps[k].errors);
        if (own)
            junit_case(b, j, "job", j->outcome, j->end - j->start, j->why);
        buf_adds(b, "  </testsuite>\n");
    }
    buf_adds(b, "</testsuites>\n");
}

static void list(struct json_w *w, const char *key, const struct strv *v) {
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < v->n; i++)
        jw_str(w, v->v[i]);
    jw_end_arr(w);
}

static void json_job(struct json_w *w, const struct rjob *j) {
    jw_obj(w);
    jw_kstr(w, "name", j->name);
    jw_kstr(w, "outcome", outcome_name(j->outcome));
    if (j->root && *j->root)
        jw_kstr(w, "root", j->root);
    if (j->why)
        jw_kstr(w, "reason", j->why);
    jw_kint(w, "duration_ms", (int64_t)((j->end - j->start) / 1000000));
    jw_key(w, "steps");
    jw_arr(w);
    for (size_t k = 0; k < j->n; k++) {
        jw_obj(w);
        jw_kint(w, "number", j->steps[k].no);
        jw_kstr(w, "name", j->steps[k].name);
        jw_kstr(w, "outcome", outcome_name(j->steps[k].outcome));
        jw_kint(w, "exit_code", j->steps[k].code);
        jw_kint(w, "duration_ms", (int64_t)(j->steps[k].dur / 1000000));
        if (j->steps[k].errors)
            jw_kstr(w, "errors", j->steps[k].errors);
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_end_obj(w);
}

static void json(const struct report *r, struct buf *b) {
    struct json_w w;
    jw_init(&w, b, 2);
    jw_obj(&w);
    jw_kstr(&w, "run", r->run);
    jw_kstr(&w, "name", r->title);
    jw_kstr(&w, "outcome", outcome_name(r->outcome));
    jw_kint(&w, "duration_ms", (int64_t)((r->end - r->start) / 1000000));
    jw_key(&w, "jobs");
    jw_arr(&w);
    for (size_t i = 0; i < r->n; i++)
        json_job(&w, r->jobs[i]);
    jw_end_arr(&w);
    list(&w, "captured", &r->captured);
    list(&w, "held", &r->held);
    list(&w, "no_tests", &r->no_tests);
    jw_end_obj(&w);
    buf_addc(b, '\n');
}

static void cell(struct buf *b, const char *s) {
    for (; s && *s; s++)
        if (*s == '|')
            buf_adds(b, "\\|");
        else
            buf_addc(b, *s == '\n' ? ' ' : *s);
}

static void markdown(const struct report *r, struct buf *b) {
    buf_addf(b, "# %s: %s\n\n| job | outcome | steps | time |\n|---|---|---:|---:|\n", r->title && *r->title ? r->title : "run", outcome_name(r->outcome));
    for (size_t i = 0; i < r->n; i++) {
        const struct rjob *j = r->jobs[i];
        buf_adds(b, "| ");
        cell(b, j->name);
        buf_addf(b, " | %s%s", outcome_name(j->outcome), j->why ? ": " : "");
        cell(b, j->why);
        buf_addf(b, " | %zu | ", j->n);
        buf_add_duration(b, j->end - j->start);
        buf_adds(b, " |\n");
    }
    const struct { const char *title; const struct strv *v; } lists[] = {
        {"Captured, not sent", &r->captured}, {"Held back", &r->held}, {"No test ran", &r->no_tests}};
    for (size_t i = 0; i < ELEMENTS(lists); i++) {
        if (lists[i].v->n)
            buf_addf(b, "\n## %s\n\n", lists[i].title);
        for (size_t k = 0; k < lists[i].v->n; k++)
            buf_addf(b, "- %s\n", lists[i].v->v[k]);
    }
    if (r->summaries.n)
        buf_addf(b, "\n%.*s", (int)r->summaries.n, r->summaries.p);
}

static const struct {
    const char *name;
    void (*write)(const struct report *r, struct buf *b);
} formats[] = {{"junit=", junit}, {"json=", json}, {"md=", markdown}};

bool report_spec_ok(const char *spec) {
    for (size_t i = 0; i < ELEMENTS(formats); i++)
        if (startswith(spec, formats[i].name) && *startswith(spec, formats[i].name))
            return true;
    return false;
}

int report_write(const struct report *r, const char *spec, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    for (size_t i = 0; i < ELEMENTS(formats); i++) {
        const char *file = startswith(spec, formats[i].name);
        if (!file)
            continue;
        formats[i].write(r, &b);
        return fs_write(AT_FDCWD, file, buf_sv(&b), 0644, false, e);
    }
    return err_set(e, ERR_USER, -EINVAL, "--report %s: junit=FILE, json=FILE or md=FILE is expected", spec);
}

void report_summaries(const struct report *r, struct buf *out) { buf_addsv(out, buf_sv(&r->summaries)); }

/* --- timings ----------------------------------------------------------------------------------- */

static struct rjob *find(const struct report *r, struct sv id) {
    for (size_t i = 0; i < r->n; i++)
        if (sv_eqs(id, r->jobs[i]->id))
            return r->jobs[i];
    return NULL;
}

static bool ran(const struct rjob *j) { return j->outcome != OUT_SKIPPED && j->outcome != OUT_NONE && j->end > j->start; }

/* From the job that ended last back to the one it waited for longest, and so on. */
static size_t critical(const struct report *r, const struct rjob **path, size_t max) {
    const struct rjob *j = NULL;
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        if (ran(r->jobs[i]) && (!j || r->jobs[i]->end > j->end))
            j = r->jobs[i];
    while (j && n < max) {
        path[n++] = j;
        struct sv rest = sv_from(j->needs ? j->needs : ""), id;
        const struct rjob *last = NULL;
        while (sv_line(&rest, &id)) {
            struct rjob *k = find(r, id);
            if (k && ran(k) && k->end <= j->end && k != j && (!last || k->end > last->end))
                last = k;
        }
        j = last;
    }
    return n;
}

void report_timings(const struct report *r, FILE *out, unsigned width, bool colour) {
    uint64_t all = r->end > r->start ? r->end - r->start : 1;
    const struct rjob *path[64];
    size_t n = critical(r, path, ELEMENTS(path));
    unsigned bar = width > 70 ? MIN(width - 44, 80u) : 26;
    fprintf(out, "\n%-28s %8s  timeline (%s: critical path)\n", "job", "time", colour ? "bold" : "#");
    for (size_t i = 0; i < r->n; i++) {
        const struct rjob *j = r->jobs[i];
        bool on = false;
        if (!ran(j) || j->start < r->start)
            continue;
        for (size_t k = 0; k < n; k++)
            on |= path[k] == j;
        _cleanup_buf_ struct buf t = BUF_MAX(64);
        buf_add_duration(&t, j->end - j->start);
        unsigned from = (unsigned)((double)(j->start - r->start) / (double)all * bar), to = (unsigned)((double)(j->end - r->start) / (double)all * bar);
        fprintf(out, "%-28.28s %8s  %*s%s", j->name, buf_str(&t), (int)from, "", on && colour ? "\033[1m" : "");
        for (unsigned k = from; k < MAX(to, from + 1); k++)
            fputs(on && !colour ? "#" : "=", out);
        fprintf(out, "%s\n", on && colour ? "\033[0m" : "");
    }
    fputs("critical path: ", out);
    for (size_t i = n; i-- > 0;) {
        _cleanup_buf_ struct buf t = BUF_MAX(64);
        buf_add_duration(&t, path[i]->end - path[i]->start);
        fprintf(out, "%s (%s)%s", path[i]->name, buf_str(&t), i ? " → " : "");
    }
    fputs(n ? "\n" : "nothing ran\n", out);
}

/* --- Markdown for a terminal ------------------------------------------------------------------- */

static void inline_text(struct sv s, bool colour, struct buf *out) {
    bool bold = false, code = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!code && c == '*' && i + 1 < s.n && s.p[i + 1] == '*') {
            bold = !bold;
            i++;
            buf_adds(out, !colour ? "" : bold ? "\033[1m" : "\033[22m");
        } else if (c == '`') {
            code = !code;
            buf_adds(out, !colour ? "" : code ? "\033[36m" : "\033[39m");
        } else if (!code && c == '<' && i + 1 < s.n && (s.p[i + 1] == '/' || (s.p[i + 1] | 32) >= 'a') && memchr(s.p + i, '>', s.n - i)) {
            while (s.p[i] != '>')
                i++;
        } else
            buf_addc(out, c);
    }
    if (colour && (bold || code))
        buf_adds(out, "\033[0m");
}

void report_render(struct sv md, bool colour, struct buf *out) {
    struct sv line;
    bool fence = false;
    while (sv_line(&md, &line)) {
        struct sv t = sv_trim(line);
        size_t h = 0;
        if (sv_starts(t, "```")) {
            fence = !fence;
            continue;
        }
        while (h < t.n && h < 6 && t.p[h] == '#')
            h++;
        if (fence) {
            buf_adds(out, "    ");
            buf_addsv(out, line);
        } else if (h && h < t.n && t.p[h] == ' ') {
            buf_adds(out, colour ? "\033[1m" : "");
            inline_text(sv_trim(sv_sub(t, h, SIZE_MAX)), false, out);
            buf_adds(out, colour ? "\033[0m" : "");
        } else
            inline_text(line, colour, out);
        buf_addc(out, '\n');
    }
}
