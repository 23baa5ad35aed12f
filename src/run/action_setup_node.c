/* actions/setup-node, natively. Releases come as the node of JavaScript actions does (nodefetch.h) and
 * are kept per version; a job sees one through an overlay in its tool cache, so that a global npm
 * install stays in the job. The package manager's cache is kept as actions/cache keeps it, under the
 * key that the published action uses. Source: actions/setup-node (README, src/). */
#include "core/json.h"
#include "run/native.h"
#include "run/nodefetch.h"
#include "run/place.h"
#include "run/pyver.h"

/* --- what is asked for ------------------------------------------------------------------------------ */

#define NEWEST_LTS 24
static const struct { const char *name; unsigned major; } lts_names[] = {
    {"argon", 4}, {"boron", 6}, {"carbon", 8}, {"dubnium", 10}, {"erbium", 12}, {"fermium", 14},
    {"gallium", 16}, {"hydrogen", 18}, {"iron", 20}, {"jod", 22}, {"krypton", 24}};

/* The range that a version of the action's own dialect means; NULL when it cannot be had. */
static const char *range_of(struct arena *a, struct sv v, struct err *e) {
    v = sv_trim(v);
    if (v.n > 1 && *v.p == 'v' && v.p[1] >= '0' && v.p[1] <= '9')
        v = sv_sub(v, 1, SIZE_MAX);
    if (sv_ieqs(v, "latest") || sv_ieqs(v, "current") || sv_ieqs(v, "node") || sv_eqs(v, "*"))
        return ">=0";
    if (sv_starts(v, "lts/")) {
        struct sv name = sv_sub(v, 4, SIZE_MAX);
        uint64_t back = 0;
        if (sv_eqs(name, "*"))
            return arena_printf(a, "%d.x", NEWEST_LTS);
        if (name.n > 1 && *name.p == '-' && sv_u64(sv_sub(name, 1, SIZE_MAX), NEWEST_LTS / 2 - 2, &back) >= 0)
            return arena_printf(a, "%u.x", NEWEST_LTS - 2 * (unsigned)back);
        for (size_t i = 0; i < ELEMENTS(lts_names); i++)
            if (sv_ieqs(name, lts_names[i].name))
                return arena_printf(a, "%u.x", lts_names[i].major);
        err_set(e, ERR_CONFIG, -EINVAL, "Unable to find LTS release '" SV_FMT "' for Node version '" SV_FMT "'.", SV_ARG(name), SV_ARG(v));
        return NULL;
    }
    struct pyver probe = {20, 0, 0, ""};
    if (sv_find(v, SV("nightly")) >= 0 || sv_find(v, SV("-rc")) >= 0 || sv_find(v, SV("canary")) >= 0) {
        err_set(e, ERR_CONFIG, -ENOTSUP, "node-version: " SV_FMT ": nightly, rc and v8-canary builds are not there yet", SV_ARG(v));
        return NULL;
    }
    if (pyver_match(v, &probe, false) < 0) {
        err_set(e, ERR_CONFIG, -EINVAL, "node-version: \"" SV_FMT "\" is not a version nor a range that is understood", SV_ARG(v));
        return NULL;
    }
    return arena_strndup(a, v.p, v.n);
}

/* volta.node, devEngines.runtime, engines.node of a package.json. */
static const char *from_package(struct arena *a, struct sv text) {
    struct json *j = NULL;
    if (json_parse(a, text, &j, NULL) < 0)
        return NULL;
    const char *v = json_str(json_path(j, "volta.node"), NULL);
    const struct json *rt = json_path(j, "devEngines.runtime");
    for (size_t i = 0; !v && rt && rt->kind == JSON_ARRAY && i < rt->n; i++)
        if (streq(json_get_str(rt->items[i], "name", ""), "node"))
            v = json_get_str(rt->items[i], "version", NULL);
    if (!v && rt && streq(json_get_str(rt, "name", ""), "node"))
        v = json_get_str(rt, "version", NULL);
    return v ? v : json_str(json_path(j, "engines.node"), NULL);
}

static int from_file(struct jobx *x, const char *file, const char **ret, struct err *e) {
    _cleanup_free_ char *path = path_join(x->workspace, file);
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    if (x->place->read_file(x, path, &b, NULL) < 0)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "The specified node version file at: %s does not exist", path);
    *ret = NULL;
    if (endswith(file, "package.json"))
        *ret = from_package(x->a, buf_sv(&b));
    struct sv rest = buf_sv(&b), line;
    while (!*ret && !endswith(file, ".json") && sv_line(&rest, &line)) {
        line = sv_trim(line);
        if (endswith(file, ".tool-versions")) {
            if (!sv_starts(line, "nodejs ") && !sv_starts(line, "node "))
                continue;
            line = sv_trim(sv_sub(line, (size_t)sv_chr(line, ' '), SIZE_MAX));
        }
        if (line.n && *line.p != '#')
            *ret = arena_strndup(x->a, line.p, line.n);
    }
    return *ret ? 0 : err_set(e, ERR_CONFIG, -EINVAL, "%s names no version of node", path);
}

/* --- the release -------------------------------------------------------------------------------------- */

static void on_progress(void *arg, uint64_t done, uint64_t total) {
    jobx_emit(arg, &(struct event){.kind = EV_PROGRESS, .name = "node", .text = SV("fetching node"), .done = done, .total = total});
}

static int lay_out(struct jobx *x, const char *prefix, const char *version, const char **ret, struct err *e) {
    if (x->host) {
        *ret = arena_strdup(x->a, prefix);
        return 0;
    }
    char id[33];
    const char *target = arena_printf(x->a, "%s/node/%s/x64", x->tool_cache, version);
    _cleanup_free_ char *name = xasprintf("node:%s", prefix);
    struct tree_options o = {.name = name, .uid = ID_RUNNER, .gid = ID_RUNNER};
    _cleanup_close_ int fd = open(prefix, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, -errno, "%s", prefix);
    pthread_mutex_lock(&x->run->tree_mu);
    int r = tree_update(x->rq->store, x->run->lease, fd, &o, id, NULL, e);
    pthread_mutex_unlock(&x->run->tree_mu);
    if (r < 0)
        return r;
    _cleanup_free_ char *lower = xasprintf("tree:%s", id);
    const char *lowers[] = {lower};
    struct box_mount m = {.kind = BOX_OVERLAY, .target = target, .lowers = lowers, .n_lowers = 1, .mode = 0755,
                          .uid = ID_RUNNER, .gid = ID_RUNNER, .source_fd = -1};
    *ret = target;
    return box_mount(x->box, &m, e);
}

static bool is_musl(struct jobx *x) {
    int fd = x->host ? -1 : box_open(x->box, "/lib/ld-musl-x86_64.so.1", O_RDONLY, 0, NULL);
    fd_close(fd);
    return fd >= 0;
}

static int install(struct jobx *x, struct step *s, const char *range, bool latest, struct err *e) {
    const char *source = x->rq->node_source, *at = NULL;
    struct node_want w = {.source = source && *source == '/' ? NULL : source, .range = range, .musl = is_musl(x), .npm = true, .latest = latest,
                          .offline = x->rq->offline, .cancel = (const volatile int *)(const volatile void *)&x->leg->cancel,
                          .progress = on_progress, .arg = x};
    _cleanup_free_ char *prefix = NULL, *version = NULL;
    pthread_mutex_lock(&x->run->node_mu);
    int r = node_fetch(&w, &prefix, &version, e);
    pthread_mutex_unlock(&x->run->node_mu);
    if (r < 0)
        return err_wrap(e, r, "Unable to find Node version '%s'", range);
    if ((r = lay_out(x, prefix, version, &at, e)) < 0)
        return r;
    _cleanup_free_ char *bin = path_join(at, "bin"), *v = xasprintf("v%s", version);
    if (x->host) { /* what is installed globally stays in the job */
        const char *own = arena_printf(x->a, "%s/npm", x->tool_cache);
        _cleanup_free_ char *own_bin = path_join(own, "bin");
        strv_env_set(&x->env, "NPM_CONFIG_PREFIX", own);
        strv_add(&x->path, own_bin);
    }
    strv_add(&x->path, bin);
    native_output(x, s, "node-version", v);
    jobx_say(x, "node: %s at %s", v, at);
    return 0;
}

/* --- registry ----------------------------------------------------------------------------------------- */

static int registry(struct jobx *x, const struct value *with, struct err *e) {
    struct sv url = sv_trim(sv_from(with_get(with, "registry-url", ""))), scope = sv_trim(sv_from(with_get(with, "scope", "")));
    ssize_t host = sv_find(url, SV("://"));
    if (!url.n)
        return 0;
    if (host < 0)
        return err_set(e, ERR_CONFIG, -EINVAL, "registry-url: \"" SV_FMT "\" is not a URL", SV_ARG(url));
    while (url.n && url.p[url.n - 1] == '/')
        url.n--;
    bool github = sv_find(url, SV("npm.pkg.github.com")) >= 0;
    if (!scope.n && github)
        scope = sv_from(x->run->owner);
    _cleanup_buf_ struct buf b = BUF_SMALL;
    buf_addf(&b, SV_FMT "/:_authToken=${NODE_AUTH_TOKEN}\n", SV_ARG(sv_sub(url, (size_t)host + 1, SIZE_MAX)));
    if (scope.n) {
        buf_adds(&b, *scope.p == '@' ? "" : "@");
        for (size_t i = 0; i < scope.n; i++)
            buf_addc(&b, scope.p[i] >= 'A' && scope.p[i] <= 'Z' ? (char)(scope.p[i] + 32) : scope.p[i]);
        buf_addc(&b, ':');
    }
    buf_addf(&b, "registry=" SV_FMT "/\n", SV_ARG(url));
    if (with_bool(with, "always-auth", false))
        buf_adds(&b, "always-auth=true\n");
    _cleanup_free_ char *file = xasprintf("%s/.npmrc", x->temp);
    unlinkat(x->temp_fd, ".npmrc", 0);
    int r = step_file(x, x->temp_fd, ".npmrc", 0644, buf_sv(&b), e);
    if (r < 0)
        return r;
    strv_env_set(&x->env, "NPM_CONFIG_USERCONFIG", file);
    if (!strv_env_get(&x->env, "NODE_AUTH_TOKEN"))
        strv_env_set(&x->env, "NODE_AUTH_TOKEN", "XXXXX-XXXXX-XXXXX-XXXXX");
    return 0;
}

/* --- the package manager's cache ------------------------------------------------------------------------ */

struct manager { const char *name, *files[4], *folder; };
static const struct manager managers[] = {
    {"npm", {"package-lock.json", "npm-shrinkwrap.json", "yarn.lock"}, "npm config get cache"},
    {"pnpm", {"pnpm-lock.yaml"}, "pnpm store path --silent"},
    {"yarn", {"yarn.lock"}, "case $(yarn --version) in 0.*|1.*) yarn cache dir;; *) yarn config get cacheFolder;; esac"},
};

static int folder_of(struct jobx *x, const struct manager *m, const char **ret, struct err *e) {
    _cleanup_free_ char *script = xasprintf("cd \"$1\" && %s", m->folder);
    const char *argv[] = {"/bin/sh", "-c", script, "sh", x->workspace, NULL};
    _cleanup_buf_ struct buf out = BUF_SMALL;
    int r = jobx_capture(x, argv, x->user, &out, e);
    struct sv v = sv_trim(buf_sv(&out));
    ssize_t nl = sv_rchr(v, '\n');
    if (nl >= 0)
        v = sv_sub(v, (size_t)nl + 1, SIZE_MAX);
    if (r < 0)
        return r;
    if (r > 0 || !v.n || *v.p != '/')
        return err_set(e, ERR_FAILED, -EIO, "Could not get cache folder path for %s: %.300s", m->name, buf_str(&out));
    *ret = arena_strndup(x->a, v.p, v.n);
    return 0;
}

static int cache(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    const char *name = with_get(with, "cache", NULL), *folder = NULL, *patterns[64];
    const struct manager *m = NULL;
    _cleanup_strv_ struct strv paths = {0};
    _cleanup_buf_ struct buf hash = BUF_SMALL;
    size_t n = 0;
    if (!name)
        return 0;
    for (size_t i = 0; i < ELEMENTS(managers); i++)
        if (streq(managers[i].name, name))
            m = &managers[i];
    if (!m)
        return err_set(e, ERR_CONFIG, -EINVAL, "Caching for '%s' is not supported", name);
    native_lines(with, "cache-dependency-path", &paths);
    for (size_t i = 0; i < paths.n && n < ELEMENTS(patterns); i++)
        patterns[n++] = paths.v[i];
    for (size_t i = 0; !paths.n && i < ELEMENTS(m->files) && m->files[i] && !hash.n; i++) {
        int r = step_hash_files(x, &m->files[i], 1, false, &hash, e);
        if (r < 0)
            return r;
    }
    int r = paths.n ? step_hash_files(x, patterns, n, false, &hash, e) : 0;
    if (r < 0 || (r = folder_of(x, m, &folder, e)) < 0)
        return r;
    if (!hash.n)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "Dependencies lock file is not found in %s. Supported file patterns: %s", x->workspace, m->files[0]);
    struct value *in = val_object(x->a);
    val_set_str(x->a, in, "path", folder);
    val_set_str(x->a, in, "key", arena_printf(x->a, "node-cache-Linux-x64-%s-%s", m->name, buf_str(&hash)));
    return action_cache(x, s, in, e);
}

/* --- the action ------------------------------------------------------------------------------------------- */

static const char matchers[] =
    "{\"problemMatcher\":[{\"owner\":\"tsc\",\"pattern\":[{\"regexp\":\"^(?:\\\\s+\\\\d+\\\\>)?([^\\\\s].*)\\\\((\\\\d+),(\\\\d+)\\\\)\\\\s*:\\\\s+"
    "(error|warning|info)\\\\s+(\\\\w{1,2}\\\\d+)\\\\s*:\\\\s*(.*)$\",\"file\":1,\"line\":2,\"column\":3,\"severity\":4,\"code\":5,\"message\":6}]}]}";

int action_setup_node(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    const char *version = with_get(with, "node-version", NULL), *file = with_get(with, "node-version-file", NULL);
    int r;
    if (version && file)
        native_annotate(x, LEVEL_WARNING, "Both node-version and node-version-file inputs are specified, only node-version will be used");
    if (!version && file && (r = from_file(x, file, &version, e)) < 0)
        return r;
    if (version) {
        const char *range = range_of(x->a, sv_from(version), e);
        if (!range)
            return -EINVAL;
        if ((r = install(x, s, range, with_bool(with, "check-latest", false), e)) < 0)
            return r;
    }
    if ((r = registry(x, with, e)) < 0)
        return r;
    step_matchers_text(x, sv_from(matchers));
    return cache(x, s, with, e);
}
