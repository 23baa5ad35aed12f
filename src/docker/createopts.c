#include "docker/createopts.h"

#include "core/fs.h"
#include "docker/flags.h"

/* Lines "K=V" of a file; a "K" alone takes the value of this process's environment, when it has
 * one (docker's --env-file). */
static int read_kv_file(const char *path, bool env, struct strv *to, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(4u << 20);
    int r = fs_read(AT_FDCWD, path, &b, e);
    if (r < 0)
        return err_wrap(e, r, "open %s", path);
    struct sv rest = buf_sv(&b), line;
    while (sv_line(&rest, &line)) {
        while (line.n && (*line.p == ' ' || *line.p == '\t'))
            line = sv_sub(line, 1, line.n);
        if (!line.n || *line.p == '#')
            continue;
        ssize_t eq = sv_chr(line, '=');
        struct sv key = eq < 0 ? line : sv_sub(line, 0, (size_t)eq);
        if (!key.n || sv_chr(key, ' ') >= 0)
            return err_set(e, ERR_USER, -EINVAL, "poorly formatted environment: variable '" SV_FMT
                           "' contains whitespaces", SV_ARG(key));
        if (eq >= 0 || !env) {
            strv_addn(to, line.p, line.n);
            continue;
        }
        _cleanup_free_ char *k = sv_dup(key);
        const char *v = getenv(k);
        if (v)
            strv_addf(to, "%s=%s", k, v);
    }
    return 0;
}

static int check_values(struct create_opts *o, struct err *e) {
    uint64_t v;
    const struct {
        const char *name, *value;
    } rams[] = {{"memory", o->memory}, {"shm-size", o->shm_size}};
    for (size_t i = 0; i < ELEMENTS(rams); i++)
        if (rams[i].value && ram_parse(rams[i].value, &v) < 0)
            return err_set(e, ERR_USER, -EINVAL, "invalid argument \"%s\" for \"--%s\" flag: invalid size: '%s'",
                           rams[i].value, rams[i].name, rams[i].value);
    const struct {
        const char *name, *value;
    } times[] = {{"health-interval", o->health_interval}, {"health-timeout", o->health_timeout},
                 {"health-start-period", o->health_start}, {"health-start-interval", o->health_start_interval}};
    for (size_t i = 0; i < ELEMENTS(times); i++)
        if (times[i].value && duration_parse(times[i].value, &v) < 0)
            return err_set(e, ERR_USER, -EINVAL, "invalid argument \"%s\" for \"--%s\" flag: time: invalid duration \"%s\"",
                           times[i].value, times[i].name, times[i].value);
    if (o->health_retries < 0)
        return err_set(e, ERR_USER, -EINVAL, "--health-retries cannot be negative");
    if (o->restart && !streq(o->restart, "no") && !streq(o->restart, ""))
        return err_set(e, ERR_USER, -ENOTSUP, "not yet: --restart %s", o->restart);
    const struct {
        const char *name, *value;
    } spaces[] = {{"pid", o->pid}, {"uts", o->uts}, {"userns", o->userns}};
    for (size_t i = 0; i < ELEMENTS(spaces); i++)
        if (spaces[i].value && *spaces[i].value)
            return err_set(e, ERR_USER, -ENOTSUP, "not yet: --%s %s", spaces[i].name, spaces[i].value);
    return 0;
}

int create_opts_parse(struct create_opts *o, enum create_for what, int argc, char **argv, bool *help,
                      struct err *e) {
    const struct flag flags[] = {
        {"name", 0, FLAG_STR, &o->name}, {"hostname", 'h', FLAG_STR, &o->hostname},
        {"domainname", 0, FLAG_STR, &o->domainname}, {"user", 'u', FLAG_STR, &o->user},
        {"workdir", 'w', FLAG_STR, &o->workdir},
        {"entrypoint", 0, FLAG_STR, &o->entrypoint, &o->entrypoint_given},
        {"network", 0, FLAG_STR, &o->network}, {"net", 0, FLAG_STR, &o->network},
        {"network-alias", 0, FLAG_LIST, &o->aliases}, {"net-alias", 0, FLAG_LIST, &o->aliases},
        {"memory", 'm', FLAG_STR, &o->memory}, {"cpus", 0, FLAG_STR, &o->cpus},
        {"shm-size", 0, FLAG_STR, &o->shm_size}, {"restart", 0, FLAG_STR, &o->restart},
        {"stop-signal", 0, FLAG_STR, &o->stop_signal},
        {"stop-timeout", 0, FLAG_INT, &o->stop_timeout, &o->stop_timeout_given},
        {"pids-limit", 0, FLAG_INT, &o->pids_limit}, {"platform", 0, FLAG_STR, &o->platform},
        {"pid", 0, FLAG_STR, &o->pid}, {"ipc", 0, FLAG_STR, &o->ipc}, {"uts", 0, FLAG_STR, &o->uts},
        {"userns", 0, FLAG_STR, &o->userns}, {"mac-address", 0, FLAG_SKIP_STR},
        {"env", 'e', FLAG_LIST, &o->env}, {"env-file", 0, FLAG_LIST, &o->env_file},
        {"label", 'l', FLAG_LIST, &o->labels}, {"label-file", 0, FLAG_LIST, &o->label_file},
        {"volume", 'v', FLAG_LIST, &o->volumes}, {"volumes-from", 0, FLAG_LIST, &o->volumes_from},
        {"mount", 0, FLAG_LIST, &o->mounts}, {"publish", 'p', FLAG_LIST, &o->publish},
        {"publish-all", 'P', FLAG_BOOL, &o->publish_all}, {"expose", 0, FLAG_LIST, &o->expose},
        {"tmpfs", 0, FLAG_LIST, &o->tmpfs}, {"cap-add", 0, FLAG_LIST, &o->cap_add},
        {"cap-drop", 0, FLAG_LIST, &o->cap_drop}, {"add-host", 0, FLAG_LIST, &o->add_host},
        {"dns", 0, FLAG_LIST, &o->dns}, {"dns-search", 0, FLAG_LIST, &o->dns_search},
        {"dns-option", 0, FLAG_SKIP_STR}, {"dns-opt", 0, FLAG_SKIP_STR},
        {"ulimit", 0, FLAG_LIST, &o->ulimits}, {"device", 0, FLAG_LIST, &o->devices},
        {"security-opt", 0, FLAG_LIST, &o->security_opt}, {"link", 0, FLAG_LIST, &o->links},
        {"group-add", 0, FLAG_LIST, &o->groups}, {"tty", 't', FLAG_BOOL, &o->tty},
        {"interactive", 'i', FLAG_BOOL, &o->stdin_open}, {"attach", 'a', FLAG_LIST, &o->attach},
        {"privileged", 0, FLAG_BOOL, &o->privileged}, {"read-only", 0, FLAG_BOOL, &o->read_only},
        {"init", 0, FLAG_BOOL, &o->init}, {"health-cmd", 0, FLAG_STR, &o->health_cmd, &o->health_given},
        {"health-interval", 0, FLAG_STR, &o->health_interval, &o->health_given},
        {"health-timeout", 0, FLAG_STR, &o->health_timeout, &o->health_given},
        {"health-start-period", 0, FLAG_STR, &o->health_start, &o->health_given},
        {"health-start-interval", 0, FLAG_STR, &o->health_start_interval, &o->health_given},
        {"health-retries", 0, FLAG_INT, &o->health_retries, &o->health_given},
        {"no-healthcheck", 0, FLAG_BOOL, &o->no_health},
        {"detach", 'd', FLAG_BOOL, &o->detach}, {"rm", 0, FLAG_BOOL, &o->rm},
        {"quiet", 'q', FLAG_BOOL, &o->quiet}, {"sig-proxy", 0, FLAG_BOOL, &o->sig_proxy},
        {"detach-keys", 0, FLAG_STR, &o->detach_keys}, {"cidfile", 0, FLAG_STR, &o->cidfile},
        {"pull", 0, FLAG_STR, &o->pull},
        /* What changes nothing that can be seen here. */
        {"memory-swap", 0, FLAG_SKIP_STR}, {"memory-reservation", 0, FLAG_SKIP_STR},
        {"memory-swappiness", 0, FLAG_SKIP_STR}, {"kernel-memory", 0, FLAG_SKIP_STR},
        {"cpu-shares", 'c', FLAG_SKIP_STR}, {"cpu-period", 0, FLAG_SKIP_STR},
        {"cpu-quota", 0, FLAG_SKIP_STR}, {"cpuset-cpus", 0, FLAG_SKIP_STR},
        {"cpuset-mems", 0, FLAG_SKIP_STR}, {"blkio-weight", 0, FLAG_SKIP_STR},
        {"oom-kill-disable", 0, FLAG_SKIP}, {"oom-score-adj", 0, FLAG_SKIP_STR},
        {"log-driver", 0, FLAG_SKIP_STR}, {"log-opt", 0, FLAG_SKIP_STR},
        {"cgroup-parent", 0, FLAG_SKIP_STR}, {"cgroupns", 0, FLAG_SKIP_STR},
        {"disable-content-trust", 0, FLAG_SKIP}, {"isolation", 0, FLAG_SKIP_STR},
        {"sysctl", 0, FLAG_NOTYET_STR}, {"gpus", 0, FLAG_NOTYET_STR}, {"runtime", 0, FLAG_NOTYET_STR},
        {"volume-driver", 0, FLAG_NOTYET_STR}, {"ip", 0, FLAG_NOTYET_STR}, {"ip6", 0, FLAG_NOTYET_STR},
        {"storage-opt", 0, FLAG_NOTYET_STR}, {"device-cgroup-rule", 0, FLAG_NOTYET_STR},
        {"annotation", 0, FLAG_SKIP_STR}, {"use-api-socket", 0, FLAG_NOTYET},
    };
    o->sig_proxy = true;
    const struct flag_set set = {flags, ELEMENTS(flags), .interspersed = what == CREATE_SERVICE};
    _cleanup_strv_ struct strv rest = {0};
    bool h = false;
    int r = flags_parse(&set, argc, argv, &rest, &h, e);
    if (help)
        *help = h;
    if (r < 0 || h)
        return r;
    if (what == CREATE_SERVICE) {
        if (rest.n)
            return err_set(e, ERR_CONFIG, -EINVAL, "options: not an option: %s", rest.v[0]);
        if (o->env_file.n || o->label_file.n || o->cidfile || o->detach || o->rm || o->attach.n)
            return err_set(e, ERR_CONFIG, -EINVAL, "options: %s cannot be used for a service",
                           o->env_file.n ? "--env-file" : o->label_file.n ? "--label-file"
                           : o->cidfile ? "--cidfile" : o->detach ? "--detach" : o->rm ? "--rm" : "--attach");
        return check_values(o, e);
    }
    if (!rest.n)
        return err_set(e, ERR_USER, -EINVAL, "\"docker %s\" requires at least 1 argument.",
                       what == CREATE_RUN ? "run" : "create");
    o->image = argv[argc - (int)rest.n]; /* flags end at the image: the rest is argv's tail */
    for (size_t i = 1; i < rest.n; i++)
        strv_add(&o->cmd, rest.v[i]);
    _cleanup_strv_ struct strv env = {0};
    for (size_t i = 0; i < o->env_file.n && r >= 0; i++)
        r = read_kv_file(o->env_file.v[i], true, &env, e);
    for (size_t i = 0; i < o->env.n; i++) {
        const char *v = strchr(o->env.v[i], '=') ? NULL : getenv(o->env.v[i]);
        if (v)
            strv_addf(&env, "%s=%s", o->env.v[i], v);
        else
            strv_add(&env, o->env.v[i]);
    }
    struct strv t = o->env;
    o->env = env;
    env = t;
    for (size_t i = 0; i < o->label_file.n && r >= 0; i++)
        r = read_kv_file(o->label_file.v[i], false, &o->labels, e);
    return r < 0 ? r : check_values(o, e);
}

void create_opts_done(struct create_opts *o) {
    struct strv *all[] = {&o->env, &o->env_file, &o->labels, &o->label_file, &o->volumes, &o->volumes_from,
                          &o->mounts, &o->publish, &o->expose, &o->tmpfs, &o->cap_add, &o->cap_drop,
                          &o->add_host, &o->dns, &o->dns_search, &o->aliases, &o->ulimits, &o->devices,
                          &o->security_opt, &o->links, &o->attach, &o->groups, &o->cmd};
    for (size_t i = 0; i < ELEMENTS(all); i++)
        strv_done(all[i]);
}

/* --- ports --------------------------------------------------------------------------------- */

static int parse_range(struct sv s, unsigned *lo, unsigned *hi) {
    ssize_t dash = sv_chr(s, '-');
    uint64_t a, b;
    if (sv_u64(dash < 0 ? s : sv_sub(s, 0, (size_t)dash), 65535, &a) < 0)
        return -EINVAL;
    b = a;
    if (dash >= 0 && sv_u64(sv_sub(s, (size_t)dash + 1, s.n), 65535, &b) < 0)
        return -EINVAL;
    if (b < a || a == 0)
        return -EINVAL;
    *lo = (unsigned)a;
    *hi = (unsigned)b;
    return 0;
}

int port_spec_parse(const char *spec, port_fn fn, void *arg, struct err *e) {
    struct sv s = sv_from(spec), proto = SV("tcp"), ip = SV_NULL, host = SV_NULL;
    ssize_t slash = sv_rchr(s, '/');
    if (slash >= 0) {
        proto = sv_sub(s, (size_t)slash + 1, s.n);
        s = sv_sub(s, 0, (size_t)slash);
    }
    if (!sv_ieqs(proto, "tcp") && !sv_ieqs(proto, "udp") && !sv_ieqs(proto, "sctp"))
        return err_set(e, ERR_USER, -EINVAL, "invalid proto: " SV_FMT, SV_ARG(proto));
    ssize_t colon = sv_rchr(s, ':');
    struct sv target = colon < 0 ? s : sv_sub(s, (size_t)colon + 1, s.n);
    if (colon >= 0) {
        host = sv_sub(s, 0, (size_t)colon);
        ssize_t c2 = sv_rchr(host, ':');
        if (c2 >= 0) {
            ip = sv_sub(host, 0, (size_t)c2);
            host = sv_sub(host, (size_t)c2 + 1, host.n);
            if (ip.n > 1 && ip.p[0] == '[' && ip.p[ip.n - 1] == ']')
                ip = sv_sub(ip, 1, ip.n - 2);
        }
    }
    unsigned lo, hi, hlo = 0, hhi = 0;
    if (!target.n)
        return err_set(e, ERR_USER, -EINVAL, "no port specified: %s<empty>", spec);
    if (parse_range(target, &lo, &hi) < 0)
        return err_set(e, ERR_USER, -EINVAL, "invalid containerPort: " SV_FMT, SV_ARG(target));
    bool any = !host.n || sv_eqs(host, "0");
    if (!any && parse_range(host, &hlo, &hhi) < 0)
        return err_set(e, ERR_USER, -EINVAL, "invalid hostPort: " SV_FMT, SV_ARG(host));
    if (!any && hhi - hlo != hi - lo && lo != hi)
        return err_set(e, ERR_USER, -EINVAL, "invalid ranges specified for container and host Ports: %s", spec);
    char ips[64], pr[8], hp[16];
    snprintf(ips, sizeof(ips), SV_FMT, SV_ARG(ip));
    snprintf(pr, sizeof(pr), "%s", sv_ieqs(proto, "udp") ? "udp" : sv_ieqs(proto, "sctp") ? "sctp" : "tcp");
    for (unsigned p = lo; p <= hi; p++) {
        if (any)
            hp[0] = 0;
        else if (lo == hi && hhi != hlo)
            snprintf(hp, sizeof(hp), "%u-%u", hlo, hhi);
        else
            snprintf(hp, sizeof(hp), "%u", hlo + (p - lo));
        fn(arg, ips, hp, p, pr);
    }
    return 0;
}

/* --- the body ------------------------------------------------------------------------------ */

static void put_list(struct json_w *w, const char *key, const struct strv *v) {
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < v->n; i++)
        jw_str(w, v->v[i]);
    jw_end_arr(w);
}

enum { PORTS_MAX = 4096 };
struct port_out {
    struct json_w *w;
    bool bindings;
    struct strv seen; /* looked through for each port, hence the limit */
};

static void put_port(void *arg, const char *ip, const char *host, unsigned target, const char *proto) {
    struct port_out *po = arg;
    char key[32];
    if (po->seen.n > PORTS_MAX)
        return;
    snprintf(key, sizeof(key), "%u/%s", target, proto);
    if (po->bindings) { /* "key|ip|host", grouped by key afterwards */
        strv_addf(&po->seen, "%s|%s|%s", key, ip, host);
        return;
    }
    if (strv_contains(&po->seen, key))
        return;
    strv_add(&po->seen, key);
    jw_key(po->w, key);
    jw_obj(po->w);
    jw_end_obj(po->w);
}

static int put_ports(const struct create_opts *o, struct json_w *w, bool bindings, struct err *e) {
    struct port_out po = {w, bindings, {0}};
    int r = 0;
    jw_key(w, bindings ? "PortBindings" : "ExposedPorts");
    jw_obj(w);
    for (size_t i = 0; i < o->publish.n && r >= 0; i++)
        r = port_spec_parse(o->publish.v[i], put_port, &po, e);
    for (size_t i = 0; i < o->expose.n && r >= 0 && !bindings; i++)
        r = port_spec_parse(o->expose.v[i], put_port, &po, e);
    if (r >= 0 && po.seen.n > PORTS_MAX)
        r = err_set(e, ERR_LIMIT, -E2BIG, "more than %d ports", PORTS_MAX);
    for (size_t i = 0; bindings && r >= 0 && i < po.seen.n; i++) {
        if (!po.seen.v[i][0])
            continue;
        struct sv it = sv_from(po.seen.v[i]), key;
        sv_split(&it, '|', &key);
        jw_keysv(w, key);
        jw_arr(w);
        for (size_t k = i; k < po.seen.n; k++) {
            struct sv rest = sv_from(po.seen.v[k]), kk, ip;
            if (!rest.n || !sv_split(&rest, '|', &kk) || !sv_eq(kk, key))
                continue;
            sv_split(&rest, '|', &ip);
            jw_obj(w);
            jw_key(w, "HostIp");
            jw_sv(w, ip);
            jw_key(w, "HostPort");
            jw_sv(w, rest.p ? rest : SV(""));
            jw_end_obj(w);
            if (k > i)
                po.seen.v[k][0] = 0;
        }
        jw_end_arr(w);
    }
    jw_end_obj(w);
    strv_done(&po.seen);
    return r;
}

static void put_labels(const struct create_opts *o, struct json_w *w) {
    jw_key(w, "Labels");
    jw_obj(w);
    for (size_t i = 0; i < o->labels.n; i++) {
        struct sv v = sv_from(o->labels.v[i]), k;
        sv_split(&v, '=', &k);
        jw_keysv(w, k);
        jw_sv(w, v.p ? v : SV(""));
    }
    jw_end_obj(w);
}

static void put_health(const struct create_opts *o, struct json_w *w) {
    if (!o->health_given && !o->no_health)
        return;
    jw_key(w, "Healthcheck");
    jw_obj(w);
    if (o->no_health || o->health_cmd) {
        jw_key(w, "Test");
        jw_arr(w);
        jw_str(w, o->no_health ? "NONE" : "CMD-SHELL");
        if (!o->no_health)
            jw_str(w, o->health_cmd);
        jw_end_arr(w);
    }
    const struct {
        const char *key, *v;
    } t[] = {{"Interval", o->health_interval}, {"Timeout", o->health_timeout},
             {"StartPeriod", o->health_start}, {"StartInterval", o->health_start_interval}};
    for (size_t i = 0; i < ELEMENTS(t); i++) {
        uint64_t ns = 0;
        if (t[i].v && duration_parse(t[i].v, &ns) >= 0)
            jw_kint(w, t[i].key, (int64_t)ns);
    }
    if (o->health_retries)
        jw_kint(w, "Retries", o->health_retries);
    jw_end_obj(w);
}

/* -v and --volume: "target" (anonymous) goes into Volumes, the rest into HostConfig.Binds. A
 * relative source is made absolute against the working folder, as docker's client does. */
static void put_volumes(const struct create_opts *o, struct json_w *w) {
    jw_key(w, "Volumes");
    jw_obj(w);
    for (size_t i = 0; i < o->volumes.n; i++)
        if (!strchr(o->volumes.v[i], ':')) {
            jw_key(w, o->volumes.v[i]);
            jw_obj(w);
            jw_end_obj(w);
        }
    jw_end_obj(w);
}

static void put_binds(const struct create_opts *o, struct json_w *w) {
    jw_key(w, "Binds");
    jw_arr(w);
    for (size_t i = 0; i < o->volumes.n; i++) {
        const char *v = o->volumes.v[i], *colon = strchr(v, ':');
        if (!colon)
            continue;
        if (v[0] == '.' || v[0] == '~') {
            _cleanup_free_ char *src = xstrndup(v, (size_t)(colon - v)), *cwd = getcwd(NULL, 0);
            _cleanup_free_ char *abs = path_join(cwd ? cwd : "/", src);
            _cleanup_free_ char *full = xasprintf("%s%s", abs, colon);
            jw_str(w, full);
        } else
            jw_str(w, v);
    }
    jw_end_arr(w);
}

/* --mount type=bind,source=…,target=…,readonly */
static int put_mount(const char *spec, struct json_w *w, struct err *e) {
    struct sv rest = sv_from(spec), part;
    _cleanup_free_ char *type = xstrdup("volume"), *src = NULL, *dst = NULL;
    bool ro = false;
    uint64_t size = 0;
    while (sv_split(&rest, ',', &part)) {
        struct sv v = part, k;
        sv_split(&v, '=', &k);
        char **to = NULL;
        if (sv_eqs(k, "type"))
            to = &type;
        else if (sv_eqs(k, "source") || sv_eqs(k, "src"))
            to = &src;
        else if (sv_eqs(k, "target") || sv_eqs(k, "dst") || sv_eqs(k, "destination"))
            to = &dst;
        if (to) {
            free(*to);
            *to = sv_dup(v);
        } else if (sv_eqs(k, "readonly") || sv_eqs(k, "ro"))
            ro = !v.p || sv_eqs(v, "true") || sv_eqs(v, "1");
        else if (sv_eqs(k, "tmpfs-size")) {
            _cleanup_free_ char *t = sv_dup(v);
            if (ram_parse(t, &size) < 0)
                return err_set(e, ERR_USER, -EINVAL, "invalid value for tmpfs-size: %s", t);
        } else if (!sv_eqs(k, "consistency") && !sv_eqs(k, "bind-propagation") && !sv_eqs(k, "volume-nocopy") &&
                   !sv_eqs(k, "tmpfs-mode"))
            return err_set(e, ERR_USER, -EINVAL, "unexpected key '" SV_FMT "' in '" SV_FMT "'", SV_ARG(k), SV_ARG(part));
    }
    if (!dst)
        return err_set(e, ERR_USER, -EINVAL, "invalid argument \"%s\" for \"--mount\" flag: target is required", spec);
    jw_obj(w);
    jw_kstr(w, "Type", type);
    if (src && streq(type, "bind") && src[0] != '/') {
        _cleanup_free_ char *cwd = getcwd(NULL, 0), *abs = path_join(cwd ? cwd : "/", src);
        jw_kstr(w, "Source", abs);
    } else
        jw_kstr(w, "Source", src ? src : "");
    jw_kstr(w, "Target", dst);
    jw_kbool(w, "ReadOnly", ro);
    if (size) {
        jw_key(w, "TmpfsOptions");
        jw_obj(w);
        jw_kint(w, "SizeBytes", (int64_t)size);
        jw_end_obj(w);
    }
    jw_end_obj(w);
    return 0;
}

static int put_host_config(const struct create_opts *o, struct json_w *w, struct err *e) {
    uint64_t v = 0;
    put_binds(o, w);
    int r = put_ports(o, w, true, e);
    if (r < 0)
        return r;
    jw_kstr(w, "NetworkMode", o->network ? o->network : "default");
    jw_kbool(w, "AutoRemove", o->rm);
    jw_kbool(w, "PublishAllPorts", o->publish_all);
    jw_kbool(w, "Privileged", o->privileged);
    jw_kbool(w, "ReadonlyRootfs", o->read_only);
    if (o->init)
        jw_kbool(w, "Init", true);
    put_list(w, "CapAdd", &o->cap_add);
    put_list(w, "CapDrop", &o->cap_drop);
    put_list(w, "Dns", &o->dns);
    put_list(w, "DnsSearch", &o->dns_search);
    put_list(w, "ExtraHosts", &o->add_host);
    put_list(w, "GroupAdd", &o->groups);
    put_list(w, "SecurityOpt", &o->security_opt);
    put_list(w, "VolumesFrom", &o->volumes_from);
    put_list(w, "Links", &o->links);
    if (o->memory && ram_parse(o->memory, &v) >= 0)
        jw_kint(w, "Memory", (int64_t)v);
    if (o->shm_size && ram_parse(o->shm_size, &v) >= 0)
        jw_kint(w, "ShmSize", (int64_t)v);
    if (o->cpus) {
        char *end;
        double c = strtod(o->cpus, &end);
        if (*end || !(c > 0) || c > 100000)
            return err_set(e, ERR_USER, -EINVAL, "invalid argument \"%s\" for \"--cpus\" flag", o->cpus);
        jw_kint(w, "NanoCpus", (int64_t)(c * 1e9));
    }
    if (o->pids_limit)
        jw_kint(w, "PidsLimit", o->pids_limit);
    if (o->ipc)
        jw_kstr(w, "IpcMode", o->ipc);
    jw_key(w, "Tmpfs");
    jw_obj(w);
    for (size_t i = 0; i < o->tmpfs.n; i++) {
        struct sv opts = sv_from(o->tmpfs.v[i]), path;
        sv_split(&opts, ':', &path);
        jw_keysv(w, path);
        jw_sv(w, opts.p ? opts : SV(""));
    }
    jw_end_obj(w);
    jw_key(w, "Devices");
    jw_arr(w);
    for (size_t i = 0; i < o->devices.n; i++) {
        struct sv rest = sv_from(o->devices.v[i]), host, in = SV_NULL;
        sv_split(&rest, ':', &host);
        sv_split(&rest, ':', &in);
        jw_obj(w);
        jw_key(w, "PathOnHost");
        jw_sv(w, host);
        jw_key(w, "PathInContainer");
        jw_sv(w, in.n ? in : host);
        jw_kstr(w, "CgroupPermissions", "rwm");
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_key(w, "Mounts");
    jw_arr(w);
    for (size_t i = 0; i < o->mounts.n; i++)
        if ((r = put_mount(o->mounts.v[i], w, e)) < 0)
            return r;
    jw_end_arr(w);
    return 0;
}

int create_opts_body(const struct create_opts *o, struct buf *body, struct err *e) {
    struct json_w w;
    jw_init(&w, body, 0);
    jw_obj(&w);
    jw_kstr(&w, "Hostname", o->hostname ? o->hostname : "");
    jw_kstr(&w, "Domainname", o->domainname ? o->domainname : "");
    jw_kstr(&w, "User", o->user ? o->user : "");
    bool all = !o->attach.n;
    bool in = !o->detach && (all ? o->stdin_open : strv_contains(&o->attach, "stdin"));
    jw_kbool(&w, "AttachStdin", in);
    jw_kbool(&w, "AttachStdout", !o->detach && (all || strv_contains(&o->attach, "stdout")));
    jw_kbool(&w, "AttachStderr", !o->detach && (all || strv_contains(&o->attach, "stderr")));
    jw_kbool(&w, "Tty", o->tty);
    jw_kbool(&w, "OpenStdin", o->stdin_open);
    jw_kbool(&w, "StdinOnce", in);
    put_list(&w, "Env", &o->env);
    if (o->cmd.n)
        put_list(&w, "Cmd", &o->cmd);
    jw_kstr(&w, "Image", o->image ? o->image : "");
    put_volumes(o, &w);
    jw_kstr(&w, "WorkingDir", o->workdir ? o->workdir : "");
    if (o->entrypoint_given) { /* "" resets it: docker sends [""] */
        jw_key(&w, "Entrypoint");
        jw_arr(&w);
        jw_str(&w, o->entrypoint ? o->entrypoint : "");
        jw_end_arr(&w);
    }
    put_labels(o, &w);
    put_health(o, &w);
    if (o->stop_signal)
        jw_kstr(&w, "StopSignal", o->stop_signal);
    if (o->stop_timeout_given)
        jw_kint(&w, "StopTimeout", o->stop_timeout);
    int r = put_ports(o, &w, false, e);
    if (r < 0)
        return r;
    jw_key(&w, "HostConfig");
    jw_obj(&w);
    r = put_host_config(o, &w, e);
    if (r < 0)
        return r;
    jw_end_obj(&w);
    jw_key(&w, "NetworkingConfig");
    jw_obj(&w);
    jw_key(&w, "EndpointsConfig");
    jw_obj(&w);
    if (o->aliases.n) {
        jw_key(&w, o->network ? o->network : "default");
        jw_obj(&w);
        put_list(&w, "Aliases", &o->aliases);
        jw_end_obj(&w);
    }
    jw_end_obj(&w);
    jw_end_obj(&w);
    jw_end_obj(&w);
    return buf_ok(body) ? 0 : err_set(e, ERR_LIMIT, -E2BIG, "the options are too long");
}
