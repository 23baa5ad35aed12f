/* The embedded docker client: global options and the table of commands. */
#include "docker/client/client.h"

#include <signal.h>

static int cmd_compose(int argc, char **argv) { return not_yet("docker compose"); }
static int cmd_absent(int argc, char **argv) {
    fprintf(stderr, "docker: not yet: docker %s\n", argv[0]);
    return 1;
}

static const struct command commands[] = {
    {"run", cmd_run, "Create and run a new container from an image"},
    {"exec", cmd_exec, "Execute a command in a running container"},
    {"ps", cmd_ps, "List containers"},
    {"build", cmd_build, "Build an image from a Dockerfile"},
    {"buildx", cmd_buildx, "Build (the same builder)"},
    {"pull", cmd_pull, "Download an image from a registry"},
    {"push", cmd_push, "Upload an image to a registry"},
    {"images", cmd_images, "List images"},
    {"login", cmd_login, "Authenticate to a registry"},
    {"logout", cmd_logout, "Log out from a registry"},
    {"version", cmd_version, "Show the Docker version information"},
    {"info", cmd_info, "Display system-wide information"},
    {"attach", cmd_attach, "Attach local standard streams to a running container"},
    {"commit", cmd_commit, "Create a new image from a container's changes"},
    {"container", cmd_container, "Manage containers"},
    {"cp", cmd_cp, "Copy files between a container and the local filesystem"},
    {"create", cmd_create, "Create a new container"},
    {"diff", cmd_diff, "Inspect changes to files or directories on a container's filesystem"},
    {"events", cmd_events, "Get real time events from the server"},
    {"export", cmd_export, "Export a container's filesystem as a tar archive"},
    {"history", cmd_history, "Show the history of an image"},
    {"image", cmd_image, "Manage images"},
    {"inspect", cmd_inspect, "Return low-level information on objects"},
    {"kill", cmd_kill, "Kill one or more running containers"},
    {"load", cmd_load, "Load an image from a tar archive or STDIN"},
    {"logs", cmd_logs, "Fetch the logs of a container"},
    {"network", cmd_network, "Manage networks"},
    {"pause", cmd_pause, "Pause all processes within one or more containers"},
    {"port", cmd_port, "List port mappings of a container"},
    {"rename", cmd_rename, "Rename a container"},
    {"restart", cmd_restart, "Restart one or more containers"},
    {"rm", cmd_rm, "Remove one or more containers"},
    {"rmi", cmd_rmi, "Remove one or more images"},
    {"save", cmd_save, "Save one or more images to a tar archive"},
    {"start", cmd_start, "Start one or more stopped containers"},
    {"stats", cmd_stats, "Display a sample of container(s) resource usage statistics"},
    {"stop", cmd_stop, "Stop one or more running containers"},
    {"system", cmd_system, "Manage Docker"},
    {"tag", cmd_tag, "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"},
    {"top", cmd_top, "Display the running processes of a container"},
    {"unpause", cmd_unpause, "Unpause all processes within one or more containers"},
    {"update", cmd_update, "Update configuration of one or more containers"},
    {"volume", cmd_volume, "Manage volumes"},
    {"wait", cmd_wait, "Block until one or more containers stop, then print their exit codes"},
    {"compose", cmd_compose, NULL}, {"builder", cmd_absent, NULL}, 
    {"import", cmd_absent, NULL},
    
    {"search", cmd_absent, NULL}, {"context", cmd_absent, NULL},
    {"manifest", cmd_absent, NULL}, {"plugin", cmd_absent, NULL}, {"swarm", cmd_absent, NULL},
    {"service", cmd_absent, NULL}, {"stack", cmd_absent, NULL}, {"node", cmd_absent, NULL},
    {"secret", cmd_absent, NULL}, {"config", cmd_absent, NULL}, {"trust", cmd_absent, NULL},
    {"scout", cmd_absent, NULL},
};

/* Also answers as the plugin programs docker-buildx and docker-compose, when linked so. */
static int as_plugin(int argc, char **argv) {
    const char *base = path_base(argv[0]);
    if (streq(base, "docker-compose"))
        return cmd_compose(argc, argv);
    if (!streq(base, "docker-buildx"))
        return -1;
    if (argc > 1 && streq(argv[1], "docker-cli-plugin-metadata")) {
        puts("{\"SchemaVersion\":\"0.1.0\",\"Vendor\":\"slipway\",\"Version\":\"v" SLIPWAY_VERSION
             "\",\"ShortDescription\":\"slipway build\"}");
        return 0;
    }
    if (argc > 1 && streq(argv[1], "buildx")) /* called by a docker client as its plugin */
        return cmd_buildx(argc - 1, argv + 1);
    return cmd_buildx(argc, argv);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    int plugin = as_plugin(argc, argv);
    if (plugin >= 0)
        return plugin;
    const char *host = NULL, *config = NULL;
    bool version = false, help = false;
    const struct flag flags[] = {
        {"host", 'H', FLAG_STR, &host}, {"config", 0, FLAG_STR, &config},
        {"version", 'v', FLAG_BOOL, &version}, {"debug", 'D', FLAG_SKIP},
        {"log-level", 'l', FLAG_SKIP_STR}, {"context", 'c', FLAG_SKIP_STR},
        {"tls", 0, FLAG_NOTYET}, {"tlsverify", 0, FLAG_NOTYET}, {"tlscacert", 0, FLAG_SKIP_STR},
        {"tlscert", 0, FLAG_SKIP_STR}, {"tlskey", 0, FLAG_SKIP_STR},
    };
    struct flag_set set = {flags, ELEMENTS(flags), .interspersed = false};
    _cleanup_strv_ struct strv rest = {0};
    struct err e = {0};
    if (flags_parse(&set, argc - 1, argv + 1, &rest, &help, &e) < 0)
        return fail_usage("", &e);
    if (version) {
        puts("Docker version 27.0.0-slipway, build " SLIPWAY_VERSION);
        return 0;
    }
    api_host(host);
    config_dir(config);
    /* dispatch() wants argv[0] before the command. */
    int left = (int)rest.n;
    return dispatch("", commands, ELEMENTS(commands), help ? 1 : left + 1, argv + argc - left - 1);
}
