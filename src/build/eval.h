#pragma once
/* Between eval.c (one stage after the other) and instr_eval.c (one instruction). */
#include "build/expand.h"
#include "build/graph.h"
#include "core/fs.h"

/* Value of a name as this stage sees it: ENV first, then ARG; NULL when unset. */
const char *stage_var(struct build *b, struct stage *st, struct sv name);
/* Warns of a name that is not set. */
void stage_var_unset(struct build *b, struct stage *st, struct sv name, struct span at);
/* For expand.h: names as a stage sees them, with warnings. */
struct stage_vars {
    struct build *b;
    struct stage *st;
    struct span at;
};
const char *stage_vars_get(void *arg, struct sv name);
void stage_vars_unset(void *arg, struct sv name);
char **eval_words(struct build *b, struct stage *st, const struct df_instr *in); /* NULL after an error */
const char *eval_flag(struct build *b, struct stage *st, const struct df_instr *in, const char *name);
char *eval_in_workdir(struct stage *st, const char *to); /* malloc */
int eval_copy(struct build *b, struct stage *st, const struct df_instr *in, struct err *e);
/* Expands a word; NULL after an error that was reported. */
char *stage_expand(struct build *b, struct stage *st, struct df_word w);
void eval_error(struct build *b, struct span at, const char *hint, const char *fmt, ...) _printf_(4, 5);
void eval_warn(struct build *b, struct span at, const char *rule, const char *fmt, ...) _printf_(4, 5);
void eval_history(struct build *b, struct stage *st, struct vertex *v, const char *fmt, ...) _printf_(4, 5);
/* One instruction (not FROM, not ONBUILD's trigger). Errors are reported; e only for the host's. */
int eval_instr(struct build *b, struct stage *st, const struct df_instr *in, struct err *e);
/* The vertex behind --from=NAME of a stage (a stage before it, or an image). */
int eval_from(struct build *b, struct stage *st, const char *name, struct span at, struct vertex **ret, struct err *e);
bool arg_is_proxy(const char *name);
/* RUN: argv, environment, mounts. */
int eval_run(struct build *b, struct stage *st, const struct df_instr *in, struct err *e);
