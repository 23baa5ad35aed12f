/* docker/login-action, setup-buildx-action, setup-qemu-action and build-push-action. They ask the job's own
 * docker engine, through the docker program of the job, for what the published ones ask: the same
 * arguments, so that a build means the same. */
#include "run/native.h"

#include <dirent.h>

/* --- login --------------------------------------------------------------------------------------------- */

static int logout(struct jobx *x, struct step *s, struct err *e) {
    const char *registry = with_get(s->inputs, "registry", "");
    _cleanup_strv_ struct strv env = {0};
    if (!native_true(s->inputs, "logout", true))
        return 0;
    step_env(x, s, NULL, &env);
    const char *argv[] = {"docker", "logout", *registry ? registry : NULL, NULL};
    int r = native_exec(x, s, argv, &env, e);
    return r < 0 && r != -ECANCELED ? r : 0;
}

int action_docker_login(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    const char *registry = with_get(with, "registry", ""), *user = with_get(with, "username", ""), *pass = with_get(with, "password", "");
    const char *ecr = with_get(with, "ecr", "auto");
    bool aws = strstr(registry, ".amazonaws.com") || strstr(registry, "public.ecr.aws");
    if (*with_get(with, "registry-auth", ""))
        return native_fail(x, s, "registry-auth is not there yet: one step for each registry");
    if (streq(ecr, "true") || (aws && streq(ecr, "auto") && !*pass))
        return native_fail(x, s, "login to ECR with AWS credentials is not there yet: `aws ecr get-login-password` gives a password for the user AWS");
    if (!*user && !*pass)
        return native_fail(x, s, "Username and password required");
    if (!*user)
        return native_fail(x, s, "Username required");
    if (!*pass)
        return native_fail(x, s, "Password required");
    _cleanup_strv_ struct strv env = {0};
    char key[33], name[48];
    random_id(key, 32);
    snprintf(name, sizeof name, "login-%s", key);
    int r = step_file(x, x->temp_fd, name, 0600, sv_from(pass), e);
    if (r < 0)
        return r;
    _cleanup_free_ char *path = path_join(x->temp, name);
    const char *argv[] = {"/bin/sh", "-c", "exec docker login --username \"$1\" --password-stdin ${2:+\"$2\"} < \"$0\"", path, user, registry, NULL};
    jobx_say(x, "Logging into %s...", *registry ? registry : "docker.io");
    native_env(x, s, &env);
    r = native_exec(x, s, argv, &env, e);
    unlinkat(x->temp_fd, name, 0);
    if (r > 0)
        s->code = r;
    if (r == 0)
        action_post_native(x, s, with, logout, NULL);
    return r < 0 && r != -ECANCELED ? r : 0;
}

/* --- buildx and qemu ------------------------------------------------------------------------------------- */

static const char *machine(void) {
#if defined(__aarch64__)
    return "linux/arm64";
#else
    return "linux/amd64";
#endif
}

/* What the kernel runs by emulation, as platforms. */
static void emulated(struct buf *b) {
    static const struct { const char *qemu, *platform; } known[] = {{"qemu-aarch64", "linux/arm64"}, {"qemu-x86_64", "linux/amd64"}, {"qemu-arm", "linux/arm/v7"},
                                                                     {"qemu-i386", "linux/386"}, {"qemu-ppc64le", "linux/ppc64le"}, {"qemu-s390x", "linux/s390x"},
                                                                     {"qemu-riscv64", "linux/riscv64"}, {"qemu-mips64", "linux/mips64"}};
    for (size_t i = 0; i < ELEMENTS(known); i++) {
        char path[80];
        snprintf(path, sizeof path, "/proc/sys/fs/binfmt_misc/%s", known[i].qemu);
        if (fs_exists(AT_FDCWD, path) && !streq(known[i].platform, machine()))
            buf_addf(b, ",%s", known[i].platform);
    }
}

int action_setup_buildx(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    const char *name = with_get(with, "name", ""), *driver = with_get(with, "driver", ""), *flags = with_get(with, "buildkitd-flags", "");
    _cleanup_buf_ struct buf platforms = BUF_SMALL, nodes = BUF_SMALL;
    char key[13];
    random_id(key, 12);
    _cleanup_free_ char *made = *name ? xstrdup(name) : xasprintf("builder-%s", key), *node = xasprintf("%s0", made);
    buf_adds(&platforms, *with_get(with, "platforms", "") ? with_get(with, "platforms", "") : machine());
    struct json_w w;
    jw_init(&w, &nodes, 2);
    jw_arr(&w);
    jw_obj(&w);
    jw_kstr(&w, "name", node);
    jw_kstr(&w, "endpoint", "unix:///var/run/docker.sock");
    jw_kstr(&w, "status", "running");
    jw_kstr(&w, "buildkitd-flags", flags);
    jw_kstr(&w, "platforms", buf_str(&platforms));
    jw_end_obj(&w);
    jw_end_arr(&w);
    jobx_say(x, "slipway builds images itself: nothing is installed or started, and there is one builder whatever its name is");
    native_output(x, s, "name", made);
    native_output(x, s, "driver", *driver ? driver : "docker-container");
    native_output(x, s, "platforms", buf_str(&platforms));
    native_output(x, s, "nodes", buf_str(&nodes));
    native_output(x, s, "endpoint", "unix:///var/run/docker.sock");
    native_output(x, s, "status", "running");
    native_output(x, s, "flags", flags);
    return 0;
}

int action_setup_qemu(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    buf_adds(&b, machine());
    emulated(&b);
    if (strchr(buf_str(&b), ','))
        jobx_say(x, "Platforms that this host runs: %s", buf_str(&b));
    else
        jobx_say(x, "Nothing is installed: slipway changes no host. This one runs %s only; other platforms need its own "
                    "binfmt handlers (sudo apt-get install qemu-user-static)", machine());
    native_output(x, s, "platforms", buf_str(&b));
    return 0;
}

/* --- build and push ---------------------------------------------------------------------------------------- */

struct bp {
    struct jobx *x;
    struct step *s;
    const struct value *with;
    struct strv argv;
    char dir[48];             /* below the job's temporary files */
    unsigned n_secrets;
    const char *context;
    bool git;                 /* the repository itself: files are below the context */
    struct err *e;
};

static int flag_list(struct bp *b, const char *input, const char *option, bool whole) {
    _cleanup_strv_ struct strv v = {0};
    int r = native_list(b->with, input, whole, &v, b->e);
    for (size_t i = 0; i < v.n && r >= 0; i++) {
        strv_add(&b->argv, option);
        strv_add(&b->argv, v.v[i]);
    }
    return r;
}
static void flag_str(struct bp *b, const char *input, const char *option) {
    const char *v = with_get(b->with, input, "");
    if (*v) {
        strv_add(&b->argv, option);
        strv_add(&b->argv, v);
    }
}
static void flag_bool(struct bp *b, const char *input, const char *option) {
    if (native_true(b->with, input, false))
        strv_add(&b->argv, option);
}

static char *in_temp(const struct bp *b, const char *name) { return xasprintf("%s/%s/%s", b->x->temp, b->dir, name); }

/* secrets: "key=value", given to the builder as files that only the step's user can read. */
static int secrets(struct bp *b) {
    static const struct { const char *input, *as; } named[] = {{"secret-envs", "env"}, {"secret-files", "src"}};
    _cleanup_strv_ struct strv v = {0};
    int r = native_list(b->with, "secrets", true, &v, b->e);
    for (size_t i = 0; i < v.n && r >= 0; i++) {
        const char *eq = strchr(v.v[i], '=');
        char name[32];
        if (!eq || eq == v.v[i])
            return native_fail(b->x, b->s, "a secret is not a valid secret: it has no \"key=\"");
        snprintf(name, sizeof name, "secret-%u", b->n_secrets++);
        _cleanup_free_ char *rel = xasprintf("%s/%s", b->dir, name), *path = in_temp(b, name);
        r = step_file(b->x, b->x->temp_fd, rel, 0600, sv_from(eq + 1), b->e);
        strv_add(&b->argv, "--secret");
        strv_addf(&b->argv, "id=%.*s,src=%s", (int)(eq - v.v[i]), v.v[i], path);
    }
    for (size_t k = 0; k < ELEMENTS(named) && r >= 0; k++) {
        _cleanup_strv_ struct strv n = {0};
        r = native_list(b->with, named[k].input, true, &n, b->e);
        for (size_t i = 0; i < n.n && r >= 0; i++) {
            const char *eq = strchr(n.v[i], '=');
            if (!eq || eq == n.v[i])
                return native_fail(b->x, b->s, "%s is not a valid secret", n.v[i]);
            strv_add(&b->argv, "--secret");
            strv_addf(&b->argv, "id=%.*s,%s=%s", (int)(eq - n.v[i]), n.v[i], named[k].as, eq + 1);
        }
    }
    return r;
}

/* Without an input the published action builds the repository at its commit, whatever lies in the
 * workspace; so a fresh checkout is made beside it. */
static int find_context(struct bp *b, char **ret) {
    const char *given = with_get(b->with, "context", ""), *sub = startswith(given, "{{defaultContext}}");
    if (*given && !sub) {
        *ret = xstrdup(given);
        return 0;
    }
    _cleanup_free_ char *top = in_temp(b, "context");
    jobx_say(b->x, "context: the repository, checked out afresh (`context: .` is the workspace)");
    int r = checkout_to(b->x, top, 1, b->e);
    if (r < 0)
        return r;
    b->git = true;
    *ret = sub && *sub == ':' ? path_join(top, sub + 1) : xstrdup(top);
    return startswith(*ret, top) ? 0 : native_fail(b->x, b->s, "the context %s leads out of the repository", given);
}

static int arguments(struct bp *b, const char *context) {
    static const struct { const char *input, *option; bool whole; } lists[] = {
        {"add-hosts", "--add-host", false}, {"allow", "--allow", false}, {"annotations", "--annotation", true}, {"attests", "--attest", true},
        {"build-args", "--build-arg", true}, {"build-contexts", "--build-context", true}, {"cache-from", "--cache-from", true},
        {"cache-to", "--cache-to", true}, {"labels", "--label", true}, {"no-cache-filters", "--no-cache-filter", false},
        {"outputs", "--output", true}, {"platforms", "--platform", false}, {"ssh", "--ssh", false}, {"tags", "--tag", false}, {"ulimit", "--ulimit", true}};
    static const struct { const char *input, *option; } texts[] = {{"call", "--call"}, {"cgroup-parent", "--cgroup-parent"}, {"network", "--network"},
                                                                    {"shm-size", "--shm-size"}, {"target", "--target"}, {"provenance", "--provenance"}, {"sbom", "--sbom"}};
    const char *file = with_get(b->with, "file", "");
    int r = 0;
    strv_extend(&b->argv, (const char *const[]){"docker", "buildx", "build", NULL});
    for (size_t i = 0; i < ELEMENTS(lists) && r >= 0; i++) {
        if (streq(lists[i].input, "platforms")) { /* one option for all */
            _cleanup_strv_ struct strv v = {0};
            _cleanup_buf_ struct buf all = BUF_SMALL;
            r = native_list(b->with, "platforms", false, &v, b->e);
            for (size_t k = 0; k < v.n; k++)
                buf_addf(&all, "%s%s", k ? "," : "", v.v[k]);
            if (all.n) {
                strv_add(&b->argv, "--platform");
                strv_add(&b->argv, buf_str(&all));
            }
        } else
            r = flag_list(b, lists[i].input, lists[i].option, lists[i].whole);
    }
    for (size_t i = 0; i < ELEMENTS(texts) && r >= 0; i++)
        flag_str(b, texts[i].input, texts[i].option);
    if (r < 0 || (r = secrets(b)) < 0 || b->s->code)
        return r;
    if (*file) {
        _cleanup_free_ char *at = b->git ? path_join(context, file) : xstrdup(file);
        strv_add(&b->argv, "--file");
        strv_add(&b->argv, at);
    }
    flag_bool(b, "load", "--load");
    flag_bool(b, "no-cache", "--no-cache");
    flag_bool(b, "pull", "--pull");
    flag_bool(b, "push", "--push");
    strv_add(&b->argv, "--iidfile");
    strv_take(&b->argv, in_temp(b, "iidfile"));
    strv_add(&b->argv, "--metadata-file");
    strv_take(&b->argv, in_temp(b, "metadata.json"));
    strv_add(&b->argv, context);
    return 0;
}

/* A file that the docker program left there: anything by now, so only a plain one counts. */
static void read_back(struct bp *b, const char *name, struct buf *out) {
    _cleanup_free_ char *rel = xasprintf("%s/%s", b->dir, name);
    struct stat st;
    _cleanup_close_ int fd = fs_open_in(b->x->temp_fd, rel, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0, 0);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        (void)fs_read_fd(fd, out);
}

static void results(struct bp *b) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf iid = BUF_MAX(4096), meta = BUF_MAX(1u << 20), shown = BUF_MAX(2u << 20);
    struct json *j = NULL;
    struct json_w w;
    read_back(b, "iidfile", &iid);
    read_back(b, "metadata.json", &meta);
    const char *id = arena_strndup(&a, sv_trim(buf_sv(&iid)).p, sv_trim(buf_sv(&iid)).n), *digest = NULL;
    if (meta.n && json_parse(&a, buf_sv(&meta), &j, NULL) >= 0) {
        digest = json_get_str(j, "containerimage.digest", NULL);
        jw_init(&w, &shown, 2);
        jw_json(&w, j);
    }
    const struct { const char *title, *key, *value; } out[] = {{"ImageID", "imageid", id}, {"Digest", "digest", digest}, {"Metadata", "metadata", j ? buf_str(&shown) : NULL}};
    for (size_t i = 0; i < ELEMENTS(out); i++) {
        if (!out[i].value || !*out[i].value)
            continue;
        native_group(b->x, out[i].title);
        jobx_say(b->x, "%s", out[i].value);
        native_group(b->x, NULL);
        native_output(b->x, b->s, out[i].key, out[i].value);
    }
}

static int build(struct bp *b, struct strv *env) {
    _cleanup_free_ char *context = NULL;
    int r = find_context(b, &context);
    if (r < 0 || b->s->code || (r = arguments(b, context)) < 0 || b->s->code)
        return r;
    _cleanup_buf_ struct buf line = BUF_MAX(1u << 20);
    for (size_t i = 0; i < b->argv.n; i++)
        buf_addf(&line, "%s%s", i ? " " : "[command]", b->argv.v[i]);
    jobx_say(b->x, "%s", buf_str(&line));
    r = native_exec(b->x, b->s, (const char *const *)b->argv.v, env, b->e);
    if (r == 0)
        results(b);
    else if (r > 0)
        native_fail(b->x, b->s, "buildx failed with: exit code %d", r);
    return r < 0 && r != -ECANCELED ? r : 0;
}

int action_build_push(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    struct bp b = {.x = x, .s = s, .with = with, .e = e};
    _cleanup_strv_ struct strv env = {0};
    char key[17];
    random_id(key, 16);
    snprintf(b.dir, sizeof b.dir, "docker-actions-toolkit-%s", key);
    if (mkdirat(x->temp_fd, b.dir, 0755) < 0 || (x->uid != getuid() && fchownat(x->temp_fd, b.dir, x->uid, x->gid, AT_SYMLINK_NOFOLLOW) < 0) ||
        (x->container && fchmodat(x->temp_fd, b.dir, 0777, 0) < 0))
        return err_errno(e, -errno, "%s", b.dir);
    native_env(x, s, &env);
    int r = build(&b, &env);
    for (unsigned i = 0; i < b.n_secrets; i++) {
        _cleanup_free_ char *rel = xasprintf("%s/secret-%u", b.dir, i);
        unlinkat(x->temp_fd, rel, 0);
    }
    strv_done(&b.argv);
    return r;
}
