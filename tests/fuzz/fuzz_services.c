#include "base/zip.h"
#include "core/fs.h"
#include "run/dockmeta_text.h"
#include "run/glob.h"
#include "run/results_internal.h"

#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int sink(void *arg, const void *p, size_t n) { return 0; }

static void zip(const uint8_t *p, size_t n) {
    _cleanup_arena_ struct arena a = {0};
    struct zip z;
    struct zip_limits l = {1000, 16u << 20};
    _cleanup_close_ int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || fd_write_all(fd, p, n) < 0 || zip_open(&z, fd, &l, &a, NULL) < 0)
        return;
    for (size_t i = 0; i < z.n; i++) {
        zip_name_ok(z.entries[i].name);
        (void)zip_read(&z, &z.entries[i], sink, NULL, NULL);
    }
}

static int name_fn(void *arg, struct sv name, const char *param, const char *tz, struct buf *out, struct err *e) {
    return param ? meta_date(1700000000000000000, param, NULL, out, e) : 0;
}

/* The first byte says what the rest is: z a zip, b a list of blocks, g patterns and a path, t a template,
 * v a version, c comma-separated values. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _cleanup_arena_ struct arena a = {0};
    if (!size)
        return 0;
    struct sv text = sv_n((const char *)data + 1, size - 1), path;
    struct sv *ids;
    size_t n;
    if (data[0] == 'z') {
        zip(data + 1, size - 1);
    } else if (data[0] == 'b') {
        (void)block_list_read(text, &a, &ids, &n);
    } else if (data[0] == 'g' && sv_line(&text, &path) && !memchr(data, 0, size)) {
        struct globs *g;
        char *p = arena_strndup(&a, path.p, path.n);
        if (text.p && globs_new(&g, text, "/w", "/h", 0, NULL) >= 0) {
            globs_match(g, p);
            globs_partial(g, p);
            globs_free(g);
        }
        glob_name(text.p ? text : SV(""), path);
    } else if (data[0] == 't') {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        (void)meta_template(text, name_fn, NULL, &b, NULL);
    } else if (data[0] == 'v') {
        struct meta_version v;
        char *p = arena_strndup(&a, text.p, text.n);
        meta_semver(&a, p, &v);
        meta_pep440(&a, p, &v);
    } else if (data[0] == 'c') {
        _cleanup_strv_ struct strv v = {0};
        (void)meta_csv(text, true, &v, NULL);
    }
    return 0;
}
