#pragma once
/* The parts of a payload that one event has and others do not. */
#include "expr/value.h"

struct payload_facts {
    const char *action;               /* or NULL */
    const char *server_url, *repository;
    const char *default_branch, *base; /* branch names */
    const char *branch, *tag;         /* what the event is about; one, or neither */
    const char *ref, *sha, *base_sha;
    const char *title, *date;         /* of the last commit */
    const struct value *sender, *repository_value, *commit;
};
const char *payload_usual_action(const char *event); /* NULL: it has none */
/* What github.ref is for an event that is not about what is checked out; NULL: it is. */
const char *payload_usual_ref(struct arena *a, const char *event, const struct payload_facts *f);
void payload_fill(struct arena *a, const char *event, const struct payload_facts *f, struct value *v);
