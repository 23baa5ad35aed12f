#include "core/json.h"
#include "core/loop.h"
#include "core/event.h"
#include "core/mask.h"
#include "test.h"

static struct json *parse(struct arena *a, const char *text) {
    struct json *j = NULL;
    return json_parse(a, sv_from(text), &j, NULL) == 0 ? j : NULL;
}

TEST(reads_and_writes_back) {
    _cleanup_arena_ struct arena a = {0};
    const char *text = "{\"a\":[1,2.5,-3e2,true,false,null],\"b\":{\"c\":\"x\\n\\u00e9\\ud83d\\ude00\"},\"a\":7}";
    struct json *j = parse(&a, text);
    CHECK(j && j->n == 3);
    CHECK_INT(json_get_int(j, "a", 0), 7);
    CHECK_STR(json_str(json_path(j, "b.c"), ""), "x\né😀");
    struct buf b = BUF_SMALL;
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_json(&w, j);
    CHECK_STR(b.p, "{\"a\":[1,2.5,-3e2,true,false,null],\"b\":{\"c\":\"x\\né😀\"},\"a\":7}");
    buf_done(&b);
}

TEST(refuses_what_is_not_json) {
    const char *bad[] = {"", "{", "[1,]", "{\"a\"}", "{a:1}", "01", "1.", "-", "1e", "\"\n\"", "\"\\x\"", "\"abc",
                         "tru", "[1 2]", "1 2", "{\"a\":1,}", "\"\\u12\"", "'a'", "\"\\"};
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        _cleanup_arena_ struct arena a = {0};
        struct err e = {0};
        struct json *j;
        CHECK(json_parse(&a, sv_from(bad[i]), &j, &e) < 0 && e.msg[0]);
    }
    struct buf deep = BUF_LARGE;
    for (int i = 0; i < 100000; i++)
        buf_addc(&deep, '[');
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    CHECK(json_parse(&a, buf_sv(&deep), &j, NULL) < 0);
    buf_done(&deep);
}

TEST(lone_surrogates_and_bad_utf8) {
    _cleanup_arena_ struct arena a = {0};
    CHECK_STR(json_str(parse(&a, "\"\\ud800x\""), ""), "\xef\xbf\xbdx");
    struct buf b = BUF_SMALL;
    json_escape(&b, SV("a\xff\x01\"b"));
    CHECK_STR(b.p, "\"a\xef\xbf\xbd\\u0001\\\"b\"");
    buf_done(&b);
}

static void keep(const struct event *ev, void *arg) {
    event_to_json(ev, arg);
}

TEST(events_are_masked_and_read_back) {
    struct masker *m = masker_new();
    masker_add(m, SV("hush-hush"));
    struct events *bus = events_new(m);
    struct buf b = BUF_SMALL;
    events_sink(bus, keep, &b);
    events_emit(bus, &(struct event){.kind = EV_ANNOTATION, .job = "job hush-hush", .text = SV("say hush-hush"),
                                     .detail = "t", .level = LEVEL_ERROR, .at = {"f.py", 3, 4, 0, 0}});
    CHECK(!strstr(b.p, "hush"));
    _cleanup_arena_ struct arena a = {0};
    struct event ev;
    CHECK(event_from_json(&a, buf_sv(&b), &ev, NULL) == 0);
    CHECK(ev.kind == EV_ANNOTATION && ev.level == LEVEL_ERROR && ev.at.line == 3);
    CHECK_STR(ev.text.p, "say ***");
    events_free(bus);
    masker_free(m);
    buf_done(&b);
}
