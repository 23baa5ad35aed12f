/* Evaluates stages: expands variables, follows FROM, turns instructions into vertices and
 * configuration. A stage is evaluated when something needs it, so stages that nothing needs cost
 * nothing; its base image's configuration must be known by then. */
#include "build/eval.h"
#include "build/lint.h"
#include "image/ref.h"

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
    bool quiet;
    bool defaults;          /* global scope as if no build argument was given */
    unsigned found, missed; /* names that were set, and not */
    struct sv last;         /* the last one that was set */
};

static const char *get(void *arg, struct sv name) {
    struct lookup *l = arg;
    const char *v = l->st ? stage_var(l->b, l->st, name) : map_get(l->defaults ? &l->b->global_defaults : &l->b->globals, name);
    l->found += v != NULL;
    l->missed += v == NULL;
    if (v)
        l->last = name;
    return v;
}

static void names_of(struct map *m, struct strv *out) {
    MAP_FOREACH(m, en)
        strv_add(out, en->key);
}

static void unset(void *arg, struct sv name) {
    struct lookup *l = arg;
    struct map *args = l->st ? &l->st->args : &l->b->globals;
    /* An ARG without a value is empty on purpose. What an unknown base sets is not known. */
    if (l->quiet || map_has(args, name) || (l->st && l->st->unknown_base))
        return;
    _cleanup_strv_ struct strv names = {0};
    for (size_t i = 0; l->st && i < l->st->config.env.n; i++)
        strv_addn(&names, l->st->config.env.v[i], strcspn(l->st->config.env.v[i], "="));
    names_of(args, &names);
    const char *near = lint_suggest(name, (const char *const *)names.v);
    name.n = MIN(name.n, 100u);
    if (l->st)
        eval_warn(l->b, l->at, "UndefinedVar", "Usage of undefined variable '$" SV_FMT "'%s%s%s", SV_ARG(name),
                  near ? " (did you mean $" : "", near ? near : "", near ? "?)" : "");
    else
        eval_warn(l->b, l->at, "UndefinedArgInFrom", "FROM argument '" SV_FMT "' is not declared%s%s%s", SV_ARG(name),
                  near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

void stage_var_unset(struct build *b, struct stage *st, struct sv name, struct span at) {
    struct lookup l = {.b = b, .st = st, .at = at};
    unset(&l, name);
}

const char *stage_vars_get(void *arg, struct sv name) {
    struct stage_vars *a = arg;
    return stage_var(a->b, a->st, name);
}

void stage_vars_unset(void *arg, struct sv name) {
    struct stage_vars *a = arg;
    stage_var_unset(a->b, a->st, name, a->at);
}

static char *expand_with(struct lookup *l, struct df_word w) {
    struct expand x = {.escape = l->b->df->escape, .get = get, .unset = unset, .arg = l};
    struct err e = {0};
    char *out;
    l->at = w.at;
    if (expand_word(&l->b->arena, &x, sv_from(w.s), &out, &e) < 0) {
        if (!l->quiet)
            eval_error(l->b, w.at, NULL, "%s", e.msg);
        return NULL;
    }
    return out;
}

static char *expand_at(struct build *b, struct stage *st, struct df_word w) {
    struct lookup l = {.b = b, .st = st};
    return expand_with(&l, w);
}

char *stage_expand(struct build *b, struct stage *st, struct df_word w) { return expand_at(b, st, w); }

/* --- global arguments ----------------------------------------------------------------------- */

static void platform_arg(struct build *b, const char *key, const char *value) {
    map_sets(&b->globals, key, (void *)(uintptr_t)value);
    map_sets(&b->global_defaults, key, (void *)(uintptr_t)value);
}

static void platform_args(struct build *b) {
    static const char *const who[] = {"TARGET", "BUILD"};
    for (size_t i = 0; i < 2; i++) {
        const struct platform *p = i ? &b->native : &b->platform;
        const char *const v[][2] = {{"PLATFORM", p->text}, {"OS", p->os}, {"ARCH", p->arch}, {"VARIANT", p->variant}};
        for (size_t k = 0; k < ELEMENTS(v); k++)
            platform_arg(b, arena_printf(&b->arena, "%s%s", who[i], v[k][0]), v[k][1]);
    }
    platform_arg(b, "TARGETSTAGE", b->rq->target && *b->rq->target ? b->rq->target : "default");
}

int eval_globals(struct build *b) {
    size_t errors = b->d->errors;
    platform_args(b);
    for (size_t i = 0; i < b->df->n_globals; i++) {
        const struct df_instr *in = b->df->globals[i];
        for (size_t k = 0; k < in->n_pairs; k++) {
            const struct df_pair *p = &in->pairs[k];
            char *v = map_gets(&b->build_args, p->key);
            struct lookup dl = {.b = b, .quiet = true, .defaults = true};
            map_sets(&b->global_defaults, p->key, p->value ? expand_with(&dl, (struct df_word){p->value, p->at}) : map_gets(&b->globals, p->key));
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

/* Would the base be a name at all without build arguments? */
static void default_base(struct build *b, const struct df_stage *st) {
    struct lookup l = {.b = b, .quiet = true, .defaults = true};
    char *ref = expand_with(&l, st->base);
    struct image_ref r;
    if (!strchr(st->base.s, '$') || (ref && *ref && ref_parse(ref, &r, NULL) >= 0))
        return;
    eval_warn(b, st->base.at, "InvalidDefaultArgInFrom", "Default value for ARG %s results in empty or invalid base image name", st->base.s);
}

static const char *base_ref(struct build *b, const struct df_stage *st, bool quiet) {
    struct lookup l = {.b = b, .quiet = quiet};
    char *ref = expand_with(&l, st->base);
    if (ref && !*ref) {
        if (!quiet)
            eval_error(b, st->base.at, "give the ARG a default, or --build-arg", "base name (%s) should not be blank", st->base.s);
        return NULL;
    }
    return ref;
}

const char *graph_base_ref(struct build *b, const struct df_stage *st) { return base_ref(b, st, true); }

int graph_stage_platform(struct build *b, const struct df_stage *st, bool quiet, struct platform *ret) {
    *ret = b->platform;
    if (!st->platform)
        return 0;
    struct lookup l = {.b = b, .quiet = quiet};
    const struct df_word w = {st->platform, st->at};
    char *p = expand_with(&l, w);
    if (!p)
        return -EBADMSG;
    if (!*p) {
        if (!quiet)
            eval_error(b, st->at, NULL, "empty platform value from expression %s", st->platform);
        return -EBADMSG;
    }
    if (platform_parse(p, ret) < 0) {
        if (!quiet)
            eval_error(b, st->at, "such as linux/arm64", "\"%s\" is no platform", p);
        return -EBADMSG;
    }
    if (quiet)
        return 0;
    if (l.found == 1 && !l.missed && sv_eqs(l.last, "TARGETPLATFORM") && streq(p, b->platform.text))
        eval_warn(b, st->at, "RedundantTargetPlatform", "Setting platform to predefined %s in FROM is redundant as this is the default behavior",
                  st->platform);
    else if (!l.found && !l.missed && !(st->name && (strstr(st->name, ret->os) || strstr(st->name, ret->arch))))
        eval_warn(b, st->at, "FromPlatformFlagConstDisallowed", "FROM --platform flag should not use constant value \"%s\"", p);
    return 0;
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
    st->workdir_set = base->workdir_set;
    st->unknown_base = base->unknown_base;
    st->base_history = base->base_history;
    for (size_t i = 0; i < base->n_history; i++) {
        GROW(st->history, st->cap_history, st->n_history + 1);
        st->history[st->n_history++] = base->history[i];
    }
    MAP_FOREACH(&base->args, en)
        map_set(&st->args, sv_n(en->key, en->key_n), en->value);
    strv_extend(&st->arg_order, (const char *const *)base->arg_order.v);
}

/* What the stage stands on. */
static int stage_base(struct build *b, struct stage *st, struct err *e) {
    default_base(b, st->df);
    const char *ref = base_ref(b, st->df, false);
    if (!ref || graph_stage_platform(b, st->df, false, &st->platform) < 0)
        return -EBADMSG;
    struct vertex *named = NULL;
    int is = source_named(b, ref, &st->platform, st->df->base.at, &named, e);
    if (is < 0)
        return is;
    for (unsigned i = is ? 0 : st->df->index; i-- > 0;) {
        if (b->df->stages[i].name && strcasecmp(b->df->stages[i].name, ref) == 0) {
            int r = eval_stage(b, i, e);
            if (r < 0)
                return r;
            inherit(st, &b->stages[i]);
            return 0;
        }
    }
    if (streq(ref, "scratch") || (named && !named->image)) {
        st->last = named;
        if (named)
            eval_history(b, st, named, "CONTEXT %s", ref);
        strv_add(&st->config.env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        free(st->config.workdir);
        st->config.workdir = xstrdup("/");
        return 0;
    }
    struct image_ref parsed;
    struct err why = {0};
    if (!named && !startswith(ref, "sha256:") && ref_parse(ref, &parsed, &why) < 0) {
        eval_error(b, st->df->base.at, NULL, "failed to parse stage name \"%s\": invalid reference format", ref);
        return -EBADMSG;
    }
    struct vertex *v = named ? named : graph_image(b, ref, &st->platform, st->df->base.at, e);
    if (!v)
        return -ENOENT;
    st->unknown_base = v->unknown;
    const char *os = v->image->config.os, *arch = v->image->config.architecture;
    if (os && arch && (!streq(os, st->platform.os) || !streq(arch, st->platform.arch)))
        eval_warn(b, st->df->base.at, "InvalidBaseImagePlatform",
                  "Base image %s was pulled with platform \"%s/%s\", expected \"%s\" for current build", ref, os, arch, st->platform.text);
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
    int i = source_named(b, name, &st->platform, at, ret, e);
    if (i != 0)
        return i < 0 ? i : 0;
    i = dockerfile_stage(b->df, name, st->df->index);
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
    *ret = graph_image(b, name, &st->platform, at, e);
    return *ret ? 0 : -ENOENT;
}
