#pragma once
/* Sending and reading the messages of proto.h. Used by the main process, the supervisor and the
 * init (core/ only). */
#include "box/proto.h"
#include "core/macro.h"

#include <sys/types.h>

/* A request with its strings and descriptors, as its receiver has it. */
struct request {
    struct box_req h;
    int fds[BOX_MAX_FDS]; /* [0] is the reply socket */
    size_t n_fds;
    char *strings;
    size_t len;
    char **argv, **env; /* NULL-terminated; env has room for a few more */
    const char *str1, *str2;
};
/* 1 = a request, 0 = EOF, -EBADMSG = not one, -EAGAIN, other errors. request_done in any case. */
int request_read(int sock, struct request *q);
void request_done(struct request *q);
/* Passes on a request whose strings did not come in a memfd. */
int request_forward(int sock, const struct request *q);

/* Sends an answer, with a descriptor when fd is not negative. */
int reply_send(int sock, uint32_t kind, int32_t value, int errnum, const char *text, int fd);
static inline int reply_done(int sock, int r) {
    return reply_send(sock, BOX_DONE, r, 0, NULL, -1);
}
/* Blocks for an answer; -EPIPE when the other side is gone. ret_fd may be NULL (then closed). */
int reply_recv(int sock, struct box_rep *m, int *ret_fd, int flags);

/* Sends a request and gives the socket on which its answers come. argv and env may be NULL.
 * h->n_argv, n_env, len, magic are filled in here. */
int request_send(int sock, struct box_req *h, const char *const *argv, const char *const *env,
                 const char *str1, const char *str2, const int *fds, size_t n_fds);
/* Sends and waits for the BOX_DONE: its value, or -EPIPE. */
int request_ask(int sock, struct box_req *h, const char *str1, const char *str2, const int *fds,
                size_t n_fds, int *ret_fd);
/* A sealed memfd with these bytes, at offset 0. */
int memfd_with(const char *name, const void *p, size_t n);
