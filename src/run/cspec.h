#pragma once
/* What `container:` or one of `services:` says, evaluated; an expression in place of the mapping
 * (or of all services) included. */
#include "run/contexts.h"

struct cspec {
    const char *id;            /* of a service */
    struct span at;
    struct sv image;           /* trimmed; empty: none */
    struct sv options, username, password, entrypoint, command;
    const struct value *env;   /* object of strings */
    struct strv ports, volumes;
};
int cspec_read(struct ctx *c, const struct plan_container *pc, struct cspec *ret, struct err *e);
/* From a value: a string (the image), an object, or null. */
int cspec_value(struct ctx *c, const struct value *v, struct span at, struct cspec *ret, struct err *e);
/* Bitbucket: $NAME and ${NAME} of `env` ("K=V") in the image, its credentials and the environment.
 * A name that is not there is empty, and told to `missing` (comma-separated). */
void cspec_expand(struct arena *a, struct cspec *s, const struct strv *env, struct buf *missing);
void cspec_done(struct cspec *s);
