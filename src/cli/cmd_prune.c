/* slipway prune, slipway system df: what the store holds, and letting go of what nothing needs. */
#include "build/cache.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/fs.h"
#include "core/loop.h"
#include "core/proc.h"
#include "image/registry.h"
#include "store/acache.h"
#include "store/artifact.h"
#include "store/jobcache.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/stat.h>

int cmd_prune(int argc, char **argv);
int cmd_system(int argc, char **argv);

/* --- what is reachable -------------------------------------------------------------------------
 */

struct reach {
    struct store *s;
    void (*mark)(void *m, const char *what);
    void *m;
};

/* Whatever a record names: its own key, and each text in it that could be a key, id or digest. */
static void mark_json(struct reach *x, const struct json *j, unsigned depth) {
    const char *s = json_str(j, NULL);
    if (s && strlen(s) <= 128)
        x->mark(x->m, s);
    for (size_t i = 0; depth < 16 && (j->kind == JSON_ARRAY || j->kind == JSON_OBJECT) && i < j->n;
         i++)
        mark_json(x, j->items[i], depth + 1);
}

static int mark_record(const char *key, struct sv text, void *arg) {
    struct reach *x = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    x->mark(x->m, key);
    if (json_parse(&a, text, &j, NULL) < 0)
        return -EUCLEAN;
    mark_json(x, j, 0);
    return 0;
}

/* arg: not NULL = the build cache counts. */
static int reach(struct store *s, void (*mark)(void *m, const char *what), void *m, void *arg) {
    struct reach x = {.s = s, .mark = mark, .m = m};
    int r = image_reach(s, mark, m, NULL);
    if (r == 0)
        r = registry_reach(s, mark, m, NULL);
    if (r == 0)
        r = rec_each(s, "container", NULL, mark_record, &x);
    if (r == 0)
        r = rec_each(s, "volume", NULL, mark_record, &x);
    if (r == 0 && arg)
        r = rec_each(s, "cache", NULL, mark_record, &x);
    return r;
}

/* Cache records whose layer went. */
static int forget_cached(const char *key, struct sv text, void *arg) {
    struct store *s = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    struct snap_info info;
    if (json_parse(&a, text, &j, NULL) < 0)
        return 0;
    const struct json *snaps = json_get(j, "snaps");
    if (snaps && snaps->n && snap_find(s, NULL, json_str(snaps->items[0], ""), &info) == 0)
        (void)rec_del(s, "cache", key);
    return 0;
}

/* --- runs --------------------------------------------------------------------------------------
 */

/* Logs of runs: the newest `keep` stay, and what a living run still writes. */
static unsigned prune_runs(struct store *s, uint64_t keep, bool dry) {
    _cleanup_close_ int dir = openat(store_dirfd(s), "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int dup_fd = dir < 0 ? -1 : fcntl(dir, F_DUPFD_CLOEXEC, 3);
    DIR *d = dup_fd < 0 ? NULL : fdopendir(dup_fd);
    uint64_t *ids = NULL, v;
    size_t n = 0, cap = 0;
    unsigned gone = 0;
    if (!d)
        return 0;
    for (struct dirent *en; (en = readdir(d));)
        if (sv_u64(sv_from(en->d_name), UINT64_MAX, &v) == 0) {
            GROW(ids, cap, n + 1);
            ids[n++] = v;
        }
    closedir(d);
    for (size_t i = 0; i < n; i++) {
        char name[24];
        struct stat st;
        size_t newer = 0;
        for (size_t k = 0; k < n; k++)
            newer += ids[k] > ids[i];
        snprintf(name, sizeof name, "%llu", (unsigned long long)ids[i]);
        if (newer < keep || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            (uint64_t)st.st_mtime + 86400 > now_real() / 1000000000)
            continue;
        gone += dry || fs_rmtree(dir, name) == 0;
    }
    free(ids);
    return gone;
}

struct kept {
    struct acache_pruned caches;
    struct jobcache_usage downloads;
    uint64_t artifacts, artifact_bytes;
};
/* Caches of actions nobody used for a week and artifacts whose time is over; --all: every cache. */
static int prune_kept(struct store *s, bool all, uint64_t older_ns, bool dry, struct kept *ret, struct err *e) {
    int r = acache_prune(s, 0, older_ns, all, dry, &ret->caches);
    if (r >= 0)
        r = jobcache_prune(s, 0, older_ns, all, dry, &ret->downloads);
    if (r >= 0)
        r = artifact_expire(s, dry, &ret->artifacts, &ret->artifact_bytes);
    return r < 0 ? err_errno(e, r, "caches and artifacts") : 0;
}

/* What nothing needs; and where a size was named and that was not enough, the build cache too. */
static int hold_under(struct store *s, const struct prune_options *p, struct prune_result *res, struct err *e) {
    struct prune_result more;
    int r = store_prune(s, p, reach, p->all ? NULL : (void *)p, res, e);
    if (r < 0 || p->all || !p->keep_bytes || res->left <= p->keep_bytes)
        return r;
    r = store_prune(s, p, reach, NULL, &more, e);
    if (r == 0 && p->dry_run) {
        *res = more; /* nothing was removed: it counted everything again */
    } else if (r == 0) {
        res->bytes += more.bytes;
        res->blobs += more.blobs;
        res->snaps += more.snaps;
        res->trees += more.trees;
        res->left = more.left;
    }
    if (r == 0 && res->left > p->keep_bytes) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        buf_add_size(&b, res->left);
        fprintf(stderr, "note: %s are left: named images, the registry and what is in use hold them\n", buf_str(&b));
    }
    return r;
}

int cmd_prune(int argc, char **argv) {
    struct prune_options p = {0};
    const char *older = NULL;
    int64_t runs = 100;
    const struct opt items[] = {
        {'a', "all", OPT_FLAG, &p.all, NULL, "the build cache, copies of folders, caches of actions and downloads of jobs too"},
        {0, "dry-run", OPT_FLAG, &p.dry_run, NULL, "only say what would go"},
        {0, "keep-storage", OPT_SIZE, &p.keep_bytes, "SIZE", "down to this size: what nothing needs first, then the build cache, oldest first"},
        {0, "older", OPT_STR, &older, "AGE", "keep what was used in that time: 36h, 7d"},
        {0, "keep-runs", OPT_INT, &runs, "N", "logs of runs to keep (100)"},
        {'f', "force", OPT_IGNORE, NULL, NULL, NULL},
    };
    const struct opts o = {"prune [options]",
                           "Removes what no image, cache or running job needs: unnamed images, "
                           "superseded copies, old logs.",
                           items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    struct prune_result res = {0};
    int n, k = opts_begin(&o, argc, argv, &n);
    if (k >= 0)
        return k;
    if (n > 0 || (older && parse_age(older, &p.older_ns) < 0) || runs < 0) {
        err_set(&e, ERR_USER, -EINVAL, n > 0 ? "prune takes no names" : "not an age: %s",
                older ? older : "");
        return cli_fail(&e);
    }
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "prune", .no_lease = true})) >= 0)
        return k;
    int r = store_sweep(c.store, NULL, NULL, &e);
    if (r == 0)
        r = hold_under(c.store, &p, &res, &e);
    unsigned logs = 0;
    struct kept kept = {0};
    if (r == 0)
        r = prune_kept(c.store, p.all, p.older_ns, p.dry_run, &kept, &e);
    if (r == 0) {
        logs = prune_runs(c.store, (uint64_t)runs, p.dry_run);
        if (!p.dry_run) {
            image_forget_gone(c.store);
            registry_forget_gone(c.store);
            (void)rec_each(c.store, "cache", NULL, forget_cached, c.store);
            if (p.all)
                cache_forget_notes(c.store);
        }
        _cleanup_buf_ struct buf size = BUF_SMALL;
        buf_add_size(&size, res.bytes + kept.caches.bytes + kept.downloads.bytes + kept.artifact_bytes);
        printf("%s %s: %llu blobs, %llu layers, %llu copies of folders, %llu caches, %llu downloads, %llu artifacts, %u logs\n",
               p.dry_run ? "would free" : "freed", buf_str(&size), (unsigned long long)res.blobs,
               (unsigned long long)res.snaps, (unsigned long long)res.trees, (unsigned long long)kept.caches.entries, (unsigned long long)kept.downloads.files,
               (unsigned long long)kept.artifacts, logs);
    }
    cli_close(&c);
    return r < 0 ? cli_fail(&e) : 0;
}

/* --- system df ---------------------------------------------------------------------------------
 */

static void df_line(const char *what, uint64_t n, uint64_t bytes) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    buf_add_size(&b, bytes);
    printf("%-24s %8llu  %10s\n", what, (unsigned long long)n, buf_str(&b));
}

static int count_image(const char *ref, const char *id, struct sv json, void *arg) {
    ++*(uint64_t *)arg;
    return 0;
}

struct sum {
    uint64_t n, bytes;
};
static int sum_cache(const struct acache_entry *en, void *arg) {
    struct sum *x = arg;
    x->n++;
    x->bytes += en->size;
    return 0;
}

static int system_df(int argc, char **argv) {
    bool json = false;
    const struct opt items[] = {{0, "json", OPT_FLAG, &json, NULL, "as JSON"}};
    const struct opts o = {"system df [options]", "Shows what the store holds.", items,
                           ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    struct store_usage u = {0};
    struct sum caches = {0};
    struct jobcache_usage down = {0};
    uint64_t images = 0, arts = 0, art_bytes = 0;
    int n, k = opts_begin(&o, argc, argv, &n);
    if (k >= 0)
        return k;
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "system", .no_lease = true})) >= 0)
        return k;
    int r = store_usage(c.store, &u, &e);
    if (r == 0 && (r = image_each_id(c.store, count_image, &images)) < 0)
        err_errno(&e, r, "read the records of images");
    if (r == 0 && ((r = acache_each(c.store, NULL, sum_cache, &caches)) < 0 ||
                   (r = artifact_usage(c.store, &arts, &art_bytes)) < 0 || (r = jobcache_usage(c.store, &down)) < 0))
        err_errno(&e, r, "caches and artifacts");
    if (r == 0 && json) {
        printf("{\"path\":");
        _cleanup_buf_ struct buf b = BUF_SMALL;
        json_escape(&b, sv_from(store_path(c.store)));
        printf("%s,\"images\":%llu,\"blobs\":{\"count\":%llu,\"bytes\":%llu},\"layers\":{\"count\":"
               "%llu,"
               "\"bytes\":%llu},\"trees\":{\"count\":%llu,\"bytes\":%llu},\"caches\":{\"count\":%llu,\"bytes\":%llu},"
               "\"downloads\":{\"count\":%llu,\"bytes\":%llu},\"artifacts\":{\"count\":%llu,\"bytes\":%llu}}\n",
               buf_str(&b), (unsigned long long)images, (unsigned long long)u.blobs,
               (unsigned long long)u.blob_bytes, (unsigned long long)u.snaps,
               (unsigned long long)u.snap_bytes, (unsigned long long)u.trees,
               (unsigned long long)u.tree_bytes, (unsigned long long)caches.n, (unsigned long long)caches.bytes,
               (unsigned long long)down.files, (unsigned long long)down.bytes, (unsigned long long)arts, (unsigned long long)art_bytes);
    } else if (r == 0) {
        printf("%s: %llu images\n%-24s %8s  %10s\n", store_path(c.store),
               (unsigned long long)images, "", "COUNT", "SIZE");
        df_line("blobs (as pulled)", u.blobs, u.blob_bytes);
        df_line("layers (unpacked)", u.snaps, u.snap_bytes);
        df_line("copies of folders", u.trees, u.tree_bytes);
        df_line("caches of actions", caches.n, caches.bytes);
        df_line("downloads of jobs", down.files, down.bytes);
        df_line("artifacts of runs", arts, art_bytes);
    }
    cli_close(&c);
    return r < 0 ? cli_fail(&e) : 0;
}

int cmd_system(int argc, char **argv) {
    struct err e = {0};
    const char *name = argc > 1 ? argv[1] : "--help";
    if (streq(name, "df"))
        return system_df(argc - 1, argv + 1);
    if (streq(name, "prune"))
        return cmd_prune(argc - 1, argv + 1);
    if (streq(name, "--help") || streq(name, "-h")) {
        puts("usage: slipway system COMMAND\n\n  df         what the store holds\n  prune      as "
             "slipway prune");
        return argc > 1 ? 0 : 2;
    }
    err_set(&e, ERR_USER, -EINVAL, "no such command: system %s", name);
    return cli_fail(&e);
}
