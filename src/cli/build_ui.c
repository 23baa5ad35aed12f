/* The live part is drawn by a thread ten times a second: it moves up over what it drew before, so
 * nothing but complete lines is ever left on the screen. Events come from the builder's threads, one
 * at a time; one lock guards all of it. */
#include "cli/build_ui.h"

#include "cli/term.h"
#include "cli/ui.h"
#include "base/digest.h"
#include "core/json.h"
#include "core/loop.h"

#include <pthread.h>

#define TAIL_LINES 6
#define KEEP_LOG (256u << 10)

struct step {
    unsigned number;
    char *name;
    uint64_t start;
    bool running;
    struct buf log; /* the end of what it wrote */
    struct strv tail;
    struct buf line; /* an unfinished line */
    uint64_t done, total;
};
struct build_ui {
    FILE *out;
    enum build_ui_mode mode;
    bool colour, explain;
    pthread_mutex_t lock;
    pthread_t thread;
    bool threaded, ending;
    pthread_cond_t wake;
    struct step *steps;
    size_t n, cap;
    unsigned drawn; /* live lines on the screen */
    char progress[200];
    uint64_t p_done, p_total, p_at;
};

static const char *c(const struct build_ui *u, const char *code) { return u->colour ? code : ""; }

static struct step *step_of(struct build_ui *u, const struct build_event *ev) {
    for (size_t i = 0; i < u->n; i++)
        if (u->steps[i].number == ev->vertex)
            return &u->steps[i];
    GROW(u->steps, u->cap, u->n + 1);
    u->steps[u->n] = (struct step){.number = ev->vertex, .name = xstrdup(ev->name ? ev->name : ""), .start = now_mono(),
                                   .log = BUF_MAX(2 * KEEP_LOG), .line = BUF_MAX(64u << 10)};
    return &u->steps[u->n++];
}

static void put_seconds(FILE *f, uint64_t ns) { fprintf(f, "%.1fs", (double)ns / 1e9); }

static void warning(struct build_ui *u, const struct build_event *ev) {
    fprintf(u->out, "%s%s%s", ev->why ? ev->why : "", ev->why ? ": " : "", ev->name);
    if (ev->at.line)
        fprintf(u->out, " (%s:%u)", ev->at.file ? ev->at.file : "", ev->at.line);
}

/* --- plain ---------------------------------------------------------------------------------- */

static void plain_lines(struct build_ui *u, struct step *s, bool flush) {
    struct sv rest = buf_sv(&s->line), line;
    size_t used = 0;
    while (rest.n) {
        ssize_t nl = sv_chr(rest, '\n');
        if (nl < 0 && !flush)
            break;
        line = nl < 0 ? rest : sv_n(rest.p, (size_t)nl);
        _cleanup_buf_ struct buf clean = BUF_MAX(256u << 10);
        /* A line that was redrawn counts as it looked at last. */
        line = sv_rtrim(line);
        ssize_t cr = sv_rchr(line, '\r');
        ui_clean(cr < 0 ? line : sv_sub(line, (size_t)cr + 1, line.n), u->colour, &clean);
        fprintf(u->out, "#%u %.3f %s\n", s->number, (double)(now_mono() - s->start) / 1e9, buf_str(&clean));
        size_t step = nl < 0 ? rest.n : (size_t)nl + 1;
        used += step;
        rest = sv_sub(rest, step, rest.n);
    }
    buf_cut(&s->line, 0, used);
}

static void plain(struct build_ui *u, const struct build_event *ev) {
    struct step *s;
    switch (ev->kind) {
    case BUILD_STEP_START:
        s = step_of(u, ev);
        s->start = now_mono();
        fprintf(u->out, "#%u %s\n", ev->vertex, ev->name);
        if (u->explain && ev->why)
            fprintf(u->out, "#%u not cached: %s\n", ev->vertex, ev->why);
        break;
    case BUILD_STEP_CACHED:
        fprintf(u->out, "#%u %s\n#%u CACHED\n\n", ev->vertex, ev->name, ev->vertex);
        break;
    case BUILD_STEP_WOULD:
        fprintf(u->out, "#%u %s\n#%u WOULD RUN: %s\n\n", ev->vertex, ev->name, ev->vertex, ev->why ? ev->why : "");
        break;
    case BUILD_STEP_DONE:
    case BUILD_STEP_FAILED:
        s = step_of(u, ev);
        plain_lines(u, s, true);
        if (!ev->dur_ns && ev->kind == BUILD_STEP_DONE)
            fprintf(u->out, "#%u %s\n", ev->vertex, ev->name);
        fprintf(u->out, "#%u %s", ev->vertex, ev->kind == BUILD_STEP_DONE ? "DONE " : "ERROR ");
        put_seconds(u->out, ev->dur_ns);
        fputs("\n\n", u->out);
        break;
    case BUILD_LOG:
        s = step_of(u, ev);
        buf_addsv(&s->line, sv_sub(ev->log, 0, 60u << 10));
        if (!buf_ok(&s->line)) {
            s->line.failed = false;
            plain_lines(u, s, true);
            buf_addsv(&s->line, sv_sub(ev->log, 0, 60u << 10));
        }
        plain_lines(u, s, false);
        break;
    case BUILD_WARNING:
        fprintf(u->out, "WARN: ");
        warning(u, ev);
        fputc('\n', u->out);
        break;
    case BUILD_PROGRESS:
        /* Only begin and end of a transfer, and once in a while between. */
        if (!streq(u->progress, ev->name) || ev->done == ev->total || now_mono() - u->p_at > 5000000000u) {
            _cleanup_buf_ struct buf size = BUF_SMALL;
            buf_add_size(&size, ev->done);
            if (ev->total && ev->total != ev->done) {
                buf_adds(&size, " of ");
                buf_add_size(&size, ev->total);
            }
            fprintf(u->out, "#0 %s %s\n", ev->name, ev->done || ev->total ? buf_str(&size) : "");
            snprintf(u->progress, sizeof u->progress, "%.199s", ev->name);
            u->p_at = now_mono();
        }
        break;
    }
    fflush(u->out);
}

/* --- raw JSON ------------------------------------------------------------------------------- */

static void json_time(struct json_w *w, const char *key, uint64_t ns) {
    char text[40];
    format_time(ns, text);
    jw_kstr(w, key, text);
}

/* One line per event, as docker buildx build --progress=rawjson has them: vertexes, logs, statuses,
 * warnings. */
static void raw(struct build_ui *u, const struct build_event *ev) {
    _cleanup_buf_ struct buf t = BUF_MAX(1u << 20), b64 = BUF_MAX(1u << 20);
    struct json_w w;
    char id[DIGEST_LEN + 1];
    _cleanup_free_ char *what = xasprintf("%u %s", ev->vertex, ev->name ? ev->name : "");
    digest_of(what, strlen(what), id);
    jw_init(&w, &t, 0);
    jw_obj(&w);
    jw_key(&w, ev->kind == BUILD_LOG ? "logs" : ev->kind == BUILD_WARNING ? "warnings" : ev->kind == BUILD_PROGRESS ? "statuses" : "vertexes");
    jw_arr(&w);
    jw_obj(&w);
    if (ev->kind == BUILD_LOG) {
        jw_kstr(&w, "vertex", id);
        jw_kint(&w, "stream", ev->stream);
        buf_add_base64(&b64, ev->log.p, ev->log.n);
        jw_kstr(&w, "data", buf_str(&b64));
        json_time(&w, "timestamp", now_real());
    } else if (ev->kind == BUILD_WARNING) {
        buf_add_base64(&b64, ev->name, strlen(ev->name));
        jw_kstr(&w, "short", buf_str(&b64));
        jw_kint(&w, "line", ev->at.line);
    } else if (ev->kind == BUILD_PROGRESS) {
        jw_kstr(&w, "id", ev->name);
        jw_kint(&w, "current", (int64_t)ev->done);
        jw_kint(&w, "total", (int64_t)ev->total);
        json_time(&w, "timestamp", now_real());
    } else {
        jw_kstr(&w, "digest", id);
        jw_kstr(&w, "name", ev->name ? ev->name : "");
        json_time(&w, "started", now_real() - ev->dur_ns);
        if (ev->kind != BUILD_STEP_START && ev->kind != BUILD_STEP_WOULD)
            json_time(&w, "completed", now_real());
        if (ev->kind == BUILD_STEP_CACHED)
            jw_kbool(&w, "cached", true);
        if (ev->kind == BUILD_STEP_FAILED)
            jw_kstr(&w, "error", "failed");
        if (ev->why)
            jw_kstr(&w, "slipway.why", ev->why);
    }
    jw_end_obj(&w);
    jw_end_arr(&w);
    jw_end_obj(&w);
    fprintf(u->out, "%s\n", buf_str(&t));
    fflush(u->out);
}

/* --- live ----------------------------------------------------------------------------------- */

static void erase(struct build_ui *u) {
    if (u->drawn)
        fprintf(u->out, "\033[%uA\r\033[J", u->drawn);
    u->drawn = 0;
}

static void put_cut(struct build_ui *u, const char *text, unsigned width) {
    _cleanup_buf_ struct buf clean = BUF_MAX(1u << 20);
    ui_clean(sv_from(text), false, &clean);
    /* Bytes, not columns: a cut line is never longer than the screen. */
    size_t n = MIN(clean.n, (size_t)width);
    while (n && n < clean.n && ((unsigned char)clean.p[n] & 0xC0) == 0x80)
        n--;
    fwrite(buf_str(&clean), 1, n, u->out);
}

static void draw(struct build_ui *u) {
    unsigned width = term_width(fileno(u->out));
    width = width > 20 ? width - 1 : 79;
    erase(u);
    if (u->progress[0] && now_mono() - u->p_at < 3000000000u) {
        _cleanup_buf_ struct buf size = BUF_SMALL;
        if (u->p_total && u->p_total != u->p_done) {
            buf_add_size(&size, u->p_done);
            buf_adds(&size, " of ");
            buf_add_size(&size, u->p_total);
        }
        _cleanup_free_ char *t = xasprintf(" => %s %s", u->progress, buf_str(&size));
        put_cut(u, t, width);
        fputc('\n', u->out);
        u->drawn++;
    }
    for (size_t i = 0; i < u->n; i++) {
        struct step *s = &u->steps[i];
        if (!s->running)
            continue;
        _cleanup_free_ char *t = xasprintf(" => %s", s->name);
        put_cut(u, t, width - 10);
        fprintf(u->out, "%s  ", c(u, "\033[2m"));
        put_seconds(u->out, now_mono() - s->start);
        fprintf(u->out, "%s\n", c(u, "\033[0m"));
        u->drawn++;
        for (size_t k = 0; k < s->tail.n; k++) {
            fprintf(u->out, "%s", c(u, "\033[2m"));
            _cleanup_free_ char *line = xasprintf(" => => %s", s->tail.v[k]);
            put_cut(u, line, width);
            fprintf(u->out, "%s\n", c(u, "\033[0m"));
            u->drawn++;
        }
    }
    fflush(u->out);
}

static void tail_add(struct step *s, struct sv text) {
    buf_addsv(&s->log, text);
    if (!buf_ok(&s->log)) {
        s->log.failed = false;
        buf_cut(&s->log, 0, s->log.n - MIN(s->log.n, (size_t)KEEP_LOG / 2));
        buf_addsv(&s->log, sv_sub(text, text.n - MIN(text.n, (size_t)KEEP_LOG), text.n));
    }
    buf_addsv(&s->line, sv_sub(text, text.n - MIN(text.n, (size_t)(32u << 10)), text.n));
    if (!buf_ok(&s->line)) {
        s->line.failed = false;
        buf_reset(&s->line);
    }
    for (ssize_t nl; (nl = sv_chr(buf_sv(&s->line), '\n')) >= 0; buf_cut(&s->line, 0, (size_t)nl + 1)) {
        struct sv line = sv_rtrim(sv_n(s->line.p, (size_t)nl));
        ssize_t cr = sv_rchr(line, '\r');
        if (cr >= 0)
            line = sv_sub(line, (size_t)cr + 1, line.n);
        if (!line.n)
            continue;
        if (s->tail.n == TAIL_LINES) {
            free(s->tail.v[0]);
            memmove(s->tail.v, s->tail.v + 1, s->tail.n * sizeof *s->tail.v);
            s->tail.n--;
        }
        strv_addn(&s->tail, line.p, line.n);
    }
}

static void live_end(struct build_ui *u, struct step *s, const struct build_event *ev) {
    erase(u);
    s->running = false;
    const char *mark = ev->kind == BUILD_STEP_FAILED ? c(u, "\033[31m") : ev->kind == BUILD_STEP_CACHED ? c(u, "\033[36m") : c(u, "\033[32m");
    fprintf(u->out, "%s => %s%s%s", mark, ev->kind == BUILD_STEP_CACHED ? "CACHED " : ev->kind == BUILD_STEP_WOULD ? "WOULD RUN " : ev->kind == BUILD_STEP_FAILED ? "ERROR " : "",
            s->name, c(u, "\033[0m"));
    if (ev->dur_ns) {
        fprintf(u->out, "  ");
        put_seconds(u->out, ev->dur_ns);
    }
    if ((ev->kind == BUILD_STEP_DONE || ev->kind == BUILD_STEP_WOULD) && ev->why)
        fprintf(u->out, "  %s(%s)%s", c(u, "\033[2m"), ev->why, c(u, "\033[0m"));
    fputc('\n', u->out);
    if (ev->kind == BUILD_STEP_FAILED && s->log.n) {
        fputs("------\n", u->out);
        _cleanup_buf_ struct buf clean = BUF_MAX(8 * KEEP_LOG);
        ui_clean(buf_sv(&s->log), u->colour, &clean);
        fwrite(buf_str(&clean), 1, clean.n, u->out);
        fputs(endswith(buf_str(&clean), "\n") ? "------\n" : "\n------\n", u->out);
    }
    draw(u);
}

static void live(struct build_ui *u, const struct build_event *ev) {
    struct step *s;
    switch (ev->kind) {
    case BUILD_STEP_START:
        s = step_of(u, ev);
        s->running = true;
        s->start = now_mono();
        break;
    case BUILD_STEP_CACHED:
    case BUILD_STEP_WOULD:
    case BUILD_STEP_DONE:
    case BUILD_STEP_FAILED:
        live_end(u, step_of(u, ev), ev);
        break;
    case BUILD_LOG:
        tail_add(step_of(u, ev), ev->log);
        break;
    case BUILD_WARNING:
        erase(u);
        fprintf(u->out, "%s => WARN ", c(u, "\033[33m"));
        warning(u, ev);
        fprintf(u->out, "%s\n", c(u, "\033[0m"));
        break;
    case BUILD_PROGRESS:
        snprintf(u->progress, sizeof u->progress, "%.199s", ev->name);
        u->p_done = ev->done;
        u->p_total = ev->total;
        u->p_at = now_mono();
        break;
    }
}

static void *draw_thread(void *arg) {
    struct build_ui *u = arg;
    pthread_mutex_lock(&u->lock);
    while (!u->ending) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&u->wake, &u->lock, &until);
        if (!u->ending)
            draw(u);
    }
    pthread_mutex_unlock(&u->lock);
    return NULL;
}

/* --- API ------------------------------------------------------------------------------------ */

struct build_ui *build_ui_new(FILE *out, enum build_ui_mode mode, bool colour, bool explain) {
    struct build_ui *u = xcalloc(1, sizeof *u);
    *u = (struct build_ui){.out = out, .mode = mode, .colour = colour, .explain = explain};
    pthread_mutex_init(&u->lock, NULL);
    pthread_cond_init(&u->wake, NULL);
    return u;
}

void build_ui_event(void *ui, const struct build_event *ev) {
    struct build_ui *u = ui;
    pthread_mutex_lock(&u->lock);
    if (u->mode == BUILD_UI_LIVE) {
        if (!u->threaded)
            u->threaded = pthread_create(&u->thread, NULL, draw_thread, u) == 0;
        live(u, ev);
    } else if (u->mode == BUILD_UI_JSON) {
        raw(u, ev);
    } else if (u->mode == BUILD_UI_PLAIN) {
        plain(u, ev);
    } else if (ev->kind == BUILD_LOG) {
        tail_add(step_of(u, ev), ev->log);
    } else if (ev->kind == BUILD_STEP_FAILED) {
        struct step *s = step_of(u, ev);
        fwrite(buf_str(&s->log), 1, s->log.n, u->out);
    }
    pthread_mutex_unlock(&u->lock);
}

void build_ui_end(struct build_ui *u, bool ok) {
    pthread_mutex_lock(&u->lock);
    if (u->mode == BUILD_UI_LIVE)
        erase(u);
    fflush(u->out);
    u->ending = true;
    pthread_cond_broadcast(&u->wake);
    pthread_mutex_unlock(&u->lock);
    if (u->threaded)
        pthread_join(u->thread, NULL);
    u->threaded = false;
}

void build_ui_free(struct build_ui *u) {
    if (!u)
        return;
    build_ui_end(u, true);
    for (size_t i = 0; i < u->n; i++) {
        free(u->steps[i].name);
        buf_done(&u->steps[i].log);
        buf_done(&u->steps[i].line);
        strv_done(&u->steps[i].tail);
    }
    free(u->steps);
    pthread_mutex_destroy(&u->lock);
    pthread_cond_destroy(&u->wake);
    free(u);
}
