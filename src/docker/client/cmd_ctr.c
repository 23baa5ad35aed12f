#include "docker/client/client.h"

#include <time.h>

static void ctr_path(struct buf *b, const char *id, const char *verb) {
    buf_adds(b, "/containers/");
    path_add(b, id);
    buf_adds(b, verb);
}

/* --- ps ------------------------------------------------------------------------------------ */

static void ports_text(const struct json *ports, struct buf *b) {
    for (size_t i = 0; ports && i < ports->n; i++) {
        const struct json *p = ports->items[i];
        if (i)
            buf_adds(b, ", ");
        const char *ip = json_get_str(p, "IP", NULL);
        int64_t pub = json_get_int(p, "PublicPort", 0), priv = json_get_int(p, "PrivatePort", 0);
        if (pub)
            buf_addf(b, strchr(ip ? ip : "", ':') ? "[%s]:%lld->" : "%s:%lld->", ip ? ip : "0.0.0.0", (long long)pub);
        buf_addf(b, "%lld/%s", (long long)priv, json_get_str(p, "Type", "tcp"));
    }
}

static void join_keys(const struct json *o, struct buf *b, bool values) {
    for (size_t i = 0; o && o->kind == JSON_OBJECT && i < o->n; i++) {
        if (i)
            buf_addc(b, ',');
        buf_addsv(b, o->keys[i]);
        if (values) {
            buf_addc(b, '=');
            buf_addsv(b, json_sv(o->items[i]));
        }
    }
}

static struct json *ps_row(struct arena *a, const struct json *c, bool no_trunc) {
    struct json *row = row_new(a, 16);
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    struct sv id = json_sv(json_get(c, "Id")), cmd = json_sv(json_get(c, "Command"));
    row_add(a, row, "ID", no_trunc ? id : sv_sub(id, 0, 12));
    struct sv image = json_sv(json_get(c, "Image"));
    row_add(a, row, "Image", sv_starts(image, "sha256:") && !no_trunc ? sv_sub(image, 7, 12) : image);
    buf_addc(&t, '"');
    if (!no_trunc && cmd.n > 20) {
        buf_addsv(&t, sv_sub(cmd, 0, 19));
        buf_adds(&t, "…");
    } else
        buf_addsv(&t, cmd);
    buf_addc(&t, '"');
    row_add(a, row, "Command", buf_sv(&t));
    int64_t created = json_get_int(c, "Created", 0);
    buf_reset(&t);
    human_duration(&t, (int64_t)time(NULL) - created);
    buf_adds(&t, " ago");
    row_add(a, row, "RunningFor", buf_sv(&t));
    time_t when = (time_t)created;
    struct tm tm;
    char text[64];
    localtime_r(&when, &tm);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z %Z", &tm);
    row_add(a, row, "CreatedAt", sv_from(text));
    row_add(a, row, "Status", json_sv(json_get(c, "Status")));
    row_add(a, row, "State", json_sv(json_get(c, "State")));
    buf_reset(&t);
    ports_text(json_get(c, "Ports"), &t);
    row_add(a, row, "Ports", buf_sv(&t));
    buf_reset(&t);
    const struct json *names = json_get(c, "Names");
    for (size_t i = 0; names && i < names->n; i++) {
        struct sv n = json_sv(names->items[i]);
        if (i)
            buf_addc(&t, ',');
        buf_addsv(&t, sv_starts(n, "/") ? sv_sub(n, 1, n.n) : n);
    }
    row_add(a, row, "Names", buf_sv(&t));
    buf_reset(&t);
    join_keys(json_get(c, "Labels"), &t, true);
    row_add(a, row, "Labels", buf_sv(&t));
    buf_reset(&t);
    join_keys(json_path(c, "NetworkSettings.Networks"), &t, false);
    row_add(a, row, "Networks", buf_sv(&t));
    buf_reset(&t);
    const struct json *m = json_get(c, "Mounts");
    for (size_t i = 0; m && i < m->n; i++)
        buf_addf(&t, "%s%s", i ? "," : "", json_get_str(m->items[i], "Name", json_get_str(m->items[i], "Source", "")));
    row_add(a, row, "Mounts", buf_sv(&t));
    row_add(a, row, "LocalVolumes", SV("0"));
    row_add(a, row, "Size", SV("0B"));
    return row;
}

int cmd_ps(int argc, char **argv) {
    bool all = false, quiet = false, no_trunc = false, latest = false;
    const char *format = NULL;
    int64_t last = -1;
    struct strv filters = {0};
    const struct flag flags[] = {
        {"all", 'a', FLAG_BOOL, &all}, {"quiet", 'q', FLAG_BOOL, &quiet}, {"no-trunc", 0, FLAG_BOOL, &no_trunc},
        {"latest", 'l', FLAG_BOOL, &latest}, {"last", 'n', FLAG_INT, &last}, {"format", 0, FLAG_STR, &format},
        {"filter", 'f', FLAG_LIST, &filters}, {"size", 's', FLAG_NOTYET},
    };
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("ps [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), fj = BUF_MAX(32u << 10);
    struct json *j = NULL;
    buf_addf(&path, "/containers/json?all=%d", all || latest || last > 0);
    if (latest || last > 0)
        buf_addf(&path, "&limit=%lld", latest ? 1LL : (long long)last);
    if (filters.n) {
        filters_json(&fj, &filters);
        query_add(&path, "filters", buf_str(&fj));
    }
    strv_done(&filters);
    if (api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    size_t n = j ? j->n : 0;
    struct json **rows = ARENA_ARRAY(&a, struct json *, n + 1);
    for (size_t i = 0; i < n; i++)
        rows[i] = ps_row(&a, j->items[i], no_trunc);
    if (quiet && !format)
        format = "{{.ID}}";
    static const char *const headers[] = {"ID", "CONTAINER ID", "Image", "IMAGE", "Command", "COMMAND", "RunningFor", "CREATED",
                                          "CreatedAt", "CREATED AT", "Status", "STATUS", "State", "STATE", "Ports", "PORTS",
                                          "Names", "NAMES", "Labels", "LABELS", "Networks", "NETWORKS", "Mounts", "MOUNTS", NULL};
    const char *def = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
    return print_rows(&a, format, def, headers, rows, n, &e) < 0 ? fail_print(&e) : 0;
}

/* --- logs ---------------------------------------------------------------------------------- */

/* A Go duration ("10m") means that long ago; else a time or a Unix time is passed on. */
static void time_arg(struct buf *path, const char *key, const char *v) {
    uint64_t ns;
    char t[40];
    if (v && strspn(v, "0123456789.") != strlen(v) && duration_parse(v, &ns) >= 0) {
        uint64_t at = now_real() - ns;
        snprintf(t, sizeof(t), "%llu.%09llu", (unsigned long long)(at / 1000000000), (unsigned long long)(at % 1000000000));
        v = t;
    } else if (v && strchr(v, '-') && parse_time(v)) {
        snprintf(t, sizeof(t), "%lld", (long long)parse_time(v));
        v = t;
    }
    query_add(path, key, v);
}

int cmd_logs(int argc, char **argv) {
    bool follow = false, stamps = false;
    const char *tail = NULL, *since = NULL, *until = NULL;
    const struct flag flags[] = {
        {"follow", 'f', FLAG_BOOL, &follow}, {"timestamps", 't', FLAG_BOOL, &stamps}, {"tail", 'n', FLAG_STR, &tail},
        {"since", 0, FLAG_STR, &since}, {"until", 0, FLAG_STR, &until}, {"details", 0, FLAG_SKIP},
    };
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("logs [OPTIONS] CONTAINER", flags, argc, argv, &rest, 1, 1);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), info = BUF_MAX(64u << 10);
    struct json *j = NULL;
    ctr_path(&info, rest.v[0], "/json");
    if (api_json(&a, "GET", buf_str(&info), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    ctr_path(&path, rest.v[0], "/logs?stdout=1&stderr=1");
    buf_addf(&path, "&follow=%d&timestamps=%d", follow, stamps);
    query_add(&path, "tail", tail ? tail : "all");
    time_arg(&path, "since", since);
    time_arg(&path, "until", until);
    _cleanup_api_ struct api c;
    struct api_req rq = {.method = "GET", .path = buf_str(&path)};
    if (api_open(&c, &rq, &e) < 0 || (c.status >= 400 && api_fail(&c, &e) < 0) ||
        stream_body(&c, json_bool(json_path(j, "Config.Tty"), false), &e) < 0)
        return fail_print(&e);
    return 0;
}

/* --- the simple verbs ---------------------------------------------------------------------- */

static int each(const struct strv *names, const char *method, const char *verb, const char *query, bool print,
                bool missing_is_fine) {
    int code = 0;
    for (size_t i = 0; i < names->n; i++) {
        struct err e = {0};
        int status = 0;
        _cleanup_arena_ struct arena a = {0};
        _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
        ctr_path(&path, names->v[i], verb);
        buf_adds(&path, query);
        if (api_json(&a, method, buf_str(&path), SV_NULL, NULL, &status, &e) < 0) {
            if (missing_is_fine && status == 404) {
                fail_print(&e);
                continue;
            }
            code = fail_print(&e);
        } else if (print)
            puts(names->v[i]);
        fflush(stdout);
    }
    return code;
}

static int stop_or_restart(int argc, char **argv, const char *usage, const char *verb) {
    const char *t = NULL, *sig = NULL;
    const struct flag flags[] = {{"time", 't', FLAG_STR, &t}, {"timeout", 0, FLAG_STR, &t}, {"signal", 's', FLAG_STR, &sig}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS(usage, flags, argc, argv, &rest, 1, SIZE_MAX);
    if (r >= 0)
        return r;
    _cleanup_buf_ struct buf q = BUF_SMALL;
    query_add(&q, "t", t);
    query_add(&q, "signal", sig);
    return each(&rest, "POST", verb, buf_str(&q), true, false);
}

int cmd_stop(int argc, char **argv) {
    return stop_or_restart(argc, argv, "stop [OPTIONS] CONTAINER [CONTAINER...]", "/stop");
}

int cmd_restart(int argc, char **argv) {
    return stop_or_restart(argc, argv, "restart [OPTIONS] CONTAINER [CONTAINER...]", "/restart");
}

int cmd_kill(int argc, char **argv) {
    const char *sig = NULL;
    const struct flag flags[] = {{"signal", 's', FLAG_STR, &sig}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("kill [OPTIONS] CONTAINER [CONTAINER...]", flags, argc, argv, &rest, 1, SIZE_MAX);
    if (r >= 0)
        return r;
    _cleanup_buf_ struct buf q = BUF_SMALL;
    query_add(&q, "signal", sig ? sig : "KILL");
    return each(&rest, "POST", "/kill", buf_str(&q), true, false);
}

int cmd_rm(int argc, char **argv) {
    bool force = false, volumes = false;
    const struct flag flags[] = {{"force", 'f', FLAG_BOOL, &force}, {"volumes", 'v', FLAG_BOOL, &volumes},
                                 {"link", 'l', FLAG_NOTYET}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("rm [OPTIONS] CONTAINER [CONTAINER...]", flags, argc, argv, &rest, 1, SIZE_MAX);
    if (r >= 0)
        return r;
    _cleanup_free_ char *q = xasprintf("?force=%d&v=%d", force, volumes);
    return each(&rest, "DELETE", "", q, true, force);
}

int cmd_wait(int argc, char **argv) {
    const struct flag none[] = {{NULL}};
    _cleanup_strv_ struct strv rest = {0};
    int r = cmd_flags("wait CONTAINER [CONTAINER...]", none, 0, argc - 1, argv + 1, &rest, 1, SIZE_MAX);
    if (r >= 0)
        return r;
    int code = 0;
    for (size_t i = 0; i < rest.n; i++) {
        struct err e = {0};
        _cleanup_arena_ struct arena a = {0};
        _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
        struct json *j = NULL;
        ctr_path(&path, rest.v[i], "/wait");
        if (api_json(&a, "POST", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
            code = fail_print(&e);
        else
            printf("%lld\n", (long long)json_get_int(j, "StatusCode", -1));
        fflush(stdout);
    }
    return code;
}

int cmd_rename(int argc, char **argv) {
    const struct flag none[] = {{NULL}};
    _cleanup_strv_ struct strv rest = {0};
    int r = cmd_flags("rename CONTAINER NEW_NAME", none, 0, argc - 1, argv + 1, &rest, 2, 2);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
    ctr_path(&path, rest.v[0], "/rename");
    query_add(&path, "name", rest.v[1]);
    return api_json(&a, "POST", buf_str(&path), SV_NULL, NULL, NULL, &e) < 0 ? fail_print(&e) : 0;
}

int cmd_port(int argc, char **argv) {
    const struct flag none[] = {{NULL}};
    _cleanup_strv_ struct strv rest = {0};
    int r = cmd_flags("port CONTAINER [PRIVATE_PORT[/PROTO]]", none, 0, argc - 1, argv + 1, &rest, 1, 2);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
    struct json *j = NULL;
    ctr_path(&path, rest.v[0], "/json");
    if (api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    const struct json *ports = json_path(j, "NetworkSettings.Ports");
    _cleanup_free_ char *want = rest.n > 1 ? xasprintf("%s%s", rest.v[1], strchr(rest.v[1], '/') ? "" : "/tcp") : NULL;
    bool found = false;
    for (size_t i = 0; ports && ports->kind == JSON_OBJECT && i < ports->n; i++) {
        if (want && !sv_eqs(ports->keys[i], want))
            continue;
        for (size_t k = 0; ports->items[i] && k < ports->items[i]->n; k++) {
            const struct json *b = ports->items[i]->items[k];
            const char *ip = json_get_str(b, "HostIp", "0.0.0.0");
            if (!want)
                printf(SV_FMT " -> ", SV_ARG(ports->keys[i]));
            printf(strchr(ip, ':') ? "[%s]:%s\n" : "%s:%s\n", ip, json_get_str(b, "HostPort", ""));
            found = true;
        }
    }
    if (want && !found) {
        fprintf(stderr, "Error: No public port '%s' published for %s\n", want, rest.v[0]);
        return 1;
    }
    return 0;
}

int cmd_top(int argc, char **argv) {
    const struct flag none[] = {{NULL}};
    _cleanup_strv_ struct strv rest = {0};
    if (argc > 1 && *argv[1] != '-') { /* what follows are options of ps */
        for (int i = 1; i < argc; i++)
            strv_add(&rest, argv[i]);
    } else {
        int r = cmd_flags("top CONTAINER [ps OPTIONS]", none, 0, argc - 1, argv + 1, &rest, 1, SIZE_MAX);
        if (r >= 0)
            return r;
    }
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), args = BUF_SMALL, out = BUF_MAX(4u << 20);
    struct json *j = NULL;
    ctr_path(&path, rest.v[0], "/top");
    for (size_t i = 1; i < rest.n; i++)
        buf_addf(&args, "%s%s", i > 1 ? " " : "", rest.v[i]);
    query_add(&path, "ps_args", args.n ? buf_str(&args) : NULL);
    if (api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    const struct json *t = json_get(j, "Titles"), *p = json_get(j, "Processes");
    for (size_t i = 0; t && i < t->n; i++)
        buf_addf(&out, "%s%s", i ? "\t" : "", json_str(t->items[i], ""));
    buf_addc(&out, '\n');
    for (size_t i = 0; p && i < p->n; i++) {
        for (size_t k = 0; k < p->items[i]->n; k++)
            buf_addf(&out, "%s%s", k ? "\t" : "", json_str(p->items[i]->items[k], ""));
        buf_addc(&out, '\n');
    }
    table_print(stdout, buf_sv(&out));
    return 0;
}

static int container_inspect(int argc, char **argv) {
    const char *format = NULL;
    bool size = false;
    const struct flag flags[] = {{"format", 'f', FLAG_STR, &format}, {"size", 's', FLAG_BOOL, &size}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("container inspect [OPTIONS] CONTAINER [CONTAINER...]", flags, argc, argv, &rest, 1, SIZE_MAX);
    return r >= 0 ? r : inspect_names("container", &rest, format, size);
}

/* Removes what is stopped, as `docker container prune -f`. */
static int container_prune(int argc, char **argv) {
    bool force = false;
    const struct flag flags[] = {{"force", 'f', FLAG_BOOL, &force}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("container prune [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    if (api_json(&a, "POST", "/containers/prune", SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    const struct json *gone = json_get(j, "ContainersDeleted");
    if (gone && gone->n) {
        puts("Deleted Containers:");
        for (size_t i = 0; i < gone->n; i++)
            puts(json_str(gone->items[i], ""));
        puts("");
    }
    puts("Total reclaimed space: 0B");
    return 0;
}

int cmd_container(int argc, char **argv) {
    static const struct command cmds[] = {
        {"run", cmd_run, "Create and run a new container from an image"}, {"create", cmd_create, "Create a new container"},
        {"start", cmd_start, "Start stopped containers"}, {"stop", cmd_stop, "Stop running containers"},
        {"restart", cmd_restart, "Restart containers"}, {"kill", cmd_kill, "Kill running containers"},
        {"ls", cmd_ps, "List containers"}, {"ps", cmd_ps, NULL}, {"list", cmd_ps, NULL},
        {"logs", cmd_logs, "Fetch the logs of a container"}, {"exec", cmd_exec, "Execute a command in a running container"},
        {"cp", cmd_cp, "Copy files"}, {"rm", cmd_rm, "Remove containers"}, {"wait", cmd_wait, "Block until containers stop"},
        {"attach", cmd_attach, "Attach to a running container"}, {"inspect", container_inspect, "Display detailed information"},
        {"port", cmd_port, "List port mappings"}, {"rename", cmd_rename, "Rename a container"},
        {"top", cmd_top, "Display the running processes"},
        {"diff", cmd_diff, "Inspect changes of files"}, {"export", cmd_export, "Export the file system as a tar archive"},
        {"commit", cmd_commit, "Create a new image"}, {"pause", cmd_pause, "Pause"}, {"unpause", cmd_unpause, "Unpause"},
        {"stats", cmd_stats, "Display a sample of resource usage"}, {"update", cmd_update, "Update configuration"}, {"prune", container_prune, "Remove all stopped containers"},
    };
    return dispatch("container", cmds, ELEMENTS(cmds), argc, argv);
}
