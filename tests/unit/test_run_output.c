#include "test.h"

#include "run/output.h"

#include <fcntl.h>

static struct buf seen;
static unsigned cut;
static struct output *out;
static struct masker *masker;

static bool command(void *arg, const struct wcommand *c, struct sv line) {
    buf_addf(&seen, "{" SV_FMT "|" SV_FMT "}", SV_ARG(c->name), SV_ARG(c->data));
    if (sv_eqs(c->name, "stop-commands")) {
        _cleanup_free_ char *t = sv_dup(c->data);
        output_stop(out, t);
    }
    if (sv_eqs(c->name, "add-mask"))
        masker_add(masker, c->data);
    return !sv_eqs(c->name, "debug");
}
static void text(void *arg, struct sv lines) {
    buf_addsv(&seen, lines);
    if (lines.p[lines.n - 1] != '\n')
        cut++;
}
static const char *feed(const char *s, size_t piece) {
    int fd[2];
    buf_done(&seen);
    seen = BUF_LARGE;
    cut = 0;
    masker = masker_new();
    struct output_ops ops = {command, text, NULL};
    out = output_new(masker, &ops);
    CHECK(pipe2(fd, O_CLOEXEC | O_NONBLOCK) == 0);
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i += piece) {
        size_t k = n - i < piece ? n - i : piece;
        CHECK(write(fd[1], s + i, k) == (ssize_t)k);
        while (output_read(out, fd[0]) > 0)
            ;
    }
    output_end(out);
    output_free(out);
    masker_free(masker);
    close(fd[0]);
    close(fd[1]);
    return buf_str(&seen);
}
TEST(lines) {
    for (size_t piece = 1; piece < 40; piece += 3) {
        CHECK_STR(feed("a\nb::c\nstd::x\n", piece), "a\nb::c\nstd::x\n");
        CHECK_INT(cut, 0);
        CHECK_STR(feed("a\n::group::T\nb\n  ::endgroup::\nc", piece), "a\n{group|T}b\n{endgroup|}c");
        CHECK_STR(feed("::stop-commands::tok\n::error::x\n::tok::\n::error::y\n", piece),
                  "{stop-commands|tok}::error::x\n{error|y}");
        CHECK_STR(feed("::debug::x\nz\n", piece), "{debug|x}::debug::x\nz\n");
        CHECK_STR(feed("::add-mask::hunter2\nmy hunter2!\nhunter", piece), "{add-mask|hunter2}my ***!\nhunter");
    }
}
TEST(long_line) {
    char *s = malloc((3u << 20) + 40);
    memset(s, 'x', 3u << 20);
    memcpy(s + (3u << 20), "::error::no\n::error::yes\n", 26);
    int fd[2];
    buf_done(&seen);
    seen = BUF_LARGE;
    masker = masker_new();
    struct output_ops ops = {command, text, NULL};
    out = output_new(masker, &ops);
    CHECK(pipe2(fd, O_CLOEXEC | O_NONBLOCK) == 0);
    for (size_t i = 0, n = strlen(s); i < n;) {
        size_t k = n - i < 60000 ? n - i : 60000;
        CHECK(write(fd[1], s + i, k) == (ssize_t)k);
        i += k;
        while (output_read(out, fd[0]) > 0)
            ;
    }
    output_end(out);
    CHECK(seen.n >= (3u << 20) + 12);
    CHECK(memmem(seen.p, seen.n, "::error::no\n{error|yes}", 23) != NULL);
    output_free(out);
    masker_free(masker);
    close(fd[0]);
    close(fd[1]);
    free(s);
    buf_done(&seen);
}
