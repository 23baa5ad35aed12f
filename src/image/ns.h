#pragma once
/* Helper operations of images (base/userns.h); registered in cli/ns_ops.c as "layer-unpack" and
 * "layer-tar". */
/* fd 3: the layer's blob, fd 4: the folder; argv[1] "single" when owners cannot be kept. Prints
 * "DIFFID BYTES FILES DEVICES". */
int ns_layer_unpack(int argc, char **argv);
/* fd 3: the folder, fd 4: where the tar goes; argv[1]: latest mtime, -1 = as they are. */
int ns_layer_tar(int argc, char **argv);
