#pragma once
/* This process's terminal joined to another one, given by its master: raw until it is over. */
#include "core/macro.h"

/* Until `end_fd` is readable or the other terminal is closed; the size is kept equal. */
void relay_terminal(int master, int end_fd);
void relay_size(uint16_t *rows, uint16_t *cols);
