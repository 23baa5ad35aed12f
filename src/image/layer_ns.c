/* Unpacking, as a helper inside the user namespace: one thread inflates and hashes, the other
 * reads the tar and makes files; a ring of buffers lies between them. */
#include "base/compress.h"
#include "base/userns.h"
#include "image/extract.h"
#include "image/ns.h"
#include "store/store.h"

#include <pthread.h>
#include <sys/stat.h>

#define SLOTS 8
#define SLOT (256u << 10)
#define MAX_LAYER (1ull << 38) /* 256 GiB unpacked */
/* What compresses better than this is made to fill a disk; real layers are at 2 to 10. */
#define MAX_RATIO 250
#define RATIO_FROM (1ull << 30)

struct ring {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    uint8_t *data[SLOTS];
    ssize_t n[SLOTS];    /* 0: end, negative: error */
    unsigned head, tail; /* written, read */
    size_t used;         /* of the slot at tail */
    bool stop;
    struct decoder *d;
    struct sha256 *hash;
    uint64_t size;
    bool too_large;
};

static void *produce(void *arg) {
    struct ring *g = arg;
    ssize_t k = 1;
    while (k > 0) {
        pthread_mutex_lock(&g->lock);
        while (g->head - g->tail == SLOTS && !g->stop)
            pthread_cond_wait(&g->cond, &g->lock);
        bool stop = g->stop;
        unsigned at = g->head % SLOTS;
        pthread_mutex_unlock(&g->lock);
        if (stop)
            break;
        k = decoder_read(g->d, g->data[at], SLOT);
        if (k > 0) {
            sha256_update(g->hash, g->data[at], (size_t)k);
            g->size += (uint64_t)k;
        }
        pthread_mutex_lock(&g->lock);
        g->too_large = k == -EFBIG;
        g->n[at] = k;
        g->head++;
        pthread_cond_signal(&g->cond);
        pthread_mutex_unlock(&g->lock);
    }
    return NULL;
}

/* As tar_read_fn. The end and an error stay where they are. */
static ssize_t consume(void *arg, void *p, size_t want) {
    struct ring *g = arg;
    pthread_mutex_lock(&g->lock);
    while (g->head == g->tail)
        pthread_cond_wait(&g->cond, &g->lock);
    pthread_mutex_unlock(&g->lock);
    unsigned at = g->tail % SLOTS;
    if (g->n[at] <= 0)
        return g->n[at];
    size_t k = MIN(want, (size_t)g->n[at] - g->used);
    memcpy(p, g->data[at] + g->used, k);
    g->used += k;
    if (g->used == (size_t)g->n[at]) {
        pthread_mutex_lock(&g->lock);
        g->tail++;
        g->used = 0;
        pthread_cond_signal(&g->cond);
        pthread_mutex_unlock(&g->lock);
    }
    return (ssize_t)k;
}

static int unpack(struct ring *g, const struct extract_options *o, struct extract_stats *st,
                  struct err *e) {
    struct tar_reader *t = tar_reader_new(consume, g);
    int r = layer_extract(t, 4, o, st, e);
    tar_reader_free(t);
    /* What follows the archive's end counts for the digest. */
    char rest[4096];
    ssize_t k = 1;
    while (r == 0 && k > 0)
        k = consume(g, rest, sizeof rest);
    if (r == 0 && k < 0)
        r = err_set(e, k == -EFBIG ? ERR_LIMIT : ERR_NET, (int)k, "the layer is damaged: %s",
                    strerror((int)-k));
    return r;
}

/* How much a blob of this size may become. */
static uint64_t limit_of(int fd) {
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size <= 0)
        return MAX_LAYER;
    uint64_t n = MIN((uint64_t)st.st_size, MAX_LAYER / MAX_RATIO) * MAX_RATIO;
    return MIN(MAX_LAYER, MAX(n, RATIO_FROM));
}

int ns_layer_unpack(int argc, char **argv) {
    struct err e = {0};
    struct ring g = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct extract_options o = {.no_chown = argc > 1 && streq(argv[1], "single")};
    struct extract_stats st = {0};
    pthread_t th;
    uint64_t limit = limit_of(3);
    if (decoder_new(&g.d, 3, limit, &e) < 0)
        return ns_fail(&e);
    g.hash = sha256_new();
    for (size_t i = 0; i < SLOTS; i++)
        g.data[i] = xmalloc(SLOT);
    int r = -pthread_create(&th, NULL, produce, &g);
    if (r < 0) {
        err_errno(&e, r, "start a thread");
        return ns_fail(&e);
    }
    r = unpack(&g, &o, &st, &e);
    pthread_mutex_lock(&g.lock);
    g.stop = true;
    pthread_cond_signal(&g.cond);
    pthread_mutex_unlock(&g.lock);
    pthread_join(th, NULL);
    if (r < 0 && g.too_large) {
        e = (struct err){0};
        err_set(&e, ERR_LIMIT, -EFBIG, "the layer unpacks to more than %llu MiB, from a fraction of that: it looks like a bomb",
                (unsigned long long)limit >> 20);
    }
    if (r < 0)
        return ns_fail(&e);
    uint8_t raw[32];
    char digest[DIGEST_LEN + 1];
    sha256_final(g.hash, raw);
    digest_format(raw, digest);
    printf("%s %llu %llu %llu\n", digest, (unsigned long long)g.size, (unsigned long long)st.files,
           (unsigned long long)st.devices);
    return 0; /* the process ends: nothing is freed */
}
