/* Expressions and templates: parsed, walked and evaluated with a small memory limit. */
#include "expr/expr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, struct sv name, struct sv property) {
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char contexts[] = "{\"foo\":{\"bar\":[1,\"two\",{\"three\":null}],\"\":true},\"x\":[[],{}]}";
    _cleanup_arena_ struct arena a = {0};
    struct sv text = sv_n((const char *)data, size);
    struct json *j = NULL;
    if (json_parse(&a, SV(contexts), &j, NULL) < 0)
        abort();
    struct expr_env env = {.contexts = val_from_json(&a, j), .max_memory = 64 << 10};
    struct expr_error xe = {0};
    struct expr *x;
    const struct value *v;
    if (expr_parse(&a, text, NULL, &x, &xe) == 0) {
        expr_uses(x, ignore, NULL);
        if (expr_eval(&a, x, &env, &v, &xe) == 0) {
            _cleanup_buf_ struct buf b = BUF_LARGE;
            val_to_json(v, &b, 2);
        }
    }
    template_eval(&a, text, &env, &v, &xe);
    return 0;
}
