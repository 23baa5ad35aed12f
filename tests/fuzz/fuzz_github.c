/* Workflow files: read, matched and written as JSON. */
#include "pipeline/trigger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, const char *context, const char *name, struct span at) {
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct diags d = {.max = 50};
    struct plan *p = NULL;
    github_read("fuzz.yml", sv_n((const char *)data, size), NULL, &p, &d);
    if (p) {
        const char *const paths[] = {"a/b.c"};
        struct trigger_event ev = {.name = "push", .branch = "main", .paths = paths, .n_paths = 1};
        trigger_match(p, &ev);
        plan_names(p, ignore, NULL);
    }
    plan_free(p);
    diags_done(&d);
    return 0;
}
