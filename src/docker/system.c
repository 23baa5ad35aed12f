/* version, info, events, login, networks, volumes. */
#include "docker/impl.h"

#include <ctype.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static const char *go_arch(void) {
#if defined(__x86_64__)
    return "amd64";
#elif defined(__aarch64__)
    return "arm64";
#else
    return "unknown";
#endif
}

static void version(struct engine *g, struct json_w *w) {
    struct utsname u;
    uname(&u);
    jw_obj(w);
    jw_key(w, "Platform");
    jw_obj(w);
    jw_kstr(w, "Name", "slipway " SLIPWAY_VERSION);
    jw_end_obj(w);
    jw_key(w, "Components");
    jw_arr(w);
    jw_obj(w);
    jw_kstr(w, "Name", "Engine");
    jw_kstr(w, "Version", "27.0.0-slipway");
    jw_key(w, "Details");
    jw_obj(w);
    jw_kstr(w, "ApiVersion", ENGINE_API);
    jw_kstr(w, "MinAPIVersion", ENGINE_API_MIN);
    jw_kstr(w, "Os", "linux");
    jw_kstr(w, "Arch", go_arch());
    jw_kstr(w, "KernelVersion", u.release);
    jw_end_obj(w);
    jw_end_obj(w);
    jw_end_arr(w);
    jw_kstr(w, "Version", "27.0.0-slipway");
    jw_kstr(w, "ApiVersion", ENGINE_API);
    jw_kstr(w, "MinAPIVersion", ENGINE_API_MIN);
    jw_kstr(w, "GitCommit", SLIPWAY_VERSION);
    jw_kstr(w, "GoVersion", "");
    jw_kstr(w, "Os", "linux");
    jw_kstr(w, "Arch", go_arch());
    jw_kstr(w, "KernelVersion", u.release);
    jw_kstr(w, "BuildTime", "");
    jw_end_obj(w);
}

static void info(struct engine *g, struct json_w *w) {
    struct utsname u;
    struct sysinfo si;
    unsigned running = 0, total = 0;
    uname(&u);
    sysinfo(&si);
    MAP_FOREACH(&g->ctrs, en) {
        total++;
        running += ((struct ctr *)en->value)->state == CTR_RUNNING;
    }
    jw_obj(w);
    jw_kstr(w, "ID", g->net_id);
    jw_kint(w, "Containers", total);
    jw_kint(w, "ContainersRunning", running);
    jw_kint(w, "ContainersPaused", 0);
    jw_kint(w, "ContainersStopped", total - running);
    jw_kint(w, "Images", 0);
    jw_kstr(w, "Driver", "overlay2");
    jw_key(w, "DriverStatus");
    jw_arr(w);
    jw_end_arr(w);
    jw_key(w, "Plugins");
    jw_obj(w);
    jw_end_obj(w);
    jw_kbool(w, "MemoryLimit", true);
    jw_kbool(w, "SwapLimit", false);
    jw_kbool(w, "CpuCfsPeriod", true);
    jw_kbool(w, "CpuCfsQuota", true);
    jw_kbool(w, "PidsLimit", true);
    jw_kbool(w, "IPv4Forwarding", true);
    jw_kbool(w, "Debug", false);
    jw_kint(w, "NFd", 0);
    jw_kint(w, "NGoroutines", 0);
    jw_kstr(w, "LoggingDriver", "json-file");
    jw_kstr(w, "CgroupDriver", "none");
    jw_kstr(w, "CgroupVersion", "2");
    jw_kint(w, "NEventsListener", 0);
    jw_kstr(w, "KernelVersion", u.release);
    jw_kstr(w, "OperatingSystem", "slipway " SLIPWAY_VERSION);
    jw_kstr(w, "OSType", "linux");
    jw_kstr(w, "Architecture", u.machine);
    jw_kstr(w, "IndexServerAddress", "https://index.docker.io/v1/");
    jw_key(w, "RegistryConfig");
    jw_obj(w);
    jw_key(w, "IndexConfigs");
    jw_obj(w);
    jw_end_obj(w);
    jw_key(w, "Mirrors");
    jw_arr(w);
    jw_end_arr(w);
    jw_end_obj(w);
    jw_kint(w, "NCPU", get_nprocs());
    jw_kint(w, "MemTotal", (int64_t)((uint64_t)si.totalram * si.mem_unit));
    jw_kstr(w, "DockerRootDir", "");
    jw_kstr(w, "Name", g->o.name ? g->o.name : u.nodename);
    jw_key(w, "Labels");
    jw_arr(w);
    jw_end_arr(w);
    jw_kbool(w, "ExperimentalBuild", false);
    jw_kstr(w, "ServerVersion", "27.0.0-slipway");
    jw_key(w, "Swarm");
    jw_obj(w);
    jw_kstr(w, "LocalNodeState", "inactive");
    jw_kbool(w, "ControlAvailable", false);
    jw_end_obj(w);
    jw_kstr(w, "DefaultRuntime", "slipway");
    jw_key(w, "SecurityOptions");
    jw_arr(w);
    jw_str(w, "name=userns");
    jw_end_arr(w);
    jw_key(w, "Warnings");
    jw_null(w);
    jw_end_obj(w);
}

void system_handle(struct engine *g, struct httpd_req *rq, const char *what) {
    struct buf b = BUF_MAX(256u << 10);
    struct json_w w;
    if (streq(what, "system/df")) {
        reply_not_yet(rq, "docker system df");
        return;
    }
    jw_init(&w, &b, 0);
    if (streq(what, "version"))
        version(g, &w);
    else
        info(g, &w);
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
}

/* --- events ---------------------------------------------------------------------------------- */

struct ev_sub {
    struct ev_sub *next;
    struct engine *g;
    struct httpd_req *rq;
    struct arena a;
    const struct json *filters;
    struct loop_source *timer;
};

struct ev {
    const char *type, *action, *id;
    const char *const *attrs;
};

static bool ev_type(const char *v, void *arg) { return streq(v, ((struct ev *)arg)->type); }
static bool ev_action(const char *v, void *arg) {
    const char *a = ((struct ev *)arg)->action;
    return strncmp(a, v, strlen(v)) == 0;
}
static bool ev_ctr(const char *v, void *arg) {
    struct ev *e = arg;
    if (!streq(e->type, "container"))
        return false;
    for (size_t i = 0; e->attrs && e->attrs[i] && e->attrs[i + 1]; i += 2)
        if (streq(e->attrs[i], "name") && streq(e->attrs[i + 1], v))
            return true;
    return *v && strncmp(e->id, v, strlen(v)) == 0;
}
static bool ev_image(const char *v, void *arg) {
    struct ev *e = arg;
    for (size_t i = 0; e->attrs && e->attrs[i] && e->attrs[i + 1]; i += 2)
        if (streq(e->attrs[i], "image") && streq(e->attrs[i + 1], v))
            return true;
    return streq(e->type, "image") && streq(e->id, v);
}

void engine_event(struct engine *g, const char *type, const char *action, const char *id, const char *const *attrs) {
    struct buf b = BUF_MAX(64u << 10);
    struct json_w w;
    uint64_t now = now_real();
    jw_init(&w, &b, 0);
    jw_obj(&w);
    if (streq(type, "container")) {
        jw_kstr(&w, "status", action);
        jw_kstr(&w, "id", id);
        for (size_t i = 0; attrs && attrs[i] && attrs[i + 1]; i += 2)
            if (streq(attrs[i], "image"))
                jw_kstr(&w, "from", attrs[i + 1]);
    }
    jw_kstr(&w, "Type", type);
    jw_kstr(&w, "Action", action);
    jw_key(&w, "Actor");
    jw_obj(&w);
    jw_kstr(&w, "ID", id);
    jw_key(&w, "Attributes");
    jw_obj(&w);
    for (size_t i = 0; attrs && attrs[i] && attrs[i + 1]; i += 2)
        jw_kstr(&w, attrs[i], attrs[i + 1]);
    jw_end_obj(&w);
    jw_end_obj(&w);
    jw_kstr(&w, "scope", "local");
    jw_kint(&w, "time", (int64_t)(now / 1000000000));
    jw_kint(&w, "timeNano", (int64_t)now);
    jw_end_obj(&w);
    buf_addc(&b, '\n');
    struct ev e = {type, action, id, attrs};
    for (struct ev_sub *s = g->subs, *next; s; s = next) {
        next = s->next;
        if (filter_has(s->filters, "type", ev_type, &e) && filter_has(s->filters, "event", ev_action, &e) &&
            filter_has(s->filters, "container", ev_ctr, &e) && filter_has(s->filters, "image", ev_image, &e))
            (void)httpd_write(s->rq, buf_sv(&b));
    }
    if (g->events.n + b.n > (256u << 10)) { /* the older half goes */
        char *nl = memchr(g->events.p + g->events.n / 2, '\n', g->events.n - g->events.n / 2);
        if (nl)
            buf_cut(&g->events, 0, (size_t)(nl - g->events.p) + 1);
    }
    buf_addsv(&g->events, buf_sv(&b));
    buf_done(&b);
}

void ctr_event(struct ctr *c, const char *action) {
    char code[16];
    snprintf(code, sizeof(code), "%d", c->exit_code);
    const char *attrs[] = {"image", c->image_name, "name", c->name, streq(action, "die") ? "exitCode" : NULL, code, NULL};
    engine_event(c->g, "container", action, c->id, attrs);
}

static void sub_free(struct ev_sub *s) {
    for (struct ev_sub **at = &s->g->subs; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    loop_remove(s->timer);
    arena_done(&s->a);
    free(s);
}

static void sub_abort(struct httpd_req *rq, void *arg) { sub_free(arg); }

static void sub_until(struct loop *l, void *arg) {
    struct ev_sub *s = arg;
    httpd_finish(s->rq);
    sub_free(s);
}

void events_handle(struct engine *g, struct httpd_req *rq) {
    const char *since = httpd_query(rq, "since"), *until = httpd_query(rq, "until");
    struct ev_sub *s = xcalloc(1, sizeof(*s));
    s->g = g;
    s->rq = rq;
    s->filters = query_filters(rq, &s->a);
    httpd_add_header(rq, "Content-Type", "application/json");
    httpd_start(rq, 200);
    if (since && *since) { /* what is remembered, from that second on */
        struct sv rest = buf_sv(&g->events), line;
        int64_t from = strtoll(since, NULL, 10);
        while (sv_line(&rest, &line)) {
            _cleanup_arena_ struct arena a = {0};
            struct json *j = NULL;
            char *copy = arena_strndup(&a, line.p, line.n);
            if (!line.n || json_parse(&a, sv_n(copy, line.n), &j, NULL) < 0 || json_get_int(j, "time", 0) < from)
                continue;
            _cleanup_free_ char *whole = xasprintf(SV_FMT "\n", SV_ARG(line)); /* one chunk: docker-py wants that */
            (void)httpd_write(rq, sv_from(whole));
        }
    }
    int64_t end = until && *until ? strtoll(until, NULL, 10) : 0, now = (int64_t)(now_real() / 1000000000);
    if (end && end <= now) {
        httpd_finish(rq);
        arena_done(&s->a);
        free(s);
        return;
    }
    s->next = g->subs;
    g->subs = s;
    httpd_on_abort(rq, sub_abort, s);
    if (end)
        s->timer = loop_timer(g->loop, (uint64_t)(end - now) * 1000000000ull, 0, sub_until, s);
}

/* --- login ----------------------------------------------------------------------------------- */

struct login {
    struct engine *g;
    struct httpd_req *rq;
    char *registry, *user, *pass;
    struct buf warn;
    int r;
    struct err e;
};

static void login_abort(struct httpd_req *rq, void *arg) { ((struct login *)arg)->rq = NULL; }

static void login_work(void *arg) {
    struct login *x = arg;
    struct engine *g = x->g;
    int pretend = g->o.may_login ? g->o.may_login(g->o.arg, x->registry, x->user, x->pass, &x->warn) : 0;
    if (pretend > 0)
        return;
    if (pretend < 0)
        x->r = err_set(&x->e, ERR_HELD, pretend, "login to %s is not allowed here", x->registry);
    else if (!*x->user || !*x->pass)
        x->r = err_set(&x->e, ERR_AUTH, -EACCES, "login to %s: the user name or the password is empty", x->registry);
    else
        x->r = registry_login(g->o.auth_file, x->registry, x->user, x->pass, true, g->pulls.conf, &x->e);
}

static void login_done(struct loop *l, void *arg) {
    struct login *x = arg;
    if (x->rq && x->r < 0)
        reply_err(x->rq, x->e.kind == ERR_AUTH ? 401 : status_of(&x->e), "%s", x->e.msg);
    else if (x->rq) {
        struct buf b = BUF_MAX(64u << 10);
        struct json_w w;
        jw_init(&w, &b, 0);
        jw_obj(&w);
        jw_kstr(&w, "Status", "Login Succeeded");
        jw_kstr(&w, "IdentityToken", "");
        if (x->warn.n)
            jw_kstr(&w, "Warning", buf_str(&x->warn));
        jw_end_obj(&w);
        httpd_reply_json(x->rq, 200, &b);
        buf_done(&b);
    }
    if (x->pass)
        explicit_bzero(x->pass, strlen(x->pass));
    free(x->registry);
    free(x->user);
    free(x->pass);
    buf_done(&x->warn);
    free(x);
}

static void login_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct engine *g = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    if (!ok)
        return;
    char *copy = arena_strndup(&a, body.p ? body.p : "", body.n);
    if (json_parse(&a, sv_n(copy, body.n), &j, NULL) < 0) {
        reply_err(rq, 400, "invalid JSON");
        return;
    }
    const char *server = json_get_str(j, "serveraddress", "");
    const char *host = startswith(server, "https://") ? server + 8 : startswith(server, "http://") ? server + 7 : server;
    struct login *x = xcalloc(1, sizeof(*x));
    x->g = g;
    x->rq = rq;
    x->registry = *host ? xstrndup(host, strcspn(host, "/")) : xstrdup("docker.io");
    if (streq(x->registry, "index.docker.io") || streq(x->registry, "registry-1.docker.io")) {
        free(x->registry);
        x->registry = xstrdup("docker.io");
    }
    x->user = xstrdup(json_get_str(j, "username", ""));
    x->pass = xstrdup(json_get_str(j, "password", ""));
    x->warn = BUF_MAX(4096);
    httpd_on_abort(rq, login_abort, x);
    engine_job(g, login_work, login_done, x);
}

void auth_handle(struct engine *g, struct httpd_req *rq) { httpd_collect(rq, 1u << 20, login_body, g); }

/* --- networks: all of them are the job's one -------------------------------------------------- */

void network_free(void *p) {
    struct network *n = p;
    strv_done(&n->labels);
    free(n->name);
    free(n);
}

void networks_init(struct engine *g) {}

static bool builtin(const char *name) { return streq(name, "bridge") || streq(name, "host") || streq(name, "none"); }

static struct network *network_find(struct engine *g, const char *name) {
    struct network *n = map_gets(&g->networks, name);
    if (n)
        return n;
    MAP_FOREACH(&g->networks, en) {
        n = en->value;
        if (strlen(name) >= 4 && startswith(n->id, name))
            return n;
    }
    return NULL;
}

bool network_known(struct engine *g, const char *name) {
    pthread_mutex_lock(&g->mu);
    bool known = builtin(name) || network_find(g, name) || startswith(g->net_id, name) == g->net_id + 64;
    pthread_mutex_unlock(&g->mu);
    return known;
}

static void builtin_id(struct engine *g, const char *name, char id[65]) {
    snprintf(id, 65, "%s", g->net_id);
    if (!streq(name, "bridge"))
        id[0] = streq(name, "host") ? 'a' : 'b';
}

static void network_json(struct engine *g, struct json_w *w, const char *name, const char *id, uint64_t created,
                         const struct strv *labels, bool full) {
    const char *gw = g->o.net ? net_gateway(g->o.net) : NULL;
    static const struct strv none;
    jw_obj(w);
    jw_kstr(w, "Name", name);
    jw_kstr(w, "Id", id);
    time_json(w, "Created", created);
    jw_kstr(w, "Scope", "local");
    jw_kstr(w, "Driver", streq(name, "host") ? "host" : streq(name, "none") ? "null" : "bridge");
    jw_kbool(w, "EnableIPv6", false);
    jw_key(w, "IPAM");
    jw_obj(w);
    jw_kstr(w, "Driver", "default");
    jw_key(w, "Options");
    jw_null(w);
    jw_key(w, "Config");
    jw_arr(w);
    if (gw && !streq(name, "host") && !streq(name, "none")) {
        jw_obj(w);
        jw_kstr(w, "Gateway", gw);
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_end_obj(w);
    jw_kbool(w, "Internal", false);
    jw_kbool(w, "Attachable", false);
    jw_kbool(w, "Ingress", false);
    jw_key(w, "Containers");
    jw_obj(w);
    MAP_FOREACH(&g->ctrs, en) {
        struct ctr *c = en->value;
        if (!full || c->state != CTR_RUNNING || !streq(c->network, name))
            continue;
        jw_key(w, c->id);
        jw_obj(w);
        jw_kstr(w, "Name", c->name);
        jw_kstr(w, "EndpointID", c->id);
        jw_kstr(w, "MacAddress", "");
        _cleanup_free_ char *ip = c->box && box_ip(c->box) ? xasprintf("%s/16", box_ip(c->box)) : xstrdup("");
        jw_kstr(w, "IPv4Address", ip);
        jw_kstr(w, "IPv6Address", "");
        jw_end_obj(w);
    }
    jw_end_obj(w);
    jw_key(w, "Options");
    jw_obj(w);
    jw_end_obj(w);
    labels_json(w, "Labels", labels ? labels : &none);
    jw_end_obj(w);
}

static bool fit_net_name(const char *v, void *arg) { return strstr(arg, v) != NULL; }
static bool fit_net_driver(const char *v, void *arg) {
    return streq(v, streq(arg, "host") ? "host" : streq(arg, "none") ? "null" : "bridge");
}

static void networks_list(struct engine *g, struct httpd_req *rq) {
    static const char *const own[] = {"bridge", "host", "none"};
    _cleanup_arena_ struct arena a = {0};
    const struct json *f = query_filters(rq, &a);
    struct buf b = BUF_MAX(4u << 20);
    struct json_w w;
    char id[65];
    jw_init(&w, &b, 0);
    jw_arr(&w);
    for (size_t i = 0; i < ELEMENTS(own); i++) {
        builtin_id(g, own[i], id);
        if (filter_has(f, "name", fit_net_name, (void *)own[i]) && filter_has(f, "driver", fit_net_driver, (void *)own[i]) &&
            !json_get(f, "label"))
            network_json(g, &w, own[i], id, 1, NULL, false);
    }
    MAP_FOREACH(&g->networks, en) {
        struct network *n = en->value;
        if (filter_has(f, "name", fit_net_name, n->name) && filter_has(f, "driver", fit_net_driver, n->name) && filter_labels(f, &n->labels))
            network_json(g, &w, n->name, n->id, n->created, &n->labels, false);
    }
    jw_end_arr(&w);
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
}

static void labels_into(struct strv *to, const struct json *j) {
    for (size_t i = 0; j && j->kind == JSON_OBJECT && i < j->n; i++) {
        struct sv v = json_sv(j->items[i]);
        strv_addf(to, SV_FMT "=" SV_FMT, SV_ARG(j->keys[i]), SV_ARG(v));
    }
}

static void network_create_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct engine *g = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    if (!ok)
        return;
    char *copy = arena_strndup(&a, body.p ? body.p : "", body.n);
    if (json_parse(&a, sv_n(copy, body.n), &j, NULL) < 0) {
        reply_err(rq, 400, "invalid JSON");
        return;
    }
    const char *name = json_get_str(j, "Name", ""), *driver = json_get_str(j, "Driver", "");
    if (!*name) {
        reply_err(rq, 400, "network name cannot be empty");
        return;
    }
    if (builtin(name) || map_gets(&g->networks, name)) {
        reply_err(rq, 409, "network with name %s already exists", name);
        return;
    }
    const struct json *cfg = json_path(j, "IPAM.Config");
    if ((*driver && !streq(driver, "bridge") && !streq(driver, "default")) || json_get_bool(j, "Internal", false) ||
        json_get_bool(j, "EnableIPv6", false) || (cfg && cfg->n)) {
        reply_not_yet(rq, "a network with a driver, a subnet, --internal or --ipv6 of its own");
        return;
    }
    struct network *n = xcalloc(1, sizeof(*n));
    n->name = xstrdup(name);
    n->created = now_real();
    random_id(n->id, 64);
    labels_into(&n->labels, json_get(j, "Labels"));
    pthread_mutex_lock(&g->mu);
    map_sets(&g->networks, name, n);
    pthread_mutex_unlock(&g->mu);
    struct buf b = BUF_MAX(4096);
    /* Containers of the job can always reach each other here: networks do not separate. */
    buf_addf(&b, "{\"Id\":\"%s\",\"Warning\":\"\"}", n->id);
    httpd_reply_json(rq, 201, &b);
    buf_done(&b);
    engine_event(g, "network", "create", n->id, (const char *const[]){"name", n->name, "type", "bridge", NULL});
}

struct joining {
    struct engine *g;
    bool connect;
};

static void join_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct joining *jn = arg;
    struct engine *g = jn->g;
    bool connect = jn->connect;
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    free(jn);
    if (!ok)
        return;
    char *copy = arena_strndup(&a, body.p ? body.p : "", body.n);
    if (json_parse(&a, sv_n(copy, body.n), &j, NULL) < 0) {
        reply_err(rq, 400, "invalid JSON");
        return;
    }
    struct ctr *c = ctr_find(g, json_get_str(j, "Container", ""));
    if (!c) {
        reply_err(rq, 404, "No such container: %s", json_get_str(j, "Container", ""));
        return;
    }
    const struct json *al = json_path(j, "EndpointConfig.Aliases");
    for (size_t i = 0; connect && al && i < al->n; i++)
        if (g->o.net && c->box && box_ip(c->box))
            (void)net_name_add(g->o.net, box_ip(c->box), json_str(al->items[i], c->name));
    httpd_reply(rq, 200, NULL, SV(""));
}

void networks_handle(struct engine *g, struct httpd_req *rq, const char *rest) {
    const char *m = httpd_method(rq), *slash = strchr(rest, '/');
    bool get = streq(m, "GET"), post = streq(m, "POST");
    if (!*rest && get) {
        networks_list(g, rq);
        return;
    }
    if (streq(rest, "create") && post) {
        httpd_collect(rq, 1u << 20, network_create_body, g);
        return;
    }
    if (streq(rest, "prune") && post) {
        networks_prune(g, rq);
        return;
    }
    if (!*rest || streq(rest, "prune")) {
        reply_not_yet(rq, "this method of networks");
        return;
    }
    _cleanup_free_ char *name = xstrndup(rest, slash ? (size_t)(slash - rest) : strlen(rest));
    struct network *n = network_find(g, name);
    char id[65];
    if (slash && post && (streq(slash, "/connect") || streq(slash, "/disconnect")) && network_known(g, name)) {
        struct joining *jn = xcalloc(1, sizeof(*jn));
        *jn = (struct joining){g, slash[1] == 'c'};
        httpd_collect(rq, 1u << 20, join_body, jn);
    } else if (!network_known(g, name))
        reply_err(rq, 404, "network %s not found", name);
    else if (get && !slash) {
        struct buf b = BUF_MAX(4u << 20);
        struct json_w w;
        const char *own = builtin(name) ? name : "bridge";
        builtin_id(g, own, id);
        jw_init(&w, &b, 0);
        network_json(g, &w, n ? n->name : own, n ? n->id : id, n ? n->created : 1, n ? &n->labels : NULL, true);
        httpd_reply_json(rq, 200, &b);
        buf_done(&b);
    } else if (streq(m, "DELETE") && !slash) {
        if (!n) {
            reply_err(rq, 403, "%s is a pre-defined network and cannot be removed", name);
            return;
        }
        MAP_FOREACH(&g->ctrs, en)
            if (streq(((struct ctr *)en->value)->network, n->name) && ((struct ctr *)en->value)->state == CTR_RUNNING) {
                reply_err(rq, 403, "error while removing network: network %s id %s has active endpoints", n->name, n->id);
                return;
            }
        pthread_mutex_lock(&g->mu);
        map_remove(&g->networks, sv_from(n->name));
        pthread_mutex_unlock(&g->mu);
        network_free(n);
        reply_empty(rq, 204);
    } else
        reply_err(rq, 501, "not yet: %s networks/%s", m, rest);
}

/* --- volumes: folders of the store, as long as the engine lives unless kept (volume_store.c) --- */

void volume_free(struct engine *g, struct volume *v) {
    fd_close(v->dir);
    if (!v->kept)
        snap_abort(g->o.store, v->snap);
    strv_done(&v->labels);
    free(v->name);
    free(v);
}

/* Under g->mu. */
static struct volume *volume_make(struct engine *g, const char *name, bool create, const struct json *labels, struct err *e) {
    struct volume *v = map_gets(&g->volumes, name);
    if (!v) {
        volumes_load(g); /* another engine's of this store */
        v = map_gets(&g->volumes, name);
    }
    if (v || !create)
        return v;
    v = xcalloc(1, sizeof(*v));
    v->name = xstrdup(name);
    v->created = now_real();
    v->dir = -1;
    if (snap_begin(g->o.store, g->o.lease, v->snap, &v->dir, e) < 0) {
        free(v->name);
        free(v);
        return NULL;
    }
    if (labels)
        labels_into(&v->labels, labels);
    if (volume_keep(g, v, e) < 0) {
        volume_free(g, v);
        return NULL;
    }
    map_sets(&g->volumes, name, v);
    return v;
}

struct volume *volume_get(struct engine *g, const char *name, bool create, struct err *e) {
    return volume_make(g, name, create, NULL, e);
}

static void volume_json(struct engine *g, struct json_w *w, struct volume *v) {
    _cleanup_free_ char *at = xasprintf("%s/snap/%s/fs", store_path(g->o.store), v->snap);
    jw_obj(w);
    time_json(w, "CreatedAt", v->created);
    jw_kstr(w, "Driver", "local");
    labels_json(w, "Labels", &v->labels);
    jw_kstr(w, "Mountpoint", at);
    jw_kstr(w, "Name", v->name);
    jw_key(w, "Options");
    jw_obj(w);
    jw_end_obj(w);
    jw_kstr(w, "Scope", "local");
    jw_end_obj(w);
}

static bool fit_volume(const char *v, void *arg) { return strstr(((struct volume *)arg)->name, v) != NULL; }

static void volume_create_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct engine *g = arg;
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    struct err e = {0};
    if (!ok)
        return;
    char *copy = arena_strndup(&a, body.p ? body.p : "", body.n), rnd[65];
    if (sv_trim(body).n && json_parse(&a, sv_n(copy, body.n), &j, NULL) < 0) {
        reply_err(rq, 400, "invalid JSON");
        return;
    }
    const char *name = json_get_str(j, "Name", ""), *driver = json_get_str(j, "Driver", "");
    const struct json *opts = json_get(j, "DriverOpts");
    if ((*driver && !streq(driver, "local")) || (opts && opts->n)) {
        reply_not_yet(rq, "volume drivers and their options");
        return;
    }
    if (!*name) {
        random_id(rnd, 64);
        name = rnd;
    }
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && (p == name || !strchr("_.-", *p))) {
            reply_err(rq, 400, "create %s: \"%s\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are "
                      "allowed.", name, name);
            return;
        }
    pthread_mutex_lock(&g->mu);
    struct volume *v = volume_make(g, name, true, json_get(j, "Labels"), &e);
    pthread_mutex_unlock(&g->mu);
    if (!v) {
        reply_errp(rq, &e);
        return;
    }
    struct buf b = BUF_MAX(64u << 10);
    struct json_w w;
    jw_init(&w, &b, 0);
    volume_json(g, &w, v);
    httpd_reply_json(rq, 201, &b);
    buf_done(&b);
}

static void volumes_list(struct engine *g, struct httpd_req *rq) {
    _cleanup_arena_ struct arena a = {0};
    const struct json *f = query_filters(rq, &a);
    struct buf b = BUF_MAX(4u << 20);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_key(&w, "Volumes");
    jw_arr(&w);
    pthread_mutex_lock(&g->mu);
    volumes_load(g);
    MAP_FOREACH(&g->volumes, en)
        if (filter_has(f, "name", fit_volume, en->value) && filter_labels(f, &((struct volume *)en->value)->labels))
            volume_json(g, &w, en->value);
    pthread_mutex_unlock(&g->mu);
    jw_end_arr(&w);
    jw_key(&w, "Warnings");
    jw_null(&w);
    jw_end_obj(&w);
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
}

void volumes_handle(struct engine *g, struct httpd_req *rq, const char *rest) {
    const char *m = httpd_method(rq);
    if (!*rest && streq(m, "GET")) {
        volumes_list(g, rq);
        return;
    }
    if (streq(rest, "create") && streq(m, "POST")) {
        httpd_collect(rq, 1u << 20, volume_create_body, g);
        return;
    }
    if (streq(rest, "prune") && streq(m, "POST")) {
        volumes_prune(g, rq);
        return;
    }
    pthread_mutex_lock(&g->mu);
    struct volume *v = volume_get(g, rest, false, NULL);
    pthread_mutex_unlock(&g->mu);
    if (!v)
        reply_err(rq, 404, "get %s: no such volume", rest);
    else if (streq(m, "GET")) {
        struct buf b = BUF_MAX(64u << 10);
        struct json_w w;
        jw_init(&w, &b, 0);
        volume_json(g, &w, v);
        httpd_reply_json(rq, 200, &b);
        buf_done(&b);
    } else if (streq(m, "DELETE")) {
        const struct ctr *by;
        if (volume_used(g, v, &by)) {
            reply_err(rq, 409, "remove %s: volume is in use - [%s]", v->name, by->id);
            return;
        }
        volume_remove(g, v);
        reply_empty(rq, 204);
    } else
        reply_err(rq, 501, "not yet: %s volumes/%s", m, rest);
}
