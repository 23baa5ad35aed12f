/* GitHub's own cases (tests/conformance/expressions), and what they leave out. */
#include "expr/expr.h"

#include "core/fs.h"
#include "expr/fold.h"
#include "test.h"

#include <dirent.h>
#include <math.h>

static const char *source_dir(void) {
    const char *s = getenv("SRCDIR");
    return s ? s : ".";
}

static struct json *read_json(struct arena *a, const char *path) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    struct err e = {0};
    struct json *j = NULL;
    if (fs_read(AT_FDCWD, path, &b, &e) < 0 || json_parse(a, arena_sv(a, buf_sv(&b)), &j, &e) < 0)
        fprintf(stderr, "%s: %s\n", path, e.msg);
    return j;
}

static bool same(const struct value *v, const struct json *j) {
    switch (v->kind) {
    case VAL_NULL: return j->kind == JSON_NULL;
    case VAL_BOOL: return j->kind == JSON_BOOL && j->boolean == v->boolean;
    case VAL_NUMBER: return j->kind == JSON_NUMBER && j->number == v->number;
    case VAL_STRING: return j->kind == JSON_STRING && sv_eq(j->text, v->str);
    case VAL_ARRAY:
    case VAL_OBJECT: break;
    }
    if (j->kind != (v->kind == VAL_ARRAY ? JSON_ARRAY : JSON_OBJECT) || j->n != v->n)
        return false;
    for (size_t i = 0; i < v->n; i++)
        if (!same(v->items[i], j->items[i]) ||
            (v->kind == VAL_OBJECT && !sv_eq(v->keys[i], j->keys[i])))
            return false;
    return true;
}

static bool run_case(struct arena *a, const struct json *c) {
    static const char *const kinds[] = {"", "lexing", "parsing", "evaluation"};
    struct sv text = json_sv(json_get(c, "expr"));
    const struct json *contexts = json_get(c, "contexts"), *err = json_get(c, "err");
    const char **names = ARENA_ARRAY(a, const char *, (contexts ? contexts->n : 0) + 1);
    for (size_t i = 0; contexts && i < contexts->n; i++)
        names[i] = contexts->keys[i].p;
    static const char *const no_functions[] = {NULL};
    struct expr_names allowed = {names, no_functions};
    struct expr_env env = {.contexts = val_from_json(a, contexts), .max_memory = 1 << 20};
    struct expr_error xe = {0};
    struct expr *x;
    const struct value *v = NULL;
    int r = expr_parse(a, text, &allowed, &x, &xe);
    if (r == 0)
        r = expr_eval(a, x, &env, &v, &xe);
    if (!err) {
        const struct json *result = json_get(c, "result");
        if (r == 0 && same(v, json_get(result, "value")) &&
            streq(val_kind_name(v->kind), json_get_str(result, "kind", "")))
            return true;
    } else if (r < 0 && streq(kinds[xe.kind], json_get_str(err, "kind", ""))) {
        struct sv want = json_sv(json_get(err, "value"));
        if (sv_eq(sv_n(xe.msg, xe.brief), want))
            return true;
    }
    fprintf(stderr, "expression: " SV_FMT "\n  %s %.*s\n", SV_ARG(text), r < 0 ? kinds[xe.kind] : "ok",
            (int)xe.brief, xe.msg);
    return false;
}

TEST(conformance) {
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/tests/conformance/expressions", source_dir());
    DIR *d = opendir(dir);
    CHECK(d != NULL);
    unsigned n = 0, good = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!endswith(e->d_name, ".json"))
            continue;
        _cleanup_arena_ struct arena a = {0};
        _cleanup_free_ char *path = path_join(dir, e->d_name);
        struct json *groups = read_json(&a, path);
        for (size_t g = 0; groups && g < groups->n; g++)
            for (size_t i = 0; i < groups->items[g]->n; i++, n++)
                good += run_case(&a, groups->items[g]->items[i]);
    }
    if (d)
        closedir(d);
    CHECK(n >= 638);
    CHECK_INT(good, n);
}

/* Evaluates with contexts given as JSON; the result as JSON, or the error's message. */
static const char *eval(struct arena *a, const char *text, const char *contexts) {
    struct json *j = NULL;
    struct err e = {0};
    CHECK(json_parse(a, sv_from(contexts), &j, &e) == 0);
    struct expr_env env = {.contexts = val_from_json(a, j)};
    struct expr_error xe = {0};
    const struct value *v;
    if (expr_run(a, sv_from(text), &env, &v, &xe) < 0)
        return arena_strdup(a, xe.msg);
    struct buf b = BUF_LARGE;
    val_to_json(v, &b, 0);
    const char *s = arena_strdup(a, buf_str(&b));
    buf_done(&b);
    return s;
}

TEST(numbers) {
    static const struct {
        double d;
        const char *text;
    } cases[] = {{0.1 + 0.2, "0.3"},      {1e15, "1E+15"},   {999999999999999, "999999999999999"},
                 {1e-5, "1E-05"},         {0.0001, "0.0001"}, {1.5e100, "1.5E+100"},
                 {-0.0, "0"},             {1.0 / 3, "0.333333333333333"},
                 {123456789012345678.0, "1.23456789012346E+17"}};
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        val_format_number(cases[i].d, &b);
        CHECK_STR(buf_str(&b), cases[i].text);
    }
    CHECK(val_parse_number(SV("0xFFFFFFFF")) == -1);
    CHECK(isnan(val_parse_number(SV("0x1FFFFFFFF"))));
    CHECK(isnan(val_parse_number(SV("0x"))));
    CHECK(isnan(val_parse_number(SV("1_000"))));
    CHECK(isnan(val_parse_number(SV("."))));
    CHECK(isnan(val_parse_number(SV("1e"))));
    CHECK(val_parse_number(SV("1.")) == 1);
    CHECK(val_parse_number(SV("\xc2\xa0 7\t")) == 7);
    CHECK(isinf(val_parse_number(SV("1e999"))));
}

TEST(objects) {
    _cleanup_arena_ struct arena a = {0};
    struct value *o = val_object(&a);
    for (unsigned i = 0; i < 1000; i++) {
        char key[20];
        snprintf(key, sizeof key, "Schlüssel%u", i);
        val_sets(&a, o, key, val_number(&a, i));
    }
    CHECK_INT(o->n, 1000);
    CHECK(val_gets(o, "SCHLÜSSEL999") && val_gets(o, "schlüssel0")->number == 0);
    CHECK(!val_gets(o, "Schlüssel1000"));
    val_sets(&a, o, "SCHLÜSSEL5", &val_true);
    CHECK_INT(o->n, 1000);
    CHECK(val_gets(o, "Schlüssel5") == &val_true);
    CHECK_STR(eval(&a, "fromJSON('{\"a\":1,\"b\":2,\"a\":3,\"A\":4}')", "{}"), "{\"a\":3,\"b\":2}");
    CHECK_STR(eval(&a, "x == x", "{\"x\":[1]}"), "true");
    CHECK_STR(eval(&a, "x == y", "{\"x\":[1],\"y\":[1]}"), "false");
    CHECK_STR(eval(&a, "x.* == x.*", "{\"x\":[1]}"), "false");
}

TEST(strings) {
    _cleanup_arena_ struct arena a = {0};
    CHECK_STR(eval(&a, "'it''s ''so'''", "{}"), "\"it's 'so'\"");
    CHECK_STR(eval(&a, "format('{1}{0}{{}}', 'a', 'b')", "{}"), "\"ba{}\"");
    CHECK_STR(eval(&a, "format('{1}', 'a')", "{}"),
              "The following format string references more arguments than were supplied: {1}");
    CHECK(strstr(eval(&a, "fromJSON('{')", "{}"), "Error parsing JSON when evaluating fromJson"));
    CHECK_STR(eval(&a, "contains('STRASSE', 'straße')", "{}"), "false");
    CHECK(fold_ends(SV("a\xff"), SV("\xff")) && !fold_ends(SV("a\xff"), SV("\xfe")));
    CHECK(fold_cmp(SV("\xf0\x9f\x98\x80"), SV("\xef\xbf\xbd")) < 0); /* as UTF-16 */
}

TEST(limits) {
    _cleanup_arena_ struct arena a = {0};
    struct buf b = BUF_LARGE;
    buf_addc(&b, '1');
    for (int i = 0; i < 6900; i++)
        buf_adds(&b, "==1");
    CHECK_STR(eval(&a, buf_str(&b), "{}"), "true");
    for (int i = 0; i < 200; i++)
        buf_adds(&b, "==1");
    CHECK_STR(eval(&a, buf_str(&b), "{}"), "Exceeded max expression length 21000");
    buf_done(&b);
    b = BUF_LARGE;
    for (int i = 0; i < 10000; i++)
        buf_addc(&b, '[');
    CHECK(strstr(eval(&a, buf_str(&b), "{}"), "Unexpected symbol: '['"));
    buf_reset(&b);
    for (int i = 0; i < 10000; i++)
        buf_addc(&b, '(');
    CHECK_STR(eval(&a, buf_str(&b), "{}"), "Exceeded max expression depth 50");
    buf_done(&b);
    /* Each level is a thousand times the one below. */
    struct value *o = val_object(&a);
    char big[1001];
    memset(big, 'x', 1000);
    big[1000] = 0;
    val_sets(&a, o, "x", val_str(&a, big));
    struct expr_env env = {.contexts = o, .max_memory = 1 << 20};
    struct expr_error xe = {0};
    const struct value *v;
    _cleanup_buf_ struct buf f = BUF_LARGE;
    buf_adds(&f, "'' ");
    for (int i = 0; i < 60; i++)
        buf_adds(&f, "|| format(format('{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}', "
                     "format('{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}', x)), 1) == 1");
    CHECK(expr_run(&a, buf_sv(&f), &env, &v, &xe) < 0);
    CHECK(startswith(xe.msg, "The maximum allowed memory size was exceeded"));
    CHECK(a.used < 64u << 20);
}

static const char *fill(struct arena *a, const char *text) {
    struct value *o = val_object(a);
    val_sets(a, o, "n", val_number(a, 3.0));
    val_sets(a, o, "s", val_str(a, "text"));
    struct expr_env env = {.contexts = o};
    struct expr_error xe = {0};
    const struct value *v;
    if (template_eval(a, sv_from(text), &env, &v, &xe) < 0)
        return arena_printf(a, "%zu+%zu %s", xe.offset, xe.length, xe.msg);
    return arena_printf(a, "%s " SV_FMT, val_kind_name(v->kind), SV_ARG(val_to_string(a, v)));
}

TEST(templates) {
    _cleanup_arena_ struct arena a = {0};
    CHECK_STR(fill(&a, "plain"), "String plain");
    CHECK_STR(fill(&a, "${{ n }}"), "Number 3");
    CHECK_STR(fill(&a, "${{ n }} "), "String 3 ");
    CHECK_STR(fill(&a, "a ${{n}}-${{ s }} b"), "String a 3-text b");
    CHECK_STR(fill(&a, "${{ '}}' }}"), "String }}");
    CHECK_STR(fill(&a, "$ {{ n }} }}"), "String $ {{ n }} }}");
    CHECK(startswith(fill(&a, "x ${{ n }"), "2+7 The expression is not closed."));
    CHECK_STR(fill(&a, "x ${{  }}"), "2+7 An expression was expected");
    CHECK(startswith(fill(&a, "x ${{ n @ }}"), "8+1 Unexpected symbol: '@'. Located at position 3"));
}

static void note(void *arg, struct sv name, struct sv property) {
    buf_addf(arg, SV_FMT "%s" SV_FMT " ", SV_ARG(name), property.p ? "." : "()", SV_ARG(property));
}

TEST(uses) {
    _cleanup_arena_ struct arena a = {0};
    struct expr_error xe;
    struct expr *x;
    CHECK(expr_parse(&a, SV("always() && secrets.A == vars['b'] || env[matrix.x] || github"), NULL, &x,
                     &xe) == 0);
    _cleanup_buf_ struct buf b = BUF_SMALL;
    expr_uses(x, note, &b);
    CHECK_STR(buf_str(&b), "always() vars.b secrets.A env. matrix.x github. ");
    CHECK(expr_calls_status(x));
    static const char *const contexts[] = {"github", NULL};
    static const char *const functions[] = {"hashFiles(1,255)", "success(0,MAX)", NULL};
    struct expr_names names = {contexts, functions};
    CHECK(expr_parse(&a, SV("hashFiles('a') == GitHub.x && success()"), &names, &x, &xe) == 0);
    CHECK(expr_parse(&a, SV("hashFiles()"), &names, &x, &xe) < 0);
    CHECK_STR(xe.msg, "Too few parameters supplied: 'hashFiles'. Located at position 1 within "
                      "expression: hashFiles()");
    CHECK(expr_parse(&a, SV("env.X"), &names, &x, &xe) < 0);
    CHECK_STR(xe.msg, "Unrecognized named-value: 'env'. Located at position 1 within expression: env.X");
}
