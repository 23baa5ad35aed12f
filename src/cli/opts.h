#pragma once
/* Options of a command, from one table: long and short names, "--name=value", "--name value",
 * "-nvalue", "-n value", bundled flags ("-it"), "--no-name" for flags, "--" ends them. `--help`
 * prints the table and ends with exit code 0; a wrong option is ERR_USER with the nearest name. */
#include "core/err.h"
#include "core/str.h"

enum opt_kind {
    OPT_FLAG,  /* bool * */
    OPT_STR,   /* const char ** (points into argv) */
    OPT_LIST,  /* struct strv *: may be given several times */
    OPT_INT,   /* int64_t * */
    OPT_SIZE,  /* uint64_t *: 512m, 2g, 1.5GiB */
    OPT_IGNORE,     /* accepted and without effect; with an argument when `arg` is given */
    OPT_GROUP,      /* only a heading in the help: `help` is its text */
};
struct opt {
    char short_name; /* 0 = none */
    const char *name;
    enum opt_kind kind;
    void *to;
    const char *arg;  /* name of the value in the help */
    const char *help; /* NULL = hidden */
};
struct opts {
    const char *usage;   /* "run [options] [EVENT]" */
    const char *about;   /* a paragraph */
    const struct opt *items;
    size_t n;
    bool stop_at_first;  /* the first positional ends the options (docker run IMAGE CMD…) */
};
/* Parses argv[1..]; positionals are moved to argv[1..*ret_n]. Returns 0, 1 when help was printed
 * (the command returns 0), or a negative errno with e. */
int opts_parse(const struct opts *o, int argc, char **argv, int *ret_n, struct err *e);
/* The common beginning of a command: parses, prints an error. Returns >= 0: the exit code with
 * which to end at once; -1: go on. */
int opts_begin(const struct opts *o, int argc, char **argv, int *ret_n);
/* "512m", "2GiB" to bytes. */
int parse_size(const char *s, uint64_t *ret);
/* "7d", "12h", "30m" to nanoseconds. */
int parse_age(const char *s, uint64_t *ret);
