#pragma once
/* Inside of the engine. Threads: handlers, input/output and every change of a container's state
 * run on the loop's thread, under g->mu; blocking work (box_create, builds, pulls) runs on workers
 * and takes g->mu only to look something up. Other threads (engine_start and so on) read state
 * under g->mu and wait on g->changed. So code on the loop's thread may read without the lock. */
#include "core/fs.h"
#include "core/json.h"
#include "core/map.h"
#include "docker/engine.h"

#include <pthread.h>

#define ENGINE_API "1.44"
#define ENGINE_API_MIN "1.24"

enum ctr_state { CTR_CREATED, CTR_RUNNING, CTR_EXITED };
static inline const char *ctr_state_name(enum ctr_state s) {
    return s == CTR_CREATED ? "created" : s == CTR_RUNNING ? "running" : "exited";
}

/* --- log.c: a container's output, bounded: two unlinked segments of LOG_SEGMENT bytes ------- */
enum { LOG_SEGMENT = 32 << 20, LOG_CHUNK = 64 << 10 };
struct log_record {
    uint64_t ns;
    uint32_t len;
    uint8_t stream, pad[3];
};
struct clog {
    int fd[2];
    uint64_t start[2], len[2]; /* logical offset of the segment, bytes in it */
    int cur;
};
int clog_open(struct clog *l, int scratch_dir);
void clog_close(struct clog *l);
int clog_append(struct clog *l, int stream, uint64_t ns, const void *p, size_t n);
uint64_t clog_end(const struct clog *l);
uint64_t clog_begin(const struct clog *l);
/* The record at *off (moved forward when that was dropped already): 1, 0 at the end. *off becomes
 * the next one. p holds LOG_CHUNK bytes. */
int clog_read(const struct clog *l, uint64_t *off, struct log_record *h, void *p);

/* --- io.c: readers of a log ----------------------------------------------------------------- */
struct ctr;
struct follower {
    struct follower *next;
    struct ctr *c;
    uint64_t off;
    bool want[3], stamps, follow, frames, blocked, attach;
    bool until_started; /* attached before the start: stays until that run has ended */
    bool mid[3]; /* within a line, per stream */
    uint64_t since, until; /* ns; 0 = none */
    uint64_t skip;         /* lines */
    int (*write)(void *arg, struct sv data); /* 1: full; wait for resume */
    void (*end)(void *arg);                  /* the follower is gone after */
    void *arg;
};
void follower_add(struct ctr *c, struct follower *f);
void follower_remove(struct follower *f);
void follower_pump(struct follower *f);
uint64_t log_count_lines(struct ctr *c, const bool want[3]);

/* A hijacked connection. */
struct conn {
    struct loop *l;
    int fd;
    struct loop_source *src;
    struct buf out;
    size_t out_at;
    bool read_off, eof, dead, closing;
    void (*data)(void *arg, const char *p, size_t n); /* n == 0: half-close */
    void (*drained)(void *arg);
    void (*gone)(void *arg); /* once, from the loop; not after conn_close */
    void *arg;
};
struct conn *conn_new(struct loop *l, int fd);
int conn_write(struct conn *c, struct sv data); /* 1: more than a little waits */
void conn_frame(struct conn *c, bool frames, int stream, struct sv data, int *full);
void conn_pause(struct conn *c, bool pause);
void conn_close(struct conn *c); /* after what waits was written; frees itself */
void conn_start(struct conn *c, struct buf *early);

/* Writing to a process's stdin from what clients send. */
struct feeder {
    struct loop *l;
    int fd;
    struct loop_source *src;
    struct buf q;
    bool eof;
    void (*room)(void *arg);
    void *arg;
};
void feeder_set(struct feeder *f, struct loop *l, int fd);
bool feeder_put(struct feeder *f, const char *p, size_t n); /* false: enough for now */
void feeder_eof(struct feeder *f);
void feeder_close(struct feeder *f);

/* --- containers ----------------------------------------------------------------------------- */
struct port_map {
    uint16_t target, host, got; /* got: published */
    char proto[5], ip[46];
    bool want; /* published at all */
};
struct ctr_mount {
    char *type, *source, *target, *name; /* bind, volume, tmpfs */
    bool rw;
    uint64_t size;
};
struct health_log {
    uint64_t start, end;
    int code;
    char *output;
};
struct health {
    bool on, probing, early, ok_once;
    struct strv test; /* argv */
    uint64_t interval, timeout, start_period, start_interval;
    int retries, streak;
    uint64_t early_delay, next_regular;
    enum { HEALTH_NONE, HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY } status;
    struct health_log log[5];
    size_t n_log;
    struct loop_source *timer;
    struct probe *probe;
};
struct waiter {
    struct waiter *next;
    enum { WAIT_NOT_RUNNING, WAIT_NEXT_EXIT, WAIT_REMOVED } cond;
    void (*fn)(void *arg, int code); /* once */
    void *arg;
};
struct ctr {
    struct engine *g;
    char id[65], *name;
    int refs;
    bool removed, auto_remove, busy;
    struct arena a;
    struct json *body; /* as it was asked for; parts are echoed by inspect */
    char *image_name;
    char image_id[DIGEST_LEN + 1];
    struct strv layers; /* top first */
    struct strv argv, env, aliases, labels, hosts, dns, cap_add, cap_drop, exposed, shell;
    struct strv entrypoint, cmd;
    bool has_cmd, has_entrypoint;
    char *hostname, *user, *workdir, *network, *stop_signal;
    int stop_timeout;
    bool tty, open_stdin, stdin_once, privileged, readonly, service;
    struct box_limits limits;
    struct port_map ports[64];
    size_t n_ports;
    struct ctr_mount mounts[64];
    size_t n_mounts;
    /* state */
    enum ctr_state state;
    int exit_code, pid;
    bool oom;
    char error[1000];
    uint64_t created, started, finished;
    struct box *box;
    unsigned box_users; /* jobs on workers that use it: a removal waits for them */
    struct removal *removal;
    struct box_proc *proc;
    struct loop_source *proc_src, *grace;
    bool proc_ended;
    int out_fd[3]; /* 1, 2, or the terminal in 1 */
    struct loop_source *out_src[3];
    bool paused; /* its output is not read: a reader lags */
    bool frozen; /* docker pause */
    struct feeder in;
    struct clog log;
    struct follower *followers;
    struct waiter *waiters;
    struct health health;
    uint64_t manual_stop;
};
struct volume {
    char *name;
    char snap[33];
    int dir; /* O_PATH of snap/<id> */
    uint64_t created;
    bool filled, kept; /* kept: recorded, outlives the engine */
    struct strv labels;
};
struct network {
    char *name, id[65];
    uint64_t created;
    struct strv labels;
};
struct exec_inst;
struct ev_sub;

struct engine {
    struct engine_options o;
    struct pull_options pulls;
    struct registry_conf no_conf;
    struct httpd *http;
    struct loop *loop;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    pthread_t loop_thread;
    bool loop_known, stopping;
    volatile int cancel;
    unsigned jobs;  /* worker jobs under way */
    unsigned alive; /* containers in memory, removed ones that somebody still refers to included */
    struct map ctrs;    /* id -> ctr */
    struct map execs;   /* id -> exec_inst */
    struct map volumes; /* name -> volume */
    struct map networks;
    char net_id[65];
    struct box_net *own_net;
    pthread_mutex_t net_mu;
    char *socket;
    struct buf events; /* the last ones, JSON lines */
    struct ev_sub *subs;
    uint64_t last_use;
};

/* engine.c */
typedef void (*job_fn)(void *arg);
/* loop_work that engine_free waits for. */
void engine_job(struct engine *g, job_fn work, loop_fn done, void *arg);
/* Runs fn on the loop's thread and waits for it (at once when this is it). */
void engine_call(struct engine *g, void (*fn)(void *arg), void *arg);
void reply_err(struct httpd_req *rq, int status, const char *fmt, ...) _printf_(3, 4);
void reply_errp(struct httpd_req *rq, const struct err *e);
int status_of(const struct err *e);
void reply_empty(struct httpd_req *rq, int status);
void reply_not_yet(struct httpd_req *rq, const char *what);
bool query_bool(struct httpd_req *rq, const char *key, bool dflt);
int engine_net(struct engine *g, struct err *e); /* makes the network when it is absent; blocking */
void time_json(struct json_w *w, const char *key, uint64_t ns);
void labels_json(struct json_w *w, const char *key, const struct strv *labels);
/* filters={"k":["v"]} or {"k":{"v":true}}: parsed; NULL without. */
const struct json *query_filters(struct httpd_req *rq, struct arena *a);
/* Does any value of the filter fit? true when the key is not there. */
bool filter_has(const struct json *filters, const char *key, bool (*fit)(const char *value, void *arg), void *arg);
bool filter_labels(const struct json *filters, const struct strv *labels);
/* The i-th path element after the first; the rest as one string. */
void engine_event(struct engine *g, const char *type, const char *action, const char *id, const char *const *attrs);
void ctr_event(struct ctr *c, const char *action);

/* create.c: from the JSON body to a container with its box. Blocking; the container is not yet
 * known to the engine. status is the HTTP status of a failure. */
int ctr_create(struct engine *g, struct sv body, const char *name, struct strv *warnings, struct ctr **ret, int *status, struct err *e);
void ctr_ref(struct ctr *c);
void ctr_unref(struct ctr *c);
int ctr_publish(struct engine *g, struct ctr *c, struct err *e); /* registers; on the loop */
/* Blocking part of a start (any thread), then the loop's part. */
struct started {
    struct box_proc *proc;
    int fd[3];
    struct port_map ports[64];
};
void ctr_unpublish(struct engine *g, const struct port_map *p);
int ctr_start_work(struct ctr *c, struct started *s, struct err *e);
void ctr_start_done(struct ctr *c, struct started *s);
void ctr_start_failed(struct ctr *c, const struct err *e, int code);
/* containers.c */
struct ctr *ctr_find(struct engine *g, const char *name); /* name, id, unique prefix; on the loop */
void ctr_wait(struct ctr *c, struct waiter *w);
void ctr_unwait(struct ctr *c, struct waiter *w);
void ctr_kill_now(struct ctr *c, int signo);
int signal_parse(const char *s);
/* Starts removing: destroys the box on a worker; then waiters of WAIT_REMOVED and fn are told. */
void ctr_remove(struct ctr *c, void (*fn)(void *arg), void *arg);
/* On the loop, around a job that works on the box: the box (NULL when the container is going), and
 * the end of that use. */
struct box *ctr_box_use(struct ctr *c);
void ctr_box_done(struct ctr *c, struct box *used);
void ctr_listen(struct ctr *c, bool on); /* to its output */
void ctr_exited(struct ctr *c); /* state change after the process has ended and its output too */
void containers_handle(struct engine *g, struct httpd_req *rq, const char *rest);
/* ctr_json.c */
void ctr_inspect_json(struct ctr *c, struct json_w *w);
void ctr_list_json(struct ctr *c, struct json_w *w);
const char *health_name(const struct ctr *c);
/* logs and attach: attach.c */
void ctr_logs(struct engine *g, struct httpd_req *rq, struct ctr *c);
void ctr_attach(struct engine *g, struct httpd_req *rq, struct ctr *c);
/* exec.c */
void exec_create(struct engine *g, struct httpd_req *rq, struct ctr *c);
void exec_handle(struct engine *g, struct httpd_req *rq, const char *rest);
void exec_free_all(struct engine *g, struct ctr *c); /* those of one container, or all (NULL) */
void exec_ids_json(struct engine *g, struct ctr *c, struct json_w *w);
/* archive.c */
void ctr_archive(struct engine *g, struct httpd_req *rq, struct ctr *c);
int engine_scratch(struct engine *g, struct err *e); /* an unlinked file of the scratch folder */
/* changes.c: what a container has written (diff, export, commit). */
void ctr_changes(struct engine *g, struct httpd_req *rq, struct ctr *c);
void ctr_export(struct engine *g, struct httpd_req *rq, struct ctr *c);
void commit_handle(struct engine *g, struct httpd_req *rq);
/* procs.c: a container's processes. */
void ctr_top(struct engine *g, struct httpd_req *rq, struct ctr *c);
void ctr_stats(struct engine *g, struct httpd_req *rq, struct ctr *c);
void ctr_pause(struct engine *g, struct httpd_req *rq, struct ctr *c, bool pause);
void ctr_update(struct engine *g, struct httpd_req *rq, struct ctr *c);
/* health.c */
void health_init(struct ctr *c, const struct json *given, const struct image_health *image);
void health_start(struct ctr *c);
void health_stop(struct ctr *c);
void health_done(struct ctr *c);
/* images.c, build_api.c, system.c */
void images_handle(struct engine *g, struct httpd_req *rq, const char *rest);
void build_handle(struct engine *g, struct httpd_req *rq);
void auth_handle(struct engine *g, struct httpd_req *rq);
void system_handle(struct engine *g, struct httpd_req *rq, const char *what);
void events_handle(struct engine *g, struct httpd_req *rq);
void networks_handle(struct engine *g, struct httpd_req *rq, const char *rest);
void volumes_handle(struct engine *g, struct httpd_req *rq, const char *rest);
struct volume *volume_get(struct engine *g, const char *name, bool create, struct err *e);
void volume_free(struct engine *g, struct volume *v);
/* volume_store.c: on the loop, but volume_keep (any thread, under g->mu). */
int volume_keep(struct engine *g, struct volume *v, struct err *e);
void volumes_load(struct engine *g); /* what was kept and is not known yet; under g->mu */
bool volume_used(struct engine *g, const struct volume *v, const struct ctr **by);
void volume_remove(struct engine *g, struct volume *v);
void volumes_prune(struct engine *g, struct httpd_req *rq);
bool network_known(struct engine *g, const char *name);
void networks_init(struct engine *g);
void network_free(void *p);

/* prune.c */
void images_prune(struct engine *g, struct httpd_req *rq);
void networks_prune(struct engine *g, struct httpd_req *rq);

/* stream.c: an answer of JSON lines written by a worker. */
struct stream;
struct stream *stream_new(struct engine *g, struct httpd_req *rq);
void stream_line(struct stream *s, struct sv json); /* any thread; waits while the client is slow */
void stream_status(struct stream *s, const char *id, const char *fmt, ...) _printf_(3, 4);
void stream_text(struct stream *s, const char *fmt, ...) _printf_(2, 3); /* {"stream": …} */
void stream_error(struct stream *s, const struct err *e);
const volatile int *stream_cancel(struct stream *s);
void stream_end(struct stream *s); /* on the loop; frees */
void stream_progress(void *arg, const char *id, const char *what, uint64_t done, uint64_t total);
int header_auth(struct httpd_req *rq, const char *header, struct arena *a, const char **user, const char **pass);
