#pragma once
/* The event loop (epoll) and its worker pool. One loop per process, owned by one thread; callbacks
 * run on it. Workers run blocking sequential work; loop_post and work completion are the only
 * crossings (a mailbox with an eventfd). */
#include "core/macro.h"

struct loop;
struct loop_source; /* a watch on a descriptor, a timer, a signal or a child */

typedef void (*loop_io_fn)(struct loop *l, int fd, uint32_t events, void *arg); /* EPOLL* bits */
typedef void (*loop_fn)(struct loop *l, void *arg);
typedef void (*loop_signal_fn)(struct loop *l, int signo, void *arg);

int loop_new(struct loop **ret);
void loop_free(struct loop *l);
int loop_run(struct loop *l);   /* until loop_stop; returns its code */
void loop_stop(struct loop *l, int code);
int loop_once(struct loop *l, int timeout_ms); /* handles what is ready; number of events */

struct loop_source *loop_io(struct loop *l, int fd, uint32_t events, loop_io_fn fn, void *arg);
void loop_io_set(struct loop_source *s, uint32_t events);
struct loop_source *loop_timer(struct loop *l, uint64_t after_ns, uint64_t every_ns, loop_fn fn, void *arg);
void loop_timer_set(struct loop_source *s, uint64_t after_ns);
struct loop_source *loop_signal(struct loop *l, int signo, loop_signal_fn fn, void *arg);
/* Calls fn(status as proc_wait) once the child has ended, and reaps it. */
typedef void (*loop_child_fn)(struct loop *l, pid_t pid, int status, void *arg);
struct loop_source *loop_child(struct loop *l, pid_t pid, loop_child_fn fn, void *arg);
void loop_remove(struct loop_source *s); /* safe inside any callback; NULL is fine; never closes fds */

/* From any thread: runs fn on the loop's thread. Order is kept per posting thread. */
void loop_post(struct loop *l, loop_fn fn, void *arg);
/* Runs work(arg) on a worker, then done(loop, arg) on the loop. Threads are made on demand, up to
 * `max` (loop_workers, default 8). */
void loop_workers(struct loop *l, unsigned max);
void loop_work(struct loop *l, void (*work)(void *arg), loop_fn done, void *arg);

/* CLOCK_MONOTONIC and CLOCK_REALTIME in nanoseconds. */
uint64_t now_mono(void);
uint64_t now_real(void);
/* n random bytes (getrandom), and a random id of n hex digits into out[n+1]. */
void random_bytes(void *p, size_t n);
void random_id(char *out, size_t n);
/* "2026-01-02T03:04:05.678Z" */
void format_time(uint64_t real_ns, char out[32]);
