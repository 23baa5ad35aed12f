#include "box/netlink.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>

struct nl_req {
    union {
        struct nlmsghdr h;
        char space[1024];
    };
};

int nl_open(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    return fd < 0 ? -errno : fd;
}

static void *begin(struct nl_req *r, uint16_t type, uint16_t flags, size_t body) {
    memset(r, 0, sizeof *r);
    r->h.nlmsg_len = NLMSG_LENGTH((uint32_t)body);
    r->h.nlmsg_type = type;
    r->h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    return NLMSG_DATA(&r->h);
}

static struct rtattr *put(struct nl_req *r, unsigned short type, const void *p, size_t n) {
    uint32_t at = NLMSG_ALIGN(r->h.nlmsg_len);
    assert(at + RTA_LENGTH(n) <= sizeof r->space);
    struct rtattr *a = (struct rtattr *)(void *)(r->space + at);
    a->rta_type = type;
    a->rta_len = (unsigned short)RTA_LENGTH(n);
    if (n)
        memcpy(RTA_DATA(a), p, n);
    r->h.nlmsg_len = at + RTA_ALIGN((uint32_t)a->rta_len);
    return a;
}

static void end(struct nl_req *r, struct rtattr *nest) {
    nest->rta_len = (unsigned short)(r->space + r->h.nlmsg_len - (char *)nest);
}

static void put_u32(struct nl_req *r, unsigned short type, uint32_t v) {
    put(r, type, &v, sizeof v);
}
static void put_str(struct nl_req *r, unsigned short type, const char *s) {
    put(r, type, s, strlen(s) + 1);
}

/* Sends and reads the answer; the index of a link for RTM_GETLINK, else 0. */
static int ask(int nl, struct nl_req *r) {
    union {
        struct nlmsghdr h;
        char space[16384];
    } in;
    if (send(nl, r, r->h.nlmsg_len, 0) < 0)
        return -errno;
    for (;;) {
        ssize_t k = recv(nl, &in, sizeof in, 0);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < (ssize_t)sizeof in.h)
            return k < 0 ? -errno : -EBADMSG;
        if (in.h.nlmsg_type == NLMSG_ERROR)
            return ((struct nlmsgerr *)NLMSG_DATA(&in.h))->error;
        if (in.h.nlmsg_type == RTM_NEWLINK && r->h.nlmsg_type == RTM_GETLINK)
            return ((struct ifinfomsg *)NLMSG_DATA(&in.h))->ifi_index;
    }
}

int nl_index(int nl, const char *name) {
    struct nl_req r;
    begin(&r, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
    r.h.nlmsg_flags = NLM_F_REQUEST;
    put_str(&r, IFLA_IFNAME, name);
    return ask(nl, &r);
}

int nl_bridge_add(int nl, const char *name) {
    struct nl_req r;
    struct ifinfomsg *m = begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *m);
    m->ifi_flags = m->ifi_change = IFF_UP;
    put_str(&r, IFLA_IFNAME, name);
    struct rtattr *info = put(&r, IFLA_LINKINFO, NULL, 0);
    put_str(&r, IFLA_INFO_KIND, "bridge");
    end(&r, info);
    return ask(nl, &r);
}

int nl_veth_add(int nl, const char *name, const char *peer, int peer_ns, int master, uint32_t mtu) {
    struct nl_req r;
    struct ifinfomsg *m = begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *m);
    struct ifinfomsg pm = {0};
    m->ifi_flags = m->ifi_change = IFF_UP;
    put_str(&r, IFLA_IFNAME, name);
    put_u32(&r, IFLA_MTU, mtu);
    put_u32(&r, IFLA_MASTER, (uint32_t)master);
    struct rtattr *info = put(&r, IFLA_LINKINFO, NULL, 0);
    put_str(&r, IFLA_INFO_KIND, "veth");
    struct rtattr *data = put(&r, IFLA_INFO_DATA, NULL, 0);
    struct rtattr *p = put(&r, VETH_INFO_PEER, &pm, sizeof pm);
    put_str(&r, IFLA_IFNAME, peer);
    put_u32(&r, IFLA_MTU, mtu);
    put_u32(&r, IFLA_NET_NS_FD, (uint32_t)peer_ns);
    end(&r, p);
    end(&r, data);
    end(&r, info);
    return ask(nl, &r);
}

int nl_link_set(int nl, int index, bool up, int master, uint32_t mtu) {
    struct nl_req r;
    struct ifinfomsg *m = begin(&r, RTM_NEWLINK, 0, sizeof *m);
    m->ifi_index = index;
    if (up)
        m->ifi_flags = m->ifi_change = IFF_UP;
    if (mtu)
        put_u32(&r, IFLA_MTU, mtu);
    if (master)
        put_u32(&r, IFLA_MASTER, (uint32_t)master);
    return ask(nl, &r);
}

int nl_link_del(int nl, int index) {
    struct nl_req r;
    struct ifinfomsg *m = begin(&r, RTM_DELLINK, 0, sizeof *m);
    m->ifi_index = index;
    return ask(nl, &r);
}

int nl_addr_add(int nl, int index, uint32_t addr, unsigned prefix) {
    struct nl_req r;
    uint32_t be = htonl(addr), brd = htonl(addr | (uint32_t)((1ull << (32 - prefix)) - 1));
    struct ifaddrmsg *m = begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof *m);
    m->ifa_family = AF_INET;
    m->ifa_prefixlen = (unsigned char)prefix;
    m->ifa_index = (unsigned)index;
    put(&r, IFA_LOCAL, &be, sizeof be);
    put(&r, IFA_ADDRESS, &be, sizeof be);
    put(&r, IFA_BROADCAST, &brd, sizeof brd);
    return ask(nl, &r);
}

int nl_route_default(int nl, uint32_t gateway) {
    struct nl_req r;
    uint32_t be = htonl(gateway);
    struct rtmsg *m = begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof *m);
    m->rtm_family = AF_INET;
    m->rtm_table = RT_TABLE_MAIN;
    m->rtm_protocol = RTPROT_BOOT;
    m->rtm_scope = RT_SCOPE_UNIVERSE;
    m->rtm_type = RTN_UNICAST;
    put(&r, RTA_GATEWAY, &be, sizeof be);
    return ask(nl, &r);
}
