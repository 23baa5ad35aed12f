#include "build/expand.h"
#include "test.h"

static const char *get(void *arg, struct sv name) {
    static const char *const vars[][2] = {{"x", "foo.bar.baz"}, {"empty", ""}, {"A", "1 2"}, {"p", "/a/b/c"}, {"star", "a*b"}};
    for (size_t i = 0; i < ELEMENTS(vars); i++)
        if (sv_eqs(name, vars[i][0]))
            return vars[i][1];
    return NULL;
}
static struct arena arena;
static const char *ex(const char *s) {
    struct expand x = {.escape = '\\', .get = get};
    struct err e = {0};
    char *out;
    if (expand_word(&arena, &x, sv_from(s), &out, &e) < 0)
        return arena_printf(&arena, "error: %s", e.msg);
    return out;
}

TEST(words) {
    static const char *const t[][2] = {
        {"plain", "plain"}, {"$x", "foo.bar.baz"}, {"a${x}b", "afoo.bar.bazb"}, {"$nope", ""}, {"$", "$"}, {"a$ b", "a$ b"},
        {"'$x'", "$x"}, {"\"$x\"", "foo.bar.baz"}, {"\\$x", "$x"}, {"\"\\$x\"", "$x"}, {"\"a\\b\"", "a\\b"}, {"a\\b", "ab"},
        {"\"a\\\"b\"", "a\"b"}, {"'a\\'", "a\\"},
        {"${nope:-d}", "d"}, {"${empty:-d}", "d"}, {"${empty-d}", ""}, {"${nope-d}", "d"}, {"${nope:-$x}", "foo.bar.baz"},
        {"${x:+y}", "y"}, {"${empty:+y}", ""}, {"${empty+y}", "y"}, {"${nope+y}", ""}, {"${nope:-${nope:-z}}", "z"},
        {"${x:?no}", "foo.bar.baz"}, {"${nope:?gone}", "error: nope: gone"}, {"${empty?no}", ""},
        {"${x#*.}", "bar.baz"}, {"${x##*.}", "baz"}, {"${x%.*}", "foo.bar"}, {"${x%%.*}", "foo"}, {"${x#zz}", "foo.bar.baz"},
        {"${x/ba?/X}", "foo.X.baz"}, {"${x//ba?/X}", "foo.X.X"}, {"${x/./}", "foobar.baz"}, {"${p//\\//-}", "-a-b-c"},
        {"${star#a\\*}", "b"}, {"${x/nope/y}", "foo.bar.baz"}, {"${x%%\\.*}", "error: invalid escape in the pattern of a substitution"},
        {"${x//$nope/-}", "-f-o-o-.-b-a-r-.-b-a-z-"}, {"${x/$nope/-}", "-foo.bar.baz"}, {"${star//\\*/+}", "a+b"}, {"${+}", ""}, {"${:-a}", "error: bad substitution in ${"},
        {"${x", "error: missing '}' in ${"}, {"${}", "error: bad substitution in ${"}, {"${x:-a", "error: missing '}' in substitution"},
        {"${x:}", "error: unsupported modifier (:}) in substitution"}, {"'a", "error: unexpected end of statement while looking for the matching single quote"},
        {"$1a", "a"}, {"é$x", "éfoo.bar.baz"}, {"${nope:-'a b'}", "a b"}, {"${nope:-\"}\"}", "}"},
    };
    for (size_t i = 0; i < ELEMENTS(t); i++)
        CHECK_STR(ex(t[i][0]), t[i][1]);
}

TEST(splitting) {
    struct expand x = {.escape = '\\', .get = get};
    struct strv v = {0};
    CHECK_INT(expand_words(&arena, &x, sv_from("$A  3 \"$A\" ''"), &v, NULL), 0);
    CHECK_INT(v.n, 4);
    CHECK_STR(v.v[0], "1");
    CHECK_STR(v.v[2], "3");
    CHECK_STR(v.v[3], "1 2");
    strv_done(&v);
}

TEST(depth) {
    char s[2000] = "";
    size_t n = 0;
    for (int i = 0; i < 300; i++)
        n += (size_t)snprintf(s + n, sizeof s - n, "${a:-");
    CHECK_STR(ex(s), "error: too deeply nested");
    arena_done(&arena);
}
