#pragma once
/* The user namespace of the store, and processes inside it.
 *
 * One mapping per store (container ids 0..65535):
 *   ordinary user: 1001 inside is the caller, every other id a subordinate one (/etc/subuid, via
 *   newuidmap/newgidmap); root: every id a subordinate one (root's /etc/subuid range, else a
 *   default range), so nothing inside is the host's root.
 * Snapshots therefore have the same owners as root and rootless, and need no idmapped mounts;
 * only a bound work tree is idmapped (as root).
 *
 * The **keeper** holds the user namespace of one slipway command (and a mount and a cgroup
 * namespace, private, with what crun needs on a hybrid host), by descriptors: no process. Work
 * that needs the mapping (unpack, diff, remove, overlay mounts, networks, boxes) runs in
 * **helpers**: our own binary re-executed as `slipway __ns … OP …`, which joins the keeper's
 * namespaces as uid 0, in a session of its own, and calls the operation registered under OP. They
 * die (SIGKILL) with the spawning process, and with keeper_free. Thread-safe after keeper_new.
 */
#include "core/err.h"
#include "core/proc.h"

struct idmap {
    struct idrange {
        uint32_t inside, outside, count;
    } uid[8], gid[8];
    size_t n_uid, n_gid;
    bool single; /* no subordinate ids: only id 0 inside = the caller */
    bool root;   /* we are root, and may chown to every id of the mapping */
};
#define ID_RUNNER 1001u
#define ID_COUNT 65536u
/* Finds the mapping for this user; ERR_ENV with the command that mends what is missing. When
 * allow_single, falls back to a single id (idmap.single) instead of failing. */
int idmap_find(struct idmap *ret, bool allow_single, struct err *e);
uint32_t idmap_uid_out(const struct idmap *m, uint32_t inside); /* UINT32_MAX when unmapped */
uint32_t idmap_gid_out(const struct idmap *m, uint32_t inside);

struct keeper;
/* Starts it (about 5 ms as an ordinary user, 1 ms as root). */
int keeper_new(struct keeper **ret, const struct idmap *m, struct err *e);
void keeper_free(struct keeper *k); /* ends it: all mounts of its mount namespace go */
const struct idmap *keeper_idmap(const struct keeper *k);
int keeper_userns_fd(const struct keeper *k);
int keeper_mntns_fd(const struct keeper *k);
int keeper_cgroupns_fd(const struct keeper *k);

/* An operation that can run as a helper. stdin/stdout/stderr as given by the spawner, further
 * descriptors at 3, 4, … in the order they were passed. Returns an exit code. argv[0] = OP. */
typedef int (*ns_op_fn)(int argc, char **argv);
struct ns_op {
    const char *name;
    ns_op_fn fn;
    bool own_mntns; /* unshare a mount namespace of its own (copied from the keeper's) first */
};
/* For an operation that failed: `return ns_fail(&err)`; ns_run gives the same error (kind, errno,
 * hint) to its caller. Returns 1. */
int ns_fail(const struct err *e);
/* Called by main() for `slipway __ns …` with main's own argc and argv, before it starts a thread;
 * ops is the whole table (cli/ knows all floors). The operation runs with an umask of 022, cwd "/"
 * and the process not dumpable (it must set PR_SET_DUMPABLE to write its /proc files). */
int ns_main(const struct ns_op *ops, size_t n, int argc, char **argv);
/* Spawns a helper; argv[0] = OP. fds[i] becomes descriptor 3+i; in/out/err: -1 = /dev/null (err:
 * inherited). The descriptors stay the caller's. The caller waits for the pid. */
int ns_spawn(struct keeper *k, const char *const *argv, int in, int out, int errfd,
             const int *fds, size_t n_fds, pid_t *ret_pid, struct err *e);
/* Spawns and waits; the helper's last stderr line becomes the error. 0 on exit 0. */
int ns_run(struct keeper *k, const char *const *argv, const int *fds, size_t n_fds,
           struct buf *out, struct err *e);
/* Makes the error of a helper that ended with `status` (not 0) from what it wrote to stderr. */
int ns_helper_error(const char *op, int status, struct sv said, struct err *e);
/* The same with `tick` called every 100 ms meanwhile; a negative value from it kills the helper
 * and is returned. */
typedef int (*ns_tick_fn)(void *arg);
int ns_run_tick(struct keeper *k, const char *const *argv, const int *fds, size_t n_fds,
                struct buf *out, ns_tick_fn tick, void *arg, struct err *e);
/* For a helper that was spawned with a pipe as errfd: reads it (closing it) to the end, waits, and
 * gives the error as ns_run does. */
int ns_wait(pid_t pid, const char *op, int errpipe, struct err *e);
/* A static program with some of the operations (NULL-terminated; "keeper" may be one) in it, which
 * starts faster than our own binary and is used instead where it can be run. Called before the
 * first keeper; the image and the list must stay. */
void ns_static_image(const void *image, size_t n, const char *const *ops);
