#include "store/index.h"
#include "core/fs.h"

#include <sys/mman.h>

static const char magic[8] = "SLWTREE1";

static uint64_t hash_path(struct sv p) {
    uint64_t h = 0xcbf29ce484222325u;
    size_t i = 0;
    for (; i + 8 <= p.n; i += 8) {
        uint64_t w;
        memcpy(&w, p.p + i, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    for (; i < p.n; i++)
        h = (h ^ (uint8_t)p.p[i]) * 0x100000001b3u;
    return h ^ (h >> 32);
}

static bool index_valid(const struct tree_index *x) {
    const struct index_head *h = x->head;
    if (memcmp(h->magic, magic, sizeof magic) != 0 || h->n > UINT32_MAX / 2 ||
        h->strings > UINT32_MAX ||
        x->map_size != sizeof *h + h->n * sizeof(struct index_rec) + h->strings)
        return false;
    for (size_t i = 0; i < h->n; i++)
        if ((uint64_t)x->recs[i].path + x->recs[i].path_len >= h->strings)
            return false;
    return true;
}

struct tree_index *index_load(struct store *s, const char *id) {
    char path[48];
    struct stat st;
    snprintf(path, sizeof path, "%s/index", id);
    _cleanup_close_ int fd = openat(s->tree, path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(struct index_head))
        return NULL;
    struct tree_index *x = xcalloc(1, sizeof *x);
    x->map_size = (size_t)st.st_size;
    x->map = mmap(NULL, x->map_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (x->map == MAP_FAILED) {
        free(x);
        return NULL;
    }
    memcpy(x->id, id, sizeof x->id);
    x->head = (const struct index_head *)(const void *)x->map;
    x->recs = (struct index_rec *)(void *)(x->map + sizeof *x->head);
    x->strings = (const char *)x->map + sizeof *x->head + x->head->n * sizeof(struct index_rec);
    if (!index_valid(x)) {
        index_free(x);
        return NULL;
    }
    x->hash_cap = 16;
    while (x->hash_cap < x->head->n * 2)
        x->hash_cap *= 2;
    x->hash = xcalloc(x->hash_cap, sizeof *x->hash);
    for (uint32_t i = 0; i < x->head->n; i++) {
        size_t at = hash_path(index_path(x, &x->recs[i])) & (x->hash_cap - 1);
        while (x->hash[at])
            at = (at + 1) & (x->hash_cap - 1);
        x->hash[at] = i + 1;
    }
    return x;
}

void index_free(struct tree_index *x) {
    if (!x)
        return;
    munmap(x->map, x->map_size);
    free(x->hash);
    free(x);
}

struct index_rec *index_find(const struct tree_index *x, struct sv path) {
    size_t at = hash_path(path) & (x->hash_cap - 1);
    for (; x->hash[at]; at = (at + 1) & (x->hash_cap - 1)) {
        struct index_rec *r = &x->recs[x->hash[at] - 1];
        if (r->path_len == path.n && memcmp(x->strings + r->path, path.p, path.n) == 0)
            return r;
    }
    return NULL;
}

int index_write(int dirfd, const struct index_head *head, const struct index_rec *recs,
                const struct buf *strings) {
    struct index_head h = *head;
    memcpy(h.magic, magic, sizeof magic);
    h.strings = strings->n;
    /* A new inode: the one that is there may be mapped. */
    if (unlinkat(dirfd, "index", 0) < 0 && errno != ENOENT)
        return -errno;
    _cleanup_close_ int fd = openat(dirfd, "index", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int r = fd_write_all(fd, &h, sizeof h);
    if (r == 0)
        r = fd_write_all(fd, recs, h.n * sizeof *recs);
    return r == 0 ? fd_write_all(fd, strings->p, strings->n) : r;
}

static uint32_t digest_check(const uint8_t raw[32]) {
    return (uint32_t)hash_path((struct sv){(const char *)raw, 32}) | 1;
}

bool index_has_digest(const struct index_rec *r) {
    return r->check && r->check == digest_check(r->digest);
}

void index_set_digest(struct index_rec *r, const uint8_t raw[32]) {
    memcpy(r->digest, raw, 32);
    r->check = digest_check(raw);
}
