#pragma once
/* zip archives: a writer onto a file, and a strict reader of hostile ones. Stored and deflated entries,
 * zip64; no encryption, no multi-disk archives. Names are bytes, '/' between parts.
 * Source: PKWARE APPNOTE 6.3. Not thread-safe; blocking. */
#include "base/digest.h"
#include "core/arena.h"

/* --- writing ---------------------------------------------------------------------------------------
 * fd is a regular file, open for reading and writing, empty. The archive's digest is made by a thread of
 * its own that follows the writer. Level 0 stores; 1 to 6 are ISA-L's, 7 to 9 zlib's. */
struct zip_writer;
int zip_writer_new(struct zip_writer **ret, int fd, int level);
/* A file of what `from` holds from its position on; mode 0100644. It may grow or shrink meanwhile. */
int zip_add(struct zip_writer *w, const char *name, int from, int64_t mtime, struct err *e);
int zip_add_dir(struct zip_writer *w, const char *name, int64_t mtime, struct err *e);
/* Writes the directory. ret_size, digest: of the whole archive. */
int zip_end(struct zip_writer *w, uint64_t *ret_size, char digest[DIGEST_LEN + 1], struct err *e);
void zip_writer_free(struct zip_writer *w);

/* --- reading --------------------------------------------------------------------------------------- */
struct zip_entry {
    const char *name;       /* NUL-terminated, never with a NUL inside */
    uint64_t packed, size, at; /* bytes in the archive, unpacked, offset of the local header */
    uint64_t until;         /* its bytes end here at the latest */
    uint32_t crc, mode;     /* st_mode, or 0 when not told */
    int64_t mtime;
    uint16_t method;        /* 0 or 8 */
    bool dir;
};
struct zip {
    int fd;                 /* borrowed */
    struct zip_entry *entries;
    size_t n;
};
struct zip_limits { size_t entries; uint64_t bytes; }; /* 0: 1,000,000 and 64 GiB unpacked */
/* Reads and checks the directory: -EBADMSG not a zip or damaged, -EFBIG past a limit, -ENOSYS not to be
 * read by us. Entries that share bytes (bombs) are damage. */
int zip_open(struct zip *z, int fd, const struct zip_limits *l, struct arena *a, struct err *e);
/* Unpacks one entry into `fn` piece by piece; checks length and CRC. */
typedef int (*zip_sink_fn)(void *arg, const void *p, size_t n); /* negative errno ends it */
int zip_read(const struct zip *z, const struct zip_entry *en, zip_sink_fn fn, void *arg, struct err *e);
/* A relative path that stays below where it is unpacked: no "..", no absolute path, no drive. */
bool zip_name_ok(const char *name);
