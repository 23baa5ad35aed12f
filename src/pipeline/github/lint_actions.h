#pragma once
#include "pipeline/lint.h"

/* What an action.yml says, for checks only. Never NULL: a file that is wrong has a `problem`. */
const struct action_meta *action_meta_read(struct arena *a, const char *file, struct sv text);
