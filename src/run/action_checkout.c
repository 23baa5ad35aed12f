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

static int export(struct jobx *x, const char *dir, const char *sha, const char *target, int depth, bool own, struct err *e) {
    char key[9];
    random_id(key, 8);
    _cleanup_free_ char *name = xasprintf("checkout-%s", key), *dest = path_join(x->scratch_path, name);
    int r = git_export(dir, sha, dest, depth, e);
    if (r < 0)
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
    return x->place->folder(x, target, dest, e);
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

static int other_repository(struct jobx *x, const char *repo, const char *ref, const char *target, int depth, struct err *e) {
    _cleanup_remote_ struct remote_at at = {0};
    struct remote_conf conf;
    if (strchr(repo, ':') || *repo == '-' || !strchr(repo, '/'))
        return err_set(e, ERR_CONFIG, -EINVAL, "repository: \"%s\" is not OWNER/NAME", repo);
    run_remote(x->run, &conf);
    conf.lock = NULL; /* pins what is run, not what is looked at */
    int r = remote_find(&conf, repo, *ref ? ref : "HEAD", &at, e);
    if (r < 0)
        return err_wrap(e, r, "repository %s", repo);
    if (!at.sha) {
        char sha[41];
        if ((r = git_resolve(at.dir, "HEAD", sha, e)) < 0)
            return err_wrap(e, r, "repository %s", repo);
        at.sha = xstrdup(sha);
    }
    jobx_say(x, "Checking out %s at %.12s", repo, at.sha);
    return export(x, at.dir, at.sha, target, depth, false, e);
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

static int do_checkout(struct jobx *x, const char *repo, const char *ref, const char *target, int depth, struct err *e) {
    const struct git_info *g = x->rq->git;
    char sha[41];
    int r;
    if (*repo && !sv_ieqs(sv_from(repo), x->run->repository))
        return other_repository(x, repo, ref, target, depth, e);
    bool git = g && !g->bare_repo_missing;
    bool commit = strspn(x->run->sha, "0") != strlen(x->run->sha);
    if ((is_current(x, ref) && !(x->rq->clean && git && commit)) || !git)
        return own_worktree(x, target, depth, e);
    if ((r = gitbox_setup(x, e)) < 0)
        return r;
    if (is_current(x, ref))
        snprintf(sha, sizeof sha, "%s", x->run->sha);
    else if (resolve_local(x, ref, sha) < 0)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "ref \"%s\" is neither a branch, a tag nor a commit of this repository", ref);
    jobx_say(x, "%s at %.12s, a clean checkout", *ref ? ref : x->run->ref, sha);
    return export(x, x->rq->dir, sha, target, depth, true, e);
}

/* The work tree has its submodules' files; a checkout that did not ask for them has empty folders. */
static int submodules(struct jobx *x, const char *target, bool wanted, bool own, struct err *e) {
    const struct git_info *g = x->rq->git;
    _cleanup_strv_ struct strv paths = {0}, argv = {0};
    if (!own || x->rq->bind || !g || g->bare_repo_missing)
        return wanted && !own ? err_set(e, ERR_FAILED, -ENOSYS, "submodules: not there yet for another repository") : 0;
    const char *top = g->worktree ? g->worktree : x->rq->dir;
    _cleanup_free_ char *file = path_join(top, ".gitmodules");
    if (!fs_exists(AT_FDCWD, file))
        return 0;
    int r = git_submodules(top, &paths, e);
    if (r < 0 || !paths.n)
        return r;
    /* Only the frozen work tree holds their files; git's own checkouts never do. */
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
        return err_set(e, ERR_FAILED, -ENOENT, "submodules: a submodule has no files in the work tree, or the checkout is a clean one; "
                                               "fetching them is not there yet (git submodule update --init)");
    return r ? err_set(e, ERR_FAILED, -EIO, "submodules: %s", buf_str(&out)) : 0;
}

int checkout_to(struct jobx *x, const char *target, int depth, struct err *e) { return do_checkout(x, "", "", target, depth, e); }

int checkout_default(struct jobx *x, int depth, struct err *e) {
    int r = do_checkout(x, "", "", x->workspace, depth, e);
    return r < 0 ? r : submodules(x, x->workspace, false, true, e);
}

int action_checkout(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    const char *path = with_get(with, "path", "."), *lfs = with_get(with, "lfs", "false"), *sparse = with_get(with, "sparse-checkout", NULL);
    _cleanup_free_ char *target = path_join(x->workspace, path);
    uint64_t depth = 1;
    const char *d = with_get(with, "fetch-depth", "1");
    if (sv_u64(sv_from(d), 1000000000, &depth) < 0)
        depth = 1;
    const char *rest = startswith(target, x->workspace);
    if (!rest || (*rest && *rest != '/'))
        return err_set(e, ERR_CONFIG, -EINVAL, "Repository path '%s' is not under '%s'", target, x->workspace);
    if (sv_ieqs(sv_from(lfs), "true"))
        jobx_note(x, LEVEL_WARNING, "lfs: not there yet; files are as the work tree has them");
    if (sparse)
        jobx_note(x, LEVEL_WARNING, "sparse-checkout: not there yet; everything is checked out");
    int r = do_checkout(x, with_get(with, "repository", ""), with_get(with, "ref", ""), target, (int)depth, e);
    const char *repo = with_get(with, "repository", ""), *sub = with_get(with, "submodules", "false");
    bool own = !*repo || sv_ieqs(sv_from(repo), x->run->repository);
    if (r >= 0)
        r = submodules(x, target, sv_ieqs(sv_from(sub), "true") || sv_ieqs(sv_from(sub), "recursive"), own, e);
    if (r < 0 || (r = volumes_mount(x, true, e)) < 0)
        return r;
    val_set_str(x->a, s->outputs, "ref", *with_get(with, "ref", "") ? with_get(with, "ref", "") : x->run->ref);
    val_set_str(x->a, s->outputs, "commit", x->run->sha);
    return 0;
}
