/* What an index or a manifest says, checked where it is read: digests are digests, sizes are
 * numbers, counts have limits, and what only looks like an image is refused with the reason. */
#include "image/manifest.h"

#include <sys/utsname.h>

static int bad(struct err *e, const char *what) {
    return err_set(e, ERR_NET, -EBADMSG, "the manifest is malformed: %s", what);
}

static const char *str_of(struct arena *a, const struct json *o, const char *key) {
    const char *s = json_get_str(o, key, NULL);
    return s ? arena_strdup(a, s) : NULL;
}

struct reading {
    struct arena *a;
    bool kept; /* as manifest_parse_kept */
    struct err *e;
};

static int read_descriptor(const struct reading *x, const struct json *o, struct descriptor *d) {
    struct arena *a = x->a;
    struct err *e = x->e;
    if (!o || o->kind != JSON_OBJECT)
        return bad(e, "a descriptor is missing");
    const struct json *digest = json_get(o, "digest"), *size = json_get(o, "size"), *urls = json_get(o, "urls");
    if (!(x->kept ? digest_valid_any : digest_valid)(json_sv(digest)))
        return bad(e, x->kept ? "a digest is neither sha256 nor sha512" : "a digest is not sha256");
    if (!size || size->kind != JSON_NUMBER || sv_u64(size->text, INT64_MAX, &d->size) < 0)
        return bad(e, "a size is not a number");
    d->digest = arena_strdup(a, json_str(digest, ""));
    d->media_type = str_of(a, o, "mediaType");
    d->artifact_type = str_of(a, o, "artifactType");
    d->annotations = json_get(o, "annotations");
    if (!d->media_type)
        d->media_type = "";
    d->foreign = strstr(d->media_type, "foreign") || strstr(d->media_type, "nondistributable") || (urls && urls->kind == JSON_ARRAY && urls->n);
    if (d->foreign && !x->kept)
        return err_set(e, ERR_NET, -ENOTSUP, "the image has a foreign layer (one that is fetched from elsewhere): refused");
    const struct json *p = json_get(o, "platform");
    d->os = str_of(a, p, "os");
    d->arch = str_of(a, p, "architecture");
    d->variant = str_of(a, p, "variant");
    return 0;
}

static int read_entries(const struct reading *x, const struct json *list, size_t max, const char *what, struct manifest *m) {
    struct err *e = x->e;
    if (!list || list->kind != JSON_ARRAY)
        return bad(e, what);
    if (list->n > max)
        return err_set(e, ERR_LIMIT, -EFBIG, "the manifest has %zu %s; the limit is %zu", list->n, what, max);
    m->entries = ARENA_ARRAY(x->a, struct descriptor, list->n);
    m->n = list->n;
    for (size_t i = 0; i < list->n; i++) {
        int r = read_descriptor(x, list->items[i], &m->entries[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int parse(const struct reading *x, struct sv text, struct manifest *ret) {
    struct arena *a = x->a;
    struct err *e = x->e;
    struct manifest m = {0};
    struct json *o;
    if (text.n > MANIFEST_MAX)
        return err_set(e, ERR_LIMIT, -EFBIG, "the manifest is larger than 4 MiB");
    int r = json_parse(a, text, &o, e);
    if (r < 0)
        return err_wrap(e, r, "the manifest");
    if (o->kind != JSON_OBJECT)
        return bad(e, "not an object");
    if (json_get_int(o, "schemaVersion", 0) == 1)
        return err_set(e, ERR_NET, -ENOTSUP, "the image has a manifest of Docker's schema 1, which is not supported (push it again with a current client)");
    if (json_get_int(o, "schemaVersion", 0) != 2)
        return bad(e, "schemaVersion is not 2");
    const struct json *manifests = json_get(o, "manifests"), *layers = json_get(o, "layers");
    m.media_type = m.said_type = str_of(a, o, "mediaType");
    m.artifact_type = str_of(a, o, "artifactType");
    m.annotations = json_get(o, "annotations");
    if (manifests && layers)
        return bad(e, "it has both manifests and layers"); /* CVE-2021-41190 */
    bool list_type = m.media_type && (streq(m.media_type, MEDIA_OCI_INDEX) || streq(m.media_type, MEDIA_DOCKER_LIST));
    bool image_type = m.media_type && (streq(m.media_type, MEDIA_OCI_MANIFEST) || streq(m.media_type, MEDIA_DOCKER_MANIFEST));
    if ((list_type && !manifests) || (image_type && manifests))
        return bad(e, "its media type says something else than its content");
    if (manifests) {
        m.kind = MANIFEST_INDEX;
        if (!m.media_type)
            m.media_type = MEDIA_OCI_INDEX;
        r = read_entries(x, manifests, INDEX_ENTRIES, "manifests", &m);
    } else {
        m.kind = MANIFEST_IMAGE;
        if (!m.media_type)
            m.media_type = MEDIA_OCI_MANIFEST;
        r = read_descriptor(x, json_get(o, "config"), &m.config);
        if (r == 0)
            r = read_entries(x, layers, MANIFEST_LAYERS, "layers", &m);
    }
    const struct json *subject = json_get(o, "subject");
    if (r == 0 && subject && subject->kind == JSON_OBJECT) {
        m.has_subject = true;
        r = read_descriptor(x, subject, &m.subject);
    }
    if (r < 0)
        return r;
    *ret = m;
    return 0;
}

int manifest_parse(struct arena *a, struct sv text, struct manifest *ret, struct err *e) {
    return parse(&(struct reading){.a = a, .e = e}, text, ret);
}

int manifest_parse_kept(struct arena *a, struct sv text, struct manifest *ret, struct err *e) {
    return parse(&(struct reading){.a = a, .kept = true, .e = e}, text, ret);
}

int manifest_check_image(const struct manifest *m, struct err *e) {
    if (m->kind != MANIFEST_IMAGE)
        return bad(e, "an index where an image was expected");
    const char *c = m->config.media_type;
    if (*c && !streq(c, MEDIA_OCI_CONFIG) && !streq(c, "application/vnd.docker.container.image.v1+json") &&
        !streq(c, "application/octet-stream"))
        return err_set(e, ERR_USER, -ENOTSUP, "it is not a container image (its configuration is \"%.100s\")", c);
    for (size_t i = 0; i < m->n; i++) {
        const char *t = m->entries[i].media_type;
        if (strstr(t, "encrypted"))
            return err_set(e, ERR_USER, -ENOTSUP, "the image's layers are encrypted");
        if (*t && !strstr(t, "tar") && !strstr(t, "diff"))
            return err_set(e, ERR_USER, -ENOTSUP, "it has a layer of type \"%.100s\"", t);
    }
    return 0;
}

static bool attestation(const struct descriptor *d) {
    return json_get(d->annotations, "vnd.docker.reference.type") != NULL;
}

const struct descriptor *manifest_pick(const struct manifest *index, const char *os, const char *arch, const char *variant) {
    const struct descriptor *best = NULL;
    int best_score = 0;
    for (size_t i = 0; i < index->n; i++) {
        const struct descriptor *d = &index->entries[i];
        if (attestation(d))
            continue;
        int score;
        if (!d->os && !d->arch)
            score = index->n == 1 ? 1 : 0; /* no platform at all: only when there is no choice */
        else if (!streq0(d->os, os) || !streq0(d->arch, arch))
            score = 0;
        else if (streq0(d->variant, variant))
            score = 100;
        else if (!d->variant || (streq(arch, "arm64") && streq(d->variant, "v8")))
            score = 90;
        else if (variant && strcmp(d->variant, variant) < 0) /* an older variant runs here */
            score = 10 + (d->variant[0] == 'v' ? d->variant[1] - '0' : 0);
        else
            score = variant ? 0 : streq(arch, "amd64") ? 0 : 5;
        if (score > best_score) {
            best = d;
            best_score = score;
        }
    }
    return best;
}

void manifest_platforms(const struct manifest *index, struct buf *b) {
    for (size_t i = 0; i < index->n && b->n < 300; i++) {
        const struct descriptor *d = &index->entries[i];
        if (!d->os || !d->arch || attestation(d))
            continue;
        buf_addf(b, "%s%s/%s", b->n ? ", " : "", d->os, d->arch);
        if (d->variant)
            buf_addf(b, "/%s", d->variant);
    }
}

const char *platform_arch(void) {
    static const struct {
        const char *machine, *arch;
    } known[] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"armv7l", "arm"}, {"armv6l", "arm"}, {"i686", "386"},
                 {"ppc64le", "ppc64le"}, {"s390x", "s390x"}, {"riscv64", "riscv64"}};
    struct utsname u;
    if (uname(&u) == 0)
        for (size_t i = 0; i < ELEMENTS(known); i++)
            if (streq(u.machine, known[i].machine))
                return known[i].arch;
    return "amd64";
}

const char *platform_variant(void) {
    struct utsname u;
    if (uname(&u) == 0 && startswith(u.machine, "armv"))
        return u.machine[4] == '6' ? "v6" : "v7";
    return NULL;
}
