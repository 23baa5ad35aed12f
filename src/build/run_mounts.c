/* The --mount flags of RUN: "type=cache,target=/x,id=y". */
#include "build/eval.h"

static int flag_error(struct build *b, const struct df_flag *f, const char *what, const char *value) {
    eval_error(b, f->at, NULL, "--mount: %s \"%s\"", what, value);
    return -EBADMSG;
}

static bool truth(const char *v) { return !v || !*v || streq(v, "true") || streq(v, "1"); }

static int number(struct build *b, const struct df_flag *f, const char *v, bool octal, uint32_t *ret) {
    char *end;
    unsigned long n = strtoul(v, &end, octal ? 8 : 10);
    if (!*v || *end || n > 65535)
        return flag_error(b, f, "not a number:", v);
    *ret = (uint32_t)n;
    return 0;
}

static int size_of(struct build *b, const struct df_flag *f, const char *v, uint64_t *ret) {
    char *end;
    unsigned long long n = strtoull(v, &end, 10);
    unsigned shift = *end == 'k' || *end == 'K' ? 10 : *end == 'm' || *end == 'M' ? 20 : *end == 'g' || *end == 'G' ? 30 : 0;
    if (!*v || (*end && !shift) || n > (1ull << 40))
        return flag_error(b, f, "not a size:", v);
    *ret = n << shift;
    return 0;
}

/* One key=value. */
static int option(struct build *b, struct stage *st, struct vertex *v, const struct df_flag *f, struct run_mount *m,
                  const char **type, const char *key, const char *value, struct err *e) {
    char *x = value ? stage_expand(b, st, (struct df_word){value, f->at}) : NULL;
    if (value && !x)
        return -EBADMSG;
    if (streq(key, "type"))
        *type = x;
    else if (streq(key, "target") || streq(key, "dst") || streq(key, "destination"))
        m->target = x;
    else if (streq(key, "source") || streq(key, "src"))
        m->source = x;
    else if (streq(key, "id"))
        m->id = x;
    else if (streq(key, "env"))
        m->env = x;
    else if (streq(key, "from"))
        return eval_from(b, st, value ? value : "", f->at, &m->from, e);
    else if (streq(key, "ro") || streq(key, "readonly"))
        m->readonly = truth(x);
    else if (streq(key, "rw") || streq(key, "readwrite"))
        m->readonly = !truth(x);
    else if (streq(key, "required"))
        m->required = truth(x);
    else if (streq(key, "mode") || streq(key, "uid") || streq(key, "gid"))
        return number(b, f, x ? x : "", key[0] == 'm', key[0] == 'm' ? &m->mode : key[0] == 'u' ? &m->uid : &m->gid);
    else if (streq(key, "size"))
        return size_of(b, f, x ? x : "", &m->size);
    else if (streq(key, "sharing")) {
        static const char *const names[] = {"shared", "private", "locked"};
        for (unsigned i = 0; i < 3; i++)
            if (streq0(x, names[i])) {
                m->sharing = i;
                return 0;
            }
        return flag_error(b, f, "sharing is shared, private or locked, not", x ? x : "");
    } else
        return flag_error(b, f, "unknown option", key);
    return 0;
}

static int finish(struct build *b, struct stage *st, struct vertex *v, const struct df_flag *f, struct run_mount *m,
                  const char *type) {
    if (!type || streq(type, "bind"))
        m->kind = MOUNT_BIND;
    else if (streq(type, "cache"))
        m->kind = MOUNT_CACHE;
    else if (streq(type, "tmpfs"))
        m->kind = MOUNT_TMPFS;
    else if (streq(type, "secret"))
        m->kind = MOUNT_SECRET;
    else if (streq(type, "ssh"))
        m->kind = MOUNT_SSH;
    else
        return flag_error(b, f, "unknown type", type);
    if (m->kind == MOUNT_SECRET) {
        if (!m->id && m->target)
            m->id = path_base(m->target);
        if (!m->id)
            return flag_error(b, f, "a secret needs an id", "");
        if (!m->target && !m->env)
            m->target = arena_printf(&b->arena, "/run/secrets/%s", m->id);
        m->source = NULL;
    }
    if (m->kind == MOUNT_SSH) {
        m->id = m->id ? m->id : "default";
        if (!m->target)
            m->target = arena_printf(&b->arena, "/run/buildkit/ssh_agent.%zu", (size_t)(m - v->mounts));
    }
    if (!m->target && !m->env)
        return flag_error(b, f, "a mount needs a target", "");
    if (m->target && m->target[0] != '/') {
        const char *wd = st->config.workdir && *st->config.workdir ? st->config.workdir : "/";
        _cleanup_free_ char *abs = path_join(wd, m->target);
        m->target = arena_strdup(&b->arena, abs);
    }
    if (m->kind == MOUNT_CACHE) {
        if (!m->id)
            m->id = m->target;
        if (m->source && !m->from)
            return flag_error(b, f, "a cache mount's source is a folder of its from=", m->source);
        m->source = m->source ? m->source : "/";
        if (m->from)
            graph_edge(b, v, m->from);
    }
    if (m->kind == MOUNT_BIND) {
        m->source = m->source ? m->source : "/";
        if (m->from) {
            graph_edge(b, v, m->from);
        } else {
            m->from_context = true;
            b->needs_context = true;
        }
    }
    return 0;
}

int eval_mounts(struct build *b, struct stage *st, struct vertex *v, const struct df_instr *in, struct err *e) {
    v->mounts = ARENA_ARRAY(&b->arena, struct run_mount, in->n_flags + 1);
    for (size_t i = 0; i < in->n_flags; i++) {
        const struct df_flag *f = &in->flags[i];
        if (!streq(f->name, "mount"))
            continue;
        if (v->n_mounts >= 50)
            return flag_error(b, f, "too many mounts", "");
        struct run_mount *m = &v->mounts[v->n_mounts++];
        const char *type = NULL;
        *m = (struct run_mount){.mode = UINT32_MAX};
        struct sv rest = sv_from(f->value), part;
        /* The type decides what the rest means. */
        m->readonly = !strstr(f->value, "type=") || strstr(f->value, "type=bind") != NULL;
        while (sv_split(&rest, ',', &part)) {
            ssize_t eq = sv_chr(part, '=');
            char *key = arena_strndup(&b->arena, part.p, eq < 0 ? part.n : (size_t)eq);
            const char *value = eq < 0 ? NULL : arena_strndup(&b->arena, part.p + eq + 1, part.n - (size_t)eq - 1);
            int r = option(b, st, v, f, m, &type, key, value, e);
            if (r < 0)
                return r;
        }
        int r = finish(b, st, v, f, m, type);
        if (r < 0)
            return r;
        if (m->mode == UINT32_MAX)
            m->mode = m->kind == MOUNT_SECRET ? 0400 : m->kind == MOUNT_SSH ? 0600 : 0755;
    }
    return 0;
}
