/* See nodefetch.h. An archive is written beside the cache's folders, verified as a whole, unpacked
 * under a temporary name and renamed. */
#include "run/nodefetch.h"

#include "base/digest.h"
#include "base/http.h"
#include "core/fs.h"
#include "core/json.h"
#include "core/loop.h"
#include "core/proc.h"
#include "run/pyver.h"

#include <dirent.h>
#include <sys/mman.h>

#define DIST "https://nodejs.org/dist"
#define DIST_MUSL "https://unofficial-builds.nodejs.org/download/release"
#define REGISTRY "https://registry.npmjs.org"
#if defined(__aarch64__)
#define ARCH "arm64"
#else
#define ARCH "x64"
#endif
#define MAX_ARCHIVE (512u << 20)

struct release {
    struct pyver version;
    char *url, *algo, *sum; /* sum: hex, or base64 of an integrity field */
};
static void release_done(struct release *r) {
    free(r->url);
    free(r->algo);
    free(r->sum);
}

/* --- what there is ---------------------------------------------------------------------------- */

static int get(const struct node_want *w, const char *url, const char *accept, size_t max, struct http_resp *resp, struct err *e) {
    struct http_req rq = {.url = url, .max_body = max, .cancel = w->cancel, .connect_timeout_ms = 10000};
    if (accept)
        rq.headers[rq.n_headers++] = (struct http_header){"Accept", accept};
    int r = http_do(&rq, resp, e);
    if (r < 0)
        return r;
    return resp->status == 200 ? 0 : err_set(e, ERR_NET, -EIO, "%s: HTTP %d", url, resp->status);
}

static bool better(struct sv text, const char *range, struct pyver *best, bool any) {
    struct pyver v;
    if (text.n && *text.p == 'v')
        text = sv_sub(text, 1, SIZE_MAX);
    if (!pyver_parse(text, &v) || v.pre[0] || pyver_match(sv_from(range), &v, false) != 1 || (any && pyver_cmp(&v, best) <= 0))
        return false;
    *best = v;
    return true;
}

/* nodejs.org/dist and folders like it. */
static int from_dist(const struct node_want *w, const char *base, struct release *ret, struct err *e) {
    _cleanup_http_ struct http_resp index = {0}, sums = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_free_ char *url = xasprintf("%s/index.json", base);
    struct json *j;
    struct pyver best = {0};
    bool any = false;
    int r = get(w, url, NULL, 8u << 20, &index, e);
    if (r < 0 || (r = json_parse(&a, buf_sv(&index.body), &j, e)) < 0)
        return r;
    for (size_t i = 0; i < j->n; i++)
        any |= better(sv_from(json_get_str(j->items[i], "version", "")), w->range, &best, any);
    if (!any)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "%s has no release for \"%s\"", base, w->range);
    _cleanup_free_ char *name = xasprintf("node-v%u.%u.%u-linux-" ARCH "%s.tar.gz", best.major, best.minor, best.patch, w->musl ? "-musl" : "");
    _cleanup_free_ char *sums_url = xasprintf("%s/v%u.%u.%u/SHASUMS256.txt", base, best.major, best.minor, best.patch);
    if ((r = get(w, sums_url, NULL, 1u << 20, &sums, e)) < 0)
        return r;
    struct sv rest = buf_sv(&sums.body), line;
    while (sv_line(&rest, &line)) {
        struct sv file = line, hex;
        if (!sv_split(&file, ' ', &hex) || hex.n != 64 || !sv_eqs(sv_trim(file), name))
            continue;
        *ret = (struct release){best, xasprintf("%s/v%u.%u.%u/%s", base, best.major, best.minor, best.patch, name), xstrdup("sha256"), sv_dup(hex)};
        return 0;
    }
    return err_set(e, ERR_NOTFOUND, -ENOENT, "%s has no %s", sums_url, name);
}

/* The newest version of a package of the npm registry that the range allows. */
static int from_npm(const struct node_want *w, const char *package, const char *range, struct release *ret, struct err *e) {
    _cleanup_http_ struct http_resp doc = {0};
    _cleanup_arena_ struct arena a = {0};
    const char *env = getenv("NPM_CONFIG_REGISTRY") ? getenv("NPM_CONFIG_REGISTRY") : getenv("npm_config_registry");
    struct sv base = sv_from(env && *env ? env : REGISTRY);
    while (base.n && base.p[base.n - 1] == '/')
        base.n--;
    _cleanup_free_ char *url = xasprintf(SV_FMT "/%s", SV_ARG(base), package);
    struct json *j;
    struct pyver best = {0};
    bool any = false;
    const struct json *chosen = NULL;
    int r = get(w, url, "application/vnd.npm.install-v1+json", 64u << 20, &doc, e);
    if (r < 0 || (r = json_parse(&a, buf_sv(&doc.body), &j, e)) < 0)
        return r;
    const struct json *versions = json_get(j, "versions");
    for (size_t i = 0; versions && i < versions->n && versions->kind == JSON_OBJECT; i++)
        if (better(versions->keys[i], range, &best, any)) {
            any = true;
            chosen = versions->items[i];
        }
    const char *integrity = json_str(json_path(chosen, "dist.integrity"), ""), *tarball = json_str(json_path(chosen, "dist.tarball"), "");
    if (!any || !*tarball)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "%s has no version for \"%s\"", url, range);
    if (!startswith(integrity, "sha512-"))
        return err_set(e, ERR_NET, -EBADMSG, "%s names no SHA-512 of its version %u.%u.%u", url, best.major, best.minor, best.patch);
    *ret = (struct release){best, xstrdup(tarball), xstrdup("sha512"), xstrdup(integrity + 7)};
    return 0;
}

/* --- fetching ---------------------------------------------------------------------------------- */

static int write_fd(void *arg, const void *p, size_t n) { return fd_write_all(*(int *)arg, p, n); }

static int verify(int fd, const struct release *rel, struct err *e) {
    struct stat st;
    uint8_t raw[64];
    size_t n = 0;
    _cleanup_buf_ struct buf text = BUF_SMALL;
    if (fstat(fd, &st) < 0 || !st.st_size)
        return err_set(e, ERR_NET, -EBADMSG, "%s: empty", rel->url);
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return err_errno(e, -errno, "%s", rel->url);
    int r = digest_any(rel->algo, p, (size_t)st.st_size, raw, &n);
    munmap(p, (size_t)st.st_size);
    if (r < 0)
        return err_errno(e, r, "%s", rel->algo);
    if (streq(rel->algo, "sha512"))
        buf_add_base64(&text, raw, n);
    else
        buf_add_hex(&text, raw, n);
    if (!streq(buf_str(&text), rel->sum))
        return err_set(e, ERR_NET, -EBADMSG, "%s: its %s is not the one that was promised", rel->url, rel->algo);
    return 0;
}

/* Into the folder `dest`, without the archive's own top folder. */
static int unpack(const struct node_want *w, const struct release *rel, const char *dest, struct err *e) {
    _cleanup_free_ char *file = xasprintf("%s.tar.gz", dest);
    _cleanup_close_ int fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, -errno, "%s", file);
    struct http_req rq = {.url = rel->url, .write = write_fd, .write_arg = &fd, .cancel = w->cancel, .progress = w->progress,
                          .progress_arg = w->arg, .max_body = MAX_ARCHIVE};
    _cleanup_http_ struct http_resp resp = {0};
    int r = http_do(&rq, &resp, e);
    if (r >= 0 && resp.status != 200)
        r = err_set(e, ERR_NET, -EIO, "%s: HTTP %d", rel->url, resp.status);
    if (r >= 0)
        r = verify(fd, rel, e);
    if (r >= 0 && (r = fs_mkdirs(AT_FDCWD, dest, 0755)) < 0)
        err_errno(e, r, "%s", dest);
    if (r >= 0) {
        _cleanup_buf_ struct buf out = BUF_SMALL;
        r = proc_output(&out, e, "tar", "-xzf", file, "-C", dest, "--no-same-owner", "--strip-components=1", NULL);
    }
    unlink(file);
    return r;
}

/* npm for a node that came without it. */
static int add_npm(const struct node_want *w, const struct pyver *node, const char *prefix, struct err *e) {
    static const char *const links[][2] = {{"npm", "../lib/node_modules/npm/bin/npm-cli.js"}, {"npx", "../lib/node_modules/npm/bin/npx-cli.js"}};
    _cleanup_free_ char *dir = xasprintf("%s/lib/node_modules/npm", prefix), *up = path_dir(dir);
    struct release rel = {0};
    if (fs_exists(AT_FDCWD, dir))
        return 0;
    const char *range = node->major >= 24 ? "11.x" : node->major >= 18 ? "10.x" : node->major >= 14 ? "8.x" : "6.x";
    int r = fs_mkdirs(AT_FDCWD, up, 0755);
    if (r < 0)
        return err_errno(e, r, "%s", up);
    if ((r = from_npm(w, "npm", range, &rel, e)) < 0)
        return r;
    r = unpack(w, &rel, dir, e);
    release_done(&rel);
    for (size_t i = 0; i < ELEMENTS(links) && r >= 0; i++) {
        _cleanup_free_ char *link = xasprintf("%s/bin/%s", prefix, links[i][0]);
        if (symlink(links[i][1], link) < 0 && errno != EEXIST)
            r = err_errno(e, -errno, "%s", link);
    }
    return r;
}

static int find_release(const struct node_want *w, struct release *ret, bool *ret_npm, struct err *e) {
    *ret_npm = false;
    if (w->source && strstr(w->source, "://"))
        return from_dist(w, w->source, ret, e);
    if (w->musl)
        return from_dist(w, DIST_MUSL, ret, e);
    struct err first = {0};
    if (!streq0(w->source, "npm") && from_dist(w, DIST, ret, &first) == 0)
        return 0;
    *ret_npm = true;
    int r = from_npm(w, "node-linux-" ARCH, w->range, ret, e);
    if (r < 0 && first.msg[0] && e)
        err_hint(e, r, "before that: %.400s", first.msg);
    return r;
}

/* --- the cache ------------------------------------------------------------------------------------ */

static char *cached(const char *top, const char *range, bool npm, char **ret_version) {
    DIR *d = opendir(top);
    struct pyver best = {0};
    bool any = false;
    for (struct dirent *en; d && (en = readdir(d));) {
        struct pyver v = best;
        if (en->d_name[0] != 'v' || !better(sv_from(en->d_name), range, &v, any))
            continue;
        _cleanup_free_ char *npm_cli = xasprintf("%s/%s/lib/node_modules/npm/bin/npm-cli.js", top, en->d_name);
        if (npm && !fs_exists(AT_FDCWD, npm_cli))
            continue;
        best = v;
        any = true;
    }
    if (d)
        closedir(d);
    if (!any)
        return NULL;
    *ret_version = xasprintf("%u.%u.%u", best.major, best.minor, best.patch);
    return xasprintf("%s/v%s", top, *ret_version);
}

static int fetch(const struct node_want *w, const char *top, char **ret_prefix, char **ret_version, struct err *e) {
    struct release rel = {0};
    bool bare = false;
    char key[9];
    int r = find_release(w, &rel, &bare, e);
    if (r < 0)
        return r;
    random_id(key, 8);
    _cleanup_free_ char *version = xasprintf("%u.%u.%u", rel.version.major, rel.version.minor, rel.version.patch);
    _cleanup_free_ char *dest = xasprintf("%s/v%s", top, version), *tmp = xasprintf("%s/.new-%s", top, key);
    _cleanup_free_ char *program = xasprintf("%s/bin/node", dest);
    if (!fs_exists(AT_FDCWD, program)) {
        r = unpack(w, &rel, tmp, e);
        if (r >= 0 && rename(tmp, dest) < 0 && errno != ENOTEMPTY && errno != EEXIST)
            r = err_errno(e, -errno, "%s", dest);
        fs_rmtree(AT_FDCWD, tmp);
    }
    if (r >= 0 && !fs_exists(AT_FDCWD, program))
        r = err_set(e, ERR_NET, -EBADMSG, "%s holds no bin/node", rel.url);
    if (r >= 0 && w->npm)
        r = add_npm(w, &rel.version, dest, e);
    release_done(&rel);
    if (r < 0)
        return r;
    *ret_prefix = TAKE(dest);
    *ret_version = TAKE(version);
    return 0;
}

int node_fetch(const struct node_want *w, char **ret_prefix, char **ret_version, struct err *e) {
    _cleanup_free_ char *dir = dir_cache(), *top = xasprintf("%s/node/" ARCH "%s", dir, w->musl ? "-musl" : "");
    if (w->source && !*w->source)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "fetching node is switched off");
    int r = fs_mkdirs(AT_FDCWD, top, 0755);
    if (r < 0)
        return err_errno(e, r, "%s", top);
    _cleanup_free_ char *lock_name = path_join(top, ".lock");
    _cleanup_close_ int lock = lock_file(AT_FDCWD, lock_name, true, true);
    char *have = w->latest && !w->offline ? NULL : cached(top, w->range, w->npm, ret_version);
    if (have) {
        *ret_prefix = have;
        return 0;
    }
    if (w->offline)
        return err_set(e, ERR_NET, -ENETUNREACH, "no node \"%s\" is cached and this run is offline", w->range);
    return fetch(w, top, ret_prefix, ret_version, e);
}
