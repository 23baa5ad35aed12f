#pragma once
/* What a person sees of a build. plain: one line for each thing that happens, "#3 …", as docker
 * prints it. live: finished steps stay, running ones are redrawn with their time and the last lines
 * they wrote. quiet: nothing. A failed step's output is always shown. */
#include "build/build.h"

enum build_ui_mode { BUILD_UI_PLAIN, BUILD_UI_LIVE, BUILD_UI_QUIET, BUILD_UI_JSON };
struct build_ui;
/* out is where it goes (stderr). explain: says for each step why it was not cached. */
struct build_ui *build_ui_new(FILE *out, enum build_ui_mode mode, bool colour, bool explain);
void build_ui_event(void *ui, const struct build_event *ev); /* a build_request.event */
void build_ui_end(struct build_ui *u, bool ok);              /* ends the live part */
void build_ui_free(struct build_ui *u);
