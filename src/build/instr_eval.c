/* One instruction: what it does to the stage's configuration and which vertex it adds. */
#include "build/eval.h"
#include "build/lint.h"

#include <ctype.h>

/* Expands every word; NULL after an error. */
char **eval_words(struct build *b, struct stage *st, const struct df_instr *in) {
    char **out = ARENA_ARRAY(&b->arena, char *, in->n_words + 1);
    for (size_t i = 0; i < in->n_words; i++)
        if (!(out[i] = stage_expand(b, st, in->words[i])))
            return NULL;
    return out;
}

const char *eval_flag(struct build *b, struct stage *st, const struct df_instr *in, const char *name) {
    const char *v = df_flag(in, name);
    return v ? stage_expand(b, st, (struct df_word){v, in->at}) : NULL;
}

/* JSON array of strings, as docker writes commands into the history. */
static char *json_list(struct build *b, const struct strv *v) {
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    buf_addc(&t, '[');
    for (size_t i = 0; i < v->n; i++) {
        if (i)
            buf_adds(&t, " ");
        buf_addc(&t, '"');
        buf_adds(&t, v->v[i]);
        buf_addc(&t, '"');
    }
    buf_addc(&t, ']');
    return arena_strdup(&b->arena, buf_str(&t));
}

static const char *last_env(const struct stage *st, const char *key) { return strv_env_get(&st->config.env, key); }

static int do_arg(struct build *b, struct stage *st, const struct df_instr *in) {
    for (size_t i = 0; i < in->n_pairs; i++) {
        const struct df_pair *p = &in->pairs[i];
        char *v = map_gets(&b->build_args, p->key);
        bool given = v != NULL;
        if (given)
            map_sets(&b->args_used, p->key, v);
        else if (p->value && !(v = stage_expand(b, st, (struct df_word){p->value, p->at})))
            return -EBADMSG;
        else if (!p->value)
            v = map_gets(&b->globals, p->key);
        if (!strv_contains(&st->arg_order, p->key))
            strv_add(&st->arg_order, p->key);
        map_sets(&st->args, p->key, v);
        eval_history(b, st, NULL, "ARG %s%s%s", p->key, v ? "=" : "", v ? v : "");
    }
    return 0;
}

/* ENV: all values are computed before any is set. */
static int do_env(struct build *b, struct stage *st, const struct df_instr *in) {
    char **k = ARENA_ARRAY(&b->arena, char *, in->n_pairs), **v = ARENA_ARRAY(&b->arena, char *, in->n_pairs);
    for (size_t i = 0; i < in->n_pairs; i++) {
        k[i] = stage_expand(b, st, (struct df_word){in->pairs[i].key, in->pairs[i].at});
        v[i] = stage_expand(b, st, (struct df_word){in->pairs[i].value, in->pairs[i].at});
        if (!k[i] || !v[i])
            return -EBADMSG;
        if (!*k[i]) {
            eval_error(b, in->pairs[i].at, NULL, "ENV with an empty name");
            return -EBADMSG;
        }
    }
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    for (size_t i = 0; i < in->n_pairs; i++) {
        strv_env_set(&st->config.env, k[i], v[i]);
        buf_addf(&t, " %s=%s", k[i], v[i]);
    }
    eval_history(b, st, NULL, "ENV%s", buf_str(&t));
    return 0;
}

static void label_set(struct strv *labels, const char *key, const char *value) { strv_env_set(labels, key, value); }

static int do_label(struct build *b, struct stage *st, const struct df_instr *in) {
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    for (size_t i = 0; i < in->n_pairs; i++) {
        char *k = stage_expand(b, st, (struct df_word){in->pairs[i].key, in->pairs[i].at});
        char *v = stage_expand(b, st, (struct df_word){in->pairs[i].value, in->pairs[i].at});
        if (!k || !v)
            return -EBADMSG;
        label_set(&st->config.labels, k, v);
        buf_addf(&t, " %s=%s", k, v);
    }
    eval_history(b, st, NULL, "LABEL%s", buf_str(&t));
    return 0;
}

static void command(struct stage *st, const struct df_instr *in, struct strv *out) {
    strv_done(out);
    *out = (struct strv){0};
    if (in->json) {
        for (size_t i = 0; i < in->n_words; i++)
            strv_add(out, in->words[i].s);
        return;
    }
    if (!in->n_words)
        return;
    if (st->config.has_shell)
        strv_extend(out, (const char *const *)st->config.shell.v);
    else
        strv_extend(out, (const char *const[]){"/bin/sh", "-c", NULL});
    strv_add(out, in->words[0].s);
}

static void json_recommended(struct build *b, struct stage *st, const struct df_instr *in) {
    if (!in->json && !st->config.shell.n)
        eval_warn(b, in->at, "JSONArgsRecommended",
                  "JSON arguments recommended for " SV_FMT " to prevent unintended behavior related to OS signals", SV_ARG(in->keyword));
}

static int do_cmd(struct build *b, struct stage *st, const struct df_instr *in) {
    json_recommended(b, st, in);
    command(st, in, &st->config.cmd);
    st->config.has_cmd = true;
    st->config.args_escaped = !in->json ? false : st->config.args_escaped;
    st->cmd_set = true;
    eval_history(b, st, NULL, "CMD %s", json_list(b, &st->config.cmd));
    return 0;
}

static int do_entrypoint(struct build *b, struct stage *st, const struct df_instr *in) {
    json_recommended(b, st, in);
    command(st, in, &st->config.entrypoint);
    st->config.has_entrypoint = true;
    if (!st->cmd_set) { /* an inherited CMD is not meant for it */
        strv_done(&st->config.cmd);
        st->config.cmd = (struct strv){0};
        st->config.has_cmd = false;
    }
    eval_history(b, st, NULL, "ENTRYPOINT %s", json_list(b, &st->config.entrypoint));
    return 0;
}

static int do_shell(struct build *b, struct stage *st, const struct df_instr *in) {
    struct strv v = {0};
    for (size_t i = 0; i < in->n_words; i++)
        strv_add(&v, in->words[i].s);
    strv_done(&st->config.shell);
    st->config.shell = v;
    st->config.has_shell = true;
    eval_history(b, st, NULL, "SHELL %s", json_list(b, &st->config.shell));
    return 0;
}

static int do_health(struct build *b, struct stage *st, const struct df_instr *in) {
    struct image_health *h = &st->config.health;
    strv_done(&h->test);
    *h = (struct image_health){.given = true};
    if (in->health.none) {
        strv_add(&h->test, "NONE");
    } else {
        strv_add(&h->test, in->json ? "CMD" : "CMD-SHELL");
        for (size_t i = 0; i < in->n_words; i++)
            strv_add(&h->test, in->words[i].s);
        h->interval_ns = in->health.interval_ns;
        h->timeout_ns = in->health.timeout_ns;
        h->start_period_ns = in->health.start_period_ns;
        h->start_interval_ns = in->health.start_interval_ns;
        h->retries = in->health.retries;
    }
    eval_history(b, st, NULL, "%s", in->text);
    return 0;
}

static int port_range(struct sv s, uint64_t *a, uint64_t *z) {
    struct sv from = s, to = s;
    ssize_t at = sv_chr(s, '-');
    if (at >= 0) {
        from.n = (size_t)at;
        to = sv_sub(s, (size_t)at + 1, s.n);
    }
    return sv_u64(from, 65535, a) < 0 || sv_u64(to, 65535, z) < 0 || *a > *z ? -EINVAL : 0;
}

/* "80", "80/udp", "8000-8010", "127.0.0.1:80:8080/tcp" to "PORT/PROTO" items. */
static int expose_one(struct build *b, struct strv *out, const char *text, struct span where) {
    struct sv s = sv_from(text), proto = SV("tcp"), host = {0};
    ssize_t at = sv_rchr(s, '/');
    if (at >= 0) {
        proto = sv_sub(s, (size_t)at + 1, s.n);
        s.n = (size_t)at;
    }
    at = sv_rchr(s, ':');
    if (at >= 0) {
        host = sv_n(s.p, (size_t)at);
        s = sv_sub(s, (size_t)at + 1, s.n);
    }
    char low[8] = "";
    for (size_t i = 0; i < proto.n && i < sizeof low - 1; i++)
        low[i] = (char)tolower((unsigned char)proto.p[i]);
    uint64_t a, z, ha, hz;
    if (proto.n >= sizeof low || (!streq(low, "tcp") && !streq(low, "udp") && !streq(low, "sctp")) || port_range(s, &a, &z) < 0)
        return -EINVAL;
    if (at >= 0) { /* what stands before is checked and has no meaning */
        ssize_t ip = sv_rchr(host, ':');
        struct sv hp = sv_sub(host, ip < 0 ? 0 : (size_t)ip + 1, host.n);
        if (hp.n && (port_range(hp, &ha, &hz) < 0 || (hz - ha != z - a && a != z)))
            return -EINVAL;
    }
    if (!sv_eqs(proto, low))
        eval_warn(b, where, "ExposeProtoCasing", "Defined protocol '%s' in EXPOSE instruction should be lowercase", text);
    if (host.n)
        eval_warn(b, where, "ExposeInvalidFormat", "EXPOSE instruction should not define an IP address or host-port mapping, found '%s'", text);
    for (; a <= z; a++) {
        char item[32];
        snprintf(item, sizeof item, "%u/%s", (unsigned)a, low);
        if (!strv_contains(out, item))
            strv_add(out, item);
    }
    return 0;
}

static int do_expose(struct build *b, struct stage *st, const struct df_instr *in) {
    struct stage_vars arg = {b, st, in->at};
    struct expand x = {.escape = b->df->escape, .get = stage_vars_get, .unset = stage_vars_unset, .arg = &arg};
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    for (size_t i = 0; i < in->n_words; i++) {
        _cleanup_strv_ struct strv ports = {0};
        struct err e = {0};
        if (expand_words(&b->arena, &x, sv_from(in->words[i].s), &ports, &e) < 0) {
            eval_error(b, in->words[i].at, NULL, "%s", e.msg);
            return -EBADMSG;
        }
        for (size_t k = 0; k < ports.n; k++) {
            if (expose_one(b, &st->config.exposed, ports.v[k], in->words[i].at) < 0) {
                eval_error(b, in->words[i].at, "PORT, PORT/udp or FROM-TO", "\"%s\" is no port", ports.v[k]);
                return -EBADMSG;
            }
            buf_addf(&t, "%s%s", t.n ? " " : "", ports.v[k]);
        }
    }
    strv_sort(&st->config.exposed);
    eval_history(b, st, NULL, "EXPOSE [%s]", buf_str(&t));
    return 0;
}

static int do_volume(struct build *b, struct stage *st, const struct df_instr *in) {
    char **w = eval_words(b, st, in);
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    for (size_t i = 0; w && i < in->n_words; i++) {
        if (!*w[i]) {
            eval_error(b, in->words[i].at, NULL, "VOLUME with an empty path");
            return -EBADMSG;
        }
        if (!strv_contains(&st->config.volumes, w[i]))
            strv_add(&st->config.volumes, w[i]);
        buf_addf(&t, "%s%s", i ? " " : "", w[i]);
    }
    strv_sort(&st->config.volumes);
    eval_history(b, st, NULL, "VOLUME [%s]", buf_str(&t));
    return w ? 0 : -EBADMSG;
}

static int do_user(struct build *b, struct stage *st, const struct df_instr *in) {
    char **w = eval_words(b, st, in);
    if (!w)
        return -EBADMSG;
    free(st->config.user);
    st->config.user = xstrdup(w[0]);
    eval_history(b, st, NULL, "USER %s", w[0]);
    return 0;
}

static int do_stopsignal(struct build *b, struct stage *st, const struct df_instr *in) {
    char **w = eval_words(b, st, in);
    if (!w)
        return -EBADMSG;
    uint64_t n;
    bool ok = sv_u64(sv_from(w[0]), 64, &n) == 0 ? n > 0 : false;
    const char *name = startswith(w[0], "SIG");
    for (name = name ? name : w[0]; !ok && *name; name++)
        if (!isupper((unsigned char)*name) && !isdigit((unsigned char)*name) && !strchr("+-", *name))
            break;
    if (!ok && *name) {
        eval_error(b, in->words[0].at, "such as SIGTERM or 15", "\"%s\" is no signal", w[0]);
        return -EBADMSG;
    }
    free(st->config.stopsignal);
    st->config.stopsignal = xstrdup(w[0]);
    eval_history(b, st, NULL, "STOPSIGNAL %s", w[0]);
    return 0;
}

char *eval_in_workdir(struct stage *st, const char *to) {
    const char *wd = st->config.workdir && *st->config.workdir ? st->config.workdir : "/";
    _cleanup_free_ char *base = xasprintf("%s%s", wd[0] == '/' ? "" : "/", wd);
    return path_join(base, to);
}

static int do_workdir(struct build *b, struct stage *st, const struct df_instr *in) {
    char **w = eval_words(b, st, in);
    if (!w)
        return -EBADMSG;
    if (w[0][0] != '/' && !st->workdir_set)
        eval_warn(b, in->words[0].at, "WorkdirRelativePath", "Relative workdir \"%s\" can have unexpected results if the base image changes", w[0]);
    st->workdir_set = true;
    char *dir = eval_in_workdir(st, w[0]);
    free(st->config.workdir);
    st->config.workdir = dir;
    struct vertex *v = graph_vertex(b, V_WORKDIR, st, in, NULL);
    v->copy.mkdir = arena_strdup(&b->arena, dir);
    if (st->config.user && *st->config.user)
        v->copy.chown = arena_strdup(&b->arena, st->config.user);
    eval_history(b, st, v, "WORKDIR %s", dir);
    st->last = v;
    return 0;
}

/* --- RUN ------------------------------------------------------------------------------------ */

/* Text for the shell: the line, and the bodies of its heredocs. */
static const char *run_text(struct build *b, const struct df_instr *in) {
    if (!in->n_heredocs)
        return in->words[0].s;
    _cleanup_buf_ struct buf t = BUF_MAX(4u << 20);
    buf_adds(&t, in->words[0].s);
    for (size_t i = 0; i < in->n_heredocs; i++) {
        buf_adds(&t, "\n");
        buf_addsv(&t, in->heredocs[i].data);
        buf_adds(&t, in->heredocs[i].name);
    }
    return arena_strdup(&b->arena, buf_str(&t));
}

static void run_argv(struct build *b, struct stage *st, const struct df_instr *in, struct vertex *v) {
    struct strv argv = {0};
    if (in->json) {
        command(st, in, &argv);
    } else {
        const char *text = run_text(b, in);
        bool only = in->n_heredocs == 1 && streq(in->words[0].s, in->heredocs[0].token);
        if (only) {
            struct sv body = df_heredoc_text(&b->arena, &in->heredocs[0]);
            text = arena_strndup(&b->arena, body.p, body.n);
            if (startswith(text, "#!")) {
                v->script = text;
                v->script_path = arena_printf(&b->arena, "/dev/pipes/%s", in->heredocs[0].name);
                strv_add(&argv, v->script_path);
            }
        }
        if (!v->script) {
            if (st->config.has_shell)
                strv_extend(&argv, (const char *const *)st->config.shell.v);
            else
                strv_extend(&argv, (const char *const[]){"/bin/sh", "-c", NULL});
            strv_add(&argv, text);
        }
    }
    const char **a = ARENA_ARRAY(&b->arena, const char *, argv.n + 1);
    for (size_t i = 0; i < argv.n; i++)
        a[i] = arena_strdup(&b->arena, argv.v[i]);
    v->argv = a;
    strv_done(&argv);
}

/* "|2 A=1 B=2 ", as docker notes the arguments that a RUN saw. */
static const char *run_args(struct build *b, struct stage *st, struct vertex *v) {
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    size_t n = 0;
    for (size_t i = 0; i < st->arg_order.n; i++) {
        const char *k = st->arg_order.v[i], *val = map_gets(&st->args, k);
        if (!val)
            continue;
        buf_addf(&t, "%s=%s ", k, val);
        n++;
        if (!last_env(st, k))
            strv_env_set(&v->env, k, val);
    }
    return n ? arena_printf(&b->arena, "|%zu %s", n, buf_str(&t)) : "";
}

int eval_run(struct build *b, struct stage *st, const struct df_instr *in, struct err *e) {
    struct vertex *v = graph_vertex(b, V_RUN, st, in, NULL);
    const char *network = df_flag(in, "network"), *security = df_flag(in, "security");
    if (network && !streq(network, "default") && !streq(network, "none") && !streq(network, "host")) {
        eval_error(b, in->at, "default, none or host", "--network=%s", network);
        return -EBADMSG;
    }
    v->insecure = security && streq(security, "insecure");
    if (df_flag(in, "device")) {
        eval_error(b, in->at, NULL, "--device is not there yet");
        return -EBADMSG;
    }
    /* What reaches beyond the box is the caller's to give, not the Dockerfile's. */
    if (!b->rq->call && v->insecure && !b->rq->allow_insecure) {
        eval_error(b, in->at, "--allow security.insecure", "security.insecure is not allowed");
        return -EBADMSG;
    }
    if (!b->rq->call && network && streq(network, "host") && !b->rq->allow_host_network && !b->rq->host_network) {
        eval_error(b, in->at, "--allow network.host", "network.host is not allowed");
        return -EBADMSG;
    }
    v->network = network;
    run_argv(b, st, in, v);
    strv_extend(&v->env, (const char *const *)st->config.env.v);
    const char *args = run_args(b, st, v);
    v->cwd = arena_strdup(&b->arena, st->config.workdir && *st->config.workdir ? st->config.workdir : "/");
    v->user = st->config.user && *st->config.user ? arena_strdup(&b->arena, st->config.user) : NULL;
    int r = eval_mounts(b, st, v, in, e);
    if (r < 0)
        return r;
    _cleanup_buf_ struct buf t = BUF_MAX(4u << 20);
    for (size_t i = 0; v->argv[i]; i++)
        buf_addf(&t, "%s%s", i ? " " : "", v->script ? v->script : v->argv[i]);
    eval_history(b, st, v, "RUN %s%s", args, buf_str(&t));
    st->last = v;
    return 0;
}

static int do_onbuild(struct build *b, struct stage *st, const struct df_instr *in) {
    _cleanup_buf_ struct buf t = BUF_MAX(4u << 20);
    buf_adds(&t, in->onbuild_text);
    for (size_t i = 0; i < in->sub->n_heredocs; i++) {
        buf_adds(&t, "\n");
        buf_addsv(&t, in->sub->heredocs[i].data);
        buf_adds(&t, in->sub->heredocs[i].name);
    }
    strv_add(&st->config.onbuild, buf_str(&t));
    eval_history(b, st, NULL, "ONBUILD %s", in->onbuild_text);
    return 0;
}

int eval_instr(struct build *b, struct stage *st, const struct df_instr *in, struct err *e) {
    switch (in->op) {
    case DF_ARG:
        return do_arg(b, st, in);
    case DF_ENV:
        return do_env(b, st, in);
    case DF_LABEL:
        return do_label(b, st, in);
    case DF_CMD:
        return do_cmd(b, st, in);
    case DF_ENTRYPOINT:
        return do_entrypoint(b, st, in);
    case DF_SHELL:
        return do_shell(b, st, in);
    case DF_HEALTHCHECK:
        return do_health(b, st, in);
    case DF_EXPOSE:
        return do_expose(b, st, in);
    case DF_VOLUME:
        return do_volume(b, st, in);
    case DF_USER:
        return do_user(b, st, in);
    case DF_STOPSIGNAL:
        return do_stopsignal(b, st, in);
    case DF_WORKDIR:
        return do_workdir(b, st, in);
    case DF_COPY:
    case DF_ADD:
        return eval_copy(b, st, in, e);
    case DF_RUN:
        return eval_run(b, st, in, e);
    case DF_ONBUILD:
        return do_onbuild(b, st, in);
    case DF_MAINTAINER:
        free(st->config.author);
        st->config.author = xstrdup(in->words[0].s);
        eval_history(b, st, NULL, "MAINTAINER %s", in->words[0].s);
        return 0;
    case DF_FROM:
    case DF_OP_COUNT:
        break;
    }
    return -EBADMSG;
}
