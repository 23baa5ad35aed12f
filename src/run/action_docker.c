/* Docker actions, docker://image and Bitbucket's pipes: a container of the job's own engine, on its
 * network, with the mounts and paths that a hosted runner gives. Built and started by the docker
 * client in the job's box, so that paths mean what the job sees, output and signals go the way of
 * any other process, and nothing outlives the job. Source: actions/runner ContainerActionHandler. */
#include "run/action.h"

#include "core/fs.h"
#include "core/loop.h"
#include "run/place.h"
#include "run/results.h"

static int client(struct jobx *x, const char *const *argv, double minutes, struct step *s, const struct value *own, struct err *e) {
    _cleanup_strv_ struct strv env = {0};
    jobx_env(x, own, &env);
    int code = 1, r;
    enum exec_end end = EXEC_EXITED;
    struct exec_spec es = {.argv = argv, .envp = (const char *const *)env.v, .cwd = x->workspace, .user = x->user, .deadline_ns = step_deadline(x, minutes)};
    r = jobx_exec(x, &es, &code, &end, e);
    output_end(x->out);
    if (r >= 0 && (code || end != EXEC_EXITED))
        step_conclude(x, s, code, end, minutes);
    return r;
}

/* --- the image -------------------------------------------------------------------------------- */

/* Builds the action's Dockerfile, once per job. 1: it failed, and the step with it. */
static int build(struct jobx *x, struct step *s, double minutes, struct err *e) {
    const struct github_action *def = s->action->def;
    char key[17];
    random_id(key, 16);
    _cleanup_free_ char *file = path_join(s->action->dir, def->image.s), *context = path_dir(file);
    _cleanup_free_ char *id_file = xasprintf("%s/image-%s", x->temp, key);
    const char *argv[] = {"docker", "build", "--iidfile", id_file, "-f", file, context, NULL};
    _cleanup_buf_ struct buf id = BUF_SMALL;
    jobx_emit(x, &(struct event){.kind = EV_GROUP, .text = SV("Build container for action use")});
    int r = client(x, argv, minutes, s, NULL, e);
    jobx_emit(x, &(struct event){.kind = EV_GROUP});
    if (r < 0 || s->outcome != OUT_NONE)
        return r < 0 ? r : 1;
    if ((r = x->place->read_file(x, id_file, &id, e)) < 0)
        return err_wrap(e, r, "the image of %s", s->action->uses);
    struct sv v = sv_trim(buf_sv(&id));
    s->action->image = arena_strndup(x->a, v.p, v.n);
    return 0;
}

/* pipe://owner/name:tag: its repository's pipe.yml names the image. */
static int pipe_image(struct jobx *x, struct action *a, const char *name, struct err *e) {
    const char *colon = strrchr(name, ':'), *slash = strchr(name, '/');
    if (!slash)
        return err_set(e, ERR_CONFIG, -EINVAL, "pipe: \"%s\" is not OWNER/NAME:TAG", name);
    _cleanup_free_ char *repo = colon ? xstrndup(name, (size_t)(colon - name)) : xstrdup(name);
    const char *tag = colon ? colon + 1 : "master";
    _cleanup_remote_ struct remote_at at = {0};
    _cleanup_buf_ struct buf text = BUF_SMALL;
    struct remote_conf conf;
    struct err why = {0};
    run_remote(x->run, &conf);
    conf.server_url = "https://bitbucket.org";
    int r = remote_find(&conf, repo, tag, &at, &why);
    if (r >= 0 && (r = remote_read(&at, "pipe.yml", &text, &why)) >= 0) {
        struct sv rest = buf_sv(&text), line;
        while (sv_line(&rest, &line)) {
            if (!sv_starts(line, "image:"))
                continue;
            line = sv_trim(sv_sub(line, 6, SIZE_MAX));
            while (line.n && strchr("\"' ", *line.p))
                line = sv_sub(line, 1, SIZE_MAX);
            while (line.n && strchr("\"' ", line.p[line.n - 1]))
                line.n--;
            a->image = arena_strndup(x->a, line.p, line.n);
            return 0;
        }
        err_set(&why, ERR_CONFIG, -EINVAL, "its pipe.yml names no image");
    }
    if (startswith(name, "atlassian/")) { /* their images bear the pipes' names */
        a->image = arena_printf(x->a, "bitbucketpipelines/%s", name + 10);
        return 0;
    }
    return err_set(e, ERR_NOTFOUND, -ENOENT, "the pipe %s: %s", name, why.msg);
}

static int image(struct jobx *x, struct step *s, double minutes, struct err *e) {
    struct action *a = s->action;
    const char *name;
    if (a->image)
        return 0;
    if ((name = startswith(a->uses, "pipe://")))
        return pipe_image(x, a, name, e);
    if ((name = startswith(a->def->image.s, "docker://"))) {
        a->image = name;
        return 0;
    }
    return build(x, s, minutes, e);
}

/* --- arguments -------------------------------------------------------------------------------- */

/* One text as a command line: blanks part, quotes hold together, a backslash keeps a quote. */
static void split(struct sv s, struct strv *ret) {
    _cleanup_buf_ struct buf word = BUF_MAX(1u << 20);
    char quote = 0;
    bool in = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '\\' && i + 1 < s.n && quote != '\'' && strchr("\"\\'", s.p[i + 1])) {
            buf_addc(&word, s.p[++i]);
            in = true;
        } else if (quote ? c == quote : c == '"' || c == '\'') {
            quote = quote ? 0 : c;
            in = true;
        } else if (!quote && strchr(" \t\r\n", c)) {
            if (in)
                strv_add(ret, buf_str(&word));
            buf_reset(&word);
            in = false;
        } else {
            buf_addc(&word, c);
            in = true;
        }
    }
    if (in)
        strv_add(ret, buf_str(&word));
}

static const char *input(const struct step *s, const char *name) {
    const struct value *v = s->inputs ? val_gets(s->inputs, name) : NULL;
    return v && v->str.n ? v->str.p : NULL;
}

static int arguments(struct jobx *x, struct step *s, struct ctx *c, struct strv *ret, struct err *e) {
    const struct github_action *def = s->action->def;
    if (def && def->args.n)
        return ctx_list(c, &def->args, ret, e);
    if (input(s, "args"))
        split(sv_from(input(s, "args")), ret);
    return 0;
}

static const char *entrypoint(const struct step *s, enum action_stage stage) {
    const struct github_action *def = s->action->def;
    if (stage != STAGE_MAIN)
        return stage == STAGE_PRE ? def->pre_entrypoint.s : def->post_entrypoint.s;
    return input(s, "entrypoint") ? input(s, "entrypoint") : def && def->entrypoint.n ? def->entrypoint.s : NULL;
}

/* --- the container ------------------------------------------------------------------------------ */

/* How a path of the job is named inside. */
static char *inside(struct jobx *x, const char *path, const struct strv *mounts) {
    for (size_t i = 0; i < mounts->n; i++) {
        const char *colon = strrchr(mounts->v[i], ':'), *rest;
        _cleanup_free_ char *from = xstrndup(mounts->v[i], (size_t)(colon - mounts->v[i]));
        if ((rest = startswith(path, from)) && (!*rest || *rest == '/'))
            return xasprintf("%s%s", colon + 1, rest);
    }
    return NULL;
}

/* What the job's image or the host has set does not reach an action's container. */
static bool of_image(const struct jobx *x, const char *item) {
    for (size_t i = 0; i < x->image_env.n; i++)
        if (streq(x->image_env.v[i], item))
            return true;
    return false;
}

static void pass_env(struct jobx *x, const struct strv *env, const struct strv *mounts, struct strv *argv) {
    for (size_t i = 0; i < env->n; i++) {
        struct sv v, k = env_split(env->v[i], &v);
        if (sv_eqs(k, "PATH") || sv_eqs(k, "HOME") || sv_eqs(k, "DOCKER_HOST") || !k.n || of_image(x, env->v[i]))
            continue;
        strv_add(argv, "-e");
        _cleanup_free_ char *there = sv_starts(k, "GITHUB_") || sv_eqs(k, "RUNNER_TEMP") ? inside(x, v.p, mounts) : NULL;
        if (there)
            strv_addf(argv, SV_FMT "=%s", SV_ARG(k), there);
        else /* the value comes from the client's environment and stands on no command line */
            strv_addn(argv, k.p, k.n);
    }
}

static int home(struct jobx *x, struct err *e) {
    if (x->container)
        return 0;
    if (mkdirat(x->temp_fd, "_github_home", 0777) < 0)
        return errno == EEXIST ? 0 : err_errno(e, -errno, "_github_home");
    if (fchmodat(x->temp_fd, "_github_home", 0777, 0) < 0 ||
        (x->uid != getuid() && fchownat(x->temp_fd, "_github_home", x->uid, x->gid, 0) < 0))
        return err_errno(e, -errno, "_github_home");
    return 0;
}

/* Longest first: the first that fits names a path inside. */
static void mounts_of(struct jobx *x, struct strv *ret) {
    strv_addf(ret, "%s/_runner_file_commands:/github/file_commands", x->temp);
    strv_addf(ret, "%s:/github/home", x->container ? "/github/home" : arena_printf(x->a, "%s/_github_home", x->temp));
    strv_addf(ret, "%s/_github_workflow:/github/workflow", x->temp);
    strv_addf(ret, "%s:/github/runner_temp", x->temp);
    strv_addf(ret, "%s:/github/workspace", x->workspace);
}

static void pipe_mounts(struct jobx *x, const struct action *a, struct strv *mounts, struct strv *argv) {
    const char *name = startswith(a->uses, "pipe://"), *colon = name ? strrchr(name, ':') : NULL;
    strv_addf(mounts, "%s:%s", x->workspace, x->workspace);
    strv_addf(mounts, "%s:%s", x->temp, x->temp);
    strv_extend(argv, (const char *const[]){"--workdir", x->workspace, NULL});
    const char *top = arena_printf(x->a, "%s/.bitbucket/pipelines/generated/pipeline/pipes", x->workspace);
    strv_add(argv, "-e");
    strv_addf(argv, "BITBUCKET_PIPE_SHARED_STORAGE_DIR=%s", top);
    strv_add(argv, "-e");
    strv_addf(argv, "BITBUCKET_PIPE_STORAGE_DIR=%s/%.*s", top, name ? (int)(colon ? colon - name : (ssize_t)strlen(name)) : 6, name ? name : "docker");
}

static int container(struct jobx *x, struct step *s, struct ctx *c, enum action_stage stage, struct strv *env, struct strv *argv, const char *name,
                     struct err *e) {
    _cleanup_strv_ struct strv mounts = {0};
    const char *entry = entrypoint(s, stage);
    strv_extend(argv, (const char *const[]){"docker", "run", "--rm", "--name", name, NULL});
    if (x->bitbucket) {
        pipe_mounts(x, s->action, &mounts, argv);
    } else {
        int r = home(x, e);
        if (r < 0)
            return r;
        mounts_of(x, &mounts);
        strv_extend(argv, (const char *const[]){"--workdir", "/github/workspace", "-e", "HOME=/github/home", NULL});
    }
    if (!x->host) {
        strv_add(argv, "-v");
        strv_add(argv, "/var/run/docker.sock:/var/run/docker.sock");
    }
    for (size_t i = 0; i < mounts.n; i++) {
        strv_add(argv, "-v");
        strv_add(argv, mounts.v[i]);
    }
    pass_env(x, env, &mounts, argv);
    if (entry && *entry) {
        strv_add(argv, "--entrypoint");
        strv_add(argv, entry);
    }
    strv_add(argv, s->action->image);
    return arguments(x, s, c, argv, e);
}

/* runs.env of action.yml, where nothing else has set it. */
static int own_env(struct step *s, struct ctx *c, struct strv *env, struct err *e) {
    const struct github_action *def = s->action->def;
    struct value *m;
    if (!def || (!def->env.n && !def->env.whole.s))
        return 0;
    int r = ctx_map(c, &def->env, false, &m, e);
    for (size_t i = 0; r >= 0 && i < m->n; i++) {
        _cleanup_free_ char *k = sv_dup(m->keys[i]);
        if (!strv_env_get(env, k))
            strv_env_set(env, k, m->items[i]->str.p);
    }
    return r;
}

int action_docker(struct jobx *x, struct step *s, enum action_stage stage, double minutes, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_strv_ struct strv env = {0}, argv = {0};
    struct ctx c;
    char key[17];
    int r = image(x, s, minutes, e);
    if (r)
        return r < 0 ? r : 0;
    random_id(key, 16);
    _cleanup_free_ char *name = xasprintf("action-%s", key);
    ctx_init(&c, &a);
    if (s->inputs)
        ctx_set(&c, "inputs", s->inputs);
    action_env(x, s, s->own, &env);
    if ((r = own_env(s, &c, &env, e)) < 0 || (!x->bitbucket && (r = results_env(x, &env, e)) < 0))
        return r;
    if (!x->bitbucket && (r = step_files_make(x, key, &env, e)) < 0)
        return r;
    if ((r = container(x, s, &c, stage, &env, &argv, name, e)) < 0)
        return r;
    struct exec_spec es = {.argv = (const char *const *)argv.v, .envp = (const char *const *)env.v, .cwd = x->workspace, .user = x->user,
                           .deadline_ns = step_deadline(x, minutes)};
    int code = 1;
    enum exec_end end = EXEC_EXITED;
    r = jobx_exec(x, &es, &code, &end, e);
    output_end(x->out);
    if (end != EXEC_EXITED)
        (void)jobx_capture(x, (const char *const[]){"docker", "rm", "-f", name, NULL}, x->user, NULL, NULL);
    if (!x->bitbucket)
        step_files_take(x, key);
    else
        snprintf(x->last_code, sizeof x->last_code, "%d", r < 0 ? 1 : code);
    if (r >= 0)
        step_conclude(x, s, code, end, minutes);
    return r;
}
