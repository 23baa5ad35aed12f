#pragma once
/* Forwarding of ports on an event loop: TCP connections and UDP exchanges are carried from a
 * listening socket to a target. Used by the network's own process (netd.c). Bounded: 2,048
 * connections and 512 UDP peers a proxy; what is more waits (TCP) or is dropped (UDP). */
#include "core/loop.h"

#include <netinet/in.h>

struct proxy;
/* Gives a connected (or connecting, non-blocking) TCP socket to the target, or -errno. */
typedef int (*proxy_connect_fn)(void *arg);
/* Takes listen_fd (a listening TCP socket) over. */
struct proxy *proxy_tcp(struct loop *l, int listen_fd, proxy_connect_fn fn, void *arg);
/* Takes fd (a bound UDP socket) over. */
struct proxy *proxy_udp(struct loop *l, int fd, const struct sockaddr_in *target);
void proxy_free(struct proxy *p); /* ends its connections */
