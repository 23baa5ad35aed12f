/* What a Bitbucket step has beyond a job: its variables, the clone that is made for it, artifacts
 * that travel from step to step, variables it hands on. Paths and names as Bitbucket has them. */
#include "core/fs.h"
#include "run/jobx.h"

static void put(struct jobx *x, const char *key, const char *value) {
    if (value)
        strv_env_set(&x->base_env, key, value);
}

static const char *uuid(struct jobx *x, const char *of) {
    uint32_t a = ctx_id(of), b = ctx_id(x->run->repository);
    return arena_printf(x->a, "{%08x-%04x-4%03x-8%03x-%08x%04x}", a, b & 0xffff, b >> 16 & 0xfff, a & 0xfff, b, a >> 12 & 0xffff);
}

static void default_variables(struct jobx *x) {
    struct run *r = x->run;
    const struct run_event *ev = &x->rq->event;
    const struct plan_bitbucket *bb = x->pj->bb;
    const char *branch = startswith(r->ref, "refs/heads/"), *tag = startswith(r->ref, "refs/tags/");
    put(x, "CI", "true");
    put(x, "BITBUCKET_BUILD_NUMBER", arena_printf(x->a, "%llu", (unsigned long long)r->number));
    put(x, "BITBUCKET_COMMIT", r->sha);
    put(x, "BITBUCKET_BRANCH", ev->head_ref ? ev->head_ref : branch);
    put(x, "BITBUCKET_TAG", tag);
    put(x, "BITBUCKET_BOOKMARK", ev->bookmark);
    put(x, "BITBUCKET_CLONE_DIR", x->workspace);
    put(x, "BITBUCKET_WORKSPACE", r->owner);
    put(x, "BITBUCKET_REPO_OWNER", r->owner);
    put(x, "BITBUCKET_REPO_SLUG", r->repo_name);
    put(x, "BITBUCKET_REPO_FULL_NAME", r->repository);
    put(x, "BITBUCKET_REPO_UUID", uuid(x, r->repository));
    put(x, "BITBUCKET_REPO_OWNER_UUID", uuid(x, r->owner));
    put(x, "BITBUCKET_REPO_IS_PRIVATE", "true");
    put(x, "BITBUCKET_PROJECT_KEY", "LOCAL");
    put(x, "BITBUCKET_PROJECT_UUID", uuid(x, "LOCAL"));
    put(x, "BITBUCKET_GIT_HTTP_ORIGIN", arena_printf(x->a, "https://bitbucket.org/%s", r->repository));
    put(x, "BITBUCKET_GIT_SSH_ORIGIN", arena_printf(x->a, "git@bitbucket.org:%s.git", r->repository));
    put(x, "BITBUCKET_PIPELINE_UUID", uuid(x, r->id));
    put(x, "BITBUCKET_STEP_UUID", uuid(x, x->leg->name));
    put(x, "BITBUCKET_STEP_RUN_NUMBER", arena_printf(x->a, "%u", x->attempt));
    put(x, "BITBUCKET_STEP_TRIGGERER_UUID", uuid(x, r->actor));
    put(x, "BITBUCKET_PR_ID", ev->pr_id);
    put(x, "BITBUCKET_PR_DESTINATION_BRANCH", ev->base_ref);
    put(x, "BITBUCKET_DOCKER_HOST_INTERNAL", "127.0.0.1");
    put(x, "BITBUCKET_PIPELINES_VARIABLES_PATH", arena_printf(x->a, "%s/variables.env", x->temp));
    put(x, "DOCKER_HOST", "unix:///var/run/docker.sock");
    put(x, "HOME", x->home);
    if (bb && bb->deployment) {
        put(x, "BITBUCKET_DEPLOYMENT_ENVIRONMENT", bb->deployment);
        put(x, "BITBUCKET_DEPLOYMENT_ENVIRONMENT_UUID", uuid(x, bb->deployment));
    }
    if (bb && bb->parallel_index >= 0) {
        put(x, "BITBUCKET_PARALLEL_STEP", arena_printf(x->a, "%d", bb->parallel_index));
        put(x, "BITBUCKET_PARALLEL_STEP_COUNT", arena_printf(x->a, "%d", bb->parallel_count));
    }
}

static void add_all(struct strv *to, const struct strv *from) {
    for (size_t i = 0; i < from->n; i++) {
        struct sv v, k = env_split(from->v[i], &v);
        _cleanup_free_ char *key = sv_dup(k);
        strv_env_set(to, key, v.p);
    }
}

/* What earlier steps handed on, nearest last. */
static void inherited(struct jobx *x, const struct job *j, unsigned depth) {
    for (size_t i = 0; i < j->n_needs && depth < 128; i++) {
        inherited(x, j->needs[i], depth + 1);
        const struct value *o = j->needs[i]->outputs;
        for (size_t k = 0; o && k < o->n; k++) {
            _cleanup_free_ char *key = sv_dup(o->keys[k]);
            struct sv v = val_to_string(x->a, o->items[k]);
            strv_env_set(&x->env, key, v.p);
        }
    }
}

void bitbucket_env(struct jobx *x) {
    const struct plan_trigger *t = x->leg->flow->plan->n_triggers ? &x->leg->flow->plan->triggers[0] : NULL;
    default_variables(x);
    for (size_t i = 0; t && i < t->n_inputs; i++)
        if (t->inputs[i].dflt.s)
            strv_env_set(&x->env, t->inputs[i].name, t->inputs[i].dflt.s);
    add_all(&x->env, &x->rq->vars);
    add_all(&x->env, &x->rq->secrets);
    if (x->leg->environment) { /* of the deployment */
        env_overlay(&x->env, &x->rq->env_vars, x->leg->environment);
        env_overlay(&x->env, &x->rq->env_secrets, x->leg->environment);
    }
    add_all(&x->env, &x->rq->inputs);
    inherited(x, x->leg->job, 0);
    add_all(&x->env, &x->rq->env);
}

/* --- artifacts ----------------------------------------------------------------------------------- */

/* One archive for each artifact that a job left, in the run's scratch, named by the job's place in
 * the plan and the artifact's in the job. */
static char *archive_of(struct jobx *x, const struct job *j, size_t no) {
    pthread_mutex_lock(&x->run->image_mu); /* the folder is made when it is first asked for */
    (void)lease_scratch(x->run->lease, NULL);
    pthread_mutex_unlock(&x->run->image_mu);
    _cleanup_free_ char *top = lease_scratch_path(x->run->lease);
    return xasprintf("%s/artifacts-%zu-%zu.tar", top, (size_t)(j->pj - j->flow->plan->jobs), no);
}

static int copy_file(const char *from, int dir, const char *to, struct jobx *x) {
    _cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return -errno;
    _cleanup_close_ int out = openat(dir, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (out < 0)
        return -errno;
    uint64_t n;
    return fd_copy(in, out, UINT64_MAX, &n);
}

/* Scoped artifacts and test reports stay with their step; of the others those that are asked for. */
static bool travels(const struct jobx *x, const struct plan_artifact *a) {
    const struct plan_bitbucket *bb = x->pj->bb;
    if (a->type && (streq(a->type, "scoped") || streq(a->type, "test-reports")))
        return false;
    for (size_t i = 0; bb && i < bb->n_artifacts_download; i++)
        if (a->name && streq(a->name, bb->artifacts_download[i]))
            return true;
    return !bb || !bb->n_artifacts_download;
}

static void unpack(struct jobx *x, const struct job *j, size_t no) {
    _cleanup_free_ char *file = archive_of(x, j, no);
    _cleanup_free_ char *inside = xasprintf("%s/in.tar", x->temp);
    _cleanup_buf_ struct buf out = BUF_SMALL;
    struct err e = {0};
    const char *argv[] = {"/bin/sh", "-ec", "cd \"$1\" && tar -xf \"$2\"", "sh", x->workspace, inside, NULL};
    if (copy_file(file, x->temp_fd, "in.tar", x) < 0)
        return;
    if (jobx_capture(x, argv, x->user, &out, &e) != 0)
        jobx_note(x, LEVEL_WARNING, "artifacts of \"%s\" could not be unpacked: %s", j->pj->id, e.msg[0] ? e.msg : buf_str(&out));
    unlinkat(x->temp_fd, "in.tar", 0);
}

static void restore(struct jobx *x, const struct job *j, unsigned depth) {
    for (size_t i = 0; i < j->n_needs && depth < 128; i++) {
        const struct job *from = j->needs[i];
        restore(x, from, depth + 1);
        for (size_t k = 0; from->pj->bb && k < from->pj->bb->n_artifacts; k++)
            if (travels(x, &from->pj->bb->artifacts[k]))
                unpack(x, from, k);
    }
}

/* A name that is asked for and that no step before has. */
static void missing_names(struct jobx *x) {
    const struct plan_bitbucket *bb = x->pj->bb;
    for (size_t i = 0; i < bb->n_artifacts_download; i++) {
        const struct plan *p = x->leg->flow->plan;
        bool known = false;
        for (size_t k = 0; k < p->n_jobs; k++)
            for (size_t a = 0; p->jobs[k].bb && a < p->jobs[k].bb->n_artifacts; a++)
                known |= p->jobs[k].bb->artifacts[a].name && streq(p->jobs[k].bb->artifacts[a].name, bb->artifacts_download[i]);
        if (!known)
            jobx_note(x, LEVEL_WARNING, "artifacts download: no step has an artifact called %s", bb->artifacts_download[i]);
    }
}

static bool captured_now(struct jobx *x, const struct plan_artifact *a) {
    const char *on = a->capture_on ? a->capture_on : "success";
    bool failed = x->status == OUT_FAILURE;
    return streq(on, "always") || (startswith(on, "success") ? !failed : failed);
}

/* A pattern as the shell's: nothing but wildcards keeps a meaning. */
static void add_pattern(struct buf *b, const char *p) {
    for (buf_addc(b, ' '); *p; p++) {
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("*?[]/._-", *p)))
            buf_addc(b, '\\');
        buf_addc(b, *p);
    }
}

/* ** needs bash, elsewhere it is like one star. Folders that match are taken whole; what is ignored
 * is left out of the archive, depth counts folders below the clone (of what the pattern names). */
static void keep_one(struct jobx *x, const struct plan_artifact *a, size_t no) {
    _cleanup_buf_ struct buf script = BUF_MAX(1u << 20), out = BUF_SMALL;
    struct err e = {0};
    buf_addf(&script, "cd \"$1\"; [ -z \"$BASH_VERSION\" ] || shopt -s globstar nullglob dotglob\nset --");
    for (size_t k = 0; k < a->n_paths; k++)
        add_pattern(&script, a->paths[k]);
    buf_addf(&script, "\nfor f; do shift; [ -e \"$f\" ] || continue\n");
    if (a->depth)
        buf_addf(&script, "s=$(printf %%s \"$f\" | tr -cd / | wc -c); [ \"$s\" -le %d ] || continue\n", a->depth);
    for (size_t k = 0; k < a->n_ignore; k++) {
        buf_adds(&script, "case $f in");
        add_pattern(&script, a->ignore[k]);
        buf_adds(&script, ") continue;; esac\n");
    }
    buf_addf(&script, "set -- \"$@\" \"$f\"; done\n[ $# = 0 ] || tar -cf \"%s/out.tar\"", x->temp);
    for (size_t k = 0; k < a->n_ignore; k++) {
        _cleanup_free_ char *quoted = xstrdup(a->ignore[k]);
        for (char *c = quoted; *c; c++)
            *c = *c == '\'' ? '?' : *c;
        buf_addf(&script, " --exclude='%s'", quoted);
    }
    buf_adds(&script, " -- \"$@\"\n");
    const char *argv[] = {x->has_bash ? "/bin/bash" : "/bin/sh", "-c", buf_str(&script), "sh", x->workspace, NULL};
    if (jobx_capture(x, argv, x->user, &out, &e) != 0) {
        jobx_note(x, LEVEL_WARNING, "artifacts could not be kept: %s", e.msg[0] ? e.msg : buf_str(&out));
        return;
    }
    _cleanup_close_ int in = openat(x->temp_fd, "out.tar", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (in < 0 || fstat(in, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    _cleanup_free_ char *file = archive_of(x, x->leg->job, no);
    _cleanup_close_ int to = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    uint64_t n;
    if (to < 0 || fd_copy(in, to, UINT64_MAX, &n) < 0)
        jobx_note(x, LEVEL_WARNING, "artifacts could not be kept: %s", strerror(errno));
    unlinkat(x->temp_fd, "out.tar", 0);
}

static void keep(struct jobx *x) {
    const struct plan_bitbucket *bb = x->pj->bb;
    for (size_t i = 0; i < bb->n_artifacts; i++)
        if (captured_now(x, &bb->artifacts[i]))
            keep_one(x, &bb->artifacts[i], i);
}

/* --- around the script ------------------------------------------------------------------------------ */

int bitbucket_before(struct jobx *x, struct err *e) {
    const struct plan_bitbucket *bb = x->pj->bb;
    int r = bb && bb->clone_disabled ? 0 : checkout_default(x, !bb || bb->clone_depth == 0 ? 50 : bb->clone_depth < 0 ? 0 : bb->clone_depth, e);
    if (r < 0)
        return err_wrap(e, r, "clone");
    if (bb && (bb->n_include || bb->n_exclude) && !x->rq->event.changed)
        jobx_note(x, LEVEL_WARNING, "condition.changesets: what changed is not known; the step runs");
    if (bb)
        missing_names(x);
    if (!bb || !bb->artifacts_download_none)
        restore(x, x->leg->job, 0);
    bitbucket_caches_restore(x);
    return 0;
}

static int handed(void *arg, struct sv k, struct sv v) {
    struct jobx *x = arg;
    const struct plan_bitbucket *bb = x->pj->bb;
    for (size_t i = 0; i < bb->n_output_variables; i++)
        if (sv_eqs(k, bb->output_variables[i]) && !mask_has(x->rq->masker, v)) {
            struct value *o = (struct value *)(uintptr_t)x->leg->outputs;
            val_set(x->a, o, arena_sv(x->a, k), val_string(x->a, v));
        }
    return 0;
}

void bitbucket_after(struct jobx *x) {
    const struct plan_bitbucket *bb = x->pj->bb;
    if (!bb)
        return;
    if (bb->n_artifacts)
        keep(x);
    if (x->status == OUT_SUCCESS && !atomic_load(&x->leg->cancel))
        bitbucket_caches_save(x);
    if (!bb->n_output_variables)
        return;
    _cleanup_buf_ struct buf b = BUF_MAX(1u << 20);
    struct stat st;
    _cleanup_close_ int fd = openat(x->temp_fd, "variables.env", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    x->leg->outputs = val_object(x->a);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || fs_read_fd(fd, &b) < 0)
        return;
    struct sv rest = buf_sv(&b), line;
    while (sv_line(&rest, &line)) {
        struct sv v = line, k;
        if (sv_split(&v, '=', &k) && k.n && v.p)
            handed(x, k, v);
    }
}
