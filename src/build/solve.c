/* Runs the graph. Vertices are in topological order. The calling thread probes: it computes the
 * key of each vertex whose dependencies are done and looks it up, so that a fully cached build needs
 * no thread and no process. What misses is executed on a thread of its own, at most `parallel` at
 * once. Equal steps of several builds, of several processes, meet at a lock on their key: the first
 * works, the others find its result. */
#include "build/graph.h"
#include "build/netsrc.h"
#include "core/fs.h"
#include "core/loop.h"

#include <dirent.h>
#include <time.h>

bool build_cancelled(const struct build *b) { return b->stop || (b->rq->cancel && *b->rq->cancel); }

void build_emit(struct build *b, struct build_event *ev) {
    if (!b->rq->event)
        return;
    pthread_mutex_lock(&b->event_lock);
    b->rq->event(b->rq->arg, ev);
    pthread_mutex_unlock(&b->event_lock);
}

static void emit(struct build *b, const struct vertex *v, enum build_event_kind kind, uint64_t dur, int code) {
    build_emit(b, &(struct build_event){.kind = kind, .vertex = v->number, .name = v->name, .why = v->why[0] ? v->why : NULL,
                                        .dur_ns = dur, .code = code, .at = v->at});
}

/* --- keys ----------------------------------------------------------------------------------- */

static void add_list(struct cache_key *k, const char *name, const char *const *v) {
    _cleanup_buf_ struct buf t = BUF_MAX(16u << 20);
    for (; v && *v; v++) {
        buf_adds(&t, *v);
        buf_addc(&t, '\x1f');
    }
    cache_key_add(k, name, buf_sv(&t));
}

static void add_parent(struct cache_key *k, const struct vertex *v) {
    const char *field = v->parent && v->parent->kind == V_BASE ? "base" : "parent";
    cache_key_add(k, field, v->parent ? sv_from(v->parent->result) : SV("scratch"));
}

static void key_end(const struct build *b, struct vertex *v) {
    if (b->epoch >= 0)
        cache_key_addf(&v->key, "SOURCE_DATE_EPOCH", "%lld", (long long)b->epoch);
    cache_key_end(&v->key);
}

static void key_base(struct vertex *v) {
    add_list(&v->key, "layers", (const char *const *)v->image->config.diff_ids.v);
    cache_key_end(&v->key);
    snprintf(v->result, sizeof v->result, "%s", v->key.id);
}

static void key_run(struct build *b, struct vertex *v) {
    struct cache_key *k = &v->key;
    static const char *const sharing[] = {"shared", "private", "locked"};
    add_parent(k, v);
    add_list(k, "command", v->argv);
    cache_key_add(k, "script", sv_from(v->script ? v->script : ""));
    for (size_t i = 0; i < v->env.n; i++) {
        const char *kv = v->env.v[i];
        size_t n = strcspn(kv, "=");
        _cleanup_free_ char *name = xstrndup(kv, n);
        cache_key_add(k, name, sv_from(kv[n] ? kv + n + 1 : ""));
    }
    cache_key_add(k, "WORKDIR", sv_from(v->cwd));
    cache_key_add(k, "USER", sv_from(v->user ? v->user : ""));
    cache_key_add(k, "--network", sv_from(v->network ? v->network : b->rq->host_network ? "host" : b->rq->no_network ? "none" : "default"));
    for (size_t i = 0; i < v->n_mounts; i++) {
        const struct run_mount *m = &v->mounts[i];
        cache_key_addf(k, "--mount", "%d %s %s %s %s %d %s %o %u %u", m->kind, m->target, m->source ? m->source : "",
                       m->id ? m->id : "", m->env ? m->env : "", m->readonly, sharing[m->sharing], m->mode, m->uid, m->gid);
        if (m->kind == MOUNT_BIND || m->from)
            cache_key_addf(k, "content", "%s", m->from ? m->from->result : m->from_context ? source_tree(b, NULL) : "");
    }
    add_list(k, "--add-host", b->rq->add_hosts);
    if (v->insecure)
        cache_key_add(k, "--security", SV("insecure"));
    key_end(b, v);
}

static void key_copy(const struct build *b, struct vertex *v) {
    struct cache_key *k = &v->key;
    if (!v->link)
        add_parent(k, v);
    add_list(k, "sources", v->copy.sources);
    cache_key_add(k, "content", sv_from(v->content));
    cache_key_add(k, "destination", sv_from(v->copy.dest));
    for (size_t i = 0; i < v->copy.n_inlines; i++) {
        _cleanup_free_ char *name = xasprintf("heredoc %s", v->copy.inlines[i].name);
        cache_key_add(k, name, v->copy.inlines[i].data);
    }
    cache_key_addf(k, "flags", "chown=%s chmod=%s owner=%d unpack=%d parents=%d link=%d", v->copy.chown ? v->copy.chown : "",
                   v->copy.chmod ? v->copy.chmod : "", v->copy.keep_owner, v->copy.unpack, v->copy.parents, v->link);
    add_list(k, "--exclude", v->copy.exclude);
    key_end(b, v);
}

static void key_workdir(const struct build *b, struct vertex *v) {
    add_parent(&v->key, v);
    cache_key_add(&v->key, "WORKDIR", sv_from(v->copy.mkdir));
    cache_key_add(&v->key, "USER", sv_from(v->copy.chown ? v->copy.chown : ""));
    key_end(b, v);
}

/* Key of what a COPY's sources come to: seen before, it needs no listing. */
static void memo_key(struct build *b, struct vertex *v, char out[DIGEST_LEN + 1]) {
    struct cache_key k = {0};
    cache_key_add(&k, "source", v->from ? sv_from(v->from->result) : sv_from(source_tree(b, v)));
    add_list(&k, "sources", v->copy.sources);
    add_list(&k, "exclude", v->copy.exclude);
    cache_key_addf(&k, "flags", "%d %d", v->copy.keep_owner, v->copy.parents);
    cache_key_end(&k);
    memcpy(out, k.id, DIGEST_LEN + 1);
    cache_key_done(&k);
}

/* --- results -------------------------------------------------------------------------------- */

static void take_hit(struct vertex *v, const struct cache_hit *hit) {
    memcpy(v->snap, hit->snap.id, sizeof v->snap);
    memcpy(v->diff_id, hit->snap.diff_id, sizeof v->diff_id);
    v->created = hit->created;
    /* A step that changed nothing leaves what was there before it. */
    if (hit->empty)
        snprintf(v->result, sizeof v->result, "%s", v->parent ? v->parent->result : "scratch");
    else
        snprintf(v->result, sizeof v->result, "%s", hit->result[0] ? hit->result : hit->snap.key);
}

static int look_up(struct build *b, struct vertex *v, struct err *e) {
    struct cache_hit hit;
    cache_note(b->last, v->place, &v->key);
    if (v->no_cache) {
        snprintf(v->why, sizeof v->why, "the cache is not to be used");
        return 0;
    }
    int r = cache_get(b->s, b->l, v->key.id, &hit);
    if (r < 0)
        return err_errno(e, r, "cannot read the cache");
    if (r > 0) {
        take_hit(v, &hit);
        v->cached = true;
        return 1;
    }
    cache_why(b->last, v->place, &v->key, v->why, sizeof v->why);
    const struct vertex *p = v->parent;
    if (p && p->kind == V_BASE && streq(v->why, CACHE_WHY_BASE)) {
        snprintf(v->why, sizeof v->why, "%s (%.120s is now %.19s)", CACHE_WHY_BASE, p->ref, p->image->id);
    } else if (streq(v->why, CACHE_WHY_PARENT)) {
        const struct vertex *first = NULL; /* the earliest one that was not cached */
        for (; p && p->kind != V_BASE; p = p->parent)
            if (!p->cached)
                first = p;
        if (first)
            snprintf(v->why, sizeof v->why, "%s: %.180s", CACHE_WHY_PARENT, first->name);
    }
    return 0;
}

/* 1 = done, 0 = must be executed, negative = error. */
static int probe(struct build *b, struct vertex *v, struct err *e) {
    char memo[DIGEST_LEN + 1];
    switch (v->kind) {
    case V_BASE:
        key_base(v);
        cache_note(b->last, v->place, &v->key);
        return 1;
    case V_RUN:
        key_run(b, v);
        break;
    case V_WORKDIR:
        key_workdir(b, v);
        break;
    case V_COPY:
        if (v->remote && v->remote->commit[0]) { /* a commit is known by its hash */
            _cleanup_free_ char *what = xasprintf("git %s %s %d", v->remote->commit, v->remote->subdir ? v->remote->subdir : "",
                                                  v->remote->keep_git_dir);
            digest_of(what, strlen(what), v->content);
        } else if (v->copy.sources[0]) {
            memo_key(b, v, memo);
            int r = cache_memo_get(b->s, memo, v->content);
            if (r <= 0)
                return r < 0 ? err_errno(e, r, "cannot read the cache") : 0;
        }
        key_copy(b, v);
        break;
    }
    return look_up(b, v, e);
}

/* --- executing ------------------------------------------------------------------------------ */

static int64_t step_time(const struct build *b) {
    return b->epoch >= 0 ? b->epoch : (int64_t)(now_real() / 1000000000u);
}

static void copy_source(struct build *b, struct vertex *v, struct copy_spec *c, struct strv *layers) {
    if (v->from) {
        graph_layers(v->from, layers);
        c->src_layers = (const char *const *)layers->v;
        c->n_src_layers = layers->n;
    } else if (v->from_context) {
        c->src_tree = source_tree(b, v);
    }
}

/* Digest of what a COPY takes, by listing it. */
static int copy_content(struct build *b, struct vertex *v, struct err *e) {
    _cleanup_strv_ struct strv layers = {0};
    _cleanup_copy_list_ struct copy_list list = {0};
    struct copy_spec c = v->copy;
    char memo[DIGEST_LEN + 1];
    c.chown = c.chmod = NULL;
    copy_source(b, v, &c, &layers);
    if (v->from && !layers.n) /* an empty stage has nothing */
        return err_set(e, ERR_NOTFOUND, -ENOENT, "%s: not found in an empty stage", v->copy.sources[0]);
    int r = copy_list(b->s, &c, &list, e);
    if (r < 0)
        return r;
    cache_content(b->s, &list, v->content);
    memo_key(b, v, memo);
    cache_memo_put(b->s, memo, v->content);
    return 0;
}

static int copy_step(struct build *b, struct vertex *v, const char *upper, bool *ret_empty, struct err *e) {
    _cleanup_strv_ struct strv below = {0}, layers = {0};
    struct copy_spec c = v->copy;
    struct copy_result res = {0};
    if (!v->link)
        graph_layers(v->parent, &below);
    c.layers = (const char *const *)below.v;
    c.n_layers = below.n;
    memcpy(c.upper, upper, sizeof c.upper);
    c.mtime = step_time(b);
    copy_source(b, v, &c, &layers);
    int r = copy_run(b->s, &c, &res, e);
    *ret_empty = res.empty;
    return r;
}

static bool upper_empty(struct build *b, const char *upper) {
    _cleanup_close_ int fs = snap_open(b->s, upper);
    int fd = fs < 0 ? -1 : openat(fs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    bool empty = d != NULL;
    for (struct dirent *de; d && empty && (de = readdir(d));)
        empty = streq(de->d_name, ".") || streq(de->d_name, "..");
    if (d)
        closedir(d);
    return empty;
}

static int do_step(struct build *b, struct vertex *v, struct err *e) {
    char upper[33];
    bool empty = false;
    int dir = -1, r = snap_begin(b->s, b->l, upper, &dir, e);
    fd_close(dir);
    if (r < 0)
        return r;
    if (v->kind == V_RUN) {
        r = run_step(b, v, upper, e);
        empty = r >= 0 && upper_empty(b, upper);
    } else {
        r = copy_step(b, v, upper, &empty, e);
    }
    if (r < 0 || empty)
        snap_abort(b->s, upper);
    if (r < 0)
        return r;
    struct cache_hit hit = {.empty = empty, .created = step_time(b)};
    struct snap_info info = {0};
    memcpy(info.key, v->key.id, sizeof v->key.id);
    if (v->no_cache) { /* beside the result that is there; the record then names the new one */
        char nonce[33];
        random_id(nonce, 32);
        digest_of(nonce, 32, info.key);
    }
    if (!empty) {
        r = snap_commit(b->s, b->l, upper, &info, &hit.snap, e);
        if (r < 0) {
            snap_abort(b->s, upper);
            return r;
        }
        /* The lease must name what was kept, which may be another's. */
        char what[40];
        snprintf(what, sizeof what, "snap:%s", hit.snap.id);
        (void)lease_use(b->l, what);
    }
    if (!empty && b->epoch >= 0) {
        char when[24];
        snprintf(when, sizeof when, "%lld", (long long)b->epoch);
        r = rec_put(b->s, "snap-clamp", hit.snap.id, sv_from(when), e);
        if (r < 0)
            return r;
    }
    take_hit(v, &hit);
    return cache_put(b->s, v->key.id, empty ? NULL : info.key, hit.created, e);
}

static int execute(struct build *b, struct vertex *v, struct err *e) {
    int r;
    if (v->kind == V_COPY && !v->key.id[0]) { /* what it copies was not known when it was probed */
        r = copy_content(b, v, e);
        if (r < 0)
            return r;
        key_copy(b, v);
        r = look_up(b, v, e);
        if (r != 0)
            return r < 0 ? r : 0;
    }
    _cleanup_close_ int lock = store_key_lock(b->s, v->key.id);
    if (lock < 0)
        return err_errno(e, lock, "cannot lock a cache key");
    struct cache_hit hit;
    if (!v->no_cache && cache_get(b->s, b->l, v->key.id, &hit) > 0) {
        take_hit(v, &hit);
        v->cached = true;
        snprintf(v->why, sizeof v->why, "another build has just done it");
        return 0;
    }
    emit(b, v, BUILD_STEP_START, 0, 0);
    return do_step(b, v, e);
}

/* --- scheduling ----------------------------------------------------------------------------- */

struct worker {
    struct build *b;
    struct vertex *v;
    pthread_t thread;
    bool used;
    bool done; /* the vertex is; the thread may still compute its diff id */
    bool gone; /* the thread has nothing left to do */
};

static void finish(struct build *b, struct vertex *v, int r, const struct err *e, uint64_t dur) {
    if (r >= 0) {
        v->state = V_DONE;
        b->cached += v->cached && v->kind != V_BASE;
    } else {
        v->state = V_FAILED;
        if (!b->stop) {
            b->error = r;
            b->err = *e;
            if (r != -ECANCELED)
                err_wrap(&b->err, r, "%.200s", v->name);
            if (!b->err.at.line)
                b->err.at = v->at;
        }
        b->stop = 1;
    }
    pthread_mutex_unlock(&b->lock);
    emit(b, v, r < 0 ? BUILD_STEP_FAILED : v->cached ? BUILD_STEP_CACHED : BUILD_STEP_DONE, dur, r < 0 ? -r : 0);
    pthread_mutex_lock(&b->lock);
    b->changes++;
    pthread_cond_broadcast(&b->cond);
}

/* The layer's digest, while other steps go on. Its failure shows when the image is made. */
static void diff_id_early(struct build *b, struct vertex *v) {
    uint64_t size;
    if (v->on_target && v->snap[0] && !v->diff_id[0])
        (void)layer_diff_id(b->s, v->snap, v->diff_id, &size, NULL);
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct err e = {0};
    uint64_t start = now_mono();
    int r = build_cancelled(w->b) ? err_set(&e, ERR_CANCELLED, -ECANCELED, "cancelled") : execute(w->b, w->v, &e);
    pthread_mutex_lock(&w->b->lock);
    finish(w->b, w->v, r, &e, now_mono() - start);
    w->done = true;
    pthread_mutex_unlock(&w->b->lock);
    if (r >= 0)
        diff_id_early(w->b, w->v);
    pthread_mutex_lock(&w->b->lock);
    w->gone = true;
    pthread_mutex_unlock(&w->b->lock);
    return NULL;
}

static bool ready(const struct vertex *v) {
    for (size_t i = 0; i < v->n_deps; i++)
        if (v->deps[i]->state != V_DONE)
            return false;
    return true;
}

/* Lock held. Probes all that can be; true when anything moved. */
static bool probe_all(struct build *b) {
    bool moved = false;
    for (size_t i = 0; i < b->n_vertices && !build_cancelled(b); i++) {
        struct vertex *v = b->vertices[i];
        if (v->state != V_WAITING || !ready(v))
            continue;
        struct err e = {0};
        pthread_mutex_unlock(&b->lock);
        int r = probe(b, v, &e);
        pthread_mutex_lock(&b->lock);
        if (r == 0)
            v->state = V_PROBED;
        else
            finish(b, v, r, &e, 0);
        moved = true;
    }
    return moved;
}

/* Lock held. Threads that only finish a diff id do not count against `max`. */
static bool spawn(struct build *b, struct worker *ws, size_t slots, size_t max, struct vertex *v) {
    size_t running = 0;
    struct worker *w = NULL;
    for (size_t i = 0; i < slots; i++) {
        running += ws[i].used && !ws[i].done;
        if (!ws[i].used || ws[i].gone)
            w = &ws[i];
    }
    if (running >= max || !w)
        return false;
    if (w->used)
        pthread_join(w->thread, NULL);
    *w = (struct worker){.b = b, .v = v, .used = true};
    v->state = V_RUNNING;
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
        struct err e = {0};
        *w = (struct worker){0};
        err_errno(&e, -EAGAIN, "cannot start a thread");
        finish(b, v, -EAGAIN, &e, 0);
    }
    return true;
}

/* --explain-only: what would be run, without running it. What depends on such a step cannot be known. */
static int explain(struct build *b, struct err *e) {
    for (size_t i = 0; i < b->n_vertices; i++) {
        struct vertex *v = b->vertices[i];
        bool known = true;
        for (size_t k = 0; k < v->n_deps; k++)
            known &= v->deps[k]->state == V_DONE;
        v->state = V_PROBED;
        if (!known) {
            snprintf(v->why, sizeof v->why, "a step before it is run");
        } else {
            int r = probe(b, v, e);
            if (r == 0 && v->kind == V_COPY && !v->key.id[0]) {
                r = copy_content(b, v, e);
                if (r >= 0) {
                    key_copy(b, v);
                    r = look_up(b, v, e);
                }
            }
            if (r < 0)
                return r;
            if (r > 0)
                v->state = V_DONE;
        }
        b->cached += v->state == V_DONE && v->kind != V_BASE;
        emit(b, v, v->state == V_DONE ? v->kind == V_BASE ? BUILD_STEP_DONE : BUILD_STEP_CACHED : BUILD_STEP_WOULD, 0, 0);
    }
    return 0;
}

int solve(struct build *b, struct err *e) {
    if (b->rq->explain_only)
        return explain(b, e);
    unsigned parallel = b->rq->parallel ? b->rq->parallel : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    size_t max = MIN(MAX(parallel, 1u), 64u), slots = max * 4;
    struct worker *ws = xcalloc(slots, sizeof *ws);
    pthread_mutex_lock(&b->lock);
    for (;;) {
        unsigned changes = b->changes;
        bool moved = probe_all(b), left = false, busy = false;
        for (size_t i = 0; i < b->n_vertices; i++) {
            struct vertex *v = b->vertices[i];
            if (v->state == V_PROBED && !build_cancelled(b))
                moved |= spawn(b, ws, slots, max, v);
            left |= v->state == V_WAITING || v->state == V_PROBED;
            busy |= v->state == V_RUNNING;
        }
        if (!busy && (!left || build_cancelled(b)))
            break;
        if (busy && changes == b->changes)
            pthread_cond_wait(&b->cond, &b->lock);
        else if (!busy && !moved) { /* every slot computes a diff id: wait for one of them */
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += 5000000;
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
            pthread_cond_timedwait(&b->cond, &b->lock, &until);
        }
    }
    pthread_mutex_unlock(&b->lock);
    for (size_t i = 0; i < slots; i++)
        if (ws[i].used)
            pthread_join(ws[i].thread, NULL);
    free(ws);
    if (b->error < 0) {
        if (e)
            *e = b->err;
        return b->error;
    }
    return build_cancelled(b) ? err_set(e, ERR_CANCELLED, -ECANCELED, "cancelled") : 0;
}
