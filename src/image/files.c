/* The layers' tars are read from the bottom up into a tree of folders; a whiteout or an entry of the
 * same name takes away what was there, and the layer that had it is charged with the loss. The tar of a
 * layer comes from a helper through a pipe, so that one layer is in memory as names only. */
#include "image/files.h"

#include "base/tar.h"
#include "core/fs.h"

#include <pthread.h>

enum { TEXT_MAX = 32 << 20, ENTRIES_MAX = 4000000 };

struct reading {
    struct image_files *f;
    unsigned what;
    uint32_t layer;
    size_t entries;
    struct err *e;
};

static void node_free(void *p) {
    struct image_file *n = p;
    if (!n)
        return;
    if (n->children) {
        map_done(n->children);
        free(n->children);
    }
    if (n->text) {
        buf_done(n->text);
        free(n->text);
    }
    free(n->link);
    free(n->path);
    free(n);
}

static struct image_file *node_new(const char *path, char type) {
    struct image_file *n = xcalloc(1, sizeof *n);
    n->path = xstrdup(path);
    n->type = type;
    return n;
}

static struct map *children(struct image_file *dir) {
    if (!dir->children) {
        dir->children = xcalloc(1, sizeof *dir->children);
        dir->children->free_value = node_free;
    }
    return dir->children;
}

/* --- losing -------------------------------------------------------------------------------- */

static void lose(struct reading *x, const struct image_file *n) {
    if (n->layer < x->layer) {
        struct layer_cost *c = &x->f->layers[n->layer];
        c->lost_bytes += n->size;
        c->lost_files += n->type != 'd';
    }
    if (n->children)
        MAP_FOREACH(n->children, it)
            lose(x, it->value);
}

static void drop(struct reading *x, struct image_file *dir, struct sv name) {
    struct image_file *n = dir->children ? map_remove(dir->children, name) : NULL;
    if (!n)
        return;
    lose(x, n);
    node_free(n);
}

/* What layers below have in a folder. */
static void drop_below(struct reading *x, struct image_file *dir) {
    _cleanup_strv_ struct strv gone = {0};
    if (!dir->children)
        return;
    MAP_FOREACH(dir->children, it) {
        const struct image_file *n = it->value;
        if (n->layer < x->layer)
            strv_addn(&gone, it->key, it->key_n);
    }
    for (size_t i = 0; i < gone.n; i++)
        drop(x, dir, sv_from(gone.v[i]));
}

/* --- reading ------------------------------------------------------------------------------- */

static struct image_file *folder(struct reading *x, struct sv path) {
    struct image_file *dir = x->f->root;
    struct sv part;
    while (sv_split(&path, '/', &part)) {
        if (!part.n || sv_eqs(part, "."))
            continue;
        struct image_file *n = dir->children ? map_get(dir->children, part) : NULL;
        if (!n || n->type != 'd') {
            _cleanup_free_ char *full = xasprintf("%s%s" SV_FMT, dir->path, *dir->path ? "/" : "", SV_ARG(part));
            drop(x, dir, part);
            n = node_new(full, 'd');
            n->mode = 0755;
            n->layer = x->layer;
            (void)map_set(children(dir), part, n);
        }
        dir = n;
    }
    return dir;
}

static bool is_record(const char *path) {
    return streq(path, "var/lib/dpkg/status") || startswith(path, "var/lib/dpkg/status.d/") || streq(path, "lib/apk/db/installed") ||
           streq(path, "usr/lib/apk/db/installed");
}

static int read_content(struct reading *x, struct tar_reader *t, const struct tar_entry *en, struct image_file *n) {
    static const size_t size = 128u << 10;
    bool hash = x->what & FILES_DIGESTS, text = (x->what & FILES_PACKAGES) && is_record(n->path);
    if (en->type != TAR_FILE || (!hash && !text))
        return 0;
    _cleanup_free_ char *chunk = xmalloc(size);
    struct sha256 *h = hash ? sha256_new() : NULL;
    ssize_t k;
    if (text) {
        n->text = xcalloc(1, sizeof *n->text);
        n->text->max = TEXT_MAX;
    }
    while ((k = tar_data(t, chunk, size)) > 0) {
        if (hash)
            sha256_update(h, chunk, (size_t)k);
        if (text)
            buf_add(n->text, chunk, (size_t)k);
    }
    if (hash)
        sha256_final(h, n->digest);
    sha256_free(h);
    return k < 0 ? err_set(x->e, ERR_NET, (int)k, "the layer is damaged at %.200s", n->path) : 0;
}

static char type_of(enum tar_type t) {
    static const char types[] = {[TAR_FILE] = 'f', [TAR_HARDLINK] = 'h', [TAR_SYMLINK] = 'l', [TAR_CHAR] = 'c',
                                 [TAR_BLOCK] = 'b', [TAR_DIR] = 'd', [TAR_FIFO] = 'p'};
    return types[t];
}

static int entry(struct reading *x, struct tar_reader *t, const struct tar_entry *en) {
    _cleanup_free_ char *path = path_clean(en->path);
    const char *p = path;
    while (*p == '/')
        p++;
    const char *name = path_base(p), *hidden = startswith(name, ".wh.");
    struct layer_cost *c = &x->f->layers[x->layer];
    if (++x->entries > ENTRIES_MAX)
        return err_set(x->e, ERR_LIMIT, -EFBIG, "the image has more than %d files", ENTRIES_MAX);
    if (!*p || streq(p, ".")) {
        x->f->root->mode = en->mode;
        x->f->root->uid = en->uid;
        x->f->root->gid = en->gid;
        return 0;
    }
    struct image_file *dir = folder(x, sv_n(p, (size_t)(name - p)));
    if (hidden) {
        c->whiteouts++;
        if (streq(hidden, ".wh..opq"))
            drop_below(x, dir);
        else
            drop(x, dir, sv_from(hidden));
        return 0;
    }
    struct image_file *old = dir->children ? map_gets(dir->children, name) : NULL, *n = old;
    if (!(old && old->type == 'd' && en->type == TAR_DIR)) {
        drop(x, dir, sv_from(name));
        n = node_new(p, type_of(en->type));
        (void)map_sets(children(dir), name, n);
    }
    n->mode = en->mode;
    n->uid = en->uid;
    n->gid = en->gid;
    n->layer = x->layer;
    n->size = en->type == TAR_FILE ? en->size : 0;
    if (en->type == TAR_SYMLINK || en->type == TAR_HARDLINK)
        n->link = xstrdup(en->link);
    c->bytes += n->size;
    c->files += en->type != TAR_DIR;
    return read_content(x, t, en, n);
}

struct feeding {
    struct store *s;
    const char *snap;
    int fd, r;
    struct err e;
};

static void *feed(void *arg) {
    struct feeding *f = arg;
    f->r = layer_tar(f->s, f->snap, -1, f->fd, &f->e);
    close(f->fd);
    return NULL;
}

static ssize_t from_pipe(void *arg, void *p, size_t n) {
    ssize_t k;
    do
        k = read(*(int *)arg, p, n);
    while (k < 0 && errno == EINTR);
    return k < 0 ? -errno : k;
}

static int read_layer(struct reading *x, struct store *s, const char *snap) {
    struct feeding f = {.s = s, .snap = snap};
    const struct tar_entry *en;
    pthread_t th;
    int p[2], r;
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(x->e, -errno, "pipe");
    (void)fcntl(p[1], F_SETPIPE_SZ, 1 << 20);
    f.fd = p[1];
    r = -pthread_create(&th, NULL, feed, &f);
    if (r < 0) {
        close(p[0]);
        close(p[1]);
        return err_errno(x->e, r, "start a thread");
    }
    struct tar_reader *t = tar_reader_new(from_pipe, &p[0]);
    while ((r = tar_next(t, &en, x->e)) == 1 && (r = entry(x, t, en)) == 0)
        ;
    tar_reader_free(t);
    close(p[0]);
    pthread_join(th, NULL);
    if (f.r < 0 && r == 0 && f.e.errnum != EPIPE) {
        if (x->e)
            *x->e = f.e;
        r = f.r;
    }
    return r;
}

/* --- afterwards ---------------------------------------------------------------------------- */

static void flatten(struct image_files *f, struct image_file *n, size_t *cap) {
    if (*n->path) {
        GROW(f->v, *cap, f->n + 1);
        f->v[f->n++] = n;
    }
    if (n->children)
        MAP_FOREACH(n->children, it)
            flatten(f, it->value, cap);
}

static int by_path(const void *a, const void *b) {
    return strcmp((*(struct image_file *const *)a)->path, (*(struct image_file *const *)b)->path);
}

/* "Key: value" of a line, or an empty one. */
static struct sv field(struct sv line, const char *key) {
    size_t n = strlen(key);
    return sv_starts(line, key) ? sv_trim(sv_sub(line, n, line.n)) : SV_NULL;
}

static void paragraphs(struct strv *out, struct sv text, const char *kind, const char *name_key, const char *version_key) {
    struct sv line, name = SV_NULL, version = SV_NULL;
    bool installed = true;
    for (;;) {
        bool more = sv_split(&text, '\n', &line);
        if (!more || !line.n) {
            if (name.n && version.n && installed)
                strv_addf(out, "%s " SV_FMT " " SV_FMT, kind, SV_ARG(name), SV_ARG(version));
            name = version = SV_NULL;
            installed = true;
        }
        if (!more)
            return;
        struct sv v;
        if ((v = field(line, name_key)).n)
            name = v;
        else if ((v = field(line, version_key)).n)
            version = v;
        else if ((v = field(line, "Status:")).n)
            installed = sv_find(v, SV(" installed")) >= 0;
    }
}

/* "Django-4.2.7.dist-info" */
static void python_package(struct strv *out, const struct image_file *n) {
    const char *name = path_base(n->path), *end = strstr(name, ".dist-info"), *dash = strchr(name, '-');
    if (n->type == 'd' && end && !end[10] && dash && dash < end)
        strv_addf(out, "pip %.*s %.*s", (int)(dash - name), name, (int)(end - dash - 1), dash + 1);
}

static void find_packages(struct image_files *f) {
    for (size_t i = 0; i < f->n; i++) {
        const struct image_file *n = f->v[i];
        python_package(&f->packages, n);
        if (n->text && strstr(n->path, "apk"))
            paragraphs(&f->packages, buf_sv(n->text), "apk", "P:", "V:");
        else if (n->text)
            paragraphs(&f->packages, buf_sv(n->text), "deb", "Package:", "Version:");
    }
    strv_sort(&f->packages);
}

int image_files_read(struct store *s, const struct image *i, unsigned what, struct image_files *ret, struct err *e) {
    struct image_files f = {.n_layers = i->layers.n};
    struct reading x = {.f = &f, .what = what, .e = e};
    size_t cap = 0;
    int r = 0;
    f.root = node_new("", 'd');
    f.layers = xcalloc(i->layers.n + 1, sizeof *f.layers);
    for (size_t k = 0; r == 0 && k < i->layers.n; k++) {
        x.layer = (uint32_t)k;
        r = read_layer(&x, s, i->layers.v[k]);
    }
    if (r < 0) {
        image_files_done(&f);
        return r;
    }
    flatten(&f, f.root, &cap);
    if (f.n)
        qsort(f.v, f.n, sizeof *f.v, by_path);
    if (what & FILES_PACKAGES)
        find_packages(&f);
    *ret = f;
    return 0;
}

void image_files_done(struct image_files *f) {
    node_free(f->root);
    free(f->v);
    free(f->layers);
    strv_done(&f->packages);
    *f = (struct image_files){0};
}
