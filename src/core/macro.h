#pragma once
/* Attributes, cleanup handlers and small arithmetic used everywhere.
 *
 * `_cleanup_free_ char *p = NULL;` frees p when it leaves scope; TAKE(p) moves the value out.
 * Cleanup handlers keep errno. Banned functions are poisoned at the end of the file. */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _unused_ __attribute__((unused))
#define _noreturn_ __attribute__((noreturn))
#define _warn_unused_ __attribute__((warn_unused_result))

#define ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Moves a pointer / descriptor out of a cleanup variable. */
#define TAKE(p)                                                                                    \
    ({                                                                                             \
        __typeof__(p) take_ = (p);                                                                 \
        (p) = NULL;                                                                                \
        take_;                                                                                     \
    })
#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int take_ = (fd);                                                                          \
        (fd) = -1;                                                                                 \
        take_;                                                                                     \
    })

static inline void cleanup_free(void *p) {
    int saved = errno;
    free(*(void **)p);
    errno = saved;
}
static inline void cleanup_close(int *fd) {
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}
static inline void cleanup_fclose(FILE **f) {
    if (*f) {
        int saved = errno;
        fclose(*f);
        errno = saved;
    }
}
#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

/* Closes and sets to -1; returns -1 for `x = fd_close(x)`. Negative is fine. */
static inline int fd_close(int fd) {
    if (fd >= 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
    return -1;
}

/* Small allocations abort when memory is gone; sizes from outside must be limited before. */
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);          /* NULL gives NULL */
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) _printf_(1, 2);

/* Grows a plain C array to hold `want` items. cap is in items. */
#define GROW(array, cap, want)                                                                     \
    do {                                                                                           \
        if ((size_t)(want) > (size_t)(cap)) {                                                      \
            size_t n_ = (cap) ? (size_t)(cap) * 2 : 8;                                             \
            while (n_ < (size_t)(want))                                                            \
                n_ *= 2;                                                                           \
            (array) = xrealloc((array), n_ * sizeof(*(array)));                                    \
            (cap) = (__typeof__(cap))n_;                                                           \
        }                                                                                          \
    } while (0)

static inline bool streq(const char *a, const char *b) { return strcmp(a, b) == 0; }
static inline bool streq0(const char *a, const char *b) { /* NULL-safe */
    return a == b || (a && b && strcmp(a, b) == 0);
}
const char *startswith(const char *s, const char *prefix); /* the rest, or NULL */
bool endswith(const char *s, const char *suffix);

#pragma GCC poison strcpy strcat sprintf vsprintf strtok gets strncpy
