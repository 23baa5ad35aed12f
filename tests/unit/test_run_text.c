/* Workflow commands, file commands, Python version ranges. */
#include "test.h"

#include "run/commands.h"
#include "run/filecmd.h"
#include "run/pyver.h"

TEST(commands_v2) {
    _cleanup_arena_ struct arena a = {0};
    struct wcommand c;
    CHECK(wcommand_parse(&a, SV("  ::error file=a.py,line=3,title=x%2Cy%3A::bad%0Aworse%250A"), &c));
    CHECK(sv_eqs(c.name, "error"));
    CHECK_INT(c.n_props, 3);
    CHECK(sv_eqs(wcommand_prop(&c, "title"), "x,y:"));
    CHECK(sv_eqs(wcommand_prop(&c, "LINE"), "3"));
    CHECK(!wcommand_prop(&c, "col").p);
    CHECK(sv_eqs(c.data, "bad\nworse%0A"));
    CHECK(wcommand_parse(&a, SV("::endgroup::"), &c));
    CHECK(c.data.n == 0);
    CHECK(wcommand_parse(&a, SV("::set-output name=a::b::c\r"), &c));
    CHECK(sv_eqs(c.data, "b::c"));
    CHECK(!wcommand_parse(&a, SV("x ::error::no"), &c));
    CHECK(!wcommand_parse(&a, SV("::unknown::no"), &c));
    CHECK(!wcommand_parse(&a, SV("::error"), &c));
    CHECK(!wcommand_parse(&a, SV("::::"), &c));
    CHECK(!wcommand_parse(&a, SV(""), &c));
}
TEST(commands_v1) {
    _cleanup_arena_ struct arena a = {0};
    struct wcommand c;
    CHECK(wcommand_parse(&a, SV("2020 ##[warning a=1;b=x%3By]look %5D"), &c));
    CHECK(sv_eqs(c.name, "warning"));
    CHECK(sv_eqs(wcommand_prop(&c, "b"), "x;y"));
    CHECK(sv_eqs(c.data, "look ]"));
    CHECK(!wcommand_parse(&a, SV("##[section]x"), &c));
    CHECK(!wcommand_parse(&a, SV("##["), &c));
}
TEST(commands_scan) {
    char p[100];
    memset(p, 'a', sizeof p);
    CHECK_INT(wcommand_scan(p, sizeof p, 0), sizeof p);
    for (size_t i = 0; i + 3 < sizeof p; i++) {
        memset(p, 'a', sizeof p);
        p[i] = p[i + 1] = ':';
        CHECK_INT(wcommand_scan(p, sizeof p, 0), i);
        p[i] = p[i + 1] = '#';
        CHECK_INT(wcommand_scan(p, sizeof p, 0), sizeof p);
        p[i + 2] = '[';
        CHECK_INT(wcommand_scan(p, sizeof p, 0), i);
    }
}

static struct buf seen;
static int pair(void *arg, struct sv k, struct sv v) {
    buf_addf(&seen, "[" SV_FMT "=" SV_FMT "]", SV_ARG(k), SV_ARG(v));
    return 0;
}
static int pairs(const char *text, struct err *e) {
    buf_done(&seen);
    seen = BUF_SMALL;
    return filecmd_pairs(sv_from(text), pair, NULL, e);
}
TEST(filecmd) {
    struct err e = {0};
    CHECK_INT(pairs("A=1\n\nB=x=y<<z\nC<<EOF\none\n\ntwo\r\nEOF\nD<<E\nE\nF<<G\nx\n\nG", &e), 0);
    CHECK_STR(buf_str(&seen), "[A=1][B=x=y<<z][C=one\n\ntwo\r][D=][F=x\n]");
    CHECK_INT(pairs("A=1\nB<<EOF\nx\n", &e), -EBADMSG);
    CHECK_STR(buf_str(&seen), "");
    CHECK_STR(e.msg, "Invalid value. Matching delimiter not found 'EOF'");
    CHECK_INT(pairs("nothing\n", &e), -EBADMSG);
    CHECK_STR(e.msg, "Invalid format 'nothing'");
    CHECK_INT(pairs("=x\n", &e), -EBADMSG);
    CHECK_INT(pairs("A<<\n", &e), -EBADMSG);
    CHECK_INT(pairs("", &e), 0);
    CHECK_INT(pairs("\xef\xbb\xbfK=v", &e), 0);
    CHECK_STR(buf_str(&seen), "[K=v]");
    buf_done(&seen);
    _cleanup_strv_ struct strv s = {0};
    filecmd_paths(SV("/a\n\n/b c\r\n"), &s);
    CHECK_INT(s.n, 2);
    CHECK_STR(s.v[1], "/b c");
}

static int match(const char *range, const char *v) {
    struct pyver p;
    CHECK(pyver_parse(sv_from(v), &p));
    return pyver_match(sv_from(range), &p, false);
}
TEST(pyver) {
    CHECK_INT(match("3.11", "3.11.9"), 1);
    CHECK_INT(match("3.1", "3.11.9"), 0);
    CHECK_INT(match("3", "3.13.0"), 1);
    CHECK_INT(match("3.x", "3.9.1"), 1);
    CHECK_INT(match("3.11.4", "3.11.4"), 1);
    CHECK_INT(match("3.11.4", "3.11.5"), 0);
    CHECK_INT(match(">=3.9 <3.12", "3.11.5"), 1);
    CHECK_INT(match(">=3.9 <3.12", "3.12.0"), 0);
    CHECK_INT(match(">= 3.9, < 3.12", "3.9.0"), 1);
    CHECK_INT(match(">3.9", "3.9.7"), 0);
    CHECK_INT(match("<=3.11", "3.11.9"), 1);
    CHECK_INT(match("~3.10", "3.10.14"), 1);
    CHECK_INT(match("~3.10", "3.11.0"), 0);
    CHECK_INT(match("~3.10.2", "3.10.1"), 0);
    CHECK_INT(match("^3.9", "3.13.1"), 1);
    CHECK_INT(match("3.9 - 3.11", "3.11.8"), 1);
    CHECK_INT(match("3.9 - 3.11", "3.12.0"), 0);
    CHECK_INT(match(">=3.9,!=3.9.7", "3.9.7"), 0);
    CHECK_INT(match(">=3.9,!=3.9.7", "3.10.1"), 1);
    CHECK_INT(match("~=3.11", "3.12.1"), 1);
    CHECK_INT(match("==3.11.*", "3.11.9"), 1);
    CHECK_INT(match("3.8 || 3.12", "3.12.1"), 1);
    CHECK_INT(match("*", "3.12.1"), 1);
    CHECK_INT(match("3.13", "3.13.0rc1"), 0);
    CHECK_INT(match("3.13.0-rc.1", "3.13.0rc1"), 1);
    CHECK_INT(match("3.13-dev", "3.13.0rc1"), 1);
    CHECK_INT(match("3.13-dev", "3.14.0a1"), 0);
    CHECK_INT(match("pypy3.9", "3.9.1"), -EINVAL);
    CHECK_INT(match("", "3.9.1"), -EINVAL);
    struct pyver a, b;
    CHECK(pyver_parse(SV("3.12.0b2"), &a) && pyver_parse(SV("3.12.0rc1"), &b));
    CHECK(pyver_cmp(&a, &b) < 0);
    CHECK(pyver_parse(SV("3.12.0-beta.10"), &b));
    CHECK(pyver_cmp(&a, &b) < 0);
    CHECK(!pyver_parse(SV("x"), &a));
}
