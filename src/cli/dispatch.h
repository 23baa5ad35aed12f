#pragma once
/* Inputs of workflow_dispatch before a run: asked for on a terminal, else the required ones must be
 * there; each must be of its type, and be known to one of the workflows. */
#include "pipeline/plan.h"

/* `given` ("K=V") gets what was asked for; `payload` (github.event) may hold inputs too. */
struct value;
int dispatch_inputs(const struct plan *const *plans, size_t n, struct strv *given, const struct value *payload, bool ask, struct err *e);
