/* Workflows through the reader, the linter and the calls' check. */
#include "pipeline/github/call.h"
#include "pipeline/lint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct diags d = {0};
    _cleanup_plan_ struct plan *p = NULL;
    github_read("w.yml", sv_n((const char *)data, size), NULL, &p, &d);
    if (p) {
        github_lint(p, NULL, &d);
        github_check_calls(p, NULL, NULL, NULL, &d);
    }
    for (size_t i = 0; i < d.n; i++)
        if (!d.items[i].msg)
            __builtin_trap();
    diags_done(&d);
    return 0;
}
