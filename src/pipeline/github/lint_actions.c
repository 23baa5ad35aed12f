/* What the best known actions take and give, for when they are not at hand: the names of all
 * versions together, so that nothing right is called wrong; `!` marks what the newest needs. Also
 * the reader of an action.yml, for those that are at hand. */
#include "pipeline/github/lint_actions.h"

#include <pthread.h>

static const struct {
    const char *name, *inputs, *outputs;
} known[] = {
    {"actions/checkout",
     "repository ref token ssh-key ssh-known-hosts ssh-strict ssh-user persist-credentials path clean "
     "filter sparse-checkout sparse-checkout-cone-mode fetch-depth fetch-tags show-progress lfs "
     "submodules set-safe-directory github-server-url allow-unsafe-pr-checkout",
     "ref commit"},
    {"actions/setup-python",
     "python-version cache architecture token cache-dependency-path python-version-file check-latest "
     "update-environment allow-prereleases freethreaded pip-version pip-install",
     "python-version cache-hit python-path"},
    {"actions/setup-node",
     "always-auth node-version node-version-file architecture check-latest registry-url scope token "
     "cache package-manager-cache cache-dependency-path mirror mirror-token version",
     "cache-hit node-version"},
    {"actions/setup-go",
     "go-version go-version-file check-latest token cache cache-dependency-path architecture "
     "go-download-base-url",
     "go-version cache-hit"},
    {"actions/setup-java",
     "java-version java-version-file distribution! java-package architecture jdkFile check-latest "
     "server-id server-username server-password settings-path overwrite-settings gpg-private-key "
     "gpg-passphrase cache cache-dependency-path job-status token mvn-toolchain-id "
     "mvn-toolchain-vendor",
     "distribution version path cache-hit"},
    {"actions/cache/restore",
     "path! key! restore-keys enableCrossOsArchive fail-on-cache-miss lookup-only",
     "cache-hit cache-primary-key cache-matched-key"},
    {"actions/cache/save", "path! key! upload-chunk-size enableCrossOsArchive", ""},
    {"actions/cache",
     "path! key! restore-keys upload-chunk-size enableCrossOsArchive fail-on-cache-miss lookup-only "
     "save-always",
     "cache-hit"},
    {"actions/upload-artifact",
     "name path! if-no-files-found retention-days compression-level overwrite include-hidden-files "
     "archive",
     "artifact-id artifact-url artifact-digest"},
    {"actions/download-artifact",
     "name artifact-ids path pattern merge-multiple github-token repository run-id skip-decompress "
     "digest-mismatch",
     "download-path"},
    {"actions/github-script",
     "script! github-token debug user-agent previews result-encoding retries retry-exempt-status-codes "
     "base-url",
     "result"},
    {"docker/build-push-action",
     "add-hosts allow attests annotations build-args build-contexts builder cache-from cache-to call "
     "cgroup-parent context file labels load network no-cache no-cache-filters outputs platforms "
     "provenance pull push sbom secrets secret-envs secret-files shm-size ssh tags target ulimit "
     "github-token",
     "imageid digest metadata"},
    {"docker/login-action", "registry username password ecr logout scope registry-auth", ""},
    {"docker/metadata-action",
     "context images tags flavor labels annotations sep-tags sep-labels sep-annotations bake-target "
     "github-token",
     "version tags tag-names labels annotations bake-file json bake-file-tags bake-file-labels "
     "bake-file-annotations"},
    {"docker/setup-buildx-action",
     "version driver driver-opts buildkitd-flags buildkitd-config buildkitd-config-inline install use "
     "endpoint platforms config config-inline append name keep-state cache-binary cleanup",
     "name driver platforms nodes endpoint status flags"},
};

static struct action_meta metas[ELEMENTS(known)];
static struct arena names;

static size_t split(struct arena *a, const char *list, const char ***ret) {
    struct sv rest = sv_from(list), word;
    size_t n = 0;
    *ret = ARENA_ARRAY(a, const char *, strlen(list) / 2 + 1);
    while (*list && sv_split(&rest, ' ', &word))
        (*ret)[n++] = arena_strndup(a, word.p, word.n);
    return n;
}

static void fill_known(void) {
    for (size_t i = 0; i < ELEMENTS(known); i++) {
        const char **inputs, **outputs;
        size_t n = split(&names, known[i].inputs, &inputs);
        struct action_input *in = ARENA_ARRAY(&names, struct action_input, n);
        for (size_t k = 0; k < n; k++) {
            char *bang = strchr(inputs[k], '!');
            if (bang)
                *bang = 0;
            in[k] = (struct action_input){.name = inputs[k], .required = bang != NULL};
        }
        metas[i].inputs = in;
        metas[i].n_inputs = n;
        metas[i].n_outputs = split(&names, known[i].outputs, &outputs);
        metas[i].outputs = outputs;
    }
}

const struct action_meta *lint_known_action(const char *uses) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_known);
    for (size_t i = 0; i < ELEMENTS(known); i++) {
        size_t n = strlen(known[i].name);
        if (strncasecmp(known[i].name, uses, n) == 0 && uses[n] == '@')
            return &metas[i];
    }
    return NULL;
}

/* --- action.yml ----------------------------------------------------------------------------------- */

static const char *scalar(const struct yaml_node *n) {
    return n && n->kind == YAML_SCALAR ? n->text.p : NULL;
}

const struct action_meta *action_meta_read(struct arena *a, const char *file, struct sv text) {
    struct action_meta *m = ARENA_NEW(a, struct action_meta);
    struct yaml_node *root = NULL;
    struct diags d = {0};
    if (yaml_parse(a, file, text, NULL, &root, &d) < 0 || !root || root->kind != YAML_MAP)
        m->problem = arena_printf(a, "%s: %s", file, d.n ? d.items[0].msg : "it is no mapping");
    diags_done(&d);
    if (m->problem)
        return m;
    const struct yaml_node *in = yaml_get(root, "inputs"), *out = yaml_get(root, "outputs"),
                           *runs = yaml_get(root, "runs");
    if (!runs || !scalar(yaml_get(runs, "using")))
        m->problem = arena_printf(a, "%s: `runs.using` is missing", file);
    if (in && in->kind == YAML_MAP) {
        struct action_input *list = ARENA_ARRAY(a, struct action_input, in->n);
        for (size_t i = 0; i < in->n; i++) {
            const struct yaml_node *v = in->items[i];
            if (in->keys[i]->kind != YAML_SCALAR)
                continue;
            bool map = v->kind == YAML_MAP;
            const char *required = map ? scalar(yaml_get(v, "required")) : NULL;
            list[m->n_inputs++] = (struct action_input){
                .name = in->keys[i]->text.p,
                .required = required && streq(required, "true"),
                .has_default = map && yaml_get(v, "default"),
                .deprecated = map ? scalar(yaml_get(v, "deprecationMessage")) : NULL};
        }
        m->inputs = list;
    }
    if (out && out->kind == YAML_MAP) {
        const char **list = ARENA_ARRAY(a, const char *, out->n);
        for (size_t i = 0; i < out->n; i++)
            if (out->keys[i]->kind == YAML_SCALAR)
                list[m->n_outputs++] = out->keys[i]->text.p;
        m->outputs = list;
    }
    /* A program may set outputs that it does not declare; a composite action cannot. */
    const char *using = runs ? scalar(yaml_get(runs, "using")) : NULL;
    m->any_outputs = !using || !streq(using, "composite");
    return m;
}
