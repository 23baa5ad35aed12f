/* The YAML reader on any bytes; the tree that comes out is walked whole. */
#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t walk(const struct yaml_node *n, size_t depth) {
    assert(depth <= 64);
    size_t sum = 1;
    assert(n->at.line >= 1 && n->at.col >= 1);
    if (n->kind == YAML_SCALAR) {
        double num;
        bool b;
        assert(n->text.p[n->text.n] == 0);
        yaml_scalar_type(n, &num, &b);
    }
    for (size_t i = 0; i < n->n; i++) {
        if (n->kind == YAML_MAP)
            sum += walk(n->keys[i], depth + 1);
        sum += walk(n->items[i], depth + 1);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int merge = 0; merge < 2; merge++) {
        struct arena a = {0};
        struct diags d = {0};
        struct yaml_limits lim = {.max_nodes = 20000, .merge = merge};
        struct yaml_node **docs;
        size_t n = 0;
        int r = yaml_parse_all(&a, "fuzz", sv_n((const char *)data, size), &lim, &docs, &n, &d);
        assert((r < 0) == (d.errors > 0));
        for (size_t i = 0; r == 0 && i < n; i++)
            assert(walk(docs[i], 1) <= 200000);
        arena_done(&a);
        diags_done(&d);
    }
    return 0;
}
