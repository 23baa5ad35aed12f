#pragma once
/* Layer archives for tests. */
#include "base/tar.h"

struct tarmake {
    struct tar_writer *w;
    struct buf b;
};
static int tarmake_sink(void *arg, const void *p, size_t n) {
    buf_add(arg, p, n);
    return 0;
}
static void tm_begin(struct tarmake *t) {
    t->b = BUF_MAX(256u << 20);
    t->w = tar_writer_new(tarmake_sink, &t->b);
}
static void tm_entry(struct tarmake *t, enum tar_type type, const char *path, const char *link,
                     uint32_t mode, uint32_t uid, const char *data) {
    struct tar_entry en = {.type = type,
                           .path = path,
                           .link = link ? link : "",
                           .mode = mode,
                           .uid = uid,
                           .gid = uid,
                           .mtime = 1700000000,
                           .size = data ? strlen(data) : 0};
    tar_put(t->w, &en);
    if (data && data[0])
        tar_put_data(t->w, data, strlen(data));
}
static inline void tm_file(struct tarmake *t, const char *path, const char *data) {
    tm_entry(t, TAR_FILE, path, NULL, 0644, 0, data);
}
static inline void tm_dir(struct tarmake *t, const char *path) {
    tm_entry(t, TAR_DIR, path, NULL, 0755, 0, NULL);
}
static inline void tm_link(struct tarmake *t, const char *path, const char *to) {
    tm_entry(t, TAR_SYMLINK, path, to, 0777, 0, NULL);
}
static inline void tm_hard(struct tarmake *t, const char *path, const char *to) {
    tm_entry(t, TAR_HARDLINK, path, to, 0644, 0, NULL);
}
static void tm_end(struct tarmake *t) {
    tar_end(t->w);
    tar_writer_free(t->w);
}
