#pragma once
/* Credentials of registries from docker's config.json. Internal to image/. */
#include "image/image.h"

struct credential {
    char *user, *pass; /* NULL: none */
    char *identity;    /* an identity (refresh) token instead of a password */
};
void credential_done(struct credential *c); /* zeroes */
/* For a registry as references name it ("docker.io", "localhost:5000"). Finding none is fine (0,
 * all NULL). A helper that fails is a warning to nobody: the next source is asked. */
int credential_find(const struct registry_conf *conf, const char *registry, struct credential *ret, struct err *e);
/* Writes them (auth_file NULL: the user's config.json), through a helper when one is configured. */
int credential_store(const char *auth_file, const char *registry, const char *user, const char *pass, struct err *e);
