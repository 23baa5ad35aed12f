/* The tar writer: ustar headers, with a pax header before those that do not fit (long or
 * non-ASCII names, large ids and sizes, fractions of a second, extended attributes). The same
 * entries give the same bytes: no user names, no process ids, records and attributes in a fixed
 * order. Small writes are gathered, so that the sink sees blocks of 64 KiB. */
#include "base/tar.h"

enum { BLOCK = 512, GATHER = 64 << 10, PAX_LIMIT = 1 << 20 };
#define OCT7 2097151u         /* largest number in a field of 7 octal digits */
#define OCT11 8589934591u     /* … of 11 */

struct tar_writer {
    tar_write_fn wr;
    void *arg;
    char *gather;
    size_t n;
    uint64_t left, padding;
    int failed;
    bool open; /* an entry was begun */
};

struct tar_writer *tar_writer_new(tar_write_fn wr, void *arg) {
    struct tar_writer *t = xcalloc(1, sizeof *t);
    t->wr = wr;
    t->arg = arg;
    t->gather = xmalloc(GATHER);
    return t;
}

void tar_writer_free(struct tar_writer *t) {
    if (!t)
        return;
    free(t->gather);
    free(t);
}

static int flush(struct tar_writer *t) {
    if (!t->n || t->failed)
        return t->failed;
    int r = t->wr(t->arg, t->gather, t->n);
    t->n = 0;
    if (r < 0)
        t->failed = r;
    return t->failed;
}

static int out(struct tar_writer *t, const void *p, size_t n) {
    if (t->failed)
        return t->failed;
    if (n >= GATHER) {
        if (flush(t) < 0)
            return t->failed;
        int r = t->wr(t->arg, p, n);
        return r < 0 ? (t->failed = r) : 0;
    }
    if (t->n + n > GATHER && flush(t) < 0)
        return t->failed;
    memcpy(t->gather + t->n, p, n);
    t->n += n;
    return 0;
}

static int zeros(struct tar_writer *t, size_t n) {
    static const char zero[BLOCK];
    int r = 0;
    for (; n && r >= 0; n -= MIN(n, (size_t)BLOCK))
        r = out(t, zero, MIN(n, (size_t)BLOCK));
    return r;
}

static int close_entry(struct tar_writer *t) {
    if (t->failed)
        return t->failed;
    if (t->left)
        return t->failed = -EIO; /* less data than the header said */
    int r = zeros(t, (size_t)t->padding);
    t->padding = 0;
    return r;
}

static void octal(char *field, size_t n, uint64_t v) {
    for (size_t i = n - 1; i-- > 0; v >>= 3)
        field[i] = (char)('0' + (v & 7));
    field[n - 1] = 0;
}

static void seal(uint8_t h[BLOCK]) {
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += h[i];
    octal((char *)h + 148, 7, sum);
    h[155] = ' ';
}

static bool ascii(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s >= 0x80)
            return false;
    return true;
}

/* Puts the name into the header when it fits, cut at a '/' into prefix and name if need be. */
static bool put_name(uint8_t h[BLOCK], const char *s) {
    size_t n = strlen(s);
    if (!ascii(s))
        return false;
    if (n <= 100) {
        memcpy(h, s, n);
        return true;
    }
    if (n > 256)
        return false;
    for (size_t i = n - 101; i <= 155 && i + 1 < n; i++)
        if (s[i] == '/' && i > 0) {
            memcpy(h + 345, s, i);
            memcpy(h, s + i + 1, n - i - 1);
            return true;
        }
    return false;
}

static void pax_add(struct buf *b, const char *key, const void *value, size_t n) {
    size_t body = strlen(key) + n + 3, total = body + 1, digits;
    for (;;) { /* the length counts its own digits */
        digits = 0;
        for (size_t v = total; v; v /= 10)
            digits++;
        if (body + digits == total)
            break;
        total = body + digits;
    }
    buf_addf(b, "%zu %s=", total, key);
    buf_add(b, value, n);
    buf_addc(b, '\n');
}

static void pax_num(struct buf *b, const char *key, uint64_t v) {
    char text[24];
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    pax_add(b, key, text, (size_t)n);
}

static void pax_mtime(struct buf *b, const struct tar_entry *en) {
    char text[48];
    int64_t sec = en->mtime;
    uint32_t ns = en->mtime_ns;
    const char *sign = "";
    if (sec < 0) {
        sign = "-";
        sec = -sec;
        if (ns) {
            sec -= 1;
            ns = 1000000000u - ns;
        }
    }
    int n = snprintf(text, sizeof text, "%s%lld.%09u", sign, (long long)sec, ns);
    while (ns && text[n - 1] == '0')
        n--;
    if (!ns)
        n -= 10;
    pax_add(b, "mtime", text, (size_t)n);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct tar_xattr *)a)->name, ((const struct tar_xattr *)b)->name);
}

static int put_pax(struct tar_writer *t, const struct buf *b) {
    uint8_t h[BLOCK] = {0};
    memcpy(h, "PaxHeaders.0/entry", 18);
    octal((char *)h + 100, 8, 0644);
    octal((char *)h + 108, 8, 0);
    octal((char *)h + 116, 8, 0);
    octal((char *)h + 124, 12, b->n);
    octal((char *)h + 136, 12, 0);
    h[156] = 'x';
    memcpy(h + 257, "ustar\00000", 8);
    octal((char *)h + 329, 8, 0);
    octal((char *)h + 337, 8, 0);
    seal(h);
    int r = out(t, h, BLOCK);
    if (r >= 0)
        r = out(t, b->p, b->n);
    return r < 0 ? r : zeros(t, (BLOCK - b->n % BLOCK) % BLOCK);
}

static void put_numbers(uint8_t h[BLOCK], const struct tar_entry *en, uint64_t size, struct buf *pax) {
    if (size > OCT11)
        pax_num(pax, "size", size);
    if (en->uid > OCT7)
        pax_num(pax, "uid", en->uid);
    if (en->gid > OCT7)
        pax_num(pax, "gid", en->gid);
    bool plain_time = en->mtime >= 0 && (uint64_t)en->mtime <= OCT11;
    if (!plain_time || en->mtime_ns)
        pax_mtime(pax, en);
    octal((char *)h + 100, 8, en->mode & 07777);
    octal((char *)h + 108, 8, en->uid > OCT7 ? 0 : en->uid);
    octal((char *)h + 116, 8, en->gid > OCT7 ? 0 : en->gid);
    octal((char *)h + 124, 12, size > OCT11 ? 0 : size);
    octal((char *)h + 136, 12, plain_time ? (uint64_t)en->mtime : 0);
    bool dev = en->type == TAR_CHAR || en->type == TAR_BLOCK;
    octal((char *)h + 329, 8, dev ? en->dev_major : 0);
    octal((char *)h + 337, 8, dev ? en->dev_minor : 0);
}

int tar_put(struct tar_writer *t, const struct tar_entry *en) {
    static const char types[] = {'0', '1', '2', '3', '4', '5', '6'};
    if (t->open && close_entry(t) < 0)
        return t->failed;
    if (en->type > TAR_FIFO || !en->path || !*en->path || en->n_xattrs > ELEMENTS(en->xattrs))
        return -EINVAL;
    if (en->dev_major > OCT7 || en->dev_minor > OCT7)
        return -ERANGE;
    uint64_t size = en->type == TAR_FILE ? en->size : 0;
    uint8_t h[BLOCK] = {0};
    _cleanup_buf_ struct buf pax = BUF_MAX(PAX_LIMIT);
    _cleanup_free_ char *folder = NULL;
    const char *path = en->path;
    if (en->type == TAR_DIR && !endswith(path, "/"))
        path = folder = xasprintf("%s/", path);
    if (!put_name(h, path))
        pax_add(&pax, "path", path, strlen(path));
    if (en->type == TAR_HARDLINK || en->type == TAR_SYMLINK) {
        size_t n = en->link ? strlen(en->link) : 0;
        if (!n)
            return -EINVAL;
        if (n <= 100 && ascii(en->link))
            memcpy(h + 157, en->link, n);
        else
            pax_add(&pax, "linkpath", en->link, n);
    }
    put_numbers(h, en, size, &pax);
    struct tar_xattr sorted[ELEMENTS(en->xattrs)];
    if (en->n_xattrs)
        memcpy(sorted, en->xattrs, en->n_xattrs * sizeof *sorted);
    qsort(sorted, en->n_xattrs, sizeof *sorted, by_name);
    for (size_t i = 0; i < en->n_xattrs; i++) {
        char key[300];
        if (snprintf(key, sizeof key, "SCHILY.xattr.%s", sorted[i].name) >= (int)sizeof key)
            return -ENAMETOOLONG;
        pax_add(&pax, key, sorted[i].value.p, sorted[i].value.n);
    }
    if (!buf_ok(&pax))
        return -EFBIG;
    h[156] = (uint8_t)types[en->type];
    memcpy(h + 257, "ustar\00000", 8);
    seal(h);
    int r = pax.n ? put_pax(t, &pax) : 0;
    if (r >= 0)
        r = out(t, h, BLOCK);
    if (r < 0)
        return r;
    t->open = true;
    t->left = size;
    t->padding = (BLOCK - size % BLOCK) % BLOCK;
    return 0;
}

int tar_put_data(struct tar_writer *t, const void *p, size_t n) {
    if (n > t->left)
        return t->failed = t->failed ? t->failed : -EIO;
    t->left -= n;
    return out(t, p, n);
}

int tar_put_fd(struct tar_writer *t, int fd, uint64_t size) {
    enum { CHUNK = 256 << 10 };
    _cleanup_free_ char *chunk = xmalloc(CHUNK);
    while (size) {
        ssize_t n = read(fd, chunk, (size_t)MIN(size, (uint64_t)CHUNK));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return t->failed = n < 0 ? -errno : -EIO;
        int r = tar_put_data(t, chunk, (size_t)n);
        if (r < 0)
            return r;
        size -= (uint64_t)n;
    }
    return 0;
}

int tar_end(struct tar_writer *t) {
    if (t->open && close_entry(t) < 0)
        return t->failed;
    int r = zeros(t, 2 * BLOCK);
    return r < 0 ? r : flush(t);
}
