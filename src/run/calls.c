/* Called workflows, all read before anything runs, so that their errors come in the same pass.
 * `uses` holds no expression, hence the whole tree of calls is known. Each file is read once per
 * place (work tree, or commit); a workflow inside another repository that calls "./x" means its
 * own repository at its own commit.
 *
 * owner/repo is looked for in this order: this repository (by its remotes or --repository), read
 * from the local git; then as source/remote.h has it. */
#include "core/fs.h"
#include "pipeline/github/call.h"
#include "run/action.h"

#include <ctype.h>

#define MAX_DEPTH 4u  /* the caller included */
#define MAX_FILES 20u

static struct origin *origin_add(struct run *r, const char *key) {
    struct origin *o = xcalloc(1, sizeof *o);
    o->key = xstrdup(key);
    GROW(r->origins, r->cap_origins, r->n_origins + 1);
    r->origins[r->n_origins++] = o;
    return o;
}

static void key_of(const struct origin *from, const char *uses, struct buf *b) {
    if (startswith(uses, "./") && from && from->sha)
        buf_addf(b, "%s@%s:", from->repo, from->sha);
    buf_adds(b, uses);
}

const struct origin *calls_find(struct run *r, const struct origin *from, const char *uses) {
    _cleanup_buf_ struct buf key = BUF_SMALL;
    key_of(from, uses, &key);
    for (size_t i = 0; i < r->n_origins; i++)
        if (streq(r->origins[i]->key, buf_str(&key)))
            return r->origins[i];
    return NULL;
}

static bool same_repo(struct run *r, const char *repo) {
    const struct git_info *g = r->rq->git;
    if (sv_ieqs(sv_from(repo), r->repository))
        return true;
    for (size_t i = 0; g && i < g->n_remotes; i++) {
        if (!g->remotes[i].owner || !g->remotes[i].repo)
            continue;
        _cleanup_free_ char *full = xasprintf("%s/%s", g->remotes[i].owner, g->remotes[i].repo);
        if (sv_ieqs(sv_from(repo), full))
            return true;
    }
    return false;
}

/* The commit that ref means in the repository at dir: a branch, a tag, a remote-tracking branch,
 * a commit. */
static int resolve(struct run *r, const char *dir, const char *ref, char sha[41], char **ret_ref) {
    static const char *const where[] = {"refs/heads/%s", "refs/tags/%s", "refs/remotes/origin/%s"};
    if (startswith(ref, "refs/")) {
        int x = git_resolve(dir, ref, sha, NULL);
        if (x >= 0)
            *ret_ref = xstrdup(ref);
        return x;
    }
    for (size_t i = 0; i < ELEMENTS(where); i++) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        struct sv head = sv_n(where[i], strlen(where[i]) - 2);
        buf_addsv(&b, head);
        buf_adds(&b, ref);
        if (git_resolve(dir, buf_str(&b), sha, NULL) >= 0) {
            *ret_ref = xasprintf("%s%s", i == 1 ? "refs/tags/" : "refs/heads/", ref);
            return 0;
        }
    }
    for (size_t i = 0; r->rq->git && i < r->rq->git->n_remotes; i++) {
        _cleanup_free_ char *full = xasprintf("refs/remotes/%s/%s", r->rq->git->remotes[i].name, ref);
        if (git_resolve(dir, full, sha, NULL) >= 0) {
            *ret_ref = xasprintf("refs/heads/%s", ref);
            return 0;
        }
    }
    bool hex = strlen(ref) >= 7;
    for (const char *p = ref; *p; p++)
        hex &= isxdigit((unsigned char)*p) != 0;
    if (hex && git_resolve(dir, ref, sha, NULL) >= 0) {
        *ret_ref = xstrdup(ref);
        return 0;
    }
    return -ENOENT;
}

int run_place(struct run *r, const char *repo, const char *ref, struct remote_at *ret, struct err *e) {
    char sha[41];
    const struct run_request *rq = r->rq;
    if (same_repo(r, repo) && rq->git && !rq->git->bare_repo_missing) {
        const char *branch = startswith(ref, "refs/heads/") ? ref + 11 : ref;
        if (streq0(rq->git->branch, branch) && !rq->clean) {
            *ret = (struct remote_at){xstrdup(rq->dir), NULL, xasprintf("refs/heads/%s", branch)};
            return 0;
        }
        char *full = NULL;
        if (resolve(r, rq->dir, ref, sha, &full) >= 0) {
            *ret = (struct remote_at){xstrdup(rq->dir), xstrdup(sha), full};
            return 0;
        }
    }
    struct remote_conf c;
    run_remote(r, &c);
    return remote_find(&c, repo, ref, ret, e);
}

static int place_remote(struct run *r, struct origin *o, const char *repo, const char *ref, struct err *e) {
    struct remote_at at;
    int x = run_place(r, repo, ref, &at, e);
    if (x < 0)
        return x;
    o->dir = at.dir;
    o->sha = at.sha;
    o->ref = at.ref;
    return 0;
}

static int read_file(struct origin *o, struct buf *text, struct err *e) {
    if (o->sha)
        return git_show(o->dir, o->sha, o->path, text, e);
    int root = open(o->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(e, -errno, "%s", o->dir);
    int fd = fs_open_in(root, o->path, O_RDONLY, 0, 0);
    fd_close(root);
    if (fd < 0)
        return err_errno(e, fd, "%s", o->path);
    int x = fs_read_fd(fd, text);
    fd_close(fd);
    return x < 0 ? err_errno(e, x, "%s", o->path) : 0;
}

static void load_plan(struct run *r, const struct origin *from, const struct plan *p, unsigned depth, struct diags *d);

static struct origin *load(struct run *r, const struct origin *from, const struct text *uses,
                           unsigned depth, struct diags *d) {
    _cleanup_buf_ struct buf key = BUF_SMALL, text = BUF_MAX(4u << 20);
    _cleanup_free_ char *repo = NULL, *ref = NULL;
    struct err e = {0};
    key_of(from, uses->s, &key);
    if (r->n_origins >= MAX_FILES) {
        diags_add(d, DIAG_ERROR, uses->at, "call", NULL, "more than %u called workflows", MAX_FILES);
        return NULL;
    }
    struct origin *o = origin_add(r, buf_str(&key));
    int x = 0;
    if (startswith(uses->s, "./")) {
        o->dir = xstrdup(from ? from->dir : r->rq->dir);
        o->sha = from && from->sha ? xstrdup(from->sha) : NULL;
        o->repo = xstrdup(from ? from->repo : r->repository);
        o->ref = xstrdup(from ? from->ref : r->ref);
        o->path = path_clean(uses->s + 2);
    } else if (remote_split(uses->s, &repo, &o->path, &ref) && *o->path) {
        o->repo = xstrdup(repo);
        x = place_remote(r, o, repo, ref, &e);
    } else {
        diags_add(d, DIAG_ERROR, uses->at, "call", "write ./path or owner/repo/path@ref",
                  "\"%s\" does not name a workflow", uses->s);
        return o;
    }
    if (x >= 0)
        x = read_file(o, &text, &e);
    if (x < 0) {
        diags_add(d, DIAG_ERROR, uses->at, "call", e.hint[0] ? e.hint : NULL,
                  "the called workflow cannot be read: %s", e.msg);
        return o;
    }
    const char *shown = o->sha ? o->key : o->path;
    struct plan *p = NULL;
    o->loading = true;
    x = github_read(span_file(shown), buf_sv(&text), NULL, &p, d);
    o->plan = p;
    if (p && x >= 0)
        load_plan(r, o, p, depth + 1, d);
    o->loading = false;
    return o;
}

static void load_plan(struct run *r, const struct origin *from, const struct plan *p, unsigned depth,
                      struct diags *d) {
    for (size_t i = 0; i < p->n_jobs; i++) {
        const struct plan_call *call = p->jobs[i].call;
        if (!call || !call->uses.s)
            continue;
        const struct origin *o = calls_find(r, from, call->uses.s);
        if (o && o->loading) {
            diags_add(d, DIAG_ERROR, call->uses.at, "call", NULL, "the workflow calls itself");
            continue;
        }
        if (depth >= MAX_DEPTH) {
            diags_add(d, DIAG_ERROR, call->uses.at, "call", NULL,
                      "workflows are nested more than %u deep", MAX_DEPTH);
            continue;
        }
        if (!o)
            o = load(r, from, &call->uses, depth, d);
        if (o && o->plan)
            github_check_call(&p->jobs[i], o->plan, d);
    }
}

int calls_load(struct run *r, struct diags *d) {
    size_t before = d->errors;
    for (size_t i = 0; i < r->rq->n_plans; i++)
        if (r->rq->plans[i]->dialect == DIALECT_GITHUB)
            load_plan(r, NULL, r->rq->plans[i], 1, d);
    return d->errors > before ? -EBADMSG : 0;
}
