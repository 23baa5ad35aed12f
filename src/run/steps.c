/* The steps of a job, one after another: environment, `if`, name, the work, what it wrote into its
 * file commands, the result. */
#include "core/fs.h"
#include "run/filecmd.h"
#include "run/jobx.h"

#include <sys/stat.h>

#define MINUTE (60ull * 1000000000ull)

/* --- telling ------------------------------------------------------------------------------- */

void jobx_emit(struct jobx *x, const struct event *in) {
    struct event ev = *in;
    ev.run = x->run->id;
    ev.job = x->leg->name;
    ev.step = x->cur ? x->cur->no : 0;
    events_emit(x->rq->events, &ev);
}

void jobx_note(struct jobx *x, enum event_level level, const char *fmt, ...) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    va_list ap;
    va_start(ap, fmt);
    buf_addv(&b, fmt, ap);
    va_end(ap);
    jobx_emit(x, &(struct event){.kind = EV_NOTE, .level = level, .text = buf_sv(&b)});
}

void jobx_error(struct jobx *x, const struct err *e) {
    jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR, .at = e->at,
                                 .text = sv_from(e->msg[0] ? e->msg : "it failed, and nobody said why")});
    if (e->hint[0])
        jobx_emit(x, &(struct event){.kind = EV_NOTE, .level = LEVEL_NOTICE, .text = sv_from(e->hint)});
}

void jobx_say(struct jobx *x, const char *fmt, ...) {
    _cleanup_buf_ struct buf b = BUF_SMALL, m = BUF_MAX(1u << 20);
    va_list ap;
    va_start(ap, fmt);
    buf_addv(&b, fmt, ap);
    va_end(ap);
    buf_addc(&b, '\n');
    mask_text(x->rq->masker, buf_sv(&b), &m);
    jobx_emit(x, &(struct event){.kind = EV_OUTPUT, .text = buf_sv(&m), .stream = 1});
}

void step_text(void *arg, struct sv lines) {
    jobx_emit(arg, &(struct event){.kind = EV_OUTPUT, .text = lines, .stream = 1});
}

/* --- workflow commands --------------------------------------------------------------------- */

static uint32_t prop_num(const struct wcommand *c, const char *key) {
    uint64_t n = 0;
    struct sv s = wcommand_prop(c, key);
    return s.p && sv_u64(sv_trim(s), UINT32_MAX, &n) >= 0 ? (uint32_t)n : 0;
}

static void annotate(struct jobx *x, const struct wcommand *c, enum event_level level) {
    struct event ev = {.kind = EV_ANNOTATION, .level = level, .text = c->data};
    struct sv file = wcommand_prop(c, "file"), title = wcommand_prop(c, "title");
    _cleanup_free_ char *f = file.p ? sv_dup(file) : NULL, *t = title.p ? sv_dup(title) : NULL;
    ev.at = (struct span){f, prop_num(c, "line"), prop_num(c, "col"), prop_num(c, "endLine"), prop_num(c, "endColumn")};
    ev.detail = t;
    jobx_emit(x, &ev);
}

static bool stop_token_ok(struct sv t) {
    return t.n > 1 && !wcommand_known(t) && !sv_ieqs(t, "pause-logging");
}

static void set_state(struct strv *s, struct sv key, struct sv value) {
    _cleanup_free_ char *k = sv_dup(key), *v = sv_dup(value);
    strv_env_set(s, k, v);
}

static void set_output(struct jobx *x, struct step *s, struct sv key, struct sv value) {
    val_set(x->a, s->outputs, arena_sv(x->a, key), val_string(x->a, value));
}

/* Names that a step cannot give itself through GITHUB_ENV. */
static bool set_env(struct jobx *x, struct sv key, struct sv value) {
    if (sv_ieqs(key, "NODE_OPTIONS")) {
        jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR,
                                     .text = SV("Can't store NODE_OPTIONS output parameter using '$GITHUB_ENV' command.")});
        return false;
    }
    if (memchr(key.p, '=', key.n))
        return false;
    set_state(&x->env, key, value);
    return true;
}

static bool unsecure(struct jobx *x) {
    const char *v = strv_env_get(&x->env, "ACTIONS_ALLOW_UNSECURE_COMMANDS");
    return v && sv_ieqs(sv_from(v), "true");
}

bool step_command(void *arg, const struct wcommand *c, struct sv line) {
    struct jobx *x = arg;
    struct step *s = x->cur;
    if (!s)
        return false;
    if (sv_ieqs(c->name, "error"))
        annotate(x, c, LEVEL_ERROR);
    else if (sv_ieqs(c->name, "warning"))
        annotate(x, c, LEVEL_WARNING);
    else if (sv_ieqs(c->name, "notice"))
        annotate(x, c, LEVEL_NOTICE);
    else if (sv_ieqs(c->name, "debug")) {
        if (x->rq->debug)
            jobx_say(x, "##[debug]" SV_FMT, SV_ARG(c->data));
    } else if (sv_ieqs(c->name, "group"))
        jobx_emit(x, &(struct event){.kind = EV_GROUP, .text = c->data.n ? c->data : SV(" ")});
    else if (sv_ieqs(c->name, "endgroup"))
        jobx_emit(x, &(struct event){.kind = EV_GROUP});
    else if (sv_ieqs(c->name, "add-mask")) {
        struct sv v = sv_trim(c->data);
        if (!v.n)
            jobx_note(x, LEVEL_WARNING, "Can't add secret mask for empty string in ##[add-mask] command.");
        masker_add(x->rq->masker, v);
        return true; /* never echoed: it holds the secret */
    } else if (sv_ieqs(c->name, "stop-commands")) {
        if (!stop_token_ok(c->data)) {
            jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR,
                                         .text = SV("Invalid stop-commands token: it must not be empty nor the name of a command.")});
            s->failed_by_command = true;
            return true;
        }
        _cleanup_free_ char *t = sv_dup(c->data);
        output_stop(x->out, t);
    } else if (sv_ieqs(c->name, "echo"))
        x->commands_echo = sv_ieqs(sv_trim(c->data), "on");
    else if (sv_ieqs(c->name, "set-output") || sv_ieqs(c->name, "save-state")) {
        struct sv n = wcommand_prop(c, "name");
        if (!n.n) {
            jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR,
                                         .text = SV("Required field 'name' is missing in the workflow command.")});
            s->failed_by_command = true;
        } else if (sv_ieqs(c->name, "set-output"))
            set_output(x, s, n, c->data);
        else
            set_state(&s->state, n, c->data);
    } else if (sv_ieqs(c->name, "set-env") || sv_ieqs(c->name, "add-path")) {
        if (!unsecure(x)) {
            jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR,
                                         .text = SV("The `set-env` and `add-path` commands are disabled. Use the environment files GITHUB_ENV and GITHUB_PATH, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to true.")});
            s->failed_by_command = true;
        } else if (sv_ieqs(c->name, "set-env") && wcommand_prop(c, "name").n)
            set_env(x, wcommand_prop(c, "name"), c->data);
        else if (sv_ieqs(c->name, "add-path") && c->data.n)
            strv_addn(&x->path, c->data.p, c->data.n);
    } else if (sv_ieqs(c->name, "add-matcher") || sv_ieqs(c->name, "remove-matcher")) {
        /* Problem matchers are accepted; their annotations are not made yet. */
    } else
        return false;
    if (x->commands_echo)
        jobx_say(x, SV_FMT, SV_ARG(line));
    return true;
}

/* --- file commands ------------------------------------------------------------------------- */

enum { FC_ENV, FC_PATH, FC_OUTPUT, FC_STATE, FC_SUMMARY, FC_N };
static const char *const fc_prefix[FC_N] = {"set_env_", "add_path_", "set_output_", "save_state_", "step_summary_"};
static const char *const fc_var[FC_N] = {"GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"};

static int new_file(struct jobx *x, int dir, const char *name, mode_t mode, struct sv text, struct err *e) {
    _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(e, -errno, "%s", name);
    if ((x->uid != getuid() && fchown(fd, x->uid, x->gid) < 0) || (x->container && fchmod(fd, mode | 0066) < 0))
        return err_errno(e, -errno, "%s", name);
    int r = text.n ? fd_write_all(fd, text.p, text.n) : 0;
    return r < 0 ? err_errno(e, r, "%s", name) : 0;
}

static int fc_make(struct jobx *x, const char *key, struct strv *env, struct err *e) {
    for (int i = 0; i < FC_N; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", fc_prefix[i], key);
        int r = new_file(x, x->cmd_fd, name, 0644, SV_NULL, e);
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
    set_env(arg, k, v);
    return 0;
}
static int on_output(void *arg, struct sv k, struct sv v) {
    struct jobx *x = arg;
    set_output(x, x->cur, k, v);
    return 0;
}
static int on_state(void *arg, struct sv k, struct sv v) {
    struct jobx *x = arg;
    set_state(&x->cur->state, k, v);
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

static void fc_take(struct jobx *x, const char *key) {
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

/* --- contexts ------------------------------------------------------------------------------ */

static const struct value *steps_value(struct jobx *x, struct arena *a) {
    struct value *o = val_object(a);
    for (size_t i = 0; i < x->n_steps; i++) {
        struct step *s = &x->steps[i];
        if (s == x->cur || !s->id || s->ps->id_generated || s->outcome == OUT_NONE)
            continue;
        struct value *one = val_object(a);
        val_sets(a, one, "outputs", s->outputs);
        val_set_str(a, one, "outcome", outcome_name(s->outcome));
        val_set_str(a, one, "conclusion", outcome_name(s->conclusion));
        val_sets(a, o, s->id, one);
    }
    return o;
}

static const char *status_name(const struct jobx *x) {
    if (atomic_load(&x->leg->cancel))
        return "cancelled";
    return x->status == OUT_FAILURE ? "failure" : "success";
}

void step_ctx(struct jobx *x, struct ctx *c, struct arena *a) {
    ctx_init(c, a);
    ctx_leg(c, x->leg);
    c->in_step = true;
    c->status = x->status;
    c->cancelled = atomic_load(&x->leg->cancel) > 0;
    struct value *g = val_object(a);
    for (size_t i = 0; i < x->github->n; i++)
        val_set(a, g, x->github->keys[i], x->github->items[i]);
    val_set_str(a, g, "action", x->cur ? x->cur->id : "");
    val_set_str(a, g, "action_status", status_name(x));
    ctx_set(c, "github", g);
    struct value *job = val_object(a);
    val_set_str(a, job, "status", status_name(x));
    for (size_t i = 0; x->job_ctx && i < x->job_ctx->n; i++)
        val_set(a, job, x->job_ctx->keys[i], x->job_ctx->items[i]);
    ctx_set(c, "job", job);
    ctx_set(c, "runner", x->runner);
    ctx_set(c, "secrets", x->secrets);
    ctx_set(c, "env", ctx_from_env(a, &x->env));
    ctx_set(c, "steps", steps_value(x, a));
}

/* --- run steps ----------------------------------------------------------------------------- */

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
    } else if (sv_eqs(name, "pwsh") || sv_eqs(name, "powershell")) {
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

static void conclude_exec(struct jobx *x, struct step *s, int code, enum exec_end end, double minutes) {
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
    return new_file(x, x->temp_fd, name, 0644, buf_sv(&b), e);
}

static int run_script(struct jobx *x, struct step *s, struct ctx *c, const struct value *own, double minutes, struct err *e) {
    const struct plan_step *ps = s->ps;
    const struct plan *plan = x->leg->flow->plan;
    struct sv text, shell, dir;
    int r;
    if ((r = ctx_string(c, &ps->run, "", &text, e)) < 0)
        return r;
    const struct text *st = ps->shell.s ? &ps->shell : x->pj->default_shell.s ? &x->pj->default_shell : &plan->default_shell;
    const struct text *wd = ps->working_directory.s ? &ps->working_directory
                            : x->pj->default_working_directory.s ? &x->pj->default_working_directory
                                                                 : &plan->default_working_directory;
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
        jobx_env(x, own, &env);
        if (x->bitbucket)
            strv_env_set(&env, "BITBUCKET_EXIT_CODE", x->last_code);
        else {
            strv_env_set(&env, "GITHUB_ACTION", s->id);
            r = fc_make(x, key, &env, e);
        }
        if (r >= 0) {
            struct exec_spec es = {.argv = (const char *const *)sh.argv.v, .envp = (const char *const *)env.v, .cwd = cwd, .user = x->user,
                                   .deadline_ns = minutes > 0 ? now_mono() + (uint64_t)(minutes * (double)MINUTE) : 0};
            int code = 1;
            enum exec_end end = EXEC_EXITED;
            r = jobx_exec(x, &es, &code, &end, e);
            output_end(x->out);
            if (!x->bitbucket)
                fc_take(x, key);
            else if (!s->ps->after_script)
                snprintf(x->last_code, sizeof x->last_code, "%d", r < 0 ? 1 : code);
            if (r >= 0)
                conclude_exec(x, s, code, end, minutes);
        }
    }
    strv_done(&sh.argv);
    unlinkat(x->temp_fd, name, 0);
    return r;
}

/* --- uses ---------------------------------------------------------------------------------- */

native_fn native_find(const char *uses) {
    static const struct { const char *name; native_fn fn; } table[] = {
        {"actions/checkout@", action_checkout},
        {"actions/setup-python@", action_setup_python},
    };
    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (strncasecmp(uses, table[i].name, strlen(table[i].name)) == 0)
            return table[i].fn;
    return NULL;
}

static int run_action(struct jobx *x, struct step *s, struct ctx *c, struct err *e) {
    struct value *with;
    native_fn fn = native_find(s->ps->uses.s);
    if (!fn) {
        err_set(e, ERR_FAILED, -ENOSYS, "the action %s is not there yet: so far actions/checkout and actions/setup-python are", s->ps->uses.s);
        return err_at(e, -ENOSYS, s->ps->uses.at);
    }
    int r = ctx_map(c, &s->ps->with, false, &with, e);
    if (r < 0)
        return r;
    struct value *in = val_object(c->a); /* inputs: names without regard to case, values trimmed */
    for (size_t i = 0; i < with->n; i++)
        val_set(c->a, in, with->keys[i], val_string(c->a, sv_trim(with->items[i]->str)));
    r = fn(x, s, in, e);
    output_end(x->out);
    if (r >= 0)
        s->outcome = s->code ? OUT_FAILURE : OUT_SUCCESS;
    else if (atomic_load(&x->leg->cancel) > x->cancel_seen) {
        s->outcome = OUT_CANCELLED;
        return 0;
    }
    return r;
}

/* --- one step ------------------------------------------------------------------------------ */

static char *title_of(struct ctx *c, const struct plan_step *ps) {
    struct sv s = SV_NULL;
    if (ps->name.s && ctx_string(c, &ps->name, "", &s, NULL) >= 0 && s.n)
        return xstrndup(s.p, MIN(s.n, 300u));
    if (ps->kind == STEP_USES)
        return xasprintf("Run %s", ps->uses.s);
    if (ctx_string(c, &ps->run, "", &s, NULL) < 0)
        s = sv_n(ps->run.s, ps->run.n);
    struct sv rest = sv_trim(s), line = SV_NULL;
    sv_line(&rest, &line);
    return xasprintf("Run " SV_FMT, (int)MIN(line.n, 200u), line.p);
}

static void skip(struct jobx *x, struct step *s, enum outcome o) {
    s->outcome = s->conclusion = o;
    jobx_emit(x, &(struct event){.kind = EV_STEP_END, .outcome = o, .name = s->title});
}

static void finish(struct jobx *x, struct step *s, struct ctx *c, uint64_t t0) {
    struct err e = {0};
    bool cont = false;
    if (s->outcome == OUT_SUCCESS && s->failed_by_command)
        s->outcome = OUT_FAILURE;
    s->conclusion = s->outcome;
    if (s->outcome == OUT_FAILURE) {
        if (ctx_bool(c, &s->ps->continue_on_error, false, &cont, &e) < 0)
            jobx_error(x, &e);
        if (cont)
            s->conclusion = OUT_SUCCESS;
    }
    if (s->conclusion == OUT_FAILURE) {
        x->status = OUT_FAILURE;
        if (!x->leg->reason)
            leg_fail(x->leg, OUT_FAILURE, "%s", s->title);
    }
    jobx_emit(x, &(struct event){.kind = EV_STEP_END, .outcome = s->outcome, .name = s->title, .code = s->code,
                                 .detail = s->conclusion != s->outcome ? outcome_name(s->conclusion) : NULL,
                                 .dur_ns = now_mono() - t0});
}

static void one_step(struct jobx *x, struct step *s) {
    const struct plan_step *ps = s->ps;
    _cleanup_arena_ struct arena a = {0};
    struct ctx c;
    struct err e = {0};
    struct value *own = NULL;
    bool go = false;
    double minutes = 0;
    uint64_t t0 = now_mono();
    x->cur = s;
    x->commands_echo = false;
    x->cancel_seen = MIN(atomic_load(&x->leg->cancel), 1);
    step_ctx(x, &c, &a);
    int r = ctx_map(&c, &ps->env, false, &own, &e);
    if (r >= 0 && own->n) {
        struct value *env = val_object(&a);
        const struct value *have = val_gets(c.root, "env");
        for (size_t i = 0; i < have->n; i++)
            val_set(&a, env, have->keys[i], have->items[i]);
        for (size_t i = 0; i < own->n; i++)
            val_set(&a, env, own->keys[i], own->items[i]);
        ctx_set(&c, "env", env);
    }
    struct err env_err = e;
    int r_env = r;
    s->title = title_of(&c, ps);
    if (atomic_load(&x->leg->cancel) > 1) {
        skip(x, s, OUT_CANCELLED);
        return;
    }
    r = ctx_if(&c, &ps->if_, &go, &e);
    if (r >= 0 && !go) {
        skip(x, s, OUT_SKIPPED);
        return;
    }
    jobx_emit(x, &(struct event){.kind = EV_STEP_START, .text = sv_from(s->title), .at = ps->at});
    if (r >= 0 && (r = r_env) < 0)
        e = env_err;
    if (r >= 0)
        r = ctx_number(&c, &ps->timeout_minutes, 0, &minutes, &e);
    if (r >= 0) {
        if (ps->kind == STEP_RUN)
            r = run_script(x, s, &c, own, minutes, &e);
        else if (ps->kind == STEP_USES)
            r = run_action(x, s, &c, &e);
        else {
            err_set(&e, ERR_FAILED, -ENOSYS, "background, wait, cancel and parallel steps are not there yet");
            r = err_at(&e, -ENOSYS, ps->at);
        }
    }
    if (r < 0) {
        s->outcome = OUT_FAILURE;
        s->code = s->code ? s->code : 1;
        jobx_error(x, &e);
    }
    finish(x, s, &c, t0);
}

void steps_run(struct jobx *x) {
    x->steps = xcalloc(x->pj->n_steps + 1, sizeof *x->steps);
    x->n_steps = x->pj->n_steps;
    for (size_t i = 0; i < x->n_steps; i++) {
        struct step *s = &x->steps[i];
        s->ps = &x->pj->steps[i];
        s->no = (unsigned)i + 1;
        s->id = s->ps->id ? s->ps->id : "__run";
        s->outputs = val_object(x->a);
    }
    for (size_t i = 0; i < x->n_steps; i++)
        one_step(x, &x->steps[i]);
    x->cur = NULL;
}
