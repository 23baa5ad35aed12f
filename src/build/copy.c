/* The main process's side of COPY: writes the specification, starts the helper, reads its answer. */
#include "build/copy_int.h"
#include "core/fs.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>

static void put_strings(struct json_w *w, const char *key, const char *const *v, size_t n) {
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; v && (n == SIZE_MAX ? v[i] != NULL : i < n); i++)
        jw_str(w, v[i]);
    jw_end_arr(w);
}

/* Some folder that every host has; the helper hides it from itself. */
static const char *cover_place(void) {
    static const char *const places[] = {"/mnt", "/media", "/srv", "/opt", "/tmp"};
    struct stat st;
    for (size_t i = 0; i < ELEMENTS(places); i++)
        if (lstat(places[i], &st) == 0 && S_ISDIR(st.st_mode))
            return places[i];
    return "/";
}

/* The specification in a memfd. */
static int spec_fd(struct store *s, const struct copy_spec *c, bool mounts, bool digests, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(64u << 20);
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "store", store_path(s));
    jw_kstr(&w, "where", cover_place());
    jw_kbool(&w, "mounts", mounts);
    put_strings(&w, "layers", c->layers, c->n_layers);
    if (c->src_tree) {
        _cleanup_free_ char *t = xasprintf("tree:%s", c->src_tree);
        put_strings(&w, "src_layers", (const char *const[]){t}, 1);
    } else {
        put_strings(&w, "src_layers", c->src_layers, c->n_src_layers);
    }
    put_strings(&w, "sources", c->sources, SIZE_MAX);
    put_strings(&w, "exclude", c->exclude, SIZE_MAX);
    jw_key(&w, "inlines");
    jw_arr(&w);
    for (size_t i = 0; i < c->n_inlines; i++) {
        _cleanup_buf_ struct buf data = BUF_MAX(8u << 20);
        buf_add_base64(&data, c->inlines[i].data.p, c->inlines[i].data.n);
        jw_obj(&w);
        jw_kstr(&w, "name", c->inlines[i].name);
        jw_kstr(&w, "data", buf_str(&data));
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    const char *const text[][2] = {{"dest", c->dest}, {"mkdir", c->mkdir}, {"chown", c->chown}, {"chmod", c->chmod}};
    for (size_t i = 0; i < ELEMENTS(text); i++)
        if (text[i][1])
            jw_kstr(&w, text[i][0], text[i][1]);
    jw_kbool(&w, "keep_owner", c->keep_owner);
    jw_kbool(&w, "unpack", c->unpack);
    jw_kbool(&w, "parents", c->parents);
    jw_kbool(&w, "digests", digests);
    jw_kint(&w, "mtime", c->mtime);
    jw_end_obj(&w);
    if (!buf_ok(&b))
        return err_set(e, ERR_LIMIT, -EFBIG, "a COPY with too much text");
    int fd = memfd_create("build-copy", MFD_CLOEXEC);
    if (fd < 0 || fd_write_all(fd, b.p, b.n) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        fd_close(fd);
        return err_errno(e, -errno, "memfd");
    }
    return fd;
}

static int layer_open(struct store *s, const char *id) {
    _cleanup_buf_ struct buf path = BUF_SMALL;
    if (view_layer_path(id, &path) < 0)
        return -EINVAL;
    int fd = openat(store_dirfd(s), buf_str(&path), O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* A detached mount of a folder of the store. */
static int folder_mount(struct store *s, const char *name) {
    _cleanup_close_ int dir = openat(store_dirfd(s), name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    int fd = (int)syscall(SYS_open_tree, dir, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr a = {.propagation = MS_PRIVATE};
    if (fd >= 0 && syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &a, sizeof a) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd < 0 ? -errno : fd;
}

static int fds_open(struct store *s, struct keeper *k, const struct copy_spec *c, int *fds, bool *ret_mounts, struct err *e) {
    char path[64];
    int r = 0;
    if (c->upper[0]) {
        snprintf(path, sizeof path, "snap/%s/fs", c->upper);
        fds[COPY_FD_UPPER - 3] = openat(store_dirfd(s), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        snprintf(path, sizeof path, "snap/%s/work", c->upper);
        fds[COPY_FD_STAGE - 3] = openat(store_dirfd(s), path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fds[COPY_FD_UPPER - 3] < 0 || fds[COPY_FD_STAGE - 3] < 0)
            return err_errno(e, -errno, "%s", path);
    }
    if (c->n_layers == 1)
        r = fds[COPY_FD_BELOW - 3] = layer_open(s, c->layers[0]);
    if (r >= 0 && c->src_tree)
        r = fds[COPY_FD_SRC - 3] = tree_open(s, c->src_tree);
    else if (r >= 0 && c->n_src_layers == 1)
        r = fds[COPY_FD_SRC - 3] = layer_open(s, c->src_layers[0]);
    if (r < 0)
        return err_errno(e, r, "open a layer");
    *ret_mounts = (c->n_layers > 1 || c->n_src_layers > 1) && keeper_idmap(k)->root;
    for (int i = 0; i < 2 && *ret_mounts; i++) {
        r = fds[COPY_FD_SNAPS - 3 + i] = folder_mount(s, i ? "tree" : "snap");
        if (r == -EPERM) { /* root without the right to mount: then the way may be open */
            *ret_mounts = false;
            return 0;
        }
        if (r < 0)
            return err_errno(e, r, "open the store's folders");
    }
    return 0;
}

static int helper(struct store *s, const struct copy_spec *c, const char *op, bool digests, struct buf *out, struct err *e) {
    struct keeper *k;
    int fds[COPY_FD_END - 3];
    bool mounts = false;
    for (size_t i = 0; i < ELEMENTS(fds); i++)
        fds[i] = -1;
    int r = store_keeper(s, &k, e);
    if (r >= 0)
        r = fds_open(s, k, c, fds, &mounts, e);
    if (r >= 0)
        r = fds[0] = spec_fd(s, c, mounts, digests, e);
    if (r >= 0)
        r = ns_run(k, (const char *const[]){op, NULL}, fds, ELEMENTS(fds), out, e);
    for (size_t i = 0; i < ELEMENTS(fds); i++)
        fd_close(fds[i]);
    return r;
}

int copy_run(struct store *s, const struct copy_spec *c, struct copy_result *ret, struct err *e) {
    _cleanup_buf_ struct buf out = BUF_SMALL;
    int r = helper(s, c, "build-copy", false, &out, e);
    if (r < 0)
        return r;
    _cleanup_arena_ struct arena a = {0};
    struct json *j;
    r = json_parse(&a, buf_sv(&out), &j, e);
    if (r < 0)
        return err_wrap(e, r, "answer of build-copy");
    ret->files = (uint64_t)json_get_int(j, "files", 0);
    ret->bytes = (uint64_t)json_get_int(j, "bytes", 0);
    ret->empty = json_get_bool(j, "empty", false);
    return 0;
}

/* A tree belongs to the calling user: it is listed here. */
static int list_tree(struct store *s, const struct copy_spec *c, struct buf *out, struct err *e) {
    struct copy_job j = {.list = BUF_MAX(COPY_LIST_MAX), .parents = c->parents};
    _cleanup_close_ int root = tree_open(s, c->src_tree);
    if (root < 0)
        return err_errno(e, root, "open the context");
    j.src = (struct view){-1, root};
    strv_extend(&j.sources, c->sources);
    int r = exclude_parse(&j.exclude, c->exclude, e);
    if (r >= 0)
        r = copy_list_all(&j, false, e);
    strv_done(&j.sources);
    ignore_done(&j.exclude);
    if (r < 0)
        buf_done(&j.list);
    else
        *out = j.list;
    return r;
}

void copy_list_done(struct copy_list *l) {
    free(l->items);
    buf_done(&l->text);
    *l = (struct copy_list){0};
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct copy_entry *)a)->name, ((const struct copy_entry *)b)->name);
}

static bool field(struct sv *rest, const char **ret) {
    const char *end = rest->n ? memchr(rest->p, 0, rest->n) : NULL;
    if (!end)
        return false;
    size_t n = (size_t)(end - rest->p) + 1;
    *ret = rest->p;
    *rest = sv_sub(*rest, n, rest->n);
    return true;
}

int copy_list(struct store *s, const struct copy_spec *c, struct copy_list *ret, struct err *e) {
    struct copy_list l = {.text = BUF_MAX(COPY_LIST_MAX)};
    int r = c->src_tree ? list_tree(s, c, &l.text, e) : helper(s, c, "build-list", true, &l.text, e);
    struct sv rest = buf_sv(&l.text);
    while (r >= 0 && rest.n) {
        const char *head, *digest;
        struct copy_entry en = {0};
        unsigned long long size;
        if (!field(&rest, &head) || !field(&rest, &en.name) || !field(&rest, &en.src) || !field(&rest, &en.link) ||
            !field(&rest, &digest) ||
            sscanf(head, "%c %o %u %u %llu", &en.type, &en.mode, &en.uid, &en.gid, &size) != 5) {
            r = err_set(e, ERR_INTERNAL, -EPROTO, "answer of build-list");
            break;
        }
        en.size = size;
        if (digest_valid(sv_from(digest)))
            memcpy(en.digest, digest, DIGEST_LEN + 1);
        else if (en.type == 'f' && c->src_tree)
            r = tree_digest(s, c->src_tree, en.src, en.digest, e);
        GROW(l.items, l.cap, l.n + 1);
        l.items[l.n++] = en;
    }
    if (r < 0) {
        copy_list_done(&l);
        return r;
    }
    if (l.n)
        qsort(l.items, l.n, sizeof *l.items, by_name);
    *ret = l;
    return 0;
}

/* --- modes ---------------------------------------------------------------------------------- */

static int symbolic(const char *p, const char *end, uint32_t *mode, bool is_dir) {
    uint32_t who = 0;
    for (; p < end && strchr("ugoa", *p); p++)
        who |= *p == 'u' ? 04700u : *p == 'g' ? 02070u : *p == 'o' ? 01007u : 07777u;
    if (!who)
        who = 07777;
    if (p >= end)
        return -EINVAL;
    while (p < end) {
        char op = *p++;
        uint32_t bits = 0;
        if (!strchr("+-=", op))
            return -EINVAL;
        for (; p < end && !strchr("+-=", *p); p++) {
            switch (*p) {
            case 'r': bits |= 0444; break;
            case 'w': bits |= 0222; break;
            case 'x': bits |= 0111; break;
            case 'X': bits |= is_dir || (*mode & 0111) ? 0111u : 0; break;
            case 's': bits |= 06000; break;
            case 't': bits |= 01000; break;
            case 'u': bits |= ((*mode >> 6) & 7) * 0111u; break;
            case 'g': bits |= ((*mode >> 3) & 7) * 0111u; break;
            case 'o': bits |= (*mode & 7) * 0111u; break;
            default: return -EINVAL;
            }
        }
        bits &= who;
        if (op == '+')
            *mode |= bits;
        else if (op == '-')
            *mode &= ~bits;
        else
            *mode = (*mode & ~(who & 0777)) | bits;
    }
    return 0;
}

int chmod_parse(const char *text, uint32_t mode, bool is_dir, uint32_t *ret) {
    size_t n = strlen(text);
    if (n && n <= 9 && strspn(text, "01234567") == n) {
        uint32_t bits = (uint32_t)strtoul(text, NULL, 8);
        if (bits > 07777)
            return -EINVAL;
        *ret = bits;
        return 0;
    }
    struct sv rest = sv_from(text), part;
    if (!n || n > 200)
        return -EINVAL;
    while (sv_split(&rest, ',', &part))
        if (!part.n || symbolic(part.p, part.p + part.n, &mode, is_dir) < 0)
            return -EINVAL;
    *ret = mode & 07777;
    return 0;
}
