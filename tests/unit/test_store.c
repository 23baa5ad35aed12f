#include "test.h"

#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"
#include "ns_hook.h"
#include "store/ns.h"
#include "store/store.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const struct ns_op ops[] = {{"store-mkdir", ns_store_mkdir, false},
                                   {"store-rm", ns_store_rm, false}};
NS_HOOK(ops)

static char dir[64];
static struct err e;

static struct store *fresh(void) {
    struct store *s = NULL;
    struct store_options o = {.path = dir, .allow_single_id = true};
    snprintf(dir, sizeof dir, "/tmp/test-store-XXXXXX");
    if (!mkdtemp(dir) || store_open(&s, &o, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        abort();
    }
    return s;
}

static struct store *again(void) {
    struct store *s = NULL;
    struct store_options o = {.path = dir, .allow_single_id = true};
    if (store_open(&s, &o, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        abort();
    }
    return s;
}

static void drop(struct store *s) {
    store_close(s);
    CHECK_INT(fs_rmtree(AT_FDCWD, dir), 0);
}

TEST(blobs) {
    struct store *s = fresh();
    struct blob_writer *w;
    char d[DIGEST_LEN + 1], d2[DIGEST_LEN + 1];
    uint64_t size, have;
    CHECK_INT(blob_put(s, SV("hello"), d, &e), 0);
    CHECK_STR(d, "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    CHECK(blob_has(s, d));
    CHECK_INT(blob_put(s, SV("hello"), d2, &e), 0);
    int fd = blob_open(s, d, &size, &e);
    CHECK(fd >= 0 && size == 5);
    fd_close(fd);
    struct buf b = BUF_SMALL;
    CHECK_INT(blob_read(s, d, &b, &e), 0);
    CHECK_STR(buf_str(&b), "hello");
    buf_done(&b);
    CHECK(!blob_has(s, "sha256:../../x"));
    CHECK(blob_open(s, "sha256:zz", NULL, &e) < 0);

    CHECK_INT(blob_begin(s, &w, &e), 0);
    CHECK_INT(blob_write(w, "x", 1), 0);
    CHECK_INT(blob_commit(w, d, NULL, &e), -EBADMSG);
    CHECK_INT(e.kind, ERR_NET);
    CHECK_INT(blob_begin(s, &w, &e), 0);
    blob_abort(w);
    blob_abort(NULL);

    digest_of("0123456789", 10, d);
    CHECK_INT(blob_resume(s, d, &w, &have, &e), 0);
    CHECK_INT(have, 0);
    CHECK_INT(blob_write(w, "01234", 5), 0);
    blob_abort(w);
    CHECK_INT(blob_resume(s, d, &w, &have, &e), 0);
    CHECK_INT(have, 5);
    CHECK_INT(blob_write(w, "56789", 5), 0);
    CHECK_INT(blob_commit(w, d, NULL, &e), 0);
    CHECK(blob_has(s, d));
    CHECK_INT(blob_resume(s, d, &w, &have, &e), -EEXIST);
    /* A damaged rest is thrown away. */
    digest_of("abcdef", 6, d);
    CHECK_INT(blob_resume(s, d, &w, &have, &e), 0);
    CHECK_INT(blob_write(w, "abcdeX", 6), 0);
    CHECK_INT(blob_commit(w, d, NULL, &e), -EBADMSG);
    CHECK_INT(blob_resume(s, d, &w, &have, &e), 0);
    CHECK_INT(have, 0);
    blob_abort(w);
    drop(s);
}

static int count_rec(const char *key, struct sv json, void *arg) {
    ++*(int *)arg;
    return 0;
}

static void *counter_thread(void *arg) {
    struct store *s = arg;
    for (int i = 0; i < 200; i++) {
        uint64_t v;
        CHECK_INT(store_counter(s, "n", &v, NULL), 0);
    }
    return NULL;
}

TEST(records) {
    struct store *s = fresh();
    struct buf b = BUF_SMALL;
    int n = 0;
    CHECK_INT(rec_put(s, "image", "a", SV("{\"x\":1}"), &e), 0);
    CHECK_INT(rec_put(s, "image", "ab", SV("2"), &e), 0);
    CHECK_INT(rec_put(s, "image", "b%", SV("3"), &e), 0);
    CHECK_INT(rec_put(s, "run", "a", SV("4"), &e), 0);
    CHECK_INT(rec_put(s, "image", "ab", SV("22"), &e), 0);
    CHECK_INT(rec_get(s, "image", "ab", &b), 1);
    CHECK_STR(buf_str(&b), "22");
    CHECK_INT(rec_get(s, "image", "no", &b), 0);
    CHECK_INT(rec_each(s, "image", "a", count_rec, &n), 0);
    CHECK_INT(n, 2);
    n = 0;
    CHECK_INT(rec_each(s, "image", NULL, count_rec, &n), 0);
    CHECK_INT(n, 3);
    CHECK_INT(rec_del(s, "image", "ab"), 0);
    CHECK_INT(rec_del(s, "image", "ab"), -ENOENT);
    buf_done(&b);

    pthread_t t[2];
    uint64_t v;
    pid_t child = fork();
    if (child == 0) {
        struct store *mine = again();
        counter_thread(mine);
        _exit(0);
    }
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, counter_thread, s);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    CHECK_INT(proc_wait(child), 0);
    CHECK_INT(store_counter(s, "n", &v, &e), 0);
    CHECK_INT(v, 601);
    drop(s);
}

TEST(leases_and_sweep) {
    struct store *s = fresh();
    struct lease *l;
    int p[2];
    char id[80] = "";
    CHECK_INT(lease_new(s, "test", &l, &e), 0);
    int fd = lease_scratch(l, &e);
    CHECK(fd >= 0);
    _cleanup_free_ char *path = lease_scratch_path(l);
    CHECK(fs_exists(AT_FDCWD, path));
    CHECK_INT(lease_use(l, "a\nb"), -EINVAL);
    CHECK_INT(store_sweep(s, NULL, NULL, &e), 0); /* a living one stays */
    CHECK(fs_exists(AT_FDCWD, path));
    lease_free(l);
    CHECK(!fs_exists(AT_FDCWD, path));

    CHECK_INT(pipe(p), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *mine = again();
        char snap[33];
        lease_new(mine, "child", &l, &e);
        lease_scratch(l, &e);
        snap_begin(mine, l, snap, NULL, &e);
        char text[80];
        snprintf(text, sizeof text, "%s %s", lease_id(l), snap);
        (void)!write(p[1], text, sizeof text);
        for (;;)
            pause();
    }
    CHECK_INT(fd_read_full(p[0], id, sizeof id), sizeof id);
    char lease[17], snap[33], what[200];
    CHECK_INT(sscanf(id, "%16s %32s", lease, snap), 2);
    snprintf(what, sizeof what, "%s/snap/%s/fs", dir, snap);
    CHECK_INT(store_sweep(s, NULL, NULL, &e), 0);
    CHECK(fs_exists(AT_FDCWD, what));
    kill(child, SIGKILL);
    proc_wait(child);
    CHECK_INT(store_sweep(s, NULL, NULL, &e), 0);
    CHECK(!fs_exists(AT_FDCWD, what));
    snprintf(what, sizeof what, "%s/scratch/%s", dir, lease);
    CHECK(!fs_exists(AT_FDCWD, what));
    snprintf(what, sizeof what, "%s/lease/%s", dir, lease);
    CHECK(!fs_exists(AT_FDCWD, what));
    close(p[0]);
    close(p[1]);
    drop(s);
}

static void *sweeper(void *arg) {
    struct store *s = arg;
    for (int i = 0; i < 400; i++)
        (void)store_sweep(s, NULL, NULL, NULL);
    return NULL;
}

/* A sweep looks at lease files that are just being made; neither may disturb the other. */
TEST(leases_beside_sweeps) {
    struct store *s = fresh();
    pthread_t t;
    int failed = 0, lost = 0;
    pthread_create(&t, NULL, sweeper, s);
    for (int i = 0; i < 400; i++) {
        struct lease *l;
        if (lease_new(s, "test", &l, &e) < 0) {
            failed++;
            continue;
        }
        char path[120];
        snprintf(path, sizeof path, "%s/lease/%s", dir, lease_id(l));
        lost += access(path, F_OK) < 0;
        lease_free(l);
    }
    pthread_join(t, NULL);
    CHECK_INT(failed, 0);
    CHECK_INT(lost, 0);
    drop(s);
}

TEST(snapshots) {
    struct store *s = fresh();
    struct lease *l;
    char a[33], b[33];
    struct snap_info info = {.key = "k1", .size = 5}, got;
    struct stat st;
    const struct idmap *m = NULL;
    struct keeper *k;
    int fd;
    CHECK_INT(lease_new(s, "test", &l, &e), 0);
    CHECK_INT(snap_begin(s, l, a, &fd, &e), 0);
    CHECK_INT(store_keeper(s, &k, &e), 0);
    m = keeper_idmap(k);
    CHECK_INT(fstatat(fd, "fs", &st, 0), 0);
    CHECK_INT(st.st_uid, idmap_uid_out(m, 0));
    CHECK_INT(st.st_gid, idmap_gid_out(m, 0));
    CHECK_INT(st.st_mode & 07777, 0755);
    close(fd);
    CHECK_INT(snap_find(s, l, "k1", &got), 0);
    CHECK_INT(snap_commit(s, l, a, &info, &got, &e), 0);
    CHECK_STR(got.id, a);
    CHECK_INT(snap_begin(s, l, b, NULL, &e), 0);
    struct lease *other;
    struct prune_options all = {.all = true};
    struct prune_result gone = {0};
    CHECK_INT(lease_new(s, "other", &other, &e), 0);
    CHECK_INT(snap_commit(s, other, b, &info, &got, &e), 0);
    CHECK_STR(got.id, a); /* the first one stands */
    lease_free(TAKE(l));
    CHECK_INT(store_prune(s, &all, NULL, NULL, &gone, &e), 0);
    CHECK_INT(snap_get(s, a, &got), 1); /* who was given it holds it */
    lease_free(other);
    CHECK_INT(lease_new(s, "test", &l, &e), 0);
    CHECK(snap_open(s, b) < 0);
    CHECK_INT(snap_find(s, l, "k1", &got), 1);
    CHECK_INT(snap_set_diff_id(s, a, "sha256:x", 9, &e), 0);
    CHECK_INT(snap_get(s, a, &got), 1);
    CHECK_STR(got.diff_id, "sha256:x");
    CHECK_INT(got.size, 9);
    CHECK_INT(snap_get(s, "../../../../../../../../../etc/xx", &got), 0);
    fd = snap_open(s, a);
    CHECK(fd >= 0);
    fd_close(fd);
    lease_free(l);
    CHECK_INT(snap_get(s, a, &got), 1); /* published: outlives the lease */
    drop(s);
}

static const char *marked[4];
static int reach(struct store *s, void (*mark)(void *m, const char *what), void *m, void *arg) {
    for (size_t i = 0; i < 4 && marked[i]; i++)
        mark(m, marked[i]);
    return arg ? -EIO : 0;
}

static void new_snap(struct store *s, const char *key, char id[33]) {
    struct lease *l;
    struct snap_info info = {0};
    snprintf(info.key, sizeof info.key, "%s", key);
    CHECK_INT(lease_new(s, "t", &l, &e), 0);
    CHECK_INT(snap_begin(s, l, id, NULL, &e), 0);
    CHECK_INT(snap_commit(s, l, id, &info, NULL, &e), 0);
    lease_free(l);
}

TEST(prune) {
    struct store *s = fresh();
    char kept[DIGEST_LEN + 1], gone[DIGEST_LEN + 1], a[33], b[33], c[33];
    struct prune_result res;
    struct prune_options o = {0}, dry = {.dry_run = true};
    struct snap_info got;
    struct lease *l;
    new_snap(s, "ka", a);
    new_snap(s, "kb", b);
    new_snap(s, "kc", c);
    blob_put(s, SV("kept"), kept, &e);
    blob_put(s, SV("gone"), gone, &e);
    usleep(1100000); /* whole seconds of the blobs' times */
    CHECK_INT(lease_new(s, "t", &l, &e), 0);
    CHECK_INT(snap_find(s, l, "kc", &got), 1);
    marked[0] = kept;
    marked[1] = "ka";
    CHECK_INT(store_prune(s, &dry, reach, NULL, &res, &e), 0);
    CHECK_INT(res.blobs, 1);
    CHECK_INT(res.snaps, 1);
    CHECK(store_prune(s, &o, reach, s, &res, &e) < 0); /* unknown: nothing is removed */
    CHECK_INT(snap_get(s, b, &got), 1);
    CHECK_INT(store_prune(s, &o, reach, NULL, &res, &e), 0);
    CHECK_INT(res.blobs, 1);
    CHECK_INT(res.snaps, 1);
    CHECK(!blob_has(s, gone));
    CHECK(blob_has(s, kept));
    CHECK_INT(snap_get(s, a, &got), 1);
    CHECK_INT(snap_get(s, b, &got), 0);
    CHECK_INT(snap_get(s, c, &got), 1); /* leased */
    CHECK(snap_open(s, b) < 0);
    char young[DIGEST_LEN + 1];
    blob_put(s, SV("young"), young, &e); /* younger than the lease */
    CHECK_INT(store_prune(s, &o, reach, NULL, &res, &e), 0);
    CHECK(blob_has(s, young));
    lease_free(l);
    struct store_usage u;
    CHECK_INT(store_usage(s, &u, &e), 0);
    CHECK_INT(u.blobs, 2);
    CHECK_INT(u.snaps, 2);
    drop(s);
}

TEST(key_lock) {
    struct store *s = fresh();
    int p[2];
    char c = 0;
    CHECK_INT(pipe(p), 0);
    int fd = store_key_lock(s, "work");
    CHECK(fd >= 0);
    pid_t child = fork();
    if (child == 0) {
        close(fd); /* a forked descriptor would hold the parent's lock */
        struct store *mine = again();
        int k = store_key_lock(mine, "work");
        (void)!write(p[1], k >= 0 ? "y" : "n", 1);
        _exit(0);
    }
    usleep(50000);
    CHECK_INT(store_sweep(s, NULL, NULL, &e), 0); /* must not take a lock in use away */
    close(fd);
    CHECK_INT(fd_read_full(p[0], &c, 1), 1);
    CHECK_INT(c, 'y');
    proc_wait(child);
    close(p[0]);
    close(p[1]);
    drop(s);
}

/* kill -9 of a writer at any moment: what is there afterwards is whole. */
TEST(killed_writers) {
    struct store *s = fresh();
    for (int round = 0; round < 25; round++) {
        pid_t child = fork();
        if (child == 0) {
            struct store *mine = again();
            struct lease *l;
            lease_new(mine, "w", &l, &e);
            for (unsigned i = 0;; i++) {
                char text[64], d[DIGEST_LEN + 1], id[33];
                struct snap_info info = {0};
                snprintf(text, sizeof text, "%d %u", round, i);
                blob_put(mine, sv_from(text), d, &e);
                rec_put(mine, "b", d, sv_from("1"), &e);
                snprintf(info.key, sizeof info.key, "%s", d);
                if (snap_begin(mine, l, id, NULL, &e) == 0)
                    snap_commit(mine, l, id, &info, NULL, &e);
            }
        }
        usleep(2000 + (unsigned)round * 1500);
        kill(child, SIGKILL);
        proc_wait(child);
    }
    CHECK_INT(store_sweep(s, NULL, NULL, &e), 0);
    store_close(s);
    s = again();
    struct store_usage u;
    struct prune_result res;
    struct prune_options o = {.all = true};
    int n = 0;
    CHECK_INT(store_usage(s, &u, &e), 0);
    CHECK_INT(rec_each(s, "b", NULL, count_rec, &n), 0);
    CHECK(n > 0 && u.blobs >= (uint64_t)n && u.snaps <= u.blobs);
    /* Nothing lies there that no record names. */
    char cmd[400];
    struct buf out = BUF_SMALL;
    snprintf(cmd, sizeof cmd,
             "ls %s/snap | wc -l; ls %s/scratch %s/lease | grep -c [0-9a-f] || true", dir, dir,
             dir);
    CHECK_INT(proc_output(&out, &e, "sh", "-c", cmd, NULL), 0);
    char expect[64];
    snprintf(expect, sizeof expect, "%d\n2", (int)u.snaps);
    int left = -1, snaps = -1;
    CHECK_INT(sscanf(buf_str(&out), "%d\n%d", &snaps, &left), 2);
    CHECK_INT(snaps, (int)u.snaps);
    buf_done(&out);
    usleep(1100000);
    CHECK_INT(store_prune(s, &o, NULL, NULL, &res, &e), 0);
    CHECK_INT(res.snaps, u.snaps);
    drop(s);
}

/* A disk that runs full: an error, and what was there stays whole. Needs root for the mount. */
TEST(full_disk) {
    char mnt[] = "/tmp/test-store-full-XXXXXX", d[DIGEST_LEN + 1];
    if (geteuid() != 0 || !mkdtemp(mnt))
        return;
    if (mount("full", mnt, "tmpfs", 0, "size=3m") < 0) {
        rmdir(mnt);
        return;
    }
    struct store *s = NULL;
    char path[80];
    snprintf(path, sizeof path, "%s/s", mnt);
    struct store_options o = {.path = path};
    CHECK_INT(store_open(&s, &o, &e), 0);
    CHECK_INT(blob_put(s, SV("before"), d, &e), 0);
    struct blob_writer *w;
    static char chunk[65536];
    int r = 0;
    CHECK_INT(blob_begin(s, &w, &e), 0);
    for (int i = 0; i < 100 && r == 0; i++)
        r = blob_write(w, chunk, sizeof chunk);
    CHECK_INT(r, -ENOSPC);
    CHECK_INT(blob_commit(w, NULL, NULL, &e), -ENOSPC);
    CHECK_INT(e.kind, ERR_ENV);
    struct buf b = BUF_LARGE;
    for (int i = 0; i < 5 << 20; i++)
        buf_addc(&b, 'x');
    CHECK(rec_put(s, "x", "y", buf_sv(&b), &e) < 0);
    CHECK_INT(e.kind, ERR_ENV);
    buf_done(&b);
    CHECK(blob_has(s, d));
    CHECK_INT(rec_put(s, "x", "y", SV("1"), &e), 0);
    store_close(s);
    CHECK_INT(umount(mnt), 0);
    rmdir(mnt);
}
