/* err, str, arena, map, fs, proc, loop. */
#include "core/arena.h"
#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"
#include "core/proc.h"
#include "test.h"

#include <sys/epoll.h>

TEST(errors_wrap_from_outer_to_inner) {
    struct err e = {0};
    CHECK_INT(err_errno(&e, -ENOENT, "open %s", "x"), -ENOENT);
    CHECK_INT(err_wrap(&e, -ENOENT, "pull %s", "y"), -ENOENT);
    CHECK_STR(e.msg, "pull y: open x: No such file or directory");
    CHECK_INT(e.kind, ERR_NOTFOUND);
    char big[3000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    err_set(&e, ERR_USER, -EINVAL, "%s", big);
    CHECK(endswith(e.msg, "..."));
    CHECK_INT(err_exit_code(ERR_ENV), 3);
}

TEST(paths) {
    struct { const char *in, *out; } t[] = {
        {"a//b/./../c", "a/c"}, {"/../x", "/x"}, {"../../x", "../../x"}, {"a/..", "."}, {"/", "/"}, {"", "."},
        {"a/../..", ".."}, {"a/../../b/..", ".."}, {"/a/b/../../..", "/"}, {"./", "."}, {"x/../y/../z", "z"}};
    for (size_t i = 0; i < ELEMENTS(t); i++) {
        char *c = path_clean(t[i].in);
        CHECK_STR(c, t[i].out);
        free(c);
    }
    char *d = path_dir("/a");
    CHECK_STR(d, "/");
    free(d);
}

TEST(buffers_have_a_maximum) {
    struct buf b = BUF_MAX(10);
    buf_adds(&b, "12345");
    buf_adds(&b, "678901");
    CHECK(!buf_ok(&b));
    CHECK_STR(b.p, "12345");
    buf_done(&b);
    struct buf c = BUF_SMALL;
    buf_add_base64(&c, "light work", 10);
    CHECK_STR(c.p, "bGlnaHQgd29yaw==");
    struct buf d = BUF_SMALL;
    CHECK_INT(base64_decode(buf_sv(&c), &d), 0);
    CHECK_STR(d.p, "light work");
    CHECK_INT(base64_decode(SV("a"), &d), -EINVAL);
    buf_done(&c);
    buf_done(&d);
    CHECK(utf8_valid(SV("é😀")) && !utf8_valid(SV("\xc0\x80")) && !utf8_valid(SV("\xed\xa0\x80")) && !utf8_valid(SV("\xe2\x82")));
}

TEST(maps_keep_order) {
    struct map m = {.nocase = true};
    char key[20];
    for (intptr_t i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "Key%d", (int)i);
        map_sets(&m, key, (void *)(i + 1));
    }
    CHECK_INT((intptr_t)map_gets(&m, "kEY999"), 1000);
    for (int i = 0; i < 1000; i += 2) {
        snprintf(key, sizeof key, "key%d", i);
        CHECK_INT((intptr_t)map_remove(&m, sv_from(key)), i + 1);
    }
    CHECK(!map_gets(&m, "key0") && m.live == 500);
    intptr_t last = 0;
    MAP_FOREACH(&m, en) {
        CHECK((intptr_t)en->value > last);
        last = (intptr_t)en->value;
    }
    map_done(&m);
}

TEST(files_stay_inside_the_root) {
    char dir[] = "/tmp/slipway-test-XXXXXX";
    CHECK(mkdtemp(dir));
    int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(symlinkat("/etc", root, "link") == 0);
    CHECK_INT(fs_open_in(root, "link/passwd", O_RDONLY, 0, 0), -ENOENT);
    CHECK_INT(fs_mkdirs_in(root, "a/b/../c", 0755), 0);
    CHECK(fs_exists(root, "a/c"));
    CHECK_INT(fs_write(root, "a/f", SV("text"), 0644, true, NULL), 0);
    _cleanup_close_ int fd = fs_open_in(root, "/../../a/f", O_RDONLY, 0, 0);
    CHECK(fd >= 0);
    const char *name;
    _cleanup_close_ int parent = fs_parent_in(root, "a/f", false, &name);
    CHECK(parent >= 0);
    CHECK_STR(name, "f");
    CHECK_INT(fs_parent_in(root, "a/..", false, &name), -EINVAL);
    struct buf tiny = BUF_MAX(3);
    CHECK_INT(fs_read(root, "a/f", &tiny, NULL), -EFBIG);
    buf_done(&tiny);
    /* deeper than any number of descriptors */
    int at = openat(root, ".", O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < 1500; i++) {
        mkdirat(at, "d", 0755);
        int next = openat(at, "d", O_RDONLY | O_DIRECTORY);
        close(at);
        at = next;
    }
    close(at);
    close(root);
    CHECK_INT(fs_rmtree(AT_FDCWD, dir), 0);
    CHECK(!fs_exists(AT_FDCWD, dir));
}

TEST(children) {
    struct buf out = BUF_SMALL, err = BUF_SMALL;
    const char *argv[] = {"sh", "-c", "cat; echo err >&2; exit 7", NULL};
    CHECK_INT(proc_run(&(struct proc_spec){.argv = argv}, SV("input"), &out, &err, 0, NULL), 7);
    CHECK_STR(out.p, "input");
    CHECK_STR(err.p, "err\n");
    const char *slow[] = {"sleep", "10", NULL};
    CHECK_INT(proc_run(&(struct proc_spec){.argv = slow}, SV_NULL, NULL, NULL, 50, NULL), -ETIMEDOUT);
    /* a daemon that keeps the pipe open does not keep us waiting */
    const char *bg[] = {"sh", "-c", "sleep 5 & echo done", NULL};
    buf_reset(&out);
    uint64_t t = now_mono();
    CHECK_INT(proc_run(&(struct proc_spec){.argv = bg}, SV_NULL, &out, NULL, 0, NULL), 0);
    CHECK_STR(out.p, "done\n");
    CHECK(now_mono() - t < 4000000000u);
    struct err e = {0};
    const char *none[] = {"no-such-program-here", NULL};
    pid_t pid;
    CHECK_INT(proc_spawn(&(struct proc_spec){.argv = none}, &pid, &e), -ENOENT);
    buf_done(&out);
    buf_done(&err);
}

static int order[8], n_order;
static void note(struct loop *l, void *arg) {
    order[n_order++] = (int)(intptr_t)arg;
    if (n_order == 3)
        loop_stop(l, 9);
}
static void work(void *arg) {
}
TEST(loop_timers_posts_and_work) {
    struct loop *l;
    CHECK_INT(loop_new(&l), 0);
    loop_timer(l, 30000000, 0, note, (void *)2);
    loop_timer(l, 10000000, 0, note, (void *)1);
    loop_work(l, work, note, (void *)0);
    CHECK_INT(loop_run(l), 9);
    CHECK(order[0] == 0 && order[1] == 1 && order[2] == 2);
    loop_free(l);
}
static void on_child(struct loop *l, pid_t pid, int status, void *arg) {
    loop_stop(l, status);
}
TEST(loop_reaps_children) {
    struct loop *l;
    loop_new(&l);
    const char *argv[] = {"sh", "-c", "exit 5", NULL};
    pid_t pid;
    CHECK_INT(proc_spawn(&(struct proc_spec){.argv = argv}, &pid, NULL), 0);
    loop_child(l, pid, on_child, NULL);
    CHECK_INT(loop_run(l), 5);
    loop_free(l);
}
