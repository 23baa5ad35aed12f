#pragma once
/* The options of `docker create` and `docker run`, and the request body that they make (Engine
 * API, POST /containers/create). Core/ alone: used by the embedded client and by the engine for
 * the `options:` of a service. Source: docker/cli cli/command/container/opts.go. */
#include "core/err.h"
#include "core/json.h"
#include "core/str.h"

struct create_opts {
    /* of create */
    const char *name, *hostname, *domainname, *user, *workdir, *entrypoint, *network, *memory, *cpus;
    const char *shm_size, *restart, *stop_signal, *platform, *pull, *cidfile, *pid, *ipc, *uts, *userns;
    const char *health_cmd, *health_interval, *health_timeout, *health_start, *health_start_interval;
    const char *mac;
    int64_t health_retries, stop_timeout, pids_limit;
    bool health_given, no_health, entrypoint_given, stop_timeout_given;
    struct strv env, env_file, labels, label_file, volumes, volumes_from, mounts, publish, expose, tmpfs;
    struct strv cap_add, cap_drop, add_host, dns, dns_search, aliases, ulimits, devices, security_opt, links;
    struct strv attach, groups;
    bool tty, stdin_open, privileged, read_only, init, publish_all;
    /* of run */
    bool detach, rm, quiet, sig_proxy;
    const char *detach_keys;
    /* positional: the image, then the command */
    const char *image;
    struct strv cmd;
};
enum create_for { CREATE_RUN, CREATE_CREATE, CREATE_SERVICE };
/* argv: what follows "run". For CREATE_SERVICE no image is expected and neither the environment
 * nor files of this process are looked at. Strings point into argv, which must outlive o. */
int create_opts_parse(struct create_opts *o, enum create_for what, int argc, char **argv, bool *help,
                      struct err *e);
/* The JSON body. */
int create_opts_body(const struct create_opts *o, struct buf *body, struct err *e);
void create_opts_done(struct create_opts *o);

/* "[[ip:]host:]target[/proto]" with ranges: calls fn for each pair; host "" = any free port. */
typedef void (*port_fn)(void *arg, const char *ip, const char *host, unsigned target, const char *proto);
int port_spec_parse(const char *spec, port_fn fn, void *arg, struct err *e);
