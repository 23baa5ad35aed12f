#pragma once
/* Shared by eval.c and funcs.c. */
#include "expr/ast.h"

struct eval {
    struct arena *arena;
    const struct expr *expr;
    const struct expr_env *env;
    struct expr_error *xe;
    size_t used, max; /* bytes, as GitHub counts: two per character and some for each object */
    size_t arena_start;
    unsigned depth;
};
enum { MEM_OBJECT = 24, MEM_STRING = 26 };
/* NULL when it failed; *ev->xe says why. */
const struct value *eval_node(struct eval *ev, const struct expr_node *n);
const struct value *eval_call(struct eval *ev, const struct expr_node *n);
const struct value *eval_memory(struct eval *ev); /* sets the error, returns NULL */
/* Where a string may still grow to: a buffer with that maximum. */
static inline struct buf eval_buf(const struct eval *ev) {
    return BUF_MAX((ev->max > ev->used ? ev->max - ev->used : 0) / 2);
}
/* The buffer's text as a value, or the memory error. The buffer is freed. */
const struct value *eval_take(struct eval *ev, struct buf *b);
/* Tells the trace that v was taken as something else. */
void eval_coerced(struct eval *ev, const struct value *v, const struct value *as);
