#include "pipeline/bitbucket/schema.h"

struct row {
    const char *key;
    enum bb_def def;
};
struct def {
    const char *what; /* in messages: "a step" */
    unsigned types;
    const struct row *rows;
    enum bb_def loose; /* any other key; B_NONE = there is none */
    enum bb_def item;  /* of a list */
    const char *const *values;
};
#define ROWS(...) (const struct row[]){__VA_ARGS__, {0}}
#define VALUES(...) (const char *const[]){__VA_ARGS__, NULL}

static const struct def defs[B_DEFS] = {
    [B_FILE] = {"the file", B_MAP,
                ROWS({"image", B_IMAGE}, {"clone", B_CLONE}, {"options", B_OPTIONS},
                     {"definitions", B_DEFINITIONS}, {"pipelines", B_PIPELINES},
                     {"triggers", B_FREE}, {"export", B_FLAG}, {"labels", B_FREE})},
    [B_IMAGE] = {"an image", B_STRING | B_MAP,
                 ROWS({"name", B_TEXT}, {"run-as-user", B_COUNT_NUMBER}, {"username", B_TEXT},
                      {"password", B_TEXT}, {"email", B_TEXT}, {"aws", B_AWS})},
    [B_AWS] = {"aws", B_MAP,
               ROWS({"access-key", B_TEXT}, {"secret-key", B_TEXT}, {"oidc-role", B_TEXT})},
    [B_CLONE] = {"clone", B_MAP,
                 ROWS({"depth", B_CLONE_DEPTH}, {"enabled", B_FLAG}, {"lfs", B_FLAG},
                      {"skip-ssl-verify", B_FLAG}, {"sparse-checkout", B_FREE}, {"strategy", B_TEXT},
                      {"filter", B_TEXT})},
    [B_CLONE_DEPTH] = {"clone depth", B_NUMBER | B_STRING},
    [B_OPTIONS] = {"options", B_MAP,
                   ROWS({"docker", B_FLAG}, {"max-time", B_COUNT_NUMBER}, {"size", B_SIZE},
                        {"runtime", B_FREE})},
    [B_DEFINITIONS] = {"definitions", B_MAP,
                       ROWS({"services", B_SERVICES}, {"caches", B_CACHES}, {"pipelines", B_FREE},
                            {"imports", B_FREE}),
                       B_FREE},
    [B_SERVICES] = {"services", B_MAP, NULL, B_SERVICE},
    [B_SERVICE] = {"a service", B_MAP,
                   ROWS({"image", B_IMAGE}, {"memory", B_MEMORY}, {"type", B_TEXT},
                        {"variables", B_TEXT_MAP}, {"environment", B_TEXT_MAP},
                        {"username", B_TEXT}, {"password", B_TEXT}, {"email", B_TEXT}, {"aws", B_AWS})},
    [B_CACHES] = {"caches", B_MAP, NULL, B_CACHE},
    [B_CACHE] = {"a cache", B_STRING | B_MAP, ROWS({"path", B_TEXT}, {"key", B_CACHE_KEY})},
    [B_CACHE_KEY] = {"a cache key", B_MAP, ROWS({"files", B_STRINGS})},
    [B_PIPELINES] = {"pipelines", B_MAP,
                     ROWS({"default", B_PIPELINE}, {"branches", B_BY_NAME}, {"tags", B_BY_NAME},
                          {"bookmarks", B_BY_NAME}, {"pull-requests", B_BY_NAME},
                          {"custom", B_CUSTOM_BY_NAME})},
    [B_BY_NAME] = {"pipelines by pattern", B_MAP, NULL, B_PIPELINE},
    [B_PIPELINE] = {"a pipeline", B_LIST | B_MAP, ROWS({"import", B_TEXT}), B_NONE, B_ITEM},
    [B_ITEM] = {"an item of a pipeline", B_MAP,
                ROWS({"step", B_STEP}, {"parallel", B_PARALLEL}, {"stage", B_STAGE})},
    [B_CUSTOM_BY_NAME] = {"custom pipelines", B_MAP, NULL, B_CUSTOM},
    [B_CUSTOM] = {"a custom pipeline", B_LIST | B_MAP, ROWS({"import", B_TEXT}), B_NONE, B_CUSTOM_ITEM},
    [B_CUSTOM_ITEM] = {"an item of a pipeline", B_MAP,
                       ROWS({"step", B_STEP}, {"parallel", B_PARALLEL}, {"stage", B_STAGE},
                            {"variables", B_VARIABLES})},
    [B_VARIABLES] = {"variables", B_LIST, NULL, B_NONE, B_VARIABLE},
    [B_VARIABLE] = {"a variable", B_MAP,
                    ROWS({"name", B_TEXT}, {"default", B_TEXT}, {"description", B_TEXT},
                         {"allowed-values", B_STRINGS})},
    [B_STAGE] = {"a stage", B_MAP,
                 ROWS({"name", B_TEXT}, {"steps", B_STEP_ITEMS}, {"trigger", B_TRIGGER},
                      {"deployment", B_TEXT}, {"environment", B_TEXT}, {"condition", B_CONDITION},
                      {"concurrency-group", B_TEXT})},
    [B_PARALLEL] = {"parallel", B_LIST | B_MAP, ROWS({"steps", B_STEP_ITEMS}, {"fail-fast", B_FLAG}),
                    B_NONE, B_STEP_ITEM},
    [B_STEP_ITEMS] = {"steps", B_LIST, NULL, B_NONE, B_STEP_ITEM},
    [B_STEP_ITEM] = {"an item of the steps", B_MAP, ROWS({"step", B_STEP}, {"parallel", B_PARALLEL})},
    [B_STEP] = {"a step", B_MAP,
                ROWS({"name", B_TEXT}, {"script", B_SCRIPT}, {"after-script", B_SCRIPT},
                     {"image", B_IMAGE}, {"caches", B_STRINGS}, {"services", B_STRINGS},
                     {"clone", B_CLONE}, {"max-time", B_COUNT_NUMBER}, {"size", B_SIZE},
                     {"runs-on", B_STRING_OR_STRINGS}, {"runtime", B_FREE},
                     {"artifacts", B_ARTIFACTS}, {"trigger", B_TRIGGER}, {"deployment", B_TEXT},
                     {"environment", B_TEXT}, {"condition", B_CONDITION}, {"fail-fast", B_FLAG},
                     {"oidc", B_FLAG}, {"concurrency-group", B_TEXT},
                     {"output-variables", B_STRINGS}, {"on-fail", B_ON_FAIL}, {"type", B_TEXT},
                     {"custom", B_TEXT}, {"input-variables", B_TEXT_MAP}, {"variables", B_TEXT_MAP})},
    [B_SCRIPT] = {"a script", B_LIST, NULL, B_NONE, B_PIPE},
    [B_PIPE] = {"a command", B_SCALAR | B_MAP,
                ROWS({"pipe", B_TEXT}, {"name", B_TEXT}, {"variables", B_FREE}, {"environment", B_FREE}),
                B_FREE /* a command with ": " in it: read.c explains */},
    [B_ARTIFACTS] = {"artifacts", B_LIST | B_MAP,
                     ROWS({"download", B_DOWNLOAD}, {"paths", B_STRINGS}, {"upload", B_UPLOADS}), B_NONE, B_TEXT},
    [B_DOWNLOAD] = {"download", B_BOOL | B_LIST, NULL, B_NONE, B_TEXT},
    [B_UPLOADS] = {"upload", B_LIST, NULL, B_NONE, B_UPLOAD},
    [B_UPLOAD] = {"an upload", B_MAP,
                  ROWS({"name", B_TEXT}, {"paths", B_STRINGS}, {"type", B_TEXT}, {"capture-on", B_TEXT},
                       {"depth", B_COUNT_NUMBER}, {"ignore-paths", B_STRINGS})},
    [B_CONDITION] = {"a condition", B_MAP, ROWS({"changesets", B_CHANGESETS}, {"state", B_TEXT})},
    [B_CHANGESETS] = {"changesets", B_MAP, ROWS({"includePaths", B_STRINGS}, {"excludePaths", B_STRINGS})},
    [B_ON_FAIL] = {"on-fail", B_MAP,
                   ROWS({"strategy", B_TEXT}, {"count", B_COUNT_NUMBER}, {"max-retries", B_COUNT_NUMBER})},
    [B_STRINGS] = {"a list of names", B_LIST, NULL, B_NONE, B_TEXT},
    [B_STRING_OR_STRINGS] = {"a name or a list of names", B_STRING | B_LIST, NULL, B_NONE, B_TEXT},
    [B_TEXT_MAP] = {"variables", B_MAP, NULL, B_TEXT},
    [B_SIZE] = {"size", B_STRING, .values = VALUES("1x", "2x", "4x", "8x", "16x", "32x")},
    [B_TRIGGER] = {"trigger", B_STRING, .values = VALUES("automatic", "manual")},
    [B_MEMORY] = {"memory", B_NUMBER},
    [B_TEXT] = {"a text", B_SCALAR | B_NULL},
    [B_COUNT_NUMBER] = {"a number", B_NUMBER},
    [B_FLAG] = {"true or false", B_BOOL},
    [B_FREE] = {"a value", B_ANY},
};

static unsigned type_of(const struct yaml_node *n) {
    if (n->kind != YAML_SCALAR)
        return n->kind == YAML_SEQ ? B_LIST : B_MAP;
    switch (yaml_scalar_type(n, NULL, NULL)) {
    case YAML_T_NULL: return B_NULL;
    case YAML_T_BOOL: return B_BOOL;
    case YAML_T_INT:
    case YAML_T_FLOAT: return B_NUMBER;
    case YAML_T_STRING: return B_STRING;
    }
    return B_STRING;
}

static void add_types(struct buf *b, unsigned types) {
    static const struct {
        unsigned type;
        const char *name;
    } names[] = {{B_STRING, "a text"}, {B_NUMBER, "a number"}, {B_BOOL, "true or false"},
                 {B_LIST, "a list"},   {B_MAP, "a mapping"}};
    const char *before = "";
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        if (types & names[i].type) {
            buf_addf(b, "%s%s", before, names[i].name);
            before = " or ";
        }
    }
}

/* Edits between two short words, at most `max`. */
static size_t distance(const char *a, const char *b, size_t max) {
    size_t n = strlen(a), m = strlen(b), row[64];
    if (n >= ELEMENTS(row) || m >= ELEMENTS(row))
        return max + 1;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t keep = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = MIN(MIN(row[j] + 1, row[j - 1] + 1), keep);
        }
    }
    return row[m];
}

static void unknown_key(const struct yaml_node *key, const struct def *def, struct diags *d) {
    _cleanup_buf_ struct buf hint = BUF_SMALL;
    const char *near = NULL;
    size_t best = 3;
    for (const struct row *r = def->rows; r && r->key; r++) {
        size_t dist = distance(key->text.p, r->key, best);
        if (dist < best) {
            best = dist;
            near = r->key;
        }
    }
    if (near) {
        buf_addf(&hint, "did you mean \"%s\"?", near);
    } else {
        buf_adds(&hint, "known here: ");
        for (const struct row *r = def->rows; r && r->key; r++)
            buf_addf(&hint, "%s%s", r == def->rows ? "" : ", ", r->key);
    }
    diags_add(d, DIAG_ERROR, key->at, "unknown-key", buf_str(&hint), "unknown key \"%s\" in %s",
              key->text.p, def->what);
}

static const struct row *find_row(const struct def *def, const char *key) {
    for (const struct row *r = def->rows; r && r->key; r++)
        if (streq(r->key, key))
            return r;
    return NULL;
}

static void check(const struct yaml_node *n, enum bb_def id, const char *name, struct diags *d);

static void check_map(const struct yaml_node *n, const struct def *def, struct diags *d) {
    for (size_t i = 0; i < n->n; i++) {
        const struct yaml_node *key = n->keys[i];
        if (key->kind != YAML_SCALAR) {
            diags_add(d, DIAG_ERROR, key->at, "value", NULL, "a key of %s must be a text", def->what);
            continue;
        }
        const struct row *row = find_row(def, key->text.p);
        if (row)
            check(n->items[i], row->def, row->key, d);
        else if (def->loose != B_NONE)
            check(n->items[i], def->loose, key->text.p, d);
        else
            unknown_key(key, def, d);
    }
}

/* `name` is the key, or NULL. */
static void check(const struct yaml_node *n, enum bb_def id, const char *name, struct diags *d) {
    const struct def *def = &defs[id];
    if (id == B_FREE)
        return;
    unsigned type = type_of(n);
    if ((def->types & B_STRING) && (type & B_SCALAR) && (id == B_IMAGE || id == B_STRING_OR_STRINGS))
        type = B_STRING; /* a name may look like a number */
    if (!(def->types & type)) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        add_types(&b, def->types);
        diags_add(d, DIAG_ERROR, n->at, "type", NULL, "%s must be %s", name ? name : def->what,
                  buf_str(&b));
        return;
    }
    if (type == B_LIST)
        for (size_t i = 0; i < n->n; i++)
            check(n->items[i], def->item, NULL, d);
    else if (type == B_MAP)
        check_map(n, def, d);
    if (!def->values)
        return;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    for (const char *const *v = def->values; *v; v++) {
        if (yaml_is(n, *v))
            return;
        buf_addf(&b, "%s%s", v == def->values ? "" : ", ", *v);
    }
    diags_add(d, DIAG_ERROR, n->at, "value", NULL, "%s must be one of %s", def->what, buf_str(&b));
}

void bb_check(const struct yaml_node *n, enum bb_def def, struct diags *d) {
    check(n, def, NULL, d);
}
