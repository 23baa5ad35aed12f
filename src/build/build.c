/* A build from end to end: read the Dockerfile, find the base images, evaluate the stages that the
 * target needs into one graph, freeze the context, solve, write the configuration. */
#include "build/eval.h"
#include "build/cache_io.h"
#include "build/lint.h"
#include "box/net.h"
#include "core/loop.h"

#include <sys/utsname.h>

/* --- input ---------------------------------------------------------------------------------- */

static int read_in(struct build *b, const char *path, struct buf *out) {
    _cleanup_close_ int root = b->rq->context_tree ? tree_open(b->s, b->rq->context_tree) : -1;
    int dir = root >= 0 ? root : b->rq->context_fd;
    if (dir < 0)
        return -ENOENT;
    _cleanup_close_ int fd = fs_open_in(dir, path, O_RDONLY | O_NONBLOCK, 0, 0);
    struct stat st;
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -EISDIR;
    return fs_read_fd(fd, out);
}

static int read_dockerfile(struct build *b, struct err *e) {
    _cleanup_buf_ struct buf text = BUF_MAX(2u << 20);
    b->df_name = b->rq->dockerfile ? b->rq->dockerfile : "Dockerfile";
    struct sv t = b->rq->dockerfile_text;
    if (!t.p) {
        int r = read_in(b, b->df_name, &text);
        if (r < 0) {
            err_set(e, ERR_USER, r, "%s: %s", b->df_name, strerror(-r));
            return err_hint(e, r, "name it with -f");
        }
        t = buf_sv(&text);
    }
    return dockerfile_parse(b->df_name, t, &b->df, b->d);
}

/* <Dockerfile>.dockerignore wins over .dockerignore. The text stays for the context's name. */
static int read_ignore(struct build *b) {
    _cleanup_buf_ struct buf text = BUF_MAX(2u << 20);
    _cleanup_free_ char *own = xasprintf("%s.dockerignore", b->df_name);
    const char *name = own;
    int r = 0;
    if (b->rq->ignore_text.p)
        buf_addsv(&text, b->rq->ignore_text);
    else
        r = read_in(b, own, &text);
    if (r < 0) {
        name = ".dockerignore";
        buf_reset(&text);
        r = read_in(b, name, &text);
    }
    if (r < 0)
        return 0;
    b->ignore_text = arena_sv(&b->arena, buf_sv(&text));
    return ignore_parse(&b->ignore, name, b->ignore_text, b->d);
}

static void read_args(struct build *b) {
    for (const char *const *a = b->rq->build_args; a && *a; a++) {
        size_t n = strcspn(*a, "=");
        char *key = arena_strndup(&b->arena, *a, n);
        const char *v = (*a)[n] ? *a + n + 1 : getenv(key);
        if (v && n)
            map_sets(&b->build_args, key, arena_strdup(&b->arena, v));
    }
}

/* The build argument wins over the environment's. */
static int read_epoch(struct build *b, struct err *e) {
    const char *text = map_gets(&b->build_args, "SOURCE_DATE_EPOCH");
    uint64_t v;
    b->epoch = b->rq->source_date_epoch;
    if (!text || !*text)
        return 0;
    if (sv_u64(sv_from(text), INT32_MAX * 100ull, &v) < 0)
        return err_set(e, ERR_USER, -EINVAL, "invalid SOURCE_DATE_EPOCH: %s", text);
    b->epoch = (int64_t)v;
    return 0;
}

static int read_platform(struct build *b, struct err *e) {
    struct utsname u;
    uname(&u);
    if (platform_parse(streq(u.machine, "armv7l") ? "arm" : streq(u.machine, "i686") ? "386" : u.machine, &b->native) < 0)
        return err_set(e, ERR_ENV, -ENOTSUP, "a processor that images have no name for: %s", u.machine);
    b->platform = b->native;
    if (b->rq->platform && platform_parse(b->rq->platform, &b->platform) < 0)
        return err_hint(e, err_set(e, ERR_USER, -EINVAL, "\"%s\" is no platform", b->rq->platform), "such as linux/arm64");
    return 0;
}

/* --- output --------------------------------------------------------------------------------- */

static void history_add(struct image_config *c, const char *created, const char *by, bool empty) {
    c->history = xrealloc(c->history, (c->n_history + 1) * sizeof *c->history);
    c->history[c->n_history++] = (struct image_history){.created = xstrdup(created), .created_by = xstrdup(by),
                                                        .comment = xstrdup("slipway.dockerfile.v1"), .empty_layer = empty};
}

/* The time of the first layer that this build made, for what stands before it. */
static int64_t first_time(const struct stage *st) {
    for (size_t i = 0; i < st->n_history; i++)
        if (st->history[i].v)
            return st->history[i].v->created;
    return 0;
}

static int layers_digest(struct build *b, struct stage *st, struct image_config *c, struct strv *snaps, struct err *e) {
    const struct vertex *base = st->last;
    while (base && base->kind != V_BASE)
        base = base->parent;
    if (base)
        strv_extend(snaps, (const char *const *)base->image->layers.v);
    for (size_t i = 0; i < st->n_history; i++) {
        struct vertex *v = st->history[i].v;
        uint64_t size;
        if (!v || !v->snap[0])
            continue;
        int r = v->diff_id[0] ? 0 : layer_diff_id(b->s, v->snap, v->diff_id, &size, e);
        if (r < 0)
            return err_wrap(e, r, "%s", v->name);
        strv_add(snaps, v->snap);
        strv_add(&c->diff_ids, v->diff_id);
    }
    return 0;
}

/* Results of steps for a cache. Only the target's own layers when the image carries it. */
static void cache_collect(struct build *b, struct stage *st, struct cache_out *o, const struct strv *image_snaps) {
    for (size_t i = 0; i < b->n_vertices; i++) {
        const struct vertex *v = b->vertices[i];
        if (v->kind == V_BASE || v->state != V_DONE || !v->key.id[0] || (image_snaps && !v->on_target))
            continue;
        if (!v->snap[0]) {
            strv_addf(&o->records, "{\"key\":\"%s\",\"created\":%lld,\"empty\":true}", v->key.id, (long long)v->created);
            continue;
        }
        const struct strv *snaps = image_snaps ? image_snaps : &o->snaps;
        size_t at = 0;
        while (at < snaps->n && !streq(snaps->v[at], v->snap))
            at++;
        if (at == snaps->n && image_snaps)
            continue;
        if (at == snaps->n)
            strv_add(&o->snaps, v->snap);
        strv_addf(&o->records, "{\"key\":\"%s\",\"result\":\"%s\",\"created\":%lld,\"layer\":%zu}", v->key.id, v->result, (long long)v->created, at);
    }
}

static void cache_label(struct build *b, struct stage *st, struct image_config *c, const struct strv *snaps) {
    struct cache_out o = {{0}};
    _cleanup_buf_ struct buf t = BUF_MAX(16u << 20);
    cache_collect(b, st, &o, snaps);
    buf_addf(&t, "{\"version\":%d,\"records\":[", CACHE_VERSION);
    for (size_t i = 0; i < o.records.n; i++)
        buf_addf(&t, "%s%s", i ? "," : "", o.records.v[i]);
    buf_adds(&t, "]}");
    strv_env_set(&c->labels, CACHE_LABEL, buf_str(&t));
    cache_out_done(&o);
}

static int write_image(struct build *b, struct stage *st, struct build_result *ret, struct err *e) {
    struct image_config c = {0};
    _cleanup_strv_ struct strv snaps = {0};
    image_config_copy(&c, &st->config);
    int64_t at = first_time(st);
    char created[32];
    if (b->epoch >= 0)
        at = b->epoch;
    if (!at && c.created) /* configuration alone changed: as old as its base */
        snprintf(created, sizeof created, "%.31s", c.created);
    else
        format_time((uint64_t)at * 1000000000u, created);
    for (size_t i = 0; i < st->n_history; i++) {
        const struct vertex *v = st->history[i].v;
        if (v && b->epoch < 0)
            format_time((uint64_t)v->created * 1000000000u, created);
        history_add(&c, created, st->history[i].created_by, !v || !v->snap[0]);
    }
    free(c.created);
    c.created = xstrdup(created);
    if (!c.os)
        c.os = xstrdup(st->platform.os);
    if (!c.architecture)
        c.architecture = xstrdup(st->platform.arch);
    if (!c.variant && !st->base_history && st->platform.variant[0] && streq(c.architecture, st->platform.arch))
        c.variant = xstrdup(st->platform.variant);
    for (const char *const *l = b->rq->labels; l && *l; l++) {
        size_t n = strcspn(*l, "=");
        _cleanup_free_ char *key = xstrndup(*l, n);
        strv_env_set(&c.labels, key, (*l)[n] ? *l + n + 1 : "");
    }
    int r = layers_digest(b, st, &c, &snaps, e);
    strv_env_unset(&c.labels, CACHE_LABEL); /* not the base's */
    if (r >= 0 && b->rq->cache_inline)
        cache_label(b, st, &c, &snaps);
    if (r >= 0 && b->rq->cache_out)
        cache_collect(b, st, b->rq->cache_out, NULL);
    if (r >= 0)
        r = image_add(b->s, &c, &snaps, ret->id, e);
    for (const char *const *t = b->rq->tags; t && *t && r >= 0; t++)
        r = image_tag(b->s, ret->id, *t, e);
    image_config_done(&c);
    return r < 0 ? r : 0;
}

static void unused_args(struct build *b) {
    MAP_FOREACH(&b->build_args, en) {
        if (map_gets(&b->args_used, en->key) || arg_is_proxy(en->key) || startswith(en->key, "BUILDKIT_") ||
            streq(en->key, "SOURCE_DATE_EPOCH"))
            continue;
        eval_warn(b, (struct span){.file = b->df->file}, "UnusedBuildArg", "build argument %s is not used", en->key);
    }
}

/* --- all of it ------------------------------------------------------------------------------ */

static int graph_make(struct build *b, unsigned *ret_target, struct err *e) {
    int target = graph_target(b, e);
    if (target < 0)
        return target;
    *ret_target = (unsigned)target;
    b->stages = xcalloc(b->df->n_stages, sizeof *b->stages);
    int r = eval_globals(b);
    if (r < 0)
        return r;
    graph_needed(b, (unsigned)target);
    r = graph_images(b, e);
    if (r < 0)
        return r;
    size_t errors = b->d->errors;
    r = eval_stage(b, (unsigned)target, e);
    if (r >= 0 && b->d->errors > errors)
        r = -EBADMSG;
    for (struct vertex *v = b->stages[target].last; v; v = v->parent)
        v->on_target = true;
    return r;
}

/* Checks and descriptions: every stage is looked at, nothing is run. */
static int build_called(struct build *b, size_t diags_before, struct err *e) {
    int r, target = graph_target(b, e);
    if (target < 0)
        return target;
    b->stages = xcalloc(b->df->n_stages, sizeof *b->stages);
    r = eval_globals(b);
    bool all = b->rq->call == BUILD_CALL_CHECK && !(b->rq->target && *b->rq->target);
    for (unsigned i = 0; i < b->df->n_stages && r >= 0; i++)
        if (all || i == (unsigned)target)
            graph_needed(b, i);
    if (r >= 0)
        r = graph_images(b, e);
    for (unsigned i = 0; i < b->df->n_stages && r >= 0; i++)
        if (b->stages[i].needed && b->stages[i].state == STAGE_NEW) {
            int k = eval_stage(b, i, e);
            r = k < 0 && k != -EBADMSG ? k : 0;
        }
    if (r >= 0 && b->rq->call == BUILD_CALL_CHECK)
        r = lint_filter(b->df, map_gets(&b->build_args, "BUILDKIT_DOCKERFILE_CHECK"), b->d, diags_before);
    if (b->rq->call == BUILD_CALL_CHECK && (r >= 0 || r == -EBADMSG))
        build_check(b, diags_before, b->rq->call_out);
    if (r >= 0 && b->d->errors)
        r = -EBADMSG;
    if (r >= 0 && b->rq->call == BUILD_CALL_OUTLINE)
        build_outline(b, (unsigned)target, b->rq->call_out);
    if (r >= 0 && b->rq->call == BUILD_CALL_TARGETS)
        build_targets(b, b->rq->call_out);
    return r;
}

static void warnings_emit(struct build *b, size_t from) {
    for (size_t i = from; i < b->d->n; i++)
        if (b->d->items[i].level == DIAG_WARNING)
            build_emit(b, &(struct build_event){.kind = BUILD_WARNING, .name = b->d->items[i].msg, .why = b->d->items[i].code,
                                                .at = b->d->items[i].at});
}

static void build_done(struct build *b) {
    for (size_t i = 0; b->stages && i < b->df->n_stages; i++) {
        struct stage *st = &b->stages[i];
        image_config_done(&st->config);
        map_done(&st->args);
        strv_done(&st->arg_order);
        free(st->history);
    }
    free(b->stages);
    for (size_t i = 0; i < b->n_vertices; i++) {
        strv_done(&b->vertices[i]->env);
        cache_key_done(&b->vertices[i]->key);
        image_free(b->vertices[i]->image);
    }
    free(b->vertices);
    free(b->remotes);
    free(b->pending);
    free(b->contexts);
    if (b->net)
        net_free(b->net);
    cache_last_free(b->last);
    ignore_done(&b->ignore);
    map_done(&b->globals);
    map_done(&b->global_defaults);
    map_done(&b->build_args);
    map_done(&b->args_used);
    map_done(&b->images);
    dockerfile_free(b->df);
    arena_done(&b->arena);
    pthread_mutex_destroy(&b->lock);
    pthread_mutex_destroy(&b->event_lock);
    pthread_cond_destroy(&b->cond);
}

static char *last_name(const struct build *b) {
    return xasprintf("%s\n%s\n%s", b->rq->context_name ? b->rq->context_name : "", b->df_name, b->rq->target ? b->rq->target : "");
}

int build_image(struct store *s, struct lease *l, const struct build_request *rq, struct build_result *ret,
                struct diags *d, struct err *e) {
    struct build b = {.s = s, .l = l, .rq = rq, .d = d};
    struct build_result res = {.steps = 0};
    uint64_t start = now_mono();
    size_t diags_before = d->n;
    unsigned target = 0;
    pthread_mutex_init(&b.lock, NULL);
    pthread_mutex_init(&b.event_lock, NULL);
    pthread_cond_init(&b.cond, NULL);
    read_args(&b);
    int r = read_epoch(&b, e);
    if (r >= 0)
        r = read_platform(&b, e);
    if (r >= 0)
        r = read_dockerfile(&b, e);
    if (r >= 0)
        r = read_ignore(&b);
    if (r >= 0 && rq->call) {
        r = build_called(&b, diags_before, e);
        build_done(&b);
        return r;
    }
    if (r >= 0) {
        _cleanup_free_ char *name = last_name(&b);
        b.last = cache_last_new(s, name);
        r = graph_make(&b, &target, e);
        if (r >= 0 || r == -EBADMSG)
            r = lint_filter(b.df, map_gets(&b.build_args, "BUILDKIT_DOCKERFILE_CHECK"), d, diags_before) < 0 ? -EBADMSG : r;
    }
    if (r >= 0) {
        unused_args(&b);
        warnings_emit(&b, diags_before);
        r = sources_load(&b, e);
    }
    if (r >= 0) {
        r = solve(&b, e);
        if (!rq->explain_only)
            cache_last_save(b.last);
    }
    if (r >= 0 && !rq->explain_only)
        r = write_image(&b, &b.stages[target], &res, e);
    if (r >= 0) {
        for (size_t i = 0; i < b.n_vertices; i++)
            res.steps += b.vertices[i]->kind != V_BASE;
        res.cached = b.cached;
        res.dur_ns = now_mono() - start;
        *ret = res;
    }
    build_done(&b);
    return r < 0 ? r : 0;
}
