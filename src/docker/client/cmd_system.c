#include "docker/client/client.h"

#include <termios.h>
#include <time.h>

int cmd_version(int argc, char **argv) {
    const char *format = NULL;
    const struct flag flags[] = {{"format", 'f', FLAG_STR, &format}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("version [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    struct json *server = NULL;
    int got = api_json(&a, "GET", "/version", SV_NULL, &server, NULL, &e);
    _cleanup_buf_ struct buf client = BUF_MAX(64u << 10), both = BUF_MAX(1u << 20), out = BUF_MAX(1u << 20);
    buf_adds(&client, "{\"Platform\":{\"Name\":\"slipway\"},\"Version\":\"27.0.0-slipway\",\"ApiVersion\":\"1.44\","
             "\"DefaultAPIVersion\":\"1.44\",\"GitCommit\":\"" SLIPWAY_VERSION "\",\"Os\":\"linux\",\"Context\":\"default\"}");
    if (format) {
        struct json_w w;
        struct json *j;
        jw_init(&w, &both, 0);
        jw_obj(&w);
        jw_key(&w, "Client");
        jw_raw(&w, buf_sv(&client));
        jw_key(&w, "Server");
        if (server)
            jw_json(&w, server);
        else
            jw_null(&w);
        jw_end_obj(&w);
        struct err te = {0};
        if (json_parse(&a, buf_sv(&both), &j, &te) < 0 ||
            template_run(&a, streq(format, "json") ? "{{json .}}" : format, j, &out, &te) < 0)
            return fail_print(&te);
        puts(buf_str(&out));
        return got < 0 ? fail_print(&e) : 0;
    }
    printf("Client: slipway\n Version:           27.0.0-slipway\n API version:       1.44\n"
           " slipway version:   " SLIPWAY_VERSION "\n OS/Arch:           linux\n Context:           default\n");
    if (got < 0)
        return fail_print(&e);
    printf("\nServer: %s\n Engine:\n  Version:          %s\n  API version:      %s (minimum version %s)\n"
           "  OS/Arch:          %s/%s\n", json_str(json_path(server, "Platform.Name"), ""),
           json_get_str(server, "Version", ""), json_get_str(server, "ApiVersion", ""),
           json_get_str(server, "MinAPIVersion", ""), json_get_str(server, "Os", ""), json_get_str(server, "Arch", ""));
    return 0;
}

int cmd_info(int argc, char **argv) {
    const char *format = NULL;
    const struct flag flags[] = {{"format", 'f', FLAG_STR, &format}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("info [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    if (api_json(&a, "GET", "/info", SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    if (format) {
        _cleanup_buf_ struct buf out = BUF_MAX(1u << 20);
        if (template_run(&a, streq(format, "json") ? "{{json .}}" : format, j, &out, &e) < 0)
            return fail_print(&e);
        puts(buf_str(&out));
        return 0;
    }
    printf("Client: slipway\n Version:    27.0.0-slipway\n Context:    default\n\nServer:\n Containers: %lld\n"
           "  Running: %lld\n  Paused: %lld\n  Stopped: %lld\n Images: %lld\n Server Version: %s\n"
           " Storage Driver: %s\n Operating System: %s\n OSType: linux\n Architecture: %s\n CPUs: %lld\n Name: %s\n",
           (long long)json_get_int(j, "Containers", 0), (long long)json_get_int(j, "ContainersRunning", 0),
           (long long)json_get_int(j, "ContainersPaused", 0), (long long)json_get_int(j, "ContainersStopped", 0),
           (long long)json_get_int(j, "Images", 0), json_get_str(j, "ServerVersion", ""),
           json_get_str(j, "Driver", ""), json_get_str(j, "OperatingSystem", ""),
           json_get_str(j, "Architecture", ""), (long long)json_get_int(j, "NCPU", 0), json_get_str(j, "Name", ""));
    return 0;
}

/* --- login --------------------------------------------------------------------------------- */

/* The configuration file with the entry of one registry replaced (user NULL: removed). */
static int config_store(const char *key, const char *user, const char *pass, bool *ret_had, struct err *e) {
    _cleanup_free_ char *path = config_file(), *dir = path_dir(path);
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf old = BUF_MAX(4u << 20), b = BUF_MAX(8u << 20), auth = BUF_MAX(256u << 10);
    struct json *j = NULL;
    if (fs_read(AT_FDCWD, path, &old, NULL) >= 0 && old.n) {
        int r = json_parse(&a, buf_sv(&old), &j, e);
        if (r < 0)
            return err_wrap(e, r, "%s", path);
    }
    struct json_w w;
    jw_init(&w, &b, 2);
    jw_obj(&w);
    for (size_t i = 0; j && j->kind == JSON_OBJECT && i < j->n; i++)
        if (!sv_eqs(j->keys[i], "auths")) {
            jw_keysv(&w, j->keys[i]);
            jw_json(&w, j->items[i]);
        }
    jw_key(&w, "auths");
    jw_obj(&w);
    const struct json *all = json_get(j, "auths");
    for (size_t i = 0; all && all->kind == JSON_OBJECT && i < all->n; i++) {
        if (sv_eqs(all->keys[i], key)) {
            if (ret_had)
                *ret_had = true;
            continue;
        }
        jw_keysv(&w, all->keys[i]);
        jw_json(&w, all->items[i]);
    }
    if (user) {
        _cleanup_free_ char *plain = xasprintf("%s:%s", user, pass);
        buf_add_base64(&auth, plain, strlen(plain));
        explicit_bzero(plain, strlen(plain));
        jw_key(&w, key);
        jw_obj(&w);
        jw_kstr(&w, "auth", buf_str(&auth));
        jw_end_obj(&w);
    }
    jw_end_obj(&w);
    jw_end_obj(&w);
    buf_addc(&b, '\n');
    int r = fs_mkdirs(AT_FDCWD, dir, 0700);
    if (r < 0)
        return err_errno(e, r, "mkdir %s", dir);
    return fs_write(AT_FDCWD, path, buf_sv(&b), 0600, false, e);
}

static char *ask(const char *prompt, bool hidden) {
    char line[4096];
    struct termios t, off;
    printf("%s", prompt);
    fflush(stdout);
    if (hidden && tcgetattr(STDIN_FILENO, &t) == 0) {
        off = t;
        off.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &off);
    } else
        hidden = false;
    bool got = fgets(line, sizeof(line), stdin) != NULL;
    if (hidden) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &t);
        putchar('\n');
    }
    return got ? sv_dup(sv_trim(sv_from(line))) : NULL;
}

static const char *config_key(const char *server) {
    if (!server || streq(server, "docker.io") || streq(server, "index.docker.io") ||
        streq(server, "registry-1.docker.io") || streq(server, "https://index.docker.io/v1/") || !*server)
        return "https://index.docker.io/v1/";
    return server;
}

int cmd_login(int argc, char **argv) {
    const char *user = NULL, *pass = NULL;
    bool from_stdin = false, help = false;
    const struct flag flags[] = {{"username", 'u', FLAG_STR, &user}, {"password", 'p', FLAG_STR, &pass},
                                 {"password-stdin", 0, FLAG_BOOL, &from_stdin}};
    /* "docker login -u $USER -p $EMPTY" ends in a -p without a value: an empty password, which the
     * engine may accept for a registry that is captured. */
    struct flag_set set = {flags, ELEMENTS(flags), .interspersed = true, .last_may_lack_value = true};
    _cleanup_strv_ struct strv rest = {0};
    struct err e = {0};
    if (flags_parse(&set, argc - 1, argv + 1, &rest, &help, &e) < 0)
        return fail_usage("login", &e);
    if (help)
        return usage_help("login [OPTIONS] [SERVER]", "  -u, --username\n  -p, --password\n      --password-stdin\n");
    if (rest.n > 1) {
        fprintf(stderr, "\"docker login\" requires at most 1 argument.\nSee 'docker login --help'.\n");
        return 1;
    }
    if (from_stdin && pass) {
        fprintf(stderr, "--password and --password-stdin are mutually exclusive\n");
        return 1;
    }
    _cleanup_buf_ struct buf in = BUF_MAX(1u << 20);
    _cleanup_free_ char *asked_user = NULL, *asked_pass = NULL;
    if (from_stdin) {
        if (!user) {
            fprintf(stderr, "Must provide --username with --password-stdin\n");
            return 1;
        }
        fs_read_fd(STDIN_FILENO, &in);
        while (in.n && (in.p[in.n - 1] == '\n' || in.p[in.n - 1] == '\r'))
            buf_cut(&in, in.n - 1, 1);
        pass = buf_str(&in);
    } else if (pass)
        fprintf(stderr, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
    if (isatty(STDIN_FILENO) && !from_stdin) {
        if (!user)
            user = asked_user = ask("Username: ", false);
        if (user && !pass)
            pass = asked_pass = ask("Password: ", true);
    }
    const char *server = rest.n ? rest.v[0] : NULL;
    if (server && (startswith(server, "https://") || startswith(server, "http://")) && !streq(server, config_key(NULL)))
        server = strstr(server, "://") + 3;
    _cleanup_buf_ struct buf body = BUF_MAX(2u << 20);
    struct json_w w;
    jw_init(&w, &body, 0);
    jw_obj(&w);
    jw_kstr(&w, "username", user ? user : "");
    jw_kstr(&w, "password", pass ? pass : "");
    jw_kstr(&w, "serveraddress", config_key(server));
    jw_end_obj(&w);
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    if (api_json(&a, "POST", "/auth", buf_sv(&body), &j, NULL, &e) < 0) {
        if (!user || !*user || !pass || !*pass)
            fprintf(stderr, "Error: Cannot perform an interactive login from a non TTY device\n");
        return fail_print(&e);
    }
    const char *warning = json_get_str(j, "Warning", NULL);
    if (warning && *warning)
        fprintf(stderr, "%s\n", warning);
    if (config_store(config_key(server), user ? user : "", pass ? pass : "", NULL, &e) < 0)
        return fail_print(&e);
    _cleanup_free_ char *path = config_file();
    fprintf(stderr, "WARNING! Your password will be stored unencrypted in %s.\n", path);
    printf("%s\n", json_get_str(j, "Status", "Login Succeeded"));
    return 0;
}

int cmd_logout(int argc, char **argv) {
    const struct flag none[] = {{NULL}};
    _cleanup_strv_ struct strv rest = {0};
    int r = cmd_flags("logout [SERVER]", none, 0, argc - 1, argv + 1, &rest, 0, 1);
    if (r >= 0)
        return r;
    struct err e = {0};
    bool had = false;
    const char *key = config_key(rest.n ? rest.v[0] : NULL);
    if (config_store(key, NULL, NULL, &had, &e) < 0)
        return fail_print(&e);
    if (had)
        printf("Removing login credentials for %s\n", key);
    else
        printf("Not logged in to %s\n", key);
    return 0;
}

/* --- events, system ------------------------------------------------------------------------ */

static void event_line(const struct json *j) {
    const struct json *attrs = json_path(j, "Actor.Attributes");
    int64_t ns = json_get_int(j, "timeNano", 0);
    time_t t = (time_t)(ns / 1000000000);
    struct tm tm;
    char when[64];
    gmtime_r(&t, &tm);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
    printf("%s.%09lldZ %s %s %s", when, (long long)(ns % 1000000000), json_get_str(j, "Type", ""),
           json_get_str(j, "Action", ""), json_str(json_path(j, "Actor.ID"), ""));
    for (size_t i = 0; attrs && i < attrs->n; i++)
        printf("%s" SV_FMT "=" SV_FMT, i ? ", " : " (", SV_ARG(attrs->keys[i]), SV_ARG(json_sv(attrs->items[i])));
    puts(attrs && attrs->n ? ")" : "");
    fflush(stdout);
}

int cmd_events(int argc, char **argv) {
    const char *format = NULL, *since = NULL, *until = NULL;
    struct strv filters = {0};
    const struct flag flags[] = {{"format", 0, FLAG_STR, &format}, {"since", 0, FLAG_STR, &since},
                                 {"until", 0, FLAG_STR, &until}, {"filter", 'f', FLAG_LIST, &filters}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("events [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), fj = BUF_MAX(32u << 10), line = BUF_MAX(1u << 20);
    buf_adds(&path, "/events");
    query_add(&path, "since", since);
    query_add(&path, "until", until);
    if (filters.n) {
        filters_json(&fj, &filters);
        query_add(&path, "filters", buf_str(&fj));
    }
    strv_done(&filters);
    _cleanup_api_ struct api c;
    struct api_req rq = {.method = "GET", .path = buf_str(&path)};
    if (api_open(&c, &rq, &e) < 0 || (c.status >= 400 && api_fail(&c, &e) < 0))
        return fail_print(&e);
    char block[8192];
    ssize_t n;
    while ((n = api_read(&c, block, sizeof(block), &e)) > 0) {
        buf_add(&line, block, (size_t)n);
        char *nl;
        while (line.n && (nl = memchr(line.p, '\n', line.n))) {
            _cleanup_arena_ struct arena a = {0};
            struct json *j = NULL;
            if (json_parse(&a, sv_n(line.p, (size_t)(nl - line.p)), &j, NULL) >= 0 && j) {
                _cleanup_buf_ struct buf out = BUF_MAX(1u << 20);
                if (!format)
                    event_line(j);
                else if (template_run(&a, streq(format, "json") ? "{{json .}}" : format, j, &out, &e) < 0)
                    return fail_print(&e);
                else
                    puts(buf_str(&out));
                fflush(stdout);
            }
            buf_cut(&line, 0, (size_t)(nl - line.p) + 1);
        }
    }
    return n < 0 ? fail_print(&e) : 0;
}

/* What `docker system prune -f` removes, in its order. */
static int system_prune(int argc, char **argv) {
    bool force = false, all = false, volumes = false;
    const struct flag flags[] = {{"force", 'f', FLAG_BOOL, &force}, {"all", 'a', FLAG_BOOL, &all}, {"volumes", 0, FLAG_BOOL, &volumes},
                                 {"filter", 0, FLAG_NOTYET_STR}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("system prune [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    char *words[] = {(char *)"", (char *)"prune", (char *)"-f", all ? (char *)"-a" : NULL, NULL};
    r = cmd_container(3, words) | cmd_network(3, words);
    if (volumes)
        r |= cmd_volume(3, words);
    return r | cmd_image(all ? 4 : 3, words);
}

static int cmd_df(int argc, char **argv) { return not_yet("docker system df"); }

int cmd_system(int argc, char **argv) {
    static const struct command cmds[] = {
        {"info", cmd_info, "Display system-wide information"}, {"events", cmd_events, "Get real time events"},
        {"prune", system_prune, "Remove unused data"}, {"df", cmd_df, NULL},
    };
    return dispatch("system", cmds, ELEMENTS(cmds), argc, argv);
}
