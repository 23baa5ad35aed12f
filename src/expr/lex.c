/* The lexer runs over the whole text before the parser starts: an error of it wins over any error
 * of the parser, as in GitHub's. What is no token is read up to the next boundary and reported
 * whole ("Unexpected symbol: 'b@r'"). A dot starts a number unless something stands before it that
 * can have a property. */
#include "expr/ast.h"
#include "expr/fold.h"

#include <math.h>

int expr_fail(struct expr_error *xe, enum expr_err kind, const char *fmt, ...) {
    if (xe) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(xe->msg, sizeof xe->msg, fmt, ap);
        va_end(ap);
        if (n >= (int)sizeof xe->msg)
            memcpy(xe->msg + sizeof xe->msg - 4, "...", 4);
        xe->kind = kind;
        xe->pos = 1;
        xe->offset = xe->length = 0;
        xe->brief = strlen(xe->msg);
    }
    return -EINVAL;
}

int expr_fail_at(struct expr_error *xe, enum expr_err kind, const char *what, struct sv text,
                 uint32_t at, uint32_t end) {
    size_t pos = utf16_len(sv_sub(text, 0, at)) + 1;
    struct sv raw = sv_sub(text, at, end - at);
    /* The position must survive truncation of long symbols. */
    expr_fail(xe, kind, "%s: '%.*s'. Located at position %zu within expression: " SV_FMT, what,
              (int)MIN(raw.n, (size_t)200), raw.p, pos, SV_ARG(text));
    if (xe) {
        xe->pos = pos;
        xe->offset = at;
        xe->length = end - at;
    }
    return -EINVAL;
}

struct lexer {
    struct arena *arena;
    struct sv text;
    uint32_t at;
    struct token *tokens;
    size_t n, cap;
    struct expr_error *xe;
};

static bool boundary(const struct lexer *l, uint32_t at) {
    const char *p = l->text.p + at;
    if (strchr("([)],.!><=&|", *p) && *p)
        return true;
    if ((uint8_t)*p < 0x80)
        return *p == ' ' || (*p >= 9 && *p <= 13);
    uint32_t c = utf8_next(&p, l->text.p + l->text.n);
    return c == 0xa0 || c == 0x2028 || c == 0x2029 || c == 0x3000 || c == 0xfeff;
}

static void push(struct lexer *l, enum token_kind kind, uint32_t from, double number) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        struct token *t = ARENA_ARRAY(l->arena, struct token, cap);
        if (l->n)
            memcpy(t, l->tokens, l->n * sizeof *t);
        l->tokens = t;
        l->cap = cap;
    }
    l->tokens[l->n++] = (struct token){kind, from, l->at, number};
}

static int unexpected(struct lexer *l, uint32_t from) {
    return expr_fail_at(l->xe, EXPR_LEXING, "Unexpected symbol", l->text, from, l->at);
}

static void to_boundary(struct lexer *l, bool dots) {
    while (l->at < l->text.n && (!boundary(l, l->at) || (dots && l->text.p[l->at] == '.')))
        l->at++;
}

static int number(struct lexer *l, uint32_t from) {
    to_boundary(l, true);
    double d = val_parse_number(sv_sub(l->text, from, l->at - from));
    if (isnan(d))
        return unexpected(l, from);
    push(l, TOK_NUMBER, from, d);
    return 0;
}

static int string(struct lexer *l, uint32_t from) {
    for (; l->at < l->text.n; l->at++) {
        if (l->text.p[l->at] != '\'')
            continue;
        if (l->at + 1 < l->text.n && l->text.p[l->at + 1] == '\'') {
            l->at++;
            continue;
        }
        l->at++;
        push(l, TOK_STRING, from, 0);
        return 0;
    }
    return unexpected(l, from);
}

static bool letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int name(struct lexer *l, uint32_t from) {
    static const struct {
        const char *word;
        enum token_kind kind;
        double number;
    } words[] = {{"true", TOK_TRUE, 0},
                 {"false", TOK_FALSE, 0},
                 {"null", TOK_NULL, 0},
                 {"NaN", TOK_NUMBER, NAN},
                 {"Infinity", TOK_NUMBER, INFINITY}};
    to_boundary(l, false);
    struct sv s = sv_sub(l->text, from, l->at - from);
    if (!letter(s.p[0]))
        return unexpected(l, from);
    for (size_t i = 1; i < s.n; i++)
        if (!letter(s.p[i]) && !(s.p[i] >= '0' && s.p[i] <= '9') && s.p[i] != '-')
            return unexpected(l, from);
    if (l->n == 0 || l->tokens[l->n - 1].kind != TOK_DOT) {
        for (size_t i = 0; i < ELEMENTS(words); i++) {
            if (sv_eqs(s, words[i].word)) {
                push(l, words[i].kind, from, words[i].number);
                return 0;
            }
        }
    }
    push(l, TOK_NAME, from, 0);
    return 0;
}

/* One or two characters: first, and `second` when it follows. */
static int pair(struct lexer *l, uint32_t from, char second, enum token_kind one,
                enum token_kind two) {
    if (l->at < l->text.n && l->text.p[l->at] == second) {
        l->at++;
        push(l, two, from, 0);
        return 0;
    }
    if (one == TOK_EOF) { /* needs the second one */
        to_boundary(l, false);
        return unexpected(l, from);
    }
    push(l, one, from, 0);
    return 0;
}

static bool has_property(const struct lexer *l) {
    if (l->n == 0)
        return false;
    enum token_kind k = l->tokens[l->n - 1].kind;
    return k == TOK_NAME || k == TOK_RBRACKET || k == TOK_RPAREN || k == TOK_STAR;
}

static int next(struct lexer *l) {
    static const char single[] = "()[],*";
    static const enum token_kind kinds[] = {TOK_LPAREN,   TOK_RPAREN, TOK_LBRACKET,
                                            TOK_RBRACKET, TOK_COMMA,  TOK_STAR};
    uint32_t from = l->at++;
    char c = l->text.p[from];
    const char *at = c ? strchr(single, c) : NULL;
    if (at) {
        push(l, kinds[at - single], from, 0);
        return 0;
    }
    switch (c) {
    case '.':
        if (!has_property(l))
            return number(l, from);
        push(l, TOK_DOT, from, 0);
        return 0;
    case '-':
    case '+':
        return number(l, from);
    case '!':
        return pair(l, from, '=', TOK_NOT, TOK_NE);
    case '<':
        return pair(l, from, '=', TOK_LT, TOK_LE);
    case '>':
        return pair(l, from, '=', TOK_GT, TOK_GE);
    case '=':
        return pair(l, from, '=', TOK_EOF, TOK_EQ);
    case '&':
        return pair(l, from, '&', TOK_EOF, TOK_AND);
    case '|':
        return pair(l, from, '|', TOK_EOF, TOK_OR);
    case '\'':
        return string(l, from);
    default:
        break;
    }
    if (boundary(l, from)) { /* white space: the others were taken above */
        const char *p = l->text.p + from;
        utf8_next(&p, l->text.p + l->text.n);
        l->at = (uint32_t)(p - l->text.p);
        return 0;
    }
    return c >= '0' && c <= '9' ? number(l, from) : name(l, from);
}

int expr_lex(struct arena *a, struct sv text, struct token **ret, size_t *ret_n,
             struct expr_error *xe) {
    if (text.n > EXPR_MAX_LENGTH && utf16_len(text) > EXPR_MAX_LENGTH)
        return expr_fail(xe, EXPR_LEXING, "Exceeded max expression length %d", EXPR_MAX_LENGTH);
    struct lexer l = {.arena = a, .text = text, .xe = xe};
    while (l.at < text.n) {
        int r = next(&l);
        if (r < 0)
            return r;
    }
    push(&l, TOK_EOF, l.at, 0);
    *ret = l.tokens;
    *ret_n = l.n;
    return 0;
}
