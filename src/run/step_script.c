/* `run` steps: the shell, the script's file, the process. */
#include "core/fs.h"
#include "run/held.h"
#include "run/stepx.h"

struct shell {
    struct strv argv;     /* with "{0}" where the script's path goes */
    const char *ext;
    const char *head, *tail;
};

static int shell_custom(struct shell *sh, struct sv s, struct err *e) {
    _cleanup_buf_ struct buf word = BUF_SMALL;
    char quote = 0;
    bool in = false, has = false;
    for (size_t i = 0; i <= s.n; i++) {
        char ch = i < s.n ? s.p[i] : ' ';
        if (quote ? ch == quote : (ch == '"' || ch == '\'')) {
            quote = quote ? 0 : ch;
            in = true;
        } else if (!quote && (ch == ' ' || ch == '\t')) {
            if (in) {
                has |= strstr(buf_str(&word), "{0}") != NULL;
                strv_add(&sh->argv, buf_str(&word));
            }
            buf_reset(&word);
            in = false;
        } else {
            buf_addc(&word, ch);
            in = true;
        }
    }
    if (!has)
        return err_set(e, ERR_CONFIG, -EINVAL,
                       "Invalid shell option. Shell must be a valid built-in (bash, sh, cmd, powershell, pwsh) "
                       "or a format string containing '{0}'");
    return 0;
}

static int shell_for(struct jobx *x, struct sv name, struct shell *sh, struct err *e) {
    static const char *const bash_default[] = {"bash", "-e", "{0}", NULL}, *const sh_argv[] = {"sh", "-e", "{0}", NULL},
                             *const bash_argv[] = {"bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "{0}", NULL},
                             *const python[] = {"python", "{0}", NULL}, *const pwsh[] = {"pwsh", "-command", ". '{0}'", NULL};
    sh->ext = ".sh";
    sh->head = sh->tail = "";
    name = sv_trim(name);
    if (!name.n)
        strv_extend(&sh->argv, x->has_bash ? bash_default : sh_argv);
    else if (sv_eqs(name, "bash"))
        strv_extend(&sh->argv, bash_argv);
    else if (sv_eqs(name, "sh"))
        strv_extend(&sh->argv, sh_argv);
    else if (sv_eqs(name, "python")) {
        strv_extend(&sh->argv, python);
        sh->ext = ".py";
    } else if (sv_eqs(name, "powershell")) {
        return err_set(e, ERR_CONFIG, -EINVAL, "the shell powershell is Windows' own; on Linux it is pwsh");
    } else if (sv_eqs(name, "pwsh")) {
        strv_extend(&sh->argv, pwsh);
        sh->ext = ".ps1";
        sh->head = "$ErrorActionPreference = 'stop'\n";
        sh->tail = "\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }";
    } else if (sv_eqs(name, "cmd"))
        return err_set(e, ERR_CONFIG, -EINVAL, "the shell cmd is not there on Linux");
    else
        return shell_custom(sh, name, e);
    return 0;
}

static void fill_script(struct strv *argv, const char *path) {
    for (size_t i = 0; i < argv->n; i++) {
        const char *at = strstr(argv->v[i], "{0}");
        if (!at)
            continue;
        char *n = xasprintf("%.*s%s%s", (int)(at - argv->v[i]), argv->v[i], path, at + 3);
        free(argv->v[i]);
        argv->v[i] = n;
    }
}

void step_conclude(struct jobx *x, struct step *s, int code, enum exec_end end, double minutes) {
    s->code = code;
    if (end == EXEC_CANCELLED) {
        s->outcome = OUT_CANCELLED;
        jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR, .text = SV("The operation was canceled.")});
    } else if (end == EXEC_TIMEOUT) {
        _cleanup_free_ char *t = NULL;
        s->outcome = OUT_FAILURE;
        if (x->deadline_ns && now_mono() >= x->deadline_ns) {
            leg_fail(x->leg, OUT_FAILURE, "the job exceeded its maximum time");
            t = xasprintf("The job has exceeded the maximum execution time.");
        } else
            t = xasprintf("The action '%s' has timed out after %g minutes.", s->title, minutes);
        jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR, .text = sv_from(t)});
    } else if (code) {
        _cleanup_free_ char *t = xasprintf("Process completed with exit code %d.", code);
        s->outcome = OUT_FAILURE;
        jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR, .text = sv_from(t)});
    } else
        s->outcome = OUT_SUCCESS;
}

static int script_write(struct jobx *x, const struct shell *sh, struct sv text, const char *name, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(2u << 20);
    buf_adds(&b, sh->head);
    for (size_t i = 0; i < text.n; i++) /* CRLF of a file edited elsewhere */
        if (!(text.p[i] == '\r' && i + 1 < text.n && text.p[i + 1] == '\n'))
            buf_addc(&b, text.p[i]);
    buf_adds(&b, sh->tail);
    buf_addc(&b, '\n');
    if (!buf_ok(&b))
        return err_set(e, ERR_LIMIT, -EFBIG, "the script is too long");
    return step_file(x, x->temp_fd, name, 0644, buf_sv(&b), e);
}

uint64_t step_deadline(struct jobx *x, double minutes) {
    uint64_t own = minutes > 0 ? now_mono() + (uint64_t)(minutes * (double)MINUTE) : 0, outer = x->scope->deadline_ns;
    return !outer || (own && own < outer) ? own : outer;
}

/* The step's own, else what its job or workflow has; inside an action only the step counts. */
static const struct text *setting(struct jobx *x, const struct text *own, const struct text *job, const struct text *plan) {
    return own->s || x->scope->owner ? own : job->s ? job : plan;
}

int step_script(struct jobx *x, struct step *s, struct ctx *c, const struct value *own, double minutes, struct err *e) {
    const struct plan_step *ps = s->ps;
    const struct plan *plan = x->leg->flow->plan;
    struct sv text, shell, dir;
    int r;
    if ((r = ctx_string(c, &ps->run, "", &text, e)) < 0)
        return r;
    held_expect(x, text);
    const struct text *st = setting(x, &ps->shell, &x->pj->default_shell, &plan->default_shell);
    const struct text *wd = setting(x, &ps->working_directory, &x->pj->default_working_directory, &plan->default_working_directory);
    if ((r = ctx_string(c, st, "", &shell, e)) < 0 || (r = ctx_string(c, wd, "", &dir, e)) < 0)
        return r;
    struct shell sh = {0};
    _cleanup_strv_ struct strv env = {0};
    _cleanup_free_ char *cwd = path_join(x->workspace, dir.n ? dir.p : ".");
    char name[48], key[33];
    random_id(key, 32);
    if ((r = shell_for(x, shell, &sh, e)) >= 0) {
        snprintf(name, sizeof name, "%s%s", key, sh.ext);
        _cleanup_free_ char *path = xasprintf("%s/%s", x->temp, name);
        fill_script(&sh.argv, path);
        r = script_write(x, &sh, text, name, e);
    }
    if (r >= 0) {
        step_env(x, s, own, &env);
        if (x->bitbucket)
            strv_env_set(&env, "BITBUCKET_EXIT_CODE", x->last_code);
        else
            r = step_files_make(x, key, &env, e);
        if (r >= 0) {
            struct exec_spec es = {.argv = (const char *const *)sh.argv.v, .envp = (const char *const *)env.v, .cwd = cwd, .user = x->user,
                                   .deadline_ns = step_deadline(x, minutes)};
            int code = 1;
            enum exec_end end = EXEC_EXITED;
            r = jobx_exec(x, &es, &code, &end, e);
            output_end(x->out);
            if (!x->bitbucket)
                step_files_take(x, key);
            else if (!s->ps->after_script)
                snprintf(x->last_code, sizeof x->last_code, "%d", r < 0 ? 1 : code);
            if (r >= 0)
                step_conclude(x, s, code, end, minutes);
        }
    }
    strv_done(&sh.argv);
    unlinkat(x->temp_fd, name, 0);
    return r;
}
