#include "docker/client/client.h"

#include <time.h>

static const char *short_id(const char *id) {
    const char *p = startswith(id, "sha256:");
    return p ? p : id;
}

/* "repo:tag" of a list entry cut in two; "<none>" parts as docker shows them. */
static void add_image_row(struct arena *a, const struct json *im, struct sv ref, bool no_trunc, struct json **rows,
                          size_t *n) {
    struct json *row = row_new(a, 12);
    struct sv repo = ref, tag = SV("<none>");
    ssize_t colon = sv_rchr(ref, ':'), slash = sv_rchr(ref, '/');
    if (colon > slash) {
        repo = sv_sub(ref, 0, (size_t)colon);
        tag = sv_sub(ref, (size_t)colon + 1, ref.n);
    }
    const char *id = json_get_str(im, "Id", "");
    _cleanup_buf_ struct buf since = BUF_SMALL, size = BUF_SMALL, at = BUF_SMALL;
    int64_t created = json_get_int(im, "Created", 0);
    human_duration(&since, (int64_t)time(NULL) - created);
    buf_adds(&since, " ago");
    human_size(&size, (double)json_get_int(im, "Size", 0), 3);
    time_t t = (time_t)created;
    struct tm tm;
    char when[64];
    localtime_r(&t, &tm);
    strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z %Z", &tm);
    buf_adds(&at, when);
    const struct json *dg = json_get(im, "RepoDigests");
    struct sv digest = SV("<none>");
    if (dg && dg->kind == JSON_ARRAY && dg->n) {
        struct sv d = json_sv(dg->items[0]);
        ssize_t x = sv_chr(d, '@');
        digest = x < 0 ? d : sv_sub(d, (size_t)x + 1, d.n);
    }
    row_add(a, row, "Repository", repo);
    row_add(a, row, "Tag", tag);
    row_add(a, row, "Digest", digest);
    row_add(a, row, "ID", no_trunc ? sv_from(id) : sv_sub(sv_from(short_id(id)), 0, 12));
    row_add(a, row, "CreatedSince", buf_sv(&since));
    row_add(a, row, "CreatedAt", buf_sv(&at));
    row_add(a, row, "Size", buf_sv(&size));
    row_add(a, row, "Containers", SV("N/A"));
    row_add(a, row, "SharedSize", SV("N/A"));
    row_add(a, row, "UniqueSize", SV("N/A"));
    row_add(a, row, "VirtualSize", buf_sv(&size));
    rows[(*n)++] = row;
}

int cmd_images(int argc, char **argv) {
    const char *format = NULL;
    bool quiet = false, all = false, no_trunc = false, digests = false;
    struct strv filters = {0};
    const struct flag flags[] = {{"format", 0, FLAG_STR, &format}, {"quiet", 'q', FLAG_BOOL, &quiet},
                                 {"all", 'a', FLAG_BOOL, &all}, {"no-trunc", 0, FLAG_BOOL, &no_trunc},
                                 {"digests", 0, FLAG_BOOL, &digests}, {"filter", 'f', FLAG_LIST, &filters}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("images [OPTIONS] [REPOSITORY[:TAG]]", flags, argc, argv, &rest, 0, 1);
    if (r >= 0)
        return r;
    if (rest.n)
        strv_addf(&filters, "reference=%s", rest.v[0]);
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), fj = BUF_MAX(32u << 10);
    struct json *j = NULL;
    buf_addf(&path, "/images/json?all=%d", all);
    if (filters.n) {
        filters_json(&fj, &filters);
        query_add(&path, "filters", buf_str(&fj));
    }
    strv_done(&filters);
    if (api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    size_t total = 0, n = 0;
    for (size_t i = 0; j && i < j->n; i++) {
        const struct json *t = json_get(j->items[i], "RepoTags");
        total += MAX(t ? t->n : 0, 1);
    }
    struct json **rows = ARENA_ARRAY(&a, struct json *, total + 1);
    for (size_t i = 0; j && i < j->n; i++) {
        const struct json *t = json_get(j->items[i], "RepoTags");
        if (!t || !t->n || quiet)
            add_image_row(&a, j->items[i], SV("<none>"), no_trunc, rows, &n);
        else
            for (size_t k = 0; k < t->n; k++)
                add_image_row(&a, j->items[i], json_sv(t->items[k]), no_trunc, rows, &n);
    }
    if (quiet && !format)
        format = "{{.ID}}";
    static const char *const headers[] = {"Repository", "REPOSITORY", "Tag", "TAG", "Digest", "DIGEST", "ID", "IMAGE ID",
                                          "CreatedSince", "CREATED", "CreatedAt", "CREATED AT", "Size", "SIZE", NULL};
    const char *def = digests ? "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
                              : "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
    return print_rows(&a, format, def, headers, rows, n, &e) < 0 ? fail_print(&e) : 0;
}

/* Cuts "name:tag" or "name@digest"; tag NULL when there is none. */
static void cut_ref(const char *ref, char **name, char **tag) {
    const char *at = strchr(ref, '@'), *slash = strrchr(ref, '/'), *colon = strrchr(ref, ':');
    if (at) {
        *name = xstrndup(ref, (size_t)(at - ref));
        *tag = xstrdup(at + 1);
    } else if (colon && (!slash || colon > slash)) {
        *name = xstrndup(ref, (size_t)(colon - ref));
        *tag = xstrdup(colon + 1);
    } else {
        *name = xstrdup(ref);
        *tag = NULL;
    }
}

/* The full name: docker.io/library/x:tag. */
static char *full_ref(const char *name, const char *tag) {
    _cleanup_free_ char *registry = ref_registry(name);
    const char *path = startswith(name, registry);
    path = path && *path == '/' ? path + 1 : name;
    bool hub = streq(registry, "docker.io");
    const char *sep = startswith(tag, "sha256:") ? "@" : ":";
    return xasprintf("%s/%s%s%s%s", registry, hub && !strchr(path, '/') ? "library/" : "", path, sep, tag);
}

int pull_image(const char *ref, const char *platform, bool quiet, FILE *out, struct err *e) {
    _cleanup_free_ char *name = NULL, *tag = NULL, *full = NULL;
    cut_ref(ref, &name, &tag);
    if (!tag) {
        if (!quiet)
            fprintf(out, "Using default tag: latest\n");
        tag = xstrdup("latest");
    }
    full = full_ref(name, tag);
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), auth = BUF_MAX(256u << 10);
    buf_adds(&path, "/images/create");
    query_add(&path, "fromImage", name);
    query_add(&path, "tag", tag);
    query_add(&path, "platform", platform);
    registry_auth(&auth, ref);
    _cleanup_api_ struct api c;
    struct api_req rq = {.method = "POST", .path = buf_str(&path), .headers = {{"X-Registry-Auth", buf_str(&auth)}},
                         .n_headers = 1};
    int r = api_open(&c, &rq, e);
    if (r < 0)
        return r;
    struct progress_sink ps = {.out = out, .quiet = quiet};
    fflush(stdout);
    r = api_progress(&c, &ps, e);
    if (r < 0) {
        if (!startswith(e->msg, "Error response"))
            err_wrap(e, r, "Error response from daemon");
        return r;
    }
    if (out == stdout)
        puts(full);
    return 0;
}

int cmd_pull(int argc, char **argv) {
    bool quiet = false;
    const char *platform = NULL;
    const struct flag flags[] = {{"quiet", 'q', FLAG_BOOL, &quiet}, {"platform", 0, FLAG_STR, &platform},
                                 {"disable-content-trust", 0, FLAG_SKIP}, {"all-tags", 'a', FLAG_NOTYET}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("pull [OPTIONS] NAME[:TAG|@DIGEST]", flags, argc, argv, &rest, 1, 1);
    if (r >= 0)
        return r;
    struct err e = {0};
    return pull_image(rest.v[0], platform, quiet, stdout, &e) < 0 ? fail_print(&e) : 0;
}

int push_image(const char *ref, bool quiet, char digest[80], struct err *e) {
    _cleanup_free_ char *name = NULL, *tag = NULL;
    cut_ref(ref, &name, &tag);
    if (!tag) {
        if (!quiet)
            puts("Using default tag: latest");
        tag = xstrdup("latest");
    }
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), auth = BUF_MAX(256u << 10);
    buf_adds(&path, "/images/");
    path_add(&path, name);
    buf_adds(&path, "/push");
    query_add(&path, "tag", tag);
    registry_auth(&auth, ref);
    _cleanup_api_ struct api c;
    struct api_req rq = {.method = "POST", .path = buf_str(&path), .headers = {{"X-Registry-Auth", buf_str(&auth)}},
                         .n_headers = 1};
    int r = api_open(&c, &rq, e);
    if (r < 0)
        return r;
    struct progress_sink ps = {.out = stdout, .quiet = quiet};
    fflush(stdout);
    if ((r = api_progress(&c, &ps, e)) >= 0 && quiet) {
        _cleanup_free_ char *full = full_ref(name, tag);
        puts(full);
    }
    if (r >= 0 && digest)
        memcpy(digest, ps.digest, sizeof ps.digest);
    return r;
}

int cmd_push(int argc, char **argv) {
    bool quiet = false, all = false;
    const struct flag flags[] = {{"quiet", 'q', FLAG_BOOL, &quiet}, {"all-tags", 'a', FLAG_BOOL, &all},
                                 {"disable-content-trust", 0, FLAG_SKIP}, {"platform", 0, FLAG_SKIP_STR}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("push [OPTIONS] NAME[:TAG]", flags, argc, argv, &rest, 1, 1);
    if (r >= 0)
        return r;
    struct err e = {0};
    if (!all)
        return push_image(rest.v[0], quiet, NULL, &e) < 0 ? fail_print(&e) : 0;
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), fj = BUF_MAX(32u << 10);
    struct strv filters = {0};
    struct json *j = NULL;
    strv_addf(&filters, "reference=%s", rest.v[0]);
    filters_json(&fj, &filters);
    strv_done(&filters);
    buf_adds(&path, "/images/json");
    query_add(&path, "filters", buf_str(&fj));
    if (api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    size_t pushed = 0;
    for (size_t i = 0; j && i < j->n; i++) {
        const struct json *t = json_get(j->items[i], "RepoTags");
        for (size_t k = 0; t && k < t->n; k++, pushed++)
            if (push_image(json_str(t->items[k], ""), quiet, NULL, &e) < 0)
                return fail_print(&e);
    }
    if (!pushed) {
        fprintf(stderr, "An image does not exist locally with the tag: %s\n", rest.v[0]);
        return 1;
    }
    return 0;
}

int cmd_tag(int argc, char **argv) {
    const struct flag none[] = {{NULL}};
    _cleanup_strv_ struct strv rest = {0};
    int r = cmd_flags("tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", none, 0, argc - 1, argv + 1, &rest, 2, 2);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_free_ char *name = NULL, *tag = NULL;
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
    cut_ref(rest.v[1], &name, &tag);
    if (strchr(rest.v[1], '@')) {
        fprintf(stderr, "Error response from daemon: refusing to create a tag with a digest reference\n");
        return 1;
    }
    buf_adds(&path, "/images/");
    path_add(&path, rest.v[0]);
    buf_adds(&path, "/tag");
    query_add(&path, "repo", name);
    query_add(&path, "tag", tag ? tag : "latest");
    return api_json(&a, "POST", buf_str(&path), SV_NULL, NULL, NULL, &e) < 0 ? fail_print(&e) : 0;
}

int cmd_rmi(int argc, char **argv) {
    bool force = false, no_prune = false;
    const struct flag flags[] = {{"force", 'f', FLAG_BOOL, &force}, {"no-prune", 0, FLAG_BOOL, &no_prune}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("rmi [OPTIONS] IMAGE [IMAGE...]", flags, argc, argv, &rest, 1, SIZE_MAX);
    if (r >= 0)
        return r;
    int code = 0;
    for (size_t i = 0; i < rest.n; i++) {
        struct err e = {0};
        int status = 0;
        _cleanup_arena_ struct arena a = {0};
        _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
        struct json *j = NULL;
        buf_adds(&path, "/images/");
        path_add(&path, rest.v[i]);
        buf_addf(&path, "?force=%d&noprune=%d", force, no_prune);
        if (api_json(&a, "DELETE", buf_str(&path), SV_NULL, &j, &status, &e) < 0) {
            fail_print(&e);
            code |= !(force && status == 404);
        }
        for (size_t k = 0; j && k < j->n; k++) {
            const char *u = json_get_str(j->items[k], "Untagged", NULL), *d = json_get_str(j->items[k], "Deleted", NULL);
            if (u)
                printf("Untagged: %s\n", u);
            if (d)
                printf("Deleted: %s\n", d);
        }
    }
    return code;
}

int cmd_history(int argc, char **argv) {
    bool quiet = false, no_trunc = false;
    const char *format = NULL;
    const struct flag flags[] = {{"quiet", 'q', FLAG_BOOL, &quiet}, {"no-trunc", 0, FLAG_BOOL, &no_trunc},
                                 {"human", 'H', FLAG_SKIP}, {"format", 0, FLAG_STR, &format}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("history [OPTIONS] IMAGE", flags, argc, argv, &rest, 1, 1);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
    struct json *j = NULL;
    buf_adds(&path, "/images/");
    path_add(&path, rest.v[0]);
    buf_adds(&path, "/history");
    if (api_json(&a, "GET", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    size_t n = j ? j->n : 0;
    struct json **rows = ARENA_ARRAY(&a, struct json *, n + 1);
    for (size_t i = 0; i < n; i++) {
        _cleanup_buf_ struct buf since = BUF_SMALL, size = BUF_SMALL, by = BUF_MAX(1u << 20);
        struct json *row = rows[i] = row_new(&a, 8);
        struct sv id = json_sv(json_get(j->items[i], "Id")), cb = json_sv(json_get(j->items[i], "CreatedBy"));
        human_duration(&since, (int64_t)time(NULL) - json_get_int(j->items[i], "Created", 0));
        buf_adds(&since, " ago");
        human_size(&size, (double)json_get_int(j->items[i], "Size", 0), 3);
        for (size_t k = 0; k < cb.n && (no_trunc || k < 44); k++)
            buf_addc(&by, cb.p[k] == '\t' || cb.p[k] == '\n' ? ' ' : cb.p[k]);
        if (!no_trunc && cb.n > 44)
            buf_adds(&by, "…");
        row_add(&a, row, "ID", sv_starts(id, "sha256:") && !no_trunc ? sv_sub(id, 7, 12) : id);
        row_add(&a, row, "CreatedSince", buf_sv(&since));
        row_add(&a, row, "CreatedBy", buf_sv(&by));
        row_add(&a, row, "Size", buf_sv(&size));
        row_add(&a, row, "Comment", json_sv(json_get(j->items[i], "Comment")));
    }
    static const char *const headers[] = {"ID", "IMAGE", "CreatedSince", "CREATED", "CreatedBy", "CREATED BY",
                                          "Size", "SIZE", "Comment", "COMMENT", NULL};
    const char *def = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
    return print_rows(&a, quiet && !format ? "{{.ID}}" : format, def, headers, rows, n, &e) < 0 ? fail_print(&e) : 0;
}

int cmd_save(int argc, char **argv) {
    const char *output = NULL;
    const struct flag flags[] = {{"output", 'o', FLAG_STR, &output}, {"platform", 0, FLAG_SKIP_STR}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("save [OPTIONS] IMAGE [IMAGE...]", flags, argc, argv, &rest, 1, SIZE_MAX);
    if (r >= 0)
        return r;
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10);
    buf_adds(&path, "/images/get");
    for (size_t i = 0; i < rest.n; i++)
        query_add(&path, "names", rest.v[i]);
    return api_save(buf_str(&path), output, "failed to save image");
}

int cmd_load(int argc, char **argv) {
    const char *input = NULL;
    bool quiet = false;
    const struct flag flags[] = {{"input", 'i', FLAG_STR, &input}, {"quiet", 'q', FLAG_BOOL, &quiet},
                                 {"platform", 0, FLAG_SKIP_STR}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("load [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_close_ int fd = input ? open(input, O_RDONLY | O_CLOEXEC) : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        fprintf(stderr, "open %s: %s\n", input ? input : "stdin", strerror(errno));
        return 1;
    }
    if (!input && isatty(STDIN_FILENO)) {
        fprintf(stderr, "requested load from stdin, but stdin is empty\n");
        return 1;
    }
    _cleanup_api_ struct api c;
    struct api_req rq = {.method = "POST", .path = quiet ? "/images/load?quiet=1" : "/images/load", .body_fd = fd,
                         .content_type = "application/x-tar"};
    struct progress_sink ps = {.out = stdout};
    if (api_open(&c, &rq, &e) < 0 || api_progress(&c, &ps, &e) < 0)
        return fail_print(&e);
    return 0;
}

static int image_inspect(int argc, char **argv) {
    const char *format = NULL;
    const struct flag flags[] = {{"format", 'f', FLAG_STR, &format}, {"platform", 0, FLAG_SKIP_STR}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("image inspect [OPTIONS] IMAGE [IMAGE...]", flags, argc, argv, &rest, 1, SIZE_MAX);
    return r >= 0 ? r : inspect_names("image", &rest, format, false);
}

/* Asks nothing, as with -f: what goes is without a name, or not used with -a. */
static int image_prune(int argc, char **argv) {
    bool force = false, all = false;
    struct strv filters = {0};
    const struct flag flags[] = {{"force", 'f', FLAG_BOOL, &force}, {"all", 'a', FLAG_BOOL, &all}, {"filter", 0, FLAG_LIST, &filters}};
    _cleanup_strv_ struct strv rest = {0};
    int r = CMD_FLAGS("image prune [OPTIONS]", flags, argc, argv, &rest, 0, 0);
    if (r >= 0)
        return r;
    struct err e = {0};
    _cleanup_arena_ struct arena a = {0};
    _cleanup_buf_ struct buf path = BUF_MAX(64u << 10), fj = BUF_MAX(32u << 10);
    struct json *j = NULL;
    strv_addf(&filters, "dangling=%s", all ? "false" : "true");
    filters_json(&fj, &filters);
    strv_done(&filters);
    buf_adds(&path, "/images/prune");
    query_add(&path, "filters", buf_str(&fj));
    if (api_json(&a, "POST", buf_str(&path), SV_NULL, &j, NULL, &e) < 0)
        return fail_print(&e);
    const struct json *gone = json_get(j, "ImagesDeleted");
    if (gone && gone->n)
        puts("Deleted Images:");
    for (size_t i = 0; gone && i < gone->n; i++) {
        const char *u = json_get_str(gone->items[i], "Untagged", NULL);
        printf("%s: %s\n", u ? "untagged" : "deleted", u ? u : json_get_str(gone->items[i], "Deleted", ""));
    }
    printf("%sTotal reclaimed space: 0B\n", gone && gone->n ? "\n" : "");
    return 0;
}

int cmd_image(int argc, char **argv) {
    static const struct command cmds[] = {
        {"ls", cmd_images, "List images"}, {"list", cmd_images, NULL},
        {"build", cmd_build, "Build an image from a Dockerfile"},
        {"inspect", image_inspect, "Display detailed information on one or more images"},
        {"pull", cmd_pull, "Download an image from a registry"}, {"push", cmd_push, "Upload an image to a registry"},
        {"rm", cmd_rmi, "Remove one or more images"}, {"remove", cmd_rmi, NULL},
        {"tag", cmd_tag, "Create a tag"}, {"history", cmd_history, "Show the history of an image"},
        {"save", cmd_save, "Save images to a tar archive"}, {"load", cmd_load, "Load images from a tar archive"},
        {"prune", image_prune, "Remove unused images"},
    };
    return dispatch("image", cmds, ELEMENTS(cmds), argc, argv);
}
