#pragma once
/* The masker: replaces every secret value, and the encodings in which one could appear, by "***".
 * Aho-Corasick over all patterns with a fast scan for bytes that can start one. Secrets may be
 * added while streams run (thread-safe; a stream sees them from its next write on). Values of one
 * character and empty ones are never masked.
 *
 * For one secret: trimmed whole value, each line of a multi-line value, base64 (standard and URL,
 * three offsets), URI, JSON string, XML, shell- and PowerShell-quoted forms; leaves of a JSON
 * document are secrets of their own. Source: actions/runner SecretMasker and ValueEncoders. */
#include "core/str.h"

struct masker;
struct masker *masker_new(void);
void masker_free(struct masker *m); /* zeroes what it held */
void masker_add(struct masker *m, struct sv secret);
bool masker_empty(const struct masker *m);
/* Appends `in` masked to out. Returns true when something was replaced. */
bool mask_text(struct masker *m, struct sv in, struct buf *out);
bool mask_has(struct masker *m, struct sv in); /* holds a secret? */

/* Streaming: finds secrets split over two writes. Output is delayed by at most the longest
 * pattern; flush at the end. out is called with runs of bytes, zero-copy where nothing matched. */
struct mask_stream;
typedef int (*mask_out_fn)(void *arg, struct sv chunk); /* negative errno stops */
struct mask_stream *mask_stream_new(struct masker *m, mask_out_fn out, void *arg);
int mask_stream_write(struct mask_stream *s, struct sv in);
int mask_stream_flush(struct mask_stream *s);
void mask_stream_free(struct mask_stream *s);
