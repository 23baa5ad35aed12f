/* Matrix, contexts and the scheduler, with a body of our own instead of a job's steps. */
#include "test.h"

#include "run/contexts.h"
#include "run/matrix.h"

#include <poll.h>
#include <time.h>

static const struct value *json(struct arena *a, const char *text) {
    struct json *j;
    struct err e = {0};
    CHECK(json_parse(a, sv_from(text), &j, &e) == 0);
    return val_from_json(a, j);
}
static const char *legs(struct arena *a, const char *text, struct err *e) {
    struct matrix m = {0};
    if (matrix_expand(a, json(a, text), &m, e) < 0)
        return NULL;
    struct value *list = val_array(a);
    for (size_t i = 0; i < m.n; i++)
        val_push(a, list, m.legs[i]);
    struct buf b = BUF_SMALL;
    val_to_json(list, &b, 0);
    char *s = arena_strdup(a, buf_str(&b));
    buf_done(&b);
    char *w = s;
    for (char *p = s; *p; p++)
        if (*p != '\n' && *p != ' ')
            *w++ = *p;
    *w = 0;
    return s;
}
TEST(matrix) {
    _cleanup_arena_ struct arena a = {0};
    struct err e = {0};
    CHECK_STR(legs(&a, "{\"a\":[1,2],\"b\":[\"x\",\"y\"]}", &e),
              "[{\"a\":1,\"b\":\"x\"},{\"a\":1,\"b\":\"y\"},{\"a\":2,\"b\":\"x\"},{\"a\":2,\"b\":\"y\"}]");
    CHECK_STR(legs(&a, "{\"a\":[1,2],\"b\":[\"x\",\"y\"],\"exclude\":[{\"a\":1},{\"a\":2,\"b\":\"x\"}]}", &e),
              "[{\"a\":2,\"b\":\"y\"}]");
    /* The example of the documentation. */
    CHECK_STR(legs(&a,
                   "{\"fruit\":[\"apple\",\"pear\"],\"animal\":[\"cat\",\"dog\"],\"include\":[{\"color\":\"green\"},"
                   "{\"color\":\"pink\",\"animal\":\"cat\"},{\"fruit\":\"apple\",\"shape\":\"circle\"},"
                   "{\"fruit\":\"banana\"},{\"fruit\":\"banana\",\"animal\":\"cat\"}]}",
                   &e),
              "[{\"fruit\":\"apple\",\"animal\":\"cat\",\"color\":\"pink\",\"shape\":\"circle\"},"
              "{\"fruit\":\"apple\",\"animal\":\"dog\",\"color\":\"green\",\"shape\":\"circle\"},"
              "{\"fruit\":\"pear\",\"animal\":\"cat\",\"color\":\"pink\"},"
              "{\"fruit\":\"pear\",\"animal\":\"dog\",\"color\":\"green\"},"
              "{\"fruit\":\"banana\"},{\"fruit\":\"banana\",\"animal\":\"cat\"}]");
    CHECK_STR(legs(&a, "{\"include\":[{\"a\":1},{\"a\":2}]}", &e), "[{\"a\":1},{\"a\":2}]");
    CHECK(!legs(&a, "{\"a\":[]}", &e));
    CHECK(!legs(&a, "{\"a\":1}", &e));
    CHECK(!legs(&a, "{\"a\":[1],\"include\":1}", &e));
    struct buf b = BUF_MAX(1 << 20);
    buf_adds(&b, "{\"a\":[0");
    for (int i = 1; i < 20; i++)
        buf_addf(&b, ",%d", i);
    buf_adds(&b, "],\"b\":[0");
    for (int i = 1; i < 20; i++)
        buf_addf(&b, ",%d", i);
    buf_adds(&b, "]}");
    CHECK(!legs(&a, buf_str(&b), &e));
    buf_done(&b);
    b = BUF_SMALL;
    matrix_label(json(&a, "{\"v\":3.10,\"o\":{\"n\":\"x\",\"l\":[true]},\"z\":null}"), &b);
    CHECK_STR(buf_str(&b), "3.1, x, true");
    buf_done(&b);
}

/* --- the scheduler ------------------------------------------------------------------------- */

static struct buf log_;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static int running, most;

static void sink(const struct event *ev, void *arg) {
    if (ev->kind == EV_JOB_END)
        buf_addf(&log_, "%s=%s ", ev->job, outcome_name(ev->outcome));
}

/* The fake job: sleeps 2 ms, or until cancelled when its id starts with "wait"; fails when it
 * starts with "bad" or its matrix value v is "bad". */
void job_body(struct leg *leg) {
    pthread_mutex_lock(&mu);
    if (++running > most)
        most = running;
    pthread_mutex_unlock(&mu);
    const char *id = leg->job->pj->id;
    bool bad = startswith(id, "bad");
    const struct value *v = val_gets(leg->matrix, "v");
    if (v && v->kind == VAL_STRING && sv_eqs(v->str, "bad"))
        bad = true;
    if (startswith(id, "wait") || (v && v->kind == VAL_STRING && sv_eqs(v->str, "wait"))) {
        struct pollfd p = {leg->cancel_fd, POLLIN, 0};
        poll(&p, 1, 5000);
    } else
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    struct value *o = val_object(&leg->arena);
    val_set_str(&leg->arena, o, "who", leg->name);
    leg->outputs = o;
    leg->outcome = atomic_load(&leg->cancel) ? OUT_CANCELLED : bad ? OUT_FAILURE : OUT_SUCCESS;
    pthread_mutex_lock(&mu);
    running--;
    pthread_mutex_unlock(&mu);
}
/* Nothing here needs the store or a reader: weak, so that the real ones win where they are linked. */
#define WEAK __attribute__((weak))
WEAK int lease_new(struct store *s, const char *what, struct lease **ret, struct err *e) { return -ENOSYS; }
WEAK void lease_free(struct lease *l) {}
WEAK int store_counter(struct store *s, const char *name, uint64_t *ret, struct err *e) { return -ENOSYS; }
WEAK void plan_names(const struct plan *p, void (*fn)(void *, const char *, const char *, struct span), void *arg) {}
WEAK const struct plan_trigger *plan_trigger_find(const struct plan *p, const char *event) { return NULL; }
WEAK void plan_free(struct plan *p) {}
WEAK int github_read(const char *file, struct sv text, const struct github_limits *lim, struct plan **ret, struct diags *d) {
    return -ENOSYS;
}

struct spec { const char *id, *needs, *if_, *matrix, *cont; };
static struct text tx(const char *s, bool expr) { return (struct text){s, s ? strlen(s) : 0, expr, {0}}; }

static struct run_result go(const struct spec *specs, size_t n, unsigned parallel, unsigned cancel_ms) {
    struct arena a = {0};
    struct plan p = {.dialect = DIALECT_GITHUB, .file = "w.yml", .n_jobs = n};
    p.jobs = ARENA_ARRAY(&a, struct plan_job, n);
    struct diags d = {0};
    for (size_t i = 0; i < n; i++) {
        struct plan_job *j = &p.jobs[i];
        j->id = specs[i].id;
        j->if_ = tx(specs[i].if_, true);
        j->continue_on_error = tx(specs[i].cont, false);
        j->needs.items = ARENA_ARRAY(&a, struct text, 8);
        struct sv rest = sv_from(specs[i].needs), one;
        while (specs[i].needs && sv_split(&rest, ' ', &one))
            j->needs.items[j->needs.n++] = tx(arena_strndup(&a, one.p, one.n), false);
        struct yaml_node *m = NULL;
        if (specs[i].matrix) {
            CHECK(yaml_parse(&a, "m", sv_from(specs[i].matrix), NULL, &m, &d) == 0);
            const struct yaml_node *v = yaml_get(m, "fail-fast");
            if (v)
                j->fail_fast = tx(v->text.p, false);
            v = yaml_get(m, "max-parallel");
            if (v)
                j->max_parallel = tx(v->text.p, false);
            j->matrix = yaml_get(m, "matrix");
        }
    }
    const struct plan *plans[] = {&p};
    struct masker *m = masker_new();
    struct events *ev = events_new(m);
    events_sink(ev, sink, NULL);
    struct run_request rq = {.plans = plans, .n_plans = 1, .dir = "/tmp/x", .events = ev, .masker = m, .parallel = parallel};
    struct run *r = NULL;
    struct err e = {0};
    struct run_result res = {0};
    buf_done(&log_);
    log_ = BUF_SMALL;
    most = 0;
    CHECK(run_new(&r, &rq, &d, &e) == 0);
    if (r) {
        if (cancel_ms) {
            /* From another thread, as a signal handler would. */
            pthread_t t;
            pthread_create(&t, NULL, (void *(*)(void *))(void (*)(void))run_cancel, r);
            pthread_join(t, NULL);
        }
        CHECK(run_execute(r, &res, &e) == 0);
    }
    run_free(r);
    events_free(ev);
    masker_free(m);
    diags_done(&d);
    arena_done(&a);
    return res;
}
#define GO(par, cancel, ...) \
    ({ const struct spec s_[] = {__VA_ARGS__}; go(s_, ELEMENTS(s_), par, cancel); })
static bool has(const char *s) { return strstr(buf_str(&log_), s) != NULL; }

TEST(order_and_needs) {
    struct run_result r = GO(4, 0, {"c", "a b"}, {"a"}, {"b", "a"});
    CHECK_INT(r.exit_code, 0);
    CHECK_INT(r.jobs, 3);
    CHECK_STR(buf_str(&log_), "a=success b=success c=success ");
    r = GO(1, 0, {"a"}, {"b"}, {"c"});
    CHECK_INT(most, 1);
}
TEST(failure_skips) {
    struct run_result r = GO(4, 0, {"bad"}, {"b", "bad"}, {"c", "b", "${{ always() }}"}, {"d", "c"},
                             {"e", "bad", "failure()"}, {"f", "b", "needs.b.result == 'skipped' && always()"});
    CHECK_INT(r.exit_code, 1);
    CHECK(has("bad=failure ") && has("b=skipped") && has("c=success") && has("e=success"));
    CHECK(has("d=skipped") && has("f=success"));
    r = GO(4, 0, {"bad", .cont = "true"}, {"b", "bad"});
    CHECK_INT(r.exit_code, 0);
    CHECK(has("bad=failure ") && has("b=success"));
    r = GO(4, 0, {"a", .if_ = "github.ref == 'nothing'"}, {"b", "a"});
    CHECK_INT(r.exit_code, 0);
    CHECK(has("a=skipped b=skipped"));
    r = GO(4, 0, {"a", .if_ = "fromJSON('{')"});
    CHECK_INT(r.exit_code, 1);
}
TEST(matrix_legs) {
    struct run_result r = GO(8, 0, {"m", .matrix = "matrix: {v: [1, x, 3.10], o: ['${{ github.event_name }}']}\nmax-parallel: 2"},
                             {"n", "m", "${{ contains(needs.m.outputs.who, 'm (') }}"});
    CHECK_INT(r.exit_code, 0);
    CHECK_INT(most, 2);
    CHECK(has("m (1, push)=success") && has("m (x, push)=success") && has("m (3.1, push)=success") && has("n=success"));
    r = GO(8, 0, {"m", .matrix = "matrix: {v: [wait, bad]}"});
    CHECK_INT(r.exit_code, 1);
    CHECK(has("m (wait)=cancelled") && has("m (bad)=failure"));
    r = GO(8, 0, {"m", .matrix = "matrix: {v: [a, bad]}\nfail-fast: false"});
    CHECK(has("m (a)=success") && has("m (bad)=failure"));
    r = GO(8, 0, {"m", .matrix = "matrix: {v: []}"});
    CHECK_INT(r.exit_code, 1);
}
TEST(cancel) {
    struct run_result r = GO(2, 1, {"wait"}, {"b", "wait"}, {"c", "wait", "always()"});
    CHECK_INT(r.exit_code, 130);
    CHECK(has("b=cancelled") && has("c=success"));
}
