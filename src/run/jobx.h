#pragma once
/* A job while it is carried out: inside run/ only. Everything here belongs to the leg's own thread,
 * but what is marked otherwise. */
#include "box/box.h"
#include "box/net.h"
#include "docker/engine.h"
#include "run/contexts.h"
#include "run/output.h"

struct jobx;
struct step;
struct scope;
struct action;
struct background;
struct backgrounds;
/* A native action. `with` holds strings. Returns 0 (outcome decided by the step's code: non-zero
 * failed) or negative with e. */
typedef int (*native_fn)(struct jobx *x, struct step *s, const struct value *with, struct err *e);
/* Its work at the job's end: s has the inputs and the state of the step. */
typedef int (*native_post_fn)(struct jobx *x, struct step *s, struct err *e);
struct step {
    const struct plan_step *ps;
    unsigned no;              /* from 1; inside a composite action: of the step that uses it */
    const char *id;
    char *title;
    enum outcome outcome, conclusion;
    struct value *outputs;    /* in x->a */
    struct strv state;        /* "K=V" */
    int code;
    bool failed_by_command;   /* a file command was malformed */
    bool held;                /* something of it was held back: held.h */
    struct scope *scope;      /* that it stands in */
    /* uses: */
    native_fn native;
    native_post_fn native_post; /* due at the job's end, under post_cond */
    struct text post_cond;
    struct action *action;    /* NULL: native, or not known yet (./path) */
    struct scope *sub;        /* of a composite action */
    const struct value *inputs, *own; /* as they were when it started (x->a): for its post step */
    bool posted;              /* its post step is due */
    struct background *back;  /* running, or waited for: background.c */
    struct step *kids;        /* of a parallel block: the steps that follow in its scope */
    size_t n_kids;
    bool kid;
};

/* Where steps stand: the job, or a composite action below the step that uses it. */
struct scope {
    struct scope *up;
    struct step *owner;         /* NULL: the job */
    const struct action *action;
    struct step *steps;
    size_t n;
    const struct value *inputs, *env; /* of the owner; env: with what is around it */
    enum outcome status;        /* of its steps so far */
    uint64_t deadline_ns;       /* of the owner, monotonic; 0 = none */
    struct scope *next;         /* all of the job, freed with it */
};

/* A post step that is due, last one first. */
struct post {
    struct step *step;
    struct post *next;
};

/* Work that is due when the job's steps are over (last first), such as listing captured pushes. */
struct late {
    void (*fn)(struct jobx *x, void *arg);
    void *arg;
    struct late *next;
};

struct jobx {
    struct leg *leg;
    struct run *run;
    const struct run_request *rq;
    const struct plan_job *pj;
    struct arena *a;            /* the leg's */
    struct lease *lease;        /* of this job; scratch below */
    int scratch;                /* its folder */
    char *scratch_path;
    struct image *image;
    struct copts *copts;        /* options of its container, or NULL: copts.h */
    struct box_net *net;
    struct engine *engine;
    struct box *box;
    const struct place *place;  /* place.h: the box, or the host */
    bool host;                  /* -P LABEL=host: box, net, engine and image are NULL */
    struct host_proc *host_procs;
    struct pull_options pulls;  /* the request's and what this run captured */
    unsigned attempt;           /* from 1; more with on-fail: retry */
    bool container, bitbucket;
    bool mapped;                /* -P: an image that need not have our user */
    bool cache_mounted; /* a download cache of an earlier run */
    bool has_bash, has_apt;

    /* Paths inside the box. */
    const char *temp, *workspace, *home, *tool_cache, *work;
    const char *user;           /* of steps; NULL = root */
    uint32_t uid, gid;          /* of files made for steps, as the host sees them */
    int temp_fd, cmd_fd;        /* host side of temp and of its file commands folder */

    int out_r, out_w;           /* the job's output pipe; the write end goes to steps */
    struct output *out;
    uint64_t deadline_ns;       /* monotonic; 0 = none */
    uint64_t cancel_ns, cancel_end_ns; /* how long a cancelled job may take (5 minutes), and until when */
    int cancel_seen;            /* the cancel that the current step has outlived */

    struct strv image_env;      /* of the image and of the host (CA bundle, proxies) */
    struct strv base_env;       /* CI, GITHUB_*, RUNNER_*: win over everything */
    struct strv env;            /* workflow, job, then what GITHUB_ENV added */
    struct strv path;           /* GITHUB_PATH, last one first */
    struct strv host_env;       /* proxies and CA bundle, for builds and containers too */
    const struct value *github, *job_ctx, *runner, *secrets, *vars_ctx;
    struct scope top, *scope;   /* the job's own, the current step's */
    struct scope *scopes;       /* of composite actions */
    struct step *cur;
    enum outcome status;        /* of the job so far */
    unsigned last_no;           /* of steps */
    struct action *actions;     /* list */
    struct post *posts;
    const char *node[2];        /* node of ours in the place, by kind (node.c) */
    struct backgrounds *backgrounds; /* background.c */
    bool is_background;         /* this is a background step's view of the job */
    atomic_int *abort;          /* …which `cancel` ends */
    const struct value *steps_then; /* …and the steps as they were when it started */
    struct late *late;
    char *services_key;
    struct service { const char *id; char cid[65]; bool started; } *services;
    size_t n_services;
    struct volume *volumes;     /* of the job's container: volumes.c */
    size_t n_volumes;
    bool commands_echo;
    struct results *results;    /* results.h: started by the first action that needs it */
    int held_fd;                /* held.h: the folder of commands, and where the job sees it (NULL: none) */
    const char *held_dir;
    unsigned held;              /* what was held back so far */
    uint64_t held_read;
    bool held_full;
    struct strv kept_env;       /* --keep: of the step that failed */
    const char *kept_cwd, *kept_step;
    struct jobx *next_kept;
    struct matchers *matchers;  /* problem matchers, or NULL */
    char last_code[12];         /* Bitbucket: of the script, for its after-script */
};

/* --- telling ------------------------------------------------------------------------------- */
void jobx_emit(struct jobx *x, const struct event *ev); /* run, job and step filled in */
/* For image_progress: arg is the jobx. */
void jobx_progress(void *arg, const char *id, const char *what, uint64_t done, uint64_t total);
void jobx_note(struct jobx *x, enum event_level level, const char *fmt, ...) _printf_(3, 4);
void jobx_error(struct jobx *x, const struct err *e);   /* as an annotation, with its place */
void jobx_say(struct jobx *x, const char *fmt, ...) _printf_(2, 3); /* a line of the step's output */

/* --- exec.c: processes in the job's box ------------------------------------------------------ */
enum exec_end { EXEC_EXITED, EXEC_TIMEOUT, EXEC_CANCELLED };
struct exec_spec {
    const char *const *argv, *const *envp;
    const char *cwd, *user;
    uint64_t deadline_ns;       /* monotonic; 0 = the job's only */
};
/* Runs to its end, its output through x->out. *ret_code as a shell has it. Negative: it could not
 * be run, or its box died. */
int jobx_exec(struct jobx *x, const struct exec_spec *s, int *ret_code, enum exec_end *ret_end, struct err *e);
/* Runs quietly as root (or `user`) and captures its output (bounded by out->max); for our own
 * needs. The exit code, or negative. */
int jobx_capture(struct jobx *x, const char *const *argv, const char *user, struct buf *out, struct err *e);

/* --- job.c ----------------------------------------------------------------------------------- */
int job_setup(struct jobx *x, struct err *e);
void job_teardown(struct jobx *x);
int job_pipes(struct jobx *x, struct err *e); /* of its output */
void jobx_late(struct jobx *x, void (*fn)(struct jobx *x, void *arg), void *arg);
/* The environment of a step: all levels, PATH, GITHUB_*. `own` may be NULL. */
void jobx_env(struct jobx *x, const struct value *own, struct strv *ret);

/* --- image.c: the root of a job -------------------------------------------------------------- */
/* Finds the image for runs-on or container. 0; 1 = the label cannot be had here (reason set). */
int job_image(struct jobx *x, struct err *e);
struct cspec;
void jobx_expand(struct jobx *x, struct cspec *cs); /* Bitbucket: cspec_expand with the step's variables */
/* Does -P map its label to this host? Before the job's paths are known. */
int job_on_host(struct jobx *x, struct err *e);

/* --- volumes.c: of the job's container ------------------------------------------------------- */
int volumes_read(struct jobx *x, const struct strv *list, struct err *e);
int volumes_mount(struct jobx *x, bool again, struct err *e); /* again: after a checkout */
bool volumes_named(const struct jobx *x, const char *text);   /* a service's "NAME:/path" that is one of them */

/* --- services.c ------------------------------------------------------------------------------ */
int services_start(struct jobx *x, struct err *e);
void services_logs(struct jobx *x); /* printed when the job failed */

/* --- steps.c --------------------------------------------------------------------------------- */
void steps_prepare(struct jobx *x); /* before anything of the job */
void steps_run(struct jobx *x);
void steps_done(struct jobx *x);
void step_ctx(struct jobx *x, struct ctx *c, struct arena *a);
bool step_command(void *arg, const struct wcommand *c, struct sv line);
void step_text(void *arg, struct sv lines);

/* --- bitbucket.c ----------------------------------------------------------------------------- */
void bitbucket_env(struct jobx *x);
int bitbucket_before(struct jobx *x, struct err *e); /* clone, artifacts of earlier steps */
void bitbucket_after(struct jobx *x);                /* artifacts, caches, output variables */
/* bitbucket_cache.c: `caches` of a step, per repository. Never fail the step. */
void bitbucket_caches_restore(struct jobx *x);
void bitbucket_caches_save(struct jobx *x);

/* --- notes.c ---------------------------------------------------------------------------------- */
/* A warning for each thing of the file that this job asks for and does not get yet. */
void notes_not_yet(struct jobx *x);

/* --- native actions -------------------------------------------------------------------------- */
native_fn native_find(const char *uses);
int action_checkout(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_setup_python(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_setup_node(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_cache(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_cache_restore(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_cache_save(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_upload_artifact(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_merge_artifacts(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_download_artifact(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_docker_login(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_setup_buildx(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_setup_qemu(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_docker_metadata(struct jobx *x, struct step *s, const struct value *with, struct err *e);
int action_build_push(struct jobx *x, struct step *s, const struct value *with, struct err *e);
/* hashFiles() in a step (ctx.hash_files); arg is the jobx. */
int step_hash_files(void *arg, const char *const *patterns, size_t n, bool follow, struct buf *out, struct err *e);
/* The repository as a checkout without inputs has it, at a path of the job. */
int checkout_to(struct jobx *x, const char *target, int depth, struct err *e);
/* The plain clone that a Bitbucket step gets. */
int checkout_default(struct jobx *x, int depth, struct err *e); /* 0: whole history */
static inline const char *with_get(const struct value *with, const char *key, const char *dflt) {
    const struct value *v = val_gets(with, key);
    return v && v->kind == VAL_STRING && v->str.n ? v->str.p : dflt;
}
static inline bool with_bool(const struct value *with, const char *key, bool dflt) {
    const char *s = with_get(with, key, NULL);
    return s ? sv_ieqs(sv_trim(sv_from(s)), "true") : dflt;
}
