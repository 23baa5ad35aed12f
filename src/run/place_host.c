/* This host as a job's place (-P LABEL=host): no isolation. Commands are run by keepers
 * (host_step.c), one each, which end with this process, however it ends. Files are plain files: the
 * job's folder of work is in its scratch, the work tree is copied into it, or (--bind) is the
 * workspace itself. */
#include "core/fs.h"
#include "core/proc.h"
#include "run/host_step.h"
#include "run/place.h"

#include <dirent.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* --- processes -------------------------------------------------------------------------------------- */

#define MARK "SLIPWAY_HOST_JOB="

struct host_proc {
    pid_t keeper;
    int fd;
    struct host_proc *next;
};

static struct host_proc *proc_of(const struct place_proc *p) { return (struct host_proc *)(uintptr_t)p; }

static int check_cwd(const struct box_exec *be, struct err *e) {
    struct stat st;
    int r;
    if (!be->cwd)
        return 0;
    if (be->make_cwd && (r = fs_mkdirs(AT_FDCWD, be->cwd, 0755)) < 0)
        return err_errno(e, r, "%s", be->cwd);
    if (stat(be->cwd, &st) < 0)
        return err_errno(e, -errno, "working directory %s", be->cwd);
    return S_ISDIR(st.st_mode) ? 0 : err_errno(e, -ENOTDIR, "working directory %s", be->cwd);
}

static int start(struct jobx *x, const struct box_exec *be, struct place_proc **ret, struct err *e) {
    _cleanup_buf_ struct buf text = BUF_LARGE;
    _cleanup_close_ int mem = memfd_create("step", MFD_CLOEXEC);
    int sv[2], r = check_cwd(be, e);
    if (r < 0)
        return r;
    host_step_text(&text, be->argv, be->envp);
    if (!buf_ok(&text))
        return err_set(e, ERR_LIMIT, -E2BIG, "the environment is too large");
    if (mem < 0 || (r = fd_write_all(mem, text.p, text.n)) < 0)
        return err_errno(e, mem < 0 ? -errno : r, "memfd");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
        return err_errno(e, -errno, "socketpair");
    const char *argv[] = {proc_self(), "__host-step", NULL};
    struct proc_spec s = {.argv = argv, .cwd = be->cwd, .new_session = true};
    if (be->out >= 0)
        s.fds[s.n_fds++] = (struct proc_fd){1, be->out};
    if (be->err >= 0)
        s.fds[s.n_fds++] = (struct proc_fd){2, be->err};
    s.fds[s.n_fds++] = (struct proc_fd){3, sv[1]};
    s.fds[s.n_fds++] = (struct proc_fd){4, mem};
    struct host_proc *p = xcalloc(1, sizeof *p);
    r = proc_spawn(&s, &p->keeper, e);
    close(sv[1]);
    if (r < 0) {
        close(sv[0]);
        free(p);
        return r;
    }
    p->fd = sv[0];
    p->next = x->host_procs;
    x->host_procs = p;
    *ret = (struct place_proc *)p;
    return 0;
}

static int status_fd(const struct place_proc *p) { return proc_of(p)->fd; }

static int wait_end(struct place_proc *pp, struct err *e) {
    struct host_step_end end;
    ssize_t n;
    do
        n = recv(proc_of(pp)->fd, &end, sizeof end, 0);
    while (n < 0 && errno == EINTR);
    if (n != sizeof end) /* its keeper was killed */
        return err_set(e, ERR_FAILED, -EPIPE, "the command's keeper has ended before it");
    if (end.error) {
        errno = end.error;
        err_errno(e, -end.error, "the command could not be started");
    }
    return end.code;
}

static int send_signal(struct place_proc *p, int signo, bool group) {
    struct host_step_signal m = {signo, group};
    return send(proc_of(p)->fd, &m, sizeof m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static void done(struct place_proc *p) { /* host_end does it */ }

/* What a step left behind that killed its own keeper: known by the mark in its environment. */
static bool kill_marked(const char *mark) {
    DIR *d = opendir("/proc");
    bool found = false;
    for (struct dirent *en; d && (en = readdir(d));) {
        _cleanup_buf_ struct buf b = BUF_MAX(4u << 20);
        char path[64];
        if (en->d_name[0] < '1' || en->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "%.20s/environ", en->d_name);
        _cleanup_close_ int fd = openat(dirfd(d), path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && fs_read_fd(fd, &b) >= 0 && b.n && memmem(b.p, b.n, mark, strlen(mark)))
            found |= kill((pid_t)atol(en->d_name), SIGKILL) == 0;
    }
    if (d)
        closedir(d);
    return found;
}

void host_take(struct jobx *x, struct jobx *from) {
    struct host_proc **end = &from->host_procs;
    while (*end)
        end = &(*end)->next;
    *end = x->host_procs;
    x->host_procs = from->host_procs;
    from->host_procs = NULL;
}

void host_end(struct jobx *x) {
    bool lost = false;
    for (struct host_proc *p = x->host_procs; p; p = p->next)
        fd_close(p->fd);
    while (x->host_procs) {
        struct host_proc *p = x->host_procs;
        x->host_procs = p->next;
        lost |= proc_wait(p->keeper) != 0;
        free(p);
    }
    if (!lost)
        return;
    _cleanup_free_ char *mark = xasprintf(MARK "%s", lease_id(x->lease));
    for (int i = 0; i < 100 && kill_marked(mark); i++)
        poll(NULL, 0, 10);
}

/* --- files -------------------------------------------------------------------------------------------- */

static int read_file(struct jobx *x, const char *path, struct buf *out, struct err *e) { return fs_read(AT_FDCWD, path, out, e); }

static int put_tar(struct jobx *x, const char *path, int fd, struct err *e) {
    const char *argv[] = {"tar", "-x", "--no-same-owner", "-f", "-", "-C", path, NULL};
    struct proc_spec s = {.argv = argv, .fds = {{0, fd}}, .n_fds = 1};
    pid_t pid;
    int r = proc_spawn(&s, &pid, e);
    if (r >= 0 && (r = proc_wait(pid)) > 0)
        r = err_set(e, ERR_FAILED, -EIO, "tar could not write %s", path);
    return r;
}

static bool is_work_tree(const struct jobx *x) { return x->rq->bind; }

/* An empty folder at target: what was there goes, as actions/checkout has it. */
static int fresh(struct jobx *x, const char *target, struct err *e) {
    int r;
    if (is_work_tree(x))
        return err_set(e, ERR_CONFIG, -EINVAL, "with --bind the workspace is your work tree itself: nothing else is checked out into it");
    if ((r = fs_mkdirs(AT_FDCWD, target, 0755)) < 0)
        return err_errno(e, r, "%s", target);
    _cleanup_close_ int fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(dup(fd));
    if (!d)
        return err_errno(e, -errno, "%s", target);
    r = 0;
    for (struct dirent *en; r >= 0 && (en = readdir(d));)
        if (!streq(en->d_name, ".") && !streq(en->d_name, ".."))
            r = fs_rmtree(fd, en->d_name);
    closedir(d);
    return r < 0 ? err_errno(e, r, "%s", target) : 0;
}

static int copy_file(int from_fd, int parent, const char *name, const struct stat *st) {
    int to = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    uint64_t n;
    if (to < 0)
        return -errno;
    int r = fd_copy(from_fd, to, UINT64_MAX, &n);
    const struct timespec t[2] = {st->st_atim, st->st_mtim};
    if (r >= 0 && (fchmod(to, st->st_mode & 0777) < 0 || futimens(to, t) < 0))
        r = -errno;
    close(to);
    return r;
}

static int copy_one(int from, int to, const char *rel) {
    struct stat st;
    const char *name;
    int r;
    if (fstatat(from, rel, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno; /* deleted in the work tree */
    if (S_ISDIR(st.st_mode))
        return fs_mkdirs_in(to, rel, 0755);
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return 0;
    _cleanup_close_ int parent = fs_parent_in(to, rel, true, &name);
    if (parent < 0)
        return parent;
    if (S_ISLNK(st.st_mode)) {
        char link[PATH_MAX];
        ssize_t n = readlinkat(from, rel, link, sizeof link - 1);
        if (n < 0)
            return -errno;
        link[n] = 0;
        return symlinkat(link, parent, name) < 0 ? -errno : 0;
    }
    _cleanup_close_ int fd = openat(from, rel, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return (r = copy_file(fd, parent, name, &st)) < 0 ? r : 0;
}

/* Without git: everything. */
static int copy_all(struct strv *paths, int dir, const char *rel, unsigned depth) {
    int fd = openat(dir, *rel ? rel : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    int r = 0;
    if (!d)
        return -errno;
    for (struct dirent *en; r >= 0 && (en = readdir(d));) {
        if (streq(en->d_name, ".") || streq(en->d_name, "..") || streq(en->d_name, ".git"))
            continue;
        char *sub = *rel ? xasprintf("%s/%s", rel, en->d_name) : xstrdup(en->d_name);
        struct stat st;
        bool is_dir = fstatat(dir, sub, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
        strv_add(paths, sub);
        if (is_dir)
            r = depth < 256 ? copy_all(paths, dir, sub, depth + 1) : -ELOOP;
        free(sub);
    }
    closedir(d);
    return r;
}

static int work_tree(struct jobx *x, const char *target, bool through, struct err *e) {
    const struct git_info *g = x->rq->git;
    bool git = g && !g->bare_repo_missing;
    const char *top = git && g->worktree ? g->worktree : x->rq->dir;
    if (through && streq(target, x->workspace))
        return 0; /* it is the work tree */
    int r = fresh(x, target, e);
    if (r < 0)
        return r;
    _cleanup_strv_ struct strv paths = {0};
    _cleanup_close_ int from = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC), to = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0 || to < 0) {
        r = err_errno(e, -errno, "%s", from < 0 ? top : target);
        fd_close(to);
        return r;
    }
    r = git ? git_ls_worktree(top, x->rq->with_ignored, &paths, e) : copy_all(&paths, from, "", 0);
    for (size_t i = 0; i < paths.n && r >= 0; i++)
        if ((r = copy_one(from, to, paths.v[i])) < 0)
            err_errno(e, r, "copying %s", paths.v[i]);
    close(to);
    return r;
}

static int folder(struct jobx *x, const char *target, const char *source, struct err *e) {
    int r = fresh(x, target, e);
    if (r < 0)
        return r;
    /* rename replaces an empty folder */
    return rename(source, target) < 0 ? err_errno(e, -errno, "%s", target) : 0;
}

static int objects(struct jobx *x, const char *source, const char *target, char **ret, struct err *e) {
    if (!fs_exists(AT_FDCWD, source))
        return err_errno(e, -ENOENT, "%s", source);
    *ret = xstrdup(source);
    return 0;
}

const struct place place_host = {start, status_fd, wait_end, send_signal, done, read_file, put_tar, work_tree, folder, objects};

/* --- the job -------------------------------------------------------------------------------------------- */

int host_prepare(struct jobx *x, struct err *e) {
    const char *repo = x->run->repo_name, *home = getenv("HOME");
    const struct git_info *g = x->rq->git;
    int r;
    if ((r = lease_new(x->rq->store, "job", &x->lease, e)) < 0)
        return r;
    if ((x->scratch = lease_scratch(x->lease, e)) < 0)
        return x->scratch;
    x->scratch_path = lease_scratch_path(x->lease);
    x->place = &place_host;
    x->uid = getuid();
    x->gid = getgid();
    x->work = arena_printf(x->a, "%s/work", x->scratch_path);
    x->temp = arena_printf(x->a, "%s/_temp", x->work);
    x->tool_cache = arena_printf(x->a, "%s/tools", x->scratch_path);
    x->home = home && *home ? home : "/";
    x->workspace = !x->rq->bind                                     ? arena_printf(x->a, "%s/%s/%s", x->work, repo, repo)
                   : g && !g->bare_repo_missing && g->worktree ? g->worktree
                                                                    : x->rq->dir;
    for (char **p = environ; *p; p++)
        if (!startswith(*p, "SLIPWAY_") && !startswith(*p, "GITHUB_") && !startswith(*p, "RUNNER_") && !startswith(*p, "ACTIONS_"))
            strv_add(&x->image_env, *p);
    strv_addf(&x->image_env, MARK "%s", lease_id(x->lease));
    return 0;
}
