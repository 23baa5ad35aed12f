/* actions/setup-python, natively. The newest Python that the range allows, of: this machine's tool
 * caches, uv and pyenv, and the interpreters of the job's own image; else one is fetched.
 *
 * A prefix of this machine becomes a tree snapshot, mounted as an overlay at the tool cache's usual
 * place, so that `pip install` can write there and nobody else sees it; scripts whose first line
 * names the old place are mended. One that does not start in the job's image is left out, with a
 * word. An interpreter of the image gets a folder of links. */
#include "core/fs.h"
#include "run/action.h"
#include "run/place.h"
#include "run/stepx.h"
#include "run/pyfind.h"

#define DEFAULT_SOURCE "https://github.com/astral-sh/python-build-standalone/releases"

struct setup {
    struct jobx *x;
    struct step *s;
    bool allow_pre, update_env, no_fetch;
    struct buf looked;      /* of the image, and why others were left out */
};

/* --- in the box ---------------------------------------------------------------------------------- */

static int sh(struct jobx *x, const char *script, const char *a1, const char *a2, struct buf *out, struct err *e) {
    const char *argv[] = {"/bin/sh", "-ec", script, "sh", a1, a2, NULL};
    return jobx_capture(x, argv, NULL, out, e);
}

/* Starts it as the steps' user, its own libraries found as the environment will have it; true when
 * it is what it says. */
static bool starts(struct setup *su, const char *prefix, struct pyver *v) {
    _cleanup_buf_ struct buf out = BUF_SMALL;
    _cleanup_free_ char *python = xasprintf("%s/bin/python3", prefix), *ld = xasprintf("LD_LIBRARY_PATH=%s/lib", prefix);
    const char *argv[] = {"/usr/bin/env", ld, python, "-Ec", "import sys, ssl, ctypes, zlib; print('%d.%d.%d' % sys.version_info[:3])", NULL};
    struct err e = {0};
    struct pyver have;
    int r = jobx_capture(su->x, argv, su->x->user, &out, &e);
    struct sv last = sv_trim(buf_sv(&out));
    ssize_t nl = sv_rchr(last, '\n');
    if (nl >= 0)
        last = sv_sub(last, (size_t)nl + 1, SIZE_MAX);
    if (r == 0 && pyver_parse(last, &have)) {
        if (v)
            *v = have;
        return true;
    }
    buf_addf(&su->looked, "; %s does not start here (" SV_FMT ")", python, (int)MIN(last.n, 120u), last.p);
    return false;
}

static const char *place(struct setup *su, const struct pyver *v) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    buf_addf(&b, "%s/Python/", su->x->tool_cache);
    pyver_format(v, &b);
    buf_adds(&b, "/x64");
    return arena_strdup(su->x->a, buf_str(&b));
}

/* The interpreter as it was installed, without what its owner has added since: a job that forgot a
 * requirement must not be green on this machine only. */
static int wanted(const char *rel, bool is_dir, void *arg) {
    static const char *const packages[] = {"pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth", "wheel", "README"};
    static const char *const scripts[] = {"python", "pip", "idle", "pydoc", "2to3", "easy_install", "wheel"};
    const char *p = startswith(rel, "bin/"), *site = strstr(rel, "/site-packages/");
    if (p) {
        for (size_t i = 0; i < ELEMENTS(scripts); i++)
            if (startswith(p, scripts[i]))
                return 1;
        return 0;
    }
    if (!site || !startswith(rel, "lib/python"))
        return !startswith(rel, "share/jupyter");
    for (size_t i = 0; i < ELEMENTS(packages); i++) {
        const char *rest = startswith(site + 15, packages[i]);
        if (rest && (!*rest || *rest == '/' || *rest == '-' || *rest == '.'))
            return 1;
    }
    return 0;
}

static int mount_prefix(struct setup *su, const struct py_prefix *p, const char *target, struct err *e) {
    struct jobx *x = su->x;
    char id[33];
    _cleanup_free_ char *name = xasprintf("python:%s", p->path);
    struct tree_options o = {.name = name, .uid = ID_RUNNER, .gid = ID_RUNNER, .wanted = wanted};
    _cleanup_close_ int fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, -errno, "%s", p->path);
    pthread_mutex_lock(&x->run->tree_mu);
    int r = tree_update(x->rq->store, x->run->lease, fd, &o, id, NULL, e);
    pthread_mutex_unlock(&x->run->tree_mu);
    if (r < 0)
        return r;
    _cleanup_free_ char *lower = xasprintf("tree:%s", id);
    const char *lowers[] = {lower};
    struct box_mount m = {.kind = BOX_OVERLAY, .target = target, .lowers = lowers, .n_lowers = 1, .mode = 0755,
                          .uid = ID_RUNNER, .gid = ID_RUNNER, .source_fd = -1};
    return box_mount(x->box, &m, e);
}

/* Scripts and build settings that name the prefix's old place (virtualenv looks for the shared library
 * where they say), and the names that a step expects. */
static const char mend[] =
    "cd \"$2/bin\"\n"
    "for f in *; do if [ -f \"$f\" ] && [ ! -L \"$f\" ]; then\n"
    "  read -r l < \"$f\" 2>/dev/null || continue\n"
    "  case $l in '#!'*\"$1\"*) sed -i \"1s|$1|$2|\" \"$f\";; esac\n"
    "fi; done 2>/dev/null\n"
    "for d in ../lib/python3*/_sysconfigdata*.py; do [ -f \"$d\" ] || continue\n"
    "  old=$(sed -n \"s|.*'prefix': '\\(/[^']*\\)'.*|\\1|p\" \"$d\" | head -1)\n"
    "  [ -n \"$old\" ] && [ \"$old\" != \"$2\" ] && [ \"$old\" != /usr ] || continue\n"
    "  sed -i \"s|$old/|$2/|g; s|$old\\(['\\\"[:space:]:]\\)|$2\\1|g; s|$old\\$|$2|\" \"$d\" \"${d%/*}\"/config-*/Makefile ../lib/pkgconfig/*.pc *-config 2>/dev/null || :\n"
    "done\n"
    "[ -e python3 ] || for f in python3.*; do case $f in *-config|*m) ;; *) ln -s \"$f\" python3; break;; esac; done\n"
    "[ -e python ] || ln -s python3 python\n"
    "[ -e pip ] || [ ! -e pip3 ] || ln -s pip3 pip\n";

/* On the host a virtual environment stands before it: what is installed stays in the job. */
static const char venv_own[] = "\"$1\" -m venv \"$2\"\n";
static bool venv_prefix(struct setup *su, const struct py_prefix *p, const char **ret_place, struct pyver *v) {
    _cleanup_buf_ struct buf out = BUF_SMALL;
    _cleanup_free_ char *python = xasprintf("%s/bin/python3", p->path);
    struct err e = {0};
    const char *target = place(su, &p->version);
    if (!starts(su, p->path, v))
        return false;
    if (sh(su->x, venv_own, python, target, &out, &e) != 0) {
        buf_addf(&su->looked, "; %s: " SV_FMT, python, (int)MIN(out.n, 300u), buf_str(&out));
        return false;
    }
    *ret_place = target;
    return true;
}

static bool use_prefix(struct setup *su, const struct py_prefix *p, const char **ret_place, struct pyver *v) {
    if (su->x->host)
        return venv_prefix(su, p, ret_place, v);
    struct err e = {0};
    const char *target = place(su, &p->version);
    _cleanup_buf_ struct buf out = BUF_SMALL;
    int r = mount_prefix(su, p, target, &e);
    if (r < 0) {
        buf_addf(&su->looked, "; %s: %s", p->path, e.msg);
        return false;
    }
    if (!starts(su, target, v)) {
        box_umount(su->x->box, target, NULL);
        return false;
    }
    if ((r = sh(su->x, mend, p->path, target, &out, &e)) != 0) {
        buf_addf(&su->looked, "; %s: %s", p->path, r < 0 ? e.msg : buf_str(&out));
        box_umount(su->x->box, target, NULL);
        return false;
    }
    *ret_place = target;
    return true;
}

/* --- interpreters of the image --------------------------------------------------------------------- */

static const char list_own[] =
    "for p in /usr/local/bin/python3.* /usr/bin/python3.*; do\n"
    "  case ${p##*/} in python3.*[!0-9]*) continue;; esac\n"
    "  [ -x \"$p\" ] && v=$(\"$p\" -Ec 'import sys;print(\"%d.%d.%d\" % sys.version_info[:3])' 2>/dev/null) && echo \"$v $p\"\n"
    "done; true\n";
static const char link_own[] =
    "mkdir -p \"$2/bin\" && cd \"$2/bin\" && d=${1%/*} && n=${1##*/}\n"
    "for l in python python3 \"$n\"; do ln -sf \"$1\" \"$l\"; done\n"
    "for l in pip pip3; do printf '#!/bin/sh\\nexec \"%s\" -m pip \"$@\"\\n' \"$1\" > \"$l\"; chmod 755 \"$l\"; done\n";

static bool own(struct setup *su, const char *range, const struct pyver *above, const char **ret_place, struct pyver *ret) {
    _cleanup_buf_ struct buf out = BUF_SMALL;
    struct err e = {0};
    struct pyver best = {0};
    struct sv path = SV_NULL;
    if (sh(su->x, list_own, "", "", &out, &e) != 0)
        return false;
    struct sv rest = buf_sv(&out), line;
    buf_adds(&su->looked, "; the image:");
    while (sv_line(&rest, &line)) {
        struct sv p = line, ver;
        struct pyver v;
        if (!sv_split(&p, ' ', &ver) || !pyver_parse(ver, &v))
            continue;
        buf_addf(&su->looked, " " SV_FMT, SV_ARG(ver));
        if (pyver_match(sv_from(range), &v, su->allow_pre) == 1 && (!path.p || pyver_cmp(&v, &best) > 0)) {
            best = v;
            path = p;
        }
    }
    if (!path.p || (above && pyver_cmp(&best, above) <= 0))
        return false;
    _cleanup_free_ char *p = sv_dup(sv_trim(path));
    const char *target = place(su, &best);
    buf_reset(&out);
    if (sh(su->x, su->x->host ? venv_own : link_own, p, target, &out, &e) != 0) {
        buf_addf(&su->looked, "; %s: " SV_FMT, p, (int)MIN(out.n, 300u), buf_str(&out));
        return false;
    }
    *ret_place = target;
    *ret = best;
    return true;
}

/* --- one version ------------------------------------------------------------------------------------- */

static void on_progress(void *arg, uint64_t done, uint64_t total) {
    struct setup *su = arg;
    jobx_emit(su->x, &(struct event){.kind = EV_PROGRESS, .name = "python", .text = SV("fetching Python"), .done = done, .total = total});
}

static int fetch(struct setup *su, const char *range, const char *cache, struct py_prefix *ret, struct err *e) {
    const char *base = su->x->rq->python_source ? su->x->rq->python_source : DEFAULT_SOURCE;
    if (su->no_fetch)
        return -ENOENT;
    if (su->x->rq->offline)
        return err_set(e, ERR_NET, -ENETUNREACH, "this run is offline");
    if (!*base)
        return err_set(e, ERR_NOTFOUND, -ENOENT, "fetching is switched off");
    return py_fetch(base, range, su->allow_pre, cache, (const volatile int *)(const volatile void *)&su->x->leg->cancel, on_progress, su, ret, e);
}

static int find(struct setup *su, const char *range, const char **ret_place, struct pyver *ret, struct err *e) {
    _cleanup_py_list_ struct py_list list;
    _cleanup_free_ char *dir = dir_cache(), *cache = path_join(dir, "python");
    struct pyver probe = {3, 11, 0, ""};
    if (pyver_match(sv_from(range), &probe, false) < 0)
        return err_set(e, ERR_CONFIG, -EINVAL, "python-version: \"%s\" is not a version nor a range that is understood (PyPy and GraalPy are not there yet)", range);
    py_find(&list, cache);
    buf_reset(&su->looked);
    for (size_t i = 0; i < list.n; i++) {
        if (pyver_match(sv_from(range), &list.items[i].version, su->allow_pre) != 1)
            continue;
        if (own(su, range, &list.items[i].version, ret_place, ret) || use_prefix(su, &list.items[i], ret_place, ret))
            return 0;
    }
    if (own(su, range, NULL, ret_place, ret))
        return 0;
    struct err why = {0};
    struct py_prefix p = {0};
    int r = fetch(su, range, cache, &p, &why);
    bool ok = r >= 0 && use_prefix(su, &p, ret_place, ret);
    free(p.path);
    if (ok)
        return 0;
    err_set(e, ERR_NOTFOUND, -ENOENT, "there is no Python for \"%s\". Looked at %s%s. Fetching: %s", range,
            list.looked.n ? buf_str(&list.looked) : "tool caches, uv, pyenv: none", buf_str(&su->looked), why.msg[0] ? why.msg : "does not start here");
    return err_hint(e, -ENOENT, "install it with pyenv or uv, or set python.source in the configuration");
}

static void set_env(struct jobx *x, const char *k, const char *v) { strv_env_set(&x->env, k, v); }

static void environment(struct setup *su, const char *at) {
    struct jobx *x = su->x;
    _cleanup_free_ char *pc = xasprintf("%s/lib/pkgconfig", at), *lib = xasprintf("%s/lib", at), *bin = xasprintf("%s/bin", at);
    const char *ld = strv_env_get(&x->env, "LD_LIBRARY_PATH");
    _cleanup_free_ char *both = ld && *ld && !strstr(ld, lib) ? xasprintf("%s:%s", lib, ld) : xstrdup(lib);
    set_env(x, "pythonLocation", at);
    set_env(x, "PKG_CONFIG_PATH", pc);
    set_env(x, "Python_ROOT_DIR", at);
    set_env(x, "Python2_ROOT_DIR", at);
    set_env(x, "Python3_ROOT_DIR", at);
    set_env(x, "LD_LIBRARY_PATH", both);
    _cleanup_free_ char *local = xasprintf("%s/.local/bin", x->home);
    strv_add(&x->path, local);
    strv_add(&x->path, at);
    strv_add(&x->path, bin);
}

static int one(struct setup *su, const char *range, struct err *e) {
    const char *at;
    struct pyver v;
    int r = find(su, range, &at, &v, e);
    if (r < 0)
        return r;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    pyver_format(&v, &b);
    if (su->update_env)
        environment(su, at);
    val_set_str(su->x->a, su->s->outputs, "python-version", buf_str(&b));
    val_set_str(su->x->a, su->s->outputs, "python-path", arena_printf(su->x->a, "%s/bin/python", at));
    jobx_say(su->x, "Successfully set up CPython (%s) at %s", buf_str(&b), at);
    return 0;
}

/* --- what was asked for -------------------------------------------------------------------------------- */

/* requires-python = ">=3.9,<3.13", or poetry's python = "^3.9" */
static void from_pyproject(struct sv text, struct strv *ret) {
    struct sv line;
    while (sv_line(&text, &line)) {
        line = sv_trim(line);
        if (!sv_starts(line, "requires-python") && !sv_starts(line, "python ") && !sv_starts(line, "python="))
            continue;
        for (size_t i = 0; i < line.n; i++)
            if (line.p[i] == '"' || line.p[i] == '\'') {
                struct sv rest = sv_sub(line, i + 1, SIZE_MAX);
                ssize_t end = sv_chr(rest, line.p[i]);
                if (end > 0)
                    strv_addn(ret, rest.p, (size_t)end);
                return;
            }
    }
}

static int from_file(struct setup *su, const char *file, bool must, struct strv *ret, struct err *e) {
    _cleanup_free_ char *path = path_join(su->x->workspace, file);
    _cleanup_buf_ struct buf b = BUF_SMALL;
    int r = su->x->place->read_file(su->x, path, &b, e);
    if (r < 0)
        return must ? err_set(e, ERR_NOTFOUND, -ENOENT, "The specified python version file at: %s doesn't exist.", path) : 0;
    struct sv rest = buf_sv(&b), line;
    if (endswith(file, ".toml") || endswith(file, "Pipfile"))
        from_pyproject(rest, ret);
    else
        while (sv_line(&rest, &line)) {
            line = sv_trim(line);
            if (endswith(file, ".tool-versions")) {
                if (!sv_starts(line, "python "))
                    continue;
                line = sv_trim(sv_sub(line, 7, SIZE_MAX));
            }
            if (line.n && *line.p != '#')
                strv_addn(ret, line.p, line.n);
        }
    if (!ret->n && must)
        return err_set(e, ERR_CONFIG, -EINVAL, "%s names no Python version", path);
    return 0;
}

/* The problem matcher that the action sets: the place of a traceback, and what was raised. */
static const char *const tracebacks =
    "{\"problemMatcher\":[{\"owner\":\"python\",\"pattern\":[{\"regexp\":\"^\\\\s*File\\\\s\\\"(.*)\\\",\\\\sline\\\\s(\\\\d+),\\\\sin\\\\s(.*)$\","
    "\"file\":1,\"line\":2},{\"regexp\":\"^\\\\s*raise\\\\s(.*)\\\\(\\\\'(.*)\\\\'\\\\)$\",\"message\":2}]}]}";

/* The versions that the inputs name, one after another; none: the one on PATH. */
static int asked_for(struct setup *su, const struct value *with, struct strv *ret, struct err *e) {
    struct sv rest = sv_from(with_get(with, "python-version", "")), line;
    const char *file = with_get(with, "python-version-file", NULL);
    while (sv_line(&rest, &line)) {
        line = sv_trim(line);
        if (line.n)
            strv_addn(ret, line.p, line.n);
    }
    if (ret->n)
        return 0;
    return from_file(su, file ? file : ".python-version", file != NULL, ret, e);
}

void python_offer(struct jobx *x, struct step *s, const struct value *with) {
    struct setup su = {.x = x, .s = s, .allow_pre = with_bool(with, "allow-prereleases", false), .no_fetch = true, .looked = BUF_SMALL};
    _cleanup_strv_ struct strv want = {0};
    struct err e = {0};
    if (!x->host && asked_for(&su, with, &want, &e) >= 0)
        for (size_t i = 0; i < want.n; i++) {
            _cleanup_buf_ struct buf out = BUF_SMALL;
            struct pyver v;
            const char *at;
            if (find(&su, want.v[i], &at, &v, &e) >= 0)
                sh(x, ": > \"$1.complete\"", at, "", &out, &e);
        }
    buf_done(&su.looked);
}

int action_setup_python(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    struct setup su = {.x = x, .s = s, .allow_pre = with_bool(with, "allow-prereleases", false),
                       .update_env = with_bool(with, "update-environment", true), .looked = BUF_SMALL};
    _cleanup_strv_ struct strv want = {0};
    const char *cache = with_get(with, "cache", NULL);
    int r = asked_for(&su, with, &want, e);
    if (r >= 0 && !want.n) {
        jobx_note(x, LEVEL_WARNING, "The `python-version` input is not set. The version of Python currently in `PATH` will be used.");
        strv_add(&want, "3.x");
    }
    for (size_t i = 0; i < want.n && r >= 0; i++)
        r = one(&su, want.v[i], e);
    if (cache && r >= 0) {
        if (!streq(cache, "pip"))
            jobx_note(x, LEVEL_WARNING, "cache: %s is not kept yet; pip's downloads are", cache);
        val_set_str(x->a, s->outputs, "cache-hit", "false");
    }
    if (r >= 0)
        step_matchers_text(x, sv_from(tracebacks));
    buf_done(&su.looked);
    return r;
}
