/* actions/upload-artifact, its merge, and actions/download-artifact, version 3 to the newest. An artifact
 * is a zip below the run, the same whichever way it came. What version 3 did differently: uploads under
 * one name add up. Source: the actions' src/, @actions/artifact. */
#include "run/native.h"

#include "base/zip.h"
#include "store/artifact.h"

#include <time.h>

/* The major version that `uses` names: "v3", "3.1"; a commit or a branch is taken for the newest. */
static unsigned major_of(const char *uses) {
    const char *at = strrchr(uses, '@');
    uint64_t v;
    if (!at)
        return 99;
    at += at[1] == 'v' ? 2 : 1;
    size_t n = strspn(at, "0123456789");
    return n && n < 3 && (!at[n] || at[n] == '.') && sv_u64(sv_n(at, n), 99, &v) >= 0 ? (unsigned)v : 99;
}

/* 0 when none is asked for; a bad one fails the step. */
static int expires_of(struct jobx *x, struct step *s, const struct value *with, int64_t *ret) {
    const char *t = with_get(with, "retention-days", "");
    uint64_t days = 90, most = 90;
    if (*t && sv_u64(sv_from(t), 100000, &days) < 0) {
        native_fail(x, s, "Invalid retention-days");
        return -EINVAL;
    }
    if (!days)
        days = most;
    if (days > most) {
        native_annotate(x, LEVEL_WARNING, "Retention days cannot be greater than the maximum allowed retention set within the repository. Using %llu instead.",
                        (unsigned long long)most);
        days = most;
    }
    *ret = time(NULL) + (int64_t)days * 86400;
    return 0;
}

static int level_of(struct jobx *x, struct step *s, const struct value *with) {
    const char *t = with_get(with, "compression-level", "");
    uint64_t v = 6;
    if (*t && sv_u64(sv_from(t), 9, &v) < 0) {
        native_fail(x, s, "Invalid compression-level. Valid values are 0-9");
        return -EINVAL;
    }
    return (int)v;
}

static bool name_ok(struct jobx *x, struct step *s, const char *name) {
    if (artifact_name_ok(sv_from(name)))
        return true;
    native_fail(x, s, "The artifact name is not valid: %s. It has 1 to 256 characters, none of them \" : < > | * ? \\ / or a line break", name);
    return false;
}

/* --- putting archives together ------------------------------------------------------------------------ */

struct joined {
    struct zip_writer *w;
    struct map names;
    int scratch;
    uint64_t files, size;
};

static int to_fd(void *arg, const void *p, size_t n) { return fd_write_all(*(int *)arg, p, n); }

static bool hidden(const char *name) { return *name == '.' || strstr(name, "/."); }

/* Adds the entries of a zip below `prefix`; a name that is there already is left out. */
static int join(struct jobx *x, struct joined *jn, int fd, const char *prefix, bool with_hidden, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct zip z;
    int r = zip_open(&z, fd, NULL, &a, e);
    for (size_t i = 0; r >= 0 && i < z.n; i++) {
        const struct zip_entry *en = &z.entries[i];
        char tmp[40];
        _cleanup_free_ char *name = xasprintf("%s%s", prefix, en->name);
        if (en->dir || (!with_hidden && hidden(en->name)) || map_has(&jn->names, sv_from(name)))
            continue;
        map_sets(&jn->names, name, jn);
        _cleanup_close_ int one = native_tmp(x, jn->scratch, tmp, e);
        if (one < 0)
            return one;
        unlinkat(jn->scratch, tmp, 0);
        if ((r = zip_read(&z, en, to_fd, &one, e)) >= 0 && lseek(one, 0, SEEK_SET) == 0)
            r = zip_add(jn->w, name, one, en->mtime, e);
        jn->files++;
    }
    return r;
}

/* --- upload -------------------------------------------------------------------------------------------- */

struct up {
    const char *name;
    int level, scratch;
    int64_t expires;
    bool overwrite, merge;
    char tmp[40];
};

static void outputs(struct jobx *x, struct step *s, const struct artifact *a) {
    char id[24];
    snprintf(id, sizeof id, "%llu", (unsigned long long)a->id);
    const char *server = x->rq->event.server_url ? x->rq->event.server_url : "https://github.com";
    _cleanup_free_ char *url = xasprintf("%s/%s/actions/runs/%s/artifacts/%s", server, x->run->repository, x->run->id, id);
    native_output(x, s, "artifact-id", id);
    native_output(x, s, "artifact-url", url);
    native_output(x, s, "artifact-digest", digest_hex(a->digest));
    jobx_say(x, "Artifact %s has been successfully uploaded! Final size is %llu bytes. Artifact ID is %s", a->name, (unsigned long long)a->size, id);
    jobx_say(x, "Artifact download URL: %s", url);
}

static int publish(struct jobx *x, struct step *s, struct up *u, struct artifact *a, struct err *e) {
    a->name = u->name;
    a->repo = x->run->repository;
    a->expires = u->expires;
    jobx_say(x, "SHA256 digest of uploaded artifact zip is %s", digest_hex(a->digest));
    int r = artifact_put(x->rq->store, x->run->id, a, u->scratch, u->tmp, u->overwrite || u->merge, e);
    if (r == -EEXIST)
        return native_fail(x, s, "Failed to CreateArtifact: Received non-retryable error: Failed request: (409) Conflict: an artifact with this name already exists on the workflow run");
    if (r >= 0)
        outputs(x, s, a);
    return r;
}

/* Version 3: the archive that is there, with the new files over it. */
static int add_to_old(struct jobx *x, struct up *u, int fd, struct artifact *now, struct arena *a, struct err *e) {
    struct artifact old;
    char tmp[40], digest[DIGEST_LEN + 1];
    if (artifact_find(x->rq->store, x->run->id, u->name, a, &old) != 1)
        return 0;
    _cleanup_close_ int of = artifact_open(x->rq->store, x->run->id, old.id, NULL), to = native_tmp(x, u->scratch, tmp, e);
    struct joined jn = {.scratch = u->scratch};
    int r = of < 0 || to < 0 ? err_errno(e, of < 0 ? of : to, "the artifact %s", u->name) : zip_writer_new(&jn.w, to, u->level);
    if (r >= 0 && (r = join(x, &jn, fd, "", true, e)) >= 0 && (r = join(x, &jn, of, "", true, e)) >= 0)
        r = zip_end(jn.w, &now->size, digest, e);
    zip_writer_free(jn.w);
    map_done(&jn.names);
    if (r < 0) {
        unlinkat(u->scratch, tmp, 0);
        return r;
    }
    unlinkat(u->scratch, u->tmp, 0);
    memcpy(u->tmp, tmp, sizeof tmp);
    now->digest = arena_strdup(a, digest);
    return 0;
}

static int nothing_found(struct jobx *x, struct step *s, const char *mode, const char *path) {
    if (streq(mode, "error"))
        return native_fail(x, s, "No files were found with the provided path: %s. No artifacts will be uploaded.", path);
    if (streq(mode, "ignore"))
        jobx_say(x, "No files were found with the provided path: %s. No artifacts will be uploaded.", path);
    else
        native_annotate(x, LEVEL_WARNING, "No files were found with the provided path: %s. No artifacts will be uploaded.", path);
    return 0;
}

/* `archive: false`: one file as it is, under its own name. */
static int upload_plain(struct jobx *x, struct step *s, struct up *u, const char *path, const struct files_ret *found, int fd, struct arena *a, struct err *e) {
    char digest[DIGEST_LEN + 1];
    struct zip z;
    struct artifact art = {.mime = "application/octet-stream"};
    if (found->files != 1)
        return native_fail(x, s, "archive: false is for a single file, and %s matches %llu", path, (unsigned long long)found->files);
    int r = zip_open(&z, fd, NULL, a, e);
    if (r < 0 || z.n != 1)
        return r < 0 ? r : -EIO;
    u->name = path_base(z.entries[0].name);
    if (!name_ok(x, s, u->name))
        return 0;
    char tmp[40];
    _cleanup_close_ int to = native_tmp(x, u->scratch, tmp, e);
    if (to < 0)
        return to;
    unlinkat(u->scratch, u->tmp, 0);
    memcpy(u->tmp, tmp, sizeof tmp);
    if ((r = zip_read(&z, &z.entries[0], to_fd, &to, e)) < 0 || lseek(to, 0, SEEK_SET) < 0 || (r = digest_of_fd(to, digest, &art.size)) < 0)
        return r;
    art.digest = arena_strdup(a, digest);
    return publish(x, s, u, &art, e);
}

static int upload(struct jobx *x, struct step *s, struct up *u, const char *path, const char *mode, bool with_hidden, bool archive, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct files_ret ret;
    struct files_req rq = {.what = FILES_ZIP, .flags = GLOB_NO_DIRS | (with_hidden ? 0 : GLOB_NO_HIDDEN), .patterns = path, .cwd = x->workspace,
                           .home = x->home, .level = archive ? u->level : 0};
    _cleanup_close_ int fd = native_tmp(x, u->scratch, u->tmp, e);
    int r = fd < 0 ? fd : files_do(x, &rq, fd, &a, &ret, e);
    if (r >= 0 && !ret.files) {
        unlinkat(u->scratch, u->tmp, 0);
        return nothing_found(x, s, mode, path);
    }
    if (r >= 0) {
        jobx_say(x, "With the provided path, there will be %llu file%s uploaded", (unsigned long long)ret.files, ret.files == 1 ? "" : "s");
        struct artifact art = {.digest = ret.digest, .size = ret.size, .mime = "application/zip"};
        if (!archive)
            r = upload_plain(x, s, u, path, &ret, fd, &a, e);
        else if ((r = u->merge ? add_to_old(x, u, fd, &art, &a, e) : 0) >= 0)
            r = publish(x, s, u, &art, e);
    }
    unlinkat(u->scratch, u->tmp, 0);
    return r;
}

int action_upload_artifact(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    unsigned major = major_of(s->ps->uses.s);
    const char *path = native_required(x, s, with, "path"), *mode = with_get(with, "if-no-files-found", "");
    bool archive = native_true(with, "archive", true);
    struct up u = {.name = with_get(with, "name", ""), .overwrite = native_true(with, "overwrite", false), .merge = major < 4};
    if (!path)
        return 0;
    if (!*u.name)
        u.name = "artifact";
    if (!*mode)
        mode = "warn";
    if (!streq(mode, "warn") && !streq(mode, "error") && !streq(mode, "ignore"))
        return native_fail(x, s, "Unrecognized if-no-files-found input. Provided: %s. Available options: warn,error,ignore", mode);
    if ((archive && !name_ok(x, s, u.name)) || expires_of(x, s, with, &u.expires) < 0 || (u.level = level_of(x, s, with)) < 0)
        return 0;
    _cleanup_close_ int scratch = u.scratch = native_scratch(x, e);
    return scratch < 0 ? scratch : upload(x, s, &u, path, mode, native_true(with, "include-hidden-files", false), archive, e);
}

/* --- merge --------------------------------------------------------------------------------------------- */

struct choice {
    const char *pattern;
    const char *repo;         /* only of this one, NULL = any */
    const struct strv *ids;   /* or these */
    struct arena *a;
    struct artifact *v;
    size_t n, cap;
};
static int choose(const struct artifact *x, void *arg) {
    struct choice *c = arg;
    char id[24];
    snprintf(id, sizeof id, "%llu", (unsigned long long)x->id);
    if ((c->repo && !streq(c->repo, x->repo)) || (c->ids && !strv_contains(c->ids, id)) ||
        (c->pattern && !glob_name(sv_from(c->pattern), sv_from(x->name))))
        return 0;
    GROW(c->v, c->cap, c->n + 1);
    c->v[c->n] = *x;
    c->v[c->n].name = arena_strdup(c->a, x->name);
    c->v[c->n].mime = arena_strdup(c->a, x->mime);
    c->v[c->n].digest = arena_strdup(c->a, x->digest);
    c->n++;
    return 0;
}

static int merge_all(struct jobx *x, struct step *s, struct up *u, struct choice *c, bool separate, bool with_hidden, struct err *e) {
    char digest[DIGEST_LEN + 1];
    struct artifact art = {.digest = digest, .mime = "application/zip"};
    struct joined jn = {.scratch = u->scratch};
    _cleanup_close_ int to = native_tmp(x, u->scratch, u->tmp, e);
    int r = to < 0 ? to : zip_writer_new(&jn.w, to, u->level);
    for (size_t i = c->n; r >= 0 && i-- > 0;) { /* the newest first: its files win */
        _cleanup_close_ int fd = artifact_open(x->rq->store, x->run->id, c->v[i].id, NULL);
        _cleanup_free_ char *prefix = separate ? xasprintf("%s/", c->v[i].name) : xstrdup("");
        if ((r = fd) >= 0)
            r = join(x, &jn, fd, prefix, with_hidden, e);
        if (r < 0)
            err_wrap(e, r, "the artifact %s", c->v[i].name);
    }
    if (r >= 0 && jn.files && (r = zip_end(jn.w, &art.size, digest, e)) >= 0)
        r = publish(x, s, u, &art, e);
    else if (r >= 0)
        r = nothing_found(x, s, "error", "the merged artifacts");
    zip_writer_free(jn.w);
    map_done(&jn.names);
    unlinkat(u->scratch, u->tmp, 0);
    return r;
}

int action_merge_artifacts(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    const char *name = with_get(with, "name", ""), *pattern = with_get(with, "pattern", "");
    struct up u = {.name = *name ? name : "merged-artifacts"};
    struct choice c = {.pattern = *pattern ? pattern : "*", .a = &a};
    if (!name_ok(x, s, u.name) || expires_of(x, s, with, &u.expires) < 0 || (u.level = level_of(x, s, with)) < 0)
        return 0;
    _cleanup_close_ int scratch = u.scratch = native_scratch(x, e);
    int r = scratch < 0 ? scratch : artifact_each(x->rq->store, x->run->id, choose, &c);
    if (r >= 0 && !c.n)
        native_fail(x, s, "No artifacts found matching pattern '%s'", c.pattern);
    else if (r >= 0) {
        jobx_say(x, "Preparing to download the following artifacts:");
        for (size_t i = 0; i < c.n; i++)
            jobx_say(x, "- %s (ID: %llu, Size: %llu)", c.v[i].name, (unsigned long long)c.v[i].id, (unsigned long long)c.v[i].size);
        r = merge_all(x, s, &u, &c, native_true(with, "separate-directories", false), native_true(with, "include-hidden-files", false), e);
        for (size_t i = 0; r >= 0 && !s->code && native_true(with, "delete-merged", false) && i < c.n; i++)
            if (!streq(c.v[i].name, u.name) && artifact_remove(x->rq->store, x->run->id, c.v[i].name, NULL) >= 0)
                jobx_say(x, "Artifact '%s' (%llu) deleted", c.v[i].name, (unsigned long long)c.v[i].id);
    }
    free(c.v);
    return r;
}

/* --- download ------------------------------------------------------------------------------------------ */

static int put_plain(struct jobx *x, const struct artifact *art, int fd, const char *dest, struct err *e) {
    /* A file that is no archive goes through one, so that the helper makes it. */
    char tmp[40];
    uint64_t size;
    struct files_ret ret;
    _cleanup_arena_ struct arena a = {0};
    struct zip_writer *w = NULL;
    _cleanup_close_ int scratch = native_scratch(x, e), zfd = scratch < 0 ? scratch : native_tmp(x, scratch, tmp, e);
    if (zfd < 0)
        return zfd;
    unlinkat(scratch, tmp, 0);
    int r = zip_writer_new(&w, zfd, 0);
    if (r >= 0 && (r = zip_add(w, art->name, fd, art->created, e)) >= 0)
        r = zip_end(w, &size, NULL, e);
    zip_writer_free(w);
    struct files_req rq = {.what = FILES_UNZIP, .cwd = x->workspace, .home = x->home, .dest = dest, .owner = x->user ? x->user : "0:0"};
    return r < 0 ? r : files_do(x, &rq, zfd, &a, &ret, e);
}

static int fetch(struct jobx *x, const char *run, const struct artifact *art, const char *dest, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct files_ret ret;
    _cleanup_close_ int fd = artifact_open(x->rq->store, run, art->id, NULL);
    if (fd < 0)
        return err_errno(e, fd, "the artifact %s", art->name);
    struct files_req rq = {.what = FILES_UNZIP, .cwd = x->workspace, .home = x->home, .dest = dest, .owner = x->user ? x->user : "0:0"};
    int r = streq(art->mime, "application/zip") ? files_do(x, &rq, fd, &a, &ret, e) : put_plain(x, art, fd, dest, e);
    if (r < 0)
        return err_wrap(e, r, "Unable to download artifact(s): %s", art->name);
    jobx_say(x, "Artifact download completed successfully: %s", art->name);
    return 0;
}

static int not_found(struct jobx *x, struct step *s, const char *name, unsigned major) {
    if (major < 4)
        return native_fail(x, s, "Unable to find any artifacts for the associated workflow: %s", name);
    return native_fail(x, s, "Unable to download artifact(s): Artifact not found for name: %s\n"
                             "        Please ensure that your artifact is not expired and the artifact was uploaded using a compatible version of toolkit/upload-artifact.\n"
                             "        For more information, visit the GitHub Artifacts FAQ: https://github.com/actions/toolkit/blob/main/packages/artifact/docs/faq.md", name);
}

/* The folder that `path` names; what is not absolute is below the workspace. */
static char *dest_of(struct jobx *x, const char *path) {
    if (streq(path, "~") || startswith(path, "~/"))
        return path_join(x->home, path[1] ? path + 2 : ".");
    return path_join(x->workspace, *path ? path : ".");
}

/* The run whose artifacts are asked for; of another repository's run nothing is told. */
static const char *run_of(struct jobx *x, struct step *s, const struct value *with, const char **ret_repo) {
    const char *id = with_get(with, "run-id", ""), *repo = with_get(with, "repository", "");
    *ret_repo = NULL;
    if (*repo && !sv_ieqs(sv_from(repo), x->run->repository)) {
        native_fail(x, s, "artifacts of another repository (%s) are not there yet", repo);
        return NULL;
    }
    if (!*id || streq(id, x->run->id))
        return x->run->id;
    *ret_repo = x->run->repository;
    if (strspn(id, "0123456789") == strlen(id) && strlen(id) < 20)
        return id;
    native_fail(x, s, "Invalid run-id: %s", id);
    return NULL;
}

/* Several, each into a folder of its name unless they are merged. */
static int fetch_all(struct jobx *x, const char *run, const struct choice *c, const char *dest, bool merge, struct err *e) {
    int r = 0;
    for (size_t i = 0; i < c->n && r >= 0; i++) {
        _cleanup_free_ char *own = merge ? xstrdup(dest) : path_join(dest, c->v[i].name);
        r = fetch(x, run, &c->v[i], own, e);
    }
    return r;
}

int action_download_artifact(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_strv_ struct strv ids = {0};
    unsigned major = major_of(s->ps->uses.s);
    const char *name = with_get(with, "name", ""), *pattern = with_get(with, "pattern", ""), *repo;
    const char *run = run_of(x, s, with, &repo);
    struct choice c = {.a = &a, .repo = repo};
    if (!run)
        return 0;
    struct sv rest = sv_from(with_get(with, "artifact-ids", "")), one;
    while (rest.n && sv_split(&rest, ',', &one)) {
        one = sv_trim(one);
        if (one.n)
            strv_addn(&ids, one.p, one.n);
    }
    if (*name && ids.n)
        return native_fail(x, s, "Inputs 'name' and 'artifact-ids' cannot be used together. Please specify only one.");
    _cleanup_free_ char *dest = dest_of(x, with_get(with, "path", ""));
    bool by_name = *name && !ids.n, single = by_name || ids.n == 1;
    c.ids = ids.n ? &ids : NULL;
    c.pattern = !by_name && !ids.n && *pattern ? pattern : NULL;
    int r = artifact_each(x->rq->store, run, choose, &c);
    if (r < 0)
        err_errno(e, r, "the run's artifacts");
    for (size_t i = 0; by_name && i < c.n; i++)
        if (streq(c.v[i].name, name)) {
            c.v[0] = c.v[i];
            c.n = 1;
            by_name = false;
        }
    if (r >= 0 && (by_name || (ids.n && c.n < ids.n))) {
        if (by_name)
            not_found(x, s, name, major);
        else
            native_fail(x, s, "Unable to download artifact(s): None of the provided artifact IDs were found");
    } else if (r >= 0 && !c.n && major < 4) {
        native_fail(x, s, "Unable to find any artifacts for the associated workflow");
    } else if (r >= 0 && (r = fetch_all(x, run, &c, dest, single || (major >= 4 && native_true(with, "merge-multiple", false)), e)) >= 0) {
        if (!single)
            jobx_say(x, "Total of %zu artifact(s) downloaded", c.n);
        native_output(x, s, "download-path", dest);
        jobx_say(x, "Download artifact has finished successfully");
    }
    free(c.v);
    return r;
}
