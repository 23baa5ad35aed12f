#pragma once
/* Where a job's processes run and its files lie: a box (place_box.c), or this host itself, asked
 * for with -P LABEL=host (place_host.c). What has no counterpart on the host (mounts, docker,
 * services) stays with the box's own functions and is guarded by x->host. */
#include "run/jobx.h"

struct place_proc; /* a running process of the place */
struct place {
    /* As box_exec and box_proc_*; free lets it run on, until the job's end. */
    int (*start)(struct jobx *x, const struct box_exec *be, struct place_proc **ret, struct err *e);
    int (*status_fd)(const struct place_proc *p);
    int (*wait)(struct place_proc *p, struct err *e);
    int (*signal)(struct place_proc *p, int signo, bool group);
    void (*free)(struct place_proc *p);

    int (*read_file)(struct jobx *x, const char *path, struct buf *out, struct err *e);
    int (*put_tar)(struct jobx *x, const char *path, int fd, struct err *e);
    /* Whole folders at `target`, over or instead of what is there: the user's work tree as it is
     * now, itself when `bind`; and a folder of the job's scratch, which is used up. */
    int (*work_tree)(struct jobx *x, const char *target, bool bind, struct err *e);
    int (*folder)(struct jobx *x, const char *target, const char *source, struct err *e);
    /* The object store of a repository of the user's, read-only: at `target`, or where it lies.
     * *ret: how the job reaches it, malloc. */
    int (*objects)(struct jobx *x, const char *source, const char *target, char **ret, struct err *e);
};
extern const struct place place_box, place_host;

/* --- place_host.c ----------------------------------------------------------------------------- */
/* Paths, environment and home of a job on the host. Before anything reads x->work. */
int host_prepare(struct jobx *x, struct err *e);
/* Processes of another view of the job (background.c) become this one's. */
void host_take(struct jobx *x, struct jobx *from);
/* Ends every process of the job. */
void host_end(struct jobx *x);
