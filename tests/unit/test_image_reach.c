/* What the collection of garbage reads of hostile manifests. */
#include "test.h"

#include "core/fs.h"
#include "image/image.h"

static unsigned marked;
static void count(void *m, const char *what) { marked++; }

/* A manifest that names `digest` many times. */
static void index_of(struct store *s, const char *digest, char out[DIGEST_LEN + 1]) {
    struct buf b = BUF_MAX(1u << 20);
    struct err e = {0};
    buf_adds(&b, "{\"manifests\":[");
    for (int i = 0; i < 200; i++)
        buf_addf(&b, "%s{\"digest\":\"%s\"}", i ? "," : "", digest);
    buf_adds(&b, "]}");
    CHECK_INT(blob_put(s, buf_sv(&b), out, &e), 0);
    buf_done(&b);
}

TEST(indexes_of_indexes) {
    char dir[] = "/tmp/test-reach-XXXXXX", d[2][DIGEST_LEN + 1];
    struct store_options o = {.path = dir, .allow_single_id = true};
    struct store *s = NULL;
    struct err e = {0};
    CHECK(mkdtemp(dir) && store_open(&s, &o, &e) == 0);
    CHECK_INT(blob_put(s, SV("{\"config\":{\"digest\":\"c\"},\"layers\":[{\"digest\":\"l\"}]}"), d[0], &e), 0);
    for (int i = 0; i < 4; i++)
        index_of(s, d[i % 2], d[1 - i % 2]);
    image_mark_manifest(s, d[0], count, NULL);
    CHECK_INT(marked, 5 + 2);
    store_close(s);
    fs_rmtree(AT_FDCWD, dir);
}
