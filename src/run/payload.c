/* Made in one arena. What the user gives with -e wins over what is made, key by key. */
#include "run/payload.h"

#include "run/payload_events.h"

#include <pwd.h>

#define NO_SHA "0000000000000000000000000000000000000000"

static bool is_pull(const char *event) {
    return startswith(event, "pull_request") != NULL;
}

/* A local user's name that can stand where a login stands: no blanks. */
static const char *actor_name(struct arena *a, const struct git_info *g) {
    const struct passwd *pw = getpwuid(getuid());
    const char *name = pw && pw->pw_name ? pw->pw_name : "user";
    if (g->author_name && *g->author_name)
        name = g->author_name;
    char *out = arena_strdup(a, name);
    for (char *p = out; *p; p++)
        if (*p == ' ' || (unsigned char)*p < 32)
            *p = '-';
    return out;
}

static const char *repository_name(struct arena *a, const struct git_info *g, const char *given) {
    if (given && strchr(given, '/'))
        return given;
    for (size_t pass = 0; pass < 2; pass++) /* origin before others */
        for (size_t i = 0; i < g->n_remotes; i++)
            if (g->remotes[i].owner && g->remotes[i].repo && (pass || streq0(g->remotes[i].name, "origin")))
                return arena_printf(a, "%s/%s", g->remotes[i].owner, g->remotes[i].repo);
    const char *base = strrchr(g->worktree, '/');
    return arena_printf(a, "local/%s", base && base[1] ? base + 1 : "repository");
}

static struct value *user(struct arena *a, const char *login, const char *email) {
    struct value *v = val_object(a);
    val_set_str(a, v, "login", login);
    val_set_str(a, v, "name", login);
    if (email)
        val_set_str(a, v, "email", email);
    val_set_str(a, v, "type", "User");
    return v;
}

static const struct value *repository(struct arena *a, const struct git_info *g, const char *full, const char *server) {
    struct value *v = val_object(a);
    const char *slash = strrchr(full, '/');
    const char *owner = arena_strndup(a, full, (size_t)(slash - full));
    val_set_str(a, v, "name", slash + 1);
    val_set_str(a, v, "full_name", full);
    val_sets(a, v, "private", &val_false);
    val_sets(a, v, "owner", user(a, owner, NULL));
    val_set_str(a, v, "html_url", arena_printf(a, "%s/%s", server, full));
    val_set_str(a, v, "url", arena_printf(a, "%s/%s", server, full));
    val_set_str(a, v, "clone_url", arena_printf(a, "%s/%s.git", server, full));
    val_set_str(a, v, "ssh_url", arena_printf(a, "git@%s:%s.git", strstr(server, "://") ? strstr(server, "://") + 3 : server, full));
    val_set_str(a, v, "default_branch", g->default_branch ? g->default_branch : "main");
    val_set_str(a, v, "master_branch", g->default_branch ? g->default_branch : "main");
    val_sets(a, v, "fork", &val_false);
    return v;
}

static const struct value *commit(struct arena *a, const struct git_info *g, const char *sha) {
    struct value *v = val_object(a);
    val_set_str(a, v, "id", sha);
    val_set_str(a, v, "message", g->message ? g->message : "");
    val_set_str(a, v, "timestamp", g->committer_date ? g->committer_date : "");
    struct value *who = user(a, g->author_name ? g->author_name : "", g->author_email ? g->author_email : "");
    val_sets(a, v, "author", who);
    val_sets(a, v, "committer", who);
    val_sets(a, v, "distinct", &val_true);
    return v;
}

/* Objects merged, `over` wins. */
static const struct value *merge(struct arena *a, const struct value *under, const struct value *over) {
    if (!under || under->kind != VAL_OBJECT || over->kind != VAL_OBJECT)
        return over;
    struct value *v = val_object(a);
    for (size_t i = 0; i < under->n; i++)
        val_set(a, v, under->keys[i], under->items[i]);
    for (size_t i = 0; i < over->n; i++)
        val_set(a, v, over->keys[i], merge(a, val_get(under, over->keys[i]), over->items[i]));
    return v;
}

/* Sets ref, branch or tag, and sha. */
static int set_ref(struct payload *p, const char *dir, const struct git_info *g, const char *given, struct err *e) {
    struct arena *a = &p->arena;
    char sha[41];
    const char *ref = NULL;
    if (given && startswith(given, "refs/"))
        ref = given;
    else if (given) {
        _cleanup_free_ char *tag = xasprintf("refs/tags/%s", given);
        bool is_tag = !g->bare_repo_missing && git_resolve(dir, tag, sha, NULL) == 0;
        ref = is_tag ? arena_strdup(a, tag) : arena_printf(a, "refs/heads/%s", given);
    } else if (g->branch) {
        ref = arena_printf(a, "refs/heads/%s", g->branch);
    } else if (g->tag) {
        ref = arena_printf(a, "refs/tags/%s", g->tag);
    } else {
        ref = arena_printf(a, "refs/heads/%s", g->default_branch ? g->default_branch : "main");
    }
    const char *rest;
    if ((rest = startswith(ref, "refs/heads/")))
        p->branch = rest;
    else if ((rest = startswith(ref, "refs/tags/")))
        p->tag = rest;
    else if (!startswith(ref, "refs/pull/"))
        return err_set(e, ERR_USER, -EINVAL, "--ref %s: neither a branch nor a tag", ref);
    p->event.ref = ref;
    /* The work tree stands for the ref: another branch is simulated, its own commit is used when the
     * branch exists and is not what is checked out. */
    p->event.sha = g->head_sha;
    bool other = given && !(g->branch && p->branch && streq(g->branch, p->branch));
    if (other && !g->bare_repo_missing && git_resolve(dir, ref, sha, NULL) == 0 && p->tag)
        p->event.sha = arena_strdup(a, sha);
    return 0;
}

static void read_changed(struct payload *p) {
    const struct git_info *g = p->git;
    const char *dir = p->dir;
    char sha[41];
    if (g->bare_repo_missing || streq(g->head_sha, NO_SHA))
        return;
    if (is_pull(p->event.name)) {
        _cleanup_free_ char *remote = xasprintf("refs/remotes/origin/%s", p->base);
        if (git_merge_base(dir, remote, "HEAD", sha, NULL) == 0 || git_merge_base(dir, p->base, "HEAD", sha, NULL) == 0)
            p->changed_known = git_changed(dir, sha, NULL, &p->changed, NULL) == 0;
        return;
    }
    if (p->tag)
        return; /* path filters are not evaluated for tags */
    /* What a push would bring: everything that the upstream branch does not have. */
    if (g->upstream && git_resolve(dir, g->upstream, sha, NULL) == 0)
        p->changed_known = git_changed(dir, sha, NULL, &p->changed, NULL) == 0;
    if (p->changed_known && p->changed.n)
        return;
    strv_done(&p->changed);
    if (g->parent_sha)
        p->changed_known = git_changed(dir, g->parent_sha, NULL, &p->changed, NULL) == 0;
    else
        p->changed_known = git_ls_tree(dir, "HEAD", NULL, &p->changed, NULL) == 0;
}

void payload_set_changed(struct payload *p, struct sv list) {
    struct sv line;
    strv_done(&p->changed);
    while (sv_line(&list, &line))
        strv_addn(&p->changed, line.p, line.n);
    p->changed_known = p->changed_read = true;
    p->event.changed = &p->changed;
}

void payload_changed(struct payload *p) {
    if (!p->changed_read)
        read_changed(p);
    p->changed_read = true;
    p->event.changed = p->changed_known ? &p->changed : NULL;
}

static void fill_push(struct payload *p, struct value *v, const char *dir, const struct git_info *g) {
    struct arena *a = &p->arena;
    char sha[41];
    const char *before = NO_SHA;
    if (!g->bare_repo_missing && g->upstream && git_resolve(dir, g->upstream, sha, NULL) == 0)
        before = arena_strdup(a, sha);
    else if (g->parent_sha)
        before = g->parent_sha;
    val_set_str(a, v, "ref", p->event.ref);
    val_set_str(a, v, "before", before);
    val_set_str(a, v, "after", p->event.sha);
    val_sets(a, v, "created", val_bool(streq(before, NO_SHA)));
    val_sets(a, v, "deleted", &val_false);
    val_sets(a, v, "forced", &val_false);
    val_sets(a, v, "base_ref", &val_null);
    val_sets(a, v, "pusher", user(a, p->event.actor, g->author_email));
    const struct value *c = commit(a, g, p->event.sha);
    struct value *list = val_array(a);
    val_push(a, list, c);
    val_sets(a, v, "commits", list);
    val_sets(a, v, "head_commit", c);
}

static const char *base_sha(struct payload *p, const char *dir, const struct git_info *g, const char *base) {
    char sha[41] = NO_SHA;
    if (!g->bare_repo_missing && (streq(p->event.name, "merge_group") || is_pull(p->event.name))) {
        _cleanup_free_ char *remote = xasprintf("refs/remotes/origin/%s", base);
        if (git_resolve(dir, remote, sha, NULL) < 0)
            git_resolve(dir, base, sha, NULL);
    }
    return arena_strdup(&p->arena, sha);
}

static void fill_pull(struct payload *p, struct value *v, const char *dir, const struct git_info *g, const char *base, const struct value *repo) {
    struct arena *a = &p->arena;
    const char *head = p->branch ? p->branch : g->branch ? g->branch : "head";
    const char *number = "1";
    struct value *pr = val_object(a), *h = val_object(a), *b = val_object(a);
    val_sets(a, v, "number", val_number(a, 1));
    val_sets(a, pr, "number", val_number(a, 1));
    val_set_str(a, pr, "state", "open");
    val_set_str(a, pr, "title", g->message ? arena_strndup(a, g->message, strcspn(g->message, "\n")) : "");
    val_set_str(a, pr, "body", "");
    val_sets(a, pr, "draft", &val_false);
    val_sets(a, pr, "merged", &val_false);
    val_sets(a, pr, "user", user(a, p->event.actor, NULL));
    val_sets(a, pr, "labels", val_array(a));
    val_set_str(a, h, "ref", head);
    val_set_str(a, h, "sha", g->head_sha);
    val_sets(a, h, "repo", repo);
    val_set_str(a, b, "ref", base);
    val_set_str(a, b, "sha", base_sha(p, dir, g, base));
    val_sets(a, b, "repo", repo);
    val_sets(a, pr, "head", h);
    val_sets(a, pr, "base", b);
    val_sets(a, v, "pull_request", pr);
    p->event.head_ref = head;
    p->event.base_ref = base;
    p->event.pr_id = number;
    /* pull_request_target runs in the context of the base branch */
    p->event.ref = streq(p->event.name, "pull_request_target") ? arena_printf(a, "refs/heads/%s", base) : arena_printf(a, "refs/pull/%s/merge", number);
}

static void fill_inputs(struct payload *p, struct value *v, const struct strv *inputs) {
    struct arena *a = &p->arena;
    struct value *o = val_object(a);
    for (size_t i = 0; inputs && i < inputs->n; i++) {
        const char *eq = strchr(inputs->v[i], '=');
        if (eq)
            val_set(a, o, sv_n(inputs->v[i], (size_t)(eq - inputs->v[i])), val_str(a, eq + 1));
    }
    val_sets(a, v, "inputs", o);
    val_set_str(a, v, "ref", p->event.ref);
}

int payload_make(struct payload *p, const char *dir, const struct git_info *g, const struct payload_input *in, struct err *e) {
    *p = (struct payload){0};
    struct arena *a = &p->arena;
    p->event.name = in->event;
    p->event.server_url = "https://github.com";
    for (size_t i = 0; i < g->n_remotes && i < 1; i++)
        if (g->remotes[i].host && *g->remotes[i].host)
            p->event.server_url = arena_printf(a, "https://%s", g->remotes[i].host);
    p->event.repository = repository_name(a, g, in->repository);
    p->event.actor = in->actor ? in->actor : actor_name(a, g);
    int r = set_ref(p, dir, g, in->ref, e);
    if (r < 0) {
        payload_done(p);
        return r;
    }
    const struct value *given = in->given ? val_from_json(a, in->given) : NULL;
    const struct value *act = given ? val_gets(given, "action") : NULL;
    p->action = act && act->kind == VAL_STRING ? act->str.p : in->action ? in->action : payload_usual_action(in->event);
    const char *base = in->base ? in->base : g->default_branch ? g->default_branch : "main";
    const char *rest = startswith(base, "refs/heads/");
    base = rest ? rest : base;
    struct value *v = val_object(a);
    const struct value *repo = repository(a, g, p->event.repository, p->event.server_url);
    if (p->action)
        val_set_str(a, v, "action", p->action);
    if (streq(in->event, "push"))
        fill_push(p, v, dir, g);
    else if (is_pull(in->event))
        fill_pull(p, v, dir, g, base, repo);
    else if (streq(in->event, "workflow_dispatch"))
        fill_inputs(p, v, in->inputs);
    const struct value *sender = user(a, p->event.actor, NULL);
    struct payload_facts facts = {
        .action = p->action, .server_url = p->event.server_url, .repository = p->event.repository,
        .default_branch = g->default_branch ? g->default_branch : "main", .base = base,
        .branch = p->branch, .tag = p->tag, .sha = p->event.sha, .base_sha = base_sha(p, dir, g, base),
        .title = g->message ? arena_strndup(a, g->message, strcspn(g->message, "\n")) : "",
        .date = g->committer_date ? g->committer_date : "", .sender = sender,
        .repository_value = repo, .commit = commit(a, g, p->event.sha)};
    const char *usual_ref = in->ref ? NULL : payload_usual_ref(a, in->event, &facts);
    p->event.ref = facts.ref = usual_ref ? usual_ref : p->event.ref;
    payload_fill(a, in->event, &facts, v);
    val_sets(a, v, "repository", repo);
    val_sets(a, v, "sender", sender);
    p->dir = dir;
    p->git = g;
    p->base = base;
    p->event.payload = given ? merge(a, v, given) : v;
    return 0;
}

const char *payload_base_branch(const struct payload *p) {
    return streq(p->event.name, "merge_group") ? p->base : p->event.base_ref;
}

const char *payload_workflow(const struct payload *p) {
    if (!streq(p->event.name, "workflow_run"))
        return NULL;
    const struct value *run = val_gets(p->event.payload, "workflow_run");
    const struct value *name = run && run->kind == VAL_OBJECT ? val_gets(run, "name") : NULL;
    return name && name->kind == VAL_STRING && name->str.n ? name->str.p : NULL;
}

void payload_done(struct payload *p) {
    strv_done(&p->changed);
    arena_done(&p->arena);
}
