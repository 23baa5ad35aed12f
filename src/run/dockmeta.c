/* The rules: each line of `tags` is a tag with attributes; those that apply to the event give, in the order
 * of their priorities, the version (the first) and further tags, and the first decides about `latest`. */
#include "run/dockmeta.h"

#include "core/loop.h"
#include "run/dockmeta_text.h"

enum kind { SCHEDULE, SEMVER, PEP440, MATCH, EDGE, REF, RAW, SHA };
static const char *const kinds[] = {"schedule", "semver", "pep440", "match", "edge", "ref", "raw", "sha"};
static const char *const priorities[] = {"1000", "900", "900", "800", "700", "600", "200", "100"};

struct tag {
    enum kind kind;
    struct strv attrs;  /* "k=v" */
    double priority;
};
struct image {
    const char *name;
    bool enable;
};
struct meta {
    const struct dockmeta_in *in;
    struct arena *a;
    struct err *e;
    struct dockmeta *ret;
    struct tag *tags;
    size_t n_tags, cap_tags;
    struct image *images;
    size_t n_images, cap_images;
    const char *latest, *prefix, *suffix;  /* flavor */
    bool prefix_latest, suffix_latest;
    const char *main;
    struct strv partial;
    int is_latest;                         /* -1: nobody said */
};

void dockmeta_lines(const char *text, struct strv *out) {
    struct sv rest = sv_from(text), line;
    while (sv_line(&rest, &line)) {
        line = sv_trim(line);
        if (line.n && line.p[0] != '#')
            strv_addn(out, line.p, line.n);
    }
}

static int bad(struct meta *m, const char *what, const char *line) { return err_set(m->e, ERR_CONFIG, -EINVAL, "%s%s", what, line); }

/* "key=value" with both trimmed; false: no '='. The key in lower case. */
static bool pair(struct arena *a, const char *field, const char **k, const char **v) {
    const char *eq = strchr(field, '=');
    if (!eq || eq == field)
        return false;
    struct sv key = sv_trim(sv_n(field, (size_t)(eq - field))), val = sv_trim(sv_from(eq + 1));
    char *low = arena_strndup(a, key.p, key.n);
    for (char *p = low; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 32);
    *k = low;
    *v = arena_strndup(a, val.p, val.n);
    return true;
}

/* --- inputs ----------------------------------------------------------------------------------------------- */

static void add_image(struct meta *m, const char *name, bool enable) {
    GROW(m->images, m->cap_images, m->n_images + 1);
    m->images[m->n_images++] = (struct image){arena_strdup(m->a, name), enable};
}

static int image_line(struct meta *m, const char *line) {
    _cleanup_strv_ struct strv f = {0};
    const char *k, *v, *name = "";
    bool enable = true;
    int r = meta_csv(sv_from(line), false, &f, m->e);
    for (size_t i = 0; i < f.n && r >= 0; i++) {
        if (!pair(m->a, f.v[i], &k, &v))
            name = arena_strdup(m->a, f.v[i]);
        else if (streq(k, "name"))
            name = v;
        else if (!streq(k, "enable"))
            r = bad(m, "Unknown image attribute: ", line);
        else if (!streq(v, "true") && !streq(v, "false"))
            r = bad(m, "Invalid enable attribute value: ", line);
        else
            enable = streq(v, "true");
    }
    if (r >= 0 && !*name)
        r = bad(m, "Image name attribute empty: ", line);
    if (r >= 0)
        add_image(m, name, enable);
    return r;
}

static int read_images(struct meta *m) {
    int r = 0;
    if (m->in->images.n == 1 && !strchr(m->in->images.v[0], '=')) { /* names on one line */
        _cleanup_strv_ struct strv f = {0};
        r = meta_csv(sv_from(m->in->images.v[0]), false, &f, m->e);
        for (size_t i = 0; i < f.n && r >= 0; i++)
            add_image(m, f.v[i], true);
        return r;
    }
    for (size_t i = 0; i < m->in->images.n && r >= 0; i++)
        r = image_line(m, m->in->images.v[i]);
    return r;
}

static const char *attr(const struct tag *t, const char *key) { return strv_env_get(&t->attrs, key); }
static void dflt(struct tag *t, const char *key, const char *value) {
    if (!attr(t, key))
        strv_env_set(&t->attrs, key, value);
}

/* What each type must have, and has unless it is said. */
static int tag_defaults(struct meta *m, struct tag *t, const char *line) {
    const char *v;
    switch (t->kind) {
    case SCHEDULE:
        dflt(t, "pattern", "nightly");
        break;
    case SEMVER:
    case PEP440:
    case MATCH:
        if (!attr(t, "pattern"))
            return bad(m, "Missing pattern attribute for ", line);
        dflt(t, "value", "");
        dflt(t, t->kind == MATCH ? "group" : "match", t->kind == MATCH ? "0" : "");
        if (t->kind == MATCH && strspn(attr(t, "group"), "0123456789") != strlen(attr(t, "group")))
            return bad(m, "Invalid match group for ", line);
        break;
    case EDGE:
        dflt(t, "branch", "");
        break;
    case REF:
        if (!(v = attr(t, "event")))
            return bad(m, "Missing event attribute for ", line);
        if (!streq(v, "branch") && !streq(v, "tag") && !streq(v, "pr"))
            return bad(m, "Invalid event for ", line);
        if (streq(v, "pr"))
            dflt(t, "prefix", "pr-");
        break;
    case RAW:
        if (!attr(t, "value"))
            return bad(m, "Missing value attribute for ", line);
        break;
    case SHA:
        dflt(t, "prefix", "sha-");
        dflt(t, "format", "short");
        if (!streq(attr(t, "format"), "short") && !streq(attr(t, "format"), "long"))
            return bad(m, "Invalid format for ", line);
        break;
    }
    dflt(t, "enable", "true");
    dflt(t, "priority", priorities[t->kind]);
    t->priority = strtod(attr(t, "priority"), NULL);
    return 0;
}

static int tag_line(struct meta *m, const char *line) {
    _cleanup_strv_ struct strv f = {0};
    const char *k, *v;
    int r = meta_csv(sv_from(line), false, &f, m->e);
    if (r < 0)
        return r;
    GROW(m->tags, m->cap_tags, m->n_tags + 1);
    struct tag *t = &m->tags[m->n_tags++];
    *t = (struct tag){.kind = RAW};
    for (size_t i = 0; i < f.n; i++) {
        if (!pair(m->a, f.v[i], &k, &v)) {
            strv_env_set(&t->attrs, "value", f.v[i]);
        } else if (streq(k, "type")) {
            size_t n = 0;
            while (n < ELEMENTS(kinds) && !streq(kinds[n], v))
                n++;
            if (n == ELEMENTS(kinds))
                return bad(m, "Unknown tag type attribute: ", v);
            t->kind = (enum kind)n;
        } else {
            strv_env_set(&t->attrs, k, v);
        }
    }
    return tag_defaults(m, t, line);
}

static int read_tags(struct meta *m) {
    static const char *const dflts[] = {"type=schedule", "type=ref,event=branch", "type=ref,event=tag", "type=ref,event=pr"};
    int r = 0;
    for (size_t i = 0; r >= 0 && i < (m->in->tags.n ? m->in->tags.n : ELEMENTS(dflts)); i++)
        r = tag_line(m, m->in->tags.n ? m->in->tags.v[i] : dflts[i]);
    for (size_t i = 1; i < m->n_tags; i++) /* stable, highest priority first */
        for (size_t k = i; k > 0 && m->tags[k].priority > m->tags[k - 1].priority; k--) {
            struct tag t = m->tags[k];
            m->tags[k] = m->tags[k - 1];
            m->tags[k - 1] = t;
        }
    return r;
}

static int flavor_line(struct meta *m, const char *line) {
    _cleanup_strv_ struct strv f = {0};
    const char *k, *v, *last = "";
    int r = meta_csv(sv_from(line), false, &f, m->e);
    for (size_t i = 0; i < f.n && r >= 0; i++) {
        if (!pair(m->a, f.v[i], &k, &v))
            r = bad(m, "Invalid flavor entry: ", line);
        else if (streq(k, "latest")) {
            m->latest = v;
            if (!streq(v, "auto") && !streq(v, "true") && !streq(v, "false"))
                r = bad(m, "Invalid latest flavor entry: ", line);
        } else if (streq(k, "prefix")) {
            m->prefix = v;
            last = k;
        } else if (streq(k, "suffix")) {
            m->suffix = v;
            last = k;
        } else if (streq(k, "onlatest")) {
            if (!streq(v, "true") && !streq(v, "false"))
                r = bad(m, "Invalid value for onlatest attribute: ", v);
            *(streq(last, "suffix") ? &m->suffix_latest : &m->prefix_latest) = streq(v, "true");
        } else
            r = bad(m, "Unknown flavor entry: ", line);
    }
    return r;
}

/* --- templates ---------------------------------------------------------------------------------------------- */

static const char *in_payload(const struct meta *m, const char *a, const char *b, const char *c) {
    const struct value *v = m->in->payload ? val_gets(m->in->payload, a) : NULL;
    if (v && b)
        v = val_gets(v, b);
    if (v && c)
        v = val_gets(v, c);
    return v && v->kind == VAL_STRING ? v->str.p : NULL;
}

static bool default_branch(const struct meta *m) {
    const char *ref = m->in->ref, *b = startswith(ref, "refs/heads/"), *d = in_payload(m, "repository", "default_branch", NULL);
    static const char *const events[] = {"create", "discussion", "issues", "schedule"};
    b = b ? b : ref;
    if (!*b)
        return false;
    for (size_t i = 0; i < ELEMENTS(events); i++)
        if (strstr(m->in->event, events[i]))
            return true;
    return d && streq(d, b);
}

static const char *base_ref(const struct meta *m) {
    const char *r = NULL;
    if (startswith(m->in->ref, "refs/tags/") && (r = in_payload(m, "base_ref", NULL, NULL)))
        return startswith(r, "refs/heads/") ? startswith(r, "refs/heads/") : r;
    if (startswith(m->in->ref, "refs/pull/"))
        r = in_payload(m, "pull_request", "base", "ref");
    return r ? r : "";
}

static int dates(struct meta *m, struct sv name, const char *param, const char *tz, struct buf *out, struct err *e) {
    if (sv_eqs(name, "date"))
        return meta_date(m->in->now_ns, param, tz, out, e) < 0 ? -EINVAL : 1;
    if (sv_eqs(name, "commit_date"))
        return meta_date(m->in->commit_ns, param, tz, out, e) < 0 ? -EINVAL : 1;
    return 0;
}

static int global_name(void *arg, struct sv name, const char *param, const char *tz, struct buf *out, struct err *e) {
    struct meta *m = arg;
    const char *branch = startswith(m->in->ref, "refs/heads/"), *tag = startswith(m->in->ref, "refs/tags/");
    int r = dates(m, name, param, tz, out, e);
    if (r)
        return r < 0 ? r : 0;
    if (sv_eqs(name, "branch"))
        buf_adds(out, branch ? branch : "");
    else if (sv_eqs(name, "tag"))
        buf_adds(out, tag ? tag : "");
    else if (sv_eqs(name, "sha"))
        buf_addf(out, "%.*s", (int)m->in->short_sha, m->in->sha);
    else if (sv_eqs(name, "base_ref"))
        buf_adds(out, base_ref(m));
    else if (sv_eqs(name, "is_default_branch"))
        buf_adds(out, default_branch(m) ? "true" : "false");
    else if (sv_eqs(name, "is_not_default_branch"))
        buf_adds(out, default_branch(m) ? "false" : "true");
    else if (param)
        return err_set(e, ERR_CONFIG, -EINVAL, "Missing helper: \"" SV_FMT "\"", SV_ARG(name));
    return 0;
}

static int schedule_name(void *arg, struct sv name, const char *param, const char *tz, struct buf *out, struct err *e) {
    int r = dates(arg, name, param, tz, out, e);
    return r < 0 ? r : 0;
}

static int version_name(void *arg, struct sv name, const char *param, const char *tz, struct buf *out, struct err *e) {
    const struct meta_version *v = arg;
    const struct { const char *name, *value; } t[] = {{"raw", v->raw}, {"version", v->version}, {"major", v->major}, {"minor", v->minor},
                                                       {"patch", v->patch}, {"prerelease", v->prerelease}};
    for (size_t i = 0; i < ELEMENTS(t); i++)
        if (sv_eqs(name, t[i].name) && t[i].value)
            buf_adds(out, t[i].value);
    return 0;
}

static int expand(struct meta *m, const char *text, meta_name_fn fn, void *arg, const char **ret) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    int r = meta_template(sv_from(text), fn, arg, &b, m->e);
    if (r >= 0)
        *ret = arena_strdup(m->a, buf_str(&b));
    return r;
}
static int global(struct meta *m, const char *text, const char **ret) { return expand(m, text, global_name, m, ret); }

/* --- the tags that apply ----------------------------------------------------------------------------------------- */

static char *sanitize(struct arena *a, const char *s) {
    char *out = arena_strdup(a, s), *w = out;
    bool in = false;
    for (; *s; s++) {
        bool ok = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr("._-", *s);
        if (ok)
            *w++ = *s;
        else if (!in)
            *w++ = '-';
        in = !ok;
    }
    *w = 0;
    return out;
}

/* With the prefix and suffix of the tag, else of the flavor; and counted. */
static int add(struct meta *m, struct tag *t, const char *value, bool auto_latest) {
    const char *pre = attr(t, "prefix"), *suf = attr(t, "suffix");
    int r;
    pre = pre ? pre : m->prefix;
    suf = suf ? suf : m->suffix;
    if ((r = global(m, pre, &pre)) < 0 || (r = global(m, suf, &suf)) < 0)
        return r;
    const char *v = arena_printf(m->a, "%s%s%s", pre, value, suf);
    if (!*v)
        return 0;
    v = sanitize(m->a, v);
    if (!m->main)
        m->main = v;
    else if (!streq(v, m->main) && !strv_contains(&m->partial, v))
        strv_add(&m->partial, v);
    if (m->is_latest < 0)
        m->is_latest = streq(m->latest, "auto") ? auto_latest : streq(m->latest, "true");
    return 0;
}

static void warn(struct meta *m, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_addv(&m->ret->warnings, fmt, ap);
    va_end(ap);
    buf_addc(&m->ret->warnings, '\n');
}

/* The value to look at: the attribute's, else the pushed tag. NULL: does not apply. */
static int subject(struct meta *m, struct tag *t, const char **ret) {
    const char *value = attr(t, "value"), *tag = startswith(m->in->ref, "refs/tags/");
    *ret = tag;
    return *value ? global(m, value, ret) : 0;
}

static int use_version(struct meta *m, struct tag *t) {
    const char *s, *pattern = attr(t, "pattern"), *match = attr(t, "match"), *group;
    struct meta_version v;
    bool has;
    int r = subject(m, t, &s);
    if (r < 0 || !s)
        return r;
    if (*match) {
        r = meta_match(m->a, match, "", s, 1, &group, &has);
        if (r < 0)
            return bad(m, "Invalid regular expression: ", match);
        if (r && has)
            s = group;
        else if (!r)
            warn(m, "%s does not match %s.", match, s);
    }
    char *plain = arena_strdup(m->a, s);
    for (char *p = plain; *p; p++)
        if (*p == '/')
            *p = '-';
    bool sem = t->kind == SEMVER;
    if (!(sem ? meta_semver(m->a, plain, &v) : meta_pep440(m->a, plain, &v))) {
        warn(m, sem ? "%s is not a valid semver. More info: https://semver.org/" : "%s does not conform to PEP 440. More info: https://www.python.org/dev/peps/pep-0440", plain);
        return 0;
    }
    bool special = v.pre || v.post || v.dev;
    if (special)
        return add(m, t, meta_is_raw(sv_from(pattern)) ? plain : v.version, false);
    const char *value;
    r = expand(m, pattern, version_name, &v, &value);
    return r < 0 ? r : add(m, t, value, true);
}

static int use_match(struct meta *m, struct tag *t) {
    const char *s, *pattern = attr(t, "pattern"), *flags = "", *group;
    size_t n = strlen(pattern);
    bool has;
    int r = subject(m, t, &s);
    if (r < 0 || !s)
        return r;
    const char *last = strrchr(pattern, '/'), *use = pattern;
    if (n > 2 && pattern[0] == '/' && last > pattern + 1) {
        use = arena_strndup(m->a, pattern + 1, (size_t)(last - pattern) - 1);
        flags = last + 1;
    }
    r = meta_match(m->a, use, flags, s, (unsigned)strtoul(attr(t, "group"), NULL, 10), &group, &has);
    if (r < 0)
        return bad(m, "Invalid regular expression: ", pattern);
    if (!r)
        warn(m, "%s does not match %s.", pattern, s);
    else if (!has)
        warn(m, "Group %s does not exist for %s pattern.", attr(t, "group"), pattern);
    else
        return add(m, t, group, true);
    return 0;
}

static int use_ref(struct meta *m, struct tag *t) {
    const char *event = attr(t, "event"), *ref = m->in->ref, *rest;
    if (streq(event, "branch"))
        return (rest = startswith(ref, "refs/heads/")) ? add(m, t, rest, false) : 0;
    if (streq(event, "tag"))
        return (rest = startswith(ref, "refs/tags/")) ? add(m, t, rest, true) : 0;
    if (!(rest = startswith(ref, "refs/pull/")))
        return 0;
    size_t n = strlen(rest);
    return add(m, t, endswith(rest, "/merge") ? arena_strndup(m->a, rest, n - 6) : rest, false);
}

static int use(struct meta *m, struct tag *t) {
    const char *enable, *v, *branch = startswith(m->in->ref, "refs/heads/");
    int r = global(m, attr(t, "enable"), &enable);
    if (r < 0)
        return r;
    if (!streq(enable, "true") && !streq(enable, "false"))
        return bad(m, "Invalid value for enable attribute: ", enable);
    if (streq(enable, "false"))
        return 0;
    switch (t->kind) {
    case SCHEDULE:
        if (!strstr(m->in->event, "schedule"))
            return 0;
        r = expand(m, attr(t, "pattern"), schedule_name, m, &v);
        return r < 0 ? r : add(m, t, v, false);
    case SEMVER:
    case PEP440:
        return use_version(m, t);
    case MATCH:
        return use_match(m, t);
    case EDGE:
        v = attr(t, "branch");
        if (!*v)
            v = in_payload(m, "repository", "default_branch", NULL);
        return branch && v && streq(v, branch) ? add(m, t, "edge", false) : 0;
    case REF:
        return use_ref(m, t);
    case RAW:
        r = global(m, attr(t, "value"), &v);
        return r < 0 ? r : add(m, t, v, false);
    case SHA:
        if (!*m->in->sha)
            return 0;
        return add(m, t, streq(attr(t, "format"), "short") ? arena_printf(m->a, "%.*s", (int)m->in->short_sha, m->in->sha) : m->in->sha, false);
    }
    return 0;
}

/* --- outputs --------------------------------------------------------------------------------------------------------- */

static void tags_of(struct meta *m, const char *image, struct strv *out) {
    const char *sep = image ? ":" : "", *name = image ? image : "";
    strv_addf(out, "%s%s%s", name, sep, m->main);
    for (size_t i = 0; i < m->partial.n; i++)
        strv_addf(out, "%s%s%s", name, sep, m->partial.v[i]);
    if (m->is_latest > 0)
        strv_addf(out, "%s%s%s", name, sep, sanitize(m->a, arena_printf(m->a, "%slatest%s", m->prefix_latest ? m->prefix : "", m->suffix_latest ? m->suffix : "")));
}

static void image_names(struct meta *m, struct strv *out) {
    for (size_t i = 0; i < m->n_images; i++) {
        if (!m->images[i].enable)
            continue;
        char *low = xstrdup(m->images[i].name);
        for (char *p = low; *p; p++)
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p + 32);
        strv_take(out, low);
    }
}

static int by_key(const void *pa, const void *pb) {
    const char *a = *(char *const *)pa, *b = *(char *const *)pb;
    _cleanup_free_ char *ka = xstrndup(a, strcspn(a, "=")), *kb = xstrndup(b, strcspn(b, "="));
    return meta_locale_cmp(ka, kb);
}

/* The OCI labels of the repository, with the user's own over them, sorted. */
static int labels(struct meta *m, const struct strv *own, struct strv *out) {
    char when[32];
    const char *text, *url = in_payload(m, "repository", "html_url", NULL);
    format_time((uint64_t)m->in->now_ns, when);
    const struct { const char *k, *v; } oci[] = {{"title", in_payload(m, "repository", "name", NULL)}, {"description", in_payload(m, "repository", "description", NULL)},
                                                  {"url", url}, {"source", url}, {"version", m->main}, {"created", when}, {"revision", m->in->sha},
                                                  {"licenses", in_payload(m, "repository", "license", "spdx_id")}};
    for (size_t i = 0; i < ELEMENTS(oci); i++)
        strv_addf(out, "org.opencontainers.image.%s=%s", oci[i].k, oci[i].v ? oci[i].v : "");
    for (size_t i = 0; i < own->n; i++) {
        int r = global(m, own->v[i], &text);
        if (r < 0)
            return r;
        const char *eq = strchr(text, '=');
        if (eq)
            strv_env_set(out, arena_strndup(m->a, text, (size_t)(eq - text)), eq + 1);
    }
    qsort(out->v, out->n, sizeof *out->v, by_key);
    return 0;
}

static void jw_list(struct json_w *w, const char *key, const struct strv *s) {
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < s->n; i++)
        jw_str(w, s->v[i]);
    jw_end_arr(w);
}
static void jw_pairs(struct json_w *w, const char *key, const struct strv *s) {
    jw_key(w, key);
    jw_obj(w);
    for (size_t i = 0; i < s->n; i++) {
        size_t n = strcspn(s->v[i], "=");
        jw_keysv(w, sv_n(s->v[i], n));
        jw_str(w, s->v[i][n] ? s->v[i] + n + 1 : "");
    }
    jw_end_obj(w);
}
static void jw_args(struct json_w *w, struct meta *m) {
    _cleanup_strv_ struct strv names = {0};
    _cleanup_buf_ struct buf all = BUF_SMALL;
    image_names(m, &names);
    for (size_t i = 0; i < names.n; i++)
        buf_addf(&all, "%s%s", i ? "," : "", names.v[i]);
    jw_key(w, "args");
    jw_obj(w);
    jw_kstr(w, "DOCKER_META_IMAGES", buf_str(&all));
    if (m->main)
        jw_kstr(w, "DOCKER_META_VERSION", m->main);
    jw_end_obj(w);
}
enum { WITH_TAGS = 1, WITH_LABELS = 2, WITH_ANNOTATIONS = 4 };
static void bake(struct meta *m, struct buf *b, unsigned with) {
    struct json_w w;
    *b = BUF_MAX(4u << 20);
    jw_init(&w, b, 2);
    jw_obj(&w);
    jw_key(&w, "target");
    jw_obj(&w);
    jw_key(&w, m->in->bake_target);
    jw_obj(&w);
    if (with & WITH_TAGS)
        jw_list(&w, "tags", &m->ret->tags);
    if (with & WITH_LABELS)
        jw_pairs(&w, "labels", &m->ret->labels);
    if (with & WITH_ANNOTATIONS)
        jw_list(&w, "annotations", &m->ret->annotations);
    if (with & WITH_TAGS)
        jw_args(&w, m);
    jw_end_obj(&w);
    jw_end_obj(&w);
    jw_end_obj(&w);
}

static int outputs(struct meta *m) {
    _cleanup_strv_ struct strv names = {0}, plain = {0};
    struct dockmeta *o = m->ret;
    o->version = m->main ? m->main : "";
    image_names(m, &names);
    if (m->main) {
        for (size_t i = 0; i < names.n; i++)
            tags_of(m, names.v[i], &o->tags);
        if (!names.n)
            tags_of(m, NULL, &o->tags);
        tags_of(m, NULL, &o->names);
    }
    int r = labels(m, &m->in->labels, &o->labels);
    if (r < 0 || (r = labels(m, &m->in->annotations, &plain)) < 0)
        return r;
    struct sv rest = sv_from(m->in->levels), level;
    while (sv_split(&rest, ',', &level))
        for (size_t i = 0; i < plain.n; i++)
            strv_addf(&o->annotations, SV_FMT ":%s", SV_ARG(level), plain.v[i]);
    struct json_w w;
    o->json = BUF_MAX(4u << 20);
    jw_init(&w, &o->json, 0);
    jw_obj(&w);
    jw_list(&w, "tags", &o->tags);
    jw_list(&w, "tag-names", &o->names);
    jw_pairs(&w, "labels", &o->labels);
    jw_list(&w, "annotations", &o->annotations);
    jw_end_obj(&w);
    bake(m, &o->bake_tags, WITH_TAGS);
    bake(m, &o->bake_labels, WITH_LABELS);
    bake(m, &o->bake_annotations, WITH_ANNOTATIONS);
    bake(m, &o->bake, WITH_TAGS | WITH_LABELS);
    return 0;
}

int dockmeta_make(const struct dockmeta_in *in, struct arena *a, struct dockmeta *ret, struct err *e) {
    struct meta m = {.in = in, .a = a, .e = e, .ret = ret, .latest = "auto", .prefix = "", .suffix = "", .is_latest = -1};
    *ret = (struct dockmeta){.version = "", .warnings = BUF_SMALL};
    int r = read_images(&m);
    if (r >= 0)
        r = read_tags(&m);
    for (size_t i = 0; i < in->flavor.n && r >= 0; i++)
        r = flavor_line(&m, in->flavor.v[i]);
    for (size_t i = 0; i < m.n_tags && r >= 0; i++)
        r = use(&m, &m.tags[i]);
    if (r >= 0)
        r = outputs(&m);
    for (size_t i = 0; i < m.n_tags; i++)
        strv_done(&m.tags[i].attrs);
    free(m.tags);
    free(m.images);
    strv_done(&m.partial);
    return r;
}

void dockmeta_done(struct dockmeta *m) {
    struct strv *s[] = {&m->tags, &m->names, &m->labels, &m->annotations};
    struct buf *b[] = {&m->json, &m->bake_tags, &m->bake_labels, &m->bake_annotations, &m->bake, &m->warnings};
    for (size_t i = 0; i < ELEMENTS(s); i++)
        strv_done(s[i]);
    for (size_t i = 0; i < ELEMENTS(b); i++)
        buf_done(b[i]);
}
