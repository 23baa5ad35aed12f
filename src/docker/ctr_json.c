/* Containers as the API shows them. Field by field as docker has them, since docker-py,
 * testcontainers and scripts read them. */
#include "docker/impl.h"

#include <time.h>

const char *health_name(const struct ctr *c) {
    static const char *const names[] = {"none", "starting", "healthy", "unhealthy"};
    return c->health.on ? names[c->health.status] : "none";
}

static void list_json(struct json_w *w, const char *key, const struct strv *v, bool null_when_empty) {
    jw_key(w, key);
    if (!v->n && null_when_empty) {
        jw_null(w);
        return;
    }
    jw_arr(w);
    for (size_t i = 0; i < v->n; i++)
        jw_str(w, v->v[i]);
    jw_end_arr(w);
}

static void set_json(struct json_w *w, const char *key, const struct strv *v) {
    jw_key(w, key);
    jw_obj(w);
    for (size_t i = 0; i < v->n; i++) {
        jw_key(w, v->v[i]);
        jw_obj(w);
        jw_end_obj(w);
    }
    jw_end_obj(w);
}

static void health_json(const struct ctr *c, struct json_w *w) {
    if (!c->health.on)
        return;
    jw_key(w, "Health");
    jw_obj(w);
    jw_kstr(w, "Status", health_name(c));
    jw_kint(w, "FailingStreak", c->health.streak);
    jw_key(w, "Log");
    jw_arr(w);
    for (size_t i = 0; i < c->health.n_log; i++) {
        jw_obj(w);
        time_json(w, "Start", c->health.log[i].start);
        time_json(w, "End", c->health.log[i].end);
        jw_kint(w, "ExitCode", c->health.log[i].code);
        jw_kstr(w, "Output", c->health.log[i].output);
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_end_obj(w);
}

static void state_json(const struct ctr *c, struct json_w *w) {
    jw_key(w, "State");
    jw_obj(w);
    jw_kstr(w, "Status", c->frozen ? "paused" : ctr_state_name(c->state));
    jw_kbool(w, "Running", c->state == CTR_RUNNING);
    jw_kbool(w, "Paused", c->frozen);
    jw_kbool(w, "Restarting", false);
    jw_kbool(w, "OOMKilled", c->oom);
    jw_kbool(w, "Dead", false);
    jw_kint(w, "Pid", c->state == CTR_RUNNING ? MAX(c->pid, 1) : 0);
    jw_kint(w, "ExitCode", c->exit_code);
    jw_kstr(w, "Error", c->error);
    time_json(w, "StartedAt", c->started);
    time_json(w, "FinishedAt", c->finished);
    health_json(c, w);
    jw_end_obj(w);
}

static void ports_json(const struct ctr *c, struct json_w *w, bool bindings) {
    jw_obj(w);
    for (size_t i = 0; i < c->n_ports; i++) {
        const struct port_map *p = &c->ports[i];
        bool seen = false;
        for (size_t k = 0; k < i; k++)
            seen |= c->ports[k].target == p->target && streq(c->ports[k].proto, p->proto);
        if (seen || (bindings && !p->want) || (!bindings && c->state != CTR_RUNNING))
            continue;
        char key[16];
        snprintf(key, sizeof(key), "%u/%s", p->target, p->proto);
        jw_key(w, key);
        if (!p->want || (!bindings && !p->got)) {
            jw_null(w);
            continue;
        }
        jw_arr(w);
        for (size_t k = i; k < c->n_ports; k++) {
            const struct port_map *q = &c->ports[k];
            if (q->target != p->target || !streq(q->proto, p->proto) || !q->want)
                continue;
            char num[8] = "";
            if (bindings ? q->host : q->got)
                snprintf(num, sizeof(num), "%u", bindings ? q->host : q->got);
            jw_obj(w);
            jw_kstr(w, "HostIp", bindings || *q->ip ? q->ip : "0.0.0.0");
            jw_kstr(w, "HostPort", num);
            jw_end_obj(w);
        }
        jw_end_arr(w);
    }
    jw_end_obj(w);
}

static const char *net_id(const struct ctr *c) {
    struct network *n = map_gets(&c->g->networks, c->network);
    return n ? n->id : c->g->net_id;
}

static void endpoint_json(const struct ctr *c, struct json_w *w, bool full) {
    bool up = c->state == CTR_RUNNING && c->box;
    const char *ip = up && !streq(c->network, "host") && !streq(c->network, "none") ? box_ip(c->box) : NULL;
    char mac[24] = "";
    unsigned b[4];
    if (ip && sscanf(ip, "%u.%u.%u.%u", &b[0], &b[1], &b[2], &b[3]) == 4)
        snprintf(mac, sizeof(mac), "02:42:%02x:%02x:%02x:%02x", b[0] & 255, b[1] & 255, b[2] & 255, b[3] & 255);
    const char *gw = c->g->o.net ? net_gateway(c->g->o.net) : NULL;
    jw_key(w, "IPAMConfig");
    jw_null(w);
    jw_key(w, "Links");
    jw_null(w);
    list_json(w, "Aliases", &c->aliases, true);
    jw_kstr(w, "NetworkID", net_id(c));
    jw_kstr(w, "EndpointID", up ? c->id : "");
    jw_kstr(w, "Gateway", ip && gw ? gw : "");
    jw_kstr(w, "IPAddress", ip ? ip : "");
    jw_kint(w, "IPPrefixLen", ip ? 16 : 0);
    jw_kstr(w, "IPv6Gateway", "");
    jw_kstr(w, "GlobalIPv6Address", "");
    jw_kint(w, "GlobalIPv6PrefixLen", 0);
    jw_kstr(w, "MacAddress", mac);
    jw_key(w, "DriverOpts");
    jw_null(w);
    if (!full)
        return;
    jw_key(w, "DNSNames");
    jw_arr(w);
    jw_str(w, c->name);
    for (size_t i = 0; i < c->aliases.n; i++)
        jw_str(w, c->aliases.v[i]);
    jw_end_arr(w);
}

static void networks_json(const struct ctr *c, struct json_w *w) {
    jw_key(w, "Networks");
    jw_obj(w);
    jw_key(w, c->network);
    jw_obj(w);
    endpoint_json(c, w, true);
    jw_end_obj(w);
    jw_end_obj(w);
}

static void network_json(const struct ctr *c, struct json_w *w) {
    bool up = c->state == CTR_RUNNING && c->box && streq(c->network, "bridge");
    const char *ip = up ? box_ip(c->box) : NULL, *gw = up && c->g->o.net ? net_gateway(c->g->o.net) : NULL;
    jw_key(w, "NetworkSettings");
    jw_obj(w);
    jw_kstr(w, "Bridge", "");
    jw_kstr(w, "SandboxID", up ? c->id : "");
    jw_kstr(w, "SandboxKey", "");
    jw_kbool(w, "HairpinMode", false);
    jw_kstr(w, "LinkLocalIPv6Address", "");
    jw_kint(w, "LinkLocalIPv6PrefixLen", 0);
    jw_key(w, "Ports");
    ports_json(c, w, false);
    jw_kstr(w, "EndpointID", up ? c->id : "");
    jw_kstr(w, "Gateway", gw ? gw : "");
    jw_kstr(w, "IPAddress", ip ? ip : "");
    jw_kint(w, "IPPrefixLen", ip ? 16 : 0);
    jw_kstr(w, "IPv6Gateway", "");
    jw_kstr(w, "GlobalIPv6Address", "");
    jw_kint(w, "GlobalIPv6PrefixLen", 0);
    jw_kstr(w, "MacAddress", "");
    networks_json(c, w);
    jw_end_obj(w);
}

static void mounts_json(const struct ctr *c, struct json_w *w) {
    jw_key(w, "Mounts");
    jw_arr(w);
    for (size_t i = 0; i < c->n_mounts; i++) {
        const struct ctr_mount *m = &c->mounts[i];
        bool named = streq(m->type, "volume");
        jw_obj(w);
        jw_kstr(w, "Type", m->type);
        if (named) {
            _cleanup_free_ char *anon = m->name ? NULL : xasprintf("%.48s%016zx", c->id, i);
            jw_kstr(w, "Name", m->name ? m->name : anon);
        }
        jw_kstr(w, "Source", m->source ? m->source : "");
        jw_kstr(w, "Destination", m->target);
        if (named)
            jw_kstr(w, "Driver", "local");
        jw_kstr(w, "Mode", m->rw ? "" : "ro");
        jw_kbool(w, "RW", m->rw);
        jw_kstr(w, "Propagation", streq(m->type, "bind") ? "rprivate" : "");
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static void config_json(const struct ctr *c, struct json_w *w) {
    struct strv volumes = {0};
    for (size_t i = 0; i < c->n_mounts; i++)
        if (streq(c->mounts[i].type, "volume") && !c->mounts[i].name)
            strv_add(&volumes, c->mounts[i].target);
    jw_key(w, "Config");
    jw_obj(w);
    jw_kstr(w, "Hostname", c->hostname);
    jw_kstr(w, "Domainname", json_get_str(c->body, "Domainname", ""));
    jw_kstr(w, "User", c->user ? c->user : "");
    jw_kbool(w, "AttachStdin", json_get_bool(c->body, "AttachStdin", false));
    jw_kbool(w, "AttachStdout", json_get_bool(c->body, "AttachStdout", false));
    jw_kbool(w, "AttachStderr", json_get_bool(c->body, "AttachStderr", false));
    if (c->exposed.n)
        set_json(w, "ExposedPorts", &c->exposed);
    jw_kbool(w, "Tty", c->tty);
    jw_kbool(w, "OpenStdin", c->open_stdin);
    jw_kbool(w, "StdinOnce", c->stdin_once);
    list_json(w, "Env", &c->env, false);
    list_json(w, "Cmd", &c->cmd, !c->has_cmd);
    const struct json *hc = json_get(c->body, "Healthcheck");
    if (c->health.on || (hc && hc->kind == JSON_OBJECT)) {
        jw_key(w, "Healthcheck");
        jw_obj(w);
        list_json(w, "Test", &c->health.test, false);
        jw_kint(w, "Interval", (int64_t)c->health.interval);
        jw_kint(w, "Timeout", (int64_t)c->health.timeout);
        jw_kint(w, "StartPeriod", (int64_t)c->health.start_period);
        jw_kint(w, "Retries", c->health.retries);
        jw_end_obj(w);
    }
    jw_kstr(w, "Image", c->image_name);
    if (volumes.n)
        set_json(w, "Volumes", &volumes);
    else {
        jw_key(w, "Volumes");
        jw_null(w);
    }
    jw_kstr(w, "WorkingDir", c->workdir ? c->workdir : "");
    list_json(w, "Entrypoint", &c->entrypoint, !c->has_entrypoint);
    jw_key(w, "OnBuild");
    jw_null(w);
    labels_json(w, "Labels", &c->labels);
    if (c->stop_signal)
        jw_kstr(w, "StopSignal", c->stop_signal);
    if (json_get(c->body, "StopTimeout"))
        jw_kint(w, "StopTimeout", c->stop_timeout);
    jw_end_obj(w);
    strv_done(&volumes);
}

static void host_config_json(const struct ctr *c, struct json_w *w) {
    /* What was asked for is echoed; what docker fills in is filled in. */
    static const char *const own[] = {"NetworkMode", "PortBindings", "AutoRemove", "Privileged", "ReadonlyRootfs", "ShmSize",
                                      "Memory", "NanoCpus", "RestartPolicy", "LogConfig", "Binds", "PublishAllPorts"};
    const struct json *hc = json_get(c->body, "HostConfig");
    jw_key(w, "HostConfig");
    jw_obj(w);
    const struct json *binds = json_get(hc, "Binds");
    jw_key(w, "Binds");
    if (binds && binds->n)
        jw_json(w, binds);
    else
        jw_null(w);
    jw_key(w, "LogConfig");
    jw_obj(w);
    jw_kstr(w, "Type", "json-file");
    jw_key(w, "Config");
    jw_obj(w);
    jw_end_obj(w);
    jw_end_obj(w);
    jw_kstr(w, "NetworkMode", c->network);
    jw_key(w, "PortBindings");
    ports_json(c, w, true);
    jw_key(w, "RestartPolicy");
    jw_obj(w);
    jw_kstr(w, "Name", "no");
    jw_kint(w, "MaximumRetryCount", 0);
    jw_end_obj(w);
    jw_kbool(w, "AutoRemove", c->auto_remove);
    jw_kbool(w, "PublishAllPorts", json_get_bool(hc, "PublishAllPorts", false));
    jw_kbool(w, "Privileged", c->privileged);
    jw_kbool(w, "ReadonlyRootfs", c->readonly);
    jw_kint(w, "ShmSize", (int64_t)c->limits.shm);
    jw_kint(w, "Memory", (int64_t)c->limits.memory);
    jw_kint(w, "NanoCpus", (int64_t)c->limits.nano_cpus);
    for (size_t i = 0; hc && hc->kind == JSON_OBJECT && i < hc->n; i++) {
        bool skip = false;
        for (size_t k = 0; k < ELEMENTS(own); k++)
            skip |= sv_eqs(hc->keys[i], own[k]);
        if (skip)
            continue;
        jw_keysv(w, hc->keys[i]);
        jw_json(w, hc->items[i]);
    }
    jw_end_obj(w);
}

void ctr_inspect_json(struct ctr *c, struct json_w *w) {
    jw_obj(w);
    jw_kstr(w, "Id", c->id);
    time_json(w, "Created", c->created);
    jw_kstr(w, "Path", c->argv.v[0]);
    jw_key(w, "Args");
    jw_arr(w);
    for (size_t i = 1; i < c->argv.n; i++)
        jw_str(w, c->argv.v[i]);
    jw_end_arr(w);
    state_json(c, w);
    jw_kstr(w, "Image", c->image_id);
    jw_kstr(w, "ResolvConfPath", "");
    jw_kstr(w, "HostnamePath", "");
    jw_kstr(w, "HostsPath", "");
    jw_kstr(w, "LogPath", "");
    _cleanup_free_ char *name = xasprintf("/%s", c->name);
    jw_kstr(w, "Name", name);
    jw_kint(w, "RestartCount", 0);
    jw_kstr(w, "Driver", "overlay2");
    jw_kstr(w, "Platform", "linux");
    jw_kstr(w, "MountLabel", "");
    jw_kstr(w, "ProcessLabel", "");
    jw_kstr(w, "AppArmorProfile", "");
    exec_ids_json(c->g, c, w);
    host_config_json(c, w);
    jw_key(w, "GraphDriver");
    jw_obj(w);
    jw_key(w, "Data");
    jw_null(w);
    jw_kstr(w, "Name", "overlay2");
    jw_end_obj(w);
    mounts_json(c, w);
    config_json(c, w);
    network_json(c, w);
    jw_end_obj(w);
}

static void duration_text(struct buf *b, uint64_t since) {
    uint64_t now = now_real(), s = now > since ? (now - since) / 1000000000 : 0;
    if (s < 1)
        buf_adds(b, "Less than a second");
    else if (s < 60)
        buf_addf(b, "%llu second%s", (unsigned long long)s, s == 1 ? "" : "s");
    else if (s < 120)
        buf_adds(b, "About a minute");
    else if (s < 3600)
        buf_addf(b, "%llu minutes", (unsigned long long)(s / 60));
    else if (s < 5400)
        buf_adds(b, "About an hour");
    else if (s < 48 * 3600)
        buf_addf(b, "%llu hours", (unsigned long long)((s + 1800) / 3600));
    else
        buf_addf(b, "%llu days", (unsigned long long)(s / 86400));
}

static void status_text(const struct ctr *c, struct buf *b) {
    if (c->state == CTR_CREATED)
        buf_adds(b, "Created");
    else if (c->state == CTR_EXITED) {
        buf_addf(b, "Exited (%d) ", c->exit_code);
        duration_text(b, c->finished);
        buf_adds(b, " ago");
    } else {
        buf_adds(b, "Up ");
        duration_text(b, c->started);
        if (c->health.on)
            buf_addf(b, c->health.status == HEALTH_STARTING ? " (health: %s)" : " (%s)", health_name(c));
        if (c->frozen)
            buf_adds(b, " (Paused)");
    }
}

void ctr_list_json(struct ctr *c, struct json_w *w) {
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    jw_obj(w);
    jw_kstr(w, "Id", c->id);
    jw_key(w, "Names");
    jw_arr(w);
    buf_addf(&t, "/%s", c->name);
    jw_sv(w, buf_sv(&t));
    jw_end_arr(w);
    jw_kstr(w, "Image", c->image_name);
    jw_kstr(w, "ImageID", c->image_id);
    buf_reset(&t);
    for (size_t i = 0; i < c->argv.n; i++)
        buf_addf(&t, strchr(c->argv.v[i], ' ') ? "%s'%s'" : "%s%s", i ? " " : "", c->argv.v[i]);
    jw_key(w, "Command");
    jw_sv(w, buf_sv(&t));
    jw_kint(w, "Created", (int64_t)(c->created / 1000000000));
    jw_key(w, "Ports");
    jw_arr(w);
    for (size_t i = 0; i < c->n_ports; i++) {
        const struct port_map *p = &c->ports[i];
        jw_obj(w);
        if (p->got)
            jw_kstr(w, "IP", *p->ip ? p->ip : "0.0.0.0");
        jw_kint(w, "PrivatePort", p->target);
        if (p->got)
            jw_kint(w, "PublicPort", p->got);
        jw_kstr(w, "Type", p->proto);
        jw_end_obj(w);
    }
    jw_end_arr(w);
    labels_json(w, "Labels", &c->labels);
    jw_kstr(w, "State", c->frozen ? "paused" : ctr_state_name(c->state));
    buf_reset(&t);
    status_text(c, &t);
    jw_key(w, "Status");
    jw_sv(w, buf_sv(&t));
    jw_key(w, "HostConfig");
    jw_obj(w);
    jw_kstr(w, "NetworkMode", c->network);
    jw_end_obj(w);
    jw_key(w, "NetworkSettings");
    jw_obj(w);
    networks_json(c, w);
    jw_end_obj(w);
    mounts_json(c, w);
    jw_end_obj(w);
}
