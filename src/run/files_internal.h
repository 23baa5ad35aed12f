#pragma once
/* Between files.c (requests, lists, digests, zip) and files_tar.c. */
#include "run/files.h"

#define FILES_MAX (64ull << 30)

struct files_job {
    const struct files_req *rq;
    struct globs *g;
    int root, fd;
    uint32_t uid, gid;          /* UINT32_MAX: as the process has it */
    struct arena *a;
    struct files_ret *ret;
    struct err *e;
};
int files_tar(struct files_job *j);
int files_untar(struct files_job *j);
/* What unpacking needs: folders of a path, made with the right owner; the last one used is kept open. */
struct files_out {
    struct files_job *j;
    char *path;                 /* of the open folder */
    int dir;
};
/* The folder of `path` (absolute, clean); borrowed. *ret_name points into path. */
int files_parent(struct files_out *o, const char *path, const char **ret_name);
/* A new plain file there, in place of whatever file or link has its name. */
int files_create(struct files_out *o, const char *path, uint32_t mode);
int files_mkdir(struct files_out *o, const char *path, uint32_t mode);
void files_out_done(struct files_out *o);
bool files_below(const char *path, const char *top);
