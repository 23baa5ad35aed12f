/* slipway image diff: what is different between two images. */
#include "cli/cmd_image.h"

#include "image/files.h"

struct diff {
    bool json, files, packages, config; /* what is wanted */
    struct json_w *w;
    size_t n;
    uint64_t added, removed; /* bytes */
};

/* One difference: kind "file", "package", "config"; was or is may be NULL. */
static void tell(struct diff *d, const char *kind, const char *name, const char *was, const char *is, const char *why) {
    d->n++;
    if (d->json) {
        jw_obj(d->w);
        jw_kstr(d->w, "kind", kind);
        jw_kstr(d->w, "name", name);
        jw_kstr(d->w, "change", !was ? "added" : !is ? "removed" : "changed");
        jw_kstr(d->w, "was", was);
        jw_kstr(d->w, "is", is);
        if (why)
            jw_kstr(d->w, "what", why);
        jw_end_obj(d->w);
    } else if (was && is) {
        printf("~ %s: %s -> %s%s%s%s\n", name, was, is, why ? "  (" : "", why ? why : "", why ? ")" : "");
    } else {
        printf("%c %s%s%s\n", was ? '-' : '+', name, *(was ? was : is) ? ": " : "", was ? was : is);
    }
}

static void head(struct diff *d, const char *what) {
    if (!d->json)
        printf("%s:\n", what);
}

/* --- files --------------------------------------------------------------------------------- */

static void describe(const struct image_file *f, struct buf *b) {
    if (f->type == 'f') {
        buf_add_size(b, f->size);
        buf_addf(b, " %04o", f->mode);
    } else if (f->link) {
        buf_addf(b, "%s %s", f->type == 'l' ? "link to" : "the same as", f->link);
    } else {
        buf_addf(b, "%s %04o", f->type == 'd' ? "folder" : "special file", f->mode);
    }
    if (f->uid || f->gid)
        buf_addf(b, " %llu:%llu", (unsigned long long)f->uid, (unsigned long long)f->gid);
}

static void why_changed(const struct image_file *a, const struct image_file *b, struct buf *why) {
    if (a->type != b->type)
        buf_adds(why, "type");
    else if (a->type == 'f' && (a->size != b->size || memcmp(a->digest, b->digest, sizeof a->digest) != 0))
        buf_adds(why, "content");
    else if (!streq0(a->link ? a->link : "", b->link ? b->link : ""))
        buf_adds(why, "target");
    if (a->type == b->type && a->mode != b->mode && a->type != 'l')
        buf_addf(why, "%smode", why->n ? ", " : "");
    if (a->uid != b->uid || a->gid != b->gid)
        buf_addf(why, "%sowner", why->n ? ", " : "");
}

static void one_file(struct diff *d, const struct image_file *a, const struct image_file *b) {
    _cleanup_buf_ struct buf was = BUF_SMALL, is = BUF_SMALL, why = BUF_SMALL;
    if (a && b) {
        why_changed(a, b, &why);
        if (!why.n)
            return;
    }
    if (a)
        describe(a, &was);
    if (b)
        describe(b, &is);
    d->removed += a ? a->size : 0;
    d->added += b ? b->size : 0;
    tell(d, "file", (a ? a : b)->path, a ? buf_str(&was) : NULL, b ? buf_str(&is) : NULL, a && b ? buf_str(&why) : NULL);
}

static void diff_files(struct diff *d, const struct image_files *a, const struct image_files *b) {
    head(d, "files");
    for (size_t i = 0, k = 0; i < a->n || k < b->n;) {
        int c = i == a->n ? 1 : k == b->n ? -1 : strcmp(a->v[i]->path, b->v[k]->path);
        one_file(d, c <= 0 ? a->v[i] : NULL, c >= 0 ? b->v[k] : NULL);
        i += c <= 0;
        k += c >= 0;
    }
}

/* --- packages ------------------------------------------------------------------------------ */

/* "deb openssl 3.0.11" cut before the version; malloc. */
static char *package(const char *line, const char **ret_version) {
    const char *kind = strchr(line, ' '), *version = kind ? strchr(kind + 1, ' ') : NULL;
    *ret_version = version ? version + 1 : "";
    return xstrndup(line, version ? (size_t)(version - line) : strlen(line));
}

static void diff_packages(struct diff *d, const struct strv *a, const struct strv *b) {
    head(d, "packages");
    for (size_t i = 0, k = 0; i < a->n || k < b->n;) {
        const char *va = "", *vb = "";
        _cleanup_free_ char *na = i < a->n ? package(a->v[i], &va) : NULL, *nb = k < b->n ? package(b->v[k], &vb) : NULL;
        int c = !na ? 1 : !nb ? -1 : strcmp(na, nb);
        if (c != 0 || !streq(va, vb))
            tell(d, "package", c <= 0 ? na : nb, c <= 0 ? va : NULL, c >= 0 ? vb : NULL, NULL);
        i += c <= 0;
        k += c >= 0;
    }
}

/* --- configuration ------------------------------------------------------------------------- */

static void diff_text(struct diff *d, const char *name, const char *a, const char *b) {
    a = a && *a ? a : NULL;
    b = b && *b ? b : NULL;
    if ((a || b) && !streq0(a, b))
        tell(d, "config", name, a, b, NULL);
}

static void diff_list(struct diff *d, const char *name, const struct strv *a, const struct strv *b) {
    _cleanup_buf_ struct buf x = BUF_LARGE, y = BUF_LARGE;
    const struct strv *v[2] = {a, b};
    struct buf *to[2] = {&x, &y};
    for (size_t i = 0; i < 2; i++) {
        struct json_w w;
        jw_init(&w, to[i], 0);
        jw_arr(&w);
        for (size_t k = 0; k < v[i]->n; k++)
            jw_str(&w, v[i]->v[k]);
        jw_end_arr(&w);
    }
    diff_text(d, name, a->n ? buf_str(&x) : NULL, b->n ? buf_str(&y) : NULL);
}

/* Sets of "key=value" or keys: entry by entry. */
static void diff_set(struct diff *d, const char *name, const struct strv *a, const struct strv *b) {
    for (int side = 0; side < 2; side++) {
        const struct strv *mine = side ? b : a, *other = side ? a : b;
        for (size_t i = 0; i < mine->n; i++) {
            size_t n = strcspn(mine->v[i], "=");
            _cleanup_free_ char *key = xstrndup(mine->v[i], n), *full = xasprintf("%s %s", name, key);
            const char *value = mine->v[i][n] ? mine->v[i] + n + 1 : NULL, *was = strv_env_get(other, key);
            bool there = was || strv_contains(other, mine->v[i]);
            if (!there)
                tell(d, "config", full, side ? NULL : value ? value : "", side ? value ? value : "" : NULL, NULL);
            else if (!side && was && value && !streq(was, value))
                tell(d, "config", full, value, was, NULL);
        }
    }
}

static void health_text(const struct image_health *h, struct buf *b) {
    struct json_w w;
    if (!h->given)
        return;
    jw_init(&w, b, 0);
    jw_obj(&w);
    jw_key(&w, "test");
    jw_arr(&w);
    for (size_t i = 0; i < h->test.n; i++)
        jw_str(&w, h->test.v[i]);
    jw_end_arr(&w);
    jw_kint(&w, "interval", (int64_t)h->interval_ns);
    jw_kint(&w, "timeout", (int64_t)h->timeout_ns);
    jw_kint(&w, "start_period", (int64_t)h->start_period_ns);
    jw_kint(&w, "retries", h->retries);
    jw_end_obj(&w);
}

static void diff_config(struct diff *d, const struct image_config *a, const struct image_config *b) {
    _cleanup_buf_ struct buf ha = BUF_LARGE, hb = BUF_LARGE;
    head(d, "configuration");
    diff_text(d, "os", a->os, b->os);
    diff_text(d, "architecture", a->architecture, b->architecture);
    diff_text(d, "variant", a->variant, b->variant);
    diff_text(d, "created", a->created, b->created);
    diff_text(d, "author", a->author, b->author);
    diff_text(d, "user", a->user, b->user);
    diff_text(d, "workdir", a->workdir, b->workdir);
    diff_text(d, "stopsignal", a->stopsignal, b->stopsignal);
    diff_list(d, "entrypoint", &a->entrypoint, &b->entrypoint);
    diff_list(d, "cmd", &a->cmd, &b->cmd);
    diff_list(d, "shell", &a->shell, &b->shell);
    diff_list(d, "onbuild", &a->onbuild, &b->onbuild);
    diff_set(d, "env", &a->env, &b->env);
    diff_set(d, "label", &a->labels, &b->labels);
    diff_set(d, "port", &a->exposed, &b->exposed);
    diff_set(d, "volume", &a->volumes, &b->volumes);
    health_text(&a->health, &ha);
    health_text(&b->health, &hb);
    diff_text(d, "healthcheck", ha.n ? buf_str(&ha) : NULL, hb.n ? buf_str(&hb) : NULL);
}

/* --- all ----------------------------------------------------------------------------------- */

static int diff_images(struct cli_ctx *c, struct diff *d, const struct image *const i[2], struct err *e) {
    struct image_files f[2] = {{0}, {0}};
    unsigned what = (d->files ? FILES_DIGESTS : 0) | (d->packages ? FILES_PACKAGES : 0);
    int r = 0;
    for (int k = 0; k < 2 && r == 0 && what; k++)
        r = image_files_read(c->store, i[k], what, &f[k], e);
    if (r == 0 && d->config)
        diff_config(d, &i[0]->config, &i[1]->config);
    if (r == 0 && d->packages)
        diff_packages(d, &f[0].packages, &f[1].packages);
    if (r == 0 && d->files)
        diff_files(d, &f[0], &f[1]);
    for (int k = 0; k < 2; k++)
        image_files_done(&f[k]);
    return r;
}

int image_diff(int argc, char **argv) {
    struct diff d = {0};
    bool fail = false;
    const struct opt items[] = {
        {0, "files", OPT_FLAG, &d.files, NULL, "files only"},
        {0, "packages", OPT_FLAG, &d.packages, NULL, "packages only (Debian's, Alpine's, Python's)"},
        {0, "config", OPT_FLAG, &d.config, NULL, "the configuration only"},
        {0, "json", OPT_FLAG, &d.json, NULL, "as one JSON list"},
        {0, "exit-code", OPT_FLAG, &fail, NULL, "end with 1 when there is a difference"},
    };
    const struct opts o = {"image diff [options] OLD NEW",
                           "Tells what is different between two images. Times of files do not count.", items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    struct image *i[2] = {NULL, NULL};
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 30);
    struct json_w w;
    int n, k = image_cmd_begin(&o, argc, argv, 2, 2, &c, &n);
    if (k >= 0)
        return k;
    if (!d.files && !d.packages && !d.config)
        d.files = d.packages = d.config = true;
    jw_init(&w, &b, 0);
    jw_arr(&w);
    d.w = &w;
    int r = image_cmd_find(&c, argv[1], &i[0], &e);
    if (r == 0)
        r = image_cmd_find(&c, argv[2], &i[1], &e);
    if (r == 0)
        r = diff_images(&c, &d, (const struct image *const *)i, &e);
    jw_end_arr(&w);
    if (r == 0 && d.json) {
        puts(buf_str(&b));
    } else if (r == 0 && d.files) {
        _cleanup_buf_ struct buf x = BUF_SMALL, y = BUF_SMALL;
        buf_add_size(&x, d.added);
        buf_add_size(&y, d.removed);
        printf("%zu differences; files: %s came, %s went\n", d.n, buf_str(&x), buf_str(&y));
    }
    image_free(i[0]);
    image_free(i[1]);
    r = image_cmd_end(&c, r, &e);
    return r ? r : fail && d.n ? 1 : 0;
}
