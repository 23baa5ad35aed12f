#include "cli/dispatch.h"

#include "expr/value.h"

static const char *type_name(enum plan_input_type t) {
    static const char *const names[] = {"string", "boolean", "number", "choice", "environment"};
    return names[t];
}

static int wrong(struct err *e, const struct plan_input *in, const char *v) {
    _cleanup_buf_ struct buf b = BUF_MAX(2000);
    for (size_t i = 0; i < in->n_options; i++)
        buf_addf(&b, "%s%s", i ? ", " : "", in->options[i]);
    err_set(e, ERR_USER, -EINVAL, "input %s: \"%s\" is no %s%s%s", in->name, v, in->type == INPUT_CHOICE ? "choice" : type_name(in->type),
            b.n ? "; there are " : "", buf_str(&b));
    return err_at(e, -EINVAL, in->at);
}

static bool fits(const struct plan_input *in, const char *v) {
    char *end;
    if (in->type == INPUT_BOOLEAN)
        return sv_ieqs(sv_from(v), "true") || sv_ieqs(sv_from(v), "false");
    if (in->type == INPUT_NUMBER)
        return *v && (strtod(v, &end), !*end);
    for (size_t i = 0; i < in->n_options; i++)
        if (streq(in->options[i], v))
            return true;
    return in->type != INPUT_CHOICE || !in->n_options;
}

static const char *default_of(const struct plan_input *in) {
    return in->dflt.s ? in->dflt.s : in->type == INPUT_BOOLEAN ? "false" : in->type == INPUT_CHOICE && in->n_options ? in->options[0] : "";
}

static void ask_for(const struct plan_input *in, struct strv *given) {
    char line[4096];
    for (;;) {
        printf("%s%s%s (%s%s", in->name, in->description ? ": " : "", in->description ? in->description : "", type_name(in->type), in->required ? ", required" : "");
        for (size_t i = 0; i < in->n_options; i++)
            printf("%s%s", i ? ", " : ": ", in->options[i]);
        printf(") [%s]: ", default_of(in));
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin))
            return;
        line[strcspn(line, "\n")] = 0;
        if (!*line && (*default_of(in) || !in->required))
            return;
        if (*line && fits(in, line))
            break;
        printf("that is no %s\n", type_name(in->type));
    }
    strv_env_set(given, in->name, line);
}

static int one(const struct plan_input *in, struct strv *given, const struct value *told, bool ask, struct err *e) {
    const char *v = strv_env_get(given, in->name);
    const struct value *t = v ? NULL : val_gets(told, in->name);
    _cleanup_arena_ struct arena a = {0};
    if (t && t->kind != VAL_NULL)
        v = val_to_string(&a, t).p;
    if (!v && ask) {
        ask_for(in, given);
        v = strv_env_get(given, in->name);
    }
    if (v)
        return fits(in, v) ? 0 : wrong(e, in, v);
    if (!in->required || (in->dflt.s && in->dflt.n) || in->type == INPUT_BOOLEAN || in->type == INPUT_CHOICE)
        return 0;
    err_set(e, ERR_USER, -EINVAL, "Required input '%s' not provided", in->name);
    err_hint(e, -EINVAL, "--input %s=VALUE gives it", in->name);
    return err_at(e, -EINVAL, in->at);
}

int dispatch_inputs(const struct plan *const *plans, size_t n, struct strv *given, const struct value *payload, bool ask, struct err *e) {
    const struct value *told = payload ? val_gets(payload, "inputs") : NULL;
    bool github = false;
    int r;
    for (size_t i = 0; i < n; i++) {
        const struct plan_trigger *t = plan_trigger_find(plans[i], "workflow_dispatch");
        github |= plans[i]->dialect == DIALECT_GITHUB;
        for (size_t k = 0; t && k < t->n_inputs; k++)
            if ((r = one(&t->inputs[k], given, told, ask, e)) < 0)
                return r;
    }
    for (size_t g = 0; github && g < given->n; g++) {
        bool known = false;
        size_t len = strcspn(given->v[g], "=");
        for (size_t i = 0; i < n; i++) {
            const struct plan_trigger *t = plan_trigger_find(plans[i], "workflow_dispatch");
            for (size_t k = 0; t && k < t->n_inputs; k++)
                known |= strlen(t->inputs[k].name) == len && !strncasecmp(t->inputs[k].name, given->v[g], len);
        }
        if (!known)
            return err_set(e, ERR_USER, -EINVAL, "Unexpected inputs provided: [\"%.*s\"]", (int)len, given->v[g]);
    }
    return 0;
}
