/* Volumes of a job's container. One of no place on the host, with a name or without, is the job's
 * own and gone with it: its folder of the box's root, with what the image has there, as docker
 * fills a new volume. A host path must lie below the job's folder of work, under the name that it
 * has in the container or on a hosted runner; it is bound again after each checkout, which covers
 * the workspace with a mount. */
#include "core/fs.h"
#include "run/jobx.h"

#define HOSTED_WORK "/home/runner/work"

struct volume {
    const char *name;     /* or NULL */
    const char *source;   /* in the box, or NULL */
    const char *target;
    bool readonly, mounted;
};

static bool is_name(const char *s) {
    for (size_t i = 0; s[i]; i++) {
        bool word = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9');
        if (!word && (i == 0 || !strchr("_.-", s[i])))
            return false;
    }
    return *s;
}

/* A host path as the box has it, or NULL. */
static const char *below_work(struct jobx *x, const char *path) {
    _cleanup_free_ char *clean = path_clean(path);
    const char *const roots[] = {x->work, HOSTED_WORK};
    for (size_t i = 0; i < ELEMENTS(roots); i++) {
        const char *rest = startswith(clean, roots[i]);
        if (rest && (*rest == '/' || !*rest))
            return arena_printf(x->a, "%s%s", x->work, rest);
    }
    return NULL;
}

static int read_one(struct jobx *x, const char *text, struct err *e) {
    struct sv rest = sv_from(text), part[3] = {SV_NULL, SV_NULL, SV_NULL};
    size_t n = 0;
    while (n < 3 && sv_split(&rest, ':', &part[n]))
        n++;
    struct volume *v = &x->volumes[x->n_volumes];
    *v = (struct volume){.target = arena_strndup(x->a, part[n > 1].p, part[n > 1].n)};
    if (!n || *v->target != '/' || rest.n)
        return err_set(e, ERR_CONFIG, -EINVAL, "volume \"%s\" is not SOURCE:TARGET or SOURCE:TARGET:ro", text);
    struct sv flags = n == 3 ? part[2] : SV(""), flag;
    while (sv_split(&flags, ',', &flag)) {
        if (sv_eqs(flag, "ro"))
            v->readonly = true;
        else if (!sv_eqs(flag, "rw") && !sv_eqs(flag, "z") && !sv_eqs(flag, "Z") && !sv_eqs(flag, "cached") && !sv_eqs(flag, "delegated") && flag.n)
            return err_set(e, ERR_CONFIG, -EINVAL, "volume \"%s\": " SV_FMT " is not an option that is understood", text, SV_ARG(flag));
    }
    if (n > 1) {
        const char *source = arena_strndup(x->a, part[0].p, part[0].n);
        if ((streq(source, "/var/run/docker.sock") || streq(source, "/run/docker.sock")) &&
            (streq(v->target, "/var/run/docker.sock") || streq(v->target, "/run/docker.sock")))
            return 0; /* it is there anyway: the job's own engine */
        if (is_name(source)) {
            v->name = source;
            for (size_t i = 0; i < x->n_volumes; i++)
                if (x->volumes[i].name && streq(x->volumes[i].name, source))
                    return err_set(e, ERR_FAILED, -ENOSYS, "volume %s: one volume at two places is not there yet", source);
        } else if (!(v->source = below_work(x, source))) {
            err_set(e, ERR_CONFIG, -EINVAL, "volume \"%s\": a job does not see this machine's files; only paths below %s can be given", text, HOSTED_WORK);
            return err_hint(e, -EINVAL, "use a named volume (data:%s), or copy the files into the repository", v->target);
        }
    }
    x->n_volumes++;
    return 0;
}

int volumes_read(struct jobx *x, const struct strv *list, struct err *e) {
    int r = 0;
    x->volumes = ARENA_ARRAY(x->a, struct volume, list->n + 1);
    for (size_t i = 0; i < list->n && r >= 0; i++)
        r = read_one(x, list->v[i], e);
    return r;
}

bool volumes_named(const struct jobx *x, const char *text) {
    for (size_t i = 0; i < x->n_volumes; i++) {
        const char *rest = x->volumes[i].name ? startswith(text, x->volumes[i].name) : NULL;
        if (rest && *rest == ':')
            return true;
    }
    return false;
}

static int put(struct jobx *x, struct volume *v, struct err *e) {
    int r, fd;
    const char *from = v->source ? v->source : v->target;
    if ((r = box_mkdirs(x->box, from, 0755, 0, 0, e)) < 0 || (!v->source && !v->readonly))
        return r;
    if (v->mounted && (r = box_umount(x->box, v->target, e)) < 0)
        return r;
    v->mounted = false;
    if ((fd = box_open_tree(x->box, from, e)) < 0)
        return fd;
    struct box_mount m = {.kind = BOX_BIND, .target = v->target, .source_fd = fd, .readonly = v->readonly, .mode = 0755};
    r = box_mount(x->box, &m, e);
    close(fd);
    v->mounted = r >= 0;
    return r;
}

int volumes_mount(struct jobx *x, bool again, struct err *e) {
    for (size_t i = 0; i < x->n_volumes; i++) {
        struct volume *v = &x->volumes[i];
        int r = !again || v->source ? put(x, v, e) : 0;
        if (r < 0)
            return err_wrap(e, r, "volume at %s", v->target);
    }
    return 0;
}
