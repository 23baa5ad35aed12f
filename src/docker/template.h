#pragma once
/* The subset of Go's text/template that people use with docker's --format: fields, index, json,
 * join, split, lower, upper, title, truncate, len, print*, slice, eq/ne/lt/le/gt/ge, and/or/not,
 * if/else/else if/end, range (with else, $i, $v :=), with, variables, pipelines, comments, trim
 * markers. Anything else is an error that says so. Core/ alone. */
#include "core/json.h"

/* Executes text over data, appending to out. Errors as docker words them: "template parsing
 * error: …" (ERR_USER). A missing key is nil; a field of nil is an error. */
int template_run(struct arena *a, const char *text, const struct json *data, struct buf *out, struct err *e);

/* Rows (ending in '\n') of cells (separated by '\t'), aligned as docker's tables are (Go's tabwriter: at least 10 wide, 3 between). */
void table_print(FILE *f, struct sv text);
