#pragma once
/* Patterns for files as the published actions have them: lines of globs, each with `*`, `?`, `[…]`,
 * `**`, a leading `!` to exclude, `#` comments, `~` and relative paths. Later lines win.
 * Source: github.com/actions/toolkit packages/glob (and minimatch with dot, nobrace, noext). */
#include "core/err.h"
#include "core/str.h"

#include <sys/stat.h>

enum glob_flags {
    GLOB_NO_FOLLOW = 1,    /* links are files of their own */
    GLOB_EXACT = 2,        /* no implicit descendants: `foo` is not `foo` and all below */
    GLOB_NO_DIRS = 4,      /* folders are not told */
    GLOB_NO_HIDDEN = 8,    /* what begins with a dot is left out, folders with all below */
};
struct globs;
/* cwd and home: absolute paths for relative patterns and `~`. An invalid pattern is ERR_CONFIG, in the
 * toolkit's words. */
int globs_new(struct globs **ret, struct sv patterns, const char *cwd, const char *home, unsigned flags, struct err *e);
void globs_free(struct globs *g);
size_t globs_count(const struct globs *g); /* of patterns */
/* The literal beginnings of the patterns, where a search starts; none lies below another. */
size_t globs_roots(const struct globs *g, const char *const **ret);
/* Bits: 1 = a folder with this absolute path matches, 2 = a file does. */
unsigned globs_match(const struct globs *g, const char *path);
bool globs_partial(const struct globs *g, const char *path); /* may something below match? */
/* One name against one pattern as minimatch has it by default: braces, a leading `!` negates, a leading dot
 * must be in the pattern. (Not yet: extended globs.) */
bool glob_name(struct sv pattern, struct sv name);
/* Each match, in the order the toolkit gives (a folder's names sorted by bytes). Paths are resolved
 * inside `root`. `st` is of the link's target unless GLOB_NO_FOLLOW. Negative from fn ends it. At most
 * 2,000,000 names are looked at (-EFBIG). */
typedef int (*glob_fn)(void *arg, const char *path, const struct stat *st);
int globs_walk(const struct globs *g, int root, glob_fn fn, void *arg, struct err *e);
