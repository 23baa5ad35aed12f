/* Globs of actions, against what @actions/glob gives (recorded by its tests and tried by hand). */
#include "test.h"

#include "core/fs.h"
#include "run/glob.h"

static struct err e;

static bool match(const char *pattern, const char *path, unsigned flags) {
    struct globs *g;
    if (globs_new(&g, sv_from(pattern), "/w", "/home/u", flags, &e) < 0)
        return false;
    bool r = globs_match(g, path) & 2;
    globs_free(g);
    return r;
}

TEST(patterns) {
    static const struct { const char *pattern, *path; bool yes; } t[] = {
        {"*", "/w/a", true}, {"*", "/w/.a", true}, {"*", "/w/a/b", false}, {"**", "/w/a/b", true}, {"**", "/w", true},
        {"a/**", "/w/a", true}, {"a/**/b", "/w/a/b", true}, {"a/**/b", "/w/a/x/y/b", true}, {"a/**/b", "/w/a/x/bb", false},
        {"**/*.js", "/w/x/.y/a.js", true}, {"**/node_modules/**", "/w/p/node_modules/q/r", true}, {"a?c", "/w/abc", true}, {"a?c", "/w/ac", false},
        {"a?c", "/w/a\xc3\xa4" "c", true}, {"[a-c]x", "/w/bx", true}, {"[!a-c]x", "/w/bx", false}, {"[^a]x", "/w/bx", true}, {"[x", "/w/[x", true},
        {"[]]x", "/w/]x", true}, {"\\*", "/w/*", true}, {"\\*", "/w/a", false}, {"{a,b}", "/w/a", false}, {"{a,b}", "/w/{a,b}", true}, {"+(a)", "/w/a", false},
        {"~/x", "/home/u/x", true}, {"~x", "/w/~x", true}, {"/abs/*", "/abs/q", true}, {"./a", "/w/a", true}, {".", "/w", true},
        {"*\n!b", "/w/a", true}, {"*\n!b", "/w/b", false}, {"!b\n*", "/w/b", true}, {"*\n!!b", "/w/b", true}, {"# a\na", "/w/a", true}, {"#a", "/w/#a", false},
        {"  a  ", "/w/a", true}, {"a/", "/w/a", false}, {"a//b", "/w/a/b", true}, {"a*b*c", "/w/axxbyyc", true}, {"a*b*c", "/w/axxbyy", false},
        {"**.js", "/w/a.js", true}, {"**.js", "/w/x/a.js", false}, {"a/*/**/c", "/w/a/c", false}, {"a/*/**/c", "/w/a/b/c", true}, {"x[[]", "/w/x[", true}};
    for (size_t i = 0; i < ELEMENTS(t); i++)
        if (match(t[i].pattern, t[i].path, GLOB_EXACT) != t[i].yes) {
            fprintf(stderr, "%s %s %s\n", t[i].pattern, t[i].yes ? "does not match" : "matches", t[i].path);
            CHECK(false);
        } else
            CHECK(true);
    CHECK(match("a", "/w/a/b/c", 0));
    CHECK(!match("a", "/w/a/b/c", GLOB_EXACT));
    CHECK(match("a\n!a/b", "/w/a/c", 0));
    CHECK(!match("a\n!a/b", "/w/a/b/c", 0)); /* an exclusion takes what is below, too */
    struct globs *g;
    CHECK_INT(globs_new(&g, SV("a/../b"), "/w", "/h", 0, &e), -EINVAL);
    CHECK_STR(e.msg, "Invalid pattern 'a/../b'. Relative pathing '.' and '..' is not allowed.");
    CHECK_INT(globs_new(&g, SV("../b"), "/w", "/h", 0, &e), -EINVAL);
    CHECK_INT(globs_new(&g, SV("!"), "/w", "/h", 0, &e), -EINVAL);
    /* Nothing blows up. */
    CHECK(!match("**/a*a*a*a*a*a*a*a*a*a*a*a/**/**/**/**/**/b", "/w/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/c/c/c/c/c/c/c/c/c/c", 0));
}

TEST(roots) {
    struct globs *g;
    const char *const *r;
    CHECK_INT(globs_new(&g, SV("a/b/*.c\na/**\n/x/[q]/y*\n!z\na"), "/w", "/h", 0, &e), 0);
    CHECK_INT(globs_roots(g, &r), 2);
    CHECK_STR(r[0], "/w/a");
    CHECK_STR(r[1], "/x/q");
    CHECK_INT(globs_count(g), 5);
    globs_free(g);
}

static int collect(void *arg, const char *path, const struct stat *st) {
    buf_addf(arg, "%s%s ", path, S_ISDIR(st->st_mode) ? "/" : S_ISLNK(st->st_mode) ? "@" : "");
    return 0;
}
static const char *walk(int root, const char *patterns, unsigned flags) {
    static struct buf b = {.max = 65536};
    struct globs *g;
    buf_reset(&b);
    CHECK_INT(globs_new(&g, sv_from(patterns), "/w", "/h", flags, &e), 0);
    CHECK_INT(globs_walk(g, root, collect, &b, &e), 0);
    globs_free(g);
    return buf_str(&b);
}

TEST(walking) {
    char top[] = "/tmp/test-glob-XXXXXX";
    CHECK(mkdtemp(top) != NULL);
    int root = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(fs_mkdirs(root, "w/d/.h/x", 0755), 0);
    static const char *const files[] = {"w/a", "w/B", "w/d/f", "w/d/.h/x/g", "w/.e"};
    for (size_t i = 0; i < ELEMENTS(files); i++)
        CHECK_INT(fs_write(root, files[i], SV("x"), 0644, false, &e), 0);
    CHECK_INT(symlinkat("..", root, "w/d/round"), 0);
    CHECK_INT(symlinkat("nothing", root, "w/broken"), 0);
    CHECK_INT(symlinkat("/etc", root, "w/out"), 0); /* of this root: not there */
    CHECK_STR(walk(root, "**", 0), "/w/ /w/.e /w/B /w/a /w/d/ /w/d/.h/ /w/d/.h/x/ /w/d/.h/x/g /w/d/f ");
    CHECK_STR(walk(root, "**", GLOB_NO_DIRS | GLOB_NO_HIDDEN), "/w/B /w/a /w/d/f ");
    CHECK_STR(walk(root, "d/.h", GLOB_NO_DIRS | GLOB_NO_HIDDEN), ""); /* as published: the hidden root itself is left out */
    CHECK_STR(walk(root, "**", GLOB_NO_FOLLOW | GLOB_NO_DIRS), "/w/.e /w/B /w/a /w/broken@ /w/d/.h/x/g /w/d/f /w/d/round@ /w/out@ ");
    CHECK_STR(walk(root, "d", GLOB_EXACT), "/w/d/ ");
    CHECK_STR(walk(root, "*\n!d\n!**/.*", GLOB_EXACT), "/w/B /w/a ");
    CHECK_STR(walk(root, "d/", GLOB_NO_DIRS), "/w/d/.h/x/g /w/d/f /w/d/round/.e /w/d/round/B /w/d/round/a "); /* once round, as published */
    CHECK_STR(walk(root, "none", 0), "");
    CHECK_STR(walk(root, "/etc/**", 0), ""); /* the host's is not there */
    close(root);
    CHECK_INT(fs_rmtree(AT_FDCWD, top), 0);
}

TEST(names) {
    static const struct { const char *p, *n; bool yes; } t[] = {
        {"my-*", "my-artifact", true}, {"*", ".hidden", false}, {".*", ".hidden", true}, {"{a,b}-*", "b-1", true}, {"{a,b}-*", "c-1", false},
        {"!x*", "abc", true}, {"!x*", "xbc", false}, {"x{1,{2,3}}y", "x3y", true}, {"x{1}y", "x{1}y", true}, {"#a", "#a", false}, {"a?[0-9]", "ab7", true}};
    for (size_t i = 0; i < ELEMENTS(t); i++)
        CHECK(glob_name(sv_from(t[i].p), sv_from(t[i].n)) == t[i].yes);
    CHECK(!glob_name(SV("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"), SV("x")));
}
