/* The decoder: finds the format by its first bytes, then inflates with ISA-L or libzstd straight
 * into the reader's buffer. gzip files of several members are one stream; zero bytes after the
 * last member are padding, anything else is an error. An input that ends early is -EBADMSG. */
#include "base/compress.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>

enum { IN_BLOCK = 128 << 10, ZSTD_WINDOW_LOG = 27 };

struct decoder {
    int fd;
    enum codec codec;
    uint64_t max, given;
    uint8_t *in;
    size_t at, have;
    bool in_end;  /* fd is exhausted */
    bool stopped; /* the last member is complete and nothing follows */
    int failed;
    struct inflate_state *gz;
    bool between; /* gzip: between members; zstd: between frames */
    ZSTD_DCtx *z;
};

static int fill(struct decoder *d) {
    if (d->in_end)
        return 0;
    if (d->at) {
        memmove(d->in, d->in + d->at, d->have);
        d->at = 0;
    }
    while (d->have < IN_BLOCK) {
        ssize_t n = read(d->fd, d->in + d->have, IN_BLOCK - d->have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            d->in_end = true;
        d->have += (size_t)n;
        if (n == 0 || d->have >= 18) /* enough to look at a header; do not wait for more */
            break;
    }
    return 0;
}

static bool zstd_magic(const uint8_t *p, size_t n) {
    if (n < 4)
        return false;
    uint32_t m = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return m == 0xfd2fb528u || (m & 0xfffffff0u) == 0x184d2a50u;
}

int decoder_new(struct decoder **ret, int fd, uint64_t max, struct err *e) {
    struct decoder *d = xcalloc(1, sizeof *d);
    d->fd = fd;
    d->max = max ? max : UINT64_MAX;
    d->in = xmalloc(IN_BLOCK);
    int r = fill(d);
    if (r < 0) {
        decoder_free(d);
        return err_errno(e, r, "read");
    }
    const uint8_t *p = d->in;
    if (d->have >= 2 && p[0] == 0x1f && p[1] == 0x8b) {
        d->codec = CODEC_GZIP;
        d->gz = xmalloc(sizeof *d->gz);
        isal_inflate_init(d->gz);
        d->gz->crc_flag = ISAL_GZIP;
    } else if (zstd_magic(p, d->have)) {
        d->codec = CODEC_ZSTD;
        d->between = true;
        d->z = ZSTD_createDCtx();
        if (!d->z || ZSTD_isError(ZSTD_DCtx_setParameter(d->z, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG))) {
            decoder_free(d);
            return err_errno(e, -ENOMEM, "zstd");
        }
    } else if ((d->have >= 6 && memcmp(p, "\xfd" "7zXZ\0", 6) == 0) ||
               (d->have >= 10 && memcmp(p, "BZh", 3) == 0 && memcmp(p + 4, "1AY&SY", 6) == 0)) {
        decoder_free(d);
        return err_set(e, ERR_USER, -ENOTSUP, "xz and bzip2 are not supported yet");
    }
    *ret = d;
    return 0;
}

/* Between two gzip members. */
static int next_member(struct decoder *d) {
    while (d->have < 2 && !d->in_end) {
        int r = fill(d);
        if (r < 0)
            return r;
    }
    const uint8_t *p = d->in + d->at;
    if (d->have >= 2 && p[0] == 0x1f && p[1] == 0x8b) {
        isal_inflate_reset(d->gz);
        d->gz->crc_flag = ISAL_GZIP;
        d->between = false;
        return 0;
    }
    for (;;) {
        for (; d->have; d->at++, d->have--)
            if (d->in[d->at] != 0)
                return -EBADMSG;
        if (d->in_end)
            break;
        int r = fill(d);
        if (r < 0)
            return r;
    }
    d->stopped = true;
    return 0;
}

static ssize_t read_gzip(struct decoder *d, void *p, size_t n) {
    struct inflate_state *s = d->gz;
    s->next_out = p;
    s->avail_out = (uint32_t)n;
    while (s->avail_out == n && !d->stopped) {
        int r;
        if (d->between) {
            if ((r = next_member(d)) < 0)
                return r;
            s->next_out = p;
            s->avail_out = (uint32_t)n;
            continue;
        }
        if (!d->have && (r = fill(d)) < 0)
            return r;
        bool at_end = !d->have && d->in_end;
        s->next_in = d->in + d->at;
        s->avail_in = (uint32_t)d->have;
        r = isal_inflate(s);
        d->at += d->have - s->avail_in;
        d->have = s->avail_in;
        if (r != ISAL_DECOMP_OK && r != ISAL_END_INPUT && r != ISAL_OUT_OVERFLOW)
            return -EBADMSG;
        if (s->block_state == ISAL_BLOCK_FINISH)
            d->between = true;
        else if (at_end && s->avail_out == n)
            return -EBADMSG; /* cut short */
    }
    return (ssize_t)(n - s->avail_out);
}

static ssize_t read_zstd(struct decoder *d, void *p, size_t n) {
    ZSTD_outBuffer out = {p, n, 0};
    while (out.pos == 0) {
        int r;
        if (!d->have && (r = fill(d)) < 0)
            return r;
        bool at_end = !d->have && d->in_end;
        if (at_end && d->between) {
            d->stopped = true;
            return 0;
        }
        ZSTD_inBuffer in = {d->in + d->at, d->have, 0};
        size_t z = ZSTD_decompressStream(d->z, &out, &in);
        if (ZSTD_isError(z))
            return -EBADMSG;
        d->at += in.pos;
        d->have -= in.pos;
        d->between = z == 0;
        if (at_end && out.pos == 0 && !d->between)
            return -EBADMSG;
    }
    return (ssize_t)out.pos;
}

static ssize_t read_plain(struct decoder *d, void *p, size_t n) {
    if (d->have) {
        n = MIN(n, d->have);
        memcpy(p, d->in + d->at, n);
        d->at += n;
        d->have -= n;
        return (ssize_t)n;
    }
    for (;;) {
        ssize_t r = d->in_end ? 0 : read(d->fd, p, n);
        if (r < 0 && errno == EINTR)
            continue;
        return r < 0 ? -errno : r;
    }
}

ssize_t decoder_read(struct decoder *d, void *p, size_t n) {
    if (d->failed)
        return d->failed;
    if (d->stopped || !n)
        return 0;
    n = MIN(n, (size_t)1 << 30);
    ssize_t r = d->codec == CODEC_GZIP ? read_gzip(d, p, n) : d->codec == CODEC_ZSTD ? read_zstd(d, p, n) : read_plain(d, p, n);
    if (r > 0 && (uint64_t)r > d->max - d->given)
        r = -EFBIG;
    if (r < 0)
        d->failed = (int)r;
    else
        d->given += (uint64_t)r;
    return r;
}

enum codec decoder_codec(const struct decoder *d) { return d->codec; }

void decoder_free(struct decoder *d) {
    if (!d)
        return;
    free(d->in);
    free(d->gz);
    ZSTD_freeDCtx(d->z);
    free(d);
}
