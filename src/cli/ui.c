/* The live view keeps, for each job, the running step and a temporary file with that step's output,
 * which is printed only when the step fails. Live lines stand below everything else: before a
 * permanent line is printed they are erased (cursor up, erase below), then drawn again. A thread
 * redraws them for the clock; all state is under one lock. */
#include "cli/ui.h"

#include "core/fs.h"
#include "core/loop.h"
#include "core/map.h"

#include <pthread.h>
#include <sys/mman.h>

#define KEEP_OUTPUT (16u << 20) /* of one step; more is in the stored log */

struct job {
    char *id, *name, *root, *step, *why;
    uint32_t step_no;
    uint64_t started, step_started;
    uint64_t dur, out_bytes;
    unsigned steps;
    enum outcome outcome;
    bool running, ended, seen_start;
    int out_fd;
    struct buf progress;
    char *last_line; /* of output: shown dimmed in the live line */
    unsigned group_depth;
};
struct captured {
    char *ref, *digest;
    uint64_t size;
};
struct ui {
    struct ui_options o;
    pthread_mutex_t lock;
    pthread_t thread;
    bool threaded, stop, drawn_any;
    unsigned drawn; /* live lines on the screen */
    struct map jobs;
    struct captured *captured;
    size_t n_captured, cap_captured;
    struct strv held;  /* "name\ndetail" */
    struct strv notes; /* warnings and errors of the run, for the summary */
    enum outcome outcome;
    uint64_t started, dur;
    struct buf line;
};

static const char *sgr(const struct ui *u, const char *code) {
    return u->o.colour ? code : "";
}
#define DIM sgr(u, "\033[2m")
#define BOLD sgr(u, "\033[1m")
#define RED sgr(u, "\033[31m")
#define GREEN sgr(u, "\033[32m")
#define YELLOW sgr(u, "\033[33m")
#define OFF sgr(u, "\033[0m")

/* The length of an escape sequence at p (ECMA-48: CSI, OSC, two-byte), 1 for a lone ESC. */
static size_t sequence(const char *p, size_t n, bool *ret_sgr) {
    *ret_sgr = false;
    if (n < 2)
        return 1;
    if (p[1] == '[') {
        size_t i = 2;
        while (i < n && (unsigned char)p[i] >= 0x20 && (unsigned char)p[i] <= 0x3f)
            i++;
        if (i < n && p[i] == 'm')
            *ret_sgr = true;
        return i < n ? i + 1 : n;
    }
    if (p[1] == ']' || p[1] == 'P' || p[1] == '^' || p[1] == '_') {
        for (size_t i = 2; i < n; i++) {
            if (p[i] == '\a')
                return i + 1;
            if (p[i] == '\033' && i + 1 < n && p[i + 1] == '\\')
                return i + 2;
        }
        return n;
    }
    return 2;
}

void ui_clean(struct sv t, bool colour, struct buf *out) {
    size_t from = 0, i = 0;
    while (i < t.n) {
        unsigned char c = (unsigned char)t.p[i];
        if (c >= 0x20 && c != 0x7f && c != 0xc2) {
            i++;
            continue;
        }
        if (c == '\n' || c == '\t') {
            i++;
            continue;
        }
        buf_add(out, t.p + from, i - from);
        if (c == 033) {
            bool is_sgr;
            size_t n = sequence(t.p + i, t.n - i, &is_sgr);
            if (is_sgr && colour)
                buf_add(out, t.p + i, n);
            i += n;
        } else if (c == 0xc2 && i + 1 < t.n) { /* C1 controls in UTF-8 are sequences too */
            if ((unsigned char)t.p[i + 1] >= 0xa0)
                buf_add(out, t.p + i, 2);
            i += 2;
        } else if (c == '\r' && i + 1 < t.n && t.p[i + 1] != '\n') {
            buf_addc(out, '\n'); /* a progress bar drawn over itself becomes lines */
            i++;
        } else {
            i++;
        }
        from = i;
    }
    buf_add(out, t.p + from, t.n - from);
}

static struct job *job_of(struct ui *u, const char *id) {
    if (!id)
        return NULL;
    struct job *j = map_gets(&u->jobs, id);
    if (!j) {
        j = xcalloc(1, sizeof *j);
        j->id = xstrdup(id);
        j->out_fd = -1;
        j->progress.max = 4096;
        map_sets(&u->jobs, id, j);
    }
    return j;
}

static void job_free(void *p) {
    struct job *j = p;
    free(j->id);
    free(j->name);
    free(j->root);
    free(j->step);
    free(j->why);
    free(j->last_line);
    buf_done(&j->progress);
    fd_close(j->out_fd);
    free(j);
}

static const char *label(const struct job *j) {
    return j->name && *j->name ? j->name : j->id;
}

/* --- live lines -------------------------------------------------------------------------------- */

static void erase(struct ui *u) {
    if (u->drawn)
        fprintf(u->o.out, "\033[%uA\r\033[J", u->drawn);
    u->drawn = 0;
}

/* Prints at most `width` columns of a line that may hold colours. */
static void put_cut(struct ui *u, struct sv v) {
    unsigned cols = 0, width = u->o.width ? u->o.width - 1 : 79;
    for (size_t i = 0; i < v.n;) {
        bool is_sgr;
        if (v.p[i] == 033) {
            size_t n = sequence(v.p + i, v.n - i, &is_sgr);
            fwrite(v.p + i, 1, n, u->o.out);
            i += n;
            continue;
        }
        if (((unsigned char)v.p[i] & 0xc0) != 0x80 && ++cols > width)
            break;
        fputc(v.p[i++], u->o.out);
    }
    fputs(u->o.colour ? "\033[0m\n" : "\n", u->o.out);
}

static void draw(struct ui *u) {
    static const char *const spin[] = {"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"};
    uint64_t now = now_mono();
    unsigned n = 0;
    MAP_FOREACH(&u->jobs, en) {
        struct job *j = en->value;
        if (!j->running)
            continue;
        buf_reset(&u->line);
        buf_addf(&u->line, "%s%s%s %s%s%s", YELLOW, spin[now / 100000000u % ELEMENTS(spin)], OFF, BOLD, label(j), OFF);
        if (j->step)
            buf_addf(&u->line, " › %s", j->step);
        buf_addf(&u->line, " %s", DIM);
        buf_add_duration(&u->line, now - (j->step ? j->step_started : j->started));
        if (j->progress.n)
            buf_addf(&u->line, "  %s", buf_str(&j->progress));
        else if (j->last_line)
            buf_addf(&u->line, "  %s", j->last_line);
        buf_adds(&u->line, OFF);
        put_cut(u, buf_sv(&u->line));
        if (++n == 12)
            break;
    }
    u->drawn = n;
    fflush(u->o.out);
}

static void *redraw(void *arg) {
    struct ui *u = arg;
    pthread_mutex_lock(&u->lock);
    while (!u->stop) {
        erase(u);
        draw(u);
        pthread_mutex_unlock(&u->lock);
        usleep(100000);
        pthread_mutex_lock(&u->lock);
    }
    pthread_mutex_unlock(&u->lock);
    return NULL;
}

/* A permanent line. */
static void say(struct ui *u, const char *fmt, ...) _printf_(2, 3);
static void say(struct ui *u, const char *fmt, ...) {
    va_list ap;
    if (u->o.mode == UI_LIVE)
        erase(u);
    va_start(ap, fmt);
    vfprintf(u->o.out, fmt, ap);
    va_end(ap);
    fputc('\n', u->o.out);
    fflush(u->o.out);
}

/* --- output of steps ----------------------------------------------------------------------------- */

static void print_prefixed(struct ui *u, const struct job *j, struct sv text) {
    _cleanup_buf_ struct buf clean = BUF_LARGE;
    ui_clean(text, u->o.colour, &clean);
    struct sv rest = buf_sv(&clean), line;
    if (u->o.mode == UI_LIVE)
        erase(u);
    while (sv_line(&rest, &line))
        fprintf(u->o.out, "%s%s |%s " SV_FMT "%s\n", DIM, label(j), OFF, SV_ARG(line), OFF);
    fflush(u->o.out);
}

static void keep_output(struct ui *u, struct job *j, struct sv text) {
    if (j->out_fd < 0)
        j->out_fd = memfd_create("slipway-output", MFD_CLOEXEC);
    if (j->out_fd >= 0 && j->out_bytes < KEEP_OUTPUT)
        fd_write_all(j->out_fd, text.p, MIN(text.n, (size_t)(KEEP_OUTPUT - j->out_bytes)));
    j->out_bytes += text.n;
    struct sv last = sv_rtrim(text);
    ssize_t nl = sv_rchr(last, '\n');
    if (nl >= 0)
        last = sv_sub(last, (size_t)nl + 1, SIZE_MAX);
    _cleanup_buf_ struct buf clean = BUF_MAX(1024);
    ui_clean(sv_sub(last, 0, 200), false, &clean);
    free(j->last_line);
    j->last_line = clean.n ? xstrdup(buf_str(&clean)) : NULL;
    for (char *p = j->last_line; p && *p; p++)
        if (*p == '\n' || *p == '\t')
            *p = ' ';
}

static void print_kept(struct ui *u, struct job *j) {
    if (j->out_fd < 0 || !j->out_bytes)
        return;
    _cleanup_buf_ struct buf text = BUF_MAX(KEEP_OUTPUT + 4096);
    if (lseek(j->out_fd, 0, SEEK_SET) < 0 || fs_read_fd(j->out_fd, &text) < 0)
        return;
    print_prefixed(u, j, buf_sv(&text));
    if (j->out_bytes > KEEP_OUTPUT)
        say(u, "%s%s | … %llu bytes more; slipway logs has them%s", DIM, label(j), (unsigned long long)(j->out_bytes - KEEP_OUTPUT), OFF);
}

static void drop_kept(struct job *j) {
    j->out_fd = fd_close(j->out_fd);
    j->out_bytes = 0;
    free(j->last_line);
    j->last_line = NULL;
    buf_reset(&j->progress);
}

/* --- events ------------------------------------------------------------------------------------------ */

static const char *mark(const struct ui *u, enum outcome o, const char **ret_colour) {
    switch (o) {
    case OUT_SUCCESS:
        *ret_colour = GREEN;
        return "✓";
    case OUT_FAILURE:
        *ret_colour = RED;
        return "✗";
    case OUT_SKIPPED:
        *ret_colour = DIM;
        return "-";
    default:
        *ret_colour = YELLOW;
        return "!";
    }
}

static void replace(char **to, struct sv v) {
    free(*to);
    _cleanup_buf_ struct buf b = BUF_MAX(65536);
    ui_clean(v, false, &b);
    for (size_t i = 0; i < b.n; i++)
        if (b.p[i] == '\n' || b.p[i] == '\t')
            b.p[i] = ' ';
    *to = xstrdup(buf_str(&b));
}

static void step_end(struct ui *u, struct job *j, const struct event *ev) {
    const char *colour, *m = mark(u, ev->outcome, &colour);
    char time[40];
    struct buf b = BUF_MAX(64);
    buf_add_duration(&b, ev->dur_ns);
    snprintf(time, sizeof time, "%s", buf_str(&b));
    buf_done(&b);
    bool failed = ev->outcome == OUT_FAILURE || ev->outcome == OUT_CANCELLED;
    if (u->o.mode == UI_LIVE && failed && !u->o.verbose)
        print_kept(u, j);
    if (ev->outcome != OUT_SKIPPED)
        j->steps++;
    char code[24] = "";
    if (ev->code && failed)
        snprintf(code, sizeof code, " (exit %d)", ev->code);
    if (!u->o.quiet || failed)
        say(u, "%s%s%s %s%s%s › %s %s%s%s%s", colour, m, OFF, BOLD, label(j), OFF, ev->name ? ev->name : j->step ? j->step : "", DIM,
            ev->outcome == OUT_SKIPPED ? "skipped" : time, code, OFF);
    if (j->step_no != ev->step) /* one of several that run at once */
        return;
    drop_kept(j);
    free(j->step);
    j->step = NULL;
}

static void note(struct ui *u, const struct job *j, const struct event *ev) {
    static const char *const names[] = {"debug", "note", "warning", "error"};
    const char *colour = ev->level == LEVEL_ERROR ? RED : ev->level == LEVEL_WARNING ? YELLOW : DIM;
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20);
    if (ev->level == LEVEL_DEBUG && !u->o.verbose)
        return;
    if (u->o.quiet && ev->level < LEVEL_WARNING)
        return;
    ui_clean(ev->text, false, &t);
    say(u, "%s%s%s%s%s%s: %s%s%s%s", j ? DIM : "", j ? label(j) : "", j ? " | " : "", j ? OFF : "", colour, names[ev->level], OFF,
        ev->kind == EV_ANNOTATION && ev->detail && *ev->detail ? ev->detail : "",
        ev->kind == EV_ANNOTATION && ev->detail && *ev->detail ? ": " : "", buf_str(&t));
    if (ev->at.file)
        say(u, "%s  at %s:%u:%u%s", DIM, ev->at.file, ev->at.line, ev->at.col, OFF);
    if (ev->kind == EV_NOTE && ev->detail && *ev->detail)
        say(u, "  hint: %s", ev->detail);
}

static void progress(struct ui *u, struct job *j, const struct event *ev) {
    if (u->o.mode == UI_LIVE && j) {
        if (!j->running && !j->ended) { /* its image is being got: it has no root yet */
            j->running = true;
            j->started = now_mono();
        }
        buf_reset(&j->progress);
        if (ev->total && ev->done >= ev->total)
            return;
        buf_addsv(&j->progress, ev->text);
        if (ev->done || ev->total) {
            buf_adds(&j->progress, " ");
            buf_add_size(&j->progress, ev->done);
            if (ev->total) {
                buf_adds(&j->progress, " of ");
                buf_add_size(&j->progress, ev->total);
            }
        }
        return;
    }
    /* Plain: what has sizes when it is at its end, what has none as it begins; each once. */
    bool sized = ev->total || ev->done;
    if (u->o.quiet || (sized && (!ev->total || ev->done < ev->total)))
        return;
    _cleanup_buf_ struct buf b = BUF_SMALL;
    struct sv first, rest = ev->text;
    sv_line(&rest, &first);
    buf_addsv(&b, sv_sub(first, 0, MIN(first.n, 120u)));
    if (first.n > 120)
        buf_adds(&b, " …");
    if (sized) {
        buf_adds(&b, " (");
        buf_add_size(&b, ev->total);
        buf_adds(&b, ")");
    }
    struct buf *last = j ? &j->progress : NULL;
    if (last && last->n == b.n && memcmp(last->p, b.p, b.n) == 0)
        return;
    say(u, "%s%s | %s%s", DIM, j ? label(j) : "", buf_str(&b), OFF);
    if (last) {
        buf_reset(last);
        buf_addsv(last, buf_sv(&b));
    }
}

static void job_end(struct ui *u, struct job *j, const struct event *ev) {
    j->running = false;
    j->ended = true;
    j->outcome = ev->outcome;
    j->dur = ev->dur_ns;
    if (ev->detail)
        replace(&j->why, sv_from(ev->detail));
    drop_kept(j);
    const char *colour, *m = mark(u, ev->outcome, &colour);
    if (!u->o.quiet && ev->outcome != OUT_SUCCESS)
        say(u, "%s%s%s %s%s%s %s%s%s%s", colour, m, OFF, BOLD, label(j), OFF, outcome_name(ev->outcome), j->why ? ": " : "", j->why ? j->why : "", OFF);
}

static void handle(struct ui *u, const struct event *ev) {
    struct job *j = job_of(u, ev->job);
    switch (ev->kind) {
    case EV_RUN_START:
        u->started = now_mono();
        if (!u->o.quiet && ev->text.n)
            say(u, "%srun %s%s " SV_FMT, BOLD, ev->run ? ev->run : "", OFF, SV_ARG(ev->text));
        break;
    case EV_RUN_END:
        u->outcome = ev->outcome;
        u->dur = ev->dur_ns;
        break;
    case EV_JOB_QUEUED:
        if (j)
            replace(&j->name, ev->text);
        break;
    case EV_JOB_START:
        if (!j)
            break;
        replace(&j->name, ev->text);
        if (ev->detail)
            replace(&j->root, sv_from(ev->detail));
        j->running = true;
        j->started = now_mono();
        if (!u->o.quiet)
            say(u, "%s▶%s %s%s%s %s%s%s", YELLOW, OFF, BOLD, label(j), OFF, DIM, j->root ? j->root : "", OFF);
        break;
    case EV_JOB_END:
        if (j)
            job_end(u, j, ev);
        break;
    case EV_STEP_START:
        if (!j)
            break;
        drop_kept(j);
        replace(&j->step, ev->text);
        j->step_no = ev->step;
        j->step_started = now_mono();
        if (u->o.mode == UI_PLAIN && !u->o.quiet)
            say(u, "%s%s ›%s %s", DIM, label(j), OFF, j->step);
        break;
    case EV_STEP_END:
        if (j)
            step_end(u, j, ev);
        break;
    case EV_OUTPUT:
        if (!j)
            break;
        if (u->o.mode == UI_LIVE && !u->o.verbose)
            keep_output(u, j, ev->text);
        else if (!u->o.quiet)
            print_prefixed(u, j, ev->text);
        break;
    case EV_GROUP:
        if (j && (u->o.mode == UI_PLAIN || u->o.verbose) && ev->text.n && !u->o.quiet)
            say(u, "%s%s |%s %s▾ " SV_FMT "%s", DIM, label(j), OFF, BOLD, SV_ARG(ev->text), OFF);
        else if (j && u->o.mode == UI_LIVE && ev->text.n) {
            _cleanup_buf_ struct buf t = BUF_LARGE;
            buf_adds(&t, "▾ ");
            buf_addsv(&t, ev->text);
            buf_addc(&t, '\n');
            keep_output(u, j, buf_sv(&t));
        }
        break;
    case EV_ANNOTATION:
    case EV_NOTE:
        note(u, j, ev);
        break;
    case EV_PROGRESS:
        progress(u, j, ev);
        break;
    case EV_CAPTURED:
        GROW(u->captured, u->cap_captured, u->n_captured + 1);
        u->captured[u->n_captured++] = (struct captured){xstrdup(ev->name ? ev->name : ""), xstrdup(ev->detail ? ev->detail : ""), ev->total};
        if (!u->o.quiet)
            say(u, "%s⇪%s %s %scaptured, not sent%s", YELLOW, OFF, ev->name ? ev->name : "", DIM, OFF);
        break;
    case EV_HELD:
        strv_addf(&u->held, "%s › %s: %s\n%s", j ? label(j) : "", j && j->step ? j->step : "", ev->name ? ev->name : "", ev->detail ? ev->detail : "");
        if (!u->o.quiet)
            say(u, "%s⏸%s %s%s%s held back: %s %s%s%s", YELLOW, OFF, DIM, j ? label(j) : "", OFF, ev->name ? ev->name : "", DIM, ev->detail ? ev->detail : "", OFF);
        break;
    case EV_SUMMARY:
        break;
    }
}

void ui_sink(const struct event *ev, void *arg) {
    struct ui *u = arg;
    if (u->o.mode == UI_JSON) {
        struct buf b = BUF_LARGE;
        event_to_json(ev, &b);
        buf_addc(&b, '\n');
        fwrite(b.p, 1, b.n, u->o.out);
        fflush(u->o.out); /* whoever reads this waits for what a step says, not for its end */
        buf_done(&b);
        return;
    }
    pthread_mutex_lock(&u->lock);
    handle(u, ev);
    if (u->o.mode == UI_LIVE && u->drawn == 0 && !u->stop)
        draw(u);
    pthread_mutex_unlock(&u->lock);
}

struct ui *ui_new(const struct ui_options *o) {
    struct ui *u = xcalloc(1, sizeof *u);
    u->o = *o;
    u->jobs.free_value = job_free;
    u->line.max = 1u << 20;
    u->started = now_mono();
    pthread_mutex_init(&u->lock, NULL);
    if (o->mode == UI_LIVE)
        u->threaded = pthread_create(&u->thread, NULL, redraw, u) == 0;
    return u;
}

static unsigned columns(const char *s) {
    unsigned n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void summary(struct ui *u) {
    unsigned wide = 3;
    MAP_FOREACH(&u->jobs, en)
        wide = MAX(wide, columns(label(en->value)));
    wide = MIN(wide, 60u);
    FILE *f = u->o.out;
    if (u->jobs.live)
        fprintf(f, "\n%s%-*s  %-12s %5s  %8s%s\n", BOLD, (int)wide, "job", "outcome", "steps", "time", OFF);
    MAP_FOREACH(&u->jobs, en) {
        struct job *j = en->value;
        const char *colour, *m = mark(u, j->outcome, &colour);
        struct buf t = BUF_MAX(64);
        if (j->dur)
            buf_add_duration(&t, j->dur);
        unsigned cols = columns(label(j));
        fprintf(f, "%s%*s  %s%s %-10s%s %5u  %8s", label(j), cols < wide ? (int)(wide - cols) : 0, "", colour, m,
                j->ended ? outcome_name(j->outcome) : "not run", OFF, j->steps, buf_str(&t));
        if (j->why && j->outcome != OUT_SUCCESS)
            fprintf(f, "  %s%s%s", DIM, j->why, OFF);
        fputc('\n', f);
        buf_done(&t);
    }
    if (u->n_captured)
        fprintf(f, "\n%simages captured, not sent%s\n", BOLD, OFF);
    for (size_t i = 0; i < u->n_captured; i++) {
        struct buf t = BUF_MAX(64);
        buf_add_size(&t, u->captured[i].size);
        fprintf(f, "  %s  %s%.19s  %s%s\n", u->captured[i].ref, DIM, u->captured[i].digest, buf_str(&t), OFF);
        buf_done(&t);
    }
    if (u->held.n)
        fprintf(f, "\n%sheld back (--allow-deploy lets it go)%s\n", BOLD, OFF);
    for (size_t i = 0; i < u->held.n; i++) {
        const char *nl = strchr(u->held.v[i], '\n');
        fprintf(f, "  %.*s  %s%s%s\n", (int)(nl - u->held.v[i]), u->held.v[i], DIM, nl + 1, OFF);
    }
    struct buf t = BUF_MAX(64);
    buf_add_duration(&t, u->dur ? u->dur : now_mono() - u->started);
    const char *colour, *m = mark(u, u->outcome, &colour);
    fprintf(f, "\n%s%s %s%s in %s\n", colour, m, u->outcome ? outcome_name(u->outcome) : "not finished", OFF, buf_str(&t));
    buf_done(&t);
    fflush(f);
}

void ui_finish(struct ui *u) {
    pthread_mutex_lock(&u->lock);
    u->stop = true;
    if (u->o.mode == UI_LIVE)
        erase(u);
    pthread_mutex_unlock(&u->lock);
    if (u->threaded)
        pthread_join(u->thread, NULL);
    u->threaded = false;
    if (u->o.mode == UI_LIVE)
        erase(u);
    if (u->o.mode != UI_JSON)
        summary(u);
}

void ui_pause(struct ui *u) {
    pthread_mutex_lock(&u->lock);
    if (u->o.mode == UI_LIVE)
        erase(u);
    fflush(u->o.out);
}

void ui_resume(struct ui *u) { pthread_mutex_unlock(&u->lock); }

void ui_free(struct ui *u) {
    if (!u)
        return;
    if (u->threaded) {
        u->stop = true;
        pthread_join(u->thread, NULL);
    }
    for (size_t i = 0; i < u->n_captured; i++) {
        free(u->captured[i].ref);
        free(u->captured[i].digest);
    }
    free(u->captured);
    map_done(&u->jobs);
    strv_done(&u->held);
    strv_done(&u->notes);
    buf_done(&u->line);
    pthread_mutex_destroy(&u->lock);
    free(u);
}
