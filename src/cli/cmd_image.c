/* slipway image: what the store has. */
#include "cli/cmd_image.h"
#include "cli/commands.h"

#include <fcntl.h>

int cmd_image(int argc, char **argv);

/* --- what the commands share --------------------------------------------------------------- */

int image_cmd_begin(const struct opts *o, int argc, char **argv, int min, int max, struct cli_ctx *c, int *ret_n) {
    struct err e = {0};
    int k = opts_begin(o, argc, argv, ret_n);
    if (k >= 0)
        return k;
    if (*ret_n < min || (max >= 0 && *ret_n > max)) {
        err_set(&e, ERR_USER, -EINVAL, *ret_n < min ? "%s: a name is missing" : "%s: too many names", argv[0]);
        err_hint(&e, -EINVAL, "slipway %s", o->usage);
        return cli_fail(&e);
    }
    return cli_begin(c, &(struct cli_ctx_options){.what = "image"});
}

int image_cmd_end(struct cli_ctx *c, int r, const struct err *e) {
    cli_close(c);
    return r < 0 ? cli_fail(e) : 0;
}

int image_cmd_find(struct cli_ctx *c, const char *name, struct image **ret, struct err *e) {
    int r = image_find(c->store, c->lease, name, ret, e);
    if (r == 0) {
        r = err_set(e, ERR_NOTFOUND, -ENOENT, "no such image: %s", name);
        err_hint(e, r, "slipway image ls lists what is here");
    }
    return r < 0 ? r : 0;
}

int image_cmd_output(struct image_output *o, const char *path, struct err *e) {
    *o = (struct image_output){.path = path, .fd = 1};
    if (!path && isatty(1)) {
        err_set(e, ERR_USER, -EINVAL, "an archive is not for the terminal");
        return err_hint(e, -EINVAL, "name a file with -o");
    }
    if (!path)
        return 1;
    o->tmp = xasprintf("%s.partial", path);
    o->fd = open(o->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (o->fd < 0) {
        int r = err_errno(e, -errno, "create %s", o->tmp);
        free(o->tmp);
        o->tmp = NULL;
        return r;
    }
    return o->fd;
}

/* The name stands for a whole archive only. */
int image_cmd_output_done(struct image_output *o, int r, struct err *e) {
    if (!o->tmp)
        return r;
    if (close(o->fd) < 0 && r >= 0)
        r = err_errno(e, -errno, "write %s", o->path);
    if (r >= 0 && rename(o->tmp, o->path) < 0)
        r = err_errno(e, -errno, "write %s", o->path);
    if (r < 0)
        unlink(o->tmp);
    free(o->tmp);
    return r;
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
    int n, k = image_cmd_begin(&o, argc, argv, 0, 1, &c, &n);
    if (k >= 0)
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
    return image_cmd_end(&c, r, &e);
}

/* --- tag, rm -----------------------------------------------------------------------
 */

static int image_tag_cmd(int argc, char **argv) {
    const struct opts o = {.usage = "image tag NAME NEW-NAME", .about = "Gives an image another name."};
    struct cli_ctx c;
    struct err e = {0};
    struct image *i = NULL;
    int n, k = image_cmd_begin(&o, argc, argv, 2, 2, &c, &n);
    if (k >= 0)
        return k;
    int r = image_cmd_find(&c, argv[1], &i, &e);
    if (r == 0)
        r = image_tag(c.store, i->id, argv[2], &e);
    image_free(i);
    return image_cmd_end(&c, r, &e);
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
    int n, k = image_cmd_begin(&o, argc, argv, 1, -1, &c, &n), r;
    if (k >= 0)
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

static const struct {
    const char *name, *about;
    int (*fn)(int, char **);
} subs[] = {
    {"ls", "list images", image_ls},
    {"inspect", "show images as JSON", image_inspect},
    {"history", "show how an image was made, and what each step costs", image_history},
    {"diff", "compare two images: files, packages, configuration", image_diff},
    {"copy", "copy an image between registries, all platforms", image_copy_cmd},
    {"tag", "give an image another name", image_tag_cmd},
    {"rm", "remove images", image_rm},
    {"save", "write images to an archive", image_save_cmd},
    {"load", "read images from an archive", image_load_cmd},
    {"export", "write an image's files as one tar", image_export_cmd},
    {"import", "make an image of a tar of files", image_import_cmd},
    {"mount", "run a command that sees an image's files", image_mount_cmd},
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
