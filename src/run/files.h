#pragma once
/* Work on many of a job's files at once: digests, zip archives of artifacts, tar archives of caches.
 *
 * The files belong to ids of the store's mapping, and a path means what the job's box sees. So the work is
 * done by a helper in the store's user namespace (the operation "files"), which has a descriptor of the
 * box's root and resolves every path inside it; a job on the host has it done by this process, as the
 * user. Blocking. */
#include "core/arena.h"
#include "core/err.h"
#include "run/glob.h"

struct jobx;
enum files_what {
    FILES_LIST,   /* the matches */
    FILES_DIGEST, /* hashFiles: sha256 over the sha256 of each file below cwd that matches */
    FILES_ZIP,    /* fd: an empty file, for reading and writing. Names are below the patterns' common folder */
    FILES_UNZIP,  /* fd: the archive, into dest */
    FILES_TAR,    /* fd: gets zstd. Folders with all below, names relative to cwd */
    FILES_UNTAR,  /* fd: zstd, gzip or plain. Only what the patterns could have named is written */
};
struct files_req {
    enum files_what what;
    const char *patterns;       /* lines; glob.h */
    unsigned flags;             /* enum glob_flags */
    const char *cwd, *home;     /* absolute, in the job */
    const char *dest;
    const char *owner;          /* of what is made: "name", "uid[:gid]"; NULL = as the process has it */
    int level;                  /* of compression */
    uint64_t max;               /* bytes written; 0 = 64 GiB */
};
struct files_ret {
    uint64_t files, bytes;      /* found or made, and what they hold */
    uint64_t size;              /* of the archive */
    const char *digest;         /* DIGEST: 64 hex digits, "" when nothing matched; ZIP: "sha256:…" */
    const char *root;           /* ZIP: the common folder */
    struct sv list;             /* LIST: paths, a newline after each; at most 1 MiB of them */
};
/* Strings of the result live in a. ZIP with no match, TAR with none: files is 0 and fd untouched. */
int files_do(struct jobx *x, const struct files_req *rq, int fd, struct arena *a, struct files_ret *ret, struct err *e);

/* The same without a job, in this process: `root` is where paths start. */
int files_work(const struct files_req *rq, int root, int fd, struct arena *a, struct files_ret *ret, struct err *e);
/* Helper operation "files": fd 3 the request as JSON, fd 4 the root, fd 5 the archive. */
int ns_files(int argc, char **argv);
