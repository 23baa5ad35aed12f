#include "run/dlcache.h"

#include "core/fs.h"
#include "store/jobcache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct cache {
    const char *name;   /* folder on the host */
    const char *home;   /* below HOME in the box, or */
    const char *path;   /* absolute */
    uint32_t uid;       /* owner inside */
};
static const struct cache caches[] = {
    {"pip", ".cache/pip", NULL, ID_RUNNER},
    {"npm", ".npm/_cacache", NULL, ID_RUNNER},
    {"apt", NULL, "/var/cache/apt/archives", 0},
};

static char *target_of(struct jobx *x, const struct cache *c) { return c->path ? xstrdup(c->path) : path_join(x->home, c->home); }

static char *folder_of(struct jobx *x) { return jobcache_path(x->rq->store, x->run->repo_name, ctx_id(x->run->repository)); }

/* --- merging ------------------------------------------------------------------------------------- */

/* Moves plain files of `from` that `to` lacks; everything else of a job's making is left. */
static void merge(int from, int to, unsigned depth) {
    DIR *d = fdopendir(dup(from));
    if (!d || depth > 32) {
        if (d)
            closedir(d);
        return;
    }
    for (struct dirent *en; (en = readdir(d));) {
        struct stat st;
        if (streq(en->d_name, ".") || streq(en->d_name, "..") || fstatat(from, en->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISREG(st.st_mode) && st.st_nlink == 1) {
            syscall(SYS_renameat2, from, en->d_name, to, en->d_name, 1u /* RENAME_NOREPLACE */);
        } else if (S_ISDIR(st.st_mode)) {
            mkdirat(to, en->d_name, 0755);
            _cleanup_close_ int f = openat(from, en->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            _cleanup_close_ int t = openat(to, en->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (f >= 0 && t >= 0)
                merge(f, t, depth + 1);
        }
    }
    closedir(d);
}

/* What is new in the box's caches, copied to $out. By time of the last write: that of the last change
 * (ctime) moves when another job's snapshot links to the same files, and then everything would be new.
 * apt gives its files the server's time: there the names that are kept already are passed over. */
static const char collect[] =
    "mark=$1; out=$2; apt=$3; have=$4; shift 4\n"
    "if cd \"$apt\" 2>/dev/null; then for f in *.deb; do\n"
    "  case \" $have \" in *\" $f \"*) continue;; esac\n"
    "  [ ! -f \"$f\" ] || [ -h \"$f\" ] || { mkdir -p \"$out/apt\" && cp \"$f\" \"$out/apt\"; }\n"
    "done; fi\n"
    "while [ $# -gt 1 ]; do n=$1; d=$2; shift 2\n"
    "  [ -d \"$d\" ] || continue\n"
    "  [ -n \"$(find \"$d\" -type f -newer \"$mark\" ! -name lock -print -quit)\" ] || continue\n"
    "  mkdir -p \"$out/$n\" && cd \"$d\" &&\n"
    "  find . -type f -newer \"$mark\" ! -name lock ! -path './tmp/*' -print0 | xargs -0 -r cp --parents -t \"$out/$n\"\n"
    "done\n"
    "[ ! -d \"$out\" ] || { chown -R 1001:1001 \"$out\"; chmod -R u+rwX,go+rX \"$out\"; }\n";

/* Most jobs download nothing; then there is no need to start a shell: no folder of a cache is there,
 * or (apt's, of the image itself) nothing was put into it since the job began. */
static bool nothing_new(struct jobx *x) {
    struct stat mark, st;
    if (x->cache_mounted || fstatat(x->temp_fd, "_github_workflow/event.json", &mark, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    for (size_t i = 0; i < ELEMENTS(caches); i++) {
        _cleanup_free_ char *target = target_of(x, &caches[i]);
        _cleanup_close_ int fd = box_open(x->box, target, O_RDONLY | O_DIRECTORY, 0, NULL);
        if (fd == -ENOENT)
            continue;
        if (fd < 0 || !caches[i].path || fstat(fd, &st) < 0 || st.st_mtim.tv_sec > mark.st_mtim.tv_sec ||
            (st.st_mtim.tv_sec == mark.st_mtim.tv_sec && st.st_mtim.tv_nsec >= mark.st_mtim.tv_nsec))
            return false;
    }
    return true;
}

/* Names of the packages that are kept already. */
static void names_of(const char *folder, const char *sub, struct buf *have) {
    _cleanup_free_ char *path = path_join(folder, sub);
    DIR *d = opendir(path);
    for (struct dirent *en; d && (en = readdir(d));)
        if (en->d_name[0] != '.')
            buf_addf(have, "%s ", en->d_name);
    if (d)
        closedir(d);
}

static void keep(struct jobx *x, void *arg) {
    _cleanup_free_ char *folder = folder_of(x);
    _cleanup_buf_ struct buf have = BUF_MAX(100u << 10); /* one argument holds 128 KiB */
    _cleanup_free_ char *mark = xasprintf("%s/%s", x->temp, "_github_workflow/event.json"), *out = xasprintf("%s/_cache", x->temp);
    _cleanup_strv_ struct strv argv = {0};
    _cleanup_buf_ struct buf said = BUF_SMALL;
    struct err e = {0};
    if (x->status != OUT_SUCCESS && atomic_load(&x->leg->cancel) > 1)
        return;
    if (nothing_new(x))
        return;
    names_of(folder, "apt", &have);
    strv_extend(&argv, (const char *const[]){"/bin/sh", "-c", collect, "sh", mark, out, "/var/cache/apt/archives",
                                             have.n ? buf_str(&have) : "", NULL});
    for (size_t i = 0; i < ELEMENTS(caches); i++) {
        if (caches[i].path)
            continue;
        strv_add(&argv, caches[i].name);
        strv_take(&argv, target_of(x, &caches[i]));
    }
    if (jobx_capture(x, (const char *const *)argv.v, NULL, &said, &e) != 0)
        return;
    _cleanup_close_ int from = openat(x->temp_fd, "_cache", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0)
        return; /* nothing new */
    if (fs_mkdirs(AT_FDCWD, folder, 0755) < 0)
        return;
    _cleanup_close_ int to = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int lock = to < 0 ? -1 : lock_file(to, "lock", true, true);
    if (lock < 0)
        return;
    merge(from, to, 0);
    close(lock);
    (void)jobcache_prune(x->rq->store, 0, 0, false, false, NULL);
}

/* --- mounting ------------------------------------------------------------------------------------ */

static void mount_one(struct jobx *x, int dir, const char *folder, const struct cache *c) {
    char id[33];
    struct err e = {0};
    _cleanup_close_ int fd = openat(dir, c->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    _cleanup_free_ char *name = xasprintf("jobcache:%s/%s", folder, c->name), *target = target_of(x, c);
    struct tree_options o = {.name = name, .uid = x->bitbucket || x->container ? 0 : c->uid, .gid = x->bitbucket || x->container ? 0 : c->uid};
    if (tree_update(x->rq->store, x->lease, fd, &o, id, NULL, &e) < 0) {
        jobx_note(x, LEVEL_DEBUG, "cache of %s: %s", c->name, e.msg);
        return;
    }
    _cleanup_free_ char *lower = xasprintf("tree:%s", id);
    const char *lowers[] = {lower};
    struct box_mount m = {.kind = BOX_OVERLAY, .target = target, .lowers = lowers, .n_lowers = 1, .mode = 0755, .uid = o.uid, .gid = o.gid, .source_fd = -1};
    x->cache_mounted = true;
    if (box_mount(x->box, &m, &e) < 0)
        jobx_note(x, LEVEL_DEBUG, "cache of %s: %s", c->name, e.msg);
}

void dlcache_setup(struct jobx *x) {
    /* The official images throw packages away as soon as they are installed. */
    static const char conf[] = "Binary::apt::APT::Keep-Downloaded-Packages \"true\";\nAPT::Keep-Downloaded-Packages \"true\";\n";
    _cleanup_free_ char *folder = folder_of(x);
    if (x->rq->clean)
        return;
    if (x->has_apt)
        box_write_file(x->box, "/etc/apt/apt.conf.d/docker-clean", SV(conf), 0644, 0, 0, NULL);
    _cleanup_close_ int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0) {
        jobcache_used(dir);
        _cleanup_close_ int lock = lock_file(dir, "lock", false, true);
        for (size_t i = 0; i < ELEMENTS(caches); i++)
            mount_one(x, dir, folder, &caches[i]);
    }
    jobx_late(x, keep, NULL);
}
