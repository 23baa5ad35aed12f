/* See remote.h. A mirror's folder is read where it lies, without a copy of its objects; a fetched
 * repository is a bare one in the cache with one ref per name that was asked for. Files of a commit
 * are unpacked once, beside it, under a temporary name that is renamed when it is complete. */
#include "source/remote.h"

#include "core/fs.h"
#include "core/loop.h"
#include "core/proc.h"

#include <ctype.h>

/* --- names ------------------------------------------------------------------------------------ */

static bool name_ok(struct sv s, bool slash) {
    if (!s.n || s.n > 1000 || *s.p == '-' || sv_find(s, SV("..")) >= 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if ((unsigned char)c <= ' ' || c == 127 || strchr("\\:?*[^~{}", c) || (c == '/' && !slash))
            return false;
    }
    return true;
}

bool remote_split(const char *uses, char **repo, char **path, char **ref) {
    const char *at = strrchr(uses, '@');
    if (!at || !at[1])
        return false;
    struct sv rest = sv_n(uses, (size_t)(at - uses)), owner, name;
    if (!sv_split(&rest, '/', &owner) || !sv_split(&rest, '/', &name) || !name_ok(owner, false) || !name_ok(name, false) ||
        !name_ok(sv_from(at + 1), true))
        return false;
    while (rest.p && rest.n && rest.p[rest.n - 1] == '/')
        rest.n--;
    if (rest.p && rest.n && (sv_find(rest, SV("..")) >= 0 || *rest.p == '/'))
        return false;
    *repo = xasprintf(SV_FMT "/" SV_FMT, SV_ARG(owner), SV_ARG(name));
    *path = rest.p ? sv_dup(rest) : xstrdup("");
    *ref = xstrdup(at + 1);
    return true;
}

static bool hex40(const char *s) { return strlen(s) == 40 && strspn(s, "0123456789abcdef") == 40; }

int remote_local_option(const char *arg, struct err *e) {
    const char *eq = strchr(arg, '='), *slash = strchr(arg, '/');
    if (!eq || !slash || slash > eq || !eq[1])
        return err_set(e, ERR_USER, -EINVAL, "--local-repository %s: write OWNER/REPO@REF=DIR", arg);
    if (!fs_exists(AT_FDCWD, eq + 1))
        return err_set(e, ERR_USER, -ENOENT, "--local-repository %s: there is no %s", arg, eq + 1);
    return 0;
}

void remote_at_done(struct remote_at *at) {
    free(at->dir);
    free(at->sha);
    free(at->ref);
    *at = (struct remote_at){0};
}

/* --- places ----------------------------------------------------------------------------------- */

static char *local_dir(const struct remote_conf *c, const char *repo, const char *ref) {
    for (size_t i = 0; c->local && i < c->local->n; i++) {
        struct sv dir = sv_from(c->local->v[i]), name, owner_repo;
        sv_split(&dir, '=', &name);
        if (!sv_split(&name, '@', &owner_repo) || !sv_ieqs(owner_repo, repo) || (name.p && !sv_eqs(name, ref)))
            continue;
        return realpath(dir.p, NULL);
    }
    return NULL;
}

/* ref -> commit in a repository that is at hand. Tags come before branches, as git has it. */
static int resolve(const char *dir, const char *ref, char sha[41], char **ret_ref) {
    static const char *const spaces[] = {"refs/tags/", "refs/heads/", "refs/remotes/origin/"};
    if (startswith(ref, "refs/") && git_resolve(dir, ref, sha, NULL) == 0) {
        *ret_ref = xstrdup(ref);
        return 0;
    }
    for (size_t i = 0; i < ELEMENTS(spaces); i++) {
        _cleanup_free_ char *full = xasprintf("%s%s", spaces[i], ref);
        if (git_resolve(dir, full, sha, NULL) == 0) {
            *ret_ref = i == 2 ? xasprintf("refs/heads/%s", ref) : TAKE(full);
            return 0;
        }
    }
    size_t hex = strspn(ref, "0123456789abcdef");
    if ((streq(ref, "HEAD") || (hex >= 7 && !ref[hex])) && git_resolve(dir, ref, sha, NULL) == 0) {
        *ret_ref = xstrdup(ref);
        return 0;
    }
    return -ENOENT;
}

static char *lower(const char *s) {
    char *l = xstrdup(s);
    for (char *p = l; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return l;
}

/* The mirror's repository: GitHub's names have no case, a disk's have. */
static char *mirror_dir(const char *mirror, const char *repo) {
    _cleanup_free_ char *small = lower(repo);
    const char *const names[] = {repo, small};
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        char *dir = xasprintf("%s/%s.git", mirror, names[i]);
        if (fs_exists(AT_FDCWD, dir))
            return dir;
        free(dir);
    }
    return NULL;
}

static char *mirror_url(const char *mirror, const char *repo) {
    const char *slash = strchr(repo, '/');
    if (!strchr(mirror, '{'))
        return xasprintf("%s/%s.git", mirror, repo);
    struct buf b = BUF_SMALL;
    for (const char *p = mirror, *rest; *p;) {
        if ((rest = startswith(p, "{owner}")))
            buf_add(&b, repo, (size_t)(slash - repo));
        else if ((rest = startswith(p, "{repo}")))
            buf_adds(&b, slash + 1);
        else {
            buf_addc(&b, *p++);
            continue;
        }
        p = rest;
    }
    return buf_take(&b);
}

static int fetch(const struct remote_conf *c, const char *url, const char *ref, struct remote_at *ret, struct err *e) {
    _cleanup_free_ char *own = c->cache_dir ? NULL : dir_cache(), *cache = path_join(c->cache_dir ? c->cache_dir : own, "git");
    char sha[41];
    int r = git_fetch(url, ref, cache, c->offline, &ret->dir, sha, e);
    if (r < 0)
        return r;
    ret->sha = xstrdup(sha);
    ret->ref = xstrdup(ref);
    return 0;
}

static int find(const struct remote_conf *c, const char *repo, const char *ref, struct remote_at *ret, struct err *e) {
    char sha[41];
    if ((ret->dir = local_dir(c, repo, ref))) {
        ret->ref = xstrdup(ref);
        return 0;
    }
    bool url = c->mirror && strstr(c->mirror, "://");
    if (c->mirror && *c->mirror && !url && (ret->dir = mirror_dir(c->mirror, repo))) {
        /* The folder may be one that the repository brings along; git obeys what it finds there. */
        int r = git_config_harmless(ret->dir, e);
        if (r < 0)
            return err_wrap(e, r, "the mirror's %s", repo);
        if (resolve(ret->dir, ref, sha, &ret->ref) == 0) {
            ret->sha = xstrdup(sha);
            return 0;
        }
        err_set(e, ERR_NOTFOUND, -ENOENT, "%s: %s has neither a tag, a branch nor a commit \"%s\"", repo, ret->dir, ref);
        free(TAKE(ret->dir));
        return -ENOENT;
    }
    if (url) {
        _cleanup_free_ char *from = mirror_url(c->mirror, repo);
        struct err first = {0};
        if (fetch(c, from, ref, ret, &first) == 0)
            return 0;
        if (strstr(c->mirror, "{") && e)
            *e = first;
    }
    _cleanup_free_ char *from = xasprintf("%s/%s", c->server_url ? c->server_url : "https://github.com", repo);
    int r = fetch(c, from, ref, ret, e);
    if (r < 0 && c->mirror && *c->mirror && !url)
        err_hint(e, r, "the mirror %s has no %s.git", c->mirror, repo);
    else if (r < 0)
        err_hint(e, r, "without a way to %s: --actions-mirror DIR (bare repositories OWNER/REPO.git) or --local-repository %s@%s=DIR",
                 c->server_url ? c->server_url : "https://github.com", repo, ref);
    return r;
}

int remote_find(const struct remote_conf *c, const char *repo, const char *ref, struct remote_at *ret, struct err *e) {
    struct remote_at at = {0};
    int r = find(c, repo, ref, &at, e);
    if (r < 0) {
        remote_at_done(&at);
        return r;
    }
    _cleanup_free_ char *name = xasprintf("%s@%s", repo, ref);
    const char *pinned = c->lock && at.sha ? lock_get(c->lock, name) : NULL;
    if (pinned && !streq(pinned, at.sha)) {
        err_set(e, ERR_CONFLICT, -ESTALE, "%s has moved: " LOCK_FILE " has it at %.12s, it is %.12s now", name, pinned, at.sha);
        err_hint(e, -ESTALE, "look at what changed, then `slipway check --update-lock`; or write the commit: %s@%s", repo, pinned);
        remote_at_done(&at);
        return -ESTALE;
    }
    *ret = at;
    return 0;
}

/* --- files ------------------------------------------------------------------------------------ */

int remote_read(const struct remote_at *at, const char *path, struct buf *out, struct err *e) {
    if (at->sha)
        return git_show(at->dir, at->sha, path, out, e);
    _cleanup_close_ int root = open(at->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(e, -errno, "%s", at->dir);
    _cleanup_close_ int fd = fs_open_in(root, path, O_RDONLY, 0, 0);
    if (fd < 0)
        return err_errno(e, fd, "%s/%s", at->dir, path);
    int r = fs_read_fd(fd, out);
    return r < 0 ? err_errno(e, r, "%s/%s", at->dir, path) : 0;
}

int remote_files(const struct remote_conf *c, const char *repo, const struct remote_at *at, char **ret_dir, struct err *e) {
    if (!at->sha) {
        *ret_dir = xstrdup(at->dir);
        return 0;
    }
    if (!hex40(at->sha))
        return err_set(e, ERR_INTERNAL, -EINVAL, "not a commit: %s", at->sha);
    _cleanup_free_ char *own = c->cache_dir ? NULL : dir_cache(), *flat = xstrdup(repo);
    *strchr(flat, '/') = '_';
    _cleanup_free_ char *top = path_join(c->cache_dir ? c->cache_dir : own, "actions");
    _cleanup_free_ char *dir = xasprintf("%s/%s-%s", top, flat, at->sha);
    if (!fs_exists(AT_FDCWD, dir)) {
        char key[9];
        random_id(key, 8);
        _cleanup_free_ char *tmp = xasprintf("%s/.new-%s", top, key);
        int r = fs_mkdirs(AT_FDCWD, tmp, 0755);
        if (r < 0)
            return err_errno(e, r, "%s", tmp);
        if ((r = git_unpack(at->dir, at->sha, tmp, e)) < 0) {
            fs_rmtree(AT_FDCWD, tmp);
            return err_wrap(e, r, "%s at %.12s", repo, at->sha);
        }
        if (rename(tmp, dir) < 0) {
            r = -errno;
            fs_rmtree(AT_FDCWD, tmp);
            if (!fs_exists(AT_FDCWD, dir))
                return err_errno(e, r, "%s", dir);
        }
    }
    *ret_dir = TAKE(dir);
    return 0;
}
