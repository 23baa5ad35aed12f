/* A pull-through mirror: what a client asks for and is not here is fetched from the upstream registry
 * first, then answered from here. Tags are looked up there each time (they move) and answered from
 * here when nobody answers there; what has a digest is fetched once. Repositories are kept under the
 * upstream's name ("docker.io/library/debian"). */
#include "image/registry_internal.h"
#include "image/remote.h"

#include "core/map.h"

#include <pthread.h>

enum { REMOTES_MAX = 512 };

struct reg_mirror {
    char *registry; /* as references name it */
    char *url;      /* when it was given by one, else NULL */
    const struct registry_conf *conf;
    pthread_mutex_t lock;
    struct map remotes; /* repository -> struct remote */
};

static void free_remote(void *p) { remote_free(p); }

int reg_mirror_new(struct reg_mirror **ret, const char *upstream, const struct registry_conf *conf, struct err *e) {
    const char *host = strstr(upstream, "://");
    host = host ? host + 3 : upstream;
    size_t n = strcspn(host, "/");
    struct image_ref ref;
    _cleanup_free_ char *probe = xasprintf("%.*s/x", (int)n, host);
    if (ref_parse(probe, &ref, NULL) < 0)
        return err_set(e, ERR_USER, -EINVAL, "\"%s\" is not a registry (docker.io, https://registry.example.org)", upstream);
    struct reg_mirror *m = xcalloc(1, sizeof *m);
    m->registry = streq(ref.registry, "docker.io") ? xstrdup("docker.io") : xstrndup(host, n);
    m->url = host == upstream || streq(m->registry, "docker.io") ? NULL : xstrdup(upstream);
    m->conf = conf;
    m->remotes.free_value = free_remote;
    pthread_mutex_init(&m->lock, NULL);
    *ret = m;
    return 0;
}

void reg_mirror_free(struct reg_mirror *m) {
    if (!m)
        return;
    map_done(&m->remotes);
    pthread_mutex_destroy(&m->lock);
    free(m->registry);
    free(m->url);
    free(m);
}

/* "debian", "library/debian" and "docker.io/library/debian" are the same of Docker Hub's. */
char *reg_mirror_repo(const struct reg_mirror *m, const char *name) {
    const char *path = startswith(name, m->registry);
    path = path && *path == '/' ? path + 1 : name;
    bool library = streq(m->registry, "docker.io") && !strchr(path, '/');
    return xasprintf("%s/%s%s", m->registry, library ? "library/" : "", path);
}

/* The remote of a repository stays: it holds the token. */
static struct remote *remote_of(struct op *op, struct err *e) {
    struct reg_mirror *m = op->r->mirror;
    struct remote_options o = {.conf = m->conf, .registry = m->registry, .path = op->repo + strlen(m->registry) + 1, .mirror = m->url};
    pthread_mutex_lock(&m->lock);
    struct remote *r = map_gets(&m->remotes, op->repo);
    if (!r && m->remotes.live >= REMOTES_MAX)
        err_set(e, ERR_LIMIT, -EMFILE, "more than %d repositories are mirrored at once", REMOTES_MAX);
    else if (!r && remote_new(&r, &o, e) == 0)
        map_sets(&m->remotes, op->repo, r);
    pthread_mutex_unlock(&m->lock);
    return r;
}

/* Keeps a manifest of the upstream's under its digest, and the tag. */
static int keep(struct op *op, const char *digest, const struct buf *text, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct store *s = op->r->s;
    struct manifest m;
    int r = manifest_parse_kept(&a, buf_sv(text), &m, e);
    if (r == 0)
        r = rr_link(s, op->repo, digest, digest, e);
    if (r == 0)
        r = blob_put(s, buf_sv(text), NULL, e);
    const char *tag = op->ref;
    uint64_t total = text->n + (m.kind == MANIFEST_IMAGE ? m.config.size : 0);
    for (size_t i = 0; r == 0 && m.kind == MANIFEST_IMAGE && i < m.n; i++)
        total += MIN(m.entries[i].size, UINT64_MAX - total);
    struct rr_put put = {.repo = op->repo, .digest = digest, .blob = digest, .m = &m, .size = text->n, .total = total,
                         .tags = &tag, .n_tags = !digest_valid_any(sv_from(op->ref))};
    return r < 0 ? r : rr_put(s, &put, e);
}

bool reg_mirror_manifest(struct op *op) {
    struct err e = {0};
    struct rr_found here = {0};
    char digest[DIGEST_LEN + 1];
    _cleanup_buf_ struct buf text = BUF_MAX(MANIFEST_MAX);
    bool by_digest = digest_valid_any(sv_from(op->ref));
    int have = rr_resolve(op->r->s, op->repo, op->ref, &here);
    free(here.media);
    if (have == 1 && by_digest)
        return false;
    struct remote *r = remote_of(op, &e);
    int q = r ? remote_manifest(r, op->ref, &text, digest, &e) : -EIO;
    if (q == 0)
        q = keep(op, digest, &text, &e);
    if (q == 0 || (have == 1 && q != -ENOENT))
        return false; /* as it is now, or as it was when the upstream was last seen */
    op_error(op, q == -ENOENT ? 404 : 502, "MANIFEST_UNKNOWN", "%s", e.msg);
    return true;
}

bool reg_mirror_blob(struct op *op) {
    struct err e = {0};
    char blob[DIGEST_LEN + 1];
    uint64_t size = 0;
    if (!digest_valid(sv_from(op->ref)) || rr_blob(op->r->s, op->repo, op->ref, blob) == 1)
        return false;
    struct remote *r = remote_of(op, &e);
    int q = r ? remote_blob_size(r, op->ref, &size, &e) : -EIO;
    if (q == 0 && size > op->r->max_blob)
        q = err_set(&e, ERR_LIMIT, -EFBIG, "the blob is larger than this mirror takes");
    if (q == 0 && streq(op->method, "HEAD")) { /* to be told needs no copy */
        op->status = 200;
        op_header(op, "Docker-Content-Digest", "%s", op->ref);
        op_header(op, "Content-Length", "%llu", (unsigned long long)size);
        return true;
    }
    if (q == 0)
        q = rr_link(op->r->s, op->repo, op->ref, NULL, &e);
    if (q == 0)
        q = remote_blob(r, op->r->s, op->ref, size, NULL, &e);
    if (q == 0)
        return false;
    op_error(op, q == -ENOENT ? 404 : q == -ENOSPC ? 507 : 502, "BLOB_UNKNOWN", "%s", e.msg);
    return true;
}
