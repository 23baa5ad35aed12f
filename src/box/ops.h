#pragma once
/* The helper operations of box/ (registered in cli/ns_ops.c): see base/userns.h, ns_op_fn. */
int op_box(int argc, char **argv);     /* a box's supervisor; own_mntns */
int op_net(int argc, char **argv);     /* a network's own process; own_mntns */
int op_box_tar(int argc, char **argv); /* tar out of and into a box */
/* Makes helpers run from the static program within this binary. Done before main() in programs
 * that link box/; the function is there to be called so that it is linked. */
void box_helper_use(void);
