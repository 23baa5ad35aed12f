#pragma once
/* The state of a run, inside run/ only. The plan stays untouched: what happens to a job, a matrix
 * leg or a called workflow is kept here.
 *
 *   run ── flow (a workflow being run; a called one hangs below the leg that calls it)
 *            └─ job (one per plan job) ── leg (one per matrix combination; does the work)
 *
 * One mutex (run.mu) guards states, results and the lists; a leg's own thread alone uses what is
 * marked so. What a finished job produced is never changed again, so that later legs read it
 * without the lock. */
#include "core/loop.h"
#include "core/map.h"
#include "run/run.h"
#include "source/lock.h"

#include <pthread.h>
#include <stdatomic.h>

struct flow;
struct job;
struct leg;

/* Where a workflow file came from: the work tree, or a commit of a repository on this disk. A
 * "./path" inside it is meant relative to the same place. */
struct origin {
    char *key;        /* "./.github/workflows/a.yml" or "owner/repo/path@ref" */
    char *dir;        /* repository */
    char *sha;        /* NULL = the work tree */
    char *repo, *ref; /* "owner/name", "refs/heads/main" */
    char *path;       /* in the repository */
    struct plan *plan; /* owned; NULL for the run's own plans */
    bool loading;
};

enum leg_state { LEG_QUEUED, LEG_RUNNING, LEG_FINISHED, LEG_DONE };
struct leg {
    struct run *run;
    struct flow *flow;
    struct job *job;
    struct arena arena;          /* the leg's thread only, once it runs */
    const struct value *matrix;  /* object, or &val_null */
    const char *environment;     /* its environment (Bitbucket: deployment), or NULL */
    unsigned index;
    char *name;                  /* unique in the run */
    enum leg_state state;
    enum outcome outcome;        /* what happened */
    enum outcome result;         /* after continue-on-error */
    bool continue_on_error;
    const struct value *outputs; /* object or NULL; in `arena` */
    char *reason;                /* why it did not succeed, or NULL */
    int cancel_fd;               /* eventfd: wakes the leg's polls */
    atomic_int cancel;           /* 0, 1 graceful, 2 at once */
    int born;                    /* run.cancel when it was made: always() jobs outlive that one */
    bool host_failed;            /* this host cannot do it: exit code 3 */
    pthread_t thread;
    bool has_thread;
    struct flow *sub;            /* the called workflow */
    struct conc *conc;           /* its claim on a concurrency group, or NULL */
    bool conc_asked;
    char *cancel_why;            /* of a cancel that is not the run's, or NULL */
    uint64_t started_ns;
};
enum job_state { JOB_WAIT, JOB_LEGS, JOB_DONE };
struct job {
    struct flow *flow;
    const struct plan_job *pj;
    struct job **needs;
    size_t n_needs;
    enum job_state state;
    bool selected;
    bool passed_over;            /* by its condition: what needs it goes on */
    struct leg **legs;
    size_t n_legs, running;
    bool fail_fast;
    unsigned max_parallel;
    enum outcome result;
    const struct value *outputs; /* object; run arena */
};
struct flow {
    struct run *run;
    const struct plan *plan;
    const struct origin *origin; /* NULL: the run's own plan of the work tree */
    struct flow *caller;
    struct leg *leg;             /* that calls it, or NULL */
    unsigned depth;
    char *prefix;                /* of its jobs' names: "", "build / " */
    const char *title;           /* workflow name */
    const char *workflow_ref;
    const struct value *inputs;  /* object */
    const struct value *github;  /* what does not change from job to job */
    struct strv secrets;         /* "K=V" */
    struct job *jobs;
    size_t n_jobs;
    bool done;
    enum outcome result;
    struct conc *conc;           /* its claim on a concurrency group, or NULL */
    bool conc_asked, conc_go;
    bool cancelled;              /* alone, not with the run: its group is wanted by a newer one */
    const char *never;           /* why it never started, or NULL */
};

typedef void (*leg_body_fn)(struct leg *leg);
struct run {
    const struct run_request *rq;
    char id[24];
    struct arena arena;          /* under mu, or before the threads start */
    pthread_mutex_t mu;
    pthread_cond_t cond;
    struct flow **flows;
    size_t n_flows, cap_flows, n_top;
    struct map names;            /* of legs in use */
    unsigned running, limit;
    struct origin **origins;
    size_t n_origins, cap_origins;
    leg_body_fn body;
    /* Cancelling: the handler counts up and writes; the loop's thread wakes everybody. */
    atomic_int cancel;
    int cancel_fd;
    struct loop *loop;
    pthread_t loop_thread;
    struct lease *lease;
    struct jobx *kept;           /* failed jobs whose boxes stay, and how one of them ends */
    void (*end_first_kept)(struct run *r);
    char *token;                 /* GITHUB_TOKEN of this run */
    char *repository, *owner, *repo_name, *ref, *ref_name, *sha, *actor;
    uint64_t number;             /* run_number */
    unsigned attempt;            /* from 1 */
    const struct json *again;    /* legs of the attempt before, or NULL: again.h */
    atomic_uint captured;
    bool host_failed;
    pthread_mutex_t tree_mu;     /* the work tree is frozen once */
    char tree[33];
    pthread_mutex_t image_mu;    /* one runner image is made at a time */
    char *client;                /* the docker client on this disk, once made */
    struct lock lock;            /* .slipway.lock of the repository */
    pthread_mutex_t action_mu;   /* one action is fetched at a time */
    struct fetched *fetched;     /* actions: action_load.c */
    pthread_mutex_t node_mu;     /* node is fetched once */
};

/* calls.c: reads every called workflow; errors to d. */
int calls_load(struct run *r, struct diags *d);
/* The workflow that `uses` names from inside `from` (NULL = work tree). Never NULL after calls_load
 * succeeded. */
const struct origin *calls_find(struct run *r, const struct origin *from, const char *uses);

/* A repository and a reference that `uses` names, of an action or a workflow: this repository by its
 * local git (sha NULL: the work tree), anything else as source/remote.h has it. */
struct remote_at;
int run_place(struct run *r, const char *repo, const char *ref, struct remote_at *ret, struct err *e);

/* sched.c */
int flow_new(struct run *r, const struct plan *plan, const struct origin *origin, struct leg *leg,
             struct flow **ret, struct err *e);
void flow_free(struct flow *f);
/* Runs all flows to their end with r->body for each leg. */
void sched_run(struct run *r);
void sched_cancel(struct run *r);  /* from the loop's thread */
void sched_groups(struct run *r);  /* the same: claims on concurrency groups came or went */
void leg_fail(struct leg *leg, enum outcome o, const char *fmt, ...) _printf_(3, 4);

/* job.c: the body of a leg that has steps. */
void job_body(struct leg *leg);

static inline struct sv env_split(const char *item, struct sv *ret_value) {
    const char *eq = strchr(item, '=');
    *ret_value = eq ? sv_from(eq + 1) : SV("");
    return eq ? sv_n(item, (size_t)(eq - item)) : sv_from(item);
}
