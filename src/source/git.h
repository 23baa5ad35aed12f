#pragma once
/* git, by the git program. All reading of a repository goes through here; refs that look like
 * options are refused; the user's hooks and config that run programs are off (core.fsmonitor,
 * core.hooksPath). Blocking. */
#include "core/err.h"
#include "core/str.h"

struct git_remote { char *name, *url, *host, *owner, *repo; }; /* host "github.com", owner may hold '/' */
struct git_info {
    char *worktree;      /* absolute */
    char *git_dir;
    char *head_sha;      /* 40 hex, or 40 zeros without a commit */
    char *parent_sha;    /* of HEAD's first parent, or NULL (none, or not here: a shallow clone) */
    char *branch;        /* checked-out branch, or NULL (detached) */
    char *tag;           /* a tag that points at HEAD when detached, or NULL */
    char *upstream;      /* "refs/remotes/origin/main", or NULL; it may not be there (yet) */
    char *author_name, *author_email, *message, *committer_date;
    char *default_branch; /* origin/HEAD, init.defaultBranch, main */
    struct git_remote *remotes; size_t n_remotes;
    bool bare_repo_missing; /* bare_repo_missing: not a git repository at all */
};
int git_info_read(const char *dir, struct git_info *ret, struct err *e);
void git_info_done(struct git_info *g);
bool git_dirty(const char *dir); /* something is not committed; looks at the whole work tree */
/* Parses https, ssh, scp-like and file URLs of a forge. */
bool git_url_parse(const char *url, char **ret_host, char **ret_owner, char **ret_repo);
/* rev -> commit sha. */
int git_resolve(const char *dir, const char *rev, char sha[41], struct err *e);
int git_show(const char *dir, const char *rev, const char *path, struct buf *out, struct err *e); /* -ENOENT */
/* git obeys the configuration of the repository that it works in, up to running programs (filters, a promisor's
 * uploadpack): one that somebody else may have written is asked this first. -EPERM: it sets more than how the
 * repository is laid out and where it came from. */
int git_config_harmless(const char *dir, struct err *e);
int git_ls_tree(const char *dir, const char *rev, const char *path, struct strv *ret, struct err *e);
/* Paths of the submodules that the index has, of this level only. */
int git_submodules(const char *dir, struct strv *ret, struct err *e);
/* Paths of the work tree as checkout would bring them plus new files: tracked and untracked but
 * not ignored, submodules included. with_ignored: everything but .git. */
int git_ls_worktree(const char *dir, bool with_ignored, struct strv *ret, struct err *e);
/* Changed paths: base..head two-dot; head NULL = work tree (untracked included). */
int git_changed(const char *dir, const char *base, const char *head, struct strv *ret, struct err *e);
int git_merge_base(const char *dir, const char *a, const char *b, char sha[41], struct err *e);
/* A clean checkout of a commit into an empty folder, with a .git of its own (shared objects copied
 * by depth). */
int git_export(const char *dir, const char *sha, const char *dest, int depth, struct err *e);
/* Fetches the submodules of a checkout that git_export made (`url`: what their relative URLs are
 * meant from), by the user's own git. mirror: a folder of OWNER/REPO.git that stands for `server`, or
 * NULL. depth 0: all. */
int git_submodule_update(const char *dir, const char *url, bool recursive, int depth, const char *server, const char *mirror, struct err *e);
/* The files of a commit as an archive of it has them (export-ignore and export-subst count), into an
 * empty folder. */
int git_unpack(const char *dir, const char *sha, const char *dest, struct err *e);
/* A shallow fetch of one ref from a URL into a cached bare repository; gives its folder and the
 * commit. The user's own credentials, outside any job. offline: only what is cached. */
int git_fetch(const char *url, const char *ref, const char *cache_dir, bool offline, char **ret_dir, char sha[41], struct err *e);
/* The folder of objects (of the common repository, when dir is a linked work tree), malloc. */
int git_objects_dir(const char *dir, char **ret, struct err *e);
/* "<sha> <full ref name>" per ref of heads, tags and remotes. */
int git_refs(const char *dir, struct strv *ret, struct err *e);
/* Writes an index file that holds the tree of a commit; the repository's own index stays untouched. */
int git_write_index(const char *dir, const char *sha, const char *index_file, struct err *e);
