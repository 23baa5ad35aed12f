/* The operations that run as helpers inside the store's user namespace (`slipway __ns`). */
#include "cli/ns_ops.h"
#include "box/ops.h"

const struct ns_op ns_ops[] = {
    {"box", op_box, true},
    {"true", ns_op_true, false}, /* for measuring what a helper costs */
};
const size_t n_ns_ops = ELEMENTS(ns_ops);

int ns_op_true(int argc, char **argv) {
    return 0;
}
