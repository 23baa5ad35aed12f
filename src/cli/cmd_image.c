/* slipway image: what the store has. */
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/fs.h"
#include "core/loop.h"

int cmd_image(int argc, char **argv);

static struct opts no_opts(const char *usage, const char *about) {
    return (struct opts){.usage = usage, .about = about};
}

static int fail_or(struct cli_ctx *c, int r, const struct err *e) {
    cli_close(c);
    return r < 0 ? cli_fail(e) : 0;
}

/* --- ls ----------------------------------------------------------------------------------------
 */

struct line {
    char *ref, *id, *created;
    uint64_t size;
    bool standin;
};
struct ls {
    struct cli_ctx *c;
    const char *only;
    struct line *v;
    size_t n, cap;
    struct strv named;
};

static void add_line(struct ls *x, const char *ref, const char *id) {
    _cleanup_image_ struct image *i = NULL;
    struct err e = {0};
    if (image_find(x->c->store, x->c->lease, id, &i, &e) != 1)
        return;
    GROW(x->v, x->cap, x->n + 1);
    x->v[x->n++] =
        (struct line){xstrdup(ref), xstrdup(id), xstrdup(i->config.created), i->size, i->standin};
}

static int ls_ref(const char *full, const char *id, struct sv json, void *arg) {
    struct ls *x = arg;
    struct image_ref r;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    strv_add(&x->named, id);
    if (ref_parse(full, &r, NULL) < 0)
        return 0;
    ref_familiar(&r, &b);
    size_t n = x->only ? strlen(x->only) : 0;
    bool match = !n || streq(full, x->only) ||
                 (strncmp(buf_str(&b), x->only, n) == 0 && strchr(":@", buf_str(&b)[n]));
    if (match)
        add_line(x, buf_str(&b), id);
    return 0;
}

static int ls_id(const char *ref, const char *id, struct sv json, void *arg) {
    struct ls *x = arg;
    if (!strv_contains(&x->named, id))
        add_line(x, NULL, id);
    return 0;
}

static void ls_json(const struct line *l) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "name", l->ref);
    jw_kstr(&w, "id", l->id);
    jw_kstr(&w, "created", l->created);
    jw_kint(&w, "size", (int64_t)l->size);
    jw_kbool(&w, "standin", l->standin);
    jw_end_obj(&w);
    puts(buf_str(&b));
}

static int image_ls(int argc, char **argv) {
    bool all = false, quiet = false, json = false;
    const struct opt items[] = {
        {'a', "all", OPT_FLAG, &all, NULL, "images without a name too"},
        {'q', "quiet", OPT_FLAG, &quiet, NULL, "ids only"},
        {0, "json", OPT_FLAG, &json, NULL, "one JSON object a line"},
    };
    const struct opts o = {"image ls [options] [NAME]", "Lists the images of the store.", items,
                           ELEMENTS(items)};
    struct cli_ctx c;
    int n, k = opts_begin(&o, argc, argv, &n);
    if (k >= 0)
        return k;
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "image"})) >= 0)
        return k;
    struct ls x = {.c = &c, .only = n > 0 ? argv[1] : NULL};
    struct err e = {0};
    int r = image_each(c.store, ls_ref, &x);
    if (r == 0 && all)
        r = image_each_id(c.store, ls_id, &x);
    if (r < 0)
        err_errno(&e, r, "read the records of images");
    int width = 10;
    for (size_t i = 0; i < x.n; i++)
        width = MAX(width, x.v[i].ref ? (int)strlen(x.v[i].ref) : 6);
    if (!quiet && !json && r == 0)
        printf("%-*s  %-12s  %-20s  %s\n", width, "IMAGE", "ID", "CREATED", "SIZE");
    for (size_t i = 0; i < x.n; i++) {
        struct line *l = &x.v[i];
        _cleanup_buf_ struct buf size = BUF_SMALL;
        buf_add_size(&size, l->size);
        if (r == 0 && quiet)
            puts(l->id);
        else if (r == 0 && json)
            ls_json(l);
        else if (r == 0)
            printf("%-*s  %.12s  %-20.19s  %s%s\n", width, l->ref ? l->ref : "<none>", l->id + 7,
                   l->created ? l->created : "", buf_str(&size), l->standin ? "  (stand-in)" : "");
        free(l->ref);
        free(l->id);
        free(l->created);
    }
    free(x.v);
    strv_done(&x.named);
    return fail_or(&c, r, &e);
}

/* --- inspect, history --------------------------------------------------------------------------
 */

static int find(struct cli_ctx *c, const char *name, struct image **ret, struct err *e) {
    int r = image_find(c->store, c->lease, name, ret, e);
    if (r == 0) {
        r = err_set(e, ERR_NOTFOUND, -ENOENT, "no such image: %s", name);
        err_hint(e, r, "slipway image ls lists what is here");
    }
    return r < 0 ? r : 0;
}

static int inspect_one(struct cli_ctx *c, const char *name, struct json_w *w, struct err *e) {
    _cleanup_image_ struct image *i = NULL;
    _cleanup_buf_ struct buf config = BUF_MAX(8u << 20);
    int r = find(c, name, &i, e);
    if (r == 0)
        r = blob_read(c->store, i->id, &config, e);
    if (r < 0)
        return r;
    jw_obj(w);
    jw_kstr(w, "name", i->name);
    jw_kstr(w, "id", i->id);
    jw_kstr(w, "manifest", i->manifest[0] ? i->manifest : NULL);
    jw_kbool(w, "standin", i->standin);
    if (i->standin_note)
        jw_kstr(w, "standin_note", i->standin_note);
    jw_kint(w, "size", (int64_t)i->size);
    jw_key(w, "layers");
    jw_arr(w);
    for (size_t k = 0; k < i->layers.n; k++) {
        struct snap_info info = {0};
        (void)snap_get(c->store, i->layers.v[k], &info);
        jw_obj(w);
        jw_kstr(w, "diff_id", info.diff_id);
        jw_kstr(w, "snapshot", i->layers.v[k]);
        jw_kint(w, "size", (int64_t)info.size);
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_key(w, "config");
    jw_raw(w, buf_sv(&config));
    jw_end_obj(w);
    return 0;
}

static int image_inspect(int argc, char **argv) {
    const struct opts o =
        no_opts("image inspect NAME...",
                "Shows images as JSON: what slipway knows, and their configuration.");
    struct cli_ctx c;
    struct err e = {0};
    int n, k = opts_begin(&o, argc, argv, &n), r = 0;
    if (k >= 0)
        return k;
    if (n < 1) {
        err_set(&e, ERR_USER, -EINVAL, "image inspect needs the name of an image");
        return cli_fail(&e);
    }
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "image"})) >= 0)
        return k;
    _cleanup_buf_ struct buf b = BUF_LARGE;
    struct json_w w;
    jw_init(&w, &b, 2);
    jw_arr(&w);
    for (int i = 1; i <= n && r == 0; i++)
        r = inspect_one(&c, argv[i], &w, &e);
    jw_end_arr(&w);
    if (r == 0)
        puts(buf_str(&b));
    return fail_or(&c, r, &e);
}

static int image_history(int argc, char **argv) {
    bool full = false;
    const struct opt items[] = {{0, "no-trunc", OPT_FLAG, &full, NULL, "whole commands"}};
    const struct opts o = {"image history [options] NAME",
                           "Shows how an image was made, newest step first.", items,
                           ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    struct image *i = NULL;
    int n, k = opts_begin(&o, argc, argv, &n);
    if (k >= 0)
        return k;
    if (n != 1) {
        err_set(&e, ERR_USER, -EINVAL, "image history needs the name of one image");
        return cli_fail(&e);
    }
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "image"})) >= 0)
        return k;
    int r = find(&c, argv[1], &i, &e);
    size_t layer = i ? i->layers.n : 0;
    if (r == 0)
        printf("%-20s  %9s  %s\n", "CREATED", "SIZE", "STEP");
    for (size_t h = i ? i->config.n_history : 0; r == 0 && h-- > 0;) {
        const struct image_history *x = &i->config.history[h];
        _cleanup_buf_ struct buf size = BUF_SMALL;
        struct snap_info info = {0};
        if (!x->empty_layer && layer > 0)
            (void)snap_get(c.store, i->layers.v[--layer], &info);
        buf_add_size(&size, info.size);
        printf("%-20.19s  %9s  %.*s\n", x->created ? x->created : "", buf_str(&size),
               full ? INT32_MAX : 100, x->created_by ? x->created_by : "");
    }
    image_free(i);
    return fail_or(&c, r, &e);
}

/* --- tag, rm, save, load -----------------------------------------------------------------------
 */

static int image_tag_cmd(int argc, char **argv) {
    const struct opts o = no_opts("image tag NAME NEW-NAME", "Gives an image another name.");
    struct cli_ctx c;
    struct err e = {0};
    struct image *i = NULL;
    int n, k = opts_begin(&o, argc, argv, &n);
    if (k >= 0)
        return k;
    if (n != 2) {
        err_set(&e, ERR_USER, -EINVAL, "image tag needs an image and its new name");
        return cli_fail(&e);
    }
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "image"})) >= 0)
        return k;
    int r = find(&c, argv[1], &i, &e);
    if (r == 0)
        r = image_tag(c.store, i->id, argv[2], &e);
    image_free(i);
    return fail_or(&c, r, &e);
}

static int image_rm(int argc, char **argv) {
    bool force = false;
    const struct opt items[] = {
        {'f', "force", OPT_FLAG, &force, NULL, "by id also when it has several names"}};
    const struct opts o = {
        "image rm [options] NAME...",
        "Removes names, and with the last one the image. Space is freed by slipway prune.", items,
        ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    int n, k = opts_begin(&o, argc, argv, &n), r = 0;
    if (k >= 0)
        return k;
    if (n < 1) {
        err_set(&e, ERR_USER, -EINVAL, "image rm needs the name of an image");
        return cli_fail(&e);
    }
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "image"})) >= 0)
        return k;
    int code = 0;
    for (int i = 1; i <= n; i++) {
        struct strv said = {0};
        e = (struct err){0};
        r = image_remove(c.store, argv[i], force, &said, &e);
        for (size_t j = 0; j < said.n; j++)
            puts(said.v[j]);
        strv_done(&said);
        if (r < 0)
            code = cli_fail(&e);
    }
    cli_close(&c);
    return code;
}

static int image_save_cmd(int argc, char **argv) {
    const char *path = NULL;
    bool oci = false;
    const struct opt items[] = {
        {'o', "output", OPT_STR, &path, "FILE", "instead of the standard output"},
        {0, "oci", OPT_FLAG, &oci, NULL, "an OCI layout with compressed layers only"},
    };
    const struct opts o = {"image save [options] NAME...",
                           "Writes images to an archive that docker load, podman and skopeo read.",
                           items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    int n, k = opts_begin(&o, argc, argv, &n), fd = 1, r;
    if (k >= 0)
        return k;
    if (n < 1 || (!path && isatty(1))) {
        err_set(&e, ERR_USER, -EINVAL,
                n < 1 ? "image save needs the name of an image"
                      : "an archive is not for the terminal");
        err_hint(&e, -EINVAL, "slipway image save -o FILE NAME");
        return cli_fail(&e);
    }
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "image"})) >= 0)
        return k;
    _cleanup_free_ char *tmp = path ? xasprintf("%s.partial", path) : NULL;
    if (path)
        fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        r = err_errno(&e, -errno, "create %s", tmp);
    else
        r = image_save(c.store, c.lease, (const char *const *)(argv + 1), (size_t)n, oci, fd, &e);
    /* The name stands for a whole archive only. */
    if (path && fd >= 0) {
        if (close(fd) < 0 && r == 0)
            r = err_errno(&e, -errno, "write %s", path);
        if (r == 0 && rename(tmp, path) < 0)
            r = err_errno(&e, -errno, "write %s", path);
        if (r < 0)
            unlink(tmp);
    }
    return fail_or(&c, r, &e);
}

static int image_load_cmd(int argc, char **argv) {
    const char *path = NULL;
    bool quiet = false;
    const struct opt items[] = {
        {'i', "input", OPT_STR, &path, "FILE", "instead of the standard input"},
        {'q', "quiet", OPT_FLAG, &quiet, NULL, "do not print names"},
    };
    const struct opts o = {
        "image load [options]",
        "Reads images from an archive of docker save, podman save or an OCI layout.", items,
        ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    struct strv names = {0};
    int n, k = opts_begin(&o, argc, argv, &n), fd = 0, r = 0;
    if (k >= 0)
        return k;
    if (n > 0 || (!path && isatty(0))) {
        err_set(&e, ERR_USER, -EINVAL,
                "image load reads an archive from -i FILE or the standard input");
        return cli_fail(&e);
    }
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "image"})) >= 0)
        return k;
    if (path && (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        r = err_set(&e, ERR_USER, -errno, "open %s: %s", path, strerror(errno));
    if (r == 0)
        r = image_load(c.store, c.lease, fd, &names, &e);
    for (size_t i = 0; i < names.n && r == 0 && !quiet; i++)
        printf("Loaded: %s\n", names.v[i]);
    strv_done(&names);
    if (path)
        fd_close(fd);
    return fail_or(&c, r, &e);
}

static const struct {
    const char *name, *about;
    int (*fn)(int, char **);
} subs[] = {
    {"ls", "list images", image_ls},
    {"inspect", "show images as JSON", image_inspect},
    {"history", "show how an image was made", image_history},
    {"tag", "give an image another name", image_tag_cmd},
    {"rm", "remove images", image_rm},
    {"save", "write images to an archive", image_save_cmd},
    {"load", "read images from an archive", image_load_cmd},
};

int cmd_image(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "--help";
    for (size_t i = 0; i < ELEMENTS(subs); i++)
        if (streq(subs[i].name, name))
            return subs[i].fn(argc - 1, argv + 1);
    if (streq(name, "--help") || streq(name, "-h")) {
        puts("usage: slipway image COMMAND [options]\n");
        for (size_t i = 0; i < ELEMENTS(subs); i++)
            printf("  %-10s %s\n", subs[i].name, subs[i].about);
        return argc > 1 ? 0 : 2;
    }
    struct err e = {0};
    err_set(&e, ERR_USER, -EINVAL, "no such command: image %s", name);
    err_hint(&e, -EINVAL, "slipway image --help lists the commands");
    return cli_fail(&e);
}
