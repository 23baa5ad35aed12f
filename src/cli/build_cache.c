/* --cache-from and --cache-to. A cache is an image (build/cache_io.h): in a registry under its own name,
 * in a folder as an OCI layout, or the built image itself. */
#include "build/cache_io.h"
#include "cli/build_cmd.h"
#include "core/fs.h"
#include "core/proc.h"

#include <pthread.h>

struct spec {
    char *type, *ref, *dir;
};

static void spec_done(struct spec *s) {
    free(s->type);
    free(s->ref);
    free(s->dir);
}
#define _cleanup_spec_ _cleanup_(spec_done)

/* "type=registry,ref=R"; a name alone is an image. */
static void spec_read(const char *text, struct spec *s) {
    struct sv rest = sv_from(text), part;
    *s = (struct spec){0};
    if (!strchr(text, '=')) {
        s->type = xstrdup("registry");
        s->ref = xstrdup(text);
        return;
    }
    while (sv_split(&rest, ',', &part)) {
        ssize_t eq = sv_chr(part, '=');
        struct sv key = eq < 0 ? part : sv_n(part.p, (size_t)eq), v = eq < 0 ? SV("") : sv_sub(part, (size_t)eq + 1, part.n);
        char **to = sv_eqs(key, "type") ? &s->type : sv_eqs(key, "ref") ? &s->ref : sv_eqs(key, "src") || sv_eqs(key, "dest") ? &s->dir : NULL;
        if (to) {
            free(*to);
            *to = sv_dup(v);
        }
    }
    if (!s->type)
        s->type = xstrdup("");
}

/* --- from ----------------------------------------------------------------------------------- */

struct archive {
    const char *dir;
    int out, r;
    struct err err;
};

static void *archive_thread(void *arg) {
    struct archive *a = arg;
    const struct proc_spec p = {.argv = (const char *const[]){"tar", "-C", a->dir, "-cf", "-", "index.json", "oci-layout", "blobs", NULL},
                                .fds = {{1, a->out}, {2, 2}}, .n_fds = 2};
    pid_t pid;
    a->r = proc_spawn(&p, &pid, &a->err);
    close(a->out);
    if (a->r >= 0 && proc_wait(pid) != 0)
        a->r = err_set(&a->err, ERR_FAILED, -EIO, "reading %s", a->dir);
    return NULL;
}

static int load_folder(struct cli_ctx *c, const char *dir, struct strv *names, struct err *e) {
    int p[2];
    pthread_t t;
    struct archive a = {.dir = dir};
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    a.out = p[1];
    if (pthread_create(&t, NULL, archive_thread, &a) != 0) {
        close(p[0]);
        close(p[1]);
        return err_errno(e, -EAGAIN, "thread");
    }
    int r = image_load(c->store, c->lease, p[0], names, e);
    close(p[0]);
    pthread_join(t, NULL);
    return r;
}

static int take(struct cli_ctx *c, const struct spec *s, const volatile int *cancel, size_t *n, struct err *e) {
    _cleanup_image_ struct image *img = NULL;
    _cleanup_strv_ struct strv names = {0};
    int r;
    if (streq(s->type, "registry") && s->ref) {
        struct pull_options o = c->pulls;
        o.policy = PULL_ALWAYS;
        o.hasty = o.any_platform = true; /* a cache alone is for none */
        o.label = CACHE_LABEL;
        o.standin = NULL;
        o.cancel = cancel;
        r = image_get(c->store, c->lease, s->ref, &o, &img, e);
    } else if (streq(s->type, "local") && s->dir) {
        r = load_folder(c, s->dir, &names, e);
        if (r >= 0 && !names.n)
            r = err_set(e, ERR_USER, -ENOENT, "there is no image in it");
        if (r >= 0)
            r = image_find(c->store, c->lease, names.v[0], &img, e) == 1 ? 0 : -ENOENT;
    } else {
        return err_set(e, ERR_USER, -ENOTSUP, "not yet (type=registry,ref=… and type=local,src=… are there)");
    }
    return r < 0 ? r : cache_import(c->store, c->lease, img, n, e);
}

int build_cache_read(struct cli_ctx *c, const struct build_args *a, const volatile int *cancel, struct err *e) {
    for (size_t i = 0; i < a->cache_from.n; i++) {
        _cleanup_spec_ struct spec s;
        struct err why = {0};
        size_t n = 0;
        spec_read(a->cache_from.v[i], &s);
        int r = take(c, &s, cancel, &n, &why);
        if (cancel && *cancel)
            return err_set(e, ERR_CANCELLED, -ECANCELED, "cancelled");
        if (a->quiet)
            continue;
        if (r < 0)
            fprintf(stderr, "slipway: warning: --cache-from %s: %s\n", a->cache_from.v[i], why.msg[0] ? why.msg : strerror(-r));
        else
            fprintf(stderr, "slipway: --cache-from %s: %zu steps taken over\n", a->cache_from.v[i], n);
    }
    return 0;
}

/* --- to ------------------------------------------------------------------------------------- */

int build_cache_wanted(const struct build_args *a, bool *ret_inline, struct err *e) {
    int wanted = 0;
    for (size_t i = 0; i < a->cache_to.n; i++) {
        _cleanup_spec_ struct spec s;
        spec_read(a->cache_to.v[i], &s);
        if (streq(s.type, "inline"))
            *ret_inline = true;
        else if ((streq(s.type, "registry") && s.ref) || (streq(s.type, "local") && s.dir))
            wanted = 1;
        else if (streq(s.type, "gha"))
            fprintf(stderr, "slipway: warning: --cache-to type=gha: not yet; the builder's own cache keeps the steps\n");
        else
            return err_set(e, ERR_USER, -EINVAL, "--cache-to %s: type=inline, type=registry,ref=… or type=local,dest=…", a->cache_to.v[i]);
    }
    return wanted;
}

struct saved {
    struct cli_ctx *c;
    const char *id;
};

static int save(void *arg, int fd, struct err *e) {
    struct saved *s = arg;
    return image_save(s->c->store, s->c->lease, &s->id, 1, true, fd, e);
}

int build_cache_write(struct cli_ctx *c, const struct build_args *a, const struct cache_out *o, const volatile int *cancel, struct err *e) {
    char id[DIGEST_LEN + 1], digest[DIGEST_LEN + 1];
    int r = cache_export(c->store, c->lease, o, id, e);
    for (size_t i = 0; i < a->cache_to.n && r >= 0; i++) {
        _cleanup_spec_ struct spec s;
        spec_read(a->cache_to.v[i], &s);
        if (streq(s.type, "registry")) {
            struct push_options po = {.conf = &c->registry, .cancel = cancel};
            uint64_t sent;
            r = image_push(c->store, c->lease, id, s.ref, &po, digest, &sent, e);
        } else if (streq(s.type, "local")) {
            r = build_folder_from_tar(s.dir, save, &(struct saved){c, id}, e);
        }
        if (r < 0)
            err_wrap(e, r, "--cache-to %s", a->cache_to.v[i]);
    }
    return r < 0 ? r : 0;
}
