/* Real boxes on this host, from a tiny root of busybox. */
#include "box_fixture.h"

#include <dirent.h>

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
    struct box_exec x = {
        .argv = (const char *const[]){"nosuch", NULL}, .in = -1, .out = -1, .err = -1};
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

TEST(isolation) {
    char out[8192];
    struct box *b;
    if (!box_ready() || !(b = make(NULL)))
        return;
    /* As docker's default: no mounts, no devices, no new namespaces, no other process's memory. */
    CHECK(box_run(b, NULL, "mount -t tmpfs x /tmp", out, sizeof out) != 0);
    CHECK(box_run(b, NULL, "mknod /tmp/sda b 8 0 && head -c1 /tmp/sda", out, sizeof out) != 0);
    CHECK(box_run(b, NULL, "unshare -U true", out, sizeof out) != 0);
    CHECK(box_run(b, NULL, "cat /proc/1/environ /proc/1/maps", out, sizeof out) != 0);
    CHECK(box_run(b, NULL, "cat /proc/1/fd/3 || busybox readlink /proc/1/fd/3", out, sizeof out) !=
          0);
    CHECK(box_run(b, NULL, "echo 1 >/proc/sys/kernel/panic", out, sizeof out) != 0);
    CHECK(box_run(b, NULL, "echo b >/proc/sysrq-trigger", out, sizeof out) != 0);
    CHECK(box_run(b, NULL, "dmesg -s 64", out, sizeof out) != 0); /* the host's log */
    CHECK(strstr(out, "not permitted"));
    CHECK_INT(box_run(b, "runner",
                      "touch /etc/x 2>/dev/null && echo bad; "
                      "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status",
                      out, sizeof out),
              0);
    CHECK_STR(
        out, "CapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\n");
    /* Nothing of ours is inherited, and the init's program is gone. */
    CHECK_INT(box_run(b, NULL, "ls /dev/.slipway-init 2>/dev/null; exec ls /proc/self/fd", out,
                      sizeof out),
              0);
    CHECK_STR(out, "0\n1\n2\n3\n"); /* 3 is the folder that ls reads */
    box_destroy(b);
}

TEST(files) {
    char out[8192];
    struct err e = {0};
    _cleanup_buf_ struct buf text = BUF_SMALL;
    struct box *b;
    if (!box_ready() || !(b = make(NULL)))
        return;
    CHECK_INT(box_write_file(b, "/work/a/b.txt", SV("hello\n"), 0640, 1001, 99, &e), 0);
    CHECK_INT(box_run(b, NULL,
                      "stat -c '%a %u %g' /work/a/b.txt; stat -c '%u' /work/a; cat /work/a/b.txt",
                      out, sizeof out),
              0);
    CHECK_STR(out, "640 1001 99\n1001\nhello\n");
    CHECK_INT(box_read_file(b, "/work/a/b.txt", &text, &e), 0);
    CHECK_STR(buf_str(&text), "hello\n");
    /* A link leads to where it leads inside; a fifo does not hang; what is not there is said. */
    CHECK_INT(box_run(b, NULL,
                      "ln -s /etc/passwd /work/l; ln -s ../../../../../etc/shadow /work/m; "
                      "mkfifo /work/f 2>/dev/null || busybox mkfifo /work/f",
                      out, sizeof out),
              0);
    buf_reset(&text);
    CHECK_INT(box_read_file(b, "/work/l", &text, &e), 0);
    CHECK(sv_starts(buf_sv(&text), "root:x:0:0:root:/root:/bin/sh\n"));
    CHECK_INT(box_read_file(b, "/work/m", &text, &e), -ENOENT);
    CHECK_INT(box_open(b, "/work/f", O_WRONLY, 0, &e), -ENXIO); /* nobody reads yet */
    CHECK_INT(box_read_file(b, "/work/f", &text, &e), -EINVAL);
    int fifo = box_open(b, "/work/f", O_RDONLY, 0, &e);
    CHECK(fifo >= 0);
    fd_close(fifo);
    CHECK_INT(box_mkdirs(b, "/deep/er/still", 0700, 1001, 1001, &e), 0);
    CHECK_INT(
        box_run(b, "runner", "cd /deep/er/still && touch x && stat -c '%a %U' .", out, sizeof out),
        0);
    CHECK_STR(out, "700 runner\n");
    box_destroy(b);
}

TEST(tar) {
    char out[8192];
    struct err e = {0};
    struct box *b;
    if (!box_ready() || !(b = make(NULL)))
        return;
    CHECK_INT(box_run(b, NULL,
                      "mkdir -p /src/d && cd /src && echo one >d/1 && ln -s d/1 link && "
                      "chmod 751 d && chown 1001:99 d/1",
                      out, sizeof out),
              0);
    int fd = memfd_create("t", MFD_CLOEXEC);
    CHECK_INT(box_get_tar(b, "/src", fd, &e), 0);
    CHECK(lseek(fd, 0, SEEK_CUR) > 1024);
    lseek(fd, 0, SEEK_SET);
    CHECK_INT(box_mkdirs(b, "/dst", 0755, 0, 0, &e), 0);
    CHECK_INT(box_put_tar(b, "/dst", fd, &e), 0);
    if (e.msg[0])
        fail_with(&e, "tar");
    CHECK_INT(box_run(b, NULL, "cd /dst/src && stat -c '%a' d && stat -c '%u %g' d/1 && cat link",
                      out, sizeof out),
              0);
    CHECK_STR(out, "751\n1001 99\none\n");
    CHECK(box_get_tar(b, "/nope", fd, &e) < 0);
    CHECK_INT(e.kind, ERR_NOTFOUND);
    close(fd);
    box_destroy(b);
}

TEST(mounts) {
    char out[8192];
    struct err e = {0};
    struct box *b, *c;
    if (!box_ready() || !(b = make(NULL)))
        return;
    char *dir = xasprintf("%s/bind", store_path(store));
    fs_mkdirs(AT_FDCWD, dir, 0755);
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(fs_append(fd, "host.txt", SV("from the host\n"), 0644), 0);
    /* A folder of the host, its owner shown as runner. */
    struct box_mount m = {.kind = BOX_BIND, .target = "/mnt/h", .source_fd = fd, .idmap = true};
    CHECK_INT(box_mount(b, &m, &e), 0);
    if (e.msg[0])
        fail_with(&e, "bind");
    CHECK_INT(box_run(b, "runner",
                      "cat /mnt/h/host.txt && echo back >/mnt/h/new && stat -c %u /mnt/h/new", out,
                      sizeof out),
              0);
    CHECK_STR(out, "from the host\n1001\n");
    struct stat st;
    CHECK(fstatat(fd, "new", &st, 0) == 0 && st.st_uid == getuid());
    m = (struct box_mount){
        .kind = BOX_BIND, .target = "/mnt/ro", .source_fd = fd, .readonly = true};
    CHECK_INT(box_mount(b, &m, &e), 0);
    CHECK(box_run(b, NULL, "touch /mnt/ro/x", out, sizeof out) != 0);
    /* A tmpfs. */
    m = (struct box_mount){.kind = BOX_TMPFS,
                           .target = "/scratch",
                           .size = 1 << 20,
                           .mode = 0700,
                           .uid = 1001,
                           .gid = 1001};
    CHECK_INT(box_mount(b, &m, &e), 0);
    CHECK_INT(
        box_run(b, "runner", "echo x >/scratch/y && stat -c '%a %u' /scratch", out, sizeof out), 0);
    CHECK_STR(out, "700 1001\n");
    CHECK(box_run(b, "runner", "dd if=/dev/zero of=/scratch/z bs=1M count=2 2>/dev/null", out,
                  sizeof out) != 0);
    /* An overlay over a layer. */
    char id[40];
    snprintf(id, sizeof id, "snap:%s", base_layer);
    const char *lowers[] = {id};
    m = (struct box_mount){
        .kind = BOX_OVERLAY, .target = "/work/tree", .lowers = lowers, .n_lowers = 1};
    CHECK_INT(box_mount(b, &m, &e), 0);
    CHECK_INT(
        box_run(
            b, NULL,
            "echo changed >/work/tree/etc/passwd; cat /work/tree/etc/passwd; head -n1 /etc/passwd",
            out, sizeof out),
        0);
    CHECK_STR(out, "changed\nroot:x:0:0:root:/root:/bin/sh\n");
    /* From one box into another, and into the pid namespace of a command that runs. */
    c = make(NULL);
    int tree = box_open_tree(b, "/work/tree/etc", &e);
    CHECK(tree >= 0);
    m = (struct box_mount){.kind = BOX_BIND, .target = "/from/b", .source_fd = tree};
    struct box_exec x = {.argv =
                             (const char *const[]){"sh", "-c",
                                                   "while ! [ -e /from/b/passwd ]; do sleep 0.01; "
                                                   "done; cat /from/b/passwd >/res; echo $$ >>/res",
                                                   NULL},
                         .in = -1,
                         .out = -1,
                         .err = -1,
                         .new_pidns = true};
    struct box_proc *p = NULL;
    CHECK_INT(box_exec(c, &x, &p, &e), 0);
    CHECK_INT(box_mount(c, &m, &e), 0);
    if (e.msg[0])
        fail_with(&e, "mount of a box's folder");
    CHECK_INT(box_proc_wait(p, &e), 0);
    box_proc_free(p);
    CHECK_INT(box_run(c, NULL, "cat /res", out, sizeof out), 0);
    CHECK_STR(out, "changed\n1\n");
    CHECK_INT(box_umount(b, "/scratch", &e), 0);
    CHECK(box_run(b, "runner", "cat /scratch/y", out, sizeof out) != 0);
    close(tree);
    close(fd);
    free(dir);
    box_destroy(b);
    box_destroy(c);
}

/* A build step's layer holds what the step did, and nothing of ours. */
TEST(layer) {
    char out[8192], id[33];
    struct err e = {0};
    struct box *b;
    if (!box_ready())
        return;
    char *dir = xasprintf("%s/bind2", store_path(store));
    fs_mkdirs(AT_FDCWD, dir, 0755);
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(snap_begin(store, lease, id, NULL, &e), 0);
    struct box_mount m = {.kind = BOX_BIND, .target = "/a/new/place", .source_fd = fd};
    struct box_spec spec = {.mounts = &m, .n_mounts = 1, .volatile_upper = true};
    memcpy(spec.upper_snap, id, sizeof id);
    if (!(b = make(&spec)))
        return;
    CHECK_INT(
        box_run(b, NULL, "echo made >/made; sleep 100 >/dev/null 2>&1 & echo", out, sizeof out), 0);
    box_destroy(b);
    close(fd);
    struct box_spec look = {0};
    struct box_mount over = {.kind = BOX_OVERLAY, .target = "/layer", .n_lowers = 1};
    char low[40];
    snprintf(low, sizeof low, "snap:%s", id);
    const char *lowers[] = {low};
    over.lowers = lowers;
    look.mounts = &over;
    look.n_mounts = 1;
    if (!(b = make(&look)))
        return;
    CHECK_INT(box_run(b, NULL, "cd /layer; busybox find . | busybox sort | tr '\\n' ' '", out,
                      sizeof out),
              0);
    CHECK_STR(out, ". ./etc ./made ");
    box_destroy(b);
    free(dir);
}

TEST(terminal) {
    char out[8192];
    struct err e = {0};
    struct box *b;
    struct box_proc *p = NULL;
    if (!box_ready() || !(b = make(NULL)))
        return;
    struct box_exec x = {
        .argv =
            (const char *const[]){
                "sh", "-c", "tty; stty size; read a; stty size; echo got $a; echo $TERM; exit 3",
                NULL},
        .user = "runner",
        .tty = true,
        .rows = 30,
        .cols = 100,
        .in = -1,
        .out = -1,
        .err = -1};
    CHECK_INT(box_exec(b, &x, &p, &e), 0);
    if (p) {
        int fd = box_proc_tty_fd(p);
        CHECK(fd >= 0);
        usleep(100000);
        CHECK_INT(box_proc_resize(p, 40, 120), 0);
        CHECK(write(fd, "typed\n", 6) == 6);
        size_t n = 0;
        for (ssize_t k; n < sizeof out - 1 && (k = read(fd, out + n, sizeof out - 1 - n)) > 0;)
            n += (size_t)k;
        out[n] = 0;
        CHECK_STR(out, "/dev/pts/0\r\n30 100\r\ntyped\r\n40 120\r\ngot typed\r\nxterm\r\n");
        CHECK_INT(box_proc_wait(p, &e), 3);
        box_proc_free(p);
    }
    box_destroy(b);
}

/* --- ends ----------------------------------------------------------------------------------- */

/* Processes on this host with `mark` in their command line. */
static int marked(const char *mark) {
    char cmd[128];
    int n = -1;
    snprintf(cmd, sizeof cmd, "grep -la %s /proc/[0-9]*/cmdline 2>/dev/null | wc -l", mark);
    FILE *f = popen(cmd, "r");
    if (f && fscanf(f, "%d", &n) != 1)
        n = -1;
    if (f)
        pclose(f);
    return n;
}

static bool gone_within(const char *mark, int ms) {
    for (; ms > 0; ms -= 20) {
        if (marked(mark) <= 2) /* the shell and grep that look */
            return true;
        usleep(20000);
    }
    return false;
}

static int start_stubborn(struct box *b, const char *mark) {
    char script[512], out[64];
    snprintf(
        script, sizeof script,
        "trap '' TERM INT HUP; (trap '' TERM; setsid sh -c 'while :; do sleep 0.1; done; : %s') "
        ">/dev/null 2>&1 & sh -c 'trap \"\" TERM; while :; do sleep 0.1; done; : %s' >/dev/null "
        "2>&1 & echo up",
        mark, mark);
    return box_run(b, "runner", script, out, sizeof out);
}

TEST(signals) {
    struct err e = {0};
    struct box *b;
    struct box_proc *p = NULL;
    if (!box_ready() || !(b = make(NULL)))
        return;
    struct box_exec x = {
        .argv = (const char *const[]){"sh", "-c", "sh -c 'sleep 1000' & setsid sleep 1000 & wait",
                                      NULL},
        .in = -1,
        .out = -1,
        .err = -1};
    CHECK_INT(box_exec(b, &x, &p, &e), 0);
    usleep(100000);
    CHECK_INT(box_proc_try(p), -EAGAIN);
    CHECK_INT(box_proc_signal(p, SIGKILL, true), 0);
    CHECK_INT(box_proc_wait(p, &e), 137);
    char out[4096];
    int left = 1; /* the killed ones take a moment */
    for (int i = 0; i < 50 && left; i++)
        left = box_run(b, NULL, "ps | grep '[s]leep 1000'", out, sizeof out) == 0;
    CHECK_INT(left, 0);
    box_proc_free(p);
    CHECK_INT(box_exec(b, &x, &p, &e), 0);
    CHECK_INT(box_kill_all(b, SIGKILL), 0);
    CHECK_INT(box_proc_wait(p, &e), 137);
    box_proc_free(p);
    struct box_stats s = {0};
    CHECK_INT(box_stats(b, &s), 0);
    box_destroy(b);
}

TEST(destroy_ends_all) {
    struct box *b;
    struct err e = {0};
    struct box_proc *p = NULL;
    char mark[40];
    if (!box_ready() || !(b = make(NULL)))
        return;
    snprintf(mark, sizeof mark, "mark-a-%d", (int)getpid());
    CHECK_INT(start_stubborn(b, mark), 0);
    struct box_exec x = {
        .argv = (const char *const[]){"sleep", "1000", NULL}, .in = -1, .out = -1, .err = -1};
    CHECK_INT(box_exec(b, &x, &p, &e), 0);
    CHECK(marked(mark) > 2);
    box_destroy(b);
    CHECK(gone_within(mark, 1000));
    CHECK_INT(box_proc_wait(p, &e), -EPIPE); /* unknown, not a success */
    box_proc_free(p);
}

TEST(supervisor_killed) {
    struct box *b;
    struct err e = {0};
    char mark[40];
    if (!box_ready() || !(b = make(NULL)))
        return;
    snprintf(mark, sizeof mark, "mark-b-%d", (int)getpid());
    CHECK_INT(start_stubborn(b, mark), 0);
    CHECK(marked(mark) > 2);
    kill(box_supervisor_pid(b), SIGKILL);
    CHECK(gone_within(mark, 1000));
    struct box_exec x = {
        .argv = (const char *const[]){"true", NULL}, .in = -1, .out = -1, .err = -1};
    struct box_proc *p = NULL;
    CHECK(box_exec(b, &x, &p, &e) < 0);
    box_destroy(b);
}

/* Runs, and is not only waiting to be reaped. */
static bool alive(int pid) {
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t k = read(fd, text, sizeof text - 1);
    close(fd);
    const char *p = k > 0 ? strrchr(text, ')') : NULL;
    return p && p[1] && p[2] != 'Z' && p[2] != 'X';
}

TEST(main_killed) {
    char mark[40], kids[512] = "";
    int fd[2], kid[16];
    size_t n_kids = 0;
    if (!box_ready() || pipe(fd) < 0)
        return;
    snprintf(mark, sizeof mark, "mark-c-%d", (int)getpid());
    pid_t pid = fork(); /* a second main process, with a box and a network of its own */
    if (pid == 0) {
        struct err e = {0};
        struct store *s = NULL;
        struct lease *l = NULL;
        struct box_net *n = NULL;
        struct box *b = NULL;
        struct store_options o = {.path = store_path(store)};
        if (store_open(&s, &o, &e) < 0 || lease_new(s, "second", &l, &e) < 0 ||
            net_new(s, l, NULL, &n, &e) < 0)
            n = NULL;
        struct box_spec spec = {.name = "t", .layers = base_layers, .n_layers = 1, .net = n};
        if (!s || !l || box_create(s, l, &spec, &b, &e) < 0 || start_stubborn(b, mark) != 0)
            _exit(1);
        (void)!write(fd[1], "x", 1);
        pause();
        _exit(0);
    }
    close(fd[1]);
    char c;
    CHECK(read(fd[0], &c, 1) == 1);
    CHECK(marked(mark) > 2);
    char *path = xasprintf("/proc/%d/task/%d/children", (int)pid, (int)pid);
    int cfd = open(path, O_RDONLY | O_CLOEXEC);
    if (cfd >= 0 && read(cfd, kids, sizeof kids - 1) > 0)
        for (char *p = kids, *end;
             n_kids < ELEMENTS(kid) && (kid[n_kids] = (int)strtol(p, &end, 10)) > 0; p = end)
            n_kids++;
    fd_close(cfd);
    free(path);
    CHECK(n_kids >= 2); /* supervisor and network, as root slirp4netns too */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    CHECK(gone_within(mark, 1000));
    for (size_t i = 0; i < n_kids; i++) {
        for (int t = 0; t < 50 && alive(kid[i]); t++)
            usleep(20000);
        CHECK(!alive(kid[i]));
    }
    close(fd[0]);
    /* What it left on the disk goes with the next sweep. */
    struct err e = {0};
    char *scratch = xasprintf("%s/scratch", store_path(store));
    CHECK_INT(store_sweep(store, NULL, NULL, &e), 0);
    unsigned n = 0;
    DIR *d = opendir(scratch);
    for (struct dirent *de; d && (de = readdir(d));)
        n += de->d_name[0] != '.' && !streq(de->d_name, lease_id(lease));
    CHECK_INT(n, 0);
    closedir(d);
    free(scratch);
}

TEST(limits) {
    char out[8192];
    struct err e = {0};
    struct box *b;
    if (!box_ready())
        return;
    struct box_spec spec = {.limits = {.pids = 50}};
    if (!(b = make(&spec)))
        return;
    /* A fork bomb hits the limit and goes with the box. */
    CHECK_INT(
        box_run(b, "runner",
                "i=0; while [ $i -lt 200 ]; do sleep 100 >/dev/null 2>&1 & i=$((i+1)); done; true",
                out, sizeof out) == 0,
        0);
    CHECK_INT(box_run(b, NULL, "ps | grep -c '[s]leep 100'", out, sizeof out), 0);
    CHECK(atoi(out) > 10 && atoi(out) <= 50);
    box_destroy(b);
    spec.limits = (struct box_limits){.memory = 64 << 20};
    if (!(b = make(&spec)))
        return;
    struct box_stats s = {0};
    CHECK_INT(box_stats(b, &s), 0);
    if (getuid() == 0 && s.memory_limit)
        CHECK_INT(box_run(b, NULL,
                          "head -c 200000000 /dev/zero | busybox tail -c 150000000 >/dev/null", out,
                          sizeof out) != 0,
                  1);
    box_destroy(b);
    (void)e;
}

TEST(readonly_and_privileged) {
    char out[8192];
    struct box *b;
    if (!box_ready())
        return;
    struct box_mount m = {.kind = BOX_TMPFS, .target = "/var/run/x"};
    struct box_spec spec = {.readonly_root = true, .mounts = &m, .n_mounts = 1};
    if ((b = make(&spec))) {
        CHECK(box_run(b, NULL, "touch /x", out, sizeof out) != 0);
        CHECK_INT(box_run(b, NULL, "touch /var/run/x/y /dev/shm/z", out, sizeof out), 0);
        box_destroy(b);
    }
    spec = (struct box_spec){.privileged = true};
    if ((b = make(&spec))) {
        CHECK_INT(box_run(b, NULL, "mount -t tmpfs x /tmp && unshare -m true", out, sizeof out), 0);
        box_destroy(b);
    }
}
