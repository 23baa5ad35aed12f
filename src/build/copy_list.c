/* Which files the sources of a COPY name, and a listing of all of them. Runs in a helper where the
 * source is a stack of layers, in the main process where it is a tree snapshot. */
#include "build/copy_int.h"
#include "base/digest.h"
#include "core/fs.h"

#include <dirent.h>
#include <linux/openat2.h>

#define PLAIN (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
#define MAX_MATCHES 100000u

int exclude_parse(struct ignore *g, const char *const *patterns, struct err *e) {
    _cleanup_buf_ struct buf text = BUF_MAX(1u << 20);
    struct diags d = {0};
    for (; patterns && *patterns; patterns++)
        buf_addf(&text, "%s\n", *patterns);
    int r = ignore_parse(g, "--exclude", buf_sv(&text), &d);
    if (r < 0)
        err_set(e, ERR_USER, r, "--exclude: %s", d.items[0].msg);
    diags_done(&d);
    return r;
}

/* --- matching sources ----------------------------------------------------------------------- */

static void match_add(struct copy_matches *m, const char *path, const char *shown, bool is_dir) {
    GROW(m->items, m->cap, m->n + 1);
    m->items[m->n++] = (struct copy_match){xstrdup(path), xstrdup(shown), is_dir};
}

static int match_one(struct copy_job *j, const char *path, struct copy_matches *out, struct err *e) {
    _cleanup_free_ char *canon = NULL;
    struct stat st;
    int r = view_resolve(&j->src, path, true, &canon);
    if (r == 0)
        r = view_stat(&j->src, canon, &st, NULL);
    if (r == -ENOENT || r == -ENOTDIR)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "/%s: not found", path);
    if (r < 0)
        return err_errno(e, r, "/%s", path);
    if (out->n >= MAX_MATCHES)
        return err_set(e, ERR_LIMIT, -E2BIG, "a pattern matches more than %u files", MAX_MATCHES);
    match_add(out, canon, path, S_ISDIR(st.st_mode));
    return 0;
}

/* Walks below `dir` (relative, "" = root) while the pattern may match deeper. */
static int match_walk(struct copy_job *j, const char *dir, const char *pattern, unsigned depth, unsigned max_depth,
                      struct copy_matches *out, struct err *e) {
    _cleanup_free_ char *canon = NULL;
    struct stat st;
    int r = view_resolve(&j->src, dir, true, &canon);
    if (r == 0)
        r = view_stat(&j->src, canon, &st, NULL);
    if (r < 0 || !S_ISDIR(st.st_mode))
        return 0;
    int fd = fs_open_in(j->src.lo, *canon ? canon : ".", O_RDONLY | O_DIRECTORY, 0, PLAIN);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return err_errno(e, -errno, "/%s", dir);
    struct strv names = {0};
    for (struct dirent *de; (de = readdir(d));)
        if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
            strv_add(&names, de->d_name);
    closedir(d);
    strv_sort(&names);
    r = 0;
    for (size_t i = 0; i < names.n && r >= 0; i++) {
        _cleanup_free_ char *path = xasprintf("%s%s%s", dir, *dir ? "/" : "", names.v[i]);
        if (ignore_glob(pattern, sv_from(path)))
            r = match_one(j, path, out, e);
        else if (depth + 1 < max_depth && depth < 200)
            r = match_walk(j, path, pattern, depth + 1, max_depth, out, e);
    }
    strv_done(&names);
    return r;
}

int copy_match(struct copy_job *j, const char *source, struct copy_matches *out, struct err *e) {
    _cleanup_free_ char *rooted = xasprintf("/%s", source), *clean = path_clean(rooted);
    const char *s = clean;
    while (*s == '/')
        s++;
    if (!ignore_has_glob(s))
        return match_one(j, s, out, e);
    unsigned depth = 1;
    for (const char *p = s; *p; p++)
        depth += *p == '/';
    if (strstr(s, "**"))
        depth = 200;
    /* The part before the first wildcard needs no search. */
    size_t fixed = strcspn(s, "*?[\\");
    while (fixed && s[fixed - 1] != '/')
        fixed--;
    _cleanup_free_ char *dir = xstrndup(s, fixed ? fixed - 1 : 0);
    unsigned at = 0;
    for (const char *p = dir; *p; p++)
        at += *p == '/';
    return match_walk(j, dir, s, *dir ? at + 1 : 0, depth, out, e);
}

void copy_matches_done(struct copy_matches *m) {
    for (size_t i = 0; i < m->n; i++) {
        free(m->items[i].path);
        free(m->items[i].shown);
    }
    free(m->items);
}

/* --- listing -------------------------------------------------------------------------------- */

static void record(struct copy_job *j, char type, const struct stat *st, const char *name, const char *src,
                   const char *link, const char *digest) {
    uint32_t uid = j->keep_owner ? st->st_uid : 0, gid = j->keep_owner ? st->st_gid : 0;
    buf_addf(&j->list, "%c %o %u %u %llu", type, st->st_mode & 07777u, uid, gid,
             type == 'f' ? (unsigned long long)st->st_size : 0ull);
    const char *const f[] = {name, src, link, digest};
    for (size_t i = 0; i < ELEMENTS(f); i++) {
        buf_addc(&j->list, 0);
        buf_adds(&j->list, f[i]);
    }
    buf_addc(&j->list, 0);
}

static int list_digest(struct copy_job *j, int dir, const char *name, char digest[DIGEST_LEN + 1]) {
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? -errno : digest_of_fd(fd, digest, NULL);
}

static int list_at(struct copy_job *j, int dir, const char *fs_name, struct buf *name, struct buf *src,
                   struct buf *rel, bool digests, unsigned depth, struct err *e) {
    struct stat st;
    char link[4097] = "", digest[DIGEST_LEN + 1] = "";
    if (depth > 300 || !buf_ok(name) || !buf_ok(src))
        return err_set(e, ERR_LIMIT, -ELOOP, "/%s: too deep", buf_str(src));
    if (fstatat(dir, fs_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, -errno, "/%s", buf_str(src));
    bool out = rel->n && j->exclude.n && ignore_match(&j->exclude, buf_str(rel));
    if (out && !(S_ISDIR(st.st_mode) && ignore_may_contain(&j->exclude, buf_str(rel))))
        return 0;
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(dir, fs_name, link, sizeof link - 1);
        link[n > 0 ? n : 0] = 0;
    }
    if (S_ISREG(st.st_mode) && digests) {
        int r = list_digest(j, dir, fs_name, digest);
        if (r < 0)
            return err_errno(e, r, "/%s", buf_str(src));
    }
    if (S_ISCHR(st.st_mode) && st.st_rdev == 0)
        return 0;
    record(j, S_ISDIR(st.st_mode) ? 'd' : S_ISREG(st.st_mode) ? 'f' : S_ISLNK(st.st_mode) ? 'l' : 'p', &st,
           buf_str(name), buf_str(src), link, digest);
    if (!buf_ok(&j->list))
        return err_set(e, ERR_LIMIT, -EFBIG, "too many files");
    if (!S_ISDIR(st.st_mode))
        return 0;
    int fd = openat(dir, fs_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return err_errno(e, -errno, "/%s", buf_str(src));
    int r = 0;
    for (struct dirent *de; r >= 0 && (de = readdir(d));) {
        if (streq(de->d_name, ".") || streq(de->d_name, ".."))
            continue;
        size_t n = name->n, s = src->n, k = rel->n;
        buf_addf(name, "%s%s", endswith(buf_str(name), "/") ? "" : "/", de->d_name);
        buf_addf(src, "%s%s", src->n ? "/" : "", de->d_name);
        buf_addf(rel, "%s%s", rel->n ? "/" : "", de->d_name);
        r = list_at(j, dirfd(d), de->d_name, name, src, rel, digests, depth + 1, e);
        buf_cut(name, n, name->n - n);
        buf_cut(src, s, src->n - s);
        buf_cut(rel, k, rel->n - k);
    }
    closedir(d);
    return r;
}

int copy_list_all(struct copy_job *j, bool digests, struct err *e) {
    int r = 0;
    for (size_t i = 0; i < j->sources.n && r >= 0; i++) {
        struct copy_matches m = {0};
        r = copy_match(j, j->sources.v[i], &m, e);
        for (size_t k = 0; k < m.n && r >= 0; k++) {
            _cleanup_buf_ struct buf name = BUF_MAX(32768), src = BUF_MAX(16384), rel = BUF_MAX(16384);
            _cleanup_free_ char *up = path_dir(m.items[k].path);
            const char *parent = *m.items[k].path == 0 || streq(up, ".") || streq(up, "/") ? "." : up;
            const char *shown = j->parents ? m.items[k].shown : m.items[k].is_dir ? "" : path_base(m.items[k].shown);
            buf_addf(&name, "%zu/%s", i, shown);
            buf_adds(&src, m.items[k].path);
            if (!m.items[k].is_dir)
                buf_adds(&rel, m.items[k].shown);
            _cleanup_close_ int fd = fs_open_in(j->src.lo, parent, O_PATH | O_DIRECTORY, 0, PLAIN);
            r = fd < 0 ? err_errno(e, fd, "/%s", m.items[k].path)
                       : list_at(j, fd, *m.items[k].path ? path_base(m.items[k].path) : ".", &name, &src, &rel, digests, 0, e);
        }
        copy_matches_done(&m);
    }
    return r;
}

