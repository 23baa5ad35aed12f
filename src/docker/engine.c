/* The engine: its listener, the routing of requests, what handlers share, and its end. */
#include "docker/impl.h"

#include <ctype.h>

/* --- answers -------------------------------------------------------------------------------- */

void reply_err(struct httpd_req *rq, int status, const char *fmt, ...) {
    char msg[1600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    struct buf b = BUF_MAX(16u << 10);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "message", msg);
    jw_end_obj(&w);
    httpd_reply_json(rq, status, &b);
    buf_done(&b);
}

int status_of(const struct err *e) {
    if (e->errnum == ENOTSUP)
        return 501;
    switch (e->kind) {
    case ERR_USER:
    case ERR_CONFIG: return 400;
    case ERR_NOTFOUND: return 404;
    case ERR_CONFLICT: return 409;
    case ERR_AUTH: return 401;
    case ERR_HELD: return 403;
    default: return 500;
    }
}

void reply_errp(struct httpd_req *rq, const struct err *e) {
    if (e->hint[0])
        reply_err(rq, status_of(e), "%s (%s)", e->msg, e->hint);
    else
        reply_err(rq, status_of(e), "%s", e->msg[0] ? e->msg : "unknown error");
}

void reply_empty(struct httpd_req *rq, int status) { httpd_reply(rq, status, NULL, SV("")); }

void reply_not_yet(struct httpd_req *rq, const char *what) { reply_err(rq, 501, "not yet: %s", what); }

bool query_bool(struct httpd_req *rq, const char *key, bool dflt) {
    const char *v = httpd_query(rq, key);
    if (!v)
        return dflt;
    return *v && !streq(v, "0") && strcasecmp(v, "false") != 0 && strcasecmp(v, "no") != 0 && strcasecmp(v, "none") != 0;
}

void time_json(struct json_w *w, const char *key, uint64_t ns) {
    char t[32], out[48];
    if (!ns) {
        jw_kstr(w, key, "0001-01-01T00:00:00Z");
        return;
    }
    format_time(ns, t);
    snprintf(out, sizeof(out), "%.19s.%09lluZ", t, (unsigned long long)(ns % 1000000000));
    jw_kstr(w, key, out);
}

void labels_json(struct json_w *w, const char *key, const struct strv *labels) {
    jw_key(w, key);
    jw_obj(w);
    for (size_t i = 0; i < labels->n; i++) {
        struct sv v = sv_from(labels->v[i]), k;
        sv_split(&v, '=', &k);
        jw_keysv(w, k);
        jw_sv(w, v.p ? v : SV(""));
    }
    jw_end_obj(w);
}

/* --- filters -------------------------------------------------------------------------------- */

const struct json *query_filters(struct httpd_req *rq, struct arena *a) {
    const char *f = httpd_query(rq, "filters");
    struct json *j = NULL;
    if (!f || !*f || strlen(f) > (64u << 10))
        return NULL;
    char *copy = arena_strdup(a, f);
    return json_parse(a, sv_from(copy), &j, NULL) >= 0 ? j : NULL;
}

bool filter_has(const struct json *filters, const char *key, bool (*fit)(const char *value, void *arg), void *arg) {
    const struct json *v = json_get(filters, key);
    if (!v || !v->n)
        return true;
    for (size_t i = 0; i < v->n; i++) {
        struct sv s = v->kind == JSON_OBJECT ? v->keys[i] : json_sv(v->items[i]);
        _cleanup_free_ char *text = sv_dup(s);
        if (fit(text, arg))
            return true;
    }
    return false;
}

static bool label_is(const struct strv *labels, struct sv want) {
    for (size_t i = 0; i < labels->n; i++) {
        struct sv have = sv_from(labels->v[i]);
        if (sv_eq(have, want))
            return true;
        ssize_t eq = sv_chr(have, '=');
        if (sv_chr(want, '=') < 0 && eq >= 0 && sv_eq(sv_sub(have, 0, (size_t)eq), want))
            return true;
    }
    return false;
}

bool filter_labels(const struct json *filters, const struct strv *labels) {
    const struct json *v = json_get(filters, "label");
    for (size_t i = 0; v && i < v->n; i++) /* all of them, unlike the others */
        if (!label_is(labels, v->kind == JSON_OBJECT ? v->keys[i] : json_sv(v->items[i])))
            return false;
    return true;
}

/* --- threads -------------------------------------------------------------------------------- */

struct job {
    struct engine *g;
    job_fn work;
    loop_fn done;
    void *arg;
};

static void job_work(void *arg) {
    struct job *j = arg;
    j->work(j->arg);
}

static void job_done(struct loop *l, void *arg) {
    struct job *j = arg;
    struct engine *g = j->g;
    pthread_mutex_lock(&g->mu);
    g->last_use = now_mono();
    pthread_mutex_unlock(&g->mu);
    j->done(l, j->arg);
    free(j);
    pthread_mutex_lock(&g->mu);
    g->jobs--;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mu);
}

void engine_job(struct engine *g, job_fn work, loop_fn done, void *arg) {
    struct job *j = xcalloc(1, sizeof(*j));
    *j = (struct job){g, work, done, arg};
    pthread_mutex_lock(&g->mu);
    g->jobs++;
    pthread_mutex_unlock(&g->mu);
    loop_work(g->loop, job_work, job_done, j);
}

struct call {
    struct engine *g;
    void (*fn)(void *arg);
    void *arg;
    bool done;
};

static void call_run(struct loop *l, void *arg) {
    struct call *c = arg;
    c->fn(c->arg);
    pthread_mutex_lock(&c->g->mu);
    c->done = true;
    pthread_cond_broadcast(&c->g->changed);
    pthread_mutex_unlock(&c->g->mu);
}

static void loop_here(struct loop *l, void *arg) {
    struct engine *g = arg;
    pthread_mutex_lock(&g->mu);
    g->loop_thread = pthread_self();
    g->loop_known = true;
    g->jobs--;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mu);
}

/* Does this thread run the loop? One that nobody runs yet belongs to whoever made the engine, unless
 * another thread was said to. */
static bool loop_is_ours(const struct engine *g) {
    return g->loop_known ? pthread_equal(g->loop_thread, pthread_self()) : !g->o.loop_elsewhere;
}

void engine_call(struct engine *g, void (*fn)(void *arg), void *arg) {
    pthread_mutex_lock(&g->mu);
    bool here = loop_is_ours(g);
    pthread_mutex_unlock(&g->mu);
    if (here) {
        fn(arg);
        return;
    }
    struct call c = {g, fn, arg, false};
    loop_post(g->loop, call_run, &c);
    pthread_mutex_lock(&g->mu);
    while (!c.done)
        pthread_cond_wait(&g->changed, &g->mu);
    pthread_mutex_unlock(&g->mu);
}

/* --- routing -------------------------------------------------------------------------------- */

/* "/v1.44/x" -> "/x"; NULL and an answer when the version is not one we speak. */
static const char *versionless(struct httpd_req *rq, const char *path) {
    if (path[0] != '/' || path[1] != 'v' || !isdigit((unsigned char)path[2]))
        return path;
    char *end;
    long major = strtol(path + 2, &end, 10), minor = -1;
    if (*end == '.')
        minor = strtol(end + 1, &end, 10);
    if (*end != '/' || minor < 0)
        return path;
    if (major != 1 || minor < 24) {
        reply_err(rq, 400, "client version %ld.%ld is too old. Minimum supported API version is " ENGINE_API_MIN
                  ", please upgrade your client to a newer version", major, minor);
        return NULL;
    }
    if (minor > 44) {
        reply_err(rq, 400, "client version %ld.%ld is too new. Maximum supported API version is " ENGINE_API, major, minor);
        return NULL;
    }
    return end;
}

static void ping(struct engine *g, struct httpd_req *rq) {
    httpd_add_header(rq, "Api-Version", ENGINE_API);
    httpd_add_header(rq, "Builder-Version", "1");
    httpd_add_header(rq, "Ostype", "linux");
    httpd_add_header(rq, "Docker-Experimental", "false");
    httpd_add_header(rq, "Cache-Control", "no-cache, no-store, must-revalidate");
    httpd_add_header(rq, "X-Slipway-Engine", g->o.name ? g->o.name : "slipway");
    httpd_reply(rq, 200, "text/plain; charset=utf-8", SV("OK"));
}

static bool under(const char *path, const char *dir, const char **rest) {
    const char *r = startswith(path, dir);
    if (!r || (*r && *r != '/'))
        return false;
    *rest = *r ? r + 1 : r;
    return true;
}

static void handle(struct httpd_req *rq, void *arg) {
    struct engine *g = arg;
    const char *path = versionless(rq, httpd_path(rq)), *m = httpd_method(rq), *rest;
    if (!path)
        return;
    pthread_mutex_lock(&g->mu);
    g->last_use = now_mono();
    pthread_mutex_unlock(&g->mu);
    bool get = streq(m, "GET") || streq(m, "HEAD"), post = streq(m, "POST");
    if (g->stopping)
        reply_err(rq, 503, "the engine is ending");
    else if (streq(path, "/_ping") && get)
        ping(g, rq);
    else if ((streq(path, "/version") || streq(path, "/info") || streq(path, "/system/df")) && get)
        system_handle(g, rq, path + 1);
    else if (streq(path, "/events") && get)
        events_handle(g, rq);
    else if (streq(path, "/auth") && post)
        auth_handle(g, rq);
    else if (streq(path, "/build") && post)
        build_handle(g, rq);
    else if (under(path, "/containers", &rest))
        containers_handle(g, rq, rest);
    else if (under(path, "/exec", &rest))
        exec_handle(g, rq, rest);
    else if (under(path, "/images", &rest))
        images_handle(g, rq, rest);
    else if (under(path, "/networks", &rest))
        networks_handle(g, rq, rest);
    else if (under(path, "/volumes", &rest))
        volumes_handle(g, rq, rest);
    else if (streq(path, "/build/prune") && post) /* the builder's cache is the store's: `slipway prune` */
        httpd_reply(rq, 200, "application/json", SV("{\"CachesDeleted\":[],\"SpaceReclaimed\":0}\n"));
    else if (streq(path, "/commit") && post)
        commit_handle(g, rq);
    else if (under(path, "/build", &rest) || under(path, "/commit", &rest) || under(path, "/distribution", &rest) ||
             under(path, "/session", &rest) || under(path, "/grpc", &rest) || under(path, "/swarm", &rest) ||
             under(path, "/services", &rest) || under(path, "/tasks", &rest) || under(path, "/nodes", &rest) ||
             under(path, "/secrets", &rest) || under(path, "/configs", &rest) || under(path, "/plugins", &rest))
        reply_err(rq, 501, "not yet: %s %s", m, path);
    else
        reply_err(rq, 404, "page not found");
}

/* --- life ----------------------------------------------------------------------------------- */

int engine_new(struct engine **ret, const struct engine_options *o, struct err *e) {
    struct engine *g = xcalloc(1, sizeof(*g));
    g->o = *o;
    g->loop = o->loop;
    if (o->pulls)
        g->pulls = *o->pulls;
    if (!g->pulls.conf)
        g->pulls.conf = &g->no_conf;
    g->pulls.cancel = &g->cancel;
    pthread_mutex_init(&g->mu, NULL);
    pthread_mutex_init(&g->net_mu, NULL);
    pthread_cond_init(&g->changed, NULL);
    random_id(g->net_id, 64);
    g->events = BUF_MAX(1u << 20);
    g->last_use = now_mono();
    networks_init(g);
    volumes_load(g);
    g->jobs = 1; /* until the loop has told its thread */
    loop_post(g->loop, loop_here, g);
    *ret = g;
    return 0;
}

struct listen_call {
    struct engine *g;
    int fd, r;
};

static void listen_here(void *arg) {
    struct listen_call *c = arg;
    c->r = httpd_new(&c->g->http, c->g->loop, c->fd, handle, c->g);
}

int engine_listen(struct engine *g, const char *path, struct err *e) {
    struct listen_call c = {g, listen_unix(path, 0666, e), 0};
    if (c.fd < 0)
        return c.fd;
    engine_call(g, listen_here, &c);
    if (c.r < 0)
        return err_errno(e, c.r, "serve on %s", path);
    g->socket = xstrdup(path);
    return 0;
}

void engine_set_job(struct engine *g, struct box *job) {
    pthread_mutex_lock(&g->mu);
    g->o.job = job;
    pthread_mutex_unlock(&g->mu);
}

int engine_net(struct engine *g, struct err *e) {
    int r = 0;
    pthread_mutex_lock(&g->net_mu);
    if (!g->o.net && !g->o.own_net)
        r = err_set(e, ERR_INTERNAL, -ENONET, "the engine has no network");
    else if (!g->o.net) {
        const struct net_options o = {.mode = NET_AUTO, .name = "docker"};
        r = net_new(g->o.store, g->o.lease, &o, &g->own_net, e);
        if (r >= 0)
            g->o.net = g->own_net;
    }
    pthread_mutex_unlock(&g->net_mu);
    return r;
}

int engine_idle(struct engine *g) {
    pthread_mutex_lock(&g->mu);
    bool volumes = false;
    MAP_FOREACH(&g->volumes, en)
        volumes |= !((struct volume *)en->value)->kept;
    bool kept = g->ctrs.live || volumes || g->networks.live || g->jobs || g->subs ||
                now_mono() - g->last_use < 1000000000ull;
    pthread_mutex_unlock(&g->mu);
    return kept ? 0 : 1;
}

/* On the loop's thread: no more requests, every process killed. */
static void stop_all(void *arg) {
    struct engine *g = arg;
    g->stopping = true;
    g->cancel = 1;
    httpd_free(g->http);
    g->http = NULL;
    MAP_FOREACH(&g->ctrs, en) {
        struct ctr *c = en->value;
        health_stop(c);
        if (c->box && c->state == CTR_RUNNING)
            (void)box_kill_all(c->box, SIGKILL);
    }
}

/* On the loop's thread, again and again until nothing is left: ended processes and requests start
 * jobs of their own, so what is gone is only known when no job is under way and no container is
 * alive. */
static void remove_all(void *arg) {
    struct engine *g = arg;
    pthread_mutex_lock(&g->mu);
    bool busy = g->jobs > 0;
    pthread_mutex_unlock(&g->mu);
    if (busy)
        return;
    while (g->ctrs.live) {
        struct ctr *c = NULL;
        MAP_FOREACH(&g->ctrs, en) {
            c = en->value;
            break;
        }
        ctr_ref(c);
        health_stop(c); /* of one that was started after the end had begun */
        loop_remove(c->proc_src);
        loop_remove(c->grace);
        for (int i = 1; i < 3; i++)
            loop_remove(c->out_src[i]);
        c->proc_src = c->grace = c->out_src[1] = c->out_src[2] = NULL;
        c->paused = false; /* or the last reader's end would have it read again */
        feeder_close(&c->in);
        if (c->proc)
            box_proc_free(TAKE(c->proc));
        while (c->followers) {
            struct follower *f = c->followers;
            f->blocked = f->follow = f->until_started = false;
            follower_pump(f);
        }
        ctr_remove(c, NULL, NULL);
        ctr_unref(c);
    }
}

static void free_maps(void *arg) {
    struct engine *g = arg;
    exec_free_all(g, NULL);
    MAP_FOREACH(&g->volumes, en)
        volume_free(g, en->value);
    map_done(&g->volumes);
    MAP_FOREACH(&g->networks, en)
        network_free(en->value);
    map_done(&g->networks);
    map_done(&g->ctrs);
    map_done(&g->execs);
}

/* Until no job is under way, and nobody refers to a removed container. */
static void wait_for_jobs(struct engine *g) {
    pthread_mutex_lock(&g->mu);
    bool here = loop_is_ours(g);
    while (g->jobs || (g->alive && !g->ctrs.live)) {
        if (here) {
            pthread_mutex_unlock(&g->mu);
            loop_once(g->loop, 50);
            pthread_mutex_lock(&g->mu);
        } else
            pthread_cond_wait(&g->changed, &g->mu);
    }
    pthread_mutex_unlock(&g->mu);
}

void engine_free(struct engine *g) {
    if (!g)
        return;
    engine_call(g, stop_all, g);
    for (bool left = true; left;) {
        wait_for_jobs(g);
        engine_call(g, remove_all, g);
        pthread_mutex_lock(&g->mu);
        left = g->jobs || g->alive;
        pthread_mutex_unlock(&g->mu);
    }
    engine_call(g, free_maps, g);
    if (g->socket)
        unlink(g->socket);
    free(g->socket);
    buf_done(&g->events);
    if (g->own_net)
        net_free(g->own_net);
    pthread_mutex_destroy(&g->net_mu);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->mu);
    free(g);
}
