#pragma once
/* .slipway.lock: the commit that each "OWNER/REPO@REF" of `uses:` stands for. A text file, one line
 * each, sorted: "actions/checkout@v4 <40 hex>"; '#' starts a comment. It is looked at by whoever
 * resolves a reference and written by `slipway check --update-lock` alone. */
#include "core/err.h"
#include "core/str.h"

#define LOCK_FILE ".slipway.lock"

struct lock_item { char *name, *sha; };
struct lock {
    struct lock_item *items; /* sorted by name */
    size_t n, cap;
    bool there;              /* the file exists: what it does not name is told */
};
/* Reads text; a line that is malformed is ERR_CONFIG with its place. */
int lock_parse(struct lock *ret, const char *file, struct sv text, struct err *e);
/* Of a repository's folder; a file that is absent gives an empty one. */
int lock_load(struct lock *ret, const char *dir, struct err *e);
int lock_save(const struct lock *l, const char *dir, struct err *e);
const char *lock_get(const struct lock *l, const char *name); /* NULL: not pinned */
void lock_set(struct lock *l, const char *name, const char *sha);
void lock_done(struct lock *l);
#define _cleanup_lock_ _cleanup_(lock_done)
