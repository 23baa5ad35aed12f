#pragma once
/* What most commands need: the configuration, the opened (and swept) store with a lease, how images
 * are pulled, what of the host reaches boxes. */
#include "cli/config.h"
#include "image/image.h"
#include "store/store.h"

struct cli_ctx {
    struct config conf;
    struct store *store;
    struct lease *lease;
    struct registry_conf registry;  /* from conf; strings live as long as the context */
    struct pull_options pulls;      /* policy, registry, stand-ins */
    char *ca_bundle;                /* host path, or NULL when switched off */
    struct strv host_env;           /* for builds and containers: proxies and CA variables */
    const char *repo_dir;
};
struct cli_ctx_options {
    const char *repo_dir;   /* whose .slipway.yml counts, or NULL */
    const char *what;       /* lease name: "build", "run" */
    bool no_lease;          /* read-only commands */
    bool allow_single_id;
};
/* Prints nothing; errors of the configuration go to d. */
int cli_open(struct cli_ctx *c, const struct cli_ctx_options *o, struct diags *d, struct err *e);
/* The same with everything printed; >= 0: the exit code with which to end. -1: go on. */
int cli_begin(struct cli_ctx *c, const struct cli_ctx_options *o);
void cli_close(struct cli_ctx *c);
