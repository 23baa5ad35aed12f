#pragma once
/* The one error idiom.
 *
 * Functions return an int >= 0 or a negative errno. Those whose cause a user should see take a
 * `struct err *e` last (NULL allowed). Outputs are untouched on failure. The innermost function
 * sets the error, callers wrap it from outer to inner: "pull x: manifest: 404". An err is a plain
 * value with fixed buffers: nothing to free, copying is assignment; long texts are truncated with
 * "..." at the end.
 *
 * Kinds map one to one to exit code, HTTP status and colour (err_exit_code, err_http_status). */
#include "core/macro.h"

#include <stdarg.h>

enum err_kind {
    ERR_NONE = 0,
    ERR_USER,     /* wrong usage or input: exit 2 */
    ERR_CONFIG,   /* a file that the user wrote is wrong: exit 2 */
    ERR_NOTFOUND, /* something named does not exist: exit 1 */
    ERR_CONFLICT, /* exists already, in use: exit 1 */
    ERR_AUTH,     /* refused credentials: exit 1 */
    ERR_NET,      /* network or remote service: exit 1 */
    ERR_LIMIT,    /* a limit on something from outside: exit 1 */
    ERR_ENV,      /* this host cannot do it: exit 3 */
    ERR_FAILED,   /* the work itself failed (a command exited non-zero): exit 1 */
    ERR_HELD,     /* held back on purpose: exit 4 */
    ERR_INCOMPLETE, /* could not be judged: exit 5 */
    ERR_CANCELLED,  /* exit 130 */
    ERR_INTERNAL,   /* a defect of ours: exit 1 */
};

/* A place in a text file. line and col count from 1, col in bytes; 0 = not known. end_* is one
 * past the last byte, 0 when only a point is known. `file` must outlive the span (it is interned
 * with span_file or lives in the same arena). */
struct span {
    const char *file;
    uint32_t line, col, end_line, end_col;
};

struct err {
    enum err_kind kind;
    int errnum; /* positive errno, 0 = none */
    struct span at;
    char msg[1000];
    char hint[500];
};

/* Sets *e (when not NULL) and returns r, which is negative. */
int err_set(struct err *e, enum err_kind kind, int r, const char *fmt, ...) _printf_(4, 5);
int err_setv(struct err *e, enum err_kind kind, int r, const char *fmt, va_list ap);
/* The same with ": strerror" appended; kind ERR_ENV for ENOSPC, EROFS, EMFILE, ENOMEM, else
 * ERR_INTERNAL unless given. r is a negative errno. */
int err_errno(struct err *e, int r, const char *fmt, ...) _printf_(3, 4);
/* Puts "text: " before the message that is there. Sets strerror when none was set. Returns r. */
int err_wrap(struct err *e, int r, const char *fmt, ...) _printf_(3, 4);
int err_hint(struct err *e, int r, const char *fmt, ...) _printf_(3, 4);
int err_at(struct err *e, int r, struct span at);

int err_exit_code(enum err_kind kind);
int err_http_status(enum err_kind kind);
const char *err_kind_name(enum err_kind kind); /* "user", "config", … */

/* Diagnostics of files: a list, all errors in one pass. Bounded: past `max` only counted. */
enum diag_level { DIAG_ERROR, DIAG_WARNING, DIAG_NOTE };
struct diag {
    enum diag_level level;
    struct span at;
    struct span focus; /* the exact part, when `at` has to be a whole value (line 0: none) */
    char *code; /* stable short name, or NULL */
    char *msg;
    char *hint; /* or NULL */
};
struct diags {
    struct diag *items;
    size_t n, cap;
    size_t max;     /* 0 = 1000 */
    size_t dropped; /* counted past max */
    size_t errors, warnings;
};
void diags_add(struct diags *d, enum diag_level level, struct span at, const char *code,
               const char *hint, const char *fmt, ...) _printf_(6, 7);
void diags_sort(struct diags *d); /* by file, line, col; stable */
void diags_done(struct diags *d);
/* Prints "file:line:col: error: msg", the line, a caret and the hint. `source` is the file's text
 * or NULL (then the file is read, when it can be). colour adds ANSI. */
void diag_print(FILE *out, const struct diag *d, const char *source, size_t source_len, bool colour);
void err_print(FILE *out, const struct err *e, bool colour);

/* Interns a file name for the life of the process. */
const char *span_file(const char *name);
