#pragma once
/* A shell inside a job: where a step stopped (`run --break`), and in the boxes of failed jobs that
 * outlive their run (`run --keep`, `slipway shell`). A kept job lives as long as the process of its
 * run, which serves it on a unix socket of the store: messages are JSON of one packet each, files
 * travel beside them. */
#include "run/run.h"

struct run_stop {
    const char *job, *step;   /* names */
    unsigned no;
    bool failed;              /* else: it is about to start */
    struct jobx *x;           /* for run_shell */
    const struct strv *env;
    const char *cwd;
};
struct run_shell;
/* argv NULL: the job's own shell. fds NULL: a terminal of rows and cols is made, its master is
 * *ret_tty (the shell's to close); else the process has fds[0..2]. */
int run_shell_open(const struct run_stop *at, const char *const *argv, uint16_t rows, uint16_t cols, const int *fds, struct run_shell **ret,
                   int *ret_tty, struct err *e);
int run_shell_fd(const struct run_shell *s);   /* readable once it has ended */
int run_shell_end(struct run_shell *s);        /* its exit code; frees */

/* --- kept jobs --------------------------------------------------------------------------------- */
struct run;
unsigned run_kept(const struct run *r, void (*fn)(void *arg, const char *job, const char *step), void *arg);
/* Serves them until told to end or after `idle_ns` without a shell; blocks. ready(arg) once it can be
 * reached. */
int run_keep_serve(struct run *r, uint64_t idle_ns, void (*ready)(void *arg), void *arg, struct err *e);
/* The socket of a run: malloc. */
char *run_kept_socket(struct store *s, const char *run_id);

/* One message over such a socket, at most 64 KiB, with at most 3 descriptors. */
#define KEPT_DIR "kept"
int kept_send(int sock, struct sv json, const int *fds, size_t n);
ssize_t kept_receive(int sock, struct buf *json, int fds[3], size_t *ret_n);
