/* The tar reader. It pulls 512-byte blocks out of a read-ahead buffer. The entries that only
 * describe the next one (pax 'x', GNU 'L' and 'K') are collected first; then the real header is
 * read and what was collected overrides its fields. pax records are cut in place (the '=' and the
 * '\n' become NULs), so names and extended attributes point into the collected text.
 *
 * Every number is bounded before it is used, every loop consumes input, and what is not understood
 * is refused: two readers that disagree about an archive are how files get smuggled. Where the
 * format leaves room the choice is that of Go's archive/tar, which wrote most layers there are:
 * links and folders have no data whatever their size field says, a missing end mark is accepted at
 * a header's boundary. Sources: POSIX.1-2017 pax, GNU tar manual (basic format). */
#include "base/tar.h"

enum {
    BLOCK = 512,
    AHEAD = 64 << 10,
    NAME_LIMIT = 4096,
    PAX_LIMIT = 1 << 20,
    ENTRIES_LIMIT = 4000000,
};

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], type, link[100];
    char magic[8], uname[32], gname[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a tar header is one block");

/* What pax records said about the next entry. */
struct pax {
    const char *path, *link;
    bool has_size, has_uid, has_gid, has_mtime;
    uint64_t size, uid, gid;
    int64_t mtime;
    uint32_t mtime_ns;
};

struct tar_reader {
    tar_read_fn rd;
    void *arg;
    char *ahead;
    size_t at, have;
    uint64_t left, padding; /* of the current entry's data */
    uint64_t entries;
    bool ended;
    int failed;
    struct tar_entry en;
    struct pax pax;
    struct buf pax_text, long_name, long_link;
    char name[100 + 155 + 2], link[101];
};

struct tar_reader *tar_reader_new(tar_read_fn rd, void *arg) {
    struct tar_reader *t = xcalloc(1, sizeof *t);
    t->rd = rd;
    t->arg = arg;
    t->ahead = xmalloc(AHEAD);
    t->pax_text.max = PAX_LIMIT + 1;
    t->long_name.max = t->long_link.max = NAME_LIMIT + 2;
    return t;
}

void tar_reader_free(struct tar_reader *t) {
    if (!t)
        return;
    buf_done(&t->pax_text);
    buf_done(&t->long_name);
    buf_done(&t->long_link);
    free(t->ahead);
    free(t);
}

static int bad(struct tar_reader *t, struct err *e, const char *what) {
    t->failed = -EBADMSG;
    return err_set(e, ERR_USER, -EBADMSG, "archive: %s (entry %llu)", what,
                   (unsigned long long)t->entries + 1);
}

/* Up to n bytes; large reads go past the buffer. 0 = end. */
static ssize_t pull(struct tar_reader *t, void *p, size_t n) {
    if (t->have) {
        n = MIN(n, t->have);
        memcpy(p, t->ahead + t->at, n);
        t->at += n;
        t->have -= n;
        return (ssize_t)n;
    }
    if (n >= AHEAD)
        return t->rd(t->arg, p, n);
    ssize_t r = t->rd(t->arg, t->ahead, AHEAD);
    if (r <= 0)
        return r;
    t->at = 0;
    t->have = (size_t)r;
    return pull(t, p, n);
}

/* Exactly n bytes: 1; a clean end before the first: 0; -EBADMSG when cut short. */
static int pull_full(struct tar_reader *t, void *p, size_t n) {
    size_t got = 0;
    while (got < n) {
        ssize_t r = pull(t, (char *)p + got, n - got);
        if (r < 0)
            return (int)r;
        if (r == 0)
            return got ? -EBADMSG : 0;
        got += (size_t)r;
    }
    return 1;
}

static int skip(struct tar_reader *t, uint64_t n) {
    _cleanup_free_ char *waste = NULL;
    while (n) {
        if (!t->have) {
            if (!waste)
                waste = xmalloc(AHEAD);
            ssize_t r = pull(t, waste, (size_t)MIN(n, (uint64_t)AHEAD));
            if (r <= 0)
                return r < 0 ? (int)r : -EBADMSG;
            n -= (uint64_t)r;
            continue;
        }
        size_t k = (size_t)MIN(n, (uint64_t)t->have);
        t->at += k;
        t->have -= k;
        n -= k;
    }
    return 0;
}

/* Octal digits (blanks and NULs around) or GNU base-256. -EINVAL when it is neither. */
static int number(const char *p, size_t n, bool negative_ok, int64_t *ret) {
    const uint8_t *u = (const uint8_t *)p;
    if (u[0] & 0x80) {
        bool neg = u[0] & 0x40;
        uint64_t v = neg ? UINT64_MAX : 0;
        for (size_t i = 0; i < n; i++) {
            uint8_t c = i == 0 ? (uint8_t)((u[0] & 0x3f) | (neg ? 0xc0 : 0)) : u[i];
            if (n - i > 8 && c != (neg ? 0xff : 0))
                return -EINVAL;
            v = v << 8 | c;
        }
        if ((neg && !negative_ok) || (!neg && v > INT64_MAX) || (neg && v <= INT64_MAX))
            return -EINVAL;
        *ret = (int64_t)v;
        return 0;
    }
    size_t i = 0;
    while (i < n && (p[i] == ' ' || p[i] == 0))
        i++;
    uint64_t v = 0;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        v = v << 3 | (uint64_t)(p[i] - '0');
    for (; i < n; i++)
        if (p[i] != ' ' && p[i] != 0)
            return -EINVAL;
    *ret = (int64_t)v; /* 12 octal digits fit */
    return 0;
}

static bool checksum_ok(const struct header *h) {
    const uint8_t *p = (const uint8_t *)h;
    int64_t want, uns = 0, sig = 0;
    if (number(h->chksum, sizeof h->chksum, false, &want) < 0)
        return false;
    for (size_t i = 0; i < BLOCK; i++) {
        uint8_t c = i >= 148 && i < 156 ? ' ' : p[i];
        uns += c;
        sig += (int8_t)c;
    }
    return want == uns || want == sig;
}

static bool all_zero(const void *p) {
    const uint8_t *u = p;
    return u[0] == 0 && memcmp(u, u + 1, BLOCK - 1) == 0;
}

/* The data of a describing entry into b. */
static int collect(struct tar_reader *t, struct buf *b, uint64_t size, struct err *e) {
    buf_reset(b);
    if (size >= b->max)
        return bad(t, e, "a name or header that is too long");
    if (!size)
        return 0;
    if (!buf_reserve(b, (size_t)size + 1))
        return bad(t, e, "a name or header that is too long");
    int r = pull_full(t, b->p, (size_t)size);
    if (r == 0)
        r = -EBADMSG;
    if (r < 0)
        return r == -EBADMSG ? bad(t, e, "it ends in the middle") : r;
    b->n = (size_t)size;
    b->p[b->n] = 0;
    r = skip(t, (BLOCK - size % BLOCK) % BLOCK);
    return r == -EBADMSG ? bad(t, e, "it ends in the middle") : r;
}

/* "123", "-5.25": seconds and nanoseconds (rounded down). */
static int pax_time(const char *s, int64_t *sec, uint32_t *ns) {
    bool neg = *s == '-';
    s += neg;
    struct sv rest = sv_from(s), whole;
    sv_split(&rest, '.', &whole);
    uint64_t v;
    if (sv_u64(whole, INT64_MAX / 2, &v) < 0)
        return -EINVAL;
    uint32_t frac = 0;
    for (size_t i = 0; i < 9; i++) {
        char c = rest.p && i < rest.n ? rest.p[i] : '0';
        if (c < '0' || c > '9')
            return -EINVAL;
        frac = frac * 10 + (uint32_t)(c - '0');
    }
    *sec = neg ? -(int64_t)v : (int64_t)v;
    if (neg && frac) {
        *sec -= 1;
        frac = 1000000000u - frac;
    }
    *ns = frac;
    return 0;
}

static int pax_record(struct tar_reader *t, const char *key, char *value, size_t n, struct err *e) {
    struct pax *x = &t->pax;
    const char *name = startswith(key, "SCHILY.xattr.");
    if (name) {
        if (!*name || strlen(name) > 255)
            return bad(t, e, "an extended attribute's name is not valid");
        for (size_t i = 0; i < t->en.n_xattrs; i++)
            if (streq(t->en.xattrs[i].name, name)) {
                t->en.xattrs[i].value = sv_n(value, n);
                return 0;
            }
        if (t->en.n_xattrs == ELEMENTS(t->en.xattrs))
            return bad(t, e, "more than 32 extended attributes on one file");
        t->en.xattrs[t->en.n_xattrs++] = (struct tar_xattr){name, sv_n(value, n)};
        return 0;
    }
    if (startswith(key, "GNU.sparse."))
        return bad(t, e, "sparse files are not supported");
    if (memchr(value, 0, n))
        return bad(t, e, "a NUL in a pax header");
    int r = 0;
    if (streq(key, "path"))
        x->path = n ? value : NULL;
    else if (streq(key, "linkpath"))
        x->link = n ? value : NULL;
    else if (streq(key, "size"))
        x->has_size = n > 0, r = n ? sv_u64(sv_n(value, n), INT64_MAX, &x->size) : 0;
    else if (streq(key, "uid"))
        x->has_uid = n > 0, r = n ? sv_u64(sv_n(value, n), INT64_MAX, &x->uid) : 0;
    else if (streq(key, "gid"))
        x->has_gid = n > 0, r = n ? sv_u64(sv_n(value, n), INT64_MAX, &x->gid) : 0;
    else if (streq(key, "mtime"))
        x->has_mtime = n > 0, r = n ? pax_time(value, &x->mtime, &x->mtime_ns) : 0;
    if (r < 0)
        return bad(t, e, "a number in a pax header is not valid");
    if ((x->path && strlen(x->path) > NAME_LIMIT) || (x->link && strlen(x->link) > NAME_LIMIT))
        return bad(t, e, "a name longer than 4096 bytes");
    return 0;
}

/* "LEN KEY=VALUE\n" … */
static int pax_parse(struct tar_reader *t, struct err *e) {
    char *p = t->pax_text.p;
    size_t n = t->pax_text.n;
    memset(&t->pax, 0, sizeof t->pax);
    t->en.n_xattrs = 0;
    while (n) {
        if (*p == 0) /* some writers pad the data itself */
            break;
        char *space = memchr(p, ' ', MIN(n, (size_t)8));
        uint64_t len;
        if (!space || sv_u64(sv_n(p, (size_t)(space - p)), n, &len) < 0)
            return bad(t, e, "a pax header is malformed");
        size_t digits = (size_t)(space - p);
        if (len < digits + 4 || p[len - 1] != '\n')
            return bad(t, e, "a pax header is malformed");
        char *key = space + 1, *end = p + len - 1;
        char *eq = memchr(key, '=', (size_t)(end - key));
        if (!eq || eq == key || memchr(key, 0, (size_t)(eq - key)))
            return bad(t, e, "a pax header is malformed");
        *eq = *end = 0;
        int r = pax_record(t, key, eq + 1, (size_t)(end - eq - 1), e);
        if (r < 0)
            return r;
        p += len;
        n -= (size_t)len;
    }
    return 0;
}

static int entry_type(char c, enum tar_type *ret) {
    switch (c) {
    case 0:
    case '0':
    case '7':
        *ret = TAR_FILE;
        return 0;
    case '1':
        *ret = TAR_HARDLINK;
        return 0;
    case '2':
        *ret = TAR_SYMLINK;
        return 0;
    case '3':
        *ret = TAR_CHAR;
        return 0;
    case '4':
        *ret = TAR_BLOCK;
        return 0;
    case '5':
        *ret = TAR_DIR;
        return 0;
    case '6':
        *ret = TAR_FIFO;
        return 0;
    default:
        return -ENOTSUP;
    }
}

/* The names of the header itself, into t->name and t->link. */
static void header_names(struct tar_reader *t, const struct header *h) {
    size_t n = strnlen(h->name, sizeof h->name), k = 0;
    if (memcmp(h->magic, "ustar\0", 6) == 0 && h->prefix[0]) {
        k = strnlen(h->prefix, sizeof h->prefix);
        memcpy(t->name, h->prefix, k);
        t->name[k++] = '/';
    }
    memcpy(t->name + k, h->name, n);
    t->name[k + n] = 0;
    n = strnlen(h->link, sizeof h->link);
    memcpy(t->link, h->link, n);
    t->link[n] = 0;
}

static int finish_entry(struct tar_reader *t, const struct header *h, uint64_t size, struct err *e) {
    struct tar_entry *en = &t->en;
    const struct pax *x = &t->pax;
    int64_t mode, uid, gid, mtime, major = 0, minor = 0;
    if (entry_type(h->type, &en->type) < 0)
        return bad(t, e, h->type == 'S' ? "sparse files are not supported"
                                        : "an entry of a type that is not supported");
    if (number(h->mode, 8, false, &mode) < 0 || number(h->uid, 8, false, &uid) < 0 ||
        number(h->gid, 8, false, &gid) < 0 || number(h->mtime, 12, true, &mtime) < 0)
        return bad(t, e, "a number in a header is not valid");
    if ((en->type == TAR_CHAR || en->type == TAR_BLOCK) &&
        (number(h->major, 8, false, &major) < 0 || number(h->minor, 8, false, &minor) < 0 ||
         major > UINT32_MAX || minor > UINT32_MAX))
        return bad(t, e, "a device number is not valid");
    header_names(t, h);
    en->path = x->path ? x->path : t->long_name.n ? t->long_name.p : t->name;
    en->link = x->link ? x->link : t->long_link.n ? t->long_link.p : t->link;
    en->mode = (uint32_t)(mode & 07777);
    en->uid = x->has_uid ? x->uid : (uint64_t)uid;
    en->gid = x->has_gid ? x->gid : (uint64_t)gid;
    en->mtime = x->has_mtime ? x->mtime : mtime;
    en->mtime_ns = x->has_mtime ? x->mtime_ns : 0;
    en->dev_major = (uint32_t)major;
    en->dev_minor = (uint32_t)minor;
    en->size = x->has_size ? x->size : size;
    size_t n = strlen(en->path);
    if (n == 0)
        return bad(t, e, "an entry without a name");
    if (en->type == TAR_FILE && en->path[n - 1] == '/') {
        if (en->size)
            return bad(t, e, "a folder with data");
        en->type = TAR_DIR;
    }
    if ((en->type == TAR_HARDLINK || en->type == TAR_SYMLINK) && !*en->link)
        return bad(t, e, "a link without a target");
    if (en->type != TAR_FILE)
        en->size = 0;
    t->left = en->size;
    t->padding = (BLOCK - en->size % BLOCK) % BLOCK;
    return 0;
}

/* A describing entry: 1 = it was one (consumed), 0 = not. */
static int describing(struct tar_reader *t, const struct header *h, uint64_t size, struct err *e) {
    int r;
    switch (h->type) {
    case 'x':
        r = collect(t, &t->pax_text, size, e);
        if (r >= 0)
            r = pax_parse(t, e);
        break;
    case 'g': { /* global: nothing that layers or contexts use (git writes a comment) */
        _cleanup_buf_ struct buf b = BUF_MAX(PAX_LIMIT);
        r = collect(t, &b, size, e);
        break;
    }
    case 'L':
    case 'K': {
        struct buf *b = h->type == 'L' ? &t->long_name : &t->long_link;
        r = collect(t, b, size, e);
        if (r < 0)
            break;
        while (b->n && b->p[b->n - 1] == 0)
            b->n--;
        if (b->n && memchr(b->p, 0, b->n))
            return bad(t, e, "a NUL in a name");
        if (b->n > NAME_LIMIT)
            return bad(t, e, "a name longer than 4096 bytes");
        break;
    }
    default:
        return 0;
    }
    return r < 0 ? r : 1;
}

static int end_mark(struct tar_reader *t, struct err *e) {
    struct header h;
    int r = pull_full(t, &h, BLOCK);
    if (r < 0 && r != -EBADMSG)
        return err_errno(e, r, "archive");
    if (r == -EBADMSG || (r == 1 && !all_zero(&h)))
        return bad(t, e, "data after its end");
    t->ended = true;
    return 0;
}

int tar_next(struct tar_reader *t, const struct tar_entry **ret, struct err *e) {
    if (t->failed)
        return err_set(e, ERR_USER, t->failed, "archive: already failed");
    if (t->ended)
        return 0;
    int r = skip(t, t->left + t->padding);
    t->left = t->padding = 0;
    if (r < 0)
        return r == -EBADMSG ? bad(t, e, "it ends in the middle") : err_errno(e, r, "archive");
    buf_reset(&t->pax_text);
    buf_reset(&t->long_name);
    buf_reset(&t->long_link);
    memset(&t->pax, 0, sizeof t->pax);
    t->en.n_xattrs = 0;
    for (unsigned described = 0;; described++) {
        struct header h;
        r = pull_full(t, &h, BLOCK);
        if (r == 0 && !described) {
            t->ended = true;
            return 0;
        }
        if (r == 0 || r == -EBADMSG)
            return bad(t, e, "it ends in the middle");
        if (r < 0)
            return err_errno(e, t->failed = r, "archive");
        if (all_zero(&h))
            return described ? bad(t, e, "it ends in the middle") : end_mark(t, e);
        int64_t size;
        if (!checksum_ok(&h))
            return bad(t, e, t->entries ? "a header's checksum is wrong" : "this is not a tar archive");
        if (number(h.size, sizeof h.size, false, &size) < 0)
            return bad(t, e, "a size is not valid");
        if (described > 16)
            return bad(t, e, "too many headers for one entry");
        r = describing(t, &h, (uint64_t)size, e);
        if (r < 0)
            return err_wrap(e, t->failed = r, "archive");
        if (r == 1)
            continue;
        if (t->entries >= ENTRIES_LIMIT) {
            t->failed = -EFBIG;
            return err_set(e, ERR_LIMIT, -EFBIG, "archive: more than %d entries", ENTRIES_LIMIT);
        }
        r = finish_entry(t, &h, (uint64_t)size, e);
        if (r < 0)
            return r;
        t->entries++;
        *ret = &t->en;
        return 1;
    }
}

ssize_t tar_data(struct tar_reader *t, void *p, size_t n) {
    if (t->failed)
        return t->failed;
    if (!t->left || !n)
        return 0;
    ssize_t r = pull(t, p, (size_t)MIN((uint64_t)n, t->left));
    if (r <= 0)
        return t->failed = r < 0 ? (int)r : -EBADMSG;
    t->left -= (uint64_t)r;
    return r;
}
