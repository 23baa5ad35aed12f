#pragma once
/* Image references: "[registry[:port]/]path[:tag][@digest]", Docker's normalisation
 * ("app" = docker.io/library/app:latest). Source: distribution/reference grammar. */
#include "core/err.h"
#include "core/str.h"

struct image_ref {
    char registry[256]; /* "docker.io", "localhost:5000" */
    char path[256];     /* "library/python" */
    char tag[129];      /* "" when only a digest was given */
    char digest[72];    /* "" or sha256:… */
};
int ref_parse(const char *s, struct image_ref *ret, struct err *e);
void ref_format(const struct image_ref *r, struct buf *b);   /* full: docker.io/library/python:3.11 */
void ref_familiar(const struct image_ref *r, struct buf *b); /* short: python:3.11 */
