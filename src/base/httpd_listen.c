/* Listening sockets and TLS. */
#include "base/httpd_internal.h"

#include <netdb.h>
#include <openssl/err.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* A socket file that nobody answers on is a leftover; one that answers belongs to somebody. */
static int clear_stale(const struct sockaddr_un *a) {
    struct stat st;
    if (lstat(a->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = connect(fd, (const struct sockaddr *)a, sizeof *a);
    int why = errno;
    close(fd);
    if (r == 0 || why == EAGAIN)
        return -EADDRINUSE;
    return unlink(a->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

int listen_unix(const char *path, mode_t mode, struct err *e) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n >= sizeof a.sun_path)
        return err_set(e, ERR_ENV, -ENAMETOOLONG, "the socket's path is too long: %s", path);
    memcpy(a.sun_path, path, n);
    int r = clear_stale(&a);
    if (r < 0)
        return err_errno(e, r, "%s", path);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, -errno, "socket");
    /* fchmod before bind sets the mode that the file gets, so it never stands open in between */
    if (fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || chmod(path, mode) < 0 ||
        listen(fd, 128) < 0)
        return err_errno(e, -errno, "listen on %s", path);
    return TAKE_FD(fd);
}

int listen_tcp(const char *addr, uint16_t port, uint16_t *ret_port, struct err *e) {
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list = NULL;
    int g = getaddrinfo(addr && *addr ? addr : NULL, service, &hints, &list);
    if (g)
        return err_set(e, ERR_USER, -EADDRNOTAVAIL, "%s: %s", addr ? addr : "", gai_strerror(g));
    int r = -EADDRNOTAVAIL;
    _cleanup_close_ int fd = -1;
    for (struct addrinfo *i = list; i; i = i->ai_next) {
        fd = fd_close(fd);
        fd = socket(i->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int one = 1;
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
            bind(fd, i->ai_addr, i->ai_addrlen) < 0 || listen(fd, 128) < 0) {
            r = -errno;
            continue;
        }
        r = 0;
        break;
    }
    freeaddrinfo(list);
    if (r < 0) {
        err_set(e, r == -EADDRINUSE ? ERR_CONFLICT : ERR_ENV, r, "listen on %s:%u: %s", addr ? addr : "*", port, strerror(-r));
        return r;
    }
    struct sockaddr_storage bound;
    socklen_t n = sizeof bound;
    if (ret_port && getsockname(fd, (struct sockaddr *)&bound, &n) == 0 &&
        getnameinfo((struct sockaddr *)&bound, n, NULL, 0, service, sizeof service, NI_NUMERICSERV) == 0)
        *ret_port = (uint16_t)atoi(service);
    return TAKE_FD(fd);
}

int httpd_tls(struct httpd *h, const char *cert, const char *key, struct err *e) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx)
        return err_set(e, ERR_INTERNAL, -ENOMEM, "TLS cannot be initialised");
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 || SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1) {
        char why[200];
        ERR_error_string_n(ERR_get_error(), why, sizeof why);
        SSL_CTX_free(ctx);
        ERR_clear_error();
        return err_set(e, ERR_CONFIG, -EINVAL, "certificate %s, key %s: %s", cert, key, why);
    }
    SSL_CTX_free(h->tls);
    h->tls = ctx;
    return 0;
}
