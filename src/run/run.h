#pragma once
/* Running plans: the scheduler, jobs, steps, native actions. Everything that happens is told as
 * events on the given bus; results never go back into the plan.
 *
 *   run_new       reads called workflows, gives the run its id; every error of one pass in `d`
 *   run_missing   secrets and variables that are named and were not given
 *   run_execute   blocks until all is over and everything of it is gone
 *   run_cancel    from any thread or a signal handler: first graceful, second at once
 *
 * Everything in the request is borrowed and must outlive the run. One request may hold several
 * plans (all workflows that a push starts): they share the scheduler and its limit. */
#include "core/event.h"
#include "core/mask.h"
#include "expr/value.h"
#include "image/image.h"
#include "pipeline/plan.h"
#include "source/git.h"
#include "store/store.h"

/* What happened, as the `github` context and the default variables tell it. NULL strings are
 * filled in from git where it can be told, else "". */
struct run_event {
    const char *name;            /* "push", "pull_request", "workflow_dispatch", … */
    const struct value *payload; /* github.event: an object, or NULL for {} */
    const char *ref;             /* "refs/heads/main", "refs/tags/v1", "refs/pull/7/merge" */
    const char *sha;             /* 40 hex */
    const char *base_ref, *head_ref; /* of a pull request: branch names */
    const char *actor;
    const char *repository;      /* "owner/name" */
    const char *server_url;      /* "https://github.com" */
    /* Bitbucket: */
    const char *pr_id, *bookmark;
    const struct strv *changed;  /* changed paths, for conditions of steps; NULL = not known */
};

struct run_stop;
enum run_go { RUN_GO_ON, RUN_REPEAT, RUN_STOP };
struct run_request {
    const struct plan *const *plans;
    size_t n_plans;
    struct run_event event;
    const char *dir;             /* absolute path of the work tree */
    const struct git_info *git;  /* of dir; bare_repo_missing when it is not a repository */
    /* "K=V" each. Inputs are workflow_dispatch's (Bitbucket: the custom pipeline's variables). For
     * Bitbucket, vars and secrets are repository variables, plain and secured. */
    struct strv secrets, vars, inputs, env;
    /* Of environments: "ENV/K=V"; those that ask before a job goes on, and how they ask (1 yes, 0 the
     * job is held; on the job's thread; NULL = held). */
    struct strv env_secrets, env_vars, protected;
    int (*approve)(void *arg, const char *job, const char *environment);
    void *approve_arg;
    const char *again;           /* the run whose failed jobs run again, or NULL */
    const char *select;          /* kept in the record of the run, for whoever asks for it again */
    struct strv jobs;            /* -j: these job ids and what they need; empty = all */
    struct strv matrix;          /* --matrix "key:value": only legs with it (same key: any of them) */
    struct strv platforms;       /* -P "LABEL=IMAGE", "LABEL=host" */
    struct strv runner_images;   /* .slipway.yml: "LABEL=IMAGE" or "LABEL=./Dockerfile" */
    struct strv allow_push;      /* registries that pushes may really go to; "*" = all */
    /* Nothing leaves by accident (held.h): everything may, or what these globs name; more actions
     * ("owner/repo") and commands ("NAME word|word") that are held back. */
    bool allow_deploy;
    struct strv deploy_allow, deploy_actions, deploy_commands;
    const char *github_token;    /* a real one, in place of the run's own; or NULL */
    bool bind;                   /* the job writes to the user's work tree */
    bool clean;                  /* a clean checkout of the commit; no download caches */
    bool with_ignored;
    bool keep;                   /* leave boxes of failed jobs up until run_free: shell.h */
    /* --break: steps (id, number or name), "on-failure"; asked on the job's thread (shell.h). */
    struct strv breaks;
    enum run_go (*on_stop)(void *arg, const struct run_stop *at);
    void *on_stop_arg;
    bool offline;
    bool skip_unavailable;       /* legs whose label cannot be had do not fail the run */
    bool no_host_env;            /* neither the host's CA bundle nor its proxy variables */
    bool debug;                  /* ACTIONS_STEP_DEBUG */
    unsigned parallel;           /* jobs at once; 0 = cores */
    struct box_limits_plain { uint64_t memory, nano_cpus; uint32_t pids; } limits; /* of a job; 0 = default */
    const struct pull_options *pulls; /* registries, policy, stand-ins; captured images are added here */
    const char *python_source;   /* base URL of python-build-standalone releases; NULL = GitHub's; "" = none */
    const char *actions_mirror;  /* folder of OWNER/REPO.git or URL template, or NULL: source/remote.h */
    struct strv local_repositories; /* "OWNER/REPO[@REF]=DIR" */
    bool no_native;              /* every action as published */
    const char *node_source;     /* of the node that runs actions: run/node.c; NULL = its default; "" = none */
    struct store *store;
    struct events *events;
    struct masker *masker;       /* secrets are added to it; must be the bus's */
};

struct run;
struct run_result {
    enum outcome outcome;
    int exit_code;               /* of the command: 0, 1, 3 host cannot, 4 held back, 130 cancelled */
    unsigned jobs, failed, skipped, unavailable, captured;
};
/* -EBADMSG: see d. Else the error is in e. */
int run_new(struct run **ret, const struct run_request *rq, struct diags *d, struct err *e);
/* The record of the last run of a folder: {"id", "event", "select", "bad": N, "jobs": …}. 1, 0 none. */
int run_last(struct store *s, const char *dir, struct buf *json);
/* Decimal, unique over the store: github.run_id and the name of the run's record. */
const char *run_id(const struct run *r);
/* fn("secrets"|"vars", name, first place), each name once; GITHUB_TOKEN is never missing. */
void run_missing(const struct run *r, void (*fn)(void *arg, const char *context, const char *name, struct span at), void *arg);
/* The jobs as they will be started, in order, needs resolved and matrix legs named where that can
 * be told before anything ran: one JSON array (`slipway plan --json`). */
void run_describe(struct run *r, struct buf *json);
int run_execute(struct run *r, struct run_result *ret, struct err *e);
void run_cancel(struct run *r); /* async-signal-safe */
void run_free(struct run *r);
