/* actions/checkout, natively. The job's own repository at the run's own commit is the user's work
 * tree, as its place brings it (place.h). Anything else (another ref, another repository, --clean)
 * is a checkout by git into the job's scratch, by the user's own git outside the job. */
#include "core/fs.h"
#include "run/action.h"
#include "run/gitbox.h"
#include "run/place.h"

#include <dirent.h>

/* --- a checkout by git ---------------------------------------------------------------------------- */

static int chown_tree(int parent, const char *name, uint32_t uid, uint32_t gid, unsigned depth) {
    if (fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
    DIR *d = fdopendir(fd);
    int r = d && depth < 256 ? 0 : -EIO;
    for (struct dirent *en; r == 0 && (en = readdir(d));)
        if (!streq(en->d_name, ".") && !streq(en->d_name, ".."))
            r = chown_tree(dirfd(d), en->d_name, uid, gid, depth + 1);
    if (d)
        closedir(d);
    else
        close(fd);
    return r;
}

/* What is checked out, and how. */
struct checkout {
    const char *repo, *ref, *target;
    int depth;              /* 0: whole history */
    bool sub, recursive;    /* submodules */
    char sha[41];           /* what came of it */
};

static int submodules_of(struct jobx *x, const struct checkout *co, const char *repo, const char *dest, struct err *e) {
    const char *server = x->rq->event.server_url ? x->rq->event.server_url : "https://github.com", *mirror = x->rq->actions_mirror;
    _cleanup_free_ char *url = xasprintf("%s/%s", server, repo), *file = path_join(dest, ".gitmodules");
    if (!co->sub || !fs_exists(AT_FDCWD, file))
        return 0;
    if (x->rq->offline && !mirror)
        return err_set(e, ERR_NET, -ENETUNREACH, "submodules: this run is offline");
    int r = git_submodule_update(dest, url, co->recursive, co->depth, server, mirror && *mirror == '/' ? mirror : NULL, e);
    return r < 0 ? err_wrap(e, r, "submodules") : 0;
}

static int export(struct jobx *x, struct checkout *co, const char *dir, const char *repo, bool own, struct err *e) {
    char key[9];
    random_id(key, 8);
    _cleanup_free_ char *name = xasprintf("checkout-%s", key), *dest = path_join(x->scratch_path, name);
    int r = git_export(dir, co->sha, dest, co->depth, e);
    if (r < 0 || (r = submodules_of(x, co, repo, dest, e)) < 0)
        return r;
    if (own) {
        _cleanup_buf_ struct buf config = BUF_SMALL;
        _cleanup_free_ char *file = path_join(dest, ".git/config");
        gitbox_remote(x, &config);
        if ((r = fs_append(AT_FDCWD, file, buf_sv(&config), 0644)) < 0)
            return err_errno(e, r, "%s", file);
    }
    if (x->uid != getuid() && (r = chown_tree(AT_FDCWD, dest, x->uid, x->gid, 0)) < 0)
        return err_errno(e, r, "%s", dest);
    return x->place->folder(x, co->target, dest, e);
}

/* ref -> commit in the user's repository: branch, tag, remote-tracking branch, commit. */
static int resolve_local(struct jobx *x, const char *ref, char sha[41]) {
    static const char *const where[] = {"", "refs/heads/", "refs/tags/", "refs/remotes/origin/"};
    for (size_t i = startswith(ref, "refs/") ? 0 : 1; i < ELEMENTS(where); i++) {
        _cleanup_free_ char *full = xasprintf("%s%s", where[i], ref);
        if (git_resolve(x->rq->dir, full, sha, NULL) >= 0)
            return 0;
    }
    return strlen(ref) >= 7 && strspn(ref, "0123456789abcdef") == strlen(ref) ? git_resolve(x->rq->dir, ref, sha, NULL) : -ENOENT;
}

static bool is_current(struct jobx *x, const char *ref) {
    const struct git_info *g = x->rq->git;
    const char *b = startswith(ref, "refs/heads/");
    return !*ref || streq(ref, x->run->sha) || streq(ref, x->run->ref) || streq(ref, x->run->ref_name) ||
           (g && g->branch && streq(b ? b : ref, g->branch)) || (x->rq->event.head_ref && streq(ref, x->rq->event.head_ref));
}

static int other_repository(struct jobx *x, struct checkout *co, struct err *e) {
    _cleanup_remote_ struct remote_at at = {0};
    struct remote_conf conf;
    if (strchr(co->repo, ':') || *co->repo == '-' || !strchr(co->repo, '/'))
        return err_set(e, ERR_CONFIG, -EINVAL, "repository: \"%s\" is not OWNER/NAME", co->repo);
    run_remote(x->run, &conf);
    conf.lock = NULL; /* pins what is run, not what is looked at */
    int r = remote_find(&conf, co->repo, *co->ref ? co->ref : "HEAD", &at, e);
    if (r < 0)
        return err_wrap(e, r, "repository %s", co->repo);
    if (at.sha)
        snprintf(co->sha, sizeof co->sha, "%s", at.sha);
    else if ((r = git_resolve(at.dir, "HEAD", co->sha, e)) < 0)
        return err_wrap(e, r, "repository %s", co->repo);
    jobx_say(x, "Checking out %s at %.12s", co->repo, co->sha);
    return export(x, co, at.dir, co->repo, false, e);
}

/* --- the action ------------------------------------------------------------------------------------- */

static int own_worktree(struct jobx *x, const char *target, int depth, struct err *e) {
    int r;
    if (x->rq->bind) {
        if ((r = x->place->work_tree(x, target, true, e)) < 0)
            return r;
        jobx_say(x, "The work tree itself (--bind): what this job writes here stays");
        return 0;
    }
    if ((r = x->place->work_tree(x, target, false, e)) < 0 || (r = gitbox_setup(x, e)) < 0 || (r = gitbox_worktree(x, target, depth, e)) < 0)
        return r;
    jobx_say(x, "%s at %.12s%s, as %s of the work tree", x->run->ref, x->run->sha,
             x->rq->git && !x->rq->git->bare_repo_missing && git_dirty(x->rq->dir) ? " with its uncommitted changes" : "", x->host ? "a copy" : "an overlay");
    return 0;
}

/* The work tree has its submodules' files; a checkout that did not ask for them has empty folders. (A
 * checkout by git fetches them.) */
static int submodules(struct jobx *x, const char *target, bool wanted, struct err *e) {
    const struct git_info *g = x->rq->git;
    _cleanup_strv_ struct strv paths = {0}, argv = {0};
    if (x->rq->bind || !g || g->bare_repo_missing)
        return 0;
    const char *top = g->worktree ? g->worktree : x->rq->dir;
    _cleanup_free_ char *file = path_join(top, ".gitmodules");
    if (!fs_exists(AT_FDCWD, file))
        return 0;
    int r = git_submodules(top, &paths, e);
    if (r < 0 || !paths.n)
        return r;
    static const char filled[] = "cd \"$1\" && shift && for d; do [ -z \"$(ls -A \"$d\" 2>/dev/null)\" ] && exit 9; done; exit 0",
                      empty[] = "cd \"$1\" && shift && for d; do mkdir -p \"$d\" && find \"$d\" -mindepth 1 -delete && chown 1001:1001 \"$d\" || exit 1; done";
    if (x->host) {
        jobx_note(x, LEVEL_WARNING, "submodules: on the host their folders are as the work tree has them");
        return 0;
    }
    strv_extend(&argv, (const char *const[]){"/bin/sh", "-c", wanted ? filled : empty, "sh", target, NULL});
    strv_extend(&argv, (const char *const *)paths.v);
    _cleanup_buf_ struct buf out = BUF_SMALL;
    if ((r = jobx_capture(x, (const char *const *)argv.v, NULL, &out, e)) < 0)
        return r;
    if (r == 9)
        return err_set(e, ERR_FAILED, -ENOENT, "submodules: a submodule has no files in the work tree (git submodule update --init); "
                                               "--clean fetches them");
    return r ? err_set(e, ERR_FAILED, -EIO, "submodules: %s", buf_str(&out)) : 0;
}

static int do_checkout(struct jobx *x, struct checkout *co, struct err *e) {
    const struct git_info *g = x->rq->git;
    int r;
    snprintf(co->sha, sizeof co->sha, "%s", x->run->sha);
    if (*co->repo && !sv_ieqs(sv_from(co->repo), x->run->repository))
        return other_repository(x, co, e);
    bool git = g && !g->bare_repo_missing;
    bool commit = strspn(x->run->sha, "0") != strlen(x->run->sha);
    if ((is_current(x, co->ref) && !(x->rq->clean && git && commit)) || !git) {
        if ((r = own_worktree(x, co->target, co->depth, e)) < 0)
            return r;
        return submodules(x, co->target, co->sub, e);
    }
    if ((r = gitbox_setup(x, e)) < 0)
        return r;
    if (!is_current(x, co->ref) && resolve_local(x, co->ref, co->sha) < 0)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "ref \"%s\" is neither a branch, a tag nor a commit of this repository", co->ref);
    jobx_say(x, "%s at %.12s, a clean checkout", *co->ref ? co->ref : x->run->ref, co->sha);
    return export(x, co, x->rq->dir, x->run->repository, true, e);
}

int checkout_to(struct jobx *x, const char *target, int depth, struct err *e) {
    struct checkout co = {.repo = "", .ref = "", .target = target, .depth = depth};
    return do_checkout(x, &co, e);
}

int checkout_default(struct jobx *x, int depth, struct err *e) { return checkout_to(x, x->workspace, depth, e); }

/* --- what is done to the files ------------------------------------------------------------------------- */

static int in_place(struct jobx *x, const char *script, const char *target, const struct strv *more, const char *what, struct err *e) {
    _cleanup_strv_ struct strv argv = {0};
    _cleanup_buf_ struct buf out = BUF_SMALL;
    strv_extend(&argv, (const char *const[]){"/bin/sh", "-c", script, "sh", target, NULL});
    if (more)
        strv_extend(&argv, (const char *const *)more->v);
    int r = jobx_capture(x, (const char *const *)argv.v, x->user, &out, e);
    if (r > 0)
        return err_set(e, ERR_FAILED, -EIO, "%s: %.600s", what, *buf_str(&out) ? buf_str(&out) : "it failed");
    return r;
}

static int sparse(struct jobx *x, const char *target, const struct value *with, struct err *e) {
    static const char cone[] = "cd \"$1\" && shift && command -v git >/dev/null || { echo 'there is no git in this image'; exit 1; }\n"
                               "git update-index -q --refresh; git sparse-checkout init --cone && git sparse-checkout set \"$@\"",
                      plain[] = "cd \"$1\" && shift && command -v git >/dev/null || { echo 'there is no git in this image'; exit 1; }\n"
                                "git update-index -q --refresh; git sparse-checkout init --no-cone && git sparse-checkout set --no-cone \"$@\"";
    _cleanup_strv_ struct strv lines = {0};
    struct sv rest = sv_from(with_get(with, "sparse-checkout", "")), line;
    while (sv_line(&rest, &line)) {
        line = sv_trim(line);
        if (line.n)
            strv_addn(&lines, line.p, line.n);
    }
    if (!lines.n)
        return 0;
    if (x->rq->bind) {
        jobx_note(x, LEVEL_WARNING, "sparse-checkout: with --bind the work tree stays as it is");
        return 0;
    }
    return in_place(x, with_bool(with, "sparse-checkout-cone-mode", true) ? cone : plain, target, &lines, "sparse-checkout", e);
}

/* The user's git has fetched them, or it has not: a pointer is no file. */
static int lfs(struct jobx *x, const char *target, struct err *e) {
    static const char pointers[] =
        "cd \"$1\" && git ls-files -z | git check-attr --stdin -z filter | tr '\\0\\n' '\\n\\001' |\n"
        "while IFS= read -r f && read -r a && read -r v; do [ \"$v\" = lfs ] && [ -f \"$f\" ] || continue\n"
        "  case $(head -c 42 \"$f\" | tr -d '\\0') in 'version https://git-lfs.github.com/spec/v1'*) echo \"$f is a pointer still: git lfs pull\"; exit 1;; esac\n"
        "done";
    return in_place(x, pointers, target, NULL, "lfs", e);
}

int action_checkout(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    const char *path = with_get(with, "path", "."), *d = with_get(with, "fetch-depth", "1"), *sub = with_get(with, "submodules", "false");
    _cleanup_free_ char *target = path_join(x->workspace, path);
    uint64_t depth = 1;
    if (sv_u64(sv_from(d), 1000000000, &depth) < 0)
        depth = 1;
    const char *rest = startswith(target, x->workspace);
    if (!rest || (*rest && *rest != '/'))
        return err_set(e, ERR_CONFIG, -EINVAL, "Repository path '%s' is not under '%s'", target, x->workspace);
    struct checkout co = {.repo = with_get(with, "repository", ""), .ref = with_get(with, "ref", ""), .target = target, .depth = (int)depth,
                          .recursive = sv_ieqs(sv_from(sub), "recursive")};
    co.sub = co.recursive || sv_ieqs(sv_from(sub), "true");
    int r = do_checkout(x, &co, e);
    if (r < 0 || (r = volumes_mount(x, true, e)) < 0 || (r = sparse(x, target, with, e)) < 0)
        return r;
    if (with_bool(with, "lfs", false) && (r = lfs(x, target, e)) < 0)
        return r;
    val_set_str(x->a, s->outputs, "ref", *co.ref ? co.ref : x->run->ref);
    val_set_str(x->a, s->outputs, "commit", co.sha);
    return 0;
}
