/* Service containers: started in the job's engine, so that `docker ps` shows them, and waited for
 * until they are healthy. Without a health check a service counts as ready once it runs. */
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
    int r = image_get(x->rq->store, x->lease, ref, &x->pulls, &i, e);
    if (r < 0)
        return r;
    for (size_t k = 0; k < i->config.exposed.n; k++) {
        struct sv rest = sv_from(i->config.exposed.v[k]), port;
        if (sv_split(&rest, '/', &port) && port.n)
            strv_addf(ports, SV_FMT ":%s", SV_ARG(port), i->config.exposed.v[k]);
    }
    return 0;
}

static int start_one(struct jobx *x, struct ctx *c, const struct plan_container *pc, struct service *s, struct value *ctxs, struct err *e) {
    struct sv image, options, user, pass, cmd, entry;
    struct value *env;
    int r;
    if ((r = ctx_string(c, &pc->image, "", &image, e)) < 0)
        return r;
    image = sv_trim(image);
    if (!image.n)
        return 0;
    if ((r = ctx_string(c, &pc->options, "", &options, e)) < 0 || (r = ctx_string(c, &pc->username, "", &user, e)) < 0 ||
        (r = ctx_string(c, &pc->password, "", &pass, e)) < 0 || (r = ctx_map(c, &pc->env, false, &env, e)) < 0 ||
        (r = ctx_string(c, &pc->command, "", &cmd, e)) < 0 || (r = ctx_string(c, &pc->entrypoint, "", &entry, e)) < 0)
        return r;
    if (cmd.n || entry.n) {
        err_set(e, ERR_FAILED, -ENOSYS, "service %s: command and entrypoint are not there yet", pc->id);
        return err_at(e, -ENOSYS, pc->at);
    }
    _cleanup_strv_ struct strv ports = {0}, volumes = {0}, envv = {0};
    if ((r = ctx_list(c, &pc->ports, &ports, e)) < 0 || (r = ctx_list(c, &pc->volumes, &volumes, e)) < 0)
        return r;
    if (x->bitbucket && (r = expose_all(x, image.p, &ports, e)) < 0)
        return err_at(e, err_wrap(e, r, "service %s", pc->id), pc->at);
    for (size_t i = 0; i < env->n; i++)
        strv_addf(&envv, SV_FMT "=" SV_FMT, SV_ARG(env->keys[i]), SV_ARG(env->items[i]->str));
    strv_extend(&envv, (const char *const[]){NULL});
    _cleanup_free_ char *name = xasprintf("slipway-%s-%s", pc->id, lease_id(x->lease));
    const char *aliases[] = {pc->id, NULL};
    static const char *const none[] = {NULL};
    struct engine_container_spec spec = {.name = name, .image = image.p, .env = envv.v ? (const char *const *)envv.v : none,
                                         .ports = ports.v ? (const char *const *)ports.v : none,
                                         .volumes = volumes.v ? (const char *const *)volumes.v : none, .options = options.n ? options.p : NULL,
                                         .aliases = aliases, .username = user.n ? user.p : NULL, .password = user.n ? pass.p : NULL};
    s->id = pc->id;
    if ((r = engine_start(x->engine, &spec, s->cid, e)) < 0) {
        err_wrap(e, r, "service %s", pc->id);
        return err_at(e, r, pc->at);
    }
    s->started = true;
    struct value *one = val_object(x->a), *po = val_object(x->a);
    report_ports(x, s, &ports, po);
    val_set_str(x->a, one, "id", s->cid);
    val_set_str(x->a, one, "network", arena_printf(x->a, "github_network_%s", lease_id(x->lease)));
    val_sets(x->a, one, "ports", po);
    val_sets(x->a, ctxs, pc->id, one);
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

int services_start(struct jobx *x, struct err *e) {
    size_t n = x->pj->n_services;
    struct ctx c;
    int r;
    if (x->pj->services_whole.s) {
        err_set(e, ERR_FAILED, -ENOSYS, "services given by an expression are not there yet");
        return err_at(e, -ENOSYS, x->pj->services_whole.at);
    }
    struct value *job = val_object(x->a), *ctxs = val_object(x->a);
    val_sets(x->a, job, "services", ctxs);
    x->job_ctx = job;
    if (!n)
        return 0;
    if (x->host) {
        err_set(e, ERR_CONFIG, -EINVAL, "services need a network and an engine of the job's own, which a job on the host (-P LABEL=host) does not have");
        return err_at(e, -EINVAL, x->pj->services[0].at);
    }
    x->services = xcalloc(n, sizeof *x->services);
    x->n_services = n;
    ctx_init(&c, x->a);
    ctx_leg(&c, x->leg);
    ctx_set(&c, "github", x->github);
    ctx_set(&c, "secrets", x->secrets);
    ctx_set(&c, "env", ctx_from_env(x->a, &x->env));
    for (size_t i = 0; i < n; i++) {
        if (x->pj->services[i].docker_service) /* Bitbucket: the job's own engine is it */
            continue;
        if ((r = start_one(x, &c, &x->pj->services[i], &x->services[i], ctxs, e)) < 0)
            return r;
    }
    for (size_t i = 0; i < n; i++)
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
