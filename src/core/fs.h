#pragma once
/* Files and folders. Every function takes a directory descriptor (AT_FDCWD allowed where the path
 * is our own). Paths that come from an image, a workflow or a user are resolved with
 * fs_open_in / fs_*_in, which use openat2(RESOLVE_IN_ROOT): they cannot leave `root`, symlinks
 * are resolved inside it. All descriptors are O_CLOEXEC. */
#include "core/err.h"
#include "core/str.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Whole file into b (within b->max, else -EFBIG). */
int fs_read(int dirfd, const char *path, struct buf *b, struct err *e);
int fs_read_fd(int fd, struct buf *b);
/* Atomic: temporary name in the same folder, fsync when `sync`, rename. Mode before umask. */
int fs_write(int dirfd, const char *path, struct sv data, mode_t mode, bool sync, struct err *e);
int fs_append(int dirfd, const char *path, struct sv data, mode_t mode);
int fd_write_all(int fd, const void *p, size_t n); /* retries; -errno */
ssize_t fd_read_full(int fd, void *p, size_t n);   /* until n or EOF */
int fd_copy(int from, int to, uint64_t max, uint64_t *ret_copied); /* copy_file_range/sendfile/read */
int fs_mkdirs(int dirfd, const char *path, mode_t mode); /* like mkdir -p; exists is fine */
/* Removes a tree, never following symlinks or crossing mounts (openat + O_NOFOLLOW, st_dev). */
int fs_rmtree(int dirfd, const char *name);
bool fs_exists(int dirfd, const char *path);
int fs_size_tree(int dirfd, const char *path, uint64_t *ret_bytes, uint64_t *ret_files);

/* openat2 inside root. `how_resolve` 0 = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS. */
int fs_open_in(int root, const char *path, int flags, mode_t mode, uint64_t how_resolve);
int fs_mkdirs_in(int root, const char *path, mode_t mode); /* each part resolved inside root */
/* Opens the parent folder of path inside root and gives the last component (arena not needed:
 * *ret_name points into path). -EINVAL for "", "/", "..". */
int fs_parent_in(int root, const char *path, bool create, const char **ret_name);

/* Lexical: cleans "a//b/./../c"; absolute stays absolute; ".." at the top is dropped for absolute
 * paths and kept for relative ones. */
char *path_clean(const char *path);
char *path_join(const char *a, const char *b); /* b absolute wins; cleaned */
const char *path_base(const char *path);       /* after the last '/' */
char *path_dir(const char *path);              /* malloc */

int lock_file(int dirfd, const char *path, bool exclusive, bool wait); /* fd holding flock, or -errno */

/* Folders of this user (XDG), malloc: ~/.config/slipway, ~/.local/share/slipway (root:
 * /var/lib/slipway), ~/.cache/slipway (root: /var/cache/slipway), $XDG_RUNTIME_DIR/slipway. The
 * environment variables SLIPWAY_STATE, SLIPWAY_CACHE, SLIPWAY_CONFIG override. */
char *dir_config(void);
char *dir_state(void);
char *dir_cache(void);
/* Path of a file shipped with slipway ("runner/ubuntu-24.04/Dockerfile"): SLIPWAY_SHARE, the
 * source tree's share/ beside an uninstalled binary, or PREFIX/share/slipway. NULL if absent. */
char *share_path(const char *rel);
