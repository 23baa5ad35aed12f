#include "source/lock.h"

#include "core/fs.h"

#define MAX_ITEMS 10000

static bool hex40(struct sv s) {
    return s.n == 40 && strspn(s.p, "0123456789abcdef") >= 40;
}

/* The place of a name, or where it belongs. */
static size_t place(const struct lock *l, const char *name, bool *found) {
    size_t lo = 0, hi = l->n;
    *found = false;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int c = strcmp(l->items[mid].name, name);
        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void lock_set(struct lock *l, const char *name, const char *sha) {
    bool found;
    size_t at = place(l, name, &found);
    if (found) {
        free(l->items[at].sha);
        l->items[at].sha = xstrdup(sha);
        return;
    }
    GROW(l->items, l->cap, l->n + 1);
    memmove(&l->items[at + 1], &l->items[at], (l->n - at) * sizeof *l->items);
    l->items[at] = (struct lock_item){xstrdup(name), xstrdup(sha)};
    l->n++;
}

const char *lock_get(const struct lock *l, const char *name) {
    bool found;
    size_t at = place(l, name, &found);
    return found ? l->items[at].sha : NULL;
}

int lock_parse(struct lock *ret, const char *file, struct sv text, struct err *e) {
    struct sv line;
    for (uint32_t no = 1; sv_line(&text, &line); no++) {
        line = sv_trim(line);
        if (!line.n || *line.p == '#')
            continue;
        struct sv rest = line, name;
        sv_split(&rest, ' ', &name);
        struct sv sha = sv_trim(rest);
        ssize_t at = sv_chr(name, '@');
        if (at < 3 || (size_t)at + 1 == name.n || !memchr(name.p, '/', (size_t)at) || !hex40(sha) || memchr(line.p, 0, line.n)) {
            err_set(e, ERR_CONFIG, -EINVAL, "\"%.*s\" is not \"OWNER/REPO@REF COMMIT\"", (int)MIN(line.n, 100u), line.p);
            return err_at(e, -EINVAL, (struct span){.file = span_file(file), .line = no, .col = 1});
        }
        if (ret->n >= MAX_ITEMS)
            return err_set(e, ERR_LIMIT, -E2BIG, "%s: more than %d lines", file, MAX_ITEMS);
        _cleanup_free_ char *n = sv_dup(name), *s = sv_dup(sha);
        lock_set(ret, n, s);
    }
    ret->there = true;
    return 0;
}

int lock_load(struct lock *ret, const char *dir, struct err *e) {
    _cleanup_buf_ struct buf text = BUF_MAX(1u << 20);
    _cleanup_free_ char *path = path_join(dir, LOCK_FILE);
    int r = fs_read(AT_FDCWD, path, &text, e);
    if (r == -ENOENT || r == -ENOTDIR) {
        if (e)
            *e = (struct err){0};
        return 0;
    }
    return r < 0 ? r : lock_parse(ret, path, buf_sv(&text), e);
}

int lock_save(const struct lock *l, const char *dir, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(4u << 20);
    _cleanup_free_ char *path = path_join(dir, LOCK_FILE);
    buf_adds(&b, "# What each `uses:` stands for. Written by `slipway check --update-lock`.\n");
    for (size_t i = 0; i < l->n; i++)
        buf_addf(&b, "%s %s\n", l->items[i].name, l->items[i].sha);
    return fs_write(AT_FDCWD, path, buf_sv(&b), 0644, false, e);
}

void lock_done(struct lock *l) {
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].name);
        free(l->items[i].sha);
    }
    free(l->items);
    *l = (struct lock){0};
}
