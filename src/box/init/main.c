/* box-init as a program of its own; the helper program holds it too. */
#include "box/init/init.h"

int main(void) {
    return init_run();
}
