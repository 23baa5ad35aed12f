#include "docker/client/client.h"

#include <time.h>

/* Source: docker/go-units duration.go. */
void human_duration(struct buf *b, int64_t s) {
    if (s < 1)
        buf_adds(b, "Less than a second");
    else if (s == 1)
        buf_adds(b, "1 second");
    else if (s < 60)
        buf_addf(b, "%lld seconds", (long long)s);
    else if (s / 60 == 1)
        buf_adds(b, "About a minute");
    else if (s / 60 < 60)
        buf_addf(b, "%lld minutes", (long long)(s / 60));
    else if ((s + 1800) / 3600 == 1)
        buf_adds(b, "About an hour");
    else if ((s + 1800) / 3600 < 48)
        buf_addf(b, "%lld hours", (long long)((s + 1800) / 3600));
    else if (s / 3600 < 24 * 7 * 2)
        buf_addf(b, "%lld days", (long long)(s / 86400));
    else if (s / 3600 < 24 * 30 * 2)
        buf_addf(b, "%lld weeks", (long long)(s / 86400 / 7));
    else if (s / 3600 < 24 * 365 * 2)
        buf_addf(b, "%lld months", (long long)(s / 86400 / 30));
    else
        buf_addf(b, "%lld years", (long long)(s / 86400 / 365));
}

void human_size(struct buf *b, double bytes, int digits) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    size_t i = 0;
    while (bytes >= 1000 && i + 1 < ELEMENTS(units)) {
        bytes /= 1000;
        i++;
    }
    buf_addf(b, "%.*g%s", digits, bytes, units[i]);
}

int64_t parse_time(const char *s) {
    struct tm tm = {0};
    const char *end = s ? strptime(s, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    if (!end)
        return 0;
    int64_t t = timegm(&tm);
    if (*end == '.')
        for (end++; isdigit((unsigned char)*end);)
            end++;
    if ((*end == '+' || *end == '-') && strlen(end) >= 6) {
        int h = (end[1] - '0') * 10 + end[2] - '0', m = (end[4] - '0') * 10 + end[5] - '0';
        t += (*end == '+' ? -1 : 1) * (h * 3600 + m * 60);
    }
    return t;
}

struct json *row_new(struct arena *a, size_t fields) {
    struct json *j = ARENA_NEW(a, struct json);
    j->kind = JSON_OBJECT;
    j->items = ARENA_ARRAY(a, struct json *, fields);
    j->keys = ARENA_ARRAY(a, struct sv, fields);
    return j;
}

void row_add(struct arena *a, struct json *row, const char *key, struct sv value) {
    struct json *v = ARENA_NEW(a, struct json);
    v->kind = JSON_STRING;
    v->text = arena_sv(a, value);
    row->keys[row->n] = sv_from(key);
    row->items[row->n++] = v;
}

int print_rows(struct arena *a, const char *format, const char *def, const char *const *headers,
               struct json **rows, size_t n, struct err *e) {
    if (!format || streq(format, "") || streq(format, "table"))
        format = def;
    const char *t = startswith(format, "table ");
    if (streq(format, "json"))
        format = "{{json .}}";
    /* \t and \n in a format are what docker makes of them. */
    _cleanup_buf_ struct buf f = BUF_MAX(1u << 20), out = BUF_MAX(64u << 20);
    for (const char *p = t ? t : format; *p; p++) {
        if (p[0] == '\\' && (p[1] == 't' || p[1] == 'n')) {
            buf_addc(&f, p[1] == 't' ? '\t' : '\n');
            p++;
        } else
            buf_addc(&f, *p);
    }
    int r = 0;
    if (t) {
        struct json *head = row_new(a, 64);
        for (size_t i = 0; headers[i] && headers[i + 1] && i < 120; i += 2)
            row_add(a, head, headers[i], sv_from(headers[i + 1]));
        r = template_run(a, buf_str(&f), head, &out, e);
        buf_addc(&out, '\n');
    }
    for (size_t i = 0; i < n && r >= 0; i++) {
        r = template_run(a, buf_str(&f), rows[i], &out, e);
        buf_addc(&out, '\n');
    }
    if (r < 0)
        return r;
    if (t)
        table_print(stdout, buf_sv(&out));
    else
        fwrite(out.p ? out.p : "", 1, out.n, stdout);
    return 0;
}

void filters_json(struct buf *b, const struct strv *filters) {
    struct json_w w;
    _cleanup_strv_ struct strv done = {0};
    jw_init(&w, b, 0);
    jw_obj(&w);
    for (size_t i = 0; i < filters->n; i++) {
        struct sv rest = sv_from(filters->v[i]), key;
        sv_split(&rest, '=', &key);
        _cleanup_free_ char *k = sv_dup(key);
        if (strv_contains(&done, k))
            continue;
        strv_add(&done, k);
        jw_key(&w, k);
        jw_obj(&w);
        for (size_t n = i; n < filters->n; n++) {
            struct sv r2 = sv_from(filters->v[n]), k2;
            sv_split(&r2, '=', &k2);
            if (!sv_eq(k2, key))
                continue;
            jw_keysv(&w, r2.p ? r2 : SV(""));
            jw_bool(&w, true);
        }
        jw_end_obj(&w);
    }
    jw_end_obj(&w);
}

int fail_print(const struct err *e) {
    fflush(stdout);
    const char *m = e->msg[0] ? e->msg : "unknown error";
    fprintf(stderr, "%s\n", m);
    if (e->hint[0])
        fprintf(stderr, "%s\n", e->hint);
    return 1;
}

int fail_usage(const char *cmd, const struct err *e) {
    fprintf(stderr, "%s\n", e->msg);
    if (!strstr(e->msg, "not yet"))
        fprintf(stderr, "See 'docker %s --help'.\n", cmd);
    return 125;
}

int not_yet(const char *what) {
    fprintf(stderr, "docker: not yet: %s\n", what);
    return 1;
}

int usage_help(const char *usage, const char *text) {
    printf("Usage:  docker %s\n%s%s", usage, text ? "\n" : "", text ? text : "");
    return 0;
}

int cmd_flags(const char *usage, const struct flag *flags, size_t n, int argc, char **argv, struct strv *rest,
              size_t min, size_t max) {
    struct flag_set set = {flags, n, .interspersed = true};
    struct err e = {0};
    bool help = false;
    _cleanup_free_ char *name = xstrndup(usage, strcspn(usage, "[") > 0 && strchr(usage, '[')
                                                    ? strcspn(usage, "[") - 1 : strcspn(usage, "A"));
    if (flags_parse(&set, argc, argv, rest, &help, &e) < 0)
        return fail_usage(name, &e);
    if (help) {
        _cleanup_buf_ struct buf b = BUF_MAX(64u << 10);
        buf_adds(&b, "Options:\n");
        for (size_t i = 0; i < n; i++) {
            if (!flags[i].name)
                continue;
            char sh[8] = "    ";
            if (flags[i].sh)
                snprintf(sh, sizeof(sh), "-%c, ", flags[i].sh);
            bool value = flags[i].kind != FLAG_BOOL && flags[i].kind != FLAG_SKIP && flags[i].kind != FLAG_NOTYET;
            buf_addf(&b, "  %s--%s%s%s\n", sh, flags[i].name, value ? " value" : "",
                     flags[i].kind >= FLAG_NOTYET ? "   (not yet)"
                     : flags[i].kind == FLAG_SKIP || flags[i].kind == FLAG_SKIP_STR ? "   (no effect)" : "");
        }
        return usage_help(usage, n ? buf_str(&b) : NULL);
    }
    if (rest->n < min || rest->n > max) {
        if (min == max)
            fprintf(stderr, "\"docker %s\" requires exactly %zu argument%s.\n", name, min, min == 1 ? "" : "s");
        else if (rest->n < min)
            fprintf(stderr, "\"docker %s\" requires at least %zu argument%s.\n", name, min, min == 1 ? "" : "s");
        else
            fprintf(stderr, "\"docker %s\" accepts no more than %zu argument%s.\n", name, max, max == 1 ? "" : "s");
        fprintf(stderr, "See 'docker %s --help'.\n\nUsage:  docker %s\n", name, usage);
        return 1;
    }
    return -1;
}

int dispatch(const char *parent, const struct command *cmds, size_t n, int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!name || streq(name, "--help") || streq(name, "-h") || streq(name, "help")) {
        printf("Usage:  docker %s%sCOMMAND\n\nCommands:\n", parent, *parent ? " " : "");
        for (size_t i = 0; i < n; i++)
            if (cmds[i].text)
                printf("  %-12s%s\n", cmds[i].name, cmds[i].text);
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        if (streq(cmds[i].name, name))
            return cmds[i].fn(argc - 1, argv + 1);
    if (*parent)
        fprintf(stderr, "docker: not yet: '%s %s'\nSee 'docker %s --help'\n", parent, name, parent);
    else
        fprintf(stderr, "docker: '%s' is not a docker command that slipway has.\nSee 'docker --help'\n", name);
    return 1;
}

bool is_slipway_engine(void) {
    static int known = -1;
    if (known < 0) {
        _cleanup_api_ struct api c = {.fd = -1};
        struct api_req rq = {.method = "HEAD", .path = "/_ping"};
        known = api_open(&c, &rq, NULL) >= 0 && api_header(&c, "x-slipway-engine") != NULL;
    }
    return known > 0;
}

/* --- the configuration --------------------------------------------------------------------- */

static const char *chosen_config;

void config_dir(const char *dir) { chosen_config = dir; }

char *config_file(void) {
    const char *d = chosen_config ? chosen_config : getenv("DOCKER_CONFIG");
    if (d && *d)
        return xasprintf("%s/config.json", d);
    const char *h = getenv("HOME");
    return xasprintf("%s/.docker/config.json", h && *h ? h : "/root");
}

char *ref_registry(const char *ref) {
    const char *slash = strchr(ref, '/');
    size_t n = slash ? (size_t)(slash - ref) : 0;
    if (n && (memchr(ref, '.', n) || memchr(ref, ':', n) || (n == 9 && memcmp(ref, "localhost", 9) == 0))) {
        if (n == 15 && memcmp(ref, "index.docker.io", 15) == 0)
            return xstrdup("docker.io");
        return xstrndup(ref, n);
    }
    return xstrdup("docker.io");
}

static bool same_registry(struct sv key, const char *registry) {
    static const char *const hub[] = {"https://index.docker.io/v1/", "index.docker.io", "docker.io",
                                      "registry-1.docker.io", "https://index.docker.io/v1", "https://docker.io"};
    if (sv_starts(key, "https://") && streq(registry, "docker.io") == false)
        key = sv_sub(key, 8, key.n);
    if (streq(registry, "docker.io")) {
        for (size_t i = 0; i < ELEMENTS(hub); i++)
            if (sv_eqs(key, hub[i]))
                return true;
        return false;
    }
    ssize_t slash = sv_chr(key, '/');
    return sv_eqs(slash < 0 ? key : sv_sub(key, 0, (size_t)slash), registry);
}

/* {"username":…,"password":…,"serveraddress":…} of one entry of auths. */
static bool put_auth(struct json_w *w, struct sv server, const struct json *entry) {
    _cleanup_buf_ struct buf plain = BUF_MAX(64u << 10);
    struct sv b64 = json_sv(json_get(entry, "auth"));
    const char *token = json_get_str(entry, "identitytoken", NULL);
    struct sv user = SV(""), pass = SV("");
    if (b64.n && base64_decode(b64, &plain) >= 0) {
        pass = buf_sv(&plain);
        sv_split(&pass, ':', &user);
        while (pass.n && pass.p[pass.n - 1] == 0)
            pass.n--;
    } else if (!token)
        return false;
    jw_obj(w);
    jw_key(w, "username");
    jw_sv(w, user);
    jw_key(w, "password");
    jw_sv(w, pass.p ? pass : SV(""));
    jw_key(w, "serveraddress");
    jw_sv(w, server);
    if (token)
        jw_kstr(w, "identitytoken", token);
    jw_end_obj(w);
    return true;
}

static const struct json *auths(struct arena *a) {
    _cleanup_free_ char *path = config_file();
    struct buf b = BUF_MAX(4u << 20);
    struct json *j = NULL;
    if (fs_read(AT_FDCWD, path, &b, NULL) >= 0) {
        struct sv text = arena_sv(a, buf_sv(&b));
        if (json_parse(a, text, &j, NULL) < 0)
            j = NULL;
    }
    buf_done(&b);
    return json_get(j, "auths");
}

void registry_auth(struct buf *b, const char *ref) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf j = BUF_MAX(256u << 10);
    _cleanup_free_ char *registry = ref_registry(ref);
    const struct json *all = auths(&a);
    struct json_w w;
    jw_init(&w, &j, 0);
    for (size_t i = 0; all && all->kind == JSON_OBJECT && i < all->n; i++)
        if (same_registry(all->keys[i], registry) && put_auth(&w, all->keys[i], all->items[i]))
            break;
    struct sv text = j.n ? buf_sv(&j) : SV("{}");
    buf_add_base64url(b, text.p, text.n);
}

void registry_auth_all(struct buf *b) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf j = BUF_MAX(1u << 20);
    const struct json *all = auths(&a);
    struct json_w w;
    jw_init(&w, &j, 0);
    jw_obj(&w);
    for (size_t i = 0; all && all->kind == JSON_OBJECT && i < all->n; i++) {
        if (!json_sv(json_get(all->items[i], "auth")).n)
            continue;
        jw_keysv(&w, all->keys[i]);
        if (!put_auth(&w, all->keys[i], all->items[i]))
            jw_null(&w);
    }
    jw_end_obj(&w);
    buf_add_base64url(b, j.p, j.n);
}

int api_save(const char *path, const char *output, const char *failed) {
    struct err e = {0};
    if (!output && isatty(STDOUT_FILENO)) {
        fprintf(stderr, "cowardly refusing to save to a terminal. Use the -o flag or redirect\n");
        return 1;
    }
    _cleanup_api_ struct api c;
    struct api_req rq = {.method = "GET", .path = path};
    if (api_open(&c, &rq, &e) < 0 || (c.status >= 400 && api_fail(&c, &e) < 0))
        return fail_print(&e);
    _cleanup_close_ int fd = output ? open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : dup(STDOUT_FILENO);
    if (fd < 0) {
        err_errno(&e, -errno, "%s: %s", failed, output ? output : "stdout");
        return fail_print(&e);
    }
    char block[64 << 10];
    ssize_t n;
    int r;
    while ((n = api_read(&c, block, sizeof(block), &e)) > 0)
        if ((r = fd_write_all(fd, block, (size_t)n)) < 0) {
            err_errno(&e, r, "%s: %s", failed, output ? output : "stdout");
            n = r;
            break;
        }
    if (n < 0 && output)
        unlink(output);
    return n < 0 ? fail_print(&e) : 0;
}
