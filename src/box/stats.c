#include "box/impl.h"

int box_stats(struct box *b, struct box_stats *ret) { return -ENOSYS; }
