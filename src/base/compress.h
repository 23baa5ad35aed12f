#pragma once
/* gzip (ISA-L, fixed blocks, so that bytes do not depend on the number of threads), zstd. */
#include "core/err.h"
#include "core/str.h"

enum codec { CODEC_NONE, CODEC_GZIP, CODEC_ZSTD };
typedef int (*sink_fn)(void *arg, const void *p, size_t n); /* negative errno stops */
struct compressor;
/* threads 0 = cores. Output goes to sink in order, from the calling thread. */
int compress_new(struct compressor **ret, enum codec c, int level, unsigned threads, sink_fn sink, void *arg);
int compress_write(struct compressor *c, const void *p, size_t n);
int compress_end(struct compressor *c);
void compress_free(struct compressor *c);
/* Reads fd (from its position) through the right decoder, found by magic bytes. `read` gives
 * decoded bytes, 0 = end; max bounds the decoded size (bombs): -EFBIG; 0 = no bound. zstd window
 * limited to 128 MiB. Damaged or cut input: -EBADMSG. */
struct decoder;
int decoder_new(struct decoder **ret, int fd, uint64_t max, struct err *e);
ssize_t decoder_read(struct decoder *d, void *p, size_t n);
enum codec decoder_codec(const struct decoder *d);
void decoder_free(struct decoder *d);
