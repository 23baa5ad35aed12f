#include "test.h"

#include "base/userns.h"
#include "core/fs.h"
#include "ns_hook.h"

#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

static int op_ids(int argc, char **argv) {
    struct statfs sf;
    bool v2 = statfs("/sys/fs/cgroup", &sf) == 0 && sf.f_type == 0x63677270;
    printf("%d %d %s %d\n", (int)getuid(), (int)getgid(), argc > 1 ? argv[1] : "", v2);
    return 0;
}

static int op_fails(int argc, char **argv) {
    struct err e = {0};
    err_set(&e, ERR_LIMIT, -EFBIG, "layer too large");
    err_hint(&e, -EFBIG, "use less");
    return ns_fail(&e);
}

static int op_forges(int argc, char **argv) {
    struct err e = {0};
    err_set(&e, ERR_LIMIT, -EFBIG, "%s", "a name\n\0012\0011\001forged\001run this");
    return ns_fail(&e);
}

static int op_words(int argc, char **argv) {
    fprintf(stderr, "first\nthe last line\n");
    return 3;
}

static int op_file(int argc, char **argv) {
    int r = openat(3, "mine", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    return r < 0 || fchown(r, 33, 44) < 0 || mknodat(3, "gone", S_IFCHR, 0) < 0;
}

static int op_mount(int argc, char **argv) {
    if (mount("x", "/mnt", "tmpfs", 0, NULL) < 0)
        return 1;
    printf("mounted\n");
    return 0;
}

static int op_sleep(int argc, char **argv) {
    (void)!write(1, "up\n", 3);
    for (;;)
        pause();
    return 0;
}

static const struct ns_op ops[] = {
    {"ids", op_ids, false},   {"fails", op_fails, false}, {"words", op_words, false},
    {"forges", op_forges, false},
    {"file", op_file, false}, {"mount", op_mount, true},  {"sleep", op_sleep, false},
};
NS_HOOK(ops)

static const char *const argv_ids[] = {"ids", "hello", NULL};

static struct keeper *start(void) {
    struct idmap m;
    struct keeper *k = NULL;
    struct err e = {0};
    if (idmap_find(&m, true, &e) < 0 || keeper_new(&k, &m, &e) < 0)
        fprintf(stderr, "%s (%s)\n", e.msg, e.hint);
    CHECK(k);
    return k;
}

TEST(idmap) {
    struct idmap m;
    struct err e = {0};
    CHECK_INT(idmap_find(&m, true, &e), 0);
    CHECK(m.n_uid > 0 && m.n_gid > 0);
    if (m.single) {
        CHECK_INT(idmap_uid_out(&m, 0), geteuid());
        CHECK_INT(idmap_uid_out(&m, 1), UINT32_MAX);
        return;
    }
    for (uint32_t i = 0; i < ID_COUNT - 1; i += 7) {
        CHECK(idmap_uid_out(&m, i) != UINT32_MAX);
        if (m.root)
            CHECK(idmap_uid_out(&m, i) != 0);
    }
    CHECK_INT(idmap_uid_out(&m, ID_COUNT), UINT32_MAX);
    if (!m.root) {
        CHECK_INT(idmap_uid_out(&m, ID_RUNNER), geteuid());
        CHECK_INT(idmap_gid_out(&m, ID_RUNNER), getegid());
    }
}

TEST(run) {
    struct keeper *k = start();
    struct err e = {0};
    struct buf out = BUF_SMALL;
    if (!k)
        return;
    CHECK_INT(ns_run(k, argv_ids, NULL, 0, &out, &e), 0);
    CHECK(strncmp(buf_str(&out), "0 0 hello ", 10) == 0);
    static const char *const fails[] = {"fails", NULL}, *const words[] = {"words", NULL},
                             *const nosuch[] = {"nosuch", NULL};
    CHECK_INT(ns_run(k, fails, NULL, 0, NULL, &e), -EFBIG);
    CHECK_INT(e.kind, ERR_LIMIT);
    CHECK_STR(e.msg, "layer too large");
    CHECK_STR(e.hint, "use less");
    e = (struct err){0};
    static const char *const forges[] = {"forges", NULL};
    e = (struct err){0};
    CHECK_INT(ns_run(k, forges, NULL, 0, NULL, &e), -EFBIG);
    CHECK(e.kind == ERR_LIMIT && !e.hint[0]);
    CHECK_STR(e.msg, "a name??2?1?forged?run this");
    CHECK_INT(ns_run(k, words, NULL, 0, NULL, &e), -EIO);
    CHECK_STR(e.msg, "words: the last line");
    CHECK(ns_run(k, nosuch, NULL, 0, NULL, &e) < 0);
    buf_done(&out);
    keeper_free(k);
}

TEST(owners_and_whiteouts) {
    struct keeper *k = start();
    struct err e = {0};
    char dir[] = "/tmp/test-userns-XXXXXX";
    static const char *const argv[] = {"file", NULL};
    if (!k || keeper_idmap(k)->single || !mkdtemp(dir))
        return keeper_free(k);
    chmod(dir, 0777);
    int d = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(ns_run(k, argv, &d, 1, NULL, &e), 0);
    struct stat st;
    CHECK_INT(fstatat(d, "mine", &st, AT_SYMLINK_NOFOLLOW), 0);
    CHECK_INT(st.st_uid, idmap_uid_out(keeper_idmap(k), 33));
    CHECK_INT(st.st_gid, idmap_gid_out(keeper_idmap(k), 44));
    CHECK_INT(fstatat(d, "gone", &st, AT_SYMLINK_NOFOLLOW), 0);
    CHECK(S_ISCHR(st.st_mode) && st.st_rdev == 0);
    close(d);
    fs_rmtree(AT_FDCWD, dir);
    keeper_free(k);
}

TEST(own_mounts) {
    struct keeper *k = start();
    struct err e = {0};
    struct buf out = BUF_SMALL;
    static const char *const argv[] = {"mount", NULL};
    if (!k)
        return;
    for (int i = 0; i < 2; i++)
        CHECK_INT(ns_run(k, argv, NULL, 0, &out, &e), 0);
    CHECK_STR(buf_str(&out), "mounted\nmounted\n");
    buf_done(&out);
    keeper_free(k);
}

static bool gone(pid_t pid) {
    int pfd = (int)proc_pidfd(pid);
    struct pollfd p = {.fd = pfd, .events = POLLIN};
    bool ended = pfd < 0 || poll(&p, 1, 3000) > 0;
    if (pfd >= 0)
        close(pfd);
    return ended;
}

static pid_t start_sleeper(struct keeper *k) {
    int p[2];
    char c[3];
    pid_t pid = -1;
    struct err e = {0};
    static const char *const argv[] = {"sleep", NULL};
    CHECK_INT(pipe(p), 0);
    CHECK_INT(ns_spawn(k, argv, -1, p[1], -1, NULL, 0, &pid, &e), 0);
    close(p[1]);
    CHECK_INT(fd_read_full(p[0], c, 3), 3);
    close(p[0]);
    return pid;
}

TEST(helpers_die_with_the_keeper) {
    struct keeper *k = start();
    if (!k)
        return;
    pid_t pid = start_sleeper(k);
    keeper_free(k);
    CHECK(gone(pid));
    CHECK_INT(proc_wait(pid), 128 + SIGKILL);
}

TEST(helpers_die_with_the_process) {
    int p[2];
    pid_t helper = 0;
    CHECK_INT(pipe(p), 0);
    pid_t child = fork();
    if (child == 0) {
        struct keeper *k = start();
        pid_t pid = k ? start_sleeper(k) : 0;
        (void)!write(p[1], &pid, sizeof pid);
        for (;;)
            pause();
    }
    CHECK_INT(fd_read_full(p[0], &helper, sizeof helper), sizeof helper);
    CHECK(helper > 0);
    kill(child, SIGKILL);
    CHECK_INT(proc_wait(child), 128 + SIGKILL);
    if (helper > 0)
        CHECK(gone(helper));
    close(p[0]);
    close(p[1]);
}
