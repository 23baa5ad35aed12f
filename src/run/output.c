#include "run/output.h"

#include <stdlib.h>

#define PIECE (512u << 10)
#define LINE_MAX_OUT (1u << 20)

struct output {
    struct masker *masker;
    struct mask_stream *mask;
    struct output_ops ops;
    char *p;        /* raw, from the last line's start on */
    size_t n, cap;
    bool midline;   /* the start of this line was given on already (it is longer than the buffer) */
    struct buf pend; /* masked: a line that is not complete */
    char *stop;     /* "::token::" expected, commands off until then */
};

static void give(struct output *o, struct sv lines) {
    if (lines.n)
        o->ops.text(o->ops.arg, lines);
}

/* Masked text comes in runs cut anywhere; goes out in whole lines. */
static int aligned(void *arg, struct sv run) {
    struct output *o = arg;
    if (o->pend.n) {
        const char *nl = memchr(run.p, '\n', run.n);
        size_t take = nl ? (size_t)(nl - run.p) + 1 : run.n;
        buf_add(&o->pend, run.p, take);
        run = sv_sub(run, take, SIZE_MAX);
        if (!nl && o->pend.n < LINE_MAX_OUT)
            return 0;
        if (!nl)
            buf_addc(&o->pend, '\n');
        give(o, buf_sv(&o->pend));
        buf_reset(&o->pend);
    }
    const char *last = run.n ? memrchr(run.p, '\n', run.n) : NULL;
    size_t whole = last ? (size_t)(last - run.p) + 1 : 0;
    give(o, sv_n(run.p, whole));
    if (run.n > whole)
        buf_add(&o->pend, run.p + whole, run.n - whole);
    return 0;
}

static void plain(struct output *o, const char *p, size_t n) {
    if (n)
        mask_stream_write(o->mask, sv_n(p, n));
}

struct output *output_new(struct masker *m, const struct output_ops *ops) {
    struct output *o = xcalloc(1, sizeof *o);
    o->masker = m;
    o->ops = *ops;
    o->mask = mask_stream_new(m, aligned, o);
    o->cap = PIECE;
    o->p = xmalloc(o->cap);
    o->pend = BUF_MAX(4u << 20);
    return o;
}

void output_free(struct output *o) {
    if (!o)
        return;
    mask_stream_free(o->mask);
    buf_done(&o->pend);
    free(o->stop);
    free(o->p);
    free(o);
}

void output_stop(struct output *o, const char *token) {
    free(o->stop);
    o->stop = token ? xstrdup(token) : NULL;
}

/* Looks at one line that holds "::" or "##[". True: it was a command and is consumed. */
static bool line_command(struct output *o, struct sv line) {
    struct sv t = sv_trim(line);
    if (o->stop) {
        size_t n = strlen(o->stop);
        if (t.n == n + 4 && memcmp(t.p, "::", 2) == 0 && memcmp(t.p + 2, o->stop, n) == 0 && sv_ends(t, "::")) {
            output_stop(o, NULL);
            return true;
        }
        return false;
    }
    if (!sv_starts(t, "::") && sv_find(line, SV("##[")) < 0)
        return false;
    _cleanup_arena_ struct arena a = {0};
    struct wcommand c;
    if (!wcommand_parse(&a, line, &c))
        return false;
    return o->ops.command(o->ops.arg, &c, line);
}

/* Complete lines p[0..n). */
static void lines(struct output *o, const char *p, size_t n) {
    size_t start = 0, pos = 0;
    if (o->midline) { /* the rest of a line whose start is gone: no command */
        const char *nl = memchr(p, '\n', n);
        pos = nl ? (size_t)(nl - p) + 1 : n;
        o->midline = false;
    }
    for (;;) {
        size_t at = wcommand_scan(p, n, pos);
        if (at >= n)
            break;
        const char *b = at > pos ? memrchr(p + pos, '\n', at - pos) : NULL;
        size_t from = b ? (size_t)(b - p) + 1 : pos;
        const char *nl = memchr(p + at, '\n', n - at);
        size_t end = nl ? (size_t)(nl - p) : n, next = nl ? end + 1 : n;
        struct sv line = sv_n(p + from, end - from);
        struct sv t = sv_trim(line);
        if (sv_starts(t, "::") || sv_find(line, SV("##[")) >= 0) {
            plain(o, p + start, from - start);
            mask_stream_flush(o->mask);
            start = line_command(o, line) ? next : from;
        }
        pos = next;
    }
    plain(o, p + start, n - start);
}

ssize_t output_read(struct output *o, int fd) {
    ssize_t r;
    do
        r = read(fd, o->p + o->n, o->cap - o->n);
    while (r < 0 && errno == EINTR);
    if (r <= 0)
        return r < 0 ? -errno : 0;
    o->n += (size_t)r;
    const char *last = memrchr(o->p + o->n - (size_t)r, '\n', (size_t)r);
    if (last) {
        size_t whole = (size_t)(last - o->p) + 1;
        lines(o, o->p, whole);
        mask_stream_flush(o->mask);
        memmove(o->p, o->p + whole, o->n - whole);
        o->n -= whole;
    }
    if (o->n == o->cap) { /* a line longer than the buffer goes on in pieces */
        plain(o, o->p, o->n);
        o->midline = true;
        o->n = 0;
    }
    return r;
}

void output_end(struct output *o) {
    if (o->n) {
        lines(o, o->p, o->n);
        o->n = 0;
    }
    o->midline = false;
    mask_stream_flush(o->mask);
    if (o->pend.n) {
        give(o, buf_sv(&o->pend));
        buf_reset(&o->pend);
    }
    output_stop(o, NULL);
}
