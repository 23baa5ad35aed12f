/* slipway image inspect, history. */
#include "cli/cmd_image.h"

#include "image/files.h"

/* --- inspect ------------------------------------------------------------------------------- */

static int inspect_one(struct cli_ctx *c, const struct image *i, struct json_w *w, struct err *e) {
    _cleanup_buf_ struct buf config = BUF_MAX(8u << 20);
    int r = blob_read(c->store, i->id, &config, e);
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

/* "{{.a.b}}" and "{{json .a.b}}" in a text; a text comes without its quotes, unless by json. */
static int put_format(const struct json *doc, const char *format, struct buf *out, struct err *e) {
    struct sv rest = sv_from(format);
    for (ssize_t at; (at = sv_find(rest, SV("{{"))) >= 0;) {
        buf_addsv(out, sv_sub(rest, 0, (size_t)at));
        rest = sv_sub(rest, (size_t)at + 2, rest.n);
        ssize_t end = sv_find(rest, SV("}}"));
        struct sv what = end < 0 ? SV_NULL : sv_trim(sv_sub(rest, 0, (size_t)end));
        bool as_json = sv_starts(what, "json ");
        if (as_json)
            what = sv_trim(sv_sub(what, 5, what.n));
        if (end < 0 || !sv_starts(what, "."))
            return err_set(e, ERR_USER, -EINVAL, "--format: only {{.a.b}} and {{json .a.b}} are known");
        _cleanup_free_ char *path = sv_dup(sv_sub(what, 1, what.n));
        const struct json *j = *path ? json_path(doc, path) : doc;
        if (!j)
            return err_set(e, ERR_USER, -ENOENT, "--format: the image has no .%s", path);
        if (j->kind == JSON_STRING && !as_json) {
            buf_addsv(out, j->text);
        } else {
            struct json_w w;
            jw_init(&w, out, 0);
            jw_json(&w, j);
        }
        rest = sv_sub(rest, (size_t)end + 2, rest.n);
    }
    buf_addsv(out, rest);
    return 0;
}

struct inspect {
    bool raw, config;
    const char *format;
};

static int inspect_as(struct cli_ctx *c, const struct inspect *x, const struct image *i, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_LARGE, out = BUF_LARGE;
    _cleanup_arena_ struct arena a = {0};
    struct json *doc;
    struct json_w w;
    char digest[DIGEST_LEN + 1];
    int r;
    if (x->raw) /* the manifest as it was pulled, or as a push would send it */
        r = i->manifest[0] && blob_has(c->store, i->manifest) ? blob_read(c->store, i->manifest, &out, e)
                                                             : image_export(c->store, c->lease, i->id, false, NULL, digest, &out, NULL, e);
    else if (x->config)
        r = blob_read(c->store, i->id, &out, e);
    else {
        jw_init(&w, &b, 0);
        r = inspect_one(c, i, &w, e);
        if (r == 0)
            r = json_parse(&a, buf_sv(&b), &doc, e);
        if (r == 0)
            r = put_format(doc, x->format, &out, e);
    }
    if (r < 0)
        return r;
    if (x->format)
        buf_addc(&out, '\n');
    fwrite(buf_str(&out), 1, out.n, stdout);
    return 0;
}

int image_inspect(int argc, char **argv) {
    struct inspect x = {0};
    const struct opt items[] = {
        {0, "raw", OPT_FLAG, &x.raw, NULL, "the manifest, byte for byte"},
        {0, "config", OPT_FLAG, &x.config, NULL, "the configuration, byte for byte"},
        {'f', "format", OPT_STR, &x.format, "TEXT", "a text with {{.config.config.Env}} in it"},
    };
    const struct opts o = {"image inspect [options] NAME…", "Shows images as JSON: what slipway knows, and their configuration.",
                           items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    int n, k = image_cmd_begin(&o, argc, argv, 1, -1, &c, &n), r = 0;
    if (k >= 0)
        return k;
    _cleanup_buf_ struct buf b = BUF_LARGE;
    struct json_w w;
    jw_init(&w, &b, 2);
    jw_arr(&w);
    for (int i = 1; i <= n && r == 0; i++) {
        _cleanup_image_ struct image *img = NULL;
        r = image_cmd_find(&c, argv[i], &img, &e);
        if (r == 0)
            r = x.raw || x.config || x.format ? inspect_as(&c, &x, img, &e) : inspect_one(&c, img, &w, &e);
    }
    jw_end_arr(&w);
    if (r == 0 && !x.raw && !x.config && !x.format)
        puts(buf_str(&b));
    return image_cmd_end(&c, r, &e);
}

/* --- history ------------------------------------------------------------------------------- */

static void size_cell(uint64_t n, const char *none) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    if (n || !none)
        buf_add_size(&b, n);
    else
        buf_adds(&b, none);
    printf("  %10s", buf_str(&b));
}

static void history_line(const struct image_history *h, const struct layer_cost *cost, bool full) {
    printf("%-20.19s", h && h->created ? h->created : "");
    size_cell(cost ? cost->bytes : 0, NULL);
    size_cell(cost ? cost->lost_bytes : 0, "");
    printf("  %.*s\n", full ? INT32_MAX : 100, h && h->created_by ? h->created_by : h && h->comment ? h->comment : "");
}

static void history_json(const struct image_history *h, const struct layer_cost *cost, const char *diff_id) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "created", h ? h->created : NULL);
    jw_kstr(&w, "created_by", h ? h->created_by : NULL);
    jw_kstr(&w, "comment", h ? h->comment : NULL);
    jw_kstr(&w, "diff_id", diff_id);
    const struct {
        const char *name;
        uint64_t v;
    } v[] = {{"bytes", cost ? cost->bytes : 0}, {"files", cost ? cost->files : 0}, {"lost_bytes", cost ? cost->lost_bytes : 0},
             {"lost_files", cost ? cost->lost_files : 0}, {"whiteouts", cost ? cost->whiteouts : 0}};
    for (size_t i = 0; i < ELEMENTS(v); i++) {
        jw_key(&w, v[i].name);
        jw_uint(&w, v[i].v);
    }
    jw_end_obj(&w);
    puts(buf_str(&b));
}

/* Newest first; layers that the history does not tell of come first, without words. */
static void print_history(const struct image *i, const struct image_files *f, bool full, bool json) {
    size_t layer = i->layers.n, told = 0;
    for (size_t h = 0; h < i->config.n_history; h++)
        told += !i->config.history[h].empty_layer;
    for (; layer > told; layer--)
        json ? history_json(NULL, &f->layers[layer - 1], i->config.diff_ids.v[layer - 1])
             : history_line(NULL, &f->layers[layer - 1], full);
    for (size_t h = i->config.n_history; h-- > 0;) {
        const struct image_history *x = &i->config.history[h];
        const struct layer_cost *cost = x->empty_layer || !layer ? NULL : &f->layers[layer - 1];
        const char *diff_id = cost ? i->config.diff_ids.v[layer - 1] : NULL;
        layer -= cost != NULL;
        json ? history_json(x, cost, diff_id) : history_line(x, cost, full);
    }
}

int image_history(int argc, char **argv) {
    bool full = false, json = false;
    const struct opt items[] = {{0, "no-trunc", OPT_FLAG, &full, NULL, "whole commands"},
                                {0, "json", OPT_FLAG, &json, NULL, "one JSON object per step"}};
    const struct opts o = {"image history [options] NAME",
                           "Shows how an image was made, newest step first: what each step's layer costs, and what of\n"
                           "that a later layer deletes or replaces again (LOST: it is pulled and never seen).", items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    _cleanup_image_ struct image *i = NULL;
    _cleanup_files_ struct image_files f = {0};
    int n, k = image_cmd_begin(&o, argc, argv, 1, 1, &c, &n);
    if (k >= 0)
        return k;
    int r = image_cmd_find(&c, argv[1], &i, &e);
    if (r == 0)
        r = image_files_read(c.store, i, 0, &f, &e);
    if (r < 0)
        return image_cmd_end(&c, r, &e);
    if (!json)
        printf("%-20s  %10s  %10s  %s\n", "CREATED", "SIZE", "LOST", "STEP");
    print_history(i, &f, full, json);
    uint64_t all = 0, lost = 0;
    for (size_t l = 0; l < f.n_layers; l++) {
        all += f.layers[l].bytes;
        lost += f.layers[l].lost_bytes;
    }
    if (!json && lost) {
        _cleanup_buf_ struct buf a = BUF_SMALL, b = BUF_SMALL;
        buf_add_size(&a, lost);
        buf_add_size(&b, all);
        printf("%s of %s are deleted or replaced by later layers\n", buf_str(&a), buf_str(&b));
    }
    return image_cmd_end(&c, 0, &e);
}
