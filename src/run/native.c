#include "run/native.h"

#include <sys/stat.h>

static void say_at(struct jobx *x, enum event_level level, const char *fmt, va_list ap) {
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    buf_addv(&b, fmt, ap);
    jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = level, .text = buf_sv(&b)});
}

void native_annotate(struct jobx *x, enum event_level level, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say_at(x, level, fmt, ap);
    va_end(ap);
}

int native_fail(struct jobx *x, struct step *s, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say_at(x, LEVEL_ERROR, fmt, ap);
    va_end(ap);
    s->code = 1;
    return 0;
}

const char *native_required(struct jobx *x, struct step *s, const struct value *with, const char *key) {
    const char *v = with_get(with, key, "");
    if (*v)
        return v;
    native_fail(x, s, "Input required and not supplied: %s", key);
    return NULL;
}

void native_output(struct jobx *x, struct step *s, const char *key, const char *value) { step_set_output(x, s, sv_from(key), sv_from(value)); }

const char *native_state(const struct step *s, const char *key) {
    const char *v = strv_env_get(&s->state, key);
    return v ? v : "";
}

int native_scratch(struct jobx *x, struct err *e) {
    if (mkdirat(x->scratch, "results", 0700) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "the job's folder");
    int fd = openat(x->scratch, "results", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(e, -errno, "the job's folder") : fd;
}

int native_tmp(struct jobx *x, int scratch, char name[40], struct err *e) {
    random_id(name, 32);
    int fd = openat(scratch, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? err_errno(e, -errno, "a file in the job's folder") : fd;
}

void native_lines(const struct value *with, const char *key, struct strv *out) {
    struct sv rest = sv_from(with_get(with, key, "")), line;
    while (sv_line(&rest, &line)) {
        line = sv_trim(line);
        if (line.n)
            strv_addn(out, line.p, line.n);
    }
}

bool native_true(const struct value *with, const char *key, bool dflt) {
    const char *v = with_get(with, key, "");
    return *v ? sv_ieqs(sv_from(v), "true") : dflt;
}
