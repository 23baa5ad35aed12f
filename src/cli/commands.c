/* One line each, in the order of the help. */
#include "cli/commands.h"

#define COMMANDS(X)                                                                             \
    X(run, "run", "run what an event starts; a push when none is named", "Pipelines")           \
    X(check, "check", "find errors in pipeline files", "Pipelines")                             \
    X(plan, "plan", "show what pipeline files say", "Pipelines")                                \
    X(eval, "eval", "evaluate an expression of GitHub Actions", "Pipelines")                    \
    X(logs, "logs", "show an earlier run", "Pipelines")                                         \
    X(shell, "shell", "look into a failed job that `run --keep` has kept", "Pipelines")         \
    X(artifact, "artifact", "what runs left: ls, get", "Pipelines")                             \
    X(cache, "cache", "the caches of actions: ls, rm", "Pipelines")                             \
    X(build, "build", "build an image from a Dockerfile", "Images")                             \
    X(image, "image", "ls, inspect, history, diff, tag, rm, save, load, copy, mount", "Images") \
    X(pull, "pull", "get images from a registry", "Images")                                     \
    X(push, "push", "send an image to its registry", "Images")                                  \
    X(login, "login", "keep the credentials of a registry", "Images")                           \
    X(logout, "logout", "forget them", "Images")                                                \
    X(registry, "registry", "the embedded registry: serve, ls", "Images")                       \
    X(docker, "docker", "docker's commands on slipway's own engine", "Images")                  \
    X(runner, "runner", "the images that jobs run in", "This machine")                          \
    X(doctor, "doctor", "tell what this host can do, and what mends the rest", "This machine")  \
    X(system, "system", "system df: what the store holds", "This machine")                      \
    X(prune, "prune", "free what nothing needs any more", "This machine")                       \
    X(engine, "__engine", NULL, NULL)                                                           \
    X(host_step, "__host-step", NULL, NULL)                                                     \
    X(completion, "completion", NULL, NULL)

#define DECLARE(fn, name, about, group) int cmd_##fn(int argc, char **argv);
COMMANDS(DECLARE)

#define ROW(fn, name, about, group) {name, cmd_##fn, about, group},
const struct command commands[] = {COMMANDS(ROW)};
const size_t n_commands = ELEMENTS(commands);
