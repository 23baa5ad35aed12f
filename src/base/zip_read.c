/* Reading zip archives: everything comes from the directory at the end, which must describe the archive
 * completely: each entry's bytes lie before it, in no other entry, and unpack to exactly what it says. */
#include "base/zip.h"

#include "core/fs.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <sys/stat.h>
#include <time.h>

#define BLOCK (256u << 10)
#define DIRECTORY_MAX (256u << 20)

static uint32_t g16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static uint32_t g32(const uint8_t *p) { return g16(p) | g16(p + 2) << 16; }
static uint64_t g64(const uint8_t *p) { return (uint64_t)g32(p) | (uint64_t)g32(p + 4) << 32; }

static int read_at(int fd, void *p, size_t n, uint64_t at) {
    char *b = p;
    while (n) {
        ssize_t k = pread(fd, b, n, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -EBADMSG;
        b += k;
        n -= (size_t)k;
        at += (uint64_t)k;
    }
    return 0;
}

struct tail {
    uint64_t n, size, at, end; /* entries, bytes and place of the directory; where it must end */
};

/* The end record is the last thing in the archive but for a comment of up to 64 KiB. */
static int find_tail(int fd, uint64_t size, struct tail *t) {
    size_t n = (size_t)MIN(size, 22ull + 0xffff);
    _cleanup_free_ uint8_t *b = xmalloc(n + 1);
    uint8_t loc[20], rec[56];
    if (size < 22)
        return -EBADMSG;
    int r = read_at(fd, b, n, size - n);
    if (r < 0)
        return r;
    for (size_t i = n - 22 + 1; i-- > 0;) {
        const uint8_t *p = b + i;
        if (g32(p) != 0x06054b50 || i + 22 + g16(p + 20) != n)
            continue;
        uint64_t at = size - n + i;
        if (g16(p + 4) || g16(p + 6) || g16(p + 8) != g16(p + 10))
            return -ENOSYS; /* several disks */
        *t = (struct tail){g16(p + 10), g32(p + 12), g32(p + 16), at};
        if (t->n != 0xffff && t->size != UINT32_MAX && t->at != UINT32_MAX)
            return 0;
        if (at < 20 || read_at(fd, loc, 20, at - 20) < 0 || g32(loc) != 0x07064b50)
            return 0; /* just those numbers */
        uint64_t rec_at = g64(loc + 8);
        if (rec_at > at - 20 || at - 20 - rec_at < 56 || read_at(fd, rec, 56, rec_at) < 0 || g32(rec) != 0x06064b50 || g32(rec + 16) || g32(rec + 20) ||
            g64(rec + 24) != g64(rec + 32))
            return -EBADMSG;
        *t = (struct tail){g64(rec + 32), g64(rec + 40), g64(rec + 48), rec_at};
        return 0;
    }
    return -EBADMSG;
}

static int64_t unix_time(uint32_t dos) {
    struct tm tm = {.tm_year = (int)(dos >> 25) + 80, .tm_mon = (int)(dos >> 21 & 15) - 1, .tm_mday = (int)(dos >> 16 & 31), .tm_hour = (int)(dos >> 11 & 31),
                    .tm_min = (int)(dos >> 5 & 63), .tm_sec = (int)(dos & 31) * 2};
    return (int64_t)timegm(&tm);
}

/* 64-bit values of the extra field, for those that did not fit. */
static int wide(const uint8_t *x, size_t n, struct zip_entry *en, bool size, bool packed, bool at) {
    while (n >= 4) {
        size_t len = g16(x + 2);
        if (len > n - 4)
            return -EBADMSG;
        if (g16(x) == 1) {
            const uint8_t *p = x + 4, *end = p + len;
            uint64_t *to[3] = {size ? &en->size : NULL, packed ? &en->packed : NULL, at ? &en->at : NULL};
            for (int i = 0; i < 3; i++) {
                if (!to[i])
                    continue;
                if (end - p < 8)
                    return -EBADMSG;
                *to[i] = g64(p);
                p += 8;
            }
            return 0;
        }
        x += 4 + len;
        n -= 4 + len;
    }
    return -EBADMSG;
}

static int read_entry(const uint8_t *p, const uint8_t *end, struct zip_entry *en, struct arena *a, size_t *ret_len) {
    if (end - p < 46 || g32(p) != 0x02014b50)
        return -EBADMSG;
    size_t name = g16(p + 28), extra = g16(p + 30), comment = g16(p + 32);
    if ((size_t)(end - p) < 46 + name + extra + comment || !name || memchr(p + 46, 0, name))
        return -EBADMSG;
    if (g16(p + 8) & 0x2041) /* encrypted */
        return -ENOSYS;
    *en = (struct zip_entry){.name = arena_strndup(a, (const char *)p + 46, name), .packed = g32(p + 20), .size = g32(p + 24), .at = g32(p + 42),
                             .crc = g32(p + 16), .mode = p[5] == 3 ? g32(p + 38) >> 16 : 0, .mtime = unix_time(g32(p + 12)), .method = (uint16_t)g16(p + 10)};
    en->dir = p[46 + name - 1] == '/';
    if (en->method != 0 && en->method != 8)
        return -ENOSYS;
    bool s = en->size == UINT32_MAX, k = en->packed == UINT32_MAX, t = en->at == UINT32_MAX;
    int r = s || k || t ? wide(p + 46 + name, extra, en, s, k, t) : 0;
    if (r >= 0 && ((en->method == 0 && en->packed != en->size) || (en->dir && en->size)))
        r = -EBADMSG;
    *ret_len = 46 + name + extra + comment;
    return r;
}

static int by_place(const void *pa, const void *pb) {
    struct zip_entry *const *a = pa, *const *b = pb;
    return (*a)->at < (*b)->at ? -1 : (*a)->at > (*b)->at;
}

/* No two entries share bytes, and none reaches into the directory. */
static int check_places(const struct zip *z, uint64_t end) {
    struct zip_entry **v = xcalloc(z->n + 1, sizeof *v);
    int r = 0;
    for (size_t i = 0; i < z->n; i++)
        v[i] = &z->entries[i];
    if (z->n)
        qsort(v, z->n, sizeof *v, by_place);
    for (size_t i = 0; i < z->n && r == 0; i++) {
        uint64_t until = i + 1 < z->n ? v[i + 1]->at : end, least = 30 + strlen(v[i]->name);
        v[i]->until = until;
        if (v[i]->at > until || until - v[i]->at < least || until - v[i]->at - least < v[i]->packed)
            r = -EBADMSG;
    }
    free(v);
    return r;
}

static int open_it(struct zip *z, int fd, const struct zip_limits *l, struct arena *a) {
    struct stat st;
    struct tail t;
    uint64_t total = 0, most = l && l->bytes ? l->bytes : 64ull << 30;
    size_t most_n = l && l->entries ? l->entries : 1000000;
    if (fstat(fd, &st) < 0)
        return -errno;
    int r = find_tail(fd, (uint64_t)st.st_size, &t);
    if (r < 0)
        return r;
    if (t.size > t.end || t.at != t.end - t.size || t.n > t.size / 46)
        return -EBADMSG;
    if (t.n > most_n || t.size > DIRECTORY_MAX)
        return -EFBIG;
    _cleanup_free_ uint8_t *dir = xmalloc((size_t)t.size + 1);
    if ((r = read_at(fd, dir, (size_t)t.size, t.at)) < 0)
        return r;
    const uint8_t *p = dir, *end = dir + t.size;
    z->entries = ARENA_ARRAY(a, struct zip_entry, t.n + 1);
    for (z->n = 0; z->n < t.n; z->n++) {
        size_t len;
        struct zip_entry *en = &z->entries[z->n];
        if ((r = read_entry(p, end, en, a, &len)) < 0)
            return r;
        p += len;
        if (en->size > most - total)
            return -EFBIG;
        total += en->size;
    }
    return p == end ? check_places(z, t.at) : -EBADMSG;
}

int zip_open(struct zip *z, int fd, const struct zip_limits *l, struct arena *a, struct err *e) {
    struct zip tmp = {.fd = fd};
    int r = open_it(&tmp, fd, l, a);
    if (r < 0)
        return err_set(e, r == -EFBIG ? ERR_LIMIT : ERR_USER, r, "%s",
                       r == -EFBIG    ? "the zip archive unpacks to more than is allowed"
                       : r == -ENOSYS ? "the zip archive is encrypted, in parts or packed in a way that is not read here"
                       : r == -EBADMSG ? "not a zip archive, or a damaged one"
                                       : strerror(-r));
    *z = tmp;
    return 0;
}

bool zip_name_ok(const char *name) {
    struct sv rest = sv_from(name), part;
    if (!*name || *name == '/' || strlen(name) > 4096 || strchr(name, '\\') || (name[0] && name[1] == ':'))
        return false;
    while (sv_split(&rest, '/', &part))
        if (sv_eqs(part, "..") || part.n > 255)
            return false;
    return true;
}

/* --- entries ------------------------------------------------------------------------------------------ */

struct out {
    zip_sink_fn fn;
    void *arg;
    uint64_t left;
    uint32_t crc;
};
static int out_put(struct out *o, const void *p, size_t n) {
    if (n > o->left)
        return -EBADMSG;
    o->left -= n;
    o->crc = crc32_gzip_refl(o->crc, p, n);
    return n ? o->fn(o->arg, p, n) : 0;
}

static int read_stored(const struct zip *z, uint64_t at, uint64_t n, struct out *o, uint8_t *b) {
    int r = 0;
    while (n && r >= 0) {
        size_t k = (size_t)MIN(n, (uint64_t)BLOCK);
        if ((r = read_at(z->fd, b, k, at)) >= 0)
            r = out_put(o, b, k);
        at += k;
        n -= k;
    }
    return r;
}

static int read_deflated(const struct zip *z, uint64_t at, uint64_t n, struct out *o, uint8_t *in, uint8_t *out) {
    _cleanup_free_ struct inflate_state *s = xcalloc(1, sizeof *s);
    isal_inflate_init(s);
    s->crc_flag = ISAL_DEFLATE;
    int r = 0;
    while (s->block_state != ISAL_BLOCK_FINISH) {
        if (!s->avail_in && n) {
            size_t k = (size_t)MIN(n, (uint64_t)BLOCK);
            if ((r = read_at(z->fd, in, k, at)) < 0)
                return r;
            s->next_in = in;
            s->avail_in = (uint32_t)k;
            at += k;
            n -= k;
        }
        uint32_t before = s->avail_in;
        s->next_out = out;
        s->avail_out = BLOCK;
        if (isal_inflate(s) != ISAL_DECOMP_OK)
            return -EBADMSG;
        size_t got = BLOCK - s->avail_out;
        if ((r = out_put(o, out, got)) < 0)
            return r;
        if (!got && before == s->avail_in && !n && s->block_state != ISAL_BLOCK_FINISH)
            return -EBADMSG; /* cut off */
    }
    return 0;
}

int zip_read(const struct zip *z, const struct zip_entry *en, zip_sink_fn fn, void *arg, struct err *e) {
    uint8_t h[30];
    struct out o = {fn, arg, en->size, 0};
    _cleanup_free_ uint8_t *in = xmalloc(BLOCK), *out = xmalloc(BLOCK);
    int r = read_at(z->fd, h, sizeof h, en->at);
    if (r >= 0 && g32(h) != 0x04034b50)
        r = -EBADMSG;
    uint64_t at = en->at + 30 + g16(h + 26) + g16(h + 28);
    if (r >= 0 && (at > en->until || en->until - at < en->packed))
        r = -EBADMSG;
    if (r >= 0)
        r = en->method ? read_deflated(z, at, en->packed, &o, in, out) : read_stored(z, at, en->packed, &o, in);
    if (r >= 0 && (o.left || o.crc != en->crc))
        r = -EBADMSG;
    if (r == -EBADMSG)
        return err_set(e, ERR_USER, r, "%s: damaged in the zip archive", en->name);
    return r < 0 ? err_errno(e, r, "%s", en->name) : 0;
}
