#pragma once
/* What the files of box/ share. */
#include "box/box.h"
#include "box/net.h"
#include "box/wire.h"
#include "base/userns.h"

#include <pthread.h>

/* Docker's default capabilities. CAP_SYS_PTRACE is not among them. */
#define CAPS_DEFAULT                                                                               \
    (1ull << 0 /* chown */ | 1ull << 1 /* dac_override */ | 1ull << 3 /* fowner */ |               \
     1ull << 4 /* fsetid */ | 1ull << 5 /* kill */ | 1ull << 6 /* setgid */ |                      \
     1ull << 7 /* setuid */ | 1ull << 8 /* setpcap */ | 1ull << 10 /* net_bind_service */ |        \
     1ull << 13 /* net_raw */ | 1ull << 18 /* sys_chroot */ | 1ull << 27 /* mknod */ |             \
     1ull << 29 /* audit_write */ | 1ull << 31 /* setfcap */)

/* Requests to the supervisor: same messages as to the init, kinds of its own. */
enum sup_req_kind {
    SUP_BIND = 100, /* fds: an O_PATH of a host file. str1 = its path. Gives a detached mount */
    SUP_OVERLAY,    /* argv = lowers, relative to the store's snap folder; str1 = upper ("snap:<id>"
                       or a name for a scratch one). Gives a detached mount */
    SUP_FILE,       /* argv[0] = text, str1 = name. Gives a detached mount of a file of that text */
};

struct stub {
    char *target;
    int made; /* trailing parts of the path made for the mount */
};
/* A mount that was asked for while the box starts. */
struct deferred {
    int sock; /* where its answer comes */
    char *target;
};
struct box {
    struct store *store;
    struct lease *lease;
    struct keeper *keeper;
    char *name, *dir; /* scratch folder: name in the lease's, absolute path */
    int scratch;      /* lease's scratch dirfd (not owned) */
    char dirname[32];
    int ctl, sup, alive;
    pid_t sup_pid, init_pid;
    bool snap_upper, privileged;
    uint64_t caps;
    struct box_net *net;
    char ip[48];
    pthread_mutex_t lock;
    struct stub *stubs;
    size_t n_stubs, cap_stubs;
    bool starting; /* box_create: mounts are sent ahead, answers are collected at its end */
    struct deferred *deferred;
    size_t n_deferred, cap_deferred;
    struct cgroup *cgroup;
    uint64_t memory_limit;
};

/* config.c: the OCI runtime's config.json. `run` = the supervisor's folder. */
void box_config(const struct box_spec *spec, const struct idmap *map, const char *run,
                struct buf *out);
/* Names ("CAP_NET_ADMIN", "net_admin", "ALL") to bits; -EINVAL for an unknown one. */
int caps_parse(const char *const *add, const char *const *drop, bool privileged, uint64_t *ret,
               struct err *e);
/* seccomp.c: a memfd with the filter for commands; the caller does not own it. -ENOSYS: none. */
int seccomp_fd(struct err *e);

/* box.c: a request to the supervisor. */
int sup_ask(struct box *b, uint32_t kind, uint32_t flags, const char *const *argv, const char *str1,
            int fd, int *ret_fd, struct err *e);

/* Snapshot ids ("<id>", "snap:<id>", "tree:<id>") to paths relative to the store's snap folder. */
int lower_names(const char *const *ids, size_t n, struct strv *out, struct err *e);

/* files.c: has the init move the detached mount `tree` onto target. flags: BOX_F_RDONLY and so on.
 */
int box_attach(struct box *b, const char *target, int tree, uint32_t flags, struct err *e);
int box_attach_collect(struct box *b,
                       struct err *e); /* the answers of mounts that were sent ahead */

/* net.c */
int net_ns_fd(struct box_net *n);                      /* the job's own namespace; not owned */
int net_hosts_mount(struct box_net *n, struct err *e); /* a detached mount of the hosts file */
const char *net_resolv(struct box_net *n);             /* text of /etc/resolv.conf */
/* A namespace of its own on the bridge; fd is the caller's. */
int net_attach(struct box_net *n, const char *names, char ip[48], int *ret_fd, struct err *e);
/* Names (comma-separated) for the job's own address. */
void net_names_of_job(struct box_net *n, const char *names);
void net_detach(struct box_net *n, const char *ip);
int net_wait(struct box_net *n, struct err *e); /* until the way out is ready */
void slirp_argv(const char *argv[24], const char *program, const char *cidr, char option[64]);
