/* The GitHub reader: what goes into the plan, and where errors are said to be. The bulk of its rules
 * is tested with GitHub's own cases (tests/e2e/test_conformance_workflows.py). */
#include "pipeline/github/call.h"

#include "core/json.h"
#include "pipeline/github/schema.h"
#include "test.h"

static struct plan *read_ok(const char *text) {
    struct diags d = {0};
    struct plan *p = NULL;
    CHECK(github_read("w.yml", sv_from(text), NULL, &p, &d) == 0);
    for (size_t i = 0; i < d.n; i++)
        fprintf(stderr, "%u:%u %s\n", d.items[i].at.line, d.items[i].at.col, d.items[i].msg);
    diags_done(&d);
    return p;
}

/* "line:col message\n" for each error, sorted. */
static const char *errors_of(const char *text, const struct github_limits *lim) {
    static char out[4000];
    struct diags d = {0};
    struct plan *p = NULL;
    size_t n = 0;
    CHECK(github_read("w.yml", sv_from(text), lim, &p, &d) == -EBADMSG);
    plan_free(p);
    diags_sort(&d);
    out[0] = 0;
    for (size_t i = 0; i < d.n && n < sizeof out; i++) {
        struct span at = d.items[i].focus.line ? d.items[i].focus : d.items[i].at;
        n += (size_t)snprintf(out + n, sizeof out - n, "%u:%u %s\n", at.line, at.col, d.items[i].msg);
    }
    diags_done(&d);
    return out;
}

static const char full[] =
    "name: CI\n"
    "run-name: by ${{ github.actor }}\n"
    "on:\n"
    "  push: {branches: [main, '!x'], paths: src/**}\n"
    "  schedule: [{cron: '0 4 * * MON', timezone: Europe/Berlin}]\n"
    "  workflow_dispatch:\n"
    "    inputs:\n"
    "      level: {type: choice, options: [a, b], default: b, required: true}\n"
    "      count: {type: number, default: 3}\n"
    "  workflow_call:\n"
    "    inputs: {x: {type: boolean}}\n"
    "    secrets: {s: {required: true}}\n"
    "    outputs: {o: {value: \"${{ jobs.a.outputs.v }}\"}}\n"
    "env: {A: 1.10, B: yes, C: \"${{ vars.C }}\", D: ~, E: true}\n"
    "defaults: {run: {shell: bash, working-directory: sub}}\n"
    "permissions: {contents: read}\n"
    "concurrency: {group: g, cancel-in-progress: true}\n"
    "jobs:\n"
    "  a:\n"
    "    name: A ${{ matrix.v }}\n"
    "    runs-on: [self-hosted, \"${{ matrix.os }}\"]\n"
    "    strategy: {fail-fast: false, max-parallel: 2, matrix: {v: [1, '2'], include: [{v: 3, w: x}]}}\n"
    "    container: {image: img, env: {X: y}, ports: [80], options: --cpus 1, credentials: {username: u, password: \"${{ secrets.P }}\"}}\n"
    "    services:\n"
    "      db: {image: postgres, ports: ['5432:5432']}\n"
    "      redis: redis:7\n"
    "    outputs: {v: \"${{ steps.s.outputs.v }}\"}\n"
    "    environment: {name: prod, url: 'https://x'}\n"
    "    timeout-minutes: 5\n"
    "    steps:\n"
    "      - &co\n"
    "        uses: actions/checkout@v4\n"
    "        with: {fetch-depth: 0, ref: \"${{ github.ref }}\"}\n"
    "      - id: s\n"
    "        if: always() && github.ref == 'x'\n"
    "        run: |\n"
    "          one\n"
    "          two\n"
    "        shell: python\n"
    "        continue-on-error: ${{ matrix.v == 3 }}\n"
    "      - *co\n"
    "      - parallel:\n"
    "          - run: p\n"
    "          - uses: docker://alpine:3.8\n"
    "  b:\n"
    "    needs: a\n"
    "    if: failure()\n"
    "    uses: o/r/.github/workflows/c.yml@v1\n"
    "    with: {n: 5, flag: false, s: text}\n"
    "    secrets: inherit\n"
    "    permissions: read-all\n";

TEST(everything_reaches_the_plan) {
    _cleanup_plan_ struct plan *p = read_ok(full);
    if (!p)
        return;
    CHECK_STR(p->name.s, "CI");
    CHECK(p->run_name.expr);
    const struct plan_trigger *push = plan_trigger_find(p, "push"), *call = plan_trigger_find(p, "workflow_call");
    const struct plan_trigger *dispatch = plan_trigger_find(p, "workflow_dispatch"), *cron = plan_trigger_find(p, "schedule");
    CHECK_INT(push->branches.n, 2);
    CHECK_STR(push->paths.items[0], "src/**");
    CHECK_STR(cron->cron[0].timezone.s, "Europe/Berlin");
    CHECK(dispatch->inputs[0].type == INPUT_CHOICE && dispatch->inputs[0].required && dispatch->inputs[0].n_options == 2);
    CHECK(dispatch->inputs[1].type == INPUT_NUMBER && dispatch->inputs[1].dflt.type == TEXT_NUMBER);
    CHECK(call->inputs[0].type == INPUT_BOOLEAN && call->secrets[0].required);
    CHECK_STR(call->outputs.items[0].key.s, "o");
    CHECK(call->outputs.items[0].value.expr);
    CHECK_STR(p->env.items[0].value.s, "1.1"); /* as GitHub reads it */
    CHECK_STR(p->env.items[1].value.s, "yes");
    CHECK(p->env.items[2].value.expr);
    CHECK_STR(p->env.items[3].value.s, "");
    CHECK_STR(p->env.items[4].value.s, "true");
    CHECK_STR(p->default_shell.s, "bash");
    CHECK_STR(p->permissions.items[0].key.s, "contents");
    CHECK_STR(p->concurrency.cancel_in_progress.s, "true");

    const struct plan_job *a = plan_job_find(p, "A"), *b = plan_job_find(p, "b");
    CHECK_INT(a->runs_on.n, 2);
    CHECK(a->runs_on.items[1].expr);
    CHECK(a->matrix && a->matrix->n == 2);
    CHECK_STR(a->fail_fast.s, "false");
    CHECK_STR(a->container.ports.items[0].s, "80");
    CHECK_STR(a->container.username.s, "u");
    CHECK(a->container.password.expr);
    CHECK_INT(a->n_services, 2);
    CHECK_STR(a->services[1].id, "redis");
    CHECK_STR(a->services[1].image.s, "redis:7");
    CHECK_STR(a->environment.url.s, "https://x");
    CHECK_STR(a->timeout_minutes.s, "5");
    CHECK_INT(a->n_steps, 4);
    CHECK_STR(a->steps[0].id, "__actions_checkout");
    CHECK_STR(a->steps[2].id, "__actions_checkout_2");
    CHECK_STR(a->steps[0].with.items[0].value.s, "0");
    CHECK_STR(a->steps[1].id, "s");
    CHECK_STR(a->steps[1].run.s, "one\ntwo\n");
    CHECK_INT(a->steps[1].run.at.line, 36);
    CHECK(!a->steps[1].if_.expr && a->steps[1].continue_on_error.expr);
    CHECK(a->steps[3].kind == STEP_PARALLEL && a->steps[3].n_children == 2);
    CHECK_STR(a->steps[3].children[1].id, "__alpine_3_8");
    CHECK(b->call && b->call->inherit_secrets && !b->call->secrets.n);
    CHECK(b->call->with.items[0].value.type == TEXT_NUMBER && b->call->with.items[1].value.type == TEXT_BOOL);
    CHECK_STR(b->permissions.all, "read-all");
    CHECK_STR(b->needs.items[0].s, "a");
    CHECK(!a->call);
}

static void note(void *arg, const char *context, const char *name, struct span at) {
    buf_addf(arg, "%s.%s@%u ", context, name, at.line);
}

TEST(names) {
    _cleanup_plan_ struct plan *p = read_ok(full);
    _cleanup_buf_ struct buf b = BUF_SMALL;
    plan_names(p, note, &b);
    CHECK_STR(buf_str(&b), "vars.C@14 secrets.P@23 ");
}

TEST(json) {
    _cleanup_plan_ struct plan *p = read_ok(full);
    _cleanup_buf_ struct buf b = BUF_LARGE;
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    plan_to_json(p, &b, 0);
    CHECK(json_parse(&a, buf_sv(&b), &j, NULL) == 0);
    const struct json *job = json_get(j, "jobs")->items[0];
    CHECK_STR(json_str(json_path(job, "name.expr"), ""), "A ${{ matrix.v }}");
    CHECK_STR(json_get_str(json_get(job, "steps")->items[0], "condition", ""), "success()");
    CHECK_STR(json_get_str(json_get(job, "steps")->items[1], "condition", ""), "always() && github.ref == 'x'");
}

TEST(places) {
    CHECK_STR(errors_of("on: push\n"
                        "jobs:\n"
                        "  a:\n"
                        "    runs-on: ubuntu-latest\n"
                        "    env: {A: 'x ${{ nope.y }}', B: \"\\t${{ nope }}\", C: \"q ${{ nope }}\"}\n"
                        "    steps:\n"
                        "      - run: |\n"
                        "            ok\n"
                        "\n"
                        "            echo ${{ a }} ${{ github. }}\n"
                        "      - run: >-\n"
                        "          folded ${{ b }}\n"
                        "        if: \"${{ secrets.x }}\"\n", NULL),
              "5:21 Unrecognized named-value: 'nope'. Located at position 1 within expression: nope.y\n"
              "5:36 Unrecognized named-value: 'nope'. Located at position 1 within expression: nope\n"
              "5:63 Unrecognized named-value: 'nope'. Located at position 1 within expression: nope\n"
              "10:22 Unrecognized named-value: 'a'. Located at position 1 within expression: a\n"
              "10:37 Unexpected end of expression: '.'. Located at position 7 within expression: github.\n"
              "11:14 Unrecognized named-value: 'b'. Located at position 1 within expression: b\n"
              "13:18 Unrecognized named-value: 'secrets'. Located at position 1 within expression: secrets.x\n");
}

TEST(contexts_by_key) {
    /* Allowed, and not. */
    static const struct {
        const char *key, *expr;
        bool ok;
    } cases[] = {
        {"    env: {A: \"%s\"}", "${{ secrets.x }}", true},
        {"    env: {A: \"%s\"}", "${{ env.x }}", false},
        {"    env: {A: \"%s\"}", "${{ steps.x }}", false},
        {"    timeout-minutes: \"%s\"", "${{ secrets.x }}", false},
        {"    timeout-minutes: \"%s\"", "${{ fromJSON(vars.x) }}", true},
        {"    strategy: \"%s\"", "${{ matrix.x }}", false},
        {"    strategy: \"%s\"", "${{ fromJSON(needs.x.outputs.y) }}", true},
        {"    outputs: {A: \"%s\"}", "${{ hashFiles('x') }}", false},
        {"    outputs: {A: \"%s\"}", "${{ env.x }}${{ job.status }}", true},
        {"    if: \"%s\"", "success('a', 'b') && failure('c')", true},
        {"    if: \"%s\"", "hashFiles('x') == ''", false},
        {"    if: \"%s\"", "always(1)", false},
        {"    environment: {name: x, url: \"%s\"}", "${{ steps.x.outputs.y }}", true},
        {"    environment: {name: x, url: \"%s\"}", "${{ secrets.x }}", false},
        {"    container: {image: x, credentials: {password: \"%s\"}}", "${{ secrets.x }}${{ needs.y }}", true},
        {"    container: {image: \"%s\"}", "${{ secrets.x }}", false},
        {"    services: \"%s\"", "${{ fromJSON(matrix.x) }}", true},
        {"    defaults: {run: {shell: \"%s\"}}", "${{ env.SHELL }}", true},
        {"    permissions: \"%s\"", "${{ github.x }}", false},
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        char line[300], text[600];
        struct sv before = sv_n(cases[i].key, (size_t)(strstr(cases[i].key, "%s") - cases[i].key));
        snprintf(line, sizeof line, SV_FMT "%s%s", SV_ARG(before), cases[i].expr, cases[i].key + before.n + 2);
        snprintf(text, sizeof text, "on: push\njobs:\n  a:\n    runs-on: x\n%s\n    steps: [{run: x}]\n", line);
        struct diags d = {0};
        struct plan *p = NULL;
        bool ok = github_read("w.yml", sv_from(text), NULL, &p, &d) == 0;
        CHECK(ok == cases[i].ok);
        if (ok != cases[i].ok)
            fprintf(stderr, "%s: %s\n", line, d.n ? d.items[0].msg : "accepted");
        plan_free(p);
        diags_done(&d);
    }
}

TEST(hostile) {
    struct github_limits lim = {.max_result_size = 100};
    CHECK(strstr(errors_of("on: push\njobs: {a: {runs-on: x}}\n", &lim), "Maximum object size exceeded"));
    CHECK(strstr(errors_of("", NULL), "empty"));
    CHECK(strstr(errors_of("[]", NULL), "A sequence was not expected"));
    CHECK(strstr(errors_of("on: push\njobs: {a: &x {steps: [*x]}}", NULL), "alias"));
    CHECK(strstr(errors_of("on: push\njobs: {? [a] : b}", NULL), "A sequence was not expected"));
    CHECK(strstr(errors_of("on: push\njobs: []", NULL), "A sequence was not expected"));
    CHECK(strstr(errors_of("on: push\njobs: {a: {runs-on: x, steps: [~, x, []]}}", NULL), "Unexpected value"));
    char deep[3000];
    memset(deep, '[', sizeof deep);
    deep[sizeof deep - 1] = 0;
    CHECK(strstr(errors_of(deep, NULL), "Maximum object depth exceeded"));
}

static const struct plan *give(void *arg, const struct plan *from, const struct text *uses, struct diags *d) {
    return arg;
}

TEST(calls) {
    _cleanup_plan_ struct plan *called = read_ok(
        "on: {workflow_call: {inputs: {n: {type: number, required: true}, flag: {type: boolean}}, secrets: {s: {required: true}}}}\n"
        "jobs: {c: {runs-on: x, steps: [{run: x}]}}\n");
    _cleanup_plan_ struct plan *p = read_ok("on: push\n"
                                            "jobs:\n"
                                            "  a:\n"
                                            "    uses: ./.github/workflows/c.yml\n"
                                            "    with: {flag: 'true', other: 1}\n"
                                            "    secrets: {t: x}\n");
    struct diags d = {0};
    github_check_calls(p, NULL, give, called, &d);
    diags_sort(&d);
    CHECK_INT(d.n, 5);
    CHECK_STR(d.items[0].msg, "Input n is required, but not provided while calling.");
    CHECK_STR(d.items[1].msg, "Secret s is required, but not provided while calling.");
    CHECK_STR(d.items[2].msg, "Unexpected value 'true'");
    CHECK_STR(d.items[3].msg, "Invalid input, other is not defined in the referenced workflow.");
    CHECK_STR(d.items[4].msg, "Invalid secret, t is not defined in the referenced workflow.");
    diags_done(&d);
    /* A workflow that calls itself ends at the limit. */
    github_check_calls(p, NULL, give, p, &d);
    CHECK(d.n > 0);
    diags_done(&d);
}

TEST(schema_is_whole) {
    for (int i = 1; i < D_COUNT; i++)
        CHECK(schema[i].types || schema[i].one_of[0]);
    CHECK(schema_event_known("push") && !schema_event_known("pushh"));
    CHECK_STR(schema_types("watch")[0], "started");
}
