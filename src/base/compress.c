/* Compression. gzip: the input is cut into blocks of 1 MiB, each deflated on its own by ISA-L
 * (full flush, no history) by whichever thread is free, and written in order as one gzip member;
 * the checksum of the whole is combined from those of the blocks. So the bytes depend on the input,
 * the level and ISA-L only, never on the number of threads. A thread is started when there is a
 * whole block for it. zstd: the library's own workers with a fixed job size, for the same reason
 * never fewer than one. */
#include "base/compress.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <pthread.h>
#include <sched.h>
#include <zlib.h>
#include <zstd.h>

enum {
    GZ_BLOCK = 1 << 20,
    GZ_OUT = GZ_BLOCK + GZ_BLOCK / 8 + 4096,
    MAX_THREADS = 32,
    ZSTD_JOB = 8 << 20,
};

struct job {
    uint8_t *in, *out;
    size_t in_n, out_n;
    uint32_t crc;
    bool busy, done;
    int r;
};

struct compressor {
    enum codec codec;
    int level;
    sink_fn sink;
    void *arg;
    int failed;
    bool ended;
    /* gzip */
    bool head_written;
    uint32_t crc;
    uint64_t total;
    struct job *jobs;
    size_t n_jobs, first, queued; /* ring: jobs[first] is the oldest one not written yet */
    unsigned max_threads, n_threads;
    pthread_t threads[MAX_THREADS];
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    size_t taken; /* jobs of the queue that a worker has begun */
    bool stop;
    uint8_t *level_buf; /* of the calling thread */
    /* zstd */
    ZSTD_CCtx *z;
    uint8_t *z_out;
    size_t z_out_n;
};

static unsigned cores(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return (unsigned)MAX(1, MIN(n, (int)MAX_THREADS));
}

static size_t level_size(int level) {
    return level == 1 ? ISAL_DEF_LVL1_DEFAULT : level == 2 ? ISAL_DEF_LVL2_DEFAULT : ISAL_DEF_LVL3_DEFAULT;
}

static void deflate_job(struct job *j, int level, uint8_t *level_buf) {
    struct isal_zstream s;
    isal_deflate_stateless_init(&s);
    s.next_in = j->in;
    s.avail_in = (uint32_t)j->in_n;
    s.next_out = j->out;
    s.avail_out = GZ_OUT;
    s.flush = FULL_FLUSH;
    s.end_of_stream = 0;
    s.level = (uint32_t)level;
    s.level_buf = level_buf;
    s.level_buf_size = (uint32_t)level_size(level);
    s.gzip_flag = IGZIP_DEFLATE;
    int r = isal_deflate_stateless(&s);
    j->r = r == COMP_OK && s.avail_in == 0 ? 0 : -EIO;
    j->out_n = GZ_OUT - s.avail_out;
    j->crc = crc32_gzip_refl(0, j->in, j->in_n);
}

static void *worker(void *arg) {
    struct compressor *c = arg;
    uint8_t *level_buf = xmalloc(level_size(c->level));
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->stop && c->taken == c->queued)
            pthread_cond_wait(&c->work, &c->lock);
        if (c->stop)
            break;
        struct job *j = &c->jobs[(c->first + c->taken++) % c->n_jobs];
        pthread_mutex_unlock(&c->lock);
        deflate_job(j, c->level, level_buf);
        pthread_mutex_lock(&c->lock);
        j->done = true;
        pthread_cond_signal(&c->finished);
    }
    pthread_mutex_unlock(&c->lock);
    free(level_buf);
    return NULL;
}

int compress_new(struct compressor **ret, enum codec codec, int level, unsigned threads, sink_fn sink,
                 void *arg) {
    struct compressor *c = xcalloc(1, sizeof *c);
    c->codec = codec;
    c->sink = sink;
    c->arg = arg;
    c->max_threads = MIN(threads ? threads : cores(), (unsigned)MAX_THREADS);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, NULL);
    pthread_cond_init(&c->finished, NULL);
    if (codec == CODEC_GZIP) {
        c->level = MAX(1, MIN(level, 3));
        c->n_jobs = c->max_threads > 1 ? 2 * c->max_threads : 1;
        c->jobs = xcalloc(c->n_jobs, sizeof *c->jobs);
        c->level_buf = xmalloc(level_size(c->level));
    } else if (codec == CODEC_ZSTD) {
        c->z = ZSTD_createCCtx();
        c->z_out_n = ZSTD_CStreamOutSize();
        c->z_out = xmalloc(c->z_out_n);
        if (!c->z || ZSTD_isError(ZSTD_CCtx_setParameter(c->z, ZSTD_c_compressionLevel, level ? level : 3)) ||
            ZSTD_isError(ZSTD_CCtx_setParameter(c->z, ZSTD_c_checksumFlag, 1)) ||
            ZSTD_isError(ZSTD_CCtx_setParameter(c->z, ZSTD_c_nbWorkers, (int)c->max_threads)) ||
            ZSTD_isError(ZSTD_CCtx_setParameter(c->z, ZSTD_c_jobSize, ZSTD_JOB))) {
            compress_free(c);
            return -ENOMEM;
        }
    }
    *ret = c;
    return 0;
}

static int emit(struct compressor *c, const void *p, size_t n) {
    if (!c->failed && n) {
        int r = c->sink(c->arg, p, n);
        if (r < 0)
            c->failed = r;
    }
    return c->failed;
}

static int write_job(struct compressor *c, struct job *j) {
    static const uint8_t head[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
    if (!c->head_written)
        emit(c, head, sizeof head);
    c->head_written = true;
    if (j->r < 0)
        return c->failed = c->failed ? c->failed : j->r;
    c->crc = (uint32_t)crc32_combine(c->crc, j->crc, (z_off_t)j->in_n);
    c->total += j->in_n;
    return emit(c, j->out, j->out_n);
}

/* Writes the oldest job, waiting for it. */
static int drain_one(struct compressor *c) {
    struct job *j = &c->jobs[c->first];
    pthread_mutex_lock(&c->lock);
    if (c->taken == 0) { /* nobody has begun it: do it here */
        c->taken++;
        pthread_mutex_unlock(&c->lock);
        deflate_job(j, c->level, c->level_buf);
        pthread_mutex_lock(&c->lock);
        j->done = true;
    }
    while (!j->done)
        pthread_cond_wait(&c->finished, &c->lock);
    pthread_mutex_unlock(&c->lock);
    int r = write_job(c, j);
    pthread_mutex_lock(&c->lock);
    j->done = j->busy = false;
    j->in_n = 0;
    c->first = (c->first + 1) % c->n_jobs;
    c->queued--;
    c->taken--;
    pthread_mutex_unlock(&c->lock);
    return r;
}

static struct job *filling(struct compressor *c) {
    struct job *j = &c->jobs[(c->first + c->queued) % c->n_jobs];
    if (!j->in) {
        j->in = xmalloc(GZ_BLOCK);
        j->out = xmalloc(GZ_OUT);
    }
    return j;
}

static void submit(struct compressor *c, bool threaded) {
    pthread_mutex_lock(&c->lock);
    c->queued++;
    bool more = threaded && c->queued > c->n_threads && c->n_threads < c->max_threads;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    if (more && pthread_create(&c->threads[c->n_threads], NULL, worker, c) == 0)
        c->n_threads++;
}

static int gzip_write(struct compressor *c, const uint8_t *p, size_t n) {
    while (n && !c->failed) {
        if (c->queued == c->n_jobs && drain_one(c) < 0)
            break;
        struct job *j = filling(c);
        size_t k = MIN(n, GZ_BLOCK - j->in_n);
        memcpy(j->in + j->in_n, p, k);
        j->in_n += k;
        p += k;
        n -= k;
        if (j->in_n == GZ_BLOCK)
            submit(c, c->max_threads > 1);
    }
    return c->failed;
}

static int gzip_end(struct compressor *c) {
    if (c->queued < c->n_jobs && c->jobs[(c->first + c->queued) % c->n_jobs].in_n)
        submit(c, false);
    while (c->queued && !c->failed)
        drain_one(c);
    struct job none = {0};
    if (!c->failed && !c->head_written)
        write_job(c, &none);
    uint8_t tail[10] = {3, 0}; /* an empty last block */
    uint32_t size = (uint32_t)c->total;
    for (int i = 0; i < 4; i++) {
        tail[2 + i] = (uint8_t)(c->crc >> (8 * i));
        tail[6 + i] = (uint8_t)(size >> (8 * i));
    }
    return emit(c, tail, sizeof tail);
}

static int zstd_run(struct compressor *c, const void *p, size_t n, ZSTD_EndDirective mode) {
    ZSTD_inBuffer in = {p, n, 0};
    for (;;) {
        ZSTD_outBuffer out = {c->z_out, c->z_out_n, 0};
        size_t r = ZSTD_compressStream2(c->z, &out, &in, mode);
        if (ZSTD_isError(r))
            return c->failed = -EIO;
        if (emit(c, c->z_out, out.pos) < 0)
            return c->failed;
        if (mode == ZSTD_e_end ? r == 0 : in.pos == in.size)
            return 0;
    }
}

int compress_write(struct compressor *c, const void *p, size_t n) {
    if (c->failed || !n)
        return c->failed;
    switch (c->codec) {
    case CODEC_GZIP:
        return gzip_write(c, p, n);
    case CODEC_ZSTD:
        return zstd_run(c, p, n, ZSTD_e_continue);
    default:
        return emit(c, p, n);
    }
}

int compress_end(struct compressor *c) {
    if (c->failed)
        return c->failed;
    if (c->ended)
        return -EINVAL;
    c->ended = true;
    if (c->codec == CODEC_GZIP)
        return gzip_end(c);
    if (c->codec == CODEC_ZSTD)
        return zstd_run(c, NULL, 0, ZSTD_e_end);
    return 0;
}

void compress_free(struct compressor *c) {
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < c->n_threads; i++)
        pthread_join(c->threads[i], NULL);
    for (size_t i = 0; c->jobs && i < c->n_jobs; i++) {
        free(c->jobs[i].in);
        free(c->jobs[i].out);
    }
    free(c->jobs);
    free(c->level_buf);
    free(c->z_out);
    ZSTD_freeCCtx(c->z);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->work);
    pthread_cond_destroy(&c->finished);
    free(c);
}
