#include "build/ignore.h"
#include "test.h"

static bool out(const char *patterns, const char *path) {
    struct ignore g = {0};
    struct diags d = {0};
    ignore_parse(&g, ".dockerignore", sv_from(patterns), &d);
    bool r = ignore_match(&g, path);
    ignore_done(&g);
    diags_done(&d);
    return r;
}

TEST(table) {
    static const struct {
        const char *p, *path;
        bool out;
    } t[] = {
        {"a", "a", 1}, {"a", "a/b", 1}, {"a", "b/a", 0}, {"/a", "a", 1}, {"a/", "a/b", 1}, {"*", "x", 1}, {"*", "x/y", 1},
        {"*/y", "x/y", 1}, {"*/y", "y", 0}, {"*.py", "a.py", 1}, {"*.py", "d/a.py", 0}, {"**/*.py", "d/e/a.py", 1},
        {"**/*.py", "a.py", 1}, {"**", "a/b", 1}, {"a/**", "a", 0}, {"a/**", "a/b/c", 1}, {"a/**/b", "a/b", 1},
        {"a/**/b", "a/x/y/b", 1}, {"*\n!keep", "keep", 0}, {"*\n!keep", "keep/x", 0}, {"!keep\n*", "keep", 1},
        {"docs\n!docs/README.md", "docs/README.md", 0}, {"docs\n!docs/README.md", "docs/x", 1}, {"# c\n #x", "#x", 1}, {"# c", "# c", 0},
        {"a?c", "abc", 1}, {"a?c", "a/c", 0}, {"[a-c]x", "bx", 1}, {"[^a-c]x", "bx", 0}, {"[^a-c]x", "dx", 1}, {"\\*", "*", 1}, {"\\*", "x", 0},
        {"./a", "a", 1}, {"b/../a", "a", 1}, {".", "a", 0}, {"", "a", 0}, {"**/node_modules", "x/node_modules/y", 1}, {"**.go", "x/y.go", 1},
        {".git\n**/__pycache__\n*.md\n!README.md", "README.md", 0}, {".git\n**/__pycache__\n*.md\n!README.md", "a/__pycache__/b", 1},
        {"a*b*c*d", "axxbxxcxxd", 1}, {"a\r\nb\r\n", "b", 1},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        if (out(t[i].p, t[i].path) != t[i].out)
            fprintf(stderr, "pattern \"%s\" path \"%s\"\n", t[i].p, t[i].path);
        CHECK(out(t[i].p, t[i].path) == t[i].out);
    }
}

TEST(folders_that_may_hold_more) {
    struct ignore g = {0};
    struct diags d = {0};
    CHECK_INT(ignore_parse(&g, "f", SV("*\n!src/a/b\n!**/x.py\n"), &d), 0);
    CHECK(ignore_may_contain(&g, "src"));
    CHECK(ignore_may_contain(&g, "other"));
    ignore_done(&g);
    CHECK_INT(ignore_parse(&g, "f", SV("*\n!src/a/b\n"), &d), 0);
    CHECK(ignore_may_contain(&g, "src/a"));
    CHECK(!ignore_may_contain(&g, "other"));
    CHECK(!ignore_may_contain(&g, "src/b"));
    ignore_done(&g);
    CHECK_INT(ignore_parse(&g, "f", SV("a\n[x\n!\n"), &d), -EBADMSG);
    CHECK_INT(d.errors, 2);
    CHECK_INT(d.items[0].at.line, 2);
    ignore_done(&g);
    diags_done(&d);
}
