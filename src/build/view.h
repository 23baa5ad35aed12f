#pragma once
/* For helpers inside the store's namespace: what a stack of layers looks like, with new files going
 * to an upper folder that is not mounted. A COPY thus costs a link or a clone for each file instead
 * of a write through overlayfs. Paths are resolved as a process with that root would. */
#include "core/arena.h"
#include "core/err.h"

#include <sys/stat.h>

/* Mounts layers read-only as one on `at`, an empty folder; gives its descriptor. Layers are top
 * first: "ID", "snap:ID" or "tree:ID"; cwd holds the folders snap/ and tree/, entered by their path
 * (a descriptor from outside belongs to another mount namespace). */
int view_mount(const char *const *ids, size_t n, const char *at, struct err *e);
/* snap/ID/fs or tree/ID/fs. -EINVAL. */
int view_layer_path(const char *id, struct buf *b);

struct view {
    int up; /* root of the upper folder, or -1 */
    int lo; /* root of what lies below, or -1 */
};
/* Entry at a canonical path ("a/b", no symlinks in it; "" = root). -ENOENT. *ret_in_up tells whose. */
int view_stat(const struct view *v, const char *canon, struct stat *ret, bool *ret_in_up);
/* Resolves symlinks inside the root; what does not exist is kept lexically. *ret is canonical
 * (malloc). ELOOP after 40 links. */
int view_resolve(const struct view *v, const char *path, bool follow_last, char **ret);

/* Folders that exist below and are made above get their times back at the end. */
struct view_times {
    struct {
        char *path;
        struct timespec at;
        bool made; /* new: gets the time given at the end */
    } *items;
    size_t n, cap;
};
struct view_owner {
    uint32_t uid, gid; /* of folders made here */
};
/* Makes the folder `canon` and its parents in the upper: copied up (mode, owner, times) where they
 * exist below, else new with 0755 and that owner. -ENOTDIR with a text. */
int view_mkdirs(const struct view *v, const char *canon, const struct view_owner *o,
                struct view_times *t, struct err *e);
/* Applies and frees; `made` is the time of folders that are new. */
void view_times_apply(const struct view *v, struct view_times *t, struct timespec made);
/* Copies security.capability and user.* (but overlayfs's own) from one descriptor to another. */
void view_copy_xattrs(int from, int to);
/* uid and gid of "user", "user:group", numbers or names, by the view's /etc/passwd and /etc/group. */
int view_owner_parse(const struct view *v, const char *text, uint32_t *ret_uid, uint32_t *ret_gid,
                     struct err *e);
