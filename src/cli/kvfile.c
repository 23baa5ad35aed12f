#include "cli/kvfile.h"

#include "base/yaml.h"
#include "core/fs.h"

#include <termios.h>

static void put(struct strv *ret, struct sv key, struct sv value) {
    _cleanup_free_ char *k = sv_dup(key), *v = sv_dup(value);
    strv_env_set(ret, k, v);
    explicit_bzero(v, value.n);
}

static int from_yaml(const char *path, struct sv text, struct strv *ret, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    struct diags d = {0};
    struct yaml_node *root = NULL;
    int r = yaml_parse(&a, span_file(path), text, NULL, &root, &d);
    if (r < 0 || (root && root->kind != YAML_MAP))
        r = err_set(e, ERR_CONFIG, -EBADMSG, "%s: %s", path, d.n ? d.items[0].msg : "a mapping expected");
    for (size_t i = 0; r >= 0 && root && i < root->n; i++) {
        if (root->items[i]->kind == YAML_SCALAR)
            put(ret, root->keys[i]->text, root->items[i]->text);
        else
            r = err_set(e, ERR_CONFIG, -EBADMSG, "%s:%u: " SV_FMT ": a text expected", path, root->items[i]->at.line, SV_ARG(root->keys[i]->text));
    }
    diags_done(&d);
    return r;
}

/* A quoted value that may go on over lines; *rest stands after the opening quote. */
static bool quoted(struct sv *rest, char q, struct buf *out) {
    for (size_t i = 0; i < rest->n; i++) {
        char c = rest->p[i];
        if (c == q) {
            struct sv line;
            *rest = sv_sub(*rest, i + 1, SIZE_MAX);
            sv_line(rest, &line);
            return true;
        }
        if (q == '"' && c == '\\' && i + 1 < rest->n) {
            char n = rest->p[++i];
            buf_addc(out, n == 'n' ? '\n' : n == 't' ? '\t' : n == 'r' ? '\r' : n);
        } else {
            buf_addc(out, c);
        }
    }
    return false;
}

int kv_file(const char *path, bool must, struct strv *ret, struct err *e) {
    _cleanup_buf_ struct buf text = BUF_MAX(8u << 20), value = BUF_MAX(8u << 20);
    if (!must && !fs_exists(AT_FDCWD, path))
        return 0;
    int r = fs_read(AT_FDCWD, path, &text, e);
    if (r < 0) {
        if (e)
            e->kind = ERR_USER;
        return r;
    }
    if (endswith(path, ".yml") || endswith(path, ".yaml"))
        return from_yaml(path, buf_sv(&text), ret, e);
    struct sv rest = buf_sv(&text), line;
    unsigned no = 0;
    for (;;) {
        struct sv at = rest;
        if (!sv_line(&rest, &line))
            break;
        no++;
        struct sv t = sv_trim(line);
        if (!t.n || t.p[0] == '#')
            continue;
        if (sv_starts(t, "export "))
            t = sv_trim(sv_sub(t, 7, SIZE_MAX));
        ssize_t eq = sv_chr(t, '=');
        if (eq <= 0)
            return err_set(e, ERR_CONFIG, -EBADMSG, "%s:%u: KEY=VALUE expected", path, no);
        struct sv key = sv_trim(sv_sub(t, 0, (size_t)eq)), v = sv_trim(sv_sub(t, (size_t)eq + 1, SIZE_MAX));
        if (v.n && (v.p[0] == '"' || v.p[0] == '\'')) {
            size_t off = (size_t)(v.p + 1 - at.p);
            rest = sv_sub(at, off, SIZE_MAX);
            buf_reset(&value);
            if (!quoted(&rest, v.p[0], &value))
                return err_set(e, ERR_CONFIG, -EBADMSG, "%s:%u: a quote is not closed", path, no);
            for (const char *p = at.p + off; p < rest.p; p++)
                no += *p == '\n';
            no -= no ? 1 : 0;
            put(ret, key, buf_sv(&value));
            continue;
        }
        ssize_t comment = sv_find(v, SV(" #"));
        put(ret, key, comment >= 0 ? sv_rtrim(sv_sub(v, 0, (size_t)comment)) : v);
    }
    return 0;
}

static int ask_value(const char *name, struct buf *out, struct err *e) {
    struct termios old, quiet;
    if (tcgetattr(0, &old) < 0)
        return err_set(e, ERR_USER, -EINVAL, "-s %s: no value, none in the environment, and no terminal to ask", name);
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    fprintf(stderr, "%s: ", name);
    tcsetattr(0, TCSAFLUSH, &quiet);
    for (char c; read(0, &c, 1) == 1 && c != '\n';)
        buf_addc(out, c);
    tcsetattr(0, TCSAFLUSH, &old);
    fputc('\n', stderr);
    return 0;
}

int kv_arg(const char *arg, bool ask, struct strv *ret, struct err *e) {
    const char *eq = strchr(arg, '=');
    if (eq == arg || !*arg)
        return err_set(e, ERR_USER, -EINVAL, "\"%s\": KEY=VALUE expected", arg);
    if (eq) {
        put(ret, sv_n(arg, (size_t)(eq - arg)), sv_from(eq + 1));
        return 0;
    }
    const char *env = getenv(arg);
    if (env) {
        put(ret, sv_from(arg), sv_from(env));
        return 0;
    }
    if (!ask)
        return err_set(e, ERR_USER, -EINVAL, "%s: no value, and none in the environment", arg);
    _cleanup_buf_ struct buf v = BUF_SMALL;
    int r = ask_value(arg, &v, e);
    if (r == 0)
        put(ret, sv_from(arg), buf_sv(&v));
    return r;
}
