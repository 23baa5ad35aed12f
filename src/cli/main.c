/* slipway: the command. */
#include "core/macro.h"

int main(int argc, char **argv) {
    if (argc > 1 && streq(argv[1], "--version")) {
        puts("slipway " SLIPWAY_VERSION);
        return 0;
    }
    fprintf(stderr, "slipway: no such command\n");
    return 2;
}
