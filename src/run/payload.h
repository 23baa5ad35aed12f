#pragma once
/* The event as GitHub would tell it: github.event, ref, sha, base and head refs, made from git and
 * what the user gave. Shapes: GitHub's documentation "Webhook events and payloads"; only fields that
 * can be known without the forge are filled in. */
#include "expr/value.h"
#include "run/run.h"
#include "source/git.h"

struct payload_input {
    const char *event;        /* "push" */
    const char *action;       /* activity type, or NULL for the event's usual one */
    const char *ref;          /* --ref: branch, tag or full ref; NULL = what is checked out */
    const char *base;         /* --base: branch of a pull request's base; NULL = the default branch */
    const char *repository;   /* --repository, or NULL = from the remotes */
    const char *actor;        /* -a, or NULL = git's user.name */
    const struct json *given; /* -e: the user's payload, merged over what is made; or NULL */
    const struct strv *inputs; /* workflow_dispatch */
};
struct payload {
    struct arena arena;       /* owns all below */
    struct run_event event;   /* ready for the request */
    const char *action;       /* activity type ("opened"), or NULL */
    const char *branch, *tag; /* of ref: one of them, or neither */
    struct strv changed;      /* changed paths, for path filters: after payload_changed */
    bool changed_known;
    /* for payload_changed: borrowed from payload_make's arguments */
    const char *dir, *base;
    const struct git_info *git;
    bool changed_read;
};
int payload_make(struct payload *ret, const char *dir, const struct git_info *g, const struct payload_input *in, struct err *e);
/* Reads the changed paths, once: only a workflow with path filters needs them, and git looks at the
 * whole work tree for it. */
void payload_changed(struct payload *p);
/* The branch that filters of a pull request or a merge queue look at; NULL: none. */
const char *payload_base_branch(const struct payload *p);
/* workflow_run: the name of the workflow that ran; NULL: none. */
const char *payload_workflow(const struct payload *p);
/* These are the changed paths, one a line. */
void payload_set_changed(struct payload *p, struct sv list);
void payload_done(struct payload *p);
