/* Compressed layers (gzip members, zstd frames) on any bytes: read to the end or refused, within the bound. */
#include "base/compress.h"

#include <sys/mman.h>

#define BOUND (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct decoder *d;
    struct err e;
    static char out[64 << 10];
    uint64_t n = 0;
    ssize_t k = 0;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) < 0)
        abort();
    if (decoder_new(&d, fd, BOUND, &e) == 0) {
        while ((k = decoder_read(d, out, sizeof out)) > 0)
            n += (uint64_t)k;
        assert(n <= BOUND && k <= 0);
        if (k < 0) /* an error stays one */
            assert(decoder_read(d, out, sizeof out) < 0);
        decoder_free(d);
    }
    close(fd);
    return 0;
}
