#include "core/arena.h"

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    max_align_t data[];
};

void arena_done(struct arena *a) {
    for (struct arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *a = (struct arena){.limit = a->limit};
}

/* Not zeroed: what is handed out is, so that the rest of a chunk is never touched. */
static void *take(struct arena *a, size_t n) {
    assert(n <= SIZE_MAX / 2);
    n = (n + 15) & ~(size_t)15;
    a->used += n;
    struct arena_chunk *c = a->head;
    if (!c || c->size - c->used < n) {
        /* Chunks grow with the arena, so that a small parse costs one small allocation. */
        size_t size = MAX(n, MIN(MAX((size_t)4096, a->used), (size_t)1 << 20));
        c = xmalloc(sizeof *c + size);
        c->used = 0;
        c->next = NULL;
        c->size = size;
        if (a->head && n > 65536) { /* a big one of its own: keep filling the old head */
            c->used = n;
            c->next = a->head->next;
            a->head->next = c;
            return c->data;
        }
        c->next = a->head;
        a->head = c;
    }
    void *p = (char *)c->data + c->used;
    c->used += n;
    return p;
}

void *arena_alloc(struct arena *a, size_t n) {
    return memset(take(a, n), 0, n);
}

char *arena_strndup(struct arena *a, const char *s, size_t n) {
    char *p = take(a, n + 1);
    if (n)
        memcpy(p, s, n);
    p[n] = 0;
    return p;
}
char *arena_strdup(struct arena *a, const char *s) {
    return s ? arena_strndup(a, s, strlen(s)) : NULL;
}
struct sv arena_sv(struct arena *a, struct sv v) {
    return (struct sv){arena_strndup(a, v.p, v.n), v.n};
}
char *arena_printf(struct arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    char *p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}
