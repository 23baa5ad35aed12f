/* The job's network. */
#include "box/impl.h"

int net_new(struct store *s, struct lease *l, const struct net_options *o, struct box_net **ret,
            struct err *e) {
    return err_set(e, ERR_ENV, -ENOSYS, "networks: not yet");
}
void net_free(struct box_net *n) {}
const char *net_mode_name(const struct box_net *n) { return "none"; }
const char *net_gateway(const struct box_net *n) { return NULL; }
int net_publish(struct box_net *n, const char *ip, uint16_t target, uint16_t *port,
                const char *proto, struct err *e) {
    return err_set(e, ERR_ENV, -ENOSYS, "published ports: not yet");
}
int net_unpublish(struct box_net *n, uint16_t port, const char *proto) { return -ENOSYS; }
int net_publish_host(struct box_net *n, const char *host_ip, const char *ip, uint16_t target,
                     uint16_t *port, const char *proto, struct err *e) {
    return err_set(e, ERR_ENV, -ENOSYS, "published ports: not yet");
}
int net_name_add(struct box_net *n, const char *ip, const char *name) { return -ENOSYS; }
int net_name_del(struct box_net *n, const char *ip) { return -ENOSYS; }
int net_ns_fd(struct box_net *n) { return -ENOSYS; }
int net_hosts_mount(struct box_net *n, struct err *e) {
    return err_set(e, ERR_ENV, -ENOSYS, "networks: not yet");
}
const char *net_resolv(struct box_net *n) { return ""; }
int net_attach(struct box_net *n, const char *names, char ip[48], int *ret_fd, struct err *e) {
    return err_set(e, ERR_ENV, -ENOSYS, "networks: not yet");
}
void net_detach(struct box_net *n, const char *ip) {}
