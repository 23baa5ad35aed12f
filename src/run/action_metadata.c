/* docker/metadata-action in a job: its inputs from the step and the event, its results as outputs,
 * variables and bake files. */
#include "run/dockmeta.h"
#include "run/dockmeta_text.h"
#include "run/native.h"

#include <time.h>

static int64_t time_of(const char *t) {
    struct tm tm = {0};
    long off = 0;
    const char *end = t ? strptime(t, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    if (!end)
        return 0;
    if (*end == '.')
        end += 1 + strspn(end + 1, "0123456789");
    int h, m;
    if ((*end == '+' || *end == '-') && sscanf(end + 1, "%2d:%2d", &h, &m) == 2)
        off = (*end == '-' ? -1 : 1) * (h * 3600L + m * 60L);
    return ((int64_t)timegm(&tm) - off) * 1000000000;
}

/* When the commit was made: the event tells it of a push, else git. */
static int64_t commit_time(struct jobx *x, const struct value *event, const char *sha) {
    const struct value *list = event ? val_gets(event, "commits") : NULL, *head = event ? val_gets(event, "head_commit") : NULL, *v;
    int64_t t = 0;
    for (size_t i = 0; list && list->kind == VAL_ARRAY && i < list->n && !t; i++)
        if ((v = val_gets(list->items[i], "id")) && v->kind == VAL_STRING && streq(v->str.p, sha) && (v = val_gets(list->items[i], "timestamp")) && v->kind == VAL_STRING)
            t = time_of(v->str.p);
    if (!t && head && head->kind == VAL_OBJECT && (v = val_gets(head, "id")) && v->kind == VAL_STRING && streq(v->str.p, sha) &&
        (v = val_gets(head, "timestamp")) && v->kind == VAL_STRING)
        t = time_of(v->str.p);
    if (!t && x->rq->git && x->rq->git->head_sha && streq(x->rq->git->head_sha, sha))
        t = time_of(x->rq->git->committer_date);
    return t ? t : (int64_t)now_real();
}

static bool env_true(const struct strv *env, const char *key, bool dflt) {
    const char *v = strv_env_get(env, key);
    return v && *v ? sv_ieqs(sv_from(v), "true") || streq(v, "1") : dflt;
}

struct meta_out {
    struct jobx *x;
    struct step *s;
    bool env;
};
static void put(struct meta_out *o, const char *key, const char *value) {
    native_output(o->x, o->s, key, value);
    if (!o->env)
        return;
    _cleanup_free_ char *name = xasprintf("DOCKER_METADATA_OUTPUT_%s", key);
    for (char *p = name; *p; p++)
        *p = *p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
    step_set_env(o->x, sv_from(name), sv_from(value));
}
static void put_list(struct meta_out *o, const char *key, const char *title, const struct strv *v, const char *sep) {
    _cleanup_buf_ struct buf b = BUF_MAX(4u << 20);
    if (title)
        native_group(o->x, title);
    for (size_t i = 0; i < v->n; i++) {
        if (title)
            jobx_say(o->x, "%s", v->v[i]);
        buf_addf(&b, "%s%s", i ? sep : "", v->v[i]);
    }
    if (title)
        native_group(o->x, NULL);
    put(o, key, buf_str(&b));
}

/* A bake file beside the job's temporary files. */
static int put_file(struct meta_out *o, const char *dir, const char *key, const char *name, struct buf *text, struct err *e) {
    _cleanup_free_ char *rel = xasprintf("%s/%s", dir, name), *path = path_join(o->x->temp, rel);
    int r = step_file(o->x, o->x->temp_fd, rel, 0644, buf_sv(text), e);
    if (r >= 0)
        put(o, key, path);
    return r;
}

static const char *sep(const struct value *with, const char *key) {
    const struct value *v = val_gets(with, key);
    return v && v->kind == VAL_STRING && v->str.n ? v->str.p : "\n";
}

static int tell(struct jobx *x, struct step *s, const struct value *with, struct dockmeta *m, bool env, struct err *e) {
    struct meta_out o = {x, s, env};
    char key[17], dir[64];
    struct sv rest = buf_sv(&m->warnings), line;
    while (rest.n && sv_line(&rest, &line))
        native_annotate(x, LEVEL_WARNING, SV_FMT, SV_ARG(line));
    if (!*m->version)
        native_annotate(x, LEVEL_WARNING, "No Docker image version has been generated. Check tags input.");
    else {
        native_group(x, "Docker image version");
        jobx_say(x, "%s", m->version);
        native_group(x, NULL);
    }
    put(&o, "version", m->version);
    if (!m->tags.n)
        native_annotate(x, LEVEL_WARNING, "No Docker tag has been generated. Check tags input.");
    put_list(&o, "tags", m->tags.n ? "Docker tags" : NULL, &m->tags, sep(with, "sep-tags"));
    put_list(&o, "tag-names", NULL, &m->names, sep(with, "sep-tags"));
    put_list(&o, "labels", "Docker labels", &m->labels, sep(with, "sep-labels"));
    put_list(&o, "annotations", "Annotations", &m->annotations, sep(with, "sep-annotations"));
    put(&o, "json", buf_str(&m->json));
    random_id(key, 16);
    snprintf(dir, sizeof dir, "docker-actions-toolkit-%s", key);
    if (mkdirat(x->temp_fd, dir, 0755) < 0 || (x->uid != getuid() && fchownat(x->temp_fd, dir, x->uid, x->gid, AT_SYMLINK_NOFOLLOW) < 0))
        return err_errno(e, -errno, "%s", dir);
    int r;
    if ((r = put_file(&o, dir, "bake-file-tags", "docker-metadata-action-bake-tags.json", &m->bake_tags, e)) < 0 ||
        (r = put_file(&o, dir, "bake-file-labels", "docker-metadata-action-bake-labels.json", &m->bake_labels, e)) < 0 ||
        (r = put_file(&o, dir, "bake-file-annotations", "docker-metadata-action-bake-annotations.json", &m->bake_annotations, e)) < 0)
        return r;
    return put_file(&o, dir, "bake-file", "docker-metadata-action-bake.json", &m->bake, e);
}

static const char *str_of(const struct value *o, const char *key) {
    const struct value *v = o ? val_gets(o, key) : NULL;
    return v && v->kind == VAL_STRING ? v->str.p : "";
}

int action_docker_metadata(struct jobx *x, struct step *s, const struct value *with, struct err *e) {
    _cleanup_arena_ struct arena a = {0};
    _cleanup_strv_ struct strv env = {0};
    const struct value *event = val_gets(x->github, "event"), *pull = event ? val_gets(event, "pull_request") : NULL;
    const char *source = with_get(with, "context", "workflow");
    struct dockmeta_in in = {.event = str_of(x->github, "event_name"), .ref = str_of(x->github, "ref"), .sha = str_of(x->github, "sha"), .payload = event,
                             .now_ns = (int64_t)now_real(), .bake_target = with_get(with, "bake-target", "docker-metadata-action"), .short_sha = 7};
    struct dockmeta m;
    uint64_t n;
    if (!streq(source, "workflow") && !streq(source, "git"))
        return native_fail(x, s, "Invalid context source: %s", source);
    native_env(x, s, &env);
    if (streq(in.event, "pull_request_target")) {
        const struct value *no = val_gets(event, "number");
        in.ref = arena_printf(&a, "refs/pull/%.*s/merge", no ? (int)val_to_string(&a, no).n : 0, no ? val_to_string(&a, no).p : "");
    }
    const char *head = pull && pull->kind == VAL_OBJECT && val_gets(pull, "head") ? str_of(val_gets(pull, "head"), "sha") : "";
    if (env_true(&env, "DOCKER_METADATA_PR_HEAD_SHA", false) && strstr(in.event, "pull_request") && *head)
        in.sha = head;
    const char *len = strv_env_get(&env, "DOCKER_METADATA_SHORT_SHA_LENGTH"), *levels = strv_env_get(&env, "DOCKER_METADATA_ANNOTATIONS_LEVELS");
    if (len && *len && sv_u64(sv_from(len), 1000, &n) < 0)
        return native_fail(x, s, "DOCKER_METADATA_SHORT_SHA_LENGTH is not a valid number: %s", len);
    in.short_sha = len && *len ? (unsigned)n : 7;
    in.levels = levels && *levels ? levels : "manifest";
    in.commit_ns = commit_time(x, event, in.sha);
    dockmeta_lines(with_get(with, "images", ""), &in.images);
    dockmeta_lines(with_get(with, "tags", ""), &in.tags);
    dockmeta_lines(with_get(with, "flavor", ""), &in.flavor);
    dockmeta_lines(with_get(with, "labels", ""), &in.labels);
    dockmeta_lines(with_get(with, "annotations", ""), &in.annotations);
    struct err me = {0};
    int r = dockmeta_make(&in, &a, &m, &me);
    if (r < 0)
        r = native_fail(x, s, "%s", me.msg);
    else
        r = tell(x, s, with, &m, env_true(&env, "DOCKER_METADATA_SET_OUTPUT_ENV", true), e);
    dockmeta_done(&m);
    struct strv *lists[] = {&in.images, &in.tags, &in.flavor, &in.labels, &in.annotations};
    for (size_t i = 0; i < ELEMENTS(lists); i++)
        strv_done(lists[i]);
    return r;
}
