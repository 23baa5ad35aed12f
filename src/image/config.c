/* The image configuration: what of it slipway works with, read from any registry's JSON and
 * written in one canonical form (OCI's field order, maps sorted, nothing optional when empty), so
 * that the same image has the same id wherever it is built. A pulled image keeps its own bytes. */
#include "image/image.h"

enum { CONFIG_MAX = 8 << 20, LAYERS_MAX = 512, HISTORY_MAX = 4096 };

void image_config_done(struct image_config *c) {
    char *strings[] = {c->os, c->architecture, c->variant, c->created, c->author, c->user, c->workdir, c->stopsignal};
    struct strv *lists[] = {&c->env, &c->cmd, &c->entrypoint, &c->shell, &c->onbuild, &c->exposed, &c->volumes,
                            &c->labels, &c->health.test, &c->diff_ids};
    for (size_t i = 0; i < ELEMENTS(strings); i++)
        free(strings[i]);
    for (size_t i = 0; i < ELEMENTS(lists); i++)
        strv_done(lists[i]);
    for (size_t i = 0; i < c->n_history; i++) {
        free(c->history[i].created);
        free(c->history[i].created_by);
        free(c->history[i].comment);
        free(c->history[i].author);
    }
    free(c->history);
    memset(c, 0, sizeof *c);
}

static struct strv strv_copy(const struct strv *from) {
    struct strv to = {0};
    for (size_t i = 0; i < from->n; i++)
        strv_add(&to, from->v[i]);
    return to;
}

void image_config_copy(struct image_config *to, const struct image_config *from) {
    *to = *from;
    char **strings[] = {&to->os, &to->architecture, &to->variant, &to->created, &to->author, &to->user, &to->workdir, &to->stopsignal};
    struct strv *lists[] = {&to->env, &to->cmd, &to->entrypoint, &to->shell, &to->onbuild, &to->exposed, &to->volumes,
                            &to->labels, &to->health.test, &to->diff_ids};
    for (size_t i = 0; i < ELEMENTS(strings); i++)
        *strings[i] = xstrdup(*strings[i]);
    for (size_t i = 0; i < ELEMENTS(lists); i++)
        *lists[i] = strv_copy(lists[i]);
    to->history = xcalloc(from->n_history, sizeof *to->history);
    for (size_t i = 0; i < from->n_history; i++) {
        const struct image_history *h = &from->history[i];
        to->history[i] = (struct image_history){xstrdup(h->created), xstrdup(h->created_by), xstrdup(h->comment),
                                                xstrdup(h->author), h->empty_layer};
    }
}

/* --- reading ------------------------------------------------------------------------------- */

static char *text(const struct json *o, const char *key) {
    const char *s = json_get_str(o, key, NULL);
    return s && *s ? xstrdup(s) : NULL;
}

/* An array of strings; anything else in it is refused by the caller (-1). */
static int list(const struct json *o, const char *key, struct strv *ret, bool *ret_there) {
    const struct json *j = json_get(o, key);
    if (ret_there)
        *ret_there = false;
    if (!j || j->kind == JSON_NULL)
        return 0;
    if (j->kind == JSON_STRING && streq(key, "Cmd")) { /* old schemas */
        strv_add(ret, json_str(j, ""));
    } else if (j->kind != JSON_ARRAY) {
        return -1;
    } else {
        for (size_t i = 0; i < j->n; i++) {
            const char *s = json_str(j->items[i], NULL);
            if (!s)
                return -1;
            strv_add(ret, s);
        }
    }
    if (ret_there)
        *ret_there = true;
    return 0;
}

static int keys(const struct json *o, const char *key, struct strv *ret) {
    const struct json *j = json_get(o, key);
    if (!j || j->kind == JSON_NULL)
        return 0;
    if (j->kind != JSON_OBJECT)
        return -1;
    for (size_t i = 0; i < j->n; i++) {
        if (memchr(j->keys[i].p, 0, j->keys[i].n))
            return -1;
        strv_addn(ret, j->keys[i].p, j->keys[i].n);
    }
    strv_sort(ret);
    return 0;
}

static int read_labels(const struct json *o, struct strv *ret) {
    const struct json *j = json_get(o, "Labels");
    if (!j || j->kind == JSON_NULL)
        return 0;
    if (j->kind != JSON_OBJECT)
        return -1;
    for (size_t i = 0; i < j->n; i++) {
        const char *v = json_str(j->items[i], NULL);
        if (!v || memchr(j->keys[i].p, 0, j->keys[i].n) || memchr(j->keys[i].p, '=', j->keys[i].n))
            continue; /* a label that no one can name */
        strv_addf(ret, SV_FMT "=%s", SV_ARG(j->keys[i]), v);
    }
    strv_sort(ret);
    return 0;
}

static uint64_t positive(const struct json *o, const char *key) {
    int64_t v = json_get_int(o, key, 0);
    return v > 0 ? (uint64_t)v : 0;
}

static int read_health(const struct json *cfg, struct image_health *h) {
    const struct json *o = json_get(cfg, "Healthcheck");
    if (!o || o->kind != JSON_OBJECT)
        return 0;
    h->given = true;
    h->interval_ns = positive(o, "Interval");
    h->timeout_ns = positive(o, "Timeout");
    h->start_period_ns = positive(o, "StartPeriod");
    h->start_interval_ns = positive(o, "StartInterval");
    h->retries = (int)MIN(positive(o, "Retries"), (uint64_t)1000000);
    return list(o, "Test", &h->test, NULL);
}

static int read_history(const struct json *root, struct image_config *c) {
    const struct json *h = json_get(root, "history");
    if (!h || h->kind != JSON_ARRAY)
        return 0;
    if (h->n > HISTORY_MAX)
        return -1;
    c->history = xcalloc(h->n, sizeof *c->history);
    for (size_t i = 0; i < h->n; i++) {
        const struct json *o = h->items[i];
        c->history[c->n_history++] = (struct image_history){text(o, "created"), text(o, "created_by"), text(o, "comment"),
                                                            text(o, "author"), json_get_bool(o, "empty_layer", false)};
    }
    return 0;
}

static int read_rootfs(const struct json *root, struct image_config *c, struct err *e) {
    const struct json *ids = json_path(root, "rootfs.diff_ids");
    if (ids && ids->kind != JSON_NULL && ids->kind != JSON_ARRAY)
        return err_set(e, ERR_NET, -EBADMSG, "the image's configuration is malformed (rootfs)");
    for (size_t i = 0; ids && i < ids->n; i++) {
        if (!digest_valid(json_sv(ids->items[i])))
            return err_set(e, ERR_NET, -EBADMSG, "the image's configuration has a diff id that is not a SHA-256 digest");
        strv_add(&c->diff_ids, json_str(ids->items[i], ""));
    }
    if (c->diff_ids.n > LAYERS_MAX)
        return err_set(e, ERR_LIMIT, -EFBIG, "the image has %zu layers; the limit is %d", c->diff_ids.n, LAYERS_MAX);
    return 0;
}

int image_config_parse(struct sv json, struct image_config *ret, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct json *root;
    struct image_config c = {0};
    if (json.n > CONFIG_MAX)
        return err_set(e, ERR_LIMIT, -EFBIG, "the image's configuration is larger than 8 MiB");
    int r = json_parse(&a, json, &root, e);
    if (r < 0)
        return err_wrap(e, r, "the image's configuration");
    if (root->kind != JSON_OBJECT)
        return err_set(e, ERR_NET, -EBADMSG, "the image's configuration is not an object");
    const struct json *cfg = json_get(root, "config");
    c.os = text(root, "os");
    c.architecture = text(root, "architecture");
    c.variant = text(root, "variant");
    c.created = text(root, "created");
    c.author = text(root, "author");
    c.user = text(cfg, "User");
    c.workdir = text(cfg, "WorkingDir");
    c.stopsignal = text(cfg, "StopSignal");
    c.args_escaped = json_get_bool(cfg, "ArgsEscaped", false);
    bool bad = list(cfg, "Env", &c.env, NULL) < 0 || list(cfg, "Cmd", &c.cmd, &c.has_cmd) < 0 ||
               list(cfg, "Entrypoint", &c.entrypoint, &c.has_entrypoint) < 0 ||
               list(cfg, "Shell", &c.shell, &c.has_shell) < 0 || list(cfg, "OnBuild", &c.onbuild, NULL) < 0 ||
               keys(cfg, "ExposedPorts", &c.exposed) < 0 || keys(cfg, "Volumes", &c.volumes) < 0 ||
               read_labels(cfg, &c.labels) < 0 || read_health(cfg, &c.health) < 0 || read_history(root, &c) < 0;
    r = bad ? err_set(e, ERR_NET, -EBADMSG, "the image's configuration is malformed") : read_rootfs(root, &c, e);
    if (r < 0) {
        image_config_done(&c);
        return r;
    }
    *ret = c;
    return 0;
}

/* --- writing ------------------------------------------------------------------------------- */

static void put_text(struct json_w *w, const char *key, const char *s) {
    if (s && *s)
        jw_kstr(w, key, s);
}

static void put_list(struct json_w *w, const char *key, const struct strv *s, bool always) {
    if (!s->n && !always)
        return;
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < s->n; i++)
        jw_str(w, s->v[i]);
    jw_end_arr(w);
}

static void put_set(struct json_w *w, const char *key, const struct strv *s) {
    if (!s->n)
        return;
    _cleanup_strv_ struct strv sorted = strv_copy(s);
    strv_sort(&sorted);
    jw_key(w, key);
    jw_obj(w);
    for (size_t i = 0; i < sorted.n; i++) {
        if (i && streq(sorted.v[i], sorted.v[i - 1]))
            continue;
        jw_key(w, sorted.v[i]);
        jw_obj(w);
        jw_end_obj(w);
    }
    jw_end_obj(w);
}

static void put_labels(struct json_w *w, const struct strv *s) {
    if (!s->n)
        return;
    _cleanup_strv_ struct strv sorted = strv_copy(s);
    strv_sort(&sorted);
    jw_key(w, "Labels");
    jw_obj(w);
    for (size_t i = 0; i < sorted.n; i++) {
        const char *eq = strchr(sorted.v[i], '=');
        jw_keysv(w, sv_n(sorted.v[i], eq ? (size_t)(eq - sorted.v[i]) : strlen(sorted.v[i])));
        jw_str(w, eq ? eq + 1 : "");
    }
    jw_end_obj(w);
}

static void put_ns(struct json_w *w, const char *key, uint64_t ns) {
    if (ns)
        jw_kint(w, key, (int64_t)ns);
}

static void put_health(struct json_w *w, const struct image_health *h) {
    if (!h->given)
        return;
    jw_key(w, "Healthcheck");
    jw_obj(w);
    put_list(w, "Test", &h->test, false);
    put_ns(w, "Interval", h->interval_ns);
    put_ns(w, "Timeout", h->timeout_ns);
    put_ns(w, "StartPeriod", h->start_period_ns);
    put_ns(w, "StartInterval", h->start_interval_ns);
    put_ns(w, "Retries", (uint64_t)MAX(h->retries, 0));
    jw_end_obj(w);
}

static void put_config(struct json_w *w, const struct image_config *c) {
    jw_key(w, "config");
    jw_obj(w);
    put_text(w, "User", c->user);
    put_set(w, "ExposedPorts", &c->exposed);
    put_list(w, "Env", &c->env, false);
    put_list(w, "Entrypoint", &c->entrypoint, false);
    put_list(w, "Cmd", &c->cmd, false);
    put_health(w, &c->health);
    put_set(w, "Volumes", &c->volumes);
    put_text(w, "WorkingDir", c->workdir);
    put_list(w, "OnBuild", &c->onbuild, false);
    put_labels(w, &c->labels);
    put_text(w, "StopSignal", c->stopsignal);
    put_list(w, "Shell", &c->shell, false);
    if (c->args_escaped)
        jw_kbool(w, "ArgsEscaped", true);
    jw_end_obj(w);
}

void image_config_format(const struct image_config *c, struct buf *b) {
    struct json_w w;
    jw_init(&w, b, 0);
    jw_obj(&w);
    put_text(&w, "created", c->created);
    put_text(&w, "author", c->author);
    jw_kstr(&w, "architecture", c->architecture ? c->architecture : "amd64");
    put_text(&w, "variant", c->variant);
    jw_kstr(&w, "os", c->os ? c->os : "linux");
    put_config(&w, c);
    jw_key(&w, "rootfs");
    jw_obj(&w);
    jw_kstr(&w, "type", "layers");
    put_list(&w, "diff_ids", &c->diff_ids, true);
    jw_end_obj(&w);
    if (c->n_history) {
        jw_key(&w, "history");
        jw_arr(&w);
        for (size_t i = 0; i < c->n_history; i++) {
            const struct image_history *h = &c->history[i];
            jw_obj(&w);
            put_text(&w, "created", h->created);
            put_text(&w, "created_by", h->created_by);
            put_text(&w, "author", h->author);
            put_text(&w, "comment", h->comment);
            if (h->empty_layer)
                jw_kbool(&w, "empty_layer", true);
            jw_end_obj(&w);
        }
        jw_end_arr(&w);
    }
    jw_end_obj(&w);
}
