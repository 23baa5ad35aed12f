#pragma once
/* The terminal: colours (NO_COLOR, CLICOLOR_FORCE, TERM=dumb), width, and how a command ends. */
#include "core/err.h"

bool term_colour(int fd);   /* may we use ANSI colours on it? */
bool term_is_tty(int fd);
unsigned term_width(int fd); /* columns; 80 when not known */
/* Prints the error on stderr and gives the exit code of its kind. */
int cli_fail(const struct err *e);
/* Prints all diagnostics (with carets) on stderr and one line that counts them. */
void cli_diags(struct diags *d, const char *source, size_t source_len);
