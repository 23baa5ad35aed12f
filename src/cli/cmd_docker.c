/* `slipway docker …` outside a job, and the engine process behind it (`slipway __engine`).
 *
 * There is no daemon to install: the first command starts an engine for this user and store, and
 * it ends by itself when it keeps nothing (no container, volume or network) and nobody talks to it.
 * So a `docker run -d` lives on with its engine, and later commands find it at the same socket.
 * When the engine is killed everything of it goes, as with every other process of slipway.
 *
 * A command holds the engine's lock shared for as long as it runs (also over the exec into the
 * embedded client); the engine ends only when it can have the lock for itself. */
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/fs.h"
#include "core/loop.h"
#include "core/proc.h"
#include "docker/engine.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

extern const char embed_docker_client[], embed_docker_client_end[];

/* --- the engine process ---------------------------------------------------------------------- */

struct idler {
    struct engine *g;
    struct loop *l;
    const char *lock;
    unsigned quiet;
};

static void idle_check(struct loop *l, void *arg) {
    struct idler *i = arg;
    int fd;
    if (!engine_idle(i->g)) {
        i->quiet = 0;
        return;
    }
    if (++i->quiet < 5)
        return;
    fd = lock_file(AT_FDCWD, i->lock, true, false);
    if (fd < 0) {
        i->quiet = 0;
        return;
    }
    loop_stop(l, 0); /* the lock stays ours until the process has ended: nobody meets a dying engine */
}

static void on_signal(struct loop *l, int signo, void *arg) { loop_stop(l, 0); }

int cmd_engine(int argc, char **argv);
int cmd_engine(int argc, char **argv) {
    const char *socket = NULL, *lock = NULL;
    const struct opt items[] = {
        {0, "socket", OPT_STR, &socket, "PATH", "unix socket to listen on"},
        {0, "until-idle", OPT_STR, &lock, "LOCK", "end when nothing is kept and LOCK is free"},
    };
    const struct opts o = {"__engine --socket PATH", "Serves the Docker Engine API.", items, ELEMENTS(items), false};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct cli_ctx c = {0};
    struct err e = {0};
    if (!socket) {
        err_set(&e, ERR_USER, -EINVAL, "--socket is missing");
        return cli_fail(&e);
    }
    r = cli_begin(&c, &(struct cli_ctx_options){.what = "engine"});
    if (r >= 0)
        return r;
    struct loop *l = NULL;
    struct engine *g = NULL;
    if (loop_new(&l) < 0)
        abort();
    const struct engine_options eo = {
        .name = "slipway", .store = c.store, .lease = c.lease, .loop = l, .own_net = true, .keep_volumes = true, .pulls = &c.pulls,
        .env_passthrough = c.host_env.n ? (const char *const *)c.host_env.v : NULL, .ca_bundle = c.ca_bundle,
    };
    struct idler idler = {.l = l, .lock = lock};
    unlink(socket);
    r = engine_new(&g, &eo, &e);
    if (r >= 0)
        r = engine_listen(g, socket, &e);
    if (r >= 0) {
        idler.g = g;
        if (lock)
            loop_timer(l, 200000000, 200000000, idle_check, &idler);
        loop_signal(l, SIGTERM, on_signal, NULL);
        loop_signal(l, SIGINT, on_signal, NULL);
        printf("ready\n");
        fflush(stdout);
        loop_run(l);
    }
    engine_free(g);
    int code = r < 0 ? cli_fail(&e) : 0;
    loop_free(l);
    cli_close(&c);
    return code;
}

/* --- the command ----------------------------------------------------------------------------- */

/* A private folder for socket and lock: named after user and store, with a short path. */
static int runtime_dir(char *dir, size_t n, struct err *e) {
    const char *base = getenv("XDG_RUNTIME_DIR");
    _cleanup_free_ char *state = dir_state();
    uint64_t h = 1469598103934665603u; /* FNV-1a: only a name */
    struct stat st;
    for (const char *p = state; *p; p++)
        h = (h ^ (uint8_t)*p) * 1099511628211u;
    if (!base || base[0] != '/' || strlen(base) > 60)
        base = geteuid() == 0 ? "/run" : "/tmp";
    snprintf(dir, n, "%s/slipway-%u-%016llx", base, (unsigned)geteuid(), (unsigned long long)h);
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "mkdir %s", dir);
    if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
        return err_set(e, ERR_ENV, -EPERM, "%s is not a private folder of this user", dir);
    return 0;
}

static bool answers(const char *path) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
}

static int start_engine(const char *dir, const char *sock, const char *lock, struct err *e) {
    char log[200], line[64];
    int p[2];
    snprintf(log, sizeof(log), "%s/engine.log", dir);
    _cleanup_close_ int err = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (err < 0 || pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "start the engine");
    const char *argv[] = {proc_self(), "__engine", "--socket", sock, "--until-idle", lock, NULL};
    const struct proc_spec s = {.argv = argv, .cwd = "/", .fds = {{1, p[1]}, {2, err}}, .n_fds = 2, .new_session = true};
    pid_t pid;
    int r = proc_spawn(&s, &pid, e);
    close(p[1]);
    if (r >= 0) {
        ssize_t n = fd_read_full(p[0], line, 6);
        if (n < 6) {
            struct buf b = BUF_MAX(8192);
            (void)fs_read(AT_FDCWD, log, &b, NULL);
            struct sv t = sv_trim(buf_sv(&b));
            r = err_set(e, ERR_ENV, -EIO, "the engine did not start: " SV_FMT, (int)MIN(t.n, 600), t.n ? t.p : "");
            buf_done(&b);
        }
    }
    close(p[0]);
    return r;
}

static int exec_client(int argc, char **argv, const char *sock, struct err *e) {
    _cleanup_free_ char *host = xasprintf("unix://%s", sock);
    char **args = xcalloc((size_t)argc + 1, sizeof(*args));
    static char name[] = "docker";
    args[0] = name;
    for (int i = 1; i < argc; i++)
        args[i] = argv[i];
    setenv("DOCKER_HOST", host, 1);
    int fd = memfd_create("docker", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : fd_write_all(fd, embed_docker_client, (size_t)(embed_docker_client_end - embed_docker_client));
    if (r >= 0) {
        signal(SIGPIPE, SIG_DFL);
        fexecve(fd, args, environ);
        r = -errno;
    }
    fd_close(fd);
    free(args);
    return err_errno(e, r, "the docker client");
}

int cmd_docker(int argc, char **argv);
int cmd_docker(int argc, char **argv) {
    char dir[120], sock[140], lock[140], spawn[140];
    struct err e = {0};
    if (runtime_dir(dir, sizeof(dir), &e) < 0)
        return cli_fail(&e);
    snprintf(sock, sizeof(sock), "%.110s/docker.sock", dir);
    snprintf(lock, sizeof(lock), "%.110s/lock", dir);
    snprintf(spawn, sizeof(spawn), "%.110s/start", dir);
    int held = lock_file(AT_FDCWD, lock, false, true);
    if (held < 0) {
        err_errno(&e, held, "lock %s", lock);
        return cli_fail(&e);
    }
    int r = 0;
    if (!answers(sock)) {
        _cleanup_close_ int one = lock_file(AT_FDCWD, spawn, true, true);
        if (!answers(sock))
            r = start_engine(dir, sock, lock, &e);
    }
    if (r >= 0) {
        (void)fcntl(held, F_SETFD, 0); /* kept over the exec */
        r = exec_client(argc, argv, sock, &e);
    }
    return cli_fail(&e);
}
