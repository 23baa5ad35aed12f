/* Digests on OpenSSL 3. The algorithm is fetched once per process: EVP_sha256() would look it up
 * through the provider tables at each init, which costs more than hashing a small message. */
#include "base/digest.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <fcntl.h>
#include <pthread.h>

struct sha256 {
    EVP_MD_CTX *ctx;
};

static EVP_MD *md_sha256;

static void fetch(void) {
    md_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!md_sha256) {
        fputs("slipway: OpenSSL has no SHA-256\n", stderr);
        abort();
    }
}

static const EVP_MD *sha256_md(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fetch);
    return md_sha256;
}

/* OpenSSL fails here only without memory; a wrong digest must never come out of that. */
static void must(int ok) {
    if (ok != 1) {
        fputs("slipway: hashing failed (out of memory?)\n", stderr);
        abort();
    }
}

struct sha256 *sha256_new(void) {
    struct sha256 *h = xmalloc(sizeof *h);
    h->ctx = EVP_MD_CTX_new();
    must(h->ctx != NULL);
    must(EVP_DigestInit_ex2(h->ctx, sha256_md(), NULL));
    return h;
}

void sha256_update(struct sha256 *h, const void *p, size_t n) {
    must(EVP_DigestUpdate(h->ctx, p, n));
}

void sha256_final(struct sha256 *h, uint8_t out[32]) {
    unsigned n = 0;
    must(EVP_DigestFinal_ex(h->ctx, out, &n));
    assert(n == 32);
    must(EVP_DigestInit_ex2(h->ctx, sha256_md(), NULL));
}

void sha256_free(struct sha256 *h) {
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void sha256_bytes(const void *p, size_t n, uint8_t out[32]) {
    unsigned len = 0;
    must(EVP_Digest(p, n, out, &len, sha256_md(), NULL));
    assert(len == 32);
}

void digest_format(const uint8_t raw[32], char out[DIGEST_LEN + 1]) {
    static const char hex[] = "0123456789abcdef";
    memcpy(out, "sha256:", 7);
    for (size_t i = 0; i < 32; i++) {
        out[7 + 2 * i] = hex[raw[i] >> 4];
        out[8 + 2 * i] = hex[raw[i] & 15];
    }
    out[DIGEST_LEN] = 0;
}

void digest_of(const void *p, size_t n, char out[DIGEST_LEN + 1]) {
    uint8_t raw[32];
    sha256_bytes(p, n, raw);
    digest_format(raw, out);
}

int digest_of_fd(int fd, char out[DIGEST_LEN + 1], uint64_t *ret_size) {
    enum { BLOCK = 256 << 10 };
    _cleanup_free_ char *block = xmalloc(BLOCK);
    uint64_t size = 0;
    struct sha256 *h = sha256_new();
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (;;) {
        ssize_t n = read(fd, block, BLOCK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int r = -errno;
            sha256_free(h);
            return r;
        }
        if (n == 0)
            break;
        sha256_update(h, block, (size_t)n);
        size += (uint64_t)n;
    }
    uint8_t raw[32];
    sha256_final(h, raw);
    sha256_free(h);
    digest_format(raw, out);
    if (ret_size)
        *ret_size = size;
    return 0;
}

static bool digest_is(struct sv s, const char *prefix, size_t hex) {
    size_t from = strlen(prefix);
    if (s.n != from + hex || memcmp(s.p, prefix, from) != 0)
        return false;
    for (size_t i = from; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return true;
}

bool digest_valid(struct sv s) { return digest_is(s, "sha256:", 64); }

bool digest_valid_any(struct sv s) { return digest_valid(s) || digest_is(s, "sha512:", 128); }

int digest_of_fd_like(int fd, const char *like, char out[DIGEST_ANY_LEN + 1]) {
    enum { BLOCK = 256 << 10 };
    if (digest_valid(sv_from(like)))
        return digest_of_fd(fd, out, NULL);
    _cleanup_free_ char *block = xmalloc(BLOCK);
    uint8_t raw[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int r = ctx && EVP_DigestInit_ex(ctx, EVP_sha512(), NULL) == 1 ? 0 : -ENOMEM;
    for (ssize_t n = 1; r == 0 && n != 0;) {
        n = read(fd, block, BLOCK);
        if (n < 0)
            r = errno == EINTR ? 0 : -errno;
        else
            must(EVP_DigestUpdate(ctx, block, (size_t)n));
    }
    if (r == 0) {
        must(EVP_DigestFinal_ex(ctx, raw, &len));
        memcpy(out, "sha512:", 8);
        for (unsigned i = 0; i < len; i++)
            snprintf(out + 7 + 2 * i, 3, "%02x", raw[i]);
    }
    EVP_MD_CTX_free(ctx);
    return r;
}

int digest_any(const char *alg, const void *p, size_t n, uint8_t out[64], size_t *ret_len) {
    static const char *const known[] = {"sha1", "sha256", "sha384", "sha512", "md5"};
    bool ok = false;
    for (size_t i = 0; i < ELEMENTS(known); i++)
        ok = ok || streq(alg, known[i]);
    if (!ok)
        return -ENOTSUP;
    EVP_MD *md = EVP_MD_fetch(NULL, alg, NULL);
    if (!md)
        return -ENOTSUP;
    uint8_t full[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int r = EVP_Digest(p, n, full, &len, md, NULL);
    EVP_MD_free(md);
    if (r != 1)
        return -EIO;
    memcpy(out, full, len);
    *ret_len = len;
    return 0;
}

void hmac_sha256(struct sv key, struct sv msg, uint8_t out[32]) {
    size_t len = 0;
    must(EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key.n ? key.p : "", key.n,
                   (const unsigned char *)(msg.n ? msg.p : ""), msg.n, out, 32, &len) != NULL);
    assert(len == 32);
}
