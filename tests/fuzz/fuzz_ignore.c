#include "build/ignore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* First line: a path; the rest: an ignore file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sv text = sv_n((const char *)data, size), path;
    if (!sv_line(&text, &path) || memchr(path.p, 0, path.n))
        return 0;
    struct ignore g = {0};
    struct diags d = {.max = 100};
    char *p = sv_dup(path);
    ignore_parse(&g, ".dockerignore", text.p ? text : SV(""), &d);
    ignore_match(&g, p);
    ignore_may_contain(&g, p);
    ignore_glob(p, path);
    free(p);
    ignore_done(&g);
    diags_done(&d);
    return 0;
}
