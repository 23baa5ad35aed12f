/* A layer's tar, unpacked for real: whatever it says, nothing may appear or change outside of the
 * folder. Each input gets a fresh folder beside a canary. */
#include "core/fs.h"
#include "image/extract.h"

#include <sys/stat.h>

struct input {
    const uint8_t *p;
    size_t n;
};

static ssize_t rd(void *arg, void *p, size_t n) {
    struct input *in = arg;
    size_t k = MIN(n, in->n);
    memcpy(p, in->p, k);
    in->p += k;
    in->n -= k;
    return (ssize_t)k;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char top[] = "/tmp/fuzz-layer-XXXXXX";
    struct input in = {data, size};
    struct extract_options o = {.no_chown = true, .max_bytes = 1u << 20};
    struct extract_stats st;
    struct err e = {0};
    struct stat before, after, above;
    uint64_t bytes, files = 0;
    if (!mkdtemp(top))
        return 0;
    int at = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert(at >= 0);
    assert(mkdirat(at, "root", 0755) == 0);
    assert(fs_write(at, "canary", SV("canary"), 0600, false, NULL) == 0);
    assert(fstatat(at, "canary", &before, 0) == 0);
    int root = openat(at, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct tar_reader *t = tar_reader_new(rd, &in);
    int r = layer_extract(t, root, &o, &st, &e);
    assert(r >= 0 || e.msg[0]);
    tar_reader_free(t);
    close(root);
    assert(fstatat(at, "canary", &after, 0) == 0);
    assert(after.st_ino == before.st_ino && after.st_nlink == 1 &&
           after.st_mode == before.st_mode && after.st_ctim.tv_sec == before.st_ctim.tv_sec &&
           after.st_ctim.tv_nsec == before.st_ctim.tv_nsec);
    assert(fs_rmtree(at, "root") == 0);
    /* "." ".." and the canary are all that is left above the root. */
    assert(fs_size_tree(AT_FDCWD, top, &bytes, &files) == 0 && files == 1);
    assert(fstat(at, &above) == 0);
    close(at);
    fs_rmtree(AT_FDCWD, top);
    return 0;
}
