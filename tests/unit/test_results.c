/* The results server over HTTP: tokens, artifacts, caches, blocks, hostile requests. With RESULTS_SERVE
 * (a folder) it only serves, for the published clients: tests/e2e/test_services.py. */
#include "test.h"

#include "base/http.h"
#include "base/httpd.h"
#include "core/arena.h"
#include "core/fs.h"
#include "core/json.h"
#include "run/results_internal.h"
#include "store/acache.h"
#include "store/artifact.h"

#include <pthread.h>

static char dir[80];
static struct err e;
static struct store *store;
static struct loop *loop;
static pthread_t thread;

static void *run_loop(void *arg) {
    loop_run(arg);
    return NULL;
}
static void end_loop(struct loop *l, void *arg) { loop_stop(l, 0); }

static void begin(void) {
    const char *where = getenv("RESULTS_SERVE");
    struct store_options o = {.path = dir, .allow_single_id = true};
    if (where)
        snprintf(dir, sizeof dir, "%s", where);
    else
        snprintf(dir, sizeof dir, "/tmp/test-results-XXXXXX");
    if ((!where && !mkdtemp(dir)) || store_open(&store, &o, &e) < 0 || loop_new(&loop) < 0 || pthread_create(&thread, NULL, run_loop, loop))
        abort();
}
static void end(void) {
    loop_post(loop, end_loop, NULL);
    pthread_join(thread, NULL);
    loop_free(loop);
    store_close(store);
    CHECK_INT(fs_rmtree(AT_FDCWD, dir), 0);
}

static struct results *serve(struct results_options o) {
    struct results *s = NULL;
    uint16_t port = 0;
    char url[64];
    o.store = store;
    o.loop = loop;
    o.run_id = o.run_id ? o.run_id : "1";
    o.repo = "acme/app";
    o.listen_fd = listen_tcp("127.0.0.1", 0, &port, &e);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
    o.url = url;
    if (mkdirat(store_dirfd(store), "up", 0700) < 0 && errno != EEXIST)
        abort();
    o.scratch = openat(store_dirfd(store), "up", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (results_new(&s, &o, &e) < 0)
        abort();
    close(o.scratch);
    return s;
}

static struct http_resp answer;
static struct arena mem;
static const struct json *ask(struct results *s, const char *token, const char *method, const char *url, const char *body, const char *range) {
    struct http_req rq = {.method = method, .url = url, .bearer = token, .body = sv_from(body)};
    _cleanup_free_ char *full = xasprintf("%s%s", results_url(s), url);
    struct json *j = NULL;
    http_resp_done(&answer);
    memset(&answer, 0, sizeof answer);
    if (!startswith(url, "http"))
        rq.url = full;
    rq.headers[rq.n_headers++] = (struct http_header){"Content-Type", "application/json"};
    if (range)
        rq.headers[rq.n_headers++] = (struct http_header){streq(method, "GET") ? "Range" : "Content-Range", range};
    if (http_do(&rq, &answer, &e) < 0) {
        answer.status = -1;
        return NULL;
    }
    return answer.body.n && json_parse(&mem, arena_sv(&mem, buf_sv(&answer.body)), &j, NULL) >= 0 ? j : NULL;
}
static const struct json *twirp(struct results *s, const char *method, const char *fmt, ...) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    _cleanup_free_ char *path = xasprintf("/twirp/github.actions.results.api.v1.%s", method);
    va_list ap;
    va_start(ap, fmt);
    buf_addv(&b, fmt, ap);
    va_end(ap);
    return ask(s, results_token(s), "POST", path, buf_str(&b), NULL);
}
static char *url_of(const struct json *j, const char *key) { return arena_strdup(&mem, json_get_str(j, key, "")); }
static char *more(const char *url, const char *query) { return arena_printf(&mem, "%s%s", url, query); }

static const char *put_artifact(struct results *s, const char *name, const char *text) {
    const char *url = url_of(twirp(s, "ArtifactService/CreateArtifact", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"%s\",\"version\":7}", s->run_backend, name), "signed_upload_url");
    CHECK_INT(answer.status, 200);
    ask(s, NULL, "PUT", url, text, NULL);
    CHECK_INT(answer.status, 201);
    const struct json *j = twirp(s, "ArtifactService/FinalizeArtifact", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"%s\",\"size\":\"%zu\"}", s->run_backend, name, strlen(text));
    CHECK_INT(answer.status, 200);
    return url_of(j, "artifact_id");
}

TEST(tokens) {
    begin();
    struct results *a = serve((struct results_options){.ref = "refs/heads/main"}), *b = serve((struct results_options){.ref = "refs/heads/main"});
    static const char list[] = "/twirp/github.actions.results.api.v1.ArtifactService/ListArtifacts";
    ask(a, NULL, "POST", list, "{}", NULL);
    CHECK_INT(answer.status, 401);
    ask(a, results_token(b), "POST", list, "{}", NULL);
    CHECK_INT(answer.status, 403);
    ask(a, "x", "GET", "/_apis/artifactcache/cache?keys=a&version=1", "", NULL);
    CHECK_INT(answer.status, 403);
    ask(a, NULL, "PATCH", "/_apis/artifactcache/caches/1", "x", "bytes 0-0/*");
    CHECK_INT(answer.status, 401);
    ask(a, NULL, "GET", "/", "", NULL);
    CHECK_INT(answer.status, 401);
    put_artifact(a, "mine", "hello");
    const char *url = url_of(twirp(a, "ArtifactService/GetSignedArtifactURL", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"mine\"}", a->run_backend), "signed_url");
    ask(a, NULL, "GET", url, "", NULL);
    CHECK_INT(answer.status, 200);
    CHECK_STR(buf_str(&answer.body), "hello");
    /* Another job's server refuses the same signature; so does a changed one, and another blob's. */
    ask(b, NULL, "GET", strchr(url + 8, '/'), "", NULL);
    CHECK_INT(answer.status, 403);
    char *bad = arena_strdup(&mem, url), *sig = strstr(bad, "sig=") + 4;
    *sig = *sig == 'a' ? 'b' : 'a';
    ask(a, NULL, "GET", bad, "", NULL);
    CHECK_INT(answer.status, 403);
    ask(a, NULL, "GET", arena_printf(&mem, "/blob/cache/1%s", strchr(url, '?')), "", NULL);
    CHECK_INT(answer.status, 403);
    ask(a, NULL, "PUT", url, "x", NULL);
    CHECK_INT(answer.status, 404);
    /* A run sees its own artifacts only. */
    struct results *c = serve((struct results_options){.run_id = "2"});
    twirp(c, "ArtifactService/ListArtifacts", "{\"workflow_run_backend_id\":\"%s\"}", a->run_backend);
    CHECK_INT(answer.status, 403);
    const struct json *j = twirp(c, "ArtifactService/ListArtifacts", "{\"workflow_run_backend_id\":\"%s\"}", c->run_backend);
    CHECK(json_get(j, "artifacts") && json_get(j, "artifacts")->n == 0);
    results_free(a);
    results_free(b);
    results_free(c);
    end();
}

TEST(artifacts) {
    begin();
    struct results *s = serve((struct results_options){.blob_max = 1000});
    const char *id = put_artifact(s, "one", "first");
    CHECK(id && *id);
    twirp(s, "ArtifactService/CreateArtifact", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"one\"}", s->run_backend);
    CHECK_INT(answer.status, 409);
    twirp(s, "ArtifactService/CreateArtifact", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"a/../b\"}", s->run_backend);
    CHECK_INT(answer.status, 400);
    const struct json *j = twirp(s, "ArtifactService/ListArtifacts", "{\"workflowRunBackendId\":\"%s\",\"idFilter\":\"%s\"}", s->run_backend, id);
    const struct json *one = json_get(j, "artifacts");
    CHECK(one && one->n == 1);
    CHECK_STR(json_get_str(one->items[0], "size", ""), "5");
    CHECK_STR(json_get_str(one->items[0], "digest", ""), "sha256:a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e");
    /* Ranges. */
    const char *url = url_of(twirp(s, "ArtifactService/GetSignedArtifactURL", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"one\"}", s->run_backend), "signed_url");
    ask(s, NULL, "GET", url, "", "bytes=1-2");
    CHECK_INT(answer.status, 206);
    CHECK_STR(buf_str(&answer.body), "ir");
    CHECK_STR(http_header(&answer, "content-range"), "bytes 1-2/5");
    ask(s, NULL, "GET", url, "", "bytes=-2");
    CHECK_STR(buf_str(&answer.body), "st");
    ask(s, NULL, "GET", url, "", "bytes=9-");
    CHECK_INT(answer.status, 416);
    CHECK(strstr(http_header(&answer, "content-range"), "*/5") != NULL);
    /* Blocks out of order, one sent twice, one never committed. */
    const char *up = url_of(twirp(s, "ArtifactService/CreateArtifact", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"two\"}", s->run_backend), "signed_upload_url");
    ask(s, NULL, "PUT", more(up, "&comp=block&blockid=Yg%3D%3D"), "world", NULL);
    CHECK_INT(answer.status, 201);
    ask(s, NULL, "PUT", more(up, "&comp=block&blockid=YQ%3D%3D"), "XXXXX", NULL);
    ask(s, NULL, "PUT", more(up, "&comp=block&blockid=YQ%3D%3D"), "hello ", NULL);
    ask(s, NULL, "PUT", more(up, "&comp=block&blockid=eHg%3D"), "never", NULL);
    ask(s, NULL, "PUT", more(up, "&comp=blocklist"), "<BlockList><Latest>YQ==</Latest><Latest>bm8=</Latest></BlockList>", NULL);
    CHECK_INT(answer.status, 400);
    ask(s, NULL, "PUT", more(up, "&comp=blocklist"), "<?xml version=\"1.0\"?><BlockList><Latest>YQ==</Latest><Latest>Yg==</Latest></BlockList>", NULL);
    CHECK_INT(answer.status, 201);
    /* A wrong hash and a wrong size are refused, and the upload is over then. */
    twirp(s, "ArtifactService/FinalizeArtifact", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"two\",\"size\":\"11\",\"hash\":\"sha256:00\"}", s->run_backend);
    CHECK_INT(answer.status, 400);
    twirp(s, "ArtifactService/FinalizeArtifact", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"two\",\"size\":\"11\"}", s->run_backend);
    CHECK_INT(answer.status, 404);
    put_artifact(s, "two", "hello world");
    /* Never more than is allowed; nothing without an upload. */
    up = url_of(twirp(s, "ArtifactService/CreateArtifact", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"big\"}", s->run_backend), "signed_upload_url");
    char big[1100];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    ask(s, NULL, "PUT", up, big, NULL);
    CHECK_INT(answer.status, 413);
    twirp(s, "ArtifactService/FinalizeArtifact", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"big\"}", s->run_backend);
    CHECK_INT(answer.status, 400);
    /* Deleting makes room for the name. */
    twirp(s, "ArtifactService/DeleteArtifact", "{\"workflow_run_backend_id\":\"%s\",\"name\":\"one\"}", s->run_backend);
    CHECK_INT(answer.status, 200);
    put_artifact(s, "one", "again");
    twirp(s, "ArtifactService/Nothing", "{}");
    CHECK_INT(answer.status, 404);
    twirp(s, "ArtifactService/ListArtifacts", "[not json");
    CHECK_INT(answer.status, 400);
    results_free(s);
    int left = openat(store_dirfd(store), "up", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t bytes, files;
    CHECK_INT(fs_size_tree(store_dirfd(store), "up", &bytes, &files), 0);
    CHECK_INT(files, 0); /* nothing unfinished stays */
    close(left);
    end();
}

static void save(struct results *s, const char *key, const char *version, const char *text, int want) {
    const struct json *j = twirp(s, "CacheService/CreateCacheEntry", "{\"key\":\"%s\",\"version\":\"%s\"}", key, version);
    if (answer.status != 200) {
        CHECK_INT(answer.status, want);
        return;
    }
    ask(s, NULL, "PUT", url_of(j, "signed_upload_url"), text, NULL);
    j = twirp(s, "CacheService/FinalizeCacheEntryUpload", "{\"key\":\"%s\",\"version\":\"%s\",\"size_bytes\":\"%zu\"}", key, version, strlen(text));
    CHECK_INT(answer.status, want);
    CHECK(want != 200 || json_get_bool(j, "ok", false));
}
/* The text of what is found, or "". */
static const char *restore(struct results *s, const char *key, const char *restore_keys, const char *version) {
    const struct json *j = twirp(s, "CacheService/GetCacheEntryDownloadURL", "{\"key\":\"%s\",\"restore_keys\":[%s],\"version\":\"%s\"}", key, restore_keys, version);
    CHECK_INT(answer.status, 200);
    if (!json_get_bool(j, "ok", false))
        return "";
    const char *url = url_of(j, "signed_download_url");
    ask(s, NULL, "GET", url, "", NULL);
    CHECK_INT(answer.status, 200);
    return arena_strdup(&mem, buf_str(&answer.body));
}

TEST(caches) {
    begin();
    struct results *m = serve((struct results_options){.ref = "refs/heads/main"});
    save(m, "npm-1", "v", "one", 200);
    save(m, "npm-2", "v", "two", 200);
    save(m, "npm-1", "v", "other", 409); /* immutable */
    save(m, "npm-1", "w", "version", 200);
    save(m, "a,b", "v", "comma", 400);
    CHECK_STR(restore(m, "npm-1", "", "v"), "one");
    CHECK_STR(restore(m, "npm-1", "", "w"), "version");
    CHECK_STR(restore(m, "npm-1", "", "x"), "");
    CHECK_STR(restore(m, "npm-", "", "v"), "two");           /* by prefix: the newest */
    CHECK_STR(restore(m, "none", "\"nop\",\"npm\"", "v"), "two");
    CHECK_STR(restore(m, "none", "\"nope\"", "v"), "");
    /* A pull request reads its base, and what it writes nobody else sees. */
    struct results *p = serve((struct results_options){.ref = "refs/pull/7/merge", .read_refs = {"refs/heads/main"}});
    CHECK_STR(restore(p, "npm-1", "", "v"), "one");
    save(p, "npm-1", "v", "poison", 200);
    CHECK_STR(restore(p, "npm-1", "", "v"), "poison");
    CHECK_STR(restore(m, "npm-1", "", "v"), "one");
    /* One that may not write at all. */
    struct results *r = serve((struct results_options){.read_refs = {"refs/heads/main"}});
    save(r, "npm-3", "v", "x", 403);
    CHECK_STR(restore(r, "npm-1", "", "v"), "one");
    results_free(r);
    results_free(p);
    results_free(m);
    /* Another repository sees nothing: the scope is the server's, not the request's. */
    const char *refs[] = {"refs/heads/main"}, *keys[] = {"npm-1"};
    struct acache_entry en;
    CHECK_INT(acache_find(store, "acme/other", refs, 1, keys, 1, "v", &mem, &en), 0);
    CHECK_INT(acache_find(store, "acme/app", refs, 1, keys, 1, "v", &mem, &en), 1);
    end();
}

TEST(cache_v1) {
    begin();
    struct results *s = serve((struct results_options){.ref = "refs/heads/main"});
    const struct json *j = ask(s, results_token(s), "POST", "/_apis/artifactcache/caches", "{\"key\":\"k\",\"version\":\"v\",\"cacheSize\":11}", NULL);
    CHECK_INT(answer.status, 201);
    const char *path = arena_printf(&mem, "/_apis/artifactcache/caches/%lld", (long long)json_get_int(j, "cacheId", 0));
    ask(s, results_token(s), "POST", "/_apis/artifactcache/caches", "{\"key\":\"k\",\"version\":\"v\"}", NULL);
    CHECK_INT(answer.status, 409);
    ask(s, results_token(s), "PATCH", path, "world", "bytes 6-10/*");
    CHECK_INT(answer.status, 204);
    ask(s, results_token(s), "POST", path, "{\"size\":11}", NULL);
    CHECK_INT(answer.status, 400); /* a hole */
    ask(s, results_token(s), "PATCH", path, "hello ", "bytes 0-4/*");
    CHECK_INT(answer.status, 400);
    ask(s, results_token(s), "PATCH", path, "hello ", "bytes 0-5/*");
    CHECK_INT(answer.status, 204);
    ask(s, results_token(s), "POST", path, "{\"size\":11}", NULL);
    CHECK_INT(answer.status, 204);
    j = ask(s, results_token(s), "GET", "/_apis/artifactcache/cache?keys=z,k&version=v", "", NULL);
    CHECK_INT(answer.status, 200);
    CHECK_STR(json_get_str(j, "cacheKey", ""), "k");
    ask(s, NULL, "GET", url_of(j, "archiveLocation"), "", NULL);
    CHECK_STR(buf_str(&answer.body), "hello world");
    ask(s, results_token(s), "GET", "/_apis/artifactcache/cache?keys=z&version=v", "", NULL);
    CHECK_INT(answer.status, 204);
    CHECK_STR(restore(s, "k", "", "v"), "hello world"); /* the same caches as v2's */
    results_free(s);
    end();
}

TEST(eviction) {
    begin();
    struct results *s = serve((struct results_options){.ref = "refs/heads/main", .cache_max = 25});
    save(s, "a", "v", "1234567890", 200);
    save(s, "b", "v", "1234567890", 200);
    CHECK_STR(restore(s, "a", "", "v"), "1234567890"); /* used later than b */
    save(s, "c", "v", "1234567890", 200);
    CHECK_STR(restore(s, "b", "", "v"), "");
    CHECK_STR(restore(s, "a", "", "v"), "1234567890");
    CHECK_STR(restore(s, "c", "", "v"), "1234567890");
    results_free(s);
    struct acache_pruned p;
    CHECK_INT(acache_prune(store, 0, 3600ull * 1000000000, false, false, &p), 0);
    CHECK_INT(p.entries, 0);
    CHECK_INT(acache_prune(store, 12, 0, false, true, &p), 0);
    CHECK_INT(p.entries, 1);
    CHECK_INT(acache_prune(store, 0, 1, false, false, &p), 0); /* nothing was used in the last nanosecond */
    CHECK_INT(p.entries, 2);
    CHECK_INT(p.bytes, 20);
    end();
}

TEST(block_lists) {
    struct sv *ids;
    size_t n;
    CHECK_INT(block_list_read(SV("<BlockList><Latest>YQ==</Latest> <Uncommitted>Yg==</Uncommitted></BlockList>"), &mem, &ids, &n), 0);
    CHECK_INT(n, 2);
    CHECK(sv_eqs(ids[1], "Yg=="));
    CHECK_INT(block_list_read(SV("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList/>"), &mem, &ids, &n), 0);
    CHECK_INT(n, 0);
    static const char *const bad[] = {"", "<BlockList>", "<BlockList><Latest>a</Committed></BlockList>", "<BlockList><Latest>a", "<BlockList><Other>a</Other></BlockList>",
                                      "<BlockList><Latest></Latest></BlockList>", "<BlockList></BlockList>x", "<?xml"};
    for (size_t i = 0; i < ELEMENTS(bad); i++)
        CHECK_INT(block_list_read(sv_from(bad[i]), &mem, &ids, &n), -EINVAL);
}

/* For other programs: "URL TOKEN" on a line, until standard input ends. */
__attribute__((constructor)) static void serve_only(void) {
    if (!getenv("RESULTS_SERVE"))
        return;
    begin();
    struct results *s = serve((struct results_options){.ref = "refs/heads/main"});
    printf("%s %s\n", results_url(s), results_token(s));
    fflush(stdout);
    while (getchar() != EOF)
        ;
    results_free(s);
    loop_post(loop, end_loop, NULL);
    pthread_join(thread, NULL);
    exit(0);
}
