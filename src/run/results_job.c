/* The job's side of the results server: its address, its cache scopes, the environment of actions. */
#include "run/results.h"

#include "box/net.h"
#include "core/fs.h"
#include "run/jobx.h"
#include "run/resultsrv.h"

#include "base/httpd.h"

/* Caches of a branch are for that branch; what is read besides are those of the base of a pull request
 * and of the default branch, and never are those written from elsewhere. */
void results_scope(struct jobx *x, const char **ret_ref, const char *read[3]) {
    const struct git_info *g = x->rq->git;
    size_t n = 0;
    const char *dflt = g && g->default_branch ? g->default_branch : NULL, *base = x->rq->event.base_ref;
    *ret_ref = x->run->ref;
    if (base && *base && !(startswith(x->run->ref, "refs/heads/") && streq(x->run->ref + 11, base)))
        read[n++] = arena_printf(x->a, "refs/heads/%s", base);
    if (dflt && *dflt && !streq0(dflt, base) && !(startswith(x->run->ref, "refs/heads/") && streq(x->run->ref + 11, dflt)))
        read[n++] = arena_printf(x->a, "refs/heads/%s", dflt);
}

static int begin(struct jobx *x, struct err *e) {
    struct results_options o = {.store = x->rq->store, .loop = x->run->loop, .run_id = x->run->id, .repo = x->run->repository};
    uint16_t port = 0;
    if (mkdirat(x->scratch, "results", 0700) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "the job's services");
    _cleanup_close_ int scratch = openat(x->scratch, "results", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (scratch < 0)
        return err_errno(e, -errno, "the job's services");
    o.scratch = scratch;
    results_scope(x, &o.ref, o.read_refs);
    o.listen_fd = x->host ? listen_tcp("127.0.0.1", 0, &port, e) : net_listen(x->net, &port, e);
    if (o.listen_fd < 0)
        return o.listen_fd;
    o.url = arena_printf(x->a, "http://%s:%u", x->host ? "127.0.0.1" : net_gateway(x->net), port);
    int r = results_new(&x->results, &o, e);
    if (r >= 0)
        masker_add(x->rq->masker, sv_from(results_token(x->results)));
    return r;
}

static void no_proxy(struct strv *env, const char *key, const char *host) {
    const char *have = strv_env_get(env, key);
    if (have && *have) {
        _cleanup_free_ char *both = xasprintf("%s,%s", have, host);
        strv_env_set(env, key, both);
    } else {
        strv_env_set(env, key, host);
    }
}

int results_env(struct jobx *x, struct strv *env, struct err *e) {
    int r = x->results ? 0 : begin(x, e);
    if (r < 0)
        return err_wrap(e, r, "the job's services");
    const char *host = x->host ? "127.0.0.1" : net_gateway(x->net);
    _cleanup_free_ char *url = xasprintf("%s/", results_url(x->results));
    strv_env_set(env, "ACTIONS_RUNTIME_URL", url);
    strv_env_set(env, "ACTIONS_RUNTIME_TOKEN", results_token(x->results));
    strv_env_set(env, "ACTIONS_RESULTS_URL", url);
    strv_env_set(env, "ACTIONS_CACHE_URL", url);
    strv_env_set(env, "ACTIONS_CACHE_SERVICE_V2", "True");
    if (strv_env_get(env, "http_proxy") || strv_env_get(env, "HTTP_PROXY") || strv_env_get(env, "all_proxy") || strv_env_get(env, "ALL_PROXY") ||
        strv_env_get(env, "no_proxy") || strv_env_get(env, "NO_PROXY")) {
        no_proxy(env, "no_proxy", host);
        no_proxy(env, "NO_PROXY", host);
    }
    return 0;
}

void results_stop(struct jobx *x) {
    results_free(TAKE(x->results));
}
