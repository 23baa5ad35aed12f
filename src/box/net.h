#pragma once
/* A job's network: a network namespace owned by the store's user namespace, with a bridge, a way
 * out (pasta, slirp4netns or veth and masquerade; whichever this host can), and a live hosts file
 * that every box of the network sees as /etc/hosts. Services and `docker run` boxes have a
 * namespace of their own on the bridge. Published ports are forwarded from the job's localhost
 * (and all its addresses) by the network's own process. It ends when its maker does. */
#include "core/err.h"
#include "store/store.h"

struct box_net;
enum net_mode { NET_AUTO, NET_PASTA, NET_SLIRP, NET_VETH, NET_ISOLATED };
struct net_options {
    enum net_mode mode;
    const char *name;
};
int net_new(struct store *s, struct lease *l, const struct net_options *o, struct box_net **ret,
            struct err *e);
void net_free(struct box_net *n);
/* Begins what net_free waits for (the way out needs 10 ms to close): nothing can be asked of it from
 * then on. */
void net_end(struct box_net *n);
const char *net_mode_name(const struct box_net *n);
/* The address under which ports of the host's loopback are reachable, from the job and from every
 * box of the network: those only that were asked for with net_expose_host (a registry or a cache of
 * this run, listening on 127.0.0.1), under the same port number. `localhost_too`: on the job's own
 * 127.0.0.1 as well. Proxies on the host's loopback that the environment names are done so. */
const char *net_gateway(const struct box_net *n);
int net_expose_host(struct box_net *n, uint16_t host_port, bool localhost_too, struct err *e);
/* A listening TCP socket on the job's own address (net_gateway) at a free port, made in the job's
 * namespace and served by the caller: every box of the network reaches it, the host does not. */
int net_listen(struct box_net *n, uint16_t *ret_port, struct err *e);
/* Publishes: job localhost:port -> ip:target. port 0 = any free one, given back. proto "tcp"/"udp".
 */
int net_publish(struct box_net *n, const char *ip, uint16_t target, uint16_t *port,
                const char *proto, struct err *e);
int net_unpublish(struct box_net *n, uint16_t port, const char *proto);
/* Publishes on the host's own address as well (slipway docker run -p outside a job). */
int net_publish_host(struct box_net *n, const char *host_ip, const char *ip, uint16_t target,
                     uint16_t *port, const char *proto, struct err *e);
int net_unpublish_host(struct box_net *n, uint16_t port, const char *proto);
/* Names in the hosts file. */
int net_name_add(struct box_net *n, const char *ip, const char *name);
int net_name_del(struct box_net *n, const char *ip);
