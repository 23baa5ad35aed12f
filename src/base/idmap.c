/* Finding the ids that the store's user namespace may use: /etc/subuid and /etc/subgid, for root a
 * default range high above what distributions hand out. In a container whose own user namespace
 * has few ids (rootless podman: 65,536), root takes all of them but its own. */
#include "base/userns.h"
#include "core/fs.h"

#include <grp.h>
#include <pwd.h>

#define ROOT_DEFAULT 1879048192u
#define MAX_RANGES 64

struct range {
    uint64_t start, count;
};
struct ranges {
    struct range r[MAX_RANGES];
    size_t n;
};

static bool overlap(const struct ranges *rs, uint64_t start, uint64_t count) {
    for (size_t i = 0; i < rs->n; i++)
        if (start < rs->r[i].start + rs->r[i].count && rs->r[i].start < start + count)
            return true;
    return false;
}

static void range_add(struct ranges *rs, uint64_t start, uint64_t count) {
    if (rs->n < MAX_RANGES && count)
        rs->r[rs->n++] = (struct range){start, count};
}

/* Lines "name-or-uid:start:count"; mine gets those of this user, all those of anybody. */
static void subid_read(const char *path, const char *name, uid_t uid, struct ranges *mine,
                       struct ranges *all) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    char uids[16];
    struct sv rest, line;
    if (fs_read(AT_FDCWD, path, &b, NULL) < 0)
        return;
    snprintf(uids, sizeof uids, "%u", (unsigned)uid);
    rest = buf_sv(&b);
    while (sv_line(&rest, &line)) {
        struct sv who, start, left = line;
        uint64_t s, c;
        if (!sv_split(&left, ':', &who) || !sv_split(&left, ':', &start) || !left.p ||
            sv_u64(start, UINT32_MAX, &s) < 0 || sv_u64(sv_trim(left), UINT32_MAX, &c) < 0 ||
            s + c > UINT32_MAX)
            continue;
        range_add(all, s, c);
        if ((name && sv_eqs(who, name)) || sv_eqs(who, uids))
            range_add(mine, s, c);
    }
}

/* The ids that our own user namespace has ("inside outside count" lines; inside counts here). */
static void own_map(const char *path, struct ranges *ret) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct sv rest, line;
    if (fs_read(AT_FDCWD, path, &b, NULL) == 0) {
        rest = buf_sv(&b);
        while (sv_line(&rest, &line)) {
            unsigned long in, out, count;
            char text[128];
            snprintf(text, sizeof text, SV_FMT, SV_ARG(sv_sub(line, 0, 100)));
            if (sscanf(text, "%lu %lu %lu", &in, &out, &count) == 3)
                range_add(ret, in, count);
        }
    }
    if (!ret->n)
        range_add(ret, 0, UINT32_MAX);
}

static uint64_t total(const struct ranges *rs) {
    uint64_t t = 0;
    for (size_t i = 0; i < rs->n; i++)
        t += rs->r[i].count;
    return t;
}

static void put(struct idrange *r, size_t *n, uint32_t inside, uint32_t outside, uint32_t count) {
    if (count)
        r[(*n)++] = (struct idrange){inside, outside, count};
}

/* Fills [from, to) with ids of the pool, which is used up from its front. */
static bool fill(struct idrange *r, size_t *n, struct ranges *pool, uint32_t from, uint32_t to) {
    size_t i = 0;
    while (from < to) {
        while (i < pool->n && pool->r[i].count == 0)
            i++;
        if (i == pool->n || *n == 7)
            return false;
        uint64_t take = MIN(pool->r[i].count, (uint64_t)(to - from));
        put(r, n, from, (uint32_t)pool->r[i].start, (uint32_t)take);
        pool->r[i].start += take;
        pool->r[i].count -= take;
        from += (uint32_t)take;
    }
    return true;
}

static bool fill_user(struct idrange *r, size_t *n, struct ranges *pool, uint32_t caller) {
    *n = 0;
    if (!fill(r, n, pool, 0, ID_RUNNER))
        return false;
    put(r, n, ID_RUNNER, caller, 1);
    return fill(r, n, pool, ID_RUNNER + 1, ID_COUNT);
}

static uint64_t free_start(const struct ranges *all, uint64_t start) {
    while (overlap(all, start, ID_COUNT))
        start += ID_COUNT;
    return start;
}

/* Root: its own entry, else the default, else what its user namespace has beside 0. */
static bool fill_root(struct idrange *r, size_t *n, struct ranges *mine, const struct ranges *all,
                      const struct ranges *own) {
    *n = 0;
    if (total(mine) >= ID_COUNT && fill(r, n, mine, 0, ID_COUNT))
        return true;
    *n = 0;
    for (size_t i = 0; i < own->n; i++) {
        uint64_t s = free_start(all, ROOT_DEFAULT);
        if (s >= own->r[i].start && s + ID_COUNT <= own->r[i].start + own->r[i].count) {
            put(r, n, 0, (uint32_t)s, ID_COUNT);
            return true;
        }
    }
    for (size_t i = 0; i < own->n; i++) {
        uint64_t s = MAX(own->r[i].start, 1u), end = own->r[i].start + own->r[i].count;
        if (end > s && end - s >= ID_COUNT - 1) { /* 65535 is nobody's id */
            put(r, n, 0, (uint32_t)s, (uint32_t)MIN(end - s, ID_COUNT));
            return true;
        }
    }
    return false;
}

static void single_map(struct idmap *m, uid_t uid, gid_t gid) {
    m->single = true;
    m->root = false; /* no owner can be set, whoever we are */
    m->n_uid = m->n_gid = 0;
    put(m->uid, &m->n_uid, 0, uid, 1);
    put(m->gid, &m->n_gid, 0, gid, 1);
}

static int no_ids(const char *name, uid_t uid, const struct ranges *au, const struct ranges *ag,
                  struct err *e) {
    char who[64];
    struct ranges both = *au;
    for (size_t i = 0; i < ag->n; i++)
        range_add(&both, ag->r[i].start, ag->r[i].count);
    uint64_t s = free_start(&both, 100000);
    if (name)
        snprintf(who, sizeof who, "%s", name);
    else
        snprintf(who, sizeof who, "%u", (unsigned)uid);
    err_set(e, ERR_ENV, -EPERM, "%s has no subordinate ids (65,536 in /etc/subuid and /etc/subgid)",
            who);
    return err_hint(e, -EPERM, "sudo usermod --add-subuids %llu-%llu --add-subgids %llu-%llu %s",
                    (unsigned long long)s, (unsigned long long)s + ID_COUNT - 1,
                    (unsigned long long)s, (unsigned long long)s + ID_COUNT - 1, who);
}

int idmap_find(struct idmap *ret, bool allow_single, struct err *e) {
    struct idmap m = {0};
    struct ranges mu = {0}, mg = {0}, au = {0}, ag = {0}, ou = {0}, og = {0};
    uid_t uid = geteuid();
    gid_t gid = getegid();
    struct passwd *pw = getpwuid(uid);
    _cleanup_free_ char *name = pw ? xstrdup(pw->pw_name) : NULL;

    subid_read("/etc/subuid", name, uid, &mu, &au);
    subid_read("/etc/subgid", name, uid, &mg, &ag);
    m.root = uid == 0;
    if (m.root) {
        own_map("/proc/self/uid_map", &ou);
        own_map("/proc/self/gid_map", &og);
        if (fill_root(m.uid, &m.n_uid, &mu, &au, &ou) &&
            fill_root(m.gid, &m.n_gid, &mg, &ag, &og)) {
            *ret = m;
            return 0;
        }
    } else if (total(&mu) >= ID_COUNT - 1 && total(&mg) >= ID_COUNT - 1) {
        _cleanup_free_ char *nu = proc_find("newuidmap"), *ng = proc_find("newgidmap");
        if (nu && ng && fill_user(m.uid, &m.n_uid, &mu, uid) &&
            fill_user(m.gid, &m.n_gid, &mg, gid)) {
            *ret = m;
            return 0;
        }
        if ((!nu || !ng) && !allow_single) {
            err_set(e, ERR_ENV, -ENOENT, "newuidmap and newgidmap are not installed");
            return err_hint(e, -ENOENT, "sudo apt-get install uidmap");
        }
    }
    if (!allow_single)
        return no_ids(name, uid, &au, &ag, e);
    single_map(&m, uid, gid);
    *ret = m;
    return 0;
}

static uint32_t out_of(const struct idrange *r, size_t n, uint32_t inside) {
    for (size_t i = 0; i < n; i++)
        if (inside >= r[i].inside && inside - r[i].inside < r[i].count)
            return r[i].outside + (inside - r[i].inside);
    return UINT32_MAX;
}

uint32_t idmap_uid_out(const struct idmap *m, uint32_t inside) {
    return out_of(m->uid, m->n_uid, inside);
}

uint32_t idmap_gid_out(const struct idmap *m, uint32_t inside) {
    return out_of(m->gid, m->n_gid, inside);
}
