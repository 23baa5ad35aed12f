/* slipway eval EXPR: evaluates one expression of GitHub Actions and prints the result as JSON. The
 * form of the output is part of the interface: {"kind":…,"value":…} or
 * {"err":{"kind":…,"value":…}}, where an error's text is the part that GitHub's implementations
 * have in common; the whole text with its place goes to stderr. */
#include "cli/commands.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/fs.h"
#include "expr/expr.h"

/* GitHub's limit for one expression. */
enum { EVAL_MEMORY = 1 << 20 };

static int read_contexts(struct arena *a, const char *path, const struct value **ret,
                         struct err *e) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    int r = streq(path, "-") ? fs_read_fd(STDIN_FILENO, &b) : fs_read(AT_FDCWD, path, &b, e);
    if (r < 0)
        return streq(path, "-") ? err_errno(e, r, "stdin") : r;
    struct json *j = NULL;
    r = json_parse(a, arena_sv(a, buf_sv(&b)), &j, e);
    if (r < 0)
        return err_wrap(e, r, "%s", path);
    if (j->kind != JSON_OBJECT)
        return err_set(e, ERR_USER, -EINVAL, "%s: not a JSON object with one key for each context",
                       path);
    *ret = val_from_json(a, j);
    return 0;
}

static void trace(void *arg, unsigned depth, struct sv text, const struct value *v) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    val_to_json(v, &b, 0);
    for (unsigned i = 0; i < depth; i++)
        fputs("  ", stderr);
    fprintf(stderr, SV_FMT " => %.200s%s\n", SV_ARG(text), buf_str(&b), b.n > 200 ? "..." : "");
}

static int print_error(struct sv text, const struct expr_error *xe) {
    static const char *const kinds[] = {"", "lexing", "parsing", "evaluation"};
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct json_w w;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_key(&w, "err");
    jw_obj(&w);
    jw_kstr(&w, "kind", kinds[xe->kind]);
    jw_key(&w, "value");
    jw_sv(&w, sv_n(xe->msg, xe->brief));
    jw_end_obj(&w);
    jw_end_obj(&w);
    puts(buf_str(&b));
    fflush(stdout);
    fprintf(stderr, "%s\n", xe->msg);
    if (xe->length && text.n < 200 && sv_chr(text, '\n') < 0) {
        fprintf(stderr, "  " SV_FMT "\n  ", SV_ARG(text));
        for (size_t i = 1; i < xe->pos; i++)
            fputc(' ', stderr);
        fputs("^\n", stderr);
    }
    return 1;
}

static int evaluate(struct arena *a, struct sv text, const struct value *contexts, bool traced) {
    const char **names = ARENA_ARRAY(a, const char *, contexts->n + 1);
    for (size_t i = 0; i < contexts->n; i++)
        names[i] = contexts->keys[i].p;
    static const char *const no_functions[] = {NULL};
    struct expr_names allowed = {names, no_functions};
    struct expr_env env = {
        .contexts = contexts, .max_memory = EVAL_MEMORY, .trace = traced ? trace : NULL};
    struct expr_error xe = {0};
    struct expr *x;
    const struct value *v;
    if (expr_parse(a, text, &allowed, &x, &xe) < 0 || expr_eval(a, x, &env, &v, &xe) < 0)
        return print_error(text, &xe);
    _cleanup_buf_ struct buf b = BUF_LARGE;
    val_to_json_exact(v, &b);
    printf("{\"kind\":\"%s\",\"value\":%s}\n", val_kind_name(v->kind), buf_str(&b));
    return 0;
}

/* An expression may start with '-' ("-1"): what is no option of ours is the expression. Moves it
 * behind a "--". out holds argc + 2 items. */
static int guard_expression(int argc, char **argv, char **out) {
    static char dashes[] = "--";
    static const char *const known[] = {"--context", "--trace", "--no-trace", "--help", "-h", "-c"};
    int n = 0;
    out[n++] = argv[0];
    for (int i = 1; i < argc; i++) {
        bool ours = argv[i][0] != '-' || startswith(argv[i], "--context=");
        for (size_t k = 0; k < ELEMENTS(known); k++)
            ours = ours || streq(argv[i], known[k]);
        if (!ours && !streq(argv[i], "--")) {
            for (int k = i + 1; k < argc; k++) /* options may follow it */
                out[n++] = argv[k];
            out[n++] = dashes;
            out[n++] = argv[i];
            break;
        }
        out[n++] = argv[i];
        if (streq(argv[i], "--")) {
            while (++i < argc)
                out[n++] = argv[i];
        } else if ((streq(argv[i], "--context") || streq(argv[i], "-c")) && i + 1 < argc) {
            out[n++] = argv[++i];
        }
    }
    out[n] = NULL;
    return n;
}

int cmd_eval(int argc, char **argv);
int cmd_eval(int argc, char **argv) {
    const char *context = NULL;
    bool traced = false;
    const struct opt items[] = {
        {'c', "context", OPT_STR, &context, "FILE",
         "JSON object whose keys are the contexts (- for stdin)"},
        {0, "trace", OPT_FLAG, &traced, NULL,
         "show every sub-expression, its value and conversions, on stderr"},
    };
    const struct opts o = {
        .usage = "eval [options] EXPR",
        .about =
            "Evaluates one expression of GitHub Actions (without ${{ }}) and prints the result\n"
            "as JSON. Exit code 1 when the expression is wrong.",
        .items = items,
        .n = ELEMENTS(items)};
    _cleanup_free_ char **guarded = xcalloc((size_t)argc + 2, sizeof(char *));
    int n;
    argc = guard_expression(argc, argv, guarded);
    argv = guarded;
    int r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    if (n != 1) {
        err_set(&e, ERR_USER, -EINVAL, "give one expression, quoted for the shell");
        return cli_fail(&e);
    }
    _cleanup_arena_ struct arena a = {0};
    const struct value *contexts = val_object(&a);
    if (context && read_contexts(&a, context, &contexts, &e) < 0) {
        if (e.kind != ERR_ENV)
            e.kind = ERR_USER;
        return cli_fail(&e);
    }
    return evaluate(&a, sv_from(argv[1]), contexts, traced);
}
