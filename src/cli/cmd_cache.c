/* slipway cache ls, rm: the caches that actions/cache keeps. */
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/json.h"
#include "core/loop.h"
#include "store/acache.h"

int cmd_cache(int argc, char **argv);

struct list {
    struct json_w *w;
    const char *repo;
    struct acache_entry *v;
    struct arena a;
    size_t n, cap;
};
static int collect(const struct acache_entry *en, void *arg) {
    struct list *l = arg;
    if (l->repo && !streq(l->repo, en->name.repo))
        return 0;
    GROW(l->v, l->cap, l->n + 1);
    l->v[l->n] = *en;
    l->v[l->n++].name = (struct acache_name){arena_strdup(&l->a, en->name.repo), arena_strdup(&l->a, en->name.ref), arena_strdup(&l->a, en->name.version),
                                            arena_strdup(&l->a, en->name.key)};
    return 0;
}
static void list_done(struct list *l) {
    arena_done(&l->a);
    free(l->v);
}

static int latest_first(const void *pa, const void *pb) {
    const struct acache_entry *a = pa, *b = pb;
    return a->used_ns > b->used_ns ? -1 : a->used_ns < b->used_ns;
}

static void show(const struct acache_entry *en) {
    _cleanup_buf_ struct buf size = BUF_SMALL;
    char used[32];
    buf_add_size(&size, en->size);
    format_time((uint64_t)en->used_ns, used);
    printf("%-8llu %10s  %.19s  %-24s %-24s %s\n", (unsigned long long)en->id, buf_str(&size), used, en->name.repo, en->name.ref, en->name.key);
}

static void show_json(struct json_w *w, const struct acache_entry *en) {
    char created[32], used[32];
    format_time((uint64_t)en->created_ns, created);
    format_time((uint64_t)en->used_ns, used);
    jw_obj(w);
    jw_kint(w, "id", (int64_t)en->id);
    jw_kstr(w, "repository", en->name.repo);
    jw_kstr(w, "ref", en->name.ref);
    jw_kstr(w, "key", en->name.key);
    jw_kstr(w, "version", en->name.version);
    jw_kint(w, "size", (int64_t)en->size);
    jw_kstr(w, "created", created);
    jw_kstr(w, "used", used);
    jw_end_obj(w);
}

static int ls(int argc, char **argv) {
    bool json = false;
    const char *repo = NULL;
    const struct opt items[] = {{0, "repository", OPT_STR, &repo, "OWNER/NAME", "only of this one"}, {0, "json", OPT_FLAG, &json, NULL, "as JSON"}};
    const struct opts o = {"cache ls [options]", "Lists the caches of actions, latest used first.", items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    struct list l = {0};
    int n, k = opts_begin(&o, argc, argv, &n);
    if (k >= 0)
        return k;
    l.repo = repo;
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "cache", .no_lease = true})) >= 0)
        return k;
    int r = n ? err_set(&e, ERR_USER, -EINVAL, "cache ls takes no names") : acache_each(c.store, repo, collect, &l);
    if (r < 0 && !e.kind)
        err_errno(&e, r, "the caches");
    if (l.n)
        qsort(l.v, l.n, sizeof *l.v, latest_first);
    _cleanup_buf_ struct buf b = BUF_LARGE;
    struct json_w w;
    jw_init(&w, &b, 2);
    jw_arr(&w);
    for (size_t i = 0; i < l.n && r >= 0; i++) {
        if (json)
            show_json(&w, &l.v[i]);
        else
            show(&l.v[i]);
    }
    jw_end_arr(&w);
    if (json && r >= 0)
        puts(buf_str(&b));
    else if (r >= 0 && !l.n)
        puts("no caches");
    list_done(&l);
    cli_close(&c);
    return r < 0 ? cli_fail(&e) : 0;
}

static int rm(int argc, char **argv) {
    bool all = false;
    const char *repo = NULL;
    const struct opt items[] = {{0, "repository", OPT_STR, &repo, "OWNER/NAME", "only of this one"}, {'a', "all", OPT_FLAG, &all, NULL, "all of them"}};
    const struct opts o = {"cache rm [options] [ID|KEY…]", "Removes caches of actions, by number or by key.", items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    struct list l = {0};
    uint64_t bytes = 0, gone = 0;
    int n, k = opts_begin(&o, argc, argv, &n), missing = 0;
    if (k >= 0)
        return k;
    if (!n == !all) {
        err_set(&e, ERR_USER, -EINVAL, "which caches? A number or a key, or --all");
        return cli_fail(&e);
    }
    l.repo = repo;
    if ((k = cli_begin(&c, &(struct cli_ctx_options){.what = "cache", .no_lease = true})) >= 0)
        return k;
    int r = acache_each(c.store, repo, collect, &l);
    for (int w = 1; w <= (all ? 1 : n) && r >= 0; w++) {
        bool found = all;
        for (size_t i = 0; i < l.n && r >= 0; i++) {
            char id[24];
            snprintf(id, sizeof id, "%llu", (unsigned long long)l.v[i].id);
            if (!all && !streq(argv[w], id) && !streq(argv[w], l.v[i].name.key))
                continue;
            found = true;
            if ((r = acache_remove(c.store, &l.v[i])) < 0)
                break;
            bytes += l.v[i].size;
            gone++;
        }
        if (!found) {
            struct err none = {0};
            err_set(&none, ERR_NOTFOUND, -ENOENT, "no cache %s", argv[w]);
            missing = cli_fail(&none);
        }
    }
    if (r < 0)
        err_errno(&e, r, "remove caches");
    _cleanup_buf_ struct buf size = BUF_SMALL;
    buf_add_size(&size, bytes);
    if (gone)
        printf("removed %llu cache%s, %s\n", (unsigned long long)gone, gone == 1 ? "" : "s", buf_str(&size));
    list_done(&l);
    cli_close(&c);
    return r < 0 ? cli_fail(&e) : missing;
}

int cmd_cache(int argc, char **argv) {
    struct err e = {0};
    const char *name = argc > 1 ? argv[1] : "--help";
    if (streq(name, "ls") || streq(name, "list"))
        return ls(argc - 1, argv + 1);
    if (streq(name, "rm"))
        return rm(argc - 1, argv + 1);
    if (streq(name, "--help") || streq(name, "-h")) {
        puts("usage: slipway cache COMMAND\n\n  ls   the caches of actions\n  rm   remove some");
        return argc > 1 ? 0 : 2;
    }
    err_set(&e, ERR_USER, -EINVAL, "no such command: cache %s", name);
    return cli_fail(&e);
}
