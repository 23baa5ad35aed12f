#pragma once
#include "pipeline/github/action.h"
#include "pipeline/lint.h"

/* What an action says, for checks; copied into the arena. */
const struct action_meta *action_meta_of(struct arena *a, const struct github_action *action);
/* The same of an action.yml's text. Never NULL: a file that is wrong has a `problem`. */
const struct action_meta *action_meta_read(struct arena *a, const char *file, struct sv text);
