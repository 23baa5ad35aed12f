/* slipway login and logout: docker's config.json, so that docker, skopeo and slipway share it. */
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"

#include <termios.h>

/* A line from stdin; without echo when it is a terminal. */
static char *ask(const char *prompt, bool secret) {
    struct termios old, quiet;
    bool tty = isatty(0), hidden = false;
    if (tty) {
        fputs(prompt, stderr);
        if (secret && tcgetattr(0, &old) == 0) {
            quiet = old;
            quiet.c_lflag &= ~(tcflag_t)ECHO;
            hidden = tcsetattr(0, TCSAFLUSH, &quiet) == 0;
        }
    }
    char *line = NULL;
    size_t cap = 0;
    ssize_t n = getline(&line, &cap, stdin);
    if (hidden) {
        tcsetattr(0, TCSAFLUSH, &old);
        fputc('\n', stderr);
    }
    if (n <= 0) {
        free(line);
        return NULL;
    }
    line[strcspn(line, "\r\n")] = 0;
    return line;
}

static char *all_of_stdin(void) {
    struct buf b = BUF_SMALL;
    char block[4096];
    for (ssize_t n; (n = read(0, block, sizeof block)) > 0;)
        buf_add(&b, block, (size_t)n);
    explicit_bzero(block, sizeof block);
    while (b.n && (b.p[b.n - 1] == '\n' || b.p[b.n - 1] == '\r'))
        b.p[--b.n] = 0;
    return buf_take(&b);
}

/* "https://ghcr.io/" as people copy it. */
static char *registry_name(const char *arg) {
    if (!arg)
        return xstrdup("docker.io");
    const char *p = strstr(arg, "://");
    p = p ? p + 3 : arg;
    char *s = xstrndup(p, strcspn(p, "/"));
    if (streq(s, "index.docker.io") || streq(s, "registry-1.docker.io")) {
        free(s);
        return xstrdup("docker.io");
    }
    return s;
}

int cmd_login(int argc, char **argv);
int cmd_login(int argc, char **argv) {
    const char *user = NULL, *pass = NULL;
    bool from_stdin = false;
    const struct opt items[] = {
        {'u', "username", OPT_STR, &user, "NAME", "user name"},
        {'p', "password", OPT_STR, &pass, "TEXT", "password or token (better: --password-stdin)"},
        {0, "password-stdin", OPT_FLAG, &from_stdin, NULL, "read the password from standard input"},
    };
    struct opts o = {.usage = "login [options] [REGISTRY]",
                     .about = "Checks a user name and password with a registry (default: docker.io) and keeps them in docker's config.json.",
                     .items = items, .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    struct cli_ctx c;
    _cleanup_free_ char *registry = registry_name(n ? argv[1] : NULL), *asked_user = NULL, *asked_pass = NULL;
    if (from_stdin && (pass || !user)) {
        err_set(&e, ERR_USER, -EINVAL, "--password-stdin wants --username and no --password");
        return cli_fail(&e);
    }
    if (!user)
        user = asked_user = ask("Username: ", false);
    if (from_stdin)
        pass = asked_pass = all_of_stdin();
    else if (!pass)
        pass = asked_pass = ask("Password: ", true);
    r = cli_begin(&c, &(struct cli_ctx_options){.what = "login", .no_lease = true, .allow_single_id = true});
    if (r >= 0)
        return r;
    r = registry_login(NULL, registry, user, pass, true, &c.registry, &e);
    if (asked_pass)
        explicit_bzero(asked_pass, strlen(asked_pass));
    cli_close(&c);
    if (r < 0)
        return cli_fail(&e);
    printf("Login Succeeded\n");
    return 0;
}

int cmd_logout(int argc, char **argv);
int cmd_logout(int argc, char **argv) {
    struct opts o = {.usage = "logout [REGISTRY]", .about = "Forgets the credentials of a registry (default: docker.io)."};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_free_ char *registry = registry_name(n ? argv[1] : NULL);
    r = registry_logout(NULL, registry, &e);
    if (r == -ENOENT) {
        printf("Not logged in to %s\n", registry);
        return 0;
    }
    if (r < 0)
        return cli_fail(&e);
    printf("Removed the credentials of %s\n", registry);
    return 0;
}
