/* Problem matchers: a document up to the first NUL, the rest are lines. */
#include "run/matchers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct matchers *m = matchers_new();
    struct sv rest = sv_n((const char *)data, size), doc, line;
    struct issue is;
    _cleanup_buf_ struct buf plain = BUF_SMALL;
    if (sv_split(&rest, '\0', &doc) && matchers_add(m, doc, NULL) >= 0)
        while (rest.p && sv_line(&rest, &line)) {
            matchers_plain(line, &plain);
            matchers_line(m, buf_sv(&plain), &is);
        }
    matchers_free(m);
    return 0;
}
