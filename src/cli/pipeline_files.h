#pragma once
/* Which pipeline files a command means, and reading them. */
#include "core/err.h"
#include "pipeline/plan.h"

/* Files and folders as named, in order (a folder: the *.yml and *.yaml in it). Without names: those
 * of .github/workflows and bitbucket-pipelines.yml of the nearest folder upwards that has any;
 * ERR_NOTFOUND when there is none. */
int pipeline_files(int n, char *const *names, struct strv *ret, struct err *e);
/* By the name, else by the keys of the root. */
enum dialect pipeline_dialect(const char *file, struct sv text);
/* The file's text; at most 4 MiB. */
int pipeline_text(const char *file, struct buf *ret, struct err *e);
