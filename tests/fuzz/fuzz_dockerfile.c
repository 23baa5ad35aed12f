#include "build/dockerfile.h"
#include "build/expand.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *get(void *arg, struct sv name) { return name.n % 3 == 0 ? NULL : name.n % 3 == 1 ? "a/b.c" : ""; }

/* The reader, and every word of what it read through the expansion. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct diags d = {.max = 100};
    struct dockerfile *f = NULL;
    dockerfile_parse("Dockerfile", sv_n((const char *)data, size), &f, &d);
    struct arena a = {0};
    struct expand x = {.escape = f->escape, .get = get};
    for (size_t i = 0; i < f->n_stages; i++) {
        for (size_t k = 0; k < f->stages[i].n_instrs; k++) {
            const struct df_instr *in = f->stages[i].instrs[k];
            char *s;
            for (size_t w = 0; w < in->n_words; w++)
                expand_word(&a, &x, sv_from(in->words[w].s), &s, NULL);
            struct strv v = {0};
            expand_words(&a, &x, sv_from(in->rest), &v, NULL);
            strv_done(&v);
        }
    }
    arena_done(&a);
    dockerfile_free(f);
    diags_done(&d);
    return 0;
}
