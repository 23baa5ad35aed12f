/* build and buildx build. When the engine is slipway's own, the context is not sent: the request
 * names the folder (with its device and inode, so that the engine can tell that it sees the same
 * one) and the engine reads it; else, or when it does not see it, a tar is sent. The engine's
 * builder applies .dockerignore in both cases. */
#include "docker/client/tarball.h"

struct build_opts {
    struct strv tags, args, labels, contexts, secrets, ssh, add_hosts, cache_from, cache_to, outputs, no_cache_filter, annotations, allow;
    const char *file, *target, *iidfile, *metadata, *network, *progress, *platform, *call;
    bool no_cache, pull, push, load, quiet, check;
};

static void build_opts_done(struct build_opts *o) {
    struct strv *all[] = {&o->tags, &o->args, &o->labels, &o->contexts, &o->secrets, &o->ssh, &o->add_hosts, &o->cache_from,
                          &o->cache_to, &o->outputs, &o->no_cache_filter, &o->annotations, &o->allow};
    for (size_t i = 0; i < ELEMENTS(all); i++)
        strv_done(all[i]);
}

/* {"K": "V"} of K=V items; a K alone is null (build args: taken from the environment first). */
static void put_map(struct buf *b, const struct strv *items, bool env) {
    struct json_w w;
    jw_init(&w, b, 0);
    jw_obj(&w);
    for (size_t i = 0; i < items->n; i++) {
        struct sv v = sv_from(items->v[i]), k;
        sv_split(&v, '=', &k);
        _cleanup_free_ char *key = sv_dup(k);
        const char *from = !v.p && env ? getenv(key) : NULL;
        jw_key(&w, key);
        if (v.p)
            jw_sv(&w, v);
        else if (from)
            jw_str(&w, from);
        else if (env)
            jw_null(&w);
        else
            jw_str(&w, "");
    }
    jw_end_obj(&w);
}

/* id=x,src=path or id=x,env=NAME -> a JSON list with the values: they go in the private query. */
static int put_secrets(struct buf *b, const struct strv *secrets, struct err *e) {
    struct json_w w;
    jw_init(&w, b, 0);
    jw_arr(&w);
    for (size_t i = 0; i < secrets->n; i++) {
        struct sv rest = sv_from(secrets->v[i]), part;
        _cleanup_free_ char *id = NULL, *src = NULL, *env = NULL;
        while (sv_split(&rest, ',', &part)) {
            struct sv v = part, k;
            sv_split(&v, '=', &k);
            char **to = sv_eqs(k, "id") ? &id : sv_eqs(k, "src") || sv_eqs(k, "source") ? &src : sv_eqs(k, "env") ? &env : NULL;
            if (!to && !sv_eqs(k, "type"))
                return err_set(e, ERR_USER, -EINVAL, "unexpected key '" SV_FMT "' in '" SV_FMT "'", SV_ARG(k), SV_ARG(part));
            if (to) {
                free(*to);
                *to = sv_dup(v);
            }
        }
        if (!id)
            return err_set(e, ERR_USER, -EINVAL, "--secret: id is missing: %s", secrets->v[i]);
        _cleanup_buf_ struct buf value = BUF_MAX(1u << 20);
        const char *from = env || !src ? getenv(env ? env : id) : NULL;
        int r = 0;
        if (from && (env || !src))
            buf_adds(&value, from);
        else if (env)
            return err_set(e, ERR_USER, -ENOENT, "secret %s: the environment has no %s", id, env);
        else if ((r = fs_read(AT_FDCWD, src ? src : id, &value, e)) < 0)
            return err_wrap(e, r, "secret %s", id);
        _cleanup_buf_ struct buf b64 = BUF_MAX(2u << 20);
        buf_add_base64(&b64, value.p ? value.p : "", value.n);
        jw_obj(&w);
        jw_kstr(&w, "id", id);
        jw_kstr(&w, "value", buf_str(&b64));
        jw_end_obj(&w);
        if (value.p)
            explicit_bzero(value.p, value.n);
    }
    jw_end_arr(&w);
    return 0;
}

static void put_list(struct buf *b, const struct strv *items) {
    struct json_w w;
    jw_init(&w, b, 0);
    jw_arr(&w);
    for (size_t i = 0; i < items->n; i++)
        jw_str(&w, items->v[i]);
    jw_end_arr(&w);
}

/* Named contexts and agents: paths as this job sees them, with what tells that the engine sees the same. */
static int put_paths(struct buf *b, const struct strv *items, bool ssh, struct err *e) {
    struct json_w w;
    jw_init(&w, b, 0);
    jw_arr(&w);
    for (size_t i = 0; i < items->n; i++) {
        const char *eq = strchr(items->v[i], '='), *value = eq ? eq + 1 : ssh ? getenv("SSH_AUTH_SOCK") : NULL;
        _cleanup_free_ char *name = xstrndup(items->v[i], eq ? (size_t)(eq - items->v[i]) : strlen(items->v[i])), *real = NULL;
        struct stat st;
        if (!value || !*value)
            return err_set(e, ERR_USER, -EINVAL, ssh ? "--ssh %s: SSH_AUTH_SOCK is not set" : "--build-context %s: NAME=VALUE", items->v[i]);
        jw_obj(&w);
        jw_kstr(&w, "name", name);
        const char *image = ssh ? NULL : startswith(value, "docker-image://");
        if (image) {
            jw_kstr(&w, "image", image);
        } else if (!ssh && strstr(value, "://")) {
            return err_set(e, ERR_USER, -ENOTSUP, "not yet: --build-context %s", items->v[i]);
        } else {
            real = realpath(value, NULL);
            if (!real || stat(real, &st) < 0)
                return err_set(e, ERR_USER, -ENOENT, "%s: no such file or directory", value);
            jw_kstr(&w, "path", real);
            jw_kint(&w, "dev", (int64_t)st.st_dev);
            jw_kint(&w, "ino", (int64_t)st.st_ino);
        }
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    return 0;
}

static int query_of(const struct build_opts *o, const char *dockerfile, struct buf *q, struct err *e) {
    buf_adds(q, "/build?version=1&rm=1");
    for (size_t i = 0; i < o->tags.n; i++)
        query_add(q, "t", o->tags.v[i]);
    if (dockerfile)
        query_add(q, "dockerfile", dockerfile);
    query_add(q, "target", o->target);
    query_add(q, "platform", o->platform);
    if (o->no_cache)
        buf_adds(q, "&nocache=1");
    if (o->pull)
        buf_adds(q, "&pull=1");
    if (o->quiet)
        buf_adds(q, "&q=1");
    query_add(q, "networkmode", o->network);
    query_add(q, "slipway.call", o->check ? "check" : o->call);
    const struct strv *const paths[] = {&o->contexts, &o->ssh};
    for (size_t i = 0; i < ELEMENTS(paths); i++) {
        _cleanup_buf_ struct buf text = BUF_MAX(1u << 20);
        int r = paths[i]->n ? put_paths(&text, paths[i], i == 1, e) : 0;
        if (r < 0)
            return r;
        if (paths[i]->n)
            query_add(q, i ? "slipway.ssh" : "slipway.contexts", buf_str(&text));
    }
    _cleanup_buf_ struct buf allow = BUF_SMALL;
    for (size_t i = 0; i < o->allow.n; i++)
        buf_addf(&allow, "%s,", o->allow.v[i]);
    if (allow.n)
        query_add(q, "slipway.allow", buf_str(&allow));
    if (o->args.n) {
        _cleanup_buf_ struct buf j = BUF_MAX(1u << 20);
        put_map(&j, &o->args, true);
        query_add(q, "buildargs", buf_str(&j));
    }
    if (o->labels.n) {
        _cleanup_buf_ struct buf j = BUF_MAX(1u << 20);
        put_map(&j, &o->labels, false);
        query_add(q, "labels", buf_str(&j));
    }
    if (o->add_hosts.n) {
        _cleanup_buf_ struct buf j = BUF_MAX(1u << 20);
        for (size_t i = 0; i < o->add_hosts.n; i++)
            buf_addf(&j, "%s%s", i ? "," : "", o->add_hosts.v[i]);
        query_add(q, "extrahosts", buf_str(&j));
    }
    if (o->no_cache_filter.n) {
        _cleanup_buf_ struct buf j = BUF_MAX(1u << 20);
        put_list(&j, &o->no_cache_filter);
        query_add(q, "slipway.nocachefilter", buf_str(&j));
    }
    return buf_ok(q) ? 0 : err_set(e, ERR_USER, -E2BIG, "the options are too long");
}

struct tar_upload {
    const char *dir, *dockerfile; /* dockerfile outside the context: sent as that name */
    struct sv text;
    struct err *e;
};

static int tar_body(void *arg, int (*put)(void *to, const void *p, size_t n), void *to) {
    struct tar_upload *u = arg;
    struct tarball t = {put, to};
    int r = u->dir ? tarball_add(&t, AT_FDCWD, u->dir, "", NULL, NULL, u->e) : 0;
    if (r >= 0 && u->text.p)
        r = tarball_text(&t, u->dockerfile, u->text);
    return r < 0 ? r : tarball_end(&t);
}

/* Sends; secrets travel in a header, which never appears in a log. */
static int send_build(const struct build_opts *o, const char *path, struct tar_upload *u, int body_fd, const char *context,
                      struct sv dockerfile_text, struct progress_sink *ps, int *status, struct err *e) {
    _cleanup_buf_ struct buf auth = BUF_MAX(2u << 20), secrets = BUF_MAX(4u << 20), b64 = BUF_MAX(8u << 20);
    struct err ue = {0};
    registry_auth_all(&auth);
    struct api_req rq = {.method = "POST", .path = path, .content_type = "application/x-tar"};
    rq.headers[rq.n_headers++] = (struct api_header){"X-Registry-Config", buf_str(&auth)};
    if (o->secrets.n) {
        int r = put_secrets(&secrets, &o->secrets, e);
        if (r < 0)
            return r;
        buf_add_base64url(&b64, secrets.p, secrets.n);
        rq.headers[rq.n_headers++] = (struct api_header){"X-Slipway-Secrets", buf_str(&b64)};
    }
    if (context)
        rq.body = dockerfile_text.p ? dockerfile_text : SV("");
    else if (body_fd >= 0)
        rq.body_fd = body_fd;
    else {
        rq.body_fn = tar_body;
        rq.body_arg = u;
        u->e = &ue;
    }
    _cleanup_api_ struct api c;
    int r = api_open(&c, &rq, e);
    if (ue.msg[0]) {
        *e = ue;
        return -EIO;
    }
    if (r < 0)
        return r;
    *status = c.status;
    return api_progress(&c, ps, e);
}

/* Where the Dockerfile is: relative to the context when it lies in it, else its text is sent. */
static int find_dockerfile(const struct build_opts *o, const char *dir, char **ret_rel, struct buf *text, struct err *e) {
    _cleanup_free_ char *cwd = getcwd(NULL, 0), *abs = NULL;
    int r;
    if (o->file && streq(o->file, "-")) {
        if ((r = fs_read_fd(STDIN_FILENO, text)) < 0)
            return err_errno(e, r, "stdin");
        return 0;
    }
    if (!o->file) {
        abs = path_join(dir, "Dockerfile");
        if (!fs_exists(AT_FDCWD, abs))
            return err_set(e, ERR_USER, -ENOENT, "ERROR: unable to prepare context: unable to evaluate symlinks in Dockerfile "
                           "path: lstat %s: no such file or directory", abs);
        *ret_rel = xstrdup("Dockerfile");
        return 0;
    }
    abs = path_join(cwd ? cwd : "/", o->file);
    if (!fs_exists(AT_FDCWD, abs)) { /* docker also takes it relative to the context */
        _cleanup_free_ char *in = path_join(dir, o->file);
        if (!fs_exists(AT_FDCWD, in))
            return err_set(e, ERR_USER, -ENOENT, "ERROR: unable to prepare context: unable to evaluate symlinks in Dockerfile "
                           "path: lstat %s: no such file or directory", abs);
        free(abs);
        abs = xstrdup(in);
    }
    const char *rel = startswith(abs, dir);
    if (rel && (*rel == '/' || streq(dir, "/"))) {
        *ret_rel = xstrdup(*rel == '/' ? rel + 1 : rel);
        return 0;
    }
    return fs_read(AT_FDCWD, abs, text, e);
}

static int build_folder(const struct build_opts *o, const char *arg, struct progress_sink *ps, struct err *e) {
    _cleanup_free_ char *dir = realpath(arg, NULL), *rel = NULL;
    _cleanup_buf_ struct buf text = BUF_MAX(4u << 20), q = BUF_MAX(4u << 20);
    struct stat st;
    int status = 0;
    if (!dir || stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_set(e, ERR_USER, -ENOENT, "ERROR: unable to prepare context: path \"%s\" not found", arg);
    int r = find_dockerfile(o, dir, &rel, &text, e);
    if (r < 0 || (r = query_of(o, rel ? rel : ".slipway.Dockerfile", &q, e)) < 0)
        return r;
    if (is_slipway_engine()) {
        _cleanup_buf_ struct buf q2 = BUF_MAX(4u << 20);
        buf_addsv(&q2, buf_sv(&q));
        query_add(&q2, "slipway.context", dir);
        buf_addf(&q2, "&slipway.dev=%llu&slipway.ino=%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
        if (!rel)
            buf_adds(&q2, "&slipway.text=1");
        r = send_build(o, buf_str(&q2), NULL, -1, dir, rel ? SV_NULL : buf_sv(&text), ps, &status, e);
        if (status != 421) /* 421: the engine does not see this folder */
            return r;
        *e = (struct err){0};
    }
    struct tar_upload u = {.dir = dir, .dockerfile = ".slipway.Dockerfile", .text = rel ? SV_NULL : buf_sv(&text)};
    return send_build(o, buf_str(&q), &u, -1, NULL, SV_NULL, ps, &status, e);
}

/* "-": a Dockerfile or a tar on stdin, told apart by the archive's magic. */
static int build_stdin(const struct build_opts *o, struct progress_sink *ps, struct err *e) {
    _cleanup_buf_ struct buf in = BUF_MAX(2u << 30), q = BUF_MAX(4u << 20);
    int status = 0, r = fs_read_fd(STDIN_FILENO, &in);
    if (r < 0)
        return err_errno(e, r, "stdin");
    struct sv t = buf_sv(&in);
    bool tar = (t.n > 262 && memcmp(t.p + 257, "ustar", 5) == 0) || sv_starts(t, "\x1f\x8b") || sv_starts(t, "\x28\xb5\x2f\xfd");
    if ((r = query_of(o, o->file && tar ? o->file : "Dockerfile", &q, e)) < 0)
        return r;
    if (!tar) {
        struct tar_upload u = {.dockerfile = "Dockerfile", .text = t};
        return send_build(o, buf_str(&q), &u, -1, NULL, SV_NULL, ps, &status, e);
    }
    return send_build(o, buf_str(&q), NULL, -1, "-", t, ps, &status, e);
}

/* The engine fetches it. */
static int build_url(const struct build_opts *o, const char *url, struct progress_sink *ps, struct err *e) {
    _cleanup_buf_ struct buf q = BUF_MAX(4u << 20);
    int status = 0, r = query_of(o, o->file, &q, e);
    if (r < 0)
        return r;
    query_add(&q, "remote", url);
    return send_build(o, buf_str(&q), NULL, -1, "-", SV(""), ps, &status, e);
}

/* --output and --cache-*: what the engine does anyway is fine, the rest is not there yet. */
static int check_outputs(struct build_opts *o, struct err *e) {
    for (size_t i = 0; i < o->outputs.n; i++) {
        const char *v = o->outputs.v[i];
        if (strstr(v, "type=docker") && !strstr(v, "dest="))
            o->load = true;
        else if (streq(v, "type=registry") || (strstr(v, "type=image") && strstr(v, "push=true")))
            o->push = true;
        else if (!strstr(v, "type=image") && !strstr(v, "type=cacheonly"))
            return err_set(e, ERR_USER, -ENOTSUP, "not yet: --output %s", v);
        const char *name = strstr(v, "name=");
        if (name)
            strv_addn(&o->tags, name + 5, strcspn(name + 5, ","));
    }
    if ((o->contexts.n || o->ssh.n || o->check || o->call || o->allow.n) && !is_slipway_engine())
        return err_set(e, ERR_USER, -ENOTSUP, "this engine does not know --build-context, --ssh, --call and --allow");
    if (o->platform && strchr(o->platform, ','))
        return err_set(e, ERR_USER, -ENOTSUP, "not yet: more than one platform (%s)", o->platform);
    if (o->annotations.n && !o->quiet)
        fprintf(stderr, "slipway: --annotation has no effect yet\n");
    if ((o->cache_from.n || o->cache_to.n) && !o->quiet)
        fprintf(stderr, "slipway: --cache-from and --cache-to have no effect: the builder's own cache is used\n");
    return 0;
}

static int push_tags(const struct build_opts *o, char digest[80], struct err *e) {
    int r = 0;
    for (size_t i = 0; i < o->tags.n && r >= 0; i++)
        r = push_image(o->tags.v[i], o->quiet, digest, e);
    return r;
}

/* What buildx tells about a result; the digest is the manifest's, which a push makes. */
static int write_metadata(const struct build_opts *o, const char *id, const char *digest, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(256u << 10), names = BUF_MAX(128u << 10);
    struct json_w w;
    jw_init(&w, &b, 2);
    jw_obj(&w);
    jw_kstr(&w, "containerimage.config.digest", id);
    if (*digest)
        jw_kstr(&w, "containerimage.digest", digest);
    for (size_t i = 0; i < o->tags.n; i++)
        buf_addf(&names, "%s%s", i ? "," : "", o->tags.v[i]);
    if (o->tags.n)
        jw_kstr(&w, "image.name", buf_str(&names));
    jw_end_obj(&w);
    buf_addc(&b, '\n');
    return fs_write(AT_FDCWD, o->metadata, buf_sv(&b), 0644, false, e);
}

int cmd_build(int argc, char **argv) {
    struct build_opts o = {0};
    const struct flag flags[] = {
        {"tag", 't', FLAG_LIST, &o.tags}, {"file", 'f', FLAG_STR, &o.file}, {"target", 0, FLAG_STR, &o.target},
        {"build-arg", 0, FLAG_LIST, &o.args}, {"label", 0, FLAG_LIST, &o.labels}, {"no-cache", 0, FLAG_BOOL, &o.no_cache},
        {"no-cache-filter", 0, FLAG_LIST, &o.no_cache_filter}, {"pull", 0, FLAG_BOOL, &o.pull},
        {"push", 0, FLAG_BOOL, &o.push}, {"load", 0, FLAG_BOOL, &o.load}, {"quiet", 'q', FLAG_BOOL, &o.quiet},
        {"iidfile", 0, FLAG_STR, &o.iidfile}, {"metadata-file", 0, FLAG_STR, &o.metadata},
        {"platform", 0, FLAG_STR, &o.platform}, {"network", 0, FLAG_STR, &o.network}, {"progress", 0, FLAG_STR, &o.progress},
        {"add-host", 0, FLAG_LIST, &o.add_hosts}, {"secret", 0, FLAG_LIST, &o.secrets}, {"ssh", 0, FLAG_LIST, &o.ssh},
        {"build-context", 0, FLAG_LIST, &o.contexts}, {"cache-from", 0, FLAG_LIST, &o.cache_from},
        {"cache-to", 0, FLAG_LIST, &o.cache_to}, {"output", 'o', FLAG_LIST, &o.outputs},
        {"annotation", 0, FLAG_LIST, &o.annotations}, {"check", 0, FLAG_BOOL, &o.check}, {"call", 0, FLAG_STR, &o.call},
        {"rm", 0, FLAG_SKIP}, {"force-rm", 0, FLAG_SKIP}, {"squash", 0, FLAG_NOTYET}, {"compress", 0, FLAG_SKIP},
        {"memory", 'm', FLAG_SKIP_STR}, {"memory-swap", 0, FLAG_SKIP_STR}, {"cpu-shares", 'c', FLAG_SKIP_STR},
        {"cpu-period", 0, FLAG_SKIP_STR}, {"cpu-quota", 0, FLAG_SKIP_STR}, {"cpuset-cpus", 0, FLAG_SKIP_STR},
        {"cpuset-mems", 0, FLAG_SKIP_STR}, {"cgroup-parent", 0, FLAG_SKIP_STR}, {"ulimit", 0, FLAG_SKIP_STR},
        {"shm-size", 0, FLAG_SKIP_STR}, {"isolation", 0, FLAG_SKIP_STR}, {"security-opt", 0, FLAG_SKIP_STR},
        {"disable-content-trust", 0, FLAG_SKIP}, {"provenance", 0, FLAG_SKIP_STR}, {"sbom", 0, FLAG_SKIP_STR},
        {"attest", 0, FLAG_SKIP_STR}, {"builder", 0, FLAG_SKIP_STR}, {"allow", 0, FLAG_LIST, &o.allow},
    };
    _cleanup_strv_ struct strv rest = {0};
    struct err e = {0};
    int r = CMD_FLAGS("build [OPTIONS] PATH | URL | -", flags, argc, argv, &rest, 1, 1), code = r;
    struct progress_sink ps = {.out = stdout};
    if (r >= 0)
        goto out;
    const char *ctx = rest.v[0];
    ps.quiet = o.quiet;
    bool url = strstr(ctx, "://") || startswith(ctx, "git@") || startswith(ctx, "github.com/");
    r = check_outputs(&o, &e);
    if (r >= 0)
        r = url ? build_url(&o, ctx, &ps, &e) : streq(ctx, "-") ? build_stdin(&o, &ps, &e) : build_folder(&o, ctx, &ps, &e);
    bool called = o.check || (o.call && !streq(o.call, "build"));
    if (called) {
        code = r < 0 ? fail_print(&e) : 0;
        goto out;
    }
    if (r >= 0 && !ps.id[0])
        r = err_set(&e, ERR_FAILED, -EPROTO, "the engine did not say which image it built");
    if (r >= 0 && o.quiet)
        puts(ps.id);
    if (r >= 0 && o.iidfile)
        r = fs_write(AT_FDCWD, o.iidfile, sv_from(ps.id), 0644, false, &e);
    char digest[80] = "";
    if (r >= 0 && o.push)
        r = push_tags(&o, digest, &e);
    if (r >= 0 && o.metadata)
        r = write_metadata(&o, ps.id, digest, &e);
    code = r < 0 ? fail_print(&e) : 0;
out:
    build_opts_done(&o);
    return code;
}

/* --- buildx -------------------------------------------------------------------------------- */

static int buildx_version(int argc, char **argv) {
    puts("github.com/docker/buildx v0.0.0-slipway " SLIPWAY_VERSION);
    return 0;
}

static int buildx_ls(int argc, char **argv) {
    puts("NAME/NODE   DRIVER/ENDPOINT   STATUS    BUILDKIT   PLATFORMS\n"
         "default*    docker                                  \n"
         " \\_ default  \\_ default        running   slipway    linux");
    return 0;
}

static int buildx_inspect(int argc, char **argv) {
    puts("Name:   default\nDriver: docker\n\nNodes:\nName:      default\nEndpoint:  default\nStatus:    running\n"
         "Buildkit:  slipway");
    return 0;
}

/* A builder of its own is not needed: the engine's is used for every name. */
static int buildx_create(int argc, char **argv) {
    const char *name = "default";
    for (int i = 1; i < argc; i++) {
        const char *v = startswith(argv[i], "--name=");
        if (v)
            name = v;
        else if (streq(argv[i], "--name") && i + 1 < argc)
            name = argv[i + 1];
    }
    puts(name);
    return 0;
}

static int buildx_nothing(int argc, char **argv) { return 0; }

int cmd_buildx(int argc, char **argv) {
    static const struct command cmds[] = {
        {"build", cmd_build, "Start a build"}, {"b", cmd_build, NULL}, {"version", buildx_version, "Show version information"},
        {"ls", buildx_ls, "List builder instances"}, {"inspect", buildx_inspect, "Inspect the builder"},
        {"create", buildx_create, "Create a builder (the engine's own is used)"}, {"use", buildx_nothing, NULL},
        {"rm", buildx_nothing, NULL}, {"stop", buildx_nothing, NULL}, {"install", buildx_nothing, NULL},
        {"bootstrap", buildx_nothing, NULL},
    };
    /* --builder may stand before the command. */
    while (argc > 1 && startswith(argv[1], "--builder")) {
        int skip = strchr(argv[1], '=') ? 1 : 2;
        if (argc <= skip)
            break;
        argc -= skip;
        argv += skip;
    }
    return dispatch("buildx", cmds, ELEMENTS(cmds), argc, argv);
}
