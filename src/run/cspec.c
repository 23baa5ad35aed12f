#include "run/cspec.h"

void cspec_done(struct cspec *s) {
    strv_done(&s->ports);
    strv_done(&s->volumes);
}

static int bad(struct err *e, struct span at, const char *what) {
    err_set(e, ERR_CONFIG, -EINVAL, "%s", what);
    return err_at(e, -EINVAL, at);
}

static int scalar(struct ctx *c, const struct value *o, const char *key, struct span at, struct sv *ret, struct err *e) {
    const struct value *v = val_gets(o, key);
    if (v && (v->kind == VAL_ARRAY || v->kind == VAL_OBJECT)) {
        _cleanup_free_ char *what = xasprintf("%s of a container must be a string", key);
        return bad(e, at, what);
    }
    *ret = v ? val_to_string(c->a, v) : SV("");
    return 0;
}

static int list(struct ctx *c, const struct value *o, const char *key, struct span at, struct strv *ret, struct err *e) {
    const struct value *v = val_gets(o, key);
    if (!v || v->kind == VAL_NULL)
        return 0;
    if (v->kind != VAL_ARRAY) {
        _cleanup_free_ char *what = xasprintf("%s of a container must be a list", key);
        return bad(e, at, what);
    }
    for (size_t i = 0; i < v->n; i++) {
        struct sv s = val_to_string(c->a, v->items[i]);
        strv_addn(ret, s.p, s.n);
    }
    return 0;
}

static int known(const struct value *v, struct span at, struct err *e) {
    static const char *const keys[] = {"image", "env", "ports", "volumes", "options", "credentials", "entrypoint", "command"};
    for (size_t i = 0; i < v->n; i++) {
        bool ok = false;
        for (size_t k = 0; k < ELEMENTS(keys); k++)
            ok |= sv_ieqs(v->keys[i], keys[k]);
        if (!ok) {
            _cleanup_free_ char *what = xasprintf("unexpected key \"" SV_FMT "\" of a container", SV_ARG(v->keys[i]));
            return bad(e, at, what);
        }
    }
    return 0;
}

int cspec_value(struct ctx *c, const struct value *v, struct span at, struct cspec *ret, struct err *e) {
    static const struct value none = {.kind = VAL_OBJECT};
    ret->at = at;
    ret->env = &none;
    int r;
    if (v->kind == VAL_ARRAY)
        return bad(e, at, "a container must be an image or a mapping");
    if (v->kind != VAL_OBJECT) {
        ret->image = sv_trim(val_to_string(c->a, v));
        return 0;
    }
    const struct value *cred = val_gets(v, "credentials"), *env = val_gets(v, "env");
    if ((r = known(v, at, e)) < 0 || (r = scalar(c, v, "image", at, &ret->image, e)) < 0 ||
        (r = scalar(c, v, "options", at, &ret->options, e)) < 0 || (r = scalar(c, v, "entrypoint", at, &ret->entrypoint, e)) < 0 ||
        (r = scalar(c, v, "command", at, &ret->command, e)) < 0 || (r = list(c, v, "ports", at, &ret->ports, e)) < 0 ||
        (r = list(c, v, "volumes", at, &ret->volumes, e)) < 0)
        return r;
    if (cred && cred->kind == VAL_OBJECT &&
        ((r = scalar(c, cred, "username", at, &ret->username, e)) < 0 || (r = scalar(c, cred, "password", at, &ret->password, e)) < 0))
        return r;
    if (env && env->kind == VAL_OBJECT) {
        struct value *o = val_object(c->a);
        for (size_t i = 0; i < env->n; i++)
            val_set(c->a, o, env->keys[i], val_string(c->a, val_to_string(c->a, env->items[i])));
        ret->env = o;
    } else if (env && env->kind != VAL_NULL)
        return bad(e, at, "env of a container must be a mapping");
    ret->image = sv_trim(ret->image);
    return 0;
}

int cspec_read(struct ctx *c, const struct plan_container *pc, struct cspec *ret, struct err *e) {
    struct value *env;
    int r;
    ret->id = pc->id;
    if (pc->whole.s) {
        const struct value *v;
        if ((r = ctx_value(c, &pc->whole, &v, e)) < 0)
            return r;
        return cspec_value(c, v, pc->whole.at, ret, e);
    }
    ret->at = pc->at;
    if ((r = ctx_string(c, &pc->image, "", &ret->image, e)) < 0 || (r = ctx_string(c, &pc->options, "", &ret->options, e)) < 0 ||
        (r = ctx_string(c, &pc->username, "", &ret->username, e)) < 0 || (r = ctx_string(c, &pc->password, "", &ret->password, e)) < 0 ||
        (r = ctx_string(c, &pc->command, "", &ret->command, e)) < 0 || (r = ctx_string(c, &pc->entrypoint, "", &ret->entrypoint, e)) < 0 ||
        (r = ctx_map(c, &pc->env, false, &env, e)) < 0 || (r = ctx_list(c, &pc->ports, &ret->ports, e)) < 0 ||
        (r = ctx_list(c, &pc->volumes, &ret->volumes, e)) < 0)
        return r;
    ret->image = sv_trim(ret->image);
    ret->env = env;
    return 0;
}

static bool name_char(char c, bool first) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static struct sv expand(struct arena *a, struct sv in, const struct strv *env, struct buf *missing) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    if (sv_chr(in, '$') < 0)
        return in;
    for (size_t i = 0; i < in.n; i++) {
        bool brace = in.p[i] == '$' && i + 1 < in.n && in.p[i + 1] == '{';
        size_t from = i + 1 + brace, n = 0;
        if (in.p[i] == '$')
            while (from + n < in.n && name_char(in.p[from + n], n == 0))
                n++;
        if (!n || (brace && (from + n >= in.n || in.p[from + n] != '}'))) {
            buf_addc(&b, in.p[i]);
            continue;
        }
        _cleanup_free_ char *name = xstrndup(in.p + from, n);
        const char *v = strv_env_get(env, name);
        if (v)
            buf_adds(&b, v);
        else
            buf_addf(missing, "%s%s", missing->n ? ", " : "", name);
        i = from + n - 1 + brace;
    }
    return arena_sv(a, buf_sv(&b));
}

void cspec_expand(struct arena *a, struct cspec *s, const struct strv *env, struct buf *missing) {
    s->image = sv_trim(expand(a, s->image, env, missing));
    s->username = expand(a, s->username, env, missing);
    s->password = expand(a, s->password, env, missing);
    if (!s->env)
        return;
    struct value *o = val_object(a);
    for (size_t i = 0; i < s->env->n; i++)
        val_set(a, o, s->env->keys[i], val_string(a, expand(a, s->env->items[i]->str, env, missing)));
    s->env = o;
}
