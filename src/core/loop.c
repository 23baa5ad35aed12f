/* epoll with generation-checked sources: a source removed in a callback is only marked and freed
 * after the batch, so events of the same batch that point at it are dropped. Timers sit in a binary
 * heap; signals come through one signalfd; children through pidfds. */
#include "core/loop.h"

#include "core/proc.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>

enum kind { SRC_IO, SRC_TIMER, SRC_SIGNAL, SRC_CHILD };
struct loop_source {
    struct loop *loop;
    enum kind kind;
    bool dead;
    int fd;
    uint32_t events;
    loop_io_fn io;
    loop_fn timer;
    loop_signal_fn signal;
    loop_child_fn child;
    void *arg;
    uint64_t at, every;
    size_t heap; /* place in the heap, from 1; 0 = not in it */
    int signo;
    pid_t pid;
    struct loop_source *next_dead, *prev, *next;
};
struct post {
    loop_fn fn;
    void *arg;
    struct post *next;
};
struct work {
    void (*fn)(void *);
    loop_fn done;
    void *arg;
    struct work *next;
};
struct loop {
    int ep, wake, sigfd;
    sigset_t signals;
    struct loop_source *all, *dead, *wake_src, *sig_src;
    struct loop_source **heap;
    size_t n_heap, cap_heap;
    bool stopping;
    int code;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct post *posts, **posts_end;
    struct work *works, **works_end;
    unsigned workers, idle, max_workers;
    bool closing;
    pthread_t threads[64];
};

uint64_t now_mono(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
uint64_t now_real(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
void random_bytes(void *p, size_t n) {
    char *at = p;
    while (n) {
        ssize_t r = getrandom(at, n, 0);
        if (r < 0) {
            if (errno == EINTR)
                continue;
            abort();
        }
        at += r;
        n -= (size_t)r;
    }
}
void random_id(char *out, size_t n) {
    static const char digits[] = "0123456789abcdef";
    uint8_t raw[64];
    assert(n <= sizeof raw);
    random_bytes(raw, n);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[raw[i] & 15];
    out[n] = 0;
}
void format_time(uint64_t real_ns, char out[32]) {
    time_t s = (time_t)(real_ns / 1000000000u);
    struct tm t;
    gmtime_r(&s, &t);
    size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(out + n, 32 - n, ".%03uZ", (unsigned)(real_ns / 1000000 % 1000));
}

/* --- sources ------------------------------------------------------------------------------- */

static struct loop_source *source_new(struct loop *l, enum kind kind, void *arg) {
    struct loop_source *s = xcalloc(1, sizeof *s);
    s->loop = l;
    s->kind = kind;
    s->fd = -1;
    s->arg = arg;
    s->next = l->all;
    if (l->all)
        l->all->prev = s;
    l->all = s;
    return s;
}

static void heap_swap(struct loop *l, size_t a, size_t b) {
    struct loop_source *t = l->heap[a];
    l->heap[a] = l->heap[b];
    l->heap[b] = t;
    l->heap[a]->heap = a + 1;
    l->heap[b]->heap = b + 1;
}
static void heap_fix(struct loop *l, size_t i) {
    while (i && l->heap[i]->at < l->heap[(i - 1) / 2]->at) {
        heap_swap(l, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= l->n_heap)
            return;
        if (c + 1 < l->n_heap && l->heap[c + 1]->at < l->heap[c]->at)
            c++;
        if (l->heap[i]->at <= l->heap[c]->at)
            return;
        heap_swap(l, i, c);
        i = c;
    }
}
static void heap_add(struct loop *l, struct loop_source *s) {
    GROW(l->heap, l->cap_heap, l->n_heap + 1);
    l->heap[l->n_heap++] = s;
    s->heap = l->n_heap;
    heap_fix(l, s->heap - 1);
}
static void heap_del(struct loop *l, struct loop_source *s) {
    if (!s->heap)
        return;
    size_t i = s->heap - 1;
    l->n_heap--;
    if (i != l->n_heap) {
        l->heap[i] = l->heap[l->n_heap];
        l->heap[i]->heap = i + 1;
        heap_fix(l, i);
    }
    s->heap = 0;
}

struct loop_source *loop_io(struct loop *l, int fd, uint32_t events, loop_io_fn fn, void *arg) {
    struct loop_source *s = source_new(l, SRC_IO, arg);
    s->fd = fd;
    s->events = events;
    s->io = fn;
    struct epoll_event ev = {.events = events, .data.ptr = s};
    if (epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &ev) < 0) {
        loop_remove(s);
        return NULL;
    }
    return s;
}
void loop_io_set(struct loop_source *s, uint32_t events) {
    if (!s || s->dead || s->events == events)
        return;
    s->events = events;
    struct epoll_event ev = {.events = events, .data.ptr = s};
    epoll_ctl(s->loop->ep, EPOLL_CTL_MOD, s->fd, &ev);
}
struct loop_source *loop_timer(struct loop *l, uint64_t after_ns, uint64_t every_ns, loop_fn fn, void *arg) {
    struct loop_source *s = source_new(l, SRC_TIMER, arg);
    s->timer = fn;
    s->at = now_mono() + after_ns;
    s->every = every_ns;
    heap_add(l, s);
    return s;
}
void loop_timer_set(struct loop_source *s, uint64_t after_ns) {
    heap_del(s->loop, s);
    s->at = now_mono() + after_ns;
    heap_add(s->loop, s);
}

static void on_signals(struct loop *l, int fd, uint32_t events, void *arg) {
    struct signalfd_siginfo si;
    while (read(fd, &si, sizeof si) == sizeof si)
        for (struct loop_source *s = l->all; s; s = s->next)
            if (!s->dead && s->kind == SRC_SIGNAL && s->signo == (int)si.ssi_signo)
                s->signal(l, s->signo, s->arg);
}
struct loop_source *loop_signal(struct loop *l, int signo, loop_signal_fn fn, void *arg) {
    struct loop_source *s = source_new(l, SRC_SIGNAL, arg);
    s->signo = signo;
    s->signal = fn;
    sigaddset(&l->signals, signo);
    pthread_sigmask(SIG_BLOCK, &l->signals, NULL);
    l->sigfd = signalfd(l->sigfd, &l->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (!l->sig_src && l->sigfd >= 0)
        l->sig_src = loop_io(l, l->sigfd, EPOLLIN, on_signals, NULL);
    return s;
}

struct loop_source *loop_child(struct loop *l, pid_t pid, loop_child_fn fn, void *arg) {
    int fd = proc_pidfd(pid);
    if (fd < 0)
        return NULL;
    struct loop_source *s = source_new(l, SRC_CHILD, arg);
    s->fd = fd;
    s->pid = pid;
    s->child = fn;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};
    epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &ev);
    return s;
}

void loop_remove(struct loop_source *s) {
    if (!s || s->dead)
        return;
    struct loop *l = s->loop;
    s->dead = true;
    heap_del(l, s);
    if (s->fd >= 0)
        epoll_ctl(l->ep, EPOLL_CTL_DEL, s->fd, NULL);
    if (s->kind == SRC_CHILD)
        s->fd = fd_close(s->fd);
    s->next_dead = l->dead;
    l->dead = s;
}

static void bury(struct loop *l) {
    for (struct loop_source *s = l->dead, *next; s; s = next) {
        next = s->next_dead;
        if (s->prev)
            s->prev->next = s->next;
        else
            l->all = s->next;
        if (s->next)
            s->next->prev = s->prev;
        free(s);
    }
    l->dead = NULL;
}

/* --- mailbox and workers -------------------------------------------------------------------- */

static void on_wake(struct loop *l, int fd, uint32_t events, void *arg) {
    uint64_t n;
    ssize_t r = read(fd, &n, sizeof n);
    (void)r;
    pthread_mutex_lock(&l->lock);
    struct post *p = l->posts;
    l->posts = NULL;
    l->posts_end = &l->posts;
    pthread_mutex_unlock(&l->lock);
    while (p) {
        struct post *next = p->next;
        p->fn(l, p->arg);
        free(p);
        p = next;
    }
}

void loop_post(struct loop *l, loop_fn fn, void *arg) {
    struct post *p = xcalloc(1, sizeof *p);
    *p = (struct post){fn, arg, NULL};
    pthread_mutex_lock(&l->lock);
    *l->posts_end = p;
    l->posts_end = &p->next;
    pthread_mutex_unlock(&l->lock);
    uint64_t one = 1;
    ssize_t r = write(l->wake, &one, sizeof one);
    (void)r;
}

static void *worker(void *arg) {
    struct loop *l = arg;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->works && !l->closing) {
            l->idle++;
            pthread_cond_wait(&l->more, &l->lock);
            l->idle--;
        }
        struct work *w = l->works;
        if (!w)
            break;
        l->works = w->next;
        if (!l->works)
            l->works_end = &l->works;
        pthread_mutex_unlock(&l->lock);
        w->fn(w->arg);
        if (w->done)
            loop_post(l, w->done, w->arg);
        free(w);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

void loop_workers(struct loop *l, unsigned max) {
    l->max_workers = MIN(max, (unsigned)ELEMENTS(l->threads));
}

void loop_work(struct loop *l, void (*fn)(void *), loop_fn done, void *arg) {
    struct work *w = xcalloc(1, sizeof *w);
    *w = (struct work){fn, done, arg, NULL};
    pthread_mutex_lock(&l->lock);
    *l->works_end = w;
    l->works_end = &w->next;
    if (!l->idle && l->workers < l->max_workers) {
        sigset_t all, old; /* signals belong to the loop's thread */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        if (pthread_create(&l->threads[l->workers], NULL, worker, l) == 0)
            l->workers++;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    pthread_cond_signal(&l->more);
    pthread_mutex_unlock(&l->lock);
}

/* --- running ----------------------------------------------------------------------------------- */

int loop_new(struct loop **ret) {
    struct loop *l = xcalloc(1, sizeof *l);
    l->sigfd = -1;
    l->max_workers = 8;
    l->posts_end = &l->posts;
    l->works_end = &l->works;
    sigemptyset(&l->signals);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->more, NULL);
    l->ep = epoll_create1(EPOLL_CLOEXEC);
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->ep < 0 || l->wake < 0) {
        int r = -errno;
        fd_close(l->ep);
        fd_close(l->wake);
        free(l);
        return r;
    }
    l->wake_src = loop_io(l, l->wake, EPOLLIN, on_wake, NULL);
    *ret = l;
    return 0;
}

void loop_free(struct loop *l) {
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    pthread_cond_broadcast(&l->more);
    pthread_mutex_unlock(&l->lock);
    for (unsigned i = 0; i < l->workers; i++)
        pthread_join(l->threads[i], NULL);
    while (l->posts) /* what the last workers left: owners free their things there */
        on_wake(l, l->wake, 0, NULL);
    while (l->all) {
        for (struct loop_source *s = l->all; s; s = s->next)
            loop_remove(s);
        bury(l);
    }
    fd_close(l->sigfd);
    close(l->wake);
    close(l->ep);
    free(l->heap);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->more);
    free(l);
}

static int run_timers(struct loop *l) {
    int n = 0;
    uint64_t now = now_mono();
    while (l->n_heap && l->heap[0]->at <= now) {
        struct loop_source *s = l->heap[0];
        heap_del(l, s);
        if (s->every) {
            s->at = now + s->every;
            heap_add(l, s);
        }
        s->timer(l, s->arg);
        n++;
        if (!s->every && !s->dead && !s->heap) /* a one-shot that was not set again */
            loop_remove(s);
        if (n > 1000)
            break;
    }
    return n;
}

int loop_once(struct loop *l, int timeout_ms) {
    if (l->n_heap) {
        uint64_t now = now_mono();
        uint64_t left = l->heap[0]->at > now ? (l->heap[0]->at - now + 999999u) / 1000000u : 0;
        if (timeout_ms < 0 || left < (uint64_t)timeout_ms)
            timeout_ms = (int)MIN(left, (uint64_t)3600000);
    }
    struct epoll_event ev[64];
    int n = epoll_wait(l->ep, ev, (int)ELEMENTS(ev), timeout_ms);
    if (n < 0)
        n = 0;
    for (int i = 0; i < n; i++) {
        struct loop_source *s = ev[i].data.ptr;
        if (s->dead)
            continue;
        if (s->kind == SRC_IO) {
            s->io(l, s->fd, ev[i].events, s->arg);
        } else if (s->kind == SRC_CHILD) {
            int st = proc_wait(s->pid);
            loop_child_fn fn = s->child;
            void *arg = s->arg;
            pid_t pid = s->pid;
            loop_remove(s);
            fn(l, pid, st, arg);
        }
    }
    n += run_timers(l);
    bury(l);
    return n;
}

int loop_run(struct loop *l) {
    l->stopping = false;
    while (!l->stopping)
        loop_once(l, -1);
    return l->code;
}

void loop_stop(struct loop *l, int code) {
    l->stopping = true;
    l->code = code;
}
