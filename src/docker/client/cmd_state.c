/* A container's state and what it wrote: diff, export, commit, pause, unpause, stats, update. */
#include "docker/client/client.h"

static void ctr_path(struct buf *b, const char *id, const char *verb) {
    buf_adds(b, "/containers/");
    path_add(b, id);
    buf_adds(b, verb);
}

int cmd_diff(int argc, char **argv) {
    const struct flag none[] = {{NULL}};
    _cleanup_strv_ struct strv rest = {0};
    int r = cmd_flags("diff CONTAINER", none, 0, argc - 1, argv + 1, &rest, 1, 1);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
    struct json *j = NULL;
    ctr_path(&path, rest.v[0], "/changes");
    if (api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    for (size_t i = 0; j && i < j->n; i++) {
        int64_t kind = json_get_int(j->items[i], "Kind", 0);
        printf("%c %s\n", kind == 1 ? 'A' : kind == 2 ? 'D' : 'C', json_get_str(j->items[i], "Path", ""));
    }
    return 0;
}

int cmd_export(int argc, char **argv) {
    const char *output = NULL;
    const struct flag flags[] = {{"output", 'o', FLAG_STR, &output}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("export [OPTIONS] CONTAINER", flags, argc, argv, &rest, 1, 1);
    if (r >= 0)
        return r;
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
    ctr_path(&path, rest.v[0], "/export");
    return api_save(buf_str(&path), output, "failed to export container");
}

int cmd_commit(int argc, char **argv) {
    const char *message = NULL, *author = NULL;
    bool pause = true;
    struct strv changes = {0};
    const struct flag flags[] = {{"message", 'm', FLAG_STR, &message}, {"author", 'a', FLAG_STR, &author},
                                 {"change", 'c', FLAG_LIST, &changes}, {"pause", 'p', FLAG_BOOL, &pause}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]", flags, argc, argv, &rest, 1, 2);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(1u << 20);
    struct json *j = NULL;
    buf_addf(&path, "/commit?pause=%d", pause);
    query_add(&path, "container", rest.v[0]);
    if (rest.n > 1) {
        const char *slash = strrchr(rest.v[1], '/'), *colon = strchr(slash ? slash : rest.v[1], ':');
        _cleanup_free_ char *repo = xstrndup(rest.v[1], colon ? (size_t)(colon - rest.v[1]) : strlen(rest.v[1]));
        query_add(&path, "repo", repo);
        query_add(&path, "tag", colon ? colon + 1 : NULL);
    }
    query_add(&path, "comment", message);
    query_add(&path, "author", author);
    for (size_t i = 0; i < changes.n; i++)
        query_add(&path, "changes", changes.v[i]);
    strv_done(&changes);
    if (api_json(&a, "POST", buf_str(&path), SV("{}"), &j, NULL, &e) < 0)
        return fail_print(&e);
    puts(json_get_str(j, "Id", ""));
    return 0;
}

static int simple(int argc, char **argv, const char *usage, const char *verb) {
    const struct flag none[] = {{NULL}};
    _cleanup_strv_ struct strv rest = {0};
    int r = cmd_flags(usage, none, 0, argc - 1, argv + 1, &rest, 1, SIZE_MAX), code = 0;
    if (r >= 0)
        return r;
    for (size_t i = 0; i < rest.n; i++) {
        struct err e = {0};
        _cleanup_arena_ struct arena a = {0};
        _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
        ctr_path(&path, rest.v[i], verb);
        if (api_json(&a, "POST", buf_str(&path), SV_NULL, NULL, NULL, &e) < 0)
            code = fail_print(&e);
        else
            puts(rest.v[i]);
        fflush(stdout);
    }
    return code;
}

int cmd_pause(int argc, char **argv) { return simple(argc, argv, "pause CONTAINER [CONTAINER...]", "/pause"); }
int cmd_unpause(int argc, char **argv) { return simple(argc, argv, "unpause CONTAINER [CONTAINER...]", "/unpause"); }

/* Nothing of it can be changed here yet but to what it is. */
int cmd_update(int argc, char **argv) {
    const char *restart = NULL;
    const struct flag flags[] = {{"restart", 0, FLAG_STR, &restart}, {"memory", 'm', FLAG_NOTYET_STR}, {"cpus", 0, FLAG_NOTYET_STR},
                                 {"cpu-shares", 'c', FLAG_NOTYET_STR}, {"memory-swap", 0, FLAG_NOTYET_STR},
                                 {"pids-limit", 0, FLAG_NOTYET_STR}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("update [OPTIONS] CONTAINER [CONTAINER...]", flags, argc, argv, &rest, 1, SIZE_MAX), code = 0;
    if (r >= 0)
        return r;
    _cleanup_buf_ struct buf body = BUF_MAX(64u << 10);
    struct json_w w;
    jw_init(&w, &body, 0);
    jw_obj(&w);
    jw_key(&w, "RestartPolicy");
    jw_obj(&w);
    jw_kstr(&w, "Name", restart ? restart : "");
    jw_end_obj(&w);
    jw_end_obj(&w);
    for (size_t i = 0; i < rest.n; i++) {
        struct err e = {0};
        _cleanup_arena_ struct arena a = {0};
        _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
        ctr_path(&path, rest.v[i], "/update");
        if (api_json(&a, "POST", buf_str(&path), buf_sv(&body), NULL, NULL, &e) < 0)
            code = fail_print(&e);
        else
            puts(rest.v[i]);
    }
    return code;
}

/* --- stats ---------------------------------------------------------------------------------- */

static void binary_size(struct buf *b, double v) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    for (; v >= 1024 && u + 1 < ELEMENTS(units); u++)
        v /= 1024;
    buf_addf(b, "%.4g%s", v, units[u]);
}

static double num(const struct json *j, const char *path) { return (double)json_int(json_path(j, path), 0); }

static struct json *stats_row(struct arena *a, const struct json *j, bool no_trunc) {
    struct json *row = row_new(a, 16);
    _cleanup_buf_ struct buf t = BUF_SMALL;
    struct sv id = json_sv(json_get(j, "id"));
    const char *name = json_get_str(j, "name", "");
    double cpu = num(j, "cpu_stats.cpu_usage.total_usage") - num(j, "precpu_stats.cpu_usage.total_usage"),
           sys = num(j, "cpu_stats.system_cpu_usage") - num(j, "precpu_stats.system_cpu_usage"),
           mem = num(j, "memory_stats.usage"), limit = num(j, "memory_stats.limit");
    row_add(a, row, "ID", no_trunc ? id : sv_sub(id, 0, 12));
    row_add(a, row, "Container", no_trunc ? id : sv_sub(id, 0, 12));
    row_add(a, row, "Name", sv_from(*name == '/' ? name + 1 : name));
    buf_addf(&t, "%.2f%%", cpu > 0 && sys > 0 ? cpu / sys * num(j, "cpu_stats.online_cpus") * 100 : 0.0);
    row_add(a, row, "CPUPerc", buf_sv(&t));
    buf_reset(&t);
    binary_size(&t, mem);
    buf_adds(&t, " / ");
    binary_size(&t, limit);
    row_add(a, row, "MemUsage", buf_sv(&t));
    buf_reset(&t);
    buf_addf(&t, "%.2f%%", limit > 0 ? mem / limit * 100 : 0.0);
    row_add(a, row, "MemPerc", buf_sv(&t));
    buf_reset(&t);
    human_size(&t, num(j, "networks.eth0.rx_bytes"), 3);
    buf_adds(&t, " / ");
    human_size(&t, num(j, "networks.eth0.tx_bytes"), 3);
    row_add(a, row, "NetIO", buf_sv(&t));
    row_add(a, row, "BlockIO", SV("0B / 0B"));
    buf_reset(&t);
    buf_addf(&t, "%lld", (long long)num(j, "pids_stats.current"));
    row_add(a, row, "PIDs", buf_sv(&t));
    return row;
}

int cmd_stats(int argc, char **argv) {
    bool all = false, no_stream = false, no_trunc = false;
    const char *format = NULL;
    const struct flag flags[] = {{"all", 'a', FLAG_BOOL, &all}, {"no-stream", 0, FLAG_BOOL, &no_stream},
                                 {"no-trunc", 0, FLAG_BOOL, &no_trunc}, {"format", 0, FLAG_STR, &format}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("stats [OPTIONS] [CONTAINER...]", flags, argc, argv, &rest, 0, SIZE_MAX);
    if (r >= 0)
        return r;
    if (!no_stream)
        return not_yet("docker stats without --no-stream");
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    if (!rest.n) {
        if (api_json(&a, "GET", all ? "/containers/json?all=1" : "/containers/json", SV_NULL, &j, NULL, &e) < 0)
            return fail_print(&e);
        for (size_t i = 0; j && i < j->n; i++)
            strv_add(&rest, json_get_str(j->items[i], "Id", ""));
    }
    struct json **rows = ARENA_ARRAY(&a, struct json *, rest.n + 1);
    for (size_t i = 0; i < rest.n; i++) {
        _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
        ctr_path(&path, rest.v[i], "/stats?stream=0");
        j = NULL;
        if (api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
            return fail_print(&e);
        rows[i] = stats_row(&a, j, no_trunc);
    }
    static const char *const headers[] = {"ID", "CONTAINER ID", "Container", "CONTAINER", "Name", "NAME", "CPUPerc", "CPU %",
                                          "MemUsage", "MEM USAGE / LIMIT", "MemPerc", "MEM %", "NetIO", "NET I/O", "BlockIO", "BLOCK I/O",
                                          "PIDs", "PIDS", NULL};
    const char *def = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
    return print_rows(&a, format, def, headers, rows, rest.n, &e) < 0 ? fail_print(&e) : 0;
}
