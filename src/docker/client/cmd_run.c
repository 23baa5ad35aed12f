/* run, create, start, attach, exec. The order of a run is docker's: create, attach, wait (sent
 * before the start, or a fast container is gone), start, stream, exit code. */
#include "docker/client/client.h"

/* How docker's client maps what a failed start says to the exit code of `docker run`. */
static int start_code(const char *msg) {
    if (strstr(msg, "executable file not found") || strstr(msg, "no such file or directory"))
        return 127;
    if (strstr(msg, "permission denied") || strstr(msg, "is a directory"))
        return 126;
    return 125;
}

static int run_fail(const char *cmd, const struct err *e, int code) {
    fflush(stdout);
    fprintf(stderr, "docker: %s\nSee 'docker %s --help'.\n", e->msg, cmd);
    return code;
}

/* Creates; an image that is absent is pulled (policy). */
static int create_container(const struct create_opts *o, char *id, size_t id_size, struct err *e) {
    _cleanup_buf_ struct buf body = BUF_MAX(8u << 20), path = BUF_MAX(64u << 10);
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    const char *policy = o->pull ? o->pull : "missing";
    int r = create_opts_body(o, &body, e), status = 0;
    if (r < 0)
        return r;
    buf_adds(&path, "/containers/create");
    query_add(&path, "name", o->name);
    query_add(&path, "platform", o->platform);
    if (o->cidfile && fs_exists(AT_FDCWD, o->cidfile))
        return err_set(e, ERR_USER, -EEXIST, "container ID file found, make sure the other container isn't running or "
                       "delete %s", o->cidfile);
    if (streq(policy, "always") && (r = pull_image(o->image, o->platform, o->quiet, stderr, e)) < 0)
        return r;
    r = api_json(&a, "POST", buf_str(&path), buf_sv(&body), &j, &status, e);
    if (r < 0 && status == 404 && strstr(e->msg, "No such image") && streq(policy, "missing")) {
        if (!o->quiet)
            fprintf(stderr, "Unable to find image '%s%s' locally\n", o->image,
                    strchr(strrchr(o->image, '/') ? strrchr(o->image, '/') : o->image, ':') || strchr(o->image, '@') ? "" : ":latest");
        *e = (struct err){0};
        if ((r = pull_image(o->image, o->platform, o->quiet, stderr, e)) < 0)
            return r;
        r = api_json(&a, "POST", buf_str(&path), buf_sv(&body), &j, &status, e);
    }
    if (r < 0)
        return r;
    const struct json *w = json_get(j, "Warnings");
    for (size_t i = 0; w && i < w->n; i++)
        fprintf(stderr, "WARNING: %s\n", json_str(w->items[i], ""));
    snprintf(id, id_size, "%s", json_get_str(j, "Id", ""));
    if (o->cidfile)
        r = fs_write(AT_FDCWD, o->cidfile, sv_from(id), 0644, false, e);
    return r;
}

static int attach_open(struct api *c, const char *id, bool in, bool out, bool err, bool logs, struct err *e) {
    _cleanup_free_ char *path = xasprintf("/containers/%s/attach?stream=1&stdin=%d&stdout=%d&stderr=%d&logs=%d", id, in,
                                          out, err, logs);
    struct api_req rq = {.method = "POST", .path = path, .hijack = true};
    int r = api_open(c, &rq, e);
    return r >= 0 && c->status >= 400 ? api_fail(c, e) : r;
}

/* Sends the wait; its answer is read after the streams have ended. */
static int wait_open(struct api *c, const char *id, bool removed, struct err *e) {
    _cleanup_free_ char *path = xasprintf("/containers/%s/wait?condition=%s", id, removed ? "removed" : "next-exit");
    struct api_req rq = {.method = "POST", .path = path};
    int r = api_open(c, &rq, e);
    return r >= 0 && c->status >= 400 ? api_fail(c, e) : r;
}

static int wait_code(struct api *c, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    char block[4096];
    ssize_t n;
    while ((n = api_read(c, block, sizeof(block), e)) > 0)
        buf_add(&b, block, (size_t)n);
    if (n < 0)
        return (int)n;
    if (json_parse(&a, buf_sv(&b), &j, e) < 0 || !json_get(j, "StatusCode"))
        return err_set(e, ERR_FAILED, -EPROTO, "the engine did not say how the container ended");
    const char *m = json_str(json_path(j, "Error.Message"), NULL);
    if (m && *m)
        return err_set(e, ERR_FAILED, -EREMOTEIO, "Error waiting for container: %s", m);
    return (int)json_get_int(j, "StatusCode", 125);
}

static int start_container(const char *id, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_free_ char *path = xasprintf("/containers/%s/start", id);
    return api_json(&a, "POST", path, SV_NULL, NULL, NULL, e);
}

static void remove_container(const char *id) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_free_ char *path = xasprintf("/containers/%s?force=1&v=1", id);
    (void)api_json(&a, "DELETE", path, SV_NULL, NULL, NULL, NULL);
}

/* Attached run: everything after create. */
static int run_attached(const struct create_opts *o, const char *id, struct err *e, int *ret_code) {
    _cleanup_api_ struct api at = {.fd = -1}, wt = {.fd = -1};
    bool all = !o->attach.n;
    struct stream_opts so = {
        .tty = o->tty,
        .in = all ? o->stdin_open : strv_contains(&o->attach, "stdin"),
        .out = all || strv_contains(&o->attach, "stdout"),
        .err = all || strv_contains(&o->attach, "stderr"),
    };
    if (so.in && o->tty && !isatty(STDIN_FILENO)) {
        *ret_code = 1;
        return err_set(e, ERR_USER, -ENOTTY, "the input device is not a TTY");
    }
    _cleanup_free_ char *resize = xasprintf("/containers/%s/resize", id), *killp = xasprintf("/containers/%s/kill", id);
    so.resize_path = resize;
    so.kill_path = o->sig_proxy && !(o->tty && so.in) ? killp : NULL;
    int r = attach_open(&at, id, so.in, so.out, so.err, false, e);
    if (r >= 0)
        r = wait_open(&wt, id, o->rm, e);
    if (r < 0)
        return r;
    if ((r = start_container(id, e)) < 0) {
        *ret_code = start_code(e->msg);
        if (o->rm)
            remove_container(id);
        return r;
    }
    if ((r = stream_run(&at, &so, e)) < 0)
        return r;
    r = wait_code(&wt, e);
    if (r >= 0)
        *ret_code = r;
    return r;
}

int cmd_run(int argc, char **argv) {
    struct create_opts o = {0};
    struct err e = {0};
    bool help = false;
    char id[80] = "";
    int code = 125;
    if (create_opts_parse(&o, CREATE_RUN, argc - 1, argv + 1, &help, &e) < 0) {
        create_opts_done(&o);
        if (startswith(e.msg, "\"docker run\"")) {
            fprintf(stderr, "%s\nSee 'docker run --help'.\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n", e.msg);
            return 1;
        }
        fprintf(stderr, "docker: %s\n", e.msg);
        fprintf(stderr, "See 'docker run --help'.\n");
        return 125;
    }
    if (help) {
        create_opts_done(&o);
        return usage_help("run [OPTIONS] IMAGE [COMMAND] [ARG...]", "See: man slipway-docker\n");
    }
    int r = create_container(&o, id, sizeof(id), &e);
    if (r < 0)
        code = run_fail("run", &e, 125);
    else if (o.detach) {
        if ((r = start_container(id, &e)) < 0) {
            code = run_fail("run", &e, start_code(e.msg));
            if (o.rm)
                remove_container(id);
        } else {
            puts(id);
            code = 0;
        }
    } else if ((r = run_attached(&o, id, &e, &code)) < 0)
        code = e.errnum == ENOTTY ? fail_print(&e) : run_fail("run", &e, code);
    create_opts_done(&o);
    return code;
}

int cmd_create(int argc, char **argv) {
    struct create_opts o = {0};
    struct err e = {0};
    bool help = false;
    char id[80] = "";
    int r = create_opts_parse(&o, CREATE_CREATE, argc - 1, argv + 1, &help, &e);
    if (r >= 0 && help) {
        create_opts_done(&o);
        return usage_help("create [OPTIONS] IMAGE [COMMAND] [ARG...]", NULL);
    }
    if (r < 0) {
        create_opts_done(&o);
        return fail_usage("create", &e);
    }
    r = create_container(&o, id, sizeof(id), &e);
    create_opts_done(&o);
    if (r < 0)
        return fail_print(&e);
    puts(id);
    return 0;
}

/* tty, stdin and running of a container. */
static int look(const char *id, bool *tty, bool *in, bool *running, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
    struct json *j = NULL;
    buf_adds(&path, "/containers/");
    path_add(&path, id);
    buf_adds(&path, "/json");
    int r = api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, e);
    if (r < 0)
        return r;
    *tty = json_bool(json_path(j, "Config.Tty"), false);
    *in = json_bool(json_path(j, "Config.OpenStdin"), false);
    *running = json_bool(json_path(j, "State.Running"), false);
    return 0;
}

int cmd_start(int argc, char **argv) {
    bool attach = false, interactive = false;
    const struct flag flags[] = {{"attach", 'a', FLAG_BOOL, &attach}, {"interactive", 'i', FLAG_BOOL, &interactive},
                                 {"detach-keys", 0, FLAG_SKIP_STR}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("start [OPTIONS] CONTAINER [CONTAINER...]", flags, argc, argv, &rest, 1, SIZE_MAX);
    if (r >= 0)
        return r;
    struct err e = {0};
    if (!attach && !interactive) {
        int code = 0;
        for (size_t i = 0; i < rest.n; i++) {
            e = (struct err){0};
            if (start_container(rest.v[i], &e) < 0)
                code = fail_print(&e);
            else
                puts(rest.v[i]);
        }
        if (code)
            fprintf(stderr, "Error: failed to start containers\n");
        return code;
    }
    if (rest.n > 1) {
        fprintf(stderr, "you cannot start and attach multiple containers at once\n");
        return 1;
    }
    bool tty, in, running;
    _cleanup_api_ struct api at = {.fd = -1}, wt = {.fd = -1};
    const char *id = rest.v[0];
    if (look(id, &tty, &in, &running, &e) < 0 || attach_open(&at, id, interactive && in, true, true, false, &e) < 0 ||
        wait_open(&wt, id, false, &e) < 0 || start_container(id, &e) < 0)
        return fail_print(&e);
    _cleanup_free_ char *resize = xasprintf("/containers/%s/resize", id), *killp = xasprintf("/containers/%s/kill", id);
    struct stream_opts so = {.tty = tty, .in = interactive && in, .out = true, .err = true, .resize_path = resize,
                             .kill_path = tty ? NULL : killp};
    if (stream_run(&at, &so, &e) < 0 || (r = wait_code(&wt, &e)) < 0)
        return fail_print(&e);
    return r;
}

int cmd_attach(int argc, char **argv) {
    bool no_stdin = false, proxy = true;
    const struct flag flags[] = {{"no-stdin", 0, FLAG_BOOL, &no_stdin}, {"sig-proxy", 0, FLAG_BOOL, &proxy},
                                 {"detach-keys", 0, FLAG_SKIP_STR}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("attach [OPTIONS] CONTAINER", flags, argc, argv, &rest, 1, 1);
    if (r >= 0)
        return r;
    struct err e = {0};
    bool tty, in, running;
    const char *id = rest.v[0];
    if (look(id, &tty, &in, &running, &e) < 0)
        return fail_print(&e);
    if (!running) {
        fprintf(stderr, "You cannot attach to a stopped container, start it first\n");
        return 1;
    }
    _cleanup_api_ struct api at = {.fd = -1}, wt = {.fd = -1};
    in = in && !no_stdin;
    if (attach_open(&at, id, in, true, true, false, &e) < 0 || wait_open(&wt, id, false, &e) < 0)
        return fail_print(&e);
    _cleanup_free_ char *resize = xasprintf("/containers/%s/resize", id), *killp = xasprintf("/containers/%s/kill", id);
    struct stream_opts so = {.tty = tty, .in = in, .out = true, .err = true, .resize_path = resize,
                             .kill_path = proxy && !tty ? killp : NULL};
    if (stream_run(&at, &so, &e) < 0)
        return fail_print(&e);
    r = wait_code(&wt, &e);
    return r < 0 ? fail_print(&e) : r;
}

/* --- exec ---------------------------------------------------------------------------------- */

struct exec_opts {
    bool detach, in, tty, privileged;
    const char *user, *workdir;
    struct strv env, env_file;
};

static int exec_create(const struct exec_opts *o, const struct strv *rest, char *id, size_t id_size, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf body = BUF_MAX(8u << 20), path = BUF_MAX(64u << 10);
    struct json_w w;
    struct json *j = NULL;
    jw_init(&w, &body, 0);
    jw_obj(&w);
    jw_kbool(&w, "AttachStdin", o->in && !o->detach);
    jw_kbool(&w, "AttachStdout", !o->detach);
    jw_kbool(&w, "AttachStderr", !o->detach);
    jw_kbool(&w, "Tty", o->tty);
    jw_kbool(&w, "Privileged", o->privileged);
    jw_kstr(&w, "User", o->user ? o->user : "");
    jw_kstr(&w, "WorkingDir", o->workdir ? o->workdir : "");
    jw_key(&w, "Env");
    jw_arr(&w);
    for (size_t i = 0; i < o->env.n; i++) {
        const char *v = strchr(o->env.v[i], '=') ? NULL : getenv(o->env.v[i]);
        _cleanup_free_ char *kv = v ? xasprintf("%s=%s", o->env.v[i], v) : xstrdup(o->env.v[i]);
        jw_str(&w, kv);
    }
    jw_end_arr(&w);
    jw_key(&w, "Cmd");
    jw_arr(&w);
    for (size_t i = 1; i < rest->n; i++)
        jw_str(&w, rest->v[i]);
    jw_end_arr(&w);
    jw_end_obj(&w);
    buf_adds(&path, "/containers/");
    path_add(&path, rest->v[0]);
    buf_adds(&path, "/exec");
    int r = api_json(&a, "POST", buf_str(&path), buf_sv(&body), &j, NULL, e);
    if (r >= 0)
        snprintf(id, id_size, "%s", json_get_str(j, "Id", ""));
    return r;
}

static int exec_run(const struct exec_opts *o, const char *id) {
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_api_ struct api c = {.fd = -1};
    _cleanup_free_ char *path = xasprintf("/exec/%s/start", id), *info = xasprintf("/exec/%s/json", id),
                        *resize = xasprintf("/exec/%s/resize", id);
    _cleanup_free_ char *body = xasprintf("{\"Detach\":%s,\"Tty\":%s}", o->detach ? "true" : "false", o->tty ? "true" : "false");
    struct api_req rq = {.method = "POST", .path = path, .body = sv_from(body), .hijack = !o->detach};
    int r = api_open(&c, &rq, &e);
    if (r >= 0 && c.status >= 400)
        r = api_fail(&c, &e);
    if (r < 0) {
        fail_print(&e);
        int code = start_code(e.msg);
        return code == 125 ? 1 : code;
    }
    if (o->detach)
        return 0;
    struct stream_opts so = {.tty = o->tty, .in = o->in, .out = true, .err = true, .resize_path = resize};
    if (stream_run(&c, &so, &e) < 0)
        return fail_print(&e);
    struct json *j = NULL;
    if (api_json(&a, "GET", info, SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    if (json_get_bool(j, "Running", false) || !json_get(j, "ExitCode") || json_get(j, "ExitCode")->kind != JSON_NUMBER) {
        fprintf(stderr, "docker exec: how the command ended is not known\n");
        return 1;
    }
    return (int)json_get_int(j, "ExitCode", 1);
}

int cmd_exec(int argc, char **argv) {
    struct exec_opts o = {0};
    const struct flag flags[] = {
        {"detach", 'd', FLAG_BOOL, &o.detach}, {"interactive", 'i', FLAG_BOOL, &o.in}, {"tty", 't', FLAG_BOOL, &o.tty},
        {"privileged", 0, FLAG_BOOL, &o.privileged}, {"user", 'u', FLAG_STR, &o.user},
        {"workdir", 'w', FLAG_STR, &o.workdir}, {"env", 'e', FLAG_LIST, &o.env},
        {"env-file", 0, FLAG_NOTYET_STR}, {"detach-keys", 0, FLAG_SKIP_STR},
    };
    struct flag_set set = {flags, ELEMENTS(flags), .interspersed = false};
    _cleanup_strv_ struct strv rest = {0};
    struct err e = {0};
    bool help = false;
    char id[80];
    int code;
    if (flags_parse(&set, argc - 1, argv + 1, &rest, &help, &e) < 0)
        code = fail_usage("exec", &e);
    else if (help)
        code = usage_help("exec [OPTIONS] CONTAINER COMMAND [ARG...]", NULL);
    else if (rest.n < 2) {
        fprintf(stderr, "\"docker exec\" requires at least 2 arguments.\nSee 'docker exec --help'.\n\n"
                        "Usage:  docker exec [OPTIONS] CONTAINER COMMAND [ARG...]\n");
        code = 1;
    } else if (o.in && o.tty && !isatty(STDIN_FILENO)) {
        fprintf(stderr, "the input device is not a TTY\n");
        code = 1;
    } else if (exec_create(&o, &rest, id, sizeof(id), &e) < 0)
        code = fail_print(&e);
    else
        code = exec_run(&o, id);
    strv_done(&o.env);
    return code;
}
