#pragma once
/* The files through which a step talks back: GITHUB_ENV, GITHUB_OUTPUT, GITHUB_STATE ("K=V" or
 * "K<<DELIMITER"), GITHUB_PATH (one folder per line). Source: actions/runner FileCommandManager. */
#include "core/err.h"
#include "core/str.h"

#define FILECMD_MAX (16u << 20)
#define SUMMARY_MAX (1u << 20)
/* fn(arg, key, value) per pair, in order; a negative return stops. Nothing is told of a file that
 * is malformed (ERR_FAILED, with GitHub's wording). */
int filecmd_pairs(struct sv text, int (*fn)(void *arg, struct sv key, struct sv value), void *arg, struct err *e);
/* Appends the folders in the order they were written, without empty lines. */
void filecmd_paths(struct sv text, struct strv *ret);
