/* The masker's search is Wu and Manber's: patterns are compared by the two bytes at the end of a
 * window as long as the shortest pattern. A table of 65,536 shifts tells how far the window may
 * jump, so most of the text is never looked at; only a shift of zero leads to a comparison. All
 * patterns live in one immutable set that is rebuilt after an addition; streams take a reference
 * for each write, so adding a secret never stops them.
 *
 * Overlapping finds are merged into one "***". A stream holds back only what could be the start of
 * a pattern, so ordinary output is not delayed. */
#include "core/mask.h"

#include "core/json.h"

#include <pthread.h>

struct pattern {
    const char *p;
    size_t n;
};
struct set {
    unsigned refs;
    struct pattern *pats; /* grouped by block, see bucket; longest first within one */
    size_t n;
    size_t min, max;
    uint8_t *shift;    /* [65536]; 0 = a pattern may end its first `min` bytes here */
    uint32_t *bucket;  /* [65537] first pattern of a block */
    bool first[256];   /* bytes that start a pattern */
    struct pattern *by_first; /* sorted by first byte */
    uint32_t first_at[257];
};
struct masker {
    pthread_mutex_t lock;
    char **secrets; /* every pattern, malloced, zeroed at the end */
    size_t *lens;
    size_t n, cap, lens_cap;
    struct set *set;
    bool dirty;
    bool any;
};

static unsigned block(const char *p) {
    return (unsigned)(uint8_t)p[0] << 8 | (uint8_t)p[1];
}

static void set_unref(struct set *s) {
    if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL))
        return;
    free(s->pats);
    free(s->by_first);
    free(s->shift);
    free(s->bucket);
    free(s);
}

static size_t sort_min; /* qsort has no argument; set under the global lock below */
static pthread_mutex_t sort_lock = PTHREAD_MUTEX_INITIALIZER;
static int by_block(const void *a, const void *b) {
    const struct pattern *x = a, *y = b;
    unsigned bx = block(x->p + sort_min - 2), by = block(y->p + sort_min - 2);
    return bx != by ? (bx > by) - (bx < by) : (x->n < y->n) - (x->n > y->n);
}
static int by_first_byte(const void *a, const void *b) {
    const struct pattern *x = a, *y = b;
    return (int)(uint8_t)x->p[0] - (int)(uint8_t)y->p[0];
}

static struct set *set_build(const struct masker *m) {
    struct set *s = xcalloc(1, sizeof *s);
    s->refs = 1;
    s->n = m->n;
    s->min = SIZE_MAX;
    s->pats = xcalloc(m->n, sizeof *s->pats);
    for (size_t i = 0; i < m->n; i++) {
        s->pats[i] = (struct pattern){m->secrets[i], m->lens[i]};
        s->min = MIN(s->min, m->lens[i]);
        s->max = MAX(s->max, m->lens[i]);
        s->first[(uint8_t)m->secrets[i][0]] = true;
    }
    if (s->min > 200)
        s->min = 200; /* the shift fits a byte */
    pthread_mutex_lock(&sort_lock);
    sort_min = s->min;
    qsort(s->pats, s->n, sizeof *s->pats, by_block);
    pthread_mutex_unlock(&sort_lock);
    s->shift = xmalloc(65536);
    memset(s->shift, (int)(s->min - 1), 65536);
    s->bucket = xcalloc(65537, sizeof *s->bucket);
    for (size_t i = 0; i < s->n; i++) {
        for (size_t at = 0; at + 2 <= s->min; at++) {
            uint8_t *sh = &s->shift[block(s->pats[i].p + at)];
            *sh = (uint8_t)MIN((size_t)*sh, s->min - 2 - at);
        }
        s->bucket[block(s->pats[i].p + s->min - 2) + 1]++;
    }
    for (size_t i = 0; i < 65536; i++)
        s->bucket[i + 1] += s->bucket[i];
    s->by_first = xcalloc(s->n, sizeof *s->by_first);
    memcpy(s->by_first, s->pats, s->n * sizeof *s->pats);
    qsort(s->by_first, s->n, sizeof *s->by_first, by_first_byte);
    for (size_t i = 0; i < s->n; i++)
        s->first_at[(uint8_t)s->by_first[i].p[0] + 1]++;
    for (size_t i = 0; i < 256; i++)
        s->first_at[i + 1] += s->first_at[i];
    return s;
}

/* The current set, referenced; NULL when there is no secret. */
static struct set *set_get(struct masker *m) {
    if (!m || !__atomic_load_n(&m->any, __ATOMIC_ACQUIRE))
        return NULL;
    pthread_mutex_lock(&m->lock);
    if (m->dirty) {
        set_unref(m->set);
        m->set = set_build(m);
        m->dirty = false;
    }
    struct set *s = m->set;
    __atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&m->lock);
    return s;
}

/* The next match at or after from: start, and the end of the longest pattern there. */
static bool find(const struct set *s, const char *p, size_t n, size_t from, size_t *ret_start, size_t *ret_end) {
    if (n < s->min)
        return false;
    const uint8_t *shift = s->shift;
    size_t min = s->min;
    for (size_t at = from + min; at <= n;) { /* at: end of the window */
        unsigned b = block(p + at - 2);
        uint8_t sh = shift[b];
        if (sh) {
            at += sh;
            continue;
        }
        size_t start = at - min;
        for (uint32_t i = s->bucket[b]; i < s->bucket[b + 1]; i++) {
            const struct pattern *pat = &s->pats[i];
            if (pat->p[0] == p[start] && pat->n <= n - start && memcmp(pat->p, p + start, pat->n) == 0) {
                *ret_start = start;
                *ret_end = start + pat->n;
                return true;
            }
        }
        at++;
    }
    return false;
}

/* Cuts p[0..n) into runs of clear text and matches. out gets the clear runs and "***". Matches that
 * overlap are one. Returns where it stopped: n, or the start of a match that touches the end (it may
 * yet be longer) when !last. */
static int cut(const struct set *s, const char *p, size_t n, bool last, size_t hold, mask_out_fn out,
               void *arg, size_t *ret_done, bool *ret_any) {
    size_t done = 0, from = 0, start, end;
    int r = 0;
    while (find(s, p, n, from, &start, &end)) {
        size_t more_start, more_end, at = start + 1;
        while (at < end && find(s, p, MIN(n, end + s->max), at, &more_start, &more_end) && more_start < end) {
            end = MAX(end, more_end);
            at = more_start + 1;
        }
        if (!last && end > hold) { /* what is held back may overlap it or make it longer */
            hold = MIN(hold, start);
            break;
        }
        if (start > done && (r = out(arg, sv_n(p + done, start - done))) < 0)
            return r;
        if ((r = out(arg, SV("***"))) < 0)
            return r;
        *ret_any = true;
        done = from = end;
    }
    size_t stop = last ? n : MAX(hold, done);
    if (stop > done && (r = out(arg, sv_n(p + done, stop - done))) < 0)
        return r;
    *ret_done = stop;
    return 0;
}

/* The first offset from which the text could be the start of a pattern that goes on after it. */
static size_t hold_from(const struct set *s, const char *p, size_t n) {
    size_t i = n > s->max - 1 ? n - (s->max - 1) : 0;
    for (; i < n; i++) {
        uint8_t c = (uint8_t)p[i];
        if (!s->first[c])
            continue;
        size_t left = n - i;
        for (uint32_t k = s->first_at[c]; k < s->first_at[c + 1]; k++)
            if (s->by_first[k].n > left && memcmp(s->by_first[k].p, p + i, left) == 0)
                return i;
    }
    return n;
}

/* --- secrets and their forms ----------------------------------------------------------------- */

struct masker *masker_new(void) {
    struct masker *m = xcalloc(1, sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

void masker_free(struct masker *m) {
    if (!m)
        return;
    set_unref(m->set);
    for (size_t i = 0; i < m->n; i++) {
        explicit_bzero(m->secrets[i], m->lens[i]);
        free(m->secrets[i]);
    }
    free(m->secrets);
    free(m->lens);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

bool masker_empty(const struct masker *m) {
    return !m || !__atomic_load_n(&m->any, __ATOMIC_ACQUIRE);
}

static void add(struct masker *m, struct sv v) {
    if (v.n < 2)
        return;
    for (size_t i = 0; i < m->n; i++)
        if (m->lens[i] == v.n && memcmp(m->secrets[i], v.p, v.n) == 0)
            return;
    GROW(m->secrets, m->cap, m->n + 1);
    GROW(m->lens, m->lens_cap, m->n + 1);
    m->secrets[m->n] = sv_dup(v);
    m->lens[m->n++] = v.n;
    m->dirty = true;
    __atomic_store_n(&m->any, true, __ATOMIC_RELEASE);
}

/* base64 of the secret as it stands inside a longer text, for each offset: only the digits that the
 * secret alone decides, so that what precedes and follows does not matter. */
static void add_base64(struct masker *m, struct sv v) {
    for (size_t k = 0; k < 3; k++) {
        _cleanup_buf_ struct buf raw = BUF_LARGE, std = BUF_LARGE;
        buf_add(&raw, "\0\0", k);
        buf_addsv(&raw, v);
        if (!buf_ok(&raw))
            return;
        buf_add_base64(&std, raw.p, raw.n);
        size_t from = (8 * k + 5) / 6, to = 8 * (k + v.n) / 6;
        if (to < from + 4 || !buf_ok(&std))
            continue;
        add(m, sv_n(std.p + from, to - from));
        bool other = false;
        for (size_t i = 0; i < std.n; i++) {
            if (std.p[i] == '+')
                std.p[i] = '-', other = true;
            else if (std.p[i] == '/')
                std.p[i] = '_', other = true;
        }
        if (other)
            add(m, sv_n(std.p + from, to - from));
        explicit_bzero(raw.p, raw.n);
        explicit_bzero(std.p, std.n);
    }
}

static void add_replaced(struct masker *m, struct sv v, const char *from, const char *const *to) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    bool any = false;
    for (size_t i = 0; i < v.n; i++) {
        const char *k = v.p[i] ? strchr(from, v.p[i]) : NULL;
        if (k) {
            buf_adds(&b, to[k - from]);
            any = true;
        } else {
            buf_addc(&b, v.p[i]);
        }
    }
    if (any && buf_ok(&b))
        add(m, buf_sv(&b));
    if (b.p)
        explicit_bzero(b.p, b.n);
}

static void add_forms(struct masker *m, struct sv v) {
    add(m, v);
    add_base64(m, v);
    _cleanup_buf_ struct buf b = BUF_LARGE;
    buf_add_urlencoded(&b, v);
    if (buf_ok(&b))
        add(m, buf_sv(&b));
    buf_reset(&b);
    json_escape(&b, v);
    if (buf_ok(&b) && b.n > 2)
        add(m, sv_n(b.p + 1, b.n - 2));
    if (b.p)
        explicit_bzero(b.p, b.n);
    add_replaced(m, v, "&<>\"'", (const char *const[]){"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"});
    add_replaced(m, v, "&<>", (const char *const[]){"&amp;", "&lt;", "&gt;"});
    add_replaced(m, v, "'", (const char *const[]){"'\\''"});
    add_replaced(m, v, "'", (const char *const[]){"''"});
    add_replaced(m, v, "\"", (const char *const[]){"\\\""});
    add_replaced(m, v, "\"$`\\", (const char *const[]){"\\\"", "\\$", "\\`", "\\\\"});
    add_replaced(m, v, "\"$`", (const char *const[]){"`\"", "`$", "``"});
    add_replaced(m, v, "%\r\n", (const char *const[]){"%25", "%0D", "%0A"}); /* a command's data */
    if (v.n > 4 && v.p[0] == '"' && v.p[v.n - 1] == '"')
        add(m, sv_sub(v, 1, v.n - 2));
    /* PowerShell prints the parts around an ampersand on their own. */
    ssize_t amp = sv_chr(v, '&');
    if (amp >= 6)
        add(m, sv_n(v.p, (size_t)amp));
    if (amp >= 0 && v.n - (size_t)amp - 1 >= 6)
        add(m, sv_sub(v, (size_t)amp + 1, SIZE_MAX));
}

static void add_leaves(struct masker *m, const struct json *j) {
    if ((j->kind == JSON_STRING && j->text.n >= 3) || (j->kind == JSON_NUMBER && j->text.n >= 6))
        add_forms(m, j->text);
    for (size_t i = 0; i < j->n; i++)
        add_leaves(m, j->items[i]);
}

static bool only_punctuation(struct sv v) {
    for (size_t i = 0; i < v.n; i++)
        if ((uint8_t)v.p[i] >= 128 || (v.p[i] >= '0' && v.p[i] <= '9') ||
            ((v.p[i] | 32) >= 'a' && (v.p[i] | 32) <= 'z'))
            return false;
    return true;
}

void masker_add(struct masker *m, struct sv secret) {
    struct sv v = sv_trim(secret);
    if (v.n < 2 || v.n > 4u << 20)
        return;
    pthread_mutex_lock(&m->lock);
    if (secret.n != v.n)
        add(m, secret);
    add_forms(m, v);
    if (sv_chr(v, '\n') >= 0) {
        struct sv rest = v, line;
        while (sv_line(&rest, &line)) {
            line = sv_trim(line);
            if (line.n >= 2 && (line.n > 8 || !only_punctuation(line)))
                add_forms(m, line);
        }
    }
    if (v.p[0] == '{' || v.p[0] == '[') {
        _cleanup_arena_ struct arena a = {0};
        struct json *j;
        if (json_parse(&a, v, &j, NULL) == 0)
            add_leaves(m, j);
    }
    pthread_mutex_unlock(&m->lock);
}

/* --- use -------------------------------------------------------------------------------------- */

static int to_buf(void *arg, struct sv chunk) {
    buf_addsv(arg, chunk);
    return 0;
}

bool mask_text(struct masker *m, struct sv in, struct buf *out) {
    struct set *s = set_get(m);
    bool any = false;
    size_t done;
    if (!s || !in.n)
        buf_addsv(out, in);
    else
        cut(s, in.p, in.n, true, in.n, to_buf, out, &done, &any);
    set_unref(s);
    return any;
}

bool mask_has(struct masker *m, struct sv in) {
    struct set *s = set_get(m);
    size_t start, end;
    bool yes = s && find(s, in.p, in.n, 0, &start, &end);
    set_unref(s);
    return yes;
}

struct mask_stream {
    struct masker *m;
    mask_out_fn out;
    void *arg;
    struct buf held;
};

struct mask_stream *mask_stream_new(struct masker *m, mask_out_fn out, void *arg) {
    struct mask_stream *s = xcalloc(1, sizeof *s);
    *s = (struct mask_stream){m, out, arg, BUF_MAX(64u << 20)};
    return s;
}

static int stream(struct mask_stream *st, struct sv in, bool last) {
    struct set *s = set_get(st->m);
    int r = 0;
    if (!s) {
        if (st->held.n) {
            r = st->out(st->arg, buf_sv(&st->held));
            buf_reset(&st->held);
        }
        return r < 0 || !in.n ? r : st->out(st->arg, in);
    }
    bool any = false;
    size_t done = 0;
    if (st->held.n) { /* rare: something was held back; work on a joined copy */
        buf_addsv(&st->held, in);
        in = buf_sv(&st->held);
    }
    size_t hold = last ? in.n : hold_from(s, in.p, in.n);
    r = buf_ok(&st->held) ? cut(s, in.p, in.n, last, hold, st->out, st->arg, &done, &any) : -EFBIG;
    if (r >= 0) {
        if (st->held.n)
            buf_cut(&st->held, 0, done);
        else if (done < in.n)
            buf_add(&st->held, in.p + done, in.n - done);
    }
    set_unref(s);
    return r;
}

int mask_stream_write(struct mask_stream *s, struct sv in) {
    return in.n ? stream(s, in, false) : 0;
}
int mask_stream_flush(struct mask_stream *s) {
    return stream(s, SV_NULL, true);
}
void mask_stream_free(struct mask_stream *s) {
    if (!s)
        return;
    if (s->held.p)
        explicit_bzero(s->held.p, s->held.n);
    buf_done(&s->held);
    free(s);
}
