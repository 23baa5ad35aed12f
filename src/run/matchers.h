#pragma once
/* Problem matchers: patterns that find errors and warnings in what a step prints
 * (`::add-matcher::FILE`, a JSON document). Source: actions/runner IssueMatcher; its rules on
 * several patterns, loops, defaults and owners are kept. */
#include "core/err.h"
#include "core/str.h"

#define MATCHERS_MAX (1u << 20) /* of a document */

struct matchers;
struct issue {
    const char *severity;  /* "error", "warning", "notice" */
    struct sv message, file, from_path, code;
    uint32_t line, col;
};
struct matchers *matchers_new(void);
void matchers_free(struct matchers *m);
/* Adds all matchers of a document; one of the same owner is replaced. ERR_CONFIG: none is added. */
int matchers_add(struct matchers *m, struct sv json, struct err *e);
void matchers_remove(struct matchers *m, struct sv owner);
/* The owners that a document names (for remove-matcher with a file). */
int matchers_owners(struct sv json, struct strv *ret, struct err *e);
bool matchers_empty(const struct matchers *m);
/* One line without its newline, colours taken out by the caller. True: *ret tells what it is (views
 * of the line or of m, valid until the next call). */
bool matchers_line(struct matchers *m, struct sv line, struct issue *ret);
/* Copies `in` without SGR sequences to out (reset before). */
void matchers_plain(struct sv in, struct buf *out);
