#pragma once
/* Which pipelines of a repository an event starts: finds the files, reads them, asks their triggers. */
#include "pipeline/plan.h"
#include "run/payload.h"

struct selection {
    struct plan **plans;      /* started, in file order */
    size_t n, cap;
    struct plan **others;     /* read, but not started */
    size_t n_others, cap_others;
    struct buf why;           /* for each of the others: which filter refused, and what would run it */
    enum dialect dialect;
};
struct select_options {
    const char *dir;          /* the work tree */
    const char *path;         /* -W: a file or folder, or NULL */
    const char *dialect;      /* "github", "bitbucket", or NULL */
    const char *event;        /* as given */
    const char *custom;       /* Bitbucket: a custom pipeline */
    bool force;               /* filters do not count */
};
/* All errors of all files go to d: -EBADMSG. -ENOENT with e: no pipeline file at all. */
int select_plans(struct selection *ret, const struct select_options *o, struct payload *p, struct diags *d, struct err *e);
void select_done(struct selection *s);
