#pragma once
/* Whether a filter's pattern can mean anything. ref: of branches and tags, which have rules of
 * their own (git-check-ref-format). Returns what is wrong, with its place in the pattern, or NULL. */
#include "core/macro.h"

const char *glob_problem(const char *pattern, bool ref, size_t *ret_at);
