/* bitbucket-pipelines.yml into plans. */
#include "pipeline/plan.h"

#include "core/fs.h"
#include "test.h"

static const char *errors(struct diags *d) {
    static char out[4000];
    size_t n = 0;
    out[0] = 0;
    diags_sort(d);
    for (size_t i = 0; i < d->n && n < sizeof out; i++)
        n += (size_t)snprintf(out + n, sizeof out - n, "%u:%u %s\n", d->items[i].at.line, d->items[i].at.col,
                              d->items[i].msg);
    diags_done(d);
    return out;
}

static struct plan *read_for(const char *text, enum bb_trigger trigger, const char *ref) {
    struct bitbucket_select sel = {trigger, ref};
    struct diags d = {0};
    struct plan *p = NULL;
    int r = bitbucket_read("bitbucket-pipelines.yml", sv_from(text), &sel, &p, &d);
    CHECK((r == 0) == (p != NULL));
    CHECK_STR(errors(&d), "");
    return p;
}

static const char *wrong(const char *text) {
    struct bitbucket_select sel = {BB_PUSH_BRANCH, "main"};
    struct diags d = {0};
    struct plan *p = NULL;
    CHECK(bitbucket_read("b.yml", sv_from(text), &sel, &p, &d) == -EBADMSG);
    CHECK(!p);
    return errors(&d);
}

/* "id<need,need" for each job. */
static const char *shape(const struct plan *p) {
    static char out[1000];
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; p && i < p->n_jobs; i++) {
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%s", i ? " " : "", p->jobs[i].id);
        for (size_t k = 0; k < p->jobs[i].needs.n; k++)
            n += (size_t)snprintf(out + n, sizeof out - n, "%c%s", k ? ',' : '<', p->jobs[i].needs.items[k].s);
    }
    return out;
}

TEST(example) {
    char path[4096];
    const char *src = getenv("SRCDIR");
    snprintf(path, sizeof path, "%s/examples/django/bitbucket-pipelines.yml", src ? src : ".");
    _cleanup_buf_ struct buf b = BUF_LARGE;
    CHECK(fs_read(AT_FDCWD, path, &b, NULL) == 0);
    _cleanup_plan_ struct plan *p = read_for(buf_str(&b), BB_PUSH_BRANCH, "master");
    CHECK(p && p->n_jobs >= 2);
    if (!p)
        return;
    const struct plan_job *j = &p->jobs[0];
    CHECK_STR(j->id, "tests");
    CHECK(j->container.image.s != NULL);
    CHECK_INT(j->n_services, 1);
    CHECK_STR(j->services[0].image.s, "postgres:15");
    CHECK_STR(j->services[0].env.items[0].key.s, "POSTGRES_DB");
    CHECK_INT(j->services[0].memory, 1024u << 20);
    CHECK_STR(j->bb->caches[0].path, "~/.cache/pip");
    CHECK(strstr(j->steps[0].run.s, "pip install") && strstr(j->steps[0].run.s, "manage.py test\n"));
    CHECK_INT(j->steps[0].run.expr, false);
    CHECK_STR(p->jobs[1].needs.items[0].s, "tests");
    CHECK(p->jobs[1].services[0].docker_service);
}

#define HEAD \
    "image: {name: acme/x, run-as-user: 1000, username: $U, password: $P}\n" \
    "clone: {depth: full}\n" \
    "options: {max-time: 10, docker: true, size: 2x}\n" \
    "definitions:\n" \
    "  anything: [1, {x: y}]\n" \
    "  caches: {mine: {path: vendor, key: {files: [go.sum]}}}\n" \
    "  base: &base {name: Base, script: [make], size: 4x}\n" \
    "pipelines:\n" \
    "  default:\n" \
    "    - step: *base\n" \
    "    - parallel:\n" \
    "        fail-fast: true\n" \
    "        steps:\n" \
    "          - step: {name: A & B, script: [a]}\n" \
    "          - step: {script: [b], services: [docker], max-time: 5}\n" \
    "    - stage:\n" \
    "        name: Deploy\n" \
    "        deployment: staging\n" \
    "        trigger: manual\n" \
    "        steps:\n" \
    "          - step: {name: Base, script: [d], caches: [mine, docker]}\n" \
    "          - step:\n" \
    "              <<: *base\n" \
    "              name: Merged\n" \
    "              artifacts: {download: false, upload: [{name: r, paths: ['**/*.xml'], type: test-reports, capture-on: always}], paths: [dist/**]}\n" \
    "              condition: {changesets: {includePaths: [src/**]}}\n" \
    "              on-fail: {strategy: retry, count: 3}\n" \
    "              output-variables: [X]\n" \
    "              after-script: [echo $BITBUCKET_EXIT_CODE]\n"
static const char groups[] = HEAD
    "  branches:\n"
    "    '**': [{step: {name: any, script: [x]}}]\n"
    "    'feature/*': [{step: {name: feature, script: [x]}}]\n"
    "    feature/one: [{step: {name: exact, script: [x]}}]\n"
    "  tags:\n"
    "    'v*': [{step: {name: tag, script: [x]}}]\n"
    "  pull-requests:\n"
    "    '{hotfix,feature}/**': [{step: {name: pr, script: [x]}}]\n"
    "  custom:\n"
    "    release:\n"
    "      - variables: [{name: V, default: '1', allowed-values: ['1', '2']}, {name: W}]\n"
    "      - step: {name: rel, script: [one, {pipe: atlassian/slack-notify:2.0.0, variables: {A: b, L: [x, y]}}, two, {pipe: 'docker://me/p:1'}, {pipe: 'me/p:1'}]}\n";

TEST(plan_of_groups) {
    struct plan *q = read_for(HEAD, BB_PUSH_BRANCH, "main");
    CHECK_STR(shape(q), "base a-b<base step-3<base base-2<a-b,step-3 merged<base-2");
    if (q) {
        const struct plan_job *a = &q->jobs[1], *b = &q->jobs[2], *d1 = &q->jobs[3], *m = &q->jobs[4];
        CHECK_STR(q->jobs[0].container.image.s, "acme/x");
        CHECK_STR(q->jobs[0].container.password.s, "$P");
        CHECK_INT(q->jobs[0].bb->run_as_user, 1000);
        CHECK_INT(q->jobs[0].bb->size, 4);
        CHECK_INT(q->jobs[0].bb->clone_depth, -1);
        CHECK_INT(q->jobs[0].bb->parallel_count, -1);
        CHECK(a->bb->fail_fast && a->bb->parallel_index == 0 && a->bb->parallel_count == 2);
        CHECK_INT(b->bb->size, 2);
        CHECK_STR(a->timeout_minutes.s, "10");
        CHECK_STR(b->timeout_minutes.s, "5");
        CHECK_INT(a->n_services, 1);
        CHECK_INT(b->n_services, 1);
        CHECK(d1->bb->manual && !m->bb->manual);
        CHECK_STR(m->bb->deployment, "staging");
        CHECK_STR(d1->bb->caches[0].key_files[0], "go.sum");
        CHECK(!d1->bb->caches[1].path);
        CHECK_STR(m->steps[0].run.s, "make\n");
        CHECK_INT(m->n_steps, 2);
        CHECK(m->steps[1].after_script && streq(m->steps[1].if_.s, "always()"));
        CHECK(m->bb->artifacts_download_none && m->bb->n_artifacts == 2);
        CHECK_STR(m->bb->artifacts[1].capture_on, "always");
        CHECK_INT(m->bb->on_fail, 2);
        CHECK_INT(m->bb->retry_count, 3);
        CHECK_STR(m->bb->include_paths[0], "src/**");
        CHECK_STR(m->bb->output_variables[0], "X");
    }
    plan_free(q);
}

TEST(selection) {
    static const struct {
        enum bb_trigger trigger;
        const char *ref, *shape;
    } cases[] = {{BB_PUSH_BRANCH, "feature/one", "exact"}, {BB_PUSH_BRANCH, "feature/two", "feature"},
                 {BB_PUSH_BRANCH, "feature/a/b", "any"},   {BB_PUSH_TAG, "v1", "tag"},
                 {BB_PULL_REQUEST, "hotfix/a/b", "pr"},    {BB_CUSTOM, "release", "rel"}};
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        _cleanup_plan_ struct plan *p = read_for(groups, cases[i].trigger, cases[i].ref);
        CHECK_STR(shape(p), cases[i].shape);
    }
    struct bitbucket_select sel = {BB_PUSH_TAG, "x"};
    struct diags d = {0};
    struct plan *p = NULL;
    CHECK(bitbucket_read("b.yml", sv_from(groups), &sel, &p, &d) == -ENOENT);
    CHECK_STR(errors(&d), "");
    _cleanup_strv_ struct strv names = {0};
    CHECK(bitbucket_list("b.yml", sv_from(groups), &names, &d) == 0);
    CHECK_INT(names.n, 5);
    CHECK_STR(names.v[0], "default");
    CHECK_STR(names.v[1], "branches: **, feature/*, feature/one");
    CHECK_STR(names.v[4], "custom: release");
}

TEST(pipes) {
    _cleanup_plan_ struct plan *p = read_for(groups, BB_CUSTOM, "release");
    CHECK(p && p->n_jobs == 1);
    if (!p)
        return;
    const struct plan_job *j = &p->jobs[0];
    CHECK_INT(j->n_steps, 5);
    CHECK_STR(j->steps[1].uses.s, "docker://bitbucketpipelines/slack-notify:2.0.0");
    CHECK_INT(j->steps[1].env.n, 4);
    CHECK_STR(j->steps[1].env.items[2].key.s, "L_1");
    CHECK_STR(j->steps[1].env.items[3].value.s, "2");
    CHECK_STR(j->steps[2].run.s, "two\n");
    CHECK_STR(j->steps[3].uses.s, "docker://me/p:1");
    CHECK_STR(j->steps[4].uses.s, "pipe://me/p:1");
    CHECK_INT(p->triggers[0].n_inputs, 2);
    CHECK(p->triggers[0].inputs[1].required && !p->triggers[0].inputs[0].required);
}

TEST(all_errors_at_once) {
    CHECK_STR(wrong("image: x\n"), "1:1 the file has no `pipelines`\n");
    CHECK_STR(wrong("[]\n"), "1:1 the file needs a mapping with `pipelines`\n");
    CHECK_STR(wrong("pipelines:\n"
                    "  default:\n"
                    "    - step:\n"
                    "        scirpt: [x]\n"
                    "        size: 3x\n"
                    "        max-time: soon\n"
                    "        services: [pg]\n"
                    "        caches: [nope]\n"
                    "    - stpe: {}\n"
                    "    - step: {script: [{a: b}], image: {}, on-fail: {strategy: retry, count: 99}}\n"),
              "4:9 unknown key \"scirpt\" in a step\n"
              "4:9 a step needs a script with at least one command\n"
              "5:15 size must be one of 1x, 2x, 4x, 8x, 16x, 32x\n"
              "6:19 max-time must be a number\n"
              "7:20 there is no service \"pg\" in definitions.services\n"
              "8:18 there is no cache \"nope\": neither a predefined one nor in definitions.caches\n"
              "9:7 unknown key \"stpe\" in an item of a pipeline\n"
              "10:23 a mapping in a script must be a pipe; quote a command that has \": \" in it\n"
              "10:39 an image needs a name\n"
              "10:77 the number of retries must be from 1 to 10\n");
}

TEST(glob) {
    CHECK(bitbucket_glob("feature/*", "feature/x") && !bitbucket_glob("feature/*", "feature/x/y"));
    CHECK(bitbucket_glob("**", "a/b") && bitbucket_glob("**/x", "x") && bitbucket_glob("**/x", "a/b/x"));
    CHECK(bitbucket_glob("a/**/z", "a/z") && bitbucket_glob("a/**/z", "a/b/c/z") && !bitbucket_glob("a/**/z", "az"));
    CHECK(bitbucket_glob("{a,b{c,d}}-?", "bd-1") && !bitbucket_glob("{a,b{c,d}}-?", "b-1"));
    CHECK(bitbucket_glob("{master}", "master") && bitbucket_glob("{x", "{x"));
    CHECK(bitbucket_glob("*.js", "x.js") && !bitbucket_glob("*.js", "a/x.js"));
    char hostile[600];
    for (size_t i = 0; i < 199; i++)
        memcpy(hostile + 3 * i, "**a", 3);
    hostile[597] = 0;
    char text[3000];
    memset(text, 'a', sizeof text - 2);
    memcpy(text + sizeof text - 2, "b", 2);
    CHECK(!bitbucket_glob(hostile, text));
    CHECK(!bitbucket_glob("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", "x"));
}
