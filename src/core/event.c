#include "core/event.h"

#include "core/json.h"
#include "core/loop.h"
#include "core/mask.h"

#include <pthread.h>

static const char *const kind_names[] = {
    "run_start", "run_end", "job_queued", "job_start", "job_end", "step_start", "step_end",
    "output", "group", "annotation", "note", "progress", "captured", "summary", "held"};
static const char *const outcome_names[] = {"", "success", "failure", "cancelled", "skipped",
                                            "unavailable", "held"};
static const char *const level_names[] = {"debug", "notice", "warning", "error"};

const char *event_kind_name(enum event_kind k) {
    return (size_t)k < ELEMENTS(kind_names) ? kind_names[k] : "?";
}
const char *outcome_name(enum outcome o) {
    return (size_t)o < ELEMENTS(outcome_names) ? outcome_names[o] : "";
}

void event_to_json(const struct event *ev, struct buf *b) {
    struct json_w w;
    char time[32];
    jw_init(&w, b, 0);
    jw_obj(&w);
    jw_kstr(&w, "event", event_kind_name(ev->kind));
    format_time(ev->real_ns, time);
    jw_kstr(&w, "time", time);
    jw_key(&w, "ns");
    jw_uint(&w, ev->real_ns);
    if (ev->run)
        jw_kstr(&w, "run", ev->run);
    if (ev->job)
        jw_kstr(&w, "job", ev->job);
    if (ev->step)
        jw_kint(&w, "step", ev->step);
    if (ev->text.p) {
        jw_key(&w, "text");
        jw_sv(&w, ev->text);
    }
    if (ev->name)
        jw_kstr(&w, "name", ev->name);
    if (ev->detail)
        jw_kstr(&w, "detail", ev->detail);
    if (ev->at.file) {
        jw_kstr(&w, "file", ev->at.file);
        jw_kint(&w, "line", ev->at.line);
        jw_kint(&w, "col", ev->at.col);
        jw_kint(&w, "endLine", ev->at.end_line);
        jw_kint(&w, "endCol", ev->at.end_col);
    }
    if (ev->kind == EV_ANNOTATION || ev->kind == EV_NOTE)
        jw_kstr(&w, "level", level_names[ev->level]);
    if (ev->outcome)
        jw_kstr(&w, "outcome", outcome_name(ev->outcome));
    if (ev->kind == EV_OUTPUT)
        jw_kint(&w, "stream", ev->stream);
    if (ev->kind == EV_STEP_END)
        jw_kint(&w, "code", ev->code);
    if (ev->done || ev->total) {
        jw_key(&w, "done");
        jw_uint(&w, ev->done);
        jw_key(&w, "total");
        jw_uint(&w, ev->total);
    }
    if (ev->dur_ns) {
        jw_key(&w, "duration_ns");
        jw_uint(&w, ev->dur_ns);
    }
    jw_end_obj(&w);
}

static size_t index_of(const char *const *names, size_t n, const char *s) {
    for (size_t i = 0; s && i < n; i++)
        if (streq(names[i], s))
            return i;
    return n;
}

int event_from_json(struct arena *a, struct sv line, struct event *ret, struct err *e) {
    struct json *j;
    int r = json_parse(a, line, &j, e);
    if (r < 0)
        return r;
    size_t kind = index_of(kind_names, ELEMENTS(kind_names), json_get_str(j, "event", NULL));
    if (kind == ELEMENTS(kind_names))
        return err_set(e, ERR_USER, -EBADMSG, "not an event of a run");
    struct event ev = {.kind = (enum event_kind)kind};
    ev.real_ns = (uint64_t)json_get_int(j, "ns", 0);
    ev.run = json_get_str(j, "run", NULL);
    ev.job = json_get_str(j, "job", NULL);
    ev.step = (uint32_t)json_get_int(j, "step", 0);
    ev.text = json_sv(json_get(j, "text"));
    ev.name = json_get_str(j, "name", NULL);
    ev.detail = json_get_str(j, "detail", NULL);
    ev.at.file = json_get_str(j, "file", NULL);
    ev.at.line = (uint32_t)json_get_int(j, "line", 0);
    ev.at.col = (uint32_t)json_get_int(j, "col", 0);
    ev.at.end_line = (uint32_t)json_get_int(j, "endLine", 0);
    ev.at.end_col = (uint32_t)json_get_int(j, "endCol", 0);
    size_t level = index_of(level_names, ELEMENTS(level_names), json_get_str(j, "level", "debug"));
    ev.level = level < ELEMENTS(level_names) ? (enum event_level)level : LEVEL_DEBUG;
    size_t out = index_of(outcome_names, ELEMENTS(outcome_names), json_get_str(j, "outcome", ""));
    ev.outcome = out < ELEMENTS(outcome_names) ? (enum outcome)out : OUT_NONE;
    ev.stream = (int)json_get_int(j, "stream", 0);
    ev.code = (int)json_get_int(j, "code", 0);
    ev.done = (uint64_t)json_get_int(j, "done", 0);
    ev.total = (uint64_t)json_get_int(j, "total", 0);
    ev.dur_ns = (uint64_t)json_get_int(j, "duration_ns", 0);
    *ret = ev;
    return 0;
}

/* --- the bus ----------------------------------------------------------------------------------- */

struct events {
    struct masker *masker;
    pthread_mutex_t lock;
    struct sink {
        event_sink_fn fn;
        void *arg;
    } *sinks;
    size_t n, cap;
    struct buf masked[6]; /* kept between events: one emit at a time */
};

struct events *events_new(struct masker *m) {
    struct events *b = xcalloc(1, sizeof *b);
    b->masker = m;
    pthread_mutex_init(&b->lock, NULL);
    for (size_t i = 0; i < ELEMENTS(b->masked); i++)
        b->masked[i].max = 64u << 20;
    return b;
}
void events_free(struct events *b) {
    if (!b)
        return;
    for (size_t i = 0; i < ELEMENTS(b->masked); i++)
        buf_done(&b->masked[i]);
    pthread_mutex_destroy(&b->lock);
    free(b->sinks);
    free(b);
}
void events_sink(struct events *b, event_sink_fn fn, void *arg) {
    pthread_mutex_lock(&b->lock);
    GROW(b->sinks, b->cap, b->n + 1);
    b->sinks[b->n++] = (struct sink){fn, arg};
    pthread_mutex_unlock(&b->lock);
}

/* A text too large to be masked is not shown at all: nothing leaves unmasked. */
static struct sv masked(struct events *b, size_t slot, struct sv v) {
    if (!v.p || !v.n)
        return v;
    buf_reset(&b->masked[slot]);
    if (!mask_text(b->masker, v, &b->masked[slot]))
        return v;
    return buf_ok(&b->masked[slot]) ? buf_sv(&b->masked[slot]) : SV("***");
}

void events_emit(struct events *b, const struct event *in) {
    struct event ev = *in;
    if (!ev.real_ns)
        ev.real_ns = now_real();
    pthread_mutex_lock(&b->lock);
    if (b->masker && !masker_empty(b->masker)) {
        if (ev.kind != EV_OUTPUT)
            ev.text = masked(b, 0, ev.text);
        if (ev.name)
            ev.name = masked(b, 1, sv_from(ev.name)).p;
        if (ev.detail)
            ev.detail = masked(b, 2, sv_from(ev.detail)).p;
        if (ev.job)
            ev.job = masked(b, 3, sv_from(ev.job)).p;
        if (ev.at.file)
            ev.at.file = masked(b, 4, sv_from(ev.at.file)).p;
    }
    for (size_t i = 0; i < b->n; i++)
        b->sinks[i].fn(&ev, b->sinks[i].arg);
    pthread_mutex_unlock(&b->lock);
}

void events_note(struct events *b, const char *run, const char *job, enum event_level level,
                 const char *fmt, ...) {
    _cleanup_buf_ struct buf text = BUF_SMALL;
    va_list ap;
    va_start(ap, fmt);
    buf_addv(&text, fmt, ap);
    va_end(ap);
    events_emit(b, &(struct event){.kind = EV_NOTE, .run = run, .job = job, .level = level, .text = buf_sv(&text)});
}
