#include "run/gitbox.h"

#include "base/tar.h"
#include "core/fs.h"
#include "run/place.h"

#include <dirent.h>
#include <sys/mman.h>

struct gitbox {
    struct strv refs;      /* "sha refs/heads/x": what `origin` had at first */
    char *alternates;      /* text of objects/info/alternates, as the box sees it */
};

static void gitbox_free(struct gitbox *g) {
    strv_done(&g->refs);
    free(g->alternates);
    free(g);
}

static bool has_commit(const struct run *r) { return strspn(r->sha, "0") != strlen(r->sha); }

/* --- objects --------------------------------------------------------------------------------- */

static int mount_objects(struct jobx *x, const char *path, unsigned i, struct buf *alternates, struct err *e) {
    _cleanup_free_ char *target = xasprintf("%s/_git/objects%u", x->work, i);
    _cleanup_free_ char *seen = NULL;
    int r = x->place->objects(x, path, target, &seen, e);
    if (r >= 0)
        buf_addf(alternates, "%s\n", seen);
    return r;
}

static int objects(struct jobx *x, struct gitbox *g, struct err *e) {
    _cleanup_free_ char *dir = NULL, *info = NULL;
    _cleanup_buf_ struct buf alt = BUF_SMALL, text = BUF_SMALL;
    int r = git_objects_dir(x->rq->dir, &dir, e);
    if (r < 0 || (r = mount_objects(x, dir, 0, &alt, e)) < 0)
        return r;
    /* A repository that borrows objects itself. */
    info = path_join(dir, "info/alternates");
    if (fs_read(AT_FDCWD, info, &text, NULL) >= 0) {
        struct sv rest = buf_sv(&text), line;
        for (unsigned i = 1; i < 8 && sv_line(&rest, &line);) {
            if (!line.n || *line.p == '#')
                continue;
            _cleanup_free_ char *s = sv_dup(line), *full = path_join(dir, s);
            if (mount_objects(x, full, i, &alt, NULL) >= 0)
                i++;
        }
    }
    g->alternates = buf_take(&alt);
    return 0;
}

/* --- origin ---------------------------------------------------------------------------------- */

static int put(struct jobx *x, const char *path, struct sv text, struct err *e) {
    int r = fs_write(x->scratch, path, text, 0644, false, e);
    if (r >= 0 && x->uid != getuid() && fchownat(x->scratch, path, x->uid, x->gid, 0) < 0)
        r = err_errno(e, -errno, "%s", path);
    return r;
}

static int dir(struct jobx *x, const char *path, struct err *e) {
    if ((mkdirat(x->scratch, path, 0755) < 0 && errno != EEXIST) ||
        (x->uid != getuid() && fchownat(x->scratch, path, x->uid, x->gid, 0) < 0))
        return err_errno(e, -errno, "%s", path);
    return 0;
}

/* Branches of origin: what its remote-tracking branches say, the user's own branches over them. */
static void collect(struct gitbox *g, const struct strv *all, const struct run *r) {
    struct map seen = {0};
    for (int pass = 0; pass < 3; pass++)
        for (size_t i = 0; i < all->n; i++) {
            const char *name = all->v[i] + 41, *b;
            _cleanup_free_ char *full = NULL;
            if (pass == 0 && startswith(name, "refs/heads/"))
                full = xstrdup(name);
            else if (pass == 1 && (b = startswith(name, "refs/remotes/origin/")) && !streq(b, "HEAD"))
                full = xasprintf("refs/heads/%s", b);
            else if (pass == 2 && startswith(name, "refs/tags/"))
                full = xstrdup(name);
            if (!full || map_has(&seen, sv_from(full)))
                continue;
            map_sets(&seen, full, g);
            strv_addf(&g->refs, "%.40s %s", all->v[i], full);
        }
    if (startswith(r->ref, "refs/heads/") && !map_has(&seen, sv_from(r->ref)) && has_commit(r))
        strv_addf(&g->refs, "%s %s", r->sha, r->ref);
    map_done(&seen);
}

static const char *branch_of(const struct run *r) {
    const char *b = startswith(r->ref, "refs/heads/");
    return b ? b : "main";
}

static int origin(struct jobx *x, struct gitbox *g, struct err *e) {
    static const char *const dirs[] = {"work/_git", "work/_git/origin.git", "work/_git/origin.git/objects", "work/_git/origin.git/objects/info",
                                       "work/_git/origin.git/objects/pack", "work/_git/origin.git/refs", "work/_git/origin.git/refs/heads",
                                       "work/_git/origin.git/refs/tags"};
    static const char config[] = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
                                 "[receive]\n\tdenyDeletes = false\n[uploadpack]\n\tallowAnySHA1InWant = true\n";
    _cleanup_buf_ struct buf packed = BUF_LARGE, head = BUF_SMALL;
    int r;
    for (size_t i = 0; i < ELEMENTS(dirs); i++)
        if ((r = dir(x, dirs[i], e)) < 0)
            return r;
    for (size_t i = 0; i < g->refs.n; i++)
        buf_addf(&packed, "%s\n", g->refs.v[i]);
    buf_addf(&head, "ref: refs/heads/%s\n", branch_of(x->run));
    if ((r = put(x, "work/_git/origin.git/HEAD", buf_sv(&head), e)) < 0 || (r = put(x, "work/_git/origin.git/config", SV(config), e)) < 0 ||
        (r = put(x, "work/_git/origin.git/packed-refs", buf_sv(&packed), e)) < 0)
        return r;
    return g->alternates ? put(x, "work/_git/origin.git/objects/info/alternates", sv_from(g->alternates), e) : 0;
}

/* --- what was pushed --------------------------------------------------------------------------- */

static void told(struct jobx *x, const char *ref, const char *sha) {
    _cleanup_free_ char *name = xasprintf("git push %s %s", x->run->repository, ref);
    events_emit(x->rq->events, &(struct event){.kind = EV_CAPTURED, .run = x->run->id, .job = x->leg->name, .name = name, .detail = sha});
    atomic_fetch_add(&x->run->captured, 1);
}

static void compare(struct jobx *x, const struct gitbox *g, const char *ref, struct sv sha) {
    for (size_t i = 0; i < g->refs.n; i++)
        if (streq(g->refs.v[i] + 41, ref) && sha.n == 40 && memcmp(g->refs.v[i], sha.p, 40) == 0)
            return;
    if (sha.n != 40)
        return;
    _cleanup_free_ char *s = sv_dup(sha);
    told(x, ref, s);
}

/* Loose refs, read as plain files: the job could have put anything there. */
static void walk(struct jobx *x, const struct gitbox *g, int parent, const char *name, const char *ref, unsigned depth) {
    int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return;
    if (depth < 32 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        DIR *d = fdopendir(fd);
        unsigned seen = 0;
        for (struct dirent *en; d && (en = readdir(d)) && seen++ < 10000;) {
            if (streq(en->d_name, ".") || streq(en->d_name, ".."))
                continue;
            _cleanup_free_ char *sub = xasprintf("%s/%s", ref, en->d_name);
            walk(x, g, dirfd(d), en->d_name, sub, depth + 1);
        }
        if (d)
            closedir(d);
        else
            close(fd);
        return;
    }
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size < 4096) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        if (fs_read_fd(fd, &b) >= 0)
            compare(x, g, ref, sv_trim(buf_sv(&b)));
    }
    close(fd);
}

static void report(struct jobx *x, void *arg) {
    struct gitbox *g = arg;
    _cleanup_close_ int fd = fs_open_in(x->scratch, "work/_git/origin.git", O_RDONLY | O_DIRECTORY, 0, 0);
    if (fd >= 0)
        walk(x, g, fd, "refs", "refs", 0);
    gitbox_free(g);
}

/* --- set-up ------------------------------------------------------------------------------------ */

static struct gitbox *current(struct jobx *x) {
    for (struct late *l = x->late; l; l = l->next)
        if (l->fn == report)
            return l->arg;
    return NULL;
}

static int system_config(struct jobx *x, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    if (x->host) /* its files are the caller's own */
        return 0;
    if (box_read_file(x->box, "/etc/gitconfig", &b, NULL) < 0)
        buf_reset(&b);
    if (sv_find(buf_sv(&b), SV("directory = *")) >= 0)
        return 0;
    buf_adds(&b, "\n[safe]\n\tdirectory = *\n");
    return box_write_file(x->box, "/etc/gitconfig", buf_sv(&b), 0644, 0, 0, e);
}

int gitbox_setup(struct jobx *x, struct err *e) {
    const struct git_info *gi = x->rq->git;
    int r;
    if (current(x))
        return 0;
    if (!gi || gi->bare_repo_missing)
        return 0;
    struct gitbox *g = xcalloc(1, sizeof *g);
    _cleanup_strv_ struct strv all = {0};
    if ((r = dir(x, "work/_git", e)) >= 0 && (r = git_refs(x->rq->dir, &all, e)) >= 0) {
        collect(g, &all, x->run);
        if ((r = objects(x, g, e)) >= 0 && (r = origin(x, g, e)) >= 0)
            r = system_config(x, e);
    }
    jobx_late(x, report, g);
    return r;
}

/* Every URL by which this repository is reached means `origin`. */
static void lead(struct jobx *x, struct buf *b) {
    const char *server = x->rq->event.server_url ? x->rq->event.server_url : "https://github.com";
    const char *repo = x->run->repository, *host = strstr(server, "//");
    host = host ? host + 2 : server;
    buf_addf(b, "[url \"file://%s/_git/origin.git\"]\n", x->work);
    static const char *const ends[] = {"", ".git"};
    for (size_t i = 0; i < 2; i++) {
        buf_addf(b, "\tinsteadOf = %s/%s%s\n", server, repo, ends[i]);
        buf_addf(b, "\tinsteadOf = git@%s:%s%s\n", host, repo, ends[i]);
        buf_addf(b, "\tinsteadOf = ssh://git@%s/%s%s\n", host, repo, ends[i]);
        buf_addf(b, "\tinsteadOf = https://x-access-token:%s@%s/%s%s\n", x->run->token, host, repo, ends[i]);
        buf_addf(b, "\tinsteadOf = https://%s:%s@%s/%s%s\n", x->run->actor, x->run->token, host, repo, ends[i]);
    }
}

/* A job on the host: its git gets the same from its environment. */
static void environment(struct jobx *x) {
    const char *server = x->rq->event.server_url ? x->rq->event.server_url : "https://github.com";
    strv_addf(&x->base_env, "GIT_CONFIG_COUNT=1");
    strv_addf(&x->base_env, "GIT_CONFIG_KEY_0=url.file://%s/_git/origin.git.insteadOf", x->work);
    strv_addf(&x->base_env, "GIT_CONFIG_VALUE_0=%s/%s", server, x->run->repository);
}

int gitbox_published(struct jobx *x, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    const struct git_info *gi = x->rq->git;
    int r = gitbox_setup(x, e);
    if (r < 0 || !gi || gi->bare_repo_missing)
        return r;
    if (x->host) {
        environment(x);
        return 0;
    }
    if (box_read_file(x->box, "/etc/gitconfig", &b, NULL) < 0)
        buf_reset(&b);
    lead(x, &b);
    return box_write_file(x->box, "/etc/gitconfig", buf_sv(&b), 0644, 0, 0, e);
}

void gitbox_remote(struct jobx *x, struct buf *b) {
    const char *server = x->rq->event.server_url ? x->rq->event.server_url : "https://github.com";
    buf_addf(b, "[remote \"origin\"]\n\turl = %s/%s\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n", server, x->run->repository);
    lead(x, b);
}
/* --- .git of a workspace ------------------------------------------------------------------------- */

static int to_fd(void *arg, const void *p, size_t n) { return fd_write_all(*(int *)arg, p, n); }

static int tar_text(struct jobx *x, struct tar_writer *t, const char *path, struct sv text) {
    bool d = !text.p;
    uint32_t owner = x->user ? ID_RUNNER : 0;
    struct tar_entry en = {.type = d ? TAR_DIR : TAR_FILE, .path = path, .mode = d ? 0755 : 0644, .uid = owner, .gid = owner,
                           .size = text.n, .mtime = (int64_t)(now_real() / 1000000000ull)};
    int r = tar_put(t, &en);
    return r >= 0 && text.n ? tar_put_data(t, text.p, text.n) : r;
}

static void refs_text(struct jobx *x, const struct gitbox *g, int depth, struct buf *packed) {
    const struct run *r = x->run;
    const char *b = startswith(r->ref, "refs/heads/"), *pr = startswith(r->ref, "refs/pull/");
    if (!has_commit(r))
        return;
    if (b)
        buf_addf(packed, "%s refs/heads/%s\n%s refs/remotes/origin/%s\n", r->sha, b, r->sha, b);
    else if (pr)
        buf_addf(packed, "%s refs/remotes/pull/%s\n", r->sha, pr);
    else if (startswith(r->ref, "refs/tags/"))
        buf_addf(packed, "%s %s\n", r->sha, r->ref);
    if (depth)
        return;
    for (size_t i = 0; i < g->refs.n; i++) {
        const char *name = g->refs.v[i] + 41, *h = startswith(name, "refs/heads/");
        if (h && !(b && streq(h, b)))
            buf_addf(packed, "%.40s refs/remotes/origin/%s\n", g->refs.v[i], h);
        else if (!h && !streq(name, r->ref))
            buf_addf(packed, "%s\n", g->refs.v[i]);
    }
}

int gitbox_worktree(struct jobx *x, const char *target, int depth, struct err *e) {
    static const char *const dirs[] = {".git", ".git/objects", ".git/objects/info", ".git/objects/pack", ".git/refs",
                                       ".git/refs/heads", ".git/refs/tags", ".git/refs/remotes", ".git/info", ".git/hooks"};
    const struct gitbox *g = current(x);
    const struct run *run = x->run;
    _cleanup_buf_ struct buf packed = BUF_LARGE, head = BUF_SMALL, config = BUF_SMALL, shallow = BUF_SMALL, index = BUF_MAX(256u << 20);
    const char *b = startswith(run->ref, "refs/heads/");
    int r;
    if (!g)
        return 0;
    refs_text(x, g, depth, &packed);
    if (b || !has_commit(run))
        buf_addf(&head, "ref: refs/heads/%s\n", branch_of(run));
    else
        buf_addf(&head, "%s\n", run->sha);
    buf_adds(&config, "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n[gc]\n\tauto = 0\n");
    gitbox_remote(x, &config);
    if (b)
        buf_addf(&config, "[branch \"%s\"]\n\tremote = origin\n\tmerge = refs/heads/%s\n", b, b);
    if (depth == 1 && has_commit(run))
        buf_addf(&shallow, "%s\n", run->sha);
    if (has_commit(run)) {
        _cleanup_free_ char *file = xasprintf("%s/index-%u", x->scratch_path, x->cur ? x->cur->no : 0);
        unlink(file);
        if ((r = git_write_index(x->rq->dir, run->sha, file, e)) < 0 || (r = fs_read(AT_FDCWD, file, &index, e)) < 0)
            return r;
        unlink(file);
    }
    _cleanup_close_ int fd = memfd_create("git", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(e, -errno, "memfd");
    struct tar_writer *t = tar_writer_new(to_fd, &fd);
    r = 0;
    for (size_t i = 0; i < ELEMENTS(dirs) && r >= 0; i++)
        r = tar_text(x, t, dirs[i], SV_NULL);
    struct { const char *path; struct sv text; } files[] = {
        {".git/HEAD", buf_sv(&head)}, {".git/config", buf_sv(&config)}, {".git/packed-refs", buf_sv(&packed)},
        {".git/objects/info/alternates", sv_from(g->alternates ? g->alternates : "")},
        {".git/index", buf_sv(&index)}, {".git/shallow", buf_sv(&shallow)}, {".git/description", SV("\n")}};
    for (size_t i = 0; i < ELEMENTS(files) && r >= 0; i++)
        if (files[i].text.n)
            r = tar_text(x, t, files[i].path, files[i].text);
    if (r >= 0)
        r = tar_end(t);
    tar_writer_free(t);
    if (r < 0)
        return err_errno(e, r, "archive of .git");
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(e, -errno, "seek");
    return x->place->put_tar(x, target, fd, e);
}
