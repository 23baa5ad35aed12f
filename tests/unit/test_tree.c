#include "test.h"

#include "core/fs.h"
#include "core/loop.h"
#include "ns_hook.h"
#include "store/ns.h"
#include "store/store.h"

#include <sys/stat.h>

static const struct ns_op ops[] = {{"store-mkdir", ns_store_mkdir, false},
                                   {"store-rm", ns_store_rm, false}};
NS_HOOK(ops)

static char top[64];
static struct err e;
static struct store *s;
static struct lease *l;
static int src;
static struct tree_stats st;

static void begin(void) {
    char path[100];
    snprintf(top, sizeof top, "/tmp/test-tree-XXXXXX");
    if (!mkdtemp(top))
        abort();
    snprintf(path, sizeof path, "%s/store", top);
    struct store_options o = {.path = path, .allow_single_id = true};
    CHECK_INT(store_open(&s, &o, &e), 0);
    CHECK_INT(lease_new(s, "t", &l, &e), 0);
    snprintf(path, sizeof path, "%s/src", top);
    mkdir(path, 0755);
    src = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void end(void) {
    lease_free(l);
    store_close(s);
    close(src);
    for (int i = 0; i < 50 && fs_rmtree(AT_FDCWD, top) < 0; i++)
        usleep(20000); /* the thread of a sweep removes there too */
    CHECK(!fs_exists(AT_FDCWD, top));
}

static void put(const char *path, const char *text) {
    _cleanup_free_ char *d = path_dir(path);
    fs_mkdirs(src, d, 0755);
    CHECK_INT(fs_write(src, path, sv_from(text), 0644, false, &e), 0);
}

/* Waits until no file counts as changed just now. */
static void settle(void) {
    usleep(40000);
}

static void update(const struct tree_options *o, char id[33]) {
    if (tree_update(s, l, src, o, id, &st, &e) < 0) {
        fprintf(stderr, "update: %s\n", e.msg);
        CHECK(false);
    }
}

static void expect(const char *id, const char *path, const char *text) {
    struct buf b = BUF_SMALL;
    _cleanup_close_ int d = tree_open(s, id);
    CHECK(d >= 0);
    if (!text) {
        CHECK(!fs_exists(d, path));
        return;
    }
    if (fs_read(d, path, &b, &e) < 0)
        fprintf(stderr, "%s\n", e.msg);
    CHECK_STR(buf_str(&b), text);
    buf_done(&b);
}

static uint64_t inode(const char *id, const char *path) {
    struct stat x = {0};
    _cleanup_close_ int d = tree_open(s, id);
    CHECK_INT(fstatat(d, path, &x, AT_SYMLINK_NOFOLLOW), 0);
    return x.st_ino;
}

static void next_lease(void) {
    lease_free(l);
    CHECK_INT(lease_new(s, "t", &l, &e), 0);
}

static const struct tree_options plain = {.name = "x", .uid = ID_RUNNER, .gid = ID_RUNNER};

TEST(generations) {
    char a[33], b[33], c[33], d[33];
    begin();
    put("one", "1");
    put("sub/two", "2");
    put("sub/deep/three", "3");
    CHECK_INT(symlinkat("../one", src, "sub/link"), 0);
    CHECK_INT(mkfifoat(src, "pipe", 0600), 0);
    CHECK_INT(mkdirat(src, "empty", 0750), 0);
    settle();
    update(&plain, a);
    CHECK_INT(st.copied, 4);
    CHECK_INT(st.files, 4);
    CHECK_INT(st.skipped_special, 1);
    expect(a, "sub/link", "1");
    expect(a, "sub/deep/three", "3");
    update(&plain, b);
    CHECK_STR(b, a); /* nothing changed */
    CHECK_INT(st.copied, 0);
    put("sub/two", "two");
    settle();
    update(&plain, b); /* a is leased: a new generation */
    CHECK(strcmp(a, b) != 0);
    CHECK_INT(st.copied, 1);
    expect(a, "sub/two", "2");
    expect(b, "sub/two", "two");
    CHECK_INT(inode(a, "one"), inode(b, "one"));
    CHECK(inode(a, "sub/two") != inode(b, "sub/two"));
    next_lease();
    CHECK_INT(store_sweep(s, NULL, NULL, &e), 0);
    CHECK(tree_open(s, a) < 0); /* superseded, unused */
    put("new/file", "n");
    unlinkat(src, "one", 0);
    fs_rmtree(src, "sub/deep");
    put("sub/deep", "a file now");
    settle();
    uint64_t kept = inode(b, "sub/two");
    update(&plain, c); /* b is not leased: changed in place */
    CHECK(tree_open(s, b) < 0);
    CHECK_INT(st.copied, 2);
    CHECK_INT(inode(c, "sub/two"), kept);
    expect(c, "one", NULL);
    expect(c, "sub/deep", "a file now");
    expect(c, "new/file", "n");
    expect(c, "sub/two", "two");
    CHECK_INT(fchmodat(src, "empty", 0700, 0), 0);
    CHECK_INT(fchmodat(src, "new/file", 0755, 0), 0);
    update(&plain, d);
    struct stat x;
    _cleanup_close_ int fd = tree_open(s, d);
    CHECK_INT(fstatat(fd, "empty", &x, 0), 0);
    CHECK_INT(x.st_mode & 07777, 0700);
    CHECK_INT(fstatat(fd, "new/file", &x, 0), 0);
    CHECK_INT(x.st_mode & 07777, 0755);
    if (geteuid() == 0) {
        struct keeper *k;
        CHECK_INT(store_keeper(s, &k, &e), 0);
        if (!keeper_idmap(k)->single)
            CHECK_INT(x.st_uid, idmap_uid_out(keeper_idmap(k), ID_RUNNER));
    }
    end();
}

static int no_git(const char *rel, bool is_dir, void *arg) {
    return strcmp(rel, ".git") != 0;
}

TEST(filters_and_lists) {
    char a[33];
    static const char *const list[] = {"sub/two",        "one",         "gone",
                                       "sub/deep/three", "evil/passwd", "one"};
    static const char *const bad[] = {"../etc/passwd"}, *const bad2[] = {"/etc/passwd"};
    struct tree_options o = plain;
    begin();
    put("one", "1");
    put("other", "o");
    put("sub/two", "2");
    put("sub/deep/three", "3");
    put(".git/config", "c");
    CHECK_INT(symlinkat("/etc", src, "evil"), 0);
    o.wanted = no_git;
    o.name = "y";
    update(&o, a);
    expect(a, ".git", NULL);
    expect(a, "other", "o");
    o.name = "z";
    o.paths = list;
    o.n_paths = 6;
    update(&o, a);
    CHECK_INT(st.files, 3);
    expect(a, "sub/two", "2");
    expect(a, "sub/deep/three", "3");
    expect(a, "other", NULL);
    expect(a, "evil", NULL); /* never through a link */
    o.paths = bad;
    o.n_paths = 1;
    CHECK(tree_update(s, l, src, &o, a, &st, &e) < 0);
    o.paths = bad2;
    CHECK(tree_update(s, l, src, &o, a, &st, &e) < 0);
    end();
}

TEST(changed_just_now) {
    char a[33];
    begin();
    /* The same size and perhaps the same clock tick: never taken as unchanged. */
    for (int i = 0; i < 20; i++) {
        char text[8];
        snprintf(text, sizeof text, "%03d", i);
        int fd = openat(src, "f", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        CHECK_INT(write(fd, text, 3), 3);
        close(fd);
        update(&plain, a);
        expect(a, "f", text);
        if (i % 3 == 0)
            next_lease();
    }
    end();
}

TEST(digests) {
    char a[33], b[33], d1[DIGEST_LEN + 1], d2[DIGEST_LEN + 1], want[DIGEST_LEN + 1];
    begin();
    put("f", "content");
    put("g", "other");
    settle();
    update(&plain, a);
    digest_of("content", 7, want);
    CHECK_INT(tree_digest(s, a, "f", d1, &e), 0);
    CHECK_STR(d1, want);
    put("g", "changed");
    settle();
    next_lease();
    update(&plain, b);
    CHECK_INT(tree_digest(s, b, "f", d2, &e), 0);
    CHECK_STR(d2, want);
    digest_of("changed", 7, want);
    CHECK_INT(tree_digest(s, b, "g", d2, &e), 0);
    CHECK_STR(d2, want);
    CHECK_INT(tree_digest(s, b, "none", d2, &e), -ENOENT);
    CHECK_INT(tree_digest(s, b, "../index", d2, &e), -ENOENT);
    end();
}

TEST(kill_between) {
    char a[33];
    begin();
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "d%d/f%d", i % 10, i);
        put(name, name);
    }
    settle();
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        if (child == 0) {
            char path[100];
            struct store *mine;
            struct lease *m;
            snprintf(path, sizeof path, "%s/store", top);
            struct store_options o = {.path = path, .allow_single_id = true};
            store_open(&mine, &o, &e);
            lease_new(mine, "c", &m, &e);
            tree_update(mine, m, src, &plain, a, &st, &e);
            for (;;)
                pause();
        }
        usleep((unsigned)round * 700);
        kill(child, SIGKILL);
        proc_wait(child);
        char name[32];
        snprintf(name, sizeof name, "d%d/f%d", round % 10, round);
        put(name, "new");
        CHECK_INT(store_sweep(s, NULL, NULL, &e), 0);
    }
    settle();
    update(&plain, a);
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "d%d/f%d", i % 10, i);
        expect(a, name, i < 20 ? "new" : name);
    }
    end();
}
