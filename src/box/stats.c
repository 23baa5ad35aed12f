/* What a box uses: from its cgroup where it has one, else as its init adds it up from /proc. */
#include "box/cgroup.h"
#include "box/impl.h"

int box_stats(struct box *b, struct box_stats *ret) {
    struct box_req h = {.kind = BOX_STATS};
    struct box_rep m;
    struct box_stats s = {0};
    unsigned long long mem, cpu, pids, rx, tx;
    _cleanup_close_ int sock = request_send(b->ctl, &h, NULL, NULL, NULL, NULL, NULL, 0);
    int r = sock < 0 ? sock : reply_recv(sock, &m, NULL, 0);
    if (r < 0)
        return r;
    if (sscanf(m.text, "%llu %llu %llu %llu %llu", &mem, &cpu, &pids, &rx, &tx) != 5)
        return -EBADMSG;
    s = (struct box_stats){.memory = mem, .cpu_ns = cpu, .pids = pids, .net_rx = rx, .net_tx = tx};
    s.memory_limit = b->memory_limit;
    if (b->cgroup)
        cgroup_stats(b->cgroup, &s);
    *ret = s;
    return 0;
}
