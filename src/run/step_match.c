/* Problem matchers of a job: added and removed by its steps (or by a native action), held against
 * each line that is printed. A matcher stays for the rest of the job. */
#include "core/fs.h"
#include "run/matchers.h"
#include "run/place.h"
#include "run/stepx.h"

#define LINE_MAX_MATCH 8192u

static int document(struct jobx *x, struct sv path, struct buf *text, struct err *e) {
    _cleanup_free_ char *rel = sv_dup(path), *full = path_join(x->workspace, rel);
    int r = x->place->read_file(x, full, text, e);
    return r < 0 ? err_wrap(e, r, "problem matcher %s", rel) : 0;
}

void step_matchers_text(struct jobx *x, struct sv json) {
    struct err e = {0};
    if (!x->matchers)
        x->matchers = matchers_new();
    if (matchers_add(x->matchers, json, &e) < 0)
        jobx_note(x, LEVEL_WARNING, "%s", e.msg);
}

void step_matchers_command(struct jobx *x, const struct wcommand *c) {
    _cleanup_buf_ struct buf text = BUF_MAX(MATCHERS_MAX);
    struct err e = {0};
    struct sv path = sv_trim(c->data), owner = wcommand_prop(c, "owner");
    bool add = sv_ieqs(c->name, "add-matcher");
    if (!add && owner.n) {
        if (x->matchers)
            matchers_remove(x->matchers, owner);
        return;
    }
    if (!path.n) {
        jobx_note(x, LEVEL_WARNING, add ? "The file path must be specified in an add-matcher command."
                                        : "Either the parameter 'owner' or the file path in the command must be specified in a remove-matcher command.");
        return;
    }
    if (document(x, path, &text, &e) < 0) {
        jobx_note(x, LEVEL_WARNING, "%s", e.msg);
        return;
    }
    if (add) {
        step_matchers_text(x, buf_sv(&text));
        return;
    }
    _cleanup_strv_ struct strv owners = {0};
    if (matchers_owners(buf_sv(&text), &owners, &e) < 0)
        jobx_note(x, LEVEL_WARNING, "%s", e.msg);
    for (size_t i = 0; x->matchers && i < owners.n; i++)
        matchers_remove(x->matchers, sv_from(owners.v[i]));
}

/* A file of the workspace, as the repository names it; "" when it is somewhere else. */
static void in_repository(struct jobx *x, const struct issue *is, struct buf *out) {
    if (!is->file.n)
        return;
    _cleanup_free_ char *file = sv_dup(is->file), *from = sv_dup(is->from_path);
    char *slash = strrchr(from, '/');
    if (slash)
        *slash = 0;
    _cleanup_free_ char *dir = path_join(x->workspace, slash && is->from_path.n ? from : "."), *joined = path_join(dir, file);
    _cleanup_free_ char *clean = path_clean(joined);
    const char *rest = startswith(clean, x->workspace);
    if (rest && *rest == '/')
        buf_adds(out, rest + 1);
}

static void tell(struct jobx *x, const struct issue *is) {
    _cleanup_buf_ struct buf file = BUF_MAX(8192);
    _cleanup_free_ char *code = sv_dup(is->code);
    in_repository(x, is, &file);
    struct event ev = {.kind = EV_ANNOTATION, .text = is->message, .detail = *code ? code : NULL,
                       .level = streq(is->severity, "error") ? LEVEL_ERROR : streq(is->severity, "warning") ? LEVEL_WARNING : LEVEL_NOTICE};
    if (file.n)
        ev.at = (struct span){buf_str(&file), is->line, is->col, 0, 0};
    jobx_emit(x, &ev);
}

void step_match(struct jobx *x, struct sv lines) {
    _cleanup_buf_ struct buf plain = BUF_MAX(LINE_MAX_MATCH + 64);
    struct sv rest = lines, line;
    struct issue is;
    if (!x->matchers || matchers_empty(x->matchers))
        return;
    while (sv_line(&rest, &line)) {
        if (line.n > LINE_MAX_MATCH)
            continue;
        matchers_plain(line, &plain);
        if (matchers_line(x->matchers, buf_sv(&plain), &is))
            tell(x, &is);
    }
}
