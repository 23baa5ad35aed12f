/* A pattern is a list of segments. A path matches when its segments do, `**` taking any number of them;
 * since that is a string match over segments, the last `**` is all there is to go back to. The search
 * starts at the literal beginnings and goes down where a pattern could still match. */
#include "run/glob.h"

#include "core/arena.h"
#include "core/fs.h"

#include <dirent.h>

#define SEGMENTS_MAX 256
#define NAMES_MAX 2000000u
#define DEPTH_MAX 200u

struct pattern {
    bool negate, dirs_only, implicit;
    struct sv *segs;          /* as written, escapes included */
    size_t n;
    const char *root;         /* literal beginning */
};
struct globs {
    struct arena a;
    unsigned flags;
    struct pattern *v;
    size_t n, cap, given;
    const char **roots;
    size_t n_roots;
};

/* --- segments ----------------------------------------------------------------------------------------- */

/* One set at p ("[…]"): does it hold c? *ret_len = its length, 0 when it is not closed (a plain '['). */
static bool in_set(struct sv p, char c, size_t *ret_len) {
    size_t i = 1;
    bool negate = false, found = false, first = true;
    *ret_len = 0;
    if (i < p.n && (p.p[i] == '!' || p.p[i] == '^')) {
        negate = true;
        i++;
    }
    for (; i < p.n; first = false) {
        unsigned char lo, hi;
        if (p.p[i] == ']' && !first) {
            *ret_len = i + 1;
            return found != negate;
        }
        if (p.p[i] == '\\' && i + 1 < p.n)
            i++;
        lo = hi = (unsigned char)p.p[i++];
        if (i + 1 < p.n && p.p[i] == '-' && p.p[i + 1] != ']') {
            i++;
            if (p.p[i] == '\\' && i + 1 < p.n)
                i++;
            hi = (unsigned char)p.p[i++];
        }
        found |= (unsigned char)c >= lo && (unsigned char)c <= hi;
    }
    return false;
}

/* Bytes of the UTF-8 character at p. */
static size_t char_len(struct sv s, size_t i) {
    size_t n = 1;
    while (i + n < s.n && ((unsigned char)s.p[i + n] & 0xc0) == 0x80)
        n++;
    return n;
}

static bool seg_match(struct sv p, struct sv s) {
    size_t i = 0, k = 0, star = SIZE_MAX, star_k = 0;
    while (k < s.n) {
        size_t len = 0, step = 1;
        if (i < p.n && p.p[i] == '*') {
            star = ++i;
            star_k = k;
            continue;
        }
        bool ok = false;
        if (i < p.n) {
            len = 1;
            if (p.p[i] == '?') {
                ok = true;
                step = char_len(s, k);
            } else if (p.p[i] == '[') {
                ok = in_set(sv_sub(p, i, p.n), s.p[k], &len);
                if (!len) {
                    len = 1;
                    ok = s.p[k] == '[';
                }
            } else if (p.p[i] == '\\' && i + 1 < p.n) {
                len = 2;
                ok = p.p[i + 1] == s.p[k];
            } else {
                ok = p.p[i] == s.p[k];
            }
        }
        if (ok) {
            i += len;
            k += step;
        } else if (star != SIZE_MAX) {
            i = star;
            k = star_k += char_len(s, star_k);
        } else {
            return false;
        }
    }
    while (i < p.n && p.p[i] == '*')
        i++;
    return i == p.n;
}

/* The parts of the first brace group that has a comma at its own level. False: there is none. */
static bool brace(struct sv p, size_t *from, size_t *to) {
    for (size_t i = 0; i < p.n; i++) {
        unsigned depth = 0;
        bool comma = false;
        if (p.p[i] != '{')
            continue;
        for (size_t k = i; k < p.n; k++) {
            depth += p.p[k] == '{';
            comma |= p.p[k] == ',' && depth == 1;
            if (p.p[k] == '}' && --depth == 0) {
                if (!comma)
                    break;
                *from = i;
                *to = k;
                return true;
            }
        }
    }
    return false;
}

static bool name_match(struct sv p, struct sv name, unsigned *budget) {
    size_t from, to;
    if (!*budget || !--*budget)
        return false;
    if (!brace(p, &from, &to)) {
        if (name.n && name.p[0] == '.' && (!p.n || p.p[0] != '.'))
            return false;
        return seg_match(p, name);
    }
    unsigned depth = 0;
    for (size_t i = from + 1, start = i; i <= to; i++) {
        depth += p.p[i] == '{';
        if ((p.p[i] == ',' && !depth) || i == to) {
            _cleanup_buf_ struct buf b = BUF_SMALL;
            buf_addsv(&b, sv_sub(p, 0, from));
            buf_addsv(&b, sv_sub(p, start, i - start));
            buf_addsv(&b, sv_sub(p, to + 1, p.n));
            if (name_match(buf_sv(&b), name, budget))
                return true;
            start = i + 1;
        }
        if (p.p[i] == '}' && depth)
            depth--;
    }
    return false;
}

bool glob_name(struct sv p, struct sv name) {
    unsigned budget = 2000; /* of what braces expand to */
    bool negate = false;
    if (p.n && p.p[0] == '#')
        return false;
    while (p.n && p.p[0] == '!') {
        negate = !negate;
        p = sv_sub(p, 1, p.n);
    }
    return name_match(p, name, &budget) != negate;
}

static bool globstar(struct sv s) { return s.n == 2 && s.p[0] == '*' && s.p[1] == '*'; }

static size_t split(const char *path, struct sv *out, size_t max) {
    struct sv rest = sv_from(path), one;
    size_t n = 0;
    while (sv_split(&rest, '/', &one))
        if (one.n) {
            if (n == max)
                return SIZE_MAX;
            out[n++] = one;
        }
    return n;
}

static bool segs_match(const struct pattern *p, const struct sv *f, size_t n) {
    size_t i = 0, k = 0, star = SIZE_MAX, star_k = 0;
    while (k < n) {
        if (i < p->n && globstar(p->segs[i])) {
            star = ++i;
            star_k = k;
        } else if (i < p->n && seg_match(p->segs[i], f[k])) {
            i++;
            k++;
        } else if (star != SIZE_MAX) {
            i = star;
            k = ++star_k;
        } else {
            return false;
        }
    }
    /* "foo" and two stars is foo itself too, unless they were added for what is below. */
    while (i < p->n && globstar(p->segs[i]) && (i + 1 < p->n || !p->implicit))
        i++;
    return i == p->n;
}

static bool segs_partial(const struct pattern *p, const struct sv *f, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (i == p->n)
            return false;
        if (globstar(p->segs[i]))
            return true;
        if (!seg_match(p->segs[i], f[i]))
            return false;
    }
    return true;
}

unsigned globs_match(const struct globs *g, const char *path) {
    struct sv f[SEGMENTS_MAX];
    size_t n = split(path, f, SEGMENTS_MAX);
    unsigned r = 0;
    if (n == SIZE_MAX)
        return 0;
    for (size_t i = 0; i < g->n; i++) {
        const struct pattern *p = &g->v[i];
        if (!segs_match(p, f, n))
            continue;
        unsigned m = p->dirs_only ? 1 : 3;
        r = p->negate ? r & ~m : r | m;
    }
    return r;
}

bool globs_partial(const struct globs *g, const char *path) {
    struct sv f[SEGMENTS_MAX];
    size_t n = split(path, f, SEGMENTS_MAX);
    for (size_t i = 0; n != SIZE_MAX && i < g->n; i++)
        if (!g->v[i].negate && segs_partial(&g->v[i], f, n))
            return true;
    return false;
}

/* --- reading ------------------------------------------------------------------------------------------ */

/* The segment as plain text into b; false when it is a glob. */
static bool literal(struct sv s, struct buf *b) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '\\' && i + 1 < s.n) {
            buf_addc(b, s.p[++i]);
            continue;
        }
        if (c == '*' || c == '?')
            return false;
        if (c == '[') {
            size_t n = 0, at = 0, k = i + 1;
            for (; k < s.n && s.p[k] != ']'; k++) {
                if (s.p[k] == '\\' && k + 1 < s.n)
                    k++;
                at = k;
                n++;
            }
            if (k < s.n && n > 1)
                return false;
            if (k < s.n && n == 1) {
                buf_addc(b, s.p[at]);
                i = k;
                continue;
            }
        }
        buf_addc(b, c);
    }
    return true;
}

/* A path of ours in front of a pattern: nothing in it is a glob. */
static void escape(struct buf *b, const char *path) {
    for (; *path; path++) {
        if (strchr("\\[*?", *path))
            buf_addc(b, '\\');
        buf_addc(b, *path);
    }
}

static int check_segments(struct sv text, struct err *e) {
    struct sv rest = text, one;
    bool first = true;
    while (sv_split(&rest, '/', &one)) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        if (literal(one, &b) && ((sv_eqs(buf_sv(&b), ".") && !first) || sv_eqs(buf_sv(&b), "..")))
            return err_set(e, ERR_CONFIG, -EINVAL, "Invalid pattern '" SV_FMT "'. Relative pathing '.' and '..' is not allowed.", SV_ARG(text));
        first = false;
    }
    return 0;
}

static int add(struct globs *g, struct sv line, const char *cwd, const char *home, struct err *e) {
    _cleanup_buf_ struct buf full = BUF_SMALL, root = BUF_SMALL;
    struct pattern p = {0};
    while (line.n && line.p[0] == '!') {
        p.negate = !p.negate;
        line = sv_trim(sv_sub(line, 1, line.n));
    }
    if (!line.n)
        return err_set(e, ERR_CONFIG, -EINVAL, "Parameter 'pattern' cannot be empty");
    int r = check_segments(line, e);
    if (r < 0)
        return r;
    if (sv_eqs(line, ".") || sv_starts(line, "./")) {
        escape(&full, cwd);
        line = sv_sub(line, 1, line.n);
    } else if (sv_eqs(line, "~") || sv_starts(line, "~/")) {
        escape(&full, home);
        line = sv_sub(line, 1, line.n);
    } else if (line.p[0] != '/') {
        escape(&full, cwd);
        buf_addc(&full, '/');
    }
    buf_addsv(&full, line);
    if (!buf_ok(&full))
        return err_set(e, ERR_LIMIT, -ENAMETOOLONG, "a pattern is too long");
    const char *text = arena_strndup(&g->a, full.p, full.n);
    struct sv segs[SEGMENTS_MAX];
    size_t n = split(text, segs, SEGMENTS_MAX - 1);
    if (n == SIZE_MAX)
        return err_set(e, ERR_LIMIT, -EINVAL, "a pattern has too many parts");
    p.dirs_only = n && endswith(text, "/");
    p.segs = ARENA_ARRAY(&g->a, struct sv, n + 1);
    memcpy(p.segs, segs, n * sizeof *segs);
    p.n = n;
    for (size_t i = 0; i < n; i++) {
        _cleanup_buf_ struct buf part = BUF_SMALL;
        if (!literal(segs[i], &part))
            break;
        buf_addc(&root, '/');
        buf_addsv(&root, buf_sv(&part));
    }
    p.root = root.n ? arena_strndup(&g->a, root.p, root.n) : "/";
    GROW(g->v, g->cap, g->n + 2);
    g->v[g->n++] = p;
    g->given++;
    if (!(g->flags & GLOB_EXACT) && (p.dirs_only || !n || !globstar(segs[n - 1]))) {
        p.segs[n] = SV("**");
        p.n = n + 1;
        p.implicit = true;
        p.dirs_only = false;
        g->v[g->n++] = p;
    }
    return 0;
}

static bool below(const char *path, const char *top) {
    const char *rest = startswith(path, top);
    return streq(top, "/") || (rest && (*rest == '/' || !*rest));
}

static void find_roots(struct globs *g) {
    g->roots = ARENA_ARRAY(&g->a, const char *, g->n + 1);
    for (size_t i = 0; i < g->n; i++) {
        bool have = g->v[i].negate;
        for (size_t k = 0; k < g->n && !have; k++)
            if (k != i && !g->v[k].negate && below(g->v[i].root, g->v[k].root))
                have = !streq(g->v[i].root, g->v[k].root) || k < i;
        if (!have)
            g->roots[g->n_roots++] = g->v[i].root;
    }
}

int globs_new(struct globs **ret, struct sv patterns, const char *cwd, const char *home, unsigned flags, struct err *e) {
    struct globs *g = xcalloc(1, sizeof *g);
    struct sv rest = patterns, line;
    int r = 0;
    g->flags = flags;
    while (r >= 0 && sv_split(&rest, '\n', &line)) {
        line = sv_trim(line);
        if (!line.n || line.p[0] == '#')
            continue;
        r = g->n > 2000 ? err_set(e, ERR_LIMIT, -E2BIG, "too many patterns") : add(g, line, cwd, home, e);
    }
    if (r < 0) {
        globs_free(g);
        return r;
    }
    find_roots(g);
    *ret = g;
    return 0;
}

void globs_free(struct globs *g) {
    if (!g)
        return;
    arena_done(&g->a);
    free(g->v);
    free(g);
}

size_t globs_count(const struct globs *g) { return g->given; }
size_t globs_roots(const struct globs *g, const char *const **ret) {
    *ret = g->roots;
    return g->n_roots;
}

/* --- walking ------------------------------------------------------------------------------------------ */

struct walk {
    const struct globs *g;
    int root;
    glob_fn fn;
    void *arg;
    struct err *e;
    size_t seen;
    struct { dev_t dev; ino_t ino; } chain[DEPTH_MAX]; /* folders above, to see a link that goes round */
};

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int names_of(int fd, struct strv *names) {
    DIR *d = fdopendir(fd);
    if (!d) {
        int r = -errno;
        close(fd);
        return r;
    }
    for (struct dirent *en; (en = readdir(d));)
        if (!streq(en->d_name, ".") && !streq(en->d_name, ".."))
            strv_add(names, en->d_name);
    closedir(d);
    if (names->n)
        qsort(names->v, names->n, sizeof *names->v, by_name);
    return 0;
}

static int visit(struct walk *w, const char *path, unsigned depth) {
    const struct globs *g = w->g;
    unsigned m = globs_match(g, path);
    bool part = m || globs_partial(g, path), follow = !(g->flags & GLOB_NO_FOLLOW);
    struct stat st;
    int r;
    if (!part)
        return 0;
    if (++w->seen > NAMES_MAX || depth >= DEPTH_MAX)
        return err_set(w->e, ERR_LIMIT, -EFBIG, "%s: too many files, or too deep", path);
    _cleanup_close_ int fd = fs_open_in(w->root, path, O_PATH | (follow ? 0 : O_NOFOLLOW), 0, 0);
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
        return 0; /* gone, or a link that leads nowhere */
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(w->e, fd < 0 ? fd : -errno, "%s", path);
    if ((g->flags & GLOB_NO_HIDDEN) && path_base(path)[0] == '.')
        return 0;
    if (!S_ISDIR(st.st_mode))
        return m & 2 ? w->fn(w->arg, path, &st) : 0;
    for (unsigned i = 0; follow && i < depth; i++)
        if (w->chain[i].dev == st.st_dev && w->chain[i].ino == st.st_ino)
            return 0;
    w->chain[depth].dev = st.st_dev;
    w->chain[depth].ino = st.st_ino;
    if ((m & 1) && !(g->flags & GLOB_NO_DIRS) && (r = w->fn(w->arg, path, &st)) < 0)
        return r;
    _cleanup_strv_ struct strv names = {0};
    int dir = fs_open_in(w->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0);
    if (dir < 0 || (dir = names_of(dir, &names)) < 0)
        return dir == -ENOENT ? 0 : err_errno(w->e, dir, "%s", path);
    fd = fd_close(fd);
    for (size_t i = 0; i < names.n; i++) {
        _cleanup_free_ char *child = xasprintf("%s/%s", streq(path, "/") ? "" : path, names.v[i]);
        if ((r = visit(w, child, depth + 1)) < 0)
            return r;
    }
    return 0;
}

int globs_walk(const struct globs *g, int root, glob_fn fn, void *arg, struct err *e) {
    struct walk *w = xcalloc(1, sizeof *w);
    int r = 0;
    *w = (struct walk){.g = g, .root = root, .fn = fn, .arg = arg, .e = e};
    for (size_t i = 0; i < g->n_roots && r >= 0; i++)
        r = visit(w, g->roots[i], 0);
    free(w);
    return r < 0 ? r : 0;
}
