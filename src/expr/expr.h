#pragma once
/* The expression language of GitHub Actions: lexer, parser, evaluation, and templates (text with
 * ${{ }}). Messages are GitHub's own. Parsing needs no values: the plan holds parsed expressions
 * or their text with positions; evaluation happens in run/. Source: actions/languageservices
 * expressions/, actions/runner Sdk/DTExpressions2. */
#include "core/err.h"
#include "expr/value.h"

struct expr; /* a parsed expression, in an arena */
enum expr_err { EXPR_OK, EXPR_LEXING, EXPR_PARSING, EXPR_EVALUATION };

/* What may be named. NULL lists mean: anything. Function entries may be "hashFiles(1,255)". */
struct expr_names {
    const char *const *contexts;
    const char *const *functions; /* beyond the built-in ones: "always", "hashFiles", … */
};
/* The message of an error is GitHub's text; `pos` counts from 1 within the expression, in UTF-16
 * units as GitHub counts; offset and length are bytes (length 0: the whole expression). The first
 * `brief` bytes of the message are what GitHub's implementations have in common. */
struct expr_error {
    enum expr_err kind;
    size_t pos, offset, length, brief;
    char msg[1000];
};
/* The expression's text must outlive *ret. */
int expr_parse(struct arena *a, struct sv text, const struct expr_names *names, struct expr **ret,
               struct expr_error *xe);

/* Evaluation. Contexts by name (case-insensitive); functions beyond the built-in ones by call-back
 * (success, failure, always, cancelled, hashFiles). */
typedef int (*expr_fn)(void *arg, struct arena *a, const struct value **args, size_t n,
                       const struct value **ret, struct expr_error *xe);
struct expr_env {
    const struct value *contexts; /* an object: name -> value */
    struct expr_func {
        const char *name;
        expr_fn fn;
        void *arg;
    } funcs[8];
    size_t n_funcs;
    size_t max_memory; /* bytes; 0 = 10 MiB */
    void (*trace)(void *arg, unsigned depth, struct sv text, const struct value *v); /* or NULL */
    void *trace_arg;
};
int expr_eval(struct arena *a, const struct expr *x, const struct expr_env *env,
              const struct value **ret, struct expr_error *xe);
/* Parse and evaluate. */
int expr_run(struct arena *a, struct sv text, const struct expr_env *env, const struct value **ret,
             struct expr_error *xe);

/* Walks the names an expression uses: fn(context, first property or "", arg) for each context
 * access ("secrets","TOKEN"), and for each function call (name, NULL). */
void expr_uses(const struct expr *x, void (*fn)(void *arg, struct sv name, struct sv property),
               void *arg);
bool expr_calls_status(const struct expr *x); /* success/failure/always/cancelled */

/* Templates: "a ${{ x }} b". A text that is one expression only gives that value, unconverted;
 * else a string. An unclosed "${{" is an error. */
bool template_has_expr(struct sv text);
int template_eval(struct arena *a, struct sv text, const struct expr_env *env,
                  const struct value **ret, struct expr_error *xe);
int template_each(struct sv text, int (*fn)(void *arg, struct sv expr, size_t offset), void *arg,
                  struct expr_error *xe);
