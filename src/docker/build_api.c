/* POST /build. The context is a tar (any docker client), or, from our own client, a folder that
 * the engine opens where the job sees it, after device and inode have been compared with what the
 * client sees (421 when they differ: the client then sends the tar). The answer is the classic
 * builder's stream of JSON lines; the text in it is written as BuildKit's plain progress, since
 * steps run in parallel. */
#include "docker/impl.h"

#include "build/context.h"
#include "build/netsrc.h"

struct bld {
    struct engine *g;
    struct httpd_req *rq;
    struct stream *s;
    struct arena a;
    struct build_request q;
    struct strv args, labels, tags, hosts, nocache;
    struct build_secret secrets[32];
    struct buf secret_text[32];
    struct pull_options pulls;
    struct image_progress progress;
    char *dockerfile, *target, *context_name, *text, *dir_name;
    struct build_context contexts[32];
    struct build_ssh ssh[16];
    int ssh_fds[16];
    struct buf called;
    char *remote;
    int fd, dir, r;
    bool quiet, given_text, shown[512];
    struct err e;
};

static void bld_free(struct bld *x) {
    for (size_t i = 0; i < x->q.n_contexts; i++)
        fd_close(x->contexts[i].dirfd);
    for (size_t i = 0; i < x->q.n_ssh; i++)
        fd_close(x->ssh_fds[i]);
    buf_done(&x->called);
    free(x->remote);
    fd_close(x->fd);
    fd_close(x->dir);
    if (x->dir_name) {
        int scratch = lease_scratch(x->g->o.lease, NULL);
        if (scratch >= 0)
            (void)fs_rmtree(scratch, x->dir_name);
    }
    strv_done(&x->args);
    strv_done(&x->labels);
    strv_done(&x->tags);
    strv_done(&x->hosts);
    strv_done(&x->nocache);
    for (size_t i = 0; i < x->q.n_secrets; i++) {
        if (x->secret_text[i].p)
            explicit_bzero(x->secret_text[i].p, x->secret_text[i].n);
        buf_done(&x->secret_text[i]);
    }
    arena_done(&x->a);
    free(x->dockerfile);
    free(x->target);
    free(x->context_name);
    free(x->text);
    free(x->dir_name);
    free(x);
}

/* --- the request ----------------------------------------------------------------------------- */

static int map_into(struct arena *a, const char *json, struct strv *to, bool env, struct err *e) {
    struct json *j = NULL;
    if (!json || !*json)
        return 0;
    char *copy = arena_strdup(a, json);
    if (json_parse(a, sv_from(copy), &j, NULL) < 0 || !j || j->kind != JSON_OBJECT)
        return err_set(e, ERR_USER, -EINVAL, "build arguments and labels must be a JSON object");
    for (size_t i = 0; i < j->n; i++)
        if (j->items[i]->kind == JSON_STRING)
            strv_addf(to, SV_FMT "=" SV_FMT, SV_ARG(j->keys[i]), SV_ARG(j->items[i]->text));
        else if (!env)
            strv_addf(to, SV_FMT "=", SV_ARG(j->keys[i]));
    return 0;
}

static int secrets_read(struct bld *x, struct err *e) {
    const char *h = httpd_header(x->rq, "X-Slipway-Secrets");
    struct buf b = BUF_MAX(8u << 20);
    struct json *j = NULL;
    if (!h || !*h)
        return 0;
    char *copy = base64_decode(sv_from(h), &b) >= 0 ? arena_strndup(&x->a, b.p ? b.p : "", b.n) : NULL;
    int r = copy ? json_parse(&x->a, sv_n(copy, b.n), &j, NULL) : -EINVAL;
    buf_done(&b);
    if (r < 0 || j->kind != JSON_ARRAY || j->n > ELEMENTS(x->secrets))
        return err_set(e, ERR_USER, -EINVAL, "bad secrets");
    for (size_t i = 0; i < j->n; i++) {
        size_t n = x->q.n_secrets++;
        x->secret_text[n] = BUF_MAX(1u << 20);
        if (base64_decode(json_sv(json_get(j->items[i], "value")), &x->secret_text[n]) < 0)
            return err_set(e, ERR_USER, -EINVAL, "bad secrets");
        x->secrets[n] = (struct build_secret){.id = json_get_str(j->items[i], "id", ""), .env_value = buf_str(&x->secret_text[n])};
    }
    x->q.secrets = x->secrets;
    return 0;
}

/* Folders and sockets that our client names as the job sees them: [{"name":…, "path":…, "dev":…, "ino":…}]. */
static int path_open(struct bld *x, const struct json *it, int flags, struct err *e) {
    const char *path = json_get_str(it, "path", "");
    struct stat st;
    int fd = !x->g->o.job ? open(path, flags | O_CLOEXEC)
             : flags == O_PATH ? box_open_tree(x->g->o.job, path, e) : box_open(x->g->o.job, path, flags, 0, e);
    if (fd < 0)
        return x->g->o.job ? fd : err_errno(e, -errno, "%s", path);
    if (fstat(fd, &st) < 0 || json_get_int(it, "dev", -1) != (int64_t)st.st_dev || json_get_int(it, "ino", -1) != (int64_t)st.st_ino) {
        close(fd);
        return err_set(e, ERR_USER, -EXDEV, "%s is not what the client sees", path);
    }
    return fd;
}

static struct json *list_query(struct bld *x, const char *name) {
    const char *v = httpd_query(x->rq, name);
    struct json *j = NULL;
    if (!v || !*v || json_parse(&x->a, sv_from(arena_strdup(&x->a, v)), &j, NULL) < 0 || !j || j->kind != JSON_ARRAY)
        return NULL;
    return j;
}

static int contexts_read(struct bld *x, struct err *e) {
    struct json *j = list_query(x, "slipway.contexts");
    for (size_t i = 0; j && i < j->n; i++) {
        const struct json *it = j->items[i];
        const char *image = json_get_str(it, "image", NULL);
        if (i == ELEMENTS(x->contexts))
            return err_set(e, ERR_LIMIT, -E2BIG, "too many --build-context");
        int fd = image ? -1 : path_open(x, it, O_RDONLY | O_DIRECTORY, e);
        if (!image && fd < 0)
            return fd;
        x->contexts[x->q.n_contexts++] = (struct build_context){
            .name = json_get_str(it, "name", ""), .image = image, .dirfd = fd,
            .folder = arena_printf(&x->a, "%s:%s", x->g->o.job ? "job" : "host", json_get_str(it, "path", ""))};
    }
    x->q.contexts = x->contexts;
    j = list_query(x, "slipway.ssh");
    for (size_t i = 0; j && i < j->n; i++) {
        if (i == ELEMENTS(x->ssh))
            return err_set(e, ERR_LIMIT, -E2BIG, "too many --ssh");
        int fd = path_open(x, j->items[i], O_PATH, e);
        if (fd < 0)
            return fd;
        x->ssh_fds[x->q.n_ssh] = fd;
        x->ssh[x->q.n_ssh++] = (struct build_ssh){json_get_str(j->items[i], "name", ""), arena_printf(&x->a, "/proc/self/fd/%d", fd)};
    }
    x->q.ssh = x->ssh;
    return 0;
}

static int call_read(struct bld *x, struct err *e) {
    static const char *const names[] = {"build", "check", "outline", "targets"};
    const char *v = httpd_query(x->rq, "slipway.call");
    for (size_t i = 0; v && *v && i <= ELEMENTS(names); i++) {
        if (i == ELEMENTS(names))
            return err_set(e, ERR_USER, -EINVAL, "--call %s: build, check, outline or targets", v);
        if (strncmp(v, names[i], strlen(names[i])) == 0 && (!v[strlen(names[i])] || v[strlen(names[i])] == ',')) {
            x->q.call = (enum build_call)i;
            x->q.call_json = strstr(v, ",format=json") != NULL;
            break;
        }
    }
    x->q.call_out = &x->called;
    x->quiet |= x->q.call != BUILD_CALL_BUILD;
    return 0;
}

/* Where a job builds, "host" is its own network. */
static bool g_in_job(const struct engine *g) { return g->o.net != NULL; }

static int query_read(struct bld *x, struct err *e) {
    struct httpd_req *rq = x->rq;
    const char *v, *net = httpd_query(rq, "networkmode"), *eh = httpd_query(rq, "extrahosts");
    int r;
    for (size_t i = 0; (v = httpd_query_n(rq, "t", i)); i++) {
        struct image_ref ref;
        if (!*v)
            continue;
        if ((r = ref_parse(v, &ref, e)) < 0)
            return r;
        if (i == 100)
            return err_set(e, ERR_LIMIT, -E2BIG, "more than 100 tags");
        struct buf b = BUF_SMALL;
        ref_format(&ref, &b);
        strv_take(&x->tags, buf_take(&b));
    }
    if ((v = httpd_query(rq, "remote")) && *v) {
        if (!netsrc_kind(v))
            return err_set(e, ERR_USER, -EINVAL, "remote=%s is no URL", v);
        x->remote = xstrdup(v);
    }
    if (query_bool(rq, "squash", false))
        return err_set(e, ERR_USER, -ENOTSUP, "not yet: --squash");
    if ((v = httpd_query(rq, "version")) && streq(v, "2"))
        return err_set(e, ERR_USER, -ENOTSUP, "not yet: BuildKit's session; set DOCKER_BUILDKIT=0");
    v = httpd_query(rq, "platform");
    if (v && *v && !streq(v, "linux"))
        x->q.platform = arena_strdup(&x->a, v);
    if ((r = contexts_read(x, e)) < 0 || (r = map_into(&x->a, httpd_query(rq, "buildargs"), &x->args, true, e)) < 0 ||
        (r = map_into(&x->a, httpd_query(rq, "labels"), &x->labels, false, e)) < 0 || (r = secrets_read(x, e)) < 0)
        return r;
    v = httpd_query(rq, "dockerfile");
    x->dockerfile = v && *v ? xstrdup(v) : NULL;
    v = httpd_query(rq, "target");
    x->target = v && *v ? xstrdup(v) : NULL;
    struct sv rest = sv_from(eh), part;
    while (eh && *eh && sv_split(&rest, ',', &part))
        strv_addn(&x->hosts, part.p, part.n);
    struct json *nf = NULL;
    if ((v = httpd_query(rq, "slipway.nocachefilter")) && *v && json_parse(&x->a, sv_from(arena_strdup(&x->a, v)), &nf, NULL) >= 0)
        for (size_t i = 0; nf->kind == JSON_ARRAY && i < nf->n; i++)
            strv_add(&x->nocache, json_str(nf->items[i], ""));
    x->quiet = query_bool(rq, "q", false);
    if ((r = call_read(x, e)) < 0)
        return r;
    v = httpd_query(rq, "slipway.allow");
    x->q.allow_insecure = v && strstr(v, "security.insecure");
    x->q.allow_host_network = g_in_job(x->g) || (v && strstr(v, "network.host"));
    x->q.no_cache = query_bool(rq, "nocache", false);
    x->q.pull = query_bool(rq, "pull", false);
    x->q.no_network = net && streq(net, "none");
    x->q.host_network = net && streq(net, "host");
    return 0;
}

/* --- the work -------------------------------------------------------------------------------- */

static void on_event(void *arg, const struct build_event *ev) {
    struct bld *x = arg;
    if (x->quiet)
        return;
    char dur[64] = "";
    struct buf d = BUF_SMALL;
    buf_addf(&d, "%.1fs", (double)ev->dur_ns / 1e9);
    snprintf(dur, sizeof(dur), "%s", buf_str(&d));
    buf_done(&d);
    bool shown = ev->vertex < ELEMENTS(x->shown) && x->shown[ev->vertex];
    if (ev->vertex < ELEMENTS(x->shown) && ev->kind == BUILD_STEP_START)
        x->shown[ev->vertex] = true;
    switch (ev->kind) {
    case BUILD_STEP_START: stream_text(x->s, "#%u %s\n", ev->vertex, ev->name ? ev->name : ""); break;
    case BUILD_STEP_CACHED: stream_text(x->s, "#%u %s\n#%u CACHED\n", ev->vertex, ev->name ? ev->name : "", ev->vertex); break;
    case BUILD_STEP_DONE:
        if (!shown && ev->name)
            stream_text(x->s, "#%u %s\n", ev->vertex, ev->name);
        stream_text(x->s, "#%u DONE %s\n", ev->vertex, dur);
        break;
    case BUILD_STEP_FAILED: stream_text(x->s, "#%u ERROR: %s (exit code %d)\n", ev->vertex, ev->name ? ev->name : "", ev->code); break;
    case BUILD_WARNING:
        stream_text(x->s, "WARNING: " SV_FMT "%s%s\n", SV_ARG(ev->log), ev->name ? ev->name : "", ev->at.line ? "" : "");
        break;
    case BUILD_LOG: {
        struct sv rest = ev->log, line;
        while (sv_line(&rest, &line))
            if (line.n || rest.n)
                stream_text(x->s, "#%u " SV_FMT "\n", ev->vertex, SV_ARG(line));
        break;
    }
    case BUILD_STEP_WOULD:
    case BUILD_PROGRESS: /* transfers with sizes are quick or seen elsewhere; this says why it takes long */
        if (!ev->done && !ev->total && ev->name)
            stream_text(x->s, "#0 %s\n", ev->name);
        break;
    }
}

/* Diagnostics of the Dockerfile as text of the error. */
static void diags_text(const struct diags *d, struct bld *x) {
    struct buf b = BUF_MAX(64u << 10);
    for (size_t i = 0; i < d->n; i++) {
        if (d->items[i].level != DIAG_ERROR) /* warnings came as events */
            continue;
        buf_addf(&b, "%s%s:%u:%u: %s", b.n ? "\n" : "", d->items[i].at.file ? d->items[i].at.file : "Dockerfile", d->items[i].at.line,
                 d->items[i].at.col, d->items[i].msg);
    }
    if (b.n)
        err_set(&x->e, ERR_CONFIG, -EBADMSG, "%s", buf_str(&b));
    buf_done(&b);
}

static void run(struct bld *x) {
    struct engine *g = x->g;
    struct diags d = {0};
    struct build_result res = {0};
    x->progress = (struct image_progress){stream_progress, x->s};
    x->pulls = g->pulls;
    x->pulls.cancel = stream_cancel(x->s);
    if (!x->quiet)
        x->pulls.progress = &x->progress;
    x->q.context_name = x->context_name;
    x->q.dockerfile = x->dockerfile;
    if (x->given_text)
        x->q.dockerfile_text = sv_from(x->text ? x->text : "");
    x->q.build_args = x->args.n ? (const char *const *)x->args.v : NULL;
    x->q.labels = x->labels.n ? (const char *const *)x->labels.v : NULL;
    x->q.tags = x->tags.n ? (const char *const *)x->tags.v : NULL;
    x->q.add_hosts = x->hosts.n ? (const char *const *)x->hosts.v : NULL;
    x->q.no_cache_filter = x->nocache.n ? (const char *const *)x->nocache.v : NULL;
    x->q.target = x->target;
    x->q.source_date_epoch = -1;
    x->q.net = g->o.net; /* of its own when that is NULL */
    x->q.pulls = &x->pulls;
    x->q.env_passthrough = g->o.env_passthrough;
    x->q.ca_bundle = g->o.ca_bundle;
    x->q.event = on_event;
    x->q.arg = x;
    x->q.cancel = stream_cancel(x->s);
    x->r = build_image(g->o.store, g->o.lease, &x->q, &res, &d, &x->e);
    diags_text(&d, x);
    if (x->called.n)
        stream_text(x->s, "%s", buf_str(&x->called));
    if (x->r >= 0 && x->q.call) {
        if (x->q.call == BUILD_CALL_CHECK && d.warnings) {
            err_set(&x->e, ERR_FAILED, -EBADMSG, "the checks have %zu warning%s", d.warnings, d.warnings == 1 ? "" : "s");
            stream_error(x->s, &x->e);
        }
        diags_done(&d);
        return;
    }
    diags_done(&d);
    if (x->r < 0) {
        stream_error(x->s, &x->e);
        return;
    }
    struct buf b = BUF_MAX(4096);
    buf_addf(&b, "{\"aux\":{\"ID\":\"%s\"}}", res.id);
    stream_line(x->s, buf_sv(&b));
    buf_done(&b);
    if (x->quiet) {
        stream_text(x->s, "%s\n", res.id);
        return;
    }
    stream_text(x->s, "Successfully built %.12s\n", digest_hex(res.id));
    for (size_t i = 0; i < x->tags.n; i++) {
        struct image_ref ref;
        struct buf f = BUF_SMALL;
        if (ref_parse(x->tags.v[i], &ref, NULL) >= 0)
            ref_familiar(&ref, &f);
        stream_text(x->s, "Successfully tagged %s\n", f.n ? buf_str(&f) : x->tags.v[i]);
        buf_done(&f);
    }
}

/* The tar in x->fd becomes a folder of the scratch. */
static int unpack(struct bld *x) {
    char name[32] = "ctx-";
    int scratch = lease_scratch(x->g->o.lease, &x->e);
    if (scratch < 0)
        return scratch;
    if (lseek(x->fd, 0, SEEK_SET) < 0)
        return err_errno(&x->e, -errno, "the context");
    random_id(name + 4, 20);
    if (mkdirat(scratch, name, 0700) < 0)
        return err_errno(&x->e, -errno, "a scratch folder");
    x->dir_name = xstrdup(name);
    x->dir = openat(scratch, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (x->dir < 0)
        return err_errno(&x->e, -errno, "a scratch folder");
    /* Not the folder's random name: what was not cached is told against the last build. */
    x->context_name = xstrdup("a client's tar");
    return context_unpack(x->fd, x->dir, &x->e);
}

static void build_work(void *arg) {
    struct bld *x = arg;
    if (x->remote) {
        x->context_name = xstrdup(x->remote);
        char *only = NULL;
        x->r = netsrc_context(x->g->o.store, x->g->o.lease, x->remote, stream_cancel(x->s), &x->dir, &only, &x->e);
        if (only) {
            free(x->dockerfile);
            x->dockerfile = only;
        }
    } else if (x->dir < 0) {
        x->r = unpack(x);
    }
    if (x->r < 0) {
        stream_error(x->s, &x->e);
        return;
    }
    x->q.context_fd = x->dir;
    run(x);
}

static void build_done(struct loop *l, void *arg) {
    struct bld *x = arg;
    stream_end(x->s);
    bld_free(x);
}

static void begin(struct bld *x) {
    x->s = stream_new(x->g, x->rq);
    engine_job(x->g, build_work, build_done, x);
}

static void spooled(struct httpd_req *rq, int r, uint64_t size, void *arg) {
    struct bld *x = arg;
    if (r < 0) {
        if (r != -ECONNRESET)
            reply_err(rq, 500, "reading the context: %s", strerror(-r));
        bld_free(x);
        return;
    }
    begin(x);
}

static void text_read(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    struct bld *x = arg;
    if (!ok) {
        bld_free(x);
        return;
    }
    x->text = x->given_text ? sv_dup(body) : NULL;
    begin(x);
}

/* Our client's folder, as the job sees it. */
static int context_open(struct bld *x, const char *path, int *ret_status) {
    struct stat st;
    const char *dev = httpd_query(x->rq, "slipway.dev"), *ino = httpd_query(x->rq, "slipway.ino");
    *ret_status = 421;
    int fd = x->g->o.job ? box_open(x->g->o.job, path, O_RDONLY | O_DIRECTORY, 0, &x->e)
                         : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return x->g->o.job ? fd : err_errno(&x->e, -errno, "%s", path);
    if (fstat(fd, &st) < 0 || !dev || !ino || strtoull(dev, NULL, 10) != (unsigned long long)st.st_dev ||
        strtoull(ino, NULL, 10) != (unsigned long long)st.st_ino) {
        close(fd);
        return err_set(&x->e, ERR_USER, -EXDEV, "%s is not the folder that the client sees", path);
    }
    x->dir = fd;
    x->context_name = xasprintf("%s:%s", x->g->o.job ? "job" : "host", path);
    x->given_text = query_bool(x->rq, "slipway.text", false);
    return 0;
}

void build_handle(struct engine *g, struct httpd_req *rq) {
    struct bld *x = xcalloc(1, sizeof(*x));
    const char *folder = httpd_query(rq, "slipway.context");
    int status = 0;
    x->g = g;
    x->rq = rq;
    x->fd = x->dir = -1;
    x->called = BUF_MAX(16u << 20);
    x->r = query_read(x, &x->e);
    if (x->r >= 0 && folder)
        x->r = context_open(x, folder, &status);
    else if (x->r >= 0) {
        char name[32] = "tar-";
        int scratch = lease_scratch(g->o.lease, &x->e);
        random_id(name + 4, 20);
        x->fd = scratch < 0 ? scratch : openat(scratch, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        x->r = x->fd < 0 ? err_errno(&x->e, -errno, "a scratch file") : 0;
        if (x->fd >= 0)
            unlinkat(scratch, name, 0);
    }
    if (x->r < 0) {
        reply_err(rq, status ? status : status_of(&x->e), "%s", x->e.msg);
        bld_free(x);
    } else if (folder)
        httpd_collect(rq, 4u << 20, text_read, x);
    else
        httpd_spool(rq, x->fd, UINT64_MAX, spooled, x);
}
