#include "test.h"

#include "docker/createopts.h"
#include "docker/flags.h"
#include "docker/template.h"

static const char *run_template(const char *t, const char *json) {
    static struct buf out;
    static struct err e;
    static struct arena a;
    out.max = 1u << 20;
    buf_reset(&out);
    e = (struct err){0};
    struct json *j = NULL;
    char *copy = arena_strdup(&a, json);
    if (json_parse(&a, sv_from(copy), &j, &e) < 0 || template_run(&a, t, j, &out, &e) < 0)
        return e.msg;
    return buf_str(&out);
}

TEST(template_fields) {
    const char *j = "{\"State\":{\"Status\":\"running\",\"Health\":{\"Status\":\"healthy\",\"Log\":[1,2]},\"Pid\":12},"
                    "\"Config\":{\"Env\":[\"A=1\",\"B=2\"],\"Labels\":{\"b\":\"2\",\"a.c\":\"1\"},\"T\":true},"
                    "\"Ports\":{\"80/tcp\":[{\"HostIp\":\"0.0.0.0\",\"HostPort\":\"8080\"}],\"81/tcp\":null},\"N\":null}";
    CHECK_STR(run_template("{{.State.Health.Status}}", j), "healthy");
    CHECK_STR(run_template("x {{ .State.Pid }} y", j), "x 12 y");
    CHECK_STR(run_template("{{json .State.Health}}", j), "{\"Status\":\"healthy\",\"Log\":[1,2]}");
    CHECK_STR(run_template("{{.Config.Env}}", j), "[A=1 B=2]");
    CHECK_STR(run_template("{{index .Config.Labels \"a.c\"}}", j), "1");
    CHECK_STR(run_template("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", j), "8080");
    CHECK_STR(run_template("{{range .Config.Env}}{{.}};{{end}}", j), "A=1;B=2;");
    CHECK_STR(run_template("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", j), "a.c=1 b=2 ");
    CHECK_STR(run_template("{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{println $e}}{{end}}", j), "A=1\n,B=2\n");
    CHECK_STR(run_template("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", j), "healthy");
    CHECK_STR(run_template("{{if .N}}a{{else if .Config.T}}b{{else}}c{{end}}", j), "b");
    CHECK_STR(run_template("{{with .State}}{{.Status}}{{end}}", j), "running");
    CHECK_STR(run_template("{{join .Config.Env \",\"}}|{{upper \"ab\"}}|{{len .Config.Env}}", j), "A=1,B=2|AB|2");
    CHECK_STR(run_template("{{printf \"%-6s|%5d|%q\" .State.Status 7 \"x\"}}", j), "running|    7|\"x\"");
    CHECK_STR(run_template("{{.State.Status | upper | printf \"%s!\"}}", j), "RUNNING!");
    CHECK_STR(run_template("{{if and (eq .State.Status \"running\") (ne .State.Pid 0)}}yes{{end}}", j), "yes");
    CHECK_STR(run_template("a {{- \"b\" -}} c{{/* no */}}", j), "abc");
    CHECK_STR(run_template("{{$x := .State}}{{$x.Status}}{{$.State.Pid}}", j), "running12");
    CHECK_STR(run_template("{{.Nope}}", j), "<no value>");
    CHECK_STR(run_template("{{.}}", "[1,\"a\",null]"), "[1 a <nil>]");
    CHECK_STR(run_template("{{slice \"abcdef\" 1 3}}{{index (split \"a:b\" \":\") 1}}", j), "bcb");
}

TEST(template_errors) {
    const char *j = "{\"a\":{\"b\":1},\"s\":\"x\"}";
    static const char *const bad[] = {"{{.x.y}}", "{{.s.t}}", "{{nope 1}}", "{{if .a}}", "{{end}}", "{{.a", "{{}}",
                                      "{{template \"x\"}}", "{{index .s 9}}", "{{.a | }}", "{{range .s}}{{end}}",
                                      "{{$u}}", "{{(.a}}", "{{.a)}}", "{{\"x}}", "{{define \"x\"}}{{end}}"};
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        const char *r = run_template(bad[i], j);
        if (!strstr(r, "template") && !strstr(r, "not yet"))
            fprintf(stderr, "%s gave %s\n", bad[i], r);
        CHECK(strstr(r, "template parsing error") || strstr(r, "not yet"));
    }
    CHECK(strstr(run_template("{{.x.y}}", j), "nil pointer"));
}

static const char *body_of(int *ret, enum create_for what, int argc, char **argv, struct err *e) {
    static struct buf b;
    b.max = 1u << 20;
    b.failed = false;
    buf_reset(&b);
    struct create_opts o = {0};
    bool help;
    *ret = create_opts_parse(&o, what, argc, argv, &help, e);
    if (*ret >= 0)
        *ret = create_opts_body(&o, &b, e);
    create_opts_done(&o);
    return buf_str(&b);
}

static const struct json *at(struct arena *a, const char *text, const char *dotted) {
    struct json *j = NULL;
    if (json_parse(a, sv_from(text), &j, NULL) < 0)
        return NULL;
    return dotted ? json_path(j, dotted) : j;
}

TEST(create_run) {
    const char *argv[] = {"--rm", "-it", "-e", "A=1", "-eB=2", "--name=web", "-p", "8080:80", "-p127.0.0.1:53:53/udp", "-p", "80",
                    "-v", "/src:/dst:ro", "-v", "/anon", "-w", "/x", "-u", "1:2", "--entrypoint", "", "--network", "n1",
                    "--network-alias", "al", "--add-host", "h:1.2.3.4", "--memory", "512m", "--cpus", "1.5", "-l", "k=v",
                    "img:1", "sh", "-c", "-e x"};
    struct err e = {0};
    int r;
    _cleanup_arena_ struct arena a = {0};
    const char *b = body_of(&r, CREATE_RUN, ELEMENTS(argv), (char **)argv, &e);
    CHECK_INT(r, 0);
    CHECK_STR(json_str(at(&a, b, "Image"), ""), "img:1");
    const struct json *cmd = at(&a, b, "Cmd");
    CHECK(cmd && cmd->n == 3);
    CHECK_STR(json_str(cmd->items[2], ""), "-e x");
    CHECK(at(&a, b, "Env")->n == 2);
    CHECK(json_bool(at(&a, b, "Tty"), false) && json_bool(at(&a, b, "OpenStdin"), false));
    CHECK(json_bool(at(&a, b, "HostConfig.AutoRemove"), false));
    CHECK_INT(json_int(at(&a, b, "HostConfig.Memory"), 0), 512 << 20);
    CHECK_INT(json_int(at(&a, b, "HostConfig.NanoCpus"), 0), 1500000000);
    const struct json *pb = json_get(at(&a, b, "HostConfig.PortBindings"), "80/tcp");
    CHECK(pb && pb->n == 2);
    CHECK_STR(json_get_str(pb->items[0], "HostPort", ""), "8080");
    CHECK_STR(json_get_str(pb->items[1], "HostPort", "x"), "");
    CHECK_STR(json_get_str(json_get(at(&a, b, "HostConfig.PortBindings"), "53/udp")->items[0], "HostIp", ""), "127.0.0.1");
    CHECK(json_get(at(&a, b, "Volumes"), "/anon") != NULL);
    CHECK_STR(json_str(at(&a, b, "HostConfig.Binds")->items[0], ""), "/src:/dst:ro");
    CHECK_STR(json_str(at(&a, b, "Entrypoint")->items[0], "x"), "");
    CHECK_STR(json_str(at(&a, b, "NetworkingConfig.EndpointsConfig.n1.Aliases")->items[0], ""), "al");
}

TEST(create_service) {
    const char *text = "--health-cmd \"pg_isready -U 'x'\" --health-interval=10s\n --health-timeout 5s --health-retries 5 "
                       "--health-start-period 1m30s --shm-size 1g --tmpfs /t:size=1m";
    _cleanup_strv_ struct strv w = {0};
    struct err e = {0};
    int r;
    _cleanup_arena_ struct arena a = {0};
    CHECK_INT(words_split(text, &w, &e), 0);
    const char *b = body_of(&r, CREATE_SERVICE, (int)w.n, w.v, &e);
    CHECK_INT(r, 0);
    CHECK_STR(json_str(at(&a, b, "Healthcheck.Test")->items[0], ""), "CMD-SHELL");
    CHECK_STR(json_str(at(&a, b, "Healthcheck.Test")->items[1], ""), "pg_isready -U 'x'");
    CHECK_INT(json_int(at(&a, b, "Healthcheck.Interval"), 0), 10000000000);
    CHECK_INT(json_int(at(&a, b, "Healthcheck.StartPeriod"), 0), 90000000000);
    CHECK_INT(json_int(at(&a, b, "Healthcheck.Retries"), 0), 5);
    CHECK_STR(json_str(json_get(at(&a, b, "HostConfig.Tmpfs"), "/t"), ""), "size=1m");
    static const struct {
        const char *opts, *want;
    } bad[] = {{"--nope 1", "unknown flag: --nope"}, {"--health-cmd", "flag needs an argument: --health-cmd"},
               {"stray", "not an option: stray"}, {"--rm", "--rm cannot be used for a service"},
               {"--restart always", "not yet: --restart always"}, {"--health-interval 5", "invalid duration"},
               {"--memory lots", "invalid size"}, {"--cpus x", "--cpus"}, {"-p 99999", "invalid containerPort"}};
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        struct strv bw = {0};
        e = (struct err){0};
        CHECK_INT(words_split(bad[i].opts, &bw, &e), 0);
        body_of(&r, CREATE_SERVICE, (int)bw.n, bw.v, &e);
        CHECK(r < 0);
        if (!strstr(e.msg, bad[i].want))
            fprintf(stderr, "%s: %s\n", bad[i].opts, e.msg);
        CHECK(strstr(e.msg, bad[i].want) != NULL);
        strv_done(&bw);
    }
    struct strv bw = {0};
    CHECK(words_split("--health-cmd 'open", &bw, &e) < 0);
    strv_done(&bw);
}

TEST(sizes_and_times) {
    uint64_t v;
    CHECK(ram_parse("512m", &v) == 0 && v == 512u << 20);
    CHECK(ram_parse("1.5GiB", &v) == 0 && v == 1536u << 20);
    CHECK(ram_parse("100", &v) == 0 && v == 100);
    CHECK(ram_parse("-1", &v) < 0 && ram_parse("m", &v) < 0 && ram_parse("1x", &v) < 0 && ram_parse("", &v) < 0);
    CHECK(duration_parse("1h2m3.5s", &v) == 0 && v == 3723500000000ull);
    CHECK(duration_parse("0", &v) == 0 && v == 0);
    CHECK(duration_parse("5", &v) < 0 && duration_parse("s", &v) < 0 && duration_parse("", &v) < 0 && duration_parse("5x", &v) < 0);
}

TEST(login_flags) {
    const char *user = NULL, *pass = NULL;
    const struct flag flags[] = {{"username", 'u', FLAG_STR, &user}, {"password", 'p', FLAG_STR, &pass}};
    struct flag_set set = {flags, 2, .interspersed = true, .last_may_lack_value = true};
    struct strv rest = {0};
    const char *argv[] = {"-u", "me", "-p"};
    CHECK_INT(flags_parse(&set, 3, (char **)argv, &rest, NULL, NULL), 0);
    CHECK_STR(pass, "");
    strv_done(&rest);
}
