/* slipway build: a Dockerfile to an image, with the options of `docker buildx build`. */
#include "build/cache_io.h"
#include "cli/build_cmd.h"
#include "cli/build_ui.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/fs.h"
#include "core/loop.h"

#include <signal.h>
#include <sys/stat.h>

static volatile int cancelled;

static void on_signal(int signo) {
    static const char text[] = "\nslipway: stopping (again: at once)\n";
    if (cancelled)
        _exit(130);
    cancelled = 1;
    (void)!write(2, text, sizeof text - 1);
}

/* --- options -------------------------------------------------------------------------------- */

static int call_of(const struct build_args *a) {
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

/* Values of options that have a fixed set of them. */
static int one_of(const char *option, const char *value, const char *set, struct err *e) {
    if (!value || strlen(value) > 60)
        return value ? err_set(e, ERR_USER, -EINVAL, "--%s: one of%s", option, set) : 0;
    char word[64];
    snprintf(word, sizeof word, " %s ", value);
    return strstr(set, word) ? 0 : err_set(e, ERR_USER, -EINVAL, "--%s %s: one of%s", option, value, set);
}

/* Attestations are not made: asking for none is fine, asking for one is told. */
static int attest_check(const char *option, const char *value, struct err *e) {
    if (!value || streq(value, "false") || streq(value, "disabled=true"))
        return 0;
    if (streq(option, "provenance") && (streq(value, "true") || startswith(value, "mode=min"))) {
        fprintf(stderr, "slipway: --provenance: attestations are not made yet; the image is built without\n");
        return 0;
    }
    return err_set(e, ERR_USER, -ENOTSUP, "--%s %s: not yet: attestations are not made", option, value);
}

static int options_check(const struct build_args *a, struct err *e) {
    int r;
    if (a->call && call_of(a) < 0)
        return err_set(e, ERR_USER, -EINVAL, "--call %s: build, check, outline or targets (with ,format=json)", a->call);
    if ((r = one_of("network", a->network, " default host none bridge ", e)) < 0 ||
        (r = one_of("progress", a->progress, " auto plain tty quiet rawjson ", e)) < 0 ||
        (r = attest_check("provenance", a->provenance, e)) < 0 || (r = attest_check("sbom", a->sbom, e)) < 0)
        return r;
    for (size_t i = 0; i < a->attests.n; i++)
        if (!strstr(a->attests.v[i], "disabled=true"))
            return err_set(e, ERR_USER, -ENOTSUP, "--attest %s: not yet: attestations are not made", a->attests.v[i]);
    for (size_t i = 0; i < a->allow.n; i++)
        if (!streq(a->allow.v[i], "network.host") && !streq(a->allow.v[i], "security.insecure"))
            return err_set(e, ERR_USER, -ENOTSUP, "--allow %s: network.host and security.insecure are there", a->allow.v[i]);
    for (size_t i = 0; i < a->annotations.n; i++)
        return err_set(e, ERR_USER, -ENOTSUP, "--annotation %s: not yet", a->annotations.v[i]);
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

static enum build_ui_mode ui_mode(const struct build_args *a) {
    if (a->quiet || (a->progress && streq(a->progress, "quiet")))
        return BUILD_UI_QUIET;
    if (a->progress && streq(a->progress, "plain"))
        return BUILD_UI_PLAIN;
    if (a->progress && streq(a->progress, "rawjson"))
        return BUILD_UI_JSON;
    if (a->progress && streq(a->progress, "tty"))
        return BUILD_UI_LIVE;
    return term_is_tty(2) ? BUILD_UI_LIVE : BUILD_UI_PLAIN;
}

/* --- the build ------------------------------------------------------------------------------ */

static void report(const struct build_args *a, const struct build_result *res) {
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
static int fail_at(const struct build_input *in, const struct err *e) {
    if (!e->at.line || !in->dockerfile || !streq0(e->at.file, in->dockerfile))
        return cli_fail(e);
    struct diag d = {.level = DIAG_ERROR, .at = e->at, .msg = (char *)(uintptr_t)e->msg,
                     .hint = e->hint[0] ? (char *)(uintptr_t)e->hint : NULL};
    fflush(stdout);
    diag_print(stderr, &d, in->text.p, in->text.n, term_colour(2));
    return err_exit_code(e->kind);
}

/* "default" (the agent of SSH_AUTH_SOCK), "default=SOCKET", "id=SOCKET". */
static int ssh_read(const struct strv *in, struct build_ssh *out, struct strv *strings, struct err *e) {
    for (size_t i = 0; i < in->n; i++) {
        const char *eq = strchr(in->v[i], '='), *path = eq ? eq + 1 : getenv("SSH_AUTH_SOCK");
        struct stat st;
        strv_addn(strings, in->v[i], eq ? (size_t)(eq - in->v[i]) : strlen(in->v[i]));
        out[i].id = strings->v[strings->n - 1];
        if (!path || !*path)
            return err_hint(e, err_set(e, ERR_USER, -ENOENT, "--ssh %s: there is no agent (SSH_AUTH_SOCK is not set)", in->v[i]),
                            "eval $(ssh-agent); ssh-add");
        if (stat(path, &st) < 0)
            return err_set(e, ERR_USER, -errno, "--ssh %s: %s: %s", in->v[i], path, strerror(errno));
        if (!S_ISSOCK(st.st_mode))
            return err_hint(e, err_set(e, ERR_USER, -ENOTSUP, "--ssh %s: not yet: key files", in->v[i]), "ssh-add %s, then --ssh %s", path, out[i].id);
        out[i].socket = path;
    }
    return 0;
}

/* Everything of one invocation that lives as long as its builds. */
struct job {
    struct cli_ctx *c;
    const struct build_args *a;
    struct build_input in;
    struct build_outputs out;
    struct build_secret *secrets;
    struct build_ssh *ssh;
    struct strv strings, platforms;
    struct diags d;
    struct buf called;
    struct cache_out cache;
    bool cache_to, cache_inline;
    struct build_made made[16];
    size_t n_made;
};

static bool allowed(const struct build_args *a, const char *what) { return strv_contains(&a->allow, what); }

static int build_one(struct job *j, const char *platform, struct build_ui *ui, struct err *e) {
    const struct build_args *a = j->a;
    struct cli_ctx *c = j->c;
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    uint64_t epoch_s = 0;
    static const char *const none[] = {NULL};
    bool several = j->platforms.n > 1;
    struct build_made *made = &j->made[j->n_made];
    struct build_request rq = {
        .context_fd = j->in.context, .context_name = j->in.name, .dockerfile = j->in.dockerfile, .dockerfile_text = buf_sv(&j->in.text),
        .ignore_text = j->in.has_ignore ? buf_sv(&j->in.ignore) : SV_NULL, .build_args = (const char *const *)a->build_args.v,
        .labels = (const char *const *)a->labels.v, .tags = several && j->n_made ? none : (const char *const *)a->tags.v,
        .target = a->target, .contexts = j->in.named, .n_contexts = j->in.n_named,
        .no_cache_filter = (const char *const *)a->no_cache_filter.v, .add_hosts = (const char *const *)a->add_hosts.v,
        .secrets = j->secrets, .n_secrets = a->secrets.n, .ssh = j->ssh, .n_ssh = a->ssh.n, .no_cache = a->no_cache, .pull = a->pull,
        .host_network = a->network && streq(a->network, "host"), .no_network = a->network && streq(a->network, "none"),
        .allow_host_network = allowed(a, "network.host"), .allow_insecure = allowed(a, "security.insecure"),
        .parallel = a->parallel > 0 ? (unsigned)a->parallel : 0, .shm_size = a->shm_size, .explain_only = a->explain_only,
        .cache_out = j->cache_to ? &j->cache : NULL, .cache_inline = j->cache_inline,
        .source_date_epoch = epoch && sv_u64(sv_from(epoch), INT64_MAX, &epoch_s) == 0 ? (int64_t)epoch_s : -1,
        .pulls = &c->pulls, .env_passthrough = (const char *const *)c->host_env.v, .ca_bundle = c->ca_bundle,
        .event = build_ui_event, .arg = ui, .cancel = &cancelled, .platform = platform,
        .call = (enum build_call)call_of(a), .call_json = a->call && strstr(a->call, ",format=json"), .call_out = &j->called};
    int r = build_image(c->store, c->lease, &rq, &made->res, &j->d, e);
    if (r >= 0) {
        snprintf(made->platform, sizeof made->platform, "%s", platform ? platform : "");
        j->n_made++;
    }
    return r;
}

static int prepare(struct job *j, const char *path, struct err *e) {
    const struct build_args *a = j->a;
    struct sv rest = sv_from(a->platform ? a->platform : ""), part;
    int r = options_check(a, e);
    while (rest.n && sv_split(&rest, ',', &part))
        strv_addn(&j->platforms, part.p, part.n);
    if (r == 0 && j->platforms.n > ELEMENTS(j->made))
        r = err_set(e, ERR_USER, -E2BIG, "--platform: too many");
    j->secrets = xcalloc(a->secrets.n + 1, sizeof *j->secrets);
    j->ssh = xcalloc(a->ssh.n + 1, sizeof *j->ssh);
    if (r == 0)
        r = build_outputs_read(a, &j->out, e);
    if (r == 0)
        r = secrets_read(&a->secrets, j->secrets, &j->strings, e);
    if (r == 0)
        r = ssh_read(&a->ssh, j->ssh, &j->strings, e);
    if (r == 0 && (r = build_cache_wanted(a, &j->cache_inline, e)) >= 0) {
        j->cache_to = r > 0;
        r = build_input_open(j->c, &j->in, path, a, &cancelled, e);
    }
    if (r == 0 && !call_of(a))
        r = build_cache_read(j->c, a, &cancelled, e);
    return r;
}

/* What is done with images that were built. */
static int deliver(struct job *j, struct err *e) {
    const struct build_args *a = j->a;
    char digest[DIGEST_LEN + 1] = "";
    int r = a->iidfile ? fs_write(AT_FDCWD, a->iidfile, sv_from(j->made[0].res.id), 0644, false, e) : 0;
    if (r >= 0)
        r = build_outputs_write(j->c, a, &j->out, j->made, j->n_made, &cancelled, digest, e);
    if (r >= 0 && j->cache_to)
        r = build_cache_write(j->c, a, &j->cache, &cancelled, e);
    if (r >= 0)
        r = build_metadata_write(j->c, a, j->made, j->n_made, digest, e);
    return r;
}

static int run(struct cli_ctx *c, const struct build_args *a, const char *path) {
    struct err e = {0};
    struct job j = {.c = c, .a = a, .in = {.context = -1}, .called = BUF_MAX(64u << 20)};
    int code = 0, r = prepare(&j, path, &e);
    struct build_ui *ui = build_ui_new(stderr, ui_mode(a), term_colour(2), a->explain || a->explain_only);
    if (r == 0 && !j.platforms.n)
        r = build_one(&j, NULL, ui, &e);
    for (size_t i = 0; i < j.platforms.n && r >= 0; i++)
        r = build_one(&j, j.platforms.v[i], ui, &e);
    build_ui_end(ui, r >= 0);
    build_ui_free(ui);
    fwrite(buf_str(&j.called), 1, j.called.n, stdout);
    if (r >= 0 && call_of(a)) {
        code = call_of(a) == BUILD_CALL_CHECK && j.d.warnings;
    } else if (r == -EBADMSG && j.d.errors) {
        cli_diags(&j.d, j.in.text.p, j.in.text.n);
        code = 2;
    } else if (r < 0) {
        code = fail_at(&j.in, &e);
    } else if (!a->explain_only) {
        if (deliver(&j, &e) < 0)
            code = cli_fail(&e);
        for (size_t i = 0; i < j.n_made && code == 0; i++)
            report(a, &j.made[i].res);
    }
    diags_done(&j.d);
    build_input_done(&j.in);
    build_outputs_done(&j.out);
    strv_done(&j.strings);
    strv_done(&j.platforms);
    buf_done(&j.called);
    cache_out_done(&j.cache);
    free(j.secrets);
    free(j.ssh);
    return code;
}

int cmd_build(int argc, char **argv);
int cmd_build(int argc, char **argv) {
    struct build_args a = {0};
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
        {0, "platform", OPT_STR, &a.platform, "OS/ARCH,…", "platforms of the result (others than this machine's need binfmt)"},
        {0, "network", OPT_STR, &a.network, "MODE", "network of RUN: default, host or none"},
        {0, "add-host", OPT_LIST, &a.add_hosts, "NAME:IP", "a further name in RUN's hosts file"},
        {0, "push", OPT_FLAG, &a.push, NULL, "push the image under each of its names"},
        {0, "load", OPT_FLAG, &a.load, NULL, "(always so: the image is in slipway's store)"},
        {'o', "output", OPT_LIST, &a.outputs, "type=T,dest=D", "also: local, tar, oci, docker (an archive), registry, image"},
        {0, "progress", OPT_STR, &a.progress, "MODE", "auto, plain, tty, quiet or rawjson"},
        {'q', "quiet", OPT_FLAG, &a.quiet, NULL, "print the image's id only"},
        {0, "explain", OPT_FLAG, &a.explain, NULL, "say why a step was not cached"},
        {0, "check", OPT_FLAG, &a.check, NULL, "only say what the Dockerfile could do better (as --call=check)"},
        {0, "call", OPT_STR, &a.call, "WHAT", "build, check, outline or targets; with ,format=json"},
        {0, "iidfile", OPT_STR, &a.iidfile, "FILE", "write the image's id there"},
        {0, "parallel", OPT_INT, &a.parallel, "N", "steps at once (default: cores)"},
        {0, "build-context", OPT_LIST, &a.contexts, "NAME=WHERE", "a folder, URL or docker-image://REF for FROM NAME and --from=NAME"},
        {0, "ssh", OPT_LIST, &a.ssh, "ID[=SOCKET]", "agent for RUN --mount=type=ssh (default: SSH_AUTH_SOCK)"},
        {0, "allow", OPT_LIST, &a.allow, "WHAT", "let RUN have network.host or security.insecure"},
        {0, "metadata-file", OPT_STR, &a.metadata, "FILE", "write digests and names as JSON there"},
        {0, "explain-only", OPT_FLAG, &a.explain_only, NULL, "say what would be run, and why, without running it"},
        {0, "shm-size", OPT_SIZE, &a.shm_size, "SIZE", "size of RUN's /dev/shm"},
        {0, "provenance", OPT_STR, &a.provenance, "MODE", NULL},
        {0, "sbom", OPT_STR, &a.sbom, "MODE", NULL},
        {0, "attest", OPT_LIST, &a.attests, "TYPE", NULL},
        {0, "annotation", OPT_LIST, &a.annotations, "K=V", NULL},
        {0, "cache-from", OPT_LIST, &a.cache_from, "SOURCE", "take over a cache: an image, type=registry,ref=R or type=local,src=FOLDER"},
        {0, "cache-to", OPT_LIST, &a.cache_to, "TARGET", "type=inline, type=registry,ref=R or type=local,dest=FOLDER"},
        {'D', "debug", OPT_FLAG, &a.debug, NULL, NULL},
        /* Without effect here, with a word from the options module. */
        {0, "rm", OPT_IGNORE, NULL, NULL, NULL},
        {0, "force-rm", OPT_IGNORE, NULL, NULL, NULL},
        {0, "compress", OPT_IGNORE, NULL, NULL, NULL},
        {0, "builder", OPT_IGNORE, NULL, "NAME", NULL},
        {0, "isolation", OPT_IGNORE, NULL, "MODE", NULL},
        {'m', "memory", OPT_IGNORE, NULL, "SIZE", NULL},
        {0, "memory-swap", OPT_IGNORE, NULL, "SIZE", NULL},
        {'c', "cpu-shares", OPT_IGNORE, NULL, "N", NULL},
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
    struct strv *lists[] = {&a.tags, &a.build_args, &a.labels, &a.annotations, &a.no_cache_filter, &a.add_hosts, &a.secrets, &a.ssh,
                            &a.contexts, &a.outputs, &a.cache_from, &a.cache_to, &a.allow, &a.ulimits, &a.attests};
    for (size_t i = 0; i < ELEMENTS(lists); i++)
        strv_done(lists[i]);
    return code;
}
