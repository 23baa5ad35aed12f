/* Evaluates stages: expands variables, follows FROM, turns instructions into vertices and
 * configuration. A stage is evaluated when something needs it, so stages that nothing needs cost
 * nothing; its base image's configuration must be known by then. */
#include "build/eval.h"

void eval_error(struct build *b, struct span at, const char *hint, const char *fmt, ...) {
    char msg[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    diags_add(b->d, DIAG_ERROR, at, NULL, hint, "%s", msg);
}

void eval_warn(struct build *b, struct span at, const char *rule, const char *fmt, ...) {
    char msg[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    diags_add(b->d, DIAG_WARNING, at, rule, NULL, "%s", msg);
}

bool arg_is_proxy(const char *name) {
    static const char *const names[] = {"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"};
    for (size_t i = 0; i < ELEMENTS(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

/* --- variables ------------------------------------------------------------------------------ */

const char *stage_var(struct build *b, struct stage *st, struct sv name) {
    for (size_t i = 0; i < st->config.env.n; i++) {
        const char *kv = st->config.env.v[i];
        if (strncmp(kv, name.p, name.n) == 0 && kv[name.n] == '=')
            return kv + name.n + 1;
    }
    return map_get(&st->args, name);
}

struct lookup {
    struct build *b;
    struct stage *st; /* NULL: global scope */
    struct span at;
};

static const char *get(void *arg, struct sv name) {
    struct lookup *l = arg;
    return l->st ? stage_var(l->b, l->st, name) : map_get(&l->b->globals, name);
}

static void unset(void *arg, struct sv name) {
    struct lookup *l = arg;
    /* An ARG without a value is empty on purpose. */
    if (l->st && map_has(&l->st->args, name))
        return;
    eval_warn(l->b, l->at, l->st ? "UndefinedVar" : "UndefinedArgInFrom", "%s \"$" SV_FMT "\" is not set",
              l->st ? "variable" : "global ARG", SV_ARG(sv_sub(name, 0, 100)));
}

static char *expand_at(struct build *b, struct stage *st, struct df_word w) {
    struct lookup l = {b, st, w.at};
    struct expand x = {.escape = b->df->escape, .get = get, .unset = unset, .arg = &l};
    struct err e = {0};
    char *out;
    if (expand_word(&b->arena, &x, sv_from(w.s), &out, &e) < 0) {
        eval_error(b, w.at, NULL, "%s", e.msg);
        return NULL;
    }
    return out;
}

char *stage_expand(struct build *b, struct stage *st, struct df_word w) { return expand_at(b, st, w); }

/* --- global arguments ----------------------------------------------------------------------- */

static void platform_args(struct build *b) {
    static const char *const who[] = {"TARGET", "BUILD"};
    for (size_t i = 0; i < 2; i++) {
        const char *const v[][2] = {{"PLATFORM", b->platform}, {"OS", b->os}, {"ARCH", b->arch}, {"VARIANT", b->variant}};
        for (size_t k = 0; k < ELEMENTS(v); k++)
            map_sets(&b->globals, arena_printf(&b->arena, "%s%s", who[i], v[k][0]), (void *)(uintptr_t)v[k][1]);
    }
    map_sets(&b->globals, "TARGETSTAGE", (void *)(uintptr_t)(b->rq->target ? b->rq->target : "default"));
}

int eval_globals(struct build *b) {
    size_t errors = b->d->errors;
    platform_args(b);
    for (size_t i = 0; i < b->df->n_globals; i++) {
        const struct df_instr *in = b->df->globals[i];
        for (size_t k = 0; k < in->n_pairs; k++) {
            const struct df_pair *p = &in->pairs[k];
            char *v = map_gets(&b->build_args, p->key);
            if (v)
                map_sets(&b->args_used, p->key, v);
            else if (p->value)
                v = expand_at(b, NULL, (struct df_word){p->value, p->at});
            else
                v = map_gets(&b->globals, p->key);
            map_sets(&b->globals, p->key, v);
        }
    }
    return b->d->errors > errors ? -EBADMSG : 0;
}

const char *graph_base_ref(struct build *b, const struct df_stage *st, struct err *e) {
    char *ref = expand_at(b, NULL, st->base);
    if (ref && !*ref) {
        eval_error(b, st->base.at, "give the ARG a default, or --build-arg", "the base \"%s\" comes to nothing", st->base.s);
        return NULL;
    }
    return ref;
}

/* --- history -------------------------------------------------------------------------------- */

void eval_history(struct build *b, struct stage *st, struct vertex *v, const char *fmt, ...) {
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    va_list ap;
    va_start(ap, fmt);
    buf_addv(&t, fmt, ap);
    va_end(ap);
    GROW(st->history, st->cap_history, st->n_history + 1);
    st->history[st->n_history++] = (struct step_history){arena_strdup(&b->arena, buf_str(&t)), v};
}

/* --- stages --------------------------------------------------------------------------------- */

static bool has_vertex(const struct df_instr *in) {
    return in->op == DF_RUN || in->op == DF_COPY || in->op == DF_ADD || in->op == DF_WORKDIR;
}

static void inherit(struct stage *st, const struct stage *base) {
    image_config_copy(&st->config, &base->config);
    st->last = base->last;
    st->base_history = base->base_history;
    for (size_t i = 0; i < base->n_history; i++) {
        GROW(st->history, st->cap_history, st->n_history + 1);
        st->history[st->n_history++] = base->history[i];
    }
    MAP_FOREACH(&base->args, en)
        map_set(&st->args, sv_n(en->key, en->key_n), en->value);
    strv_extend(&st->arg_order, (const char *const *)base->arg_order.v);
}

static int platform_check(struct build *b, struct stage *st) {
    if (!st->df->platform)
        return 0;
    char *p = expand_at(b, NULL, (struct df_word){st->df->platform, st->df->at});
    if (!p)
        return -EBADMSG;
    struct sv want = sv_from(p), have = sv_from(b->platform);
    if (*p && !sv_eq(want, have) && !streq(p, b->os) && !(sv_starts(want, b->platform) && p[have.n] == '/')) {
        eval_error(b, st->df->at, NULL, "platform %s: other platforms than this machine's (%s) are not there yet", p, b->platform);
        return -EBADMSG;
    }
    return 0;
}

/* What the stage stands on. */
static int stage_base(struct build *b, struct stage *st, struct err *e) {
    const char *ref = graph_base_ref(b, st->df, e);
    if (!ref || platform_check(b, st) < 0)
        return -EBADMSG;
    for (unsigned i = st->df->index; i-- > 0;) {
        if (b->df->stages[i].name && strcasecmp(b->df->stages[i].name, ref) == 0) {
            int r = eval_stage(b, i, e);
            if (r < 0)
                return r;
            inherit(st, &b->stages[i]);
            return 0;
        }
    }
    if (streq(ref, "scratch")) {
        strv_add(&st->config.env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        free(st->config.workdir);
        st->config.workdir = xstrdup("/");
        return 0;
    }
    struct vertex *v = graph_image(b, ref, st->df->base.at, e);
    if (!v)
        return -ENOENT;
    image_config_copy(&st->config, &v->image->config);
    st->last = v;
    st->base_history = st->config.n_history;
    return 0;
}

/* ONBUILD triggers of the base, first. */
static int triggers(struct build *b, struct stage *st, struct err *e) {
    struct strv list = st->config.onbuild;
    st->config.onbuild = (struct strv){0};
    struct df_instr **ins = ARENA_ARRAY(&b->arena, struct df_instr *, list.n + 1);
    size_t n = 0;
    int r = 0;
    for (size_t i = 0; i < list.n; i++) {
        char where[128];
        snprintf(where, sizeof where, "ONBUILD of %.100s", st->df->base.s);
        if (dockerfile_parse_one(b->df, where, sv_from(list.v[i]), &ins[n], b->d) < 0)
            r = -EBADMSG;
        else
            st->steps += has_vertex(ins[n++]);
    }
    for (size_t i = 0; i < n && r == 0; i++)
        r = eval_instr(b, st, ins[i], e);
    strv_done(&list);
    return r;
}

int eval_stage(struct build *b, unsigned index, struct err *e) {
    struct stage *st = &b->stages[index];
    if (st->state == STAGE_READY)
        return 0;
    assert(st->state == STAGE_NEW); /* FROM and --from look backwards only */
    st->state = STAGE_BUSY;
    st->df = &b->df->stages[index];
    st->step = 1;
    st->steps = 1;
    for (size_t i = 0; i < st->df->n_instrs; i++)
        st->steps += has_vertex(st->df->instrs[i]);
    int r = stage_base(b, st, e);
    if (r < 0)
        return r;
    r = triggers(b, st, e);
    size_t errors = b->d->errors;
    for (size_t i = 0; i < st->df->n_instrs && r >= 0; i++) {
        int k = eval_instr(b, st, st->df->instrs[i], e);
        if (k < 0 && k != -EBADMSG)
            return k;
    }
    st->state = STAGE_READY;
    return r < 0 ? r : b->d->errors > errors ? -EBADMSG : 0;
}

int eval_from(struct build *b, struct stage *st, const char *name, struct span at, struct vertex **ret, struct err *e) {
    int i = dockerfile_stage(b->df, name, st->df->index);
    if (i >= 0) {
        int r = eval_stage(b, (unsigned)i, e);
        if (r < 0)
            return r;
        *ret = b->stages[i].last;
        return 0;
    }
    if (dockerfile_stage(b->df, name, b->df->n_stages) >= 0) {
        eval_error(b, at, "a stage can only copy from stages before it", "stage \"%s\" comes later", name);
        return -EBADMSG;
    }
    *ret = graph_image(b, name, at, e);
    return *ret ? 0 : -ENOENT;
}
