/* The files through which a step talks back (filecmd.h): made fresh for each process that a step
 * runs, read and removed when it has ended. */
#include "core/fs.h"
#include "run/filecmd.h"
#include "run/stepx.h"

enum { FC_ENV, FC_PATH, FC_OUTPUT, FC_STATE, FC_SUMMARY, FC_N };
static const char *const fc_prefix[FC_N] = {"set_env_", "add_path_", "set_output_", "save_state_", "step_summary_"};
static const char *const fc_var[FC_N] = {"GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"};

int step_file(struct jobx *x, int dir, const char *name, mode_t mode, struct sv text, struct err *e) {
    _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(e, -errno, "%s", name);
    if ((x->uid != getuid() && fchown(fd, x->uid, x->gid) < 0) || (x->container && fchmod(fd, mode | 0066) < 0))
        return err_errno(e, -errno, "%s", name);
    int r = text.n ? fd_write_all(fd, text.p, text.n) : 0;
    return r < 0 ? err_errno(e, r, "%s", name) : 0;
}

int step_files_make(struct jobx *x, const char *key, struct strv *env, struct err *e) {
    for (int i = 0; i < FC_N; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", fc_prefix[i], key);
        int r = step_file(x, x->cmd_fd, name, 0644, SV_NULL, e);
        if (r < 0)
            return r;
        strv_addf(env, "%s=%s/_runner_file_commands/%s", fc_var[i], x->temp, name);
    }
    return 0;
}

/* What a step wrote may be anything by now: a link, a pipe, gone. Only a plain file counts. */
static int fc_read(struct jobx *x, int i, const char *key, size_t max, struct buf *b, struct err *e) {
    char name[64];
    struct stat st;
    snprintf(name, sizeof name, "%s%s", fc_prefix[i], key);
    _cleanup_close_ int fd = openat(x->cmd_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    if ((uint64_t)st.st_size > max)
        return err_set(e, ERR_LIMIT, -EFBIG, "$%s is larger than %zu KiB", fc_var[i], max >> 10);
    if (!st.st_size)
        return 0;
    b->max = max + 1;
    int r = fs_read_fd(fd, b);
    return r < 0 ? err_errno(e, r, "$%s", fc_var[i]) : 0;
}

static int on_env(void *arg, struct sv k, struct sv v) {
    step_set_env(arg, k, v);
    return 0;
}
static int on_output(void *arg, struct sv k, struct sv v) {
    struct jobx *x = arg;
    step_set_output(x, x->cur, k, v);
    return 0;
}
static int on_state(void *arg, struct sv k, struct sv v) {
    struct jobx *x = arg;
    step_set_state(&x->cur->state, k, v);
    return 0;
}

static void fc_summary(struct jobx *x, const char *key) {
    _cleanup_buf_ struct buf b = {0};
    struct err e = {0};
    if (fc_read(x, FC_SUMMARY, key, SUMMARY_MAX, &b, &e) < 0) {
        jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR,
                                     .text = SV("$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of 1024k")});
        return;
    }
    if (b.n)
        jobx_emit(x, &(struct event){.kind = EV_SUMMARY, .text = buf_sv(&b)});
}

void step_files_take(struct jobx *x, const char *key) {
    static int (*const fn[])(void *, struct sv, struct sv) = {[FC_ENV] = on_env, [FC_OUTPUT] = on_output, [FC_STATE] = on_state};
    static const char *const what[] = {[FC_ENV] = "env", [FC_PATH] = "path", [FC_OUTPUT] = "output", [FC_STATE] = "state"};
    for (int i = 0; i < FC_SUMMARY; i++) {
        _cleanup_buf_ struct buf b = {0};
        struct err e = {0};
        int r = fc_read(x, i, key, FILECMD_MAX, &b, &e);
        if (r >= 0 && b.n) {
            if (i == FC_PATH)
                filecmd_paths(buf_sv(&b), &x->path);
            else
                r = filecmd_pairs(buf_sv(&b), fn[i], x, &e);
        }
        if (r < 0) {
            err_wrap(&e, r, "Unable to process file command '%s' successfully", what[i]);
            jobx_error(x, &e);
            x->cur->failed_by_command = true;
        }
    }
    fc_summary(x, key);
    for (int i = 0; i < FC_N; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", fc_prefix[i], key);
        unlinkat(x->cmd_fd, name, 0);
    }
}
