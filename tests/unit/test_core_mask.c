#include "core/loop.h"
#include "core/mask.h"
#include "test.h"

static const char *masked(struct masker *m, const char *in) {
    static struct buf b = {.max = 1u << 20};
    buf_reset(&b);
    mask_text(m, sv_from(in), &b);
    return buf_str(&b);
}

TEST(whole_values_and_forms) {
    struct masker *m = masker_new();
    CHECK_STR(masked(m, "nothing"), "nothing");
    masker_add(m, SV(" s3cr&t'x\" \n"));
    CHECK_STR(masked(m, "a s3cr&t'x\" b"), "a *** b");
    CHECK_STR(masked(m, "u=s3cr%26t%27x%22&"), "u=***&");
    CHECK_STR(masked(m, "{\"a\":\"s3cr&t'x\\\"\"}"), "{\"a\":\"***\"}");
    CHECK_STR(masked(m, "<a>s3cr&amp;t&apos;x&quot;</a>"), "<a>***</a>");
    CHECK_STR(masked(m, "'s3cr&t'\\''x\"'"), "'***'");
    masker_free(m);
}

TEST(never_one_character) {
    struct masker *m = masker_new();
    masker_add(m, SV("x"));
    masker_add(m, SV(" \n"));
    CHECK(masker_empty(m));
    CHECK_STR(masked(m, "xxx"), "xxx");
    masker_free(m);
}

TEST(base64_at_every_offset_and_with_suffix) {
    struct masker *m = masker_new();
    masker_add(m, SV("hunter2-hunter2"));
    const char *before[] = {"", "a", "ab", "abc", "user:"};
    const char *after[] = {"", "!", "suffix", "xyzw"};
    for (size_t i = 0; i < ELEMENTS(before); i++)
        for (size_t k = 0; k < ELEMENTS(after); k++) {
            struct buf raw = BUF_SMALL, enc = BUF_SMALL;
            buf_addf(&raw, "%shunter2-hunter2%s", before[i], after[k]);
            buf_add_base64(&enc, raw.p, raw.n);
            CHECK(strstr(masked(m, enc.p), "***") != NULL);
            CHECK(strlen(masked(m, enc.p)) < 3 + 12 + 8);
            buf_done(&raw);
            buf_done(&enc);
        }
    masker_free(m);
}

TEST(lines_and_json_leaves) {
    struct masker *m = masker_new();
    masker_add(m, SV("first line\nsecond line\n}\n"));
    CHECK_STR(masked(m, "second line }"), "*** }");
    masker_add(m, SV("{\"user\": \"someone\", \"n\": 12345678, \"s\": \"k\"}"));
    CHECK_STR(masked(m, "someone k 12345678"), "*** k ***");
    masker_free(m);
}

TEST(overlaps_leave_no_tail) {
    struct masker *m = masker_new();
    masker_add(m, SV("abcdef"));
    masker_add(m, SV("defghi"));
    masker_add(m, SV("abc"));
    CHECK_STR(masked(m, "-abcdefghi-"), "-***-");
    CHECK_STR(masked(m, "-abcx"), "-***x");
    masker_free(m);
}

static int collect(void *arg, struct sv chunk) {
    buf_addsv(arg, chunk);
    return 0;
}

TEST(split_at_every_place) {
    struct masker *m = masker_new();
    masker_add(m, SV("abcabcabd"));
    masker_add(m, SV("topsecret"));
    const char *text = "x abcabcabcabd y topsecrettopsecre topsecret\n";
    size_t n = strlen(text);
    struct buf want = BUF_SMALL;
    mask_text(m, sv_from(text), &want);
    CHECK_STR(want.p, "x abc*** y ***topsecre ***\n");
    for (size_t i = 0; i <= n; i++)
        for (size_t k = i; k <= n; k++) {
            struct buf got = BUF_SMALL;
            struct mask_stream *s = mask_stream_new(m, collect, &got);
            mask_stream_write(s, sv_n(text, i));
            mask_stream_write(s, sv_n(text + i, k - i));
            mask_stream_write(s, sv_n(text + k, n - k));
            mask_stream_flush(s);
            if (strcmp(buf_str(&got), want.p))
                CHECK_STR(buf_str(&got), want.p);
            mask_stream_free(s);
            buf_done(&got);
        }
    buf_done(&want);
    masker_free(m);
}

TEST(ordinary_output_is_not_held_back) {
    struct masker *m = masker_new();
    masker_add(m, SV("secret-value-that-is-long"));
    struct buf got = BUF_SMALL;
    struct mask_stream *s = mask_stream_new(m, collect, &got);
    mask_stream_write(s, SV("hello\n"));
    CHECK_STR(buf_str(&got), "hello\n");
    mask_stream_write(s, SV("now se"));
    CHECK_STR(buf_str(&got), "hello\nnow ");
    mask_stream_write(s, SV("ven"));
    CHECK_STR(buf_str(&got), "hello\nnow seven");
    mask_stream_free(s);
    buf_done(&got);
    masker_free(m);
}

/* A reference that tries every pattern at every place must agree on random text. */
TEST(random_against_plain_search) {
    const char *pats[] = {"ab", "aba", "bbab", "aaaa", "cab", "bca"};
    struct masker *m = masker_new();
    for (size_t i = 0; i < ELEMENTS(pats); i++)
        masker_add(m, sv_from(pats[i]));
    for (unsigned round = 0; round < 3000; round++) {
        char text[41];
        uint8_t r[40];
        random_bytes(r, sizeof r);
        for (size_t i = 0; i < 40; i++)
            text[i] = "abc"[r[i] % 3];
        text[40] = 0;
        bool hit[41] = {false}, joined[41] = {false};
        for (size_t i = 0; i < 40; i++)
            for (size_t k = 0; k < ELEMENTS(pats); k++)
                if (!strncmp(text + i, pats[k], strlen(pats[k])))
                    for (size_t j = 0; j < strlen(pats[k]); j++) {
                        hit[i + j] = true;
                        if (j)
                            joined[i + j] = true;
                    }
        char want[200];
        size_t n = 0;
        for (size_t i = 0; i < 40; i++) {
            if (!hit[i])
                want[n++] = text[i];
            else if (!joined[i] || !i || !hit[i - 1])
                n += (size_t)snprintf(want + n, 4, "***");
        }
        want[n] = 0;
        if (strcmp(masked(m, text), want))
            CHECK_STR(masked(m, text), want);
    }
    CHECK(true);
    masker_free(m);
}
