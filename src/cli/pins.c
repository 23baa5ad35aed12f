#include "cli/pins.h"

#include "core/fs.h"
#include "pipeline/github/action.h"

#include <sys/stat.h>

#define MAX_DEPTH 10

/* The folder upwards that has the lock file, the configuration or git's; git itself is not asked, a
 * check takes less time than it does. */
static char *find_repository(void) {
    static const char *const marks[] = {LOCK_FILE, ".slipway.yml", ".git"};
    _cleanup_buf_ struct buf up = BUF_SMALL;
    for (unsigned level = 0; level < 64; level++) {
        struct stat here, root;
        for (size_t i = 0; i < ELEMENTS(marks); i++) {
            _cleanup_free_ char *path = xasprintf("%s%s", buf_str(&up), marks[i]);
            if (fs_exists(AT_FDCWD, path))
                return xstrdup(up.n ? buf_str(&up) : ".");
        }
        if (stat(up.n ? buf_str(&up) : ".", &here) < 0 || stat("/", &root) < 0 ||
            (here.st_ino == root.st_ino && here.st_dev == root.st_dev))
            break;
        buf_adds(&up, "../");
    }
    return xstrdup(".");
}

int pins_begin(struct pins *p, const char *mirror, const struct strv *local, bool update, bool fetch, bool offline,
               struct diags *d, struct err *e) {
    p->dir = find_repository();
    int r = config_load(&p->file, p->dir, d);
    const char *m = mirror ? mirror : p->file.actions_mirror;
    if (m && *m && !strstr(m, "://"))
        p->mirror = mirror ? realpath(m, NULL) : path_join(p->dir, m);
    else if (m && *m)
        p->mirror = xstrdup(m);
    if (mirror && *mirror && !p->mirror)
        return err_set(e, ERR_USER, -ENOENT, "--actions-mirror %s: there is no such folder", mirror);
    if ((r = lock_load(&p->lock, p->dir, e)) < 0)
        return r;
    p->update = update;
    p->fetch = (fetch || update) && !offline && !p->file.offline;
    p->active = update || fetch || p->mirror || local->n || p->lock.there;
    p->conf = (struct remote_conf){.mirror = p->mirror, .local = local, .offline = !p->fetch};
    p->seen = (struct map){.nocase = false, .free_value = (void (*)(void *))github_action_free};
    return 0;
}

void pins_done(struct pins *p) {
    map_done(&p->seen);
    lock_done(&p->lock);
    lock_done(&p->fresh);
    config_done(&p->file);
    free(p->dir);
    free(p->mirror);
}

/* --- the lock ----------------------------------------------------------------------------------- */

static void hold(struct pins *p, const char *name, const char *ref, const char *sha, struct span at, struct diags *d) {
    const char *pinned = lock_get(&p->lock, name);
    if (p->update) {
        lock_set(&p->fresh, name, sha);
    } else if (p->lock.there && !pinned && !streq(ref, sha)) {
        diags_add(d, DIAG_WARNING, at, "not-pinned", "slipway check --update-lock", "%s is not in " LOCK_FILE, name);
    } else if (pinned && !streq(pinned, sha)) {
        diags_add(d, DIAG_ERROR, at, "moved", "look at what changed, then slipway check --update-lock",
                  "%s has moved: " LOCK_FILE " has it at %.12s, it is %.12s now", name, pinned, sha);
    }
}

/* --- an action ------------------------------------------------------------------------------------ */

static struct github_action *metadata(const char *repo, const char *path, const char *ref, const struct remote_at *at, struct diags *d) {
    static const char *const names[] = {"action.yml", "action.yaml"};
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        _cleanup_free_ char *file = *path ? xasprintf("%s/%s", path, names[i]) : xstrdup(names[i]);
        _cleanup_free_ char *shown = xasprintf("%s@%s/%s", repo, ref, file);
        _cleanup_buf_ struct buf text = BUF_MAX(2u << 20);
        struct github_action *a = NULL;
        if (remote_read(at, file, &text, NULL) < 0)
            continue;
        return github_action_read(shown, buf_sv(&text), &a, d) < 0 ? NULL : a;
    }
    return NULL; /* a Dockerfile, or nothing: told by a run */
}

static void check_inputs(const struct github_action *a, const struct plan_step *s, struct diags *d) {
    for (size_t i = 0; i < s->with.n; i++) {
        const struct text *k = &s->with.items[i].key;
        struct sv name = {k->s, k->n};
        bool docker = a->kind == ACTION_DOCKER && (sv_ieqs(name, "entrypoint") || sv_ieqs(name, "args"));
        if (!k->expr && !docker && !github_action_input(a, name))
            diags_add(d, DIAG_WARNING, k->at, "input", NULL, "Unexpected input '%s': %s has none of this name", k->s, s->uses.s);
    }
    for (size_t i = 0; i < a->n_inputs; i++) {
        const struct action_input *in = &a->inputs[i];
        bool given = s->with.whole.s || in->dflt.s || !in->required.s || !streq(in->required.s, "true");
        for (size_t k = 0; k < s->with.n; k++)
            given = given || s->with.items[k].key.expr || sv_ieqs(sv_n(s->with.items[k].key.s, s->with.items[k].key.n), in->name);
        if (!given)
            diags_add(d, DIAG_WARNING, s->uses.at, "input", NULL, "%s wants the input '%s'", s->uses.s, in->name);
    }
}

static void steps(struct pins *p, const struct plan_step *list, size_t n, unsigned depth, struct diags *d);

static struct github_action *find(struct pins *p, const struct text *uses, bool action, struct diags *d) {
    _cleanup_free_ char *repo = NULL, *path = NULL, *ref = NULL;
    _cleanup_remote_ struct remote_at at = {0};
    struct err e = {0};
    if (!remote_split(uses->s, &repo, &path, &ref)) {
        if (action)
            diags_add(d, DIAG_ERROR, uses->at, "uses", NULL, "Expected format {org}/{repo}[/path]@ref. Actual '%s'", uses->s);
        return NULL;
    }
    int r = remote_find(&p->conf, repo, ref, &at, &e);
    if (r < 0) {
        if (p->fetch || e.kind == ERR_NOTFOUND)
            diags_add(d, DIAG_ERROR, uses->at, "uses", e.hint[0] ? e.hint : NULL, "%s", e.msg);
        return NULL;
    }
    _cleanup_free_ char *name = xasprintf("%s@%s", repo, ref);
    if (at.sha)
        hold(p, name, ref, at.sha, uses->at, d);
    return action ? metadata(repo, path, ref, &at, d) : NULL;
}

static void one(struct pins *p, const struct plan_step *s, unsigned depth, struct diags *d) {
    const char *uses = s->uses.s;
    if (*uses == '.' || startswith(uses, "docker://"))
        return;
    struct sv key = sv_from(uses);
    struct github_action *a = map_get(&p->seen, key);
    if (!map_has(&p->seen, key)) {
        a = find(p, &s->uses, true, d);
        map_set(&p->seen, key, a);
        if (a && a->kind == ACTION_COMPOSITE && depth < MAX_DEPTH)
            steps(p, a->steps, a->n_steps, depth + 1, d);
    }
    if (a && depth) /* the linter looks at a workflow's own steps */
        check_inputs(a, s, d);
}

static void steps(struct pins *p, const struct plan_step *list, size_t n, unsigned depth, struct diags *d) {
    for (size_t i = 0; i < n; i++) {
        if (list[i].kind == STEP_USES)
            one(p, &list[i], depth, d);
        steps(p, list[i].children, list[i].n_children, depth, d);
    }
}

void pins_plan(struct pins *p, const struct plan *plan, struct diags *d) {
    for (size_t i = 0; p->active && i < plan->n_jobs; i++) {
        const struct plan_job *j = &plan->jobs[i];
        steps(p, j->steps, j->n_steps, 0, d);
        if (j->call && *j->call->uses.s != '.' && !map_has(&p->seen, sv_from(j->call->uses.s))) {
            find(p, &j->call->uses, false, d);
            map_sets(&p->seen, j->call->uses.s, NULL);
        }
    }
}

const struct github_action *pins_action(const struct pins *p, const char *uses) {
    return p->active ? map_get(&p->seen, sv_from(uses)) : NULL;
}

int pins_end(struct pins *p, FILE *out, struct err *e) {
    if (!p->update)
        return 0;
    for (size_t i = 0; i < p->fresh.n; i++) {
        const struct lock_item *it = &p->fresh.items[i];
        const char *was = lock_get(&p->lock, it->name);
        if (!was)
            fprintf(out, "%s is %.12s\n", it->name, it->sha);
        else if (!streq(was, it->sha))
            fprintf(out, "%s was %.12s, is %.12s\n", it->name, was, it->sha);
    }
    for (size_t i = 0; i < p->lock.n; i++)
        if (!lock_get(&p->fresh, p->lock.items[i].name))
            fprintf(out, "%s is no longer used\n", p->lock.items[i].name);
    return lock_save(&p->fresh, p->dir, e);
}
