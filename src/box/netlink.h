#pragma once
/* The little of rtnetlink that a job's network needs. A socket speaks to the network namespace in
 * which it was opened. IPv4 addresses in host byte order. All calls wait for the kernel's answer.
 */
#include "core/macro.h"

int nl_open(void);                      /* a socket in the current namespace */
int nl_index(int nl, const char *name); /* -ENODEV */
int nl_bridge_add(int nl, const char *name);
/* A pair: `name` here (in bridge `master`), `peer` in the namespace peer_ns. */
int nl_veth_add(int nl, const char *name, const char *peer, int peer_ns, int master, uint32_t mtu);
int nl_link_set(int nl, int index, bool up, int master, uint32_t mtu); /* 0: unchanged */
int nl_link_del(int nl, int index);
int nl_addr_add(int nl, int index, uint32_t addr, unsigned prefix);
int nl_route_default(int nl, uint32_t gateway);
