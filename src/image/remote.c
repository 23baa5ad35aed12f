/* A request to a registry: address it, add what it may have of credentials, send it, and on 401
 * get a token and send it once more. The first answer that asks for authentication decides how
 * (Basic or Bearer); the token is shared by all workers of the repository and renewed when it runs
 * out. Sources: OCI distribution-spec v1.1; distribution's token authentication specification. */
#include "image/remote.h"

#include "core/loop.h"

#include <pthread.h>
#include <strings.h>

enum { TRIES = 4, TOKEN_MAX = 64 << 10 };
#define SECOND 1000000000ull

enum scheme { AUTH_UNKNOWN, AUTH_BASIC, AUTH_BEARER };
struct remote {
    const struct registry_conf *conf;
    char *registry, *host, *base, *path, *mount_from;
    bool push, insecure_tls;
    bool hasty; /* changed by the first request only, which no other goes with */
    const volatile int *cancel;
    struct credential cred;
    pthread_mutex_t lock; /* what follows */
    enum scheme scheme;
    char *realm, *service;
    char *token;
    uint64_t token_until;
    bool no_cred_said; /* the token server is elsewhere: asked without credentials */
};

static bool loopback_host(const char *host) {
    return startswith(host, "localhost:") || streq(host, "localhost") || startswith(host, "127.") || startswith(host, "[::1]");
}

static bool insecure_named(const struct registry_conf *c, const char *host) {
    for (size_t i = 0; c && i < c->n_insecure; i++)
        if (streq(c->insecure[i], host))
            return true;
    return false;
}

const char *remote_host(const struct remote *r) { return r->host; }
const char *remote_base(const struct remote *r) { return r->base; }
const char *remote_path(const struct remote *r) { return r->path; }

void remote_mount_from(struct remote *r, const char *path) {
    pthread_mutex_lock(&r->lock);
    free(r->mount_from);
    r->mount_from = xstrdup(path);
    r->token_until = 0; /* a token with that scope */
    pthread_mutex_unlock(&r->lock);
}

void remote_free(struct remote *r) {
    if (!r)
        return;
    credential_done(&r->cred);
    if (r->token)
        explicit_bzero(r->token, strlen(r->token));
    char *strings[] = {r->registry, r->host, r->base, r->path, r->mount_from, r->realm, r->service, r->token};
    for (size_t i = 0; i < ELEMENTS(strings); i++)
        free(strings[i]);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* Does it answer there as a registry does? Nothing of ours is sent along. */
static bool answers(struct remote *r, const char *scheme) {
    _cleanup_http_ struct http_resp resp = {0};
    _cleanup_free_ char *url = xasprintf("%s://%s/v2/", scheme, r->host);
    struct http_req rq = {.url = url, .insecure_tls = true, .no_redirect = true, .connect_timeout_ms = 5000,
                          .stall_timeout_ms = 5000, .cancel = r->cancel};
    return http_do(&rq, &resp, NULL) == 0 &&
           (streq(scheme, "https") || resp.status == 200 || (resp.status == 401 && http_header(&resp, "www-authenticate")));
}

/* Loopback and insecure registries: TLS when they speak it, else plain. On the loopback plain is
 * asked first, where TLS protects nothing and is 15 ms to set up. */
static void find_scheme(struct remote *r) {
    bool tls = !(loopback_host(r->host) && answers(r, "http")) && answers(r, "https");
    r->insecure_tls = true;
    r->base = xasprintf("%s://%s", tls ? "https" : "http", r->host);
}

static int set_mirror(struct remote *r, const char *url, struct err *e) {
    const char *rest = startswith(url, "http://");
    bool plain = rest != NULL;
    if (!rest)
        rest = startswith(url, "https://");
    if (!rest)
        rest = url;
    struct sv host = sv_n(rest, strcspn(rest, "/")), prefix = sv_from(rest + host.n);
    while (prefix.n && prefix.p[prefix.n - 1] == '/')
        prefix.n--;
    while (prefix.n && prefix.p[0] == '/')
        prefix = sv_sub(prefix, 1, prefix.n);
    if (!host.n || memchr(host.p, '@', host.n))
        return err_set(e, ERR_CONFIG, -EINVAL, "not the address of a mirror: %.100s", url);
    if (sv_eqs(prefix, "v2"))
        prefix = SV("");
    free(r->host);
    r->host = sv_dup(host);
    r->base = xasprintf("%s://%s", plain ? "http" : "https", r->host);
    if (prefix.n) {
        char *path = xasprintf(SV_FMT "/%s", SV_ARG(prefix), r->path);
        free(r->path);
        r->path = path;
    }
    free(r->registry);
    r->registry = xstrdup(r->host);
    r->insecure_tls = insecure_named(r->conf, r->host);
    return 0;
}

int remote_new(struct remote **ret, const struct remote_options *o, struct err *e) {
    struct remote *r = xcalloc(1, sizeof *r);
    int q = 0;
    pthread_mutex_init(&r->lock, NULL);
    r->conf = o->conf;
    r->push = o->push;
    r->cancel = o->cancel;
    r->hasty = o->hasty;
    r->registry = xstrdup(o->registry);
    r->path = xstrdup(o->path ? o->path : "");
    r->host = xstrdup(streq(o->registry, "docker.io") ? "registry-1.docker.io" : o->registry);
    if (o->mirror)
        q = set_mirror(r, o->mirror, e);
    else if (loopback_host(r->host) || insecure_named(o->conf, o->registry))
        find_scheme(r);
    else
        r->base = xasprintf("https://%s", r->host);
    if (q == 0 && o->username && *o->username) {
        r->cred.user = xstrdup(o->username);
        r->cred.pass = xstrdup(o->password ? o->password : "");
    } else if (q == 0) {
        q = credential_find(o->conf, r->registry, &r->cred, e);
    }
    if (q < 0) {
        remote_free(r);
        return q;
    }
    *ret = r;
    return 0;
}

/* --- authentication ------------------------------------------------------------------------ */

/* The value of a challenge's parameter; malloc or NULL. */
static char *param(const char *challenge, const char *name) {
    size_t n = strlen(name);
    for (const char *p = challenge; *p;) {
        while (*p == ' ' || *p == ',' || *p == '\t')
            p++;
        const char *key = p;
        p += strcspn(p, "=, ");
        size_t len = (size_t)(p - key);
        if (*p != '=') {
            if (*p)
                p++;
            continue;
        }
        p++;
        _cleanup_buf_ struct buf v = BUF_SMALL;
        if (*p == '"') {
            for (p++; *p && *p != '"'; p++) {
                if (*p == '\\' && p[1])
                    p++;
                buf_addc(&v, *p);
            }
            if (*p)
                p++;
        } else {
            size_t k = strcspn(p, ", ");
            buf_add(&v, p, k);
            p += k;
        }
        if (len == n && strncasecmp(key, name, n) == 0)
            return buf_take(&v);
    }
    return NULL;
}

static void read_challenge(struct remote *r, const struct http_resp *resp) {
    for (size_t i = 0; i < resp->headers.n; i++) {
        const char *v = startswith(resp->headers.v[i], "www-authenticate: ");
        if (!v)
            continue;
        if (strncasecmp(v, "Bearer ", 7) == 0) {
            char *realm = param(v + 7, "realm"), *service = param(v + 7, "service");
            if (!realm) {
                free(service);
                continue;
            }
            free(r->realm);
            free(r->service);
            r->realm = realm;
            r->service = service;
            r->scheme = AUTH_BEARER;
            return;
        }
        if (strncasecmp(v, "Basic", 5) == 0)
            r->scheme = AUTH_BASIC;
    }
}

static void host_of(const char *url, char *out, size_t n) {
    const char *h = strstr(url, "://");
    h = h ? h + 3 : url;
    snprintf(out, n, "%.*s", (int)strcspn(h, "/?#"), h);
    char *at = strrchr(out, '@');
    if (at)
        memmove(out, at + 1, strlen(at + 1) + 1);
}

static const char *two_labels(const char *host) {
    const char *last = strrchr(host, '.');
    if (!last || last == host)
        return host;
    for (const char *p = last - 1; p > host; p--)
        if (p[-1] == '.')
            return p;
    return host;
}

/* May this registry's credentials go to that token server? */
static bool realm_trusted(const struct remote *r) {
    char realm[300], own[300], realm_name[300];
    host_of(r->realm, realm, sizeof realm);
    host_of(r->base, own, sizeof own);
    bool https = strncasecmp(r->realm, "https://", 8) == 0;
    if (streq(realm, own)) /* the same host: as safe as the registry's own connection */
        return https || startswith(r->base, "http://");
    if (!https)
        return loopback_host(realm) && loopback_host(own);
    snprintf(realm_name, sizeof realm_name, "%s", realm);
    realm[strcspn(realm, ":")] = 0;
    own[strcspn(own, ":")] = 0;
    if (strspn(realm, "0123456789.") == strlen(realm) || !strchr(own, '.'))
        return streq(realm, own);
    return streq(two_labels(realm), two_labels(own)) || (streq(own, "registry.redhat.io") && streq(realm, "sso.redhat.com"));
}

static void add_query(struct buf *b, const char *key, const char *value) {
    buf_addf(b, "%s%s=", strchr(buf_str(b), '?') ? "&" : "?", key);
    buf_add_urlencoded(b, sv_from(value));
}

static void add_form(struct buf *b, const char *key, const char *value) {
    buf_addf(b, "%s%s=", b->n ? "&" : "", key);
    buf_add_urlencoded(b, sv_from(value));
}

static int take_token(struct remote *r, const struct http_resp *resp, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    if (json_parse(&a, buf_sv(&resp->body), &j, NULL) < 0)
        return err_set(e, ERR_NET, -EBADMSG, "%s: the token server's answer is malformed", r->host);
    const char *t = json_get_str(j, "token", "");
    if (!*t)
        t = json_get_str(j, "access_token", "");
    if (!*t)
        return err_set(e, ERR_NET, -EBADMSG, "%s: the token server gave no token", r->host);
    int64_t ttl = json_get_int(j, "expires_in", 60);
    ttl = MAX((int64_t)30, MIN(ttl, (int64_t)3600));
    if (r->token)
        explicit_bzero(r->token, strlen(r->token));
    free(r->token);
    r->token = xstrdup(t);
    r->token_until = now_mono() + (uint64_t)(ttl - 10) * SECOND;
    return 0;
}

static void set_patience(const struct remote *r, struct http_req *rq) {
    if (!r->hasty)
        return;
    rq->connect_timeout_ms = 5000;
    rq->stall_timeout_ms = 10000;
}

/* Asks the token server. Called with the lock held. */
static int fetch_token(struct remote *r, struct err *e) {
    _cleanup_http_ struct http_resp resp = {0};
    _cleanup_buf_ struct buf url = BUF_SMALL, form = BUF_SMALL;
    char scopes[2][700];
    size_t n = 0;
    bool trusted = realm_trusted(r), have = r->cred.user || r->cred.identity;
    if (have && !trusted) {
        char realm[300];
        host_of(r->realm, realm, sizeof realm);
        return err_set(e, ERR_AUTH, -EACCES, "%s wants its credentials sent to %s, which is another site%s: refused", r->host,
                       realm, strncasecmp(r->realm, "https://", 8) ? " (and not by https)" : "");
    }
    if (r->path[0])
        snprintf(scopes[n++], sizeof scopes[0], "repository:%s:%s", r->path, r->push ? "pull,push" : "pull");
    if (r->mount_from)
        snprintf(scopes[n++], sizeof scopes[0], "repository:%s:pull", r->mount_from);
    struct http_req rq = {.insecure_tls = r->insecure_tls, .cancel = r->cancel, .max_body = TOKEN_MAX * 4};
    buf_adds(&url, r->realm);
    if (r->cred.identity) {
        add_form(&form, "grant_type", "refresh_token");
        add_form(&form, "client_id", "slipway");
        add_form(&form, "service", r->service ? r->service : "");
        add_form(&form, "refresh_token", r->cred.identity);
        for (size_t i = 0; i < n; i++)
            add_form(&form, "scope", scopes[i]);
        rq.method = "POST";
        rq.body = buf_sv(&form);
        rq.headers[rq.n_headers++] = (struct http_header){"Content-Type", "application/x-www-form-urlencoded"};
    } else {
        if (r->service)
            add_query(&url, "service", r->service);
        for (size_t i = 0; i < n; i++)
            add_query(&url, "scope", scopes[i]);
        if (r->cred.user) {
            add_query(&url, "account", r->cred.user);
            rq.basic_user = r->cred.user;
            rq.basic_pass = r->cred.pass;
        }
    }
    rq.url = buf_str(&url);
    set_patience(r, &rq);
    int q = http_do(&rq, &resp, e);
    if (form.p)
        explicit_bzero(form.p, form.cap);
    if (q < 0)
        return err_wrap(e, q, "token of %s", r->host);
    if (resp.status / 100 != 2)
        return remote_error(r, &resp, e, have ? "login" : "anonymous access");
    q = take_token(r, &resp, e);
    if (resp.body.p)
        explicit_bzero(resp.body.p, resp.body.cap);
    return q;
}

/* Puts into rq what is known. *ret_secret: to free (and zero) after the request. */
static int authorize(struct remote *r, struct http_req *rq, bool renew, char **ret_secret, struct err *e) {
    int q = 0;
    pthread_mutex_lock(&r->lock);
    if (r->scheme == AUTH_BASIC && r->cred.user) {
        rq->basic_user = r->cred.user;
        rq->basic_pass = r->cred.pass;
    } else if (r->scheme == AUTH_BEARER) {
        if (renew || !r->token || now_mono() >= r->token_until)
            q = fetch_token(r, e);
        if (q == 0)
            rq->bearer = *ret_secret = xstrdup(r->token);
    }
    pthread_mutex_unlock(&r->lock);
    return q;
}

/* --- requests ------------------------------------------------------------------------------ */

static bool pause_for(struct remote *r, uint64_t ns) {
    uint64_t until = now_mono() + ns;
    while (now_mono() < until) {
        if (r->cancel && *r->cancel)
            return false;
        usleep(50000);
    }
    return true;
}

static uint64_t pause_length(const struct http_resp *resp, unsigned attempt) {
    const char *after = resp->status ? http_header(resp, "retry-after") : NULL;
    uint64_t s;
    if (after && sv_u64(sv_from(after), 30, &s) == 0)
        return s * SECOND + SECOND / 10;
    uint16_t jitter;
    random_bytes(&jitter, sizeof jitter);
    return (SECOND / 2 << attempt) + jitter * (SECOND / 4) / 65536;
}

/* Is an absolute address the registry's own? (With or without the default port.) */
static bool own_origin(const struct remote *r, const char *url) {
    const char *rest = startswith(url, r->base);
    if (!rest)
        return false;
    const char *port = startswith(rest, startswith(r->base, "https:") ? ":443" : ":80");
    if (port && !strchr(strstr(r->base, "://") + 3, ':'))
        rest = port;
    return *rest == '/' || *rest == '?' || !*rest;
}

static bool worth_another(int q, const struct http_resp *resp) {
    if (q == 0)
        return resp->status == 429 || resp->status == 408 || (resp->status >= 500 && resp->status != 501);
    return q == -ECONNRESET || q == -ETIMEDOUT;
}

int remote_do(struct remote *r, struct http_req *rq, const char *url, struct http_resp *ret, struct err *e) {
    bool absolute = strstr(url, "://") != NULL, own = !absolute || own_origin(r, url);
    _cleanup_free_ char *full = absolute ? xstrdup(url) : xasprintf("%s%s%s", r->base, *url == '/' ? "" : "/", url);
    bool asked = false, renew = false;
    rq->url = full;
    rq->cancel = r->cancel;
    rq->insecure_tls = own && r->insecure_tls;
    set_patience(r, rq);
    for (unsigned attempt = 0;;) {
        struct http_resp resp = {0};
        char *secret = NULL;
        rq->bearer = rq->basic_user = rq->basic_pass = NULL;
        int q = own ? authorize(r, rq, renew, &secret, e) : 0;
        bool sent = q == 0, with_password = rq->basic_user != NULL;
        if (sent)
            q = http_do(rq, &resp, e);
        if (secret)
            explicit_bzero(secret, strlen(secret));
        free(secret);
        rq->bearer = NULL;
        bool again = !rq->read || (rq->rewind && rq->rewind(rq->read_arg) == 0);
        if (q == 0 && resp.status == 401 && own && !asked && again) {
            pthread_mutex_lock(&r->lock);
            read_challenge(r, &resp);
            bool can = r->scheme == AUTH_BEARER || (r->scheme == AUTH_BASIC && r->cred.user && !with_password);
            pthread_mutex_unlock(&r->lock);
            asked = renew = true;
            if (can) {
                http_resp_done(&resp);
                continue;
            }
        }
        renew = false;
        bool retry = sent && !rq->read && attempt + 1 < TRIES && !r->hasty && worth_another(q, &resp) && !(q < 0 && rq->write);
        if (retry && pause_for(r, pause_length(&resp, attempt++))) {
            http_resp_done(&resp);
            if (e)
                *e = (struct err){0};
            continue;
        }
        if (q < 0) {
            http_resp_done(&resp);
            return q;
        }
        if (r->hasty && !worth_another(0, &resp))
            r->hasty = false;
        *ret = resp;
        return 0;
    }
}

int remote_error(const struct remote *r, const struct http_resp *resp, struct err *e, const char *what) {
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    const char *msg = "", *code = "";
    char text[400] = "";
    if (resp->body.n && json_parse(&a, buf_sv(&resp->body), &j, NULL) == 0) {
        const struct json *list = json_get(j, "errors");
        if (list && list->kind == JSON_ARRAY && list->n) {
            code = json_get_str(list->items[0], "code", "");
            msg = json_get_str(list->items[0], "message", "");
        } else {
            msg = json_get_str(j, "details", json_get_str(j, "message", json_get_str(j, "error", "")));
        }
    }
    if (*msg || *code)
        snprintf(text, sizeof text, ": %.200s%s%.100s", *msg ? msg : code, *msg && *code ? " — " : "", *msg ? code : "");
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20)
            *p = ' ';
    int s = resp->status;
    enum err_kind kind = s == 404 ? ERR_NOTFOUND : s == 401 || s == 403 ? ERR_AUTH : s == 413 ? ERR_LIMIT : ERR_NET;
    int q = s == 404 ? -ENOENT : s == 401 || s == 403 ? -EACCES : s == 413 ? -EFBIG : s == 429 ? -EAGAIN : -EREMOTEIO;
    err_set(e, kind, q, "%s: %s answered %d%s", what, r->host, s, text);
    if (s == 429)
        return err_hint(e, q, "the registry limits pulls; log in (slipway login%s%s) or wait", streq(r->registry, "docker.io") ? "" : " ",
                        streq(r->registry, "docker.io") ? "" : r->registry);
    if (s == 401 || (s == 403 && !r->cred.user && !r->cred.identity))
        return err_hint(e, q, "slipway login %s%s", r->registry,
                        r->cred.user ? " (the credentials that are there were refused)" : "");
    return q;
}

bool remote_unreachable(const struct err *e) {
    return e->kind == ERR_NET && (e->errnum == EHOSTUNREACH || e->errnum == ECONNREFUSED || e->errnum == ETIMEDOUT ||
                                  e->errnum == ECONNRESET || e->errnum == EIO);
}
