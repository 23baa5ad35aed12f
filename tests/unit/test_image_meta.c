#include "test.h"

#include "image/image.h"
#include "image/manifest.h"

static const char *norm(const char *s) {
    static struct buf b;
    buf_done(&b);
    b = BUF_SMALL;
    struct image_ref r;
    if (ref_parse(s, &r, NULL) < 0)
        return "bad";
    ref_format(&r, &b);
    return buf_str(&b);
}
static const char *familiar(const char *s) {
    static struct buf b;
    buf_done(&b);
    b = BUF_SMALL;
    struct image_ref r;
    if (ref_parse(s, &r, NULL) < 0)
        return "bad";
    ref_familiar(&r, &b);
    return buf_str(&b);
}
#define D "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

TEST(references) {
    CHECK_STR(norm("app"), "docker.io/library/app:latest");
    CHECK_STR(norm("team/app:1.0"), "docker.io/team/app:1.0");
    CHECK_STR(norm("ghcr.io/a/b/c"), "ghcr.io/a/b/c:latest");
    CHECK_STR(norm("localhost/x"), "localhost/x:latest");
    CHECK_STR(norm("localhost:5000/x:y"), "localhost:5000/x:y");
    CHECK_STR(norm("[::1]:5000/x"), "[::1]:5000/x:latest");
    CHECK_STR(norm("index.docker.io/python"), "docker.io/library/python:latest");
    CHECK_STR(norm("python@" D), "docker.io/library/python@" D);
    CHECK_STR(norm("python:3@" D), "docker.io/library/python:3@" D);
    CHECK_STR(norm("a__b/c--d.e"), "docker.io/a__b/c--d.e:latest");
    CHECK_STR(familiar("docker.io/library/python:3.11"), "python:3.11");
    CHECK_STR(familiar("docker.io/team/app"), "team/app:latest");
    CHECK_STR(familiar("ghcr.io/library/x"), "ghcr.io/library/x:latest");
    CHECK_STR(familiar("docker.io/r.io/x"), "docker.io/r.io/x:latest");
    static const char *const wrong[] = {"", "App", "a b", "a:", ":a", "a/", "/a", "a//b", "a:-x", "a@sha256:12", "a..b", "-a",
                                        "a___b", "host:port/x", "a@sha512:x", "../etc", "a/../b", "a:b:c", "x.y:99999/z", "a\n"};
    for (size_t i = 0; i < ELEMENTS(wrong); i++) {
        CHECK_STR(norm(wrong[i]), "bad");
    }
    struct err e = {0};
    struct image_ref r;
    CHECK(ref_parse("Team/App", &r, &e) < 0);
    CHECK(strstr(e.msg, "lower case") && e.kind == ERR_USER);
}

static const char config[] =
    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"created\":\"2026-01-01T00:00:00Z\",\"config\":{\"Env\":[\"A=1\",\"B=x=y\"],"
    "\"Cmd\":[\"sh\",\"-c\",\"x\"],\"Entrypoint\":null,\"ExposedPorts\":{\"80/tcp\":{},\"443/tcp\":{}},\"Volumes\":{\"/data\":{}},"
    "\"Labels\":{\"z\":\"1\",\"a\":\"2=3\"},\"User\":\"app\",\"WorkingDir\":\"/app\",\"StopSignal\":\"SIGINT\",\"Shell\":[\"bash\"],"
    "\"Healthcheck\":{\"Test\":[\"CMD\",\"true\"],\"Interval\":5000000000,\"Retries\":3},\"OnBuild\":[\"RUN x\"]},"
    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D "\"]},\"history\":[{\"created_by\":\"ADD\"},{\"created_by\":\"ENV\",\"empty_layer\":true}]}";

TEST(configuration) {
    struct image_config c, copy, again;
    struct err e = {0};
    CHECK_INT(image_config_parse(sv_from(config), &c, &e), 0);
    CHECK_STR(c.env.v[1], "B=x=y");
    CHECK(c.has_cmd && !c.has_entrypoint && c.has_shell);
    CHECK_STR(c.exposed.v[0], "443/tcp");
    CHECK_STR(c.labels.v[0], "a=2=3");
    CHECK_INT(c.health.interval_ns, 5000000000);
    CHECK_INT(c.health.retries, 3);
    CHECK_INT(c.n_history, 2);
    CHECK(c.history[1].empty_layer);
    image_config_copy(&copy, &c);
    struct buf x = BUF_SMALL, y = BUF_SMALL;
    image_config_format(&c, &x);
    image_config_done(&c);
    CHECK_INT(image_config_parse(buf_sv(&x), &again, &e), 0);
    image_config_format(&copy, &y);
    CHECK_STR(buf_str(&x), buf_str(&y));
    buf_reset(&y);
    image_config_format(&again, &y);
    CHECK_STR(buf_str(&x), buf_str(&y));
    CHECK(strstr(buf_str(&x), "\"Labels\":{\"a\":\"2=3\",\"z\":\"1\"}") != NULL);
    image_config_done(&copy);
    image_config_done(&again);
    buf_done(&x);
    buf_done(&y);
    CHECK(image_config_parse(SV("[]"), &c, &e) < 0);
    CHECK(image_config_parse(SV("{\"config\":{\"Env\":[1]}}"), &c, &e) < 0);
    CHECK(image_config_parse(SV("{\"rootfs\":{\"diff_ids\":[\"sha256:../x\"]}}"), &c, &e) < 0);
    CHECK(image_config_parse(SV("{"), &c, &e) < 0);
    CHECK_INT(image_config_parse(SV("{}"), &c, &e), 0);
    image_config_done(&c);
}

static int parse(const char *text, struct manifest *m, struct err *e) {
    static struct arena a;
    arena_done(&a);
    memset(&a, 0, sizeof a);
    return manifest_parse(&a, sv_from(text), m, e);
}
#define DESC "{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"" D "\",\"size\":3}"
#define CFG "{\"mediaType\":\"" MEDIA_OCI_CONFIG "\",\"digest\":\"" D "\",\"size\":3}"

TEST(manifests) {
    struct manifest m;
    struct err e = {0};
    CHECK_INT(parse("{\"schemaVersion\":2,\"config\":" CFG ",\"layers\":[" DESC "]}", &m, &e), 0);
    CHECK_STR(m.media_type, MEDIA_OCI_MANIFEST);
    CHECK_INT(m.n, 1);
    CHECK_INT(manifest_check_image(&m, &e), 0);
    CHECK(parse("{\"schemaVersion\":1}", &m, &e) < 0);
    CHECK(parse("{\"schemaVersion\":2,\"config\":" CFG ",\"layers\":[],\"manifests\":[]}", &m, &e) < 0);
    CHECK(parse("{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"config\":" CFG ",\"layers\":[]}", &m, &e) < 0);
    CHECK(parse("{\"schemaVersion\":2,\"config\":" CFG ",\"layers\":[{\"digest\":\"" D "\",\"size\":1,\"urls\":[\"http://x\"]}]}", &m, &e) < 0);
    CHECK(strstr(e.msg, "foreign") != NULL);
    CHECK(parse("{\"schemaVersion\":2,\"config\":" CFG ",\"layers\":[{\"digest\":\"" D "\",\"size\":-1}]}", &m, &e) < 0);
    CHECK(parse("{\"schemaVersion\":2,\"config\":" CFG ",\"layers\":[{\"digest\":\"x\",\"size\":1}]}", &m, &e) < 0);
    CHECK_INT(parse("{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.cncf.helm.config.v1+json\",\"digest\":\"" D "\",\"size\":1},\"layers\":[]}", &m, &e), 0);
    CHECK(manifest_check_image(&m, &e) < 0);
    struct buf b = BUF_LARGE;
    buf_adds(&b, "{\"schemaVersion\":2,\"config\":" CFG ",\"layers\":[");
    for (int i = 0; i < 513; i++)
        buf_addf(&b, "%s%s", i ? "," : "", DESC);
    buf_adds(&b, "]}");
    CHECK_INT(parse(buf_str(&b), &m, &e), -EFBIG);
    CHECK(strstr(e.msg, "513") && e.kind == ERR_LIMIT);
    buf_done(&b);
}

#define ENTRY(os, arch, more, size) "{\"mediaType\":\"x\",\"digest\":\"" D "\",\"size\":" #size ",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\"" more "}}"
TEST(platforms) {
    struct manifest m;
    CHECK_INT(parse("{\"schemaVersion\":2,\"manifests\":[" ENTRY("linux", "arm", ",\"variant\":\"v6\"", 1) "," ENTRY("linux", "arm", ",\"variant\":\"v7\"", 2) ","
                    ENTRY("linux", "arm64", ",\"variant\":\"v8\"", 3) "," ENTRY("windows", "amd64", "", 4) "," ENTRY("linux", "amd64", "", 5) "]}", &m, NULL), 0);
    CHECK_INT(manifest_pick(&m, "linux", "amd64", NULL)->size, 5);
    CHECK_INT(manifest_pick(&m, "linux", "arm64", NULL)->size, 3);
    CHECK_INT(manifest_pick(&m, "linux", "arm", "v7")->size, 2);
    CHECK_INT(manifest_pick(&m, "linux", "arm", "v6")->size, 1);
    CHECK(manifest_pick(&m, "linux", "s390x", NULL) == NULL);
    struct buf b = BUF_SMALL;
    manifest_platforms(&m, &b);
    CHECK(strstr(buf_str(&b), "linux/arm/v7") != NULL);
    buf_done(&b);
    CHECK(*platform_arch());
}
