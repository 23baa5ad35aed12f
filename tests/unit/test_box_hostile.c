/* What an image, a step or a caller must not get out of a box. */
#include "box_fixture.h"

#include <sys/stat.h>

static struct box *make(const struct box_spec *given, struct err *e) {
    struct box *b = NULL;
    struct box_spec spec = given ? *given : (struct box_spec){0};
    spec.name = "t";
    spec.layers = base_layers;
    spec.n_layers = 1;
    return box_create(store, lease, &spec, &b, e) < 0 ? NULL : b;
}

/* "--device" of anything but a device would bind the host's files. */
TEST(devices) {
    static const char *const wrong[] = {"/etc", "/dev", "/dev/../etc/passwd", "/dev/..", "/dev/shm",
                                        "/dev/pts", "etc", "/dev/nosuch"};
    if (!box_ready())
        return;
    for (size_t i = 0; i < ELEMENTS(wrong); i++) {
        struct err e = {0};
        struct box_device d = {wrong[i]};
        struct box_spec spec = {.devices = &d, .n_devices = 1};
        struct box *b = make(&spec, &e);
        CHECK(!b && e.kind == ERR_USER);
        box_destroy(b);
    }
}

/* What is typed on the host is nothing for a box, which may have the user's own id in it. */
TEST(no_terminals_of_the_host) {
    if (!box_ready())
        return;
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    struct box_device d[] = {{ptsname(master)}, {"/dev/tty"}, {"/dev/ptmx"}};
    for (size_t i = 0; i < ELEMENTS(d); i++) {
        struct err e = {0};
        struct box_spec spec = {.devices = &d[i], .n_devices = 1};
        struct box *b = make(&spec, &e);
        CHECK(!b && e.kind == ERR_USER);
        box_destroy(b);
    }
    close(master);
}

/* An image's /etc/resolv.conf and the like are often links to what is not there yet. */
TEST(targets_behind_links) {
    char out[4096];
    struct err e = {0};
    struct box *b;
    if (!box_ready() || !(b = make(NULL, &e)))
        return;
    CHECK_INT(box_run(b, NULL, "ln -s ../run/x/file /etc/one; ln -s /etc/one /etc/two; ln -s no/dir /mnt.d; "
                      "ln -s /../../../etc/escape /etc/up; ln -s loop /etc/loop; mkdir /real; ln -s real /to",
                      out, sizeof out), 0);
    int fd = open("/etc/hostname", O_PATH | O_CLOEXEC), dir = open("/usr", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0 && dir >= 0);
    struct box_mount m = {.kind = BOX_BIND, .target = "/etc/two", .source_fd = fd, .readonly = true};
    CHECK_INT(box_mount(b, &m, &e), 0);
    m.target = "/etc/up";
    CHECK_INT(box_mount(b, &m, &e), 0);
    if (e.msg[0])
        fail_with(&e, "mount");
    m.target = "/etc/loop";
    CHECK_INT(box_mount(b, &m, &e), -ELOOP);
    m = (struct box_mount){.kind = BOX_BIND, .target = "/mnt.d", .source_fd = dir, .readonly = true};
    CHECK_INT(box_mount(b, &m, &e), 0);
    m.target = "/to";
    CHECK_INT(box_mount(b, &m, &e), 0);
    CHECK_INT(box_run(b, NULL, "[ -s /run/x/file ] && [ -s /etc/escape ] && [ -d /no/dir/bin ] && "
                      "[ -L /etc/one ] && [ -d /real/bin ]", out, sizeof out), 0);
    CHECK(access("/etc/escape", F_OK) < 0);
    /* And away again, by the same name. */
    CHECK_INT(box_umount(b, "/to", &e), 0);
    CHECK_INT(box_run(b, NULL, "[ -d /real/bin ]", out, sizeof out), 1);
    close(fd);
    close(dir);
    box_destroy(b);
}

/* As root: the box's root in a bound tree is a subordinate id on disk, never the host's root. */
TEST(bound_tree_has_no_root) {
    char out[4096];
    struct err e = {0};
    struct stat st;
    struct box *b;
    if (!box_ready() || geteuid() != 0 || !(b = make(NULL, &e)))
        return;
    for (int i = 0; i < 2; i++) { /* owned by an ordinary user; by root */
        char *dir = xasprintf("%s/bound%d", store_path(store), i);
        CHECK_INT(mkdir(dir, 0755), 0);
        CHECK_INT(chown(dir, i ? 0 : 4321, i ? 0 : 4321), 0);
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK_INT(fs_append(fd, "root.txt", SV("x"), 0644), 0); /* root's own, in the user's tree */
        struct box_mount m = {.kind = BOX_BIND, .target = i ? "/b1" : "/b0", .source_fd = fd, .idmap = true};
        CHECK_INT(box_mount(b, &m, &e), 0);
        if (e.msg[0])
            fail_with(&e, "bind");
        snprintf(out, sizeof out, "cd /b%d", i);
        char *script = xasprintf("cd /b%d && cp /bin/busybox su && chmod 4755 su && stat -c '%%a %%u' su && "
                                 "cat root.txt", i);
        CHECK_INT(box_run(b, NULL, script, out, sizeof out), 0);
        CHECK_STR(out, "4755 0\nx");
        CHECK(fstatat(fd, "su", &st, 0) == 0 && st.st_uid != 0 && st.st_uid > 65535);
        CHECK_INT(box_run(b, NULL, i ? "cd /b1 && echo y >root.txt" : "cd /b0 && echo y 2>/dev/null >root.txt",
                          out, sizeof out), i ? 0 : 1);
        free(script);
        script = xasprintf("cd /b%d && echo mine >new && chown 33 /b%d/su && stat -c %%u new", i, i);
        (void)box_run(b, "runner", script, out, sizeof out);
        CHECK(fstatat(fd, "new", &st, 0) == 0 && st.st_uid == (i ? 0u : 4321u));
        free(script);
        free(dir);
        close(fd);
    }
    box_destroy(b);
}
