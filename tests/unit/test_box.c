/* Real boxes on this host, from a tiny root of busybox. */
#include "box_fixture.h"

static struct box *make(const struct box_spec *given) {
    struct err e = {0};
    struct box *b = NULL;
    struct box_spec spec = given ? *given : (struct box_spec){0};
    spec.name = "t";
    spec.layers = base_layers;
    spec.n_layers = 1;
    if (!spec.hostname)
        spec.hostname = "tiny";
    if (box_create(store, lease, &spec, &b, &e) < 0)
        fail_with(&e, "create");
    return b;
}

TEST(commands) {
    char out[4096];
    struct err e = {0};
    struct box *b;
    if (!box_ready() || !(b = make(NULL)))
        return;
    CHECK_INT(box_run(b, NULL, "echo hi; hostname", out, sizeof out), 0);
    CHECK_STR(out, "hi\ntiny\n");
    CHECK_INT(box_run(b, "runner", "id; echo $HOME; exit 7", out, sizeof out), 7);
    CHECK_STR(out, "uid=1001(runner) gid=1001(runner) groups=99(docker)\n/home/runner\n");
    CHECK_INT(box_run(b, "1001:99", "id", out, sizeof out), 0);
    CHECK_STR(out, "uid=1001(runner) gid=99(docker)\n");
    CHECK_INT(box_run(b, NULL, "kill -9 $$", out, sizeof out), 137);
    struct box_exec x = {.argv = (const char *const[]){"nosuch", NULL}, .in = -1, .out = -1, .err = -1};
    struct box_proc *p = NULL;
    CHECK_INT(box_exec(b, &x, &p, &e), 0);
    CHECK_INT(box_proc_wait(p, &e), 127);
    CHECK_STR(e.msg, "nosuch: command not found");
    box_proc_free(p);
    x.argv = (const char *const[]){"/etc/passwd", NULL};
    CHECK_INT(box_exec(b, &x, &p, &e), 0);
    CHECK_INT(box_proc_wait(p, &e), 126);
    box_proc_free(p);
    x.user = "nobodyhere";
    CHECK_INT(box_exec(b, &x, &p, &e), -ENOENT);
    x.user = NULL;
    x.cwd = "/not/there";
    CHECK_INT(box_exec(b, &x, &p, &e), -ENOENT);
    box_destroy(b);
}
