/* The program for the helpers that every box needs (its supervisor, the network's process, the
 * namespaces themselves): static, so it starts in a quarter of the time and with a fraction of the
 * memory of the whole binary, which holds it. The same operations are in that one too, for hosts
 * where a program cannot be run from memory, and for builds with sanitizers.
 *
 * Under the name of slipway-init it is the first process of a box. */
#include "base/userns.h"
#include "box/init/init.h"
#include "box/ops.h"

#include <signal.h>

static const struct ns_op ops[] = {{"box", op_box, true}, {"net", op_net, true}};

int main(int argc, char **argv) {
    if (argc > 0 && endswith(argv[0], "slipway-init"))
        return init_run();
    return ns_main(ops, ELEMENTS(ops), argc, argv);
}
