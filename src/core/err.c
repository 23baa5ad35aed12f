/* Errors and diagnostics: values with fixed buffers, so that no error path can leak or fail. */
#include "core/err.h"

#include "core/fs.h"
#include "core/map.h"
#include "core/str.h"

#include <pthread.h>

static void put(char *to, size_t size, const char *fmt, va_list ap) {
    int n = vsnprintf(to, size, fmt, ap);
    if (n >= (int)size)
        memcpy(to + size - 4, "...", 4);
}

int err_setv(struct err *e, enum err_kind kind, int r, const char *fmt, va_list ap) {
    assert(r < 0);
    if (!e)
        return r;
    memset(e, 0, sizeof *e);
    e->kind = kind;
    e->errnum = -r;
    put(e->msg, sizeof e->msg, fmt, ap);
    return r;
}

int err_set(struct err *e, enum err_kind kind, int r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err_setv(e, kind, r, fmt, ap);
    va_end(ap);
    return r;
}

static enum err_kind kind_of_errno(int n) {
    switch (n) {
    case ENOSPC: case EROFS: case EMFILE: case ENFILE: case ENOMEM: case EDQUOT:
        return ERR_ENV;
    case ENOENT:
        return ERR_NOTFOUND;
    case EEXIST: case EBUSY: case EADDRINUSE:
        return ERR_CONFLICT;
    case EFBIG: case E2BIG: case ENAMETOOLONG: case ELOOP:
        return ERR_LIMIT;
    case ECANCELED:
        return ERR_CANCELLED;
    case ECONNREFUSED: case ETIMEDOUT: case ECONNRESET: case EHOSTUNREACH: case ENETUNREACH:
        return ERR_NET;
    default:
        return ERR_INTERNAL;
    }
}

int err_errno(struct err *e, int r, const char *fmt, ...) {
    assert(r < 0);
    if (!e)
        return r;
    va_list ap;
    va_start(ap, fmt);
    err_setv(e, kind_of_errno(-r), r, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->msg);
    snprintf(e->msg + n, sizeof e->msg - n, ": %s", strerror(-r));
    return r;
}

int err_wrap(struct err *e, int r, const char *fmt, ...) {
    if (!e)
        return r;
    struct err inner = *e;
    va_list ap;
    if (inner.kind == ERR_NONE) {
        inner.kind = kind_of_errno(-r);
        inner.errnum = -r;
        snprintf(inner.msg, sizeof inner.msg, "%s", strerror(-r));
    }
    *e = inner;
    va_start(ap, fmt);
    put(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->msg);
    int more = snprintf(e->msg + n, sizeof e->msg - n, ": %s", inner.msg);
    if (more >= (int)(sizeof e->msg - n))
        memcpy(e->msg + sizeof e->msg - 4, "...", 4);
    return r;
}

int err_hint(struct err *e, int r, const char *fmt, ...) {
    if (!e)
        return r;
    va_list ap;
    va_start(ap, fmt);
    put(e->hint, sizeof e->hint, fmt, ap);
    va_end(ap);
    return r;
}

int err_at(struct err *e, int r, struct span at) {
    if (e)
        e->at = at;
    return r;
}

static const struct {
    const char *name;
    int exit_code, http;
} kinds[] = {
    [ERR_NONE] = {"none", 1, 500},          [ERR_USER] = {"user", 2, 400},
    [ERR_CONFIG] = {"config", 2, 400},      [ERR_NOTFOUND] = {"notfound", 1, 404},
    [ERR_CONFLICT] = {"conflict", 1, 409},  [ERR_AUTH] = {"auth", 1, 401},
    [ERR_NET] = {"net", 1, 502},            [ERR_LIMIT] = {"limit", 1, 413},
    [ERR_ENV] = {"env", 3, 500},            [ERR_FAILED] = {"failed", 1, 500},
    [ERR_HELD] = {"held", 4, 403},          [ERR_INCOMPLETE] = {"incomplete", 5, 500},
    [ERR_CANCELLED] = {"cancelled", 130, 500}, [ERR_INTERNAL] = {"internal", 1, 500},
};

int err_exit_code(enum err_kind kind) {
    return (size_t)kind < ELEMENTS(kinds) ? kinds[kind].exit_code : 1;
}
int err_http_status(enum err_kind kind) {
    return (size_t)kind < ELEMENTS(kinds) ? kinds[kind].http : 500;
}
const char *err_kind_name(enum err_kind kind) {
    return (size_t)kind < ELEMENTS(kinds) ? kinds[kind].name : "internal";
}

/* --- diagnostics --------------------------------------------------------------------------- */

void diags_add(struct diags *d, enum diag_level level, struct span at, const char *code,
               const char *hint, const char *fmt, ...) {
    if (level == DIAG_ERROR)
        d->errors++;
    else if (level == DIAG_WARNING)
        d->warnings++;
    if (d->n >= (d->max ? d->max : 1000)) {
        d->dropped++;
        return;
    }
    GROW(d->items, d->cap, d->n + 1);
    char *msg = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&msg, fmt, ap) < 0)
        abort();
    va_end(ap);
    d->items[d->n++] = (struct diag){.level = level, .at = at, .code = xstrdup(code), .msg = msg, .hint = xstrdup(hint)};
}

static bool diag_after(const struct diag *a, const struct diag *b) {
    int c = strcmp(a->at.file ? a->at.file : "", b->at.file ? b->at.file : "");
    if (c)
        return c > 0;
    if (a->at.line != b->at.line)
        return a->at.line > b->at.line;
    return a->at.col > b->at.col;
}

void diags_sort(struct diags *d) {
    for (size_t i = 1; i < d->n; i++) { /* stable; lists are short and nearly sorted */
        struct diag x = d->items[i];
        size_t j = i;
        for (; j > 0 && diag_after(&d->items[j - 1], &x); j--)
            d->items[j] = d->items[j - 1];
        d->items[j] = x;
    }
}

void diags_done(struct diags *d) {
    for (size_t i = 0; i < d->n; i++) {
        free(d->items[i].code);
        free(d->items[i].msg);
        free(d->items[i].hint);
    }
    free(d->items);
    *d = (struct diags){.max = d->max};
}

/* The caret line: tabs stay tabs so that it lines up; control bytes of the source show as '?'. */
static void print_source(FILE *out, struct span at, const char *source, size_t len, bool colour) {
    _cleanup_buf_ struct buf file = BUF_MAX(4u << 20);
    if (!at.line)
        return;
    if (!source) {
        if (!at.file || fs_read(AT_FDCWD, at.file, &file, NULL) < 0)
            return;
        source = buf_str(&file);
        len = file.n;
    }
    struct sv rest = {source, len}, line = SV_NULL;
    for (uint32_t i = 0; i < at.line; i++)
        if (!sv_line(&rest, &line))
            return;
    if (line.n > 400)
        line.n = 400;
    fprintf(out, "%6u | ", at.line);
    for (size_t i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.p[i];
        fputc((c < 32 && c != '\t') || c == 127 ? '?' : c, out);
    }
    fputc('\n', out);
    if (!at.col || at.col > line.n + 1)
        return;
    fputs("       | ", out);
    for (uint32_t i = 0; i + 1 < at.col; i++) {
        unsigned char c = (unsigned char)line.p[i];
        if (c == '\t')
            fputc('\t', out);
        else if ((c & 0xc0) != 0x80) /* one column for each character, not byte */
            fputc(' ', out);
    }
    uint32_t n = at.end_line == at.line && at.end_col > at.col ? at.end_col - at.col : 1;
    if (colour)
        fputs("\033[1;31m", out);
    fputc('^', out);
    for (uint32_t i = 1; i < n && at.col + i <= line.n; i++)
        if (((unsigned char)line.p[at.col - 1 + i] & 0xc0) != 0x80)
            fputc('~', out);
    fputs(colour ? "\033[0m\n" : "\n", out);
}

static void print_place(FILE *out, struct span at) {
    if (!at.file)
        return;
    fputs(at.file, out);
    if (at.line)
        fprintf(out, ":%u", at.line);
    if (at.line && at.col)
        fprintf(out, ":%u", at.col);
    fputs(": ", out);
}

void diag_print(FILE *out, const struct diag *d, const char *source, size_t len, bool colour) {
    static const struct {
        const char *name, *colour;
    } levels[] = {{"error", "\033[1;31m"}, {"warning", "\033[1;33m"}, {"note", "\033[1m"}};
    struct span at = d->focus.line ? d->focus : d->at;
    print_place(out, at);
    if (colour)
        fprintf(out, "%s%s:\033[0m %s", levels[d->level].colour, levels[d->level].name, d->msg);
    else
        fprintf(out, "%s: %s", levels[d->level].name, d->msg);
    if (d->code)
        fprintf(out, " [%s]", d->code);
    fputc('\n', out);
    print_source(out, at, source, len, colour);
    if (d->hint)
        fprintf(out, "       = hint: %s\n", d->hint);
}

void err_print(FILE *out, const struct err *e, bool colour) {
    print_place(out, e->at);
    fprintf(out, colour ? "\033[1;31merror:\033[0m %s\n" : "error: %s\n",
            e->msg[0] ? e->msg : strerror(e->errnum));
    print_source(out, e->at, NULL, 0, colour);
    if (e->hint[0])
        fprintf(out, "  hint: %s\n", e->hint);
}

/* Interned for the life of the process: spans point to names without owning them. */
const char *span_file(const char *name) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct map names; /* name -> the same, interned */
    pthread_mutex_lock(&lock);
    char *found = map_gets(&names, name);
    if (!found) {
        found = xstrdup(name);
        map_sets(&names, name, found);
    }
    pthread_mutex_unlock(&lock);
    return found;
}
