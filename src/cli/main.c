/* slipway: the command. */
#include "cli/ns_ops.h"

int main(int argc, char **argv) {
    if (argc > 1 && streq(argv[1], "--version")) {
        puts("slipway " SLIPWAY_VERSION);
        return 0;
    }
    if (argc > 1 && streq(argv[1], "__ns"))
        return ns_main(ns_ops, n_ns_ops, argc, argv);
    fprintf(stderr, "slipway: no such command\n");
    return 2;
}
