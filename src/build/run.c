/* RUN: the command in a box whose upper layer is the step's new snapshot. What reaches it but must
 * not leave a trace (proxies, CA bundle, secrets, scripts of heredocs) is given as environment or
 * mounted under /dev or where the box takes the mount point away again. */
#include "box/box.h"
#include "box/net.h"
#include "base/hostenv.h"
#include "build/eval.h"
#include "core/loop.h"

#include <poll.h>

/* The host's CA bundle, instead of BOX_CA_BUNDLE: /dev is a tmpfs in a box, so that the mount point
 * leaves nothing in the layer, not even a folder that was touched. */
#define CA_BUNDLE "/dev/.slipway/ca-certificates.crt"
#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* The bottom of every RUN's layers: the files that a box mounts something on. An image without them
 * (most have no /etc/resolv.conf) would else get them made, and its /etc touched, in each layer. */
static int stubs(struct build *b, struct strv *layers, struct err *e) {
    static const struct copy_inline files[] = {{"hostname", {"", 0}}, {"hosts", {"", 0}}, {"resolv.conf", {"", 0}}};
    static const char key[] = "build-stubs-1";
    struct snap_info info = {0};
    pthread_mutex_lock(&b->event_lock);
    int r = b->stubs[0] ? 1 : snap_find(b->s, b->l, key, &info);
    if (r == 0) {
        char id[33];
        int dir = -1;
        const char *none[] = {NULL};
        struct copy_spec c = {.sources = none, .dest = "/etc/", .inlines = files, .n_inlines = ELEMENTS(files)};
        struct copy_result res;
        r = snap_begin(b->s, b->l, id, &dir, e);
        fd_close(dir);
        memcpy(c.upper, id, sizeof id);
        if (r == 0 && (r = copy_run(b->s, &c, &res, e)) < 0)
            snap_abort(b->s, id);
        snprintf(info.key, sizeof info.key, "%s", key);
        if (r == 0)
            r = snap_commit(b->s, b->l, id, &info, &info, e);
        if (r == 0)
            r = cache_put(b->s, key, key, 0, e);
    } else if (r < 0) {
        err_errno(e, r, "cannot read the cache");
    }
    if (r >= 0 && !b->stubs[0])
        memcpy(b->stubs, info.id, sizeof b->stubs);
    pthread_mutex_unlock(&b->event_lock);
    if (r >= 0)
        strv_add(layers, b->stubs);
    return r < 0 ? r : 0;
}

/* The build's own network, made when the first RUN needs it. */
static int own_net(struct build *b, struct box_net **ret, struct err *e) {
    int r = 0;
    pthread_mutex_lock(&b->event_lock);
    if (!b->net_made) {
        r = net_new(b->s, b->l, &(struct net_options){.mode = NET_AUTO, .name = "build"}, &b->net, e);
        b->net_made = r >= 0;
    }
    *ret = b->net;
    pthread_mutex_unlock(&b->event_lock);
    return r < 0 ? r : 0;
}

static void run_env(struct build *b, struct vertex *v, struct strv *env) {
    strv_extend(env, (const char *const *)v->env.v);
    if (!strv_env_get(env, "PATH"))
        strv_env_set(env, "PATH", PATH_DEFAULT);
    /* Proxies as build arguments reach the command without being declared. */
    MAP_FOREACH(&b->build_args, en)
        if (arg_is_proxy(en->key) && !strv_env_get(env, en->key)) {
            strv_env_set(env, en->key, en->value);
        }
    for (const char *const *p = b->rq->env_passthrough; p && *p; p++) {
        size_t n = strcspn(*p, "=");
        _cleanup_free_ char *key = xstrndup(*p, n);
        if ((*p)[n] && !strv_env_get(env, key))
            strv_env_set(env, key, streq(*p + n + 1, BOX_CA_BUNDLE) ? CA_BUNDLE : *p + n + 1);
    }
}

/* --- mounts --------------------------------------------------------------------------------- */

struct mounts {
    struct box_mount m[64];
    size_t n;
    struct strv strings; /* targets, lowers */
    const char *lowers[64][2];
    int fds[64];
    int locks[64];
    struct ssh_proxy *ssh[64];
    size_t n_fds, n_locks, n_ssh;
};

static void mounts_done(struct mounts *ms) {
    for (size_t i = 0; i < ms->n_fds; i++)
        close(ms->fds[i]);
    for (size_t i = 0; i < ms->n_locks; i++)
        close(ms->locks[i]);
    for (size_t i = 0; i < ms->n_ssh; i++)
        ssh_proxy_free(ms->ssh[i]);
    strv_done(&ms->strings);
}

static struct box_mount *mount_add(struct mounts *ms, enum box_mount_kind kind, const char *target) {
    struct box_mount *m = &ms->m[ms->n++];
    *m = (struct box_mount){.kind = kind, .target = target, .source_fd = -1, .nosuid = false};
    return m;
}

/* A folder that lives on between builds: a snapshot under a key of its own that is written to. */
static int cache_mount(struct build *b, struct mounts *ms, const struct run_mount *rm, struct err *e) {
    char name[DIGEST_LEN + 1], key[DIGEST_LEN + 20], id[33];
    struct snap_info info = {0};
    _cleanup_free_ char *what = xasprintf("%s %u %u", rm->id, rm->uid, rm->gid);
    digest_of(what, strlen(what), name);
    snprintf(key, sizeof key, "cachemount:%s", name);
    int lock = store_key_lock(b->s, key);
    if (lock < 0)
        return err_errno(e, lock, "lock a cache mount");
    int r = snap_find(b->s, b->l, key, &info);
    if (r == 0) {
        int dir = -1;
        r = snap_begin(b->s, b->l, id, &dir, e);
        fd_close(dir);
        if (r == 0) {
            _cleanup_free_ char *owner = xasprintf("%u:%u", rm->uid, rm->gid), *mode = xasprintf("%o", rm->mode);
            _cleanup_strv_ struct strv layers = {0};
            const char *sources[] = {rm->source, NULL}, *const none[] = {NULL};
            struct copy_spec c = {.mkdir = "/c", .chown = owner, .chmod = mode, .mtime = 0};
            struct copy_result res;
            if (rm->from) { /* what it begins with */
                graph_layers(rm->from, &layers);
                c = (struct copy_spec){.sources = sources, .exclude = none, .dest = "/c/", .keep_owner = true,
                                       .src_layers = (const char *const *)layers.v, .n_src_layers = layers.n};
            }
            memcpy(c.upper, id, sizeof id);
            r = copy_run(b->s, &c, &res, e);
            snprintf(info.key, sizeof info.key, "%s", key);
            if (r >= 0)
                r = snap_commit(b->s, b->l, id, &info, &info, e);
            if (r >= 0)
                r = cache_put(b->s, key, key, (int64_t)(now_real() / 1000000000u), e);
        }
    }
    if (rm->sharing == SHARE_SHARED)
        close(lock);
    else
        ms->locks[ms->n_locks++] = lock;
    if (r < 0)
        return err_wrap(e, r, "cache mount %s", rm->target);
    _cleanup_close_ int fs = snap_open(b->s, info.id);
    int fd = fs < 0 ? fs : openat(fs, "c", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, fs < 0 ? fs : -errno, "cache mount %s", rm->target);
    ms->fds[ms->n_fds++] = fd;
    struct box_mount *m = mount_add(ms, BOX_BIND, rm->target);
    m->source_fd = fd;
    m->readonly = rm->readonly;
    return 0;
}

/* A bind: what it names is put into a snapshot by itself (keyed by its source), which is mounted. */
static int bind_mount(struct build *b, struct mounts *ms, const struct run_mount *rm, struct err *e) {
    struct cache_key k = {0};
    struct snap_info info = {0};
    cache_key_add(&k, "bind", rm->from ? sv_from(rm->from->result) : sv_from(source_tree(b, NULL)));
    cache_key_add(&k, "source", sv_from(rm->source));
    cache_key_end(&k);
    memcpy(info.key, k.id, sizeof k.id);
    cache_key_done(&k);
    _cleanup_close_ int lock = store_key_lock(b->s, info.key);
    int r = lock < 0 ? err_errno(e, lock, "lock a mount") : snap_find(b->s, b->l, info.key, &info);
    if (r == 0) {
        char id[33];
        int dir = -1;
        _cleanup_strv_ struct strv layers = {0};
        struct copy_result res;
        const char *sources[] = {rm->source, NULL};
        struct copy_spec c = {.sources = sources, .dest = "/", .keep_owner = rm->from != NULL};
        if (rm->from)
            graph_layers(rm->from, &layers);
        else
            c.src_tree = source_tree(b, NULL);
        c.src_layers = (const char *const *)layers.v;
        c.n_src_layers = layers.n;
        r = snap_begin(b->s, b->l, id, &dir, e);
        fd_close(dir);
        memcpy(c.upper, id, sizeof id);
        if (r == 0 && (r = copy_run(b->s, &c, &res, e)) < 0)
            snap_abort(b->s, id);
        if (r == 0)
            r = snap_commit(b->s, b->l, id, &info, &info, e);
        if (r == 0)
            r = cache_put(b->s, info.key, info.key, (int64_t)(now_real() / 1000000000u), e);
    }
    if (r < 0)
        return err_wrap(e, r, "mount %s", rm->target);
    _cleanup_close_ int fs = snap_open(b->s, info.id);
    /* A single file lies in it under its own name. */
    int file = fs < 0 ? -1 : openat(fs, path_base(rm->source), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    bool is_file = file >= 0 && fstat(file, &st) == 0 && S_ISREG(st.st_mode) && !streq(rm->source, "/");
    if (is_file) {
        ms->fds[ms->n_fds++] = file;
        struct box_mount *m = mount_add(ms, BOX_BIND, rm->target);
        m->source_fd = file;
        m->readonly = true;
        return 0;
    }
    fd_close(file);
    char *lower = xasprintf("snap:%s", info.id);
    strv_take(&ms->strings, lower);
    const char **l = ms->lowers[ms->n];
    l[0] = lower;
    struct box_mount *m = mount_add(ms, BOX_OVERLAY, rm->target);
    m->lowers = l;
    m->n_lowers = 1;
    m->readonly = rm->readonly;
    return 0;
}

/* Without an agent the mount is left out, unless it is required. */
static int ssh_mount(struct build *b, struct mounts *ms, const struct run_mount *rm, struct err *e) {
    const char *socket = NULL;
    for (size_t i = 0; i < b->rq->n_ssh; i++)
        if (streq(b->rq->ssh[i].id, rm->id))
            socket = b->rq->ssh[i].socket;
    if (!socket && !rm->required)
        return 0;
    if (!socket)
        return err_hint(e, err_set(e, ERR_USER, -ENOENT, "no ssh agent \"%s\" was given", rm->id), "--ssh %s", rm->id);
    int fd = -1, r = ssh_proxy_new(b, socket, &ms->ssh[ms->n_ssh], &fd, e);
    if (r < 0)
        return r;
    ms->n_ssh++;
    ms->fds[ms->n_fds++] = fd;
    mount_add(ms, BOX_BIND, rm->target)->source_fd = fd;
    return 0;
}

static int run_mounts(struct build *b, struct vertex *v, struct mounts *ms, struct err *e) {
    if (b->rq->ca_bundle) {
        int fd = open(b->rq->ca_bundle, O_PATH | O_CLOEXEC);
        if (fd < 0)
            return err_errno(e, -errno, "%s", b->rq->ca_bundle);
        ms->fds[ms->n_fds++] = fd;
        struct box_mount *m = mount_add(ms, BOX_BIND, CA_BUNDLE);
        m->source_fd = fd;
        m->readonly = true;
    }
    int r = 0;
    for (size_t i = 0; i < v->n_mounts && r >= 0; i++) {
        const struct run_mount *rm = &v->mounts[i];
        if (rm->kind == MOUNT_CACHE) {
            r = cache_mount(b, ms, rm, e);
        } else if (rm->kind == MOUNT_BIND) {
            r = bind_mount(b, ms, rm, e);
        } else if (rm->kind == MOUNT_SSH) {
            r = ssh_mount(b, ms, rm, e);
        } else if (rm->kind == MOUNT_TMPFS) {
            struct box_mount *m = mount_add(ms, BOX_TMPFS, rm->target);
            m->size = rm->size;
            m->mode = 01777;
        }
    }
    return r;
}

/* --- secrets -------------------------------------------------------------------------------- */

static int secret_value(struct build *b, const struct run_mount *rm, struct buf *out, struct err *e) {
    for (size_t i = 0; i < b->rq->n_secrets; i++) {
        const struct build_secret *s = &b->rq->secrets[i];
        if (!streq0(s->id, rm->id))
            continue;
        if (s->env_value) {
            buf_adds(out, s->env_value);
            return 1;
        }
        int r = fs_read(AT_FDCWD, s->file, out, e);
        return r < 0 ? err_wrap(e, r, "secret %s", rm->id) : 1;
    }
    if (rm->required) {
        err_set(e, ERR_USER, -ENOENT, "secret \"%s\" was not given", rm->id);
        return err_hint(e, -ENOENT, "--secret id=%s,src=FILE", rm->id);
    }
    return 0;
}

/* Files come to lie on a tmpfs and are mounted where they are wanted. */
static int secrets_put(struct build *b, struct vertex *v, struct box *box, struct strv *env, struct err *e) {
    bool dir = false;
    for (size_t i = 0; i < v->n_mounts; i++) {
        const struct run_mount *rm = &v->mounts[i];
        if (rm->kind != MOUNT_SECRET)
            continue;
        _cleanup_buf_ struct buf value = BUF_MAX(512u << 10);
        int r = secret_value(b, rm, &value, e);
        if (r <= 0) {
            if (r < 0)
                return r;
            continue;
        }
        if (rm->env)
            strv_env_set(env, rm->env, buf_str(&value));
        if (rm->target) {
            char path[64];
            snprintf(path, sizeof path, "/dev/.secrets/%zu", i);
            if (!dir)
                r = box_mount(box, &(struct box_mount){.kind = BOX_TMPFS, .target = "/dev/.secrets", .source_fd = -1, .mode = 0700, .size = 8u << 20}, e);
            dir = true;
            if (r >= 0)
                r = box_write_file(box, path, buf_sv(&value), rm->mode, rm->uid, rm->gid, e);
            _cleanup_close_ int fd = r < 0 ? -1 : box_open_tree(box, path, e);
            if (fd < 0)
                return err_wrap(e, r < 0 ? r : fd, "secret %s", rm->id);
            r = box_mount(box, &(struct box_mount){.kind = BOX_BIND, .target = rm->target, .source_fd = fd, .readonly = true}, e);
        }
        explicit_bzero(value.p, value.n);
        if (r < 0)
            return err_wrap(e, r, "secret %s", rm->id);
    }
    return 0;
}

/* --- the command ---------------------------------------------------------------------------- */

static void log_chunk(struct build *b, struct vertex *v, int stream, const char *p, size_t n) {
    build_emit(b, &(struct build_event){.kind = BUILD_LOG, .vertex = v->number, .name = v->name, .log = sv_n(p, n),
                                        .stream = stream, .at = v->at});
}

/* Reads both outputs until the command has ended and the pipes are dry. */
static int follow(struct build *b, struct vertex *v, struct box_proc *p, int out, int errfd) {
    int fds[2] = {out, errfd}, status = box_proc_status_fd(p);
    bool ended = false;
    char *chunk = xmalloc(64u << 10);
    int r = 0;
    while (fds[0] >= 0 || fds[1] >= 0 || !ended) {
        struct pollfd pf[3] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}, {ended ? -1 : status, POLLIN, 0}};
        int n = poll(pf, 3, ended ? 20 : 200);
        if (n < 0 && errno != EINTR) {
            r = -errno;
            break;
        }
        if (build_cancelled(b)) {
            r = -ECANCELED;
            break;
        }
        if (ended && n == 0) /* what is left belongs to a process in the background */
            break;
        for (int i = 0; i < 2 && n > 0; i++) {
            if (!pf[i].revents)
                continue;
            ssize_t k = read(fds[i], chunk, 64u << 10);
            if (k > 0)
                log_chunk(b, v, i + 1, chunk, (size_t)k);
            else if (k == 0 || (errno != EINTR && errno != EAGAIN))
                fds[i] = -1;
        }
        if (n > 0 && pf[2].revents)
            ended = true;
    }
    free(chunk);
    return r;
}

static int command(struct build *b, struct vertex *v, struct box *box, struct strv *env, struct err *e) {
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    if (pipe2(err, O_CLOEXEC) < 0) {
        close(out[0]);
        close(out[1]);
        return err_errno(e, -errno, "pipe");
    }
    struct box_exec x = {.argv = v->argv, .envp = (const char *const *)env->v, .cwd = v->cwd, .make_cwd = true,
                         .user = v->user, .in = -1, .out = out[1], .err = err[1]};
    struct box_proc *p = NULL;
    int r = box_exec(box, &x, &p, e);
    close(out[1]);
    close(err[1]);
    if (r >= 0) {
        r = follow(b, v, p, out[0], err[0]);
        if (r == -ECANCELED)
            err_set(e, ERR_CANCELLED, r, "cancelled");
        else if (r < 0)
            err_errno(e, r, "reading the output");
        else
            r = box_proc_wait(p, e);
        box_proc_free(p);
    }
    close(out[0]);
    close(err[0]);
    if (r > 0) {
        struct err why = e ? *e : (struct err){0};
        err_set(e, ERR_FAILED, -ECHILD, "exit code %d%s%s", r, r >= 126 && why.msg[0] ? ": " : "",
                r >= 126 && why.msg[0] ? why.msg : "");
        r = -ECHILD;
    }
    return r;
}

int run_step(struct build *b, struct vertex *v, const char *upper, struct err *e) {
    _cleanup_strv_ struct strv layers = {0}, env = {0};
    struct mounts ms = {.n = 0};
    struct box_spec spec = {.name = "build", .volatile_upper = true, .hostname = "build", .hosts = b->rq->add_hosts};
    struct box *box = NULL;
    int r = 0;
    graph_layers(v->parent, &layers);
    if (!layers.n)
        return err_set(e, ERR_USER, -ENOENT, "nothing to run: the file system is empty (FROM scratch)");
    r = stubs(b, &layers, e);
    if (r < 0)
        return r;
    spec.layers = (const char *const *)layers.v;
    spec.n_layers = layers.n;
    memcpy(spec.upper_snap, upper, sizeof spec.upper_snap);
    bool host = v->network ? streq(v->network, "host") : b->rq->host_network;
    if (host && !b->rq->net) /* where a job builds, its network is "the host's" */
        spec.host_net = true;
    else if (!(v->network && streq(v->network, "none")) && !b->rq->no_network) {
        spec.net = b->rq->net;
        r = spec.net ? 0 : own_net(b, &spec.net, e);
    }
    if (r >= 0)
        r = run_mounts(b, v, &ms, e);
    for (size_t i = 0; ms.n_ssh && i < v->n_mounts; i++)
        if (v->mounts[i].kind == MOUNT_SSH && !strv_env_get(&env, "SSH_AUTH_SOCK"))
            strv_env_set(&env, "SSH_AUTH_SOCK", v->mounts[i].target);
    spec.privileged = v->insecure;
    spec.limits.shm = b->rq->shm_size;
    spec.mounts = ms.m;
    spec.n_mounts = ms.n;
    if (r >= 0)
        r = box_create(b->s, b->l, &spec, &box, e);
    if (r >= 0) {
        run_env(b, v, &env);
        if (v->script)
            r = box_write_file(box, v->script_path, sv_from(v->script), 0755, 0, 0, e);
        if (r >= 0)
            r = secrets_put(b, v, box, &env, e);
        if (r >= 0)
            r = command(b, v, box, &env, e);
        box_destroy(box);
    }
    mounts_done(&ms);
    return r < 0 ? r : 0;
}
