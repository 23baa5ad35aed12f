/* action.yml and .slipway.lock. */
#include "pipeline/github/action.h"
#include "source/lock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct diags d = {.max = 50};
    struct github_action *a = NULL;
    struct sv text = sv_n((const char *)data, size);
    if (github_action_read("action.yml", text, &a, &d) == 0) {
        github_action_input(a, SV("x"));
        github_action_free(a);
    }
    diags_done(&d);
    _cleanup_lock_ struct lock l = {0};
    if (lock_parse(&l, "x", text, NULL) == 0)
        lock_get(&l, "a/b@c");
    return 0;
}
