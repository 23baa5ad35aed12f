/* What a run has fetched for its jobs' actions, and from where. */
#include "run/action.h"

void fetched_free(struct fetched *f) {
    while (f) {
        struct fetched *next = f->next;
        while (f->defs) {
            struct fetched_def *d = f->defs;
            f->defs = d->next;
            github_action_free(d->def);
            free(d->path);
            free(d);
        }
        free(f->repo);
        free(f->ref);
        free(f->files);
        remote_at_done(&f->at);
        free(f);
        f = next;
    }
}

void run_remote(const struct run *r, struct remote_conf *ret) {
    *ret = (struct remote_conf){.mirror = r->rq->actions_mirror, .server_url = r->rq->event.server_url, .local = &r->rq->local_repositories,
                                .lock = &r->lock, .offline = r->rq->offline};
}
