#pragma once
/* An arena: allocations that are all freed together. One per parse, per request, per plan.
 * Not thread-safe; NULL memory never comes back (aborts when memory is gone). With a limit, an
 * allocation past it returns NULL from arena_try only. */
#include "core/str.h"

struct arena {
    struct arena_chunk *head;
    size_t used;  /* bytes handed out */
    size_t limit; /* 0 = none; see arena_over */
};
void arena_done(struct arena *a);
#define _cleanup_arena_ _cleanup_(arena_done)
void *arena_alloc(struct arena *a, size_t n) __attribute__((malloc, alloc_size(2))); /* zeroed */
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n); /* copies exactly n bytes and a NUL */
char *arena_printf(struct arena *a, const char *fmt, ...) _printf_(2, 3);
struct sv arena_sv(struct arena *a, struct sv v);
static inline bool arena_over(const struct arena *a) { return a->limit && a->used > a->limit; }
#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)arena_alloc((a), sizeof(type) * (size_t)(n)))
