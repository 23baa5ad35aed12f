/* bitbucket-pipelines.yml: read for each kind of trigger, and listed. */
#include "pipeline/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sv text = {(const char *)data, size};
    static const struct bitbucket_select selections[] = {
        {BB_PUSH_BRANCH, "main"}, {BB_PUSH_TAG, "v1"}, {BB_PULL_REQUEST, "feature/x"}, {BB_CUSTOM, "release"}};
    for (size_t i = 0; i < ELEMENTS(selections); i++) {
        struct diags d = {.max = 50};
        struct plan *p = NULL;
        bitbucket_read("fuzz.yml", text, &selections[i], &p, &d);
        plan_free(p);
        diags_done(&d);
    }
    struct diags d = {.max = 50};
    struct strv names = {0};
    bitbucket_list("fuzz.yml", text, &names, &d);
    strv_done(&names);
    diags_done(&d);
    return 0;
}
