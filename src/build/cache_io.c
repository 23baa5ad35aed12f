/* See cache_io.h. What comes in is checked for its form only: whoever names a cache trusts it, as with a
 * base image. */
#include "build/cache_io.h"
#include "build/cache.h"
#include "core/json.h"

void cache_out_done(struct cache_out *o) {
    strv_done(&o->snaps);
    strv_done(&o->records);
}

static int add_layers(struct store *s, const struct cache_out *o, struct image_config *c, struct err *e) {
    int r = 0;
    for (size_t i = 0; i < o->snaps.n && r >= 0; i++) {
        char diff[DIGEST_LEN + 1] = "";
        uint64_t size;
        r = layer_diff_id(s, o->snaps.v[i], diff, &size, e);
        strv_add(&c->diff_ids, diff);
    }
    return r;
}

int cache_export(struct store *s, struct lease *l, const struct cache_out *o, char id[DIGEST_LEN + 1], struct err *e) {
    struct image_config c = {.os = xstrdup("linux"), .architecture = xstrdup("unknown")};
    _cleanup_buf_ struct buf t = BUF_MAX(16u << 20);
    buf_addf(&t, "%s={\"version\":%d,\"records\":[", CACHE_LABEL, CACHE_VERSION);
    for (size_t i = 0; i < o->records.n; i++)
        buf_addf(&t, "%s%s", i ? "," : "", o->records.v[i]);
    buf_adds(&t, "]}");
    int r = buf_ok(&t) ? add_layers(s, o, &c, e) : err_set(e, ERR_LIMIT, -E2BIG, "too many steps for a cache");
    strv_add(&c.labels, buf_str(&t));
    if (r >= 0)
        r = image_add(s, &c, &o->snaps, id, e);
    image_config_done(&c);
    return r < 0 ? r : 0;
}

static bool plain_key(const char *s) {
    return s && *s && strlen(s) < 129 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789:-") == strlen(s);
}

static int import_one(struct store *s, struct lease *l, const struct image *img, const struct json *it, size_t *n, struct err *e) {
    const char *key = json_get_str(it, "key", NULL), *result = json_get_str(it, "result", "");
    int64_t created = json_get_int(it, "created", 0), layer = json_get_int(it, "layer", -1);
    _cleanup_buf_ struct buf there = BUF_SMALL;
    struct snap_info info;
    if (!plain_key(key) || !digest_valid(sv_from(key)) || (*result && !plain_key(result)))
        return err_set(e, ERR_NET, -EPROTO, "the cache has a record that is not one");
    struct cache_hit hit;
    if (cache_get(s, l, key, &hit) == 1) /* ours stays */
        return 0;
    ++*n;
    if (json_get_bool(it, "empty", false))
        return cache_put(s, key, NULL, created, e);
    if (layer < 0 || (size_t)layer >= img->layers.n || snap_get(s, img->layers.v[layer], &info) < 0)
        return err_set(e, ERR_NET, -EPROTO, "the cache has a record without its layer");
    return cache_put_as(s, key, info.key, *result ? result : key, created, e);
}

int cache_import(struct store *s, struct lease *l, const struct image *img, size_t *ret_n, struct err *e) {
    const char *label = strv_env_get(&img->config.labels, CACHE_LABEL);
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    *ret_n = 0;
    if (!label)
        return 0;
    char *copy = arena_strdup(&a, label);
    int r = json_parse(&a, sv_from(copy), &j, e);
    const struct json *list = r < 0 ? NULL : json_get(j, "records");
    if (r >= 0 && json_get_int(j, "version", 0) != CACHE_VERSION)
        return 0; /* of another time: of no use */
    for (size_t i = 0; list && i < list->n && r >= 0; i++)
        r = import_one(s, l, img, list->items[i], ret_n, e);
    return r < 0 ? err_wrap(e, r, "cache") : 0;
}
