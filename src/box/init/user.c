/* Users and groups of the box: its /etc/passwd and /etc/group are hostile input, so they are read
 * with a limit, as regular files only, and parsed here (a static program has no NSS). */
#include "box/init/init.h"

#include <fcntl.h>
#include <sys/stat.h>

#define FILE_MAX_BYTES (4u << 20)

static char *read_bounded(const char *path) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return NULL;
    }
    size_t cap = MIN((size_t)st.st_size, (size_t)FILE_MAX_BYTES), n = 0;
    char *p = xmalloc(cap + 1);
    while (n < cap) {
        ssize_t k = read(fd, p + n, cap - n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            break;
        n += (size_t)k;
    }
    close(fd);
    p[n] = 0;
    return p;
}

/* Cuts a line into at most n fields at ':'; the number found. */
static size_t fields(char *line, char **f, size_t n) {
    size_t k = 0;
    for (char *p = line; k < n;) {
        f[k++] = p;
        p = strchr(p, ':');
        if (!p)
            break;
        if (k < n)
            *p++ = 0;
    }
    return k;
}

static bool number(const char *s, uint32_t *ret) {
    uint64_t v = 0;
    if (!*s)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || v > UINT32_MAX)
            return false;
        v = v * 10 + (uint64_t)(*s - '0');
    }
    if (v >= UINT32_MAX)
        return false;
    *ret = (uint32_t)v;
    return true;
}

static int group_find(const char *text, const char *name, gid_t *ret) {
    _cleanup_free_ char *copy = xstrdup(text ? text : "");
    char *save = copy;
    for (char *line; (line = strsep(&save, "\n"));) {
        char *f[4];
        uint32_t gid;
        if (fields(line, f, 4) >= 3 && streq(f[0], name) && number(f[2], &gid)) {
            *ret = gid;
            return 0;
        }
    }
    return -ENOENT;
}

static void groups_of(const char *text, struct user_info *u) {
    _cleanup_free_ char *copy = xstrdup(text ? text : "");
    char *save = copy;
    for (char *line; (line = strsep(&save, "\n"));) {
        char *f[4];
        uint32_t gid;
        if (fields(line, f, 4) != 4 || !number(f[2], &gid))
            continue;
        for (char *m, *list = f[3]; (m = strsep(&list, ","));)
            if (streq(m, u->name) && u->n_groups < ELEMENTS(u->groups)) {
                u->groups[u->n_groups++] = gid;
                break;
            }
    }
}

static bool passwd_find(char *text, const char *name, bool by_id, uint32_t id,
                        struct user_info *u) {
    char *save = text;
    for (char *line; (line = strsep(&save, "\n"));) {
        char *f[7];
        uint32_t uid, gid;
        if (fields(line, f, 7) < 6 || !number(f[2], &uid) || !number(f[3], &gid))
            continue;
        if (by_id ? uid != id : !streq(f[0], name))
            continue;
        u->uid = uid;
        u->gid = gid;
        snprintf(u->name, sizeof u->name, "%s", f[0]);
        snprintf(u->home, sizeof u->home, "%s", f[5]);
        return true;
    }
    return false;
}

int user_find(const char *spec, struct user_info *ret) {
    _cleanup_free_ char *user = xstrdup(spec && *spec ? spec : "0");
    _cleanup_free_ char *passwd = read_bounded("/etc/passwd");
    _cleanup_free_ char *group = read_bounded("/etc/group");
    char *colon = strchr(user, ':');
    uint32_t id = 0;
    if (colon)
        *colon++ = 0;
    memset(ret, 0, sizeof *ret);
    snprintf(ret->home, sizeof ret->home, "/");
    bool numeric = number(*user ? user : "0", &id);
    /* A name first, as docker does: a user may be called "1000". */
    _cleanup_free_ char *again = xstrdup(passwd ? passwd : "");
    bool known = *user && passwd && passwd_find(passwd, user, false, 0, ret);
    if (!known && numeric) {
        ret->uid = id;
        ret->gid = 0;
        known = passwd_find(again, NULL, true, id, ret);
        if (!known && id == 0)
            snprintf(ret->home, sizeof ret->home, "/root");
    } else if (!known && streq(user, "root")) {
        snprintf(ret->home, sizeof ret->home, "/root"); /* scratch images have no passwd */
    } else if (!known) {
        return -ENOENT;
    }
    if (!ret->home[0])
        snprintf(ret->home, sizeof ret->home, "/");
    if (colon && *colon) {
        uint32_t gid;
        if (group_find(group, colon, &ret->gid) < 0) {
            if (!number(colon, &gid))
                return -ENOENT;
            ret->gid = gid;
        }
    } else if (ret->name[0]) {
        groups_of(group, ret);
    }
    return 0;
}
