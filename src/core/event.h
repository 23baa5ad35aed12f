#pragma once
/* The event: everything that happens is one typed event with ids and times. Masking sits before
 * the single point where events leave (events_emit); sinks (terminal, plain log, JSON stream,
 * stored log, web page) see nothing else and nothing unmasked.
 *
 * EV_OUTPUT carries one or more complete lines of a step ('\n' at each end; a last line without
 * one only at the step's end) and comes already masked by the step's output stream, which is the
 * only other place that masks (core/mask.h, streaming); every other string is masked in
 * events_emit. Thread-safe: emit from any thread; sinks are called one at a time, in order. */
#include "core/err.h"
#include "core/str.h"

struct masker;

enum event_kind {
    EV_RUN_START,   /* text = name of the run */
    EV_RUN_END,     /* outcome */
    EV_JOB_QUEUED,  /* text = display name */
    EV_JOB_START,   /* text = display name, detail = its root ("ubuntu-latest → runner image …") */
    EV_JOB_END,     /* outcome, dur_ns, detail = reason when not success */
    EV_STEP_START,  /* text = display name */
    EV_STEP_END,    /* outcome, conclusion in detail when it differs, dur_ns, code = exit code */
    EV_OUTPUT,      /* text = lines, stream 1 or 2 */
    EV_GROUP,       /* text = title; empty = end of group */
    EV_ANNOTATION,  /* level, text, title in detail, at */
    EV_NOTE,        /* something said about the run, the job or the step: level, text, hint in detail */
    EV_PROGRESS,    /* id in name, text = what, done, total (0 = unknown); done==total: finished */
    EV_CAPTURED,    /* a push that stayed here: name = reference, detail = digest, total = bytes */
    EV_SUMMARY,     /* text = Markdown of a step's summary */
    EV_HELD,        /* held back: name = the action or command, detail = what it would have done, text = step */
};
enum outcome { OUT_NONE, OUT_SUCCESS, OUT_FAILURE, OUT_CANCELLED, OUT_SKIPPED, OUT_UNAVAILABLE, OUT_HELD };
enum event_level { LEVEL_DEBUG, LEVEL_NOTICE, LEVEL_WARNING, LEVEL_ERROR };

struct event {
    enum event_kind kind;
    uint64_t real_ns;   /* wall clock; 0 = filled in by events_emit */
    const char *run;    /* run id */
    const char *job;    /* unique within the run ("test (3.11)"), or NULL */
    uint32_t step;      /* from 1 within the job; 0 = none */
    struct sv text;
    const char *name;
    const char *detail;
    struct span at;
    enum event_level level;
    enum outcome outcome;
    int stream, code;
    uint64_t done, total, dur_ns;
};
const char *event_kind_name(enum event_kind k);
const char *outcome_name(enum outcome o); /* "success", "failure", … as GitHub spells them */
void event_to_json(const struct event *ev, struct buf *b); /* one line, no newline */
/* The reverse; strings live in a. */
struct arena;
int event_from_json(struct arena *a, struct sv line, struct event *ret, struct err *e);

typedef void (*event_sink_fn)(const struct event *ev, void *arg);
struct events; /* the bus */
struct events *events_new(struct masker *m); /* m may be NULL; not owned */
void events_free(struct events *b);
void events_sink(struct events *b, event_sink_fn fn, void *arg);
void events_emit(struct events *b, const struct event *ev);
/* A note about the run, job or step. */
void events_note(struct events *b, const char *run, const char *job, enum event_level level,
                 const char *fmt, ...) _printf_(5, 6);
