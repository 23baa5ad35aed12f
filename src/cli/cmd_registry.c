/* slipway registry: serves what was captured (and takes pushes), lists it. */
#include "base/httpd.h"
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/fs.h"
#include "image/registry.h"

#include <signal.h>

static void on_signal(struct loop *l, int signo, void *arg) { loop_stop(l, 0); }

/* "127.0.0.1:5000", ":5000", "5000", "[::1]:5000" */
static int split_addr(const char *text, char *host, size_t n, uint16_t *port, struct err *e) {
    const char *colon = strrchr(text, ':');
    struct sv h = colon ? sv_n(text, (size_t)(colon - text)) : SV("127.0.0.1");
    uint64_t v;
    if (h.n > 2 && h.p[0] == '[' && h.p[h.n - 1] == ']')
        h = sv_sub(h, 1, h.n - 2);
    if (h.n >= n || sv_u64(sv_from(colon ? colon + 1 : text), 65535, &v) < 0)
        return err_set(e, ERR_USER, -EINVAL, "--addr wants HOST:PORT, not \"%s\"", text);
    memcpy(host, h.p, h.n);
    host[h.n] = 0;
    *port = (uint16_t)v;
    return 0;
}

struct serve {
    const char *addr, *socket, *cert, *key;
    struct registry_options o;
};

static int listen_on(const struct serve *o, struct err *e) {
    char host[256];
    uint16_t port;
    if (o->socket)
        return listen_unix(o->socket, 0600, e);
    int r = split_addr(o->addr, host, sizeof host, &port, e);
    if (r < 0)
        return r;
    int fd = listen_tcp(host, port, &port, e);
    if (fd >= 0) {
        bool six = strchr(host, ':') != NULL;
        fprintf(stderr, "slipway registry on %s://%s%s%s:%u%s\n", o->cert ? "https" : "http", six ? "[" : "", host[0] ? host : "0.0.0.0",
                six ? "]" : "", port, o->o.mirror_of ? " (a mirror)" : o->o.read_only ? " (read-only)" : "");
        fflush(stderr);
    }
    return fd;
}

static int serve(const struct serve *o, struct err *e) {
    struct cli_ctx c;
    struct loop *l = NULL;
    struct registry *reg = NULL;
    struct httpd *h = NULL;
    int r = cli_begin(&c, &(struct cli_ctx_options){.what = "registry", .allow_single_id = true, .no_lease = true});
    if (r >= 0)
        return -r - 1000; /* printed already */
    struct registry_options ro = o->o;
    ro.conf = &c.registry;
    r = loop_new(&l);
    if (r < 0)
        err_errno(e, r, "event loop");
    if (r == 0)
        r = registry_new(&reg, c.store, l, &ro, e);
    int fd = r == 0 ? listen_on(o, e) : -1;
    if (r == 0 && fd < 0)
        r = fd;
    if (r == 0 && (r = httpd_new(&h, l, fd, registry_handle, reg)) < 0)
        err_errno(e, r, "serve");
    if (r == 0 && o->cert)
        r = httpd_tls(h, o->cert, o->key, e);
    if (r == 0) {
        loop_signal(l, SIGINT, on_signal, NULL);
        loop_signal(l, SIGTERM, on_signal, NULL);
        r = loop_run(l);
    }
    httpd_free(h);
    registry_free(reg);
    if (l)
        loop_free(l);
    if (o->socket)
        unlink(o->socket);
    cli_close(&c);
    return r;
}

static int cmd_serve(int argc, char **argv) {
    struct serve s = {.addr = "127.0.0.1:5000"};
    const char *pass_file = NULL;
    const struct opt items[] = {
        {0, "addr", OPT_STR, &s.addr, "HOST:PORT", "where to listen (127.0.0.1:5000)"},
        {0, "socket", OPT_STR, &s.socket, "PATH", "listen on a unix socket instead"},
        {0, "read-only", OPT_FLAG, &s.o.read_only, NULL, "take no pushes and delete nothing"},
        {0, "mirror-of", OPT_STR, &s.o.mirror_of, "REGISTRY", "fetch what is not here from REGISTRY (docker.io, https://…)"},
        {0, "max-blob", OPT_SIZE, &s.o.max_blob, "SIZE", "the largest blob that is taken (64g)"},
        {0, "htpasswd", OPT_STR, &s.o.htpasswd, "FILE", "ask for a user of this file (htpasswd -B makes it)"},
        {0, "user", OPT_STR, &s.o.basic_user, "NAME", "ask for this user name (with --password-file)"},
        {0, "password-file", OPT_STR, &pass_file, "FILE", "and the password in FILE"},
        {0, "anonymous-pull", OPT_FLAG, &s.o.anonymous_pull, NULL, "ask only those who want to change something"},
        {0, "tls-cert", OPT_STR, &s.cert, "FILE", "serve https with this certificate (PEM)"},
        {0, "tls-key", OPT_STR, &s.key, "FILE", "and its key"},
    };
    struct opts o = {.usage = "registry serve [options]",
                     .about = "Serves the embedded registry: the images that runs captured, and what is pushed to it.",
                     .items = items, .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_buf_ struct buf pass = BUF_SMALL;
    bool half_user = !s.o.basic_user != !pass_file, both = s.o.basic_user && s.o.htpasswd;
    if (half_user || both || !s.cert != !s.key) {
        err_set(&e, ERR_USER, -EINVAL, half_user ? "--user and --password-file belong together" : both ? "--user or --htpasswd, not both" :
                "--tls-cert and --tls-key belong together");
        return cli_fail(&e);
    }
    if (pass_file) {
        if (fs_read(AT_FDCWD, pass_file, &pass, &e) < 0)
            return cli_fail(&e);
        while (pass.n && (pass.p[pass.n - 1] == '\n' || pass.p[pass.n - 1] == '\r'))
            pass.p[--pass.n] = 0;
        s.o.basic_pass = buf_str(&pass);
    }
    r = serve(&s, &e);
    return r <= -1000 ? -(r + 1000) : r < 0 ? cli_fail(&e) : 0;
}

static int one(const char *ref, const char *digest, uint64_t size, const char *run_id, void *arg) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    buf_add_size(&b, size);
    printf("%-60s %.19s %10s %s\n", ref, digest, buf_str(&b), run_id ? run_id : "-");
    ++*(size_t *)arg;
    return 0;
}

static int one_json(const char *ref, const char *digest, uint64_t size, const char *run_id, void *arg) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "name", ref);
    jw_kstr(&w, "digest", digest);
    jw_kint(&w, "size", (int64_t)size);
    jw_kstr(&w, "run", run_id);
    jw_end_obj(&w);
    puts(buf_str(&b));
    return 0;
}

static int cmd_ls(int argc, char **argv) {
    bool json = false;
    const struct opt items[] = {{0, "json", OPT_FLAG, &json, NULL, "one JSON object per line"}};
    struct opts o = {.usage = "registry ls [--json]", .about = "Lists what the embedded registry has: name, digest, size, run.",
                     .items = items, .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct cli_ctx c;
    size_t count = 0;
    r = cli_begin(&c, &(struct cli_ctx_options){.what = "registry", .no_lease = true, .allow_single_id = true});
    if (r >= 0)
        return r;
    r = registry_each(c.store, json ? one_json : one, &count);
    cli_close(&c);
    if (r == 0 && !count && !json)
        fprintf(stderr, "nothing was captured or pushed here\n");
    struct err e = {0};
    if (r < 0)
        err_errno(&e, r, "read the registry's records");
    return r < 0 ? cli_fail(&e) : 0;
}

static int begin(struct cli_ctx *c) {
    return cli_begin(c, &(struct cli_ctx_options){.what = "registry", .no_lease = true, .allow_single_id = true});
}

static int cmd_rm(int argc, char **argv) {
    const struct opts o = {.usage = "registry rm NAME[:TAG|@DIGEST]…",
                           .about = "Removes tags, manifests or whole repositories from the embedded registry. slipway prune frees their space."};
    struct cli_ctx c;
    struct err e = {0};
    int n, r = opts_begin(&o, argc, argv, &n), code = 0;
    if (r >= 0)
        return r;
    if (n < 1) {
        err_set(&e, ERR_USER, -EINVAL, "registry rm needs a name (slipway registry ls lists them)");
        return cli_fail(&e);
    }
    if ((r = begin(&c)) >= 0)
        return r;
    for (int i = 1; i <= n; i++) {
        _cleanup_strv_ struct strv said = {0};
        e = (struct err){0};
        if (registry_remove(c.store, argv[i], &said, &e) < 0)
            code = cli_fail(&e);
        for (size_t k = 0; k < said.n; k++)
            printf("Removed: %s\n", said.v[k]);
    }
    cli_close(&c);
    return code;
}

static int cmd_gc(int argc, char **argv) {
    const char *older = "1d";
    bool dry = false;
    const struct opt items[] = {
        {0, "older", OPT_STR, &older, "TIME", "only what was pushed longer ago than this (1d)"},
        {0, "dry-run", OPT_FLAG, &dry, NULL, "only say what would go"},
    };
    const struct opts o = {.usage = "registry gc [options]",
                           .about = "Removes manifests without a tag that no kept index names and that refer to nothing kept.\n"
                                    "slipway prune frees their space.", .items = items, .n = ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    uint64_t ns;
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    if (n || parse_age(older, &ns) < 0) {
        err_set(&e, ERR_USER, -EINVAL, n ? "registry gc takes no names" : "--older wants a time as 7d, 12h or 30m");
        return cli_fail(&e);
    }
    if ((r = begin(&c)) >= 0)
        return r;
    _cleanup_strv_ struct strv said = {0};
    r = registry_untagged(c.store, ns, dry, &said, &e);
    for (size_t k = 0; k < said.n; k++)
        printf("%s: %s\n", dry ? "Would remove" : "Removed", said.v[k]);
    cli_close(&c);
    return r < 0 ? cli_fail(&e) : 0;
}

int cmd_registry(int argc, char **argv);
int cmd_registry(int argc, char **argv) {
    if (argc > 1 && streq(argv[1], "serve"))
        return cmd_serve(argc - 1, argv + 1);
    if (argc > 1 && streq(argv[1], "ls"))
        return cmd_ls(argc - 1, argv + 1);
    if (argc > 1 && streq(argv[1], "rm"))
        return cmd_rm(argc - 1, argv + 1);
    if (argc > 1 && streq(argv[1], "gc"))
        return cmd_gc(argc - 1, argv + 1);
    struct opts o = {.usage = "registry serve|ls|rm|gc",
                     .about = "The embedded registry: `serve` serves it, `ls` lists it, `rm` and `gc` remove from it (each with --help)."};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    if (argc > 1)
        err_set(&e, ERR_USER, -EINVAL, "registry %s: no such command", argv[1]);
    else
        err_set(&e, ERR_USER, -EINVAL, "registry: a command is missing");
    err_hint(&e, -EINVAL, "slipway registry serve, ls, rm, gc");
    return cli_fail(&e);
}
