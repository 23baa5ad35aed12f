#pragma once
/* Views and buffers.
 *
 * struct sv is a pointer and a length: not NUL-terminated, never owned. struct buf is a growing
 * byte buffer with a mandatory maximum: an append past `max` sets `failed` and changes nothing
 * more, so a writer checks once at the end (buf_ok). b->p is always NUL-terminated once anything
 * was appended; NUL bytes inside are allowed. */
#include "core/macro.h"

#include <stdarg.h>

struct sv {
    const char *p;
    size_t n;
};
#define SV(lit) ((struct sv){(lit), sizeof(lit) - 1})
#define SV_NULL ((struct sv){NULL, 0})
#define SV_FMT "%.*s"
#define SV_ARG(v) (int)(v).n, (v).p

static inline struct sv sv_from(const char *s) { return (struct sv){s, s ? strlen(s) : 0}; }
static inline struct sv sv_n(const char *s, size_t n) { return (struct sv){s, n}; }
bool sv_eq(struct sv a, struct sv b);
bool sv_eqs(struct sv a, const char *s);
bool sv_ieqs(struct sv a, const char *s); /* ASCII case-insensitive */
int sv_cmp(struct sv a, struct sv b);     /* bytewise, shorter first */
bool sv_starts(struct sv a, const char *prefix);
bool sv_ends(struct sv a, const char *suffix);
struct sv sv_trim(struct sv a); /* ASCII white space at both ends */
struct sv sv_rtrim(struct sv a);
struct sv sv_sub(struct sv a, size_t from, size_t n); /* clamped */
ssize_t sv_find(struct sv a, struct sv needle);       /* offset or -1 */
ssize_t sv_chr(struct sv a, char c);
ssize_t sv_rchr(struct sv a, char c);
/* Cuts *rest at the first c: *ret_head is what stands before, *rest what follows. False when
 * *rest was exhausted (p == NULL) before the call. */
bool sv_split(struct sv *rest, char c, struct sv *ret_head);
/* Next line without its "\n" or "\r\n". */
bool sv_line(struct sv *rest, struct sv *ret_line);
char *sv_dup(struct sv a);                             /* malloc, NUL-terminated */
int sv_u64(struct sv a, uint64_t max, uint64_t *ret);  /* decimal digits only; -EINVAL, -ERANGE */

struct buf {
    char *p;
    size_t n, cap, max;
    bool failed;
};
#define BUF_MAX(m) ((struct buf){.max = (m)})
#define BUF_SMALL BUF_MAX(64u << 10)
#define BUF_LARGE BUF_MAX(64u << 20)
void buf_done(struct buf *b);
#define _cleanup_buf_ _cleanup_(buf_done)
void buf_reset(struct buf *b); /* keeps the memory */
bool buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, const void *p, size_t n);
void buf_addsv(struct buf *b, struct sv v);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) _printf_(2, 3);
void buf_addv(struct buf *b, const char *fmt, va_list ap);
void buf_cut(struct buf *b, size_t from, size_t n); /* removes n bytes at from */
static inline bool buf_ok(const struct buf *b) { return !b->failed; }
static inline struct sv buf_sv(const struct buf *b) { return (struct sv){b->p ? b->p : "", b->n}; }
const char *buf_str(struct buf *b); /* never NULL */
char *buf_take(struct buf *b);      /* the malloced text (never NULL); b is empty after */

/* A vector of strings, always NULL-terminated (argv, envp). Owns its strings. */
struct strv {
    char **v;
    size_t n, cap;
};
void strv_add(struct strv *s, const char *item);
void strv_addn(struct strv *s, const char *item, size_t n);
void strv_addf(struct strv *s, const char *fmt, ...) _printf_(2, 3);
void strv_take(struct strv *s, char *item);
void strv_extend(struct strv *s, const char *const *items); /* NULL-terminated */
bool strv_contains(const struct strv *s, const char *item);
void strv_sort(struct strv *s);
void strv_done(struct strv *s);
#define _cleanup_strv_ _cleanup_(strv_done)
/* Environment vectors: "K=V" items. */
const char *strv_env_get(const struct strv *s, const char *key);
void strv_env_set(struct strv *s, const char *key, const char *value); /* replaces, keeps the place */
void strv_env_unset(struct strv *s, const char *key);

/* Text helpers. */
void buf_add_hex(struct buf *b, const void *p, size_t n);
void buf_add_base64(struct buf *b, const void *p, size_t n);
void buf_add_base64url(struct buf *b, const void *p, size_t n); /* without padding */
int base64_decode(struct sv in, struct buf *out); /* both alphabets, padding optional; -EINVAL */
void buf_add_urlencoded(struct buf *b, struct sv v);  /* RFC 3986 unreserved stay */
bool utf8_valid(struct sv v);
/* Human sizes and times: "1.2 GB", "340 ms", "1m 05s". */
void buf_add_size(struct buf *b, uint64_t bytes);
void buf_add_duration(struct buf *b, uint64_t ns);
