/* Writing zip archives. An entry's header is written when its sizes are known: small files are packed in
 * memory, for large ones the header's place is left free and filled in afterwards, so that no entry needs
 * a data descriptor (not every reader knows those of stored entries). The hashing thread never goes
 * beyond the last entry that is complete. */
#include "base/zip.h"

#include "core/fs.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <pthread.h>
#include <time.h>
#include <zlib.h>

#define BLOCK (1u << 20)
#define SMALL (1u << 20)

struct item {
    char *name;
    uint64_t at, packed, size;
    uint32_t crc, dos;
    uint16_t method;
    bool dir;
};
struct zip_writer {
    int fd, level;
    uint64_t at;            /* end of the file, what is buffered included */
    uint8_t *in, *out;      /* BLOCK and a bit more */
    struct buf wait;        /* not yet written */
    uint8_t *level_buf;
    struct item *items;
    size_t n, cap;
    /* hashing */
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool has_thread, end, hash_failed;
    uint64_t ready;         /* may be hashed up to here */
    struct sha256 *hash;
};

/* --- the hashing thread ------------------------------------------------------------------------------ */

static void *hasher(void *arg) {
    struct zip_writer *w = arg;
    _cleanup_free_ uint8_t *b = xmalloc(BLOCK);
    uint64_t at = 0;
    for (;;) {
        pthread_mutex_lock(&w->mu);
        while (w->ready == at && !w->end)
            pthread_cond_wait(&w->cond, &w->mu);
        uint64_t to = w->ready;
        bool end = w->end;
        pthread_mutex_unlock(&w->mu);
        while (at < to) {
            ssize_t k = pread(w->fd, b, MIN(to - at, (uint64_t)BLOCK), (off_t)at);
            if (k <= 0) {
                if (k < 0 && errno == EINTR)
                    continue;
                w->hash_failed = true;
                return NULL;
            }
            sha256_update(w->hash, b, (size_t)k);
            at += (uint64_t)k;
        }
        if (end && at == to)
            return NULL;
    }
}

static void hash_up_to(struct zip_writer *w, uint64_t to, bool end) {
    pthread_mutex_lock(&w->mu);
    w->ready = to;
    w->end = end;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mu);
}

/* --- bytes ------------------------------------------------------------------------------------------- */

static int flush(struct zip_writer *w) {
    int r = w->wait.n ? fd_write_all(w->fd, w->wait.p, w->wait.n) : 0;
    buf_reset(&w->wait);
    return r;
}

static int put(struct zip_writer *w, const void *p, size_t n) {
    int r = 0;
    if (w->wait.n + n > BLOCK)
        r = flush(w);
    w->at += n;
    if (r < 0 || n >= BLOCK)
        return r < 0 ? r : fd_write_all(w->fd, p, n);
    buf_add(&w->wait, p, n);
    return 0;
}

static void le16(struct buf *b, uint32_t v) { buf_add(b, (uint8_t[]){(uint8_t)v, (uint8_t)(v >> 8)}, 2); }
static void le32(struct buf *b, uint32_t v) {
    le16(b, v & 0xffff);
    le16(b, v >> 16);
}
static void le64(struct buf *b, uint64_t v) {
    le32(b, (uint32_t)v);
    le32(b, (uint32_t)(v >> 32));
}
static uint32_t cap32(uint64_t v) { return v >= UINT32_MAX ? UINT32_MAX : (uint32_t)v; }

static uint32_t dos_time(int64_t t) {
    struct tm tm;
    time_t tt = (time_t)t;
    if (!gmtime_r(&tt, &tm) || tm.tm_year < 80 || tm.tm_year > 207)
        return 1u << 21 | 1u << 16; /* 1980-01-01 */
    return (uint32_t)(tm.tm_year - 80) << 25 | (uint32_t)(tm.tm_mon + 1) << 21 | (uint32_t)tm.tm_mday << 16 | (uint32_t)tm.tm_hour << 11 |
           (uint32_t)tm.tm_min << 5 | (uint32_t)tm.tm_sec / 2;
}

/* The local header. `wide`: with room for 64-bit sizes, whatever they turn out to be. */
static void local(struct buf *b, const struct item *it, bool wide) {
    size_t n = strlen(it->name);
    le32(b, 0x04034b50);
    le16(b, wide ? 45 : 20);
    le16(b, 1u << 11); /* names are UTF-8 */
    le16(b, it->method);
    le32(b, it->dos);
    le32(b, it->crc);
    le32(b, wide ? UINT32_MAX : (uint32_t)it->packed);
    le32(b, wide ? UINT32_MAX : (uint32_t)it->size);
    le16(b, (uint32_t)n);
    le16(b, wide ? 20 : 0);
    buf_add(b, it->name, n);
    if (wide) {
        le16(b, 1);
        le16(b, 16);
        le64(b, it->size);
        le64(b, it->packed);
    }
}

static void central(struct buf *b, const struct item *it) {
    bool wide = it->size >= UINT32_MAX || it->packed >= UINT32_MAX || it->at >= UINT32_MAX;
    size_t n = strlen(it->name);
    le32(b, 0x02014b50);
    le16(b, 3u << 8 | 45); /* made by Unix */
    le16(b, wide ? 45 : 20);
    le16(b, 1u << 11);
    le16(b, it->method);
    le32(b, it->dos);
    le32(b, it->crc);
    le32(b, wide ? UINT32_MAX : (uint32_t)it->packed);
    le32(b, wide ? UINT32_MAX : (uint32_t)it->size);
    le16(b, (uint32_t)n);
    le16(b, wide ? 28 : 0);
    le32(b, 0); /* comment, disk */
    le16(b, 0);
    le32(b, (it->dir ? 040755u << 16 | 0x10 : 0100644u << 16));
    le32(b, wide ? UINT32_MAX : (uint32_t)it->at);
    buf_add(b, it->name, n);
    if (wide) {
        le16(b, 1);
        le16(b, 24);
        le64(b, it->size);
        le64(b, it->packed);
        le64(b, it->at);
    }
}

/* --- packing ------------------------------------------------------------------------------------------ */

static int isal_level(int level) { return level <= 3 ? 1 : 3; }

/* A whole block in memory; 0 when it does not get smaller. */
static size_t pack_small(struct zip_writer *w, size_t n) {
    if (!w->level || n < 16)
        return 0;
    if (w->level >= 7) {
        z_stream z = {0};
        if (deflateInit2(&z, w->level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
            return 0;
        z.next_in = w->in;
        z.avail_in = (unsigned)n;
        z.next_out = w->out;
        z.avail_out = (unsigned)n;
        int r = deflate(&z, Z_FINISH);
        size_t k = n - z.avail_out;
        deflateEnd(&z);
        return r == Z_STREAM_END && k < n ? k : 0;
    }
    struct isal_zstream z;
    isal_deflate_stateless_init(&z);
    z.level = (uint32_t)isal_level(w->level);
    z.level_buf = w->level_buf;
    z.level_buf_size = z.level == 1 ? ISAL_DEF_LVL1_DEFAULT : ISAL_DEF_LVL3_DEFAULT;
    z.next_in = w->in;
    z.avail_in = (uint32_t)n;
    z.end_of_stream = 1;
    z.flush = NO_FLUSH;
    z.next_out = w->out;
    z.avail_out = (uint32_t)n;
    return isal_deflate_stateless(&z) == COMP_OK && z.total_out < n ? z.total_out : 0;
}

/* Streams of deflate over either library. */
struct packer {
    struct isal_zstream i;
    z_stream z;
    bool zlib;
};
static int pack_some(struct zip_writer *w, struct packer *p, size_t n, bool last, uint64_t *packed) {
    p->i.next_in = p->z.next_in = w->in;
    p->i.avail_in = p->z.avail_in = (uint32_t)n;
    p->i.end_of_stream = last;
    for (;;) {
        uint32_t left;
        p->i.next_out = p->z.next_out = w->out;
        p->i.avail_out = p->z.avail_out = BLOCK;
        if (p->zlib ? deflate(&p->z, last ? Z_FINISH : Z_NO_FLUSH) == Z_STREAM_ERROR : isal_deflate(&p->i) != COMP_OK)
            return -EIO;
        left = p->zlib ? p->z.avail_out : p->i.avail_out;
        int r = put(w, w->out, BLOCK - left);
        if (r < 0)
            return r;
        *packed += BLOCK - left;
        if (left)
            return 0;
    }
}

static ssize_t read_block(int fd, void *p) { return fd_read_full(fd, p, BLOCK); }

/* Too large for memory; its first block is in w->in. */
static int add_large(struct zip_writer *w, struct item *it, int from, ssize_t k) {
    _cleanup_buf_ struct buf h = BUF_SMALL;
    struct packer p = {.zlib = w->level >= 7};
    it->method = w->level ? 8 : 0;
    local(&h, it, true);
    int r = put(w, h.p, h.n);
    isal_deflate_init(&p.i);
    p.i.level = (uint32_t)isal_level(w->level ? w->level : 1);
    p.i.level_buf = w->level_buf;
    p.i.level_buf_size = p.i.level == 1 ? ISAL_DEF_LVL1_DEFAULT : ISAL_DEF_LVL3_DEFAULT;
    if (p.zlib && deflateInit2(&p.z, w->level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    while (r >= 0 && k >= 0) {
        it->crc = crc32_gzip_refl(it->crc, w->in, (uint64_t)k);
        it->size += (uint64_t)k;
        bool last = k < (ssize_t)BLOCK;
        if (w->level)
            r = pack_some(w, &p, (size_t)k, last, &it->packed);
        else {
            r = put(w, w->in, (size_t)k);
            it->packed = it->size;
        }
        if (last)
            break;
        if (r >= 0 && (k = read_block(from, w->in)) < 0)
            r = (int)k;
    }
    if (p.zlib)
        deflateEnd(&p.z);
    if (r < 0 || (r = flush(w)) < 0)
        return r;
    buf_reset(&h);
    local(&h, it, true);
    return pwrite(w->fd, h.p, h.n, (off_t)it->at) == (ssize_t)h.n ? 0 : errno ? -errno : -EIO;
}

static int keep_item(struct zip_writer *w, struct item *it) {
    GROW(w->items, w->cap, w->n + 1);
    w->items[w->n++] = *it;
    hash_up_to(w, w->at - w->wait.n, false);
    return 0;
}

int zip_add(struct zip_writer *w, const char *name, int from, int64_t mtime, struct err *e) {
    struct item it = {.at = w->at, .dos = dos_time(mtime)};
    if (!*name || strlen(name) > 4096)
        return err_set(e, ERR_LIMIT, -ENAMETOOLONG, "the name of a file is too long");
    ssize_t k = read_block(from, w->in);
    if (k < 0)
        return err_errno(e, (int)k, "%s", name);
    it.name = xstrdup(name);
    int r;
    if (k == (ssize_t)BLOCK) {
        r = add_large(w, &it, from, k);
    } else {
        _cleanup_buf_ struct buf h = BUF_SMALL;
        it.size = (uint64_t)k;
        it.crc = crc32_gzip_refl(0, w->in, (uint64_t)k);
        size_t packed = pack_small(w, (size_t)k);
        it.method = packed ? 8 : 0;
        it.packed = packed ? packed : it.size;
        local(&h, &it, false);
        r = put(w, h.p, h.n);
        if (r >= 0)
            r = put(w, packed ? w->out : w->in, (size_t)it.packed);
    }
    if (r < 0) {
        free(it.name);
        return err_errno(e, r, "%s", name);
    }
    return keep_item(w, &it);
}

int zip_add_dir(struct zip_writer *w, const char *name, int64_t mtime, struct err *e) {
    _cleanup_buf_ struct buf h = BUF_SMALL;
    struct item it = {.at = w->at, .dos = dos_time(mtime), .dir = true, .name = xasprintf("%s%s", name, endswith(name, "/") ? "" : "/")};
    local(&h, &it, false);
    int r = strlen(it.name) > 4096 ? -ENAMETOOLONG : put(w, h.p, h.n);
    if (r < 0) {
        free(it.name);
        return err_errno(e, r, "%s", name);
    }
    return keep_item(w, &it);
}

int zip_end(struct zip_writer *w, uint64_t *ret_size, char digest[DIGEST_LEN + 1], struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 30);
    uint64_t at = w->at;
    uint8_t raw[32];
    for (size_t i = 0; i < w->n; i++)
        central(&b, &w->items[i]);
    uint64_t size = b.n;
    if (w->n >= 0xffff || at >= UINT32_MAX || size >= UINT32_MAX) {
        le32(&b, 0x06064b50);
        le64(&b, 44);
        le16(&b, 3u << 8 | 45);
        le16(&b, 45);
        le64(&b, 0);
        le64(&b, w->n);
        le64(&b, w->n);
        le64(&b, size);
        le64(&b, at);
        le32(&b, 0x07064b50);
        le32(&b, 0);
        le64(&b, at + size);
        le32(&b, 1);
    }
    uint32_t n = w->n >= 0xffff ? 0xffff : (uint32_t)w->n;
    le32(&b, 0x06054b50);
    le32(&b, 0);
    le16(&b, n);
    le16(&b, n);
    le32(&b, cap32(size));
    le32(&b, cap32(at));
    le16(&b, 0);
    int r = buf_ok(&b) ? put(w, b.p, b.n) : -EFBIG;
    if (r >= 0)
        r = flush(w);
    hash_up_to(w, r < 0 ? w->ready : w->at, true);
    pthread_join(w->thread, NULL);
    w->has_thread = false;
    if (r >= 0 && w->hash_failed)
        r = -EIO;
    if (r < 0)
        return err_errno(e, r, "the zip archive");
    sha256_final(w->hash, raw);
    if (digest)
        digest_format(raw, digest);
    *ret_size = w->at;
    return 0;
}

int zip_writer_new(struct zip_writer **ret, int fd, int level) {
    struct zip_writer *w = xcalloc(1, sizeof *w);
    w->fd = fd;
    w->level = level < 0 ? 6 : MIN(level, 9);
    w->in = xmalloc(BLOCK + 64);
    w->out = xmalloc(BLOCK + 64);
    w->level_buf = xmalloc(MAX((size_t)ISAL_DEF_LVL1_DEFAULT, (size_t)ISAL_DEF_LVL3_DEFAULT));
    w->wait = BUF_MAX(2u * BLOCK);
    buf_reserve(&w->wait, BLOCK + 4096);
    w->hash = sha256_new();
    pthread_mutex_init(&w->mu, NULL);
    pthread_cond_init(&w->cond, NULL);
    int r = pthread_create(&w->thread, NULL, hasher, w);
    w->has_thread = r == 0;
    if (r) {
        zip_writer_free(w);
        return -r;
    }
    *ret = w;
    return 0;
}

void zip_writer_free(struct zip_writer *w) {
    if (!w)
        return;
    if (w->has_thread) {
        hash_up_to(w, w->ready, true);
        pthread_join(w->thread, NULL);
    }
    for (size_t i = 0; i < w->n; i++)
        free(w->items[i].name);
    free(w->items);
    free(w->in);
    free(w->out);
    free(w->level_buf);
    buf_done(&w->wait);
    sha256_free(w->hash);
    pthread_mutex_destroy(&w->mu);
    pthread_cond_destroy(&w->cond);
    free(w);
}
