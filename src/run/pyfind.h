#pragma once
/* Where this machine has Pythons for jobs: hosted tool caches, uv, pyenv. A prefix is a folder with
 * bin/python3 and lib; a job gets it through a tree snapshot, whose copy is kept by the store. */
#include "core/err.h"
#include "run/pyver.h"

struct py_prefix {
    struct pyver version;
    char *path;         /* of the prefix, on the host */
    const char *source; /* "tool cache", "uv", "pyenv", "fetched" */
};
struct py_list {
    struct py_prefix *items; /* newest first */
    size_t n, cap;
    struct buf looked; /* "pyenv (/root/.pyenv/versions): 3.12.1, 3.11.7; uv: …" for messages */
};
/* `cache_dir`: where fetched ones lie. */
void py_find(struct py_list *ret, const char *cache_dir);
void py_list_done(struct py_list *l);
#define _cleanup_py_list_ _cleanup_(py_list_done)
/* Fetches the newest release that `range` allows from python-build-standalone: the release's
 * SHA256SUMS say what there is, the archive must agree. Gives the prefix. */
int py_fetch(const char *base_url, const char *range, bool allow_pre, const char *cache_dir, const volatile int *cancel,
             void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct py_prefix *ret, struct err *e);
