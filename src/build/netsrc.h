#pragma once
/* Sources from the network: a file behind a URL, a folder of a git repository. For ADD, for named
 * contexts and for a build context. What is fetched is the user's own business (credentials of git
 * are the user's); nothing of it reaches a RUN. Blocking.
 *
 * Source: https://docs.docker.com/build/concepts/context/#git-repositories */
#include "build/graph.h"

enum netsrc_kind { NETSRC_NONE, NETSRC_HTTP, NETSRC_GIT };
/* "https://host/file.tar.gz"; "git://…", "ssh://…", "git@host:path", "https://….git[#ref[:folder]]",
 * "github.com/owner/name". */
enum netsrc_kind netsrc_kind(const char *text);

struct netsrc {
    enum netsrc_kind kind;
    const char *text; /* as written */
    struct span at;
    const char *url, *ref, *subdir; /* git; ref NULL: the default branch */
    const char *checksum;           /* "sha256:…" of a file, or a commit's hash (its beginning), or NULL */
    bool keep_git_dir;
    char commit[41];                /* git: the commit that is there, or "" */
    char tree[33];                  /* the tree snapshot that holds it, once it is here */
};
/* Reads "URL#ref:folder" and "URL?ref=…&subdir=…" (the keys of BuildKit). NULL and an error. */
struct netsrc *netsrc_read(struct arena *a, const char *text, struct err *e);
/* The same, with the error told of the Dockerfile. */
struct netsrc *netsrc_add(struct build *b, const char *text, struct span at);
int netsrc_checksum_ok(const struct netsrc *rm); /* -EINVAL: not of the right form */

/* Fetches into `dir`, an empty folder that is ours (path and descriptor of the same): the file under
 * its own name, or the folder's content. *ret_commit (git): 40 hex. */
int netsrc_fetch(struct store *s, const struct netsrc *rm, const char *path, int dir, const volatile int *cancel,
                 char ret_commit[41], struct err *e);
/* A build context: fetched into a new folder of the lease's scratch (*ret_dir, the caller's). An archive
 * behind a URL is unpacked there; of any other file *ret_file is the name (malloc): a Dockerfile by
 * itself. */
int netsrc_context(struct store *s, struct lease *l, const char *url, const volatile int *cancel, int *ret_dir, char **ret_file,
                   struct err *e);
