/* Docker actions and docker://image: a container of the job's own engine, on its network, with the
 * mounts and paths that a hosted runner gives. Built and started by the docker client in the job's
 * box, so that paths mean what the job sees, output and signals go the way of any other process,
 * and nothing outlives the job. Source: actions/runner ContainerActionHandler. */
#include "run/action.h"

#include "core/fs.h"

int action_docker(struct jobx *x, struct step *s, enum action_stage stage, double minutes, struct err *e) {
    return err_set(e, ERR_FAILED, -ENOSYS, "docker actions are not there yet: %s", s->action->uses);
}
