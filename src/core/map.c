/* Open addressing over an index of positions into an insertion-ordered array. */
#include "core/map.h"

#include "core/loop.h"

static uint64_t seed(void) {
    static uint64_t value;
    uint64_t v = __atomic_load_n(&value, __ATOMIC_RELAXED);
    if (!v) {
        random_bytes(&v, sizeof v);
        v |= 1;
        uint64_t none = 0; /* the first thread wins, so that all agree */
        if (!__atomic_compare_exchange_n(&value, &none, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            v = none;
    }
    return v;
}

static unsigned char fold(const struct map *m, char c) {
    return (unsigned char)(m->nocase && c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static uint64_t hash(const struct map *m, struct sv key, uint64_t secret) {
    uint64_t h = secret ^ key.n;
    for (size_t i = 0; i < key.n; i++) {
        h ^= fold(m, key.p[i]);
        h *= 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    h *= secret;
    return h ^ h >> 32;
}

static bool same(const struct map *m, const struct map_entry *e, struct sv key) {
    if (e->key_n != key.n)
        return false;
    for (size_t i = 0; i < key.n; i++)
        if (fold(m, e->key[i]) != fold(m, key.p[i]))
            return false;
    return true;
}

/* Dead entries stay in the index until the next reindex: they end no probe. */
static struct map_entry *find(const struct map *m, struct sv key, uint64_t h) {
    if (!m->index_cap)
        return NULL;
    for (size_t i = h & (m->index_cap - 1);; i = (i + 1) & (m->index_cap - 1)) {
        uint32_t at = m->index[i];
        if (at == UINT32_MAX)
            return NULL;
        struct map_entry *e = &m->entries[at];
        if (!e->dead && e->hash == h && same(m, e, key))
            return e;
    }
}

static void reindex(struct map *m) {
    size_t out = 0;
    for (size_t i = 0; i < m->n; i++)
        if (!m->entries[i].dead)
            m->entries[out++] = m->entries[i];
    m->n = out;
    size_t want = 16;
    while (want < m->n * 2 + 2)
        want *= 2;
    m->index = xrealloc(m->index, want * sizeof *m->index);
    m->index_cap = want;
    memset(m->index, 0xff, want * sizeof *m->index);
    for (size_t k = 0; k < m->n; k++) {
        size_t i = m->entries[k].hash & (want - 1);
        while (m->index[i] != UINT32_MAX)
            i = (i + 1) & (want - 1);
        m->index[i] = (uint32_t)k;
    }
}

void map_done(struct map *m) {
    for (size_t i = 0; i < m->n; i++) {
        if (m->entries[i].dead)
            continue;
        free(m->entries[i].key);
        if (m->free_value)
            m->free_value(m->entries[i].value);
    }
    free(m->entries);
    free(m->index);
    *m = (struct map){.nocase = m->nocase, .free_value = m->free_value};
}

bool map_has(const struct map *m, struct sv key) {
    return m->live && find(m, key, hash(m, key, seed()));
}
void *map_get(const struct map *m, struct sv key) {
    struct map_entry *e = m->live ? find(m, key, hash(m, key, seed())) : NULL;
    return e ? e->value : NULL;
}
void *map_gets(const struct map *m, const char *key) {
    return map_get(m, sv_from(key));
}
void *map_set(struct map *m, struct sv key, void *value) {
    uint64_t h = hash(m, key, seed());
    struct map_entry *e = find(m, key, h);
    if (e) {
        void *old = e->value;
        e->value = value;
        return old;
    }
    if ((m->n + 1) * 2 > m->index_cap)
        reindex(m);
    GROW(m->entries, m->cap, m->n + 1);
    m->entries[m->n] = (struct map_entry){sv_dup(key), key.n, value, h, false};
    size_t i = h & (m->index_cap - 1);
    while (m->index[i] != UINT32_MAX)
        i = (i + 1) & (m->index_cap - 1);
    m->index[i] = (uint32_t)m->n++;
    m->live++;
    return NULL;
}
void *map_sets(struct map *m, const char *key, void *value) {
    return map_set(m, sv_from(key), value);
}
void *map_remove(struct map *m, struct sv key) {
    struct map_entry *e = m->live ? find(m, key, hash(m, key, seed())) : NULL;
    if (!e)
        return NULL;
    void *old = e->value;
    free(e->key);
    e->key = NULL;
    e->dead = true;
    m->live--;
    return old;
}
