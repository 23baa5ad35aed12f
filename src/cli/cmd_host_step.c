/* slipway __host-step: the keeper of a command that runs on the host. Not for people. */
#include "cli/commands.h"
#include "run/host_step.h"

int cmd_host_step(int argc, char **argv);
int cmd_host_step(int argc, char **argv) { return host_step_main(); }
