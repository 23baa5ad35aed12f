#include "store/acache.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/loop.h"

#include <dirent.h>
#include <sys/stat.h>

/* Record: name space "acache", key "repo \n ref \n version \n key", so that prefixes are prefixes. */
#define NS "acache"
#define LOCK "acache"
#define DIR_NAME "acache"

static bool plain(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 127)
            return false;
    return true;
}

bool acache_key_ok(struct sv key) {
    if (!key.n || key.n > ACACHE_KEY_MAX)
        return false;
    for (size_t i = 0; i < key.n; i++)
        if ((unsigned char)key.p[i] < ' ' || key.p[i] == ',' || key.p[i] == 127)
            return false;
    return true;
}

static char *record_key(const struct acache_name *n) { return xasprintf("%s\n%s\n%s\n%s", n->repo, n->ref, n->version, n->key); }

static int entry_read(struct arena *a, const char *rec, struct sv text, struct acache_entry *ret) {
    struct json *j;
    const char *part[4];
    char *copy = arena_strdup(a, rec);
    for (int i = 0; i < 4; i++) {
        part[i] = copy;
        char *nl = i < 3 ? strchr(copy, '\n') : NULL;
        if (i < 3 && !nl)
            return -EBADMSG;
        if (nl) {
            *nl = 0;
            copy = nl + 1;
        }
    }
    if (json_parse(a, text, &j, NULL) < 0)
        return -EBADMSG;
    *ret = (struct acache_entry){.name = {part[0], part[1], part[2], part[3]},
                                 .id = (uint64_t)json_get_int(j, "id", 0),
                                 .size = (uint64_t)json_get_int(j, "size", 0),
                                 .created_ns = json_get_int(j, "created", 0),
                                 .used_ns = json_get_int(j, "used", 0)};
    return ret->id ? 0 : -EBADMSG;
}

static int entry_write(struct store *s, const struct acache_entry *en, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    _cleanup_free_ char *key = record_key(&en->name);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kint(&w, "id", (int64_t)en->id);
    jw_kint(&w, "size", (int64_t)en->size);
    jw_kint(&w, "created", en->created_ns);
    jw_kint(&w, "used", en->used_ns);
    jw_end_obj(&w);
    return rec_put(s, NS, key, buf_sv(&b), e);
}

static int folder(struct store *s, bool make) {
    if (make && mkdirat(store_dirfd(s), DIR_NAME, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(store_dirfd(s), DIR_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static void file_name(uint64_t id, char out[24]) { snprintf(out, 24, "%llu", (unsigned long long)id); }

int acache_open_id(struct store *s, uint64_t id, uint64_t *ret_size) {
    char name[24];
    struct stat st;
    _cleanup_close_ int dir = folder(s, false);
    if (dir < 0)
        return dir;
    file_name(id, name);
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (ret_size)
        *ret_size = (uint64_t)st.st_size;
    return TAKE_FD(fd);
}

int acache_open(struct store *s, const struct acache_entry *en, uint64_t *ret_size) {
    _cleanup_close_ int lock = store_key_lock(s, LOCK);
    int fd = acache_open_id(s, en->id, ret_size);
    if (fd < 0)
        return fd;
    struct acache_entry now = *en;
    now.used_ns = (int64_t)now_real();
    if (lock >= 0 && acache_has(s, &en->name))
        (void)entry_write(s, &now, NULL);
    return fd;
}

/* --- finding --------------------------------------------------------------------------------------- */

struct find {
    struct arena *a;
    struct acache_entry best;
    bool any;
};
static int newer(const char *rec, struct sv text, void *arg) {
    struct find *f = arg;
    struct acache_entry en;
    if (entry_read(f->a, rec, text, &en) < 0)
        return 0;
    if (!f->any || en.created_ns > f->best.created_ns || (en.created_ns == f->best.created_ns && en.id > f->best.id))
        f->best = en;
    f->any = true;
    return 0;
}

bool acache_has(struct store *s, const struct acache_name *name) {
    _cleanup_free_ char *key = record_key(name);
    return rec_get(s, NS, key, NULL) == 1;
}

int acache_find(struct store *s, const char *repo, const char *const *refs, size_t n_refs, const char *const *keys, size_t n_keys,
                const char *version, struct arena *a, struct acache_entry *ret) {
    for (size_t i = 0; i < n_refs; i++) {
        struct acache_name n = {repo, refs[i], version, keys[0]};
        _cleanup_buf_ struct buf b = BUF_SMALL;
        _cleanup_free_ char *exact = record_key(&n);
        int r = rec_get(s, NS, exact, &b);
        if (r < 0)
            return r;
        if (r == 1 && entry_read(a, exact, buf_sv(&b), ret) == 0)
            return 1;
        for (size_t k = 0; k < n_keys; k++) {
            struct find f = {.a = a};
            n.key = keys[k];
            _cleanup_free_ char *prefix = record_key(&n);
            if ((r = rec_each(s, NS, prefix, newer, &f)) < 0)
                return r;
            if (f.any) {
                *ret = f.best;
                return 1;
            }
        }
    }
    return 0;
}

/* --- changing -------------------------------------------------------------------------------------- */

static int drop(struct store *s, int dir, const struct acache_entry *en) {
    char name[24];
    _cleanup_free_ char *key = record_key(&en->name);
    int r = rec_del(s, NS, key); /* the record first: it never points to nothing */
    if (r < 0 && r != -ENOENT)
        return r;
    file_name(en->id, name);
    return unlinkat(dir, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

struct list {
    struct arena a;
    struct acache_entry *v;
    size_t n, cap;
};
static int collect(const char *rec, struct sv text, void *arg) {
    struct list *l = arg;
    struct acache_entry en;
    if (entry_read(&l->a, rec, text, &en) < 0)
        return 0;
    GROW(l->v, l->cap, l->n + 1);
    l->v[l->n++] = en;
    return 0;
}
static int list_all(struct store *s, const char *repo, struct list *l) {
    _cleanup_free_ char *prefix = repo ? xasprintf("%s\n", repo) : NULL;
    return rec_each(s, NS, prefix, collect, l);
}
static void list_done(struct list *l) {
    arena_done(&l->a);
    free(l->v);
}

static int by_repo_and_use(const void *pa, const void *pb) {
    const struct acache_entry *a = pa, *b = pb;
    int r = strcmp(a->name.repo, b->name.repo);
    if (r)
        return r;
    return a->used_ns > b->used_ns ? -1 : a->used_ns < b->used_ns; /* latest first */
}

/* Under the lock. `spare`: an entry that stays whatever its age is. */
static int evict(struct store *s, int dir, const char *repo, uint64_t max_bytes, uint64_t max_age_ns, bool all, bool dry, uint64_t spare,
                 struct acache_pruned *ret) {
    struct list l = {0};
    uint64_t sum = 0;
    int64_t oldest = (int64_t)now_real() - (int64_t)max_age_ns;
    int r = list_all(s, repo, &l);
    if (l.n)
        qsort(l.v, l.n, sizeof *l.v, by_repo_and_use);
    for (size_t i = 0; i < l.n && r >= 0; i++) {
        const struct acache_entry *en = &l.v[i];
        if (!i || !streq(en->name.repo, l.v[i - 1].name.repo))
            sum = 0;
        bool keep = !all && (en->id == spare || (en->used_ns >= oldest && sum + en->size <= max_bytes));
        if (keep) {
            sum += en->size;
            continue;
        }
        if (!dry)
            r = drop(s, dir, en);
        ret->entries++;
        ret->bytes += en->size;
    }
    list_done(&l);
    return r;
}

int acache_put(struct store *s, const struct acache_name *name, int dirfd, const char *tmp, uint64_t max_bytes, uint64_t *ret_id, struct err *e) {
    char file[24];
    struct stat st;
    if (!acache_key_ok(sv_from(name->key)) || !plain(name->ref) || !plain(name->repo) || !plain(name->version) || !*name->version)
        return err_set(e, ERR_USER, -EINVAL, "a cache's key has 1 to %u characters, without commas and control characters", ACACHE_KEY_MAX);
    struct acache_entry en = {.name = *name, .created_ns = (int64_t)now_real()};
    en.used_ns = en.created_ns;
    int r = store_counter(s, "acache", &en.id, e);
    if (r < 0)
        return r;
    _cleanup_close_ int dir = folder(s, true);
    if (dir < 0 || fstatat(dirfd, tmp, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return err_errno(e, dir < 0 ? dir : errno ? -errno : -EINVAL, "caches of the store");
    en.size = (uint64_t)st.st_size;
    _cleanup_close_ int lock = store_key_lock(s, LOCK);
    if (lock < 0)
        return err_errno(e, lock, "lock the caches");
    if (acache_has(s, name))
        return err_set(e, ERR_CONFLICT, -EEXIST, "cache entry with the same key, version, and scope already exists");
    file_name(en.id, file);
    if (renameat(dirfd, tmp, dir, file) < 0)
        return err_errno(e, -errno, "keep the cache");
    if ((r = entry_write(s, &en, e)) < 0) {
        unlinkat(dir, file, 0);
        return r;
    }
    struct acache_pruned gone = {0};
    (void)evict(s, dir, name->repo, max_bytes ? max_bytes : ACACHE_MAX_BYTES, ACACHE_MAX_AGE_NS, false, false, en.id, &gone);
    if (ret_id)
        *ret_id = en.id;
    return 0;
}

int acache_each(struct store *s, const char *repo, acache_fn fn, void *arg) {
    struct list l = {0};
    int r = list_all(s, repo, &l);
    for (size_t i = 0; i < l.n && r == 0; i++)
        r = fn(&l.v[i], arg);
    list_done(&l);
    return r;
}

int acache_remove(struct store *s, const struct acache_entry *en) {
    _cleanup_close_ int dir = folder(s, true);
    _cleanup_close_ int lock = dir < 0 ? dir : store_key_lock(s, LOCK);
    return lock < 0 ? lock : drop(s, dir, en);
}

/* Files whose record was never written: a crash between the two. */
static void sweep_files(struct store *s, int dir) {
    struct list l = {0};
    int copy = fcntl(dir, F_DUPFD_CLOEXEC, 3);
    DIR *d = copy < 0 || list_all(s, NULL, &l) < 0 ? NULL : fdopendir(copy);
    for (struct dirent *en; d && (en = readdir(d));) {
        uint64_t id;
        bool known = sv_u64(sv_from(en->d_name), UINT64_MAX, &id) < 0;
        for (size_t i = 0; i < l.n && !known; i++)
            known = l.v[i].id == id;
        if (!known)
            unlinkat(dir, en->d_name, 0);
    }
    if (d)
        closedir(d);
    else
        fd_close(copy);
    list_done(&l);
}

int acache_prune(struct store *s, uint64_t max_bytes, uint64_t max_age_ns, bool all, bool dry, struct acache_pruned *ret) {
    *ret = (struct acache_pruned){0};
    _cleanup_close_ int dir = folder(s, true);
    _cleanup_close_ int lock = dir < 0 ? dir : store_key_lock(s, LOCK);
    if (lock < 0)
        return lock;
    int r = evict(s, dir, NULL, max_bytes ? max_bytes : ACACHE_MAX_BYTES, max_age_ns ? max_age_ns : ACACHE_MAX_AGE_NS, all, dry, 0, ret);
    if (r >= 0 && !dry)
        sweep_files(s, dir);
    return r;
}
