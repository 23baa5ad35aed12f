/* The linter: what it finds, and that it is silent where nothing is wrong. One row is one workflow;
 * what is listed is "line code" of each finding. */
#include "pipeline/lint.h"

#include "test.h"

static const char *findings(const char *text, const struct lint_options *o) {
    static char out[4000];
    struct diags d = {0};
    struct plan *p = NULL;
    size_t n = 0;
    out[0] = 0;
    CHECK(github_read("w.yml", sv_from(text), NULL, &p, &d) == 0);
    for (size_t i = 0; i < d.n; i++)
        fprintf(stderr, "%u:%u %s\n", d.items[i].at.line, d.items[i].at.col, d.items[i].msg);
    if (p)
        github_lint(p, o, &d);
    for (size_t i = 0; i < d.n && n < sizeof out; i++) {
        CHECK(lint_explain(d.items[i].code) != NULL);
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%u %s", n ? ", " : "", d.items[i].at.line,
                              d.items[i].code);
    }
    diags_done(&d);
    plan_free(p);
    return out;
}

#define HEAD "on: push\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-latest\n" /* five lines */
#define RUN(x) HEAD "    steps:\n      - run: echo " x "\n" /* line 7 */

static const struct row {
    const char *text, *want;
} rows[] = {
    {RUN("hi"), ""},
    /* steps */
    {RUN("${{ steps.x.outputs.y }}"), "7 unknown-step"},
    {HEAD "    steps:\n      - run: echo ${{ steps.b.outcome }}\n      - {id: b, run: x}\n", "7 step-order"},
    {HEAD "    steps:\n      - {id: b, run: x}\n      - run: echo ${{ steps.B.outcome }} ${{ steps.b.outputs.z }}\n", ""},
    {HEAD "    steps:\n      - {id: b, run: x}\n      - run: echo ${{ steps.b.result }}\n", "8 unknown-property"},
    {HEAD "    outputs: {o: \"${{ steps.b.outputs.v }}\"}\n    steps:\n      - {id: b, run: x}\n", ""},
    {HEAD "    steps:\n      - {id: b, uses: actions/cache@v4, with: {path: p, key: k}}\n"
          "      - run: echo ${{ steps.b.outputs.hit }}\n", "8 unknown-output"},
    /* needs, matrix, inputs, contexts */
    {HEAD "    outputs: {o: v}\n  b:\n    needs: a\n    runs-on: ubuntu-latest\n    steps:\n"
          "      - run: echo ${{ needs.a.outputs.o }} ${{ needs.a.outputs.p }} ${{ needs.c.result }}\n",
     "11 unknown-output, 11 unknown-need"},
    {HEAD "    strategy: {matrix: {v: [1], include: [{w: 2}]}}\n    steps:\n"
          "      - run: echo ${{ matrix.v }} ${{ matrix.w }} ${{ matrix.x }}\n", "8 unknown-matrix"},
    {HEAD "    strategy: {matrix: {include: \"${{ fromJSON(vars.M) }}\"}}\n    steps:\n"
          "      - run: echo ${{ matrix.x.y }}\n", ""},
    {RUN("${{ inputs.x }}"), "7 unknown-input"},
    {"on: {workflow_dispatch: {inputs: {f: {type: boolean}, n: {type: number}}}}\njobs:\n  a:\n"
     "    if: inputs.f == 'true'\n    runs-on: ubuntu-latest\n    steps:\n"
     "      - if: inputs.f && inputs.n > 3 && github.event.inputs.f == 'true'\n        run: x\n", "4 comparison"},
    {RUN("${{ github.foo }} ${{ runner.os }} ${{ github.event.any.thing }}"), "7 unknown-property"},
    /* types */
    {RUN("${{ github.event }} ${{ toJSON(github.event) }}"), "7 object-in-text, 7 template-injection"},
    {RUN("${{ format('{0} {2}', 1, 2) }}"), "7 format-args, 7 format-args"},
    {RUN("${{ fromJSON('{') }} ${{ fromJSON('{\"a\":1}').a }} ${{ fromJSON('[1]').a }}"),
     "7 bad-json, 7 not-an-object"},
    {RUN("${{ startsWith(github.event, 'a') }} ${{ github.sha < null }}"), "7 argument-type, 7 comparison"},
    {HEAD "    services: {db: {image: \"postgres:17\"}}\n    steps:\n"
          "      - run: echo ${{ job.services.db.ports[5432] }} ${{ job.services['db'].id }}\n", ""},
    {HEAD "    timeout-minutes: ${{ vars.T }}\n    continue-on-error: ${{ github.ref == 'x' }}\n", "6 value-type"},
    {HEAD "    timeout-minutes: ${{ github.ref == 'x' && 60 || 20 }}\n", ""},
    {HEAD "    if: ${{ github.ref == 'x' }} || true\n", "6 always-true"},
    {HEAD "    if: |\n      ${{ false }}\n", "6 always-true"},
    {HEAD "    if: 1 == 2\n", "6 constant-condition"},
    {HEAD "    if: always()\n", ""},
    /* values */
    {HEAD "    steps:\n      - {run: x, shell: fish}\n      - {run: x, shell: 'perl {0}'}\n      - {run: x, shell: cmd}\n",
     "7 shell-name, 9 shell-name"},
    {"on: push\njobs:\n  a: {runs-on: ubuntu-20.04}\n  b: {runs-on: [ubuntu-latest, windows-latest]}\n"
     "  c: {runs-on: [self-hosted, gpu]}\n  d: {runs-on: ubuntu-24.04-16core}\n  e: {runs-on: ubuntu-oldest}\n",
     "3 runner-label, 4 runner-conflict, 7 runner-label"},
    {"on: {push: {branches: ['a b', '[9-0]', 'v[12].?', '**']}, schedule: [{cron: '*/2 * * * *'}]}\njobs:\n"
     "  a: {runs-on: ubuntu-latest}\n", "1 glob, 1 glob, 1 cron-too-often"},
    {HEAD "    strategy: {matrix: {v: [1, 2, 1], exclude: [{w: 1}, {v: 9}, {v: 2}]}}\n",
     "6 duplicate-matrix, 6 exclude-unknown, 6 exclude-unknown"},
    {HEAD "    env: {A B: c}\n    steps:\n      - run: |\n          echo ::set-output name=x::1\n",
     "6 env-name, 8 deprecated-command"},
    {HEAD "    steps:\n      - {uses: actions/checkout@v4, with: {fetchdepth: 0}}\n      - uses: actions/cache@v4\n"
          "      - uses: actions/checkout@v2\n      - uses: actions/checkout@8e5e7e5a\n",
     "7 unknown-action-input, 8 missing-action-input, 8 missing-action-input, 9 outdated-action, 10 short-sha"},
    /* security */
    {RUN("${{ github.event.issue.title }}"), "7 template-injection"},
    {RUN("${{ github.event.commits[0].message }} ${{ github.event.*.body }}"), "7 template-injection, 7 object-in-text, 7 template-injection"},
    {RUN("${{ contains(github.head_ref, 'x') }} ${{ github.event.number }} ${{ github.head_ref && 'a' }}"), ""},
    {RUN("${{ secrets.T }}"), "7 secret-in-command"},
    {RUN("${{ secrets.T != '' }}"), ""},
    {HEAD "    steps:\n      - run: echo \"$T\"\n        env: {T: \"${{ github.head_ref }}\"}\n", ""},
    {HEAD "    steps:\n      - {uses: actions/github-script@v7, with: {script: 'x(${{ github.head_ref }})'}}\n",
     "7 template-injection"},
    {"on: pull_request_target\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n"
     "        with: {ref: \"${{ github.event.pull_request.head.sha }}\"}\n", "1 default-permissions, 7 untrusted-checkout"},
    {HEAD "    steps:\n      - uses: foo/bar@v1\n      - uses: foo/bar@0123456789abcdef0123456789abcdef01234567\n"
          "      - uses: docker://alpine:3\n", "7 unpinned-action, 9 unpinned-image"},
    {"on: push\npermissions: write-all\njobs:\n  a: {runs-on: ubuntu-latest}\n", "2 excessive-permissions"},
    {HEAD "    steps:\n      - uses: actions/checkout@v4\n      - {uses: actions/upload-artifact@v4, with: {path: .}}\n",
     "8 credentials-in-artifact"},
    {HEAD "    steps:\n      - {uses: actions/checkout@v4, with: {persist-credentials: false}}\n"
          "      - {uses: actions/upload-artifact@v4, with: {path: .}}\n", ""},
    {HEAD "    if: contains('refs/heads/main', github.ref)\n    env: {S: \"${{ toJSON(secrets) }}\"}\n",
     "6 unsound-contains, 7 all-secrets"},
    /* comments */
    {RUN("${{ secrets.T }} # slipway: ignore[secret-in-command] a test value"), ""},
    {HEAD "    steps:\n      # slipway: ignore[secret-in-command] a test value\n      - run: echo ${{ secrets.T }}\n", ""},
    {RUN("${{ secrets.T }} # slipway: ignore[secret-in-command]"), "7 secret-in-command, 7 ignore-reason"},
    {RUN("${{ secrets.T }} # slipway: ignore[no-such] why"), "7 secret-in-command, 7 ignore-reason"},
};

TEST(findings_of_each_row) {
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        const char *got = findings(rows[i].text, NULL);
        if (!streq(got, rows[i].want))
            fprintf(stderr, "row %zu:\n%s\n  %s\n", i, rows[i].text, got);
        CHECK(streq(got, rows[i].want));
    }
}

TEST(options) {
    static const char *const labels[] = {"ubuntu-old*", NULL};
    CHECK(streq(findings(RUN("${{ secrets.T }}"), &(struct lint_options){.no_audit = true}), ""));
    CHECK(streq(findings("on: push\njobs:\n  e: {runs-on: ubuntu-oldest}\n", &(struct lint_options){.labels = labels}), ""));
}

TEST(explanations) {
    size_t n;
    const struct lint_rule *rules = lint_rules(&n);
    for (size_t i = 0; i < n; i++) {
        CHECK(*rules[i].title && *rules[i].why && *rules[i].mend);
        CHECK(lint_explain(rules[i].code) == &rules[i]);
    }
    CHECK(lint_explain("none") == NULL);
}

