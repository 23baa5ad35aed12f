/* Problem matchers: the runner's rules on one pattern, several, loops, defaults and owners. */
#include "test.h"

#include "run/matchers.h"

static const char *const flake8 =
    "{\"problemMatcher\":[{\"owner\":\"flake8\",\"pattern\":[{\"regexp\":\"^(.+):(\\\\d+):(\\\\d+): (([EWF])\\\\d+) (.+)$\","
    "\"file\":1,\"line\":2,\"column\":3,\"code\":4,\"message\":6}]}]}";
static const char *const stylish =
    "{\"problemMatcher\":[{\"owner\":\"stylish\",\"severity\":\"warning\",\"pattern\":[{\"regexp\":\"^(/.*)$\",\"file\":1},"
    "{\"regexp\":\"^\\\\s+(\\\\d+):(\\\\d+)\\\\s+(error|warning|other)?\\\\s+(.*)$\",\"line\":1,\"column\":2,\"severity\":3,\"message\":4,\"loop\":true}]}]}";

static bool line(struct matchers *m, const char *s, struct issue *is) { return matchers_line(m, sv_from(s), is); }

TEST(one_pattern) {
    struct matchers *m = matchers_new();
    struct issue is;
    struct err e = {0};
    CHECK(matchers_add(m, sv_from(flake8), &e) == 0);
    CHECK(!line(m, "nothing here", &is));
    CHECK(line(m, "app/views.py:12:80: E501 line too long", &is));
    CHECK_STR(is.severity, "error");
    CHECK(sv_eqs(is.file, "app/views.py") && sv_eqs(is.code, "E501") && sv_eqs(is.message, "line too long"));
    CHECK(is.line == 12 && is.col == 80);
    matchers_remove(m, SV("FLAKE8"));
    CHECK(matchers_empty(m) && !line(m, "app/views.py:12:80: E501 line too long", &is));
    matchers_free(m);
}

TEST(several_patterns_loop) {
    struct matchers *m = matchers_new();
    struct issue is;
    CHECK(matchers_add(m, sv_from(stylish), NULL) == 0);
    CHECK(!line(m, "  1:2  error  not after a file", &is));
    CHECK(!line(m, "/src/a.js", &is));
    CHECK(line(m, "  1:2  error  first", &is) && is.line == 1 && sv_eqs(is.file, "/src/a.js"));
    CHECK_STR(is.severity, "error");
    CHECK(line(m, "  3:4    second", &is) && is.line == 3 && sv_eqs(is.file, "/src/a.js"));
    CHECK_STR(is.severity, "warning");           /* the matcher's own */
    CHECK(!line(m, "  3:4  other  unknown word", &is)); /* a severity that is none */
    CHECK(!line(m, "/src/b.js", &is));           /* ends the loop and begins the next */
    CHECK(line(m, "  5:6  error  third", &is) && sv_eqs(is.file, "/src/b.js"));
    CHECK(!line(m, "", &is) && !line(m, "  7:8  error  alone", &is));
    matchers_free(m);
}

TEST(owners_and_bad_documents) {
    struct matchers *m = matchers_new();
    struct issue is;
    struct err e = {0};
    _cleanup_strv_ struct strv owners = {0};
    CHECK(matchers_add(m, sv_from(flake8), NULL) == 0 && matchers_add(m, sv_from(flake8), NULL) == 0);
    CHECK(matchers_owners(sv_from(flake8), &owners, NULL) == 0 && owners.n == 1);
    static const char *const wrong[] = {"", "{}", "{\"problemMatcher\":[{}]}", "{\"problemMatcher\":[{\"owner\":\"x\"}]}",
        "{\"problemMatcher\":[{\"owner\":\"x\",\"pattern\":[{\"regexp\":\"(\",\"message\":1}]}]}",
        "{\"problemMatcher\":[{\"owner\":\"x\",\"pattern\":[{\"regexp\":\"a\",\"message\":1}]}]}",
        "{\"problemMatcher\":[{\"owner\":\"x\",\"pattern\":[{\"regexp\":\"(a)\",\"file\":1}]}]}",
        "{\"problemMatcher\":[{\"owner\":\"x\",\"pattern\":[{\"regexp\":\"(a)\",\"message\":1,\"loop\":true}]}]}",
        "{\"problemMatcher\":[{\"owner\":\"x\",\"pattern\":[{\"regexp\":\"(a)\",\"message\":1,\"loop\":true},{\"regexp\":\"(a)\",\"message\":1}]}]}"};
    for (size_t i = 0; i < ELEMENTS(wrong); i++)
        CHECK(matchers_add(m, sv_from(wrong[i]), &e) < 0 && e.msg[0]);
    CHECK(line(m, "a:1:2: E1 x", &is)); /* what was there stays */
    matchers_free(m);
}

TEST(hostile_patterns_are_bounded) {
    struct matchers *m = matchers_new();
    struct issue is;
    char text[5001];
    memset(text, 'a', 5000);
    text[5000] = 0;
    CHECK(matchers_add(m, SV("{\"problemMatcher\":[{\"owner\":\"x\",\"pattern\":[{\"regexp\":\"^((a+)+)+$x\",\"message\":1}]}]}"), NULL) == 0);
    CHECK(!line(m, text, &is));
    CHECK(!matchers_line(m, sv_n("\xff\xfe\0a", 4), &is));
    matchers_free(m);
}

TEST(colours) {
    _cleanup_buf_ struct buf b = BUF_MAX(100);
    matchers_plain(SV("\033[1;31merror\033[0m: \033[x"), &b);
    CHECK_STR(buf_str(&b), "error: x");
}
