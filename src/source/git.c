/* git, by the git program. A common argument prefix switches off everything by which a repository
 * could run a program of its own (hooks, fsmonitor, external diff, ssh command from its config) or
 * ask a question. Revisions are passed after --end-of-options or checked not to look like one. */
#include "source/git.h"

#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"
#include "core/proc.h"

#include <pthread.h>

#define NO_SHA "0000000000000000000000000000000000000000"

static void prefix(struct strv *argv, const char *dir) {
    static const char *const fixed[] = {"git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null",
                                        "-c", "core.quotePath=false", "-c", "safe.directory=*",
                                        "-c", "protocol.ext.allow=never", "-c", "gc.auto=0", "-c", "advice.detachedHead=false", NULL};
    strv_extend(argv, fixed);
    if (dir) {
        strv_add(argv, "-C");
        strv_add(argv, dir);
    }
}

extern char **environ;

/* Runs git; out gets stdout whole. The exit status, or negative errno. errout may be NULL. */
static int run_git_index(const char *dir, const char *const *args, const char *index, struct buf *out, struct buf *errout, struct err *e) {
    _cleanup_strv_ struct strv argv = {0}, env = {0};
    prefix(&argv, dir);
    strv_extend(&argv, args);
    strv_extend(&env, (const char *const *)environ);
    /* A caller that is itself a git hook has these set; they would point at another repository. */
    static const char *const unset[] = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY",
                                        "GIT_EXTERNAL_DIFF", "GIT_ALTERNATE_OBJECT_DIRECTORIES"};
    for (size_t i = 0; i < ELEMENTS(unset); i++)
        strv_env_unset(&env, unset[i]);
    strv_env_set(&env, "GIT_TERMINAL_PROMPT", "0");
    strv_env_set(&env, "GIT_OPTIONAL_LOCKS", "0"); /* never write the user's index */
    strv_env_set(&env, "LC_ALL", "C");
    if (index)
        strv_env_set(&env, "GIT_INDEX_FILE", index);
    struct proc_spec s = {.argv = (const char *const *)argv.v, .envp = (const char *const *)env.v};
    return proc_run(&s, SV_NULL, out, errout, 0, e);
}

static int run_git(const char *dir, const char *const *args, struct buf *out, struct buf *errout, struct err *e) {
    return run_git_index(dir, args, NULL, out, errout, e);
}

static struct sv last_line(struct buf *b) {
    struct sv v = sv_trim(buf_sv(b));
    ssize_t nl = sv_rchr(v, '\n');
    return nl < 0 ? v : sv_sub(v, (size_t)nl + 1, SIZE_MAX);
}

static int git_fail(int r, struct buf *text, const char *what, struct err *e) {
    if (r < 0)
        return r;
    struct sv why = last_line(text);
    return err_set(e, ERR_FAILED, -ECHILD, "git %s: " SV_FMT, what, SV_ARG(why));
}

#define GIT(dir, out, e, ...)                                                                      \
    ({                                                                                             \
        const char *const args_[] = {__VA_ARGS__, NULL};                                           \
        _cleanup_buf_ struct buf text_ = BUF_SMALL;                                                \
        int r_ = run_git(dir, args_, out, &text_, e);                                              \
        r_ ? git_fail(r_, &text_, args_[0], e) : 0;                                                \
    })

static bool rev_ok(const char *rev) {
    if (!rev || !*rev || *rev == '-' || strlen(rev) > 1000)
        return false;
    for (const char *p = rev; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            return false;
    return true;
}

/* --- URLs ---------------------------------------------------------------------------------------- */

bool git_url_parse(const char *url, char **ret_host, char **ret_owner, char **ret_repo) {
    struct sv v = sv_trim(sv_from(url)), host = SV_NULL, path;
    ssize_t scheme = sv_find(v, SV("://"));
    if (scheme > 0) {
        bool file = sv_starts(v, "file://");
        v = sv_sub(v, (size_t)scheme + 3, SIZE_MAX);
        ssize_t slash = sv_chr(v, '/');
        if (slash < 0)
            return false;
        host = file ? SV("") : sv_sub(v, 0, (size_t)slash);
        path = sv_sub(v, (size_t)slash + 1, SIZE_MAX);
    } else {
        ssize_t colon = sv_chr(v, ':'), slash = sv_chr(v, '/');
        if (colon <= 0 || (slash >= 0 && slash < colon))
            return false; /* a local path names no forge */
        host = sv_sub(v, 0, (size_t)colon);
        path = sv_sub(v, (size_t)colon + 1, SIZE_MAX);
    }
    ssize_t at = sv_rchr(host, '@');
    if (at >= 0)
        host = sv_sub(host, (size_t)at + 1, SIZE_MAX);
    ssize_t port = sv_chr(host, ':');
    if (port >= 0)
        host = sv_sub(host, 0, (size_t)port);
    while (path.n && path.p[0] == '/')
        path = sv_sub(path, 1, SIZE_MAX);
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    if (sv_ends(path, ".git"))
        path.n -= 4;
    ssize_t slash = sv_rchr(path, '/');
    if (slash <= 0 || (size_t)slash + 1 == path.n)
        return false;
    struct sv owner = sv_sub(path, 0, (size_t)slash);
    if (!host.n) { /* file:///srv/git/owner/repo.git */
        ssize_t up = sv_rchr(owner, '/');
        if (up >= 0)
            owner = sv_sub(owner, (size_t)up + 1, SIZE_MAX);
    }
    *ret_host = sv_dup(host);
    *ret_owner = sv_dup(owner);
    *ret_repo = sv_dup(sv_sub(path, (size_t)slash + 1, SIZE_MAX));
    return true;
}

/* --- what a repository says ---------------------------------------------------------------------- */

/* One line of output, NULL when git says no. */
static char *line_of(const char *dir, const char *const *args) {
    _cleanup_buf_ struct buf out = BUF_SMALL;
    if (run_git(dir, args, &out, NULL, NULL) != 0)
        return NULL;
    struct sv v = sv_trim(buf_sv(&out));
    return v.n ? sv_dup(v) : NULL;
}
#define LINE(dir, ...) line_of(dir, (const char *const[]){__VA_ARGS__, NULL})

static void read_remotes(const char *dir, struct git_info *g) {
    _cleanup_buf_ struct buf out = BUF_SMALL;
    const char *const args[] = {"config", "--get-regexp", "^remote\\..*\\.url$", NULL};
    if (run_git(dir, args, &out, NULL, NULL) != 0)
        return;
    struct sv rest = buf_sv(&out), line;
    while (sv_line(&rest, &line) && g->n_remotes < 100) {
        ssize_t sp = sv_chr(line, ' ');
        if (sp < 12)
            continue;
        struct git_remote m = {.name = sv_dup(sv_sub(line, 7, (size_t)sp - 11)),
                               .url = sv_dup(sv_sub(line, (size_t)sp + 1, SIZE_MAX))};
        git_url_parse(m.url, &m.host, &m.owner, &m.repo);
        g->remotes = xrealloc(g->remotes, (g->n_remotes + 1) * sizeof *g->remotes);
        /* origin first: it is what the repository is called by */
        size_t at = streq(m.name, "origin") ? 0 : g->n_remotes;
        memmove(g->remotes + at + 1, g->remotes + at, (g->n_remotes - at) * sizeof m);
        g->remotes[at] = m;
        g->n_remotes++;
    }
}

static void read_commit(const char *dir, struct git_info *g) {
    _cleanup_buf_ struct buf out = BUF_MAX(1u << 20);
    const char *const args[] = {"log", "-1", "--format=%H%x00%P%x00%an%x00%ae%x00%cI%x00%B", "HEAD", NULL};
    if (run_git(dir, args, &out, NULL, NULL) != 0) {
        g->head_sha = xstrdup(NO_SHA);
        return;
    }
    struct sv rest = buf_sv(&out), f[6] = {0};
    for (size_t i = 0; i < 5; i++)
        if (!sv_split(&rest, 0, &f[i]))
            break;
    f[5] = sv_trim(rest.p ? rest : SV(""));
    g->head_sha = f[0].n == 40 ? sv_dup(f[0]) : xstrdup(NO_SHA);
    if (f[1].n >= 40)
        g->parent_sha = sv_dup(sv_sub(f[1], 0, 40));
    g->author_name = sv_dup(f[2]);
    g->author_email = sv_dup(f[3]);
    g->committer_date = sv_dup(f[4]);
    g->message = sv_dup(f[5]);
}

/* The upstream of the branch and the default branch, in one call: a git process is 2 ms, and a run
 * starts with these. */
static void read_refs(const char *dir, struct git_info *g) {
    static const char *const usual[] = {"refs/heads/main", "refs/heads/master"};
    static const char origin[] = "refs/remotes/origin/";
    bool there[ELEMENTS(usual)] = {false};
    _cleanup_buf_ struct buf out = BUF_LARGE;
    _cleanup_free_ char *own = g->branch ? xasprintf("refs/heads/%s", g->branch) : NULL;
    const char *const args[] = {"for-each-ref", "--format=%(refname)%09%(upstream)%09%(symref)", "refs/remotes/origin/HEAD",
                                usual[0], usual[1], own, NULL};
    if (run_git(dir, args, &out, NULL, NULL) == 0) {
        struct sv rest = buf_sv(&out), line;
        while (sv_line(&rest, &line)) {
            struct sv name = SV_NULL, upstream = SV_NULL;
            if (!sv_split(&line, '\t', &name) || !sv_split(&line, '\t', &upstream))
                continue;
            for (size_t i = 0; i < ELEMENTS(usual); i++)
                there[i] |= sv_eqs(name, usual[i]);
            if (own && sv_eqs(name, own) && upstream.n && !g->upstream)
                g->upstream = sv_dup(upstream);
            if (sv_eqs(name, "refs/remotes/origin/HEAD") && sv_starts(line, origin) && !g->default_branch)
                g->default_branch = sv_dup(sv_sub(line, sizeof origin - 1, SIZE_MAX));
        }
    }
    for (size_t i = 0; !g->default_branch && i < ELEMENTS(usual); i++)
        if (there[i])
            g->default_branch = xstrdup(usual[i] + strlen("refs/heads/"));
    if (!g->default_branch)
        g->default_branch = xstrdup(g->branch ? g->branch : "main");
}

/* What does not depend on the rest is asked for beside it. */
struct beside {
    const char *dir;
    struct git_info *g;
    void (*fn)(const char *dir, struct git_info *g);
    pthread_t thread;
    bool runs;
};

static void *beside_main(void *arg) {
    struct beside *b = arg;
    b->fn(b->dir, b->g);
    return NULL;
}

static void beside_start(struct beside *b) {
    b->runs = pthread_create(&b->thread, NULL, beside_main, b) == 0;
    if (!b->runs)
        b->fn(b->dir, b->g);
}

static void read_head(const char *dir, struct git_info *g) {
    g->branch = LINE(dir, "symbolic-ref", "-q", "--short", "HEAD");
    if (!g->branch)
        g->tag = LINE(dir, "describe", "--exact-match", "--tags", "HEAD");
    read_refs(dir, g);
}

static int read_place(const char *dir, struct git_info *g, struct err *e) {
    _cleanup_buf_ struct buf out = BUF_SMALL;
    const char *const args[] = {"rev-parse", "--show-toplevel", "--absolute-git-dir", NULL};
    int r = run_git(dir, args, &out, NULL, e);
    if (r != 0)
        return r;
    struct sv rest = buf_sv(&out), line = SV_NULL;
    sv_line(&rest, &line);
    g->worktree = sv_dup(line);
    sv_line(&rest, &line);
    g->git_dir = sv_dup(line);
    return 0;
}

int git_info_read(const char *dir, struct git_info *ret, struct err *e) {
    struct git_info g = {0};
    struct beside all[] = {{dir, &g, read_commit}, {dir, &g, read_head}, {dir, &g, read_remotes}};
    for (size_t i = 0; i < ELEMENTS(all); i++)
        beside_start(&all[i]);
    int r = read_place(dir, &g, e);
    for (size_t i = 0; i < ELEMENTS(all); i++)
        if (all[i].runs)
            pthread_join(all[i].thread, NULL);
    if (r != 0) {
        git_info_done(&g);
        memset(&g, 0, sizeof g);
    }
    if (r < 0)
        return r;
    if (r > 0) {
        g.bare_repo_missing = true;
        char *real = realpath(dir, NULL);
        if (!real)
            return err_errno(e, -errno, "%s", dir);
        g.worktree = real;
        g.head_sha = xstrdup(NO_SHA);
        *ret = g;
        return 0;
    }
    *ret = g;
    return 0;
}

bool git_dirty(const char *dir) {
    _cleanup_buf_ struct buf st = BUF_MAX(4096);
    const char *const args[] = {"status", "--porcelain", "--ignore-submodules=none", NULL};
    return run_git(dir, args, &st, NULL, NULL) == 0 && st.n;
}

void git_info_done(struct git_info *g) {
    char *strings[] = {g->worktree, g->git_dir, g->head_sha, g->parent_sha, g->branch, g->tag, g->upstream, g->author_name,
                       g->author_email, g->message, g->committer_date, g->default_branch};
    for (size_t i = 0; i < ELEMENTS(strings); i++)
        free(strings[i]);
    for (size_t i = 0; i < g->n_remotes; i++) {
        struct git_remote *m = &g->remotes[i];
        free(m->name);
        free(m->url);
        free(m->host);
        free(m->owner);
        free(m->repo);
    }
    free(g->remotes);
    *g = (struct git_info){0};
}

int git_resolve(const char *dir, const char *rev, char sha[41], struct err *e) {
    if (!rev_ok(rev))
        return err_set(e, ERR_USER, -EINVAL, "\"%s\" is not a revision", rev ? rev : "");
    _cleanup_free_ char *commit = xasprintf("%s^{commit}", rev);
    _cleanup_free_ char *s = LINE(dir, "rev-parse", "-q", "--verify", "--end-of-options", commit);
    if (!s || strlen(s) != 40)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "no such revision: %s", rev);
    memcpy(sha, s, 41);
    return 0;
}

/* Keys that only say how a repository is laid out or where it came from. */
static bool key_harmless(struct sv key) {
    static const char *const whole[] = {"core.repositoryformatversion", "core.filemode", "core.bare", "core.ignorecase", "core.symlinks",
                                        "core.precomposeunicode", "core.logallrefupdates", "core.sharedrepository", "core.compression",
                                        "extensions.objectformat"};
    static const char *const sections[] = {"gc.", "pack.", "repack.", "receive.", "transfer.", "fetch.", "user.", "branch.", "maintenance.", "gitweb."};
    static const char *const of_remotes[] = {".url", ".fetch", ".mirror", ".tagopt", ".prune", ".pushurl"};
    for (size_t i = 0; i < ELEMENTS(whole); i++)
        if (sv_eqs(key, whole[i]))
            return true;
    for (size_t i = 0; i < ELEMENTS(sections); i++)
        if (sv_starts(key, sections[i]))
            return true;
    for (size_t i = 0; sv_starts(key, "remote.") && i < ELEMENTS(of_remotes); i++)
        if (sv_ends(key, of_remotes[i]))
            return true;
    return false;
}

int git_config_harmless(const char *dir, struct err *e) {
    _cleanup_buf_ struct buf out = BUF_MAX(1u << 20);
    const char *const args[] = {"config", "--local", "--no-includes", "--list", "--name-only", "-z", NULL};
    int r = run_git(dir, args, &out, NULL, e);
    if (r != 0)
        return r < 0 ? r : err_set(e, ERR_NOTFOUND, -ENOENT, "%s is not a git repository", dir);
    struct sv rest = buf_sv(&out), key;
    while (sv_split(&rest, 0, &key))
        if (key.n && !key_harmless(key))
            return err_set(e, ERR_CONFIG, -EPERM, "%s: its configuration sets " SV_FMT ", which could run a program", dir, SV_ARG(key));
    return 0;
}

int git_show(const char *dir, const char *rev, const char *path, struct buf *out, struct err *e) {
    if (!rev_ok(rev))
        return err_set(e, ERR_USER, -EINVAL, "\"%s\" is not a revision", rev ? rev : "");
    _cleanup_free_ char *spec = xasprintf("%s:%s", rev, path);
    const char *const args[] = {"cat-file", "blob", spec, NULL};
    int r = run_git(dir, args, out, NULL, e);
    if (r > 0)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "%s: no such file at %s", path, rev);
    return r;
}

/* Splits NUL-separated paths. */
static void split_paths(const struct buf *b, struct strv *ret) {
    struct sv rest = buf_sv(b), one;
    while (sv_split(&rest, 0, &one))
        if (one.n)
            strv_addn(ret, one.p, one.n);
}

int git_ls_tree(const char *dir, const char *rev, const char *path, struct strv *ret, struct err *e) {
    if (!rev_ok(rev))
        return err_set(e, ERR_USER, -EINVAL, "\"%s\" is not a revision", rev ? rev : "");
    _cleanup_buf_ struct buf out = BUF_LARGE;
    _cleanup_free_ char *folder = path && *path ? xasprintf("%s/", path) : NULL;
    int r = folder ? GIT(dir, &out, e, "ls-tree", "-z", "--name-only", "-r", rev, "--", folder)
                   : GIT(dir, &out, e, "ls-tree", "-z", "--name-only", "-r", rev);
    if (r == 0)
        split_paths(&out, ret);
    return r;
}

static int ls_files(const char *dir, const char *under, bool with_ignored, struct strv *ret, unsigned depth, struct err *e) {
    _cleanup_buf_ struct buf out = BUF_MAX(256u << 20), subs = BUF_LARGE;
    int r = with_ignored ? GIT(dir, &out, e, "ls-files", "-z", "--cached", "--others")
                         : GIT(dir, &out, e, "ls-files", "-z", "--cached", "--others", "--exclude-standard");
    if (r < 0)
        return r;
    /* Submodules stand in the index as one entry (mode 160000); their files come from themselves. */
    r = GIT(dir, &subs, e, "ls-files", "-z", "--stage");
    if (r < 0)
        return r;
    struct map modules = {0};
    struct sv rest = buf_sv(&subs), one;
    while (sv_split(&rest, 0, &one))
        if (sv_starts(one, "160000 ")) {
            ssize_t tab = sv_chr(one, '\t');
            if (tab > 0)
                map_set(&modules, sv_sub(one, (size_t)tab + 1, SIZE_MAX), &modules);
        }
    rest = buf_sv(&out);
    struct sv before = SV_NULL;
    while (r == 0 && sv_split(&rest, 0, &one)) {
        if (!one.n || sv_eq(one, before)) /* conflicted entries come once for each stage */
            continue;
        before = one;
        bool folder = one.p[one.n - 1] == '/'; /* an embedded repository that is not a submodule */
        if (folder)
            one.n--;
        if ((folder || map_has(&modules, one)) && depth < 8) {
            _cleanup_free_ char *name = sv_dup(one), *sub = path_join(dir, name);
            _cleanup_free_ char *dotgit = path_join(sub, ".git");
            _cleanup_free_ char *prefix_ = xasprintf("%s%s/", under, name);
            if (fs_exists(AT_FDCWD, dotgit))
                r = ls_files(sub, prefix_, with_ignored, ret, depth + 1, e);
            continue;
        }
        strv_addf(ret, "%s" SV_FMT, under, SV_ARG(one));
    }
    map_done(&modules);
    return r;
}

int git_ls_worktree(const char *dir, bool with_ignored, struct strv *ret, struct err *e) {
    return ls_files(dir, "", with_ignored, ret, 0, e);
}

int git_submodules(const char *dir, struct strv *ret, struct err *e) {
    _cleanup_buf_ struct buf out = BUF_LARGE;
    int r = GIT(dir, &out, e, "ls-files", "-s", "-z");
    struct sv rest = buf_sv(&out), one;
    while (r >= 0 && sv_split(&rest, 0, &one)) {
        ssize_t tab = sv_chr(one, '\t');
        if (sv_starts(one, "160000 ") && tab > 0)
            strv_addn(ret, one.p + tab + 1, one.n - (size_t)tab - 1);
    }
    return r < 0 ? r : 0;
}

int git_changed(const char *dir, const char *base, const char *head, struct strv *ret, struct err *e) {
    if (!rev_ok(base) || (head && !rev_ok(head)))
        return err_set(e, ERR_USER, -EINVAL, "not a revision");
    _cleanup_buf_ struct buf out = BUF_LARGE;
    int r;
    if (head)
        r = GIT(dir, &out, e, "diff", "--no-ext-diff", "--no-renames", "-z", "--name-only", base, head, "--");
    else
        r = GIT(dir, &out, e, "diff", "--no-ext-diff", "--no-renames", "-z", "--name-only", base, "--");
    if (r == 0 && !head)
        r = GIT(dir, &out, e, "ls-files", "-z", "--others", "--exclude-standard", "--full-name");
    if (r == 0)
        split_paths(&out, ret);
    return r;
}

int git_merge_base(const char *dir, const char *a, const char *b, char sha[41], struct err *e) {
    if (!rev_ok(a) || !rev_ok(b))
        return err_set(e, ERR_USER, -EINVAL, "not a revision");
    _cleanup_free_ char *s = LINE(dir, "merge-base", a, b);
    if (!s || strlen(s) != 40)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "%s and %s have no common commit", a, b);
    memcpy(sha, s, 41);
    return 0;
}

/* --- copies ----------------------------------------------------------------------------------------- */

int git_export(const char *dir, const char *sha, const char *dest, int depth, struct err *e) {
    if (!rev_ok(sha))
        return err_set(e, ERR_USER, -EINVAL, "not a revision");
    int r = GIT(NULL, NULL, e, "init", "-q", dest);
    if (r < 0)
        return r;
    _cleanup_free_ char *deep = depth > 0 ? xasprintf("--depth=%d", depth) : NULL;
    _cleanup_free_ char *url = xasprintf("file://%s", dir);
    if (deep)
        r = GIT(dest, NULL, e, "-c", "uploadpack.allowAnySHA1InWant=true", "fetch", "-q", "--no-tags", deep,
                "--upload-pack=git -c uploadpack.allowAnySHA1InWant=true -c safe.directory=* upload-pack", url, sha);
    else
        r = GIT(dest, NULL, e, "fetch", "-q", "--tags",
                "--upload-pack=git -c uploadpack.allowAnySHA1InWant=true -c safe.directory=* upload-pack", url, sha);
    if (r < 0)
        return r;
    return GIT(dest, NULL, e, "checkout", "-q", "--detach", sha);
}

int git_submodule_update(const char *dir, const char *url, bool recursive, int depth, const char *server, const char *mirror, struct err *e) {
    _cleanup_strv_ struct strv args = {0};
    _cleanup_buf_ struct buf text = BUF_SMALL;
    if (!rev_ok(url) || (server && !rev_ok(server)))
        return err_set(e, ERR_USER, -EINVAL, "not a URL");
    strv_add(&args, "-c");
    strv_addf(&args, "remote.origin.url=%s", url);
    if (mirror && server) {
        strv_extend(&args, (const char *const[]){"-c", "protocol.file.allow=always", "-c", NULL});
        strv_addf(&args, "url.file://%s/.insteadOf=%s/", mirror, server);
        /* What is rewritten once is not rewritten again: any other name of a place on this machine becomes one
         * that leads nowhere. */
        static const char *const remote[] = {"https://", "http://", "ssh://", "git://", "git@"};
        for (size_t i = 0; i < ELEMENTS(remote); i++) {
            strv_add(&args, "-c");
            strv_addf(&args, "url.%s.insteadOf=%s", remote[i], remote[i]);
        }
        strv_extend(&args, (const char *const[]){"-c", "url.no-files-of-this-machine://.insteadOf=", NULL});
    }
    strv_extend(&args, (const char *const[]){"submodule", "update", "--quiet", "--init", "--force", NULL});
    if (depth > 0)
        strv_addf(&args, "--depth=%d", depth);
    if (recursive)
        strv_add(&args, "--recursive");
    int r = run_git(dir, (const char *const *)args.v, NULL, &text, e);
    return r ? git_fail(r, &text, "submodule update", e) : 0;
}

int git_unpack(const char *dir, const char *sha, const char *dest, struct err *e) {
    if (!rev_ok(sha))
        return err_set(e, ERR_USER, -EINVAL, "not a revision");
    _cleanup_free_ char *file = xasprintf("%s.tar", dest), *out = xasprintf("--output=%s", file);
    int r = GIT(dir, NULL, e, "archive", "--format=tar", out, sha);
    if (r >= 0) {
        _cleanup_buf_ struct buf text = BUF_SMALL;
        r = proc_output(&text, e, "tar", "-x", "-f", file, "-C", dest, "--no-same-owner", NULL);
    }
    unlink(file);
    return r;
}

static char *cache_name(const char *url) {
    struct buf b = BUF_MAX(4096);
    for (const char *p = url; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-' || (*p == '.' && p > url && p[-1] != '.');
        if (plain)
            buf_addc(&b, *p);
        else
            buf_addf(&b, "_%02x", (unsigned char)*p);
    }
    buf_adds(&b, ".git");
    return buf_take(&b);
}

int git_fetch(const char *url, const char *ref, const char *cache_dir, bool offline, char **ret_dir, char sha[41], struct err *e) {
    if (!rev_ok(ref) || !rev_ok(url) || strstr(url, "::"))
        return err_set(e, ERR_USER, -EINVAL, "\"%s\" at \"%s\" cannot be fetched", url, ref ? ref : "");
    _cleanup_free_ char *name = cache_name(url), *dir = path_join(cache_dir, name);
    _cleanup_free_ char *kept = xasprintf("refs/slipway/%s", ref);
    int r = fs_mkdirs(AT_FDCWD, cache_dir, 0700);
    if (r < 0)
        return err_errno(e, r, "%s", cache_dir);
    _cleanup_free_ char *lock_name = xasprintf("%s.lock", dir);
    _cleanup_close_ int lock = lock_file(AT_FDCWD, lock_name, true, true);
    if (lock < 0)
        return err_errno(e, lock, "%s", lock_name);
    bool is_sha = strlen(ref) == 40 && strspn(ref, "0123456789abcdef") == 40;
    if (fs_exists(AT_FDCWD, dir) && (offline || is_sha) && git_resolve(dir, is_sha ? ref : kept, sha, NULL) == 0) {
        *ret_dir = TAKE(dir);
        return 0;
    }
    if (offline)
        return err_set(e, ERR_NET, -ENETUNREACH, "%s at %s is not cached and this run is offline", url, ref);
    if (!fs_exists(AT_FDCWD, dir) && (r = GIT(NULL, NULL, e, "init", "-q", "--bare", dir)) < 0)
        return r;
    static const char *const spaces[] = {"refs/tags/%s", "refs/heads/%s", "%s"};
    struct err first = {0};
    for (size_t i = is_sha ? 2 : 0; i < ELEMENTS(spaces); i++) {
        _cleanup_free_ char *from = i == 0 ? xasprintf("refs/tags/%s", ref)
                                  : i == 1 ? xasprintf("refs/heads/%s", ref) : xstrdup(ref);
        _cleanup_free_ char *spec = xasprintf("+%s:%s", from, kept);
        struct err why = {0};
        r = GIT(dir, NULL, &why, "fetch", "-q", "--depth=1", "--no-tags", "--end-of-options", url, spec);
        if (r == 0 && (r = git_resolve(dir, kept, sha, &why)) == 0) {
            *ret_dir = TAKE(dir);
            return 0;
        }
        if (first.kind == ERR_NONE || !strstr(why.msg, "couldn't find remote ref"))
            first = why;
    }
    if (e)
        *e = first;
    return err_wrap(e, r, "%s at %s", url, ref);
}

int git_objects_dir(const char *dir, char **ret, struct err *e) {
    _cleanup_buf_ struct buf out = BUF_SMALL;
    int r = GIT(dir, &out, e, "rev-parse", "--git-path", "objects");
    if (r < 0)
        return r;
    struct sv v = sv_trim(buf_sv(&out));
    _cleanup_free_ char *rel = sv_dup(v);
    *ret = path_join(dir, rel);
    return 0;
}

int git_refs(const char *dir, struct strv *ret, struct err *e) {
    _cleanup_buf_ struct buf out = BUF_LARGE;
    int r = GIT(dir, &out, e, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags", "refs/remotes");
    if (r < 0)
        return r;
    struct sv rest = buf_sv(&out), line;
    while (sv_line(&rest, &line))
        if (line.n > 41)
            strv_addn(ret, line.p, line.n);
    return 0;
}

int git_write_index(const char *dir, const char *sha, const char *index_file, struct err *e) {
    if (!rev_ok(sha))
        return err_set(e, ERR_USER, -EINVAL, "not a revision");
    const char *const args[] = {"read-tree", sha, NULL};
    _cleanup_buf_ struct buf text = BUF_SMALL;
    int r = run_git_index(dir, args, index_file, NULL, &text, e);
    return r ? git_fail(r, &text, "read-tree", e) : 0;
}
