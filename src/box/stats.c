#include "box/impl.h"

int box_stats(struct box *b, struct box_stats *ret) { return -ENOSYS; }
int box_get_tar(struct box *b, const char *path, int out_fd, struct err *e) {
    return err_set(e, ERR_INTERNAL, -ENOSYS, "tar out of a box: not yet");
}
int box_put_tar(struct box *b, const char *path, int in_fd, struct err *e) {
    return err_set(e, ERR_INTERNAL, -ENOSYS, "tar into a box: not yet");
}
