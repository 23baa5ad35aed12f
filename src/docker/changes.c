/* What a container has written: its changes against the image (diff), the whole tree (export), an
 * image of it (commit). All three start from a tar of the box's upper layer, made by the store's
 * helper, where a deletion is a file ".wh.NAME" (OCI image-spec v1.1, layer.md). Folders that are
 * there only because something is mounted on them are left out. */
#include "base/tar.h"
#include "build/dockerfile.h"
#include "build/expand.h"
#include "docker/impl.h"

#include <signal.h>
#include <sys/xattr.h>

struct chg {
    struct engine *g;
    struct httpd_req *rq;
    struct ctr *c;
    struct box *box;
    int fd, r, status;
    bool pause;
    struct strv stubs, changes;
    char *ref, *comment, *author;
    struct map lower; /* the image's paths, where they cannot be looked up */
    bool lower_listed;
    struct buf out;
    uint64_t size;
    struct err e;
};

static void chg_abort(struct httpd_req *rq, void *arg) { ((struct chg *)arg)->rq = NULL; }

static struct chg *chg_new(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    struct chg *x = xcalloc(1, sizeof(*x));
    *x = (struct chg){.g = g, .rq = rq, .c = c, .fd = -1, .out = BUF_MAX(64u << 20)};
    ctr_ref(c);
    x->box = ctr_box_use(c);
    httpd_on_abort(rq, chg_abort, x);
    return x;
}

static void chg_free(struct chg *x) {
    fd_close(x->fd);
    ctr_box_done(x->c, x->box);
    ctr_unref(x->c);
    strv_done(&x->stubs);
    strv_done(&x->changes);
    map_done(&x->lower);
    buf_done(&x->out);
    free(x->ref);
    free(x->comment);
    free(x->author);
    free(x);
}

static ssize_t fd_source(void *arg, void *p, size_t n) {
    ssize_t k;
    do
        k = read(*(int *)arg, p, n);
    while (k < 0 && errno == EINTR);
    return k < 0 ? -errno : k;
}

/* The tar of the upper layer, to be read from its start. */
static int upper_tar(struct chg *x) {
    _cleanup_close_ int upper = box_upper(x->box, &x->stubs, &x->e);
    _cleanup_close_ int fd = upper < 0 ? -1 : engine_scratch(x->g, &x->e);
    if (upper < 0 || fd < 0)
        return upper < 0 ? upper : fd;
    int r = layer_tar_of(x->g->o.store, upper, fd, &x->e);
    if (r >= 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = err_errno(&x->e, -errno, "a scratch file");
    return r < 0 ? r : TAKE_FD(fd);
}

/* The entry's path without the slash at its end; is it one that only a mount needs? */
static bool is_stub(const struct chg *x, const char *path) {
    static const char *const own[] = {"proc", "sys", "dev"};
    for (size_t i = 0; i < ELEMENTS(own); i++)
        if (streq(path, own[i]))
            return true;
    return strv_contains(&x->stubs, path);
}

static char *entry_path(const struct tar_entry *en) {
    size_t n = strlen(en->path);
    return xstrndup(en->path, n && en->path[n - 1] == '/' ? n - 1 : n);
}

/* --- diff ----------------------------------------------------------------------------------- */

enum { GOES_ON = 2 }; /* not in this layer: the next one below decides */

static int layer_has(int dir, const char *path) {
    _cleanup_close_ int at = fcntl(dir, F_DUPFD_CLOEXEC, 3);
    struct sv rest = sv_from(path), part;
    bool opaque = false;
    while (sv_split(&rest, '/', &part)) {
        struct stat st;
        _cleanup_free_ char *name = sv_dup(part);
        if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return errno != ENOENT ? -errno : opaque ? 0 : GOES_ON;
        if (S_ISCHR(st.st_mode) && st.st_rdev == 0)
            return 0;
        if (!rest.n)
            return 1;
        if (!S_ISDIR(st.st_mode))
            return 0;
        int next = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return -errno;
        close(at);
        at = next;
        char link[32], v[4];
        snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
        opaque |= getxattr(link, "user.overlay.opaque", v, sizeof(v)) == 1 && v[0] == 'y';
    }
    return 1;
}

/* An ordinary user may not walk into folders of the container's root: the list is read instead. */
static int lower_list(struct chg *x) {
    _cleanup_image_ struct image *im = NULL;
    _cleanup_close_ int fd = engine_scratch(x->g, &x->e);
    int r = fd < 0 ? fd : image_find(x->g->o.store, x->g->o.lease, x->c->image_id, &im, &x->e);
    if (r == 0)
        r = err_set(&x->e, ERR_NOTFOUND, -ENOENT, "the image of %s is gone", x->c->name);
    if (r >= 0)
        r = image_flatten(x->g->o.store, im, fd, &x->e);
    if (r < 0)
        return r;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(&x->e, -errno, "a scratch file");
    struct tar_reader *t = tar_reader_new(fd_source, &fd);
    const struct tar_entry *en;
    while ((r = tar_next(t, &en, &x->e)) > 0) {
        _cleanup_free_ char *path = entry_path(en);
        map_sets(&x->lower, path, x);
    }
    tar_reader_free(t);
    x->lower_listed = r >= 0;
    return r;
}

static int lower_has(struct chg *x, const char *path) {
    for (size_t i = 0; i < x->c->layers.n && !x->lower_listed; i++) {
        _cleanup_close_ int dir = snap_open(x->g->o.store, x->c->layers.v[i]);
        int r = dir < 0 ? dir : layer_has(dir, path);
        if (r == GOES_ON)
            continue;
        if (r != -EACCES)
            return r < 0 ? err_errno(&x->e, r, "look up /%s in the image", path) : r;
        if ((r = lower_list(x)) < 0)
            return r;
    }
    return x->lower_listed && map_gets(&x->lower, path) != NULL;
}

struct change {
    char *path;
    int kind; /* 0 changed, 1 added, 2 deleted */
};

static int by_path(const void *a, const void *b) { return strcmp(((const struct change *)a)->path, ((const struct change *)b)->path); }

static void changes_json(struct chg *x, struct change *all, size_t n) {
    struct json_w w;
    if (n)
        qsort(all, n, sizeof(*all), by_path);
    jw_init(&w, &x->out, 0);
    jw_arr(&w);
    for (size_t i = 0; i < n; i++) {
        _cleanup_free_ char *path = xasprintf("/%s", all[i].path);
        jw_obj(&w);
        jw_kstr(&w, "Path", path);
        jw_kint(&w, "Kind", all[i].kind);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
}

static void diff_work(void *arg) {
    struct chg *x = arg;
    struct change *all = NULL;
    size_t n = 0, cap = 0;
    int fd = x->r = upper_tar(x);
    if (fd < 0)
        return;
    struct tar_reader *t = tar_reader_new(fd_source, &fd);
    const struct tar_entry *en;
    while (x->r >= 0 && (x->r = tar_next(t, &en, &x->e)) > 0) {
        char *path = entry_path(en);
        const char *base = path_base(path), *gone = startswith(base, ".wh.");
        if (is_stub(x, path) || streq(base, ".wh..wh..opq") || !*path) {
            free(path);
            continue;
        }
        int kind = 2;
        if (gone)
            memmove((char *)path + (base - path), gone, strlen(gone) + 1);
        else if ((kind = lower_has(x, path)) < 0)
            x->r = kind;
        else
            kind = !kind;
        GROW(all, cap, n + 1);
        all[n++] = (struct change){path, kind};
    }
    tar_reader_free(t);
    close(fd);
    if (x->r >= 0)
        changes_json(x, all, n);
    for (size_t i = 0; i < n; i++)
        free(all[i].path);
    free(all);
}

static void json_done(struct loop *l, void *arg) {
    struct chg *x = arg;
    if (x->rq && x->r < 0)
        reply_errp(x->rq, &x->e);
    else if (x->rq)
        httpd_reply_json(x->rq, x->status ? x->status : 200, &x->out);
    chg_free(x);
}

static bool box_there(struct httpd_req *rq, const struct ctr *c) {
    if (!c->box)
        reply_err(rq, 409, "container %s is being removed", c->name);
    return c->box != NULL;
}

void ctr_changes(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    if (box_there(rq, c))
        engine_job(g, diff_work, json_done, chg_new(g, rq, c));
}

/* --- the layer ------------------------------------------------------------------------------ */

static int blob_sink(void *arg, const void *p, size_t n) { return blob_write(arg, p, n); }

/* The upper layer's tar without the stubs. */
static int copy_layer(struct chg *x, int fd, struct blob_writer *to) {
    char block[16 << 10];
    struct tar_reader *t = tar_reader_new(fd_source, &fd);
    struct tar_writer *w = tar_writer_new(blob_sink, to);
    const struct tar_entry *en;
    int r;
    while ((r = tar_next(t, &en, &x->e)) > 0) {
        _cleanup_free_ char *path = entry_path(en);
        ssize_t n = 0;
        if (is_stub(x, path))
            continue;
        r = tar_put(w, en);
        while (r >= 0 && (n = tar_data(t, block, sizeof(block))) > 0)
            r = tar_put_data(w, block, (size_t)n);
        if (r < 0 || n < 0) {
            r = err_errno(&x->e, r < 0 ? r : (int)n, "copy what %s wrote", x->c->name);
            break;
        }
    }
    if (r >= 0 && (r = tar_end(w)) < 0)
        err_errno(&x->e, r, "copy what %s wrote", x->c->name);
    tar_reader_free(t);
    tar_writer_free(w);
    return r;
}

/* What the container wrote as a snapshot of its own. */
static int make_layer(struct chg *x, struct snap_info *ret, char diff_id[DIGEST_LEN + 1]) {
    struct store *s = x->g->o.store;
    struct blob_writer *w;
    _cleanup_close_ int fd = upper_tar(x);
    int r = fd < 0 ? fd : blob_begin(s, &w, &x->e);
    if (r < 0)
        return r;
    r = copy_layer(x, fd, w);
    if (r < 0) {
        blob_abort(w);
        return r;
    }
    r = blob_commit(w, NULL, diff_id, &x->e);
    if (r >= 0 && (r = lease_use(x->g->o.lease, diff_id)) < 0)
        err_errno(&x->e, r, "lease a blob");
    return r < 0 ? r : layer_unpack(s, x->g->o.lease, diff_id, diff_id, ret, NULL, &x->e);
}

static int own_image(struct chg *x, struct image **ret) {
    int r = image_find(x->g->o.store, x->g->o.lease, x->c->image_id, ret, &x->e);
    return r ? r : err_set(&x->e, ERR_NOTFOUND, -ENOENT, "the image of %s is gone", x->c->name);
}

/* --- export --------------------------------------------------------------------------------- */

static void export_work(void *arg) {
    struct chg *x = arg;
    struct snap_info info = {0};
    char diff_id[DIGEST_LEN + 1];
    struct stat st;
    _cleanup_image_ struct image *im = NULL;
    if ((x->r = own_image(x, &im)) < 0 || (x->r = make_layer(x, &info, diff_id)) < 0)
        return;
    strv_add(&im->layers, info.id);
    x->fd = x->r = engine_scratch(x->g, &x->e);
    if (x->r >= 0)
        x->r = image_flatten(x->g->o.store, im, x->fd, &x->e);
    if (x->r >= 0 && fstat(x->fd, &st) == 0)
        x->size = (uint64_t)st.st_size;
}

static void export_done(struct loop *l, void *arg) {
    struct chg *x = arg;
    if (x->r >= 0)
        ctr_event(x->c, "export");
    if (x->rq && x->r < 0)
        reply_errp(x->rq, &x->e);
    else if (x->rq)
        httpd_reply_fd(x->rq, 200, "application/x-tar", TAKE_FD(x->fd), 0, x->size);
    chg_free(x);
}

void ctr_export(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    if (box_there(rq, c))
        engine_job(g, export_work, export_done, chg_new(g, rq, c));
}

/* --- commit --------------------------------------------------------------------------------- */

/* ENV values for the expansion of --change; names are bounded by the text's size. */
static const char *env_value(void *arg, struct sv name) {
    _cleanup_free_ char *n = sv_dup(name);
    return strv_env_get(arg, n);
}

static void argv_set(struct strv *to, bool *has, const struct df_instr *in) {
    strv_done(to);
    if (!in->json) {
        strv_add(to, "/bin/sh");
        strv_add(to, "-c");
    }
    for (size_t i = 0; i < in->n_words; i++)
        strv_add(to, in->words[i].s);
    *has = true;
}

static void text_set(char **to, const char *v) {
    free(*to);
    *to = xstrdup(v);
}

static void add_once(struct strv *to, const char *v) {
    if (!strv_contains(to, v))
        strv_add(to, v);
}

/* One instruction of --change (docker takes these and no others). */
static int change_apply(struct image_config *c, struct arena *a, const struct df_instr *in, struct err *e) {
    const struct expand x = {.escape = '\\', .get = env_value, .arg = &c->env};
    struct strv words = {0}, *pairs = in->op == DF_ENV ? &c->env : &c->labels;
    char *k, *v;
    int r = 0;
    switch (in->op) {
    case DF_CMD: argv_set(&c->cmd, &c->has_cmd, in); return 0;
    case DF_ENTRYPOINT: argv_set(&c->entrypoint, &c->has_entrypoint, in); return 0;
    case DF_ONBUILD: strv_add(&c->onbuild, in->onbuild_text); return 0;
    case DF_ENV:
    case DF_LABEL:
        for (size_t i = 0; i < in->n_pairs && r >= 0; i++) {
            r = expand_word(a, &x, sv_from(in->pairs[i].key), &k, e);
            if (r >= 0 && (r = expand_word(a, &x, sv_from(in->pairs[i].value), &v, e)) >= 0)
                strv_env_set(pairs, k, v);
        }
        return r;
    case DF_EXPOSE:
    case DF_VOLUME:
    case DF_USER:
    case DF_WORKDIR:
    case DF_STOPSIGNAL: break;
    default: return err_set(e, ERR_USER, -EINVAL, "%s is not a valid change command", df_op_name(in->op));
    }
    for (size_t i = 0; i < in->n_words && r >= 0; i++)
        if ((r = expand_word(a, &x, sv_from(in->words[i].s), &v, e)) >= 0)
            strv_add(&words, v);
    for (size_t i = 0; i < words.n && r >= 0; i++) {
        const char *w = words.v[i];
        _cleanup_free_ char *port = strchr(w, '/') ? xstrdup(w) : xasprintf("%s/tcp", w);
        if (in->op == DF_EXPOSE && strspn(w, "0123456789") != strcspn(w, "/"))
            r = err_set(e, ERR_USER, -EINVAL, "not yet: EXPOSE %s in --change", w);
        else if (in->op == DF_EXPOSE)
            add_once(&c->exposed, port);
        else if (in->op == DF_VOLUME)
            add_once(&c->volumes, w);
        else if (in->op == DF_USER)
            text_set(&c->user, w);
        else if (in->op == DF_STOPSIGNAL)
            text_set(&c->stopsignal, w);
        else {
            _cleanup_free_ char *dir = path_join(c->workdir ? c->workdir : "/", w);
            text_set(&c->workdir, dir);
        }
    }
    strv_done(&words);
    return r;
}

static int changes_apply(struct chg *x, struct image_config *c) {
    _cleanup_dockerfile_ struct dockerfile *df = NULL;
    _cleanup_buf_ struct buf text = BUF_MAX(1u << 20);
    struct diags d = {0};
    buf_adds(&text, "FROM scratch\n");
    for (size_t i = 0; i < x->changes.n; i++)
        buf_addf(&text, "%s\n", x->changes.v[i]);
    int r = dockerfile_parse("--change", buf_sv(&text), &df, &d);
    if (r >= 0 && df->n_stages != 1)
        r = err_set(&x->e, ERR_USER, -EINVAL, "FROM is not a valid change command");
    else if (r < 0)
        err_set(&x->e, ERR_USER, r, "--change: %s", d.n ? d.items[0].msg : "cannot be read");
    diags_done(&d);
    for (size_t i = 0; r >= 0 && i < df->stages[0].n_instrs; i++)
        r = change_apply(c, &df->arena, df->stages[0].instrs[i], &x->e);
    return r;
}

static void strv_replace(struct strv *to, const struct strv *from) {
    strv_done(to);
    for (size_t i = 0; i < from->n; i++)
        strv_add(to, from->v[i]);
}

/* The image's configuration with what the container was made with. */
static void config_of(const struct ctr *c, struct image_config *to) {
    strv_replace(&to->env, &c->env);
    strv_replace(&to->labels, &c->labels);
    strv_replace(&to->exposed, &c->exposed);
    strv_replace(&to->cmd, &c->cmd);
    strv_replace(&to->entrypoint, &c->entrypoint);
    to->has_cmd = c->has_cmd;
    to->has_entrypoint = c->has_entrypoint;
    text_set(&to->user, c->user);
    text_set(&to->workdir, c->workdir);
    if (c->stop_signal)
        text_set(&to->stopsignal, c->stop_signal);
}

static int make_image(struct chg *x, char id[DIGEST_LEN + 1]) {
    struct snap_info info = {0};
    struct image_config c = {0};
    char diff_id[DIGEST_LEN + 1], now[32];
    _cleanup_image_ struct image *im = NULL;
    int r = own_image(x, &im);
    if (r < 0)
        return r;
    image_config_copy(&c, &im->config);
    config_of(x->c, &c);
    r = changes_apply(x, &c);
    if (r >= 0 && (r = make_layer(x, &info, diff_id)) >= 0) {
        format_time(now_real(), now);
        text_set(&c.created, now);
        if (x->author)
            text_set(&c.author, x->author);
        strv_add(&c.diff_ids, diff_id);
        strv_add(&im->layers, info.id);
        c.history = xrealloc(c.history, (c.n_history + 1) * sizeof(*c.history));
        struct image_history *h = &c.history[c.n_history++];
        _cleanup_buf_ struct buf by = BUF_MAX(64u << 10);
        for (size_t i = 0; i < x->c->argv.n; i++)
            buf_addf(&by, "%s%s", i ? " " : "", x->c->argv.v[i]);
        *h = (struct image_history){.created = xstrdup(now), .created_by = xstrdup(buf_str(&by)),
                                    .comment = x->comment ? xstrdup(x->comment) : NULL,
                                    .author = x->author ? xstrdup(x->author) : NULL};
        r = image_add(x->g->o.store, &c, &im->layers, id, &x->e);
    }
    image_config_done(&c);
    if (r >= 0 && x->ref)
        r = image_tag(x->g->o.store, id, x->ref, &x->e);
    return r;
}

/* Paused meanwhile, unless asked not to, so that files belong together. */
static void commit_work(void *arg) {
    struct chg *x = arg;
    char id[DIGEST_LEN + 1];
    if (x->pause)
        (void)box_kill_all(x->box, SIGSTOP);
    x->r = make_image(x, id);
    if (x->pause)
        (void)box_kill_all(x->box, SIGCONT);
    if (x->r >= 0)
        buf_addf(&x->out, "{\"Id\":\"%s\"}\n", id);
    x->status = 201;
}

static void commit_done(struct loop *l, void *arg) {
    struct chg *x = arg;
    if (x->r >= 0)
        ctr_event(x->c, "commit");
    json_done(l, x);
}

static void commit_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct engine *g = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    const char *id = httpd_query(rq, "container"), *repo = httpd_query(rq, "repo"), *tag = httpd_query(rq, "tag"), *v;
    struct ctr *c = id && *id ? ctr_find(g, id) : NULL;
    if (!ok)
        return;
    char *copy = arena_strndup(&a, body.p ? body.p : "", body.n);
    if (sv_trim(body).n && json_parse(&a, sv_n(copy, body.n), &j, NULL) < 0) {
        reply_err(rq, 400, "invalid JSON");
        return;
    }
    for (size_t i = 0; j && j->kind == JSON_OBJECT && i < j->n; i++)
        if ((j->items[i]->kind == JSON_OBJECT || j->items[i]->kind == JSON_ARRAY) ? j->items[i]->n > 0 : json_sv(j->items[i]).n > 0) {
            reply_not_yet(rq, "a configuration in the body of a commit; use changes");
            return;
        }
    if (!c) {
        reply_err(rq, 404, "No such container: %s", id ? id : "");
        return;
    }
    _cleanup_free_ char *ref = repo && *repo ? xasprintf("%s%s%s", repo, tag && *tag ? ":" : "", tag && *tag ? tag : "") : NULL;
    struct image_ref parsed;
    struct err e = {0};
    if (ref && ref_parse(ref, &parsed, &e) < 0) {
        reply_err(rq, 400, "%s", e.msg);
        return;
    }
    if (!box_there(rq, c))
        return;
    struct chg *x = chg_new(g, rq, c);
    x->ref = TAKE(ref);
    x->comment = (v = httpd_query(rq, "comment")) && *v ? xstrdup(v) : NULL;
    x->author = (v = httpd_query(rq, "author")) && *v ? xstrdup(v) : NULL;
    x->pause = query_bool(rq, "pause", true) && c->state == CTR_RUNNING && !c->frozen;
    for (size_t i = 0; (v = httpd_query_n(rq, "changes", i)); i++)
        strv_add(&x->changes, v);
    engine_job(g, commit_work, commit_done, x);
}

void commit_handle(struct engine *g, struct httpd_req *rq) { httpd_collect(rq, 1u << 20, commit_body, g); }
