/* A container's processes: top, stats, pause. They are found as descendants of the box's supervisor
 * in /proc; what is in a process namespace below the box's own is the container's, the rest is
 * ours. Pausing is SIGSTOP to all of them at once (a cgroup with a freezer is not there in most
 * places where we run): a process can see it, unlike docker's. */
#include "docker/impl.h"

#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <sys/sysinfo.h>
#include <time.h>

struct task {
    int pid, ppid, tty, depth; /* depth: namespaces it has a number in */
    unsigned uid;
    uint64_t ticks, start, rss;
    char state;
    bool ours;
};
enum { TASKS_MAX = 65536 };

/* The uid as the process's own namespace has it. */
static unsigned uid_inside(int pid, unsigned uid) {
    char path[64];
    struct buf b = BUF_SMALL;
    unsigned in, out, n, r = uid;
    snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
    if (fs_read(AT_FDCWD, path, &b, NULL) >= 0) {
        struct sv rest = buf_sv(&b), line;
        while (sv_line(&rest, &line)) {
            _cleanup_free_ char *s = sv_dup(line);
            if (sscanf(s, "%u %u %u", &in, &out, &n) == 3 && uid >= out && uid - out < n)
                r = in + (uid - out);
        }
    }
    buf_done(&b);
    return r;
}

/* 1, or 0 when it has gone. Source: proc_pid_stat(5), proc_pid_status(5). */
static int task_read(int pid, struct task *t) {
    char path[64];
    _cleanup_buf_ struct buf stat = BUF_MAX(64u << 10), status = BUF_MAX(64u << 10);
    unsigned long long ut, st, start, rss;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (fs_read(AT_FDCWD, path, &stat, NULL) < 0)
        return 0;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    if (fs_read(AT_FDCWD, path, &status, NULL) < 0)
        return 0;
    const char *p = strrchr(buf_str(&stat), ')');
    *t = (struct task){.pid = pid};
    if (!p || sscanf(p + 1, " %c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu %*u %llu", &t->state,
                     &t->ppid, &t->tty, &ut, &st, &start, &rss) != 7)
        return 0;
    t->ticks = ut + st;
    t->start = start;
    t->rss = rss;
    const char *u = strstr(buf_str(&status), "\nUid:"), *n = strstr(buf_str(&status), "\nNSpid:");
    if (!u || sscanf(u + 5, "%u", &t->uid) != 1)
        return 0;
    for (n = n ? n + 7 : ""; *n && *n != '\n'; n++)
        t->depth += *n == '\t';
    return 1;
}

/* Every process of the container, with its main process first. malloc. */
static struct task *tasks_of(const struct ctr *c, size_t *ret_n) {
    struct task *all = NULL;
    size_t n = 0, cap = 0, kept = 0;
    int sup = box_supervisor_pid(c->box), base = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *de; d && n < TASKS_MAX && (de = readdir(d));) {
        uint64_t pid;
        struct task t;
        if (sv_u64(sv_from(de->d_name), INT_MAX, &pid) < 0 || !task_read((int)pid, &t))
            continue;
        GROW(all, cap, n + 1);
        all[n++] = t;
        if (t.pid == sup)
            base = t.depth;
    }
    if (d)
        closedir(d);
    for (bool more = base > 0; more;) {
        more = false;
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n && !all[i].ours; k++)
                if (all[i].ppid == all[k].pid && (all[k].ours || all[k].pid == sup))
                    more = all[i].ours = true;
    }
    for (size_t i = 0; i < n; i++)
        if (all[i].ours && all[i].depth >= base + 2)
            all[kept++] = all[i];
    *ret_n = kept;
    return all;
}

static void cmdline(int pid, struct buf *out) {
    char path[64];
    _cleanup_buf_ struct buf b = BUF_MAX(4u << 20);
    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    if (fs_read(AT_FDCWD, path, &b, NULL) < 0 || !b.n) {
        b.n = 0;
        snprintf(path, sizeof(path), "/proc/%d/comm", pid);
        (void)fs_read(AT_FDCWD, path, &b, NULL);
        buf_addc(out, '[');
        buf_addsv(out, sv_trim(buf_sv(&b)));
        buf_addc(out, ']');
        return;
    }
    for (size_t i = 0; i < b.n; i++)
        buf_addc(out, b.p[i] ? b.p[i] : i + 1 < b.n ? ' ' : 0);
    if (out->n && !out->p[out->n - 1])
        buf_cut(out, out->n - 1, 1);
}

/* A row of `ps -ef` (wide: of `ps aux`). */
static void task_json(struct json_w *w, const struct task *t, bool wide, uint64_t boot, double up) {
    long hz = sysconf(_SC_CLK_TCK);
    char start[16], tty[24] = "?", text[64];
    struct sysinfo si;
    struct tm tm;
    time_t at = (time_t)(boot + t->start / (uint64_t)hz);
    uint64_t cpu = t->ticks / (uint64_t)hz;
    double age = up - (double)t->start / (double)hz, pct = age > 0 ? 100.0 * (double)t->ticks / (double)hz / age : 0;
    localtime_r(&at, &tm);
    strftime(start, sizeof(start), "%H:%M", &tm);
    if (t->tty >> 8 >= 136 && t->tty >> 8 < 144)
        snprintf(tty, sizeof(tty), "pts/%d", (t->tty & 0xff) | (t->tty >> 12 & 0xfff00));
    unsigned uid = uid_inside(t->pid, t->uid);
    sysinfo(&si);
    jw_arr(w);
    snprintf(text, sizeof(text), uid ? "%u" : "root", uid);
    jw_str(w, text);
    snprintf(text, sizeof(text), "%d", t->pid);
    jw_str(w, text);
    if (wide) {
        uint64_t bytes = t->rss * (uint64_t)sysconf(_SC_PAGESIZE);
        const char state[2] = {t->state, 0};
        snprintf(text, sizeof(text), "%.1f", pct);
        jw_str(w, text);
        snprintf(text, sizeof(text), "%.1f", 100.0 * (double)bytes / ((double)si.totalram * si.mem_unit));
        jw_str(w, text);
        snprintf(text, sizeof(text), "%llu", (unsigned long long)(bytes >> 10));
        jw_str(w, text);
        jw_str(w, tty);
        jw_str(w, state);
        jw_str(w, start);
        snprintf(text, sizeof(text), "%llu:%02llu", (unsigned long long)(cpu / 60), (unsigned long long)(cpu % 60));
    } else {
        snprintf(text, sizeof(text), "%d", t->ppid);
        jw_str(w, text);
        snprintf(text, sizeof(text), "%d", (int)pct);
        jw_str(w, text);
        jw_str(w, start);
        jw_str(w, tty);
        snprintf(text, sizeof(text), "%02llu:%02llu:%02llu", (unsigned long long)(cpu / 3600), (unsigned long long)(cpu / 60 % 60),
                 (unsigned long long)(cpu % 60));
    }
    jw_str(w, text);
    _cleanup_buf_ struct buf cmd = BUF_MAX(4u << 20);
    cmdline(t->pid, &cmd);
    jw_sv(w, buf_sv(&cmd));
    jw_end_arr(w);
}

void ctr_top(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    static const char *const ef[] = {"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"},
                      *const aux[] = {"USER", "PID", "%CPU", "%MEM", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"};
    const char *args = httpd_query(rq, "ps_args");
    bool wide = args && (streq(args, "aux") || streq(args, "waux") || streq(args, "auxw") || streq(args, "auxww"));
    if (args && *args && !wide && !streq(args, "-ef") && !streq(args, "ef")) {
        reply_not_yet(rq, "docker top with options of ps other than -ef and aux");
        return;
    }
    if (c->state != CTR_RUNNING) {
        reply_err(rq, 409, "container %s is not running", c->id);
        return;
    }
    struct buf b = BUF_MAX(64u << 20);
    struct json_w w;
    struct timespec up;
    clock_gettime(CLOCK_BOOTTIME, &up);
    uint64_t boot = now_real() / 1000000000 - (uint64_t)up.tv_sec;
    size_t n;
    struct task *all = tasks_of(c, &n);
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_key(&w, "Titles");
    jw_arr(&w);
    for (size_t i = 0; i < (wide ? ELEMENTS(aux) : ELEMENTS(ef)); i++)
        jw_str(&w, wide ? aux[i] : ef[i]);
    jw_end_arr(&w);
    jw_key(&w, "Processes");
    jw_arr(&w);
    for (size_t i = 0; i < n; i++)
        task_json(&w, &all[i], wide, boot, (double)up.tv_sec + (double)up.tv_nsec / 1e9);
    jw_end_arr(&w);
    jw_end_obj(&w);
    free(all);
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
}

/* --- pause ---------------------------------------------------------------------------------- */

void ctr_pause(struct engine *g, struct httpd_req *rq, struct ctr *c, bool pause) {
    if (c->state != CTR_RUNNING || !c->box) {
        reply_err(rq, 409, "Container %s is not running", c->id);
        return;
    }
    if (c->frozen == pause) {
        reply_err(rq, 409, pause ? "Container %s is already paused" : "Container %s is not paused", c->id);
        return;
    }
    int r = box_kill_all(c->box, pause ? SIGSTOP : SIGCONT);
    if (r < 0) {
        reply_err(rq, 500, "cannot %s container %s: %s", pause ? "pause" : "unpause", c->id, strerror(-r));
        return;
    }
    c->frozen = pause;
    ctr_event(c, pause ? "pause" : "unpause");
    reply_empty(rq, 204);
}

/* --- stats ---------------------------------------------------------------------------------- */

struct stats_op {
    struct engine *g;
    struct httpd_req *rq;
    struct ctr *c;
    struct box *box;
    struct box_stats before, now;
    bool two;
    uint64_t at_before, at, system_before, system;
    int r;
};

static void stats_abort(struct httpd_req *rq, void *arg) { ((struct stats_op *)arg)->rq = NULL; }

/* The machine's processor time, all of it, ns. */
static uint64_t system_cpu(void) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    unsigned long long v[8] = {0}, sum = 0;
    if (fs_read(AT_FDCWD, "/proc/stat", &b, NULL) < 0 ||
        sscanf(buf_str(&b), "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) < 4)
        return 0;
    for (int i = 0; i < 8; i++)
        sum += v[i];
    return sum * (1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* Two samples, unless one was asked for: clients make a percentage of the difference. */
static void stats_work(void *arg) {
    struct stats_op *o = arg;
    if (o->two) {
        o->r = box_stats(o->box, &o->before);
        o->at_before = now_real();
        o->system_before = system_cpu();
        if (o->r >= 0)
            nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
    if (o->r >= 0)
        o->r = box_stats(o->box, &o->now);
    o->at = now_real();
    o->system = system_cpu();
}

static void cpu_json(struct json_w *w, const char *key, const struct box_stats *s, uint64_t system) {
    jw_key(w, key);
    jw_obj(w);
    jw_key(w, "cpu_usage");
    jw_obj(w);
    jw_kint(w, "total_usage", (int64_t)s->cpu_ns);
    jw_kint(w, "usage_in_kernelmode", 0);
    jw_kint(w, "usage_in_usermode", 0);
    jw_end_obj(w);
    jw_kint(w, "system_cpu_usage", (int64_t)system);
    jw_kint(w, "online_cpus", system ? get_nprocs() : 0);
    jw_key(w, "throttling_data");
    jw_raw(w, SV("{\"periods\":0,\"throttled_periods\":0,\"throttled_time\":0}"));
    jw_end_obj(w);
}

static void stats_json(const struct stats_op *o, struct json_w *w) {
    struct sysinfo si;
    sysinfo(&si);
    _cleanup_free_ char *name = xasprintf("/%s", o->c->name);
    jw_obj(w);
    jw_kstr(w, "name", name);
    jw_kstr(w, "id", o->c->id);
    time_json(w, "read", o->at);
    time_json(w, "preread", o->at_before);
    jw_key(w, "pids_stats");
    jw_obj(w);
    jw_kint(w, "current", (int64_t)o->now.pids);
    jw_end_obj(w);
    jw_key(w, "blkio_stats");
    jw_raw(w, SV("{\"io_service_bytes_recursive\":null}"));
    jw_kint(w, "num_procs", 0);
    jw_key(w, "storage_stats");
    jw_raw(w, SV("{}"));
    cpu_json(w, "cpu_stats", &o->now, o->system);
    cpu_json(w, "precpu_stats", &o->before, o->system_before);
    jw_key(w, "memory_stats");
    jw_obj(w);
    jw_kint(w, "usage", (int64_t)o->now.memory);
    jw_key(w, "stats");
    jw_raw(w, SV("{}"));
    jw_kint(w, "limit", (int64_t)(o->now.memory_limit ? o->now.memory_limit : (uint64_t)si.totalram * si.mem_unit));
    jw_end_obj(w);
    if (box_ip(o->box)) {
        jw_key(w, "networks");
        jw_obj(w);
        jw_key(w, "eth0");
        jw_obj(w);
        jw_kint(w, "rx_bytes", (int64_t)o->now.net_rx);
        jw_kint(w, "tx_bytes", (int64_t)o->now.net_tx);
        jw_end_obj(w);
        jw_end_obj(w);
    }
    jw_end_obj(w);
}

static void stats_done(struct loop *l, void *arg) {
    struct stats_op *o = arg;
    if (o->rq && o->r < 0)
        reply_err(o->rq, 500, "statistics of container %s: %s", o->c->id, strerror(-o->r));
    else if (o->rq) {
        struct buf b = BUF_MAX(64u << 10);
        struct json_w w;
        jw_init(&w, &b, 0);
        stats_json(o, &w);
        buf_addc(&b, '\n');
        httpd_reply_json(o->rq, 200, &b);
        buf_done(&b);
    }
    ctr_box_done(o->c, o->box);
    ctr_unref(o->c);
    free(o);
}

void ctr_stats(struct engine *g, struct httpd_req *rq, struct ctr *c) {
    if (query_bool(rq, "stream", true)) {
        reply_not_yet(rq, "docker stats that goes on (use --no-stream)");
        return;
    }
    if (!c->box || c->state != CTR_RUNNING) { /* as docker: zeroes */
        struct buf b = BUF_MAX(4096);
        buf_addf(&b, "{\"name\":\"/%s\",\"id\":\"%s\",\"read\":\"0001-01-01T00:00:00Z\",\"preread\":\"0001-01-01T00:00:00Z\","
                     "\"pids_stats\":{},\"cpu_stats\":{\"cpu_usage\":{\"total_usage\":0}},"
                     "\"precpu_stats\":{\"cpu_usage\":{\"total_usage\":0}},\"memory_stats\":{}}\n", c->name, c->id);
        httpd_reply_json(rq, 200, &b);
        buf_done(&b);
        return;
    }
    struct stats_op *o = xcalloc(1, sizeof(*o));
    *o = (struct stats_op){.g = g, .rq = rq, .c = c, .two = !query_bool(rq, "one-shot", false)};
    ctr_ref(c);
    o->box = ctr_box_use(c);
    httpd_on_abort(rq, stats_abort, o);
    engine_job(g, stats_work, stats_done, o);
}

/* --- update --------------------------------------------------------------------------------- */

static void update_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    _cleanup_arena_ struct arena a = {0};
    struct json *j = NULL;
    if (!ok)
        return;
    char *copy = arena_strndup(&a, body.p ? body.p : "", body.n);
    if (json_parse(&a, sv_n(copy, body.n), &j, NULL) < 0 || !j || j->kind != JSON_OBJECT) {
        reply_err(rq, 400, "invalid JSON");
        return;
    }
    for (size_t i = 0; i < j->n; i++) {
        const struct json *v = j->items[i];
        const char *restart = sv_eqs(j->keys[i], "RestartPolicy") ? json_get_str(v, "Name", "") : NULL;
        bool none = restart ? !*restart || streq(restart, "no")
                    : v->kind == JSON_ARRAY || v->kind == JSON_OBJECT ? !v->n
                    : v->kind == JSON_STRING ? !json_sv(v).n : !json_int(v, 0) && !json_bool(v, false);
        if (none)
            continue;
        if (restart)
            reply_err(rq, 501, "not yet: --restart %s", restart);
        else
            reply_err(rq, 501, "not yet: docker update with " SV_FMT, SV_ARG(j->keys[i]));
        return;
    }
    struct buf b = BUF_MAX(4096);
    buf_adds(&b, "{\"Warnings\":[]}");
    httpd_reply_json(rq, 200, &b);
    buf_done(&b);
}

void ctr_update(struct engine *g, struct httpd_req *rq, struct ctr *c) { httpd_collect(rq, 1u << 20, update_body, g); }
