#pragma once
/* Child processes: always an argument vector, never a shell string; posix_spawn, never a fork of
 * a large process. Unless said otherwise a child gets exactly the descriptors that are named. */
#include "core/err.h"
#include "core/str.h"

#include <signal.h>
#include <sys/types.h>

struct proc_fd {
    int child, parent; /* parent's descriptor `parent` becomes `child` in the child */
};
struct proc_spec {
    const char *const *argv; /* argv[0] is searched in PATH unless it has a '/' */
    const char *const *envp; /* NULL = ours */
    int cwd_fd;              /* 0 or negative = ours */
    const char *cwd;         /* or NULL */
    struct proc_fd fds[16];  /* 0,1,2 not named: /dev/null, or inherited with inherit_stdio */
    size_t n_fds;
    bool inherit_stdio;
    bool new_session;
};
int proc_spawn(const struct proc_spec *s, pid_t *ret_pid, struct err *e);
/* Exit status as a shell has it: 0..255, 128+signal. Negative errno on failure of waitpid. */
int proc_wait(pid_t pid);
/* Runs to the end: stdin from `in` (may be empty), stdout into out, stderr into errout (either
 * may be NULL = /dev/null; bounded by their max, the rest is read and dropped). Returns the exit
 * status >= 0, or negative errno when it could not be started or timed out (timeout_ms > 0,
 * -ETIMEDOUT, killed). */
int proc_run(const struct proc_spec *s, struct sv in, struct buf *out, struct buf *errout,
             int timeout_ms, struct err *e);
/* Convenience: argv as a NULL-terminated list, stdout captured and right-trimmed; a non-zero exit
 * sets e with the last line of stderr and returns -ECHILD. */
int proc_output(struct buf *out, struct err *e, const char *argv0, ...) __attribute__((sentinel));
/* Our own binary for re-execution: "/proc/self/exe" opened once, O_CLOEXEC. */
const char *proc_self(void);
/* A child that is going and that nobody waits for: it is reaped at some later call. */
void proc_leave(pid_t pid);
char *proc_find(const char *program); /* in PATH plus the sbin folders, malloc or NULL */
int proc_pidfd(pid_t pid);
