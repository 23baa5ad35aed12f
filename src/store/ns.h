#pragma once
/* Helper operations of the store (base/userns.h); registered in cli/ns_ops.c under the names
 * "store-mkdir" and "store-rm". */
int ns_store_mkdir(int argc, char **argv); /* fd 3: folder; argv: names to make, owned by 0:0 */
int ns_store_rm(int argc, char **argv); /* fd 3: folder; argv[1]: name to remove with all below */
