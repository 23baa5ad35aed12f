#pragma once
/* What this host can do for slipway, and the one command that mends each thing it cannot. The
 * checks do what a run does: they make a user namespace, a network and a box. */
#include "core/err.h"
#include "store/store.h"

enum doctor_status { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };
struct doctor_check {
    const char *name;
    enum doctor_status status;
    char detail[400];
    char fix[300]; /* "" = nothing to do */
};
#define DOCTOR_MAX 16
/* Fills `ret`; returns how many. s may be NULL when the store could not be opened (`why`). */
size_t doctor_run(struct store *s, const struct err *why, struct doctor_check ret[DOCTOR_MAX]);
