/* The log of a container's output: records in two unlinked files of the lease's scratch. When the
 * newer one is full the older is emptied and becomes the newer, so that at least one segment of
 * output is kept and never more than two. Offsets are logical and only grow. */
#include "docker/impl.h"

#include <sys/uio.h>

static int segment_open(int dir) {
    int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    char name[40] = "log-";
    random_id(name + 4, 24);
    fd = openat(dir, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    unlinkat(dir, name, 0);
    return fd;
}

int clog_open(struct clog *l, int dir) {
    *l = (struct clog){.fd = {-1, -1}};
    for (int i = 0; i < 2; i++)
        if ((l->fd[i] = segment_open(dir)) < 0)
            return l->fd[i];
    return 0;
}

void clog_close(struct clog *l) {
    for (int i = 0; i < 2; i++)
        l->fd[i] = fd_close(l->fd[i]);
}

uint64_t clog_end(const struct clog *l) { return l->start[l->cur] + l->len[l->cur]; }

uint64_t clog_begin(const struct clog *l) { return l->len[!l->cur] ? l->start[!l->cur] : l->start[l->cur]; }

int clog_append(struct clog *l, int stream, uint64_t ns, const void *p, size_t n) {
    struct log_record h = {.ns = ns, .len = (uint32_t)n, .stream = (uint8_t)stream};
    if (l->len[l->cur] && l->len[l->cur] + sizeof(h) + n > LOG_SEGMENT) {
        uint64_t end = clog_end(l);
        l->cur = !l->cur;
        if (ftruncate(l->fd[l->cur], 0) < 0)
            return -errno;
        l->start[l->cur] = end;
        l->len[l->cur] = 0;
    }
    struct iovec v[2] = {{&h, sizeof(h)}, {(void *)p, n}};
    ssize_t k = pwritev(l->fd[l->cur], v, 2, (off_t)l->len[l->cur]);
    if (k < 0)
        return -errno;
    if ((size_t)k != sizeof(h) + n)
        return -ENOSPC;
    l->len[l->cur] += (uint64_t)k;
    return 0;
}

int clog_read(const struct clog *l, uint64_t *off, struct log_record *h, void *p) {
    if (*off < clog_begin(l))
        *off = clog_begin(l);
    if (*off >= clog_end(l))
        return 0;
    int seg = *off >= l->start[l->cur] ? l->cur : !l->cur;
    off_t at = (off_t)(*off - l->start[seg]);
    if (pread(l->fd[seg], h, sizeof(*h), at) != sizeof(*h) || h->len > LOG_CHUNK ||
        pread(l->fd[seg], p, h->len, at + (off_t)sizeof(*h)) != (ssize_t)h->len)
        return -EIO;
    *off += sizeof(*h) + h->len;
    return 1;
}
