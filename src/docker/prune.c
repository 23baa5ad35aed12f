/* docker image prune and network prune. The store is everybody's: in a job only unnamed images older
 * than an hour go, since another job may still need the others. Space comes back with `slipway
 * prune`, so none is said to be reclaimed. */
#include "docker/impl.h"

#define SPARED_NS (3600ull * 1000000000)

struct img_prune {
    struct engine *g;
    struct httpd_req *rq;
    struct arena a;
    const struct json *filters;
    struct map named;            /* ids with a name */
    struct strv used, ids, said; /* by containers; to go; what went */
    bool all;
    int r;
    struct err e;
};

static void abort_it(struct httpd_req *rq, void *arg) { ((struct img_prune *)arg)->rq = NULL; }

static int note_named(const char *ref, const char *id, struct sv record, void *arg) {
    struct img_prune *x = arg;
    if (ref)
        map_sets(&x->named, id, x);
    return 0;
}

static int pick(const char *ref, const char *id, struct sv record, void *arg) {
    struct img_prune *x = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    char *copy = arena_strndup(&a, record.p ? record.p : "", record.n);
    if (strv_contains(&x->used, id) || (!x->all && map_gets(&x->named, id)))
        return 0;
    if (json_parse(&a, sv_n(copy, record.n), &j, NULL) < 0)
        return 0;
    uint64_t made = (uint64_t)json_get_int(j, "made", 0);
    if (made < 1000000000000ull) /* seconds */
        made *= 1000000000ull;
    if (!x->g->o.job || made + SPARED_NS < now_real())
        strv_add(&x->ids, id);
    return 0;
}

static void prune_work(void *arg) {
    struct img_prune *x = arg;
    struct store *s = x->g->o.store;
    x->r = image_each(s, note_named, x);
    if (x->r >= 0)
        x->r = image_each_id(s, pick, x);
    for (size_t i = 0; i < x->ids.n && x->r >= 0; i++) {
        _cleanup_image_ struct image *im = NULL;
        if (image_find(s, x->g->o.lease, x->ids.v[i], &im, NULL) <= 0 || !filter_labels(x->filters, &im->config.labels))
            continue;
        struct err e = {0}; /* one that goes meanwhile is no failure */
        (void)image_remove(s, x->ids.v[i], x->all, &x->said, &e);
    }
}

static void prune_done(struct loop *l, void *arg) {
    struct img_prune *x = arg;
    if (x->rq && x->r < 0)
        reply_err(x->rq, 500, "%s", x->e.msg[0] ? x->e.msg : strerror(-x->r));
    else if (x->rq) {
        struct buf b = BUF_MAX(16u << 20);
        struct json_w w;
        jw_init(&w, &b, 0);
        jw_obj(&w);
        jw_key(&w, "ImagesDeleted");
        jw_arr(&w);
        for (size_t i = 0; i < x->said.n; i++) {
            const char *u = startswith(x->said.v[i], "Untagged: "), *d = startswith(x->said.v[i], "Deleted: ");
            jw_obj(&w);
            jw_kstr(&w, u ? "Untagged" : "Deleted", u ? u : d ? d : x->said.v[i]);
            jw_end_obj(&w);
        }
        jw_end_arr(&w);
        jw_kint(&w, "SpaceReclaimed", 0);
        jw_end_obj(&w);
        httpd_reply_json(x->rq, 200, &b);
        buf_done(&b);
    }
    map_done(&x->named);
    strv_done(&x->used);
    strv_done(&x->ids);
    strv_done(&x->said);
    arena_done(&x->a);
    free(x);
}

static bool is_false(const char *v, void *arg) { return streq(v, "false") || streq(v, "0"); }

/* A filter that is not known would prune too much. */
static bool filters_known(struct httpd_req *rq, const struct json *f, const char *also) {
    for (size_t i = 0; f && f->kind == JSON_OBJECT && i < f->n; i++)
        if (!sv_eqs(f->keys[i], "label") && !sv_eqs(f->keys[i], also)) {
            reply_err(rq, 501, "not yet: prune with the filter " SV_FMT, SV_ARG(f->keys[i]));
            return false;
        }
    return true;
}

void images_prune(struct engine *g, struct httpd_req *rq) {
    struct img_prune *x = xcalloc(1, sizeof(*x));
    x->g = g;
    x->filters = query_filters(rq, &x->a);
    if (!filters_known(rq, x->filters, "dangling")) {
        arena_done(&x->a);
        free(x);
        return;
    }
    x->all = !g->o.job && json_get(x->filters, "dangling") && filter_has(x->filters, "dangling", is_false, NULL);
    MAP_FOREACH(&g->ctrs, en)
        strv_add(&x->used, ((struct ctr *)en->value)->image_id);
    x->rq = rq;
    httpd_on_abort(rq, abort_it, x);
    engine_job(g, prune_work, prune_done, x);
}

void networks_prune(struct engine *g, struct httpd_req *rq) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_strv_ struct strv gone = {0};
    const struct json *f = query_filters(rq, &a);
    if (!filters_known(rq, f, "label"))
        return;
    MAP_FOREACH(&g->networks, en) {
        struct network *n = en->value;
        bool used = false;
        MAP_FOREACH(&g->ctrs, ce)
            used |= streq(((struct ctr *)ce->value)->network, n->name);
        if (!used && filter_labels(f, &n->labels))
            strv_add(&gone, n->name);
    }
    struct buf b = BUF_MAX(4u << 20);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_key(&w, "NetworksDeleted");
    jw_arr(&w);
    for (size_t i = 0; i < gone.n; i++) {
        struct network *n = map_gets(&g->networks, gone.v[i]);
        jw_str(&w, n->name);
        pthread_mutex_lock(&g->mu);
        map_remove(&g->networks, sv_from(n->name));
        pthread_mutex_unlock(&g->mu);
        network_free(n);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
}
