#include "cli/context.h"

#include "base/hostenv.h"
#include "cli/term.h"
#include "core/fs.h"
#include "core/proc.h"

#include <poll.h>

/* The tool that makes stand-ins: beside an uninstalled binary, else in the shared folder. */
static char *standin_tool(void) {
    char *p = share_path("standin/standin-images");
    if (p)
        return p;
    return share_path("../tools/standin-images");
}

/* What the tool says, line by line, to where progress is shown; without one, to stderr. */
static void tell(const struct image_progress *p, const char *ref, char *line) {
    while (*line == ' ')
        line++;
    if (!*line)
        return;
    if (p && p->fn)
        p->fn(p->arg, ref, line, 0, 0);
    else
        fprintf(stderr, "%s\n", line);
}

static void tell_line(const struct image_progress *p, const char *ref, struct buf *line, struct buf *ret_last) {
    tell(p, ref, (char *)buf_str(line));
    if (line->n) {
        buf_reset(ret_last);
        buf_addsv(ret_last, buf_sv(line));
    }
    buf_reset(line);
}

/* Where a cancel can be told, the tool and what it starts are a session of their own, ended with it. */
static int run_standin(const char *const *argv, const char *ref, const struct image_progress *p, const volatile int *cancel, struct buf *ret_last, struct err *e) {
    int fds[2];
    pid_t pid;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    _cleanup_close_ int in = fds[0];
    struct proc_spec s = {.argv = argv, .n_fds = 1, .fds = {{2, fds[1]}}, .new_session = cancel != NULL};
    int r = proc_spawn(&s, &pid, e);
    close(fds[1]);
    if (r < 0)
        return r;
    _cleanup_buf_ struct buf line = BUF_MAX(4096);
    for (;;) {
        char chunk[512];
        struct pollfd pf = {in, POLLIN, 0};
        if (cancel && *cancel) {
            kill(-pid, SIGKILL);
            proc_wait(pid);
            return err_set(e, ERR_CANCELLED, -ECANCELED, "cancelled");
        }
        if (poll(&pf, 1, cancel ? 200 : -1) <= 0)
            continue;
        ssize_t n = read(in, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            if (chunk[i] == '\n')
                tell_line(p, ref, &line, ret_last);
            else if (line.n < 511)
                buf_add(&line, chunk + i, 1);
    }
    if (line.n)
        tell_line(p, ref, &line, ret_last);
    return proc_wait(pid);
}

static int make_standin(void *arg, const char *ref, const struct image_progress *p, const volatile int *cancel, char **ret_layout, struct err *e) {
    _cleanup_free_ char *tool = standin_tool();
    if (!tool)
        return 0;
    _cleanup_free_ char *cache = dir_cache(), *layout = path_join(cache, "standins");
    const char *argv[] = {tool, "make", "--nearest", "--out", layout, ref, NULL};
    _cleanup_buf_ struct buf last = BUF_SMALL;
    char say[300];
    snprintf(say, sizeof say, "no registry answered for %.150s: making a stand-in from Debian's packages", ref);
    tell(p, ref, say);
    int r = run_standin(argv, ref, p, cancel, &last, e);
    if (r == 3)
        return 0; /* not a family it knows */
    if (r > 0)
        return err_set(e, ERR_FAILED, -ECHILD, "stand-in for %s: %s failed with %d: %s", ref, tool, r, buf_str(&last));
    if (r < 0)
        return err_wrap(e, r, "stand-in for %s", ref);
    *ret_layout = TAKE(layout);
    return 1;
}

static void split_pair(char *item, const char **ret_a, const char **ret_b) {
    char *eq = strchr(item, '=');
    if (eq)
        *eq = 0;
    *ret_a = item;
    *ret_b = eq ? eq + 1 : "";
}

static void fill_registry(struct cli_ctx *c) {
    struct registry_conf *g = &c->registry;
    for (size_t i = 0; i < c->conf.mirrors.n && g->n_mirrors < ELEMENTS(g->mirrors); i++) {
        split_pair(c->conf.mirrors.v[i], &g->mirrors[g->n_mirrors].registry, &g->mirrors[g->n_mirrors].mirror);
        g->n_mirrors++;
    }
    for (size_t i = 0; i < c->conf.insecure.n && g->n_insecure < ELEMENTS(g->insecure); i++)
        g->insecure[g->n_insecure++] = c->conf.insecure.v[i];
    g->offline = c->conf.offline;
    c->pulls.conf = g;
    const char *p = c->conf.pull;
    c->pulls.policy = !p || streq(p, "missing") ? PULL_MISSING : streq(p, "always") ? PULL_ALWAYS : PULL_NEVER;
    if (!c->conf.standins_never)
        c->pulls.standin = make_standin;
}

int cli_open(struct cli_ctx *c, const struct cli_ctx_options *o, struct diags *d, struct err *e) {
    *c = (struct cli_ctx){.repo_dir = o->repo_dir};
    int r = config_load(&c->conf, o->repo_dir, d);
    if (r < 0)
        return r;
    fill_registry(c);
    if (!c->conf.no_host_env) {
        c->ca_bundle = host_ca_bundle();
        host_env(&c->host_env, c->ca_bundle ? BOX_CA_BUNDLE : NULL, NULL);
    }
    r = store_open(&c->store, &(struct store_options){.allow_single_id = o->allow_single_id}, e);
    if (r < 0)
        return r;
    if (o->no_lease)
        return 0;
    if ((r = store_sweep(c->store, NULL, NULL, e)) < 0)
        return r;
    return lease_new(c->store, o->what, &c->lease, e);
}

int cli_begin(struct cli_ctx *c, const struct cli_ctx_options *o) {
    struct diags d = {0};
    struct err e = {0};
    int r = cli_open(c, o, &d, &e);
    cli_diags(&d, NULL, 0);
    diags_done(&d);
    if (r < 0) {
        int code = r == -EBADMSG && e.kind == ERR_NONE ? 2 : cli_fail(&e);
        cli_close(c);
        return code;
    }
    return -1;
}

void cli_close(struct cli_ctx *c) {
    lease_free(c->lease);
    store_close(c->store);
    strv_done(&c->host_env);
    free(c->ca_bundle);
    config_done(&c->conf);
    *c = (struct cli_ctx){0};
}
