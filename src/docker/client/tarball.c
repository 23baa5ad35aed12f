#include "docker/client/tarball.h"

#include <dirent.h>
#include <sys/sysmacros.h>

struct __attribute__((packed)) ustar {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100], magic[6], version[2];
    char uname[32], gname[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == 512, "a tar header");

static void octal(char *to, size_t n, uint64_t v) {
    for (size_t i = n - 1; i > 0; i--, v >>= 3)
        to[i - 1] = (char)('0' + (v & 7));
    to[n - 1] = 0;
}

static void base256(char *to, size_t n, uint64_t v) {
    memset(to, 0, n);
    for (size_t i = n; i > 1 && v; i--, v >>= 8)
        to[i - 1] = (char)(v & 0xff);
    to[0] = (char)0x80;
}

static int put_header(struct tarball *t, const char *name, char type, const struct stat *st, uint64_t size, const char *link) {
    struct ustar h;
    memset(&h, 0, sizeof(h));
    memcpy(h.name, name, MIN(strlen(name), sizeof(h.name)));
    octal(h.mode, 8, st->st_mode & 07777);
    octal(h.uid, 8, MIN((uint64_t)st->st_uid, 07777777u));
    octal(h.gid, 8, MIN((uint64_t)st->st_gid, 07777777u));
    if (size < (1ull << 33))
        octal(h.size, 12, size);
    else
        base256(h.size, 12, size);
    octal(h.mtime, 12, (uint64_t)MAX(st->st_mtime, 0));
    h.type = type;
    if (link)
        memcpy(h.link, link, MIN(strlen(link), sizeof(h.link)));
    memcpy(h.magic, "ustar", 6);
    memcpy(h.version, "00", 2);
    octal(h.major, 8, major(st->st_rdev));
    octal(h.minor, 8, minor(st->st_rdev));
    memset(h.sum, ' ', 8);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof(h); i++)
        sum += ((uint8_t *)&h)[i];
    octal(h.sum, 7, sum);
    return t->put(t->to, &h, sizeof(h));
}

static int pad(struct tarball *t, uint64_t size) {
    static const char zero[512];
    size_t n = (size_t)(-size & 511);
    return n ? t->put(t->to, zero, n) : 0;
}

static void pax_record(struct buf *b, const char *key, const char *value) {
    size_t body = strlen(key) + strlen(value) + 3, n = body + 1;
    char num[24];
    while ((size_t)snprintf(num, sizeof(num), "%zu", n) + body != n)
        n = (size_t)snprintf(num, sizeof(num), "%zu", n) + body;
    buf_addf(b, "%s %s=%s\n", num, key, value);
}

static int put_entry(struct tarball *t, const char *name, char type, const struct stat *st, uint64_t size, const char *link) {
    _cleanup_buf_ struct buf pax = BUF_MAX(64u << 10);
    if (strlen(name) > 100)
        pax_record(&pax, "path", name);
    if (link && strlen(link) > 100)
        pax_record(&pax, "linkpath", link);
    int r = 0;
    if (pax.n) {
        struct stat ps = {.st_mode = 0644};
        if ((r = put_header(t, "PaxHeaders/x", 'x', &ps, pax.n, NULL)) < 0 || (r = t->put(t->to, pax.p, pax.n)) < 0 ||
            (r = pad(t, pax.n)) < 0)
            return r;
    }
    return put_header(t, name, type, st, size, link);
}

static int put_file(struct tarball *t, int fd, uint64_t size) {
    _cleanup_free_ char *block = xmalloc(64 << 10);
    uint64_t left = size;
    while (left) {
        ssize_t n = read(fd, block, MIN(left, 64u << 10));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (!n) { /* it became shorter: zeros keep the archive right */
            n = (ssize_t)MIN(left, 64u << 10);
            memset(block, 0, (size_t)n);
        }
        int r = t->put(t->to, block, (size_t)n);
        if (r < 0)
            return r;
        left -= (uint64_t)n;
    }
    return pad(t, size);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

struct walk {
    struct tarball *t;
    bool (*skip)(void *arg, const char *rel);
    void *arg;
    unsigned depth;
};

static int walk(struct walk *w, int dirfd, const char *path, const char *as, const char *rel, struct err *e) {
    struct stat st;
    int r;
    if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, -errno, "lstat %s", path);
    if (S_ISLNK(st.st_mode)) {
        char link[4097];
        ssize_t n = readlinkat(dirfd, path, link, sizeof(link) - 1);
        if (n < 0)
            return err_errno(e, -errno, "readlink %s", path);
        link[n] = 0;
        r = put_entry(w->t, as, '2', &st, 0, link);
    } else if (S_ISREG(st.st_mode)) {
        _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            return err_errno(e, -errno, "open %s", path);
        r = put_entry(w->t, as, '0', &st, (uint64_t)st.st_size, NULL);
        if (r >= 0)
            r = put_file(w->t, fd, (uint64_t)st.st_size);
    } else if (S_ISDIR(st.st_mode)) {
        if (w->depth > 200)
            return err_set(e, ERR_LIMIT, -ELOOP, "%s: too deep", rel);
        _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            return err_errno(e, -errno, "open %s", path);
        _cleanup_free_ char *dir_as = xasprintf("%s/", as);
        if (*as && (r = put_entry(w->t, dir_as, '5', &st, 0, NULL)) < 0)
            return err_errno(e, r, "sending %s", rel);
        DIR *d = fdopendir(dup(fd));
        if (!d)
            return err_errno(e, -errno, "open %s", path);
        struct strv names = {0};
        for (struct dirent *de; (de = readdir(d));)
            if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
                strv_add(&names, de->d_name);
        closedir(d);
        if (names.n)
            qsort(names.v, names.n, sizeof(*names.v), by_name);
        r = 0;
        w->depth++;
        for (size_t i = 0; i < names.n && r >= 0; i++) {
            _cleanup_free_ char *sub = xasprintf("%s%s%s", rel, *rel ? "/" : "", names.v[i]);
            _cleanup_free_ char *sub_as = xasprintf("%s%s%s", as, *as ? "/" : "", names.v[i]);
            if (!w->skip || !w->skip(w->arg, sub))
                r = walk(w, fd, names.v[i], sub_as, sub, e);
        }
        w->depth--;
        strv_done(&names);
        return r;
    } else
        return 0; /* sockets, devices, pipes */
    return r < 0 ? err_errno(e, r, "sending %s", rel) : 0;
}

int tarball_add(struct tarball *t, int dirfd, const char *path, const char *as, bool (*skip)(void *arg, const char *rel),
                void *arg, struct err *e) {
    struct walk w = {t, skip, arg, 0};
    return walk(&w, dirfd, path, as, "", e);
}

int tarball_text(struct tarball *t, const char *as, struct sv text) {
    struct stat st = {.st_mode = 0644};
    int r = put_entry(t, as, '0', &st, text.n, NULL);
    if (r >= 0)
        r = t->put(t->to, text.p, text.n);
    return r < 0 ? r : pad(t, text.n);
}

int tarball_end(struct tarball *t) {
    static const char zero[1024];
    return t->put(t->to, zero, sizeof(zero));
}

/* --- extracting ---------------------------------------------------------------------------- */

static int read_full(struct api *c, void *p, size_t n, struct err *e) {
    size_t have = 0;
    while (have < n) {
        ssize_t k = api_read(c, (char *)p + have, n - have, e);
        if (k < 0)
            return (int)k;
        if (!k)
            return have ? err_set(e, ERR_NET, -EPROTO, "the archive ends early") : 0;
        have += (size_t)k;
    }
    return 1;
}

static uint64_t number(const char *p, size_t n) {
    uint64_t v = 0;
    if ((uint8_t)p[0] & 0x80) {
        for (size_t i = 1; i < n; i++)
            v = v << 8 | (uint8_t)p[i];
        return v;
    }
    for (size_t i = 0; i < n && p[i]; i++)
        if (p[i] >= '0' && p[i] <= '7')
            v = v << 3 | (uint64_t)(p[i] - '0');
    return v;
}

/* "path" and "linkpath" of a pax header. */
static void pax_read(struct sv text, char **path, char **link, uint64_t *size) {
    while (text.n) {
        ssize_t sp = sv_chr(text, ' ');
        uint64_t len;
        if (sp <= 0 || sv_u64(sv_sub(text, 0, (size_t)sp), text.n, &len) < 0 || len <= (uint64_t)sp + 1)
            return;
        struct sv v = sv_sub(text, (size_t)sp + 1, (size_t)len - (size_t)sp - 2), k;
        sv_split(&v, '=', &k);
        if (v.p && sv_eqs(k, "path")) {
            free(*path);
            *path = sv_dup(v);
        } else if (v.p && sv_eqs(k, "linkpath")) {
            free(*link);
            *link = sv_dup(v);
        } else if (v.p && sv_eqs(k, "size"))
            (void)sv_u64(v, UINT64_MAX, size);
        text = sv_sub(text, (size_t)len, text.n);
    }
}

static char *renamed(const char *name, const char *top) {
    while (*name == '/' || (name[0] == '.' && name[1] == '/'))
        name += *name == '/' ? 1 : 2;
    const char *slash = strchr(name, '/');
    const char *rest = slash ? slash + 1 : "";
    return xasprintf("%s%s%s", top, *top && *rest ? "/" : "", rest);
}

static int extract_data(struct api *c, int fd, uint64_t size, struct err *e) {
    _cleanup_free_ char *block = xmalloc(64 << 10);
    uint64_t left = size + (-size & 511), data = size;
    while (left) {
        size_t n = MIN(left, 64u << 10);
        int r = read_full(c, block, n, e);
        if (r <= 0)
            return r < 0 ? r : err_set(e, ERR_NET, -EPROTO, "the archive ends early");
        size_t use = MIN(n, data);
        if (fd >= 0 && (r = fd_write_all(fd, block, use)) < 0)
            return err_errno(e, r, "write");
        data -= use;
        left -= n;
    }
    return 0;
}

static int extract_entry(struct api *c, int dirfd, const struct ustar *h, const char *to, const char *link, uint64_t size,
                         bool keep_owner, struct err *e) {
    const char *last = NULL;
    mode_t mode = (mode_t)number(h->mode, 8) & 07777;
    int r = 0;
    if (!*to)
        return extract_data(c, -1, size, e);
    if (h->type == '5') {
        r = fs_mkdirs_in(dirfd, to, 0755);
        if (r < 0)
            return err_errno(e, r, "mkdir %s", to);
        _cleanup_close_ int fd = fs_open_in(dirfd, to, O_RDONLY | O_DIRECTORY, 0, 0);
        if (fd >= 0)
            (void)!fchmod(fd, mode | 0700);
        return extract_data(c, -1, size, e);
    }
    _cleanup_close_ int parent = fs_parent_in(dirfd, to, true, &last);
    if (parent < 0)
        return err_errno(e, parent, "%s", to);
    (void)unlinkat(parent, last, 0);
    if (h->type == '2') {
        if (symlinkat(link, parent, last) < 0)
            return err_errno(e, -errno, "symlink %s", to);
        return extract_data(c, -1, size, e);
    }
    if (h->type != '0' && h->type != 0 && h->type != '1') /* devices and pipes are left out */
        return extract_data(c, -1, size, e);
    _cleanup_close_ int fd = openat(parent, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, -errno, "open %s", to);
    if (h->type == '1')
        return err_set(e, ERR_USER, -ENOTSUP, "not yet: hard links in docker cp (%s)", to);
    r = extract_data(c, fd, size, e);
    if (r < 0)
        return r;
    (void)!fchmod(fd, mode);
    if (keep_owner)
        (void)!fchown(fd, (uid_t)number(h->uid, 8), (gid_t)number(h->gid, 8));
    struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)number(h->mtime, 12)}};
    (void)futimens(fd, ts);
    return 0;
}

int tarball_extract(struct api *c, int dirfd, const char *top, bool keep_owner, struct err *e) {
    struct ustar h;
    _cleanup_free_ char *path = NULL, *link = NULL;
    uint64_t pax_size = UINT64_MAX;
    for (;;) {
        int r = read_full(c, &h, sizeof(h), e);
        if (r <= 0)
            return r;
        if (!h.name[0] && !h.magic[0])
            return 0;
        uint64_t size = number(h.size, 12);
        if (h.type == 'x' || h.type == 'L' || h.type == 'K' || h.type == 'g') {
            if (size > (1u << 20))
                return err_set(e, ERR_LIMIT, -E2BIG, "the archive's header is too long");
            _cleanup_free_ char *text = xcalloc(1, (size_t)size + 512);
            if ((r = read_full(c, text, (size_t)(size + (-size & 511)), e)) < 0)
                return r;
            if (h.type == 'x')
                pax_read(sv_n(text, (size_t)size), &path, &link, &pax_size);
            else if (h.type == 'L' || h.type == 'K') {
                char **to = h.type == 'L' ? &path : &link;
                free(*to);
                *to = xstrdup(text);
            }
            continue;
        }
        if (pax_size != UINT64_MAX)
            size = pax_size;
        char name[300];
        snprintf(name, sizeof(name), "%.155s%s%.100s", h.prefix, h.prefix[0] ? "/" : "", h.name);
        if (memcmp(h.magic, "ustar\0", 6) != 0)
            snprintf(name, sizeof(name), "%.100s", h.name);
        char short_link[101];
        snprintf(short_link, sizeof(short_link), "%.100s", h.link);
        _cleanup_free_ char *to = renamed(path ? path : name, top);
        r = extract_entry(c, dirfd, &h, to, link ? link : short_link, size, keep_owner, e);
        if (r < 0)
            return r;
        free(path);
        free(link);
        path = link = NULL;
        pax_size = UINT64_MAX;
    }
}
