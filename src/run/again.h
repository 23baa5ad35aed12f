#pragma once
/* The failed jobs of an earlier run, again: what each leg of a run came to is recorded at its end;
 * a run with run_request.again takes the number of that run, keeps the legs that succeeded with
 * their outputs, and runs the others. */
#include "run/state.h"

/* The record of a run, or of the last one of a folder (run_last). */
int again_load(struct run *r, const char *id, struct err *e);
void again_save(struct run *r);
/* Did the leg succeed before? Then it is over, with its outputs. */
bool again_leg(struct leg *leg);
