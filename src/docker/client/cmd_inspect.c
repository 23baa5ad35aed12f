/* inspect, network, volume. */
#include "docker/client/client.h"

struct kind {
    const char *name, *prefix, *suffix;
};
static const struct kind kinds[] = {
    {"container", "/containers/", "/json"}, {"image", "/images/", "/json"},
    {"network", "/networks/", ""}, {"volume", "/volumes/", ""},
};

/* Gives the object's JSON; tries each kind when none is named. */
static int fetch(struct arena *a, const char *kind, const char *name, struct json **ret, struct err *e) {
    struct err first = {0};
    for (size_t i = 0; i < ELEMENTS(kinds); i++) {
        if (kind && !streq(kind, kinds[i].name))
            continue;
        _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
        int status = 0;
        buf_adds(&path, kinds[i].prefix);
        path_add(&path, name);
        buf_adds(&path, kinds[i].suffix);
        int r = api_json(a, "GET", buf_str(&path), SV_NULL, ret, &status, &first);
        if (r >= 0)
            return 0;
        if (status != 404) {
            *e = first;
            return r;
        }
    }
    if (kind && (streq(kind, "container") || streq(kind, "image") || streq(kind, "network") || streq(kind, "volume"))) {
        *e = first;
        return -ENOENT;
    }
    return err_set(e, ERR_NOTFOUND, -ENOENT, "Error: No such object: %s", name);
}

int inspect_names(const char *kind, const struct strv *names, const char *format, bool size) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf out = BUF_MAX(256u << 20);
    struct json_w w;
    int code = 0;
    bool raw = format && *format && !streq(format, "json");
    jw_init(&w, &out, format && streq(format, "json") ? 0 : 4);
    if (!raw)
        jw_arr(&w);
    for (size_t i = 0; i < names->n; i++) {
        struct err e = {0};
        struct json *j = NULL;
        if (fetch(&a, kind, names->v[i], &j, &e) < 0) {
            if (raw || !out.n || out.n > 1) {
                fflush(stdout);
            }
            fprintf(stderr, "%s\n", e.msg);
            code = 1;
            continue;
        }
        if (!raw) {
            jw_json(&w, j);
            continue;
        }
        if (template_run(&a, format, j, &out, &e) < 0) {
            fwrite(out.p ? out.p : "", 1, out.n, stdout);
            buf_reset(&out);
            code = fail_print(&e);
            continue;
        }
        buf_addc(&out, '\n');
    }
    if (!raw) {
        jw_end_arr(&w);
        buf_addc(&out, '\n');
    }
    fwrite(out.p ? out.p : "", 1, out.n, stdout);
    return code;
}

int cmd_inspect(int argc, char **argv) {
    const char *format = NULL, *type = NULL;
    bool size = false;
    const struct flag flags[] = {{"format", 'f', FLAG_STR, &format}, {"type", 0, FLAG_STR, &type}, {"size", 's', FLAG_BOOL, &size}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("inspect [OPTIONS] NAME|ID [NAME|ID...]", flags, argc, argv, &rest, 1, SIZE_MAX);
    if (r >= 0)
        return r;
    if (type && *type && !streq(type, "container") && !streq(type, "image") && !streq(type, "network") && !streq(type, "volume")) {
        fprintf(stderr, "\"%s\" is not a valid value for --type\n", type);
        return 1;
    }
    return inspect_names(type && *type ? type : NULL, &rest, format, size);
}

static int delete_each(const struct strv *names, const char *prefix, bool force) {
    int code = 0;
    for (size_t i = 0; i < names->n; i++) {
        struct err e = {0};
        int status = 0;
        _cleanup_arena_ struct arena a = {0};
        _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
        buf_adds(&path, prefix);
        path_add(&path, names->v[i]);
        if (force)
            buf_adds(&path, "?force=1");
        if (api_json(&a, "DELETE", buf_str(&path), SV_NULL, NULL, &status, &e) < 0) {
            fail_print(&e);
            code |= !(force && status == 404);
        } else
            puts(names->v[i]);
    }
    return code;
}

/* --- network ------------------------------------------------------------------------------- */

static int network_ls(int argc, char **argv) {
    bool quiet = false, no_trunc = false;
    const char *format = NULL;
    struct strv filters = {0};
    const struct flag flags[] = {{"quiet", 'q', FLAG_BOOL, &quiet}, {"no-trunc", 0, FLAG_BOOL, &no_trunc},
                                 {"format", 0, FLAG_STR, &format}, {"filter", 'f', FLAG_LIST, &filters}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("network ls [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), fj = BUF_MAX(32u << 10);
    struct json *j = NULL;
    buf_adds(&path, "/networks");
    if (filters.n) {
        filters_json(&fj, &filters);
        query_add(&path, "filters", buf_str(&fj));
    }
    strv_done(&filters);
    if (api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    size_t n = j ? j->n : 0;
    struct json **rows = ARENA_ARRAY(&a, struct json *, n + 1);
    for (size_t i = 0; i < n; i++) {
        struct json *row = rows[i] = row_new(&a, 8);
        struct sv id = json_sv(json_get(j->items[i], "Id"));
        row_add(&a, row, "ID", no_trunc ? id : sv_sub(id, 0, 12));
        row_add(&a, row, "Name", json_sv(json_get(j->items[i], "Name")));
        row_add(&a, row, "Driver", json_sv(json_get(j->items[i], "Driver")));
        row_add(&a, row, "Scope", json_sv(json_get(j->items[i], "Scope")));
    }
    static const char *const headers[] = {"ID", "NETWORK ID", "Name", "NAME", "Driver", "DRIVER", "Scope", "SCOPE", NULL};
    return print_rows(&a, quiet && !format ? "{{.ID}}" : format, "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", headers,
                      rows, n, &e) < 0 ? fail_print(&e) : 0;
}

static int network_create(int argc, char **argv) {
    const char *driver = "bridge";
    struct strv labels = {0};
    const struct flag flags[] = {
        {"driver", 'd', FLAG_STR, &driver}, {"label", 0, FLAG_LIST, &labels}, {"attachable", 0, FLAG_SKIP},
        {"internal", 0, FLAG_NOTYET}, {"ipv6", 0, FLAG_NOTYET}, {"subnet", 0, FLAG_NOTYET_STR},
        {"gateway", 0, FLAG_NOTYET_STR}, {"ip-range", 0, FLAG_NOTYET_STR}, {"opt", 'o', FLAG_SKIP_STR},
    };
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("network create [OPTIONS] NETWORK", flags, argc, argv, &rest, 1, 1);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf body = BUF_MAX(64u << 10);
    struct json_w w;
    struct json *j = NULL;
    jw_init(&w, &body, 0);
    jw_obj(&w);
    jw_kstr(&w, "Name", rest.v[0]);
    jw_kstr(&w, "Driver", driver);
    jw_kbool(&w, "CheckDuplicate", true);
    jw_key(&w, "Labels");
    jw_obj(&w);
    for (size_t i = 0; i < labels.n; i++) {
        struct sv v = sv_from(labels.v[i]), k;
        sv_split(&v, '=', &k);
        jw_keysv(&w, k);
        jw_sv(&w, v.p ? v : SV(""));
    }
    jw_end_obj(&w);
    jw_end_obj(&w);
    strv_done(&labels);
    if (api_json(&a, "POST", "/networks/create", buf_sv(&body), &j, NULL, &e) < 0)
        return fail_print(&e);
    puts(json_get_str(j, "Id", ""));
    return 0;
}

static int network_rm(int argc, char **argv) {
    bool force = false;
    const struct flag flags[] = {{"force", 'f', FLAG_BOOL, &force}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("network rm [OPTIONS] NETWORK [NETWORK...]", flags, argc, argv, &rest, 1, SIZE_MAX);
    return r >= 0 ? r : delete_each(&rest, "/networks/", force);
}

static int network_join(int argc, char **argv) {
    bool connect = streq(argv[0], "connect"), force = false;
    struct strv aliases = {0};
    const struct flag flags[] = {{"alias", 0, FLAG_LIST, &aliases}, {"force", 'f', FLAG_BOOL, &force},
                                 {"ip", 0, FLAG_NOTYET_STR}, {"link", 0, FLAG_NOTYET_STR}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS(connect ? "network connect [OPTIONS] NETWORK CONTAINER" : "network disconnect [OPTIONS] NETWORK CONTAINER",
                      flags, argc, argv, &rest, 2, 2);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf body = BUF_MAX(64u << 10), path = BUF_MAX(64u << 10);
    struct json_w w;
    jw_init(&w, &body, 0);
    jw_obj(&w);
    jw_kstr(&w, "Container", rest.v[1]);
    jw_kbool(&w, "Force", force);
    jw_key(&w, "EndpointConfig");
    jw_obj(&w);
    jw_key(&w, "Aliases");
    jw_arr(&w);
    for (size_t i = 0; i < aliases.n; i++)
        jw_str(&w, aliases.v[i]);
    jw_end_arr(&w);
    jw_end_obj(&w);
    jw_end_obj(&w);
    strv_done(&aliases);
    buf_adds(&path, "/networks/");
    path_add(&path, rest.v[0]);
    buf_adds(&path, connect ? "/connect" : "/disconnect");
    return api_json(&a, "POST", buf_str(&path), buf_sv(&body), NULL, NULL, &e) < 0 ? fail_print(&e) : 0;
}

static int typed_inspect(int argc, char **argv, const char *kind, const char *usage) {
    const char *format = NULL;
    const struct flag flags[] = {{"format", 'f', FLAG_STR, &format}, {"verbose", 'v', FLAG_SKIP}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS(usage, flags, argc, argv, &rest, 1, SIZE_MAX);
    return r >= 0 ? r : inspect_names(kind, &rest, format, false);
}

static int network_inspect(int argc, char **argv) {
    return typed_inspect(argc, argv, "network", "network inspect [OPTIONS] NETWORK [NETWORK...]");
}

static int network_prune(int argc, char **argv) {
    bool force = false;
    const struct flag flags[] = {{"force", 'f', FLAG_BOOL, &force}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("network prune [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    if (api_json(&a, "POST", "/networks/prune", SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    const struct json *gone = json_get(j, "NetworksDeleted");
    if (gone && gone->n)
        puts("Deleted Networks:");
    for (size_t i = 0; gone && i < gone->n; i++)
        puts(json_str(gone->items[i], ""));
    return 0;
}

int cmd_network(int argc, char **argv) {
    static const struct command cmds[] = {
        {"ls", network_ls, "List networks"}, {"list", network_ls, NULL}, {"create", network_create, "Create a network"},
        {"rm", network_rm, "Remove networks"}, {"remove", network_rm, NULL},
        {"inspect", network_inspect, "Display detailed information"},
        {"prune", network_prune, "Remove all unused networks"}, {"connect", network_join, "Connect a container to a network"},
        {"disconnect", network_join, "Disconnect a container from a network"},
    };
    return dispatch("network", cmds, ELEMENTS(cmds), argc, argv);
}

/* --- volume -------------------------------------------------------------------------------- */

static int volume_ls(int argc, char **argv) {
    bool quiet = false;
    const char *format = NULL;
    struct strv filters = {0};
    const struct flag flags[] = {{"quiet", 'q', FLAG_BOOL, &quiet}, {"format", 0, FLAG_STR, &format}, {"filter", 'f', FLAG_LIST, &filters}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("volume ls [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), fj = BUF_MAX(32u << 10);
    struct json *j = NULL;
    buf_adds(&path, "/volumes");
    if (filters.n) {
        filters_json(&fj, &filters);
        query_add(&path, "filters", buf_str(&fj));
    }
    strv_done(&filters);
    if (api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    const struct json *v = json_get(j, "Volumes");
    size_t n = v && v->kind == JSON_ARRAY ? v->n : 0;
    struct json **rows = ARENA_ARRAY(&a, struct json *, n + 1);
    for (size_t i = 0; i < n; i++) {
        rows[i] = row_new(&a, 8);
        row_add(&a, rows[i], "Driver", json_sv(json_get(v->items[i], "Driver")));
        row_add(&a, rows[i], "Name", json_sv(json_get(v->items[i], "Name")));
        row_add(&a, rows[i], "Mountpoint", json_sv(json_get(v->items[i], "Mountpoint")));
        row_add(&a, rows[i], "Scope", json_sv(json_get(v->items[i], "Scope")));
    }
    static const char *const headers[] = {"Driver", "DRIVER", "Name", "VOLUME NAME", "Mountpoint", "MOUNTPOINT", "Scope", "SCOPE", NULL};
    return print_rows(&a, quiet && !format ? "{{.Name}}" : format, "table {{.Driver}}\t{{.Name}}", headers, rows, n, &e) < 0
               ? fail_print(&e) : 0;
}

static int volume_create(int argc, char **argv) {
    const char *driver = "local", *name = NULL;
    struct strv labels = {0};
    const struct flag flags[] = {{"driver", 'd', FLAG_STR, &driver}, {"name", 0, FLAG_STR, &name},
                                 {"label", 0, FLAG_LIST, &labels}, {"opt", 'o', FLAG_NOTYET_STR}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("volume create [OPTIONS] [VOLUME]", flags, argc, argv, &rest, 0, 1);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf body = BUF_MAX(64u << 10);
    struct json_w w;
    struct json *j = NULL;
    jw_init(&w, &body, 0);
    jw_obj(&w);
    jw_kstr(&w, "Name", rest.n ? rest.v[0] : name ? name : "");
    jw_kstr(&w, "Driver", driver);
    jw_key(&w, "Labels");
    jw_obj(&w);
    for (size_t i = 0; i < labels.n; i++) {
        struct sv v = sv_from(labels.v[i]), k;
        sv_split(&v, '=', &k);
        jw_keysv(&w, k);
        jw_sv(&w, v.p ? v : SV(""));
    }
    jw_end_obj(&w);
    jw_end_obj(&w);
    strv_done(&labels);
    if (api_json(&a, "POST", "/volumes/create", buf_sv(&body), &j, NULL, &e) < 0)
        return fail_print(&e);
    puts(json_get_str(j, "Name", ""));
    return 0;
}

static int volume_rm(int argc, char **argv) {
    bool force = false;
    const struct flag flags[] = {{"force", 'f', FLAG_BOOL, &force}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("volume rm [OPTIONS] VOLUME [VOLUME...]", flags, argc, argv, &rest, 1, SIZE_MAX);
    return r >= 0 ? r : delete_each(&rest, "/volumes/", force);
}

static int volume_inspect(int argc, char **argv) {
    return typed_inspect(argc, argv, "volume", "volume inspect [OPTIONS] VOLUME [VOLUME...]");
}

static int volume_prune(int argc, char **argv) {
    bool force = false, all = false;
    _cleanup_strv_ struct strv rest = {0};
    const struct flag flags[] = {{"force", 'f', FLAG_BOOL, &force}, {"all", 'a', FLAG_BOOL, &all}};
    int r = CMD_FLAGS("volume prune [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    const char *path = all ? "/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D" : "/volumes/prune";
    if (api_json(&a, "POST", path, SV(""), &j, NULL, &e) < 0)
        return fail_print(&e);
    const struct json *v = json_get(j, "VolumesDeleted");
    if (v && v->n)
        printf("Deleted Volumes:\n");
    for (size_t i = 0; v && i < v->n; i++)
        printf("%s\n", json_str(v->items[i], ""));
    return 0;
}

int cmd_volume(int argc, char **argv) {
    static const struct command cmds[] = {
        {"ls", volume_ls, "List volumes"}, {"list", volume_ls, NULL}, {"create", volume_create, "Create a volume"},
        {"rm", volume_rm, "Remove volumes"}, {"remove", volume_rm, NULL},
        {"inspect", volume_inspect, "Display detailed information"}, {"prune", volume_prune, "Remove unused volumes"},
    };
    return dispatch("volume", cmds, ELEMENTS(cmds), argc, argv);
}
