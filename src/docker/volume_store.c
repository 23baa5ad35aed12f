/* Named volumes that outlive the engine (`slipway docker` outside a job): the folder is a committed
 * snapshot, a record of the kind "volume" says its name and labels, and prune spares what a record
 * names. Anonymous volumes (64 hex digits) and those of a job are the engine's and go with it. */
#include "docker/impl.h"

static bool anonymous(const char *name) { return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64; }

int volume_keep(struct engine *g, struct volume *v, struct err *e) {
    struct snap_info info = {0};
    struct json_w w;
    char id[17];
    if (!g->o.keep_volumes || anonymous(v->name) || v->kept)
        return 0;
    random_id(id, 16);
    snprintf(info.key, sizeof(info.key), "volume:%s", id);
    int r = snap_commit(g->o.store, g->o.lease, v->snap, &info, &info, e);
    if (r < 0)
        return r;
    _cleanup_buf_ struct buf b = BUF_MAX(256u << 10);
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "snap", v->snap);
    jw_kint(&w, "created", (int64_t)v->created);
    jw_key(&w, "labels");
    jw_arr(&w);
    for (size_t i = 0; i < v->labels.n; i++)
        jw_str(&w, v->labels.v[i]);
    jw_end_arr(&w);
    jw_end_obj(&w);
    r = rec_put(g->o.store, "volume", v->name, buf_sv(&b), e);
    v->kept = r >= 0;
    return r;
}

static int load(const char *key, struct sv text, void *arg) {
    struct engine *g = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    char what[48];
    if (map_gets(&g->volumes, key) || json_parse(&a, text, &j, NULL) < 0)
        return 0;
    const char *snap = json_get_str(j, "snap", "");
    const struct json *labels = json_get(j, "labels");
    struct snap_info info;
    snprintf(what, sizeof(what), "snap:%.32s", snap);
    if (strlen(snap) != 32 || lease_use(g->o.lease, what) < 0 || snap_get(g->o.store, snap, &info) != 1)
        return 0; /* gone with a crash of the machine: as if it had never been */
    _cleanup_free_ char *path = xasprintf("%s/snap/%s", store_path(g->o.store), snap);
    int dir = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return 0;
    struct volume *v = xcalloc(1, sizeof(*v));
    v->name = xstrdup(key);
    v->dir = dir;
    v->created = (uint64_t)json_int(json_get(j, "created"), 0);
    v->kept = true;
    v->filled = true;
    snprintf(v->snap, sizeof(v->snap), "%s", snap);
    for (size_t i = 0; labels && labels->kind == JSON_ARRAY && i < labels->n; i++)
        strv_add(&v->labels, json_str(labels->items[i], ""));
    map_sets(&g->volumes, key, v);
    return 0;
}

void volumes_load(struct engine *g) {
    if (g->o.keep_volumes)
        (void)rec_each(g->o.store, "volume", NULL, load, g);
}

bool volume_used(struct engine *g, const struct volume *v, const struct ctr **by) {
    MAP_FOREACH(&g->ctrs, en) {
        struct ctr *c = en->value;
        for (size_t i = 0; i < c->n_mounts; i++)
            if (c->mounts[i].name && streq(c->mounts[i].type, "volume") && streq(c->mounts[i].name, v->name)) {
                *by = c;
                return true;
            }
    }
    return false;
}

/* Its record first: what is left without one goes with the next prune. */
void volume_remove(struct engine *g, struct volume *v) {
    pthread_mutex_lock(&g->mu);
    map_remove(&g->volumes, sv_from(v->name));
    pthread_mutex_unlock(&g->mu);
    if (v->kept)
        (void)rec_del(g->o.store, "volume", v->name);
    volume_free(g, v);
}

/* docker volume prune: what no container uses; only anonymous ones unless filters={"all":["true"]}. */
void volumes_prune(struct engine *g, struct httpd_req *rq) {
    _cleanup_arena_ struct arena a = {0};
    const struct json *f = query_filters(rq, &a), *all = json_get(f, "all");
    bool named = false;
    for (size_t i = 0; all && i < all->n; i++) {
        struct sv s = all->kind == JSON_OBJECT ? all->keys[i] : json_sv(all->items[i]);
        named |= sv_eqs(s, "true") || sv_eqs(s, "1");
    }
    _cleanup_strv_ struct strv gone = {0};
    struct buf b = BUF_MAX(4u << 20);
    struct json_w w;
    const struct ctr *by;
    MAP_FOREACH(&g->volumes, en) {
        struct volume *v = en->value;
        if ((named || anonymous(v->name)) && !volume_used(g, v, &by) && filter_labels(f, &v->labels))
            strv_add(&gone, v->name);
    }
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_key(&w, "VolumesDeleted");
    jw_arr(&w);
    for (size_t i = 0; i < gone.n; i++) {
        jw_str(&w, gone.v[i]);
        volume_remove(g, map_gets(&g->volumes, gone.v[i]));
    }
    jw_end_arr(&w);
    jw_kint(&w, "SpaceReclaimed", 0);
    jw_end_obj(&w);
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
}
