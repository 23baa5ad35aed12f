/* What the best known actions take and give, for when they are not at hand: the names of all
 * versions together, so that nothing right is called wrong; `!` marks what the newest needs, `~` what
 * is deprecated, `*` stands for outputs of the user's choice. Also
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
     "go-download-base-url stable version",
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
     "*"},
    {"pypa/gh-action-pypi-publish",
     "user password repository-url packages-dir verify-metadata skip-existing verbose print-hash "
     "attestations repository_url~ packages_dir~ verify_metadata~ skip_existing~ print_hash~",
     ""},
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
        struct known_input *in = ARENA_ARRAY(&names, struct known_input, n);
        for (size_t k = 0; k < n; k++) {
            char *mark = strpbrk(inputs[k], "!~"), what = mark ? *mark : 0;
            if (mark)
                *mark = 0;
            in[k] = (struct known_input){.name = inputs[k],
                                         .required = what == '!',
                                         .deprecated = what == '~' ? "write it with dashes" : NULL};
        }
        metas[i].inputs = in;
        metas[i].n_inputs = n;
        metas[i].n_outputs = split(&names, known[i].outputs, &outputs);
        metas[i].outputs = outputs;
        metas[i].any_outputs = streq(known[i].outputs, "*");
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

const struct action_meta *action_meta_of(struct arena *a, const struct github_action *action) {
    struct action_meta *m = ARENA_NEW(a, struct action_meta);
    struct known_input *in = ARENA_ARRAY(a, struct known_input, action->n_inputs);
    for (size_t i = 0; i < action->n_inputs; i++) {
        const struct action_input *from = &action->inputs[i];
        in[i] = (struct known_input){
            .name = arena_strdup(a, from->name),
            .deprecated = from->deprecation ? arena_strdup(a, from->deprecation) : NULL,
            .required = from->required.s && streq(from->required.s, "true"),
            .has_default = from->dflt.s != NULL};
    }
    const char **out = ARENA_ARRAY(a, const char *, action->n_outputs);
    for (size_t i = 0; i < action->n_outputs; i++)
        out[i] = arena_strdup(a, action->outputs[i].key.s);
    *m = (struct action_meta){.inputs = in, .n_inputs = action->n_inputs, .outputs = out,
                              .n_outputs = action->n_outputs,
                              .docker = action->kind == ACTION_DOCKER,
                              /* a program may set outputs that it does not declare */
                              .any_outputs = action->kind != ACTION_COMPOSITE};
    return m;
}

const struct action_meta *action_meta_read(struct arena *a, const char *file, struct sv text) {
    struct github_action *action = NULL;
    struct diags d = {0};
    const struct action_meta *m;
    if (github_action_read(file, text, &action, &d) >= 0) {
        m = action_meta_of(a, action);
    } else {
        struct action_meta *bad = ARENA_NEW(a, struct action_meta);
        const struct diag *x = d.n ? &d.items[0] : NULL;
        bad->problem = x ? arena_printf(a, "%s:%u: %s", file, x->at.line, x->msg)
                         : arena_printf(a, "%s cannot be read", file);
        m = bad;
    }
    diags_done(&d);
    github_action_free(action);
    return m;
}
