/* All layers are put into a snapshot of their own first (by links where the disk can), whose tar is then
 * the image's. */
#include "build/export.h"
#include "build/copy.h"
#include "image/layer.h"

int build_export_tar(struct store *s, struct lease *l, const char *image_id, sink_fn sink, void *arg, struct err *e) {
    _cleanup_image_ struct image *img = NULL;
    _cleanup_strv_ struct strv layers = {0};
    char upper[33];
    int dir = -1, r = image_find(s, l, image_id, &img, e);
    if (r <= 0)
        return r < 0 ? r : err_set(e, ERR_NOTFOUND, -ENOENT, "no such image here: %s", image_id);
    for (size_t i = img->layers.n; i-- > 0;)
        strv_add(&layers, img->layers.v[i]);
    r = snap_begin(s, l, upper, &dir, e);
    fd_close(dir);
    if (r < 0)
        return r;
    if (layers.n) {
        const char *const all[] = {"/", NULL}, *const none[] = {NULL};
        struct copy_result res;
        struct copy_spec c = {.src_layers = (const char *const *)layers.v, .n_src_layers = layers.n, .sources = all, .exclude = none,
                              .dest = "/", .keep_owner = true};
        memcpy(c.upper, upper, sizeof upper);
        r = copy_run(s, &c, &res, e);
    }
    if (r >= 0)
        r = layer_stream(s, upper, sink, arg, e);
    snap_abort(s, upper);
    return r < 0 ? r : 0;
}
