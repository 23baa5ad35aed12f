#pragma once
/* Between dockerfile.c (lines) and instruction.c (what a line means). */
#include "build/dockerfile.h"

/* A logical line: text without continuations, and where each piece of it stood. */
struct df_seg {
    size_t off; /* in the logical line */
    uint32_t line, col;
};
struct df_line {
    struct sv text; /* in the arena */
    struct df_seg *segs;
    size_t n_segs, cap_segs;
    const char *file;
    uint32_t end_line;
};
struct df_parser {
    struct dockerfile *f;
    struct diags *d;
    const struct df_line *line;
    size_t n_instrs;
    struct strv comments; /* since the last instruction */
};
/* Position of a place in the current logical line. */
struct span df_at(const struct df_parser *p, const char *where, size_t n);
void df_error(struct df_parser *p, const char *where, size_t n, const char *hint, const char *fmt,
              ...) _printf_(5, 6);
/* Reads p->line into *ret; NULL after an error that was reported. Heredoc bodies are not read yet:
 * their data is empty. */
struct df_instr *df_instr_read(struct df_parser *p, bool in_onbuild);
/* Heredocs of an instruction that may have them (its own or its ONBUILD's). */
struct df_instr *df_heredoc_owner(struct df_instr *in);
