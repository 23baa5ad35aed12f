/* slipway pull and push. */
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/loop.h"

#include <pthread.h>
#include <signal.h>

static volatile int cancelled;
static void on_signal(int signo) {
    if (cancelled)
        _exit(130);
    cancelled = 1;
}

/* What is on its way, on one line of a terminal; without one a line for each blob that is through. */
struct shown {
    pthread_mutex_t lock;
    bool tty, quiet;
    uint64_t drawn_ns;
    struct item {
        char id[20];
        const char *what;
        uint64_t done, total;
    } items[64];
    size_t n;
};

static struct item *item_of(struct shown *s, const char *id) {
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

static void draw(struct shown *s) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    unsigned width = term_width(2);
    for (size_t i = 0; i < s->n; i++) {
        struct item *t = &s->items[i];
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
    struct shown *s = arg;
    if (s->quiet)
        return;
    if (!done && !total && strchr(id, '/')) { /* how a stand-in is coming along: a line of its own */
        fprintf(stderr, "%s%s\n", s->tty ? "\r\033[K" : "", what);
        return;
    }
    pthread_mutex_lock(&s->lock);
    struct item *t = item_of(s, id);
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

static void finish(struct shown *s) {
    if (s->tty && !s->quiet && s->n)
        fputs("\r\033[K", stderr);
}

static void watch_signals(void) {
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

static int split_platform(char *text, struct pull_options *p, struct err *e) {
    char *slash = text ? strchr(text, '/') : NULL;
    if (!text)
        return 0;
    if (!slash)
        return err_set(e, ERR_USER, -EINVAL, "--platform wants OS/ARCH, as in linux/amd64");
    *slash = 0;
    p->os = text;
    p->arch = slash + 1;
    if ((slash = strchr(slash + 1, '/'))) {
        *slash = 0;
        p->variant = slash + 1;
    }
    return 0;
}

int cmd_pull(int argc, char **argv);
int cmd_pull(int argc, char **argv) {
    const char *policy = "always", *platform = NULL;
    bool quiet = false, offline = false;
    const struct opt items[] = {
        {0, "policy", OPT_STR, &policy, "P", "always (default), missing or never"},
        {0, "platform", OPT_STR, &platform, "OS/ARCH", "another platform than this machine's"},
        {0, "offline", OPT_FLAG, &offline, NULL, "ask no registry"},
        {'q', "quiet", OPT_FLAG, &quiet, NULL, "print only the image's id"},
    };
    struct opts o = {.usage = "pull [options] IMAGE…", .about = "Pulls images from their registries, or the mirrors of the configuration.",
                     .items = items, .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    struct cli_ctx c;
    struct shown shown = {.lock = PTHREAD_MUTEX_INITIALIZER, .tty = term_is_tty(2), .quiet = quiet};
    struct image_progress progress = {on_progress, &shown};
    _cleanup_free_ char *platform_text = xstrdup(platform);
    if (!n || (!streq(policy, "always") && !streq(policy, "missing") && !streq(policy, "never"))) {
        err_set(&e, ERR_USER, -EINVAL, n ? "--policy is always, missing or never" : "pull what? An image's name is missing");
        return cli_fail(&e);
    }
    r = cli_begin(&c, &(struct cli_ctx_options){.what = "pull"});
    if (r >= 0)
        return r;
    watch_signals();
    struct pull_options p = c.pulls;
    p.policy = streq(policy, "always") ? PULL_ALWAYS : streq(policy, "never") ? PULL_NEVER : PULL_MISSING;
    p.progress = &progress;
    p.cancel = &cancelled;
    c.registry.offline = c.registry.offline || offline;
    r = split_platform(platform_text, &p, &e);
    for (int i = 1; i <= n && r >= 0; i++) {
        _cleanup_image_ struct image *img = NULL;
        r = image_get(c.store, c.lease, argv[i], &p, &img, &e);
        finish(&shown);
        if (r < 0)
            break;
        if (!quiet && img->standin)
            printf("%s (stand-in: %s)\n", img->id, img->standin_note ? img->standin_note : "");
        else
            printf("%s\n", img->id);
    }
    cli_close(&c);
    return r < 0 ? cli_fail(&e) : 0;
}

int cmd_push(int argc, char **argv);
int cmd_push(int argc, char **argv) {
    bool quiet = false, zstd = false;
    int64_t parallel = 4;
    const struct opt items[] = {
        {'q', "quiet", OPT_FLAG, &quiet, NULL, "print only the digest"},
        {0, "zstd", OPT_FLAG, &zstd, NULL, "compress layers with zstd instead of gzip"},
        {0, "parallel", OPT_INT, &parallel, "N", "layers sent at the same time (4)"},
    };
    struct opts o = {.usage = "push [options] IMAGE", .about = "Sends an image to its registry, with the credentials of slipway login or docker login.",
                     .items = items, .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    struct cli_ctx c;
    struct shown shown = {.lock = PTHREAD_MUTEX_INITIALIZER, .tty = term_is_tty(2), .quiet = quiet};
    struct image_progress progress = {on_progress, &shown};
    if (n != 1) {
        err_set(&e, ERR_USER, -EINVAL, "push wants the name of one image");
        return cli_fail(&e);
    }
    r = cli_begin(&c, &(struct cli_ctx_options){.what = "push"});
    if (r >= 0)
        return r;
    watch_signals();
    struct push_options p = {.conf = &c.registry, .progress = &progress, .cancel = &cancelled, .zstd = zstd,
                             .parallel = (unsigned)MAX((int64_t)1, MIN(parallel, (int64_t)16))};
    _cleanup_image_ struct image *img = NULL;
    char digest[DIGEST_LEN + 1];
    uint64_t sent = 0;
    r = image_find(c.store, c.lease, argv[1], &img, &e);
    if (r == 0)
        r = err_set(&e, ERR_NOTFOUND, -ENOENT, "no such image here: %s", argv[1]);
    if (r == 1)
        r = image_push(c.store, c.lease, img->id, argv[1], &p, digest, &sent, &e);
    finish(&shown);
    cli_close(&c);
    if (r < 0)
        return cli_fail(&e);
    _cleanup_buf_ struct buf size = BUF_SMALL;
    buf_add_size(&size, sent);
    if (quiet)
        printf("%s\n", digest);
    else
        printf("%s: digest: %s, %s sent\n", argv[1], digest, buf_str(&size));
    return 0;
}
