#include "cli/markdown.h"

static void plain(struct sv s, struct buf *out) {
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool c1 = c == 0xc2 && i + 1 < s.n && (unsigned char)s.p[i + 1] < 0xa0; /* U+0080 to U+009F */
        if (c1)
            i++;
        else if ((c >= ' ' && c != 127) || c == '\t' || c == '\n')
            buf_addc(out, s.p[i]);
    }
}

/* The end of a run that `mark` opened before `from`; -1 when it is never closed. */
static ssize_t closing(struct sv s, size_t from, const char *mark) {
    ssize_t at = sv_find(sv_sub(s, from, s.n), sv_from(mark));
    return at <= 0 ? -1 : (ssize_t)from + at;
}

static void marked(struct sv s, const char *on, const char *off, struct buf *out) {
    buf_adds(out, on);
    plain(s, out);
    buf_adds(out, off);
}

static void inline_text(struct sv s, struct buf *out) {
    for (size_t i = 0; i < s.n;) {
        struct sv rest = sv_sub(s, i, s.n);
        ssize_t end = -1;
        if (rest.p[0] == '`' && (end = closing(s, i + 1, "`")) > 0) {
            marked(sv_sub(s, i + 1, (size_t)end - i - 1), "\033[36m", "\033[0m", out);
            i = (size_t)end + 1;
        } else if (sv_starts(rest, "**") && (end = closing(s, i + 2, "**")) > 0) {
            marked(sv_sub(s, i + 2, (size_t)end - i - 2), "\033[1m", "\033[0m", out);
            i = (size_t)end + 2;
        } else if (rest.p[0] == '[' && (end = closing(s, i + 1, "](")) > 0) {
            ssize_t close = closing(s, (size_t)end + 2, ")");
            marked(sv_sub(s, i + 1, (size_t)end - i - 1), "\033[4m", "\033[0m", out);
            if (close > 0) {
                buf_adds(out, " (");
                plain(sv_sub(s, (size_t)end + 2, (size_t)(close - end) - 2), out);
                buf_addc(out, ')');
                i = (size_t)close + 1;
            } else
                i = (size_t)end + 1;
        } else {
            plain(sv_sub(s, i, 1 + (sv_starts(rest, "\xc2") && rest.n > 1)), out);
            i += 1 + (sv_starts(rest, "\xc2") && rest.n > 1);
        }
    }
}

void markdown_show(struct sv text, bool colour, struct buf *out) {
    struct sv line;
    bool code = false;
    if (!colour) {
        plain(text, out);
        if (text.n && text.p[text.n - 1] != '\n')
            buf_addc(out, '\n');
        return;
    }
    while (text.n && sv_line(&text, &line)) {
        struct sv t = line;
        size_t indent = 0, hashes = 0;
        while (indent < t.n && t.p[indent] == ' ')
            indent++;
        t = sv_sub(t, indent, t.n);
        while (hashes < t.n && t.p[hashes] == '#')
            hashes++;
        if (sv_starts(t, "```")) {
            code = !code;
            continue;
        }
        for (size_t i = 0; i < indent; i++)
            buf_addc(out, ' ');
        if (code) {
            marked(t, "\033[36m", "\033[0m", out);
        } else if (hashes && hashes < 7 && hashes < t.n && t.p[hashes] == ' ') {
            marked(sv_trim(sv_sub(t, hashes, t.n)), "\033[1m", "\033[0m", out);
        } else if (t.n > 2 && strchr("-*+", t.p[0]) && t.p[1] == ' ') {
            buf_adds(out, "\xe2\x80\xa2 ");
            inline_text(sv_sub(t, 2, t.n), out);
        } else {
            inline_text(t, out);
        }
        buf_addc(out, '\n');
    }
}
