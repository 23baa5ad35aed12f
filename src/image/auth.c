/* docker's config.json: "auths" (base64 of user:password, or an identity token), "credHelpers" (a
 * program per registry) and "credsStore" (one for all). Files are asked in turn: the job's own,
 * then the user's. Entries are found by host, whatever scheme and path older clients wrote; Docker
 * Hub's entry is "https://index.docker.io/v1/". Writing keeps all else that the file holds, under
 * a lock, mode 0600. Source: docker/cli's config file and docker-credential-helpers' protocol. */
#include "image/auth.h"

#include "core/fs.h"
#include "core/proc.h"

enum { CONFIG_MAX = 1 << 20, HELPER_TIMEOUT_MS = 30000 };
#define HUB_KEY "https://index.docker.io/v1/"

static void wipe(char **s) {
    if (*s)
        explicit_bzero(*s, strlen(*s));
    free(*s);
    *s = NULL;
}

void credential_done(struct credential *c) {
    wipe(&c->user);
    wipe(&c->pass);
    wipe(&c->identity);
}

static void wipe_buf(struct buf *b) {
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_done(b);
}

static bool is_hub(const char *host) {
    return streq(host, "docker.io") || streq(host, "index.docker.io") || streq(host, "registry-1.docker.io");
}

/* "https://host:port/v1/" and "host:port" name the same registry. */
static bool same_registry(struct sv key, const char *registry) {
    ssize_t scheme = sv_find(key, SV("://"));
    if (scheme >= 0)
        key = sv_sub(key, (size_t)scheme + 3, key.n);
    ssize_t slash = sv_chr(key, '/');
    char host[300];
    if (slash >= 0)
        key = sv_sub(key, 0, (size_t)slash);
    if (key.n >= sizeof host)
        return false;
    memcpy(host, key.p, key.n);
    host[key.n] = 0;
    return streq(host, registry) || (is_hub(host) && is_hub(registry));
}

static const char *config_key(const char *registry) { return is_hub(registry) ? HUB_KEY : registry; }

/* malloc; NULL when there is no home. */
static char *user_config(void) {
    const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
    if (dir && *dir)
        return path_join(dir, "config.json");
    return home && *home ? path_join(home, ".docker/config.json") : NULL;
}

/* --- helpers ------------------------------------------------------------------------------- */

static bool helper_name_ok(const char *s) {
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return n > 0 && !s[n] && n < 100 && s[0] != '-' && s[0] != '.';
}

static int helper_run(const char *name, const char *verb, struct sv in, struct buf *out, struct err *e) {
    if (!helper_name_ok(name))
        return err_set(e, ERR_CONFIG, -EINVAL, "the credential helper's name \"%.60s\" is not valid", name);
    _cleanup_free_ char *program = xasprintf("docker-credential-%s", name);
    const char *argv[] = {program, verb, NULL};
    struct proc_spec spec = {.argv = argv};
    int r = proc_run(&spec, in, out, NULL, HELPER_TIMEOUT_MS, e);
    if (r < 0)
        return err_wrap(e, r, "%s", program);
    if (r > 0)
        return err_set(e, ERR_AUTH, -ECHILD, "%s %s failed (%d)", program, verb, r);
    return 0;
}

static int helper_get(const char *name, const char *registry, struct credential *ret) {
    struct buf out = BUF_SMALL;
    struct arena a = {0};
    struct json *j;
    int r = helper_run(name, "get", sv_from(config_key(registry)), &out, NULL);
    if (r == 0)
        r = json_parse(&a, buf_sv(&out), &j, NULL);
    if (r == 0) {
        const char *user = json_get_str(j, "Username", ""), *secret = json_get_str(j, "Secret", "");
        if (!*secret)
            r = -ENOENT;
        else if (streq(user, "<token>"))
            ret->identity = xstrdup(secret);
        else
            ret->user = xstrdup(user), ret->pass = xstrdup(secret);
    }
    wipe_buf(&out);
    arena_done(&a);
    return r;
}

/* --- reading ------------------------------------------------------------------------------- */

static void split_auth(const char *text, struct credential *ret) {
    struct buf b = BUF_SMALL;
    if (base64_decode(sv_from(text), &b) == 0 && b.n) {
        char *colon = memchr(b.p, ':', b.n);
        if (colon && !memchr(b.p, 0, b.n)) {
            ret->user = xstrndup(b.p, (size_t)(colon - b.p));
            ret->pass = xstrndup(colon + 1, (size_t)(b.p + b.n - colon - 1));
        }
    }
    wipe_buf(&b);
}

static const struct json *find_key(const struct json *o, const char *registry) {
    const struct json *exact = json_get(o, config_key(registry));
    if (exact)
        return exact;
    for (size_t i = 0; o && o->kind == JSON_OBJECT && i < o->n; i++)
        if (same_registry(o->keys[i], registry))
            return o->items[i];
    return NULL;
}

static bool from_auths(const struct json *root, const char *registry, struct credential *ret) {
    const struct json *entry = find_key(json_get(root, "auths"), registry);
    const char *token = json_get_str(entry, "identitytoken", ""), *auth = json_get_str(entry, "auth", "");
    if (*token) {
        ret->identity = xstrdup(token);
        return true;
    }
    if (*auth)
        split_auth(auth, ret);
    else if (*json_get_str(entry, "username", ""))
        ret->user = xstrdup(json_get_str(entry, "username", "")), ret->pass = xstrdup(json_get_str(entry, "password", ""));
    return ret->user != NULL;
}

/* 1 found, 0 not, negative: the file is there and wrong. */
static int from_file(const char *path, const char *registry, struct credential *ret, struct err *e) {
    struct buf b = BUF_MAX(CONFIG_MAX);
    struct arena a = {0};
    struct json *root = NULL;
    int r = fs_read(AT_FDCWD, path, &b, NULL);
    if (r < 0) {
        buf_done(&b);
        return r == -ENOENT || r == -ENOTDIR || r == -EACCES ? 0 : err_errno(e, r, "%s", path);
    }
    if (sv_trim(buf_sv(&b)).n) {
        r = json_parse(&a, buf_sv(&b), &root, e);
        if (r < 0)
            err_wrap(e, r, "%s", path);
    }
    bool found = false;
    if (r >= 0) {
        const char *helper = json_str(find_key(json_get(root, "credHelpers"), registry), NULL);
        const char *store = json_get_str(root, "credsStore", NULL);
        found = (helper && *helper && helper_get(helper, registry, ret) == 0) ||
                (!helper && store && *store && helper_get(store, registry, ret) == 0) || from_auths(root, registry, ret);
    }
    wipe_buf(&b);
    arena_done(&a);
    return r < 0 ? r : found;
}

int credential_find(const struct registry_conf *conf, const char *registry, struct credential *ret, struct err *e) {
    struct credential c = {0};
    int r = 0;
    if (conf && conf->auth_file)
        r = from_file(conf->auth_file, registry, &c, e);
    if (r == 0 && !(conf && conf->no_user_auth)) {
        _cleanup_free_ char *path = user_config();
        if (path)
            r = from_file(path, registry, &c, e);
    }
    if (r < 0) {
        credential_done(&c);
        return r;
    }
    *ret = c;
    return 0;
}

/* --- writing ------------------------------------------------------------------------------- */

struct edit {
    const char *registry;
    const char *user, *pass; /* NULL: remove */
    bool removed;
};

static void write_auths(struct json_w *w, const struct json *old, struct edit *ed) {
    jw_obj(w);
    for (size_t i = 0; old && old->kind == JSON_OBJECT && i < old->n; i++) {
        if (same_registry(old->keys[i], ed->registry)) {
            ed->removed = true;
            continue;
        }
        jw_keysv(w, old->keys[i]);
        jw_json(w, old->items[i]);
    }
    if (ed->user) {
        struct buf pair = BUF_SMALL, b64 = BUF_SMALL;
        buf_addf(&pair, "%s:%s", ed->user, ed->pass);
        buf_add_base64(&b64, pair.p, pair.n);
        jw_key(w, config_key(ed->registry));
        jw_obj(w);
        jw_kstr(w, "auth", buf_str(&b64));
        jw_end_obj(w);
        wipe_buf(&pair);
        wipe_buf(&b64);
    }
    jw_end_obj(w);
}

static void write_config(struct buf *out, const struct json *root, struct edit *ed) {
    struct json_w w;
    bool seen = false;
    jw_init(&w, out, 8);
    jw_obj(&w);
    for (size_t i = 0; root && root->kind == JSON_OBJECT && i < root->n; i++) {
        jw_keysv(&w, root->keys[i]);
        if (sv_eqs(root->keys[i], "auths")) {
            seen = true;
            write_auths(&w, root->items[i], ed);
        } else {
            jw_json(&w, root->items[i]);
        }
    }
    if (!seen) {
        jw_key(&w, "auths");
        write_auths(&w, NULL, ed);
    }
    jw_end_obj(&w);
    buf_addc(out, '\n');
}

/* Which helper keeps this registry's credentials, or NULL. */
static const char *helper_for(const struct json *root, const char *registry) {
    const char *h = json_str(find_key(json_get(root, "credHelpers"), registry), NULL);
    h = h ? h : json_get_str(root, "credsStore", NULL);
    return h && *h ? h : NULL;
}

static int helper_edit(const char *helper, struct edit *ed, struct err *e) {
    struct buf in = BUF_SMALL;
    if (ed->user) {
        struct json_w w;
        jw_init(&w, &in, 0);
        jw_obj(&w);
        jw_kstr(&w, "ServerURL", config_key(ed->registry));
        jw_kstr(&w, "Username", ed->user);
        jw_kstr(&w, "Secret", ed->pass);
        jw_end_obj(&w);
    } else {
        buf_adds(&in, config_key(ed->registry));
    }
    int r = helper_run(helper, ed->user ? "store" : "erase", buf_sv(&in), NULL, e);
    wipe_buf(&in);
    ed->removed = r == 0;
    return r;
}

static int edit_file(const char *path, struct edit *ed, struct err *e) {
    _cleanup_free_ char *dir = path_dir(path), *lock_name = xasprintf("%s.slipway-lock", path);
    struct buf b = BUF_MAX(CONFIG_MAX), out = BUF_MAX(CONFIG_MAX);
    struct arena a = {0};
    struct json *root = NULL;
    int r = ed->user ? fs_mkdirs(AT_FDCWD, dir, 0700) : fs_exists(AT_FDCWD, path) ? 0 : -ENOENT;
    if (r < 0)
        return r == -ENOENT ? 0 : err_errno(e, r, "%s", dir);
    _cleanup_close_ int lock = lock_file(AT_FDCWD, lock_name, true, true);
    r = fs_read(AT_FDCWD, path, &b, NULL);
    if (r == -ENOENT)
        r = 0;
    if (r < 0)
        err_errno(e, r, "%s", path);
    if (r >= 0 && sv_trim(buf_sv(&b)).n && (r = json_parse(&a, buf_sv(&b), &root, e)) < 0)
        err_wrap(e, r, "%s", path);
    if (r >= 0) {
        const char *helper = helper_for(root, ed->registry);
        if (helper) {
            r = helper_edit(helper, ed, e);
        } else {
            write_config(&out, root, ed);
            r = buf_ok(&out) ? fs_write(AT_FDCWD, path, buf_sv(&out), 0600, true, e) : -EFBIG;
        }
    }
    unlink(lock_name);
    wipe_buf(&b);
    wipe_buf(&out);
    arena_done(&a);
    return r < 0 ? r : 0;
}

int credential_store(const char *auth_file, const char *registry, const char *user, const char *pass, struct err *e) {
    _cleanup_free_ char *path = auth_file ? xstrdup(auth_file) : user_config();
    struct edit ed = {registry, user, pass, false};
    if (!path)
        return err_set(e, ERR_ENV, -ENOENT, "there is no home folder to keep credentials in (HOME, DOCKER_CONFIG)");
    if (strchr(user, ':'))
        return err_set(e, ERR_USER, -EINVAL, "a user name cannot have a ':'");
    return edit_file(path, &ed, e);
}

int registry_logout(const char *auth_file, const char *registry, struct err *e) {
    _cleanup_free_ char *path = auth_file ? xstrdup(auth_file) : user_config();
    struct edit ed = {.registry = registry};
    int r = path ? edit_file(path, &ed, e) : 0;
    if (r == 0 && !ed.removed)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "not logged in to %s", registry);
    return r;
}
