#pragma once
/* The build checks ("lint rules") of a Dockerfile. Warnings are diagnostics whose code is the rule's
 * name; their texts are those that docker build --check prints, so that tools which read them go on
 * working. What can be told from the file alone is found by lint_file; the rules that need values
 * (variables, bases, the ignore file) warn where instructions are evaluated.
 *
 * Source: https://docs.docker.com/reference/build-checks/ */
#include "build/dockerfile.h"

struct lint_rule {
    const char *name, *about, *url;
    bool experimental; /* only when asked for */
};
/* NULL when there is none of that name. */
const struct lint_rule *lint_rule(const char *name);
/* Rules that need the file alone; called by dockerfile_parse when there was no error. */
void lint_file(const struct dockerfile *f, struct diags *d);
/* Takes out of d, from item `from` on, what "# check=skip=…", a comment above the instruction or
 * `option` (the build argument BUILDKIT_DOCKERFILE_CHECK; NULL: the file's directive counts) skips.
 * With error=true what is left makes one error more: -EBADMSG then. */
int lint_filter(const struct dockerfile *f, const char *option, struct diags *d, size_t from);
/* The nearest of the names (at most two letters off), or NULL; NULL too when it is one of them. */
const char *lint_suggest(struct sv name, const char *const *names);
/* Does this name look as if its value were a secret? */
bool lint_secret_name(const char *name);
