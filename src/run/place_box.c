/* A job's box as its place. The work tree comes frozen, once per run (tree snapshot: unchanged
 * files are shared, nothing is copied twice), covered by an overlay per job, so that no job sees
 * another's writes and none reaches the user's files. */
#include "core/fs.h"
#include "run/place.h"

#define TARGET_MODE 0755

static int start(struct jobx *x, const struct box_exec *be, struct place_proc **ret, struct err *e) {
    return box_exec(x->box, be, (struct box_proc **)ret, e);
}
static int status_fd(const struct place_proc *p) { return box_proc_status_fd((const struct box_proc *)p); }
static int wait_end(struct place_proc *p, struct err *e) { return box_proc_wait((struct box_proc *)p, e); }
static int send_signal(struct place_proc *p, int signo, bool group) { return box_proc_signal((struct box_proc *)p, signo, group); }
static void done(struct place_proc *p) { box_proc_free((struct box_proc *)p); }
static int read_file(struct jobx *x, const char *path, struct buf *out, struct err *e) { return box_read_file(x->box, path, out, e); }
static int put_tar(struct jobx *x, const char *path, int fd, struct err *e) { return box_put_tar(x->box, path, fd, e); }

/* --- the frozen work tree ------------------------------------------------------------------------ */

static int skip_git(const char *rel, bool is_dir, void *arg) { return !(streq(rel, ".git") || endswith(rel, "/.git")); }

static int freeze(struct jobx *x, char id[33], struct err *e) {
    struct run *r = x->run;
    int x_ = 0;
    pthread_mutex_lock(&r->tree_mu);
    if (!r->tree[0]) {
        _cleanup_strv_ struct strv paths = {0};
        const struct git_info *g = x->rq->git;
        bool git = g && !g->bare_repo_missing;
        const char *top = git && g->worktree ? g->worktree : x->rq->dir;
        _cleanup_free_ char *name = xasprintf("%s%s", top, x->rq->with_ignored ? ":all" : "");
        _cleanup_close_ int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            x_ = err_errno(e, -errno, "%s", top);
        else if (git && (x_ = git_ls_worktree(top, x->rq->with_ignored, &paths, e)) < 0)
            err_wrap(e, x_, "files of the work tree");
        else {
            struct tree_options o = {.name = name, .uid = ID_RUNNER, .gid = ID_RUNNER, .wanted = git ? NULL : skip_git,
                                     .paths = git ? (const char *const *)paths.v : NULL, .n_paths = git ? paths.n : 0};
            static const char *const none[] = {NULL};
            if (git && !paths.n)
                o.paths = none;
            struct tree_stats st = {0};
            x_ = tree_update(x->rq->store, r->lease, fd, &o, r->tree, &st, e);
            if (x_ >= 0 && st.skipped_special)
                jobx_note(x, LEVEL_NOTICE, "%llu special files (sockets, devices) of the work tree are left out",
                          (unsigned long long)st.skipped_special);
        }
    }
    memcpy(id, r->tree, 33);
    pthread_mutex_unlock(&r->tree_mu);
    return x_;
}

static int mount_tree(struct jobx *x, const char *target, struct err *e) {
    char id[33];
    int r = freeze(x, id, e);
    if (r < 0)
        return r;
    _cleanup_free_ char *lower = xasprintf("tree:%s", id);
    const char *lowers[] = {lower};
    struct box_mount m = {.kind = BOX_OVERLAY, .target = target, .lowers = lowers, .n_lowers = 1, .mode = TARGET_MODE,
                          .uid = ID_RUNNER, .gid = ID_RUNNER, .source_fd = -1};
    return box_mount(x->box, &m, e);
}

static int mount_bind(struct jobx *x, const char *target, const char *source, bool idmap, struct err *e) {
    struct box_mount m = {.kind = BOX_BIND, .target = target, .source_fd = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC),
                          .idmap = idmap, .mode = TARGET_MODE, .uid = ID_RUNNER, .gid = ID_RUNNER};
    if (m.source_fd < 0)
        return err_errno(e, -errno, "%s", source);
    int r = box_mount(x->box, &m, e);
    fd_close(m.source_fd);
    return r;
}

static int work_tree(struct jobx *x, const char *target, bool through, struct err *e) {
    const struct git_info *g = x->rq->git;
    if (!through)
        return mount_tree(x, target, e);
    return mount_bind(x, target, g && !g->bare_repo_missing && g->worktree ? g->worktree : x->rq->dir, true, e);
}

static int folder(struct jobx *x, const char *target, const char *source, struct err *e) { return mount_bind(x, target, source, false, e); }

static int objects(struct jobx *x, const char *source, const char *target, char **ret, struct err *e) {
    struct box_mount m = {.kind = BOX_BIND, .target = target, .source_fd = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC),
                          .readonly = true, .nosuid = true, .nodev = true, .idmap = true, .mode = TARGET_MODE};
    if (m.source_fd < 0)
        return err_errno(e, -errno, "%s", source);
    int r = box_mount(x->box, &m, e);
    fd_close(m.source_fd);
    if (r >= 0)
        *ret = xstrdup(target);
    return r;
}

const struct place place_box = {start, status_fd, wait_end, send_signal, done, read_file, put_tar, work_tree, folder, objects};
