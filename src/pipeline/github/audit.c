/* What an attacker could use. The question is always the same: can somebody who may not write to
 * the repository decide what runs, with which token, or read what is secret? Sources: GitHub's
 * "Secure use reference" and the security lab's articles on workflows. */
#include "pipeline/github/lint.h"
#include "pipeline/github/read.h"

/* --- texts of outsiders --------------------------------------------------------------------------- */

/* `*` stands for an item of a list. */
static const char *const untrusted[] = {
    "github.head_ref", "github.event.issue.title", "github.event.issue.body",
    "github.event.pull_request.title", "github.event.pull_request.body",
    "github.event.pull_request.head.ref", "github.event.pull_request.head.label",
    "github.event.pull_request.head.repo.default_branch",
    "github.event.pull_request.head.repo.description",
    "github.event.pull_request.head.repo.homepage", "github.event.comment.body",
    "github.event.review.body", "github.event.review_comment.body", "github.event.pages.*.page_name",
    "github.event.commits.*.message", "github.event.commits.*.author.email",
    "github.event.commits.*.author.name", "github.event.head_commit.message",
    "github.event.head_commit.author.email", "github.event.head_commit.author.name",
    "github.event.discussion.title", "github.event.discussion.body",
    "github.event.workflow_run.head_branch", "github.event.workflow_run.display_title",
    "github.event.workflow_run.head_commit.message",
    "github.event.workflow_run.head_commit.author.email",
    "github.event.workflow_run.head_commit.author.name",
    "github.event.workflow_run.head_repository.description",
    "github.event.workflow_run.pull_requests.*.head.ref", "github.event.release.name",
    "github.event.milestone.title", "github.event.milestone.description", NULL};

enum { MAX_PATH = 16 };
struct path {
    struct sv names[MAX_PATH]; /* "*": any one */
    size_t n;
};

/* a.b[0].c as names; false when it does not begin with a context. */
static bool flatten(const struct expr_node *n, struct path *p) {
    if (n->kind == NODE_GROUP)
        return flatten(n->kids[0], p);
    if (n->kind == NODE_CONTEXT) {
        p->names[0] = n->name;
        p->n = 1;
        return true;
    }
    if (n->kind != NODE_INDEX || !flatten(n->kids[0], p) || p->n == MAX_PATH)
        return false;
    const struct expr_node *by = n->kids[1];
    struct sv name = SV("*");
    if (n->name.n)
        name = n->name;
    else if (by->kind == NODE_LITERAL && by->value->kind == VAL_STRING)
        name = by->value->str;
    p->names[p->n++] = name;
    return true;
}

/* whole: also when the path leads to something that holds such a text. */
static const char *match_path(const struct path *p, bool whole) {
    for (const char *const *u = untrusted; *u; u++) {
        struct sv rest = sv_from(*u), name;
        size_t i = 0;
        bool ok = true;
        while (ok && i < p->n && sv_split(&rest, '.', &name)) {
            bool any = sv_eqs(name, "*") || sv_eqs(p->names[i], "*");
            ok = any || (name.n == p->names[i].n && strncasecmp(name.p, p->names[i].p, name.n) == 0);
            i++;
        }
        if (ok && i == p->n && (!rest.p || (whole && p->n > 1)))
            return *u;
    }
    return NULL;
}

static const char *find_untrusted(const struct expr_node *n, bool whole) {
    struct path p = {.n = 0};
    switch (n->kind) {
    case NODE_CONTEXT:
    case NODE_INDEX:
        return flatten(n, &p) ? match_path(&p, whole) : NULL;
    case NODE_CALL:
        if (n->fn == FN_TOJSON)
            whole = true;
        else if (n->fn != FN_FORMAT && n->fn != FN_JOIN && n->fn != FN_FROMJSON && n->fn != FN_CASE)
            return NULL; /* a boolean, or a digest */
        break;
    case NODE_AND:
    case NODE_OR:
    case NODE_GROUP:
        break;
    default:
        return NULL;
    }
    for (size_t i = 0; i < n->n; i++) {
        const char *found = find_untrusted(n->kids[i], whole);
        /* What stands before a && is only its condition, unless it is false. */
        if (found && !(n->kind == NODE_AND && i + 1 < n->n))
            return found;
    }
    return NULL;
}

const char *audit_untrusted(struct lint *l, const struct expr_node *n) {
    (void)l;
    return find_untrusted(n, false);
}

/* Inputs of actions that are programs. */
static bool is_script(const struct plan_expr *e) {
    static const struct {
        const char *action, *input;
    } scripts[] = {{"actions/github-script", "script"},  {"azure/cli", "inlineScript"},
                   {"azure/powershell", "inlineScript"}, {"appleboy/ssh-action", "script"},
                   {"nick-fields/retry", "command"},     {"nick-invision/retry", "command"},
                   {"addnab/docker-run-action", "run"},  {"cardinalby/js-eval-action", "expression"}};
    if (!e->step || !e->key)
        return false;
    if (streq(e->key, "run"))
        return true;
    for (size_t i = 0; streq(e->key, "with") && e->name && i < ELEMENTS(scripts); i++)
        if (uses_is(&e->step->uses, scripts[i].action) && strcasecmp(e->name, scripts[i].input) == 0)
            return true;
    return false;
}

/* --- expressions ---------------------------------------------------------------------------------- */

static bool is_event(const struct plan *p, const char *name) {
    return plan_trigger_find(p, name) != NULL;
}

/* Runs with the repository's token and secrets on what outsiders send. */
static bool privileged(const struct plan *p) {
    return is_event(p, "pull_request_target") || is_event(p, "workflow_run") ||
           is_event(p, "issue_comment") || is_event(p, "issues") || is_event(p, "discussion") ||
           is_event(p, "discussion_comment");
}

static bool is_context(const struct expr_node *n, const char *name) {
    return n->kind == NODE_CONTEXT && sv_ieqs(n->name, name);
}

static bool is_path(const struct expr_node *n, const char *dotted) {
    struct path p = {.n = 0};
    struct sv rest = sv_from(dotted), name;
    if ((n->kind != NODE_INDEX && n->kind != NODE_GROUP) || !flatten(n, &p))
        return false;
    for (size_t i = 0; i < p.n; i++)
        if (!sv_split(&rest, '.', &name) || name.n != p.names[i].n ||
            strncasecmp(name.p, p.names[i].p, name.n) != 0)
            return false;
    return !rest.p;
}

static bool is_text(const struct expr_node *n) {
    return n->kind == NODE_LITERAL && n->value->kind == VAL_STRING;
}

static void audit_node(struct lint *l, const struct plan_expr *e, const struct expr_node *n) {
    struct span at = lint_place(e, n);
    if (n->kind == NODE_CALL && n->fn == FN_TOJSON && is_context(n->kids[0], "secrets"))
        lint_warn(l, at, "all-secrets", NULL, "all secrets are handed over at once");
    if (n->kind == NODE_INDEX && !n->name.n && is_context(n->kids[0], "secrets") &&
        n->kids[1]->kind != NODE_LITERAL)
        lint_warn(l, at, "all-secrets", NULL,
                  "a secret chosen when it runs: every secret is sent to the runner");
    if (n->kind == NODE_INDEX && n->kids[0]->kind == NODE_CALL && n->kids[0]->fn == FN_FROMJSON &&
        n->kids[0]->kids[0]->kind == NODE_INDEX && is_context(n->kids[0]->kids[0]->kids[0], "secrets"))
        lint_warn(l, at, "unmasked-secret", NULL, "a part of a secret is not masked in logs");
    if (n->kind == NODE_CALL && n->fn == FN_CONTAINS && is_text(n->kids[0]) &&
        (is_path(n->kids[1], "github.ref") || is_path(n->kids[1], "github.ref_name") ||
         is_path(n->kids[1], "github.head_ref") || is_path(n->kids[1], "github.base_ref") ||
         is_path(n->kids[1], "github.actor") || is_path(n->kids[1], "github.event_name")))
        lint_warn(l, at, "unsound-contains", NULL,
                  "a part of this text is enough to be contained in it");
    if (n->kind == NODE_EQ || n->kind == NODE_NE) {
        for (size_t i = 0; i < 2; i++) {
            const struct expr_node *who = n->kids[i], *text = n->kids[!i];
            if (is_text(text) && sv_ends(text->value->str, "[bot]") && privileged(l->p) &&
                (is_path(who, "github.actor") || is_path(who, "github.triggering_actor")))
                lint_warn(l, at, "bot-condition", NULL,
                          "the last one who acted is a bot: that says nothing about who wrote what runs");
        }
    }
    for (size_t i = 0; i < n->n; i++)
        audit_node(l, e, n->kids[i]);
}

/* A secret that is part of the value; comparisons and most functions only give true or false. */
static const struct expr_node *find_secret(const struct expr_node *n) {
    if (n->kind == NODE_INDEX && is_context(n->kids[0], "secrets"))
        return n;
    if (n->kind == NODE_NOT || (n->kind >= NODE_EQ && n->kind <= NODE_GE) ||
        (n->kind == NODE_CALL && n->fn != FN_FORMAT && n->fn != FN_JOIN && n->fn != FN_TOJSON &&
         n->fn != FN_FROMJSON && n->fn != FN_CASE))
        return NULL;
    for (size_t i = 0; i < n->n; i++) {
        const struct expr_node *found = find_secret(n->kids[i]);
        if (found)
            return found;
    }
    return NULL;
}

static void audit_exprs(struct lint *l) {
    for (size_t i = 0; i < l->p->n_exprs; i++) {
        const struct plan_expr *e = &l->p->exprs[i];
        const struct expr_node *root = e->x->root, *secret;
        if (!root)
            continue;
        audit_node(l, e, root);
        if (!is_script(e))
            continue;
        const char *found = audit_untrusted(l, root);
        if (found)
            lint_warn(l, lint_place(e, root), "template-injection", NULL,
                      "%s is written by outsiders, and becomes part of the program here", found);
        else if ((secret = find_secret(root)))
            lint_warn(l, lint_place(e, secret), "secret-in-command", NULL,
                      "the secret becomes part of the program's text");
    }
}

/* --- steps ---------------------------------------------------------------------------------------- */

static const struct text *input_of(const struct plan_step *s, const char *name) {
    for (size_t i = 0; i < s->with.n; i++)
        if (strcasecmp(s->with.items[i].key.s, name) == 0)
            return &s->with.items[i].value;
    return NULL;
}

static bool mentions(const char *s, const char *const *words) {
    for (; s && *words; words++)
        if (strcasestr(s, *words))
            return true;
    return false;
}

static void audit_checkout(struct lint *l, const struct plan_step *s) {
    static const char *const heads[] = {"pull_request.head.", "github.head_ref", "refs/pull/",
                                        "workflow_run.head_", "merge_commit_sha", NULL};
    const struct text *ref = input_of(s, "ref"), *repository = input_of(s, "repository");
    bool outside = (ref && mentions(ref->s, heads)) || (repository && mentions(repository->s, heads));
    if (outside && privileged(l->p))
        lint_warn(l, (ref ? ref : repository)->at, "untrusted-checkout", NULL,
                  "the code of an outsider is checked out where the token may write and secrets are "
                  "at hand");
}

static bool commit_id(const char *s) {
    size_t n = strspn(s, "0123456789abcdef");
    return !s[n] && (n == 40 || n == 64);
}

static void audit_uses(struct lint *l, const struct text *t) {
    if (!t->s || t->expr || startswith(t->s, "./") || startswith(t->s, "$/"))
        return;
    const char *image = startswith(t->s, "docker://"), *ref = strrchr(t->s, '@');
    if (image) {
        if (!strstr(image, "@sha256:"))
            lint_warn(l, t->at, "unpinned-image", NULL, "%s can be another image tomorrow", t->s);
        return;
    }
    bool github = strncasecmp(t->s, "actions/", 8) == 0 || strncasecmp(t->s, "github/", 7) == 0;
    if (!github && ref && !commit_id(ref + 1))
        lint_warn(l, t->at, "unpinned-action", NULL,
                  "%s can be moved by whoever owns it: its code runs with this job's token", t->s);
}

static void audit_step(struct lint *l, const struct plan_job *j, const struct plan_step *s) {
    static const char *const files[] = {"GITHUB_ENV", "GITHUB_PATH", NULL};
    (void)j;
    audit_uses(l, &s->uses);
    if (uses_is(&s->uses, "actions/checkout"))
        audit_checkout(l, s);
    if ((is_event(l->p, "pull_request_target") || is_event(l->p, "workflow_run")) &&
        mentions(s->run.s, files) && strstr(s->run.s, ">>"))
        lint_warn(l, s->run.at, "env-injection", NULL,
                  "what outsiders send may reach the environment of the steps that follow");
}

/* A checkout leaves the token in .git; an upload of the whole folder gives it away. */
static void audit_artifacts(struct lint *l, const struct plan_job *j) {
    const struct plan_step *checkout = NULL;
    for (size_t i = 0; i < j->n_steps; i++) {
        const struct plan_step *s = &j->steps[i];
        const struct text *keep = input_of(s, "persist-credentials"), *path = input_of(s, "path");
        if (uses_is(&s->uses, "actions/checkout"))
            checkout = keep && streq(keep->s, "false") ? checkout : s;
        if (!checkout || !uses_is(&s->uses, "actions/upload-artifact") || !path)
            continue;
        struct sv rest = {path->s, path->n}, line;
        while (sv_line(&rest, &line)) {
            line = sv_trim(line);
            if (sv_eqs(line, ".") || sv_eqs(line, "./") || sv_eqs(line, "*") || sv_eqs(line, "**") ||
                sv_eqs(line, "${{ github.workspace }}") || sv_starts(line, ".git"))
                lint_warn(l, path->at, "credentials-in-artifact", NULL,
                          "the artifact holds .git, where the checkout of line %u left the token",
                          checkout->at.line);
        }
    }
}

/* --- jobs ----------------------------------------------------------------------------------------- */

static void audit_container(struct lint *l, const struct plan_container *c) {
    if (c->password.s && !c->password.expr && *c->password.s)
        lint_warn(l, c->password.at, "hardcoded-credentials", NULL,
                  "a password stands in the file itself");
    if (!c->image.s || c->image.expr || !*c->image.s || strchr(c->image.s, '@'))
        return;
    const char *slash = strrchr(c->image.s, '/'), *colon = strchr(slash ? slash : c->image.s, ':');
    if (!colon || streq(colon, ":latest"))
        lint_warn(l, c->image.at, "unpinned-image", NULL, "%s can be another image tomorrow",
                  c->image.s);
}

static void audit_permissions(struct lint *l, const struct plan_permissions *p, bool whole,
                              size_t jobs) {
    if (p->all && streq(p->all, "write-all"))
        lint_warn(l, p->all_text.at, "excessive-permissions", NULL,
                  "the token may write everything");
    for (size_t i = 0; whole && jobs > 1 && i < p->n; i++)
        if (p->items[i].value.s && streq(p->items[i].value.s, "write"))
            lint_warn(l, p->items[i].key.at, "excessive-permissions",
                      "give it to the job that needs it",
                      "every job of the workflow gets \"%s: write\"", p->items[i].key.s);
}

static void audit_env(struct lint *l, const struct text_map *m) {
    for (size_t i = 0; i < m->n; i++)
        if (strcasecmp(m->items[i].key.s, "ACTIONS_ALLOW_UNSECURE_COMMANDS") == 0)
            lint_warn(l, m->items[i].key.at, "insecure-commands", NULL,
                      "any output of a step may then set environment variables");
}

static void audit_env_step(struct lint *l, const struct plan_job *j, const struct plan_step *s) {
    (void)j;
    audit_env(l, &s->env);
}

static void audit_job(struct lint *l, const struct plan_job *j) {
    bool own = false;
    for (size_t i = 0; i < j->runs_on.n; i++)
        own = own || streq(j->runs_on.items[i].s, "self-hosted");
    if (own && (is_event(l->p, "pull_request") || is_event(l->p, "pull_request_target")))
        lint_warn(l, j->runs_on.items[0].at, "self-hosted-runner", NULL,
                  "a pull request of anybody runs on a machine of yours");
    audit_permissions(l, &j->permissions, false, 0);
    audit_container(l, &j->container);
    for (size_t i = 0; i < j->n_services; i++)
        audit_container(l, &j->services[i]);
    audit_env(l, &j->env);
    if (j->call) {
        audit_uses(l, &j->call->uses);
        if (j->call->inherit_secrets)
            lint_warn(l, j->call->uses.at, "secrets-inherit", NULL,
                      "the called workflow gets every secret");
    }
    audit_artifacts(l, j);
    lint_steps(l, j, audit_step);
    lint_steps(l, j, audit_env_step);
}

void audit_plan(struct lint *l) {
    const struct plan *p = l->p;
    audit_exprs(l);
    audit_permissions(l, &p->permissions, true, p->n_jobs);
    audit_env(l, &p->env);
    bool said = p->permissions.given;
    for (size_t i = 0; i < p->n_jobs; i++) {
        said = said || p->jobs[i].permissions.given;
        audit_job(l, &p->jobs[i]);
    }
    const struct plan_trigger *on = plan_trigger_find(p, "pull_request_target");
    on = on ? on : plan_trigger_find(p, "workflow_run");
    if (on && !said)
        lint_warn(l, on->at, "default-permissions", NULL,
                  "%s gives the repository's default token to what outsiders send", on->event);
}
