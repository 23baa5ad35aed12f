#include "cli/ui.h"

#include "core/fs.h"
#include "core/map.h"

struct log_sink {
    FILE *f;
    int dir;
    uint64_t max;
    struct map bytes; /* job -> uint64_t: output stored so far */
    bool failed;
};

int log_sink_new(struct log_sink **ret, int run_dirfd, uint64_t max, struct err *e) {
    int fd = openat(run_dirfd, "events.jsonl", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, -errno, "events.jsonl");
    struct log_sink *l = xcalloc(1, sizeof *l);
    l->f = fdopen(fd, "a");
    l->dir = fcntl(run_dirfd, F_DUPFD_CLOEXEC, 3);
    l->max = max ? max : 64u << 20;
    l->bytes.free_value = free;
    setvbuf(l->f, NULL, _IOFBF, 256u << 10);
    *ret = l;
    return 0;
}

static void put(struct log_sink *l, const struct event *ev) {
    struct buf b = BUF_MAX(256u << 20);
    event_to_json(ev, &b);
    buf_addc(&b, '\n');
    if (buf_ok(&b) && fwrite(b.p, 1, b.n, l->f) != b.n)
        l->failed = true; /* the disk is full: the run goes on, the log ends here */
    buf_done(&b);
}

/* Summaries as Markdown, one after another: runs/<id>/summary.md. */
static void keep_summary(struct log_sink *l, const struct event *ev) {
    _cleanup_buf_ struct buf b = BUF_MAX(2u << 20);
    if (ev->job)
        buf_addf(&b, "<!-- %s -->\n", ev->job);
    buf_addsv(&b, ev->text);
    if (!ev->text.n || ev->text.p[ev->text.n - 1] != '\n')
        buf_addc(&b, '\n');
    if (l->dir >= 0 && buf_ok(&b))
        (void)fs_append(l->dir, "summary.md", buf_sv(&b), 0600);
}

void log_sink_event(const struct event *ev, void *arg) {
    struct log_sink *l = arg;
    if (l->failed || ev->kind == EV_PROGRESS)
        return;
    if (ev->kind == EV_SUMMARY)
        keep_summary(l, ev);
    if (ev->kind == EV_OUTPUT && ev->job) {
        uint64_t *n = map_gets(&l->bytes, ev->job);
        if (!n)
            map_sets(&l->bytes, ev->job, n = xcalloc(1, sizeof *n));
        if (*n > l->max) {
            *n += ev->text.n;
            return;
        }
        uint64_t before = *n;
        *n += ev->text.n;
        if (*n > l->max) {
            struct event cut = *ev;
            cut.text = sv_sub(ev->text, 0, (size_t)(l->max - before));
            put(l, &cut);
            put(l, &(struct event){.kind = EV_NOTE, .level = LEVEL_WARNING, .run = ev->run, .job = ev->job, .step = ev->step, .real_ns = ev->real_ns,
                                   .text = SV("the stored log of this job ends here: its limit is reached (log-max)")});
            return;
        }
    }
    put(l, ev);
    if (ev->kind != EV_OUTPUT)
        fflush(l->f);
}

void log_sink_free(struct log_sink *l) {
    if (!l)
        return;
    fclose(l->f);
    fd_close(l->dir);
    map_done(&l->bytes);
    free(l);
}
