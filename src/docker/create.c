/* From the body of POST /containers/create to a container: the image's configuration and what was
 * asked for are merged as docker does, mounts are opened, and the box is made. The box lives until
 * the container is removed: a start is a command in it, so that files can be copied into a created
 * container and out of a stopped one. */
#include "docker/impl.h"

#include "docker/createopts.h"
#include "docker/flags.h"

#include <ctype.h>
#include <sys/mount.h>
#include <sys/syscall.h>

void ctr_ref(struct ctr *c) { c->refs++; }

/* Runs on the loop (or on the creating thread, before anybody else knows the container). */
void ctr_unref(struct ctr *c) {
    if (!c || --c->refs > 0)
        return;
    health_done(c);
    if (c->proc)
        box_proc_free(c->proc);
    for (int i = 1; i < 3; i++)
        fd_close(c->out_fd[i]);
    feeder_close(&c->in);
    if (c->box)
        box_destroy(c->box);
    clog_close(&c->log);
    struct strv *all[] = {&c->layers, &c->argv, &c->env, &c->aliases, &c->labels, &c->hosts, &c->dns, &c->cap_add,
                          &c->cap_drop, &c->exposed, &c->shell, &c->entrypoint, &c->cmd};
    for (size_t i = 0; i < ELEMENTS(all); i++)
        strv_done(all[i]);
    char *texts[] = {c->name, c->image_name, c->hostname, c->user, c->workdir, c->network, c->stop_signal};
    for (size_t i = 0; i < ELEMENTS(texts); i++)
        free(texts[i]);
    for (size_t i = 0; i < c->n_mounts; i++) {
        free(c->mounts[i].type);
        free(c->mounts[i].source);
        free(c->mounts[i].target);
        free(c->mounts[i].name);
    }
    arena_done(&c->a);
    struct engine *g = c->g;
    free(c);
    pthread_mutex_lock(&g->mu);
    g->alive--;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mu);
}

static void list_into(struct strv *to, const struct json *j) {
    for (size_t i = 0; j && j->kind == JSON_ARRAY && i < j->n; i++) {
        const char *s = json_str(j->items[i], NULL);
        if (s)
            strv_add(to, s);
    }
}

/* Entrypoint and Cmd come as a list or as a string. */
static bool words_into(struct strv *to, const struct json *j) {
    if (j && j->kind == JSON_STRING) {
        strv_add(to, json_str(j, ""));
        return true;
    }
    if (!j || j->kind != JSON_ARRAY)
        return false;
    list_into(to, j);
    return true;
}

static char *pick(const struct json *body, const char *key, const char *dflt) {
    const char *v = json_get_str(body, key, "");
    return *v ? xstrdup(v) : dflt && *dflt ? xstrdup(dflt) : NULL;
}

static bool name_valid(const char *s) {
    if (!isalnum((unsigned char)s[0]) || !s[1] || strlen(s) > 200)
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("_.-", *s))
            return false;
    return true;
}

/* What is asked for and not there: an error that says so, or a warning where the container still
 * does what was meant. */
static int check_support(const struct json *hc, struct strv *warnings, struct err *e) {
    static const struct {
        const char *key, *what;
    } refused[] = {{"Links", "--link"}, {"VolumesFrom", "--volumes-from"}, {"DeviceRequests", "--gpus"},
                   {"Sysctls", "--sysctl"}, {"StorageOpt", "--storage-opt"}};
    for (size_t i = 0; i < ELEMENTS(refused); i++) {
        const struct json *v = json_get(hc, refused[i].key);
        if (v && (v->kind == JSON_ARRAY || v->kind == JSON_OBJECT) && v->n)
            return err_set(e, ERR_USER, -ENOTSUP, "not yet: %s", refused[i].what);
    }
    const char *restart = json_str(json_path(hc, "RestartPolicy.Name"), "");
    if (*restart && !streq(restart, "no"))
        return err_set(e, ERR_USER, -ENOTSUP, "not yet: --restart %s", restart);
    static const struct {
        const char *key, *fine1, *fine2;
    } modes[] = {{"PidMode", "", "private"}, {"UTSMode", "", ""}, {"UsernsMode", "", "host"}};
    for (size_t i = 0; i < ELEMENTS(modes); i++) {
        const char *v = json_get_str(hc, modes[i].key, "");
        if (!streq(v, modes[i].fine1) && !streq(v, modes[i].fine2))
            return err_set(e, ERR_USER, -ENOTSUP, "not yet: %s %s", modes[i].key, v);
    }
    const char *ipc = json_get_str(hc, "IpcMode", "");
    if (*ipc && !streq(ipc, "private") && !streq(ipc, "shareable") && !streq(ipc, "none"))
        return err_set(e, ERR_USER, -ENOTSUP, "not yet: IpcMode %s", ipc);
    const struct json *ul = json_get(hc, "Ulimits");
    if (ul && ul->n)
        strv_add(warnings, "not yet: --ulimit has no effect");
    const struct json *so = json_get(hc, "SecurityOpt");
    for (size_t i = 0; so && so->kind == JSON_ARRAY && i < so->n; i++) {
        const char *v = json_str(so->items[i], "");
        if (!strstr(v, "unconfined") && !startswith(v, "no-new-privileges") && !startswith(v, "label"))
            strv_addf(warnings, "not yet: --security-opt %s has no effect", v);
    }
    const struct json *ga = json_get(hc, "GroupAdd");
    if (ga && ga->n)
        strv_add(warnings, "not yet: --group-add has no effect");
    return 0;
}

/* --- ports ---------------------------------------------------------------------------------- */

static int port_add(struct ctr *c, unsigned target, const char *proto, const char *ip, unsigned host, bool want, struct err *e) {
    for (size_t i = 0; i < c->n_ports; i++)
        if (c->ports[i].target == target && streq(c->ports[i].proto, proto) && (!c->ports[i].want || !want)) {
            if (!want)
                return 0;
            c->ports[i].want = true;
            c->ports[i].host = (uint16_t)host;
            snprintf(c->ports[i].ip, sizeof(c->ports[i].ip), "%s", ip);
            return 0;
        }
    if (c->n_ports == ELEMENTS(c->ports))
        return err_set(e, ERR_LIMIT, -E2BIG, "more than %zu ports", ELEMENTS(c->ports));
    struct port_map *p = &c->ports[c->n_ports++];
    *p = (struct port_map){.target = (uint16_t)target, .host = (uint16_t)host, .want = want};
    snprintf(p->proto, sizeof(p->proto), "%s", proto);
    snprintf(p->ip, sizeof(p->ip), "%s", ip);
    return 0;
}

/* "80/tcp" or "80". */
static int port_key(const char *s, unsigned *target, char proto[5]) {
    uint64_t v;
    const char *slash = strchr(s, '/');
    if (sv_u64(sv_n(s, slash ? (size_t)(slash - s) : strlen(s)), 65535, &v) < 0 || !v)
        return -EINVAL;
    *target = (unsigned)v;
    snprintf(proto, 5, "%s", slash && streq(slash, "/udp") ? "udp" : slash && streq(slash, "/sctp") ? "sctp" : "tcp");
    return 0;
}

static int ports_read(struct ctr *c, const struct json *body, const struct json *hc, const struct image_config *ic, struct err *e) {
    unsigned target;
    char proto[5];
    int r = 0;
    bool all = json_get_bool(hc, "PublishAllPorts", false);
    const struct json *ex = json_get(body, "ExposedPorts"), *pb = json_get(hc, "PortBindings");
    for (size_t i = 0; i < ic->exposed.n; i++)
        strv_add(&c->exposed, ic->exposed.v[i]);
    for (size_t i = 0; ex && ex->kind == JSON_OBJECT && i < ex->n; i++) {
        _cleanup_free_ char *k = sv_dup(ex->keys[i]);
        if (!strv_contains(&c->exposed, k))
            strv_add(&c->exposed, k);
    }
    for (size_t i = 0; pb && pb->kind == JSON_OBJECT && i < pb->n && r >= 0; i++) {
        _cleanup_free_ char *k = sv_dup(pb->keys[i]);
        if (port_key(k, &target, proto) < 0)
            return err_set(e, ERR_USER, -EINVAL, "invalid port specification: \"%s\"", k);
        const struct json *list = pb->items[i];
        for (size_t n = 0; list && list->kind == JSON_ARRAY && n < list->n && r >= 0; n++) {
            const char *hp = json_get_str(list->items[n], "HostPort", "");
            uint64_t v = 0;
            size_t digits = strspn(hp, "0123456789");
            if (*hp && sv_u64(sv_n(hp, digits), 65535, &v) < 0)
                return err_set(e, ERR_USER, -EINVAL, "invalid port specification: \"%s\"", hp);
            r = port_add(c, target, proto, json_get_str(list->items[n], "HostIp", ""), (unsigned)v, true, e);
        }
        if (list && (list->kind != JSON_ARRAY || !list->n))
            r = port_add(c, target, proto, "", 0, true, e);
    }
    for (size_t i = 0; i < c->exposed.n && r >= 0; i++)
        if (port_key(c->exposed.v[i], &target, proto) >= 0)
            r = port_add(c, target, proto, "", 0, all, e);
    return r;
}

/* --- mounts --------------------------------------------------------------------------------- */

static int mount_add(struct ctr *c, const char *type, const char *source, const char *target, const char *name, bool rw,
                     uint64_t size, struct err *e) {
    if (target[0] != '/')
        return err_set(e, ERR_USER, -EINVAL, "invalid mount config for type \"%s\": invalid mount path: '%s' mount path must be absolute", type, target);
    _cleanup_free_ char *clean = path_clean(target);
    if (streq(clean, "/"))
        return err_set(e, ERR_USER, -EINVAL, "invalid volume specification: destination can't be '/'");
    for (size_t i = 0; i < c->n_mounts; i++)
        if (streq(c->mounts[i].target, clean))
            return err_set(e, ERR_USER, -EINVAL, "Duplicate mount point: %s", clean);
    if (c->n_mounts == ELEMENTS(c->mounts))
        return err_set(e, ERR_LIMIT, -E2BIG, "more than %zu mounts", ELEMENTS(c->mounts));
    c->mounts[c->n_mounts++] = (struct ctr_mount){xstrdup(type), xstrdup(source), xstrdup(clean), xstrdup(name), rw, size};
    return 0;
}

static bool has_mount(const struct ctr *c, const char *target) {
    for (size_t i = 0; i < c->n_mounts; i++)
        if (streq(c->mounts[i].target, target))
            return true;
    return false;
}

static int bind_read(struct ctr *c, const char *spec, struct err *e) {
    struct sv rest = sv_from(spec), src, dst, opts = SV_NULL;
    if (!sv_split(&rest, ':', &src) || !rest.p || !src.n)
        return err_set(e, ERR_USER, -EINVAL, "invalid volume specification: '%s'", spec);
    sv_split(&rest, ':', &dst);
    opts = rest;
    bool rw = true;
    struct sv o;
    while (opts.p && sv_split(&opts, ',', &o))
        if (sv_eqs(o, "ro"))
            rw = false;
        else if (!sv_eqs(o, "rw") && !sv_eqs(o, "z") && !sv_eqs(o, "Z") && !sv_eqs(o, "delegated") && !sv_eqs(o, "cached") &&
                 !sv_eqs(o, "consistent") && !sv_eqs(o, "rprivate") && !sv_eqs(o, "private") && !sv_eqs(o, "nocopy") &&
                 !sv_eqs(o, "rslave") && !sv_eqs(o, "rshared") && !sv_eqs(o, ""))
            return err_set(e, ERR_USER, -EINVAL, "invalid mode: " SV_FMT, SV_ARG(o));
    _cleanup_free_ char *s = sv_dup(src), *d = sv_dup(dst);
    if (s[0] == '/')
        return mount_add(c, "bind", s, d, NULL, rw, 0, e);
    if (!name_valid(s))
        return err_set(e, ERR_USER, -EINVAL, "create %s: \"%s\" includes invalid characters for a local volume name, only "
                       "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", s, s);
    return mount_add(c, "volume", NULL, d, s, rw, 0, e);
}

static int mounts_read(struct ctr *c, const struct json *body, const struct json *hc, const struct image_config *ic, struct err *e) {
    const struct json *binds = json_get(hc, "Binds"), *ms = json_get(hc, "Mounts"), *tm = json_get(hc, "Tmpfs"),
                      *vols = json_get(body, "Volumes");
    int r = 0;
    for (size_t i = 0; binds && binds->kind == JSON_ARRAY && i < binds->n && r >= 0; i++)
        r = bind_read(c, json_str(binds->items[i], ""), e);
    for (size_t i = 0; ms && ms->kind == JSON_ARRAY && i < ms->n && r >= 0; i++) {
        const struct json *m = ms->items[i];
        const char *type = json_get_str(m, "Type", "volume"), *src = json_get_str(m, "Source", ""), *dst = json_get_str(m, "Target", "");
        bool rw = !json_get_bool(m, "ReadOnly", false);
        if (streq(type, "bind"))
            r = src[0] == '/' ? mount_add(c, "bind", src, dst, "!", rw, 0, e)
                              : err_set(e, ERR_USER, -EINVAL, "invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute", src);
        else if (streq(type, "tmpfs"))
            r = mount_add(c, "tmpfs", NULL, dst, NULL, rw, (uint64_t)MAX(json_int(json_path(m, "TmpfsOptions.SizeBytes"), 0), 0), e);
        else if (streq(type, "volume"))
            r = mount_add(c, "volume", NULL, dst, *src ? src : NULL, rw, 0, e);
        else
            r = err_set(e, ERR_USER, -ENOTSUP, "not yet: mounts of type %s", type);
    }
    for (size_t i = 0; tm && tm->kind == JSON_OBJECT && i < tm->n && r >= 0; i++) {
        _cleanup_free_ char *target = sv_dup(tm->keys[i]);
        struct sv opts = json_sv(tm->items[i]), o;
        uint64_t size = 0;
        bool rw = true;
        while (opts.n && sv_split(&opts, ',', &o)) {
            _cleanup_free_ char *t = sv_dup(o);
            const char *v = startswith(t, "size=");
            if (v && ram_parse(v, &size) < 0)
                return err_set(e, ERR_USER, -EINVAL, "invalid tmpfs option: %s", t);
            rw = rw && !streq(t, "ro");
        }
        r = mount_add(c, "tmpfs", NULL, target, NULL, rw, size, e);
    }
    /* Anonymous volumes, of -v /path and of the image: the container's own root keeps them. */
    for (size_t i = 0; vols && vols->kind == JSON_OBJECT && i < vols->n && r >= 0; i++) {
        _cleanup_free_ char *target = sv_dup(vols->keys[i]);
        if (!has_mount(c, target))
            r = mount_add(c, "volume", NULL, target, NULL, true, 0, e);
    }
    for (size_t i = 0; i < ic->volumes.n && r >= 0; i++)
        if (!has_mount(c, ic->volumes.v[i]))
            r = mount_add(c, "volume", NULL, ic->volumes.v[i], NULL, true, 0, e);
    return r;
}

/* The source of a bind mount, as the job sees it (or the host, outside a job). -v makes a folder
 * that is absent, --mount (name "!") does not. */
static int bind_open(struct engine *g, const struct ctr_mount *m, struct err *e) {
    bool strict = m->name && streq(m->name, "!");
    if (g->o.job) {
        int fd = box_open_tree(g->o.job, m->source, NULL);
        if (fd == -ENOENT && !strict && box_mkdirs(g->o.job, m->source, 0755, 0, 0, NULL) >= 0)
            fd = box_open_tree(g->o.job, m->source, e);
        if (fd >= 0)
            return fd;
        return err_set(e, ERR_USER, fd, "invalid mount config for type \"bind\": bind source path does not exist: %s", m->source);
    }
    int fd = open(m->source, O_PATH | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !strict) {
        int r = fs_mkdirs(AT_FDCWD, m->source, 0755);
        if (r < 0)
            return err_errno(e, r, "error while creating mount source path '%s'", m->source);
        fd = open(m->source, O_PATH | O_CLOEXEC);
    }
    if (fd >= 0)
        return fd;
    return err_set(e, ERR_USER, -errno, "invalid mount config for type \"bind\": bind source path does not exist: %s", m->source);
}

/* --- the merge ------------------------------------------------------------------------------ */

static void env_merge(struct ctr *c, const struct json *body, const struct image_config *ic) {
    const struct json *env = json_get(body, "Env");
    for (size_t i = 0; i < ic->env.n; i++)
        strv_add(&c->env, ic->env.v[i]);
    if (!strv_env_get(&c->env, "PATH"))
        strv_env_set(&c->env, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for (size_t i = 0; env && env->kind == JSON_ARRAY && i < env->n; i++) {
        const char *kv = json_str(env->items[i], ""), *eq = strchr(kv, '=');
        if (!*kv || eq == kv)
            continue;
        if (!eq) {
            strv_env_unset(&c->env, kv);
            continue;
        }
        _cleanup_free_ char *k = xstrndup(kv, (size_t)(eq - kv));
        strv_env_set(&c->env, k, eq + 1);
    }
}

static void labels_merge(struct ctr *c, const struct json *body, const struct image_config *ic) {
    const struct json *l = json_get(body, "Labels");
    for (size_t i = 0; i < ic->labels.n; i++)
        strv_add(&c->labels, ic->labels.v[i]);
    for (size_t i = 0; l && l->kind == JSON_OBJECT && i < l->n; i++) {
        _cleanup_free_ char *k = sv_dup(l->keys[i]);
        strv_env_set(&c->labels, k, json_str(l->items[i], ""));
    }
}

static int command_merge(struct ctr *c, const struct json *body, const struct image_config *ic, struct err *e) {
    struct strv ep = {0}, cmd = {0};
    bool has_ep = words_into(&ep, json_get(body, "Entrypoint")), has_cmd = words_into(&cmd, json_get(body, "Cmd"));
    if (has_ep && ep.n == 1 && !ep.v[0][0]) { /* --entrypoint "" resets it */
        strv_done(&ep);
        ep = (struct strv){0};
    } else if (!has_ep || !ep.n) {
        has_ep = false;
        if (!has_cmd || !cmd.n) {
            has_cmd = false;
            strv_extend(&cmd, (const char *const *)ic->cmd.v);
        }
        strv_extend(&ep, (const char *const *)ic->entrypoint.v);
    }
    strv_extend(&c->argv, (const char *const *)ep.v);
    strv_extend(&c->argv, (const char *const *)cmd.v);
    c->entrypoint = ep;
    c->cmd = cmd;
    c->has_entrypoint = ep.n || has_ep;
    c->has_cmd = cmd.n || has_cmd;
    return c->argv.n ? 0 : err_set(e, ERR_USER, -EINVAL, "no command specified");
}

static void aliases_read(struct ctr *c, const struct json *body) {
    const struct json *ec = json_path(body, "NetworkingConfig.EndpointsConfig");
    for (size_t i = 0; ec && ec->kind == JSON_OBJECT && i < ec->n; i++)
        list_into(&c->aliases, json_get(ec->items[i], "Aliases"));
}

static int limits_read(struct ctr *c, const struct json *hc, struct err *e) {
    int64_t mem = json_get_int(hc, "Memory", 0), cpus = json_get_int(hc, "NanoCpus", 0), pids = json_get_int(hc, "PidsLimit", 0),
            shm = json_get_int(hc, "ShmSize", 0);
    int64_t quota = json_get_int(hc, "CpuQuota", 0), period = json_get_int(hc, "CpuPeriod", 100000);
    if (!cpus && quota > 0 && period > 0)
        cpus = (int64_t)((double)quota / (double)period * 1e9);
    if (mem < 0 || cpus < 0 || shm < 0)
        return err_set(e, ERR_USER, -EINVAL, "limits cannot be negative");
    if (mem && mem < 6 << 20)
        return err_set(e, ERR_USER, -EINVAL, "Minimum memory limit allowed is 6MB");
    const struct box_limits *job = &c->g->o.limits;
    c->limits = *job;
    if (mem && (!job->memory || (uint64_t)mem < job->memory))
        c->limits.memory = (uint64_t)mem;
    if (cpus && (!job->nano_cpus || (uint64_t)cpus < job->nano_cpus))
        c->limits.nano_cpus = (uint64_t)cpus;
    if (pids > 0 && (!job->pids || (uint64_t)pids < job->pids))
        c->limits.pids = (uint32_t)MIN(pids, (int64_t)UINT32_MAX);
    c->limits.shm = shm ? (uint64_t)shm : 64u << 20;
    return 0;
}

static int configure(struct ctr *c, const struct image *im, struct strv *warnings, struct err *e) {
    const struct json *body = c->body, *hc = json_get(body, "HostConfig");
    const struct image_config *ic = &im->config;
    int r = check_support(hc, warnings, e);
    if (r < 0 || (r = command_merge(c, body, ic, e)) < 0)
        return r;
    env_merge(c, body, ic);
    labels_merge(c, body, ic);
    aliases_read(c, body);
    c->user = pick(body, "User", ic->user);
    c->workdir = pick(body, "WorkingDir", ic->workdir);
    c->stop_signal = pick(body, "StopSignal", ic->stopsignal);
    c->network = pick(hc, "NetworkMode", "bridge");
    if (streq(c->network, "default")) {
        free(c->network);
        c->network = xstrdup("bridge");
    }
    if (!network_known(c->g, c->network))
        return err_set(e, ERR_NOTFOUND, startswith(c->network, "container:") ? -ENOTSUP : -ENOENT,
                       startswith(c->network, "container:") ? "not yet: --network %s" : "network %s not found", c->network);
    c->hostname = pick(body, "Hostname", NULL);
    if (!c->hostname)
        c->hostname = xstrndup(c->id, 12);
    c->stop_timeout = (int)json_get_int(body, "StopTimeout", 10);
    c->tty = json_get_bool(body, "Tty", false);
    c->open_stdin = json_get_bool(body, "OpenStdin", false);
    c->stdin_once = json_get_bool(body, "StdinOnce", false);
    c->auto_remove = json_get_bool(hc, "AutoRemove", false);
    c->privileged = json_get_bool(hc, "Privileged", false);
    c->readonly = json_get_bool(hc, "ReadonlyRootfs", false);
    list_into(&c->hosts, json_get(hc, "ExtraHosts"));
    list_into(&c->dns, json_get(hc, "Dns"));
    list_into(&c->cap_add, json_get(hc, "CapAdd"));
    list_into(&c->cap_drop, json_get(hc, "CapDrop"));
    list_into(&c->shell, json_get(body, "Shell"));
    if (!c->shell.n)
        strv_extend(&c->shell, (const char *const *)ic->shell.v);
    if ((r = limits_read(c, hc, e)) < 0 || (r = ports_read(c, body, hc, ic, e)) < 0 || (r = mounts_read(c, body, hc, ic, e)) < 0)
        return r;
    health_init(c, json_get(body, "Healthcheck"), &ic->health);
    if (c->stop_signal && signal_parse(c->stop_signal) < 0)
        return err_set(e, ERR_USER, -EINVAL, "invalid signal: %s", c->stop_signal);
    return 0;
}

/* --- the box -------------------------------------------------------------------------------- */

/* Copies what the image has at a new volume's place into it, as docker does. */
static int volume_fill(struct ctr *c, struct volume *v, const struct ctr_mount *m, int scratch, struct err *e) {
    struct stat st;
    _cleanup_close_ int there = box_open(c->box, m->target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, NULL);
    struct box_mount bm = {.kind = BOX_BIND, .target = m->target, .readonly = !m->rw};
    _cleanup_close_ int fs = openat(v->dir, "fs", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fs < 0)
        return err_errno(e, -errno, "volume %s", v->name);
    bm.source_fd = fs;
    if (v->filled || there < 0 || fstat(there, &st) < 0)
        return box_mount(c->box, &bm, e);
    char name[32] = "vol-";
    random_id(name + 4, 20);
    _cleanup_close_ int tmp = openat(scratch, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (tmp < 0)
        return err_errno(e, -errno, "volume %s", v->name);
    unlinkat(scratch, name, 0);
    _cleanup_free_ char *parent = path_dir(m->target);
    bool copy = box_get_tar(c->box, m->target, tmp, NULL) >= 0 && lseek(tmp, 0, SEEK_SET) == 0;
    bm.readonly = false;
    int r = box_mount(c->box, &bm, e);
    if (r >= 0 && copy)
        r = box_put_tar(c->box, parent, tmp, e);
    if (r >= 0)
        v->filled = true;
    if (r >= 0 && !m->rw) {
        bm.readonly = true;
        r = box_mount(c->box, &bm, e);
    }
    return r;
}

static int make_box(struct ctr *c, struct err *e) {
    struct engine *g = c->g;
    struct box_mount mounts[64 + 1];
    size_t n = 0;
    int fds[64], r = 0;
    size_t n_fds = 0;
    int scratch = lease_scratch(g->o.lease, e);
    if (scratch < 0)
        return scratch;
    if (!streq(c->network, "none") && (r = engine_net(g, e)) < 0)
        return r;
    for (size_t i = 0; i < c->hosts.n && g->o.net; i++) {
        const char *colon = strchr(c->hosts.v[i], ':');
        if (!colon || !streq(colon + 1, "host-gateway"))
            continue;
        char *line = xasprintf("%.*s:%s", (int)(colon - c->hosts.v[i]), c->hosts.v[i], net_gateway(g->o.net));
        free(c->hosts.v[i]);
        c->hosts.v[i] = line;
    }
    for (size_t i = 0; i < c->n_mounts && r >= 0; i++) {
        struct ctr_mount *m = &c->mounts[i];
        struct box_mount *b = &mounts[n];
        *b = (struct box_mount){.target = m->target, .source_fd = -1, .readonly = !m->rw};
        if (streq(m->type, "tmpfs")) {
            b->kind = BOX_TMPFS;
            b->size = m->size;
            b->mode = 01777;
            b->nosuid = b->nodev = true;
            n++;
        } else if (streq(m->type, "bind")) {
            b->kind = BOX_BIND;
            b->source_fd = bind_open(g, m, e);
            b->idmap = !g->o.job;
            if (b->source_fd < 0)
                r = b->source_fd;
            else {
                fds[n_fds++] = b->source_fd;
                n++;
            }
        }
    }
    _cleanup_strv_ struct strv names = {0};
    _cleanup_buf_ struct buf nn = BUF_MAX(64u << 10);
    bool host = streq(c->network, "host"), none = streq(c->network, "none");
    buf_addf(&nn, "%s", c->name);
    for (size_t i = 0; i < c->aliases.n; i++)
        buf_addf(&nn, ",%s", c->aliases.v[i]);
    if (!streq(c->hostname, c->name))
        buf_addf(&nn, ",%s", c->hostname);
    struct box_spec spec = {
        .name = c->name, .layers = (const char *const *)c->layers.v, .n_layers = c->layers.n, .volatile_upper = true,
        .readonly_root = c->readonly, .hostname = c->hostname, .mounts = mounts, .n_mounts = n,
        .net = none ? NULL : g->o.net, .net_name = host || none ? NULL : buf_str(&nn), .net_own_ip = !host && !none,
        .dns = c->dns.n ? (const char *const *)c->dns.v : NULL, .hosts = c->hosts.n ? (const char *const *)c->hosts.v : NULL,
        .limits = c->limits, .privileged = c->privileged,
        .cap_add = c->cap_add.n ? (const char *const *)c->cap_add.v : NULL,
        .cap_drop = c->cap_drop.n ? (const char *const *)c->cap_drop.v : NULL, .init_is_command = true,
    };
    if (r >= 0)
        r = box_create(g->o.store, g->o.lease, &spec, &c->box, e);
    for (size_t i = 0; i < n_fds; i++)
        close(fds[i]);
    for (size_t i = 0; i < c->n_mounts && r >= 0; i++) {
        struct ctr_mount *m = &c->mounts[i];
        if (!streq(m->type, "volume") || !m->name)
            continue;
        pthread_mutex_lock(&g->mu);
        struct volume *v = volume_get(g, m->name, true, e);
        pthread_mutex_unlock(&g->mu);
        r = v ? volume_fill(c, v, m, scratch, e) : -EIO;
    }
    return r;
}

static int find_image(struct engine *g, const char *name, struct image **ret, int *status, struct err *e) {
    int r = image_find(g->o.store, g->o.lease, name, ret, e);
    if (r < 0) {
        *status = 400;
        return r;
    }
    if (r)
        return 0;
    *status = 404;
    const char *slash = strrchr(name, '/');
    bool tagged = strchr(slash ? slash : name, ':') || strchr(name, '@');
    return err_set(e, ERR_NOTFOUND, -ENOENT, "No such image: %s%s", name, tagged ? "" : ":latest");
}

static char *random_name(const char *id) {
    static const char *const a[] = {"brisk", "calm", "clear", "eager", "even", "fair", "fleet", "keen", "quiet", "ready", "steady", "swift"};
    static const char *const b[] = {"anchor", "beacon", "buoy", "cleat", "crane", "dock", "harbor", "keel", "mast", "pier", "rudder", "sail"};
    char hex[5];
    random_id(hex, 4);
    unsigned long v = strtoul(hex, NULL, 16);
    return xasprintf("%s_%s_%.6s", a[v % ELEMENTS(a)], b[v / 256 % ELEMENTS(b)], id);
}

int ctr_create(struct engine *g, struct sv body, const char *name, struct strv *warnings, struct ctr **ret, int *status, struct err *e) {
    *status = 400;
    if (name && *name == '/')
        name++;
    if (name && *name && !name_valid(name))
        return err_set(e, ERR_USER, -EINVAL, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name);
    struct ctr *c = xcalloc(1, sizeof(*c));
    c->g = g;
    c->refs = 1;
    pthread_mutex_lock(&g->mu);
    g->alive++;
    pthread_mutex_unlock(&g->mu);
    c->out_fd[1] = c->out_fd[2] = -1;
    c->in.fd = -1;
    c->log.fd[0] = c->log.fd[1] = -1;
    c->created = now_real();
    random_id(c->id, 64);
    c->name = name && *name ? xstrdup(name) : random_name(c->id);
    char *copy = arena_strndup(&c->a, body.p ? body.p : "", body.n);
    int r = json_parse(&c->a, sv_n(copy, body.n), &c->body, e);
    _cleanup_image_ struct image *im = NULL;
    if (r >= 0 && (!c->body || c->body->kind != JSON_OBJECT))
        r = err_set(e, ERR_USER, -EINVAL, "the body is not a JSON object");
    if (r >= 0) {
        c->image_name = xstrdup(json_get_str(c->body, "Image", ""));
        r = *c->image_name ? find_image(g, c->image_name, &im, status, e)
                           : err_set(e, ERR_USER, -EINVAL, "no image was named");
    }
    if (r >= 0) {
        snprintf(c->image_id, sizeof(c->image_id), "%s", im->id);
        for (size_t i = im->layers.n; i > 0; i--)
            strv_add(&c->layers, im->layers.v[i - 1]);
        r = configure(c, im, warnings, e);
        *status = r < 0 ? status_of(e) : 0;
    }
    if (r >= 0) {
        int scratch = lease_scratch(g->o.lease, e);
        r = scratch < 0 ? scratch : clog_open(&c->log, scratch);
        if (r >= 0)
            r = make_box(c, e);
        *status = r < 0 ? status_of(e) : 201;
    }
    if (r < 0) {
        ctr_unref(c);
        return r;
    }
    *ret = c;
    return 0;
}

/* --- start ---------------------------------------------------------------------------------- */

static int pipe_pair(int p[2]) { return pipe2(p, O_CLOEXEC) < 0 ? -errno : 0; }

void ctr_unpublish(struct engine *g, const struct port_map *p) {
    if (g->o.job)
        (void)net_unpublish(g->o.net, p->got, p->proto);
    else
        (void)net_unpublish_host(g->o.net, p->got, p->proto);
}

static int publish_ports(struct ctr *c, struct started *s, struct err *e) {
    struct engine *g = c->g;
    const char *ip = box_ip(c->box);
    memcpy(s->ports, c->ports, sizeof(s->ports));
    bool own = ip && !streq(c->network, "host") && !streq(c->network, "none");
    for (size_t i = 0; own && i < c->n_ports; i++) {
        struct port_map *p = &s->ports[i];
        if (!p->want)
            continue;
        if (streq(p->proto, "sctp"))
            return err_set(e, ERR_USER, -ENOTSUP, "not yet: SCTP ports");
        p->got = p->host;
        int r = g->o.job ? net_publish(g->o.net, ip, p->target, &p->got, p->proto, e)
                         : net_publish_host(g->o.net, *p->ip ? p->ip : "0.0.0.0", ip, p->target, &p->got, p->proto, e);
        if (r < 0) {
            for (size_t k = 0; k < i; k++)
                if (s->ports[k].got)
                    ctr_unpublish(g, &s->ports[k]);
            return err_wrap(e, r, "driver failed programming external connectivity on endpoint %s", c->name);
        }
    }
    return 0;
}

int ctr_start_work(struct ctr *c, struct started *s, struct err *e) {
    *s = (struct started){.fd = {-1, -1, -1}};
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
    int r = publish_ports(c, s, e);
    if (r < 0)
        return r;
    if (!c->tty) {
        if ((c->open_stdin && (r = pipe_pair(in)) < 0) || (r = pipe_pair(out)) < 0 || (r = pipe_pair(err)) < 0)
            err_errno(e, r, "pipe");
    }
    _cleanup_strv_ struct strv env = {0};
    strv_extend(&env, (const char *const *)c->env.v);
    if (!strv_env_get(&env, "HOSTNAME"))
        strv_env_set(&env, "HOSTNAME", c->hostname);
    if (c->tty && !strv_env_get(&env, "TERM"))
        strv_env_set(&env, "TERM", "xterm");
    const struct box_exec x = {
        .argv = (const char *const *)c->argv.v, .envp = (const char *const *)env.v, .cwd = c->workdir ? c->workdir : "/",
        .make_cwd = true, .user = c->user, .tty = c->tty, .rows = 24, .cols = 80, .in = in[0], .out = out[1], .err = err[1],
        .new_pidns = true, .wait_exec = true, .privileged = c->privileged,
    };
    if (r >= 0)
        r = box_exec(c->box, &x, &s->proc, e);
    fd_close(in[0]);
    fd_close(out[1]);
    fd_close(err[1]);
    if (r < 0) {
        fd_close(in[1]);
        fd_close(out[0]);
        fd_close(err[0]);
        for (size_t k = 0; k < c->n_ports; k++)
            if (s->ports[k].got)
                ctr_unpublish(c->g, &s->ports[k]);
        return r;
    }
    s->fd[0] = in[1];
    s->fd[1] = out[0];
    s->fd[2] = err[0];
    if (c->tty) {
        s->fd[1] = fcntl(box_proc_tty_fd(s->proc), F_DUPFD_CLOEXEC, 3);
        s->fd[0] = c->open_stdin ? fcntl(box_proc_tty_fd(s->proc), F_DUPFD_CLOEXEC, 3) : -1;
    }
    for (int i = 0; i < 3; i++)
        if (s->fd[i] >= 0)
            (void)fcntl(s->fd[i], F_SETFL, fcntl(s->fd[i], F_GETFL) | O_NONBLOCK);
    return 0;
}
