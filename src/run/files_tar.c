/* Archives of caches: as tar writes them from a list of paths relative to the workspace, so that what the
 * published action saved can be restored here and the other way round. Packing reads, compresses and
 * writes in a pipeline (the compressor has threads of its own); unpacking decodes on a thread. */
#include "run/files_internal.h"

#include "base/compress.h"
#include "base/tar.h"
#include "core/fs.h"
#include "core/map.h"

#include <dirent.h>
#include <pthread.h>

/* --- packing -------------------------------------------------------------------------------------------- */

struct packing {
    struct files_job *j;
    struct compressor *c;
    struct tar_writer *t;
    struct map links;           /* "dev:ino" -> name, of files with several names */
    char *done;                 /* the last folder that was packed whole, with its '/' */
    uint64_t written;
};

static int to_file(void *arg, const void *p, size_t n) {
    struct packing *k = arg;
    k->written += n;
    return fd_write_all(k->j->fd, p, n);
}
static int to_compressor(void *arg, const void *p, size_t n) { return compress_write(((struct packing *)arg)->c, p, n); }

/* "../.cache/pip" of /w/app and /w/.cache/pip; "." of the same. */
static char *relative(const char *from, const char *path) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    size_t common = 0, i = 0;
    for (; from[i] && from[i] == path[i]; i++)
        if (from[i] == '/')
            common = i;
    if ((!from[i] || from[i] == '/') && (!path[i] || path[i] == '/'))
        common = i;
    for (const char *p = from + common; *p; p++)
        if (*p == '/' && p[1])
            buf_adds(&b, b.n ? "/.." : "..");
    const char *rest = path + common;
    while (*rest == '/')
        rest++;
    if (*rest)
        buf_addf(&b, "%s%s", b.n ? "/" : "", rest);
    return b.n ? buf_take(&b) : xstrdup(".");
}

static int pack_file(struct packing *k, int dir, const char *name, struct tar_entry *en, const struct stat *st) {
    if (st->st_nlink > 1) {
        char key[64];
        snprintf(key, sizeof key, "%llx:%llx", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino);
        const char *first = map_gets(&k->links, key);
        if (first) {
            en->type = TAR_HARDLINK;
            en->link = first;
            return tar_put(k->t, en);
        }
        map_sets(&k->links, key, xstrdup(en->path));
    }
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat now;
    if (fstat(fd, &now) < 0)
        return -errno;
    en->size = (uint64_t)now.st_size;
    if ((k->j->ret->bytes += en->size) > (k->j->rq->max ? k->j->rq->max : FILES_MAX))
        return -EFBIG;
    int r = tar_put(k->t, en);
    return r < 0 ? r : tar_put_fd(k->t, fd, en->size);
}

static int pack(struct packing *k, int dir, const char *name, const char *as, unsigned depth);

static int pack_dir(struct packing *k, int dir, const char *name, const char *as, unsigned depth) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        r = -errno;
        fd_close(fd);
        return r;
    }
    for (struct dirent *en; r >= 0 && (en = readdir(d));) {
        if (streq(en->d_name, ".") || streq(en->d_name, ".."))
            continue;
        _cleanup_free_ char *child = xasprintf("%s/%s", as, en->d_name);
        r = pack(k, dirfd(d), en->d_name, child, depth + 1);
    }
    closedir(d);
    return r;
}

static int pack(struct packing *k, int dir, const char *name, const char *as, unsigned depth) {
    struct stat st;
    char target[4096];
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (depth > 200)
        return -ELOOP;
    struct tar_entry en = {.path = as, .mode = st.st_mode & 07777, .uid = st.st_uid, .gid = st.st_gid,
                           .mtime = st.st_mtim.tv_sec, .mtime_ns = (uint32_t)st.st_mtim.tv_nsec};
    int r;
    if (S_ISDIR(st.st_mode)) {
        en.type = TAR_DIR;
        r = tar_put(k->t, &en);
        return r < 0 ? r : pack_dir(k, dir, name, as, depth);
    }
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(dir, name, target, sizeof target - 1);
        if (n < 0)
            return -errno;
        target[n] = 0;
        en.type = TAR_SYMLINK;
        en.link = target;
        r = tar_put(k->t, &en);
    } else if (S_ISREG(st.st_mode)) {
        en.type = TAR_FILE;
        r = pack_file(k, dir, name, &en, &st);
    } else {
        return 0; /* sockets, pipes, devices */
    }
    k->j->ret->files++;
    return r;
}

static int pack_match(void *arg, const char *path, const struct stat *st) {
    struct packing *k = arg;
    struct files_job *j = k->j;
    if (k->done && startswith(path, k->done))
        return 0; /* went with its folder */
    _cleanup_free_ char *as = relative(j->rq->cwd, path), *dir = path_dir(path);
    _cleanup_close_ int parent = fs_open_in(j->root, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0);
    int r = parent;
    if (parent >= 0)
        r = pack(k, parent, *path_base(path) ? path_base(path) : ".", as, 0);
    if (r < 0)
        return r == -EFBIG ? err_set(j->e, ERR_LIMIT, r, "the files are more than a cache may hold") : err_errno(j->e, r, "%s", path);
    if (S_ISDIR(st->st_mode)) {
        free(k->done);
        k->done = xasprintf("%s/", streq(path, "/") ? "" : path);
    }
    j->ret->size = 1; /* something is there */
    return 0;
}

int files_tar(struct files_job *j) {
    struct packing k = {.j = j, .links = {.free_value = free}};
    int r = compress_new(&k.c, CODEC_ZSTD, j->rq->level ? j->rq->level : 3, 0, to_file, &k);
    if (r < 0)
        return err_errno(j->e, r, "zstd");
    k.t = tar_writer_new(to_compressor, &k);
    r = globs_walk(j->g, j->root, pack_match, &k, j->e);
    bool any = j->ret->size;
    j->ret->size = 0;
    if (r >= 0 && any) {
        if ((r = tar_end(k.t)) < 0 || (r = compress_end(k.c)) < 0)
            err_errno(j->e, r, "the archive");
        else
            j->ret->size = k.written;
        if (!j->ret->files)
            j->ret->files = 1; /* an empty folder counts */
    }
    tar_writer_free(k.t);
    compress_free(k.c);
    map_done(&k.links);
    free(k.done);
    return r;
}

/* --- unpacking -------------------------------------------------------------------------------------------- */

#define SLOTS 8u
#define SLOT (512u << 10)

/* Between the decoding thread and the one that makes files. */
struct pipe_ring {
    pthread_mutex_t mu;
    pthread_cond_t cond;
    struct decoder *d;
    uint8_t *data[SLOTS];
    ssize_t n[SLOTS];
    unsigned head, tail;
    size_t used;
    bool stop;
};

static void *decode(void *arg) {
    struct pipe_ring *g = arg;
    ssize_t k = 1;
    while (k > 0) {
        pthread_mutex_lock(&g->mu);
        while (g->head - g->tail == SLOTS && !g->stop)
            pthread_cond_wait(&g->cond, &g->mu);
        bool stop = g->stop;
        uint8_t *to = g->data[g->head % SLOTS];
        pthread_mutex_unlock(&g->mu);
        if (stop)
            break;
        k = decoder_read(g->d, to, SLOT);
        pthread_mutex_lock(&g->mu);
        g->n[g->head++ % SLOTS] = k;
        pthread_cond_broadcast(&g->cond);
        pthread_mutex_unlock(&g->mu);
    }
    return NULL;
}

static ssize_t ring_read(void *arg, void *p, size_t n) {
    struct pipe_ring *g = arg;
    pthread_mutex_lock(&g->mu);
    while (g->head == g->tail)
        pthread_cond_wait(&g->cond, &g->mu);
    pthread_mutex_unlock(&g->mu);
    ssize_t have = g->n[g->tail % SLOTS];
    if (have <= 0)
        return have;
    size_t k = MIN(n, (size_t)have - g->used);
    memcpy(p, g->data[g->tail % SLOTS] + g->used, k);
    g->used += k;
    if (g->used == (size_t)have) {
        pthread_mutex_lock(&g->mu);
        g->tail++;
        g->used = 0;
        pthread_cond_broadcast(&g->cond);
        pthread_mutex_unlock(&g->mu);
    }
    return (ssize_t)k;
}

struct late_dir {
    char *path;
    uint32_t mode;
    struct timespec mtime;
};
struct unpacking {
    struct files_out o;
    struct tar_reader *t;
    struct late_dir *dirs;
    size_t n_dirs, cap_dirs;
    uint8_t *block;
};

/* The absolute path of a name of the archive; NULL when the patterns could not have given it. */
static char *place(struct files_job *j, const char *name) {
    const char *const *roots;
    size_t n = globs_roots(j->g, &roots);
    char *path = path_join(j->rq->cwd, name);
    for (size_t i = 0; i < n; i++)
        if (files_below(path, roots[i]))
            return path;
    free(path);
    return NULL;
}

static int write_data(struct unpacking *u, int fd, uint64_t size) {
    struct files_job *j = u->o.j;
    ssize_t n;
    if ((j->ret->bytes += size) > (j->rq->max ? j->rq->max : FILES_MAX))
        return -EFBIG;
    while ((n = tar_data(u->t, u->block, SLOT)) > 0) {
        int r = fd_write_all(fd, u->block, (size_t)n);
        if (r < 0)
            return r;
    }
    return (int)n;
}

static int unpack_link(struct unpacking *u, const struct tar_entry *en, const char *path) {
    const char *name, *from;
    struct files_job *j = u->o.j;
    if (en->type == TAR_HARDLINK) {
        _cleanup_free_ char *target = place(j, en->link);
        const char *slash = target ? strrchr(target, '/') : NULL;
        if (!target || !slash)
            return -EXDEV;
        _cleanup_free_ char *dir = path_dir(target);
        from = path_base(target);
        _cleanup_close_ int fp = fs_open_in(j->root, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0);
        int to = fp < 0 ? fp : files_parent(&u->o, path, &name);
        if (to < 0)
            return to;
        struct stat st;
        if (fstatat(fp, from, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            return -EXDEV;
        unlinkat(to, name, 0);
        return linkat(fp, from, to, name, 0) < 0 ? -errno : 0;
    }
    int to = files_parent(&u->o, path, &name);
    if (to < 0)
        return to;
    unlinkat(to, name, 0);
    if (symlinkat(en->link, to, name) < 0)
        return -errno;
    struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {en->mtime, en->mtime_ns}};
    (void)utimensat(to, name, ts, AT_SYMLINK_NOFOLLOW);
    return j->uid != UINT32_MAX && fchownat(to, name, j->uid, j->gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int unpack_file(struct unpacking *u, const struct tar_entry *en, const char *path) {
    _cleanup_close_ int fd = files_create(&u->o, path, 0600);
    int r = fd < 0 ? fd : write_data(u, fd, en->size);
    if (r < 0)
        return r;
    struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {en->mtime, en->mtime_ns}};
    if (fchmod(fd, en->mode & 0777) < 0)
        return -errno;
    (void)futimens(fd, ts);
    return 0;
}

static int unpack_one(struct unpacking *u, const struct tar_entry *en) {
    struct files_job *j = u->o.j;
    _cleanup_free_ char *path = place(j, en->path);
    int r = 0;
    if (!path) {
        const char *const *roots;
        _cleanup_free_ char *full = path_join(j->rq->cwd, en->path);
        size_t n = globs_roots(j->g, &roots);
        for (size_t i = 0; i < n && en->type == TAR_DIR; i++)
            if (files_below(roots[i], full))
                return 0; /* a folder above what is cached: as it is */
        return err_set(j->e, ERR_USER, -EXDEV, "the cache holds %s, which its paths do not name", en->path);
    }
    if (en->type == TAR_DIR) {
        if ((r = files_mkdir(&u->o, path, 0755)) >= 0) {
            GROW(u->dirs, u->cap_dirs, u->n_dirs + 1);
            u->dirs[u->n_dirs++] = (struct late_dir){TAKE(path), en->mode & 0777, {en->mtime, en->mtime_ns}};
        }
    } else if (en->type == TAR_SYMLINK || en->type == TAR_HARDLINK) {
        r = unpack_link(u, en, path);
    } else if (en->type == TAR_FILE) {
        r = unpack_file(u, en, path);
    }
    if (en->type != TAR_DIR)
        j->ret->files++;
    if (r == -EFBIG)
        return err_set(j->e, ERR_LIMIT, r, "the cache unpacks to more than is allowed");
    return r < 0 ? err_errno(j->e, r, "%s", en->path) : 0;
}

static int untar(struct files_job *j, struct pipe_ring *g) {
    struct unpacking u = {.o = {.j = j, .dir = -1}, .t = tar_reader_new(ring_read, g), .block = xmalloc(SLOT)};
    const struct tar_entry *en;
    int r;
    while ((r = tar_next(u.t, &en, j->e)) > 0)
        if ((r = unpack_one(&u, en)) < 0)
            break;
    for (size_t i = u.n_dirs; i-- > 0;) { /* what is inside first */
        _cleanup_close_ int fd = r < 0 ? -1 : fs_open_in(j->root, u.dirs[i].path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0);
        struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, u.dirs[i].mtime};
        if (fd >= 0 && fchmod(fd, u.dirs[i].mode) == 0)
            (void)futimens(fd, ts);
        free(u.dirs[i].path);
    }
    free(u.dirs);
    free(u.block);
    tar_reader_free(u.t);
    files_out_done(&u.o);
    return r;
}

int files_untar(struct files_job *j) {
    struct pipe_ring g = {.mu = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    pthread_t thread;
    int r = decoder_new(&g.d, j->fd, (j->rq->max ? j->rq->max : FILES_MAX) * 2, j->e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < SLOTS; i++)
        g.data[i] = xmalloc(SLOT);
    r = -pthread_create(&thread, NULL, decode, &g);
    if (r == 0) {
        r = untar(j, &g);
        pthread_mutex_lock(&g.mu);
        g.stop = true;
        pthread_cond_broadcast(&g.cond);
        pthread_mutex_unlock(&g.mu);
        pthread_join(thread, NULL);
    } else {
        err_errno(j->e, r, "thread");
    }
    for (size_t i = 0; i < SLOTS; i++)
        free(g.data[i]);
    decoder_free(g.d);
    return r;
}
