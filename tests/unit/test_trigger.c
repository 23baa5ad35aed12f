/* Globs of event filters and the matching of events. */
#include "pipeline/trigger.h"

#include "pipeline/github/cron.h"
#include "test.h"

TEST(glob) {
    static const struct {
        const char *pattern, *yes[6], *no[6];
    } cases[] = { /* GitHub's cheat sheet first */
        {"feature/*", {"feature/my-branch", "feature/your-branch"}, {"feature/a/b", "feature"}},
        {"feature/**", {"feature/beta-a/my-branch", "feature/x"}, {"features/x"}},
        {"main", {"main"}, {"main2", "amain"}},
        {"*", {"main", "releases"}, {"all/the/branches"}},
        {"**", {"all/the/branches", "every/tag", "x"}, {NULL}},
        {"*feature", {"mona-feature", "feature", "ver-10-feature"}, {"a/feature"}},
        {"v2*", {"v2", "v2.0", "v2.9"}, {"v1"}},
        {"v[12].[0-9]+.[0-9]+", {"v1.10.1", "v2.0.0"}, {"v3.1.1", "v1..1", "v1.1"}},
        {"*.jsx?", {"page.js", "page.jsx"}, {"page.jsxx", "a/page.js"}},
        {"**.js", {"index.js", "js/index.js", "src/js/app.js"}, {"index.jsx"}},
        {"docs/*", {"docs/README.md"}, {"docs/a/b.md"}},
        {"docs/**/*.md", {"docs/README.md", "docs/mona/hello-world.md", "docs/a/markdown/file.md"}, {"docs.md"}},
        {"**/docs/**", {"docs/hello.md", "dir/docs/my-file.txt", "space/docs/plan/space.doc"}, {"mydocs/x"}},
        {"**/README.md", {"README.md", "js/README.md"}, {"xREADME.md"}},
        {"**/*src/**", {"a/src/app.js", "my-src/code/js/app.js"}, {"src.js"}},
        {"**/*-post.md", {"my-post.md", "path/their-post.md"}, {"post.md"}},
        {"**/migrate-*.sql", {"migrate-10909.sql", "db/sept/migrate-v1.sql"}, {"db/xmigrate-1.sql"}},
        {"\\*x", {"*x"}, {"yx"}},
        {"a+b", {"ab", "aaab"}, {"b", "a+b"}},
        {"[a-c]+", {"a", "abcabc"}, {"", "abd"}},
        {"", {""}, {"x"}},
        {"releases/**-alpha", {"releases/10-alpha", "releases/beta/3-alpha"}, {"releases/10"}},
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        for (size_t k = 0; k < 6 && cases[i].yes[k]; k++) {
            CHECK(github_glob(cases[i].pattern, cases[i].yes[k]));
            if (!github_glob(cases[i].pattern, cases[i].yes[k]))
                fprintf(stderr, "  %s does not match %s\n", cases[i].pattern, cases[i].yes[k]);
        }
        for (size_t k = 0; k < 6 && cases[i].no[k]; k++) {
            CHECK(!github_glob(cases[i].pattern, cases[i].no[k]));
            if (github_glob(cases[i].pattern, cases[i].no[k]))
                fprintf(stderr, "  %s matches %s\n", cases[i].pattern, cases[i].no[k]);
        }
    }
    CHECK(!github_glob("!main", "main") && github_glob("!main", "x"));
    char hostile[900], text[2000];
    for (size_t i = 0; i + 2 < sizeof hostile; i += 2)
        memcpy(hostile + i, "*a", 2);
    hostile[898] = 0;
    memset(text, 'a', sizeof text - 2);
    memcpy(text + sizeof text - 2, "b", 2);
    CHECK(!github_glob(hostile, text));
}

static struct plan *workflow(const char *on) {
    char text[2000];
    snprintf(text, sizeof text, "on:\n%s\njobs:\n  a:\n    runs-on: x\n    steps:\n    - run: x\n", on);
    struct diags d = {0};
    struct plan *p = NULL;
    CHECK(github_read("w.yml", sv_from(text), NULL, &p, &d) == 0);
    for (size_t i = 0; i < d.n; i++)
        fprintf(stderr, "%s\n", d.items[i].msg);
    diags_done(&d);
    return p;
}

static const char *verdict(const char *on, struct trigger_event ev) {
    static char why[600];
    _cleanup_plan_ struct plan *p = workflow(on);
    if (!p)
        return "no plan";
    struct trigger_verdict v = trigger_match(p, &ev);
    CHECK(v.runs == !v.filter);
    snprintf(why, sizeof why, "%s", v.runs ? "runs" : v.why);
    return why;
}

TEST(push) {
    const char *const paths[] = {"docs/a.md", "src/x.c"}, *const docs[] = {"docs/a.md"};
    struct trigger_event main = {.name = "push", .branch = "main"}, tag = {.name = "push", .tag = "v1"};
    struct trigger_event other = {.name = "push", .branch = "feature/x"};
    struct trigger_event both = {.name = "push", .branch = "main", .paths = paths, .n_paths = 2};
    struct trigger_event doc = {.name = "push", .branch = "main", .paths = docs, .n_paths = 1};
    CHECK_STR(verdict("  push:", main), "runs");
    CHECK_STR(verdict("  pull_request:", main), "it runs on pull_request, not on push");
    CHECK_STR(verdict("  push: {branches: [main, 'rel/**']}", other),
              "`branches` (main, rel/**) does not match feature/x");
    CHECK_STR(verdict("  push: {branches: ['**', '!feature/*']}", other),
              "`branches` (**, !feature/*) does not match feature/x");
    CHECK_STR(verdict("  push: {branches: ['**', '!feature/*', feature/x]}", other), "runs");
    CHECK_STR(verdict("  push: {branches-ignore: 'feature/*'}", other),
              "`branches-ignore` (feature/*) matches feature/x");
    CHECK_STR(verdict("  push: {branches: main}", tag),
              "push has filters for branches only, and this is the tag v1");
    CHECK_STR(verdict("  push: {tags: 'v*'}", tag), "runs");
    CHECK_STR(verdict("  push: {tags: 'v*'}", main),
              "push has filters for tags only, and this is the branch main");
    CHECK_STR(verdict("  push: {paths: 'src/**'}", both), "runs");
    CHECK_STR(verdict("  push: {paths: 'src/**'}", doc),
              "`paths` (src/**) matches none of the changed files: docs/a.md");
    CHECK_STR(verdict("  push: {paths-ignore: 'docs/**'}", both), "runs");
    CHECK_STR(verdict("  push: {paths-ignore: 'docs/**'}", doc),
              "`paths-ignore` (docs/**) covers all changed files: docs/a.md");
    CHECK_STR(verdict("  push: {paths: 'src/**'}", main), "runs");
    CHECK_STR(verdict("  push: {tags: 'v*', paths: 'src/**'}", tag), "runs");
}

TEST(other_events) {
    struct trigger_event opened = {.name = "pull_request", .type = "opened", .base_branch = "main"};
    struct trigger_event closed = {.name = "pull_request", .type = "closed", .base_branch = "main"};
    struct trigger_event run = {.name = "workflow_run", .type = "completed", .branch = "dev", .workflow = "CI"};
    CHECK_STR(verdict("  pull_request:", opened), "runs");
    CHECK_STR(verdict("  pull_request:", closed),
              "without `types`, pull_request runs for opened, synchronize, reopened only, not for closed");
    CHECK_STR(verdict("  pull_request: {types: [closed]}", closed), "runs");
    CHECK_STR(verdict("  pull_request: {types: [closed]}", opened), "`types` (closed) does not have opened");
    CHECK_STR(verdict("  pull_request: {branches: dev}", opened), "`branches` (dev) does not match main");
    CHECK_STR(verdict("  workflow_run: {workflows: [CI], branches: [dev]}", run), "runs");
    CHECK_STR(verdict("  workflow_run: {workflows: [Build]}", run), "`workflows` (Build) does not have CI");
    CHECK_STR(verdict("  schedule: [{cron: '0 0 * * *'}]", (struct trigger_event){.name = "schedule"}), "runs");
}

TEST(cron) {
    static const char *const good[] = {"* * * * *", "*/5 0-6 1,15 JAN-mar Mon", "0 0 * * 0", "0/15 * * * *"};
    static const char *const bad[] = {"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *",
                                      "* * * 13 *", "* * * * 7", "@daily", "5-1 * * * *", "*/0 * * * *", "a * * * *"};
    for (size_t i = 0; i < ELEMENTS(good); i++)
        CHECK(cron_valid(good[i]));
    for (size_t i = 0; i < ELEMENTS(bad); i++)
        CHECK(!cron_valid(bad[i]));
}
