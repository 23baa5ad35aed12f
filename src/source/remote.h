#pragma once
/* Repositories that `uses:` names: of actions and of called workflows. Looked for in this order: a
 * folder given for it (--local-repository), the mirror, the server. What was fetched is kept in the
 * user's cache by commit. Everything is done by the user's own git, outside any job. Blocking;
 * thread-safe (a lock per repository in the cache). */
#include "source/git.h"
#include "source/lock.h"

struct remote_conf {
    const char *mirror;        /* a folder of OWNER/REPO.git, or a URL: "{owner}" and "{repo}" are
                                  replaced, else "/OWNER/REPO.git" is appended; NULL: none */
    const char *server_url;    /* NULL: https://github.com */
    const char *cache_dir;     /* NULL: dir_cache() */
    const struct strv *local;  /* "OWNER/REPO[@REF]=DIR", or NULL */
    const struct lock *lock;   /* or NULL: nothing is pinned */
    bool offline;              /* local folders, a mirror's folder and the cache only */
};
struct remote_at {
    char *dir;  /* a repository (bare or not), or a plain folder when sha is NULL */
    char *sha;  /* NULL: the folder's files as they are (a local repository) */
    char *ref;  /* "refs/tags/v4", "refs/heads/main"; as written where it is not known */
};
/* "owner/repo" and a branch, tag or commit. A reference that is pinned to another commit is
 * ERR_CONFLICT and says what to do. */
int remote_find(const struct remote_conf *c, const char *repo, const char *ref, struct remote_at *ret, struct err *e);
void remote_at_done(struct remote_at *at);
#define _cleanup_remote_ _cleanup_(remote_at_done)
/* One file of it (path relative to the repository). -ENOENT when it is not there. */
int remote_read(const struct remote_at *at, const char *path, struct buf *out, struct err *e);
/* All its files as a folder of the cache, made once per commit as an archive of the forge has them
 * (export-ignore counts); of a local folder that folder. malloc. */
int remote_files(const struct remote_conf *c, const char *repo, const struct remote_at *at, char **ret_dir, struct err *e);

/* "owner/repo[/path]@ref" in parts (malloc); false when it is not of that form. *path is "" for the
 * top. Parts with "..", empty ones and control characters are refused. */
bool remote_split(const char *uses, char **repo, char **path, char **ref);
/* Checks "OWNER/REPO[@REF]=DIR". */
int remote_local_option(const char *arg, struct err *e);
