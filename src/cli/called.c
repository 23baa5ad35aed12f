#include "cli/called.h"

#include "cli/pipeline_files.h"
#include "core/fs.h"

void called_done(struct called *c) {
    for (size_t i = 0; i < c->n; i++) {
        plan_free(c->files[i]->plan);
        free(c->files[i]->name);
        free(c->files[i]->dir);
        free(c->files[i]);
    }
    free(c->files);
    strv_done(&c->repositories);
}

int called_option(struct called *c, const char *arg, struct err *e) {
    int r = remote_local_option(arg, e);
    if (r >= 0)
        strv_add(&c->repositories, arg);
    return r;
}

/* The folder that stands for OWNER/REPO at REF. */
static char *find_repository(const struct called *c, struct sv repo, struct sv ref) {
    for (size_t i = 0; i < c->repositories.n; i++) {
        struct sv dir = sv_from(c->repositories.v[i]), name, owner_repo;
        sv_split(&dir, '=', &name);
        if (!sv_split(&name, '@', &owner_repo) || owner_repo.n != repo.n ||
            strncasecmp(owner_repo.p, repo.p, repo.n) != 0)
            continue;
        if (!name.p || sv_eq(name, ref))
            return sv_dup(dir);
    }
    return NULL;
}

static const struct called_file *known(const struct called *c, const char *name) {
    for (size_t i = 0; i < c->n; i++)
        if (streq(c->files[i]->name, name))
            return c->files[i];
    return NULL;
}

/* The repository that a file lies in, going by its path: what stands before .github. */
char *called_repository(const struct called *c, const char *file) {
    const struct called_file *f = known(c, file);
    if (f)
        return xstrdup(f->dir);
    const char *at = strstr(file, ".github/workflows/");
    while (at && strstr(at + 1, ".github/workflows/"))
        at = strstr(at + 1, ".github/workflows/");
    if (!at)
        return path_dir(file);
    return at == file ? xstrdup(".") : xstrndup(file, (size_t)(at - file));
}

static struct called_file *add(struct called *c, const char *name, const char *dir) {
    struct called_file *f = xcalloc(1, sizeof *f);
    f->name = xstrdup(name);
    f->dir = xstrdup(dir);
    GROW(c->files, c->cap, c->n + 1);
    return c->files[c->n++] = f;
}

static const struct plan *read_called(struct called *c, struct called_file *f, const char *path,
                                      struct diags *d) {
    _cleanup_buf_ struct buf text = {0};
    if (pipeline_text(path, &text, NULL) < 0)
        return NULL;
    if (github_read(f->name, buf_sv(&text), &c->lim, &f->plan, d) < 0)
        plan_free(TAKE(f->plan)); /* what it says cannot be relied on */
    return f->plan;
}

static const struct plan *load_local(struct called *c, const struct plan *from,
                                     const struct text *uses, struct diags *d) {
    _cleanup_free_ char *dir = called_repository(c, from->file);
    _cleanup_free_ char *in_repo = path_join(dir, uses->s + 2), *from_dir = path_dir(from->file);
    _cleanup_free_ char *beside = path_join(from_dir, path_base(uses->s));
    char *const places[] = {in_repo, beside};
    for (size_t i = 0; i < ELEMENTS(places); i++) {
        const struct called_file *f = known(c, places[i]);
        if (f)
            return f->plan;
        if (fs_exists(AT_FDCWD, places[i]))
            return read_called(c, add(c, places[i], dir), places[i], d);
    }
    diags_add(d, DIAG_ERROR, uses->at, "call", NULL,
              "error parsing called workflow \"%s\": workflow was not found.", uses->s);
    return NULL;
}

/* Of a mirror, the cache or the network. */
static const struct plan *load_remote(struct called *c, const struct text *uses, struct diags *d) {
    _cleanup_free_ char *repo = NULL, *path = NULL, *ref = NULL;
    _cleanup_remote_ struct remote_at at = {0};
    _cleanup_buf_ struct buf text = BUF_MAX(4u << 20);
    if (!remote_split(uses->s, &repo, &path, &ref) || remote_find(c->remote, repo, ref, &at, NULL) < 0)
        return NULL;
    if (remote_read(&at, path, &text, NULL) < 0) {
        diags_add(d, DIAG_ERROR, uses->at, "call", NULL, "error parsing called workflow \"%s\": workflow was not found.", uses->s);
        return NULL;
    }
    struct called_file *f = add(c, uses->s, at.dir);
    if (github_read(f->name, buf_sv(&text), &c->lim, &f->plan, d) < 0)
        plan_free(TAKE(f->plan));
    return f->plan;
}

const struct plan *called_load(void *arg, const struct plan *from, const struct text *uses,
                               struct diags *d) {
    struct called *c = arg;
    struct sv rest = {uses->s, uses->n}, path, owner, repo;
    if (sv_starts(rest, "./") || sv_starts(rest, "$/"))
        return load_local(c, from, uses, d);
    const struct called_file *f = known(c, uses->s);
    if (f)
        return f->plan;
    if (!sv_split(&rest, '@', &path) || !rest.p || !sv_split(&path, '/', &owner) ||
        !sv_split(&path, '/', &repo) || !path.p)
        return NULL;
    struct sv name = {owner.p, owner.n + 1 + repo.n};
    _cleanup_free_ char *dir = find_repository(c, name, rest);
    if (!dir)
        return c->remote ? load_remote(c, uses, d) : NULL;
    _cleanup_free_ char *rel = sv_dup(path), *file = path_join(dir, rel);
    if (!fs_exists(AT_FDCWD, file)) {
        diags_add(d, DIAG_ERROR, uses->at, "call", NULL,
                  "error parsing called workflow \"%s\": workflow was not found.", uses->s);
        return NULL;
    }
    return read_called(c, add(c, uses->s, dir), file, d);
}
