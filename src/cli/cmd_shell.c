/* slipway shell: into the box of a failed job that `slipway run --keep` has kept. */
#include "base/userns.h"
#include "cli/opts.h"
#include "cli/relay.h"
#include "cli/term.h"
#include "core/arena.h"
#include "core/fs.h"
#include "core/json.h"
#include "run/shell.h"
#include "source/git.h"

#include <dirent.h>
#include <sys/socket.h>
#include <sys/un.h>

struct found {
    unsigned long long id;
    struct json *list;
    struct arena arena;
};

static int reach(const char *dir, const char *run) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if ((size_t)snprintf(sa.sun_path, sizeof sa.sun_path, "%s/%s", dir, run) >= sizeof sa.sun_path)
        return -1;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
        if (errno == ECONNREFUSED)
            unlink(sa.sun_path); /* its process is gone */
        fd = fd_close(fd);
    }
    return fd;
}

static struct json *ask(struct arena *a, int sock, struct sv question) {
    _cleanup_buf_ struct buf b = BUF_MAX(64u << 10);
    struct json *j = NULL;
    int fds[3];
    size_t n;
    if (kept_send(sock, question, NULL, 0) < 0 || kept_receive(sock, &b, fds, &n) <= 0 || json_parse(a, buf_sv(&b), &j, NULL) < 0)
        return NULL;
    return j;
}

static bool has_job(const struct json *list, const char *job) {
    const struct json *jobs = json_get(list, "jobs");
    for (size_t i = 0; job && jobs && i < jobs->n; i++)
        if (streq(json_get_str(jobs->items[i], "name", ""), job) || streq(json_get_str(jobs->items[i], "id", ""), job))
            return true;
    return !job;
}

static void print_list(const struct json *list) {
    const struct json *jobs = json_get(list, "jobs");
    for (size_t i = 0; jobs && i < jobs->n; i++)
        printf("run %-8s %-30s %s  (%s)\n", json_get_str(list, "run", ""), json_get_str(jobs->items[i], "name", ""),
               json_get_str(jobs->items[i], "step", ""), json_get_str(list, "dir", ""));
}

/* The newest kept run that fits: of this repository before others. */
static unsigned find(const char *dir, const char *here, const char *run, const char *job, bool print, struct found *best) {
    DIR *d = opendir(dir);
    bool best_here = false;
    unsigned n = 0;
    for (struct dirent *de; d && (de = readdir(d));) {
        int sock = *de->d_name == '.' || (run && !streq(run, de->d_name)) ? -1 : reach(dir, de->d_name);
        if (sock < 0)
            continue;
        struct arena a = {0};
        struct json *list = ask(&a, sock, SV("{\"op\":\"list\"}"));
        fd_close(sock);
        unsigned long long id = strtoull(de->d_name, NULL, 10);
        bool is_here = here && streq(json_get_str(list, "dir", ""), here);
        n += list != NULL;
        if (list && print)
            print_list(list);
        if (!list || !has_job(list, job) || (best->list && (best_here > is_here || (best_here == is_here && best->id > id)))) {
            arena_done(&a);
            continue;
        }
        arena_done(&best->arena);
        *best = (struct found){id, list, a};
        best_here = is_here;
    }
    if (d)
        closedir(d);
    return n;
}

static int open_shell(int sock, const char *job, char **argv, int n) {
    _cleanup_buf_ struct buf b = BUF_MAX(64u << 10), got = BUF_MAX(64u << 10);
    _cleanup_arena_ struct arena a = {0};
    struct json_w w;
    struct json *reply;
    uint16_t rows, cols;
    bool tty = isatty(0) && isatty(1);
    int own[3] = {0, 1, 2}, fds[3] = {-1, -1, -1};
    size_t nf;
    relay_size(&rows, &cols);
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "op", "shell");
    if (job)
        jw_kstr(&w, "job", job);
    jw_kint(&w, "rows", rows);
    jw_kint(&w, "cols", cols);
    jw_key(&w, "argv");
    jw_arr(&w);
    for (int i = 0; i < n; i++)
        jw_str(&w, argv[i]);
    jw_end_arr(&w);
    jw_end_obj(&w);
    if (kept_send(sock, buf_sv(&b), own, tty ? 0 : 3) < 0 || kept_receive(sock, &got, fds, &nf) <= 0)
        return 1;
    if (nf) {
        relay_terminal(fds[0], sock);
        close(fds[0]);
        if (kept_receive(sock, &got, fds, &nf) <= 0)
            return 1;
    }
    if (json_parse(&a, buf_sv(&got), &reply, NULL) < 0)
        return 1;
    if (json_get_str(reply, "error", NULL))
        fprintf(stderr, "slipway: %s\n", json_get_str(reply, "error", ""));
    return (int)json_get_int(reply, "code", 1);
}

int cmd_shell(int argc, char **argv);
int cmd_shell(int argc, char **argv) {
    const char *run = NULL;
    bool list = false, end = false;
    const struct opt items[] = {
        {0, "run", OPT_STR, &run, "ID", "of this run (the newest of this repository)"},
        {0, "list", OPT_FLAG, &list, NULL, "list what is kept"},
        {0, "end", OPT_FLAG, &end, NULL, "end the kept jobs of the run"},
    };
    struct opts spec = {.usage = "shell [options] [JOB [COMMAND...]]", .items = items, .n = ELEMENTS(items), .stop_at_first = true,
                        .about = "A shell in the box of a failed job that `slipway run --keep` has kept, with the\n"
                                 "environment of the step that failed; or one command in it."};
    int n, r = opts_begin(&spec, argc, argv, &n);
    if (r >= 0)
        return r;
    struct git_info git = {0};
    struct found f = {0};
    struct err e = {0};
    _cleanup_free_ char *state = dir_state(), *dir = path_join(state, KEPT_DIR);
    const char *job = n && !streq(argv[1], "-") ? argv[1] : NULL;
    const char *here = git_info_read(".", &git, NULL) >= 0 ? git.worktree : NULL;
    unsigned all = find(dir, here, run, job, list, &f);
    int code = 0;
    if (!list && !f.list) {
        err_set(&e, ERR_USER, -ENOENT, all ? "no kept job is called %s" : "nothing is kept%.0s", job ? job : "that");
        err_hint(&e, -ENOENT, "slipway run --keep keeps the boxes of jobs that fail; slipway shell --list shows them");
        code = cli_fail(&e);
    } else if (!list) {
        char id[24];
        snprintf(id, sizeof id, "%llu", f.id);
        _cleanup_close_ int sock = reach(dir, id);
        if (end)
            code = sock >= 0 && ask(&f.arena, sock, SV("{\"op\":\"end\"}")) ? 0 : 1;
        else
            code = sock < 0 ? 1 : open_shell(sock, job, argv + 2, MAX(n - 1, 0));
    }
    arena_done(&f.arena);
    git_info_done(&git);
    return code;
}
