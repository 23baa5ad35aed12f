#pragma once
/* What a person sees of a run: sinks of its events.
 *
 * live:  on a terminal: finished steps stay, below them one line for each running job with its step
 *        and elapsed time, redrawn ten times a second; a failed step's output is printed whole;
 *        groups are folded. verbose streams all output above the live lines.
 * plain: no terminal: prefixed lines ("job | text"), nothing redrawn.
 * json:  one event a line.
 * All end with a summary (but json). Output of steps is cleaned: of control sequences only colours
 * pass, and only when `colour`. */
#include "core/event.h"

enum ui_mode { UI_LIVE, UI_PLAIN, UI_JSON };
struct ui_options {
    enum ui_mode mode;
    bool verbose, quiet, colour;
    FILE *out;
    unsigned width;
};
struct ui;
struct ui *ui_new(const struct ui_options *o);
void ui_sink(const struct event *ev, void *ui); /* an event_sink_fn */
/* Ends the live part and prints the summary table. */
void ui_finish(struct ui *u);
/* The terminal is somebody else's between the two; whoever tells something meanwhile waits. */
void ui_pause(struct ui *u);
void ui_resume(struct ui *u);
void ui_free(struct ui *u);
/* Appends text with control sequences removed; keeps SGR when colour. */
void ui_clean(struct sv text, bool colour, struct buf *out);

/* The stored log: events.jsonl of a run, bounded by `max` bytes of output per job; past that says so
 * once and counts. Used by `slipway logs`. */
struct log_sink;
int log_sink_new(struct log_sink **ret, int run_dirfd, uint64_t max, struct err *e);
void log_sink_event(const struct event *ev, void *log);
void log_sink_free(struct log_sink *l);
