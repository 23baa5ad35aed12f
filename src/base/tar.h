#pragma once
/* tar: a strict streaming reader (ustar, GNU long names, pax; hostile input) and a deterministic
 * pax writer. Names are bytes. The reader refuses sizes that disagree, names longer than 4,096 or
 * with NUL, more than `max_entries`; sparse files are refused. */
#include "core/err.h"
#include "core/str.h"

enum tar_type { TAR_FILE, TAR_HARDLINK, TAR_SYMLINK, TAR_CHAR, TAR_BLOCK, TAR_DIR, TAR_FIFO };
struct tar_xattr {
    const char *name; /* "security.capability" */
    struct sv value;
};
struct tar_entry {
    enum tar_type type;
    const char *path, *link; /* as in the archive, NUL-terminated */
    uint32_t mode; /* 07777 */
    uint64_t uid, gid, size;
    int64_t mtime;
    uint32_t mtime_ns;
    uint32_t dev_major, dev_minor;
    struct tar_xattr xattrs[32];
    size_t n_xattrs;
};
struct tar_reader;
typedef ssize_t (*tar_read_fn)(void *arg, void *p, size_t n); /* 0 = end */
struct tar_reader *tar_reader_new(tar_read_fn rd, void *arg);
/* 1 = entry, 0 = end of archive, negative = error. The entry is valid until the next call. */
int tar_next(struct tar_reader *t, const struct tar_entry **ret, struct err *e);
ssize_t tar_data(struct tar_reader *t, void *p, size_t n); /* the current entry's data */
void tar_reader_free(struct tar_reader *t);

struct tar_writer;
typedef int (*tar_write_fn)(void *arg, const void *p, size_t n);
struct tar_writer *tar_writer_new(tar_write_fn wr, void *arg);
int tar_put(struct tar_writer *t, const struct tar_entry *en); /* header; then size bytes of data */
int tar_put_data(struct tar_writer *t, const void *p, size_t n);
int tar_put_fd(struct tar_writer *t, int fd, uint64_t size); /* exactly size bytes, else -EIO */
int tar_end(struct tar_writer *t); /* two zero blocks */
void tar_writer_free(struct tar_writer *t);
