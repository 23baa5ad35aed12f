/* The operations that run as helpers inside the store's user namespace (`slipway __ns`). */
#include "cli/ns_ops.h"
#include "box/ops.h"

#include "image/ns.h"
#include "build/copy.h"
#include "run/files.h"
#include "store/ns.h"

const struct ns_op ns_ops[] = {
    {"box", op_box, true},
    {"net", op_net, true},
    {"box-tar", op_box_tar, false},
    {"build-copy", ns_build_copy, true},
    {"build-list", ns_build_list, true},
    {"true", ns_op_true, false}, /* for measuring what a helper costs */
    {"files", ns_files, false},
    {"image-view", ns_image_view, true},
    {"layer-tar", ns_layer_tar, false},
    {"layer-unpack", ns_layer_unpack, false},
    {"store-mkdir", ns_store_mkdir, false},
    {"store-rm", ns_store_rm, false},
};
const size_t n_ns_ops = ELEMENTS(ns_ops);

int ns_op_true(int argc, char **argv) {
    return 0;
}
