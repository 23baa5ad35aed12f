/* The programs that stand in are links to one script in a folder of the job's scratch, which the
 * job sees read-only in front of PATH. Which names are there: those that may be installed while the
 * job runs ("always"), those that its image has, and those that a script names together with the
 * word that makes them leave ("named" ones only then, since they are in daily use). A command that
 * is held back appends a line to a file beside the file commands, read after each process. */
#include "run/held.h"

#include "core/fs.h"
#include "run/place.h"

#include <dirent.h>
#include <fnmatch.h>
#include <sys/stat.h>

#define BOX_DIR "/opt/slipway/held"
#define TOLD_MAX (64u << 10) /* of a job */

extern const char embed_held_command[], embed_held_command_end[];

/* --- actions --------------------------------------------------------------------------------- */

static bool glob(const char *pattern, const char *name) { return fnmatch(pattern, name, FNM_CASEFOLD) == 0; }

static bool let(const struct run_request *rq, const char *name) {
    for (size_t i = 0; i < rq->deploy_allow.n; i++)
        if (glob(rq->deploy_allow.v[i], name))
            return true;
    return rq->allow_deploy;
}

const char *held_action(const struct run_request *rq, const char *uses) {
    const char *image = startswith(uses, "docker://");
    _cleanup_free_ char *name = xstrdup(image ? image : uses);
    char *end = image ? strrchr(name, ':') : strchr(name, '@');
    if (*uses == '.' || (image && end && strchr(end, '/')))
        return NULL;
    if (end)
        *end = 0;
    if (let(rq, name))
        return NULL;
    for (const struct held_rule *r = held_actions; r->pattern; r++)
        if (glob(r->pattern, name))
            return r->what;
    for (size_t i = 0; i < rq->deploy_actions.n; i++)
        if (glob(rq->deploy_actions.v[i], name))
            return "deploy (deploy.actions of the configuration)";
    return NULL;
}

static void inputs_of(struct ctx *c, const struct text_map *m, struct buf *b) {
    struct value *with = NULL;
    if (ctx_map(c, m, false, &with, NULL) < 0)
        return;
    for (size_t i = 0; i < with->n && i < 8; i++) {
        struct sv v = sv_trim(with->items[i]->str), line;
        if (!v.n)
            continue;
        sv_line(&v, &line);
        buf_addf(b, "%s" SV_FMT ": " SV_FMT "%s", b->n ? ", " : "", SV_ARG(with->keys[i]), (int)MIN(line.n, 120u), line.p,
                 line.n > 120 || v.p ? " …" : "");
    }
}

static void tell(struct jobx *x, const char *name, const char *what) {
    x->held++;
    if (x->cur)
        x->cur->held = true;
    for (struct scope *sc = x->scope; sc; sc = sc->up)
        if (sc->owner)
            sc->owner->held = true;
    jobx_emit(x, &(struct event){.kind = EV_HELD, .name = name, .detail = what, .text = sv_from(x->cur && x->cur->title ? x->cur->title : "")});
}

bool step_held(struct jobx *x, struct step *s, struct ctx *c) {
    const char *what = s->ps->kind == STEP_USES ? held_action(x->rq, s->ps->uses.s) : NULL;
    if (!what)
        return false;
    _cleanup_buf_ struct buf in = BUF_MAX(4096);
    inputs_of(c, &s->ps->with, &in);
    _cleanup_free_ char *text = xasprintf("would %s%s%s%s", what, in.n ? " (" : "", buf_str(&in), in.n ? ")" : "");
    tell(x, s->ps->uses.s, text);
    s->outcome = OUT_SKIPPED;
    return true;
}

/* --- commands -------------------------------------------------------------------------------- */

static void name_of(const char *rule, char name[64]) { snprintf(name, 64, "%.*s", (int)strcspn(rule, " "), rule); }

static void link_name(struct jobx *x, const char *name) {
    if (symlinkat(".command", x->held_fd, name) < 0 && errno != EEXIST)
        jobx_note(x, LEVEL_WARNING, "the command %s cannot be held back: %s", name, strerror(errno));
}

/* Which of the rules' commands the place has: a '1' for each. */
static int look(struct jobx *x, char *has, size_t n, struct err *e) {
    static const char *const dirs[] = {"/usr/bin", "/usr/local/bin"};
    _cleanup_strv_ struct strv paths = {0};
    char is[BOX_PROBE_MAX], name[64];
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < ELEMENTS(dirs); d++) {
            name_of(held_commands[i].pattern, name);
            strv_addf(&paths, "%s/%s", dirs[d], name);
        }
    if (x->host)
        for (size_t i = 0; i < paths.n && i < sizeof is; i++)
            is[i] = fs_exists(AT_FDCWD, paths.v[i]) ? '1' : '0';
    int r = x->host ? 0 : box_probe(x->box, (const char *const *)paths.v, paths.n, is, e);
    for (size_t i = 0; i < n && r >= 0; i++)
        has[i] = is[2 * i] == '1' || is[2 * i + 1] == '1' ? '1' : '0';
    return r;
}

static int write_folder(struct jobx *x, struct err *e) {
    _cleanup_buf_ struct buf rules = BUF_SMALL;
    struct sv script = sv_n(embed_held_command, (size_t)(embed_held_command_end - embed_held_command));
    char name[64], has[BOX_PROBE_MAX / 2];
    size_t n = 0;
    while (held_commands[n].pattern)
        n++;
    if (n > sizeof has)
        return err_set(e, ERR_INTERNAL, -E2BIG, "too many commands to hold back");
    int r = look(x, has, n, e);
    if (r < 0)
        return r;
    for (const struct held_rule *h = held_commands; h->pattern; h++) {
        name_of(h->pattern, name);
        if (let(x->rq, name))
            continue;
        buf_addf(&rules, "%s\n", h->pattern);
        if (h->what ? streq(h->what, "always") : has[h - held_commands] == '1')
            link_name(x, name);
    }
    for (size_t i = 0; i < x->rq->deploy_commands.n; i++) {
        name_of(x->rq->deploy_commands.v[i], name);
        if (!*name || strchr(name, '/') || *name == '.' || let(x->rq, name))
            continue;
        buf_addf(&rules, "%s\n", x->rq->deploy_commands.v[i]);
        link_name(x, name);
    }
    if ((r = fs_write(x->held_fd, ".command", script, 0755, false, e)) < 0 || (r = fs_write(x->held_fd, ".rules", buf_sv(&rules), 0644, false, e)) < 0)
        return r;
    return fchmodat(x->held_fd, ".command", 0755, 0) < 0 || fchmodat(x->held_fd, ".rules", 0644, 0) < 0 ? err_errno(e, -errno, "held commands") : 0;
}

int held_prepare(struct jobx *x, struct err *e) {
    if (x->rq->allow_deploy)
        return 0;
    if ((mkdirat(x->scratch, "held", 0755) < 0 && errno != EEXIST) || fchmodat(x->scratch, "held", 0755, 0) < 0 ||
        (x->held_fd = openat(x->scratch, "held", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return err_errno(e, -errno, "held");
    /* The job's record: its steps write to it, whoever they are. */
    _cleanup_close_ int rec = openat(x->cmd_fd, "held", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (rec < 0 || fchmod(rec, 0666) < 0)
        return err_errno(e, -errno, "held");
    x->held_dir = x->host ? arena_printf(x->a, "%s/held", x->scratch_path) : BOX_DIR;
    return 0;
}

int held_setup(struct jobx *x, struct err *e) {
    return x->held_fd < 0 ? 0 : write_folder(x, e);
}

/* Does the script hold any of "word|word"? */
static bool names_word(struct sv script, struct sv words) {
    struct sv one;
    while (sv_split(&words, '|', &one))
        if (one.n && sv_find(script, one) >= 0)
            return true;
    return false;
}

void held_expect(struct jobx *x, struct sv script) {
    char name[64];
    if (!x->held_dir)
        return;
    for (const struct held_rule *h = held_commands; h->pattern; h++) {
        name_of(h->pattern, name);
        if ((h->what && streq(h->what, "always")) || sv_find(script, sv_from(name)) < 0 || let(x->rq, name))
            continue;
        struct sv words = sv_from(h->pattern + strlen(name)), word = SV_NULL;
        words = sv_trim(words);
        sv_split(&words, ' ', &word);
        if (!word.n || names_word(script, word))
            link_name(x, name);
    }
}

void held_take(struct jobx *x) {
    if (!x->held_dir)
        return;
    struct stat st;
    _cleanup_close_ int fd = openat(x->cmd_fd, "held", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= (off_t)x->held_read)
        return;
    char text[8192];
    for (ssize_t n; x->held_read < TOLD_MAX && (n = pread(fd, text, sizeof text, (off_t)x->held_read)) > 0;) {
        const char *last = memrchr(text, '\n', (size_t)n);
        size_t whole = last ? (size_t)(last - text) + 1 : (size_t)n;
        struct sv rest = sv_n(text, whole), line;
        x->held_read += whole;
        while (sv_line(&rest, &line)) {
            _cleanup_free_ char *name = sv_dup(sv_sub(line, 0, 700));
            if (*name)
                tell(x, name, "the command was not run");
        }
    }
    if (x->held_read >= TOLD_MAX && !x->held_full) {
        x->held_full = true;
        jobx_note(x, LEVEL_WARNING, "more commands were held back than are listed");
    }
}
