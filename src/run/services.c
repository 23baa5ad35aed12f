/* Service containers: started in the job's engine, so that `docker ps` shows them, and waited for
 * until they are healthy. Without a health check a service counts as ready once it runs. */
#include "docker/flags.h"
#include "run/cspec.h"
#include "run/jobx.h"

#include <poll.h>

#define SEC 1000000000ull

static void report_ports(struct jobx *x, struct service *s, const struct strv *ports, struct value *out) {
    for (size_t i = 0; i < ports->n; i++) {
        /* "8080:80/tcp", "80": what counts is the container's side. */
        struct sv p = sv_from(ports->v[i]);
        ssize_t colon = sv_rchr(p, ':');
        struct sv t = colon < 0 ? p : sv_sub(p, (size_t)colon + 1, SIZE_MAX);
        const char *proto = sv_ends(t, "/udp") ? "udp" : "tcp";
        ssize_t slash = sv_chr(t, '/');
        if (slash >= 0)
            t = sv_sub(t, 0, (size_t)slash);
        uint64_t n = 0;
        if (sv_u64(t, 65535, &n) < 0)
            continue;
        int have = engine_port(x->engine, s->cid, (uint16_t)n, proto);
        if (have > 0)
            val_set(x->a, out, t, val_str(x->a, arena_printf(x->a, "%d", have)));
    }
}

/* Bitbucket's services answer on localhost, on the ports that their image exposes. */
static int expose_all(struct jobx *x, const char *ref, struct strv *ports, struct err *e) {
    _cleanup_image_ struct image *i = NULL;
    const struct image_progress progress = {jobx_progress, x};
    struct pull_options o = x->pulls;
    o.progress = &progress;
    int r = image_get(x->rq->store, x->lease, ref, &o, &i, e);
    if (r < 0)
        return r;
    for (size_t k = 0; k < i->config.exposed.n; k++) {
        struct sv rest = sv_from(i->config.exposed.v[k]), port;
        if (sv_split(&rest, '/', &port) && port.n)
            strv_addf(ports, SV_FMT ":%s", SV_ARG(port), i->config.exposed.v[k]);
    }
    return 0;
}

static void none_at_end(struct strv *v) { strv_extend(v, (const char *const[]){NULL}); }

static int start_one(struct jobx *x, struct cspec *cs, struct service *s, struct value *ctxs, struct err *e) {
    static const char *const none[] = {NULL};
    _cleanup_strv_ struct strv envv = {0}, cmd = {0};
    int r;
    if (!cs->image.n)
        return 0;
    const char *image = arena_strndup(x->a, cs->image.p, cs->image.n);
    if (x->bitbucket && (r = expose_all(x, image, &cs->ports, e)) < 0)
        return err_at(e, err_wrap(e, r, "service %s", cs->id), cs->at);
    if (cs->command.n && (r = words_split(cs->command.p, &cmd, e)) < 0)
        return err_at(e, err_wrap(e, r, "command of service %s", cs->id), cs->at);
    for (size_t i = 0; i < cs->env->n; i++)
        strv_addf(&envv, SV_FMT "=" SV_FMT, SV_ARG(cs->env->keys[i]), SV_ARG(cs->env->items[i]->str));
    none_at_end(&envv);
    for (size_t i = 0; i < cs->volumes.n; i++)
        if (volumes_named(x, cs->volumes.v[i])) {
            err_set(e, ERR_FAILED, -ENOSYS, "service %s: a volume that the job's container has too (%s) is not there yet", cs->id, cs->volumes.v[i]);
            return err_at(e, -ENOSYS, cs->at);
        }
    _cleanup_free_ char *name = xasprintf("slipway-%s-%s", cs->id, lease_id(x->lease));
    const char *aliases[] = {cs->id, NULL}, *entry[] = {cs->entrypoint.p, NULL};
    const struct image_progress progress = {jobx_progress, x};
    struct engine_container_spec spec = {.name = name, .image = image, .env = envv.v ? (const char *const *)envv.v : none,
                                         .ports = cs->ports.v ? (const char *const *)cs->ports.v : none,
                                         .volumes = cs->volumes.v ? (const char *const *)cs->volumes.v : none, .options = cs->options.n ? cs->options.p : NULL,
                                         .cmd = cmd.n ? (const char *const *)cmd.v : NULL, .entrypoint = cs->entrypoint.n ? entry : NULL,
                                         .aliases = aliases, .username = cs->username.n ? cs->username.p : NULL,
                                         .password = cs->username.n ? cs->password.p : NULL,
                                         .progress = &progress};
    s->id = cs->id;
    if ((r = engine_start(x->engine, &spec, s->cid, e)) < 0) {
        err_wrap(e, r, "service %s", cs->id);
        return err_at(e, r, cs->at);
    }
    s->started = true;
    struct value *one = val_object(x->a), *po = val_object(x->a);
    report_ports(x, s, &cs->ports, po);
    val_set_str(x->a, one, "id", s->cid);
    val_set_str(x->a, one, "network", arena_printf(x->a, "github_network_%s", lease_id(x->lease)));
    val_sets(x->a, one, "ports", po);
    val_sets(x->a, ctxs, cs->id, one);
    return 0;
}

/* Health is asked for often at first and less and less. */
static int wait_ready(struct jobx *x, struct service *s, struct err *e) {
    uint64_t t0 = now_mono(), pause = 20;
    for (;;) {
        bool running = false;
        const char *h = engine_health(x->engine, s->cid, &running);
        if (!h || !running)
            return err_set(e, ERR_FAILED, -ECHILD, "service %s: its container has ended", s->id);
        if (streq(h, "healthy") || streq(h, "none"))
            return 0;
        if (streq(h, "unhealthy"))
            return err_set(e, ERR_FAILED, -ECHILD, "service %s is unhealthy", s->id);
        if (atomic_load(&x->leg->cancel))
            return err_set(e, ERR_CANCELLED, -ECANCELED, "cancelled while waiting for service %s", s->id);
        if (now_mono() - t0 > 600 * SEC)
            return err_set(e, ERR_FAILED, -ETIMEDOUT, "service %s did not become healthy within 10 minutes", s->id);
        struct pollfd p = {x->leg->cancel_fd, POLLIN, 0};
        poll(&p, 1, (int)pause);
        pause = MIN(pause + pause / 2, 2000);
    }
}

static int refuse_host(const struct jobx *x, struct span at, struct err *e) {
    if (!x->host)
        return 0;
    err_set(e, ERR_CONFIG, -EINVAL, "services need a network and an engine of the job's own, which a job on the host (-P LABEL=host) does not have");
    return err_at(e, -EINVAL, at);
}

/* services: ${{ fromJSON(…) }} */
static int start_whole(struct jobx *x, struct ctx *c, struct value *ctxs, struct err *e) {
    struct span at = x->pj->services_whole.at;
    const struct value *v;
    int r = ctx_value(c, &x->pj->services_whole, &v, e);
    if (r < 0 || v->kind == VAL_NULL || (v->kind == VAL_STRING && !v->str.n) || (v->kind == VAL_OBJECT && !v->n))
        return r;
    if (v->kind != VAL_OBJECT) {
        err_set(e, ERR_CONFIG, -EINVAL, "services must be a mapping");
        return err_at(e, -EINVAL, at);
    }
    if ((r = refuse_host(x, at, e)) < 0)
        return r;
    x->services = xcalloc(v->n, sizeof *x->services);
    x->n_services = v->n;
    for (size_t i = 0; i < v->n && r >= 0; i++) {
        struct cspec cs = {.id = arena_strndup(x->a, v->keys[i].p, v->keys[i].n)};
        if ((r = cspec_value(c, v->items[i], at, &cs, e)) >= 0)
            r = start_one(x, &cs, &x->services[i], ctxs, e);
        cspec_done(&cs);
    }
    return r;
}

static void of_bitbucket(struct jobx *x, const struct plan_container *pc, struct cspec *cs) {
    jobx_expand(x, cs);
    if (pc->memory)
        cs->options = sv_from(arena_printf(x->a, "--memory %llu", (unsigned long long)pc->memory));
}

static int start_listed(struct jobx *x, struct ctx *c, struct value *ctxs, struct err *e) {
    size_t n = x->pj->n_services;
    int r = n ? refuse_host(x, x->pj->services[0].at, e) : 0;
    if (!n || r < 0)
        return r;
    x->services = xcalloc(n, sizeof *x->services);
    x->n_services = n;
    for (size_t i = 0; i < n && r >= 0; i++) {
        struct cspec cs = {0};
        if (x->pj->services[i].docker_service) /* Bitbucket: the job's own engine is it */
            continue;
        if ((r = cspec_read(c, &x->pj->services[i], &cs, e)) >= 0) {
            if (x->bitbucket)
                of_bitbucket(x, &x->pj->services[i], &cs);
            r = start_one(x, &cs, &x->services[i], ctxs, e);
        }
        cspec_done(&cs);
    }
    return r;
}

int services_start(struct jobx *x, struct err *e) {
    struct ctx c;
    struct value *job = val_object(x->a), *ctxs = val_object(x->a);
    val_sets(x->a, job, "services", ctxs);
    x->job_ctx = job;
    ctx_init(&c, x->a);
    ctx_leg(&c, x->leg);
    ctx_set(&c, "github", x->github);
    ctx_set(&c, "secrets", x->secrets);
    ctx_set(&c, "env", ctx_from_env(x->a, &x->env));
    int r = x->pj->services_whole.s ? start_whole(x, &c, ctxs, e) : start_listed(x, &c, ctxs, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < x->n_services; i++)
        if (x->services[i].started && (r = wait_ready(x, &x->services[i], e)) < 0)
            return r;
    return 0;
}

void services_logs(struct jobx *x) {
    for (size_t i = 0; i < x->n_services; i++) {
        if (!x->services[i].started)
            continue;
        _cleanup_buf_ struct buf b = BUF_MAX(256u << 10), m = BUF_MAX(1u << 20);
        _cleanup_free_ char *title = xasprintf("Logs of service %s", x->services[i].id);
        if (engine_logs(x->engine, x->services[i].cid, &b) < 0 && !b.n)
            continue;
        if (b.n && b.p[b.n - 1] != '\n') {
            b.max++;
            buf_addc(&b, '\n');
        }
        jobx_emit(x, &(struct event){.kind = EV_GROUP, .text = sv_from(title)});
        mask_text(x->rq->masker, buf_sv(&b), &m);
        if (m.n)
            jobx_emit(x, &(struct event){.kind = EV_OUTPUT, .text = buf_sv(&m), .stream = 1});
        jobx_emit(x, &(struct event){.kind = EV_GROUP});
    }
}
