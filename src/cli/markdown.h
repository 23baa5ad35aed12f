#pragma once
/* Markdown on a terminal: what steps write into their summaries. Headings, lists, emphasis, code and links
 * are shown with ANSI codes when `colour`, else the text stays as it is written. Control characters of the
 * text are left out in both cases: it comes from a step. */
#include "core/str.h"

void markdown_show(struct sv text, bool colour, struct buf *out);
