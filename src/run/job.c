/* One job from its root to its last output: image, network, docker engine, box, services, steps,
 * outputs, and away with all of it. Runs on the leg's own thread.
 *
 * The job's folder of work ("/home/runner/work", "/__w" in a container) is one bind mount of a
 * folder in the job's scratch, so that scripts, file commands, the event and the docker socket are
 * written from here without asking the box; its files belong to the box's `runner` as the host sees
 * that id. The workspace in it is empty until a checkout covers it. */
#include "run/action.h"
#include "run/copts.h"
#include "run/dlcache.h"
#include "run/held.h"
#include "run/matchers.h"
#include "run/place.h"
#include "run/results.h"

#include "base/hostenv.h"
#include "core/fs.h"
#include "core/proc.h"
#include "image/registry.h"

#include <sys/mount.h>
#include <sys/syscall.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

void jobx_late(struct jobx *x, void (*fn)(struct jobx *x, void *arg), void *arg) {
    struct late *l = xcalloc(1, sizeof *l);
    l->fn = fn;
    l->arg = arg;
    l->next = x->late;
    x->late = l;
}

/* --- environment --------------------------------------------------------------------------- */

static void env_put(struct strv *env, struct sv key, struct sv value) {
    _cleanup_free_ char *k = sv_dup(key), *v = sv_dup(value);
    if (*k && !strchr(k, '='))
        strv_env_set(env, k, v);
}

static void env_add(struct strv *env, const struct strv *more) {
    for (size_t i = 0; i < more->n; i++) {
        struct sv v, k = env_split(more->v[i], &v);
        env_put(env, k, v);
    }
}

void jobx_env(struct jobx *x, const struct value *own, struct strv *ret) {
    env_add(ret, &x->image_env);
    env_add(ret, &x->env);
    for (size_t i = 0; own && i < own->n; i++)
        env_put(ret, own->keys[i], own->items[i]->str);
    env_add(ret, &x->base_env);
    const char *path = strv_env_get(ret, "PATH");
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    if (x->held_dir)
        buf_addf(&b, "%s:", x->held_dir);
    for (size_t i = x->path.n; i-- > 0;)
        buf_addf(&b, "%s:", x->path.v[i]);
    buf_adds(&b, path && *path ? path : DEFAULT_PATH);
    strv_env_set(ret, "PATH", buf_str(&b));
}

static void base(struct jobx *x, const char *key, const char *value) {
    strv_addf(&x->base_env, "%s=%s", key, value ? value : "");
}

/* The documented default variables, from the github context. */
static void default_env(struct jobx *x) {
    static const char *const keys[] = {
        "token-", "job", "ref", "sha", "repository", "repository_owner", "repository_id", "repository_owner_id",
        "run_id", "run_number", "run_attempt", "retention_days", "actor", "actor_id", "triggering_actor", "workflow",
        "head_ref", "base_ref", "event_name", "server_url", "api_url", "graphql_url", "ref_name", "ref_protected",
        "ref_type", "workflow_ref", "workflow_sha", "workspace", "event_path"};
    base(x, "CI", "true");
    base(x, "GITHUB_ACTIONS", "true");
    for (size_t i = 1; i < ELEMENTS(keys); i++) {
        struct sv v = val_to_string(x->a, val_gets(x->github, keys[i]) ? val_gets(x->github, keys[i]) : &val_null);
        _cleanup_free_ char *k = xasprintf("GITHUB_%s", keys[i]);
        for (char *p = k; *p; p++)
            if (*p >= 'a' && *p <= 'z')
                *p = (char)(*p - 32);
        base(x, k, v.p);
    }
    for (size_t i = 0; i < x->runner->n; i++) {
        struct sv k = x->runner->keys[i];
        if (sv_eqs(k, "debug") && !x->rq->debug)
            continue;
        _cleanup_free_ char *name = xasprintf("RUNNER_" SV_FMT, SV_ARG(k));
        for (char *p = name; *p; p++)
            if (*p >= 'a' && *p <= 'z')
                *p = (char)(*p - 32);
        base(x, name, x->runner->items[i]->str.p);
    }
    base(x, "HOME", x->home);
    if (!x->host)
        base(x, "DOCKER_HOST", "unix:///var/run/docker.sock");
    if (x->rq->debug)
        base(x, "ACTIONS_STEP_DEBUG", "true");
}

static int job_env(struct jobx *x, struct err *e) {
    struct ctx c;
    struct value *m;
    int r;
    ctx_init(&c, x->a);
    ctx_leg(&c, x->leg);
    ctx_set(&c, "github", x->github);
    ctx_set(&c, "secrets", x->secrets);
    for (int i = 0; i < 2; i++) {
        ctx_set(&c, "env", ctx_from_env(x->a, &x->env));
        if ((r = ctx_map(&c, i ? &x->pj->env : &x->leg->flow->plan->env, false, &m, e)) < 0)
            return r;
        for (size_t k = 0; k < m->n; k++)
            env_put(&x->env, m->keys[k], m->items[k]->str);
    }
    env_add(&x->env, &x->rq->env);
    return 0;
}

/* --- contexts that stay ---------------------------------------------------------------------- */

static void job_contexts(struct jobx *x) {
    struct run *r = x->run;
    struct value *g = val_object(x->a), *rn = val_object(x->a);
    const struct value *fg = x->leg->flow->github;
    for (size_t i = 0; i < fg->n; i++)
        val_set(x->a, g, fg->keys[i], fg->items[i]);
    val_set_str(x->a, g, "job", x->pj->id);
    val_set_str(x->a, g, "workspace", x->workspace);
    val_set_str(x->a, g, "event_path", arena_printf(x->a, "%s/_github_workflow/event.json", x->temp));
    val_set_str(x->a, g, "path", "");
    x->github = g;
    val_set_str(x->a, rn, "os", "Linux");
#if defined(__aarch64__)
    val_set_str(x->a, rn, "arch", "ARM64");
#else
    val_set_str(x->a, rn, "arch", "X64");
#endif
    val_set_str(x->a, rn, "name", "slipway");
    val_set_str(x->a, rn, "environment", x->host ? "self-hosted" : "github-hosted");
    val_set_str(x->a, rn, "tool_cache", x->tool_cache);
    val_set_str(x->a, rn, "temp", x->temp);
    val_set_str(x->a, rn, "workspace", arena_printf(x->a, "%s/%s", x->work, r->repo_name));
    val_set_str(x->a, rn, "debug", x->rq->debug ? "1" : "");
    x->runner = rn;
    x->secrets = ctx_leg_secrets(x->leg, x->a);
}

static int job_paths(struct jobx *x, struct err *e) {
    const char *repo = x->run->repo_name;
    x->bitbucket = x->leg->flow->plan->dialect == DIALECT_BITBUCKET;
    x->container = x->pj->container.image.s || x->pj->container.whole.s;
    if (x->bitbucket) {
        x->work = "/opt/atlassian/pipelines/agent";
        x->workspace = "/opt/atlassian/pipelines/agent/build";
        x->temp = "/opt/atlassian/pipelines/agent/tmp";
        x->tool_cache = "/opt/hostedtoolcache";
        x->home = "/root";
        return 0;
    }
    int r = job_on_host(x, e);
    if (r < 0)
        return r;
    if (x->host)
        return host_prepare(x, e);
    x->work = x->container ? "/__w" : "/home/runner/work";
    x->temp = arena_printf(x->a, "%s/_temp", x->work);
    x->workspace = arena_printf(x->a, "%s/%s/%s", x->work, repo, repo);
    x->tool_cache = x->container ? "/__t" : "/opt/hostedtoolcache";
    x->home = x->container ? "/github/home" : "/home/runner";
    return 0;
}

/* --- scratch --------------------------------------------------------------------------------- */

static int folder(struct jobx *x, const char *path, mode_t mode, struct err *e) {
    if (mkdirat(x->scratch, path, mode) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "%s", path);
    if (fchmodat(x->scratch, path, mode, 0) < 0 || (x->uid != getuid() && fchownat(x->scratch, path, x->uid, x->gid, 0) < 0))
        return err_errno(e, -errno, "%s", path);
    return 0;
}

/* The job's lease and folder, and who its files belong to. */
static int own_scratch(struct jobx *x, struct err *e) {
    struct keeper *k;
    int r;
    if ((r = lease_new(x->rq->store, "job", &x->lease, e)) < 0 || (r = store_keeper(x->rq->store, &k, e)) < 0)
        return r;
    x->uid = idmap_uid_out(keeper_idmap(k), ID_RUNNER);
    x->gid = idmap_gid_out(keeper_idmap(k), ID_RUNNER);
    if (x->uid == UINT32_MAX) { /* one identity only */
        x->uid = getuid();
        x->gid = getgid();
    }
    if ((x->scratch = lease_scratch(x->lease, e)) < 0)
        return x->scratch;
    x->scratch_path = lease_scratch_path(x->lease);
    return 0;
}

static int scratch(struct jobx *x, struct err *e) {
    int r = x->host ? 0 : own_scratch(x, e);
    if (r < 0)
        return r;
    const char *repo = x->run->repo_name, *temp = x->bitbucket ? "work/tmp" : "work/_temp";
    _cleanup_free_ char *fc = xasprintf("%s/_runner_file_commands", temp), *ev = xasprintf("%s/_github_workflow", temp);
    _cleanup_free_ char *w1 = x->bitbucket ? xstrdup("work/build") : xasprintf("work/%s", repo);
    _cleanup_free_ char *w2 = x->bitbucket ? xstrdup("work/caches") : xasprintf("work/%s/%s", repo, repo);
    if ((r = folder(x, "work", 0755, e)) < 0 || (r = folder(x, temp, 0777, e)) < 0 || (r = folder(x, fc, 0777, e)) < 0 ||
        (r = folder(x, ev, 0755, e)) < 0 || (r = folder(x, w1, 0755, e)) < 0 || (r = folder(x, w2, 0755, e)) < 0 ||
        (r = folder(x, "home", 0755, e)) < 0 || (r = folder(x, "tools", 0755, e)) < 0)
        return r;
    x->temp_fd = openat(x->scratch, temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    x->cmd_fd = openat(x->scratch, fc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (x->temp_fd < 0 || x->cmd_fd < 0)
        return err_errno(e, -errno, "%s", fc);
    _cleanup_buf_ struct buf b = BUF_LARGE;
    val_to_json(val_gets(x->leg->flow->github, "event"), &b, 2);
    return fs_write(x->temp_fd, "_github_workflow/event.json", buf_sv(&b), 0644, false, e);
}

int job_pipes(struct jobx *x, struct err *e) {
    int fd[2];
    struct output_ops ops = {step_command, step_text, x};
    if (pipe2(fd, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    x->out_r = fd[0];
    x->out_w = fd[1];
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    fcntl(fd[1], F_SETPIPE_SZ, 1 << 20);
    x->out = output_new(x->rq->masker, &ops);
    return 0;
}

/* --- pushes and logins ------------------------------------------------------------------------- */

static bool allowed(const struct run_request *rq, const char *registry) {
    for (size_t i = 0; i < rq->allow_push.n; i++)
        if (streq(rq->allow_push.v[i], "*") || streq(rq->allow_push.v[i], registry))
            return true;
    return false;
}

static int may_push(void *arg, const struct image_ref *ref, struct err *e) {
    struct jobx *x = arg;
    return allowed(x->rq, ref->registry) ? 0 : 1;
}

static void pushed(void *arg, const char *ref, const char *digest, uint64_t size, bool captured) {
    struct jobx *x = arg;
    struct event ev = {.run = x->run->id, .job = x->leg->name, .name = ref, .detail = digest, .total = size};
    if (captured) {
        ev.kind = EV_CAPTURED;
        atomic_fetch_add(&x->run->captured, 1);
    } else {
        ev.kind = EV_NOTE;
        ev.level = LEVEL_NOTICE;
        ev.text = SV("pushed");
    }
    events_emit(x->rq->events, &ev);
}

static int may_login(void *arg, const char *registry, const char *user, const char *pass, struct buf *warn) {
    struct jobx *x = arg;
    if (allowed(x->rq, registry))
        return 0;
    if (!user || !*user || !pass || !*pass)
        buf_addf(warn, "no user or no password was given for %s; this run keeps its pushes, so the login counts", registry);
    return 1;
}

static int captured_image(void *arg, const struct image_ref *ref, struct image **ret) {
    struct jobx *x = arg;
    return registry_find(x->rq->store, x->lease, ref, x->run->id, ret, NULL);
}

/* --- the box ----------------------------------------------------------------------------------- */

static int open_path(const char *path) { return open(path, O_PATH | O_CLOEXEC); }

/* The files of ours and of the host that a job sees, as bind mounts. */
struct mounts {
    struct box_mount m[16];
    size_t n;
};

static void bind(struct mounts *ms, int fd, const char *target, bool readonly) {
    if (fd < 0 || ms->n == ELEMENTS(ms->m)) {
        fd_close(fd);
        return;
    }
    ms->m[ms->n++] = (struct box_mount){.kind = BOX_BIND, .target = target, .source_fd = fd, .readonly = readonly, .nosuid = false};
}

static int start_engine(struct jobx *x, const char *ca, struct err *e) {
    _cleanup_free_ char *sock = xasprintf("%s/docker.sock", x->scratch_path), *auth = xasprintf("%s/docker-auth.json", x->scratch_path);
    struct engine_options o = {.name = x->leg->name, .store = x->rq->store, .lease = x->lease, .loop = x->run->loop,
                               .loop_elsewhere = true, .net = x->net, .pulls = &x->pulls, .env_passthrough = (const char *const *)x->host_env.v, .ca_bundle = ca ? arena_strdup(x->a, ca) : NULL,
                               .may_push = may_push, .pushed = pushed, .may_login = may_login, .arg = x, .run_id = x->run->id,
                               .auth_file = arena_strdup(x->a, auth)};
    int r = engine_new(&x->engine, &o, e);
    return r < 0 ? r : engine_listen(x->engine, sock, e);
}

/* A Bitbucket step has 4 GB times its size. */
static uint64_t memory_of(const struct jobx *x) {
    return x->bitbucket && x->pj->bb && x->pj->bb->size ? (uint64_t)x->pj->bb->size * (4ull << 30) : 0;
}

/* What `options:` of the container say; a limit of the run's own stands. */
static void box_options(struct jobx *x, struct box_spec *s, struct mounts *ms) {
    const struct copts *o = x->copts;
    if (o->hostname)
        s->hostname = o->hostname;
    if (o->memory && (!s->limits.memory || o->memory < s->limits.memory))
        s->limits.memory = o->memory;
    if (o->nano_cpus && (!s->limits.nano_cpus || o->nano_cpus < s->limits.nano_cpus))
        s->limits.nano_cpus = o->nano_cpus;
    if (o->pids && (!s->limits.pids || o->pids < s->limits.pids))
        s->limits.pids = o->pids;
    s->limits.shm = o->shm;
    s->privileged = o->privileged;
    s->cap_add = o->cap_add;
    s->cap_drop = o->cap_drop;
    s->hosts = o->hosts;
    s->dns = o->dns;
    for (size_t i = 0; i < o->n_tmpfs && ms->n < ELEMENTS(ms->m); i++)
        ms->m[ms->n++] = (struct box_mount){.kind = BOX_TMPFS, .target = o->tmpfs[i].path, .source_fd = -1, .size = o->tmpfs[i].size,
                                            .readonly = o->tmpfs[i].readonly, .mode = 01777, .nosuid = true, .nodev = true};
    s->n_mounts = ms->n;
}

static int make_box(struct jobx *x, const char *ca, struct err *e) {
    struct mounts ms = {0};
    _cleanup_free_ char *sock = xasprintf("%s/docker.sock", x->scratch_path);
    bind(&ms, openat(x->scratch, "work", O_PATH | O_DIRECTORY | O_CLOEXEC), x->work, false);
    if (x->container) {
        bind(&ms, openat(x->scratch, "home", O_PATH | O_DIRECTORY | O_CLOEXEC), "/github/home", false);
        bind(&ms, openat(x->temp_fd, "_github_workflow", O_PATH | O_DIRECTORY | O_CLOEXEC), "/github/workflow", false);
        bind(&ms, openat(x->scratch, "tools", O_PATH | O_DIRECTORY | O_CLOEXEC), "/__t", false);
    }
    if (x->engine)
        bind(&ms, open_path(sock), "/run/docker.sock", false);
    if (ca)
        bind(&ms, open_path(ca), BOX_CA_BUNDLE, true);
    if (x->held_fd >= 0)
        bind(&ms, fcntl(x->held_fd, F_DUPFD_CLOEXEC, 3), x->held_dir, true);
    struct box_spec spec = {.name = x->leg->name, .layers = NULL, .hostname = "runner", .mounts = ms.m, .n_mounts = ms.n,
                            .net = x->net, .limits = {x->rq->limits.memory ? x->rq->limits.memory : memory_of(x), x->rq->limits.nano_cpus, x->rq->limits.pids, 0}};
    if (x->copts)
        box_options(x, &spec, &ms);
    /* Layers of an image are bottom first, those of a box top first. */
    const char **layers = ARENA_ARRAY(x->a, const char *, x->image->layers.n + 1);
    for (size_t i = 0; i < x->image->layers.n; i++)
        layers[i] = x->image->layers.v[x->image->layers.n - 1 - i];
    spec.layers = layers;
    spec.n_layers = x->image->layers.n;
    int r = box_create(x->rq->store, x->lease, &spec, &x->box, e);
    for (size_t i = 0; i < ms.n; i++)
        fd_close(ms.m[i].source_fd);
    if (r >= 0 && x->engine)
        engine_set_job(x->engine, x->box);
    return r;
}

/* What the image has, asked at once. */
static int look_around(struct jobx *x, bool *ret_docker, struct err *e) {
    static const char *const paths[] = {"/usr/bin/docker", "/usr/local/bin/docker", "/bin/bash", "/usr/local/bin/bash",
                                        "/etc/apt/apt.conf.d"};
    char is[ELEMENTS(paths)];
    int r = box_probe(x->box, paths, ELEMENTS(paths), is, e);
    if (r < 0)
        return r;
    *ret_docker = is[0] == '1' || is[1] == '1';
    x->has_bash = is[2] == '1' || is[3] == '1';
    x->has_apt = is[4] == '1';
    return 0;
}

extern const char embed_docker_client[], embed_docker_client_end[], embed_docker_client_id[];

/* The embedded client as a file, which the store keeps: all jobs of all runs have the same. */
static const char *client_file(struct jobx *x, struct err *e) {
    struct run *r = x->run;
    pthread_mutex_lock(&r->image_mu);
    if (!r->client) {
        _cleanup_free_ char *name = xasprintf("programs/docker-%s", embed_docker_client_id);
        struct sv text = sv_n(embed_docker_client, (size_t)(embed_docker_client_end - embed_docker_client));
        struct stat st;
        int dir = store_dirfd(x->rq->store);
        bool have = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == text.n &&
                    (st.st_mode & 07777) == 0755;
        if (have ||
            ((mkdirat(dir, "programs", 0755) == 0 || errno == EEXIST || err_errno(e, -errno, "programs") >= 0) &&
             fs_write(dir, name, text, 0755, false, e) >= 0 && fchmodat(dir, name, 0755, 0) >= 0))
            r->client = path_join(store_path(x->rq->store), name);
    }
    pthread_mutex_unlock(&r->image_mu);
    return r->client;
}

/* Our docker client, unless the image has one of its own. */
static int mount_client(struct jobx *x, bool has, struct err *e) {
    if (!x->engine || has)
        return 0;
    const char *path = client_file(x, e);
    if (!path)
        return -ENOENT;
    struct box_mount m = {.kind = BOX_BIND, .target = "/usr/bin/docker", .source_fd = open_path(path), .readonly = true};
    int r = m.source_fd < 0 ? err_errno(e, -errno, "%s", path) : box_mount(x->box, &m, e);
    fd_close(m.source_fd);
    return r;
}

static void image_env(struct jobx *x, const char *ca) {
    env_add(&x->image_env, &x->image->config.env);
    if (!x->rq->no_host_env) {
        host_env(&x->host_env, ca ? BOX_CA_BUNDLE : NULL, net_gateway(x->net));
        env_add(&x->image_env, &x->host_env);
    }
}

static int user_of(struct jobx *x, struct err *e) {
    if (x->bitbucket) {
        uint32_t u = x->pj->bb ? x->pj->bb->run_as_user : UINT32_MAX;
        x->user = u != UINT32_MAX ? arena_printf(x->a, "%u", u)
                  : x->container && x->image->config.user && *x->image->config.user ? x->image->config.user : NULL;
    } else if (!x->container)
        x->user = "runner";
    else if (!x->user && x->image->config.user && *x->image->config.user)
        x->user = x->image->config.user;
    return 0;
}

/* An image that -P names need not have the runner's user: then it is the image's own, at home. */
static void user_of_mapped(struct jobx *x) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    if (!x->mapped || (box_read_file(x->box, "/etc/passwd", &b, NULL) >= 0 &&
                       (startswith(buf_str(&b), "runner:") || strstr(buf_str(&b), "\nrunner:"))))
        return;
    x->user = x->image->config.user && *x->image->config.user ? x->image->config.user : NULL;
    x->home = x->user ? x->home : "/root";
    const char *line = x->user && b.n ? strstr(buf_str(&b), arena_printf(x->a, "\n%s:", x->user)) : NULL;
    for (int i = 0; line && i < 5; i++)
        line = strchr(line + 1, ':');
    if (line && line[1] == '/')
        x->home = arena_strndup(x->a, line + 1, strcspn(line + 1, ":\n"));
    strv_env_set(&x->base_env, "HOME", x->home);
}

/* pip and others use no cache below a home that is not root's when they run as root. */
static void own_home(struct jobx *x) {
    static const char *const argv[] = {"chown", "0:0", "/github/home", NULL};
    if (x->container && !x->bitbucket && (!x->user || streq(x->user, "root") || streq(x->user, "0")))
        (void)jobx_capture(x, argv, NULL, NULL, NULL);
}

struct net_start {
    struct jobx *x;
    struct err e;
    int r;
};
static void *network(void *arg) {
    struct net_start *n = arg;
    struct net_options o = {.mode = NET_AUTO, .name = n->x->leg->name};
    n->r = net_new(n->x->rq->store, n->x->lease, &o, &n->x->net, &n->e);
    return NULL;
}

/* The network comes up while the image is looked for, or built. */
static int image_and_network(struct jobx *x, struct err *e) {
    struct net_start n = {.x = x};
    pthread_t t;
    bool beside = pthread_create(&t, NULL, network, &n) == 0;
    if (!beside)
        network(&n);
    int r = job_image(x, e);
    if (beside)
        pthread_join(t, NULL);
    if (r == 0 && n.r < 0) {
        *e = n.e;
        r = err_wrap(e, n.r, "the job's network");
    }
    return r;
}

int job_setup(struct jobx *x, struct err *e) {
    _cleanup_free_ char *bundle = x->rq->no_host_env ? NULL : host_ca_bundle();
    const char *ca = arena_strdup(x->a, bundle); /* the engine keeps the pointer */
    bool has_docker = false;
    int r;
    x->pulls = *x->rq->pulls;
    x->pulls.captured = captured_image;
    x->pulls.captured_arg = x;
    if ((r = scratch(x, e)) < 0 || (r = job_pipes(x, e)) < 0)
        return r;
    if ((r = x->host ? job_image(x, e) : image_and_network(x, e)) != 0)
        return r;
    if (x->host) {
        _cleanup_free_ char *bash = proc_find("bash");
        x->has_bash = bash != NULL;
        if ((r = held_prepare(x, e)) < 0 || (r = held_setup(x, e)) < 0)
            return r;
        return (r = actions_prepare(x, e)) < 0 ? r : services_start(x, e);
    }
    image_env(x, ca);
    if ((r = start_engine(x, ca, e)) < 0)
        return err_wrap(e, r, "the job's docker engine");
    user_of(x, e);
    if ((r = held_prepare(x, e)) < 0)
        return r;
    if ((r = make_box(x, ca, e)) < 0)
        return err_wrap(e, r, "the job's container");
    user_of_mapped(x);
    if ((r = look_around(x, &has_docker, e)) < 0 || (r = held_setup(x, e)) < 0)
        return r;
    if ((r = mount_client(x, has_docker, e)) < 0)
        return err_wrap(e, r, "the docker client");
    if ((r = volumes_mount(x, false, e)) < 0)
        return r;
    own_home(x);
    dlcache_setup(x);
    if ((r = actions_prepare(x, e)) < 0 || (r = services_start(x, e)) < 0)
        return r;
    return x->bitbucket ? bitbucket_before(x, e) : 0;
}

static void late_work(struct jobx *x) {
    while (x->late) {
        struct late *l = x->late;
        x->late = l->next;
        if (x->box || x->host)
            l->fn(x, l->arg);
        free(l);
    }
}

void job_teardown(struct jobx *x) {
    background_end(x);
    late_work(x);
    host_end(x);
    results_stop(x);
    engine_free(x->engine);
    if (x->net)
        net_end(x->net);
    if (x->box)
        box_destroy(x->box);
    image_free(x->image);
    output_free(x->out);
    matchers_free(x->matchers);
    fd_close(x->out_r);
    fd_close(x->out_w);
    fd_close(x->temp_fd);
    fd_close(x->cmd_fd);
    fd_close(x->held_fd);
    lease_free(x->lease);
    net_free(x->net);
    free(x->scratch_path);
    background_done(x);
    steps_done(x);
    actions_done(x);
    free(x->services);
    strv_done(&x->kept_env);
    strv_done(&x->image_env);
    strv_done(&x->base_env);
    strv_done(&x->env);
    strv_done(&x->path);
    strv_done(&x->host_env);
}

/* --- outputs and the whole ------------------------------------------------------------------- */

static void job_outputs(struct jobx *x) {
    const struct text_map *m = &x->pj->outputs;
    if (!m->n && !m->whole.s)
        return;
    struct ctx c;
    struct err e = {0};
    struct value *v, *out = val_object(x->a);
    step_ctx(x, &c, x->a);
    if (ctx_map(&c, m, false, &v, &e) < 0) {
        jobx_error(x, &e);
        x->status = OUT_FAILURE;
        leg_fail(x->leg, OUT_FAILURE, "%s", e.msg);
        return;
    }
    for (size_t i = 0; i < v->n; i++) {
        if (mask_has(x->rq->masker, v->items[i]->str)) {
            jobx_note(x, LEVEL_WARNING, "Skip output '" SV_FMT "' since it may contain secret.", SV_ARG(v->keys[i]));
            continue;
        }
        val_set(x->a, out, v->keys[i], v->items[i]);
    }
    x->leg->outputs = out;
}

static int prepare(struct jobx *x, struct err *e) {
    struct ctx c;
    double minutes;
    int r;
    if ((r = job_paths(x, e)) < 0)
        return r;
    job_contexts(x);
    ctx_init(&c, x->a);
    ctx_leg(&c, x->leg);
    if ((r = ctx_number(&c, &x->pj->timeout_minutes, x->bitbucket ? 120 : 360, &minutes, e)) < 0)
        return r;
    double after = 5;
    if ((r = ctx_number(&c, &x->pj->cancel_timeout_minutes, 5, &after, e)) < 0)
        return r;
    x->cancel_ns = (uint64_t)((after > 0 ? after : 0) * (double)MINUTE);
    if (minutes > 0)
        x->deadline_ns = now_mono() + (uint64_t)(minutes * (double)MINUTE);
    if (x->bitbucket) {
        bitbucket_env(x);
        return 0;
    }
    if ((r = job_env(x, e)) < 0)
        return r;
    default_env(x);
    return 0;
}

static void end_first_kept(struct run *r) {
    struct jobx *x = r->kept;
    r->kept = x->next_kept;
    job_teardown(x);
    free(x);
}

/* The box of a failed job stays, with its services, for `slipway shell`. */
static void keep_up(struct jobx *x) {
    struct run *r = x->run;
    late_work(x);
    if (!x->kept_env.n)
        jobx_env(x, NULL, &x->kept_env);
    pthread_mutex_lock(&r->mu);
    x->next_kept = r->kept;
    r->kept = x;
    r->end_first_kept = end_first_kept;
    pthread_mutex_unlock(&r->mu);
}

static void attempt(struct leg *leg, unsigned no) {
    struct jobx *x = xcalloc(1, sizeof *x);
    *x = (struct jobx){.attempt = no, .leg = leg, .run = leg->run, .rq = leg->run->rq, .pj = leg->job->pj, .a = &leg->arena, .status = OUT_SUCCESS,
                     .out_r = -1, .out_w = -1, .temp_fd = -1, .cmd_fd = -1, .scratch = -1, .held_fd = -1, .place = &place_box};
    struct err e = {0};
    int r = prepare(x, &e);
    steps_prepare(x);
    if (r >= 0)
        r = job_setup(x, &e);
    if (r > 0) {
        leg->outcome = OUT_UNAVAILABLE;
        jobx_note(x, LEVEL_WARNING, "%s", leg->reason ? leg->reason : "not available here");
    } else if (r < 0) {
        jobx_error(x, &e);
        services_logs(x);
        leg->host_failed = e.kind == ERR_ENV;
        leg_fail(leg, atomic_load(&leg->cancel) ? OUT_CANCELLED : OUT_FAILURE, "%s", e.msg);
    } else {
        notes_not_yet(x);
        steps_run(x);
        if (x->bitbucket)
            bitbucket_after(x);
        else
            job_outputs(x);
        if (x->status == OUT_FAILURE)
            services_logs(x);
        leg->outcome = x->status == OUT_FAILURE         ? OUT_FAILURE
                       : atomic_load(&leg->cancel) > 0 ? OUT_CANCELLED
                       : x->held                        ? OUT_HELD
                                                       : OUT_SUCCESS;
        if (leg->outcome == OUT_HELD)
            leg_fail(leg, OUT_HELD, "%u held back; --allow-deploy lets %s go", x->held, x->held == 1 ? "it" : "them");
    }
    if (x->rq->keep && leg->outcome == OUT_FAILURE && x->box) {
        keep_up(x);
        return;
    }
    job_teardown(x);
    free(x);
}

/* A protected environment asks a person; without one, the job is held. */
static bool approved(struct leg *leg) {
    const struct run_request *rq = leg->run->rq;
    bool asks = false;
    for (size_t i = 0; leg->environment && i < rq->protected.n; i++)
        asks |= sv_ieqs(sv_from(rq->protected.v[i]), leg->environment);
    if (!asks || (rq->approve && rq->approve(rq->approve_arg, leg->name, leg->environment) > 0))
        return true;
    leg_fail(leg, OUT_HELD, "the environment \"%s\" asks for an approval; --approve %s gives it", leg->environment, leg->environment);
    return false;
}

/* Bitbucket's on-fail: retry takes a failed step from its beginning, in a box of its own. */
void job_body(struct leg *leg) {
    if (!approved(leg))
        return;
    const struct plan_bitbucket *bb = leg->job->pj->bb;
    unsigned more = bb && bb->on_fail == 2 ? bb->retry_count : 0;
    for (unsigned no = 1;; no++) {
        attempt(leg, no);
        if (leg->outcome != OUT_FAILURE || no > more || atomic_load(&leg->cancel))
            return;
        _cleanup_free_ char *text = xasprintf("on-fail: retry %u of %u%s%s", no, more, leg->reason ? " after: " : "", leg->reason ? leg->reason : "");
        events_emit(leg->run->rq->events, &(struct event){.kind = EV_NOTE, .run = leg->run->id, .job = leg->name,
                                                          .level = LEVEL_WARNING, .text = sv_from(text)});
        free(leg->reason);
        leg->reason = NULL;
        leg->outcome = OUT_NONE;
        leg->outputs = NULL;
        leg->host_failed = false;
    }
}
