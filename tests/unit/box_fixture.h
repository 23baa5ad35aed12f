#pragma once
/* A store of the test's own with one layer: busybox and two users. */
#include "ns_hook.h"
#include "test.h"

#include "box/box.h"
#include "box/net.h"
#include "box/ops.h"
#include "core/fs.h"
#include "core/loop.h"
#include "core/proc.h"
#include "store/ns.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static const struct ns_op test_ops[] = {{"box", op_box, true},
                                        {"net", op_net, true},
                                        {"box-tar", op_box_tar, false},
                                        {"store-mkdir", ns_store_mkdir, false},
                                        {"store-rm", ns_store_rm, false}};
NS_HOOK(test_ops)

static struct store *store;
static struct lease *lease;
static char base_layer[33];
static const char *const base_layers[] = {base_layer};

static void fail_with(const struct err *e, const char *what) {
    fprintf(stderr, "%s: ", what);
    err_print(stderr, e, false);
    test_failures++;
}

/* Runs a command in a box; its output (both streams) in out. */
static int box_run(struct box *b, const char *user, const char *script, char *out, size_t n) {
    struct err e = {0};
    struct box_proc *p;
    int fd[2];
    out[0] = 0;
    if (pipe2(fd, O_CLOEXEC) < 0)
        return -1;
    struct box_exec x = {.argv = (const char *const[]){"sh", "-c", script, NULL},
                         .user = user,
                         .in = -1,
                         .out = fd[1],
                         .err = fd[1]};
    int r = box_exec(b, &x, &p, &e);
    close(fd[1]);
    if (r < 0) {
        fail_with(&e, script);
        close(fd[0]);
        return r;
    }
    ssize_t k = fd_read_full(fd[0], out, n - 1);
    out[k > 0 ? k : 0] = 0;
    close(fd[0]);
    r = box_proc_wait(p, NULL);
    box_proc_free(p);
    return r;
}

/* The layer is filled through a box itself, over an empty one. */
static bool make_layer(void) {
    static const char *const tools[] = {
        "sh",       "cat",    "ls",    "id",      "ps",   "sleep",    "echo",  "mount",
        "umount",   "stat",   "touch", "mkdir",   "rm",   "hostname", "env",   "tty",
        "head",     "wc",     "kill",  "unshare", "seq",  "grep",     "chmod", "chown",
        "mknod",    "setsid", "dd",    "yes",     "true", "ping",     "nc",    "ip",
        "nslookup", "wget",   "stty",  "trap",    "ln",   "tr",     "dmesg"};
    struct err e = {0};
    struct keeper *k;
    int dir = -1;
    char script[8192];
    if (store_keeper(store, &k, &e) < 0 || snap_begin(store, lease, base_layer, &dir, &e) < 0) {
        fail_with(&e, "layer");
        return false;
    }
    const struct idmap *m = keeper_idmap(k);
    char *path = xasprintf("%s/snap/%s", store_path(store), base_layer);
    size_t n =
        (size_t)snprintf(script, sizeof script,
                         "set -e; umask 022; cd %s/fill; mkdir -p bin etc tmp root home/runner; "
                         "cp /bin/busybox bin/; "
                         "printf 'root:x:0:0:root:/root:/bin/sh\\nrunner:x:1001:1001::"
                         "/home/runner:/bin/sh\\n' >etc/passwd; "
                         "printf 'root:x:0:\\nrunner:x:1001:\\ndocker:x:99:runner\\n' >etc/group; ",
                         store_path(store));
    for (size_t i = 0; i < ELEMENTS(tools); i++)
        n += (size_t)snprintf(script + n, sizeof script - n, "ln -sf busybox bin/%s; ", tools[i]);
    char *fill = xasprintf("%s/fill", store_path(store));
    fs_mkdirs(AT_FDCWD, fill, 0755);
    if (system(script) != 0)
        return false;
    /* Into the layer by the namespace's root. */
    if (m->root) {
        snprintf(script, sizeof script, "cp -a %s/. %s/fs/ && chown -R %u:%u %s/fs", fill, path,
                 idmap_uid_out(m, 0), idmap_gid_out(m, 0), path);
    } else {
        snprintf(script, sizeof script,
                 "cd %s && tar cf ../../fill.tar -C %s . && cd ../.. && rm -rf fill", path, fill);
    }
    bool ok = system(script) == 0;
    free(path);
    free(fill);
    close(dir);
    return ok;
}

/* A user's layer is unpacked by a box over itself (its bin/ is not there yet: box_put_tar needs
 * none). */
static bool fill_by_box(void) {
    struct err e = {0};
    struct box *b = NULL;
    char empty[33];
    if (snap_begin(store, lease, empty, NULL, &e) < 0)
        return false;
    const char *layers[] = {empty};
    struct box_spec spec = {.name = "fill", .layers = layers, .n_layers = 1};
    memcpy(spec.upper_snap, base_layer, sizeof base_layer);
    if (box_create(store, lease, &spec, &b, &e) < 0) {
        fail_with(&e, "box for filling");
        return false;
    }
    char *tar = xasprintf("%s/fill.tar", store_path(store));
    int fd = open(tar, O_RDONLY | O_CLOEXEC);
    bool ok = box_put_tar(b, "/", fd, &e) == 0;
    if (!ok)
        fail_with(&e, "put");
    close(fd);
    char out[10] = "";
    if (ok) /* the archive's owner is this user; what is the root's belongs to the root */
        ok = box_run(b, NULL,
                     "exec 2>&1; chown -R 0:0 /bin /etc /tmp /root /home; chmod 1777 /tmp; "
                     "chown 1001:1001 /home/runner",
                     out, sizeof out) == 0;
    box_destroy(b);
    free(tar);
    return ok;
}

static void test_done(void) {
    char *path = xstrdup(store_path(store));
    lease_free(lease);
    store_close(store);
    if (fs_rmtree(AT_FDCWD, path) < 0) {
        char *cmd = xasprintf("rm -rf %s 2>/dev/null", path);
        (void)!system(cmd);
        free(cmd);
    }
    free(path);
}

/* False when this host has no boxes for us (then nothing is checked, and it is said). */
static bool box_ready(void) {
    static int state; /* 1 yes, 2 no */
    struct err e = {0};
    if (state)
        return state == 1;
    state = 2;
    char dir[] = "/var/tmp/slipway-test-XXXXXX";
    if (!mkdtemp(dir))
        return false;
    struct store_options o = {.path = dir};
    struct keeper *k;
    if (access("/bin/busybox", X_OK) < 0 || store_open(&store, &o, &e) < 0 ||
        store_keeper(store, &k, &e) < 0 || lease_new(store, "test", &lease, &e) < 0) {
        fprintf(stderr, "# no boxes here: %s\n", e.msg[0] ? e.msg : "no static busybox");
        test_checks++;
        return false;
    }
    atexit(test_done);
    CHECK(make_layer() && (keeper_idmap(k)->root || fill_by_box()));
    state = test_failures ? 2 : 1;
    return state == 1;
}
