/* docker's command line: the first byte chooses what the rest is: a --format template over a fixed
 * object, options as they stand in a workflow's service, or a port. */
#include "core/json.h"
#include "docker/createopts.h"
#include "docker/flags.h"
#include "docker/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void template(const char *text) {
    static const char object[] =
        "{\"Id\":\"abc\",\"N\":-3.5,\"Nil\":null,\"B\":true,\"L\":[1,\"two\",[3],{}],"
        "\"Labels\":\"a=b,c\",\"M\":{\"k\":\"v\",\"a\":{\"b\":[\"x\"]}}}";
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf out = BUF_MAX(1u << 20);
    struct json *j;
    struct err e = {0};
    assert(json_parse(&a, SV(object), &j, NULL) == 0);
    int r = template_run(&a, text, j, &out, &e);
    assert(r >= 0 || e.msg[0]);
}

static void options(const char *text) {
    _cleanup_strv_ struct strv words = {0};
    _cleanup_buf_ struct buf body = BUF_MAX(1u << 20);
    struct create_opts o = {0};
    struct err e = {0};
    if (words_split(text, &words, &e) == 0 &&
        create_opts_parse(&o, CREATE_SERVICE, (int)words.n, words.v, NULL, &e) == 0 &&
        create_opts_body(&o, &body, &e) == 0) {
        _cleanup_arena_ struct arena a = {0};
        struct json *j;
        assert(json_parse(&a, buf_sv(&body), &j, &e) == 0); /* whatever it says, it is JSON */
    }
    create_opts_done(&o);
}

static void port(void *arg, const char *ip, const char *host, unsigned target, const char *proto) {
    assert(target >= 1 && target <= 65535 && *proto && strlen(ip) < 64 && strlen(host) < 16);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err e = {0};
    if (!size || size > 4096)
        return 0;
    _cleanup_free_ char *text = xstrndup((const char *)data + 1, size - 1);
    if (data[0] == 't')
        template(text);
    else if (data[0] == 'o')
        options(text);
    else
        (void)port_spec_parse(text, port, NULL, &e);
    return 0;
}
