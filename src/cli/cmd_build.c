/* slipway build: a Dockerfile to an image, with the options of `docker buildx build`. */
#include "build/context.h"
#include "cli/build_ui.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/fs.h"
#include "core/loop.h"

#include <signal.h>
#include <sys/utsname.h>

struct args {
    struct strv tags, build_args, labels, no_cache_filter, add_hosts, secrets;
    struct strv later_list; /* options that are not there yet */
    const char *file, *target, *platform, *progress, *iidfile, *network, *output;
    const char *call;
    bool check, no_cache, pull, push, load, quiet, explain;
    int64_t parallel;
};

static volatile int cancelled;

static void on_signal(int signo) {
    static const char text[] = "\nslipway: stopping (again: at once)\n";
    if (cancelled)
        _exit(130);
    cancelled = 1;
    (void)!write(2, text, sizeof text - 1);
}

/* --- context -------------------------------------------------------------------------------- */

struct input {
    int context;          /* dirfd, or -1 */
    char *name;           /* absolute path */
    char *dockerfile;     /* as build_request has it */
    struct buf text, ignore;
    bool has_ignore;
};

static void input_done(struct input *in) {
    fd_close(in->context);
    free(in->name);
    free(in->dockerfile);
    buf_done(&in->text);
    buf_done(&in->ignore);
}

static int is_tar(const struct buf *b) {
    const unsigned char *p = (const unsigned char *)b->p;
    return (b->n > 262 && memcmp(p + 257, "ustar", 5) == 0) || (b->n > 2 && p[0] == 0x1f && p[1] == 0x8b) ||
           (b->n > 6 && (memcmp(p, "\xFD" "7zXZ", 5) == 0 || memcmp(p, "BZh", 3) == 0 || memcmp(p, "\x28\xB5\x2F\xFD", 4) == 0));
}

/* The archive on stdin, whose beginning was read already, through a file of the lease into a folder. */
static int unpack_stdin(struct cli_ctx *c, struct input *in, struct err *e) {
    int scratch = lease_scratch(c->lease, e);
    if (scratch < 0)
        return scratch;
    _cleanup_close_ int fd = openat(scratch, "stdin.tar", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : fd_write_all(fd, in->text.p, in->text.n);
    if (r >= 0)
        r = fd_copy(0, fd, 64ull << 30, NULL);
    buf_reset(&in->text);
    if (r < 0 || lseek(fd, 0, SEEK_SET) < 0 || mkdirat(scratch, "context", 0700) < 0)
        return err_errno(e, r < 0 ? r : -errno, "the build context on stdin");
    in->context = openat(scratch, "context", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = in->context < 0 ? err_errno(e, -errno, "open the build context") : context_unpack(fd, in->context, e);
    (void)unlinkat(scratch, "stdin.tar", 0);
    return r;
}

/* The Dockerfile is one of the archive's. */
static int tar_context(struct cli_ctx *c, struct input *in, const char *file, struct err *e) {
    in->name = xstrdup("-");
    in->dockerfile = xstrdup(file ? file : "Dockerfile");
    int r = unpack_stdin(c, in, e);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = fs_open_in(in->context, in->dockerfile, O_RDONLY | O_NONBLOCK, 0, 0);
    r = fd < 0 ? fd : fs_read_fd(fd, &in->text);
    return r < 0 ? err_set(e, ERR_USER, r, "%s in the archive on stdin: %s", in->dockerfile, strerror(-r)) : 0;
}

static int from_stdin(struct cli_ctx *c, struct input *in, const char *file, struct err *e) {
    in->text = BUF_MAX(4u << 20);
    char chunk[65536];
    for (ssize_t n; (n = read(0, chunk, sizeof chunk)) != 0;) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, -errno, "stdin");
        buf_add(&in->text, chunk, (size_t)n);
        if (is_tar(&in->text))
            return tar_context(c, in, file, e);
        if (!buf_ok(&in->text))
            return err_set(e, ERR_LIMIT, -EFBIG, "the Dockerfile on stdin is larger than 4 MiB");
    }
    in->dockerfile = xstrdup("Dockerfile");
    in->name = xstrdup("-");
    return 0;
}

static int read_file(const char *path, struct buf *b, struct err *e) {
    if (streq(path, "-")) {
        int r = fs_read_fd(0, b);
        return r < 0 ? err_errno(e, r, "stdin") : 0;
    }
    int r = fs_read(AT_FDCWD, path, b, e);
    if (r < 0 && e)
        e->kind = ERR_USER;
    return r;
}

static int from_folder(struct input *in, const char *path, const char *file, struct err *e) {
    in->name = realpath(path, NULL);
    in->context = in->name ? open(in->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (in->context < 0) {
        err_set(e, ERR_USER, -errno, "build context %s: %s", path, strerror(errno));
        return -ENOENT;
    }
    in->text = BUF_MAX(4u << 20);
    in->ignore = BUF_MAX(2u << 20);
    _cleanup_free_ char *dflt = xasprintf("%s/Dockerfile", in->name);
    const char *f = file ? file : dflt;
    if (!streq(f, "-")) {
        _cleanup_free_ char *real = realpath(f, NULL);
        const char *rel = real ? startswith(real, in->name) : NULL;
        if (rel && *rel == '/') { /* inside the context: by its name there */
            in->dockerfile = xstrdup(rel + 1);
        } else {
            _cleanup_free_ char *own = xasprintf("%s.dockerignore", f);
            in->dockerfile = xstrdup(f);
            in->has_ignore = fs_read(AT_FDCWD, own, &in->ignore, NULL) >= 0;
        }
    } else {
        in->dockerfile = xstrdup("Dockerfile");
    }
    return read_file(f, &in->text, e);
}

static int input_open(struct cli_ctx *c, struct input *in, const char *path, const char *file, struct err *e) {
    static const char *const remote[] = {"http://", "https://", "git://", "git@", "ssh://", "github.com/"};
    in->context = -1;
    if (streq(path, "-"))
        return from_stdin(c, in, file, e);
    for (size_t i = 0; i < ELEMENTS(remote); i++)
        if (startswith(path, remote[i]))
            return err_set(e, ERR_USER, -ENOSYS, "%s: a build context from the network is not there yet", path);
    return from_folder(in, path, file, e);
}

/* --- options -------------------------------------------------------------------------------- */

static int call_of(const struct args *a) {
    static const char *const names[] = {"build", "check", "outline", "targets", "lint"};
    struct sv rest = sv_from(a->call ? a->call : ""), name;
    if (a->check || !sv_split(&rest, ',', &name))
        return a->check ? BUILD_CALL_CHECK : BUILD_CALL_BUILD;
    if (rest.n && !sv_eqs(rest, "format=json") && !sv_eqs(rest, "format=text"))
        return -EINVAL;
    for (int i = 0; i < (int)ELEMENTS(names); i++)
        if (sv_eqs(name, names[i]))
            return i == 4 ? BUILD_CALL_CHECK : i;
    return a->call && *a->call ? -EINVAL : BUILD_CALL_BUILD;
}

static int options_check(const struct args *a, struct err *e) {
    static const char *const arch[][2] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"armv7l", "arm"}};
    struct utsname u;
    uname(&u);
    const char *mine = u.machine;
    for (size_t i = 0; i < ELEMENTS(arch); i++)
        if (streq(arch[i][0], mine))
            mine = arch[i][1];
    if (a->later_list.n) {
        err_set(e, ERR_USER, -ENOSYS, "this option is not there yet (value %s)", a->later_list.v[0]);
        return err_hint(e, -ENOSYS, "--build-context, --cache-from, --cache-to, --ssh and --metadata-file come later");
    }
    if (a->output && !streq(a->output, "type=image") && !streq(a->output, "type=docker"))
        return err_set(e, ERR_USER, -ENOSYS, "--output %s is not there yet: the image is in slipway's store (slipway image save)", a->output);
    if (a->platform) {
        char want[96];
        snprintf(want, sizeof want, "linux/%s", mine);
        if (!startswith(a->platform, want) || strchr(a->platform, ','))
            return err_set(e, ERR_USER, -ENOSYS, "--platform %s: other platforms than this machine's (%s) are not there yet", a->platform, want);
    }
    if (a->call && call_of(a) < 0)
        return err_set(e, ERR_USER, -EINVAL, "--call %s: build, check, outline or targets (with ,format=json)", a->call);
    if (a->network && !streq(a->network, "default") && !streq(a->network, "host") && !streq(a->network, "none") && !streq(a->network, "bridge"))
        return err_set(e, ERR_USER, -EINVAL, "--network %s: default, host or none", a->network);
    if (a->progress && !streq(a->progress, "auto") && !streq(a->progress, "plain") && !streq(a->progress, "tty") && !streq(a->progress, "quiet"))
        return err_set(e, ERR_USER, -EINVAL, "--progress %s: auto, plain, tty or quiet", a->progress);
    if (a->push && !a->tags.n)
        return err_set(e, ERR_USER, -EINVAL, "--push needs a name: -t REGISTRY/NAME:TAG");
    return 0;
}

/* "id=x,src=FILE", "id=x,env=NAME", "id=x" (the variable x, else an error). */
static int secrets_read(const struct strv *in, struct build_secret *out, struct strv *strings, struct err *e) {
    for (size_t i = 0; i < in->n; i++) {
        struct sv rest = sv_from(in->v[i]), part;
        const char *id = NULL, *file = NULL, *env = NULL;
        while (sv_split(&rest, ',', &part)) {
            ssize_t eq = sv_chr(part, '=');
            struct sv key = eq < 0 ? part : sv_sub(part, 0, (size_t)eq);
            strv_addn(strings, part.p + (eq < 0 ? (ssize_t)part.n : eq + 1), eq < 0 ? 0 : part.n - (size_t)eq - 1);
            const char *v = strings->v[strings->n - 1];
            if (sv_eqs(key, "id"))
                id = v;
            else if (sv_eqs(key, "src") || sv_eqs(key, "source"))
                file = v;
            else if (sv_eqs(key, "env"))
                env = v;
            else if (!sv_eqs(key, "type"))
                return err_set(e, ERR_USER, -EINVAL, "--secret %s: id=NAME,src=FILE or id=NAME,env=VARIABLE", in->v[i]);
        }
        if (!id || !*id)
            return err_set(e, ERR_USER, -EINVAL, "--secret %s: id is missing", in->v[i]);
        if (!file && !env)
            env = id;
        if (env && !getenv(env))
            return err_set(e, ERR_USER, -ENOENT, "--secret %s: the variable %s is not set", in->v[i], env);
        if (file && !fs_exists(AT_FDCWD, file))
            return err_set(e, ERR_USER, -ENOENT, "--secret %s: there is no file %s", in->v[i], file);
        out[i] = (struct build_secret){.id = id, .file = file, .env_value = env ? getenv(env) : NULL};
    }
    return 0;
}

static enum build_ui_mode ui_mode(const struct args *a) {
    if (a->quiet || (a->progress && streq(a->progress, "quiet")))
        return BUILD_UI_QUIET;
    if (a->progress && streq(a->progress, "plain"))
        return BUILD_UI_PLAIN;
    if (a->progress && streq(a->progress, "tty"))
        return BUILD_UI_LIVE;
    return term_is_tty(2) ? BUILD_UI_LIVE : BUILD_UI_PLAIN;
}

/* --- the build ------------------------------------------------------------------------------ */

static int push_all(struct cli_ctx *c, const struct args *a, const char *id, struct err *e) {
    struct push_options o = {.conf = &c->registry, .cancel = &cancelled};
    for (size_t i = 0; i < a->tags.n; i++) {
        char digest[DIGEST_LEN + 1];
        uint64_t sent = 0;
        int r = image_push(c->store, c->lease, id, a->tags.v[i], &o, digest, &sent, e);
        if (r < 0)
            return err_wrap(e, r, "push %s", a->tags.v[i]);
        _cleanup_buf_ struct buf size = BUF_SMALL;
        buf_add_size(&size, sent);
        fprintf(stderr, "pushed %s %s (%s sent)\n", a->tags.v[i], digest, buf_str(&size));
    }
    return 0;
}

static void report(const struct args *a, const struct build_result *res) {
    if (a->quiet || (a->progress && streq(a->progress, "quiet"))) {
        puts(res->id);
        return;
    }
    _cleanup_buf_ struct buf t = BUF_SMALL;
    buf_add_duration(&t, res->dur_ns);
    fprintf(stderr, "built %.19s in %s (%u step%s, %u cached)", res->id, buf_str(&t), res->steps, res->steps == 1 ? "" : "s", res->cached);
    for (size_t i = 0; i < a->tags.n; i++)
        fprintf(stderr, "%s %s", i ? "," : " as", a->tags.v[i]);
    fputc('\n', stderr);
}

/* An error of a step, with the line of the Dockerfile. */
static int fail_at(const struct input *in, const struct err *e) {
    if (!e->at.line || !in->dockerfile || !streq0(e->at.file, in->dockerfile))
        return cli_fail(e);
    struct diag d = {.level = DIAG_ERROR, .at = e->at, .msg = (char *)(uintptr_t)e->msg,
                     .hint = e->hint[0] ? (char *)(uintptr_t)e->hint : NULL};
    fflush(stdout);
    diag_print(stderr, &d, in->text.p, in->text.n, term_colour(2));
    return err_exit_code(e->kind);
}

static int run(struct cli_ctx *c, const struct args *a, const char *path) {
    struct err e = {0};
    struct diags d = {0};
    struct build_result res;
    struct input in = {.context = -1};
    _cleanup_buf_ struct buf called = BUF_MAX(64u << 20);
    _cleanup_strv_ struct strv strings = {0};
    struct build_secret *secrets = xcalloc(a->secrets.n + 1, sizeof *secrets);
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    uint64_t epoch_s = 0;
    int r = options_check(a, &e);
    if (r == 0)
        r = secrets_read(&a->secrets, secrets, &strings, &e);
    if (r == 0)
        r = input_open(c, &in, path, a->file, &e);
    struct build_ui *ui = build_ui_new(stderr, ui_mode(a), term_colour(2), a->explain);
    if (r == 0) {
        struct build_request rq = {
            .context_fd = in.context, .context_name = in.name, .dockerfile = in.dockerfile, .dockerfile_text = buf_sv(&in.text),
            .ignore_text = in.has_ignore ? buf_sv(&in.ignore) : SV_NULL, .build_args = (const char *const *)a->build_args.v,
            .labels = (const char *const *)a->labels.v, .tags = (const char *const *)a->tags.v, .target = a->target,
            .no_cache_filter = (const char *const *)a->no_cache_filter.v, .add_hosts = (const char *const *)a->add_hosts.v,
            .secrets = secrets, .n_secrets = a->secrets.n, .no_cache = a->no_cache, .pull = a->pull,
            .host_network = a->network && streq(a->network, "host"), .no_network = a->network && streq(a->network, "none"),
            .parallel = a->parallel > 0 ? (unsigned)a->parallel : 0,
            .source_date_epoch = epoch && sv_u64(sv_from(epoch), INT64_MAX, &epoch_s) == 0 ? (int64_t)epoch_s : -1,
            .pulls = &c->pulls, .env_passthrough = (const char *const *)c->host_env.v, .ca_bundle = c->ca_bundle,
            .event = build_ui_event, .arg = ui, .cancel = &cancelled, .platform = a->platform,
            .call = (enum build_call)call_of(a), .call_json = a->call && strstr(a->call, ",format=json"), .call_out = &called};
        r = build_image(c->store, c->lease, &rq, &res, &d, &e);
    }
    build_ui_end(ui, r >= 0);
    build_ui_free(ui);
    int code = 0;
    fwrite(buf_str(&called), 1, called.n, stdout);
    if (r >= 0 && call_of(a)) {
        code = call_of(a) == BUILD_CALL_CHECK && d.warnings;
    } else if (r == -EBADMSG && d.errors) {
        cli_diags(&d, in.text.p, in.text.n);
        code = 2;
    } else if (r < 0) {
        code = fail_at(&in, &e);
    } else {
        if (a->iidfile && (r = fs_write(AT_FDCWD, a->iidfile, sv_from(res.id), 0644, false, &e)) < 0)
            code = cli_fail(&e);
        if (code == 0 && a->push && push_all(c, a, res.id, &e) < 0)
            code = cli_fail(&e);
        if (code == 0)
            report(a, &res);
    }
    diags_done(&d);
    input_done(&in);
    free(secrets);
    return code;
}

int cmd_build(int argc, char **argv);
int cmd_build(int argc, char **argv) {
    struct args a = {0};
    int n;
    const struct opt items[] = {
        {'t', "tag", OPT_LIST, &a.tags, "NAME[:TAG]", "name of the image"},
        {'f', "file", OPT_STR, &a.file, "FILE", "the Dockerfile (default: PATH/Dockerfile; - is stdin)"},
        {0, "target", OPT_STR, &a.target, "STAGE", "build this stage"},
        {0, "build-arg", OPT_LIST, &a.build_args, "K[=V]", "value of an ARG; without =V from the environment"},
        {0, "label", OPT_LIST, &a.labels, "K=V", "label of the image"},
        {0, "secret", OPT_LIST, &a.secrets, "id=X,src=FILE", "secret for RUN --mount=type=secret (or env=VARIABLE)"},
        {0, "no-cache", OPT_FLAG, &a.no_cache, NULL, "run every step"},
        {0, "no-cache-filter", OPT_LIST, &a.no_cache_filter, "STAGE", "run every step of this stage"},
        {0, "pull", OPT_FLAG, &a.pull, NULL, "ask the registry for newer base images"},
        {0, "platform", OPT_STR, &a.platform, "OS/ARCH", "this machine's, for now"},
        {0, "network", OPT_STR, &a.network, "MODE", "network of RUN: default, host or none"},
        {0, "add-host", OPT_LIST, &a.add_hosts, "NAME:IP", "a further name in RUN's hosts file"},
        {0, "push", OPT_FLAG, &a.push, NULL, "push the image under each of its names"},
        {0, "load", OPT_FLAG, &a.load, NULL, "(always so: the image is in slipway's store)"},
        {'o', "output", OPT_STR, &a.output, "TYPE", NULL},
        {0, "progress", OPT_STR, &a.progress, "MODE", "auto, plain, tty or quiet"},
        {'q', "quiet", OPT_FLAG, &a.quiet, NULL, "print the image's id only"},
        {0, "explain", OPT_FLAG, &a.explain, NULL, "say why a step was not cached"},
        {0, "check", OPT_FLAG, &a.check, NULL, "only say what the Dockerfile could do better (as --call=check)"},
        {0, "call", OPT_STR, &a.call, "WHAT", "build, check, outline or targets; with ,format=json"},
        {0, "iidfile", OPT_STR, &a.iidfile, "FILE", "write the image's id there"},
        {0, "parallel", OPT_INT, &a.parallel, "N", "steps at once (default: cores)"},
        {0, "build-context", OPT_LIST, &a.later_list, "NAME=PATH", NULL},
        {0, "cache-from", OPT_LIST, &a.later_list, "SOURCE", NULL},
        {0, "cache-to", OPT_LIST, &a.later_list, "TARGET", NULL},
        {0, "ssh", OPT_LIST, &a.later_list, "ID", NULL},
        {0, "metadata-file", OPT_LIST, &a.later_list, "FILE", NULL},
        /* Without effect here, with a word from the options module. */
        {0, "rm", OPT_IGNORE, NULL, NULL, NULL},
        {0, "force-rm", OPT_IGNORE, NULL, NULL, NULL},
        {0, "compress", OPT_IGNORE, NULL, NULL, NULL},
        {0, "provenance", OPT_IGNORE, NULL, "MODE", NULL},
        {0, "sbom", OPT_IGNORE, NULL, "MODE", NULL},
        {0, "builder", OPT_IGNORE, NULL, "NAME", NULL},
        {0, "isolation", OPT_IGNORE, NULL, "MODE", NULL},
        {'m', "memory", OPT_IGNORE, NULL, "SIZE", NULL},
        {0, "memory-swap", OPT_IGNORE, NULL, "SIZE", NULL},
        {'c', "cpu-shares", OPT_IGNORE, NULL, "N", NULL},
        {0, "shm-size", OPT_IGNORE, NULL, "SIZE", NULL},
        {0, "ulimit", OPT_IGNORE, NULL, "LIMIT", NULL},
        {0, "cgroup-parent", OPT_IGNORE, NULL, "NAME", NULL},
    };
    const struct opts o = {.usage = "build [options] PATH | -",
                           .about = "Builds an image from a Dockerfile. PATH is the build context; - reads a Dockerfile or a tar of the context from stdin.",
                           .items = items, .n = ELEMENTS(items)};
    int code = opts_begin(&o, argc, argv, &n);
    if (code < 0 && n != 1) {
        struct err e = {0};
        err_set(&e, ERR_USER, -EINVAL, "one PATH is wanted (. is this folder), not %d", n);
        code = cli_fail(&e);
    }
    if (code < 0) {
        struct cli_ctx c;
        char *path = argv[1];
        code = cli_begin(&c, &(struct cli_ctx_options){.repo_dir = ".", .what = "build"});
        if (code < 0) {
            struct sigaction sa = {.sa_handler = on_signal};
            sigaction(SIGINT, &sa, NULL);
            sigaction(SIGTERM, &sa, NULL);
            code = run(&c, &a, path);
            if (cancelled)
                code = 130;
            cli_close(&c);
        }
    }
    struct strv *lists[] = {&a.tags, &a.build_args, &a.labels, &a.no_cache_filter, &a.add_hosts, &a.secrets, &a.later_list};
    for (size_t i = 0; i < ELEMENTS(lists); i++)
        strv_done(lists[i]);
    return code;
}
