/* What a step says: workflow commands on its output, and the files GITHUB_ENV, GITHUB_OUTPUT and
 * GITHUB_PATH. */
#include "run/commands.h"
#include "run/filecmd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    struct sv text;
    size_t n;
};

static int pair(void *arg, struct sv key, struct sv value) {
    struct seen *s = arg;
    assert(key.n && !memchr(key.p, '\n', key.n) && !memchr(key.p, 0, key.n));
    assert(!value.n || (value.p >= s->text.p && value.p + value.n <= s->text.p + s->text.n));
    s->n++;
    return 0;
}

static void line_of(struct sv line) {
    _cleanup_arena_ struct arena a = {0};
    struct wcommand c;
    bool found = wcommand_parse(&a, line, &c);
    /* What the scan passes over is never a command. */
    assert(!found || wcommand_scan(line.p, line.n, 0) < line.n);
    if (!found)
        return;
    assert(wcommand_known(c.name) && c.n_props <= ELEMENTS(c.props) && c.data.n <= line.n);
    for (size_t i = 0; i < c.n_props; i++)
        assert(c.props[i].value.n <= line.n && c.props[i].key.n <= line.n);
    (void)wcommand_prop(&c, "file");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sv text = {(const char *)data, size}, rest = text, line;
    struct seen seen = {.text = text};
    struct err e = {0};
    if (!size)
        return 0;
    while (sv_split(&rest, '\n', &line))
        if (line.n)
            line_of(line);
    int r = filecmd_pairs(text, pair, &seen, &e);
    assert(r == 0 || (e.msg[0] && seen.n == 0));
    _cleanup_strv_ struct strv paths = {0};
    filecmd_paths(text, &paths);
    for (size_t i = 0; i < paths.n; i++)
        assert(paths.v[i][0] && !strchr(paths.v[i], '\n'));
    return 0;
}
