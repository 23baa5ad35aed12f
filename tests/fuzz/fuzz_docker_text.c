/* What people write for docker: --format templates, and the options of a service. The first line
 * chooses and the rest is the text: "t" a template over a fixed document, "o" options. */
#include "docker/createopts.h"
#include "docker/flags.h"
#include "docker/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char document[] = "{\"Name\":\"/web\",\"State\":{\"Status\":\"running\",\"Pid\":12,\"Health\":null},"
                               "\"Config\":{\"Env\":[\"A=1\",\"B=2\"],\"Labels\":{\"k\":\"v\"}},\"Ports\":{\"80/tcp\":[{\"HostPort\":\"1\"}]}}";

static void template_text(const char *text) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf out = BUF_MAX(1u << 20);
    struct err e = {0};
    struct json *j = NULL;
    if (json_parse(&a, sv_from(document), &j, &e) >= 0)
        (void)template_run(&a, text, j, &out, &e);
}

static void options_text(const char *text) {
    _cleanup_strv_ struct strv words = {0};
    _cleanup_buf_ struct buf body = BUF_MAX(1u << 20);
    struct create_opts o = {0};
    struct err e = {0};
    if (words_split(text, &words, &e) >= 0 && create_opts_parse(&o, CREATE_SERVICE, (int)words.n, words.v, NULL, &e) >= 0 &&
        create_opts_body(&o, &body, &e) >= 0) {
        _cleanup_arena_ struct arena a = {0};
        struct json *j = NULL;
        if (json_parse(&a, buf_sv(&body), &j, &e) < 0)
            abort(); /* whatever was given, the body is JSON */
    }
    create_opts_done(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 4096 || memchr(data, 0, size))
        return 0;
    _cleanup_free_ char *text = xstrndup((const char *)data + 2, size - 2);
    if (data[0] == 't')
        template_text(text);
    else if (data[0] == 'o')
        options_text(text);
    return 0;
}
