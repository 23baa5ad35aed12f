/* A file is asked for again each time, with the entity tag of the last answer; when nothing has
 * changed the body comes from the store's blobs. Of a git repository one commit is fetched into a
 * bare repository of the store and exported from there; its files get the commit's time, so that the
 * same commit gives the same layer on any day. */
#include "build/netsrc.h"
#include "build/context.h"
#include "base/http.h"
#include "build/eval.h"
#include "core/fs.h"
#include "core/json.h"
#include "core/loop.h"
#include "core/proc.h"
#include "source/git.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>

#define FILE_MAX (16ull << 30)

/* --- what is written ------------------------------------------------------------------------ */

static bool is_http(const char *s) { return startswith(s, "http://") || startswith(s, "https://"); }

enum netsrc_kind netsrc_kind(const char *text) {
    const char *const git[] = {"git://", "ssh://", "git@", "github.com/"};
    for (size_t i = 0; i < ELEMENTS(git); i++)
        if (startswith(text, git[i]))
            return NETSRC_GIT;
    if (!is_http(text))
        return NETSRC_NONE;
    size_t n = strcspn(text, "#?");
    return n > 4 && strncmp(text + n - 4, ".git", 4) == 0 ? NETSRC_GIT : NETSRC_HTTP;
}

static bool hex(const char *s) { return *s && strspn(s, "0123456789abcdef") == strlen(s); }

static int query(struct arena *a, struct netsrc *rm, struct sv q, struct err *e) {
    struct sv part;
    while (q.n && sv_split(&q, '&', &part)) {
        ssize_t eq = sv_chr(part, '=');
        struct sv key = eq < 0 ? part : sv_n(part.p, (size_t)eq);
        char *value = eq < 0 ? arena_strdup(a, "") : arena_strndup(a, part.p + eq + 1, part.n - (size_t)eq - 1);
        if (sv_eqs(key, "ref") || sv_eqs(key, "tag") || sv_eqs(key, "branch")) {
            if (rm->ref)
                return err_set(e, ERR_USER, -EINVAL, "%s: more than one ref", rm->text);
            rm->ref = sv_eqs(key, "tag") ? arena_printf(a, "refs/tags/%s", value) : sv_eqs(key, "branch") ? arena_printf(a, "refs/heads/%s", value) : value;
        } else if (sv_eqs(key, "subdir")) {
            rm->subdir = value;
        } else if (sv_eqs(key, "commit") || sv_eqs(key, "checksum")) {
            rm->checksum = value;
        } else if (sv_eqs(key, "keep-git-dir")) {
            rm->keep_git_dir = !*value || streq(value, "1") || streq(value, "true");
        } else if (!sv_eqs(key, "submodules") || (*value && !streq(value, "0") && !streq(value, "false"))) {
            return err_set(e, ERR_USER, -ENOTSUP, "%s: not yet: \"" SV_FMT "\"", rm->text, SV_ARG(key));
        }
    }
    return 0;
}

static bool climbs(const char *path) {
    struct sv rest = sv_from(path), part;
    while (sv_split(&rest, '/', &part))
        if (sv_eqs(part, ".."))
            return true;
    return false;
}

struct netsrc *netsrc_read(struct arena *a, const char *text, struct err *e) {
    struct netsrc *rm = ARENA_NEW(a, struct netsrc);
    rm->text = arena_strdup(a, text);
    rm->kind = netsrc_kind(text);
    rm->url = rm->text;
    if (rm->kind == NETSRC_HTTP)
        return rm;
    size_t n = strcspn(text, "#");
    struct sv url = sv_n(rm->text, n);
    if (text[n]) {
        const char *frag = rm->text + n + 1;
        size_t k = strcspn(frag, ":");
        if (k)
            rm->ref = arena_strndup(a, frag, k);
        if (frag[k] && frag[k + 1])
            rm->subdir = frag + k + 1;
    }
    ssize_t q = sv_chr(url, '?');
    if (q >= 0) {
        if (query(a, rm, sv_sub(url, (size_t)q + 1, url.n), e) < 0)
            return NULL;
        url.n = (size_t)q;
    }
    rm->url = arena_printf(a, "%s" SV_FMT, sv_starts(url, "github.com/") ? "https://" : "", SV_ARG(url));
    const char *ref = rm->ref ? rm->ref : "x";
    if (ref[0] == '-' || strpbrk(ref, " \t\n~^:?*[\\") || strstr(ref, "..") || rm->url[0] == '-' || strstr(rm->url, "::")) {
        err_set(e, ERR_USER, -EINVAL, "%s: not a git ref", text);
        return NULL;
    }
    if (rm->subdir && climbs(rm->subdir)) {
        err_set(e, ERR_USER, -EINVAL, "%s: the folder leads out of the repository", text);
        return NULL;
    }
    return rm;
}

struct netsrc *netsrc_add(struct build *b, const char *text, struct span at) {
    struct err e = {0};
    struct netsrc *rm = netsrc_read(&b->arena, text, &e);
    if (!rm) {
        eval_error(b, at, NULL, "%s", e.msg);
        return NULL;
    }
    rm->at = at;
    GROW(b->remotes, b->cap_remotes, b->n_remotes + 1);
    b->remotes[b->n_remotes++] = rm;
    return rm;
}

int netsrc_checksum_ok(const struct netsrc *rm) {
    if (!rm->checksum)
        return 0;
    if (rm->kind == NETSRC_GIT)
        return hex(rm->checksum) && strlen(rm->checksum) >= 7 && strlen(rm->checksum) <= 64 ? 0 : -EINVAL;
    return digest_valid(sv_from(rm->checksum)) ? 0 : -EINVAL;
}

/* --- files ---------------------------------------------------------------------------------- */

struct download {
    struct blob_writer *w;
    uint64_t size;
};

static int download_write(void *arg, const void *p, size_t n) {
    struct download *d = arg;
    d->size += n;
    return d->size > FILE_MAX ? -EFBIG : blob_write(d->w, p, n);
}

/* Name of the file: the server's, else the last part of the path. */
static char *file_name(const char *url, const struct http_resp *resp) {
    const char *cd = http_header(resp, "content-disposition");
    const char *f = cd ? strstr(cd, "filename=") : NULL;
    char *name = NULL;
    if (f) {
        f += 9;
        name = *f == '"' ? xstrndup(f + 1, strcspn(f + 1, "\"")) : xstrndup(f, strcspn(f, "; "));
    } else {
        const char *path = strstr(url, "://");
        path = path ? strchr(path + 3, '/') : NULL;
        size_t n = path ? strcspn(path, "?#") : 0;
        while (n && path[n - 1] == '/')
            n = 0;
        size_t from = n;
        while (from && path[from - 1] != '/')
            from--;
        name = xstrndup(path ? path + from : "", n - from);
    }
    if (!*name || strchr(name, '/') || streq(name, ".") || streq(name, "..") || strlen(name) > 255) {
        free(name);
        name = xstrdup("download");
    }
    return name;
}

static int64_t http_time(const char *text) {
    struct tm tm = {0};
    const char *end = text ? strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) : NULL;
    return end ? (int64_t)timegm(&tm) : 0;
}

struct known { /* what the last answer was */
    struct arena a;
    const char *etag, *modified, *digest, *name;
};

static void known_load(struct store *s, const char *url, struct known *k) {
    _cleanup_buf_ struct buf text = BUF_SMALL;
    struct json *j;
    if (rec_get(s, "build-http", url, &text) != 1)
        return;
    char *copy = arena_strndup(&k->a, text.p, text.n);
    if (json_parse(&k->a, sv_n(copy, text.n), &j, NULL) < 0)
        return;
    k->digest = json_get_str(j, "digest", NULL);
    if (!k->digest || !blob_has(s, k->digest)) {
        k->digest = NULL;
        return;
    }
    k->etag = json_get_str(j, "etag", NULL);
    k->modified = json_get_str(j, "modified", NULL);
    k->name = json_get_str(j, "name", NULL);
}

static void known_save(struct store *s, const char *url, const struct known *k) {
    _cleanup_buf_ struct buf t = BUF_SMALL;
    struct json_w w;
    jw_init(&w, &t, 0);
    jw_obj(&w);
    jw_kstr(&w, "digest", k->digest);
    jw_kstr(&w, "name", k->name);
    if (k->etag)
        jw_kstr(&w, "etag", k->etag);
    if (k->modified)
        jw_kstr(&w, "modified", k->modified);
    jw_end_obj(&w);
    (void)rec_put(s, "build-http", url, buf_sv(&t), NULL);
}

static int put_file(struct store *s, int dir, const struct known *k, struct err *e) {
    _cleanup_close_ int in = blob_open(s, k->digest, NULL, e);
    if (in < 0)
        return in;
    _cleanup_close_ int out = openat(dir, k->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return err_errno(e, -errno, "%s", k->name);
    _cleanup_free_ char *block = xmalloc(256 << 10);
    for (ssize_t n; (n = read(in, block, 256 << 10)) != 0;) {
        int r = n < 0 ? -errno : fd_write_all(out, block, (size_t)n);
        if (r < 0)
            return err_errno(e, r, "%s", k->name);
    }
    struct timespec ts[2] = {{.tv_sec = http_time(k->modified)}, {.tv_sec = http_time(k->modified)}};
    return fchmod(out, 0600) < 0 || futimens(out, ts) < 0 ? err_errno(e, -errno, "%s", k->name) : 0;
}

static int fetch_file(struct store *s, const struct netsrc *rm, int dir, const volatile int *cancel, struct err *e) {
    struct known k = {{0}};
    struct download d = {0};
    _cleanup_http_ struct http_resp resp = {0};
    char digest[DIGEST_LEN + 1];
    known_load(s, rm->url, &k);
    struct http_req rq = {.url = rm->url, .write = download_write, .write_arg = &d, .cancel = cancel};
    if (k.digest && k.etag)
        rq.headers[rq.n_headers++] = (struct http_header){"If-None-Match", k.etag};
    else if (k.digest && k.modified)
        rq.headers[rq.n_headers++] = (struct http_header){"If-Modified-Since", k.modified};
    int r = blob_begin(s, &d.w, e);
    if (r >= 0)
        r = http_do(&rq, &resp, e);
    if (r >= 0 && resp.status == 304 && k.digest) {
        blob_abort(d.w);
        d.w = NULL;
    } else if (r >= 0 && resp.status != 200) {
        r = err_set(e, ERR_NET, -EIO, "%s: the server answered %d", rm->url, resp.status);
    } else if (r >= 0) {
        struct blob_writer *w = d.w;
        d.w = NULL;
        r = blob_commit(w, NULL, digest, e);
        _cleanup_free_ char *name = file_name(rm->url, &resp);
        k.digest = digest;
        k.name = arena_strdup(&k.a, name);
        k.etag = http_header(&resp, "etag");
        k.modified = http_header(&resp, "last-modified");
        if (r >= 0)
            known_save(s, rm->url, &k);
    }
    blob_abort(d.w);
    if (r >= 0 && rm->checksum && !streq(rm->checksum, k.digest))
        r = err_set(e, ERR_FAILED, -EBADMSG, "%s: digest mismatch: it is %s, wanted %s", rm->url, k.digest, rm->checksum);
    if (r >= 0)
        r = put_file(s, dir, &k, e);
    arena_done(&k.a);
    return r < 0 ? r : 0;
}

/* --- git ------------------------------------------------------------------------------------ */

/* Every file and folder gets the commit's time; .git goes unless it is wanted. */
static int settle(int dir, int64_t when, bool keep_git, unsigned depth, struct err *e) {
    struct timespec ts[2] = {{.tv_sec = when}, {.tv_sec = when}};
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d || depth > 200) {
        if (d)
            closedir(d);
        return err_errno(e, depth > 200 ? -ELOOP : -errno, "the repository's folder");
    }
    int r = 0;
    for (struct dirent *de; r >= 0 && (de = readdir(d));) {
        struct stat st;
        if (streq(de->d_name, ".") || streq(de->d_name, ".."))
            continue;
        if (depth == 0 && streq(de->d_name, ".git") && !keep_git) {
            r = fs_rmtree(dirfd(d), de->d_name);
            continue;
        }
        if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            _cleanup_close_ int sub = openat(dirfd(d), de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            r = sub < 0 ? -errno : settle(sub, when, keep_git, depth + 1, e);
        } else {
            (void)utimensat(dirfd(d), de->d_name, ts, AT_SYMLINK_NOFOLLOW);
        }
    }
    (void)futimens(dirfd(d), ts);
    closedir(d);
    return r;
}

/* Moves the content of a folder of the checkout up to its top. */
static int keep_subdir(int dir, const char *subdir, struct err *e) {
    _cleanup_close_ int sub = fs_open_in(dir, subdir, O_RDONLY | O_DIRECTORY, 0, 0);
    if (sub < 0)
        return err_errno(e, sub, "the repository's folder %s", subdir);
    if (mkdirat(dir, ".slipway-keep", 0755) < 0)
        return err_errno(e, -errno, "mkdir");
    _cleanup_close_ int keep = openat(dir, ".slipway-keep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int pass = 0; pass < 3; pass++) { /* into the new folder, the rest away, up again */
        int from = pass == 0 ? sub : pass == 1 ? dir : keep;
        int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fd < 0 ? NULL : fdopendir(fd);
        if (!d)
            return err_errno(e, -errno, "%s", subdir);
        int r = 0;
        for (struct dirent *de; r >= 0 && (de = readdir(d));) {
            if (streq(de->d_name, ".") || streq(de->d_name, "..") || streq(de->d_name, ".slipway-keep"))
                continue;
            if (pass == 1)
                r = fs_rmtree(dir, de->d_name);
            else
                r = renameat(from, de->d_name, pass == 0 ? keep : dir, de->d_name) < 0 ? -errno : 0;
        }
        closedir(d);
        if (r < 0)
            return err_errno(e, r, "%s", subdir);
    }
    (void)unlinkat(dir, ".slipway-keep", AT_REMOVEDIR);
    return 0;
}

static int fetch_git(struct store *s, const struct netsrc *rm, const char *path, int dir, char sha[41], struct err *e) {
    _cleanup_free_ char *cache = path_join(store_path(s), "git"), *repo = NULL;
    const char *ref = rm->ref ? rm->ref : rm->checksum && strlen(rm->checksum) == 40 ? rm->checksum : "HEAD";
    int r = git_fetch(rm->url, ref, cache, false, &repo, sha, e);
    if (r >= 0 && rm->checksum && !startswith(sha, rm->checksum))
        r = err_set(e, ERR_FAILED, -EBADMSG, "%s: checksum mismatch: the commit is %s, wanted %s", rm->text, sha, rm->checksum);
    if (r >= 0)
        r = git_export(repo, sha, path, 1, e);
    if (r < 0)
        return r;
    _cleanup_buf_ struct buf when = BUF_SMALL;
    uint64_t at = 0;
    r = proc_output(&when, e, "git", "-C", path, "log", "-1", "--format=%ct", sha, NULL);
    if (r < 0 || sv_u64(sv_trim(buf_sv(&when)), INT64_MAX, &at) < 0)
        return err_wrap(e, r < 0 ? r : -EPROTO, "time of the commit");
    bool whole = !rm->subdir || !*rm->subdir || streq(rm->subdir, "/") || streq(rm->subdir, ".");
    if (!whole && (r = keep_subdir(dir, rm->subdir, e)) < 0)
        return r;
    return settle(dir, (int64_t)at, rm->keep_git_dir && whole, 0, e);
}

int netsrc_fetch(struct store *s, const struct netsrc *rm, const char *path, int dir, const volatile int *cancel, char ret_commit[41],
                 struct err *e) {
    if (ret_commit)
        ret_commit[0] = 0;
    if (rm->kind == NETSRC_HTTP)
        return fetch_file(s, rm, dir, cancel, e);
    char sha[41] = "";
    int r = fetch_git(s, rm, path, dir, sha, e);
    if (r >= 0 && ret_commit)
        memcpy(ret_commit, sha, sizeof sha);
    return r;
}

/* --- a whole context ------------------------------------------------------------------------ */

static void list(int dir, struct strv *names) {
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *de; d && (de = readdir(d));)
        if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
            strv_add(names, de->d_name);
    if (d)
        closedir(d);
}

int netsrc_context(struct store *s, struct lease *l, const char *url, const volatile int *cancel, int *ret_dir, char **ret_file,
                   struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct netsrc *rm = netsrc_read(&a, url, e);
    int scratch = lease_scratch(l, e);
    _cleanup_free_ char *base = lease_scratch_path(l), *path = NULL;
    char name[40] = "fetched-", id[17];
    if (!rm)
        return -EINVAL;
    if (scratch < 0 || !base)
        return scratch < 0 ? scratch : -ENOMEM;
    random_id(id, 16);
    snprintf(name, sizeof name, "fetched-%s", id);
    path = path_join(base, name);
    if (mkdirat(scratch, name, 0700) < 0)
        return err_errno(e, -errno, "%s", path);
    int dir = openat(scratch, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_errno(e, -errno, "%s", path);
    int r = netsrc_fetch(s, rm, path, dir, cancel, NULL, e);
    if (r >= 0 && rm->kind == NETSRC_HTTP) {
        struct strv names = {0};
        list(dir, &names);
        _cleanup_close_ int fd = r >= 0 && names.n == 1 ? openat(dir, names.v[0], O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
        char start[512];
        ssize_t n = fd < 0 ? -1 : pread(fd, start, sizeof start, 0);
        if (n < 0)
            r = r < 0 ? r : err_errno(e, -EIO, "%s", url);
        if (r >= 0 && context_is_tar(sv_n(start, (size_t)n))) {
            (void)unlinkat(dir, names.v[0], 0);
            r = context_unpack(fd, dir, e);
        } else if (r >= 0) {
            *ret_file = xstrdup(names.v[0]);
        }
        strv_done(&names);
    }
    if (r < 0) {
        close(dir);
        return err_wrap(e, r, "build context");
    }
    *ret_dir = dir;
    return 0;
}

