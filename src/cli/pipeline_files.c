#include "cli/pipeline_files.h"

#include "core/fs.h"

#include <dirent.h>

static bool is_yaml(const char *name) {
    return name[0] != '.' && (endswith(name, ".yml") || endswith(name, ".yaml"));
}

/* Adds the folder's files in order of their names. */
static int add_folder(const char *dir, const char *shown, struct strv *ret) {
    DIR *d = opendir(dir);
    if (!d)
        return -errno;
    _cleanup_strv_ struct strv names = {0};
    for (struct dirent *e; (e = readdir(d));)
        if (is_yaml(e->d_name))
            strv_add(&names, e->d_name);
    closedir(d);
    strv_sort(&names);
    for (size_t i = 0; i < names.n; i++)
        strv_addf(ret, "%s%s%s", shown, *shown && !endswith(shown, "/") ? "/" : "", names.v[i]);
    return 0;
}

/* Looks in `up` ("", "../", "../../", …). */
static bool add_repository(const char *up, struct strv *ret) {
    _cleanup_free_ char *workflows = xasprintf("%s.github/workflows", up);
    _cleanup_free_ char *bitbucket = xasprintf("%sbitbucket-pipelines.yml", up);
    add_folder(workflows, workflows, ret);
    if (fs_exists(AT_FDCWD, bitbucket))
        strv_add(ret, bitbucket);
    return ret->n > 0;
}

int pipeline_files(int n, char *const *names, struct strv *ret, struct err *e) {
    for (int i = 0; i < n; i++) {
        struct stat st;
        if (stat(names[i], &st) < 0)
            return err_set(e, ERR_USER, -errno, "%s: %s", names[i], strerror(errno));
        if (!S_ISDIR(st.st_mode))
            strv_add(ret, names[i]);
        else if (!fs_exists(AT_FDCWD, names[i]) || add_folder(names[i], names[i], ret) < 0)
            return err_set(e, ERR_USER, -EACCES, "%s: cannot be read", names[i]);
    }
    if (n)
        return 0;
    _cleanup_buf_ struct buf up = BUF_SMALL;
    for (unsigned level = 0; level < 64; level++) {
        _cleanup_free_ char *git = xasprintf("%s.git", buf_str(&up));
        struct stat here, root;
        if (add_repository(buf_str(&up), ret))
            return 0;
        if (fs_exists(AT_FDCWD, git) || stat(up.n ? buf_str(&up) : ".", &here) < 0 ||
            stat("/", &root) < 0 || (here.st_ino == root.st_ino && here.st_dev == root.st_dev))
            break;
        buf_adds(&up, "../");
    }
    err_set(e, ERR_USER, -ENOENT,
            "no pipeline here: neither .github/workflows/*.yml nor bitbucket-pipelines.yml");
    return err_hint(e, -ENOENT, "name the files, or go to the repository");
}

enum dialect pipeline_dialect(const char *file, struct sv text) {
    bool pipelines = startswith(path_base(file), "bitbucket-pipelines") != NULL, jobs = false;
    struct sv line;
    while (sv_line(&text, &line)) {
        pipelines = pipelines || sv_starts(line, "pipelines:");
        jobs = jobs || sv_starts(line, "jobs:");
    }
    return pipelines && !jobs ? DIALECT_BITBUCKET : DIALECT_GITHUB;
}

int pipeline_text(const char *file, struct buf *ret, struct err *e) {
    *ret = BUF_MAX(4u << 20);
    int r = fs_read(AT_FDCWD, file, ret, e);
    if (r < 0 && e)
        e->kind = ERR_USER;
    if (r >= 0 && ret->cap > ret->n + 1) { /* many files are kept at once */
        char *p = realloc(ret->p, ret->n + 1);
        ret->p = p ? p : ret->p;
        ret->cap = p ? ret->n + 1 : ret->cap;
    }
    return r;
}
