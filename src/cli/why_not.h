#pragma once
/* slipway plan --why-not: for an event, which workflows and jobs do not run, and why: the filter that
 * refused with each of its patterns, or the condition with each of its parts. */
#include "core/json.h"
#include "pipeline/plan.h"

struct why_options {
    const char *event;         /* "push", …; NULL: push */
    const char *action;        /* activity type, or NULL */
    const char *ref, *base;    /* as `slipway run` has them */
    const char *payload;       /* a file of JSON, or NULL */
    struct strv inputs, vars;  /* "K=V" */
};
struct why;
/* Makes the event from git and the options. */
int why_new(struct why **ret, const struct why_options *o, struct err *e);
void why_free(struct why *w);
/* Prints what keeps the plan or its jobs from running; nothing where all of it runs but one line. */
void why_print(struct why *w, const struct plan *p);
/* The same as an object: {"file", "event", "runs", "filter", "reason", "line", "col", "patterns", "jobs"}. */
void why_put(struct why *w, const struct plan *p, struct json_w *jw);
