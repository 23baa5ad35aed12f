#pragma once
/* slipway's small docker client: the commands of docker's own that CI scripts use, over the Engine
 * API. A static program on core/ alone, embedded in slipway and put into jobs as `docker`. One
 * connection per request. Messages, default outputs and exit codes are docker's, since scripts
 * read them; what is missing answers "not yet". */
#include "core/arena.h"
#include "core/err.h"
#include "core/fs.h"
#include "core/json.h"
#include "core/loop.h"
#include "core/map.h"
#include "core/str.h"
#include "docker/createopts.h"
#include "docker/flags.h"
#include "docker/template.h"

#include <ctype.h>

#define API "/v1.44"

/* --- conn.c -------------------------------------------------------------------------------- */
struct api_header {
    const char *name, *value;
};
struct api_req {
    const char *method, *path; /* path with query, without the version */
    struct sv body;
    int body_fd;               /* when > 0: streamed chunked until EOF */
    int (*body_fn)(void *arg, int (*put)(void *to, const void *p, size_t n), void *to); /* or made on the fly */
    void *body_arg;
    const char *content_type;  /* NULL: application/json with a body */
    struct api_header headers[6];
    size_t n_headers;
    bool hijack;
};
struct api {
    int fd, status;
    struct strv headers; /* "name: value", names lower-cased */
    struct buf in;       /* read and not yet consumed */
    size_t in_at;
    bool chunked, ended;
    uint64_t left;       /* of the body or of the chunk; UINT64_MAX: until EOF */
};
void api_host(const char *host); /* from -H; else DOCKER_HOST, else the default socket */
const char *api_host_name(void);
/* Sends and reads the head. */
int api_open(struct api *c, const struct api_req *rq, struct err *e);
ssize_t api_read(struct api *c, void *p, size_t n, struct err *e); /* body; 0 = end */
bool api_pending(const struct api *c); /* bytes wait in memory (before polling fd) */
const char *api_header(const struct api *c, const char *name);
void api_done(struct api *c);
#define _cleanup_api_ _cleanup_(api_done)
/* The whole answer as JSON (NULL when empty). An answer >= 400 becomes an error "Error response
 * from daemon: …" with *status set. */
int api_json(struct arena *a, const char *method, const char *path, struct sv body, struct json **ret,
             int *status, struct err *e);
/* The body of a GET to a file (0600), or to standard output when `output` is NULL and it is no terminal.
 * What was half-written is removed. The exit code; `failed` begins what is said of it. */
int api_save(const char *path, const char *output, const char *failed);
/* The same for an open answer: the error of a status >= 400. */
int api_fail(struct api *c, struct err *e);
/* Query strings: each value is encoded. Ends with a NULL key. */
void query_add(struct buf *b, const char *key, const char *value);
void path_add(struct buf *b, const char *name); /* one encoded path element, '/' kept */
/* Messages of a pull, push, build: JSON lines. Prints them; an error line becomes the error. */
struct progress_sink {
    FILE *out;
    bool quiet;
    char id[80];     /* aux ID of a build */
    char digest[80]; /* aux digest of a push */
};
int api_progress(struct api *c, struct progress_sink *ps, struct err *e);
/* cmd_image.c: pushes one reference and shows it; digest (may be NULL): of the manifest. */
int push_image(const char *ref, bool quiet, char digest[80], struct err *e);

/* --- tty.c --------------------------------------------------------------------------------- */
struct stream_opts {
    bool tty, in, out, err;   /* which are attached */
    const char *resize_path;  /* "/containers/ID/resize" with tty */
    const char *kill_path;    /* "/containers/ID/kill" to pass signals on, or NULL */
};
/* Joins our stdin, stdout and stderr with an open hijacked answer until it ends. */
int stream_run(struct api *c, const struct stream_opts *o, struct err *e);
/* Copies a multiplexed (or raw) body to stdout and stderr. */
int stream_body(struct api *c, bool raw, struct err *e);
void tty_size(uint16_t *rows, uint16_t *cols);

/* --- util.c -------------------------------------------------------------------------------- */
void human_duration(struct buf *b, int64_t seconds);
void human_size(struct buf *b, double bytes, int digits);
int64_t parse_time(const char *s); /* RFC 3339 -> unix seconds; 0 when it is none */
/* Prints rows: format is NULL (the table given by def), "table …", "json" or a template. Each row
 * is a JSON object of strings. headers: "Key", "HEADER", …, NULL. */
int print_rows(struct arena *a, const char *format, const char *def, const char *const *headers,
               struct json **rows, size_t n, struct err *e);
struct json *row_new(struct arena *a, size_t fields);
void row_add(struct arena *a, struct json *row, const char *key, struct sv value);
const struct json *parse_or_null(struct arena *a, struct sv text);
/* "--filter k=v": the JSON map {"k": {"v": true}} as a query value. */
void filters_json(struct buf *b, const struct strv *filters);
int fail_usage(const char *cmd, const struct err *e); /* prints, 125 */
int fail_print(const struct err *e);                  /* prints, 1 */
int not_yet(const char *what);
int usage_help(const char *usage, const char *text);
/* Common start of a command: parses flags; returns -1 to go on, else the exit code. */
int cmd_flags(const char *usage, const struct flag *flags, size_t n, int argc, char **argv, struct strv *rest,
              size_t min, size_t max);
#define CMD_FLAGS(usage, flags, argc, argv, rest, min, max)                                        \
    cmd_flags(usage, flags, ELEMENTS(flags), (argc) - 1, (argv) + 1, rest, min, max)
char *config_file(void); /* ~/.docker/config.json, DOCKER_CONFIG */
void config_dir(const char *dir);
/* X-Registry-Auth for a reference's registry, from the config; into b ("e30" when none). */
void registry_auth(struct buf *b, const char *ref);
void registry_auth_all(struct buf *b); /* X-Registry-Config of a build */
char *ref_registry(const char *ref);   /* "docker.io" and so on; malloc */
bool is_slipway_engine(void);          /* asks once */

/* --- commands ------------------------------------------------------------------------------ */
typedef int (*cmd_fn)(int argc, char **argv); /* argv[0] = the command's name */
struct command {
    const char *name;
    cmd_fn fn;
    const char *text; /* for help; NULL: an alias, not listed */
};
int dispatch(const char *parent, const struct command *cmds, size_t n, int argc, char **argv);

int cmd_version(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_login(int argc, char **argv);
int cmd_logout(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_system(int argc, char **argv);
int cmd_images(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_push(int argc, char **argv);
int cmd_tag(int argc, char **argv);
int cmd_rmi(int argc, char **argv);
int cmd_history(int argc, char **argv);
int cmd_save(int argc, char **argv);
int cmd_load(int argc, char **argv);
int cmd_build(int argc, char **argv);
int cmd_buildx(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_start(int argc, char **argv);
int cmd_attach(int argc, char **argv);
int cmd_exec(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_restart(int argc, char **argv);
int cmd_kill(int argc, char **argv);
int cmd_wait(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_port(int argc, char **argv);
int cmd_rename(int argc, char **argv);
int cmd_diff(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_commit(int argc, char **argv);
int cmd_pause(int argc, char **argv);
int cmd_unpause(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_update(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_cp(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_container(int argc, char **argv);
int cmd_network(int argc, char **argv);
int cmd_volume(int argc, char **argv);
/* Pulls, printing to out. */
int pull_image(const char *ref, const char *platform, bool quiet, FILE *out, struct err *e);
int inspect_names(const char *kind, const struct strv *names, const char *format, bool size);
