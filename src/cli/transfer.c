#include "cli/transfer.h"

#include "cli/term.h"
#include "core/loop.h"

#include <signal.h>

static volatile int cancelled;
static void on_signal(int signo) {
    if (cancelled)
        _exit(130);
    cancelled = 1;
}

static struct transfer_item *item_of(struct transfer *s, const char *id) {
    char key[20];
    snprintf(key, sizeof key, "%.12s", startswith(id, "sha256:") ? id + 7 : id);
    for (size_t i = 0; i < s->n; i++)
        if (streq(s->items[i].id, key))
            return &s->items[i];
    if (s->n == ELEMENTS(s->items))
        return NULL;
    memcpy(s->items[s->n].id, key, sizeof key);
    return &s->items[s->n++];
}

static void draw(struct transfer *s) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    unsigned width = term_width(2);
    for (size_t i = 0; i < s->n; i++) {
        struct transfer_item *t = &s->items[i];
        if (t->total && t->done >= t->total)
            continue;
        buf_addf(&b, "%s%s %s ", b.n ? "  " : "", t->id, t->what);
        buf_add_size(&b, t->done);
        if (t->total) {
            buf_adds(&b, "/");
            buf_add_size(&b, t->total);
        }
    }
    fprintf(stderr, "\r\033[K%.*s", (int)MIN(b.n, (size_t)(width ? width - 1 : 79)), buf_str(&b));
}

static void on_progress(void *arg, const char *id, const char *what, uint64_t done, uint64_t total) {
    struct transfer *s = arg;
    if (s->quiet)
        return;
    if (!done && !total && strchr(id, '/')) { /* how a stand-in is coming along: a line of its own */
        fprintf(stderr, "%s%s\n", s->tty ? "\r\033[K" : "", what);
        return;
    }
    pthread_mutex_lock(&s->lock);
    struct transfer_item *t = item_of(s, id);
    bool finished = t && total && done >= total && !(t->total && t->done >= t->total && t->what && streq(t->what, what));
    if (t) {
        t->what = what;
        t->done = done;
        t->total = total;
    }
    if (s->tty) {
        uint64_t now = now_mono();
        if (finished || now - s->drawn_ns > 100000000) {
            s->drawn_ns = now;
            draw(s);
        }
    } else if (finished) {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        buf_add_size(&b, total);
        fprintf(stderr, "%s: %s %s\n", t->id, what, buf_str(&b));
    }
    pthread_mutex_unlock(&s->lock);
}

void transfer_end(struct transfer *s) {
    if (s->tty && !s->quiet && s->n)
        fputs("\r\033[K", stderr);
}

const volatile int *transfer_cancelled(void) { return &cancelled; }

struct image_progress transfer_begin(struct transfer *s, bool quiet) {
    struct sigaction sa = {.sa_handler = on_signal};
    *s = (struct transfer){.lock = PTHREAD_MUTEX_INITIALIZER, .tty = term_is_tty(2), .quiet = quiet};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    return (struct image_progress){on_progress, s};
}
