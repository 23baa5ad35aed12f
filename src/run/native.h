#pragma once
/* What native actions share. Inside run/ only. */
#include "core/fs.h"
#include "run/action.h"
#include "run/files.h"

/* A line that an action prints through core.warning, core.error. */
void native_annotate(struct jobx *x, enum event_level level, const char *fmt, ...) _printf_(3, 4);
/* As core.setFailed: told as an error, and the step has failed. Returns 0. */
int native_fail(struct jobx *x, struct step *s, const char *fmt, ...) _printf_(3, 4);
/* A required input; an empty one fails the step (NULL). */
const char *native_required(struct jobx *x, struct step *s, const struct value *with, const char *key);
void native_output(struct jobx *x, struct step *s, const char *key, const char *value);
const char *native_state(const struct step *s, const char *key); /* "" when absent */
/* A folder of this process for the job's own files, on the store's disk; an empty file in it. */
int native_scratch(struct jobx *x, struct err *e);
int native_tmp(struct jobx *x, int scratch, char name[40], struct err *e);
/* Non-empty trimmed lines of an input, as core.getMultilineInput. */
void native_lines(const struct value *with, const char *key, struct strv *out);
bool native_true(const struct value *with, const char *key, bool dflt);
/* The environment of the step's processes, with what the step itself sets. */
void native_env(struct jobx *x, struct step *s, struct strv *ret);
/* Runs a program as the step's user in the workspace; its output is the step's. The exit code, or negative;
 * a cancelled or late one concludes the step and gives -ECANCELED with no error set. */
int native_exec(struct jobx *x, struct step *s, const char *const *argv, struct strv *env, struct err *e);
void native_group(struct jobx *x, const char *title); /* NULL ends it */
/* Items of a list input: lines, and unless they stay whole, what commas separate ("…" around a field). */
int native_list(const struct value *with, const char *key, bool whole_lines, struct strv *out, struct err *e);
