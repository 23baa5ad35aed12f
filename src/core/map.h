#pragma once
/* A hash map from strings to pointers that keeps insertion order. Keys are copied. Keyed hashing
 * (random per process), so hostile keys cannot degrade it. */
#include "core/str.h"

struct map_entry {
    char *key;
    size_t key_n;
    void *value;
    uint64_t hash;
    bool dead;
};
struct map {
    struct map_entry *entries; /* in insertion order; skip dead ones (MAP_FOREACH does) */
    size_t n, cap;             /* entries used (dead ones included), allocated */
    size_t live;
    uint32_t *index;
    size_t index_cap;
    bool nocase; /* ASCII case-insensitive; set before the first use */
    void (*free_value)(void *);
};
void map_done(struct map *m);
#define _cleanup_map_ _cleanup_(map_done)
void *map_get(const struct map *m, struct sv key);
void *map_gets(const struct map *m, const char *key);
bool map_has(const struct map *m, struct sv key);
/* Returns the old value (which the caller now owns), or NULL. */
void *map_set(struct map *m, struct sv key, void *value);
void *map_sets(struct map *m, const char *key, void *value);
void *map_remove(struct map *m, struct sv key);
#define MAP_FOREACH(m, e)                                                                          \
    for (struct map_entry *e = (m)->entries; e && e < (m)->entries + (m)->n; e++)                  \
        if (!e->dead)
