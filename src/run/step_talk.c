/* What a job tells: events with its name and step, and the workflow commands that its steps print. */
#include "run/stepx.h"

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
    step_match(arg, lines);
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
void step_set_state(struct strv *s, struct sv key, struct sv value) {
    _cleanup_free_ char *k = sv_dup(key), *v = sv_dup(value);
    strv_env_set(s, k, v);
}

void step_set_output(struct jobx *x, struct step *s, struct sv key, struct sv value) {
    val_set(x->a, s->outputs, arena_sv(x->a, key), val_string(x->a, value));
}

/* Names that a step cannot give itself through GITHUB_ENV. */
bool step_set_env(struct jobx *x, struct sv key, struct sv value) {
    if (sv_ieqs(key, "NODE_OPTIONS")) {
        jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR,
                                     .text = SV("Can't store NODE_OPTIONS output parameter using '$GITHUB_ENV' command.")});
        return false;
    }
    if (memchr(key.p, '=', key.n))
        return false;
    step_set_state(&x->env, key, value);
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
            step_set_output(x, s, n, c->data);
        else
            step_set_state(&s->state, n, c->data);
    } else if (sv_ieqs(c->name, "set-env") || sv_ieqs(c->name, "add-path")) {
        if (!unsecure(x)) {
            jobx_emit(x, &(struct event){.kind = EV_ANNOTATION, .level = LEVEL_ERROR,
                                         .text = SV("The `set-env` and `add-path` commands are disabled. Use the environment files GITHUB_ENV and GITHUB_PATH, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to true.")});
            s->failed_by_command = true;
        } else if (sv_ieqs(c->name, "set-env") && wcommand_prop(c, "name").n)
            step_set_env(x, wcommand_prop(c, "name"), c->data);
        else if (sv_ieqs(c->name, "add-path") && c->data.n)
            strv_addn(&x->path, c->data.p, c->data.n);
    } else if (sv_ieqs(c->name, "add-matcher") || sv_ieqs(c->name, "remove-matcher")) {
        step_matchers_command(x, c);
    } else
        return false;
    if (x->commands_echo)
        jobx_say(x, SV_FMT, SV_ARG(line));
    return true;
}
