#pragma once
/* Between net.c (main process) and netd.c (the helper op "net"): requests as in proto.h. */
enum net_req_kind {
    NET_WAIT = 200, /* until the way out is ready. text: "" or what failed */
    NET_ATTACH,     /* argv = names. Gives a namespace; text = its address */
    NET_DETACH,     /* str1 = address */
    NET_PUBLISH,    /* str1 = target ip, str2 = proto, num = target port, port (0: any). Gives the
                       port as value. With a descriptor: a bound socket of the host's */
    NET_UNPUBLISH,  /* str2 = proto, num[0] = port, num[1] = 1: the host's */
    NET_NAME_ADD,   /* str1 = ip, str2 = name */
    NET_NAME_DEL,   /* str1 = ip */
    NET_HOSTS,      /* gives a detached mount of the hosts file */
    NET_EXPOSE,     /* num[0] = port on the host's loopback, reachable on the gateway address under
                       the same port, num[1] = 1: on the job's localhost too */
    NET_LISTEN,     /* gives a listening TCP socket on the job's own address; its port as value */
};
/* The helper's argv: net MODE SLIRP|PASTA-PROGRAM. fds: 3 requests, 4 ready pipe (slirp started by
 * the main process, as root) or nothing. Its first message: BOX_READY with the namespace, text
 * "ADDRESS GATEWAY DNS PREFIX". */
