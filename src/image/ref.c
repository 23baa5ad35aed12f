/* Image references by the grammar of distribution/reference, with Docker's normalisation: a first
 * component is a registry when it has a '.', a ':' or upper case, or is "localhost". */
#include "image/ref.h"

#include "base/digest.h"

static bool lower_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

/* [a-z0-9]+ ( ( "." | "_" | "__" | "-"+ ) [a-z0-9]+ )* */
static bool component_ok(struct sv s) {
    size_t i = 0;
    for (;;) {
        size_t from = i;
        while (i < s.n && lower_alnum(s.p[i]))
            i++;
        if (i == from)
            return false;
        if (i == s.n)
            return true;
        if (s.p[i] == '.') {
            i++;
        } else if (s.p[i] == '_') {
            i++;
            if (i < s.n && s.p[i] == '_')
                i++;
        } else if (s.p[i] == '-') {
            while (i < s.n && s.p[i] == '-')
                i++;
        } else {
            return false;
        }
    }
}

static bool path_ok(struct sv path) {
    struct sv part;
    if (!path.n)
        return false;
    while (sv_split(&path, '/', &part))
        if (!component_ok(part))
            return false;
    return true;
}

static bool port_ok(struct sv s) {
    uint64_t v;
    return s.n && sv_u64(s, 65535, &v) == 0;
}

/* Host names, IPv4, [IPv6], each with an optional port. */
static bool registry_ok(struct sv s) {
    if (s.n && s.p[0] == '[') {
        ssize_t end = sv_chr(s, ']');
        if (end < 3)
            return false;
        for (size_t i = 1; i < (size_t)end; i++)
            if (!strchr("0123456789abcdefABCDEF:.", s.p[i]))
                return false;
        struct sv rest = sv_sub(s, (size_t)end + 1, s.n);
        return !rest.n || (rest.p[0] == ':' && port_ok(sv_sub(rest, 1, rest.n)));
    }
    ssize_t colon = sv_chr(s, ':');
    if (colon >= 0 && !port_ok(sv_sub(s, (size_t)colon + 1, s.n)))
        return false;
    struct sv host = colon < 0 ? s : sv_sub(s, 0, (size_t)colon), label;
    if (!host.n)
        return false;
    while (sv_split(&host, '.', &label)) {
        if (!label.n || label.p[0] == '-' || label.p[label.n - 1] == '-')
            return false;
        for (size_t i = 0; i < label.n; i++) {
            char c = label.p[i];
            if (!lower_alnum(c) && !(c >= 'A' && c <= 'Z') && c != '-')
                return false;
        }
    }
    return true;
}

static bool is_registry(struct sv first) {
    if (sv_eqs(first, "localhost"))
        return true;
    for (size_t i = 0; i < first.n; i++) {
        char c = first.p[i];
        if (c == '.' || c == ':' || c == '[' || (c >= 'A' && c <= 'Z'))
            return true;
    }
    return false;
}

static bool tag_ok(struct sv t) {
    if (!t.n || t.n > 128 || t.p[0] == '.' || t.p[0] == '-')
        return false;
    for (size_t i = 0; i < t.n; i++) {
        char c = t.p[i];
        if (!lower_alnum(c) && !(c >= 'A' && c <= 'Z') && c != '_' && c != '.' && c != '-')
            return false;
    }
    return true;
}

static int bad(struct err *e, const char *s, const char *what) {
    return err_set(e, ERR_USER, -EINVAL, "\"%.100s\" is not an image name: %s", s, what);
}

static bool has_upper(struct sv s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 'A' && s.p[i] <= 'Z')
            return true;
    return false;
}

int ref_parse(const char *s, struct image_ref *ret, struct err *e) {
    struct image_ref r = {0};
    struct sv rest = sv_from(s);
    if (!rest.n)
        return err_set(e, ERR_USER, -EINVAL, "an image name is missing");
    if (rest.n > 600)
        return bad(e, s, "too long");
    ssize_t at = sv_chr(rest, '@');
    if (at >= 0) {
        struct sv d = sv_sub(rest, (size_t)at + 1, rest.n);
        if (!digest_valid(d))
            return bad(e, s, "what follows '@' must be sha256: and 64 hexadecimal digits");
        memcpy(r.digest, d.p, d.n);
        rest = sv_sub(rest, 0, (size_t)at);
    }
    ssize_t slash = sv_rchr(rest, '/'), colon = sv_rchr(rest, ':');
    if (colon > slash) {
        struct sv tag = sv_sub(rest, (size_t)colon + 1, rest.n);
        if (!tag_ok(tag))
            return bad(e, s, "the tag may have letters, digits, '_', '.' and '-', at most 128, the first not '.' or '-'");
        memcpy(r.tag, tag.p, tag.n);
        rest = sv_sub(rest, 0, (size_t)colon);
    }
    slash = sv_chr(rest, '/');
    struct sv registry = SV("docker.io"), path = rest;
    if (slash > 0 && is_registry(sv_sub(rest, 0, (size_t)slash))) {
        registry = sv_sub(rest, 0, (size_t)slash);
        path = sv_sub(rest, (size_t)slash + 1, rest.n);
        if (!registry_ok(registry))
            return bad(e, s, "the registry's name is not valid");
        if (sv_eqs(registry, "index.docker.io") || sv_eqs(registry, "registry-1.docker.io"))
            registry = SV("docker.io");
    }
    if (!path_ok(path)) {
        bad(e, s, has_upper(path) ? "it must be lower case" : "letters, digits and single '.', '_', '-' between them");
        return has_upper(path) ? err_hint(e, -EINVAL, "in a workflow: ${IMAGE,,} or tr A-Z a-z makes it lower case") : -EINVAL;
    }
    bool library = sv_eqs(registry, "docker.io") && sv_chr(path, '/') < 0;
    if (registry.n + path.n + (library ? 8 : 0) > 255)
        return bad(e, s, "too long");
    memcpy(r.registry, registry.p, registry.n);
    snprintf(r.path, sizeof r.path, "%s%.*s", library ? "library/" : "", SV_ARG(path));
    if (!r.tag[0] && !r.digest[0])
        memcpy(r.tag, "latest", 7);
    *ret = r;
    return 0;
}

static void suffix(const struct image_ref *r, struct buf *b) {
    if (r->tag[0])
        buf_addf(b, ":%s", r->tag);
    if (r->digest[0])
        buf_addf(b, "@%s", r->digest);
}

void ref_format(const struct image_ref *r, struct buf *b) {
    buf_addf(b, "%s/%s", r->registry, r->path);
    suffix(r, b);
}

void ref_familiar(const struct image_ref *r, struct buf *b) {
    const char *path = r->path, *official = startswith(path, "library/");
    struct sv rest = sv_from(path), first;
    sv_split(&rest, '/', &first);
    /* Without "docker.io/" a path like "r.io/x" would name another registry. */
    if (!streq(r->registry, "docker.io") || (rest.p && is_registry(first)))
        buf_addf(b, "%s/", r->registry);
    else if (official && !strchr(official, '/'))
        path = official;
    buf_adds(b, path);
    suffix(r, b);
}
