#pragma once
/* The schema of a GitHub workflow as one table: every key, its type, what its expressions may name,
 * and where in the plan its value goes. read.c walks a file along it. Source:
 * workflow-v1.0.json of actions/languageservices, and GitHub's documentation where it is ahead. */
#include "core/macro.h"

/* What a value may be. */
enum {
    T_NULL = 1,
    T_BOOL = 2,
    T_NUMBER = 4,
    T_STRING = 8,
    T_SEQ = 16,
    T_MAP = 32,
    T_ANY = 63,
    T_SCALAR = T_STRING | T_BOOL | T_NUMBER,
    T_NONEMPTY = 64, /* the string must not be empty */
};

/* What an expression may name. A definition adds to what is allowed around it. */
enum {
    N_GITHUB = 1 << 0,
    N_INPUTS = 1 << 1,
    N_VARS = 1 << 2,
    N_NEEDS = 1 << 3,
    N_STRATEGY = 1 << 4,
    N_MATRIX = 1 << 5,
    N_SECRETS = 1 << 6,
    N_STEPS = 1 << 7,
    N_JOB = 1 << 8,
    N_RUNNER = 1 << 9,
    N_ENV = 1 << 10,
    N_JOBS = 1 << 11,
    N_HASHFILES = 1 << 12,
    N_JOB_STATUS = 1 << 13,  /* success(job, …), failure(job, …), always(), cancelled() */
    N_STEP_STATUS = 1 << 14, /* the same without arguments */
};
enum { N_CONTEXTS = 12 };
extern const char *const schema_contexts[N_CONTEXTS]; /* by bit */

enum def_id {
    D_NONE, /* zero: no such definition */
    D_WORKFLOW,
    D_ON,
    D_EVENT_NAME,
    D_EVENT_PLAIN,
    D_EVENT_BRANCH_PROTECTION_RULE,
    D_EVENT_CHECK_RUN,
    D_EVENT_CHECK_SUITE,
    D_EVENT_DISCUSSION,
    D_EVENT_CREATED_EDITED_DELETED,
    D_EVENT_IMAGE_VERSION,
    D_EVENT_ISSUES,
    D_EVENT_MERGE_GROUP,
    D_EVENT_MILESTONE,
    D_EVENT_PROJECT,
    D_EVENT_PROJECT_CARD,
    D_EVENT_PROJECT_COLUMN,
    D_EVENT_PULL_REQUEST,
    D_EVENT_PULL_REQUEST_REVIEW,
    D_EVENT_PUSH,
    D_EVENT_REGISTRY_PACKAGE,
    D_EVENT_RELEASE,
    D_EVENT_REPOSITORY_DISPATCH,
    D_EVENT_SCHEDULE,
    D_EVENT_WATCH,
    D_EVENT_WORKFLOW_CALL,
    D_EVENT_WORKFLOW_DISPATCH,
    D_EVENT_WORKFLOW_RUN,
    D_TYPES_BRANCH_PROTECTION_RULE,
    D_TYPES_CHECK_RUN,
    D_TYPES_CHECK_SUITE,
    D_TYPES_DISCUSSION,
    D_TYPES_CREATED_EDITED_DELETED,
    D_TYPES_IMAGE_VERSION,
    D_TYPES_ISSUES,
    D_TYPES_MERGE_GROUP,
    D_TYPES_MILESTONE,
    D_TYPES_PROJECT,
    D_TYPES_PROJECT_CARD,
    D_TYPES_PROJECT_COLUMN,
    D_TYPES_PULL_REQUEST,
    D_TYPES_PULL_REQUEST_REVIEW,
    D_TYPES_REGISTRY_PACKAGE,
    D_TYPES_RELEASE,
    D_TYPES_WATCH,
    D_TYPES_WORKFLOW_RUN,
    D_SCHEDULE,
    D_CALL_INPUTS,
    D_CALL_INPUT,
    D_CALL_INPUT_TYPE,
    D_CALL_INPUT_DEFAULT,
    D_CALL_SECRETS,
    D_CALL_SECRET,
    D_CALL_OUTPUTS,
    D_CALL_OUTPUT,
    D_CALL_OUTPUT_VALUE,
    D_DISPATCH_INPUTS,
    D_DISPATCH_INPUT,
    D_DISPATCH_INPUT_TYPE,
    D_RUN_NAME,
    D_PERMISSIONS,
    D_LEVEL,
    D_LEVEL_READ,
    D_LEVEL_WRITE,
    D_WORKFLOW_DEFAULTS,
    D_WORKFLOW_DEFAULTS_RUN,
    D_WORKFLOW_ENV,
    D_WORKFLOW_CONCURRENCY,
    D_JOBS,
    D_JOB_ANY,
    D_JOB,
    D_CALLING_JOB,
    D_NEEDS,
    D_JOB_IF,
    D_JOB_NAME,
    D_JOB_NUMBER,
    D_JOB_BOOLEAN,
    D_STRATEGY,
    D_MATRIX,
    D_MATRIX_FILTER,
    D_MATRIX_FILTER_ITEM,
    D_RUNS_ON,
    D_JOB_ENV,
    D_JOB_CONCURRENCY,
    D_QUEUE,
    D_ENVIRONMENT,
    D_ENVIRONMENT_URL,
    D_OUTPUTS,
    D_JOB_DEFAULTS,
    D_JOB_DEFAULTS_RUN,
    D_CONTAINER,
    D_CONTAINER_ENV,
    D_CREDENTIALS,
    D_SERVICES,
    D_SERVICE,
    D_SNAPSHOT,
    D_SNAPSHOT_IF,
    D_CALL_WITH,
    D_CALL_PASSED_SECRETS,
    D_CALL_PASSED_VALUE,
    D_CALL_PASSED_SECRET,
    D_STEPS,
    D_STEP_ANY,
    D_RUN_STEP,
    D_USES_STEP,
    D_WAIT_STEP,
    D_WAIT_ALL_STEP,
    D_CANCEL_STEP,
    D_PARALLEL_STEP,
    D_STEP_IF,
    D_STEP_TEXT,
    D_STEP_NUMBER,
    D_STEP_BOOLEAN,
    D_STEP_ENV,
    D_STEP_WITH,
    D_ACTION,
    D_ACTION_INPUTS,
    D_ACTION_INPUT,
    D_ACTION_DEFAULT,
    D_ACTION_OUTPUTS,
    D_ACTION_OUTPUT,
    D_ACTION_OUTPUT_VALUE,
    D_ACTION_RUNS,
    D_ACTION_ARGS,
    D_ACTION_ENV,
    D_ACTION_IF,
    D_ACTION_STEPS,
    D_ACTION_STEP,
    D_ACTION_RUN_STEP,
    D_ACTION_USES_STEP,
    D_ACTION_STEP_IF,
    D_ACTION_STEP_TEXT,
    D_ACTION_STEP_BOOLEAN,
    D_ACTION_STEP_MAP,
    D_STRINGS,
    D_STRINGS_OR_EMPTY,
    D_STRING,
    D_NAME, /* a string that is not empty */
    D_RUNNER_STRING,
    D_BOOLEAN,
    D_NUMBER,
    D_NULL_OR_BOOLEAN,
    D_STRING_OR_STRINGS,
    D_SCALAR,
    D_SEQUENCE,
    D_ANYTHING,
    D_COUNT,
};

/* What becomes of a value. Offsets are into the struct that the rows of a mapping fill. */
enum fill {
    FILL_NONE,
    FILL_TEXT,   /* struct text */
    FILL_STR,    /* const char *: literals only */
    FILL_FLAG,   /* bool */
    FILL_MAP,    /* struct text_map */
    FILL_LIST,   /* struct text_list: one string or many */
    FILL_FILTER, /* struct plan_filter */
    FILL_STRS,   /* const char ** and a count */
    FILL_TREE,   /* plan_tree */
    FILL_INSIDE, /* a struct in the struct; offset 0: the same one */
    FILL_ITEMS,  /* a pointer and a count: an array of structs, one for each item */
};

struct prop {
    const char *key; /* NULL ends the list */
    enum def_id def;
    bool required;
    enum fill fill;
    size_t offset;
};

/* How the structs of FILL_ITEMS look. Offsets of SIZE_MAX: there is none. */
struct item_shape {
    size_t size, id /* const char * */, key /* struct text */, at /* struct span */;
};

struct def {
    unsigned types;
    unsigned names;            /* N_*, added to those around */
    const char *const *values; /* the strings that are allowed, NULL = any */
    enum def_id item;          /* of a sequence; D_NONE: as the definition itself, but no sequence */
    const struct prop *props;  /* well-known keys of a mapping */
    enum def_id loose;         /* value of any other key; D_NONE = no other keys */
    enum def_id one_of[8];     /* instead of props: alternatives, told apart by their keys */
    const struct item_shape *shape; /* FILL_ITEMS */
    /* Where a literal and an expression go that stand for a mapping or a list: struct text. */
    size_t literal, whole; /* offset + 1; 0 = nowhere */
    size_t at;             /* struct span, offset + 1: where the value stands */
    bool condition;        /* the text is an expression even without ${{ }} */
};
extern const struct def schema[D_COUNT];

/* The row for a key, or NULL. */
const struct prop *schema_prop(const struct def *d, const char *key, size_t n);
/* Event names of `on`, and their activity types when a workflow names none (NULL = all). */
bool schema_event_known(const char *name);
const char *const *schema_default_types(const char *event);
const char *const *schema_types(const char *event); /* NULL: the event has none */
