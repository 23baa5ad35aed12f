/* docker/metadata-action's rules. With DOCKMETA set it answers requests (a JSON object on each line of
 * standard input) instead, for the comparison with the published action: tests/e2e/test_docker_actions.py. */
#include "test.h"

#include "core/loop.h"
#include "run/dockmeta.h"
#include "run/dockmeta_text.h"

static struct err e;
static struct arena a;

static const char *tags(const char *event, const char *ref, const char *lines, const char *flavor) {
    struct dockmeta_in in = {.event = event, .ref = ref, .sha = "0123456789abcdef0123456789abcdef01234567", .now_ns = 1700000000123456789, .commit_ns = 1600000000000000000,
                             .bake_target = "docker-metadata-action", .levels = "manifest", .short_sha = 7};
    struct dockmeta m;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    strv_add(&in.images, "Acme/App");
    dockmeta_lines(lines, &in.tags);
    dockmeta_lines(flavor, &in.flavor);
    if (dockmeta_make(&in, &a, &m, &e) < 0)
        buf_addf(&b, "error: %s", e.msg);
    for (size_t i = 0; i < m.tags.n; i++)
        buf_addf(&b, "%s%s", i ? " " : "", m.tags.v[i]);
    dockmeta_done(&m);
    strv_done(&in.images);
    strv_done(&in.tags);
    strv_done(&in.flavor);
    return arena_strdup(&a, buf_str(&b));
}

TEST(rules) {
    CHECK_STR(tags("push", "refs/heads/main", "", ""), "acme/app:main");
    CHECK_STR(tags("push", "refs/tags/v1.2.3", "", ""), "acme/app:v1.2.3 acme/app:latest");
    CHECK_STR(tags("pull_request", "refs/pull/7/merge", "", ""), "acme/app:pr-7");
    CHECK_STR(tags("schedule", "refs/heads/main", "", ""), "acme/app:nightly acme/app:main");
    CHECK_STR(tags("push", "refs/tags/v1.2.3", "type=semver,pattern={{version}}\ntype=semver,pattern={{major}}.{{minor}}\ntype=sha", ""),
              "acme/app:1.2.3 acme/app:1.2 acme/app:sha-0123456 acme/app:latest");
    CHECK_STR(tags("push", "refs/tags/v1.2.3-rc.1", "type=semver,pattern={{major}}", ""), "acme/app:1.2.3-rc.1");
    CHECK_STR(tags("push", "refs/tags/app-2.0", "type=match,pattern=app-(.*),group=1", "latest=false"), "acme/app:2.0");
    CHECK_STR(tags("push", "refs/heads/feat/x y", "type=ref,event=branch\ntype=raw,value=r,enable={{is_default_branch}}", "prefix=p-,onlatest=true\nlatest=true"), "acme/app:p-feat-x-y acme/app:p-latest");
    CHECK_STR(tags("push", "refs/heads/main", "type=wrong", ""), "error: Unknown tag type attribute: wrong");
    CHECK_STR(tags("push", "refs/heads/main", "type=semver", ""), "error: Missing pattern attribute for type=semver");
    CHECK_STR(tags("push", "refs/heads/main", "type=match,pattern=(,value=x", ""), "error: Invalid regular expression: (");
    CHECK_STR(tags("push", "refs/heads/main", "type=raw,value={{date 'YYYYMMDD-HHmmss' tz='UTC'}}", ""), "acme/app:20231114-221320");
}

TEST(dates) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    CHECK_INT(meta_date(1700000000123456789, "YYYY-MM-DD[T]HH:mm:ss.SSSZ ddd Do DDDD W w Q X x A", NULL, &b, &e), 0);
    CHECK_STR(buf_str(&b), "2023-11-14T22:13:20.123+00:00 Tue 14th 318 46 46 4 1700000000 1700000000123 PM");
    CHECK_INT(meta_date(0, NULL, NULL, &b, &e), -EINVAL);
}

TEST(versions) {
    struct meta_version v;
    CHECK(meta_semver(&a, "v1.2.3-rc.1+b", &v));
    CHECK_STR(v.version, "1.2.3-rc.1");
    CHECK(!meta_semver(&a, "1.2", &v) && !meta_semver(&a, "01.2.3", &v) && !meta_semver(&a, "", &v));
    CHECK(meta_pep440(&a, "1.0RC1.post2.dev3+Local-1", &v));
    CHECK_STR(v.version, "1.0rc1.post2.dev3+local.1");
    CHECK(!meta_pep440(&a, "1.x", &v));
    CHECK(meta_locale_cmp("org.a", "org.B") < 0 && meta_locale_cmp("a-b", "a.b") < 0 && meta_locale_cmp("a", "A") < 0 && meta_locale_cmp("a", "a1") < 0);
}

/* --- for the comparison ------------------------------------------------------------------------------------ */

static void lines_of(const struct json *j, const char *key, struct strv *out) { dockmeta_lines(json_get_str(j, key, ""), out); }

static void jw_list(struct json_w *w, const char *key, const struct strv *v) {
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < v->n; i++)
        jw_str(w, v->v[i]);
    jw_end_arr(w);
}

static void answer(struct sv line) {
    _cleanup_arena_ struct arena m = {0};
    _cleanup_buf_ struct buf b = BUF_LARGE;
    struct json *j;
    struct dockmeta d;
    struct json_w w;
    if (json_parse(&m, line, &j, &e) < 0)
        abort();
    struct dockmeta_in in = {.event = json_get_str(j, "event", ""), .ref = json_get_str(j, "ref", ""), .sha = json_get_str(j, "sha", ""),
                             .payload = val_from_json(&m, json_get(j, "payload")), .now_ns = (int64_t)now_real(), .commit_ns = json_get_int(j, "commit_ns", 0),
                             .bake_target = "docker-metadata-action", .levels = json_get_str(j, "levels", "manifest"), .short_sha = 7};
    lines_of(j, "images", &in.images);
    lines_of(j, "tags", &in.tags);
    lines_of(j, "flavor", &in.flavor);
    lines_of(j, "labels", &in.labels);
    lines_of(j, "annotations", &in.annotations);
    e = (struct err){0};
    int r = dockmeta_make(&in, &m, &d, &e);
    jw_init(&w, &b, 0);
    jw_obj(&w);
    if (r < 0)
        jw_kstr(&w, "error", e.msg);
    else {
        jw_kstr(&w, "version", d.version);
        jw_list(&w, "tags", &d.tags);
        jw_list(&w, "labels", &d.labels);
        jw_list(&w, "annotations", &d.annotations);
        jw_kstr(&w, "json", buf_str(&d.json));
        jw_kstr(&w, "bake-file", buf_str(&d.bake));
        jw_kstr(&w, "bake-file-tags", buf_str(&d.bake_tags));
    }
    jw_end_obj(&w);
    puts(buf_str(&b));
    dockmeta_done(&d);
}

__attribute__((constructor)) static void answer_only(void) {
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    if (!getenv("DOCKMETA"))
        return;
    while ((n = getline(&line, &cap, stdin)) > 0)
        answer(sv_n(line, (size_t)n));
    free(line);
    exit(0);
}
