#pragma once
/* The first process of a box: parts of the program box-init (core/ headers only, static). */
#include "box/wire.h"
#include "core/macro.h"

#include <sys/types.h>

struct init_state {
    int rootfd;
    unsigned char *seccomp; /* struct sock_filter array */
    size_t seccomp_len;
    uint64_t caps;     /* what a command keeps */
    uint64_t all_caps; /* what there is to drop */
    uint64_t nproc;    /* RLIMIT_NPROC of commands, 0 = as it is */
};
extern struct init_state init_state;

/* exec.c: starts a command. Returns its pid in the box, or -errno (told on the reply already). */
pid_t exec_start(struct request *q);

/* In the new process. filtered: the system call filter is in place. */
_noreturn_ void exec_child(struct request *q, bool filtered);
int filter_install(void);

/* zygote.c: starts a command by the zygote. Its pid, -errno, or 0: init has to do it itself. */
pid_t zygote_start(struct request *q);
void zygote_ended(pid_t pid); /* one of init's children was reaped */

/* user.c */
struct user_info {
    uid_t uid;
    gid_t gid;
    gid_t groups[256];
    size_t n_groups;
    char home[512], name[128];
};
/* "name", "uid", "uid:gid", "name:group" against the box's /etc/passwd and /etc/group, of which at
 * most 4 MB are read. -ENOENT: no such user or group. */
int user_find(const char *spec, struct user_info *ret);

/* files.c: each answers on q->fds[0]. */
int files_handle(struct request *q);  /* OPEN, MKDIRS, OPEN_TREE: in a child, may block */
void probe_handle(struct request *q); /* PROBE: in init itself */
int mounts_handle(struct request *q); /* MOUNT, TMPFS, UMOUNT, ROOT_RO: in init itself */
/* Creates the folders of path (absolute); parts that were made are counted in *ret_made. Gives an
 * O_PATH descriptor of the last. */
int mkdirs_in(const char *path, mode_t mode, uid_t uid, gid_t gid, int *ret_made);
/* mounts.c: a fresh /proc with the usual parts hidden, in a new pid namespace. */
int proc_mount(bool privileged);

/* init.c: the first process itself; its exit status. */
int init_run(void);
/* kills pid's session and descendants. */
int kill_group(pid_t pid, int signo);

/* stats.c */
int stats_text(char *out, size_t n);
