#pragma once
/* The cgroup of a box, made by the main process: v2, v1, hybrid (v1 controllers beside an empty
 * v2), or none. Only where limits are asked for: moving a process takes the kernel 12 ms when
 * nobody has moved one lately (it waits for an RCU grace period). */
#include "box/box.h"

enum cgroup_mode { CGROUP_NONE, CGROUP_V1, CGROUP_HYBRID, CGROUP_V2 };
/* What this host has, whether we may make groups in it or not. */
enum cgroup_mode cgroup_mode(void);
const char *cgroup_mode_name(enum cgroup_mode m);

struct cgroup;
/* Makes slipway-<lease>-<name> with these limits, and notes it in the lease. What this host cannot
 * limit is named in `missing` ("memory, cpu"). -EOPNOTSUPP: no cgroup can be made here. */
int cgroup_new(struct lease *l, const char *name, const struct box_limits *limits,
               struct cgroup **ret, char missing[64]);
int cgroup_add(struct cgroup *c, pid_t pid);
int cgroup_stats(struct cgroup *c,
                 struct box_stats *ret); /* memory, cpu_ns, pids as far as known */
void cgroup_free(struct cgroup *c);      /* removes it; its processes must be gone */
