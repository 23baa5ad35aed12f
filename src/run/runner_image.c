/* A label leads to an image or to a Dockerfile. What a Dockerfile came to is recorded with the digest
 * of its text and the id of its base, so that a job's start costs three look-ups; when either has
 * changed the builder is asked, whose own cache does the rest. */
#include "run/runner_image.h"

#include "base/hostenv.h"
#include "build/build.h"
#include "build/dockerfile.h"
#include "core/fs.h"
#include "core/json.h"

/* Releases without an image of their own get the nearest one: workflows outlive them. The job's line
 * names the image that it was. */
static const char *const labels[][2] = {
    {"ubuntu-latest", "ubuntu-24.04"}, {"ubuntu-24.04", "ubuntu-24.04"}, {"ubuntu-22.04", "ubuntu-22.04"},
    {"ubuntu-20.04", "ubuntu-22.04"},  {"ubuntu-18.04", "ubuntu-22.04"}, {"ubuntu-16.04", "ubuntu-22.04"},
    {"ubuntu-26.04", "ubuntu-24.04"},  {"ubuntu-slim", "ubuntu-24.04"}};

static const char *mapped(const char *label, const struct strv *map) {
    size_t n = strlen(label);
    for (size_t i = 0; map && i < map->n; i++)
        if (strncasecmp(map->v[i], label, n) == 0 && map->v[i][n] == '=')
            return map->v[i] + n + 1;
    return NULL;
}

static const char *shipped(const char *label) {
    for (size_t i = 0; i < ELEMENTS(labels); i++)
        if (strcasecmp(label, labels[i][0]) == 0)
            return labels[i][1];
    return NULL;
}

bool runner_image_known(const char *label, const struct strv *map) {
    return mapped(label, map) || shipped(label);
}

/* A file rather than an image's name. */
static bool is_dockerfile(const char *v) {
    return v[0] == '.' || v[0] == '/' || endswith(v, "Dockerfile");
}

struct source {
    const char *name;           /* "ubuntu-24.04", or the file as the user wrote it */
    bool own;                   /* the user's */
    char *path;
    struct buf text;
    char digest[DIGEST_LEN + 1];
    char *base;                 /* reference, or NULL when it is not plain to see */
};

static void source_done(struct source *s) {
    free(s->path);
    free(s->base);
    buf_done(&s->text);
}

static char *base_of(const struct source *s) {
    struct diags d = {0};
    struct dockerfile *f = NULL;
    char *base = NULL;
    if (dockerfile_parse(s->path, buf_sv(&s->text), &f, &d) == 0) {
        const struct df_stage *st = &f->stages[f->n_stages - 1];
        if (!strchr(st->base.s, '$') && dockerfile_stage(f, st->base.s, st->index) < 0)
            base = xstrdup(st->base.s);
    }
    dockerfile_free(f);
    diags_done(&d);
    return base;
}

static int source_find(struct source *s, const char *label, const struct runner_image_options *o, struct err *e) {
    const char *own = mapped(label, o->map);
    s->text = BUF_MAX(1u << 20);
    if (own) {
        s->own = true;
        s->name = own;
        s->path = path_join(o->dir ? o->dir : ".", own);
    } else {
        s->name = shipped(label);
        if (!s->name)
            return err_set(e, ERR_NOTFOUND, -ENOENT, "there is no runner image for %s", label);
        _cleanup_free_ char *rel = xasprintf("runner/%s/Dockerfile", s->name);
        s->path = share_path(rel);
        if (!s->path)
            return err_set(e, ERR_ENV, -ENOENT, "slipway's own files are not installed: share/%s is missing", rel);
    }
    int r = fs_read(AT_FDCWD, s->path, &s->text, e);
    if (r < 0)
        return err_wrap(e, r, "runner image of %s", label);
    digest_of(s->text.p ? s->text.p : "", s->text.n, s->digest);
    s->base = base_of(s);
    return 0;
}

/* --- the record ------------------------------------------------------------------------------ */

static char *record_key(const struct source *s) {
    return s->own ? xasprintf("own %s", s->path) : xstrdup(s->name);
}

/* 1 = the image of an earlier build that still holds. */
static int remembered(struct store *s, struct lease *l, const struct source *src, const struct image *base,
                      struct image **ret) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    _cleanup_arena_ struct arena a = {0};
    _cleanup_free_ char *key = record_key(src);
    struct json *j;
    if (rec_get(s, "runner", key, &b) <= 0 || json_parse(&a, buf_sv(&b), &j, NULL) < 0)
        return 0;
    if (!streq(json_get_str(j, "dockerfile", ""), src->digest))
        return 0;
    if (base && !streq(json_get_str(j, "base", ""), base->id))
        return 0;
    /* A Dockerfile of one's own may copy files: the builder looks whether they changed. */
    if (src->own && memmem(src->text.p, src->text.n, "COPY", 4))
        return 0;
    return image_find(s, l, json_get_str(j, "id", "-"), ret, NULL) > 0;
}

static void remember(struct store *s, const struct source *src, const struct image *base, const char *id) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    _cleanup_free_ char *key = record_key(src);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "dockerfile", src->digest);
    jw_kstr(&w, "base", base ? base->id : "");
    jw_kstr(&w, "id", id);
    jw_end_obj(&w);
    (void)rec_put(s, "runner", key, buf_sv(&b), NULL);
}

/* --- building -------------------------------------------------------------------------------- */

struct progress {
    const struct image_progress *to;
    char name[200];
    struct buf log; /* the end of what the failing step said */
};

static void on_event(void *arg, const struct build_event *ev) {
    struct progress *p = arg;
    if (ev->kind == BUILD_LOG) {
        buf_addsv(&p->log, ev->log);
        if (p->log.n > 48u << 10)
            buf_cut(&p->log, 0, p->log.n - (32u << 10));
    }
    if (!p->to || !p->to->fn)
        return;
    if (ev->kind == BUILD_STEP_START) {
        buf_reset(&p->log);
        p->to->fn(p->to->arg, p->name, ev->name, 0, 0);
    } else if (ev->kind == BUILD_PROGRESS) {
        p->to->fn(p->to->arg, p->name, ev->name, ev->done, ev->total);
    }
}

static int build(struct store *s, struct lease *l, const struct source *src, const struct runner_image_options *o,
                 char id[DIGEST_LEN + 1], struct err *e) {
    struct progress p = {.to = o->progress, .log = BUF_MAX(128u << 10)};
    struct diags d = {0};
    struct build_result res;
    _cleanup_strv_ struct strv env = {0};
    _cleanup_free_ char *ca = o->no_host_env ? NULL : host_ca_bundle();
    _cleanup_free_ char *tag = xasprintf("localhost/slipway/runner:%s", src->name);
    _cleanup_free_ char *dir = path_dir(src->path);
    _cleanup_close_ int context = src->own ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    const char *const tags[] = {tag, NULL};
    snprintf(p.name, sizeof p.name, "runner image %.150s", src->name);
    if (!o->no_host_env)
        host_env(&env, ca ? BOX_CA_BUNDLE : NULL, NULL);
    struct build_request rq = {
        .context_fd = context, .context_name = src->own ? dir : "runner image", .dockerfile = src->own ? path_base(src->path) : src->name,
        .dockerfile_text = buf_sv(&src->text), .tags = src->own ? NULL : tags, .pulls = o->pulls, .ca_bundle = ca,
        .env_passthrough = (const char *const *)env.v, .source_date_epoch = -1, .event = on_event, .arg = &p, .cancel = o->cancel};
    int r = build_image(s, l, &rq, &res, &d, e);
    if (r == -EBADMSG && d.errors) {
        diags_sort(&d);
        for (size_t i = 0; i < d.n; i++)
            if (d.items[i].level == DIAG_ERROR) {
                err_set(e, ERR_CONFIG, r, "%s", d.items[i].msg);
                err_at(e, r, d.items[i].at);
                break;
            }
    } else if (r < 0) {
        struct sv tail = sv_rtrim(buf_sv(&p.log));
        size_t n = MIN(tail.n, 400u);
        if (n && e && !e->hint[0])
            err_hint(e, r, "it said: " SV_FMT, SV_ARG(sv_sub(tail, tail.n - n, n)));
    }
    diags_done(&d);
    buf_done(&p.log);
    if (r < 0)
        return err_wrap(e, r, "building the runner image %s", src->name);
    memcpy(id, res.id, sizeof res.id);
    return 0;
}

static int from_dockerfile(struct store *s, struct lease *l, const struct source *src, const struct runner_image_options *o,
                           struct image **ret, char **ret_note, struct err *e) {
    _cleanup_image_ struct image *base = NULL, *image = NULL;
    char id[DIGEST_LEN + 1];
    bool always = o->pulls && o->pulls->policy == PULL_ALWAYS;
    int r = 0;
    if (src->base)
        (void)image_find(s, l, src->base, &base, NULL);
    if (always || remembered(s, l, src, base, &image) <= 0) {
        _cleanup_free_ char *key = record_key(src), *lock_name = xasprintf("runner %s", key);
        _cleanup_free_ char *what = xasprintf("runner image %s: not here yet, is being built (once, some minutes)", src->name);
        if (o->progress && o->progress->fn)
            o->progress->fn(o->progress->arg, src->name, what, 0, 0);
        _cleanup_close_ int lock = store_key_lock(s, lock_name); /* two jobs that start at once build once */
        r = build(s, l, src, o, id, e);
        if (r == 0) {
            image_free(base);
            base = NULL;
            if (src->base)
                (void)image_find(s, l, src->base, &base, NULL);
            remember(s, src, base, id);
            r = image_find(s, l, id, &image, e);
            r = r == 0 ? err_set(e, ERR_INTERNAL, -ENOENT, "the runner image %s is gone again", src->name) : MIN(r, 0);
        }
    }
    if (r < 0)
        return r;
    if (base && base->standin)
        *ret_note = xasprintf("runner image %s on a stand-in of %s", src->name, src->base);
    else
        *ret_note = xasprintf("runner image %s", src->name);
    *ret = TAKE(image);
    return 0;
}

int runner_image_get(struct store *s, struct lease *l, const char *label, const struct runner_image_options *o,
                     struct image **ret, char **ret_note, struct err *e) {
    const char *own = mapped(label, o->map);
    if (own && !is_dockerfile(own)) {
        struct pull_options p = o->pulls ? *o->pulls : (struct pull_options){0};
        p.progress = o->progress ? o->progress : p.progress;
        int r = image_get(s, l, own, &p, ret, e);
        if (r < 0)
            return err_wrap(e, r, "runner image of %s", label);
        *ret_note = xasprintf("runner image %s%s", own, (*ret)->standin ? " (a stand-in)" : "");
        return 0;
    }
    _cleanup_(source_done) struct source src = {0};
    int r = source_find(&src, label, o, e);
    return r < 0 ? r : from_dockerfile(s, l, &src, o, ret, ret_note, e);
}
