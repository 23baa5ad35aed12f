/* Manifests, indexes and image configurations on any bytes. */
#include "image/image.h"
#include "image/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sv text = {(const char *)data, size};
    struct arena a = {0};
    struct manifest m = {0}, kept;
    struct err e;
    if (manifest_parse(&a, text, &m, &e) == 0) {
        manifest_check_image(&m, &e);
        manifest_pick(&m, "linux", "arm", "v7");
        struct buf b = BUF_SMALL;
        manifest_platforms(&m, &b);
        buf_done(&b);
        for (size_t i = 0; i < m.n; i++)
            assert(digest_valid(sv_from(m.entries[i].digest)) && m.entries[i].media_type);
    }
    bool strict = m.n > 0 && m.entries;
    if (manifest_parse_kept(&a, text, &kept, &e) == 0) /* what a registry keeps, with more allowed */
        for (size_t i = 0; i < kept.n; i++)
            assert(digest_valid_any(sv_from(kept.entries[i].digest)));
    else
        assert(!strict); /* but never less */
    arena_done(&a);
    struct image_config c, again;
    if (image_config_parse(text, &c, &e) == 0) {
        struct buf b = BUF_LARGE, b2 = BUF_LARGE;
        image_config_format(&c, &b);
        assert(image_config_parse(buf_sv(&b), &again, &e) == 0);
        image_config_format(&again, &b2);
        assert(sv_eq(buf_sv(&b), buf_sv(&b2)));
        image_config_done(&again);
        image_config_done(&c);
        buf_done(&b);
        buf_done(&b2);
    }
    char *name = sv_dup(text);
    struct image_ref r;
    if (ref_parse(name, &r, &e) == 0) {
        struct buf b = BUF_SMALL;
        struct image_ref r2;
        ref_format(&r, &b);
        assert(ref_parse(buf_str(&b), &r2, &e) == 0 && streq(r.path, r2.path) && streq(r.registry, r2.registry));
        buf_reset(&b);
        ref_familiar(&r, &b);
        assert(ref_parse(buf_str(&b), &r2, &e) == 0 && streq(r.path, r2.path) && streq(r.tag, r2.tag));
        buf_done(&b);
    }
    free(name);
    return 0;
}
