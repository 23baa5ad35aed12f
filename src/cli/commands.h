#pragma once
/* The table of commands; one file cmd_NAME.c each. argv[0] is the command's name. Returns the exit
 * code: 0 success, 1 the pipeline failed or a check found errors, 2 usage or configuration, 3 this
 * host cannot do it, 4 held back, 5 incomplete, 130 cancelled. */
#include "core/macro.h"

struct command {
    const char *name;
    int (*fn)(int argc, char **argv);
    const char *about; /* NULL = hidden */
    const char *group; /* heading in the help */
};
extern const struct command commands[];
extern const size_t n_commands;
