#pragma once
/* SHA-256 by OpenSSL (EVP_MD fetched once). Digests are written "sha256:<64 hex>". */
#include "core/err.h"
#include "core/str.h"

struct sha256;
#define DIGEST_LEN 71 /* "sha256:" and 64 hex digits; buffers need DIGEST_LEN + 1 */
struct sha256 *sha256_new(void);
void sha256_update(struct sha256 *h, const void *p, size_t n);
void sha256_final(struct sha256 *h, uint8_t out[32]); /* ready for the next message after */
void sha256_free(struct sha256 *h);
void sha256_bytes(const void *p, size_t n, uint8_t out[32]);
void digest_format(const uint8_t raw[32], char out[DIGEST_LEN + 1]);
void digest_of(const void *p, size_t n, char out[DIGEST_LEN + 1]);
int digest_of_fd(int fd, char out[DIGEST_LEN + 1], uint64_t *ret_size);
bool digest_valid(struct sv s); /* exactly "sha256:" and 64 lower-case hex digits */
/* The same, or "sha512:" and 128: what registries may be asked for. The store itself knows sha256. */
#define DIGEST_ANY_LEN 135
bool digest_valid_any(struct sv s);
/* Digest of what is left of fd, by the algorithm of `like` (which digest_valid_any). */
int digest_of_fd_like(int fd, const char *like, char out[DIGEST_ANY_LEN + 1]);
static inline const char *digest_hex(const char *digest) { return digest + 7; }
/* SHA-1 and SHA-512 for those that ask for them (git blobs, integrity): alg "sha1", "sha512"… */
int digest_any(const char *alg, const void *p, size_t n, uint8_t out[64], size_t *ret_len);
/* HMAC-SHA256, for tokens. */
void hmac_sha256(struct sv key, struct sv msg, uint8_t out[32]);
