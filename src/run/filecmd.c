#include "run/filecmd.h"

/* A line ends at '\n'; a '\r' before it belongs to the line, as in the runner on Linux. */
static bool next_line(struct sv text, size_t *pos, struct sv *ret) {
    if (*pos >= text.n)
        return false;
    const char *nl = memchr(text.p + *pos, '\n', text.n - *pos);
    size_t end = nl ? (size_t)(nl - text.p) : text.n;
    *ret = sv_n(text.p + *pos, end - *pos);
    *pos = nl ? end + 1 : text.n;
    return true;
}

static int heredoc(struct sv text, size_t *pos, struct sv delim, struct sv *ret, struct err *e) {
    size_t start = *pos;
    for (struct sv line;;) {
        size_t before = *pos;
        if (!next_line(text, pos, &line))
            return err_set(e, ERR_FAILED, -EBADMSG,
                           "Invalid value. Matching delimiter not found '" SV_FMT "'", SV_ARG(delim));
        if (sv_eq(line, delim)) {
            *ret = before > start ? sv_n(text.p + start, before - start - 1) : SV("");
            return 0;
        }
    }
}

static int walk(struct sv text, int (*fn)(void *, struct sv, struct sv), void *arg, struct err *e) {
    size_t pos = 0;
    struct sv line;
    while (next_line(text, &pos, &line)) {
        if (!line.n)
            continue;
        ssize_t eq = sv_chr(line, '='), doc = sv_find(line, SV("<<"));
        struct sv key, value;
        if (eq >= 0 && (doc < 0 || eq < doc)) {
            key = sv_sub(line, 0, (size_t)eq);
            value = sv_sub(line, (size_t)eq + 1, SIZE_MAX);
            if (!key.n)
                return err_set(e, ERR_FAILED, -EBADMSG,
                               "Invalid format '" SV_FMT "'. Name must not be empty", SV_ARG(line));
        } else if (doc >= 0) {
            key = sv_sub(line, 0, (size_t)doc);
            struct sv delim = sv_sub(line, (size_t)doc + 2, SIZE_MAX);
            if (!key.n || !delim.n)
                return err_set(e, ERR_FAILED, -EBADMSG,
                               "Invalid format '" SV_FMT
                               "'. Name must not be empty and delimiter must not be empty",
                               SV_ARG(line));
            int r = heredoc(text, &pos, delim, &value, e);
            if (r < 0)
                return r;
        } else {
            return err_set(e, ERR_FAILED, -EBADMSG, "Invalid format '" SV_FMT "'", SV_ARG(line));
        }
        if (memchr(key.p, 0, key.n) || memchr(value.p, 0, value.n))
            return err_set(e, ERR_FAILED, -EBADMSG, "a value holds a NUL byte");
        int r = fn ? fn(arg, key, value) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

int filecmd_pairs(struct sv text, int (*fn)(void *arg, struct sv key, struct sv value), void *arg,
                  struct err *e) {
    /* The byte order mark that PowerShell writes. */
    if (sv_starts(text, "\xef\xbb\xbf"))
        text = sv_sub(text, 3, SIZE_MAX);
    int r = walk(text, NULL, NULL, e);
    return r < 0 ? r : walk(text, fn, arg, e);
}

void filecmd_paths(struct sv text, struct strv *ret) {
    size_t pos = 0;
    struct sv line;
    if (sv_starts(text, "\xef\xbb\xbf"))
        text = sv_sub(text, 3, SIZE_MAX);
    while (next_line(text, &pos, &line)) {
        line = sv_rtrim(line);
        if (line.n && !memchr(line.p, 0, line.n))
            strv_addn(ret, line.p, line.n);
    }
}
