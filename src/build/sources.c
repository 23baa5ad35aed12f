/* What steps copy from, as tree snapshots that do not change while the build runs: the context and
 * named folders (only what is new in them is read), and what was fetched from the network, all side
 * by side. */
#include "build/eval.h"
#include "build/netsrc.h"
#include "core/fs.h"
#include "core/loop.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/stat.h>

const char *source_tree(const struct build *b, const struct vertex *v) {
    return v && v->remote ? v->remote->tree : v && v->context ? v->context->tree : b->tree;
}

/* --- folders -------------------------------------------------------------------------------- */

struct filter {
    const struct ignore *g;
    int dir;
};

/* Is anything below a folder that is left out taken in again? Such a folder is part of the context
 * only then. */
static bool any_wanted(const struct filter *f, int dir, struct buf *rel, unsigned depth) {
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    bool any = false;
    for (struct dirent *de; d && !any && depth < 200 && (de = readdir(d));) {
        struct stat st;
        if (streq(de->d_name, ".") || streq(de->d_name, "..") || fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        size_t n = rel->n;
        buf_addf(rel, "/%s", de->d_name);
        any = !ignore_match(f->g, buf_str(rel));
        if (!any && S_ISDIR(st.st_mode) && ignore_may_contain(f->g, buf_str(rel))) {
            _cleanup_close_ int sub = openat(dirfd(d), de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            any = sub >= 0 && any_wanted(f, sub, rel, depth + 1);
        }
        buf_cut(rel, n, rel->n - n);
    }
    if (d)
        closedir(d);
    return any;
}

static int wanted(const char *rel, bool is_dir, void *arg) {
    const struct filter *f = arg;
    if (!ignore_match(f->g, rel))
        return 1;
    if (!is_dir || !ignore_may_contain(f->g, rel))
        return 0;
    _cleanup_buf_ struct buf path = BUF_MAX(65536);
    _cleanup_close_ int dir = fs_open_in(f->dir, rel, O_RDONLY | O_DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    buf_adds(&path, rel);
    return dir >= 0 && any_wanted(f, dir, &path, 0);
}

/* One index for each folder and filter. */
static int freeze(struct build *b, int dirfd, const char *folder, const struct ignore *g, struct sv ignore_text, char tree[33],
                  struct err *e) {
    struct sha256 *h = sha256_new();
    uint8_t raw[32];
    char name[DIGEST_LEN + 1];
    sha256_update(h, folder, strlen(folder) + 1);
    if (ignore_text.n)
        sha256_update(h, ignore_text.p, ignore_text.n);
    sha256_final(h, raw);
    sha256_free(h);
    digest_format(raw, name);
    struct filter f = {g, dirfd};
    struct tree_options o = {.name = name, .wanted = g->n ? wanted : NULL, .arg = &f, .digests = true};
    struct tree_stats stats = {0};
    int r = tree_update(b->s, b->l, dirfd, &o, tree, &stats, e);
    if (r >= 0 && stats.copied)
        build_emit(b, &(struct build_event){.kind = BUILD_PROGRESS, .name = "build context", .done = stats.bytes_copied, .total = stats.bytes_copied});
    return r;
}

static int load_context(struct build *b, struct err *e) {
    if (!b->needs_context)
        return 0;
    if (b->rq->context_tree) {
        snprintf(b->tree, sizeof b->tree, "%s", b->rq->context_tree);
        return 0;
    }
    if (b->rq->context_fd < 0)
        return err_set(e, ERR_USER, -ENOENT, "the Dockerfile copies files, but there is no build context");
    int r = freeze(b, b->rq->context_fd, b->rq->context_name ? b->rq->context_name : "", &b->ignore, b->ignore_text, b->tree, e);
    return r < 0 ? err_wrap(e, r, "build context") : 0;
}

static int load_named(struct build *b, struct named_context *c, struct err *e) {
    _cleanup_buf_ struct buf text = BUF_MAX(2u << 20);
    struct ignore g = {0};
    int r = 0;
    _cleanup_close_ int fd = fs_open_in(c->given->dirfd, ".dockerignore", O_RDONLY | O_NONBLOCK, 0, 0);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && fs_read_fd(fd, &text) >= 0)
        r = ignore_parse(&g, ".dockerignore", buf_sv(&text), b->d);
    if (r >= 0)
        r = freeze(b, c->given->dirfd, c->given->folder, &g, buf_sv(&text), c->tree, e);
    ignore_done(&g);
    return r < 0 ? err_wrap(e, r, "context %s", c->name) : 0;
}

/* --- named contexts ------------------------------------------------------------------------- */

int source_named(struct build *b, const char *name, const struct platform *p, struct span at, struct vertex **ret, struct err *e) {
    if (!b->contexts)
        b->contexts = xcalloc(b->rq->n_contexts + 1, sizeof *b->contexts);
    for (size_t i = 0; i < b->rq->n_contexts; i++) {
        struct named_context *c = &b->contexts[i];
        const struct build_context *g = &b->rq->contexts[i];
        /* "name" and "name:latest" are the same image. */
        size_t n = strlen(g->name);
        if (strcasecmp(name, g->name) != 0 && !(strncasecmp(name, g->name, n) == 0 && streq(name + n, ":latest")))
            continue;
        c->name = g->name;
        c->given = g;
        if (g->image) {
            *ret = graph_image(b, g->image, p, at, e);
            return *ret ? 1 : -ENOENT;
        }
        if (!c->v) {
            const char **src = ARENA_ARRAY(&b->arena, const char *, 2);
            src[0] = "/";
            c->v = graph_source(b, V_COPY, arena_printf(&b->arena, "[context %s]", c->name), at);
            c->v->copy = (struct copy_spec){.sources = src, .exclude = src + 1, .dest = "/"};
            c->v->from_context = true;
            c->v->context = c;
        }
        *ret = c->v;
        return 1;
    }
    return 0;
}

/* --- the network ---------------------------------------------------------------------------- */

struct fetching {
    struct build *b;
    struct netsrc *rm;
    size_t index;
    int r;
    struct err err;
    pthread_t thread;
};

static void *fetch_one(void *arg) {
    struct fetching *f = arg;
    struct build *b = f->b;
    _cleanup_free_ char *scratch = lease_scratch_path(b->l), *name = NULL, *path = NULL;
    int root = lease_scratch(b->l, &f->err);
    if (root < 0 || !scratch) {
        f->r = root < 0 ? root : -ENOMEM;
        return NULL;
    }
    char id[17];
    random_id(id, 16);
    name = xasprintf("remote-%s", id);
    path = path_join(scratch, name);
    if (mkdirat(root, name, 0700) < 0) {
        f->r = err_errno(&f->err, -errno, "scratch");
        return NULL;
    }
    _cleanup_close_ int dir = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    build_emit(b, &(struct build_event){.kind = BUILD_PROGRESS, .name = f->rm->text});
    f->r = netsrc_fetch(b->s, f->rm, path, dir, &b->stop, f->rm->commit, &f->err);
    if (f->r >= 0) {
        /* The name of the index: the same source again is compared with what it was. */
        _cleanup_free_ char *what = xasprintf("remote %s %d", f->rm->text, f->rm->keep_git_dir);
        char key[DIGEST_LEN + 1];
        struct tree_stats stats = {0};
        digest_of(what, strlen(what), key);
        f->r = tree_update(b->s, b->l, dir, &(struct tree_options){.name = key, .digests = true}, f->rm->tree, &stats, &f->err);
    }
    (void)fs_rmtree(root, name);
    return NULL;
}

static int load_remotes(struct build *b, struct err *e) {
    struct fetching *f = xcalloc(b->n_remotes + 1, sizeof *f);
    int r = 0;
    for (size_t i = 0; i < b->n_remotes; i++) {
        f[i] = (struct fetching){.b = b, .rm = b->remotes[i], .index = i};
        if (pthread_create(&f[i].thread, NULL, fetch_one, &f[i]) != 0) {
            f[i].thread = 0;
            fetch_one(&f[i]);
        }
    }
    for (size_t i = 0; i < b->n_remotes; i++) {
        if (f[i].thread)
            pthread_join(f[i].thread, NULL);
        if (f[i].r < 0 && r == 0) {
            r = f[i].r;
            if (e)
                *e = f[i].err;
            err_at(e, r, f[i].rm->at);
        }
    }
    free(f);
    return r;
}

int sources_load(struct build *b, struct err *e) {
    int r = load_context(b, e);
    for (size_t i = 0; b->contexts && i < b->rq->n_contexts && r >= 0; i++)
        if (b->contexts[i].v)
            r = load_named(b, &b->contexts[i], e);
    return r < 0 ? r : load_remotes(b, e);
}
