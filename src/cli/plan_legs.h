#pragma once
#include "core/json.h"
#include "pipeline/plan.h"

/* The legs of each job whose matrix says all of it without expressions: an array of
 * {"file", "job", "legs": [{…}]}, or "error" in place of legs. Into an open array. */
void plan_legs_put(const struct plan *p, struct json_w *w);
/* How many; 0: not known, or no matrix. */
size_t plan_legs_count(const struct plan_job *j);
