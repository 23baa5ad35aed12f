/* Archives that are small on the wire and large in memory. */
#include "test.h"

#include "core/fs.h"
#include "image/extract.h"
#include "tarmake.h"

struct again {
    struct sv tar;
    size_t at, turns;
};

static ssize_t read_again(void *arg, void *p, size_t n) {
    struct again *g = arg;
    if (g->at == g->tar.n) {
        g->at = 0;
        if (!g->turns--)
            return 0;
    }
    n = MIN(n, g->tar.n - g->at);
    memcpy(p, g->tar.p + g->at, n);
    g->at += n;
    return (ssize_t)n;
}

static int unpack(const char *a, const char *b, size_t turns, struct err *e) {
    char dir[] = "/tmp/test-extract-XXXXXX";
    struct tarmake t;
    struct extract_options o = {.no_chown = true};
    struct extract_stats st;
    CHECK(mkdtemp(dir) != NULL);
    tm_begin(&t);
    tm_dir(&t, a);
    tm_dir(&t, b);
    tm_end(&t);
    /* Without its end mark. */
    struct again g = {.tar = sv_sub(buf_sv(&t.b), 0, t.b.n - 1024), .turns = turns};
    int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct tar_reader *rd = tar_reader_new(read_again, &g);
    int r = layer_extract(rd, root, &o, &st, e);
    tar_reader_free(rd);
    buf_done(&t.b);
    close(root);
    CHECK_INT(fs_rmtree(AT_FDCWD, dir), 0);
    return r;
}

TEST(folders_again_and_again) {
    static char a[4000], b[4000];
    struct err e = {0};
    for (size_t i = 0; i < sizeof a - 1; i++)
        a[i] = b[i] = i % 250 == 249 ? '/' : 'x';
    b[0] = 'y';
    CHECK_INT(unpack("a", "b", 5000, &e), 0);
    CHECK_INT(unpack("a", "a", 5000, &e), 0);
    CHECK_INT(unpack(a, b, 1000, &e), 0);
    CHECK_INT(unpack(a, b, 34000, &e), -EINVAL); /* 272 MB of names */
    CHECK(e.kind == ERR_LIMIT);
}
