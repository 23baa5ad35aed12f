/* The table. Read it from the top: each definition stands before those that it uses. */
#include "pipeline/github/schema.h"

#include "pipeline/github/action.h"

const char *const schema_contexts[N_CONTEXTS] = {"github", "inputs", "vars",  "needs",
                                                 "strategy", "matrix", "secrets", "steps",
                                                 "job",    "runner", "env",   "jobs"};

enum {
    AT_START = N_GITHUB | N_INPUTS | N_VARS, /* before any job */
    AT_JOB = AT_START | N_NEEDS,             /* before the matrix */
    AT_LEG = AT_JOB | N_STRATEGY | N_MATRIX,
    AT_RUNNER_PLAIN = AT_LEG | N_STEPS | N_JOB | N_RUNNER | N_ENV,
    AT_RUNNER = AT_RUNNER_PLAIN | N_SECRETS,
    AT_STEP = AT_RUNNER | N_HASHFILES,
    AT_ACTION = N_GITHUB | N_STRATEGY | N_MATRIX | N_JOB | N_RUNNER, /* an input's default */
    AT_ACTION_OUTPUT = AT_ACTION | N_STEPS | N_INPUTS | N_ENV,
    AT_ACTION_STEP = AT_ACTION_OUTPUT | N_HASHFILES,
};

#define PROPS(...) (const struct prop[]){__VA_ARGS__, {0}}
#define VALUES(...) (const char *const[]){__VA_ARGS__, NULL}
#define TO(kind, type, field) FILL_##kind, offsetof(struct type, field)
#define INTO(type, field) (offsetof(struct type, field) + 1)
#define REQUIRED true
#define OPTIONAL false
#define IGNORED FILL_NONE, 0

static const struct item_shape
    jobs = {sizeof(struct plan_job), offsetof(struct plan_job, id), SIZE_MAX,
            offsetof(struct plan_job, at)},
    steps = {sizeof(struct plan_step), SIZE_MAX, SIZE_MAX, offsetof(struct plan_step, at)},
    services = {sizeof(struct plan_container), offsetof(struct plan_container, id), SIZE_MAX,
                offsetof(struct plan_container, at)},
    events = {sizeof(struct plan_trigger), offsetof(struct plan_trigger, event), SIZE_MAX,
              offsetof(struct plan_trigger, at)},
    inputs = {sizeof(struct plan_input), offsetof(struct plan_input, name), SIZE_MAX,
              offsetof(struct plan_input, at)},
    action_inputs = {sizeof(struct action_input), offsetof(struct action_input, name), SIZE_MAX,
                     offsetof(struct action_input, at)},
    crons = {sizeof(struct plan_cron), SIZE_MAX, SIZE_MAX, SIZE_MAX},
    pairs = {sizeof(struct text_pair), SIZE_MAX, offsetof(struct text_pair, key), SIZE_MAX};

/* An event whose only key is `types`. */
#define TYPED_EVENT(types_def)                                                                     \
    {.types = T_NULL | T_MAP, .props = PROPS({"types", types_def, OPTIONAL, TO(FILTER, plan_trigger, types)})}
#define TYPES(...) {.types = T_STRING | T_SEQ, .values = VALUES(__VA_ARGS__), .item = D_NONE}
#define FILTER(key, field) {key, D_STRING_OR_STRINGS, OPTIONAL, TO(FILTER, plan_trigger, field)}

#define EVENTS(X)                                                                                  \
    X("branch_protection_rule", D_EVENT_BRANCH_PROTECTION_RULE)                                    \
    X("check_run", D_EVENT_CHECK_RUN)                                                              \
    X("check_suite", D_EVENT_CHECK_SUITE)                                                          \
    X("create", D_EVENT_PLAIN)                                                                     \
    X("delete", D_EVENT_PLAIN)                                                                     \
    X("deployment", D_EVENT_PLAIN)                                                                 \
    X("deployment_status", D_EVENT_PLAIN)                                                          \
    X("discussion", D_EVENT_DISCUSSION)                                                            \
    X("discussion_comment", D_EVENT_CREATED_EDITED_DELETED)                                        \
    X("fork", D_EVENT_PLAIN)                                                                       \
    X("gollum", D_EVENT_PLAIN)                                                                     \
    X("image_version", D_EVENT_IMAGE_VERSION)                                                      \
    X("issue_comment", D_EVENT_CREATED_EDITED_DELETED)                                             \
    X("issues", D_EVENT_ISSUES)                                                                    \
    X("label", D_EVENT_CREATED_EDITED_DELETED)                                                     \
    X("merge_group", D_EVENT_MERGE_GROUP)                                                          \
    X("milestone", D_EVENT_MILESTONE)                                                              \
    X("page_build", D_EVENT_PLAIN)                                                                 \
    X("project", D_EVENT_PROJECT)                                                                  \
    X("project_card", D_EVENT_PROJECT_CARD)                                                        \
    X("project_column", D_EVENT_PROJECT_COLUMN)                                                    \
    X("public", D_EVENT_PLAIN)                                                                     \
    X("pull_request", D_EVENT_PULL_REQUEST)                                                        \
    X("pull_request_comment", D_EVENT_CREATED_EDITED_DELETED)                                      \
    X("pull_request_review", D_EVENT_PULL_REQUEST_REVIEW)                                          \
    X("pull_request_review_comment", D_EVENT_CREATED_EDITED_DELETED)                               \
    X("pull_request_target", D_EVENT_PULL_REQUEST)                                                 \
    X("push", D_EVENT_PUSH)                                                                        \
    X("registry_package", D_EVENT_REGISTRY_PACKAGE)                                                \
    X("release", D_EVENT_RELEASE)                                                                  \
    X("repository_dispatch", D_EVENT_REPOSITORY_DISPATCH)                                          \
    X("schedule", D_EVENT_SCHEDULE)                                                                \
    X("status", D_EVENT_PLAIN)                                                                     \
    X("watch", D_EVENT_WATCH)                                                                      \
    X("workflow_call", D_EVENT_WORKFLOW_CALL)                                                      \
    X("workflow_dispatch", D_EVENT_WORKFLOW_DISPATCH)                                              \
    X("workflow_run", D_EVENT_WORKFLOW_RUN)
#define EVENT_NAME(name, def) name,
#define EVENT_ROW(name, def) {name, def, OPTIONAL, FILL_INSIDE, 0},
static const char *const event_names[] = {EVENTS(EVENT_NAME) NULL};
static const struct prop event_rows[] = {
    {"schedule", D_EVENT_SCHEDULE, OPTIONAL, TO(ITEMS, plan_trigger, cron)}, EVENTS(EVENT_ROW){0}};

/* Rows that several kinds of step have. */
#define STEP_NAME {"name", D_STEP_TEXT, OPTIONAL, TO(TEXT, plan_step, name)}
#define STEP_ID {"id", D_NAME, OPTIONAL, TO(STR, plan_step, id)}
#define STEP_IF {"if", D_STEP_IF, OPTIONAL, TO(TEXT, plan_step, if_)}
#define STEP_CONTINUE                                                                              \
    {"continue-on-error", D_STEP_BOOLEAN, OPTIONAL, TO(TEXT, plan_step, continue_on_error)}
#define STEP_TIMEOUT                                                                               \
    {"timeout-minutes", D_STEP_NUMBER, OPTIONAL, TO(TEXT, plan_step, timeout_minutes)}
#define STEP_ENV {"env", D_STEP_ENV, OPTIONAL, TO(MAP, plan_step, env)}
#define STEP_BACKGROUND {"background", D_BOOLEAN, OPTIONAL, TO(FLAG, plan_step, background)}

#define ACTION_STEP_ROWS                                                                           \
    {"name", D_ACTION_STEP_TEXT, OPTIONAL, TO(TEXT, plan_step, name)}, STEP_ID,                    \
        {"if", D_ACTION_STEP_IF, OPTIONAL, TO(TEXT, plan_step, if_)},                              \
        {"continue-on-error", D_ACTION_STEP_BOOLEAN, OPTIONAL,                                     \
         TO(TEXT, plan_step, continue_on_error)},                                                  \
        {"env", D_ACTION_STEP_MAP, OPTIONAL, TO(MAP, plan_step, env)}

#define SHELL_ROWS(type)                                                                           \
    {"shell", D_NAME, OPTIONAL, TO(TEXT, type, default_shell)},                                    \
        {"working-directory", D_NAME, OPTIONAL, TO(TEXT, type, default_working_directory)}

#define CONCURRENCY_ROWS                                                                           \
    {"group", D_NAME, REQUIRED, TO(TEXT, plan_concurrency, group)},                                \
        {"cancel-in-progress", D_BOOLEAN, OPTIONAL, TO(TEXT, plan_concurrency, cancel_in_progress)}, \
        {"queue", D_QUEUE, OPTIONAL, TO(TEXT, plan_concurrency, queue)}

#define CONTAINER_ROWS                                                                             \
    {"image", D_NAME, OPTIONAL, TO(TEXT, plan_container, image)},                                  \
        {"options", D_STRING, OPTIONAL, TO(TEXT, plan_container, options)},                        \
        {"env", D_CONTAINER_ENV, OPTIONAL, TO(MAP, plan_container, env)},                          \
        {"ports", D_STRINGS, OPTIONAL, TO(LIST, plan_container, ports)},                           \
        {"volumes", D_STRINGS, OPTIONAL, TO(LIST, plan_container, volumes)},                       \
        {"credentials", D_CREDENTIALS, OPTIONAL, FILL_INSIDE, 0}

#define LEVEL(name) {name, D_LEVEL, OPTIONAL, IGNORED}

const struct def schema[D_COUNT] = {
    [D_WORKFLOW] = {
        .types = T_MAP,
        .props = PROPS(
            {"on", D_ON, REQUIRED, TO(ITEMS, plan, triggers)},
            {"name", D_STRING, OPTIONAL, TO(TEXT, plan, name)},
            {"description", D_STRING, OPTIONAL, TO(TEXT, plan, description)},
            {"run-name", D_RUN_NAME, OPTIONAL, TO(TEXT, plan, run_name)},
            {"defaults", D_WORKFLOW_DEFAULTS, OPTIONAL, FILL_INSIDE, 0},
            {"env", D_WORKFLOW_ENV, OPTIONAL, TO(MAP, plan, env)},
            {"permissions", D_PERMISSIONS, OPTIONAL, TO(INSIDE, plan, permissions)},
            {"concurrency", D_WORKFLOW_CONCURRENCY, OPTIONAL, TO(INSIDE, plan, concurrency)},
            {"jobs", D_JOBS, REQUIRED, TO(ITEMS, plan, jobs)})},

    /* --- on -------------------------------------------------------------------------------- */
    [D_ON] = {.types = T_STRING | T_SEQ | T_MAP, .values = event_names,
              .item = D_EVENT_NAME, .shape = &events,
              .props = event_rows},
    [D_EVENT_NAME] = {.types = T_STRING, .values = event_names},
    [D_EVENT_PLAIN] = {.types = T_NULL},
    [D_EVENT_BRANCH_PROTECTION_RULE] = TYPED_EVENT(D_TYPES_BRANCH_PROTECTION_RULE),
    [D_EVENT_CHECK_RUN] = TYPED_EVENT(D_TYPES_CHECK_RUN),
    [D_EVENT_CHECK_SUITE] = TYPED_EVENT(D_TYPES_CHECK_SUITE),
    [D_EVENT_DISCUSSION] = TYPED_EVENT(D_TYPES_DISCUSSION),
    [D_EVENT_CREATED_EDITED_DELETED] = TYPED_EVENT(D_TYPES_CREATED_EDITED_DELETED),
    [D_EVENT_ISSUES] = TYPED_EVENT(D_TYPES_ISSUES),
    [D_EVENT_MILESTONE] = TYPED_EVENT(D_TYPES_MILESTONE),
    [D_EVENT_PROJECT] = TYPED_EVENT(D_TYPES_PROJECT),
    [D_EVENT_PROJECT_CARD] = TYPED_EVENT(D_TYPES_PROJECT_CARD),
    [D_EVENT_PROJECT_COLUMN] = TYPED_EVENT(D_TYPES_PROJECT_COLUMN),
    [D_EVENT_PULL_REQUEST_REVIEW] = TYPED_EVENT(D_TYPES_PULL_REQUEST_REVIEW),
    [D_EVENT_REGISTRY_PACKAGE] = TYPED_EVENT(D_TYPES_REGISTRY_PACKAGE),
    [D_EVENT_RELEASE] = TYPED_EVENT(D_TYPES_RELEASE),
    [D_EVENT_REPOSITORY_DISPATCH] = TYPED_EVENT(D_STRINGS),
    [D_EVENT_WATCH] = TYPED_EVENT(D_TYPES_WATCH),
    [D_EVENT_IMAGE_VERSION] = {
        .types = T_NULL | T_MAP,
        .props = PROPS({"types", D_TYPES_IMAGE_VERSION, OPTIONAL, TO(FILTER, plan_trigger, types)},
                       FILTER("names", names), FILTER("versions", versions))},
    [D_EVENT_MERGE_GROUP] = {
        .types = T_NULL | T_MAP,
        .props = PROPS({"types", D_TYPES_MERGE_GROUP, OPTIONAL, TO(FILTER, plan_trigger, types)},
                       FILTER("branches", branches), FILTER("branches-ignore", branches_ignore))},
    [D_EVENT_PULL_REQUEST] = {
        .types = T_NULL | T_MAP,
        .props = PROPS({"types", D_TYPES_PULL_REQUEST, OPTIONAL, TO(FILTER, plan_trigger, types)},
                       FILTER("branches", branches), FILTER("branches-ignore", branches_ignore),
                       FILTER("paths", paths), FILTER("paths-ignore", paths_ignore))},
    [D_EVENT_PUSH] = {
        .types = T_NULL | T_MAP,
        .props = PROPS(FILTER("branches", branches), FILTER("branches-ignore", branches_ignore),
                       FILTER("tags", tags), FILTER("tags-ignore", tags_ignore),
                       FILTER("paths", paths), FILTER("paths-ignore", paths_ignore))},
    [D_EVENT_WORKFLOW_RUN] = {
        .types = T_NULL | T_MAP,
        .props = PROPS({"types", D_TYPES_WORKFLOW_RUN, OPTIONAL, TO(FILTER, plan_trigger, types)},
                       FILTER("workflows", workflows), FILTER("branches", branches),
                       FILTER("branches-ignore", branches_ignore))},
    [D_EVENT_SCHEDULE] = {.types = T_SEQ, .item = D_SCHEDULE, .shape = &crons},
    [D_SCHEDULE] = {.types = T_MAP,
                    .props = PROPS({"cron", D_NAME, REQUIRED, TO(TEXT, plan_cron, cron)},
                                   {"timezone", D_NAME, OPTIONAL, TO(TEXT, plan_cron, timezone)})},

    [D_TYPES_BRANCH_PROTECTION_RULE] = TYPES("created", "edited", "deleted"),
    [D_TYPES_CHECK_RUN] = TYPES("completed", "created", "rerequested", "requested_action"),
    [D_TYPES_CHECK_SUITE] = TYPES("completed"),
    [D_TYPES_DISCUSSION] = TYPES("created", "edited", "deleted", "transferred", "pinned", "unpinned",
                                 "labeled", "unlabeled", "locked", "unlocked", "category_changed",
                                 "answered", "unanswered"),
    [D_TYPES_CREATED_EDITED_DELETED] = TYPES("created", "edited", "deleted"),
    [D_TYPES_IMAGE_VERSION] = TYPES("created", "ready", "deleted"),
    [D_TYPES_ISSUES] = TYPES("opened", "edited", "deleted", "transferred", "pinned", "unpinned",
                             "closed", "reopened", "assigned", "unassigned", "labeled", "unlabeled",
                             "locked", "unlocked", "milestoned", "demilestoned",
                             "field_added", "field_removed", "typed", "untyped"),
    [D_TYPES_MERGE_GROUP] = TYPES("checks_requested"),
    [D_TYPES_MILESTONE] = TYPES("created", "closed", "opened", "edited", "deleted"),
    [D_TYPES_PROJECT] = TYPES("created", "closed", "reopened", "edited", "deleted"),
    [D_TYPES_PROJECT_CARD] = TYPES("created", "moved", "converted", "edited", "deleted"),
    [D_TYPES_PROJECT_COLUMN] = TYPES("created", "updated", "moved", "deleted"),
    [D_TYPES_PULL_REQUEST] = TYPES("assigned", "unassigned", "labeled", "unlabeled", "opened",
                                   "edited", "closed", "reopened", "synchronize",
                                   "converted_to_draft", "locked", "unlocked", "enqueued",
                                   "dequeued", "milestoned", "demilestoned", "ready_for_review",
                                   "review_requested", "review_request_removed",
                                   "auto_merge_enabled", "auto_merge_disabled", "stacked"),
    [D_TYPES_PULL_REQUEST_REVIEW] = TYPES("submitted", "edited", "dismissed"),
    [D_TYPES_REGISTRY_PACKAGE] = TYPES("published", "updated"),
    [D_TYPES_RELEASE] = TYPES("published", "unpublished", "created", "edited", "deleted",
                              "prereleased", "released"),
    [D_TYPES_WATCH] = TYPES("started"),
    [D_TYPES_WORKFLOW_RUN] = TYPES("requested", "completed", "in_progress"),

    [D_EVENT_WORKFLOW_CALL] = {
        .types = T_NULL | T_MAP,
        .props = PROPS({"inputs", D_CALL_INPUTS, OPTIONAL, TO(ITEMS, plan_trigger, inputs)},
                       {"secrets", D_CALL_SECRETS, OPTIONAL, TO(ITEMS, plan_trigger, secrets)},
                       {"outputs", D_CALL_OUTPUTS, OPTIONAL, TO(ITEMS, plan_trigger, outputs)})},
    [D_CALL_INPUTS] = {.types = T_MAP, .loose = D_CALL_INPUT, .shape = &inputs},
    [D_CALL_INPUT] = {
        .types = T_MAP,
        .props = PROPS({"description", D_STRING, OPTIONAL, TO(STR, plan_input, description)},
                       {"type", D_CALL_INPUT_TYPE, REQUIRED, TO(TEXT, plan_input, type_text)},
                       {"required", D_BOOLEAN, OPTIONAL, TO(FLAG, plan_input, required)},
                       {"default", D_CALL_INPUT_DEFAULT, OPTIONAL, TO(TEXT, plan_input, dflt)})},
    [D_CALL_INPUT_TYPE] = {.types = T_STRING, .values = VALUES("string", "boolean", "number")},
    [D_CALL_INPUT_DEFAULT] = {.types = T_SCALAR, .names = AT_START},
    [D_CALL_SECRETS] = {.types = T_MAP, .loose = D_CALL_SECRET, .shape = &inputs},
    [D_CALL_SECRET] = {
        .types = T_NULL | T_MAP,
        .props = PROPS({"description", D_STRING, OPTIONAL, TO(STR, plan_input, description)},
                       {"required", D_BOOLEAN, OPTIONAL, TO(FLAG, plan_input, required)})},
    [D_CALL_OUTPUTS] = {.types = T_MAP, .loose = D_CALL_OUTPUT, .shape = &pairs},
    [D_CALL_OUTPUT] = {
        .types = T_MAP,
        .props = PROPS({"description", D_STRING, OPTIONAL, IGNORED},
                       {"value", D_CALL_OUTPUT_VALUE, REQUIRED, TO(TEXT, text_pair, value)})},
    [D_CALL_OUTPUT_VALUE] = {.types = T_STRING, .names = AT_START | N_JOBS},

    [D_EVENT_WORKFLOW_DISPATCH] = {
        .types = T_NULL | T_MAP,
        .props = PROPS({"inputs", D_DISPATCH_INPUTS, OPTIONAL, TO(ITEMS, plan_trigger, inputs)})},
    [D_DISPATCH_INPUTS] = {.types = T_NULL | T_MAP, .loose = D_DISPATCH_INPUT, .shape = &inputs},
    [D_DISPATCH_INPUT] = {
        .types = T_NULL | T_MAP,
        .props = PROPS({"description", D_STRING, OPTIONAL, TO(STR, plan_input, description)},
                       {"type", D_DISPATCH_INPUT_TYPE, OPTIONAL, TO(TEXT, plan_input, type_text)},
                       {"required", D_BOOLEAN, OPTIONAL, TO(FLAG, plan_input, required)},
                       {"default", D_SCALAR, OPTIONAL, TO(TEXT, plan_input, dflt)},
                       {"options", D_STRINGS_OR_EMPTY, OPTIONAL, TO(STRS, plan_input, options)})},
    [D_DISPATCH_INPUT_TYPE] = {.types = T_STRING, .values = VALUES("string", "boolean", "number",
                                                                   "environment", "choice")},

    /* --- the rest of the root -------------------------------------------------------------- */
    [D_RUN_NAME] = {.types = T_STRING, .names = AT_START},
    [D_PERMISSIONS] = {
        .types = T_STRING | T_MAP, .values = VALUES("read-all", "write-all"),
        .literal = INTO(plan_permissions, all_text), .at = INTO(plan_permissions, at),
        .props = PROPS(LEVEL("actions"), LEVEL("artifact-metadata"), LEVEL("attestations"),
                       LEVEL("checks"), LEVEL("code-quality"), LEVEL("contents"),
                       {"copilot-requests", D_LEVEL_WRITE, OPTIONAL, IGNORED},
                       LEVEL("deployments"), LEVEL("discussions"), LEVEL("drives"),
                       {"id-token", D_LEVEL_WRITE, OPTIONAL, IGNORED}, LEVEL("issues"),
                       {"models", D_LEVEL_READ, OPTIONAL, IGNORED}, LEVEL("packages"),
                       LEVEL("pages"), LEVEL("pull-requests"), LEVEL("repository-projects"),
                       LEVEL("security-events"), LEVEL("statuses"),
                       {"vulnerability-alerts", D_LEVEL_READ, OPTIONAL, IGNORED})},
    [D_LEVEL] = {.types = T_STRING, .values = VALUES("read", "write", "none")},
    [D_LEVEL_READ] = {.types = T_STRING, .values = VALUES("read", "none")},
    [D_LEVEL_WRITE] = {.types = T_STRING, .values = VALUES("write", "none")},
    [D_WORKFLOW_DEFAULTS] = {.types = T_MAP,
                             .props = PROPS({"run", D_WORKFLOW_DEFAULTS_RUN, OPTIONAL, FILL_INSIDE, 0})},
    [D_WORKFLOW_DEFAULTS_RUN] = {.types = T_MAP, .props = PROPS(SHELL_ROWS(plan))},
    [D_WORKFLOW_ENV] = {.types = T_MAP, .names = AT_START | N_SECRETS, .loose = D_STRING},
    [D_WORKFLOW_CONCURRENCY] = {.types = T_STRING | T_MAP, .names = AT_START,
                                .literal = INTO(plan_concurrency, group),
                                .whole = INTO(plan_concurrency, group),
                                .at = INTO(plan_concurrency, at), .props = PROPS(CONCURRENCY_ROWS)},

    /* --- jobs ------------------------------------------------------------------------------ */
    [D_JOBS] = {.types = T_MAP, .loose = D_JOB_ANY, .shape = &jobs},
    [D_JOB_ANY] = {.types = T_MAP, .one_of = {D_JOB, D_CALLING_JOB}},
    [D_JOB] = {
        .types = T_MAP,
        .props = PROPS(
            {"needs", D_NEEDS, OPTIONAL, TO(LIST, plan_job, needs)},
            {"if", D_JOB_IF, OPTIONAL, TO(TEXT, plan_job, if_)},
            {"strategy", D_STRATEGY, OPTIONAL, FILL_INSIDE, 0},
            {"name", D_JOB_NAME, OPTIONAL, TO(TEXT, plan_job, name)},
            {"runs-on", D_RUNS_ON, REQUIRED, TO(LIST, plan_job, runs_on)},
            {"timeout-minutes", D_JOB_NUMBER, OPTIONAL, TO(TEXT, plan_job, timeout_minutes)},
            {"cancel-timeout-minutes", D_JOB_NUMBER, OPTIONAL, TO(TEXT, plan_job, cancel_timeout_minutes)},
            {"continue-on-error", D_JOB_BOOLEAN, OPTIONAL, TO(TEXT, plan_job, continue_on_error)},
            {"container", D_CONTAINER, OPTIONAL, TO(INSIDE, plan_job, container)},
            {"services", D_SERVICES, OPTIONAL, TO(ITEMS, plan_job, services)},
            {"env", D_JOB_ENV, OPTIONAL, TO(MAP, plan_job, env)},
            {"environment", D_ENVIRONMENT, OPTIONAL, TO(INSIDE, plan_job, environment)},
            {"permissions", D_PERMISSIONS, OPTIONAL, TO(INSIDE, plan_job, permissions)},
            {"concurrency", D_JOB_CONCURRENCY, OPTIONAL, TO(INSIDE, plan_job, concurrency)},
            {"outputs", D_OUTPUTS, OPTIONAL, TO(MAP, plan_job, outputs)},
            {"defaults", D_JOB_DEFAULTS, OPTIONAL, FILL_INSIDE, 0},
            {"steps", D_STEPS, OPTIONAL, TO(ITEMS, plan_job, steps)},
            {"snapshot", D_SNAPSHOT, OPTIONAL, TO(TREE, plan_job, snapshot)})},
    [D_CALLING_JOB] = {
        .types = T_MAP,
        .props = PROPS(
            {"name", D_JOB_NAME, OPTIONAL, TO(TEXT, plan_job, name)},
            {"uses", D_NAME, REQUIRED, TO(TEXT, plan_job, calling.uses)},
            {"with", D_CALL_WITH, OPTIONAL, TO(MAP, plan_job, calling.with)},
            {"secrets", D_CALL_PASSED_SECRETS, OPTIONAL, TO(MAP, plan_job, calling.secrets)},
            {"needs", D_NEEDS, OPTIONAL, TO(LIST, plan_job, needs)},
            {"if", D_JOB_IF, OPTIONAL, TO(TEXT, plan_job, if_)},
            {"permissions", D_PERMISSIONS, OPTIONAL, TO(INSIDE, plan_job, permissions)},
            {"concurrency", D_JOB_CONCURRENCY, OPTIONAL, TO(INSIDE, plan_job, concurrency)},
            {"strategy", D_STRATEGY, OPTIONAL, FILL_INSIDE, 0})},
    [D_CALL_WITH] = {.types = T_MAP, .loose = D_CALL_PASSED_VALUE},
    [D_CALL_PASSED_VALUE] = {.types = T_SCALAR, .names = AT_LEG},
    [D_CALL_PASSED_SECRETS] = {.types = T_STRING | T_MAP, .values = VALUES("inherit"),
                               .loose = D_CALL_PASSED_SECRET},
    [D_CALL_PASSED_SECRET] = {.types = T_SCALAR, .names = AT_LEG | N_SECRETS},
    [D_NEEDS] = {.types = T_STRING | T_NONEMPTY | T_SEQ, .item = D_NAME},
    [D_JOB_IF] = {.types = T_STRING, .names = AT_JOB | N_JOB_STATUS, .condition = true},
    [D_JOB_NAME] = {.types = T_STRING, .names = AT_LEG},
    [D_JOB_NUMBER] = {.types = T_NUMBER, .names = AT_LEG},
    [D_JOB_BOOLEAN] = {.types = T_BOOL, .names = AT_LEG},
    [D_STRATEGY] = {
        .types = T_MAP, .names = AT_JOB, .whole = INTO(plan_job, strategy_whole),
        .props = PROPS({"fail-fast", D_BOOLEAN, OPTIONAL, TO(TEXT, plan_job, fail_fast)},
                       {"max-parallel", D_NUMBER, OPTIONAL, TO(TEXT, plan_job, max_parallel)},
                       {"matrix", D_MATRIX, OPTIONAL, TO(TREE, plan_job, matrix)})},
    [D_MATRIX] = {.types = T_MAP, .loose = D_SEQUENCE,
                  .props = PROPS({"include", D_MATRIX_FILTER, OPTIONAL, IGNORED},
                                 {"exclude", D_MATRIX_FILTER, OPTIONAL, IGNORED})},
    [D_MATRIX_FILTER] = {.types = T_SEQ, .item = D_MATRIX_FILTER_ITEM},
    [D_MATRIX_FILTER_ITEM] = {.types = T_MAP, .loose = D_ANYTHING},
    [D_RUNS_ON] = {
        .types = T_STRING | T_NONEMPTY | T_SEQ | T_MAP, .names = AT_LEG, .item = D_NAME,
        .props = PROPS({"group", D_NAME, OPTIONAL, TO(TEXT, plan_job, runs_on_group)},
                       {"labels", D_STRING_OR_STRINGS, OPTIONAL, TO(LIST, plan_job, runs_on)})},
    [D_JOB_ENV] = {.types = T_MAP, .names = AT_LEG | N_SECRETS, .loose = D_STRING},
    [D_JOB_CONCURRENCY] = {.types = T_STRING | T_NONEMPTY | T_MAP, .names = AT_LEG,
                           .literal = INTO(plan_concurrency, group),
                           .whole = INTO(plan_concurrency, group),
                                .at = INTO(plan_concurrency, at), .props = PROPS(CONCURRENCY_ROWS)},
    [D_QUEUE] = {.types = T_STRING, .values = VALUES("single", "max")},
    [D_ENVIRONMENT] = {
        .types = T_STRING | T_MAP, .names = AT_LEG, .literal = INTO(plan_environment, name),
        .whole = INTO(plan_environment, name), .at = INTO(plan_environment, at),
        .props = PROPS({"name", D_STRING, REQUIRED, TO(TEXT, plan_environment, name)},
                       {"url", D_ENVIRONMENT_URL, OPTIONAL, TO(TEXT, plan_environment, url)},
                       {"deployment", D_BOOLEAN, OPTIONAL, TO(TEXT, plan_environment, deployment)})},
    [D_ENVIRONMENT_URL] = {.types = T_STRING, .names = AT_RUNNER_PLAIN},
    [D_OUTPUTS] = {.types = T_MAP, .loose = D_RUNNER_STRING},
    [D_JOB_DEFAULTS] = {.types = T_MAP,
                        .props = PROPS({"run", D_JOB_DEFAULTS_RUN, OPTIONAL, FILL_INSIDE, 0})},
    [D_JOB_DEFAULTS_RUN] = {.types = T_MAP, .names = AT_LEG | N_ENV, .props = PROPS(SHELL_ROWS(plan_job))},
    [D_CONTAINER] = {.types = T_STRING | T_MAP, .names = AT_LEG, .literal = INTO(plan_container, image),
                     .whole = INTO(plan_container, whole), .at = INTO(plan_container, at),
                     .props = PROPS(CONTAINER_ROWS)},
    [D_CONTAINER_ENV] = {.types = T_MAP, .loose = D_RUNNER_STRING},
    [D_CREDENTIALS] = {
        .types = T_MAP, .names = AT_START | N_SECRETS | N_ENV,
        .props = PROPS({"username", D_NAME, OPTIONAL, TO(TEXT, plan_container, username)},
                       {"password", D_NAME, OPTIONAL, TO(TEXT, plan_container, password)})},
    [D_SERVICES] = {.types = T_MAP, .names = AT_LEG, .loose = D_SERVICE, .shape = &services,
                    .whole = INTO(plan_job, services_whole)},
    [D_SERVICE] = {
        .types = T_STRING | T_NONEMPTY | T_MAP, .names = AT_LEG,
        .literal = INTO(plan_container, image), .whole = INTO(plan_container, whole),
        .props = PROPS(CONTAINER_ROWS,
                       {"entrypoint", D_STRING, OPTIONAL, TO(TEXT, plan_container, entrypoint)},
                       {"command", D_STRING, OPTIONAL, TO(TEXT, plan_container, command)})},
    [D_SNAPSHOT] = {
        .types = T_STRING | T_NONEMPTY | T_MAP,
        .props = PROPS({"image-name", D_NAME, REQUIRED, IGNORED}, {"if", D_SNAPSHOT_IF, OPTIONAL, IGNORED},
                       {"version", D_NAME, OPTIONAL, IGNORED})},
    [D_SNAPSHOT_IF] = {.types = T_STRING, .names = AT_LEG, .condition = true},

    /* --- steps ----------------------------------------------------------------------------- */
    [D_STEPS] = {.types = T_SEQ, .item = D_STEP_ANY, .shape = &steps},
    [D_STEP_ANY] = {.types = T_MAP,
                    .one_of = {D_RUN_STEP, D_USES_STEP, D_WAIT_STEP, D_WAIT_ALL_STEP, D_CANCEL_STEP,
                               D_PARALLEL_STEP}},
    [D_RUN_STEP] = {
        .types = T_MAP,
        .props = PROPS(
            STEP_NAME, STEP_ID, STEP_IF, STEP_TIMEOUT,
            {"run", D_STEP_TEXT, REQUIRED, TO(TEXT, plan_step, run)}, STEP_CONTINUE, STEP_ENV,
            {"working-directory", D_STEP_TEXT, OPTIONAL, TO(TEXT, plan_step, working_directory)},
            {"shell", D_NAME, OPTIONAL, TO(TEXT, plan_step, shell)}, STEP_BACKGROUND)},
    [D_USES_STEP] = {
        .types = T_MAP,
        .props = PROPS(STEP_NAME, STEP_ID, STEP_IF, STEP_CONTINUE, STEP_TIMEOUT,
                       {"uses", D_NAME, REQUIRED, TO(TEXT, plan_step, uses)},
                       {"with", D_STEP_WITH, OPTIONAL, TO(MAP, plan_step, with)}, STEP_ENV,
                       STEP_BACKGROUND)},
    [D_WAIT_STEP] = {.types = T_MAP,
                     .props = PROPS(STEP_NAME, STEP_ID, STEP_CONTINUE,
                                    {"wait", D_STRING_OR_STRINGS, REQUIRED, TO(LIST, plan_step, targets)})},
    [D_WAIT_ALL_STEP] = {.types = T_MAP,
                         .props = PROPS(STEP_NAME, STEP_ID, STEP_CONTINUE,
                                        {"wait-all", D_NULL_OR_BOOLEAN, REQUIRED,
                                         TO(TEXT, plan_step, wait_all)})},
    [D_CANCEL_STEP] = {.types = T_MAP,
                       .props = PROPS(STEP_NAME, STEP_ID, STEP_CONTINUE,
                                      {"cancel", D_NAME, REQUIRED, TO(TEXT, plan_step, cancel)})},
    [D_PARALLEL_STEP] = {.types = T_MAP,
                         .props = PROPS({"parallel", D_STEPS, REQUIRED, TO(ITEMS, plan_step, children)})},
    [D_STEP_IF] = {.types = T_STRING, .names = AT_RUNNER_PLAIN | N_STEP_STATUS | N_HASHFILES,
                   .condition = true},
    [D_STEP_TEXT] = {.types = T_STRING, .names = AT_STEP},
    [D_STEP_NUMBER] = {.types = T_NUMBER, .names = AT_STEP},
    [D_STEP_BOOLEAN] = {.types = T_BOOL, .names = AT_STEP},
    [D_STEP_ENV] = {.types = T_MAP, .names = AT_STEP, .loose = D_STRING},
    [D_STEP_WITH] = {.types = T_MAP, .names = AT_STEP, .loose = D_STRING},

    /* --- action.yml ------------------------------------------------------------------------ */
    [D_ACTION] = {
        .types = T_MAP, .loose = D_ANYTHING,
        .props = PROPS({"name", D_STRING, OPTIONAL, TO(TEXT, github_action, name)},
                       {"description", D_STRING, OPTIONAL, TO(TEXT, github_action, description)},
                       {"inputs", D_ACTION_INPUTS, OPTIONAL, TO(ITEMS, github_action, inputs)},
                       {"outputs", D_ACTION_OUTPUTS, OPTIONAL, TO(ITEMS, github_action, outputs)},
                       {"runs", D_ACTION_RUNS, REQUIRED, FILL_INSIDE, 0})},
    [D_ACTION_INPUTS] = {.types = T_NULL | T_MAP, .loose = D_ACTION_INPUT, .shape = &action_inputs},
    [D_ACTION_INPUT] = {
        .types = T_NULL | T_MAP, .loose = D_ANYTHING,
        .props = PROPS({"description", D_STRING, OPTIONAL, TO(STR, action_input, description)},
                       {"deprecationMessage", D_STRING, OPTIONAL, TO(STR, action_input, deprecation)},
                       {"required", D_SCALAR, OPTIONAL, TO(TEXT, action_input, required)},
                       {"default", D_ACTION_DEFAULT, OPTIONAL, TO(TEXT, action_input, dflt)})},
    [D_ACTION_DEFAULT] = {.types = T_STRING, .names = AT_ACTION | N_HASHFILES},
    [D_ACTION_OUTPUTS] = {.types = T_NULL | T_MAP, .loose = D_ACTION_OUTPUT, .shape = &pairs},
    [D_ACTION_OUTPUT] = {
        .types = T_NULL | T_MAP, .loose = D_ANYTHING,
        .props = PROPS({"description", D_STRING, OPTIONAL, IGNORED},
                       {"value", D_ACTION_OUTPUT_VALUE, OPTIONAL, TO(TEXT, text_pair, value)})},
    [D_ACTION_OUTPUT_VALUE] = {.types = T_STRING, .names = AT_ACTION_OUTPUT},
    [D_ACTION_RUNS] = {
        .types = T_MAP, .at = INTO(github_action, runs_at),
        .props = PROPS({"using", D_NAME, REQUIRED, TO(TEXT, github_action, using)},
                       {"main", D_STRING, OPTIONAL, TO(TEXT, github_action, main)},
                       {"pre", D_STRING, OPTIONAL, TO(TEXT, github_action, pre)},
                       {"pre-if", D_ACTION_IF, OPTIONAL, TO(TEXT, github_action, pre_if)},
                       {"post", D_STRING, OPTIONAL, TO(TEXT, github_action, post)},
                       {"post-if", D_ACTION_IF, OPTIONAL, TO(TEXT, github_action, post_if)},
                       {"image", D_STRING, OPTIONAL, TO(TEXT, github_action, image)},
                       {"entrypoint", D_STRING, OPTIONAL, TO(TEXT, github_action, entrypoint)},
                       {"pre-entrypoint", D_STRING, OPTIONAL, TO(TEXT, github_action, pre_entrypoint)},
                       {"post-entrypoint", D_STRING, OPTIONAL, TO(TEXT, github_action, post_entrypoint)},
                       {"args", D_ACTION_ARGS, OPTIONAL, TO(LIST, github_action, args)},
                       {"env", D_ACTION_ENV, OPTIONAL, TO(MAP, github_action, env)},
                       {"steps", D_ACTION_STEPS, OPTIONAL, TO(ITEMS, github_action, steps)})},
    [D_ACTION_ARGS] = {.types = T_SEQ, .names = N_INPUTS, .item = D_STRING},
    [D_ACTION_ENV] = {.types = T_MAP, .names = N_INPUTS, .loose = D_STRING},
    [D_ACTION_IF] = {.types = T_STRING, .names = AT_ACTION_STEP | N_STEP_STATUS, .condition = true},
    [D_ACTION_STEPS] = {.types = T_SEQ, .item = D_ACTION_STEP, .shape = &steps},
    [D_ACTION_STEP] = {.types = T_MAP, .one_of = {D_ACTION_RUN_STEP, D_ACTION_USES_STEP}},
    [D_ACTION_RUN_STEP] = {
        .types = T_MAP,
        .props = PROPS(ACTION_STEP_ROWS,
                       {"run", D_ACTION_STEP_TEXT, REQUIRED, TO(TEXT, plan_step, run)},
                       {"working-directory", D_ACTION_STEP_TEXT, OPTIONAL, TO(TEXT, plan_step, working_directory)},
                       {"shell", D_ACTION_STEP_TEXT, REQUIRED, TO(TEXT, plan_step, shell)})},
    [D_ACTION_USES_STEP] = {
        .types = T_MAP,
        .props = PROPS(ACTION_STEP_ROWS,
                       {"uses", D_NAME, REQUIRED, TO(TEXT, plan_step, uses)},
                       {"with", D_ACTION_STEP_MAP, OPTIONAL, TO(MAP, plan_step, with)})},
    [D_ACTION_STEP_IF] = {.types = T_STRING, .names = AT_ACTION_STEP | N_STEP_STATUS, .condition = true},
    [D_ACTION_STEP_TEXT] = {.types = T_STRING, .names = AT_ACTION_STEP},
    [D_ACTION_STEP_BOOLEAN] = {.types = T_BOOL, .names = AT_ACTION_STEP},
    [D_ACTION_STEP_MAP] = {.types = T_MAP, .names = AT_ACTION_STEP, .loose = D_STRING},

    /* --- plain ones ------------------------------------------------------------------------ */
    [D_STRINGS] = {.types = T_SEQ, .item = D_NAME},
    [D_STRINGS_OR_EMPTY] = {.types = T_SEQ, .item = D_STRING},
    [D_STRING] = {.types = T_STRING},
    [D_NAME] = {.types = T_STRING | T_NONEMPTY},
    [D_RUNNER_STRING] = {.types = T_STRING, .names = AT_RUNNER},
    [D_BOOLEAN] = {.types = T_BOOL},
    [D_NUMBER] = {.types = T_NUMBER},
    [D_NULL_OR_BOOLEAN] = {.types = T_NULL | T_BOOL},
    [D_STRING_OR_STRINGS] = {.types = T_STRING | T_NONEMPTY | T_SEQ, .item = D_NAME},
    [D_SCALAR] = {.types = T_SCALAR},
    [D_SEQUENCE] = {.types = T_SEQ, .item = D_ANYTHING},
    [D_ANYTHING] = {.types = T_ANY, .item = D_ANYTHING, .loose = D_ANYTHING},
};

const struct prop *schema_prop(const struct def *d, const char *key, size_t n) {
    for (const struct prop *p = d->props; p && p->key; p++)
        if (strncmp(p->key, key, n) == 0 && !p->key[n])
            return p;
    return NULL;
}

static const struct prop *event(const char *name) {
    return schema_prop(&schema[D_ON], name, strlen(name));
}

bool schema_event_known(const char *name) {
    return event(name) != NULL;
}

const char *const *schema_types(const char *name) {
    const struct prop *e = event(name);
    const struct prop *types = e ? schema_prop(&schema[e->def], "types", 5) : NULL;
    return types ? schema[types->def].values : NULL;
}

const char *const *schema_default_types(const char *name) {
    static const char *const pull_request[] = {"opened", "synchronize", "reopened", NULL};
    return streq(name, "pull_request") || streq(name, "pull_request_target") ? pull_request : NULL;
}
