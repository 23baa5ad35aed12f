#pragma once
/* What a run leaves to read: reports (--report junit=|json=|md=FILE), a timeline (--timings), the
 * summaries of its steps. A sink that keeps what the events tell, without the output. */
#include "core/event.h"

struct report;
struct report *report_new(void);
void report_free(struct report *r);
void report_sink(const struct event *ev, void *report); /* an event_sink_fn */
/* "junit=FILE", "json=FILE", "md=FILE": is it one? */
bool report_spec_ok(const char *spec);
int report_write(const struct report *r, const char *spec, struct err *e);
/* A bar for each job, and the jobs that the run's time is made of. */
void report_timings(const struct report *r, FILE *out, unsigned width, bool colour);
/* All step summaries as one Markdown text; empty when there is none. */
void report_summaries(const struct report *r, struct buf *out);
/* Markdown for a terminal: headings, emphasis, code, lists and tables; HTML is taken out. */
void report_render(struct sv markdown, bool colour, struct buf *out);
/* Steps whose test runner said that it ran no test: "job › step: what it said". */
const struct strv *report_no_tests(const struct report *r);
