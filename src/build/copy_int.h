#pragma once
/* Between copy_op.c (the job), copy_tree.c (one file after the other) and unpack.c (archives). */
#include "build/copy.h"
#include "build/ignore.h"
#include "build/view.h"
#include "core/json.h"

#define COPY_LIST_MAX (512u << 20)

struct copy_link { /* a file with several names: where it was put first */
    dev_t dev;
    ino_t ino;
    char *path;
};
struct copy_job {
    struct arena arena;
    struct view dst;
    struct view src; /* up = -1 */
    struct strv sources;
    struct ignore exclude;
    const char *dest, *mkdir, *chmod;
    bool has_owner, keep_owner, unpack, parents;
    uint32_t uid, gid;
    int64_t mtime;
    int stage; /* a folder that is ours, for unpacking */
    bool moving; /* what is copied is ours (unpacked): links may be made whatever its owner */
    bool no_link;
    struct timespec newest;
    struct view_times times;
    struct copy_link *links;
    size_t n_links, cap_links;
    uint64_t files, bytes;
    struct buf list; /* listing: records go here, nothing is copied */
    const struct json *inlines;
};
int exclude_parse(struct ignore *g, const char *const *patterns, struct err *e);
/* One match of a source. */
struct copy_match {
    char *path;  /* canonical in the source's root */
    char *shown; /* as matched, before symlinks */
    bool is_dir;
};
struct copy_matches {
    struct copy_match *items;
    size_t n, cap;
};
/* Paths that a source names; an error when one without wildcards is not there. */
int copy_match(struct copy_job *j, const char *source, struct copy_matches *out, struct err *e);
void copy_matches_done(struct copy_matches *m);

/* Puts src (canonical, in j->src) at dest (canonical). `nested` = inside a folder that is copied. */
int copy_put(struct copy_job *j, const struct view *src, const char *path, const char *dest, struct err *e);
int copy_put_contents(struct copy_job *j, const struct view *src, const char *path, const char *dest,
                      struct err *e);
/* Everything that the sources name, as records in j->list (copy_list.c). */
int copy_list_all(struct copy_job *j, bool digests, struct err *e);

/* Descriptors of a helper. What is one folder comes opened from the main process: then source and
 * upper are on one mount, and files can be hard-linked (between two mounts they cannot). */
enum {
    COPY_FD_SPEC = 3,
    COPY_FD_UPPER,   /* the new layer */
    COPY_FD_STAGE,   /* its work folder, for unpacking */
    COPY_FD_BELOW,   /* the only layer below */
    COPY_FD_SRC,     /* the only layer that is copied from */
    COPY_FD_SNAPS,   /* detached mounts of the store's folders, for overlays: as root the */
    COPY_FD_TREES,   /* namespace's root cannot pass the store's own folder */
    COPY_FD_END
};

/* 1 = was an archive and is unpacked into the folder dest; 0 = not one. */
int copy_unpack(struct copy_job *j, const char *path, const char *dest, struct err *e);
