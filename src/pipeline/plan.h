#pragma once
/* The plan: what a pipeline file says, for both dialects, immutable once read, every node with its
 * source position. Expressions stay unevaluated. Matrix legs, results, outputs and statuses live in
 * run/, never here, so that legs cannot leak into each other.
 *
 * A GitHub workflow is a plan. A Bitbucket pipeline selected for a ref is a plan too: each step is
 * a job with a container that needs the one before it (or the group before it), its script one
 * step, its after-script another with `if: always()`. All strings live in the plan's arena. */
#include "base/yaml.h"
#include "core/arena.h"
#include "core/err.h"

enum dialect { DIALECT_GITHUB, DIALECT_BITBUCKET };

/* A scalar of the file. expr = holds ${{ }} (always false for Bitbucket, whose scripts are the
 * shell's business). s is NULL when the key is absent. For `if`, bare text is an expression. */
enum text_type { TEXT_STRING, TEXT_BOOL, TEXT_NUMBER, TEXT_NULL }; /* what the file had; s is its string form */
struct text {
    const char *s;
    size_t n;
    bool expr;
    struct span at;
    enum text_type type;
};
struct text_pair { struct text key, value; };
/* An ordered mapping, or (when whole.s) one expression that gives the mapping. */
struct text_map {
    struct text_pair *items;
    size_t n;
    struct text whole;
};
struct text_list {
    struct text *items;
    size_t n;
    struct text whole;
};
/* Free-form part of a file (matrix, inputs of a call), still as YAML. NULL when absent. */
typedef const struct yaml_node *plan_tree;

enum plan_step_kind { STEP_RUN, STEP_USES, STEP_WAIT, STEP_WAIT_ALL, STEP_CANCEL, STEP_PARALLEL };
struct plan_step {
    enum plan_step_kind kind;
    struct span at;
    const char *id;         /* generated when the file has none ("__run_2") */
    bool id_generated;
    struct text name, if_, run, uses, shell, working_directory;
    struct text_map with, env;
    struct text continue_on_error, timeout_minutes;
    bool background;
    struct text_list targets;      /* wait, cancel */
    struct text wait_all, cancel;  /* as the file has them */
    struct plan_step *children;    /* parallel */
    size_t n_children;
    bool after_script;             /* Bitbucket: runs always, sees BITBUCKET_EXIT_CODE */
};
struct plan_container {
    struct span at;
    const char *id;                /* service name; NULL for the job's */
    struct text image;             /* s NULL: none */
    struct text_map env;
    struct text_list ports, volumes;
    struct text options, username, password, entrypoint, command;
    uint64_t memory;               /* Bitbucket: bytes; 0 = default */
    bool docker_service;           /* Bitbucket: type docker */
    struct text whole;             /* container: ${{ … }} */
};
struct plan_concurrency { struct text group, cancel_in_progress, queue; struct span at; };
struct plan_environment { struct text name, url, deployment; struct span at; };
struct plan_permissions {
    struct span at;
    bool given;
    const char *all;       /* read-all, write-all or NULL */
    struct text all_text;
    struct text_pair *items; size_t n;
};
struct plan_call {                 /* a job that calls a workflow */
    struct text uses;
    struct text_map with, secrets;
    bool inherit_secrets;
};
struct plan_artifact {
    const char *name; /* NULL: the plain list */
    const char **paths; size_t n_paths;
    const char **ignore; size_t n_ignore;
    const char *capture_on; /* "success", "failed", "always" */
    const char *type;       /* "shared", "scoped", "test-reports" */
    int depth;              /* of the search; 0 = any */
};
struct plan_cache {
    const char *name, *path;           /* path NULL: docker's layers */
    const char **key_files; size_t n_key_files; /* globs; none: kept for a week */
};
/* What only a Bitbucket step has. Values of images, credentials and variables of services may hold
 * $NAME and ${NAME} of the repository's variables: expanded in run/. */
struct plan_bitbucket {
    struct plan_cache *caches; size_t n_caches;
    struct plan_artifact *artifacts; size_t n_artifacts;
    bool artifacts_download_none;
    const char **artifacts_download; size_t n_artifacts_download; /* names; none and !_none: all */
    bool manual;                   /* trigger: manual */
    bool clone_disabled; int clone_depth; /* 0 = default 50, -1 = full */
    bool clone_lfs;
    unsigned size;                 /* 1 = 4 GB */
    const char *concurrency_group;
    bool oidc;
    const char *deployment;
    const char **include_paths; size_t n_include; const char **exclude_paths; size_t n_exclude;
    int on_fail; /* 0 fail, 1 ignore, 2 retry */ unsigned retry_count;
    bool fail_fast;
    int parallel_index, parallel_count; /* -1 when not in a group */
    const char **output_variables; size_t n_output_variables;
    uint32_t run_as_user; /* UINT32_MAX = image default */
};
struct plan_job {
    const char *id;
    struct span at;
    struct text name, if_;
    struct text_list needs;
    struct text_list runs_on;      /* labels; runs_on_group when the long form was used */
    struct text runs_on_group;
    struct plan_container container;
    struct plan_container *services; size_t n_services;
    struct text services_whole;
    struct text_map env, outputs;
    struct text default_shell, default_working_directory;
    plan_tree matrix;              /* strategy.matrix, or NULL */
    plan_tree snapshot;
    struct text strategy_whole, fail_fast, max_parallel;
    struct text timeout_minutes, cancel_timeout_minutes, continue_on_error;
    struct plan_environment environment;
    struct plan_concurrency concurrency;
    struct plan_permissions permissions;
    struct plan_step *steps; size_t n_steps;
    struct plan_call calling, *call; /* call points to calling, or is NULL */
    struct plan_bitbucket *bb;     /* or NULL */
};

enum plan_input_type { INPUT_STRING, INPUT_BOOLEAN, INPUT_NUMBER, INPUT_CHOICE, INPUT_ENVIRONMENT };
struct plan_input {
    const char *name; struct span at;
    const char *description;
    enum plan_input_type type;
    struct text type_text;
    bool required;
    struct text dflt;
    const char **options; size_t n_options;
};
struct plan_filter {               /* of one event: patterns in order; n == 0 and !given = absent */
    const char **items; size_t n; bool given; struct span at;
};
struct plan_trigger {
    const char *event; struct span at;
    struct plan_filter types, branches, branches_ignore, tags, tags_ignore, paths, paths_ignore, workflows;
    struct plan_filter names, versions; /* image_version */
    struct plan_cron { struct text cron, timezone; } *cron; size_t n_cron;
    struct plan_input *inputs; size_t n_inputs;        /* workflow_dispatch, workflow_call */
    struct plan_input *secrets; size_t n_secrets;      /* workflow_call */
    struct text_map outputs;                           /* workflow_call: key -> value expression */
};
/* An expression of the file, parsed, with its surroundings. */
struct plan_expr {
    const struct yaml_node *node;  /* the scalar that it is in (or is, for a bare condition) */
    size_t offset;                 /* bytes into the node's text */
    const struct expr *x;          /* expr/ast.h */
    const struct plan_job *job;    /* NULL outside of jobs */
    const struct plan_step *step;
    const char *key;               /* the schema's key that it stands at or below: "run", "with", … */
    const char *name;              /* the free key below that: an input's or variable's name; or NULL */
};
struct plan {
    struct arena arena;
    enum dialect dialect;
    const char *file;              /* as shown to the user, relative to the repository */
    struct sv source;              /* the file's text, for carets */
    struct text name, description, run_name;
    struct plan_trigger *triggers; size_t n_triggers;
    struct text_map env;
    struct text default_shell, default_working_directory;
    struct plan_permissions permissions;
    struct plan_concurrency concurrency;
    struct plan_job *jobs; size_t n_jobs; /* in file order */
    const struct yaml_node *root;
    struct plan_expr *exprs; size_t n_exprs, exprs_cap; /* in file order */
};
void plan_free(struct plan *p);
#define _cleanup_plan_ _cleanup_(plan_freep)
void plan_freep(struct plan **p);
const struct plan_job *plan_job_find(const struct plan *p, const char *id);
const struct plan_trigger *plan_trigger_find(const struct plan *p, const char *event);
/* The plan as JSON (docs/plan-json.md). */
void plan_to_json(const struct plan *p, struct buf *b, unsigned indent);
/* The same into an open writer; source: with the file's tree as it was read (`source`). */
struct json_w;
void plan_put(const struct plan *p, struct json_w *w, bool source);
/* Every secret and variable that the plan names: fn("secrets"|"vars", name, first place). */
void plan_names(const struct plan *p, void (*fn)(void *arg, const char *context, const char *name, struct span at), void *arg);

/* --- github/ -------------------------------------------------------------------------------- */
struct github_limits {
    /* 0 = GitHub's: 50 levels, 1 MiB, 10 MiB, no limit of jobs, 3 levels of called workflows */
    size_t max_depth, max_file_size, max_result_size, max_job_limit, max_nested_depth;
    /* What the token may do where a workflow does not say. */
    enum github_policy { POLICY_UNKNOWN, POLICY_LIMITED_READ, POLICY_WRITE } policy;
};
/* Reads a workflow. All errors and warnings go to d; *ret is set even with errors when a partial
 * plan makes sense (NULL else). Returns 0, or -EBADMSG when d has errors. */
int github_read(const char *file, struct sv text, const struct github_limits *lim, struct plan **ret, struct diags *d);
/* Glob of GitHub's filters: * not '/', ** any, ? + of the preceding character, [], leading !. */
bool github_glob(const char *pattern, const char *text);
/* Patterns in order, later ones override, '!' excludes. */
bool github_patterns(const struct plan_filter *f, const char *text);
/* --- bitbucket/ ----------------------------------------------------------------------------- */
enum bb_trigger { BB_PUSH_BRANCH, BB_PUSH_TAG, BB_PULL_REQUEST, BB_CUSTOM };
struct bitbucket_select { enum bb_trigger trigger; const char *ref; /* branch, tag, source branch, or custom name */ };
/* Reads the pipeline for a ref. -ENOENT when the file is right and has none for it (see
 * bitbucket_list), -EBADMSG when d has errors. A step's script is one step of the plan; a pipe in it
 * cuts it: `uses` is "docker://IMAGE" (or "pipe://owner/name:tag" when the image is only known to
 * that repository), its variables are `env`. */
int bitbucket_read(const char *file, struct sv text, const struct bitbucket_select *sel, struct plan **ret, struct diags *d);
/* Every error of the file, in all its pipelines. 0 or -EBADMSG. */
int bitbucket_check(const char *file, struct sv text, struct diags *d);
/* `*` and `?` stay within a folder, `**` does not, {a,b} are alternatives. Also of artifacts, caches
 * and conditions. */
bool bitbucket_glob(const char *pattern, const char *text);
/* Why nothing was selected, and what there is ("branches: main, feature slash star; custom: x"). */
int bitbucket_list(const char *file, struct sv text, struct strv *ret_names, struct diags *d);
