#pragma once
/* .dockerignore: which paths of a build context are left out. Patterns are Go's filepath.Match
 * (* ? [a-z] \x) plus **, one a line; `#` begins a comment in column 0; a leading `/` means
 * nothing; `!` takes paths in again; the last match wins; a match of a parent folder counts for
 * what lies below. Source: https://docs.docker.com/build/concepts/context/#dockerignore-files */
#include "core/err.h"
#include "core/str.h"

struct ignore_pattern;
struct ignore {
    struct ignore_pattern *items;
    size_t n, cap;
    bool negations;
};
/* Errors (bad patterns) go to d with their line; -EBADMSG then. Limits: 1 MiB, 10,000 patterns. */
int ignore_parse(struct ignore *g, const char *file, struct sv text, struct diags *d);
void ignore_done(struct ignore *g);
/* Is this path (relative, clean, without leading slash) left out? */
bool ignore_match(const struct ignore *g, const char *rel);
/* May anything below this left-out folder be taken in again? */
bool ignore_may_contain(const struct ignore *g, const char *rel_dir);
/* One pattern of a COPY --exclude or of a source with wildcards: no `!`, no parents. */
bool ignore_glob(const char *pattern, struct sv path);
bool ignore_has_glob(const char *s);
