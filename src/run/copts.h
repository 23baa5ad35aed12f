#pragma once
/* `options:` of a job's container: those of `docker create`, as far as a job's box has them. */
#include "run/jobx.h"

struct copts {
    const char *hostname; /* or NULL */
    uint64_t memory, nano_cpus, shm;
    uint32_t pids;
    bool privileged;
    const char *const *cap_add, *const *cap_drop, *const *hosts, *const *dns; /* NULL-terminated or NULL */
    struct { const char *path; uint64_t size; bool readonly; } tmpfs[8];
    size_t n_tmpfs;
};
/* Reads `text` into x->copts and x->user; the environment goes to x->image_env, volumes to
 * `volumes`. What cannot be had is an error (ERR_CONFIG), what has no effect is said. */
int container_options(struct jobx *x, const char *text, struct strv *volumes, struct err *e);
