#pragma once
/* Cron expressions as GitHub has them: five fields, names of months and days, no @aliases, not
 * more often than every five minutes. Source: GitHub's documentation of `schedule`. */
#include "core/macro.h"

bool cron_valid(const char *expr);
