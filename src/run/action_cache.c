/* actions/cache, /restore and /save: the same keys, versions, archives and messages as the published
 * ones, so that what either saved the other restores; without node, tar and the network in between.
 * Source: actions/cache src/restoreImpl.ts and saveImpl.ts, @actions/cache. */
#include "run/native.h"
#include "run/results.h"

#include "base/digest.h"
#include "store/acache.h"

#define MB (1024ull * 1024)

struct cache_in {
    const char *key;
    struct strv paths;   /* lines of `path` */
    struct strv keys;    /* key, then restore-keys */
    char *patterns;
    char version[65];
};

static void in_done(struct cache_in *in) {
    strv_done(&in->paths);
    strv_done(&in->keys);
    free(in->patterns);
}

/* Lines as the action cuts them: "! x" is "!x". */
static void path_lines(const struct value *with, struct cache_in *in) {
    struct sv rest = sv_from(with_get(with, "path", "")), line;
    _cleanup_buf_ struct buf all = BUF_MAX(1u << 20);
    while (sv_split(&rest, '\n', &line)) {
        bool no = line.n > 1 && line.p[0] == '!' && (line.p[1] == ' ' || line.p[1] == '\t');
        line = sv_trim(no ? sv_sub(line, 1, line.n) : line);
        if (!line.n)
            continue;
        strv_addf(&in->paths, "%s" SV_FMT, no ? "!" : "", SV_ARG(line));
        buf_addf(&all, "%s\n", in->paths.v[in->paths.n - 1]);
    }
    in->patterns = buf_take(&all);
}

/* sha256 over the paths, the compression and a salt, as @actions/cache has it. */
static void version_of(struct cache_in *in) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    char digest[DIGEST_LEN + 1];
    for (size_t i = 0; i < in->paths.n; i++)
        buf_addf(&b, "%s|", in->paths.v[i]);
    buf_adds(&b, "zstd-without-long|1.0");
    digest_of(b.p, b.n, digest);
    memcpy(in->version, digest_hex(digest), 65);
}

/* False: the step has failed. */
static bool read_inputs(struct jobx *x, struct step *s, const struct value *with, const char *key, struct cache_in *in) {
    in->key = key ? key : native_required(x, s, with, "key");
    if (!in->key || !native_required(x, s, with, "path"))
        return false;
    path_lines(with, in);
    version_of(in);
    strv_add(&in->keys, in->key);
    native_lines(with, "restore-keys", &in->keys);
    if (in->keys.n > 10) {
        native_fail(x, s, "Key Validation Error: Keys are limited to a maximum of 10.");
        return false;
    }
    for (size_t i = 0; i < in->keys.n; i++) {
        const char *k = in->keys.v[i];
        if (strlen(k) > ACACHE_KEY_MAX)
            native_fail(x, s, "Key Validation Error: %s cannot be larger than 512 characters.", k);
        else if (strchr(k, ','))
            native_fail(x, s, "Key Validation Error: %s cannot contain commas.", k);
        else if (!acache_key_ok(sv_from(k)))
            native_fail(x, s, "Key Validation Error: %s has control characters.", k);
        else
            continue;
        return false;
    }
    return true;
}

static bool same_key(const char *a, const char *b) { return *a && sv_ieqs(sv_from(a), b); }

static const char *owner_of(const struct jobx *x) { return x->user ? x->user : "0:0"; }

/* Unpacks a cache over the job's files. Caching is optional: what goes wrong is a warning, and a miss. */
static bool unpack(struct jobx *x, const struct cache_in *in, const struct acache_entry *en) {
    _cleanup_arena_ struct arena a = {0};
    struct files_ret ret;
    struct err e = {0};
    uint64_t size = 0;
    _cleanup_close_ int fd = acache_open(x->rq->store, en, &size);
    if (fd < 0) {
        native_annotate(x, LEVEL_WARNING, "Failed to restore: the cache has gone meanwhile");
        return false;
    }
    jobx_say(x, "Cache Size: ~%llu MB (%llu B)", (unsigned long long)((size + MB / 2) / MB), (unsigned long long)size);
    struct files_req rq = {.what = FILES_UNTAR, .flags = GLOB_EXACT, .patterns = in->patterns, .cwd = x->workspace, .home = x->home, .owner = owner_of(x)};
    if (files_do(x, &rq, fd, &a, &ret, &e) < 0) {
        native_annotate(x, LEVEL_WARNING, "Failed to restore: %s", e.msg);
        return false;
    }
    jobx_say(x, "Cache restored successfully");
    return true;
}

/* The key that was found and restored, in a; NULL: none. */
static const char *restore(struct jobx *x, const struct cache_in *in, bool lookup_only, struct arena *a) {
    const char *refs[4], *read[3] = {0};
    struct acache_entry en;
    size_t n = 1;
    results_scope(x, &refs[0], read);
    for (size_t i = 0; i < 3 && read[i]; i++)
        refs[n++] = read[i];
    int r = acache_find(x->rq->store, x->run->repository, refs, n, (const char *const *)in->keys.v, in->keys.n, in->version, a, &en);
    if (r < 0)
        native_annotate(x, LEVEL_WARNING, "Failed to restore: %s", strerror(-r));
    if (r != 1)
        return NULL;
    jobx_say(x, streq(en.name.key, in->key) ? "Cache hit for: %s" : "Cache hit for restore-key: %s", en.name.key);
    if (lookup_only) {
        jobx_say(x, "Lookup only - skipping download");
        return en.name.key;
    }
    return unpack(x, in, &en) ? en.name.key : NULL;
}

static int restore_step(struct jobx *x, struct step *s, const struct value *with, bool only) {
    struct cache_in in = {0};
    _cleanup_arena_ struct arena a = {0};
    bool lookup = native_true(with, "lookup-only", false);
    if (read_inputs(x, s, with, NULL, &in)) {
        if (only)
            native_output(x, s, "cache-primary-key", in.key);
        else
            step_set_state(&s->state, SV("CACHE_KEY"), sv_from(in.key));
        const char *found = restore(x, &in, lookup, &a);
        if (found) {
            if (only)
                native_output(x, s, "cache-matched-key", found);
            else
                step_set_state(&s->state, SV("CACHE_RESULT"), sv_from(found));
            native_output(x, s, "cache-hit", same_key(in.key, found) ? "true" : "false");
            jobx_say(x, lookup ? "Cache found and can be restored from key: %s" : "Cache restored from key: %s", found);
        } else if (native_true(with, "fail-on-cache-miss", false)) {
            native_fail(x, s, "Failed to restore cache entry. Exiting as fail-on-cache-miss is set. Input key: %s", in.key);
        } else {
            _cleanup_buf_ struct buf keys = BUF_MAX(1u << 16);
            for (size_t i = 0; i < in.keys.n; i++)
                buf_addf(&keys, "%s%s", i ? ", " : "", in.keys.v[i]);
            jobx_say(x, "Cache not found for input keys: %s", buf_str(&keys));
        }
    }
    in_done(&in);
    return 0;
}

/* --- saving ----------------------------------------------------------------------------------------- */

static int pack(struct jobx *x, const struct cache_in *in, int scratch, char tmp[40], struct files_ret *ret, struct arena *a, struct err *e) {
    _cleanup_close_ int fd = native_tmp(x, scratch, tmp, e);
    if (fd < 0)
        return fd;
    struct files_req rq = {.what = FILES_TAR, .flags = GLOB_EXACT, .patterns = in->patterns, .cwd = x->workspace, .home = x->home};
    return files_do(x, &rq, fd, a, ret, e);
}

static void save_as(struct jobx *x, const struct cache_in *in, const struct acache_name *name) {
    _cleanup_arena_ struct arena a = {0};
    struct files_ret ret;
    struct err e = {0};
    char tmp[40];
    _cleanup_close_ int scratch = native_scratch(x, &e);
    int r = scratch < 0 ? scratch : pack(x, in, scratch, tmp, &ret, &a, &e);
    if (r >= 0 && !ret.files)
        jobx_say(x, "[warning]Path Validation Error: Path(s) specified in the action for caching do(es) not exist, hence no cache is being saved.");
    else if (r >= 0 && ret.size > ACACHE_MAX_BYTES)
        native_annotate(x, LEVEL_WARNING, "Failed to save: Cache size of ~%llu MB (%llu B) is over the 10GB limit, not saving cache.",
                        (unsigned long long)(ret.size / MB), (unsigned long long)ret.size);
    else if (r >= 0)
        r = acache_put(x->rq->store, name, scratch, tmp, 0, NULL, &e);
    if (scratch >= 0)
        unlinkat(scratch, tmp, 0);
    if (r == -EEXIST)
        jobx_say(x, "Failed to save: Unable to reserve cache with key %s, another job may be creating this cache.", in->key);
    else if (r < 0)
        native_annotate(x, LEVEL_WARNING, "Failed to save: %s", e.msg);
    else if (ret.files && ret.size <= ACACHE_MAX_BYTES) {
        jobx_say(x, "Cache Size: ~%llu MB (%llu B)", (unsigned long long)((ret.size + MB / 2) / MB), (unsigned long long)ret.size);
        jobx_say(x, "Cache saved with key: %s", in->key);
    }
}

static int save_step(struct jobx *x, struct step *s, const struct value *with, const char *key, const char *matched) {
    struct cache_in in = {0};
    const char *ref, *read[3] = {0};
    if (read_inputs(x, s, with, key, &in)) {
        results_scope(x, &ref, read);
        struct acache_name name = {x->run->repository, ref, in.version, in.key};
        if (same_key(in.key, matched))
            jobx_say(x, "Cache hit occurred on the primary key %s, not saving cache.", in.key);
        else if (acache_has(x->rq->store, &name))
            jobx_say(x, "Failed to save: Unable to reserve cache with key %s, another job may be creating this cache.", in.key);
        else
            save_as(x, &in, &name);
    }
    in_done(&in);
    return 0;
}

static int save_post(struct jobx *x, struct step *s, struct err *e) {
    const char *key = native_state(s, "CACHE_KEY");
    if (!*key)
        return 0; /* the step had failed before */
    return save_step(x, s, s->inputs, key, native_state(s, "CACHE_RESULT"));
}

int action_cache(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    action_post_native(x, s, with, save_post, "success()");
    return restore_step(x, s, with, false);
}

int action_cache_restore(struct jobx *x, struct step *s, const struct value *with, struct err *e) { return restore_step(x, s, with, true); }

int action_cache_save(struct jobx *x, struct step *s, const struct value *with, struct err *e) { return save_step(x, s, with, NULL, ""); }
