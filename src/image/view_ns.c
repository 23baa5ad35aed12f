/* An image as one tree, read-only, for as long as a helper lives: its layers stacked by overlayfs in the
 * helper's own mount namespace, and then either written as a tar or shown to a command. */
#include "base/userns.h"
#include "core/fs.h"
#include "image/ns.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

static int fs_set(int fs, unsigned cmd, const char *key, const char *value) {
    return syscall(SYS_fsconfig, fs, cmd, key, value, 0) < 0 ? -errno : 0;
}

/* More layers than mount(2)'s page of options holds ("lowerdir+": kernel 6.7). */
static int stack_many(char **ids, size_t n, const char *at) {
    _cleanup_close_ int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    int r = fs < 0 ? -errno : 0;
    for (size_t i = 0; i < n && r == 0; i++) {
        char path[64];
        snprintf(path, sizeof path, "%.32s/fs", ids[i]);
        r = fs_set(fs, FSCONFIG_SET_STRING, "lowerdir+", path);
    }
    if (r == 0)
        r = fs_set(fs, FSCONFIG_SET_FLAG, "userxattr", NULL);
    if (r == 0)
        r = fs_set(fs, FSCONFIG_CMD_CREATE, NULL, NULL);
    if (r < 0)
        return r;
    _cleanup_close_ int m = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
    return m < 0 || syscall(SYS_move_mount, m, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

/* ids: top first; the current folder is the store's of snapshots. */
static int stack(char **ids, size_t n, const char *at, struct err *e) {
    _cleanup_buf_ struct buf opt = BUF_MAX(1u << 20);
    char path[64];
    int r;
    for (size_t i = 0; i < n; i++)
        if (strlen(ids[i]) != strspn(ids[i], "0123456789abcdef") || !*ids[i])
            return err_set(e, ERR_INTERNAL, -EINVAL, "not a layer: %.40s", ids[i]);
    if (n == 0) {
        r = mount("none", at, "tmpfs", MS_RDONLY, "size=4k") < 0 ? -errno : 0;
    } else if (n == 1) { /* overlayfs wants two */
        snprintf(path, sizeof path, "%.32s/fs", ids[0]);
        r = mount(path, at, NULL, MS_BIND, NULL) < 0 || mount(NULL, at, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0 ? -errno : 0;
    } else {
        buf_adds(&opt, "lowerdir=");
        for (size_t i = 0; i < n; i++)
            buf_addf(&opt, "%s%.32s/fs", i ? ":" : "", ids[i]);
        buf_adds(&opt, ",userxattr");
        r = opt.n >= 4000 ? stack_many(ids, n, at) : mount("overlay", at, "overlay", MS_RDONLY, buf_str(&opt)) < 0 ? -errno : 0;
    }
    return r < 0 ? err_errno(e, r, "cannot stack %zu layers", n) : 0;
}

/* A folder of the host's that may be hidden, for this process alone. */
static const char *place(void) {
    static const char *const some[] = {"/mnt", "/media", "/srv", "/opt"};
    struct stat st;
    for (size_t i = 0; i < ELEMENTS(some); i++)
        if (stat(some[i], &st) == 0 && S_ISDIR(st.st_mode))
            return some[i];
    return "/tmp";
}

int ns_image_view(int argc, char **argv) {
    struct err e = {0};
    const char *at = place();
    char **ids = argv + 2;
    int n = 0;
    if (argc < 2) {
        err_set(&e, ERR_INTERNAL, -EINVAL, "image-view: bad call");
        return ns_fail(&e);
    }
    while (ids[n] && !streq(ids[n], "--"))
        n++;
    bool given = streq(argv[1], "mount"); /* as root the way to the store is closed to us */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        err_errno(&e, -errno, "make the mounts private");
    else if (given && syscall(SYS_move_mount, 3, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        err_errno(&e, -errno, "attach the store's snapshots");
    else if (chdir(given ? at : argv[1]) < 0)
        err_errno(&e, -errno, "the store's snapshots");
    else
        (void)stack(ids, (size_t)n, at, &e);
    if (e.kind != ERR_NONE)
        return ns_fail(&e);
    if (!ids[n]) {
        int fd = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || dup2(fd, 3) < 0) {
            err_errno(&e, -errno, "open %s", at);
            return ns_fail(&e);
        }
        char *tar[] = {(char *)"layer-tar", (char *)"-1", NULL};
        return ns_layer_tar(2, tar);
    }
    close(3);
    if (chdir(at) < 0 || setenv("SLIPWAY_MOUNT", at, 1) < 0 || setenv("PWD", at, 1) < 0) {
        err_errno(&e, -errno, "%s", at);
        return ns_fail(&e);
    }
    execvp(ids[n + 1], ids + n + 1);
    fprintf(stderr, "error: %s: %s\n", ids[n + 1], strerror(errno));
    return 127;
}
