#include "build/eval.h"

/* --- vertices ------------------------------------------------------------------------------- */

void graph_edge(struct build *b, struct vertex *v, struct vertex *to) {
    struct vertex **d = ARENA_ARRAY(&b->arena, struct vertex *, v->n_deps + 1);
    if (v->n_deps)
        memcpy(d, v->deps, v->n_deps * sizeof *d);
    d[v->n_deps++] = to;
    v->deps = d;
}

static struct vertex *vertex_new(struct build *b, enum vertex_kind kind) {
    struct vertex *v = ARENA_NEW(&b->arena, struct vertex);
    v->kind = kind;
    GROW(b->vertices, b->cap_vertices, b->n_vertices + 1);
    b->vertices[b->n_vertices++] = v;
    v->number = (unsigned)b->n_vertices;
    return v;
}

struct vertex *graph_source(struct build *b, enum vertex_kind kind, const char *name, struct span at) {
    struct vertex *v = vertex_new(b, kind);
    v->at = at;
    v->name = v->place = name;
    v->no_cache = b->rq->no_cache;
    return v;
}

static const char *stage_label(struct build *b, const struct stage *st) {
    if (st->df->name)
        return arena_printf(&b->arena, "%s ", st->df->name);
    return b->df->n_stages > 1 ? arena_printf(&b->arena, "stage-%u ", st->df->index) : "";
}

/* One line, runs of blanks as one. */
static const char *one_line(struct arena *a, const char *text) {
    char *out = arena_strdup(a, text), *w = out;
    bool blank = false;
    for (const char *p = out; *p; p++) {
        bool is = *p == ' ' || *p == '\t' || *p == '\n' || *p == '\r';
        if (!is || !blank)
            *w++ = is ? ' ' : *p;
        blank = is;
    }
    *w = 0;
    return out;
}

struct vertex *graph_vertex(struct build *b, enum vertex_kind kind, struct stage *st, const struct df_instr *in,
                            const char *text) {
    struct vertex *v = vertex_new(b, kind);
    st->step++;
    const char *label = stage_label(b, st);
    v->at = in->at;
    v->parent = st->last;
    if (v->parent)
        graph_edge(b, v, v->parent);
    v->name = arena_printf(&b->arena, "[%s%u/%u] %s", label, st->step, st->steps, one_line(&b->arena, text ? text : in->text));
    v->place = arena_printf(&b->arena, "%s%u", label, st->step);
    v->no_cache = b->rq->no_cache;
    for (const char *const *f = b->rq->no_cache_filter; f && *f; f++)
        if (st->df->name && strcasecmp(*f, st->df->name) == 0)
            v->no_cache = true;
    return v;
}

void graph_layers(const struct vertex *v, struct strv *out) {
    for (; v; v = v->parent) {
        if (v->kind == V_BASE) {
            for (size_t i = v->image->layers.n; i-- > 0;)
                strv_add(out, v->image->layers.v[i]);
        } else if (v->snap[0]) {
            strv_add(out, v->snap);
        }
    }
}

/* --- what is needed ------------------------------------------------------------------------- */

int graph_target(struct build *b, struct err *e) {
    if (!b->rq->target || !*b->rq->target)
        return (int)b->df->n_stages - 1;
    int i = dockerfile_stage(b->df, b->rq->target, b->df->n_stages);
    if (i >= 0)
        return i;
    _cleanup_buf_ struct buf names = BUF_SMALL;
    for (size_t k = 0; k < b->df->n_stages; k++)
        if (b->df->stages[k].name)
            buf_addf(&names, "%s%s", names.n ? ", " : "", b->df->stages[k].name);
    err_set(e, ERR_USER, -ENOENT, "no stage \"%s\" in %s", b->rq->target, b->df_name);
    return names.n ? err_hint(e, -ENOENT, "there is: %s", buf_str(&names)) : -ENOENT;
}

/* --from of COPY, from= of a RUN's mounts. */
static void each_from(const struct df_instr *in, void (*fn)(void *arg, const char *from, struct span at), void *arg) {
    if (in->op == DF_ONBUILD)
        return;
    const char *from = in->op == DF_COPY ? df_flag(in, "from") : NULL;
    if (from && *from)
        fn(arg, from, in->at);
    for (size_t i = 0; in->op == DF_RUN && i < in->n_flags; i++) {
        if (!streq(in->flags[i].name, "mount") || !in->flags[i].value)
            continue;
        struct sv rest = sv_from(in->flags[i].value), part;
        while (sv_split(&rest, ',', &part)) {
            if (!sv_starts(part, "from="))
                continue;
            _cleanup_free_ char *name = sv_dup(sv_sub(part, 5, part.n));
            if (*name)
                fn(arg, name, in->flags[i].at);
        }
    }
}

struct need {
    struct build *b;
    unsigned stage;
};

static void need_from(void *arg, const char *from, struct span at) {
    struct need *n = arg;
    int i = dockerfile_stage(n->b->df, from, n->stage);
    if (i >= 0)
        graph_needed(n->b, (unsigned)i);
}

void graph_needed(struct build *b, unsigned target) {
    const struct df_stage *st = &b->df->stages[target];
    if (b->stages[target].needed)
        return;
    b->stages[target].needed = true;
    for (unsigned i = target; i-- > 0;) {
        /* A base that is a variable is looked up again when it is expanded. */
        if (b->df->stages[i].name && strcasecmp(b->df->stages[i].name, st->base.s) == 0) {
            graph_needed(b, i);
            break;
        }
    }
    struct need n = {b, target};
    for (size_t i = 0; i < st->n_instrs; i++)
        each_from(st->instrs[i], need_from, &n);
}

/* --- base images ---------------------------------------------------------------------------- */

struct fetch {
    struct build *b;
    const char *ref;
    struct platform platform;
    struct span at;
    struct image *image;
    struct err err;
    int r;
    pthread_t thread;
    struct image_progress progress;
};
struct fetches {
    struct build *b;
    struct fetch *items;
    size_t n, cap;
    struct platform platform; /* of the stage that asks */
};

static void pull_progress(void *arg, const char *id, const char *what, uint64_t done, uint64_t total) {
    struct fetch *f = arg;
    char text[256];
    const char *hex = startswith(id, "sha256:");
    if (hex)
        snprintf(text, sizeof text, "%.100s: %.12s %.100s", f->ref, hex, what);
    else
        snprintf(text, sizeof text, "%.100s: %.150s", f->ref, what);
    build_emit(f->b, &(struct build_event){.kind = BUILD_PROGRESS, .name = text, .done = done, .total = total});
}

static bool wrong_platform(const struct fetch *f, const struct image *i) {
    return i->config.architecture && !streq(i->config.architecture, f->platform.arch);
}

/* An image of another platform than this machine's. A name of the store stands for one image: it goes
 * on naming the one that it named before, and ours is remembered by its id. */
static int fetch_foreign(struct fetch *f, struct pull_options *o) {
    struct store *s = f->b->s;
    _cleanup_free_ char *key = xasprintf("%s %s", f->platform.text, f->ref);
    _cleanup_buf_ struct buf id = BUF_SMALL;
    if (o->policy != PULL_ALWAYS && rec_get(s, "build-platform", key, &id) == 1 && id.n > 2) {
        _cleanup_free_ char *text = xstrndup(id.p + 1, id.n - 2); /* a JSON string */
        if (image_find(s, f->b->l, text, &f->image, NULL) == 1)
            return 0;
    }
    if (o->policy == PULL_NEVER)
        return err_set(&f->err, ERR_NOTFOUND, -ENOENT, "no image for %s here: %s", f->platform.text, f->ref);
    struct image *before = NULL;
    (void)image_find(s, f->b->l, f->ref, &before, NULL);
    o->policy = PULL_ALWAYS;
    int r = image_get(s, f->b->l, f->ref, o, &f->image, &f->err);
    if (r >= 0) {
        _cleanup_free_ char *json = xasprintf("\"%s\"", f->image->id);
        r = rec_put(s, "build-platform", key, sv_from(json), &f->err);
    }
    if (r >= 0)
        r = before ? image_tag(s, before->id, f->ref, &f->err) : image_untag(s, f->ref, &f->err);
    image_free(before);
    return r;
}

static int fetch_as(struct fetch *f, enum pull_policy policy) {
    struct pull_options o = {0};
    if (f->b->rq->pulls)
        o = *f->b->rq->pulls;
    o.policy = f->b->rq->call ? PULL_NEVER : policy;
    o.os = f->platform.os;
    o.arch = f->platform.arch;
    o.variant = f->platform.variant[0] ? f->platform.variant : NULL;
    f->progress = (struct image_progress){pull_progress, f};
    o.progress = &f->progress;
    if (!o.cancel)
        o.cancel = &f->b->stop;
    f->err = (struct err){0};
    if (!streq(f->platform.arch, f->b->native.arch) && !startswith(f->ref, "sha256:"))
        return fetch_foreign(f, &o);
    int r = image_get(f->b->s, f->b->l, f->ref, &o, &f->image, &f->err);
    if (r >= 0 && o.policy == PULL_MISSING && wrong_platform(f, f->image)) {
        image_free(f->image);
        f->image = NULL;
        o.policy = PULL_ALWAYS;
        r = image_get(f->b->s, f->b->l, f->ref, &o, &f->image, &f->err);
    }
    return r;
}

static void *fetch_thread(void *arg) {
    struct fetch *f = arg;
    enum pull_policy p = f->b->rq->pulls ? f->b->rq->pulls->policy : PULL_MISSING;
    f->r = fetch_as(f, f->b->rq->pull ? PULL_ALWAYS : p);
    return NULL;
}

static void fetch_add(struct fetches *fs, const char *ref, struct span at) {
    for (size_t i = 0; i < fs->n; i++)
        if (streq(fs->items[i].ref, ref) && streq(fs->items[i].platform.text, fs->platform.text))
            return;
    GROW(fs->items, fs->cap, fs->n + 1);
    fs->items[fs->n++] = (struct fetch){.b = fs->b, .ref = arena_strdup(&fs->b->arena, ref), .platform = fs->platform, .at = at};
}

/* A --build-context stands for this name. */
static bool named(const struct build *b, const char *name) {
    for (size_t i = 0; i < b->rq->n_contexts; i++) {
        const char *n = b->rq->contexts[i].name;
        if (strncasecmp(name, n, strlen(n)) == 0 && (!name[strlen(n)] || streq(name + strlen(n), ":latest")))
            return true;
    }
    return false;
}

static void fetch_from(void *arg, const char *from, struct span at) {
    struct fetches *fs = arg;
    if (dockerfile_stage(fs->b->df, from, fs->b->df->n_stages) < 0 && !named(fs->b, from))
        fetch_add(fs, from, at);
}

static char *image_key(struct build *b, const char *ref, const struct platform *p) {
    return arena_printf(&b->arena, "%s %s", p->text, ref);
}

/* A base that is not here when nothing may be fetched: nothing is known of it. */
static struct image *unknown_image(const struct fetch *f) {
    struct image *i = xcalloc(1, sizeof *i);
    strv_add(&i->config.env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    i->config.os = xstrdup(f->platform.os);
    i->config.architecture = xstrdup(f->platform.arch);
    return i;
}

static struct vertex *base_vertex(struct build *b, struct fetch *f) {
    struct vertex *v = vertex_new(b, V_BASE);
    bool native = streq(f->platform.text, b->native.text);
    v->unknown = !f->image;
    v->image = f->image ? f->image : unknown_image(f);
    v->ref = f->ref;
    v->at = f->at;
    v->place = v->name = arena_printf(&b->arena, "FROM %s%s%s%s", native ? "" : "--platform=", native ? "" : f->platform.text,
                                      native ? "" : " ", f->ref);
    map_sets(&b->images, image_key(b, f->ref, &f->platform), v);
    return v;
}

int graph_images(struct build *b, struct err *e) {
    struct fetches fs = {.b = b};
    int r = 0;
    for (unsigned i = 0; i < b->df->n_stages && r == 0; i++) {
        if (!b->stages[i].needed)
            continue;
        const struct df_stage *st = &b->df->stages[i];
        const char *ref = graph_base_ref(b, st);
        if (!ref || graph_stage_platform(b, st, true, &fs.platform) < 0)
            continue; /* eval_stage says why */
        bool is_stage = streq(ref, "scratch");
        for (unsigned k = 0; k < i && !is_stage; k++)
            if (b->df->stages[k].name && strcasecmp(b->df->stages[k].name, ref) == 0) {
                is_stage = true;
                if (!b->stages[k].needed) { /* FROM $VARIABLE: needed after all; look again */
                    graph_needed(b, k);
                    fs.n = 0;
                    i = UINT32_MAX;
                }
            }
        if (i == UINT32_MAX)
            continue;
        if (!is_stage && !named(b, ref))
            fetch_add(&fs, ref, st->base.at);
        for (size_t k = 0; k < st->n_instrs; k++)
            each_from(st->instrs[k], fetch_from, &fs);
    }
    /* What is here already first; the others are pulled side by side. */
    bool always = b->rq->pull || (b->rq->pulls && b->rq->pulls->policy == PULL_ALWAYS);
    for (size_t i = 0; i < fs.n; i++)
        fs.items[i].r = r < 0 || always ? -ENOENT : fetch_as(&fs.items[i], PULL_NEVER);
    for (size_t i = 0; i < fs.n && r == 0 && !b->rq->call; i++)
        if (fs.items[i].r < 0 && pthread_create(&fs.items[i].thread, NULL, fetch_thread, &fs.items[i]) != 0)
            fs.items[i].thread = 0;
    for (size_t i = 0; i < fs.n && r >= 0; i++)
        if (fs.items[i].thread)
            pthread_join(fs.items[i].thread, NULL);
    for (size_t i = 0; i < fs.n; i++) {
        if (fs.items[i].image || b->rq->call)
            base_vertex(b, &fs.items[i]);
        else if (r == 0) {
            r = fs.items[i].r < 0 ? fs.items[i].r : -ENOENT;
            if (e)
                *e = fs.items[i].err;
            err_at(e, r, fs.items[i].at);
        }
    }
    free(fs.items);
    return r;
}

struct vertex *graph_image(struct build *b, const char *ref, const struct platform *p, struct span at, struct err *e) {
    struct vertex *v = map_gets(&b->images, image_key(b, ref, p));
    if (v)
        return v;
    struct fetch f = {.b = b, .ref = arena_strdup(&b->arena, ref), .platform = *p, .at = at};
    fetch_thread(&f);
    if (f.r < 0 && !b->rq->call) {
        if (e)
            *e = f.err;
        err_at(e, f.r, at);
        return NULL;
    }
    return base_vertex(b, &f);
}

/* --- platforms ------------------------------------------------------------------------------ */

int platform_parse(const char *text, struct platform *ret) {
    static const char *const arch[][3] = {{"x86_64", "amd64", ""}, {"x86-64", "amd64", ""}, {"amd64", "amd64", ""},
                                          {"aarch64", "arm64", ""}, {"arm64", "arm64", ""}, {"armhf", "arm", "v7"},
                                          {"armel", "arm", "v6"}, {"arm", "arm", "v7"}, {"i386", "386", ""},
                                          {"386", "386", ""}, {"ppc64le", "ppc64le", ""}, {"s390x", "s390x", ""},
                                          {"riscv64", "riscv64", ""}, {"loong64", "loong64", ""}, {"mips64le", "mips64le", ""}};
    struct platform p = {.os = "linux"};
    struct sv rest = sv_from(text), part[3] = {{0}};
    size_t n = 0;
    while (rest.n && n < 3)
        if (sv_split(&rest, '/', &part[n]))
            n++;
    if (!n || rest.n || strlen(text) > 60 || strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_-.") != strlen(text))
        return -EINVAL;
    size_t a = n > 1;
    if (a)
        snprintf(p.os, sizeof p.os, SV_FMT, SV_ARG(part[0]));
    else if (sv_eqs(part[0], "linux"))
        return -EINVAL; /* which processor? */
    size_t i = 0;
    while (i < ELEMENTS(arch) && !sv_ieqs(part[a], arch[i][0]))
        i++;
    if (i == ELEMENTS(arch) || !part[a].n)
        return -EINVAL;
    snprintf(p.arch, sizeof p.arch, "%s", arch[i][1]);
    snprintf(p.variant, sizeof p.variant, "%s", arch[i][2]);
    if (n == 3)
        snprintf(p.variant, sizeof p.variant, SV_FMT, SV_ARG(part[2]));
    if (streq(p.arch, "arm64") && streq(p.variant, "v8"))
        p.variant[0] = 0;
    snprintf(p.text, sizeof p.text, "%s/%s%s%s", p.os, p.arch, p.variant[0] ? "/" : "", p.variant);
    *ret = p;
    return 0;
}
