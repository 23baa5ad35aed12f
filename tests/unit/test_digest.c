#include "test.h"

#include "base/digest.h"

#include <fcntl.h>

TEST(known_vectors) {
    char d[DIGEST_LEN + 1];
    digest_of("", 0, d);
    CHECK_STR(d, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_of("abc", 3, d);
    CHECK_STR(d, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_STR(digest_hex(d), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(streaming_and_reuse) {
    struct sha256 *h = sha256_new();
    uint8_t a[32], b[32];
    sha256_bytes("hello world", 11, b);
    for (int i = 0; i < 3; i++) {
        sha256_update(h, "hello ", 6);
        sha256_update(h, "world", 5);
        sha256_final(h, a);
        CHECK(memcmp(a, b, 32) == 0);
    }
    sha256_free(h);
    sha256_free(NULL);
}

TEST(of_fd) {
    FILE *f = tmpfile();
    fputs("abc", f);
    fflush(f);
    rewind(f);
    char d[DIGEST_LEN + 1];
    uint64_t size = 0;
    CHECK_INT(digest_of_fd(fileno(f), d, &size), 0);
    CHECK_INT(size, 3);
    CHECK_STR(d, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    fclose(f);
    CHECK(digest_of_fd(-1, d, NULL) < 0);
}

TEST(valid) {
    CHECK(digest_valid(SV("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")));
    CHECK(!digest_valid(SV("sha256:BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")));
    CHECK(!digest_valid(SV("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a")));
    CHECK(!digest_valid(SV("sha512:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")));
    CHECK(!digest_valid(SV("sha256:../816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")));
    CHECK(!digest_valid(SV_NULL));
}

static void hex(const uint8_t *p, size_t n, char *out) {
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", p[i]);
}

TEST(other_algorithms) {
    uint8_t out[64];
    char text[129];
    size_t n = 0;
    CHECK_INT(digest_any("sha1", "abc", 3, out, &n), 0);
    CHECK_INT(n, 20);
    hex(out, n, text);
    CHECK_STR(text, "a9993e364706816aba3e25717850c26c9cd0d89d");
    CHECK_INT(digest_any("sha512", "abc", 3, out, &n), 0);
    CHECK_INT(n, 64);
    CHECK(digest_any("rot13", "abc", 3, out, &n) < 0);
}

TEST(hmac) {
    uint8_t out[32];
    char text[65];
    hmac_sha256(SV("Jefe"), SV("what do ya want for nothing?"), out); /* RFC 4231, case 2 */
    hex(out, 32, text);
    CHECK_STR(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    hmac_sha256(SV(""), SV(""), out);
    hex(out, 32, text);
    CHECK_STR(text, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}
