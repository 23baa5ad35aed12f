/* The supervisor of a box (helper op "box"): a process in the store's user namespace with a mount
 * namespace of its own. It mounts the root, starts the box's init (start.h; or an OCI runtime does,
 * detached: the init becomes our child, as we are a subreaper), makes further mounts on request, and
 * when the init has ended removes the scratch layers, from inside the user namespace, where their
 * owners are mapped.
 *
 * argv: box SCRATCH SNAPS UPPER FLAGS RUNTIME WHERE LOWER…
 *   SCRATCH  absolute path of a folder that is ours; SNAPS of the store's snap folder
 *   UPPER    "snap:<id>", or "" for one in SCRATCH
 *   FLAGS    v volatile upper, n a network namespace is given, l none: make one with loopback only,
 *            m mounts are given
 *   RUNTIME  path of an OCI runtime, or "": we do it ourselves
 *   WHERE    with m: a folder of the host's on which a tmpfs hides what is there, for us alone
 * fds: 3 requests and news (proto.h), 4 the init's control socket, 5 config.json (without a runtime:
 * start_format), then with n the
 * network namespace, with m detached mounts of the store's snap and tree folders and of the lease's
 * scratch: as root the way to the store is closed to the namespace's root, which is nobody on the
 * host. They are attached as WHERE/snap, WHERE/tree and WHERE/scratch.
 *
 * Everything that is mounted or written lies under SCRATCH/run, a tmpfs of this mount namespace:
 * it goes with us, however we end. The life socket, whose other end only we hold, ends the init. */
#include "box/ops.h"
#include "box/impl.h"
#include "box/start.h"
#include "base/userns.h"
#include "core/fs.h"
#include "core/proc.h"

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef SLIPWAY_HELPER /* the helper program is the init too */
extern const char embed_box_init[], embed_box_init_end[];
#endif

struct super {
    const char *scratch, *snaps, *upper, *runtime, *where, *flags;
    char **lowers;
    int n_lowers;
    unsigned made; /* bits: which of points[] the runtime had to make in the root */
    int scratch_fd, run_fd, sock, life;
    unsigned n_overlays;
    pid_t init;
    int said; /* what the init's start has to say of its failure, or -1 */
};

/* The text goes to the main process and becomes its error. */
static int failed(struct super *s, int r, const char *fmt, ...) _printf_(3, 4);
static int failed(struct super *s, int r, const char *fmt, ...) {
    char text[500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    reply_send(s->sock, BOX_FAILED, 0, -r, text, -1);
    return r;
}

static int loopback_up(void) {
    struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
        return -errno;
    return 0;
}

static int write_run(struct super *s, const char *name, const void *p, size_t n, mode_t mode) {
    _cleanup_close_ int fd =
        openat(s->run_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    return fd_write_all(fd, p, n);
}

/* --- overlays ------------------------------------------------------------------------------- */

static int fs_flag(int fs, const char *key) {
    return syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, key, NULL, 0) < 0 ? -errno : 0;
}

static int fs_string(int fs, const char *key, const char *value) {
    return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

/* More layers than the option string of mount(2), a page, holds ("lowerdir+": kernel 6.7). */
static int overlay_many(const char *target, char *const *lowers, int n, const char *upper,
                        const char *work, bool vol) {
    _cleanup_close_ int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    int r = fs < 0 ? -errno : 0;
    for (int i = 0; i < n && r == 0; i++)
        r = fs_string(fs, "lowerdir+", lowers[i]);
    if (r == 0)
        r = fs_string(fs, "upperdir", upper);
    if (r == 0)
        r = fs_string(fs, "workdir", work);
    if (r == 0)
        r = fs_flag(fs, "userxattr");
    if (r == 0 && vol)
        r = fs_flag(fs, "volatile");
    if (r == 0 && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        r = -errno;
    if (r < 0)
        return r;
    _cleanup_close_ int m = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    if (m < 0 || syscall(SYS_move_mount, m, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return -errno;
    return 0;
}

/* The working folder is the store's snap folder, so that lowers are short relative names. */
static int overlay_mount(const char *target, char *const *lowers, int n, const char *upper,
                         const char *work, bool vol) {
    _cleanup_buf_ struct buf o = BUF_MAX(64u << 10);
    buf_adds(&o, "lowerdir=");
    for (int i = 0; i < n; i++)
        buf_addf(&o, "%s%s", i ? ":" : "", lowers[i]);
    buf_addf(&o, ",upperdir=%s,workdir=%s,userxattr%s", upper, work, vol ? ",volatile" : "");
    if (!buf_ok(&o))
        return -E2BIG;
    if (o.n >= 4000)
        return overlay_many(target, lowers, n, upper, work, vol);
    return mount("overlay", target, "overlay", 0, buf_str(&o)) < 0 ? -errno : 0;
}

static int dir_make(const char *path, mode_t mode) {
    return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

/* The top folder of an overlay is its upper's: with owner and mode of the layer below. */
static int same_root(const char *upper, const char *lower) {
    struct stat st;
    if (stat(lower, &st) < 0)
        return -errno;
    if (chown(upper, st.st_uid, st.st_gid) < 0 || chmod(upper, st.st_mode & 07777) < 0)
        return -errno;
    return 0;
}

/* Mounts an overlay with the upper "snap:<id>" or a scratch one called `name`. Where the disk
 * cannot hold an upper layer (an overlay itself, as in a development container), memory does. */
static int overlay(struct super *s, const char *target, char *const *lowers, int n,
                   const char *upper, const char *name, bool vol) {
    char up[4096], work[4096];
    const char *id = startswith(upper, "snap:");
    int r;
    if (id) {
        snprintf(up, sizeof up, "%s/fs", id);
        snprintf(work, sizeof work, "%s/work", id);
        return overlay_mount(target, lowers, n, up, work, vol);
    }
    for (int in_memory = 0; in_memory < 2; in_memory++) {
        char base[4000];
        snprintf(base, sizeof base, "%s/%s%s", s->scratch, in_memory ? "run/" : "", name);
        snprintf(up, sizeof up, "%s/fs", base);
        snprintf(work, sizeof work, "%s/work", base);
        r = dir_make(base, 0711);
        if (r == 0)
            r = dir_make(up, 0755);
        if (r == 0)
            r = dir_make(work, 0700);
        if (r == 0)
            r = same_root(up, lowers[0]);
        if (r == 0)
            r = overlay_mount(target, lowers, n, up, work, vol);
        if (r != -EINVAL && r != -EOPNOTSUPP)
            break;
    }
    return r;
}

/* --- the root ------------------------------------------------------------------------------- */

static int mount_sys(const char *at) {
    unsigned long f = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    /* A fresh one shows the network namespace we are in; where the host's own is hidden in part
     * (in a container) the kernel refuses, and the host's must do. */
    if (mount("sysfs", at, "sysfs", f, NULL) == 0)
        return 0;
    return mount("/sys", at, NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

/* What the runtime mounts on; an image without them shall not get them from us. */
static const char *const points[] = {"proc", "sys", "dev"};

static int network(struct super *s) {
    int r;
    if (strchr(s->flags, 'n')) {
        if (setns(6, CLONE_NEWNET) < 0)
            return failed(s, -errno, "join the network");
        close(6);
    } else if (strchr(s->flags, 'l')) {
        if (unshare(CLONE_NEWNET) < 0)
            return failed(s, -errno, "make a network namespace");
        r = loopback_up();
        if (r < 0)
            return failed(s, r, "bring up the loopback interface");
    }
    return 0;
}

static int store_attach(struct super *s) {
    static const char *const names[] = {"snap", "tree", "scratch"};
    int fd = strchr(s->flags, 'n') ? 7 : 6;
    char path[4096];
    if (!strchr(s->flags, 'm'))
        return 0;
    if (mount("tmpfs", s->where, "tmpfs", MS_NOSUID | MS_NODEV, "mode=711,size=1m") < 0)
        return failed(s, -errno, "mount a tmpfs on %s", s->where);
    for (size_t i = 0; i < ELEMENTS(names); i++, fd++) {
        snprintf(path, sizeof path, "%s/%s", s->where, names[i]);
        if (mkdir(path, 0711) < 0 ||
            syscall(SYS_move_mount, fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
            return failed(s, -errno, "attach the store's folder %s", names[i]);
        close(fd);
    }
    return 0;
}

static int prepare(struct super *s) {
    static const char *const dirs[] = {"root", "sys", "state", "bundle", "files", "o"};
    char path[4096];
    int r = network(s);
    if (r < 0)
        return r;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return failed(s, -errno, "make the mounts private");
    r = store_attach(s);
    if (r < 0)
        return r;
    s->scratch_fd = open(s->scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->scratch_fd < 0)
        return failed(s, -errno, "open %s", s->scratch);
    if (mkdirat(s->scratch_fd, "run", 0711) < 0 && errno != EEXIST)
        return failed(s, -errno, "make %s/run", s->scratch);
    snprintf(path, sizeof path, "%s/run", s->scratch);
    if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=711,size=64m") < 0)
        return failed(s, -errno, "mount a tmpfs");
    s->run_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->run_fd < 0)
        return failed(s, -errno, "open %s", path);
    for (size_t i = 0; i < ELEMENTS(dirs); i++)
        if (mkdirat(s->run_fd, dirs[i], 0711) < 0)
            return failed(s, -errno, "make %s/%s", path, dirs[i]);
    if (chdir(s->snaps) < 0)
        return failed(s, -errno, "enter %s", s->snaps);
    return 0;
}

static int mounts(struct super *s) {
    char path[4096];
    snprintf(path, sizeof path, "%s/run/sys", s->scratch);
    int r = mount_sys(path);
    if (r < 0)
        return failed(s, r, "mount /sys");
    snprintf(path, sizeof path, "%s/run/root", s->scratch);
    r = overlay(s, path, s->lowers, s->n_lowers, s->upper, "root", strchr(s->flags, 'v'));
    if (r < 0)
        return failed(s, r, "mount the root file system (overlay of %d layers)", s->n_lowers);
    _cleanup_close_ int root = openat(s->run_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; i < ELEMENTS(points); i++)
        if (faccessat(root, points[i], F_OK, AT_SYMLINK_NOFOLLOW) < 0)
            s->made |= 1u << i;
    return 0;
}

/* The init's program as a file. */
static int init_write(struct super *s) {
#ifdef SLIPWAY_HELPER
    _cleanup_buf_ struct buf b = BUF_MAX(64u << 20);
    int r = fs_read(AT_FDCWD, "/proc/self/exe", &b, NULL);
    if (r == 0)
        r = write_run(s, "init", b.p, b.n, 0755);
#else
    int r =
        write_run(s, "init", embed_box_init, (size_t)(embed_box_init_end - embed_box_init), 0755);
#endif
    return r < 0 ? failed(s, r, "write the box's init") : 0;
}

/* …and as a descriptor to execute. */
static int init_open(struct super *s) {
#ifdef SLIPWAY_HELPER
    int fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
#else
    int fd = init_write(s);
    if (fd == 0)
        fd = openat(s->run_fd, "init", O_PATH | O_CLOEXEC);
#endif
    return fd < 0 ? failed(s, -errno, "open the box's init") : fd;
}

/* --- the OCI runtime ------------------------------------------------------------------------ */

/* crun is started before the mounts are made, so that its own start (dynamic linking, 3 ms)
 * overlaps with them: it waits for its configuration, which comes through a pipe. */
static bool is_crun(const struct super *s) {
    return strstr(path_base(s->runtime), "crun") != NULL;
}

/* config_r: that pipe, or -1: the configuration is in the bundle. */
static int runtime_start(struct super *s, int errfd, int life_inner, int config_r, pid_t *ret) {
    char state[4096], dir[4096], pidfile[4096];
    const char *argv[24];
    size_t n = 0;
    snprintf(state, sizeof state, "%s/run/state", s->scratch);
    snprintf(dir, sizeof dir, "%s/run/bundle", s->scratch);
    snprintf(pidfile, sizeof pidfile, "%s/run/pid", s->scratch);
    argv[n++] = s->runtime;
    argv[n++] = "--root";
    argv[n++] = state;
    if (is_crun(s))
        argv[n++] = "--cgroup-manager=disabled";
    else
        argv[n++] = "--rootless=true";
    argv[n++] = "run";
    argv[n++] = "--detach";
    argv[n++] = "--bundle";
    argv[n++] = dir;
    if (config_r >= 0) {
        argv[n++] = "--config";
        argv[n++] = "/proc/self/fd/9";
    }
    argv[n++] = "--pid-file";
    argv[n++] = pidfile;
    argv[n++] = "--preserve-fds";
    argv[n++] = "2";
    argv[n++] = "box";
    argv[n] = NULL;
    const char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                         "LC_ALL=C", "XDG_RUNTIME_DIR=/nonexistent", NULL};
    struct proc_spec ps = {
        .argv = argv,
        .envp = env,
        .fds = {{2, errfd}, {BOX_FD_CONTROL, 4}, {BOX_FD_LIFE, life_inner}, {9, config_r}},
        .n_fds = config_r >= 0 ? 4 : 3};
    return proc_spawn(&ps, ret, NULL);
}

/* The last line that the runtime said. */
static int runtime_failed(struct super *s, int errfd, int status) {
    char text[2048];
    ssize_t k = pread(errfd, text, sizeof text - 1, 0);
    text[k > 0 ? k : 0] = 0;
    struct sv rest = sv_trim(sv_from(text)), line, last = SV("(it said nothing)");
    while (sv_line(&rest, &line))
        if (sv_trim(line).n)
            last = sv_trim(line);
    return failed(s, -EIO, "%s ended with %d: " SV_FMT, path_base(s->runtime), status,
                  SV_ARG(sv_sub(last, 0, 420)));
}

static int init_pid(struct super *s) {
    char text[32] = "";
    _cleanup_close_ int fd = openat(s->run_fd, "pid", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        return failed(s, -EIO, "the OCI runtime told no process id");
    s->init = atoi(text);
    reply_send(s->sock, BOX_PID, s->init, 0, NULL, -1);
    return 0;
}

static int start_runtime(struct super *s, struct buf *config, int errfd, int life_inner, pid_t *ret) {
    int p[2] = {-1, -1}, r = 0;
    if (is_crun(s)) {
        if (pipe2(p, O_CLOEXEC) < 0)
            return failed(s, -errno, "pipe");
        r = runtime_start(s, errfd, life_inner, p[0], ret);
        close(p[0]);
        if (r < 0)
            failed(s, r, "start %s", s->runtime);
    }
    if (r == 0)
        r = mounts(s);
    if (r == 0)
        r = init_write(s);
    if (r == 0 && p[1] >= 0) {
        r = fd_write_all(p[1], config->p, config->n);
        r = r == -EPIPE ? 0 : r; /* it has ended, and will say why */
        if (r < 0)
            failed(s, r, "give %s its configuration", s->runtime);
    } else if (r == 0) {
        r = write_run(s, "bundle/config.json", config->p, config->n, 0644);
        if (r == 0)
            r = runtime_start(s, errfd, life_inner, -1, ret);
        if (r < 0)
            failed(s, r, "start %s", s->runtime);
    }
    fd_close(p[1]); /* without a configuration crun ends */
    return r;
}

static int start_own(struct super *s, struct buf *config, int life_inner) {
    char root[4096], sys[4096];
    struct start_spec spec;
    const char *what = NULL;
    int said[2];
    int r = start_parse(config->p, config->n, &spec);
    if (r < 0)
        return failed(s, r, "read the box's configuration");
    if ((r = mounts(s)) < 0)
        return r;
    _cleanup_close_ int program = init_open(s);
    if (program < 0)
        return program;
    if (pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0)
        return failed(s, -errno, "pipe");
    snprintf(root, sizeof root, "%s/run/root", s->scratch);
    snprintf(sys, sizeof sys, "%s/run/sys", s->scratch);
    struct start_how how = {.root = root, .sys = sys, .control = 4, .life = life_inner, .said = said[1], .program = program};
    r = start_init(&spec, &how, &s->init, &what);
    close(said[1]);
    s->said = said[0];
    if (r < 0)
        return failed(s, r, "%s", what);
    close(4);
    reply_send(s->sock, BOX_PID, s->init, 0, NULL, -1);
    return 0;
}

static int start(struct super *s, int errfd, int life_inner, pid_t *ret) {
    _cleanup_buf_ struct buf config = BUF_MAX(60u << 10); /* what a pipe holds */
    int r = prepare(s);
    if (r == 0 && (r = fs_read_fd(5, &config)) < 0)
        r = failed(s, r, "read the box's configuration");
    close(5);
    if (r < 0)
        return r;
    return *s->runtime ? start_runtime(s, &config, errfd, life_inner, ret) : start_own(s, &config, life_inner);
}

/* --- requests ------------------------------------------------------------------------------- */

static int detached(const char *path, bool recursive) {
    int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path,
                          OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0u));
    return fd < 0 ? -errno : fd;
}

/* The same file by its path in our copy of the host's mounts: the descriptor itself belongs to a
 * mount namespace that we may not clone from. */
static int bind_of(struct request *q) {
    struct stat a, b;
    if (q->n_fds < 2 || fstat(q->fds[1], &a) < 0)
        return -EBADF;
    _cleanup_close_ int fd = open(q->str1, O_PATH | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &b) < 0)
        return -errno;
    if (a.st_dev != b.st_dev || a.st_ino != b.st_ino)
        return -ESTALE;
    int tree = (int)syscall(SYS_open_tree, fd, "",
                            AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    return tree < 0 ? -errno : tree;
}

static int overlay_of(struct super *s, struct request *q) {
    char at[4096], name[32];
    snprintf(name, sizeof name, "o%u", ++s->n_overlays);
    snprintf(at, sizeof at, "%s/run/o", s->scratch);
    int r = overlay(s, at, q->argv, (int)q->h.n_argv, q->str1, name, true);
    if (r < 0)
        return r;
    r = detached(at, false);
    umount2(at, MNT_DETACH);
    return r;
}

static int file_of(struct super *s, struct request *q) {
    char name[64], path[4096];
    if (!q->h.n_argv || strchr(q->str1, '/'))
        return -EINVAL;
    snprintf(name, sizeof name, "files/%s", q->str1);
    int r = write_run(s, name, q->argv[0], strlen(q->argv[0]), 0644);
    if (r < 0)
        return r;
    snprintf(path, sizeof path, "%s/run/%s", s->scratch, name);
    return detached(path, false);
}

static void request(struct super *s, struct request *q) {
    int fd = q->h.kind == SUP_BIND      ? bind_of(q)
             : q->h.kind == SUP_OVERLAY ? overlay_of(s, q)
             : q->h.kind == SUP_FILE    ? file_of(s, q)
                                        : -ENOSYS;
    if (fd < 0) {
        reply_done(q->fds[0], fd);
        return;
    }
    reply_send(q->fds[0], BOX_DONE, 0, 0, NULL, fd);
    close(fd);
}

/* --- the life of it ------------------------------------------------------------------------- */

/* In two halves: at BOX_DONE every process is gone and the layer is as it shall be, and the main
 * process goes on; unmounting and removing (milliseconds, up to seconds for a big layer) it does
 * not wait for. Should it end meanwhile, so do we, and whoever sweeps the lease removes the rest.
 */
static void clean_up(struct super *s) {
    char path[4096];
    fd_close(s->life);
    if (s->init > 0) {
        kill(s->init, SIGKILL);
        waitpid(s->init, NULL, 0);
    }
    int root = s->run_fd < 0 ? -1 : openat(s->run_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; i < ELEMENTS(points) && root >= 0; i++)
        if (s->made & 1u << i)
            unlinkat(root, points[i], AT_REMOVEDIR); /* only when it is empty */
    fd_close(root);
    s->run_fd = fd_close(s->run_fd);
    reply_send(s->sock, BOX_DONE, 0, 0, NULL, -1);
    if (chdir("/") < 0 || s->scratch_fd < 0)
        return;
    snprintf(path, sizeof path, "%s/run", s->scratch);
    umount2(path, MNT_DETACH);
    (void)fs_rmtree(s->scratch_fd, "root");
    for (unsigned i = 1; i <= s->n_overlays; i++) {
        snprintf(path, sizeof path, "o%u", i);
        (void)fs_rmtree(s->scratch_fd, path);
    }
    unlinkat(s->scratch_fd, "run", AT_REMOVEDIR);
    /* Empty now, unless something went wrong; then it is the lease's. */
    (void)rmdir(s->scratch);
}

/* The init has ended, perhaps before it was one. */
static void init_ended(struct super *s) {
    char text[200];
    int r = s->said < 0 ? 0 : start_failed(s->said, text);
    if (r > 0)
        failed(s, -r, "%s", text);
    s->init = -1; /* reaped: the number is somebody else's from now on */
}

/* Until the init has ended, or the main process wants no more. */
static void serve(struct super *s, int sig, pid_t runtime, int errfd) {
    bool over = false;
    while (!over) {
        struct pollfd p[2] = {{.fd = s->sock, .events = POLLIN}, {.fd = sig, .events = POLLIN}};
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return;
        if (p[1].revents) {
            struct signalfd_siginfo si;
            ssize_t k = read(sig, &si, sizeof si);
            (void)k;
            int status;
            for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
                if (pid == s->init) {
                    over = true;
                    init_ended(s);
                }
                if (pid != runtime)
                    continue;
                runtime = -1;
                close(4);
                int rc = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                if (rc ? runtime_failed(s, errfd, rc) < 0 : init_pid(s) < 0)
                    over = true;
                else if (waitpid(s->init, &status, WNOHANG) != 0) {
                    over = true; /* died at once, perhaps reaped before we knew its id */
                    s->init = -1;
                }
            }
        }
        if (p[0].revents) {
            struct request q;
            int r = request_read(s->sock, &q);
            if (r > 0)
                request(s, &q);
            request_done(&q);
            if (r == 0)
                return;
        }
    }
}

int op_box(int argc, char **argv) {
    struct super s = {.scratch_fd = -1, .run_fd = -1, .sock = 3, .life = -1, .said = -1};
    int life[2];
    pid_t runtime = -1;
    sigset_t chld;
    if (argc < 8)
        return 2;
    s.scratch = argv[1];
    s.snaps = argv[2];
    s.upper = argv[3];
    s.runtime = argv[5];
    s.flags = argv[4];
    s.where = argv[6];
    s.lowers = argv + 7;
    s.n_lowers = argc - 7;
    for (int fd = 3; fd <= 9; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "slipway-box");
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    int sig = signalfd(-1, &chld, SFD_CLOEXEC);
    _cleanup_close_ int errfd = memfd_create("runtime-errors", MFD_CLOEXEC);
    if (sig < 0 || errfd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life) < 0)
        return failed(&s, -errno, "prepare") < 0;
    s.life = life[0];
    signal(SIGPIPE, SIG_IGN);
    int r = start(&s, errfd, life[1], &runtime);
    close(life[1]);
    if (r == 0)
        serve(&s, sig, runtime, errfd);
    else if (runtime > 0)
        waitpid(runtime, NULL, 0);
    clean_up(&s);
    return 0;
}
