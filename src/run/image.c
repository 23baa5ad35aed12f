/* The root of a job: the image of `container:`, the one that -P or the configuration maps a label
 * to, or the runner image of a label. A label that cannot be had here is "unavailable". */
#include "run/copts.h"
#include "run/cspec.h"
#include "run/jobx.h"
#include "run/runner_image.h"

void jobx_progress(void *arg, const char *id, const char *what, uint64_t done, uint64_t total) {
    struct jobx *x = arg;
    jobx_emit(x, &(struct event){.kind = EV_PROGRESS, .name = id, .text = sv_from(what), .done = done, .total = total});
}

static void say_start(struct jobx *x, const char *label, const char *root) {
    _cleanup_free_ char *detail = label ? xasprintf("%s → %s", label, root) : xstrdup(root);
    if (x->image && x->image->standin) {
        char *more = xasprintf("%s (stand-in%s%s)", detail, x->image->standin_note ? ": " : "",
                               x->image->standin_note ? x->image->standin_note : "");
        free(detail);
        detail = more;
    }
    jobx_emit(x, &(struct event){.kind = EV_JOB_START, .text = sv_from(x->leg->name), .detail = detail});
}

static int get(struct jobx *x, const char *ref, const char *user, const char *pass, struct err *e) {
    struct image_progress p = {jobx_progress, x};
    struct pull_options o = x->pulls;
    o.progress = &p;
    o.username = user;
    o.password = pass;
    o.cancel = (const volatile int *)(const volatile void *)&x->leg->cancel;
    return image_get(x->rq->store, x->lease, ref, &o, &x->image, e);
}

/* --- container: ---------------------------------------------------------------------------------- */

void jobx_expand(struct jobx *x, struct cspec *cs) {
    _cleanup_buf_ struct buf missing = BUF_MAX(4096);
    cspec_expand(x->a, cs, &x->env, &missing);
    if (missing.n)
        jobx_note(x, LEVEL_WARNING, "%s%s: %s not given and empty", cs->id ? "service " : "image", cs->id ? cs->id : "", buf_str(&missing));
}

static int container(struct jobx *x, struct err *e) {
    const struct plan_container *pc = &x->pj->container;
    struct ctx c;
    struct cspec cs = {0};
    ctx_init(&c, x->a);
    ctx_leg(&c, x->leg);
    ctx_set(&c, "github", x->github);
    ctx_set(&c, "secrets", x->secrets);
    ctx_set(&c, "env", ctx_from_env(x->a, &x->env));
    int r = cspec_read(&c, pc, &cs, e);
    if (r >= 0 && x->bitbucket)
        jobx_expand(x, &cs);
    if (r < 0 || !cs.image.n) {
        cspec_done(&cs);
        return r < 0 ? r : 1; /* an empty image means no container */
    }
    const char *ref = arena_strndup(x->a, cs.image.p, cs.image.n);
    ref = startswith(ref, "docker://") ? ref + 9 : ref;
    if ((r = get(x, ref, cs.username.n ? cs.username.p : NULL, cs.username.n ? cs.password.p : NULL, e)) < 0)
        err_at(e, err_wrap(e, r, "image %s", ref), cs.at);
    for (size_t i = 0; i < cs.env->n && r >= 0; i++)
        strv_addf(&x->image_env, SV_FMT "=" SV_FMT, SV_ARG(cs.env->keys[i]), SV_ARG(cs.env->items[i]->str));
    if (r >= 0 && cs.options.n)
        r = container_options(x, cs.options.p, &cs.volumes, e);
    if (r < 0 && !e->at.file)
        err_at(e, r, cs.at);
    if (r >= 0 && (r = volumes_read(x, &cs.volumes, e)) < 0)
        err_at(e, r, cs.at);
    cspec_done(&cs);
    if (r < 0)
        return r;
    say_start(x, NULL, ref);
    return 0;
}

/* --- runs-on --------------------------------------------------------------------------------------- */

static const char *mapped(const struct strv *map, const char *label) {
    for (size_t i = 0; i < map->n; i++) {
        struct sv v;
        if (sv_ieqs(env_split(map->v[i], &v), label))
            return v.p;
    }
    return NULL;
}

static int runner(struct jobx *x, const char *label, struct err *e) {
    _cleanup_free_ char *note = NULL;
    struct image_progress p = {jobx_progress, x};
    struct pull_options o = x->pulls;
    o.progress = &p;
    struct runner_image_options ro = {.dir = x->rq->dir, .map = &x->rq->runner_images, .pulls = &o,
                                      .no_host_env = x->rq->no_host_env, .progress = &p,
                                      .cancel = (const volatile int *)(const volatile void *)&x->leg->cancel};
    pthread_mutex_lock(&x->run->image_mu);
    int r = runner_image_get(x->rq->store, x->lease, label, &ro, &x->image, &note, e);
    pthread_mutex_unlock(&x->run->image_mu);
    if (r < 0)
        return err_wrap(e, r, "the runner image of %s", label);
    say_start(x, label, note ? note : "runner image");
    return 0;
}

static int on_host(struct jobx *x, const char *label, struct err *e) {
    if (!x->host) /* `container:` came to nothing when the paths were set */
        return err_set(e, ERR_CONFIG, -EINVAL, "a job whose container is given by an expression does not run on the host (-P %s=host)", label);
    say_start(x, label, "this host, without isolation");
    jobx_note(x, LEVEL_WARNING, "-P %s=host: the steps run on this host as %s, without isolation: they can read and change all that you can",
              label, getuid() ? "you" : "root");
    return 0;
}

static int by_label(struct jobx *x, const struct strv *labels, struct err *e) {
    int r;
    for (size_t i = 0; i < labels->n; i++) {
        const char *image = mapped(&x->rq->platforms, labels->v[i]);
        if (!image)
            continue;
        if (streq(image, "host"))
            return on_host(x, labels->v[i], e);
        if ((r = get(x, image, NULL, NULL, e)) < 0)
            return err_wrap(e, r, "image %s", image);
        x->mapped = true;
        say_start(x, labels->v[i], image);
        return 0;
    }
    for (size_t i = 0; i < labels->n; i++)
        if (runner_image_known(labels->v[i], &x->rq->runner_images))
            return runner(x, labels->v[i], e);
    _cleanup_buf_ struct buf b = BUF_SMALL;
    for (size_t i = 0; i < labels->n; i++)
        buf_addf(&b, "%s%s", i ? ", " : "", labels->v[i]);
    leg_fail(x->leg, OUT_UNAVAILABLE, "runs-on \"%s\" cannot be had here; -P %s=IMAGE maps it to an image", buf_str(&b),
             labels->n ? labels->v[0] : "LABEL");
    return 1;
}

int job_on_host(struct jobx *x, struct err *e) {
    _cleanup_strv_ struct strv labels = {0};
    struct ctx c;
    ctx_init(&c, x->a);
    ctx_leg(&c, x->leg);
    if (x->container)
        return 0;
    int r = ctx_list(&c, &x->pj->runs_on, &labels, e);
    for (size_t i = 0; i < labels.n && r >= 0; i++) {
        const char *to = mapped(&x->rq->platforms, labels.v[i]);
        if (to) {
            x->host = streq(to, "host");
            break;
        }
    }
    return r;
}

int job_image(struct jobx *x, struct err *e) {
    _cleanup_strv_ struct strv labels = {0};
    struct ctx c;
    int r;
    if (x->container) {
        if ((r = container(x, e)) <= 0)
            return r;
        x->container = false;
    }
    if (x->bitbucket)
        return runner(x, "ubuntu-latest", e);
    ctx_init(&c, x->a);
    ctx_leg(&c, x->leg);
    if ((r = ctx_list(&c, &x->pj->runs_on, &labels, e)) < 0)
        return r;
    return by_label(x, &labels, e);
}
