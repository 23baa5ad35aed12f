#pragma once
/* The table of helper operations: base/userns.h. */
#include "base/userns.h"

extern const struct ns_op ns_ops[];
extern const size_t n_ns_ops;
int ns_op_true(int argc, char **argv);
