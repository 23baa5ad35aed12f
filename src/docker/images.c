/* Requests about images. Look-ups and changes of the store run on workers. */
#include "docker/impl.h"

#include "image/registry.h"

#include <time.h>

struct img {
    struct engine *g;
    struct httpd_req *rq;
    struct stream *s;
    char *name, *tag, *os, *arch, *variant;
    struct arena a; /* user and password */
    const char *user, *pass;
    struct strv names;
    int fd, r, status;
    bool force, quiet;
    struct buf out;
    struct err e;
    uint64_t size;
};

static void img_abort(struct httpd_req *rq, void *arg) { ((struct img *)arg)->rq = NULL; }

static struct img *img_new(struct engine *g, struct httpd_req *rq) {
    struct img *x = xcalloc(1, sizeof(*x));
    x->g = g;
    x->rq = rq;
    x->fd = -1;
    x->out = BUF_MAX(64u << 20);
    return x;
}

static void img_free(struct img *x) {
    fd_close(x->fd);
    buf_done(&x->out);
    strv_done(&x->names);
    arena_done(&x->a);
    free(x->name);
    free(x->tag);
    free(x->os);
    free(x->arch);
    free(x->variant);
    free(x);
}

static void plain_done(struct loop *l, void *arg) { /* JSON in out, or an error */
    struct img *x = arg;
    if (x->rq && x->r < 0)
        reply_err(x->rq, x->status ? x->status : status_of(&x->e), "%s", x->e.msg);
    else if (x->rq)
        httpd_reply_json(x->rq, 200, &x->out);
    img_free(x);
}

static void plain(struct engine *g, struct img *x, job_fn work) {
    httpd_on_abort(x->rq, img_abort, x);
    engine_job(g, work, plain_done, x);
}

static int need(struct img *x, struct image **ret) {
    int r = image_find(x->g->o.store, x->g->o.lease, x->name, ret, &x->e);
    if (r > 0)
        return 0;
    if (r == 0) {
        const char *slash = strrchr(x->name, '/');
        bool tagged = strchr(slash ? slash : x->name, ':') || strchr(x->name, '@');
        r = err_set(&x->e, ERR_NOTFOUND, -ENOENT, "No such image: %s%s", x->name, tagged ? "" : ":latest");
        x->status = 404;
    }
    return r;
}

static char *familiar(const char *full) {
    struct image_ref ref;
    struct buf b = BUF_SMALL;
    if (ref_parse(full, &ref, NULL) < 0)
        return xstrdup(full);
    ref_familiar(&ref, &b);
    return buf_take(&b);
}

/* --- list ----------------------------------------------------------------------------------- */

struct listed {
    struct map by_id; /* id -> struct strv of names */
};

static void names_free(void *p) {
    strv_done(p);
    free(p);
}

static int collect(const char *ref, const char *id, struct sv record, void *arg) {
    struct listed *l = arg;
    struct strv *names = map_gets(&l->by_id, id);
    if (!names) {
        names = xcalloc(1, sizeof(*names));
        map_sets(&l->by_id, id, names);
    }
    if (ref)
        strv_take(names, familiar(ref));
    return 0;
}

static int64_t unix_time(const char *rfc3339) {
    struct tm tm = {0};
    return rfc3339 && strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &tm) ? timegm(&tm) : 0;
}

static void names_json(struct json_w *w, const char *manifest, const struct strv *names) {
    jw_key(w, "RepoTags");
    jw_arr(w);
    for (size_t i = 0; i < names->n; i++)
        if (!strchr(names->v[i], '@'))
            jw_str(w, names->v[i]);
    jw_end_arr(w);
    jw_key(w, "RepoDigests");
    jw_arr(w);
    struct strv seen = {0};
    for (size_t i = 0; *manifest && i < names->n; i++) {
        struct image_ref ref;
        _cleanup_buf_ struct buf b = BUF_SMALL;
        if (ref_parse(names->v[i], &ref, NULL) < 0)
            continue;
        ref.tag[0] = ref.digest[0] = 0;
        ref_familiar(&ref, &b);
        const char *name = buf_str(&b);
        size_t n = strlen(name);
        if (n > 7 && streq(name + n - 7, ":latest"))
            buf_cut(&b, n - 7, 7);
        if (strv_contains(&seen, buf_str(&b)))
            continue;
        strv_add(&seen, buf_str(&b));
        buf_addf(&b, "@%s", manifest);
        jw_sv(w, buf_sv(&b));
    }
    strv_done(&seen);
    jw_end_arr(w);
}

/* "name", "name:tag", "name*": docker's reference filter, by shell pattern. */
static bool fit_reference(const char *v, void *arg) {
    const struct strv *names = arg;
    for (size_t i = 0; i < names->n; i++) {
        const char *n = names->v[i], *slash = strrchr(n, '/'), *colon = strchr(slash ? slash : n, ':');
        _cleanup_free_ char *repo = colon ? xstrndup(n, (size_t)(colon - n)) : xstrdup(n);
        _cleanup_free_ char *fam = familiar(v);
        const char *fslash = strrchr(v, '/');
        bool tagged = strchr(fslash ? fslash : v, ':') != NULL;
        if (tagged ? streq(fam, n) : streq(v, repo))
            return true;
        const char *star = strchr(v, '*');
        if (star && strncmp(v, n, (size_t)(star - v)) == 0 && (!star[1] || strstr(n, star + 1)))
            return true;
    }
    return false;
}

static bool fit_dangling(const char *v, void *arg) { return (((const struct strv *)arg)->n == 0) == (streq(v, "true") || streq(v, "1")); }

struct found {
    struct image *im;
    struct strv *names;
};

static int newest_first(const void *a, const void *b) {
    int64_t x = unix_time(((const struct found *)a)->im->config.created), y = unix_time(((const struct found *)b)->im->config.created);
    return x > y ? -1 : x < y ? 1 : 0;
}

static void list_work(void *arg) {
    struct img *x = arg;
    struct listed l = {.by_id = {.free_value = names_free}};
    struct json *filters = NULL;
    struct json_w w;
    x->r = image_each(x->g->o.store, collect, &l);
    if (x->r >= 0)
        x->r = image_each_id(x->g->o.store, collect, &l);
    if (x->name && json_parse(&x->a, sv_from(x->name), &filters, NULL) < 0)
        filters = NULL;
    struct found *all = xcalloc(l.by_id.live + 1, sizeof(*all));
    size_t n = 0;
    MAP_FOREACH(&l.by_id, en) {
        struct strv *names = en->value;
        struct image *im = NULL;
        if (!filter_has(filters, "reference", fit_reference, names) || !filter_has(filters, "dangling", fit_dangling, names) ||
            (!names->n && !x->force && !json_get(filters, "dangling")))
            continue;
        if (image_find(x->g->o.store, x->g->o.lease, en->key, &im, NULL) > 0 && filter_labels(filters, &im->config.labels))
            all[n++] = (struct found){im, names};
        else
            image_free(im);
    }
    qsort(all, n, sizeof(*all), newest_first);
    jw_init(&w, &x->out, 0);
    jw_arr(&w);
    for (size_t i = 0; i < n; i++) {
        struct image *im = all[i].im;
        struct strv *names = all[i].names;
        jw_obj(&w);
        jw_kstr(&w, "Id", im->id);
        jw_kstr(&w, "ParentId", "");
        names_json(&w, im->manifest, names);
        jw_kint(&w, "Created", unix_time(im->config.created));
        jw_kint(&w, "Size", (int64_t)im->size);
        jw_kint(&w, "SharedSize", -1);
        jw_kint(&w, "VirtualSize", (int64_t)im->size);
        labels_json(&w, "Labels", &im->config.labels);
        jw_kint(&w, "Containers", -1);
        jw_end_obj(&w);
        image_free(im);
    }
    jw_end_arr(&w);
    free(all);
    map_done(&l.by_id);
}

/* --- inspect, history ------------------------------------------------------------------------ */

static void list_key(struct json_w *w, const char *key, const struct strv *v, bool null_when_empty) {
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

static void set_key(struct json_w *w, const char *key, const struct strv *v) {
    jw_key(w, key);
    if (!v->n) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    for (size_t i = 0; i < v->n; i++) {
        jw_key(w, v->v[i]);
        jw_obj(w);
        jw_end_obj(w);
    }
    jw_end_obj(w);
}

static void config_json(struct json_w *w, const struct image_config *c) {
    jw_obj(w);
    jw_kstr(w, "Hostname", "");
    jw_kstr(w, "Domainname", "");
    jw_kstr(w, "User", c->user ? c->user : "");
    jw_kbool(w, "AttachStdin", false);
    jw_kbool(w, "AttachStdout", false);
    jw_kbool(w, "AttachStderr", false);
    if (c->exposed.n)
        set_key(w, "ExposedPorts", &c->exposed);
    jw_kbool(w, "Tty", false);
    jw_kbool(w, "OpenStdin", false);
    jw_kbool(w, "StdinOnce", false);
    list_key(w, "Env", &c->env, false);
    list_key(w, "Cmd", &c->cmd, !c->has_cmd);
    if (c->health.given) {
        jw_key(w, "Healthcheck");
        jw_obj(w);
        list_key(w, "Test", &c->health.test, false);
        if (c->health.interval_ns)
            jw_kint(w, "Interval", (int64_t)c->health.interval_ns);
        if (c->health.timeout_ns)
            jw_kint(w, "Timeout", (int64_t)c->health.timeout_ns);
        if (c->health.start_period_ns)
            jw_kint(w, "StartPeriod", (int64_t)c->health.start_period_ns);
        if (c->health.retries)
            jw_kint(w, "Retries", c->health.retries);
        jw_end_obj(w);
    }
    jw_kstr(w, "Image", "");
    set_key(w, "Volumes", &c->volumes);
    jw_kstr(w, "WorkingDir", c->workdir ? c->workdir : "");
    list_key(w, "Entrypoint", &c->entrypoint, !c->has_entrypoint);
    list_key(w, "OnBuild", &c->onbuild, true);
    labels_json(w, "Labels", &c->labels);
    if (c->stopsignal)
        jw_kstr(w, "StopSignal", c->stopsignal);
    if (c->has_shell)
        list_key(w, "Shell", &c->shell, true);
    jw_end_obj(w);
}

static int same_id(const char *ref, const char *id, struct sv record, void *arg) {
    struct img *x = arg;
    if (streq(id, x->tag) && ref)
        strv_take(&x->names, familiar(ref));
    return 0;
}

static void inspect_work(void *arg) {
    struct img *x = arg;
    _cleanup_image_ struct image *im = NULL;
    struct json_w w;
    if ((x->r = need(x, &im)) < 0)
        return;
    free(x->tag);
    x->tag = xstrdup(im->id);
    (void)image_each(x->g->o.store, same_id, x);
    const struct image_config *c = &im->config;
    jw_init(&w, &x->out, 0);
    jw_obj(&w);
    jw_kstr(&w, "Id", im->id);
    names_json(&w, im->manifest, &x->names);
    jw_kstr(&w, "Parent", "");
    jw_kstr(&w, "Comment", im->standin && im->standin_note ? im->standin_note : "");
    jw_kstr(&w, "Created", c->created ? c->created : "");
    jw_kstr(&w, "DockerVersion", "");
    jw_kstr(&w, "Author", c->author ? c->author : "");
    jw_key(&w, "Config");
    config_json(&w, c);
    jw_kstr(&w, "Architecture", c->architecture ? c->architecture : "");
    if (c->variant)
        jw_kstr(&w, "Variant", c->variant);
    jw_kstr(&w, "Os", c->os ? c->os : "linux");
    jw_kint(&w, "Size", (int64_t)im->size);
    jw_kint(&w, "VirtualSize", (int64_t)im->size);
    jw_key(&w, "GraphDriver");
    jw_obj(&w);
    jw_key(&w, "Data");
    jw_null(&w);
    jw_kstr(&w, "Name", "overlay2");
    jw_end_obj(&w);
    jw_key(&w, "RootFS");
    jw_obj(&w);
    jw_kstr(&w, "Type", "layers");
    list_key(&w, "Layers", &c->diff_ids, false);
    jw_end_obj(&w);
    jw_key(&w, "Metadata");
    jw_obj(&w);
    jw_kstr(&w, "LastTagTime", "0001-01-01T00:00:00Z");
    jw_end_obj(&w);
    jw_end_obj(&w);
}

static void history_work(void *arg) {
    struct img *x = arg;
    _cleanup_image_ struct image *im = NULL;
    struct json_w w;
    if ((x->r = need(x, &im)) < 0)
        return;
    free(x->tag);
    x->tag = xstrdup(im->id);
    (void)image_each(x->g->o.store, same_id, x);
    jw_init(&w, &x->out, 0);
    jw_arr(&w);
    size_t layer = im->layers.n;
    for (size_t i = im->config.n_history; i > 0; i--) {
        const struct image_history *h = &im->config.history[i - 1];
        struct snap_info info = {0};
        uint64_t size = 0;
        if (!h->empty_layer && layer > 0 && snap_get(x->g->o.store, im->layers.v[--layer], &info) >= 0)
            size = info.size;
        jw_obj(&w);
        jw_kstr(&w, "Id", i == im->config.n_history ? im->id : "<missing>");
        jw_kint(&w, "Created", unix_time(h->created));
        jw_kstr(&w, "CreatedBy", h->created_by ? h->created_by : "");
        list_key(&w, "Tags", &(struct strv){.v = x->names.v, .n = i == im->config.n_history ? x->names.n : 0}, true);
        jw_kint(&w, "Size", (int64_t)size);
        jw_kstr(&w, "Comment", h->comment ? h->comment : "");
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
}

/* --- tag, remove ----------------------------------------------------------------------------- */

static void tag_work(void *arg) {
    struct img *x = arg;
    _cleanup_image_ struct image *im = NULL;
    if ((x->r = need(x, &im)) >= 0)
        x->r = image_tag(x->g->o.store, im->id, x->tag, &x->e);
}

static void tag_done(struct loop *l, void *arg) {
    struct img *x = arg;
    if (x->rq && x->r < 0)
        reply_err(x->rq, x->status ? x->status : status_of(&x->e), "%s", x->e.msg);
    else if (x->rq)
        reply_empty(x->rq, 201);
    img_free(x);
}

static bool in_use(struct engine *g, const char *id, const char **who) {
    bool used = false;
    pthread_mutex_lock(&g->mu);
    MAP_FOREACH(&g->ctrs, en) {
        struct ctr *c = en->value;
        if (streq(c->image_id, id)) {
            *who = c->id;
            used = true;
        }
    }
    pthread_mutex_unlock(&g->mu);
    return used;
}

static void remove_work(void *arg) {
    struct img *x = arg;
    _cleanup_image_ struct image *im = NULL;
    struct json_w w;
    const char *who;
    if ((x->r = need(x, &im)) < 0)
        return;
    free(x->tag);
    x->tag = xstrdup(im->id);
    (void)image_each(x->g->o.store, same_id, x);
    if (x->names.n <= 1 && !x->force && in_use(x->g, im->id, &who)) {
        x->status = 409;
        x->r = err_set(&x->e, ERR_CONFLICT, -EBUSY, "conflict: unable to remove repository reference \"%s\" (must force) - container "
                       "%.12s is using its referenced image %.12s", x->name, who, digest_hex(im->id));
        return;
    }
    struct strv said = {0};
    x->r = image_remove(x->g->o.store, x->name, x->force, &said, &x->e);
    if (x->r < 0 && x->e.kind == ERR_CONFLICT)
        x->status = 409;
    jw_init(&w, &x->out, 0);
    jw_arr(&w);
    for (size_t i = 0; i < said.n; i++) {
        const char *u = startswith(said.v[i], "Untagged: "), *d = startswith(said.v[i], "Deleted: ");
        jw_obj(&w);
        if (u) {
            _cleanup_free_ char *fam = familiar(u);
            jw_kstr(&w, "Untagged", fam);
        } else
            jw_kstr(&w, "Deleted", d ? d : said.v[i]);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    strv_done(&said);
}

/* --- pull ------------------------------------------------------------------------------------ */

static void pull_work(void *arg) {
    struct img *x = arg;
    struct image_progress progress = {stream_progress, x->s};
    struct pull_options o = x->g->pulls;
    _cleanup_image_ struct image *im = NULL, *before = NULL;
    struct image_ref ref;
    _cleanup_buf_ struct buf fam = BUF_SMALL;
    o.policy = o.policy == PULL_NEVER ? PULL_NEVER : PULL_ALWAYS;
    o.progress = &progress;
    o.cancel = stream_cancel(x->s);
    if (x->user) {
        o.username = x->user;
        o.password = x->pass;
    }
    if (x->arch) {
        o.os = x->os;
        o.arch = x->arch;
        o.variant = x->variant;
    }
    struct image_ref shown;
    x->r = ref_parse(x->name, &ref, &x->e);
    if (x->r < 0) {
        stream_error(x->s, &x->e);
        return;
    }
    shown = ref;
    ref_familiar(&shown, &fam);
    const char *tag = ref.digest[0] ? ref.digest : ref.tag;
    stream_status(x->s, tag, "Pulling from %s", streq(ref.registry, "docker.io") ? ref.path : fam.p ? ref.path : "");
    (void)image_find(x->g->o.store, x->g->o.lease, x->name, &before, NULL);
    x->r = image_get(x->g->o.store, x->g->o.lease, x->name, &o, &im, &x->e);
    if (x->r < 0) {
        stream_error(x->s, &x->e);
        return;
    }
    if (im->manifest[0])
        stream_status(x->s, NULL, "Digest: %s", im->manifest);
    if (im->standin)
        stream_status(x->s, NULL, "Stand-in: %s", im->standin_note ? im->standin_note : "made from Debian's packages");
    stream_status(x->s, NULL, before && streq(before->id, im->id) ? "Status: Image is up to date for %s" : "Status: Downloaded newer image for %s",
                  buf_str(&fam));
}

static void streamed_done(struct loop *l, void *arg) {
    struct img *x = arg;
    stream_end(x->s);
    if (x->r >= 0 && x->name)
        engine_event(x->g, "image", x->status == 1 ? "pull" : x->status == 2 ? "push" : "load", x->name, NULL);
    img_free(x);
}

static void handle_pull(struct engine *g, struct httpd_req *rq) {
    const char *from = httpd_query(rq, "fromImage"), *tag = httpd_query(rq, "tag"), *platform = httpd_query(rq, "platform");
    if (httpd_query(rq, "fromSrc")) {
        reply_not_yet(rq, "docker import");
        return;
    }
    if (!from || !*from) {
        reply_err(rq, 400, "fromImage is missing");
        return;
    }
    struct image_ref ref;
    struct err e = {0};
    _cleanup_free_ char *full = tag && *tag ? xasprintf("%s%s%s", from, startswith(tag, "sha256:") ? "@" : ":", tag) : xstrdup(from);
    if (ref_parse(full, &ref, &e) < 0) {
        reply_err(rq, 400, "%s", e.msg);
        return;
    }
    struct img *x = img_new(g, rq);
    x->name = TAKE(full);
    x->status = 1;
    if (header_auth(rq, "X-Registry-Auth", &x->a, &x->user, &x->pass) <= 0)
        x->user = x->pass = NULL;
    if (platform && *platform) {
        struct sv rest = sv_from(platform), part;
        if (sv_split(&rest, '/', &part))
            x->os = sv_dup(part);
        if (sv_split(&rest, '/', &part))
            x->arch = sv_dup(part);
        if (sv_split(&rest, '/', &part))
            x->variant = sv_dup(part);
    }
    x->s = stream_new(g, rq);
    engine_job(g, pull_work, streamed_done, x);
}

/* --- push ------------------------------------------------------------------------------------ */

static int push_do(struct img *x, const struct image_ref *ref, char digest[DIGEST_LEN + 1]) {
    struct engine *g = x->g;
    struct image_progress progress = {stream_progress, x->s};
    _cleanup_image_ struct image *im = NULL;
    int r = image_find(g->o.store, g->o.lease, x->name, &im, &x->e);
    if (r == 0)
        r = err_set(&x->e, ERR_NOTFOUND, -ENOENT, "An image does not exist locally with the tag: %s", x->tag);
    if (r < 0)
        return r;
    int capture = g->o.may_push ? g->o.may_push(g->o.arg, ref, &x->e) : 0;
    if (capture < 0)
        return capture;
    if (capture) {
        r = registry_capture(g->o.store, g->o.lease, im->id, x->name, g->o.run_id, digest, &x->size, &x->e);
        if (r < 0)
            return r;
        for (size_t i = 0; i < im->config.diff_ids.n; i++)
            stream_progress(x->s, im->config.diff_ids.v[i], "Captured", 1, 1);
        stream_status(x->s, NULL, "captured, not sent: the image is in slipway's own registry under its full name");
    } else {
        struct registry_conf conf = *g->pulls.conf;
        if (g->o.auth_file)
            conf.auth_file = g->o.auth_file;
        const struct push_options o = {.conf = &conf, .progress = &progress, .cancel = stream_cancel(x->s)};
        r = image_push(g->o.store, g->o.lease, im->id, x->name, &o, digest, &x->size, &x->e);
        if (r < 0)
            return r;
    }
    if (g->o.pushed)
        g->o.pushed(g->o.arg, x->name, digest, x->size, capture > 0);
    return 0;
}

static void push_work(void *arg) {
    struct img *x = arg;
    struct image_ref ref;
    char digest[DIGEST_LEN + 1] = "";
    x->r = ref_parse(x->name, &ref, &x->e);
    if (x->r >= 0) {
        stream_status(x->s, NULL, "The push refers to repository [%s/%s]", ref.registry, ref.path);
        x->r = push_do(x, &ref, digest);
    }
    if (x->r < 0) {
        stream_error(x->s, &x->e);
        return;
    }
    uint64_t size = x->size; /* docker tells the manifest's */
    fd_close(blob_open(x->g->o.store, digest, &size, NULL));
    stream_status(x->s, NULL, "%s: digest: %s size: %llu", ref.tag, digest, (unsigned long long)size);
    struct buf b = BUF_MAX(8192);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_key(&w, "progressDetail");
    jw_obj(&w);
    jw_end_obj(&w);
    jw_key(&w, "aux");
    jw_obj(&w);
    jw_kstr(&w, "Tag", ref.tag);
    jw_kstr(&w, "Digest", digest);
    jw_kint(&w, "Size", (int64_t)size);
    jw_end_obj(&w);
    jw_end_obj(&w);
    stream_line(x->s, buf_sv(&b));
    buf_done(&b);
}

static void handle_push(struct engine *g, struct httpd_req *rq, const char *name) {
    const char *tag = httpd_query(rq, "tag");
    struct image_ref ref;
    struct err e = {0};
    _cleanup_free_ char *full = tag && *tag ? xasprintf("%s:%s", name, tag) : xstrdup(name);
    if (ref_parse(full, &ref, &e) < 0) {
        reply_err(rq, 400, "%s", e.msg);
        return;
    }
    struct buf b = BUF_SMALL;
    ref_format(&ref, &b);
    struct img *x = img_new(g, rq);
    x->name = buf_take(&b);
    x->tag = xstrdup(name);
    x->status = 2;
    const char *user = NULL, *pass = NULL;
    /* What docker's client sends with the push is what it stored at login; the engine keeps it in
     * the job's file, so that one path serves both. */
    if (g->o.auth_file && header_auth(rq, "X-Registry-Auth", &x->a, &user, &pass) > 0)
        (void)registry_login(g->o.auth_file, ref.registry, user, pass ? pass : "", false, g->pulls.conf, NULL);
    x->s = stream_new(g, rq);
    engine_job(g, push_work, streamed_done, x);
}

/* --- save, load ------------------------------------------------------------------------------ */

static int scratch_file(struct engine *g, struct err *e) {
    char name[32] = "img-";
    int dir = lease_scratch(g->o.lease, e);
    if (dir < 0)
        return dir;
    random_id(name + 4, 20);
    int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, -errno, "a scratch file");
    unlinkat(dir, name, 0);
    return fd;
}

static void save_work(void *arg) {
    struct img *x = arg;
    struct stat st;
    for (size_t i = 0; i < x->names.n; i++) {
        _cleanup_image_ struct image *im = NULL;
        x->name = x->names.v[i];
        x->r = need(x, &im);
        x->name = NULL;
        if (x->r < 0)
            return;
    }
    x->fd = x->r = scratch_file(x->g, &x->e);
    if (x->r >= 0)
        x->r = image_save(x->g->o.store, x->g->o.lease, (const char *const *)x->names.v, x->names.n, false, x->fd, &x->e);
    if (x->r >= 0 && fstat(x->fd, &st) == 0)
        x->size = (uint64_t)st.st_size;
}

static void save_done(struct loop *l, void *arg) {
    struct img *x = arg;
    if (x->rq && x->r < 0)
        reply_err(x->rq, x->status ? x->status : status_of(&x->e), "%s", x->e.msg);
    else if (x->rq)
        httpd_reply_fd(x->rq, 200, "application/x-tar", TAKE_FD(x->fd), 0, x->size);
    img_free(x);
}

static void load_work(void *arg) {
    struct img *x = arg;
    struct strv names = {0};
    if (lseek(x->fd, 0, SEEK_SET) < 0)
        x->r = err_errno(&x->e, -errno, "a scratch file");
    else
        x->r = image_load(x->g->o.store, x->g->o.lease, x->fd, &names, &x->e);
    if (x->r < 0)
        stream_error(x->s, &x->e);
    for (size_t i = 0; x->r >= 0 && i < names.n; i++) {
        _cleanup_free_ char *fam = familiar(names.v[i]);
        if (startswith(names.v[i], "sha256:"))
            stream_text(x->s, "Loaded image ID: %s\n", names.v[i]);
        else
            stream_text(x->s, "Loaded image: %s\n", fam);
    }
    strv_done(&names);
}

static void load_spooled(struct httpd_req *rq, int r, uint64_t size, void *arg) {
    struct img *x = arg;
    if (r < 0) {
        if (r != -ECONNRESET)
            reply_err(rq, 500, "reading the archive: %s", strerror(-r));
        img_free(x);
        return;
    }
    x->s = stream_new(x->g, rq);
    engine_job(x->g, load_work, streamed_done, x);
}

static void handle_load(struct engine *g, struct httpd_req *rq) {
    struct err e = {0};
    struct img *x = img_new(g, rq);
    x->fd = scratch_file(g, &e);
    if (x->fd < 0) {
        reply_errp(rq, &e);
        img_free(x);
        return;
    }
    httpd_spool(rq, x->fd, UINT64_MAX, load_spooled, x);
}

static void handle_save(struct engine *g, struct httpd_req *rq, const char *one) {
    struct img *x = img_new(g, rq);
    const char *n;
    if (one)
        strv_add(&x->names, one);
    for (size_t i = 0; !one && (n = httpd_query_n(rq, "names", i)); i++) {
        struct sv rest = sv_from(n), part;
        while (sv_split(&rest, ',', &part))
            strv_addn(&x->names, part.p, part.n);
    }
    if (!x->names.n) {
        reply_err(rq, 400, "no image was named");
        img_free(x);
        return;
    }
    httpd_on_abort(rq, img_abort, x);
    engine_job(g, save_work, save_done, x);
}

/* --- routing --------------------------------------------------------------------------------- */

void images_handle(struct engine *g, struct httpd_req *rq, const char *rest) {
    const char *m = httpd_method(rq);
    bool get = streq(m, "GET"), post = streq(m, "POST");
    size_t n = strlen(rest);
    if (streq(rest, "json") && get) {
        struct img *x = img_new(g, rq);
        x->name = xstrdup(httpd_query(rq, "filters"));
        x->force = query_bool(rq, "all", false);
        plain(g, x, list_work);
    } else if (streq(rest, "create") && post)
        handle_pull(g, rq);
    else if (streq(rest, "get") && get)
        handle_save(g, rq, NULL);
    else if (streq(rest, "load") && post)
        handle_load(g, rq);
    else if (streq(rest, "prune") && post)
        images_prune(g, rq);
    else if ((streq(rest, "prune") || streq(rest, "search")) || !n)
        reply_err(rq, 501, "not yet: images/%s", rest);
    else if (streq(m, "DELETE")) {
        struct img *x = img_new(g, rq);
        x->name = xstrdup(rest);
        x->force = query_bool(rq, "force", false);
        plain(g, x, remove_work);
    } else if (endswith(rest, "/json") && get) {
        struct img *x = img_new(g, rq);
        x->name = xstrndup(rest, n - 5);
        plain(g, x, inspect_work);
    } else if (endswith(rest, "/history") && get) {
        struct img *x = img_new(g, rq);
        x->name = xstrndup(rest, n - 8);
        plain(g, x, history_work);
    } else if (endswith(rest, "/get") && get) {
        _cleanup_free_ char *name = xstrndup(rest, n - 4);
        handle_save(g, rq, name);
    } else if (endswith(rest, "/push") && post) {
        _cleanup_free_ char *name = xstrndup(rest, n - 5);
        handle_push(g, rq, name);
    } else if (endswith(rest, "/tag") && post) {
        const char *repo = httpd_query(rq, "repo"), *tag = httpd_query(rq, "tag");
        if (!repo || !*repo) {
            reply_err(rq, 400, "repo is missing");
            return;
        }
        struct img *x = img_new(g, rq);
        x->name = xstrndup(rest, n - 4);
        x->tag = tag && *tag ? xasprintf("%s:%s", repo, tag) : xstrdup(repo);
        struct image_ref ref;
        struct err e = {0};
        if (ref_parse(x->tag, &ref, &e) < 0) {
            reply_err(rq, 400, "%s", e.msg);
            img_free(x);
            return;
        }
        httpd_on_abort(rq, img_abort, x);
        engine_job(g, tag_work, tag_done, x);
    } else
        reply_err(rq, 501, "not yet: %s images/%s", m, rest);
}
