#pragma once
/* Helper operations of images (base/userns.h); registered in cli/ns_ops.c as "layer-unpack",
 * "layer-tar" and "image-view". */
/* fd 3: the layer's blob, fd 4: the folder; argv[1] "single" when owners cannot be kept. Prints
 * "DIFFID BYTES FILES DEVICES". */
int ns_layer_unpack(int argc, char **argv);
/* fd 3: the folder, fd 4: where the tar goes; argv[1]: latest mtime, -1 = as they are. */
int ns_layer_tar(int argc, char **argv);
/* argv[1]: the path of the store's folder of snapshots, or "mount" (fd 3 is a detached mount of it); then
 * the layers' ids, top first. With "--" and a command: runs
 * it where they are mounted ($SLIPWAY_MOUNT). Without: fd 4: where the tar goes. */
int ns_image_view(int argc, char **argv);
