#pragma once
/* The tree of a parsed expression, for evaluation (eval.c) and for checks that look at it. Offsets
 * are bytes within the expression's text. Nodes live in the arena given to expr_parse. */
#include "expr/expr.h"

enum node_kind {
    NODE_LITERAL, /* value */
    NODE_CONTEXT, /* name */
    NODE_INDEX,   /* kids[0][kids[1]]; name is set for the form .name */
    NODE_STAR,    /* the * of [*] and .* */
    NODE_CALL,    /* name, kids */
    NODE_NOT,
    NODE_AND, /* two or more kids */
    NODE_OR,
    NODE_EQ,
    NODE_NE,
    NODE_LT,
    NODE_LE,
    NODE_GT,
    NODE_GE,
    NODE_GROUP, /* ( kids[0] ) */
};
enum builtin {
    FN_NONE,
    FN_CASE,
    FN_CONTAINS,
    FN_ENDSWITH,
    FN_FORMAT,
    FN_FROMJSON,
    FN_JOIN,
    FN_STARTSWITH,
    FN_TOJSON
};

struct expr_node {
    enum node_kind kind;
    enum builtin fn; /* NODE_CALL: FN_NONE = a call-back of the environment */
    uint32_t at, end;
    struct sv name;
    const struct value *value;
    struct expr_node **kids;
    size_t n;
};
struct expr {
    struct sv text;
    struct expr_node *root; /* NULL: empty, which is null */
};
static inline struct sv node_text(const struct expr *x, const struct expr_node *n) {
    return sv_n(x->text.p + n->at, n->end - n->at);
}

/* --- the lexer -------------------------------------------------------------------------------- */
enum token_kind {
    TOK_EOF,
    TOK_LPAREN,
    TOK_RPAREN,
    TOK_LBRACKET,
    TOK_RBRACKET,
    TOK_COMMA,
    TOK_DOT,
    TOK_NOT,
    TOK_NE,
    TOK_EQ,
    TOK_GT,
    TOK_GE,
    TOK_LT,
    TOK_LE,
    TOK_AND,
    TOK_OR,
    TOK_STAR,
    TOK_NUMBER,
    TOK_STRING,
    TOK_NAME,
    TOK_TRUE,
    TOK_FALSE,
    TOK_NULL,
};
struct token {
    enum token_kind kind;
    uint32_t at, end;
    double number;
};
enum { EXPR_MAX_LENGTH = 21000, EXPR_MAX_DEPTH = 50 };
int expr_lex(struct arena *a, struct sv text, struct token **ret, size_t *ret_n,
             struct expr_error *xe);

/* Sets *xe: "WHAT: 'raw'. Located at position N within expression: TEXT"; `brief` bytes of it are
 * what every implementation of GitHub's says. */
int expr_fail_at(struct expr_error *xe, enum expr_err kind, const char *what, struct sv text,
                 uint32_t at, uint32_t end);
int expr_fail(struct expr_error *xe, enum expr_err kind, const char *fmt, ...) _printf_(3, 4);
