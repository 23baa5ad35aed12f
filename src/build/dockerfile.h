#pragma once
/* The Dockerfile reader (parity target: docker/dockerfile 1.26). Knows the syntax only: parser
 * directives, continuations, heredocs, JSON forms, flags. Nothing is expanded here; every word
 * keeps its position. All errors of a file are found in one pass.
 *
 * Source: https://docs.docker.com/reference/dockerfile/ */
#include "core/arena.h"
#include "core/err.h"

enum df_op {
    DF_FROM, DF_ARG, DF_ENV, DF_RUN, DF_COPY, DF_ADD, DF_WORKDIR, DF_USER, DF_EXPOSE, DF_VOLUME,
    DF_LABEL, DF_CMD, DF_ENTRYPOINT, DF_HEALTHCHECK, DF_SHELL, DF_STOPSIGNAL, DF_ONBUILD,
    DF_MAINTAINER, DF_OP_COUNT
};

struct df_word {
    const char *s;
    struct span at;
};
struct df_flag {
    const char *name;  /* without "--" */
    const char *value; /* NULL when there is no "=" */
    struct span at;
};
struct df_pair {
    const char *key;
    const char *value; /* NULL: ARG without a default */
    struct span at;
};
struct df_heredoc {
    const char *name;  /* the delimiter, unquoted */
    struct sv data;    /* as in the file, each line with its newline; tabs not stripped */
    bool expand;       /* the delimiter was not quoted */
    bool chomp;        /* <<-: leading tabs go */
    unsigned fd;       /* the number before <<, 0 when none */
    const char *token; /* as written: "<<-EOF" */
};
struct df_health {
    bool none; /* HEALTHCHECK NONE */
    uint64_t interval_ns, timeout_ns, start_period_ns, start_interval_ns;
    int retries;
};
struct df_instr {
    enum df_op op;
    struct span at;
    struct sv keyword;  /* as written */
    uint32_t end_line;  /* the last one, heredocs included */
    const char *const *comments; /* right before it, without "#"; NULL-terminated, or NULL */
    const char *text; /* keyword in capitals, flags and arguments, continuations joined */
    const char *rest; /* after keyword and flags */
    struct df_flag *flags;
    size_t n_flags;
    bool json; /* JSON form */
    /* RUN, CMD, ENTRYPOINT, HEALTHCHECK, SHELL: argv in JSON form, else one word, the command
     * line. COPY, ADD: sources, then the destination (a heredoc source stands as its token).
     * FROM: the base. The others: their arguments. */
    struct df_word *words;
    size_t n_words;
    bool legacy;           /* ENV and LABEL without "=" */
    struct df_pair *pairs; /* ARG, ENV, LABEL */
    size_t n_pairs;
    struct df_heredoc *heredocs;
    size_t n_heredocs;
    struct df_health health;
    const struct df_instr *sub; /* ONBUILD */
    const char *onbuild_text;   /* ONBUILD: what is kept in the image */
};
struct df_stage {
    const char *name; /* lower-cased; NULL when it has none */
    struct df_word base;
    const char *platform; /* or NULL */
    struct span at;
    const struct df_instr *from;
    struct df_instr **instrs; /* without FROM */
    size_t n_instrs, cap_instrs;
    unsigned index;
};
struct dockerfile {
    struct arena arena;
    const char *file; /* as shown */
    struct sv source; /* the file's text (kept here) */
    char escape;
    const char *syntax, *check; /* directives, or NULL */
    struct df_instr **globals;  /* ARG before the first FROM */
    size_t n_globals, cap_globals;
    struct df_stage *stages;
    size_t n_stages, cap_stages;
};

/* Limits: 1 MiB of text, 10,000 instructions. Errors and lint warnings (code = the rule's name)
 * go to d; -EBADMSG when there was an error. *ret is set in both cases (free it). */
int dockerfile_parse(const char *file, struct sv text, struct dockerfile **ret, struct diags *d);
void dockerfile_free(struct dockerfile *f);
void dockerfile_freep(struct dockerfile **f);
#define _cleanup_dockerfile_ _cleanup_(dockerfile_freep)
/* One instruction from outside the file (ONBUILD of a base image); lives in f's arena. */
int dockerfile_parse_one(struct dockerfile *f, const char *where, struct sv text,
                         struct df_instr **ret, struct diags *d);
const char *df_op_name(enum df_op op); /* "FROM" */
/* Value of a flag ("" when it has none), or NULL when it is absent. */
const char *df_flag(const struct df_instr *in, const char *name);
/* Stage by name or number ("builder", "0") among the first `before` stages; -1 when none. */
int dockerfile_stage(const struct dockerfile *f, const char *name, size_t before);
/* Go's durations ("1m30s", "500ms", "1.5h"). -EINVAL. */
int df_duration(struct sv s, uint64_t *ret_ns);
/* Content of a heredoc with its tabs stripped when asked for (arena). */
struct sv df_heredoc_text(struct arena *a, const struct df_heredoc *h);
