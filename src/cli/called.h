#pragma once
/* Called workflows of files that are only looked at (check, plan): found beside the calling file, in
 * its repository, in a folder that stands for a repository (--local-repository), or as `remote`
 * has it. */
#include "pipeline/github/call.h"
#include "source/remote.h"

struct called {
    struct github_limits lim;
    const struct remote_conf *remote; /* how else repositories are found, or NULL: not */
    struct strv repositories; /* "OWNER/REPO@REF=DIR" or "OWNER/REPO=DIR" */
    struct called_file {
        char *name;           /* as `uses` has it, or the path */
        char *dir;            /* of the repository that it lies in */
        struct plan *plan;    /* NULL: not to be had */
    } **files;
    size_t n, cap;
};
void called_done(struct called *c);
int called_option(struct called *c, const char *arg, struct err *e); /* checks and adds one */
const struct plan *called_load(void *arg, const struct plan *from, const struct text *uses, struct diags *d);
/* The repository that a file lies in, going by its path. malloc. */
char *called_repository(const struct called *c, const char *file);
