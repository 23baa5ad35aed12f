/* Who may use the registry: one user with a password, or a file as htpasswd -B writes it, which is
 * read again when it has changed. Hashes are computed by libcrypt (loaded when first needed), on a
 * worker since they are slow on purpose; what was right once is remembered as a keyed digest, so
 * that a push of many blobs computes one. Without an entry the work is the same. */
#include "image/registry_internal.h"

#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"

#include <crypt.h>
#include <dlfcn.h>
#include <pthread.h>
#include <strings.h>
#include <sys/stat.h>

enum { FILE_MAX = 4 << 20, REMEMBERED = 1000, PASS_MAX = 512 };
/* Of no password that anybody knows. */
#define NOBODY "$2y$10$abcdefghijklmnopqrstuuF4WhSvNQ3iCQmkRSXWnkUnyGm.mBLNG"

typedef char *(*crypt_fn)(const char *phrase, const char *setting, struct crypt_data *data);

struct reg_auth {
    char *pair; /* "user:password", or NULL */
    char *file;
    crypt_fn crypt;
    uint8_t key[32];
    pthread_mutex_t lock; /* what follows */
    struct map users;     /* name -> hash */
    struct map right;     /* hex of the keyed digest of "user:password" */
    struct stat seen;
};

static bool hash_ok(struct sv h) {
    static const char *const known[] = {"$2y$", "$2b$", "$2a$", "$5$", "$6$", "$y$"};
    for (size_t i = 0; i < ELEMENTS(known); i++)
        if (sv_starts(h, known[i]))
            return true;
    return false;
}

/* With the lock held. */
static int load(struct reg_auth *a, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(FILE_MAX);
    struct stat st;
    struct map users = {.free_value = free};
    int r = stat(a->file, &st) < 0 ? err_errno(e, -errno, "%s", a->file) : fs_read(AT_FDCWD, a->file, &b, e);
    struct sv rest = buf_sv(&b), line;
    for (unsigned n = 1; r >= 0 && sv_split(&rest, '\n', &line); n++) {
        line = sv_trim(line);
        ssize_t colon = sv_chr(line, ':');
        if (!line.n || line.p[0] == '#')
            continue;
        struct sv hash = colon > 0 ? sv_sub(line, (size_t)colon + 1, line.n) : SV_NULL;
        if (!hash_ok(hash)) {
            r = err_set(e, ERR_CONFIG, -EINVAL, "%s, line %u: not USER:HASH with a bcrypt, SHA-2 or yescrypt hash", a->file, n);
            err_hint(e, r, "htpasswd -B %s USER makes one", a->file);
            break;
        }
        struct sv name = sv_sub(line, 0, (size_t)colon);
        free(map_set(&users, name, sv_dup(hash)));
    }
    explicit_bzero(b.p, b.n);
    if (r < 0) {
        map_done(&users);
        return r;
    }
    map_done(&a->users);
    map_done(&a->right);
    a->users = users;
    a->right = (struct map){0};
    a->seen = st;
    return 0;
}

/* A file that is broken now lets nobody in. */
static void refresh(struct reg_auth *a) {
    struct stat st;
    if (stat(a->file, &st) == 0 && st.st_mtim.tv_sec == a->seen.st_mtim.tv_sec && st.st_mtim.tv_nsec == a->seen.st_mtim.tv_nsec &&
        st.st_size == a->seen.st_size && st.st_ino == a->seen.st_ino)
        return;
    if (load(a, NULL) < 0) {
        map_done(&a->users);
        map_done(&a->right);
        a->users = (struct map){.free_value = free};
        a->right = (struct map){0};
        memset(&a->seen, 0, sizeof a->seen);
    }
}

int reg_auth_new(struct reg_auth **ret, const struct registry_options *o, struct err *e) {
    struct reg_auth *a = xcalloc(1, sizeof *a);
    int r = 0;
    pthread_mutex_init(&a->lock, NULL);
    random_bytes(a->key, sizeof a->key);
    if (o->htpasswd) {
        void *lib = dlopen("libcrypt.so.1", RTLD_NOW);
        a->crypt = lib ? (crypt_fn)dlsym(lib, "crypt_r") : NULL;
        a->file = xstrdup(o->htpasswd);
        r = a->crypt ? load(a, e) : err_set(e, ERR_ENV, -ENOSYS, "libcrypt.so.1 is missing: %s cannot be used", o->htpasswd);
    } else {
        a->pair = xasprintf("%s:%s", o->basic_user, o->basic_pass ? o->basic_pass : "");
    }
    if (r < 0) {
        reg_auth_free(a);
        return r;
    }
    *ret = a;
    return 0;
}

void reg_auth_free(struct reg_auth *a) {
    if (!a)
        return;
    if (a->pair)
        explicit_bzero(a->pair, strlen(a->pair));
    free(a->pair);
    free(a->file);
    map_done(&a->users);
    map_done(&a->right);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* "Basic …" into b as "user:password". */
static bool decode(const char *header, struct buf *b) {
    if (!header || strncasecmp(header, "Basic ", 6) != 0)
        return false;
    return base64_decode(sv_trim(sv_from(header + 6)), b) == 0 && b->n <= PASS_MAX && b->p && !memchr(b->p, 0, b->n) &&
           memchr(b->p, ':', b->n);
}

/* Comparing digests, time tells nothing about what they are of. */
static void keyed(const struct reg_auth *a, struct sv text, char hex[65]) {
    uint8_t raw[32];
    hmac_sha256(sv_n((const char *)a->key, sizeof a->key), text, raw);
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(hex + 2 * i, 3, "%02x", raw[i]);
}

int reg_auth_known(struct reg_auth *a, const char *header) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    char hex[65], own[65];
    int r = 0;
    if (decode(header, &b)) {
        keyed(a, buf_sv(&b), hex);
        if (a->pair) {
            keyed(a, sv_from(a->pair), own);
            r = streq(hex, own);
        } else {
            pthread_mutex_lock(&a->lock);
            refresh(a);
            r = map_gets(&a->right, hex) ? 1 : -EAGAIN;
            pthread_mutex_unlock(&a->lock);
        }
    }
    if (b.p)
        explicit_bzero(b.p, b.cap);
    return r;
}

bool reg_auth_check(struct reg_auth *a, const char *header) {
    struct buf b = BUF_SMALL;
    char hex[65];
    bool ok = false;
    if (decode(header, &b)) {
        keyed(a, buf_sv(&b), hex);
        char *colon = memchr(buf_str(&b), ':', b.n);
        *colon = 0;
        pthread_mutex_lock(&a->lock);
        const char *found = map_gets(&a->users, b.p);
        _cleanup_free_ char *hash = xstrdup(found ? found : NOBODY);
        pthread_mutex_unlock(&a->lock);
        struct crypt_data *data = xcalloc(1, sizeof *data);
        const char *got = a->crypt(colon + 1, hash, data);
        ok = got && streq(got, hash) && found;
        explicit_bzero(data, sizeof *data);
        free(data);
        if (ok) {
            pthread_mutex_lock(&a->lock);
            const char *now = map_gets(&a->users, b.p);
            ok = now && streq(now, hash); /* not taken away meanwhile */
            if (ok && a->right.n < REMEMBERED)
                map_sets(&a->right, hex, a);
            pthread_mutex_unlock(&a->lock);
        }
    }
    if (b.p)
        explicit_bzero(b.p, b.cap);
    buf_done(&b);
    return ok;
}
