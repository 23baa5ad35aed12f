/* JavaScript actions: node runs a file of the action, in the workspace. */
#include "run/action.h"

#include "core/fs.h"
#include "run/results.h"

int action_node(struct jobx *x, struct step *s, enum action_stage stage, double minutes, struct err *e) {
    const struct github_action *def = s->action->def;
    const struct text *file = stage == STAGE_PRE ? &def->pre : stage == STAGE_POST ? &def->post : &def->main;
    const char *node;
    _cleanup_free_ char *path = path_join(s->action->dir, file->s);
    _cleanup_strv_ struct strv env = {0};
    int r = node_find(x, def->node, &node, e);
    if (r < 0)
        return r;
    if (def->node < 20 && stage == STAGE_MAIN)
        jobx_note(x, LEVEL_NOTICE, "%s asks for Node %u, which is no longer there: it runs on the current one", s->action->uses, def->node);
    if (stage == STAGE_MAIN && s->action->repo && strcasecmp(s->action->repo, "actions/setup-python") == 0)
        python_offer(x, s, s->inputs);
    action_env(x, s, s->own, &env);
    if ((r = results_env(x, &env, e)) < 0)
        return r;
    const char *argv[] = {node, path, NULL};
    return action_exec(x, s, argv, &env, x->workspace, minutes, e);
}
