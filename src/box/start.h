#pragma once
/* The first process of a box, started by the supervisor itself: what a box always has (user, pid,
 * mount, ipc and uts namespace; /proc, /dev, /sys; hidden and read-only parts; pivot_root) in one
 * clone and about fifty mounts, 1 ms. An OCI runtime does the same from a configuration in 9 ms, and
 * is used instead when one was asked for (SLIPWAY_OCI_RUNTIME): gVisor, Kata, or crun itself.
 * Used in single-threaded processes only. */
#include "base/userns.h"

struct box_spec;

struct start_spec {
    const char *hostname;
    uint64_t shm; /* bytes of /dev/shm */
    bool privileged; /* nothing is hidden, /sys can be written */
    struct idmap map; /* of the store; the box has the same ids */
    const char *devices[64]; /* of the host, below /dev */
    size_t n_devices;
};
/* As text for the supervisor, and back. The strings of *ret point into text, which is changed. */
void start_format(const struct box_spec *spec, const struct idmap *map, struct buf *out);
int start_parse(char *text, size_t n, struct start_spec *ret);

struct start_how {
    const char *root, *sys; /* paths of mounts: the root file system, a sysfs */
    int control, life;      /* the init's descriptors (proto.h) */
    int said;               /* write end of a pipe for start_failed, close-on-exec */
    int program;            /* of the init */
};
/* Gives the process id of the init, in our pid namespace: our child. What goes wrong in it before
 * the init's program runs is written to `said`; -errno (and what, in `what`) is for ourselves. */
int start_init(const struct start_spec *s, const struct start_how *how, pid_t *ret, const char **what);
/* What the child wrote to the other end of `said`: its errno and text. 0: nothing. */
int start_failed(int fd, char text[200]);
