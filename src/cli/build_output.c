/* What becomes of a build's result: names in the store, a push, archives, a folder, the metadata. */
#include "build/context.h"
#include "build/export.h"
#include "cli/build_cmd.h"
#include "cli/ui.h"
#include "core/fs.h"
#include "core/json.h"
#include "image/image.h"

#include <pthread.h>
#include <sys/stat.h>

/* --- options -------------------------------------------------------------------------------- */

static int output_read(struct build_outputs *all, const char *text, struct err *e) {
    static const char *const kinds[] = {"image", "registry", "local", "tar", "oci", "docker", "cacheonly"};
    struct build_output *o = &all->items[all->n];
    struct sv rest = sv_from(text), part;
    *o = (struct build_output){.kind = OUT_LOCAL};
    if (all->n + 1 >= ELEMENTS(all->items))
        return err_set(e, ERR_USER, -E2BIG, "too many --output");
    if (!strchr(text, '=') || streq(text, "-")) { /* a folder; "-" is a tar on stdout */
        strv_add(&all->strings, text);
        o->dest = all->strings.v[all->strings.n - 1];
        o->kind = streq(text, "-") ? OUT_TAR : OUT_LOCAL;
        all->n++;
        return 0;
    }
    bool typed = false;
    while (sv_split(&rest, ',', &part)) {
        ssize_t eq = sv_chr(part, '=');
        struct sv key = eq < 0 ? part : sv_n(part.p, (size_t)eq), v = eq < 0 ? SV("true") : sv_sub(part, (size_t)eq + 1, part.n);
        strv_addn(&all->strings, v.p, v.n);
        const char *value = all->strings.v[all->strings.n - 1];
        if (sv_eqs(key, "type")) {
            size_t i = 0;
            while (i < ELEMENTS(kinds) && !streq(kinds[i], value))
                i++;
            if (i == ELEMENTS(kinds))
                return err_set(e, ERR_USER, -EINVAL, "--output %s: type is image, registry, local, tar, oci, docker or cacheonly", text);
            o->kind = (enum build_output_kind)i;
            typed = true;
        } else if (sv_eqs(key, "dest")) {
            o->dest = value;
        } else if (sv_eqs(key, "name")) {
            strv_add(&all->names, value);
        } else if (sv_eqs(key, "push")) {
            o->push = streq(value, "true") || streq(value, "1");
        } else if (sv_eqs(key, "compression")) {
            o->zstd = streq(value, "zstd");
            if (!o->zstd && !streq(value, "gzip"))
                return err_set(e, ERR_USER, -ENOTSUP, "--output %s: not yet: compression %s (gzip and zstd are there)", text, value);
        } else if (!sv_eqs(key, "oci-mediatypes") && !sv_eqs(key, "tar") && !sv_eqs(key, "unpack") && !sv_eqs(key, "store") &&
                   !sv_eqs(key, "force-compression") && !sv_eqs(key, "compression-level") && !sv_eqs(key, "name-canonical")) {
            return err_set(e, ERR_USER, -ENOTSUP, "--output %s: not yet: \"" SV_FMT "\"", text, SV_ARG(key));
        }
    }
    if (!typed)
        return err_set(e, ERR_USER, -EINVAL, "--output %s: type is missing", text);
    if (o->kind == OUT_LOCAL && !o->dest)
        return err_set(e, ERR_USER, -EINVAL, "--output %s: dest=FOLDER is missing", text);
    if (o->kind == OUT_REGISTRY)
        o->push = true;
    all->n++;
    return 0;
}

int build_outputs_read(const struct build_args *a, struct build_outputs *ret, struct err *e) {
    for (size_t i = 0; i < a->outputs.n; i++) {
        int r = output_read(ret, a->outputs.v[i], e);
        if (r < 0)
            return r;
    }
    if (a->push) {
        bool there = false;
        for (size_t i = 0; i < ret->n; i++)
            if (ret->items[i].kind == OUT_IMAGE)
                there = ret->items[i].push = true;
        if (!there)
            ret->items[ret->n++] = (struct build_output){.kind = OUT_REGISTRY, .push = true};
    }
    for (size_t i = 0; i < ret->n; i++)
        if (ret->items[i].push && !a->tags.n && !ret->names.n)
            return err_set(e, ERR_USER, -EINVAL, "a push needs a name: -t REGISTRY/NAME:TAG");
    return 0;
}

void build_outputs_done(struct build_outputs *o) {
    strv_done(&o->strings);
    strv_done(&o->names);
}

/* --- archives and folders ------------------------------------------------------------------- */

/* A file that appears whole or not at all; "-" is stdout. */
struct target {
    int fd;
    char *temp;
    const char *dest;
};

static int target_open(struct target *t, const char *dest, struct err *e) {
    *t = (struct target){.fd = 1, .dest = dest};
    if (!dest || streq(dest, "-")) {
        if (isatty(1))
            return err_hint(e, err_set(e, ERR_USER, -EINVAL, "an archive is not written to a terminal"), "dest=FILE");
        t->dest = NULL;
        return 0;
    }
    t->temp = xasprintf("%s.part-%d", dest, (int)getpid());
    t->fd = open(t->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return t->fd < 0 ? err_errno(e, -errno, "%s", t->temp) : 0;
}

static int target_close(struct target *t, int r, struct err *e) {
    if (t->temp && t->fd >= 0) {
        if (close(t->fd) < 0 && r >= 0)
            r = err_errno(e, -errno, "%s", t->dest);
        if (r >= 0 && rename(t->temp, t->dest) < 0)
            r = err_errno(e, -errno, "%s", t->dest);
        if (r < 0)
            (void)unlink(t->temp);
    }
    free(t->temp);
    return r;
}

static int write_archive(struct cli_ctx *c, const struct build_args *a, const struct build_outputs *all, const struct build_output *o,
                         const struct build_made *made, size_t n, struct err *e) {
    struct target t;
    struct strv refs = {0};
    int r = target_open(&t, o->dest, e);
    strv_extend(&refs, (const char *const *)a->tags.v);
    strv_extend(&refs, (const char *const *)all->names.v);
    for (size_t i = 0; i < n && (!refs.n || n > 1); i++)
        strv_add(&refs, made[i].res.id);
    if (r >= 0)
        r = image_save(c->store, c->lease, (const char *const *)refs.v, refs.n, o->kind == OUT_OCI, t.fd, e);
    strv_done(&refs);
    return target_close(&t, r, e);
}

static int to_fd(void *arg, const void *p, size_t n) { return fd_write_all(*(int *)arg, p, n); }

struct unpack {
    int in, dir, r;
    struct err err;
};

static void *unpack_thread(void *arg) {
    struct unpack *u = arg;
    u->r = context_unpack(u->in, u->dir, &u->err);
    char rest[65536];
    while (read(u->in, rest, sizeof rest) > 0) /* so that the writer ends */
        ;
    return NULL;
}

int build_folder_from_tar(const char *dest, int (*make)(void *arg, int fd, struct err *e), void *arg, struct err *e) {
    int p[2];
    pthread_t thread;
    int r = fs_mkdirs(AT_FDCWD, dest, 0755);
    struct unpack u = {.dir = r < 0 ? -1 : open(dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (u.dir < 0)
        return err_errno(e, r < 0 ? r : -errno, "%s", dest);
    if (pipe2(p, O_CLOEXEC) < 0) {
        close(u.dir);
        return err_errno(e, -errno, "pipe");
    }
    u.in = p[0];
    if (pthread_create(&thread, NULL, unpack_thread, &u) != 0) {
        close(p[0]);
        close(p[1]);
        close(u.dir);
        return err_errno(e, -EAGAIN, "thread");
    }
    r = make(arg, p[1], e);
    close(p[1]);
    pthread_join(thread, NULL);
    close(p[0]);
    close(u.dir);
    if (u.r < 0) {
        *e = u.err;
        r = u.r;
    }
    return r < 0 ? err_wrap(e, r, "writing to %s", dest) : 0;
}

struct whole {
    struct cli_ctx *c;
    const char *id;
};

static int whole_tar(void *arg, int fd, struct err *e) {
    struct whole *w = arg;
    return build_export_tar(w->c->store, w->c->lease, w->id, to_fd, &fd, e);
}

static int write_folder(struct cli_ctx *c, const char *dest, const char *id, struct err *e) {
    return build_folder_from_tar(dest, whole_tar, &(struct whole){c, id}, e);
}

static int write_tar(struct cli_ctx *c, const struct build_output *o, const char *id, struct err *e) {
    struct target t;
    int r = target_open(&t, o->dest, e);
    if (r >= 0)
        r = build_export_tar(c->store, c->lease, id, to_fd, &t.fd, e);
    return target_close(&t, r, e);
}

/* --- registries ----------------------------------------------------------------------------- */

static int push(struct cli_ctx *c, const char *id, const char *ref, bool zstd, const volatile int *cancel, char digest[DIGEST_LEN + 1],
                struct err *e) {
    struct push_options o = {.conf = &c->registry, .cancel = cancel, .zstd = zstd};
    uint64_t sent = 0;
    int r = image_push(c->store, c->lease, id, ref, &o, digest, &sent, e);
    if (r < 0)
        return r;
    _cleanup_buf_ struct buf size = BUF_SMALL;
    buf_add_size(&size, sent);
    fprintf(stderr, "pushed %s %s (%s sent)\n", ref, digest, buf_str(&size));
    return 0;
}

static int push_all(struct cli_ctx *c, const struct build_args *a, const struct build_outputs *all, const struct build_output *o,
                    const struct build_made *made, size_t n, const volatile int *cancel, char digest[DIGEST_LEN + 1], struct err *e) {
    _cleanup_strv_ struct strv refs = {0};
    strv_extend(&refs, (const char *const *)a->tags.v);
    strv_extend(&refs, (const char *const *)all->names.v);
    for (size_t i = 0; i < refs.n; i++) {
        int r;
        if (n > 1) {
            const char *ids[32];
            for (size_t k = 0; k < n; k++)
                ids[k] = made[k].res.id;
            struct push_options po = {.conf = &c->registry, .cancel = cancel, .zstd = o->zstd};
            r = image_push_index(c->store, c->lease, ids, n, refs.v[i], &po, digest, e);
            if (r >= 0)
                fprintf(stderr, "pushed %s %s (index of %zu platforms)\n", refs.v[i], digest, n);
        } else {
            r = push(c, made[0].res.id, refs.v[i], o->zstd, cancel, digest, e);
        }
        if (r < 0)
            return err_wrap(e, r, "push %s", refs.v[i]);
    }
    return 0;
}

int build_outputs_write(struct cli_ctx *c, const struct build_args *a, const struct build_outputs *all, const struct build_made *made,
                        size_t n, const volatile int *cancel, char digest[DIGEST_LEN + 1], struct err *e) {
    int r = 0;
    digest[0] = 0;
    for (size_t i = 0; i < all->names.n && r >= 0; i++)
        r = image_tag(c->store, made[0].res.id, all->names.v[i], e);
    for (size_t i = 0; i < all->n && r >= 0; i++) {
        const struct build_output *o = &all->items[i];
        if (o->kind == OUT_OCI || (o->kind == OUT_DOCKER && o->dest))
            r = write_archive(c, a, all, o, made, n, e);
        for (size_t k = 0; k < n && r >= 0 && (o->kind == OUT_LOCAL || o->kind == OUT_TAR); k++) {
            _cleanup_free_ char *dest = NULL;
            if (n > 1 && o->kind == OUT_TAR)
                return err_set(e, ERR_USER, -ENOTSUP, "--output type=tar takes one platform");
            if (n > 1) { /* out/linux_arm64 */
                _cleanup_free_ char *name = xstrdup(made[k].platform);
                for (char *p = name; *p; p++)
                    *p = *p == '/' ? '_' : *p;
                dest = path_join(o->dest, name);
            }
            r = o->kind == OUT_TAR ? write_tar(c, o, made[k].res.id, e) : write_folder(c, dest ? dest : o->dest, made[k].res.id, e);
        }
        if (r >= 0 && o->push)
            r = push_all(c, a, all, o, made, n, cancel, digest, e);
    }
    return r < 0 ? r : 0;
}

int build_metadata_write(struct cli_ctx *c, const struct build_args *a, const struct build_made *made, size_t n, const char *digest,
                         struct err *e) {
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20), names = BUF_MAX(1u << 20);
    struct json_w w;
    if (!a->metadata)
        return 0;
    jw_init(&w, &t, 2);
    jw_obj(&w);
    jw_kstr(&w, "containerimage.config.digest", made[0].res.id);
    if (digest[0])
        jw_kstr(&w, "containerimage.digest", digest);
    for (size_t i = 0; i < a->tags.n; i++)
        buf_addf(&names, "%s%s", i ? "," : "", a->tags.v[i]);
    if (names.n)
        jw_kstr(&w, "image.name", buf_str(&names));
    if (n > 1) {
        jw_key(&w, "slipway.platforms");
        jw_obj(&w);
        for (size_t i = 0; i < n; i++)
            jw_kstr(&w, made[i].platform, made[i].res.id);
        jw_end_obj(&w);
    }
    jw_end_obj(&w);
    buf_addc(&t, '\n');
    return fs_write(AT_FDCWD, a->metadata, buf_sv(&t), 0644, false, e);
}
