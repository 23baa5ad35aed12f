#pragma once
/* Cron expressions as GitHub has them: five fields, names of months and days, no @aliases, not
 * more often than every five minutes. Source: GitHub's documentation of `schedule`. */
#include "core/macro.h"

bool cron_valid(const char *expr);
/* The shortest time between two runs within an hour, in minutes; 60 when there is one at most.
 * The expression is valid. */
unsigned cron_shortest(const char *expr);
