#include "test.h"

#include "base/yaml.h"

static struct arena a;
static struct diags d;

static struct yaml_node *parse_with(const char *text, const struct yaml_limits *lim) {
    arena_done(&a);
    diags_done(&d);
    memset(&a, 0, sizeof a);
    memset(&d, 0, sizeof d);
    struct yaml_node *n = NULL;
    int r = yaml_parse(&a, "f.yml", sv_from(text), lim, &n, &d);
    CHECK((r < 0) == (d.errors > 0));
    return r < 0 ? NULL : n;
}
static struct yaml_node *parse(const char *text) { return parse_with(text, NULL); }

TEST(maps_and_positions) {
    const struct yaml_node *n = parse("name: ci\non:\n  push:\n    branches: [main, 'a: b']\n");
    CHECK(n && n->kind == YAML_MAP && n->n == 2);
    CHECK(yaml_is(yaml_get(n, "name"), "ci"));
    const struct yaml_node *b = yaml_get(yaml_get(yaml_get(n, "on"), "push"), "branches");
    CHECK(b && b->kind == YAML_SEQ && b->n == 2);
    CHECK_INT(b->at.line, 4);
    CHECK_INT(b->at.col, 15);
    CHECK_INT(b->at.end_col, 29);
    CHECK_INT(b->items[1]->at.col, 22);
    CHECK_INT(b->items[1]->style, YAML_SINGLE);
    CHECK_STR(b->items[1]->text.p, "a: b");
    CHECK_STR(b->at.file, "f.yml");
    CHECK(yaml_get(n, "absent") == NULL);
    CHECK(yaml_get(NULL, "x") == NULL);
}

TEST(columns_are_bytes) {
    const struct yaml_node *n = parse("{é: ü, k: v}\n€: x\n");
    CHECK(n == NULL); /* a second node after the flow map */
    n = parse("[é, ü, v]\n");
    CHECK(n && n->n == 3);
    CHECK_INT(n->items[0]->at.col, 2);
    CHECK_INT(n->items[1]->at.col, 6);
    CHECK_INT(n->items[2]->at.col, 10);
}

TEST(block_scalars) {
    const struct yaml_node *n = parse("a:\n  run: |  # comment\n\n    echo 1\n      echo 2\n  x: >-\n    f1\n    f2\n  y: |2\n      k\n");
    const struct yaml_node *run = yaml_get(yaml_get(n, "a"), "run");
    CHECK_STR(run->text.p, "\necho 1\n  echo 2\n");
    CHECK_INT(run->content_line, 3);
    CHECK_INT(run->content_indent, 4);
    CHECK_STR(yaml_get(yaml_get(n, "a"), "x")->text.p, "f1 f2");
    const struct yaml_node *y = yaml_get(yaml_get(n, "a"), "y");
    CHECK_STR(y->text.p, "  k\n");
    CHECK_INT(y->content_indent, 4);
    CHECK_INT(y->content_line, 10);
}

TEST(empty_documents) {
    CHECK(parse("") == NULL && d.errors == 0);
    CHECK(parse("# only a comment\n") == NULL && d.errors == 0);
    const struct yaml_node *n = parse("---\n");
    CHECK(n && n->kind == YAML_SCALAR && yaml_scalar_type(n, NULL, NULL) == YAML_T_NULL);
    CHECK(yaml_get(parse("\xef\xbb\xbf" "a: 1"), "a") != NULL);
}

TEST(documents) {
    CHECK(parse("a: 1\n---\nb: 2\n") == NULL);
    CHECK_INT(d.errors, 1);
    CHECK_INT(d.items[0].at.line, 3);
    struct yaml_node **docs;
    size_t k = 0;
    CHECK_INT(yaml_parse_all(&a, "f", SV("a: 1\n---\nb: 2\n"), NULL, &docs, &k, &d), 0);
    CHECK_INT(k, 2);
    CHECK(yaml_get(docs[1], "b") != NULL);
}

TEST(aliases) {
    const struct yaml_node *n = parse("x: &a {k: v}\ny: *a\nz: &s text\nw: *s\n");
    CHECK(yaml_is(yaml_get(yaml_get(n, "y"), "k"), "v"));
    CHECK(yaml_get(n, "y")->from_alias);
    CHECK(!yaml_get(n, "x")->from_alias);
    CHECK(yaml_is(yaml_get(n, "w"), "text"));
    CHECK(parse("x: *nope\n") == NULL);
    CHECK_INT(d.items[0].at.col, 4);
    CHECK(parse("x: &a [*a]\n") == NULL);
    CHECK(parse("a: &x 1\n---\nb: *x\n") == NULL);
}

TEST(merge_keys) {
    static const char text[] = "base: &b {k: 1, j: 2}\nother: &o {j: 5, m: 6}\nx:\n  <<: *b\n  k: 3\ny:\n  <<: [*o, *b]\n";
    struct yaml_limits lim = {.merge = true};
    const struct yaml_node *n = parse_with(text, &lim), *x = yaml_get(n, "x"), *y = yaml_get(n, "y");
    CHECK_INT(x->n, 2);
    CHECK(yaml_is(yaml_get(x, "k"), "3") && yaml_is(yaml_get(x, "j"), "2"));
    CHECK_INT(y->n, 3);
    CHECK(yaml_is(yaml_get(y, "j"), "5") && yaml_is(yaml_get(y, "k"), "1"));
    CHECK(yaml_get(yaml_get(parse(text), "x"), "<<") != NULL);
    CHECK(parse_with("<<: 3\n", &lim) == NULL);
}

TEST(limits) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    for (int i = 0; i < 63; i++)
        buf_addc(&b, '[');
    for (int i = 0; i < 63; i++)
        buf_addc(&b, ']');
    CHECK(parse(buf_str(&b)) != NULL);
    buf_reset(&b);
    for (int i = 0; i < 5000; i++)
        buf_addc(&b, '[');
    CHECK(parse(buf_str(&b)) == NULL);
    buf_reset(&b);
    buf_adds(&b, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 12; i++) {
        buf_addf(&b, "a%d: &a%d [", i, i);
        for (int j = 0; j < 10; j++)
            buf_addf(&b, "*a%d%s", i - 1, j < 9 ? "," : "]\n");
    }
    CHECK(parse(buf_str(&b)) == NULL);
    CHECK_STR(d.items[0].code, "yaml-limit");
    struct yaml_limits small = {.max_bytes = 10};
    CHECK(parse_with("a: 12345678901\n", &small) == NULL);
    /* one very long line stays linear */
    buf_reset(&b);
    buf_addc(&b, '[');
    for (int i = 0; i < 150000; i++)
        buf_adds(&b, "é,");
    buf_addc(&b, ']');
    const struct yaml_node *n = parse(buf_str(&b));
    CHECK(n && n->n == 150000);
    CHECK_INT(n->items[149999]->at.col, 2 + 149999 * 3);
}

TEST(errors_have_positions) {
    CHECK(parse("a: b: c\n") == NULL);
    CHECK_INT(d.items[0].at.line, 1);
    CHECK_INT(d.items[0].at.col, 5);
    CHECK(d.items[0].hint != NULL);
    CHECK(parse("a:\n\t- b\n") == NULL);
    CHECK_INT(d.items[0].at.line, 2);
    CHECK(strstr(d.items[0].hint, "tabs") != NULL);
    CHECK(parse("a: [1, 2\nb: 3\n") == NULL);
    CHECK(parse("a: \xff\n") == NULL);
    CHECK_INT(d.items[0].at.line, 1);
    CHECK_INT(d.items[0].at.col, 4);
    CHECK(parse("jobs:\n  a: 1\n  b: 2\n  a: 3\n") == NULL);
    CHECK_STR(d.items[0].code, "yaml-duplicate-key");
    CHECK_INT(d.items[0].at.line, 4);
    CHECK(parse("%YA\n") == NULL);
}

TEST(core_schema) {
    static const struct { const char *text; enum yaml_type type; double num; } t[] = {
        {"", YAML_T_NULL}, {"~", YAML_T_NULL}, {"null", YAML_T_NULL}, {"nULL", YAML_T_STRING},
        {"true", YAML_T_BOOL, 1}, {"FALSE", YAML_T_BOOL, 0}, {"yes", YAML_T_STRING}, {"on", YAML_T_STRING},
        {"12", YAML_T_INT, 12}, {"-0", YAML_T_INT, 0}, {"+7", YAML_T_INT, 7}, {"0x1F", YAML_T_INT, 31},
        {"0o17", YAML_T_INT, 15}, {"017", YAML_T_INT, 17}, {"3.11", YAML_T_FLOAT, 3.11}, {"3.", YAML_T_FLOAT, 3},
        {".5", YAML_T_FLOAT, .5}, {"1e3", YAML_T_FLOAT, 1000}, {"1e", YAML_T_STRING}, {".", YAML_T_STRING},
        {"3.10.1", YAML_T_STRING}, {"0x", YAML_T_STRING}, {"nan", YAML_T_STRING}, {"1_000", YAML_T_STRING},
        {"-", YAML_T_STRING}, {"12:30", YAML_T_STRING}, {"2024-01-01", YAML_T_STRING}};
    for (size_t i = 0; i < ELEMENTS(t); i++) {
        struct yaml_node n = {.kind = YAML_SCALAR, .style = YAML_PLAIN, .text = sv_from(t[i].text)};
        double num = -1;
        bool b = false;
        CHECK_INT(yaml_scalar_type(&n, &num, &b), t[i].type);
        if (t[i].type == YAML_T_INT || t[i].type == YAML_T_FLOAT)
            CHECK(fabs(num - t[i].num) < 1e-12);
        if (t[i].type == YAML_T_BOOL)
            CHECK_INT(b, t[i].num);
    }
    double num = 0;
    struct yaml_node n = {.kind = YAML_SCALAR, .text = SV("-.inf")};
    CHECK(yaml_scalar_type(&n, &num, NULL) == YAML_T_FLOAT && isinf(num) && num < 0);
    n.style = YAML_DOUBLE;
    n.text = SV("12");
    CHECK_INT(yaml_scalar_type(&n, NULL, NULL), YAML_T_STRING);
    const struct yaml_node *m = parse("- !!str 12\n- ! 13\n- !ref x\n");
    CHECK_INT(yaml_scalar_type(m->items[0], NULL, NULL), YAML_T_STRING);
    CHECK_INT(yaml_scalar_type(m->items[1], NULL, NULL), YAML_T_STRING);
    CHECK_STR(m->items[2]->tag, "!ref");
}
