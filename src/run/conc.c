#include "run/conc.h"

#include "base/digest.h"
#include "core/fs.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/inotify.h>

#define DIR_NAME "concurrency"
#define TICKET_LEN 16

struct conc {
    int dir, fd;         /* fd: the claim's own file, locked */
    char *group;
    char prefix[34];     /* 32 hex of the group, '-' */
    char name[64];       /* prefix, ticket in hex, "-c" or "-w" */
    bool keep_all, held;
};

static int open_dir(struct store *s, struct err *e) {
    int r = fs_mkdirs(store_dirfd(s), DIR_NAME, 0700);
    int fd = r < 0 ? r : openat(store_dirfd(s), DIR_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? fd : err_errno(e, r < 0 ? r : -errno, "%s/%s", store_path(s), DIR_NAME);
}

/* One at a time looks at the folder: a claim that is being made is never seen unlocked. */
static int lock_dir(int dir) {
    int fd = openat(dir, "lock", O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX) < 0)
        fd = fd_close(fd);
    return fd;
}

static void key_of(const struct conc_spec *c, char out[34]) {
    _cleanup_free_ char *text = xasprintf("%s\n%s", c->repository, c->group);
    uint8_t raw[32];
    for (char *p = text; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 32);
    sha256_bytes(text, strlen(text), raw);
    for (int i = 0; i < 16; i++)
        snprintf(out + 2 * i, 3, "%02x", raw[i]);
    memcpy(out + 32, "-", 2);
}

int conc_claim(struct conc **ret, struct store *s, const struct conc_spec *spec, struct err *e) {
    uint64_t ticket;
    int r = store_counter(s, "concurrency", &ticket, e);
    if (r < 0)
        return r;
    struct conc *c = xcalloc(1, sizeof *c);
    c->fd = -1;
    c->group = xstrdup(spec->group);
    c->keep_all = spec->keep_all;
    key_of(spec, c->prefix);
    snprintf(c->name, sizeof c->name, "%s%016llx-%c", c->prefix, (unsigned long long)ticket, spec->cancel_in_progress ? 'c' : 'w');
    c->dir = open_dir(s, e);
    if (c->dir < 0) {
        r = c->dir;
        conc_free(c);
        return r;
    }
    _cleanup_close_ int lock = lock_dir(c->dir);
    c->fd = lock < 0 ? -1 : openat(c->dir, c->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (c->fd < 0 || flock(c->fd, LOCK_EX | LOCK_NB) < 0) {
        r = err_errno(e, -errno, "%s/%s", DIR_NAME, c->name);
        conc_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

static bool living(int dir, const char *name) {
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (flock(fd, LOCK_SH | LOCK_NB) < 0)
        return errno == EWOULDBLOCK;
    unlinkat(dir, name, 0); /* its process is gone */
    return false;
}

enum conc_state conc_look(struct conc *c) {
    bool older = false, newer = false, newer_cancels = false;
    _cleanup_close_ int lock = lock_dir(c->dir);
    int fd = openat(c->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        fd_close(fd);
        return c->held ? CONC_HELD : CONC_WAIT;
    }
    size_t n = strlen(c->prefix);
    for (struct dirent *de; (de = readdir(d));) {
        if (strncmp(de->d_name, c->prefix, n) != 0 || streq(de->d_name, c->name) || !living(c->dir, de->d_name))
            continue;
        bool after = strncmp(de->d_name + n, c->name + n, TICKET_LEN) > 0;
        older |= !after;
        newer |= after;
        newer_cancels |= after && endswith(de->d_name, "-c");
    }
    closedir(d);
    if (c->held)
        return newer_cancels ? CONC_CANCELLED : CONC_HELD;
    if (newer && (!c->keep_all || newer_cancels))
        return CONC_REPLACED;
    c->held = !older;
    return older ? CONC_WAIT : CONC_HELD;
}

const char *conc_group(const struct conc *c) { return c->group; }
bool conc_same(const struct conc *c, const char *group) { return c && sv_ieqs(sv_from(c->group), group); }

void conc_free(struct conc *c) {
    if (!c)
        return;
    if (c->fd >= 0)
        unlinkat(c->dir, c->name, 0);
    fd_close(c->fd);
    fd_close(c->dir);
    free(c->group);
    free(c);
}

int conc_watch(struct store *s, struct err *e) {
    int r = fs_mkdirs(store_dirfd(s), DIR_NAME, 0700);
    _cleanup_free_ char *path = path_join(store_path(s), DIR_NAME);
    int fd = r < 0 ? -1 : inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd >= 0 && inotify_add_watch(fd, path, IN_CREATE | IN_CLOSE_WRITE | IN_DELETE) >= 0)
        return fd;
    r = err_errno(e, r < 0 ? r : -errno, "watch %s", path);
    fd_close(fd);
    return r;
}
