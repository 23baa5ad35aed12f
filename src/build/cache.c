#include "build/cache.h"
#include "core/json.h"
#include "core/loop.h"
#include "core/map.h"

#include <pthread.h>

#define SHOWN_MAX 120
#define FILES_MAX (4u << 20)

/* --- keys ----------------------------------------------------------------------------------- */

void cache_key_add(struct cache_key *k, const char *name, struct sv value) {
    if (value.n <= SHOWN_MAX) {
        strv_addf(&k->fields, "%s=" SV_FMT, name, SV_ARG(value));
        return;
    }
    char digest[DIGEST_LEN + 1];
    digest_of(value.p, value.n, digest);
    strv_addf(&k->fields, "%s=%s", name, digest);
}

void cache_key_addf(struct cache_key *k, const char *name, const char *fmt, ...) {
    va_list ap;
    _cleanup_buf_ struct buf b = BUF_LARGE;
    va_start(ap, fmt);
    buf_addv(&b, fmt, ap);
    va_end(ap);
    cache_key_add(k, name, buf_sv(&b));
}

void cache_key_end(struct cache_key *k) {
    uint8_t raw[32];
    struct sha256 *h = sha256_new();
    char version[32];
    snprintf(version, sizeof version, "slipway build %d", CACHE_VERSION);
    sha256_update(h, version, strlen(version) + 1);
    for (size_t i = 0; i < k->fields.n; i++)
        sha256_update(h, k->fields.v[i], strlen(k->fields.v[i]) + 1);
    sha256_final(h, raw);
    sha256_free(h);
    digest_format(raw, k->id);
}

void cache_key_done(struct cache_key *k) { strv_done(&k->fields); }

/* --- results -------------------------------------------------------------------------------- */

int cache_get(struct store *s, struct lease *l, const char *id, struct cache_hit *ret) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    int r = rec_get(s, "cache", id, &b);
    if (r <= 0)
        return r;
    if (json_parse(&a, buf_sv(&b), &j, NULL) < 0)
        return 0;
    struct cache_hit hit = {.empty = json_get_bool(j, "empty", false), .created = json_get_int(j, "created", 0)};
    const struct json *snaps = json_get(j, "snaps");
    snprintf(hit.result, sizeof hit.result, "%.128s", json_get_str(j, "result", ""));
    if (!hit.empty) {
        r = snaps && snaps->n ? snap_find(s, l, json_str(snaps->items[0], ""), &hit.snap) : 0;
        if (r <= 0)
            return r;
    }
    *ret = hit;
    return 1;
}

int cache_put(struct store *s, const char *id, const char *snap_key, int64_t created, struct err *e) {
    char text[240];
    if (snap_key)
        snprintf(text, sizeof text, "{\"created\":%lld,\"snaps\":[\"%s\"]}", (long long)created, snap_key);
    else
        snprintf(text, sizeof text, "{\"created\":%lld,\"empty\":true}", (long long)created);
    return rec_put(s, "cache", id, sv_from(text), e);
}

int cache_put_as(struct store *s, const char *id, const char *snap_key, const char *result, int64_t created, struct err *e) {
    char text[400];
    snprintf(text, sizeof text, "{\"created\":%lld,\"snaps\":[\"%s\"],\"result\":\"%s\"}", (long long)created, snap_key, result);
    return rec_put(s, "cache", id, sv_from(text), e);
}

/* --- content -------------------------------------------------------------------------------- */

void cache_content(struct store *s, const struct copy_list *l, char digest[DIGEST_LEN + 1]) {
    struct sha256 *h = sha256_new();
    uint8_t raw[32];
    _cleanup_buf_ struct buf files = BUF_MAX(FILES_MAX);
    for (size_t i = 0; i < l->n; i++) {
        const struct copy_entry *f = &l->items[i];
        char head[64];
        int n = snprintf(head, sizeof head, "%c %o %u %u", f->type, f->mode, f->uid, f->gid);
        sha256_update(h, head, (size_t)n + 1);
        const char *const text[] = {f->name, f->link, f->digest};
        for (size_t k = 0; k < ELEMENTS(text); k++)
            sha256_update(h, text[k], strlen(text[k]) + 1);
        /* What a comparison needs: a short digest, the mode, the name. */
        buf_addf(&files, "%.12s%s %o %s\n", f->digest[0] ? f->digest + 7 : "-", f->link, f->mode, f->src);
    }
    sha256_final(h, raw);
    sha256_free(h);
    digest_format(raw, digest);
    if (buf_ok(&files))
        (void)rec_put(s, "build-files", digest, buf_sv(&files), NULL);
}

int cache_memo_get(struct store *s, const char *key, char digest[DIGEST_LEN + 1]) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    int r = rec_get(s, "build-memo", key, &b);
    if (r > 0 && b.n == DIGEST_LEN + 2 && digest_valid(sv_n(b.p + 1, DIGEST_LEN))) {
        memcpy(digest, b.p + 1, DIGEST_LEN);
        digest[DIGEST_LEN] = 0;
        return 1;
    }
    return r < 0 ? r : 0;
}

void cache_memo_put(struct store *s, const char *key, const char *digest) {
    char text[DIGEST_LEN + 3];
    snprintf(text, sizeof text, "\"%s\"", digest);
    (void)rec_put(s, "build-memo", key, sv_from(text), NULL);
}

static int forget(const char *key, struct sv json, void *arg) {
    strv_add(arg, key);
    return 0;
}

void cache_forget_notes(struct store *s) {
    static const char *const spaces[] = {"build-memo", "build-files", "build-last"};
    for (size_t i = 0; i < ELEMENTS(spaces); i++) {
        _cleanup_strv_ struct strv keys = {0};
        (void)rec_each(s, spaces[i], NULL, forget, &keys);
        for (size_t k = 0; k < keys.n; k++)
            (void)rec_del(s, spaces[i], keys.v[k]);
    }
}

/* --- why ------------------------------------------------------------------------------------ */

struct noted {
    struct strv fields;
    char id[DIGEST_LEN + 1];
};
struct cache_last {
    struct store *s;
    pthread_mutex_t lock;
    char key[DIGEST_LEN + 1];
    bool loaded;
    struct arena arena;
    struct json *before;
    struct map now; /* place -> struct noted */
};

static void noted_free(void *p) {
    strv_done(&((struct noted *)p)->fields);
    free(p);
}

struct cache_last *cache_last_new(struct store *s, const char *name) {
    struct cache_last *l = xcalloc(1, sizeof *l);
    l->s = s;
    pthread_mutex_init(&l->lock, NULL);
    digest_of(name, strlen(name), l->key);
    l->now.free_value = noted_free;
    return l;
}

void cache_last_free(struct cache_last *l) {
    if (!l)
        return;
    map_done(&l->now);
    arena_done(&l->arena);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static void load(struct cache_last *l) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    if (l->loaded)
        return;
    l->loaded = true;
    if (rec_get(l->s, "build-last", l->key, &b) > 0)
        (void)json_parse(&l->arena, arena_sv(&l->arena, buf_sv(&b)), &l->before, NULL);
}

static const struct json *before_of(struct cache_last *l, const char *place) {
    load(l);
    return json_get(l->before, place);
}

void cache_note(struct cache_last *l, const char *place, const struct cache_key *k) {
    struct noted *n = xcalloc(1, sizeof *n);
    strv_extend(&n->fields, (const char *const *)k->fields.v);
    memcpy(n->id, k->id, sizeof n->id);
    pthread_mutex_lock(&l->lock);
    struct noted *old = map_sets(&l->now, place, n);
    if (old)
        noted_free(old);
    pthread_mutex_unlock(&l->lock);
}

void cache_last_save(struct cache_last *l) {
    pthread_mutex_lock(&l->lock);
    if (l->now.live) {
        _cleanup_buf_ struct buf b = BUF_LARGE, was = BUF_LARGE;
        struct json_w w;
        jw_init(&w, &b, 0);
        jw_obj(&w);
        MAP_FOREACH(&l->now, en) {
            const struct noted *n = en->value;
            jw_key(&w, en->key);
            jw_arr(&w);
            for (size_t i = 0; i < n->fields.n; i++)
                jw_str(&w, n->fields.v[i]);
            jw_end_arr(&w);
        }
        jw_end_obj(&w);
        /* Also after a build that was cached as a whole: the next one is compared with it. */
        if (buf_ok(&b) && !(rec_get(l->s, "build-last", l->key, &was) > 0 && sv_eq(buf_sv(&was), buf_sv(&b))))
            (void)rec_put(l->s, "build-last", l->key, buf_sv(&b), NULL);
    }
    pthread_mutex_unlock(&l->lock);
}

/* Files of a content digest: name -> "digest mode". */
static bool files_load(struct store *s, const char *digest, struct buf *text, struct map *m) {
    if (rec_get(s, "build-files", digest, text) <= 0)
        return false;
    struct sv rest = buf_sv(text), line;
    while (sv_line(&rest, &line)) {
        ssize_t a = sv_chr(line, ' ');
        struct sv tail = a < 0 ? SV_NULL : sv_sub(line, (size_t)a + 1, line.n);
        ssize_t b = a < 0 ? -1 : sv_chr(tail, ' ');
        if (b >= 0)
            map_set(m, sv_sub(tail, (size_t)b + 1, tail.n), (void *)(uintptr_t)line.p);
    }
    return true;
}

static void why_content(struct store *s, const char *old, const char *new, char *ret, size_t size) {
    _cleanup_buf_ struct buf ta = BUF_MAX(FILES_MAX + 1), tb = BUF_MAX(FILES_MAX + 1);
    _cleanup_map_ struct map a = {0}, b = {0};
    if (!files_load(s, old, &ta, &a) || !files_load(s, new, &tb, &b)) {
        snprintf(ret, size, "the files changed");
        return;
    }
    char first[200] = "";
    size_t n = 0;
    MAP_FOREACH(&b, en) {
        const char *was = map_get(&a, sv_n(en->key, en->key_n)), *is = en->value;
        size_t len = strcspn(is, " ");
        const char *how = NULL;
        if (!was)
            how = "is new";
        else if (strncmp(was, is, len + 1) != 0)
            how = "changed";
        else if (strncmp(was + len, is + len, strcspn(is + len + 1, " ") + 1) != 0)
            how = "has another mode";
        if (how && n++ == 0)
            snprintf(first, sizeof first, "%.150s %s", en->key, how);
    }
    MAP_FOREACH(&a, en) {
        if (!map_has(&b, sv_n(en->key, en->key_n)) && n++ == 0)
            snprintf(first, sizeof first, "%.150s is gone", en->key);
    }
    if (n > 1)
        snprintf(ret, size, "%s, and %zu more", first, n - 1);
    else
        snprintf(ret, size, "%s", n ? first : "the files changed");
}

static const char *field_of(const struct json *fields, const char *name, size_t n) {
    for (size_t i = 0; i < fields->n; i++) {
        const char *f = json_str(fields->items[i], "");
        if (strncmp(f, name, n) == 0 && f[n] == '=')
            return f + n + 1;
    }
    return NULL;
}

static void why(struct cache_last *l, const struct json *old, const struct cache_key *k, char *ret, size_t size) {
    /* The step's own fields tell more than "parent". */
    const char *parent = NULL;
    for (size_t i = 0; i < k->fields.n; i++) {
        const char *f = k->fields.v[i];
        size_t n = strcspn(f, "=");
        const char *was = field_of(old, f, n), *is = f + n + 1;
        if (was && streq(was, is))
            continue;
        if (n == 6 && startswith(f, "parent"))
            parent = CACHE_WHY_PARENT;
        else if (n == 4 && startswith(f, "base"))
            parent = CACHE_WHY_BASE;
        else if (n == 7 && startswith(f, "content") && was)
            return why_content(l->s, was, is, ret, size);
        else {
            snprintf(ret, size, "%.*s %s", (int)MIN(n, 80u), f, was ? "changed" : "is new");
            return;
        }
    }
    for (size_t i = 0; i < old->n && !parent; i++) {
        const char *f = json_str(old->items[i], "");
        size_t n = strcspn(f, "=");
        bool still = false;
        for (size_t m = 0; m < k->fields.n; m++)
            still |= strncmp(k->fields.v[m], f, n + 1) == 0;
        if (!still) {
            snprintf(ret, size, "%.*s is gone", (int)MIN(n, 80u), f);
            return;
        }
    }
    snprintf(ret, size, "%s", parent ? parent : "its result is no longer in the store");
}

void cache_why(struct cache_last *l, const char *place, const struct cache_key *k, char *ret, size_t size) {
    pthread_mutex_lock(&l->lock);
    const struct json *old = before_of(l, place);
    if (!old)
        snprintf(ret, size, "first build of this step");
    else
        why(l, old, k, ret, size);
    pthread_mutex_unlock(&l->lock);
}
