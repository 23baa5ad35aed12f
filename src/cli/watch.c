/* The files are those that git lists (tracked, and new ones that are not ignored), looked at a few
 * times a second: size and time of change of each. A change counts once nothing has changed for a
 * moment, so that a save of an editor or a switch of branches starts one run. */
#include "cli/watch.h"

#include "cli/term.h"
#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"
#include "core/proc.h"
#include "source/git.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LOOK_US 300000
#define YOUNG_NS 1000000000ull

static volatile sig_atomic_t stop;
static void on_signal(int signo) { stop = signo; }

struct state { uint64_t size, mtime, ino; bool seen; };

/* Appends what differs from `was` to changed, and makes `was` the present. */
static int look(const char *dir, struct map *was, struct strv *changed, struct err *e) {
    _cleanup_strv_ struct strv paths = {0};
    int r = git_ls_worktree(dir, false, &paths, e);
    for (size_t i = 0; i < paths.n && r >= 0; i++) {
        struct stat st;
        _cleanup_free_ char *full = path_join(dir, paths.v[i]);
        struct state now = {.seen = true}, *old = map_gets(was, paths.v[i]);
        if (lstat(full, &st) == 0)
            now = (struct state){(uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec * 1000000000ull + (uint64_t)st.st_mtim.tv_nsec, st.st_ino, true};
        bool same = old && old->size == now.size && old->mtime == now.mtime && old->ino == now.ino;
        if (!same && changed)
            strv_add(changed, paths.v[i]);
        if (!old) {
            old = xcalloc(1, sizeof *old);
            map_sets(was, paths.v[i], old);
        }
        *old = now;
    }
    MAP_FOREACH(was, en) {
        struct state *s = en->value;
        if (r >= 0 && !s->seen && (s->size || s->mtime || s->ino)) { /* gone */
            if (changed)
                strv_addn(changed, en->key, en->key_n);
            *s = (struct state){0};
        }
        s->seen = false;
    }
    return r;
}

static pid_t start(int argc, char **argv, const struct strv *changed, int list, struct err *e) {
    _cleanup_strv_ struct strv args = {0};
    pid_t pid;
    strv_add(&args, proc_self());
    strv_add(&args, "run");
    if (changed) {
        _cleanup_buf_ struct buf b = BUF_LARGE;
        for (size_t i = 0; i < changed->n; i++)
            buf_addf(&b, "%s\n", changed->v[i]);
        if (ftruncate(list, 0) < 0 || pwrite(list, buf_str(&b), b.n, 0) != (ssize_t)b.n)
            return (pid_t)err_errno(e, -errno, "list of changed files");
        strv_add(&args, "--changed-from=/proc/self/fd/9");
    }
    for (int i = 1; i < argc; i++)
        if (!streq(argv[i], "--watch"))
            strv_add(&args, argv[i]);
    struct proc_spec s = {.argv = (const char *const *)args.v, .inherit_stdio = true, .fds = {{9, list}}, .n_fds = changed != NULL};
    int r = proc_spawn(&s, &pid, e);
    return r < 0 ? r : pid;
}

/* Someone who does not want to wait for a run that is ending already ends it at once. */
static int end(pid_t pid, bool cancel) {
    int status, told = stop;
    if (cancel)
        kill(pid, SIGINT);
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
        if (stop && !told) {
            told = stop;
            kill(pid, SIGINT);
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int watch_loop(const char *dir, int argc, char **argv) {
    struct map was = {.free_value = free};
    struct err e = {0};
    struct sigaction sa = {.sa_handler = on_signal};
    FILE *tmp = tmpfile();
    int list = tmp ? fileno(tmp) : -1, code = 0, r;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    r = list < 0 ? err_errno(&e, -errno, "temporary file") : look(dir, &was, NULL, &e);
    pid_t pid = r < 0 ? r : start(argc, argv, NULL, list, &e);
    uint64_t since = now_mono();
    while (pid >= 0 && !stop) {
        _cleanup_strv_ struct strv changed = {0};
        int status;
        usleep(LOOK_US);
        if (pid > 0 && waitpid(pid, &status, WNOHANG) == pid) {
            code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            pid = 0;
            printf("watching %s (the last run ended with %d)\n", dir, code);
            fflush(stdout);
        }
        if (look(dir, &was, &changed, &e) < 0)
            break;
        if (!changed.n)
            continue;
        for (struct strv more = {0};; strv_done(&more)) { /* until it is quiet */
            usleep(LOOK_US);
            if (stop || look(dir, &was, &more, &e) < 0 || !more.n)
                break;
            strv_extend(&changed, (const char *const *)more.v);
        }
        if (stop)
            break;
        if (pid > 0)
            end(pid, true);
        pid = 0;
        if (stop)
            break;
        printf("changed: %s%s\n", changed.v[0], changed.n > 1 ? " and more" : "");
        fflush(stdout);
        pid = start(argc, argv, &changed, list, &e);
        since = now_mono();
    }
    /* A Ctrl-C reached the run too, and a second one would be "at once"; but a run that has just
     * begun may have come after it. */
    if (pid > 0)
        code = end(pid, stop != SIGINT || !isatty(0) || now_mono() - since < YOUNG_NS);
    map_done(&was);
    if (tmp)
        fclose(tmp);
    /* A signal to the whole group also ends the git that is looking: no failure of ours. */
    return stop ? 128 + SIGINT : e.kind != ERR_NONE ? cli_fail(&e) : code;
}
