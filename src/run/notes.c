/* What a file asks for and a run does not do yet is said, once per job, where the job starts. */
#include "run/jobx.h"

static void of_bitbucket(struct jobx *x, const struct plan_bitbucket *bb) {
    if (bb->oidc)
        jobx_note(x, LEVEL_WARNING, "oidc: there is no token yet; BITBUCKET_STEP_OIDC_TOKEN is not set");
    if (bb->clone_lfs)
        jobx_note(x, LEVEL_WARNING, "clone lfs: not there yet; files are as the work tree has them");
    for (size_t i = 0; i < bb->n_artifacts; i++) {
        const struct plan_artifact *a = &bb->artifacts[i];
        if (a->type && streq(a->type, "test-reports"))
            jobx_note(x, LEVEL_WARNING, "artifacts %s: test reports are kept as files and not shown yet", a->name ? a->name : "");
    }
}

void notes_not_yet(struct jobx *x) {
    if (x->pj->snapshot)
        jobx_note(x, LEVEL_WARNING, "snapshot: not there yet; no image is made of this job");
    if (x->pj->bb)
        of_bitbucket(x, x->pj->bb);
}
