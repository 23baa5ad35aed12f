#include "run/pyfind.h"

#include "base/digest.h"
#include "base/http.h"
#include "core/fs.h"
#include "core/loop.h"
#include "core/proc.h"

#include <dirent.h>

static void add(struct py_list *l, const struct pyver *v, const char *path, const char *source) {
    GROW(l->items, l->cap, l->n + 1);
    l->items[l->n++] = (struct py_prefix){*v, xstrdup(path), source};
}

static bool usable(const char *prefix) {
    _cleanup_free_ char *bin = path_join(prefix, "bin/python3");
    return access(bin, X_OK) == 0;
}

/* "3.11.7", "cpython-3.12.1-linux-x86_64-gnu": the version in a folder's name. */
static bool name_version(const char *name, struct pyver *v) {
    const char *s = startswith(name, "cpython-");
    if (s) {
        struct sv rest = sv_from(s), ver;
        return strstr(s, "linux") && sv_split(&rest, '-', &ver) && pyver_parse(ver, v);
    }
    return *name >= '0' && *name <= '9' && strchr(name, '.') && pyver_parse(sv_from(name), v);
}

static void scan(struct py_list *l, const char *dir, const char *below, const char *source) {
    DIR *d = opendir(dir);
    size_t before = l->n;
    for (struct dirent *en; d && (en = readdir(d));) {
        struct pyver v;
        if (!name_version(en->d_name, &v))
            continue;
        _cleanup_free_ char *p = path_join(dir, en->d_name), *full = path_join(p, below);
        struct stat st;
        /* uv and pyenv have links such as 3.11 -> 3.11.7: only the folder itself counts. */
        if (lstat(p, &st) < 0 || !S_ISDIR(st.st_mode) || !usable(full))
            continue;
        add(l, &v, full, source);
    }
    if (d)
        closedir(d);
    if (!d)
        return;
    buf_addf(&l->looked, "%s%s (%s):", l->looked.n ? "; " : "", source, dir);
    for (size_t i = before; i < l->n; i++) {
        buf_adds(&l->looked, i > before ? ", " : " ");
        pyver_format(&l->items[i].version, &l->looked);
    }
    if (l->n == before)
        buf_adds(&l->looked, " none");
}

static int newest(const void *a, const void *b) {
    const struct py_prefix *x = a, *y = b;
    return pyver_cmp(&y->version, &x->version);
}

static void scan_once(struct py_list *l, struct strv *seen, const char *dir, const char *below, const char *source) {
    if (!dir || !*dir || strv_contains(seen, dir))
        return;
    strv_add(seen, dir);
    scan(l, dir, below, source);
}

void py_find(struct py_list *ret, const char *cache_dir) {
    _cleanup_strv_ struct strv seen = {0};
    const char *home = getenv("HOME");
    static const char *const caches[] = {"RUNNER_TOOL_CACHE", "AGENT_TOOLSDIRECTORY"};
    memset(ret, 0, sizeof *ret);
    ret->looked = BUF_SMALL;
    for (size_t i = 0; i <= ELEMENTS(caches); i++) {
        const char *top = i < ELEMENTS(caches) ? getenv(caches[i]) : "/opt/hostedtoolcache";
        _cleanup_free_ char *dir = top && *top ? path_join(top, "Python") : NULL;
        scan_once(ret, &seen, dir, "x64", "tool cache");
    }
    _cleanup_free_ char *uv = home ? path_join(home, ".local/share/uv/python") : NULL;
    scan_once(ret, &seen, getenv("UV_PYTHON_INSTALL_DIR"), ".", "uv");
    scan_once(ret, &seen, uv, ".", "uv");
    const char *root = getenv("PYENV_ROOT");
    _cleanup_free_ char *p1 = root && *root ? path_join(root, "versions") : NULL, *p2 = home ? path_join(home, ".pyenv/versions") : NULL;
    scan_once(ret, &seen, p1, ".", "pyenv");
    scan_once(ret, &seen, p2, ".", "pyenv");
    if (geteuid() == 0)
        scan_once(ret, &seen, "/root/.pyenv/versions", ".", "pyenv");
    scan_once(ret, &seen, cache_dir, ".", "fetched");
    if (ret->n)
        qsort(ret->items, ret->n, sizeof *ret->items, newest);
}

void py_list_done(struct py_list *l) {
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i].path);
    free(l->items);
    buf_done(&l->looked);
    memset(l, 0, sizeof *l);
}

/* --- fetching ------------------------------------------------------------------------------------ */

#if defined(__aarch64__)
#define TRIPLE "-aarch64-unknown-linux-gnu-install_only_stripped.tar.gz"
#else
#define TRIPLE "-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"
#endif

/* A line of SHA256SUMS: "<hex>  cpython-3.12.7+20241016-x86_64-…": is it for us, and allowed? */
static bool candidate(struct sv line, const char *range, bool pre, struct pyver *v, struct sv *name, struct sv *hex) {
    struct sv rest = line;
    if (!sv_split(&rest, ' ', hex) || hex->n != 64)
        return false;
    *name = sv_trim(rest);
    struct sv s = *name, ver;
    if (!sv_starts(s, "cpython-") || !sv_ends(s, TRIPLE))
        return false;
    s = sv_sub(s, 8, SIZE_MAX);
    return sv_split(&s, '+', &ver) && pyver_parse(ver, v) && pyver_match(sv_from(range), v, pre) == 1;
}

struct download {
    int fd;
    struct sha256 *h;
};
static int take(void *arg, const void *p, size_t n) {
    struct download *d = arg;
    sha256_update(d->h, p, n);
    return fd_write_all(d->fd, p, n);
}

static int fetch_file(const char *url, int fd, const char *hex, const volatile int *cancel,
                      void (*progress)(void *, uint64_t, uint64_t), void *arg, struct err *e) {
    struct download d = {fd, sha256_new()};
    struct http_req rq = {.url = url, .write = take, .write_arg = &d, .cancel = cancel, .progress = progress, .progress_arg = arg,
                          .max_body = 1u << 30};
    struct http_resp resp = {0};
    uint8_t raw[32];
    char digest[DIGEST_LEN + 1];
    int r = http_do(&rq, &resp, e);
    int status = resp.status;
    http_resp_done(&resp);
    sha256_final(d.h, raw);
    sha256_free(d.h);
    if (r < 0)
        return r;
    if (status != 200)
        return err_set(e, ERR_NET, -EIO, "%s: %d", url, status);
    digest_format(raw, digest);
    if (strcmp(digest_hex(digest), hex) != 0)
        return err_set(e, ERR_NET, -EBADMSG, "%s: its SHA-256 is not the one that was promised", url);
    return 0;
}

int py_fetch(const char *base_url, const char *range, bool pre, const char *cache_dir, const volatile int *cancel,
             void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct py_prefix *ret, struct err *e) {
    _cleanup_free_ char *sums = xasprintf("%s/latest/download/SHA256SUMS", base_url);
    struct http_req rq = {.url = sums, .cancel = cancel, .max_body = 8u << 20};
    _cleanup_http_ struct http_resp resp = {0};
    int r = http_do(&rq, &resp, e);
    if (r < 0)
        return r;
    if (resp.status != 200)
        return err_set(e, ERR_NET, -EIO, "%s: %d", sums, resp.status);
    struct sv rest = buf_sv(&resp.body), line, name = SV_NULL, hex = SV_NULL;
    struct pyver best = {0};
    while (sv_line(&rest, &line)) {
        struct pyver v;
        struct sv n, h;
        if (candidate(line, range, pre, &v, &n, &h) && (!name.p || pyver_cmp(&v, &best) > 0)) {
            best = v;
            name = n;
            hex = h;
        }
    }
    if (!name.p)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "the release at %s has none for it", base_url);
    _cleanup_free_ char *n = sv_dup(name), *h = sv_dup(hex), *url = xasprintf("%s/latest/download/%s", base_url, n);
    if ((r = fs_mkdirs(AT_FDCWD, cache_dir, 0755)) < 0)
        return err_errno(e, r, "%s", cache_dir);
    struct buf vb = BUF_SMALL;
    pyver_format(&best, &vb);
    _cleanup_free_ char *ver = buf_take(&vb), *dest = path_join(cache_dir, ver);
    char key[9];
    random_id(key, 8);
    _cleanup_free_ char *tmp = xasprintf("%s/.new-%s", cache_dir, key), *file = xasprintf("%s/.new-%s.tar.gz", cache_dir, key);
    _cleanup_close_ int fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, -errno, "%s", file);
    r = fetch_file(url, fd, h, cancel, progress, arg, e);
    if (r >= 0 && mkdir(tmp, 0755) < 0)
        r = err_errno(e, -errno, "%s", tmp);
    if (r >= 0) {
        _cleanup_buf_ struct buf out = BUF_SMALL;
        r = proc_output(&out, e, "tar", "-xzf", file, "-C", tmp, "--no-same-owner", "--strip-components=1", NULL);
    }
    if (r >= 0 && rename(tmp, dest) < 0 && errno != ENOTEMPTY && errno != EEXIST)
        r = err_errno(e, -errno, "%s", dest);
    unlink(file);
    fs_rmtree(AT_FDCWD, tmp);
    if (r < 0)
        return r;
    *ret = (struct py_prefix){best, xstrdup(dest), "fetched"};
    return 0;
}
