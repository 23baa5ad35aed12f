#pragma once
/* The box: one contract for a job, a service, a Dockerfile's RUN and `docker run`.
 *
 * A box is a root file system (overlay of snapshots), namespaces of its own (user, pid, mount,
 * ipc, uts, cgroup; network joined or none) and a static init of ours as its first process. Each
 * box has a supervisor process (our binary as the helper op "box"). When the process that made
 * the box goes away, however it does, init and supervisor see the EOF of an inherited socket pair
 * and end: nothing is left but scratch, which is swept by lease.
 *
 * All calls block (milliseconds) and may come from any thread; a box_proc's descriptors can be
 * polled by an event loop. Implemented for this host in box/; a remote executor (a pod) is another
 * implementation later. */
#include "core/err.h"
#include "core/str.h"
#include "store/store.h"

struct box;
struct box_net; /* a job's network: box/net.h */

enum box_mount_kind { BOX_BIND, BOX_TMPFS, BOX_OVERLAY };
struct box_mount {
    enum box_mount_kind kind;
    const char *target; /* inside; resolved in the root, created when absent (dir, or file for a
                           file source) */
    int source_fd; /* BOX_BIND: O_PATH or open_tree descriptor taken in the owner's mount namespace
                    */
    bool readonly, nosuid, noexec, nodev;
    bool idmap;              /* as root: map the host's owner of source_fd to `runner` (1001) */
    uint64_t size;           /* BOX_TMPFS, bytes; 0 = default */
    uint32_t mode, uid, gid; /* BOX_TMPFS and created targets */
    const char *const
        *lowers; /* BOX_OVERLAY: ids, top first: "snap:<id>" or "tree:<id>"; upper is scratch */
    size_t n_lowers;
    char *upper_snap; /* BOX_OVERLAY: commitable upper (snap id), or NULL */
};
struct box_limits {
    uint64_t memory;
    uint64_t nano_cpus;
    uint32_t pids;
    uint64_t shm;
};
struct box_device {
    const char *path;
};

struct box_spec {
    const char *name;          /* for messages and the cgroup */
    const char *const *layers; /* snapshot ids of the root, top first; "tree:<id>" allowed */
    size_t n_layers;
    char upper_snap[33]; /* a snap_begin id to be used as upper (build steps, commit); "" = scratch
                          */
    bool volatile_upper; /* overlay "volatile": no fsync inside; syncfs at commit */
    bool readonly_root;
    const char *hostname;
    const struct box_mount *mounts;
    size_t n_mounts;
    struct box_net *net;  /* NULL = no network but loopback */
    const char *net_name; /* name (and aliases, comma-separated) under which net peers find it */
    bool net_own_ip;      /* true: a namespace of its own on the net (service, docker run);
                             false: the job's own namespace */
    bool host_net;        /* asked for explicitly only */
    const char *const *dns, *const *hosts; /* "name:ip" extra hosts; NULL-terminated or NULL */
    struct box_limits limits;
    const struct box_device *devices;
    size_t n_devices;
    bool privileged; /* all capabilities of the box's own user namespace */
    const char *const *cap_add, *const *cap_drop; /* NULL-terminated or NULL */
    bool init_is_command; /* main process is pid 1 of a nested pid namespace */
};
/* Creates and starts the box: on return its init answers. Typical 10 ms. */
int box_create(struct store *s, struct lease *l, const struct box_spec *spec, struct box **ret,
               struct err *e);
/* Ends everything inside at once, waits for the supervisor. */
void box_destroy(struct box *b);
pid_t box_supervisor_pid(const struct box *b);
int box_alive_fd(const struct box *b);   /* readable (EOF) when the box has ended */
const char *box_ip(const struct box *b); /* on its net, or NULL */

struct box_exec {
    const char *const *argv; /* argv[0] is searched in the given PATH, inside */
    const char *const *envp;
    const char *cwd; /* created when `make_cwd`; ENOENT is an error else */
    bool make_cwd;
    const char *user; /* "name", "uid", "uid:gid", "name:group"; NULL = root. Resolved in the box's
                         /etc/passwd, bounded */
    bool tty;
    uint16_t rows, cols;
    int in, out, err; /* descriptors given to the process; -1: /dev/null. With tty: -1, a pty is
                         made, its master comes back */
    bool new_pidns;   /* the command becomes pid 1 of a nested pid namespace */
    int join;         /* box_proc_pid of such a pid 1: runs beside it, in its namespace; 0 = no */
    bool wait_exec;   /* returns when the program runs: -ENOENT (not found) and -EACCES are errors
                         of box_exec then, not of box_proc_wait, and box_exec_missing is true */
    bool privileged;
    uint32_t nice_oom; /* oom_score_adj above 0 */
};
/* A running process. `status_fd` becomes readable when it has ended; box_proc_wait gives its
 * status. A box that dies first gives -EPIPE: unknown is a failure. */
struct box_proc;
int box_exec(struct box *b, const struct box_exec *x, struct box_proc **ret, struct err *e);
/* Is this box_exec's error (with wait_exec) that the program could not be executed? */
bool box_exec_missing(const struct err *e);
int box_proc_status_fd(const struct box_proc *p);
int box_proc_tty_fd(const struct box_proc *p); /* pty master, or -1 */
/* Exit status as a shell has it (0..255, 128+signal); blocks; -EPIPE unknown; -ENOENT command not
 * found and -EACCES not executable come as 127 and 126 with `e` set. */
int box_proc_wait(struct box_proc *p, struct err *e);
int box_proc_try(struct box_proc *p);                           /* -EAGAIN while it runs */
int box_proc_pid(const struct box_proc *p);                     /* inside the box */
int box_proc_signal(struct box_proc *p, int signo, bool group); /* group: its whole session tree */
int box_proc_resize(struct box_proc *p, uint16_t rows, uint16_t cols);
void box_proc_free(struct box_proc *p);     /* does not kill */
int box_kill_all(struct box *b, int signo); /* every process but init */

/* Files, resolved inside the root as the box sees it. box_open gives a descriptor (any flags of
 * openat but O_PATH on special files); mkdirs creates parents. */
int box_open(struct box *b, const char *path, int flags, mode_t mode, struct err *e);
int box_mkdirs(struct box *b, const char *path, mode_t mode, uint32_t uid, uint32_t gid,
               struct err *e);
int box_write_file(struct box *b, const char *path, struct sv data, mode_t mode, uint32_t uid,
                   uint32_t gid, struct err *e);
int box_read_file(struct box *b, const char *path, struct buf *out, struct err *e);
/* Which of these paths are there (links followed)? ret[i] = '1' or '0'; at most BOX_PROBE_MAX, one
 * question for all. The init itself looks, so it is meant for the image's own files, before
 * commands run or anything of others is mounted. */
#define BOX_PROBE_MAX 480
int box_probe(struct box *b, const char *const *paths, size_t n, char *ret, struct err *e);
/* A tar stream of path out of / into the box, by a helper inside (docker cp). */
int box_get_tar(struct box *b, const char *path, int out_fd, struct err *e);
int box_put_tar(struct box *b, const char *path, int in_fd, struct err *e);
/* The folder that holds what was written to the root since it was made (an overlay's upper layer), as
 * an O_PATH descriptor; stubs gets the paths in it (relative) that are mount points made by us.
 * -ENOTSUP where it lies in memory. */
int box_upper(struct box *b, struct strv *stubs, struct err *e);
/* open_tree of a path as the box sees it, for mounting into another box. */
int box_open_tree(struct box *b, const char *path, struct err *e);
int box_mount(struct box *b, const struct box_mount *m, struct err *e);
int box_umount(struct box *b, const char *target, struct err *e);

struct box_stats {
    uint64_t memory, memory_limit, cpu_ns, pids, net_rx, net_tx;
};
int box_stats(struct box *b, struct box_stats *ret);
