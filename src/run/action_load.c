/* Actions found, read and laid out for a job, before its first step. What `uses` names is resolved
 * once per run (so that all jobs have the same commit), its files are unpacked once per commit into
 * the user's cache (source/remote.h), and each job gets a copy of its own, since it may write there. */
#include "run/held.h"
#include "run/action.h"

#include "core/fs.h"
#include "run/gitbox.h"
#include "run/place.h"

#include <dirent.h>

#define MAX_ACTIONS 500

static int fetch(struct jobx *x, const char *repo, const char *ref, struct fetched **ret, struct err *e) {
    struct run *r = x->run;
    struct remote_conf conf;
    for (struct fetched *f = r->fetched; f; f = f->next)
        if (sv_ieqs(sv_from(f->repo), repo) && streq(f->ref, ref)) {
            *ret = f;
            return 0;
        }
    struct remote_at at = {0};
    char *files = NULL;
    run_remote(r, &conf);
    int k = run_place(r, repo, ref, &at, e);
    if (k < 0)
        return k;
    if ((k = remote_files(&conf, repo, &at, &files, e)) < 0) {
        remote_at_done(&at);
        return k;
    }
    struct fetched *f = xcalloc(1, sizeof *f);
    *f = (struct fetched){.repo = xstrdup(repo), .ref = xstrdup(ref), .at = at, .files = files, .next = r->fetched};
    r->fetched = *ret = f;
    if (at.sha)
        jobx_say(x, "Download action repository '%s@%s' (SHA:%s)", repo, ref, at.sha);
    else
        jobx_say(x, "Action repository '%s@%s' is %s", repo, ref, at.dir);
    _cleanup_free_ char *name = xasprintf("%s@%s", repo, ref);
    if (r->lock.there && at.sha && !lock_get(&r->lock, name) && !streq(ref, at.sha))
        jobx_note(x, LEVEL_WARNING, "%s is not in " LOCK_FILE ": `slipway check --update-lock` pins it", name);
    return 0;
}

/* --- reading ------------------------------------------------------------------------------------ */

static int tell_errors(struct jobx *x, struct diags *d, const char *what, struct err *e) {
    for (size_t i = 0; i < d->n; i++) {
        const struct diag *g = &d->items[i];
        jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = g->level == DIAG_ERROR ? LEVEL_ERROR : LEVEL_WARNING,
                                     .at = g->focus.line ? g->focus : g->at, .text = sv_from(g->msg)});
    }
    if (!d->errors)
        return 0;
    err_set(e, ERR_CONFIG, -EBADMSG, "the action %s cannot be used: %s", what, d->items[0].msg);
    return err_at(e, -EBADMSG, d->items[0].at);
}

/* A Dockerfile without metadata is an action too. */
static const char bare_dockerfile[] = "name: Dockerfile\nruns: {using: docker, image: Dockerfile}\n";

static int parse(struct jobx *x, const char *shown, struct sv text, struct github_action **ret, struct err *e) {
    struct diags d = {.max = 20};
    github_action_read(shown, text, ret, &d);
    int r = tell_errors(x, &d, shown, e);
    diags_done(&d);
    return r;
}

static const char *const names[] = {"action.yml", "action.yaml", "Dockerfile", "dockerfile"};

static int read_remote(struct jobx *x, struct fetched *f, const char *path, const struct github_action **ret, struct err *e) {
    for (struct fetched_def *d = f->defs; d; d = d->next)
        if (streq(d->path, path)) {
            *ret = d->def;
            return 0;
        }
    _cleanup_close_ int root = open(f->files, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(e, -errno, "%s", f->files);
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        _cleanup_free_ char *rel = *path ? xasprintf("%s/%s", path, names[i]) : xstrdup(names[i]);
        _cleanup_free_ char *shown = xasprintf("%s@%s/%s", f->repo, f->ref, rel);
        _cleanup_buf_ struct buf text = BUF_MAX(2u << 20);
        _cleanup_close_ int fd = fs_open_in(root, rel, O_RDONLY | O_NONBLOCK, 0, 0);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        int r = i < 2 ? fs_read_fd(fd, &text) : 0;
        if (r < 0)
            return err_errno(e, r, "%s", shown);
        struct github_action *def = NULL;
        if ((r = parse(x, shown, i < 2 ? buf_sv(&text) : SV(bare_dockerfile), &def, e)) < 0)
            return r;
        struct fetched_def *d = xcalloc(1, sizeof *d);
        *d = (struct fetched_def){xstrdup(path), def, f->defs};
        f->defs = d;
        *ret = def;
        return 0;
    }
    return err_set(e, ERR_NOTFOUND, -ENOENT, "Can't find 'action.yml', 'action.yaml' or 'Dockerfile' for action '%s%s%s@%s'.", f->repo,
                   *path ? "/" : "", path, f->ref);
}

/* --- the job's copy ------------------------------------------------------------------------------- */


static int own(const struct jobx *x, int parent, const char *name) {
    return x->uid != getuid() && fchownat(parent, name, x->uid, x->gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_file(struct jobx *x, int from, int to, const char *name, const struct stat *st) {
    int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out = -1, r;
    uint64_t n;
    if (in < 0)
        return -errno;
    out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    r = out < 0 ? -errno : fd_copy(in, out, UINT64_MAX, &n);
    if (r >= 0 && fchmod(out, (st->st_mode & 0777) | 0644) < 0)
        r = -errno;
    fd_close(in);
    fd_close(out);
    return r < 0 ? r : own(x, to, name);
}

static int copy_tree(struct jobx *x, int from, int to, unsigned depth) {
    int dup_fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dup_fd < 0 ? NULL : fdopendir(dup_fd);
    int r = d && depth < 128 ? 0 : -EIO;
    for (struct dirent *en; r >= 0 && (en = readdir(d));) {
        struct stat st;
        if (streq(en->d_name, ".") || streq(en->d_name, "..") || streq(en->d_name, ".git") || fstatat(from, en->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISREG(st.st_mode)) {
            r = copy_file(x, from, to, en->d_name, &st);
        } else if (S_ISLNK(st.st_mode)) {
            char link[PATH_MAX];
            ssize_t n = readlinkat(from, en->d_name, link, sizeof link - 1);
            link[n < 0 ? 0 : n] = 0;
            r = n < 0 || symlinkat(link, to, en->d_name) < 0 ? -errno : own(x, to, en->d_name);
        } else if (S_ISDIR(st.st_mode)) {
            int f = openat(from, en->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), t = -1;
            if (mkdirat(to, en->d_name, 0755) < 0 && errno != EEXIST)
                r = -errno;
            else
                t = openat(to, en->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            r = r < 0 ? r : f < 0 || t < 0 ? -errno : copy_tree(x, f, t, depth + 1);
            fd_close(f);
            fd_close(t);
            if (r >= 0)
                r = own(x, to, en->d_name);
        }
    }
    if (d)
        closedir(d);
    return r;
}

/* Lays the repository's files out in the job, once: _actions/OWNER/REPO/REF below its work folder. */
static int lay_out(struct jobx *x, const struct fetched *f, struct err *e) {
    _cleanup_free_ char *rel = xasprintf("work/_actions/%s/%s", f->repo, f->ref);
    if (fs_exists(x->scratch, rel))
        return 0;
    int r = fs_mkdirs_in(x->scratch, rel, 0755);
    if (r < 0)
        return err_errno(e, r, "%s", rel);
    _cleanup_close_ int from = open(f->files, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int to = fs_open_in(x->scratch, rel, O_RDONLY | O_DIRECTORY, 0, 0);
    if (from < 0 || to < 0)
        return err_errno(e, from < 0 ? -errno : to, "%s", from < 0 ? f->files : rel);
    if ((r = copy_tree(x, from, to, 0)) < 0)
        return err_errno(e, r, "laying out %s@%s", f->repo, f->ref);
    for (char *p = rel + strlen(rel); r >= 0 && p > rel + 5; p--) /* the folders above it */
        if (*p == '/' || !*p) {
            *p = 0;
            r = own(x, x->scratch, rel);
        }
    return r < 0 ? err_errno(e, r, "_actions") : 0;
}

/* --- of a step -------------------------------------------------------------------------------------- */

static struct action *action_add(struct jobx *x, const char *uses) {
    struct action *a = xcalloc(1, sizeof *a);
    a->uses = uses;
    a->next = x->actions;
    return x->actions = a;
}

static int prepare_scope(struct jobx *x, struct scope *sc, unsigned depth, struct err *e);

static int composite(struct jobx *x, struct step *s, unsigned depth, struct err *e) {
    if (!s->action->def || s->action->def->kind != ACTION_COMPOSITE)
        return 0;
    if (depth >= ACTION_DEPTH)
        return err_set(e, ERR_LIMIT, -ELOOP, "Composite action depth exceeded max depth %d", ACTION_DEPTH);
    s->sub = scope_new(x, s, s->action);
    return prepare_scope(x, s->sub, depth + 1, e);
}

static int remote(struct jobx *x, struct step *s, unsigned depth, struct err *e) {
    const char *uses = s->ps->uses.s;
    _cleanup_free_ char *repo = NULL, *path = NULL, *ref = NULL;
    struct fetched *f = NULL;
    size_t n = 0;
    for (struct action *a = x->actions; a; a = a->next) {
        if (++n > MAX_ACTIONS)
            return err_set(e, ERR_LIMIT, -E2BIG, "more than %d actions in a job", MAX_ACTIONS);
        if (a->repo && streq(a->uses, uses)) {
            s->action = a;
            return composite(x, s, depth, e);
        }
    }
    if (!remote_split(uses, &repo, &path, &ref))
        return err_set(e, ERR_CONFIG, -EINVAL, "Expected format {org}/{repo}[/path]@ref. Actual '%s'", uses);
    struct action *a = action_add(x, uses);
    pthread_mutex_lock(&x->run->action_mu);
    int r = fetch(x, repo, ref, &f, e);
    if (r >= 0)
        r = read_remote(x, f, path, &a->def, e);
    pthread_mutex_unlock(&x->run->action_mu);
    if (r < 0 || (r = lay_out(x, f, e)) < 0)
        return r;
    a->repo = arena_strdup(x->a, f->repo);
    a->ref = arena_strdup(x->a, f->ref);
    a->sha = f->at.sha ? arena_strdup(x->a, f->at.sha) : NULL;
    a->dir = arena_printf(x->a, "%s/_actions/%s/%s%s%s", x->work, f->repo, f->ref, *path ? "/" : "", path);
    s->action = a;
    return composite(x, s, depth, e);
}

static int prepare_step(struct jobx *x, struct step *s, unsigned depth, struct err *e) {
    const char *uses = s->ps->uses.s, *image;
    if (s->ps->kind == STEP_USES && held_action(x->rq, uses))
        return 0; /* it will not run: step_held */
    if (s->ps->kind != STEP_USES || startswith(uses, "./") || startswith(uses, "../") || streq(uses, "."))
        return 0;
    if ((image = startswith(uses, "docker://"))) {
        s->action = action_add(x, uses);
        s->action->image = image;
        return 0;
    }
    if (startswith(uses, "pipe://")) {
        s->action = action_add(x, uses);
        return 0;
    }
    if (!x->rq->no_native && (s->native = native_find(uses)))
        return 0;
    int r = remote(x, s, depth, e);
    return r < 0 && !(e && e->at.line) ? err_at(e, r, s->ps->uses.at) : r;
}

static int prepare_scope(struct jobx *x, struct scope *sc, unsigned depth, struct err *e) {
    int r = 0;
    for (size_t i = 0; i < sc->n && r >= 0; i++)
        r = prepare_step(x, &sc->steps[i], depth, e);
    return r;
}

int actions_prepare(struct jobx *x, struct err *e) {
    int r = prepare_scope(x, &x->top, 0, e);
    for (struct action *a = x->actions; a && r >= 0; a = a->next)
        if (a->repo && sv_ieqs(sv_from(a->repo), "actions/checkout"))
            return gitbox_published(x, e);
    return r;
}

static unsigned depth_of(const struct scope *sc) {
    unsigned n = 0;
    for (; sc->up; sc = sc->up)
        n++;
    return n;
}

int action_local(struct jobx *x, struct step *s, struct err *e) {
    _cleanup_free_ char *dir = path_join(x->workspace, s->ps->uses.s);
    const char *inside = startswith(dir, x->workspace);
    if (!inside || (*inside && *inside != '/'))
        return err_set(e, ERR_CONFIG, -EINVAL, "%s leaves the workspace", s->ps->uses.s);
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        _cleanup_free_ char *file = xasprintf("%s/%s", dir, names[i]);
        _cleanup_free_ char *clean = path_clean(s->ps->uses.s), *shown = xasprintf("%s/%s", clean, names[i]);
        _cleanup_buf_ struct buf text = BUF_MAX(2u << 20);
        if (x->place->read_file(x, file, &text, NULL) < 0)
            continue;
        struct github_action *def = NULL;
        int r = parse(x, shown, i < 2 ? buf_sv(&text) : SV(bare_dockerfile), &def, e);
        if (r < 0)
            return r;
        struct action *a = action_add(x, s->ps->uses.s);
        a->def = def;
        a->owned = true;
        a->dir = arena_strdup(x->a, dir);
        s->action = a;
        return composite(x, s, depth_of(s->scope), e);
    }
    return err_set(e, ERR_NOTFOUND, -ENOENT,
                   "Can't find 'action.yml', 'action.yaml' or 'Dockerfile' under '%s'. Did you forget to run actions/checkout before "
                   "running your local action?", dir);
}

void actions_done(struct jobx *x) {
    while (x->actions) {
        struct action *a = x->actions;
        x->actions = a->next;
        if (a->owned)
            github_action_free((struct github_action *)(uintptr_t)a->def);
        free(a);
    }
}
