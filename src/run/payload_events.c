/* What is particular to each event, beside the push and the pull request: the object that the event is
 * about, with the fields that workflows read (GitHub's documentation "Webhook events and payloads").
 * Nothing of it happened; numbers are 1, texts are empty or speak of the last commit. */
#include "run/payload_events.h"

struct made {
    struct arena *a;
    const struct payload_facts *f;
    struct value *v; /* the payload */
};

static void str(struct made *m, struct value *o, const char *key, const char *s) {
    val_set_str(m->a, o, key, s ? s : "");
}

static void num(struct made *m, struct value *o, const char *key, double d) {
    val_sets(m->a, o, key, val_number(m->a, d));
}

static struct value *obj(struct made *m, struct value *in, const char *key) {
    struct value *o = val_object(m->a);
    val_sets(m->a, in, key, o);
    return o;
}

static void list(struct made *m, struct value *o, const char *key) {
    val_sets(m->a, o, key, val_array(m->a));
}

/* What issues, discussions and comments have in common. */
static struct value *post(struct made *m, const char *key, const char *path) {
    const struct payload_facts *f = m->f;
    struct value *o = obj(m, m->v, key);
    num(m, o, "id", 1);
    val_set_str(m->a, o, "node_id", "");
    str(m, o, "html_url", arena_printf(m->a, "%s/%s/%s", f->server_url, f->repository, path));
    val_sets(m->a, o, "user", f->sender);
    str(m, o, "body", "");
    str(m, o, "author_association", "OWNER");
    str(m, o, "created_at", f->date);
    str(m, o, "updated_at", f->date);
    return o;
}

static struct value *numbered(struct made *m, const char *key, const char *path) {
    struct value *o = post(m, key, path);
    num(m, o, "number", 1);
    str(m, o, "title", m->f->title);
    str(m, o, "state", "open");
    val_sets(m->a, o, "locked", &val_false);
    num(m, o, "comments", 0);
    list(m, o, "labels");
    list(m, o, "assignees");
    return o;
}

static void label(struct made *m) {
    struct value *o = obj(m, m->v, "label");
    num(m, o, "id", 1);
    str(m, o, "name", "bug");
    str(m, o, "color", "d73a4a");
    str(m, o, "description", "");
    val_sets(m->a, o, "default", &val_true);
}

static void milestone(struct made *m) {
    struct value *o = obj(m, m->v, "milestone");
    num(m, o, "number", 1);
    str(m, o, "title", "next");
    str(m, o, "state", "open");
    str(m, o, "description", "");
    num(m, o, "open_issues", 0);
    num(m, o, "closed_issues", 0);
}

static void issues(struct made *m) {
    numbered(m, "issue", "issues/1");
    const char *action = m->f->action;
    if (action && strstr(action, "labeled"))
        label(m);
    if (action && strstr(action, "milestoned"))
        milestone(m);
    if (action && strstr(action, "assigned"))
        val_sets(m->a, m->v, "assignee", m->f->sender);
}

static void issue_comment(struct made *m) {
    numbered(m, "issue", "issues/1");
    post(m, "comment", "issues/1#issuecomment-1");
}

static void discussion(struct made *m) {
    struct value *o = numbered(m, "discussion", "discussions/1"), *c = obj(m, o, "category");
    str(m, c, "name", "General");
    str(m, c, "slug", "general");
    if (m->f->action && strstr(m->f->action, "labeled"))
        label(m);
}

static void discussion_comment(struct made *m) {
    discussion(m);
    post(m, "comment", "discussions/1#discussioncomment-1");
}

static void release(struct made *m) {
    const struct payload_facts *f = m->f;
    struct value *o = obj(m, m->v, "release");
    const char *tag = f->tag ? f->tag : "v1.0.0";
    num(m, o, "id", 1);
    str(m, o, "tag_name", tag);
    str(m, o, "name", tag);
    str(m, o, "target_commitish", f->default_branch);
    str(m, o, "body", "");
    str(m, o, "html_url", arena_printf(m->a, "%s/%s/releases/tag/%s", f->server_url, f->repository, tag));
    val_sets(m->a, o, "draft", &val_false);
    val_sets(m->a, o, "prerelease", val_bool(f->action && streq(f->action, "prereleased")));
    val_sets(m->a, o, "author", f->sender);
    str(m, o, "created_at", f->date);
    str(m, o, "published_at", f->date);
    list(m, o, "assets");
}

static void ref_event(struct made *m) {
    str(m, m->v, "ref", m->f->tag ? m->f->tag : m->f->branch);
    str(m, m->v, "ref_type", m->f->tag ? "tag" : "branch");
    str(m, m->v, "pusher_type", "user");
}

static void create(struct made *m) {
    ref_event(m);
    str(m, m->v, "master_branch", m->f->default_branch);
    val_sets(m->a, m->v, "description", &val_null);
}

static struct value *deployment_of(struct made *m) {
    struct value *o = obj(m, m->v, "deployment");
    num(m, o, "id", 1);
    str(m, o, "sha", m->f->sha);
    str(m, o, "ref", m->f->branch ? m->f->branch : m->f->tag);
    str(m, o, "task", "deploy");
    str(m, o, "environment", "production");
    str(m, o, "original_environment", "production");
    obj(m, o, "payload");
    val_sets(m->a, o, "creator", m->f->sender);
    return o;
}

static void deployment(struct made *m) {
    deployment_of(m);
}

static void deployment_status(struct made *m) {
    deployment_of(m);
    struct value *o = obj(m, m->v, "deployment_status");
    num(m, o, "id", 1);
    str(m, o, "state", "success");
    str(m, o, "environment", "production");
    str(m, o, "target_url", "");
    str(m, o, "environment_url", "");
    val_sets(m->a, o, "creator", m->f->sender);
}

static struct value *check(struct made *m, struct value *in, const char *key) {
    struct value *o = obj(m, in, key);
    num(m, o, "id", 1);
    str(m, o, "head_sha", m->f->sha);
    str(m, o, "head_branch", m->f->branch);
    str(m, o, "status", "completed");
    str(m, o, "conclusion", "success");
    list(m, o, "pull_requests");
    return o;
}

static void check_suite(struct made *m) {
    struct value *o = check(m, m->v, "check_suite");
    val_sets(m->a, o, "head_commit", m->f->commit);
}

static void check_run(struct made *m) {
    struct value *o = check(m, m->v, "check_run");
    str(m, o, "name", "check");
    check(m, o, "check_suite");
}

static void workflow_run(struct made *m) {
    const struct payload_facts *f = m->f;
    struct value *o = obj(m, m->v, "workflow_run"), *w = obj(m, m->v, "workflow");
    num(m, o, "id", 1);
    num(m, o, "run_number", 1);
    num(m, o, "run_attempt", 1);
    num(m, o, "workflow_id", 1);
    str(m, o, "name", ""); /* which one is not known: filters by name let it pass */
    str(m, o, "display_title", f->title);
    str(m, o, "path", ".github/workflows/ci.yml");
    str(m, o, "event", "push");
    str(m, o, "head_branch", f->branch);
    str(m, o, "head_sha", f->sha);
    str(m, o, "status", f->action && !streq(f->action, "completed") ? f->action : "completed");
    if (f->action && !streq(f->action, "completed"))
        val_sets(m->a, o, "conclusion", &val_null);
    else
        str(m, o, "conclusion", "success");
    val_sets(m->a, o, "actor", f->sender);
    val_sets(m->a, o, "triggering_actor", f->sender);
    val_sets(m->a, o, "head_commit", f->commit);
    val_sets(m->a, o, "repository", f->repository_value);
    val_sets(m->a, o, "head_repository", f->repository_value);
    list(m, o, "pull_requests");
    str(m, o, "html_url", arena_printf(m->a, "%s/%s/actions/runs/1", f->server_url, f->repository));
    str(m, o, "created_at", f->date);
    num(m, w, "id", 1);
    str(m, w, "name", "");
    str(m, w, "path", ".github/workflows/ci.yml");
    str(m, w, "state", "active");
}

static void merge_group(struct made *m) {
    const struct payload_facts *f = m->f;
    struct value *o = obj(m, m->v, "merge_group");
    str(m, o, "head_sha", f->sha);
    str(m, o, "head_ref", f->ref);
    str(m, o, "base_ref", arena_printf(m->a, "refs/heads/%s", f->base));
    str(m, o, "base_sha", f->base_sha);
    val_sets(m->a, o, "head_commit", f->commit);
}

static void review(struct made *m) {
    struct value *o = post(m, "review", "pull/1#pullrequestreview-1");
    str(m, o, "state", "commented");
    str(m, o, "commit_id", m->f->sha);
    str(m, o, "submitted_at", m->f->date);
}

static void review_comment(struct made *m) {
    struct value *o = post(m, "comment", "pull/1#discussion_r1");
    str(m, o, "path", "README.md");
    str(m, o, "commit_id", m->f->sha);
    num(m, o, "line", 1);
}

static void forked(struct made *m) {
    val_sets(m->a, m->v, "forkee", m->f->repository_value);
}

static void gollum(struct made *m) {
    struct value *pages = val_array(m->a), *page = val_object(m->a);
    str(m, page, "page_name", "Home");
    str(m, page, "title", "Home");
    str(m, page, "action", "edited");
    str(m, page, "sha", m->f->sha);
    val_push(m->a, pages, page);
    val_sets(m->a, m->v, "pages", pages);
}

static void page_build(struct made *m) {
    struct value *o = obj(m, m->v, "build");
    num(m, m->v, "id", 1);
    str(m, o, "status", "built");
    str(m, o, "commit", m->f->sha);
    val_sets(m->a, o, "pusher", m->f->sender);
}

static void status(struct made *m) {
    num(m, m->v, "id", 1);
    str(m, m->v, "sha", m->f->sha);
    str(m, m->v, "name", m->f->repository);
    str(m, m->v, "context", "default");
    str(m, m->v, "state", "success");
    str(m, m->v, "description", "");
    str(m, m->v, "target_url", "");
    val_sets(m->a, m->v, "commit", m->f->commit);
    list(m, m->v, "branches");
}

static void registry_package(struct made *m) {
    struct value *o = obj(m, m->v, "registry_package"), *v;
    num(m, o, "id", 1);
    const char *slash = strchr(m->f->repository, '/');
    str(m, o, "name", slash ? slash + 1 : m->f->repository);
    str(m, o, "package_type", "CONTAINER");
    str(m, o, "ecosystem", "CONTAINER");
    val_sets(m->a, o, "owner", m->f->sender);
    v = obj(m, o, "package_version");
    num(m, v, "id", 1);
    str(m, v, "version", m->f->sha);
}

static void project(struct made *m) {
    struct value *o = obj(m, m->v, "project");
    num(m, o, "number", 1);
    str(m, o, "name", "project");
    str(m, o, "body", "");
    str(m, o, "state", "open");
}

static void project_card(struct made *m) {
    struct value *o = obj(m, m->v, "project_card");
    num(m, o, "id", 1);
    num(m, o, "column_id", 1);
    str(m, o, "note", "");
}

static void project_column(struct made *m) {
    struct value *o = obj(m, m->v, "project_column");
    num(m, o, "id", 1);
    str(m, o, "name", "To do");
}

static void branch_protection_rule(struct made *m) {
    struct value *o = obj(m, m->v, "rule");
    num(m, o, "id", 1);
    str(m, o, "name", m->f->default_branch);
}

static void repository_dispatch(struct made *m) {
    str(m, m->v, "branch", m->f->default_branch);
    obj(m, m->v, "client_payload");
}

static void schedule(struct made *m) {
    str(m, m->v, "schedule", "");
    str(m, m->v, "workflow", "");
}

/* Where: what github.ref is. */
enum where { AT_REF, AT_DEFAULT, AT_TAG, AT_QUEUE };
static const struct event {
    const char *name, *action; /* its usual activity, or NULL: it has none */
    enum where where;
    void (*fill)(struct made *m);
} events[] = {
    {"branch_protection_rule", "created", AT_DEFAULT, branch_protection_rule},
    {"check_run", "completed", AT_DEFAULT, check_run},
    {"check_suite", "completed", AT_DEFAULT, check_suite},
    {"create", NULL, AT_REF, create},
    {"delete", NULL, AT_DEFAULT, ref_event},
    {"deployment", "created", AT_REF, deployment},
    {"deployment_status", "created", AT_REF, deployment_status},
    {"discussion", "created", AT_DEFAULT, discussion},
    {"discussion_comment", "created", AT_DEFAULT, discussion_comment},
    {"fork", NULL, AT_DEFAULT, forked},
    {"gollum", NULL, AT_DEFAULT, gollum},
    {"image_version", "ready", AT_DEFAULT, NULL},
    {"issue_comment", "created", AT_DEFAULT, issue_comment},
    {"issues", "opened", AT_DEFAULT, issues},
    {"label", "created", AT_DEFAULT, label},
    {"merge_group", "checks_requested", AT_QUEUE, merge_group},
    {"milestone", "created", AT_DEFAULT, milestone},
    {"page_build", NULL, AT_DEFAULT, page_build},
    {"project", "created", AT_DEFAULT, project},
    {"project_card", "created", AT_DEFAULT, project_card},
    {"project_column", "created", AT_DEFAULT, project_column},
    {"public", NULL, AT_DEFAULT, NULL},
    {"pull_request", "opened", AT_REF, NULL},
    {"pull_request_comment", "created", AT_REF, review_comment},
    {"pull_request_review", "submitted", AT_REF, review},
    {"pull_request_review_comment", "created", AT_REF, review_comment},
    {"pull_request_target", "opened", AT_REF, NULL},
    {"registry_package", "published", AT_DEFAULT, registry_package},
    {"release", "published", AT_TAG, release},
    {"repository_dispatch", NULL, AT_DEFAULT, repository_dispatch},
    {"schedule", NULL, AT_DEFAULT, schedule},
    {"status", NULL, AT_DEFAULT, status},
    {"watch", "started", AT_DEFAULT, NULL},
    {"workflow_run", "completed", AT_DEFAULT, workflow_run},
};

static const struct event *find(const char *name) {
    for (size_t i = 0; i < ELEMENTS(events); i++)
        if (streq(events[i].name, name))
            return &events[i];
    return NULL;
}

const char *payload_usual_action(const char *event) {
    const struct event *e = find(event);
    return e ? e->action : NULL;
}

const char *payload_usual_ref(struct arena *a, const char *event, const struct payload_facts *f) {
    const struct event *e = find(event);
    switch (e ? e->where : AT_REF) {
    case AT_REF:
        break;
    case AT_DEFAULT:
        return arena_printf(a, "refs/heads/%s", f->default_branch);
    case AT_TAG:
        return arena_printf(a, "refs/tags/%s", f->tag ? f->tag : "v1.0.0");
    case AT_QUEUE:
        return arena_printf(a, "refs/heads/gh-readonly-queue/%s/pr-1-%s", f->base, f->sha);
    }
    return NULL;
}

void payload_fill(struct arena *a, const char *event, const struct payload_facts *f, struct value *v) {
    const struct event *e = find(event);
    struct made m = {a, f, v};
    if (e && e->fill)
        e->fill(&m);
}
