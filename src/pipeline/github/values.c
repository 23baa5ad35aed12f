/* Values that are more than their type: runner groups, images, matrices, references, concurrency,
 * snapshots, inputs. What holds an expression is known when it runs and is let pass. Words are
 * GitHub's where it has any. */
#include "pipeline/github/read.h"

#include <math.h>

enum { MAX_GROUP = 400 };

void check_runner_group(struct reader *r, const struct text *t) {
    if (!t->s || t->expr)
        return;
    const char *slash = strchr(t->s, '/');
    if (!slash)
        return;
    struct sv prefix = {t->s, (size_t)(slash - t->s)};
    bool known = sv_eqs(prefix, "org") || sv_eqs(prefix, "organization") || sv_eqs(prefix, "ent") ||
                 sv_eqs(prefix, "enterprise");
    if (!strchr(slash + 1, '/') && !slash[1])
        read_error(r, t->at, "runs-on", "Invalid runs-on group name '%s'.", t->s);
    else if (strchr(slash + 1, '/') || !known)
        read_error(r, t->at, "runs-on",
                   "Invalid runs-on group name '%s'. Please use 'organization/' or 'enterprise/' "
                   "prefix to target a single runner group.",
                   t->s);
}

static bool any_expr(const struct yaml_node *n) {
    if (n->kind == YAML_SCALAR)
        return template_has_expr(n->text);
    for (size_t i = 0; i < n->n; i++)
        if (any_expr(n->items[i]) || (n->kind == YAML_MAP && any_expr(n->keys[i])))
            return true;
    return false;
}

/* A service needs an image; a job's container may have an empty one, which is none, unless it was
 * written as docker://. */
void check_container(struct reader *r, const struct plan_container *c, const struct yaml_node *n,
                     bool service) {
    if (!n || any_expr(n))
        return;
    const char *image = c->image.s;
    const char *docker = image ? startswith(image, "docker://") : NULL;
    bool missing = !image && n->kind == YAML_MAP;
    if (missing || (docker && !*docker) || (service && image && !*image))
        read_error(r, n->at, "container", "Container image cannot be empty");
}

void check_matrix(struct reader *r, const struct yaml_node *matrix) {
    if (!matrix || matrix->kind != YAML_MAP)
        return;
    bool vector = false, include = false;
    for (size_t i = 0; i < matrix->n; i++) {
        const struct yaml_node *v = matrix->items[i];
        if (yaml_is(matrix->keys[i], "include")) {
            include = include || v->kind != YAML_SEQ || v->n > 0;
        } else if (!yaml_is(matrix->keys[i], "exclude")) {
            vector = true;
            if (v->kind == YAML_SEQ && v->n == 0)
                read_error(r, v->at, "matrix",
                           "Matrix vector '" SV_FMT "' does not contain any values",
                           SV_ARG(matrix->keys[i]->text));
        }
    }
    if (!vector && !include)
        read_error(r, matrix->at, "matrix", "Matrix must define at least one vector");
}

void check_concurrency(struct reader *r, const struct plan_concurrency *c) {
    if (c->group.s && !c->group.expr && c->group.n > MAX_GROUP)
        read_error(r, c->at.line ? c->at : c->group.at, "concurrency",
                   "Concurrency group name must be less than 400 characters");
    if (c->queue.s && streq(c->queue.s, "max") && c->cancel_in_progress.s &&
        !c->cancel_in_progress.expr && streq(c->cancel_in_progress.s, "true"))
        read_error(r, c->queue.at, "concurrency",
                   "'queue: max' cannot be combined with 'cancel-in-progress: true'.");
}

void check_snapshot(struct reader *r, const struct yaml_node *n) {
    const struct yaml_node *v = n ? yaml_get(n, "version") : NULL;
    if (!v || v->kind != YAML_SCALAR || any_expr(v))
        return;
    struct sv version = v->text, major;
    uint64_t number;
    if (!sv_split(&version, '.', &major) || sv_u64(major, INT32_MAX, &number) < 0 ||
        !sv_eqs(version, "*"))
        read_error(r, n->at, "snapshot", "Expected format '{major-version}.*' Actual '" SV_FMT "'",
                   SV_ARG(v->text));
}

/* --- references ------------------------------------------------------------------------------- */

/* ./.github/workflows/FILE, $/.github/workflows/FILE or OWNER/REPO/.github/workflows/FILE@REF */
void check_call_uses(struct reader *r, const struct text *t) {
    struct sv uses = {t->s, t->n}, owner, repo;
    const char *why = NULL;
    ssize_t at = sv_chr(uses, '@');
    if (sv_starts(uses, "./") || sv_starts(uses, "$/")) {
        struct sv path = sv_sub(uses, 2, uses.n);
        if (at >= 0)
            why = "cannot specify version when calling local workflows";
        else if (!sv_starts(path, ".github/workflows/"))
            why = "references to workflows must be rooted in '.github/workflows'";
    } else if (at < 0 || (size_t)at + 1 == uses.n) {
        why = "no version specified";
    } else {
        struct sv path = sv_sub(uses, 0, (size_t)at);
        if (!sv_split(&path, '/', &owner) || !sv_split(&path, '/', &repo) || !owner.n || !repo.n ||
            !path.n)
            why =
                "references to workflows must be prefixed with format 'owner/repository/' or './'";
        else if (!sv_starts(path, ".github/workflows/"))
            why = "references to workflows must be rooted in '.github/workflows'";
    }
    if (why)
        read_error(r, t->at, "call", "invalid value workflow reference: %s", why);
}

bool uses_repository(struct sv uses, struct sv *ret_owner, struct sv *ret_repo) {
    struct sv *const parts[] = {ret_owner, ret_repo};
    ssize_t at = sv_chr(uses, '@');
    size_t n = 0, from = 0;
    if (at < 0 || (size_t)at + 1 == uses.n ||
        sv_chr(sv_sub(uses, (size_t)at + 1, uses.n), '@') >= 0)
        return false;
    for (size_t i = 0; i <= (size_t)at && n < 2; i++) {
        if (i < (size_t)at && uses.p[i] != '/' && uses.p[i] != '\\')
            continue;
        if (i > from)
            *parts[n++] = sv_sub(uses, from, i - from);
        from = i + 1;
    }
    return n == 2;
}

void check_step_uses(struct reader *r, const struct text *t) {
    struct sv uses = {t->s, t->n}, owner, repo;
    if (!t->s || sv_starts(uses, "docker://") || sv_starts(uses, "./") || sv_starts(uses, ".\\") ||
        sv_starts(uses, "$/"))
        return;
    if (!uses_repository(uses, &owner, &repo))
        read_error(r, t->at, "uses", "Expected format {org}/{repo}[/path]@ref. Actual '%s'", t->s);
}

/* --- inputs ----------------------------------------------------------------------------------- */

static void set_input_type(struct plan_input *in) {
    static const char *const names[] = {[INPUT_STRING] = "string",
                                        [INPUT_BOOLEAN] = "boolean",
                                        [INPUT_NUMBER] = "number",
                                        [INPUT_CHOICE] = "choice",
                                        [INPUT_ENVIRONMENT] = "environment"};
    for (size_t i = 0; in->type_text.s && i < ELEMENTS(names); i++)
        if (streq(names[i], in->type_text.s))
            in->type = (enum plan_input_type)i;
}

/* A called workflow's defaults have their type; those of a dispatch may be written as text. */
static bool default_fits(const struct plan_input *in, bool call) {
    const struct text *d = &in->dflt;
    if (!d->s || d->expr)
        return true;
    if (in->type == INPUT_BOOLEAN)
        return call ? d->type == TEXT_BOOL : streq(d->s, "true") || streq(d->s, "false");
    if (in->type == INPUT_NUMBER)
        return call ? d->type == TEXT_NUMBER : !isnan(val_parse_number(sv_from(d->s)));
    return true;
}

void check_input(struct reader *r, struct plan_input *in, const struct yaml_node *n, bool call) {
    set_input_type(in);
    struct span at = n ? n->at : in->at;
    bool options = n && yaml_get(n, "options");
    if (!default_fits(in, call))
        read_error(r, in->dflt.at, "value", "Unexpected value '%s'", in->dflt.s);
    if (call)
        return;
    if (in->type != INPUT_CHOICE) {
        if (options)
            read_error(r, at, "input", "Input type is not 'choice', but 'options' is defined");
        return;
    }
    if (!in->n_options) {
        read_error(r, at, "input", "Missing 'options' for choice input");
        return;
    }
    for (size_t i = 0; in->dflt.s && !in->dflt.expr; i++) {
        if (i == in->n_options) {
            read_error(r, in->dflt.at, "input",
                       "Input '%s': the default '%s' is not one of its options", in->name,
                       in->dflt.s);
            break;
        }
        if (streq(in->options[i], in->dflt.s))
            break;
    }
}
