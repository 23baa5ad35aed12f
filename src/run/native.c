#include "run/native.h"
#include "run/dockmeta_text.h"

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

void native_env(struct jobx *x, struct step *s, struct strv *ret) {
    _cleanup_arena_ struct arena a = {0};
    struct ctx c;
    struct value *own = NULL, *all = val_object(&a);
    step_ctx(x, &c, &a);
    bool ok = ctx_map(&c, &s->ps->env, false, &own, NULL) >= 0;
    for (size_t i = 0; x->scope->env && i < x->scope->env->n; i++)
        val_set(&a, all, x->scope->env->keys[i], x->scope->env->items[i]);
    for (size_t i = 0; ok && i < own->n; i++)
        val_set(&a, all, own->keys[i], own->items[i]);
    step_env(x, s, all, ret);
}

int native_exec(struct jobx *x, struct step *s, const char *const *argv, struct strv *env, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct ctx c;
    double minutes = 0;
    int code = 1;
    enum exec_end end = EXEC_EXITED;
    step_ctx(x, &c, &a);
    if (ctx_number(&c, &s->ps->timeout_minutes, 0, &minutes, NULL) < 0)
        minutes = 0;
    struct exec_spec es = {.argv = argv, .envp = (const char *const *)env->v, .cwd = x->workspace, .user = x->user, .deadline_ns = step_deadline(x, minutes)};
    int r = jobx_exec(x, &es, &code, &end, e);
    output_end(x->out);
    if (r < 0)
        return r;
    if (end == EXEC_EXITED)
        return code;
    step_conclude(x, s, code ? code : 1, end, minutes);
    return -ECANCELED;
}

void native_group(struct jobx *x, const char *title) { jobx_emit(x, &(struct event){.kind = EV_GROUP, .text = sv_from(title ? title : "")}); }

int native_list(const struct value *with, const char *key, bool whole_lines, struct strv *out, struct err *e) {
    struct sv rest = sv_from(with_get(with, key, "")), line;
    while (rest.n && sv_line(&rest, &line)) {
        line = sv_trim(line);
        if (!line.n)
            continue;
        size_t before = out->n;
        /* A field in quotes goes on over the lines until they are closed. */
        _cleanup_buf_ struct buf whole = BUF_MAX(1u << 20);
        buf_addsv(&whole, line);
        while (line.p[0] == '"' && rest.n) {
            size_t quotes = 0;
            for (size_t i = 0; i < whole.n; i++)
                quotes += whole.p[i] == '"';
            if (quotes % 2 == 0 || !sv_line(&rest, &line))
                break;
            buf_addc(&whole, '\n');
            buf_addsv(&whole, line);
            line = sv_from("\"");
        }
        if (whole_lines && whole.p[0] != '"') {
            strv_addn(out, whole.p, whole.n);
            continue;
        }
        int r = meta_csv(buf_sv(&whole), true, out, e);
        if (r < 0)
            return r;
        for (size_t i = before; i < out->n;) /* empty fields are none */
            if (!*out->v[i]) {
                free(out->v[i]);
                memmove(&out->v[i], &out->v[i + 1], (out->n - i) * sizeof *out->v);
                out->n--;
            } else
                i++;
    }
    return 0;
}
