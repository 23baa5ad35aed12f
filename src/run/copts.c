#include "run/copts.h"

#include "docker/createopts.h"
#include "docker/flags.h"

static const char *const *list(struct jobx *x, const struct strv *v) {
    if (!v->n)
        return NULL;
    const char **out = ARENA_ARRAY(x->a, const char *, v->n + 1);
    for (size_t i = 0; i < v->n; i++)
        out[i] = arena_strdup(x->a, v->v[i]);
    return out;
}

static const char *keep(struct jobx *x, const char *s) { return s ? arena_strdup(x->a, s) : NULL; }

/* "/path", "/path:size=64m,ro" */
static int tmpfs(struct jobx *x, const char *text, struct err *e) {
    struct copts *o = x->copts;
    struct sv opts = sv_from(text), path, one;
    if (!sv_split(&opts, ':', &path) || !path.n || *path.p != '/')
        return err_set(e, ERR_CONFIG, -EINVAL, "--tmpfs %s: an absolute path is expected", text);
    if (o->n_tmpfs == ELEMENTS(o->tmpfs))
        return err_set(e, ERR_CONFIG, -E2BIG, "--tmpfs: more than %zu", ELEMENTS(o->tmpfs));
    o->tmpfs[o->n_tmpfs].path = arena_strndup(x->a, path.p, path.n);
    while (opts.p && sv_split(&opts, ',', &one)) {
        const char *word = arena_strndup(x->a, one.p, one.n), *size = startswith(word, "size=");
        if (size && ram_parse(size, &o->tmpfs[o->n_tmpfs].size) < 0)
            return err_set(e, ERR_CONFIG, -EINVAL, "--tmpfs %s: invalid size", text);
        o->tmpfs[o->n_tmpfs].readonly |= streq(word, "ro");
    }
    o->n_tmpfs++;
    return 0;
}

/* GitHub's runner sets these itself: what a file says is refused, or comes to nothing. */
static int reserved(struct jobx *x, const struct create_opts *o, struct err *e) {
    if (o->network || o->aliases.n)
        return err_set(e, ERR_CONFIG, -EINVAL, "container options: --network is not supported: a job's container is in the job's own network");
    if (o->name)
        return err_set(e, ERR_CONFIG, -EINVAL, "container options: --name is not supported: the container's name is given by the runner");
    if (o->mounts.n || o->volumes_from.n || o->devices.n || o->read_only || o->links.n)
        return err_set(e, ERR_FAILED, -ENOSYS, "container options: %s is not there yet",
                       o->mounts.n ? "--mount (use --volume)" : o->volumes_from.n ? "--volumes-from" : o->devices.n ? "--device"
                       : o->links.n ? "--link" : "--read-only");
    if (o->entrypoint_given)
        jobx_note(x, LEVEL_WARNING, "container options: --entrypoint has no effect: the runner starts the container with a command of its own");
    if (o->workdir)
        jobx_note(x, LEVEL_NOTICE, "container options: --workdir has no effect on steps: they start in the workspace");
    if (o->ulimits.n || o->security_opt.n || o->groups.n || (o->ipc && *o->ipc))
        jobx_note(x, LEVEL_WARNING, "container options: %s has no effect here",
                  o->ulimits.n ? "--ulimit" : o->security_opt.n ? "--security-opt" : o->groups.n ? "--group-add" : "--ipc");
    if (o->privileged)
        jobx_note(x, LEVEL_NOTICE, "container options: --privileged gives every capability of the job's own user namespace, and none of this machine's");
    return 0;
}

static int take(struct jobx *x, const struct create_opts *o, struct strv *volumes, struct err *e) {
    struct copts *c = x->copts;
    double cpus = o->cpus ? strtod(o->cpus, NULL) : 0;
    int r = reserved(x, o, e);
    if (r < 0)
        return r;
    if (o->cpus && !(cpus > 0 && cpus < 1e6))
        return err_set(e, ERR_CONFIG, -EINVAL, "container options: --cpus %s is no number of processors", o->cpus);
    c->nano_cpus = (uint64_t)(cpus * 1e9);
    if (o->memory)
        ram_parse(o->memory, &c->memory);
    if (o->shm_size)
        ram_parse(o->shm_size, &c->shm);
    c->pids = o->pids_limit > 0 && o->pids_limit < UINT32_MAX ? (uint32_t)o->pids_limit : 0;
    c->privileged = o->privileged;
    c->hostname = keep(x, o->hostname);
    if (o->user)
        x->user = keep(x, o->user);
    c->cap_add = list(x, &o->cap_add);
    c->cap_drop = list(x, &o->cap_drop);
    c->dns = list(x, &o->dns);
    for (size_t i = 0; i < o->add_host.n; i++)
        if (!strchr(o->add_host.v[i], ':'))
            return err_set(e, ERR_CONFIG, -EINVAL, "container options: bad format for add-host: \"%s\"", o->add_host.v[i]);
    c->hosts = list(x, &o->add_host);
    for (size_t i = 0; i < o->env.n; i++)
        if (strchr(o->env.v[i], '=')) /* without a value it is the runner machine's, which is not there */
            strv_add(&x->image_env, o->env.v[i]);
    strv_extend(volumes, (const char *const *)o->volumes.v);
    for (size_t i = 0; i < o->tmpfs.n && r >= 0; i++)
        r = tmpfs(x, o->tmpfs.v[i], e);
    return r;
}

int container_options(struct jobx *x, const char *text, struct strv *volumes, struct err *e) {
    _cleanup_strv_ struct strv given = {0}, words = {0};
    struct create_opts o = {0};
    bool help = false;
    int r = words_split(text, &given, e);
    for (size_t i = 0; i < given.n; i++) /* `--rm` is one of docker create too, and nothing stays anyway */
        if (!streq(given.v[i], "--rm"))
            strv_add(&words, given.v[i]);
    x->copts = ARENA_NEW(x->a, struct copts);
    if (r >= 0)
        r = create_opts_parse(&o, CREATE_SERVICE, (int)words.n, words.v, &help, e);
    if (r >= 0)
        r = take(x, &o, volumes, e);
    create_opts_done(&o);
    return r;
}
