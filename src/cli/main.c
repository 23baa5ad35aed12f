/* slipway: the command. Looks up the command in the table; helper operations of the store's user
 * namespace come in as `slipway __ns`. */
#include "cli/commands.h"
#include "cli/ns_ops.h"
#include "cli/term.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

static void help(void) {
    puts("slipway runs the delivery pipeline that a team already has, anywhere.\n\n"
         "usage: slipway COMMAND [options]");
    const char *group = NULL;
    for (size_t i = 0; i < n_commands; i++) {
        if (!commands[i].about)
            continue;
        if (!group || !streq(group, commands[i].group))
            printf("\n%s:\n", group = commands[i].group);
        printf("  %-12s %s\n", commands[i].name, commands[i].about);
    }
    puts("\n`slipway COMMAND --help` tells more. Exit codes: 0 success, 1 the pipeline failed or a\n"
         "check found errors, 2 usage or configuration, 3 this host cannot do it, 4 held back,\n"
         "5 incomplete, 130 cancelled.");
}

/* A job's clients may hold a thousand connections to its engine, and each process of a step two or
 * three descriptors of ours: the usual 1,024 would let one job starve the others. Inherited by our
 * helpers; commands in boxes get what box/init sets. */
static void raise_descriptors(void) {
    struct rlimit rl;
    if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur >= 65536)
        return;
    rl.rlim_cur = MIN((rlim_t)65536, rl.rlim_max);
    (void)setrlimit(RLIMIT_NOFILE, &rl);
}

/* The kernel grows a process's table of descriptors by itself, but with threads it waits for an RCU
 * grace period each time (15 ms): it is made large while there is one thread. */
static void grow_descriptor_table(void) {
    for (int fd = 0; fd < 3; fd++) {
        int high = fcntl(fd, F_DUPFD_CLOEXEC, 1000);
        if (high >= 0) {
            close(high);
            return;
        }
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && streq(argv[1], "__ns"))
        return ns_main(ns_ops, n_ns_ops, argc, argv);
    raise_descriptors();
    grow_descriptor_table();
    signal(SIGPIPE, SIG_IGN); /* writes report EPIPE instead */
    if (argc < 2) {
        help();
        return 2;
    }
    const char *name = argv[1];
    if (streq(name, "--version") || streq(name, "version")) {
        puts("slipway " SLIPWAY_VERSION);
        return 0;
    }
    if (streq(name, "--help") || streq(name, "-h") || streq(name, "help")) {
        if (argc < 3) {
            help();
            return 0;
        }
        name = argv[1] = argv[2]; /* help COMMAND = COMMAND --help */
        static char flag[] = "--help";
        argv[2] = flag;
        argc = 3;
    }
    for (size_t i = 0; i < n_commands; i++)
        if (streq(commands[i].name, name)) {
            int r = commands[i].fn(argc - 1, argv + 1);
            if (fflush(stdout) != 0 && r == 0)
                r = 1;
            return r;
        }
    struct err e;
    err_set(&e, ERR_USER, -EINVAL, "no such command: %s", name);
    err_hint(&e, -EINVAL, "slipway --help lists the commands");
    return cli_fail(&e);
}
