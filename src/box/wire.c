#include "box/wire.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

union fd_space {
    struct cmsghdr align;
    char space[CMSG_SPACE(BOX_MAX_FDS * sizeof(int))];
};

static int send_fds(int sock, struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds) {
    union fd_space ctl;
    struct msghdr h = {.msg_iov = iov, .msg_iovlen = n_iov};
    if (n_fds > BOX_MAX_FDS)
        return -EMFILE;
    memset(&ctl, 0, sizeof ctl);
    if (n_fds) {
        h.msg_control = ctl.space;
        h.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    ssize_t k;
    do
        k = sendmsg(sock, &h, MSG_NOSIGNAL);
    while (k < 0 && errno == EINTR);
    return k < 0 ? -errno : 0;
}

/* Bytes received; descriptors into fds, surplus ones closed. 0 = EOF. */
static ssize_t recv_fds(int sock, void *p, size_t n, int *fds, size_t *n_fds, int flags) {
    union fd_space ctl;
    struct iovec iov = {p, n};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = ctl.space,
                       .msg_controllen = sizeof ctl.space};
    size_t max = *n_fds;
    ssize_t k;
    *n_fds = 0;
    do
        k = recvmsg(sock, &h, MSG_CMSG_CLOEXEC | flags);
    while (k < 0 && errno == EINTR);
    if (k < 0)
        return errno == ECONNRESET ? 0 : -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < got; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            if (*n_fds < max)
                fds[(*n_fds)++] = fd;
            else
                close(fd);
        }
    }
    return k;
}

int reply_send(int sock, uint32_t kind, int32_t value, int errnum, const char *text, int fd) {
    struct box_rep m = {.kind = kind, .value = value, .errnum = errnum};
    if (text)
        snprintf(m.text, sizeof m.text, "%s", text);
    struct iovec iov = {&m, sizeof m};
    return send_fds(sock, &iov, 1, &fd, fd >= 0 ? 1 : 0);
}

int reply_recv(int sock, struct box_rep *m, int *ret_fd, int flags) {
    int fd = -1;
    size_t n = 1;
    ssize_t k = recv_fds(sock, m, sizeof *m, &fd, &n, flags);
    if (k != (ssize_t)sizeof *m) {
        fd_close(fd);
        return k == 0 ? -EPIPE : k < 0 ? (int)k : -EBADMSG;
    }
    m->text[sizeof m->text - 1] = 0;
    if (ret_fd)
        *ret_fd = fd;
    else
        fd_close(fd);
    return 0;
}

/* --- reading a request ---------------------------------------------------------------------- */

void request_done(struct request *q) {
    for (size_t i = 0; i < q->n_fds; i++)
        fd_close(q->fds[i]);
    free(q->strings);
    free(q->argv);
    free(q->env);
    memset(q, 0, sizeof *q);
}

/* Splits the strings; -EBADMSG when they are not what the header says. */
static int split(struct request *q) {
    const struct box_req *h = &q->h;
    size_t at = 0, i = 0, want = (size_t)h->n_argv + h->n_env + 2;
    if (want > BOX_PAYLOAD_MAX / 2 || !q->len || q->strings[q->len - 1] != 0)
        return -EBADMSG;
    q->argv = xcalloc((size_t)h->n_argv + 1, sizeof *q->argv);
    q->env = xcalloc((size_t)h->n_env + 8, sizeof *q->env);
    for (; i < want && at < q->len; i++) {
        char *s = q->strings + at;
        at += strlen(s) + 1;
        if (i < h->n_argv)
            q->argv[i] = s;
        else if (i < (size_t)h->n_argv + h->n_env)
            q->env[i - h->n_argv] = s;
        else if (i == want - 2)
            q->str1 = s;
        else
            q->str2 = s;
    }
    return i == want && at == q->len ? 0 : -EBADMSG;
}

static int read_memfd(int fd, char *p, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t k = pread(fd, p + at, n - at, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -EBADMSG;
        at += (size_t)k;
    }
    return 0;
}

int request_read(int sock, struct request *q) {
    static char data[sizeof(struct box_req) + BOX_INLINE];
    memset(q, 0, sizeof *q);
    q->n_fds = BOX_MAX_FDS;
    ssize_t k = recv_fds(sock, data, sizeof data, q->fds, &q->n_fds, MSG_DONTWAIT);
    if (k <= 0)
        return (int)k;
    if ((size_t)k < sizeof q->h)
        return -EBADMSG;
    memcpy(&q->h, data, sizeof q->h);
    if (q->h.magic != BOX_MAGIC || q->n_fds < 1 || q->h.len > BOX_PAYLOAD_MAX)
        return -EBADMSG;
    q->len = q->h.len;
    q->strings = xmalloc(q->len + 1);
    q->strings[q->len] = 0;
    if (q->h.flags & BOX_F_MEMFD) {
        if (q->n_fds < 2)
            return -EBADMSG;
        int r = read_memfd(q->fds[q->n_fds - 1], q->strings, q->len);
        fd_close(q->fds[--q->n_fds]);
        if (r < 0)
            return r;
    } else if ((size_t)k - sizeof q->h == q->len) {
        memcpy(q->strings, data + sizeof q->h, q->len);
    } else {
        return -EBADMSG;
    }
    int r = split(q);
    return r < 0 ? r : 1;
}

int request_forward(int sock, const struct request *q) {
    struct iovec iov[2] = {{(void *)&q->h, sizeof q->h}, {q->strings, q->len}};
    return send_fds(sock, iov, 2, q->fds, q->n_fds);
}

/* --- sending one ---------------------------------------------------------------------------- */

int memfd_with(const char *name, const void *p, size_t n) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    for (size_t at = 0; at < n;) {
        ssize_t k = pwrite(fd, (const char *)p + at, n - at, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            int r = k < 0 ? -errno : -EIO;
            fd_close(fd);
            return r;
        }
        at += (size_t)k;
    }
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    return fd;
}

static size_t strings_size(const char *const *v, uint32_t *count) {
    size_t n = 0;
    *count = 0;
    for (; v && *v; v++, (*count)++)
        n += strlen(*v) + 1;
    return n;
}

static char *put(char *p, const char *s) {
    size_t n = strlen(s) + 1;
    memcpy(p, s, n);
    return p + n;
}

int request_send(int sock, struct box_req *h, const char *const *argv, const char *const *env,
                 const char *str1, const char *str2, const int *fds, size_t n_fds) {
    int all[BOX_MAX_FDS], pair[2], mem = -1;
    str1 = str1 ? str1 : "";
    str2 = str2 ? str2 : "";
    size_t len = strings_size(argv, &h->n_argv) + strings_size(env, &h->n_env) + strlen(str1) +
                 strlen(str2) + 2;
    if (len > BOX_PAYLOAD_MAX)
        return -E2BIG;
    if (n_fds + 2 > BOX_MAX_FDS)
        return -EMFILE;
    h->magic = BOX_MAGIC;
    h->len = (uint32_t)len;
    _cleanup_free_ char *strings = xmalloc(len);
    char *p = strings;
    for (; argv && *argv; argv++)
        p = put(p, *argv);
    for (; env && *env; env++)
        p = put(p, *env);
    p = put(p, str1);
    put(p, str2);

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    all[0] = pair[1];
    if (n_fds)
        memcpy(all + 1, fds, n_fds * sizeof *fds);
    n_fds++;
    if (len > BOX_INLINE) {
        mem = memfd_with("slipway-request", strings, len);
        if (mem < 0) {
            fd_close(pair[0]);
            fd_close(pair[1]);
            return mem;
        }
        all[n_fds++] = mem;
        h->flags |= BOX_F_MEMFD;
    }
    struct iovec iov[2] = {{h, sizeof *h}, {strings, len}};
    int r = send_fds(sock, iov, mem >= 0 ? 1 : 2, all, n_fds);
    fd_close(mem);
    fd_close(pair[1]);
    if (r < 0) {
        fd_close(pair[0]);
        return r;
    }
    return pair[0];
}

int request_ask(int sock, struct box_req *h, const char *str1, const char *str2, const int *fds,
                size_t n_fds, int *ret_fd) {
    struct box_rep m;
    _cleanup_close_ int reply = request_send(sock, h, NULL, NULL, str1, str2, fds, n_fds);
    if (reply < 0)
        return reply;
    int r = reply_recv(reply, &m, ret_fd, 0);
    return r < 0 ? r : m.kind == BOX_DONE ? m.value : -EBADMSG;
}
