#pragma once
/* What `uses:` of checked files stands for: found as a run finds it (source/remote.h), held against
 * .slipway.lock, its metadata read, and what is passed to it looked at. The network is asked only
 * with `fetch` or `update`; without it a mirror's folder, local folders and the cache are. */
#include "cli/called.h"
#include "cli/config.h"
#include "core/map.h"
#include "pipeline/github/action.h"
#include "source/remote.h"

struct pins {
    struct remote_conf conf;
    struct config file;
    struct lock lock, fresh;
    char *dir, *mirror;      /* of the repository; where .slipway.lock lies */
    bool update, fetch, active;
    struct map seen;         /* "uses" of all files */
};
/* What is wrong with the configuration goes to d. */
int pins_begin(struct pins *p, const char *mirror, const struct strv *local, bool update, bool fetch, bool offline,
               struct diags *d, struct err *e);
/* All steps of a plan and those of composite actions below; what is wrong goes to d. */
void pins_plan(struct pins *p, const struct plan *plan, struct diags *d);
/* An action that pins_plan met, or NULL. */
const struct github_action *pins_action(const struct pins *p, const char *uses);
/* Writes the lock file when it was asked for, and says what changed. */
int pins_end(struct pins *p, FILE *out, struct err *e);
void pins_done(struct pins *p);
