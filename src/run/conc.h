#pragma once
/* Concurrency groups: claims of runs on this machine on a group of a repository, kept as files of
 * the store that their processes hold locked, so that kill -9 gives a claim back.
 *
 * The oldest living claim of a group runs. Of those that wait, GitHub keeps the newest only (one
 * with `queue: max`, and Bitbucket's groups, keep all, in order). A newcomer with
 * cancel-in-progress cancels the one that runs. Nothing is stored beside the claims: what a claim
 * may do follows from the list of living ones. Thread-safe by the caller (run.mu). */
#include "store/store.h"

struct conc;
struct conc_spec {
    const char *repository, *group; /* the group's name without regard to case */
    bool cancel_in_progress;
    bool keep_all;                  /* waiting ones are not replaced by newer ones */
};
enum conc_state {
    CONC_HELD,       /* it may run */
    CONC_WAIT,
    CONC_REPLACED,   /* it waited and a newer one came: to be cancelled */
    CONC_CANCELLED,  /* it runs and a newer one wants the group: to be cancelled */
};
int conc_claim(struct conc **ret, struct store *s, const struct conc_spec *c, struct err *e);
/* Looks at the group's claims as they are now. Once CONC_HELD, only HELD or CANCELLED follow. */
enum conc_state conc_look(struct conc *c);
const char *conc_group(const struct conc *c);
/* Is `group` the one that c claims? */
bool conc_same(const struct conc *c, const char *group);
void conc_free(struct conc *c);
/* An inotify descriptor that becomes readable when claims come or go, however. */
int conc_watch(struct store *s, struct err *e);
