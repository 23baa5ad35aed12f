/* Where a build's files come from: folders, an archive or a Dockerfile on stdin, git, HTTP. What is
 * fetched lies in the lease's scratch and goes with it. */
#include "build/context.h"
#include "build/netsrc.h"
#include "cli/build_cmd.h"
#include "core/fs.h"
#include "core/loop.h"

#include <sys/stat.h>

void build_input_done(struct build_input *in) {
    fd_close(in->context);
    for (size_t i = 0; i < in->n_named; i++)
        if (!in->named[i].image)
            fd_close(in->named[i].dirfd);
    free(in->named);
    strv_done(&in->strings);
    free(in->name);
    free(in->dockerfile);
    buf_done(&in->text);
    buf_done(&in->ignore);
}

/* The archive on stdin, whose beginning was read already, through a file of the lease into a folder. */
static int unpack_stdin(struct cli_ctx *c, struct build_input *in, struct err *e) {
    int scratch = lease_scratch(c->lease, e);
    if (scratch < 0)
        return scratch;
    _cleanup_close_ int fd = openat(scratch, "stdin.tar", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : fd_write_all(fd, in->text.p, in->text.n);
    if (r >= 0)
        r = fd_copy(0, fd, 64ull << 30, NULL);
    buf_reset(&in->text);
    if (r < 0 || lseek(fd, 0, SEEK_SET) < 0 || mkdirat(scratch, "context", 0700) < 0)
        return err_errno(e, r < 0 ? r : -errno, "the build context on stdin");
    in->context = openat(scratch, "context", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = in->context < 0 ? err_errno(e, -errno, "open the build context") : context_unpack(fd, in->context, e);
    (void)unlinkat(scratch, "stdin.tar", 0);
    return r;
}

/* The Dockerfile is one of the archive's. */
static int tar_context(struct cli_ctx *c, struct build_input *in, const char *file, struct err *e) {
    in->name = xstrdup("-");
    in->dockerfile = xstrdup(file ? file : "Dockerfile");
    int r = unpack_stdin(c, in, e);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = fs_open_in(in->context, in->dockerfile, O_RDONLY | O_NONBLOCK, 0, 0);
    r = fd < 0 ? fd : fs_read_fd(fd, &in->text);
    return r < 0 ? err_set(e, ERR_USER, r, "%s in the archive on stdin: %s", in->dockerfile, strerror(-r)) : 0;
}

static int from_stdin(struct cli_ctx *c, struct build_input *in, const char *file, struct err *e) {
    in->text = BUF_MAX(4u << 20);
    char chunk[65536];
    for (ssize_t n; (n = read(0, chunk, sizeof chunk)) != 0;) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, -errno, "stdin");
        buf_add(&in->text, chunk, (size_t)n);
        if (context_is_tar(buf_sv(&in->text)))
            return tar_context(c, in, file, e);
        if (!buf_ok(&in->text))
            return err_set(e, ERR_LIMIT, -EFBIG, "the Dockerfile on stdin is larger than 4 MiB");
    }
    in->dockerfile = xstrdup("Dockerfile");
    in->name = xstrdup("-");
    return 0;
}

static int read_file(const char *path, struct buf *b, struct err *e) {
    if (streq(path, "-")) {
        int r = fs_read_fd(0, b);
        return r < 0 ? err_errno(e, r, "stdin") : 0;
    }
    int r = fs_read(AT_FDCWD, path, b, e);
    if (r < 0 && e)
        e->kind = ERR_USER;
    return r;
}

static int from_folder(struct build_input *in, const char *path, const char *file, struct err *e) {
    in->name = realpath(path, NULL);
    in->context = in->name ? open(in->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (in->context < 0) {
        err_set(e, ERR_USER, -errno, "build context %s: %s", path, strerror(errno));
        return -ENOENT;
    }
    in->text = BUF_MAX(4u << 20);
    in->ignore = BUF_MAX(2u << 20);
    _cleanup_free_ char *dflt = xasprintf("%s/Dockerfile", in->name);
    const char *f = file ? file : dflt;
    if (!streq(f, "-")) {
        _cleanup_free_ char *real = realpath(f, NULL);
        const char *rel = real ? startswith(real, in->name) : NULL;
        if (rel && *rel == '/') { /* inside the context: by its name there */
            in->dockerfile = xstrdup(rel + 1);
        } else {
            _cleanup_free_ char *own = xasprintf("%s.dockerignore", f);
            in->dockerfile = xstrdup(f);
            in->has_ignore = fs_read(AT_FDCWD, own, &in->ignore, NULL) >= 0;
        }
    } else {
        in->dockerfile = xstrdup("Dockerfile");
    }
    return read_file(f, &in->text, e);
}

/* The Dockerfile of a context that was fetched. */
static int dockerfile_of(struct build_input *in, const char *file, struct err *e) {
    in->text = BUF_MAX(4u << 20);
    in->dockerfile = xstrdup(file ? file : "Dockerfile");
    _cleanup_close_ int fd = fs_open_in(in->context, in->dockerfile, O_RDONLY | O_NONBLOCK, 0, 0);
    struct stat st;
    int r = fd < 0 ? fd : fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ? -EISDIR : fs_read_fd(fd, &in->text);
    return r < 0 ? err_set(e, ERR_USER, r, "%s of %s: %s", in->dockerfile, in->name, strerror(-r)) : 0;
}

static int from_url(struct cli_ctx *c, struct build_input *in, const char *url, const char *file, const volatile int *cancel, struct err *e) {
    _cleanup_free_ char *only = NULL;
    in->name = xstrdup(url);
    int r = netsrc_context(c->store, c->lease, url, cancel, &in->context, &only, e);
    return r < 0 ? r : dockerfile_of(in, only ? only : file, e);
}

/* NAME=VALUE: docker-image://REF, a URL, or a folder. */
static int named_open(struct cli_ctx *c, struct build_input *in, const char *text, const volatile int *cancel, struct err *e) {
    const char *eq = strchr(text, '='), *image;
    struct build_context *n = &in->named[in->n_named];
    if (!eq || eq == text || !eq[1])
        return err_set(e, ERR_USER, -EINVAL, "--build-context %s: NAME=PATH, NAME=URL or NAME=docker-image://REFERENCE", text);
    *n = (struct build_context){.dirfd = -1};
    strv_addn(&in->strings, text, (size_t)(eq - text));
    n->name = in->strings.v[in->strings.n - 1];
    if ((image = startswith(eq + 1, "docker-image://"))) {
        n->image = image;
    } else if (netsrc_kind(eq + 1)) {
        _cleanup_free_ char *only = NULL;
        n->folder = eq + 1;
        int r = netsrc_context(c->store, c->lease, eq + 1, cancel, &n->dirfd, &only, e);
        if (r < 0)
            return r;
    } else if (strstr(eq + 1, "://")) {
        return err_set(e, ERR_USER, -ENOTSUP, "--build-context %s: not yet (docker-image://, URLs and folders are there)", text);
    } else {
        _cleanup_free_ char *real = realpath(eq + 1, NULL);
        n->dirfd = real ? open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        if (n->dirfd < 0)
            return err_set(e, ERR_USER, -ENOENT, "--build-context %s: %s", text, strerror(errno));
        strv_add(&in->strings, real);
        n->folder = in->strings.v[in->strings.n - 1];
    }
    in->n_named++;
    return 0;
}

int build_input_open(struct cli_ctx *c, struct build_input *in, const char *path, const struct build_args *a,
                     const volatile int *cancel, struct err *e) {
    int r;
    in->context = -1;
    if (streq(path, "-"))
        r = from_stdin(c, in, a->file, e);
    else if (netsrc_kind(path))
        r = from_url(c, in, path, a->file, cancel, e);
    else
        r = from_folder(in, path, a->file, e);
    in->named = xcalloc(a->contexts.n + 1, sizeof *in->named);
    for (size_t i = 0; i < a->contexts.n && r >= 0; i++)
        r = named_open(c, in, a->contexts.v[i], cancel, e);
    return r < 0 ? r : 0;
}
